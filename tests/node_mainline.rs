//! A node answers each recorded request of Mainline as a good node does, whoever the recorded asker was; and no
//! recorded broken datagram or bad reply does it harm.

mod peer;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kademlua::bencode::{Dict, Item};
use kademlua::bloom::Filter;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::mainline::Kind;
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::node::{Node, Overlay};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{AMPLIFICATION_MAX, Body, Dialect, Header, emit, parse};
use peer::{Bench, Sent};
use serde_json::Value as Json;
use vectors::{datagram, mainline, name, unhex};

const OWN: Id = Id::new([0x5a; 20]);

/// A node in the networks of both dialects.
fn bench() -> Bench {
    let ids = BTreeMap::from([(Dialect::V1, Id::of_name("8001")), (Dialect::Mainline, OWN)]);
    let now = Instant::ZERO + Duration::from_secs(1_000);
    Bench::with(Node::in_networks(now, &ids, Config::default(), [7; 32]))
}

fn header(from: Id) -> Header {
    let transaction = TransactionId::new(*b"abcd");
    Header { dialect: Dialect::Mainline, from, transaction, asker: None }
}

fn query(from: Id, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out, &header(from), request);
    out
}

/// A contact that has answered the node's ping, and so is in its table.
fn introduce(bench: &mut Bench, contact: Contact) {
    let sent = bench.receive(contact.address, &query(contact.id, &Request::Ping));
    let asked = sent.iter().find(|sent| is_query(sent)).expect("a stranger is asked back");
    let transaction = parse(&asked.bytes).unwrap().transaction;
    assert_eq!(transaction.as_bytes().len(), 4, "some nodes answer nothing else");
    let mut pong = Vec::new();
    emit(&mut pong, &Header { transaction, ..header(contact.id) }, &Response::Pong);
    bench.receive(contact.address, &pong);
}

fn is_query(sent: &Sent) -> bool {
    matches!(parse(&sent.bytes).expect("what is sent is well formed").body, Body::Query(_))
}

fn overlay(bench: &Bench, is_ipv4: bool) -> &Overlay {
    let mut overlays = bench.node.overlays().iter();
    let is_it = |overlay: &&Overlay| {
        let families = overlay.policy().families;
        overlay.dialect() == Dialect::Mainline && families.ipv4 == is_ipv4
    };
    overlays.find(is_it).unwrap()
}

/// A node that knows others of both families.
fn known_node() -> Bench {
    let mut bench = bench();
    for number in 1..=30_u8 {
        let id = Id::of_name([number]);
        introduce(&mut bench, Contact { id, address: ([203, 0, number, 7], 6_881).into() });
        let ip: IpAddr = format!("2001:db8:{number}::7").parse().unwrap();
        introduce(&mut bench, Contact { id, address: (ip, 6_881).into() });
        bench.wait(Duration::from_millis(10));
    }
    for is_ipv4 in [true, false] {
        assert!(overlay(&bench, is_ipv4).table().len() >= 20);
    }
    bench
}

/// Where a recorded source asks from here.
fn source(entry: &Json) -> SocketAddr {
    let (text, port) = match entry["source"].as_str().unwrap() {
        "s0 from another port" => ("s0", 7_001),
        text => (text, 7_000),
    };
    let host: u8 = text.strip_prefix('s').unwrap().parse().unwrap();
    match entry["ipv6"] == true {
        true => (format!("2001:db8:ffff:{host}::1").parse::<IpAddr>().unwrap(), port).into(),
        false => ([198, 51, 100 + host, 1], port).into(),
    }
}

fn dict(bytes: &[u8]) -> Dict<'_> {
    let item = Item::parse(bytes).unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
    assert!(item.is_strict(), "{item:?}");
    item.dict().unwrap()
}

/// The key under which a request asks, if it asks under one.
fn asks_under(bytes: &[u8]) -> Option<Id> {
    let args = Item::parse(bytes).ok()?.dict()?.get(b"a")?.dict()?;
    let key = args.get(b"info_hash").or_else(|| args.get(b"target"))?;
    Id::from_slice(key.bytes()?)
}

