//! What strangers store, datagram by datagram: shares, floods, and words in others' names.

mod counting;
mod peer;

use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{
    Contact, CopyOf, FindValue, Request, Response, RpcError, StoreMode, StoreRequest,
};
use kademlua::store::Standing;
use kademlua::time::Duration;
use kademlua::wire::Body;

use peer::{Bench, Sent, contact};

/// Somebody on the node's own machine, to which an answer may have any length.
fn local() -> Contact {
    contact(9_500)
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn named(name: &str, address: SocketAddr) -> Contact {
    Contact { id: Id::of_name(name), address }
}

fn answer(bench: &mut Bench, from: Contact, request: &Request<'_>) -> Result<Response, RpcError> {
    let sent = bench.ask(from, request);
    let reply = sent.iter().find(|sent: &&Sent| sent.request().is_none()).expect("a reply");
    match reply.frame().body {
        Body::Answer(answer) => Ok(answer.read(request.kind()).expect("one to be read")),
        // How an original is told that its store is refused.
        Body::Error(error) => Err(error),
        other => panic!("{other:?} is no answer"),
    }
}

fn store<'a>(key: Id, value: &'a Value, token: Option<&'a [u8]>) -> StoreRequest<'a> {
    StoreRequest { key, value: value.item(), mode: StoreMode::Add, copy: None, token }
}

/// The token of an address.
fn token(bench: &mut Bench, address: SocketAddr) -> Vec<u8> {
    let value = Value::bytes("");
    let request = Request::Store(store(Id::of_name("nothing"), &value, Some(b"")));
    match answer(bench, named("asks for a token", address), &request) {
        Ok(Response::Refused { token: Some(token), .. }) => token,
        other => panic!("{other:?} is no token"),
    }
}

fn put(bench: &mut Bench, from: Contact, store: StoreRequest<'_>) -> bool {
    answer(bench, from, &Request::Store(store)) == Ok(Response::Stored)
}

fn found(bench: &mut Bench, key: Id) -> Vec<Value> {
    match answer(bench, local(), &Request::FindValue(FindValue::new(key, 6))) {
        Ok(Response::Values { values, .. }) => values,
        other => panic!("{other:?} to a findvalue"),
    }
}

/// A publisher that proves its address, or cannot, as an original.
struct Publisher {
    contact: Contact,
    token: Option<Vec<u8>>,
    stored: u32,
}

impl Publisher {
    fn new(bench: &mut Bench, proves: bool) -> Publisher {
        let contact = named("publisher", at("198.51.100.7:9"));
        let token = proves.then(|| token(bench, contact.address));
        Publisher { contact, token, stored: 0 }
    }

    fn value(number: u32) -> (Id, Value) {
        let text = format!("legitimate {number}");
        (Id::of_name(&text), Value::bytes(text))
    }

    fn publish(&mut self, bench: &mut Bench, count: u32) {
        for number in self.stored..self.stored + count {
            let (key, value) = Publisher::value(number);
            let store = store(key, &value, self.token.as_deref());
            assert!(put(bench, self.contact, store), "{number}");
        }
        self.stored += count;
    }

    fn missing(&self, bench: &mut Bench) -> usize {
        let is_missing = |number: &u32| {
            let (key, value) = Publisher::value(*number);
            !found(bench, key).contains(&value)
        };
        (0..self.stored).filter(is_missing).count()
    }
}

/// A flood: its name, how many values, of how many bytes, and where each comes from.
struct Flood {
    name: &'static str,
    values: u32,
    len: usize,
    from: fn(u32) -> Contact,
    proves: bool,
}

fn one_id(_: u32) -> Contact {
    named("flooder", at("192.0.2.1:9"))
}

fn many_ids(number: u32) -> Contact {
    named(&number.to_string(), at("192.0.2.1:9"))
}

fn one_24(number: u32) -> Contact {
    named(&number.to_string(), ([192, 0, 2, number as u8], 9).into())
}

fn one_48(number: u32) -> Contact {
    let address = ([0x2001, 0xdb8, 0, (number % 4_096) as u16, 0, 0, 0, 1], 9).into();
    named(&number.to_string(), address)
}

/// Anybody can write down any address.
fn others_names(number: u32) -> Contact {
    let [_, a, b, c] = number.to_be_bytes();
    named(&number.to_string(), ([20 + a, b, c, 1], 9).into())
}

const FLOODS: [Flood; 6] = [
    Flood { name: "many ids", values: 264_960, len: 0, from: many_ids, proves: true },
    Flood { name: "one id", values: 4_096, len: 15_900, from: one_id, proves: true },
    Flood { name: "one /24", values: 20_000, len: 0, from: one_24, proves: true },
    Flood { name: "one /48", values: 20_000, len: 900, from: one_48, proves: true },
    Flood { name: "unproved", values: 20_000, len: 0, from: many_ids, proves: false },
    Flood { name: "names of others", values: 60_000, len: 300, from: others_names, proves: false },
];

#[test]
fn who_floods_the_store_takes_nothing_from_others_and_no_memory_beyond_its_share() {
    for flood in &FLOODS {
        for proves in [true, false] {
            // Among names that anybody can write down, one more has its share and no more.
            if !proves && (flood.proves || flood.values > 50_000) {
                continue;
            }
            let before = counting::taken_bytes();
            let mut bench = Bench::without_limits();
            let mut publisher = Publisher::new(&mut bench, proves);
            publisher.publish(&mut bench, 200);
            let mut tokens = std::collections::BTreeMap::new();
            let value = Value::bytes(vec![b'v'; flood.len]);
            let mut kept = 0_usize;
            for number in 0..flood.values {
                let from = (flood.from)(number);
                let token = flood.proves.then(|| {
                    tokens.entry(from.address).or_insert_with(|| token(&mut bench, from.address))
                });
                let key = Id::of_name(number.to_be_bytes());
                let store = store(key, &value, token.map(|token| &token[..]));
                kept += usize::from(put(&mut bench, from, store));
                if number == flood.values / 2 {
                    publisher.publish(&mut bench, 100);
                }
            }
            publisher.publish(&mut bench, 200);
            assert_eq!(
                (publisher.stored, publisher.missing(&mut bench)),
                (500, 0),
                "{}",
                flood.name
            );
            let (counted, max) = (bench.node.store().bytes(), bench.node.config().max_store_bytes);
            let share = if flood.values > 50_000 && !flood.proves { max / 4 } else { max / 10 };
            let taken = usize::try_from(counting::taken_bytes() - before).unwrap();
            println!("{}: {kept} kept, {counted} bytes counted, {taken} taken", flood.name);
            assert!(counted < share + 500_000, "{}: {counted} bytes", flood.name);
            // The node has more than its store.
            assert!(taken < counted + counted / 10 + (4 << 20), "{}: {taken} bytes", flood.name);
        }
    }
}

#[test]
fn what_comes_in_a_publishers_name_without_its_token_changes_nothing_of_it() {
    let mut bench = Bench::without_limits();
    let mut publisher = Publisher::new(&mut bench, true);
    publisher.publish(&mut bench, 50);
    let rows = |bench: &Bench| {
        let (key, _) = Publisher::value(7);
        let rows = bench.node.store().stored(&key);
        rows.map(|stored| (stored.value.clone(), stored.standing, stored.expires))
            .collect::<Vec<_>>()
    };
    let before = rows(&bench);
    bench.wait(Duration::from_secs(60));
    for number in 0..6_000 {
        let (key, value) = match number {
            0 => (Publisher::value(7).0, Value::bytes("forged")),
            1 => Publisher::value(7),
            _ => (Id::of_name(format!("junk {number}")), Value::integer(number)),
        };
        let mode = StoreMode::Replace;
        put(&mut bench, publisher.contact, StoreRequest { mode, ..store(key, &value, None) });
    }
    let after = rows(&bench);
    assert!(before.iter().all(|row| after.contains(row)), "{after:?}");
    assert_eq!(publisher.missing(&mut bench), 0);
    publisher.publish(&mut bench, 1_000);
}

/// One datagram in the publisher's name, at a holder where it was not itself, would else be enough.
#[test]
fn what_comes_in_a_publishers_name_without_its_token_keeps_no_copies_away() {
    let mut bench = Bench::without_limits();
    let publisher = named("publisher", at("198.51.100.7:9"));
    let holder = named("holder", at("203.0.113.1:9"));
    let proof = token(&mut bench, holder.address);
    let (key, forged, own) = (Id::of_name("key"), Value::bytes("forged"), Value::bytes("own"));
    assert!(put(&mut bench, publisher, store(key, &forged, None)));
    let copy = Some(CopyOf { publisher: Some(publisher), age: Duration::ZERO });
    assert!(put(&mut bench, holder, StoreRequest { copy, ..store(key, &own, Some(&proof)) }));
    assert!(found(&mut bench, key).contains(&own));
}

#[test]
fn a_copy_that_names_a_publisher_yields_to_what_it_says() {
    let mut bench = Bench::without_limits();
    let publisher = named("publisher", at("198.51.100.7:9"));
    let liar = named("liar", at("192.0.2.1:9"));
    let own = token(&mut bench, publisher.address);
    let lying = token(&mut bench, liar.address);
    let key = Id::of_name("key");
    let copy = Some(CopyOf { publisher: Some(publisher), age: Duration::ZERO });
    let (first, second, lie) = (Value::bytes("first"), Value::bytes("second"), Value::bytes("lie"));
    assert!(put(&mut bench, publisher, store(key, &first, Some(&own))));
    let replaced = StoreRequest { mode: StoreMode::Replace, ..store(key, &second, Some(&own)) };
    assert!(put(&mut bench, publisher, replaced));
    for value in [&lie, &first] {
        assert!(!put(&mut bench, liar, StoreRequest { copy, ..store(key, value, Some(&lying)) }));
    }
    assert_eq!(found(&mut bench, key), std::slice::from_ref(&second));
    // Where the liar was first, the publisher has the last word.
    let key = Id::of_name("other");
    assert!(put(&mut bench, liar, StoreRequest { copy, ..store(key, &lie, Some(&lying)) }));
    let replaced = StoreRequest { mode: StoreMode::Replace, ..store(key, &second, Some(&own)) };
    assert!(put(&mut bench, publisher, replaced));
    assert_eq!(found(&mut bench, key), [second]);
}

/// Holders with addresses all over the world, each with a token of its own.
#[test]
fn copies_that_name_a_publisher_take_nothing_from_what_it_stored_itself() {
    let mut bench = Bench::without_limits();
    let mut publisher = Publisher::new(&mut bench, true);
    publisher.publish(&mut bench, 50);
    let rows = |bench: &Bench| {
        let rows = bench.node.store().keys().flat_map(|key| bench.node.store().stored(key));
        rows.filter(|stored| stored.standing == Standing::Published)
            .map(|stored| (stored.value.clone(), stored.expires))
            .collect::<Vec<_>>()
    };
    let before = rows(&bench);
    bench.wait(Duration::from_secs(60));
    let copy = Some(CopyOf { publisher: Some(publisher.contact), age: Duration::ZERO });
    let mut kept = 0;
    for number in 0..6_000 {
        let liar = others_names(number / 10);
        let proof = token(&mut bench, liar.address);
        // The value itself, as if it were younger, another instead of it, and junk elsewhere.
        let (key, own) = Publisher::value(number % 50);
        let (key, value) = match number % 3 {
            0 => (key, own),
            1 => (key, Value::integer(number.into())),
            _ => (Id::of_name(format!("junk {number}")), Value::bytes(vec![b'j'; 900])),
        };
        let mode = if number % 2 == 0 { StoreMode::Add } else { StoreMode::Replace };
        let copy = StoreRequest { copy, mode, ..store(key, &value, Some(&proof)) };
        kept += usize::from(put(&mut bench, liar, copy));
    }
    assert_eq!(rows(&bench), before);
    assert!(kept > 0, "the junk is kept, at the cost of the liars");
    // Nor is there less room for what the publisher stores from now on.
    publisher.publish(&mut bench, 1_000);
    assert_eq!(publisher.missing(&mut bench), 0);
}

/// Somebody passes on a copy, and says who published the value.
fn pass_on(bench: &mut Bench, from: Contact, named: Contact, key: Id, value: &Value) -> bool {
    let proof = token(bench, from.address);
    let copy = Some(CopyOf { publisher: Some(named), age: Duration::ZERO });
    put(bench, from, StoreRequest { copy, ..store(key, value, Some(&proof)) })
}

/// A liar with a network of its own.
fn liar(number: u8) -> Contact {
    named(&format!("liar {number}"), ([11, number, 2, 1], 9).into())
}

#[test]
fn a_copy_is_charged_to_whoever_passes_it_on_and_not_to_whoever_it_names() {
    let mut bench = Bench::without_limits();
    // Three quarters of a tenth, since a quarter is for what comes without tokens.
    let share = bench.node.config().max_store_bytes * 3 / 40;
    let mut publisher = Publisher::new(&mut bench, true);
    publisher.publish(&mut bench, 200);
    let large = |name: String| (Id::of_name(&name), Value::bytes(vec![b'v'; 8_000]));
    // The publisher is named by many: together they pass on more than it could store itself.
    let mut bytes = 0;
    for number in 0..1_200_u32 {
        let (key, value) = large(format!("junk {number}"));
        let from = liar((number % 12) as u8);
        assert!(pass_on(&mut bench, from, publisher.contact, key, &value), "{number}");
        bytes += value.as_bytes().len();
    }
    assert!(bytes > share);
    // One names many, and has its own share at the end.
    let kept = (0..2_000_u32).filter(|&number| {
        let (key, value) = large(format!("more {number}"));
        pass_on(&mut bench, liar(200), others_names(number), key, &value)
    });
    let kept = kept.count();
    let could = share / 8_000;
    assert!((could / 2..could).contains(&kept), "{kept} of {could}");
    // So those who were named have theirs.
    let token = publisher.token.clone();
    for number in 0..could * 9 / 10 {
        let (key, value) = large(format!("own {number}"));
        assert!(
            put(&mut bench, publisher.contact, store(key, &value, token.as_deref())),
            "{number}"
        );
    }
    assert_eq!(publisher.missing(&mut bench), 0);
}

#[test]
fn copies_take_the_places_under_a_key_of_whoever_passes_them_on() {
    let mut bench = Bench::without_limits();
    let key = Id::of_name("key");
    let victim = |number: u8| named(&format!("victim {number}"), ([20, number, 2, 1], 9).into());
    let mut kept = [0; 2];
    for number in 0..200 {
        // One names a publisher of each network, many name one publisher.
        let lie = Value::bytes(format!("lie {number}"));
        kept[0] += usize::from(pass_on(&mut bench, liar(200), victim(number), key, &lie));
        kept[1] += usize::from(pass_on(&mut bench, liar(number), victim(0), key, &lie));
    }
    assert_eq!(kept, [39, 200]);
    // What the named bring themselves, and what an honest holder passes on for them, has its places.
    for number in 0..30 {
        let own = Value::bytes(format!("own {number}"));
        let proof = token(&mut bench, victim(0).address);
        let from = Contact { id: Id::of_name([number]), ..victim(0) };
        assert!(put(&mut bench, from, store(key, &own, Some(&proof))), "{number}");
        let copied = Value::bytes(format!("copied {number}"));
        let holder = named("holder", at("203.0.113.1:9"));
        assert!(pass_on(&mut bench, holder, victim(100 + number), key, &copied), "{number}");
    }
}

#[test]
fn whoever_comes_first_under_a_key_hides_nobody() {
    let mut bench = Bench::without_limits();
    let early = at("192.0.2.1:9");
    let (early_token, key) = (token(&mut bench, early), Id::of_name("key"));
    for number in 0..512 {
        let value = Value::integer(number);
        let from = named(&number.to_string(), early);
        put(&mut bench, from, store(key, &value, Some(&early_token)));
    }
    let large = Value::bytes(vec![b'L'; 15_900]);
    put(&mut bench, named("large", at("192.0.3.1:9")), store(key, &large, None));
    let late = named("late", at("198.51.100.7:9"));
    let late_token = token(&mut bench, late.address);
    let value = Value::bytes(vec![b'l'; 501]);
    assert!(put(&mut bench, late, store(key, &value, Some(&late_token))));
    for _ in 0..100 {
        assert!(found(&mut bench, key).contains(&value));
    }
}

#[test]
fn who_asks_learns_whose_share_is_full() {
    let mut bench = Bench::without_limits();
    let early = at("192.0.2.1:9");
    let (token, key) = (token(&mut bench, early), Id::of_name("key"));
    let value = |number: i64| Value::integer(number);
    let refused = (0..60).find_map(|number| {
        let (from, value) = (named(&number.to_string(), early), value(number));
        let request = Request::Store(store(key, &value, Some(&token)));
        match answer(&mut bench, from, &request) {
            Ok(Response::Stored) => None,
            Ok(Response::Refused { reason, token: None }) => Some(reason),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(refused.unwrap(), "the key holds 39 values from 192.0.2.0/24 already");
}
