//! A whole node against the recorded requests, one after the other as they were sent: each gets at
//! most one answer, in a form that an original accepts, and values come back as they were stored.

mod vectors;

use std::net::SocketAddr;

use kademlua::address::LocalEnd;
use kademlua::bencode::Value;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::{Request, Response, Rest, Rpc, RpcError, TransactionId};
use kademlua::node::{Input, Node, Output};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{Body, Dialect, Envelope, Header, UnreadQuery, emit, parse};
use serde_json::Value as Json;
use vectors::{datagram, malformed, name, recorded, unhex};

/// The nodes that sent the recorded requests.
const CLIENTS: [(u16, &str); 4] = [
    (9301, "92fdd03df4e3446db7fe82c6e63e276a82bed555"),
    (9302, "d642fef420c5baa4c72f53de9426f1ed699899e2"),
    (9303, "0cf3a452af4baf920c5e381be5f542007639a275"),
    (9304, "cfab47a21798390d18aff84a6a5e4a510f2fed93"),
];

/// The node under test, its clients, and the time.
struct Lab {
    node: Node,
    now: Instant,
}

impl Lab {
    /// A node that knows all its clients.
    fn new() -> Lab {
        let node = Node::new(Instant::ZERO, Id::of_name("8302"), Config::default(), [7; 32]);
        let mut lab = Lab { node, now: Instant::ZERO };
        for (port, id) in CLIENTS {
            let header = Header {
                dialect: Dialect::V1,
                from: id.parse().unwrap(),
                transaction: TransactionId::new([0; 8]),
                asker: None,
            };
            let mut ping = Vec::new();
            emit(&mut ping, &header, &Request::Ping);
            assert_eq!(lab.answers(loopback(port), &ping).len(), 1);
        }
        assert_eq!(lab.node.table().len(), CLIENTS.len());
        lab
    }

    /// The node's answer to a datagram, while its clients answer its own questions.
    fn answers(&mut self, source: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(10);
        self.node.handle(
            self.now,
            Input::Datagram { source, local: LocalEnd::default(), bytes: datagram },
        );
        let mut answers = Vec::new();
        while let Some((destination, bytes)) = self.next_transmit() {
            let Ok(asked @ Envelope { body: Body::Query(query), .. }) = parse(&bytes) else {
                assert_eq!(destination, source, "answers go to the asker");
                answers.push(bytes);
                continue;
            };
            if let Some(reply) = reply_of_client(destination, &asked, query) {
                let input = Input::Datagram {
                    source: destination,
                    local: LocalEnd::default(),
                    bytes: &reply,
                };
                self.node.handle(self.now, input);
            }
        }
        answers
    }

    fn next_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        loop {
            match self.node.poll_output() {
                Output::Transmit { destination, bytes, .. } => {
                    return Some((destination, bytes.to_vec()));
                }
                Output::Event(_) => {}
                Output::Timeout(_) => return None,
            }
        }
    }
}

