//! Answering requests: each gets one reply, from the node or from the application.

use std::fmt::Display;
use std::net::SocketAddr;

use rand_chacha::ChaCha8Rng;

use crate::address::{Families, LocalEnd, is_loopback};
use crate::bencode::{Item, List, Value};
use crate::guard::cost::Bill;
use crate::id::Id;
use crate::message::{
    Contact, EncodedContact, FindValue, Request, Response, Rest, RpcError, StoreMode, StoreRequest,
};
use crate::node::deferred::{DeferredQuestion, Question};
use crate::node::overlay::{Active, Overlay};
use crate::node::pending::{Asked, Waiting};
use crate::node::repeats::{CallKey, Earlier};
use crate::node::shared::Shared;
use crate::node::{CallError, Event, Node};
use crate::store::{self as values, Deposit, Party, Picked, Standing};
use crate::time::{Duration, Instant};
use crate::wire::{self, Envelope, Header, Message, UnreadQuery};

/// RPCs that an application may register: more than anybody writes by hand.
pub(super) const MAX_REGISTERED: usize = 256;

/// Whether an asker's address is known well enough for its question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    /// It is, for this question.
    Enough,
    /// A validated address would get a better answer.
    Wanted,
    /// The answer has left no room for a ping, which is all that an address may be sent that is not
    /// validated.
    NoRoom,
}

/// Why a store is not taken from the node that it seems to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Inadmissible {
    /// It lacks the right token, which is this one.
    #[error("the address is not proved, send the token")]
    WantsToken([u8; 16]),
    /// It comes from an original whose address is not validated.
    #[error("the address is not proved, and no token comes with the store")]
    KnowsNone,
}

/// The application's RPC failed; the caller is told no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcFailed;

/// Why an RPC cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The protocol defines it already.
    #[error("the protocol itself defines an RPC of that name")]
    Reserved,
    /// There are too many.
    #[error("{MAX_REGISTERED} RPCs are registered already")]
    TooMany,
}

