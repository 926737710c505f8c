//! Kademlua v1, the protocol of the original (2009): one RPC message is one datagram.
//!
//! ```text
//! offset  0        1          21          29      30        32
//!         ┌────────┬──────────┬───────────┬───────┬─────────┬─────────────────┐
//!         │ 1      │ from     │ rpc id    │ call  │ length  │ bencoded value  │
//!         └────────┴──────────┴───────────┴───────┴─────────┴─────────────────┘
//! bytes     1        20         8           1       2         length
//! ```
//!
//! Call 1 is a request `{name: …, args: […]}`, 129 its response `[…]`; 130 (no such RPC) and 131
//! (the RPC failed) end after the call byte. Calls 4 and 132 are [`route`]s, which originals have not.
//! Integers are big-endian. Bytes after the payload are
//! ignored; the zeros there make our lookups' requests long enough for a whole answer, see
//! [`Sizes::lookup_min`]. `docs/protocol.md` has all of it for those who write a client.
//!
//! A store has three arguments: key, value and mode. Ours has a fourth, which originals ignore, a
//! dictionary:
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `age` | seconds | the value is a copy, published this long ago |
//! | `owner` | contact | who published the copy, if not the sender |
//! | `token` | bytes | the sender knows of write tokens; empty, or the one it was given |
//!
//! If the token of such a sender is not the right one, the holder answers `[0, reason, token]`, and takes
//! the store when it comes once more with that token. It refuses a store of an original with call 131: an
//! original takes any list for success.
//!
//! A findvalue has two arguments: key and number of values. Ours has a third, a dictionary, and so may the
//! answer `[{retval: […], closest: […]}]` to it have more keys:
//!
//! | asked | value | meaning |
//! |---|---|---|
//! | `after` | 20 bytes | the values in the order of their SHA-1, from behind this on |
//! | `token` | bytes | the sender knows of write tokens; empty, or the one it was given |
//!
//! | answered | value | meaning |
//! |---|---|---|
//! | `more` | integer | other values that lie there |
//! | `next` | 20 bytes | what to ask with as `after` for more of them |
//! | `token` | bytes | values were held back: ask with this token to get them |
//!
//! Two things that originals take are refused on purpose, because no two decoders agree on them: a
//! length with leading zeros (`007:example`), and bytes behind the value within the payload's length.
//!
//! Requests are read in place, and the hot answers are copied together from contacts that were
//! encoded once, so that answering allocates nothing.

mod read;
mod route;
mod write;

#[cfg(test)]
mod tests;

pub(super) use read::{outline, request_counting, response};
pub(super) use route::{
    answer as route_answer, encode_answer as encode_route_answer, endpoint_bytes,
    hops as route_hops, parse as route, put_hop as put_route_hop, values_max as route_values_max,
};
pub(super) use write::{encode_contact, encode_values_head, put_message, put_nodes, put_values};

use crate::id::Id;
use crate::message::{FindValue, Rpc, RpcError, TransactionId};
use crate::wire::{
    Body, Dialect, Envelope, Offsets, ParseError, Sizes, UnreadAnswer, UnreadQuery, UnreadRoute,
};

use route::{ROUTE, ROUTED};

/// First byte of every datagram.
pub(super) const VERSION: u8 = 1;

pub(super) const SIZES: Sizes = Sizes {
    datagram_max: MAX_DATAGRAM,
    answer_max: MAX_REPLY,
    ping: HEADER_LEN + LENGTH_LEN + b"d4:name4:ping4:argslee".len(),
    bare_lookup: 161,
    custom_max: 16_000,
    around_returned: HEADER_LEN + LENGTH_LEN + b"le".len(),
    token_max: MAX_TOKEN,
    route: route::HEAD_LEN,
    route_hop: route::HOP_LEN,
};

pub(super) const OFFSETS: Offsets =
    Offsets { transaction: TRANSACTION_AT, call: CALL_AT, first_reply: RESPONSE };

/// Largest answer to ping, findnode and store, and to a findvalue as far as contacts go.
const MAX_REPLY: usize = 1_400;

/// The largest datagram that an original node receives whole.
const MAX_DATAGRAM: usize = 16_384;

/// Bytes of an answer to a findvalue around its values, contacts left out.
const VALUES_AROUND: usize = HEADER_LEN + LENGTH_LEN + b"ld6:retvalle7:closestleee".len();

