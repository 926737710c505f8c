use super::write::{put_contact, put_rest};
use super::*;
use crate::bencode::{Item, Value};
use crate::message::{
    Contact, CopyOf, EncodedContact, Request, Response, Rest, StoreMode, StoreRequest,
};
use crate::time::Duration;
use crate::wire::{Header, Manner, Message, PayloadError, emit, emit_values, parse};

const FROM: [u8; 20] = *b"mnopqrstuvwxyz012345";
const ID: Id = Id::new(*b"abcdefghij0123456789");
const HEADER: Header = Header {
    dialect: Dialect::V1,
    from: Id::new(FROM),
    transaction: TransactionId::new(*b"rpc-id-8"),
    asker: None,
};

/// The datagram with that call number and what follows it.
fn datagram(call: u8, rest: &[u8]) -> Vec<u8> {
    [&[VERSION], &FROM[..], b"rpc-id-8", &[call], rest].concat()
}

fn with_payload(call: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    datagram(call, &[&length, payload].concat())
}

fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

fn request(payload: &[u8]) -> Result<Request<'_>, PayloadError> {
    request_counting(payload).0
}

fn contact(address: &str) -> Contact {
    Contact { id: ID, address: address.parse().unwrap() }
}

/// Both ways: the payload is read as the request, which is written as the payload.
fn assert_request(payload: &[u8], expected: Request<'_>) {
    assert_padded_request(payload, 0, expected);
}

/// The same, with zeros behind the payload up to that length.
fn assert_padded_request(payload: &[u8], len: usize, expected: Request<'_>) {
    assert_eq!(request(payload), Ok(expected));
    let out = written(|out| emit(out, &HEADER, &expected));
    let mut datagram = with_payload(1, payload);
    datagram.resize(datagram.len().max(len), 0);
    assert_eq!(out.escape_ascii().to_string(), datagram.escape_ascii().to_string());
}

/// Both ways: the response is written as the payload, which is read as the response.
fn assert_response(payload: &[u8], expected: &Response) {
    let kind = match expected {
        Response::Pong => Rpc::Ping,
        Response::Nodes(_) => Rpc::FindNode,
        Response::Values { .. } => Rpc::FindValue,
        Response::Stored | Response::Refused { .. } => Rpc::Store,
        Response::Socket(_) => Rpc::GetSocket,
        Response::Returned(_) => Rpc::Custom,
        Response::Mainline(_) => panic!("v1 has nothing of Mainline"),
    };
    assert_eq!(written(|out| emit(out, &HEADER, expected)), with_payload(129, payload));
    assert_eq!(response(kind, payload).as_ref(), Ok(expected));
}

#[test]
fn frames_are_told_apart_by_their_call() {
    let body = |bytes: &[u8]| {
        parse(bytes).map(|envelope| match envelope.body {
            Body::Query(query) => format!("query {}", query.as_bytes().escape_ascii()),
            Body::Answer(answer) => format!("answer {}", answer.as_bytes().escape_ascii()),
            Body::Error(error) => format!("{error:?}"),
            Body::CodedError(error) => format!("{error:?}"),
            Body::Route(route) => format!("route {}", route.as_bytes().escape_ascii()),
            Body::Routed(route) => format!("routed {}", route.as_bytes().escape_ascii()),
        })
    };
    assert_eq!(body(&with_payload(1, b"le")), Ok("query le".into()));
    assert_eq!(body(&with_payload(129, b"le")), Ok("answer le".into()));
    assert_eq!(body(&datagram(130, b"")), Ok("NoSuchRpc".into()));
    assert_eq!(body(&datagram(131, b"rest")), Ok("Failed".into()));
    assert_eq!(body(&datagram(4, b"")), Ok("route ".into()));
    assert_eq!(body(&datagram(132, b"rest")), Ok("routed rest".into()));
    for call in (0..=255).filter(|call| ![1, 4, 129, 130, 131, 132].contains(call)) {
        assert_eq!(body(&datagram(call, b"")), Err(ParseError::Call(call)));
    }
}

#[test]
fn frames_carry_sender_and_call() {
    let bytes = with_payload(1, b"le");
    let Envelope { dialect, sender, transaction, is_read_only, .. } = parse(&bytes).unwrap();
    assert_eq!(Some(HEADER), sender.map(|from| Header { dialect, from, transaction, asker: None }));
    assert!(!is_read_only);
    let other_version = [&[2], &bytes[1..]].concat();
    assert_eq!(parse(&other_version), Err(ParseError::Version));
    assert_eq!(parse(b""), Err(ParseError::Truncated));
}

