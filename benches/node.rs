//! What one datagram costs the node itself: no socket, no clock.
//!
//! ```sh
//! cargo bench --no-default-features --bench node
//! ```
//! A node that knows a hundred others answers; `kademlua bench` measures the same with the system's
//! share. The rows under "of the cost model" are the source of the constants in `guard/cost.rs`: the
//! requests that are dear for their bytes, and the system's share of a datagram.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Instant as Clock;

use kademlua::address::LocalEnd;
use kademlua::bencode::{Item, List, Value};
use kademlua::bloom::Filter;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::mainline::{GetPeers, Query};
use kademlua::message::{
    Contact, FindValue, Request, Response, StoreMode, StoreRequest, TransactionId,
};
use kademlua::net::socket::{self, BATCH, ReceiveBatch, SendBatch};
use kademlua::node::{Input, Node, Output};
use kademlua::signed::{Content, KeyPair};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{Body, Dialect, Header, emit, parse};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const NOW: Instant = Instant::ZERO;

/// The askers, on this machine and elsewhere.
const NEAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_999);
const AFAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8_999);

fn main() {
    // `cargo test --benches` only checks that it runs.
    let runs = if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 1 };
    for (name, request) in [
        ("answer ping", (|_| Request::Ping) as fn(Id) -> Request<'static>),
        ("answer findnode", |target| Request::FindNode { target }),
        ("answer findvalue", |key| Request::FindValue(FindValue::new(key, 6))),
    ] {
        let mut node = node();
        measure(name, runs, &datagrams(request), |datagram| answer(&mut node, NOW, NEAR, datagram));
    }
    for (name, request) in [
        ("answer ping of Mainline", (|_| Request::Ping) as fn(Id) -> Request<'static>),
        ("answer find_node", |target| Request::FindNode { target }),
        ("answer get_peers", |info_hash| {
            let search = GetPeers { info_hash, no_seeds: false, scrape: false };
            Request::Mainline(Query::GetPeers(search))
        }),
    ] {
        let mut node = mainline_node();
        let asked = datagrams_in(Dialect::Mainline, &ids(), request);
        measure(name, runs, &asked, |datagram| answer(&mut node, NOW, NEAR, datagram));
    }
    // Loopback has no limits; this source asks as often as it may.
    let mut node = node();
    let every = Duration::from_micros(1_000_000 / node.config().source_rate);
    let (mut now, pings) = (NOW, datagrams(|_| Request::Ping));
    measure("answer ping from afar", runs, &pings, |datagram| {
        now += every;
        answer(&mut node, now, AFAR, datagram)
    });
    let flood = now;
    measure("refuse ping of flood", runs, &pings, |datagram| {
        answer(&mut node, flood, AFAR, datagram)
    });
    measure("20 closest of 100", runs, &ids(), |id| node.table().closest(id).take(20).count());
    let findnodes = datagrams(|target| Request::FindNode { target });
    measure("read findnode", runs, &findnodes, |datagram| read(datagram));

    costs(runs.div_ceil(100));
}

/// Prints the costs from which the constants of the cost model were taken.
fn costs(runs: u32) {
    println!("\nof the cost model");
    let key = Id::of_name("key");
    for (name, bytes) in values() {
        let value = Item::parse(&bytes).expect("a value");
        let asks = [
            ("store", store(key, value)),
            (
                "no such RPC",
                Request::Custom { name: b"none", args: value.list().unwrap_or(List::EMPTY) },
            ),
        ];
        for (rpc, request) in asks {
            let mut node = node();
            let ask = datagrams_of(&[key], |_| request);
            measure(&format!("{rpc}: {name}"), runs, &ask, |ask| answer(&mut node, NOW, NEAR, ask));
        }
    }
    for (len, count, limit) in
        [(20, 1, 6), (20, 512, 512), (20, 512, 6), (1_000, 16, 6), (15_900, 1, 6)]
    {
        let mut node = node();
        for number in 0..count {
            let value =
                Value::bytes([format!("{number:05}").as_bytes(), &vec![7; len - 5]].concat());
            let header = Header {
                dialect: Dialect::V1,
                from: Id::of_name(number.to_string()),
                transaction: TransactionId::new([7; 8]),
                asker: None,
            };
            let mut out = Vec::new();
            emit(&mut out, &header, &store(key, value.item()));
            // Each from an address of its own, lest one reach its share.
            let source = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10_000 + number);
            answer(&mut node, NOW, source, &out);
        }
        let find = datagrams_of(&[key], |key| Request::FindValue(FindValue::new(key, limit)));
        let name = format!("findvalue: {limit} of {count}, {len} B");
        measure(&name, runs, &find, |datagram| answer(&mut node, NOW, NEAR, datagram));
        if count == 512 {
            let value = Value::bytes("one more");
            let ask = datagrams_of(&[key], |key| store(key, value.item()));
            let name = "store: refused by a full key";
            measure(name, runs, &ask, |ask| answer(&mut node, NOW, NEAR, ask));
        }
    }
    let pair = KeyPair::of_secret(&[7; KeyPair::SECRET_LEN]);
    let content = Content { salt: b"salt", seq: 1, value: &[b'x'; 1_000] };
    let signature = [pair.sign(&content)];
    measure("check a signature, 1,000 B", runs, &signature, |signature| {
        content.is_signed_by(&pair.public(), signature)
    });
    let addresses: Vec<IpAddr> = (0..=255).map(|last| [192, 0, 2, last].into()).collect();
    measure("put an address in a filter", runs, &addresses, |ip| Filter::from_iter([*ip]));
    for (bytes_in, bytes_out) in [(52, 37), (1_400, 37), (16_384, 37), (52, 1_400), (52, 16_384)] {
        system(bytes_in, bytes_out, runs);
    }
}

