//! The fast path: routing answered in the kernel, storage left to the node.
//!
//! A program at a network interface (`bpf/fastpath.bpf.c`) answers ping and findnode and hands routes on,
//! from a mirror of the node's routing table, and passes everything else to the node as it came. One
//! program serves all nodes of an interface. [`attach`] loads it, or takes one more node into the one that is there,
//! and leaves all in the bpf file system. [`detach`] takes a node out, and the program away with the
//! last one. [`status`] reads what it counts. All that takes root. The node needs no privilege: its
//! `Mirror` opens the maps that were left to its user, writes the table and a heartbeat, and hears who
//! asked.
//!
//! No protocol rules here: `wire` decides what a reply looks like, the node which contacts it names.
//! `layout` has the shapes that both sides share, `counter` the counters, `image` makes the kernel's
//! table from contacts, `linux` has all that speaks to the kernel, and `stub` stands for it
//! elsewhere.

mod counter;
#[cfg(fast_path)]
mod image;
#[cfg(fast_path)]
mod layout;
#[cfg(fast_path)]
mod linux;
#[cfg(fast_path)]
use linux as system;
#[cfg(not(fast_path))]
mod stub;
#[cfg(not(fast_path))]
use stub as system;

use std::path::PathBuf;
use std::time::Duration;

use crate::message::Contact;
use crate::wire::Dialect;

pub use self::counter::Counter;
pub(crate) use self::system::Mirror;
#[cfg(fast_path)]
pub use self::system::{Trial, Verdict, udp_frame};
pub use self::system::{attach, detach, detach_all, found, orphans, status};

/// Contacts of one address family that fit the kernel's table. A routing table holds some 20 for
/// each doubling of the network, so this is enough for one of 2^25 nodes.
pub const CONTACTS_MAX: usize = 512;

/// Addresses of one family at which the kernel answers for a node on a wildcard address.
pub const LOCALS_MAX: usize = 16;

/// Without a heartbeat for this long the kernel takes the node for dead.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(3);

/// The program answers in Kademlua v1 alone.
pub(crate) const DIALECT: Dialect = Dialect::V1;

/// Where the bpf file system usually is.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Where the fast path of the node on a port is pinned, in the network namespace of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinning {
    /// The mount point of a bpf file system.
    pub bpffs: PathBuf,
    /// The node's UDP port.
    pub port: u16,
}

/// What the kernel has done for a node since that was last asked.
#[derive(Default)]
pub(crate) struct Heard {
    /// The contacts that have asked something.
    pub(crate) asked: Vec<Contact>,
    /// The contacts that were handed a route.
    pub(crate) used: Vec<Contact>,
}

/// How packets are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// XDP in the driver of the interface: before the kernel has made anything of a packet.
    Native,
    /// XDP behind the driver, for drivers that cannot do it.
    Generic,
    /// tcx ingress: where packets can also grow.
    Tcx,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Native, Mode::Generic, Mode::Tcx];

    /// Its name on the command line and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
            Mode::Tcx => "tcx",
        }
    }
}

/// What becomes of requests beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// They go up to the node.
    Pass,
    /// They are dropped where they arrive.
    Drop,
}

/// What to attach.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Where it is pinned.
    pub place: Pinning,
    /// The interface.
    pub interface: String,
    /// `None`: what suits the interface best.
    pub mode: Option<Mode>,
    /// User and group that the node runs as; `None`: the caller's.
    pub owner: Option<Owner>,
    /// Requests a second that one source may ask in the kernel; 0: any. Loopback is exempt.
    pub source_rate: u64,
    /// Requests a second from all sources together; 0: any. Loopback is exempt.
    pub total_rate: u64,
    /// What becomes of requests beyond a limit.
    pub over_limit: OverLimit,
}

impl Attachment {
    /// For the caller's own node, in the mode that suits the interface best, without limits.
    pub fn new(place: Pinning, interface: impl Into<String>) -> Attachment {
        Attachment {
            place,
            interface: interface.into(),
            mode: None,
            owner: None,
            source_rate: 0,
            total_rate: 0,
            over_limit: OverLimit::Pass,
        }
    }
}

