//! The checks of the fuzz targets, one function for each. An ordinary test includes this file and
//! replays the corpora with it.
//!
//! `scripts/fuzz.sh 600 frame` goes on for ten minutes where `corpus/frame` ends. New inputs worth
//! keeping are small and few.

use kademlua::bencode::{self, Item, ItemView, Value};
use kademlua::id::Id;
use kademlua::message::mainline::Kind;
use kademlua::message::{Response, Rpc};
use kademlua::wire::{
    Body, Dialect, Envelope, Header, Manner, Message, Sizes, UnreadAnswer, UnreadQuery,
    UnreadRoute, emit, parse, read_route_answer,
};

const SIZES: Sizes = Dialect::V1.sizes();

/// The largest datagram UDP carries over IPv4.
const MAX_UDP: usize = 65_507;

const KINDS: [Rpc; 6] =
    [Rpc::Ping, Rpc::FindNode, Rpc::FindValue, Rpc::Store, Rpc::GetSocket, Rpc::Custom];

/// Any datagram is taken apart or refused; a message that was understood is the same after it was
/// written and read again, and a request that was not understood gets an answer that its caller can
/// read.
pub fn frame(datagram: &[u8]) {
    if datagram.len() > MAX_UDP {
        return;
    }
    let Ok(envelope) = parse(datagram) else { return };
    if envelope.dialect == Dialect::Mainline {
        return mainline(&envelope);
    }
    let header = envelope.reply_from(envelope.sender.expect("v1 tells who sends"));
    match envelope.body {
        Body::Query(query) => request(&header, query),
        Body::Answer(answer) => KINDS.iter().for_each(|&kind| response(&header, kind, answer)),
        Body::Error(error) => {
            assert_eq!(body(&written(&header, error), &header), Body::Error(error));
        }
        Body::CodedError(_) => unreachable!("v1 has no codes"),
        Body::Route(unread) | Body::Routed(unread) => route(datagram, &envelope, unread),
    }
}

const MAINLINE_KINDS: [Rpc; 7] = [
    Rpc::Ping,
    Rpc::FindNode,
    Rpc::Mainline(Kind::GetPeers),
    Rpc::Mainline(Kind::AnnouncePeer),
    Rpc::Mainline(Kind::Get),
    Rpc::Mainline(Kind::Put),
    Rpc::Mainline(Kind::SampleInfohashes),
];

/// A message of Mainline that was understood is the same after it was written and read again.
fn mainline(envelope: &Envelope<'_>) {
    let header = Header {
        asker: envelope.seen_at,
        ..envelope.reply_from(envelope.sender.unwrap_or(Id::ZERO))
    };
    let again = |out: &[u8], check: &dyn Fn(Body<'_>)| {
        // Ours brings along what others leave out.
        if out.len() <= Dialect::Mainline.sizes().datagram_max {
            let again = parse(out).expect("what was written can be read");
            assert_eq!(again.transaction, envelope.transaction);
            check(again.body);
        }
    };
    match envelope.body {
        Body::Query(query) => match query.read() {
            Ok(request) => {
                let (want, is_read_only) = (envelope.want, envelope.is_read_only);
                let manner = Manner { want, is_read_only, padded_to: None };
                let out = written(&header, Message::Query { request: &request, manner });
                again(&out, &|body| {
                    let Body::Query(query) = body else { panic!("no request") };
                    assert_eq!(query.read(), Ok(request));
                });
            }
            Err(error) => again(&written(&header, error), &|body| {
                assert!(matches!(body, Body::CodedError(_)));
            }),
        },
        Body::Answer(answer) => {
            for kind in MAINLINE_KINDS {
                let Ok(response) = answer.read(kind) else { continue };
                again(&written(&header, &response), &|body| {
                    let Body::Answer(answer) = body else { panic!("no response") };
                    assert_eq!(answer.read(kind).as_ref(), Ok(&response));
                });
            }
        }
        Body::CodedError(error) => again(&written(&header, error), &|body| {
            assert_eq!(body, Body::CodedError(error));
        }),
        Body::Error(_) | Body::Route(_) | Body::Routed(_) => unreachable!("Mainline has none"),
    }
}

