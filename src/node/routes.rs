//! Routes: requests that nodes hand on until they reach a key, so that a client need not know what a DHT
//! is.
//!
//! ```text
//! client      entry E            n1            n2 (holds)
//!   |--route--->|                 |               |
//!   |           |--from=E-------->|--from=n1----->|
//!   |           |<-------------------------answer-|
//!   |<--answer--|
//! ```
//!
//! Each node hands a route to a contact that is nearer to the key than itself. A node that holds values
//! under the key, or knows nobody nearer, answers by way of the entry. Only the entry sees packets from the
//! client's address. So the entry validates it, sets the budget, and recognises its own
//! [ticket](crate::guard::tickets) when the answer comes. It remembers nothing of the request.
//!
//! What keeps it from becoming a loop or a reflector:
//! - A route from a node that is nearer to the key is dropped. So distances fall from one honest node to
//!   the next, however stale their tables are. Liars can only use up its hops.
//! - Until a client brings its token it is sent at most three times its bytes. Anybody can pose as a node
//!   on the way. So the address that an answer goes to gets no more bytes than came until it is validated,
//!   and the ping that validates it is counted.
//! - A route never grows on its way.
//!
//! The fast path in the kernel does the same with the routes that it is sure of.

use std::net::SocketAddr;

use rand::RngExt as _;

use crate::address::{LocalEnd, is_loopback};
use crate::bencode::{Item, Value};
use crate::guard::cost::Bill;
use crate::id::{Id, IdPrefix};
use crate::kad::lookup::{Goal, LookupRecord};
use crate::message::{
    Contact, Route, RouteAnswer, RouteFlags, RouteHop, RouteKind, StoreMode, TransactionId,
};
use crate::node::forwarding::{HOPS_MAX, OwnRoute};
use crate::node::operations::Then;
use crate::node::overlay::Active;
use crate::node::report::{RouteAttempt, RouteReport, StoreReport};
use crate::node::shared::Shared;
use crate::node::{Event, OperationId};
use crate::time::{Duration, Instant};
use crate::wire::{self, Envelope, Header, UnreadRoute};

/// Most values in an answer: there is seldom room for more.
const VALUES_MAX: usize = 32;

/// Datagrams that a lookup for a client is charged as: those of a lookup among some thousands of nodes.
const DATAGRAMS_OF_LOOKUP: u64 = 40;

/// Attempts with a route of the node's own, before it looks the key up node by node. Each attempt skips one
/// contact more.
const TRIES: u8 = 3;

/// Why a route goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dropped {
    /// It comes from a node that is nearer to the key.
    Nearer,
    /// The answer would go where it cannot come from.
    BadAddress,
    /// It asks a node on the way for something that only the entry does.
    Misplaced,
    /// Its ticket is forged, expired or used up.
    Ticket,
    /// Enough lookups and stores run for clients.
    Busy,
}

/// A client that the entry runs a lookup or a store for.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteClient {
    /// Where the request came in.
    local: LocalEnd,
    call: TransactionId,
    /// The fields that the answer repeats.
    route: Route<'static>,
}

