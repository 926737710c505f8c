//! What the store promises, value by value and over random deposits.

use std::net::SocketAddr;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// Keys are numbered: the greater the number, the farther the key.
const OWN: Id = Id::new([0; Id::LEN]);

fn node(port: u16) -> Party {
    let id = Id::of_name(port.to_string());
    Party::Node(Contact { id, address: ([127, 0, 0, 1], port).into() })
}

fn deposit(value: &str, publisher: Party, depositor: Party) -> Deposit {
    let (key, value) = (Id::of_name("key"), Value::bytes(value));
    let standing = if publisher == depositor { Standing::Published } else { Standing::Hearsay };
    let (mode, age) = (StoreMode::Add, Duration::ZERO);
    Deposit { key, value, mode, publisher, depositor, standing, age }
}

/// What others see of a value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct StoredRow {
    standing: Standing,
    publisher: Party,
    depositor: Party,
    value: Vec<u8>,
    expires: Instant,
}

impl StoredRow {
    fn of(stored: &Stored) -> StoredRow {
        StoredRow {
            standing: stored.standing,
            publisher: stored.publisher,
            depositor: *stored.depositor(),
            value: stored.value.as_bytes().to_vec(),
            expires: stored.expires,
        }
    }
}

struct Bench {
    store: Store,
    rng: ChaCha8Rng,
}

impl Bench {
    fn with(change: impl FnOnce(&mut Config)) -> Bench {
        let mut config = Config::default();
        change(&mut config);
        Bench { store: Store::new(OWN, &config), rng: ChaCha8Rng::seed_from_u64(1) }
    }

    fn put(&mut self, hours: u64, deposit: Deposit) -> Result<(), Refusal> {
        self.put_at(at(hours), deposit)
    }

    fn put_at(&mut self, now: Instant, deposit: Deposit) -> Result<(), Refusal> {
        self.store.put(now, deposit, &mut self.rng)
    }

    fn texts(&self) -> Vec<String> {
        let key = Id::of_name("key");
        let values = self.store.values(&key).into_iter().flatten();
        let mut texts: Vec<String> =
            values.map(|value| format!("{value:?}").trim_matches('"').to_owned()).collect();
        texts.sort();
        texts
    }

    /// All that there is.
    fn rows(&self) -> BTreeMap<(Id, RowId), StoredRow> {
        let keys = self.store.keys();
        let rows = keys.flat_map(|key| self.store.stored(key).map(|stored| (*key, stored)));
        rows.map(|(key, stored)| ((key, stored.row), StoredRow::of(stored))).collect()
    }

    /// Lets time pass and returns how often the key was to be republished.
    fn pass(&mut self, from_minute: u64, to_minute: u64) -> usize {
        (from_minute..to_minute)
            .filter(|minute| {
                let now = Instant::ZERO + Duration::from_secs(60 * minute);
                self.store.pop_due(now, &mut self.rng).is_some()
            })
            .count()
    }
}

fn at(hours: u64) -> Instant {
    Instant::ZERO + HOUR.times(hours)
}

#[test]
fn a_key_holds_one_value_of_each_owner() {
    let mut bench = Bench::with(|_| {});
    for (value, port) in [("a", 1), ("b", 2), ("c", 1)] {
        bench.put(0, deposit(value, node(port), node(port))).unwrap();
    }
    assert_eq!(bench.texts(), ["b", "c"]);
}

#[test]
fn a_copy_of_an_owner_that_was_here_itself_is_hearsay_and_kept_nowhere() {
    let mut bench = Bench::with(|_| {});
    bench.put(1, deposit("true", node(1), node(1))).unwrap();
    for (hours, age) in [(1, HOUR), (1, Duration::ZERO), (2, Duration::ZERO)] {
        let forged = Deposit { age, ..deposit("forged", node(1), node(2)) };
        assert_eq!(bench.put(hours, forged), Err(Refusal::Superseded));
    }
    let before = bench.rows();
    bench.put(20, deposit("true", node(1), node(2))).unwrap();
    assert_eq!(bench.rows(), before, "the same bytes are taken without effect");
}

/// Anybody can claim, with one datagram.
#[test]
fn a_claim_keeps_no_copies_away_and_copies_leave_it_as_it_is() {
    for claim in ["forged", "true"] {
        let mut bench = Bench::with(|_| {});
        let standing = Standing::Claimed;
        bench.put(0, Deposit { standing, ..deposit(claim, node(1), node(1)) }).unwrap();
        let before = bench.rows();
        bench.put(1, deposit("true", node(1), node(2))).unwrap();
        bench.put(2, deposit("true", node(1), node(3))).unwrap();
        let after = bench.rows();
        assert!(before.iter().all(|(at, row)| after.get(at) == Some(row)), "{after:?}");
        assert_eq!(after.len(), 2, "the copy has a row of its own");
        bench.pass(24 * 60, 24 * 60 + 1);
        assert_eq!(bench.texts(), ["true"], "which outlives the claim");
        bench.put(25, deposit("new", node(1), node(1))).unwrap();
        assert!(bench.put(25, deposit("true", node(1), node(2))).is_err());
    }
}

