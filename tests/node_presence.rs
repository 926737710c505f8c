//! What nodes do so that they stay in touch: with the nodes that they joined through, with contacts that
//! fall silent, and after their own address has changed. A small network on virtual time, in which a
//! node may move.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kademlua::address::LocalEnd;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::Rpc;
use kademlua::node::{Event, Input, Node, Output};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{Body, parse};

/// Time that a datagram takes.
const LATENCY: Duration = Duration::from_millis(5);

struct Member {
    node: Node,
    /// Where it is; `None` once it has stopped.
    address: Option<SocketAddr>,
    due: Instant,
    events: Vec<Event>,
    sent: u64,
    /// When it last sent something, and the longest time without.
    last_sent: Instant,
    pause_max: Duration,
    /// Times at which it asked for its own address.
    questions: u64,
}

/// Nodes, and the datagrams between them.
struct World {
    now: Instant,
    members: Vec<Member>,
    /// By the time at which they arrive, in the order in which they were sent.
    on_their_way: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    count: u64,
}

fn lan(number: usize) -> SocketAddr {
    ([10, 78, (number / 200) as u8, (number % 200) as u8 + 1], 8001).into()
}

fn loopback(number: usize) -> SocketAddr {
    ([127, 0, 0, 1], 8001 + number as u16).into()
}

impl World {
    fn new() -> World {
        World { now: Instant::ZERO, members: Vec::new(), on_their_way: BTreeMap::new(), count: 0 }
    }

    /// A node at an address; it joins through others.
    fn start(&mut self, address: SocketAddr, id: &str, through: &[SocketAddr]) -> usize {
        let seed = [self.members.len() as u8 + 1; 32];
        let mut node = Node::new(self.now, Id::of_name(id), Config::default(), seed);
        node.add_own_address(address);
        node.keep_vigil(self.now, address.ip().is_loopback());
        node.join_through(self.now, through);
        self.members.push(Member {
            node,
            address: Some(address),
            due: self.now,
            events: Vec::new(),
            sent: 0,
            last_sent: self.now,
            pause_max: Duration::ZERO,
            questions: 0,
        });
        self.drain(self.members.len() - 1);
        self.members.len() - 1
    }

    /// A node that joins through the first, and so on.
    fn start_many(&mut self, count: usize, at: fn(usize) -> SocketAddr) {
        let first = self.members.len();
        for number in first..first + count {
            self.start(
                at(number),
                &number.to_string(),
                &[at(first)][..usize::from(number > first)],
            );
            self.run(Duration::from_millis(100));
        }
    }

    fn stop(&mut self, number: usize) {
        self.members[number].address = None;
    }