impl Active<'_> {
    /// Answers a request that has waited for the application.
    pub(super) fn answer(
        &mut self,
        waiting: Waiting,
        result: Result<Vec<Value>, RpcFailed>,
    ) -> Result<(), CallError> {
        let Waiting { asked, call, at } = waiting;
        let sizes = asked.header.dialect.sizes();
        let max = self.reply_max(&asked).saturating_sub(sizes.around_returned);
        let max = max.min(sizes.custom_max);
        let bytes = result.iter().flatten().map(|value| value.as_bytes().len()).sum();
        let start = self.shared.out.bytes.len();
        let fits = bytes <= max;
        match result {
            Ok(values) if fits => self.put(&asked, &Response::Returned(values)),
            _ => self.put(&asked, RpcError::Failed),
        }
        self.shared.pending.repeats.answered(&call, &self.shared.out.bytes[start..]);
        self.shared.transmit_later(at, &asked, start, Bill::default());
        if fits { Ok(()) } else { Err(CallError::TooLarge { bytes, max }) }
    }

    /// Answers a request that came in a datagram of `len` bytes, and notes who sent it.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        by: Contact,
        local: LocalEnd,
        (envelope, query): (&Envelope<'_>, UnreadQuery<'_>),
        len: usize,
    ) {
        let header = Header { asker: Some(by.address), ..envelope.reply_from(self.overlay.id) };
        let reply_max = header.dialect.sizes().unvalidated_answer_max(len);
        let overlay = self.overlay.number;
        let want = envelope.want.unwrap_or_else(|| Families::of(&by.address));
        let is_read_only = envelope.is_read_only;
        let asked = Asked { overlay, by, local, header, reply_max, want, is_read_only };
        let source = by.address;
        let start = self.shared.out.bytes.len();
        let (request, tokens) = query.read_counting();
        self.shared.bill.read(tokens);
        let validation = match request {
            Ok(request) => self.put_answer(now, &asked, &request),
            Err(error) => {
                self.shared.counters.refused += 1;
                self.put(&asked, error);
                return self.shared.transmit(source, local, start);
            }
        };
        self.shared.counters.requests += 1;
        if self.shared.out.bytes.len() > start {
            self.shared.transmit(source, local, start);
        }
        match validation {
            // It would not answer.
            _ if is_read_only => {}
            Validation::Enough => self.on_asked(now, asked.by, local),
            // Whether or not the routing table wants it.
            Validation::Wanted => self.verify(now, &asked.by, local),
            Validation::NoRoom => {}
        }
    }

    /// How long the answer may get.
    pub(super) fn reply_max(&self, asked: &Asked) -> usize {
        if self.is_validated(&asked.by) { self.overlay.policy.answer_max } else { asked.reply_max }
    }

    /// Appends a message that is not one of the hot answers.
    pub(super) fn put<'a>(&mut self, asked: &Asked, message: impl Into<Message<'a>>) {
        wire::emit(&mut self.shared.out.bytes, &asked.header, message);
    }

    /// Appends the answer to a request, if it is to be given now. Returns whether a validated address
    /// would get a better answer.
    fn put_answer(&mut self, now: Instant, asked: &Asked, request: &Request<'_>) -> Validation {
        match *request {
            Request::Ping => self.put(asked, &Response::Pong),
            Request::FindNode { target } => {
                let max = self.reply_max(asked);
                self.shared.bill.named();
                let closest = closest_for(self.overlay, self.kin(), asked, &target);
                let out = &mut self.shared.out.bytes;
                wire::emit_nodes(out, &asked.header, asked.want, closest, max);
            }
            Request::FindValue(search) => return self.put_values_answer(now, asked, &search),
            Request::Store(store) => return self.put_store_answer(now, asked, &store),
            Request::GetSocket => self.put(asked, &Response::Socket(asked.by.address)),
            Request::Custom { name, args } => self.ask_application(now, asked, name, args),
            Request::Mainline(query) => return self.put_mainline_answer(now, asked, &query),
        }
        Validation::Enough
    }

    /// Answers a search for values. An address that is not validated may be too little for all
    /// values: then a node that knows of tokens is told so, and an original's question waits until
    /// its address is validated.
    fn put_values_answer(
        &mut self,
        now: Instant,
        asked: &Asked,
        search: &FindValue<'_>,
    ) -> Validation {
        self.is_right_token(now, &asked.by.address, search.token);
        let max = self.reply_max(asked);
        if search.is_extended() || max >= self.overlay.policy.answer_max {
            self.put_values(now, asked, search, max);
            return Validation::Enough;
        }
        let picked = pick(&self.overlay.store, asked, search, max, &mut self.shared.rng);
        picked.iter().for_each(|picked| charge(&mut self.shared.bill, picked));
        let is_cut =
            picked.is_some_and(|picked| picked.more > 0 && picked.values.count() < search.limit);
        let validation = if is_cut { Validation::Wanted } else { Validation::Enough };
        let search = FindValue::new(search.key, search.limit);
        let question = Question::Values(search);
        let question = DeferredQuestion { asked: *asked, question };
        if validation == Validation::Enough || !self.shared.deferred.insert(now, question) {
            self.put_values(now, asked, &search, max);
        }
        validation
    }

    fn put_values(&mut self, now: Instant, asked: &Asked, search: &FindValue<'_>, max: usize) {
        self.shared.bill.named();
        let kin = self.kin();
        let Overlay { store, policy, .. } = &*self.overlay;
        let Shared { out, token_issuer, rng, bill, .. } = &mut *self.shared;
        let picked = pick(store, asked, search, max, rng);
        picked.iter().for_each(|picked| charge(bill, picked));
        let rest = match &picked {
            Some(picked) if search.is_extended() => {
                let wants_token = max < policy.answer_max && picked.more > 0;
                let token =
                    wants_token.then(|| token_issuer.token(now, &asked.by.address).to_vec());
                Rest { more: picked.more, next: picked.next, token }
            }
            _ => Rest::default(),
        };
        let is_held = picked.is_some();
        let values = picked.map(|picked| picked.values);
        let closest = closest_for(self.overlay, kin, asked, &search.key);
        wire::emit_values(&mut out.bytes, &asked.header, values, &rest, closest, max);
        if is_held {
            self.overlay.store.copies().note_asked(&search.key);
        }
    }

    /// Answers the questions that have waited for this address to be validated.
    pub(super) fn answer_deferred(&mut self, now: Instant, address: &SocketAddr) {
        while let Some(question) = self.shared.deferred.take_from(self.overlay.number, address) {
            self.answer_question(now, &question, self.overlay.policy.answer_max);
        }
    }

    pub(super) fn answer_question(
        &mut self,
        now: Instant,
        question: &DeferredQuestion,
        max: usize,
    ) {
        let DeferredQuestion { asked, question } = question;
        let start = self.shared.out.bytes.len();
        // The asker pays for the answer, whatever datagram or timer brings it about.
        let before = std::mem::take(&mut self.shared.bill);
        match question {
            Question::Values(search) => self.put_values(now, asked, search, max),
            Question::Peers(search) => _ = self.put_peers(now, asked, search, max),
            Question::Item(search) => _ = self.put_item(now, asked, search, (max, max)),
        }
        let bill = std::mem::replace(&mut self.shared.bill, before);
        self.shared.transmit_later(now, asked, start, bill);
    }

    /// Hands a request to the application, or answers that there is no RPC of that name, or no room.
    fn ask_application(&mut self, now: Instant, asked: &Asked, name: &[u8], args: List<'_>) {
        if !self.shared.registered.contains(name) {
            return self.put(asked, RpcError::NoSuchRpc);
        }
        let call = call_of(asked, name, args);
        let max = self.reply_max(asked);
        match self.shared.pending.repeats.earlier(now, &call) {
            // One answer serves both.
            Some(Earlier::Unanswered) => return,
            // The answer was cut to what the caller might get then.
            Some(Earlier::Answered(answer)) if answer.len() <= max => {
                return self.shared.out.bytes.extend_from_slice(answer);
            }
            Some(Earlier::Answered(_)) => {
                return self.put(asked, RpcError::Failed);
            }
            None => {}
        }
        if !self.shared.pending.has_room() {
            return self.put(asked, RpcError::Failed);
        }
        self.shared.bill.kept(args.len_max());
        let Ok(args) = args.values() else {
            return self.put(asked, RpcError::Failed);
        };
        let token = self.shared.pending.insert(now, asked, call);
        let name = name.to_vec();
        self.shared.out.events.push_back(Event::Request { token, from: asked.by, name, args });
    }

    /// The standing of a store, if it may be taken from the node that it seems to come from. Only what
    /// comes with the datagram counts, not what that node has shown before: anybody can write its address
    /// on a datagram.
    fn admit(
        &mut self,
        now: Instant,
        asker: &Contact,
        store: &StoreRequest<'_>,
    ) -> Result<Standing, Inadmissible> {
        let publisher = store.copy.and_then(|copy| copy.publisher);
        let is_of_sender = publisher.is_none_or(|publisher| publisher == *asker);
        let standing = if is_of_sender { Standing::Published } else { Standing::Hearsay };
        if is_loopback(&asker.address) {
            return Ok(standing);
        }
        if !store.is_extended() {
            return match self.shared.config.require_tokens && !self.is_validated(asker) {
                true => Err(Inadmissible::KnowsNone),
                false => Ok(Standing::Claimed),
            };
        }
        if self.is_right_token(now, &asker.address, store.token) {
            Ok(standing)
        } else {
            Err(Inadmissible::WantsToken(self.shared.token_issuer.token(now, &asker.address)))
        }
    }

    /// Whether a token is the one that was given to an address. If it is, the address is validated.
    pub(super) fn is_right_token(
        &mut self,
        now: Instant,
        address: &SocketAddr,
        token: Option<&[u8]>,
    ) -> bool {
        let is_right =
            token.is_some_and(|token| self.shared.token_issuer.accepts(now, address, token));
        if is_right {
            self.shared.validated.insert(*address);
        }
        is_right
    }

    fn put_store_answer(
        &mut self,
        now: Instant,
        asked: &Asked,
        store: &StoreRequest<'_>,
    ) -> Validation {
        let admitted = self.admit(now, &asked.by, store);
        let (out, header) = (&mut self.shared.out.bytes, &asked.header);
        let standing = match admitted {
            Ok(standing) => standing,
            Err(inadmissible @ Inadmissible::WantsToken(token)) => {
                put_refused(out, header, store, &inadmissible, Some(&token));
                return Validation::Enough;
            }
            Err(inadmissible @ Inadmissible::KnowsNone) => {
                put_refused(out, header, store, &inadmissible, None);
                return Validation::Wanted;
            }
        };
        let bytes = store.value.as_bytes().len();
        if let Err(refusal) = self.overlay.store.check_size(bytes) {
            put_refused(out, header, store, &refusal, None);
            return Validation::Enough;
        }
        self.shared.bill.kept(bytes);
        self.shared.bill.examined(self.overlay.store.count_under(&store.key));
        match Value::of(store.value) {
            Err(_) => put_refused(out, header, store, &"the value nests too deep", None),
            Ok(value) => {
                let deposit = deposit(&asked.by, store, standing, value);
                match self.overlay.store.put(now, deposit, &mut self.shared.rng) {
                    Ok(()) => {
                        self.shared.counters.stored += 1;
                        wire::emit(out, header, &Response::Stored);
                    }
                    Err(refusal) => put_refused(out, header, store, &refusal, None),
                }
            }
        }
        Validation::Enough
    }
}

