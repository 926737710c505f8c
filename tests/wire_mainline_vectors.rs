//! The codec of Mainline against what thirteen implementations sent: each of their messages is read, as far as it
//! is one.

mod vectors;

use std::collections::BTreeMap;

use kademlua::bencode::Item;
use kademlua::message::Response;
use kademlua::message::Rpc;
use kademlua::message::mainline::{Kind, Reply};
use kademlua::wire::{Body, Dialect, parse};
use serde_json::Value as Json;
use vectors::{datagram, mainline, name};

/// What others sent, but for echoes of transaction ids that nobody draws: none, a number, a long one.
fn sent_by_others() -> Vec<Json> {
    let entries = mainline("peers.json").into_iter();
    let odd = ["/t_33_bytes/", "/t_missing/", "/t_integer/"];
    entries.filter(|entry| odd.iter().all(|odd| !name(entry).contains(odd))).collect()
}

/// The RPC that a recorded reply answers: a case asks several.
fn kinds(entry: &Json) -> Vec<Rpc> {
    let all = |kinds: &[Kind]| kinds.iter().map(|kind| Rpc::Mainline(*kind)).collect();
    match entry["kind"].as_str().unwrap() {
        "ping" => vec![Rpc::Ping],
        "find_node" | "unknown" => vec![Rpc::FindNode],
        "get_peers" | "scrape" | "announce_peer" => all(&[Kind::GetPeers]),
        "get" | "put_immutable" | "put_mutable" => all(&[Kind::Get]),
        "sample_infohashes" => all(&[Kind::SampleInfohashes]),
        other => panic!("{other}"),
    }
}

#[test]
fn what_others_send_is_read() {
    let mut read: BTreeMap<&str, usize> = BTreeMap::new();
    let entries = sent_by_others();
    for entry in &entries {
        let bytes = datagram(entry);
        let envelope = parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", name(entry)));
        assert_eq!(envelope.dialect, Dialect::Mainline);
        let what = match envelope.body {
            Body::Query(query) => {
                assert!(envelope.sender.is_some(), "{}", name(entry));
                // What they ask is known, or it is something new.
                assert!(query.read().is_ok(), "{}: {:?}", name(entry), query.read());
                "query"
            }
            Body::Answer(answer) => {
                assert!(envelope.sender.is_some(), "{}", name(entry));
                for kind in kinds(entry) {
                    match answer.read(kind) {
                        Ok(_) => {}
                        // That node knows no such RPC, and answered as to a find_node.
                        Err(error) => assert_eq!(
                            (kind, error.to_string().contains("samples")),
                            (Rpc::Mainline(Kind::SampleInfohashes), true),
                            "{}: {error}",
                            name(entry)
                        ),
                    }
                }
                "answer"
            }
            Body::CodedError(error) => {
                assert!((201..=302).contains(&error.code), "{}", name(entry));
                "error"
            }
            body => panic!("{body:?}"),
        };
        *read.entry(what).or_default() += 1;
    }
    assert_eq!(read.values().sum::<usize>(), entries.len());
    assert!(read.values().all(|count| *count >= 10), "{read:?}");
}

/// Contacts, peers, values and filters are all that the bytes hold.
#[test]
fn nothing_in_an_answer_is_lost() {
    for entry in sent_by_others() {
        let bytes = datagram(&entry);
        let Body::Answer(answer) = parse(&bytes).unwrap().body else { continue };
        let fields = Item::parse(answer.as_bytes()).unwrap().dict().unwrap();
        let len = |field: &[u8]| fields.get(field).and_then(Item::bytes).map_or(0, <[u8]>::len);
        let nodes = len(b"nodes") / 26 + len(b"nodes6") / 38;
        let Ok(Response::Nodes(closest)) = answer.read(Rpc::FindNode) else { panic!("contacts") };
        // Some name themselves, or others twice.
        assert!(closest.len() <= nodes && (nodes == 0 || !closest.is_empty()), "{}", name(&entry));
        let read = answer.read(Rpc::Mainline(Kind::GetPeers));
        let Ok(Response::Mainline(Reply::Peers { peers, filters, token, .. })) = read else {
            panic!("peers")
        };
        let listed = fields.get(b"values").and_then(Item::list).map_or(0, Iterator::count);
        // Some list peers whose port was 0, or became it.
        let is_complete = peers.len() == listed || name(&entry).contains("/port_");
        assert!(is_complete, "{}", name(&entry));
        assert_eq!(filters.is_some(), fields.get(b"BFpe").is_some(), "{}", name(&entry));
        assert_eq!(token.is_some(), len(b"token") > 0, "{}", name(&entry));
        let Ok(Response::Mainline(Reply::Item { value, seq, key, .. })) =
            answer.read(Rpc::Mainline(Kind::Get))
        else {
            panic!("an item")
        };
        let stored = fields.get(b"v").map(|value| value.as_bytes().to_vec());
        assert_eq!(value.map(|value| value.0), stored, "{}", name(&entry));
        assert_eq!(seq.is_some(), fields.get(b"seq").is_some(), "{}", name(&entry));
        assert_eq!(key.is_some(), len(b"k") > 0, "{}", name(&entry));
    }
}

#[test]
fn the_examples_of_the_specification_are_read() {
    let entries = mainline("bep.json");
    let examples: Vec<_> =
        entries.iter().filter(|e| name(e).starts_with("BEP 5 example")).collect();
    assert_eq!(examples.len(), 10);
    for entry in examples {
        let bytes = datagram(entry);
        let envelope = parse(&bytes).unwrap();
        assert_eq!(envelope.transaction.as_bytes(), b"aa");
        match envelope.body {
            Body::Query(query) => assert!(query.read().is_ok(), "{}", name(entry)),
            Body::Answer(answer) => assert!(answer.read(Rpc::FindNode).is_ok(), "{}", name(entry)),
            Body::CodedError(error) => {
                assert_eq!((error.code, error.text), (201, &b"A Generic Error Ocurred"[..]));
            }
            body => panic!("{body:?}"),
        }
    }
}
