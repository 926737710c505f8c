//! Contacts that left this node's own requests unanswered, whether the routing table has them or not.
//!
//! Others go on naming a dead contact for hours, and each lookup that hears of it would wait for it
//! anew. So what one lookup has learnt is kept for the next: a contact that is known to be silent is
//! asked all the same, for it may be back, but the lookup does not wait for it. One answer ends that.
//!
//! While nobody at all answers, this node itself may be cut off, and silence tells nothing about
//! others.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::Contact;
use crate::time::{Duration, Instant};

/// How many contacts are remembered, the latest ones: as many as die in an hour around a node of a large
/// network, in some 150 kB.
const MAX_CONTACTS: usize = 1_024;

/// Requests in a row after which a contact is taken to be silent: one datagram may get lost.
const MIN_UNANSWERED: u32 = 2;

/// How long a contact is remembered after the last of them. A contact that is asked again and stays
/// silent is remembered for longer.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A request that is sent longer than this after the last answer from anybody tells nothing.
const CONNECTED: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
struct Silence {
    unanswered: u32,
    last: Instant,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Silent {
    contacts: BTreeMap<Contact, Silence>,
    /// The same by time.
    by_time: BTreeSet<(Instant, Contact)>,
    /// When anybody last answered.
    answered: Option<Instant>,
}

impl Silent {
    /// A contact left a request unanswered that was sent at that time.
    pub(crate) fn on_silence(&mut self, now: Instant, contact: Contact, sent: Instant) {
        if self.answered.is_none_or(|answered| answered + CONNECTED < sent) {
            return;
        }
        let unanswered = 1 + self.forget(&contact).map_or(0, |silence| silence.unanswered);
        self.contacts.insert(contact, Silence { unanswered, last: now });
        self.by_time.insert((now, contact));
        if self.contacts.len() > MAX_CONTACTS
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.contacts.remove(&oldest);
        }
    }

    /// A contact answered something.
    pub(crate) fn on_answer(&mut self, now: Instant, contact: &Contact) {
        self.answered = Some(now);
        self.forget(contact);
    }

    /// Whether a contact is known to be silent.
    pub(crate) fn contains(&self, now: Instant, contact: &Contact) -> bool {
        self.contacts.get(contact).is_some_and(|silence| {
            silence.unanswered >= MIN_UNANSWERED && now.since(silence.last) < REMEMBERED
        })
    }

    fn forget(&mut self, contact: &Contact) -> Option<Silence> {
        let silence = self.contacts.remove(contact)?;
        self.by_time.remove(&(silence.last, *contact));
        Some(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    const SECOND: Duration = Duration::from_secs(1);

    fn contact(port: u16) -> Contact {
        Contact { id: Id::of_name(port.to_string()), address: ([127, 0, 0, 1], port).into() }
    }

    /// The memory of a node that hears from somebody.
    fn connected() -> Silent {
        let mut silent = Silent::default();
        silent.on_answer(Instant::ZERO, &contact(1));
        silent
    }

    #[test]
    fn who_was_silent_twice_is_silent_until_it_answers_or_long_after() {
        let (mut silent, start, dead) = (connected(), Instant::ZERO, contact(2));
        silent.on_silence(start, dead, start);
        assert!(!silent.contains(start, &dead), "a datagram may get lost");
        silent.on_silence(start + SECOND, dead, start);
        assert!(silent.contains(start + SECOND, &dead) && !silent.contains(start, &contact(3)));
        assert!(!silent.contains(start + SECOND + REMEMBERED, &dead));
        silent.on_silence(start + REMEMBERED, dead, start);
        assert!(silent.contains(start + SECOND + REMEMBERED, &dead), "it was asked again");
        silent.on_answer(start + REMEMBERED, &dead);
        assert!(!silent.contains(start + REMEMBERED, &dead));
    }

    #[test]
    fn while_nobody_answers_nobody_is_silent() {
        let (mut silent, start, dead) = (connected(), Instant::ZERO, contact(2));
        let now = start + CONNECTED + SECOND;
        (0..9).for_each(|_| silent.on_silence(now, dead, now));
        assert!(!silent.contains(now, &dead));
        silent.on_answer(now, &contact(1));
        (0..2).for_each(|_| silent.on_silence(now, dead, now));
        assert!(silent.contains(now, &dead));
    }

    #[test]
    fn the_latest_are_remembered() {
        let (mut silent, start) = (connected(), Instant::ZERO);
        for port in 1..=3_000 {
            let now = start + SECOND.times(u64::from(port) / 100);
            (0..2).for_each(|_| silent.on_silence(now, contact(port), start));
        }
        assert_eq!((silent.contacts.len(), silent.by_time.len()), (MAX_CONTACTS, MAX_CONTACTS));
        let now = start + SECOND.times(30);
        assert!(silent.contains(now, &contact(2_500)) && !silent.contains(now, &contact(1_500)));
    }
}