impl Node {
    /// Tells the callers of RPCs that the application left unanswered that they failed.
    pub(super) fn fail_overdue_requests(&mut self, now: Instant) {
        while let Some(waiting) = self.shared.pending.take_overdue(now) {
            let mut overlay = self.active(waiting.asked.overlay);
            overlay.answer(waiting, Err(RpcFailed)).expect("a failure fits a datagram");
        }
    }

    /// Answers the questions that have waited in vain, as far as an address may be answered that is
    /// not validated.
    pub(super) fn answer_overdue_questions(&mut self, now: Instant) {
        while let Some(question) = self.shared.deferred.take_overdue(now) {
            let max = question.asked.reply_max;
            self.active(question.asked.overlay).answer_question(now, &question, max);
        }
    }
}

/// The contacts nearest to a target that are useful to the asker: those that answer, all but the asker
/// itself. First come those of the family over which it asks, if it wants them, then those of the
/// other, if it wants these and there is an overlay that knows them.
pub(super) fn closest_for<'t>(
    overlay: &'t Overlay,
    kin: Option<&'t Overlay>,
    asked: &Asked,
    target: &Id,
) -> impl Iterator<Item = &'t EncodedContact> {
    let (asker, target, named) = (asked.by, *target, overlay.policy.named);
    let is_ipv4 = asker.address.is_ipv4();
    let nearest = move |overlay: &'t Overlay, is_ipv4: bool| {
        let is_for_asker = move |contact: &Contact| {
            contact.id != asker.id
                && contact.address != asker.address
                && contact.address.is_ipv4() == is_ipv4
        };
        let good = overlay.table.closest(&target).filter(|entry| entry.is_good());
        let for_asker = good.filter(move |entry| is_for_asker(&entry.contact)).take(named);
        for_asker.map(|entry| overlay.table.encoded(entry))
    };
    let wants = |is_ipv4: bool| if is_ipv4 { asked.want.ipv4 } else { asked.want.ipv6 };
    let own = wants(is_ipv4).then(|| nearest(overlay, is_ipv4));
    let others = kin.filter(|_| wants(!is_ipv4)).map(|kin| nearest(kin, !is_ipv4));
    own.into_iter().chain(others).flatten()
}

