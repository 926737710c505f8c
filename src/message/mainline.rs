//! What nodes of Mainline ask and answer beside ping and find_node: peers of torrents (BEP 5, BEP 33), items
//! (BEP 44), samples of what they know (BEP 51).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::bencode::Item;
use crate::bloom::Filter;
use crate::id::Id;
use crate::message::Contact;
use crate::serial::Bytes;
use crate::signed::{Content, PublicKey, Signature, immutable_target};

/// Codes of errors.
pub mod code {
    /// Something went wrong.
    pub const GENERIC: i64 = 201;
    /// Something went wrong at the node that was asked.
    pub const SERVER: i64 = 202;
    /// The message is malformed, an argument is wrong, or the token is.
    pub const PROTOCOL: i64 = 203;
    /// There is no such RPC.
    pub const UNKNOWN_RPC: i64 = 204;
    /// The value is too large.
    pub const VALUE_TOO_LARGE: i64 = 205;
    /// The signature does not fit.
    pub const BAD_SIGNATURE: i64 = 206;
    /// The salt is too long.
    pub const SALT_TOO_LARGE: i64 = 207;
    /// What is stored is not what the sender believes.
    pub const CAS_MISMATCH: i64 = 301;
    /// What is stored is newer.
    pub const SEQ_TOO_LOW: i64 = 302;
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Who shares this torrent?
    GetPeers(GetPeers),
    /// I share this torrent.
    AnnouncePeer(AnnouncePeer<'a>),
    /// What lies here?
    Get(GetItem),
    /// Keep this.
    Put(PutItem<'a>),
    /// Of which torrents do you know peers?
    SampleInfohashes {
        /// Contacts near to it are wanted too.
        target: Id,
    },
}

impl Query<'_> {
    /// Which RPC this is.
    pub fn kind(&self) -> Kind {
        match self {
            Query::GetPeers(_) => Kind::GetPeers,
            Query::AnnouncePeer(_) => Kind::AnnouncePeer,
            Query::Get(_) => Kind::Get,
            Query::Put(_) => Kind::Put,
            Query::SampleInfohashes { .. } => Kind::SampleInfohashes,
        }
    }
}

/// The RPCs by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Query::GetPeers`].
    GetPeers,
    /// [`Query::AnnouncePeer`].
    AnnouncePeer,
    /// [`Query::Get`].
    Get,
    /// [`Query::Put`].
    Put,
    /// [`Query::SampleInfohashes`].
    SampleInfohashes,
}

/// A search for peers at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetPeers {
    /// The torrent.
    pub info_hash: Id,
    /// Whether peers that have all of it are of no use.
    pub no_seeds: bool,
    /// Whether filters of all peers are wanted too.
    pub scrape: bool,
}

/// A peer to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncePeer<'a> {
    /// The torrent.
    pub info_hash: Id,
    /// Where the peer listens: a port, or the one that it asks from. A port of 0 says nothing, and stands
    /// only beside the other.
    pub port: u16,
    /// Whether it listens where it asks from, whatever `port` says.
    pub is_port_implied: bool,
    /// Whether it has all of the torrent.
    pub is_seed: bool,
    /// What the node gave it with an answer before.
    pub token: &'a [u8],
}

/// A search for an item at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetItem {
    /// Where it lies.
    pub target: Id,
    /// The number of the version that is known; only a newer one is wanted.
    pub seq: Option<i64>,
}

/// An item to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutItem<'a> {
    /// Where it is to lie, as the sender says; the item itself decides.
    pub target: Option<Id>,
    /// What the node gave the sender with an answer before.
    pub token: &'a [u8],
    /// The value.
    pub value: Item<'a>,
    /// Whose it is; `None` for an item that nobody can change.
    pub proof: Option<Proof<'a>>,
    /// The number of the version that is to be replaced.
    pub cas: Option<i64>,
}

impl PutItem<'_> {
    /// Where the item lies.
    pub fn place(&self) -> Id {
        match &self.proof {
            Some(proof) => proof.key.target(proof.salt),
            None => immutable_target(self.value.as_bytes()),
        }
    }
}

/// Who wrote an item, and which version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The author's key.
    pub key: PublicKey,
    /// Tells items of one key apart; empty for none. Answers do not tell it.
    pub salt: &'a [u8],
    /// The higher, the newer.
    pub seq: i64,
    /// Covers the salt, the number and the value.
    pub signature: Signature,
}

impl Proof<'_> {
    /// Whether it holds for a value.
    pub fn holds(&self, value: &[u8]) -> bool {
        let content = Content { salt: self.salt, seq: self.seq, value };
        content.is_signed_by(&self.key, &self.signature)
    }
}

/// What is in an answer beside contacts, as it lies at hand where it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answer<'a> {
    /// All peers of a torrent, as filters.
    pub filters: Option<&'a Filters>,
    /// What the node knows of torrents.
    pub sample: Option<Sample<'a>>,
    /// Whose the item is.
    pub key: Option<&'a PublicKey>,
    /// Its number.
    pub seq: Option<i64>,
    /// Its signature.
    pub signature: Option<&'a Signature>,
    /// What the sender may write here with.
    pub token: Option<&'a [u8]>,
    /// The value of the item, bencoded.
    pub value: Option<&'a [u8]>,
    /// Peers of a torrent.
    pub peers: Option<&'a [SocketAddr]>,
}

/// Torrents of which a node knows peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Seconds until the sample will be another.
    pub interval: u32,
    /// Of how many it is one.
    pub of: usize,
    /// The torrents.
    pub info_hashes: &'a [Id],
}

/// All peers of a torrent that a node knows, without their addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// Those that have all of it.
    #[serde(with = "crate::serial::text")]
    pub seeds: Filter,
    /// The others.
    #[serde(with = "crate::serial::text")]
    pub peers: Filter,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a get_peers.
    Peers {
        /// Some of the peers.
        peers: Vec<SocketAddr>,
        /// All of them.
        filters: Option<Box<Filters>>,
        /// The nearest contacts.
        closest: Vec<Contact>,
        /// What may be announced with.
        token: Option<Bytes>,
    },
    /// To a get.
    Item {
        /// The value, bencoded.
        value: Option<Bytes>,
        /// Whose it is.
        key: Option<PublicKey>,
        /// Its number; without a value, the number of what is not newer than asked for.
        seq: Option<i64>,
        /// Its signature.
        signature: Option<Signature>,
        /// The nearest contacts.
        closest: Vec<Contact>,
        /// What may be put with.
        token: Option<Bytes>,
    },
    /// To a sample_infohashes.
    Sample {
        /// Seconds until the sample will be another.
        interval: u32,
        /// Of how many it is one.
        of: usize,
        /// The torrents.
        info_hashes: Vec<Id>,
        /// The nearest contacts.
        closest: Vec<Contact>,
    },
}
