//! Upkeep: what a node does unasked. It checks contacts that seem dead and strangers that may
//! become contacts, refreshes buckets, and measures the size of the network; what it does for the
//! values that it keeps is told in [`replication`](super::replication).
//!
//! Lookups wait in a queue, and few run at once: upkeep must not crowd out what users ask for.

use std::collections::{BTreeSet, VecDeque};

use crate::address::{LocalEnd, Scope, is_sendable};
use crate::id::Id;
use crate::kad::crowd;
use crate::kad::lookup::Goal;
use crate::kad::routing::Sighting;
use crate::message::{Contact, Request};
use crate::node::Event;
use crate::node::calls::{Call, Peer, Purpose};
use crate::node::operations::Then;
use crate::node::overlay::Active;
use crate::time::{Duration, Instant};
use crate::wire::{self, Header};

/// Lookups of upkeep at once.
const MAX_RUNNING: usize = 4;

/// Lookups that wait to refresh the routing table: several times one for each bucket.
const MAX_REFRESHES: usize = 1_024;

/// Contacts of the routing table that are pinged at once.
const MAX_CHECKS: usize = 128;

/// Former and future contacts pinged at once. Strangers can have them pinged, so these take no place of
/// those that are in the table.
const MAX_RECHECKS: usize = 128;

/// How many of these may lie in one subnet: one publisher, who answers nothing, must not take all places.
const MAX_RECHECKS_PER_SUBNET: usize = 4;

/// Pings in a row that a contact may leave unanswered before it counts as dead.
const LIVENESS_ATTEMPTS: u32 = 2;

/// Unanswered requests after which a stale contact is forgotten when its bucket is refreshed.
const HOPELESS: u32 = 8;

/// Time for a changed network to settle before its size is measured anew.
const SETTLING: Duration = Duration::from_secs(8);

/// Tasks and timers of upkeep.
pub(super) struct Maintenance {
    /// Points to look something up at, for what the answers do to the routing table.
    refreshes: VecDeque<Id>,
    /// Lookups that run, for replication too.
    running: usize,
    /// Contacts of the routing table that are being pinged.
    checking: BTreeSet<Contact>,
    /// Former and future ones that are, no two at one address.
    rechecking: BTreeSet<Contact>,
    refresh_at: Instant,
    measure_at: Instant,
    /// When tasks are looked at next.
    work_at: Instant,
}

impl Default for Maintenance {
    fn default() -> Maintenance {
        Maintenance {
            refreshes: VecDeque::new(),
            running: 0,
            checking: BTreeSet::new(),
            rechecking: BTreeSet::new(),
            refresh_at: Instant::NEVER,
            measure_at: Instant::NEVER,
            work_at: Instant::NEVER,
        }
    }
}

impl Maintenance {
    pub(super) fn next_timeout(&self) -> Instant {
        self.refresh_at.min(self.measure_at).min(self.work_at)
    }

    /// Something may begin, because it is new or because something else has ended.
    pub(super) fn resume(&mut self, now: Instant) {
        self.work_at = now;
    }

    /// A call was answered, or was not in time: whoever was pinged by it may be pinged again.
    pub(super) fn on_call_ended(&mut self, call: &Call) {
        let Peer { address, id: Some(id) } = call.peer else { return };
        let contact = Contact { id, address };
        match call.purpose {
            Purpose::Recheck => _ = self.rechecking.remove(&contact),
            Purpose::Liveness { .. } => _ = self.checking.remove(&contact),
            _ => {}
        }
    }

    /// Whether a contact of the routing table is being pinged.
    pub(super) fn is_checking(&self, contact: &Contact) -> bool {
        self.checking.contains(contact)
    }

    /// Whether one more former or future contact may be pinged.
    fn has_room_to_recheck(&self, contact: &Contact) -> bool {
        let ip = contact.address.ip();
        let others = self.rechecking.iter().map(|other| other.address.ip());
        self.rechecking.len() < MAX_RECHECKS
            && self.rechecking.iter().all(|other| other.address != contact.address)
            // Many nodes may share a machine or a network with this one.
            && (Scope::of(ip) != Scope::Global
                || !crowd::is_crowded(others, ip, MAX_RECHECKS_PER_SUBNET))
    }

    pub(super) fn on_lookup_ended(&mut self, now: Instant) {
        self.running -= 1;
        self.resume(now);
    }
}

