//! Codecs, one a dialect, between [`message`](crate::message)s and datagrams.
//!
//! [`parse`] and [`emit`] are the doors: what one reads the other writes, whichever dialect it is in.
//! [`emit_nodes`] and [`emit_values`] write the two answers that a busy node writes most from where
//! their parts lie, so that they are copied once.
//!
//! A codec holds no state and makes no decisions: whether a well-formed request is answered is the
//! node's affair. The first byte of a datagram tells its dialect.

mod krpc;
mod v1;

use std::net::SocketAddr;

use crate::address::Families;
use crate::bencode::{Item, Malformed, Value};
use crate::id::Id;
use crate::message::{
    CodedError, Contact, EncodedContact, FindValue, Request, Response, Rest, Route, RouteAnswer,
    RouteHop, RouteKind, Rpc, RpcError, TransactionId, mainline,
};

/// A datagram from an address that is not validated may cause at most this many times its own bytes:
/// somebody who forges the address gains no more than that. The limit of RFC 9000 §8.1.
pub const AMPLIFICATION_MAX: usize = 3;

/// Largest datagram of any dialect, padding included.
pub const MAX_DATAGRAM: usize = Dialect::V1.sizes().datagram_max;

/// A way to write messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Kademlua v1, the protocol of the original (2009). Its datagrams start with `0x01`.
    V1,
    /// KRPC, the protocol of BitTorrent's Mainline DHT (BEP 5). Its datagrams start with `d`.
    Mainline,
}

/// Sizes that a dialect lays down, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the largest datagram, padding included.
    pub datagram_max: usize,
    /// Of the largest answer, not counting values: one unfragmented packet on any usual path.
    pub answer_max: usize,
    /// Of a ping: what it costs to find out whether an address is the sender's own.
    pub ping: usize,
    /// Of the longest lookup's request without padding, with a token as long as our nodes give.
    pub bare_lookup: usize,
    /// Of the values and arguments that an application's RPC may carry: with what is around them they
    /// stay below `datagram_max`.
    pub custom_max: usize,
    /// Around the values that an application's RPC returns.
    pub around_returned: usize,
    /// Of the longest write token that a sender takes from a holder and gives back to it. With it the
    /// largest store still fits `datagram_max`.
    pub token_max: usize,
    /// Of a route without payload, padding and trace.
    pub route: usize,
    /// Of a node in a route's trace.
    pub route_hop: usize,
}

/// Where the datagrams of a dialect have the bytes that a packet filter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The transaction id begins.
    pub transaction: usize,
    /// The byte that tells requests from replies.
    pub call: usize,
    /// The lowest value of that byte in a reply.
    pub first_reply: u8,
}

/// What ties a message that is written to a node and a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is written in.
    pub dialect: Dialect,
    /// Id of the sending node.
    pub from: Id,
    /// The call.
    pub transaction: TransactionId,
    /// Where the request came from that is answered, which replies of Mainline tell.
    pub asker: Option<SocketAddr>,
}

/// A datagram taken apart as far as is needed to know what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What it is written in.
    pub dialect: Dialect,
    /// Id of the sending node, where the message tells it.
    pub sender: Option<Id>,
    /// The call.
    pub transaction: TransactionId,
    /// Whether the sender answers nothing, so that it belongs in no routing table.
    pub is_read_only: bool,
    /// Of which families the sender of a request wants contacts; `None` for those of its own.
    pub want: Option<Families>,
    /// Under which address the sender of a reply sees this node, where it tells.
    pub seen_at: Option<SocketAddr>,
    /// What kind of message it is.
    pub body: Body<'a>,
}

