//! What a packet says: the codec's view of it, with the call that an answer belongs to; and which packets
//! are wanted.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bencode::{Item, Value, put_bytes, put_integer};
use crate::id::Id;
use crate::message::{Contact, Route, RouteFlags, RouteHop, RpcError, TransactionId, mainline};
use crate::node::Peer;
use crate::serial::{Bytes, hex};
use crate::wire::{self, Body, Dialect, Envelope, UnreadAnswer, UnreadRoute};

use super::packet::{Direction, Packet, Sight};

/// Requests that are remembered until they are answered.
const ASKED_MAX: usize = 4_096;

/// Nobody calls an RPC by a longer name, so such a name is not remembered.
const NAME_MAX: usize = 64;

/// What kind of message a packet is, or what else there was to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PacketKind {
    /// A question.
    Request,
    /// An answer to one.
    Answer,
    /// There is no RPC of that name.
    #[serde(rename = "no such rpc")]
    NoSuchRpc,
    /// The RPC failed.
    Failure,
    /// A request on its way to a key.
    Route,
    /// The answer to one, on its way back.
    #[serde(rename = "route answer")]
    RouteAnswer,
    /// No message that can be read.
    Malformed,
    /// No packet: a contact has come into the routing table.
    #[serde(rename = "contact added")]
    ContactAdded,
    /// No packet: a contact has left the routing table.
    #[serde(rename = "contact lost")]
    ContactLost,
}

/// What was seen: a packet and what it says, or a contact that came or went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "packet")]
pub struct Reading {
    /// When, in seconds since 1970.
    pub time: f64,
    /// What it is.
    pub kind: PacketKind,
    /// The other node; its id only where it says so itself.
    pub peer: Peer,
    /// Which way the packet went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Its bytes, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The number of the call, in hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The name of the RPC; for an answer, only if its request was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<Bytes>,
    /// What a request brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// What an answer brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Value>,
    /// What a route or its answer tells beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteReading>,
    /// From the request to this answer, in milliseconds with all that the clock tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All of it, where something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// Events that a tap lost right before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// What a route tells the nodes on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReading {
    /// The key it is on its way to.
    pub key: Id,
    /// How many more times it may be handed on.
    pub hops_left: u8,
    /// How many contacts each node passes over.
    pub skip: u8,
    /// Whether the answer goes to the client itself.
    pub direct: bool,
    /// Whether the client has proved its address, as the entry says.
    pub proved: bool,
    /// Whether the entry is to look it up itself.
    pub iterate: bool,
    /// Where the answer goes; nowhere yet before the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_to: Option<Peer>,
    /// Who asked the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Peer>,
    /// Bytes of the largest answer.
    pub budget: u16,
    /// The nodes that it passed, where they left marks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<RouteHop>,
}

impl RouteReading {
    fn of(dialect: Dialect, route: &Route<'_>) -> RouteReading {
        let peer = |address: SocketAddr| (address != Route::NOWHERE).then(|| address.into());
        let traced = if route.flags.has(RouteFlags::TRACE) { route.rest } else { &[] };
        RouteReading {
            key: route.key,
            hops_left: route.hops_left,
            skip: route.skip,
            direct: route.flags.has(RouteFlags::DIRECT),
            proved: route.flags.has(RouteFlags::PROVED),
            iterate: route.flags.has(RouteFlags::ITERATE),
            answer_to: peer(route.answer_to),
            client: peer(route.client),
            budget: route.budget,
            hops: dialect.route_hops(traced).collect(),
        }
    }
}

/// One call: its number, the node at the other end, and which way the request goes.
type Exchange = (TransactionId, SocketAddr, Direction);

/// Reads packets in the order in which they went.
#[derive(Debug, Default)]
pub struct Reader {
    asked: HashMap<Exchange, (Box<[u8]>, SystemTime)>,
    order: VecDeque<Exchange>,
}

