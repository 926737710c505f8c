//! One node and a world that does whatever the input says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kademlua::address::LocalEnd;
use kademlua::bencode::{self, Value};
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::kad::lookup::Goal;
use kademlua::message::{
    Contact, FindValue, Request, Response, Rest, Route, RouteFlags, RouteKind, Rpc, StoreMode,
    TransactionId,
};
use kademlua::node::{Event, Input, Node, Output, Peer, RequestToken, RpcFailed};
use kademlua::store::{RowId, Standing};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{
    AMPLIFICATION_MAX, Body, Dialect, Envelope, Header, MAX_DATAGRAM, Message, UnreadAnswer, emit,
    parse,
};

/// Datagrams that one input may make a node send: 64 pings, four lookups of upkeep, some stores.
const MAX_BURST: usize = 4_096;

/// Timeouts in the longest step of time.
const MAX_TIMEOUTS: usize = 100_000;

/// The steps of an input that are looked at; more shows nothing new.
const MAX_STEPS: usize = 256;

/// Questions of one address that wait until it has answered a ping, and are then answered together.
const MAX_DEFERRED: usize = 8;

/// Questions of the node that can still be answered.
const MAX_OPEN: usize = 256;

/// Memory for values: a few dozen of those that are stored here, so that there is too little of it.
const MAX_STORE_BYTES: usize = 50_000;

/// The most memory that a value and its bookkeeping take here.
const MAX_VALUE_COST: usize = 6_000;

/// Whatever peers, the application and time do to a node in whatever order: it answers a request at most
/// once, sends no more bytes because of it than its source may cause, keeps no more than its bounds
/// allow, lets no store without its publisher's token touch values that came with one, takes nothing from
/// sources that nobody can be at, and is never due again before time has passed.
pub fn node(bytes: &[u8]) {
    let mut world = World::new(bytes);
    for _ in 0..MAX_STEPS {
        if world.script.is_empty() {
            break;
        }
        world.step();
        world.check();
    }
    // Every operation ends, if nothing else happens.
    world.pass(Duration::from_secs(900));
    assert_eq!(world.running(), 0);
}

struct World<'a> {
    script: &'a [u8],
    node: Node,
    now: Instant,
    timeout: Instant,
    /// Requests of the node, the latest last.
    open: Vec<(SocketAddr, TransactionId, Rpc)>,
    tokens: Vec<RequestToken>,
    /// Routes that the node sent, and their answers, the latest last.
    routes: Vec<Vec<u8>>,
    /// Addresses that sent something other than a request, or sent a token.
    answered: BTreeSet<SocketAddr>,
    /// The last token that the node gave, and all that it gave to an address.
    token: Vec<u8>,
    given: BTreeMap<SocketAddr, BTreeSet<Vec<u8>>>,
    /// Whether bootstrap nodes were named.
    joins: bool,
}

impl<'a> World<'a> {
    fn new(script: &'a [u8]) -> World<'a> {
        let config = Config { max_store_bytes: MAX_STORE_BYTES, ..Config::default() };
        let now = Instant::from_micros(1);
        let mut node = Node::new(now, contact(0).id, config, [7; 32]);
        node.register(b"rpc").expect("a free name");
        let timeout = Instant::NEVER;
        let (open, tokens, answered) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (token, given) = (Vec::new(), BTreeMap::new());
        let (routes, joins) = (Vec::new(), false);
        World { script, node, now, timeout, open, tokens, routes, answered, token, given, joins }
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.script.split_at(len.min(self.script.len()));
        self.script = rest;
        taken
    }

    fn rest_of_datagram(&mut self) -> &'a [u8] {
        let len = u16::from_be_bytes([self.byte() & 1, self.byte()]);
        self.take(usize::from(len))
    }

    fn step(&mut self) {
        let byte = self.byte();
        match byte % 10 {
            // No other bytes, lest the inputs that are kept become other lives.
            0 if byte == 10 => self.see(),
            0 if byte == 20 => self.store_with_token(),
            0 if byte == 30 => self.want_token(),
            0 if byte == 40 => self.come_from_nowhere(),
            0 if byte == 50 => self.store_a_copy(),
            0 if byte == 60 => self.find_values(),
            0 if byte == 70 => self.join_through(),
            0 if byte == 80 => self.keep_vigil(),
            0 if byte == 90 => self.route(),
            0 if byte == 100 => self.routed(),
            0 if byte == 110 => self.unreachable(),
            0 if byte == 120 => self.start_route(),
            0 => {
                let (source, bytes) = (contact(self.byte()).address, self.rest_of_datagram());
                self.receive(source, bytes);
            }
            1 => self.garbled_request(),
            2 => self.request(),
            3 => self.garbled_reply(),
            4 | 5 => self.reply(),
            6 => {
                let span = Duration::from_micros(1 << (self.byte() % 33));
                self.pass(span);
            }
            7 => self.start(),
            8 => self.answer(),
            _ => {
                let contact = contact(self.byte());
                self.node.introduce(self.now, contact);
                self.drain();
            }
        }
    }