#[test]
fn what_nobody_proved_stands_beside_what_somebody_did() {
    let mut bench = Bench::with(|_| {});
    let published = |value| deposit(value, node(1), node(1));
    let claimed = |value| Deposit { standing: Standing::Claimed, ..published(value) };
    bench.put(0, published("true")).unwrap();
    bench.put(1, Deposit { mode: StoreMode::Replace, ..claimed("forged") }).unwrap();
    assert_eq!(bench.texts(), ["forged", "true"]);
    bench.put(2, claimed("again")).unwrap();
    assert_eq!(bench.texts(), ["again", "true"], "it replaces its like");
    bench.put(3, claimed("true")).unwrap();
    bench.pass(24 * 60, 24 * 60 + 1);
    let left: Vec<_> =
        bench.store.stored(&Id::of_name("key")).map(|stored| stored.standing).collect();
    assert_eq!(left, [Standing::Claimed], "and prolonged nothing");
    bench.put(25, published("new")).unwrap();
    assert_eq!(bench.texts(), ["new"], "its publisher has the last word");
}

#[test]
fn nobody_tells_this_node_what_it_published() {
    let mut bench = Bench::with(|_| {});
    let ours = Party::Node(Contact { id: OWN, address: ([10, 0, 0, 1], 9).into() });
    bench.put(0, deposit("old", ours, node(2))).unwrap();
    let mode = StoreMode::Replace;
    bench.put(1, Deposit { mode, ..deposit("new", Party::Own, Party::Own) }).unwrap();
    assert_eq!(bench.texts(), ["new"]);
    assert_eq!(bench.put(2, deposit("old", ours, node(2))), Err(Refusal::Superseded));
    // Another node that has the same id, or says so, is another node.
    for standing in [Standing::Claimed, Standing::Published] {
        bench.put(2, Deposit { standing, mode, ..deposit("other", ours, ours) }).unwrap();
    }
    assert_eq!(bench.texts(), ["new", "other"]);
}

/// Somebody who claims to be the publisher drops no copies of what it published.
#[test]
fn a_claim_drops_nothing() {
    let mut bench = Bench::with(|_| {});
    bench.put(0, deposit("true", node(1), node(2))).unwrap();
    let (standing, mode) = (Standing::Claimed, StoreMode::Replace);
    bench.put(0, Deposit { standing, mode, ..deposit("forged", node(1), node(1)) }).unwrap();
    assert_eq!(bench.texts(), ["forged", "true"]);
}

#[test]
fn a_copy_neither_replaces_nor_refreshes_another() {
    let mut bench = Bench::with(|_| {});
    bench.put(0, deposit("first", node(1), node(2))).unwrap();
    bench.put(12, deposit("second", node(1), node(3))).unwrap();
    bench.put(12, deposit("first", node(1), node(3))).unwrap();
    assert_eq!(bench.texts(), ["first", "second"]);
    bench.pass(0, 24 * 60 + 1);
    assert_eq!(bench.texts(), ["second"]);
}

#[test]
fn replacing_drops_copies_of_what_the_owner_had() {
    let mut bench = Bench::with(|_| {});
    bench.put(0, deposit("old", node(1), node(2))).unwrap();
    bench.put(0, deposit("other", node(3), node(2))).unwrap();
    let mode = StoreMode::Replace;
    bench.put(1, Deposit { mode, ..deposit("new", node(1), node(1)) }).unwrap();
    assert_eq!(bench.texts(), ["new", "other"]);
    assert_eq!(bench.store.value_count(), 2);
}

#[test]
fn rows_that_change_all_the_time_keep_no_others_from_being_told() {
    let mut bench = Bench::with(|_| {});
    bench.store.note_changes();
    let change = |number: u8| Change { key: Id::new([number; Id::LEN]), row: RowId(0) };
    (0..9).for_each(|number| bench.store.note_changed(change(number)));
    let mut told = BTreeSet::new();
    for _ in 0..9 {
        bench.store.note_changed(change(0));
        bench.store.note_changed(change(1));
        told.extend(bench.store.take_changed(1));
    }
    assert_eq!(told.len(), 9, "{told:?}");
}

