//! Replication: values go to nodes that come near their keys, hourly to the k nearest of each key
//! (paper §2.5), and from lookups to the nearest node that lacked them (§2.3).
//!
//! What waits to be copied is served in turn, target by target and for each of them depositor by
//! depositor, so that neither who stored much here nor who takes long to answer keeps others waiting.
//! A depositor is here the address that brought a value, because that is what many of cost something.
//!
//! All holders of a key think alike about a new one, so that one of them tells it: the nearest. It may
//! be silent, or lie; so the next nearest does the same a little later. What the new holder has by then
//! it takes without effect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;

use crate::address::is_loopback;
use crate::address::{Scope, Subnet};
use crate::bencode::Value;
use crate::id::Id;
use crate::kad::lookup::{Goal, Lookup};
use crate::message::{Contact, CopyOf, Request, Response, StoreMode, StoreRequest};
use crate::node::CallError;
use crate::node::calls::{Attempt, Purpose};
use crate::node::fair::Fair;
use crate::node::overlay::Active;
use crate::store::{Party, RowId};
use crate::time::{Duration, Instant};

/// Copies on their way to other holders at once, beyond which none is begun. What lookups for values
/// leave on their way, at most [`MAX_CACHED`] each, comes on top.
const MAX_TRANSFERS: usize = 256;

/// Copies on their way to one holder at once; to all that left the last one unanswered, half of the
/// whole at the most.
const TO_ONE: usize = 20;

/// Time that each copy takes up. A quarter of what another lets one source send by default
/// ([`Config::source_rate`](crate::config::Config::source_rate)): a holder that is near and quick could
/// be handed more than it takes, and what it does not take is lost until it is republished.
const COPY_EVERY: Duration = Duration::from_micros(200);

/// Copies that may be begun ahead of their time: the timer is no finer.
const COPIES_AHEAD: u64 = 64;

/// Holders that copies wait for: k for each lookup that runs, and newcomers.
const MAX_TARGETS: usize = 256;

/// Copies that wait: some six megabytes. When there are more, each holder has room for the latter
/// number all the same. A copy that finds no room comes up again when its key is next republished.
const MAX_WAITING: usize = 65_536;
const MAX_WAITING_EACH: usize = 256;

/// Keys that wait to be republished: some three megabytes.
const MAX_KEYS: usize = 65_536;

/// New contacts whose keys are still to be found, of a burst of joins.
const MAX_SEARCHES: usize = 256;

/// Time that each key takes up that is looked at for a new contact: less than a quarter of it is spent.
const LOOK_EVERY: Duration = Duration::from_micros(3);

/// So long after the nearest the second nearest node tells a new one of its values.
const SECOND_AFTER: Duration = Duration::from_secs(10);

/// Values cached after one lookup.
const MAX_CACHED: usize = 16;

/// A cached copy that would live shorter is not worth its datagram.
const MIN_CACHED: Duration = Duration::from_secs(60);

/// Who brought values here, as far as it costs something to be many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depositor {
    Own,
    /// Programs of this machine; each is one.
    Local(SocketAddr),
    Network(Subnet),
}

impl Depositor {
    fn of(depositor: Party) -> Depositor {
        match depositor {
            Party::Own => Depositor::Own,
            Party::Node(contact) if is_loopback(&contact.address) => {
                Depositor::Local(contact.address)
            }
            Party::Node(contact) => {
                let narrowest = Subnet::all_of(contact.address.ip()).next();
                Depositor::Network(narrowest.expect("each address lies in some network"))
            }
        }
    }
}

/// A copy on its way to another holder.
struct Transfer {
    to: Contact,
    key: Id,
    value: Value,
    copy: CopyOf,
    progress: Attempt,
}

/// A holder to which copies go.
#[derive(Default)]
struct Target {
    waiting: Fair<Depositor, (Id, RowId)>,
    under_way: usize,
    /// It left the last copy unanswered.
    is_silent: bool,
}

