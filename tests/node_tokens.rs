//! Write tokens: a store that knows of them is kept only from an address that is the sender's own,
//! and a node brings its own values where a token is wanted.

mod peer;

use std::net::SocketAddr;

use kademlua::bencode::{Item, Value};
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::{
    Contact, CopyOf, Request, Response, Rpc, RpcError, StoreMode, StoreRequest, TransactionId,
};
use kademlua::node::{Event, Node, StoreReport};
use kademlua::store::{Party, Standing};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{AMPLIFICATION_MAX, Body};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use peer::{Bench, Sent, contact, datagram};

const EPOCH: Duration = Duration::from_secs(300);
const REASON: &str = "the address is not proved, send the token";

/// A node elsewhere than on this machine.
fn far(port: u16) -> Contact {
    Contact { address: ([10, 0, 0, 1], port).into(), ..contact(port) }
}

/// An id in the farthest half of the network.
fn far_id(seed: u64) -> Id {
    Id::of_name("8001").random_at(0, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn key() -> Id {
    Id::of_name("key")
}

/// A store as we send it, with an empty token or another, or as an original does.
fn store(token: Option<&[u8]>) -> StoreRequest<'_> {
    let value = Item::parse(b"5:value").unwrap();
    StoreRequest { key: key(), value, mode: StoreMode::Add, copy: None, token }
}

/// What the node answers to a store.
fn answer(bench: &mut Bench, from: Contact, store: StoreRequest<'_>) -> Response {
    reply(bench, from, store).expect("a response to a store")
}

/// The same, or that the call failed.
fn reply(bench: &mut Bench, from: Contact, store: StoreRequest<'_>) -> Result<Response, RpcError> {
    let request = datagram(from.id, TransactionId::new(*b"question"), &Request::Store(store));
    let sent = bench.receive(from.address, &request);
    let reply = sent.iter().find(|sent| sent.request().is_none()).expect("a reply");
    assert!(reply.bytes.len() <= AMPLIFICATION_MAX * request.len());
    match reply.frame().body {
        Body::Answer(answer) => Ok(answer.read(Rpc::Store).expect("a response to a store")),
        Body::Error(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// The token that the node gives to a sender without one, or with a wrong one.
fn token_from(bench: &mut Bench, from: Contact, instead_of: &[u8]) -> Vec<u8> {
    let before = bench.node.store().value_count();
    let token = match answer(bench, from, store(Some(instead_of))) {
        Response::Refused { token: Some(token), .. } => token,
        other => panic!("{other:?}"),
    };
    assert_eq!(bench.node.store().value_count(), before, "nothing is kept");
    token
}

fn is_kept(bench: &Bench, publisher: Contact) -> bool {
    let mut stored = bench.node.store().stored(&key());
    stored.any(|stored| stored.publisher == Party::Node(publisher))
}

#[test]
fn a_strangers_store_is_kept_when_it_comes_with_the_token() {
    let (mut bench, stranger) = (Bench::new(), far(9_001));
    let token = token_from(&mut bench, stranger, b"");
    assert_eq!(answer(&mut bench, stranger, store(Some(&token))), Response::Stored);
    assert!(is_kept(&bench, stranger));
    // The next store needs it too: somebody else may have written this address on it.
    assert_eq!(token_from(&mut bench, stranger, b""), token);
    assert_eq!(answer(&mut bench, stranger, store(Some(&token))), Response::Stored);
}

fn standing(bench: &Bench, publisher: Contact) -> Option<Standing> {
    let mut stored = bench.node.store().stored(&key());
    stored.find(|stored| stored.publisher == Party::Node(publisher)).map(|stored| stored.standing)
}

#[test]
fn what_a_store_stands_on_is_told_by_the_datagram_alone() {
    let (known, publisher) = (far(9_001), far(9_002));
    let copy = |publisher| Some(CopyOf { publisher, age: Duration::from_secs(5) });
    let token = token_from(&mut Bench::knowing([known]), known, b"");
    for (from, token, copy, expected) in [
        (known, Some(&token[..]), None, Some(Standing::Published)),
        (known, Some(&token[..]), copy(None), Some(Standing::Published)),
        (known, Some(&token[..]), copy(Some(known)), Some(Standing::Published)),
        (known, Some(&token[..]), copy(Some(publisher)), Some(Standing::Hearsay)),
        (known, None, None, Some(Standing::Claimed)),
        (known, None, copy(None), None),
        (known, None, copy(Some(publisher)), None),
        (known, Some(b""), None, None),
        (known, Some(&[0; 16]), None, None),
        (known, Some(b""), copy(Some(publisher)), None),
        (contact(9_001), None, None, Some(Standing::Published)),
        (contact(9_001), None, copy(Some(publisher)), Some(Standing::Hearsay)),
        (contact(9_001), Some(b"forged"), None, Some(Standing::Published)),
    ] {
        let mut bench = Bench::knowing([known]);
        let response = answer(&mut bench, from, StoreRequest { copy, ..store(token) });
        let publisher = copy.and_then(|copy| copy.publisher).unwrap_or(from);
        assert_eq!(standing(&bench, publisher), expected, "{token:?} {copy:?}: {response:?}");
        assert_eq!(matches!(response, Response::Stored), expected.is_some());
        let right = matches!(&response, Response::Refused { token: Some(right), .. } if *right == token_from(&mut bench, known, b""));
        assert!(expected.is_some() || right, "the right token comes with the refusal");
    }
}

#[test]
fn a_token_of_another_address_or_node_or_time_is_answered_with_the_right_one() {
    let (mut bench, stranger) = (Bench::new(), far(9_001));
    let token = token_from(&mut bench, stranger, b"");
    let elsewhere = Contact { address: ([10, 0, 0, 2], 9_001).into(), ..stranger };
    let port = Contact { address: far(9_002).address, ..stranger };
    for thief in [elsewhere, port] {
        let right = token_from(&mut bench, thief, &token);
        assert_ne!(right, token);
    }
    let foreign = token_from(&mut Bench::seeded([8; 32]), stranger, b"");
    assert_eq!(token_from(&mut bench, stranger, &foreign), token);
    for forged in [&token[1..], &[&token[..], b"x"].concat(), &[0; 16], &[b'x'; 1_000]] {
        assert_eq!(token_from(&mut bench, stranger, forged), token);
    }
    bench.wait(EPOCH.times(2));
    assert_ne!(token_from(&mut bench, stranger, &token), token);
}

#[test]
fn a_token_is_good_for_an_epoch_at_least() {
    let (mut bench, stranger) = (Bench::new(), far(9_001));
    let token = token_from(&mut bench, stranger, b"");
    bench.wait(EPOCH);
    assert_eq!(answer(&mut bench, stranger, store(Some(&token))), Response::Stored);
}

#[test]
fn a_copy_needs_a_token_as_well() {
    let (mut bench, holder, publisher) = (Bench::new(), far(9_001), far(9_002));
    let copy = CopyOf { publisher: Some(publisher), age: Duration::from_secs(5) };
    let with = |token| StoreRequest { copy: Some(copy), ..store(Some(token)) };
    let Response::Refused { token: Some(token), reason } = answer(&mut bench, holder, with(b""))
    else {
        panic!("a token")
    };
    assert_eq!(reason, REASON);
    assert!(!is_kept(&bench, publisher));
    assert_eq!(answer(&mut bench, holder, with(&token)), Response::Stored);
    assert!(is_kept(&bench, publisher));
}

#[test]
fn a_token_proves_an_address_for_longer_answers_too() {
    let mut bench = Bench::knowing((9_100..9_120).map(far));
    let stranger = far(9_001);
    let named = |bench: &mut Bench| {
        let request = datagram(
            stranger.id,
            TransactionId::new(*b"question"),
            &Request::FindNode { target: key() },
        );
        let sent = bench.receive(stranger.address, &request[..81]);
        let reply = sent.iter().find(|sent| sent.request().is_none()).expect("a reply");
        let Body::Answer(answer) = reply.frame().body else { panic!("a response") };
        match answer.read(Rpc::FindNode) {
            Ok(Response::Nodes(nodes)) => nodes.len(),
            other => panic!("{other:?}"),
        }
    };
    let before = named(&mut bench);
    let token = token_from(&mut bench, stranger, b"");
    assert_eq!(named(&mut bench), before, "who was only given a token has proved nothing");
    answer(&mut bench, stranger, store(Some(&token)));
    assert!(named(&mut bench) > before, "{before}");
}

#[test]
fn a_contact_needs_its_token_and_loopback_none() {
    let known = far(9_001);
    let mut bench = Bench::knowing([known]);
    let token = token_from(&mut bench, known, b"");
    assert_eq!(answer(&mut bench, known, store(Some(&token))), Response::Stored);
    assert_eq!(answer(&mut bench, contact(9_002), store(Some(b"forged"))), Response::Stored);
    let impostor = Contact { address: far(9_003).address, ..known };
    token_from(&mut bench, impostor, b"");
}

#[test]
fn a_refusal_reads_as_one_to_an_original_too() {
    let refused = |bench: &mut Bench, store| match reply(bench, contact(9_001), store) {
        Ok(Response::Refused { reason, .. }) => Some(reason),
        Err(RpcError::Failed) => None,
        other => panic!("{other:?}"),
    };
    let long = Value::bytes("v".repeat(16_000));
    let deep = format!("{}{}", "l".repeat(61), "e".repeat(61));
    for value in [long.item(), Item::parse(deep.as_bytes()).unwrap()] {
        let mut bench = Bench::new();
        let original = StoreRequest { value, ..store(None) };
        assert_eq!(
            refused(&mut bench, original),
            None,
            "call 131, which an original reads as false"
        );
        assert!(refused(&mut bench, StoreRequest { value, ..store(Some(b"")) }).is_some());
    }
}

/// Whoever sends what is too large anyway does not have it taken apart.
#[test]
fn the_size_of_a_value_is_looked_at_before_what_is_in_it() {
    let deep_and_long = format!("{}16000:{}{}", "l".repeat(61), "v".repeat(16_000), "e".repeat(61));
    let value = Item::parse(deep_and_long.as_bytes()).unwrap();
    match reply(&mut Bench::new(), contact(9_001), StoreRequest { value, ..store(Some(b"")) }) {
        Ok(Response::Refused { reason, .. }) => assert!(reason.contains("16128 bytes"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn originals_are_taken_without_unless_the_setting_asks_for_tokens() {
    let stranger = far(9_001);
    assert_eq!(answer(&mut Bench::new(), stranger, store(None)), Response::Stored);

    let mut config = Config::default();
    config.set("require_tokens", 1.0).unwrap();
    let now = Instant::from_micros(1);
    let mut bench = Bench::with(Node::new(now, Id::of_name("8001"), config, [7; 32]));
    // The table has no room for it.
    for number in 0..20 {
        let id = far_id(number);
        bench.node.introduce(now, Contact { id, address: ([10, 1, 0, number as u8], 1).into() });
    }
    let stranger = Contact { id: far_id(100), ..stranger };
    let sent = bench.ask(stranger, &Request::Store(store(None)));
    assert!(matches!(sent[0].frame().body, Body::Error(RpcError::Failed)));
    let ping = sent.iter().find(|sent| sent.asks(Rpc::Ping)).expect("a chance to prove itself");
    let copy = Some(CopyOf { publisher: None, age: Duration::ZERO });
    let refused = answer(&mut bench, stranger, StoreRequest { copy, ..store(None) });
    assert!(matches!(refused, Response::Refused { token: Some(_), .. }), "{refused:?}");
    assert_eq!(bench.node.store().value_count(), 0);
    assert_eq!(answer(&mut bench, contact(9_002), store(None)), Response::Stored);

    // It is pinged, and taken once it has answered, and its id counts as claimed.
    bench.receive(stranger.address, &ping.answer(stranger.id, &Response::Pong));
    assert_eq!(answer(&mut bench, stranger, store(None)), Response::Stored);
    assert_eq!(standing(&bench, stranger), Some(Standing::Claimed));
    let elsewhere = Contact { address: far(9_005).address, ..stranger };
    assert_eq!(reply(&mut bench, elsewhere, store(None)), Err(RpcError::Failed));
}

#[test]
fn the_refusal_of_the_shortest_store_is_no_amplification() {
    let mut bench = Bench::new();
    let value = Item::parse(b"le").unwrap();
    // `answer` looks at the length.
    answer(&mut bench, far(9_001), StoreRequest { value, ..store(Some(b"")) });
}

/// Stores a value at one holder that answers the nth store it gets, from 0, as it is told.
fn stored_at(
    bench: &mut Bench,
    holder: Contact,
    respond: impl Fn(usize, &Sent) -> Option<Response>,
) -> (StoreReport, Vec<Sent>) {
    bench.node.start_store(bench.now, key(), Value::bytes("value"), StoreMode::Add).unwrap();
    let (mut count, mut stores) = (0, Vec::new());
    let (event, _) = bench.converse(&mut |sent| {
        assert_eq!(sent.to, holder.address);
        let response = match sent.request()?.kind() {
            Rpc::Store => {
                let response = respond(count, sent);
                stores.push(sent.clone());
                count += 1;
                response?
            }
            Rpc::FindNode => Response::Nodes(Vec::new()),
            _ => Response::Pong,
        };
        Some((Duration::from_millis(20), sent.answer(holder.id, &response)))
    });
    match event {
        Event::StoreDone(report) => (report, stores),
        other => panic!("{other:?}"),
    }
}

fn token_in(sent: &Sent) -> Vec<u8> {
    match sent.request() {
        Some(Request::Store(store)) => store.token.expect("we know of tokens").to_vec(),
        other => panic!("{other:?} is no store"),
    }
}

/// A holder that wants this token.
fn wants(token: &[u8]) -> impl Fn(usize, &Sent) -> Option<Response> {
    move |_, sent| match token_in(sent) == token {
        true => Some(Response::Stored),
        false => Some(refused(REASON, token)),
    }
}

/// The refusal that gives a token.
fn refused(reason: &str, token: &[u8]) -> Response {
    Response::Refused { reason: reason.into(), token: Some(token.to_vec()) }
}

fn bytes(sent: &[Sent]) -> usize {
    sent.iter().map(|sent| sent.bytes.len()).sum()
}

#[test]
fn a_store_is_sent_once_more_with_the_token_and_the_report_counts_both() {
    let holder = far(9_001);
    let mut bench = Bench::knowing([holder]);
    let before = bench.node.counters();
    let (report, stores) = stored_at(&mut bench, holder, wants(b"the token"));
    assert_eq!(stores.iter().map(token_in).collect::<Vec<_>>(), [&b""[..], b"the token"]);
    assert_eq!((&report.stored[..], &report.refused[..]), (&[holder][..], &[][..]));
    let delivery = &report.deliveries[0];
    assert_eq!((report.deliveries.len(), delivery.attempts, delivery.answers), (1, 2, 2));
    assert_eq!(delivery.bytes_sent, bytes(&stores));
    assert_eq!(delivery.took, Duration::from_millis(20), "of the last round trip");
    // All that went in and out, pings aside: the lookup asked the holder once.
    let after = bench.node.counters();
    assert_eq!(report.messages(), 2 + 4);
    assert_eq!(report.bytes_sent() as u64, after.bytes_out - before.bytes_out);
    assert_eq!(report.bytes_received() as u64, after.bytes_in - before.bytes_in);

    // The next store has it from the beginning.
    let (report, stores) = stored_at(&mut bench, holder, wants(b"the token"));
    assert_eq!(stores.iter().map(token_in).collect::<Vec<_>>(), [b"the token"]);
    assert_eq!((report.deliveries[0].attempts, report.messages()), (1, 4));
    // And with another it is sent once more again.
    let (report, stores) = stored_at(&mut bench, holder, wants(b"another"));
    assert_eq!(stores.iter().map(token_in).collect::<Vec<_>>(), [&b"the token"[..], b"another"]);
    assert_eq!(report.stored, [holder]);
    // The old token is not tried.
    bench.wait(EPOCH);
    bench.take_events();
    let (_, stores) = stored_at(&mut bench, holder, wants(b"another"));
    assert_eq!(stores.iter().map(token_in).collect::<Vec<_>>(), [&b""[..], b"another"]);
}

#[test]
fn a_holder_that_always_wants_another_token_refuses() {
    let holder = far(9_001);
    let mut bench = Bench::knowing([holder]);
    let (report, stores) =
        stored_at(&mut bench, holder, |count, _| Some(refused("never", &[count as u8; 16])));
    assert_eq!(stores.len(), 2);
    assert_eq!(report.refused, [(holder, "never".to_owned())]);
    assert!(report.stored.is_empty() && report.silent.is_empty());
}

#[test]
fn silence_and_tokens_together_end_as_well() {
    // Silent, then it wants a token, then it is silent for good, although it is asked more often than
    // a peer that may be dead.
    const TOKENS: [&[u8]; 6] = [b"", b"", b"token", b"token", b"token", b"token"];
    let holder = far(9_001);
    let mut bench = Bench::knowing([holder]);
    let (report, stores) = stored_at(&mut bench, holder, |count, _| {
        (count == 1).then(|| refused("once more", b"token"))
    });
    assert_eq!(stores.iter().map(token_in).collect::<Vec<_>>(), TOKENS);
    assert_eq!(report.silent, [holder]);
    assert_eq!((report.deliveries[0].attempts, report.deliveries[0].answers), (6, 1));

    // It wants a token, is silent, and wants another.
    let mut bench = Bench::knowing([holder]);
    let (report, stores) = stored_at(&mut bench, holder, |count, _| {
        (count != 1).then(|| refused("once more", &[b'0' + count as u8]))
    });
    assert_eq!(stores.iter().map(token_in).collect::<Vec<_>>(), [&b""[..], b"0", b"0"]);
    assert_eq!(report.refused, [(holder, "once more".to_owned())]);
}

#[test]
fn a_token_that_is_none_is_a_refusal() {
    for token in ["65:".to_owned() + &"t".repeat(65), "i5e".into(), "le".into(), "d1:a1:be".into()]
    {
        let holder = far(9_001);
        let mut bench = Bench::knowing([holder]);
        let (report, stores) = stored_at(&mut bench, holder, |_, _| {
            let returned = format!("i0e2:no{token}");
            let values = Value::parse(format!("l{returned}e").as_bytes()).unwrap();
            let values: Vec<_> = values
                .item()
                .list()
                .unwrap()
                .map(|item| Value::parse(item.as_bytes()).unwrap())
                .collect();
            Some(Response::Returned(values))
        });
        assert_eq!(stores.len(), 1, "{token}");
        assert_eq!(report.refused, [(holder, "no".to_owned())]);
    }
}

#[test]
fn an_original_takes_what_we_store_and_sees_no_more_than_it_knows() {
    let holder = far(9_001);
    let mut bench = Bench::knowing([holder]);
    let (report, stores) = stored_at(&mut bench, holder, |_, _| Some(Response::Stored));
    assert_eq!((report.stored, stores.len()), (vec![holder], 1));
    let Body::Query(query) = stores[0].frame().body else { panic!("a request") };
    // It reads key, value, and a mode that it does not know, which means to add.
    let original = [b"d4:name5:store4:argsl20:", &key().as_bytes()[..], b"5:valuei0e"].concat();
    let asked = query.as_bytes();
    assert!(asked.starts_with(&original), "{}", asked.escape_ascii());
}

/// The stores that a node sends to a newcomer, which it tells of the values that it holds.
fn handed_over(bench: &mut Bench, newcomer: Contact) -> Vec<Sent> {
    let mut sent = bench.ask(newcomer, &Request::Ping);
    let ping = sent.iter().find(|sent| sent.asks(Rpc::Ping)).expect("strangers are pinged");
    sent = bench.receive(newcomer.address, &ping.answer(newcomer.id, &Response::Pong));
    sent.extend(bench.wait(Duration::from_millis(1)));
    stores_to(sent, newcomer.address)
}

fn stores_to(sent: Vec<Sent>, to: SocketAddr) -> Vec<Sent> {
    sent.into_iter().filter(|sent| sent.to == to && sent.asks(Rpc::Store)).collect()
}

#[test]
fn a_copy_is_passed_on_once_more_with_the_token() {
    let (mut bench, publisher, newcomer) = (Bench::new(), contact(9_002), far(9_001));
    bench.ask(publisher, &Request::Store(store(Some(b""))));
    let first = handed_over(&mut bench, newcomer);
    assert_eq!(first.iter().map(token_in).collect::<Vec<_>>(), [b""]);

    let refused = |sent: &Sent, token: &[u8]| sent.answer(newcomer.id, &refused(REASON, token));
    let sent = bench.receive(newcomer.address, &refused(&first[0], b"token"));
    let again = stores_to(sent, newcomer.address);
    assert_eq!(again.iter().map(token_in).collect::<Vec<_>>(), [b"token"]);
    let copy = |sent: &Sent| match sent.request() {
        Some(Request::Store(store)) => {
            (store.key, store.value.bytes().map(<[u8]>::to_vec), store.copy)
        }
        other => panic!("{other:?} is no store"),
    };
    assert_eq!(copy(&again[0]), copy(&first[0]));
    assert_eq!(copy(&again[0]).2.expect("a copy").publisher, Some(publisher));

    // A holder that wants yet another token does not get the store a third time.
    let sent = bench.receive(newcomer.address, &refused(&again[0], b"other"));
    assert!(stores_to(sent, newcomer.address).is_empty());
    let later = bench.wait(Duration::from_secs(60));
    assert!(stores_to(later, newcomer.address).is_empty());
}

#[test]
fn copies_that_are_refused_for_ever_leave_room_for_the_next() {
    let (mut bench, newcomer) = (Bench::new(), far(9_001));
    for number in 0..300 {
        let value = Value::integer(number.into());
        let store = StoreRequest { value: value.item(), ..store(Some(b"")) };
        bench.ask(contact(10_000 + number), &Request::Store(store));
        bench.wait(Duration::from_secs(2));
    }
    let mut open = handed_over(&mut bench, newcomer);
    let mut count = 0;
    // One begins every 200 µs.
    for _ in 0..1_000 {
        assert!(open.len() <= 72, "{} at once", open.len());
        count += open.len();
        let mut next = Vec::new();
        for sent in open {
            let refused = sent.answer(newcomer.id, &refused(REASON, b"never the right one"));
            next.extend(bench.receive(newcomer.address, &refused));
        }
        next.extend(bench.wait(Duration::from_millis(1)));
        open = stores_to(next, newcomer.address);
    }
    assert_eq!(count, 2 * 300);
}

#[test]
fn two_nodes_agree() {
    // The other gets what one sends, under the address of the sender.
    let (mut publisher, mut holder) = (Bench::new(), Bench::seeded([9; 32]));
    let at = far(9_001);
    publisher.node = Node::new(publisher.now, Id::of_name("9002"), Config::default(), [3; 32]);
    holder.node = Node::new(holder.now, at.id, Config::default(), [4; 32]);
    assert!(publisher.node.introduce(publisher.now, at));
    publisher.drain();
    let value = Value::bytes("value");
    publisher.node.start_store(publisher.now, key(), value, StoreMode::Add).unwrap();
    let source = far(9_002).address;
    let (event, log) = publisher.converse(&mut |sent| {
        let replies = holder.receive(source, &sent.bytes);
        let reply = replies.into_iter().find(|reply| reply.request().is_none())?;
        Some((Duration::from_millis(10), reply.bytes))
    });
    let Event::StoreDone(report) = event else { panic!("{event:?}") };
    assert_eq!(report.stored, [at]);
    assert_eq!(report.deliveries[0].attempts, 2);
    assert_eq!(log.iter().filter(|(_, sent)| sent.asks(Rpc::Store)).count(), 2);
    assert!(is_kept(&holder, Contact { address: source, ..contact(9_002) }));
}
