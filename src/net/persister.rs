//! Decides what a node writes to disk, and when: soon after something has changed, never while
//! something is being written, and no more than the disk should bear.
//!
//! The time when a value expires is written down in the time that nodes of the folder have run, with the
//! wall clock's offset to that. The time between two nodes is known if the machine has run on; otherwise
//! only the wall clock tells. A value has certainly expired when nodes have run for as long as it was to
//! live. If only the wall clock says so, that may be wrong: the node leaves the value out, and it stays
//! on disk for a start with another clock.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use tracing::warn;

use crate::bencode::Value;
use crate::id::Id;
use crate::message::{Contact, StoreMode};
use crate::node::Node;
use crate::state::{
    BURST, Batch, Budget, KeptRow, RATE, SavedState, SavedValue, Stamp, StateWriter, Unwritten,
};
use crate::store::{Change, Deposit, Party, RowId, Standing, Stored};
use crate::time::{Duration, Instant};

/// Time between two batches: together with writing one, less than the second that is promised.
const PAUSE: Duration = Duration::from_millis(200);

/// Time between two batches if one does not take everything.
const PAUSE_SHORT: Duration = Duration::from_millis(10);

/// Time until the next attempt after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Contacts change all the time, and old ones will do too.
const CONTACTS_EVERY: Duration = Duration::from_secs(10);

/// Contacts that are kept: a bootstrap asks no more than 64 nodes, first those that were named to
/// the node.
const MAX_CONTACTS: usize = 60;

/// How often to look whether the wall clock was set, so that it is written down should the node be
/// killed.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Rows in one batch, so that gathering them holds nobody up.
const MAX_ROWS: usize = 1_024;

/// The beginning of 2026, in milliseconds since 1970. A wall clock that shows less was never set:
/// this program is younger.
const WALL_MIN: i64 = 1_767_225_600_000;

/// Bytes of values that stay on disk though the node does not take them: as much as a store keeps by
/// default. If there are more, those that expired first go.
const MAX_LEFT_OUT: usize = 64 << 20;

pub(super) struct Persister {
    writer: StateWriter,
    /// When this node started, on the clocks of the log.
    began: Stamp,
    /// When something was last handed over, or could not be.
    last: Instant,
    /// Whether another batch follows the last one at once.
    has_more: bool,
    contacts_due: Instant,
    /// The table's version when it was looked at last, and the contacts that were written last.
    contacts: (Option<u64>, BTreeSet<SocketAddr>),
    clock_due: Instant,
    /// When the node started by the wall clock, as it was written last.
    epoch: Option<u64>,
    /// Whether the wall clock was set since.
    is_set: bool,
    budget: Budget,
    /// How much of it was spent, as the writer counts.
    spent: u64,
}

impl Persister {
    /// Gives a fresh node the kept state, and keeps all changes from now on. `(wall, boottime)` is
    /// when the node started, in milliseconds since 1970 by the wall clock, and since the machine
    /// started.
    pub(super) fn new(
        writer: StateWriter,
        kept: SavedState,
        (wall, boottime): (u64, u64),
        node: &mut Node,
    ) -> Persister {
        let now = Instant::ZERO;
        let began = begin(&kept, wall, boottime);
        restore(now, began, node, kept);
        Persister {
            writer,
            began,
            last: now,
            has_more: false,
            contacts_due: now + PAUSE,
            contacts: (None, BTreeSet::new()),
            clock_due: now + CLOCK_EVERY,
            epoch: None,
            is_set: false,
            budget: Budget::new(now, RATE, BURST),
            spent: 0,
        }
    }

    /// When there is something to do.
    pub(super) fn next_time(&self, node: &Node) -> Instant {
        self.batch_time(node).min(self.clock_due)
    }

    fn batch_time(&self, node: &Node) -> Instant {
        let due = (self.last + self.pause()).max(self.budget.free_at());
        let changed = node.has_changes() || self.writer.is_failing() || self.is_set;
        let values = if changed { due } else { Instant::NEVER };
        let contacts = self.contacts_due.max(due);
        let contacts = if self.has_contacts(node) { contacts } else { Instant::NEVER };
        values.min(contacts)
    }

    fn pause(&self) -> Duration {
        match self.writer.is_failing() {
            true => AFTER_FAILURE,
            false if self.has_more => PAUSE_SHORT,
            false => PAUSE,
        }
    }

