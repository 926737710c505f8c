//! The v1 codec against packets recorded from original nodes: their packets are understood as they
//! meant them, and ours are those that they would have sent.

mod vectors;

use std::net::SocketAddr;

use kademlua::bencode::{self, Item, List, Value};
use kademlua::id::Id;
use kademlua::message::{
    Contact, FindValue, Request, Response, Rest, Rpc, RpcError, StoreMode, StoreRequest,
};
use kademlua::wire::{Body, Dialect, Header, ParseError, PayloadError, UnreadQuery, emit, parse};
use serde_json::Value as Json;
use vectors::{datagram, malformed, name, recorded, unhex};

#[test]
fn headers_are_read() {
    for entry in recorded().iter().filter(|entry| !is_dropped(entry)) {
        let (decoded, bytes) = (&entry["decoded"], datagram(entry));
        let frame = parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", name(entry)));
        let id = unhex(decoded["sender_id"].as_str().unwrap());
        assert_eq!(frame.sender.unwrap().as_bytes()[..], id, "{}", name(entry));
        let rpc_id = unhex(decoded["rpcid"].as_str().unwrap());
        assert_eq!(frame.transaction.as_bytes(), rpc_id, "{}", name(entry));
        let call = match frame.body {
            Body::Query(_) => 1,
            Body::Answer(_) => 129,
            Body::Error(RpcError::NoSuchRpc) => 130,
            Body::Error(RpcError::Failed) => 131,
            Body::CodedError(_) | Body::Route(_) | Body::Routed(_) => {
                panic!("originals know no routes, and no codes")
            }
        };
        assert_eq!(decoded["call"], call, "{}", name(entry));
    }
}

#[test]
fn what_an_original_drops_is_dropped() {
    let dropped: Vec<_> = recorded().into_iter().filter(is_dropped).collect();
    assert_eq!(dropped.len(), 6);
    for entry in dropped {
        let expected = match entry["decoded"]["call"].as_u64().unwrap() {
            _ if entry["decoded"]["version"] != 1 => ParseError::Version,
            // Recorded only as far as its first bytes, as an original received it.
            1 => ParseError::Truncated,
            call => ParseError::Call(call as u8),
        };
        assert_eq!(parse(&datagram(&entry)), Err(expected), "{}", name(&entry));
    }
}

/// An unknown version or call number, or a datagram larger than an original's buffer.
fn is_dropped(entry: &Json) -> bool {
    let known = [1, 129, 130, 131].iter().any(|call| entry["decoded"]["call"] == *call);
    entry["decoded"]["version"] != 1 || !known || name(entry) == "store_17K/request"
}

#[test]
fn requests_are_read_as_they_were_meant() {
    for entry in recorded().iter().filter(|entry| is_request(entry)) {
        let bytes = datagram(entry);
        let read = query(&bytes).read();
        let Some((rpc, args)) = decoded_request(entry) else {
            assert!(matches!(read, Err(PayloadError::Malformed(_) | PayloadError::Shape)));
            continue;
        };
        let expected = expected_request(&rpc, &args);
        assert_eq!(read.map(meaning), expected.map(meaning), "{}", name(entry));
    }
}

#[test]
fn refused_requests_get_an_answer_that_an_original_accepts() {
    let mut refused = 0;
    for entry in recorded().iter().filter(|entry| is_request(entry)) {
        let bytes = datagram(entry);
        let header = header(&bytes);
        let Err(error) = query(&bytes).read() else { continue };
        let mut out = Vec::new();
        emit(&mut out, &header, error);
        assert_eq!(self::header(&out), header);
        match (decoded_request(entry), parse(&out).unwrap().body) {
            (Some((rpc, _)), Body::Answer(answer)) if answer.as_bytes() == b"llee" => {
                assert_eq!(rpc, b"findnode");
            }
            (Some((rpc, _)), Body::Answer(answer)) => {
                assert_eq!(rpc, b"store");
                assert!(answer.as_bytes().starts_with(b"li0e"));
            }
            (Some((rpc, _)), body) => {
                assert_eq!((&rpc[..], body), (&b"findvalue"[..], Body::Error(RpcError::Failed)));
            }
            (None, body) => assert_eq!(body, Body::Error(RpcError::Failed), "{}", name(entry)),
        }
        refused += 1;
    }
    assert_eq!(refused, 18);
}