#[test]
fn a_change_names_the_one_row_that_it_concerns() {
    let mut bench = Bench::with(|_| {});
    let kept = deposit("early", node(9), node(9));
    bench.store.restore(at(0), RowId(1), kept, &mut bench.rng).unwrap();
    assert!(!bench.store.has_changes(), "nobody asked");
    bench.store.note_changes();
    let changes = |bench: &mut Bench| {
        let changes = bench.store.take_changed(usize::MAX);
        let there = |change: Change| bench.store.row(&change.key, change.row);
        let text = |stored: &Stored| format!("{:?}", stored.value);
        changes
            .into_iter()
            .map(|change| (change.row.0, there(change).map(text)))
            .collect::<Vec<_>>()
    };
    let told = |row, text: &str| vec![(row, Some(format!("\"{text}\"")))];
    bench.put(0, deposit("a", node(1), node(1))).unwrap();
    assert_eq!(changes(&mut bench), told(2, "a"));
    bench.put(1, deposit("b", node(1), node(1))).unwrap();
    assert_eq!(changes(&mut bench), told(2, "b"), "in the place of the first");
    bench.put(2, deposit("c", node(2), node(3))).unwrap();
    assert_eq!(changes(&mut bench), told(3, "c"));
    bench.put(2, deposit("c", node(2), node(3))).unwrap();
    assert_eq!(changes(&mut bench), vec![], "it was here already");
    bench.pass(24 * 60, 24 * 60 + 1);
    assert_eq!(changes(&mut bench), vec![(1, None)], "it has expired");
    let again = deposit("d", node(4), node(4));
    bench.store.restore(at(24), RowId(7), again, &mut bench.rng).unwrap();
    assert_eq!(changes(&mut bench), vec![], "as it was before");
    bench.put(24, deposit("e", node(5), node(5))).unwrap();
    assert_eq!(changes(&mut bench), told(8, "e"));
    bench.put(25, deposit("f", node(6), node(6))).unwrap();
    bench.pass(49 * 60, 49 * 60 + 1);
    let (gone, untold) = (changes(&mut bench), bench.store.bytes());
    assert_eq!(gone, vec![(2, None), (3, None), (7, None), (8, None)], "nobody heard of the last");
    assert_eq!(untold, 0);
}

#[test]
fn equal_values_are_returned_once() {
    let mut bench = Bench::with(|_| {});
    for port in 1..5 {
        bench.put(0, deposit("same", node(port), node(port))).unwrap();
    }
    assert_eq!(bench.texts(), ["same"]);
    assert_eq!(bench.store.value_count(), 4);
}

#[test]
fn of_equal_values_that_with_the_longest_life_is_passed_on() {
    let mut bench = Bench::with(|_| {});
    bench.put(0, Deposit { age: HOUR, ..deposit("same", node(1), node(9)) }).unwrap();
    bench.put(0, deposit("same", node(2), node(2))).unwrap();
    bench.put(0, Deposit { age: HOUR, ..deposit("same", node(3), node(9)) }).unwrap();
    let key = Id::of_name("key");
    let copy = |(row, _)| bench.store.copy(at(0), &key, row);
    let copies: Vec<_> = bench.store.shown(&key).filter_map(copy).collect();
    let Party::Node(publisher) = node(2) else { unreachable!("made just above") };
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].1, CopyOf { publisher: Some(publisher), age: Duration::ZERO });
}

#[test]
fn values_expire_a_day_after_they_were_published() {
    let mut bench = Bench::with(|_| {});
    bench.put(0, deposit("direct", node(1), node(1))).unwrap();
    bench.put(0, Deposit { age: HOUR.times(23), ..deposit("copy", node(2), node(3)) }).unwrap();
    bench.pass(0, 61);
    assert_eq!(bench.texts(), ["direct"]);
    bench.put(12, deposit("direct", node(1), node(1))).unwrap();
    bench.pass(61, 36 * 60);
    assert_eq!(bench.texts(), ["direct"], "stored again, it lives on");
    bench.pass(36 * 60, 36 * 60 + 1);
    assert!(bench.texts().is_empty());
    assert_eq!((bench.store.bytes(), bench.store.key_count()), (0, 0));
    assert_eq!(bench.store.next_due(), Instant::NEVER);
    let stale = Deposit { age: HOUR.times(24), ..deposit("copy", node(2), node(3)) };
    assert_eq!(bench.put(37, stale), Err(Refusal::Expired));
}

#[test]
fn a_key_is_republished_hourly_unless_another_holder_did_so() {
    let mut bench = Bench::with(|_| {});
    bench.put(0, deposit("value", node(1), node(1))).unwrap();
    let times = bench.pass(0, 10 * 60);
    assert!((9..=11).contains(&times), "{times} times in 10 hours");
    let mut quiet = Bench::with(|_| {});
    let mut times = 0;
    for half_hour in 0..20 {
        let now = Instant::ZERO + HOUR.divided_by(2).times(half_hour);
        quiet.put_at(now, deposit("value", node(1), node(1))).unwrap();
        times += quiet.pass(half_hour * 30, half_hour * 30 + 30);
    }
    assert_eq!(times, 0);
}

/// Otherwise one that repeats what it got keeps all holders from passing it on.
#[test]
fn copies_put_republishing_off_by_one_span_and_that_of_copies_for_a_third_of_a_day() {
    for (publisher, depositor, expected) in [(node(1), node(1), 9), (node(1), node(2), 2)] {
        let mut bench = Bench::with(|_| {});
        bench.put(0, deposit("value", publisher, depositor)).unwrap();
        let mut times = 0;
        for half_hour in 0..40 {
            let now = Instant::ZERO + HOUR.divided_by(2).times(half_hour);
            bench.put_at(now, deposit("value", publisher, node(3))).unwrap();
            times += bench.pass(half_hour * 30, half_hour * 30 + 30);
        }
        assert_eq!(times, expected);
    }
}

