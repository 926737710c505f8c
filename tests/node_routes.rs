//! Routes at one node: each goes to a contact nearer to the key, or is answered. Whatever is forged, the node
//! becomes neither a reflector nor part of a loop.

mod peer;

use std::net::SocketAddr;

use kademlua::address::LocalEnd;
use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::{
    Contact, Request, Response, Route, RouteAnswer, RouteFlags, RouteKind, StoreMode, StoreRequest,
    TransactionId,
};
use kademlua::node::Node;
use kademlua::time::{Duration, Instant};
use kademlua::wire::{
    Body, Dialect, Envelope, Header, MAX_DATAGRAM, Message, emit, parse, read_route_answer,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use peer::{Bench, Sent, datagram};

const OWN: &str = "8001";
const CLIENT: &str = "192.0.2.7:4000";
const CALL: TransactionId = TransactionId::new(*b"the call");
const HEAD: usize = 104;

fn own() -> Id {
    Id::of_name(OWN)
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// An id that shares exactly `bits` leading bits with the node's.
fn sharing(bits: u32, seed: u64) -> Id {
    own().random_at(bits, &mut ChaCha8Rng::seed_from_u64(seed))
}

/// The node's contacts: some in each of the first ten buckets, each in a network of its own.
fn contacts() -> Vec<Contact> {
    let of_bucket = |bits: u32| {
        (0..5).map(move |number| Contact {
            id: sharing(bits, number),
            address: ([10, 1 + bits as u8, number as u8, 1], 8_000 + number as u16).into(),
        })
    };
    (0..10).flat_map(of_bucket).collect()
}

fn bench() -> Bench {
    let mut bench = Bench::knowing(contacts());
    bench.node.add_own_address(at("10.0.0.1:8001"));
    bench
}

fn route(key: Id) -> Route<'static> {
    Route {
        flags: RouteFlags::default(),
        hops_left: 16,
        skip: 0,
        kind: RouteKind::FindValue,
        key,
        answer_to: Route::NOWHERE,
        budget: 0,
        client: Route::NOWHERE,
        stamp: 0,
        seal: [0; 8],
        payload: &[],
        rest: &[0; 381],
    }
}

fn encoded(from: Id, message: Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out, &Header { dialect: Dialect::V1, from, transaction: CALL, asker: None }, message);
    out
}

fn from_client(route: &Route<'_>) -> Vec<u8> {
    encoded(Id::ZERO, Message::Route(route))
}

/// A datagram taken apart: its sender, the route, and whether it is an answer.
fn read(sent: &Sent) -> Option<(Id, Route<'_>, bool)> {
    let Envelope { sender, body, .. } = parse(&sent.bytes).unwrap();
    match body {
        Body::Route(route) => Some((sender.unwrap(), route.read().unwrap(), false)),
        Body::Routed(route) => Some((sender.unwrap(), route.read().unwrap(), true)),
        _ => None,
    }
}

/// The only datagram that was sent.
fn only(sent: Vec<Sent>) -> Sent {
    let [only] = sent.try_into().unwrap_or_else(|sent| panic!("one datagram: {sent:?}"));
    only
}

fn answer(sent: &Sent) -> RouteAnswer {
    let (_, route, is_answer) = read(sent).unwrap();
    assert!(is_answer);
    read_route_answer(Dialect::V1, route.kind, route.payload).unwrap()
}

/// The contact that a sort would choose.
fn nearest(key: &Id, skip: usize) -> Option<Contact> {
    let mut nearer: Vec<_> = contacts()
        .into_iter()
        .filter(|contact| key.distance(&contact.id) < key.distance(&own()))
        .collect();
    nearer.sort_by_key(|contact| key.distance(&contact.id));
    nearer.get(skip).copied()
}

