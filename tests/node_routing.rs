//! The routing table through the node: which contacts enter, which leave, and which are named to
//! others.

mod peer;

use kademlua::id::Id;
use kademlua::kad::lookup::Goal;
use kademlua::message::{Contact, Request, Response, Rpc};
use kademlua::node::Event;
use kademlua::time::Duration;
use kademlua::wire::Body;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use peer::{Bench, Sent, contact};

const SECOND: Duration = Duration::from_secs(1);

/// A contact that shares `bits` leading bits with the node, told apart by its port.
fn in_bucket(bits: u32, port: u16) -> Contact {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(port));
    Contact { id: Id::of_name("8001").random_at(bits, &mut rng), ..contact(port) }
}

/// A node whose farthest bucket is full: contact 9000 was seen first, 9019 last.
fn full() -> Bench {
    let mut bench = Bench::new();
    for port in 9_000..9_020 {
        bench.wait(Duration::from_millis(10));
        assert!(bench.node.introduce(bench.now, in_bucket(0, port)));
    }
    assert!(bench.node.introduce(bench.now, in_bucket(3, 9_100)), "so that bucket 0 splits off");
    bench.drain();
    bench.take_events();
    bench
}

fn knows(bench: &Bench, contact: Contact) -> bool {
    bench.node.table().entry(&contact.id).is_some_and(|e| e.contact == contact && !e.stale)
}

fn pings(sent: &[Sent]) -> Vec<&Sent> {
    sent.iter().filter(|sent| sent.asks(Rpc::Ping)).collect()
}

fn pong(bench: &mut Bench, ping: &Sent, from: Contact) -> Vec<Sent> {
    bench.receive(from.address, &ping.answer(from.id, &Response::Pong))
}

