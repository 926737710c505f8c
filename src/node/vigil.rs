//! The vigil: what a node does to keep its routing table true, and those of its neighbours.
//!
//! A contact that was not heard of for a while is asked whether it is there, and leaves after two pings
//! without an answer. Where many have gone the rest are asked at once. One ping tells two nodes: the
//! node that is asked hears of the asker. So a table costs each node about half a ping for each contact
//! and span.
//!
//! Off loopback a node also asks its nearest contacts in turn under which address they see it. That
//! keeps open what a NAT or a firewall forgets, and tells when its own address has changed; then it
//! lets all of its contacts know.
//!
//! The owner of the node says when the vigil begins: simulated networks do without unless they ask.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::message::Contact;
use crate::time::{Duration, Instant};

/// Contacts are looked at this often.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Contacts that are asked at one look: many were last heard of together, and the node that asks first
/// spares the other the question.
const CHECKS_PER_TICK: usize = 8;

/// Where many have gone lately, contacts that were heard of longer ago than this are asked.
const ALARMED: Duration = Duration::from_secs(10);

/// How long a loss counts as lately.
const LATELY: Duration = Duration::from_secs(60);

/// Many have gone if one contact was lost lately for every this many that are left.
const CONTACTS_PER_LOSS: usize = 8;

/// Neighbours that are asked in turn for the own address: each is asked again soon enough to notice a
/// change within a minute.
pub(super) const WITNESSES: usize = 3;

/// After a change of the own address all contacts are pinged this often, with these pauses: they ask
/// back at the old address, and take the new one once nobody answers there.
const TELL_AFTER: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(20), Duration::from_secs(40)];

/// Contacts hear of another change no earlier than this: a neighbour that lies must not make a node
/// noisy.
const TELL_AGAIN: Duration = Duration::from_secs(90);

/// When the vigil looks next, and what it remembers.
pub(super) struct Vigil {
    tick_at: Instant,
    /// Contacts lost lately.
    losses: VecDeque<Instant>,
    ask_at: Instant,
    /// Where neighbours saw this node when they were asked last.
    witnesses: VecDeque<(Contact, SocketAddr)>,
    /// Number of the next question.
    turn: usize,
    /// When to tell all contacts of the own address; the next time in front.
    tell_at: VecDeque<Instant>,
    /// The address that they were told last, and when.
    told: Option<(Instant, SocketAddr)>,
}

impl Default for Vigil {
    fn default() -> Vigil {
        Vigil {
            tick_at: Instant::NEVER,
            losses: VecDeque::new(),
            ask_at: Instant::NEVER,
            witnesses: VecDeque::new(),
            turn: 0,
            tell_at: VecDeque::new(),
            told: None,
        }
    }
}

impl Vigil {
    pub(super) fn next_timeout(&self) -> Instant {
        let tell_at = self.tell_at.front().copied().unwrap_or(Instant::NEVER);
        self.tick_at.min(self.ask_at).min(tell_at)
    }

    /// Looks at the contacts from now on.
    pub(super) fn begin_checks(&mut self, now: Instant) {
        self.tick_at = now + TICK;
    }

    /// Sets the time to ask the next neighbour.
    pub(super) fn ask_at(&mut self, at: Instant) {
        self.ask_at = at;
    }

    /// Whether it is time to look at the contacts.
    pub(super) fn is_check_due(&self, now: Instant) -> bool {
        self.tick_at <= now
    }

    /// Whether it is time to ask a neighbour.
    pub(super) fn is_asking_due(&self, now: Instant) -> bool {
        self.ask_at <= now
    }

    /// Whether it is time to tell all contacts of the own address; true once each time.
    pub(super) fn take_telling(&mut self, now: Instant) -> bool {
        let is_due = self.tell_at.front().is_some_and(|at| *at <= now);
        if is_due {
            self.tell_at.pop_front();
        }
        is_due
    }

    /// How long contacts go unasked, if there are `contacts` of them, to be asked every `check`.
    pub(super) fn span(&mut self, now: Instant, contacts: usize, check: Duration) -> Duration {
        while self.losses.front().is_some_and(|at| now.since(*at) > LATELY) {
            self.losses.pop_front();
        }
        if self.is_alarmed(contacts) { check.min(ALARMED) } else { check }
    }

    /// How many of the contacts in `idle` to ask now. None of those is being asked already; they are
    /// sorted by when they were last heard of.
    pub(super) fn due(now: Instant, idle: &[(Instant, Contact)], span: Duration) -> usize {
        let is_due = |(seen, _): &&(Instant, Contact)| now.since(*seen) >= span;
        idle.iter().take(CHECKS_PER_TICK).take_while(is_due).count()
    }