/// Values of some 15,900 bytes that are dear to read, as an attacker would write them, and two that
/// are cheap.
fn values() -> Vec<(&'static str, Vec<u8>)> {
    let many = |part: &str| format!("l{}e", part.repeat(15_900 / part.len()));
    let falling: String = (1_000..3_000).rev().map(|number| format!("i{number}e0:")).collect();
    let deep = (0..50)
        .fold(format!("15000:{}", "v".repeat(15_000)), |inner, _| format!("d1:b{inner}1:a0:e"));
    let deep_lists = format!("{}{}", "l".repeat(50), "e".repeat(50));
    let deep_dicts = (0..50).fold("le".to_owned(), |inner, _| format!("d1:b{inner}1:a0:e"));
    [
        ("text", "20:abcdefghij0123456789".to_owned()),
        ("long text", format!("15900:{}", "v".repeat(15_900))),
        ("empty lists", many("le")),
        ("numbers", many("i1e")),
        ("deep lists", many(&deep_lists)),
        ("deep dictionaries", many(&deep_dicts)),
        ("small dictionaries", many("d1:b0:1:a0:e")),
        ("a dictionary", format!("d{falling}e")),
        ("deep around text", deep),
    ]
    .map(|(name, value)| (name, value.into_bytes()))
    .to_vec()
}