/// A recorded request with the token that our node gave in place of the recorded one.
fn with_token(recorded: &[u8], entry: &Json, tokens: &BTreeMap<Id, Vec<u8>>) -> Vec<u8> {
    let Some(of) = entry["token_of"].as_str() else { return recorded.to_vec() };
    let mut token = tokens[&of.parse::<Id>().unwrap()].clone();
    match entry["token_change"].as_str() {
        Some("flip") => token[0] ^= 1,
        Some("longer") => token.push(b'x'),
        Some(other) => panic!("{other}"),
        None => {}
    }
    let key = b"5:token";
    let at = recorded.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    let old = Item::parse_prefix(&recorded[at..]).unwrap().as_bytes().len();
    let new = [format!("{}:", token.len()).as_bytes(), &token].concat();
    [&recorded[..at], &new, &recorded[at + old..]].concat()
}

/// What a reply is, as the recordings name it.
fn kind_of(reply: Option<&[u8]>) -> String {
    let Some(reply) = reply else { return "none".into() };
    match parse(reply).unwrap().body {
        Body::Answer(_) => "r".into(),
        Body::CodedError(error) => format!("e:{}", error.code),
        body => panic!("{body:?}"),
    }
}

fn told_of_a_bad_token(reply: &[u8]) -> bool {
    matches!(parse(reply).unwrap().body, Body::CodedError(error) if error.text.starts_with(b"token"))
}

fn address(compact: &[u8]) -> SocketAddr {
    let (ip, port) = compact.split_last_chunk::<2>().unwrap();
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()),
    };
    (ip, u16::from_be_bytes(*port)).into()
}

/// Checks one reply against what the recording expects of a good node.
fn check(entry: &Json, from: SocketAddr, reply: Option<&[u8]>) {
    let expect = &entry["expect"];
    let (kind, wanted) = (kind_of(reply), expect["reply"].as_str().unwrap());
    let fits = |one: &str| one == kind || one == "e" && kind.starts_with("e:");
    let about = format!("{}/{}/{}", entry["kind"], entry["case"], entry["step"]);
    let shown = reply.map(|reply| reply.escape_ascii().to_string());
    assert!(wanted.split('|').any(fits), "{about}: {wanted} and not {kind}: {shown:?}");
    let Some(reply) = reply else { return };
    assert_eq!(parse(reply).unwrap().seen_at, Some(from), "{about}");
    if kind != "r" {
        return;
    }
    let fields = dict(reply).get(b"r").unwrap().dict().unwrap();
    let field = |name: &str| fields.get(name.as_bytes());
    let names = |list: &Json| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    for name in names(&expect["has"]) {
        assert!(field(&name).is_some(), "{about}: no {name} in {shown:?}");
    }
    for name in names(&expect["hasnot"]) {
        assert!(field(&name).is_none(), "{about}: {name} in {shown:?}");
    }
    if let Some(value) = expect["v"].as_str() {
        assert_eq!(field("v").unwrap().as_bytes(), unhex(value), "{about}");
    }
    if let Some(seq) = expect["seq"].as_i64() {
        assert_eq!(field("seq").unwrap().integer(), Some(seq), "{about}");
    }
    let of_source = |name: &str| {
        let entry = serde_json::json!({ "source": name, "ipv6": entry["ipv6"] });
        source(&entry)
    };
    if let Some(values) = expect["values"].as_array() {
        let listed = field("values").unwrap().list().unwrap();
        let listed: BTreeSet<_> = listed.map(|value| address(value.bytes().unwrap())).collect();
        let wanted = values.iter().map(|value| {
            let source = of_source(value[0].as_str().unwrap());
            let port = value[1].as_u64().map_or(source.port(), |port| port as u16);
            SocketAddr::new(source.ip(), port)
        });
        let wanted: BTreeSet<_> = wanted.collect();
        assert!(listed.is_superset(&wanted), "{about}: {listed:?}");
        assert!(expect["exact"] != true || listed == wanted, "{about}: {listed:?}");
    }
    for name in ["BFpe", "BFsd"] {
        if expect[name].is_array() {
            let ips = names(&expect[name]).iter().map(|name| of_source(name).ip()).collect();
            let filter = Filter::from_slice(field(name).unwrap().bytes().unwrap());
            assert_eq!(filter, Some::<Filter>(ips), "{about}");
        }
    }
}

