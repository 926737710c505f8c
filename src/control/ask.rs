//! The questions to a node that have one answer each, and why there may be none.

use serde::{Deserialize, Serialize};

use crate::address::is_sendable;
use crate::bencode::{Item, ItemView, Value};
use crate::id::Id;
use crate::message::RouteKind;
use crate::node::CallError;
use crate::serial::Bytes;

use super::command::{Command, CommandError};
use super::reading::Filter;

/// Larger integers are refused: an original node that read one could not write it again, and would
/// hang.
pub const INTEGER_MAX: i64 = 99_999_999_999_999;

/// Something to ask of a node; each has one [`Answer`](super::Answer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// To do something in the network.
    Run(Command),
    /// To tell something of itself, at once.
    Look(Look),
    /// About the capture of its packets.
    Capture(Capture),
    /// To forget its last packets, and keep no more until they are asked for again.
    ForgetPackets {},
}

/// What there is to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// The node: its id, age, numbers.
    Node,
    /// All contacts of its routing table.
    Contacts,
    /// Its routing table.
    Routing,
    /// Its last lookups, the latest first.
    Lookups,
    /// How large it takes the network to be, and why.
    Estimate,
    /// The values that it keeps itself under a key.
    Kept {
        /// The key.
        key: Id,
    },
    /// The settings that it runs with.
    Settings,
    /// The fast path in the kernel.
    Xdp,
    /// Its last packets, the oldest first.
    Packets(Filter),
}

/// What to do about a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// To write all packets to a file from now on.
    Begin {
        /// The file; a relative path starts where the node's process runs.
        file: Bytes,
        /// Whether to write over one that is there already.
        #[serde(default)]
        replace: bool,
    },
    /// To end it.
    End {},
    /// To tell how far it is.
    Status {},
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Problem {
    /// What kind of problem, for programs.
    pub code: Code,
    /// What it is, for people.
    pub message: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The question makes no sense.
    BadRequest,
    /// This node cannot do that.
    Unsupported,
    /// The value cannot be stored, or what was sent is too large.
    Refused,
    /// A peer did not answer as it should.
    NoAnswer,
    /// The file is there already.
    Exists,
    /// That is going on already.
    Running,
    /// The system failed.
    System,
    /// Too much at once; later it may work.
    Busy,
    /// The node has stopped, or cannot be reached any more.
    Gone,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(code: Code, problem: impl std::fmt::Display) -> Problem {
        Problem { code, message: problem.to_string() }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Problem {
        match error {
            CommandError::Store(refusal) => Problem::new(Code::Refused, refusal),
            CommandError::Call(error) => error.into(),
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        let code = match error {
            CallError::TimedOut
            | CallError::NoSuchRpc
            | CallError::Failed
            | CallError::BadReply
            | CallError::Twin => Code::NoAnswer,
            CallError::TooLarge { .. } => Code::Refused,
            CallError::Busy => Code::Busy,
            CallError::Own => Code::BadRequest,
        };
        Problem::new(code, error)
    }
}

impl Ask {
    /// Looks for what no node should be asked, by anybody.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |problem: &dyn std::fmt::Display| Err(Problem::new(Code::BadRequest, problem));
        let Ask::Run(command) = self else { return Ok(()) };
        match command {
            Command::FindValue { max_nodes: 0, .. } | Command::FindValue { max_entries: 0, .. } => {
                return wrong(&"max_nodes and max_entries: expected at least 1, got 0");
            }
            Command::Bootstrap { addresses } if !addresses.iter().all(is_sendable) => {
                return wrong(&"addresses: nothing can be sent to one of them");
            }
            Command::Route { kind: RouteKind::Store, .. } => {
                return wrong(
                    &"kind: expected locate or findvalue; a store has a command of its own",
                );
            }
            Command::Store { value, .. } => check_value("value", value)?,
            Command::Call { args, .. } => {
                args.iter().try_for_each(|value| check_value("args", value))?;
            }
            _ => {}
        }
        match command.peer() {
            Some(peer) if !is_sendable(&peer.address) => {
                wrong(&format_args!("peer: nothing can be sent to {}", peer.address))
            }
            _ => Ok(()),
        }
    }
}

fn check_value(name: &str, value: &Value) -> Result<(), Problem> {
    let is_fine = |item: &Item<'_>| match item.integer() {
        Some(integer) => integer.unsigned_abs() <= INTEGER_MAX.unsigned_abs(),
        None => !matches!(item.view(), ItemView::Integer(_)),
    };
    let mut left = vec![value.item()];
    while let Some(item) = left.pop() {
        if !is_fine(&item) {
            let expected = "expected integers of at most 14 digits";
            return Err(Problem::new(Code::BadRequest, format_args!("{name}: {expected}")));
        }
        match item.view() {
            ItemView::List(list) => left.extend(list),
            ItemView::Dict(dict) => left.extend(dict.flat_map(|(key, value)| [key, value])),
            ItemView::Bytes(_) | ItemView::Integer(_) => {}
        }
    }
    Ok(())
}
