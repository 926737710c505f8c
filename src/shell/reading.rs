//! What a packet says: the codec's view of it, with the call that an answer belongs to.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bencode::Item;
use crate::id::Id;
use crate::message::RpcId;
use crate::net::{Direction, Packet};
use crate::wire::v1::{self, Body, Frame};

/// Requests that are remembered until they are answered.
const ASKED_MAX: usize = 4_096;

/// A longer name is no name that anybody calls, and is not remembered.
const NAME_MAX: usize = 64;

/// What kind of message a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    Request,
    Answer,
    NoSuchRpc,
    Failure,
    Malformed,
}

impl PacketKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            PacketKind::Request => "request",
            PacketKind::Answer => "answer",
            PacketKind::NoSuchRpc => "no such rpc",
            PacketKind::Failure => "failure",
            PacketKind::Malformed => "malformed",
        }
    }
}

/// A packet and what it says.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) packet: &'a Packet,
    pub(super) kind: PacketKind,
    /// Who sent it, as it says itself.
    pub(super) from: Option<Id>,
    pub(super) call: Option<RpcId>,
    /// The name of the RPC; of an answer only if its request was seen.
    pub(super) rpc: Option<Cow<'a, [u8]>>,
    pub(super) args: Option<Item<'a>>,
    pub(super) results: Option<Item<'a>>,
    /// From the request to this answer.
    pub(super) took: Option<Duration>,
    /// What is wrong with it.
    pub(super) error: Option<String>,
}

/// One call: its number, the node at the other end, and which way the request goes.
type Call = (RpcId, SocketAddr, Direction);

/// Reads packets in the order in which they went.
#[derive(Debug, Default)]
pub(super) struct Reader {
    asked: HashMap<Call, (Box<[u8]>, SystemTime)>,
    order: VecDeque<Call>,
}

impl Reader {
    pub(super) fn read<'a>(&mut self, packet: &'a Packet) -> Reading<'a> {
        let mut reading = Reading {
            packet,
            kind: PacketKind::Malformed,
            from: None,
            call: None,
            rpc: None,
            args: None,
            results: None,
            took: None,
            error: None,
        };
        match Frame::parse(&packet.bytes) {
            Ok(frame) => self.read_frame(&mut reading, frame),
            Err(error) => reading.error = Some(error.to_string()),
        }
        reading
    }

    fn read_frame<'a>(&mut self, reading: &mut Reading<'a>, frame: Frame<'a>) {
        reading.from = Some(frame.header.from);
        reading.call = Some(frame.header.rpc_id);
        match frame.body {
            Body::Request(payload) => {
                reading.kind = PacketKind::Request;
                reading.error = v1::request(payload).err().map(|error| error.to_string());
                read_request(reading, payload);
                self.remember(reading);
            }
            Body::Response(payload) => {
                reading.kind = PacketKind::Answer;
                self.find_request(reading);
                read_answer(reading, payload);
            }
            Body::NoSuchRpc => {
                reading.kind = PacketKind::NoSuchRpc;
                self.find_request(reading);
            }
            Body::Failed => {
                reading.kind = PacketKind::Failure;
                self.find_request(reading);
            }
        }
    }

    fn remember(&mut self, reading: &Reading<'_>) {
        let Some(call) = reading.call else { return };
        let call = (call, reading.packet.peer, reading.packet.direction);
        let Some(rpc) = reading.rpc.as_ref().filter(|rpc| rpc.len() <= NAME_MAX) else {
            // What comes back belongs to this one, and to no earlier one of the same number.
            self.asked.remove(&call);
            return;
        };
        if self.asked.insert(call, (rpc[..].into(), reading.packet.time)).is_none() {
            self.order.push_back(call);
        }
        if self.order.len() > ASKED_MAX {
            let oldest = self.order.pop_front().expect("there are many");
            self.asked.remove(&oldest);
        }
    }

    /// The request stays remembered: a second answer to it belongs to it as well.
    fn find_request(&self, reading: &mut Reading<'_>) {
        let Some(call) = reading.call else { return };
        let asked = match reading.packet.direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        if let Some((rpc, time)) = self.asked.get(&(call, reading.packet.peer, asked)) {
            reading.rpc = Some(Cow::Owned(rpc.to_vec()));
            reading.took = reading.packet.time.duration_since(*time).ok();
        }
    }
}

/// Name and arguments as far as they can be read, also of a request that the node refuses.
fn read_request<'a>(reading: &mut Reading<'a>, payload: &'a [u8]) {
    let Some(fields) = Item::parse(payload).ok().and_then(Item::dict) else { return };
    reading.rpc = fields.get(b"name").and_then(Item::bytes).map(Cow::Borrowed);
    reading.args = fields.get(b"args");
}

fn read_answer<'a>(reading: &mut Reading<'a>, payload: &'a [u8]) {
    match Item::parse(payload) {
        Err(error) => reading.error = Some(format!("payload: {error}")),
        Ok(results) => {
            reading.results = Some(results);
            // Without the request nobody knows what shape it should have.
            if let Some(rpc) = &reading.rpc {
                let kind = v1::kind_named(rpc);
                reading.error = v1::response(kind, payload).err().map(|error| error.to_string());
            }
        }
    }
}

/// Seconds since 1970, with their fraction.
pub(super) fn epoch_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Request;
    use crate::wire::v1::Header;

    fn header(number: u64) -> Header {
        Header { from: Id::of_name("8003"), rpc_id: RpcId(number.to_be_bytes()) }
    }

    fn packet(direction: Direction, micros: u64, bytes: &[u8]) -> Packet {
        let time = UNIX_EPOCH + Duration::from_micros(micros);
        Packet { time, direction, peer: ([127, 0, 0, 1], 8003).into(), bytes: bytes.into() }
    }

    fn request(number: u64, request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        v1::put_request(&mut out, &header(number), request);
        out
    }

    fn pong(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        v1::put_pong(&mut out, &header(number));
        out
    }

    #[test]
    fn an_answer_has_the_name_of_what_was_asked_and_its_time() {
        let mut reader = Reader::default();
        let asked = packet(Direction::Out, 1_000, &request(1, &Request::Ping));
        let answered = packet(Direction::In, 1_250, &pong(1));
        assert_eq!(reader.read(&asked).rpc.as_deref(), Some(&b"ping"[..]));
        let reading = reader.read(&answered);
        assert_eq!(
            (reading.kind, reading.rpc.as_deref()),
            (PacketKind::Answer, Some(&b"ping"[..]))
        );
        assert_eq!(reading.took, Some(Duration::from_micros(250)));
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
            (b"d1:q4:ping".to_vec(), PacketKind::Malformed, "not version 1"),
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
        assert_eq!(reading.rpc.as_deref(), Some(&b"findnode"[..]));
        assert_eq!(reading.args.unwrap().as_bytes(), b"l3:abce");
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
