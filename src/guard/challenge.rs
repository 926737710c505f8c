//! The numbers of calls, by which a node recognises replies without remembering what it asked.
//!
//! A transaction id has two halves. The first is a keyed hash of the IP address that is asked, so only
//! a node that receives there knows it: a filter in front of the socket can tell replies to us from
//! datagrams forged in a peer's name. The second is random, or in a verification ping a keyed hash of
//! address and time:
//!
//! ```text
//! call               ┌ hash(ip) ┬ random              ┐    32 bits each
//! verification ping  └ hash(ip) ┴ hash(address, tick) ┘
//! ```
//!
//! So a node that answers a verification ping proves that it receives at its address, as with a SYN
//! cookie (RFC 4987 §3.6) or the Retry of RFC 9000 §8.1.2, and a flood of strangers takes no memory.
//! The hash does not cover an id: the node at the address says in its answer who it is. So forging
//! strange ids at a newcomer's address only gets it validated sooner.
//!
//! A number counts once. Otherwise one ping would let its receiver answer under as many ids as it likes,
//! and have us ask about each of them. So the numbers that were answered are remembered until they have
//! lost their worth: a stranger can fill this memory only by answering, not by asking.
//!
//! Calls in flight are kept elsewhere, and [`rations`](super::rations) decides how often a stranger
//! is pinged.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use siphasher::sip::SipHasher24;

use crate::address::Subnet;
use crate::message::TransactionId;
use crate::time::{Duration, Instant};
use crate::wire::Dialect;

/// Two verification pings to one address have the same number only if one follows the other faster.
const TICK: Duration = Duration::from_secs(1);

/// Further ticks for which an answer counts: longer than the node waits for an answer by default.
const TICKS_MORE: u64 = 2;

/// Numbers that are remembered for having been answered: more than a node hands out to the internet
/// while one of them counts, 8,192 a second. Takes less than a megabyte.
const MAX_ANSWERED: usize = 32_768;

/// What of a transaction id a dialect has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Both halves.
    Whole,
    /// Four bytes, as some nodes of Mainline take no others. No filter in front of the socket knows them
    /// again; to guess one takes as many attempts as to guess the second half.
    SecondHalf,
}

impl Form {
    /// The form in a dialect.
    pub(crate) fn of(dialect: Dialect) -> Form {
        match dialect {
            Dialect::V1 => Form::Whole,
            Dialect::Mainline => Form::SecondHalf,
        }
    }
}

/// Makes transaction ids, and knows its own.
pub(crate) struct Challenge {
    prefixes: SipHasher24,
    pings: SipHasher24,
    /// Numbers that count no more, by the tick in which they were made.
    answered: BTreeSet<(u64, TransactionId)>,
}

impl Challenge {
    pub(crate) fn new(secrets: &mut ChaCha8Rng) -> Challenge {
        let mut hasher = || SipHasher24::new_with_keys(secrets.random(), secrets.random());
        Challenge { prefixes: hasher(), pings: hasher(), answered: BTreeSet::new() }
    }

    /// The first half of each transaction id that goes to an address, or to the /64 of an IPv6 one:
    /// unknown to everybody who receives nothing there.
    pub(crate) fn prefix(&self, ip: IpAddr) -> [u8; 4] {
        // As wide as the networks that are kept out in a flood.
        let subnet = Subnet::all_of(ip).next().expect("an address lies in some network");
        half(self.prefixes.hash(&subnet.to_bytes()))
    }

    /// A number for a call that is remembered until it is answered.
    pub(crate) fn transaction_id(
        &self,
        form: Form,
        ip: IpAddr,
        rng: &mut impl Rng,
    ) -> TransactionId {
        self.formed(form, ip, rng.random())
    }

    /// The number of a verification ping, which need not be remembered.
    pub(crate) fn ping_id(&self, form: Form, now: Instant, address: &SocketAddr) -> TransactionId {
        self.formed(form, address.ip(), self.proof(tick(now), address))
    }

