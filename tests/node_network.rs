//! Nodes in virtual networks: they join, find each other, and store and find values.

mod sim_helpers;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::kad::lookup::End;
use kademlua::sim::{Addresses, NetworkSettings, NodeIndex};
use kademlua::time::Duration;

use sim_helpers::{Stage, add, find_node, find_value};

#[test]
fn two_nodes_know_each_other_after_a_join() {
    let mut network = Stage::joined(NetworkSettings::default(), 2);
    for (node, other) in [(0, 1), (1, 0)] {
        let other = network.contact(NodeIndex(other)).unwrap();
        let contacts = network.node(NodeIndex(node)).unwrap().table();
        let known: Vec<_> = contacts.entries().map(|entry| entry.contact).collect();
        assert_eq!(known, [other]);
    }
}

#[test]
fn a_lone_node_keeps_and_finds_its_own_value() {
    let mut network = Stage::joined(NetworkSettings::default(), 1);
    let (key, value) = (Id::of_name("key"), Value::bytes("value"));
    let report = add(&mut network, NodeIndex(0), key, value.clone());
    assert!(report.kept_here && report.stored.is_empty());
    let record = find_value(&mut network, NodeIndex(0), key);
    assert_eq!(record.values.iter().map(|found| &found.value).collect::<Vec<_>>(), [&value]);
}

#[test]
fn lookups_find_the_k_nearest_of_all() {
    for seed in 0..3 {
        let mut network =
            Stage::joined(NetworkSettings { seed, ..NetworkSettings::default() }, 200);
        for name in 0..20 {
            let target = Id::of_name(format!("target {name}"));
            let from = network.random_alive().unwrap();
            let record = find_node(&mut network, from, target);
            let mut all: Vec<_> = network
                .alive()
                .filter(|&index| index != from)
                .map(|index| network.contact(index).unwrap())
                .collect();
            all.sort_by_key(|contact| target.distance(&contact.id));
            assert_eq!(record.end, End::Converged);
            assert_eq!(record.closest, all[..20], "seed {seed}, target {name}");
        }
    }
}

#[test]
fn values_are_found_from_every_node() {
    for (_, addresses) in Addresses::NAMES {
        let mut network =
            Stage::joined(NetworkSettings { addresses, ..NetworkSettings::default() }, 100);
        let (key, value) = (Id::of_name("key"), Value::bytes("value"));
        let report = add(&mut network, NodeIndex(7), key, value.clone());
        assert_eq!(report.stored.len(), 20);
        for index in network.alive().collect::<Vec<_>>() {
            let record = find_value(&mut network, index, key);
            assert!(
                record.values.iter().any(|found| found.value == value),
                "{addresses:?}, node {index:?}"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let run = |seed| {
        let mut network =
            Stage::joined(NetworkSettings { seed, loss: 0.1, ..NetworkSettings::default() }, 50);
        network.run_for(Duration::from_secs(600));
        let record = find_node(&mut network, NodeIndex(3), Id::of_name("key"));
        (network.datagrams(), record)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}
