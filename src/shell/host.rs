//! The nodes that the functions of the shell ask: its own, one in another process, or a node of a simulated
//! network. Each function is written once, over a [`Host`].

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;

use mlua::UserData;

use crate::control::{Answer, Ask, Bytes, Capture, Code, Filter, Problem};
use crate::net::door::{AttachedNode, Offered, Which};
use crate::net::{Handle, IncomingCall};

pub(crate) use crate::net::Readings as Watching;

use super::simulation::SimulatedNode;

/// The node that a shell is on.
#[derive(Clone, Debug)]
pub enum Subject {
    /// It runs in this process, and ends with the shell.
    Own(Handle),
    /// It runs in another process, and goes on.
    Attached(AttachedNode),
}

/// A node that can be asked.
#[derive(Clone)]
pub(crate) enum Host {
    /// It runs in this process.
    Node(Handle),
    /// It runs in another.
    Attached(AttachedNode),
    /// It is one of a simulated network.
    Simulated(SimulatedNode),
}

impl From<Subject> for Host {
    fn from(subject: Subject) -> Host {
        match subject {
            Subject::Own(handle) => Host::Node(handle),
            Subject::Attached(attached) => Host::Attached(attached),
        }
    }
}

impl Host {
    /// Asks anything.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, Problem> {
        match self {
            Host::Node(handle) => handle.ask(ask).await,
            Host::Attached(attached) => attached.ask(in_this_folder(ask)?).await,
            Host::Simulated(node) => node.ask(ask).await,
        }
    }

    /// Where it receives datagrams, if it is a real one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Host::Node(handle) => Some(handle.local_addr()),
            Host::Attached(attached) => Some(attached.greeting().contact.address),
            Host::Simulated(_) => None,
        }
    }

    /// All packets and news from now on that a filter takes.
    ///
    /// # Errors
    /// If the node is gone or cannot be watched.
    pub(crate) async fn watch(&self, filter: Filter) -> Result<Watching, Problem> {
        match self {
            Host::Node(handle) => Ok(handle.readings(filter).await?),
            Host::Attached(attached) => attached.readings(filter).await,
            Host::Simulated(_) => Err(not_simulated("its packets are not told one by one")),
        }
    }

    /// Offers an RPC. Its calls come out of what this returns.
    ///
    /// # Errors
    /// If the node does not take it.
    pub(crate) async fn offer(&self, name: &[u8]) -> Result<IncomingCalls, Problem> {
        match self {
            Host::Node(handle) => Ok(IncomingCalls::Own(handle.register(name).await?)),
            Host::Attached(attached) => Ok(IncomingCalls::Attached(attached.register(name).await?)),
            Host::Simulated(_) => Err(not_simulated("it offers no functions")),
        }
    }
}

/// Calls of an RPC as they come in. When this is dropped, the RPC is no longer offered.
pub(crate) enum IncomingCalls {
    Own(tokio::sync::mpsc::Receiver<IncomingCall>),
    Attached(Offered),
}

impl IncomingCalls {
    pub(crate) async fn recv(&mut self) -> Option<IncomingCall> {
        match self {
            IncomingCalls::Own(calls) => calls.recv().await,
            IncomingCalls::Attached(calls) => calls.recv().await,
        }
    }
}

/// Relative file names start in this process's folder, wherever the node's process runs.
fn in_this_folder(ask: Ask) -> Result<Ask, Problem> {
    let Ask::Capture(Capture::Begin { file, replace }) = ask else { return Ok(ask) };
    let path = std::path::absolute(OsStr::from_bytes(&file.0));
    let path = path.map_err(|error| Problem::new(Code::BadRequest, error))?;
    let file = Bytes::from(path.as_os_str().as_bytes());
    Ok(Ask::Capture(Capture::Begin { file, replace }))
}

/// The problem with something that only real nodes do.
pub(crate) fn not_simulated(what: &str) -> Problem {
    Problem::new(Code::Unsupported, format_args!("this is a simulated node: {what}"))
}

/// A node as Lua has it: the first argument of all functions that ask one.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) place: Place,
    /// How functions are called on it: `n:` on a simulated network, then the number of the node comes
    /// first.
    pub(crate) owner: &'static str,
}

/// Where a node is.
#[derive(Clone)]
pub(crate) enum Place {
    /// It can be asked.
    Here(Host),
    /// It is another node of this user, and is looked for when it is asked.
    Elsewhere(Which),
}

impl UserData for Site {}
