//! Operations: what a caller starts, or the node for its own upkeep, and how that ends.
//!
//! An operation is a lookup, a store that follows a lookup, or a bootstrap. Each ends in bounded
//! time, because each of its calls does.

use crate::bencode::{Item, Value};
use crate::id::Id;
use crate::kad::credit::First;
use crate::kad::lookup::{
    ALL_ENTRIES, Cause, End, Goal, Lookup, LookupRecord, Next, Outcome, QueryAnswer, QuerySizes,
};
use crate::message::{Contact, FindValue, Request, Response, StoreMode, StoreRequest};
use crate::node::bootstrap::{Bootstrap, Named};
use crate::node::calls::{Attempt, Call, Peer, Purpose};
use crate::node::overlay::{Active, Overlay, is_validated};
use crate::node::report::RouteReport;
use crate::node::routes::RouteClient;
use crate::node::{CallError, Delivery, DeliveryOutcome, Event, OperationId, StoreReport};
use crate::store::{Deposit, Party, Refusal, Standing};
use crate::time::{Duration, Instant};

/// Operations at once: some ten times as many lookups as the calls in flight can serve at full speed,
/// and some tens of megabytes. Beyond that a lookup ends before it begins, as [`End::Overloaded`].
const MAX_OPERATIONS: usize = 1_024;

/// Lookups remembered for people to look at: a screenful.
const MAX_RECORDS: usize = 16;

/// Something under way.
pub(super) enum Operation {
    Lookup { lookup: Lookup, then: Then },
    Publish(Publish),
    Bootstrap(Bootstrap),
}

/// What follows a lookup.
pub(super) enum Then {
    /// The caller is told.
    Report,
    /// A value is stored at the nodes found.
    Publish { value: Value, mode: StoreMode, client: Option<RouteClient> },
    /// The values under the target are passed on to the nodes found.
    Replicate,
    /// The bootstrap ends.
    Joined { bootstrap: OperationId, named: Named },
    /// A client of a route is told.
    Serve(RouteClient),
    /// It was made in place of a route, which ends.
    EndRoute(Box<RouteReport>),
    /// Nothing: the answers have filled the routing table.
    Refresh,
}

impl Then {
    fn cause(&self) -> Cause {
        match self {
            Then::Report | Then::Serve(_) | Then::EndRoute(_) => Cause::Search,
            Then::Publish { .. } => Cause::Store,
            Then::Replicate => Cause::Replicate,
            Then::Joined { .. } => Cause::Join,
            Then::Refresh => Cause::Refresh,
        }
    }
}

/// A value on its way to its holders.
pub(super) struct Publish {
    value: Value,
    mode: StoreMode,
    /// The client of a route for which it is done, if there is one.
    client: Option<RouteClient>,
    waiting: usize,
    report: StoreReport,
}

