//! Values go to a nearer node that joins: all of them, in small bursts.

mod peer;

use std::collections::BTreeSet;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{Contact, CopyOf, Request, Response, Rpc, StoreMode, StoreRequest};
use kademlua::time::Duration;

use peer::{Bench, Sent, contact};

const VALUES: u16 = 300;

fn key() -> Id {
    Id::of_name("key")
}

/// A node that holds a value of each of many owners under one key, and knows nobody.
fn holder() -> Bench {
    let mut bench = Bench::new();
    for number in 0..VALUES {
        let value = Value::integer(number.into());
        let store = StoreRequest {
            key: key(),
            value: value.item(),
            mode: StoreMode::Add,
            copy: None,
            token: None,
        };
        bench.ask(contact(10_000 + number), &Request::Store(store));
        bench.wait(Duration::from_secs(2));
    }
    assert_eq!(bench.node.store().value_count(), usize::from(VALUES));
    assert!(bench.node.table().is_empty());
    bench
}

/// The newcomer asks something and answers the ping that follows. Returns all that the node sends
/// because of it.
fn join(bench: &mut Bench, newcomer: Contact) -> Vec<Sent> {
    let sent = bench.ask(newcomer, &Request::Ping);
    let ping = sent.iter().find(|sent| sent.asks(Rpc::Ping)).expect("strangers are pinged");
    let mut sent = bench.receive(newcomer.address, &ping.answer(newcomer.id, &Response::Pong));
    sent.extend(bench.wait(Duration::from_millis(1)));
    sent
}

fn stores(sent: Vec<Sent>, to: Contact) -> Vec<Sent> {
    sent.into_iter().filter(|sent| sent.asks(Rpc::Store) && sent.to == to.address).collect()
}

fn value_in(sent: &Sent) -> Vec<u8> {
    match sent.request() {
        Some(Request::Store(store)) => {
            assert!(
                store.copy.is_some_and(|copy| copy.publisher.is_some()),
                "the publisher is named"
            );
            store.value.as_bytes().to_vec()
        }
        other => panic!("{other:?} is no store"),
    }
}

#[test]
fn all_values_of_a_key_are_handed_over_in_small_bursts() {
    let (mut bench, newcomer) = (holder(), contact(9_001));
    let began = bench.now;
    let mut open = stores(join(&mut bench, newcomer), newcomer);
    let mut passed = BTreeSet::new();
    while passed.len() < usize::from(VALUES) {
        assert!(bench.now.since(began) < Duration::from_secs(10), "{} passed", passed.len());
        assert!(open.len() <= 72, "{} at once", open.len());
        let mut next = Vec::new();
        for sent in open {
            passed.insert(value_in(&sent));
            let stored = sent.answer(newcomer.id, &Response::Stored);
            next.extend(bench.receive(newcomer.address, &stored));
        }
        next.extend(bench.wait(Duration::from_millis(1)));
        open = stores(next, newcomer);
    }
    // However quick the newcomer is: it would not take more than 20,000 a second from one source.
    let least = Duration::from_micros(200).times(u64::from(VALUES - 72));
    assert!(bench.now.since(began) >= least, "{:?}", bench.now.since(began));
}

#[test]
fn a_newcomer_that_answers_nothing_more_gets_them_slowly() {
    let (mut bench, newcomer) = (holder(), contact(9_001));
    let first = stores(join(&mut bench, newcomer), newcomer);
    assert!((1..=72).contains(&first.len()), "{} at once", first.len());
    let later = stores(bench.wait(Duration::from_secs(60)), newcomer);
    let values: Vec<_> = first.iter().chain(&later).map(value_in).collect();
    assert_eq!(values.len(), 2 * usize::from(VALUES), "each is sent once more, and not again");
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), usize::from(VALUES));
}

/// A contact somewhere in the internet.
fn elsewhere(a: u8, number: u16, name: &str) -> Contact {
    let [high, low] = number.to_be_bytes();
    Contact { id: Id::of_name(name), address: ([a, high, low, 1], 8_001).into() }
}

/// Stores a value, or passes one on, as if somebody had published it just now.
fn store_at(bench: &mut Bench, from: Contact, publisher: Option<Contact>, key: Id, number: u16) {
    let value = Value::integer(number.into());
    let (value, mode) = (value.item(), StoreMode::Add);
    let copy = publisher.map(|_| CopyOf { publisher, age: Duration::ZERO });
    bench.ask(from, &Request::Store(StoreRequest { key, value, mode, copy, token: None }));
}