/// A route that was understood is written as it was read, to the last byte.
fn route(datagram: &[u8], envelope: &Envelope<'_>, unread: UnreadRoute<'_>) {
    let Ok(route) = unread.read() else { return };
    let header = envelope.reply_from(envelope.sender.expect("v1 tells who sends"));
    let message = match envelope.body {
        Body::Route(_) => Message::Route(&route),
        _ => Message::Routed(&route),
    };
    assert_eq!(written(&header, message), datagram);
    let hops = header.dialect.route_hops(route.rest).count();
    assert!(8 * hops <= route.rest.len());
    if let Ok(answer) = read_route_answer(header.dialect, route.kind, route.payload) {
        let payload = header.dialect.encode_route_answer(&answer);
        assert_eq!(read_route_answer(header.dialect, route.kind, &payload), Ok(answer));
    }
}

fn written<'a>(header: &Header, message: impl Into<Message<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out, header, message);
    out
}

fn request(header: &Header, query: UnreadQuery<'_>) {
    match query.read() {
        Ok(request) => {
            let out = written(header, &request);
            let Body::Query(query) = body(&out, header) else { panic!("no request") };
            assert_eq!(query.read(), Ok(request));
        }
        Err(error) => {
            let out = written(header, error);
            assert!(out.len() <= SIZES.answer_max);
            let Body::Answer(answer) = body(&out, header) else { return };
            assert!(KINDS.iter().any(|&kind| answer.read(kind).is_ok()));
        }
    }
}

fn response(header: &Header, kind: Rpc, answer: UnreadAnswer<'_>) {
    let Ok(response) = answer.read(kind) else { return };
    values_in(&response).for_each(|value| assert!(Value::parse(value.as_bytes()).is_ok()));
    // Longer than a node would write it.
    if matches!(&response, Response::Refused { reason, .. } if reason.len() > 1_000) {
        return;
    }
    let out = written(header, &response);
    assert!(out.len() <= SIZES.datagram_max || kind == Rpc::Custom);
    // More than a message may have came only because originals write shorter.
    if out.len() > SIZES.datagram_max {
        return;
    }
    let Body::Answer(answer) = body(&out, header) else { panic!("no response") };
    let again = answer.read(kind).expect("what was written can be read");
    assert_same(&response, &again, out.len());
}

fn values_in(response: &Response) -> impl Iterator<Item = &Value> {
    let values = match response {
        Response::Values { values, .. } | Response::Returned(values) => values.as_slice(),
        _ => &[],
    };
    values.iter()
}

/// The same, but for contacts and values that a datagram of this length had no room for.
fn assert_same(response: &Response, again: &Response, len: usize) {
    match (response, again) {
        (Response::Nodes(before), Response::Nodes(after)) => {
            assert!(before.starts_with(after));
            assert!(
                before == after || len > SIZES.answer_max - 80,
                "{len} bytes had room for more"
            );
        }
        (
            Response::Values { values, closest, rest },
            Response::Values { values: values_after, closest: closest_after, rest: rest_after },
        ) => {
            assert_eq!(rest, rest_after);
            let bytes: usize = values.iter().map(|value| value.as_bytes().len()).sum();
            assert!(values == values_after || bytes > SIZES.datagram_max - 300);
            assert!(closest.starts_with(closest_after));
            assert!(closest == closest_after || len > SIZES.answer_max - 80);
        }
        _ => assert_eq!(response, again),
    }
}

fn body<'a>(datagram: &'a [u8], header: &Header) -> Body<'a> {
    let envelope = parse(datagram).expect("what was written can be read");
    assert_eq!(envelope.sender.map(|from| envelope.reply_from(from)), Some(*header));
    envelope.body
}

/// Any bytes are one value or refused; views show the whole value, and the canonical form stays as
/// it is.
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

/// Writes an item from its views.
fn put_seen(out: &mut Vec<u8>, item: Item<'_>) {
    match item.view() {
        ItemView::Bytes(bytes) => return bencode::put_bytes(out, bytes),
        ItemView::Integer(integer) => {
            out.push(b'i');
            out.extend_from_slice(integer.digits().as_bytes());
        }
        ItemView::List(list) => {
            out.push(b'l');
            list.for_each(|item| put_seen(out, item));
        }
        ItemView::Dict(dict) => {
            out.push(b'd');
            dict.for_each(|(key, value)| {
                put_seen(out, key);
                put_seen(out, value);
            });
        }
    }
    out.push(b'e');
}
