//! Lookups: they end, with the right nodes, whoever is slow, dead or lying.

mod peer;
mod sim_helpers;

use std::collections::BTreeSet;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::kad::lookup::{ALL_ENTRIES, End, Goal, LookupRecord, Outcome, Query};
use kademlua::message::{Contact, Response, Rest, Rpc};
use kademlua::node::Event;
use kademlua::sim::{NetworkSettings, NodeIndex};
use kademlua::time::{Duration, Instant};
use kademlua::wire::MAX_DATAGRAM;
use proptest::prelude::*;

use peer::crowd::{Answer, is_query};
use peer::{Bench, Sent, contact};
use sim_helpers::{Stage, find_node, nearest};

const MS: Duration = Duration::from_millis(1);

/// Checks what holds for the record of every lookup.
fn check(record: &LookupRecord, own: Id, k: usize) {
    let distances: Vec<_> =
        record.closest.iter().map(|contact| record.target().distance(&contact.id)).collect();
    assert!(distances.windows(2).all(|pair| pair[0] < pair[1]), "sorted, without duplicates");
    assert!(record.closest.len() <= k);
    assert!(record.queries.iter().all(|query| query.contact.id != own), "the own id is not asked");
    let asked: BTreeSet<Contact> = record.queries.iter().map(|query| query.contact).collect();
    assert_eq!(asked.len(), record.queries.len(), "nobody is asked twice");
    let answered = |contact: &Contact| {
        let query = record.queries.iter().find(|query| query.contact == *contact);
        query.is_some_and(|query| matches!(query.outcome, Outcome::Answered { .. }))
    };
    assert!(record.closest.iter().all(answered));
    assert!(record.ended >= record.started);
}

trait Target {
    fn target(&self) -> Id;
}

impl Target for LookupRecord {
    fn target(&self) -> Id {
        self.goal.target()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_any_network_a_lookup_ends_with_the_nearest(
        seed: u64,
        nodes in 1_usize..120,
        loss in prop_oneof![Just(0.0), 0.0..0.4],
        dead in prop_oneof![Just(0.0), 0.0..0.6],
        target: [u8; 20],
    ) {
        let target = Id::new(target);
        let mut network = Stage::settled(NetworkSettings { seed, ..NetworkSettings::default() }, nodes);
        network.set_loss(loss);
        let from = NodeIndex(0);
        for index in 1..nodes {
            if (index as f64) < dead * nodes as f64 {
                network.kill(NodeIndex(index));
            }
        }
        let record = find_node(&mut network, from, target);
        check(&record, network.contact(from).unwrap().id, 20);
        if loss == 0.0 {
            // Dead nodes can hide a few of the others from a single lookup, not from all.
            let expected = nearest(&network, from, target);
            prop_assert!(dead > 0.0 || record.closest == expected);
            let alive: BTreeSet<Contact> =
                network.alive().filter_map(|index| network.contact(index)).collect();
            prop_assert!(record.closest.iter().all(|contact| alive.contains(contact)));
        }
    }
}

/// The nodes of a network that know each other all, with the time that each takes.
struct Crowd {
    nodes: Vec<(Contact, Duration)>,
    values: BTreeSet<Id>,
}

impl Crowd {
    fn new(nodes: u16, round_trip: Duration) -> Crowd {
        let nodes = (9_000..9_000 + nodes).map(|port| (contact(port), round_trip)).collect();
        Crowd { nodes, values: BTreeSet::new() }
    }

    fn nearest(&self, target: Id) -> Vec<Contact> {
        let mut contacts: Vec<Contact> = self.nodes.iter().map(|(contact, _)| *contact).collect();
        contacts.sort_by_key(|contact| target.distance(&contact.id));
        contacts
    }

    fn slow_down(&mut self, slow: &[Contact], round_trip: Duration) {
        for (contact, time) in &mut self.nodes {
            if slow.contains(contact) {
                *time = round_trip;
            }
        }
    }

