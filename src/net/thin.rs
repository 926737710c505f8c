//! A client without a node: one socket, and any node as its way into the network.
//!
//! It sends [`Route`]s to the node, which hands them on toward the key; see [`node`](crate::node). If an
//! attempt finds nothing or is not answered, the next one skips the nearest contacts. In the last one the
//! node looks the key up itself. All calls block, because a program of this kind has nothing else to do
//! meanwhile.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::bencode::Value;
use crate::id::Id;
use crate::message::{
    Contact, FindValue, Request, Response, Rest, Route, RouteAnswer, RouteFlags, RouteHop,
    RouteKind, Rpc, TransactionId,
};
use crate::wire::{self, Body, Dialect, Header, MAX_DATAGRAM, Message, emit, parse};

const DIALECT: Dialect = Dialect::V1;

/// The attempts: how many contacts each hop skips, whether the entry looks the key up itself, and how long
/// the client waits for an answer.
const ATTEMPTS: [(u8, bool, Duration); 4] = [
    (0, false, Duration::from_millis(500)),
    (1, false, Duration::from_millis(500)),
    (2, false, Duration::from_secs(1)),
    (0, true, Duration::from_secs(8)),
];

/// How long the client waits for a store, which takes a lookup and one more round trip.
const STORED_WITHIN: Duration = Duration::from_secs(12);

/// How long the client waits for the holder of values that fit no route.
const HOLDER_WITHIN: Duration = Duration::from_secs(1);

/// Requests to a holder: one that gets a token, one that brings it, and each repeated once.
const HOLDER_ASKED: usize = 4;

/// Values asked of a holder.
const VALUES: usize = 32;

/// What a client has found, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The answer.
    pub answer: RouteAnswer,
    /// The id of the node that answered.
    pub by: Id,
    /// Each datagram sent to the entry, in the order of sending.
    pub attempts: Vec<Attempt>,
    /// Time from the first datagram to the end.
    pub took: Duration,
}

/// One datagram to the entry, and what came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// How many contacts each hop was told to skip.
    pub skip: u8,
    /// Whether the entry was told to look the key up itself.
    pub iterates: bool,
    /// The answer; `None` if none came.
    pub answer: Option<RouteAnswer>,
    /// The nodes on its way, if a trace was asked for.
    pub hops: Vec<RouteHop>,
    /// Time until the answer came, or until the client gave up.
    pub took: Duration,
}

/// Why a client has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ThinError {
    /// The entry did not answer.
    #[error("{0}: no answer in time")]
    Silent(SocketAddr),
    /// The system says that nobody is there.
    #[error("{0}: nobody is there")]
    Nobody(SocketAddr),
    /// The value is too large for a datagram.
    #[error("the value has {bytes} bytes encoded, and a datagram carries {max}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The system failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A client of one node.
#[derive(Debug)]
pub struct ThinClient {
    via: SocketAddr,
    socket: UdpSocket,
    /// The address token that the entry gave last.
    token: Option<(u16, [u8; 8])>,
    wants_trace: bool,
}

