//! Answering requests: the one reply that each gets, and the RPCs that the application answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::address::{LocalEnd, Scope};
use crate::bencode::{Item, List, Value};
use crate::id::Id;
use crate::message::{Contact, Kind, Request, Store, StoreMode};
use crate::node::cost::Bill;
use crate::node::repeats::{Call, Earlier, Repeats};
use crate::node::routing::Table;
use crate::node::store::{Deposit, Owner, Standing};
use crate::node::{CallError, Event, Node};
use crate::time::{Duration, Instant};
use crate::wire::v1::{self, EncodedContact, Header};

/// Requests that wait for the application's answer at once: 16 MB if all are of the largest.
const MAX_PENDING: usize = 256;

/// An original caller waits for 1.5 s; before that it should hear that the RPC failed.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_400);

/// RPCs that an application may register: more than anybody writes by hand.
const MAX_REGISTERED: usize = 256;

/// Ties an application's answer to the request; see [`Event::Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(u64);

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

/// Requests that wait for the application's answer, and those that came a moment ago.
#[derive(Default)]
pub(super) struct Pending {
    requests: BTreeMap<RequestToken, Waiting>,
    last: u64,
    repeats: Repeats,
}

struct Waiting {
    header: Header,
    from: Contact,
    call: Call,
    local: LocalEnd,
    /// How long the answer may get if the address is not validated by then.
    reply_max: usize,
    asked: Instant,
}

impl Waiting {
    fn deadline(&self) -> Instant {
        self.asked + ANSWER_WITHIN
    }
}

impl Pending {
    pub(super) fn next_timeout(&self) -> Instant {
        // All wait equally long, so the oldest is first.
        self.requests.first_key_value().map_or(Instant::NEVER, |(_, waiting)| waiting.deadline())
    }
}

impl Node {
    /// Announces that the application answers an RPC: requests come as [`Event::Request`].
    ///
    /// # Errors
    /// If the name belongs to the protocol, or too many are registered.
    pub fn register(&mut self, name: &[u8]) -> Result<(), RegisterError> {
        if v1::kind_named(name) != Kind::Custom {
            return Err(RegisterError::Reserved);
        }
        if self.registered.len() >= MAX_REGISTERED && !self.registered.contains(name) {
            return Err(RegisterError::TooMany);
        }
        self.registered.insert(name.to_vec());
        Ok(())
    }

    /// Takes an RPC back; callers are told that there is none. Returns whether there was one.
    pub fn unregister(&mut self, name: &[u8]) -> bool {
        self.registered.remove(name)
    }

    /// Answers a request that came as [`Event::Request`]. An answer that comes too late goes
    /// nowhere.
    ///
    /// # Errors
    /// If the values do not fit a datagram, or, where the caller's address is not validated, what it may
    /// be sent for its request; the caller is then told that the RPC failed.
    pub fn answer(
        &mut self,
        token: RequestToken,
        result: Result<Vec<Value>, RpcFailed>,
    ) -> Result<(), CallError> {
        let Some(waiting) = self.pending.requests.remove(&token) else {
            return Ok(());
        };
        let Waiting { header, from, call, local, reply_max, asked, .. } = waiting;
        let is_validated = self.is_validated(&from);
        let max =
            if is_validated { usize::MAX } else { reply_max.saturating_sub(v1::RETURNED_AROUND) };
        let max = max.min(v1::MAX_CUSTOM_PAYLOAD);
        let bytes = result.iter().flatten().map(|value| value.as_bytes().len()).sum();
        let start = self.out.bytes.len();
        let fits = bytes <= max;
        match result {
            Ok(values) if fits => v1::put_returned(&mut self.out.bytes, &header, &values),
            _ => v1::put_failed(&mut self.out.bytes, &header),
        }
        self.pending.repeats.answered(&call, &self.out.bytes[start..]);
        let mut bill = Bill::default();
        bill.sent(1, (self.out.bytes.len() - start) as u64);
        if let Some(account) = self.limits.account(&from.address) {
            self.limits.charge(asked, &account, bill.nanos());
        }
        self.transmit(from.address, local, start);
        if fits { Ok(()) } else { Err(CallError::TooLarge { bytes, max }) }
    }

