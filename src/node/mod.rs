//! The node: a state machine without sockets, tasks, clocks or global randomness.
//!
//! Datagrams and the time go in, datagrams and events come out; around it stands a loop that owns
//! a socket and a clock (`net`) or a virtual network (`sim`). Read [`Node`] and [`Overlay`] first, then
//! [`kad::routing`](crate::kad::routing), [`kad::lookup`](crate::kad::lookup) and [`store`](crate::store).
//!
//! `calls`, `deferred`, `fair`, `forwarding`, `joining`, `lost`, `maintenance`, `pending`, `repeats`,
//! `replication` and `vigil` are mechanisms: each holds its state and decides, and knows no node. The
//! code that acts on these decisions, on an overlay and on what the overlays share, is in `answers`,
//! `mainline`, `replies`, `operations`, `routes`, `bootstrap`, `handover` and `upkeep`.
//!
//! # The caller's contract
//! - After each `handle`, `start_*` or `answer` drain [`Node::poll_output`] until it yields
//!   [`Output::Timeout`], and call `handle` with [`Input::Timeout`] when that instant has come.
//! - Time never runs backwards.
//! - The same seed and the same calls give the same outputs, byte for byte.
//! - Nothing in a datagram makes the node panic, or take more memory or time than the bounds named
//!   at each table allow.

mod answers;
mod bootstrap;
mod calls;
mod commands;
mod deferred;
mod fair;
mod forwarding;
mod handover;
mod joining;
mod lost;
mod mainline;
mod maintenance;
mod operations;
mod overlay;
mod pending;
mod policy;
mod repeats;
mod replication;
mod replies;
mod report;
mod routes;
mod shared;
mod spread;
mod upkeep;
mod vigil;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::address::{LocalEnd, is_sendable};
use crate::config::Config;
use crate::guard::cost::Bill;
use crate::guard::limits::SourceBuckets;
use crate::id::Id;
use crate::message::Contact;
use crate::node::calls::Expired;
use crate::node::overlay::{Active, OverlayId};
use crate::node::shared::Shared;
use crate::time::Instant;
use crate::wire::{self, Body, Dialect, Envelope, UnreadQuery};

pub use crate::address::Families;
pub use crate::kad::OperationId;
pub use crate::node::answers::{RegisterError, RpcFailed};
pub use crate::node::calls::Peer;
pub use crate::node::overlay::Overlay;
pub use crate::node::pending::RequestToken;
pub use crate::node::policy::{IdRule, Policy};
pub use crate::node::report::{
    CallError, Counters, Delivery, DeliveryOutcome, Event, RouteAttempt, RouteCounters,
    RouteReport, StoreReport,
};
pub use crate::node::spread::Spread;

#[cfg(all(test, fast_path))]
pub(crate) use crate::node::forwarding::HOPS_MAX;

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
        /// In which dialect.
        dialect: Dialect,
        /// Who asked, under the address that the question came from.
        contact: Contact,
    },
    /// A contact was handed a route elsewhere, as a fast path in the kernel does. If it is not heard of
    /// soon, the node asks whether it lives.
    HandedOn {
        /// In which dialect.
        dialect: Dialect,
        /// Who was handed it.
        contact: Contact,
    },
    /// The system says that a datagram which was sent reached nobody. A hint: it may be forged.
    Unreachable {
        /// Where it was sent.
        destination: SocketAddr,
        /// As much of it as came back.
        bytes: &'a [u8],
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
        /// The destination.
        destination: SocketAddr,
        /// The end of this machine to send from: for an answer, the end that was asked.
        local: LocalEnd,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Somebody may want to know.
    Event(Event),
    /// Do nothing until this instant; [`Instant::NEVER`] if nothing is due.
    Timeout(Instant),
}

/// A Kademlia node: an [`Overlay`] in each of its networks, and what they share. The first byte of a
/// datagram tells its dialect, and so which overlay it is for. What a caller asks of a node or sees of
/// it concerns the overlay of v1, unless the docs say otherwise.
///
/// ```
/// use kademlua::address::LocalEnd;
/// use kademlua::config::Config;
/// use kademlua::id::Id;
/// use kademlua::node::{Input, Node, Output};
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
    /// That of v1 is the first.
    overlays: Vec<Overlay>,
    shared: Shared,
}

impl Node {
    /// A node that knows nobody, in the one network of v1.
    ///
    /// # Panics
    /// If the configuration does not pass [`Config::check`].
    pub fn new(now: Instant, id: Id, config: Config, seed: [u8; 32]) -> Node {
        Node::in_networks(now, &BTreeMap::from([(Dialect::V1, id)]), config, seed)
    }

