//! The parts of Mainline that need no network, against the vectors of its BEPs: ids that fit addresses (BEP 42),
//! filters of addresses (BEP 33), signed items (BEP 44, BEP 46).

mod vectors;

use std::net::{IpAddr, Ipv6Addr};

use kademlua::bloom::Filter;
use kademlua::fit;
use kademlua::id::Id;
use kademlua::signed::{Content, PublicKey, Signature, immutable_target};
use serde_json::Value as Json;
use vectors::{datagram, mainline, name, unhex};

/// The vectors of a BEP, with their bytes and fields.
fn of(bep: &str) -> Vec<(String, Vec<u8>, Json)> {
    let entries = mainline("bep.json").into_iter().filter(|entry| name(entry).starts_with(bep));
    entries
        .map(|entry| (name(&entry).to_owned(), datagram(&entry), entry["fields"].clone()))
        .collect()
}

fn bytes(fields: &Json, name: &str) -> Vec<u8> {
    unhex(fields[name].as_str().unwrap_or_default())
}

#[test]
fn ids_fit_their_addresses_and_no_others() {
    let vectors = of("BEP 42");
    assert_eq!(vectors.len(), 22);
    for (name, id, fields) in vectors {
        let ip: IpAddr = fields["ip"].as_str().unwrap().parse().unwrap();
        let id = Id::from_slice(&id).unwrap();
        assert_eq!(fit::is_fit(&id, ip), fields["valid"].as_bool().unwrap(), "{name}");
    }
}

#[test]
fn filters_hold_the_same_bits_and_tell_the_same_number() {
    let ipv4 = || (0..=255).map(|last| IpAddr::from([192, 0, 2, last]));
    let ipv6 = |count: u128| {
        let first: Ipv6Addr = "2001:db8::".parse().unwrap();
        (0..count).map(move |number| IpAddr::from(Ipv6Addr::from_bits(first.to_bits() + number)))
    };
    let vectors = of("BEP 33");
    assert_eq!(vectors.len(), 3);
    for (name, bits, fields) in vectors {
        let filter: Filter = match fields["addresses"].as_u64().unwrap() {
            1_256 => ipv4().chain(ipv6(1_000)).collect(),
            count => ipv6(count.into()).collect(),
        };
        assert_eq!(filter.as_bytes()[..], bits, "{name}");
        let expected = fields["estimate"].as_f64().unwrap();
        assert!((filter.count() - expected).abs() < 1e-3, "{name}: {}", filter.count());
    }
}

#[test]
fn items_are_signed_and_lie_where_the_beps_say() {
    for bep in ["BEP 44", "BEP 46"] {
        for (name, bytes_of_it, fields) in of(bep) {
            let salt = bytes(&fields, "salt");
            let target = match (bep, fields.get("k")) {
                ("BEP 44", None) => immutable_target(&bytes_of_it),
                ("BEP 44", Some(_)) => {
                    let key = PublicKey(bytes(&fields, "k").try_into().unwrap());
                    let signature = Signature(bytes(&fields, "sig").try_into().unwrap());
                    let (seq, value) = (fields["seq"].as_i64().unwrap(), bytes(&fields, "v"));
                    let content = Content { salt: &salt, seq, value: &value };
                    assert!(content.is_signed_by(&key, &signature), "{name}");
                    key.target(&salt)
                }
                _ => PublicKey(bytes_of_it.try_into().unwrap()).target(&salt),
            };
            assert_eq!(target.as_bytes()[..], bytes(&fields, "target"), "{name}");
        }
    }
}