/// A user and its group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What was attached.
#[derive(Clone, Debug)]
pub struct Attached {
    /// How packets are met.
    pub mode: Mode,
    /// Why this mode was taken.
    pub reason: String,
    /// How routes leave that are handed on, and why so.
    pub ways: &'static str,
    /// What to know about it, if something.
    pub warning: Option<String>,
    /// The program was at the interface already, for other nodes.
    pub joined: bool,
    /// The folder with the node's maps.
    pub folder: PathBuf,
}

/// An attached fast path at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The node's UDP port.
    pub port: u16,
    /// The interface, by the name that it has now, or had while it was there.
    pub interface: String,
    /// The name that it had when the program was attached, if that was another one.
    pub renamed_from: Option<String>,
    /// Whether the interface is gone: no packet is met any more.
    pub is_gone: bool,
    /// How packets are met.
    pub mode: Mode,
    /// The number of the program in the kernel; nodes at one interface share it.
    pub program_id: u32,
    /// Time since the node last gave a sign of life; `None`: it has not yet, or has left.
    pub heartbeat: Option<Duration>,
    /// Contacts mirrored, IPv4 and IPv6.
    pub contacts: [usize; 2],
    /// Whether the routing table has more contacts than fit, so that findnodes are left to the
    /// node.
    pub incomplete: bool,
    /// Keys whose values are cached, and bytes of these.
    pub cached: [usize; 2],
    /// Limit on one source and on all, in requests a second; 0: none.
    pub rates: [u64; 2],
    /// What was counted, in the order of [`Counter::ALL`].
    pub counters: [u64; Counter::ALL.len()],
    /// Time that a run of the program takes, whosever packet it is, where the kernel measures it
    /// (`sysctl kernel.bpf_stats_enabled=1`) and the caller may look.
    pub run: Option<Duration>,
}

impl Status {
    /// Whether the kernel answers: the interface is there, and the node lives and has mirrored
    /// contacts.
    pub fn is_answering(&self) -> bool {
        let alive = self.heartbeat.is_some_and(|age| age < HEARTBEAT_MAX);
        alive && !self.is_gone && self.contacts.iter().any(|&count| count > 0)
    }

    /// What was counted of one kind.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Requests answered in the kernel.
    pub fn answered(&self) -> u64 {
        let answered =
            [Counter::AnsweredPing, Counter::AnsweredFindNode, Counter::AnsweredFindValue];
        answered.map(|counter| self.count(counter)).iter().sum()
    }

    /// Findvalues that were answered from the cache of values, and those that might have been had it had
    /// them.
    pub fn cache_tally(&self) -> (u64, u64) {
        (self.count(Counter::AnsweredFindValue), self.count(Counter::PassedNotCached))
    }

    /// Share of the requests that were answered in the kernel, 0 to 1; `None` if none came. The
    /// others were left to the node, most of them because storage is its business.
    pub fn share(&self) -> Option<f64> {
        let requests = Counter::ALL.into_iter().filter(|counter| counter.is_request());
        let requests: u64 = requests.map(|counter| self.count(counter)).sum();
        (requests > 0).then(|| self.answered() as f64 / requests as f64)
    }

    /// The counters as the shell and `--json` show them: what is done with packets, which packets,
    /// and how many; none left out.
    pub fn tallies(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Counter::ALL.into_iter().map(|counter| {
            let (what, which) = counter.names();
            (what, which, self.count(counter))
        })
    }
}

/// What is left of a fast path whose network namespace is gone. [`detach`] takes it away where the own
/// namespace has none for that port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The node's UDP port.
    pub port: u16,
    /// The interface that it was at; `None` if another version of kademlua wrote it down.
    pub interface: Option<String>,
    /// The number that the namespace had.
    pub namespace: u64,
    /// The folder with the remains.
    pub folder: PathBuf,
}

