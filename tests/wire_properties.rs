//! Properties of the v1 codec and its bencoding: every message reads back as it was written, sizes
//! stay within their limits, and strangers' bytes break nothing.

use std::net::{IpAddr, SocketAddr};

use kademlua::bencode::{self, Item, MAX_VALUE_DEPTH, Value};
use kademlua::id::{Id, IdPrefix};
use kademlua::message::{
    Contact, CopyOf, FindValue, Request, Response, Rest, Route, RouteAnswer, RouteFlags, RouteHop,
    RouteKind, Rpc, StoreMode, StoreRequest, TransactionId,
};
use kademlua::time::Duration;
use kademlua::wire::{
    Body, Dialect, Envelope, Header, MAX_DATAGRAM, Message, emit, parse, read_route_answer,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A value before it is written.
#[derive(Clone, Debug)]
enum Tree {
    Integer(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(Vec<(Key, Tree)>),
}

#[derive(Clone, Debug)]
enum Key {
    Integer(i64),
    Bytes(Vec<u8>),
}

impl Tree {
    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Tree::Integer(integer) => bencode::put_integer(out, *integer),
            Tree::Bytes(bytes) => bencode::put_bytes(out, bytes),
            Tree::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.put(out));
                out.push(b'e');
            }
            Tree::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    key.put(out);
                    value.put(out);
                }
                out.push(b'e');
            }
        }
    }

    fn value(&self) -> Value {
        Value::parse(&self.encoded()).expect("a tree is a value")
    }

    /// The same with the entries of every dictionary the other way round.
    fn reversed(&self) -> Tree {
        match self {
            Tree::Integer(_) | Tree::Bytes(_) => self.clone(),
            Tree::List(items) => Tree::List(items.iter().map(Tree::reversed).collect()),
            Tree::Dict(entries) => {
                let reversed = entries.iter().rev();
                Tree::Dict(reversed.map(|(key, value)| (key.clone(), value.reversed())).collect())
            }
        }
    }
}

impl Key {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Key::Integer(integer) => bencode::put_integer(out, *integer),
            Key::Bytes(bytes) => bencode::put_bytes(out, bytes),
        }
    }
}

fn string_key() -> impl Strategy<Value = Key> {
    vec(any::<u8>(), 0..6).prop_map(Key::Bytes)
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![string_key(), any::<i64>().prop_map(Key::Integer)]
}

/// Trees whose dictionaries have keys of `key`, none of them twice.
fn tree_with<K>(key: fn() -> K) -> impl Strategy<Value = Tree>
where
    K: Strategy<Value = Key> + 'static,
{
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Integer),
        vec(any::<u8>(), 0..40).prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(8, 60, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Tree::List),
            vec((key(), inner), 0..6).prop_map(|mut entries| {
                entries.sort_by_key(|(key, _)| format!("{key:?}"));
                entries.dedup_by_key(|(key, _)| format!("{key:?}"));
                Tree::Dict(entries)
            }),
        ]
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    tree_with(any_key)
}

fn id() -> impl Strategy<Value = Id> {
    any::<[u8; 20]>().prop_map(Id::new)
}

fn header() -> impl Strategy<Value = Header> {
    (id(), any::<[u8; 8]>()).prop_map(|(from, rpc_id)| Header {
        dialect: Dialect::V1,
        from,
        transaction: TransactionId::new(rpc_id),
        asker: None,
    })
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<u8>()
            .prop_map(|last| IpAddr::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn contact() -> impl Strategy<Value = Contact> {
    (id(), address())
        .prop_map(|(id, address)| Contact { id, address })
        .prop_filter("nothing can be sent there", |contact| {
            kademlua::address::is_sendable(&contact.address)
        })
}

fn copy() -> impl Strategy<Value = CopyOf> {
    // A duration holds this many whole seconds.
    const MAX_SECS: u64 = u64::MAX / 1_000_000;
    (prop::option::of(contact()), 0..=MAX_SECS)
        .prop_map(|(publisher, age)| CopyOf { publisher, age: Duration::from_secs(age) })
}

fn mode() -> impl Strategy<Value = StoreMode> {
    prop_oneof![Just(StoreMode::Add), Just(StoreMode::Replace)]
}

fn body<'a>(datagram: &'a [u8], header: &Header) -> Body<'a> {
    let envelope = parse(datagram).expect("a message");
    assert_eq!(envelope.sender.map(|from| envelope.reply_from(from)), Some(*header));
    envelope.body
}

fn assert_request_returns(header: &Header, request: &Request<'_>) {
    // Behind other bytes, which must stay as they are.
    let mut out = b"before".to_vec();
    emit(&mut out, header, request);
    let datagram = out.strip_prefix(b"before").expect("what was there stays");
    let is_lookup = matches!(request.kind(), Rpc::FindNode | Rpc::FindValue);
    assert!(!is_lookup || datagram.len() == Dialect::V1.sizes().lookup_min());
    let Body::Query(query) = body(datagram, header) else { panic!("a request") };
    assert_eq!(query.read(), Ok(*request));
}