/// A search for the keys of which a new contact is a holder, and this node the one to tell it, having
/// so many others nearer to it.
struct Search {
    at: Instant,
    to: Contact,
    rank: usize,
}

#[derive(Default)]
pub(super) struct Replication {
    /// Keys to be republished.
    keys: Fair<Depositor, Id>,
    targets: BTreeMap<Contact, Target>,
    /// The target that was served last.
    last: Option<Contact>,
    /// Copies on their way, by a number that is theirs alone.
    transfers: BTreeMap<u64, Transfer>,
    last_transfer: u64,
    /// Until when the time of the copies is taken up.
    taken_until: Instant,
    /// Each by the time when it is due.
    first: VecDeque<Search>,
    second: VecDeque<Search>,
    /// Until when the time to look at keys is taken up.
    looked_until: Instant,
}

impl Replication {
    /// The next key to be republished.
    pub(super) fn next_key(&mut self) -> Option<Id> {
        self.keys.pop()
    }

    fn queue(&mut self, to: Contact, depositor: Depositor, key: Id, row: RowId) {
        if !self.targets.contains_key(&to) && self.targets.len() >= MAX_TARGETS {
            return;
        }
        let all: usize = self.targets.values().map(|target| target.waiting.len()).sum();
        let waiting = &mut self.targets.entry(to).or_default().waiting;
        let max = if all < MAX_WAITING { MAX_WAITING } else { waiting.len().max(MAX_WAITING_EACH) };
        waiting.push(depositor, (key, row), max);
    }

    /// The next copy to begin, if one may begin.
    fn next_copy(&mut self) -> Option<(Contact, Id, RowId)> {
        if self.transfers.len() >= MAX_TRANSFERS {
            return None;
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let to = self.ready((after, Bound::Unbounded)).or_else(|| self.ready(..))?;
        self.last = Some(to);
        let target = self.targets.get_mut(&to).expect("found just above");
        let (key, row) = target.waiting.pop().expect("it is ready");
        self.forget_idle(&to);
        Some((to, key, row))
    }

    fn ready(&self, range: impl std::ops::RangeBounds<Contact>) -> Option<Contact> {
        let for_silent = self.transfers.len() < MAX_TRANSFERS / 2;
        let mut targets = self.targets.range(range);
        let ready = targets.find(|(_, Target { waiting, under_way, is_silent })| {
            !waiting.is_empty() && *under_way < TO_ONE && (for_silent || !is_silent)
        });
        ready.map(|(to, _)| *to)
    }

    fn forget_idle(&mut self, to: &Contact) {
        if self.targets.get(to).is_some_and(|t| t.waiting.is_empty() && t.under_way == 0) {
            self.targets.remove(to);
        }
    }

    /// The search that is due, if there is time for it.
    fn next_search(&mut self, now: Instant) -> Option<Search> {
        if self.looked_until > now {
            return None;
        }
        let is_due = |searches: &VecDeque<Search>| searches.front().is_some_and(|s| s.at <= now);
        if is_due(&self.first) {
            return self.first.pop_front();
        }
        if is_due(&self.second) { self.second.pop_front() } else { None }
    }

    /// When there is something to do, if nothing happens before.
    fn next_due(&self) -> Instant {
        let searches = self.first.front().into_iter().chain(self.second.front());
        let search = searches.map(|search| search.at.max(self.looked_until)).min();
        let may_copy = self.transfers.len() < MAX_TRANSFERS && self.ready(..).is_some();
        let copy = may_copy.then(|| self.copy_at());
        search.into_iter().chain(copy).min().unwrap_or(Instant::NEVER)
    }

    fn copy_at(&self) -> Instant {
        self.taken_until - COPY_EVERY.times(COPIES_AHEAD)
    }
}

impl Active<'_> {
    /// Notes keys that are due to be republished.
    pub(super) fn note_due(&mut self, now: Instant) {
        while let Some(key) = self.overlay.store.pop_due(now, &mut self.shared.rng) {
            if !self.overlay.policy.holders_replicate {
                continue;
            }
            let Some((_, depositor)) = self.overlay.store.shown(&key).next() else { continue };
            self.overlay.replication.keys.push(Depositor::of(depositor), key, MAX_KEYS);
            self.overlay.maintenance.resume(now);
        }
    }

