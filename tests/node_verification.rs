//! The promise: strangers are asked back fairly whatever is forged, at no cost of memory, and nothing
//! sent in a contact's name costs the contact its place.

mod peer;

use kademlua::id::Id;
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::node::Node;
use kademlua::time::Duration;
use kademlua::wire::{Dialect, Header, emit};

use peer::{Bench, Sent};

/// A node somewhere in the internet.
fn elsewhere(number: u32) -> Contact {
    let [a, b, c, d] = number.to_be_bytes();
    let id = Id::of_name(number.to_be_bytes());
    Contact { id, address: ([a | 1, b, c, d | 1], 8_001).into() }
}

fn newcomer(number: u32) -> Contact {
    let id = Id::of_name(format!("newcomer {number}"));
    Contact { id, address: ([198, 51, number as u8, 1], 8_001).into() }
}

const NEWCOMERS: u32 = 20;

/// Newcomers answer all pings that come to them.
fn answer_pings(bench: &mut Bench, mut sent: Vec<Sent>) {
    while let Some(ping) = sent.pop() {
        let newcomer = (0..NEWCOMERS).map(newcomer).find(|one| one.address == ping.to);
        if let Some(newcomer) = newcomer.filter(|_| ping.asks(Rpc::Ping)) {
            let pong = ping.answer(newcomer.id, &Response::Pong);
            sent.extend(bench.receive(newcomer.address, &pong));
        }
    }
}

fn knows(node: &Node, contact: &Contact) -> bool {
    node.table().entry(&contact.id).is_some_and(|entry| entry.contact == *contact)
}

/// How many newcomers a node knows after ten seconds of a flood, in which each of them asks once a
/// second.
fn known_after(flood: fn(u32) -> Contact, a_second: u32) -> usize {
    let mut bench = Bench::new();
    for number in 0..10 * a_second {
        bench.wait(Duration::from_micros(1_000_000 / u64::from(a_second)));
        let sent = bench.ask(flood(number), &Request::Ping);
        answer_pings(&mut bench, sent);
        let every = a_second / NEWCOMERS;
        if number % every == 0 {
            let sent = bench.ask(newcomer(number / every % NEWCOMERS), &Request::Ping);
            answer_pings(&mut bench, sent);
        }
        bench.events.clear();
    }
    (0..NEWCOMERS).filter(|&number| knows(&bench.node, &newcomer(number))).count()
}

#[test]
fn newcomers_are_validated_in_the_midst_of_forged_strangers() {
    let anywhere = |number: u32| elsewhere(number.wrapping_mul(0x9e37_79b9));
    let in_one_24 = |number: u32| {
        let port = (number >> 8) as u16 + 1;
        Contact { address: ([192, 0, 2, number as u8], port).into(), ..elsewhere(number) }
    };
    let in_their_names = |number: u32| Contact {
        address: newcomer(number * 7 % NEWCOMERS).address,
        ..elsewhere(number)
    };
    for a_second in [60, 600, 6_000] {
        assert_eq!(known_after(anywhere, a_second), 20, "anywhere, {a_second} a second");
        assert_eq!(known_after(in_one_24, a_second), 20, "in one /24, {a_second} a second");
        assert_eq!(known_after(in_their_names, a_second), 20, "theirs, {a_second} a second");
    }
}

/// The k contacts that fill the far bucket of a node, none of them seen lately.
fn with_a_full_bucket() -> (Bench, Vec<Contact>) {
    let mut bench = Bench::new();
    let own = bench.node.id();
    let far =
        (1..).map(|number| elsewhere(number << 8)).filter(|one| one.id.common_prefix(&own) == 0);
    let known: Vec<Contact> =
        far.filter(|&one| bench.node.introduce(bench.now, one)).take(20).collect();
    bench.drain();
    bench.wait(Duration::from_secs(60));
    (bench, known)
}

