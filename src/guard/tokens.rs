//! Write tokens: a node that stores something first shows that it receives at its address.
//!
//! Anybody can write another node's address on a store, and fill that node's places, or ours, with values that nobody
//! answers for. So a sender that knows of tokens says so in each store. If it lacks the right one it is refused with
//! a token for its address, which it sends back with the store: one more round trip, as with the Retry of RFC 9000
//! §8.1.2. It does not help that the address has answered before: somebody else may have sent the store. Originals
//! know of no tokens. What they store is a claim, see [`Standing`](crate::store::Standing), and with
//! [`Config::require_tokens`] it is taken only while their address is validated.
//!
//! A findvalue may carry its token too, and is then answered in full.
//!
//! The holder keeps nothing for that: a token is a keyed hash of the address and the time. The sender
//! keeps what it was given for a while, in a bounded [`TokenCache`].
//!
//! [`Config::require_tokens`]: crate::config::Config::require_tokens

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use siphasher::sip128::{Hash128, SipHasher24};

use crate::time::{Duration, Instant};

/// A token is good in the epoch in which it was given and in the next.
const EPOCH: Duration = Duration::from_secs(300);

/// Holders whose tokens are kept: those of fifty values that are stored within an epoch. Takes at
/// most some 200 kB.
const MAX_HELD: usize = 1_024;

/// Makes tokens, and knows its own.
pub(crate) struct TokenIssuer {
    hasher: SipHasher24,
}

impl TokenIssuer {
    pub(crate) fn new(secrets: &mut ChaCha8Rng) -> TokenIssuer {
        TokenIssuer { hasher: SipHasher24::new_with_key(&secrets.random()) }
    }

    pub(crate) fn token(&self, now: Instant, address: &SocketAddr) -> [u8; 16] {
        u128::from(self.hash(epoch(now), address)).to_be_bytes()
    }

    pub(crate) fn accepts(&self, now: Instant, address: &SocketAddr, token: &[u8]) -> bool {
        let Ok(token) = token.try_into().map(u128::from_be_bytes) else { return false };
        let epoch = epoch(now);
        // Comparing these hashes takes the same time wherever they differ.
        (epoch.saturating_sub(1)..=epoch)
            .any(|epoch| self.hash(epoch, address) == Hash128::from(token))
    }

    fn hash(&self, epoch: u64, address: &SocketAddr) -> Hash128 {
        // An IPv4 address is hashed as a mapped one, in as many bytes as one of IPv6.
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; 26];
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16..18].copy_from_slice(&address.port().to_be_bytes());
        bytes[18..].copy_from_slice(&epoch.to_be_bytes());
        self.hasher.hash(&bytes)
    }
}

fn epoch(now: Instant) -> u64 {
    now.as_micros() / EPOCH.as_micros()
}

/// Tokens that holders have given to this node.
#[derive(Default)]
pub(crate) struct TokenCache {
    held: BTreeMap<SocketAddr, CachedToken>,
}

struct CachedToken {
    token: Vec<u8>,
    until: Instant,
}

