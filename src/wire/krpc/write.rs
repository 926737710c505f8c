//! Writing: whole datagrams are appended to a buffer, the keys of each dictionary in order.

use std::iter;
use std::net::{IpAddr, SocketAddr};

use super::{NAMES, VERSION};
use crate::address::Families;
use crate::bencode::{Item, put_bytes, put_decimal, put_integer};
use crate::config::MAX_K;
use crate::id::Id;
use crate::message::mainline::{
    AnnouncePeer, Answer, GetItem, GetPeers, PutItem, Query, Reply, Sample, code,
};
use crate::message::{CodedError, Contact, EncodedContact, Request, Response, Rpc, RpcError};
use crate::wire::{Header, Manner, Message, PayloadError};

/// Bytes of an encoded contact of IPv4; one of IPv6 is longer.
const IPV4_CONTACT: usize = Id::LEN + 4 + 2;

/// A broken invariant: a node asks and answers in the dialect of its network.
const FOREIGN: &str = "Mainline has nothing of v1";

/// Appends the datagram of a message.
#[inline]
pub(in crate::wire) fn put_message(out: &mut Vec<u8>, header: &Header, message: &Message<'_>) {
    match *message {
        Message::Query { request, manner } => put_query(out, header, request, &manner),
        Message::Answer(response) => put_response(out, header, response),
        Message::Error(RpcError::NoSuchRpc) => {
            put_error(out, header, code::UNKNOWN_RPC, b"no such RPC");
        }
        Message::Error(RpcError::Failed) => put_error(out, header, code::SERVER, b"failed"),
        Message::CodedError(CodedError { code, text }) => put_error(out, header, code, text),
        Message::Refusal(error) => put_refusal(out, header, error),
        Message::Route(_) | Message::Routed(_) => panic!("{FOREIGN}"),
    }
}

/// A contact as answers carry it.
pub(in crate::wire) fn encode_contact(contact: &Contact) -> EncodedContact {
    let mut out = Vec::with_capacity(EncodedContact::MAX);
    out.extend_from_slice(contact.id.as_bytes());
    put_compact(&mut out, &contact.address);
    EncodedContact::new(&out)
}

/// An address without its length. An IPv4 address that somebody has named as a mapped one is written as what
/// it is.
fn put_compact(out: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// An address with its length.
fn put_address(out: &mut Vec<u8>, address: &SocketAddr) {
    let is_ipv4 = address.ip().to_canonical().is_ipv4();
    out.extend_from_slice(if is_ipv4 { b"6:" } else { &b"18:"[..] });
    put_compact(out, address);
}

/// The bytes of that.
fn address_len(address: &SocketAddr) -> usize {
    if address.ip().to_canonical().is_ipv4() { b"6:".len() + 6 } else { b"18:".len() + 18 }
}

fn put_query(out: &mut Vec<u8>, header: &Header, request: &Request<'_>, manner: &Manner) {
    out.extend_from_slice(b"d1:ad");
    let put_id = |out: &mut Vec<u8>| put_field(out, b"2:id", header.from.as_bytes());
    let mut name = name_of(request.kind());
    match request {
        Request::Ping => put_id(out),
        Request::FindNode { target } => {
            put_id(out);
            put_field(out, b"6:target", target.as_bytes());
            put_want(out, manner.want);
        }
        Request::Custom { name: custom, args } => {
            name = custom;
            put_custom_args(out, header, args.clone().next());
        }
        Request::Mainline(query) => match query {
            Query::GetPeers(GetPeers { info_hash, no_seeds, scrape }) => {
                put_id(out);
                put_field(out, b"9:info_hash", info_hash.as_bytes());
                if *no_seeds {
                    out.extend_from_slice(b"6:noseedi1e");
                }
                if *scrape {
                    out.extend_from_slice(b"6:scrapei1e");
                }
                put_want(out, manner.want);
            }
            Query::AnnouncePeer(announce) => put_announce_args(out, header, announce),
            Query::Get(GetItem { target, seq }) => {
                put_id(out);
                if let Some(seq) = seq {
                    put_number(out, b"3:seq", *seq);
                }
                put_field(out, b"6:target", target.as_bytes());
                put_want(out, manner.want);
            }
            Query::Put(put) => put_put_args(out, header, put),
            Query::SampleInfohashes { target } => {
                put_id(out);
                put_field(out, b"6:target", target.as_bytes());
                put_want(out, manner.want);
            }
        },
        Request::FindValue(_) | Request::Store(_) | Request::GetSocket => panic!("{FOREIGN}"),
    }
    out.push(b'e');
    put_field(out, b"1:q", name);
    if manner.is_read_only {
        out.extend_from_slice(b"2:roi1e");
    }
    put_end(out, header, b'q');
}

fn name_of(kind: Rpc) -> &'static [u8] {
    NAMES.iter().find(|(_, known)| *known == kind).map_or(b"", |(name, _)| name)
}