#[test]
fn a_busy_key_is_republished_all_the_same() {
    let mut bench = Bench::with(|_| {});
    let mut times = 0;
    for half_hour in 0..20 {
        let now = Instant::ZERO + HOUR.divided_by(2).times(half_hour);
        let publisher = node(half_hour as u16);
        bench.put_at(now, deposit("value", publisher, publisher)).unwrap();
        times += bench.pass(half_hour * 30, half_hour * 30 + 30);
    }
    assert!((8..=11).contains(&times), "{times} times in 10 hours");
}

#[test]
fn every_limit_refuses_and_changes_nothing() {
    let mut bench = Bench::with(|config| {
        config.max_value_bytes = 10;
        config.max_values_per_key = 30;
        config.max_values_per_owner = 4;
        config.max_store_bytes = 40_000;
    });
    let long = deposit("0123456789", node(1), node(1));
    assert_eq!(bench.put(0, long), Err(Refusal::ValueTooLarge { bytes: 13, max: 10 }));
    for publisher in 1..4 {
        bench.put(0, deposit("a", node(publisher), node(9))).unwrap();
    }
    let fourth = deposit("d", node(4), node(9));
    let refused = bench.put(0, fourth.clone()).unwrap_err();
    assert_eq!(refused.to_string(), "the key holds 3 values from 127.0.0.1:9 already");
    let elsewhere = |key: &str, deposit: Deposit| Deposit { key: Id::of_name(key), ..deposit };
    bench.put(0, elsewhere("other", fourth.clone())).unwrap();
    let fifth = elsewhere("third", fourth);
    assert_eq!(bench.put(0, fifth), Err(Refusal::OwnerFull { max: 4 }));
    for port in 10..37 {
        bench.put(0, deposit("a", node(port), node(port))).unwrap();
    }
    let before = bench.rows();
    // One node brought the copies, and has more than the next.
    bench.put(0, deposit("b", node(40), node(40))).unwrap();
    bench.put(0, deposit("b", node(41), node(41))).unwrap();
    bench.put(0, deposit("b", node(42), node(42))).unwrap();
    assert_ne!(bench.rows(), before);
    let before = bench.rows();
    assert_eq!(bench.put(0, deposit("b", node(43), node(43))), Err(Refusal::KeyFull { max: 30 }));
    assert_eq!(bench.rows(), before);
}

/// An account on an address of its own.
fn at_address(address: &str) -> Party {
    let address: SocketAddr = address.parse().unwrap();
    Party::Node(Contact { id: Id::of_name(address.to_string()), address })
}

fn numbered(number: usize, publisher: Party, value: &str) -> Deposit {
    Deposit { key: Id::of_name(number.to_string()), ..deposit(value, publisher, publisher) }
}

/// Fills what an address may fill, and tells how many values that were.
fn flood(bench: &mut Bench, mut next: impl FnMut(usize) -> Deposit) -> usize {
    let mut kept = 0;
    for number in 0..6_000 {
        kept += usize::from(bench.put(0, next(number)).is_ok());
    }
    kept
}

const MEGABYTE: usize = 1 << 20;

/// The address of a deposit, by number.
type Address = fn(usize) -> String;

#[test]
fn nobody_takes_more_than_a_tenth_of_the_store() {
    let publishers: [(&str, Address); 4] = [
        ("one address", |number| format!("192.0.2.1:{}", 1 + number % 60_000)),
        ("one /24", |number| format!("192.0.2.{}:9", number % 256)),
        ("one /64", |number| format!("[2001:db8::{number:x}]:9")),
        ("one /48", |number| format!("[2001:db8:0:{number:x}::1]:9")),
    ];
    for (name, publisher) in publishers {
        for (standing, len) in
            [(Standing::Published, 5), (Standing::Published, 900), (Standing::Claimed, 5)]
        {
            let mut bench = Bench::with(|config| config.max_store_bytes = MEGABYTE);
            let value = "v".repeat(len);
            let kept = flood(&mut bench, |number| Deposit {
                standing,
                ..numbered(number, at_address(&publisher(number)), &value)
            });
            let bytes = bench.store.bytes();
            assert!(kept > 10 && bytes <= MEGABYTE / 10, "{name}: {kept} values, {bytes} bytes");
        }
    }
}

#[test]
fn who_floods_leaves_room_to_neighbours_and_to_all_others() {
    let mut bench = Bench::with(|config| config.max_store_bytes = MEGABYTE);
    let legitimate = |bench: &mut Bench, round: usize| {
        for address in ["192.0.2.200:9", "198.51.100.7:9", "[2001:db8:1:ffff::9]:9"] {
            let number = 100_000 + round;
            bench.put(0, numbered(number, at_address(address), "legitimate")).unwrap();
        }
    };
    for round in 0..6_000 {
        // From one address, from its network, from the /64 of a /48, and in names that are others'.
        let (low, high) = (round % 256, round % 65_536);
        for (address, standing) in [
            ("192.0.2.1:9".to_owned(), Standing::Published),
            (format!("203.0.113.{low}:9"), Standing::Published),
            (format!("[2001:db8:0:{high:x}::1]:9"), Standing::Published),
            (format!("{}.{low}.9.9:9", 1 + round / 256), Standing::Claimed),
        ] {
            let deposit = Deposit { standing, ..numbered(round, at_address(&address), "v") };
            let _ = bench.put(0, deposit);
        }
        if round % 120 == 0 {
            legitimate(&mut bench, round);
        }
    }
    assert!(bench.store.bytes() <= MEGABYTE);
    let legitimate = Value::bytes("legitimate");
    for round in (0..6_000).step_by(120) {
        let key = Id::of_name((100_000 + round).to_string());
        let kept = bench.store.stored(&key).filter(|stored| stored.value == legitimate).count();
        assert_eq!(kept, 3, "of round {round}");
    }
}