/// Stores a value at the node, as its publisher.
fn keep(bench: &mut Bench, key: Id, value: &Value) {
    let publisher = Contact { id: Id::of_name("publisher"), address: at("127.0.0.1:7000") };
    let (value, mode) = (value.item(), StoreMode::Add);
    let store = StoreRequest { key, value, mode, copy: None, token: Some(b"") };
    let request = Request::Store(store);
    let sent = bench.receive(publisher.address, &datagram(publisher.id, CALL, &request));
    assert!(sent.iter().any(|sent| matches!(sent.frame().body, Body::Answer(_))));
    assert_eq!(bench.node.store().value_count(), 1);
}

#[test]
fn the_entry_hands_a_route_to_the_nearest_contact_and_answers_to_itself() {
    for (seed, skip) in (0..40).zip((0..4).cycle()) {
        let key = sharing(seed % 12, 1_000 + u64::from(seed));
        let mut bench = bench();
        let asked = Route { skip, hops_left: 200, flags: RouteFlags(0x82), ..route(key) };
        let sent = only(bench.receive(at(CLIENT), &from_client(&asked)));
        let Some(next) = nearest(&key, skip.into()) else {
            assert_eq!(answer(&sent), RouteAnswer::Nothing);
            assert_eq!(sent.to, at(CLIENT));
            continue;
        };
        let (from, sent_on, is_answer) = read(&sent).unwrap();
        assert_eq!((sent.to, from, is_answer), (next.address, own(), false));
        let expected = Route {
            flags: RouteFlags(0x80),
            hops_left: 15,
            answer_to: at("10.0.0.1:8001"),
            budget: 1_400,
            client: at(CLIENT),
            stamp: sent_on.stamp,
            seal: sent_on.seal,
            ..asked
        };
        assert_eq!(sent_on, expected);
        assert_ne!(sent_on.seal, [0; 8]);
        assert_eq!(sent.bytes.len(), from_client(&asked).len(), "a route never grows");
    }
}

#[test]
fn a_node_on_the_way_changes_who_hands_it_on_and_the_hops_and_nothing_else() {
    let key = sharing(9, 77);
    let handed = Route {
        flags: RouteFlags(0xf2),
        hops_left: 7,
        skip: 1,
        answer_to: at("10.9.9.9:8005"),
        budget: 777,
        client: at("[2001:db8::7]:77"),
        stamp: 0xabcd,
        seal: *b"a ticket",
        payload: b"beyond",
        rest: b"padding",
        ..route(key)
    };
    let before = encoded(sharing(0, 5), Message::Route(&handed));
    let mut bench = bench();
    let sent = only(bench.receive(at("10.1.0.1:8000"), &before));
    assert_eq!(sent.to, nearest(&key, 1).unwrap().address);
    let mut expected = before.clone();
    expected[1..21].copy_from_slice(own().as_bytes());
    expected[33] = 6;
    assert_eq!(sent.bytes, expected);
    assert_eq!(bench.node.counters().routes.forwarded, 1);
}

#[test]
fn a_route_from_a_node_that_is_nearer_is_dropped() {
    let key = sharing(4, 1);
    let mut bench = bench();
    let from_nearer = [key, own(), sharing(4, 9)].map(|id| {
        assert!(key.distance(&id) <= key.distance(&own()));
        encoded(id, Message::Route(&Route { answer_to: at("10.9.9.9:9"), ..route(key) }))
    });
    for bytes in from_nearer {
        assert_eq!(bench.receive(at("10.9.9.9:9"), &bytes), []);
    }
    assert_eq!(bench.node.counters().routes.dropped_nearer, 3);
}

#[test]
fn no_chain_of_nodes_hands_one_on_more_than_sixteen_times() {
    let key = sharing(9, 77);
    for hops_left in [0, 1, 15, 16, 17, 255] {
        let mut bench = bench();
        let handed = Route { hops_left, answer_to: at("10.9.9.9:9"), ..route(key) };
        let sent =
            bench.receive(at("10.1.0.1:8000"), &encoded(sharing(0, 5), Message::Route(&handed)));
        let forwarded: Vec<_> = sent
            .iter()
            .filter_map(read)
            .filter(|(_, _, is_answer)| !is_answer)
            .map(|(_, route, _)| route.hops_left)
            .collect();
        let expected = match hops_left {
            0 => vec![],
            _ => vec![hops_left.min(16) - 1],
        };
        assert_eq!(forwarded, expected, "{hops_left}");
    }
}

