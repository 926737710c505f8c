//! Upkeep: what a node does unasked. It checks contacts that seem dead and strangers that may
//! become contacts, refreshes buckets, republishes values, hands them to nodes nearer to their keys,
//! and measures the size of the network.
//!
//! Everything that takes more than one datagram is a [`Task`] in a queue, of which few run at once:
//! upkeep must not crowd out what users ask for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::address::{LocalEnd, is_sendable};
use crate::bencode::Value;
use crate::id::Id;
use crate::message::{Contact, CopyOf, Request, Response, Store, StoreMode};
use crate::node::calls::Progress;
use crate::node::lookup::{Found, Goal, Lookup};
use crate::node::operations::Then;
use crate::node::routing::Seen;
use crate::node::{CallError, Event, Node, Purpose, jittered};
use crate::time::{Duration, Instant};
use crate::wire::v1::{self, Header};

/// Lookups of upkeep at once.
const MAX_RUNNING: usize = 4;

/// Copies on their way to other holders at once, beyond which upkeep begins no more. What lookups for
/// values leave on their way, at most [`MAX_CACHED`] each, comes on top.
const MAX_PASSING_ON: usize = 64;

/// Copies begun together: by so many the limit above may be exceeded.
const MAX_HANDED: usize = 8;

/// Time that each copy takes up. A quarter of what another lets one source send by default
/// ([`Config::source_rate`](super::config::Config::source_rate)): a holder that is near and quick could
/// be handed more than it takes, and what it does not take is lost until it is republished.
const COPY_EVERY: Duration = Duration::from_micros(200);

/// Copies that may be begun ahead of their time: the timer is no finer.
const COPIES_AHEAD: u64 = 64;

/// Tasks that wait: some six megabytes. A task that finds no room comes up again when its key is
/// next republished.
const MAX_TASKS: usize = 65_536;

/// Contacts, former and future ones pinged at once.
const MAX_PROBES: usize = 128;

/// Pings in a row that a contact may leave unanswered before it counts as dead.
const LIVENESS_ATTEMPTS: u32 = 2;

/// Unanswered requests after which a stale contact is forgotten when its bucket is refreshed.
const HOPELESS: u32 = 8;

/// Time for a changed network to settle before its size is measured anew.
const SETTLING: Duration = Duration::from_secs(8);

/// Values cached after one lookup.
const MAX_CACHED: usize = 16;

/// A cached copy that would live shorter is not worth its datagram.
const MIN_CACHED: Duration = Duration::from_secs(60);

/// Something to do when there is room for it.
enum Task {
    /// Look something up at this point, for what the answers do to the routing table.
    Refresh { target: Id },
    /// Pass the values under a key on to the nodes now nearest to it.
    Republish { key: Id },
    /// Pass the values under a key on to one node, all but the first few that have been.
    HandOver { key: Id, to: Contact, passed: usize },
}

/// A copy on its way to another holder.
struct Passage {
    to: Contact,
    key: Id,
    value: Value,
    copy: CopyOf,
    progress: Progress,
}

/// Tasks and timers of upkeep.
pub(super) struct Maintenance {
    tasks: VecDeque<Task>,
    running: usize,
    /// Copies on their way, by a number that is theirs alone.
    passing_on: BTreeMap<u64, Passage>,
    last_passage: u64,
    /// Until when the time of the copies is taken up.
    taken_until: Instant,
    /// Ids that are being pinged.
    pub(super) probing: BTreeSet<Id>,
    refresh_at: Instant,
    measure_at: Instant,
    /// When tasks are looked at next.
    work_at: Instant,
}