impl Active<'_> {
    /// Does what is due by now.
    pub(super) fn maintain(&mut self, now: Instant) {
        if self.overlay.maintenance.refresh_at <= now {
            self.refresh_due(now);
        }
        self.ask_lost(now);
        self.tend_joining(now);
        self.tend_vigil(now);
        if self.overlay.maintenance.measure_at <= now {
            self.measure(now);
        }
        self.note_due(now);
        if self.overlay.maintenance.work_at <= now {
            self.work(now);
        }
    }

    /// Begins what there is room for.
    fn work(&mut self, now: Instant) {
        while self.overlay.maintenance.running < MAX_RUNNING
            && let Some((target, then)) = self.next_lookup()
        {
            self.overlay.maintenance.running += 1;
            self.begin_lookup(now, Goal::Node { target }, then);
        }
        // Even if something of it has ended at once: there is no more to begin now.
        self.overlay.maintenance.work_at = self.replicate(now);
    }

    fn next_lookup(&mut self) -> Option<(Id, Then)> {
        let refresh =
            self.overlay.maintenance.refreshes.pop_front().map(|target| (target, Then::Refresh));
        refresh.or_else(|| Some((self.overlay.replication.next_key()?, Then::Replicate)))
    }

    /// A request came from somebody. A stranger must answer a ping before it becomes a contact,
    /// because its address may be forged; and until then nobody else is pinged on its account. It is
    /// asked from where it asked: a NAT or a firewall may let nothing else through to it.
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

    /// Pings an address that somebody asks from, to see whether it is that one's own. Nothing is
    /// remembered of it; see [`Challenge`](super::challenge::Challenge).
    pub(super) fn verify(&mut self, now: Instant, asker: &Contact, local: LocalEnd) {
        let address = &asker.address;
        if !is_sendable(address)
            || self.shared.is_own_address(address)
            || !self.shared.rations.take(now, asker)
        {
            return;
        }
        let transaction = self.shared.challenge.ping_id(now, address);
        let header = Header { dialect: self.overlay.dialect, from: self.overlay.id, transaction };
        let start = self.shared.out.bytes.len();
        wire::emit(&mut self.shared.out.bytes, &header, &Request::Ping);
        self.shared.transmit(*address, local, start);
    }

    /// Pings somebody who was lost, or waits for a place in the routing table.
    pub(super) fn recheck(&mut self, now: Instant, contact: Contact) {
        if self.overlay.maintenance.has_room_to_recheck(&contact)
            && self.send(now, contact.into(), &Request::Ping, Purpose::Recheck).is_ok()
        {
            self.overlay.maintenance.rechecking.insert(contact);
        }
    }

    /// Pings a contact of the routing table that may have gone.
    pub(super) fn check_liveness(&mut self, now: Instant, contact: Contact, attempt: u32) {
        let checking = &self.overlay.maintenance.checking;
        if checking.len() < MAX_CHECKS
            && !checking.contains(&contact)
            && self.send(now, contact.into(), &Request::Ping, Purpose::Liveness { attempt }).is_ok()
        {
            self.overlay.maintenance.checking.insert(contact);
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
        self.on_contact_lost(now, contact);
        self.on_loss(now);
        self.rejoin_if_alone(now);
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
        self.queue_lookup(now, target);
    }

    fn queue_lookup(&mut self, now: Instant, target: Id) {
        if self.overlay.maintenance.refreshes.len() < MAX_REFRESHES {
            self.overlay.maintenance.refreshes.push_back(target);
            self.overlay.maintenance.resume(now);
        }
    }

    pub(super) fn schedule_refresh(&mut self) {
        let (_, touched) = self.overlay.table.least_touched();
        self.overlay.maintenance.refresh_at = touched + self.shared.config.refresh;
    }

    pub(super) fn on_refreshed(&mut self, now: Instant) {
        self.overlay.maintenance.on_lookup_ended(now);
    }

    fn measure_soon(&mut self, now: Instant) {
        if self.overlay.maintenance.measure_at == Instant::NEVER {
            self.overlay.maintenance.measure_at = now + SETTLING.jittered(&mut self.shared.rng);
        }
    }

    /// Looks up random points if too little is known about how densely nodes lie. Once only for each
    /// change of the routing table: where lookups come to nothing, more of them would not help.
    fn measure(&mut self, now: Instant) {
        self.overlay.maintenance.measure_at = Instant::NEVER;
        if self.overlay.table.is_empty() {
            return;
        }
        for target in self.overlay.estimator.targets(self.overlay.table.len(), &mut self.shared.rng)
        {
            self.queue_lookup(now, target);
        }
    }
}
