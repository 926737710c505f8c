//! Replication: values go to nodes that come near their keys, hourly to the k nearest of each key
//! (paper §2.5), and from lookups to the nearest node that lacked them (§2.3).
//!
//! Copies are served in turn, target by target and within each depositor by depositor, so that
//! neither a node that stored much here nor one that takes long to answer keeps others waiting. A
//! depositor here is the address that brought a value, because having many addresses costs something.
//!
//! All holders of a key come to the same view of a new holder, so only one of them tells it: the
//! nearest. That one may be silent, or lie; so the next nearest does the same a little later. Copies
//! that the new holder has by then have no effect.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;

use crate::address::{Subnet, is_loopback};
use crate::bencode::Value;
use crate::id::Id;
use crate::message::{Contact, CopyOf};
use crate::node::calls::Attempt;
use crate::node::fair::Fair;
use crate::store::{Party, RowId};
use crate::time::{Duration, Instant};

/// Copies on their way to other holders at once; beyond that none is begun. Copies that lookups
/// leave on their way, at most `MAX_CACHED` each, come on top.
const MAX_TRANSFERS: usize = 256;

/// Copies on their way to one holder at once. All holders that left their last one unanswered get
/// half of the whole at the most.
const TO_ONE: usize = 20;

/// Time that each copy takes up: a quarter of the rate that a node lets one source send at by default
/// ([`Config::source_rate`](crate::config::Config::source_rate)). A holder that is near and quick could
/// otherwise be handed more than it takes, and a refused copy is lost until the value is republished.
const COPY_EVERY: Duration = Duration::from_micros(200);

/// Copies that may be begun ahead of their time, since the timer is no finer.
const COPIES_AHEAD: u64 = 64;

/// Holders that copies wait for: k for each lookup that runs, and newcomers.
const MAX_TARGETS: usize = 256;

/// Copies that wait: some six megabytes. When that is full, each holder still has room for
/// [`MAX_WAITING_EACH`]. A copy that finds no room comes up again when its key is next republished.
const MAX_WAITING: usize = 65_536;
const MAX_WAITING_EACH: usize = 256;

/// Keys that wait to be republished: some three megabytes.
const MAX_KEYS: usize = 65_536;

/// New contacts whose keys are still to be found, of a burst of joins.
const MAX_SEARCHES: usize = 256;

/// Time that looking at one key for a new contact takes up: less than a quarter of it is really spent.
const LOOK_EVERY: Duration = Duration::from_micros(3);

/// Keys that are looked at in a row before requests are served again: less than a millisecond.
pub(super) const LOOK_AT_ONCE: usize = 1_024;

/// Time until the next keys are looked at. The time that all keys of a search take up is waited for at
/// its end, so that among many keys none is found late.
const LOOK_ON_AFTER: Duration = Duration::from_micros(1);

/// The second nearest node tells a new holder of its values this long after the nearest.
const SECOND_AFTER: Duration = Duration::from_secs(10);

/// Who brought values here, counted so that being many costs something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depositor {
    Own,
    /// A program on this machine; each counts as one.
    Local(SocketAddr),
    Network(Subnet),
}

impl Depositor {
    fn of(depositor: Party) -> Depositor {
        match depositor {
            Party::Own => Depositor::Own,
            Party::Node(contact) if is_loopback(&contact.address) => {
                Depositor::Local(contact.address)
            }
            Party::Node(contact) => {
                let narrowest = Subnet::all_of(contact.address.ip()).next();
                Depositor::Network(narrowest.expect("each address lies in some network"))
            }
        }
    }
}

/// A copy on its way to another holder.
pub(super) struct Transfer {
    pub(super) to: Contact,
    pub(super) key: Id,
    pub(super) value: Value,
    pub(super) copy: CopyOf,
    pub(super) progress: Attempt,
}

/// A holder to which copies go.
#[derive(Default)]
struct Target {
    waiting: Fair<Depositor, (Id, RowId)>,
    under_way: usize,
    /// Whether it left the last copy unanswered.
    is_silent: bool,
}

/// A search for the keys that a new contact should hold, and for which this node is the one to tell
/// it: the one to which `rank` others are nearer.
pub(super) struct Search {
    at: Instant,
    pub(super) to: Contact,
    pub(super) rank: usize,
    /// Where keys are still to be looked at, once it has begun.
    pub(super) left: Option<VecDeque<KeyRange>>,
    /// Keys that were looked at.
    looked_at: u64,
}

/// A range of keys.
pub(super) type KeyRange = (Bound<Id>, Bound<Id>);

