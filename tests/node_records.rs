//! The records of lookups and stores: which peers the node asked and when, which peer had named
//! them, how many bytes that took, and why.

mod peer;
mod sim_helpers;

use std::collections::BTreeMap;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::kad::lookup::{Cause, End, Goal, LookupRecord, Outcome, Query};
use kademlua::message::{Contact, Response, Rpc, StoreMode};
use kademlua::node::{Delivery, DeliveryOutcome, Event, StoreReport};
use kademlua::sim::{Network, NetworkSettings, NodeIndex};
use kademlua::time::{Duration, Instant};

use peer::{Bench, Sent, contact};
use sim_helpers::{Stage, add, find_node};

const MS: Duration = Duration::from_millis(1);

/// The datagrams that were sent, with their time and destination.
type Log = Vec<(Instant, Sent)>;

/// Peers with the contacts that each names, and its delay; peers that are not here are silent.
struct Peers {
    names: BTreeMap<Contact, (Duration, Vec<Contact>)>,
    /// Bytes of each peer's last answer.
    answered: BTreeMap<Contact, usize>,
}

impl Peers {
    fn new(peers: impl IntoIterator<Item = (Contact, u64, Vec<Contact>)>) -> Peers {
        let names = peers.into_iter().map(|(who, ms, names)| (who, (MS.times(ms), names)));
        Peers { names: names.collect(), answered: BTreeMap::new() }
    }

    fn find(&self, sent: &Sent) -> Option<Contact> {
        self.names.keys().copied().find(|contact| contact.address == sent.to)
    }

    /// Answers questions for nodes.
    fn answer(&mut self, sent: &Sent) -> Option<(Duration, Vec<u8>)> {
        let who = self.find(sent).filter(|_| sent.asks(Rpc::FindNode))?;
        let (time, names) = &self.names[&who];
        let bytes = sent.answer_nodes(who.id, names);
        self.answered.insert(who, bytes.len());
        Some((*time, bytes))
    }
}

fn look_up(bench: &mut Bench, target: Id, peers: &mut Peers) -> (LookupRecord, Log) {
    bench.node.start_lookup(bench.now, Goal::Node { target });
    match bench.converse(&mut |sent| peers.answer(sent)) {
        (Event::LookupDone(record), log) => (record, log),
        (event, _) => panic!("{event:?}"),
    }
}

/// Bytes of the datagrams of a kind that went to a peer.
fn bytes_to(log: &Log, who: Contact, kind: Rpc) -> usize {
    let to = log.iter().filter(|(_, sent)| sent.to == who.address && sent.asks(kind));
    to.map(|(_, sent)| sent.bytes.len()).sum()
}