    /// Two bootstrap nodes are named, which the node asks again and again from then on.
    fn join_through(&mut self) {
        let addresses = [contact(self.byte()).address, contact(self.byte()).address];
        self.node.join_through(self.now, &addresses);
        self.joins = true;
        self.drain();
    }

    /// The vigil begins, on loopback or off it; off it, neighbours are asked for the own address
    /// too.
    fn keep_vigil(&mut self) {
        let is_loopback = self.byte().is_multiple_of(2);
        self.node.keep_vigil(self.now, is_loopback);
        self.drain();
    }

    /// A request was answered by somebody else.
    fn see(&mut self) {
        let contact = contact(self.byte());
        self.node.handle(self.now, Input::Seen { dialect: Dialect::V1, contact });
        assert!(self.drain().replies.is_empty(), "nothing was asked");
    }

    /// A route, of a client or of a node on its way.
    fn route(&mut self) {
        let (sender, target, kind) = (contact(self.byte()), contact(self.byte()), self.byte());
        let [flags, hops_left, skip, padding] =
            [self.byte(), self.byte(), self.byte() % 4, self.byte()];
        let kinds = [RouteKind::Locate, RouteKind::FindValue, RouteKind::Store];
        let (value, padding) = (Value::integer(7), vec![0; 4 * usize::from(padding)]);
        let mut route = Route {
            flags: RouteFlags(flags),
            hops_left,
            skip,
            kind: kinds[usize::from(kind % 3)],
            key: target.id,
            answer_to: target.address,
            budget: 1_400,
            client: sender.address,
            stamp: 0,
            seal: [7; 8],
            payload: value.as_bytes(),
            rest: &padding,
        };
        if let Some(token) = self.routes.last().and_then(|bytes| read_route(bytes)) {
            (route.stamp, route.seal) = (token.stamp, token.seal);
        }
        let from = if kind & 64 == 0 { Id::ZERO } else { sender.id };
        let header = Header {
            dialect: Dialect::V1,
            from,
            transaction: TransactionId::new([kind; 8]),
            asker: None,
        };
        let mut out = Vec::new();
        emit(&mut out, &header, Message::Route(&route));
        self.receive(sender.address, &out);
    }

    /// An answer to one of the routes that were sent, or the last answer once more.
    fn routed(&mut self) {
        let (sender, at, len) = (contact(self.byte()), self.byte(), self.byte());
        let Some(bytes) = self.routes.get(usize::from(at)).cloned() else { return };
        let Some(sent) = read_route(&bytes) else { return };
        let transaction = parse(&bytes).expect("a node sends messages").transaction;
        let header = Header { dialect: Dialect::V1, from: sender.id, transaction, asker: None };
        let payload = vec![b'x'; 8 * usize::from(len)];
        let mut out = Vec::new();
        emit(&mut out, &header, Message::Routed(&Route { payload: &payload, rest: &[], ..sent }));
        self.receive(sender.address, &out);
    }

    /// The system says that a datagram reached nobody.
    fn unreachable(&mut self) {
        let (destination, at) = (contact(self.byte()).address, self.byte());
        let Some(bytes) = self.routes.get(usize::from(at)).cloned() else { return };
        self.node.handle(self.now, Input::Unreachable { destination, bytes: &bytes });
        self.drain();
    }

    fn start_route(&mut self) {
        let (key, kind) = (contact(self.byte()).id, self.byte());
        let kind = if kind & 1 == 0 { RouteKind::Locate } else { RouteKind::FindValue };
        self.node.start_route(self.now, key, kind, true);
        self.drain();
    }

    fn garbled_request(&mut self) {
        let from = contact(self.byte());
        let payload = self.rest_of_datagram();
        self.receive(from.address, &framed(from.id, TransactionId::new([7; 8]), 1, payload));
    }