/// An original takes these, and other decoders read them otherwise: nobody here is meant to take them.
#[test]
fn what_decoders_do_not_agree_on_is_refused() {
    let key = "20:abcdefghij0123456789";
    for (payload, why) in [
        (format!("d4:name5:store4:argsl{key}05:valueee"), "a length with a leading zero"),
        (format!("d4:name9:findvalue4:argsl0{key}i6eee"), "a length with a leading zero"),
        (format!("d4:name9:findvalue4:argsl{key}i6eee and more"), "bytes behind the value"),
        (format!("d4:name5:store4:argsl{key}5:valueee0"), "bytes behind the value"),
    ] {
        let mut bytes = vec![0; 30];
        (bytes[0], bytes[29]) = (1, 1);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload.as_bytes());
        let error = query(&bytes).read().expect_err(why);
        assert!(matches!(error, PayloadError::Malformed(_)), "{why}: {error}");
        let mut out = Vec::new();
        emit(&mut out, &header(&bytes), error);
        assert_eq!(parse(&out).unwrap().body, Body::Error(RpcError::Failed), "{why}");
    }
}

#[test]
fn replies_are_understood() {
    let recorded = recorded();
    for (request, reply) in exchanges(&recorded) {
        let bytes = datagram(reply);
        let read = match parse(&bytes).unwrap().body {
            Body::Answer(answer) => answer.read(kind(request)).map(Ok),
            Body::Error(error) => Ok(Err(error)),
            Body::Query(_) | Body::CodedError(_) | Body::Route(_) | Body::Routed(_) => {
                panic!("a reply")
            }
        };
        assert_eq!(read, expected_response(request, reply), "{}", name(reply));
    }
}

#[test]
fn requests_are_written_byte_for_byte_as_by_an_original_but_for_padding() {
    let mut written = 0;
    for entry in recorded().iter().filter(|entry| entry["direction"] == "original -> peer") {
        let bytes = datagram(entry);
        let header = header(&bytes);
        let Some((rpc, args)) = decoded_request(entry) else { continue };
        // The table that looks like a dictionary here keeps the order in which it was written.
        let Ok(request) = expected_request(&rpc, &args) else { continue };
        let mut out = Vec::new();
        emit(&mut out, &header, &request);
        let padding = out.split_off(bytes.len());
        let is_lookup = matches!(request.kind(), Rpc::FindNode | Rpc::FindValue);
        let padded = if is_lookup { Dialect::V1.sizes().lookup_min() - bytes.len() } else { 0 };
        assert_eq!(padding, vec![0; padded], "{}", name(entry));
        if name(entry).contains("\"k4\"") {
            assert_eq!(out.len(), bytes.len(), "the same but for the order of keys");
        } else {
            assert_eq!(out, bytes, "{}", name(entry));
        }
        written += 1;
    }
    assert_eq!(written, 18);
}

#[test]
fn answers_are_written_byte_for_byte_as_by_an_original() {
    let (recorded, mut written) = (recorded(), 0);
    for (request, reply) in exchanges(&recorded) {
        let bytes = datagram(reply);
        let Ok(response) = expected_response(request, reply) else { continue };
        let is_miss = name(reply).starts_with("findvalue_miss");
        let mut out = Vec::new();
        if put_like_an_original(&mut out, &header(&bytes), &response, is_miss) {
            assert_eq!(out, bytes, "{}", name(reply));
            written += 1;
        }
    }
    assert_eq!(written, 29);
}

/// Writes a message that has one form only. Where a findvalue found something we put the values
/// first, and the answer to a getsocket has its keys in another order.
fn put_like_an_original(
    out: &mut Vec<u8>,
    header: &Header,
    response: &Result<Response, RpcError>,
    is_miss: bool,
) -> bool {
    match response {
        Ok(response @ (Response::Pong | Response::Stored | Response::Nodes(_))) => {
            emit(out, header, response);
        }
        Ok(response @ Response::Values { .. }) if is_miss => emit(out, header, response),
        Err(error) => emit(out, header, *error),
        Ok(
            Response::Values { .. }
            | Response::Refused { .. }
            | Response::Socket(_)
            | Response::Returned(_)
            | Response::Mainline(_),
        ) => return false,
    }
    true
}

