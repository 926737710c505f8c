//! Calls: which replies count, how long a node waits for them, and that the number in flight is
//! bounded whatever others send.

mod peer;

use std::net::SocketAddr;

use kademlua::id::Id;
use kademlua::kad::lookup::{End, Goal, LookupRecord, Outcome};
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::node::{CallError, Event, Input, Output};
use kademlua::time::Duration;

use peer::{Bench, Sent, contact, datagram};

const SECOND: Duration = Duration::from_secs(1);

/// Starts a ping and returns its datagram.
fn ping(bench: &mut Bench, to: Contact) -> Sent {
    bench.node.start_ping(bench.now, to.into());
    bench.drain().remove(0)
}

fn pong(sent: &Sent, from: Contact) -> Vec<u8> {
    sent.answer(from.id, &Response::Pong)
}

/// How the calls ended, in order.
fn outcomes(bench: &mut Bench) -> Vec<Result<Response, CallError>> {
    let outcome = |event| match event {
        Event::CallDone { outcome, .. } => Some(outcome),
        _ => None,
    };
    bench.take_events().into_iter().filter_map(outcome).collect()
}

#[test]
fn a_reply_counts_once_and_only_from_whom_was_asked() {
    let (asked, other) = (contact(9001), contact(9002));
    let mut bench = Bench::new();
    let sent = ping(&mut bench, asked);
    let reply = pong(&sent, asked);

    bench.receive(other.address, &reply);
    bench.receive(asked.address, &pong(&sent, other));
    let mut guessed = reply.clone();
    guessed[28] ^= 1;
    bench.receive(asked.address, &guessed);
    assert_eq!((outcomes(&mut bench).len(), bench.node.counters().dropped), (0, 3));

    bench.receive(asked.address, &reply);
    assert_eq!(outcomes(&mut bench), [Ok(Response::Pong)]);
    bench.receive(asked.address, &reply);
    assert_eq!((outcomes(&mut bench).len(), bench.node.counters().dropped), (0, 4));
}

#[test]
fn a_reply_that_comes_too_late_does_not_count() {
    let mut bench = Bench::new();
    let sent = ping(&mut bench, contact(9001));
    bench.wait(SECOND.times(2));
    assert_eq!(outcomes(&mut bench), [Err(CallError::TimedOut)]);
    bench.receive(contact(9001).address, &pong(&sent, contact(9001)));
    assert!(outcomes(&mut bench).is_empty());
    assert!(bench.node.table().is_empty());
}

#[test]
fn an_answer_that_makes_no_sense_ends_the_call() {
    let mut bench = Bench::new();
    bench.node.start_get_socket(bench.now, contact(9001).into());
    let sent = bench.drain().remove(0);
    bench.receive(contact(9001).address, &pong(&sent, contact(9001)));
    assert_eq!(outcomes(&mut bench), [Err(CallError::BadReply)]);
}

#[test]
fn rpc_ids_do_not_repeat() {
    let mut bench = Bench::new();
    let ids: std::collections::BTreeSet<TransactionId> =
        (0..1_000).map(|_| ping(&mut bench, contact(9001)).frame().transaction).collect();
    assert_eq!(ids.len(), 1_000);
}

/// A lookup that only asks a contact that is silent, after round trips of this length.
fn silent_lookup(round_trip: Option<Duration>) -> LookupRecord {
    let mut bench = Bench::new();
    for _ in 0..round_trip.map_or(0, |_| 30) {
        let sent = ping(&mut bench, contact(9001));
        bench.wait(round_trip.unwrap_or_default());
        bench.receive(contact(9001).address, &pong(&sent, contact(9001)));
    }
    bench.node.introduce(bench.now, contact(9002));
    bench.take_events();
    bench.node.start_lookup(bench.now, Goal::Node { target: contact(9002).id });
    for sent in bench.drain() {
        if sent.to == contact(9001).address {
            bench.receive(sent.to, &sent.answer_nodes(contact(9001).id, &[]));
        }
    }
    bench.wait(SECOND.times(2));
    let record = |event| match event {
        Event::LookupDone(record) => Some(record),
        _ => None,
    };
    bench.take_events().into_iter().find_map(record).expect("a lookup ends")
}

#[test]
fn timeouts_follow_the_measured_round_trips() {
    let timeout = |millis: u64| silent_lookup(Some(Duration::from_millis(millis))).duration();
    // Before anything is measured.
    assert_eq!(silent_lookup(None).duration(), Duration::from_millis(1_500));
    assert_eq!(timeout(1), Duration::from_millis(250));
    assert!((400..600).contains(&(timeout(400).as_micros() / 1_000)));
    assert!((1_450..=1_500).contains(&(timeout(1_450).as_micros() / 1_000)));
    assert!(timeout(1_499) <= Duration::from_millis(1_500));
}

