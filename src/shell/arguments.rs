//! Arguments of the shell's functions: taken one by one and checked. If one is wrong, the error
//! says what was expected, what came, and what to write instead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mlua::{Function, MultiValue, Table, Value as LuaValue};

use crate::address::is_sendable;
use crate::bencode;
use crate::id::Id;
use crate::kad::lookup::ALL_ENTRIES;
use crate::net::Endpoint;
use crate::node::Peer;

use super::convert;

/// The message to a user when a function cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint(pub(crate) String);

impl Complaint {
    pub(crate) fn new(function: &str, error: impl std::fmt::Display) -> Complaint {
        Complaint(format!("{function}: {error}"))
    }

    /// The same complaint about another function.
    pub(crate) fn of(self, function: &str) -> Complaint {
        Complaint(format!("{function}{}", self.0))
    }
}

/// How a function is called, for messages about its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// What stands before the name of a method of a network or cluster: `n:`.
    pub(crate) owner: &'static str,
    pub(crate) name: &'static str,
    /// Correct arguments; for a method, without the number of the node.
    pub(crate) example: &'static str,
}

impl Usage {
    pub(crate) fn new(name: &'static str, example: &'static str) -> Usage {
        Usage { owner: "", name, example }
    }

    /// What to write instead.
    fn advice(&self) -> String {
        let first = if self.owner.is_empty() { "" } else { "1, " };
        format!(". Try {self}({first}{})", self.example)
    }
}

/// The name.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.owner, self.name)
    }
}

/// The arguments of one call, in order.
pub(crate) struct Arguments {
    usage: Usage,
    values: std::vec::IntoIter<LuaValue>,
}

/// How a key or an id is written.
const ID: &str = "a 20-byte string or 40 hex digits";

/// How a node is named.
const ENDPOINT: &str = "a contact, \"host:port\" or a port of 127.0.0.1, or a list of them";

const PEER: &str = "a contact, \"address:port\" or a port of 127.0.0.1";

impl Arguments {
    pub(crate) fn new(usage: Usage, values: MultiValue) -> Arguments {
        Arguments { usage, values: values.into_iter().collect::<Vec<_>>().into_iter() }
    }

    /// How the called function is used.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Arguments of the same function that were inside others.
    pub(crate) fn inner(&self, value: LuaValue) -> Arguments {
        Arguments::new(self.usage, MultiValue::from_iter([value]))
    }

    /// The same for a method of `owner`.
    pub(crate) fn owned_by(self, owner: &'static str) -> Arguments {
        Arguments { usage: Usage { owner, ..self.usage }, ..self }
    }

    /// A complaint about the call as a whole.
    pub(crate) fn complaint(&self, error: impl std::fmt::Display) -> Complaint {
        Complaint(format!("{}: {error}", self.usage))
    }

    /// Whatever comes next; nil if nothing does.
    pub(crate) fn any(&mut self) -> LuaValue {
        self.values.next().unwrap_or(LuaValue::Nil)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Vec<LuaValue> {
        self.values.by_ref().collect()
    }

    /// A key or an id.
    pub(crate) fn id(&mut self, name: &str) -> Result<Id, Complaint> {
        let value = self.any();
        id_of(&value).ok_or_else(|| self.wrong(name, ID, &value, &self.advice()))
    }

    /// An id that may be left out.
    pub(crate) fn optional_id(&mut self, name: &str) -> Result<Option<Id>, Complaint> {
        if matches!(self.values.as_slice().first(), None | Some(LuaValue::Nil)) {
            self.any();
            return Ok(None);
        }
        self.id(name).map(Some)
    }

    /// A string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Vec<u8>, Complaint> {
        match self.any() {
            LuaValue::String(string) => Ok(string.as_bytes().to_vec()),
            other => Err(self.wrong(name, "a string", &other, "")),
        }
    }

    /// A whole number from 1 to `max`, or the default if nothing is given.
    pub(crate) fn count(
        &mut self,
        name: &str,
        default: usize,
        max: usize,
    ) -> Result<usize, Complaint> {
        let value = self.any();
        self.counted(name, &value, default, max, "")
    }

    /// The same, or `"all"`, which is [`ALL_ENTRIES`].
    pub(crate) fn count_or_all(
        &mut self,
        name: &str,
        default: usize,
        max: usize,
    ) -> Result<usize, Complaint> {
        let value = self.any();
        if value.as_string().is_some_and(|text| text.as_bytes() == b"all") {
            return Ok(ALL_ENTRIES);
        }
        self.counted(name, &value, default, max, ", or \"all\"")
    }