#[test]
fn who_fills_a_key_leaves_places_to_others() {
    let mut bench = Bench::with(|_| {});
    let claimed = |deposit: Deposit| Deposit { standing: Standing::Claimed, ..deposit };
    // 512 ids of one address, in its own name and in others'.
    for number in 0..512 {
        let id = Id::of_name(number.to_string());
        let flooder = Party::Node(Contact { id, address: ([192, 0, 2, 1], 9).into() });
        let text = number.to_string();
        let _ = bench.put(0, deposit(&text, flooder, flooder));
        let forged = at_address(&format!("{}.{}.0.1:9", 1 + number % 200, number / 200));
        let _ = bench.put(0, claimed(deposit(&text, forged, forged)));
    }
    let of = |bench: &Bench, standing| {
        let key = Id::of_name("key");
        bench.store.stored(&key).filter(|stored| stored.standing == standing).count()
    };
    assert_eq!(of(&bench, Standing::Published), 39, "three quarters of a tenth of 512");
    assert_eq!(of(&bench, Standing::Claimed), 128, "a quarter of 512");
    // Others fill the key, and each has a place, the neighbour too, until all have the same.
    for number in 0..490 {
        let other = at_address(&format!("11.{}.{}.1:9", number / 250, number % 250));
        bench.put(0, deposit("other", other, other)).unwrap();
    }
    let neighbour = at_address("192.0.2.9:9");
    bench.put(0, deposit("neighbour", neighbour, neighbour)).unwrap();
    assert_eq!(of(&bench, Standing::Claimed), 0, "what nobody proved left first");
    assert!(bench.texts().contains(&"neighbour".to_owned()));
}

/// A house full of publishers, or a lab: each address has its share.
#[test]
fn a_private_network_may_fill_a_key_and_one_address_of_it_may_not() {
    for network in ["10.1.2.", "[fd00:1::"] {
        let end = if network.starts_with('[') { "]" } else { "" };
        let mut bench = Bench::with(|_| {});
        for number in 1..200 {
            let publisher = at_address(&format!("{network}{number}{end}:9"));
            bench.put(0, deposit(&number.to_string(), publisher, publisher)).unwrap();
        }
        let address = format!("{network}7{end}:9").parse().unwrap();
        let kept = (0..100).filter(|number: &u32| {
            let publisher = Party::Node(Contact { id: Id::of_name(number.to_string()), address });
            bench.put(0, deposit("more", publisher, publisher)).is_ok()
        });
        assert_eq!(kept.count(), 38, "and the one that it had");
    }
}

#[test]
fn the_nearest_keys_are_no_privilege() {
    let mut bench = Bench::with(|config| config.max_store_bytes = MEGABYTE);
    let honest = at_address("198.51.100.7:9");
    let far = |number: u8| {
        let mut key = [0xff; Id::LEN];
        key[..2].copy_from_slice(&[200 + number / 10, number]);
        Deposit { key: Id::new(key), ..deposit("v", honest, honest) }
    };
    (0..50).for_each(|number| bench.put(0, far(number)).unwrap());
    for number in 0..20_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let mut key = [0; Id::LEN];
        key[17..].copy_from_slice(&[a, b, c]);
        let flooder = at_address(&format!("192.{}.2.1:9", number % 30));
        let _ = bench.put(0, Deposit { key: Id::new(key), ..deposit("v", flooder, flooder) });
    }
    assert!(bench.store.bytes() > MEGABYTE * 9 / 10, "it is full");
    let keys: BTreeSet<Id> = bench.store.keys().copied().collect();
    assert!((0..50).all(|number| keys.contains(&far(number).key)));
}

#[test]
fn of_one_account_the_farthest_leaves_first_and_of_a_key_the_oldest() {
    let mut bench = Bench::with(|config| config.max_store_bytes = 400_000);
    let key = |far: u8| Id::new([far; Id::LEN]);
    let of = |far, id: &str, value: &str| {
        let address = ([192, 0, 2, 1], 9).into();
        let publisher = Party::Node(Contact { id: Id::of_name(id), address });
        Deposit { key: key(far), ..deposit(&value.repeat(700), publisher, publisher) }
    };
    bench.put(3, of(90, "a", "b")).unwrap();
    bench.put(1, of(90, "b", "a")).unwrap();
    bench.put(5, of(90, "c", "c")).unwrap();
    (1..15).for_each(|far| bench.put(0, of(far, "d", "v")).unwrap());
    let left = |bench: &Bench| {
        let first = |stored: &Stored| format!("{:?}", stored.value)[1..2].to_owned();
        let mut left: Vec<_> = bench.store.stored(&key(90)).map(first).collect();
        left.sort();
        left
    };
    for number in 0.. {
        let other = at_address(&format!("11.{}.{}.1:1", number / 250, number % 250));
        bench.put(6, numbered(number, other, "other")).unwrap();
        if left(&bench) != ["a", "b", "c"] {
            break;
        }
    }
    assert_eq!(left(&bench), ["b", "c"]);
}

