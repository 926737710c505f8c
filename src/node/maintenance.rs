//! Tasks and timers of [`upkeep`](super::upkeep): which contacts are being pinged, and which lookups wait.
//!
//! Lookups wait in a queue, and few run at once: upkeep must not crowd out what users ask for.

use std::collections::{BTreeSet, VecDeque};

use crate::address::Scope;
use crate::id::Id;
use crate::kad::crowd;
use crate::message::Contact;
use crate::node::calls::{Call, Peer, Purpose};
use crate::time::Instant;

/// Lookups of upkeep at once.
const MAX_RUNNING: usize = 4;

/// Lookups that wait to refresh the routing table: several times one for each bucket.
const MAX_REFRESHES: usize = 1_024;

/// Contacts of the routing table that are pinged at once.
const MAX_CHECKS: usize = 128;

/// Former and future contacts pinged at once. Strangers can have them pinged, so these take no place of
/// those that are in the table.
const MAX_RECHECKS: usize = 128;

/// How many of these may lie in one subnet: one owner whose nodes answer nothing must not take all
/// places.
const MAX_RECHECKS_PER_SUBNET: usize = 4;

/// Tasks and timers of upkeep.
pub(super) struct Maintenance {
    /// Points to look up, only to fill the routing table with the answers.
    refreshes: VecDeque<Id>,
    /// Lookups that run, for replication too.
    running: usize,
    /// Contacts of the routing table that are being pinged.
    checking: BTreeSet<Contact>,
    /// Former and future contacts that are being pinged, no two at one address.
    rechecking: BTreeSet<Contact>,
    refresh_at: Instant,
    measure_at: Instant,
    /// When tasks are looked at next.
    work_at: Instant,
}

impl Default for Maintenance {
    fn default() -> Maintenance {
        Maintenance {
            refreshes: VecDeque::new(),
            running: 0,
            checking: BTreeSet::new(),
            rechecking: BTreeSet::new(),
            refresh_at: Instant::NEVER,
            measure_at: Instant::NEVER,
            work_at: Instant::NEVER,
        }
    }
}

impl Maintenance {
    pub(super) fn next_timeout(&self) -> Instant {
        self.refresh_at.min(self.measure_at).min(self.work_at)
    }

    /// A task may begin, because it is new or because another has ended.
    pub(super) fn resume(&mut self, now: Instant) {
        self.work_at = now;
    }

    /// A call was answered, or timed out: the contact that it pinged may be pinged again.
    pub(super) fn on_call_ended(&mut self, call: &Call) {
        let Peer { address, id: Some(id) } = call.peer else { return };
        let contact = Contact { id, address };
        match call.purpose {
            Purpose::Recheck => _ = self.rechecking.remove(&contact),
            Purpose::Liveness { .. } => _ = self.checking.remove(&contact),
            _ => {}
        }
    }

    /// Whether it is time to look for buckets to refresh.
    pub(super) fn is_refresh_due(&self, now: Instant) -> bool {
        self.refresh_at <= now
    }

    /// Sets the time to look for buckets to refresh.
    pub(super) fn refresh_at(&mut self, at: Instant) {
        self.refresh_at = at;
    }

    /// Queues a point that is to be looked up when there is time for it.
    pub(super) fn queue(&mut self, now: Instant, target: Id) {
        if self.refreshes.len() < MAX_REFRESHES {
            self.refreshes.push_back(target);
            self.resume(now);
        }
    }

    /// The next point to look up.
    pub(super) fn next_refresh(&mut self) -> Option<Id> {
        self.refreshes.pop_front()
    }

    /// Whether one more lookup may run.
    pub(super) fn has_room_for_lookup(&self) -> bool {
        self.running < MAX_RUNNING
    }

    pub(super) fn on_lookup_begun(&mut self) {
        self.running += 1;
    }

    /// Plans to measure the network, if that is not planned yet.
    pub(super) fn measure_at(&mut self, at: impl FnOnce() -> Instant) {
        if self.measure_at == Instant::NEVER {
            self.measure_at = at();
        }
    }

    /// Whether it is time to measure the network; true once each time.
    pub(super) fn take_measuring(&mut self, now: Instant) -> bool {
        let is_due = self.measure_at <= now;
        if is_due {
            self.measure_at = Instant::NEVER;
        }
        is_due
    }