/// What tells a call of the application's RPCs from others.
fn call_of(asked: &Asked, name: &[u8], args: List<'_>) -> CallKey {
    let args = args.flat_map(Item::as_bytes);
    let what: Vec<u8> = name.iter().chain(args).copied().collect();
    CallKey::new(asked.by.address, asked.header.transaction, &what)
}

/// The values for an answer of at most `reply_max` bytes.
fn pick<'s>(
    store: &'s values::Store,
    asked: &Asked,
    search: &FindValue<'_>,
    reply_max: usize,
    rng: &mut ChaCha8Rng,
) -> Option<Picked<'s>> {
    let FindValue { key, limit, after, .. } = search;
    let max = asked.header.dialect.values_max(search, reply_max);
    store.pick(key, *limit, max, after.as_ref(), rng)
}

/// Charges for choosing values from those under a key.
fn charge(bill: &mut Bill, picked: &Picked<'_>) {
    if picked.is_ordered {
        bill.ordered(picked.examined);
    } else {
        bill.examined(picked.examined);
    }
}

/// Appends the refusal of a store. An original takes any list for success, so it is told that the RPC
/// failed.
fn put_refused(
    out: &mut Vec<u8>,
    header: &Header,
    store: &StoreRequest<'_>,
    reason: &dyn Display,
    token: Option<&[u8]>,
) {
    if store.is_extended() {
        let (reason, token) = (reason.to_string(), token.map(<[u8]>::to_vec));
        wire::emit(out, header, &Response::Refused { reason, token });
    } else {
        wire::emit(out, header, RpcError::Failed);
    }
}