    /// A node that knows nobody, and has these ids in the networks of these dialects: in Mainline there are
    /// two, one of IPv4 and one of IPv6.
    ///
    /// # Panics
    /// If v1 is not among them, or the configuration does not pass [`Config::check`].
    pub fn in_networks(
        now: Instant,
        ids: &BTreeMap<Dialect, Id>,
        config: Config,
        seed: [u8; 32],
    ) -> Node {
        config.check().expect("a configuration within its ranges");
        assert!(ids.contains_key(&Dialect::V1), "what a node is asked to do concerns v1");
        let networks = ids.iter().flat_map(|(&dialect, &id)| {
            policy::networks(dialect).iter().map(move |&families| ((dialect, families), id))
        });
        let overlays = networks.zip(0..).map(|((network, id), number)| {
            Overlay::new(now, OverlayId::nth(number), network, id, &config)
        });
        Node { overlays: overlays.collect(), shared: Shared::new(now, config, seed) }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram { source, local, bytes } => {
                self.on_datagram(now, source, local, bytes);
            }
            Input::Seen { dialect, contact } => {
                if is_sendable(&contact.address)
                    && let Some(mut overlay) = self.speaking(dialect, &contact.address)
                {
                    overlay.on_asked(now, contact, LocalEnd::default());
                }
            }
            Input::HandedOn { dialect, contact } => {
                if let Some(overlay) = self.speaking(dialect, &contact.address) {
                    overlay.overlay.forwarding.on_used(now, contact);
                }
            }
            Input::Unreachable { destination, bytes } => {
                if let Some(mut overlay) = self.speaking_first(bytes, &destination) {
                    overlay.on_unreachable(now, destination, bytes);
                }
            }
            Input::Timeout => self.on_timeout(now),
        }
    }

    /// The next thing to do; see the contract above.
    pub fn poll_output(&mut self) -> Output<'_> {
        if self.shared.out.try_clear() {
            return Output::Timeout(self.next_timeout());
        }
        self.shared.out.pop()
    }

    /// Its overlays: its id, contacts and values in each of its networks.
    pub fn overlays(&self) -> &[Overlay] {
        &self.overlays
    }

    /// The overlay that speaks a dialect with an address, at work.
    #[inline]
    fn speaking(&mut self, dialect: Dialect, to: &SocketAddr) -> Option<Active<'_>> {
        let speaks =
            |overlay: &&Overlay| overlay.dialect == dialect && overlay.policy.families.contain(to);
        let number = self.overlays.iter().find(speaks)?.number;
        Some(self.active(number))
    }

    /// The overlay that such a datagram belongs to.
    fn speaking_first(&mut self, bytes: &[u8], to: &SocketAddr) -> Option<Active<'_>> {
        let dialect = wire::parse(bytes).ok()?.dialect;
        self.speaking(dialect, to)
    }

    /// An overlay at work.
    #[inline]
    fn active(&mut self, overlay: OverlayId) -> Active<'_> {
        Active::new(&mut self.overlays, overlay, &mut self.shared)
    }

    fn next_timeout(&self) -> Instant {
        let overlays = self.overlays.iter().map(Overlay::next_timeout);
        overlays.fold(self.shared.next_timeout(), Instant::min)
    }

    fn on_timeout(&mut self, now: Instant) {
        while let Some(expired) = self.shared.calls.pop_expired(now) {
            match expired {
                Expired::Overdue { overlay, operation, query } => {
                    self.active(overlay).on_overdue(now, operation, query);
                }
                Expired::TimedOut(call) => {
                    self.active(call.overlay).on_call_timed_out(now, call);
                }
            }
        }
        self.fail_overdue_requests(now);
        self.answer_overdue_questions(now);
        for number in 0..self.overlays.len() {
            self.active(OverlayId::nth(number as u8)).maintain(now);
        }
    }

    fn on_datagram(&mut self, now: Instant, source: SocketAddr, local: LocalEnd, bytes: &[u8]) {
        let shared = &mut self.shared;
        shared.counters.datagrams_in += 1;
        shared.counters.bytes_in += bytes.len() as u64;
        if !local.believes(&source) {
            // Forged, so nobody is charged for it.
            shared.counters.dropped += 1;
            return;
        }
        let Ok(envelope) = wire::parse(bytes) else {
            return shared.drop_unasked(now, source, bytes.len(), None);
        };
        // In a network where this node has no overlay, it has asked nothing either.
        let Some(mut overlay) = self.speaking(envelope.dialect, &source) else {
            return self.shared.drop_unasked(now, source, bytes.len(), None);
        };
        match (envelope.body, envelope.sender) {
            (Body::Query(query), Some(id)) => {
                let asker = Contact { id, address: source };
                overlay.on_query(now, asker, local, (&envelope, query), bytes.len());
            }
            (Body::Route(route), Some(id)) => {
                let sender = Contact { id, address: source };
                overlay.on_route(now, sender, local, (&envelope, route), bytes.len());
            }
            (Body::Routed(route), Some(id)) => {
                let sender = Contact { id, address: source };
                overlay.on_routed(now, sender, local, (&envelope, route), bytes.len());
            }
            (Body::CodedError(error), None) => {
                overlay.on_error(now, source, (envelope.transaction, error), bytes.len());
            }
            (_, Some(id)) => {
                let contact = Contact { id, address: source };
                overlay.on_reply(now, contact, &envelope, bytes.len());
            }
            (_, None) => {
                let unasked = Some(envelope.transaction);
                self.shared.drop_unasked(now, source, bytes.len(), unasked);
            }
        }
    }
}