#[test]
fn a_holder_answers_what_it_holds_and_says_so_where_it_does_not_fit() {
    let key = sharing(9, 77);
    for (len, fits_stranger, fits_known) in
        [(20, true, true), (400, false, true), (1_300, false, false)]
    {
        let value = Value::bytes("v".repeat(len));
        let mut bench = bench();
        keep(&mut bench, key, &value);
        let ask = |bench: &mut Bench, answer_to: SocketAddr| {
            let handed = Route { answer_to, budget: 1_400, ..route(key) };
            let bytes = encoded(sharing(0, 5), Message::Route(&handed));
            bench.receive_at(
                LocalEnd { ip: Some([10, 0, 0, 1].into()), is_outside: true, scope: 0 },
                at("10.1.0.1:8000"),
                &bytes,
            )
        };
        let itself = Contact { id: own(), address: at("10.0.0.1:8001") };
        let found = |fits| match fits {
            true => RouteAnswer::Values(vec![value.clone()]),
            false => RouteAnswer::HeldAt(itself),
        };
        let stranger = at("198.51.100.1:8001");
        let sent = ask(&mut bench, stranger);
        // The answer, and a question to the stranger.
        assert_eq!(sent.iter().map(|sent| sent.to).collect::<Vec<_>>(), [stranger; 2]);
        assert_eq!(answer(&sent[0]), found(fits_stranger), "{len}");
        assert!(matches!(sent[1].request(), Some(Request::Ping)));
        let contact = contacts()[0].address;
        let sent = only(ask(&mut bench, contact));
        assert_eq!(answer(&sent), found(fits_known), "{len}");
        assert_eq!(sent.to, contact);
        assert_eq!(sent.from.ip, Some([10, 0, 0, 1].into()), "where it was asked");
    }
}

#[test]
fn an_answer_repeats_what_was_asked_and_names_who_answers() {
    let key = own();
    let handed = Route {
        kind: RouteKind::Locate,
        answer_to: contacts()[0].address,
        budget: 1_400,
        client: at(CLIENT),
        stamp: 77,
        seal: *b"a ticket",
        ..route(key)
    };
    let before = encoded(sharing(0, 5), Message::Route(&handed));
    let sent = only(bench().receive(at("10.1.0.1:8000"), &before));
    assert_eq!(
        answer(&sent),
        RouteAnswer::Located(Contact { id: own(), address: at("10.0.0.1:8001") })
    );
    assert_eq!(sent.bytes[1..21], own().as_bytes()[..]);
    assert_eq!(sent.bytes[21..29], before[21..29]);
    assert_eq!((sent.bytes[29], &sent.bytes[32..104]), (132, &before[32..104]));
}

/// The route that the entry hands on for a client, and a holder's answer to it.
fn asked_and_answered(bench: &mut Bench, route: &Route<'_>, payload: &[u8]) -> Vec<u8> {
    let sent = only(bench.receive(at(CLIENT), &from_client(route)));
    let (_, sent_on, _) = read(&sent).unwrap();
    encoded(Id::of_name("holder"), Message::Routed(&Route { payload, rest: &[], ..sent_on }))
}

const HOLDER: &str = "203.0.113.5:8001";