impl TokenCache {
    /// Keeps a token for as long as it is sure to be good, and forgets the oldest if there are too
    /// many.
    pub(crate) fn keep(&mut self, now: Instant, holder: SocketAddr, token: &[u8]) {
        self.held.retain(|_, held| now < held.until);
        if self.held.len() >= MAX_HELD && !self.held.contains_key(&holder) {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.until);
            let oldest = *oldest.expect("there are many").0;
            self.held.remove(&oldest);
        }
        self.held.insert(holder, CachedToken { token: token.to_vec(), until: now + EPOCH });
    }

    /// The token that a holder has given lately. If it has given none the token is empty, which
    /// still tells the holder that this node knows of tokens.
    pub(crate) fn token(&self, now: Instant, holder: &SocketAddr) -> Vec<u8> {
        let held = self.held.get(holder).filter(|held| now < held.until);
        held.map(|held| held.token.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000 * EPOCH.as_micros());

    fn issuer(seed: u64) -> TokenIssuer {
        TokenIssuer::new(&mut ChaCha8Rng::seed_from_u64(seed))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn numbered(number: usize) -> SocketAddr {
        ([10, 0, (number >> 8) as u8, number as u8], 8_001).into()
    }

    #[test]
    fn a_token_is_good_for_one_address_and_port_at_one_node() {
        let (issuer, own) = (self::issuer(1), address("10.0.0.1:8001"));
        let token = issuer.token(NOW, &own);
        assert!(issuer.accepts(NOW, &own, &token));
        for other in ["10.0.0.2:8001", "10.0.0.1:8002", "[2001:db8::1]:8001", "[::a00:1]:8001"] {
            assert!(!issuer.accepts(NOW, &address(other), &token), "{other}");
        }
        assert!(!self::issuer(2).accepts(NOW, &own, &token), "another key");
        let mapped = address("[::ffff:10.0.0.1]:8001");
        assert!(issuer.accepts(NOW, &mapped, &token), "the same address");
    }

    #[test]
    fn a_token_is_good_until_the_next_epoch_ends() {
        let (issuer, own) = (issuer(1), address("10.0.0.1:8001"));
        let last = NOW + EPOCH.minus(Duration::from_micros(1));
        for given in [NOW, last] {
            let token = issuer.token(given, &own);
            for (at, is_good) in [
                (given, true),
                (last, true),
                (last + EPOCH, true),
                (NOW + EPOCH.times(2), false),
                (NOW + EPOCH.times(1_000), false),
            ] {
                assert_eq!(issuer.accepts(at, &own, &token), is_good, "{given:?} {at:?}");
            }
            let before = Instant::from_micros(999 * EPOCH.as_micros());
            assert!(!issuer.accepts(before, &own, &token), "from an epoch to come");
        }
        let first = issuer.token(Instant::ZERO, &own);
        assert!(issuer.accepts(Instant::ZERO, &own, &first), "the clock has just begun");
    }

    #[test]
    fn a_token_with_anything_cut_off_added_or_changed_is_none() {
        let (issuer, own) = (issuer(1), address("[2001:db8::1]:8001"));
        let token = issuer.token(NOW, &own);
        for len in 0..16 {
            assert!(!issuer.accepts(NOW, &own, &token[..len]));
        }
        assert!(!issuer.accepts(NOW, &own, &[&token[..], b"x"].concat()));
        for bit in 0..128 {
            let mut other = token;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!issuer.accepts(NOW, &own, &other), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn what_is_guessed_is_never_taken(
            guess in prop_oneof![
                prop::collection::vec(any::<u8>(), 16),
                prop::collection::vec(any::<u8>(), 0..100),
            ],
            ip: [u8; 4], port: u16, seed: u64, micros: u64,
        ) {
            let now = Instant::from_micros(micros);
            prop_assert!(!issuer(seed).accepts(now, &(ip, port).into(), &guess));
        }
    }

    #[test]
    fn the_oldest_of_too_many_tokens_is_forgotten() {
        let mut cache = TokenCache::default();
        for number in 0..2 * MAX_HELD {
            let now = NOW + Duration::from_millis(number as u64);
            cache.keep(now, numbered(number), &number.to_be_bytes());
            // One that comes again and again is no reason to forget others.
            cache.keep(now, numbered(number), &number.to_be_bytes());
            assert_eq!(cache.held.len(), (number + 1).min(MAX_HELD));
            for (at, is_held) in [
                (Some(number), true),
                ((number + 1).checked_sub(MAX_HELD), true),
                (number.checked_sub(MAX_HELD), false),
            ] {
                let Some(at) = at else { continue };
                let token = at.to_be_bytes();
                let expected = if is_held { token.to_vec() } else { Vec::new() };
                assert_eq!(cache.token(now, &numbered(at)), expected, "{at} of {number}");
            }
        }
    }

    #[test]
    fn a_token_is_forgotten_when_it_may_be_stale() {
        let (mut cache, holder) = (TokenCache::default(), numbered(1));
        cache.keep(NOW, holder, b"token");
        let last = NOW + EPOCH.minus(Duration::from_micros(1));
        assert_eq!(cache.token(last, &holder), b"token");
        assert_eq!(cache.token(NOW + EPOCH, &holder), b"");
        cache.keep(NOW + EPOCH, numbered(2), b"other");
        assert_eq!(cache.held.len(), 1);
        cache.keep(NOW + EPOCH, numbered(2), b"newer");
        assert_eq!(cache.token(NOW + EPOCH, &numbered(2)), b"newer");
    }
}