#[test]
fn the_own_user_may_exceed_what_strangers_may() {
    let mut bench = Bench::with(|config| config.max_values_per_owner = 1);
    for key in ["key", "other", "third"] {
        let own = Deposit { key: Id::of_name(key), ..deposit("v", Party::Own, Party::Own) };
        bench.put(0, own).unwrap();
    }
    assert_eq!(bench.store.key_count(), 3);
}

const KEYS: u8 = 3;
const OWNERS: u8 = 6;

/// One of a few publishers, some of which share an address or a network; the first is the node itself.
fn publisher(number: u8) -> Party {
    const ADDRESSES: [&str; OWNERS as usize] =
        ["", "192.0.2.1:9", "192.0.2.1:9", "192.0.2.2:9", "[fd00::1]:9", "127.0.0.1:9"];
    if number == 0 {
        return Party::Own;
    }
    let address = ADDRESSES[usize::from(number)].parse().unwrap();
    Party::Node(Contact { id: Id::of_name([number]), address })
}

fn deposits() -> impl Strategy<Value = (u64, Deposit)> {
    let who = (0..OWNERS, 1..OWNERS, 0_u8..4);
    let what = (0..KEYS, 0_u8..3, prop_oneof![Just(3_usize), Just(40), Just(3_000)]);
    (who, what, 0_u64..30, 0_u64..3, any::<bool>()).prop_map(|(who, what, age, pause, replace)| {
        let (owner_number, passer_on, standing) = who;
        let (key, text, len) = what;
        let standing = match standing {
            0 if owner_number != passer_on => Standing::Hearsay,
            1 if owner_number != 0 => Standing::Claimed,
            _ => Standing::Published,
        };
        let publisher = publisher(owner_number);
        let depositor =
            if standing == Standing::Hearsay { self::publisher(passer_on) } else { publisher };
        let mode = match standing {
            Standing::Hearsay => StoreMode::Add,
            _ if replace => StoreMode::Replace,
            _ => StoreMode::Add,
        };
        let deposit = Deposit {
            key: Id::of_name([key]),
            value: Value::bytes(vec![b'a' + text; len]),
            mode,
            publisher,
            depositor,
            standing,
            age: HOUR.times(age),
        };
        (pause, deposit)
    })
}

/// What lies under a key after a deposit, where there is room for all.
fn expected(now: Instant, mut rows: Vec<StoredRow>, deposit: &Deposit) -> Option<Vec<StoredRow>> {
    let new = StoredRow {
        standing: deposit.standing,
        publisher: deposit.publisher,
        depositor: deposit.depositor,
        value: deposit.value.as_bytes().to_vec(),
        expires: now + HOUR.times(24).minus(deposit.age),
    };
    let of = |row: &StoredRow, standing| row.publisher == new.publisher && row.standing == standing;
    let is_there = |rows: &[StoredRow], standing| rows.iter().any(|row| of(row, standing));
    if deposit.age >= HOUR.times(24) {
        return None;
    }
    if new.standing == Standing::Hearsay {
        if let Some(published) = rows.iter().find(|row| of(row, Standing::Published)) {
            return (published.value == new.value).then_some(rows);
        }
        let known = rows.iter().any(|row| of(row, new.standing) && row.value == new.value);
        rows.extend((!known).then_some(new));
        return Some(rows);
    }
    let old = rows.iter().find(|row| of(row, new.standing));
    let stays = old.is_some_and(|old| {
        old.expires > new.expires || old.expires == new.expires && old.value == new.value
    });
    if stays && old.is_some_and(|old| old.value != new.value) {
        return None;
    }
    if !stays {
        rows.retain(|row| !of(row, new.standing));
        rows.push(new.clone());
    }
    if new.standing == Standing::Published {
        rows.retain(|row| !of(row, Standing::Claimed));
        let goes = |row: &StoredRow| {
            of(row, Standing::Hearsay)
                && (deposit.mode == StoreMode::Replace || row.value == new.value)
        };
        rows.retain(|row| !goes(row));
    }
    assert!(is_there(&rows, new.standing));
    Some(rows)
}

fn sorted(mut rows: Vec<StoredRow>) -> Vec<StoredRow> {
    rows.sort();
    rows
}

