//! Copies of values that somebody else answers with, for the sake of speed: it must hear at once when a
//! value has changed.

use std::collections::BTreeSet;

use crate::id::Id;

/// Keys that were asked for and wait to be copied; others are asked for again.
const MAX_ASKED: usize = 64;

/// New keys that are told at once; if more come together, the rest is told with all other keys.
const MAX_CAME: usize = 1_024;

/// Which keys somebody has copies of, and what it has to hear. Nothing is noted until somebody has begun.
#[derive(Default)]
pub(crate) struct Copies {
    is_wanted: bool,
    copied: BTreeSet<Id>,
    /// Keys whose copies are no longer right.
    stale: Vec<Id>,
    /// Keys that are new.
    came: Vec<Id>,
    /// Keys that were asked for, without a copy.
    asked: Vec<Id>,
}

impl Copies {
    /// Something lies under this key that was not there before, or no longer does.
    pub(super) fn note_changed(&mut self, key: &Id) {
        if self.copied.remove(key) {
            self.stale.push(*key);
        }
    }

    /// A key came, with a first value.
    pub(super) fn note_came(&mut self, key: &Id) {
        if self.is_wanted && self.came.len() < MAX_CAME {
            self.came.push(*key);
        }
    }

    /// Somebody was answered with what lies under a key.
    pub(crate) fn note_asked(&mut self, key: &Id) {
        if self.is_wanted
            && self.asked.len() < MAX_ASKED
            && !self.copied.contains(key)
            && !self.asked.contains(key)
        {
            self.asked.push(*key);
        }
    }
}

#[cfg_attr(not(fast_path), expect(dead_code, reason = "the fast path alone has copies"))]
impl Copies {
    /// From now on all is noted. There are no copies yet.
    pub(crate) fn begin(&mut self) {
        *self = Copies { is_wanted: true, ..Copies::default() };
    }

    /// Nobody has copies any more.
    pub(crate) fn end(&mut self) {
        if self.is_wanted {
            *self = Copies::default();
        }
    }

    /// There is a copy now of what lies under a key.
    pub(crate) fn add(&mut self, key: Id) {
        self.copied.insert(key);
    }

    /// A copy is gone.
    pub(crate) fn remove(&mut self, key: &Id) {
        self.copied.remove(key);
    }

    /// The keys whose copies are no longer right.
    pub(crate) fn take_stale(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.stale)
    }

    /// The keys that came.
    pub(crate) fn take_came(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.came)
    }

    /// The keys that were asked for.
    pub(crate) fn take_asked(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.asked)
    }
}