impl Active<'_> {
    /// Stores a value at the nodes nearest to the key.
    pub(super) fn start_store(
        &mut self,
        now: Instant,
        key: Id,
        value: Value,
        mode: StoreMode,
    ) -> Result<OperationId, Refusal> {
        let (bytes, max) = (value.as_bytes().len(), self.shared.config.max_value_bytes);
        if bytes > max {
            return Err(Refusal::ValueTooLarge { bytes, max });
        }
        let then = Then::Publish { value, mode, client: None };
        Ok(self.begin_lookup(now, Goal::Node { target: key }, then))
    }

    /// Calls an RPC that an application at a peer has registered.
    pub(super) fn start_call(
        &mut self,
        now: Instant,
        peer: Peer,
        name: &[u8],
        args: &[Value],
    ) -> Result<OperationId, CallError> {
        let max = self.overlay.dialect.sizes().custom_max;
        let bytes = name.len() + args.iter().map(|arg| arg.as_bytes().len()).sum::<usize>();
        if bytes > max {
            return Err(CallError::TooLarge { bytes, max });
        }
        let mut list = vec![b'l'];
        args.iter().for_each(|arg| list.extend_from_slice(arg.as_bytes()));
        list.push(b'e');
        let args = Item::parse(&list).expect("values leave room for the levels around them");
        let args = args.list().expect("made a list just above");
        Ok(self.start_request(now, peer, &Request::Custom { name, args }))
    }

    /// Asks a peer something for a caller.
    pub(super) fn start_request(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request<'_>,
    ) -> OperationId {
        let id = self.shared.new_operation();
        if let Err(error) = self.send(now, peer, request, Purpose::Caller { operation: id }) {
            let (outcome, rtt) = (Err(error), Duration::ZERO);
            self.shared.out.events.push_back(Event::CallDone { id, peer, outcome, rtt });
        }
        id
    }

    /// Starts a lookup from the contacts that the routing table holds.
    pub(super) fn begin_lookup(&mut self, now: Instant, goal: Goal, then: Then) -> OperationId {
        let operation = self.shared.new_operation();
        let target = goal.target();
        let sizes = self.overlay.dialect.sizes();
        let sizes =
            QuerySizes { full: sizes.lookup_min(), bare: sizes.bare_lookup, ping: sizes.ping };
        let about = (goal, then.cause());
        let mut lookup = Lookup::new(
            operation,
            now,
            about,
            self.overlay.id,
            self.overlay.policy.k,
            &self.shared.config,
            sizes,
        );
        if self.overlay.operations.len() >= MAX_OPERATIONS {
            lookup.end(now, End::Overloaded);
            self.on_lookup_done(now, lookup, then);
            return operation;
        }
        self.overlay.table.touch(now, &target);
        lookup.seed(self.seeds(&target, lookup.seeds()));
        if let Then::Joined { named: Named { by, bytes, contacts }, .. } = &then {
            lookup.seed_named(*by, *bytes, contacts);
        }
        if let Goal::Value { max_entries, .. } = goal {
            let own = self.overlay.store.pick(
                &target,
                max_entries,
                usize::MAX,
                None,
                &mut self.shared.rng,
            );
            lookup.on_own_values(own.into_iter().flat_map(|own| own.values).cloned());
        }
        self.overlay.operations.insert(operation, Operation::Lookup { lookup, then });
        self.drive_lookup(now, operation);
        operation
    }

    /// The nearest contacts that answer, or, when none does, those that once did.
    fn seeds(&self, target: &Id, count: usize) -> Vec<Contact> {
        let nearest = |alive: bool| {
            let entries =
                self.overlay.table.closest(target).filter(move |entry| !alive || !entry.stale);
            entries.take(count).map(|entry| entry.contact).collect::<Vec<_>>()
        };
        let alive = nearest(true);
        if alive.is_empty() { nearest(false) } else { alive }
    }

    /// Sends the queries that a lookup may send now, and ends it if it is done.
    fn drive_lookup(&mut self, now: Instant, operation: OperationId) {
        while let Some(Next { query, contact, first }) = self
            .lookup_and_validated(operation)
            .and_then(|(lookup, is_validated)| lookup.next_query(now, is_validated))
        {
            match first {
                First::Query(len) => {
                    self.send_query(now, (operation, query), contact, None, Some(len));
                }
                First::Ping => {
                    let purpose = Purpose::Query { operation, query };
                    let sent = self.send(now, contact.into(), &Request::Ping, purpose);
                    self.on_query_sent(now, (operation, query), sent);
                }
            }
            if self.overlay.silent.contains(now, &contact) {
                self.lookup(operation).expect("it has just asked").on_hopeless(query);
            }
        }
        let has_ended = self
            .lookup_and_validated(operation)
            .is_some_and(|(lookup, is_validated)| lookup.try_end(now, is_validated));
        if !has_ended {
            return;
        }
        let Some(Operation::Lookup { lookup, then }) = self.overlay.operations.remove(&operation)
        else {
            unreachable!("looked at just above");
        };
        self.on_lookup_done(now, lookup, then);
    }

    /// A lookup, and a test whether a contact's address is validated.
    fn lookup_and_validated(
        &mut self,
        operation: OperationId,
    ) -> Option<(&mut Lookup, impl Fn(&Contact) -> bool)> {
        let Overlay { operations, table, .. } = &mut *self.overlay;
        let validated = &self.shared.validated;
        let Some(Operation::Lookup { lookup, .. }) = operations.get_mut(&operation) else {
            return None;
        };
        Some((lookup, |contact: &Contact| is_validated(validated, table, contact)))
    }

    /// Sends a query of a lookup, padded to `padded_to`, or asks for the next part: the values
    /// behind `after`.
    fn send_query(
        &mut self,
        now: Instant,
        (operation, query): (OperationId, usize),
        contact: Contact,
        after: Option<Id>,
        padded_to: Option<usize>,
    ) {
        let goal = self.lookup(operation).expect("it has just asked").goal();
        let token = self.overlay.token_cache.token(now, &contact.address);
        let request = match goal {
            Goal::Node { target } => Request::FindNode { target },
            Goal::Value { key, max_entries, .. } => {
                let from_the_start = (max_entries == ALL_ENTRIES).then_some(Id::new([0; Id::LEN]));
                let after = after.or(from_the_start);
                let (limit, token) = (max_entries, Some(&token[..]));
                Request::FindValue(FindValue { key, limit, after, token })
            }
        };
        let purpose = Purpose::Query { operation, query };
        let sent = self.send_padded(now, contact.into(), &request, purpose, padded_to);
        self.on_query_sent(now, (operation, query), sent);
    }

    fn on_query_sent(
        &mut self,
        now: Instant,
        (operation, query): (OperationId, usize),
        sent: Result<usize, CallError>,
    ) {
        let lookup = self.lookup(operation).expect("it has just asked");
        match sent {
            Ok(bytes) => lookup.on_sent(query, bytes),
            Err(_) => lookup.on_failure(now, query, Outcome::Failed, 0),
        }
    }

    fn lookup(&mut self, operation: OperationId) -> Option<&mut Lookup> {
        match self.overlay.operations.get_mut(&operation) {
            Some(Operation::Lookup { lookup, .. }) => Some(lookup),
            _ => None,
        }
    }

    pub(super) fn on_query_done(
        &mut self,
        now: Instant,
        (operation, query): (OperationId, usize),
        peer: Peer,
        outcome: Result<Response, CallError>,
        bytes: usize,
    ) {
        let outcome = outcome.map(|response| self.without_own(response));
        let Some(lookup) = self.lookup(operation) else { return };
        let send_on = |active: &mut Active<'_>, after| {
            let id = peer.id.expect("whom a lookup asks is known by id");
            let contact = Contact { id, address: peer.address };
            active.send_query(now, (operation, query), contact, after, None);
        };
        match outcome {
            Ok(Response::Pong) => {
                lookup.on_reached(query, bytes);
                send_on(self, None);
            }
            Ok(Response::Nodes(contacts)) => {
                let answer = QueryAnswer { contacts, bytes, ..QueryAnswer::default() };
                lookup.on_answer(now, query, answer);
            }
            Ok(Response::Values { values, closest, rest }) => {
                let answer = QueryAnswer { contacts: closest, values, more: rest.more, bytes };
                if let Some(after) = lookup.on_part(now, query, answer, &rest) {
                    send_on(self, after);
                }
            }
            Err(CallError::TimedOut) => lookup.on_failure(now, query, Outcome::TimedOut, bytes),
            _ => lookup.on_failure(now, query, Outcome::Failed, bytes),
        }
        self.drive_lookup(now, operation);
    }

    /// A response without contacts that are this node under any id.
    fn without_own(&self, mut response: Response) -> Response {
        if let Response::Nodes(contacts) | Response::Values { closest: contacts, .. } =
            &mut response
        {
            contacts.retain(|contact| !self.shared.is_own_address(&contact.address));
        }
        response
    }

    pub(super) fn on_overdue(&mut self, now: Instant, operation: OperationId, query: usize) {
        if let Some(lookup) = self.lookup(operation) {
            lookup.on_overdue(query);
            self.drive_lookup(now, operation);
        }
    }

    fn on_lookup_done(&mut self, now: Instant, lookup: Lookup, then: Then) {
        if let Goal::Node { target } = lookup.goal()
            && lookup.record().end == End::Converged
        {
            let (closest, contacts) = (&lookup.record().closest, self.overlay.table.len());
            self.overlay.estimator.on_lookup(
                &self.overlay.id,
                &target,
                closest,
                self.overlay.policy.k,
                contacts,
            );
        }
        self.cache_found(now, &lookup);
        let record = lookup.into_record();
        self.remember(&record);
        match then {
            Then::Report => self.shared.out.events.push_back(Event::LookupDone(record)),
            Then::Publish { value, mode, client } => {
                self.publish(now, record, (value, mode), client);
            }
            Then::Serve(client) => self.on_served(&client, &record),
            Then::EndRoute(report) => self.on_looked_up_instead(now, *report, record),
            Then::Replicate => self.on_holders_found(now, record.goal.target(), &record.closest),
            Then::Joined { bootstrap, .. } => self.on_joined(now, bootstrap),
            Then::Refresh => self.on_refreshed(now),
        }
    }

    /// Refreshes get half of the places at the most: joining begins one for each bucket, which
    /// would push out all else.
    fn remember(&mut self, record: &LookupRecord) {
        let refresh = |record: &LookupRecord| record.cause == Cause::Refresh;
        let refreshes = self.overlay.records.iter().filter(|record| refresh(record)).count();
        if refresh(record) && refreshes >= MAX_RECORDS / 2 {
            let oldest = self.overlay.records.iter().position(refresh);
            oldest.and_then(|at| self.overlay.records.remove(at));
        } else if self.overlay.records.len() == MAX_RECORDS {
            self.overlay.records.pop_front();
        }
        self.overlay.records.push_back(record.clone());
    }

    /// Sends a value to all nodes that a lookup found, at once, and keeps it here too if this node
    /// is among the k nearest.
    fn publish(
        &mut self,
        now: Instant,
        lookup: LookupRecord,
        (value, mode): (Value, StoreMode),
        client: Option<RouteClient>,
    ) {
        let (id, key) = (lookup.id, lookup.goal.target());
        let mut holders = lookup.closest.clone();
        holders.truncate(self.overlay.policy.replicas);
        let mut publish = Publish {
            value,
            mode,
            client,
            waiting: 0,
            report: StoreReport {
                id,
                key,
                deliveries: Vec::new(),
                stored: Vec::new(),
                refused: Vec::new(),
                silent: Vec::new(),
                kept_here: self.is_holder(&key, &holders),
                started: lookup.started,
                ended: now,
                lookup,
            },
        };
        if publish.report.kept_here {
            let (value, publisher) = (publish.value.clone(), Party::Own);
            let (standing, age) = (Standing::Published, Duration::ZERO);
            let deposit =
                Deposit { key, value, mode, publisher, depositor: publisher, standing, age };
            publish.report.kept_here =
                self.overlay.store.put(now, deposit, &mut self.shared.rng).is_ok();
        }
        for contact in holders {
            match self.send_store(now, contact.into(), id, &publish, Attempt::FIRST) {
                Ok(bytes) => {
                    let sent = now.since(publish.report.started);
                    publish.waiting += 1;
                    publish.report.deliveries.push(Delivery::begun(contact, sent, bytes));
                }
                Err(error) => publish.report.refused.push((contact, error.to_string())),
            }
        }
        self.go_on_publishing(now, publish);
    }

    /// Whether this node, compared with those that were found, is one of the nearest to a key, which hold
    /// its values.
    fn is_holder(&self, key: &Id, others: &[Contact]) -> bool {
        let own = key.distance(&self.overlay.id);
        let nearer = others.iter().filter(|contact| key.distance(&contact.id) < own).count();
        nearer < self.overlay.policy.replicas
    }

    fn send_store(
        &mut self,
        now: Instant,
        peer: Peer,
        operation: OperationId,
        publish: &Publish,
        progress: Attempt,
    ) -> Result<usize, CallError> {
        let Publish { value, mode, report, .. } = publish;
        let (key, value, mode) = (report.key, value.item(), *mode);
        let token = self.overlay.token_cache.token(now, &peer.address);
        let store = StoreRequest { key, value, mode, copy: None, token: Some(&token) };
        let purpose = Purpose::Publish { operation, progress };
        self.send(now, peer, &Request::Store(store), purpose)
    }

    pub(super) fn on_publish_done(
        &mut self,
        now: Instant,
        operation: OperationId,
        (call, progress): (&Call, Attempt),
        outcome: Result<Response, CallError>,
        bytes: usize,
    ) {
        let Some(Operation::Publish(mut publish)) = self.overlay.operations.remove(&operation)
        else {
            return;
        };
        let peer = call.peer;
        let contact =
            Contact { id: peer.id.expect("holders are known by id"), address: peer.address };
        let next = progress.after(&outcome);
        let again =
            next.and_then(|next| self.send_store(now, peer, operation, &publish, next).ok());
        let report = &mut publish.report;
        let delivery = report.deliveries.iter_mut().find(|delivery| delivery.contact == contact);
        let delivery = delivery.expect("what is answered was sent");
        delivery.on_call_done(now.since(call.sent), bytes);
        if let Some(bytes) = again {
            delivery.on_sent_again(bytes);
        }
        if again.is_none() {
            let outcome = delivered(outcome);
            match &outcome {
                DeliveryOutcome::Stored => report.stored.push(contact),
                DeliveryOutcome::Refused { reason } => {
                    report.refused.push((contact, reason.clone()));
                }
                DeliveryOutcome::TimedOut => report.silent.push(contact),
            }
            delivery.outcome = outcome;
            publish.waiting -= 1;
        }
        self.go_on_publishing(now, publish);
    }

    /// Waits for the answers that are still to come, or tells the caller how it went.
    fn go_on_publishing(&mut self, now: Instant, mut publish: Publish) {
        if publish.waiting > 0 {
            self.overlay.operations.insert(publish.report.id, Operation::Publish(publish));
            return;
        }
        publish.report.ended = now;
        if let Some(client) = publish.client {
            return self.on_stored_for(&client, &publish.report);
        }
        self.shared.out.events.push_back(Event::StoreDone(publish.report));
    }
}

/// What an answer to a store means, or its absence.
fn delivered(outcome: Result<Response, CallError>) -> DeliveryOutcome {
    let reason = match outcome {
        Ok(Response::Stored) => return DeliveryOutcome::Stored,
        Err(CallError::TimedOut) => return DeliveryOutcome::TimedOut,
        Ok(Response::Refused { reason, .. }) => reason,
        Ok(_) => CallError::BadReply.to_string(),
        Err(error) => error.to_string(),
    };
    DeliveryOutcome::Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Node;
    use crate::node::overlay::OverlayId;

    #[test]
    fn a_value_has_as_many_holders_as_the_network_lays_down() {
        let key = Id::of_name("key");
        let own = key.flipped(0);
        let mut node = Node::new(Instant::ZERO, own, Config::default(), [7; 32]);
        let active = node.active(OverlayId::FIRST);
        active.overlay.policy.replicas = 3;
        let nearer = |bit: u16| Contact {
            id: key.flipped(bit.into()),
            address: ([127, 0, 0, 1], bit).into(),
        };
        let found: Vec<Contact> = (1..=3).map(nearer).collect();
        assert!(active.is_holder(&key, &found[..2]));
        assert!(!active.is_holder(&key, &found));
    }
}