    /// Looks for keys of new contacts, and begins copies, as far as there is time for it. Returns when
    /// there is more to do.
    pub(super) fn replicate(&mut self, now: Instant) -> Instant {
        while let Some(Search { to, rank, .. }) = self.overlay.replication.next_search(now) {
            self.search(now, to, rank);
        }
        while self.overlay.replication.copy_at() <= now
            && let Some((to, key, row)) = self.overlay.replication.next_copy()
        {
            if let Some((value, copy)) = self.overlay.store.copy(now, &key, row) {
                self.transfer(now, Transfer { to, key, value, copy, progress: Attempt::FIRST });
            }
        }
        self.overlay.replication.next_due()
    }

    /// A contact is new in the routing table; it may be one of the k nearest to keys here.
    pub(super) fn on_maybe_holder(&mut self, now: Instant, to: Contact) {
        if !self.overlay.policy.holders_replicate {
            return;
        }
        let Replication { first, second, .. } = &mut self.overlay.replication;
        if self.overlay.store.key_count() == 0 || first.len() >= MAX_SEARCHES {
            return;
        }
        first.push_back(Search { at: now, to, rank: 0 });
        if second.len() < MAX_SEARCHES {
            second.push_back(Search { at: now + SECOND_AFTER, to, rank: 1 });
        }
        self.overlay.maintenance.resume(now);
    }

    fn search(&mut self, now: Instant, to: Contact, rank: usize) {
        if self.overlay.table.entry(&to.id).is_none_or(|entry| entry.stale || entry.contact != to) {
            return;
        }
        let near: Vec<Id> = self.keys_that_may_concern(&to, rank).copied().collect();
        self.overlay.replication.looked_until = now + LOOK_EVERY.times(near.len() as u64);
        for key in near {
            if self.should_hand_over(&key, &to, rank) {
                self.queue_copies(key, to);
            }
        }
    }

    /// The keys that are looked at for a new contact.
    fn keys_that_may_concern(&self, new: &Contact, rank: usize) -> impl Iterator<Item = &Id> {
        let prefixes =
            self.overlay.table.may_be_nearest(&new.id, rank, self.overlay.policy.replicas);
        prefixes.into_iter().flat_map(|(id, bits)| self.overlay.store.keys_within(id.sharing(bits)))
    }

    /// Whether a new contact is one of the k nearest to a key, and `rank` others are nearer to the key
    /// than this node is.
    fn should_hand_over(&self, key: &Id, new: &Contact, rank: usize) -> bool {
        let own = key.distance(&self.overlay.id);
        let others = self.overlay.table.closest(key).filter(|e| !e.stale && e.contact.id != new.id);
        let mut distances = others.map(|entry| key.distance(&entry.contact.id)).peekable();
        let mut nearer = 0;
        while distances.next_if(|distance| *distance < own).is_some() {
            nearer += 1;
            if nearer > rank {
                return false;
            }
        }
        let to_new = key.distance(&new.id);
        let between =
            distances.take_while(|distance| *distance < to_new).take(self.overlay.policy.replicas);
        let before = nearer + if to_new < own { 0 } else { 1 + between.count() };
        nearer == rank && before < self.overlay.policy.replicas
    }

    fn queue_copies(&mut self, key: Id, to: Contact) {
        for (row, depositor) in self.overlay.store.shown(&key) {
            self.overlay.replication.queue(to, Depositor::of(depositor), key, row);
        }
    }

