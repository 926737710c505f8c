//! Which of the values under a key an answer holds, where it has no room for all.
//!
//! The first to come is not served first: accounts take turns, in random order, and unproved values
//! take turns with proved ones. Of the chosen values the small ones are laid down first, so that a
//! large one never takes the place of others. With a cursor the values come one after the other, in
//! the order of their digests.

use std::ops::Range;

use rand::{Rng, RngExt as _};

use super::Store;
use super::slot::{RowEntry, Slot};
use crate::bencode::Value;
use crate::id::Id;

/// A choice of the values under a key.
pub struct Picked<'s> {
    /// What was chosen, no value twice.
    pub values: Values<'s>,
    /// Other values that lie there, behind the cursor if there was one.
    pub more: usize,
    /// The cursor with which to ask for these, `None` if nothing more would come.
    pub next: Option<Id>,
    /// Rows that were looked at.
    pub(crate) examined: usize,
    /// Whether they had to be put in some order, which costs more.
    pub(crate) is_ordered: bool,
}

/// The values of a [`Picked`].
pub struct Values<'s>(Choice<'s>);

enum Choice<'s> {
    All(std::slice::Iter<'s, RowEntry>),
    Some(std::vec::IntoIter<&'s RowEntry>),
}

impl<'s> Iterator for Values<'s> {
    type Item = &'s Value;

    fn next(&mut self) -> Option<&'s Value> {
        let entry = match &mut self.0 {
            Choice::All(entries) => entries.find(|entry| entry.is_shown),
            Choice::Some(entries) => entries.next(),
        };
        entry.map(|entry| &entry.stored.value)
    }
}

impl Store {
    /// Chooses values under a key: `limit` at most, and `max_bytes` of them encoded. `after` is the
    /// cursor of an earlier answer; without one the choice is random. `None` if nothing lies there.
    pub fn pick(
        &self,
        key: &Id,
        limit: usize,
        max_bytes: usize,
        after: Option<&Id>,
        rng: &mut impl Rng,
    ) -> Option<Picked<'_>> {
        let slot = self.slots.get(key)?;
        Some(match after {
            Some(after) => slot.page(after, limit, max_bytes),
            None => slot.choose(limit, max_bytes, rng),
        })
    }
}

impl Slot {
    fn choose(&self, limit: usize, max_bytes: usize, rng: &mut impl Rng) -> Picked<'_> {
        let shown = self.entries().iter().filter(|entry| entry.is_shown);
        let (count, bytes) =
            shown.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + usize::from(entry.len)));
        if count <= limit && bytes <= max_bytes {
            let values = Values(Choice::All(self.entries().iter()));
            let examined = self.len();
            return Picked { values, more: 0, next: None, examined, is_ordered: false };
        }
        let mut dealer = Dealer::new(self, rng);
        let mut chosen: Vec<&RowEntry> =
            std::iter::from_fn(|| dealer.next(rng)).take(limit).collect();
        // Stable: of values of equal size those that were dealt first stay first.
        chosen.sort_by_key(|entry| entry.len);
        let mut left = max_bytes;
        let mut fits = |entry: &RowEntry| {
            let len = usize::from(entry.len);
            let fits = len <= left;
            left -= if fits { len } else { 0 };
            fits
        };
        chosen.retain(|entry| fits(entry));
        while chosen.len() < limit
            && let Some(entry) = dealer.next(rng)
        {
            if fits(entry) {
                chosen.push(entry);
            }
        }
        let more = count - chosen.len();
        // From the first value on: one cannot go on from a random choice.
        let next = (more > 0).then_some(Id::new([0; Id::LEN]));
        let values = Values(Choice::Some(chosen.into_iter()));
        Picked { values, more, next, examined: self.len(), is_ordered: true }
    }

    fn page(&self, after: &Id, limit: usize, max_bytes: usize) -> Picked<'_> {
        let shown = self.entries().iter().filter(|entry| entry.is_shown);
        let mut page: Vec<&RowEntry> = shown.filter(|entry| entry.stored.digest > *after).collect();
        let behind = page.len();
        // A value that would not fit even alone is skipped.
        page.retain(|entry| usize::from(entry.len) <= max_bytes);
        let fitting = page.len();
        // Only the first are needed, and only they are sorted.
        if fitting > limit {
            page.select_nth_unstable_by_key(limit, |entry| entry.stored.digest);
            page.truncate(limit);
        }
        page.sort_unstable_by_key(|entry| entry.stored.digest);
        let mut left = max_bytes;
        let cut = page.iter().position(|entry| match left.checked_sub(usize::from(entry.len)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        page.truncate(cut.unwrap_or(limit));
        let next = page.last().filter(|_| page.len() < fitting).map(|last| last.stored.digest);
        let more = behind - page.len();
        let values = Values(Choice::Some(page.into_iter()));
        Picked { values, more, next, examined: self.len(), is_ordered: true }
    }
}

/// Deals the values of a slot, one at a time.
struct Dealer<'s> {
    /// What is not dealt yet, account by account.
    entries: Vec<&'s RowEntry>,
    /// Proved values, and unproved ones.
    sides: [Side; 2],
    turn: usize,
}

/// Accounts that take turns.
#[derive(Default)]
struct Side {
    /// Where the remaining values of each lie.
    accounts: Vec<Range<usize>>,
    /// How many have had their turn.
    at: usize,
}

impl<'s> Dealer<'s> {
    fn new(slot: &'s Slot, rng: &mut impl Rng) -> Dealer<'s> {
        let (mut entries, mut sides) = (Vec::with_capacity(slot.len()), <[Side; 2]>::default());
        for group in slot.entries().chunk_by(|one, next| one.group() == next.group()) {
            let start = entries.len();
            entries.extend(group.iter().filter(|entry| entry.is_shown));
            if entries.len() > start {
                let (is_unproved, _) = group[0].group();
                sides[usize::from(is_unproved)].accounts.push(start..entries.len());
            }
        }
        Dealer { entries, sides, turn: rng.random_range(0..2) }
    }

    fn next(&mut self, rng: &mut impl Rng) -> Option<&'s RowEntry> {
        self.turn ^= 1;
        let turn = self.turn;
        self.deal(turn, rng).or_else(|| self.deal(turn ^ 1, rng))
    }

    fn deal(&mut self, side: usize, rng: &mut impl Rng) -> Option<&'s RowEntry> {
        let Side { accounts, at } = &mut self.sides[side];
        if *at >= accounts.len() {
            *at = 0;
        }
        // One of the accounts that have not had their turn, and one of its values.
        let next = (!accounts.is_empty()).then(|| rng.random_range(*at..accounts.len()))?;
        accounts.swap(*at, next);
        let account = &mut accounts[*at];
        let chosen = rng.random_range(account.clone());
        account.end -= 1;
        self.entries.swap(chosen, account.end);
        let entry = self.entries[account.end];
        if account.start == account.end {
            accounts.swap_remove(*at);
        } else {
            *at += 1;
        }
        Some(entry)
    }
}
