//! The values that a node keeps for the network.
//!
//! Under a key lies one value for each owner that stored it here itself, and beside them the copies
//! that other holders passed on. A copy names an owner that nobody can check, so it stays apart: it
//! never touches what the owner stored itself, and it can neither replace nor refresh another copy.
//!
//! When all room is taken, what lies farthest from the own id leaves first, and of that the oldest:
//! it is the least likely to be asked for here, and the most likely to be kept by others.
//!
//! Nothing is sent from here; the store says which keys are due for republishing, the node does it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rand::Rng;

use crate::bencode::Value;
use crate::id::{Distance, Id};
use crate::message::{Contact, CopyOf, StoreMode};
use crate::node::config::Config;
use crate::node::jittered;
use crate::time::{Duration, Instant};

/// Memory that a stored value takes beside its bytes, about: owner, times, places in three trees.
const OVERHEAD: usize = 256;

/// Whose value it is, or who brought it here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// This node itself, which does not know its own address.
    Own,
    /// Another node.
    Node(Contact),
}

/// What a value has to stand on, the least first.
///
/// It is decided from the datagram that brought the value and from nothing else: what somebody proved
/// earlier is no authority for what comes in his name now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Standing {
    /// A holder passed it on, and proved its own address. Who published it, and when, it claims.
    Hearsay,
    /// Its owner seems to have sent it, and proved nothing, as originals cannot.
    Claimed,
    /// Its owner sent it, and proved that it receives what is sent to its address.
    Published,
}

/// A row of the store: one value that one owner, or one passer-on, left under a key. Its number is
/// never given to another, and stays when the owner puts a newer value in its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RowId(pub u64);

/// A row that came, changed, or went: [`Store::row`] tells what is there now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Change {
    /// The key.
    pub key: Id,
    /// The row under it.
    pub row: RowId,
}

/// A value on its way into the store.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// The key.
    pub key: Id,
    /// The value.
    pub value: Value,
    /// Whether copies of the owner's earlier values go.
    pub mode: StoreMode,
    /// Who published it.
    pub owner: Owner,
    /// Who brought it; the owner itself, or a holder that passes on a copy.
    pub depositor: Owner,
    /// What all this stands on.
    pub standing: Standing,
    /// How long ago it was published.
    pub age: Duration,
}

/// A value in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its row.
    pub row: RowId,
    /// The value.
    pub value: Value,
    /// Who published it, as far as the depositor is to be believed.
    pub owner: Owner,
    /// Who brought it.
    pub depositor: Owner,
    /// What it stands on.
    pub standing: Standing,
    /// When it will be forgotten. When it was published follows from that; the reverse would not
    /// do, for that may have been before the clock began to count.
    pub expires: Instant,
    /// When it is passed on to other holders, unless somebody else does so before.
    republish: Instant,
    /// SHA-1 of the value, so that equal values are found without comparing them.
    digest: Id,
    /// It stands for all that are equal to it in its slot.
    shown: bool,
}

/// Why a value is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Larger than [`Config::max_value_bytes`].
    #[error("the value takes {bytes} bytes, at most {max} are kept")]
    ValueTooLarge {
        /// Encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// [`Config::max_values_per_key`] is reached.
    #[error("the key holds {max} values already")]
    KeyFull {
        /// The limit.
        max: usize,
    },
    /// [`Config::max_values_per_owner`] is reached.
    #[error("{max} values of this sender are kept already")]
    OwnerFull {
        /// The limit.
        max: usize,
    },
    /// [`Config::max_store_bytes`] is reached, by values that are nearer to this node.
    #[error("the store is full")]
    StoreFull,
    /// It was published longer ago than values live.
    #[error("the value has expired")]
    Expired,
    /// The owner has stored a newer value here itself.
    #[error("the owner stored a newer value")]
    Superseded,
}