#[test]
fn broken_datagrams_are_parsed_or_refused() {
    let seen: Vec<_> = malformed()
        .iter()
        .map(|entry| {
            let bytes = datagram(entry);
            assert_eq!(entry["bytes"], bytes.len(), "{}", name(entry));
            format!("{}: {}", name(entry), outcome(&bytes))
        })
        .collect();
    let golden: Vec<_> = include_str!("vectors/malformed.golden").lines().collect();
    assert_eq!(seen, golden, "{seen:#?}");
}

fn outcome(datagram: &[u8]) -> String {
    let frame = match parse(datagram) {
        Ok(frame) => frame,
        Err(error) => return format!("dropped, {error}"),
    };
    match frame.body {
        Body::Query(query) => match query.read() {
            Ok(request) => format!("{:?}", request.kind()),
            Err(error) => format!("refused, {error}"),
        },
        Body::Answer(_) => "a response".into(),
        Body::Error(RpcError::NoSuchRpc) => "a response, no such RPC".into(),
        Body::Error(RpcError::Failed) => "a response, failed".into(),
        Body::CodedError(error) => format!("an error, {}", error.code),
        Body::Route(route) | Body::Routed(route) => match route.read() {
            Ok(_) => "a route".into(),
            Err(error) => format!("dropped, {error}"),
        },
    }
}

fn is_request(entry: &Json) -> bool {
    entry["decoded"]["call"] == 1 && !is_dropped(entry)
}

fn query(datagram: &[u8]) -> UnreadQuery<'_> {
    match parse(datagram).expect("a message").body {
        Body::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

/// The header that a datagram was written with.
fn header(datagram: &[u8]) -> Header {
    let envelope = parse(datagram).expect("a message");
    envelope.reply_from(envelope.sender.expect("v1 tells who sends"))
}

/// Each recorded reply with the request it answers.
fn exchanges(recorded: &[Json]) -> impl Iterator<Item = (&Json, &Json)> {
    let request = |reply: &Json| recorded.iter().find(|entry| entry["name"] == reply["reply_to"]);
    recorded.iter().filter_map(move |reply| {
        reply["reply_to"].as_str()?;
        Some((request(reply).expect("the request was recorded"), reply))
    })
}

fn kind(request: &Json) -> Rpc {
    Dialect::V1.rpc_named(&decoded_request(request).expect("a request that was answered").0)
}

/// Name and arguments, where the recording shows both.
fn decoded_request(entry: &Json) -> Option<(Vec<u8>, Vec<Value>)> {
    let payload = &entry["decoded"]["payload"];
    let name = unhex(field(payload, "name")?["hex"].as_str()?);
    let args = field(payload, "args")?;
    let is_dict = !args["dict_in_wire_order"].is_null();
    let args = args["list"].as_array().or(is_dict.then_some(const { &Vec::new() }))?;
    Some((name, args.iter().map(value).collect()))
}

fn field<'a>(dict: &'a Json, name: &str) -> Option<&'a Json> {
    let entries = dict["dict_in_wire_order"].as_array()?;
    entries.iter().find(|entry| entry[0]["ascii"] == name).map(|entry| &entry[1])
}

/// The value that a recording describes.
fn value(decoded: &Json) -> Value {
    let mut out = Vec::new();
    put_decoded(&mut out, decoded);
    Value::parse(&out).expect("a value was recorded")
}

fn put_decoded(out: &mut Vec<u8>, decoded: &Json) {
    if let Some(digits) = decoded["hex"].as_str() {
        return bencode::put_bytes(out, &unhex(digits));
    }
    if let Some(integer) = decoded["int"].as_number() {
        // Those beyond 64 bits are powers of ten, which a double holds exactly.
        let integer = integer.as_i64().map_or_else(
            || format!("{:.0}", integer.as_f64().expect("a number")),
            |integer| integer.to_string(),
        );
        return out.extend_from_slice(format!("i{integer}e").as_bytes());
    }
    if let Some(items) = decoded["list"].as_array() {
        out.push(b'l');
        items.iter().for_each(|item| put_decoded(out, item));
    } else {
        out.push(b'd');
        let entries = decoded["dict_in_wire_order"].as_array().expect("a dictionary");
        entries.iter().flat_map(|entry| [&entry[0], &entry[1]]).for_each(|e| put_decoded(out, e));
    }
    out.push(b'e');
}