impl Active<'_> {
    /// A request came in a datagram of `len` bytes. It is answered if it is within the limits.
    #[inline]
    fn on_query(
        &mut self,
        now: Instant,
        asker: Contact,
        local: LocalEnd,
        (envelope, query): (&Envelope<'_>, UnreadQuery<'_>),
        len: usize,
    ) {
        if asker.id == self.overlay.id {
            self.shared.calls.on_heard(&envelope.transaction);
        }
        let buckets = self.shared.limits.buckets_of(&asker.address);
        if !self.may_ask(now, buckets.as_ref(), &asker) {
            self.shared.counters.limited += 1;
            return self.shared.note_refused(now, asker.address, None);
        }
        let before = self.shared.counters;
        self.shared.bill = Bill::of_datagram(len);
        self.on_request(now, asker, local, (envelope, query), len);
        if let Some(buckets) = buckets {
            self.shared.charge_request(now, &buckets, &before);
        }
    }

    /// Whether a request is within the limits.
    fn may_ask(&self, now: Instant, buckets: Option<&SourceBuckets>, asker: &Contact) -> bool {
        buckets.is_none_or(|buckets| {
            self.shared.limits.has_left(now, buckets)
                && (self.shared.limits.has_left_for_all(now, false)
                    || self.is_validated(asker) && self.shared.limits.has_left_for_all(now, true))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kad::lookup::Goal;
    use crate::message::{Request, Response, TransactionId};
    use crate::wire::Header;

    const NOW: Instant = Instant::ZERO;
    const IPV4: &str = "192.0.2.1:9";
    const IPV6: &str = "[2001:db8::1]:9";

    /// A node that is one in the network of IPv4, and another in that of IPv6.
    fn node() -> Node {
        let mut node = Node::new(NOW, Id::of_name("ipv4"), Config::default(), [7; 32]);
        let second = OverlayId::nth(1);
        let config = Config::default();
        let network = (Dialect::V1, Families::ALL);
        let mut ipv6 = Overlay::new(NOW, second, network, Id::of_name("ipv6"), &config);
        node.overlays[0].policy.families = Families { ipv4: true, ipv6: false };
        ipv6.policy.families = Families { ipv4: false, ipv6: true };
        node.overlays.push(ipv6);
        node
    }

    fn header(from: Id, transaction: TransactionId) -> Header {
        Header { dialect: Dialect::V1, from, transaction, asker: None }
    }

    fn receive(node: &mut Node, source: &str, bytes: &[u8]) {
        let (source, local) = (source.parse().unwrap(), LocalEnd::default());
        node.handle(NOW, Input::Datagram { source, local, bytes });
    }

    fn ask(node: &mut Node, source: &str, request: &Request<'_>) {
        let mut bytes = Vec::new();
        let asker = header(Id::of_name(source), TransactionId::new(*b"question"));
        wire::emit(&mut bytes, &asker, request);
        receive(node, source, &bytes);
    }

    /// What the node sends: the destination, the sender's id, the transaction id, and whether it asks
    /// something.
    fn sent(node: &mut Node) -> Vec<(SocketAddr, Id, TransactionId, bool)> {
        let mut sent = Vec::new();
        loop {
            match node.poll_output() {
                Output::Transmit { destination, bytes, .. } => {
                    let envelope = wire::parse(bytes).unwrap();
                    let is_query = matches!(envelope.body, Body::Query(_));
                    let id = envelope.sender.unwrap();
                    sent.push((destination, id, envelope.transaction, is_query));
                }
                Output::Event(_) => {}
                Output::Timeout(_) => return sent,
            }
        }
    }

    fn answer(node: &mut Node, source: &str, to: TransactionId, response: &Response) {
        let mut bytes = Vec::new();
        let peer = Id::of_name(source);
        wire::emit(&mut bytes, &header(peer, to), response);
        receive(node, source, &bytes);
    }

    #[test]
    fn first_bytes_of_no_dialect_reach_no_overlay() {
        let mut node = node();
        let mut bytes = Vec::new();
        let asker = header(Id::of_name("asker"), TransactionId::new(*b"question"));
        wire::emit(&mut bytes, &asker, &Request::Ping);
        for first in (0..=u8::MAX).filter(|first| *first != Dialect::V1.first_byte()) {
            bytes[0] = first;
            receive(&mut node, IPV4, &bytes);
        }
        let Counters { datagrams_in, dropped, requests, .. } = node.counters();
        assert_eq!((datagrams_in, dropped, requests), (255, 255, 0));
        assert_eq!(sent(&mut node), []);
    }

    #[test]
    fn each_overlay_answers_in_its_network_under_its_own_id() {
        let mut node = node();
        for (source, own) in [(IPV4, "ipv4"), (IPV6, "ipv6")] {
            ask(&mut node, source, &Request::Ping);
            let sent = sent(&mut node);
            // The answer, and a question to the stranger.
            assert_eq!(sent.len(), 2);
            assert!(
                sent.iter()
                    .all(|(to, id, ..)| (*to, *id) == (source.parse().unwrap(), Id::of_name(own)))
            );
            let (.., challenge, _) = sent[1];
            answer(&mut node, source, challenge, &Response::Pong);
        }
        let known = node.overlays().iter().map(|overlay| {
            overlay.table().entries().map(|entry| entry.contact.address).collect::<Vec<_>>()
        });
        let known: Vec<_> = known.collect();
        assert_eq!(known, [[IPV4.parse().unwrap()], [IPV6.parse().unwrap()]]);
    }

    #[test]
    fn a_call_ends_in_the_overlay_that_made_it() {
        let mut node = node();
        let peer = Contact { id: Id::of_name(IPV6), address: IPV6.parse().unwrap() };
        let mut second = node.active(OverlayId::nth(1));
        second.overlay.table.on_answer(NOW, peer, None);
        let then = operations::Then::Report;
        let operation = second.begin_lookup(NOW, Goal::Node { target: Id::of_name("x") }, then);
        let sent = sent(&mut node);
        assert_eq!(sent.len(), 1);
        let (to, own, transaction, _) = sent[0];
        assert_eq!((to, own), (peer.address, Id::of_name("ipv6")));
        // Nothing that comes in the other network is an answer to it.
        assert!(node.shared.calls.take(OverlayId::FIRST, transaction, &peer).is_none());
        answer(&mut node, IPV6, transaction, &Response::Nodes(Vec::new()));
        let events = std::iter::from_fn(|| node.shared.out.events.pop_front());
        let done = events.filter_map(|event| match event {
            Event::LookupDone(record) => Some(record.id),
            _ => None,
        });
        assert_eq!(done.collect::<Vec<_>>(), [operation]);
        assert_eq!(node.overlays.iter().map(|o| o.records.len()).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn silence_is_noted_in_the_overlay_that_asked() {
        let mut node = node();
        let peer = Contact { id: Id::of_name(IPV6), address: IPV6.parse().unwrap() };
        for overlay in &mut node.overlays {
            overlay.table.on_answer(NOW, peer, None);
        }
        node.active(OverlayId::nth(1)).check_liveness(NOW, peer, 1);
        while let Output::Transmit { .. } | Output::Event(_) = node.poll_output() {}
        node.handle(NOW + Config::default().rpc_timeout_max, Input::Timeout);
        let failures = |overlay: &Overlay| overlay.table.entry(&peer.id).unwrap().failures;
        assert_eq!(node.overlays.iter().map(failures).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn nobody_outside_of_its_families_gets_into_an_overlay() {
        let mut node = node();
        node.overlays.truncate(1);
        ask(&mut node, IPV6, &Request::Ping);
        assert_eq!(sent(&mut node), []);
        assert_eq!((node.counters().dropped, node.counters().requests), (1, 0));
    }
}