/// All values of a node.
pub struct Store {
    own: Id,
    /// By the distance of their keys from the own id.
    slots: BTreeMap<Distance, Slot>,
    /// One entry for each slot: when something is to be done about it.
    due: BTreeSet<(Instant, Id)>,
    /// Values here by who brought them.
    deposits: BTreeMap<Owner, usize>,
    /// Rows that have changed, where somebody wants to know.
    changed: Option<BTreeSet<Change>>,
    last_row: RowId,
    bytes: usize,
    expire: Duration,
    republish: Duration,
    max_value_bytes: usize,
    max_values_per_key: usize,
    max_values_per_owner: usize,
    max_bytes: usize,
}

/// What lies under one key.
struct Slot {
    key: Id,
    values: Vec<Stored>,
    /// Its entry in [`Store::due`].
    due: Instant,
}

impl Store {
    /// An empty store of the node `own`, with the limits of a configuration.
    pub fn new(own: Id, config: &Config) -> Store {
        Store {
            own,
            slots: BTreeMap::new(),
            due: BTreeSet::new(),
            deposits: BTreeMap::new(),
            changed: None,
            last_row: RowId::default(),
            bytes: 0,
            expire: config.expire,
            republish: config.republish,
            max_value_bytes: config.max_value_bytes,
            max_values_per_key: config.max_values_per_key,
            max_values_per_owner: config.max_values_per_owner,
            max_bytes: config.max_store_bytes,
        }
    }

    /// Keys under which something lies.
    pub fn keys(&self) -> impl Iterator<Item = &Id> {
        self.slots.values().map(|slot| &slot.key)
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.slots.len()
    }

    /// How many values there are, copies counted one by one.
    pub fn value_count(&self) -> usize {
        self.deposits.values().sum()
    }

    /// Memory taken, in bytes, as counted against the limit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that lies under a key.
    pub fn stored(&self, key: &Id) -> &[Stored] {
        self.slot(key).map_or(&[], |slot| &slot.values)
    }

    /// One row under a key.
    pub fn row(&self, key: &Id, row: RowId) -> Option<&Stored> {
        self.stored(key).iter().find(|stored| stored.row == row)
    }

    /// From now on notes which rows change.
    pub(super) fn note_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Whether there are such rows.
    pub(super) fn has_changes(&self) -> bool {
        self.changed.as_ref().is_some_and(|changed| !changed.is_empty())
    }

    /// Takes some such rows, `max` at most.
    pub(super) fn take_changed(&mut self, max: usize) -> Vec<Change> {
        let Some(changed) = &mut self.changed else { return Vec::new() };
        std::iter::from_fn(|| changed.pop_first()).take(max).collect()
    }

    /// Notes a change, perhaps again because it came to nothing.
    pub(super) fn note_changed(&mut self, change: Change) {
        if let Some(changed) = &mut self.changed {
            changed.insert(change);
        }
    }

    /// The different values under a key, or `None` if nothing is stored there.
    pub fn values(&self, key: &Id) -> Option<impl Iterator<Item = &Value>> {
        let slot = self.slot(key)?;
        Some(slot.values.iter().filter(|stored| stored.shown).map(|stored| &stored.value))
    }

    /// The different values under a key as this node passes them on to others.
    pub fn copies(&self, now: Instant, key: &Id) -> Vec<(Value, CopyOf)> {
        let stored = self.slot(key).map_or(&[][..], |slot| &slot.values);
        stored
            .iter()
            .filter(|stored| stored.shown)
            .map(|stored| {
                let owner = match stored.owner {
                    Owner::Own => None,
                    Owner::Node(contact) => Some(contact),
                };
                let age = self.expire.minus(stored.expires.since(now));
                (stored.value.clone(), CopyOf { owner, age })
            })
            .collect()
    }

    /// Keeps a value.
    ///
    /// # Errors
    /// If a limit stands against it or the owner knows better; nothing has changed then.
    pub fn put(
        &mut self,
        now: Instant,
        deposit: Deposit,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        let row = RowId(self.last_row.0 + 1);
        self.put_in(now, row, deposit, rng)
    }

