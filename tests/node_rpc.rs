//! RPCs that an application answers: registered, called, answered in time, too late, or not at all.

mod peer;

use std::sync::atomic::{AtomicU64, Ordering};

use kademlua::bencode::{Item, Value};
use kademlua::message::{Contact, Request, Response, RpcError, TransactionId};
use kademlua::node::{CallError, Event, RegisterError, RequestToken, RpcFailed};
use kademlua::time::Duration;
use kademlua::wire::{Body, Dialect};

use peer::{Bench, Sent, contact, datagram};

const CALLER: u16 = 9_001;

/// A node that knows the caller.
fn bench() -> Bench {
    Bench::knowing([contact(CALLER)])
}

/// The caller calls an RPC with two arguments, under a number of its own.
fn call(bench: &mut Bench, name: &[u8]) -> Vec<Sent> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    call_numbered(bench, name, LAST.fetch_add(1, Ordering::Relaxed))
}

fn call_numbered(bench: &mut Bench, name: &[u8], number: u64) -> Vec<Sent> {
    let args = Item::parse(b"li7e3:abce").unwrap().list().unwrap();
    let request = Request::Custom { name, args };
    let caller = contact(CALLER);
    bench.receive(
        caller.address,
        &datagram(caller.id, TransactionId::new(number.to_be_bytes()), &request),
    )
}

/// The request that the application got.
fn asked(bench: &mut Bench) -> Option<(RequestToken, Contact, Vec<u8>, Vec<Value>)> {
    bench.take_events().into_iter().find_map(|event| match event {
        Event::Request { token, from, name, args } => Some((token, from, name, args)),
        _ => None,
    })
}

/// The bencoded answers, or that a call failed.
fn bodies<'s>(sent: &'s [Sent]) -> Vec<Result<&'s [u8], RpcError>> {
    let body = |sent: &'s Sent| match sent.frame().body {
        Body::Error(error) => Err(error),
        body => Ok(body.as_bytes()),
    };
    sent.iter().map(body).collect()
}

#[test]
fn an_application_gets_the_call_and_its_values_go_back() {
    let mut bench = bench();
    bench.node.register(b"hello").unwrap();
    assert!(call(&mut bench, b"hello").is_empty(), "the answer is the application's to give");
    let (token, from, name, args) = asked(&mut bench).unwrap();
    assert_eq!((from, &name[..]), (contact(CALLER), &b"hello"[..]));
    assert_eq!(args, [Value::integer(7), Value::bytes("abc")]);

    bench.node.answer(token, Ok(vec![Value::bytes("world")])).unwrap();
    let sent = bench.drain();
    assert_eq!(sent[0].to, contact(CALLER).address);
    assert_eq!(bodies(&sent), [Ok(&b"l5:worlde"[..])]);
    // A second answer to the same call goes nowhere.
    bench.node.answer(token, Ok(Vec::new())).unwrap();
    assert!(bench.drain().is_empty());
}

#[test]
fn a_datagram_that_arrives_twice_is_one_call() {
    let mut bench = bench();
    bench.node.register(b"count").unwrap();
    bench.node.register(b"other").unwrap();
    assert!(call_numbered(&mut bench, b"count", 1).is_empty());
    let (token, ..) = asked(&mut bench).unwrap();
    assert!(call_numbered(&mut bench, b"count", 1).is_empty(), "its answer serves both");
    assert_eq!(asked(&mut bench), None);

    bench.node.answer(token, Ok(vec![Value::integer(1)])).unwrap();
    let first = bench.drain();
    assert_eq!(bodies(&first), [Ok(&b"li1ee"[..])]);
    let again = call_numbered(&mut bench, b"count", 1);
    assert_eq!((again[0].to, &again[0].bytes), (first[0].to, &first[0].bytes));
    assert_eq!(asked(&mut bench), None);

    // Another number, RPC or caller is another call, and so is the same one long after.
    call_numbered(&mut bench, b"count", 2);
    assert!(asked(&mut bench).is_some());
    call_numbered(&mut bench, b"other", 1);
    assert!(asked(&mut bench).is_some());
    bench.wait(Duration::from_secs(11));
    bench.take_events();
    call_numbered(&mut bench, b"count", 1);
    assert!(asked(&mut bench).is_some());
}

#[test]
fn a_call_that_failed_for_want_of_room_may_be_made_again() {
    let mut bench = bench();
    bench.node.register(b"count").unwrap();
    let refused = (0..).find(|&number| !call_numbered(&mut bench, b"count", number).is_empty());
    let refused = refused.unwrap();
    bench.wait(Duration::from_secs(2));
    bench.take_events();
    assert!(call_numbered(&mut bench, b"count", refused).is_empty(), "there is room now");
    assert!(asked(&mut bench).is_some());
}

#[test]
fn an_rpc_that_is_not_registered_is_none() {
    let mut bench = bench();
    assert_eq!(bodies(&call(&mut bench, b"hello")), [Err(RpcError::NoSuchRpc)]);
    bench.node.register(b"hello").unwrap();
    assert!(bench.node.unregister(b"hello"));
    assert!(!bench.node.unregister(b"hello"));
    assert_eq!(bodies(&call(&mut bench, b"hello")), [Err(RpcError::NoSuchRpc)]);
    assert!(asked(&mut bench).is_none());
}