    /// A request that is well formed.
    fn request(&mut self) {
        let (from, target, kind) = (contact(self.byte()), contact(self.byte()).id, self.byte());
        let value = Value::bytes(vec![b'x'; 16 * usize::from(self.byte())]);
        let publisher = Some(contact(self.byte()));
        let age = Duration::from_secs(u64::from(self.byte()) * 400);
        let copy = kademlua::message::CopyOf { publisher, age };
        let plain = kademlua::message::StoreRequest {
            key: target,
            value: value.item(),
            mode: if kind & 64 == 0 { StoreMode::Add } else { StoreMode::Replace },
            copy: (kind & 32 != 0).then_some(copy),
            token: None,
        };
        let request = match kind % 6 {
            0 => Request::Ping,
            1 => Request::FindNode { target },
            2 => Request::FindValue(FindValue::new(target, usize::from(kind))),
            3 => Request::Store(plain),
            4 => Request::GetSocket,
            _ => Request::Custom { name: b"rpc", args: kademlua::bencode::List::EMPTY },
        };
        self.ask(from, &request);
    }

    /// A store with the token that the node gave last, to any sender, or with another.
    fn store_with_token(&mut self) {
        let (from, key, kind) = (contact(self.byte()), contact(self.byte()).id, self.byte());
        let token = match kind % 4 {
            0 => Vec::new(),
            1 => vec![kind; usize::from(kind / 2)],
            _ => self.token.clone(),
        };
        let copy = kademlua::message::CopyOf { publisher: None, age: Duration::from_secs(1) };
        self.ask(
            from,
            &Request::Store(kademlua::message::StoreRequest {
                key,
                value: Value::integer(kind.into()).item(),
                mode: StoreMode::Add,
                copy: (kind & 8 != 0).then_some(copy),
                token: Some(&token),
            }),
        );
    }

    /// A copy with the publisher, the age and the token of the input's choice: no token, the last one or
    /// the oldest that its address was given, that of another, or none that ever was.
    fn store_a_copy(&mut self) {
        let (from, key, kind) = (contact(self.byte()), contact(self.byte()).id, self.byte());
        let publisher = (kind & 1 != 0).then(|| contact(self.byte()));
        let age = Duration::from_secs(u64::from(self.byte()) * 400);
        let own = self.given.get(&from.address);
        let token = match kind / 2 % 5 {
            0 => None,
            1 => own.and_then(BTreeSet::last).cloned(),
            2 => own.and_then(BTreeSet::first).cloned(),
            3 => Some(self.token.clone()),
            _ => Some(vec![kind; 16]),
        };
        let value = Value::bytes(vec![kind; usize::from(self.byte())]);
        self.ask(
            from,
            &Request::Store(kademlua::message::StoreRequest {
                key,
                value: value.item(),
                mode: if kind & 64 == 0 { StoreMode::Add } else { StoreMode::Replace },
                copy: (kind & 128 == 0).then_some(kademlua::message::CopyOf { publisher, age }),
                token: token.as_deref(),
            }),
        );
    }

    /// A search as other nodes send it now: with a token, with the value after which to go on, with
    /// both or neither, as short as it can be or padded.
    fn find_values(&mut self) {
        let (from, key, kind) = (contact(self.byte()), contact(self.byte()).id, self.byte());
        let mut payload = b"d4:name9:findvalue4:argsl".to_vec();
        bencode::put_bytes(&mut payload, key.as_bytes());
        payload.extend_from_slice(format!("i{}ed", kind % 8).as_bytes());
        if kind & 8 != 0 {
            payload.extend_from_slice(b"5:after");
            let after = [self.byte(); 20];
            bencode::put_bytes(&mut payload, &after[..if kind & 16 != 0 { 20 } else { 7 }]);
        }
        if kind & 32 != 0 {
            payload.extend_from_slice(b"5:token");
            let own = self.given.get(&from.address).and_then(BTreeSet::last);
            let token = if kind & 64 != 0 { own.cloned().unwrap_or_default() } else { vec![kind] };
            bencode::put_bytes(&mut payload, &token);
        }
        payload.extend_from_slice(b"eee");
        let mut datagram = framed(from.id, TransactionId::new([9; 8]), 1, &payload);
        if kind & 128 != 0 {
            datagram.resize(Dialect::V1.sizes().lookup_min(), 0);
        }
        self.receive(from.address, &datagram);
    }