impl Active<'_> {
    /// A route came in a datagram of `len` bytes.
    pub(super) fn on_route(
        &mut self,
        now: Instant,
        sender: Contact,
        local: LocalEnd,
        (envelope, unread): (&Envelope<'_>, UnreadRoute<'_>),
        len: usize,
    ) {
        let Ok(route) = unread.read() else {
            return self.shared.drop_unasked(now, sender.address, len, None);
        };
        let buckets = self.shared.limits.buckets_of(&sender.address);
        if !self.may_ask(now, buckets.as_ref(), &sender) {
            self.shared.counters.limited += 1;
            return self.shared.note_refused(now, sender.address, None);
        }
        let before = self.shared.counters;
        self.shared.bill = Bill::of_datagram(len);
        let call = envelope.transaction;
        let done = match sender.id {
            Id::ZERO => self.enter(now, sender.address, local, call, route, len),
            _ => self.pass(now, sender, local, call, route, len),
        };
        if let Err(dropped) = done {
            self.note_dropped(dropped);
        }
        if let Some(buckets) = buckets {
            self.shared.charge_request(now, &buckets, &before);
        }
    }

    fn note_dropped(&mut self, dropped: Dropped) {
        let counters = &mut self.shared.counters.routes;
        *match dropped {
            Dropped::Nearer => &mut counters.dropped_nearer,
            Dropped::BadAddress => &mut counters.dropped_address,
            Dropped::Misplaced => &mut counters.dropped_misplaced,
            Dropped::Ticket => &mut counters.dropped_ticket,
            Dropped::Busy => &mut counters.dropped_busy,
        } += 1;
    }

    /// Lets a client's route into the network.
    fn enter(
        &mut self,
        now: Instant,
        client: SocketAddr,
        local: LocalEnd,
        call: TransactionId,
        route: Route<'_>,
        len: usize,
    ) -> Result<(), Dropped> {
        self.shared.counters.routes.entered += 1;
        let is_proved = is_loopback(&client) || self.shared.tickets.accepts(now, &client, &route);
        let answer_max = self.answer_max();
        let budget =
            if is_proved { answer_max } else { answer_max.min(wire::AMPLIFICATION_MAX * len) };
        let stamp = self.shared.tickets.stamp(now);
        let mut route = Route {
            flags: route.flags.with(RouteFlags::PROVED, is_proved),
            hops_left: route.hops_left.min(HOPS_MAX),
            answer_to: client,
            budget: budget as u16,
            client,
            stamp,
            seal: [0; 8],
            ..route
        };
        if route.kind == RouteKind::Store || route.flags.has(RouteFlags::ITERATE) {
            route.seal = self.shared.tickets.token(stamp, &client);
            return self.serve(now, local, call, route);
        }
        match self.next_hop(&route, client.is_ipv4()) {
            Some(next) => {
                if !route.flags.has(RouteFlags::DIRECT) {
                    route.answer_to = self.shared.own_end(&local, &next.address);
                }
                route.seal = self.shared.tickets.ticket(&call, &route);
                self.forward(now, next, local, call, &route);
            }
            None => {
                route.seal = self.shared.tickets.token(stamp, &client);
                self.answer_route(now, client, local, call, &route, budget);
            }
        }
        Ok(())
    }

    /// Hands on a route that another node handed on, or answers it.
    fn pass(
        &mut self,
        now: Instant,
        sender: Contact,
        local: LocalEnd,
        call: TransactionId,
        mut route: Route<'_>,
        len: usize,
    ) -> Result<(), Dropped> {
        let own = self.overlay.id;
        if route.key.distance(&sender.id) <= route.key.distance(&own) {
            return Err(Dropped::Nearer);
        }
        if route.kind == RouteKind::Store {
            return Err(Dropped::Misplaced);
        }
        if route.answer_to == Route::NOWHERE {
            route.answer_to = sender.address;
        }
        let answer_to = route.answer_to;
        let same_family = answer_to.is_ipv4() == sender.address.is_ipv4();
        if !same_family || !local.believes(&answer_to) {
            return Err(Dropped::BadAddress);
        }
        if let Some(next) = self.next_hop(&route, answer_to.is_ipv4()) {
            let route = Route { hops_left: route.hops_left.min(HOPS_MAX), ..route };
            self.forward(now, next, local, call, &route);
            return Ok(());
        }
        let budget = usize::from(route.budget).min(self.answer_max());
        let is_validated = self.receives(&answer_to);
        let ping = self.overlay.dialect.sizes().ping;
        let max = if is_validated { budget } else { budget.min(len.saturating_sub(ping)) };
        self.answer_route(now, answer_to, local, call, &route, max);
        if !is_validated {
            let stranger = Contact { id: Id::ZERO, address: answer_to };
            self.verify(now, &stranger, local);
        }
        Ok(())
    }

    /// Whether an address is known to receive datagrams, whatever node is there.
    fn receives(&self, address: &SocketAddr) -> bool {
        self.shared.validated.contains(address)
            || self.overlay.table.good().any(|entry| entry.contact.address == *address)
    }

    /// Most bytes of an answer.
    fn answer_max(&self) -> usize {
        self.overlay.dialect.sizes().answer_max
    }

    /// The contact to hand a route to; `None` if this node answers it.
    fn next_hop(&mut self, route: &Route<'_>, is_ipv4: bool) -> Option<Contact> {
        if route.hops_left == 0 || self.overlay.store.count_under(&route.key) > 0 {
            return None;
        }
        self.shared.bill.named();
        let (table, key) = (&self.overlay.table, &route.key);
        table.nearer(key, is_ipv4).nth(route.skip.into())
    }

    fn forward(
        &mut self,
        now: Instant,
        next: Contact,
        local: LocalEnd,
        call: TransactionId,
        route: &Route<'_>,
    ) {
        let header = self.header(call);
        let start = self.shared.out.bytes.len();
        let handed_on = Route { hops_left: route.hops_left - 1, ..*route };
        wire::emit(&mut self.shared.out.bytes, &header, wire::Message::Route(&handed_on));
        if route.flags.has(RouteFlags::TRACE) {
            let hop = self.hop(now, route.stamp);
            let rest = self.shared.out.bytes.len() - route.rest.len();
            self.overlay.dialect.put_route_hop(&mut self.shared.out.bytes[rest..], hop);
        }
        self.shared.transmit(next.address, local.toward(&next.address), start);
        self.shared.counters.routes.forwarded += 1;
        self.overlay.forwarding.on_used(now, next);
    }

    fn header(&self, transaction: TransactionId) -> Header {
        Header { dialect: self.overlay.dialect, from: self.overlay.id, transaction, asker: None }
    }

    /// The mark of this node in a trace.
    fn hop(&self, now: Instant, stamp: u16) -> RouteHop {
        let micros = self.shared.tickets.since_stamp(now, stamp);
        RouteHop { id: IdPrefix::of(&self.overlay.id), micros }
    }

    /// This node's contact, with the address at which `answer_to` reaches it.
    fn as_seen_from(&self, local: &LocalEnd, answer_to: &SocketAddr) -> Option<Contact> {
        let address = self.shared.own_end(local, answer_to);
        (address != Route::NOWHERE).then_some(Contact { id: self.overlay.id, address })
    }

    /// Answers a route that ends here. The datagram has at most `max` bytes; none is sent if they do not suffice.
    fn answer_route(
        &mut self,
        now: Instant,
        answer_to: SocketAddr,
        local: LocalEnd,
        call: TransactionId,
        route: &Route<'_>,
        max: usize,
    ) {
        let (key, dialect) = (&route.key, self.overlay.dialect);
        let marks = self.marks(now, route);
        let max_payload = max.saturating_sub(marks.len());
        let own = self.as_seen_from(&local, &answer_to).ok_or(RouteAnswer::Cut);
        let answer = match route.kind {
            RouteKind::Locate => own.map_or_else(|cut| cut, RouteAnswer::Located),
            RouteKind::FindValue => {
                let values_max = dialect.route_values_max(max_payload);
                let store = &self.overlay.store;
                match store.pick(key, VALUES_MAX, values_max, None, &mut self.shared.rng) {
                    None => RouteAnswer::Nothing,
                    Some(picked) => {
                        self.shared.bill.ordered(picked.examined);
                        match picked.values.cloned().collect::<Vec<_>>() {
                            none if none.is_empty() => {
                                own.map_or_else(|cut| cut, RouteAnswer::HeldAt)
                            }
                            values => RouteAnswer::Values(values),
                        }
                    }
                }
            }
            RouteKind::Store => unreachable!("the entry stores"),
        };
        self.send_answer(answer_to, &local, call, route, (&answer, &marks), max);
    }

    /// The marks of the trace and this node's own, if there is room for it.
    fn marks(&self, now: Instant, route: &Route<'_>) -> Vec<u8> {
        if !route.flags.has(RouteFlags::TRACE) {
            return Vec::new();
        }
        let dialect = self.overlay.dialect;
        let mut marks = route.rest.to_vec();
        dialect.put_route_hop(&mut marks, self.hop(now, route.stamp));
        let used = dialect.route_hops(&marks).count() * dialect.sizes().route_hop;
        marks.truncate(used);
        marks
    }

    fn send_answer(
        &mut self,
        to: SocketAddr,
        local: &LocalEnd,
        call: TransactionId,
        route: &Route<'_>,
        (answer, marks): (&RouteAnswer, &[u8]),
        max: usize,
    ) {
        let dialect = self.overlay.dialect;
        let Some(room) = max.checked_sub(dialect.sizes().route) else { return };
        let mut payload = dialect.encode_route_answer(answer);
        if payload.len() > room {
            payload.clear();
        }
        let rest = if payload.len() + marks.len() > room { &[] } else { marks };
        let header = self.header(call);
        let start = self.shared.out.bytes.len();
        let answer = Route { payload: &payload, rest, ..*route };
        wire::emit(&mut self.shared.out.bytes, &header, wire::Message::Routed(&answer));
        self.shared.transmit(to, local.toward(&to), start);
        self.shared.counters.routes.answered += 1;
    }

    /// An answer to a route came back in a datagram of `len` bytes.
    pub(super) fn on_routed(
        &mut self,
        now: Instant,
        sender: Contact,
        local: LocalEnd,
        (envelope, unread): (&Envelope<'_>, UnreadRoute<'_>),
        len: usize,
    ) {
        let call = envelope.transaction;
        let known = unread.read().ok().filter(|route| self.shared.tickets.knows(now, &call, route));
        let Some(route) = known else {
            self.note_dropped(Dropped::Ticket);
            return self.shared.drop_unasked(now, sender.address, len, None);
        };
        if self.overlay.forwarding.is_own(&call) {
            return self.on_own_routed(now, sender.id, call, &route, len);
        }
        if !self.shared.tickets.take(now, &route, len) {
            return self.note_dropped(Dropped::Ticket);
        }
        let stamp = self.shared.tickets.stamp(now);
        let seal = self.shared.tickets.token(stamp, &route.client);
        let header = Header { from: sender.id, ..self.header(call) };
        let start = self.shared.out.bytes.len();
        let answer = Route { stamp, seal, ..route };
        wire::emit(&mut self.shared.out.bytes, &header, wire::Message::Routed(&answer));
        self.shared.transmit(route.client, local.toward(&route.client), start);
        self.shared.counters.routes.relayed += 1;
    }

    /// The system reports that nobody listens at an address that the datagram `bytes` was sent to. The report
    /// may be forged, so it is a hint. If the datagram was a route, it takes another way.
    pub(super) fn on_unreachable(&mut self, now: Instant, at: SocketAddr, bytes: &[u8]) {
        let gone = self.overlay.table.good().find(|entry| entry.contact.address == at);
        let Some(gone) = gone.map(|entry| entry.contact) else { return };
        if !self.overlay.forwarding.is_used(&gone) || !self.overlay.forwarding.may_reroute(now) {
            return;
        }
        self.check_liveness(now, gone, 1);
        let Ok(Envelope {
            sender: Some(sender), transaction, body: wire::Body::Route(unread), ..
        }) = wire::parse(bytes)
        else {
            return;
        };
        let Ok(route) = unread.read() else { return };
        let is_ipv4 = at.is_ipv4();
        let next = self.overlay.table.nearer(&route.key, is_ipv4).find(|contact| *contact != gone);
        if let Some(next) = next.filter(|_| sender == self.overlay.id) {
            // The hop that failed does not count.
            let hops_left = route.hops_left.saturating_add(1).min(HOPS_MAX);
            let route = Route { hops_left, ..route };
            self.forward(now, next, LocalEnd::default(), transaction, &route);
        }
    }

    /// Asks contacts whether they live if they were handed routes and have been silent since, and tries own
    /// routes again if their answers are overdue.
    pub(super) fn tend_routes(&mut self, now: Instant) {
        while let Some((at, contact)) = self.overlay.forwarding.take_due(now) {
            let entry = self.overlay.table.entry(&contact.id);
            if entry.is_some_and(|entry| entry.contact == contact && entry.last_seen <= at) {
                self.check_liveness(now, contact, 1);
            }
        }
        while let Some(route) = self.overlay.forwarding.take_overdue(now) {
            self.try_route_again(now, route);
        }
    }
}