impl Bench {
    /// Checks that what is counted is what is there.
    fn check(&self) {
        let store = &self.store;
        let rows = self.rows();
        assert_eq!(store.value_count(), rows.len());
        let stored = || {
            store
                .slots
                .iter()
                .flat_map(|(key, slot)| slot.entries().iter().map(move |entry| (key, entry)))
        };
        assert_eq!(store.row_bytes, stored().map(|(_, entry)| entry.stored.cost()).sum::<usize>());
        assert_eq!(store.due.len(), store.slots.len());
        for (key, slot) in &store.slots {
            assert!(store.due.contains(&(slot.due, *key)) && !slot.is_empty());
            assert!(slot.entries().is_sorted_by_key(|entry| (entry.group(), entry.stored.row)));
            let digests: BTreeSet<_> =
                slot.entries().iter().map(|entry| entry.stored.digest).collect();
            let shown: Vec<_> = slot.entries().iter().filter(|entry| entry.is_shown).collect();
            assert_eq!(shown.len(), digests.len());
            for entry in slot.entries() {
                assert!(slot.due <= entry.stored.due());
                let better = |shown: &&&RowEntry| {
                    shown.stored.digest == entry.stored.digest && shown.standing >= entry.standing
                };
                assert!(shown.iter().any(|shown| better(&shown)));
            }
        }
        let mut pools: [Pool; 3] = Default::default();
        for (key, entry) in stored() {
            if let Party::Node(contact) = entry.stored.depositor() {
                let path = AccountPath::of(&contact.address);
                let place = store.place(key, &path, entry.stored.row);
                pools[entry.standing as usize].add(&path, place, charge(&entry.stored));
            }
        }
        assert!(store.pools == pools);
    }
}

proptest! {
    #[test]
    fn deposits_do_what_their_standing_allows(deposits in proptest::collection::vec(deposits(), 0..60)) {
        let mut bench = Bench::with(|_| {});
        let mut now = Instant::ZERO + HOUR.times(100);
        for (pause, deposit) in deposits {
            now += HOUR.times(pause);
            while bench.store.next_due() <= now {
                bench.store.pop_due(now, &mut bench.rng);
            }
            let under = |bench: &Bench| bench.store.stored(&deposit.key).map(StoredRow::of).collect::<Vec<_>>();
            let before = under(&bench);
            let expected = expected(now, before.clone(), &deposit);
            let outcome = bench.put_at(now, deposit.clone());
            prop_assert_eq!(outcome.is_ok(), expected.is_some(), "{:?}", outcome);
            let after = sorted(under(&bench));
            prop_assert_eq!(&after, &sorted(expected.unwrap_or_else(|| before.clone())));
            bench.check();
        }
    }

    /// Where room is short, whatever has to leave.
    #[test]
    fn nothing_lower_changes_what_is_higher(
        bytes in 3_000_usize..40_000,
        per_key in 1_usize..12,
        per_owner in 1_usize..6,
        deposits in proptest::collection::vec(deposits(), 0..80),
    ) {
        let mut bench = Bench::with(|config| {
            config.max_store_bytes = bytes;
            config.max_values_per_key = per_key;
            config.max_values_per_owner = per_owner;
            config.max_value_bytes = 3_500;
        });
        let now = Instant::ZERO + HOUR.times(100);
        bench.store.note_changes();
        bench.store.copies().begin();
        let mut written = BTreeMap::new();
        let mut copied: BTreeMap<Id, Vec<Value>> = BTreeMap::new();
        for (number, (_, deposit)) in deposits.into_iter().enumerate() {
            let before = bench.rows();
            let outcome = bench.put_at(now, deposit.clone());
            let after = bench.rows();
            if outcome.is_err() {
                prop_assert_eq!(&after, &before);
            }
            for (at, row) in before.iter().filter(|(at, row)| after.get(at) != Some(row)) {
                let is_replaced = row.publisher == deposit.publisher && at.0 == deposit.key;
                prop_assert!(row.standing <= deposit.standing, "{:?} left for {:?}", row, deposit);
                prop_assert!(row.depositor != Party::Own || is_replaced, "{:?}", row);
                let pair = [row.standing, deposit.standing];
                prop_assert!(pair != [Standing::Hearsay, Standing::Claimed], "{:?}", row);
            }
            bench.check();
            prop_assert!(bench.store.bytes() <= bytes);
            for slot in bench.store.slots.values() {
                prop_assert!(slot.len() <= per_key);
            }
            // Whoever has copies has none that is not right, nor one of nothing.
            for key in bench.store.copies().take_stale() {
                prop_assert!(copied.remove(&key).is_some());
            }
            let came = bench.store.copies().take_came();
            let is_new = |key: &&Id| !before.keys().any(|(there, _)| there == *key);
            let new = bench.store.keys().filter(is_new);
            prop_assert!(new.into_iter().all(|key| came.contains(key)));
            for (key, values) in &copied {
                let now = bench.store.values(key).into_iter().flatten();
                prop_assert!(now.eq(values), "{} has changed", key);
            }
            let shown: Vec<Value> =
                bench.store.values(&deposit.key).into_iter().flatten().cloned().collect();
            if !shown.is_empty() && copied.insert(deposit.key, shown).is_none() {
                bench.store.copies().add(deposit.key);
            }
            // A listener that writes down the changes has everything in the end.
            if number % 3 == 0 {
                for Change { key, row } in bench.store.take_changed(2) {
                    match bench.store.row(&key, row) {
                        Some(stored) => written.insert((key, row), StoredRow::of(stored)),
                        None => written.remove(&(key, row)),
                    };
                }
            }
        }
        for Change { key, row } in bench.store.take_changed(usize::MAX) {
            match bench.store.row(&key, row) {
                Some(stored) => written.insert((key, row), StoredRow::of(stored)),
                None => written.remove(&(key, row)),
            };
        }
        prop_assert_eq!(written, bench.rows());
    }

    #[test]
    fn a_choice_is_within_its_bounds_and_pages_lead_to_all(
        values in proptest::collection::vec((1_usize..300, 0_u8..8, any::<bool>()), 1..60),
        limit in 1_usize..10,
        max_bytes in 1_usize..2_000,
    ) {
        let mut bench = Bench::with(|_| {});
        for (number, (len, network, is_claimed)) in values.iter().enumerate() {
            let address = SocketAddr::from(([10, 0, *network, 1], 9));
            let publisher = Party::Node(Contact { id: Id::of_name(number.to_string()), address });
            let standing = if *is_claimed { Standing::Claimed } else { Standing::Published };
            let text = format!("{number:03}{}", "v".repeat(*len));
            let _ = bench.put(0, Deposit { standing, ..deposit(&text, publisher, publisher) });
        }
        let key = Id::of_name("key");
        let all: BTreeSet<&[u8]> = bench.store.values(&key).unwrap().map(Value::as_bytes).collect();
        let fitting: BTreeSet<&[u8]> = all.iter().copied().filter(|value| value.len() <= max_bytes).collect();
        let picked = bench.store.pick(&key, limit, max_bytes, None, &mut bench.rng).unwrap();
        let (more, mut next) = (picked.more, picked.next);
        let chosen: Vec<&[u8]> = picked.values.map(Value::as_bytes).collect();
        prop_assert!(chosen.len() <= limit && chosen.concat().len() <= max_bytes);
        prop_assert_eq!(more, all.len() - chosen.len());
        prop_assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), chosen.len());
        // The answer is full: the values that were left out would not have fitted.
        let left = max_bytes - chosen.concat().len();
        let mut others = fitting.iter().filter(|value| !chosen.contains(value));
        prop_assert!(chosen.len() == limit || others.all(|value| value.len() > left));
        let mut found: BTreeSet<&[u8]> = chosen.iter().copied().collect();
        while let Some(after) = next {
            let picked = bench.store.pick(&key, limit, max_bytes, Some(&after), &mut bench.rng).unwrap();
            next = picked.next;
            let page: Vec<&[u8]> = picked.values.map(Value::as_bytes).collect();
            prop_assert!(page.len() <= limit && page.concat().len() <= max_bytes);
            prop_assert!(next.is_none_or(|next| next > after));
            found.extend(page);
        }
        prop_assert_eq!(found, fitting);
    }
}

