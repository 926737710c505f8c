//! The bootstrap nodes: the addresses that a node was told to join the network through.
//!
//! While a node knows nobody it asks them all, soon at first and then ever more rarely. Once it knows
//! somebody it still asks each now and then: that way a bootstrap node that was restarted learns of
//! the network again, and two networks that were told of each other become one. If one answers that
//! did not before, or answers under another id, the node joins through it anew.
//!
//! The larger the network, the rarer each node asks, so that a bootstrap node is asked equally often
//! whatever the size of its network.

use std::net::SocketAddr;

use crate::id::Id;
use crate::kad::OperationId;
use crate::time::{Duration, Instant};

/// The first retry comes this soon: nodes that are started together wait for the first of them to
/// be ready.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// Addresses taken for one bootstrap; a single one that answers is enough.
pub(super) const MAX_BOOTSTRAP: usize = 64;

/// Retries become no rarer: someone who starts the missing node expects company within the minute.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A node of a small network asks each bootstrap node this often.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(30);

/// This holds for networks of at most this many nodes. In one twice as large each node asks half as
/// often, and so on.
const ASKERS: f64 = 8.0;

/// No node asks more rarely than this.
const ASK_EVERY_MAX: Duration = Duration::from_secs(600);

/// The state of joining.
pub(super) struct Joining {
    bootstrap_nodes: Vec<BootstrapNode>,
    /// Contacts of an earlier life, which are asked while nobody is known.
    former: Vec<SocketAddr>,
    running: Option<OperationId>,
    pause: Duration,
    /// When the last attempt began.
    began: Instant,
    /// When to join next; never while somebody is known and nothing has changed.
    join_at: Instant,
    /// When to ask them whether they are there.
    ask_at: Instant,
    /// A bootstrap node is there that was not before: the next attempt is made even if contacts are
    /// known.
    is_news: bool,
}

struct BootstrapNode {
    address: SocketAddr,
    /// The id under which it answered the last question; `None` if it did not answer.
    answered: Option<Id>,
}

impl Default for Joining {
    fn default() -> Joining {
        Joining {
            bootstrap_nodes: Vec::new(),
            former: Vec::new(),
            running: None,
            pause: RETRY_MIN,
            began: Instant::ZERO,
            join_at: Instant::NEVER,
            ask_at: Instant::NEVER,
            is_news: false,
        }
    }
}

impl Joining {
    pub(super) fn next_timeout(&self) -> Instant {
        // The next attempt waits until this one has ended.
        let join_at = if self.running.is_some() { Instant::NEVER } else { self.join_at };
        join_at.min(self.ask_at)
    }

    /// An address was asked; `answered` is the id of the node that answered. Returns whether that is news
    /// of a bootstrap node.
    pub(super) fn on_asked(&mut self, address: &SocketAddr, answered: Option<Id>) -> bool {
        let mut all = self.bootstrap_nodes.iter_mut();
        let Some(node) = all.find(|node| node.address == *address) else { return false };
        let before = std::mem::replace(&mut node.answered, answered);
        answered.is_some() && answered != before
    }

    /// The bootstrap nodes from now on; what is known of those that were among them before stays. Returns
    /// whether there are new ones.
    pub(super) fn set_bootstrap_nodes(&mut self, addresses: &[SocketAddr]) -> bool {
        let before = std::mem::take(&mut self.bootstrap_nodes);
        let mut has_new = false;
        for &address in addresses {
            let all = &mut self.bootstrap_nodes;
            if all.len() < MAX_BOOTSTRAP && all.iter().all(|node| node.address != address) {
                let known = before.iter().find(|node| node.address == address);
                has_new |= known.is_none();
                let answered = known.and_then(|node| node.answered);
                all.push(BootstrapNode { address, answered });
            }
        }
        if self.bootstrap_nodes.is_empty() {
            self.ask_at = Instant::NEVER;
        }
        has_new
    }

    /// The addresses of the bootstrap nodes.
    pub(super) fn bootstrap_nodes(&self) -> impl Iterator<Item = SocketAddr> {
        self.bootstrap_nodes.iter().map(|node| node.address)
    }

    /// From now on also asks contacts of an earlier life whenever nobody is known.
    pub(super) fn set_former(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.former = addresses.iter().copied().take(MAX_BOOTSTRAP).collect();
        if !addresses.is_empty() {
            self.join_at = now;
        }
    }

    /// Whether there are bootstrap nodes and no time is set to ask them.
    pub(super) fn wants_plan(&self) -> bool {
        !self.bootstrap_nodes.is_empty() && self.ask_at == Instant::NEVER
    }

    /// How often they are asked in a network of this size.
    pub(super) fn ask_every(nodes: f64) -> Duration {
        let rarer = (nodes / ASKERS).max(1.0);
        let every = (ASK_EVERY.as_micros() as f64 * rarer) as u64;
        Duration::from_micros(every).min(ASK_EVERY_MAX)
    }

    /// Sets the time to ask them.
    pub(super) fn ask_at(&mut self, at: Instant) {
        self.ask_at = at;
    }

