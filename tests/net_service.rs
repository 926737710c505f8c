//! The promise: whatever one source stores, asks for or has handed over, others get at least 80 % of
//! the answers that they get without it, and 90 % while it keeps to its limits. Real sockets between
//! two network namespaces; the numbers compared come from one run, and count answers, not their time.
#![cfg(target_os = "linux")]

mod flood_helpers;
mod xdp_helpers;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::control::Snapshot;
use kademlua::id::Id;
use kademlua::message::{FindValue, Request, StoreMode, StoreRequest, TransactionId};
use kademlua::net::{Handle, Settings, spawn};
use kademlua::wire::{Dialect, Header, emit};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::flood_helpers::{SERVER_IP, Served, answer_pings, ask_for, beside, lab, ping, sockets};
use crate::xdp_helpers::{Lab, SERVER};

const SOURCE_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);
const PORT: u16 = 8001;
const NODE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SERVER_IP), PORT);

/// How long others are counted.
const SPAN: Duration = Duration::from_secs(3);

/// The longest value that fits an answer, nearly.
const LARGE: usize = 15_900;

fn node(lab: &Lab, config: Config) -> Handle {
    lab.within(SERVER, || {
        let bind = (Ipv4Addr::UNSPECIFIED, PORT).into();
        spawn(Settings { bind, config, ..Settings::default() }).unwrap()
    })
}

fn snapshot(node: &Handle) -> Snapshot {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(node.snapshot()).unwrap()
}

fn datagram(from: Id, request: &Request<'_>) -> Vec<u8> {
    let transaction = TransactionId::new(*b"question");
    let mut out = Vec::new();
    emit(&mut out, &Header { dialect: Dialect::V1, from, transaction, asker: None }, request);
    out
}

/// A store as originals send it.
fn store(from: Id, key: Id, value: &Value) -> Vec<u8> {
    let (value, mode) = (value.item(), StoreMode::Add);
    let store = StoreRequest { key, value, mode, copy: None, token: None };
    datagram(from, &Request::Store(store))
}

fn small_store(number: u64) -> Vec<u8> {
    let name = number.to_be_bytes();
    store(Id::of_name([&b"id"[..], &name].concat()), Id::of_name(name), &Value::bytes(""))
}

fn large_key() -> Id {
    Id::of_name("large")
}

/// Asks for a value that fills an answer, as originals ask.
fn find_large(from: Id) -> Vec<u8> {
    datagram(from, &Request::FindValue(FindValue::new(large_key(), 6)))
}