    /// The nodes now nearest to a key that this node holds values of are known.
    pub(super) fn on_holders_found(&mut self, now: Instant, key: Id, holders: &[Contact]) {
        for &to in holders.iter().take(self.overlay.policy.replicas) {
            self.queue_copies(key, to);
        }
        self.overlay.maintenance.on_lookup_ended(now);
    }

    fn transfer(&mut self, now: Instant, transfer: Transfer) {
        let Transfer { to, key, value, copy, .. } = &transfer;
        let (to, key, value, mode, copy) = (*to, *key, value.item(), StoreMode::Add, Some(*copy));
        let token = self.overlay.token_cache.token(now, &to.address);
        let store = StoreRequest { key, value, mode, copy, token: Some(&token) };
        let number = self.overlay.replication.last_transfer + 1;
        let purpose = Purpose::Replicate { number };
        if self.send(now, to.into(), &Request::Store(store), purpose).is_ok() {
            let replication = &mut self.overlay.replication;
            replication.last_transfer = number;
            replication.taken_until = replication.taken_until.max(now) + COPY_EVERY;
            replication.transfers.insert(number, transfer);
            replication.targets.entry(to).or_default().under_way += 1;
        }
    }

    pub(super) fn on_replicated(
        &mut self,
        now: Instant,
        number: u64,
        outcome: Result<Response, CallError>,
    ) {
        let transfer =
            self.overlay.replication.transfers.remove(&number).expect("it was on its way");
        let to = transfer.to;
        let target =
            self.overlay.replication.targets.get_mut(&to).expect("something was on its way");
        target.under_way -= 1;
        target.is_silent = outcome == Err(CallError::TimedOut);
        self.shared.counters.handed_over += u64::from(outcome == Ok(Response::Stored));
        if let Some(progress) = transfer.progress.after(&outcome) {
            self.transfer(now, Transfer { progress, ..transfer });
        }
        self.overlay.replication.forget_idle(&to);
        self.overlay.maintenance.resume(now);
    }

    /// Leaves what a lookup found at the nearest node that did not have it (paper §2.3), if at least two
    /// nodes returned it whom one publisher does not hold together: what a single one says may be a lie, and
    /// would be this node's from then on.
    ///
    /// The copy lives for half of the time that values live, halved again for each node that lies
    /// between the k holders and it, and never so long that it would be republished. That departs
    /// from the paper, which counts from the key itself; then hardly any copy would outlive the
    /// hour, given k holders.
    pub(super) fn cache_found(&mut self, now: Instant, lookup: &Lookup) {
        if !self.overlay.policy.holders_replicate {
            return;
        }
        let Goal::Value { key, .. } = lookup.goal() else { return };
        let Some(to) = lookup.nearest_without_values() else { return };
        let nearer = self.overlay.estimate().nodes * key.distance(&to.id).fraction();
        let beyond = (nearer - self.overlay.policy.replicas as f64).max(0.0);
        let life = self.shared.config.expire.as_micros() as f64 * 0.5_f64.powf(1.0 + beyond);
        let life = Duration::from_micros(life as u64)
            .min(self.shared.config.republish.times(4).divided_by(5));
        if life < MIN_CACHED {
            return;
        }
        let age = self.shared.config.expire.minus(life);
        let max = self.shared.config.max_value_bytes;
        let found = &lookup.record().values;
        let mut witnesses = BTreeMap::<&[u8], BTreeSet<Witness>>::new();
        for found in found {
            // What this node holds itself it passes on with its publisher's name and its true age, but it
            // may tell that another does not lie.
            let witness = found.holder.map_or(Witness::Own, |holder| Witness::of(&holder));
            witnesses.entry(found.value.as_bytes()).or_default().insert(witness);
        }
        let mut seen = BTreeSet::new();
        // What fits an answer need not fit a store.
        let passable = found.iter().filter(|found| {
            let bytes = found.value.as_bytes();
            found.holder.is_some() && bytes.len() <= max && witnesses[bytes].len() > 1
        });
        let fresh = passable.filter(|found| seen.insert(found.value.as_bytes())).take(MAX_CACHED);
        for found in fresh {
            let (value, copy) = (found.value.clone(), CopyOf { publisher: found.holder, age });
            self.transfer(now, Transfer { to, key, value, copy, progress: Attempt::FIRST });
        }
    }
}