    /// Whether it is time to ask them.
    pub(super) fn is_asking_due(&self, now: Instant) -> bool {
        self.ask_at <= now
    }

    /// A bootstrap node is there that was not before: joins now, even if contacts are known.
    pub(super) fn on_news(&mut self, now: Instant) {
        self.is_news = true;
        self.join_at = now;
    }

    /// Whether it is time for an attempt to join; true once for each attempt.
    pub(super) fn take_attempt(&mut self, now: Instant, is_alone: bool) -> bool {
        if self.join_at > now || self.running.is_some() {
            return false;
        }
        self.join_at = Instant::NEVER;
        std::mem::take(&mut self.is_news) || is_alone
    }

    /// An attempt begins, as `operation`. Returns the addresses to ask.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        operation: OperationId,
        is_alone: bool,
    ) -> Vec<SocketAddr> {
        self.running = Some(operation);
        self.began = now;
        let mut addresses: Vec<SocketAddr> = self.bootstrap_nodes().collect();
        if is_alone {
            let is_new = |address: &&SocketAddr| !addresses.contains(address);
            let former: Vec<_> = self.former.iter().filter(is_new).copied().collect();
            addresses.extend(former);
        }
        addresses
    }

    /// A bootstrap has ended, perhaps an attempt of the node's own.
    pub(super) fn on_ended(&mut self, now: Instant, operation: OperationId, is_alone: bool) {
        if self.running != Some(operation) {
            return;
        }
        self.running = None;
        if is_alone {
            self.retry(now);
        }
    }

    /// The last contact was lost.
    pub(super) fn on_alone(&mut self, now: Instant) {
        if self.join_at == Instant::NEVER {
            // A node that answers and then falls silent must not make this one ask for ever.
            if now.since(self.began) > RETRY_MAX.times(2) {
                self.pause = RETRY_MIN;
            }
            self.retry(now);
        }
    }

    fn retry(&mut self, now: Instant) {
        let is_hopeless = self.bootstrap_nodes.is_empty() && self.former.is_empty();
        if self.running.is_none() && !is_hopeless {
            self.join_at = now + self.pause;
            self.pause = self.pause.times(2).min(RETRY_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    /// When a node that nobody answers makes its attempts, each of which takes a second.
    fn attempts(joining: &mut Joining, until: Duration) -> Vec<u64> {
        let mut made = Vec::new();
        while joining.next_timeout() < Instant::ZERO + until {
            let now = joining.next_timeout();
            assert!(joining.take_attempt(now, true));
            let operation = OperationId(made.len() as u64);
            joining.begin(now, operation, true);
            assert_eq!(joining.next_timeout(), Instant::NEVER, "one at a time");
            joining.on_ended(now + Duration::from_secs(1), operation, true);
            made.push(now.since(Instant::ZERO).as_micros() / 1_000);
        }
        made
    }

    #[test]
    fn who_is_alone_tries_again_ever_more_rarely() {
        let mut joining = Joining::default();
        joining.on_alone(Instant::ZERO);
        assert_eq!(joining.next_timeout(), Instant::NEVER, "there is nobody to ask");
        joining.set_former(Instant::ZERO, &[address(1)]);
        let made = attempts(&mut joining, Duration::from_secs(100));
        assert_eq!(made, [0, 1_200, 2_600, 4_400, 7_000, 11_200, 18_600, 32_400, 59_000, 90_000]);
    }

    #[test]
    fn former_contacts_are_asked_by_who_is_alone() {
        let mut joining = Joining::default();
        joining.set_bootstrap_nodes(&[address(1), address(2), address(1)]);
        joining.set_former(Instant::ZERO, &[address(2), address(3)]);
        assert!(!joining.take_attempt(Instant::ZERO, false), "somebody is known");
        joining.on_news(Instant::ZERO);
        assert!(joining.take_attempt(Instant::ZERO, false));
        assert_eq!(joining.begin(Instant::ZERO, OperationId(1), false), [1, 2].map(address));
        assert_eq!(joining.begin(Instant::ZERO, OperationId(2), true), [1, 2, 3].map(address));
    }

    #[test]
    fn news_is_who_answers_that_did_not_before_or_as_another() {
        let (mut joining, [one, two]) = (Joining::default(), [Id::of_name("1"), Id::of_name("2")]);
        assert!(joining.set_bootstrap_nodes(&[address(1)]));
        assert!(joining.on_asked(&address(1), Some(one)));
        assert!(!joining.set_bootstrap_nodes(&[address(1)]), "what is known of it stays");
        assert!(!joining.on_asked(&address(1), Some(one)));
        assert!(joining.on_asked(&address(1), Some(two)));
        assert!(!joining.on_asked(&address(1), None));
        assert!(joining.on_asked(&address(1), Some(two)));
        assert!(!joining.on_asked(&address(9), Some(two)), "nobody that was named");
    }

    #[test]
    fn bootstrap_nodes_are_asked_equally_often_in_small_and_large_networks() {
        let every = |nodes| Joining::ask_every(nodes).as_micros() / 1_000_000;
        assert_eq!([0.0, 8.0, 16.0, 80.0, 1e9].map(every), [30, 30, 60, 300, 600]);
    }
}
