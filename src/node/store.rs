//! The values that a node keeps for the network.
//!
//! Under a key lies one value for each owner that stored it here itself, and beside them the copies
//! that other holders passed on. A copy names an owner that nobody can check, so it stays apart: it
//! never touches what the owner stored itself, and it can neither replace nor refresh another copy.
//!
//! Nothing is sent from here; the store says which keys are due for republishing, the node does it.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;

use crate::bencode::Value;
use crate::id::Id;
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
    /// How long ago it was published.
    pub age: Duration,
}

/// A value in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The value.
    pub value: Value,
    /// Who published it, as far as the depositor is to be believed.
    pub owner: Owner,
    /// Who brought it.
    pub depositor: Owner,
    /// When it was published.
    pub published: Instant,
    /// SHA-1 of the value, so that equal values are found without comparing them.
    digest: Id,
    /// No value before it in the slot is equal.
    first: bool,
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
    /// [`Config::max_store_bytes`] is reached.
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
    slots: BTreeMap<Id, Slot>,
    /// One entry for each slot: when something is to be done about it.
    due: BTreeSet<(Instant, Id)>,
    /// Values here by who brought them.
    deposits: BTreeMap<Owner, usize>,
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
    values: Vec<Stored>,
    republish: Instant,
    /// Its entry in [`Store::due`].
    due: Instant,
}

