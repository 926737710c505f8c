//! What the fuzz targets check, one function a target. An ordinary test includes this file and
//! replays the corpora with it.
//!
//! `scripts/fuzz.sh 600 frame` goes on for ten minutes where `corpus/frame` ends. New inputs worth
//! keeping are small and few.

use kademlua::bencode::{self, Item, Value, View};
use kademlua::message::{Response, Rpc};
use kademlua::wire::v1::{self, Body, EncodedContact, Frame, Header, MAX_DATAGRAM, MAX_REPLY};

/// The largest datagram UDP carries over IPv4.
const MAX_UDP: usize = 65_507;

const KINDS: [Rpc; 6] =
    [Rpc::Ping, Rpc::FindNode, Rpc::FindValue, Rpc::Store, Rpc::GetSocket, Rpc::Custom];

/// Any datagram is taken apart or refused; a message that was understood is the same after it was
/// written and read again, and a request that was not gets an answer its caller can read.
pub fn frame(datagram: &[u8]) {
    if datagram.len() > MAX_UDP {
        return;
    }
    let Ok(frame) = Frame::parse(datagram) else { return };
    match frame.body {
        Body::Request(payload) => request(&frame.header, payload),
        Body::Response(payload) => {
            KINDS.iter().for_each(|&kind| response(&frame.header, kind, payload));
        }
        Body::NoSuchRpc => rewritten(&frame.header, v1::put_no_such_rpc, Body::NoSuchRpc),
        Body::Failed => rewritten(&frame.header, v1::put_failed, Body::Failed),
    }
}

fn rewritten(header: &Header, put: fn(&mut Vec<u8>, &Header), body: Body<'_>) {
    let mut out = Vec::new();
    put(&mut out, header);
    assert_eq!(Frame::parse(&out), Ok(Frame { header: *header, body }));
}

fn request(header: &Header, payload: &[u8]) {
    let mut out = Vec::new();
    match v1::request(payload) {
        Ok(request) => {
            v1::put_request(&mut out, header, &request);
            let Body::Request(payload) = body(&out, header) else { panic!("no request") };
            assert_eq!(v1::request(payload), Ok(request));
        }
        Err(error) => {
            v1::put_refusal(&mut out, header, error);
            assert!(out.len() <= MAX_REPLY);
            let Body::Response(payload) = body(&out, header) else { return };
            assert!(KINDS.iter().any(|&kind| v1::response(kind, payload).is_ok()));
        }
    }
}

fn response(header: &Header, kind: Rpc, payload: &[u8]) {
    let Ok(response) = v1::response(kind, payload) else { return };
    values_in(&response).for_each(|value| assert!(Value::parse(value.as_bytes()).is_ok()));
    let mut out = Vec::new();
    if !put_response(&mut out, header, &response) {
        return;
    }
    assert!(out.len() <= MAX_DATAGRAM || kind == Rpc::Custom);
    let Body::Response(payload) = body(&out, header) else { panic!("no response") };
    let again = v1::response(kind, payload).expect("what was written can be read");
    assert_same(&response, &again, out.len());
}

fn values_in(response: &Response) -> impl Iterator<Item = &Value> {
    let values = match response {
        Response::Values { values, .. } | Response::Returned(values) => values.as_slice(),
        _ => &[],
    };
    values.iter()
}

/// Writes a response as a node would; `false` if it is longer than a node would write it.
fn put_response(out: &mut Vec<u8>, header: &Header, response: &Response) -> bool {
    match response {
        Response::Pong => v1::put_pong(out, header),
        Response::Nodes(contacts) => {
            let contacts: Vec<_> = contacts.iter().map(EncodedContact::new).collect();
            v1::put_nodes(out, header, contacts.iter(), MAX_REPLY);
        }
        Response::Values { values, closest, rest } => {
            let closest: Vec<_> = closest.iter().map(EncodedContact::new).collect();
            let values = Some(values.iter());
            v1::put_values_of_more(out, header, values, rest, closest.iter(), MAX_DATAGRAM);
        }
        Response::Stored => v1::put_stored(out, header),
        Response::Refused { reason, .. } if reason.len() > 1_000 => return false,
        Response::Refused { reason, token } => {
            v1::put_refused(out, header, reason, token.as_deref());
        }
        Response::Socket(address) => v1::put_socket(out, header, *address),
        Response::Returned(values) => v1::put_returned(out, header, values),
        Response::NoSuchRpc | Response::Failed => unreachable!("no payload says so"),
    }
    true
}

/// The same, but for contacts and values that a datagram of this length had no room for.
fn assert_same(response: &Response, again: &Response, len: usize) {
    match (response, again) {
        (Response::Nodes(before), Response::Nodes(after)) => {
            assert!(before.starts_with(after));
            assert!(before == after || len > MAX_REPLY - 80, "{len} bytes had room for more");
        }
        (
            Response::Values { values, closest, rest },
            Response::Values { values: values_after, closest: closest_after, rest: rest_after },
        ) => {
            assert_eq!(rest, rest_after);
            let bytes: usize = values.iter().map(|value| value.as_bytes().len()).sum();
            assert!(values == values_after || bytes > MAX_DATAGRAM - 300);
            assert!(closest.starts_with(closest_after));
            assert!(closest == closest_after || len > MAX_REPLY - 80);
        }
        _ => assert_eq!(response, again),
    }
}

fn body<'a>(datagram: &'a [u8], header: &Header) -> Body<'a> {
    let frame = Frame::parse(datagram).expect("what was written can be read");
    assert_eq!(frame.header, *header);
    frame.body
}

/// Any bytes are one value or refused; what views show is all there is, and the canonical form
/// stays as it is.
pub fn bencode(bytes: &[u8]) {
    let Ok(item) = Item::parse(bytes) else { return };
    let mut copy = Vec::with_capacity(bytes.len());
    put_seen(&mut copy, item);
    assert_eq!(copy, bytes);

    // A value may nest less deep than a message around it.
    let Ok(value) = Value::parse(bytes) else { return };
    assert!(value.as_bytes().len() <= bytes.len());
    let again = Value::parse(value.as_bytes()).expect("the canonical form is well formed");
    assert_eq!(again.as_bytes(), value.as_bytes());
}

/// Writes an item from what its views show.
fn put_seen(out: &mut Vec<u8>, item: Item<'_>) {
    match item.view() {
        View::Bytes(bytes) => return bencode::put_bytes(out, bytes),
        View::Integer(integer) => {
            out.push(b'i');
            out.extend_from_slice(integer.digits().as_bytes());
        }
        View::List(list) => {
            out.push(b'l');
            list.for_each(|item| put_seen(out, item));
        }
        View::Dict(dict) => {
            out.push(b'd');
            dict.for_each(|(key, value)| {
                put_seen(out, key);
                put_seen(out, value);
            });
        }
    }
    out.push(b'e');
}
