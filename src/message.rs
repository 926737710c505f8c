//! Messages: what nodes ask of each other and what they answer, whatever the encoding.
//!
//! No bytes of any wire format here, and no rules about who may ask what. Requests borrow from the
//! datagram they were read from, so that reading one allocates nothing.

pub mod mainline;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::bencode::{Item, List, Value};
use crate::id::{Id, IdPrefix};
use crate::time::Duration;

/// A node as others know it: its id and where it receives datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "ContactFields", into = "ContactFields")]
pub struct Contact {
    /// The node's id.
    pub id: Id,
    /// Address and UDP port.
    pub address: SocketAddr,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// How contacts and peers are serialised.
#[derive(Serialize, Deserialize)]
#[serde(rename = "contact")]
pub(crate) struct ContactFields {
    #[serde(with = "crate::serial::text")]
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Id>,
}

impl From<Contact> for ContactFields {
    fn from(Contact { id, address }: Contact) -> ContactFields {
        ContactFields { address: address.ip(), port: address.port(), id: Some(id) }
    }
}

impl TryFrom<ContactFields> for Contact {
    type Error = &'static str;

    fn try_from(place: ContactFields) -> Result<Contact, &'static str> {
        let id = place.id.ok_or("a contact has an id")?;
        Ok(Contact { id, address: SocketAddr::new(place.address, place.port) })
    }
}

/// What ties a reply to its request: the caller chooses it, and the reply repeats it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId {
    len: u8,
    bytes: [u8; TransactionId::MAX],
}

impl TransactionId {
    /// Bytes of the longest. Kademlua v1 has 8; callers of Mainline take 1 to 6, and no node of it is
    /// known to give back one much longer than this.
    pub const MAX: usize = 32;

    /// One of as many bytes as the array has, at most [`TransactionId::MAX`].
    #[inline]
    pub const fn new<const N: usize>(bytes: [u8; N]) -> TransactionId {
        const { assert!(N <= TransactionId::MAX) };
        let mut all = [0; TransactionId::MAX];
        let (head, _) = all.split_at_mut(N);
        head.copy_from_slice(&bytes);
        TransactionId { len: N as u8, bytes: all }
    }

    /// The same from a slice; `None` if it is longer than [`TransactionId::MAX`].
    pub fn from_slice(bytes: &[u8]) -> Option<TransactionId> {
        let mut all = [0; TransactionId::MAX];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(TransactionId { len: bytes.len() as u8, bytes: all })
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A contact as answers carry it, encoded once and copied into each. Only a codec knows what the bytes
/// mean.
#[derive(Clone)]
pub struct EncodedContact {
    len: u8,
    bytes: [u8; EncodedContact::MAX],
}

impl EncodedContact {
    /// Bytes of the longest, which is v1's of an IPv6 address.
    pub const MAX: usize = 74;

    /// The encoded bytes, as a codec wrote them.
    ///
    /// # Panics
    /// If there are more than [`EncodedContact::MAX`].
    pub fn new(encoded: &[u8]) -> EncodedContact {
        let mut bytes = [0; EncodedContact::MAX];
        bytes[..encoded.len()].copy_from_slice(encoded);
        EncodedContact { len: encoded.len() as u8, bytes }
    }

    /// The encoded bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What one node asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Are you there?
    Ping,
    /// Which contacts do you know nearest to this id?
    FindNode {
        /// The id that is looked for.
        target: Id,
    },
    /// Which values do you hold under this key, and which contacts do you know nearest to it?
    FindValue(FindValue<'a>),
    /// Keep this value.
    Store(StoreRequest<'a>),
    /// From which address and port does this datagram come?
    GetSocket,
    /// An RPC that an application defines.
    Custom {
        /// Its name.
        name: &'a [u8],
        /// Its arguments. In Mainline the first is a dictionary of all.
        args: List<'a>,
    },
    /// What only nodes of Mainline ask.
    Mainline(mainline::Query<'a>),
}

impl Request<'_> {
    /// Which RPC this is.
    pub fn kind(&self) -> Rpc {
        match self {
            Request::Ping => Rpc::Ping,
            Request::FindNode { .. } => Rpc::FindNode,
            Request::FindValue(_) => Rpc::FindValue,
            Request::Store(_) => Rpc::Store,
            Request::GetSocket => Rpc::GetSocket,
            Request::Custom { .. } => Rpc::Custom,
            Request::Mainline(query) => Rpc::Mainline(query.kind()),
        }
    }
}

/// The RPCs by name. Reading a reply takes knowing which of them was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rpc {
    /// [`Request::Ping`].
    Ping,
    /// [`Request::FindNode`].
    FindNode,
    /// [`Request::FindValue`].
    FindValue,
    /// [`Request::Store`].
    Store,
    /// [`Request::GetSocket`].
    GetSocket,
    /// [`Request::Custom`].
    Custom,
    /// [`Request::Mainline`].
    Mainline(mainline::Kind),
}

/// A search for values at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindValue<'a> {
    /// The key that is looked for.
    pub key: Id,
    /// How many values are wanted at most.
    pub limit: usize,
    /// Where to go on: the values behind this digest, in the order of their SHA-1. `None` lets the node
    /// choose.
    pub after: Option<Id>,
    /// The token that the node gave to the sender, empty if it gave none; `None` where the sender knows
    /// of no tokens, as originals do not.
    pub token: Option<&'a [u8]>,
}

impl FindValue<'_> {
    /// A search as an original makes it.
    pub fn new(key: Id, limit: usize) -> Self {
        FindValue { key, limit, after: None, token: None }
    }

    /// Whether the sender is no original.
    pub fn is_extended(&self) -> bool {
        self.after.is_some() || self.token.is_some()
    }
}

/// A value to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRequest<'a> {
    /// The key it is stored under.
    pub key: Id,
    /// The value.
    pub value: Item<'a>,
    /// What becomes of copies of the sender's earlier values.
    pub mode: StoreMode,
    /// Present where a holder passes on what another node had stored.
    pub copy: Option<CopyOf>,
    /// The token with which the holder has answered an earlier store, empty if the sender has none;
    /// `None` where the sender knows of no tokens, as originals do not.
    pub token: Option<&'a [u8]>,
}