    fn drain(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(source) = member.address else { return };
        loop {
            match member.node.poll_output() {
                Output::Transmit { destination, bytes, .. } => {
                    if let Body::Query(query) = parse(bytes).unwrap().body {
                        let is_question =
                            query.read().is_ok_and(|asked| asked.kind() == Rpc::GetSocket);
                        member.questions += u64::from(is_question);
                    }
                    member.sent += 1;
                    member.pause_max = member.pause_max.max(self.now.since(member.last_sent));
                    member.last_sent = self.now;
                    self.count += 1;
                    let datagram = (source, destination, bytes.to_vec());
                    self.on_their_way.insert((self.now + LATENCY, self.count), datagram);
                }
                Output::Event(event) => member.events.push(event),
                Output::Timeout(due) => {
                    member.due = due;
                    return;
                }
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let running = self.members.iter().filter(|member| member.address.is_some());
            let due = running.map(|member| member.due).min().unwrap_or(Instant::NEVER);
            let arrives = self.on_their_way.keys().next().map_or(Instant::NEVER, |(at, _)| *at);
            let next = due.min(arrives);
            if next > until {
                self.now = until;
                return;
            }
            self.now = next.max(self.now);
            if arrives <= due {
                let (_, (source, to, bytes)) = self.on_their_way.pop_first().unwrap();
                let at = self.members.iter().position(|member| member.address == Some(to));
                if let Some(number) = at {
                    let local = LocalEnd::default();
                    let input = Input::Datagram { source, local, bytes: &bytes };
                    self.members[number].node.handle(self.now, input);
                    self.drain(number);
                }
            } else {
                let is_due = |member: &Member| member.address.is_some() && member.due <= self.now;
                let number = self.members.iter().position(is_due).unwrap();
                self.members[number].node.handle(self.now, Input::Timeout);
                self.drain(number);
                assert!(self.members[number].due > self.now, "a node must not be due for ever");
            }
        }
    }

    fn contacts(&self, number: usize) -> usize {
        self.members[number].node.table().len()
    }

    /// Whether `one` has `other` as a good contact, at its present address.
    fn knows(&self, one: usize, other: usize) -> bool {
        let entry = self.members[one].node.table().entry(&self.members[other].node.id());
        entry.is_some_and(|e| e.is_good() && Some(e.contact.address) == self.members[other].address)
    }

    /// Runs until something is so; returns how long that took.
    fn until(&mut self, most: u64, is_so: impl Fn(&World) -> bool) -> u64 {
        let began = self.now;
        for _ in 0..most {
            if is_so(self) {
                break;
            }
            self.run(Duration::from_secs(1));
        }
        assert!(is_so(self), "not within {most} s");
        self.now.since(began).as_secs()
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[test]
fn a_bootstrap_node_that_is_restarted_in_a_quiet_network_is_found_again() {
    for nodes in [1, 2, 12, 99] {
        let mut world = World::new();
        world.start_many(nodes + 1, loopback);
        world.run(minutes(6));
        world.stop(0);
        world.run(Duration::from_millis(100));
        let again = world.start(loopback(0), "0", &[]);
        assert_eq!(world.contacts(again), 0);
        world.until(60, |world| world.contacts(again) > 0);
        world.until(60, |world| world.contacts(again) >= nodes.min(12));
    }
}

#[test]
fn a_node_that_waits_for_its_bootstrap_node_asks_ever_more_rarely() {
    let mut world = World::new();
    let alone = world.start(loopback(1), "1", &[loopback(0)]);
    world.run(minutes(10));
    let asked = world.members[alone].sent;
    assert!((20..40).contains(&asked), "{asked} in ten minutes");
    world.start(loopback(0), "0", &[]);
    world.until(31, |world| world.contacts(alone) == 1);
}

#[test]
fn two_networks_that_are_told_of_each_other_become_one() {
    let mut world = World::new();
    world.start_many(10, loopback);
    world.run(minutes(10));
    // The others begin while the first cannot be reached: nothing answers at the address yet.
    let (first, second) = (loopback(0), loopback(10));
    let away = world.members[0].address.take();
    for number in 10..20 {
        let through = [second, first];
        world.start(loopback(number), &number.to_string(), &through[usize::from(number == 10)..]);
        world.run(Duration::from_millis(100));
    }
    world.run(minutes(3));
    world.members[0].address = away;
    world.members[0].due = world.now;
    let is_one = |world: &World| {
        let met =
            |one: usize| (0..20).filter(|&other| other != one && world.knows(one, other)).count();
        (0..20).all(|one| met(one) >= 15)
    };
    world.until(180, is_one);
}

#[test]
fn a_node_that_moves_is_known_at_its_new_address_within_two_minutes() {
    for nodes in [4, 30] {
        let mut world = World::new();
        world.start_many(nodes + 1, lan);
        world.run(minutes(4));
        let knew: Vec<usize> = (0..nodes).filter(|&other| world.knows(other, nodes)).collect();
        assert!(knew.len() >= 4);
        world.members[nodes].address = Some("10.99.0.1:8001".parse().unwrap());
        world.until(120, |world| knew.iter().all(|&other| world.knows(other, nodes)));
        // Some of the peers that it asks notice later.
        world.start(lan(nodes + 1), "another", &[lan(0)]);
        world.run(minutes(10));
        let told = |event: &Event| matches!(event, Event::OwnAddressChanged { .. });
        let events = &world.members[nodes].events;
        assert_eq!(events.iter().filter(|event| told(event)).count(), 1);
    }
}

/// As some NATs do, which forget a mapping after a minute.
#[test]
fn no_node_off_loopback_is_silent_for_a_minute() {
    let mut world = World::new();
    world.start_many(5, lan);
    world.run(minutes(120));
    for member in &world.members {
        assert!(member.pause_max < Duration::from_secs(30), "{:?}", member.pause_max);
    }
}

#[test]
fn contacts_that_are_gone_leave_within_four_minutes() {
    let mut world = World::new();
    world.start_many(100, loopback);
    world.run(minutes(10));
    assert!(world.contacts(0) > 40);
    (1..100).for_each(|number| world.stop(number));
    world.until(240, |world| world.contacts(0) == 0);
}

#[test]
fn staying_in_touch_costs_what_is_promised() {
    for (at, questions) in [(lan as fn(usize) -> SocketAddr, 150..=200), (loopback, 0..=0)] {
        let mut world = World::new();
        world.start_many(20, at);
        world.run(minutes(5));
        let before: Vec<_> = world.members.iter().map(|m| (m.sent, m.questions)).collect();
        world.run(minutes(60));
        for (number, (member, (sent, asked))) in world.members.iter().zip(before).enumerate() {
            let asked = member.questions - asked;
            assert!(questions.contains(&asked), "{asked} questions");
            // 19 contacts, 20 pings an hour each, by one of two, with an answer each; as many answers to
            // neighbours as questions; 50 pings to the bootstrap node; lookups that refresh buckets.
            // The bootstrap node answers eight pings in half a minute.
            let most = if number == 0 { 2_000 } else { 1_000 };
            let sent = member.sent - sent;
            assert!(sent < most, "{sent} datagrams of node {number}");
        }
    }
}

#[test]
fn a_node_with_the_same_id_is_told_of_once() {
    let mut world = World::new();
    world.start(lan(0), "twin", &[]);
    let other = world.start(lan(1), "twin", &[lan(0)]);
    world.run(minutes(10));
    let twins: Vec<_> = world.members[other]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Twin(address) => Some(*address),
            _ => None,
        })
        .collect();
    assert_eq!(twins, [lan(0)]);
}
