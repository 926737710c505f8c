//! What a node does with the values that it keeps and finds: it passes them on to the nodes that should
//! hold them, as [`replication`](super::replication) has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;

use crate::address::{Scope, Subnet};
use crate::id::Id;
use crate::kad::lookup::{Goal, Lookup};
use crate::message::{Contact, CopyOf, Request, Response, StoreMode, StoreRequest};
use crate::node::CallError;
use crate::node::calls::{Attempt, Purpose};
use crate::node::overlay::{Active, Overlay};
use crate::node::replication::{KeyRange, LOOK_AT_ONCE, Search, Transfer};
use crate::time::{Duration, Instant};

/// Values cached after one lookup.
const MAX_CACHED: usize = 16;

/// A cached copy that would live shorter than this is not worth its datagram.
const MIN_CACHED: Duration = Duration::from_secs(60);

impl Active<'_> {
    /// Notes keys that are due to be republished.
    pub(super) fn note_due(&mut self, now: Instant) {
        while let Some(key) = self.overlay.store.pop_due(now, &mut self.shared.rng) {
            if !self.overlay.policy.holders_replicate {
                continue;
            }
            let Some((_, depositor)) = self.overlay.store.shown(&key).next() else { continue };
            self.overlay.replication.queue_key(depositor, key);
            self.overlay.maintenance.resume(now);
        }
    }

    /// Looks for keys that concern new contacts, and begins copies, as far as there is time for it.
    /// Returns when there is more to do.
    pub(super) fn replicate(&mut self, now: Instant) -> Instant {
        while let Some(search) = self.overlay.replication.next_search(now) {
            self.search(now, search);
        }
        while let Some((to, key, row)) = self.overlay.replication.next_copy(now) {
            if let Some((value, copy)) = self.overlay.store.copy(now, &key, row) {
                self.transfer(now, Transfer { to, key, value, copy, progress: Attempt::FIRST });
            }
        }
        self.overlay.replication.next_due()
    }

    /// A contact is new in the routing table; it may be one of the k nearest to keys here.
    pub(super) fn on_maybe_holder(&mut self, now: Instant, to: Contact) {
        let Overlay { policy, store, replication, maintenance, .. } = &mut *self.overlay;
        if policy.holders_replicate && store.key_count() > 0 && replication.on_newcomer(now, to) {
            maintenance.resume(now);
        }
    }

    /// Looks at some keys for a new contact. If there are more, the search goes on soon.
    fn search(&mut self, now: Instant, mut search: Search) {
        let Search { to, rank, .. } = search;
        if self.overlay.table.entry(&to.id).is_none_or(|entry| entry.stale || entry.contact != to) {
            search.left = None;
            return self.overlay.replication.on_looked(now, search, 0);
        }
        let mut left = search.left.take().unwrap_or_else(|| self.where_keys_may_concern(&to, rank));
        let mut near = Vec::new();
        while let Some((from, last)) = left.pop_front() {
            let room = LOOK_AT_ONCE - near.len();
            near.extend(self.overlay.store.keys_within((from, last)).take(room).copied());
            if near.len() == LOOK_AT_ONCE {
                left.push_front((Bound::Excluded(near[LOOK_AT_ONCE - 1]), last));
                break;
            }
        }
        search.left = Some(left);
        self.overlay.replication.on_looked(now, search, near.len());
        for key in near {
            if self.should_hand_over(&key, &to, rank) {
                self.queue_copies(key, to);
            }
        }
    }

    /// The ranges of keys that may concern a new contact.
    fn where_keys_may_concern(&self, new: &Contact, rank: usize) -> VecDeque<KeyRange> {
        let replicas = self.overlay.policy.replicas;
        let prefixes = self.overlay.table.may_be_nearest(&new.id, rank, replicas);
        let ranges = prefixes.into_iter().map(|(id, bits)| id.sharing(bits));
        ranges.map(|keys| (Bound::Included(*keys.start()), Bound::Included(*keys.end()))).collect()
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
            self.overlay.replication.queue(to, depositor, key, row);
        }
    }

    /// The nodes nearest to a key of this node's values are known.
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
        let number = self.overlay.replication.next_number();
        let purpose = Purpose::Replicate { number };
        if self.send(now, to.into(), &Request::Store(store), purpose).is_ok() {
            self.overlay.replication.on_begun(now, number, transfer);
        }
    }

    pub(super) fn on_replicated(
        &mut self,
        now: Instant,
        number: u64,
        outcome: Result<Response, CallError>,
    ) {
        let is_silent = outcome == Err(CallError::TimedOut);
        let transfer = self.overlay.replication.on_ended(number, is_silent);
        let to = transfer.to;
        self.shared.counters.handed_over += u64::from(outcome == Ok(Response::Stored));
        if let Some(progress) = transfer.progress.after(&outcome) {
            self.transfer(now, Transfer { progress, ..transfer });
        }
        self.overlay.replication.forget_idle(&to);
        self.overlay.maintenance.resume(now);
    }

    /// Leaves the values that a lookup found at the nearest node that did not have them (paper §2.3), if
    /// at least two nodes in different subnets returned them: a single node may lie, and from then on
    /// the lie would be this node's.
    ///
    /// The copy lives for half of the time that values live, halved again for each node that lies
    /// between the k holders and it, and ends before it would be republished. That departs
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
            // Values that this node holds are passed on with their publisher's name and true age; but it
            // may confirm what another node says.
            let witness = found.holder.map_or(Witness::Own, |holder| Witness::of(&holder));
            witnesses.entry(found.value.as_bytes()).or_default().insert(witness);
        }
        let mut seen = BTreeSet::new();
        // A value that fits an answer need not fit a store.
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