#[test]
fn a_record_tells_the_whole_story() {
    // Ten nodes from the farthest to the nearest: each pair of neighbours may name the next.
    let target = Id::of_name("target");
    let mut all: Vec<Contact> = (9_000..9_010).map(contact).collect();
    all.sort_by_key(|contact| std::cmp::Reverse(target.distance(&contact.id)));
    let [far, dead, near, nearest] = [all[1], all[2], all[6], all[9]];
    let mut peers = Peers::new([
        (far, 20, vec![dead, near]),
        (near, 50, vec![far, nearest, dead]),
        (nearest, 10, vec![near]),
    ]);
    let mut bench = Bench::knowing([far, dead]);
    let before = bench.now;
    let (record, log) = look_up(&mut bench, target, &mut peers);

    assert_eq!((record.cause, record.end, record.started), (Cause::Search, End::Converged, before));
    assert_eq!(record.closest, [nearest, near, far]);
    let bits = |contact: Contact| target.common_prefix(&contact.id);
    let answered = |ms, known: Contact, best: Contact, contacts, new| {
        let rtt = MS.times(ms);
        let (bits_before, bits_after) = (bits(known), bits(best));
        Outcome::Answered { rtt, bits_before, bits_after, contacts, new, values: 0, more: 0 }
    };
    let query = |contact, introduced_by, hop, after, outcome| Query {
        path: 1,
        contact,
        introduced_by,
        hop,
        round: hop,
        bits: bits(contact),
        sent: MS.times(after),
        attempts: 1,
        bytes_sent: bytes_to(&log, contact, Rpc::FindNode),
        answers: u32::from(peers.answered.contains_key(&contact)),
        bytes_received: peers.answered.get(&contact).copied().unwrap_or(0),
        outcome,
    };
    assert_eq!(
        record.queries,
        [
            query(dead, None, 1, 0, Outcome::TimedOut),
            query(far, None, 1, 0, answered(20, dead, near, 2, 1)),
            query(near, Some(far), 2, 20, answered(50, near, nearest, 3, 1)),
            query(nearest, Some(near), 3, 70, answered(10, nearest, nearest, 1, 0)),
        ]
    );
    assert_eq!((record.hops(), record.rounds(), record.messages()), (3, 3, 4 + 3));
    assert!(record.queries.iter().all(|query| query.bytes_sent > 0));
    let sent = log.iter().filter(|(_, sent)| sent.asks(Rpc::FindNode));
    assert_eq!(record.bytes_sent(), sent.map(|(_, sent)| sent.bytes.len()).sum::<usize>());
    assert_eq!(record.bytes_received(), peers.answered.values().sum::<usize>());
    assert_eq!(bench.node.records().collect::<Vec<_>>(), [&record]);
}

#[test]
fn what_is_no_answer_is_counted_all_the_same() {
    let peer = contact(9_001);
    let mut bench = Bench::knowing([peer]);
    bench.node.start_lookup(bench.now, Goal::Node { target: Id::of_name("target") });
    let garbage = |sent: &Sent| sent.answer(peer.id, &Response::Pong);
    let (record, log) = match bench.converse(&mut |sent| Some((MS, garbage(sent)))) {
        (Event::LookupDone(record), log) => (record, log),
        (event, _) => panic!("{event:?}"),
    };
    let (query, sent) = (&record.queries[0], &log[0].1);
    assert_eq!(query.outcome, Outcome::Failed);
    let bytes = (sent.bytes.len(), garbage(sent).len());
    assert_eq!((query.bytes_sent, query.bytes_received), bytes);
    assert_eq!(
        (record.bytes_sent(), record.bytes_received(), record.messages()),
        (bytes.0, bytes.1, 2)
    );
}

