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
//! (the RPC failed) end after the call byte. Integers are big-endian. Bytes after the payload are
//! ignored; the zeros there make our lookups' requests long enough for a whole answer, see
//! [`MIN_LOOKUP_REQUEST`].
//!
//! A store has three arguments: key, value and mode. Ours has a fourth, which originals ignore, a
//! dictionary:
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `age` | seconds | the value is a copy, published so long ago |
//! | `publisher` | contact | who published the copy, if not the sender |
//! | `token` | bytes | the sender knows of write tokens; empty, or the one it was given |
//!
//! A holder answers `[0, reason, token]` to such a sender whose token is not the right one, and takes the
//! store when it comes once more with that token. It refuses a store of an original with call 131: an
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
//! | `token` | bytes | values were held back: whoever asks with this gets them |
//!
//! Two things that originals take are refused on purpose, because no two decoders agree on them: a
//! length with leading zeros (`007:example`), and bytes behind the value within the payload's length.
//!
//! Reading: [`Frame::parse`], then [`request`] or [`response`]. Writing: the `put_*` functions
//! append whole datagrams to a buffer. Requests are read in place, and the three hot answers are
//! copied together from contacts that were encoded once, so that answering allocates nothing.

use std::net::{IpAddr, SocketAddr};

use crate::address::is_sendable;
use crate::bencode::{Item, List, Malformed, Value, View, outline_len, put_bytes, put_integer};
use crate::id::Id;
use crate::message::{
    Contact, CopyOf, FindValue, Request, Response, Rest, Rpc, RpcId, StoreMode, StoreRequest,
};
use crate::time::Duration;

/// First byte of every datagram.
pub const VERSION: u8 = 1;

/// Largest answer to ping, findnode and store, and to a findvalue as far as contacts go: fits one
/// unfragmented packet on any usual path.
pub const MAX_REPLY: usize = 1_400;

/// How many times the bytes of a datagram all that is sent because of it may have, where nobody knows
/// whether the address that it came from is the sender's own: whoever forges one gains no more than
/// that. The limit of RFC 9000 §8.1.
pub const AMPLIFICATION_MAX: usize = 3;

/// Length of a ping: what it costs to find out whether an address is the sender's own.
pub const PING_BYTES: usize = HEADER_LEN + LENGTH_LEN + b"d4:name4:ping4:argslee".len();

/// Smallest findnode or findvalue that we send: one to which even a node that does not know us may
/// answer with [`MAX_REPLY`] bytes and a ping.
pub const MIN_LOOKUP_REQUEST: usize = (MAX_REPLY + PING_BYTES).div_ceil(AMPLIFICATION_MAX);

/// How long the answer to a request of `request_len` bytes may get if its address is not validated: the
/// ping that validates it counts too.
pub const fn unvalidated_reply_max(request_len: usize) -> usize {
    (AMPLIFICATION_MAX * request_len).saturating_sub(PING_BYTES)
}

/// Largest datagram, padding included: the largest that an original node receives whole.
pub const MAX_DATAGRAM: usize = 16_384;

/// Values and arguments that an application's RPC may carry, in encoded bytes: with frame and name
/// they stay below [`MAX_DATAGRAM`].
pub const MAX_CUSTOM_PAYLOAD: usize = 16_000;

/// Bytes of an answer to a findvalue around its values, contacts left out.
const VALUES_AROUND: usize = HEADER_LEN + LENGTH_LEN + b"ld6:retvalle7:closestleee".len();

/// Bytes of the longest [`Rest`] that we write.
const REST_MAX: usize = b"4:morei18446744073709551615e".len()
    + b"4:next20:".len()
    + Id::LEN
    + b"5:token64:".len()
    + MAX_TOKEN;

/// How many bytes of values fit an answer of `reply_max` bytes to a findvalue.
pub fn values_max(search: &FindValue<'_>, reply_max: usize) -> usize {
    let rest = if search.is_extended() { REST_MAX } else { 0 };
    reply_max.min(MAX_DATAGRAM).saturating_sub(VALUES_AROUND + rest)
}

/// Bytes around the values that an application's RPC returns.
pub const RETURNED_AROUND: usize = HEADER_LEN + LENGTH_LEN + b"le".len();

/// Longest write token that a sender takes from a holder and gives back to it. With it the largest
/// store still fits [`MAX_DATAGRAM`].
pub const MAX_TOKEN: usize = 64;

/// Contacts read from one answer at the most: k, as many as a node answers with.
const MAX_CONTACTS: usize = 20;

/// Where the rpc id begins.
pub const RPC_ID_AT: usize = 21;

/// Where the call byte lies.
pub const CALL_AT: usize = 29;

/// The lowest call byte of a reply.
pub const FIRST_REPLY: u8 = RESPONSE;

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

/// What ties a datagram to a node and a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Id of the sending node.
    pub from: Id,
    /// The call's number.
    pub rpc_id: RpcId,
}

/// A datagram taken apart as far as its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Sender and call.
    pub header: Header,
    /// What kind of message it is.
    pub body: Body<'a>,
}

/// The kinds of message, payloads unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A request.
    Request(&'a [u8]),
    /// The answer to one.
    Response(&'a [u8]),
    /// The answer of a node that knows no such RPC.
    NoSuchRpc,
    /// The answer of a node in which the RPC failed.
    Failed,
}

/// Why a datagram is no v1 message. Such datagrams are dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte is not [`VERSION`].
    #[error("not version 1")]
    Version,
    /// The datagram is longer than [`MAX_DATAGRAM`].
    #[error("the datagram is longer than any message")]
    TooLong,
    /// The datagram ends before its header or its announced payload does.
    #[error("the datagram is cut short")]
    Truncated,
    /// A call number that this version does not define.
    #[error("unknown call number {0}")]
    Call(u8),
}

impl<'a> Frame<'a> {
    /// Takes a datagram apart.
    ///
    /// # Errors
    /// If it is no v1 message; the payload is not looked at.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(FrameError::TooLong);
        }
        let (&version, _) = datagram.split_first().ok_or(FrameError::Truncated)?;
        if version != VERSION {
            return Err(FrameError::Version);
        }
        let (header, rest) = datagram.split_at_checked(HEADER_LEN).ok_or(FrameError::Truncated)?;
        let body = match header[CALL_AT] {
            REQUEST => Body::Request(payload(rest)?),
            RESPONSE => Body::Response(payload(rest)?),
            NO_SUCH_RPC => Body::NoSuchRpc,
            FAILED => Body::Failed,
            call => return Err(FrameError::Call(call)),
        };
        let from = Id::from_slice(&header[1..RPC_ID_AT]).expect("20 bytes");
        let rpc_id = RpcId(header[RPC_ID_AT..CALL_AT].try_into().expect("8 bytes"));
        Ok(Frame { header: Header { from, rpc_id }, body })
    }
}