#[derive(Default)]
pub(super) struct Replication {
    /// Keys to be republished.
    keys: Fair<Depositor, Id>,
    targets: BTreeMap<Contact, Target>,
    /// Copies that wait, for all targets together.
    waiting: usize,
    /// The target that was served last.
    last: Option<Contact>,
    /// Copies on their way, by their numbers.
    transfers: BTreeMap<u64, Transfer>,
    last_transfer: u64,
    /// The time up to which the copies so far have used up their rate.
    taken_until: Instant,
    /// Searches by the time when they are due; those that have begun come first.
    first: VecDeque<Search>,
    second: VecDeque<Search>,
    /// The time up to which looking at keys has used up its rate.
    looked_until: Instant,
}

impl Replication {
    /// Notes that a key is due to be republished; `depositor` brought its values.
    pub(super) fn queue_key(&mut self, depositor: Party, key: Id) {
        self.keys.push(Depositor::of(depositor), key, MAX_KEYS);
    }

    /// The next key to be republished.
    pub(super) fn next_key(&mut self) -> Option<Id> {
        self.keys.pop()
    }

    /// Notes a copy that is to go to a holder; `depositor` brought it here.
    pub(super) fn queue(&mut self, to: Contact, depositor: Party, key: Id, row: RowId) {
        if !self.targets.contains_key(&to) && self.targets.len() >= MAX_TARGETS {
            return;
        }
        let waiting = &mut self.targets.entry(to).or_default().waiting;
        let before = waiting.len();
        let is_full = self.waiting >= MAX_WAITING;
        let max = if is_full { before.max(MAX_WAITING_EACH) } else { MAX_WAITING };
        waiting.push(Depositor::of(depositor), (key, row), max);
        self.waiting += waiting.len() - before;
    }

