//! The reports of a node: events, the results of operations, its counters. Plain data.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::bencode::Value;
use crate::id::Id;
use crate::kad::OperationId;
use crate::kad::lookup::LookupRecord;
use crate::message::{Contact, Response, RouteAnswer, RouteHop, RouteKind};
use crate::node::{Peer, RequestToken, Spread};
use crate::time::{Duration, Instant};

/// What a node has to tell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A bootstrap has ended.
    Bootstrapped {
        /// Which.
        id: OperationId,
        /// How many of the addresses answered.
        answered: usize,
        /// The addresses that did not.
        silent: Vec<SocketAddr>,
    },
    /// A lookup that a caller started has ended.
    LookupDone(LookupRecord),
    /// A store that a caller started has ended.
    StoreDone(StoreReport),
    /// A route that a caller started has ended.
    RouteDone(RouteReport),
    /// A call that a caller started has ended.
    CallDone {
        /// Which.
        id: OperationId,
        /// Who was asked.
        peer: Peer,
        /// The answer, or why there is none.
        outcome: Result<Response, CallError>,
        /// Time from the question to its end.
        rtt: Duration,
    },
    /// A peer calls an RPC that the application has registered; see [`Node::answer`](super::Node::answer).
    Request {
        /// Ties the answer to the question.
        token: RequestToken,
        /// Who calls.
        from: Contact,
        /// The RPC.
        name: Vec<u8>,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// A contact entered the routing table.
    ContactAdded(Contact),
    /// A contact of the routing table stopped answering.
    ContactLost(Contact),
    /// A contact answers but is not taken in, because the table has as many of its subnet as
    /// [`Config::max_per_subnet`](crate::config::Config::max_per_subnet) allows. Reported once.
    Crowded(Contact),
    /// Somebody sends far more than [`Config::source_rate`](crate::config::Config::source_rate). Reported about once
    /// for each thousand refused datagrams.
    Flood {
        /// Its address; of IPv6 the whole /64 counts as one.
        source: IpAddr,
        /// The first bytes of the transaction ids in replies that only the source itself can send;
        /// other datagrams from there may be forged. `None` if these replies are the flood.
        reply_prefix: Option<[u8; 4]>,
    },
    /// A node that this one was told to join through did not answer when it was asked again.
    BootstrapNodeSilent(SocketAddr),
    /// Another node, at this address, has this node's id. Reported once.
    Twin(SocketAddr),
    /// A neighbour sees this node under another address than before. The node lets its contacts
    /// know.
    OwnAddressChanged {
        /// Where it was seen.
        before: SocketAddr,
        /// Where it is seen now.
        now: SocketAddr,
    },
}

/// How a store went. Serialised, it lacks fields that mean nothing outside the node;
/// [`StoreView`](crate::control::StoreView) adds numbers that are counted from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreReport {
    /// The operation.
    #[serde(skip)]
    pub id: OperationId,
    /// The key.
    pub key: Id,
    /// What was sent to each holder, in the order of sending.
    pub deliveries: Vec<Delivery>,
    /// Nodes that keep the value.
    pub stored: Vec<Contact>,
    /// Nodes that do not, and why.
    #[serde(with = "refusals")]
    pub refused: Vec<(Contact, String)>,
    /// Nodes that did not answer.
    pub silent: Vec<Contact>,
    /// Whether this node keeps the value, being among the k nearest.
    pub kept_here: bool,
    /// The lookup that found the nodes.
    #[serde(flatten)]
    pub lookup: LookupRecord,
    /// When it began.
    #[serde(skip)]
    pub started: Instant,
    /// When it ended.
    #[serde(skip)]
    pub ended: Instant,
}

/// How a route went that the node sent itself. Serialised it lacks what means nothing outside of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteReport {
    /// The operation.
    #[serde(skip)]
    pub id: OperationId,
    /// The key.
    pub key: Id,
    /// What was asked.
    pub kind: RouteKind,
    /// What was found.
    #[serde(flatten)]
    pub answer: RouteAnswer,
    /// Who answered, this node where it could itself; `None` if only the lookup did, or nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Id>,
    /// What was sent, in the order in which it was.
    pub attempts: Vec<RouteAttempt>,
    /// The lookup that followed where no attempt was answered well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<LookupRecord>,
    /// When it began.
    #[serde(skip)]
    pub started: Instant,
    /// When it ended.
    #[serde(skip)]
    pub ended: Instant,
}

