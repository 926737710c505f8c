//! The node is no amplifier: an address that is not proved gets at most three times the bytes that
//! it sent.

mod peer;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::kad::lookup::Goal;
use kademlua::message::{
    Contact, FindValue, Request, Response, Rest, Rpc, StoreMode, StoreRequest, TransactionId,
};
use kademlua::time::Duration;
use kademlua::wire::{AMPLIFICATION_MAX, Body, Dialect, Envelope, MAX_DATAGRAM, parse};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use peer::{Bench, Sent, contact, datagram};

/// A contact elsewhere than on this machine, in the farthest half of the network.
fn far(port: u16) -> Contact {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(port));
    Contact {
        id: Id::of_name("8001").random_at(0, &mut rng),
        address: ([10, 0, 0, 1], port).into(),
    }
}

/// A node that knows others, numbered from 9000: as many as a bucket takes, and one more.
fn bench() -> Bench {
    let near = Contact {
        id: Id::of_name("8001").random_at(3, &mut ChaCha8Rng::seed_from_u64(1)),
        ..far(9_100)
    };
    Bench::knowing((9_000..9_020).map(far).chain([near]))
}

/// A request as short as an original writes it.
fn unpadded(from: Contact, request: &Request<'_>) -> Vec<u8> {
    let mut bytes = datagram(from.id, TransactionId::new(*b"question"), request);
    let Ok(Envelope { body: Body::Query(query), .. }) = parse(&bytes) else { panic!("a request") };
    bytes.truncate(32 + query.as_bytes().len());
    bytes
}

fn reply(sent: Vec<Sent>) -> Sent {
    sent.into_iter().find(|sent| sent.request().is_none()).expect("a reply")
}

fn understood(kind: Rpc, reply: &Sent) -> Response {
    let Body::Answer(answer) = reply.frame().body else { panic!("a response") };
    answer.read(kind).expect("a response to that")
}

/// The contacts that the node names to an asker as the nearest to a target, and in how many bytes.
fn named(bench: &mut Bench, asker: Contact, bytes: &[u8]) -> (Vec<Contact>, usize) {
    let reply = reply(bench.receive(asker.address, bytes));
    let Response::Nodes(nodes) = understood(Rpc::FindNode, &reply) else { panic!("contacts") };
    (nodes, reply.bytes.len())
}

fn target() -> Id {
    Id::of_name("target")
}

/// How many contacts the asker gets for a request of an original's size.
fn count(bench: &mut Bench, asker: Contact) -> usize {
    named(bench, asker, &unpadded(asker, &Request::FindNode { target: target() })).0.len()
}

/// All that the node knows, the nearest to the target first.
fn nearest(bench: &Bench) -> Vec<Contact> {
    bench.node.table().closest(&target()).map(|entry| entry.contact).collect()
}

#[test]
fn a_stranger_gets_the_nearest_contacts_that_fit_three_times_its_bytes() {
    for len in [81, 82, 100, 150, 400, 484] {
        let (mut bench, stranger) = (bench(), far(9_500));
        let mut request = unpadded(stranger, &Request::FindNode { target: target() });
        assert_eq!(request.len(), 81, "the size that an original sends");
        request.resize(len, 0);
        let (nodes, bytes) = named(&mut bench, stranger, &request);
        let all = nearest(&bench);
        assert_eq!(nodes, all[..nodes.len()]);
        let max = AMPLIFICATION_MAX * len - Dialect::V1.sizes().ping;
        assert!(bytes <= max);
        let next = Dialect::V1.encode_contact(&all[nodes.len()]).as_bytes().len();
        assert!(nodes.len() == 20 || bytes + next > max, "room for more");
        assert!(len > 81 || nodes.len() == 3);
    }
}

#[test]
fn a_stranger_that_asks_with_as_much_as_we_do_gets_all() {
    let (mut bench, stranger) = (bench(), far(9_500));
    let request = datagram(
        stranger.id,
        TransactionId::new(*b"question"),
        &Request::FindNode { target: target() },
    );
    assert_eq!(named(&mut bench, stranger, &request).0, nearest(&bench)[..20]);
}

#[test]
fn a_reply_is_never_longer_than_the_largest() {
    let v6 = |port| Contact {
        address: format!("[2001:db8:{port}:ffff:ffff:ffff:ffff:ffff]:9000").parse().unwrap(),
        ..far(port)
    };
    let mut bench = Bench::knowing((9_000..9_020).map(v6));
    let mut request = unpadded(v6(9_500), &Request::FindNode { target: target() });
    request.resize(MAX_DATAGRAM, 0);
    let (nodes, bytes) = named(&mut bench, v6(9_500), &request);
    assert!(bytes <= Dialect::V1.sizes().answer_max && nodes.len() < 20, "{bytes} bytes");
}

