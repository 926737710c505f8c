//! The vigil: what a node does so that its routing table stays true, and those of its neighbours.
//!
//! A contact that was not heard of for a while is asked whether it is there, and leaves after two pings
//! without an answer. Where many have gone the rest is asked at once. One ping tells two nodes: who is
//! asked has heard of the asker. So a table costs each node about half a ping a contact and span.
//!
//! Off loopback a node also asks its nearest contacts in turn under which address they see it. That
//! keeps open what a NAT or a firewall forgets, and tells when its own address has changed; then it
//! lets all of its contacts know.
//!
//! Whoever owns the node says when the vigil begins: simulated networks do without unless they ask.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::address::is_loopback;
use crate::kad::routing::Entry;
use crate::message::{Contact, Request};
use crate::node::Event;
use crate::node::calls::Purpose;
use crate::node::overlay::Active;
use crate::time::{Duration, Instant};

/// Contacts are looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// Contacts that are asked at one look: many were last heard of together, and whoever asks first spares
/// the other the question.
const CHECKS_PER_TICK: usize = 8;

/// Where many have gone lately, who was heard of longer ago than this is asked.
const ALARMED: Duration = Duration::from_secs(10);

/// How long a loss counts as lately.
const LATELY: Duration = Duration::from_secs(60);

/// Many have gone if one contact was lost lately for each of this many that are left.
const CONTACTS_PER_LOSS: usize = 8;

/// Neighbours that are asked in turn for the own address: each is asked again soon enough to notice a
/// change within a minute.
const WITNESSES: usize = 3;

/// After a change of the own address all contacts are pinged this often, with these pauses: they ask
/// back at the old address, and take the new one once nobody answers there.
const TELL_AFTER: [Duration; 3] =
    [Duration::ZERO, Duration::from_secs(20), Duration::from_secs(40)];

/// Another change is told of no earlier: a neighbour that lies must not make a node noisy.
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
    /// When all contacts are told of the own address; the next in front.
    tell_at: VecDeque<Instant>,
    /// Of which address they were told last, and when.
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

    /// Notes where a neighbour sees this node. Where it saw it before, if that was elsewhere.
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

impl Active<'_> {
    /// Begins the vigil.
    pub(super) fn keep_vigil(&mut self, now: Instant, is_loopback: bool) {
        if self.shared.config.check != Duration::ZERO {
            self.overlay.vigil.tick_at = now + TICK;
        }
        if self.shared.config.keepalive != Duration::ZERO && !is_loopback {
            self.overlay.vigil.ask_at =
                now + self.shared.config.keepalive.jittered(&mut self.shared.rng);
        }
    }

    pub(super) fn tend_vigil(&mut self, now: Instant) {
        if self.overlay.vigil.tick_at <= now {
            self.overlay.vigil.tick_at = self.check_quiet(now);
        }
        if self.overlay.vigil.ask_at <= now {
            self.overlay.vigil.ask_at =
                now + self.shared.config.keepalive.jittered(&mut self.shared.rng);
            self.ask_witness(now);
        }
        if self.overlay.vigil.tell_at.front().is_some_and(|at| *at <= now) {
            self.overlay.vigil.tell_at.pop_front();
            let all: Vec<Contact> = self.overlay.table.good().map(|entry| entry.contact).collect();
            all.into_iter().for_each(|contact| self.check_liveness(now, contact, 1));
        }
    }

    /// Asks some of the contacts that were not heard of for the longest. When there are more to ask.
    fn check_quiet(&mut self, now: Instant) -> Instant {
        let losses = &mut self.overlay.vigil.losses;
        while losses.front().is_some_and(|at| now.since(*at) > LATELY) {
            losses.pop_front();
        }
        let span = match self.overlay.vigil.is_alarmed(self.overlay.table.len()) {
            true => self.shared.config.check.min(ALARMED),
            false => self.shared.config.check,
        };
        let is_idle =
            |entry: &&Entry| !entry.stale && !self.overlay.maintenance.is_checking(&entry.contact);
        let idle = self.overlay.table.entries().filter(is_idle);
        let mut idle: Vec<(Instant, Contact)> =
            idle.map(|entry| (entry.last_seen, entry.contact)).collect();
        idle.sort_unstable();
        let is_due = |(seen, _): &&(Instant, Contact)| now.since(*seen) >= span;
        let due = idle.iter().take(CHECKS_PER_TICK).take_while(is_due).count();
        for (_, contact) in &idle[..due] {
            self.check_liveness(now, *contact, 1);
        }
        // Whoever comes or is heard of from now on is due no earlier than after a whole span.
        let next = idle.get(due).map_or(now, |(seen, _)| *seen) + span;
        next.max(now + TICK.jittered(&mut self.shared.rng))
    }

    /// A contact of the routing table is taken for dead.
    pub(super) fn on_loss(&mut self, now: Instant) {
        if self.overlay.vigil.tick_at != Instant::NEVER {
            // More of them say no more.
            if self.overlay.vigil.losses.len() >= self.overlay.table.len().max(1) {
                self.overlay.vigil.losses.pop_front();
            }
            self.overlay.vigil.losses.push_back(now);
            self.overlay.vigil.tick_at = self.overlay.vigil.tick_at.min(now + TICK);
        }
    }

    /// Asks the next of the nearest contacts where it sees this node.
    fn ask_witness(&mut self, now: Instant) {
        let own = self.overlay.id;
        let witnesses: Vec<Contact> = self
            .overlay
            .table
            .closest(&own)
            .filter(|entry| entry.is_good() && !is_loopback(&entry.contact.address))
            .map(|entry| entry.contact)
            .take(WITNESSES)
            .collect();
        if witnesses.is_empty() {
            return;
        }
        self.overlay.vigil.turn += 1;
        let witness = witnesses[self.overlay.vigil.turn % witnesses.len()];
        // Without room for a call the next is asked.
        let _ = self.send(now, witness.into(), &Request::GetSocket, Purpose::Witness);
    }

    /// A neighbour says where it sees this node.
    pub(super) fn on_witness(&mut self, now: Instant, witness: Contact, address: SocketAddr) {
        let Some(before) = self.overlay.vigil.note(witness, address) else { return };
        // Each neighbour notices a change in its turn.
        let is_told = |(at, told)| told == address || now.since(at) < TELL_AGAIN;
        if self.overlay.vigil.told.is_some_and(is_told) {
            return;
        }
        self.overlay.vigil.told = Some((now, address));
        self.overlay.vigil.tell_at = TELL_AFTER.iter().map(|after| now + *after).collect();
        self.shared.out.events.push_back(Event::OwnAddressChanged { before, now: address });
    }
}
