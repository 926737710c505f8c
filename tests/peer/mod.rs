//! One node driven packet by packet: the test plays all of its peers, and the clock.
#![allow(dead_code, reason = "no test needs all of it")]

pub(crate) mod crowd;

use std::net::SocketAddr;

use kademlua::address::LocalEnd;
use kademlua::config::Config;
use kademlua::id::Id;
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::node::{Event, Input, Node, Output};
use kademlua::time::{Duration, Instant};
use kademlua::wire::{Body, Dialect, Envelope, Header, Message, emit, parse};

/// More datagrams than a node may send for any one input.
const MAX_BURST: usize = 2_000;

/// A node, its time, and its events.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) now: Instant,
    /// Those since they were last taken.
    pub(crate) events: Vec<Event>,
    timeout: Instant,
}

/// A datagram that the node sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    /// From where the node wants it sent.
    pub(crate) from: LocalEnd,
    pub(crate) bytes: Vec<u8>,
}

impl Bench {
    /// A node that knows nobody; its id is that of port 8001.
    pub(crate) fn new() -> Bench {
        Bench::seeded([7; 32])
    }

    pub(crate) fn seeded(seed: [u8; 32]) -> Bench {
        let now = Instant::ZERO + Duration::from_secs(1_000);
        Bench::with(Node::new(now, Id::of_name("8001"), Config::default(), seed))
    }

    /// A node that takes whatever comes, as often as it comes.
    pub(crate) fn without_limits() -> Bench {
        let config = Config { source_rate: 0, total_rate: 0, ..Config::default() };
        let now = Instant::ZERO + Duration::from_secs(1_000);
        Bench::with(Node::new(now, Id::of_name("8001"), config, [7; 32]))
    }

    /// A node that was started already.
    pub(crate) fn with(node: Node) -> Bench {
        Bench { now: node.started(), node, events: Vec::new(), timeout: Instant::NEVER }
    }

    /// A node that has these contacts.
    pub(crate) fn knowing(contacts: impl IntoIterator<Item = Contact>) -> Bench {
        let mut bench = Bench::new();
        for contact in contacts {
            assert!(bench.node.introduce(bench.now, contact));
        }
        bench.drain();
        bench
    }

    /// A datagram comes in; returns what the node sends.
    pub(crate) fn receive(&mut self, source: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        self.receive_at(LocalEnd::default(), source, bytes)
    }

    /// The same at one of the node's ends.
    pub(crate) fn receive_at(
        &mut self,
        local: LocalEnd,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Vec<Sent> {
        self.node.handle(self.now, Input::Datagram { source, local, bytes });
        self.drain()
    }

    /// A request of a peer comes in.
    pub(crate) fn ask(&mut self, from: Contact, request: &Request<'_>) -> Vec<Sent> {
        self.receive(from.address, &datagram(from.id, TransactionId::new(*b"question"), request))
    }

    /// A peer has asked something that was answered elsewhere.
    pub(crate) fn see(&mut self, contact: Contact) -> Vec<Sent> {
        self.node.handle(self.now, Input::Seen { dialect: Dialect::V1, contact });
        self.drain()
    }

    /// Time passes, and with it every timeout that falls into it.
    pub(crate) fn wait(&mut self, span: Duration) -> Vec<Sent> {
        let until = self.now + span;
        let mut sent = Vec::new();
        while self.timeout <= until {
            self.now = self.timeout.max(self.now);
            self.node.handle(self.now, Input::Timeout);
            sent.extend(self.drain());
            assert!(self.timeout > self.now, "a node must not be due for ever");
        }
        self.now = until;
        sent
    }

    /// The datagrams that the node sends after a command.
    pub(crate) fn drain(&mut self) -> Vec<Sent> {
        let sent = self.drain_all();
        assert!(sent.len() <= MAX_BURST, "{} datagrams at once", sent.len());
        sent
    }

    /// The same, however much the test itself made the node send.
    pub(crate) fn drain_all(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        loop {
            match self.node.poll_output() {
                Output::Transmit { destination, local, bytes } => {
                    sent.push(Sent { to: destination, from: local, bytes: bytes.to_vec() });
                }
                Output::Event(event) => self.events.push(event),
                Output::Timeout(at) => {
                    self.timeout = at;
                    return sent;
                }
            }
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

impl Sent {
    pub(crate) fn new(to: SocketAddr, bytes: Vec<u8>) -> Sent {
        Sent { to, from: LocalEnd::default(), bytes }
    }

    pub(crate) fn frame(&self) -> Envelope<'_> {
        parse(&self.bytes).expect("a node sends messages")
    }

    /// Its question, if it is a request.
    pub(crate) fn request(&self) -> Option<Request<'_>> {
        match self.frame().body {
            Body::Query(query) => Some(query.read().expect("a node asks properly")),
            _ => None,
        }
    }

    pub(crate) fn asks(&self, kind: Rpc) -> bool {
        self.request().is_some_and(|request| request.kind() == kind)
    }

    /// The datagram in which `from` answers this request.
    pub(crate) fn answer<'a>(&self, from: Id, message: impl Into<Message<'a>>) -> Vec<u8> {
        assert!(self.request().is_some(), "only a request is answered");
        let mut out = Vec::new();
        emit(&mut out, &self.frame().reply_from(from), message);
        out
    }

    /// The answer that names these contacts.
    pub(crate) fn answer_nodes(&self, from: Id, contacts: &[Contact]) -> Vec<u8> {
        self.answer(from, &Response::Nodes(contacts.to_vec()))
    }
}

/// The node of a port on 127.0.0.1.
pub(crate) fn contact(port: u16) -> Contact {
    Contact { id: Id::of_name(port.to_string()), address: ([127, 0, 0, 1], port).into() }
}

/// The datagram of a request.
pub(crate) fn datagram(from: Id, rpc_id: TransactionId, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    emit(
        &mut out,
        &Header { dialect: Dialect::V1, from, transaction: rpc_id, asker: None },
        request,
    );
    out
}
