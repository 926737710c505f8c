//! Poisoned tables and lying answers: contacts that should not be named are cut, one subnet gets
//! few places, and lookups on disjoint paths find the values although a fifth of the network lies.

mod peer;
mod sim_helpers;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::kad::lookup::{End, Goal, LookupRecord};
use kademlua::message::{Contact, Request, Response};
use kademlua::node::{CallError, Event};
use kademlua::sim::{Lie, NetworkSettings, NodeIndex};
use kademlua::time::Duration;

use peer::Bench;
use sim_helpers::{Stage, add, find_node, find_value};

const TARGET: Id = Id::new([0x55; 20]);

/// A contact that shares `bits` leading bits with the target.
fn near(bits: u32, address: &str) -> Contact {
    let mut id = *TARGET.as_bytes();
    id[(bits / 8) as usize] ^= 0x80 >> (bits % 8);
    Contact { id: Id::new(id), address: address.parse().unwrap() }
}

/// Looks up the target; one contact names others, and these name nobody. Returns the record.
fn look_up(bench: &mut Bench, liar: Contact, named: &[Contact]) -> LookupRecord {
    bench.node.start_lookup(bench.now, Goal::Node { target: TARGET });
    let mut sent = bench.drain();
    while let Some(query) = sent.pop() {
        let Some(from) = named.iter().chain([&liar]).find(|c| c.address == query.to) else {
            continue;
        };
        let names = if *from == liar { named } else { &[] };
        let answer = query.answer_nodes(from.id, names);
        sent.extend(bench.receive(query.to, &answer));
    }
    bench.wait(Duration::from_secs(10));
    let records = bench.take_events().into_iter().filter_map(|event| match event {
        Event::LookupDone(record) => Some(record),
        _ => None,
    });
    records.last().expect("a lookup ends")
}

fn asked(record: &LookupRecord) -> BTreeSet<SocketAddr> {
    record.queries.iter().map(|query| query.contact.address).collect()
}

#[test]
fn a_reply_that_names_what_cannot_be_or_this_node_is_cut() {
    let liar = near(0, "198.51.100.1:8001");
    let own: SocketAddr = "203.0.113.9:8001".parse().unwrap();
    let mut bench = Bench::knowing([liar]);
    bench.node.add_own_address(own);
    let honest = near(9, "192.0.2.1:8001");
    let named = [
        Contact { id: bench.node.id(), ..near(1, "192.0.2.2:8001") },
        Contact { address: own, ..near(2, "192.0.2.2:8001") },
        near(3, "127.0.0.1:8001"),
        near(4, "[::1]:8001"),
        near(5, "192.0.2.3:0"),
        near(6, "224.0.0.1:8001"),
        near(7, "0.0.0.0:8001"),
        near(8, "[::]:8001"),
        near(10, "255.255.255.255:8001"),
        honest,
    ];
    let record = look_up(&mut bench, liar, &named);
    assert_eq!(asked(&record), BTreeSet::from([liar.address, honest.address]));
}

#[test]
fn on_loopback_loopback_may_be_named() {
    let neighbour = near(0, "127.0.0.1:9001");
    let named: Vec<Contact> =
        (1..20).map(|bits| near(bits, &format!("127.0.0.1:{}", 9_001 + bits))).collect();
    let record = look_up(&mut Bench::knowing([neighbour]), neighbour, &named);
    assert_eq!(record.closest.len(), 20);
}

#[test]
fn few_of_one_subnet_are_among_the_nearest() {
    for subnet in ["203.0.113.", "10.0.0."] {
        let liar = near(0, "198.51.100.1:8001");
        let named: Vec<Contact> =
            (1..20).map(|bits| near(bits, &format!("{subnet}{bits}:8001"))).collect();
        let record = look_up(&mut Bench::knowing([liar]), liar, &named);
        assert_eq!((record.closest.len(), asked(&record).len()), (4, 4), "{subnet}");
    }
    // A node that lives there too hears of its neighbours from them.
    let neighbour = near(0, "10.0.0.99:8001");
    let named: Vec<Contact> =
        (1..20).map(|bits| near(bits, &format!("10.0.0.{bits}:8001"))).collect();
    let record = look_up(&mut Bench::knowing([neighbour]), neighbour, &named);
    assert_eq!(record.closest.len(), 20);
}