/// A value that a peer wants kept, with the node that is to be taken for its publisher.
fn deposit(asker: &Contact, store: &StoreRequest<'_>, standing: Standing, value: Value) -> Deposit {
    let depositor = Party::Node(*asker);
    let (publisher, age) = match store.copy {
        None => (depositor, Duration::ZERO),
        Some(copy) => (copy.publisher.map_or(depositor, Party::Node), copy.age),
    };
    // A copy replaces nothing, whatever it says.
    let mode = if publisher == depositor { store.mode } else { StoreMode::Add };
    Deposit { key: store.key, value, mode, publisher, depositor, standing, age }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::message::TransactionId;
    use crate::node::overlay::OverlayId;
    use crate::wire::Dialect;

    fn asked(number: u32) -> Asked {
        let [_, a, b, c] = number.to_be_bytes();
        let by = Contact { id: Id::of_name([a, b, c]), address: ([11, b, c, 1], 9).into() };
        let (from, transaction) = (Id::of_name("node"), TransactionId::new([0; 8]));
        let header = Header { dialect: Dialect::V1, from, transaction, asker: None };
        let overlay = OverlayId::FIRST;
        let (local, want) = (LocalEnd::default(), Families::ALL);
        Asked { overlay, by, local, header, reply_max: 200, want, is_read_only: false }
    }

    /// A node with this many rows under a key.
    fn node_with(rows: u32, key: Id) -> Node {
        let mut node = Node::new(Instant::ZERO, Id::of_name("node"), Config::default(), [7; 32]);
        for number in 0..rows {
            let publisher = Party::Node(asked(number).by);
            let (value, mode) = (Value::bytes(format!("{number:03}")), StoreMode::Add);
            let (standing, age) = (Standing::Published, Duration::ZERO);
            let deposit =
                Deposit { key, value, mode, publisher, depositor: publisher, standing, age };
            let Active { overlay, shared, .. } = node.active(OverlayId::FIRST);
            overlay.store.put(Instant::ZERO, deposit, &mut shared.rng).unwrap();
        }
        node
    }

    #[test]
    fn rows_that_are_looked_at_are_paid_for() {
        let (key, now) = (Id::of_name("key"), Instant::ZERO);
        // What 512 rows cost more than one.
        let dearer = |ask: &dyn Fn(&mut Active<'_>)| {
            let cost = |rows| {
                let mut node = node_with(rows, key);
                let mut active = node.active(OverlayId::FIRST);
                active.shared.bill = Bill::default();
                ask(&mut active);
                active.shared.bill.nanos()
            };
            cost(512) - cost(1)
        };
        let find = |limit, after, token| {
            move |active: &mut Active<'_>| {
                let search = FindValue { after, token, ..FindValue::new(key, limit) };
                let _ = active.put_values_answer(now, &asked(9_999), &search);
            }
        };
        let first = Some(Id::new([0; Id::LEN]));
        assert_eq!(dearer(&find(1, first, Some(b""))), 512 * 40 - 40);
        assert_eq!(dearer(&find(1, None, Some(b""))), 512 * 40 - 10);
        // The question is held back, and no contacts are named until it is answered.
        assert_eq!(dearer(&find(512, None, None)) + 900, 512 * 40 - 2 * 10);
        let store = |active: &mut Active<'_>| {
            let value = Value::bytes("one too many");
            let (item, mode) = (value.item(), StoreMode::Add);
            let store = StoreRequest { key, value: item, mode, copy: None, token: None };
            let _ = active.put_store_answer(now, &asked(9_999), &store);
        };
        assert_eq!(dearer(&store), 511 * 10);
    }

    #[test]
    fn the_asker_pays_when_an_answer_is_chosen_again_and_nobody_else_does() {
        let key = Id::of_name("key");
        let mut node = node_with(512, key);
        let mut active = node.active(OverlayId::FIRST);
        active.shared.bill = Bill::of_datagram(100);
        let before = active.shared.bill.nanos();
        let question = Question::Values(FindValue::new(key, 6));
        let question = DeferredQuestion { asked: asked(9_999), question };
        let buckets = active.shared.limits.buckets_of(&question.asked.by.address).unwrap();
        let mut answers = 0;
        while active.shared.limits.has_left(Instant::ZERO, &buckets) {
            active.answer_question(Instant::ZERO, &question, 1_000);
            answers += 1;
        }
        assert_eq!(active.shared.bill.nanos(), before);
        assert!(answers <= 250_000_000 / (512 * 40), "{answers} in a quarter of a second");
    }
}