fn put_want(out: &mut Vec<u8>, want: Option<Families>) {
    if let Some(Families { ipv4, ipv6 }) = want {
        out.extend_from_slice(b"4:wantl");
        if ipv4 {
            out.extend_from_slice(b"2:n4");
        }
        if ipv6 {
            out.extend_from_slice(b"2:n6");
        }
        out.push(b'e');
    }
}

/// The port comes with both of its words: some nodes know but one of them.
fn put_announce_args(out: &mut Vec<u8>, header: &Header, announce: &AnnouncePeer<'_>) {
    put_field(out, b"2:id", header.from.as_bytes());
    put_number(out, b"12:implied_port", announce.is_port_implied.into());
    put_field(out, b"9:info_hash", announce.info_hash.as_bytes());
    put_number(out, b"4:port", announce.port.into());
    put_number(out, b"4:seed", announce.is_seed.into());
    put_field(out, b"5:token", announce.token);
}

/// The target is told, although the item decides: some nodes take no item without.
fn put_put_args(out: &mut Vec<u8>, header: &Header, put: &PutItem<'_>) {
    if let Some(cas) = put.cas {
        put_number(out, b"3:cas", cas);
    }
    put_field(out, b"2:id", header.from.as_bytes());
    if let Some(proof) = &put.proof {
        put_field(out, b"1:k", &proof.key.0);
        // Some nodes fail on an empty one.
        if !proof.salt.is_empty() {
            put_field(out, b"4:salt", proof.salt);
        }
        put_number(out, b"3:seq", proof.seq);
        put_field(out, b"3:sig", &proof.signature.0);
    }
    if let Some(target) = put.target {
        put_field(out, b"6:target", target.as_bytes());
    }
    put_field(out, b"5:token", put.token);
    out.extend_from_slice(b"1:v");
    out.extend_from_slice(put.value.as_bytes());
}

/// The entries of a dictionary, which are in order, and the sender's id among them.
fn put_custom_args(out: &mut Vec<u8>, header: &Header, args: Option<Item<'_>>) {
    let mut id = Some(header.from);
    let put_id = |out: &mut Vec<u8>, id: Option<Id>| {
        if let Some(id) = id {
            put_field(out, b"2:id", id.as_bytes());
        }
    };
    for (key, value) in args.and_then(Item::dict).into_iter().flatten() {
        match key.bytes() {
            // Who asks is not for the caller to say.
            Some(b"id") | None => continue,
            Some(key) if key > &b"id"[..] => put_id(out, id.take()),
            Some(_) => {}
        }
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    put_id(out, id);
}

fn put_response(out: &mut Vec<u8>, header: &Header, response: &Response) {
    let answer = |out: &mut Vec<u8>, answer: &Answer<'_>, closest: &[Contact]| {
        let encoded: Vec<_> = closest.iter().map(encode_contact).collect();
        put_answer(out, header, answer, Families::ALL, encoded.iter(), usize::MAX);
    };
    match response {
        Response::Pong | Response::Stored => {
            let (nobody, none) = (iter::empty(), Families { ipv4: false, ipv6: false });
            put_answer(out, header, &Answer::default(), none, nobody, usize::MAX);
        }
        Response::Nodes(closest) => answer(out, &Answer::default(), closest),
        Response::Mainline(Reply::Peers { peers, filters, closest, token }) => {
            let (filters, token) = (filters.as_deref(), token.as_ref().map(|token| &token.0[..]));
            let peers = (!peers.is_empty()).then_some(&peers[..]);
            answer(out, &Answer { filters, token, peers, ..Answer::default() }, closest);
        }
        Response::Mainline(Reply::Item { value, key, seq, signature, closest, token }) => {
            let (key, signature, seq) = (key.as_ref(), signature.as_ref(), *seq);
            let value = value.as_ref().map(|value| &value.0[..]);
            let token = token.as_ref().map(|token| &token.0[..]);
            let item = Answer { key, seq, signature, token, value, ..Answer::default() };
            answer(out, &item, closest);
        }
        Response::Mainline(Reply::Sample { interval, of, info_hashes, closest }) => {
            let sample = Sample { interval: *interval, of: *of, info_hashes };
            answer(out, &Answer { sample: Some(sample), ..Answer::default() }, closest);
        }
        Response::Values { .. }
        | Response::Refused { .. }
        | Response::Socket(_)
        | Response::Returned(_) => panic!("{FOREIGN}"),
    }
}

