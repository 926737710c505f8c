//! Asking others: what is sent, and what their answers mean.

use std::net::SocketAddr;

use crate::address::LocalEnd;
use crate::guard::challenge::Form;
use crate::kad::routing::Insertion;
use crate::message::{
    CodedError, Contact, Request, Response, Rest, Rpc, RpcError, TransactionId, mainline,
};
use crate::node::calls::{Call, MAX_CALLS, Peer, Purpose};
use crate::node::overlay::Active;
use crate::node::{CallError, Event};
use crate::time::{Duration, Instant};
use crate::wire::{self, Body, Envelope, Header, Manner, Message};

impl Active<'_> {
    pub(super) fn on_reply(
        &mut self,
        now: Instant,
        contact: Contact,
        envelope: &Envelope<'_>,
        bytes: usize,
    ) {
        let Some(call) =
            self.shared.calls.take(self.overlay.number, envelope.transaction, &contact)
        else {
            return self.on_unawaited_reply(now, contact, envelope.transaction, bytes);
        };
        self.overlay.maintenance.on_call_ended(&call);
        if contact.id == self.overlay.id {
            if call.is_heard {
                // The question has arrived here: we were given our own address.
                self.shared.add_own_address(contact.address);
                return self.on_call_done(now, call, None, Err(CallError::Own), bytes);
            }
            if !std::mem::replace(&mut self.overlay.has_told_twin, true) {
                self.shared.out.events.push_back(Event::Twin(contact.address));
            }
            return self.on_call_done(now, call, None, Err(CallError::Twin), bytes);
        }
        let rtt = now.since(call.sent);
        // An application takes its own time, which says nothing about the network.
        if call.kind != Rpc::Custom {
            self.shared.round_trips.on_measured(rtt);
        }
        self.on_contact_answered(now, contact, Some(rtt));
        let outcome = match envelope.body {
            Body::Answer(answer) => answer.read(call.kind).map_err(|_| CallError::BadReply),
            Body::Error(RpcError::NoSuchRpc) => Err(CallError::NoSuchRpc),
            Body::Error(RpcError::Failed) => Err(CallError::Failed),
            Body::CodedError(error) => Err(call_error(error)),
            Body::Query(_) | Body::Route(_) | Body::Routed(_) => {
                unreachable!("a reply is no request, and no route")
            }
        };
        if let Ok(
            Response::Refused { token: Some(token), .. }
            | Response::Values { rest: Rest { token: Some(token), .. }, .. },
        ) = &outcome
        {
            self.overlay.token_cache.keep(now, contact.address, token);
        }
        self.on_call_done(now, call, Some(contact), outcome, bytes);
    }

    /// An error that does not say who sends it. It came from the address that was asked, with a
    /// transaction id that nobody else knows, so whoever is there lives.
    pub(super) fn on_error(
        &mut self,
        now: Instant,
        source: SocketAddr,
        (transaction, error): (TransactionId, CodedError<'_>),
        bytes: usize,
    ) {
        let Some(call) = self.shared.calls.take_from(self.overlay.number, transaction, &source)
        else {
            return self.shared.drop_unasked(now, source, bytes, Some(transaction));
        };
        self.overlay.maintenance.on_call_ended(&call);
        let rtt = now.since(call.sent);
        self.shared.round_trips.on_measured(rtt);
        let contact = call.peer.id.map(|id| Contact { id, address: source });
        if let Some(contact) = contact {
            self.on_contact_answered(now, contact, Some(rtt));
        }
        self.on_call_done(now, call, contact, Err(call_error(error)), bytes);
    }

    /// A reply to no call in flight: either from a stranger that was asked back, or meaningless.
    fn on_unawaited_reply(
        &mut self,
        now: Instant,
        contact: Contact,
        transaction: TransactionId,
        bytes: usize,
    ) {
        let source = contact.address;
        // Nobody is asked back under our own id, so a node that answers under it lies. Our own
        // addresses are learnt where we asked ourselves.
        if contact.id == self.overlay.id || !self.shared.challenge.accept(now, &source, transaction)
        {
            return self.shared.drop_unasked(now, source, bytes, Some(transaction));
        }
        // It is charged for like anything unasked; but a node in whose name somebody floods us must
        // still be able to answer.
        self.shared.charge_unasked(now, source, bytes, Some(transaction));
        match self.shared.rations.sent(now, &source) {
            // The asker is not at this address; the node that is there is asked under its own id.
            Some((_, asker)) if asker != contact.id => {
                self.shared.validated.insert(source);
                self.recheck(now, contact);
            }
            sent => self.on_contact_answered(now, contact, sent.map(|(at, _)| now.since(at))),
        }
    }

    pub(super) fn on_call_timed_out(&mut self, now: Instant, call: Call) {
        self.overlay.maintenance.on_call_ended(&call);
        self.shared.counters.timeouts += 1;
        self.shared.round_trips.on_silence();
        if let Peer { address, id: Some(id) } = call.peer {
            // An application may take too long although its node is there.
            if call.kind != Rpc::Custom {
                self.overlay.silent.on_silence(now, Contact { id, address }, call.sent);
            }
            self.on_contact_silent(now, Contact { id, address }, call.purpose);
        }
        self.on_call_done(now, call, None, Err(CallError::TimedOut), 0);
    }

    /// Hands the end of a call to the purpose that it was made for. `bytes` is the length of the
    /// datagram that ended it, if one did.
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
                self.shared.out.events.push_back(done);
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

    /// A contact answered, after `rtt` if that was measured: its address is its own, and it may enter
    /// the routing table.
    fn on_contact_answered(&mut self, now: Instant, contact: Contact, rtt: Option<Duration>) {
        self.overlay.silent.on_answer(now, &contact);
        self.shared.validated.insert(contact.address);
        self.answer_deferred(now, &contact.address);
        if !self.overlay.policy.allows(&contact) {
            return;
        }
        let insertion = self.overlay.table.on_answer(now, contact, rtt);
        if insertion != Insertion::Known {
            self.on_maybe_back(now, &contact);
        }
        match insertion {
            Insertion::Added => self.on_contact_added(now, contact),
            Insertion::Waiting { check: Some(check) }
            | Insertion::Conflict { check: Some(check) } => {
                self.check_liveness(now, check, 1);
            }
            Insertion::Crowded if !self.overlay.has_told_crowded => {
                self.overlay.has_told_crowded = true;
                self.shared.out.events.push_back(Event::Crowded(contact));
            }
            Insertion::Waiting { check: None }
            | Insertion::Conflict { check: None }
            | Insertion::Known
            | Insertion::Crowded
            | Insertion::Own => {}
        }
    }

    /// Sends a request, if there is room for one more call. Returns the bytes of its datagram.
    pub(super) fn send(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request<'_>,
        purpose: Purpose,
    ) -> Result<usize, CallError> {
        self.send_padded(now, peer, request, purpose, None)
    }

    /// Sends a request; a lookup's is padded to `padded_to`.
    pub(super) fn send_padded(
        &mut self,
        now: Instant,
        peer: Peer,
        request: &Request<'_>,
        purpose: Purpose,
        padded_to: Option<usize>,
    ) -> Result<usize, CallError> {
        if self.shared.is_own_address(&peer.address) {
            return Err(CallError::Own);
        }
        if self.shared.calls.len() >= MAX_CALLS {
            return Err(CallError::Busy);
        }
        let (form, ip) = (Form::of(self.overlay.dialect), peer.address.ip());
        let draw = || self.shared.challenge.transaction_id(form, ip, &mut self.shared.rng);
        let transaction = self.shared.calls.unused(draw);
        let header = Header {
            dialect: self.overlay.dialect,
            from: self.overlay.id,
            transaction,
            asker: None,
        };
        let manner = Manner { padded_to, ..Manner::default() };
        let message = Message::Query { request, manner };
        let start = self.shared.out.bytes.len();
        wire::emit(&mut self.shared.out.bytes, &header, message);
        let bytes = self.shared.out.bytes.len() - start;
        self.shared.transmit(peer.address, LocalEnd::default(), start);
        let kind = request.kind();
        let deadline = now + self.timeout(&peer, kind, purpose);
        let overdue = match purpose {
            Purpose::Query { .. } => now + self.shared.round_trips.patience(),
            _ => deadline,
        };
        let (overlay, is_heard) = (self.overlay.number, false);
        let call = Call { overlay, peer, kind, purpose, sent: now, deadline, overdue, is_heard };
        self.shared.calls.insert(transaction, call);
        Ok(bytes)
    }

    /// How long to wait for an answer. A peer that is slower than most is given its time. The
    /// longest wait is for peers about which nothing is known, and for answers of applications.
    fn timeout(&self, peer: &Peer, kind: Rpc, purpose: Purpose) -> Duration {
        let max = self.shared.config.rpc_timeout_max;
        let entry = peer.id.and_then(|id| self.overlay.table.entry(&id));
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
        self.shared.round_trips.timeout().max(twice.min(max))
    }
}

/// What an error of Mainline is to whoever made the call.
fn call_error(error: CodedError<'_>) -> CallError {
    match error.code {
        mainline::code::UNKNOWN_RPC => CallError::NoSuchRpc,
        _ => CallError::Failed,
    }
}