/// Which of some values answers hold, over many askers: how often each text came.
fn served(bench: &mut Bench, limit: usize, max_bytes: usize) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..1_000 {
        let picked = bench.store.pick(&Id::of_name("key"), limit, max_bytes, None, &mut bench.rng);
        for value in picked.unwrap().values {
            *served.entry(format!("{value:?}").trim_matches('"').to_owned()).or_default() += 1;
        }
    }
    served
}

#[test]
fn who_comes_late_is_served_like_who_came_first() {
    let mut bench = Bench::with(|_| {});
    for number in 0..6 {
        let id = Id::of_name([number]);
        let early = Party::Node(Contact { id, address: ([192, 0, 2, number], 9).into() });
        bench.put(0, deposit(&format!("early {number}"), early, early)).unwrap();
    }
    let late = at_address("198.51.100.7:9");
    bench.put(1, deposit("late", late, late)).unwrap();
    let served = served(&mut bench, 6, 16_000);
    assert_eq!(served["late"], 1_000, "one of two networks");
    assert!((0..6).all(|number| served[&format!("early {number}")] > 700), "{served:?}");
}

#[test]
fn what_is_large_hides_nothing_that_is_small() {
    let mut bench = Bench::with(|_| {});
    let (early, late) = (at_address("192.0.2.1:9"), at_address("198.51.100.7:9"));
    let large = "L".repeat(15_900);
    bench.put(0, deposit(&large, early, early)).unwrap();
    let small = "s".repeat(501);
    bench.put(1, deposit(&small, late, late)).unwrap();
    let served = served(&mut bench, 6, 16_327);
    assert_eq!(served.get(&small), Some(&1_000));
    assert_eq!(served.get(&large), None, "it does not fit as well, and comes with the cursor");
}

#[test]
fn names_that_anybody_can_write_down_leave_half_to_those_that_were_proved() {
    let mut bench = Bench::with(|_| {});
    for number in 0..100 {
        let forged = at_address(&format!("11.{number}.0.1:9"));
        let standing = Standing::Claimed;
        let text = format!("forged {number}");
        bench.put(0, Deposit { standing, ..deposit(&text, forged, forged) }).unwrap();
    }
    for number in 0..3 {
        let publisher = at_address(&format!("198.51.{number}.1:9"));
        bench.put(0, deposit(&format!("true {number}"), publisher, publisher)).unwrap();
    }
    let served = served(&mut bench, 6, 16_000);
    assert!((0..3).all(|number| served[&format!("true {number}")] == 1_000), "{served:?}");
    assert_eq!(served.len(), 103, "and each of the others comes too");
}
