//! Poisoned tables and lying answers: contacts that should not be named are cut, one subnet gets
//! few places, and lookups on disjoint paths find the values although a fifth of the network lies.

mod peer;
mod sim_helpers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::kad::lookup::{End, Goal, LookupRecord, Outcome};
use kademlua::message::{Contact, Request, Response, Rest};
use kademlua::node::{CallError, Event, Node};
use kademlua::sim::{Lie, NetworkSettings, NodeIndex};
use kademlua::time::{Duration, Instant};
use kademlua::wire::MAX_DATAGRAM;

use peer::{Bench, Sent};
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

/// A liar that answers at every port of its address, and names contacts as it likes.
struct Liar {
    contact: Contact,
    /// Its ids, by the addresses under which it has named itself.
    ids: BTreeMap<SocketAddr, Id>,
    /// How many contacts it has invented.
    invented: u32,
    /// Its answers are as long as datagrams may be, so that it can pay for many.
    is_padded: bool,
    bytes: usize,
}

impl Liar {
    fn new(is_padded: bool) -> Liar {
        let contact = near(0, "198.51.100.1:8001");
        let ids = BTreeMap::from([(contact.address, contact.id)]);
        Liar { contact, ids, invented: 0, is_padded, bytes: 0 }
    }

    /// A contact that is nearer to the target than all before.
    fn invent(&mut self, address: SocketAddr) -> Contact {
        self.invented += 1;
        let mut id = *TARGET.as_bytes();
        let distance = (u32::MAX - self.invented).to_be_bytes();
        id[4..8].iter_mut().zip(distance).for_each(|(byte, turned)| *byte ^= turned);
        Contact { id: Id::new(id), address }
    }

    /// Names a dozen victims, itself once more, and nodes that are there.
    fn answer(
        &mut self,
        sent: &Sent,
        victim: impl Fn(u32) -> SocketAddr,
        there: Option<Contact>,
    ) -> Vec<u8> {
        let mut named: Vec<_> = (0..12).map(|_| self.invent(victim(self.invented))).collect();
        let other_port = SocketAddr::new(self.contact.address.ip(), 9_000 + self.invented as u16);
        let own = self.invent(other_port);
        self.ids.insert(own.address, own.id);
        named.push(own);
        named.extend(there);
        let mut answer = answer_nodes(sent, self.ids[&sent.to], named);
        if self.is_padded {
            answer.resize(MAX_DATAGRAM, 0);
        }
        self.bytes += answer.len();
        answer
    }
}

/// The answer to a question of a lookup of either kind.
fn answer_nodes(sent: &Sent, from: Id, closest: Vec<Contact>) -> Vec<u8> {
    match sent.request() {
        Some(Request::Ping) => sent.answer(from, &Response::Pong),
        Some(Request::FindValue(_)) => {
            let (values, rest) = (Vec::new(), Rest::default());
            sent.answer(from, &Response::Values { values, closest, rest })
        }
        _ => sent.answer_nodes(from, &closest),
    }
}

/// The same question is asked in no other lookup.
fn is_for_target(sent: &Sent) -> bool {
    match sent.request() {
        Some(Request::FindNode { target }) => target == TARGET,
        Some(Request::FindValue(search)) => search.key == TARGET,
        _ => false,
    }
}

/// Looks up the target, where a liar names victims. A node may be there, which answers under its own id
/// alone. Returns all that was sent to victims in the meantime.
fn look_up_past(
    bench: &mut Bench,
    goal: Goal,
    liar: &mut Liar,
    there: Option<Contact>,
    victim: impl Fn(u32) -> SocketAddr,
) -> (Vec<Sent>, LookupRecord) {
    bench.node.start_lookup(bench.now, goal);
    let (mut sent, mut to_victims) = (bench.drain(), Vec::new());
    loop {
        for query in std::mem::take(&mut sent) {
            if query.to.ip() == liar.contact.address.ip() {
                let answer = liar.answer(&query, &victim, there);
                sent.extend(bench.receive(query.to, &answer));
                continue;
            }
            if let Some(there) = there.filter(|there| there.address == query.to) {
                sent.extend(bench.receive(query.to, &answer_nodes(&query, there.id, Vec::new())));
            }
            to_victims.push(query);
        }
        let done = bench.take_events().into_iter().find_map(|event| match event {
            Event::LookupDone(record) => Some(record),
            _ => None,
        });
        if let Some(record) = done {
            assert!(liar.invented >= 3 * 13, "the liar is asked again: {}", liar.invented);
            return (to_victims, record);
        }
        sent.extend(bench.wait(Duration::from_millis(50)));
    }
}

/// What a node knows of a victim when a liar names it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// Nothing, and nobody is there.
    Nothing,
    /// Nothing, and somebody is there. The liar names it under its own id, too, so that it is validated in
    /// the midst of the lookup.
    Later,
    /// It is validated.
    Before,
}

const GOALS: [Goal; 2] =
    [Goal::Node { target: TARGET }, Goal::Value { key: TARGET, max_nodes: 3, max_entries: 6 }];

/// The victim itself, whose own id is nearer to the target than all that the liar invents.
fn victim() -> Contact {
    near(159, "203.0.113.7:8001")
}