/// The payload behind its length; nothing at all counts as an empty one.
fn payload(rest: &[u8]) -> Result<&[u8], FrameError> {
    if rest.is_empty() {
        return Ok(rest);
    }
    let (length, rest) = rest.split_at_checked(LENGTH_LEN).ok_or(FrameError::Truncated)?;
    let length = u16::from_be_bytes([length[0], length[1]]);
    rest.get(..usize::from(length)).ok_or(FrameError::Truncated)
}

/// Why a payload is no message. A request like that is still answered, see [`put_refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The payload is not bencoded.
    #[error("payload: {0}")]
    Malformed(#[from] Malformed),
    /// The payload has not the shape of a request or of the response that was asked for.
    #[error("payload of an unexpected shape")]
    Shape,
    /// A findnode whose id is not 20 bytes.
    #[error("findnode: the id is not 20 bytes")]
    BadTarget,
    /// A findvalue whose key is not 20 bytes.
    #[error("findvalue: the key is not 20 bytes")]
    BadKey,
    /// A store whose key is not 20 bytes.
    #[error("store: the key is not 20 bytes")]
    BadStoreKey,
    /// A store without a value.
    #[error("store: no value")]
    NoValue,
}

/// Reads the payload of a request.
///
/// # Errors
/// If it is none; [`put_refusal`] writes the answer that an original caller can live with.
pub fn request(payload: &[u8]) -> Result<Request<'_>, PayloadError> {
    request_counting(payload).0
}

/// The same, and how many tokens were read for it, or of a malformed payload may have been.
pub fn request_counting(payload: &[u8]) -> (Result<Request<'_>, PayloadError>, usize) {
    match Item::parse_counting(payload) {
        Ok((item, tokens)) => (request_in(item), tokens),
        Err(malformed) => (Err(malformed.into()), payload.len()),
    }
}

fn request_in(payload: Item<'_>) -> Result<Request<'_>, PayloadError> {
    let call = payload.dict().ok_or(PayloadError::Shape)?;
    let (mut name, mut args) = (None, None);
    for (key, value) in call {
        match key.bytes() {
            Some(b"name") => name = Some(value),
            Some(b"args") => args = Some(value),
            _ => {}
        }
    }
    let name = name.and_then(Item::bytes).ok_or(PayloadError::Shape)?;
    let args = args.and_then(arguments).ok_or(PayloadError::Shape)?;
    request_named(name, args)
}

fn request_named<'a>(name: &'a [u8], mut args: List<'a>) -> Result<Request<'a>, PayloadError> {
    let all = args;
    match kind_named(name) {
        Rpc::Ping => Ok(Request::Ping),
        Rpc::FindNode => match id(args.next()) {
            Some(target) => Ok(Request::FindNode { target }),
            None => Err(PayloadError::BadTarget),
        },
        Rpc::FindValue => {
            let key = id(args.next()).ok_or(PayloadError::BadKey)?;
            let limit = args.next().map_or(Ok(1), limit)?;
            let search = FindValue::new(key, limit);
            let search = match args.next() {
                Some(extension) => extended(search, extension).ok_or(PayloadError::Shape)?,
                None => search,
            };
            Ok(Request::FindValue(search))
        }
        Rpc::Store => store(args).map(Request::Store),
        Rpc::GetSocket => Ok(Request::GetSocket),
        Rpc::Custom => Ok(Request::Custom { name, args: all }),
    }
}

/// Which RPC a name stands for; [`Rpc::Custom`] for one that the protocol does not define.
pub fn kind_named(name: &[u8]) -> Rpc {
    NAMES.iter().find(|(known, _)| *known == name).map_or(Rpc::Custom, |(_, kind)| *kind)
}

fn name_of(kind: Rpc) -> &'static [u8] {
    let named = NAMES.iter().find(|(_, known)| *known == kind);
    named.expect("an RPC of the protocol has a name").0
}

/// How many values are wanted: none for a negative number, all for one beyond counting.
fn limit(item: Item<'_>) -> Result<usize, PayloadError> {
    let View::Integer(limit) = item.view() else { return Err(PayloadError::Shape) };
    let limit = limit.to_i64_saturating().max(0);
    Ok(limit.try_into().unwrap_or(usize::MAX))
}

