//! A node answers the hot requests of its contacts without allocating, from datagram to datagram.

mod counting;
mod peer;

use std::hint::black_box;
use std::net::SocketAddr;

use kademlua::address::LocalEnd;
use kademlua::bencode::Item;
use kademlua::id::Id;
use kademlua::message::{Contact, FindValue, Request, StoreMode, StoreRequest, TransactionId};
use kademlua::node::{Input, Node, Output};
use kademlua::time::{Duration, Instant};

use counting::allocations;
use peer::{Bench, contact, datagram};

/// Takes a request in and its answer out, as a driver does. Returns the answer's length.
fn answer(node: &mut Node, now: Instant, source: SocketAddr, datagram: &[u8]) -> usize {
    node.handle(
        now,
        Input::Datagram { source, local: LocalEnd::default(), bytes: black_box(datagram) },
    );
    let mut bytes = 0;
    loop {
        match black_box(node.poll_output()) {
            Output::Transmit { bytes: answer, .. } => bytes += answer.len(),
            Output::Event(_) => panic!("nothing to tell"),
            Output::Timeout(_) => return bytes,
        }
    }
}

#[test]
fn hot_requests_of_contacts_are_answered_without_allocating() {
    // One on this machine, whose address needs no proof, and one elsewhere.
    let elsewhere = Contact { address: ([10, 0, 0, 1], 9_000).into(), ..contact(9_000) };
    let askers = [contact(9_001), elsewhere];
    let mut bench = Bench::knowing(askers);
    // As many more contacts as find room.
    for port in 9_002..9_102 {
        bench.node.introduce(bench.now, contact(port));
    }
    bench.drain();
    let key = Id::of_name("key");
    let value = Item::parse(b"5:value").unwrap();
    let store = StoreRequest { key, value, mode: StoreMode::Add, copy: None, token: None };
    bench.ask(contact(9_001), &Request::Store(store));
    let requests = [
        Request::Ping,
        Request::FindNode { target: key },
        Request::FindValue(FindValue::new(key, 6)),
    ];
    for (from, request) in askers.iter().flat_map(|from| requests.map(|request| (from, request))) {
        let datagram = datagram(from.id, TransactionId::new(*b"question"), &request);
        // The buffers have grown to their usual size after the first.
        let expected = answer(&mut bench.node, bench.now, from.address, &datagram);
        assert!(expected > 32, "an answer was written");
        bench.now += Duration::from_millis(1);
        let mut bytes = 0;
        let (node, now) = (&mut bench.node, bench.now);
        let count = allocations(|| bytes = answer(node, now, from.address, &datagram));
        assert_eq!((count, bytes), (0, expected), "{request:?}");
    }
}

#[test]
fn garbage_is_dropped_or_refused_without_allocating() {
    let mut bench = Bench::knowing([contact(9_001)]);
    let source = contact(9_001).address;
    let request = datagram(contact(9_001).id, TransactionId::new(*b"question"), &Request::Ping);
    for at in 0..request.len() {
        let mut broken = request.clone();
        broken[at] = b'x';
        answer(&mut bench.node, bench.now, source, &request);
        if (1..21).contains(&at) {
            continue; // That is a stranger, who is asked back.
        }
        let (node, now) = (&mut bench.node, bench.now);
        let count = allocations(|| {
            answer(node, now, source, &broken);
        });
        assert_eq!(count, 0, "byte {at}");
    }
}
