//! Routes: requests that nodes hand on, and their answers. They are calls 4 and 132. An original drops both in
//! silence.
//!
//! ```text
//! offset  32      33     34     35     36    56                    74       76                 94      96
//!         ┌───────┬──────┬──────┬──────┬─────┬─────────────────────┬────────┬──────────────────┬───────┬──────┐
//!         │ flags │ hops │ skip │ kind │ key │ answer to: ip, port │ budget │ client: ip, port │ stamp │ seal │
//!         └───────┴──────┴──────┴──────┴─────┴─────────────────────┴────────┴──────────────────┴───────┴──────┘
//! bytes     1       1      1      1      20    16 + 2                2        16 + 2             2       8
//! ```
//!
//! The header and a length come first. The length counts these fields and the payload, so it is at least 72.
//! The payload follows, then padding that makes room for an answer, or a trace of eight bytes a node. An
//! IPv4 address is written as a mapped one.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::write::{put_contact, put_header};
use super::{HEADER_LEN, LENGTH_LEN, read};
use crate::bencode::{Item, ItemView, Value, put_bytes};
use crate::id::{Id, IdPrefix};
use crate::message::{Contact, Route, RouteAnswer, RouteFlags, RouteHop, RouteKind};
use crate::wire::{Header, ParseError, PayloadError};

pub(super) const ROUTE: u8 = 4;
pub(super) const ROUTED: u8 = 132;

/// Bytes between the length and the payload.
const FIELDS_LEN: usize = 72;

/// Bytes of a route without payload, padding and trace.
pub(super) const HEAD_LEN: usize = HEADER_LEN + LENGTH_LEN + FIELDS_LEN;

/// Bytes of a node in a trace.
pub(super) const HOP_LEN: usize = IdPrefix::LEN + size_of::<u32>();

/// Reads what stands behind the header.
pub(in crate::wire) fn parse(behind: &[u8]) -> Result<Route<'_>, ParseError> {
    let (length, behind) = behind.split_first_chunk().ok_or(ParseError::Truncated)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (fields, behind) = behind.split_first_chunk().ok_or(ParseError::Truncated)?;
    let payload = length.checked_sub(FIELDS_LEN).ok_or(ParseError::Truncated)?;
    let (payload, rest) = behind.split_at_checked(payload).ok_or(ParseError::Truncated)?;
    fields_of(fields, payload, rest)
}

fn fields_of<'a>(
    fields: &[u8; FIELDS_LEN],
    payload: &'a [u8],
    rest: &'a [u8],
) -> Result<Route<'a>, ParseError> {
    let mut at = 0;
    let mut take = |len: usize| {
        at += len;
        &fields[at - len..at]
    };
    let number = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let [flags, hops_left, skip, kind] = *take(4) else { unreachable!("took as many") };
    let kind = match kind {
        0 => RouteKind::Locate,
        1 => RouteKind::FindValue,
        2 => RouteKind::Store,
        kind => return Err(ParseError::RouteKind(kind)),
    };
    Ok(Route {
        flags: RouteFlags(flags),
        hops_left,
        skip,
        kind,
        key: Id::from_slice(take(Id::LEN)).expect("20 bytes"),
        answer_to: endpoint(take(ENDPOINT_LEN)),
        budget: number(take(2)),
        client: endpoint(take(ENDPOINT_LEN)),
        stamp: number(take(2)),
        seal: take(8).try_into().expect("8 bytes"),
        payload,
        rest,
    })
}

/// Bytes of an address and its port.
const ENDPOINT_LEN: usize = 18;

/// Reads an address. Each has one form, so that reading and writing changes nothing.
fn endpoint(bytes: &[u8]) -> SocketAddr {
    let (ip, port) = bytes.split_first_chunk::<16>().expect("18 bytes");
    let ip = Ipv6Addr::from(*ip);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]]))
}

/// Writes an address as [`Route`]s carry it and as tickets are made of it.
pub(in crate::wire) fn endpoint_bytes(address: &SocketAddr) -> [u8; ENDPOINT_LEN] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; ENDPOINT_LEN];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

/// Appends a request or an answer.
pub(super) fn put(out: &mut Vec<u8>, header: &Header, call: u8, route: &Route<'_>) {
    let length = u16::try_from(FIELDS_LEN + route.payload.len()).expect("it fits a datagram");
    let kind = match route.kind {
        RouteKind::Locate => 0,
        RouteKind::FindValue => 1,
        RouteKind::Store => 2,
    };
    put_header(out, header, call);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[route.flags.0, route.hops_left, route.skip, kind]);
    out.extend_from_slice(route.key.as_bytes());
    out.extend_from_slice(&endpoint_bytes(&route.answer_to));
    out.extend_from_slice(&route.budget.to_be_bytes());
    out.extend_from_slice(&endpoint_bytes(&route.client));
    out.extend_from_slice(&route.stamp.to_be_bytes());
    out.extend_from_slice(&route.seal);
    out.extend_from_slice(route.payload);
    out.extend_from_slice(route.rest);
}