/// The arguments: a list, or the dictionary with holes that a sparse Lua array becomes, which has
/// no first argument and so counts as empty.
fn arguments(item: Item<'_>) -> Option<List<'_>> {
    item.list().or_else(|| item.dict().map(|_| List::EMPTY))
}

fn store(mut args: List<'_>) -> Result<StoreRequest<'_>, PayloadError> {
    let key = id(args.next()).ok_or(PayloadError::BadStoreKey)?;
    let value = args.next().ok_or(PayloadError::NoValue)?;
    let mode = match args.next().and_then(Item::integer) {
        Some(MODE_REPLACE | MODE_REPLACE_ORIGINAL) => StoreMode::Replace,
        _ => StoreMode::Add,
    };
    let (copy, token) = match args.next() {
        Some(extension) => store_extension(extension).ok_or(PayloadError::Shape)?,
        None => (None, None),
    };
    Ok(StoreRequest { key, value, mode, copy, token })
}

/// What an original neither sends nor reads: `{after: digest, token: bytes}`.
fn extended<'a>(search: FindValue<'a>, extension: Item<'a>) -> Option<FindValue<'a>> {
    let fields = extension.dict()?;
    let after = match fields.get(b"after") {
        Some(after) => Some(id(Some(after))?),
        None => None,
    };
    let token = match fields.get(b"token") {
        Some(token) => Some(token.bytes()?),
        None => None,
    };
    Some(FindValue { after, token, ..search })
}

/// What an original neither sends nor reads: `{age: seconds, publisher: contact, token: bytes}`. Without
/// an age it is no copy, without an publisher the copy is the sender's own, and without a token the sender
/// knows of none.
fn store_extension(item: Item<'_>) -> Option<(Option<CopyOf>, Option<&[u8]>)> {
    let fields = item.dict()?;
    let copy = match fields.get(b"age") {
        Some(age) => Some(copy_of(age, fields.get(b"owner"))?),
        None => None,
    };
    let token = match fields.get(b"token") {
        Some(token) => Some(token.bytes()?),
        None => None,
    };
    Some((copy, token))
}

fn copy_of(age: Item<'_>, publisher: Option<Item<'_>>) -> Option<CopyOf> {
    let age = Duration::from_secs(age.integer()?.try_into().ok()?);
    let publisher = match publisher {
        Some(publisher) => Some(contact(publisher)?),
        None => None,
    };
    Some(CopyOf { publisher, age })
}

fn id(item: Option<Item<'_>>) -> Option<Id> {
    Id::from_slice(item?.bytes()?)
}

/// `[address, port, id]`, where the address is an IP literal one can send to.
fn contact(item: Item<'_>) -> Option<Contact> {
    let mut parts = item.list()?;
    let address = socket_address(parts.next()?, parts.next()?)?;
    let id = id(parts.next())?;
    is_sendable(&address).then_some(Contact { id, address })
}

fn socket_address(address: Item<'_>, port: Item<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = std::str::from_utf8(address.bytes()?).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port.integer()?.try_into().ok()?))
}

/// The contacts of a list; entries that are none are left out.
fn contacts(item: Item<'_>) -> Result<Vec<Contact>, PayloadError> {
    let list = item.list().ok_or(PayloadError::Shape)?;
    Ok(list.take(MAX_CONTACTS).filter_map(contact).collect())
}

/// The items of a list as values of their own, less those that nest too deep for a value.
fn readable(list: List<'_>) -> Vec<Value> {
    list.filter_map(|item| Value::parse(item.as_bytes()).ok()).collect()
}

/// The items of a list as values of their own.
///
/// # Errors
/// If one nests too deep for a value.
pub fn values(list: List<'_>) -> Result<Vec<Value>, PayloadError> {
    Ok(list.map(Value::of).collect::<Result<_, _>>()?)
}

/// Reads the payload of a response to a request of that kind.
///
/// # Errors
/// If it is none.
pub fn response(kind: Rpc, payload: &[u8]) -> Result<Response, PayloadError> {
    let returned = match Item::parse(payload) {
        Ok(item) => item.list().ok_or(PayloadError::Shape)?,
        Err(error) if kind == Rpc::FindValue => {
            return salvaged(payload).ok_or(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let mut rest = returned;
    let first = rest.next().ok_or(PayloadError::Shape);
    match kind {
        Rpc::Ping => first.map(|_| Response::Pong),
        Rpc::FindNode => contacts(first?).map(Response::Nodes),
        Rpc::FindValue => found(first?),
        Rpc::Store => Ok(stored(first?, rest)),
        Rpc::GetSocket => socket(first?),
        Rpc::Custom => values(returned).map(Response::Returned),
    }
}

/// `{retval: [value, …], closest: [contact, …]}`, and in ours what lies there beside. A value that cannot
/// be read hides no other.
fn found(item: Item<'_>) -> Result<Response, PayloadError> {
    let fields = item.dict().ok_or(PayloadError::Shape)?;
    let found = fields.get(b"retval").and_then(Item::list).unwrap_or(List::EMPTY);
    let closest = fields.get(b"closest").map_or(Ok(Vec::new()), contacts)?;
    let number = fields.get(b"more").and_then(Item::integer);
    let rest = Rest {
        more: number.and_then(|number| number.try_into().ok()).unwrap_or(0),
        next: id(fields.get(b"next")),
        token: token(fields.get(b"token")),
    };
    Ok(Response::Values { values: readable(found), closest, rest })
}

/// A token that is short enough to be given back.
fn token(item: Option<Item<'_>>) -> Option<Vec<u8>> {
    item?.bytes().filter(|token| token.len() <= MAX_TOKEN).map(<[u8]>::to_vec)
}

/// What can be read of an answer to a findvalue that cannot be read as a whole: an original keeps values
/// that nest deeper than we go, and writes a number from 10^14 up as `i1e+14e`, which nobody can read.
/// The other values and the contacts are still good, and the lookup goes on from them.
fn salvaged(payload: &[u8]) -> Option<Response> {
    let (mut values, mut closest) = (Vec::new(), Vec::new());
    let mut rest = payload.strip_prefix(b"ld")?;
    let mut is_any_read = false;
    while let Ok(key) = Item::parse_prefix(rest) {
        rest = &rest[key.as_bytes().len()..];
        match key.bytes() {
            Some(b"closest") => {
                let Ok(item) = Item::parse_prefix(rest) else { break };
                closest = contacts(item).ok()?;
                is_any_read = true;
                rest = &rest[item.as_bytes().len()..];
            }
            Some(b"retval") if rest.starts_with(b"l") => {
                rest = &rest[1..];
                while let Some(len) = outline_len(rest) {
                    values.extend(Value::parse(&rest[..len]));
                    rest = &rest[len..];
                }
                is_any_read |= !values.is_empty();
                let Some(behind) = rest.strip_prefix(b"e") else { break };
                rest = behind;
            }
            _ => {
                let Some(len) = outline_len(rest) else { break };
                rest = &rest[len..];
            }
        }
    }
    is_any_read.then_some(Response::Values { values, closest, rest: Rest::default() })
}

/// `[1]`, or where the value was refused `[0, reason]` or `[0, reason, token]`.
fn stored(accepted: Item<'_>, mut rest: List<'_>) -> Response {
    if accepted.integer() == Some(1) {
        return Response::Stored;
    }
    let reason = rest.next().and_then(Item::bytes).unwrap_or_default();
    let reason = String::from_utf8_lossy(reason).into_owned();
    Response::Refused { reason, token: token(rest.next()) }
}

/// `{addr: text, port: integer}`.
fn socket(item: Item<'_>) -> Result<Response, PayloadError> {
    let fields = item.dict().ok_or(PayloadError::Shape)?;
    let parts = fields.get(b"addr").zip(fields.get(b"port"));
    let address = parts.and_then(|(address, port)| socket_address(address, port));
    address.map(Response::Socket).ok_or(PayloadError::Shape)
}

/// A contact as answers carry it, encoded once and copied into each.
#[derive(Clone)]
pub struct EncodedContact {
    bytes: [u8; EncodedContact::CAPACITY],
    len: u8,
}

impl EncodedContact {
    /// `l39:` + the longest IPv6 literal + `i65535e` + `20:` + id + `e`.
    const CAPACITY: usize = 4 + 39 + 7 + 3 + 20 + 1;

    /// Encodes a contact.
    pub fn new(contact: &Contact) -> EncodedContact {
        let mut out = Vec::with_capacity(EncodedContact::CAPACITY);
        put_contact(&mut out, contact);
        let mut bytes = [0; EncodedContact::CAPACITY];
        bytes[..out.len()].copy_from_slice(&out);
        EncodedContact { bytes, len: out.len() as u8 }
    }

    /// The encoded bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn put_contact(out: &mut Vec<u8>, contact: &Contact) {
    out.push(b'l');
    put_ip(out, contact.address.ip());
    put_integer(out, i64::from(contact.address.port()));
    put_bytes(out, contact.id.as_bytes());
    out.push(b'e');
}

/// An IPv4 address that somebody has named as a mapped one is written as what it is.
fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    put_bytes(out, ip.to_canonical().to_string().as_bytes());
}

/// Appends the datagram of a request; findnode and findvalue with zeros behind the payload, up to
/// [`MIN_LOOKUP_REQUEST`].
///
/// # Panics
/// If the payload exceeds 65,535 bytes; the node refuses values and arguments long before.
pub fn put_request(out: &mut Vec<u8>, header: &Header, request: &Request<'_>) {
    put_padded_request(out, header, request, MIN_LOOKUP_REQUEST);
}

/// The same, with zeros up to `len` behind a findnode or findvalue that is shorter.
pub fn put_padded_request(out: &mut Vec<u8>, header: &Header, request: &Request<'_>, len: usize) {
    let start = out.len();
    let name = match *request {
        Request::Custom { name, .. } => name,
        _ => name_of(request.kind()),
    };
    put_framed(out, header, REQUEST, |out| {
        // Name before args, as the original writes them.
        out.extend_from_slice(b"d4:name");
        put_bytes(out, name);
        out.extend_from_slice(b"4:argsl");
        match request {
            Request::Ping | Request::GetSocket => {}
            Request::FindNode { target } => put_bytes(out, target.as_bytes()),
            Request::FindValue(search) => put_search_args(out, search),
            Request::Store(store) => put_store_args(out, store),
            Request::Custom { args, .. } => {
                args.for_each(|arg| out.extend_from_slice(arg.as_bytes()));
            }
        }
        out.extend_from_slice(b"ee");
    });
    if matches!(request.kind(), Rpc::FindNode | Rpc::FindValue) {
        out.resize(out.len().max(start + len), 0);
    }
}

fn put_search_args(out: &mut Vec<u8>, search: &FindValue<'_>) {
    put_bytes(out, search.key.as_bytes());
    put_integer(out, i64::try_from(search.limit).unwrap_or(i64::MAX));
    if search.is_extended() {
        out.push(b'd');
        if let Some(after) = &search.after {
            out.extend_from_slice(b"5:after");
            put_bytes(out, after.as_bytes());
        }
        put_token(out, search.token);
        out.push(b'e');
    }
}

/// The entry of a dictionary, if there is a token.
fn put_token(out: &mut Vec<u8>, token: Option<&[u8]>) {
    if let Some(token) = token {
        out.extend_from_slice(b"5:token");
        put_bytes(out, token);
    }
}

fn put_store_args(out: &mut Vec<u8>, store: &StoreRequest<'_>) {
    put_bytes(out, store.key.as_bytes());
    out.extend_from_slice(store.value.as_bytes());
    match (store.mode, store.is_extended()) {
        (StoreMode::Add, false) => {}
        (StoreMode::Add, true) => put_integer(out, 0),
        (StoreMode::Replace, _) => put_integer(out, MODE_REPLACE),
    }
    if store.is_extended() {
        put_store_extension(out, store);
    }
}

fn put_store_extension(out: &mut Vec<u8>, store: &StoreRequest<'_>) {
    out.push(b'd');
    if let Some(copy) = &store.copy {
        out.extend_from_slice(b"3:age");
        // Rounded up: a value that is passed on time and again must not live longer for it.
        let secs = copy.age.as_micros().div_ceil(1_000_000);
        put_integer(out, i64::try_from(secs).unwrap_or(i64::MAX));
        if let Some(publisher) = &copy.publisher {
            out.extend_from_slice(b"5:owner");
            put_contact(out, publisher);
        }
    }
    put_token(out, store.token);
    out.push(b'e');
}

/// Appends the answer to a ping.
pub fn put_pong(out: &mut Vec<u8>, header: &Header) {
    put_framed(out, header, RESPONSE, |out| out.extend_from_slice(b"li5ee"));
}

/// Appends the answer to a findnode: as many of the contacts, nearest first, as `max` bytes have
/// room for, or [`MAX_REPLY`] if that is less.
pub fn put_nodes<'c>(
    out: &mut Vec<u8>,
    header: &Header,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    let end = out.len() + max.min(MAX_REPLY);
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"ll");
        put_contacts(out, closest, b"ee", end);
    });
}

