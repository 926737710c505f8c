//! The promise: floods cost neither contacts nor memory, and others go on being answered.

mod counting;
mod peer;

use std::net::{IpAddr, SocketAddr};

use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::kad::lookup::Goal;
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::node::{Event, Node};
use kademlua::time::{Duration, Instant};
use kademlua::wire::Dialect;

use counting::live_bytes;
use peer::{Bench, Sent, contact, datagram};

/// A node somewhere in a private network.
fn elsewhere(number: u32) -> Contact {
    let id = Id::of_name(number.to_string());
    Contact { id, address: SocketAddr::new(IpAddr::V4((0x0a00_0000 + number).into()), 8_001) }
}

/// Answers the pings that the node sends to these contacts.
fn answer_pings(bench: &mut Bench, contacts: &[Contact], mut sent: Vec<Sent>) {
    while !sent.is_empty() {
        let asked = std::mem::take(&mut sent);
        for request in asked.iter().filter(|sent| sent.asks(Rpc::Ping)) {
            if let Some(contact) = contacts.iter().find(|known| known.address == request.to) {
                let pong = request.answer(contact.id, &Response::Pong);
                sent.extend(bench.receive(contact.address, &pong));
            }
        }
    }
}

/// A node with limits of its own.
fn limited(source_rate: f64, total_rate: f64) -> Bench {
    let mut config = Config::default();
    config.set("source_rate", source_rate).unwrap();
    config.set("total_rate", total_rate).unwrap();
    Bench::with(Node::new(Instant::ZERO, Id::of_name("8001"), config, [7; 32]))
}

fn is_answered(sent: &[Sent], asker: &Contact) -> bool {
    sent.iter().any(|sent| sent.to == asker.address && sent.request().is_none())
}

/// Sources that are forged cost an attacker nothing: 100,000 of them, ten times more a second than a
/// node has to answer.
#[test]
fn spoofed_sources_push_out_no_contact_take_no_memory_and_leave_contacts_their_answers() {
    const SOURCES: u32 = 100_000;
    const DATAGRAMS: u32 = 1_000_000;
    /// What a flood may make a node hold: calls to ask strangers back, contacts that wait for a
    /// place, buckets of limits, buffers.
    const MEMORY_MAX: isize = 2 << 20;

    let contacts: Vec<Contact> = (1..=60).map(|number| elsewhere(0x00ff_0000 + number)).collect();
    let mut bench = Bench::new();
    for &contact in &contacts {
        bench.node.introduce(bench.now, contact);
    }
    bench.drain();
    let known: Vec<Contact> = bench.node.table().entries().map(|entry| entry.contact).collect();
    assert!(known.len() >= 40, "{}", known.len());

    let target = Id::of_name("target");
    let requests = [Request::Ping, Request::FindNode { target }];
    let (mut asked, mut answered) = (0, 0);
    let before = live_bytes();
    let mut most = 0;
    for number in 0..DATAGRAMS {
        // Twice a second, so that its time also comes to ask contacts whether they live.
        let sent = bench.wait(Duration::from_micros(2));
        answer_pings(&mut bench, &known, sent);
        let sent = bench.ask(elsewhere(number % SOURCES), &requests[number as usize % 2]);
        answer_pings(&mut bench, &known, sent);
        if number % 1_000 == 0 {
            let contact = known[number as usize / 1_000 % known.len()];
            let sent = bench.ask(contact, &requests[0]);
            asked += 1;
            answered += u32::from(is_answered(&sent, &contact));
            answer_pings(&mut bench, &known, sent);
        }
        bench.events.clear();
        most = most.max(live_bytes() - before);
    }
    assert!(bench.node.counters().limited > u64::from(DATAGRAMS) / 2, "a flood was it");
    assert!(most < MEMORY_MAX, "{most} bytes");
    assert_eq!(answered, asked, "contacts are answered in the midst of it");

    // All that it had begun ends, and its contacts are still there.
    for _ in 0..60 {
        let sent = bench.wait(Duration::from_secs(1));
        answer_pings(&mut bench, &known, sent);
    }
    let left: Vec<Contact> = bench.node.table().entries().map(|entry| entry.contact).collect();
    assert_eq!(left, known);
    assert!(live_bytes() - before < MEMORY_MAX);
}

#[test]
fn a_flood_is_told_of_and_others_are_answered() {
    let (flood, honest) = (elsewhere(1), elsewhere(2));
    let mut bench = limited(2_000.0, 0.0);
    let (mut answered, mut told) = (0, 0);
    // Half a second of a hundred times the rate of one source; another asks a hundred times.
    for number in 0..100_000 {
        bench.now += Duration::from_micros(5);
        let sent = bench.ask(flood, &Request::Ping);
        answered += u32::from(is_answered(&sent, &flood));
        if number % 1_000 == 0 {
            let sent = bench.ask(honest, &Request::Ping);
            assert!(is_answered(&sent, &honest));
        }
        let is_flood = |event: &Event| matches!(event, Event::Flood { source, .. } if *source == flood.address.ip());
        told += bench.take_events().iter().filter(|event| is_flood(event)).count();
    }
    // Its rate of 2,000 a second, and a burst of a quarter of that, less the pings that it caused.
    assert!((1_480..=1_503).contains(&answered), "{answered}");
    assert_eq!(bench.node.counters().limited, 100_000 - u64::from(answered));
    assert!((90..=98).contains(&told), "{told}");
}

