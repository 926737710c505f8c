//! Contacts that stopped answering, and what is done when they are back.
//!
//! When a network falls apart, each part soon forgets the others, and would never find them again.
//! So a node remembers some of the contacts that it lost, and asks one of them now and then. One
//! that answers was away by itself. Where others answer too, a part of the network is back: then
//! the node joins once more, through them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::message::Contact;
use crate::node::{Node, jittered};
use crate::time::{Duration, Instant};

/// Lost contacts that are remembered, the latest: a part of a network that is away is found by any.
const MAX_LOST: usize = 64;

/// One of them is asked this often.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// So many are asked when one has answered.
const ASK_MORE: usize = 4;

/// Those that are back within so long of each other are back together.
const TOGETHER: Duration = Duration::from_secs(10);

/// To join takes some hundred messages, so it is not done more often.
const JOIN_EVERY: Duration = Duration::from_secs(300);

/// What a node remembers of contacts that it lost.
pub(super) struct Lost {
    /// The one to ask next in front.
    contacts: VecDeque<Contact>,
    ask_at: Instant,
    /// When the first of `back` was.
    back_since: Instant,
    /// Those that are back together.
    back: Vec<SocketAddr>,
    joined_at: Option<Instant>,
}

impl Default for Lost {
    fn default() -> Lost {
        Lost {
            contacts: VecDeque::new(),
            ask_at: Instant::NEVER,
            back_since: Instant::ZERO,
            back: Vec::new(),
            joined_at: None,
        }
    }
}

impl Lost {
    pub(super) fn next_timeout(&self) -> Instant {
        self.ask_at
    }

    /// Returns whether it was remembered.
    fn forget(&mut self, contact: &Contact) -> bool {
        let at = self.contacts.iter().position(|lost| lost == contact);
        at.and_then(|at| self.contacts.remove(at)).is_some()
    }

    /// Notes that a contact is back. Returns how many are, together with it.
    fn on_back(&mut self, now: Instant, contact: &Contact) -> usize {
        if self.back.is_empty() || now.since(self.back_since) > TOGETHER {
            self.back.clear();
            self.back_since = now;
        }
        // More are not needed to join through.
        if self.back.len() <= ASK_MORE {
            self.back.push(contact.address);
        }
        self.back.len()
    }

    fn may_join(&self, now: Instant) -> bool {
        self.joined_at.is_none_or(|joined| now.since(joined) >= JOIN_EVERY)
    }
}

impl Node {
    /// A contact of the routing table is taken for dead.
    pub(super) fn on_contact_lost(&mut self, now: Instant, contact: Contact) {
        self.lost.forget(&contact);
        self.lost.contacts.push_back(contact);
        if self.lost.contacts.len() > MAX_LOST {
            self.lost.contacts.pop_front();
        }
        if self.lost.ask_at == Instant::NEVER {
            self.lost.ask_at = now + jittered(ASK_EVERY, &mut self.rng);
        }
    }

    /// Asks the contact that was not asked for the longest, if it is time.
    pub(super) fn ask_lost(&mut self, now: Instant) {
        if self.lost.ask_at > now {
            return;
        }
        self.ask_next_lost(now);
        let next = now + jittered(ASK_EVERY, &mut self.rng);
        self.lost.ask_at = if self.lost.contacts.is_empty() { Instant::NEVER } else { next };
    }

    fn ask_next_lost(&mut self, now: Instant) {
        if let Some(&contact) = self.lost.contacts.front() {
            self.lost.contacts.rotate_left(1);
            self.verify(now, contact);
        }
    }

    /// A contact answered that the routing table did not have; it may have been away.
    pub(super) fn on_maybe_back(&mut self, now: Instant, contact: &Contact) {
        if !self.lost.forget(contact) {
            return;
        }
        let back = self.lost.on_back(now, contact);
        if back == 1 {
            for _ in 0..ASK_MORE.min(self.lost.contacts.len()) {
                self.ask_next_lost(now);
            }
        } else if self.lost.may_join(now) {
            self.lost.joined_at = Some(now);
            let through = std::mem::take(&mut self.lost.back);
            self.join_again(now, &through);
        }
    }
}