    fn answer(&self, sent: &Sent) -> Option<(Duration, Vec<u8>)> {
        let (from, time) = self.nodes.iter().find(|(contact, _)| contact.address == sent.to)?;
        let target = sent.request()?.target()?;
        let closest = self.nearest(target).into_iter().filter(|contact| contact != from).take(20);
        let closest: Vec<_> = closest.collect();
        let has_value = self.values.contains(&from.id);
        let response = match sent.request().unwrap().kind() {
            Rpc::FindValue => values(has_value.then(|| Value::bytes("value")), closest),
            _ => Response::Nodes(closest),
        };
        Some((*time, sent.answer(from.id, &response)))
    }
}

/// The answer to a findvalue.
fn values(values: impl IntoIterator<Item = Value>, closest: Vec<Contact>) -> Response {
    let (values, rest) = (values.into_iter().collect(), Rest::default());
    Response::Values { values, closest, rest }
}

trait Targeted {
    fn target(&self) -> Option<Id>;
}

impl Targeted for kademlua::message::Request<'_> {
    fn target(&self) -> Option<Id> {
        match *self {
            kademlua::message::Request::FindNode { target } => Some(target),
            kademlua::message::Request::FindValue(search) => Some(search.key),
            _ => None,
        }
    }
}

fn look_up(
    bench: &mut Bench,
    goal: Goal,
    answer: Answer<'_>,
) -> (LookupRecord, Vec<(Instant, Sent)>) {
    bench.node.start_lookup(bench.now, goal);
    match bench.converse(answer) {
        (Event::LookupDone(record), log) => (record, log),
        (event, _) => panic!("{event:?}"),
    }
}

/// The most queries that were under way at once, without those that had been out for longer than
/// `patience`.
fn most_at_once(queries: &[Query], patience: Duration) -> usize {
    let holds = |query: &Query, at: Duration| {
        let until = match query.outcome {
            Outcome::Answered { rtt, .. } => rtt.min(patience),
            _ => patience,
        };
        query.sent <= at && at < query.sent + until
    };
    let at_once = |at| queries.iter().filter(|query| holds(query, at)).count();
    queries.iter().map(|query| at_once(query.sent)).max().unwrap_or(0)
}

#[test]
fn alpha_queries_at_once_and_no_more() {
    let crowd = Crowd::new(100, MS.times(20));
    let mut bench = Bench::knowing(crowd.nodes[..5].iter().map(|(contact, _)| *contact));
    let target = Id::of_name("target");
    let (record, log) = look_up(&mut bench, Goal::Node { target }, &mut |sent| crowd.answer(sent));
    check(&record, bench.node.id(), 20);
    assert_eq!(record.closest, crowd.nearest(target)[..20]);
    assert_eq!(most_at_once(&record.queries, MS.times(20)), 3);
    assert_eq!(log.iter().filter(|(_, sent)| is_query(sent)).count(), record.queries.len());
    assert!(record.queries.len() <= 26, "{} queries", record.queries.len());
    // 25 queries, three at a time.
    assert!(record.duration() <= MS.times(9 * 20), "{:?}", record.duration());
}

#[test]
fn nodes_that_are_silent_do_not_hold_up_the_others() {
    let mut crowd = Crowd::new(100, MS.times(20));
    let known: Vec<Contact> = crowd.nodes[..40].iter().map(|(contact, _)| *contact).collect();
    let mut bench = Bench::knowing(known);
    let warm = Goal::Node { target: Id::of_name("warm") };
    look_up(&mut bench, warm, &mut |sent| crowd.answer(sent));

    // The first three that will be asked are slow; a value lies at twelve others.
    let key = Id::of_name("key");
    let seeds: Vec<Contact> = bench.node.table().closest(&key).map(|e| e.contact).take(3).collect();
    crowd.slow_down(&seeds, MS.times(1_200));
    let others = crowd.nearest(key).into_iter().filter(|contact| !seeds.contains(contact));
    crowd.values = others.take(12).map(|contact| contact.id).collect();
    let goal = Goal::Value { key, max_nodes: 3, max_entries: 6 };
    let (record, _) = look_up(&mut bench, goal, &mut |sent| crowd.answer(sent));
    assert_eq!(record.end, End::EnoughValues);
    assert!(record.duration() < MS.times(250), "{:?}", record.duration());
    assert!(record.queries[..3].iter().all(|query| query.outcome == Outcome::Pending));
    assert!(record.queries.len() <= 12, "{} queries", record.queries.len());
}