    /// Answers a request that came in a datagram of so many bytes, and notes who sent it.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: LocalEnd,
        header: &Header,
        payload: &[u8],
        len: usize,
    ) {
        let asker = Contact { id: header.from, address: source };
        let header = Header { from: self.id, rpc_id: header.rpc_id };
        let start = self.out.bytes.len();
        let (request, tokens) = v1::request_counting(payload);
        self.bill.read(tokens);
        match request {
            Ok(request) => self.put_answer(now, &asker, local, &header, &request, len),
            Err(error) => {
                self.counters.refused += 1;
                return self.refuse(source, local, &header, error);
            }
        }
        self.counters.requests += 1;
        if self.out.bytes.len() > start {
            self.transmit(source, local, start);
        }
        self.on_asked(now, asker, local);
    }

    fn refuse(
        &mut self,
        source: SocketAddr,
        local: LocalEnd,
        header: &Header,
        error: v1::PayloadError,
    ) {
        let start = self.out.bytes.len();
        v1::put_refusal(&mut self.out.bytes, header, error);
        self.transmit(source, local, start);
    }

    /// Appends the answer to a request of so many bytes, if it is not the application's to give.
    fn put_answer(
        &mut self,
        now: Instant,
        asker: &Contact,
        local: LocalEnd,
        header: &Header,
        request: &Request<'_>,
        len: usize,
    ) {
        match *request {
            Request::Ping => v1::put_pong(&mut self.out.bytes, header),
            Request::FindNode { target } => {
                let max = self.reply_max(asker, len);
                self.bill.named();
                let Node { table, out, config, .. } = self;
                let closest = closest_for(table, asker, &target, config.k);
                v1::put_nodes(&mut out.bytes, header, closest, max);
            }
            Request::FindValue { key, limit } => {
                let max = self.reply_max(asker, len);
                self.bill.named();
                let Node { table, store, out, config, rng, .. } = self;
                let values = store.pick(&key, limit, v1::MAX_VALUES, None, rng);
                let values = values.map(|picked| picked.values);
                let closest = closest_for(table, asker, &key, config.k);
                v1::put_values(&mut out.bytes, header, values, closest, max);
            }
            Request::Store(store) => self.put_store_answer(now, asker, header, &store),
            Request::GetSocket => {
                v1::put_socket(&mut self.out.bytes, header, asker.address);
            }
            Request::Custom { name, args } => {
                self.ask_application(now, asker, local, header, (name, args), len);
            }
        }
    }

    /// Hands a request to the application, or answers that it knows none of that name or cannot take it.
    fn ask_application(
        &mut self,
        now: Instant,
        asker: &Contact,
        local: LocalEnd,
        header: &Header,
        (name, args): (&[u8], List<'_>),
        len: usize,
    ) {
        if !self.registered.contains(name) {
            return v1::put_no_such_rpc(&mut self.out.bytes, header);
        }
        let call = call_of(asker, header, name, args);
        let is_validated = self.is_validated(asker);
        match self.pending.repeats.earlier(now, &call) {
            // The one answer serves both.
            Some(Earlier::Unanswered) => return,
            // It was cut to what the caller might get then.
            Some(Earlier::Answered(answer))
                if is_validated || answer.len() <= v1::unvalidated_reply_max(len) =>
            {
                return self.out.bytes.extend_from_slice(answer);
            }
            Some(Earlier::Answered(_)) => return v1::put_failed(&mut self.out.bytes, header),
            None => {}
        }
        if self.pending.requests.len() >= MAX_PENDING {
            return v1::put_failed(&mut self.out.bytes, header);
        }
        self.bill.kept(args.len_max());
        let Ok(args) = v1::values(args) else {
            return v1::put_failed(&mut self.out.bytes, header);
        };
        self.pending.repeats.remember(now, call);
        let token = self.await_answer(now, asker, call, local, *header, len);
        let name = name.to_vec();
        self.out.events.push_back(Event::Request { token, from: *asker, name, args });
    }

    fn put_store_answer(
        &mut self,
        now: Instant,
        asker: &Contact,
        header: &Header,
        store: &Store<'_>,
    ) {
        let admitted = self.admit(now, asker, store);
        let out = &mut self.out.bytes;
        if let Err(unproved) = admitted {
            return v1::put_refused(out, header, &unproved.to_string(), unproved.token());
        }
        let bytes = store.value.as_bytes().len();
        if let Err(refusal) = self.store.check_size(bytes) {
            return v1::put_refused(out, header, &refusal.to_string(), None);
        }
        self.bill.kept(bytes);
        let Ok(value) = Value::of(store.value) else {
            return v1::put_refused(out, header, "the value nests too deep", None);
        };
        match self.store.put(now, deposit(asker, store, value), &mut self.rng) {
            Ok(()) => v1::put_stored(out, header),
            Err(refusal) => v1::put_refused(out, header, &refusal.to_string(), None),
        }
    }

    fn await_answer(
        &mut self,
        now: Instant,
        from: &Contact,
        call: Call,
        local: LocalEnd,
        header: Header,
        len: usize,
    ) -> RequestToken {
        self.pending.last += 1;
        let token = RequestToken(self.pending.last);
        let reply_max = v1::unvalidated_reply_max(len);
        let waiting = Waiting { header, from: *from, call, local, reply_max, asked: now };
        self.pending.requests.insert(token, waiting);
        token
    }

    /// Tells the callers of RPCs that the application left unanswered that they failed.
    pub(super) fn fail_overdue_requests(&mut self, now: Instant) {
        while let Some((&token, waiting)) = self.pending.requests.first_key_value()
            && waiting.deadline() <= now
        {
            self.answer(token, Err(RpcFailed)).expect("a failure fits a datagram");
        }
    }
}