/// The answer of a client, which knows nobody; strangers are silent.
fn reply_of_client(
    client: SocketAddr,
    asked: &Envelope<'_>,
    query: UnreadQuery<'_>,
) -> Option<Vec<u8>> {
    let (_, id) = CLIENTS.into_iter().find(|(port, _)| loopback(*port) == client)?;
    let header = asked.reply_from(id.parse().unwrap());
    let (values, closest, rest) = (Vec::new(), Vec::new(), Rest::default());
    let mut out = Vec::new();
    match query.read().unwrap().kind() {
        Rpc::Ping => emit(&mut out, &header, &Response::Pong),
        Rpc::FindNode => emit(&mut out, &header, &Response::Nodes(closest)),
        Rpc::FindValue => emit(&mut out, &header, &Response::Values { values, closest, rest }),
        Rpc::Store => emit(&mut out, &header, &Response::Stored),
        Rpc::GetSocket | Rpc::Custom | Rpc::Mainline(_) => {
            emit(&mut out, &header, RpcError::NoSuchRpc);
        }
    }
    Some(out)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Where a recorded request came from.
fn source(entry: &Json) -> SocketAddr {
    let id = entry["decoded"]["sender_id"].as_str().unwrap();
    loopback(CLIENTS.into_iter().find(|client| client.1 == id).expect("a client").0)
}

/// The recorded requests to the original, in order, with its answers.
fn exchanges() -> Vec<(Json, Option<Json>)> {
    let recorded = recorded();
    let reply = |request: &Json| {
        recorded.iter().find(|entry| entry["reply_to"] == request["name"]).cloned()
    };
    let asked =
        recorded.iter().filter(|entry| entry["direction"].as_str().unwrap().starts_with("client"));
    asked.map(|request| (request.clone(), reply(request))).collect()
}

#[test]
fn each_recorded_request_gets_the_answer_of_an_original_or_a_better_one() {
    let mut lab = Lab::new();
    for (request, recorded) in exchanges() {
        let (name, bytes) = (name(&request), datagram(&request));
        let answers = lab.answers(source(&request), &bytes);
        let Some(recorded) = recorded else {
            assert!(answers.iter().all(|answer| is_failed(answer)), "{name}");
            continue;
        };
        assert_eq!(answers.len(), 1, "{name}");
        assert_header(&answers[0], &datagram(&recorded));
        let ours = understood(&request, &answers[0]);
        let theirs = understood(&request, &datagram(&recorded));
        match (ours, theirs) {
            (
                Some(Ok(Response::Values { values, closest, .. })),
                Some(Ok(Response::Values { values: recorded, .. })),
            ) => {
                assert_found(name, &values, &recorded);
                assert!(closest.iter().all(|contact| contact.address != source(&request)));
                assert_eq!(closest.len(), CLIENTS.len() - 1, "{name}");
            }
            (Some(Ok(Response::Nodes(mut ours))), Some(Ok(Response::Nodes(mut theirs)))) => {
                ours.sort();
                theirs.sort();
                assert_eq!(ours, theirs, "{name}");
            }
            // An original answers a findnode without a proper id with a reply that it cannot read
            // itself.
            (ours, None) => assert_eq!(ours, Some(Ok(Response::Nodes(Vec::new()))), "{name}"),
            (Some(Ok(Response::Refused { .. })), Some(Ok(Response::Refused { .. }))) => {}
            (ours, theirs) => assert_eq!(ours, theirs, "{name}"),
        }
    }
}

/// As many values as the original found, and the same ones where it had to give all.
fn assert_found(name: &str, values: &[Value], recorded: &[Value]) {
    let sorted = |values: &[Value]| {
        let mut values: Vec<_> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        values.sort();
        values
    };
    match name.trim_end_matches("/request") {
        // The original could not write these numbers.
        "findvalue_bigint" => assert_eq!(values, [value("i100000000000000000000e")]),
        "findvalue_int_1e14" => assert_eq!(values, [value("i100000000000000e")]),
        // There, any node erases the values of others; here only its own.
        "findvalue_after_overwrite" => {
            assert!(values.contains(&Value::bytes("overwritten")));
            assert!(!values.contains(&Value::bytes("value2")));
            assert!(values.contains(&Value::bytes("from client 1")));
        }
        "findvalue_hit_default_howmany_1" | "findvalue_hit_2" => {
            assert_eq!(values.len(), recorded.len(), "{name}");
        }
        _ => assert_eq!(sorted(values), sorted(recorded), "{name}"),
    }
}

fn value(encoded: &str) -> Value {
    Value::parse(encoded.as_bytes()).unwrap()
}

/// Same node, same call, same kind of answer, and no longer than it may be.
fn assert_header(ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours[..30], theirs[..30]);
    assert!(ours.len() <= Dialect::V1.sizes().answer_max);
}

fn understood(request: &Json, answer: &[u8]) -> Option<Result<Response, RpcError>> {
    match parse(answer).unwrap().body {
        Body::Query(_) => panic!("a request"),
        Body::Answer(answer) => answer.read(kind(request)).ok().map(Ok),
        Body::Error(error) => Some(Err(error)),
        Body::CodedError(_) | Body::Route(_) | Body::Routed(_) => panic!("no route was asked"),
    }
}

fn kind(request: &Json) -> Rpc {
    let entries = request["decoded"]["payload"]["dict_in_wire_order"].as_array().unwrap();
    let name = entries.iter().find(|entry| entry[0]["ascii"] == "name").unwrap();
    Dialect::V1.rpc_named(&unhex(name[1]["hex"].as_str().unwrap()))
}

fn is_failed(answer: &[u8]) -> bool {
    matches!(parse(answer), Ok(Envelope { body: Body::Error(RpcError::Failed), .. }))
}

#[test]
fn broken_datagrams_get_at_most_a_refusal_and_stop_nothing() {
    let mut lab = Lab::new();
    for entry in malformed() {
        let answers = lab.answers(loopback(9401), &datagram(&entry));
        assert!(answers.len() <= 1, "{}", name(&entry));
        if let Some(call) = entry["reply"]["call"].as_u64() {
            // An original takes any nesting.
            let call = if name(&entry) == "nested args to ping" { 131 } else { call };
            assert_eq!(u64::from(answers[0][29]), call, "{}", name(&entry));
            continue;
        }
        for answer in &answers {
            let stored_more_than_an_original = name(&entry) == "60 KB string store";
            assert!(is_failed(answer) || stored_more_than_an_original, "{}", name(&entry));
        }
    }
    let request = exchanges().swap_remove(0).0;
    let answers = lab.answers(source(&request), &datagram(&request));
    assert_eq!(understood(&request, &answers[0]), Some(Ok(Response::Pong)));
}