#[test]
fn padding_may_fill_the_largest_datagram_and_no_more() {
    let mut bytes = with_payload(1, b"le");
    bytes.resize(MAX_DATAGRAM, 0);
    assert!(parse(&bytes).is_ok());
    bytes.push(0);
    assert_eq!(parse(&bytes), Err(ParseError::TooLong));
}

#[test]
fn a_payload_is_as_long_as_announced() {
    let body = |rest: &[u8]| {
        let bytes = datagram(1, rest);
        parse(&bytes).map(|envelope| match envelope.body {
            Body::Query(query) => query.as_bytes().to_vec(),
            _ => panic!("a request"),
        })
    };
    assert_eq!(body(b""), Ok(vec![]), "no length at all");
    assert_eq!(body(b"\0"), Err(ParseError::Truncated));
    assert_eq!(body(b"\0\x03le"), Err(ParseError::Truncated));
    assert_eq!(body(b"\0\x02le and more"), Ok(b"le".to_vec()));
    assert_eq!(body(b"\xff\xff"), Err(ParseError::Truncated));
}

#[test]
fn lookups_in_bytes() {
    assert_request(b"d4:name4:ping4:argslee", Request::Ping);
    assert_request(b"d4:name9:getsocket4:argslee", Request::GetSocket);
    assert_padded_request(
        b"d4:name8:findnode4:argsl20:abcdefghij0123456789ee",
        485,
        Request::FindNode { target: ID },
    );
    assert_padded_request(
        b"d4:name9:findvalue4:argsl20:abcdefghij0123456789i6eee",
        485,
        Request::FindValue(FindValue::new(ID, 6)),
    );
    let search = FindValue { token: Some(b""), ..FindValue::new(ID, 6) };
    assert_padded_request(
        b"d4:name9:findvalue4:argsl20:abcdefghij0123456789i6ed5:token0:eee",
        485,
        Request::FindValue(search),
    );
    assert_padded_request(
        b"d4:name9:findvalue4:argsl20:abcdefghij0123456789i6ed5:after20:abcdefghij0123456789\
          5:token3:\x01e\xffeee",
        485,
        Request::FindValue(FindValue { after: Some(ID), token: Some(b"\x01e\xff"), ..search }),
    );
    let request = &Request::FindValue(search);
    let bare =
        Message::Query { request, manner: Manner { padded_to: Some(0), ..Manner::default() } };
    let bare = written(|out| emit(out, &HEADER, bare));
    assert_eq!(bare.len(), 32 + 64);
}

#[test]
fn what_extends_a_search_is_read_in_parts_or_is_none() {
    let read = |extension: &str| {
        let payload = format!("d4:name9:findvalue4:argsl20:abcdefghij0123456789i6e{extension}ee");
        match request(payload.as_bytes()) {
            Ok(Request::FindValue(search)) => {
                Ok((search.after.is_some(), search.token.map(<[u8]>::len)))
            }
            Ok(_) => panic!("a findvalue"),
            Err(error) => Err(error),
        }
    };
    assert_eq!(read(""), Ok((false, None)));
    assert_eq!(read("de"), Ok((false, None)));
    assert_eq!(read("d5:other1:xe"), Ok((false, None)));
    assert_eq!(read("d5:token2:ab5:after20:abcdefghij0123456789e"), Ok((true, Some(2))));
    for nonsense in ["i5e", "5:token", "d5:after5:shorte", "d5:tokeni1ee", "d5:afterlee"] {
        assert_eq!(read(nonsense), Err(PayloadError::Shape), "{nonsense}");
    }
}

#[test]
fn the_smallest_lookup_leaves_room_for_the_largest_answer_and_a_ping() {
    let ping = written(|out| emit(out, &HEADER, &Request::Ping));
    assert_eq!(ping.len(), SIZES.ping);
    assert!(SIZES.unvalidated_answer_max(SIZES.lookup_min()) >= MAX_REPLY);
    assert!(SIZES.unvalidated_answer_max(SIZES.lookup_min() - 1) < MAX_REPLY);
    // Anything that is a frame may be told that it is no request.
    assert!(SIZES.unvalidated_answer_max(HEADER_LEN) >= HEADER_LEN);
}