    /// A datagram from an address where nobody can be: nothing comes of it.
    fn come_from_nowhere(&mut self) {
        let (from, kind) = (contact(self.byte()), self.byte());
        let port = from.address.port();
        let (source, is_outside): (SocketAddr, bool) = match kind % 5 {
            0 => (([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], port).into(), false),
            1 => (([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1], port).into(), true),
            2 => (([0, 0, 0, 0, 0, 0, 0x7f00, 1], port).into(), true),
            3 => (([127, 0, 0, 1], port).into(), true),
            _ => (([0, 0, 0, 0, 0, 0, 0, 1], port).into(), true),
        };
        let mut out = Vec::new();
        let header = Header {
            dialect: Dialect::V1,
            from: from.id,
            transaction: TransactionId::new([8; 8]),
            asker: None,
        };
        let value = Value::integer(7);
        let store = kademlua::message::StoreRequest {
            key: from.id,
            value: value.item(),
            mode: StoreMode::Replace,
            copy: None,
            token: None,
        };
        emit(&mut out, &header, &Request::Store(store));
        let before = self.node.store().value_count();
        let local = LocalEnd { is_outside, ..LocalEnd::default() };
        self.node.handle(self.now, Input::Datagram { source, local, bytes: &out });
        assert_eq!(self.drain().total, 0, "{source}");
        assert_eq!(self.node.store().value_count(), before, "{source}");
    }

    fn ask(&mut self, from: Contact, request: &Request<'_>) {
        let mut out = Vec::new();
        emit(
            &mut out,
            &Header {
                dialect: Dialect::V1,
                from: from.id,
                transaction: TransactionId::new([8; 8]),
                asker: None,
            },
            request,
        );
        self.receive(from.address, &out);
    }

    /// A holder refuses, and asks for a token of any length.
    fn want_token(&mut self) {
        let Some((address, rpc_id, _)) = self.question() else { return };
        let token = vec![b't'; usize::from(self.byte()) / 2];
        let mut out = Vec::new();
        let header =
            Header { dialect: Dialect::V1, from: at(address).id, transaction: rpc_id, asker: None };
        let refused = Response::Refused { reason: "token".into(), token: Some(token) };
        emit(&mut out, &header, &refused);
        self.receive(address, &out);
    }

    /// One of the node's questions, and the peer that it asks.
    fn question(&mut self) -> Option<(SocketAddr, TransactionId, Rpc)> {
        let number = usize::from(self.byte());
        let at = self.open.len().checked_sub(1 + number % self.open.len().max(1))?;
        Some(self.open[at])
    }

    fn garbled_reply(&mut self) {
        let Some((address, rpc_id, _)) = self.question() else { return };
        let call = 129 + self.byte() % 3;
        let payload = self.rest_of_datagram();
        self.receive(address, &framed(at(address).id, rpc_id, call, payload));
    }

    /// A reply that is well formed, with contacts and values of the input's choice.
    fn reply(&mut self) {
        let Some((address, rpc_id, kind)) = self.question() else { return };
        let header =
            Header { dialect: Dialect::V1, from: at(address).id, transaction: rpc_id, asker: None };
        let count = self.byte() % 24;
        let closest: Vec<_> = (0..count).map(|_| contact(self.byte())).collect();
        let values: Vec<_> = (0..count / 4).map(|i| Value::integer(i.into())).collect();
        let mut out = Vec::new();
        let response = match kind {
            Rpc::Ping => Response::Pong,
            Rpc::FindNode => Response::Nodes(closest),
            Rpc::FindValue => Response::Values { values, closest, rest: Rest::default() },
            Rpc::Store if count < 12 => Response::Stored,
            Rpc::Store => Response::Refused { reason: "no".into(), token: None },
            Rpc::GetSocket => Response::Socket(contact(count).address),
            Rpc::Custom => Response::Returned(values),
            Rpc::Mainline(_) => unreachable!("the node is in no network of Mainline"),
        };
        emit(&mut out, &header, &response);
        self.receive(address, &out);
    }

    fn start(&mut self) {
        let (kind, who) = (self.byte(), contact(self.byte()));
        let (peer, now) = (Peer::from(who), self.now);
        match kind % 6 {
            0 => self.node.start_bootstrap(now, &[who.address, contact(kind).address]),
            1 => self.node.start_lookup(now, Goal::Node { target: who.id }),
            2 => {
                let max_nodes = usize::from(kind / 64);
                let goal = Goal::Value { key: who.id, max_nodes, max_entries: 6 };
                self.node.start_lookup(now, goal)
            }
            3 => {
                let value = Value::integer(kind.into());
                let stored = self.node.start_store(now, who.id, value, StoreMode::Add);
                stored.expect("a small value")
            }
            4 => self.node.start_ping(now, peer.address.into()),
            _ => self.node.start_call(now, peer, b"rpc", &[]).expect("no arguments"),
        };
        self.drain();
    }

