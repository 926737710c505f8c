//! The hot path of a node, from datagram to datagram, allocates nothing.

mod counting;

use std::hint::black_box;
use std::net::SocketAddr;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{Contact, FindValue, Request, RpcId};
use kademlua::wire::v1::{self, Body, EncodedContact, Frame, Header};

use counting::allocations;

/// What a node has at hand when a datagram comes in.
struct Node {
    id: Id,
    contacts: Vec<EncodedContact>,
    values: Vec<Value>,
}

impl Node {
    fn answer(&self, out: &mut Vec<u8>, datagram: &[u8]) {
        let frame = Frame::parse(datagram).expect("a frame");
        let Body::Request(payload) = frame.body else { panic!("a request") };
        let header = Header { from: self.id, rpc_id: frame.header.rpc_id };
        match v1::request(payload).expect("a request") {
            Request::Ping => v1::put_pong(out, &header),
            Request::FindNode { .. } => {
                v1::put_nodes(out, &header, self.contacts.iter(), v1::MAX_REPLY);
            }
            Request::FindValue(search) => {
                let values = self.values.iter().take(search.limit);
                v1::put_values(out, &header, Some(values), self.contacts.iter(), v1::MAX_REPLY);
            }
            Request::Store(_) => v1::put_stored(out, &header),
            Request::GetSocket | Request::Custom { .. } => panic!("not on the hot path"),
        }
    }
}

fn node() -> Node {
    let contact = |port: u16| {
        let id = Id::of_name(port.to_string());
        EncodedContact::new(&Contact { id, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    };
    Node {
        id: Id::of_name("8001"),
        contacts: (8002..8022).map(contact).collect(),
        values: ["one", "two"].map(Value::bytes).into(),
    }
}

fn datagram(request: &Request<'_>) -> Vec<u8> {
    let header = Header { from: Id::of_name("8302"), rpc_id: RpcId(*b"rpc-id-8") };
    let mut out = Vec::new();
    v1::put_request(&mut out, &header, request);
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
    let mut out = Vec::with_capacity(v1::MAX_DATAGRAM);
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
    let Ok(Frame { header, body: Body::Request(payload) }) = Frame::parse(&packet) else {
        panic!("a request")
    };
    let mut out = Vec::with_capacity(v1::MAX_REPLY);
    let count = allocations(|| {
        let error = v1::request(black_box(payload)).expect_err("garbage");
        v1::put_refusal(&mut out, &header, error);
    });
    assert_eq!(count, 0);
}
