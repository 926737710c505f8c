//! The cache of values from which the program answers: which places of it are free, and which key each of
//! the others holds.
//!
//! All is written by the node's own thread, so that a value is out of the cache before the node says
//! anything that contradicts it. A place that was emptied rests until no packet reads it any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use super::shared::Shared;
use super::status::now;
use crate::id::Id;
use crate::node::Node;
use crate::time::Duration;
use crate::xdp::DIALECT;
use crate::xdp::image::{hot, hot_tag};
use crate::xdp::layout::{HOT_BYTES, HOT_MAX, HOT_WAYS, Hot};

/// What was asked for within this time keeps its place.
const KEPT_FOR: StdDuration = StdDuration::from_secs(1);

/// The clock of the kernel's packets lags by up to one tick of its timer.
const TICK: Duration = Duration::from_millis(20);

/// A place of the cache.
#[derive(Clone, Copy)]
enum Place {
    Free,
    /// Holds values under this key; their bytes.
    Holds(Id, u16),
    Rests,
}

/// The node's side of the cache.
pub(super) struct HotValues {
    shared: Arc<Shared>,
    seed: u64,
    of: HashMap<Id, u16>,
    places: Vec<Place>,
    /// Places that were emptied, and that nobody waits for yet.
    emptied: Vec<u16>,
    bytes: u64,
}

impl HotValues {
    /// An empty cache. No packet may read the memory at the moment.
    pub(super) fn new(shared: Arc<Shared>, seed: u64) -> HotValues {
        (0..HOT_MAX as u16).for_each(|place| shared.set_hot_tag(place, 0));
        let (of, emptied) = (HashMap::new(), Vec::new());
        HotValues { shared, seed, of, places: vec![Place::Free; HOT_MAX], emptied, bytes: 0 }
    }

    /// Keys in it, and bytes of their values.
    pub(super) fn size(&self) -> (u32, u64) {
        (self.of.len() as u32, self.bytes)
    }

    /// The next packet does not find it.
    pub(super) fn forget(&mut self, key: &Id) {
        if let Some(place) = self.of.remove(key) {
            self.empty(place);
        }
    }

    /// Puts in what lies under a key, if there is room now. Returns whether it did, and the key that has
    /// made room, for somebody who comes later.
    pub(super) fn put(&mut self, key: &Id, hot: &Hot) -> (bool, Option<Id>) {
        let (tag, set) = hot_tag(key, self.seed);
        let first = (set * HOT_WAYS) as u16;
        let mut set = first..first + HOT_WAYS as u16;
        if self.of.contains_key(key) {
            return (false, None);
        }
        let is_free = |place: &u16| matches!(self.places[usize::from(*place)], Place::Free);
        if let Some(place) = set.clone().find(is_free) {
            self.shared.write_hot(place, hot, now());
            self.shared.set_hot_tag(place, tag);
            self.of.insert(*key, place);
            self.places[usize::from(place)] = Place::Holds(*key, hot.len);
            self.bytes += u64::from(hot.len);
            return (true, None);
        }
        if set.any(|place| matches!(self.places[usize::from(place)], Place::Rests)) {
            return (false, None);
        }
        let set = first..first + HOT_WAYS as u16;
        let oldest = set.min_by_key(|place| self.shared.hot_asked(*place)).expect("it has places");
        let Place::Holds(evicted, _) = self.places[usize::from(oldest)] else {
            unreachable!("none is free, and none rests")
        };
        if now().saturating_sub(self.shared.hot_asked(oldest)) < KEPT_FOR {
            return (false, None);
        }
        self.forget(&evicted);
        (false, Some(evicted))
    }

    fn empty(&mut self, place: u16) {
        self.shared.set_hot_tag(place, 0);
        let held = std::mem::replace(&mut self.places[usize::from(place)], Place::Rests);
        if let Place::Holds(_, len) = held {
            self.bytes -= u64::from(len);
        }
        self.emptied.push(place);
    }

    /// Places that were emptied since this was last asked.
    pub(super) fn take_emptied(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.emptied)
    }

    /// No packet reads these any more.
    pub(super) fn on_rested(&mut self, places: &[u16]) {
        places.iter().for_each(|place| self.places[usize::from(*place)] = Place::Free);
    }
}

/// What lies under a key, as the program answers with it; `None` if that is nothing, or too long.
pub(super) fn hot_of(node: &Node, key: &Id) -> Option<Box<Hot>> {
    let store = node.store();
    // A value that is not shown may be in another's place once that is gone.
    let expires = store.stored(key).map(|stored| stored.expires).min()?;
    let values = || store.values(key).into_iter().flatten();
    if values().map(|value| value.as_bytes().len()).sum::<usize>() > HOT_BYTES {
        return None;
    }
    let expires = (expires + node.route_secrets().origin).as_micros();
    let expires = Duration::from_micros(expires).minus(TICK);
    hot(key, values().count(), &DIALECT.encode_values_head(values()), expires)
}