    /// Whether a value of so many bytes can be kept, which is known before anything looks into it.
    ///
    /// # Errors
    /// If it is too large.
    pub fn check_size(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.max_value_bytes;
        if bytes > max { Err(Refusal::ValueTooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Keeps a value that was kept before, in a row with the number that it had.
    ///
    /// # Errors
    /// As [`Store::put`]. The number is not given to another then either.
    pub(super) fn restore(
        &mut self,
        now: Instant,
        row: RowId,
        deposit: Deposit,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        self.last_row = self.last_row.max(row);
        self.put_in(now, row, deposit, rng)
    }

    fn put_in(
        &mut self,
        now: Instant,
        row: RowId,
        deposit: Deposit,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        self.check_size(deposit.value.as_bytes().len())?;
        if deposit.age >= self.expire {
            return Err(Refusal::Expired);
        }
        let (key, mode, owner) = (deposit.key, deposit.mode, deposit.owner);
        let expires = now + self.expire.minus(deposit.age);
        // Whoever brought it brings it to the other holders too, so ours can wait (paper §2.5).
        let republish = now + jittered(self.republish, rng);
        let stored = Stored::new(row, expires, republish, deposit);
        match self.place(&key, &stored)? {
            Place::Present(index) => self.postpone(&key, index, republish),
            Place::Replace(index) => self.replace(&key, index, stored.clone())?,
            Place::New => self.push(&key, stored.clone())?,
        }
        if stored.is_direct() {
            self.drop_copies(&key, |copy| {
                copy.owner == owner && (mode == StoreMode::Replace || copy.digest == stored.digest)
            });
        }
        self.settle(&key);
        Ok(())
    }

    /// When [`Store::pop_due`] has something to say.
    pub fn next_due(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(at, _)| *at)
    }

    /// Forgets what has expired, and returns a key that is to be republished, if one is.
    pub fn pop_due(&mut self, now: Instant, rng: &mut impl Rng) -> Option<Id> {
        while let Some(&(at, key)) = self.due.first()
            && at <= now
        {
            self.remove(&key, |stored| stored.expires <= now);
            let slot = self.slots.get_mut(&self.own.distance(&key));
            let next = now + jittered(self.republish, rng);
            let republish = slot.is_some_and(|slot| slot.pass_due(now, next));
            self.settle(&key);
            if republish {
                return Some(key);
            }
        }
        None
    }

    /// Where a value goes, seen from what lies there already.
    fn place(&self, key: &Id, new: &Stored) -> Result<Place, Refusal> {
        let Some(slot) = self.slot(key) else {
            return Ok(Place::New);
        };
        let own = slot.values.iter().position(|old| old.is_direct() && old.owner == new.owner);
        if let Some(index) = own {
            let old = &slot.values[index];
            let newer = new.expires > old.expires;
            return match (new.is_direct(), old.digest == new.digest) {
                (true, _) if newer => Ok(Place::Replace(index)),
                (_, true) => Ok(Place::Present(index)),
                (true, false) if new.expires == old.expires => Ok(Place::Replace(index)),
                (false, false) if newer => Ok(Place::New),
                (_, false) => Err(Refusal::Superseded),
            };
        }
        let same = |old: &Stored| old.owner == new.owner && old.digest == new.digest;
        let known = slot.values.iter().position(same).filter(|_| !new.is_direct());
        Ok(known.map_or(Place::New, Place::Present))
    }

    fn push(&mut self, key: &Id, stored: Stored) -> Result<(), Refusal> {
        let max = self.max_values_per_key;
        if self.slot(key).is_some_and(|slot| slot.values.len() >= max) {
            return Err(Refusal::KeyFull { max });
        }
        let max = self.max_values_per_owner;
        let deposits = self.deposits.get(&stored.depositor).copied().unwrap_or(0);
        // The node's own user is no stranger to be limited.
        if stored.depositor != Owner::Own && deposits >= max {
            return Err(Refusal::OwnerFull { max });
        }
        self.make_room(key, stored.cost())?;
        self.bytes += stored.cost();
        self.last_row = self.last_row.max(stored.row);
        self.note_changed(Change { key: *key, row: stored.row });
        *self.deposits.entry(stored.depositor).or_default() += 1;
        let slot = self.slots.entry(self.own.distance(key)).or_insert_with(|| Slot::new(*key));
        slot.values.push(stored);
        Ok(())
    }

    /// Puts a value in the place of an older one of the same owner.
    fn replace(&mut self, key: &Id, index: usize, stored: Stored) -> Result<(), Refusal> {
        let old = self.slot(key).expect("the slot of a placed value").values[index].cost();
        self.make_room(key, stored.cost().saturating_sub(old))?;
        self.bytes = self.bytes - old + stored.cost();
        let slot = self.slot_mut(key).expect("the slot of a placed value");
        let row = slot.values[index].row;
        slot.values[index] = Stored { row, ..stored };
        self.note_changed(Change { key: *key, row });
        Ok(())
    }

    /// Drops values that lie farther from the own id than a key, until so many bytes fit.
    fn make_room(&mut self, key: &Id, bytes: usize) -> Result<(), Refusal> {
        let mut missing = (self.bytes + bytes).saturating_sub(self.max_bytes);
        if missing == 0 {
            return Ok(());
        }
        let mut leaving = Vec::new();
        let farther = (Bound::Excluded(self.own.distance(key)), Bound::Unbounded);
        'found: for slot in self.slots.range(farther).rev().map(|(_, slot)| slot) {
            let mut oldest_first: Vec<&Stored> = slot.values.iter().collect();
            oldest_first.sort_by_key(|stored| stored.expires);
            for (count, stored) in oldest_first.iter().enumerate() {
                missing = missing.saturating_sub(stored.cost());
                if missing == 0 {
                    leaving.push((slot.key, count + 1));
                    break 'found;
                }
            }
            leaving.push((slot.key, oldest_first.len()));
        }
        if missing > 0 {
            return Err(Refusal::StoreFull);
        }
        for (key, count) in leaving {
            self.drop_oldest(&key, count);
            self.settle(&key);
        }
        Ok(())
    }

    fn drop_oldest(&mut self, key: &Id, count: usize) {
        let slot = self.slot(key).expect("a slot that was found");
        let mut expiries: Vec<Instant> = slot.values.iter().map(|stored| stored.expires).collect();
        expiries.sort_unstable();
        let last = expiries[count - 1];
        // Of those that are equally old no more than it takes.
        let mut left = count;
        self.remove(key, |stored| {
            let goes = left > 0 && stored.expires <= last;
            left -= usize::from(goes);
            goes
        });
    }

    fn slot(&self, key: &Id) -> Option<&Slot> {
        self.slots.get(&self.own.distance(key))
    }

    fn slot_mut(&mut self, key: &Id) -> Option<&mut Slot> {
        self.slots.get_mut(&self.own.distance(key))
    }

    /// A value that is here already was brought again.
    fn postpone(&mut self, key: &Id, index: usize, republish: Instant) {
        let slot = self.slot_mut(key).expect("the slot of a placed value");
        slot.values[index].republish = republish;
    }

    fn drop_copies(&mut self, key: &Id, goes: impl Fn(&Stored) -> bool) {
        self.remove(key, |stored| !stored.is_direct() && goes(stored));
    }

    fn remove(&mut self, key: &Id, mut goes: impl FnMut(&Stored) -> bool) {
        let Some(slot) = self.slots.get_mut(&self.own.distance(key)) else { return };
        for stored in slot.values.extract_if(.., |stored| goes(stored)) {
            self.bytes -= stored.cost();
            if let Some(changed) = &mut self.changed {
                changed.insert(Change { key: *key, row: stored.row });
            }
            let left = self.deposits.get_mut(&stored.depositor).expect("counted when it came");
            *left -= 1;
            if *left == 0 {
                self.deposits.remove(&stored.depositor);
            }
        }
    }

    /// Brings a slot's marks and its place in the schedule up to date after a change; an empty one
    /// is forgotten.
    fn settle(&mut self, key: &Id) {
        let distance = self.own.distance(key);
        let Some(slot) = self.slots.get_mut(&distance) else { return };
        self.due.remove(&(slot.due, *key));
        if slot.values.is_empty() {
            self.slots.remove(&distance);
            return;
        }
        slot.mark_shown();
        let due = slot.values.iter().map(|stored| stored.expires.min(stored.republish));
        slot.due = due.min().expect("not empty");
        self.due.insert((slot.due, *key));
    }
}

/// Where a new value goes.
enum Place {
    New,
    Replace(usize),
    Present(usize),
}

impl Slot {
    fn new(key: Id) -> Slot {
        Slot { key, values: Vec::new(), due: Instant::NEVER }
    }

