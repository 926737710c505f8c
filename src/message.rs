//! Messages: what nodes ask of each other and what they answer, whatever the encoding.
//!
//! No bytes of any wire format here, and no rules about who may ask what. Requests borrow from the
//! datagram they were read from, so that reading one allocates nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::bencode::{Item, List, Value};
use crate::id::Id;
use crate::time::Duration;

/// A node as others know it: its id and where it receives datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Place", into = "Place")]
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
pub(crate) struct Place {
    #[serde(with = "crate::serial::text")]
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Id>,
}

impl From<Contact> for Place {
    fn from(Contact { id, address }: Contact) -> Place {
        Place { address: address.ip(), port: address.port(), id: Some(id) }
    }
}

impl TryFrom<Place> for Contact {
    type Error = &'static str;

    fn try_from(place: Place) -> Result<Contact, &'static str> {
        let id = place.id.ok_or("a contact has an id")?;
        Ok(Contact { id, address: SocketAddr::new(place.address, place.port) })
    }
}

/// The number that ties a reply to its request, drawn at random by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcId(pub [u8; 8]);

impl fmt::Debug for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
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
        /// Its arguments.
        args: List<'a>,
    },
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
        }
    }
}

/// The RPCs by name; a reply can only be read by one who knows what was asked.
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
}

/// A search for values at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindValue<'a> {
    /// The key that is looked for.
    pub key: Id,
    /// How many values are wanted at most.
    pub limit: usize,
    /// Where to go on: the values in the order of their SHA-1, from behind this on. `None` for a choice
    /// of the node's.
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
        /// Sent once more with this token, which shows that the sender receives what is sent to its
        /// address, it may be kept.
        token: Option<Vec<u8>>,
    },
    /// To a getsocket: where the request came from.
    Socket(SocketAddr),
    /// To an application's RPC: the values it returned.
    Returned(Vec<Value>),
    /// The node knows no RPC of that name.
    NoSuchRpc,
    /// The RPC failed there.
    Failed,
}