#[test]
fn every_recorded_request_is_answered_as_a_good_node_answers_it() {
    let entries = mainline("requests.json");
    assert_eq!(entries.len(), 503);
    let mut bench = known_node();
    let (mut tokens, mut proved) = (BTreeMap::new(), BTreeSet::new());
    let mut case = Json::Null;
    for entry in &entries {
        let this = serde_json::json!([entry["kind"], entry["case"], entry["ipv6"]]);
        if this != case {
            case = this;
            // Their sources are strangers once more.
            bench = known_node();
            tokens.clear();
            proved.clear();
        }
        let (recorded, from) = (datagram(entry), source(entry));
        let asked = with_token(&recorded, entry, &tokens);
        let sent = bench.receive(from, &asked);
        let replies: Vec<_> = sent.iter().filter(|sent| !is_query(sent)).collect();
        assert!(replies.len() <= 1 && sent.iter().all(|sent| sent.to == from));
        let reply = replies.first().map(|reply| &reply.bytes[..]);
        check(entry, from, reply);
        if let Some(reply) = reply {
            let told = dict(reply).get(b"t").unwrap().bytes();
            assert_eq!(
                told,
                Item::parse_prefix(&asked).unwrap().dict().unwrap().get(b"t").unwrap().bytes()
            );
        }
        let bytes: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
        let is_proved = proved.contains(&from) || entry["token_of"].is_string();
        let max = AMPLIFICATION_MAX * asked.len();
        assert!(is_proved || bytes <= max, "{entry}: {bytes} of {max}: {sent:?}");
        // Whoever sends the right token receives at its address, whatever becomes of the rest.
        let is_right = !sent.iter().any(|sent| told_of_a_bad_token(&sent.bytes));
        if entry["token_of"].is_string() && is_right {
            proved.insert(from);
        }
        if let Some(reply) = reply.filter(|_| kind_of(reply) == "r") {
            let token = dict(reply).get(b"r").unwrap().dict().unwrap().get(b"token");
            if let (Some(token), Some(key)) = (token.and_then(Item::bytes), asks_under(&asked)) {
                tokens.insert(key, token.to_vec());
            }
        }
        bench.wait(Duration::from_millis(600));
    }
}

/// A source that never asked before; nothing that others sent is charged to it.
fn stranger(number: usize) -> SocketAddr {
    ([192, 0, (number >> 8) as u8, number as u8], 6_881).into()
}

#[test]
fn no_broken_datagram_does_harm_or_is_answered_at_length() {
    let mut bench = known_node();
    let entries = mainline("malformed.json");
    let broken = entries.iter().filter(|entry| entry["kind"] != "reply");
    let mut answered = 0;
    for (number, entry) in broken.enumerate() {
        let (bytes, from) = (datagram(entry), stranger(number));
        let sent = bench.receive(from, &bytes);
        let out: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
        assert!(out <= AMPLIFICATION_MAX * bytes.len(), "{}: {out}", name(entry));
        assert!(sent.iter().all(|sent| sent.to == from), "{}", name(entry));
        let is_unasked = entry["kind"] == "unasked"
            && parse(&bytes).is_ok_and(|envelope| !matches!(envelope.body, Body::Query(_)));
        assert!(!is_unasked || sent.is_empty(), "{}: nothing answers a reply", name(entry));
        answered += usize::from(!sent.is_empty());
        let pong = bench.receive(from, &query(Id::of_name("well"), &Request::Ping));
        assert!(pong.iter().any(|sent| !is_query(sent)), "{}", name(entry));
        bench.wait(Duration::from_millis(100));
    }
    assert!(answered > 20, "those that are queries all the same are answered: {answered}");
    let peers: Vec<_> = bench.node.overlays().iter().map(|overlay| overlay.peers().len()).collect();
    assert_eq!(peers, [0, 0, 0]);
    assert!(bench.node.overlays().iter().all(|overlay| overlay.items().is_empty()));
}