impl Store {
    /// An empty store with the limits of a configuration.
    pub fn new(config: &Config) -> Store {
        Store {
            slots: BTreeMap::new(),
            due: BTreeSet::new(),
            deposits: BTreeMap::new(),
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
        self.slots.keys()
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

    /// The different values under a key, or `None` if nothing is stored there.
    pub fn values(&self, key: &Id) -> Option<impl Iterator<Item = &Value>> {
        let slot = self.slots.get(key)?;
        Some(slot.values.iter().filter(|stored| stored.first).map(|stored| &stored.value))
    }

    /// The different values under a key as this node passes them on to others.
    pub fn copies(&self, now: Instant, key: &Id) -> Vec<(Value, CopyOf)> {
        let stored = self.slots.get(key).map_or(&[][..], |slot| &slot.values);
        stored
            .iter()
            .filter(|stored| stored.first)
            .map(|stored| {
                let owner = match stored.owner {
                    Owner::Own => None,
                    Owner::Node(contact) => Some(contact),
                };
                (stored.value.clone(), CopyOf { owner, age: now.since(stored.published) })
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
        let bytes = deposit.value.as_bytes().len();
        if bytes > self.max_value_bytes {
            return Err(Refusal::ValueTooLarge { bytes, max: self.max_value_bytes });
        }
        if deposit.age >= self.expire {
            return Err(Refusal::Expired);
        }
        let (key, mode, owner) = (deposit.key, deposit.mode, deposit.owner);
        let stored = Stored::new(now, deposit);
        match self.place(&key, &stored)? {
            Place::Present => {}
            Place::Replace(index) => self.replace(&key, index, stored.clone())?,
            Place::New => self.push(&key, stored.clone())?,
        }
        if stored.is_direct() {
            self.drop_copies(&key, |copy| {
                copy.owner == owner
                    && (mode == StoreMode::Replace || copy.digest == stored.digest)
            });
        }
        // Whoever brought it brings it to the other holders too, so ours can wait (paper §2.5).
        let republish = now + jittered(self.republish, rng);
        self.settle(&key, Some(republish));
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
            let expire = self.expire;
            self.remove(&key, |stored| stored.published + expire <= now);
            let slot = self.slots.get(&key);
            let republish = slot.is_some_and(|slot| slot.republish <= now);
            let next = republish.then(|| now + jittered(self.republish, rng));
            self.settle(&key, next);
            if republish {
                return Some(key);
            }
        }
        None
    }

    /// Where a value goes, seen from what lies there already.
    fn place(&self, key: &Id, new: &Stored) -> Result<Place, Refusal> {
        let Some(slot) = self.slots.get(key) else {
            return Ok(Place::New);
        };
        let own = slot.values.iter().position(|old| old.is_direct() && old.owner == new.owner);
        if let Some(index) = own {
            let old = &slot.values[index];
            let newer = new.published > old.published;
            return match (new.is_direct(), old.digest == new.digest) {
                (true, _) if newer => Ok(Place::Replace(index)),
                (_, true) => Ok(Place::Present),
                (true, false) if new.published == old.published => Ok(Place::Replace(index)),
                (false, false) if newer => Ok(Place::New),
                (_, false) => Err(Refusal::Superseded),
            };
        }
        let same = |old: &Stored| old.owner == new.owner && old.digest == new.digest;
        let known = !new.is_direct() && slot.values.iter().any(same);
        Ok(if known { Place::Present } else { Place::New })
    }

    fn push(&mut self, key: &Id, stored: Stored) -> Result<(), Refusal> {
        let max = self.max_values_per_key;
        if self.slots.get(key).is_some_and(|slot| slot.values.len() >= max) {
            return Err(Refusal::KeyFull { max });
        }
        let max = self.max_values_per_owner;
        let deposits = self.deposits.get(&stored.depositor).copied().unwrap_or(0);
        // The node's own user is no stranger to be limited.
        if stored.depositor != Owner::Own && deposits >= max {
            return Err(Refusal::OwnerFull { max });
        }
        if self.bytes + stored.cost() > self.max_bytes {
            return Err(Refusal::StoreFull);
        }
        self.bytes += stored.cost();
        *self.deposits.entry(stored.depositor).or_default() += 1;
        let slot = self.slots.entry(*key).or_insert_with(Slot::new);
        slot.values.push(stored);
        Ok(())
    }

    /// Puts a value in the place of an older one of the same owner.
    fn replace(&mut self, key: &Id, index: usize, stored: Stored) -> Result<(), Refusal> {
        let slot = self.slots.get_mut(key).expect("the slot of a placed value");
        let bytes = self.bytes - slot.values[index].cost() + stored.cost();
        if bytes > self.max_bytes {
            return Err(Refusal::StoreFull);
        }
        self.bytes = bytes;
        slot.values[index] = stored;
        Ok(())
    }

    fn drop_copies(&mut self, key: &Id, goes: impl Fn(&Stored) -> bool) {
        self.remove(key, |stored| !stored.is_direct() && goes(stored));
    }

    fn remove(&mut self, key: &Id, goes: impl Fn(&Stored) -> bool) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        for stored in slot.values.extract_if(.., |stored| goes(stored)) {
            self.bytes -= stored.cost();
            let left = self.deposits.get_mut(&stored.depositor).expect("counted when it came");
            *left -= 1;
            if *left == 0 {
                self.deposits.remove(&stored.depositor);
            }
        }
    }

    /// Brings a slot's marks and its place in the schedule up to date after a change; an empty one
    /// is forgotten.
    fn settle(&mut self, key: &Id, republish: Option<Instant>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        self.due.remove(&(slot.due, *key));
        if slot.values.is_empty() {
            self.slots.remove(key);
            return;
        }
        slot.republish = republish.unwrap_or(slot.republish);
        slot.mark_first();
        let oldest = slot.values.iter().map(|stored| stored.published).min().expect("not empty");
        slot.due = slot.republish.min(oldest + self.expire);
        self.due.insert((slot.due, *key));
    }
}

/// Where a new value goes.
enum Place {
    New,
    Replace(usize),
    Present,
}

impl Slot {
    fn new() -> Slot {
        Slot { values: Vec::new(), republish: Instant::NEVER, due: Instant::NEVER }
    }

    fn mark_first(&mut self) {
        let mut seen = BTreeSet::new();
        for stored in &mut self.values {
            stored.first = seen.insert(stored.digest);
        }
    }
}

impl Stored {
    fn new(now: Instant, deposit: Deposit) -> Stored {
        Stored {
            digest: Id::of_name(deposit.value.as_bytes()),
            value: deposit.value,
            owner: deposit.owner,
            depositor: deposit.depositor,
            published: now - deposit.age,
            first: true,
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