#[test]
fn the_entry_relays_an_answer_with_a_token_and_remembers_nothing() {
    let mut bench = bench();
    let asked = route(sharing(9, 77));
    let answered = asked_and_answered(&mut bench, &asked, b"ldee");
    let sent = only(bench.receive(at(HOLDER), &answered));
    assert_eq!(sent.to, at(CLIENT));
    let (from, relayed, is_answer) = read(&sent).unwrap();
    assert!(is_answer);
    assert_eq!(from, Id::of_name("holder"), "who answered");
    assert_eq!(relayed.payload, b"ldee");
    assert_eq!(sent.bytes[..94], answered[..94]);
    assert_ne!(relayed.seal, answered[96..104], "a token, and no ticket");
    // With the token the client is believed the next time, whatever the rpc id.
    let again = Route { stamp: relayed.stamp, seal: relayed.seal, rest: &[], ..asked };
    let mut bytes = from_client(&again);
    bytes[21..29].copy_from_slice(b"another.");
    let sent = only(bench.receive(at(CLIENT), &bytes));
    let (_, sent_on, _) = read(&sent).unwrap();
    assert_eq!((sent_on.budget, sent_on.flags), (1_400, RouteFlags::PROVED));
    // The token of another address is worth nothing.
    let sent = only(bench.receive(at("192.0.2.7:4001"), &bytes));
    let (_, sent_on, _) = read(&sent).unwrap();
    assert_eq!((sent_on.budget, sent_on.flags), (3 * 104, RouteFlags::default()));
}

