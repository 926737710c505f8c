//! What people and tools ask of a node, and what they get: plain data, without behaviour.
//!
//! Formatting is left to the shell, meaning to the node.

use std::net::SocketAddr;

use crate::bencode::Value;
use crate::id::Id;
use crate::kad::lookup::{Goal, LookupRecord};
use crate::kad::routing::{Entry, Table};
use crate::message::{Contact, Response, StoreMode};
use crate::node::{CallError, Counters, Event, Node, OperationId, Peer, StoreReport};
use crate::store::Refusal;
use crate::time::{Duration, Instant};

/// Something a node can be asked to start.
#[derive(Clone, Debug)]
pub enum Command {
    /// Join the network through nodes at these addresses.
    Bootstrap(Vec<SocketAddr>),
    /// Search for nodes or values.
    Lookup(Goal),
    /// Store a value.
    Store {
        /// The key.
        key: Id,
        /// The value.
        value: Value,
        /// Beside older values, or instead of them.
        mode: StoreMode,
    },
    /// Ask a peer whether it is there.
    Ping(Peer),
    /// Ask a peer under which address it sees this node.
    GetSocket(Peer),
    /// Call an RPC that an application at a peer has registered.
    Call {
        /// The peer.
        peer: Peer,
        /// The RPC.
        name: Vec<u8>,
        /// Its arguments.
        args: Vec<Value>,
    },
}

/// What a [`Command`] came to.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Command::Bootstrap`].
    Bootstrapped {
        /// How many of the addresses answered.
        answered: usize,
        /// The addresses that did not.
        silent: Vec<SocketAddr>,
    },
    /// To [`Command::Lookup`].
    Lookup(LookupRecord),
    /// To [`Command::Store`].
    Stored(StoreReport),
    /// To [`Command::Ping`], [`Command::GetSocket`] and [`Command::Call`]: the answer and its round
    /// trip.
    Called(Result<(Response, Duration), CallError>),
}

/// Why a [`Command`] was not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The value cannot be stored.
    #[error(transparent)]
    Store(#[from] Refusal),
    /// The call cannot be made.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Command {
    /// Starts the command. Its reply comes as an [`Event`] that [`reply`] recognises.
    ///
    /// # Errors
    /// If it cannot be begun.
    pub fn start(self, node: &mut Node, now: Instant) -> Result<OperationId, CommandError> {
        Ok(match self {
            Command::Bootstrap(addresses) => node.start_bootstrap(now, &addresses),
            Command::Lookup(goal) => node.start_lookup(now, goal),
            Command::Store { key, value, mode } => node.start_store(now, key, value, mode)?,
            Command::Ping(peer) => node.start_ping(now, peer),
            Command::GetSocket(peer) => node.start_get_socket(now, peer),
            Command::Call { peer, name, args } => node.start_call(now, peer, &name, &args)?,
        })
    }
}

/// The reply in an event and the operation that it ends.
///
/// # Errors
/// Gives the event back if it is no reply.
#[expect(clippy::result_large_err, reason = "what is no reply is the event itself, given back")]
pub fn reply(event: Event) -> Result<(OperationId, Reply), Event> {
    match event {
        Event::Bootstrapped { id, answered, silent } => {
            Ok((id, Reply::Bootstrapped { answered, silent }))
        }
        Event::LookupDone(record) => Ok((record.id, Reply::Lookup(record))),
        Event::StoreDone(report) => Ok((report.id, Reply::Stored(report))),
        Event::CallDone { id, outcome, rtt, .. } => {
            Ok((id, Reply::Called(outcome.map(|response| (response, rtt)))))
        }
        Event::Request { .. }
        | Event::ContactAdded(_)
        | Event::ContactLost(_)
        | Event::Crowded(_)
        | Event::Flood { .. }
        | Event::BootstrapNodeSilent(_)
        | Event::Twin(_)
        | Event::OwnAddressChanged { .. } => Err(event),
    }
}

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: Id,
    /// Time since it began.
    pub uptime: Duration,
    /// Live contacts in the routing table.
    pub contacts: usize,
    /// Estimated number of nodes in the network, this one included.
    pub estimate: f64,
    /// Contacts that a bucket has room for.
    pub k: usize,
    /// The routing table, the farthest bucket first.
    pub buckets: Vec<BucketSnapshot>,
    /// Keys under which values are kept here.
    pub stored_keys: usize,
    /// Values kept here, copies counted one by one.
    pub stored_values: usize,
    /// Memory for these values, in bytes.
    pub stored_bytes: usize,
    /// Operations under way.
    pub operations: usize,
    /// Counters since the node began.
    pub counters: Counters,
}

/// A bucket of the routing table at one moment.
#[derive(Clone, Debug)]
pub struct BucketSnapshot {
    /// Leading bits that its contacts share with the own id: exactly so many, or at least so many
    /// in the last bucket.
    pub prefix_bits: usize,
    /// Whether it holds the range of the own id.
    pub is_last: bool,
    /// Its contacts, the least recently seen first.
    pub contacts: Vec<ContactSnapshot>,
    /// Contacts that it has room for.
    pub room: usize,
    /// Contacts that wait for a place, the most recently seen last.
    pub replacements: Vec<Contact>,
    /// Time since something was last looked up in its range.
    pub idle: Duration,
}

/// A contact of the routing table at one moment.
#[derive(Clone, Debug)]
pub struct ContactSnapshot {
    /// Who.
    pub contact: Contact,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Time since it last sent something.
    pub last_seen: Duration,
    /// Requests in a row that it left unanswered.
    pub failures: u32,
    /// Whether it is taken for dead.
    pub stale: bool,
}

impl Snapshot {
    /// The node as it is now.
    pub fn of(node: &Node, now: Instant) -> Snapshot {
        let buckets = node.table().buckets();
        let bucket = |(prefix_bits, _)| BucketSnapshot::of(node.table(), prefix_bits, now);
        Snapshot {
            id: node.id(),
            uptime: now.since(node.started()),
            contacts: node.table().len(),
            estimate: node.estimate().nodes,
            k: node.config().k,
            buckets: buckets.iter().enumerate().map(bucket).collect(),
            stored_keys: node.store().key_count(),
            stored_values: node.store().value_count(),
            stored_bytes: node.store().bytes(),
            operations: node.operation_count(),
            counters: node.counters(),
        }
    }
}

impl BucketSnapshot {
    fn of(table: &Table, prefix_bits: usize, now: Instant) -> BucketSnapshot {
        let bucket = &table.buckets()[prefix_bits];
        let contact = |entry: &Entry| ContactSnapshot {
            contact: entry.contact,
            rtt: entry.rtt,
            last_seen: now.since(entry.last_seen),
            failures: entry.failures,
            stale: entry.stale,
        };
        BucketSnapshot {
            prefix_bits,
            is_last: prefix_bits + 1 == table.buckets().len(),
            room: table.room(prefix_bits),
            contacts: bucket.by_age().into_iter().map(contact).collect(),
            replacements: bucket.replacements().iter().copied().collect(),
            idle: now.since(bucket.touched()),
        }
    }
}
