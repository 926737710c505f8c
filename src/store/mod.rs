//! What a node keeps for its networks: values in v1, which are here, and in Mainline [`peers`] and [`items`].
//!
//! Under a key lies one value for each publisher that stored it here itself, and beside them the copies
//! that other holders passed on. The [`Standing`] of a value decides what it may do to others: a lower
//! one never replaces, refreshes or drops a higher one, nor takes any of its room. A copy puts off the
//! republishing of the value that its publisher brought here by one span at most. A copy is not kept at
//! all if its publisher was here itself, and proved it.
//!
//! Each deposit is charged to the address that brought it and to the networks around that (`shares`),
//! none of which may take more than a tenth of the store or of a key's places; all unproved values
//! together take a quarter at most. When room is short it is taken from the account that holds most,
//! the values farthest from the own id first, and of these the oldest. The node's own values have no
//! such limits, and make room for nobody. In private networks each address has its own share.
//!
//! Nothing is sent from here; the store says which keys are due for republishing, the node does it.
//! Read [`Store::put`] first; [`Store::pick`] chooses what an answer holds.

mod copies;
pub mod items;
pub mod peers;
mod pick;
mod room;
mod shares;
mod slot;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

use rand::Rng;

use crate::bencode::Value;
use crate::config::Config;
use crate::id::Id;
use crate::message::{Contact, CopyOf, StoreMode};
use crate::time::{Duration, Instant};

use self::shares::{ACCOUNT, AccountPath, Pool, Rank};
use self::slot::{RowEntry, Slot};

pub(crate) use self::copies::Copies;
pub use self::pick::{Picked, Values};
pub use self::shares::Holder;

/// Memory that a value takes beside its bytes: its fields, its place under its key and in its account.
/// Trees are between half full and full, and allocators round up, so this and the next are right within
/// a tenth; `store_memory` measures that.
const ROW: usize = 280;

/// Memory that a key takes: its place and its date.
const SLOT: usize = 138;

/// Memory that the depositor of a copy takes, who is not its publisher.
const PASSER_ON: usize = 56;

/// Memory that a change takes until it is told.
const CHANGE: usize = 50;

/// No account takes more of the store, or of a key's places, than one part in this.
const SHARE: usize = 10;

/// Unproved values take no more than one part in this: of the store, of a key's places, and of the
/// share of an account, since anybody can store in the name of its address.
const UNPROVED: usize = 4;

/// Others put off the republishing of a value for no longer than this many times the usual span: a
/// node that brings it here need not bring it to other holders.
const PUT_OFF_MAX: u64 = 8;

/// The same for a value that its publisher brought here itself. If nothing put it off, every holder would
/// pass it on every hour; put off by one span, it is passed on at half the usual rate at worst, whatever
/// copies somebody sends to prevent it.
const PUBLISHED_PUT_OFF_MAX: u64 = 2;

/// Whose value it is, or who brought it here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Party {
    /// This node itself, which does not know its own address.
    Own,
    /// Another node.
    Node(Contact),
}

/// What vouches for a value, the weakest first.
///
/// It is decided from the datagram that brought the value and from nothing else: what a node proved
/// earlier says nothing about a datagram that comes in its name now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Standing {
    /// A holder passed it on, and proved its own address. It claims who published it, and when.
    Hearsay,
    /// Its publisher seems to have sent it, but proved nothing; originals cannot.
    Claimed,
    /// Its publisher sent it, and proved that it receives what is sent to its address.
    Published,
}