#[test]
fn forged_changed_replayed_and_aged_tickets_bring_nothing() {
    let asked = route(sharing(9, 77));
    let mut bench = bench();
    let answered = asked_and_answered(&mut bench, &asked, b"ldee");
    // Each bit of the rpc id, budget, client, stamp and seal.
    for byte in (21..29).chain(74..104) {
        for bit in 0..8 {
            let mut forged = answered.clone();
            forged[byte] ^= 1 << bit;
            assert_eq!(bench.receive(at(HOLDER), &forged), [], "bit {bit} of byte {byte}");
        }
    }
    let relayed = (0..10).map(|_| bench.receive(at(HOLDER), &answered).len()).collect::<Vec<_>>();
    assert_eq!(relayed, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let dropped = bench.node.counters().routes.dropped_ticket;
    assert_eq!(dropped, 8 + 38 * 8);
    for (secs, expected) in [(0, 1), (4, 1), (6, 0), (60, 0)] {
        let mut bench = self::bench();
        let answered = asked_and_answered(&mut bench, &asked, b"ldee");
        bench.wait(Duration::from_secs(secs));
        let relayed = bench.receive(at(HOLDER), &answered);
        let to_client = relayed.iter().filter(|sent| sent.to == at(CLIENT)).count();
        assert_eq!(to_client, expected, "after {secs} s");
    }
    // The ticket of another node.
    let mut other = Bench::seeded([8; 32]);
    contacts().into_iter().for_each(|contact| _ = other.node.introduce(other.now, contact));
    other.drain();
    assert_eq!(other.receive(at(HOLDER), &answered), []);
}

#[test]
fn a_client_is_sent_no_more_than_its_budget_however_long_the_answers() {
    let short = Route { rest: &[], ..route(sharing(9, 77)) };
    for len in [100, 200, 208, 209, 1_296] {
        let mut bench = bench();
        let answered = asked_and_answered(&mut bench, &short, &vec![b'x'; len]);
        let relayed: usize = (0..4)
            .flat_map(|_| bench.receive(at(HOLDER), &answered))
            .map(|sent| sent.bytes.len())
            .sum();
        assert!(relayed <= 3 * HEAD, "{relayed} bytes for {HEAD}");
        assert_eq!(relayed > 0, HEAD + len <= 3 * HEAD, "{len}");
    }
}

#[test]
fn what_the_entry_does_itself_takes_a_token_and_then_tells_how_it_went() {
    let value = Value::bytes("what a client keeps");
    let key = sharing(9, 77);
    for (kind, flags) in [
        (RouteKind::Store, 0),
        (RouteKind::FindValue, RouteFlags::ITERATE.0),
        (RouteKind::Locate, RouteFlags::ITERATE.0),
    ] {
        let mut bench = bench();
        let payload = if kind == RouteKind::Store { value.as_bytes() } else { &[] };
        let asked = Route { kind, flags: RouteFlags(flags), payload, ..route(key) };
        let refused = only(bench.receive(at(CLIENT), &from_client(&asked)));
        assert_eq!(refused.to, at(CLIENT));
        match answer(&refused) {
            RouteAnswer::Refused { reason } => assert!(reason.contains("token"), "{reason}"),
            cut => assert_eq!((cut, kind != RouteKind::Store), (RouteAnswer::Cut, true)),
        }
        let (_, brought, _) = read(&refused).unwrap();
        let again = Route { stamp: brought.stamp, seal: brought.seal, ..asked };
        let mut sent = bench.receive(at(CLIENT), &from_client(&again));
        assert!(sent.len() > 1 && sent.iter().all(|sent| sent.request().is_some()), "it asks on");
        let mut told = Vec::new();
        for _ in 0..400 {
            let Some(next) = sent.pop() else { break };
            if next.to == at(CLIENT) {
                told.push(next);
                continue;
            }
            let from = contacts().into_iter().find(|contact| contact.address == next.to).unwrap();
            let response = match next.request().unwrap() {
                Request::Store(_) => Response::Stored,
                Request::FindNode { .. } => Response::Nodes(contacts()),
                Request::FindValue(_) => Response::Values {
                    values: vec![value.clone()],
                    closest: Vec::new(),
                    rest: Default::default(),
                },
                request => panic!("{request:?}"),
            };
            let bytes = next.answer(from.id, &response);
            sent.extend(bench.receive(next.to, &bytes));
        }
        sent.extend(bench.wait(Duration::from_secs(10)));
        told.extend(sent.into_iter().filter(|sent| sent.to == at(CLIENT)));
        let told = only(told);
        match answer(&told) {
            RouteAnswer::Stored => assert_eq!(kind, RouteKind::Store),
            RouteAnswer::Values(values) => assert_eq!(values, std::slice::from_ref(&value)),
            RouteAnswer::Located(contact) => assert_eq!(contact, nearest(&key, 0).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_answer_goes_to_no_loopback_address_for_somebody_outside() {
    let outside = LocalEnd { ip: Some([10, 0, 0, 1].into()), scope: 0, is_outside: true };
    for answer_to in ["127.0.0.1:53", "[::1]:53", "0.0.0.0:9", "224.0.0.1:9", "10.9.9.9:0"] {
        for key in [own(), sharing(9, 77)] {
            let mut bench = bench();
            let handed = Route { answer_to: at(answer_to), budget: 1_400, ..route(key) };
            let bytes = encoded(sharing(0, 5), Message::Route(&handed));
            assert_eq!(bench.receive_at(outside, at("10.1.0.1:8000"), &bytes), [], "{answer_to}");
            assert_eq!(bench.node.counters().routes.dropped_address, 1);
        }
    }
}

#[test]
fn a_contact_that_swallows_routes_is_asked_within_two_seconds_and_then_left_out() {
    let key = sharing(9, 77);
    let mut bench = bench();
    let first = only(bench.receive(at(CLIENT), &from_client(&route(key))));
    assert_eq!(first.to, nearest(&key, 0).unwrap().address);
    let sent = bench.wait(Duration::from_millis(2_001));
    let asked: Vec<_> = sent.iter().filter(|sent| sent.to == first.to).collect();
    assert!(matches!(asked[..], [ping] if matches!(ping.request(), Some(Request::Ping))));
    bench.wait(Duration::from_secs(4));
    let second = only(bench.receive(at(CLIENT), &from_client(&route(key))));
    assert_eq!(second.to, nearest(&key, 1).unwrap().address);
}

#[test]
fn a_contact_that_is_heard_of_is_left_in_peace() {
    let key = sharing(9, 77);
    let mut bench = bench();
    only(bench.receive(at(CLIENT), &from_client(&route(key))));
    bench.wait(Duration::from_millis(500));
    bench.ask(nearest(&key, 0).unwrap(), &Request::Ping);
    assert_eq!(bench.wait(Duration::from_secs(2)), []);
}

#[test]
fn a_route_that_reaches_nobody_takes_another_way_at_once() {
    let key = sharing(9, 77);
    let mut bench = bench();
    let lost = only(bench.receive(at(CLIENT), &from_client(&route(key))));
    bench.node.handle(
        bench.now,
        kademlua::node::Input::Unreachable { destination: lost.to, bytes: &lost.bytes },
    );
    let sent = bench.drain();
    let again = sent.iter().find(|sent| read(sent).is_some()).expect("handed on anew");
    assert_eq!(again.to, nearest(&key, 1).unwrap().address);
    assert_eq!(again.bytes, lost.bytes);
    assert!(
        sent.iter().any(|sent| sent.to == lost.to && matches!(sent.request(), Some(Request::Ping)))
    );
}

#[test]
fn what_says_that_nobody_is_there_can_be_forged_and_brings_little() {
    let key = sharing(9, 77);
    let mut bench = bench();
    let lost = only(bench.receive(at(CLIENT), &from_client(&route(key))));
    let mut sent = Vec::new();
    let others = contacts().into_iter().map(|contact| contact.address).filter(|at| *at != lost.to);
    for destination in others.chain([at("203.0.113.1:1")]) {
        let bytes = &lost.bytes;
        bench.node.handle(bench.now, kademlua::node::Input::Unreachable { destination, bytes });
        sent.extend(bench.drain());
    }
    assert_eq!(sent, [], "nothing was handed to those");
    for _ in 0..2_000 {
        let (destination, bytes) = (lost.to, &lost.bytes);
        bench.node.handle(bench.now, kademlua::node::Input::Unreachable { destination, bytes });
        sent.extend(bench.drain());
    }
    let again = sent.iter().filter(|sent| read(sent).is_some()).count();
    assert!(again <= 256, "{again}");
    let mut long = lost.bytes.clone();
    long[33] = 255;
    bench.wait(Duration::from_millis(1_200));
    let (destination, bytes) = (lost.to, &long);
    bench.node.handle(bench.now, kademlua::node::Input::Unreachable { destination, bytes });
    for sent in bench.drain().iter().filter_map(read) {
        assert_eq!(sent.1.hops_left, 15);
    }
    let mut foreign = lost.bytes.clone();
    foreign[1] ^= 1;
    let bytes = &foreign;
    bench.wait(Duration::from_millis(1_500));
    bench
        .node
        .handle(bench.now, kademlua::node::Input::Unreachable { destination: lost.to, bytes });
    assert!(bench.drain().iter().all(|sent| read(sent).is_none()), "none that this node sent");
}

#[test]
fn clients_that_hand_in_a_storm_do_not_keep_others_out() {
    let config = Config { source_rate: 1_000, ..Config::default() };
    let node = Node::new(Instant::ZERO, own(), config, [7; 32]);
    let mut bench = Bench::with(node);
    contacts().into_iter().for_each(|contact| _ = bench.node.introduce(bench.now, contact));
    bench.node.add_own_address(at("10.0.0.1:8001"));
    bench.drain();
    let key = sharing(9, 77);
    let storm = from_client(&route(key));
    let through_hop = encoded(
        sharing(0, 5),
        Message::Route(&Route { answer_to: at("10.9.9.9:9"), ..route(key) }),
    );
    for (source, bytes) in [("192.0.2.1:1", &storm), ("10.1.0.1:8000", &through_hop)] {
        let count = (0..5_000).map(|_| bench.receive(at(source), bytes).len()).sum::<usize>();
        assert!((100..1_500).contains(&count), "{count} for {source}");
        let mut other = |address: &str| bench.receive(at(address), &storm).len();
        assert_eq!(other("198.51.100.1:1"), 1, "another client");
    }
}

/// Any route, in the name of anybody.
fn any_route() -> impl Strategy<Value = (Id, Route<'static>, usize)> {
    let key = (0..12u32, any::<u64>()).prop_map(|(bits, seed)| sharing(bits, seed));
    let answer_to = prop_oneof![
        Just(Route::NOWHERE),
        Just(at("203.0.113.9:53")),
        Just(at("[2001:db8::1]:53")),
        Just(contacts()[3].address),
        Just(at("127.0.0.1:53")),
    ];
    let from =
        prop_oneof![Just(Id::ZERO), (0..3u32, any::<u64>()).prop_map(|(b, s)| sharing(b, s))];
    let kind =
        prop_oneof![Just(RouteKind::Locate), Just(RouteKind::FindValue), Just(RouteKind::Store)];
    let numbers = (any::<u8>(), any::<u8>(), 0..3u8, any::<u16>(), any::<u16>());
    (from, key, answer_to, kind, numbers, any::<[u8; 8]>(), 0..1_300usize).prop_map(
        |(from, key, answer_to, kind, (flags, hops_left, skip, budget, stamp), seal, padding)| {
            let client = at("203.0.113.9:53");
            let flags = RouteFlags(flags);
            let route = Route {
                flags,
                hops_left,
                skip,
                kind,
                key,
                answer_to,
                budget,
                client,
                stamp,
                seal,
                payload: &[],
                rest: &[],
            };
            (from, route, padding)
        },
    )
}

proptest! {
    /// Until nothing is due any more; the node holds something under each third key.
    #[test]
    fn bytes_to_whoever_has_proved_nothing_follow_what_it_sent(
        (from, route, padding) in any_route(), holds in any::<bool>(), len in 0..1_300usize,
    ) {
        let mut bench = bench();
        if holds {
            keep(&mut bench, route.key, &Value::bytes("v".repeat(len)));
        }
        bench.wait(Duration::from_secs(5));
        let padding = vec![0; padding];
        let bytes = encoded(from, Message::Route(&Route { rest: &padding, ..route }));
        let outside = LocalEnd { ip: Some([10, 0, 0, 1].into()), scope: 0, is_outside: true };
        let source = at("198.51.100.77:777");
        let known: Vec<_> = contacts().iter().map(|contact| contact.address).collect();
        let mut sent = bench.receive_at(outside, source, &bytes);
        sent.extend(bench.wait(Duration::from_secs(10)));
        let to = |wanted: &dyn Fn(SocketAddr) -> bool| -> usize {
            sent.iter().filter(|sent| wanted(sent.to)).map(|sent| sent.bytes.len()).sum()
        };
        let factor = if from == Id::ZERO { 3 } else { 1 };
        prop_assert!(to(&|at| at == source) <= factor * bytes.len());
        prop_assert!(to(&|at| at != source && !known.contains(&at)) <= bytes.len());
        let routes = sent.iter().filter(|sent| known.contains(&sent.to)).filter_map(read);
        prop_assert!(routes.filter(|(.., is_answer)| !is_answer).count() <= 1, "one for one");
    }

    #[test]
    fn routes_of_any_bytes_end_in_no_panic_and_no_longer_datagram(
        call in prop_oneof![Just(4u8), Just(132)], mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        from_client in any::<bool>(), length in any::<Option<u16>>(),
    ) {
        let mut datagram = vec![1; 29];
        let from = if from_client { Id::ZERO } else { own() };
        datagram[1..21].copy_from_slice(from.as_bytes());
        datagram.push(call);
        if let (Some(length), Some(head)) = (length, bytes.first_chunk_mut()) {
            *head = length.to_be_bytes();
        }
        datagram.extend_from_slice(&bytes);
        let mut bench = bench();
        for sent in bench.receive(at(CLIENT), &datagram) {
            prop_assert!(sent.bytes.len() <= (3 * datagram.len()).min(MAX_DATAGRAM));
        }
    }
}