/// Appends an answer, with as many contacts of `families`, nearest first, as `max` bytes have room for.
#[inline]
pub(in crate::wire) fn put_answer<'c>(
    out: &mut Vec<u8>,
    header: &Header,
    answer: &Answer<'_>,
    families: Families,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    let room = max.saturating_sub(answer_len(header, answer));
    out.push(b'd');
    put_asker(out, header);
    out.extend_from_slice(b"1:rd");
    if let Some(filters) = answer.filters {
        put_field(out, b"4:BFpe", filters.peers.as_bytes());
        put_field(out, b"4:BFsd", filters.seeds.as_bytes());
    }
    put_field(out, b"2:id", header.from.as_bytes());
    if let Some(sample) = &answer.sample {
        put_number(out, b"8:interval", sample.interval.into());
    }
    if let Some(key) = answer.key {
        put_field(out, b"1:k", &key.0);
    }
    put_closest(out, families, closest, room);
    if let Some(sample) = &answer.sample {
        put_number(out, b"3:num", i64::try_from(sample.of).unwrap_or(i64::MAX));
        out.extend_from_slice(b"7:samples");
        put_len(out, sample.info_hashes.len() * Id::LEN);
        sample.info_hashes.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
    }
    if let Some(seq) = answer.seq {
        put_number(out, b"3:seq", seq);
    }
    if let Some(signature) = answer.signature {
        put_field(out, b"3:sig", &signature.0);
    }
    if let Some(token) = answer.token {
        put_field(out, b"5:token", token);
    }
    if let Some(value) = answer.value {
        out.extend_from_slice(b"1:v");
        out.extend_from_slice(value);
    }
    if let Some(peers) = answer.peers {
        out.extend_from_slice(b"6:valuesl");
        peers.iter().for_each(|peer| put_address(out, peer));
        out.push(b'e');
    }
    out.push(b'e');
    put_end(out, header, b'r');
}

/// The bytes of an answer without contacts.
pub(in crate::wire) fn answer_len(header: &Header, answer: &Answer<'_>) -> usize {
    let Answer { filters, sample, key, seq, signature, token, value, peers } = answer;
    let number = |name: &[u8], number: i64| name.len() + b"ie".len() + digits(number);
    let asker = header.asker.map_or(0, |asker| b"2:ip".len() + address_len(&asker));
    let filters = filters.map_or(0, |_| 2 * (b"4:BFpe256:".len() + crate::bloom::Filter::LEN));
    let sample = sample.map_or(0, |sample| {
        let of = i64::try_from(sample.of).unwrap_or(i64::MAX);
        number(b"8:interval", sample.interval.into())
            + number(b"3:num", of)
            + bytes_len(b"7:samples", sample.info_hashes.len() * Id::LEN)
    });
    b"d1:rd2:id20:ee".len()
        + Id::LEN
        + asker
        + filters
        + sample
        + key.map_or(0, |key| bytes_len(b"1:k", key.0.len()))
        + seq.map_or(0, |seq| number(b"3:seq", seq))
        + signature.map_or(0, |signature| bytes_len(b"3:sig", signature.0.len()))
        + token.map_or(0, |token| bytes_len(b"5:token", token.len()))
        + value.map_or(0, |value| b"1:v".len() + value.len())
        + peers
            .map_or(0, |peers| b"6:valuesle".len() + peers.iter().map(address_len).sum::<usize>())
        + bytes_len(b"1:t", header.transaction.as_bytes().len())
        + b"1:v4:....1:y1:r".len()
}