#[test]
fn the_longest_lookup_is_as_long_as_it_is_said_to_be() {
    let longest =
        FindValue { after: Some(ID), token: Some(&[7; 16]), ..FindValue::new(ID, usize::MAX) };
    let bare = Message::Query {
        request: &Request::FindValue(longest),
        manner: Manner { padded_to: Some(0), ..Manner::default() },
    };
    assert_eq!(written(|out| emit(out, &HEADER, bare)).len(), SIZES.bare_lookup);
}

#[test]
fn an_answer_that_names_a_contact_is_no_shorter_than_a_ping() {
    let nodes = Response::Nodes(vec![contact("1.1.1.1:1")]);
    assert!(written(|out| emit(out, &HEADER, &nodes)).len() >= SIZES.ping);
}

#[test]
fn stores_in_bytes() {
    let value = Item::parse(b"5:value").unwrap();
    let plain = StoreRequest { key: ID, value, mode: StoreMode::Add, copy: None, token: None };
    assert_request(b"d4:name5:store4:argsl20:abcdefghij01234567895:valueee", Request::Store(plain));
    assert_request(
        b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei2eee",
        Request::Store(StoreRequest { mode: StoreMode::Replace, ..plain }),
    );
    let publisher = contact("[2001:db8::1]:8001");
    let copy = CopyOf { publisher: Some(publisher), age: Duration::from_secs(90) };
    assert_request(
        b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei0ed3:agei90e5:ownerl11:2001:db8::1\
          i8001e20:abcdefghij0123456789eeee",
        Request::Store(StoreRequest { copy: Some(copy), ..plain }),
    );
    assert_request(
        b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei0ed3:agei90eeee",
        Request::Store(StoreRequest { copy: Some(CopyOf { publisher: None, ..copy }), ..plain }),
    );
    assert_request(
        b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei0ed5:token0:eee",
        Request::Store(StoreRequest { token: Some(b""), ..plain }),
    );
    assert_request(
        b"d4:name5:store4:argsl20:abcdefghij01234567895:valuei2ed3:agei90e5:token3:\x01e\xffeee",
        Request::Store(StoreRequest {
            mode: StoreMode::Replace,
            copy: Some(CopyOf { publisher: None, ..copy }),
            token: Some(b"\x01e\xff"),
            ..plain
        }),
    );
}

#[test]
fn what_extends_a_store_is_read_in_parts_or_is_none() {
    let read = |extension: &str| {
        let args = format!("20:abcdefghij01234567895:value4:mode{extension}");
        let payload = format!("d4:name5:store4:argsl{args}ee");
        match request(payload.as_bytes()) {
            Ok(Request::Store(store)) => Ok((store.copy.is_some(), store.token.map(<[u8]>::len))),
            Ok(_) => panic!("a store"),
            Err(error) => Err(error),
        }
    };
    assert_eq!(read(""), Ok((false, None)));
    assert_eq!(read("le"), Ok((false, None)), "the empty dictionary");
    assert_eq!(read("d5:other1:xe"), Ok((false, None)));
    assert_eq!(read("d5:token0:e"), Ok((false, Some(0))));
    assert_eq!(read("d5:token2:\u{e9}3:agei1ee"), Ok((true, Some(2))), "in any order");
    for nonsense in ["i5e", "5:token", "li1ee", "d3:age1:1e", "d5:tokeni1ee", "d5:tokenlee"] {
        assert_eq!(read(nonsense), Err(PayloadError::Shape), "{nonsense}");
    }
}

#[test]
fn the_largest_store_fits_what_an_original_reads() {
    let value = Value::bytes(vec![b'v'; 16_000 - b"15994:".len()]);
    assert_eq!(value.as_bytes().len(), 16_000);
    let publisher = Some(contact("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535"));
    let store = StoreRequest {
        key: ID,
        value: value.item(),
        mode: StoreMode::Replace,
        copy: Some(CopyOf { publisher, age: Duration::from_micros(u64::MAX) }),
        token: Some(&[b't'; MAX_TOKEN]),
    };
    let len = written(|out| emit(out, &HEADER, &Request::Store(store))).len();
    assert!(len <= MAX_DATAGRAM, "{len} bytes");
}