    /// Looks at the contacts again when another is due, but not before `soonest`.
    pub(super) fn look_again(
        &mut self,
        now: Instant,
        next: Option<&(Instant, Contact)>,
        span: Duration,
        soonest: Instant,
    ) {
        // Contacts that come or are heard of from now on are due after a whole span at the
        // earliest.
        let due = next.map_or(now, |(seen, _)| *seen) + span;
        self.tick_at = due.max(soonest);
    }

    /// A contact of the routing table is taken for dead; `contacts` are left.
    pub(super) fn on_loss(&mut self, now: Instant, contacts: usize) {
        if self.tick_at != Instant::NEVER {
            // Remembering more of them would tell no more.
            if self.losses.len() >= contacts.max(1) {
                self.losses.pop_front();
            }
            self.losses.push_back(now);
            self.tick_at = self.tick_at.min(now + TICK);
        }
    }

    /// Which of the neighbours is asked next.
    pub(super) fn next_witness(&mut self, witnesses: &[Contact]) -> Option<Contact> {
        if witnesses.is_empty() {
            return None;
        }
        self.turn += 1;
        Some(witnesses[self.turn % witnesses.len()])
    }

    /// A neighbour says where it sees this node. Returns where it saw it before, if contacts are now
    /// told of a change.
    pub(super) fn on_witness(
        &mut self,
        now: Instant,
        witness: Contact,
        address: SocketAddr,
    ) -> Option<SocketAddr> {
        let before = self.note(witness, address)?;
        // Each neighbour notices a change in its turn.
        let is_told = |(at, told)| told == address || now.since(at) < TELL_AGAIN;
        if self.told.is_some_and(is_told) {
            return None;
        }
        self.told = Some((now, address));
        self.tell_at = TELL_AFTER.iter().map(|after| now + *after).collect();
        Some(before)
    }

    /// Notes where a neighbour sees this node. Returns where it saw it before, if that was
    /// elsewhere.
    fn note(&mut self, witness: Contact, address: SocketAddr) -> Option<SocketAddr> {
        let at = self.witnesses.iter().position(|(other, _)| *other == witness);
        let before = at.and_then(|at| self.witnesses.remove(at)).map(|(_, before)| before);
        self.witnesses.push_back((witness, address));
        if self.witnesses.len() > 2 * WITNESSES {
            self.witnesses.pop_front();
        }
        before.filter(|before| *before != address)
    }

    fn is_alarmed(&self, contacts: usize) -> bool {
        !self.losses.is_empty() && self.losses.len() * CONTACTS_PER_LOSS >= contacts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn contact(port: u16) -> Contact {
        Contact { id: Id::of_name(port.to_string()), address: ([192, 0, 2, 1], port).into() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_change_is_told_of_once_whoever_notices_it() {
        let mut vigil = Vigil::default();
        let (old, new) = ("198.51.100.1:1".parse().unwrap(), "198.51.100.2:1".parse().unwrap());
        for port in 1..=3 {
            assert_eq!(vigil.on_witness(at(0), contact(port), old), None);
        }
        assert_eq!(vigil.on_witness(at(20), contact(1), new), Some(old));
        assert_eq!(vigil.on_witness(at(40), contact(2), new), None);
        assert_eq!(vigil.on_witness(at(60), contact(3), old), None);
        let told: Vec<_> = (20..100).filter(|&second| vigil.take_telling(at(second))).collect();
        assert_eq!(told, [20, 40, 60]);
        assert_eq!(vigil.on_witness(at(111), contact(1), old), Some(new), "told of long ago");
    }

    #[test]
    fn those_heard_of_first_are_asked_a_few_at_a_time() {
        let (mut vigil, span) = (Vigil::default(), Duration::from_secs(100));
        let idle: Vec<_> = (1..=20).map(|n| (at(n), contact(n as u16))).collect();
        assert_eq!(Vigil::due(at(50), &idle, span), 0);
        assert_eq!(Vigil::due(at(105), &idle, span), 5);
        assert_eq!(Vigil::due(at(200), &idle, span), CHECKS_PER_TICK);
        vigil.look_again(at(105), idle.get(5), span, at(106));
        assert_eq!(vigil.next_timeout(), at(106));
        vigil.look_again(at(107), idle.get(9), span, at(108));
        assert_eq!(vigil.next_timeout(), at(110));
        vigil.look_again(at(107), None, span, at(108));
        assert_eq!(vigil.next_timeout(), at(207), "nobody is there");
    }

    #[test]
    fn where_many_go_the_rest_is_asked_soon() {
        let (mut vigil, check) = (Vigil::default(), Duration::from_secs(180));
        vigil.on_loss(at(0), 16);
        assert_eq!(vigil.next_timeout(), Instant::NEVER, "it has not begun");
        vigil.begin_checks(at(0));
        vigil.on_loss(at(10), 16);
        assert_eq!(vigil.span(at(11), 16, check), check);
        vigil.on_loss(at(12), 16);
        assert_eq!(vigil.span(at(13), 16, check), ALARMED);
        assert_eq!(vigil.span(at(100), 16, check), check, "long ago");
    }
}
