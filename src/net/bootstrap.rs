//! The bootstrap nodes as the user names them: addresses, and host names, which are resolved here.
//!
//! When to join is the node's own business. A name is resolved at the start, and again when the node
//! is alone or a bootstrap node does not answer: names move. Each has a task of its own, so that no
//! packet ever waits for a resolver.

use std::io;
use std::net::SocketAddr;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::endpoint::Endpoint;
use crate::time::{Duration, Instant};

/// Names are resolved again no sooner than this.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The pauses double up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Addresses besides those of the settings that a user may add while the node runs.
const ADDED_MAX: usize = 32;

/// The outcome of resolving a name: its number, and its addresses.
pub(super) type Resolved = (usize, io::Result<Vec<SocketAddr>>);

/// The bootstrap nodes of one node.
pub(super) struct BootstrapNodes {
    local: SocketAddr,
    addresses: Vec<SocketAddr>,
    /// How many of these were added.
    added: usize,
    names: Vec<HostName>,
    /// Names that are being resolved.
    resolving: usize,
    resolve_at: Instant,
    pause: Duration,
    outcomes: mpsc::UnboundedSender<Resolved>,
}

struct HostName {
    endpoint: Endpoint,
    addresses: Vec<SocketAddr>,
    /// Whether the log has said that it does not resolve.
    is_unknown: bool,
}

impl BootstrapNodes {
    /// All of `endpoints` but the node's own. `outcomes` gets the outcomes of resolving.
    pub(super) fn new(
        now: Instant,
        local: SocketAddr,
        endpoints: Vec<Endpoint>,
        outcomes: mpsc::UnboundedSender<Resolved>,
    ) -> BootstrapNodes {
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Address(address) => addresses.push(address),
                Endpoint::Name { .. } => {
                    names.push(HostName { endpoint, addresses: Vec::new(), is_unknown: false });
                }
            }
        }
        BootstrapNodes {
            local,
            addresses: others(local, &addresses),
            added: 0,
            resolve_at: if names.is_empty() { Instant::NEVER } else { now },
            names,
            resolving: 0,
            pause: PAUSE_MIN,
            outcomes,
        }
    }

    /// Whether there is nobody to join through, and never will be.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty()
    }

    /// Whether no name is being resolved.
    pub(super) fn is_settled(&self) -> bool {
        self.resolving == 0
    }

    /// The addresses to join through, as far as they are known. A name's addresses count only if
    /// `reaches` says that they can be reached at all.
    pub(super) fn addresses(&self, reaches: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        let of_names = self.names.iter().flat_map(|name| &name.addresses).copied();
        let of_names: Vec<SocketAddr> = of_names.filter(|address| reaches(*address)).collect();
        [&self.addresses[..], &others(self.local, &of_names)].concat()
    }

    /// Adds addresses that the user has named.
    pub(super) fn add(&mut self, addresses: &[SocketAddr]) {
        for address in others(self.local, addresses) {
            if !self.addresses.contains(&address) && self.added < ADDED_MAX {
                self.addresses.push(address);
                self.added += 1;
            }
        }
    }

    /// When to resolve.
    pub(super) fn due(&self) -> Instant {
        self.resolve_at
    }

    /// The node is alone, or a bootstrap node does not answer: the names are resolved anew, after a
    /// pause.
    pub(super) fn resolve_again(&mut self, now: Instant) {
        if !self.names.is_empty() && self.resolving == 0 && self.resolve_at == Instant::NEVER {
            self.resolve_at = now + self.pause;
            self.pause = self.pause.times(2).min(PAUSE_MAX);
        }
    }

    /// Resolves all names, each in a task of its own.
    pub(super) fn resolve(&mut self) {
        self.resolve_at = Instant::NEVER;
        self.resolving = self.names.len();
        for (number, name) in self.names.iter().enumerate() {
            let (endpoint, outcomes) = (name.endpoint.clone(), self.outcomes.clone());
            tokio::spawn(async move {
                let resolved = endpoint.resolve().await;
                // Nobody waits for it once the node has stopped.
                let _ = outcomes.send((number, resolved));
            });
        }
    }

    /// A name was resolved, or was not. Returns whether its addresses have changed.
    pub(super) fn on_resolved(&mut self, now: Instant, (number, resolved): Resolved) -> bool {
        self.resolving -= 1;
        let name = &mut self.names[number];
        match resolved {
            Ok(addresses) => {
                if std::mem::take(&mut name.is_unknown) {
                    info!(name = %name.endpoint, ?addresses, "the name resolves now");
                }
                let is_new = name.addresses != addresses;
                name.addresses = addresses;
                if is_new {
                    self.pause = PAUSE_MIN;
                }
                is_new
            }
            Err(error) => {
                if !std::mem::replace(&mut name.is_unknown, true) {
                    let (name, error) = (&name.endpoint, error.to_string());
                    warn!(
                        "the host name of '{name}' does not resolve ({error}); it is tried again"
                    );
                }
                // Its earlier addresses may be right all the same.
                self.resolve_again(now);
                false
            }
        }
    }
}