/// Lookups and stores that the entry runs for clients.
impl Active<'_> {
    fn serve(
        &mut self,
        now: Instant,
        local: LocalEnd,
        call: TransactionId,
        route: Route<'_>,
    ) -> Result<(), Dropped> {
        let value = Item::parse(route.payload).ok().and_then(|item| Value::of(item).ok());
        let client = RouteClient { local, call, route: Route { payload: &[], rest: &[], ..route } };
        let refuse = |reason: &str| RouteAnswer::Refused { reason: reason.to_owned() };
        // The datagrams of a lookup go to nodes that have not asked for them.
        if !route.flags.has(RouteFlags::PROVED) {
            let answer = match route.kind {
                RouteKind::Store => refuse("the address is not proved, send the token"),
                RouteKind::Locate | RouteKind::FindValue => RouteAnswer::Cut,
            };
            self.tell_client(&client, &answer);
            return Ok(());
        }
        let bytes = self.overlay.dialect.sizes().lookup_min() as u64;
        let then = Then::Serve(client);
        let goal = match (route.kind, value) {
            (RouteKind::Store, None) => {
                self.tell_client(&client, &refuse("the value cannot be read"));
                return Ok(());
            }
            (RouteKind::Store, Some(value)) => {
                let max = self.shared.config.max_value_bytes;
                if value.as_bytes().len() > max {
                    self.tell_client(&client, &refuse(&format!("larger than {max} bytes")));
                    return Ok(());
                }
                if !self.overlay.forwarding.try_serve() {
                    return Err(Dropped::Busy);
                }
                self.shared.bill.sent(2 * DATAGRAMS_OF_LOOKUP, 2 * DATAGRAMS_OF_LOOKUP * bytes);
                let then = Then::Publish { value, mode: StoreMode::Add, client: Some(client) };
                self.begin_lookup(now, Goal::Node { target: route.key }, then);
                return Ok(());
            }
            (RouteKind::Locate, _) => Goal::Node { target: route.key },
            (RouteKind::FindValue, _) => {
                Goal::Value { key: route.key, max_nodes: 1, max_entries: VALUES_MAX }
            }
        };
        if !self.overlay.forwarding.try_serve() {
            return Err(Dropped::Busy);
        }
        self.shared.bill.sent(DATAGRAMS_OF_LOOKUP, DATAGRAMS_OF_LOOKUP * bytes);
        self.begin_lookup(now, goal, then);
        Ok(())
    }

    /// A lookup for a client has ended.
    pub(super) fn on_served(&mut self, client: &RouteClient, record: &LookupRecord) {
        self.overlay.forwarding.on_served();
        let max = usize::from(client.route.budget);
        let own = self.as_seen_from(&client.local, &client.route.client);
        let answer = self.answer_of(record, own, client.route.kind, max);
        self.tell_client(client, &answer);
    }

    /// What a lookup has found, as an answer to a route of a kind.
    fn answer_of(
        &self,
        record: &LookupRecord,
        own: Option<Contact>,
        kind: RouteKind,
        max: usize,
    ) -> RouteAnswer {
        let key = record.goal.target();
        if kind == RouteKind::Locate {
            let all = record.closest.iter().copied().chain(own);
            let nearest = all.min_by_key(|contact| key.distance(&contact.id));
            return nearest.map_or(RouteAnswer::Cut, RouteAnswer::Located);
        }
        let mut left = self.overlay.dialect.route_values_max(max);
        let values: Vec<Value> = record.values.iter().map(|found| &found.value).cloned().collect();
        let is_empty = values.is_empty();
        let fitting = values.into_iter().filter(|value| {
            let fits = value.as_bytes().len() <= left;
            left -= if fits { value.as_bytes().len() } else { 0 };
            fits
        });
        let fitting: Vec<_> = fitting.take(VALUES_MAX).collect();
        let holder = record.values.iter().find_map(|found| found.holder).or(own);
        match (is_empty, fitting.is_empty(), holder) {
            (true, ..) => RouteAnswer::Nothing,
            (false, true, Some(holder)) => RouteAnswer::HeldAt(holder),
            (false, true, None) => RouteAnswer::Cut,
            (false, false, _) => RouteAnswer::Values(fitting),
        }
    }

    /// A store for a client has ended.
    pub(super) fn on_stored_for(&mut self, client: &RouteClient, report: &StoreReport) {
        self.overlay.forwarding.on_served();
        let answer = if report.stored.is_empty() && !report.kept_here {
            let reason = report.refused.first().map(|(_, reason)| reason.clone());
            RouteAnswer::Refused { reason: reason.unwrap_or_else(|| "no node answered".to_owned()) }
        } else {
            RouteAnswer::Stored
        };
        self.tell_client(client, &answer);
    }

    fn tell_client(&mut self, client: &RouteClient, answer: &RouteAnswer) {
        let RouteClient { local, call, route } = client;
        let max = usize::from(route.budget);
        self.send_answer(route.client, local, *call, route, (answer, &[]), max);
    }
}

