//! Values go to a nearer node that joins: all of them, in small bursts.

mod peer;

use std::collections::BTreeSet;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{Contact, Kind, Request, Store, StoreMode};
use kademlua::time::Duration;
use kademlua::wire::v1;

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
        let store = Store {
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

/// The newcomer asks something and answers the ping that follows. Returns what comes of it.
fn join(bench: &mut Bench, newcomer: Contact) -> Vec<Sent> {
    let sent = bench.ask(newcomer, &Request::Ping);
    let ping = sent.iter().find(|sent| sent.asks(Kind::Ping)).expect("strangers are pinged");
    let mut sent = bench.receive(newcomer.address, &ping.answer(newcomer.id, v1::put_pong));
    sent.extend(bench.wait(Duration::from_millis(1)));
    sent
}

fn stores(sent: Vec<Sent>, to: Contact) -> Vec<Sent> {
    sent.into_iter().filter(|sent| sent.asks(Kind::Store) && sent.to == to.address).collect()
}

fn value_in(sent: &Sent) -> Vec<u8> {
    match sent.request() {
        Some(Request::Store(store)) => {
            assert!(store.copy.is_some_and(|copy| copy.owner.is_some()), "the owner is named");
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
            let stored = sent.answer(newcomer.id, v1::put_stored);
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