#[test]
fn who_is_known_to_be_silent_is_asked_and_not_waited_for_until_it_answers() {
    let crowd = Crowd::new(15, MS.times(5));
    let target = Id::of_name("target");
    let nearest = crowd.nearest(target);
    let dead = [nearest[0], nearest[3], nearest[7]];
    let mut bench = Bench::knowing([nearest[1], nearest[2]]);
    let mut search = |is_back: bool| {
        let answer = &mut |sent: &Sent| {
            let is_dead = dead.iter().any(|dead| dead.address == sent.to);
            (is_back || !is_dead).then(|| crowd.answer(sent))?
        };
        let (record, _) = look_up(&mut bench, Goal::Node { target }, answer);
        bench.wait(Duration::from_secs(20));
        record
    };
    // What others name is asked each time, and each time to no avail.
    let records: Vec<LookupRecord> = (0..5).map(|_| search(false)).collect();
    assert!(records[0].duration() > MS.times(100), "the first had to find out");
    for record in &records {
        assert!(dead.iter().all(|dead| record.queries.iter().any(|q| q.contact == *dead)));
        assert_eq!(record.closest.len(), 12);
    }
    for record in &records[2..] {
        assert!(record.duration() <= MS.times(50), "{:?}", record.duration());
    }
    search(true);
    assert_eq!(search(true).closest, nearest, "who is back is among the nearest again");
}

#[test]
fn a_slow_node_among_the_nearest_is_waited_for() {
    let mut crowd = Crowd::new(60, MS.times(20));
    let target = Id::of_name("target");
    let slow = crowd.nearest(target)[7];
    crowd.slow_down(&[slow], MS.times(200));
    let mut bench = Bench::knowing(crowd.nodes[..20].iter().map(|(contact, _)| *contact));
    let (record, _) = look_up(&mut bench, Goal::Node { target }, &mut |sent| crowd.answer(sent));
    assert!(record.closest.contains(&slow));
    assert_eq!(record.closest, crowd.nearest(target)[..20]);
}

/// Two networks become one through a node whose bucket has no room.
#[test]
fn a_node_joins_through_one_that_its_table_cannot_take() {
    let (far, near): (Vec<Contact>, Vec<Contact>) = (9_000..9_100)
        .map(contact)
        .partition(|contact| Id::of_name("8001").common_prefix(&contact.id) == 0);
    let crowd = |contacts: &[Contact]| Crowd {
        nodes: contacts.iter().map(|contact| (*contact, MS)).collect(),
        values: BTreeSet::new(),
    };
    let (known, through) = (&far[..20], far[20]);
    let others = [&[through][..], &near].concat();
    let (known_crowd, others_crowd) = (crowd(known), crowd(&others));
    let mut bench = Bench::knowing(known.iter().copied());
    bench.node.start_bootstrap(bench.now, &[through.address]);
    let (event, _) =
        bench.converse(&mut |sent| known_crowd.answer(sent).or_else(|| others_crowd.answer(sent)));
    assert!(matches!(event, Event::Bootstrapped { answered: 1, .. }), "{event:?}");
    let own = bench.node.id();
    let nearest: Vec<Contact> = bench.node.table().closest(&own).map(|e| e.contact).collect();
    assert_eq!(nearest[..20], others_crowd.nearest(own)[..20]);
    assert!(bench.node.table().closest(&own).all(|entry| entry.contact != through));
}

