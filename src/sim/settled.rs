//! Nodes of a settled network that nothing has touched yet.
//!
//! Their routing tables follow from chance and from who is there. So a node need not exist before
//! something reaches it. Until then it is two places in the stream of chance: where its seed was drawn,
//! and where its contacts were.

use std::ops::Range;

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::id::Id;
use crate::message::Contact;
use crate::time::Instant;

use super::NodeIndex;

/// A node that nothing has touched.
#[derive(Clone, Copy)]
pub(super) struct Sleeper {
    seed_at: u64,
    contacts_at: u64,
}

/// How far [`Network::settle_some`](super::Network::settle_some) is.
#[derive(Debug)]
pub struct Settling {
    pub(super) nodes: usize,
    pub(super) done: usize,
}

impl Settling {
    /// Nothing is done yet.
    pub fn new(nodes: usize) -> Settling {
        Settling { nodes, done: 0 }
    }

    /// Steps that are done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Steps in all: each node is added, and then its contacts are drawn.
    pub fn total(&self) -> usize {
        2 * self.nodes
    }
}

/// The nodes that a network was settled with.
#[derive(Default)]
pub(super) struct Settlement {
    at: Instant,
    /// How many contacts of one range a node has.
    room: usize,
    /// All of them, by id.
    sorted: Vec<Contact>,
    /// How many have ids below each prefix of `depth` bits.
    starts: Vec<u32>,
    depth: u32,
    /// When all refresh their tables for the first time, and the place of the first in the agenda.
    refresh: Option<(Instant, u64)>,
    /// How many have done so.
    refreshed: usize,
}

impl Sleeper {
    /// A node whose seed is drawn next.
    pub(super) fn of_seed(rng: &mut ChaCha8Rng) -> Sleeper {
        let seed_at = place_of(rng);
        let _: [u8; 32] = rng.random();
        Sleeper { seed_at, contacts_at: 0 }
    }

    /// Its seed.
    pub(super) fn seed(&self, rng: &ChaCha8Rng) -> [u8; 32] {
        at_place(rng, self.seed_at).random()
    }
}

fn place_of(rng: &ChaCha8Rng) -> u64 {
    u64::try_from(rng.get_word_pos()).expect("no network draws as much")
}

fn at_place(rng: &ChaCha8Rng, place: u64) -> ChaCha8Rng {
    let mut rng = rng.clone();
    rng.set_word_pos(place.into());
    rng
}

impl Settlement {
    /// Nodes that know `room` of each other in each range.
    pub(super) fn new(at: Instant, contacts: Vec<Contact>, room: usize) -> Settlement {
        let mut sorted = contacts;
        sorted.sort_unstable();
        let depth = sorted.len().checked_ilog2().unwrap_or(0);
        let mut starts = Vec::with_capacity(1 << depth);
        for (place, contact) in (0..).zip(&sorted) {
            let prefix = first_bits(&contact.id, depth) as usize;
            starts.resize(starts.len().max(prefix + 1), place);
        }
        starts.resize(1 << depth, sorted.len() as u32);
        Settlement { at, room, sorted, starts, depth, refresh: None, refreshed: 0 }
    }

    /// When they began.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Draws the contacts of a node, and remembers only where.
    pub(super) fn draw(&self, own: &Id, sleeper: &mut Sleeper, rng: &mut ChaCha8Rng) {
        sleeper.contacts_at = place_of(rng);
        self.each_range(own, |range| drop(index::sample(rng, range.len(), self.taken_of(&range))));
    }

    /// The contacts that were drawn for a node.
    pub(super) fn contacts_of(
        &self,
        own: &Id,
        sleeper: &Sleeper,
        rng: &ChaCha8Rng,
    ) -> Vec<Contact> {
        let mut rng = at_place(rng, sleeper.contacts_at);
        let mut contacts = Vec::new();
        self.each_range(own, |range| {
            let drawn = index::sample(&mut rng, range.len(), self.taken_of(&range));
            contacts.extend(drawn.into_iter().map(|place| self.sorted[range.start + place]));
        });
        contacts
    }

    fn taken_of(&self, range: &Range<usize>) -> usize {
        self.room.min(range.len())
    }

    /// Goes through the ranges of nodes that share more and more leading bits with an id, narrowed down
    /// step by step, until it is alone.
    fn each_range(&self, own: &Id, mut visit: impl FnMut(Range<usize>)) {
        let mut near = 0..self.sorted.len();
        for bit in 0..Id::BITS {
            let split = self.split(&near, own, bit);
            let (zeros, ones) = (near.start..split, split..near.end);
            let (same, other) = if own.bit(bit) { (ones, zeros) } else { (zeros, ones) };
            visit(other);
            if same.len() <= 1 {
                break;
            }
            near = same;
        }
    }

