//! The hot path of a node, from datagram to datagram, allocates nothing.

mod counting;

use std::hint::black_box;
use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{
    Contact, EncodedContact, FindValue, Request, Response, Rest, TransactionId,
};
use kademlua::wire::{Body, Dialect, Header, MAX_DATAGRAM, emit, emit_nodes, emit_values, parse};

use counting::allocations;

/// The things that a node has at hand when a datagram comes in.
struct Node {
    id: Id,
    contacts: Vec<EncodedContact>,
    values: Vec<Value>,
}

impl Node {
    fn answer(&self, out: &mut Vec<u8>, datagram: &[u8]) {
        let envelope = parse(datagram).expect("a message");
        let Body::Query(query) = envelope.body else { panic!("a request") };
        let header =
            Header { dialect: Dialect::V1, from: self.id, transaction: envelope.transaction };
        match query.read().expect("a request") {
            Request::Ping => emit(out, &header, &Response::Pong),
            Request::FindNode { .. } => {
                emit_nodes(out, &header, self.contacts.iter(), MAX_DATAGRAM);
            }
            Request::FindValue(search) => {
                let values = self.values.iter().take(search.limit);
                let rest = Rest::default();
                emit_values(out, &header, Some(values), &rest, self.contacts.iter(), MAX_DATAGRAM);
            }
            Request::Store(_) => emit(out, &header, &Response::Stored),
            Request::GetSocket | Request::Custom { .. } => panic!("not on the hot path"),
        }
    }
}

fn node() -> Node {
    let contact = |port: u16| {
        let id = Id::of_name(port.to_string());
        Dialect::V1
            .encode_contact(&Contact { id, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    };
    Node {
        id: Id::of_name("8001"),
        contacts: (8002..8022).map(contact).collect(),
        values: ["one", "two"].map(Value::bytes).into(),
    }
}

fn datagram(request: &Request<'_>) -> Vec<u8> {
    let header = Header {
        dialect: Dialect::V1,
        from: Id::of_name("8302"),
        transaction: TransactionId::new(*b"rpc-id-8"),
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
    let node = node();
    let target = Id::of_name("key");
    let requests = [
        Request::Ping,
        Request::FindNode { target },
        Request::FindValue(FindValue::new(target, 6)),
    ];
    let mut out = Vec::with_capacity(MAX_DATAGRAM);
    for request in requests {
        let datagram = datagram(&request);
        let count = allocations(|| node.answer(&mut out, black_box(&datagram)));
        assert_eq!(count, 0, "{request:?}");
        assert!(out.len() > 32, "an answer was written");
        out.clear();
    }
}

#[test]
fn refusing_garbage_allocates_nothing() {
    let mut packet = datagram(&Request::FindNode { target: Id::of_name("key") });
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