impl StoreRequest<'_> {
    /// Whether the sender is no original.
    pub fn is_extended(&self) -> bool {
        self.copy.is_some() || self.token.is_some()
    }
}

/// Whether a stored value comes beside copies of what the same publisher stored earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// Copies of the publisher's earlier values stay until they expire.
    Add,
    /// Copies of the publisher's earlier values are dropped.
    Replace,
}

/// Whose value a copy is, as the holder that passes it on claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOf {
    /// The node that published the value; `None` where that is the sender, which republishes what
    /// it published before.
    pub publisher: Option<Contact>,
    /// How long ago it was published; counted in whole seconds on the wire.
    pub age: Duration,
}

/// What a node keeps under a key beside the values that it returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// How many other values there are, at least.
    pub more: usize,
    /// Where to go on asking for them; see [`FindValue::after`].
    pub next: Option<Id>,
    /// Values were held back because the address of the asker is not validated. Asked once more with
    /// this token, the node returns them.
    pub token: Option<Vec<u8>>,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To a ping.
    Pong,
    /// To a findnode: the contacts nearest to the target.
    Nodes(Vec<Contact>),
    /// To a findvalue: values, none if nothing is stored, and the contacts nearest to the key.
    Values {
        /// What is stored under the key.
        values: Vec<Value>,
        /// The nearest contacts.
        closest: Vec<Contact>,
        /// What else is stored there; originals do not tell.
        rest: Rest,
    },
    /// To a store: the value is kept.
    Stored,
    /// To a store: the value is not kept.
    Refused {
        /// Why; empty where an original refuses.
        reason: String,
        /// With this token, which proves that the sender receives at its address, the same store
        /// may succeed.
        token: Option<Vec<u8>>,
    },
    /// To a getsocket: where the request came from.
    Socket(SocketAddr),
    /// To an application's RPC: the values it returned.
    Returned(Vec<Value>),
    /// To what only nodes of Mainline ask.
    Mainline(mainline::Reply),
}