#[test]
fn a_contact_that_is_slower_than_most_is_given_its_time() {
    let mut bench = Bench::new();
    let (quick, slow) = (contact(9001), contact(9002));
    for _ in 0..30 {
        let sent = ping(&mut bench, quick);
        bench.receive(quick.address, &pong(&sent, quick));
    }
    let sent = bench.ask(slow, &Request::Ping);
    let question = sent.iter().find(|sent| sent.asks(Rpc::Ping)).unwrap();
    bench.wait(Duration::from_millis(400));
    bench.receive(slow.address, &pong(question, slow));
    assert!(bench.node.table().entry(&slow.id).is_some());

    for _ in 0..30 {
        let sent = ping(&mut bench, quick);
        bench.receive(quick.address, &pong(&sent, quick));
    }
    bench.node.start_lookup(bench.now, Goal::Node { target: slow.id });
    let sent = bench.drain();
    let question = sent.iter().find(|sent| sent.to == slow.address).unwrap();
    bench.wait(Duration::from_millis(400));
    bench.receive(slow.address, &question.answer_nodes(slow.id, &[]));
    assert_eq!(bench.node.table().entry(&slow.id).map(|entry| entry.failures), Some(0));
}

#[test]
fn a_contact_is_dead_after_two_pings_without_answer() {
    let silent = contact(9001);
    let mut bench = Bench::knowing([silent]);
    bench.node.start_lookup(bench.now, Goal::Node { target: silent.id });
    assert!(bench.drain()[0].asks(Rpc::FindNode));
    let pings = bench.wait(SECOND.times(5));
    let pings = pings.iter().filter(|sent| sent.asks(Rpc::Ping) && sent.to == silent.address);
    assert_eq!(pings.count(), 2);
    let lost = |event: &Event| matches!(event, Event::ContactLost(contact) if *contact == silent);
    assert_eq!(bench.take_events().iter().filter(|event| lost(event)).count(), 1);
    assert!(bench.node.table().is_empty());
}

#[test]
fn a_contact_that_answers_the_second_ping_lives_on() {
    let slow = contact(9001);
    let mut bench = Bench::knowing([slow]);
    bench.node.start_lookup(bench.now, Goal::Node { target: slow.id });
    bench.drain();
    assert!(bench.wait(Duration::from_millis(1_500))[0].asks(Rpc::Ping));
    let second = bench.wait(Duration::from_millis(1_500)).remove(0);
    bench.receive(slow.address, &pong(&second, slow));
    bench.wait(SECOND.times(5));
    assert_eq!(bench.node.table().len(), 1);
}

/// A stranger with a number; addresses do not repeat.
fn stranger(number: u32) -> Contact {
    let [_, b, c, d] = number.to_be_bytes();
    Contact { id: Id::of_name(number.to_be_bytes()), address: ([10, b, c, d], 8001).into() }
}

#[test]
fn a_flood_of_strangers_leaves_the_node_as_it_was() {
    let friends: Vec<Contact> = (9001..9011).map(contact).collect();
    // What no limit keeps out must do no harm either.
    let mut bench = Bench::without_limits();
    friends.iter().for_each(|&friend| assert!(bench.node.introduce(bench.now, friend)));
    bench.drain();
    let mut pings = 0;
    for number in 0..100_000 {
        let sent = bench.ask(stranger(number), &Request::FindNode { target: Id::of_name("x") });
        assert_eq!(sent.iter().filter(|sent| sent.request().is_none()).count(), 1);
        pings += sent.iter().filter(|sent| sent.asks(Rpc::Ping)).count();
        pings += bench.wait(Duration::from_micros(10)).len();
    }
    // The flood lasts a second: the budget of all for one second, and a quarter of that at once.
    assert!((1..=10_300).contains(&pings), "{pings} pings");
    bench.wait(SECOND.times(5));
    let table = bench.node.table();
    assert_eq!(table.len(), friends.len());
    let waiting = table.buckets().iter().map(|bucket| bucket.replacements().len());
    assert!(waiting.max().unwrap() <= 20);
    assert!(friends.iter().all(|friend| table.entry(&friend.id).is_some()));
    // Room for a true one again.
    let sent = bench.ask(stranger(200_000), &Request::Ping);
    assert!(sent.iter().any(|sent| sent.asks(Rpc::Ping)));
}

#[test]
fn a_dead_contact_is_noticed_during_a_flood_of_strangers() {
    let dead = contact(9_001);
    let mut bench = Bench::knowing([dead]);
    bench.node.start_lookup(bench.now, Goal::Node { target: dead.id });
    bench.drain();
    for number in 0..50_000 {
        bench.ask(stranger(number), &Request::Ping);
        bench.wait(Duration::from_micros(100));
    }
    assert!(bench.node.table().is_empty());
}