    fn has_contacts(&self, node: &Node) -> bool {
        // Every table is empty at first, which is no reason to forget earlier contacts.
        self.contacts.0 != Some(node.table().version()) && !node.table().is_empty()
    }

    /// Hands over what has changed, if it is time and nothing is being written.
    pub(super) fn tend(&mut self, now: Instant, epoch: u64, node: &mut Node) {
        if now >= self.clock_due {
            self.clock_due = now + CLOCK_EVERY;
            self.is_set = self.epoch.is_some_and(|written| written != epoch);
        }
        if self.batch_time(node) > now {
            return;
        }
        self.last = now;
        if !self.writer.is_idle() {
            self.has_more = true;
            return;
        }
        let spent = self.writer.bytes();
        self.budget.spend(now, spent - self.spent);
        self.spent = spent;
        if self.budget.free_at() > now {
            return;
        }
        self.take_back(node, self.writer.take_unwritten());
        let is_failing = self.writer.is_failing();
        let contacts = self.contacts_to_write(now, node);
        let batch = self.gather(now, epoch, node, contacts);
        self.has_more = node.has_changes();
        if batch.rows.is_empty() && batch.contacts.is_none() && !self.is_set && !is_failing {
            return;
        }
        match self.writer.offer(batch) {
            Some(batch) => {
                let mut unwritten = Unwritten::default();
                unwritten.add(batch);
                self.take_back(node, unwritten);
            }
            None => (self.epoch, self.is_set) = (Some(epoch), false),
        }
    }

    /// Writes all that is left, and waits until it is written.
    pub(super) fn finish(mut self, now: Instant, epoch: u64, node: &mut Node) {
        self.take_back(node, self.writer.take_unwritten());
        self.contacts_due = now;
        let contacts = self.contacts_to_write(now, node);
        let mut last = self.gather(now, epoch, node, contacts);
        while node.has_changes() {
            last.rows.extend(self.gather(now, epoch, node, None).rows);
        }
        self.writer.finish(last);
    }

    /// Has the rows and contacts that were not written written again.
    fn take_back(&mut self, node: &mut Node, Unwritten { rows, contacts }: Unwritten) {
        note_rows(node, rows);
        if contacts {
            self.contacts = (None, BTreeSet::new());
        }
    }

    /// The contacts, if it is time for them and they differ from those that were written.
    fn contacts_to_write(&mut self, now: Instant, node: &Node) -> Option<Vec<SocketAddr>> {
        if !self.has_contacts(node) || now < self.contacts_due {
            return None;
        }
        self.contacts_due = now + CONTACTS_EVERY;
        let addresses = node.table().good().map(|entry| entry.contact.address);
        let addresses: Vec<SocketAddr> = addresses.take(MAX_CONTACTS).collect();
        let all = addresses.iter().copied().collect();
        let before = std::mem::replace(&mut self.contacts, (Some(node.table().version()), all));
        (before.1 != self.contacts.1).then_some(addresses)
    }

    fn gather(
        &self,
        now: Instant,
        epoch: u64,
        node: &mut Node,
        contacts: Option<Vec<SocketAddr>>,
    ) -> Batch {
        let Stamp { time: began, boottime, era, .. } = self.began;
        let since = millis(now.since(Instant::ZERO));
        let boottime = if boottime == 0 { 0 } else { boottime + since };
        let stamp = Stamp { time: began + since, wall: epoch + since, boottime, era };
        let changes = node.take_changed(MAX_ROWS);
        let rows = changes.into_iter().map(|Change { key, row }| {
            let stored = node.store().row(&key, row);
            (row.0, key, stored.map(|stored| record(stored, began)))
        });
        Batch { stamp, rows: rows.collect(), contacts }
    }
}

/// Has some rows written again.
fn note_rows(node: &mut Node, rows: impl IntoIterator<Item = (u64, Id)>) {
    let changes = rows.into_iter().map(|(row, key)| Change { key, row: RowId(row) });
    changes.for_each(|change| node.note_changed(change));
}

/// When a life begins: as a new one, or as one that continues since the machine has run on.
fn begin(kept: &SavedState, wall: u64, boottime: u64) -> Stamp {
    let last = kept.last;
    let is_known = kept.is_same_boot && last.boottime > 0;
    match boottime.checked_sub(last.boottime).filter(|_| is_known) {
        Some(since) => Stamp { time: last.time + since, wall, boottime, era: last.era },
        None => Stamp { time: last.time, wall, boottime, era: kept.next_era },
    }
}

