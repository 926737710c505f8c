//! Values in virtual networks: stored, replaced, kept alive, handed over, cached, forgotten.

mod sim_helpers;

use std::collections::BTreeSet;

use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::kad::lookup::LookupRecord;
use kademlua::message::{Contact, StoreMode};
use kademlua::node::StoreReport;
use kademlua::sim::{Network, NetworkSettings, NodeIndex};
use kademlua::time::Duration;

use sim_helpers::{Stage, add, find_value, nearest, put};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn network(seed: u64, nodes: usize) -> Stage {
    // Seen only if the test fails: what replays it.
    println!("seed {seed}, {nodes} nodes");
    Stage::joined(NetworkSettings { seed, ..NetworkSettings::default() }, nodes)
}

fn key() -> Id {
    Id::of_name("key")
}

fn found(record: &LookupRecord) -> BTreeSet<&[u8]> {
    record.values.iter().map(|found| found.value.as_bytes()).collect()
}

/// The nodes that keep something under a key.
fn holders(network: &Network, key: Id) -> Vec<NodeIndex> {
    let keeps = |index: &NodeIndex| {
        network.touched(*index).is_some_and(|node| node.store().values(&key).is_some())
    };
    network.alive().filter(keeps).collect()
}

fn index_of(network: &Network, contact: Contact) -> NodeIndex {
    network.alive().find(|&index| network.contact(index) == Some(contact)).expect("a node")
}