/// Appends the contacts of `families` that there is room for: those of each in a string of its own, which is
/// there also where nobody is named.
#[inline]
fn put_closest<'c>(
    out: &mut Vec<u8>,
    families: Families,
    closest: impl Iterator<Item = &'c EncodedContact>,
    room: usize,
) {
    // With the longest length that the string may have.
    let key_len =
        |is_wanted: bool, key: &[u8]| if is_wanted { key.len() + b"000:".len() } else { 0 };
    let mut room = room
        .saturating_sub(key_len(families.ipv4, b"5:nodes"))
        .saturating_sub(key_len(families.ipv6, b"6:nodes6"));
    let (mut ipv4, mut ipv6) = (Named::default(), Named::default());
    for contact in closest {
        let (named, is_wanted) = match contact.as_bytes().len() {
            IPV4_CONTACT => (&mut ipv4, families.ipv4),
            _ => (&mut ipv6, families.ipv6),
        };
        if !is_wanted || named.count == MAX_K {
            continue;
        }
        let Some(left) = room.checked_sub(contact.as_bytes().len()) else { break };
        room = left;
        named.contacts[named.count] = contact.as_bytes();
        named.count += 1;
    }
    if families.ipv4 {
        ipv4.put(out, b"5:nodes");
    }
    if families.ipv6 {
        ipv6.put(out, b"6:nodes6");
    }
}

/// Contacts of one family that are to be written.
#[derive(Default)]
struct Named<'c> {
    contacts: [&'c [u8]; MAX_K],
    count: usize,
}

impl Named<'_> {
    fn put(&self, out: &mut Vec<u8>, key: &[u8]) {
        let contacts = &self.contacts[..self.count];
        out.extend_from_slice(key);
        put_len(out, contacts.iter().map(|contact| contact.len()).sum());
        contacts.iter().for_each(|contact| out.extend_from_slice(contact));
    }
}

fn put_error(out: &mut Vec<u8>, header: &Header, code: i64, text: &[u8]) {
    out.extend_from_slice(b"d1:el");
    put_integer(out, code);
    put_bytes(out, text);
    out.push(b'e');
    put_asker(out, header);
    put_end(out, header, b'e');
}

fn put_refusal(out: &mut Vec<u8>, header: &Header, error: PayloadError) {
    match error {
        PayloadError::UnknownRpc => put_error(out, header, code::UNKNOWN_RPC, b"no such RPC"),
        PayloadError::Argument(name) => {
            const TEXT: &[u8] = b": missing, or not as it should be";
            let mut text = [0; 64];
            let (name, len) = (name.as_bytes(), name.len() + TEXT.len());
            text[..name.len()].copy_from_slice(name);
            text[name.len()..len].copy_from_slice(TEXT);
            put_error(out, header, code::PROTOCOL, &text[..len]);
        }
        PayloadError::Malformed(_)
        | PayloadError::Shape
        | PayloadError::BadTarget
        | PayloadError::BadKey
        | PayloadError::BadStoreKey
        | PayloadError::NoValue => put_error(out, header, code::PROTOCOL, b"malformed"),
    }
}

/// Where the request came from that is answered.
fn put_asker(out: &mut Vec<u8>, header: &Header) {
    if let Some(asker) = &header.asker {
        out.extend_from_slice(b"2:ip");
        put_address(out, asker);
    }
}

/// What each message ends with.
fn put_end(out: &mut Vec<u8>, header: &Header, kind: u8) {
    put_field(out, b"1:t", header.transaction.as_bytes());
    put_field(out, b"1:v", &VERSION);
    out.extend_from_slice(b"1:y1:");
    out.extend_from_slice(&[kind, b'e']);
}

/// An entry whose value is a byte string; the key is encoded already.
fn put_field(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    put_bytes(out, value);
}

fn put_number(out: &mut Vec<u8>, key: &[u8], number: i64) {
    out.extend_from_slice(key);
    put_integer(out, number);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    put_decimal(out, len as u64);
    out.push(b':');
}

/// The bytes of an entry whose value is a byte string of that length.
fn bytes_len(key: &[u8], len: usize) -> usize {
    key.len() + digits(len as i64) + b":".len() + len
}

/// The characters of a number.
fn digits(number: i64) -> usize {
    let digits = number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(number < 0)
}
