//! A node on the network: the UDP driver and the handle that applications hold.
//!
//! [`spawn`] binds the sockets and starts one thread; [`Handle`] asks things of the node that lives
//! there. The driver is the only one to read the node's clock, and knows no protocol: it carries
//! datagrams to [`node`](crate::node) and back, and tells it the time.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kademlua::bencode::Value;
//! use kademlua::id::Id;
//! use kademlua::message::StoreMode;
//! use kademlua::net::{Settings, spawn};
//!
//! let node = spawn(Settings {
//!     bind: "127.0.0.1:0".parse()?,
//!     bootstrap: vec!["localhost:8001".parse()?],
//!     ..Settings::default()
//! })?;
//! node.store(Id::of_name("key"), Value::bytes("value"), StoreMode::Add).await?;
//! let found = node.find_value(Id::of_name("key"), 3, 6).await?;
//! println!("{:?}", found.values);
//! node.stop().await;
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::address::is_loopback;
use crate::config::{Config, ConfigError};
use crate::id::Id;
use crate::message::Contact;
use crate::state::{self, StateError};
use crate::wire::Dialect;
use crate::xdp::{self, Mirror, Pinning};

use self::handle::Watched;

mod ask;
mod blocklist;
mod bootstrap;
mod capture;
mod clock;
pub mod door;
mod driver;
mod endpoint;
mod handle;
mod news;
mod observer;
mod persister;
pub mod socket;
mod thin;

pub use ask::Readings;
pub use capture::{CaptureError, Existing};
pub use endpoint::{Endpoint, NoEndpoint};
pub use handle::{Handle, IncomingCall, OperationError, Stopped};
pub use observer::{Losses, Tap};
pub use thin::{Attempt, Found, ThinClient, ThinError};

pub use crate::control::{
    Bootstrapped, CaptureView, Captured, Direction, Packet, RING_BYTES, RING_PACKETS, Sight,
};

/// How a node is to be set up. The default is that of a lone original node, at 127.0.0.1:8001 and
/// with nobody to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address to receive on; port 0 takes any free one. `[::]` serves IPv4 too, by a socket of its
    /// own on the same port.
    pub bind: SocketAddr,
    /// The node's id in each network, by its dialect. If none is given: on loopback the SHA-1 of the port
    /// in decimal, as original nodes have it, elsewhere a random one.
    pub ids: BTreeMap<Dialect, Id>,
    /// Nodes to join the network through, by their addresses or host names; the node's own address among
    /// them is left out.
    pub bootstrap: Vec<Endpoint>,
    /// The constants of the node.
    pub config: Config,
    /// The bpf file system in which to look for a [fast path](crate::xdp); `None`: use none. It may
    /// be attached and detached while the node runs.
    pub fast_path: Option<PathBuf>,
    /// The folder in which the node keeps its id, its contacts and its values; `None`: in memory
    /// alone.
    pub state: Option<PathBuf>,
    /// Whether the node keeps its last packets from its start, for [`Handle::packets`].
    pub keeps_packets: bool,
    /// What the node is part of, if other processes of its user may [attach](door) to it; `None`: they
    /// may not.
    pub control: Option<door::Role>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            bind: (Ipv4Addr::LOCALHOST, 8001).into(),
            ids: BTreeMap::new(),
            bootstrap: Vec::new(),
            config: Config::default(),
            fast_path: None,
            state: None,
            keeps_packets: false,
            control: None,
        }
    }
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The address cannot be bound.
    #[error("cannot bind {address}: {}", bind_failure(.reason))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// A constant is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There can be no fast path.
    #[error(transparent)]
    FastPath(#[from] xdp::Error),
    /// The state on disk cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system has no randomness to give.
    #[error("cannot seed the node's random numbers: {0}")]
    Seed(getrandom::Error),
    /// The system does not let the node have its thread or its event loop.
    #[error("cannot start the node's thread: {0}")]
    Thread(io::Error),
}

/// What the system said, and what to do about it.
fn bind_failure(reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            "address already in use — is another node running there? Choose another port".into()
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address".into(),
        io::ErrorKind::PermissionDenied => {
            format!("{reason} — ports below 1024 may need privileges; choose another port")
        }
        _ => reason.to_string(),
    }
}

/// Starts a node on a thread of its own. The address is bound when this returns; joining the
/// network goes on behind, and is tried again for as long as the node knows nobody.
///
/// The node lives until [`Handle::stop`], or until the last handle is dropped. No runtime is
/// needed to call this, and any will do to await what the handle returns.
///
/// # Errors
/// If a constant is out of its range, the address cannot be bound or the system grants no thread.
pub fn spawn(settings: Settings) -> Result<Handle, SpawnError> {
    settings.config.check()?;
    let bind_error = |(address, reason)| SpawnError::Bind { address, reason };
    let sockets = socket::bind_all(settings.bind).map_err(bind_error)?;
    let local =
        sockets[0].socket.local_addr().map_err(|reason| bind_error((settings.bind, reason)))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(SpawnError::Seed)?;
    let default = default_id(local, &seed);
    let Settings { mut ids, bootstrap, config, fast_path, state, keeps_packets, control, .. } =
        settings;
    let wanted = ids.get(&Dialect::V1).copied();
    let state = state.map(|folder| state::open(&folder, wanted, default)).transpose()?;
    if let Some((kept, _)) = &state {
        ids.extend(kept.identities.iter().map(|(&network, identity)| (network, identity.id)));
    }
    let id = *ids.entry(Dialect::V1).or_insert(default);
    let place = fast_path.map(|bpffs| Pinning { bpffs, port: local.port() });
    let mirror = place.clone().map(Mirror::new).transpose()?;
    let watched = Watched {
        config: Arc::new(config.clone()),
        fast_path: place,
        state: state.as_ref().map(|(_, writer)| writer.watch()),
    };
    let own = Contact { id, address: local };
    let door = control.and_then(|role| door::Door::open(own, role, keeps_packets));
    let plan = driver::Plan {
        sockets,
        local,
        ids,
        seed,
        bootstrap,
        config,
        mirror,
        state,
        keeps_packets,
        door,
    };
    driver::start(plan, watched).map_err(SpawnError::Thread)
}

/// Hashed with the port, the seed makes an id that tells nothing about the seed itself.
fn default_id(local: SocketAddr, seed: &[u8; 32]) -> Id {
    if is_loopback(&local) {
        return loopback_id(local.port());
    }
    Id::of_name([seed, local.port().to_string().as_bytes()].concat())
}

/// The id of a node of that port on loopback, if it was given no other. A client without a node uses it to
/// ask that node: it is the one id that the node keeps nowhere, so no dead contact is left behind.
pub(crate) fn loopback_id(port: u16) -> Id {
    Id::of_name(port.to_string())
}
