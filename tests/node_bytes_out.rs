//! Bytes out follow bytes in: whatever an unvalidated address asks, and whatever the node knows, all
//! that it sends because of one datagram, until nothing is due any more, is at most three times as
//! long as that datagram; and the victims that a liar names get no more bytes than the liar has sent.

mod peer;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kademlua::address::Subnet;
use kademlua::bencode::{Item, Value};
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::kad::lookup::{ALL_ENTRIES, Goal};
use kademlua::message::{
    Contact, CopyOf, FindValue, Request, Response, Rest, Rpc, StoreMode, StoreRequest,
    TransactionId,
};
use kademlua::node::{Event, Node};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{AMPLIFICATION_MAX, Dialect, Header, MAX_DATAGRAM, Manner, Message, emit};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use peer::{Bench, Sent, datagram};

const OWN: &str = "8001";

fn id(bits: u32, seed: u64) -> Id {
    Id::of_name(OWN).random_at(bits, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// The contacts of the node: a bucket that is full, and some in others.
fn known(number: u64) -> Contact {
    let bits = if number < 20 { 0 } else { 3 };
    let address = SocketAddr::new(IpAddr::from([10, 1, 0, number as u8]), 8_001);
    Contact { id: id(bits, number), address }
}

/// The askers, at an address that is not validated.
#[derive(Clone, Copy, Debug)]
enum Asker {
    /// Somebody the routing table has room for.
    Stranger,
    /// Somebody whose bucket is full.
    Crowded,
    /// Somebody under the id of a contact.
    Impostor,
    /// Somebody at the address of a contact.
    Mask,
    /// A contact that has left something unanswered.
    Doubtful,
    /// A contact that is taken for dead.
    Stale,
    /// The node's own id.
    Own,
}

const ASKERS: [Asker; 7] = [
    Asker::Stranger,
    Asker::Crowded,
    Asker::Impostor,
    Asker::Mask,
    Asker::Doubtful,
    Asker::Stale,
    Asker::Own,
];

impl Asker {
    fn contact(self, is_ipv6: bool) -> Contact {
        let elsewhere = at(if is_ipv6 { "[2001:db8::7]:9" } else { "198.51.100.7:9" });
        match self {
            Asker::Stranger => Contact { id: id(5, 100), address: elsewhere },
            Asker::Crowded => Contact { id: id(0, 101), address: elsewhere },
            Asker::Impostor => Contact { address: elsewhere, ..known(3) },
            Asker::Mask => Contact { id: id(0, 102), ..known(3) },
            Asker::Doubtful | Asker::Stale => known(3),
            Asker::Own => Contact { id: Id::of_name(OWN), address: elsewhere },
        }
    }
}

/// A question, in bytes that need not be as long as we write them.
fn question(from: Contact, kind: u8, token: Option<&[u8]>, len: usize) -> Vec<u8> {
    let (key, value) = (Id::of_name("key"), Value::bytes("v".repeat(len % 90)));
    let publisher = Some(Contact { id: id(7, 9), address: at("203.0.113.9:9") });
    let copy = Some(CopyOf { publisher, age: Duration::from_secs(9) });
    let store = StoreRequest { key, value: value.item(), mode: StoreMode::Add, copy: None, token };
    let after = Some(Id::new([0; 20]));
    let request = match kind {
        0 => Request::Ping,
        1 => Request::GetSocket,
        2 => Request::FindNode { target: key },
        3 => Request::FindValue(FindValue { token, ..FindValue::new(key, 6) }),
        4 => Request::FindValue(FindValue { token, after, ..FindValue::new(key, 600) }),
        5 => Request::FindValue(FindValue { token, ..FindValue::new(Id::of_name("none"), 6) }),
        6 => Request::Store(store),
        7 => Request::Store(StoreRequest { copy, ..store }),
        8 => Request::Store(StoreRequest { mode: StoreMode::Replace, ..store }),
        9 | 10 => {
            let args = Item::parse(b"le").unwrap().list().unwrap();
            Request::Custom { name: if kind == 9 { b"rpc" } else { b"none" }, args }
        }
        _ => {
            let payloads: [&[u8]; 8] = [
                b"",
                b"le",
                b"d4:argsle4:name8:findnodee",
                b"d4:name9:findvalue4:argslee",
                b"d4:name5:store4:argslee",
                b"d4:name5:store4:argsl20:aaaaaaaaaaaaaaaaaaaaee",
                b"d4:name4:ping4:argsi1ee",
                b"d4:name9:findvalue4:argsl20:aaaaaaaaaaaaaaaaaaaai1ei1eee",
            ];
            let payload = payloads[len % payloads.len()];
            let mut bytes = datagram(from.id, TransactionId::new([7; 8]), &Request::Ping);
            bytes.truncate(30);
            if !payload.is_empty() {
                bytes.extend((payload.len() as u16).to_be_bytes());
                bytes.extend(payload);
            }
            return bytes;
        }
    };
    let mut bytes = Vec::new();
    let header = Header {
        dialect: Dialect::V1,
        from: from.id,
        transaction: TransactionId::new([7; 8]),
        asker: None,
    };
    let query = Message::Query {
        request: &request,
        manner: Manner { padded_to: Some(len), ..Manner::default() },
    };
    emit(&mut bytes, &header, query);
    bytes
}

/// A node that knows others, holds values, and answers an application's RPC.
fn bench(asker: Asker, require_tokens: bool, values: &[usize]) -> Bench {
    let config = Config { require_tokens, ..Config::default() };
    let now = Instant::ZERO + Duration::from_secs(1_000);
    let mut bench = Bench::with(Node::new(now, Id::of_name(OWN), config, [7; 32]));
    for number in 0..25 {
        bench.node.introduce(now, known(number));
    }
    for (number, len) in values.iter().enumerate() {
        let value = Value::bytes(format!("{number}").repeat(1 + len / 2));
        let publisher = Contact { id: id(2, 200), address: at("127.0.0.1:9") };
        let (key, value, mode) = (Id::of_name("key"), value.item(), StoreMode::Add);
        let from = Contact {
            address: SocketAddr::new(publisher.address.ip(), 10 + number as u16),
            ..publisher
        };
        bench
            .ask(from, &Request::Store(StoreRequest { key, value, mode, copy: None, token: None }));
    }
    bench.node.register(b"rpc").unwrap();
    // Contacts that were long silent are due to be checked.
    bench.wait(Duration::from_secs(600));
    let rounds = match asker {
        Asker::Doubtful => 1,
        Asker::Stale => 5,
        _ => 0,
    };
    for _ in 0..rounds {
        bench.node.start_ping(bench.now, known(3).into());
        bench.drain();
        bench.wait(Duration::from_secs(2));
    }
    bench.take_events();
    bench
}

fn bytes(sent: &[Sent]) -> usize {
    sent.iter().map(|sent| sent.bytes.len()).sum()
}

/// All that is sent because of one datagram, until nothing is due, with what the application has to say.
fn all_bytes(bench: &mut Bench, from: Contact, question: &[u8], returned: usize) -> usize {
    let mut sent = bench.receive(from.address, question);
    for event in bench.take_events() {
        if let Event::Request { token, .. } = event {
            // It may be more than fits.
            let _ = bench.node.answer(token, Ok(vec![Value::bytes("r".repeat(returned))]));
            sent.extend(bench.drain());
        }
    }
    sent.extend(bench.wait(Duration::from_secs(30)));
    bytes(&sent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_that_one_datagram_causes_keeps_to_three_times_its_length(
        asker in prop::sample::select(&ASKERS[..]),
        kind in 0_u8..13,
        token in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        len in prop_oneof![Just(0), 0_usize..700, Just(Dialect::V1.sizes().lookup_min()), 0..6_000_usize],
        values in prop::collection::vec(prop_oneof![0_usize..60, 0_usize..15_000], 0..12),
        returned in prop_oneof![0_usize..300, 0_usize..15_000],
        require_tokens: bool,
        is_ipv6: bool,
    ) {
        let from = asker.contact(is_ipv6);
        let question = question(from, kind, token.as_deref(), len);
        // Calls that are under way already are not due to this datagram.
        let upkeep = bytes(&bench(asker, require_tokens, &values).wait(Duration::from_secs(30)));
        let mut bench = bench(asker, require_tokens, &values);
        let sent = all_bytes(&mut bench, from, &question, returned).saturating_sub(upkeep);
        prop_assert!(
            sent <= AMPLIFICATION_MAX * question.len(),
            "{sent} bytes for {}", question.len(),
        );
    }

    #[test]
    fn what_was_answered_elsewhere_causes_one_ping_at_the_most(
        asker in prop::sample::select(&ASKERS[..]), is_ipv6: bool,
    ) {
        let upkeep = bytes(&bench(asker, false, &[]).wait(Duration::from_secs(30)));
        let mut bench = bench(asker, false, &[]);
        let mut sent = bench.see(asker.contact(is_ipv6));
        sent.extend(bench.wait(Duration::from_secs(30)));
        prop_assert!(bytes(&sent) <= upkeep + Dialect::V1.sizes().ping, "{sent:?}");
    }

    /// Random victims, many of them in few networks; the liar answers every question.
    #[test]
    fn whom_a_liar_names_gets_two_datagrams_and_no_more_bytes_than_the_liar_sent(
        seed: u64,
        networks in 1_u8..40,
        named in 1_usize..=20,
        paths in 1_usize..=8,
        goal in 0_u8..5,
        is_ipv6: bool,
        is_padded: bool,
    ) {
        let liar = Contact { address: at("198.51.100.7:9"), ..known(3) };
        let config = Config { paths, ..Config::default() };
        let now = Instant::ZERO + Duration::from_secs(1_000);
        let mut bench = Bench::with(Node::new(now, Id::of_name(OWN), config, [7; 32]));
        let key = Id::of_name("key");
        if goal > 0 {
            bench.node.introduce(now, liar);
        }
        match goal {
            0 => bench.node.start_bootstrap(now, &[liar.address]),
            1 => bench.node.start_lookup(now, Goal::Node { target: key }),
            2 => bench.node.start_lookup(now, Goal::Value { key, max_nodes: 3, max_entries: 6 }),
            3 => {
                let max_entries = ALL_ENTRIES;
                bench.node.start_lookup(now, Goal::Value { key, max_nodes: 3, max_entries })
            }
            _ => bench.node.start_store(now, key, Value::bytes("v"), StoreMode::Add).unwrap(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut victim = || {
            let (network, host) = (rng.random_range(0..networks), rng.random::<u8>());
            let ip = match is_ipv6 {
                false => IpAddr::from([203, 0, network, host]),
                true => IpAddr::from([0x2001, 0xdb8, u16::from(network), u16::from(host), 0, 0, 0, 1]),
            };
            let address = SocketAddr::new(ip, rng.random_range(1..4));
            Contact { id: key.random_at(100, &mut rng), address }
        };
        let (mut received, mut to_victims, mut of_liar) = (Vec::new(), 0, 0);
        let mut sent = bench.drain();
        // The liar's datagrams arrive at once; the victims are silent.
        for _ in 0..200 {
            for request in std::mem::take(&mut sent) {
                if request.to != liar.address {
                    to_victims += request.bytes.len();
                    received.push(request.to);
                } else if request.request().is_some() {
                    let contacts: Vec<_> = (0..named).map(|_| victim()).collect();
                    let mut answer = request.answer_nodes(liar.id, &contacts);
                    if !request.asks(Rpc::FindNode) {
                        answer = request.answer(liar.id, &Response::Pong);
                    }
                    if request.asks(Rpc::FindValue) {
                        let (values, rest) = (Vec::new(), Rest::default());
                        let named = Response::Values { values, closest: contacts, rest };
                        answer = request.answer(liar.id, &named);
                    }
                    if is_padded {
                        answer.resize(MAX_DATAGRAM, 0);
                    }
                    of_liar += answer.len();
                    sent.extend(bench.receive(liar.address, &answer));
                }
            }
            sent.extend(bench.wait(Duration::from_millis(50)));
        }
        prop_assert!(to_victims <= of_liar, "{to_victims} bytes for {of_liar}");
        // Those of one lookup; others follow when a node joins, and the liar pays for those again.
        if goal > 0 {
            let mut counts = BTreeMap::new();
            for subnet in received.iter().flat_map(|to| Subnet::all_of(to.ip())) {
                *counts.entry(subnet).or_insert(0) += 1;
            }
            prop_assert!(counts.values().all(|&count| count <= 2), "{counts:?}");
        }
    }
}
