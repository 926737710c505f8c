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
mod commands;
mod deferred;
mod fair;
mod joining;
mod lost;
mod maintenance;
mod operations;
mod overlay;
mod repeats;
mod replication;
mod replies;
mod report;
mod shared;
mod spread;
mod vigil;

use std::net::SocketAddr;

use crate::address::{LocalEnd, is_sendable};
use crate::config::Config;
use crate::guard::cost::Bill;
use crate::guard::limits::Account;
use crate::id::Id;
use crate::message::Contact;
use crate::node::calls::Expired;
use crate::node::overlay::{Active, OverlayId};
use crate::node::shared::Shared;
use crate::time::Instant;
use crate::wire::{self, Body, Dialect, Envelope, UnreadQuery};

pub use crate::kad::OperationId;
pub use crate::node::answers::{RegisterError, RequestToken, RpcFailed};
pub use crate::node::calls::Peer;
pub use crate::node::overlay::Overlay;
pub use crate::node::report::{CallError, Counters, Delivery, DeliveryOutcome, Event, StoreReport};
pub use crate::node::spread::Spread;

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
    /// One at least.
    overlays: Vec<Overlay>,
    shared: Shared,
}

impl Node {
    /// A node that knows nobody, in the one network of v1.
    ///
    /// # Panics
    /// If the configuration does not pass [`Config::check`].
    pub fn new(now: Instant, id: Id, config: Config, seed: [u8; 32]) -> Node {
        config.check().expect("a configuration within its ranges");
        let overlay = Overlay::new(now, OverlayId::FIRST, Dialect::V1, id, &config);
        Node { overlays: vec![overlay], shared: Shared::new(now, config, seed) }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram { source, local, bytes } => {
                self.on_datagram(now, source, local, bytes);
            }
            Input::Seen { dialect, contact } => {
                if is_sendable(&contact.address)
                    && let Some(mut overlay) = self.speaking(dialect)
                {
                    overlay.on_asked(now, contact, LocalEnd::default());
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
        self.shared.out.pop().expect("something waits")
    }

    /// Its overlays: what it is, knows and keeps in each of its networks.
    pub fn overlays(&self) -> &[Overlay] {
        &self.overlays
    }

    /// The overlay that speaks a dialect, at work.
    #[inline]
    fn speaking(&mut self, dialect: Dialect) -> Option<Active<'_>> {
        let overlay = self.overlays.iter_mut().find(|overlay| overlay.dialect == dialect)?;
        Some(Active { overlay, shared: &mut self.shared })
    }

    /// An overlay at work.
    #[inline]
    fn active(&mut self, overlay: OverlayId) -> Active<'_> {
        Active { overlay: &mut self.overlays[overlay.index()], shared: &mut self.shared }
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
        let shared = &mut self.shared;
        self.overlays.iter_mut().for_each(|overlay| Active { overlay, shared }.maintain(now));
    }

    fn on_datagram(&mut self, now: Instant, source: SocketAddr, local: LocalEnd, bytes: &[u8]) {
        let shared = &mut self.shared;
        shared.counters.datagrams_in += 1;
        shared.counters.bytes_in += bytes.len() as u64;
        if !local.believes(&source) {
            // Forged, so that nobody is to be charged for it.
            shared.counters.dropped += 1;
            return;
        }
        let Ok(envelope) = wire::parse(bytes) else {
            return shared.drop_unasked(now, source, bytes.len(), None);
        };
        // In a network where this node is nobody it has asked nothing either.
        let Some(mut overlay) = self.speaking(envelope.dialect) else {
            return self.shared.drop_unasked(now, source, bytes.len(), None);
        };
        match (envelope.body, envelope.sender) {
            (Body::Query(query), Some(id)) => {
                let asker = Contact { id, address: source };
                overlay.on_query(now, asker, local, (&envelope, query), bytes.len());
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
        let account = self.shared.limits.account(&asker.address);
        if !self.may_ask(now, account.as_ref(), &asker) {
            self.shared.counters.limited += 1;
            return self.shared.note_refused(now, asker.address, None);
        }
        let before = self.shared.counters;
        self.shared.bill = Bill::of_datagram(len);
        self.on_request(now, asker, local, (envelope, query), len);
        if let Some(account) = account {
            self.shared.charge_request(now, &account, &before);
        }
    }

    /// Whether a request is within the limits.
    fn may_ask(&self, now: Instant, account: Option<&Account>, asker: &Contact) -> bool {
        account.is_none_or(|account| {
            self.shared.limits.has_left(now, account)
                && (self.shared.limits.has_left_for_all(now, false)
                    || self.is_validated(asker) && self.shared.limits.has_left_for_all(now, true))
        })
    }
}
