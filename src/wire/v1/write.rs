//! Writing: whole datagrams are appended to a buffer.

use std::net::{IpAddr, SocketAddr};

use super::route::{self, ROUTE, ROUTED};
use super::{
    FAILED, LENGTH_LEN, MAX_DATAGRAM, MAX_REPLY, MODE_REPLACE, NO_SUCH_RPC, REQUEST, RESPONSE,
    SIZES, TRANSACTION_LEN, VERSION, name_of,
};
use crate::bencode::{Value, put_bytes, put_integer};
use crate::message::{
    Contact, EncodedContact, FindValue, Request, Response, Rest, Rpc, RpcError, StoreMode,
    StoreRequest,
};
use crate::wire::{Header, Message, PayloadError};

/// A broken invariant: a node asks and answers in the dialect of its network.
const FOREIGN: &str = "v1 has nothing of Mainline";

/// Appends the datagram of a message.
#[inline]
pub(in crate::wire) fn put_message(out: &mut Vec<u8>, header: &Header, message: &Message<'_>) {
    match *message {
        Message::Query { request, manner } => {
            put_request(out, header, request, manner.padded_to.unwrap_or(SIZES.lookup_min()));
        }
        Message::Answer(response) => put_response(out, header, response),
        Message::Error(RpcError::NoSuchRpc) => put_header(out, header, NO_SUCH_RPC),
        Message::Error(RpcError::Failed) | Message::CodedError(_) => {
            put_header(out, header, FAILED);
        }
        Message::Refusal(error) => put_refusal(out, header, error),
        Message::Route(request) => route::put(out, header, ROUTE, request),
        Message::Routed(answer) => route::put(out, header, ROUTED, answer),
    }
}

/// A contact as answers carry it.
pub(in crate::wire) fn encode_contact(contact: &Contact) -> EncodedContact {
    let mut out = Vec::with_capacity(EncodedContact::MAX);
    put_contact(&mut out, contact);
    EncodedContact::new(&out)
}

pub(super) fn put_contact(out: &mut Vec<u8>, contact: &Contact) {
    out.push(b'l');
    put_ip(out, contact.address.ip());
    put_integer(out, i64::from(contact.address.port()));
    put_bytes(out, contact.id.as_bytes());
    out.push(b'e');
}

/// An IPv4 address that somebody has named as a mapped one is written as what it is.
fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    put_bytes(out, ip.to_canonical().to_string().as_bytes());
}

/// Appends the datagram of a request, with zeros up to `len` behind a findnode or findvalue that is
/// shorter.
fn put_request(out: &mut Vec<u8>, header: &Header, request: &Request<'_>, len: usize) {
    let start = out.len();
    let name = match *request {
        Request::Custom { name, .. } => name,
        _ => name_of(request.kind()),
    };
    put_framed(out, header, REQUEST, |out| {
        // Name before args, as the original writes them.
        out.extend_from_slice(b"d4:name");
        put_bytes(out, name);
        out.extend_from_slice(b"4:argsl");
        match request {
            Request::Ping | Request::GetSocket => {}
            Request::FindNode { target } => put_bytes(out, target.as_bytes()),
            Request::FindValue(search) => put_search_args(out, search),
            Request::Store(store) => put_store_args(out, store),
            Request::Custom { args, .. } => {
                args.for_each(|arg| out.extend_from_slice(arg.as_bytes()));
            }
            Request::Mainline(_) => panic!("{FOREIGN}"),
        }
        out.extend_from_slice(b"ee");
    });
    if matches!(request.kind(), Rpc::FindNode | Rpc::FindValue) {
        out.resize(out.len().max(start + len), 0);
    }
}

fn put_search_args(out: &mut Vec<u8>, search: &FindValue<'_>) {
    put_bytes(out, search.key.as_bytes());
    put_integer(out, i64::try_from(search.limit).unwrap_or(i64::MAX));
    if search.is_extended() {
        out.push(b'd');
        if let Some(after) = &search.after {
            out.extend_from_slice(b"5:after");
            put_bytes(out, after.as_bytes());
        }
        put_token(out, search.token);
        out.push(b'e');
    }
}