impl ThinClient {
    /// A client of the node at that address. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(via: SocketAddr) -> io::Result<ThinClient> {
        Ok(ThinClient { via, socket: connected(via)?, token: None, wants_trace: false })
    }

    /// Asks the nodes on the way to leave their marks. Each of them then works in user space.
    pub fn trace(&mut self, wants_trace: bool) {
        self.wants_trace = wants_trace;
    }

    /// Finds the node nearest to a key.
    ///
    /// # Errors
    /// If the entry does not answer.
    pub fn locate(&mut self, key: Id) -> Result<Found, ThinError> {
        self.find(key, RouteKind::Locate)
    }

    /// Finds values under a key.
    ///
    /// # Errors
    /// If the entry does not answer.
    pub fn get(&mut self, key: Id) -> Result<Found, ThinError> {
        let mut found = self.find(key, RouteKind::FindValue)?;
        if let RouteAnswer::HeldAt(holder) = found.answer {
            let began = Instant::now();
            if let Some(values) = fetch(key, &holder)? {
                found.answer = RouteAnswer::Values(values);
            }
            found.took += began.elapsed();
        }
        Ok(found)
    }

    /// Stores a value under a key, beside what others have stored there; the entry is its publisher.
    ///
    /// # Errors
    /// If the value is too large, or the entry does not answer.
    pub fn put(&mut self, key: Id, value: &Value) -> Result<Found, ThinError> {
        let (bytes, max) = (value.as_bytes().len(), DIALECT.sizes().custom_max);
        if bytes > max {
            return Err(ThinError::TooLarge { bytes, max });
        }
        let mut course = Course::begun();
        let attempt = (0, false, STORED_WITHIN);
        let answered =
            self.attempt(&mut course, key, RouteKind::Store, value.as_bytes(), attempt)?;
        let (answer, by) = answered.ok_or(ThinError::Silent(self.via))?;
        Ok(course.ended(answer, by))
    }

    fn find(&mut self, key: Id, kind: RouteKind) -> Result<Found, ThinError> {
        let mut course = Course::begun();
        let mut last = None;
        for attempt in ATTEMPTS {
            let answered = self.attempt(&mut course, key, kind, &[], attempt)?;
            let is_final = attempt.1;
            match answered {
                // Only a lookup can tell that nobody holds it.
                Some((RouteAnswer::Nothing | RouteAnswer::Cut, _)) if !is_final => last = answered,
                Some((answer, by)) => return Ok(course.ended(answer, by)),
                None => {}
            }
        }
        let (answer, by) = last.ok_or(ThinError::Silent(self.via))?;
        Ok(course.ended(answer, by))
    }

    /// Sends a request, and sends it again with the token if the entry asks for the token.
    fn attempt(
        &mut self,
        course: &mut Course,
        key: Id,
        kind: RouteKind,
        payload: &[u8],
        (skip, iterates, within): (u8, bool, Duration),
    ) -> Result<Option<(RouteAnswer, Id)>, ThinError> {
        let is_work_of_entry = iterates || kind == RouteKind::Store;
        let sizes = DIALECT.sizes();
        // Room for an answer, and for a trace.
        let padding = vec![0; sizes.lookup_min().saturating_sub(sizes.route + payload.len())];
        loop {
            let had_token = self.token.is_some();
            let (stamp, seal) = self.token.unwrap_or_default();
            let route = Route {
                flags: RouteFlags::default()
                    .with(RouteFlags::TRACE, self.wants_trace)
                    .with(RouteFlags::ITERATE, iterates),
                hops_left: u8::MAX,
                skip,
                kind,
                key,
                answer_to: Route::NOWHERE,
                budget: sizes.answer_max as u16,
                client: Route::NOWHERE,
                stamp,
                seal,
                payload,
                rest: &padding,
            };
            let mut request = Vec::new();
            let header =
                Header { dialect: DIALECT, from: Id::ZERO, transaction: random()?, asker: None };
            emit(&mut request, &header, Message::Route(&route));
            let began = Instant::now();
            let answer = self.ask(&request, &header, within)?;
            let took = began.elapsed();
            let mut attempt = Attempt { skip, iterates, answer: None, hops: Vec::new(), took };
            let Some((by, answer, hops)) = answer else {
                course.attempts.push(attempt);
                return Ok(None);
            };
            attempt.answer = Some(answer.clone());
            attempt.hops = hops;
            course.attempts.push(attempt);
            let is_refused = matches!(answer, RouteAnswer::Cut | RouteAnswer::Refused { .. });
            if !(is_work_of_entry && is_refused && !had_token && self.token.is_some()) {
                return Ok(Some((answer, by)));
            }
        }
    }

    /// Sends a datagram and waits for the answer to it; keeps the token that comes with it.
    fn ask(
        &mut self,
        request: &[u8],
        header: &Header,
        within: Duration,
    ) -> Result<Option<(Id, RouteAnswer, Vec<RouteHop>)>, ThinError> {
        let mut answer = None;
        let heard = exchange(&self.socket, request, within, |datagram| {
            let Ok(envelope) = parse(datagram) else { return false };
            let Body::Routed(unread) = envelope.body else { return false };
            let (Ok(route), Some(by)) = (unread.read(), envelope.sender) else { return false };
            if envelope.transaction != header.transaction {
                return false;
            }
            let read = wire::read_route_answer(DIALECT, route.kind, route.payload);
            let hops = DIALECT.route_hops(route.rest).collect();
            answer = Some((by, read.unwrap_or(RouteAnswer::Cut), hops));
            self.token = Some((route.stamp, route.seal));
            true
        });
        match heard {
            Ok(_) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(ThinError::Nobody(self.via))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The attempts so far.
struct Course {
    began: Instant,
    attempts: Vec<Attempt>,
}

impl Course {
    fn begun() -> Course {
        Course { began: Instant::now(), attempts: Vec::new() }
    }

    fn ended(self, answer: RouteAnswer, by: Id) -> Found {
        Found { answer, by, attempts: self.attempts, took: self.began.elapsed() }
    }
}

/// Asks a holder by findvalue for values that do not fit an answer to a route.
fn fetch(key: Id, holder: &Contact) -> io::Result<Option<Vec<Value>>> {
    let socket = connected(holder.address)?;
    let from = super::loopback_id(holder.address.port());
    let (mut token, mut best) = (Vec::new(), None);
    for _ in 0..HOLDER_ASKED {
        let header = Header { dialect: DIALECT, from, transaction: random()?, asker: None };
        let search = FindValue { token: Some(&token), ..FindValue::new(key, VALUES) };
        let mut request = Vec::new();
        emit(&mut request, &header, &Request::FindValue(search));
        let mut answer = None;
        let heard = exchange(&socket, &request, HOLDER_WITHIN, |datagram| {
            let Ok(envelope) = parse(datagram) else { return false };
            let Body::Answer(unread) = envelope.body else { return false };
            answer = unread.read(Rpc::FindValue).ok();
            envelope.transaction == header.transaction
        });
        match heard {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
            Err(error) => return Err(error),
        }
        let Some(Response::Values { values, rest: Rest { token: given, .. }, .. }) = answer else {
            continue;
        };
        best = Some(values).filter(|values| !values.is_empty()).or(best);
        match given {
            Some(given) if given != token => token = given,
            _ => break,
        }
    }
    Ok(best)
}

fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

fn random() -> io::Result<TransactionId> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(io::Error::other)?;
    Ok(TransactionId::new(number))
}

/// Sends a datagram and reads datagrams until one `is_answer` or the time is over. Returns whether the
/// answer came.
fn exchange(
    socket: &UdpSocket,
    request: &[u8],
    within: Duration,
    mut is_answer: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let sent = Instant::now();
    socket.send(request)?;
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        let left = within.saturating_sub(sent.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(len) if is_answer(&buffer[..len]) => return Ok(true),
            Ok(_) => {}
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(false),
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}