/// A node that knows the liar, and may know the victim.
fn knowing(paths: usize, liar: &Liar, known: Known) -> Bench {
    let now = Instant::ZERO + Duration::from_secs(1_000);
    let config = Config { paths, ..Config::default() };
    let mut bench = Bench::with(Node::new(now, Id::of_name("8001"), config, [7; 32]));
    assert!(bench.node.introduce(now, liar.contact));
    if known == Known::Before {
        bench.node.start_ping(now, victim().into());
        let ping = bench.drain().remove(0);
        bench.receive(victim().address, &ping.answer(victim().id, &Response::Pong));
        bench.take_events();
    }
    bench
}

#[test]
fn an_address_is_asked_twice_in_vain_whether_or_not_it_is_validated() {
    for (goal, paths) in GOALS.into_iter().flat_map(|goal| [(goal, 1), (goal, 8)]) {
        for known in [Known::Nothing, Known::Later, Known::Before] {
            let mut liar = Liar::new(true);
            let mut bench = knowing(paths, &liar, known);
            let there = (known != Known::Nothing).then(victim);
            let (mut sent, record) =
                look_up_past(&mut bench, goal, &mut liar, there, |_| victim().address);
            sent.retain(is_for_target);
            let answered = record.queries.iter().filter(|query| {
                query.contact == victim() && matches!(query.outcome, Outcome::Answered { .. })
            });
            let answered = answered.count();
            assert_eq!(answered, usize::from(there.is_some()), "{known:?}, {paths} paths");
            // The liar's path asks nobody that another path has asked.
            let is_on_another_path = paths > 1 && known == Known::Before;
            let in_vain = if is_on_another_path { 0 } else { 2 };
            assert_eq!(sent.len() - answered, in_vain, "{known:?}, {paths} paths");
        }
    }
}

#[test]
fn a_network_is_asked_twice_in_vain_although_an_address_of_it_is_validated() {
    let ports = |number: u32| SocketAddr::new(victim().address.ip(), 1 + number as u16);
    let hosts = |number: u32| ([203, 0, 113, (8 + number % 200) as u8], 8_001).into();
    let named: [&dyn Fn(u32) -> SocketAddr; 2] = [&ports, &hosts];
    for (goal, named) in GOALS.into_iter().flat_map(|goal| named.map(|named| (goal, named))) {
        let mut liar = Liar::new(true);
        let mut bench = knowing(1, &liar, Known::Before);
        let (mut sent, _) = look_up_past(&mut bench, goal, &mut liar, None, named);
        sent.retain(|sent| is_for_target(sent) && sent.to != victim().address);
        assert_eq!(sent.len(), 2);
    }
}

#[test]
fn a_network_where_somebody_answers_gets_no_more_bytes_than_the_liar_sent() {
    let hosts = |number: u32| ([203, 0, 113, (8 + number % 200) as u8], 8_001).into();
    for (goal, known) in
        GOALS.into_iter().flat_map(|goal| [(goal, Known::Later), (goal, Known::Before)])
    {
        let mut liar = Liar::new(false);
        let mut bench = knowing(1, &liar, known);
        let (mut sent, _) = look_up_past(&mut bench, goal, &mut liar, Some(victim()), hosts);
        sent.retain(|sent| sent.to != victim().address);
        let bytes: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
        assert!(sent.len() > 2 && bytes <= liar.bytes, "{bytes} bytes for {}", liar.bytes);
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
    nearest.sort_by_key(|&index| key.distance(&network.contact(index).unwrap().id));
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
    let holds = |&index: &NodeIndex| {
        network.touched(index).is_some_and(|node| node.store().values(&key).is_some())
    };
    assert_eq!(network.alive().filter(holds).collect::<Vec<_>>(), []);
}

/// How many copies the nearest node that lacks a value gets after a search in which two others returned it.
fn copies_after_a_search(holders: [&str; 2]) -> usize {
    let lacking = near(20, "198.51.100.1:8001");
    let holders = [near(10, holders[0]), near(11, holders[1])];
    let mut bench = Bench::knowing(holders.into_iter().chain([lacking]));
    bench.node.start_lookup(bench.now, GOALS[1]);
    let (mut sent, mut copies) = (bench.drain(), 0);
    while let Some(query) = sent.pop() {
        let from = holders.iter().chain([&lacking]).find(|contact| contact.address == query.to);
        let from = from.expect("nobody else is known");
        let values =
            if *from == lacking { Vec::new() } else { vec![Value::bytes("the same value")] };
        let answer = match query.request() {
            Some(Request::FindValue(_)) => {
                let (closest, rest) = (Vec::new(), Rest::default());
                Response::Values { values, closest, rest }
            }
            Some(Request::Store(store)) => {
                assert!(*from == lacking && store.copy.is_some());
                copies += 1;
                Response::Stored
            }
            _ => continue,
        };
        sent.extend(bench.receive(query.to, &query.answer(from.id, &answer)));
    }
    copies
}

#[test]
fn two_nodes_of_one_owner_are_no_two_witnesses() {
    for two_owners in [
        ["203.0.113.1:9", "192.0.2.1:9"],
        ["10.0.0.1:9", "10.0.0.2:9"],
        ["[2001:db8:1::1]:9", "[2001:db8:2::1]:9"],
    ] {
        assert_eq!(copies_after_a_search(two_owners), 1, "{two_owners:?}");
    }
    for one_owner in [
        ["203.0.113.1:9", "203.0.113.2:9"],
        ["203.0.113.1:9", "203.0.113.1:10"],
        ["10.0.0.1:9", "10.0.0.1:10"],
        ["[2001:db8:1::1]:9", "[2001:db8:1:1::1]:9"],
    ] {
        assert_eq!(copies_after_a_search(one_owner), 0, "{one_owner:?}");
    }
}