#[test]
fn a_value_lies_at_the_nearest_nodes() {
    let mut network = network(1, 60);
    let report = add(&mut network, NodeIndex(5), key(), Value::bytes("value"));
    let mut expected: BTreeSet<_> = nearest(&network, NodeIndex(5), key()).into_iter().collect();
    assert_eq!(report.stored.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert!(report.refused.is_empty() && report.silent.is_empty());
    if report.kept_here {
        expected.insert(network.contact(NodeIndex(5)).unwrap());
    }
    let kept = holders(&network, key());
    assert_eq!(
        kept.iter().map(|&i| network.contact(i).unwrap()).collect::<BTreeSet<_>>(),
        expected
    );
}

#[test]
fn an_owner_replaces_its_own_value_and_nobody_elses() {
    let mut network = network(2, 40);
    let (first, other) = (NodeIndex(3), NodeIndex(4));
    add(&mut network, first, key(), Value::bytes("old"));
    add(&mut network, other, key(), Value::bytes("other"));
    put(&mut network, first, key(), Value::bytes("new"), StoreMode::Replace);
    let record = find_value(&mut network, NodeIndex(20), key());
    assert_eq!(found(&record), [&b"3:new"[..], b"5:other"].into());
}

#[test]
fn equal_values_of_many_owners_are_found_once_at_each_node() {
    let mut network = network(3, 40);
    for owner in 0..5 {
        add(&mut network, NodeIndex(owner), key(), Value::bytes("same"));
    }
    let record = find_value(&mut network, NodeIndex(20), key());
    let at: BTreeSet<_> = record.values.iter().map(|found| found.holder).collect();
    assert!(!at.is_empty());
    assert_eq!(at.len(), record.values.len());
}

#[test]
fn values_are_gone_a_day_after_they_were_stored() {
    let mut network = network(4, 40);
    add(&mut network, NodeIndex(3), key(), Value::bytes("value"));
    network.run_for(HOUR.times(24).minus(MINUTE));
    assert!(holders(&network, key()).len() >= 20);
    // They were passed on every hour, and live not a minute longer because of that.
    network.run_for(MINUTE.times(2));
    assert_eq!(holders(&network, key()), []);
    let record = find_value(&mut network, NodeIndex(20), key());
    assert!(record.values.is_empty());
}

#[test]
fn a_value_that_is_stored_again_lives_another_day() {
    let mut network = network(5, 40);
    for _ in 0..2 {
        add(&mut network, NodeIndex(3), key(), Value::bytes("value"));
        network.run_for(HOUR.times(20));
    }
    let record = find_value(&mut network, NodeIndex(20), key());
    assert_eq!(found(&record), [&b"5:value"[..]].into());
    network.run_for(HOUR.times(5));
    assert_eq!(holders(&network, key()), []);
}

#[test]
fn a_value_outlives_all_its_first_holders() {
    let mut network = network(6, 60);
    // The owner dies first; a busy key is no exception.
    let report = add(&mut network, NodeIndex(3), key(), Value::bytes("value"));
    network.kill(NodeIndex(3));
    let mut first: Vec<NodeIndex> =
        report.stored.iter().map(|&contact| index_of(&network, contact)).collect();
    let mut number = 0;
    while !first.is_empty() {
        for dying in first.split_off(first.len().saturating_sub(2)) {
            network.kill(dying);
            network.join();
        }
        network.run_for(HOUR.divided_by(2));
        let writer = network.random_alive().unwrap();
        number += 1;
        add(&mut network, writer, key(), Value::integer(number));
        network.run_for(HOUR.divided_by(2));
    }
    let from = network.random_alive().unwrap();
    let record = find_everything(&mut network, from);
    assert!(found(&record).contains(&b"5:value"[..]), "{:?}", found(&record));
}

fn find_everything(network: &mut Network, from: NodeIndex) -> LookupRecord {
    sim_helpers::find_values(network, from, key(), 10, 100)
}

#[test]
fn values_are_handed_over_to_nearer_nodes_that_join() {
    let mut network = network(7, 40);
    add(&mut network, NodeIndex(3), key(), Value::bytes("value"));
    let mut nearer = 0;
    for _ in 0..10 {
        let newcomer = network.join();
        network.run_for(SECOND.times(20));
        let contact = network.contact(newcomer).unwrap();
        if nearest(&network, NodeIndex(3), key()).contains(&contact) {
            nearer += 1;
            assert!(holders(&network, key()).contains(&newcomer), "{newcomer:?}");
        }
    }
    assert!(nearer >= 3, "only {nearer} of 10 came near enough");
}

#[test]
fn a_found_value_is_cached_at_the_nearest_node_that_lacked_it() {
    let mut network = network(8, 300);
    let value = Value::bytes("value");
    let report = add(&mut network, NodeIndex(3), key(), value.clone());
    let before: BTreeSet<_> = holders(&network, key()).into_iter().collect();
    assert_eq!(report.stored.len(), 20);
    let mut cached = BTreeSet::new();
    for from in (0..300).step_by(2).map(NodeIndex) {
        let record = find_value(&mut network, from, key());
        network.run_for(SECOND);
        let after: BTreeSet<_> = holders(&network, key()).into_iter().collect();
        let new: Vec<_> = after.difference(&before).filter(|i| !cached.contains(*i)).collect();
        assert!(new.len() <= 1, "one node for each lookup");
        if let Some(&&at) = new.first() {
            assert!(record.queries.iter().any(|query| Some(query.contact) == network.contact(at)));
            cached.insert(at);
        }
    }
    assert!(!cached.is_empty(), "no lookup met a node without the value");
    // Shortened: gone within the hour, before they would be passed on, while the others stay. For a
    // holder that republishes, which does not count itself, the 21st is one of the 20 nearest.
    network.run_for(HOUR);
    let after: BTreeSet<_> = holders(&network, key()).into_iter().collect();
    let holder = network.alive().min_by_key(|&i| key().distance(&network.contact(i).unwrap().id));
    let also_near = nearest(&network, holder.unwrap(), key());
    cached.retain(|&index| !also_near.contains(&network.contact(index).unwrap()));
    assert!(!cached.is_empty(), "all were cached among the nearest");
    assert!(cached.is_disjoint(&after), "{cached:?}");
    assert!(before.is_subset(&after));
}

#[test]
fn a_refused_store_is_reported_with_its_reason() {
    let config = Config { max_values_per_key: 1, ..Config::default() };
    let settings = NetworkSettings { seed: 9, config, ..NetworkSettings::default() };
    let mut network = Stage::joined(settings, 40);
    add(&mut network, NodeIndex(3), key(), Value::bytes("first"));
    let report: StoreReport = add(&mut network, NodeIndex(4), key(), Value::bytes("second"));
    let full = report.refused.iter().filter(|(_, why)| why == "the key holds 1 values already");
    assert_eq!(full.count() + report.stored.len(), 20);
    assert!(report.refused.len() >= 19, "{report:?}");
}

#[test]
fn silent_nodes_are_reported_to_the_storer() {
    let mut network = network(10, 30);
    let report = add(&mut network, NodeIndex(3), key(), Value::bytes("value"));
    assert!(report.silent.is_empty());
    // Answers are lost from here on: lookups find nobody, so nobody is asked to store either.
    network.set_loss(1.0);
    let report = add(&mut network, NodeIndex(3), key(), Value::bytes("value"));
    assert!(report.stored.is_empty() && report.kept_here);
    assert!(report.duration() <= SECOND.times(60), "{:?}", report.duration());
}

/// Stores 200 values from one node, kills some nodes at once, and counts what others still find.
fn survivors(seed: u64, killed: usize) -> usize {
    let mut network = network(seed, 100);
    let names: Vec<Id> = (0..200).map(|i| Id::of_name(format!("key {i}"))).collect();
    for &name in &names {
        let report = add(&mut network, NodeIndex(0), name, Value::bytes(name.as_bytes()));
        assert!(report.stored.len() >= 19, "{report:?}");
    }
    for _ in 0..killed {
        let victim = loop {
            let victim = network.random_alive().unwrap();
            if victim != NodeIndex(0) && victim != NodeIndex(1) {
                break victim;
            }
        };
        network.kill(victim);
    }
    let finds = |&&name: &&Id| {
        let record = find_value(&mut network, NodeIndex(1), name);
        record.values.iter().any(|found| found.value == Value::bytes(name.as_bytes()))
    };
    names.iter().filter(finds).count()
}

#[test]
fn every_value_survives_when_30_of_100_nodes_die_at_once() {
    assert_eq!(survivors(11, 30), 200);
}

#[test]
fn every_value_survives_when_half_of_the_nodes_die_at_once() {
    assert_eq!(survivors(12, 50), 200);
}
