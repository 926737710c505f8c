//! What lies under one key.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::shares::{AccountPath, Holder};
use super::{Party, Standing, Stored};
use crate::address::Subnet;
use crate::id::Id;
use crate::time::Instant;

/// The values under a key, those of one account beside each other.
pub(super) struct Slot {
    entries: Vec<RowEntry>,
    /// Its entry in the schedule: no later than the first thing that is to be done.
    pub(super) due: Instant,
}

/// A value, with the fields that most searches compare, so that they can skip a value without
/// looking it up.
pub(super) struct RowEntry {
    /// The tag of the widest account; [`OWN`] for the node's own values.
    pub(super) tag: u32,
    /// The first bytes of the publisher's id.
    publisher: u32,
    /// The first bytes of its digest.
    digest: u32,
    /// Encoded bytes.
    pub(super) len: u16,
    pub(super) standing: Standing,
    /// It stands for all values that are equal to it.
    pub(super) is_shown: bool,
    pub(super) stored: Box<Stored>,
}

/// The tag of the node's own values, which no address has.
const OWN: u32 = 0;

impl Slot {
    pub(super) fn new() -> Slot {
        Slot { entries: Vec::new(), due: Instant::NEVER }
    }

    pub(super) fn entries(&self) -> &[RowEntry] {
        &self.entries
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn stored_mut(&mut self, index: usize) -> &mut Stored {
        &mut self.entries[index].stored
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Stored> {
        self.entries.iter_mut().map(|entry| &mut *entry.stored)
    }

    pub(super) fn insert(&mut self, stored: Box<Stored>) {
        let entry = RowEntry::new(stored);
        let before = |other: &RowEntry| {
            (other.group(), other.stored.row) < (entry.group(), entry.stored.row)
        };
        let index = self.entries.partition_point(before);
        let digest = entry.stored.digest;
        // Doubling would leave a quarter of the memory unused, more than keys of one value take.
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(1 + self.entries.len() / 4);
        }
        self.entries.insert(index, entry);
        self.mark_shown(&digest);
    }

    pub(super) fn remove(&mut self, index: usize) -> Box<Stored> {
        let stored = self.entries.remove(index).stored;
        if self.entries.capacity() > 2 * self.entries.len() {
            self.entries.shrink_to(self.entries.len() + self.entries.len() / 4);
        }
        self.mark_shown(&stored.digest);
        stored
    }

    /// Lets one of equal values stand for all: the one of the highest standing, among these the one
    /// that lives longest, among these the first.
    fn mark_shown(&mut self, digest: &Id) {
        let best = self.equal_to(digest).max_by_key(|(index, entry)| {
            (entry.standing, entry.stored.expires, std::cmp::Reverse(*index))
        });
        let Some(best) = best.map(|(index, _)| index) else { return };
        let first = first_bytes(digest);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.digest == first && entry.stored.digest == *digest {
                entry.is_shown = index == best;
            }
        }
    }

    fn equal_to(&self, digest: &Id) -> impl Iterator<Item = (usize, &RowEntry)> {
        let first = first_bytes(digest);
        let entries = self.entries.iter().enumerate();
        entries.filter(move |(_, entry)| entry.digest == first && entry.stored.digest == *digest)
    }

    pub(super) fn count(&self, is_counted: impl Fn(&RowEntry) -> bool) -> usize {
        self.entries.iter().filter(|entry| is_counted(entry)).count()
    }

    /// The oldest value of an account with a standing.
    pub(super) fn oldest(&self, leaf: &Holder, standing: Standing) -> Option<usize> {
        let tag = leaf.tag();
        let entries = self.entries.iter().enumerate();
        let of_account = entries.filter(|(_, entry)| {
            entry.tag == tag && entry.standing == standing && entry.is_from(leaf)
        });
        of_account.min_by_key(|(_, entry)| entry.stored.expires).map(|(index, _)| index)
    }

    /// A value of a standing that belongs to the account with most of these here, if it has more
    /// than the account on `path` beside it would with one more. If `within`, only the widest
    /// account on the path is looked at.
    pub(super) fn heavier(
        &self,
        standing: Standing,
        path: &AccountPath,
        within: bool,
    ) -> Option<usize> {
        let own = path.leaf().tag();
        let most = self.most_common(standing, |tag| tag != own).filter(|_| !within);
        let owns = self.count(|entry| entry.standing == standing && entry.tag == own);
        match most {
            Some((tag, count)) if count > owns + 1 => self.pick(standing, tag, None),
            _ => self.pick(standing, own, Some(path)),
        }
    }

