//! What a node can be asked to start, and how that ended.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::bencode::Value;
use crate::id::Id;
use crate::kad::lookup::{Goal, LookupRecord};
use crate::message::{Response, RouteKind, StoreMode};
use crate::node::{CallError, Event, Node, OperationId, Peer, RouteReport, StoreReport};
use crate::serial::Bytes;
use crate::store::Refusal;
use crate::time::{Duration, Instant};

/// Something a node can be asked to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Command {
    /// Join the network through nodes at these addresses.
    Bootstrap {
        /// The addresses, as `"127.0.0.1:8001"`.
        addresses: Vec<SocketAddr>,
    },
    /// Search for the nodes nearest to an id.
    FindNode {
        /// The id.
        target: Id,
    },
    /// Search for values.
    FindValue {
        /// The key.
        key: Id,
        /// The search ends once this many nodes have returned values.
        max_nodes: usize,
        /// Values asked of each node; [`ALL_ENTRIES`](crate::kad::lookup::ALL_ENTRIES), which is `"all"`, for all
        /// that it has.
        #[serde(with = "crate::serial::count_or_all")]
        max_entries: usize,
    },
    /// Store a value.
    Store {
        /// The key.
        key: Id,
        /// The value.
        value: Value,
        /// Beside older values, or instead of them.
        mode: StoreMode,
    },
    /// Send a route to a key, which finds its way by itself.
    Route {
        /// The key.
        key: Id,
        /// What is asked: `"findvalue"` or `"locate"`.
        kind: RouteKind,
        /// Whether the nodes on its way leave their marks.
        trace: bool,
    },
    /// Ask a peer whether it is there.
    Ping {
        /// The peer.
        peer: Peer,
    },
    /// Ask a peer under which address it sees this node.
    GetSocket {
        /// The peer.
        peer: Peer,
    },
    /// Call an RPC that an application at a peer has registered.
    Call {
        /// The peer.
        peer: Peer,
        /// The RPC.
        name: Bytes,
        /// Its arguments.
        args: Vec<Value>,
    },
}

/// How a [`Command`] ended.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Command::Bootstrap`].
    Bootstrapped {
        /// How many of the addresses answered.
        answered: usize,
        /// The addresses that did not.
        silent: Vec<SocketAddr>,
    },
    /// To [`Command::FindNode`] and [`Command::FindValue`].
    Lookup(LookupRecord),
    /// To [`Command::Store`].
    Stored(StoreReport),
    /// To [`Command::Route`].
    Routed(RouteReport),
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

impl From<Goal> for Command {
    fn from(goal: Goal) -> Command {
        match goal {
            Goal::Node { target } => Command::FindNode { target },
            Goal::Value { key, max_nodes, max_entries } => {
                Command::FindValue { key, max_nodes, max_entries }
            }
        }
    }
}

impl Command {
    /// Starts the command. Its reply comes as an [`Event`] that [`reply`] recognises.
    ///
    /// # Errors
    /// If it cannot be begun.
    pub fn start(self, node: &mut Node, now: Instant) -> Result<OperationId, CommandError> {
        Ok(match self {
            Command::Bootstrap { addresses } => node.start_bootstrap(now, &addresses),
            Command::FindNode { target } => node.start_lookup(now, Goal::Node { target }),
            Command::FindValue { key, max_nodes, max_entries } => {
                node.start_lookup(now, Goal::Value { key, max_nodes, max_entries })
            }
            Command::Store { key, value, mode } => node.start_store(now, key, value, mode)?,
            Command::Route { key, kind, trace } => node.start_route(now, key, kind, trace),
            Command::Ping { peer } => node.start_ping(now, peer),
            Command::GetSocket { peer } => node.start_get_socket(now, peer),
            Command::Call { peer, name, args } => node.start_call(now, peer, &name.0, &args)?,
        })
    }

    /// The peer that is asked, if the command asks a single one.
    pub(super) fn peer(&self) -> Option<Peer> {
        match *self {
            Command::Ping { peer } | Command::GetSocket { peer } | Command::Call { peer, .. } => {
                Some(peer)
            }
            Command::Bootstrap { .. }
            | Command::FindNode { .. }
            | Command::FindValue { .. }
            | Command::Store { .. }
            | Command::Route { .. } => None,
        }
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
        Event::RouteDone(report) => Ok((report.id, Reply::Routed(report))),
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
