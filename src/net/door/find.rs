//! Finding the node that is meant, among the running nodes of this user.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use super::client::{AttachError, AttachedNode};
use super::place::{PlaceError, port_of, sockets};

/// Nodes that an error names where one must be chosen.
const NAMED_MAX: usize = 10;

/// Connections that are made at once: a node that hangs holds up few others.
const AT_ONCE: usize = 32;

/// Which node is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The only one that runs.
    Only,
    /// The one on this port.
    Port(u16),
    /// The one at this address.
    Address(SocketAddr),
    /// The one of this process.
    Process {
        /// Its port.
        port: u16,
        /// The process.
        process: u32,
    },
    /// The one with this control socket.
    Socket(PathBuf),
}

/// A control socket that was found.
#[derive(Debug)]
pub struct Met {
    /// The socket.
    pub socket: PathBuf,
    /// The node, if it lets one in.
    pub node: Result<AttachedNode, AttachError>,
}

/// Why there is no node to attach to.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error("no node of yours runs{0}; 'kademlua nodes' lists those that run")]
    Missing(String),
    /// There is more than one.
    #[error("{count} nodes of yours run{place}; name one of them: {names}")]
    Several {
        /// How many.
        count: usize,
        /// Where they all are, behind a space, if anywhere.
        place: String,
        /// Some of them.
        names: String,
    },
    /// It is there, and cannot be attached to.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The folder of the sockets is not there or cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl Which {
    /// The node that a word names: by port, address or socket. `None` if it names none.
    pub fn of(word: &Path) -> Option<Which> {
        let text = word.to_str().unwrap_or_default();
        let is_socket = || std::fs::metadata(word).is_ok_and(|it| it.file_type().is_socket());
        let port = text.parse().ok().map(Which::Port);
        port.or_else(|| text.parse().ok().map(Which::Address))
            .or_else(|| is_socket().then(|| Which::Socket(word.to_owned())))
    }

    /// Attaches to the node. Blocks.
    ///
    /// # Errors
    /// If there is none, or more than one, or it lets nobody in.
    pub fn attach(&self) -> Result<AttachedNode, FindError> {
        if let Which::Socket(path) = self {
            return Ok(AttachedNode::connect(path)?);
        }
        let mut found = Vec::new();
        let mut failure = None;
        for Met { socket, node } in all(|port| self.port().is_none_or(|wanted| wanted == port))? {
            match node {
                Ok(node) if self.is(&node) => found.push((socket, node)),
                Ok(_) | Err(AttachError::Gone(_)) => {}
                Err(error) => failure = Some(error),
            }
        }
        match (found.len(), failure) {
            (1, _) => Ok(found.remove(0).1),
            (0, Some(error)) => Err(error.into()),
            (0, None) => Err(FindError::Missing(self.to_string())),
            (count, _) => {
                // By its address if any node would do; else by its socket, which alone tells them apart.
                let name = |(path, attached): &(PathBuf, AttachedNode)| match self {
                    Which::Only => attached.greeting().contact.address.to_string(),
                    _ => path.display().to_string(),
                };
                let mut names: Vec<_> = found.iter().take(NAMED_MAX).map(name).collect();
                if count > NAMED_MAX {
                    names.push(format!("and {} more", count - NAMED_MAX));
                }
                let (place, names) = (self.to_string(), names.join(", "));
                Err(FindError::Several { count, place, names })
            }
        }
    }

    fn port(&self) -> Option<u16> {
        match self {
            Which::Port(port) | Which::Process { port, .. } => Some(*port),
            Which::Address(address) => Some(address.port()),
            Which::Only | Which::Socket(_) => None,
        }
    }

    /// Whether it is the node that is meant.
    fn is(&self, node: &AttachedNode) -> bool {
        match self {
            Which::Address(wanted) => node.greeting().contact.address == *wanted,
            Which::Process { process, .. } => node.greeting().process == *process,
            Which::Only | Which::Port(_) | Which::Socket(_) => true,
        }
    }
}

/// Where such a node would be, behind a space; nothing if any node will do.
impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Only => Ok(()),
            Which::Port(port) => write!(f, " on port {port}"),
            Which::Address(address) => write!(f, " at {address}"),
            Which::Process { port, process } => {
                write!(f, " on port {port} as process {process}")
            }
            Which::Socket(path) => write!(f, " at {}", path.display()),
        }
    }
}

/// All nodes of this user whose port is wanted, by their ports, each with its socket.
///
/// # Errors
/// If the folder of the sockets cannot be read or trusted.
pub fn all(is_wanted: impl Fn(u16) -> bool) -> Result<Vec<Met>, PlaceError> {
    let port = |path: &PathBuf| path.file_name().and_then(|name| port_of(name.to_str()?));
    let is_wanted = |path: &PathBuf| port(path).is_some_and(&is_wanted);
    let paths: Vec<PathBuf> = sockets()?.into_iter().filter(is_wanted).collect();
    let mut nodes = Vec::new();
    for some in paths.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let connecting: Vec<_> =
                some.iter().map(|path| scope.spawn(|| AttachedNode::connect(path))).collect();
            nodes.extend(some.iter().zip(connecting).map(|(path, connecting)| Met {
                socket: path.clone(),
                node: connecting.join().expect("connecting does not panic"),
            }));
        });
    }
    Ok(nodes)
}
