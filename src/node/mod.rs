//! The node: a state machine without sockets, tasks, clocks or global randomness.
//!
//! Datagrams and the time go in, datagrams and events come out; around it stands a loop that owns
//! a socket and a clock (`net`) or a virtual network (`sim`). Read [`Node`] first, then
//! [`kad::routing`](crate::kad::routing), [`kad::lookup`](crate::kad::lookup) and [`store`](crate::store).
//!
//! # The caller's contract
//! - After each `handle`, `start_*` or `answer` drain [`Node::poll_output`] until it yields
//!   [`Output::Timeout`], and call `handle` with [`Input::Timeout`] when that instant has come.
//! - Time never runs backwards.
//! - The same seed and the same calls give the same outputs, byte for byte.
//! - Nothing that a datagram holds makes the node panic, or take more memory or time than the
//!   bounds named at each table allow.

mod answers;
mod calls;
mod deferred;
mod fair;
mod joining;
mod lost;
mod maintenance;
mod operations;
mod repeats;
mod replication;
mod report;
mod spread;
mod vigil;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::address::{LocalEnd, is_sendable};
use crate::config::Config;
use crate::guard::challenge::Challenge;
use crate::guard::cost::Bill;
use crate::guard::limits::{Account, Limits, Refused};
use crate::guard::rations::Rations;
use crate::guard::tokens::{TokenCache, TokenIssuer};
use crate::guard::validated::Validated;
use crate::id::Id;
use crate::kad::estimate::{Estimate, Estimator};
use crate::kad::lookup::LookupRecord;
use crate::kad::routing::{Insertion, Table};
use crate::kad::rtt::RoundTrips;
use crate::kad::silent::Silent;
use crate::message::{Contact, Request, Response, Rest, Rpc, RpcError, TransactionId};
use crate::node::answers::Pending;
use crate::node::calls::{Call, Calls, Expired, MAX_CALLS, Purpose};
use crate::node::deferred::Deferred;
use crate::node::joining::Joining;
use crate::node::lost::Lost;
use crate::node::maintenance::Maintenance;
use crate::node::operations::Operation;
use crate::node::replication::Replication;
use crate::node::vigil::Vigil;
use crate::store::{Change, Deposit, Refusal, RowId, Store};
use crate::time::{Duration, Instant};
use crate::wire::{self, Body, Dialect, Envelope, Header, Message};

pub use crate::kad::OperationId;
pub use crate::node::answers::{RegisterError, RequestToken, RpcFailed};
pub use crate::node::calls::Peer;
pub use crate::node::report::{CallError, Counters, Delivery, DeliveryOutcome, Event, StoreReport};
pub use crate::node::spread::Spread;

/// Lookups remembered for people to look at: a screenful.
const MAX_RECORDS: usize = 16;

/// Own addresses that a node remembers: one a protocol family and interface, for most machines.
const MAX_OWN_ADDRESSES: usize = 16;

/// What happens to a node.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram came.
    Datagram {
        /// From where.
        source: SocketAddr,
        /// Where it came in.
        local: LocalEnd,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Somebody asked something that was answered elsewhere, as a fast path in the kernel does. The
    /// node counts nothing and answers nothing, but treats the asker like any other that asks: it
    /// notes the sighting of a contact, and asks a stranger or a doubtful contact back.
    Seen {
        /// Who asked, under the address that the question came from.
        contact: Contact,
    },
    /// The instant named by the last [`Output::Timeout`] has come.
    Timeout,
}

/// What a node wants done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "events are rare, and moved no further than once")]
pub enum Output<'a> {
    /// Send this datagram.
    Transmit {
        /// To where.
        destination: SocketAddr,
        /// From where: for an answer the end that was asked.
        local: LocalEnd,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Somebody may want to know.
    Event(Event),
    /// Nothing until then, [`Instant::NEVER`] if nothing is due.
    Timeout(Instant),
}