#[test]
fn a_node_never_asks_itself() {
    let mut bench = Bench::new();
    let own: SocketAddr = "203.0.113.9:8001".parse().unwrap();
    bench.node.add_own_address(own);
    bench.node.start_ping(bench.now, own.into());
    assert!(bench.drain().is_empty());
    let refused =
        |event: &Event| matches!(event, Event::CallDone { outcome: Err(CallError::Own), .. });
    assert!(bench.take_events().iter().any(refused));
    // A peer under its own id is itself, and is not asked again.
    let other: SocketAddr = "203.0.113.10:8001".parse().unwrap();
    bench.node.start_bootstrap(bench.now, &[own, other]);
    let sent = bench.drain();
    assert_eq!(sent.iter().map(|sent| sent.to).collect::<Vec<_>>(), [other]);
    let reply = sent[0].answer_nodes(bench.node.id(), &[]);
    let twin = |event: &Event| matches!(event, Event::Twin(address) if *address == other);
    bench.receive(other, &sent[0].bytes);
    bench.receive(other, &reply);
    assert!(!bench.take_events().iter().any(twin));
    bench.node.start_ping(bench.now, other.into());
    assert!(bench.drain().is_empty());
}

#[test]
fn who_answers_under_the_own_id_without_being_this_node_is_a_twin() {
    let mut bench = Bench::new();
    let other: SocketAddr = "203.0.113.10:8001".parse().unwrap();
    for round in 0..3 {
        bench.node.start_ping(bench.now, other.into());
        let sent = bench.drain();
        bench.receive(other, &sent[0].answer(bench.node.id(), &Response::Pong));
        let events = bench.take_events();
        let told = events.iter().filter(|event| matches!(event, Event::Twin(at) if *at == other));
        assert_eq!(told.count(), usize::from(round == 0), "told of once");
        let failed =
            |event: &Event| matches!(event, Event::CallDone { outcome: Err(CallError::Twin), .. });
        assert!(events.iter().any(failed));
    }
}

/// Answers the node's pings and getsockets for a time. Returns how many pings there were.
fn answered(
    bench: &mut Bench,
    span: Duration,
    id_at: impl Fn(SocketAddr) -> Id,
    mut seen_at: impl FnMut() -> SocketAddr,
) -> usize {
    let (until, mut pings) = (bench.now + span, 0);
    let mut queue = bench.drain();
    while bench.now < until || !queue.is_empty() {
        if queue.is_empty() {
            queue = bench.wait(Duration::from_millis(50));
        }
        for sent in std::mem::take(&mut queue) {
            let id = id_at(sent.to);
            let answer = match sent.request() {
                Some(Request::Ping) => {
                    pings += 1;
                    sent.answer(id, &Response::Pong)
                }
                Some(Request::GetSocket) => {
                    let address = seen_at();
                    sent.answer(id, &Response::Socket(address))
                }
                Some(Request::FindNode { .. }) => sent.answer_nodes(id, &[]),
                _ => continue,
            };
            queue.extend(bench.receive(sent.to, &answer));
        }
    }
    pings
}

#[test]
fn neighbours_that_lie_about_the_own_address_make_little_noise() {
    let contacts: Vec<Contact> =
        (1..=20).map(|bits| near(bits, &format!("10.0.0.{bits}:8001"))).collect();
    let id_at = |address| contacts.iter().find(|c| c.address == address).unwrap().id;
    let mut counts = [false, true].map(|lies| {
        let mut bench = Bench::knowing(contacts.clone());
        bench.node.keep_vigil(bench.now, false);
        let mut port = 8_001;
        let seen_at = || {
            port += u16::from(lies);
            ([192, 0, 2, 1], port).into()
        };
        answered(&mut bench, Duration::from_secs(3_600), id_at, seen_at)
    });
    counts.sort_unstable();
    // 20 pings an hour and contact, as nobody asks here; and three each in a minute and a half.
    assert!(counts[0] <= 20 * 21 && counts[1] <= 20 * (21 + 3 * 41), "{counts:?}");
}

