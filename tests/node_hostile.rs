//! Hostile bytes at a node's input, as requests and as replies to what it asked: no panic, no more
//! memory or time than a datagram of that length may cost, and the node serves on.

mod counting;
mod killers;
mod peer;
mod vectors;

use kademlua::address::LocalEnd;
use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::kad::lookup::Goal;
use kademlua::message::{Contact, Request, RpcError, StoreMode, TransactionId};
use kademlua::node::Input;
use kademlua::time::Duration;
use kademlua::wire::{Body, Dialect, Envelope, MAX_DATAGRAM, parse};

use counting::allocated_bytes;
use killers::{framed, in_requests, in_responses};
use peer::{Bench, Sent, contact, datagram};
use vectors::{malformed, name, recorded};

/// Bytes of memory that a node may ask for in all to take in one datagram: for each byte of it, and
/// on top. A believed length would need far more.
const BYTES_A_BYTE: usize = 64;
const BYTES_ON_TOP: usize = 256 << 10;

const KEY: Id = Id::new([b'a'; 20]);

/// Gives a node a datagram. Returns what it sends.
fn take(bench: &mut Bench, from: Contact, bytes: &[u8]) -> Vec<Sent> {
    let input = Input::Datagram { source: from.address, local: LocalEnd::default(), bytes };
    let allocated = allocated_bytes(|| bench.node.handle(bench.now, input));
    let limit = BYTES_A_BYTE * bytes.len() + BYTES_ON_TOP;
    assert!(allocated <= limit, "{allocated} bytes for a datagram of {}", bytes.len());
    bench.drain()
}

fn replies(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|sent| sent.request().is_none()).collect()
}

/// The node answers a stranger's ping.
fn assert_serves(bench: &mut Bench) {
    let ping = datagram(Id::of_name("stranger"), TransactionId::new(*b"stranger"), &Request::Ping);
    let sent = bench.receive(contact(9_999).address, &ping);
    assert_eq!(replies(&sent)[0].frame().body.as_bytes(), b"li5ee");
}

/// A node that may be asked for an RPC of the application's, too.
fn bench() -> Bench {
    let mut bench = Bench::knowing([contact(9_001)]);
    bench.node.register(b"rpc").unwrap();
    bench
}

/// Every question that a node asks of others, each with the command that begins it.
const QUESTIONS: [fn(&mut Bench); 6] = [
    |bench| {
        let peer = contact(9_001).into();
        bench.node.start_ping(bench.now, peer);
    },
    |bench| {
        let peer = contact(9_001).into();
        bench.node.start_get_socket(bench.now, peer);
    },
    |bench| {
        let peer = contact(9_001).into();
        bench.node.start_call(bench.now, peer, b"rpc", &[]).unwrap();
    },
    |bench| {
        bench.node.start_lookup(bench.now, Goal::Node { target: KEY });
    },
    |bench| {
        let goal = Goal::Value { key: KEY, max_nodes: 3, max_entries: 6 };
        bench.node.start_lookup(bench.now, goal);
    },
    |bench| {
        let value = Value::bytes("value");
        bench.node.start_store(bench.now, KEY, value, StoreMode::Add).unwrap();
        // The lookup before it finds the peer alone.
        let query = bench.drain().remove(0);
        let found = query.answer_nodes(contact(9_001).id, &[]);
        bench.node.handle(
            bench.now,
            Input::Datagram {
                source: contact(9_001).address,
                local: LocalEnd::default(),
                bytes: &found,
            },
        );
    },
];

/// A node asks, and `payload` comes as the reply.
fn reply_to(question: fn(&mut Bench), call: u8, payload: &[u8]) -> Bench {
    let mut bench = bench();
    question(&mut bench);
    let asked = bench.drain().remove(0);
    let rpc_id = asked.frame().transaction.as_bytes().try_into().unwrap();
    let mut reply = framed(rpc_id, call, payload);
    reply[1..21].copy_from_slice(contact(9_001).id.as_bytes());
    let sent = take(&mut bench, contact(9_001), &reply);
    assert!(replies(&sent).is_empty(), "a reply is not replied to");
    let is_too_long = reply.len() > MAX_DATAGRAM;
    let dropped = bench.node.counters().dropped;
    assert_eq!(
        dropped,
        u64::from(is_too_long),
        "it was taken for the reply, unless none is as long"
    );
    bench
}