/// What the node answers to a findnode.
fn named(bench: &mut Bench, asker: Contact, target: Id) -> Vec<Contact> {
    let sent = bench.ask(asker, &Request::FindNode { target });
    let reply = sent.iter().find(|sent| sent.request().is_none()).expect("a reply");
    let Body::Answer(answer) = reply.frame().body else { panic!("contacts") };
    match answer.read(Rpc::FindNode) {
        Ok(Response::Nodes(contacts)) => contacts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stranger_enters_once_it_has_answered_a_ping() {
    let mut bench = Bench::new();
    let stranger = contact(9_001);
    let sent = bench.ask(stranger, &Request::FindNode { target: stranger.id });
    assert!(!knows(&bench, stranger));
    let ping = pings(&sent)[0].clone();
    assert_eq!(ping.to, stranger.address);
    pong(&mut bench, &ping, stranger);
    assert!(knows(&bench, stranger));
    assert!(matches!(bench.take_events()[..], [Event::ContactAdded(added)] if added == stranger));
}

#[test]
fn a_stranger_under_a_forged_address_never_enters() {
    let mut bench = Bench::new();
    let (forged, host) = (contact(9_001), contact(9_002));
    let sent = bench.ask(forged, &Request::Ping);
    // The peer at that address answers under its own id.
    pong(&mut bench, pings(&sent)[0], Contact { id: host.id, ..forged });
    bench.wait(SECOND.times(10));
    assert!(bench.node.table().is_empty());
}

#[test]
fn a_stranger_is_pinged_once_however_much_it_asks() {
    let mut bench = Bench::new();
    let asked: usize =
        (0..50).map(|_| pings(&bench.ask(contact(9_001), &Request::Ping)).len()).sum();
    assert_eq!(asked, 1);
}

#[test]
fn a_stranger_that_was_answered_elsewhere_enters_once_it_has_answered_a_ping() {
    let mut bench = Bench::new();
    let (stranger, before) = (contact(9_001), bench.node.counters());
    let sent = bench.see(stranger);
    assert_eq!(sent.len(), 1, "a ping and no answer");
    let after = bench.node.counters();
    assert_eq!((after.requests, after.datagrams_in), (before.requests, before.datagrams_in));
    assert!(sent[0].asks(Rpc::Ping) && !knows(&bench, stranger));
    assert!(bench.see(stranger).is_empty(), "once");
    pong(&mut bench, &sent[0], stranger);
    assert!(knows(&bench, stranger));
}

#[test]
fn a_contact_that_was_answered_elsewhere_was_seen() {
    let known = contact(9_001);
    let mut bench = Bench::knowing([known]);
    bench.wait(SECOND.times(20));
    let version = bench.node.table().version();
    assert!(bench.see(known).is_empty());
    assert_eq!(bench.node.table().entry(&known.id).unwrap().last_seen, bench.now);
    assert_eq!(bench.node.table().version(), version);
}

#[test]
fn a_suspect_that_was_answered_elsewhere_is_asked_back() {
    let suspect = contact(9_001);
    let mut bench = Bench::knowing([suspect]);
    bench.node.start_lookup(bench.now, Goal::Node { target: suspect.id });
    bench.drain();
    bench.wait(SECOND.times(5));
    let version = bench.node.table().version();
    let sent = bench.see(suspect);
    assert_eq!(sent.len(), 1);
    pong(&mut bench, pings(&sent)[0], suspect);
    assert!(knows(&bench, suspect));
    assert!(bench.node.table().version() > version);
}

#[test]
fn whom_nobody_can_answer_is_not_asked_back() {
    let mut bench = full();
    let own = Contact { id: bench.node.id(), ..contact(9_001) };
    assert!(bench.see(own).is_empty());
    for address in ["0.0.0.0:9001", "224.0.0.1:9001", "10.0.0.1:0", "[::]:9001", "[ff02::1]:9001"] {
        let nowhere = Contact { address: address.parse().unwrap(), ..contact(9_001) };
        assert!(bench.see(nowhere).is_empty(), "{address}");
        assert!(bench.see(Contact { id: own.id, ..nowhere }).is_empty(), "{address}");
    }
    assert_eq!(bench.node.table().len(), 21);
    assert!(bench.node.table().buckets().iter().all(|bucket| bucket.replacements().is_empty()));
}

#[test]
fn a_full_bucket_pings_its_least_recently_seen_contact_before_it_replaces_it() {
    let mut bench = full();
    let (oldest, newcomer) = (in_bucket(0, 9_000), in_bucket(0, 9_500));
    bench.wait(SECOND.times(20));
    let sent = bench.ask(newcomer, &Request::Ping);
    let asked = pings(&sent);
    assert_eq!(asked.iter().map(|ping| ping.to).collect::<Vec<_>>(), [oldest.address]);

    // It is silent twice; then the newcomer is pinged, and enters.
    let again = bench.wait(SECOND.times(2));
    assert_eq!(pings(&again)[0].to, oldest.address);
    let verify = bench.wait(SECOND.times(2));
    assert_eq!(pings(&verify)[0].to, newcomer.address);
    assert!(!knows(&bench, oldest) && !knows(&bench, newcomer));
    pong(&mut bench, pings(&verify)[0], newcomer);
    assert!(knows(&bench, newcomer));
    assert_eq!(bench.node.table().buckets()[0].live(), 20);
}

#[test]
fn a_live_contact_is_not_replaced_by_a_newcomer() {
    let mut bench = full();
    let (oldest, newcomer) = (in_bucket(0, 9_000), in_bucket(0, 9_500));
    bench.wait(SECOND.times(20));
    let sent = bench.ask(newcomer, &Request::Ping);
    pong(&mut bench, pings(&sent)[0], oldest);
    bench.wait(SECOND.times(10));
    assert!(knows(&bench, oldest) && !knows(&bench, newcomer));
    assert_eq!(bench.node.table().buckets()[0].replacements(), &[newcomer]);
    // Now another one is the least recently seen.
    let sent = bench.ask(in_bucket(0, 9_501), &Request::Ping);
    assert_eq!(pings(&sent)[0].to, in_bucket(0, 9_001).address);
}

#[test]
fn a_flood_of_newcomers_does_not_become_a_flood_of_pings() {
    let mut bench = full();
    bench.wait(SECOND.times(20));
    let mut count = 0;
    for port in 10_000..12_000 {
        let sent = bench.ask(in_bucket(0, port), &Request::Ping);
        for ping in pings(&sent) {
            let from = in_bucket(0, ping.to.port());
            pong(&mut bench, ping, from);
            count += 1;
        }
    }
    assert_eq!(count, 20, "each contact once, being fresh then");
}

#[test]
fn the_same_id_at_a_new_address_does_not_replace_a_live_contact() {
    let old = contact(9_001);
    let mut bench = Bench::knowing([old]);
    let new = Contact { id: old.id, ..contact(9_002) };
    bench.wait(SECOND.times(20));
    let sent = bench.ask(new, &Request::Ping);
    let ping = pings(&sent)[0].clone();
    assert_eq!(ping.to, old.address, "the one that is known is asked");
    pong(&mut bench, &ping, old);
    bench.wait(SECOND.times(20));
    bench.ask(new, &Request::Ping);
    assert!(knows(&bench, old));
}

#[test]
fn a_node_that_moved_enters_once_its_old_address_is_dead() {
    let old = contact(9_001);
    let mut bench = Bench::knowing([old]);
    let new = Contact { id: old.id, ..contact(9_002) };
    bench.wait(SECOND.times(20));
    bench.ask(new, &Request::Ping);
    bench.wait(SECOND.times(5));
    assert!(!knows(&bench, old));
    let sent = bench.ask(new, &Request::Ping);
    let ping = pings(&sent)[0].clone();
    assert_eq!(ping.to, new.address);
    pong(&mut bench, &ping, new);
    assert!(knows(&bench, new));
}

#[test]
fn the_asker_is_never_in_its_own_answer() {
    let mut bench = Bench::knowing((9_001..9_006).map(contact));
    for port in 9_001..9_006 {
        let asker = contact(port);
        let answer = named(&mut bench, asker, asker.id);
        assert_eq!(answer.len(), 4);
        assert!(!answer.contains(&asker));
        // Not under another id either.
        let masked = Contact { id: Id::of_name("mask"), ..asker };
        assert!(!named(&mut bench, masked, asker.id).contains(&asker));
    }
}

#[test]
fn answers_name_the_nearest_of_the_family_that_the_asker_uses() {
    let v6 = |port| Contact {
        address: format!("[2001:db8:{port}::1]:{port}").parse().unwrap(),
        ..contact(port)
    };
    let mut bench = Bench::knowing((9_001..9_006).map(contact).chain((9_006..9_011).map(v6)));
    let target = Id::of_name("target");
    let mut expected: Vec<Contact> = (9_006..9_010).map(v6).collect();
    expected.sort_by_key(|contact| target.distance(&contact.id));
    assert_eq!(named(&mut bench, v6(9_010), target), expected);
    assert!(named(&mut bench, contact(9_001), target).iter().all(|c| c.address.is_ipv4()));
}

#[test]
fn the_own_id_is_neither_asked_nor_added() {
    let (liar, own) = (contact(9_001), Id::of_name("8001"));
    let mut bench = Bench::knowing([liar]);
    let twin = Contact { id: own, ..contact(9_002) };
    assert!(pings(&bench.ask(twin, &Request::Ping)).is_empty());
    bench.node.start_lookup(bench.now, Goal::Node { target: own });
    let sent = bench.drain();
    let next = bench.receive(liar.address, &sent[0].answer_nodes(liar.id, &[twin, liar]));
    assert!(next.is_empty(), "{next:?}");
    assert_eq!(bench.node.table().len(), 1);
    assert!(!named(&mut bench, contact(9_003), own).contains(&twin));
}

#[test]
fn contacts_that_do_not_answer_are_not_named_to_others() {
    let (silent, live) = (contact(9_001), contact(9_002));
    let mut bench = Bench::knowing([silent, live]);
    let asker = contact(9_003);
    assert_eq!(named(&mut bench, asker, silent.id), [silent, live]);
    bench.node.start_lookup(bench.now, Goal::Node { target: silent.id });
    for sent in bench.drain() {
        if sent.to == live.address {
            bench.receive(live.address, &sent.answer_nodes(live.id, &[]));
        }
    }
    let pings_so_far = bench.wait(Duration::from_millis(1_500));
    assert_eq!(named(&mut bench, asker, silent.id), [live], "one silence is enough");
    let ping = pings(&pings_so_far).into_iter().find(|ping| ping.to == silent.address).unwrap();
    pong(&mut bench, ping, silent);
    assert_eq!(named(&mut bench, asker, silent.id), [silent, live], "it was a loss");
}

#[test]
fn dead_contacts_are_not_asked_while_there_are_others() {
    let (dead, live) = (contact(9_001), contact(9_002));
    let mut bench = Bench::knowing([dead, live]);
    bench.node.start_lookup(bench.now, Goal::Node { target: dead.id });
    for sent in bench.drain() {
        if sent.to == live.address {
            bench.receive(live.address, &sent.answer_nodes(live.id, &[]));
        }
    }
    bench.wait(SECOND.times(5));
    bench.node.start_lookup(bench.now, Goal::Node { target: dead.id });
    assert_eq!(bench.drain().iter().map(|sent| sent.to).collect::<Vec<_>>(), [live.address]);
}

#[test]
fn a_dead_contact_that_asks_something_is_back_after_a_ping() {
    let back = contact(9_001);
    let mut bench = Bench::knowing([back]);
    bench.node.start_lookup(bench.now, Goal::Node { target: back.id });
    bench.drain();
    bench.wait(SECOND.times(5));
    assert!(!knows(&bench, back));
    let sent = bench.ask(back, &Request::Ping);
    pong(&mut bench, pings(&sent)[0], back);
    assert!(knows(&bench, back));
}

#[test]
fn a_bucket_is_refreshed_after_an_idle_hour() {
    let mut bench = full();
    let own = bench.node.id();
    // The upkeep of the first minutes hears from nobody; every contact stays silent but one.
    let live = in_bucket(3, 9_100);
    let mut refreshed = Vec::new();
    for _ in 0..80 {
        for sent in bench.wait(SECOND.times(60)) {
            let Some(Request::FindNode { target }) = sent.request() else { continue };
            refreshed.push((bench.now, own.common_prefix(&target)));
            if sent.to == live.address {
                bench.receive(live.address, &sent.answer_nodes(live.id, &[]));
            }
        }
    }
    let start = bench.now - SECOND.times(80 * 60);
    let late = refreshed.iter().filter(|(at, _)| at.since(start) > SECOND.times(50 * 60));
    let buckets: std::collections::BTreeSet<u32> = late.map(|(_, bucket)| *bucket).collect();
    assert!(buckets.contains(&0), "{buckets:?}");
    assert!(buckets.iter().any(|bucket| *bucket >= 1), "the own one too: {buckets:?}");
}
