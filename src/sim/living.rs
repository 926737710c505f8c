//! Who is there, by number and by id, in networks too large to look at each node.

use std::collections::BTreeSet;

use crate::id::Id;

use super::NodeIndex;

/// Numbers from 0 on, some of which were taken out: a binary indexed tree (Fenwick, 1994) of those that
/// are left.
#[derive(Default)]
pub(super) struct Numbers {
    /// Place `i` counts numbers below `i + 1`, as many as the lowest bit of `i + 1` says.
    counts: Vec<u32>,
    len: usize,
}

impl Numbers {
    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds the next number.
    pub(super) fn push(&mut self) {
        let end = self.counts.len() + 1;
        let first = end - lowest_bit(end);
        let mut count = 1;
        let mut at = end - 1;
        while at > first {
            count += self.counts[at - 1];
            at -= lowest_bit(at);
        }
        self.counts.push(count);
        self.len += 1;
    }

    /// Takes out a number that is there.
    pub(super) fn remove(&mut self, NodeIndex(number): NodeIndex) {
        let mut at = number + 1;
        while at <= self.counts.len() {
            self.counts[at - 1] -= 1;
            at += lowest_bit(at);
        }
        self.len -= 1;
    }

    /// The number before which `n` others are left.
    ///
    /// # Panics
    /// If no more than `n` are left.
    pub(super) fn nth(&self, n: usize) -> NodeIndex {
        assert!(n < self.len, "{n} of {}", self.len);
        let mut left = n;
        let mut at = 0;
        let mut width = self.counts.len().next_power_of_two();
        while width > 0 {
            if let Some(&count) = self.counts.get(at + width - 1)
                && count as usize <= left
            {
                left -= count as usize;
                at += width;
            }
            width /= 2;
        }
        NodeIndex(at)
    }
}

fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

/// Nodes by id.
#[derive(Default)]
pub(super) struct IdSet(BTreeSet<(Id, NodeIndex)>);

impl IdSet {
    pub(super) fn insert(&mut self, id: Id, index: NodeIndex) {
        self.0.insert((id, index));
    }

    pub(super) fn remove(&mut self, id: Id, index: NodeIndex) {
        self.0.remove(&(id, index));
    }

    /// All nodes, the nearest to a target first. Lazy: only ranges that are reached are looked at.
    pub(super) fn nearest(&self, target: &Id) -> impl Iterator<Item = NodeIndex> {
        // Ranges of ids by their first bits, the nearest on top.
        let mut ranges = vec![(Id::ZERO, 0)];
        let target = *target;
        let mut twins = Vec::new();
        std::iter::from_fn(move || {
            loop {
                if let Some(twin) = twins.pop() {
                    return Some(twin);
                }
                let (prefix, bits) = ranges.pop()?;
                let (first, last) = prefix.sharing(bits).into_inner();
                let range = (first, NodeIndex(0))..=(last, NodeIndex(usize::MAX));
                let mut members = self.0.range(range);
                match (members.next(), members.next()) {
                    (None, _) => {}
                    (Some(&(_, only)), None) => return Some(only),
                    (Some(first), Some(second)) if bits == Id::BITS => {
                        let all = [first, second].into_iter().chain(members);
                        twins.extend(all.map(|&(_, index)| index));
                        twins.reverse();
                    }
                    (Some(_), Some(_)) => {
                        let ones = prefix.flipped(bits);
                        let (near, far) =
                            if target.bit(bits) { (ones, prefix) } else { (prefix, ones) };
                        ranges.extend([(far, bits + 1), (near, bits + 1)]);
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_nth_number_that_is_left_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut numbers, mut left) = (Numbers::default(), Vec::new());
        for number in 0..1_000 {
            numbers.push();
            left.push(NodeIndex(number));
            // In the end half of them are left.
            if rng.random_bool(0.5) {
                let gone = left.remove(rng.random_range(0..left.len()));
                numbers.remove(gone);
            }
            assert_eq!(numbers.len(), left.len());
            if let Some(n) = left.len().checked_sub(1) {
                let n = rng.random_range(0..=n);
                assert_eq!(numbers.nth(n), left[n], "{n} of {left:?}");
            }
        }
    }

    #[test]
    fn nodes_come_by_their_distance_and_twins_by_their_number() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for count in [0, 1, 2, 3, 50, 1_000] {
            let mut ids: Vec<Id> = (0..count).map(|_| Id::random(&mut rng)).collect();
            // Some have one id, and some nearly one.
            for copy in 0..count / 10 {
                ids[count - 1 - copy] = if copy % 2 == 0 { ids[0] } else { ids[1].flipped(159) };
            }
            let mut set = IdSet::default();
            ids.iter().enumerate().for_each(|(index, id)| set.insert(*id, NodeIndex(index)));
            for target in [Id::random(&mut rng), Id::ZERO, ids.first().copied().unwrap_or(Id::ZERO)]
            {
                let mut sorted: Vec<NodeIndex> = (0..count).map(NodeIndex).collect();
                sorted.sort_by_key(|index| (target.distance(&ids[index.0]), *index));
                assert_eq!(set.nearest(&target).collect::<Vec<_>>(), sorted);
            }
        }
    }
}