impl Reader {
    /// Reads what a tap tells.
    pub fn read_sight(&mut self, sight: &Sight) -> Reading {
        match sight {
            Sight::Packet(packet) => self.read(packet),
            Sight::ContactAdded(time, contact) => {
                Reading::of_contact(PacketKind::ContactAdded, *time, *contact)
            }
            Sight::ContactLost(time, contact) => {
                Reading::of_contact(PacketKind::ContactLost, *time, *contact)
            }
        }
    }

    /// Reads a packet.
    pub fn read(&mut self, packet: &Packet) -> Reading {
        let mut reading = Reading::new(PacketKind::Malformed, packet.time, packet.peer.into());
        reading.direction = Some(packet.direction);
        reading.size = Some(packet.bytes.len());
        match wire::parse(&packet.bytes) {
            Ok(envelope) => self.read_envelope(&mut reading, packet, envelope),
            Err(error) => reading.error = Some(error.to_string()),
        }
        if reading.error.is_some() {
            reading.bytes = Some(Bytes::from(&packet.bytes[..]));
        }
        reading
    }

    fn read_envelope(&mut self, reading: &mut Reading, packet: &Packet, envelope: Envelope<'_>) {
        if packet.direction == Direction::In {
            reading.peer.id = envelope.sender;
        }
        let call = envelope.transaction;
        reading.call = Some(hex(call.as_bytes()));
        match envelope.body {
            Body::Query(query) => {
                reading.kind = PacketKind::Request;
                reading.error = query.read().err().map(|error| error.to_string());
                let (name, args) = query.outline();
                reading.rpc = name.map(Bytes::from);
                reading.args = args.and_then(|args| reading.brought(args));
                self.remember(call, reading, packet);
            }
            Body::Answer(answer) => {
                reading.kind = PacketKind::Answer;
                self.find_request(call, reading, packet);
                read_answer(reading, envelope.dialect, answer);
            }
            Body::Error(RpcError::NoSuchRpc) => {
                reading.kind = PacketKind::NoSuchRpc;
                self.find_request(call, reading, packet);
            }
            Body::Error(RpcError::Failed) => {
                reading.kind = PacketKind::Failure;
                self.find_request(call, reading, packet);
            }
            Body::CodedError(error) => {
                reading.kind = match error.code {
                    mainline::code::UNKNOWN_RPC => PacketKind::NoSuchRpc,
                    _ => PacketKind::Failure,
                };
                self.find_request(call, reading, packet);
                // As it stands in the message.
                let mut results = b"l".to_vec();
                put_integer(&mut results, error.code);
                put_bytes(&mut results, error.text);
                results.push(b'e');
                reading.results = Value::parse(&results).ok();
            }
            Body::Route(route) => read_route(reading, PacketKind::Route, envelope.dialect, route),
            Body::Routed(route) => {
                read_route(reading, PacketKind::RouteAnswer, envelope.dialect, route);
            }
        }
    }

    fn remember(&mut self, call: TransactionId, reading: &Reading, packet: &Packet) {
        let call = (call, packet.peer, packet.direction);
        let Some(rpc) = reading.rpc.as_ref().filter(|rpc| rpc.0.len() <= NAME_MAX) else {
            // The answer belongs to this request, and to no earlier one of the same number.
            self.asked.remove(&call);
            return;
        };
        if self.asked.insert(call, (rpc.0[..].into(), packet.time)).is_none() {
            self.order.push_back(call);
        }
        if self.order.len() > ASKED_MAX {
            let oldest = self.order.pop_front().expect("there are many");
            self.asked.remove(&oldest);
        }
    }

    /// The request stays remembered: a second answer to it belongs to it as well.
    fn find_request(&self, call: TransactionId, reading: &mut Reading, packet: &Packet) {
        let asked = match packet.direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        if let Some((rpc, time)) = self.asked.get(&(call, packet.peer, asked)) {
            reading.rpc = Some(Bytes(rpc.to_vec()));
            let took = packet.time.duration_since(*time).ok();
            reading.ms = took.map(|took| took.as_secs_f64() * 1e3);
        }
    }
}