/// The id of the sender and the transaction id of a recorded reply replaced.
fn as_reply(entry: &Json, transaction: TransactionId, from: Id) -> Vec<u8> {
    let (bytes, asked) = (datagram(entry), unhex(entry["query"].as_str().unwrap()));
    let old = parse(&asked).unwrap().transaction;
    let swap = |bytes: &[u8], from: &[u8], to: &[u8]| -> Vec<u8> {
        match bytes.windows(from.len()).position(|window| window == from) {
            Some(at) => [&bytes[..at], to, &bytes[at + from.len()..]].concat(),
            None => bytes.to_vec(),
        }
    };
    let field = |t: &[u8]| [format!("1:t{}:", t.len()).as_bytes(), t].concat();
    let bytes = swap(&bytes, &field(old.as_bytes()), &field(transaction.as_bytes()));
    let at = bytes.windows(7).position(|window| window == b"2:id20:");
    let id = at.and_then(|at| bytes.get(at + 7..at + 27));
    let Some(id) = id.map(<[u8]>::to_vec) else { return bytes };
    if name(entry).starts_with("another id") { bytes } else { swap(&bytes, &id, from.as_bytes()) }
}

#[test]
fn a_bad_reply_does_no_harm_and_tells_of_a_node_only_who_it_is() {
    let entries = mainline("malformed.json");
    let replies: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "reply").collect();
    assert_eq!(replies.len(), 42);
    let mut kept = BTreeSet::new();
    for entry in &replies {
        let mut bench = bench();
        let contact = Contact { id: Id::of_name("peer"), address: stranger(7) };
        let sent = bench.receive(contact.address, &query(contact.id, &Request::Ping));
        let asked = sent.iter().find(|sent| is_query(sent)).expect("a stranger is asked back");
        let transaction = parse(&asked.bytes).unwrap().transaction;
        let sent = bench.receive(contact.address, &as_reply(entry, transaction, contact.id));
        assert!(sent.iter().all(is_query), "{}: a reply is not answered", name(entry));
        if overlay(&bench, true).table().entry(&contact.id).is_some() {
            kept.insert(name(entry));
        }
        let pong = bench.receive(contact.address, &query(contact.id, &Request::Ping));
        assert!(pong.iter().any(|sent| !is_query(sent)), "{}", name(entry));
    }
    // Whoever says who it is, with the right transaction id, is there; the rest of its reply is another matter.
    let others: Vec<_> =
        replies.iter().map(|entry| name(entry)).filter(|name| !kept.contains(name)).collect();
    assert_eq!(
        others,
        [
            "t missing",
            "another t",
            "t one byte longer",
            "r missing",
            "r is a list",
            "r is a string",
            "id missing",
            "id of 19 bytes",
            "id of 21 bytes",
            "another id than the one it was known by",
            "cut in the middle",
            "300 nested lists beside",
            "error 201",
            "error with only a code",
            "error is a dictionary",
            "error with text for the code",
            "error is empty",
            "noise",
            "an empty datagram",
        ]
    );
}

