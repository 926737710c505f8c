//! Upkeep: what a node does unasked. It checks contacts that seem dead and strangers that may become
//! contacts, refreshes buckets, measures the size of the network, asks after contacts that it lost,
//! and keeps its [`vigil`](super::vigil). What it does for the values that it keeps is in
//! [`handover`](super::handover), and how it joins in [`bootstrap`](super::bootstrap).

use std::net::SocketAddr;

use crate::address::{LocalEnd, is_loopback, is_sendable};
use crate::guard::challenge::Form;
use crate::id::Id;
use crate::kad::lookup::Goal;
use crate::kad::routing::{Entry, Sighting};
use crate::message::{Contact, Request};
use crate::node::calls::Purpose;
use crate::node::operations::Then;
use crate::node::overlay::{Active, Overlay};
use crate::node::vigil::Vigil;
use crate::node::{Event, lost, vigil};
use crate::time::{Duration, Instant};
use crate::wire::{self, Header};

/// Pings in a row that a contact may leave unanswered before it counts as dead.
const LIVENESS_ATTEMPTS: u32 = 2;

/// Unanswered requests after which a stale contact is forgotten when its bucket is refreshed.
const HOPELESS: u16 = 8;

/// Time for a changed network to settle before its size is measured anew.
const SETTLING: Duration = Duration::from_secs(8);