#[test]
fn dead_nodes_are_passed_over() {
    let crowd = Crowd::new(60, MS.times(20));
    let target = Id::of_name("target");
    let (dead, alive): (Vec<_>, Vec<_>) =
        crowd.nearest(target).into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let dead: BTreeSet<_> = dead.into_iter().map(|(_, contact)| contact.address).collect();
    let mut bench = Bench::knowing(crowd.nodes[..20].iter().map(|(contact, _)| *contact));
    let (record, _) = look_up(&mut bench, Goal::Node { target }, &mut |sent| {
        crowd.answer(sent).filter(|_| !dead.contains(&sent.to))
    });
    let alive: Vec<Contact> = alive.into_iter().map(|(_, contact)| contact).collect();
    // Half of the named nodes are dead; the other half is found.
    assert_eq!(record.closest[..10], alive[..10]);
    assert!(record.closest.iter().all(|contact| alive.contains(contact)));
    assert_eq!(record.end, End::Converged);
}

/// A contact that shares as many bits with the target as there were lies before it.
fn invented(target: Id, lies: u32) -> Contact {
    let mut bytes = *target.as_bytes();
    bytes[16..].copy_from_slice(&(!lies).to_be_bytes());
    let id =
        Id::new(std::array::from_fn(|i| bytes[i] ^ if i < 16 { 0 } else { target.as_bytes()[i] }));
    Contact { id, address: ([10, 0, (lies >> 8) as u8, lies as u8], 8_001).into() }
}

#[test]
fn a_liar_that_invents_ever_nearer_contacts_is_left_in_the_end() {
    for answering in [true, false] {
        let liar = contact(9_001);
        let mut bench = Bench::knowing([liar]);
        let target = Id::of_name("target");
        let mut lies = 0;
        let (record, _) = look_up(&mut bench, Goal::Node { target }, &mut |sent| {
            if !is_query(sent) || !(answering || sent.to == liar.address) {
                return None;
            }
            let contacts: Vec<Contact> = (0..20).map(|i| invented(target, lies + i)).collect();
            let from = (0..lies).map(|lie| invented(target, lie));
            let from = from.chain([liar]).find(|contact| contact.address == sent.to)?;
            lies += 20;
            Some((MS, sent.answer_nodes(from.id, &contacts)))
        });
        check(&record, bench.node.id(), 20);
        let expected = if answering { End::TooManyQueries } else { End::Converged };
        assert_eq!(record.end, expected);
        assert!(record.queries.len() <= 256, "{} queries", record.queries.len());
        assert_eq!(bench.node.operation_count(), 0);
    }
}

#[test]
fn a_liar_cannot_replace_the_address_of_a_node_that_is_known() {
    let (liar, honest) = (contact(9_001), contact(9_002));
    let mut bench = Bench::knowing([liar, honest]);
    let moved = Contact { id: honest.id, ..contact(9_003) };
    let (record, log) = look_up(&mut bench, Goal::Node { target: honest.id }, &mut |sent| {
        let from = [liar, honest].into_iter().find(|contact| contact.address == sent.to)?;
        is_query(sent).then(|| (MS, sent.answer_nodes(from.id, &[moved])))
    });
    assert_eq!(record.closest[0], honest);
    assert!(log.iter().all(|(_, sent)| sent.to != moved.address));
}

#[test]
fn more_values_than_were_asked_for_are_not_taken() {
    let peer = contact(9_001);
    let mut bench = Bench::knowing([peer]);
    let goal = Goal::Value { key: Id::of_name("key"), max_nodes: 3, max_entries: 6 };
    let many = values((0..3_000).map(Value::integer), Vec::new());
    let (record, _) = look_up(&mut bench, goal, &mut |sent| {
        let reply = sent.answer(peer.id, &many);
        is_query(sent).then_some((MS, reply))
    });
    assert_eq!(record.values.len(), 6);
}