#[test]
fn both_families_are_named_to_whoever_wants_both() {
    let mut bench = known_node();
    let from = Contact { id: Id::of_name("peer"), address: stranger(9) };
    introduce(&mut bench, from);
    for (want, counts) in [("", [8, 0]), ("2:n4", [8, 0]), ("2:n6", [0, 8]), ("2:n62:n4", [8, 8])] {
        let want = if want.is_empty() { String::new() } else { format!("4:wantl{want}e") };
        let asked = [
            b"d1:ad2:id20:",
            &from.id.as_bytes()[..],
            b"6:target20:tttttttttttttttttttt",
            want.as_bytes(),
            b"e1:q9:find_node1:t1:x1:y1:qe",
        ];
        let sent = bench.receive(from.address, &asked.concat());
        let Body::Answer(answer) = parse(&sent[0].bytes).unwrap().body else { panic!("contacts") };
        let Ok(Response::Nodes(named)) = answer.read(Rpc::FindNode) else { panic!("contacts") };
        let count = |is_ipv4| named.iter().filter(|c| c.address.is_ipv4() == is_ipv4).count();
        assert_eq!([count(true), count(false)], counts, "{want}");
    }
}

#[test]
fn who_only_reads_is_not_asked_back_and_not_named() {
    let mut bench = bench();
    let asked = b"d1:ad2:id20:rrrrrrrrrrrrrrrrrrrre1:q4:ping2:roi1e1:t2:aa1:y1:qe";
    let sent = bench.receive(stranger(1), asked);
    assert_eq!(sent.len(), 1);
    assert!(!is_query(&sent[0]));
}

#[test]
fn an_item_that_does_not_fit_waits_until_the_asker_has_shown_its_address() {
    let mut bench = known_node();
    let value = [b"900:", &[b'x'; 900][..]].concat();
    let place = Id::of_name(&value);
    let get = b"d1:ad2:id20:rrrrrrrrrrrrrrrrrrrr6:target20:";
    let get =
        |rest: &[u8]| [get, &place.as_bytes()[..], b"e1:q3:get", rest, b"1:t2:aa1:y1:qe"].concat();
    let holder = stranger(1);
    let sent = bench.receive(holder, &get(b""));
    let fields = |sent: &Sent| {
        let Body::Answer(answer) = parse(&sent.bytes).unwrap().body else { panic!("an answer") };
        let Ok(Response::Mainline(reply)) = answer.read(Rpc::Mainline(Kind::Get)) else {
            panic!("a reply")
        };
        let kademlua::message::mainline::Reply::Item { value, token, .. } = reply else { panic!() };
        (value.map(|value| value.0), token.unwrap().0)
    };
    let (nothing, token) = fields(&sent[0]);
    assert_eq!(nothing, None);
    let len = format!("{}:", token.len());
    let put = [
        b"d1:ad2:id20:rrrrrrrrrrrrrrrrrrrr5:token",
        len.as_bytes(),
        &token,
        b"1:v",
        &value,
        b"e1:q3:put1:t2:aa1:y1:qe",
    ];
    assert_eq!(kind_of(Some(&bench.receive(holder, &put.concat())[0].bytes)), "r");
    assert_eq!(fields(&bench.receive(holder, &get(b""))[0]).0, Some(value.clone()));
    // A stranger is pinged first. If it answers it gets the item, if not an answer without.
    let asker = stranger(2);
    let sent = bench.receive(asker, &get(b""));
    assert_eq!(sent.len(), 1);
    assert!(is_query(&sent[0]));
    let transaction = parse(&sent[0].bytes).unwrap().transaction;
    let mut pong = Vec::new();
    emit(&mut pong, &Header { transaction, ..header(Id::new([b'r'; 20])) }, &Response::Pong);
    let sent = bench.receive(asker, &pong);
    let answer = sent.iter().find(|sent| !is_query(sent)).unwrap();
    assert_eq!(fields(answer).0, Some(value));
    let silent = stranger(3);
    assert_eq!(bench.receive(silent, &get(b"")).len(), 1);
    let sent = bench.wait(Duration::from_secs(2));
    let answers: Vec<_> = sent.iter().filter(|sent| sent.to == silent && !is_query(sent)).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(fields(answers[0]).0, None);
    // Whoever says that it answers nothing is not waited for.
    let sent = bench.receive(stranger(4), &get(b"2:roi1e"));
    assert_eq!((sent.len(), fields(&sent[0]).0), (1, None));
}
