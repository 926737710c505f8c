//! The lines that go over a control socket: one JSON object each.
//!
//! The node sends the first line, its [`Greeting`]. Then the client sends [`ClientRequest`]s, each with a number
//! of its choice, and the node answers each with what it [`Said`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bencode::Value;
use crate::control::{Answer, Ask, Bytes, Filter, Problem, Reading};
use crate::message::Contact;

/// The version of the protocol. Additions leave it as it is; changes that would break a client raise it.
pub const PROTOCOL: u32 = 1;

/// Bytes of a request: the longest value that fits a datagram, each byte as an escape of six characters,
/// and the rest.
pub(super) const REQUEST_MAX: usize = 512 << 10;

/// Bytes of a line from the node: ten times what all its last packets take.
pub(super) const SAID_MAX: usize = 64 << 20;

/// What a node is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It has a shell of its own.
    Shell,
    /// It is there to serve.
    Serve,
    /// It belongs to another program.
    Program,
}

impl Role {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Role::Shell => "shell",
            Role::Serve => "serve",
            Role::Program => "program",
        }
    }
}

/// The first line: who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The version of the program.
    pub kademlua: String,
    /// That of the protocol.
    pub protocol: u32,
    /// What the node is part of.
    pub role: Role,
    /// Its process, by the number that it has for itself.
    pub process: u32,
    /// The node.
    #[serde(flatten)]
    pub contact: Contact,
}

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClientRequest {
    /// The client recognises the answers by this number.
    pub(super) id: u64,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What a client wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// One answer.
    Ask(Ask),
    /// To be told what there is to see, until it is cancelled.
    Watch(Filter),
    /// To answer the calls of an RPC, until it is cancelled.
    Offer(Bytes),
    /// To answer a call of what it offers under the same number.
    Return(CallResult),
    /// To end the request with this number.
    Cancel {},
}

/// The result of a call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallResult {
    pub(super) call: u64,
    /// The values; `None` if it failed.
    #[serde(default)]
    pub(super) values: Option<Vec<Value>>,
}

/// What the node says.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// The request that it answers; `None` if that cannot be told.
    pub(super) id: Option<u64>,
    #[serde(flatten)]
    pub(super) said: Said<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said<'a> {
    /// The answer; to a watch and an offer, that they have begun.
    Answer(&'a Answer),
    /// Why there is none, or no more.
    Problem(&'a Problem),
    /// A packet or news that was watched for.
    Event(&'a Reading),
    /// A call of an offered function.
    Call(OfferedCall),
}

/// A peer calls.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OfferedCall {
    /// The number to answer it with.
    pub(super) call: u64,
    /// Who calls.
    pub(super) from: Contact,
    pub(super) args: Vec<Value>,
}

/// A [`Line`] as the client reads it.
#[derive(Debug, Deserialize)]
pub(super) struct Heard<'a> {
    pub(super) id: Option<u64>,
    /// Its shape follows from the question.
    #[serde(default, borrow, deserialize_with = "there")]
    pub(super) answer: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) problem: Option<Problem>,
    #[serde(default)]
    pub(super) event: Option<Reading>,
    #[serde(default)]
    pub(super) call: Option<OfferedCall>,
}

/// An answer that is `null` is an answer all the same.
fn there<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// A line, with its end.
pub(super) fn written(line: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("plain data, with text for keys");
    bytes.push(b'\n');
    bytes
}