    /// Whether some value is to be passed on now. All are then, so for all the next time is set.
    fn pass_due(&mut self, now: Instant, next: Instant) -> bool {
        let due = self.values.iter().any(|stored| stored.republish <= now);
        if due {
            self.values.iter_mut().for_each(|stored| stored.republish = next);
        }
        due
    }

    /// Lets one of equal values stand for all: that which lives longest.
    fn mark_shown(&mut self) {
        let mut longest = BTreeMap::new();
        for (index, stored) in self.values.iter_mut().enumerate() {
            stored.shown = false;
            let best = longest.entry(stored.digest).or_insert((stored.expires, index));
            if best.0 < stored.expires {
                *best = (stored.expires, index);
            }
        }
        longest.into_values().for_each(|(_, index)| self.values[index].shown = true);
    }
}

impl Stored {
    fn new(row: RowId, expires: Instant, republish: Instant, deposit: Deposit) -> Stored {
        Stored {
            row,
            digest: Id::of_name(deposit.value.as_bytes()),
            value: deposit.value,
            owner: deposit.owner,
            depositor: deposit.depositor,
            standing: deposit.standing,
            expires,
            republish,
            shown: true,
        }
    }

    /// Whether the owner brought it itself.
    fn is_direct(&self) -> bool {
        self.owner == self.depositor
    }

