//! How often strangers are asked back: verification pings, dealt out fairly among their networks.
//!
//! A stranger's address may be forged, and then the ping goes to somebody who asked for nothing. So
//! each network, of every size that one owner may hold ([`Subnet::all_of`]), gets pings at no more
//! than a steady rate, and all together get no more than a node can spare. Part of the whole is kept
//! for networks that got few lately: however many a flood from some networks uses up, a newcomer from
//! another is asked at once.
//!
//! Where every source is forged at random, no network can be told from another, and only the size of
//! the whole helps: 8,192 a second, so a newcomer is asked at its first word unless strangers come
//! faster than that.
//!
//! Token buckets as in [`limits`](super::limits), shared by a keyed hash: memory stays what it is.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use siphasher::sip::SipHasher13;

use crate::address::Subnet;
use crate::address::is_loopback;
use crate::id::Id;
use crate::message::Contact;
use crate::time::{Duration, Instant};

/// Pings a second in all, 440 kB/s: a tenth of what a node answers by default
/// ([`Config::total_rate`](super::config::Config::total_rate)).
const IN_ALL: u64 = 8_192;

/// Pings a second to one IPv4 address and to its /24; the latter could have half of the whole.
const TO_IPV4: [u64; 2] = [FEW, IN_ALL / 2];

/// The same to a /64, /56 and /48 of IPv6.
const TO_IPV6: [u64; Subnet::LEVELS_MAX] = [256, 1_024, IN_ALL / 2];

/// How far ahead a network may use up its ration, in microseconds: sixteen pings at once to one
/// IPv4 address.
const AHEAD: u64 = 1_000_000;

/// The same for all together, and the part of that which is kept for networks that got few lately.
const AHEAD_IN_ALL: u64 = 250_000;
const RESERVED: u64 = AHEAD_IN_ALL / 2;

/// What counts as few: pings a second to a /24 or a /48. So five hundred of these networks could
/// use up the whole.
const FEW: u64 = 16;

/// Buckets of the networks that got more than few: 32 kB. Where a flood uses up the rates of all
/// addresses of a /24, one in sixteen others shares a bucket with one of these; that only matters to
/// addresses whose own /24 has a flood too.
const BUCKETS: usize = 4_096;

/// Buckets for the networks that got few: 16 kB. If every source is forged, each still has four times
/// as much to give as it is asked for.
const SHARES: usize = 2_048;

/// An address that was pinged is not pinged again for as long as the node waits for an answer by
/// default.
const AGAIN_AFTER: Duration = Duration::from_millis(1_500);

/// Addresses pinged lately that are remembered for that. When there are more, the rates suffice, and
/// round trips are not measured.
const RECENT_MAX: usize = 64;

pub(crate) struct Rations {
    hasher: SipHasher13,
    /// The times until which the rations are used up, in microseconds; empty until there is a
    /// network to count.
    networks: Box<[u64]>,
    /// The same for networks that got few, the widest alone.
    shares: Box<[u64]>,
    all: u64,
    /// The latest behind.
    recent: VecDeque<(Instant, Contact)>,
}

impl Rations {
    pub(crate) fn new(secrets: &mut ChaCha8Rng) -> Rations {
        Rations {
            hasher: SipHasher13::new_with_keys(secrets.random(), secrets.random()),
            networks: Box::default(),
            shares: Box::default(),
            all: 0,
            recent: VecDeque::new(),
        }
    }

    /// Takes a ping to an asker from the rations, if one is left. Nobody outside can send from
    /// loopback addresses, so they have no ration.
    pub(crate) fn take(&mut self, now: Instant, asker: &Contact) -> bool {
        let address = &asker.address;
        while self.recent.front().is_some_and(|(at, _)| *at + AGAIN_AFTER <= now) {
            self.recent.pop_front();
        }
        if self.recent.iter().any(|(_, other)| other.address == *address) {
            return false;
        }
        let has_one = is_loopback(address) || self.take_of_networks(now.as_micros(), address);
        if has_one {
            if self.recent.len() >= RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back((now, *asker));
        }
        has_one
    }