/// The marks of a trace. Padding follows the last one.
pub(in crate::wire) fn hops(rest: &[u8]) -> impl Iterator<Item = RouteHop> {
    let (slots, _) = rest.as_chunks::<HOP_LEN>();
    slots.iter().take_while(|slot| **slot != [0; HOP_LEN]).map(|slot| {
        let (id, micros) = slot.split_first_chunk().expect("8 bytes");
        let micros = u32::from_be_bytes(micros.try_into().expect("8 - 4 = 4"));
        RouteHop { id: IdPrefix(*id), micros }
    })
}

/// Writes a mark into the first free place of a trace, if there is one.
pub(in crate::wire) fn put_hop(rest: &mut [u8], hop: RouteHop) {
    let (slots, _) = rest.as_chunks_mut::<HOP_LEN>();
    if let Some(free) = slots.iter_mut().find(|slot| **slot == [0; HOP_LEN]) {
        free[..IdPrefix::LEN].copy_from_slice(&hop.id.0);
        free[IdPrefix::LEN..].copy_from_slice(&hop.micros.to_be_bytes());
    }
}

/// The payload of an answer.
pub(in crate::wire) fn encode_answer(answer: &RouteAnswer) -> Vec<u8> {
    let mut out = Vec::new();
    match answer {
        RouteAnswer::Located(contact) => {
            out.push(b'l');
            put_contact(&mut out, contact);
            out.push(b'e');
        }
        RouteAnswer::Values(values) => {
            out.extend_from_slice(VALUES_HEAD);
            values.iter().for_each(|value| out.extend_from_slice(value.as_bytes()));
            out.extend_from_slice(VALUES_TAIL);
        }
        RouteAnswer::HeldAt(contact) => {
            out.extend_from_slice(b"ld4:held");
            put_contact(&mut out, contact);
            out.extend_from_slice(b"ee");
        }
        RouteAnswer::Nothing => out.extend_from_slice(b"ldee"),
        RouteAnswer::Stored => out.extend_from_slice(b"li1ee"),
        RouteAnswer::Refused { reason } => {
            out.extend_from_slice(b"li0e");
            put_bytes(&mut out, reason.as_bytes());
            out.push(b'e');
        }
        RouteAnswer::Cut => {}
    }
    out
}

const VALUES_HEAD: &[u8] = b"ld6:retvall";
const VALUES_TAIL: &[u8] = b"eee";

/// How many bytes of values fit an answer of `answer_max` bytes.
pub(in crate::wire) fn values_max(answer_max: usize) -> usize {
    answer_max.saturating_sub(HEAD_LEN + VALUES_HEAD.len() + VALUES_TAIL.len())
}

/// Reads the payload of an answer to a request of that kind.
pub(in crate::wire) fn answer(
    kind: RouteKind,
    payload: &[u8],
) -> Result<RouteAnswer, PayloadError> {
    if payload.is_empty() {
        return Ok(RouteAnswer::Cut);
    }
    let mut list = Item::parse(payload)?.list().ok_or(PayloadError::Shape)?;
    let first = list.next().ok_or(PayloadError::Shape)?;
    match kind {
        RouteKind::Locate => contact(first).map(RouteAnswer::Located),
        RouteKind::FindValue => found(first),
        RouteKind::Store if matches!(first.view(), ItemView::Integer(_)) => {
            Ok(if first.integer() == Some(1) {
                RouteAnswer::Stored
            } else {
                let reason = list.next().and_then(Item::bytes).unwrap_or_default();
                RouteAnswer::Refused { reason: String::from_utf8_lossy(reason).into_owned() }
            })
        }
        RouteKind::Store => Err(PayloadError::Shape),
    }
}

fn found(item: Item<'_>) -> Result<RouteAnswer, PayloadError> {
    let fields = item.dict().ok_or(PayloadError::Shape)?;
    if let Some(values) = fields.get(b"retval") {
        let values: Vec<Value> = read::readable(values.list().ok_or(PayloadError::Shape)?);
        return Ok(RouteAnswer::Values(values));
    }
    match fields.get(b"held") {
        Some(holder) => contact(holder).map(RouteAnswer::HeldAt),
        None => Ok(RouteAnswer::Nothing),
    }
}

fn contact(item: Item<'_>) -> Result<Contact, PayloadError> {
    read::contact(item).ok_or(PayloadError::Shape)
}