/// A Kademlia node.
///
/// ```
/// use kademlua::address::LocalEnd;
/// use kademlua::id::Id;
/// use kademlua::node::{Input, Node, Output, config::Config};
/// use kademlua::time::Instant;
///
/// let now = Instant::ZERO;
/// let mut node = Node::new(now, Id::of_name("8302"), Config::default(), [7; 32]);
/// let mut ping = vec![1];
/// ping.extend([9; 20]);
/// ping.extend(*b"rpc id..\x01\x00\x16d4:name4:ping4:argslee");
///
/// let source = ([127, 0, 0, 1], 9301).into();
/// node.handle(now, Input::Datagram { source, local: LocalEnd::default(), bytes: &ping });
/// let Output::Transmit { destination, bytes, .. } = node.poll_output() else { panic!() };
/// assert_eq!(destination, source);
/// assert!(bytes.ends_with(b"rpc id..\x81\x00\x05li5ee"));
/// ```
pub struct Node {
    dialect: Dialect,
    id: Id,
    /// Where it is reached, as far as it knows.
    own_addresses: Vec<SocketAddr>,
    config: Config,
    rng: ChaCha8Rng,
    started: Instant,
    table: Table,
    store: Store,
    calls: Calls,
    validated: Validated,
    limits: Limits,
    token_issuer: TokenIssuer,
    challenge: Challenge,
    rations: Rations,
    token_cache: TokenCache,
    round_trips: RoundTrips,
    operations: BTreeMap<OperationId, Operation>,
    last_operation: u64,
    maintenance: Maintenance,
    replication: Replication,
    lost: Lost,
    joining: Joining,
    vigil: Vigil,
    silent: Silent,
    estimator: Estimator,
    /// RPCs that the application answers.
    registered: BTreeSet<Vec<u8>>,
    pending: Pending,
    deferred: Deferred,
    records: VecDeque<LookupRecord>,
    counters: Counters,
    /// Of the request that is being answered.
    bill: Bill,
    has_told_crowded: bool,
    has_told_twin: bool,
    out: Outbox,
}

impl Node {
    /// A node that knows nobody.
    ///
    /// # Panics
    /// If the configuration does not pass [`Config::check`].
    pub fn new(now: Instant, id: Id, config: Config, seed: [u8; 32]) -> Node {
        config.check().expect("a configuration within its ranges");
        // A stream of its own, so that it shifts nothing else that the seed decides.
        let mut secrets = ChaCha8Rng::from_seed(seed);
        secrets.set_stream(1);
        let dialect = Dialect::V1;
        Node {
            dialect,
            id,
            own_addresses: Vec::new(),
            rng: ChaCha8Rng::from_seed(seed),
            started: now,
            table: Table::new(now, id, &config, dialect.contact_encoder()),
            store: Store::new(id, &config),
            calls: Calls::default(),
            validated: Validated::default(),
            limits: Limits::new(&config, &mut secrets),
            token_issuer: TokenIssuer::new(&mut secrets),
            challenge: Challenge::new(&mut secrets),
            rations: Rations::new(&mut secrets),
            token_cache: TokenCache::default(),
            round_trips: RoundTrips::new(config.rpc_timeout_min, config.rpc_timeout_max),
            operations: BTreeMap::new(),
            last_operation: 0,
            maintenance: Maintenance::default(),
            replication: Replication::default(),
            lost: Lost::default(),
            joining: Joining::default(),
            vigil: Vigil::default(),
            silent: Silent::default(),
            estimator: Estimator::default(),
            registered: BTreeSet::new(),
            pending: Pending::default(),
            deferred: Deferred::default(),
            records: VecDeque::new(),
            counters: Counters::default(),
            bill: Bill::default(),
            has_told_crowded: false,
            has_told_twin: false,
            out: Outbox::default(),
            config,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram { source, local, bytes } => {
                self.on_datagram(now, source, local, bytes);
            }
            Input::Seen { contact } => {
                if is_sendable(&contact.address) {
                    self.on_asked(now, contact, LocalEnd::default());
                }
            }
            Input::Timeout => self.on_timeout(now),
        }
    }