/// Bytes of the longest [`Rest`](crate::message::Rest) that we write.
const REST_MAX: usize = b"4:morei18446744073709551615e".len()
    + b"4:next20:".len()
    + Id::LEN
    + b"5:token64:".len()
    + MAX_TOKEN;

/// How many bytes of values fit an answer of `answer_max` bytes to a findvalue.
pub(super) fn values_max(search: &FindValue<'_>, answer_max: usize) -> usize {
    let rest = if search.is_extended() { REST_MAX } else { 0 };
    answer_max.min(MAX_DATAGRAM).saturating_sub(VALUES_AROUND + rest)
}

/// Longest write token that is taken and given back.
const MAX_TOKEN: usize = 64;

/// Contacts read from one answer at the most: k, as many as a node answers with.
const MAX_CONTACTS: usize = 20;

/// Where the transaction id begins.
const TRANSACTION_AT: usize = 21;
const TRANSACTION_LEN: usize = CALL_AT - TRANSACTION_AT;

/// Where the call byte lies.
const CALL_AT: usize = 29;

const HEADER_LEN: usize = CALL_AT + 1;
const LENGTH_LEN: usize = 2;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 129;
const NO_SUCH_RPC: u8 = 130;
const FAILED: u8 = 131;

/// The RPCs that the protocol defines.
const NAMES: [(&[u8], Rpc); 5] = [
    (b"ping", Rpc::Ping),
    (b"findnode", Rpc::FindNode),
    (b"findvalue", Rpc::FindValue),
    (b"store", Rpc::Store),
    (b"getsocket", Rpc::GetSocket),
];

/// The wire's number for "replace": an original erases every publisher's values on 1, so we send 2,
/// which it takes for an ordinary store, and take both to mean the sender's own values.
const MODE_REPLACE: i64 = 2;
const MODE_REPLACE_ORIGINAL: i64 = 1;

/// Takes apart a datagram that begins with [`VERSION`] and is no longer than [`MAX_DATAGRAM`].
#[inline]
pub(super) fn parse(datagram: &[u8]) -> Result<Envelope<'_>, ParseError> {
    const DIALECT: Dialect = Dialect::V1;
    let (header, rest) = datagram.split_at_checked(HEADER_LEN).ok_or(ParseError::Truncated)?;
    let body = match header[CALL_AT] {
        REQUEST => Body::Query(UnreadQuery { dialect: DIALECT, name: &[], bytes: payload(rest)? }),
        RESPONSE => Body::Answer(UnreadAnswer { dialect: DIALECT, bytes: payload(rest)? }),
        NO_SUCH_RPC => Body::Error(RpcError::NoSuchRpc),
        FAILED => Body::Error(RpcError::Failed),
        ROUTE => Body::Route(UnreadRoute { dialect: DIALECT, bytes: rest }),
        ROUTED => Body::Routed(UnreadRoute { dialect: DIALECT, bytes: rest }),
        call => return Err(ParseError::Call(call)),
    };
    let sender = Some(Id::from_slice(&header[1..TRANSACTION_AT]).expect("20 bytes"));
    let transaction: [u8; TRANSACTION_LEN] =
        header[TRANSACTION_AT..CALL_AT].try_into().expect("8 bytes");
    let transaction = TransactionId::new(transaction);
    let (is_read_only, want, seen_at) = (false, None, None);
    Ok(Envelope { dialect: DIALECT, sender, transaction, is_read_only, want, seen_at, body })
}

/// The payload behind its length; nothing at all counts as an empty one.
fn payload(rest: &[u8]) -> Result<&[u8], ParseError> {
    if rest.is_empty() {
        return Ok(rest);
    }
    let (length, rest) = rest.split_at_checked(LENGTH_LEN).ok_or(ParseError::Truncated)?;
    let length = u16::from_be_bytes([length[0], length[1]]);
    rest.get(..usize::from(length)).ok_or(ParseError::Truncated)
}

/// Which RPC a name stands for; [`Rpc::Custom`] for one that the protocol does not define.
pub(super) fn rpc_named(name: &[u8]) -> Rpc {
    NAMES.iter().find(|(known, _)| *known == name).map_or(Rpc::Custom, |(_, kind)| *kind)
}

fn name_of(kind: Rpc) -> &'static [u8] {
    let named = NAMES.iter().find(|(_, known)| *known == kind);
    named.expect("an RPC of the protocol has a name").0
}
