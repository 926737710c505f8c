//! Promises about a network that fails: nodes that come and go, datagrams that are lost, networks that
//! fall apart. All of this is on virtual time; a failure names its seed, and the same seed fails
//! again.
//!
//! Two variables say how much of the first is tried, because it takes minutes:
//!
//! ```sh
//! KADEMLUA_CHURN_HOURS=24 KADEMLUA_CHURN_SEEDS=5 cargo test --test node_faults -- --nocapture
//! ```

mod sim_helpers;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::sim::{Network, NetworkSettings, NodeIndex};
use kademlua::time::Duration;

use sim_helpers::{Stage, add, find_value};

const NODES: usize = 1_000;
const VALUES: usize = 100;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn settled(seed: u64) -> Stage {
    Stage::settled(NetworkSettings { seed, ..NetworkSettings::default() }, NODES)
}

fn key(number: usize) -> Id {
    Id::of_name(format!("key {number}"))
}

fn value(number: usize) -> Value {
    Value::bytes(format!("value {number}"))
}

/// Stores a value at a random node.
fn publish(network: &mut Network, number: usize) {
    let from = network.random_alive().unwrap();
    let report = add(network, from, key(number), value(number));
    // With a fifth of all datagrams lost, a lookup misses a third of the nearest.
    assert!(report.stored.len() >= 5, "{report:?}");
}

fn finds(network: &mut Network, from: NodeIndex, number: usize) -> bool {
    let record = find_value(network, from, key(number));
    record.values.iter().any(|found| found.value == value(number))
}

/// The number in a variable, or the default.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Half of all nodes are replaced every hour, and no publisher publishes twice.
#[test]
fn values_outlive_the_nodes_that_keep_them() {
    const READERS: usize = 10;
    let hours = setting("KADEMLUA_CHURN_HOURS", 4);
    let seeds = 1..=setting("KADEMLUA_CHURN_SEEDS", 1);
    let seeds: Vec<u64> = seeds.collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for together in seeds.chunks(cores) {
        std::thread::scope(|scope| {
            for &seed in together {
                let name = std::thread::current().name().map(ToOwned::to_owned);
                let thread = std::thread::Builder::new().name(name.expect("that of the test"));
                let live = move || live_through(seed, hours, READERS);
                thread.spawn_scoped(scope, live).expect("a thread");
            }
        });
    }
}

/// All values must be found in the end, by each reader.
fn live_through(seed: u64, hours: u64, readers: usize) {
    /// Times an hour that some nodes go and as many come.
    const STEPS: u64 = 12;
    let mut settings = NetworkSettings { seed, ..NetworkSettings::default() };
    // They are not to end by their age.
    settings.config.expire = MINUTE.times(60 * (hours + 1));
    let mut network = Stage::settled(settings, NODES);
    (0..VALUES).for_each(|number| publish(&mut network, number));
    for _ in 0..hours * STEPS {
        let gone = network.random_share(0.5 / STEPS as f64);
        gone.iter().for_each(|&index| network.kill(index));
        for _ in &gone {
            network.join();
            network.run_for(SECOND);
        }
        let rest = MINUTE.times(60 / STEPS).minus(SECOND.times(gone.len() as u64));
        network.run_for(rest);
    }
    let mut missed = Vec::new();
    for number in 0..VALUES {
        for _ in 0..readers {
            let reader = network.random_alive().unwrap();
            if !finds(&mut network, reader, number) {
                missed.push(number);
            }
        }
    }
    let asked = VALUES * readers;
    println!("seed {seed}, {hours} h: {} of {asked} found", asked - missed.len());
    assert!(missed.is_empty(), "missed: {missed:?}");
}

/// A share of the datagrams, not of the lookups.
#[test]
fn with_a_fifth_of_all_datagrams_lost_values_are_found() {
    const SEED: u64 = 3;
    const LOOKUPS: usize = 2_000;
    let mut network = settled(SEED);
    network.set_loss(0.2);
    (0..VALUES).for_each(|number| publish(&mut network, number));
    // Contacts that only seem dead must not be forgotten for good.
    network.run_for(MINUTE.times(90));
    let missed = (0..LOOKUPS).filter(|number| {
        let reader = network.random_alive().unwrap();
        !finds(&mut network, reader, number % VALUES)
    });
    let missed = missed.count();
    println!("{missed} of {LOOKUPS} lookups failed");
    assert!(missed * 1_000 <= LOOKUPS, "{missed} of {LOOKUPS}");
}

#[test]
fn halves_that_were_apart_for_an_hour_find_each_other_again() {
    const SEED: u64 = 3;
    let mut network = settled(SEED);
    let left = network.random_share(0.5);
    left.iter().for_each(|&index| network.set_side(index, 1));
    let right: Vec<_> = network.alive().filter(|index| network.side(*index) == 0).collect();
    let sides = [left, right];
    for number in 0..VALUES {
        let from = sides[number % 2][number];
        let report = add(&mut network, from, key(number), value(number));
        // With a fifth of all datagrams lost, a lookup misses a third of the nearest.
        assert!(report.stored.len() >= 5, "{report:?}");
    }
    let missed_by = |network: &mut Network, side: &[NodeIndex]| {
        let misses = |&number: &usize| !finds(network, side[100 + number], number);
        (0..VALUES).filter(misses).count()
    };
    network.run_for(MINUTE.times(60));
    for side in &sides {
        assert_eq!(missed_by(&mut network, side), VALUES / 2, "what the other side stored");
    }
    network.heal();
    network.run_for(MINUTE.times(10));
    for side in &sides {
        assert_eq!(missed_by(&mut network, side), 0);
    }
}