impl Reading {
    fn new(kind: PacketKind, time: SystemTime, peer: Peer) -> Reading {
        Reading {
            time: time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            kind,
            peer,
            direction: None,
            size: None,
            call: None,
            rpc: None,
            args: None,
            results: None,
            route: None,
            ms: None,
            error: None,
            bytes: None,
            lost: None,
        }
    }

    fn of_contact(kind: PacketKind, time: SystemTime, contact: Contact) -> Reading {
        Reading::new(kind, time, contact.into())
    }

    /// What a packet brings. It may nest deeper than what can be stored.
    fn brought(&mut self, item: Item<'_>) -> Option<Value> {
        match Value::of(item) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error.get_or_insert_with(|| format!("payload: {error}"));
                None
            }
        }
    }
}

fn read_answer(reading: &mut Reading, dialect: Dialect, answer: UnreadAnswer<'_>) {
    match Item::parse(answer.as_bytes()) {
        Err(error) => reading.error = Some(format!("payload: {error}")),
        Ok(results) => {
            // Without the request nobody knows what shape it should have.
            if let Some(rpc) = &reading.rpc {
                let kind = dialect.rpc_named(&rpc.0);
                reading.error = answer.read(kind).err().map(|error| error.to_string());
            }
            reading.results = reading.brought(results);
        }
    }
}

fn read_route(reading: &mut Reading, kind: PacketKind, dialect: Dialect, unread: UnreadRoute<'_>) {
    let route = match unread.read() {
        Ok(route) => route,
        Err(error) => {
            reading.error = Some(error.to_string());
            return;
        }
    };
    reading.kind = kind;
    reading.rpc = Some(Bytes(route.kind.name().into()));
    reading.route = Some(RouteReading::of(dialect, &route));
    if route.payload.is_empty() {
        return;
    }
    match Item::parse(route.payload) {
        Err(error) => reading.error = Some(format!("payload: {error}")),
        Ok(item) if kind == PacketKind::Route => reading.args = reading.brought(item),
        Ok(item) => {
            let read = wire::read_route_answer(dialect, route.kind, route.payload);
            reading.error = read.err().map(|error| error.to_string());
            reading.results = reading.brought(item);
        }
    }
}

/// Which packets are wanted; what is left out takes any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Those of an RPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<Bytes>,
    /// Those to or from an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// Those of a kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PacketKind>,
    /// Those in a direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Those of a call, by its number in hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// At most `n` packets, the last ones. A tap ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
}

impl Filter {
    /// Whether something that was seen is wanted.
    pub fn takes(&self, reading: &Reading) -> bool {
        fits(self.rpc.as_ref(), reading.rpc.as_ref())
            && fits(self.kind.as_ref(), Some(&reading.kind))
            && fits(self.direction.as_ref(), reading.direction.as_ref())
            && fits(self.call.as_deref(), reading.call.as_deref())
            && self.peer.is_none_or(|peer| peer.address == reading.peer.address)
    }

    /// Those packets that are wanted, read.
    pub fn of<'a>(&self, packets: impl IntoIterator<Item = &'a Packet>) -> Vec<Reading> {
        let mut reader = Reader::default();
        let readings = packets.into_iter().map(|packet| reader.read(packet));
        let mut wanted: Vec<Reading> = readings.filter(|reading| self.takes(reading)).collect();
        if let Some(n) = self.n {
            wanted.drain(..wanted.len().saturating_sub(n));
        }
        wanted
    }
}