/// The entry of a dictionary, if there is a token.
fn put_token(out: &mut Vec<u8>, token: Option<&[u8]>) {
    if let Some(token) = token {
        out.extend_from_slice(b"5:token");
        put_bytes(out, token);
    }
}

fn put_store_args(out: &mut Vec<u8>, store: &StoreRequest<'_>) {
    put_bytes(out, store.key.as_bytes());
    out.extend_from_slice(store.value.as_bytes());
    match (store.mode, store.is_extended()) {
        (StoreMode::Add, false) => {}
        (StoreMode::Add, true) => put_integer(out, 0),
        (StoreMode::Replace, _) => put_integer(out, MODE_REPLACE),
    }
    if store.is_extended() {
        put_store_extension(out, store);
    }
}

fn put_store_extension(out: &mut Vec<u8>, store: &StoreRequest<'_>) {
    out.push(b'd');
    if let Some(copy) = &store.copy {
        out.extend_from_slice(b"3:age");
        // Rounded up: a value that is passed on time and again must not live longer for it.
        let secs = copy.age.as_micros().div_ceil(1_000_000);
        put_integer(out, i64::try_from(secs).unwrap_or(i64::MAX));
        if let Some(publisher) = &copy.publisher {
            out.extend_from_slice(b"5:owner");
            put_contact(out, publisher);
        }
    }
    put_token(out, store.token);
    out.push(b'e');
}

fn put_response(out: &mut Vec<u8>, header: &Header, response: &Response) {
    let encoded = |contacts: &[Contact]| contacts.iter().map(encode_contact).collect::<Vec<_>>();
    match response {
        Response::Pong => put_framed(out, header, RESPONSE, |out| out.extend_from_slice(b"li5ee")),
        Response::Nodes(contacts) => {
            put_nodes(out, header, encoded(contacts).iter(), MAX_REPLY);
        }
        Response::Values { values, closest, rest } => {
            let values = (!values.is_empty()).then_some(values.iter());
            put_values(out, header, values, rest, encoded(closest).iter(), MAX_DATAGRAM);
        }
        Response::Stored => {
            put_framed(out, header, RESPONSE, |out| out.extend_from_slice(b"li1ee"));
        }
        Response::Refused { reason, token } => put_refused(out, header, reason, token.as_deref()),
        Response::Socket(address) => put_socket(out, header, *address),
        Response::Mainline(_) => panic!("{FOREIGN}"),
        Response::Returned(values) => put_framed(out, header, RESPONSE, |out| {
            out.push(b'l');
            values.iter().for_each(|value| out.extend_from_slice(value.as_bytes()));
            out.push(b'e');
        }),
    }
}

/// Appends the answer to a findnode: as many of the contacts, nearest first, as `max` bytes have
/// room for, or [`MAX_REPLY`] if that is less.
#[inline]
pub(in crate::wire) fn put_nodes<'c>(
    out: &mut Vec<u8>,
    header: &Header,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    let end = out.len() + max.min(MAX_REPLY);
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"ll");
        put_contacts(out, closest, b"ee", end);
    });
}

/// Appends the answer to a findvalue: as many values as `max` bytes have room for, then as many contacts
/// as still fit these and [`MAX_REPLY`].
#[inline]
pub(in crate::wire) fn put_values<'v, 'c>(
    out: &mut Vec<u8>,
    header: &Header,
    values: Option<impl Iterator<Item = &'v Value>>,
    rest: &Rest,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    let start = out.len();
    put_framed(out, header, RESPONSE, |out| {
        put_values_head(out, values, rest, start + max.min(MAX_DATAGRAM));
        put_contacts(out, closest, VALUES_TAIL, start + max.min(MAX_REPLY));
    });
}

/// The payload of an answer with these values, up to its contacts.
pub(in crate::wire) fn encode_values_head<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<u8> {
    let mut out = Vec::new();
    put_values_head(&mut out, Some(values), &Rest::default(), usize::MAX);
    out
}

