//! Reading: payloads become [`message`](crate::message)s, in place where they are asked.

use std::net::{IpAddr, SocketAddr};

use super::{MAX_CONTACTS, MAX_TOKEN, MODE_REPLACE, MODE_REPLACE_ORIGINAL, rpc_named};
use crate::address::is_sendable;
use crate::bencode::{Item, ItemView, List, Value, outline_len};
use crate::id::Id;
use crate::message::{
    Contact, CopyOf, FindValue, Request, Response, Rest, Rpc, StoreMode, StoreRequest,
};
use crate::time::Duration;
use crate::wire::PayloadError;

/// Reads the payload of a request. Also returns how many tokens were read for it; for a malformed
/// payload, how many may have been.
pub(in crate::wire) fn request_counting(
    payload: &[u8],
) -> (Result<Request<'_>, PayloadError>, usize) {
    match Item::parse_counting(payload) {
        Ok((item, tokens)) => (request_in(item), tokens),
        Err(malformed) => (Err(malformed.into()), payload.len()),
    }
}

/// Name and arguments of a request as far as they can be read.
pub(in crate::wire) fn outline(payload: &[u8]) -> (Option<&[u8]>, Option<Item<'_>>) {
    let Some(fields) = Item::parse(payload).ok().and_then(Item::dict) else { return (None, None) };
    (fields.get(b"name").and_then(Item::bytes), fields.get(b"args"))
}