    fn cost(&self) -> usize {
        self.value.as_bytes().len() + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A key of that number is the farther the greater the number.
    const OWN: Id = Id::new([0; Id::LEN]);

    fn node(port: u16) -> Owner {
        let id = Id::of_name(port.to_string());
        Owner::Node(Contact { id, address: ([127, 0, 0, 1], port).into() })
    }

    fn deposit(value: &str, owner: Owner, depositor: Owner) -> Deposit {
        let (key, value) = (Id::of_name("key"), Value::bytes(value));
        let standing = if owner == depositor { Standing::Published } else { Standing::Hearsay };
        let (mode, age) = (StoreMode::Add, Duration::ZERO);
        Deposit { key, value, mode, owner, depositor, standing, age }
    }

    struct Bench {
        store: Store,
        rng: ChaCha8Rng,
    }

    impl Bench {
        fn with(change: impl FnOnce(&mut Config)) -> Bench {
            let mut config = Config::default();
            change(&mut config);
            Bench { store: Store::new(OWN, &config), rng: ChaCha8Rng::seed_from_u64(1) }
        }

        fn put(&mut self, hours: u64, deposit: Deposit) -> Result<(), Refusal> {
            self.put_at(at(hours), deposit)
        }

        fn put_at(&mut self, now: Instant, deposit: Deposit) -> Result<(), Refusal> {
            self.store.put(now, deposit, &mut self.rng)
        }

        fn texts(&self) -> Vec<String> {
            let key = Id::of_name("key");
            let values = self.store.values(&key).into_iter().flatten();
            values.map(|value| format!("{value:?}").trim_matches('"').to_owned()).collect()
        }

        /// Lets time pass and returns how often the key was to be republished.
        fn pass(&mut self, from_minute: u64, to_minute: u64) -> usize {
            (from_minute..to_minute)
                .filter(|minute| {
                    let now = Instant::ZERO + Duration::from_secs(60 * minute);
                    self.store.pop_due(now, &mut self.rng).is_some()
                })
                .count()
        }
    }

    fn at(hours: u64) -> Instant {
        Instant::ZERO + HOUR.times(hours)
    }

    #[test]
    fn a_key_holds_one_value_of_each_owner() {
        let mut bench = Bench::with(|_| {});
        for (value, port) in [("a", 1), ("b", 2), ("c", 1)] {
            bench.put(0, deposit(value, node(port), node(port))).unwrap();
        }
        assert_eq!(bench.texts(), ["c", "b"]);
    }

    #[test]
    fn a_copy_never_touches_what_the_owner_stored() {
        let mut bench = Bench::with(|_| {});
        bench.put(1, deposit("true", node(1), node(1))).unwrap();
        let older = Deposit { age: HOUR, ..deposit("old", node(1), node(2)) };
        assert_eq!(bench.put(1, older), Err(Refusal::Superseded));
        bench.put(2, deposit("forged", node(1), node(2))).unwrap();
        assert_eq!(bench.texts(), ["true", "forged"]);
    }

    #[test]
    fn a_copy_neither_replaces_nor_refreshes_another() {
        let mut bench = Bench::with(|_| {});
        bench.put(0, deposit("first", node(1), node(2))).unwrap();
        bench.put(12, deposit("second", node(1), node(3))).unwrap();
        bench.put(12, deposit("first", node(1), node(3))).unwrap();
        assert_eq!(bench.texts(), ["first", "second"]);
        bench.pass(0, 24 * 60 + 1);
        assert_eq!(bench.texts(), ["second"]);
    }

    #[test]
    fn replacing_drops_copies_of_what_the_owner_had() {
        let mut bench = Bench::with(|_| {});
        bench.put(0, deposit("old", node(1), node(2))).unwrap();
        bench.put(0, deposit("other", node(3), node(2))).unwrap();
        let mode = StoreMode::Replace;
        bench.put(1, Deposit { mode, ..deposit("new", node(1), node(1)) }).unwrap();
        assert_eq!(bench.texts(), ["other", "new"]);
        assert_eq!(bench.store.value_count(), 2);
    }

    #[test]
    fn a_change_names_the_one_row_that_it_concerns() {
        let mut bench = Bench::with(|_| {});
        bench.put(0, deposit("early", node(9), node(9))).unwrap();
        assert!(!bench.store.has_changes(), "nobody asked");
        bench.store.note_changes();
        let changes = |bench: &mut Bench| {
            let changes = bench.store.take_changed(usize::MAX);
            let there = |change: Change| bench.store.row(&change.key, change.row);
            let text = |stored: &Stored| format!("{:?}", stored.value);
            changes
                .into_iter()
                .map(|change| (change.row.0, there(change).map(text)))
                .collect::<Vec<_>>()
        };
        let told = |row, text: &str| vec![(row, Some(format!("\"{text}\"")))];
        bench.put(0, deposit("a", node(1), node(1))).unwrap();
        assert_eq!(changes(&mut bench), told(2, "a"));
        bench.put(1, deposit("b", node(1), node(1))).unwrap();
        assert_eq!(changes(&mut bench), told(2, "b"), "in the place of the first");
        bench.put(2, deposit("c", node(2), node(3))).unwrap();
        assert_eq!(changes(&mut bench), told(3, "c"));
        bench.put(2, deposit("c", node(2), node(3))).unwrap();
        assert_eq!(changes(&mut bench), vec![], "it was here already");
        bench.pass(24 * 60, 24 * 60 + 1);
        assert_eq!(changes(&mut bench), vec![(1, None)], "it has expired");
        let again = deposit("d", node(4), node(4));
        bench.store.restore(at(24), RowId(7), again, &mut bench.rng).unwrap();
        assert_eq!(changes(&mut bench), told(7, "d"));
        bench.put(24, deposit("e", node(5), node(5))).unwrap();
        assert_eq!(changes(&mut bench), told(8, "e"));
    }

    #[test]
    fn equal_values_are_returned_once() {
        let mut bench = Bench::with(|_| {});
        for port in 1..5 {
            bench.put(0, deposit("same", node(port), node(port))).unwrap();
        }
        assert_eq!(bench.texts(), ["same"]);
        assert_eq!(bench.store.value_count(), 4);
    }

    #[test]
    fn of_equal_values_that_with_the_longest_life_is_passed_on() {
        let mut bench = Bench::with(|_| {});
        bench.put(0, Deposit { age: HOUR, ..deposit("same", node(1), node(9)) }).unwrap();
        bench.put(0, deposit("same", node(2), node(2))).unwrap();
        bench.put(0, Deposit { age: HOUR, ..deposit("same", node(3), node(9)) }).unwrap();
        let copies = bench.store.copies(at(0), &Id::of_name("key"));
        let Owner::Node(owner) = node(2) else { unreachable!("made just above") };
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].1, CopyOf { owner: Some(owner), age: Duration::ZERO });
    }