/// The contacts nearest to a target that are worth naming to the asker: those that answer, and
/// that it can reach over the protocol family it uses, itself left out.
fn closest_for<'t>(
    table: &'t Table,
    asker: &Contact,
    target: &Id,
    k: usize,
) -> impl Iterator<Item = &'t EncodedContact> {
    let asker = *asker;
    let is_for_asker = move |contact: &Contact| {
        contact.id != asker.id
            && contact.address != asker.address
            && contact.address.is_ipv4() == asker.address.is_ipv4()
    };
    table
        .closest(target)
        .filter(move |entry| entry.is_worth_naming() && is_for_asker(&entry.contact))
        .take(k)
        .map(|entry| &entry.encoded)
}

/// What tells a call of the application's RPCs from others.
fn call_of(asker: &Contact, header: &Header, name: &[u8], args: List<'_>) -> Call {
    let args = args.flat_map(Item::as_bytes);
    let what: Vec<u8> = name.iter().chain(args).copied().collect();
    Call::new(asker.address, header.rpc_id, &what)
}

/// A value that a peer wants kept, with who is to be taken for its owner.
fn deposit(asker: &Contact, store: &Store<'_>, value: Value) -> Deposit {
    let depositor = Owner::Node(*asker);
    let (owner, age) = match store.copy {
        None => (depositor, Duration::ZERO),
        Some(copy) => (copy.owner.map_or(depositor, Owner::Node), copy.age),
    };
    // What is passed on replaces nothing, whatever it says.
    let mode = if owner == depositor { store.mode } else { StoreMode::Add };
    let standing = match store.token {
        _ if owner != depositor => Standing::Hearsay,
        None if Scope::of(asker.address.ip()) != Scope::Loopback => Standing::Claimed,
        _ => Standing::Published,
    };
    Deposit { key: store.key, value, mode, owner, depositor, standing, age }
}