#[test]
fn a_store_by_an_original_replaces_on_one() {
    let read = request(b"d4:name5:store4:argsl20:abcdefghij0123456789i7ei1eee");
    let Ok(Request::Store(store)) = read else { panic!("a store") };
    assert_eq!((store.mode, store.value.integer()), (StoreMode::Replace, Some(7)));
}

#[test]
fn custom_requests_in_bytes() {
    let args = Item::parse(b"li1e1:xe").unwrap().list().unwrap();
    assert_request(b"d4:name5:hello4:argsli1e1:xee", Request::Custom { name: b"hello", args });
}

#[test]
fn requests_come_with_keys_in_any_order_and_more_of_them() {
    assert_eq!(request(b"d4:argsle4:name4:pinge"), Ok(Request::Ping));
    assert_eq!(request(b"di1ei2e4:argsle5:extra1:x4:name4:pinge"), Ok(Request::Ping));
    assert_eq!(request(b"d4:name4:ping4:argsd1:xi1eee"), Ok(Request::Ping));
}

#[test]
fn a_limit_beyond_counting_means_all() {
    let limit = |limit: &str| {
        let payload = format!("d4:name9:findvalue4:argsl20:abcdefghij0123456789{limit}ee");
        match request(payload.as_bytes()) {
            Ok(Request::FindValue(search)) => Ok(search.limit),
            Ok(_) => panic!("a findvalue"),
            Err(error) => Err(error),
        }
    };
    assert_eq!(limit(""), Ok(1));
    assert_eq!(limit("i0e"), Ok(0));
    assert_eq!(limit("i-5e"), Ok(0));
    assert_eq!(limit("i-99999999999999999999e"), Ok(0));
    assert!(limit("i99999999999999999999e").unwrap() >= i64::MAX as usize);
    assert_eq!(limit("1:6"), Err(PayloadError::Shape));
}

#[test]
fn what_is_no_request_is_refused_in_a_way_its_caller_understands() {
    let refusal = |payload: &[u8]| {
        let error = request(payload).expect_err("no request");
        written(|out| emit(out, &HEADER, error))
    };
    assert_eq!(refusal(b"d4:name8:findnode4:argsl5:shortee"), with_payload(129, b"llee"));
    assert_eq!(refusal(b"d4:name8:findnode4:argslee"), with_payload(129, b"llee"));
    assert_eq!(
        refusal(b"d4:name9:findvalue4:argsl5:shortee"),
        with_payload(129, b"ld7:closestleee")
    );
    assert_eq!(
        refusal(b"d4:name5:store4:argsl5:shorti1eee"),
        with_payload(129, b"li0e30:store: the key is not 20 bytese")
    );
    assert_eq!(
        refusal(b"d4:name5:store4:argsl20:abcdefghij0123456789ee"),
        with_payload(129, b"li0e15:store: no valuee")
    );
    for failed in
        ["", "le", "i5e", "d4:namei3e4:argslee", "d4:name4:pinge", "d4:name4:ping4:argsi3ee"]
    {
        assert_eq!(refusal(failed.as_bytes()), datagram(131, b""), "{failed}");
    }
}

#[test]
fn short_answers_in_bytes() {
    assert_response(b"li5ee", &Response::Pong);
    assert_response(b"li1ee", &Response::Stored);
    let refused = |reason: &str, token: Option<&[u8]>| Response::Refused {
        reason: reason.into(),
        token: token.map(<[u8]>::to_vec),
    };
    assert_response(b"li0e4:fulle", &refused("full", None));
    assert_response(b"li0e2:no3:\x01e\xffe", &refused("no", Some(b"\x01e\xff")));
    assert_eq!(response(Rpc::Store, b"li0ee"), Ok(refused("", None)));
    for token in ["i5e", "le", "d1:a1:be", &format!("65:{}", "t".repeat(65))] {
        let payload = format!("li0e2:no{token}e");
        assert_eq!(response(Rpc::Store, payload.as_bytes()), Ok(refused("no", None)), "{token}");
    }
    let longest = "t".repeat(MAX_TOKEN);
    let payload = format!("li0e2:no64:{longest}e");
    let longest = refused("no", Some(longest.as_bytes()));
    assert_eq!(response(Rpc::Store, payload.as_bytes()), Ok(longest));
    assert_eq!(written(|out| emit(out, &HEADER, RpcError::NoSuchRpc)), datagram(130, b""));
    assert_eq!(written(|out| emit(out, &HEADER, RpcError::Failed)), datagram(131, b""));
}

