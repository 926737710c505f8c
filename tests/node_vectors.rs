//! Every recorded reply of an original is understood by a node that asked the question.

mod peer;
mod vectors;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::kad::lookup::{Goal, Outcome};
use kademlua::message::{FindValue, Request, Response, Rpc, StoreMode};
use kademlua::node::{Event, Peer};
use kademlua::time::Duration;
use kademlua::wire::{Body, Envelope, parse};

use peer::{Bench, contact};
use vectors::{datagram, malformed, name, recorded};

/// The original that answered.
const PORT: u16 = 8302;

/// A node asks the original the same, and gets the recorded reply. Returns how the call ended.
fn ended(request: &Request<'_>, reply: &[u8]) -> Event {
    let mut bench = Bench::knowing([contact(PORT)]);
    start(&mut bench, request);
    let mut sent = bench.drain();
    // A store comes after a lookup.
    if request.kind() == Rpc::Store {
        let nodes = sent[0].answer_nodes(contact(PORT).id, &[]);
        sent = bench.receive(contact(PORT).address, &nodes);
    }
    assert_eq!(sent.len(), 1);
    let mut reply = reply.to_vec();
    reply[21..29].copy_from_slice(sent[0].frame().transaction.as_bytes());
    bench.receive(contact(PORT).address, &reply);
    bench.wait(Duration::from_secs(4));
    let is_end = |event: &Event| {
        matches!(event, Event::LookupDone(_) | Event::StoreDone(_) | Event::CallDone { .. })
    };
    bench.take_events().into_iter().find(is_end).expect("an end")
}

fn start(bench: &mut Bench, request: &Request<'_>) {
    let (node, now, peer) = (&mut bench.node, bench.now, Peer::from(contact(PORT)));
    match *request {
        Request::Ping => node.start_ping(now, peer),
        Request::GetSocket => node.start_get_socket(now, peer),
        Request::FindNode { target } => node.start_lookup(now, Goal::Node { target }),
        Request::FindValue(FindValue { key, limit, .. }) => {
            node.start_lookup(now, Goal::Value { key, max_nodes: 3, max_entries: limit })
        }
        Request::Store(store) => {
            let value = Value::parse(store.value.as_bytes()).unwrap();
            node.start_store(now, store.key, value, StoreMode::Add).unwrap()
        }
        Request::Custom { name, args } => {
            node.start_call(now, peer, name, &args.values().unwrap()).unwrap()
        }
        Request::Mainline(_) => panic!("no original asks that"),
    };
}

#[test]
fn recorded_replies_are_understood() {
    let recorded = recorded();
    let mut seen = 0;
    for reply in recorded.iter().filter(|entry| entry["reply_to"].is_string()) {
        let request = recorded.iter().find(|entry| entry["name"] == reply["reply_to"]).unwrap();
        let (asked, bytes) = (datagram(request), datagram(reply));
        let Ok(Envelope { body: Body::Query(query), .. }) = parse(&asked) else {
            panic!("{} is no request", name(request));
        };
        // Questions that a node never asks: an id of a wrong length, a limit that is a text.
        let Ok(request) = query.read() else { continue };
        seen += 1;
        check(name(reply), &request, &bytes);
    }
    assert!(seen > 40, "only {seen} replies");
}

fn check(name: &str, request: &Request<'_>, reply: &[u8]) {
    match ended(request, reply) {
        Event::LookupDone(record) => {
            let query = &record.queries[0];
            let Outcome::Answered { contacts, values, .. } = query.outcome else {
                panic!("{name}: {query:?}");
            };
            let expected = values_in(request, reply);
            assert_eq!(values, expected, "{name}");
            assert!(contacts > 0 || !reply.windows(4).any(|w| w == b"ll9:"), "{name}");
        }
        Event::StoreDone(report) => {
            assert_eq!(report.stored, [contact(PORT)], "{name}: {report:?}");
        }
        Event::CallDone { outcome, .. } => {
            let answered = reply[29] == 129;
            assert_eq!(outcome.is_ok(), answered, "{name}: {outcome:?}");
        }
        event => panic!("{name}: {event:?}"),
    }
}

fn values_in(request: &Request<'_>, reply: &[u8]) -> usize {
    let Ok(Envelope { body: Body::Answer(answer), .. }) = parse(reply) else { return 0 };
    match answer.read(request.kind()) {
        Ok(Response::Values { values, .. }) => values.len(),
        _ => 0,
    }
}

#[test]
fn requests_that_originals_send_are_answered_once() {
    for entry in recorded() {
        if entry["direction"] != "original -> peer" {
            continue;
        }
        let mut bench = Bench::knowing([contact(8301)]);
        let bytes = datagram(&entry);
        let source = contact(8301).address;
        let sent = bench.receive(source, &bytes);
        let replies: Vec<_> = sent.iter().filter(|sent| sent.request().is_none()).collect();
        assert_eq!(replies.len(), 1, "{}", name(&entry));
        assert_eq!((replies[0].to, &replies[0].bytes[21..29]), (source, &bytes[21..29]));
        assert_eq!(&replies[0].bytes[1..21], Id::of_name("8001").as_bytes());
    }
}

#[test]
fn broken_replies_end_a_lookup_and_nothing_else() {
    for entry in malformed() {
        let mut bench = Bench::knowing([contact(8302)]);
        let goal = Goal::Value { key: Id::of_name("key"), max_nodes: 3, max_entries: 6 };
        bench.node.start_lookup(bench.now, goal);
        let sent = bench.drain();
        let mut reply = sent[0].answer(contact(8302).id, &Response::Pong)[..29].to_vec();
        reply.extend(datagram(&entry).get(29..).unwrap_or_default());
        if let Some(call) = reply.get_mut(29) {
            *call = 129;
        }
        bench.receive(contact(8302).address, &reply);
        bench.wait(Duration::from_secs(2));
        let done = |event: &Event| matches!(event, Event::LookupDone(_));
        assert!(bench.take_events().iter().any(done), "{}", name(&entry));
    }
}
