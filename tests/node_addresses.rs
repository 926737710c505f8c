//! What an address is worth: forged sources get nothing, and an answer leaves from the address that
//! was asked.

mod peer;

use kademlua::address::LocalEnd;
use kademlua::bencode::{List, Value};
use kademlua::id::Id;
use kademlua::message::{
    Contact, FindValue, Request, Response, StoreMode, StoreRequest, TransactionId,
};
use kademlua::node::Event;
use kademlua::time::Duration;

use crate::peer::{Bench, Sent, contact, datagram};

/// Received at an interface that other machines reach, from an address of this one.
fn outside(ip: &str) -> LocalEnd {
    LocalEnd { ip: Some(ip.parse().unwrap()), scope: 0, is_outside: true }
}

fn asker(address: &str) -> Contact {
    Contact { id: Id::of_name("asker"), address: address.parse().unwrap() }
}

fn store(value: &Value) -> Request<'_> {
    let key = Id::of_name("key");
    Request::Store(StoreRequest {
        key,
        value: value.item(),
        mode: StoreMode::Add,
        token: None,
        copy: None,
    })
}

/// One request of each kind to a node, and its answers.
fn ask_all(bench: &mut Bench, local: LocalEnd, from: Contact) -> Vec<Sent> {
    let (value, args) = (Value::bytes("value"), List::EMPTY);
    let (target, key) = (Id::of_name("target"), Id::of_name("key"));
    let requests = [
        Request::Ping,
        Request::FindNode { target },
        Request::FindValue(FindValue::new(key, 6)),
        store(&value),
        Request::GetSocket,
        Request::Custom { name: b"ours", args },
        Request::Custom { name: b"theirs", args },
    ];
    let ask = |request: &Request<'_>| {
        let bytes = datagram(from.id, TransactionId::new(*b"question"), request);
        bench.receive_at(local, from.address, &bytes)
    };
    requests.iter().flat_map(ask).collect()
}

/// A node whose application answers an RPC of its own.
fn bench() -> Bench {
    let mut bench = Bench::without_limits();
    bench.node.register(b"ours").unwrap();
    bench
}

#[test]
fn a_forged_source_gets_no_answer_no_ping_and_no_place() {
    let ends = [LocalEnd::default(), outside("fd77::1"), outside("10.77.0.1")];
    let sources = [
        "[::ffff:127.0.0.1]:9001",
        "[::ffff:127.9.9.9]:9001",
        "[::ffff:192.0.2.7]:9001",
        "[::127.0.0.1]:9001",
        "[::192.0.2.7]:9001",
        "[::]:9001",
        "0.0.0.0:9001",
        "255.255.255.255:9001",
        "224.0.0.1:9001",
        "[ff02::1]:9001",
        "192.0.2.7:0",
    ];
    let anywhere = sources.into_iter().flat_map(|source| ends.map(|end| (source, end)));
    let from_outside = ["127.0.0.1:9001", "127.0.0.2:9001", "127.255.1.1:9001", "[::1]:9001"]
        .into_iter()
        .flat_map(|source| [(source, ends[1]), (source, ends[2])]);
    for (source, end) in anywhere.chain(from_outside) {
        let mut bench = bench();
        assert_eq!(ask_all(&mut bench, end, asker(source)), [], "{source} {end:?}");
        assert_eq!(bench.wait(Duration::from_secs(60)), [], "{source} {end:?}");
        assert!(bench.take_events().is_empty(), "{source} {end:?}");
        assert!(bench.node.table().is_empty());
        assert_eq!(bench.node.store().keys().count(), 0, "{source} {end:?}");
        let counters = bench.node.counters();
        assert_eq!((counters.datagrams_in, counters.dropped), (7, 7), "{source} {end:?}");
    }
}

/// An answer to our own question is worth no more if it comes from an address where nobody can be.
#[test]
fn a_forged_answer_is_none() {
    let peer = contact(9_001);
    for (source, end) in
        [("[::ffff:127.0.0.1]:9001", LocalEnd::default()), ("127.0.0.1:9001", outside("127.0.0.1"))]
    {
        let mut bench = bench();
        let sent = bench.ask(peer, &Request::Ping);
        let ping =
            sent.iter().find(|sent| sent.request().is_some()).expect("the stranger is pinged");
        let pong = ping.answer(peer.id, &Response::Pong);
        assert_eq!(bench.receive_at(end, source.parse().unwrap(), &pong), []);
        assert!(bench.node.table().is_empty(), "{source}");
        bench.receive(peer.address, &pong);
        assert_eq!(bench.node.table().len(), 1);
    }
}

#[test]
fn answers_and_the_ping_to_a_stranger_leave_from_the_end_that_was_asked() {
    let scoped = LocalEnd { scope: 7, ..outside("fe80::1") };
    for end in [LocalEnd::default(), outside("10.77.0.2"), outside("fd77::2"), scoped] {
        let mut bench = bench();
        let from = asker("192.0.2.7:9001");
        let sent = ask_all(&mut bench, end, from);
        // All but the one that the application answers, and the ping.
        assert_eq!(sent.len(), 6 + 1, "{sent:?}");
        let Some(Event::Request { token, .. }) =
            bench.take_events().into_iter().find(|event| matches!(event, Event::Request { .. }))
        else {
            panic!("the application is asked")
        };
        bench.node.answer(token, Ok(vec![Value::bytes("late")])).unwrap();
        let late = bench.drain();
        assert_eq!(late.len(), 1);
        let ask = datagram(
            from.id,
            TransactionId::new(*b"another."),
            &Request::Custom { name: b"ours", args: List::EMPTY },
        );
        assert_eq!(bench.receive_at(end, from.address, &ask), []);
        let failed = bench.wait(Duration::from_secs(2));
        assert_eq!(failed.len(), 1, "an RPC that is not answered in time fails");
        for sent in sent.iter().chain(&late).chain(&failed) {
            assert_eq!((sent.to, sent.from), (from.address, end), "{sent:?}");
        }
    }
}