    /// The next value as a count; `or` says what else it may be.
    fn counted(
        &self,
        name: &str,
        value: &LuaValue,
        default: usize,
        max: usize,
        or: &str,
    ) -> Result<usize, Complaint> {
        let number = match *value {
            LuaValue::Nil => return Ok(default),
            LuaValue::Integer(integer) => integer as f64,
            LuaValue::Number(number) => number,
            _ => f64::NAN,
        };
        let is_count = number.fract() == 0.0 && (1.0..=max as f64).contains(&number);
        is_count.then_some(number as usize).ok_or_else(|| {
            self.wrong(name, &format!("a whole number from 1 to {max}{or}"), value, "")
        })
    }

    /// A number from 0 up, its fraction cut.
    pub(crate) fn number(&mut self, name: &str) -> Result<u64, Complaint> {
        let value = self.any();
        let number = match value {
            LuaValue::Integer(integer) => integer as f64,
            LuaValue::Number(number) => number,
            _ => f64::NAN,
        };
        if (0.0..1e15).contains(&number) {
            return Ok(number as u64);
        }
        Err(self.wrong(name, "a number from 0 up", &value, &self.advice()))
    }

    /// A span of time in seconds.
    pub(crate) fn seconds(&mut self, name: &str) -> Result<Duration, Complaint> {
        let value = self.any();
        let seconds = match value {
            LuaValue::Integer(integer) => integer as f64,
            LuaValue::Number(number) => number,
            _ => f64::NAN,
        };
        // A century is for ever, and far from overflowing a timer.
        if (0.0..=3.2e9).contains(&seconds) {
            return Ok(Duration::from_secs_f64(seconds));
        }
        Err(self.wrong(name, "a number of seconds from 0 up", &value, ""))
    }

    /// A function.
    pub(crate) fn callback(&mut self, name: &str) -> Result<Function, Complaint> {
        match self.any() {
            LuaValue::Function(function) => Ok(function),
            other => Err(self.wrong(name, "a function", &other, &self.advice())),
        }
    }

    /// A node to ask.
    pub(crate) fn peer(&mut self, name: &str) -> Result<Peer, Complaint> {
        let value = self.any();
        peer_of(&value).ok_or_else(|| self.wrong(name, PEER, &value, &self.advice()))
    }

    /// Nodes to join through: several arguments, or lists of them.
    pub(crate) fn endpoints(&mut self, name: &str) -> Result<Vec<Endpoint>, Complaint> {
        let mut endpoints = Vec::new();
        let advice = self.advice();
        for value in self.rest() {
            let list = value.as_table().filter(|table| table.raw_len() > 0);
            let values = match list {
                Some(list) => list.sequence_values().collect::<Result<_, _>>().unwrap_or_default(),
                None => vec![value],
            };
            for value in &values {
                let endpoint = endpoint_of_value(value);
                let endpoint =
                    endpoint.ok_or_else(|| self.wrong(name, ENDPOINT, value, &advice))?;
                endpoints.push(endpoint);
            }
        }
        match endpoints.is_empty() {
            true => Err(self.wrong(name, ENDPOINT, &LuaValue::Nil, &advice)),
            false => Ok(endpoints),
        }
    }

    /// A value to store or send.
    pub(crate) fn encodable(&mut self, name: &str) -> Result<bencode::Value, Complaint> {
        let value = self.any();
        convert::encode(name, &value).map_err(|error| self.complaint(error))
    }

    /// All that is left, as values to send.
    pub(crate) fn encodable_rest(&mut self) -> Result<Vec<bencode::Value>, Complaint> {
        let values = self.rest();
        let encode = |(index, value)| convert::encode(&format!("argument {}", index + 1), value);
        values
            .iter()
            .enumerate()
            .map(encode)
            .collect::<Result<_, _>>()
            .map_err(|error| self.complaint(error))
    }

    /// What to write instead, for the end of a complaint.
    pub(crate) fn advice(&self) -> String {
        self.usage.advice()
    }

    /// A complaint about one argument.
    pub(crate) fn wrong(
        &self,
        name: &str,
        expected: &str,
        got: &LuaValue,
        advice: &str,
    ) -> Complaint {
        let got = convert::describe(got);
        self.complaint(format_args!("{name}: expected {expected}, got {got}{advice}"))
    }
}

/// The id in 20 bytes or 40 hex digits.
pub(crate) fn id_of(value: &LuaValue) -> Option<Id> {
    let LuaValue::String(string) = value else { return None };
    let bytes = string.as_bytes();
    Id::from_slice(&bytes).or_else(|| std::str::from_utf8(&bytes).ok()?.parse().ok())
}