/// The kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A request, unread.
    Query(UnreadQuery<'a>),
    /// The answer to one, unread: reading it takes knowing what was asked.
    Answer(UnreadAnswer<'a>),
    /// What a node says in place of an answer.
    Error(RpcError),
    /// The same where it says why.
    CodedError(CodedError<'a>),
    /// A request on its way to a key, unread.
    Route(UnreadRoute<'a>),
    /// The answer to one on its way back, unread.
    Routed(UnreadRoute<'a>),
}

/// A request that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadQuery<'a> {
    dialect: Dialect,
    /// Of the RPC, in a dialect that has it outside of what is still to be read.
    name: &'a [u8],
    bytes: &'a [u8],
}

/// An answer that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadAnswer<'a> {
    dialect: Dialect,
    bytes: &'a [u8],
}

/// A request on its way to a key, or the answer on its way back, that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadRoute<'a> {
    dialect: Dialect,
    bytes: &'a [u8],
}

/// Why a datagram is no message. Such datagrams are dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The first byte is that of no dialect.
    #[error("not version 1")]
    Version,
    /// No dictionary with what each message has.
    #[error("no message of Mainline: {0}")]
    Shape(&'static str),
    /// The datagram is longer than any of its dialect.
    #[error("the datagram is longer than any message")]
    TooLong,
    /// The datagram ends before its header or its announced payload does.
    #[error("the datagram is cut short")]
    Truncated,
    /// A call number that the dialect does not define.
    #[error("unknown call number {0}")]
    Call(u8),
    /// A route that asks for nothing that is known.
    #[error("unknown kind of route {0}")]
    RouteKind(u8),
}

/// Why a request or an answer cannot be read. A request like that is still answered, see
/// [`Message::Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The payload is not bencoded.
    #[error("payload: {0}")]
    Malformed(#[from] Malformed),
    /// The payload has not the shape of a request or of the response that was asked for.
    #[error("payload of an unexpected shape")]
    Shape,
    /// A findnode whose id is not 20 bytes.
    #[error("findnode: the id is not 20 bytes")]
    BadTarget,
    /// A findvalue whose key is not 20 bytes.
    #[error("findvalue: the key is not 20 bytes")]
    BadKey,
    /// A store whose key is not 20 bytes.
    #[error("store: the key is not 20 bytes")]
    BadStoreKey,
    /// A store without a value.
    #[error("store: no value")]
    NoValue,
    /// An argument of a dialect that has names for them.
    #[error("{0}: missing, or not as it should be")]
    Argument(&'static str),
    /// No RPC of that name, in a dialect where that shows only here.
    #[error("no such RPC")]
    UnknownRpc,
}

/// A message to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A request.
    Query {
        /// What is asked.
        request: &'a Request<'a>,
        /// How.
        manner: Manner,
    },
    /// An answer.
    Answer(&'a Response),
    /// What is said in place of one.
    Error(RpcError),
    /// The same with a reason, in a dialect that has codes for them.
    CodedError(CodedError<'a>),
    /// The answer to a request that could not be read, in a form that its caller can live with.
    Refusal(PayloadError),
    /// A request on its way to a key.
    Route(&'a Route<'a>),
    /// The answer to one on its way back.
    Routed(&'a Route<'a>),
}

/// How something is asked. Not every dialect has words for all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// A shorter request of a lookup gets zeros behind it up to this length; `None` for
    /// [`Sizes::lookup_min`].
    pub padded_to: Option<usize>,
    /// Of which families contacts are wanted; `None` for those over which is asked.
    pub want: Option<Families>,
    /// Whether this node answers nothing itself.
    pub is_read_only: bool,
}

impl<'a> From<&'a Request<'a>> for Message<'a> {
    fn from(request: &'a Request<'a>) -> Message<'a> {
        Message::Query { request, manner: Manner::default() }
    }
}

impl<'a> From<CodedError<'a>> for Message<'a> {
    fn from(error: CodedError<'a>) -> Message<'a> {
        Message::CodedError(error)
    }
}

impl<'a> From<&'a Response> for Message<'a> {
    fn from(response: &'a Response) -> Message<'a> {
        Message::Answer(response)
    }
}

impl From<RpcError> for Message<'_> {
    fn from(error: RpcError) -> Self {
        Message::Error(error)
    }
}

impl From<PayloadError> for Message<'_> {
    fn from(error: PayloadError) -> Self {
        Message::Refusal(error)
    }
}

impl Dialect {
    /// The first byte of each datagram.
    pub const fn first_byte(self) -> u8 {
        match self {
            Dialect::V1 => v1::VERSION,
            Dialect::Mainline => krpc::FIRST,
        }
    }

    /// The sizes that it lays down.
    pub const fn sizes(self) -> Sizes {
        match self {
            Dialect::V1 => v1::SIZES,
            Dialect::Mainline => krpc::SIZES,
        }
    }

    /// Where its datagrams have what a packet filter looks at; `None` where that is not the same in all.
    pub const fn offsets(self) -> Option<Offsets> {
        match self {
            Dialect::V1 => Some(v1::OFFSETS),
            Dialect::Mainline => None,
        }
    }

    /// Which RPC a name stands for; [`Rpc::Custom`] for one that it does not define.
    pub fn rpc_named(self, name: &[u8]) -> Rpc {
        match self {
            Dialect::V1 => v1::rpc_named(name),
            Dialect::Mainline => krpc::rpc_named(name),
        }
    }

    /// A contact as its answers carry it.
    pub fn encode_contact(self, contact: &Contact) -> EncodedContact {
        self.contact_encoder()(contact)
    }

