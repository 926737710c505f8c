//! Tickets and address tokens of routes. The entry, the node that lets a client's route into the network,
//! issues both and recognises its own.
//!
//! The ticket travels with the request and comes back with the answer. So the entry can hand the answer to
//! the client although it remembers neither. The token goes to the client. A client that brings it back
//! shows that it receives what is sent to its address, as with DNS cookies (RFC 9018). Both are hashes,
//! each under a key of its own: no node that sees a ticket learns a token from it. The fast path in the
//! kernel makes and recognises the same ones.
//!
//! ```text
//! ticket   SipHash-2-4 of rpc id (8), client (18), stamp (2), budget (2)
//! token    the same under the other key, with zeros for rpc id and budget
//! ```
//!
//! A ticket lets two answers through, and no more bytes than its budget. Used tickets are remembered until
//! they expire.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use siphasher::sip::SipHasher24;

use crate::message::{Route, TransactionId};
use crate::time::{Duration, Instant};
use crate::wire::Dialect;

/// A stamp counts units of this many microseconds, as a power of two: some 1.05 s.
pub(crate) const STAMP_BITS: u32 = 20;

/// Stamps until a ticket expires: an answer comes within a second or two, or not at all.
pub(crate) const TICKET_STAMPS: u16 = 4;

/// Stamps until a token expires: five minutes, as for write tokens.
pub(crate) const TOKEN_STAMPS: u16 = 300;

/// Stamps that another clock may be ahead: the kernel's is coarser than the node's.
pub(crate) const STAMPS_AHEAD: u16 = 1;

/// Answers that a ticket lets through: networks may duplicate a datagram.
pub(crate) const RELAYS_MAX: u8 = 2;

/// Used tickets remembered: those of 1,000 answers a second, some 200 kB.
const MAX_USED: usize = 4_096;

/// Issues tickets and tokens, and recognises its own.
pub(crate) struct Tickets {
    /// Microseconds that the machine's clock showed at the node's [`Instant::ZERO`].
    origin: u64,
    tickets: SipHasher24,
    tokens: SipHasher24,
    used: BTreeMap<[u8; 8], Used>,
}

/// The keys of both hashes, and the time that stamps show at [`Instant::ZERO`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteSecrets {
    pub(crate) origin: Duration,
    pub(crate) tickets: [u64; 2],
    pub(crate) tokens: [u64; 2],
}

/// The answers that a ticket has let through.
struct Used {
    stamp: u16,
    answers: u8,
    bytes: usize,
}

/// Whether a stamp is no older than `max` at a time, and no further ahead than clocks differ.
fn is_fresh(now: u16, made: u16, max: u16) -> bool {
    now.wrapping_add(STAMPS_AHEAD).wrapping_sub(made) <= max + STAMPS_AHEAD
}

impl Tickets {
    pub(crate) fn new(secrets: &mut ChaCha8Rng) -> Tickets {
        let mut hasher = || SipHasher24::new_with_keys(secrets.random(), secrets.random());
        Tickets { origin: 0, tickets: hasher(), tokens: hasher(), used: BTreeMap::new() }
    }

    /// Counts stamps from now on by the clock that showed `origin` at [`Instant::ZERO`].
    pub(crate) fn set_origin(&mut self, origin: Duration) {
        self.origin = origin.as_micros();
    }

    /// The stamp of a time.
    pub(crate) fn stamp(&self, now: Instant) -> u16 {
        (self.micros(now) >> STAMP_BITS) as u16
    }

