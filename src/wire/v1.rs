//! Kademlua v1, the protocol of the original (2009): one RPC message is one datagram.
//!
//! ```text
//! offset  0        1          21          29      30        32
//!         ┌────────┬──────────┬───────────┬───────┬─────────┬─────────────────┐
//!         │ 1      │ from     │ rpc id    │ call  │ length  │ bencoded value  │
//!         └────────┴──────────┴───────────┴───────┴─────────┴─────────────────┘
//! bytes     1        20         8           1       2         length
//! ```
//!
//! Call 1 is a request `{name: …, args: […]}`, 129 its response `[…]`; 130 (no such RPC) and 131
//! (the RPC failed) end after the call byte. Integers are big-endian. Bytes after the payload are
//! ignored.
//!
//! Reading: [`Frame::parse`], then [`request`] or [`response`]. Writing: the `put_*` functions
//! append whole datagrams to a buffer. Requests are read in place, and the three hot answers are
//! copied together from contacts that were encoded once, so that answering allocates nothing.

use std::net::{IpAddr, SocketAddr};

use crate::bencode::{Item, List, Malformed, Value, put_bytes, put_integer};
use crate::id::Id;
use crate::message::{
    Contact, CopyOf, Kind, Request, Response, RpcId, Store, StoreMode, is_sendable,
};
use crate::time::Duration;

/// First byte of every datagram.
pub const VERSION: u8 = 1;

/// Largest answer to ping, findnode and store, and to a findvalue as far as contacts go: fits one
/// unfragmented packet on any usual path.
pub const MAX_REPLY: usize = 1_400;

/// Largest datagram that an original node receives whole.
pub const MAX_DATAGRAM: usize = 16_384;

/// Values and arguments that an application's RPC may carry, in encoded bytes: with frame and name
/// they stay below [`MAX_DATAGRAM`].
pub const MAX_CUSTOM_PAYLOAD: usize = 16_000;

/// Contacts read from one answer at the most: k, as many as a node answers with.
const MAX_CONTACTS: usize = 20;

const HEADER_LEN: usize = 30;
const LENGTH_LEN: usize = 2;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 129;
const NO_SUCH_RPC: u8 = 130;
const FAILED: u8 = 131;

/// The wire's number for "replace": an original erases every owner's values on 1, so we send 2,
/// which it takes for an ordinary store, and take both to mean the sender's own values.
const MODE_REPLACE: i64 = 2;
const MODE_REPLACE_ORIGINAL: i64 = 1;

/// What ties a datagram to a node and a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Id of the sending node.
    pub from: Id,
    /// The call's number.
    pub rpc_id: RpcId,
}

/// A datagram taken apart as far as its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Sender and call.
    pub header: Header,
    /// What kind of message it is.
    pub body: Body<'a>,
}

/// The kinds of message, payloads unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A request.
    Request(&'a [u8]),
    /// The answer to one.
    Response(&'a [u8]),
    /// The answer of a node that knows no such RPC.
    NoSuchRpc,
    /// The answer of a node in which the RPC failed.
    Failed,
}

/// Why a datagram is no v1 message. Such datagrams are dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte is not [`VERSION`].
    #[error("not version 1")]
    Version,
    /// The datagram ends before its header or its announced payload does.
    #[error("the datagram is cut short")]
    Truncated,
    /// A call number that this version does not define.
    #[error("unknown call number {0}")]
    Call(u8),
}

impl<'a> Frame<'a> {
    /// Takes a datagram apart.
    ///
    /// # Errors
    /// If it is no v1 message; the payload is not looked at.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let (&version, _) = datagram.split_first().ok_or(FrameError::Truncated)?;
        if version != VERSION {
            return Err(FrameError::Version);
        }
        let (header, rest) = datagram.split_at_checked(HEADER_LEN).ok_or(FrameError::Truncated)?;
        let body = match header[29] {
            REQUEST => Body::Request(payload(rest)?),
            RESPONSE => Body::Response(payload(rest)?),
            NO_SUCH_RPC => Body::NoSuchRpc,
            FAILED => Body::Failed,
            call => return Err(FrameError::Call(call)),
        };
        let from = Id::from_slice(&header[1..21]).expect("20 bytes");
        let rpc_id = RpcId(header[21..29].try_into().expect("8 bytes"));
        Ok(Frame { header: Header { from, rpc_id }, body })
    }
}

