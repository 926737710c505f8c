//! What one datagram costs the node itself: no socket, no clock.
//!
//! ```sh
//! cargo bench --no-default-features --bench node
//! ```
//! A node that knows a hundred others answers; `kademlua bench` measures the same with the
//! system's share.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant as Clock;

use kademlua::address::LocalEnd;
use kademlua::id::Id;
use kademlua::message::{Contact, Request, RpcId};
use kademlua::node::config::Config;
use kademlua::node::{Input, Node, Output};
use kademlua::time::{Duration, Instant};
use kademlua::wire::v1::{self, Body, Frame, Header};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const NOW: Instant = Instant::ZERO;

/// Who asks, on this machine and elsewhere.
const NEAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_999);
const AFAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8_999);

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let runs = if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 1 };
    for (name, request) in [
        ("answer ping", (|_| Request::Ping) as fn(Id) -> Request<'static>),
        ("answer findnode", |target| Request::FindNode { target }),
        ("answer findvalue", |key| Request::FindValue { key, limit: 6 }),
    ] {
        let mut node = node();
        measure(name, runs, &datagrams(request), |datagram| answer(&mut node, NOW, NEAR, datagram));
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
    println!("{name:22} {:>7.0} ns, at best {:.0} ns", samples[10], samples[0]);
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
fn ids() -> Vec<Id> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    (0..256).map(|_| Id::random(&mut rng)).collect()
}

fn datagrams(request: impl Fn(Id) -> Request<'static>) -> Vec<Vec<u8>> {
    let header = Header { from: Id::of_name("asker"), rpc_id: RpcId([7; 8]) };
    let datagram = |id| {
        let mut out = Vec::new();
        v1::put_request(&mut out, &header, &request(id));
        out
    };
    ids().into_iter().map(datagram).collect()
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
    let frame = Frame::parse(datagram).expect("a whole datagram");
    let Body::Request(payload) = frame.body else { return false };
    matches!(v1::request(payload), Ok(Request::FindNode { .. }))
}