/// Contacts that answer pings and no stores.
fn silent() -> Vec<Contact> {
    (0..10).map(|number| elsewhere(80, number, &format!("silent {number}"))).collect()
}

/// Keys to which the node is nearer than the silent contacts, so that it is the node that must tell a
/// newcomer of them.
fn own_keys() -> Vec<Id> {
    let own = Id::of_name("8001");
    let keys = (0..).map(|number| Id::of_name(format!("key {number}")));
    let is_nearest =
        |key: &Id| silent().iter().all(|silent| key.distance(&own) < key.distance(&silent.id));
    keys.filter(is_nearest).take(50).collect()
}

/// In whose names spammers store.
#[derive(Clone, Copy)]
enum Names {
    Own,
    /// They say that they pass on what others have published, each value of another.
    Others,
}

/// The time until a newcomer has fifty values of fifty publishers, at a node that knows `silent` contacts
/// and where each of `spammers` has stored 3,500 values before.
fn fifty_reach_a_newcomer(spammers: u16, names: Names, silent: &[Contact]) -> Duration {
    let mut bench = Bench::without_limits();
    for spammer in 0..spammers {
        for number in 0..3_500 {
            let key = Id::of_name(format!("junk {number} of {spammer}"));
            let publisher = match names {
                Names::Own => None,
                Names::Others => Some(elsewhere(100 + spammer as u8, number, "publisher")),
            };
            store_at(&mut bench, contact(30_000 + spammer), publisher, key, number);
        }
    }
    let keys = own_keys();
    for (number, &key) in (0..).zip(&keys) {
        store_at(&mut bench, contact(40_000 + number), None, key, number);
    }
    let stored = 3_500 * usize::from(spammers) + keys.len();
    assert_eq!(bench.node.store().value_count(), stored, "the store has room for all");
    for &contact in silent {
        join(&mut bench, contact);
    }
    // Time to look at all keys for each of them.
    bench.wait(Duration::from_secs(3));
    let newcomer = elsewhere(90, 0, "newcomer");
    let (began, mut passed) = (bench.now, BTreeSet::<Id>::new());
    let mut open = join(&mut bench, newcomer);
    while passed.len() < keys.len() {
        assert!(bench.now.since(began) < Duration::from_secs(30), "{} passed", passed.len());
        let mut next = Vec::new();
        for sent in open {
            match sent.request() {
                Some(Request::Ping) => {
                    if let Some(asked) = silent.iter().find(|silent| silent.address == sent.to) {
                        let pong = sent.answer(asked.id, &Response::Pong);
                        next.extend(bench.receive(sent.to, &pong));
                    }
                }
                Some(Request::Store(store)) if sent.to == newcomer.address => {
                    passed.extend(keys.iter().filter(|key| **key == store.key));
                    let stored = sent.answer(newcomer.id, &Response::Stored);
                    next.extend(bench.receive(newcomer.address, &stored));
                }
                _ => {}
            }
        }
        next.extend(bench.wait(Duration::from_millis(1)));
        open = next;
    }
    bench.now.since(began)
}

#[test]
fn neither_junk_nor_silent_contacts_keep_values_from_a_newcomer() {
    let alone = fifty_reach_a_newcomer(0, Names::Own, &[]);
    for names in [Names::Own, Names::Others] {
        let among = fifty_reach_a_newcomer(20, names, &silent());
        assert!(among <= alone.times(2), "{among:?} in place of {alone:?}");
    }
}

/// Ids by how near they are to a key.
fn by_distance(key: Id) -> Vec<Contact> {
    let mut contacts: Vec<Contact> = (9_100..9_200).map(contact).collect();
    contacts.sort_by_key(|contact| key.distance(&contact.id));
    contacts
}

#[test]
fn the_second_nearest_tells_a_newcomer_what_a_silent_nearest_does_not() {
    let key = Id::of_name("key");
    let [newcomer, nearest, ..] = by_distance(key)[..] else { panic!() };
    let mut bench = Bench::knowing([nearest]);
    assert!(key.distance(&nearest.id) < key.distance(&bench.node.id()));
    let value = Value::bytes("value");
    let store =
        StoreRequest { key, value: value.item(), mode: StoreMode::Add, copy: None, token: None };
    bench.ask(contact(10_000), &Request::Store(store));
    let mut sent = join(&mut bench, newcomer);
    sent.extend(bench.wait(Duration::from_secs(1)));
    assert_eq!(stores(sent, newcomer).len(), 0, "the nearest does it");
    assert!(!stores(bench.wait(Duration::from_secs(10)), newcomer).is_empty());
}