/// The node that a port, `"address:port"` or a contact stands for.
pub(crate) fn peer_of(value: &LuaValue) -> Option<Peer> {
    let peer = match value {
        LuaValue::Integer(port) => local(u16::try_from(*port).ok()?).into(),
        LuaValue::String(string) => address_of(&string.to_str().ok()?)?.into(),
        LuaValue::Table(table) => peer_of_table(table)?,
        _ => return None,
    };
    is_sendable(&peer.address).then_some(peer)
}

fn peer_of_table(table: &Table) -> Option<Peer> {
    let text: String = table.raw_get("address").ok()?;
    let port = table.raw_get("port").ok()?;
    let id = id_of(&table.raw_get("id").ok()?);
    Some(Peer { address: SocketAddr::new(text.parse::<IpAddr>().ok()?, port), id })
}

/// Like [`peer_of`], for where only the address counts: a host name may stand for it.
pub(crate) fn endpoint_of_value(value: &LuaValue) -> Option<Endpoint> {
    if let Some(peer) = peer_of(value) {
        return Some(peer.address.into());
    }
    match value {
        LuaValue::String(string) => endpoint_of(&string.to_str().ok()?),
        LuaValue::Table(table) => {
            let (host, port): (String, u16) =
                (table.raw_get("address").ok()?, table.raw_get("port").ok()?);
            format!("{host}:{port}").parse().ok()
        }
        _ => None,
    }
    .filter(|endpoint| matches!(endpoint, Endpoint::Name { .. }))
}

/// `host:port`, `address:port`, or a port alone.
pub(crate) fn endpoint_of(text: &str) -> Option<Endpoint> {
    address_of(text).map(Endpoint::from).or_else(|| text.parse().ok())
}

/// `address:port`, or a port alone.
fn address_of(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(local))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

#[cfg(test)]
mod tests {
    use mlua::Lua;

    use super::*;

    fn arguments(lua: &Lua, source: &str) -> Arguments {
        let usage = Usage::new("findvalue", "sha1(\"key\")");
        Arguments::new(usage, lua.load(source).eval().unwrap())
    }

    #[test]
    fn ids_come_as_bytes_or_digits() {
        let lua = Lua::new();
        let id = Id::of_name("key");
        let digits = format!("return '{id}'");
        assert_eq!(arguments(&lua, &digits).id("key"), Ok(id));
        lua.globals().set("bytes", lua.create_string(id.as_bytes()).unwrap()).unwrap();
        assert_eq!(arguments(&lua, "return bytes").id("key"), Ok(id));
        assert_eq!(
            arguments(&lua, "return 'short'").id("key").unwrap_err().0,
            "findvalue: key: expected a 20-byte string or 40 hex digits, got a string of 5 bytes. \
             Try findvalue(sha1(\"key\"))"
        );
        assert_eq!(arguments(&lua, "return nil").optional_id("b"), Ok(None));
    }

    #[test]
    fn counts_have_bounds_and_defaults() {
        let lua = Lua::new();
        assert_eq!(arguments(&lua, "return").count("maxnodes", 3, 20), Ok(3));
        assert_eq!(arguments(&lua, "return 4.0").count("maxnodes", 3, 20), Ok(4));
        for wrong in ["return 0", "return 21", "return 1.5", "return 'a'", "return 0/0"] {
            assert!(arguments(&lua, wrong).count("maxnodes", 3, 20).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nodes_are_named_in_several_ways() {
        let lua = Lua::new();
        let local: SocketAddr = "127.0.0.1:8001".parse().unwrap();
        for source in [
            "return 8001",
            "return '8001'",
            "return '127.0.0.1:8001'",
            "return {address = '127.0.0.1', port = 8001}",
        ] {
            let peer = arguments(&lua, source).peer("contact").map(|peer| peer.address);
            assert_eq!(peer, Ok(local), "{source}");
        }
        assert!(arguments(&lua, "return '[::1]:9'").peer("contact").is_ok());
        for wrong in ["return 0", "return 70000", "return 'host:1'", "return {}", "return"] {
            assert!(arguments(&lua, wrong).peer("contact").is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_seconds_from_zero_up() {
        let lua = Lua::new();
        let half = arguments(&lua, "return 0.5").seconds("seconds");
        assert_eq!(half, Ok(Duration::from_millis(500)));
        for wrong in ["return -1", "return 0/0", "return 1e300", "return 'a'"] {
            assert!(arguments(&lua, wrong).seconds("seconds").is_err(), "{wrong}");
        }
    }
}