/// The payload behind its length; nothing at all counts as an empty one.
fn payload(rest: &[u8]) -> Result<&[u8], FrameError> {
    if rest.is_empty() {
        return Ok(rest);
    }
    let (length, rest) = rest.split_at_checked(LENGTH_LEN).ok_or(FrameError::Truncated)?;
    let length = u16::from_be_bytes([length[0], length[1]]);
    rest.get(..usize::from(length)).ok_or(FrameError::Truncated)
}

/// Why a payload is no message. A request like that is still answered, see [`put_refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The payload is not bencoded.
    #[error("payload: {0}")]
    Malformed(#[from] Malformed),
    /// The payload has not the shape of a request or of the response that was asked for.
    #[error("payload of an unexpected shape")]
    Shape,
    /// A findnode whose id is not 20 bytes.
    #[error("findnode: the id is not 20 bytes")]
    BadTarget,
    /// A findvalue whose key is not 20 bytes.
    #[error("findvalue: the key is not 20 bytes")]
    BadKey,
    /// A store whose key is not 20 bytes.
    #[error("store: the key is not 20 bytes")]
    BadStoreKey,
    /// A store without a value.
    #[error("store: no value")]
    NoValue,
}

/// Reads the payload of a request.
///
/// # Errors
/// If it is none; [`put_refusal`] writes the answer that an original caller can live with.
pub fn request(payload: &[u8]) -> Result<Request<'_>, PayloadError> {
    let call = Item::parse(payload)?.dict().ok_or(PayloadError::Shape)?;
    let (mut name, mut args) = (None, None);
    for (key, value) in call {
        match key.bytes() {
            Some(b"name") => name = Some(value),
            Some(b"args") => args = Some(value),
            _ => {}
        }
    }
    let name = name.and_then(Item::bytes).ok_or(PayloadError::Shape)?;
    let args = args.and_then(arguments).ok_or(PayloadError::Shape)?;
    request_named(name, args)
}

fn request_named<'a>(name: &'a [u8], mut args: List<'a>) -> Result<Request<'a>, PayloadError> {
    let all = args;
    match name {
        b"ping" => Ok(Request::Ping),
        b"findnode" => match id(args.next()) {
            Some(target) => Ok(Request::FindNode { target }),
            None => Err(PayloadError::BadTarget),
        },
        b"findvalue" => {
            let key = id(args.next()).ok_or(PayloadError::BadKey)?;
            let limit = match args.next() {
                None => 1,
                Some(item) => item.integer().ok_or(PayloadError::Shape)?,
            };
            Ok(Request::FindValue { key, limit: limit.try_into().unwrap_or(0) })
        }
        b"store" => store(args).map(Request::Store),
        b"getsocket" => Ok(Request::GetSocket),
        _ => Ok(Request::Custom { name, args: all }),
    }
}

