//! Routes on their way: the contacts that were handed routes and have been silent since, the node's own
//! routes, and the number of clients that it looks something up for.
//!
//! Nobody acknowledges a route, so a dead contact swallows routes unseen. A contact that was handed one and
//! stays silent is therefore asked whether it lives. If it does not, it loses its place in the table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::Id;
use crate::message::{Contact, TransactionId};
use crate::node::report::RouteReport;
use crate::time::{Duration, Instant};

/// Most hops of a route. Six are usual in a network of millions.
pub(crate) const HOPS_MAX: u8 = 16;

/// How long a contact that was handed a route may be silent before it is asked whether it lives.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// Contacts watched at once. Those beyond it are not watched.
const MAX_USED: usize = 1_024;

/// Lookups and stores that run for clients at once; they take a few megabytes. Further clients get no answer.
const MAX_SERVED: usize = 64;

/// Own routes under way at once.
const MAX_OWN: usize = 1_024;

/// Routes a second that take another way because the system reported that a hop is unreachable. Such a
/// report can be forged, and each costs a datagram.
const REROUTES_A_SECOND: u32 = 256;

/// What a node remembers of routes.
#[derive(Default)]
pub(super) struct Forwarding {
    /// Contacts that were handed a route, and when, the earliest in front.
    used: VecDeque<(Instant, Contact)>,
    is_used: BTreeSet<Id>,
    own: BTreeMap<TransactionId, OwnRoute>,
    timers: BTreeSet<(Instant, TransactionId)>,
    served: usize,
    reroutes: (Instant, u32),
}

/// A route that this node sent itself.
pub(super) struct OwnRoute {
    pub(super) report: RouteReport,
    pub(super) deadline: Instant,
    pub(super) wants_trace: bool,
}

impl Forwarding {
    pub(super) fn next_timeout(&self) -> Instant {
        let heard = self.used.front().map_or(Instant::NEVER, |(at, _)| *at + HEARD_WITHIN);
        heard.min(self.timers.first().map_or(Instant::NEVER, |(at, _)| *at))
    }

    /// A contact was handed a route; starts to watch it.
    pub(super) fn on_used(&mut self, now: Instant, contact: Contact) {
        if self.used.len() < MAX_USED && self.is_used.insert(contact.id) {
            self.used.push_back((now, contact));
        }
    }

    /// Whether a contact is being watched.
    pub(super) fn is_used(&self, contact: &Contact) -> bool {
        self.is_used.contains(&contact.id)
    }

    /// Takes out a contact whose time to be heard is over, and when it was handed its route.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Instant, Contact)> {
        self.used.front().filter(|(at, _)| *at + HEARD_WITHIN <= now)?;
        let due = self.used.pop_front()?;
        self.is_used.remove(&due.1.id);
        Some(due)
    }

    /// Whether one more route may take another way; counts it.
    pub(super) fn may_reroute(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.reroutes;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= REROUTES_A_SECOND
    }

    /// Whether there is room for one more lookup or store for a client. If so, the caller calls
    /// [`Forwarding::on_served`] when it ends.
    pub(super) fn try_serve(&mut self) -> bool {
        let has_room = self.served < MAX_SERVED;
        self.served += usize::from(has_room);
        has_room
    }

    pub(super) fn on_served(&mut self) {
        self.served -= 1;
    }

    /// Whether one more own route may be under way.
    pub(super) fn has_room(&self) -> bool {
        self.own.len() < MAX_OWN
    }

    pub(super) fn insert_own(&mut self, call: TransactionId, route: OwnRoute) {
        self.timers.insert((route.deadline, call));
        self.own.insert(call, route);
    }

    /// Takes out the own route that an answer belongs to.
    pub(super) fn take_own(&mut self, call: &TransactionId) -> Option<OwnRoute> {
        let route = self.own.remove(call)?;
        self.timers.remove(&(route.deadline, *call));
        Some(route)
    }

    /// Whether a number is that of an own route.
    pub(super) fn is_own(&self, call: &TransactionId) -> bool {
        self.own.contains_key(call)
    }

    /// Takes out an own route whose answer has not come in time.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<OwnRoute> {
        let (_, call) = *self.timers.first().filter(|(at, _)| *at <= now)?;
        self.take_own(&call)
    }

    /// How many own routes are under way.
    pub(super) fn own_count(&self) -> usize {
        self.own.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(number: u16) -> Contact {
        Contact { id: Id::of_name(number.to_be_bytes()), address: ([10, 0, 0, 1], number).into() }
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_contact_that_was_handed_a_route_is_due_once_after_two_seconds() {
        let mut forwarding = Forwarding::default();
        assert_eq!(forwarding.next_timeout(), Instant::NEVER);
        for millis in [0, 100, 200] {
            forwarding.on_used(at(millis), contact(1));
            forwarding.on_used(at(millis + 50), contact(2));
        }
        assert_eq!(forwarding.next_timeout(), at(2_000));
        assert_eq!(forwarding.take_due(at(1_999)), None);
        assert_eq!(forwarding.take_due(at(2_010)), Some((at(0), contact(1))));
        assert!(!forwarding.is_used(&contact(1)) && forwarding.is_used(&contact(2)));
        assert_eq!(forwarding.take_due(at(2_010)), None);
        assert_eq!(forwarding.take_due(at(2_050)), Some((at(50), contact(2))));
        assert_eq!(forwarding.next_timeout(), Instant::NEVER);
    }

    #[test]
    fn watched_contacts_are_bounded() {
        let mut forwarding = Forwarding::default();
        (1..=2_000).for_each(|number| forwarding.on_used(at(0), contact(number)));
        assert_eq!((forwarding.used.len(), forwarding.is_used.len()), (MAX_USED, MAX_USED));
    }

    #[test]
    fn reroutes_a_second_are_bounded() {
        let mut forwarding = Forwarding::default();
        let mut taken = |millis| (0..1_000).filter(|_| forwarding.may_reroute(at(millis))).count();
        assert_eq!([taken(1_000), taken(1_999), taken(2_000)], [256, 0, 256]);
    }
}