#[test]
fn a_found_value_that_fits_an_answer_but_no_store_does_no_harm() {
    let (holder, lacking) = (contact(9_001), contact(9_002));
    let mut bench = Bench::knowing([holder, lacking]);
    // About as long as a datagram with an answer can be; no node would keep it.
    let huge = Value::bytes(vec![b'x'; 16_300]);
    let goal = Goal::Value { key: Id::of_name("key"), max_nodes: 3, max_entries: 6 };
    let (record, log) = look_up(&mut bench, goal, &mut |sent| {
        if !is_query(sent) {
            return None;
        }
        if sent.to == lacking.address {
            return Some((MS, sent.answer(lacking.id, &values(None, Vec::new()))));
        }
        let mut reply = sent.answer(holder.id, &Response::Pong)[..30].to_vec();
        let payload = [b"ld6:retvall", huge.as_bytes(), b"e7:closestleee"].concat();
        reply.extend((payload.len() as u16).to_be_bytes());
        reply.extend(payload);
        assert!(reply.len() <= MAX_DATAGRAM);
        Some((MS, reply))
    });
    assert_eq!(record.values.len(), 1);
    assert!(log.iter().all(|(_, sent)| !sent.asks(Rpc::Store)));
}

#[test]
fn a_lookup_without_contacts_ends_at_once() {
    let mut bench = Bench::new();
    let goal = Goal::Node { target: Id::of_name("target") };
    let (record, _) = look_up(&mut bench, goal, &mut |_| None);
    assert_eq!((record.end, record.duration()), (End::NoContacts, Duration::ZERO));
}

/// Tables that know more of each range lead farther with each hop (paper §4.2).
#[test]
fn buckets_in_parts_save_hops() {
    let hops = |split_bits| {
        let mut settings = NetworkSettings { seed: 4, ..NetworkSettings::default() };
        (settings.config.k, settings.config.split_bits) = (4, split_bits);
        let mut network = Stage::settled(settings, 2_000);
        let lookups = (0..100).map(|number| {
            let target = Id::of_name(format!("target {number}"));
            let from = network.random_alive().unwrap();
            let record = find_node(&mut network, from, target);
            check(&record, network.contact(from).unwrap().id, 4);
            let at_home = network.nearest(from, &target, 1);
            assert_eq!(record.closest.first(), at_home.first());
            record.hops()
        });
        f64::from(lookups.sum::<u32>()) / 100.0
    };
    let [one, two, five] = [1, 2, 5].map(hops);
    println!("{one}, {two} and {five} hops");
    assert!(one > two && two > five + 0.5, "{one}, {two}, {five}");
}

/// Asks for all values of a key at a node that has ever more: each answer brings `count` new ones.
fn asked_of_who_never_ends(count: i64) -> (u32, LookupRecord) {
    let teller = contact(9_000);
    let mut bench = Bench::knowing([teller]);
    let goal = Goal::Value { key: Id::of_name("key"), max_nodes: 1, max_entries: ALL_ENTRIES };
    bench.node.start_lookup(Instant::ZERO, goal);
    let (mut sent, mut answers) = (bench.drain(), 0_u32);
    while let Some(query) = sent.iter().find(|sent| sent.asks(Rpc::FindValue)) {
        let first = i64::from(answers) * count;
        answers += 1;
        let values: Vec<Value> = (first..first + count).map(Value::integer).collect();
        let mut next = [0; Id::LEN];
        next[..4].copy_from_slice(&answers.to_be_bytes());
        let rest = Rest { more: 1, next: Some(Id::new(next)), token: None };
        let more = Response::Values { values, closest: Vec::new(), rest };
        let answer = query.answer(teller.id, &more);
        sent = bench.receive(teller.address, &answer);
        assert!(answers < 10_000, "it goes on for ever");
    }
    let events = bench.take_events();
    let record = events.into_iter().find_map(|event| match event {
        Event::LookupDone(record) => Some(record),
        _ => None,
    });
    (answers, record.expect("the lookup ends"))
}

#[test]
fn who_never_ends_its_answer_is_not_listened_to_for_ever() {
    let (answers, record) = asked_of_who_never_ends(2_000);
    assert_eq!((answers, record.values.len()), (3, 6_000), "twice below 4,096, and the last");
    let (answers, record) = asked_of_who_never_ends(1);
    assert_eq!((answers, record.values.len()), (512, 512));
}