/// The arguments: a list, or the dictionary with holes that a sparse Lua array becomes, which has
/// no first argument and so counts as empty.
fn arguments(item: Item<'_>) -> Option<List<'_>> {
    item.list().or_else(|| item.dict().map(|_| List::EMPTY))
}

fn store(mut args: List<'_>) -> Result<Store<'_>, PayloadError> {
    let key = id(args.next()).ok_or(PayloadError::BadStoreKey)?;
    let value = args.next().ok_or(PayloadError::NoValue)?;
    let mode = match args.next().and_then(Item::integer) {
        Some(MODE_REPLACE | MODE_REPLACE_ORIGINAL) => StoreMode::Replace,
        _ => StoreMode::Add,
    };
    let copy = args.next().map(|item| copy_of(item).ok_or(PayloadError::Shape)).transpose()?;
    Ok(Store { key, value, mode, copy })
}

/// `{age: seconds, owner: contact}`; without an owner the copy is the sender's own.
fn copy_of(item: Item<'_>) -> Option<CopyOf> {
    let fields = item.dict()?;
    let age = fields.get(b"age")?.integer()?.try_into().ok()?;
    let owner = match fields.get(b"owner") {
        Some(owner) => Some(contact(owner)?),
        None => None,
    };
    Some(CopyOf { owner, age: Duration::from_secs(age) })
}

fn id(item: Option<Item<'_>>) -> Option<Id> {
    Id::from_slice(item?.bytes()?)
}

/// `[address, port, id]`, where the address is an IP literal one can send to.
fn contact(item: Item<'_>) -> Option<Contact> {
    let mut parts = item.list()?;
    let address = socket_address(parts.next()?, parts.next()?)?;
    let id = id(parts.next())?;
    is_sendable(&address).then_some(Contact { id, address })
}

fn socket_address(address: Item<'_>, port: Item<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = std::str::from_utf8(address.bytes()?).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port.integer()?.try_into().ok()?))
}

/// The contacts of a list; entries that are none are left out.
fn contacts(item: Item<'_>) -> Result<Vec<Contact>, PayloadError> {
    let list = item.list().ok_or(PayloadError::Shape)?;
    Ok(list.take(MAX_CONTACTS).filter_map(contact).collect())
}

/// The items of a list as values of their own.
pub fn values(list: List<'_>) -> Result<Vec<Value>, PayloadError> {
    Ok(list.map(|item| Value::parse(item.as_bytes())).collect::<Result<_, _>>()?)
}

/// Reads the payload of a response to a request of that kind.
///
/// # Errors
/// If it is none.
pub fn response(kind: Kind, payload: &[u8]) -> Result<Response, PayloadError> {
    let mut returned = Item::parse(payload)?.list().ok_or(PayloadError::Shape)?;
    if kind == Kind::Custom {
        return Ok(Response::Returned(values(returned)?));
    }
    let first = returned.next().ok_or(PayloadError::Shape)?;
    match kind {
        Kind::Ping => Ok(Response::Pong),
        Kind::FindNode => contacts(first).map(Response::Nodes),
        Kind::FindValue => {
            let fields = first.dict().ok_or(PayloadError::Shape)?;
            let found = fields.get(b"retval").and_then(Item::list).unwrap_or(List::EMPTY);
            let closest = fields.get(b"closest").map_or(Ok(Vec::new()), contacts)?;
            Ok(Response::Values { values: values(found)?, closest })
        }
        Kind::Store if first.integer() == Some(1) => Ok(Response::Stored),
        Kind::Store => {
            let reason = returned.next().and_then(Item::bytes).unwrap_or_default();
            Ok(Response::Refused(String::from_utf8_lossy(reason).into_owned()))
        }
        Kind::GetSocket => {
            let fields = first.dict().ok_or(PayloadError::Shape)?;
            let address = fields.get(b"addr").zip(fields.get(b"port"));
            let address = address.and_then(|(address, port)| socket_address(address, port));
            address.map(Response::Socket).ok_or(PayloadError::Shape)
        }
        Kind::Custom => unreachable!("returned above"),
    }
}

/// A contact as answers carry it, encoded once and copied into each.
#[derive(Clone)]
pub struct EncodedContact {
    bytes: [u8; EncodedContact::CAPACITY],
    len: u8,
}

impl EncodedContact {
    /// `l39:` + the longest IPv6 literal + `i65535e` + `20:` + id + `e`.
    const CAPACITY: usize = 4 + 39 + 7 + 3 + 20 + 1;

    /// Encodes a contact.
    pub fn new(contact: &Contact) -> EncodedContact {
        let mut out = Vec::with_capacity(EncodedContact::CAPACITY);
        put_contact(&mut out, contact);
        let mut bytes = [0; EncodedContact::CAPACITY];
        bytes[..out.len()].copy_from_slice(&out);
        EncodedContact { bytes, len: out.len() as u8 }
    }

    /// The encoded bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

fn put_contact(out: &mut Vec<u8>, contact: &Contact) {
    out.push(b'l');
    put_bytes(out, contact.address.ip().to_string().as_bytes());
    put_integer(out, i64::from(contact.address.port()));
    put_bytes(out, contact.id.as_bytes());
    out.push(b'e');
}

/// Appends the datagram of a request.
///
/// # Panics
/// If the payload exceeds 65,535 bytes; the node refuses values and arguments long before.
pub fn put_request(out: &mut Vec<u8>, header: &Header, request: &Request<'_>) {
    let name: &[u8] = match request {
        Request::Ping => b"ping",
        Request::FindNode { .. } => b"findnode",
        Request::FindValue { .. } => b"findvalue",
        Request::Store(_) => b"store",
        Request::GetSocket => b"getsocket",
        Request::Custom { name, .. } => name,
    };
    put_framed(out, header, REQUEST, |out| {
        // Name before args, as the original writes them.
        out.extend_from_slice(b"d4:name");
        put_bytes(out, name);
        out.extend_from_slice(b"4:argsl");
        match request {
            Request::Ping | Request::GetSocket => {}
            Request::FindNode { target } => put_bytes(out, target.as_bytes()),
            Request::FindValue { key, limit } => {
                put_bytes(out, key.as_bytes());
                put_integer(out, i64::try_from(*limit).unwrap_or(i64::MAX));
            }
            Request::Store(store) => put_store_args(out, store),
            Request::Custom { args, .. } => {
                args.for_each(|arg| out.extend_from_slice(arg.as_bytes()));
            }
        }
        out.extend_from_slice(b"ee");
    });
}

fn put_store_args(out: &mut Vec<u8>, store: &Store<'_>) {
    put_bytes(out, store.key.as_bytes());
    out.extend_from_slice(store.value.as_bytes());
    match (store.mode, &store.copy) {
        (StoreMode::Add, None) => {}
        (StoreMode::Add, Some(_)) => put_integer(out, 0),
        (StoreMode::Replace, _) => put_integer(out, MODE_REPLACE),
    }
    if let Some(copy) = &store.copy {
        out.extend_from_slice(b"d3:age");
        put_integer(out, i64::try_from(copy.age.as_secs()).unwrap_or(i64::MAX));
        if let Some(owner) = &copy.owner {
            out.extend_from_slice(b"5:owner");
            put_contact(out, owner);
        }
        out.push(b'e');
    }
}

/// Appends the answer to a ping.
pub fn put_pong(out: &mut Vec<u8>, header: &Header) {
    put_framed(out, header, RESPONSE, |out| out.extend_from_slice(b"li5ee"));
}

/// Appends the answer to a findnode: as many of the contacts, nearest first, as [`MAX_REPLY`]
/// has room for.
pub fn put_nodes<'c>(
    out: &mut Vec<u8>,
    header: &Header,
    closest: impl Iterator<Item = &'c EncodedContact>,
) {
    let end = out.len() + MAX_REPLY;
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"ll");
        put_contacts(out, closest, end - b"ee".len());
        out.extend_from_slice(b"ee");
    });
}

