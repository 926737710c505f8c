use proptest::prelude::*;

use super::*;
use crate::address::{Families, is_sendable};
use crate::bencode::Item;
use crate::bloom::Filter;
use crate::id::Id;
use crate::message::mainline::{
    AnnouncePeer, Answer, Filters, GetItem, GetPeers, Proof, PutItem, Query, Reply, Sample,
};
use crate::message::{CodedError, Contact, Request, Response, TransactionId};
use crate::serial::Bytes;
use crate::signed::{PublicKey, Signature};
use crate::wire::{Body, Dialect, Header, Manner, Message, PayloadError, emit, emit_answer, parse};

use std::net::SocketAddr;

const OWN: Id = Id::new([b'o'; 20]);
const TARGET: Id = Id::new([b't'; 20]);

fn header() -> Header {
    let transaction = TransactionId::new(*b"abcd");
    Header { dialect: Dialect::Mainline, from: OWN, transaction, asker: None }
}

fn written<'a>(header: &Header, message: impl Into<Message<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out, header, message);
    out
}

/// Everything that is written has its keys in order, and ends where it ends.
fn assert_strict(bytes: &[u8]) {
    let item =
        Item::parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", bytes.escape_ascii()));
    assert!(item.is_strict(), "{item:?}");
}

fn assert_query_returns(request: &Request<'_>, manner: Manner) {
    let bytes = written(&header(), Message::Query { request, manner });
    assert_strict(&bytes);
    let envelope = parse(&bytes).unwrap();
    assert_eq!((envelope.sender, envelope.transaction), (Some(OWN), header().transaction));
    assert_eq!((envelope.want, envelope.is_read_only), (manner.want, manner.is_read_only));
    let Body::Query(query) = envelope.body else { panic!("a query") };
    assert_eq!(query.read().as_ref(), Ok(request));
}

#[test]
fn the_bytes_of_each_query() {
    let id = "2:id20:oooooooooooooooooooo";
    let target = "6:target20:tttttttttttttttttttt";
    let info_hash = "9:info_hash20:tttttttttttttttttttt";
    let value = Item::parse(b"l1:xe").unwrap();
    let put = PutItem { target: Some(TARGET), token: b"T", value, proof: None, cas: None };
    let (key, signature) = (PublicKey([b'k'; 32]), Signature([b's'; 64]));
    let proof = Some(Proof { key, salt: b"sa", seq: -3, signature });
    let announce = AnnouncePeer {
        info_hash: TARGET,
        port: 7,
        is_port_implied: false,
        is_seed: true,
        token: b"T",
    };
    for (request, name, args) in [
        (Request::Ping, "ping", id.to_owned()),
        (Request::FindNode { target: TARGET }, "find_node", format!("{id}{target}")),
        (
            Request::Mainline(Query::GetPeers(GetPeers {
                info_hash: TARGET,
                no_seeds: true,
                scrape: true,
            })),
            "get_peers",
            format!("{id}{info_hash}6:noseedi1e6:scrapei1e"),
        ),
        (
            Request::Mainline(Query::AnnouncePeer(announce)),
            "announce_peer",
            format!("{id}12:implied_porti0e{info_hash}4:porti7e4:seedi1e5:token1:T"),
        ),
        (
            Request::Mainline(Query::Get(GetItem { target: TARGET, seq: Some(4) })),
            "get",
            format!("{id}3:seqi4e{target}"),
        ),
        (Request::Mainline(Query::Put(put)), "put", format!("{id}{target}5:token1:T1:vl1:xe")),
        (
            Request::Mainline(Query::Put(PutItem { proof, cas: Some(2), ..put })),
            "put",
            format!(
                "3:casi2e{id}1:k32:{}4:salt2:sa3:seqi-3e3:sig64:{}{target}5:token1:T1:vl1:xe",
                "k".repeat(32),
                "s".repeat(64)
            ),
        ),
        (
            Request::Mainline(Query::SampleInfohashes { target: TARGET }),
            "sample_infohashes",
            format!("{id}{target}"),
        ),
    ] {
        let bytes = written(&header(), &request);
        let len = name.len();
        let expected = format!("d1:ad{args}e1:q{len}:{name}1:t4:abcd1:v4:KL\0\u{1}1:y1:qe");
        assert_eq!(
            bytes.escape_ascii().to_string(),
            expected.as_bytes().escape_ascii().to_string()
        );
        assert_query_returns(&request, Manner::default());
    }
    assert_eq!(written(&header(), &Request::Ping).len(), SIZES.ping);
    let longest = Request::Mainline(Query::GetPeers(GetPeers {
        info_hash: TARGET,
        no_seeds: false,
        scrape: false,
    }));
    assert_eq!(written(&header(), &longest).len(), SIZES.bare_lookup);
}