#[test]
fn a_contact_gets_all_while_it_answers() {
    let (mut bench, known) = (bench(), far(9_003));
    assert_eq!(count(&mut bench, known), 20);
    bench.node.start_lookup(bench.now, Goal::Node { target: known.id });
    bench.drain();
    bench.wait(Duration::from_secs(2));
    // The others answer again.
    for other in nearest(&bench).into_iter().filter(|other| *other != known) {
        bench.node.introduce(bench.now, other);
    }
    assert_eq!(count(&mut bench, far(9_004)), 19);
    assert_eq!(count(&mut bench, known), 3);
}

#[test]
fn who_answered_a_call_gets_all_without_a_place_in_the_table() {
    let (mut bench, peer) = (bench(), far(9_500));
    assert_eq!(count(&mut bench, peer), 3);
    bench.node.start_ping(bench.now, peer.into());
    let ping = bench.drain().remove(0);
    bench.receive(peer.address, &ping.answer(peer.id, &Response::Pong));
    assert!(bench.node.table().entry(&peer.id).is_none());
    assert_eq!(count(&mut bench, peer), 20);
    let elsewhere = Contact { address: far(9_501).address, ..peer };
    assert_eq!(count(&mut bench, elsewhere), 3);
}

#[test]
fn a_known_id_at_another_address_is_a_stranger() {
    let mut bench = bench();
    let forged = Contact { address: far(9_500).address, ..far(9_003) };
    assert_eq!(count(&mut bench, forged), 3);
    let masked = Contact { id: Id::of_name("mask"), ..far(9_003) };
    assert_eq!(count(&mut bench, masked), 3, "another id at a known address too");
}

#[test]
fn an_answer_to_nothing_that_was_asked_proves_nothing() {
    let (mut bench, forger) = (bench(), far(9_500));
    let ping =
        Sent::new(forger.address, datagram(forger.id, TransactionId::new([9; 8]), &Request::Ping));
    bench.receive(forger.address, &ping.answer(forger.id, &Response::Pong));
    assert_eq!(count(&mut bench, forger), 3);
}

#[test]
fn loopback_needs_no_proof() {
    let mut bench = bench();
    assert_eq!(count(&mut bench, contact(9_500)), 20);
    let v6 = |port| Contact {
        address: ([0x2001, 0xdb8, port, 1, 0, 0, 0, 1], port).into(),
        ..far(port)
    };
    let mut bench = Bench::knowing((9_000..9_018).map(v6));
    let local = Contact { address: "[::1]:9500".parse().unwrap(), ..contact(9_500) };
    assert_eq!(count(&mut bench, local), 18);
    assert!(count(&mut bench, v6(9_501)) < 3);
}

/// A stored value of this many bytes, under [`target`].
fn keep(bench: &mut Bench, bytes: usize) -> Value {
    let value = Value::bytes("x".repeat(bytes));
    let store = StoreRequest {
        key: target(),
        value: value.item(),
        mode: StoreMode::Add,
        copy: None,
        token: None,
    };
    let (id, port) = (Id::of_name(format!("{bytes}")), 1_000 + (bytes % 1_000) as u16);
    bench.ask(Contact { id, address: ([127, 0, 0, 1], port).into() }, &Request::Store(store));
    value
}

