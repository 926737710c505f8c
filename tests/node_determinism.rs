//! The same seed and the same inputs give the same outputs, byte for byte.

mod peer;

use kademlua::bencode::{Item, Value};
use kademlua::id::Id;
use kademlua::kad::lookup::Goal;
use kademlua::message::{FindValue, Request, Response, Rpc, StoreMode, StoreRequest};
use kademlua::time::Duration;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use peer::{Bench, Sent, contact};

/// A day in the life of a node: everything it sends, every event it tells.
fn life(inputs: u64, seed: u8) -> (Vec<Sent>, Vec<String>) {
    let mut rng = ChaCha8Rng::seed_from_u64(inputs);
    let mut bench = Bench::seeded([seed; 32]);
    let (mut log, mut told) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        let mut sent = stimulus(&mut bench, &mut rng);
        // Most questions are answered.
        while let Some(sent) = sent.pop() {
            log.push(sent.clone());
            if sent.request().is_some() && rng.random_bool(0.8) {
                bench.now += Duration::from_micros(rng.random_range(0..50_000));
                log.extend(bench.receive(sent.to, &reply(&sent)));
            }
        }
        told.extend(bench.take_events().iter().map(|event| format!("{event:?}")));
    }
    (log, told)
}

fn stimulus(bench: &mut Bench, rng: &mut ChaCha8Rng) -> Vec<Sent> {
    let from = contact(rng.random_range(9_000..9_200));
    let key = Id::of_name(rng.random_range(0..20).to_string());
    let value = Item::parse(b"5:value").unwrap();
    match rng.random_range(0..9) {
        0 => bench.ask(from, &Request::Ping),
        1 => bench.ask(from, &Request::FindNode { target: key }),
        2 => bench.ask(from, &Request::FindValue(FindValue::new(key, 6))),
        3 => {
            let store = StoreRequest { key, value, mode: StoreMode::Add, copy: None, token: None };
            bench.ask(from, &Request::Store(store))
        }
        4 => {
            bench.node.start_lookup(bench.now, Goal::Node { target: key });
            bench.drain()
        }
        5 => {
            let value = Value::bytes("own");
            bench.node.start_store(bench.now, key, value, StoreMode::Replace).unwrap();
            bench.drain()
        }
        6 => bench.see(from),
        _ => bench.wait(Duration::from_micros(rng.random_range(0..100_000_000))),
    }
}

fn reply(sent: &Sent) -> Vec<u8> {
    let id = contact(sent.to.port()).id;
    let contacts: Vec<_> =
        (0..20).map(|i| contact(9_000 + (sent.to.port() + 7 * i) % 200)).collect();
    match sent.request().unwrap().kind() {
        Rpc::FindNode | Rpc::FindValue => sent.answer_nodes(id, &contacts),
        Rpc::Store => sent.answer(id, &Response::Stored),
        _ => sent.answer(id, &Response::Pong),
    }
}

#[test]
fn a_life_is_a_function_of_its_seed_and_inputs() {
    let (sent, told) = life(1, 1);
    assert!(sent.len() > 5_000, "only {} datagrams", sent.len());
    let (again, told_again) = life(1, 1);
    assert!(sent == again, "the datagrams differ");
    assert!(told == told_again, "the events differ");
}

#[test]
fn another_seed_is_another_life() {
    let (one, other) = (life(1, 1).0, life(1, 2).0);
    let questions = |log: &[Sent]| {
        let rpc_ids = log.iter().filter(|sent| sent.request().is_some());
        rpc_ids.map(|sent| sent.frame().transaction).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(questions(&one).is_disjoint(&questions(&other)));
}