    fn answer(&mut self) {
        let fails = self.byte().is_multiple_of(2);
        let Some(token) = self.tokens.pop() else { return };
        let result = if fails { Err(RpcFailed) } else { Ok(vec![Value::integer(7)]) };
        self.node.answer(token, result).expect("a small answer");
        self.drain();
    }

    fn receive(&mut self, source: SocketAddr, bytes: &[u8]) {
        let limit = self.limit(source, bytes);
        let guarded = self.guarded(source, bytes);
        let room = self.node.store().bytes() + MAX_VALUE_COST <= MAX_STORE_BYTES;
        self.node.handle(self.now, Input::Datagram { source, local: LocalEnd::default(), bytes });
        let sent = self.drain();
        let is_request = matches!(parse(bytes), Ok(Envelope { body: Body::Query(_), .. }));
        let most = if is_request { 1 } else { MAX_DEFERRED };
        assert!(sent.replies.len() <= most, "{} replies", sent.replies.len());
        assert!(sent.replies.iter().all(|&len| len <= MAX_DATAGRAM));
        assert!(limit.is_none_or(|limit| sent.total <= limit), "{} of {limit:?}", sent.total);
        for (key, row, value, expires) in guarded {
            match self.node.store().row(&key, row) {
                Some(after) => assert!(after.value == value && after.expires == expires),
                None => assert!(!room, "what its publisher proved is gone"),
            }
        }
    }

    /// The bytes that may be sent in all because of a datagram: three times its length for a
    /// request from an address that is not validated; no bound for others.
    fn limit(&mut self, source: SocketAddr, bytes: &[u8]) -> Option<usize> {
        let (sender, query) = match parse(bytes) {
            Ok(Envelope { sender, body: Body::Query(query), .. }) => (sender, query),
            // The bytes that these may cause have a test of their own.
            Ok(Envelope { body: Body::Route(_) | Body::Routed(_), .. }) => return None,
            _ => {
                self.answered.insert(source);
                return None;
            }
        };
        if let Ok(Request::Store(store)) = query.read()
            && store.token.is_some_and(|token| self.was_given(source, token))
        {
            self.answered.insert(source);
        }
        // Searches carry tokens too, so they are looked for in the bytes.
        let has = |token: &Vec<u8>| {
            query.as_bytes().windows(token.len().max(1)).any(|part| part == token)
        };
        let has_token = self.given.get(&source).is_some_and(|given| given.iter().any(has));
        (!has_token && !self.may_be_proved(sender.expect("v1 tells who sends"), source))
            .then_some(AMPLIFICATION_MAX * bytes.len())
    }

    fn was_given(&self, source: SocketAddr, token: &[u8]) -> bool {
        self.given.get(&source).is_some_and(|given| given.contains(token))
    }

    /// The rows under a store's key that their publishers proved. The store must not touch them, unless
    /// it is its sender's own and has a token of its source.
    fn guarded(&self, source: SocketAddr, bytes: &[u8]) -> Vec<(Id, RowId, Value, Instant)> {
        let Ok(Envelope { sender, body: Body::Query(query), .. }) = parse(bytes) else {
            return Vec::new();
        };
        let Ok(Request::Store(store)) = query.read() else { return Vec::new() };
        let sender = Contact { id: sender.expect("v1 tells who sends"), address: source };
        let publisher = store.copy.and_then(|copy| copy.publisher).unwrap_or(sender);
        if publisher == sender && store.token.is_some_and(|token| self.was_given(source, token)) {
            return Vec::new();
        }
        let rows = self.node.store().stored(&store.key);
        let proved = rows.filter(|row| row.standing == Standing::Published);
        proved.map(|row| (store.key, row.row, row.value.clone(), row.expires)).collect()
    }

    fn may_be_proved(&self, id: Id, address: SocketAddr) -> bool {
        let known = self.node.table().entry(&id);
        let is_contact =
            known.is_some_and(|entry| entry.contact.address == address && entry.failures == 0);
        is_contact || self.answered.contains(&address)
    }