fn store(key: Id, value: Item<'_>) -> Request<'_> {
    Request::Store(StoreRequest { key, value, mode: StoreMode::Add, copy: None, token: None })
}

/// Prints the time that the system takes to carry a datagram to a node and its answer away, on
/// loopback: half the time that two sockets take to carry them to and fro.
fn system(bytes_in: usize, bytes_out: usize, runs: u32) {
    let pair = [(); 2]
        .map(|()| socket::bind("127.0.0.1:0".parse().expect("an address")).expect("a socket"));
    let addresses = [0, 1].map(|end: usize| pair[end].local_addr().expect("bound"));
    let mut outboxes = addresses.map(SendBatch::new);
    let mut inbox = ReceiveBatch::new();
    let count = (200_000 / bytes_in.max(bytes_out)).clamp(1, BATCH);
    let datagrams = [vec![7; bytes_in], vec![7; bytes_out]];
    let mut carry = |from: usize, sockets: &[UdpSocket; 2]| {
        let (to, bytes) = (addresses[1 - from], &datagrams[from]);
        (0..count).for_each(|_| outboxes[from].push(LocalEnd::default(), to, bytes));
        outboxes[from].send(&sockets[from]).expect("room to send");
        let mut received = 0;
        while inbox.receive(&sockets[1 - from]).is_ok() {
            received += inbox.len();
        }
        received
    };
    let mut best = f64::MAX;
    for _ in 0..runs {
        let start = Clock::now();
        let received = carry(0, &pair).min(carry(1, &pair));
        best = best.min(start.elapsed().as_nanos() as f64 / received.max(1) as f64 / 2.0);
    }
    println!("system, {bytes_in} B in and {bytes_out} B out: {best:.0} ns at best");
}

/// Prints nanoseconds a run: the median of some samples, and the least.
fn measure<I, O>(name: &str, runs: u32, inputs: &[I], mut run: impl FnMut(&I) -> O) {
    let mut sample = || {
        let start = Clock::now();
        inputs.iter().cycle().take(runs as usize).for_each(|input| _ = black_box(run(input)));
        start.elapsed().as_nanos() as f64 / f64::from(runs)
    };
    let mut samples: Vec<f64> = (0..21).map(|_| sample()).collect();
    samples.sort_by(f64::total_cmp);
    println!("{name:30} {:>7.0} ns, at best {:.0} ns", samples[10], samples[0]);
}

/// A node whose first five buckets are full.
fn node() -> Node {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut node = Node::new(NOW, Id::of_name("8001"), Config::default(), [1; 32]);
    for number in 0..100 {
        let id = node.id().random_at(u32::from(number) / 20, &mut rng);
        let address = ([127, 0, 0, 1], 9_000 + number).into();
        assert!(node.introduce(NOW, Contact { id, address }));
    }
    node
}

/// Ids all over the space.
/// The same in the networks of Mainline too, where those others have shown that they are there.
fn mainline_node() -> Node {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let own = Id::of_name("8001");
    let ids = BTreeMap::from([(Dialect::V1, own), (Dialect::Mainline, own)]);
    let mut node = Node::in_networks(NOW, &ids, Config::default(), [1; 32]);
    for number in 0..100 {
        let id = own.random_at(u32::from(number) / 20, &mut rng);
        let source = (Ipv4Addr::LOCALHOST, 9_000 + number).into();
        let transaction = TransactionId::new([7; 4]);
        let header = Header { dialect: Dialect::Mainline, from: id, transaction, asker: None };
        let mut ping = Vec::new();
        emit(&mut ping, &header, &Request::Ping);
        let local = LocalEnd::default();
        node.handle(NOW, Input::Datagram { source, local, bytes: &ping });
        let mut asked = None;
        loop {
            match node.poll_output() {
                Output::Transmit { destination, bytes, .. } if destination == source => {
                    let envelope = parse(bytes).expect("a message");
                    if matches!(envelope.body, Body::Query(_)) {
                        asked = Some(envelope.transaction);
                    }
                }
                Output::Transmit { .. } | Output::Event(_) => {}
                Output::Timeout(_) => break,
            }
        }
        let transaction = asked.expect("a stranger is asked back");
        let mut pong = Vec::new();
        emit(&mut pong, &Header { transaction, ..header }, &Response::Pong);
        node.handle(NOW, Input::Datagram { source, local, bytes: &pong });
        while !matches!(node.poll_output(), Output::Timeout(_)) {}
    }
    node
}

fn ids() -> Vec<Id> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    (0..256).map(|_| Id::random(&mut rng)).collect()
}

fn datagrams(request: impl Fn(Id) -> Request<'static>) -> Vec<Vec<u8>> {
    datagrams_of(&ids(), request)
}

fn datagrams_of<'r>(ids: &[Id], request: impl Fn(Id) -> Request<'r>) -> Vec<Vec<u8>> {
    datagrams_in(Dialect::V1, ids, request)
}

fn datagrams_in<'r>(
    dialect: Dialect,
    ids: &[Id],
    request: impl Fn(Id) -> Request<'r>,
) -> Vec<Vec<u8>> {
    let header = Header {
        dialect,
        from: Id::of_name("asker"),
        transaction: TransactionId::new([7; 8]),
        asker: None,
    };
    let datagram = |id| {
        let mut out = Vec::new();
        emit(&mut out, &header, &request(id));
        out
    };
    ids.iter().copied().map(datagram).collect()
}

/// Bytes that the node sends.
fn answer(node: &mut Node, now: Instant, source: SocketAddrV4, bytes: &[u8]) -> usize {
    let source = source.into();
    node.handle(now, Input::Datagram { source, local: LocalEnd::default(), bytes });
    let mut sent = 0;
    loop {
        match node.poll_output() {
            Output::Transmit { bytes, .. } => sent += bytes.len(),
            Output::Event(_) => {}
            Output::Timeout(_) => return sent,
        }
    }
}

fn read(datagram: &[u8]) -> bool {
    let envelope = parse(datagram).expect("a whole datagram");
    let Body::Query(query) = envelope.body else { return false };
    matches!(query.read(), Ok(Request::FindNode { .. }))
}