#[test]
fn what_is_wanted_and_who_only_reads_comes_along() {
    let wants = [(true, false), (false, true), (true, true)]
        .map(|(ipv4, ipv6)| Some(Families { ipv4, ipv6 }));
    for want in wants.into_iter().chain([None]) {
        for is_read_only in [false, true] {
            let manner = Manner { want, is_read_only, padded_to: None };
            assert_query_returns(&Request::FindNode { target: TARGET }, manner);
        }
    }
}

#[test]
fn a_query_that_no_rpc_knows_is_written_with_the_id_in_its_place() {
    let list = Item::parse(b"ld1:ai1e2:id3:own1:zl1:xeee").unwrap().list().unwrap();
    let bytes = written(&header(), &Request::Custom { name: b"new", args: list });
    assert_strict(&bytes);
    let text = bytes.escape_ascii().to_string();
    assert!(text.starts_with("d1:ad1:ai1e2:id20:oooooooooooooooooooo1:zl1:xee1:q3:new"), "{text}");
    let empty = Item::parse(b"le").unwrap().list().unwrap();
    let bytes = written(&header(), &Request::Custom { name: b"new", args: empty });
    let Body::Query(query) = parse(&bytes).unwrap().body else { panic!("a query") };
    assert_eq!(query.read(), Err(PayloadError::UnknownRpc));
    let refusal = written(&header(), PayloadError::UnknownRpc);
    assert!(refusal.starts_with(b"d1:eli204e"));
}

#[test]
fn errors_tell_why_and_where_the_asker_is() {
    let error = CodedError { code: 205, text: b"large" };
    let asker = Some("[2001:db8::1]:258".parse().unwrap());
    let bytes = written(&Header { asker, ..header() }, error);
    assert_strict(&bytes);
    let envelope = parse(&bytes).unwrap();
    assert_eq!(
        (envelope.body, envelope.seen_at, envelope.sender),
        (Body::CodedError(error), asker, None)
    );
    for name in ["v", "info_hash"] {
        let bytes = written(&header(), PayloadError::Argument(name));
        let Body::CodedError(CodedError { code: 203, text }) = parse(&bytes).unwrap().body else {
            panic!("{name}")
        };
        assert!(text.starts_with(name.as_bytes()));
    }
}

/// What is asked so and answered so has the kind under which it can be read.
fn assert_response_returns(kind: Rpc, response: &Response) {
    let bytes = written(&header(), response);
    assert_strict(&bytes);
    let Body::Answer(answer) = parse(&bytes).unwrap().body else { panic!("an answer") };
    assert_eq!(answer.read(kind).as_ref(), Ok(response));
}

fn contact() -> impl Strategy<Value = Contact> {
    let address = any::<SocketAddr>().prop_filter("sendable", is_sendable);
    (any::<[u8; 20]>(), address).prop_map(|(id, address)| {
        // The rest of an IPv6 address is not on the wire.
        Contact { id: Id::new(id), address: SocketAddr::new(address.ip(), address.port()) }
    })
}