/// The response as it reads back after it was written, and its length.
fn returned(kind: Rpc, header: &Header, response: &Response) -> (Response, usize) {
    let mut out = b"before".to_vec();
    emit(&mut out, header, response);
    let datagram = out.strip_prefix(b"before").expect("what was there stays");
    let Body::Answer(answer) = body(datagram, header) else { panic!("an answer") };
    (answer.read(kind).expect("a response"), datagram.len())
}

fn found(values: Vec<Value>, closest: Vec<Contact>) -> Response {
    Response::Values { values, closest, rest: Rest::default() }
}

proptest! {
    #[test]
    fn the_canonical_form_is_stable(tree in tree()) {
        let value = tree.value();
        let again = Value::parse(value.as_bytes()).unwrap();
        prop_assert_eq!(again.as_bytes(), value.as_bytes());
        prop_assert_eq!(Value::parse(value.item().as_bytes()), Ok(value));
    }

    #[test]
    fn the_order_of_keys_means_nothing(tree in tree()) {
        prop_assert_eq!(tree.reversed().value(), tree.value());
    }

    #[test]
    fn canonical_values_are_what_another_library_reads_and_writes(tree in tree_with(string_key)) {
        let value = tree.value();
        let theirs: bt_bencode::Value = bt_bencode::from_slice(value.as_bytes()).unwrap();
        // It writes an empty dictionary where we write the empty list.
        prop_assert_eq!(Value::encode(&theirs).unwrap(), value.clone());
        let from_ours: bt_bencode::Value = value.decode().unwrap();
        prop_assert_eq!(bt_bencode::to_vec(&from_ours).unwrap(), value.as_bytes());
    }

    #[test]
    fn bytes_are_refused_where_another_library_refuses_them(
        tree in tree_with(string_key),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = tree.encoded();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // Theirs takes what ours takes, but for integers as keys and beyond 64 bits; it recurses
        // and overflows on lengths that lie, so it only sees what ours took.
        if let Ok(canonical) = Value::parse(&bytes) {
            let theirs = bt_bencode::from_slice::<bt_bencode::Value>(canonical.as_bytes());
            prop_assert!(theirs.is_ok() || has_what_only_ours_takes(canonical.item()));
        }
    }

    #[test]
    fn integers_and_strings_are_seen_as_they_were(integer: i64, bytes in vec(any::<u8>(), 0..300)) {
        let (number, text) = (Value::integer(integer), Value::bytes(&bytes));
        prop_assert_eq!(number.item().integer(), Some(integer));
        prop_assert_eq!(number.decode::<i64>().unwrap(), integer);
        prop_assert_eq!(text.item().bytes(), Some(&bytes[..]));
    }

    #[test]
    fn values_nest_to_the_limit_in_every_message(
        header in header(), key in id(), levels in 0..=MAX_VALUE_DEPTH, dicts: bool,
    ) {
        let (open, close): (&[u8], &[u8]) = if dicts { (b"d1:a", b"e") } else { (b"l", b"e") };
        let value = [open.repeat(levels), b"i1e".to_vec(), close.repeat(levels)].concat();
        let value = Value::parse(&value).expect("within the limit");
        let store = StoreRequest { key, value: value.item(), mode: StoreMode::Add, copy: None, token: None };
        assert_request_returns(&header, &Request::Store(store));
        let found = found(vec![value.clone()], vec![]);
        let (read, _) = returned(Rpc::FindValue, &header, &found);
        prop_assert_eq!(read, found);
        let result = Response::Returned(vec![value]);
        let (read, _) = returned(Rpc::Custom, &header, &result);
        prop_assert_eq!(read, result);
    }

    #[test]
    fn lookups_are_read_as_written(
        header in header(), id in id(), limit in 0..=i64::MAX as usize, after in prop::option::of(id()),
        token in prop::option::of(vec(any::<u8>(), 0..100)),
    ) {
        assert_request_returns(&header, &Request::Ping);
        assert_request_returns(&header, &Request::GetSocket);
        assert_request_returns(&header, &Request::FindNode { target: id });
        assert_request_returns(&header, &Request::FindValue(FindValue { key: id, limit, after, token: token.as_deref() }));
    }

    #[test]
    fn stores_are_read_as_written(
        header in header(), key in id(), value in tree(), mode in mode(),
        copy in prop::option::of(copy()), token in prop::option::of(vec(any::<u8>(), 0..100)),
    ) {
        let value = value.encoded();
        let value = Item::parse(&value).unwrap();
        let token = token.as_deref();
        assert_request_returns(&header, &Request::Store(StoreRequest { key, value, mode, copy, token }));
    }

    #[test]
    fn custom_requests_are_read_as_written(
        header in header(),
        name in vec(any::<u8>(), 0..30),
        args in vec(tree(), 0..4),
    ) {
        const OURS: [&[u8]; 5] = [b"ping", b"findnode", b"findvalue", b"store", b"getsocket"];
        prop_assume!(!OURS.contains(&&name[..]));
        let args = Tree::List(args).encoded();
        let args = Item::parse(&args).unwrap().list().unwrap();
        assert_request_returns(&header, &Request::Custom { name: &name, args });
    }

    #[test]
    fn contacts_are_read_as_written(header in header(), contacts in vec(contact(), 0..=20)) {
        let (read, len) = returned(Rpc::FindNode, &header, &Response::Nodes(contacts.clone()));
        let Response::Nodes(nodes) = read else { panic!("contacts") };
        prop_assert!(len <= Dialect::V1.sizes().answer_max);
        prop_assert!(contacts.starts_with(&nodes));
        prop_assert!(nodes == contacts || len + 74 > Dialect::V1.sizes().answer_max, "{} bytes had room for more", len);
    }

    #[test]
    fn twenty_contacts_over_ipv4_always_fit(
        header in header(),
        contacts in vec((id(), any::<[u8; 4]>(), 1_u16..), 20),
    ) {
        let contacts: Vec<_> = contacts
            .into_iter()
            .map(|(id, ip, port)| Contact { id, address: SocketAddr::from((ip, port)) })
            .filter(|contact| kademlua::address::is_sendable(&contact.address))
            .collect();
        let (read, _) = returned(Rpc::FindNode, &header, &Response::Nodes(contacts.clone()));
        prop_assert_eq!(read, Response::Nodes(contacts));
    }

    #[test]
    fn found_values_are_read_as_written(
        header in header(), values in vec(tree(), 0..6), contacts in vec(contact(), 0..10),
    ) {
        let values: Vec<_> = values.iter().map(Tree::value).collect();
        let (read, len) = returned(Rpc::FindValue, &header, &found(values.clone(), contacts.clone()));
        let Response::Values { values: read, closest, .. } = read else { panic!("values") };
        prop_assert_eq!(read, values);
        prop_assert!(contacts.starts_with(&closest));
        prop_assert!(closest == contacts || len + 74 > Dialect::V1.sizes().answer_max);
    }

    #[test]
    fn values_are_cut_to_the_largest_datagram(
        header in header(), lengths in vec(0_usize..9_000, 0..12), contacts in vec(contact(), 20),
    ) {
        let values: Vec<_> = lengths.iter().map(|len| Value::bytes(vec![b'v'; *len])).collect();
        let (read, len) = returned(Rpc::FindValue, &header, &found(values.clone(), contacts.clone()));
        let Response::Values { values: read, closest, .. } = read else { panic!("values") };
        prop_assert!(len <= MAX_DATAGRAM);
        prop_assert!(closest.is_empty() || len <= Dialect::V1.sizes().answer_max);
        // Whatever was left out had no room, no matter what came after it.
        let mut rest = read.iter().peekable();
        for value in &values {
            if rest.next_if(|next| *next == value).is_none() {
                prop_assert!(len + value.as_bytes().len() > MAX_DATAGRAM);
            }
        }
        prop_assert!(rest.next().is_none());
    }

    #[test]
    fn short_answers_are_read_as_written(
        header in header(), address in address(), reason in ".{0,80}",
        token in prop::option::of(vec(any::<u8>(), 0..100)), values in vec(tree(), 0..5),
    ) {
        let (read, len) = returned(Rpc::Ping, &header, &Response::Pong);
        prop_assert_eq!((read, len), (Response::Pong, 37));
        let (read, len) = returned(Rpc::Store, &header, &Response::Stored);
        prop_assert_eq!((read, len), (Response::Stored, 37));
        let refused = Response::Refused { reason: reason.clone(), token: token.clone() };
        let (read, _) = returned(Rpc::Store, &header, &refused);
        let token = token.filter(|token| token.len() <= Dialect::V1.sizes().token_max);
        prop_assert_eq!(read, Response::Refused { reason, token });
        let (read, _) = returned(Rpc::GetSocket, &header, &Response::Socket(address));
        prop_assert_eq!(read, Response::Socket(address));
        let result = Response::Returned(values.iter().map(Tree::value).collect());
        let (read, _) = returned(Rpc::Custom, &header, &result);
        prop_assert_eq!(read, result);
    }

    #[test]
    fn routes_are_read_as_written_and_written_as_read(
        header in header(), key in id(), numbers: [u8; 4], budget: u16, stamp: u16, seal: [u8; 8],
        addresses in [address(), address()], payload in vec(any::<u8>(), 0..200),
        rest in vec(any::<u8>(), 0..200), is_answer: bool,
    ) {
        let [flags, hops_left, skip, kind] = numbers;
        let kinds = [RouteKind::Locate, RouteKind::FindValue, RouteKind::Store];
        let [answer_to, client] = addresses;
        let route = Route {
            flags: RouteFlags(flags), hops_left, skip, kind: kinds[usize::from(kind % 3)], key,
            answer_to, budget, client, stamp, seal, payload: &payload, rest: &rest,
        };
        let message = |route| if is_answer { Message::Routed(route) } else { Message::Route(route) };
        let mut out = Vec::new();
        emit(&mut out, &header, message(&route));
        let Envelope { sender, transaction, body, .. } = parse(&out).unwrap();
        prop_assert_eq!((sender, transaction), (Some(header.from), header.transaction));
        let read = match body {
            Body::Route(read) if !is_answer => read.read().unwrap(),
            Body::Routed(read) if is_answer => read.read().unwrap(),
            body => panic!("{body:?}"),
        };
        prop_assert_eq!(read, route);
        let mut again = Vec::new();
        emit(&mut again, &header, message(&read));
        prop_assert_eq!(again, out);
    }

    #[test]
    fn what_routes_find_is_read_as_written(
        contact in contact(), values in vec(tree(), 0..5), reason in "[a-z ]{1,40}",
    ) {
        let dialect = Dialect::V1;
        let values: Vec<_> = values.iter().map(Tree::value).collect();
        for (kind, answer) in [
            (RouteKind::Locate, RouteAnswer::Located(contact)),
            (RouteKind::FindValue, RouteAnswer::Values(values)),
            (RouteKind::FindValue, RouteAnswer::HeldAt(contact)),
            (RouteKind::FindValue, RouteAnswer::Nothing),
            (RouteKind::Store, RouteAnswer::Stored),
            (RouteKind::Store, RouteAnswer::Refused { reason }),
            (RouteKind::Locate, RouteAnswer::Cut),
        ] {
            let payload = dialect.encode_route_answer(&answer);
            prop_assert_eq!(read_route_answer(dialect, kind, &payload), Ok(answer));
        }
    }

    #[test]
    fn marks_are_left_one_behind_the_other_as_far_as_there_is_room(
        room in 0..200usize, marks in vec((1..=u32::MAX, any::<u32>()), 0..20),
    ) {
        let dialect = Dialect::V1;
        let mut rest = vec![0; room];
        let marks: Vec<_> = marks
            .into_iter()
            .map(|(id, micros)| RouteHop { id: IdPrefix(id.to_be_bytes()), micros })
            .collect();
        marks.iter().for_each(|mark| dialect.put_route_hop(&mut rest, *mark));
        let left: Vec<_> = dialect.route_hops(&rest).collect();
        prop_assert_eq!(&left[..], &marks[..marks.len().min(room / 8)]);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Value::parse(&bytes);
        let length = (bytes.len() as u16).to_be_bytes();
        for call in [1, 4, 129, 132] {
            let datagram = [&[1; 29][..], &[call], &length, &bytes].concat();
            match parse(&datagram).expect("a message").body {
                Body::Query(query) => _ = query.read(),
                Body::Answer(answer) => {
                    let kinds =
                        [Rpc::FindNode, Rpc::FindValue, Rpc::Store, Rpc::GetSocket, Rpc::Custom];
                    kinds.into_iter().for_each(|kind| _ = answer.read(kind));
                }
                Body::Route(route) | Body::Routed(route) => {
                    let kinds = [RouteKind::Locate, RouteKind::FindValue, RouteKind::Store];
                    let read = |kind| _ = read_route_answer(Dialect::V1, kind, &bytes);
                    kinds.into_iter().for_each(read);
                    _ = route.read();
                }
                Body::Error(_) | Body::CodedError(_) => unreachable!("none of the calls is one"),
            }
        }
        let datagram = [&[1; 29], &bytes[..]].concat();
        let _ = parse(&datagram);
    }

    #[test]
    fn bytes_that_look_like_bencoding_are_parsed_or_refused(text in "[lde:i0-9-]{0,60}") {
        if let Ok(value) = Value::parse(text.as_bytes()) {
            prop_assert_eq!(Value::parse(value.as_bytes()), Ok(value));
        }
    }
}

/// Whether there is an integer key or an integer beyond 64 bits somewhere.
fn has_what_only_ours_takes(item: Item<'_>) -> bool {
    use kademlua::bencode::ItemView;
    match item.view() {
        ItemView::Bytes(_) => false,
        ItemView::Integer(integer) => integer.to_i64().is_none(),
        ItemView::List(mut items) => items.any(has_what_only_ours_takes),
        ItemView::Dict(mut entries) => {
            entries.any(|(key, value)| key.bytes().is_none() || has_what_only_ours_takes(value))
        }
    }
}
