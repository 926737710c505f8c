//! Virtual networks of tests, commands to their nodes, and what these reply.
#![allow(dead_code, reason = "no test needs all of it")]

use std::ops::{Deref, DerefMut};

use kademlua::bencode::Value;
use kademlua::control::{Command, Reply};
use kademlua::id::Id;
use kademlua::kad::lookup::{Goal, LookupRecord};
use kademlua::message::{Contact, StoreMode};
use kademlua::node::StoreReport;
use kademlua::sim::{Network, NetworkSettings, NodeIndex};

/// A network on which a test is played. A test that fails says which network it was, and how to see
/// the same again: all that happens there follows from the seed.
pub(crate) struct Stage {
    network: Network,
    seed: u64,
}

impl Stage {
    /// See [`Network::settled`].
    pub(crate) fn settled(settings: NetworkSettings, nodes: usize) -> Stage {
        Stage { seed: settings.seed, network: Network::settled(settings, nodes) }
    }

    /// See [`Network::joined`].
    pub(crate) fn joined(settings: NetworkSettings, nodes: usize) -> Stage {
        Stage { seed: settings.seed, network: Network::joined(settings, nodes) }
    }
}

impl Deref for Stage {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.network
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with seed {}; the same again: {}", self.seed, command());
        }
    }
}

/// What runs the test of this thread again, with the variables that it was run with.
fn command() -> String {
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("KADEMLUA_"));
    let variables: String = ours.map(|(name, value)| format!("{name}={value} ")).collect();
    let program = std::env::current_exe().unwrap_or_default();
    let file = program.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let file = file.rsplit_once('-').map_or(file, |(file, _hash)| file);
    let thread = std::thread::current();
    format!("{variables}cargo test --test {file} {}", thread.name().unwrap_or_default())
}

pub(crate) fn find_node(network: &mut Network, from: NodeIndex, target: Id) -> LookupRecord {
    lookup(network, from, Goal::Node { target })
}

pub(crate) fn find_value(network: &mut Network, from: NodeIndex, key: Id) -> LookupRecord {
    find_values(network, from, key, 3, 6)
}

pub(crate) fn find_values(
    network: &mut Network,
    from: NodeIndex,
    key: Id,
    max_nodes: usize,
    max_entries: usize,
) -> LookupRecord {
    lookup(network, from, Goal::Value { key, max_nodes, max_entries })
}

fn lookup(network: &mut Network, from: NodeIndex, goal: Goal) -> LookupRecord {
    match network.run(from, goal.into()).expect("a lookup is always begun") {
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