/// The meaning of these arguments by the protocol.
fn expected_request<'a>(name: &'a [u8], args: &'a [Value]) -> Result<Request<'a>, PayloadError> {
    let id = args.first().and_then(|id| Id::from_slice(id.item().bytes()?));
    match name {
        b"ping" => Ok(Request::Ping),
        b"getsocket" => Ok(Request::GetSocket),
        b"findnode" => id.map(|target| Request::FindNode { target }).ok_or(PayloadError::BadTarget),
        b"findvalue" => {
            let key = id.ok_or(PayloadError::BadKey)?;
            let limit = args.get(1).map_or(Some(1), |limit| limit.item().integer());
            let limit = limit.ok_or(PayloadError::Shape)? as usize;
            Ok(Request::FindValue(FindValue::new(key, limit)))
        }
        b"store" => {
            let key = id.ok_or(PayloadError::BadStoreKey)?;
            let value = args.get(1).ok_or(PayloadError::NoValue)?.item();
            let replace = args.get(2).and_then(|mode| mode.item().integer()) == Some(1);
            let mode = if replace { StoreMode::Replace } else { StoreMode::Add };
            Ok(Request::Store(StoreRequest { key, value, mode, copy: None, token: None }))
        }
        _ if args.is_empty() => Ok(Request::Custom { name, args: List::EMPTY }),
        _ => panic!("no recorded custom RPC has arguments"),
    }
}

/// A request and the canonical form of its value, which may have been written in another.
fn meaning(request: Request<'_>) -> (Request<'_>, Option<Value>) {
    const NOTHING: &[u8] = b"le";
    let Request::Store(store) = request else { return (request, None) };
    let without = StoreRequest { value: Item::parse(NOTHING).expect("the empty list"), ..store };
    (
        Request::Store(without),
        Some(Value::parse(store.value.as_bytes()).expect("no deep value was recorded")),
    )
}

fn expected_response(
    request: &Json,
    reply: &Json,
) -> Result<Result<Response, RpcError>, PayloadError> {
    let decoded = &reply["decoded"];
    match decoded["call"].as_u64() {
        Some(130) => return Ok(Err(RpcError::NoSuchRpc)),
        Some(131) => return Ok(Err(RpcError::Failed)),
        _ => {}
    }
    if !decoded["payload_error"].is_null() {
        // A number that the original could not write, behind contacts that it could.
        let closest = PEERS.map(peer).to_vec();
        return Ok(Ok(Response::Values { values: Vec::new(), closest, rest: Rest::default() }));
    }
    let first = &decoded["payload"]["list"][0];
    let contacts = |list: &Json| list.as_array().unwrap().iter().map(contact).collect();
    let response = match kind(request) {
        Rpc::Ping => Response::Pong,
        // A findnode without a proper id, which we never send.
        Rpc::FindNode if first["int"] == 0 => return Err(PayloadError::Shape),
        Rpc::FindNode => Response::Nodes(contacts(&first["list"])),
        Rpc::FindValue => {
            let values = field(first, "retval").map(|values| values["list"].as_array().unwrap());
            Response::Values {
                values: values.into_iter().flatten().map(value).collect(),
                closest: contacts(&field(first, "closest").unwrap()["list"]),
                rest: Rest::default(),
            }
        }
        Rpc::Store if first["int"] == 1 => Response::Stored,
        Rpc::Store => Response::Refused { reason: String::new(), token: None },
        Rpc::GetSocket => Response::Socket("127.0.0.1:9301".parse().unwrap()),
        Rpc::Custom | Rpc::Mainline(_) => panic!("no original defines RPCs of its own"),
    };
    Ok(Ok(response))
}

fn contact(decoded: &Json) -> Contact {
    let part = |index: usize| unhex(decoded["list"][index]["hex"].as_str().unwrap());
    let ip = String::from_utf8(part(0)).unwrap().parse().unwrap();
    let port = decoded["list"][1]["int"].as_u64().unwrap() as u16;
    Contact { id: Id::from_slice(&part(2)).unwrap(), address: SocketAddr::new(ip, port) }
}

/// The nodes that were there at the recording.
const PEERS: [(u16, &str); 3] = [
    (9302, "d642fef420c5baa4c72f53de9426f1ed699899e2"),
    (9303, "0cf3a452af4baf920c5e381be5f542007639a275"),
    (9304, "cfab47a21798390d18aff84a6a5e4a510f2fed93"),
];

fn peer((port, id): (u16, &str)) -> Contact {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Contact { id: id.parse().expect("40 hex digits"), address }
}