/// A row of the store: one value that one publisher, or one passer-on, left under a key. Its number is
/// never given to another, and stays when the publisher puts a newer value in its place.
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
    /// Whether copies of the publisher's earlier values go.
    pub mode: StoreMode,
    /// Who published it.
    pub publisher: Party,
    /// Who brought it; the publisher itself, or a holder that passes on a copy.
    pub depositor: Party,
    /// What vouches for it.
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
    /// Who published it, as surely as its standing says.
    pub publisher: Party,
    /// Who brought it, if not the publisher.
    passer_on: Option<Box<Party>>,
    /// What vouches for it.
    pub standing: Standing,
    /// Whether a change of the row was told.
    is_told: bool,
    /// When it will be forgotten. The time of its publication follows from that; the reverse would
    /// not do, for that may lie before the clock began to count.
    pub expires: Instant,
    /// When it is passed on to other holders, unless somebody else does so before.
    republish: Instant,
    /// When it is passed on, whoever else does so too.
    republish_max: Instant,
    /// SHA-1 of the value, so that equal values are found without comparing them.
    digest: Id,
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
    /// [`Config::max_values_per_key`] is reached, or the part of it for unproved values.
    #[error("the key holds {max} values already")]
    KeyFull {
        /// The limit.
        max: usize,
    },
    /// A network has its share of the key's places.
    #[error("the key holds {max} values from {holder} already")]
    KeyShareFull {
        /// The network.
        holder: Holder,
        /// The limit.
        max: usize,
    },
    /// [`Config::max_values_per_owner`] is reached.
    #[error("{max} values of this sender are kept already")]
    OwnerFull {
        /// The limit.
        max: usize,
    },
    /// An address or its network has its share of [`Config::max_store_bytes`].
    #[error("values from {holder} take their {max} bytes already")]
    ShareFull {
        /// The address or network.
        holder: Holder,
        /// The limit.
        max: usize,
    },
    /// Unproved values have their share of [`Config::max_store_bytes`].
    #[error("values without a token take their {max} bytes already")]
    UnprovedFull {
        /// The limit.
        max: usize,
    },
    /// [`Config::max_store_bytes`] is reached, and nobody holds more than the sender would.
    #[error("the store is full")]
    StoreFull,
    /// It was published longer ago than values live.
    #[error("the value has expired")]
    Expired,
    /// The publisher has stored another value here itself, and proved that it was the publisher.
    #[error("the owner stored a newer value")]
    Superseded,
}

/// All values of a node.
pub struct Store {
    own: Id,
    slots: BTreeMap<Id, Slot>,
    /// Changes whenever a key comes or goes.
    keys_version: u64,
    /// One entry for each slot: when to look whether something is to be done about it.
    due: BTreeSet<(Instant, Id)>,
    /// The accounts of depositors, one pool for each standing.
    pools: [Pool; 3],
    count: usize,
    /// What the values take, without keys and accounts.
    row_bytes: usize,
    /// Rows that have changed, if somebody wants to know.
    changed: Option<BTreeSet<Change>>,
    /// The change that was told last.
    last_told: Change,
    last_row: RowId,
    copies: Copies,
    expire: Duration,
    republish: Duration,
    limits: Capacity,
}

struct Capacity {
    value_bytes: usize,
    per_key: usize,
    per_owner: usize,
    bytes: usize,
}

impl Capacity {
    /// Bytes that one account may take with values of a standing and those that are limited
    /// together with it.
    fn share_bytes(&self, standing: Standing) -> usize {
        // A tenth of a small store would be less than one value.
        let least = ROW + SLOT + 3 * ACCOUNT + PASSER_ON + self.value_bytes;
        share(self.bytes, standing).max(least)
    }

    /// Places under a key that one account may take.
    fn share_places(&self, standing: Standing) -> usize {
        share(self.per_key, standing).max(1)
    }

    /// Bytes that all unproved values together may take.
    fn unproved_bytes(&self) -> usize {
        self.bytes / UNPROVED
    }

    /// Places under a key for these.
    fn unproved_places(&self) -> usize {
        (self.per_key / UNPROVED).max(1)
    }
}

fn share(all: usize, standing: Standing) -> usize {
    let unproved = all / (SHARE * UNPROVED);
    match standing {
        Standing::Claimed => unproved,
        Standing::Hearsay | Standing::Published => all / SHARE - unproved,
    }
}

impl Standing {
    /// The standings that make room for this one, the first to leave first. Claims and hearsay make
    /// none for each other.
    fn lower(self) -> &'static [Standing] {
        match self {
            Standing::Published => &[Standing::Claimed, Standing::Hearsay],
            Standing::Claimed | Standing::Hearsay => &[],
        }
    }

    /// The standings whose values are limited together.
    fn limited_with(self) -> &'static [Standing] {
        match self {
            Standing::Claimed => &[Standing::Claimed],
            Standing::Hearsay | Standing::Published => &[Standing::Hearsay, Standing::Published],
        }
    }

    /// For how many spans others can put off the republishing of a value.
    fn put_off_max(self) -> u64 {
        match self {
            Standing::Published => PUBLISHED_PUT_OFF_MAX,
            Standing::Claimed | Standing::Hearsay => PUT_OFF_MAX,
        }
    }

    /// Those of these that make room for it.
    fn lower_limited_with(self) -> impl Iterator<Item = Standing> {
        self.lower().iter().copied().filter(move |lower| self.limited_with().contains(lower))
    }
}