    fn formed(&self, form: Form, ip: IpAddr, second: [u8; 4]) -> TransactionId {
        match form {
            Form::Whole => join(self.prefix(ip), second),
            Form::SecondHalf => TransactionId::new(second),
        }
    }

    /// Whether a reply from this address is the first to answer a verification ping that was sent
    /// there lately.
    pub(crate) fn accept(&mut self, now: Instant, source: &SocketAddr, id: TransactionId) -> bool {
        let Some(made) = self.proves(now, source, id) else { return false };
        let oldest = tick(now).saturating_sub(TICKS_MORE);
        while self.answered.first().is_some_and(|(tick, _)| *tick < oldest) {
            self.answered.pop_first();
        }
        // A number that cannot be remembered could be repeated, so it does not count at all.
        self.answered.len() < MAX_ANSWERED && self.answered.insert((made, id))
    }

    /// The tick in which the verification ping was sent that a reply from this address answers, if one
    /// was sent there lately.
    fn proves(&self, now: Instant, source: &SocketAddr, id: TransactionId) -> Option<u64> {
        let (prefix, proof) = id.as_bytes().split_last_chunk::<4>()?;
        let tick = tick(now);
        if !prefix.is_empty() && prefix != self.prefix(source.ip()) {
            return None;
        }
        (tick.saturating_sub(TICKS_MORE)..=tick).find(|&tick| *proof == self.proof(tick, source))
    }

    fn proof(&self, tick: u64, address: &SocketAddr) -> [u8; 4] {
        let mut bytes = [0; 26];
        bytes[..16].copy_from_slice(&octets(address.ip()));
        bytes[16..18].copy_from_slice(&address.port().to_be_bytes());
        bytes[18..].copy_from_slice(&tick.to_be_bytes());
        half(self.pings.hash(&bytes))
    }
}

fn tick(now: Instant) -> u64 {
    now.as_micros() / TICK.as_micros()
}

/// No source is an IPv4 address in the form of an IPv6 one, so the two families do not meet.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn half(hash: u64) -> [u8; 4] {
    ((hash >> 32) as u32).to_be_bytes()
}