/// Appends the answer to a findvalue: as many values as [`MAX_DATAGRAM`] has room for, then as many
/// contacts as [`MAX_REPLY`] still has. `values` is `None` where nothing is stored.
pub fn put_values<'v, 'c>(
    out: &mut Vec<u8>,
    header: &Header,
    values: Option<impl Iterator<Item = &'v Value>>,
    closest: impl Iterator<Item = &'c EncodedContact>,
) {
    const CLOSEST: &[u8] = b"7:closestl";
    const AFTER: usize = b"e".len() + CLOSEST.len() + b"eee".len();
    let start = out.len();
    put_framed(out, header, RESPONSE, |out| {
        // The values are laid down first, so that contacts take only what is left; a decoder
        // takes dictionary keys in any order.
        out.extend_from_slice(b"ld");
        if let Some(values) = values {
            out.extend_from_slice(b"6:retvall");
            for value in values {
                if out.len() + value.as_bytes().len() + AFTER <= start + MAX_DATAGRAM {
                    out.extend_from_slice(value.as_bytes());
                }
            }
            out.push(b'e');
        }
        out.extend_from_slice(CLOSEST);
        put_contacts(out, closest, start + MAX_REPLY - b"eee".len());
        out.extend_from_slice(b"eee");
    });
}

/// Appends contacts while they end before `end`.
#[inline]
fn put_contacts<'c>(
    out: &mut Vec<u8>,
    contacts: impl Iterator<Item = &'c EncodedContact>,
    end: usize,
) {
    for contact in contacts {
        let bytes = contact.as_bytes();
        if out.len() + bytes.len() > end {
            return;
        }
        out.extend_from_slice(bytes);
    }
}

