//! What the overlays of a node share: its calls, its guard, its outbox; and what becomes of datagrams that
//! concern no overlay.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::address::LocalEnd;
use crate::config::Config;
use crate::guard::challenge::Challenge;
use crate::guard::cost::Bill;
use crate::guard::limits::{Limits, Refused, SourceBuckets};
use crate::guard::rations::Rations;
use crate::guard::tickets::Tickets;
use crate::guard::tokens::TokenIssuer;
use crate::guard::validated::Validated;
use crate::kad::OperationId;
use crate::kad::rtt::RoundTrips;
use crate::message::TransactionId;
use crate::node::calls::Calls;
use crate::node::deferred::Deferred;
use crate::node::pending::{Asked, Pending};
use crate::node::{Counters, Event, Output};
use crate::time::Instant;

/// Own addresses that a node remembers: for most machines one for each address family and
/// interface.
const MAX_OWN_ADDRESSES: usize = 16;

/// What all overlays share.
pub(super) struct Shared {
    /// The addresses at which the node is reached, as far as it knows.
    own_addresses: Vec<SocketAddr>,
    pub(super) config: Config,
    pub(super) rng: ChaCha8Rng,
    pub(super) started: Instant,
    pub(super) calls: Calls,
    pub(super) validated: Validated,
    pub(super) limits: Limits,
    pub(super) token_issuer: TokenIssuer,
    pub(super) challenge: Challenge,
    pub(super) rations: Rations,
    pub(super) tickets: Tickets,
    pub(super) round_trips: RoundTrips,
    last_operation: u64,
    /// RPCs that the application answers.
    pub(super) registered: BTreeSet<Vec<u8>>,
    pub(super) pending: Pending,
    pub(super) deferred: Deferred,
    pub(super) counters: Counters,
    /// The bill of the request that is being answered.
    pub(super) bill: Bill,
    /// Peers that were chosen for an answer. The memory is used over and over.
    pub(super) picked: Vec<SocketAddr>,
    pub(super) out: Outbox,
}

impl Shared {
    pub(super) fn new(now: Instant, config: Config, seed: [u8; 32]) -> Shared {
        // A stream of its own, so that secrets do not shift what else the seed decides.
        let mut secrets = ChaCha8Rng::from_seed(seed);
        secrets.set_stream(1);
        Shared {
            own_addresses: Vec::new(),
            rng: ChaCha8Rng::from_seed(seed),
            started: now,
            calls: Calls::default(),
            validated: Validated::default(),
            limits: Limits::new(&config, &mut secrets),
            token_issuer: TokenIssuer::new(&mut secrets),
            challenge: Challenge::new(&mut secrets),
            rations: Rations::new(&mut secrets),
            tickets: Tickets::new(&mut secrets),
            round_trips: RoundTrips::new(config.rpc_timeout_min, config.rpc_timeout_max),
            last_operation: 0,
            registered: BTreeSet::new(),
            pending: Pending::default(),
            deferred: Deferred::default(),
            counters: Counters::default(),
            bill: Bill::default(),
            picked: Vec::new(),
            out: Outbox::default(),
            config,
        }
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.calls.next_timeout().min(self.pending.next_timeout()).min(self.deferred.next_timeout())
    }

    pub(super) fn add_own_address(&mut self, address: SocketAddr) {
        if self.own_addresses.len() < MAX_OWN_ADDRESSES && !self.is_own_address(&address) {
            self.own_addresses.push(address);
        }
    }

    pub(super) fn own_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.own_addresses.iter().copied()
    }

    pub(super) fn is_own_address(&self, address: &SocketAddr) -> bool {
        self.own_addresses.contains(address)
    }

    /// What the next operation will be.
    pub(super) fn next_operation(&self) -> OperationId {
        OperationId(self.last_operation + 1)
    }

    pub(super) fn new_operation(&mut self) -> OperationId {
        let next = self.next_operation();
        self.last_operation = next.0;
        next
    }

    /// Charges a request for what it has cost, including everything that was sent since `before`.
    pub(super) fn charge_request(
        &mut self,
        now: Instant,
        buckets: &SourceBuckets,
        before: &Counters,
    ) {
        let datagrams = self.counters.datagrams_out - before.datagrams_out;
        self.bill.sent(datagrams, self.counters.bytes_out - before.bytes_out);
        self.limits.charge(now, buckets, self.bill.nanos());
        self.limits.charge_all(now, self.bill.nanos());
    }

    /// Drops a datagram that is no message, or a reply to nothing, and charges for it all the same.
    pub(super) fn drop_unasked(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: usize,
        replies_to: Option<TransactionId>,
    ) {
        self.counters.dropped += 1;
        self.charge_unasked(now, source, bytes, replies_to);
    }

    pub(super) fn charge_unasked(
        &mut self,
        now: Instant,
        source: SocketAddr,
        bytes: usize,
        replies_to: Option<TransactionId>,
    ) {
        let Some(buckets) = self.limits.buckets_of(&source) else { return };
        if self.limits.has_left(now, &buckets) {
            self.limits.charge(now, &buckets, Bill::of_datagram(bytes).nanos());
        } else {
            self.note_refused(now, source, replies_to);
        }
    }

    /// Counts a datagram beyond the limits. Replies that only the source itself can send are counted
    /// apart from what anybody may forge.
    pub(super) fn note_refused(
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

    /// Sends an answer that was appended since `start`, and charges for its cost since the request
    /// was charged.
    pub(super) fn transmit_later(
        &mut self,
        at: Instant,
        asked: &Asked,
        start: usize,
        mut bill: Bill,
    ) {
        bill.sent(1, (self.out.bytes.len() - start) as u64);
        if let Some(buckets) = self.limits.buckets_of(&asked.by.address) {
            self.limits.charge(at, &buckets, bill.nanos());
        }
        self.transmit(asked.by.address, asked.local, start);
    }

    /// Queues what was appended to the outbox since `start`.
    #[inline]
    pub(super) fn transmit(&mut self, destination: SocketAddr, local: LocalEnd, start: usize) {
        let end = self.out.bytes.len();
        self.counters.datagrams_out += 1;
        self.counters.bytes_out += (end - start) as u64;
        self.out.transmits.push_back(Transmit { destination, local, start, end });
    }
}

/// What waits to be taken by [`Node::poll_output`](super::Node::poll_output). Datagrams are written into
/// one buffer that is used over and over, so that an answer costs no allocation.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
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

    /// What is to be done next, if something waits.
    #[inline]
    pub(super) fn pop(&mut self) -> Output<'_> {
        match self.transmits.pop_front() {
            Some(Transmit { destination, local, start, end }) => {
                Output::Transmit { destination, local, bytes: &self.bytes[start..end] }
            }
            None => Output::Event(self.events.pop_front().expect("one of them has something")),
        }
    }

    /// Whether nothing waits. If so, the memory of what was sent is used again.
    #[inline]
    pub(super) fn try_clear(&mut self) -> bool {
        if !self.transmits.is_empty() || !self.events.is_empty() {
            return false;
        }
        self.bytes.clear();
        if self.bytes.capacity() > Outbox::KEPT {
            self.bytes.shrink_to(Outbox::KEPT);
        }
        true
    }
}