#[test]
fn an_rpc_that_fails_is_told() {
    let mut bench = bench();
    bench.node.register(b"hello").unwrap();
    call(&mut bench, b"hello");
    let (token, ..) = asked(&mut bench).unwrap();
    bench.node.answer(token, Err(RpcFailed)).unwrap();
    assert_eq!(bodies(&bench.drain()), [Err(RpcError::Failed)]);
}

#[test]
fn a_call_left_unanswered_fails_while_its_caller_still_waits() {
    let mut bench = bench();
    bench.node.register(b"hello").unwrap();
    call(&mut bench, b"hello");
    let (token, ..) = asked(&mut bench).unwrap();
    let sent = bench.wait(Duration::from_millis(1_450));
    assert_eq!(bodies(&sent), [Err(RpcError::Failed)]);
    bench.node.answer(token, Ok(vec![Value::integer(1)])).unwrap();
    assert!(bench.drain().is_empty(), "a late answer goes nowhere");
}

#[test]
fn an_answer_that_fits_no_datagram_fails() {
    let mut bench = bench();
    bench.node.register(b"hello").unwrap();
    call(&mut bench, b"hello");
    let (token, ..) = asked(&mut bench).unwrap();
    let huge = Value::bytes(vec![b'x'; Dialect::V1.sizes().custom_max]);
    let bytes = huge.as_bytes().len();
    let error = CallError::TooLarge { bytes, max: Dialect::V1.sizes().custom_max };
    assert_eq!(bench.node.answer(token, Ok(vec![huge])), Err(error));
    assert_eq!(bodies(&bench.drain()), [Err(RpcError::Failed)]);
}

#[test]
fn names_of_the_protocol_and_too_many_names_are_refused() {
    let mut bench = bench();
    for name in ["ping", "findnode", "findvalue", "store", "getsocket"] {
        assert_eq!(bench.node.register(name.as_bytes()), Err(RegisterError::Reserved));
    }
    for number in 0..256 {
        bench.node.register(format!("rpc {number}").as_bytes()).unwrap();
    }
    assert_eq!(bench.node.register(b"one more"), Err(RegisterError::TooMany));
    assert_eq!(bench.node.register(b"rpc 7"), Ok(()), "once more is not one more");
}

#[test]
fn calls_that_wait_for_the_application_are_bounded() {
    let mut bench = bench();
    bench.node.register(b"hello").unwrap();
    let refused: Vec<_> = (0..1_000).flat_map(|_| call(&mut bench, b"hello")).collect();
    assert_eq!(bodies(&refused), vec![Err(RpcError::Failed); 1_000 - 256]);
    bench.take_events();
    assert_eq!(bench.wait(Duration::from_secs(2)).len(), 256);
    assert!(call(&mut bench, b"hello").is_empty(), "room again");
}

/// Calls an RPC of a peer that has always answered within a millisecond; it takes a second now.
fn called(put: impl FnOnce(&Sent) -> Vec<u8>) -> Result<Response, CallError> {
    let mut bench = bench();
    let peer = contact(CALLER);
    for _ in 0..30 {
        bench.node.start_ping(bench.now, peer.into());
        let ping = bench.drain().remove(0);
        bench.receive(peer.address, &ping.answer(peer.id, &Response::Pong));
    }
    bench.take_events();
    bench.node.start_call(bench.now, peer.into(), b"hello", &[Value::integer(7)]).unwrap();
    let sent = bench.drain().remove(0);
    bench.wait(Duration::from_secs(1));
    bench.receive(peer.address, &put(&sent));
    bench
        .take_events()
        .into_iter()
        .find_map(|event| match event {
            Event::CallDone { outcome, .. } => Some(outcome),
            _ => None,
        })
        .expect("a call ends")
}

#[test]
fn the_answer_of_a_peers_application_is_waited_for() {
    let id = contact(CALLER).id;
    let values = vec![Value::bytes("world")];
    let returned = called(|sent| sent.answer(id, &Response::Returned(values.clone())));
    assert_eq!(returned, Ok(Response::Returned(values)));
    assert_eq!(called(|sent| sent.answer(id, RpcError::Failed)), Err(CallError::Failed));
    assert_eq!(called(|sent| sent.answer(id, RpcError::NoSuchRpc)), Err(CallError::NoSuchRpc));
}

#[test]
fn arguments_that_fit_no_datagram_are_refused() {
    let mut bench = bench();
    let huge = Value::bytes(vec![b'x'; Dialect::V1.sizes().custom_max]);
    let error = bench.node.start_call(bench.now, contact(CALLER).into(), b"hello", &[huge]);
    assert!(
        matches!(error, Err(CallError::TooLarge { max, .. }) if max == Dialect::V1.sizes().custom_max)
    );
    assert!(bench.drain().is_empty());
}
