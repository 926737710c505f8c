//! Whom the functions of the shell ask: its own node or a node of a simulated network. Each function is
//! written once, over a [`Host`].

use std::net::SocketAddr;

use mlua::UserData;

use crate::control::{Answer, Ask, Code, Filter, Problem};
use crate::net::{Handle, IncomingCall};

pub(crate) use crate::net::Readings as Watching;

use super::simulation::SimulatedNode;

/// A node that can be asked.
#[derive(Clone)]
pub(crate) enum Host {
    /// It runs in this process.
    Node(Handle),
    /// It is one of a simulated network.
    Simulated(SimulatedNode),
}

impl Host {
    /// Asks anything.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, Problem> {
        match self {
            Host::Node(handle) => handle.ask(ask).await,
            Host::Simulated(node) => node.ask(ask).await,
        }
    }

    /// Where it receives datagrams, if it is a real one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Host::Node(handle) => Some(handle.local_addr()),
            Host::Simulated(_) => None,
        }
    }

    /// What a filter takes of all that the node sends, receives and hears of from now on.
    ///
    /// # Errors
    /// If the node is gone or cannot be watched.
    pub(crate) async fn watch(&self, filter: Filter) -> Result<Watching, Problem> {
        match self {
            Host::Node(handle) => Ok(handle.readings(filter).await?),
            Host::Simulated(_) => Err(not_simulated("its packets are not told one by one")),
        }
    }

    /// Offers an RPC, whose calls then come.
    ///
    /// # Errors
    /// If the node does not take it.
    pub(crate) async fn offer(&self, name: &[u8]) -> Result<Calls, Problem> {
        match self {
            Host::Node(handle) => Ok(handle.register(name).await?),
            Host::Simulated(_) => Err(not_simulated("it offers no functions")),
        }
    }
}

/// Calls of an RPC as they come in.
pub(crate) type Calls = tokio::sync::mpsc::Receiver<IncomingCall>;

/// What only real nodes do.
pub(crate) fn not_simulated(what: &str) -> Problem {
    Problem::new(Code::Unsupported, format_args!("this is a simulated node: {what}"))
}

/// A host as Lua has it: the first argument of all functions that ask a node.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) host: Host,
    /// How functions are called on it: `n:` on a simulated network, then the number of the node comes
    /// first.
    pub(crate) owner: &'static str,
}

impl UserData for Site {}