    /// Whether it is time to look at the tasks.
    pub(super) fn is_work_due(&self, now: Instant) -> bool {
        self.work_at <= now
    }

    /// Sets the time to look at the tasks.
    pub(super) fn work_at(&mut self, at: Instant) {
        self.work_at = at;
    }

    /// Whether one more contact of the routing table may be pinged, and this one is not being
    /// pinged.
    pub(super) fn has_room_to_check(&self, contact: &Contact) -> bool {
        self.checking.len() < MAX_CHECKS && !self.checking.contains(contact)
    }

    /// A contact of the routing table is being pinged.
    pub(super) fn on_check_begun(&mut self, contact: Contact) {
        self.checking.insert(contact);
    }

    /// A former or future contact is being pinged.
    pub(super) fn on_recheck_begun(&mut self, contact: Contact) {
        self.rechecking.insert(contact);
    }

    /// Whether a contact of the routing table is being pinged.
    pub(super) fn is_checking(&self, contact: &Contact) -> bool {
        self.checking.contains(contact)
    }

    /// Whether one more former or future contact may be pinged.
    pub(super) fn has_room_to_recheck(&self, contact: &Contact) -> bool {
        let ip = contact.address.ip();
        let others = self.rechecking.iter().map(|other| other.address.ip());
        self.rechecking.len() < MAX_RECHECKS
            && self.rechecking.iter().all(|other| other.address != contact.address)
            // Many nodes may share a machine or a network with this one.
            && (Scope::of(ip) != Scope::Global
                || !crowd::is_crowded(others, ip, MAX_RECHECKS_PER_SUBNET))
    }

    pub(super) fn on_lookup_ended(&mut self, now: Instant) {
        self.running -= 1;
        self.resume(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(address: &str) -> Contact {
        Contact { id: Id::of_name(address), address: address.parse().unwrap() }
    }

    #[test]
    fn one_publisher_does_not_have_all_places() {
        let mut maintenance = Maintenance::default();
        let mut begun = |address: &str| {
            let contact = contact(address);
            let has_room = maintenance.has_room_to_recheck(&contact);
            if has_room {
                maintenance.on_recheck_begun(contact);
            }
            has_room
        };
        assert!(begun("192.0.2.1:1"));
        assert!(!begun("192.0.2.1:1"), "it is being pinged");
        let of_one_subnet = (2..100).filter(|host| begun(&format!("192.0.2.{host}:1"))).count();
        assert_eq!(of_one_subnet, MAX_RECHECKS_PER_SUBNET - 1);
        let local = (0..200).filter(|port| begun(&format!("127.0.0.1:{}", 9_000 + port))).count();
        assert_eq!(local, MAX_RECHECKS - MAX_RECHECKS_PER_SUBNET);
        assert!(!begun("198.51.100.1:1"));
    }

    #[test]
    fn contacts_are_checked_once_at_a_time_and_not_all_at_once() {
        let mut maintenance = Maintenance::default();
        for port in 1..=200 {
            let contact = contact(&format!("127.0.0.1:{port}"));
            if maintenance.has_room_to_check(&contact) {
                maintenance.on_check_begun(contact);
                assert!(!maintenance.has_room_to_check(&contact));
            }
        }
        assert_eq!(maintenance.checking.len(), MAX_CHECKS);
    }

    #[test]
    fn lookups_wait_for_room_and_ends_of_others() {
        let (mut maintenance, now) = (Maintenance::default(), Instant::ZERO);
        (0..2_000).for_each(|n: u32| maintenance.queue(now, Id::of_name(n.to_string())));
        assert!(maintenance.is_work_due(now));
        let mut begun = 0;
        while maintenance.has_room_for_lookup() && maintenance.next_refresh().is_some() {
            maintenance.on_lookup_begun();
            begun += 1;
        }
        assert_eq!(
            (begun, maintenance.refreshes.len()),
            (MAX_RUNNING, MAX_REFRESHES - MAX_RUNNING)
        );
        maintenance.work_at(Instant::NEVER);
        maintenance.on_lookup_ended(now);
        assert!(maintenance.is_work_due(now) && maintenance.has_room_for_lookup());
    }
}