    /// When an address was pinged and who was thought to be there, if that is remembered and not long
    /// ago.
    pub(crate) fn sent(&self, now: Instant, address: &SocketAddr) -> Option<(Instant, Id)> {
        let (at, contact) = self.recent.iter().find(|(_, other)| other.address == *address)?;
        (now < *at + AGAIN_AFTER).then_some((*at, contact.id))
    }

    fn take_of_networks(&mut self, now: u64, address: &SocketAddr) -> bool {
        if self.shares.is_empty() {
            self.shares = vec![0; SHARES].into();
            self.networks = vec![0; BUCKETS].into();
        }
        let subnets = Subnet::all_of(address.ip());
        let widest = Subnet::widest_of(address.ip());
        let share = Use { bucket: self.hash(&widest) % SHARES, cost: 1_000_000 / FEW };
        // Where the widest got few, the networks within it got no more.
        if share.is_left(&self.shares, now) && self.take_of_all(now, AHEAD_IN_ALL) {
            share.take(&mut self.shares, now);
            return true;
        }
        let rates = if address.is_ipv4() { &TO_IPV4[..] } else { &TO_IPV6[..] };
        let mut uses = [Use::default(); Subnet::LEVELS_MAX];
        let uses = &mut uses[..rates.len()];
        for ((used, subnet), rate) in uses.iter_mut().zip(subnets).zip(rates) {
            *used = Use { bucket: self.hash(&subnet) % BUCKETS, cost: 1_000_000 / rate };
        }
        let has_one = uses.iter().all(|used| used.is_left(&self.networks, now))
            && self.take_of_all(now, AHEAD_IN_ALL - RESERVED);
        if has_one {
            uses.iter().for_each(|used| used.take(&mut self.networks, now));
        }
        has_one
    }

    fn take_of_all(&mut self, now: u64, ahead: u64) -> bool {
        let is_left = self.all <= now + ahead;
        if is_left {
            self.all = self.all.max(now) + 1_000_000 / IN_ALL;
        }
        is_left
    }

    fn hash(&self, subnet: &Subnet) -> usize {
        self.hasher.hash(&subnet.to_bytes()) as usize
    }
}

/// What a ping takes of an allowance.
#[derive(Clone, Copy, Default)]
struct Use {
    bucket: usize,
    cost: u64,
}

impl Use {
    fn is_left(&self, used_until: &[u64], now: u64) -> bool {
        used_until[self.bucket] <= now + AHEAD
    }

