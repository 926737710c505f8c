//! The calls in flight: which peer was asked what, and until when an answer counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::message::{Contact, ContactFields, Response, Rpc, TransactionId};
use crate::node::overlay::OverlayId;
use crate::node::{CallError, OperationId};
use crate::time::Instant;

/// Calls in flight at once: a hundred lookups, each at full parallelism with as many queries
/// overdue. More means that something is wrong, not that more is needed.
pub(super) const MAX_CALLS: usize = 4_096;

/// How often a store is sent before its node counts as silent: one datagram may get lost.
const STORE_ATTEMPTS: u32 = 2;

/// The same with the token that the node has asked for. It has just answered, so its silence is loss,
/// and with four datagrams in place of two loss has more chances.
const STORE_ATTEMPTS_WITH_TOKEN: u32 = 4;

/// A node to ask: an address, and its id where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "ContactFields", into = "ContactFields")]
pub struct Peer {
    /// Where it receives datagrams.
    pub address: SocketAddr,
    /// Its id; an answer from another id does not count.
    pub id: Option<Id>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer { address, id: None }
    }
}

impl From<Contact> for Peer {
    fn from(contact: Contact) -> Peer {
        Peer { address: contact.address, id: Some(contact.id) }
    }
}

impl From<Peer> for ContactFields {
    fn from(Peer { address, id }: Peer) -> ContactFields {
        ContactFields { address: address.ip(), port: address.port(), id }
    }
}

impl From<ContactFields> for Peer {
    fn from(ContactFields { address, port, id }: ContactFields) -> Peer {
        Peer { address: SocketAddr::new(address, port), id }
    }
}

/// Why a call was made, which decides what its answer means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// A query of a lookup.
    Query { operation: OperationId, query: usize },
    /// A value published by this node.
    Publish { operation: OperationId, progress: Attempt },
    /// A copy passed on to another holder.
    Replicate { number: u64 },
    /// A call that the node's caller made.
    Caller { operation: OperationId },
    /// The first question to a node whose id is not known yet.
    Bootstrap { operation: OperationId },
    /// Is a lost contact there again, or one that waits for a place still there?
    Recheck,
    /// Does a contact of the routing table still live?
    Liveness { attempt: u32 },
    /// Is a node there that this one was told to join through?
    BootstrapNode,
    /// Where does a neighbour see this node?
    Witness,
}

/// Earlier attempts to bring a value to one holder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// The number of this attempt, counted from the last that was answered.
    pub(super) attempt: u32,
    /// The holder has asked for a token and got it; it does not get another.
    pub(super) has_token: bool,
}

impl Attempt {
    pub(super) const FIRST: Attempt = Attempt { attempt: 1, has_token: false };

    /// The next attempt after this one had an outcome, if another is worth while.
    pub(super) fn after(self, outcome: &Result<Response, CallError>) -> Option<Attempt> {
        let Attempt { attempt, has_token } = self;
        let attempts = if has_token { STORE_ATTEMPTS_WITH_TOKEN } else { STORE_ATTEMPTS };
        match outcome {
            Err(CallError::TimedOut) if attempt < attempts => {
                Some(Attempt { attempt: attempt + 1, has_token })
            }
            Ok(Response::Refused { token: Some(_), .. }) if !has_token => {
                Some(Attempt { attempt: 1, has_token: true })
            }
            _ => None,
        }
    }
}

pub(super) struct Call {
    /// Of which overlay.
    pub(super) overlay: OverlayId,
    pub(super) peer: Peer,
    pub(super) kind: Rpc,
    pub(super) purpose: Purpose,
    pub(super) sent: Instant,
    pub(super) deadline: Instant,
    /// When it stops holding up others; for calls that hold up nothing, the deadline.
    pub(super) overdue: Instant,
    /// Whether the question has come to this node itself.
    pub(super) is_heard: bool,
}

/// What happened because time passed.
pub(super) enum Expired {
    /// The answer takes longer than usual.
    Overdue { overlay: OverlayId, operation: OperationId, query: usize },
    /// No answer came in time.
    TimedOut(Call),
}

/// All calls in flight, by transaction id and by time.
#[derive(Default)]
pub(super) struct Calls {
    calls: BTreeMap<TransactionId, Call>,
    timers: BTreeSet<(Instant, TransactionId)>,
}

impl Calls {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Draws numbers until there is no call with that number: calls to one address differ only in
    /// half of it.
    pub(super) fn unused(&self, mut draw: impl FnMut() -> TransactionId) -> TransactionId {
        loop {
            let id = draw();
            if !self.calls.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn insert(&mut self, id: TransactionId, call: Call) {
        self.timers.insert((call.deadline, id));
        self.timers.insert((call.overdue, id));
        self.calls.insert(id, call);
    }

    /// Takes out the call that a datagram to an overlay answers: its transaction id is in flight, it comes
    /// from the address that was asked and, where the id was known, from that id.
    pub(super) fn take(
        &mut self,
        overlay: OverlayId,
        transaction: TransactionId,
        from: &Contact,
    ) -> Option<Call> {
        let Peer { id, .. } = self.calls.get(&transaction)?.peer;
        if id.is_some_and(|id| id != from.id) {
            return None;
        }
        self.take_from(overlay, transaction, &from.address)
    }

    /// The same for a datagram that does not say who sends it.
    pub(super) fn take_from(
        &mut self,
        overlay: OverlayId,
        transaction: TransactionId,
        from: &SocketAddr,
    ) -> Option<Call> {
        let call = self.calls.get(&transaction)?;
        if call.overlay != overlay || call.peer.address != *from {
            return None;
        }
        let call = self.calls.remove(&transaction)?;
        self.timers.remove(&(call.deadline, transaction));
        self.timers.remove(&(call.overdue, transaction));
        Some(call)
    }

    /// A request under the node's own id came in. If its transaction id, which nobody else can foresee, is
    /// that of a call in flight, the call went to the node itself.
    pub(super) fn on_heard(&mut self, id: &TransactionId) {
        if let Some(call) = self.calls.get_mut(id) {
            call.is_heard = true;
        }
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.timers.first().map_or(Instant::NEVER, |(at, _)| *at)
    }

    /// The next thing that has happened by `now`, if any.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Expired> {
        loop {
            let &(at, id) = self.timers.first().filter(|(at, _)| *at <= now)?;
            self.timers.remove(&(at, id));
            let call = &self.calls[&id];
            if call.deadline <= at {
                let call = self.calls.remove(&id).expect("looked at just above");
                self.timers.remove(&(call.overdue, id));
                return Some(Expired::TimedOut(call));
            }
            if let Purpose::Query { operation, query } = call.purpose {
                return Some(Expired::Overdue { overlay: call.overlay, operation, query });
            }
        }
    }
}
