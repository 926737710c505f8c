//! KRPC, the protocol of BitTorrent's Mainline DHT (BEP 5): one message is one datagram, a bencoded dictionary.
//!
//! ```text
//! d 1:a d 2:id 20:… 6:target 20:… e 1:q 9:find_node 1:t 4:… 1:v 4:… 1:y 1:q e     a query
//! d 2:ip 6:… 1:r d 2:id 20:… 5:nodes 208:… e 1:t 4:… 1:v 4:… 1:y 1:r e            a response
//! d 1:e l i203e 9:no target e 2:ip 6:… 1:t 4:… 1:v 4:… 1:y 1:e e                  an error
//! ```
//!
//! | key | in | value |
//! |---|---|---|
//! | `t` | all | transaction id, echoed to the last byte |
//! | `y` | all | `q`, `r` or `e` |
//! | `q`, `a` | queries | name of the RPC; its arguments, with the sender's `id` |
//! | `r` | responses | a dictionary, with the sender's `id` |
//! | `e` | errors | code and text |
//! | `v` | any | the program and its version; ours is [`VERSION`] |
//! | `ip` | responses, errors | the address of the asker, as it is seen (BEP 42) |
//! | `ro` | queries | 1: I answer nothing, keep me out of your table (BEP 43) |
//!
//! An address is 4 or 16 bytes and a port, a contact an id and an address, all big-endian. `nodes` holds those
//! of IPv4, `nodes6` those of IPv6 (BEP 32).
//!
//! What is written is strict: keys sorted, ids of 4 bytes, both `port` and `implied_port`. What is read may have
//! its keys in any order, unknown ones among them, and bytes behind its end. A node that sends
//! something odd beside what is needed is no worse for it: a `nodes` that cannot be read counts as none, contacts
//! that nobody can be sent anything at are left out, and so are ids that come twice.
//!
//! Requests are read in place, and answers are copied together from contacts that were encoded once, so that
//! answering allocates nothing.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub(super) use read::{parse, request_counting, response};
pub(super) use write::{answer_len, encode_contact, put_answer, put_message};

use crate::config::MAX_K;
use crate::message::{Rpc, mainline::Kind};
use crate::wire::Sizes;

/// First byte of every datagram: of a dictionary.
pub(super) const FIRST: u8 = b'd';

/// Who wrote a message: a program in two letters, and its version.
const VERSION: [u8; 4] = [b'K', b'L', 0, 1];

pub(super) const SIZES: Sizes = Sizes {
    datagram_max: 4_096,
    answer_max: 1_400,
    ping: b"d1:ad2:id20:".len() + 20 + b"e1:q4:ping1:t4:....1:v4:....1:y1:qe".len(),
    bare_lookup: b"d1:ad2:id20:".len()
        + 20
        + b"9:info_hash20:".len()
        + 20
        + b"e1:q9:get_peers1:t4:....1:v4:....1:y1:qe".len(),
    custom_max: 1_000,
    around_returned: 0,
    token_max: MAX_TOKEN,
    route: 0,
    route_hop: 0,
};

/// Longest token that is taken and given back; jech's nodes drop longer ones than 40.
const MAX_TOKEN: usize = 64;

/// Contacts of one family that are read from one answer at the most: as many as some nodes name.
const MAX_CONTACTS: usize = MAX_K;

/// Peers that are read from one answer at the most: what a datagram has room for.
const MAX_PEERS: usize = 512;

/// Torrents that are read from one answer at the most, as for peers.
const MAX_SAMPLES: usize = 200;

/// The RPCs that the protocol defines.
const NAMES: [(&[u8], Rpc); 7] = [
    (b"ping", Rpc::Ping),
    (b"find_node", Rpc::FindNode),
    (b"get_peers", Rpc::Mainline(Kind::GetPeers)),
    (b"announce_peer", Rpc::Mainline(Kind::AnnouncePeer)),
    (b"get", Rpc::Mainline(Kind::Get)),
    (b"put", Rpc::Mainline(Kind::Put)),
    (b"sample_infohashes", Rpc::Mainline(Kind::SampleInfohashes)),
];

/// Which RPC a name stands for; [`Rpc::Custom`] for one that the protocol does not define.
pub(super) fn rpc_named(name: &[u8]) -> Rpc {
    NAMES.iter().find(|(known, _)| *known == name).map_or(Rpc::Custom, |(_, kind)| *kind)
}