fn request_in(payload: Item<'_>) -> Result<Request<'_>, PayloadError> {
    let call = payload.dict().ok_or(PayloadError::Shape)?;
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
    match rpc_named(name) {
        Rpc::Ping => Ok(Request::Ping),
        Rpc::FindNode => match id(args.next()) {
            Some(target) => Ok(Request::FindNode { target }),
            None => Err(PayloadError::BadTarget),
        },
        Rpc::FindValue => {
            let key = id(args.next()).ok_or(PayloadError::BadKey)?;
            let limit = args.next().map_or(Ok(1), limit)?;
            let search = FindValue::new(key, limit);
            let search = match args.next() {
                Some(extension) => extended(search, extension).ok_or(PayloadError::Shape)?,
                None => search,
            };
            Ok(Request::FindValue(search))
        }
        Rpc::Store => store(args).map(Request::Store),
        Rpc::GetSocket => Ok(Request::GetSocket),
        Rpc::Custom | Rpc::Mainline(_) => Ok(Request::Custom { name, args: all }),
    }
}

/// How many values are wanted: none for a negative number, all for one beyond counting.
fn limit(item: Item<'_>) -> Result<usize, PayloadError> {
    let ItemView::Integer(limit) = item.view() else { return Err(PayloadError::Shape) };
    let limit = limit.to_i64_saturating().max(0);
    Ok(limit.try_into().unwrap_or(usize::MAX))
}

/// The arguments: a list, or the dictionary with holes that a sparse Lua array becomes, which has
/// no first argument and so counts as empty.
fn arguments(item: Item<'_>) -> Option<List<'_>> {
    item.list().or_else(|| item.dict().map(|_| List::EMPTY))
}

fn store(mut args: List<'_>) -> Result<StoreRequest<'_>, PayloadError> {
    let key = id(args.next()).ok_or(PayloadError::BadStoreKey)?;
    let value = args.next().ok_or(PayloadError::NoValue)?;
    let mode = match args.next().and_then(Item::integer) {
        Some(MODE_REPLACE | MODE_REPLACE_ORIGINAL) => StoreMode::Replace,
        _ => StoreMode::Add,
    };
    let (copy, token) = match args.next() {
        Some(extension) => store_extension(extension).ok_or(PayloadError::Shape)?,
        None => (None, None),
    };
    Ok(StoreRequest { key, value, mode, copy, token })
}

/// What an original neither sends nor reads: `{after: digest, token: bytes}`.
fn extended<'a>(search: FindValue<'a>, extension: Item<'a>) -> Option<FindValue<'a>> {
    let fields = extension.dict()?;
    let after = match fields.get(b"after") {
        Some(after) => Some(id(Some(after))?),
        None => None,
    };
    let token = match fields.get(b"token") {
        Some(token) => Some(token.bytes()?),
        None => None,
    };
    Some(FindValue { after, token, ..search })
}

/// What an original neither sends nor reads: `{age: seconds, owner: contact, token: bytes}`. Without
/// an age it is no copy, without an owner the copy is the sender's own, and without a token the sender
/// knows of none.
fn store_extension(item: Item<'_>) -> Option<(Option<CopyOf>, Option<&[u8]>)> {
    let fields = item.dict()?;
    let copy = match fields.get(b"age") {
        Some(age) => Some(copy_of(age, fields.get(b"owner"))?),
        None => None,
    };
    let token = match fields.get(b"token") {
        Some(token) => Some(token.bytes()?),
        None => None,
    };
    Some((copy, token))
}

fn copy_of(age: Item<'_>, publisher: Option<Item<'_>>) -> Option<CopyOf> {
    let age = Duration::from_secs(age.integer()?.try_into().ok()?);
    let publisher = match publisher {
        Some(publisher) => Some(contact(publisher)?),
        None => None,
    };
    Some(CopyOf { publisher, age })
}

fn id(item: Option<Item<'_>>) -> Option<Id> {
    Id::from_slice(item?.bytes()?)
}

/// `[address, port, id]`, where the address is an IP literal one can send to.
pub(super) fn contact(item: Item<'_>) -> Option<Contact> {
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

/// The items of a list as values of their own, less those that nest too deep for a value.
pub(super) fn readable(list: List<'_>) -> Vec<Value> {
    list.filter_map(|item| Value::parse(item.as_bytes()).ok()).collect()
}

/// Reads the payload of a response to a request of that kind.
pub(in crate::wire) fn response(kind: Rpc, payload: &[u8]) -> Result<Response, PayloadError> {
    let returned = match Item::parse(payload) {
        Ok(item) => item.list().ok_or(PayloadError::Shape)?,
        Err(error) if kind == Rpc::FindValue => {
            return salvaged(payload).ok_or(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    let mut rest = returned;
    let first = rest.next().ok_or(PayloadError::Shape);
    match kind {
        Rpc::Ping => first.map(|_| Response::Pong),
        Rpc::FindNode => contacts(first?).map(Response::Nodes),
        Rpc::FindValue => found(first?),
        Rpc::Store => Ok(stored(first?, rest)),
        Rpc::GetSocket => socket(first?),
        Rpc::Custom => Ok(Response::Returned(returned.values()?)),
        Rpc::Mainline(_) => Err(PayloadError::Shape),
    }
}

/// `{retval: [value, …], closest: [contact, …]}`, and in ours what else lies there. A value that cannot
/// be read hides no other.
fn found(item: Item<'_>) -> Result<Response, PayloadError> {
    let fields = item.dict().ok_or(PayloadError::Shape)?;
    let found = fields.get(b"retval").and_then(Item::list).unwrap_or(List::EMPTY);
    let closest = fields.get(b"closest").map_or(Ok(Vec::new()), contacts)?;
    let number = fields.get(b"more").and_then(Item::integer);
    let rest = Rest {
        more: number.and_then(|number| number.try_into().ok()).unwrap_or(0),
        next: id(fields.get(b"next")),
        token: token(fields.get(b"token")),
    };
    Ok(Response::Values { values: readable(found), closest, rest })
}

/// A token that is short enough to be given back.
fn token(item: Option<Item<'_>>) -> Option<Vec<u8>> {
    item?.bytes().filter(|token| token.len() <= MAX_TOKEN).map(<[u8]>::to_vec)
}

/// What can be read of an answer to a findvalue that cannot be read as a whole: an original keeps values
/// that nest deeper than we go, and writes a number from 10^14 up as `i1e+14e`, which nobody can read.
/// The other values and the contacts are still good, and the lookup goes on from them.
fn salvaged(payload: &[u8]) -> Option<Response> {
    let (mut values, mut closest) = (Vec::new(), Vec::new());
    let mut rest = payload.strip_prefix(b"ld")?;
    let mut is_any_read = false;
    while let Ok(key) = Item::parse_prefix(rest) {
        rest = &rest[key.as_bytes().len()..];
        match key.bytes() {
            Some(b"closest") => {
                let Ok(item) = Item::parse_prefix(rest) else { break };
                closest = contacts(item).ok()?;
                is_any_read = true;
                rest = &rest[item.as_bytes().len()..];
            }
            Some(b"retval") if rest.starts_with(b"l") => {
                rest = &rest[1..];
                while let Some(len) = outline_len(rest) {
                    values.extend(Value::parse(&rest[..len]));
                    rest = &rest[len..];
                }
                is_any_read |= !values.is_empty();
                let Some(behind) = rest.strip_prefix(b"e") else { break };
                rest = behind;
            }
            _ => {
                let Some(len) = outline_len(rest) else { break };
                rest = &rest[len..];
            }
        }
    }
    is_any_read.then_some(Response::Values { values, closest, rest: Rest::default() })
}

/// `[1]`, or where the value was refused `[0, reason]` or `[0, reason, token]`.
fn stored(accepted: Item<'_>, mut rest: List<'_>) -> Response {
    if accepted.integer() == Some(1) {
        return Response::Stored;
    }
    let reason = rest.next().and_then(Item::bytes).unwrap_or_default();
    let reason = String::from_utf8_lossy(reason).into_owned();
    Response::Refused { reason, token: token(rest.next()) }
}

/// `{addr: text, port: integer}`.
fn socket(item: Item<'_>) -> Result<Response, PayloadError> {
    let fields = item.dict().ok_or(PayloadError::Shape)?;
    let parts = fields.get(b"addr").zip(fields.get(b"port"));
    let address = parts.and_then(|(address, port)| socket_address(address, port));
    address.map(Response::Socket).ok_or(PayloadError::Shape)
}