/// What becomes of a deposit, given the values under its key.
struct Ruling {
    fit: Fit,
    /// Values that it makes superfluous.
    drops: Vec<usize>,
}

enum Fit {
    New,
    /// Replaces this one and takes over its row.
    Instead(usize),
    /// This one is as good.
    Known(usize),
}

/// Values that had to make room, with their keys.
type Gone = Vec<(Id, Box<Stored>)>;

impl Store {
    /// An empty store of the node `own`, with the limits of a configuration.
    pub fn new(own: Id, config: &Config) -> Store {
        let limits = Capacity {
            value_bytes: config.max_value_bytes.min(usize::from(u16::MAX)),
            per_key: config.max_values_per_key,
            per_owner: config.max_values_per_owner,
            bytes: config.max_store_bytes,
        };
        Store {
            own,
            slots: BTreeMap::new(),
            keys_version: 0,
            due: BTreeSet::new(),
            pools: Default::default(),
            count: 0,
            row_bytes: 0,
            changed: None,
            last_told: Change { key: own, row: RowId::default() },
            last_row: RowId::default(),
            copies: Copies::default(),
            expire: config.expire,
            republish: config.republish,
            limits,
        }
    }

    /// Keys under which something lies, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Id> {
        self.slots.keys()
    }

    /// A number that changes whenever a key comes or goes.
    pub fn keys_version(&self) -> u64 {
        self.keys_version
    }

    /// Those of the keys that lie in a range.
    pub(crate) fn keys_within(&self, range: impl RangeBounds<Id>) -> impl Iterator<Item = &Id> {
        self.slots.range(range).map(|(key, _)| key)
    }

    /// How many rows there are under a key.
    pub(crate) fn count_under(&self, key: &Id) -> usize {
        self.entries(key).len()
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.slots.len()
    }

    /// How many values there are, copies counted one by one.
    pub fn value_count(&self) -> usize {
        self.count
    }

    /// Memory taken, in bytes, as counted against the limit: with keys and bookkeeping, and right
    /// within a tenth.
    pub fn bytes(&self) -> usize {
        let accounts: usize = self.pools.iter().map(Pool::account_count).sum();
        let changes = self.changed.as_ref().map_or(0, BTreeSet::len);
        self.row_bytes + self.slots.len() * SLOT + accounts * ACCOUNT + changes * CHANGE
    }

    /// All that lies under a key.
    pub fn stored<'s>(&'s self, key: &Id) -> impl Iterator<Item = &'s Stored> + use<'s> {
        self.entries(key).iter().map(|entry| &*entry.stored)
    }

    /// One row under a key.
    pub fn row(&self, key: &Id, row: RowId) -> Option<&Stored> {
        self.stored(key).find(|stored| stored.row == row)
    }

    /// From now on notes which rows change.
    pub(crate) fn note_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Whether there are changes that were not taken yet.
    pub(crate) fn has_changes(&self) -> bool {
        self.changed.as_ref().is_some_and(|changed| !changed.is_empty())
    }

    /// Takes up to `max` changes. All have their turn, even where some rows change faster than they
    /// are taken.
    pub(crate) fn take_changed(&mut self, max: usize) -> Vec<Change> {
        let Some(changed) = &mut self.changed else { return Vec::new() };
        let after = (Bound::Excluded(self.last_told), Bound::Unbounded);
        let mut taken: Vec<Change> = changed.range(after).take(max).copied().collect();
        let before = (Bound::Unbounded, Bound::Included(self.last_told));
        taken.extend(changed.range(before).take(max - taken.len()));
        taken.iter().for_each(|change| _ = changed.remove(change));
        self.last_told = taken.last().copied().unwrap_or(self.last_told);
        for Change { key, row } in &taken {
            let slot = self.slots.get_mut(key);
            let stored = slot.and_then(|slot| slot.all_mut().find(|stored| stored.row == *row));
            stored.into_iter().for_each(|stored| stored.is_told = true);
        }
        taken
    }

    /// Who has copies of values, and what it has to hear.
    pub(crate) fn copies(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// Notes a change, perhaps again because it came to nothing.
    pub(crate) fn note_changed(&mut self, change: Change) {
        if let Some(changed) = &mut self.changed {
            changed.insert(change);
        }
    }

    /// The different values under a key, or `None` if nothing is stored there.
    pub fn values(&self, key: &Id) -> Option<impl Iterator<Item = &Value>> {
        let slot = self.slots.get(key)?;
        Some(shown(slot).map(|stored| &stored.value))
    }

    /// The rows of the different values under a key, each with its depositor.
    pub(crate) fn shown(&self, key: &Id) -> impl Iterator<Item = (RowId, Party)> {
        let shown = self.slots.get(key).into_iter().flat_map(shown);
        shown.map(|stored| (stored.row, *stored.depositor()))
    }

    /// The value of a row as this node passes it on to others.
    pub(crate) fn copy(&self, now: Instant, key: &Id, row: RowId) -> Option<(Value, CopyOf)> {
        let stored = self.row(key, row)?;
        let publisher = match stored.publisher {
            Party::Own => None,
            Party::Node(contact) => Some(contact),
        };
        let age = self.expire.minus(stored.expires.since(now));
        Some((stored.value.clone(), CopyOf { publisher, age }))
    }

    /// Keeps a value.
    ///
    /// # Errors
    /// If a limit forbids it or the publisher knows better; nothing has changed then.
    pub fn put(
        &mut self,
        now: Instant,
        deposit: Deposit,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        let row = RowId(self.last_row.0 + 1);
        self.put_in(now, row, false, deposit, rng)
    }

    /// Whether a value of this size in bytes can be kept, which is known before anything looks into it.
    ///
    /// # Errors
    /// If it is too large.
    pub fn check_size(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.limits.value_bytes;
        if bytes > max { Err(Refusal::ValueTooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Keeps a value that was kept before, in a row with the number that it had; it is no change.
    ///
    /// # Errors
    /// As [`Store::put`]. The number is not given to another then either.
    pub(crate) fn restore(
        &mut self,
        now: Instant,
        row: RowId,
        deposit: Deposit,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        self.last_row = self.last_row.max(row);
        self.put_in(now, row, true, deposit, rng)
    }

    fn put_in(
        &mut self,
        now: Instant,
        row: RowId,
        is_told: bool,
        deposit: Deposit,
        rng: &mut impl Rng,
    ) -> Result<(), Refusal> {
        self.check_size(deposit.value.as_bytes().len())?;
        if deposit.age >= self.expire {
            return Err(Refusal::Expired);
        }
        let (key, mode) = (deposit.key, deposit.mode);
        // The node that brought it brings it to the other holders too, so we can wait (paper §2.5).
        let republish = now + self.republish.jittered(rng);
        let mut new = Box::new(Stored {
            row,
            digest: Id::of_name(deposit.value.as_bytes()),
            value: deposit.value,
            publisher: deposit.publisher,
            passer_on: (deposit.depositor != deposit.publisher)
                .then(|| Box::new(deposit.depositor)),
            standing: deposit.standing,
            is_told,
            expires: now + self.expire.minus(deposit.age),
            republish,
            republish_max: now + self.republish.times(deposit.standing.put_off_max()),
        });
        let Ruling { fit, mut drops } = self.rule(&key, &new, mode)?;
        if let Fit::Instead(index) = fit {
            drops.push(index);
            let old = &self.entries(&key)[index].stored;
            (new.row, new.is_told) = (old.row, old.is_told);
        }
        if let Fit::Known(index) = fit {
            self.put_off(&key, index, &new);
        }
        // The last first, so that the others keep their numbers.
        drops.sort_unstable();
        let mut gone: Gone = drops.iter().rev().map(|&index| self.take(&key, index)).collect();
        if !matches!(fit, Fit::Known(_)) {
            if let Err(refusal) = self.make_room(&key, &new, &mut gone) {
                gone.into_iter().for_each(|(key, stored)| self.lay(key, stored));
                return Err(refusal);
            }
            gone.retain(|(_, stored)| stored.row != new.row);
            self.last_row = self.last_row.max(new.row);
            if !is_told {
                self.note_changed(Change { key, row: new.row });
            }
            self.lay(key, new);
        }
        gone.iter().for_each(|(key, stored)| self.note_gone(*key, stored));
        Ok(())
    }

    /// When [`Store::pop_due`] may have something to say.
    pub fn next_due(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(at, _)| *at)
    }

    /// Forgets what has expired, and returns a key that is to be republished, if one is.
    pub fn pop_due(&mut self, now: Instant, rng: &mut impl Rng) -> Option<Id> {
        while let Some(&(at, key)) = self.due.first()
            && at <= now
        {
            self.forget_expired(now, &key);
            let next = now + self.republish.jittered(rng);
            let latest = |standing: Standing| now + self.republish.times(standing.put_off_max());
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            // All are passed on together, so for all the next time is set.
            let is_due = slot.all_mut().any(|stored| stored.republish <= now);
            if is_due {
                slot.all_mut().for_each(|stored| {
                    stored.republish = next;
                    stored.republish_max = latest(stored.standing);
                });
            }
            let first = slot.all_mut().map(|stored| stored.due()).min();
            self.schedule(&key, first.expect("a slot holds something"));
            if is_due {
                return Some(key);
            }
        }
        None
    }

    /// What a deposit does to what lies under its key; see [`Standing`].
    fn rule(&self, key: &Id, new: &Stored, mode: StoreMode) -> Result<Ruling, Refusal> {
        let (mut published, mut claimed) = (None, None);
        let (mut copy, mut copies) = (None, Vec::new());
        for (index, entry) in self.entries(key).iter().enumerate() {
            if !entry.is_of(&new.publisher) && !self.is_own_copy(entry, new) {
                continue;
            }
            let is_equal = entry.stored.digest == new.digest;
            match entry.standing {
                Standing::Published => published = Some(index),
                Standing::Claimed => claimed = Some(index),
                Standing::Hearsay => {
                    copy = copy.or(is_equal.then_some(index));
                    if is_equal || mode == StoreMode::Replace {
                        copies.push(index);
                    }
                }
            }
        }
        let alone = |fit| Ok(Ruling { fit, drops: Vec::new() });
        match new.standing {
            Standing::Published => {
                let fit = match (published, claimed) {
                    (Some(index), _) => self.succeed(key, index, new)?,
                    (None, Some(index)) => Fit::Instead(index),
                    (None, None) => Fit::New,
                };
                let mut drops = copies;
                drops.extend(published.and(claimed));
                Ok(Ruling { fit, drops })
            }
            // Nobody knows whether the publisher sent it: it takes no other value's place.
            Standing::Claimed => match claimed {
                Some(index) => alone(self.succeed(key, index, new)?),
                None => alone(Fit::New),
            },
            // A claim stands in nobody's way: anybody can make one, and could use it to keep the
            // publisher's true value away.
            Standing::Hearsay => match published {
                Some(index) if self.entries(key)[index].stored.digest == new.digest => {
                    alone(Fit::Known(index))
                }
                Some(_) => Err(Refusal::Superseded),
                None => alone(copy.map_or(Fit::New, Fit::Known)),
            },
        }
    }

    /// Whether one of the two is a copy that others say this node published, and the other is what it did
    /// publish.
    fn is_own_copy(&self, entry: &RowEntry, new: &Stored) -> bool {
        let (old, is_old_copy) = (&entry.stored.publisher, entry.standing == Standing::Hearsay);
        match (old, &new.publisher) {
            (Party::Own, Party::Node(named)) => {
                new.standing == Standing::Hearsay && named.id == self.own
            }
            (Party::Node(named), Party::Own) => is_old_copy && named.id == self.own,
            _ => false,
        }
    }

    /// A value that the publisher brings replaces the one that it brought before, if it is newer.
    fn succeed(&self, key: &Id, index: usize, new: &Stored) -> Result<Fit, Refusal> {
        let old = &self.entries(key)[index].stored;
        match (new.expires > old.expires, new.digest == old.digest) {
            (true, _) => Ok(Fit::Instead(index)),
            (false, true) => Ok(Fit::Known(index)),
            (false, false) if new.expires == old.expires => Ok(Fit::Instead(index)),
            (false, false) => Err(Refusal::Superseded),
        }
    }

    /// A value that is here already was brought again: its republishing can wait, but not for ever if
    /// others than its publisher bring it.
    fn put_off(&mut self, key: &Id, index: usize, new: &Stored) {
        let slot = self.slots.get_mut(key).expect("the slot of a known value");
        let old = slot.stored_mut(index);
        if new.standing == Standing::Published {
            old.republish_max = new.republish_max;
        }
        old.republish = old.republish.max(new.republish.min(old.republish_max));
    }

    fn pool(&self, standing: Standing) -> &Pool {
        &self.pools[standing as usize]
    }

    fn entries(&self, key: &Id) -> &[RowEntry] {
        self.slots.get(key).map_or(&[], Slot::entries)
    }

    fn place(&self, key: &Id, path: &AccountPath, row: RowId) -> Rank {
        Rank { leaf: *path.leaf(), nearness: turned(&self.own, key.as_bytes()), row: row.0 }
    }

    /// Lays a value under its key.
    fn lay(&mut self, key: Id, stored: Box<Stored>) {
        self.copies.note_changed(&key);
        self.count += 1;
        self.row_bytes += stored.cost();
        if let Party::Node(contact) = stored.depositor() {
            let path = AccountPath::of(&contact.address);
            let place = self.place(&key, &path, stored.row);
            self.pools[stored.standing as usize].add(&path, place, charge(&stored));
        }
        let due = stored.due();
        let slot = self.slots.entry(key).or_insert_with(Slot::new);
        if slot.is_empty() {
            self.keys_version += 1;
            self.copies.note_came(&key);
        }
        slot.insert(stored);
        if due < slot.due {
            self.schedule(&key, due);
        }
    }

    /// Takes a value away, and its key with the last one.
    fn take(&mut self, key: &Id, index: usize) -> (Id, Box<Stored>) {
        self.copies.note_changed(key);
        let slot = self.slots.get_mut(key).expect("the slot of a value");
        let stored = slot.remove(index);
        if slot.is_empty() {
            self.due.remove(&(slot.due, *key));
            self.slots.remove(key);
            self.keys_version += 1;
        }
        self.count -= 1;
        self.row_bytes -= stored.cost();
        if let Party::Node(contact) = stored.depositor() {
            let path = AccountPath::of(&contact.address);
            let place = self.place(key, &path, stored.row);
            self.pools[stored.standing as usize].remove(&path, &place, charge(&stored));
        }
        (*key, stored)
    }

    /// Takes away the oldest value that an account has under a key.
    fn evict(&mut self, standing: Standing, place: &Rank) -> (Id, Box<Stored>) {
        let key = Id::new(turned(&self.own, &place.nearness));
        let slot = self.slots.get(&key).expect("the slot of a place");
        let oldest = slot.oldest(&place.leaf, standing);
        self.take(&key, oldest.expect("a place belongs to a value"))
    }

    fn forget_expired(&mut self, now: Instant, key: &Id) {
        let is_gone = |entry: &RowEntry| entry.stored.expires <= now;
        while let Some(index) = self.entries(key).iter().rposition(is_gone) {
            let (_, stored) = self.take(key, index);
            self.note_gone(*key, &stored);
        }
    }

    /// A row that came and went before anybody was told is not told at all.
    fn note_gone(&mut self, key: Id, stored: &Stored) {
        let change = Change { key, row: stored.row };
        if stored.is_told {
            self.note_changed(change);
        } else if let Some(changed) = &mut self.changed {
            changed.remove(&change);
        }
    }

    fn schedule(&mut self, key: &Id, due: Instant) {
        let slot = self.slots.get_mut(key).expect("a slot that was found");
        self.due.remove(&(slot.due, *key));
        slot.due = due;
        self.due.insert((due, *key));
    }
}

/// The different values of a slot.
fn shown(slot: &Slot) -> impl Iterator<Item = &Stored> {
    slot.entries().iter().filter(|entry| entry.is_shown).map(|entry| &*entry.stored)
}

/// Turns a key into its nearness to a node, and back.
fn turned(own: &Id, bytes: &[u8; Id::LEN]) -> [u8; Id::LEN] {
    std::array::from_fn(|at| !(bytes[at] ^ own.as_bytes()[at]))
}

/// What a value counts against the share of an account: a key is charged to each account that has
/// something under it.
fn charge(stored: &Stored) -> usize {
    stored.cost() + SLOT
}

impl Stored {
    /// Who brought it.
    pub fn depositor(&self) -> &Party {
        self.passer_on.as_deref().unwrap_or(&self.publisher)
    }

    fn due(&self) -> Instant {
        self.expires.min(self.republish)
    }

    fn cost(&self) -> usize {
        let passer_on = if self.passer_on.is_some() { PASSER_ON } else { 0 };
        ROW + passer_on + self.value.as_bytes().len()
    }
}

#[cfg(test)]
mod tests;
