//! When to try to join the network again: soon at first, ever more rarely, not at all once
//! somebody is known.
//!
//! Pure bookkeeping: the driver sends and tells the time.

use std::net::SocketAddr;

use crate::node::OperationId;
use crate::time::{Duration, Instant};

/// The first retry comes this soon: nodes that are started together wait for the first of them.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Retries become no rarer: someone who starts the missing node expects company within the minute.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The state of joining.
pub(super) struct Bootstrap {
    addresses: Vec<SocketAddr>,
    running: Option<OperationId>,
    pause: Duration,
    next: Instant,
    /// Whether anybody was ever known.
    joined: bool,
    /// Whether it was said that nobody answers.
    complained: bool,
}

impl Bootstrap {
    /// Joins through those of the addresses that are not the node's own, at once.
    pub(super) fn new(now: Instant, local: SocketAddr, addresses: &[SocketAddr]) -> Bootstrap {
        let addresses = others(local, addresses);
        let next = if addresses.is_empty() { Instant::NEVER } else { now };
        Bootstrap {
            addresses,
            running: None,
            pause: RETRY_MIN,
            next,
            joined: false,
            complained: false,
        }
    }

    /// Where to join through.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// When to start the next attempt.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// An attempt was started.
    pub(super) fn on_started(&mut self, id: OperationId) {
        self.running = Some(id);
        self.next = Instant::NEVER;
    }

    /// Whether an operation is the attempt that runs.
    pub(super) fn is_attempt(&self, id: OperationId) -> bool {
        self.running == Some(id)
    }

    /// An operation ended, perhaps an attempt of ours, and so many contacts are known now; true for
    /// the first attempt after which that is nobody.
    pub(super) fn on_ended(&mut self, now: Instant, id: OperationId, known: usize) -> bool {
        if self.running != Some(id) {
            return false;
        }
        self.running = None;
        self.plan(now, known);
        known == 0 && !std::mem::replace(&mut self.complained, true)
    }

    /// A contact was added; true for the first one ever.
    pub(super) fn on_contact_added(&mut self) -> bool {
        self.pause = RETRY_MIN;
        self.next = Instant::NEVER;
        !std::mem::replace(&mut self.joined, true)
    }

    /// A contact was lost, and so many are left.
    pub(super) fn on_contact_lost(&mut self, now: Instant, known: usize) {
        if self.next == Instant::NEVER {
            self.plan(now, known);
        }
    }

    fn plan(&mut self, now: Instant, known: usize) {
        if known > 0 || self.running.is_some() || self.addresses.is_empty() {
            return;
        }
        self.next = now + self.pause;
        self.pause = self.pause.times(2).min(RETRY_MAX);
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

    const ADDRESS: &str = "127.0.0.1:8001";

    fn bootstrap() -> Bootstrap {
        let local = "127.0.0.1:8003".parse().unwrap();
        Bootstrap::new(Instant::ZERO, local, &[ADDRESS.parse().unwrap(), local])
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
        assert_eq!(bootstrap().addresses(), [ADDRESS.parse().unwrap()]);
    }

    #[test]
    fn the_pauses_double_up_to_a_limit() {
        let mut bootstrap = bootstrap();
        assert_eq!(bootstrap.due(), Instant::ZERO);
        let mut pauses = Vec::new();
        for attempt in 0..10 {
            let now = bootstrap.due();
            bootstrap.on_started(OperationId(attempt));
            assert_eq!(bootstrap.due(), Instant::NEVER);
            let first = bootstrap.on_ended(now, OperationId(attempt), 0);
            assert_eq!(first, attempt == 0);
            pauses.push(bootstrap.due().since(now).as_micros() / 1_000);
        }
        let expected = [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_contact_ends_the_attempts_and_the_loss_of_the_last_begins_them_again() {
        let mut bootstrap = bootstrap();
        bootstrap.on_started(OperationId(1));
        assert!(bootstrap.on_contact_added());
        assert!(!bootstrap.on_contact_added());
        bootstrap.on_ended(Instant::ZERO, OperationId(1), 2);
        bootstrap.on_contact_lost(Instant::ZERO, 1);
        assert_eq!(bootstrap.due(), Instant::NEVER);
        bootstrap.on_contact_lost(Instant::ZERO, 0);
        assert_eq!(bootstrap.due(), Instant::ZERO + RETRY_MIN);
    }

    #[test]
    fn the_end_of_anything_else_begins_no_attempt() {
        let mut bootstrap = bootstrap();
        bootstrap.on_started(OperationId(1));
        bootstrap.on_ended(Instant::ZERO, OperationId(2), 0);
        assert_eq!(bootstrap.due(), Instant::NEVER);
    }

    #[test]
    fn the_first_node_of_a_network_does_not_try() {
        let local: SocketAddr = ADDRESS.parse().unwrap();
        let mut bootstrap = Bootstrap::new(Instant::ZERO, local, &[local]);
        assert_eq!(bootstrap.due(), Instant::NEVER);
        bootstrap.on_contact_added();
        bootstrap.on_contact_lost(Instant::ZERO, 0);
        assert_eq!(bootstrap.due(), Instant::NEVER);
    }
}
