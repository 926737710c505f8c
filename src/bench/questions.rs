//! What the client asks, and whether an answer is right.

use std::collections::HashSet;
use std::ops::Range;

use clap::ValueEnum;

use crate::bencode::{Item, Value};
use crate::id::Id;
use crate::message::{
    Contact, FindValue, Request, Response, Rpc, StoreMode, StoreRequest, TransactionId,
};
use crate::wire::{Body, Dialect, Header, UnreadAnswer, emit, parse};

/// Ids that are asked for in turns: enough to reach all corners of a routing table.
const TARGETS: usize = 256;

/// The dialect of the questions.
const DIALECT: Dialect = Dialect::V1;

/// Where a datagram has the number of its call.
pub(super) const NUMBER: Range<usize> = {
    let at = DIALECT.offsets().expect("they are the same in all of v1").transaction;
    at..at + 8
};

/// The RPCs to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// Are you there?
    Ping,
    /// Contacts near random ids
    #[value(name = "findnode")]
    FindNode,
    /// Values and contacts under random keys, at which nothing is stored
    #[value(name = "findvalue")]
    FindValue,
    /// A value of a hundred bytes that the node is given first, and contacts
    Value,
    /// Small values under random keys
    Store,
    /// From where do you see me?
    #[value(name = "getsocket")]
    GetSocket,
}

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Workload::Ping => "ping",
            Workload::FindNode => "findnode",
            Workload::FindValue => "findvalue",
            Workload::Value => "value",
            Workload::Store => "store",
            Workload::GetSocket => "getsocket",
        }
    }

    fn request(self, target: Id) -> Request<'static> {
        match self {
            Workload::Ping => Request::Ping,
            Workload::FindNode => Request::FindNode { target },
            Workload::FindValue => Request::FindValue(FindValue::new(target, 6)),
            Workload::Value => Request::FindValue(FindValue::new(kept_key(), 6)),
            Workload::Store => {
                let value = Item::parse(b"5:value").expect("a byte string");
                Request::Store(StoreRequest {
                    key: target,
                    value,
                    mode: StoreMode::Add,
                    copy: None,
                    token: None,
                })
            }
            Workload::GetSocket => Request::GetSocket,
        }
    }
}

/// The key of [`Workload::Value`].
fn kept_key() -> Id {
    Id::of_name("kademlua bench")
}

/// What gives a node the value that [`Workload::Value`] asks for, with the token that it wants.
pub(super) fn gift(token: &[u8]) -> Vec<u8> {
    let value = Value::bytes([7; 96]);
    let store = Request::Store(StoreRequest {
        key: kept_key(),
        value: Item::parse(value.as_bytes()).expect("a byte string"),
        mode: StoreMode::Add,
        copy: None,
        token: Some(token),
    });
    datagram(&store)
}

/// What a node says to a gift.
pub(super) fn thanks(reply: &[u8]) -> Option<Response> {
    match parse(reply).ok()?.body {
        Body::Answer(answer) => answer.read(Rpc::Store).ok(),
        _ => None,
    }
}

fn datagram(request: &Request<'_>) -> Vec<u8> {
    let (from, transaction) = (Id::of_name("kademlua bench"), TransactionId::new([0; 8]));
    let mut datagram = Vec::new();
    let header = Header { dialect: DIALECT, from, transaction, asker: None };
    emit(&mut datagram, &header, request);
    datagram
}

/// Requests written beforehand, with the answers seen so far.
pub(super) struct Questions {
    all: Vec<Question>,
    next: usize,
    kind: Rpc,
    wants_gift: bool,
    /// Length of an echo's replies, where an echo is asked.
    echo: Option<usize>,
    /// The id of the server, once an answer has come.
    server: Option<Id>,
}

struct Question {
    target: Id,
    datagram: Vec<u8>,
    /// Payload of the last answer that was read and found right: an equal payload is right too.
    right: Vec<u8>,
}

impl Questions {
    pub(super) fn new(rpc: Workload) -> Questions {
        let question = |number: usize| Question::new(rpc, Id::of_name(format!("target {number}")));
        let kind = rpc.request(Id::of_name("")).kind();
        let all = (0..TARGETS).map(question).collect();
        let wants_gift = rpc == Workload::Value;
        Questions { all, next: 0, kind, wants_gift, echo: None, server: None }
    }

    /// The same questions, put to an echo that answers with `size` bytes.
    pub(super) fn echoed(rpc: Workload, size: usize) -> Questions {
        Questions { echo: Some(size), ..Questions::new(rpc) }
    }

    /// The same questions, padded with zeros up to `len` bytes; the server ignores those.
    #[cfg(fast_path)]
    pub(super) fn padded(mut self, len: usize) -> Questions {
        for Question { datagram, .. } in &mut self.all {
            datagram.resize(len.max(datagram.len()), 0);
        }
        self
    }

    /// Whether the node must be given something before it can answer as it should.
    pub(super) fn wants_gift(&self) -> bool {
        self.wants_gift && self.echo.is_none()
    }

    /// A request, and what it is about.
    #[cfg(fast_path)]
    pub(super) fn first(&self) -> (&[u8], &Id) {
        (&self.all[0].datagram, &self.all[0].target)
    }

    /// Writes the next request into the buffer, and tells which question it is.
    pub(super) fn ask(&mut self, call: [u8; 8], out: &mut Vec<u8>) -> usize {
        let number = self.next;
        self.next = (number + 1) % self.all.len();
        out.clear();
        out.extend_from_slice(&self.all[number].datagram);
        out[NUMBER].copy_from_slice(&call);
        number
    }

    /// Whether a reply with the right call number answers that question.
    pub(super) fn is_right(&mut self, number: usize, reply: &[u8]) -> bool {
        if let Some(size) = self.echo {
            return reply.len() == size;
        }
        let Ok(envelope) = parse(reply) else { return false };
        let (Body::Answer(answer), Some(sender)) = (envelope.body, envelope.sender) else {
            return false;
        };
        if *self.server.get_or_insert(sender) != sender {
            return false;
        }
        let question = &mut self.all[number];
        if question.right != answer.as_bytes() {
            if !makes_sense(self.kind, &question.target, answer) {
                return false;
            }
            question.right.clear();
            question.right.extend_from_slice(answer.as_bytes());
        }
        true
    }
}

impl Question {
    fn new(rpc: Workload, target: Id) -> Question {
        Question { target, datagram: datagram(&rpc.request(target)), right: Vec::new() }
    }
}

/// Reads an answer to its end.
fn makes_sense(kind: Rpc, target: &Id, answer: UnreadAnswer<'_>) -> bool {
    match answer.read(kind) {
        Ok(Response::Nodes(contacts)) => none_twice(&contacts),
        Ok(Response::Values { values, closest, .. }) if !values.is_empty() => none_twice(&closest),
        Ok(Response::Values { closest, .. }) => is_sorted(target, &closest),
        Ok(Response::Pong | Response::Stored | Response::Socket(_)) => true,
        _ => false,
    }
}

/// Whether no contact comes twice, in any order: a node has the nearest first, its fast path the
/// smallest id.
fn none_twice(contacts: &[Contact]) -> bool {
    let ids: HashSet<Id> = contacts.iter().map(|contact| contact.id).collect();
    ids.len() == contacts.len()
}

/// Whether the nearest comes first, and no contact twice.
fn is_sorted(target: &Id, contacts: &[Contact]) -> bool {
    contacts.is_sorted_by(|a, b| a.id.distance(target) < b.id.distance(target))
}
