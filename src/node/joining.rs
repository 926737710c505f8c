//! The bootstrap nodes: the addresses that a node was told to join the network through.
//!
//! While it knows nobody it asks them all, soon at first and then ever more rarely. Once it knows
//! somebody it goes on asking each now and then: a bootstrap node that was restarted learns of the
//! network again that way, and two networks that were told of each other become one. Where one answers
//! that did not before, or under another id, the node joins through it anew.
//!
//! The larger the network, the rarer each node asks, so that a bootstrap node is asked equally often
//! whatever the size of its network.

use std::net::SocketAddr;

use crate::id::Id;
use crate::message::{Contact, Request};
use crate::node::calls::Purpose;
use crate::node::operations::MAX_BOOTSTRAP;
use crate::node::overlay::Active;
use crate::node::{Event, OperationId};
use crate::time::{Duration, Instant};

/// The first retry comes this soon: nodes that are started together wait for the first of them.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// Retries become no rarer: someone who starts the missing node expects company within the minute.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A node of a small network asks each bootstrap node this often.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// In a network of at most this many nodes. In one twice as large each asks half as often, and so on.
const ASKERS: f64 = 8.0;

/// But no more rarely than this.
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
    /// Somebody is there who was not: the next attempt is made whoever is known.
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
        // The next attempt waits for the end of this one.
        let join_at = if self.running.is_some() { Instant::NEVER } else { self.join_at };
        join_at.min(self.ask_at)
    }

    /// An address was asked; `answered` is the id of whoever answered there. Returns whether that is news
    /// of a bootstrap node.
    pub(super) fn on_asked(&mut self, address: &SocketAddr, answered: Option<Id>) -> bool {
        let mut all = self.bootstrap_nodes.iter_mut();
        let Some(node) = all.find(|node| node.address == *address) else { return false };
        let before = std::mem::replace(&mut node.answered, answered);
        answered.is_some() && answered != before
    }

    fn retry(&mut self, now: Instant) {
        let is_hopeless = self.bootstrap_nodes.is_empty() && self.former.is_empty();
        if self.running.is_none() && !is_hopeless {
            self.join_at = now + self.pause;
            self.pause = self.pause.times(2).min(RETRY_MAX);
        }
    }
}

impl Active<'_> {
    /// Joins the network through the nodes at these addresses, and keeps in touch with them.
    pub(super) fn join_through(&mut self, now: Instant, addresses: &[SocketAddr]) {
        if self.note_bootstrap_nodes(now, addresses) {
            self.overlay.joining.is_news = true;
            self.overlay.joining.join_at = now;
        }
    }

    /// Joins through contacts of an earlier life.
    pub(super) fn rejoin_through(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.overlay.joining.former = addresses.iter().copied().take(MAX_BOOTSTRAP).collect();
        if !addresses.is_empty() {
            self.overlay.joining.join_at = now;
        }
    }

    /// Keeps in touch with the nodes at these addresses. Returns whether there are new ones.
    pub(super) fn note_bootstrap_nodes(&mut self, now: Instant, addresses: &[SocketAddr]) -> bool {
        let before = std::mem::take(&mut self.overlay.joining.bootstrap_nodes);
        let mut has_new = false;
        for &address in addresses {
            let all = &mut self.overlay.joining.bootstrap_nodes;
            if all.len() < MAX_BOOTSTRAP && all.iter().all(|node| node.address != address) {
                let known = before.iter().find(|node| node.address == address);
                has_new |= known.is_none();
                let answered = known.and_then(|node| node.answered);
                all.push(BootstrapNode { address, answered });
            }
        }
        if self.overlay.joining.bootstrap_nodes.is_empty() {
            self.overlay.joining.ask_at = Instant::NEVER;
        } else if self.overlay.joining.ask_at == Instant::NEVER {
            self.plan_asking(now);
        }
        has_new
    }

    /// Joins, and asks bootstrap nodes, if it is time.
    pub(super) fn tend_joining(&mut self, now: Instant) {
        if self.overlay.joining.join_at <= now && self.overlay.joining.running.is_none() {
            self.overlay.joining.join_at = Instant::NEVER;
            if std::mem::take(&mut self.overlay.joining.is_news) || self.overlay.table.is_empty() {
                self.join(now);
            }
        }
        if self.overlay.joining.ask_at <= now {
            self.plan_asking(now);
            // Whoever is alone asks them anyway.
            if !self.overlay.table.is_empty() {
                self.ask_bootstrap_nodes(now);
            }
        }
    }

    fn join(&mut self, now: Instant) {
        let all = self.overlay.joining.bootstrap_nodes.iter().map(|node| node.address);
        let mut addresses: Vec<SocketAddr> = all.collect();
        if self.overlay.table.is_empty() {
            let is_new = |address: &&SocketAddr| !addresses.contains(address);
            let former: Vec<_> =
                self.overlay.joining.former.iter().filter(is_new).copied().collect();
            addresses.extend(former);
        }
        // It may end before it is told here which it is.
        self.overlay.joining.running = Some(OperationId(self.shared.last_operation + 1));
        self.overlay.joining.began = now;
        self.start_bootstrap(now, &addresses);
    }

    fn plan_asking(&mut self, now: Instant) {
        let rarer = (self.overlay.estimate().nodes / ASKERS).max(1.0);
        let every = (ASK_EVERY.as_micros() as f64 * rarer) as u64;
        let every = Duration::from_micros(every).min(ASK_EVERY_MAX);
        self.overlay.joining.ask_at = now + every.jittered(&mut self.shared.rng);
    }

    /// Asks those that were not heard of lately.
    fn ask_bootstrap_nodes(&mut self, now: Instant) {
        let is_fresh = |address: &SocketAddr| {
            let mut known =
                self.overlay.table.good().filter(|entry| entry.contact.address == *address);
            known.any(|entry| now.since(entry.last_seen) < ASK_EVERY)
        };
        let all = self.overlay.joining.bootstrap_nodes.iter().map(|node| node.address);
        let quiet: Vec<SocketAddr> = all.filter(|address| !is_fresh(address)).collect();
        for address in quiet {
            // Without room for a call it is asked the next time.
            let _ = self.send(now, address.into(), &Request::Ping, Purpose::BootstrapNode);
        }
    }

    /// A bootstrap node was asked whether it is there.
    pub(super) fn on_bootstrap_node_asked(
        &mut self,
        now: Instant,
        address: SocketAddr,
        contact: Option<Contact>,
    ) {
        if self.overlay.joining.on_asked(&address, contact.map(|contact| contact.id)) {
            self.overlay.joining.is_news = true;
            self.overlay.joining.join_at = now;
        }
        if contact.is_none() {
            self.shared.out.events.push_back(Event::BootstrapNodeSilent(address));
        }
    }

    /// A bootstrap has ended, perhaps an attempt of the node's own.
    pub(super) fn on_bootstrap_ended(&mut self, now: Instant, id: OperationId) {
        if self.overlay.joining.running != Some(id) {
            return;
        }
        self.overlay.joining.running = None;
        if self.overlay.table.is_empty() {
            self.overlay.joining.retry(now);
        }
    }

    /// A contact was lost; without any other the node is alone.
    pub(super) fn rejoin_if_alone(&mut self, now: Instant) {
        if self.overlay.table.is_empty() && self.overlay.joining.join_at == Instant::NEVER {
            // Whoever answers and then falls silent must not have it ask for ever.
            if now.since(self.overlay.joining.began) > RETRY_MAX.times(2) {
                self.overlay.joining.pause = RETRY_MIN;
            }
            self.overlay.joining.retry(now);
        }
    }
}