#[test]
fn who_answers_while_others_are_waited_for_opens_a_round() {
    // Twelve equals that name nobody: three are asked at once, then one for each answer.
    let known: Vec<Contact> = (9_000..9_012).map(contact).collect();
    let mut peers = Peers::new(known.iter().map(|&contact| (contact, 30, Vec::new())));
    let mut bench = Bench::knowing(known);
    let (record, _) = look_up(&mut bench, Id::of_name("target"), &mut peers);
    let rounds: Vec<u32> = record.queries.iter().map(|query| query.round).collect();
    assert_eq!(rounds, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    assert_eq!(record.duration(), MS.times(4 * 30));
    assert_eq!((record.rounds(), record.hops()), (4, 1));
}

#[test]
fn a_store_tells_what_became_of_each_delivery() {
    let key = Id::of_name("key");
    let [keeps, refuses, silent] = [9_001, 9_002, 9_003].map(contact);
    let mut peers = Peers::new([keeps, refuses, silent].map(|contact| (contact, 20, Vec::new())));
    let mut bench = Bench::knowing([keeps, refuses, silent]);
    let value = Value::bytes("value");
    bench.node.start_store(bench.now, key, value, StoreMode::Add).unwrap();
    let mut answers = BTreeMap::new();
    let mut answer = |sent: &Sent| {
        if !sent.asks(Rpc::Store) {
            return peers.answer(sent);
        }
        let who = peers.find(sent).filter(|&who| who != silent)?;
        let response = match who == keeps {
            true => Response::Stored,
            false => Response::Refused { reason: "full".into(), token: None },
        };
        let reply = sent.answer(who.id, &response);
        answers.insert(who, reply.len());
        Some((MS.times(40), reply))
    };
    let (report, log): (StoreReport, Log) = match bench.converse(&mut answer) {
        (Event::StoreDone(report), log) => (report, log),
        (event, _) => panic!("{event:?}"),
    };
    assert_eq!(report.stored, [keeps]);
    assert_eq!(report.refused, [(refuses, "full".to_owned())]);
    assert_eq!(report.silent, [silent]);
    assert_eq!((report.lookup.cause, report.lookup.end), (Cause::Store, End::Converged));

    assert_eq!(report.deliveries.len(), 3);
    for delivery in &report.deliveries {
        let Delivery {
            contact,
            sent,
            attempts,
            bytes_sent,
            answers: answered,
            bytes_received,
            took,
            ref outcome,
        } = *delivery;
        assert_eq!(sent, report.lookup.duration());
        let is_silent = *outcome == DeliveryOutcome::TimedOut;
        assert_eq!(is_silent, contact == silent);
        assert_eq!(*outcome == DeliveryOutcome::Stored, contact == keeps);
        assert_eq!(bytes_sent, bytes_to(&log, contact, Rpc::Store));
        assert_eq!(bytes_received, answers.get(&contact).copied().unwrap_or(0));
        let stores = log.iter().filter(|(_, sent)| sent.asks(Rpc::Store));
        let tries = stores.filter(|(_, sent)| sent.to == contact.address).count();
        assert_eq!(attempts as usize, tries);
        assert_eq!(answered, u32::from(contact != silent));
        assert_eq!(tries > 1, contact == silent);
        assert_eq!(took == MS.times(40), contact != silent, "{took:?}");
    }
    let sent = |kind| log.iter().filter(move |(_, sent)| sent.asks(kind));
    let stores = sent(Rpc::Store).count();
    assert_eq!(report.messages(), report.lookup.messages() + stores + 2);
    let bytes = |kind| sent(kind).map(|(_, sent)| sent.bytes.len()).sum::<usize>();
    assert_eq!(report.bytes_sent(), bytes(Rpc::FindNode) + bytes(Rpc::Store));
    let received = peers.answered.values().sum::<usize>() + answers.values().sum::<usize>();
    assert_eq!(report.bytes_received(), received);
}

fn causes(network: &Network, index: NodeIndex) -> Vec<Cause> {
    network.touched(index).unwrap().records().map(|record| record.cause).collect()
}

#[test]
fn a_node_remembers_its_last_lookups_and_why() {
    let mut network = Stage::joined(NetworkSettings { seed: 4, ..NetworkSettings::default() }, 80);
    let (joined, other) = (NodeIndex(79), NodeIndex(5));
    let after_joining = causes(&network, joined);
    assert_eq!(after_joining[0], Cause::Join);
    let refreshes = after_joining.iter().filter(|&&cause| cause == Cause::Refresh).count();
    assert_eq!(refreshes, after_joining.len() - 1);
    assert!((2..=8).contains(&refreshes), "{refreshes}");

    find_node(&mut network, joined, Id::of_name("target"));
    add(&mut network, joined, Id::of_name("key"), Value::bytes("value"));
    assert!(causes(&network, joined).ends_with(&[Cause::Search, Cause::Store]));

    let hours = network.now() + Duration::from_secs(2 * 3_600);
    while !network.advance(hours, 10_000) {}
    let all = network.alive().flat_map(|index| causes(&network, index));
    assert!(all.into_iter().any(|cause| cause == Cause::Replicate));

    for _ in 0..40 {
        find_node(&mut network, other, Id::of_name("target"));
    }
    assert_eq!(causes(&network, other), [Cause::Search; 16]);
}