    #[test]
    fn values_expire_a_day_after_they_were_published() {
        let mut bench = Bench::with(|_| {});
        bench.put(0, deposit("direct", node(1), node(1))).unwrap();
        bench.put(0, Deposit { age: HOUR.times(23), ..deposit("copy", node(2), node(3)) }).unwrap();
        bench.pass(0, 61);
        assert_eq!(bench.texts(), ["direct"]);
        bench.put(12, deposit("direct", node(1), node(1))).unwrap();
        bench.pass(61, 36 * 60);
        assert_eq!(bench.texts(), ["direct"], "stored again, it lives on");
        bench.pass(36 * 60, 36 * 60 + 1);
        assert!(bench.texts().is_empty());
        assert_eq!((bench.store.bytes(), bench.store.key_count()), (0, 0));
        assert_eq!(bench.store.next_due(), Instant::NEVER);
        let stale = Deposit { age: HOUR.times(24), ..deposit("copy", node(2), node(3)) };
        assert_eq!(bench.put(37, stale), Err(Refusal::Expired));
    }

    #[test]
    fn a_key_is_republished_hourly_unless_another_holder_did_so() {
        let mut bench = Bench::with(|_| {});
        bench.put(0, deposit("value", node(1), node(1))).unwrap();
        let times = bench.pass(0, 10 * 60);
        assert!((9..=11).contains(&times), "{times} times in 10 hours");
        let mut quiet = Bench::with(|_| {});
        let mut times = 0;
        for half_hour in 0..20 {
            let now = Instant::ZERO + HOUR.divided_by(2).times(half_hour);
            quiet.put_at(now, deposit("value", node(1), node(1))).unwrap();
            times += quiet.pass(half_hour * 30, half_hour * 30 + 30);
        }
        assert_eq!(times, 0);
    }