/// Who returned a value, counted so that being many costs something.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Witness {
    Own,
    /// A node on this machine; each counts as one.
    Local(SocketAddr),
    /// In a private network each address has another owner.
    Private(IpAddr),
    Network(Subnet),
}

impl Witness {
    fn of(holder: &Contact) -> Witness {
        let ip = holder.address.ip();
        match Scope::of(ip) {
            Scope::Loopback => Witness::Local(holder.address),
            Scope::Private => Witness::Private(ip),
            Scope::Global => Witness::Network(Subnet::widest_of(ip)),
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
    use crate::store::{Deposit, Party, Standing};

    fn contact(id: Id, port: u16) -> Contact {
        Contact { id, address: ([127, 0, 0, 1], port).into() }
    }

    /// A node and a newcomer that shares one bit with it, `near` keys that share as much with it, and
    /// `far` in the other half, where others are nearer.
    fn with_newcomer(near: usize, far: usize) -> (Node, Contact) {
        let own = Id::new([0; Id::LEN]);
        let mut node = Node::new(Instant::ZERO, own, Config::default(), [7; 32]);
        let other_half = own.flipped(0);
        for port in 1..=30 {
            node.introduce(Instant::ZERO, contact(other_half.flipped(8 + u32::from(port)), port));
        }
        let keys = |place: Id, count: usize| {
            (0..count).map(move |number| {
                let mut key = *Id::of_name(number.to_string()).as_bytes();
                key[0] = place.as_bytes()[0] | (key[0] & 0x3f);
                Id::new(key)
            })
        };
        for key in keys(own.flipped(1), near).chain(keys(other_half, far)) {
            let value = Value::integer(1);
            let (mode, publisher, age) = (StoreMode::Add, Party::Own, Duration::ZERO);
            let standing = Standing::Published;
            let deposit =
                Deposit { key, value, mode, publisher, depositor: publisher, standing, age };
            let Active { overlay, shared, .. } = node.active(OverlayId::FIRST);
            overlay.store.put(Instant::ZERO, deposit, &mut shared.rng).expect("there is room");
        }
        assert_eq!(node.store().key_count(), near + far);
        let newcomer = contact(own.flipped(1).flipped(9), 9_000);
        node.introduce(Instant::ZERO, newcomer);
        (node, newcomer)
    }

    /// How many keys are looked at for the newcomer.
    fn looked_at(near: usize, far: usize) -> usize {
        let (mut node, newcomer) = with_newcomer(near, far);
        let ranges = node.active(OverlayId::FIRST).where_keys_may_concern(&newcomer, 0);
        ranges.into_iter().map(|range| node.store().keys_within(range).count()).sum()
    }

    #[test]
    fn many_keys_are_looked_at_in_turns_and_none_is_left_out() {
        const KEYS: usize = 3 * LOOK_AT_ONCE + 9;
        let (mut node, newcomer) = with_newcomer(KEYS, 0);
        let mut active = node.active(OverlayId::FIRST);
        active.on_maybe_holder(Instant::ZERO, newcomer);
        let mut now = Instant::ZERO;
        let mut found = BTreeSet::new();
        for turn in 1..=6 {
            let search = active.overlay.replication.next_search(now);
            assert_eq!(search.is_some(), turn <= 4, "turn {turn}");
            search.into_iter().for_each(|search| active.search(now, search));
            now += Duration::from_secs(1);
            // Far in the future, so that no copy waits for its time.
            while let Some((_, key, _)) = active.overlay.replication.next_copy(now) {
                found.insert(key);
            }
            assert_eq!(found.len(), KEYS.min(turn * LOOK_AT_ONCE), "turn {turn}");
        }
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
            let Active { overlay, shared, .. } = node.active(OverlayId::FIRST);
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
            let replication = &mut active.overlay.replication;
            assert_eq!(replication.next_key(), holders_replicate.then_some(key));
            assert_eq!(replication.next_search(due).is_some(), holders_replicate);
        }
    }
}