/// One attempt of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAttempt {
    /// How many contacts each node on the way was to pass over.
    pub skip: u8,
    /// Whom it was handed to first.
    pub to: Contact,
    /// When: the time since the route began.
    pub sent: Duration,
    /// How long the answer took, or was waited for.
    #[serde(rename = "ms")]
    pub took: Duration,
    /// Whether there was one.
    pub is_answered: bool,
    /// Bytes of the datagram sent.
    pub bytes_sent: usize,
    /// Bytes of the answer.
    pub bytes_received: usize,
    /// The nodes that it passed, where a trace was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<RouteHop>,
}

impl RouteReport {
    pub(super) fn begun(now: Instant, id: OperationId, key: Id, kind: RouteKind) -> RouteReport {
        RouteReport {
            id,
            key,
            kind,
            answer: RouteAnswer::Nothing,
            by: None,
            attempts: Vec::new(),
            fallback: None,
            started: now,
            ended: now,
        }
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.started)
    }

    /// Whether what was asked for was found.
    pub fn has_found(&self) -> bool {
        match self.answer {
            RouteAnswer::Located(_)
            | RouteAnswer::Values(_)
            | RouteAnswer::HeldAt(_)
            | RouteAnswer::Stored => true,
            RouteAnswer::Nothing | RouteAnswer::Refused { .. } | RouteAnswer::Cut => false,
        }
    }

    /// How many times the attempt that found it was handed on, or how far the lookup got in its place;
    /// of an attempt without a trace it is known only that it was at least once.
    pub fn hops(&self) -> u32 {
        let attempt = || self.attempts.last().filter(|last| last.is_answered);
        match &self.fallback {
            Some(lookup) => lookup.hops(),
            None => attempt().map_or(0, |last| last.hops.len().saturating_sub(1).max(1) as u32),
        }
    }

    /// Datagrams of the route, as far as its traces tell, those of the lookup among them: each time that it
    /// was handed on, and the answers.
    pub fn messages(&self) -> usize {
        let of_attempt = |attempt: &RouteAttempt| {
            attempt.hops.len().saturating_sub(1).max(1) + usize::from(attempt.is_answered)
        };
        let attempts: usize = self.attempts.iter().map(of_attempt).sum();
        attempts + self.fallback.as_ref().map_or(0, LookupRecord::messages)
    }
}

/// A value on its way to one of its holders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The holder.
    #[serde(rename = "who")]
    pub contact: Contact,
    /// When it was first sent: the time since the store began.
    pub sent: Duration,
    /// How often it was sent.
    #[serde(rename = "tries")]
    pub attempts: u32,
    /// Bytes of these datagrams.
    pub bytes_sent: usize,
    /// How many answers came: more than one where the first asked for a token.
    pub answers: u32,
    /// Bytes of these answers.
    pub bytes_received: usize,
    /// Round trip of the last attempt; without an answer, how long the node waited.
    #[serde(rename = "ms")]
    pub took: Duration,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: DeliveryOutcome,
}

/// What became of a [`Delivery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum DeliveryOutcome {
    /// The value is kept.
    Stored,
    /// It is not.
    Refused {
        /// Why.
        reason: String,
    },
    /// No answer came, or none yet.
    #[serde(rename = "timed out")]
    TimedOut,
}

/// The refusals, each as `{who, reason}`.
mod refusals {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::message::Contact;

    #[derive(Serialize, Deserialize)]
    struct Refused {
        who: Contact,
        reason: String,
    }