impl Default for Maintenance {
    fn default() -> Maintenance {
        Maintenance {
            tasks: VecDeque::new(),
            running: 0,
            passing_on: BTreeMap::new(),
            last_passage: 0,
            taken_until: Instant::ZERO,
            probing: BTreeSet::new(),
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

    fn queue(&mut self, now: Instant, task: Task) {
        if self.tasks.len() < MAX_TASKS {
            self.tasks.push_back(task);
            self.work_at = now;
        }
    }

    /// Something ended, so the next may begin.
    fn resume(&mut self, now: Instant) {
        if !self.tasks.is_empty() {
            self.work_at = now;
        }
    }

    /// From when on there is room for one task more: after what runs has ended if that is all that
    /// there may be.
    fn room_at(&self) -> Instant {
        if self.running < MAX_RUNNING && self.passing_on.len() < MAX_PASSING_ON {
            self.taken_until - COPY_EVERY.times(COPIES_AHEAD)
        } else {
            Instant::NEVER
        }
    }
}

impl Node {
    /// Does what is due by now.
    pub(super) fn maintain(&mut self, now: Instant) {
        if self.maintenance.refresh_at <= now {
            self.refresh_due(now);
        }
        self.ask_lost(now);
        if self.maintenance.measure_at <= now {
            self.measure(now);
        }
        while let Some(key) = self.store.pop_due(now, &mut self.rng) {
            self.maintenance.queue(now, Task::Republish { key });
        }
        while self.maintenance.room_at() <= now
            && let Some(task) = self.maintenance.tasks.pop_front()
        {
            self.begin(now, task);
        }
        // Even if something of it has ended at once: there is no more to begin now.
        self.maintenance.work_at = match self.maintenance.tasks.is_empty() {
            true => Instant::NEVER,
            false => self.maintenance.room_at(),
        };
    }

    fn begin(&mut self, now: Instant, task: Task) {
        let (target, then) = match task {
            Task::Refresh { target } => (target, Then::Refresh),
            Task::Republish { key } => (key, Then::PassOn),
            Task::HandOver { key, to, passed } => return self.hand_over(now, key, to, passed),
        };
        self.maintenance.running += 1;
        self.begin_lookup(now, Goal::Node { target }, then);
    }

    /// A request came from somebody. A stranger must answer a ping before it becomes a contact,
    /// because its address may be forged; and until then nobody else is pinged on its account. It is
    /// asked from where it asked: a NAT or a firewall may let nothing else through to it.
    pub(super) fn on_asked(&mut self, now: Instant, asker: Contact, local: LocalEnd) {
        let check = match self.table.on_seen(now, &asker) {
            Seen::Live | Seen::Own => None,
            Seen::Suspect => return self.verify(now, &asker, local),
            Seen::Elsewhere { check } => check,
            Seen::Stranger if self.table.has_room(&asker) => {
                return self.verify(now, &asker, local);
            }
            Seen::Stranger if self.is_validated(&asker) => self.table.on_stranger(now, asker),
            Seen::Stranger => self.table.due_for_check(now, &asker.id),
        };
        match check {
            Some(contact) if self.is_validated(&asker) => self.check_liveness(now, contact, 1),
            // If it answers, the table names whom to check.
            Some(_) => self.verify(now, &asker, local),
            None => {}
        }
    }

    /// Pings an address that somebody asks from, to see whether it is that one's own. Nothing is
    /// remembered of it; see [`Challenge`](super::challenge::Challenge).
    pub(super) fn verify(&mut self, now: Instant, asker: &Contact, local: LocalEnd) {
        let address = &asker.address;
        if !is_sendable(address) || self.is_own_address(address) || !self.rations.take(now, asker) {
            return;
        }
        let header = Header { from: self.id, rpc_id: self.challenge.ping_id(now, address) };
        let start = self.out.bytes.len();
        v1::put_request(&mut self.out.bytes, &header, &Request::Ping);
        self.transmit(*address, local, start);
    }

    /// Pings somebody who was lost, or waits for a place in the routing table.
    pub(super) fn recheck(&mut self, now: Instant, contact: Contact) {
        self.probe(now, contact, Purpose::Recheck);
    }

    /// Pings a contact of the routing table that may have gone.
    pub(super) fn check_liveness(&mut self, now: Instant, contact: Contact, attempt: u32) {
        self.probe(now, contact, Purpose::Liveness { attempt });
    }

    fn probe(&mut self, now: Instant, contact: Contact, purpose: Purpose) {
        let probing = &mut self.maintenance.probing;
        if probing.len() >= MAX_PROBES || !probing.insert(contact.id) {
            return;
        }
        if self.send(now, contact.into(), &Request::Ping, purpose).is_err() {
            self.maintenance.probing.remove(&contact.id);
        }
    }

    /// A contact left a call unanswered.
    pub(super) fn on_contact_silent(&mut self, now: Instant, contact: Contact, purpose: Purpose) {
        let in_table = self.table.on_silence(&contact);
        match purpose {
            Purpose::Recheck => {
                self.maintenance.probing.remove(&contact.id);
            }
            Purpose::Liveness { attempt } => {
                self.maintenance.probing.remove(&contact.id);
                match attempt {
                    LIVENESS_ATTEMPTS.. => self.on_dead(now, contact),
                    _ => self.check_liveness(now, contact, attempt + 1),
                }
            }
            _ if in_table => self.check_liveness(now, contact, 1),
            _ => {}
        }
    }

    fn on_dead(&mut self, now: Instant, contact: Contact) {
        let Some(replacement) = self.table.on_dead(&contact) else { return };
        self.out.events.push_back(Event::ContactLost(contact));
        self.on_contact_lost(now, contact);
        self.measure_soon(now);
        if let Some(replacement) = replacement {
            self.recheck(now, replacement);
        }
    }

    /// A contact is new in the routing table.
    pub(super) fn on_contact_added(&mut self, now: Instant, contact: Contact) {
        self.out.events.push_back(Event::ContactAdded(contact));
        self.measure_soon(now);
        self.schedule_refresh();
        let keys: Vec<Id> =
            self.store.keys().filter(|key| self.should_hand_over(key, &contact)).copied().collect();
        for key in keys {
            self.maintenance.queue(now, Task::HandOver { key, to: contact, passed: 0 });
        }
    }

    /// Whether a new contact is one of the k nearest to a key and this node the one to tell it,
    /// being the nearest of the others: all holders think alike, so that one does it (paper §2.5).
    fn should_hand_over(&self, key: &Id, new: &Contact) -> bool {
        // There may be hundreds of thousands of keys, and this settles it for nearly all.
        if self.table.has_nearer(key, &new.id) {
            return false;
        }
        let own = key.distance(&self.id);
        let others = self.table.closest(key).filter(|e| !e.stale && e.contact.id != new.id);
        let mut distances = others.map(|entry| key.distance(&entry.contact.id)).peekable();
        if distances.peek().is_some_and(|nearest| *nearest < own) {
            return false;
        }
        let to_new = key.distance(&new.id);
        let nearer = distances.take_while(|distance| *distance < to_new).take(self.config.k);
        nearer.count() + usize::from(own < to_new) < self.config.k
    }

    /// Looks something up in every bucket but the last, after a join.
    pub(super) fn refresh_all(&mut self, now: Instant) {
        for bucket in 0..self.table.buckets().len() - 1 {
            self.queue_refresh(now, bucket);
        }
    }

    fn refresh_due(&mut self, now: Instant) {
        loop {
            let (bucket, touched) = self.table.least_touched();
            if now < touched + self.config.refresh {
                break;
            }
            for contact in self.table.stale_after(bucket, HOPELESS) {
                self.recheck(now, contact);
            }
            self.queue_refresh(now, bucket);
        }
        self.schedule_refresh();
    }

    fn queue_refresh(&mut self, now: Instant, bucket: usize) {
        let target = self.id.random_at(bucket as u32, &mut self.rng);
        self.table.touch(now, &target);
        self.maintenance.queue(now, Task::Refresh { target });
    }

    pub(super) fn schedule_refresh(&mut self) {
        let (_, touched) = self.table.least_touched();
        self.maintenance.refresh_at = touched + self.config.refresh;
    }

    pub(super) fn on_refreshed(&mut self, now: Instant) {
        self.maintenance.running -= 1;
        self.maintenance.resume(now);
    }

    fn measure_soon(&mut self, now: Instant) {
        if self.maintenance.measure_at == Instant::NEVER {
            self.maintenance.measure_at = now + jittered(SETTLING, &mut self.rng);
        }
    }

    /// Looks up random points if too little is known about how densely nodes lie. Once only for each
    /// change of the routing table: where lookups come to nothing, more of them would not help.
    fn measure(&mut self, now: Instant) {
        self.maintenance.measure_at = Instant::NEVER;
        if self.table.is_empty() {
            return;
        }
        for target in self.estimator.targets(self.table.len(), &mut self.rng) {
            self.maintenance.queue(now, Task::Refresh { target });
        }
    }

    /// The nodes now nearest to a key that this node holds values of are known.
    pub(super) fn on_holders_found(&mut self, now: Instant, key: Id, holders: &[Contact]) {
        self.maintenance.running -= 1;
        for &to in holders {
            self.maintenance.queue(now, Task::HandOver { key, to, passed: 0 });
        }
        self.maintenance.resume(now);
    }

    fn hand_over(&mut self, now: Instant, key: Id, to: Contact, passed: usize) {
        let mut copies = self.store.copies(now, &key).into_iter().skip(passed);
        for (value, copy) in copies.by_ref().take(MAX_HANDED) {
            self.pass_on(now, Passage { to, key, value, copy, progress: Progress::FIRST });
        }
        if copies.next().is_some() {
            let passed = passed + MAX_HANDED;
            self.maintenance.tasks.push_front(Task::HandOver { key, to, passed });
        }
    }

    fn pass_on(&mut self, now: Instant, passage: Passage) {
        let Passage { to, key, value, copy, .. } = &passage;
        let (key, value, mode, copy) = (*key, value.item(), StoreMode::Add, Some(*copy));
        let token = self.wallet.token(now, &to.address);
        let store = Store { key, value, mode, copy, token: Some(&token) };
        let number = self.maintenance.last_passage + 1;
        let purpose = Purpose::PassOn { number };
        if self.send(now, (*to).into(), &Request::Store(store), purpose).is_ok() {
            self.maintenance.last_passage = number;
            self.maintenance.taken_until = self.maintenance.taken_until.max(now) + COPY_EVERY;
            self.maintenance.passing_on.insert(number, passage);
        }
    }

    pub(super) fn on_passed_on(
        &mut self,
        now: Instant,
        number: u64,
        outcome: Result<Response, CallError>,
    ) {
        let passage = self.maintenance.passing_on.remove(&number).expect("it was on its way");
        if let Some(progress) = passage.progress.after(&outcome) {
            self.pass_on(now, Passage { progress, ..passage });
        }
        self.maintenance.resume(now);
    }

    /// Leaves what a lookup found at the nearest node that did not have it (paper §2.3).
    ///
    /// The copy lives for half of the time that values live, halved again for each node that lies
    /// between the k holders and it, and never so long that it would be republished. That departs
    /// from the paper, which counts from the key itself; then hardly any copy would outlive the
    /// hour, given k holders.
    pub(super) fn cache_found(&mut self, now: Instant, lookup: &Lookup) {
        let Goal::Value { key, .. } = lookup.goal() else { return };
        let Some(to) = lookup.nearest_without_values() else { return };
        let nearer = self.estimate().nodes * key.distance(&to.id).fraction();
        let beyond = (nearer - self.config.k as f64).max(0.0);
        let life = self.config.expire.as_micros() as f64 * 0.5_f64.powf(1.0 + beyond);
        let life =
            Duration::from_micros(life as u64).min(self.config.republish.times(4).divided_by(5));
        if life < MIN_CACHED {
            return;
        }
        let age = self.config.expire.minus(life);
        let mut seen = BTreeSet::new();
        // What this node holds itself it passes on with its owner's name and its true age. And what
        // fits an answer need not fit a store.
        let max = self.config.max_value_bytes;
        let passable =
            |found: &&Found| found.holder.is_some() && found.value.as_bytes().len() <= max;
        let found = lookup.record().values.iter().filter(passable);
        let fresh = found.filter(|found| seen.insert(found.value.as_bytes())).take(MAX_CACHED);
        for found in fresh {
            let (value, copy) = (found.value.clone(), CopyOf { owner: found.holder, age });
            self.pass_on(now, Passage { to, key, value, copy, progress: Progress::FIRST });
        }
    }
}
