//! Datagrams made to break a decoder: recorded packets cut and bent, sizes from nothing to the
//! largest, and the known killers of other implementations, each in the places where it can stand.

mod killers;
#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod targets;
mod vectors;

use std::path::{Path, PathBuf};

use kademlua::bencode::{Item, MAX_VALUE_DEPTH, Value};
use kademlua::message::Rpc;
use kademlua::wire::{Body, MAX_DATAGRAM, parse};
use killers::MAX_UDP;
use vectors::{datagram, malformed, name, recorded};

fn every_packet() -> impl Iterator<Item = Vec<u8>> {
    let mut entries = recorded();
    entries.extend(malformed());
    entries.into_iter().map(|entry| {
        println!("{}", name(&entry));
        datagram(&entry)
    })
}

#[test]
fn a_packet_cut_anywhere_is_refused() {
    for packet in every_packet().filter(|packet| packet.len() < 2_000) {
        let Ok(whole) = parse(&packet) else { continue };
        let end = match whole.body.as_bytes() {
            [] => continue,
            payload => 32 + payload.len(),
        };
        for len in 0..end {
            targets::frame(&packet[..len]);
            // A length that is not there counts as an empty payload, which is no message.
            let is_empty = len == 30;
            assert_eq!(parse(&packet[..len]).is_ok(), is_empty, "cut to {len}");
        }
    }
}

#[test]
fn a_payload_cut_anywhere_is_refused() {
    for packet in every_packet().filter(|packet| packet.len() < 2_000) {
        let Ok(whole) = parse(&packet) else { continue };
        let payload = whole.body.as_bytes();
        if Item::parse(payload).is_err() {
            continue;
        }
        for len in 0..payload.len() {
            assert!(Item::parse(&payload[..len]).is_err(), "cut to {len}");
            targets::frame(&killers::framed([7; 8], 1, &payload[..len]));
            targets::frame(&killers::framed([7; 8], 129, &payload[..len]));
        }
    }
}

#[test]
fn one_flipped_bit_anywhere_breaks_nothing() {
    for mut packet in every_packet().filter(|packet| packet.len() < 2_000) {
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            targets::frame(&packet);
            targets::bencode(packet.get(32..).unwrap_or_default());
            packet[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn datagrams_of_any_size_are_read() {
    let pattern = b"d4:name5:store4:argsl20:aaaaaaaaaaaaaaaaaaaai1e";
    let bytes: Vec<u8> = pattern.iter().copied().cycle().take(MAX_UDP).collect();
    for len in (0..2_000).chain((2_000..MAX_UDP).step_by(997)).chain([MAX_UDP - 1, MAX_UDP]) {
        targets::frame(&bytes[..len]);
        targets::bencode(&bytes[..len]);
        targets::frame(&vec![1; len]);
        let Some(room) = len.checked_sub(32) else { continue };
        targets::frame(&killers::framed([7; 8], 1, &bytes[..room]));
        targets::frame(&killers::framed([7; 8], 129, &b"l".repeat(room)));
        targets::frame(&killers::framed([7; 8], 129, &flat_list(room)));
    }
}

/// A list of empty strings that fills a datagram.
fn flat_list(room: usize) -> Vec<u8> {
    [b"l".to_vec(), b"0:".repeat(room.saturating_sub(2) / 2), b"e".to_vec()].concat()
}

#[test]
fn the_largest_store_is_read_whole() {
    let value = "y".repeat(MAX_DATAGRAM - 32 - b"d4:name5:store4:argsl20:".len() - 20 - 6 - 2);
    let payload = [
        b"d4:name5:store4:argsl20:aaaaaaaaaaaaaaaaaaaa".as_slice(),
        format!("{}:{value}", value.len()).as_bytes(),
        b"ee",
    ]
    .concat();
    let packet = killers::framed([7; 8], 1, &payload);
    assert_eq!(packet.len(), MAX_DATAGRAM);
    let Ok(Body::Query(query)) = parse(&packet).map(|envelope| envelope.body) else {
        panic!("a request")
    };
    assert_eq!(query.read().map(|request| request.kind()), Ok(Rpc::Store));
    targets::frame(&packet);
}

/// No known killer passes the check of bytes from the network, unless it is merely odd.
mod known_killers {
    use super::{Body, Item, Value, killers, parse, targets};

    killers::known_killers!(check);

    fn check(killer: &[u8], refused: bool) {
        assert_eq!(Item::parse(killer).is_err(), refused);
        assert_eq!(Value::parse(killer).is_err(), refused);
        targets::bencode(killer);
        for payload in killers::in_requests(killer) {
            let packet = killers::framed([7; 8], 1, &payload);
            if let Ok(Body::Query(query)) = parse(&packet).map(|envelope| envelope.body) {
                assert!(!refused || query.read().is_err(), "{}", payload.escape_ascii());
            }
            targets::frame(&packet);
        }
        for payload in killers::in_responses(killer) {
            targets::frame(&killers::framed([7; 8], 129, &payload));
        }
    }
}

/// The library overflows at a length of 2^64 - 1 and recurses as deep as the bytes do. So it is named
/// in one place, reads there what a `Value` holds and nothing else, and no `Value` is made of
/// unchecked bytes: see the known killers above.
#[test]
fn the_bencode_library_reads_nothing_that_our_check_has_not_passed() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut readers = Vec::new();
    for file in files(&source) {
        let text = std::fs::read_to_string(&file).unwrap();
        let calls = text.match_indices("bt_bencode::").map(|(at, _)| {
            let rest = &text[at + "bt_bencode::".len()..];
            rest[..rest.find(['\n', ')']).unwrap_or(rest.len())].to_owned()
        });
        let reads = calls.filter(|call| !call.starts_with("to_vec") && !call.starts_with("Error"));
        readers.extend(reads.map(|call| (file.strip_prefix(&source).unwrap().to_owned(), call)));
    }
    assert_eq!(readers, [(PathBuf::from("bencode.rs"), "from_slice(&self.0".to_owned())]);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    nested.flatten().collect()
}

#[test]
fn the_deepest_value_is_converted_on_a_small_stack() {
    let levels = MAX_VALUE_DEPTH;
    for deepest in [killers::nested("l", levels, "e"), {
        ["d1:a".repeat(levels - 1), "le".into(), "e".repeat(levels - 1)].concat()
    }] {
        let value = Value::parse(deepest.as_bytes()).unwrap();
        let convert = move || value.decode::<bt_bencode::Value>().map(|_| ());
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(convert).unwrap();
        thread.join().unwrap().unwrap();
    }
}