/// A request that nodes hand on toward a key, or the answer that comes back: its sender need not know how
/// a DHT works. Whatever else is around it, the fields are those that each node on the way looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// How it is to be treated.
    pub flags: RouteFlags,
    /// How many more times it may be handed on.
    pub hops_left: u8,
    /// How many of the nearest contacts each node passes over.
    pub skip: u8,
    /// What is asked.
    pub kind: RouteKind,
    /// The key it is on its way to.
    pub key: Id,
    /// Where the answer goes: the entry, or with [`RouteFlags::DIRECT`] the client. Unspecified where the
    /// entry does not know how others reach it; the next node then fills in where it came from.
    pub answer_to: SocketAddr,
    /// Bytes of the largest answer.
    pub budget: u16,
    /// Who asked the entry.
    pub client: SocketAddr,
    /// When `seal` was made, in the entry's own units.
    pub stamp: u16,
    /// Between nodes the entry's ticket, between client and entry the client's address token.
    pub seal: [u8; 8],
    /// The encoded value of a store, or the encoded find of an answer.
    pub payload: &'a [u8],
    /// What stands behind the payload: padding, or with [`RouteFlags::TRACE`] the nodes that it passed.
    pub rest: &'a [u8],
}

impl Route<'_> {
    /// What `answer_to` is where nobody has filled it in, and `client` before the entry.
    pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
}

/// How a [`Route`] is to be treated. Flags that are not known are handed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFlags(pub u8);

impl RouteFlags {
    /// The answer goes to the client itself.
    pub const DIRECT: RouteFlags = RouteFlags(1);
    /// The entry says that the client receives datagrams at its address.
    pub const PROVED: RouteFlags = RouteFlags(2);
    /// Each node that it passes leaves a mark.
    pub const TRACE: RouteFlags = RouteFlags(4);
    /// The entry is to look it up itself, node by node.
    pub const ITERATE: RouteFlags = RouteFlags(8);

    /// Whether all flags of `other` are set.
    pub fn has(self, other: RouteFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags with those of `other`, or without them.
    #[must_use]
    pub fn with(self, other: RouteFlags, set: bool) -> RouteFlags {
        RouteFlags(if set { self.0 | other.0 } else { self.0 & !other.0 })
    }
}

/// What a [`Route`] asks of the node that it ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Who are you?
    Locate,
    /// Which values do you hold under the key?
    FindValue,
    /// Of the entry alone: store this value.
    Store,
}

impl RouteKind {
    /// As it is serialised.
    pub fn name(self) -> &'static str {
        match self {
            RouteKind::Locate => "locate",
            RouteKind::FindValue => "findvalue",
            RouteKind::Store => "store",
        }
    }
}

/// What a [`Route`] has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteAnswer {
    /// To a locate: the node that it ended at.
    Located(Contact),
    /// To a findvalue: values.
    Values(Vec<Value>),
    /// To a findvalue: values lie at this node, and do not fit.
    HeldAt(Contact),
    /// To a findvalue: nobody nearer is known, and nothing is held.
    Nothing,
    /// To a store: it is kept.
    Stored,
    /// To a store: it is not kept.
    Refused {
        /// Why.
        reason: String,
    },
    /// The answer did not fit.
    Cut,
}

/// A node that a [`Route`] with [`RouteFlags::TRACE`] passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHop {
    /// How its id begins.
    pub id: IdPrefix,
    /// Microseconds since the entry's stamp; 0 where the node's clock is not the entry's.
    pub micros: u32,
}

/// What a node says in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcError {
    /// It knows no RPC of that name.
    NoSuchRpc,
    /// The RPC failed there.
    Failed,
}

/// What a node says in place of an answer where the dialect has codes and texts for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodedError<'a> {
    /// What is wrong; [`mainline::code`] has those of Mainline.
    pub code: i64,
    /// The same in words, as whoever wrote them likes.
    pub text: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_has_any_length_up_to_its_bound() {
        for len in 0..=TransactionId::MAX {
            let bytes = vec![7; len];
            let id = TransactionId::from_slice(&bytes).unwrap();
            assert_eq!(id.as_bytes(), bytes);
            assert_eq!(format!("{id:?}"), "07".repeat(len));
        }
        assert_eq!(TransactionId::from_slice(&[7; TransactionId::MAX + 1]), None);
        assert_eq!(TransactionId::from_slice(b"question"), Some(TransactionId::new(*b"question")));
        // Zeros at the end count.
        assert_ne!(TransactionId::new([0; 2]), TransactionId::new([0; 4]));
    }
}