#[test]
fn what_strangers_forge_has_no_contact_asked_and_nobody_wait_for_its_place() {
    let (mut bench, known) = with_a_full_bucket();
    let own = bench.node.id();
    let strangers = (1..).map(|number| elsewhere(0x5000_0000 + (number << 8)));
    let far = strangers.filter(|one| one.id.common_prefix(&own) == 0).take(200);
    let mut pinged = 0;
    for stranger in far {
        for sent in bench.ask(stranger, &Request::Ping).iter().filter(|sent| sent.asks(Rpc::Ping)) {
            assert_eq!(sent.to, stranger.address);
            pinged += 1;
        }
        // In a contact's name, under another address: the same.
        let moved = Contact { id: known[pinged % 20].id, ..stranger };
        let sent = bench.ask(moved, &Request::Ping);
        assert!(sent.iter().all(|sent| sent.to == stranger.address));
    }
    assert!(pinged > 0, "who answers may have a contact asked");
    bench.wait(Duration::from_secs(20));
    let table = bench.node.table();
    assert!(table.buckets().iter().all(|bucket| bucket.replacements().is_empty()));
    assert!(known.iter().all(|contact| table.entry(&contact.id).is_some_and(|e| e.failures == 0)));
}

#[test]
fn a_stranger_that_answers_has_the_longest_unseen_contact_asked() {
    let (mut bench, known) = with_a_full_bucket();
    let own = bench.node.id();
    let mut strangers = (1..).map(|number| elsewhere(0x5000_0000 + (number << 8)));
    let stranger = strangers.find(|one| one.id.common_prefix(&own) == 0).unwrap();
    let sent = bench.ask(stranger, &Request::Ping);
    let ping = sent.iter().find(|sent| sent.asks(Rpc::Ping)).expect("a contact may have gone");
    let sent = bench.receive(stranger.address, &ping.answer(stranger.id, &Response::Pong));
    assert!(known.iter().any(|contact| contact.address == sent[0].to) && sent.len() == 1);
    let waiting = bench.node.table().buckets()[0].replacements().iter().copied();
    assert_eq!(waiting.collect::<Vec<_>>(), [stranger]);
}

#[test]
fn nothing_sent_in_its_name_costs_a_contact_its_place() {
    let (mut bench, known) = with_a_full_bucket();
    let before = bench.node.table().version();
    for number in 0..20_000_u32 {
        let target = known[number as usize % known.len()];
        let forged = match number % 3 {
            0 => target,
            1 => Contact { address: elsewhere(number << 9).address, ..target },
            _ => Contact { id: elsewhere(number << 9).id, ..target },
        };
        bench.ask(forged, &Request::Ping);
        bench.receive(target.address, &[1]);
        let reply = datagram_of_a_reply(&forged, number);
        bench.receive(forged.address, &reply);
        if number % 100 == 0 {
            bench.wait(Duration::from_millis(50));
        }
    }
    bench.wait(Duration::from_secs(10));
    let table = bench.node.table();
    assert_eq!(table.version(), before);
    for contact in known {
        let entry = table.entry(&contact.id).expect("it is there");
        assert!(entry.contact == contact && entry.failures == 0 && !entry.stale);
    }
}

/// A reply to a call that was never made.
fn datagram_of_a_reply(from: &Contact, number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let rpc_id = TransactionId::new((u64::from(number) << 7).to_be_bytes());
    emit(
        &mut out,
        &Header { dialect: Dialect::V1, from: from.id, transaction: rpc_id, asker: None },
        &Response::Pong,
    );
    out
}

/// The ping that somebody gets for asking under an id.
fn verification_ping(bench: &mut Bench, asker: Contact) -> Sent {
    let sent = bench.ask(asker, &Request::Ping);
    let is_ping = |sent: &Sent| sent.to == asker.address && sent.asks(Rpc::Ping);
    sent.into_iter().find(is_ping).expect("a stranger is asked back")
}