/// Appends all of a findvalue's answer that stands before its contacts, with as many values as leave room
/// for what must follow before `end`.
#[inline]
fn put_values_head<'v>(
    out: &mut Vec<u8>,
    values: Option<impl Iterator<Item = &'v Value>>,
    rest: &Rest,
    end: usize,
) {
    const CLOSEST: &[u8] = b"7:closestl";
    const AFTER: usize = b"e".len() + CLOSEST.len() + VALUES_TAIL.len();
    // The values are laid down first, so that contacts take only what is left; a decoder
    // takes dictionary keys in any order.
    out.extend_from_slice(b"ld");
    put_rest(out, rest);
    if let Some(values) = values {
        out.extend_from_slice(b"6:retvall");
        for value in values {
            if out.len() + value.as_bytes().len() + AFTER <= end {
                out.extend_from_slice(value.as_bytes());
            }
        }
        out.push(b'e');
    }
    out.extend_from_slice(CLOSEST);
}

/// Behind the contacts of a findvalue's answer.
const VALUES_TAIL: &[u8] = b"eee";

/// The entries of a dictionary that tell of more values; none if there are none.
pub(super) fn put_rest(out: &mut Vec<u8>, rest: &Rest) {
    if rest.more > 0 {
        out.extend_from_slice(b"4:more");
        put_integer(out, i64::try_from(rest.more).unwrap_or(i64::MAX));
    }
    if let Some(next) = &rest.next {
        out.extend_from_slice(b"4:next");
        put_bytes(out, next.as_bytes());
    }
    put_token(out, rest.token.as_deref());
}

/// Appends contacts while they and the tail end before `end`, then the tail.
#[inline]
fn put_contacts<'c>(
    out: &mut Vec<u8>,
    contacts: impl Iterator<Item = &'c EncodedContact>,
    tail: &[u8],
    end: usize,
) {
    for contact in contacts {
        let bytes = contact.as_bytes();
        if out.len() + bytes.len() + tail.len() > end {
            break;
        }
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(tail);
}

/// Appends the answer to a store that was refused, with the token that it needs if that was missing;
/// an original reads only the zero.
fn put_refused(out: &mut Vec<u8>, header: &Header, reason: &str, token: Option<&[u8]>) {
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"li0e");
        put_bytes(out, reason.as_bytes());
        if let Some(token) = token {
            put_bytes(out, token);
        }
        out.push(b'e');
    });
}

/// Appends the answer to a getsocket.
fn put_socket(out: &mut Vec<u8>, header: &Header, address: SocketAddr) {
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"ld4:addr");
        put_ip(out, address.ip());
        out.extend_from_slice(b"4:port");
        put_integer(out, i64::from(address.port()));
        out.extend_from_slice(b"ee");
    });
}

/// Appends the answer to a request that could not be read. An original caller hangs for good on anything
/// but contacts in answer to a lookup, so it gets an empty list of them.
fn put_refusal(out: &mut Vec<u8>, header: &Header, error: PayloadError) {
    let nobody = std::iter::empty();
    match error {
        PayloadError::BadTarget => put_nodes(out, header, nobody, MAX_REPLY),
        PayloadError::BadKey => {
            let nothing = None::<std::iter::Empty<_>>;
            put_values(out, header, nothing, &Rest::default(), nobody, MAX_REPLY);
        }
        PayloadError::UnknownRpc => put_header(out, header, NO_SUCH_RPC),
        PayloadError::BadStoreKey | PayloadError::NoValue => {
            put_refused(out, header, &error.to_string(), None);
        }
        PayloadError::Malformed(_) | PayloadError::Shape | PayloadError::Argument(_) => {
            put_header(out, header, FAILED);
        }
    }
}

pub(super) fn put_header(out: &mut Vec<u8>, header: &Header, call: u8) {
    out.push(VERSION);
    out.extend_from_slice(header.from.as_bytes());
    let transaction: &[u8; TRANSACTION_LEN] =
        header.transaction.as_bytes().try_into().expect("a transaction id of 8 bytes");
    out.extend_from_slice(transaction);
    out.push(call);
}

/// Appends a header, the payload that `body` writes, and its length in between.
#[inline]
fn put_framed(out: &mut Vec<u8>, header: &Header, call: u8, body: impl FnOnce(&mut Vec<u8>)) {
    put_header(out, header, call);
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_LEN]);
    body(out);
    let len = out.len() - at - LENGTH_LEN;
    let len = u16::try_from(len).expect("a payload is at most 65,535 bytes");
    out[at..at + LENGTH_LEN].copy_from_slice(&len.to_be_bytes());
}