mod known_killers {
    use super::*;

    killers::known_killers!(check);

    fn check(killer: &[u8], _refused: bool) {
        let mut bench = bench();
        for payload in in_requests(killer) {
            let sent = take(&mut bench, contact(9_002), &framed([7; 8], 1, &payload));
            let replies = replies(&sent);
            assert!(
                replies.len() <= 1
                    && replies
                        .iter()
                        .all(|sent| sent.bytes.len() <= Dialect::V1.sizes().answer_max)
            );
        }
        assert_serves(&mut bench);
        for (question, payload) in
            QUESTIONS.iter().flat_map(|q| in_responses(killer).into_iter().map(move |p| (q, p)))
        {
            let mut bench = reply_to(*question, 129, &payload);
            bench.wait(Duration::from_secs(60));
            assert_eq!(bench.node.operation_count(), 0, "every operation ends");
            assert_serves(&mut bench);
        }
    }
}

/// Every recorded packet that is not made for its size.
fn every_packet() -> impl Iterator<Item = Vec<u8>> {
    let entries = recorded().into_iter().chain(malformed());
    let packets = entries.map(|entry| {
        // Seen only if the test fails: which packet it was.
        println!("{}", name(&entry));
        vectors::datagram(&entry)
    });
    packets.filter(|packet| packet.len() < 2_000)
}

/// The packet, cut after each of its bytes and with each of its bits flipped.
fn bent(packet: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..packet.len()).map(|len| packet[..len].to_vec());
    let flipped = (0..packet.len() * 8).map(|bit| {
        let mut packet = packet.to_vec();
        packet[bit / 8] ^= 1 << (bit % 8);
        packet
    });
    cut.chain(flipped)
}

#[test]
fn recorded_packets_cut_anywhere_and_with_any_bit_flipped_stop_no_node() {
    for packet in every_packet() {
        let mut bench = bench();
        for bytes in bent(&packet) {
            let sent = take(&mut bench, contact(9_002), &bytes);
            assert!(replies(&sent).len() <= 1);
            bench.wait(Duration::from_millis(1));
        }
        assert_serves(&mut bench);
    }
}

#[test]
fn recorded_replies_cut_anywhere_and_with_any_bit_flipped_stop_no_operation() {
    for packet in every_packet() {
        let Ok(Envelope { body: Body::Answer(answer), .. }) = parse(&packet) else {
            continue;
        };
        for payload in bent(answer.as_bytes()) {
            for question in QUESTIONS {
                let mut bench = reply_to(question, 129, &payload);
                assert_serves(&mut bench);
            }
        }
    }
}

#[test]
fn what_a_stranger_makes_a_node_keep_stays_within_its_bounds() {
    let mut bench = bench();
    let before = bench.node.table().len();
    for number in 0..20_000_u32 {
        let id = Id::of_name(number.to_string());
        let mut bytes = datagram(id, TransactionId::new(*b"question"), &Request::Ping);
        if number % 2 == 0 {
            let payload = b"d4:name3:rpc4:argslee";
            bytes = framed([7; 8], 1, payload);
        }
        let source = Contact { id, address: ([127, 0, 0, 2], (number % 50_000) as u16 + 1).into() };
        take(&mut bench, source, &bytes);
    }
    assert_eq!(bench.node.table().len(), before, "nobody has answered");
    // The application never does: its callers are told.
    let told = bench.wait(Duration::from_secs(60));
    assert!(told.iter().any(|sent| sent.frame().body == Body::Error(RpcError::Failed)));
    assert_eq!(bench.node.operation_count(), 0);
    assert_serves(&mut bench);
}
