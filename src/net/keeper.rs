//! What of a node is written to disk, and when: soon after something has changed, and never while
//! something is being written.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::bencode::Value;
use crate::id::Id;
use crate::message::{Contact, StoreMode};
use crate::node::Node;
use crate::node::store::{Change, Deposit, Owner, RowId, Standing, Stored};
use crate::state::{Batch, Kept, Record, Writer};
use crate::time::{Duration, Instant};

/// Time between two batches: with what writing one takes, less than the second that is promised.
const PAUSE: Duration = Duration::from_millis(200);

/// Time between two batches where one does not take all there is.
const PAUSE_SHORT: Duration = Duration::from_millis(10);

/// Time until the next attempt after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Contacts change all the time, and old ones do too.
const CONTACTS_EVERY: Duration = Duration::from_secs(10);

/// Contacts that are kept: a bootstrap asks no more than 64, those named to the node first.
const MAX_CONTACTS: usize = 60;

/// How long what has expired stays on disk: a clock that is ahead at one start must not take all that
/// there is with it.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Changed rows in one batch, so that to gather them holds nobody up.
const MAX_ROWS: usize = 1_024;

pub(super) struct Keeper {
    writer: Writer,
    /// When something was last handed over, or could not be.
    last: Instant,
    /// What follows the last batch follows at once.
    has_more: bool,
    contacts_due: Instant,
    /// The version of the contacts that were written last.
    contacts: Option<u64>,
}

impl Keeper {
    pub(super) fn new(writer: Writer) -> Keeper {
        let now = Instant::ZERO;
        let contacts_due = now + PAUSE;
        Keeper { writer, last: now, has_more: false, contacts_due, contacts: None }
    }

    /// When there is something to write.
    pub(super) fn next_time(&self, node: &Node) -> Instant {
        let changed = node.has_changes() || self.writer.is_failing();
        let due = self.last + self.pause();
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
        // An empty table is what one has at first, and no reason to forget who was there before.
        self.contacts != Some(node.table().version()) && !node.table().is_empty()
    }

    /// Hands over what has changed, if it is time and nothing is being written.
    pub(super) fn tend(&mut self, now: Instant, node: &mut Node) {
        if self.next_time(node) > now {
            return;
        }
        self.last = now;
        if !self.writer.is_idle() {
            self.has_more = true;
            return;
        }
        note_keys(node, self.writer.take_failed());
        let with_contacts = self.has_contacts(node) && now >= self.contacts_due;
        let batch = gather(now, node, with_contacts);
        self.has_more = node.has_changes();
        let version = node.table().version();
        match self.writer.offer(batch) {
            Some(batch) => note_keys(node, batch.values.into_iter().map(|(key, _)| key)),
            None if with_contacts => {
                self.contacts = Some(version);
                self.contacts_due = now + CONTACTS_EVERY;
            }
            None => {}
        }
    }

    /// Writes all that is left, and waits until it is written.
    pub(super) fn finish(self, now: Instant, node: &mut Node) {
        note_keys(node, self.writer.take_failed());
        let mut last = gather(now, node, self.has_contacts(node));
        while node.has_changes() {
            last.values.extend(gather(now, node, false).values);
        }
        self.writer.finish(last);
    }
}

fn gather(now: Instant, node: &mut Node, with_contacts: bool) -> Batch {
    let wall = wall_clock();
    let changes = node.take_changed(MAX_ROWS);
    let keys: BTreeSet<Id> = changes.into_iter().map(|change| change.key).collect();
    let record = |stored: &Stored| record(stored, now, wall);
    let values =
        keys.into_iter().map(|key| (key, node.store().stored(&key).iter().map(record).collect()));
    let values = values.collect();
    let addresses = || node.table().worth_naming().map(|entry| entry.contact.address);
    let contacts = with_contacts.then(|| addresses().take(MAX_CONTACTS).collect());
    Batch { values, contacts }
}

/// Has all that lies under some keys written again. No row has the number 0, and the key is what counts.
fn note_keys(node: &mut Node, keys: impl IntoIterator<Item = Id>) {
    let changes = keys.into_iter().map(|key| Change { key, row: RowId(0) });
    changes.for_each(|change| node.note_changed(change));
}

/// Milliseconds since 1970.
fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    span.as_micros() / 1_000
}