/// Appends the answer to a store that was accepted.
pub fn put_stored(out: &mut Vec<u8>, header: &Header) {
    put_framed(out, header, RESPONSE, |out| out.extend_from_slice(b"li1ee"));
}

/// Appends the answer to a store that was refused; an original reads only the zero.
pub fn put_refused(out: &mut Vec<u8>, header: &Header, reason: &str) {
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"li0e");
        put_bytes(out, reason.as_bytes());
        out.push(b'e');
    });
}

/// Appends the answer to a getsocket.
pub fn put_socket(out: &mut Vec<u8>, header: &Header, address: SocketAddr) {
    put_framed(out, header, RESPONSE, |out| {
        out.extend_from_slice(b"ld4:addr");
        put_bytes(out, address.ip().to_string().as_bytes());
        out.extend_from_slice(b"4:port");
        put_integer(out, i64::from(address.port()));
        out.extend_from_slice(b"ee");
    });
}

/// Appends the answer of an application's RPC.
///
/// # Panics
/// If the values exceed 65,535 bytes, which the node refuses before.
pub fn put_returned(out: &mut Vec<u8>, header: &Header, values: &[Value]) {
    put_framed(out, header, RESPONSE, |out| {
        out.push(b'l');
        values.iter().for_each(|value| out.extend_from_slice(value.as_bytes()));
        out.push(b'e');
    });
}

/// Appends the answer to an RPC that the node does not know.
pub fn put_no_such_rpc(out: &mut Vec<u8>, header: &Header) {
    put_header(out, header, NO_SUCH_RPC);
}

/// Appends the answer to an RPC that failed.
pub fn put_failed(out: &mut Vec<u8>, header: &Header) {
    put_header(out, header, FAILED);
}

/// Appends the answer to a request that [`request`] could not read. An original caller hangs for
/// good on anything but contacts in answer to a lookup, so it gets an empty list of them.
pub fn put_refusal(out: &mut Vec<u8>, header: &Header, error: PayloadError) {
    match error {
        PayloadError::BadTarget => put_nodes(out, header, std::iter::empty()),
        PayloadError::BadKey => {
            put_values(out, header, None::<std::iter::Empty<_>>, std::iter::empty());
        }
        PayloadError::BadStoreKey | PayloadError::NoValue => {
            put_refused(out, header, &error.to_string());
        }
        PayloadError::Malformed(_) | PayloadError::Shape => put_failed(out, header),
    }
}

fn put_header(out: &mut Vec<u8>, header: &Header, call: u8) {
    out.push(VERSION);
    out.extend_from_slice(header.from.as_bytes());
    out.extend_from_slice(&header.rpc_id.0);
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