#[test]
fn what_is_no_request_is_a_flood_too() {
    let reply = {
        let mut bench = Bench::new();
        let asked = bench.ask(elsewhere(9), &Request::Ping);
        asked[0].bytes.clone()
    };
    for bytes in [&b"garbage"[..], &reply] {
        let mut bench = limited(2_000.0, 0.0);
        (0..2_000).for_each(|_| _ = bench.receive(elsewhere(1).address, bytes));
        assert!(matches!(bench.take_events()[..], [Event::Flood { .. }]), "{bytes:?}");
        assert_eq!(bench.node.counters().dropped, 2_000);
    }
}

/// A flooder in a peer's name does not know how replies of that peer begin, and a flooder with replies
/// of its own is told apart.
#[test]
fn a_flood_tells_what_only_the_source_can_send() {
    let peer = elsewhere(1);
    let mut bench = Bench::knowing([peer]);
    bench.node.start_lookup(bench.now, Goal::Node { target: peer.id });
    let asked = bench.drain();
    let answer = asked[0].answer_nodes(peer.id, &[]);
    let mut floods = |bytes: &[u8]| {
        (0..20_000).for_each(|_| _ = bench.receive(peer.address, bytes));
        let prefixes = bench.take_events().into_iter().filter_map(|event| match event {
            Event::Flood { source, reply_prefix } => {
                assert_eq!(source, peer.address.ip());
                Some(reply_prefix)
            }
            _ => None,
        });
        prefixes.collect::<Vec<_>>()
    };
    let at = Dialect::V1.offsets().expect("they are the same in all of v1").transaction;
    let prefix: [u8; 4] = answer[at..][..4].try_into().unwrap();
    let forged = floods(b"x");
    assert!(!forged.is_empty() && forged.iter().all(|known| *known == Some(prefix)));
    let mut guessed = answer.clone();
    guessed[at] ^= 1;
    assert!(floods(&guessed).iter().all(|known| *known == Some(prefix)));
    // The first of these is taken, whatever was forged; the others answer no question.
    assert!(floods(&answer).iter().all(Option::is_none));
    assert_eq!(bench.node.table().len(), 1);
}

/// A flood under a peer's address must not keep the peer's answers out.
#[test]
fn answers_to_what_was_asked_are_taken_from_a_source_beyond_its_limit() {
    let peer = elsewhere(1);
    let mut bench = Bench::knowing([peer]);
    bench.node.start_lookup(bench.now, Goal::Node { target: peer.id });
    let asked = bench.drain();
    (0..10_000).for_each(|_| _ = bench.ask(peer, &Request::Ping));
    assert!(bench.node.counters().limited > 0);
    bench.take_events();
    let answer = asked[0].answer_nodes(peer.id, &[]);
    bench.receive(peer.address, &answer);
    assert!(bench.take_events().iter().any(|event| matches!(event, Event::LookupDone(_))));
}

/// A lab of hundreds of nodes has one address.
#[test]
fn labs_on_loopback_have_no_limits() {
    let mut bench = Bench::new();
    for number in 0..100_000_u32 {
        let asker = contact(9_000 + (number % 500) as u16);
        let sent = bench.ask(asker, &Request::FindNode { target: asker.id });
        assert!(is_answered(&sent, &asker));
    }
    assert_eq!(bench.node.counters().limited, 0);
}

#[test]
fn limits_are_settings_and_0_is_none() {
    let asks = |source_rate: f64, total_rate: f64| {
        let mut bench = limited(source_rate, total_rate);
        for number in 0..10_000 {
            bench.receive(
                elsewhere(number % 3 * 256 + 1).address,
                &datagram(elsewhere(1).id, TransactionId::new(*b"question"), &Request::Ping),
            );
        }
        bench.node.counters().limited
    };
    assert_eq!(asks(0.0, 0.0), 0);
    // A quarter of the rate may come at once: of the full rate for each source, and of half of it for
    // all strangers. Pings to them count too.
    let let_in = |source_rate, total_rate| 10_000 - asks(source_rate, total_rate);
    assert!((1_480..=3 * 501).contains(&let_in(2_000.0, 0.0)));
    assert!((240..=251).contains(&let_in(0.0, 2_000.0)));
    for bad in [-1.0, 0.5, 2e6, f64::NAN] {
        assert!(Config::default().set("source_rate", bad).is_err(), "{bad}");
    }
}