/// Who returned a value, as far as it costs something to be many.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    Own,
    Node(Id),
    Network(Subnet),
}

impl Witness {
    fn of(holder: &Contact) -> Witness {
        let ip = holder.address.ip();
        match Scope::of(ip) {
            Scope::Loopback | Scope::Private => Witness::Node(holder.id),
            Scope::Global => Witness::Network(Subnet::of(ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Value;
    use crate::config::Config;
    use crate::node::Node;
    use crate::node::overlay::OverlayId;
    use crate::store::{Deposit, Standing};

    fn contact(id: Id, port: u16) -> Contact {
        Contact { id, address: ([127, 0, 0, 1], port).into() }
    }

    /// How many keys are looked at for a newcomer that shares one bit with the node, where so many keys
    /// share as much with it and so many lie in the other half, where others are nearer.
    fn looked_at(near: u32, far: u32) -> usize {
        let own = Id::new([0; Id::LEN]);
        let mut node = Node::new(Instant::ZERO, own, Config::default(), [7; 32]);
        let other_half = own.flipped(0);
        for port in 1..=30 {
            node.introduce(Instant::ZERO, contact(other_half.flipped(8 + u32::from(port)), port));
        }
        let keys =
            |place: Id, count| (0..count).map(move |n| place.flipped(20 + n / 12).flipped(40 + n));
        for key in keys(own.flipped(1), near).chain(keys(other_half, far)) {
            let value = Value::integer(1);
            let (mode, publisher, age) = (StoreMode::Add, Party::Own, Duration::ZERO);
            let standing = Standing::Published;
            let deposit =
                Deposit { key, value, mode, publisher, depositor: publisher, standing, age };
            let Active { overlay, shared } = node.active(OverlayId::FIRST);
            overlay.store.put(Instant::ZERO, deposit, &mut shared.rng).expect("there is room");
        }
        assert_eq!(node.store().key_count(), (near + far) as usize);
        let newcomer = contact(own.flipped(1).flipped(9), 9_000);
        node.introduce(Instant::ZERO, newcomer);
        node.active(OverlayId::FIRST).keys_that_may_concern(&newcomer, 0).count()
    }

    #[test]
    fn keys_where_others_are_nearer_are_not_looked_at() {
        assert_eq!(looked_at(20, 0), 20);
        assert_eq!(looked_at(20, 100), 20);
        assert_eq!(looked_at(0, 100), 0);
    }

    #[test]
    fn where_holders_do_not_replicate_a_value_stays_where_it_is() {
        for holders_replicate in [true, false] {
            let mut node = Node::new(Instant::ZERO, Id::of_name("own"), Config::default(), [7; 32]);
            let Active { overlay, shared } = node.active(OverlayId::FIRST);
            overlay.policy.holders_replicate = holders_replicate;
            let (key, value, mode) = (Id::of_name("key"), Value::integer(1), StoreMode::Add);
            let (publisher, standing, age) = (Party::Own, Standing::Published, Duration::ZERO);
            let deposit =
                Deposit { key, value, mode, publisher, depositor: publisher, standing, age };
            overlay.store.put(Instant::ZERO, deposit, &mut shared.rng).unwrap();
            let due = overlay.store.next_due();
            let mut active = node.active(OverlayId::FIRST);
            active.on_maybe_holder(Instant::ZERO, contact(Id::of_name("new"), 9));
            active.note_due(due);
            let Replication { keys, first, second, .. } = &active.overlay.replication;
            let waiting = usize::from(holders_replicate);
            assert_eq!((keys.len(), first.len(), second.len()), (waiting, waiting, waiting));
        }
    }
}