fn millis(span: Duration) -> u64 {
    span.as_micros() / 1_000
}

fn record(stored: &Stored, began: u64) -> SavedValue {
    let who = |publisher: Party| match publisher {
        Party::Own => None,
        Party::Node(contact) => Some((*contact.id.as_bytes(), contact.address)),
    };
    SavedValue {
        publisher: who(stored.publisher),
        depositor: who(*stored.depositor()),
        standing: match stored.standing {
            Standing::Hearsay => 0,
            Standing::Claimed => 1,
            Standing::Published => 2,
        },
        expires: began + millis(stored.expires.since(Instant::ZERO)),
        value: stored.value.as_bytes().to_vec(),
    }
}

/// Gives a node the values that were kept, except for expired ones. Values that do not fit its
/// limits stay on disk: the limits may be others next time.
fn restore(now: Instant, began: Stamp, node: &mut Node, kept: SavedState) {
    let mut rows = kept.rows;
    // Values that publishers stored themselves keep hearsay out, so they come first.
    rows.sort_by_key(|row| (Reverse(row.record.standing), row.row));
    let (mut gone, mut left_out, mut refused) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let life = Life::of(&row, began);
        let place = (row.row, row.key);
        let left = match life {
            Life::Over => {
                gone.push(place);
                continue;
            }
            Life::OverByTheWall => Duration::ZERO,
            Life::Left(left) => left,
        };
        let (bytes, expires) = (row.record.value.len(), row.expires_wall);
        let taken = give(now, node, row, left);
        if !taken {
            left_out.push((expires, bytes, place));
            refused += usize::from(left > Duration::ZERO);
        }
    }
    if refused > 0 {
        warn!(refused, "values of the state on disk do not fit the limits of this node");
    }
    gone.extend(beyond(left_out));
    node.note_changes();
    note_rows(node, gone);
}

/// What can be said about the life of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Nodes have run for as long as it was to live.
    Over,
    /// It is over by the wall clock.
    OverByTheWall,
    Left(Duration),
}

impl Life {
    fn of(row: &KeptRow, now: Stamp) -> Life {
        let Some(left) = row.record.expires.checked_sub(now.time).filter(|&left| left > 0) else {
            return Life::Over;
        };
        let wall = i64::try_from(now.wall).unwrap_or(i64::MAX);
        // This life's own time is known; a wall clock that is known to be wrong says nothing.
        if row.era == now.era || row.expires_wall.min(wall) < WALL_MIN {
            return Life::Left(Duration::from_millis(left));
        }
        match u64::try_from(row.expires_wall.saturating_sub(wall)) {
            Ok(by_wall @ 1..) => Life::Left(Duration::from_millis(left.min(by_wall))),
            _ => Life::OverByTheWall,
        }
    }
}

/// Gives a node a value that has this long to live.
fn give(now: Instant, node: &mut Node, row: KeptRow, left: Duration) -> bool {
    let expire = node.config().expire;
    // An earlier life may have let values live longer.
    let age = expire.minus(left.min(expire));
    let (number, key) = (RowId(row.row), row.key);
    let deposit = deposit(key, row.record, age);
    deposit.is_some_and(|deposit| node.restore(now, number, deposit).is_ok())
}

/// Of the values that are left out, those that find no room on disk.
fn beyond(mut left_out: Vec<(i64, usize, (u64, Id))>) -> Vec<(u64, Id)> {
    left_out.sort_by_key(|(expires, ..)| Reverse(*expires));
    let mut total = 0;
    left_out.retain(|(_, bytes, _)| {
        total += bytes;
        total > MAX_LEFT_OUT
    });
    left_out.into_iter().map(|(_, _, place)| place).collect()
}

