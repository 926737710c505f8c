//! The memory that the store counts is the memory that it takes, within a tenth, whatever lies in
//! it.

mod counting;

use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::{Contact, StoreMode};
use kademlua::store::{Deposit, Party, Standing, Store};
use kademlua::time::{Duration, Instant};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const LIMIT: usize = 8 << 20;

/// Deposits of some kind, by number.
struct Rpc {
    name: &'static str,
    key: fn(u32) -> Id,
    len: usize,
    publisher: fn(u32) -> SocketAddr,
    is_copy: bool,
}

fn random_key(number: u32) -> Id {
    Id::of_name(number.to_be_bytes())
}

fn rising_key(number: u32) -> Id {
    let mut key = [0; Id::LEN];
    key[16..].copy_from_slice(&number.to_be_bytes());
    Id::new(key)
}

fn busy_key(number: u32) -> Id {
    random_key(number / 500)
}

/// Many publishers, each with a network of its own.
fn anywhere(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    ([11 + a, b, c, 1], 9).into()
}

/// Few, so that each keeps thousands.
fn few(number: u32) -> SocketAddr {
    anywhere(number % 32)
}

/// Each with a /64 of its own in one of 32 /48.
fn ipv6(number: u32) -> SocketAddr {
    let (high, low) = ((number % 32) as u16, (number / 32) as u16);
    ([0x2001, 0xdb8, high, low, 0, 0, 0, 1], 9).into()
}

const KINDS: [Rpc; 9] = [
    Rpc { name: "tiny", key: random_key, len: 0, publisher: few, is_copy: false },
    Rpc { name: "medium", key: random_key, len: 700, publisher: few, is_copy: false },
    Rpc { name: "large", key: random_key, len: 15_900, publisher: few, is_copy: false },
    Rpc { name: "rising keys", key: rising_key, len: 0, publisher: few, is_copy: false },
    Rpc { name: "busy keys", key: busy_key, len: 0, publisher: anywhere, is_copy: false },
    Rpc { name: "many publishers", key: random_key, len: 0, publisher: anywhere, is_copy: false },
    Rpc { name: "many /64", key: random_key, len: 0, publisher: ipv6, is_copy: false },
    Rpc {
        name: "one key",
        key: |_| Id::new([7; Id::LEN]),
        len: 100,
        publisher: anywhere,
        is_copy: false,
    },
    Rpc { name: "copies", key: random_key, len: 100, publisher: few, is_copy: true },
];

fn deposit(kind: &Rpc, number: u32) -> Deposit {
    let contact =
        Contact { id: Id::of_name(number.to_string()), address: (kind.publisher)(number) };
    let publisher = Party::Node(contact);
    let passer_on = Party::Node(Contact { id: Id::of_name("passer-on"), ..contact });
    Deposit {
        key: (kind.key)(number),
        value: Value::bytes(vec![b'v'; kind.len]),
        mode: StoreMode::Add,
        publisher,
        depositor: if kind.is_copy { passer_on } else { publisher },
        standing: if kind.is_copy { Standing::Hearsay } else { Standing::Published },
        age: Duration::ZERO,
    }
}

/// The counted memory as a share of the bytes asked for, and of the bytes that the allocator takes
/// for them.
fn ratios(store: &Store, before: (isize, isize)) -> [f64; 2] {
    let (live, taken) = (counting::live_bytes() - before.0, counting::taken_bytes() - before.1);
    [live, taken].map(|bytes| store.bytes() as f64 / bytes as f64)
}

#[test]
fn memory_is_counted_within_a_tenth() {
    let mut wrong = Vec::new();
    for kind in &KINDS {
        let before = (counting::live_bytes(), counting::taken_bytes());
        let config = Config { max_store_bytes: LIMIT, ..Config::default() };
        let mut store = Store::new(Id::new([0; Id::LEN]), &config);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut check = |store: &Store, when: &str| {
            let ratios = ratios(store, before);
            let count = store.value_count();
            let line = format!(
                "{:12} {when:9} {count:>6} values, {:>8} bytes counted, of memory {ratios:.3?}",
                kind.name,
                store.bytes()
            );
            println!("{line}");
            if count > 100 && ratios.iter().any(|ratio| !(0.9..=1.1).contains(ratio)) {
                wrong.push(line);
            }
        };
        for number in 0..30_000 {
            let now = Instant::from_micros(u64::from(number) * 1_000_000);
            let _ = store.put(now, deposit(kind, number), &mut rng);
            if number == 2_000 {
                check(&store, "at first");
            }
        }
        check(&store, "full");
        assert!(store.bytes() <= LIMIT);
        // Most of it expires.
        let later = Instant::ZERO + Duration::from_secs(24 * 3_600 + 10_000);
        while store.next_due() <= later {
            store.pop_due(later, &mut rng);
        }
        check(&store, "thinned");
        let end = later + Duration::from_secs(24 * 3_600);
        while store.next_due() <= end {
            store.pop_due(end, &mut rng);
        }
        assert_eq!((store.value_count(), store.key_count(), store.bytes()), (0, 0, 0));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
