//! A queue that serves many in turn: somebody who puts much into it only waits for himself.
//!
//! Each owner has a lane; lanes are served round robin. When all room is taken, the longest lane
//! loses its last entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

pub(super) struct Fair<L, T> {
    lanes: BTreeMap<L, VecDeque<T>>,
    /// The lanes by length.
    lengths: BTreeSet<(usize, L)>,
    /// The lane that was served last.
    last: Option<L>,
    len: usize,
}

impl<L: Ord + Copy, T> Default for Fair<L, T> {
    fn default() -> Fair<L, T> {
        Fair { lanes: BTreeMap::new(), lengths: BTreeSet::new(), last: None, len: 0 }
    }
}

impl<L: Ord + Copy, T> Fair<L, T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts something at the end of a lane. If `max` entries are in the queue, one leaves from the
    /// longest lane; if that is the same lane, the new entry is refused. Returns whether it is in.
    pub(super) fn push(&mut self, lane: L, item: T, max: usize) -> bool {
        if self.len >= max {
            let own = self.lanes.get(&lane).map_or(0, VecDeque::len);
            let Some(&(longest, from)) = self.lengths.last().filter(|(len, _)| *len > own + 1)
            else {
                return false;
            };
            self.change(from, longest, |items| _ = items.pop_back());
        }
        let len = self.lanes.get(&lane).map_or(0, VecDeque::len);
        self.change(lane, len, |items| items.push_back(item));
        true
    }

    /// Takes out the first of the lane whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.lanes.range((after, Bound::Unbounded)).next();
        let (&lane, items) = next.or_else(|| self.lanes.first_key_value())?;
        self.last = Some(lane);
        let mut first = None;
        self.change(lane, items.len(), |items| first = items.pop_front());
        first
    }

    fn change(&mut self, lane: L, len: usize, change: impl FnOnce(&mut VecDeque<T>)) {
        self.lengths.remove(&(len, lane));
        let items = self.lanes.entry(lane).or_default();
        change(items);
        self.len = self.len + items.len() - len;
        match items.len() {
            0 => _ = self.lanes.remove(&lane),
            now => _ = self.lengths.insert((now, lane)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_puts_in_much_waits_for_himself_alone() {
        let mut fair = Fair::default();
        for number in 0..1_000 {
            fair.push('a', number, 2_000);
        }
        for number in 0..3 {
            fair.push('b', 10_000 + number, 2_000);
            fair.push('c', 20_000 + number, 2_000);
        }
        let served: Vec<_> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(served.len(), 1_006);
        let last = served.iter().rposition(|&number| number >= 10_000).unwrap();
        assert!(last <= 9, "{last}");
        assert!(served.iter().filter(|&&number| number < 10_000).is_sorted());
    }

    #[test]
    fn when_it_is_full_the_longest_lane_gives_way() {
        let mut fair = Fair::default();
        (0..10).for_each(|number| assert!(fair.push('a', number, 10)));
        assert!(!fair.push('a', 10, 10), "for its own it does not");
        for number in 0..5 {
            assert!(fair.push('b', 100 + number, 10), "{number}");
        }
        assert!(!fair.push('b', 105, 10), "both have five");
        let served: Vec<_> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(served, [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]);
    }

    proptest! {
        #[test]
        fn it_counts_what_it_holds_and_never_holds_more_than_it_may(
            steps in prop::collection::vec(prop::option::of(0_u8..8), 1..300),
        ) {
            let mut fair = Fair::default();
            for step in steps {
                match step {
                    Some(lane) => _ = fair.push(lane, (), 20),
                    None => _ = fair.pop(),
                }
                let held: usize = fair.lanes.values().map(VecDeque::len).sum();
                prop_assert_eq!(fair.len(), held);
                prop_assert!(held <= 20 && fair.lanes.values().all(|lane| !lane.is_empty()));
                let lengths: BTreeSet<_> =
                    fair.lanes.iter().map(|(lane, items)| (items.len(), *lane)).collect();
                prop_assert_eq!(&lengths, &fair.lengths);
            }
        }
    }
}