fn record(stored: &Stored, now: Instant, wall: u64) -> Record {
    let who = |owner: Owner| match owner {
        Owner::Own => None,
        Owner::Node(contact) => Some((*contact.id.as_bytes(), contact.address)),
    };
    Record {
        owner: who(stored.owner),
        depositor: who(stored.depositor),
        expires: wall.saturating_add(millis(stored.expires.since(now))),
        value: stored.value.as_bytes().to_vec(),
    }
}

/// Gives a node that knows nothing what it kept, less what has expired meanwhile. What does not fit
/// its limits stays on disk until it expires: they may be others the next time.
pub(super) fn restore(now: Instant, node: &mut Node, kept: Kept) {
    let (wall, expire) = (wall_clock(), node.config().expire);
    let mut bygone: Vec<Id> = Vec::new();
    let (mut refused, mut row) = (0, RowId(0));
    for (key, records) in kept.values {
        let (direct, copies): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.owner == record.depositor);
        for record in direct.into_iter().chain(copies) {
            if record.expires <= wall {
                if wall - record.expires > millis(GRACE) {
                    bygone.push(key);
                }
                continue;
            }
            let left = Duration::from_micros((record.expires - wall).saturating_mul(1_000));
            // A clock that was set back must not make values live longer than any does.
            let age = expire.minus(left.min(expire));
            let deposit = deposit(key, record, age);
            row.0 += 1;
            let taken = deposit.is_some_and(|deposit| node.restore(now, row, deposit).is_ok());
            refused += usize::from(!taken);
        }
    }
    if refused > 0 {
        warn!(refused, "values of the state on disk do not fit the limits of this node");
    }
    node.note_changes();
    note_keys(node, bygone);
}

fn deposit(key: Id, record: Record, age: Duration) -> Option<Deposit> {
    let owner = |who: Option<([u8; Id::LEN], _)>| {
        who.map_or(Owner::Own, |(id, address)| Owner::Node(Contact { id: Id::new(id), address }))
    };
    let is_direct = record.owner == record.depositor;
    Some(Deposit {
        key,
        value: Value::parse(&record.value).ok()?,
        mode: StoreMode::Add,
        owner: owner(record.owner),
        depositor: owner(record.depositor),
        standing: if is_direct { Standing::Published } else { Standing::Hearsay },
        age,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::Config;

    const HOUR: u64 = 3_600_000;

    fn key(number: u64) -> Id {
        Id::of_name(number.to_string())
    }

    /// What a node keeps of values that are to expire in so many hours, and of which keys it tells
    /// that they have changed.
    fn restored(config: Config, hours: &[i64]) -> (Vec<Id>, Vec<Id>) {
        let mut node = Node::new(Instant::ZERO, Id::of_name("id"), config, [1; 32]);
        let record = |hours: i64| Record {
            owner: None,
            depositor: None,
            expires: wall_clock().saturating_add_signed(hours * HOUR as i64),
            value: b"1:v".to_vec(),
        };
        let values = hours.iter().enumerate();
        let values = values.map(|(at, &hours)| (key(at as u64), vec![record(hours)])).collect();
        let kept = Kept { id: node.id(), contacts: Vec::new(), values };
        restore(Instant::ZERO, &mut node, kept);
        let mut kept: Vec<Id> = node.store().keys().copied().collect();
        kept.sort();
        let changed = node.take_changed(usize::MAX);
        (kept, changed.into_iter().map(|change| change.key).collect())
    }

    #[test]
    fn a_clock_that_is_days_ahead_takes_nothing_from_the_disk() {
        let (kept, changed) = restored(Config::default(), &[5, -48, -24 * 8]);
        assert_eq!(kept, [key(0)]);
        assert_eq!(changed, [key(2)], "only what is long gone");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_live_longer() {
        let expire = Duration::from_secs(3_600);
        let config = Config { expire, ..Config::default() };
        let mut node = Node::new(Instant::ZERO, Id::of_name("id"), config, [1; 32]);
        let record =
            Record { owner: None, depositor: None, expires: u64::MAX, value: b"1:v".to_vec() };
        let values = vec![(key(0), vec![record])];
        let kept = Kept { id: node.id(), contacts: Vec::new(), values };
        restore(Instant::ZERO, &mut node, kept);
        assert_eq!(node.store().stored(&key(0))[0].expires, Instant::ZERO + expire);
    }

    #[test]
    fn limits_that_are_less_take_nothing_from_the_disk() {
        let config = Config { max_store_bytes: 600, ..Config::default() };
        let (kept, changed) = restored(config, &[5; 9]);
        assert_eq!((kept.len(), changed), (2, vec![]));
    }
}