#[test]
fn a_bootstrap_node_that_changes_its_id_is_joined_through_a_few_times_a_minute() {
    let mut bench = Bench::new();
    let address: SocketAddr = "10.0.0.1:8001".parse().unwrap();
    bench.node.join_through(bench.now, &[address]);
    let ids = std::cell::Cell::new(0);
    let id_at = |_| {
        ids.set(ids.get() + 1);
        Id::of_name(ids.get().to_string())
    };
    answered(&mut bench, Duration::from_secs(600), id_at, || address);
    let joins = bench.take_events();
    let joins = joins.iter().filter(|event| matches!(event, Event::Bootstrapped { .. })).count();
    assert!((2..=60).contains(&joins), "{joins} in ten minutes");
}

fn network(seed: u64, paths: usize, nodes: usize) -> Stage {
    let config = Config { paths, ..Config::default() };
    Stage::settled(NetworkSettings { seed, config, ..NetworkSettings::default() }, nodes)
}

#[test]
fn paths_are_disjoint_and_find_the_nearest_together() {
    for paths in [1, 2, 4, 8, 20] {
        let mut network = network(3, paths, 300);
        for number in 0..10 {
            let target = Id::of_name(format!("target {number}"));
            let record = find_node(&mut network, NodeIndex(number), target);
            assert_eq!(asked(&record).len(), record.queries.len(), "nobody is asked twice");
            assert!(record.queries.iter().all(|query| (1..=paths as u32).contains(&query.path)));
            // Each hears only of contacts that were named on its own path.
            for query in &record.queries {
                let by = query.introduced_by.map(|by| {
                    let asked = record.queries.iter().find(|other| other.contact == by);
                    asked.expect("who introduced it was asked").path
                });
                assert!(by.is_none_or(|path| path == query.path));
            }
            let nearest = network.nearest(NodeIndex(number), &target, 20);
            assert_eq!(record.closest, nearest, "{paths} paths");
            assert_eq!(record.end, End::Converged);
        }
    }
}

#[test]
fn eight_paths_find_99_of_100_values_where_a_fifth_lies() {
    const SEARCHES: usize = 100;
    for seed in 1..=3 {
        let mut network = network(seed, 8, 1_000);
        let liars = network.random_share(0.2);
        for (&liar, lie) in liars.iter().zip(Lie::ALL.into_iter().cycle()) {
            network.set_lie(liar, Some(lie));
        }
        let honest: Vec<NodeIndex> =
            network.alive().filter(|&index| network.lie_of(index).is_none()).collect();
        let mut found = 0;
        for number in 0..SEARCHES {
            let (key, value) =
                (Id::of_name(format!("key {number}")), Value::integer(number as i64));
            add(&mut network, honest[number], key, value.clone());
            let record = find_value(&mut network, honest[honest.len() - 1 - number], key);
            found += usize::from(record.values.iter().any(|found| found.value == value));
        }
        assert!(found * 100 >= SEARCHES * 99, "{found} of {SEARCHES} with seed {seed}");
    }
}

#[test]
fn what_a_single_liar_returns_is_not_passed_on() {
    let mut network = network(5, 1, 60);
    let key = Id::of_name("key");
    let mut nearest: Vec<NodeIndex> = network.alive().collect();
    nearest.sort_by_key(|&index| key.distance(&network.node(index).unwrap().id()));
    let liar = nearest[0];
    network.set_lie(liar, Some(Lie::Garbage));
    for &from in &nearest[20..32] {
        let record = find_value(&mut network, from, key);
        assert!(
            record.values.iter().any(|found| found.value == Value::bytes("garbage")),
            "{from:?}"
        );
        network.run_for(Duration::from_secs(2));
    }
    let holds = |&index: &NodeIndex| network.node(index).unwrap().store().values(&key).is_some();
    assert_eq!(network.alive().filter(holds).collect::<Vec<_>>(), []);
}