    /// The next copy to begin, if one may begin.
    pub(super) fn next_copy(&mut self, now: Instant) -> Option<(Contact, Id, RowId)> {
        if self.copy_at() > now || self.transfers.len() >= MAX_TRANSFERS {
            return None;
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let to = self.ready((after, Bound::Unbounded)).or_else(|| self.ready(..))?;
        self.last = Some(to);
        let target = self.targets.get_mut(&to).expect("found just above");
        let (key, row) = target.waiting.pop().expect("it is ready");
        self.waiting -= 1;
        self.forget_idle(&to);
        Some((to, key, row))
    }

    fn ready(&self, range: impl std::ops::RangeBounds<Contact>) -> Option<Contact> {
        let for_silent = self.transfers.len() < MAX_TRANSFERS / 2;
        let mut targets = self.targets.range(range);
        let ready = targets.find(|(_, Target { waiting, under_way, is_silent })| {
            !waiting.is_empty() && *under_way < TO_ONE && (for_silent || !is_silent)
        });
        ready.map(|(to, _)| *to)
    }

    /// Forgets a holder to which nothing is on its way and nothing waits to go.
    pub(super) fn forget_idle(&mut self, to: &Contact) {
        if self.targets.get(to).is_some_and(|t| t.waiting.is_empty() && t.under_way == 0) {
            self.targets.remove(to);
        }
    }

    /// The number of the next copy that is begun.
    pub(super) fn next_number(&self) -> u64 {
        self.last_transfer + 1
    }

    /// A copy is on its way.
    pub(super) fn on_begun(&mut self, now: Instant, number: u64, transfer: Transfer) {
        self.last_transfer = number;
        self.taken_until = self.taken_until.max(now) + COPY_EVERY;
        self.targets.entry(transfer.to).or_default().under_way += 1;
        self.transfers.insert(number, transfer);
    }

    /// A copy has arrived, or its holder does not say so.
    pub(super) fn on_ended(&mut self, number: u64, is_silent: bool) -> Transfer {
        let transfer = self.transfers.remove(&number).expect("it was on its way");
        let target = self.targets.get_mut(&transfer.to).expect("something was on its way");
        target.under_way -= 1;
        target.is_silent = is_silent;
        transfer
    }

    /// A contact is new, and the keys that it should hold are to be found. Returns whether there is
    /// room for that.
    pub(super) fn on_newcomer(&mut self, now: Instant, to: Contact) -> bool {
        if self.first.len() >= MAX_SEARCHES {
            return false;
        }
        self.first.push_back(Search { at: now, to, rank: 0, left: None, looked_at: 0 });
        if self.second.len() < MAX_SEARCHES {
            self.second.push_back(Search {
                at: now + SECOND_AFTER,
                to,
                rank: 1,
                left: None,
                looked_at: 0,
            });
        }
        true
    }

    /// A search has looked at `keys` keys, which takes up time, and goes on if some are left.
    pub(super) fn on_looked(&mut self, now: Instant, mut search: Search, keys: usize) {
        search.looked_at += keys as u64;
        if search.left.as_ref().is_some_and(|left| !left.is_empty()) {
            self.looked_until = now + LOOK_ON_AFTER;
            self.first.push_front(search);
        } else {
            self.looked_until = now + LOOK_EVERY.times(search.looked_at);
        }
    }

    /// The search that is due, if there is time for it.
    pub(super) fn next_search(&mut self, now: Instant) -> Option<Search> {
        if self.looked_until > now {
            return None;
        }
        let is_due = |searches: &VecDeque<Search>| searches.front().is_some_and(|s| s.at <= now);
        if is_due(&self.first) {
            return self.first.pop_front();
        }
        if is_due(&self.second) { self.second.pop_front() } else { None }
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn next_due(&self) -> Instant {
        let searches = self.first.front().into_iter().chain(self.second.front());
        let search = searches.map(|search| search.at.max(self.looked_until)).min();
        let may_copy = self.transfers.len() < MAX_TRANSFERS && self.ready(..).is_some();
        let copy = may_copy.then(|| self.copy_at());
        search.into_iter().chain(copy).min().unwrap_or(Instant::NEVER)
    }

    fn copy_at(&self) -> Instant {
        self.taken_until - COPY_EVERY.times(COPIES_AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn contact(port: u16) -> Contact {
        Contact { id: Id::of_name(port.to_string()), address: ([127, 0, 0, 1], port).into() }
    }

    fn begin(replication: &mut Replication, (to, key, _): (Contact, Id, RowId)) -> u64 {
        let copy = CopyOf { publisher: None, age: Duration::ZERO };
        let (value, progress) = (Value::integer(1), Attempt::FIRST);
        let number = replication.next_number();
        replication.on_begun(NOW, number, Transfer { to, key, value, copy, progress });
        number
    }

    #[test]
    fn holders_are_served_in_turn_and_those_that_are_silent_hold_nobody_up() {
        let mut replication = Replication::default();
        for port in [1, 2] {
            for row in 0..50 {
                let key = Id::of_name(row.to_string());
                replication.queue(contact(port), Party::Own, key, RowId(row));
            }
        }
        // Far in the future, so that no copy waits for its time.
        let later = NOW + Duration::from_secs(1);
        let mut begun = Vec::new();
        while let Some(copy) = replication.next_copy(later) {
            begun.push((begin(&mut replication, copy), copy.0));
        }
        assert_eq!(begun.len(), 2 * TO_ONE);
        assert!(begun.chunks(2).all(|pair| pair[0].1 != pair[1].1));
        for (number, to) in begun {
            replication.on_ended(number, to == contact(1));
            replication.forget_idle(&to);
        }
        assert!(replication.targets[&contact(1)].is_silent);
        assert_eq!(replication.targets.len(), 2);
    }

    #[test]
    fn copies_take_their_time() {
        let mut replication = Replication::default();
        for row in 0..1_000 {
            let (to, key) = (contact(row as u16 % 100), Id::of_name("key"));
            replication.queue(to, Party::Own, key, RowId(row));
        }
        let mut begun = 0;
        while let Some(copy) = replication.next_copy(NOW) {
            begin(&mut replication, copy);
            begun += 1;
        }
        assert_eq!(begun, COPIES_AHEAD + 1);
        assert_eq!(replication.next_due(), NOW + COPY_EVERY);
    }

    #[test]
    fn the_second_nearest_searches_later_and_a_burst_is_cut() {
        let mut replication = Replication::default();
        let taken = (0..1_000).filter(|&port| replication.on_newcomer(NOW, contact(port))).count();
        assert_eq!(taken, MAX_SEARCHES);
        let ranks = |replication: &mut Replication, at| {
            std::iter::from_fn(|| replication.next_search(at))
                .map(|search| search.rank)
                .sum::<usize>()
        };
        assert_eq!(ranks(&mut replication, NOW), 0);
        assert_eq!(replication.next_due(), NOW + SECOND_AFTER);
        assert_eq!(ranks(&mut replication, NOW + SECOND_AFTER), MAX_SEARCHES);
        replication.on_newcomer(NOW, contact(1));
        replication.on_newcomer(NOW, contact(2));
        let search = replication.next_search(NOW).unwrap();
        replication.on_looked(NOW, search, 1_000);
        assert!(replication.next_search(NOW).is_none(), "to look takes its time");
        assert_eq!(replication.next_due(), NOW + LOOK_EVERY.times(1_000));
    }
}