/// Appends the answer to a findvalue: as many values as `max` bytes have room for, then as many contacts
/// as still fit these and [`MAX_REPLY`]. `values` is `None` where nothing is stored.
pub fn put_values<'v, 'c>(
    out: &mut Vec<u8>,
    header: &Header,
    values: Option<impl Iterator<Item = &'v Value>>,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    put_values_of_more(out, header, values, &Rest::default(), closest, max);
}

/// The same, with what it tells of the values that are not in it.
pub fn put_values_of_more<'v, 'c>(
    out: &mut Vec<u8>,
    header: &Header,
    values: Option<impl Iterator<Item = &'v Value>>,
    rest: &Rest,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    const CLOSEST: &[u8] = b"7:closestl";
    const TAIL: &[u8] = b"eee";
    const AFTER: usize = b"e".len() + CLOSEST.len() + TAIL.len();
    let start = out.len();
    put_framed(out, header, RESPONSE, |out| {
        // The values are laid down first, so that contacts take only what is left; a decoder
        // takes dictionary keys in any order.
        out.extend_from_slice(b"ld");
        put_rest(out, rest);
        if let Some(values) = values {
            out.extend_from_slice(b"6:retvall");
            for value in values {
                if out.len() + value.as_bytes().len() + AFTER <= start + max.min(MAX_DATAGRAM) {
                    out.extend_from_slice(value.as_bytes());
                }
            }
            out.push(b'e');
        }
        out.extend_from_slice(CLOSEST);
        put_contacts(out, closest, TAIL, start + max.min(MAX_REPLY));
    });
}

/// The entries of a dictionary that tell of more values; none if there are none.
fn put_rest(out: &mut Vec<u8>, rest: &Rest) {
    if rest.more > 0 {
        out.extend_from_slice(b"4:more");
        put_integer(out, i64::try_from(rest.more).unwrap_or(i64::MAX));
    }
    if let Some(next) = &rest.next {
        out.extend_from_slice(b"4:next");
        put_bytes(out, next.as_bytes());
    }
    put_token(out, rest.token.as_deref());
}

/// Appends contacts while they and the tail end before `end`, then the tail.
#[inline]
fn put_contacts<'c>(
    out: &mut Vec<u8>,
    contacts: impl Iterator<Item = &'c EncodedContact>,
    tail: &[u8],
    end: usize,
) {
    for contact in contacts {
        let bytes = contact.as_bytes();
        if out.len() + bytes.len() + tail.len() > end {
            break;
        }
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(tail);
}

/// Appends the answer to a store that was accepted.
pub fn put_stored(out: &mut Vec<u8>, header: &Header) {
    put_framed(out, header, RESPONSE, |out| out.extend_from_slice(b"li1ee"));
}

/// Appends the answer to a store that was refused, with the token that it needs if that was missing;
/// an original reads only the zero.
pub fn put_refused(out: &mut Vec<u8>, header: &Header, reason: &str, token: Option<&[u8]>) {
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"li0e");
        put_bytes(out, reason.as_bytes());
        if let Some(token) = token {
            put_bytes(out, token);
        }
        out.push(b'e');
    });
}

