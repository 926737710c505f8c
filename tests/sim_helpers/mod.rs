//! Commands to nodes of a virtual network, and their replies.
#![allow(dead_code, reason = "no test needs all of it")]

use kademlua::bencode::Value;
use kademlua::control::{Command, Reply};
use kademlua::id::Id;
use kademlua::message::{Contact, StoreMode};
use kademlua::node::StoreReport;
use kademlua::node::lookup::{Goal, Record};
use kademlua::sim::{Network, NodeIndex};

pub(crate) fn find_node(network: &mut Network, from: NodeIndex, target: Id) -> Record {
    lookup(network, from, Goal::Node { target })
}

pub(crate) fn find_value(network: &mut Network, from: NodeIndex, key: Id) -> Record {
    find_values(network, from, key, 3, 6)
}

pub(crate) fn find_values(
    network: &mut Network,
    from: NodeIndex,
    key: Id,
    max_nodes: usize,
    max_entries: usize,
) -> Record {
    lookup(network, from, Goal::Value { key, max_nodes, max_entries })
}

fn lookup(network: &mut Network, from: NodeIndex, goal: Goal) -> Record {
    match network.run(from, Command::Lookup(goal)).expect("a lookup is always begun") {
        Reply::Lookup(record) => record,
        other => panic!("{other:?} is no reply to a lookup"),
    }
}

pub(crate) fn add(network: &mut Network, from: NodeIndex, key: Id, value: Value) -> StoreReport {
    put(network, from, key, value, StoreMode::Add)
}

pub(crate) fn put(
    network: &mut Network,
    from: NodeIndex,
    key: Id,
    value: Value,
    mode: StoreMode,
) -> StoreReport {
    match network.run(from, Command::Store { key, value, mode }).expect("a value of good size") {
        Reply::Stored(report) => report,
        other => panic!("{other:?} is no reply to a store"),
    }
}

/// The nodes that a lookup must find: the k nearest of those alive, without the one that asks.
pub(crate) fn nearest(network: &Network, from: NodeIndex, target: Id) -> Vec<Contact> {
    let others = network.alive().filter(|&index| index != from);
    let mut all: Vec<_> = others.map(|index| network.contact(index).expect("alive")).collect();
    all.sort_by_key(|contact| target.distance(&contact.id));
    all.truncate(20);
    all
}