fn join(first: [u8; 4], second: [u8; 4]) -> TransactionId {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first);
    bytes[4..].copy_from_slice(&second);
    TransactionId::new(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000 * TICK.as_micros());

    fn challenge(seed: u64) -> Challenge {
        Challenge::new(&mut ChaCha8Rng::seed_from_u64(seed))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_verification_ping_is_answered_from_its_own_address_alone() {
        let (challenge, own) = (challenge(1), address("192.0.2.1:8001"));
        let id = challenge.ping_id(Form::Whole, NOW, &own);
        assert!(challenge.proves(NOW, &own, id).is_some());
        for other in ["192.0.2.2:8001", "192.0.2.1:8002", "[2001:db8::1]:8001"] {
            assert!(challenge.proves(NOW, &address(other), id).is_none(), "{other}");
        }
        assert!(self::challenge(2).proves(NOW, &own, id).is_none(), "another node");
        for bit in 0..64 {
            let other = {
                let number = u64::from_be_bytes(id.as_bytes().try_into().unwrap());
                TransactionId::new((number ^ 1 << bit).to_be_bytes())
            };
            assert!(challenge.proves(NOW, &own, other).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn an_answer_counts_for_longer_than_one_is_waited_for_and_not_for_ever() {
        let (challenge, own) = (challenge(1), address("[2001:db8::1]:8001"));
        let micro = Duration::from_micros(1);
        for sent in [NOW, NOW + TICK.minus(micro)] {
            let id = challenge.ping_id(Form::Whole, sent, &own);
            for (after, counts) in
                [(0, true), (1_500_000, true), (2_000_000, true), (3_000_000, false)]
            {
                let at = sent + Duration::from_micros(after);
                assert_eq!(challenge.proves(at, &own, id).is_some(), counts, "{after} µs");
            }
            let before = Instant::from_micros(NOW.as_micros() - 1);
            assert!(challenge.proves(before, &own, id).is_none(), "from a time to come");
        }
        let first = challenge.ping_id(Form::Whole, Instant::ZERO, &own);
        assert!(challenge.proves(Instant::ZERO, &own, first).is_some(), "the clock has just begun");
        let seconds = (0..100).map(|second| NOW + Duration::from_secs(second));
        let ids: BTreeSet<TransactionId> =
            seconds.map(|at| challenge.ping_id(Form::Whole, at, &own)).collect();
        assert_eq!(ids.len(), 100, "those of different seconds are told apart");
    }

    #[test]
    fn an_answer_counts_once_and_what_cannot_be_remembered_not_at_all() {
        let (mut challenge, tick) = (challenge(1), |ticks| NOW + TICK.times(ticks));
        let own = address("192.0.2.1:8001");
        let id = challenge.ping_id(Form::Whole, NOW, &own);
        assert!(challenge.accept(NOW, &own, id));
        for later in 0..4 {
            assert!(!challenge.accept(tick(later), &own, id), "{later} s later");
        }
        let id = challenge.ping_id(Form::Whole, tick(3), &own);
        assert!(challenge.accept(tick(3), &own, id), "another number");
        assert_eq!(challenge.answered.len(), 1, "what counts no more is forgotten");
        let numbered = |number: usize| {
            let [.., a, b, c] = number.to_be_bytes();
            SocketAddr::from(([10, a, b, c], 8_001))
        };
        let accepted = (0..MAX_ANSWERED + 100).filter(|&number| {
            let id = challenge.ping_id(Form::Whole, tick(3), &numbered(number));
            challenge.accept(tick(3), &numbered(number), id)
        });
        assert_eq!(accepted.count(), MAX_ANSWERED - 1);
        let id = challenge.ping_id(Form::Whole, tick(6), &own);
        assert!(challenge.accept(tick(6), &own, id), "there is room again");
    }

    #[test]
    fn all_that_goes_to_an_address_begins_alike_and_elsewhere_otherwise() {
        let (challenge, mut rng) = (challenge(1), ChaCha8Rng::seed_from_u64(3));
        let own = address("192.0.2.1:8001");
        let prefix = challenge.prefix(own.ip());
        let ids: BTreeSet<TransactionId> =
            (0..100).map(|_| challenge.transaction_id(Form::Whole, own.ip(), &mut rng)).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.as_bytes().starts_with(&prefix)));
        assert!(challenge.ping_id(Form::Whole, NOW, &own).as_bytes().starts_with(&prefix));
        let others = (0..=255).map(|last| challenge.prefix([192, 0, 2, last].into()));
        assert_eq!(others.collect::<BTreeSet<_>>().len(), 256);
        assert_ne!(self::challenge(2).prefix(own.ip()), prefix);
    }

    #[test]
    fn half_a_number_proves_as_much_at_its_own_address() {
        let (mut challenge, own) = (challenge(1), address("192.0.2.1:8001"));
        let id = challenge.ping_id(Form::SecondHalf, NOW, &own);
        assert_eq!(id.as_bytes().len(), 4);
        assert!(challenge.proves(NOW, &address("192.0.2.1:8002"), id).is_none());
        assert!(challenge.accept(NOW, &own, id));
        assert!(!challenge.accept(NOW, &own, id));
        assert!(challenge.proves(NOW, &own, TransactionId::new([])).is_none());
    }

    proptest! {
        #[test]
        fn what_is_guessed_proves_nothing(guess: [u8; 8], ip: [u8; 4], port: u16, seed: u64, at: u64) {
            let now = Instant::from_micros(at);
            let proof = challenge(seed).proves(now, &(ip, port).into(), TransactionId::new(guess));
            prop_assert!(proof.is_none());
        }
    }
}