#[test]
fn a_flood_of_live_strangers_fills_a_bounded_table() {
    // What no limit keeps out must do no harm either.
    let mut bench = Bench::without_limits();
    for number in 0..20_000 {
        let from = stranger(number);
        for sent in bench.ask(from, &Request::Ping) {
            if sent.asks(Rpc::Ping) && sent.to == from.address {
                bench.receive(from.address, &pong(&sent, from));
            }
        }
        bench.take_events();
    }
    let table = bench.node.table();
    assert!((200..=320).contains(&table.len()), "{} contacts", table.len());
    for bucket in table.buckets() {
        assert!(bucket.live() <= 20 && bucket.replacements().len() <= 20);
    }
}

#[test]
fn calls_in_flight_are_bounded() {
    let mut bench = Bench::new();
    let mut sent = 0;
    for _ in 0..5_000 {
        bench.node.start_ping(bench.now, contact(9001).into());
        sent += bench.drain().len();
    }
    assert_eq!(sent, 4_096);
    assert_eq!(outcomes(&mut bench), vec![Err(CallError::Busy); 5_000 - 4_096]);
    bench.wait(SECOND.times(2));
    assert_eq!(outcomes(&mut bench), vec![Err(CallError::TimedOut); 4_096]);
    ping(&mut bench, contact(9001));
}

#[test]
fn lookups_under_way_are_bounded() {
    let mut bench = Bench::knowing([contact(9001)]);
    for number in 0..1_100_u32 {
        bench.node.start_lookup(bench.now, Goal::Node { target: stranger(number).id });
    }
    bench.drain();
    assert_eq!(bench.node.operation_count(), 1_024);
    let overloaded = |event: &Event| {
        matches!(event, Event::LookupDone(LookupRecord { end: End::Overloaded, .. }))
    };
    assert_eq!(bench.take_events().iter().filter(|event| overloaded(event)).count(), 1_100 - 1_024);
    bench.wait(SECOND.times(5));
    assert_eq!(bench.node.operation_count(), 0);
}

#[test]
fn a_store_when_no_call_is_left_ends_and_says_so() {
    let mut bench = Bench::knowing([contact(9001)]);
    for _ in 0..4_096 {
        bench.node.start_ping(bench.now, contact(9002).into());
    }
    let (key, value) = (Id::of_name("key"), kademlua::bencode::Value::bytes("value"));
    bench.node.start_store(bench.now, key, value, kademlua::message::StoreMode::Add).unwrap();
    bench.drain_all();
    let report = bench.take_events().into_iter().find_map(|event| match event {
        Event::StoreDone(report) => Some(report),
        _ => None,
    });
    let report = report.expect("a store ends");
    assert!(report.kept_here && report.stored.is_empty());
    assert_eq!(report.lookup.queries[0].outcome, Outcome::Failed);
    assert_eq!(bench.node.operation_count(), 0);
}

#[test]
fn a_node_that_bootstraps_from_itself_or_its_twin_stays_alone() {
    let mut bench = Bench::new();
    let own: SocketAddr = contact(8001).address;
    bench.node.start_bootstrap(bench.now, &[own]);
    let mut queue = bench.drain();
    // Everything that it sends to its own address comes back in.
    for _ in 0..20 {
        let sent: Vec<Sent> = std::mem::take(&mut queue);
        queue = sent.iter().flat_map(|sent| bench.receive(own, &sent.bytes)).collect();
    }
    assert!(queue.is_empty());
    let events = bench.take_events();
    assert!(
        matches!(&events[..], [Event::Bootstrapped { answered: 0, silent, .. }] if *silent == [own])
    );
    assert!(bench.node.table().is_empty());
}

#[test]
fn forged_requests_from_the_own_address_make_no_noise() {
    let mut bench = Bench::new();
    let own: SocketAddr = contact(8001).address;
    let mut queue = vec![Sent::new(
        own,
        datagram(contact(9001).id, TransactionId::new([1; 8]), &Request::Ping),
    )];
    let mut total = 0;
    while let Some(sent) = queue.pop() {
        queue.extend(bench.receive(own, &sent.bytes));
        total += 1;
        assert!(total < 10, "the node talks to itself");
    }
    bench.wait(SECOND.times(2));
    assert!(bench.node.table().is_empty());
}

#[test]
fn nothing_is_due_when_nothing_goes_on() {
    let mut bench = Bench::new();
    bench.node.handle(bench.now, Input::Timeout);
    let Output::Timeout(at) = bench.node.poll_output() else { panic!("nothing to do") };
    assert_eq!(at, kademlua::time::Instant::NEVER);
}