    #[test]
    fn a_busy_key_is_republished_all_the_same() {
        let mut bench = Bench::with(|_| {});
        let mut times = 0;
        for half_hour in 0..20 {
            let now = Instant::ZERO + HOUR.divided_by(2).times(half_hour);
            let owner = node(half_hour as u16);
            bench.put_at(now, deposit("value", owner, owner)).unwrap();
            times += bench.pass(half_hour * 30, half_hour * 30 + 30);
        }
        assert!((8..=11).contains(&times), "{times} times in 10 hours");
    }

    #[test]
    fn every_limit_refuses_and_changes_nothing() {
        let mut bench = Bench::with(|config| {
            config.max_value_bytes = 10;
            config.max_values_per_key = 3;
            config.max_values_per_owner = 2;
            config.max_store_bytes = 3 * (OVERHEAD + 10);
        });
        let long = deposit("0123456789", node(1), node(1));
        assert_eq!(bench.put(0, long), Err(Refusal::ValueTooLarge { bytes: 13, max: 10 }));
        bench.put(0, deposit("a", node(1), node(9))).unwrap();
        bench.put(0, deposit("b", node(2), node(9))).unwrap();
        let third = deposit("c", node(3), node(9));
        assert_eq!(bench.put(0, third), Err(Refusal::OwnerFull { max: 2 }));
        bench.put(0, deposit("c", node(3), node(3))).unwrap();
        let fourth = deposit("d", node(4), node(4));
        assert_eq!(bench.put(0, fourth), Err(Refusal::KeyFull { max: 3 }));
        let farther = Deposit { key: Id::new([0xff; 20]), ..deposit("d", node(4), node(4)) };
        assert_eq!(bench.put(0, farther), Err(Refusal::StoreFull));
        assert_eq!(bench.texts(), ["a", "b", "c"]);
        assert_eq!(bench.store.bytes(), 3 * (OVERHEAD + 3));
    }

