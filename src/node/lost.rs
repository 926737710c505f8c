//! Contacts that stopped answering, and are asked again now and then.
//!
//! When a network falls apart, each part soon forgets the others, and would never find them again.
//! So a node remembers some of the contacts that it lost, and asks one of them now and then. Where
//! one answers others may, so more are asked then. Those that answer are taken in where there is
//! room, as there is near the own id; lookups and hand-overs do the rest.

use std::collections::VecDeque;

use crate::message::Contact;
use crate::node::overlay::Active;
use crate::time::{Duration, Instant};

/// Lost contacts that are remembered, the latest: a part of a network that is away is found by any.
const MAX_LOST: usize = 64;

/// One of them is asked this often.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// So many more are asked for each that answers.
const ASK_MORE: usize = 4;

/// What a node remembers of contacts that it lost.
pub(super) struct Lost {
    /// The one to ask next in front.
    contacts: VecDeque<Contact>,
    ask_at: Instant,
}

impl Default for Lost {
    fn default() -> Lost {
        Lost { contacts: VecDeque::new(), ask_at: Instant::NEVER }
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

    fn remember(&mut self, contact: Contact) {
        self.forget(&contact);
        self.contacts.push_back(contact);
        if self.contacts.len() > MAX_LOST {
            self.contacts.pop_front();
        }
    }
}

impl Active<'_> {
    /// A contact of the routing table is taken for dead.
    pub(super) fn on_contact_lost(&mut self, now: Instant, contact: Contact) {
        self.overlay.lost.remember(contact);
        if self.overlay.lost.ask_at == Instant::NEVER {
            self.overlay.lost.ask_at = now + ASK_EVERY.jittered(&mut self.shared.rng);
        }
    }

    /// Asks the contact that was not asked for the longest, if it is time.
    pub(super) fn ask_lost(&mut self, now: Instant) {
        if self.overlay.lost.ask_at > now {
            return;
        }
        let next = now + ASK_EVERY.jittered(&mut self.shared.rng);
        self.overlay.lost.ask_at = if self.ask_next_lost(now) { next } else { Instant::NEVER };
    }

    /// Returns whether there is one to ask.
    fn ask_next_lost(&mut self, now: Instant) -> bool {
        let Some(&contact) = self.overlay.lost.contacts.front() else {
            return false;
        };
        self.overlay.lost.contacts.rotate_left(1);
        self.recheck(now, contact);
        true
    }

    /// A contact answered that the routing table did not have; it may have been away.
    pub(super) fn on_maybe_back(&mut self, now: Instant, contact: &Contact) {
        if self.overlay.lost.forget(contact) {
            for _ in 0..ASK_MORE.min(self.overlay.lost.contacts.len()) {
                self.ask_next_lost(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn contact(port: u16) -> Contact {
        Contact { id: Id::of_name(port.to_string()), address: ([127, 0, 0, 1], port).into() }
    }

    #[test]
    fn the_latest_are_remembered_once_each() {
        let mut lost = Lost::default();
        (1..=1_000).for_each(|port| lost.remember(contact(port)));
        lost.remember(contact(950));
        assert_eq!(lost.contacts.len(), MAX_LOST);
        assert_eq!(lost.contacts.back(), Some(&contact(950)));
        lost.forget(&contact(950));
        assert_eq!(lost.contacts.len(), MAX_LOST - 1);
        assert!(!lost.contacts.contains(&contact(950)));
    }
}