    /// The next thing to do; see the contract above.
    pub fn poll_output(&mut self) -> Output<'_> {
        if self.out.transmits.is_empty() && self.out.events.is_empty() {
            self.out.forget_sent();
            return Output::Timeout(self.next_timeout());
        }
        match self.out.transmits.pop_front() {
            Some(Transmit { destination, local, start, end }) => {
                Output::Transmit { destination, local, bytes: &self.out.bytes[start..end] }
            }
            None => Output::Event(self.out.events.pop_front().expect("one of them has something")),
        }
    }

    /// Takes in a contact that the caller vouches for, as if it had just answered. Returns whether
    /// it is in the routing table now.
    pub fn introduce(&mut self, now: Instant, contact: Contact) -> bool {
        let insertion = self.table.on_answer(now, contact, None);
        self.schedule_refresh();
        matches!(insertion, Insertion::Added | Insertion::Known)
    }

    /// Tells the node where it is reached itself, so that it never asks there. It learns that too
    /// when it hears itself.
    pub fn add_own_address(&mut self, address: SocketAddr) {
        if self.own_addresses.len() < MAX_OWN_ADDRESSES && !self.is_own_address(&address) {
            self.own_addresses.push(address);
        }
    }

    fn is_own_address(&self, address: &SocketAddr) -> bool {
        self.own_addresses.contains(address)
    }

    /// The node's own id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The settings it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The contacts it knows.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The values it keeps.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes in a value that it kept in an earlier life, in the row of the store that it had then.
    ///
    /// # Errors
    /// If a limit stands against it. The row's number is not given to another then either.
    pub fn restore(&mut self, now: Instant, row: RowId, deposit: Deposit) -> Result<(), Refusal> {
        self.store.restore(now, row, deposit, &mut self.rng)
    }

    /// From now on [`Node::take_changed`] tells which rows of the store have changed.
    pub fn note_changes(&mut self) {
        self.store.note_changes();
    }

    /// Whether it has something to tell.
    pub fn has_changes(&self) -> bool {
        self.store.has_changes()
    }

    /// Some of the rows of the store that have changed since they were last told, `max` at most;
    /// [`Store::row`] tells what is there now.
    pub fn take_changed(&mut self, max: usize) -> Vec<Change> {
        self.store.take_changed(max)
    }

    /// Tells a change once more, later.
    pub fn note_changed(&mut self, change: Change) {
        self.store.note_changed(change);
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The last lookups that ended, the oldest first, those of maintenance too.
    pub fn records(&self) -> impl Iterator<Item = &LookupRecord> {
        self.records.iter()
    }

    /// How many operations run.
    pub fn operation_count(&self) -> usize {
        self.operations.len()
    }

    /// How many nodes there are in the network, as far as this one can tell.
    pub fn estimate(&self) -> Estimate<'_> {
        self.estimator.estimate(&self.table)
    }

    fn next_timeout(&self) -> Instant {
        self.calls
            .next_timeout()
            .min(self.store.next_due())
            .min(self.pending.next_timeout())
            .min(self.deferred.next_timeout())
            .min(self.maintenance.next_timeout())
            .min(self.lost.next_timeout())
            .min(self.joining.next_timeout())
            .min(self.vigil.next_timeout())
    }

    fn on_timeout(&mut self, now: Instant) {
        while let Some(expired) = self.calls.pop_expired(now) {
            match expired {
                Expired::Overdue { operation, query } => self.on_overdue(now, operation, query),
                Expired::TimedOut(call) => self.on_call_timed_out(now, call),
            }
        }
        self.fail_overdue_requests(now);
        self.answer_overdue_questions(now);
        self.maintain(now);
    }

    fn on_datagram(&mut self, now: Instant, source: SocketAddr, local: LocalEnd, bytes: &[u8]) {
        self.counters.datagrams_in += 1;
        self.counters.bytes_in += bytes.len() as u64;
        if !local.believes(&source) {
            // Forged, so that nobody is to be charged for it.
            self.counters.dropped += 1;
            return;
        }
        let Ok(envelope) = wire::parse(bytes) else {
            return self.drop_unasked(now, source, bytes.len(), None);
        };
        match (envelope.body, envelope.sender) {
            (Body::Query(query), Some(id)) => {
                if id == self.id {
                    self.calls.on_heard(&envelope.transaction);
                }
                let account = self.limits.account(&source);
                let asker = Contact { id, address: source };
                if !self.may_ask(now, account.as_ref(), &asker) {
                    self.counters.limited += 1;
                    return self.note_refused(now, source, None);
                }
                let before = self.counters;
                self.bill = Bill::of_datagram(bytes.len());
                self.on_request(now, asker, local, (&envelope, query), bytes.len());
                if let Some(account) = account {
                    self.charge_request(now, &account, &before);
                }
            }
            (_, Some(id)) => {
                let contact = Contact { id, address: source };
                self.on_reply(now, contact, &envelope, bytes.len());
            }
            (_, None) => self.drop_unasked(now, source, bytes.len(), Some(envelope.transaction)),
        }
    }

    /// Whether a request is within the limits.
    fn may_ask(&self, now: Instant, account: Option<&Account>, asker: &Contact) -> bool {
        account.is_none_or(|account| {
            self.limits.has_left(now, account)
                && (self.limits.has_left_for_all(now, false)
                    || self.is_validated(asker) && self.limits.has_left_for_all(now, true))
        })
    }

    /// Whether the asker receives what is sent to the address that it seems to ask from: it is a contact
    /// that answers, or has lately answered something or sent a token back.
    fn is_validated(&self, asker: &Contact) -> bool {
        is_validated(&self.validated, &self.table, asker)
    }

    /// Charges a request for what it has cost, all that was sent since then with it.
    fn charge_request(&mut self, now: Instant, account: &Account, before: &Counters) {
        let datagrams = self.counters.datagrams_out - before.datagrams_out;
        self.bill.sent(datagrams, self.counters.bytes_out - before.bytes_out);
        self.limits.charge(now, account, self.bill.nanos());
        self.limits.charge_all(now, self.bill.nanos());
    }

    /// What is no message, or a reply to nothing, is dropped, and charged for all the same.
    fn drop_unasked(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: usize,
        replies_to: Option<TransactionId>,
    ) {
        self.counters.dropped += 1;
        self.charge_unasked(now, source, bytes, replies_to);
    }

    fn charge_unasked(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: usize,
        replies_to: Option<TransactionId>,
    ) {
        let Some(account) = self.limits.account(&source) else { return };
        if self.limits.has_left(now, &account) {
            self.limits.charge(now, &account, Bill::of_datagram(bytes).nanos());
        } else {
            self.note_refused(now, source, replies_to);
        }
    }

    /// Counts a datagram beyond the limits. What replies as only the source can is no matter of whoever
    /// forges its address, and is counted apart.
    fn note_refused(
        &mut self,
        now: Instant,
        source: SocketAddr,
        replies_to: Option<TransactionId>,
    ) {
        let prefix = self.challenge.prefix(source.ip());
        let is_genuine = replies_to.is_some_and(|id| id.as_bytes().starts_with(&prefix));
        if self.limits.refuse(now, source.ip(), is_genuine) == Refused::Flood {
            let reply_prefix = (!is_genuine).then_some(prefix);
            self.out.events.push_back(Event::Flood { source: source.ip(), reply_prefix });
        }
    }

    fn on_reply(&mut self, now: Instant, contact: Contact, envelope: &Envelope<'_>, bytes: usize) {
        let Some(call) = self.calls.take(envelope.transaction, &contact) else {
            return self.on_unawaited_reply(now, contact, envelope.transaction, bytes);
        };
        self.maintenance.on_call_ended(&call);
        if contact.id == self.id {
            if call.is_heard {
                // The question has arrived here: we were given our own address.
                self.add_own_address(contact.address);
                return self.on_call_done(now, call, None, Err(CallError::Own), bytes);
            }
            if !std::mem::replace(&mut self.has_told_twin, true) {
                self.out.events.push_back(Event::Twin(contact.address));
            }
            return self.on_call_done(now, call, None, Err(CallError::Twin), bytes);
        }
        let rtt = now.since(call.sent);
        // An application takes its own time, which says nothing about the network.
        if call.kind != Rpc::Custom {
            self.round_trips.on_measured(rtt);
        }
        self.on_contact_answered(now, contact, Some(rtt));
        let outcome = match envelope.body {
            Body::Answer(answer) => answer.read(call.kind).map_err(|_| CallError::BadReply),
            Body::Error(RpcError::NoSuchRpc) => Err(CallError::NoSuchRpc),
            Body::Error(RpcError::Failed) => Err(CallError::Failed),
            Body::Query(_) => unreachable!("a reply is no request"),
        };
        if let Ok(
            Response::Refused { token: Some(token), .. }
            | Response::Values { rest: Rest { token: Some(token), .. }, .. },
        ) = &outcome
        {
            self.token_cache.keep(now, contact.address, token);
        }
        self.on_call_done(now, call, Some(contact), outcome, bytes);
    }

    /// A reply to no call in flight: that of a stranger who was asked back, or nothing.
    fn on_unawaited_reply(
        &mut self,
        now: Instant,
        contact: Contact,
        transaction: TransactionId,
        bytes: usize,
    ) {
        let source = contact.address;
        // Nobody is asked back under our own id, so who answers under it lies; what our own addresses
        // are is learnt where we asked ourselves.
        if contact.id == self.id || !self.challenge.accept(now, &source, transaction) {
            return self.drop_unasked(now, source, bytes, Some(transaction));
        }
        // It is charged for like all that was not awaited; but whoever is flooded in its own name must
        // be able to answer.
        self.charge_unasked(now, source, bytes, Some(transaction));
        match self.rations.sent(now, &source) {
            // Who asked is not there; who is there is asked under its own id.
            Some((_, asker)) if asker != contact.id => {
                self.validated.insert(source);
                self.recheck(now, contact);
            }
            sent => self.on_contact_answered(now, contact, sent.map(|(at, _)| now.since(at))),
        }
    }

    fn on_call_timed_out(&mut self, now: Instant, call: Call) {
        self.maintenance.on_call_ended(&call);
        self.counters.timeouts += 1;
        self.round_trips.on_silence();
        if let Peer { address, id: Some(id) } = call.peer {
            // An application may take too long although its node is there.
            if call.kind != Rpc::Custom {
                self.silent.on_silence(now, Contact { id, address }, call.sent);
            }
            self.on_contact_silent(now, Contact { id, address }, call.purpose);
        }
        self.on_call_done(now, call, None, Err(CallError::TimedOut), 0);
    }

    /// Hands the end of a call to whatever it was made for. `bytes` are those of the datagram that
    /// ended it, if one did.
    fn on_call_done(
        &mut self,
        now: Instant,
        call: Call,
        contact: Option<Contact>,
        outcome: Result<Response, CallError>,
        bytes: usize,
    ) {
        match call.purpose {
            Purpose::Query { operation, query } => {
                self.on_query_done(now, (operation, query), call.peer, outcome, bytes);
            }
            Purpose::Publish { operation, progress } => {
                self.on_publish_done(now, operation, (&call, progress), outcome, bytes);
            }
            Purpose::Bootstrap { operation } => {
                let address = call.peer.address;
                self.on_bootstrap_answer(now, operation, address, contact, outcome, bytes);
            }
            Purpose::Caller { operation } => {
                let rtt = now.since(call.sent);
                let done = Event::CallDone { id: operation, peer: call.peer, outcome, rtt };
                self.out.events.push_back(done);
            }
            Purpose::Replicate { number } => self.on_replicated(now, number, outcome),
            // What the answer, or its absence, means for the routing table was noted already.
            Purpose::Recheck | Purpose::Liveness { .. } => {}
            Purpose::BootstrapNode => {
                self.on_bootstrap_node_asked(now, call.peer.address, contact);
            }
            Purpose::Witness => {
                if let (Some(contact), Ok(Response::Socket(address))) = (contact, outcome) {
                    self.on_witness(now, contact, address);
                }
            }
        }
    }

    /// A contact answered, in what time if that was measured: its address is its own, and it may enter
    /// the routing table.
    fn on_contact_answered(&mut self, now: Instant, contact: Contact, rtt: Option<Duration>) {
        self.silent.on_answer(now, &contact);
        self.validated.insert(contact.address);
        self.answer_deferred(now, &contact.address);
        let insertion = self.table.on_answer(now, contact, rtt);
        if insertion != Insertion::Known {
            self.on_maybe_back(now, &contact);
        }
        match insertion {
            Insertion::Added => self.on_contact_added(now, contact),
            Insertion::Waiting { check: Some(check) }
            | Insertion::Conflict { check: Some(check) } => {
                self.check_liveness(now, check, 1);
            }
            Insertion::Crowded if !self.has_told_crowded => {
                self.has_told_crowded = true;
                self.out.events.push_back(Event::Crowded(contact));
            }
            Insertion::Waiting { check: None }
            | Insertion::Conflict { check: None }
            | Insertion::Known
            | Insertion::Crowded
            | Insertion::Own => {}
        }
    }

    /// Sends a request, if there is room for one more call. Returns the bytes of its datagram.
    fn send(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request<'_>,
        purpose: Purpose,
    ) -> Result<usize, CallError> {
        self.send_padded(now, peer, request, purpose, None)
    }

    /// Sends a request, padded as told if it is a lookup's.
    fn send_padded(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request<'_>,
        purpose: Purpose,
        padded_to: Option<usize>,
    ) -> Result<usize, CallError> {
        if self.is_own_address(&peer.address) {
            return Err(CallError::Own);
        }
        if self.calls.len() >= MAX_CALLS {
            return Err(CallError::Busy);
        }
        let draw = || self.challenge.transaction_id(peer.address.ip(), &mut self.rng);
        let transaction = self.calls.unused(draw);
        let header = Header { dialect: self.dialect, from: self.id, transaction };
        let start = self.out.bytes.len();
        wire::emit(&mut self.out.bytes, &header, Message::Query { request, padded_to });
        let bytes = self.out.bytes.len() - start;
        self.transmit(peer.address, LocalEnd::default(), start);
        let kind = request.kind();
        let deadline = now + self.timeout(&peer, kind, purpose);
        let overdue = match purpose {
            Purpose::Query { .. } => now + self.round_trips.patience(),
            _ => deadline,
        };
        let is_heard = false;
        let call = Call { peer, kind, purpose, sent: now, deadline, overdue, is_heard };
        self.calls.insert(transaction, call);
        Ok(bytes)
    }

    /// How long to wait for an answer. A peer that is slower than most is given its time, and one of
    /// which nothing is known, or that lets an application answer, as much as there is.
    fn timeout(&self, peer: &Peer, kind: Rpc, purpose: Purpose) -> Duration {
        let max = self.config.rpc_timeout_max;
        let entry = peer.id.and_then(|id| self.table.entry(&id));
        let rtt = entry.and_then(|entry| entry.rtt);
        let is_last_word = match purpose {
            Purpose::Recheck
            | Purpose::Bootstrap { .. }
            | Purpose::BootstrapNode
            | Purpose::Caller { .. } => true,
            Purpose::Liveness { .. } => rtt.is_none(),
            Purpose::Query { .. }
            | Purpose::Publish { .. }
            | Purpose::Replicate { .. }
            | Purpose::Witness => false,
        };
        if is_last_word || kind == Rpc::Custom {
            return max;
        }
        let twice = rtt.map_or(Duration::ZERO, |rtt| rtt.times(2));
        self.round_trips.timeout().max(twice.min(max))
    }

    /// Queues what was appended to the outbox since `start`.
    #[inline]
    fn transmit(&mut self, destination: SocketAddr, local: LocalEnd, start: usize) {
        let end = self.out.bytes.len();
        self.counters.datagrams_out += 1;
        self.counters.bytes_out += (end - start) as u64;
        self.out.transmits.push_back(Transmit { destination, local, start, end });
    }

    fn new_operation(&mut self) -> OperationId {
        self.last_operation += 1;
        OperationId(self.last_operation)
    }
}

/// What waits to be taken by [`Node::poll_output`]. Datagrams are written into one buffer that is
/// used over and over, so that an answer costs no allocation.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

struct Transmit {
    destination: SocketAddr,
    local: LocalEnd,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Memory kept for the next datagrams: a usual burst.
    const KEPT: usize = 64 << 10;

    fn forget_sent(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > Outbox::KEPT {
            self.bytes.shrink_to(Outbox::KEPT);
        }
    }
}

/// See [`Node::is_validated`].
fn is_validated(validated: &Validated, table: &Table, contact: &Contact) -> bool {
    validated.contains(&contact.address)
        || table
            .entry(&contact.id)
            .is_some_and(|entry| entry.contact.address == contact.address && entry.is_good())
}