    /// What encodes contacts, for callers that do not know the dialect.
    pub fn contact_encoder(self) -> fn(&Contact) -> EncodedContact {
        match self {
            Dialect::V1 => v1::encode_contact,
            Dialect::Mainline => krpc::encode_contact,
        }
    }

    /// The payload of a findvalue's answer with these values, up to its contacts; nothing in a dialect without
    /// values.
    #[cfg_attr(not(fast_path), expect(dead_code, reason = "the fast path alone asks"))]
    pub(crate) fn encode_values_head<'v>(self, values: impl Iterator<Item = &'v Value>) -> Vec<u8> {
        match self {
            Dialect::V1 => v1::encode_values_head(values),
            Dialect::Mainline => Vec::new(),
        }
    }

    /// The payload of a route's answer; nothing in a dialect without routes.
    pub fn encode_route_answer(self, answer: &RouteAnswer) -> Vec<u8> {
        match self {
            Dialect::V1 => v1::encode_route_answer(answer),
            Dialect::Mainline => Vec::new(),
        }
    }

    /// How many bytes of values fit a route's answer of `answer_max` bytes.
    pub fn route_values_max(self, answer_max: usize) -> usize {
        match self {
            Dialect::V1 => v1::route_values_max(answer_max),
            Dialect::Mainline => 0,
        }
    }

    /// The nodes that a route has passed, from what stands behind its payload.
    pub fn route_hops(self, rest: &[u8]) -> impl Iterator<Item = RouteHop> {
        let hops = match self {
            Dialect::V1 => Some(v1::route_hops(rest)),
            Dialect::Mainline => None,
        };
        hops.into_iter().flatten()
    }

    /// Leaves a mark behind a route's payload, if there is room.
    pub fn put_route_hop(self, rest: &mut [u8], hop: RouteHop) {
        match self {
            Dialect::V1 => v1::put_route_hop(rest, hop),
            Dialect::Mainline => {}
        }
    }

    /// The form in which routes carry an address, whatever the dialect of the nodes.
    pub fn endpoint_bytes(self, address: &SocketAddr) -> [u8; 18] {
        match self {
            Dialect::V1 | Dialect::Mainline => v1::endpoint_bytes(address),
        }
    }

    /// How many bytes of values fit an answer of `answer_max` bytes to a findvalue, which not every
    /// dialect has.
    pub fn values_max(self, search: &FindValue<'_>, answer_max: usize) -> usize {
        match self {
            Dialect::V1 => v1::values_max(search, answer_max),
            Dialect::Mainline => 0,
        }
    }
}

impl Sizes {
    /// Smallest findnode or findvalue that we send: one to which even a node that does not know us may
    /// answer with `answer_max` bytes and a ping.
    pub const fn lookup_min(&self) -> usize {
        (self.answer_max + self.ping).div_ceil(AMPLIFICATION_MAX)
    }

    /// How long the answer to a request of `request` bytes may get if its address is not validated: the
    /// ping that validates it counts too.
    pub const fn unvalidated_answer_max(&self, request: usize) -> usize {
        (AMPLIFICATION_MAX * request).saturating_sub(self.ping)
    }
}

impl Envelope<'_> {
    /// The header of what `from` says to this message.
    pub fn reply_from(&self, from: Id) -> Header {
        Header { dialect: self.dialect, from, transaction: self.transaction, asker: None }
    }
}

impl<'a> Body<'a> {
    /// The bytes of a request or an answer, without what is around them in the datagram.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Body::Query(query) => query.bytes,
            Body::Answer(answer) => answer.bytes,
            Body::Error(_) => &[],
            Body::CodedError(error) => error.text,
            Body::Route(route) | Body::Routed(route) => route.bytes,
        }
    }
}