    /// Keys by how far they are, in a store with room for so many short values.
    fn full_to(count: u8) -> (Bench, impl Fn(u8, &str) -> Deposit) {
        let bench = Bench::with(|config| {
            config.max_store_bytes = usize::from(count) * (OVERHEAD + 3);
        });
        let at = |far: u8, value: &str| Deposit {
            key: Id::new([far; Id::LEN]),
            ..deposit(value, node(u16::from(far)), node(u16::from(far)))
        };
        (bench, at)
    }

    fn kept(bench: &Bench) -> Vec<u8> {
        bench.store.keys().map(|key| key.as_bytes()[0]).collect()
    }

    /// The promise that a flood does not push out what the node is responsible for.
    #[test]
    fn what_is_nearest_stays_whatever_comes() {
        let (mut bench, at) = full_to(4);
        for far in [1, 2, 90, 91] {
            bench.put(0, at(far, "v")).unwrap();
        }
        assert_eq!(bench.put(1, at(200, "v")), Err(Refusal::StoreFull), "farther than all");
        bench.put(1, at(50, "v")).unwrap();
        assert_eq!(kept(&bench), [1, 2, 50, 90]);
        for far in (3..=255).rev() {
            let _ = bench.put(2, at(far, "v"));
        }
        assert_eq!(kept(&bench), [1, 2, 3, 4]);
        assert_eq!(bench.store.bytes(), 4 * (OVERHEAD + 3));
    }

    #[test]
    fn of_the_farthest_key_the_oldest_value_leaves() {
        let (mut bench, at) = full_to(3);
        let of = |owner: u16, value: &str| Deposit {
            owner: node(owner),
            depositor: node(owner),
            ..at(90, value)
        };
        bench.put(3, of(1, "b")).unwrap();
        bench.put(1, of(2, "a")).unwrap();
        bench.put(5, of(3, "c")).unwrap();
        bench.put(6, at(10, "v")).unwrap();
        let far = Id::new([90; Id::LEN]);
        let left = bench.store.values(&far).unwrap();
        assert_eq!(left.map(Value::as_bytes).collect::<Vec<_>>(), [b"1:b", b"1:c"]);
        assert_eq!(kept(&bench), [10, 90]);
    }

    /// What is refused has pushed nothing out.
    #[test]
    fn room_is_made_only_if_it_suffices() {
        let (mut bench, at) = full_to(3);
        for far in [1, 2, 90] {
            bench.put(0, at(far, "v")).unwrap();
        }
        let long = "v".repeat(2 * OVERHEAD);
        assert_eq!(bench.put(1, at(50, &long)), Err(Refusal::StoreFull));
        assert_eq!(kept(&bench), [1, 2, 90]);
    }

    #[test]
    fn the_own_user_may_exceed_what_strangers_may() {
        let mut bench = Bench::with(|config| config.max_values_per_owner = 1);
        for key in ["key", "other", "third"] {
            let own = Deposit { key: Id::of_name(key), ..deposit("v", Owner::Own, Owner::Own) };
            bench.put(0, own).unwrap();
        }
        assert_eq!(bench.store.key_count(), 3);
    }
}
