//! Who makes room for a value.
//!
//! Values leave one by one, first under the key and then in the accounts, until the new value fits or
//! nothing is left that may leave for it. The choice depends only on what lies there, and choosing
//! changes nothing.

use super::shares::{ACCOUNT, AccountPath, Holder, Pool, Rank};
use super::slot::RowEntry;
use super::{CHANGE, Gone, Party, Refusal, SLOT, Standing, Store, Stored, charge};
use crate::id::Id;

/// What leaves for the node's own values, the first to leave first.
const STRANGERS: [Standing; 3] = [Standing::Claimed, Standing::Hearsay, Standing::Published];

impl Store {
    /// Takes the room that a value needs from those who have more than their share.
    pub(super) fn make_room(
        &mut self,
        key: &Id,
        new: &Stored,
        gone: &mut Gone,
    ) -> Result<(), Refusal> {
        let path = match new.depositor() {
            Party::Own => None,
            Party::Node(depositor) => Some(AccountPath::of(&depositor.address)),
        };
        while let Some(index) = match &path {
            Some(path) => self.in_the_way_under_key(key, new, path)?,
            None => self.in_the_way_of_own_under_key(key)?,
        } {
            gone.push(self.take(key, index));
        }
        while let Some((standing, rank)) = match &path {
            Some(path) => self.in_the_way_in_accounts(key, new, path, gone)?,
            None => self.in_the_way_of_own_in_accounts(key, new, gone)?,
        } {
            gone.push(self.evict(standing, &rank));
        }
        Ok(())
    }

    /// The node's own user is no stranger to be limited: its values make room for nobody, and
    /// strangers' values make room for them.
    fn in_the_way_of_own_under_key(&self, key: &Id) -> Result<Option<usize>, Refusal> {
        let max = self.limits.per_key;
        let Some(slot) = self.slots.get(key).filter(|slot| slot.len() >= max) else {
            return Ok(None);
        };
        let spare = STRANGERS.iter().find_map(|standing| slot.heaviest(*standing, None));
        spare.map(Some).ok_or(Refusal::KeyFull { max })
    }

    /// The same for memory.
    fn in_the_way_of_own_in_accounts(
        &self,
        key: &Id,
        new: &Stored,
        gone: &Gone,
    ) -> Result<Option<(Standing, Rank)>, Refusal> {
        if self.bytes() + self.needed(key, new, None, gone) <= self.limits.bytes {
            return Ok(None);
        }
        let spare = STRANGERS.into_iter().find_map(|of| Some((of, self.pool(of).heaviest()?)));
        spare.map(Some).ok_or(Refusal::StoreFull)
    }

    /// The value under the same key that has to leave for a stranger's.
    fn in_the_way_under_key(
        &self,
        key: &Id,
        new: &Stored,
        path: &AccountPath,
    ) -> Result<Option<usize>, Refusal> {
        let Some(slot) = self.slots.get(key) else { return Ok(None) };
        let (standing, tag) = (new.standing, path.leaf().tag());
        let (max, share) = (self.limits.per_key, self.limits.share_places(standing));
        let is_limited = |entry: &RowEntry| standing.limited_with().contains(&entry.standing);
        // Those of the widest account on the path that is limited to a share.
        let is_own = |entry: &RowEntry| {
            entry.tag == tag && (path.limited == 0 || entry.is_from(path.leaf()))
        };
        let taken = |entry: &RowEntry| is_limited(entry) && is_own(entry);
        let spare = if slot.len() >= share && slot.count(taken) >= share {
            let mut lower = standing.lower_limited_with();
            let spare = match path.limited {
                0 => lower
                    .find_map(|lower| slot.heaviest(lower, Some(tag)))
                    .or_else(|| slot.heavier(standing, path, true)),
                _ => lower.find_map(|lower| slot.oldest(path.leaf(), lower)),
            };
            spare.ok_or(match slot.len() >= max {
                true => Refusal::KeyFull { max },
                false => Refusal::KeyShareFull { holder: path.levels()[path.limited], max: share },
            })?
        } else if standing == Standing::Claimed
            && slot.count(|entry| entry.standing == standing) >= self.limits.unproved_places()
        {
            let max = self.limits.unproved_places();
            slot.heavier(standing, path, false).ok_or(Refusal::KeyFull { max })?
        } else if slot.len() >= max {
            let mut lower = standing.lower().iter();
            let lower = lower.find_map(|lower| slot.heaviest(*lower, None));
            let spare = lower.or_else(|| slot.heavier(standing, path, false));
            spare.ok_or(Refusal::KeyFull { max })?
        } else {
            return Ok(None);
        };
        Ok(Some(spare))
    }

    /// The value that has to leave in the accounts for a stranger's.
    fn in_the_way_in_accounts(
        &self,
        key: &Id,
        new: &Stored,
        path: &AccountPath,
        gone: &Gone,
    ) -> Result<Option<(Standing, Rank)>, Refusal> {
        let standing = new.standing;
        let share = self.limits.share_bytes(standing);
        let bytes = charge(new) + self.pool(standing).missing(path) * ACCOUNT;
        let of_all = |count: fn(&Pool, &Holder) -> usize, holder: &Holder| {
            let pools = standing.limited_with().iter().map(|standing| self.pool(*standing));
            pools.map(|pool| count(pool, holder)).sum::<usize>()
        };
        let lower_in = |holder: &Holder| {
            let place = |lower| Some((lower, self.pool(lower).heaviest_in(holder)?));
            standing.lower_limited_with().find_map(place)
        };
        // Of those beside or below it.
        let beside = |level| Some((standing, self.pool(standing).heavier(path, level, bytes)?));
        let is_full = |holder: &Holder| of_all(Pool::bytes_of, holder) + bytes > share;
        let mut limited = path.limited..path.levels().len();
        let full = limited.find(|&level| is_full(&path.levels()[level]));
        let spare = if of_all(Pool::rows_of, path.leaf()) >= self.limits.per_owner {
            let max = self.limits.per_owner;
            lower_in(path.leaf()).ok_or(Refusal::OwnerFull { max })?
        } else if let Some(level) = full {
            let holder = path.levels()[level];
            let spare = lower_in(&holder).or_else(|| beside(level + 1));
            spare.ok_or(Refusal::ShareFull { holder, max: share })?
        } else if standing == Standing::Claimed
            && self.pool(standing).bytes() + bytes > self.limits.unproved_bytes()
        {
            let max = self.limits.unproved_bytes();
            beside(0).ok_or(Refusal::UnprovedFull { max })?
        } else if self.bytes() + self.needed(key, new, Some(path), gone) > self.limits.bytes {
            let place = |lower: &Standing| Some((*lower, self.pool(*lower).heaviest()?));
            let lower = standing.lower().iter().find_map(place);
            lower.or_else(|| beside(0)).ok_or(Refusal::StoreFull)?
        } else {
            return Ok(None);
        };
        Ok(Some(spare))
    }

    /// Memory that a value would take, with its key and accounts, and with the changes to tell: its own
    /// and those of the values that make room.
    fn needed(&self, key: &Id, new: &Stored, path: Option<&AccountPath>, gone: &Gone) -> usize {
        let slot = if self.slots.contains_key(key) { 0 } else { SLOT };
        let accounts = path.map_or(0, |path| self.pool(new.standing).missing(path));
        let changes = if self.changed.is_some() { 1 + gone.len() } else { 0 };
        new.cost() + slot + accounts * ACCOUNT + changes * CHANGE
    }
}
