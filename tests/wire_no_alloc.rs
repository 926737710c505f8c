//! The hot path of a node, from datagram to datagram, allocates nothing.

mod counting;

use std::hint::black_box;
use std::net::SocketAddr;

use kademlua::address::Families;
use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::mainline::{Answer, GetPeers, Query};
use kademlua::message::{
    Contact, EncodedContact, FindValue, Request, Response, Rest, TransactionId,
};
use kademlua::wire::{
    Body, Dialect, Header, MAX_DATAGRAM, emit, emit_answer, emit_nodes, emit_values, parse,
};

use counting::allocations;

/// The things that a node has at hand when a datagram comes in.
struct Node {
    id: Id,
    contacts: Vec<EncodedContact>,
    values: Vec<Value>,
    peers: Vec<SocketAddr>,
}

impl Node {
    fn answer(&self, out: &mut Vec<u8>, datagram: &[u8]) {
        let envelope = parse(datagram).expect("a message");
        let Body::Query(query) = envelope.body else { panic!("a request") };
        let header = Header { asker: Some(self.peers[0]), ..envelope.reply_from(self.id) };
        match query.read().expect("a request") {
            Request::Ping => emit(out, &header, &Response::Pong),
            Request::FindNode { .. } => {
                let families = Families::of(&self.peers[0]);
                emit_nodes(out, &header, families, self.contacts.iter(), MAX_DATAGRAM);
            }
            Request::FindValue(search) => {
                let values = self.values.iter().take(search.limit);
                let rest = Rest::default();
                emit_values(out, &header, Some(values), &rest, self.contacts.iter(), MAX_DATAGRAM);
            }
            Request::Store(_) => emit(out, &header, &Response::Stored),
            Request::Mainline(Query::GetPeers(_)) => {
                let answer =
                    Answer { token: Some(b"token"), peers: Some(&self.peers), ..Answer::default() };
                let families = Families::of(&self.peers[0]);
                emit_answer(out, &header, &answer, families, self.contacts.iter(), MAX_DATAGRAM);
            }
            Request::GetSocket | Request::Custom { .. } | Request::Mainline(_) => {
                panic!("not on the hot path")
            }
        }
    }
}

fn node(dialect: Dialect) -> Node {
    let contact = |port: u16| {
        let id = Id::of_name(port.to_string());
        dialect.encode_contact(&Contact { id, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    };
    Node {
        id: Id::of_name("8001"),
        contacts: (8002..8022).map(contact).collect(),
        values: ["one", "two"].map(Value::bytes).into(),
        peers: (8002..8022).map(|port| ([127, 0, 0, 1], port).into()).collect(),
    }
}

fn datagram(dialect: Dialect, request: &Request<'_>) -> Vec<u8> {
    let header = Header {
        dialect,
        from: Id::of_name("8302"),
        transaction: TransactionId::new(*b"rpc-id-8"),
        asker: None,
    };
    let mut out = Vec::new();
    emit(&mut out, &header, request);
    out
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(vec![1_u8]))), 1);
}

#[test]
fn answering_into_a_warm_buffer_allocates_nothing() {
    let target = Id::of_name("key");
    let search = GetPeers { info_hash: target, no_seeds: false, scrape: false };
    let requests = [
        (Dialect::V1, Request::Ping),
        (Dialect::V1, Request::FindNode { target }),
        (Dialect::V1, Request::FindValue(FindValue::new(target, 6))),
        (Dialect::Mainline, Request::Ping),
        (Dialect::Mainline, Request::FindNode { target }),
        (Dialect::Mainline, Request::Mainline(Query::GetPeers(search))),
    ];
    let mut out = Vec::with_capacity(MAX_DATAGRAM);
    for (dialect, request) in requests {
        let (node, datagram) = (node(dialect), datagram(dialect, &request));
        let count = allocations(|| node.answer(&mut out, black_box(&datagram)));
        assert_eq!(count, 0, "{request:?}");
        assert!(out.len() > 32, "an answer was written");
        out.clear();
    }
}

#[test]
fn refusing_garbage_allocates_nothing() {
    let mut packet = datagram(Dialect::V1, &Request::FindNode { target: Id::of_name("key") });
    packet[40] = b'x';
    let envelope = parse(&packet).expect("a message");
    let Body::Query(query) = envelope.body else { panic!("a request") };
    let header = envelope.reply_from(Id::of_name("own"));
    let mut out = Vec::with_capacity(Dialect::V1.sizes().answer_max);
    let count = allocations(|| {
        let error = black_box(query).read().expect_err("garbage");
        emit(&mut out, &header, error);
    });
    assert_eq!(count, 0);
}