proptest! {
    #[test]
    fn answers_return(
        closest in prop::collection::vec(contact(), 0..20),
        peers in prop::collection::vec(contact(), 0..50),
        token in prop::collection::vec(any::<u8>(), 0..=MAX_TOKEN),
        value in prop::collection::vec(any::<u8>(), 0..1_000),
        seq: i64, key: [u8; 32], half: [u8; 32], interval: u32, of in 0..usize::MAX / 2,
        has: [bool; 4],
    ) {
        let mut closest = closest;
        // As they are read: those of IPv4 first.
        closest.sort_by_key(|contact| contact.address.is_ipv6());
        let peers: Vec<_> = peers.iter().map(|contact| contact.address).collect();
        let info_hashes = closest.iter().map(|contact| contact.id).collect();
        let filters = has[0].then(|| {
            let peers = peers.iter().map(SocketAddr::ip).collect();
            Box::new(Filters { seeds: Filter::EMPTY, peers })
        });
        let token = has[1].then_some(Bytes(token));
        let mut bencoded = Vec::new();
        crate::bencode::put_bytes(&mut bencoded, &value);
        let signature = Signature([half, half].concat().try_into().unwrap());
        assert_response_returns(Rpc::Ping, &Response::Pong);
        assert_response_returns(Rpc::Mainline(Kind::Put), &Response::Stored);
        assert_response_returns(Rpc::FindNode, &Response::Nodes(closest.clone()));
        let reply = Reply::Peers { peers, filters, closest: closest.clone(), token: token.clone() };
        assert_response_returns(Rpc::Mainline(Kind::GetPeers), &Response::Mainline(reply));
        let reply = Reply::Item {
            value: has[2].then_some(Bytes(bencoded)),
            key: has[2].then_some(PublicKey(key)),
            seq: has[3].then_some(seq),
            signature: has[2].then_some(signature),
            closest: closest.clone(),
            token,
        };
        assert_response_returns(Rpc::Mainline(Kind::Get), &Response::Mainline(reply));
        let reply = Reply::Sample { interval, of, info_hashes, closest };
        assert_response_returns(Rpc::Mainline(Kind::SampleInfohashes), &Response::Mainline(reply));
    }

    #[test]
    fn an_answer_keeps_to_its_room_and_leaves_no_contact_out_for_nothing(
        contacts in prop::collection::vec(contact(), 0..30), max in 0_usize..1_500,
        ipv4: bool, ipv6: bool, has_token: bool, t in prop::collection::vec(any::<u8>(), 0..32),
    ) {
        let encoded: Vec<_> = contacts.iter().map(encode_contact).collect();
        let transaction = TransactionId::from_slice(&t).unwrap();
        let asker = Some("192.0.2.1:9".parse().unwrap());
        let header = Header { transaction, asker, ..header() };
        let info_hashes = [TARGET; 3];
        let sample = Some(Sample { interval: 9, of: 100, info_hashes: &info_hashes });
        let answer = Answer { token: has_token.then_some(b"token"), sample, ..Answer::default() };
        let families = Families { ipv4, ipv6 };
        let mut out = Vec::new();
        emit_answer(&mut out, &header, &answer, families, encoded.iter(), max);
        assert_strict(&out);
        let envelope = parse(&out).unwrap();
        prop_assert_eq!((envelope.transaction, envelope.seen_at), (transaction, asker));
        let Body::Answer(answer_read) = envelope.body else { panic!("an answer") };
        let Ok(Response::Nodes(named)) = answer_read.read(Rpc::FindNode) else { panic!("contacts") };
        let keys = usize::from(ipv4) * 11 + usize::from(ipv6) * 12;
        let bare = answer_len(&header, &answer);
        prop_assert!(out.len() <= max.max(bare + keys), "{} of {max}", out.len());
        let mut expected: Vec<_> = contacts.iter().filter(|c| families.contain(&c.address)).collect();
        expected.dedup_by_key(|contact| contact.id);
        if named.len() < expected.len().min(20) {
            prop_assert!(out.len() + 38 + 8 > max, "{} of {max} had room for more", out.len());
        }
        // Its length is foretold.
        let mut alone = Vec::new();
        let none = Families { ipv4: false, ipv6: false };
        emit_answer(&mut alone, &header, &answer, none, std::iter::empty(), 0);
        prop_assert_eq!(alone.len(), bare);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut datagram = b"d".to_vec();
        datagram.extend(bytes);
        if let Ok(envelope) = parse(&datagram) {
            prop_assert_eq!(envelope.dialect, Dialect::Mainline);
        }
    }
}