/// Routes of the node's own: it is both client and entry.
impl Active<'_> {
    /// Sends a route to a key.
    pub(super) fn start_route(
        &mut self,
        now: Instant,
        key: Id,
        kind: RouteKind,
        wants_trace: bool,
    ) -> OperationId {
        let id = self.shared.new_operation();
        let report = RouteReport::begun(now, id, key, kind);
        self.try_route(now, OwnRoute { report, deadline: now, wants_trace });
        id
    }

    /// Makes the next attempt.
    fn try_route(&mut self, now: Instant, mut own: OwnRoute) {
        let RouteReport { key, kind, ref attempts, .. } = own.report;
        let skip = attempts.len() as u8;
        let call = TransactionId::new(self.shared.rng.random::<[u8; 8]>());
        let sizes = self.overlay.dialect.sizes();
        let padding = vec![0; sizes.lookup_min() - sizes.route];
        let mut route = Route {
            flags: RouteFlags::PROVED.with(RouteFlags::TRACE, own.wants_trace),
            hops_left: HOPS_MAX,
            skip,
            kind,
            key,
            answer_to: Route::NOWHERE,
            budget: sizes.answer_max as u16,
            client: Route::NOWHERE,
            stamp: self.shared.tickets.stamp(now),
            seal: [0; 8],
            payload: &[],
            rest: &padding,
        };
        let is_ipv4 = self.shared.own_addresses().next().is_none_or(|own| own.is_ipv4());
        let next = self.next_hop(&route, is_ipv4);
        let Some(next) = next.filter(|_| self.overlay.forwarding.has_room()) else {
            return self.answer_own(now, own);
        };
        route.answer_to = self.shared.own_end(&LocalEnd::default(), &next.address);
        route.seal = self.shared.tickets.ticket(&call, &route);
        own.report.attempts.push(RouteAttempt {
            skip,
            to: next,
            sent: now.since(own.report.started),
            took: Duration::ZERO,
            is_answered: false,
            bytes_sent: sizes.lookup_min(),
            bytes_received: 0,
            hops: Vec::new(),
        });
        own.deadline = now + self.shared.round_trips.timeout().times(2);
        self.forward(now, next, LocalEnd::default(), call, &route);
        self.overlay.forwarding.insert_own(call, own);
    }

    /// The route ends where it begins: here.
    fn answer_own(&mut self, now: Instant, mut own: OwnRoute) {
        let (store, rng) = (&self.overlay.store, &mut self.shared.rng);
        let held = store.pick(&own.report.key, VALUES_MAX, usize::MAX, None, rng);
        own.report.answer = match (own.report.kind, held) {
            (RouteKind::FindValue, None) => return self.look_up_instead(now, own),
            (RouteKind::FindValue, Some(picked)) => {
                RouteAnswer::Values(picked.values.cloned().collect())
            }
            (RouteKind::Locate | RouteKind::Store, _) => match self.itself() {
                Some(itself) => RouteAnswer::Located(itself),
                None => RouteAnswer::Cut,
            },
        };
        own.report.by = Some(self.overlay.id);
        self.end_route(now, own.report);
    }

    /// This node's contact; `None` while it does not know its address.
    fn itself(&self) -> Option<Contact> {
        let address = self.shared.own_addresses().next()?;
        Some(Contact { id: self.overlay.id, address })
    }

    fn on_own_routed(
        &mut self,
        now: Instant,
        by: Id,
        call: TransactionId,
        route: &Route<'_>,
        len: usize,
    ) {
        let mut own = self.overlay.forwarding.take_own(&call).expect("looked at before");
        let dialect = self.overlay.dialect;
        let started = own.report.started;
        let attempt = own.report.attempts.last_mut().expect("it was sent");
        attempt.is_answered = true;
        attempt.took = now.since(started + attempt.sent);
        attempt.bytes_received = len;
        if route.flags.has(RouteFlags::TRACE) {
            attempt.hops = dialect.route_hops(route.rest).collect();
        }
        match wire::read_route_answer(dialect, own.report.kind, route.payload) {
            // Tables may be stale: only a lookup can tell that there is nothing.
            Ok(RouteAnswer::Nothing | RouteAnswer::Cut) | Err(_) => {
                self.try_route_again(now, own);
            }
            Ok(answer) => {
                own.report.answer = answer;
                own.report.by = Some(by);
                self.end_route(now, own.report);
            }
        }
    }

    fn try_route_again(&mut self, now: Instant, mut own: OwnRoute) {
        let started = own.report.started;
        if let Some(attempt) = own.report.attempts.last_mut().filter(|last| !last.is_answered) {
            attempt.took = now.since(started + attempt.sent);
        }
        match own.report.attempts.len() < usize::from(TRIES) {
            true => self.try_route(now, own),
            false => self.look_up_instead(now, own),
        }
    }

    fn look_up_instead(&mut self, now: Instant, own: OwnRoute) {
        let OwnRoute { report, .. } = own;
        let goal = match report.kind {
            RouteKind::FindValue => {
                Goal::Value { key: report.key, max_nodes: 1, max_entries: VALUES_MAX }
            }
            RouteKind::Locate | RouteKind::Store => Goal::Node { target: report.key },
        };
        self.begin_lookup(now, goal, Then::EndRoute(Box::new(report)));
    }

    /// The lookup in place of a route has ended.
    pub(super) fn on_looked_up_instead(
        &mut self,
        now: Instant,
        mut report: RouteReport,
        record: LookupRecord,
    ) {
        report.answer = self.answer_of(&record, self.itself(), report.kind, usize::MAX);
        report.fallback = Some(record);
        self.end_route(now, report);
    }

    fn end_route(&mut self, now: Instant, mut report: RouteReport) {
        report.ended = now;
        self.shared.out.events.push_back(Event::RouteDone(report));
    }
}

impl Shared {
    /// The address at which `toward` reaches this node: the one that was asked, if both are of one family and
    /// both or neither are loopback; else one of its own that is; [`Route::NOWHERE`] if it knows none.
    fn own_end(&self, local: &LocalEnd, toward: &SocketAddr) -> SocketAddr {
        let asked = local.toward(toward).ip.zip(self.own_addresses().next());
        let is_alike = |own: &SocketAddr| {
            own.is_ipv4() == toward.is_ipv4() && is_loopback(own) == is_loopback(toward)
        };
        asked
            .map(|(ip, own)| SocketAddr::new(ip, own.port()))
            .or_else(|| self.own_addresses().find(is_alike))
            .unwrap_or(Route::NOWHERE)
    }
}