fn fits<T: PartialEq + ?Sized>(wanted: Option<&T>, is: Option<&T>) -> bool {
    wanted.is_none() || wanted == is
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Request, Response};
    use crate::wire::{Header, emit};

    fn header(number: u64) -> Header {
        let transaction = TransactionId::new(number.to_be_bytes());
        Header { dialect: Dialect::V1, from: Id::of_name("8003"), transaction, asker: None }
    }

    fn packet(direction: Direction, micros: u64, bytes: &[u8]) -> Packet {
        let time = UNIX_EPOCH + std::time::Duration::from_micros(micros);
        Packet { time, direction, peer: ([127, 0, 0, 1], 8003).into(), bytes: bytes.into() }
    }

    fn request(number: u64, request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        emit(&mut out, &header(number), request);
        out
    }

    fn pong(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        emit(&mut out, &header(number), &Response::Pong);
        out
    }

    #[test]
    fn an_answer_has_the_name_of_what_was_asked_and_its_time() {
        let mut reader = Reader::default();
        let ping = Bytes(b"ping".to_vec());
        let asked = packet(Direction::Out, 1_000, &request(1, &Request::Ping));
        let answered = packet(Direction::In, 1_250, &pong(1));
        assert_eq!(reader.read(&asked).rpc, Some(ping.clone()));
        let reading = reader.read(&answered);
        assert_eq!((reading.kind, reading.rpc), (PacketKind::Answer, Some(ping)));
        assert_eq!(reading.ms, Some(0.25));
        assert_eq!(reading.error, None);
        // The same number from somebody else, or the other way, is another call.
        let mut elsewhere = packet(Direction::In, 2_000, &pong(1));
        elsewhere.peer.set_port(8004);
        assert_eq!(reader.read(&elsewhere).rpc, None);
        assert_eq!(reader.read(&packet(Direction::Out, 2_000, &pong(1))).rpc, None);
    }

    #[test]
    fn what_is_wrong_is_said_and_the_rest_still_read() {
        let mut reader = Reader::default();
        let mut cases = vec![
            (b"".to_vec(), PacketKind::Malformed, "cut short"),
            (b"q4:ping".to_vec(), PacketKind::Malformed, "not version 1"),
            (b"d1:q4:ping".to_vec(), PacketKind::Malformed, "cut short"),
            (b"d1:q4:pinge".to_vec(), PacketKind::Malformed, "no transaction id"),
        ];
        let whole = request(1, &Request::Ping);
        cases.push((whole[..whole.len() - 1].to_vec(), PacketKind::Malformed, "cut short"));
        let mut unknown = whole.clone();
        unknown[29] = 77;
        cases.push((unknown, PacketKind::Malformed, "unknown call number 77"));
        let mut spoiled = whole.clone();
        spoiled[32] = b'x';
        cases.push((spoiled, PacketKind::Request, "payload: "));
        for (bytes, kind, error) in cases {
            let packet = packet(Direction::In, 0, &bytes);
            let reading = reader.read(&packet);
            assert_eq!(reading.kind, kind, "{bytes:?}");
            assert!(reading.error.unwrap().contains(error), "{error}");
        }
        let mut short = request(2, &Request::Ping);
        short.truncate(30);
        let payload = b"d4:name8:findnode4:argsl3:abcee";
        short.extend((payload.len() as u16).to_be_bytes());
        short.extend(payload);
        let packet = packet(Direction::In, 0, &short);
        let reading = reader.read(&packet);
        assert_eq!(reading.rpc, Some(Bytes(b"findnode".to_vec())));
        assert_eq!(reading.args.as_ref().unwrap().as_bytes(), b"l3:abce");
        assert!(reading.error.unwrap().contains("the id is not 20 bytes"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut reader = Reader::default();
        for number in 0..2 * ASKED_MAX as u64 {
            reader.read(&packet(Direction::In, 0, &request(number, &Request::Ping)));
        }
        assert_eq!((reader.asked.len(), reader.order.len()), (ASKED_MAX, ASKED_MAX));
        let args = Item::parse(b"le").unwrap().list().unwrap();
        let long = Request::Custom { name: &[b'n'; NAME_MAX + 1], args };
        let last = 2 * ASKED_MAX as u64 - 1;
        reader.read(&packet(Direction::In, 0, &request(last, &long)));
        assert_eq!(reader.asked.len(), ASKED_MAX - 1);
        assert_eq!(reader.read(&packet(Direction::Out, 0, &pong(last))).rpc, None);
    }
}