    pub(super) fn serialize<S: Serializer>(
        refused: &[(Contact, String)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form =
            |(who, reason): &(Contact, String)| Refused { who: *who, reason: reason.clone() };
        serializer.collect_seq(refused.iter().map(form))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Contact, String)>, D::Error> {
        let refused = Vec::<Refused>::deserialize(deserializer)?;
        Ok(refused.into_iter().map(|Refused { who, reason }| (who, reason)).collect())
    }
}

impl Delivery {
    pub(super) fn begun(contact: Contact, sent: Duration, bytes: usize) -> Delivery {
        Delivery {
            contact,
            sent,
            attempts: 1,
            bytes_sent: bytes,
            answers: 0,
            bytes_received: 0,
            took: Duration::ZERO,
            outcome: DeliveryOutcome::TimedOut,
        }
    }

    /// A call ended after `took`, with an answer of that many bytes or without one.
    pub(super) fn on_call_done(&mut self, took: Duration, bytes: usize) {
        self.answers += u32::from(bytes > 0);
        self.bytes_received += bytes;
        self.took = took;
    }

    pub(super) fn on_sent_again(&mut self, bytes: usize) {
        self.attempts += 1;
        self.bytes_sent += bytes;
    }
}

impl StoreReport {
    /// How long it took.
    pub fn duration(&self) -> Duration {
        self.ended.since(self.started)
    }

    /// How widely the nodes that keep the value are spread.
    pub fn spread(&self) -> Spread {
        Spread::of(&self.stored)
    }

    /// Datagrams sent and received, those of the lookup among them.
    pub fn messages(&self) -> usize {
        let messages = |d: &Delivery| d.attempts + d.answers;
        self.lookup.messages() + self.deliveries.iter().map(messages).sum::<u32>() as usize
    }

    /// Bytes of the datagrams sent, those of the lookup among them.
    pub fn bytes_sent(&self) -> usize {
        self.lookup.bytes_sent() + self.deliveries.iter().map(|d| d.bytes_sent).sum::<usize>()
    }

    /// Bytes of the datagrams received, those of the lookup among them.
    pub fn bytes_received(&self) -> usize {
        self.lookup.bytes_received()
            + self.deliveries.iter().map(|d| d.bytes_received).sum::<usize>()
    }
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallError {
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The peer knows no RPC of that name.
    #[error("the peer knows no such RPC")]
    NoSuchRpc,
    /// The RPC failed at the peer.
    #[error("the RPC failed at the peer")]
    Failed,
    /// The answer does not fit the question.
    #[error("the peer's answer makes no sense")]
    BadReply,
    /// Name and arguments do not fit a datagram.
    #[error("{bytes} bytes do not fit a datagram, which carries {max}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too many calls are in flight.
    #[error("too many calls are in flight")]
    Busy,
    /// The peer is the node itself.
    #[error("that is this node itself")]
    Own,
    /// Another node has this node's id.
    #[error(
        "another node there has this node's own id; ids must differ: start one of them with --id, or on \
         another port"
    )]
    Twin,
}

/// What a node has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Bytes received in datagrams.
    pub bytes_in: u64,
    /// Bytes sent in datagrams.
    pub bytes_out: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests that could not be read and were answered with a refusal.
    pub refused: u64,
    /// Datagrams that are no message, or answer nothing that was asked.
    pub dropped: u64,
    /// Requests beyond the limits of their source or of all sources, which got no answer.
    pub limited: u64,
    /// Own calls that were never answered.
    pub timeouts: u64,
    /// Values that others stored here, repeated stores included.
    pub stored: u64,
    /// Values that this node handed over to others, in its upkeep.
    pub handed_over: u64,
    /// Routes; those that a fast path in the kernel handled are not among them.
    #[serde(default)]
    pub routes: RouteCounters,
}

/// What a node has done with routes since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCounters {
    /// Those that clients brought.
    pub entered: u64,
    /// Those that were handed to another node.
    pub forwarded: u64,
    /// Answers that were handed to clients.
    pub relayed: u64,
    /// Those that were answered here.
    pub answered: u64,
    /// Dropped: they came from a node that is nearer to the key.
    pub dropped_nearer: u64,
    /// Dropped: the answer was to go where it cannot go.
    pub dropped_address: u64,
    /// Dropped: a node on the way was asked what only the entry does.
    pub dropped_misplaced: u64,
    /// Answers that were dropped: their ticket is unknown, too old, or used up.
    pub dropped_ticket: u64,
    /// Dropped: too much was being done for clients.
    pub dropped_busy: u64,
}