    /// Lets time pass, with every timeout in it.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut timeouts = 0;
        while self.timeout <= until {
            self.now = self.timeout.max(self.now);
            self.node.handle(self.now, Input::Timeout);
            self.drain();
            assert!(self.timeout > self.now, "due again without delay");
            timeouts += 1;
            assert!(timeouts < MAX_TIMEOUTS);
        }
        self.now = until;
    }

    /// Drains the node's outputs. Returns the datagrams that it sent.
    fn drain(&mut self) -> Sent {
        let (mut replies, mut sent, mut total) = (Vec::new(), 0, 0);
        loop {
            match self.node.poll_output() {
                Output::Transmit { destination, bytes, .. } => {
                    sent += 1;
                    total += bytes.len();
                    assert!(bytes.len() <= MAX_DATAGRAM && sent <= MAX_BURST);
                    let frame = parse(bytes).expect("a node sends messages");
                    match frame.body {
                        Body::Query(query) => {
                            let kind = query.read().expect("a node asks properly").kind();
                            self.open.push((destination, frame.transaction, kind));
                        }
                        Body::Answer(answer) => {
                            if let Some(token) = token_in(answer) {
                                self.token.clone_from(&token);
                                self.given.entry(destination).or_default().insert(token);
                            }
                            replies.push(bytes.len());
                        }
                        Body::Error(_) | Body::CodedError(_) => replies.push(bytes.len()),
                        Body::Route(_) => self.routes.push(bytes.to_vec()),
                        Body::Routed(_) => {
                            self.routes.push(bytes.to_vec());
                            replies.push(bytes.len());
                        }
                    }
                }
                Output::Event(Event::Request { token, .. }) => self.tokens.push(token),
                Output::Event(_) => {}
                Output::Timeout(at) => {
                    self.timeout = at;
                    break;
                }
            }
        }
        self.routes.drain(..self.routes.len().saturating_sub(MAX_OPEN));
        self.open.drain(..self.open.len().saturating_sub(MAX_OPEN));
        Sent { replies, total }
    }

    fn check(&self) {
        let (node, config) = (&self.node, self.node.config());
        assert!(node.store().bytes() <= config.max_store_bytes);
        assert!(node.table().entries().all(|entry| entry.contact.id != node.id()));
        for bucket in node.table().buckets() {
            assert!(
                bucket.live() <= config.k && bucket.replacements().len() <= config.replacements
            );
        }
        let estimate = node.estimate();
        assert!(estimate.nodes.is_finite() && estimate.nodes >= 0.0 && estimate.error() >= 0.0);
        for key in node.store().keys() {
            let values = node.store().values(key).expect("a key with values");
            assert!((1..=config.max_values_per_key).contains(&values.count()));
        }
    }

    /// Operations under way, but for those of upkeep and of joining, which start new ones for ever: four
    /// lookups; an attempt to join, and its lookup for the own id.
    fn running(&self) -> usize {
        self.node.operation_count().saturating_sub(if self.joins { 6 } else { 4 })
    }
}

/// The datagrams that a node sent at once.
struct Sent {
    /// The lengths of its replies.
    replies: Vec<usize>,
    /// Bytes of these and of all else.
    total: usize,
}

/// The token that an answer gives.
fn token_in(answer: UnreadAnswer<'_>) -> Option<Vec<u8>> {
    if let Ok(Response::Refused { token: Some(token), .. }) = answer.read(Rpc::Store) {
        return Some(token);
    }
    match answer.read(Rpc::FindValue) {
        Ok(Response::Values { rest, .. }) => rest.token,
        _ => None,
    }
}

/// One of 256 contacts; number 0 has the id of the node itself. Neighbours share an address family
/// and many bits; every eighth has the id of another.
fn contact(number: u8) -> Contact {
    let mut id = *Id::of_name([number / 16]).as_bytes();
    id[19] = if number % 8 == 7 { number - 1 } else { number };
    let port = 9_000 + u16::from(number);
    let address = match number / 128 {
        0 => SocketAddr::from(([10, 0, 0, 1], port)),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port)),
    };
    Contact { id: Id::new(id), address }
}

/// The contact at an address.
fn at(address: SocketAddr) -> Contact {
    contact((address.port() - 9_000) as u8)
}

fn framed(from: Id, rpc_id: TransactionId, call: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![Dialect::V1.first_byte()];
    out.extend(from.as_bytes());
    out.extend(rpc_id.as_bytes());
    out.push(call);
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend(payload);
    out
}

/// A route or its answer.
fn read_route(bytes: &[u8]) -> Option<Route<'_>> {
    match parse(bytes).ok()?.body {
        Body::Route(route) | Body::Routed(route) => route.read().ok(),
        _ => None,
    }
}