#[test]
fn sockets_in_bytes() {
    let socket = "127.0.0.1:9301".parse().unwrap();
    assert_response(b"ld4:addr9:127.0.0.14:porti9301eee", &Response::Socket(socket));
    let mapped = Response::Socket("[::ffff:127.0.0.1]:9301".parse().unwrap());
    let out = written(|out| emit(out, &HEADER, &mapped));
    assert_eq!(out, with_payload(129, b"ld4:addr9:127.0.0.14:porti9301eee"));
}

#[test]
fn contacts_in_bytes() {
    assert_response(
        b"lll9:127.0.0.1i8001e20:abcdefghij0123456789el3:::1i8002e20:abcdefghij0123456789eee",
        &Response::Nodes(vec![contact("127.0.0.1:8001"), contact("[::1]:8002")]),
    );
}

#[test]
fn the_longest_contact_fits_its_place() {
    let longest = contact("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535");
    assert_eq!(encode_contact(&longest).as_bytes().len(), EncodedContact::MAX);
    assert_eq!(encode_contact(&longest).as_bytes(), written(|out| put_contact(out, &longest)));
}

#[test]
fn found_values_in_bytes() {
    let values = vec![Value::integer(1), Value::bytes("two")];
    let closest = vec![contact("127.0.0.1:8001")];
    assert_response(
        b"ld6:retvalli1e3:twoe7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789eeee",
        &Response::Values { values, closest, rest: Rest::default() },
    );
    assert_response(
        b"ld7:closestleee",
        &Response::Values { values: vec![], closest: vec![], rest: Rest::default() },
    );
}

#[test]
fn what_lies_there_beside_is_told_in_bytes() {
    let rest = Rest { more: 7, next: Some(ID), token: Some(b"t\xffken".to_vec()) };
    let values = vec![Value::integer(1)];
    assert_response(
        b"ld4:morei7e4:next20:abcdefghij01234567895:token5:t\xffken6:retvalli1ee7:closestleee",
        &Response::Values { values, closest: vec![], rest },
    );
    for (nonsense, more) in [("4:more1:x", 0), ("4:morei-1e", 0), ("4:nextle5:tokeni1e", 0)] {
        let payload = format!("ld{nonsense}7:closestleee");
        let Ok(Response::Values { rest, .. }) = response(Rpc::FindValue, payload.as_bytes()) else {
            panic!("{nonsense}")
        };
        assert_eq!(rest, Rest { more, ..Rest::default() }, "{nonsense}");
    }
    let longest = Rest { more: usize::MAX, next: Some(ID), token: Some(vec![0; MAX_TOKEN]) };
    let bytes = written(|out| put_rest(out, &longest)).len();
    assert!((REST_MAX - 1..=REST_MAX).contains(&bytes), "{bytes}");
}

#[test]
fn a_value_that_cannot_be_read_hides_neither_values_nor_contacts() {
    let deep = format!("{}{}", "l".repeat(62), "e".repeat(62));
    let payload =
        format!("ld7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789ee6:retvall2:ok{deep}i7eeee");
    let Ok(Response::Values { values, closest, .. }) = response(Rpc::FindValue, payload.as_bytes())
    else {
        panic!("values")
    };
    assert_eq!(values, [Value::bytes("ok"), Value::integer(7)]);
    assert_eq!(closest, [contact("127.0.0.1:8001")]);
    // In any order, and whatever makes it unreadable.
    let deep = "l".repeat(1_000) + &"e".repeat(1_000);
    for spoilt in [&deep, "i1e+14e", "d1:ai-1.5e+20ee", "03:abc", "i-infe"] {
        let payload = format!(
            "ld6:retvall2:ok{spoilt}i7ee7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789eeee"
        );
        let read = response(Rpc::FindValue, payload.as_bytes());
        let Ok(Response::Values { values: read, closest, .. }) = read else {
            panic!("{spoilt}: {read:?}")
        };
        assert_eq!((read, closest.len()), (values.clone(), 1), "{spoilt}");
    }
}