/// Why something about the fast path failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This program cannot do it at all.
    #[error(
        "the fast path needs Linux on a little-endian machine, and a kademlua built with the \
         feature 'xdp'; everything else works without it"
    )]
    Unsupported,
    /// The caller lacks the privilege.
    #[error("{0}: not permitted; attaching takes root: sudo kademlua xdp …")]
    Permission(&'static str),
    /// No bpf file system is mounted there.
    #[error(
        "{} is no bpf file system; mount one: sudo mount -t bpf bpf {}",
        .0.display(), .0.display()
    )]
    NoBpffs(PathBuf),
    /// The node's user cannot get at what would be left there.
    #[error(
        "user {uid} cannot enter {}; let others through: sudo chmod o+x {}, or mount another bpf \
         file system and name it with --bpffs",
        .folder.display(), .folder.display()
    )]
    Closed {
        /// The folder that is closed.
        folder: PathBuf,
        /// The user.
        uid: u32,
    },
    /// Somebody else made the folder of all fast paths, or can write to it.
    #[error(
        "{} belongs to user {uid} with mode {mode:o}, so that others could put anything there; remove \
         it, or mount another bpf file system and name it with --bpffs", .folder.display()
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// The kernel lacks something.
    #[error("{what} needs Linux {needed} or newer; this is {running}")]
    Kernel {
        /// What needs it.
        what: &'static str,
        /// The first version that has it.
        needed: &'static str,
        /// What runs here.
        running: String,
    },
    /// There is no such interface.
    #[error("no interface '{name}' here; there are: {there}")]
    NoInterface {
        /// The name.
        name: String,
        /// The interfaces that there are.
        there: String,
    },
    /// The frames of the interface are not Ethernet frames.
    #[error("{0} carries no Ethernet frames, which the fast path reads")]
    NotEthernet(String),
    /// A fast path for this port is there already.
    #[error(
        "a fast path for port {port} is attached to {interface} already; first: sudo kademlua xdp \
         detach --port {port}"
    )]
    Attached {
        /// The port.
        port: u16,
        /// Its interface.
        interface: String,
    },
    /// The program that is there meets packets in another way.
    #[error(
        "a fast path is at {interface} already, and it is {mode}: leave --mode out to join it, or detach \
         its nodes first: sudo kademlua xdp detach --all"
    )]
    OtherMode {
        /// The interface.
        interface: String,
        /// How packets are met there.
        mode: &'static str,
    },
    /// The program that is there has other limits.
    #[error(
        "a fast path is at {interface} already, and all nodes there share its limits: --source-rate {} \
         --total-rate {} --over-limit {over_limit}; give the same, or detach its nodes first: sudo \
         kademlua xdp detach --all", .rates[0], .rates[1]
    )]
    OtherLimits {
        /// The interface.
        interface: String,
        /// Limit on one source and on all, in requests a second; 0: none.
        rates: [u64; 2],
        /// What becomes of requests beyond, as the command line has it.
        over_limit: &'static str,
    },
    /// The program that is there is another version's.
    #[error(
        "the fast path at {0} is of another version of kademlua; detach it and attach it anew: sudo \
         kademlua xdp detach --all"
    )]
    OtherVersion(String),
    /// Another program is at the interface.
    #[error(
        "an XDP program is at {0} already, and there is room for one; --mode tcx works beside it"
    )]
    Occupied(String),
    /// The driver cannot do it.
    #[error("the driver of {0} runs no XDP; leave --mode out, and what works is chosen")]
    NoDriver(String),
    /// Replies would be lost.
    #[error(
        "native XDP on {interface} loses its replies: its peer {peer} runs no XDP itself; use --mode \
         tcx, or put an XDP program at {peer} first"
    )]
    DeafPeer {
        /// The interface.
        interface: String,
        /// Its other end.
        peer: String,
    },
    /// There is none.
    #[error("no fast path is attached for port {0}; attach one: sudo kademlua xdp attach")]
    NotAttached(u16),
    /// The maps are those of another version.
    #[error(
        "the fast path for port {0} is of another version of kademlua; detach it and attach it anew"
    )]
    Version(u16),
    /// The kernel or the system refused.
    #[error("{what}: {reason}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What was said.
        reason: String,
    },
}

impl Error {
    #[cfg(fast_path)]
    fn failed(what: &'static str, error: impl std::error::Error) -> Error {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(deeper) = source {
            // Some errors quote what they come from.
            let text = deeper.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = deeper.source();
        }
        Error::Failed { what, reason }
    }
}