    /// Microseconds since a stamp; 0 if it is so far from now that another clock made it.
    pub(crate) fn since_stamp(&self, now: Instant, stamp: u16) -> u32 {
        match self.stamp(now).wrapping_sub(stamp) {
            stamps @ 0..=TICKET_STAMPS => {
                let within = self.micros(now) & ((1 << STAMP_BITS) - 1);
                (u64::from(stamps) << STAMP_BITS | within) as u32
            }
            _ => 0,
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        self.origin.wrapping_add(now.as_micros())
    }

    /// The keys, for the fast path, which must recognise the same tickets and tokens.
    pub(crate) fn secrets(&self) -> RouteSecrets {
        let keys = |hasher: &SipHasher24| hasher.keys().into();
        let origin = Duration::from_micros(self.origin);
        RouteSecrets { origin, tickets: keys(&self.tickets), tokens: keys(&self.tokens) }
    }

    /// The ticket of a request with this client, stamp and budget.
    pub(crate) fn ticket(&self, call: &TransactionId, route: &Route<'_>) -> [u8; 8] {
        let parts = (call.as_bytes(), &route.client, route.stamp, route.budget);
        hash(&self.tickets, parts)
    }

    /// Whether an answer brings the ticket of a request that this node let in, and the ticket has not expired.
    pub(crate) fn knows(&self, now: Instant, call: &TransactionId, route: &Route<'_>) -> bool {
        is_fresh(self.stamp(now), route.stamp, TICKET_STAMPS)
            && self.ticket(call, route) == route.seal
    }

    /// Whether the ticket lets an answer of `bytes` bytes through; counts it.
    pub(crate) fn take(&mut self, now: Instant, route: &Route<'_>, bytes: usize) -> bool {
        if self.used.len() >= MAX_USED {
            let now = self.stamp(now);
            self.used.retain(|_, used| is_fresh(now, used.stamp, TICKET_STAMPS));
        }
        if self.used.len() >= MAX_USED && !self.used.contains_key(&route.seal) {
            return false;
        }
        let fresh = Used { stamp: route.stamp, answers: 0, bytes: 0 };
        let used = self.used.entry(route.seal).or_insert(fresh);
        let is_worth_it = used.answers < RELAYS_MAX
            && used.bytes.saturating_add(bytes) <= usize::from(route.budget);
        if is_worth_it {
            used.answers += 1;
            used.bytes += bytes;
        }
        is_worth_it
    }

    /// The token of an address at a time.
    pub(crate) fn token(&self, stamp: u16, address: &SocketAddr) -> [u8; 8] {
        hash(&self.tokens, (&[0; 8], address, stamp, 0))
    }

    /// Whether a route brings the token of an address, and the token has not expired.
    pub(crate) fn accepts(&self, now: Instant, address: &SocketAddr, route: &Route<'_>) -> bool {
        is_fresh(self.stamp(now), route.stamp, TOKEN_STAMPS)
            && self.token(route.stamp, address) == route.seal
    }
}

fn hash(
    hasher: &SipHasher24,
    (call, client, stamp, budget): (&[u8], &SocketAddr, u16, u16),
) -> [u8; 8] {
    let mut bytes = [0; 30];
    let len = call.len().min(8);
    bytes[..len].copy_from_slice(&call[..len]);
    bytes[8..26].copy_from_slice(&Dialect::V1.endpoint_bytes(client));
    bytes[26..28].copy_from_slice(&stamp.to_be_bytes());
    bytes[28..].copy_from_slice(&budget.to_be_bytes());
    hasher.hash(&bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::id::Id;
    use crate::message::{RouteFlags, RouteKind};

    /// Close to where stamps begin anew.
    const NOW: Instant = Instant::from_micros(65_534 << STAMP_BITS);
    const CALL: TransactionId = TransactionId::new(*b"question");

    fn tickets(seed: u64) -> Tickets {
        Tickets::new(&mut ChaCha8Rng::seed_from_u64(seed))
    }

    fn after(stamps: i64) -> Instant {
        let micros = NOW.as_micros() as i64 + (stamps << STAMP_BITS);
        Instant::from_micros(micros as u64)
    }

    fn route(tickets: &Tickets) -> Route<'static> {
        let mut route = Route {
            flags: RouteFlags::default(),
            hops_left: 16,
            skip: 0,
            kind: RouteKind::Locate,
            key: Id::of_name("key"),
            answer_to: Route::NOWHERE,
            budget: 300,
            client: "192.0.2.1:9".parse().unwrap(),
            stamp: tickets.stamp(NOW),
            seal: [0; 8],
            payload: &[],
            rest: &[],
        };
        route.seal = tickets.ticket(&CALL, &route);
        route
    }

    #[test]
    fn a_ticket_is_known_for_four_stamps() {
        let tickets = tickets(1);
        let route = route(&tickets);
        let known: Vec<_> =
            (-3..8).filter(|&stamps| tickets.knows(after(stamps), &CALL, &route)).collect();
        assert_eq!(known, [-1, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_ticket_holds_for_one_request_of_one_client_with_one_budget() {
        let tickets = tickets(1);
        let route = route(&tickets);
        assert!(tickets.knows(NOW, &CALL, &route));
        let other_call = TransactionId::new(*b"others!!");
        assert!(!tickets.knows(NOW, &other_call, &route));
        for client in ["192.0.2.1:10", "192.0.2.2:9", "[::c000:201]:9"] {
            assert!(!tickets.knows(
                NOW,
                &CALL,
                &Route { client: client.parse().unwrap(), ..route }
            ));
        }
        assert!(!tickets.knows(NOW, &CALL, &Route { budget: 301, ..route }));
        assert!(!tickets.knows(NOW, &CALL, &Route { stamp: route.stamp - 1, ..route }));
        assert!(!self::tickets(2).knows(NOW, &CALL, &route), "another node");
        for bit in 0..64 {
            let mut seal = route.seal;
            seal[bit / 8] ^= 1 << (bit % 8);
            assert!(!tickets.knows(NOW, &CALL, &Route { seal, ..route }));
        }
        // What else is in it may change on the way.
        assert!(tickets.knows(
            NOW,
            &CALL,
            &Route { hops_left: 3, skip: 2, payload: b"le", ..route }
        ));
    }

    #[test]
    fn a_ticket_lets_two_answers_and_its_budget_through() {
        for (bytes, worth) in [(100, 2), (150, 2), (151, 1), (300, 1), (301, 0)] {
            let mut tickets = tickets(1);
            let route = route(&tickets);
            let taken = (0..5).filter(|_| tickets.take(NOW, &route, bytes)).count();
            assert_eq!(taken, worth, "{bytes}");
        }
    }

    #[test]
    fn used_tickets_are_forgotten_when_they_expire() {
        let mut tickets = tickets(1);
        let route = route(&tickets);
        let numbered = |number: u64| Route { seal: number.to_be_bytes(), ..route };
        let all = MAX_USED as u64;
        assert!((0..all).all(|number| tickets.take(NOW, &numbered(number), 300)));
        assert!(!tickets.take(NOW, &numbered(all), 300), "it could be used again");
        assert!(!tickets.take(NOW, &numbered(3), 300), "used up");
        let later = NOW + Duration::from_micros(6 << STAMP_BITS);
        let fresh = Route { stamp: tickets.stamp(later), ..numbered(all) };
        assert!(tickets.take(later, &fresh, 300));
        assert_eq!(tickets.used.len(), 1);
    }

    #[test]
    fn time_since_a_stamp_is_known_if_the_clock_is_the_same() {
        let mut tickets = tickets(1);
        let made = tickets.stamp(NOW);
        for (micros, expected) in
            [(0, 0), (777, 777), (1 << 20, 1 << 20), ((4 << 20) + 9, (4 << 20) + 9)]
        {
            assert_eq!(tickets.since_stamp(NOW + Duration::from_micros(micros), made), expected);
        }
        assert_eq!(tickets.since_stamp(NOW + Duration::from_micros(5 << 20), made), 0);
        assert_eq!(tickets.since_stamp(NOW, made + 1), 0, "it is ahead");
        // Another node of the machine began later.
        tickets.set_origin(Duration::from_secs(5));
        let later = Instant::from_micros(NOW.as_micros() - 5_000_000 + 55);
        assert_eq!(tickets.since_stamp(later, made), 55);
    }

    #[test]
    fn a_token_is_no_ticket_and_lasts_for_minutes() {
        let tickets = tickets(1);
        let (ticket, address) = (route(&tickets), "192.0.2.1:9".parse().unwrap());
        assert!(!tickets.accepts(NOW, &address, &ticket), "a ticket is no token");
        let with_token = Route { seal: tickets.token(tickets.stamp(NOW), &address), ..ticket };
        let good: Vec<_> = (-3..400)
            .filter(|&stamps| tickets.accepts(after(stamps), &address, &with_token))
            .collect();
        assert_eq!(good, (-1..=300).collect::<Vec<_>>());
        assert!(!tickets.accepts(NOW, &"192.0.2.1:10".parse().unwrap(), &with_token));
        assert!(!tickets.knows(NOW, &CALL, &with_token), "a token is no ticket");
    }
}