impl Active<'_> {
    /// Does what is due by now.
    pub(super) fn maintain(&mut self, now: Instant) {
        if self.overlay.maintenance.is_refresh_due(now) {
            self.refresh_due(now);
        }
        self.ask_lost(now);
        self.tend_joining(now);
        self.tend_vigil(now);
        self.tend_routes(now);
        if self.overlay.maintenance.take_measuring(now) {
            self.measure(now);
        }
        self.note_due(now);
        self.overlay.peers.expire(now);
        self.overlay.items.expire(now);
        if self.overlay.maintenance.is_work_due(now) {
            self.work(now);
        }
    }

    /// Begins the tasks that there is room for.
    fn work(&mut self, now: Instant) {
        while self.overlay.maintenance.has_room_for_lookup()
            && let Some((target, then)) = self.next_lookup()
        {
            self.overlay.maintenance.on_lookup_begun();
            self.begin_lookup(now, Goal::Node { target }, then);
        }
        // Even if one of them has ended at once: there is no more to begin now.
        let next = self.replicate(now);
        self.overlay.maintenance.work_at(next);
    }

    fn next_lookup(&mut self) -> Option<(Id, Then)> {
        let refresh = self.overlay.maintenance.next_refresh().map(|target| (target, Then::Refresh));
        refresh.or_else(|| Some((self.overlay.replication.next_key()?, Then::Replicate)))
    }

    /// A request came from somebody. A stranger must answer a ping before it becomes a contact,
    /// because its address may be forged; and until then nobody else is pinged because of it. The
    /// ping leaves from the end that was asked: a NAT or a firewall may let nothing else through to
    /// it.
    pub(super) fn on_asked(&mut self, now: Instant, asker: Contact, local: LocalEnd) {
        let check = match self.overlay.table.on_seen(now, &asker) {
            Sighting::Live | Sighting::Own => None,
            Sighting::Suspect => return self.verify(now, &asker, local),
            Sighting::Elsewhere { check } => check,
            Sighting::Stranger if self.overlay.table.has_room(&asker) => {
                return self.verify(now, &asker, local);
            }
            Sighting::Stranger if self.is_validated(&asker) => {
                self.overlay.table.on_stranger(now, asker)
            }
            Sighting::Stranger => self.overlay.table.due_for_check(now, &asker.id),
        };
        match check {
            Some(contact) if self.is_validated(&asker) => self.check_liveness(now, contact, 1),
            // If it answers, the table names the contact to check.
            Some(_) => self.verify(now, &asker, local),
            None => {}
        }
    }

    /// Pings the address that somebody asks from, to see whether it is the asker's own. The node
    /// remembers nothing about that; see [`Challenge`](super::challenge::Challenge).
    pub(super) fn verify(&mut self, now: Instant, asker: &Contact, local: LocalEnd) {
        let address = &asker.address;
        if !is_sendable(address)
            || self.shared.is_own_address(address)
            || !self.shared.rations.take(now, asker)
        {
            return;
        }
        let transaction =
            self.shared.challenge.ping_id(Form::of(self.overlay.dialect), now, address);
        let header = Header {
            dialect: self.overlay.dialect,
            from: self.overlay.id,
            transaction,
            asker: None,
        };
        let start = self.shared.out.bytes.len();
        wire::emit(&mut self.shared.out.bytes, &header, &Request::Ping);
        self.shared.transmit(*address, local, start);
    }

    /// Pings a contact that was lost, or that waits for a place in the routing table.
    pub(super) fn recheck(&mut self, now: Instant, contact: Contact) {
        if self.overlay.maintenance.has_room_to_recheck(&contact)
            && self.send(now, contact.into(), &Request::Ping, Purpose::Recheck).is_ok()
        {
            self.overlay.maintenance.on_recheck_begun(contact);
        }
    }

    /// Pings a contact of the routing table that may have gone.
    pub(super) fn check_liveness(&mut self, now: Instant, contact: Contact, attempt: u32) {
        if self.overlay.maintenance.has_room_to_check(&contact)
            && self.send(now, contact.into(), &Request::Ping, Purpose::Liveness { attempt }).is_ok()
        {
            self.overlay.maintenance.on_check_begun(contact);
        }
    }

    /// A contact left a call unanswered.
    pub(super) fn on_contact_silent(&mut self, now: Instant, contact: Contact, purpose: Purpose) {
        let in_table = self.overlay.table.on_silence(&contact);
        match purpose {
            Purpose::Recheck => {}
            Purpose::Liveness { attempt } => match attempt {
                LIVENESS_ATTEMPTS.. => self.on_dead(now, contact),
                _ => self.check_liveness(now, contact, attempt + 1),
            },
            _ if in_table => self.check_liveness(now, contact, 1),
            _ => {}
        }
    }

    fn on_dead(&mut self, now: Instant, contact: Contact) {
        let Some(replacement) = self.overlay.table.on_dead(&contact) else { return };
        self.shared.out.events.push_back(Event::ContactLost(contact));
        let ask_at = || now + lost::ASK_EVERY.jittered(&mut self.shared.rng);
        self.overlay.lost.on_lost(contact, ask_at);
        self.overlay.vigil.on_loss(now, self.overlay.table.len());
        if self.overlay.table.is_empty() {
            self.overlay.joining.on_alone(now);
        }
        self.measure_soon(now);
        if let Some(replacement) = replacement {
            self.recheck(now, replacement);
        }
    }

    /// A contact is new in the routing table.
    pub(super) fn on_contact_added(&mut self, now: Instant, contact: Contact) {
        self.shared.out.events.push_back(Event::ContactAdded(contact));
        self.measure_soon(now);
        self.schedule_refresh();
        self.on_maybe_holder(now, contact);
    }

    /// Looks something up in every bucket but the last, after a join.
    pub(super) fn refresh_all(&mut self, now: Instant) {
        for bucket in 0..self.overlay.table.buckets().len() - 1 {
            self.queue_refresh(now, bucket);
        }
    }

    fn refresh_due(&mut self, now: Instant) {
        loop {
            let (bucket, touched) = self.overlay.table.least_touched();
            if now < touched + self.shared.config.refresh {
                break;
            }
            for contact in self.overlay.table.stale_after(bucket, HOPELESS) {
                self.recheck(now, contact);
            }
            self.queue_refresh(now, bucket);
        }
        self.schedule_refresh();
    }

    fn queue_refresh(&mut self, now: Instant, bucket: usize) {
        let target = self.overlay.id.random_at(bucket as u32, &mut self.shared.rng);
        self.overlay.table.touch(now, &target);
        self.overlay.maintenance.queue(now, target);
    }

    pub(super) fn schedule_refresh(&mut self) {
        let (_, touched) = self.overlay.table.least_touched();
        self.overlay.maintenance.refresh_at(touched + self.shared.config.refresh);
    }

    pub(super) fn on_refreshed(&mut self, now: Instant) {
        self.overlay.maintenance.on_lookup_ended(now);
    }

    fn measure_soon(&mut self, now: Instant) {
        let at = || now + SETTLING.jittered(&mut self.shared.rng);
        self.overlay.maintenance.measure_at(at);
    }

    /// Looks up random points if too little is known about how densely nodes lie. Only once for each
    /// change of the routing table: where lookups fail, more of them would not help.
    fn measure(&mut self, now: Instant) {
        let Overlay { table, estimator, maintenance, .. } = &mut *self.overlay;
        if table.is_empty() {
            return;
        }
        for target in estimator.targets(table.len(), &mut self.shared.rng) {
            maintenance.queue(now, target);
        }
    }

    /// Asks the lost contact that was not asked for the longest, if it is time.
    fn ask_lost(&mut self, now: Instant) {
        let next = || now + lost::ASK_EVERY.jittered(&mut self.shared.rng);
        if self.overlay.lost.take_due(now, next) {
            self.ask_next_lost(now);
        }
    }

    fn ask_next_lost(&mut self, now: Instant) {
        if let Some(contact) = self.overlay.lost.next() {
            self.recheck(now, contact);
        }
    }

    /// A contact that the routing table did not have answered; it may have been away.
    pub(super) fn on_maybe_back(&mut self, now: Instant, contact: &Contact) {
        for _ in 0..self.overlay.lost.on_back(contact) {
            self.ask_next_lost(now);
        }
    }

    /// Begins the vigil.
    pub(super) fn keep_vigil(&mut self, now: Instant, is_loopback: bool) {
        if self.shared.config.check != Duration::ZERO {
            self.overlay.vigil.begin_checks(now);
        }
        if self.shared.config.keepalive != Duration::ZERO && !is_loopback {
            let at = now + self.shared.config.keepalive.jittered(&mut self.shared.rng);
            self.overlay.vigil.ask_at(at);
        }
    }

    pub(super) fn tend_vigil(&mut self, now: Instant) {
        if self.overlay.vigil.is_check_due(now) {
            self.check_quiet(now);
        }
        if self.overlay.vigil.is_asking_due(now) {
            let at = now + self.shared.config.keepalive.jittered(&mut self.shared.rng);
            self.overlay.vigil.ask_at(at);
            self.ask_witness(now);
        }
        if self.overlay.vigil.take_telling(now) {
            let all: Vec<Contact> = self.overlay.table.good().map(|entry| entry.contact).collect();
            all.into_iter().for_each(|contact| self.check_liveness(now, contact, 1));
        }
    }

    /// Asks some of the contacts that were not heard of for the longest.
    fn check_quiet(&mut self, now: Instant) {
        let Overlay { table, vigil, maintenance, .. } = &mut *self.overlay;
        let span = vigil.span(now, table.len(), self.shared.config.check);
        let is_idle = |entry: &&Entry| !entry.stale && !maintenance.is_checking(&entry.contact);
        let idle = table.entries().filter(is_idle);
        let mut idle: Vec<(Instant, Contact)> =
            idle.map(|entry| (entry.last_seen, entry.contact)).collect();
        idle.sort_unstable();
        let due = Vigil::due(now, &idle, span);
        for (_, contact) in &idle[..due] {
            self.check_liveness(now, *contact, 1);
        }
        let soonest = now + vigil::TICK.jittered(&mut self.shared.rng);
        self.overlay.vigil.look_again(now, idle.get(due), span, soonest);
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
            .take(vigil::WITNESSES)
            .collect();
        let Some(witness) = self.overlay.vigil.next_witness(&witnesses) else { return };
        // Without room for a call the next is asked.
        let _ = self.send(now, witness.into(), &Request::GetSocket, Purpose::Witness);
    }

    /// A neighbour says where it sees this node.
    pub(super) fn on_witness(&mut self, now: Instant, witness: Contact, address: SocketAddr) {
        let before = self.overlay.vigil.on_witness(now, witness, address);
        let Some(before) = before else { return };
        self.shared.out.events.push_back(Event::OwnAddressChanged { before, now: address });
    }
}