/// Appends the answer to a getsocket.
pub fn put_socket(out: &mut Vec<u8>, header: &Header, address: SocketAddr) {
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"ld4:addr");
        put_ip(out, address.ip());
        out.extend_from_slice(b"4:port");
        put_integer(out, i64::from(address.port()));
        out.extend_from_slice(b"ee");
    });
}

/// Appends the answer of an application's RPC.
///
/// # Panics
/// If the values exceed 65,535 bytes, which the node refuses before.
pub fn put_returned(out: &mut Vec<u8>, header: &Header, values: &[Value]) {
    put_framed(out, header, RESPONSE, |out| {
        out.push(b'l');
        values.iter().for_each(|value| out.extend_from_slice(value.as_bytes()));
        out.push(b'e');
    });
}

/// Appends the answer to an RPC that the node does not know.
pub fn put_no_such_rpc(out: &mut Vec<u8>, header: &Header) {
    put_header(out, header, NO_SUCH_RPC);
}

/// Appends the answer to an RPC that failed.
pub fn put_failed(out: &mut Vec<u8>, header: &Header) {
    put_header(out, header, FAILED);
}

/// Appends the answer to a request that [`request`] could not read. An original caller hangs for
/// good on anything but contacts in answer to a lookup, so it gets an empty list of them.
pub fn put_refusal(out: &mut Vec<u8>, header: &Header, error: PayloadError) {
    match error {
        PayloadError::BadTarget => put_nodes(out, header, std::iter::empty(), MAX_REPLY),
        PayloadError::BadKey => {
            put_values(out, header, None::<std::iter::Empty<_>>, std::iter::empty(), MAX_REPLY);
        }
        PayloadError::BadStoreKey | PayloadError::NoValue => {
            put_refused(out, header, &error.to_string(), None);
        }
        PayloadError::Malformed(_) | PayloadError::Shape => put_failed(out, header),
    }
}

fn put_header(out: &mut Vec<u8>, header: &Header, call: u8) {
    out.push(VERSION);
    out.extend_from_slice(header.from.as_bytes());
    out.extend_from_slice(&header.rpc_id.0);
    out.push(call);
}