#[test]
fn a_value_fills_the_largest_datagram_to_the_last_byte() {
    const AROUND: usize = 32 + b"ld6:retvall16000:e7:closestleee".len();
    let fill = |len| {
        let value = Value::bytes(vec![b'v'; len]);
        written(|out| {
            let (values, rest) = (Some([&value].into_iter()), Rest::default());
            emit_values(out, &HEADER, values, &rest, [].iter(), MAX_DATAGRAM);
        })
        .len()
    };
    assert_eq!(fill(MAX_DATAGRAM - AROUND), MAX_DATAGRAM);
    assert_eq!(fill(MAX_DATAGRAM - AROUND + 1), 32 + b"ld6:retvalle7:closestleee".len());
}

#[test]
fn returned_values_in_bytes() {
    let values = vec![Value::integer(1), Value::bytes("two")];
    assert_response(b"li1e3:twoe", &Response::Returned(values));
}

#[test]
fn contacts_that_are_none_are_left_out() {
    let bad = [
        "i5e",
        "le",
        "l9:127.0.0.1i8001ee",
        "l9:127.0.0.1i8001e5:shorte",
        "l9:127.0.0.1i0e20:abcdefghij0123456789e",
        "l9:127.0.0.1i65536e20:abcdefghij0123456789e",
        "l9:127.0.0.1i-1e20:abcdefghij0123456789e",
        "l9:localhosti8001e20:abcdefghij0123456789e",
        "l7:0.0.0.0i8001e20:abcdefghij0123456789e",
        "l9:224.0.0.1i8001e20:abcdefghij0123456789e",
        "l2:::i8001e20:abcdefghij0123456789e",
    ];
    let good = "l9:127.0.0.1i8001e20:abcdefghij0123456789e";
    let payload = format!("ll{}{good}ee", bad.concat());
    let nodes = Response::Nodes(vec![contact("127.0.0.1:8001")]);
    assert_eq!(response(Rpc::FindNode, payload.as_bytes()), Ok(nodes));
}

#[test]
fn contacts_beyond_k_are_not_read() {
    let good = "l9:127.0.0.1i8001e20:abcdefghij0123456789e";
    let payload = format!("ll{}ee", good.repeat(1_000));
    let Ok(Response::Nodes(nodes)) = response(Rpc::FindNode, payload.as_bytes()) else {
        panic!("contacts")
    };
    assert_eq!(nodes.len(), MAX_CONTACTS);
}

#[test]
fn a_number_that_an_original_spoilt_leaves_the_contacts() {
    let spoilt = b"ld7:closestll9:127.0.0.1i8001e20:abcdefghij0123456789ee6:retvalli1e+14eeee";
    let closest = vec![contact("127.0.0.1:8001")];
    let expected = Response::Values { values: vec![], closest, rest: Rest::default() };
    assert_eq!(response(Rpc::FindValue, spoilt), Ok(expected));
    assert!(response(Rpc::FindNode, spoilt).is_err());
    assert!(response(Rpc::FindValue, b"ld7:closesti5ei1.5eee").is_err());
    assert!(response(Rpc::FindValue, b"ld7:closestlli1.5e").is_err());
}

#[test]
fn answers_of_another_shape_are_refused() {
    let refused = |kind, payload: &str| response(kind, payload.as_bytes()).is_err();
    for kind in [Rpc::Ping, Rpc::FindNode, Rpc::FindValue, Rpc::Store, Rpc::GetSocket] {
        for payload in ["", "le", "de", "i5e", "4:text", "l", "li5e", "li5eex"] {
            assert!(refused(kind, payload), "{kind:?} {payload}");
        }
    }
    assert!(refused(Rpc::FindNode, "li0ee"));
    assert!(refused(Rpc::FindNode, "ld1:ai1eee"));
    assert!(refused(Rpc::FindValue, "li0ee"));
    assert!(refused(Rpc::FindValue, "ld7:closesti5eee"));
    assert!(refused(Rpc::GetSocket, "ld4:addr9:localhost4:porti1eee"));
    assert!(refused(Rpc::GetSocket, "ld4:addr9:127.0.0.1ee"));
}

#[test]
fn an_empty_table_is_a_findvalue_that_found_nothing() {
    let nothing = Response::Values { values: vec![], closest: vec![], rest: Rest::default() };
    assert_eq!(response(Rpc::FindValue, b"llee"), Ok(nothing));
}
