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

use crate::kad::routing::Entry;
use crate::message::{Contact, Request};
use crate::node::{Event, Node, Purpose};
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

impl Node {
    /// Begins the vigil: contacts are checked as [`Config::check`](crate::config::Config) says, and, if
    /// others may lie behind more than loopback, neighbours are asked as
    /// [`Config::keepalive`](crate::config::Config) says.
    pub fn keep_vigil(&mut self, now: Instant, is_loopback: bool) {
        if self.config.check != Duration::ZERO {
            self.vigil.tick_at = now + TICK;
        }
        if self.config.keepalive != Duration::ZERO && !is_loopback {
            self.vigil.ask_at = now + self.config.keepalive.jittered(&mut self.rng);
        }
    }

    pub(super) fn tend_vigil(&mut self, now: Instant) {
        if self.vigil.tick_at <= now {
            self.vigil.tick_at = self.check_quiet(now);
        }
        if self.vigil.ask_at <= now {
            self.vigil.ask_at = now + self.config.keepalive.jittered(&mut self.rng);
            self.ask_witness(now);
        }
        if self.vigil.tell_at.front().is_some_and(|at| *at <= now) {
            self.vigil.tell_at.pop_front();
            let all: Vec<Contact> = self.table.good().map(|entry| entry.contact).collect();
            all.into_iter().for_each(|contact| self.check_liveness(now, contact, 1));
        }
    }

    /// Asks some of the contacts that were not heard of for the longest. When there are more to ask.
    fn check_quiet(&mut self, now: Instant) -> Instant {
        let losses = &mut self.vigil.losses;
        while losses.front().is_some_and(|at| now.since(*at) > LATELY) {
            losses.pop_front();
        }
        let span = match self.vigil.is_alarmed(self.table.len()) {
            true => self.config.check.min(ALARMED),
            false => self.config.check,
        };
        let is_idle =
            |entry: &&Entry| !entry.stale && !self.maintenance.is_checking(&entry.contact);
        let idle = self.table.entries().filter(is_idle);
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
        next.max(now + TICK.jittered(&mut self.rng))
    }

    /// A contact of the routing table is taken for dead.
    pub(super) fn on_loss(&mut self, now: Instant) {
        if self.vigil.tick_at != Instant::NEVER {
            // More of them say no more.
            if self.vigil.losses.len() >= self.table.len().max(1) {
                self.vigil.losses.pop_front();
            }
            self.vigil.losses.push_back(now);
            self.vigil.tick_at = self.vigil.tick_at.min(now + TICK);
        }
    }

    /// Asks the next of the nearest contacts where it sees this node.
    fn ask_witness(&mut self, now: Instant) {
        let own = self.id;
        let witnesses: Vec<Contact> = self
            .table
            .closest(&own)
            .filter(|entry| entry.is_good() && !entry.contact.address.ip().is_loopback())
            .map(|entry| entry.contact)
            .take(WITNESSES)
            .collect();
        if witnesses.is_empty() {
            return;
        }
        self.vigil.turn += 1;
        let witness = witnesses[self.vigil.turn % witnesses.len()];
        // Without room for a call the next is asked.
        let _ = self.send(now, witness.into(), &Request::GetSocket, Purpose::Witness);
    }

    /// A neighbour says where it sees this node.
    pub(super) fn on_witness(&mut self, now: Instant, witness: Contact, address: SocketAddr) {
        let Some(before) = self.vigil.note(witness, address) else { return };
        // Each neighbour notices a change in its turn.
        let is_told = |(at, told)| told == address || now.since(at) < TELL_AGAIN;
        if self.vigil.told.is_some_and(is_told) {
            return;
        }
        self.vigil.told = Some((now, address));
        self.vigil.tell_at = TELL_AFTER.iter().map(|after| now + *after).collect();
        self.out.events.push_back(Event::OwnAddressChanged { before, now: address });
    }
}