    /// Where the ids begin that have a one behind the first `bit` bits of `own`, which all in `near` share.
    fn split(&self, near: &Range<usize>, own: &Id, bit: u32) -> usize {
        if bit < self.depth {
            let prefix = (first_bits(own, bit) << 1 | 1) << (self.depth - bit - 1);
            return self.starts[prefix as usize] as usize;
        }
        near.start + self.sorted[near.clone()].partition_point(|contact| !contact.id.bit(bit))
    }

    /// All refresh their tables at that time, and their places in the agenda follow `place`.
    pub(super) fn refresh_at(&mut self, at: Instant, place: u64) {
        self.refresh = Some((at, place));
    }

    /// When the next one refreshes its table, and its place in the agenda.
    pub(super) fn next_refresh(&self) -> Option<(Instant, u64)> {
        let (at, place) = self.refresh?;
        Some((at, place + 1 + self.refreshed as u64))
    }

    /// The next one refreshes its table.
    pub(super) fn take_refresh(&mut self) -> NodeIndex {
        let next = self.refreshed;
        self.refreshed += 1;
        if self.refreshed == self.sorted.len() {
            self.refresh = None;
        }
        NodeIndex(next)
    }
}

/// The first bits of an id as a number; at most 32.
fn first_bits(id: &Id, bits: u32) -> u32 {
    let (first, _) = id.as_bytes().split_first_chunk().expect("20 bytes");
    u32::from_be_bytes(*first).checked_shr(32 - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::{Addresses, Network, NetworkSettings};
    use super::*;
    use crate::bencode::Value;
    use crate::control::Command;
    use crate::kad::lookup::Goal;
    use crate::message::StoreMode;
    use crate::time::Duration;

    /// Lookups, stores, deaths and more than an hour, so that all tables are refreshed.
    fn life(network: &mut Network) -> Vec<String> {
        let mut log = Vec::new();
        for round in 0..30 {
            let key = Id::of_name(format!("key {round}"));
            let from = network.random_alive().unwrap();
            let command = match round % 3 {
                0 => Goal::Node { target: key }.into(),
                1 => Command::Store { key, value: Value::bytes("value"), mode: StoreMode::Add },
                _ => Goal::Value { key: Id::of_name("key 1"), max_nodes: 3, max_entries: 6 }.into(),
            };
            log.push(format!("{:?}", network.run(from, command)));
            let nearest = network.nearest(from, &key, 3);
            log.push(format!("{nearest:?} of {}", network.alive_count()));
            if round % 10 == 9 {
                network.random_share(0.1).into_iter().for_each(|index| network.kill(index));
                network.run_for(Duration::from_secs(1_500));
            }
        }
        log.push(format!("{} {} {:?}", network.datagrams(), network.bytes(), network.statistics()));
        log
    }

    #[test]
    fn nodes_that_slept_are_those_that_did_not() {
        for addresses in [Addresses::Private, Addresses::Public] {
            for nodes in [1, 2, 3, 25, 400] {
                let settings = NetworkSettings { seed: 5, addresses, ..NetworkSettings::default() };
                let mut asleep = Network::settled(settings.clone(), nodes);
                let mut awake = Network::settled(settings, nodes);
                (0..nodes).map(NodeIndex).for_each(|index| assert!(awake.node(index).is_some()));
                assert_eq!((asleep.awake(), awake.awake()), (0, nodes));
                assert_eq!(life(&mut asleep), life(&mut awake), "{nodes} {addresses:?}");
            }
        }
    }

    #[test]
    fn contacts_are_random_nodes_of_each_range() {
        let nodes = 3_000;
        let mut network = Network::settled(NetworkSettings::default(), nodes);
        for index in [0, 1_234, 2_999].map(NodeIndex) {
            let own = network.contact(index).unwrap().id;
            let all: Vec<Id> =
                network.alive().filter_map(|other| network.contact(other)).map(|c| c.id).collect();
            let table = network.node(index).unwrap().table();
            for shared in 0..Id::BITS {
                let is_there = |id: &Id| *id != own && own.common_prefix(id) == shared;
                let known = table.entries().filter(|entry| is_there(&entry.contact.id)).count();
                let there = all.iter().filter(|id| is_there(id)).count();
                assert_eq!(known, there.min(20), "sharing {shared} bits");
            }
        }
    }

    #[test]
    fn only_what_is_touched_is_awake() {
        let mut network = Network::settled(NetworkSettings::default(), 20_000);
        for number in 0..10 {
            let from = network.random_alive().unwrap();
            let goal = Goal::Node { target: Id::of_name(format!("{number}")) };
            network.run(from, goal.into()).unwrap();
        }
        assert!((100..1_000).contains(&network.awake()), "{}", network.awake());
        let sleeper = network.alive().find(|&index| network.touched(index).is_none()).unwrap();
        network.kill(sleeper);
        assert!(network.node(sleeper).is_none() && network.contact(sleeper).is_none());
        assert_eq!(network.alive_count(), 19_999);
    }
}
