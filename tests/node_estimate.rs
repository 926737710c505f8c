//! The estimated network size lies within 25 % of the truth, in the median of 20 seeds.

use kademlua::sim::{Network, NetworkSettings};
use kademlua::time::Duration;

/// The estimates of nodes a minute after they joined a network, as shares of the truth, one for
/// each seed.
fn estimates(nodes: usize) -> Vec<f64> {
    let mut shares: Vec<f64> = (0..20)
        .map(|seed| {
            let mut network =
                Network::settled(NetworkSettings { seed, ..NetworkSettings::default() }, nodes - 1);
            let newcomer = network.join();
            network.run_for(Duration::from_secs(60));
            network.node(newcomer).unwrap().estimate().nodes / nodes as f64
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    shares
}

fn check(nodes: usize) {
    let shares = estimates(nodes);
    let median = (shares[9] + shares[10]) / 2.0;
    println!("{nodes} nodes: median {median:.3}, from {:.3} to {:.3}", shares[0], shares[19]);
    assert!((0.75..=1.25).contains(&median), "{nodes} nodes: median {median}, all {shares:?}");
}

#[test]
fn of_30_nodes() {
    check(30);
}

#[test]
fn of_100_nodes() {
    check(100);
}

#[test]
fn of_1_000_nodes() {
    check(1_000);
}

#[test]
fn of_10_000_nodes() {
    check(10_000);
}