/// The addresses that are not the node's own.
pub(super) fn others(local: SocketAddr, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    addresses.iter().copied().filter(|&address| !is_own(local, address)).collect()
}

fn is_own(local: SocketAddr, address: SocketAddr) -> bool {
    let (own, ip) = (local.ip(), address.ip().to_canonical());
    local.port() == address.port() && (own == ip || own.is_unspecified() && ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn bootstrap(endpoints: &[&str]) -> BootstrapNodes {
        let local = "127.0.0.1:8003".parse().unwrap();
        let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
        BootstrapNodes::new(Instant::ZERO, local, endpoints, mpsc::unbounded_channel().0)
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn nobody_is_asked_to_join_through_itself() {
        let own =
            |local: &str, address: &str| is_own(local.parse().unwrap(), address.parse().unwrap());
        assert!(own("127.0.0.1:8001", "127.0.0.1:8001"));
        assert!(own("0.0.0.0:8001", "127.0.0.1:8001"));
        assert!(own("[::]:8001", "127.0.0.1:8001"));
        assert!(!own("127.0.0.1:8001", "127.0.0.1:8002"));
        assert!(!own("10.0.0.1:8001", "127.0.0.1:8001"));
        let mut bootstrap = bootstrap(&["127.0.0.1:8001", "127.0.0.1:8003"]);
        bootstrap.add(&addresses(&["127.0.0.1:8003", "127.0.0.1:8004"]));
        assert_eq!(bootstrap.addresses(|_| true), addresses(&["127.0.0.1:8001", "127.0.0.1:8004"]));
    }

    #[test]
    fn all_addresses_of_a_name_count_that_can_be_reached() {
        let mut bootstrap = bootstrap(&["10.0.0.1:1", "example.org:8003"]);
        assert_eq!(bootstrap.due(), Instant::ZERO);
        bootstrap.resolving = 1;
        bootstrap.resolve_at = Instant::NEVER;
        let all = addresses(&["127.0.0.1:8003", "192.0.2.7:8003", "[2001:db8::7]:8003"]);
        assert!(bootstrap.on_resolved(at(1), (0, Ok(all.clone()))));
        let expected = addresses(&["10.0.0.1:1", "192.0.2.7:8003"]);
        assert_eq!(bootstrap.addresses(|address| address.is_ipv4()), expected);
        // The same addresses again are no news.
        bootstrap.resolving = 1;
        assert!(!bootstrap.on_resolved(at(2), (0, Ok(all))));
    }

    #[test]
    fn a_name_that_does_not_resolve_is_tried_again_ever_more_rarely() {
        let mut bootstrap = bootstrap(&["nowhere.invalid:8001"]);
        let mut now = Instant::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            bootstrap.resolving = 1;
            bootstrap.resolve_at = Instant::NEVER;
            bootstrap.on_resolved(now, (0, Err(io::ErrorKind::NotFound.into())));
            bootstrap.resolve_again(now);
            pauses.push(bootstrap.due().since(now).as_secs());
            now = bootstrap.due();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn an_address_needs_no_resolver() {
        let mut bootstrap = bootstrap(&["127.0.0.1:8001"]);
        bootstrap.resolve_again(at(1));
        assert_eq!(bootstrap.due(), Instant::NEVER);
        assert!(!bootstrap.is_empty());
    }
}