/// The result of a search, and the bytes of its answer.
fn search(
    bench: &mut Bench,
    asker: Contact,
    search: FindValue<'_>,
    len: usize,
) -> Option<(Vec<Value>, Rest, usize)> {
    let mut request = unpadded(asker, &Request::FindValue(search));
    request.resize(request.len().max(len), 0);
    let sent = bench.receive(asker.address, &request);
    let all: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
    let reply = sent.into_iter().find(|sent| sent.request().is_none())?;
    match understood(Rpc::FindValue, &reply) {
        Response::Values { values, rest, .. } => {
            assert!(rest.token.is_none() || all <= AMPLIFICATION_MAX * request.len());
            Some((values, rest, reply.bytes.len()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_original_gets_long_values_once_it_has_answered_a_ping() {
    let (mut bench, original) = (bench(), far(9_500));
    let value = keep(&mut bench, 300);
    let question = FindValue::new(target(), 6);
    let request = unpadded(original, &Request::FindValue(question));
    let sent = bench.receive(original.address, &request);
    assert_eq!(sent.len(), 1, "a ping alone, although the table has no room");
    assert!(sent[0].asks(Rpc::Ping) && sent[0].to == original.address);
    let pong = sent[0].answer(original.id, &Response::Pong);
    let answer = reply(bench.receive(original.address, &pong));
    assert_eq!(answer.frame().transaction, TransactionId::new(*b"question"));
    let Response::Values { values, rest, .. } = understood(Rpc::FindValue, &answer) else {
        panic!("values")
    };
    assert_eq!((values, rest), (vec![value.clone()], Rest::default()));
    // From now on it comes at once.
    let (values, ..) = search(&mut bench, original, question, 0).expect("an answer");
    assert_eq!(values, [value]);
}

#[test]
fn whoever_answers_no_ping_gets_what_three_times_its_bytes_hold_before_an_original_gives_up() {
    let (mut bench, stranger) = (bench(), far(9_500));
    let small = keep(&mut bench, 20);
    keep(&mut bench, 300);
    let request = unpadded(stranger, &Request::FindValue(FindValue::new(target(), 6)));
    let mut bytes: usize =
        bench.receive(stranger.address, &request).iter().map(|sent| sent.bytes.len()).sum();
    let later = bench.wait(Duration::from_millis(1_400));
    let answer = later.iter().find(|sent| sent.request().is_none()).expect("an answer");
    let Response::Values { values, .. } = understood(Rpc::FindValue, answer) else {
        panic!("values")
    };
    assert_eq!(values, [small]);
    bytes += later.iter().map(|sent| sent.bytes.len()).sum::<usize>();
    assert!(bytes <= AMPLIFICATION_MAX * request.len(), "{bytes} bytes");
}

#[test]
fn a_stranger_that_knows_of_tokens_gets_the_rest_with_the_token() {
    let (mut bench, stranger) = (bench(), far(9_500));
    let all = [30, 700, 2_000, 9_000].map(|bytes| keep(&mut bench, bytes));
    let question = FindValue { token: Some(b""), ..FindValue::new(target(), 6) };
    for len in [0, Dialect::V1.sizes().lookup_min()] {
        let (values, rest, bytes) = search(&mut bench, stranger, question, len).expect("an answer");
        assert!(bytes <= AMPLIFICATION_MAX * len.max(96) - Dialect::V1.sizes().ping);
        assert_eq!(values.len() + rest.more, 4);
        let token = rest.token.expect("values were held back");
        let other = far(9_501);
        let stolen = FindValue { token: Some(&token), ..question };
        let (values, ..) = search(&mut bench, other, stolen, len).expect("an answer");
        assert!(values.len() < 4, "another's token");
    }
    let (_, rest, _) = search(&mut bench, stranger, question, 0).expect("an answer");
    let token = rest.token.expect("values were held back");
    let with_token = FindValue { token: Some(&token), ..question };
    let (mut values, rest, _) = search(&mut bench, stranger, with_token, 0).expect("an answer");
    values.sort_by_key(|value| value.as_bytes().len());
    assert_eq!((values, rest), (all.to_vec(), Rest::default()));
}

#[test]
fn all_values_are_read_page_by_page() {
    let (mut bench, local) = (bench(), contact(9_500));
    let mut all: Vec<Value> = (0..40).map(|n| keep(&mut bench, 1_500 + n)).collect();
    let (mut found, mut after) = (Vec::new(), Some(Id::new([0; 20])));
    while after.is_some() {
        let question =
            FindValue { after, token: Some(b""), ..FindValue::new(target(), usize::MAX) };
        let (values, rest, _) = search(&mut bench, local, question, 0).expect("an answer");
        assert!(values.len() < 40 && !values.is_empty());
        found.extend(values);
        assert_eq!(found.len() + rest.more, 40);
        after = rest.next;
    }
    all.sort_by_key(|value| value.as_bytes().to_vec());
    found.sort_by_key(|value| value.as_bytes().to_vec());
    assert_eq!(found, all);
}

#[test]
fn small_values_leave_strangers_what_room_is_left_for_contacts() {
    let mut bench = bench();
    let small = keep(&mut bench, 20);
    let request = unpadded(far(9_500), &Request::FindValue(FindValue::new(target(), 6)));
    let reply = reply(bench.receive(far(9_500).address, &request));
    let Response::Values { values, closest, .. } = understood(Rpc::FindValue, &reply) else {
        panic!("values")
    };
    assert_eq!((values, closest.len()), (vec![small], 2));
}
