//! Routes in simulated networks: they find what lookups find, with fewer packets. Stale tables, lost datagrams
//! and dead nodes cost attempts, but no value.

mod sim_helpers;

use kademlua::bencode::Value;
use kademlua::control::{Command, Reply};
use kademlua::id::Id;
use kademlua::message::{RouteAnswer, RouteKind, StoreMode};
use kademlua::node::RouteReport;
use kademlua::sim::{Network, NetworkSettings, NodeIndex};
use kademlua::time::Duration;

use sim_helpers::Stage;

fn key(number: usize) -> Id {
    Id::of_name(format!("key {number}"))
}

fn value(number: usize) -> Value {
    Value::bytes(format!("value {number}"))
}

/// A network that holds `values` values.
fn network(settings: NetworkSettings, nodes: usize, values: usize) -> Stage {
    let mut network = Stage::settled(settings, nodes);
    for number in 0..values {
        let from = network.random_alive().unwrap();
        let (key, value, mode) = (key(number), value(number), StoreMode::Add);
        network.run(from, Command::Store { key, value, mode }).unwrap();
    }
    network
}

fn route(network: &mut Network, from: NodeIndex, key: Id, kind: RouteKind) -> RouteReport {
    let command = Command::Route { key, kind, trace: true };
    match network.run(from, command).unwrap() {
        Reply::Routed(report) => report,
        other => panic!("{other:?}"),
    }
}

/// From the node that asks to the one that answers.
fn path(network: &Network, report: &RouteReport) -> Vec<Id> {
    let marks = report.attempts.last().map(|last| last.hops.clone()).unwrap_or_default();
    let ids: Vec<Id> =
        network.alive().filter_map(|index| network.contact(index)).map(|c| c.id).collect();
    let whole = |mark: kademlua::message::RouteHop| {
        *ids.iter().find(|id| kademlua::id::IdPrefix::of(id) == mark.id).unwrap()
    };
    marks.into_iter().map(whole).collect()
}

#[test]
fn each_step_is_nearer_to_the_key_and_a_lookup_takes_twice_the_packets() {
    let mut network = network(NetworkSettings::default(), 500, 20);
    let (mut of_routes, mut of_lookups) = (0, 0);
    for number in 0..20 {
        let from = network.random_alive().unwrap();
        let report = route(&mut network, from, key(number), RouteKind::FindValue);
        assert_eq!(report.answer, RouteAnswer::Values(vec![value(number)]));
        assert_eq!(report.fallback, None);
        let path = path(&network, &report);
        let distances: Vec<_> = path.iter().map(|id| key(number).distance(id)).collect();
        assert!(distances.is_sorted_by(|a, b| a > b), "{distances:?}");
        of_routes += report.messages();
        let (key, max_nodes, max_entries) = (key(number), 1, 6);
        match network.run(from, Command::FindValue { key, max_nodes, max_entries }).unwrap() {
            Reply::Lookup(record) => of_lookups += record.messages(),
            other => panic!("{other:?}"),
        }
    }
    assert!(2 * of_routes < of_lookups, "{of_routes} packets, lookups {of_lookups}");
}

#[test]
fn a_locate_ends_at_the_nearest_node() {
    let mut network = network(NetworkSettings::default(), 300, 0);
    for number in 0..20 {
        let from = network.random_alive().unwrap();
        let report = route(&mut network, from, key(number), RouteKind::Locate);
        let everybody = network.alive().filter_map(|index| network.contact(index));
        let nearest = everybody.min_by_key(|contact| key(number).distance(&contact.id)).unwrap();
        assert_eq!(report.answer, RouteAnswer::Located(nearest));
    }
}

#[test]
fn dead_contacts_in_the_tables_cost_attempts_and_no_value() {
    let mut network = network(NetworkSettings::default(), 1_000, 50);
    for gone in network.random_share(0.1) {
        network.kill(gone);
    }
    let mut by_attempt = [0; 4];
    for number in 0..200 {
        let from = network.random_alive().unwrap();
        let key = key(number % 50);
        let report = route(&mut network, from, key, RouteKind::FindValue);
        assert_eq!(report.answer, RouteAnswer::Values(vec![value(number % 50)]), "{number}");
        let attempt = match report.fallback {
            Some(_) => 3,
            None => report.attempts.len().saturating_sub(1),
        };
        by_attempt[attempt] += 1;
    }
    // All but a few by the second attempt, and all in the end.
    assert!(by_attempt[0] + by_attempt[1] >= 196, "{by_attempt:?}");
}

#[test]
fn what_gets_lost_is_tried_again() {
    let settings = NetworkSettings { loss: 0.1, ..NetworkSettings::default() };
    let mut network = network(settings, 200, 10);
    for number in 0..60 {
        let from = network.random_alive().unwrap();
        let report = route(&mut network, from, key(number % 10), RouteKind::FindValue);
        assert!(report.has_found(), "{report:?}");
    }
}

#[test]
fn nothing_found_is_final_only_after_a_lookup() {
    let mut network = network(NetworkSettings::default(), 100, 0);
    let from = network.random_alive().unwrap();
    let report = route(&mut network, from, Id::of_name("nothing"), RouteKind::FindValue);
    assert_eq!(report.answer, RouteAnswer::Nothing);
    assert!(report.fallback.is_some());
}

#[test]
fn the_same_seed_routes_the_same_way() {
    let course = || {
        let mut network =
            network(NetworkSettings { loss: 0.05, ..NetworkSettings::default() }, 100, 3);
        let reports: Vec<_> = (0..30)
            .map(|number| {
                let from = NodeIndex(number * 3);
                route(&mut network, from, key(number % 3), RouteKind::FindValue)
            })
            .collect();
        (reports, network.datagrams(), network.bytes(), network.now())
    };
    assert_eq!(course(), course());
}

#[test]
fn a_dead_hop_is_found_out_within_seconds() {
    let mut network = network(NetworkSettings::default(), 200, 1);
    let from = NodeIndex(7);
    let first = route(&mut network, from, key(0), RouteKind::Locate).attempts[0].to;
    let dead = network.alive().find(|&index| network.contact(index) == Some(first)).unwrap();
    network.kill(dead);
    let report = route(&mut network, from, key(0), RouteKind::Locate);
    assert_eq!(report.attempts.iter().map(|a| a.is_answered).collect::<Vec<_>>(), [false, true]);
    network.run_for(Duration::from_secs(8));
    let report = route(&mut network, from, key(0), RouteKind::Locate);
    assert_eq!(report.attempts.len(), 1);
    assert_ne!(report.attempts[0].to, first);
}
