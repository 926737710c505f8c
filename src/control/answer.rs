//! What is answered to what was asked.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::bencode::Value;
use crate::message::{Contact, Response};
use crate::node::{CallError, Peer};
use crate::time::Duration;

use super::ask::{Ask, Look, Problem};
use super::command::{Command, Reply};
use super::reading::Reading;
use super::view::{
    ContactSnapshot, EstimateView, FastPathView, LookupView, NodeView, RouteView, SettingView,
    StoreView, TableView,
};

/// The answer to an [`Ask`]. Serialised, only the content of the variant is left: the reader knows
/// what was asked ([`Ask::read_answer`]).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Command::Bootstrap`].
    Bootstrapped(Bootstrapped),
    /// To [`Command::FindNode`] and [`Command::FindValue`].
    Lookup(Box<LookupView>),
    /// To [`Command::Store`].
    Stored(Box<StoreView>),
    /// To [`Command::Route`].
    Routed(Box<RouteView>),
    /// To [`Command::Ping`].
    Ponged(Ponged),
    /// To [`Command::GetSocket`].
    Socket(SocketView),
    /// To [`Command::Call`]: what the RPC returned.
    Returned(Vec<Value>),
    /// To [`Look::Node`].
    Node(Box<NodeView>),
    /// To [`Look::Contacts`].
    Contacts(Vec<ContactSnapshot>),
    /// To [`Look::Routing`].
    Routing(TableView),
    /// To [`Look::Lookups`].
    Lookups(Vec<LookupView>),
    /// To [`Look::Estimate`].
    Estimate(EstimateView),
    /// To [`Look::Kept`].
    Kept(Vec<Value>),
    /// To [`Look::Settings`].
    Settings(Vec<SettingView>),
    /// To [`Look::Xdp`].
    Xdp(FastPathView),
    /// To [`Look::Packets`].
    Packets(Vec<Reading>),
    /// To [`Ask::Capture`].
    Capture(CaptureView),
    /// To a question whose only answer is that it is done.
    Done(()),
}

/// How an attempt to join ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrapped {
    /// How many of the nodes that were asked answered.
    pub answered: usize,
    /// Those that did not.
    pub silent: Vec<Peer>,
}

/// A ping that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ponged {
    /// Who answered.
    pub who: Peer,
    /// The round trip.
    pub ms: Duration,
}

/// Where a peer sees the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketView {
    /// The address that the peer sees.
    #[serde(flatten)]
    pub socket: Peer,
    /// The peer.
    pub who: Peer,
    /// The round trip.
    pub ms: Duration,
}

/// What a node says about its capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureView {
    /// Whether more will be written. Nothing is after an error.
    pub running: bool,
    /// What is or was written; nothing where there is no capture.
    #[serde(flatten)]
    pub captured: Option<Captured>,
}

/// What is or was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// The file.
    #[serde(with = "path")]
    pub file: PathBuf,
    /// Packets in it.
    pub packets: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Packets that are not in it because the disk was too slow.
    pub lost: u64,
}

mod path {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::serial::Bytes;

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::from(path.as_os_str().as_bytes()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        let Bytes(bytes) = Bytes::deserialize(deserializer)?;
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
}

impl Command {
    /// What a reply to the command says, at a node that is `own` to others.
    ///
    /// # Errors
    /// If a peer that was asked did not answer as it should.
    pub fn answer(&self, own: Contact, reply: Reply) -> Result<Answer, Problem> {
        Ok(match reply {
            Reply::Bootstrapped { answered, silent } => {
                let silent = silent.into_iter().map(Peer::from).collect();
                Answer::Bootstrapped(Bootstrapped { answered, silent })
            }
            Reply::Lookup(record) => Answer::Lookup(Box::new(LookupView::of(record, own))),
            Reply::Stored(report) => Answer::Stored(Box::new(StoreView::of(report))),
            Reply::Routed(report) => Answer::Routed(Box::new(RouteView::of(report))),
            Reply::Called(outcome) => {
                let answered = outcome.and_then(|(response, ms)| match (self, response) {
                    (&Command::Ping { peer: who }, Response::Pong) => {
                        Ok(Answer::Ponged(Ponged { who, ms }))
                    }
                    (&Command::GetSocket { peer: who }, Response::Socket(socket)) => {
                        Ok(Answer::Socket(SocketView { socket: socket.into(), who, ms }))
                    }
                    (Command::Call { .. }, Response::Returned(values)) => {
                        Ok(Answer::Returned(values))
                    }
                    _ => Err(CallError::BadReply),
                });
                return answered.map_err(|error| self.of_peer(error.into()));
            }
        })
    }

    /// A problem with the peer that the command asks, by its address.
    pub(crate) fn of_peer(&self, problem: Problem) -> Problem {
        match self.peer() {
            Some(peer) => {
                Problem { message: format!("{}: {}", peer.address, problem.message), ..problem }
            }
            None => problem,
        }
    }
}

impl Ask {
    /// Reads the answer to this question.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn read_answer<'de, D: Deserializer<'de>>(&self, from: D) -> Result<Answer, D::Error> {
        fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
            from: D,
            answer: impl FnOnce(T) -> Answer,
        ) -> Result<Answer, D::Error> {
            T::deserialize(from).map(answer)
        }
        match self {
            Ask::Run(Command::Bootstrap { .. }) => read(from, Answer::Bootstrapped),
            Ask::Run(Command::FindNode { .. } | Command::FindValue { .. }) => {
                read(from, Answer::Lookup)
            }
            Ask::Run(Command::Store { .. }) => read(from, Answer::Stored),
            Ask::Run(Command::Route { .. }) => read(from, Answer::Routed),
            Ask::Run(Command::Ping { .. }) => read(from, Answer::Ponged),
            Ask::Run(Command::GetSocket { .. }) => read(from, Answer::Socket),
            Ask::Run(Command::Call { .. }) => read(from, Answer::Returned),
            Ask::Look(Look::Node) => read(from, Answer::Node),
            Ask::Look(Look::Contacts) => read(from, Answer::Contacts),
            Ask::Look(Look::Routing) => read(from, Answer::Routing),
            Ask::Look(Look::Lookups) => read(from, Answer::Lookups),
            Ask::Look(Look::Estimate) => read(from, Answer::Estimate),
            Ask::Look(Look::Kept { .. }) => read(from, Answer::Kept),
            Ask::Look(Look::Settings) => read(from, Answer::Settings),
            Ask::Look(Look::Xdp) => read(from, Answer::Xdp),
            Ask::Look(Look::Packets(_)) => read(from, Answer::Packets),
            Ask::Capture(_) => read(from, Answer::Capture),
            Ask::ForgetPackets {} => read(from, Answer::Done),
        }
    }
}