/// Appends a header, the payload that `body` writes, and its length in between.
#[inline]
fn put_framed(out: &mut Vec<u8>, header: &Header, call: u8, body: impl FnOnce(&mut Vec<u8>)) {
    put_header(out, header, call);
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_LEN]);
    body(out);
    let len = out.len() - at - LENGTH_LEN;
    let len = u16::try_from(len).expect("a payload is at most 65,535 bytes");
    out[at..at + LENGTH_LEN].copy_from_slice(&len.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: [u8; 20] = *b"mnopqrstuvwxyz012345";
    const ID: Id = Id::new(*b"abcdefghij0123456789");
    const HEADER: Header = Header { from: Id::new(FROM), rpc_id: RpcId(*b"rpc-id-8") };

    /// The datagram with that call number and what follows it.
    fn datagram(call: u8, rest: &[u8]) -> Vec<u8> {
        [&[VERSION], &FROM[..], b"rpc-id-8", &[call], rest].concat()
    }

    fn with_payload(call: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16).to_be_bytes();
        datagram(call, &[&length, payload].concat())
    }

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    fn contact(address: &str) -> Contact {
        Contact { id: ID, address: address.parse().unwrap() }
    }

    /// Both ways: the payload is read as the request, which is written as the payload.
    fn assert_request(payload: &[u8], expected: Request<'_>) {
        assert_padded_request(payload, 0, expected);
    }

    /// The same, with zeros behind the payload up to that length.
    fn assert_padded_request(payload: &[u8], len: usize, expected: Request<'_>) {
        assert_eq!(request(payload), Ok(expected));
        let out = written(|out| put_request(out, &HEADER, &expected));
        let mut datagram = with_payload(1, payload);
        datagram.resize(datagram.len().max(len), 0);
        assert_eq!(out.escape_ascii().to_string(), datagram.escape_ascii().to_string());
    }

    /// Both ways: `put` writes the payload, which is read as the response.
    fn assert_response(payload: &[u8], expected: Response, put: impl FnOnce(&mut Vec<u8>)) {
        let kind = match expected {
            Response::Pong => Rpc::Ping,
            Response::Nodes(_) => Rpc::FindNode,
            Response::Values { .. } => Rpc::FindValue,
            Response::Stored | Response::Refused { .. } => Rpc::Store,
            Response::Socket(_) => Rpc::GetSocket,
            Response::Returned(_) | Response::NoSuchRpc | Response::Failed => Rpc::Custom,
        };
        assert_eq!(written(put), with_payload(129, payload));
        assert_eq!(response(kind, payload), Ok(expected));
    }

    #[test]
    fn frames_are_told_apart_by_their_call() {
        let body = |bytes: &[u8]| Frame::parse(bytes).map(|frame| format!("{:?}", frame.body));
        assert_eq!(body(&with_payload(1, b"le")), Ok("Request([108, 101])".into()));
        assert_eq!(body(&with_payload(129, b"le")), Ok("Response([108, 101])".into()));
        assert_eq!(body(&datagram(130, b"")), Ok("NoSuchRpc".into()));
        assert_eq!(body(&datagram(131, b"rest")), Ok("Failed".into()));
        for call in (0..=255).filter(|call| ![1, 129, 130, 131].contains(call)) {
            assert_eq!(Frame::parse(&datagram(call, b"")), Err(FrameError::Call(call)));
        }
    }

    #[test]
    fn frames_carry_sender_and_call() {
        let bytes = with_payload(1, b"le");
        assert_eq!(Frame::parse(&bytes).unwrap().header, HEADER);
        let other_version = [&[2], &bytes[1..]].concat();
        assert_eq!(Frame::parse(&other_version), Err(FrameError::Version));
    }

    #[test]
    fn padding_may_fill_the_largest_datagram_and_no_more() {
        let mut bytes = with_payload(1, b"le");
        bytes.resize(MAX_DATAGRAM, 0);
        assert!(Frame::parse(&bytes).is_ok());
        bytes.push(0);
        assert_eq!(Frame::parse(&bytes), Err(FrameError::TooLong));
    }

    #[test]
    fn a_payload_is_as_long_as_announced() {
        let body = |rest: &[u8]| {
            let bytes = datagram(1, rest);
            Frame::parse(&bytes).map(|frame| match frame.body {
                Body::Request(payload) => payload.to_vec(),
                _ => panic!("a request"),
            })
        };
        assert_eq!(body(b""), Ok(vec![]), "no length at all");
        assert_eq!(body(b"\0"), Err(FrameError::Truncated));
        assert_eq!(body(b"\0\x03le"), Err(FrameError::Truncated));
        assert_eq!(body(b"\0\x02le and more"), Ok(b"le".to_vec()));
        assert_eq!(body(b"\xff\xff"), Err(FrameError::Truncated));
    }

    #[test]
    fn lookups_in_bytes() {
        assert_request(b"d4:name4:ping4:argslee", Request::Ping);
        assert_request(b"d4:name9:getsocket4:argslee", Request::GetSocket);
        assert_padded_request(
            b"d4:name8:findnode4:argsl20:abcdefghij0123456789ee",
            485,
            Request::FindNode { target: ID },
        );
        assert_padded_request(
            b"d4:name9:findvalue4:argsl20:abcdefghij0123456789i6eee",
            485,
            Request::FindValue(FindValue::new(ID, 6)),
        );
        let search = FindValue { token: Some(b""), ..FindValue::new(ID, 6) };
        assert_padded_request(
            b"d4:name9:findvalue4:argsl20:abcdefghij0123456789i6ed5:token0:eee",
            485,
            Request::FindValue(search),
        );
        assert_padded_request(
            b"d4:name9:findvalue4:argsl20:abcdefghij0123456789i6ed5:after20:abcdefghij0123456789\
              5:token3:\x01e\xffeee",
            485,
            Request::FindValue(FindValue { after: Some(ID), token: Some(b"\x01e\xff"), ..search }),
        );
        let bare = written(|out| put_padded_request(out, &HEADER, &Request::FindValue(search), 0));
        assert_eq!(bare.len(), 32 + 64);
    }

    #[test]
    fn what_extends_a_search_is_read_in_parts_or_is_none() {
        let read = |extension: &str| {
            let payload =
                format!("d4:name9:findvalue4:argsl20:abcdefghij0123456789i6e{extension}ee");
            match request(payload.as_bytes()) {
                Ok(Request::FindValue(search)) => {
                    Ok((search.after.is_some(), search.token.map(<[u8]>::len)))
                }
                Ok(_) => panic!("a findvalue"),
                Err(error) => Err(error),
            }
        };
        assert_eq!(read(""), Ok((false, None)));
        assert_eq!(read("de"), Ok((false, None)));
        assert_eq!(read("d5:other1:xe"), Ok((false, None)));
        assert_eq!(read("d5:token2:ab5:after20:abcdefghij0123456789e"), Ok((true, Some(2))));
        for nonsense in ["i5e", "5:token", "d5:after5:shorte", "d5:tokeni1ee", "d5:afterlee"] {
            assert_eq!(read(nonsense), Err(PayloadError::Shape), "{nonsense}");
        }
    }

    #[test]
    fn the_smallest_lookup_leaves_room_for_the_largest_answer_and_a_ping() {
        let ping = written(|out| put_request(out, &HEADER, &Request::Ping));
        assert_eq!(ping.len(), PING_BYTES);
        assert!(unvalidated_reply_max(MIN_LOOKUP_REQUEST) >= MAX_REPLY);
        assert!(unvalidated_reply_max(MIN_LOOKUP_REQUEST - 1) < MAX_REPLY);
        // Whatever is a frame may be told that it is no request.
        assert!(unvalidated_reply_max(HEADER_LEN) >= HEADER_LEN);
    }

    #[test]
    fn stores_in_bytes() {
        let value = Item::parse(b"5:value").unwrap();
        let plain = StoreRequest { key: ID, value, mode: StoreMode::Add, copy: None, token: None };
        assert_request(
            b"d4:name5:store4:argsl20:abcdefghij01234567895:valueee",
            Request::Store(plain),
        );
        assert_request(
            b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei2eee",
            Request::Store(StoreRequest { mode: StoreMode::Replace, ..plain }),
        );
        let publisher = contact("[2001:db8::1]:8001");
        let copy = CopyOf { publisher: Some(publisher), age: Duration::from_secs(90) };
        assert_request(
            b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei0ed3:agei90e5:ownerl11:2001:db8::1\
              i8001e20:abcdefghij0123456789eeee",
            Request::Store(StoreRequest { copy: Some(copy), ..plain }),
        );
        assert_request(
            b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei0ed3:agei90eeee",
            Request::Store(StoreRequest {
                copy: Some(CopyOf { publisher: None, ..copy }),
                ..plain
            }),
        );
        assert_request(
            b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei0ed5:token0:eee",
            Request::Store(StoreRequest { token: Some(b""), ..plain }),
        );
        assert_request(
            b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei2ed3:agei90e5:token3:\x01e\xffeee",
            Request::Store(StoreRequest {
                mode: StoreMode::Replace,
                copy: Some(CopyOf { publisher: None, ..copy }),
                token: Some(b"\x01e\xff"),
                ..plain
            }),
        );
    }

    #[test]
    fn what_extends_a_store_is_read_in_parts_or_is_none() {
        let read = |extension: &str| {
            let args = format!("20:abcdefghij01234567895:value4:mode{extension}");
            let payload = format!("d4:name5:store4:argsl{args}ee");
            match request(payload.as_bytes()) {
                Ok(Request::Store(store)) => {
                    Ok((store.copy.is_some(), store.token.map(<[u8]>::len)))
                }
                Ok(_) => panic!("a store"),
                Err(error) => Err(error),
            }
        };
        assert_eq!(read(""), Ok((false, None)));
        assert_eq!(read("le"), Ok((false, None)), "the empty dictionary");
        assert_eq!(read("d5:other1:xe"), Ok((false, None)));
        assert_eq!(read("d5:token0:e"), Ok((false, Some(0))));
        assert_eq!(read("d5:token2:\u{e9}3:agei1ee"), Ok((true, Some(2))), "in any order");
        for nonsense in ["i5e", "5:token", "li1ee", "d3:age1:1e", "d5:tokeni1ee", "d5:tokenlee"] {
            assert_eq!(read(nonsense), Err(PayloadError::Shape), "{nonsense}");
        }
    }

    #[test]
    fn the_largest_store_fits_what_an_original_reads() {
        let value = Value::bytes(vec![b'v'; 16_000 - b"15994:".len()]);
        assert_eq!(value.as_bytes().len(), 16_000);
        let publisher = Some(contact("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535"));
        let store = StoreRequest {
            key: ID,
            value: value.item(),
            mode: StoreMode::Replace,
            copy: Some(CopyOf { publisher, age: Duration::from_micros(u64::MAX) }),
            token: Some(&[b't'; MAX_TOKEN]),
        };
        let len = written(|out| put_request(out, &HEADER, &Request::Store(store))).len();
        assert!(len <= MAX_DATAGRAM, "{len} bytes");
    }

    #[test]
    fn a_store_by_an_original_replaces_on_one() {
        let read = request(b"d4:name5:store4:argsl20:abcdefghij0123456789i7ei1eee");
        let Ok(Request::Store(store)) = read else { panic!("a store") };
        assert_eq!((store.mode, store.value.integer()), (StoreMode::Replace, Some(7)));
    }

    #[test]
    fn custom_requests_in_bytes() {
        let args = Item::parse(b"li1e1:xe").unwrap().list().unwrap();
        assert_request(b"d4:name5:hello4:argsli1e1:xee", Request::Custom { name: b"hello", args });
    }

    #[test]
    fn requests_come_with_keys_in_any_order_and_more_of_them() {
        assert_eq!(request(b"d4:argsle4:name4:pinge"), Ok(Request::Ping));
        assert_eq!(request(b"di1ei2e4:argsle5:extra1:x4:name4:pinge"), Ok(Request::Ping));
        assert_eq!(request(b"d4:name4:ping4:argsd1:xi1eee"), Ok(Request::Ping));
    }

    #[test]
    fn a_limit_beyond_counting_means_all() {
        let limit = |limit: &str| {
            let payload = format!("d4:name9:findvalue4:argsl20:abcdefghij0123456789{limit}ee");
            match request(payload.as_bytes()) {
                Ok(Request::FindValue(search)) => Ok(search.limit),
                Ok(_) => panic!("a findvalue"),
                Err(error) => Err(error),
            }
        };
        assert_eq!(limit(""), Ok(1));
        assert_eq!(limit("i0e"), Ok(0));
        assert_eq!(limit("i-5e"), Ok(0));
        assert_eq!(limit("i-99999999999999999999e"), Ok(0));
        assert!(limit("i99999999999999999999e").unwrap() >= i64::MAX as usize);
        assert_eq!(limit("1:6"), Err(PayloadError::Shape));
    }

    #[test]
    fn what_is_no_request_is_refused_in_a_way_its_caller_understands() {
        let refusal = |payload: &[u8]| {
            let error = request(payload).expect_err("no request");
            written(|out| put_refusal(out, &HEADER, error))
        };
        assert_eq!(refusal(b"d4:name8:findnode4:argsl5:shortee"), with_payload(129, b"llee"));
        assert_eq!(refusal(b"d4:name8:findnode4:argslee"), with_payload(129, b"llee"));
        assert_eq!(
            refusal(b"d4:name9:findvalue4:argsl5:shortee"),
            with_payload(129, b"ld7:closestleee")
        );
        assert_eq!(
            refusal(b"d4:name5:store4:argsl5:shorti1eee"),
            with_payload(129, b"li0e30:store: the key is not 20 bytese")
        );
        assert_eq!(
            refusal(b"d4:name5:store4:argsl20:abcdefghij0123456789ee"),
            with_payload(129, b"li0e15:store: no valuee")
        );
        for failed in
            ["", "le", "i5e", "d4:namei3e4:argslee", "d4:name4:pinge", "d4:name4:ping4:argsi3ee"]
        {
            assert_eq!(refusal(failed.as_bytes()), datagram(131, b""), "{failed}");
        }
    }

    #[test]
    fn short_answers_in_bytes() {
        assert_response(b"li5ee", Response::Pong, |out| put_pong(out, &HEADER));
        assert_response(b"li1ee", Response::Stored, |out| put_stored(out, &HEADER));
        let refused = |reason: &str, token: Option<&[u8]>| Response::Refused {
            reason: reason.into(),
            token: token.map(<[u8]>::to_vec),
        };
        assert_response(b"li0e4:fulle", refused("full", None), |out| {
            put_refused(out, &HEADER, "full", None);
        });
        assert_response(b"li0e2:no3:\x01e\xffe", refused("no", Some(b"\x01e\xff")), |out| {
            put_refused(out, &HEADER, "no", Some(b"\x01e\xff"));
        });
        assert_eq!(response(Rpc::Store, b"li0ee"), Ok(refused("", None)));
        for token in ["i5e", "le", "d1:a1:be", &format!("65:{}", "t".repeat(65))] {
            let payload = format!("li0e2:no{token}e");
            assert_eq!(
                response(Rpc::Store, payload.as_bytes()),
                Ok(refused("no", None)),
                "{token}"
            );
        }
        let longest = "t".repeat(MAX_TOKEN);
        let payload = format!("li0e2:no64:{longest}e");
        let longest = refused("no", Some(longest.as_bytes()));
        assert_eq!(response(Rpc::Store, payload.as_bytes()), Ok(longest));
        assert_eq!(written(|out| put_no_such_rpc(out, &HEADER)), datagram(130, b""));
        assert_eq!(written(|out| put_failed(out, &HEADER)), datagram(131, b""));
    }

    #[test]
    fn sockets_in_bytes() {
        let socket = "127.0.0.1:9301".parse().unwrap();
        assert_response(b"ld4:addr9:127.0.0.14:porti9301eee", Response::Socket(socket), |out| {
            put_socket(out, &HEADER, socket);
        });
        let mapped = "[::ffff:127.0.0.1]:9301".parse().unwrap();
        let out = written(|out| put_socket(out, &HEADER, mapped));
        assert_eq!(out, with_payload(129, b"ld4:addr9:127.0.0.14:porti9301eee"));
    }

    #[test]
    fn contacts_in_bytes() {
        let contacts = vec![contact("127.0.0.1:8001"), contact("[::1]:8002")];
        let encoded: Vec<_> = contacts.iter().map(EncodedContact::new).collect();
        assert_response(
            b"lll9:127.0.0.1i8001e20:abcdefghij0123456789el3:::1i8002e20:abcdefghij0123456789eee",
            Response::Nodes(contacts),
            |out| put_nodes(out, &HEADER, encoded.iter(), MAX_REPLY),
        );
    }

    #[test]
    fn the_longest_contact_fits_its_place() {
        let longest = contact("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535");
        assert_eq!(EncodedContact::new(&longest).as_bytes().len(), EncodedContact::CAPACITY);
    }

    #[test]
    fn found_values_in_bytes() {
        let contacts = vec![contact("127.0.0.1:8001")];
        let encoded: Vec<_> = contacts.iter().map(EncodedContact::new).collect();
        let values = vec![Value::integer(1), Value::bytes("two")];
        assert_response(
            b"ld6:retvalli1e3:twoe7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789eeee",
            Response::Values { values: values.clone(), closest: contacts, rest: Rest::default() },
            |out| put_values(out, &HEADER, Some(values.iter()), encoded.iter(), MAX_REPLY),
        );
        assert_response(
            b"ld7:closestleee",
            Response::Values { values: vec![], closest: vec![], rest: Rest::default() },
            |out| put_values(out, &HEADER, None::<std::iter::Empty<_>>, [].iter(), MAX_REPLY),
        );
    }

    #[test]
    fn what_lies_there_beside_is_told_in_bytes() {
        let value = Value::integer(1);
        let rest = Rest { more: 7, next: Some(ID), token: Some(b"t\xffken".to_vec()) };
        assert_response(
            b"ld4:morei7e4:next20:abcdefghij01234567895:token5:t\xffken6:retvalli1ee7:closestleee",
            Response::Values { values: vec![value.clone()], closest: vec![], rest: rest.clone() },
            |out| {
                let values = Some([&value].into_iter());
                put_values_of_more(out, &HEADER, values, &rest, [].iter(), MAX_REPLY);
            },
        );
        for (nonsense, more) in [("4:more1:x", 0), ("4:morei-1e", 0), ("4:nextle5:tokeni1e", 0)] {
            let payload = format!("ld{nonsense}7:closestleee");
            let Ok(Response::Values { rest, .. }) = response(Rpc::FindValue, payload.as_bytes())
            else {
                panic!("{nonsense}")
            };
            assert_eq!(rest, Rest { more, ..Rest::default() }, "{nonsense}");
        }
        let longest = Rest { more: usize::MAX, next: Some(ID), token: Some(vec![0; MAX_TOKEN]) };
        let bytes = written(|out| put_rest(out, &longest)).len();
        assert!((REST_MAX - 1..=REST_MAX).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_value_that_cannot_be_read_hides_neither_values_nor_contacts() {
        let deep = format!("{}{}", "l".repeat(62), "e".repeat(62));
        let payload = format!(
            "ld7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789ee6:retvall2:ok{deep}i7eeee"
        );
        let Ok(Response::Values { values, closest, .. }) =
            response(Rpc::FindValue, payload.as_bytes())
        else {
            panic!("values")
        };
        assert_eq!(values, [Value::bytes("ok"), Value::integer(7)]);
        assert_eq!(closest, [contact("127.0.0.1:8001")]);
        // In any order, and however it cannot be read.
        let deep = "l".repeat(1_000) + &"e".repeat(1_000);
        for spoilt in [&deep, "i1e+14e", "d1:ai-1.5e+20ee", "03:abc", "i-infe"] {
            let payload = format!(
                "ld6:retvall2:ok{spoilt}i7ee7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789eeee"
            );
            let read = response(Rpc::FindValue, payload.as_bytes());
            let Ok(Response::Values { values: read, closest, .. }) = read else {
                panic!("{spoilt}: {read:?}")
            };
            assert_eq!((read, closest.len()), (values.clone(), 1), "{spoilt}");
        }
    }

    #[test]
    fn a_value_fills_the_largest_datagram_to_the_last_byte() {
        const AROUND: usize = 32 + b"ld6:retvall16000:e7:closestleee".len();
        let fill = |len| {
            let value = Value::bytes(vec![b'v'; len]);
            written(|out| {
                put_values(out, &HEADER, Some([&value].into_iter()), [].iter(), MAX_DATAGRAM);
            })
            .len()
        };
        assert_eq!(fill(MAX_DATAGRAM - AROUND), MAX_DATAGRAM);
        assert_eq!(fill(MAX_DATAGRAM - AROUND + 1), 32 + b"ld6:retvalle7:closestleee".len());
    }

    #[test]
    fn returned_values_in_bytes() {
        let values = vec![Value::integer(1), Value::bytes("two")];
        assert_response(b"li1e3:twoe", Response::Returned(values.clone()), |out| {
            put_returned(out, &HEADER, &values);
        });
    }

    #[test]
    fn contacts_that_are_none_are_left_out() {
        let bad = [
            "i5e",
            "le",
            "l9:127.0.0.1i8001ee",
            "l9:127.0.0.1i8001e5:shorte",
            "l9:127.0.0.1i0e20:abcdefghij0123456789e",
            "l9:127.0.0.1i65536e20:abcdefghij0123456789e",
            "l9:127.0.0.1i-1e20:abcdefghij0123456789e",
            "l9:localhosti8001e20:abcdefghij0123456789e",
            "l7:0.0.0.0i8001e20:abcdefghij0123456789e",
            "l9:224.0.0.1i8001e20:abcdefghij0123456789e",
            "l2:::i8001e20:abcdefghij0123456789e",
        ];
        let good = "l9:127.0.0.1i8001e20:abcdefghij0123456789e";
        let payload = format!("ll{}{good}ee", bad.concat());
        let nodes = Response::Nodes(vec![contact("127.0.0.1:8001")]);
        assert_eq!(response(Rpc::FindNode, payload.as_bytes()), Ok(nodes));
    }

    #[test]
    fn contacts_beyond_k_are_not_read() {
        let good = "l9:127.0.0.1i8001e20:abcdefghij0123456789e";
        let payload = format!("ll{}ee", good.repeat(1_000));
        let Ok(Response::Nodes(nodes)) = response(Rpc::FindNode, payload.as_bytes()) else {
            panic!("contacts")
        };
        assert_eq!(nodes.len(), MAX_CONTACTS);
    }

    #[test]
    fn a_number_that_an_original_spoilt_leaves_the_contacts() {
        let spoilt = b"ld7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789ee6:retvalli1e+14eeee";
        let closest = vec![contact("127.0.0.1:8001")];
        let expected = Response::Values { values: vec![], closest, rest: Rest::default() };
        assert_eq!(response(Rpc::FindValue, spoilt), Ok(expected));
        assert!(response(Rpc::FindNode, spoilt).is_err());
        assert!(response(Rpc::FindValue, b"ld7:closesti5ei1.5eee").is_err());
        assert!(response(Rpc::FindValue, b"ld7:closestlli1.5e").is_err());
    }

    #[test]
    fn answers_of_another_shape_are_refused() {
        let refused = |kind, payload: &str| response(kind, payload.as_bytes()).is_err();
        for kind in [Rpc::Ping, Rpc::FindNode, Rpc::FindValue, Rpc::Store, Rpc::GetSocket] {
            for payload in ["", "le", "de", "i5e", "4:text", "l", "li5e", "li5eex"] {
                assert!(refused(kind, payload), "{kind:?} {payload}");
            }
        }
        assert!(refused(Rpc::FindNode, "li0ee"));
        assert!(refused(Rpc::FindNode, "ld1:ai1eee"));
        assert!(refused(Rpc::FindValue, "li0ee"));
        assert!(refused(Rpc::FindValue, "ld7:closesti5eee"));
        assert!(refused(Rpc::GetSocket, "ld4:addr9:localhost4:porti1eee"));
        assert!(refused(Rpc::GetSocket, "ld4:addr9:127.0.0.1ee"));
    }

    #[test]
    fn an_empty_table_is_a_findvalue_that_found_nothing() {
        let nothing = Response::Values { values: vec![], closest: vec![], rest: Rest::default() };
        assert_eq!(response(Rpc::FindValue, b"llee"), Ok(nothing));
    }
}