    fn take(&self, used_until: &mut [u64], now: u64) {
        let used_until = &mut used_until[self.bucket];
        *used_until = now.max(*used_until) + self.cost;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn rations() -> Rations {
        Rations::new(&mut ChaCha8Rng::seed_from_u64(1))
    }

    fn take(rations: &mut Rations, now: Instant, address: SocketAddr) -> bool {
        rations.take(now, &Contact { id: Id::of_name("asker"), address })
    }

    /// A source of a flood, by a random number.
    type Flood = fn(u32) -> SocketAddr;

    const ANYWHERE: Flood = |number| (number.to_be_bytes(), 8_001).into();
    const IN_ONE_24: Flood =
        |number| ([192, 0, 2, number as u8], 1_024 + (number >> 16) as u16 / 2).into();
    const IN_A_HUNDRED_24: Flood =
        |number| ([10, 0, (number >> 8) as u8 % 100, number as u8], 8_001).into();
    const IN_ONE_48: Flood = |number| {
        let [a, b, c, d] = number.to_be_bytes();
        ([0x2001, 0xdb8, 0, u16::from_be_bytes([a, b]), c.into(), d.into(), 0, 1], 8_001).into()
    };

    /// How many of twenty newcomers are pinged within ten seconds of a flood, if each asks once a
    /// second, and how many of them at their first word.
    fn pinged(flood: Flood, a_second: u64, newcomer: fn(u8) -> SocketAddr) -> (usize, usize) {
        let (mut rations, mut rng) = (rations(), ChaCha8Rng::seed_from_u64(2));
        let (mut pinged, mut at_once) = ([false; 20], 0);
        for number in 0..10 * a_second {
            let now = Instant::from_micros(number * 1_000_000 / a_second);
            take(&mut rations, now, flood(rng.random()));
            if number % (a_second / 20) == 0 {
                let (round, which) = (number / a_second, (number / (a_second / 20)) % 20);
                if take(&mut rations, now, newcomer(which as u8)) && !pinged[which as usize] {
                    pinged[which as usize] = true;
                    at_once += usize::from(round == 0);
                }
            }
        }
        (pinged.iter().filter(|pinged| **pinged).count(), at_once)
    }

    const ELSEWHERE: fn(u8) -> SocketAddr = |number| ([198, 51, 100, number + 1], 8_001).into();

    #[test]
    fn no_flood_keeps_newcomers_from_being_asked() {
        for a_second in [60, 600, 6_000] {
            for flood in [ANYWHERE, IN_ONE_24, IN_A_HUNDRED_24, IN_ONE_48] {
                assert_eq!(pinged(flood, a_second, ELSEWHERE), (20, 20), "{a_second} a second");
            }
        }
        // What comes from few networks leaves others their part, however much it is.
        for flood in [IN_ONE_24, IN_A_HUNDRED_24, IN_ONE_48] {
            assert_eq!(pinged(flood, 100_000, ELSEWHERE), (20, 20));
        }
    }

    #[test]
    fn newcomers_in_the_midst_of_a_flood_are_asked_too() {
        let neighbour: fn(u8) -> SocketAddr = |number| ([192, 0, 2, number + 1], 9).into();
        for a_second in [60, 600, 6_000] {
            let (pinged, at_once) = pinged(IN_ONE_24, a_second, neighbour);
            assert_eq!(pinged, 20, "{a_second} a second");
            assert!(at_once >= 8, "{at_once} of {a_second} a second");
        }
    }

    /// The most pings within ten seconds.
    fn most(flood: Flood) -> u64 {
        let (mut rations, mut rng) = (rations(), ChaCha8Rng::seed_from_u64(2));
        let times = (0..10_000_000).step_by(20).map(Instant::from_micros);
        times.map(|now| u64::from(take(&mut rations, now, flood(rng.random())))).sum()
    }

    #[test]
    fn a_network_and_all_together_get_their_rate_and_a_burst() {
        let one: Flood = |number| ([192, 0, 2, 1], 1_024 + number as u16 / 2).into();
        assert!((330..=360).contains(&most(one)), "{}", most(one));
        for flood in [IN_ONE_24, IN_ONE_48] {
            let most = most(flood);
            assert!((10 * IN_ALL / 2..=12 * IN_ALL / 2).contains(&most), "{most}");
        }
        let most = most(ANYWHERE);
        assert!((10 * IN_ALL..10 * IN_ALL + IN_ALL / 2).contains(&most), "{most}");
    }

    #[test]
    fn an_address_is_not_pinged_again_at_once() {
        for address in ["192.0.2.1:8001", "127.0.0.1:8001", "[2001:db8::1]:8001"] {
            let (mut rations, address) = (rations(), address.parse().unwrap());
            for (millis, is_pinged) in [(0, true), (1, false), (1_499, false), (1_500, true)] {
                let now = Instant::ZERO + Duration::from_millis(millis);
                assert_eq!(take(&mut rations, now, address), is_pinged, "{address} {millis}");
                let sent =
                    Instant::ZERO + Duration::from_millis(if millis < 1_500 { 0 } else { millis });
                assert_eq!(rations.sent(now, &address).map(|(at, _)| at), Some(sent));
            }
        }
    }

    proptest! {
        #[test]
        fn no_number_of_strangers_takes_more_memory(
            sources: Vec<(u32, u32)>,
            loopback: Vec<u16>,
        ) {
            let mut rations = rations();
            let mut now = Instant::ZERO;
            for port in loopback {
                take(&mut rations, now, ([127, 0, 0, 1], port).into());
            }
            prop_assert!(rations.networks.is_empty());
            for (source, micros) in sources {
                now += Duration::from_micros((micros % 5_000).into());
                take(&mut rations, now, ANYWHERE(source));
                take(&mut rations, now, IN_ONE_48(source));
                prop_assert_eq!(rations.networks.len(), BUCKETS);
                prop_assert!(rations.recent.len() <= RECENT_MAX);
            }
        }
    }
}