/// Sends the datagrams of `next` from a socket, `a_millisecond` of them each millisecond or as fast as
/// it can, and answers pings, which proves its address.
fn send(
    socket: &UdpSocket,
    id: Id,
    a_millisecond: Option<u64>,
    over: &AtomicBool,
    mut next: impl FnMut(u64) -> Vec<u8>,
) {
    let (began, mut sent) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        let due = match a_millisecond {
            Some(count) => began.elapsed().as_millis() as u64 * count,
            None => sent + 64,
        };
        while sent < due {
            let _ = socket.send_to(&next(sent), NODE);
            sent += 1;
        }
        answer(socket, id);
        if a_millisecond.is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads all that came to a socket, and answers the pings.
fn answer(socket: &UdpSocket, id: Id) {
    answer_pings(std::slice::from_ref(socket), &[id]);
}

/// A node that keeps the large value, and a socket whose address is proved.
fn with_large_value(lab: &Lab, config: Config) -> (Handle, UdpSocket, Id) {
    let node = node(lab, config);
    let (socket, id) = (sockets(lab, &[SOURCE_IP]).pop().unwrap(), Id::of_name("source"));
    let value = Value::bytes("x".repeat(LARGE));
    lab.wait_for("the value", || {
        let _ = socket.send_to(&store(id, large_key(), &value), NODE);
        std::thread::sleep(Duration::from_millis(100));
        answer(&socket, id);
        snapshot(&node).v1().stored.values == 1
    });
    (node, socket, id)
}

/// Whether others get this share of what they get without it.
fn assert_left(share: f64, what: &str, calm: &Served, served: &Served) {
    println!(
        "{what}: others get {:.1} %, {:.1} % without",
        100.0 * served.share(),
        100.0 * calm.share()
    );
    assert!(served.share() >= share * calm.share(), "{what}: {served:?}, {calm:?} without");
}

#[test]
fn small_values_of_many_ids_leave_others_what_they_get_without_them() {
    let Some((lab, others)) = lab("small", &[SOURCE_IP]) else { return };
    let node = node(&lab, Config::default());
    let source = sockets(&lab, &[SOURCE_IP]).pop().unwrap();
    let calm = ask_for(&others, NODE, SPAN);
    for (what, a_millisecond, share) in
        [("below its limits", Some(10), 0.9), ("flat out", None, 0.8)]
    {
        let served = beside(&others, NODE, SPAN, |over| {
            // All that were planned, and those once more.
            let next = |number| small_store(number % 264_960);
            send(&source, Id::of_name("source"), a_millisecond, over, next);
        });
        assert_left(share, what, &calm, &served);
        let counters = snapshot(&node).counters;
        assert!(counters.stored > 1_000, "{what}: {counters:?} are no stores");
    }
    node.stop_and_wait();
}

#[test]
fn large_answers_to_one_address_leave_others_what_they_get_without_them() {
    let Some((lab, others)) = lab("large", &[SOURCE_IP]) else { return };
    let (node, source, id) = with_large_value(&lab, Config::default());
    let calm = ask_for(&others, NODE, SPAN);
    let question = find_large(id);
    for (what, a_millisecond, share) in
        [("below its limits", Some(2), 0.9), ("flat out", None, 0.8)]
    {
        let before = snapshot(&node).counters.bytes_out;
        let served = beside(&others, NODE, SPAN, |over| {
            send(&source, id, a_millisecond, over, |_| question.clone());
        });
        assert_left(share, what, &calm, &served);
        let bytes = snapshot(&node).counters.bytes_out - before;
        assert!(bytes > 1_000 * LARGE as u64, "{what}: {bytes} bytes are no answers");
    }
    node.stop_and_wait();
}

#[test]
fn contacts_that_join_beside_many_keys_leave_others_what_they_get_without_them() {
    const KEYS: usize = 100_000;
    const JOINS_A_SECOND: u32 = 20;
    let newcomers: Vec<Ipv4Addr> = (0..100).map(|net| Ipv4Addr::new(10, 77, 50 + net, 1)).collect();
    let Some((lab, others)) = lab("joins", &newcomers) else { return };
    let node = node(&lab, Config::default());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // No address may store all of that.
    let locals: Vec<UdpSocket> =
        lab.within(SERVER, || (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect());
    let mut round = 0;
    while snapshot(&node).v1().stored.keys < KEYS {
        for local in &locals {
            for _ in 0..100 {
                let near = node.id().random_at(8 + round % 100, &mut rng);
                let bytes = store(Id::of_name("local"), near, &Value::bytes(""));
                let _ = local.send_to(&bytes, (Ipv4Addr::LOCALHOST, PORT));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        round += 1;
        assert!(round < 200, "{:?}", snapshot(&node).v1().stored);
    }
    // They become contacts themselves, and so all that must be handed over to them.
    ask_for(&others, NODE, SPAN);
    let calm = ask_for(&others, NODE, SPAN);
    let joining = sockets(&lab, &newcomers);
    let ids: Vec<Id> =
        (0..joining.len()).map(|at| node.id().random_at(6 + at as u32 % 20, &mut rng)).collect();
    let before = snapshot(&node).v1().contacts;
    let served = beside(&others, NODE, SPAN, |over| {
        let (began, mut joined) = (Instant::now(), 0);
        while !over.load(Ordering::Relaxed) {
            let due = (began.elapsed().as_secs_f64() * f64::from(JOINS_A_SECOND)) as usize;
            while joined < due.min(joining.len()) {
                joining[joined].send_to(&ping(ids[joined], *b"newcomer"), NODE).unwrap();
                joined += 1;
            }
            answer_pings(&joining, &ids);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_left(0.9, "beside newcomers", &calm, &served);
    let joined = snapshot(&node).v1().contacts - before;
    assert!(joined > 20, "{joined} joined");
    node.stop_and_wait();
}
