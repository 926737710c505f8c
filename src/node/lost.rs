//! Contacts that stopped answering, and are asked again now and then.
//!
//! When a network falls apart, each part soon forgets the others, and would never find them again.
//! So a node remembers some of the contacts that it lost, and asks one of them now and then. If one
//! answers, others may too, so more are asked then. Those that answer are taken in if there is
//! room, as there is near the own id; lookups and replication do the rest.

use std::collections::VecDeque;

use crate::message::Contact;
use crate::time::{Duration, Instant};

/// How many lost contacts are remembered, the latest ones: any of them finds the part of the
/// network that is away.
const MAX_LOST: usize = 64;

/// One of them is asked this often.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(60);

/// How many more are asked for each that answers.
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

    /// A contact is taken for dead. If no time is set to ask one, `ask_at` is set.
    pub(super) fn on_lost(&mut self, contact: Contact, ask_at: impl FnOnce() -> Instant) {
        self.remember(contact);
        if self.ask_at == Instant::NEVER {
            self.ask_at = ask_at();
        }
    }

    /// Whether it is time to ask one; true once each time. If there are others, the next is asked at `next`.
    pub(super) fn take_due(&mut self, now: Instant, next: impl FnOnce() -> Instant) -> bool {
        let is_due = self.ask_at <= now;
        if is_due {
            let next = next();
            self.ask_at = if self.contacts.is_empty() { Instant::NEVER } else { next };
        }
        is_due
    }

    /// The contact that was not asked for the longest time.
    pub(super) fn next(&mut self) -> Option<Contact> {
        let next = *self.contacts.front()?;
        self.contacts.rotate_left(1);
        Some(next)
    }

    /// A contact has answered. Returns how many others to ask because of that: none if it was not
    /// lost.
    pub(super) fn on_back(&mut self, contact: &Contact) -> usize {
        if self.forget(contact) { ASK_MORE.min(self.contacts.len()) } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn contact(port: u16) -> Contact {
        Contact { id: Id::of_name(port.to_string()), address: ([127, 0, 0, 1], port).into() }
    }

    #[test]
    fn each_is_asked_in_turn_while_there_is_one() {
        let mut lost = Lost::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        assert_eq!(lost.next_timeout(), Instant::NEVER);
        (1..=3).for_each(|port| lost.on_lost(contact(port), || at(u64::from(port))));
        assert_eq!(lost.next_timeout(), at(1), "the first says when");
        assert!(!lost.take_due(at(0), || at(9)));
        assert!(lost.take_due(at(1), || at(9)));
        assert_eq!(lost.next_timeout(), at(9));
        let asked: Vec<_> = (0..4).filter_map(|_| lost.next()).collect();
        assert_eq!(asked, [1, 2, 3, 1].map(contact));
        assert_eq!(lost.on_back(&contact(4)), 0, "it was not lost");
        assert_eq!([1, 2, 3].map(|port| lost.on_back(&contact(port))), [2, 1, 0]);
        assert!(lost.take_due(at(9), || at(20)));
        assert_eq!((lost.next(), lost.next_timeout()), (None, Instant::NEVER));
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