    /// A value of a standing that belongs to the account with most of these here; among the
    /// accounts tagged `within`, if that is given.
    pub(super) fn heaviest(&self, standing: Standing, within: Option<u32>) -> Option<usize> {
        let (tag, _) =
            self.most_common(standing, |tag| within.is_none_or(|within| tag == within))?;
        self.pick(standing, tag, None)
    }

    fn most_common(
        &self,
        standing: Standing,
        is_meant: impl Fn(u32) -> bool,
    ) -> Option<(u32, usize)> {
        let counts = self.entries.chunk_by(|one, next| one.group() == next.group());
        let counts = counts.filter(|group| group[0].tag != OWN && is_meant(group[0].tag));
        let count =
            |group: &[RowEntry]| group.iter().filter(|entry| entry.standing == standing).count();
        let counts =
            counts.map(|group| (group[0].tag, count(group))).filter(|(_, count)| *count > 0);
        counts.max_by_key(|(_, count)| *count)
    }

    /// The oldest value of the account that has most within a widest account. If a depositor lies
    /// below that one too, nothing is picked unless the other has more than it.
    fn pick(&self, standing: Standing, tag: u32, mut path: Option<&AccountPath>) -> Option<usize> {
        let mut rows: Vec<(AccountPath, usize)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.tag == tag && entry.standing == standing {
                rows.extend(entry.depositor().map(|address| (AccountPath::of(address), index)));
            }
        }
        for level in 1..Subnet::LEVELS_MAX {
            let mut counts = BTreeMap::new();
            for (row, _) in &rows {
                *counts.entry(row.levels().get(level)).or_insert(0_usize) += 1;
            }
            let own = path.map(|path| path.levels().get(level));
            let owns = own.and_then(|own| counts.get(&own)).copied().unwrap_or(0);
            let others = counts.iter().filter(|(holder, _)| own != Some(**holder));
            let most = others.max_by_key(|(_, count)| **count);
            let kept = match (own, most) {
                (None, Some((holder, _))) => holder.copied(),
                (Some(_), Some((holder, &count))) if count > owns + 1 => {
                    path = None;
                    holder.copied()
                }
                (Some(own), _) => own.copied(),
                (None, None) => return None,
            };
            rows.retain(|(row, _)| row.levels().get(level) == kept.as_ref());
        }
        if path.is_some() {
            return None;
        }
        let oldest = rows.iter().min_by_key(|(_, index)| self.entries[*index].stored.expires);
        oldest.map(|(_, index)| *index)
    }
}

impl RowEntry {
    fn new(stored: Box<Stored>) -> RowEntry {
        let tag = match stored.depositor() {
            Party::Own => OWN,
            Party::Node(contact) => Holder::of(&contact.address).tag(),
        };
        RowEntry {
            tag,
            publisher: first_of(&stored.publisher),
            digest: first_bytes(&stored.digest),
            len: u16::try_from(stored.value.as_bytes().len()).unwrap_or(u16::MAX),
            standing: stored.standing,
            is_shown: true,
            stored,
        }
    }

    /// By this values are grouped into accounts: unproved values are not mixed with proved ones.
    pub(super) fn group(&self) -> (bool, u32) {
        (self.standing == Standing::Claimed, self.tag)
    }

    pub(super) fn is_of(&self, publisher: &Party) -> bool {
        self.publisher == first_of(publisher) && self.stored.publisher == *publisher
    }

    /// Whether it was brought from the account `leaf`, a narrowest one.
    pub(super) fn is_from(&self, leaf: &Holder) -> bool {
        self.depositor().is_some_and(|address| Holder::of(address) == *leaf)
    }

    fn depositor(&self) -> Option<&SocketAddr> {
        match self.stored.depositor() {
            Party::Own => None,
            Party::Node(contact) => Some(&contact.address),
        }
    }
}

fn first_of(publisher: &Party) -> u32 {
    match publisher {
        Party::Own => 0,
        Party::Node(contact) => first_bytes(&contact.id),
    }
}

fn first_bytes(id: &Id) -> u32 {
    u32::from_be_bytes(*id.as_bytes().first_chunk().expect("an id has 20 bytes"))
}