fn deposit(key: Id, record: SavedValue, age: Duration) -> Option<Deposit> {
    let publisher = |who: Option<([u8; Id::LEN], _)>| {
        who.map_or(Party::Own, |(id, address)| Party::Node(Contact { id: Id::new(id), address }))
    };
    Some(Deposit {
        key,
        value: Value::parse(&record.value).ok()?,
        mode: StoreMode::Add,
        publisher: publisher(record.publisher),
        depositor: publisher(record.depositor),
        standing: match record.standing {
            0 => Standing::Hearsay,
            1 => Standing::Claimed,
            _ => Standing::Published,
        },
        age,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Output;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    /// Now, by the wall clock.
    const WALL: u64 = 21_000 * DAY;

    /// How long nodes have run.
    const TIME: u64 = 10 * DAY;

    const LAST: Stamp = Stamp { time: TIME, wall: WALL, boottime: HOUR, era: 3 };

    fn key(number: u64) -> Id {
        Id::of_name(number.to_string())
    }

    fn node(config: Config) -> Node {
        Node::new(Instant::ZERO, Id::of_name("id"), config, [1; 32])
    }

    /// Values with these hours left to live, by the time that nodes have run and by a correct wall
    /// clock.
    fn kept(hours: &[(i64, i64)]) -> SavedState {
        let time = TIME;
        let row = |(row, &(run, wall)): (u64, &(i64, i64))| KeptRow {
            row: row + 1,
            key: key(row),
            era: 3,
            record: SavedValue {
                publisher: None,
                depositor: None,
                standing: 2,
                expires: time.saturating_add_signed(run * HOUR as i64),
                value: b"1:v".to_vec(),
            },
            expires_wall: WALL as i64 + wall * HOUR as i64,
        };
        let rows = (0..).zip(hours).map(row).collect();
        SavedState { rows, last: LAST, next_era: 4, ..SavedState::new(Id::of_name("id")) }
    }

    /// The start of a new life.
    fn start(wall: u64) -> Stamp {
        begin(&kept(&[]), wall, 0)
    }

    /// Which of these values a node has, and which are removed from the disk.
    fn restored(config: Config, wall: u64, hours: &[(i64, i64)]) -> (Vec<u64>, Vec<u64>) {
        let mut node = node(config);
        restore(Instant::ZERO, start(wall), &mut node, kept(hours));
        let has = |number: &u64| node.store().stored(&key(*number)).next().is_some();
        let kept = (0..hours.len() as u64).filter(has).collect();
        let mut gone: Vec<u64> =
            node.take_changed(usize::MAX).iter().map(|change| change.row.0 - 1).collect();
        gone.sort_unstable();
        (kept, gone)
    }

    #[test]
    fn no_clock_on_the_wall_takes_anything_from_the_disk() {
        let hours = [(20, 5), (20, -1)];
        assert_eq!(restored(Config::default(), WALL, &hours), (vec![0], vec![]));
        for ahead in [8, 400, 50 * 365] {
            let (kept, gone) = restored(Config::default(), WALL + ahead * DAY, &hours);
            assert_eq!((kept, gone), (vec![], vec![]), "{ahead} days ahead");
        }
        for wall in [0, HOUR, WALL - 50 * 365 * DAY] {
            assert_eq!(restored(Config::default(), wall, &hours), (vec![0, 1], vec![]), "{wall}");
        }
    }

    #[test]
    fn what_nodes_have_outlived_is_taken_off_the_disk_whatever_the_clock() {
        let hours = [(0, 5), (-3, 5), (1, 5)];
        for wall in [0, WALL] {
            assert_eq!(restored(Config::default(), wall, &hours), (vec![2], vec![0, 1]));
        }
    }

    #[test]
    fn a_node_that_starts_while_the_machine_runs_on_needs_no_clock_on_the_wall() {
        let kept = |boottime| SavedState {
            is_same_boot: true,
            last: Stamp { boottime, ..LAST },
            ..kept(&[(5, -100), (1, 100)])
        };
        for wall in [0, WALL - 9 * DAY, WALL, WALL + 999 * DAY] {
            let began = begin(&kept(HOUR), wall, 3 * HOUR);
            assert_eq!((began.time, began.era), (TIME + 2 * HOUR, 3), "{wall}");
            let mut node = node(Config::default());
            restore(Instant::ZERO, began, &mut node, kept(HOUR));
            let expires = node.store().stored(&key(0)).next().unwrap().expires;
            assert_eq!(expires, Instant::ZERO + Duration::from_secs(3 * 3_600), "{wall}");
            assert!(node.store().stored(&key(1)).next().is_none(), "{wall}");
        }
        // From another machine with the same number, or not known.
        for boottime in [4 * HOUR, 0] {
            assert_eq!(begin(&kept(boottime), WALL, 3 * HOUR).era, 4);
        }
    }

    #[test]
    fn a_clock_that_was_never_set_says_nothing() {
        let unset = |row: KeptRow| KeptRow { expires_wall: 50 * DAY as i64, ..row };
        let rows = kept(&[(7, 5)]).rows.into_iter().map(unset).collect();
        let mut node = node(Config::default());
        restore(Instant::ZERO, start(WALL), &mut node, SavedState { rows, ..kept(&[]) });
        assert_eq!(node.store().stored(&key(0)).count(), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_live_longer() {
        let mut node = node(Config::default());
        restore(Instant::ZERO, start(0), &mut node, kept(&[(7, 5)]));
        let expires = node.store().stored(&key(0)).next().unwrap().expires;
        assert_eq!(expires, Instant::ZERO + Duration::from_secs(7 * 3_600));
        let expire = Duration::from_secs(3_600);
        let config = Config { expire, ..Config::default() };
        let mut node = Node::new(Instant::ZERO, Id::of_name("id"), config, [1; 32]);
        restore(Instant::ZERO, start(WALL), &mut node, kept(&[(7, 5)]));
        assert_eq!(node.store().stored(&key(0)).next().unwrap().expires, Instant::ZERO + expire);
    }

    #[test]
    fn limits_that_are_less_take_nothing_from_the_disk() {
        let config = Config { max_values_per_key: 1, max_store_bytes: 1_500, ..Config::default() };
        let (kept, gone) = restored(config, WALL, &[(20, 5); 9]);
        assert!(kept.len() < 9, "{kept:?}");
        assert!(gone.is_empty(), "{gone:?}");
    }

    /// As if peers store more than the disk should bear.
    #[test]
    fn what_is_written_keeps_to_the_budget_and_all_is_written_in_the_end() {
        const RATE: u64 = 10_000;
        const SECONDS: u64 = 100;
        let folder =
            std::env::temp_dir().join(format!("kademlua-persister-{}", std::process::id()));
        let (kept, writer) = crate::state::open(&folder, None, Id::of_name("id")).unwrap();
        let mut node = node(Config::default());
        let mut persister = Persister::new(writer, kept, (WALL, 0), &mut node);
        persister.budget = Budget::new(Instant::ZERO, RATE, 2 * RATE);
        let (mut now, mut stored) = (Instant::ZERO, 0_u64);
        let tend = |persister: &mut Persister, node: &mut Node, now| {
            persister.tend(now, WALL, node);
            while !persister.writer.is_idle() {
                std::thread::yield_now();
            }
        };
        for _ in 0..SECONDS * 10 {
            now += Duration::from_millis(100);
            for _ in 0..5 {
                stored += 1;
                let value = Value::bytes(format!("{stored:01000}"));
                node.start_store(now, key(stored % 20), value, StoreMode::Replace).unwrap();
                while !matches!(node.poll_output(), Output::Timeout(_)) {}
            }
            tend(&mut persister, &mut node, now);
        }
        let written = persister.writer.bytes();
        // One batch more than the budget had is owed. And the writing thread only takes a batch once it
        // waits for one, which on a busy machine may be a turn later.
        let most = RATE * (SECONDS + 2) + 25_000;
        assert!((RATE * SECONDS / 2..most).contains(&written), "{written} bytes");
        for _ in 0..100 {
            now += Duration::from_millis(100);
            tend(&mut persister, &mut node, now);
        }
        assert!(!node.has_changes());
        persister.finish(now, WALL, &mut node);
        let (kept, writer) = crate::state::open(&folder, None, Id::of_name("id")).unwrap();
        let last = format!("1000:{stored:01000}").into_bytes();
        assert_eq!(kept.rows.len(), 20);
        assert!(kept.rows.iter().any(|row| row.record.value == last));
        writer.finish(Batch::default());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_left_out_is_bounded_and_the_youngest_stays() {
        let left_out = |(row, bytes): (u64, usize)| (row as i64, bytes, (row, key(row)));
        let all = (1..).zip([MAX_LEFT_OUT / 2; 5]).map(left_out).collect();
        let gone: Vec<u64> = beyond(all).into_iter().map(|(row, _)| row).collect();
        assert_eq!(gone, [3, 2, 1]);
    }
}