#[test]
fn one_verification_ping_has_a_contact_asked_once_however_often_it_is_answered() {
    let (mut bench, known) = with_a_full_bucket();
    let (victim, attacker) = (known[0], newcomer(1));
    let ping = verification_ping(&mut bench, attacker);
    let mut asked = 0;
    // Until the node has forgotten the contact that it expected there, while the answer still
    // counts.
    bench.wait(Duration::from_millis(1_600));
    for _ in 0..200 {
        // It says that the contact lives here.
        let sent = bench.receive(attacker.address, &ping.answer(victim.id, &Response::Pong));
        asked += sent.iter().filter(|sent| sent.to == victim.address).count();
        // Nor does the same number count under another id.
        let other = ping.answer(newcomer(2).id, &Response::Pong);
        assert_eq!(bench.receive(attacker.address, &other), []);
        bench.wait(Duration::from_millis(1));
    }
    assert_eq!(asked, 1);
    assert!(!knows(&bench.node, &newcomer(2)));
}

#[test]
fn a_contact_that_was_seen_lately_is_not_asked_because_somebody_answers_in_its_name() {
    let (mut bench, known) = with_a_full_bucket();
    let victim = known[0];
    let attackers = (0..100).map(|number| elsewhere(0x5000_0000 + (number << 8)));
    let pings: Vec<Sent> = attackers.map(|one| verification_ping(&mut bench, one)).collect();
    // Until the node has forgotten the contact that it expected there.
    bench.wait(Duration::from_millis(1_600));
    bench.ask(victim, &Request::Ping);
    for ping in pings {
        assert_eq!(bench.receive(ping.to, &ping.answer(victim.id, &Response::Pong)), []);
    }
}

/// Somebody answers for others and then is silent; returns the contacts that are pinged because of
/// that.
fn answer_under_another_id(bench: &mut Bench, asker: Contact) -> Vec<Sent> {
    let ping = verification_ping(bench, asker);
    let pongs = (0..20).map(|number: u8| {
        let other = format!("{number} of {}", asker.address);
        ping.answer(Id::of_name(other), &Response::Pong)
    });
    pongs.flat_map(|pong| bench.receive(asker.address, &pong)).collect()
}

#[test]
fn one_owner_has_few_ids_asked_after_at_once() {
    let (mut bench, _) = with_a_full_bucket();
    let one = newcomer(1);
    assert_eq!(answer_under_another_id(&mut bench, one).len(), 1);
    let asked: usize = (2..16_u8)
        .map(|last| Contact { address: ([198, 51, 1, last], 8_001).into(), ..newcomer(2) })
        .map(|other| answer_under_another_id(&mut bench, other).len())
        .sum();
    assert_eq!(asked, 3, "of the same subnet");
}

#[test]
fn contacts_are_checked_however_many_strangers_are_silent() {
    let (mut bench, known) = with_a_full_bucket();
    let silent = (0..200_u32).map(|number| elsewhere(0x5000_0000 + (number << 8)));
    let asked: usize = silent.map(|one| answer_under_another_id(&mut bench, one).len()).sum();
    assert!((100..=128).contains(&asked), "{asked} are asked after at once");
    let own = bench.node.id();
    let mut strangers = (1..).map(|number| elsewhere(0x6000_0000 + (number << 8)));
    let stranger = strangers.find(|one| one.id.common_prefix(&own) == 0).unwrap();
    let ping = verification_ping(&mut bench, stranger);
    let sent = bench.receive(stranger.address, &ping.answer(stranger.id, &Response::Pong));
    assert!(sent.iter().any(|sent| known.iter().any(|contact| contact.address == sent.to)));
}

#[test]
fn a_stranger_that_answers_in_our_own_name_is_not_taken_for_us() {
    let mut bench = Bench::new();
    let own = bench.node.id();
    let stranger = newcomer(1);
    let ping = verification_ping(&mut bench, stranger);
    assert_eq!(bench.receive(stranger.address, &ping.answer(own, &Response::Pong)), []);
    bench.wait(Duration::from_secs(2));
    // Our own address would not be asked.
    let ping = verification_ping(&mut bench, stranger);
    bench.receive(stranger.address, &ping.answer(stranger.id, &Response::Pong));
    assert!(knows(&bench.node, &stranger));
}