impl<'a> UnreadQuery<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If it asks nothing; [`Message::Refusal`] is what to answer.
    pub fn read(self) -> Result<Request<'a>, PayloadError> {
        self.read_counting().0
    }

    /// The same, and how many tokens were read for it; for a malformed payload, how many may have
    /// been.
    pub fn read_counting(self) -> (Result<Request<'a>, PayloadError>, usize) {
        match self.dialect {
            Dialect::V1 => v1::request_counting(self.bytes),
            Dialect::Mainline => krpc::request_counting(self.name, self.bytes),
        }
    }

    /// Name and arguments as far as they can be read, even those of a request that is refused.
    pub fn outline(self) -> (Option<&'a [u8]>, Option<Item<'a>>) {
        match self.dialect {
            Dialect::V1 => v1::outline(self.bytes),
            Dialect::Mainline => (Some(self.name), Item::parse(self.bytes).ok()),
        }
    }

    /// Its bytes, without what is around them in the datagram.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> UnreadAnswer<'a> {
    /// Reads it as the answer to a request of that kind.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(self, kind: Rpc) -> Result<Response, PayloadError> {
        match self.dialect {
            Dialect::V1 => v1::response(kind, self.bytes),
            Dialect::Mainline => krpc::response(kind, self.bytes),
        }
    }

    /// Its bytes, without what is around them in the datagram: one bencoded item, if it is well formed.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> UnreadRoute<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If it is cut short, or asks for nothing that is known.
    pub fn read(self) -> Result<Route<'a>, ParseError> {
        match self.dialect {
            Dialect::V1 => v1::route(self.bytes),
            Dialect::Mainline => Err(ParseError::Shape("it has no routes")),
        }
    }

    /// Its bytes, without what is around them in the datagram.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// Reads the payload of an answer to a route of that kind.
///
/// # Errors
/// If it is none.
pub fn read_route_answer(
    dialect: Dialect,
    kind: RouteKind,
    payload: &[u8],
) -> Result<RouteAnswer, PayloadError> {
    match dialect {
        Dialect::V1 => v1::route_answer(kind, payload),
        Dialect::Mainline => Err(PayloadError::Shape),
    }
}

/// Takes a datagram apart. What it asks or answers is not looked at yet.
///
/// # Errors
/// If it is no message.
#[inline]
pub fn parse(datagram: &[u8]) -> Result<Envelope<'_>, ParseError> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(ParseError::TooLong);
    }
    match datagram.first() {
        None => Err(ParseError::Truncated),
        Some(&v1::VERSION) => v1::parse(datagram),
        Some(&krpc::FIRST) => krpc::parse(datagram),
        Some(_) => Err(ParseError::Version),
    }
}

/// Appends the datagram of a message. An answer names as many contacts and values as there is room for.
///
/// # Panics
/// If the header's transaction id has a length that the dialect does not know, which cannot happen to
/// one that was parsed or drawn for it; or if a request or an RPC's values exceed 65,535 bytes, which a
/// node refuses long before; or if the dialect lacks the request or answer, which a node of its network
/// never sends.
#[inline]
pub fn emit<'a>(out: &mut Vec<u8>, header: &Header, message: impl Into<Message<'a>>) {
    let message = message.into();
    match header.dialect {
        Dialect::V1 => v1::put_message(out, header, &message),
        Dialect::Mainline => krpc::put_message(out, header, &message),
    }
}

/// Appends the answer to a findnode: as many of the contacts, nearest first, as `max` bytes have
/// room for, or [`Sizes::answer_max`] if that is less. A dialect that keeps the families of contacts apart
/// names none but those of `families`, and says so where it knows none of one.
#[inline]
pub fn emit_nodes<'c>(
    out: &mut Vec<u8>,
    header: &Header,
    families: Families,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    match header.dialect {
        Dialect::V1 => v1::put_nodes(out, header, closest, max),
        Dialect::Mainline => {
            let answer = mainline::Answer::default();
            krpc::put_answer(out, header, &answer, families, closest, max);
        }
    }
}

/// Appends an answer of Mainline with all that is in it, then as many contacts of `families`, nearest first,
/// as `max` bytes have room for.
///
/// # Panics
/// In another dialect.
#[inline]
pub fn emit_answer<'c>(
    out: &mut Vec<u8>,
    header: &Header,
    answer: &mainline::Answer<'_>,
    families: Families,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    match header.dialect {
        Dialect::V1 => panic!("v1 has no such answer"),
        Dialect::Mainline => krpc::put_answer(out, header, answer, families, closest, max),
    }
}

/// The bytes of an answer of Mainline without contacts.
pub fn answer_len(header: &Header, answer: &mainline::Answer<'_>) -> usize {
    krpc::answer_len(header, answer)
}

/// Appends the answer to a findvalue: as many values as `max` bytes have room for, then as many contacts
/// as still fit these and [`Sizes::answer_max`]. `values` is `None` where nothing is stored; `rest`
/// tells of those that are not in it.
#[inline]
pub fn emit_values<'v, 'c>(
    out: &mut Vec<u8>,
    header: &Header,
    values: Option<impl Iterator<Item = &'v Value>>,
    rest: &Rest,
    closest: impl Iterator<Item = &'c EncodedContact>,
    max: usize,
) {
    match header.dialect {
        Dialect::V1 => v1::put_values(out, header, values, rest, closest, max),
        Dialect::Mainline => panic!("Mainline has no findvalue"),
    }
}
