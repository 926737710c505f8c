//! How much one source may ask, and all of them together.
//!
//! Token buckets, as the fast path in the kernel has them (the generic cell rate algorithm: of each
//! bucket only the instant is kept until which its allowance is used up). The buckets of sources
//! are shared by a keyed hash, so that the table never grows and nobody is pushed out of it: sources
//! that meet in one bucket share its allowance, and strangers cannot know who meets whom. Of the
//! allowance for all together a part is kept for those who have proved their address.
//!
//! A refused request costs little, but the queue of a socket is full before a flood was refused in
//! turn. So who is refused most is told of, and the driver can have it dropped before the queue.

use std::net::{IpAddr, SocketAddr};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use siphasher::sip::SipHasher13;

use crate::node::config::Config;
use crate::node::validated::is_loopback;
use crate::time::Instant;

/// Buckets of sources: 8 kB, and who asks in peace shares one with a given flooder once in so often.
const BUCKETS: usize = 1_024;

/// How much of a second's allowance may be asked at once: who looks up a hundred values at the same
/// moment does no harm.
const BURST_NANOS: u64 = 250_000_000;

/// The part of it that is left to sources with a proved address when others use up the allowance.
const RESERVED_NANOS: u64 = BURST_NANOS / 5;

/// Sources of whom it is counted what was refused.
const WORST: usize = 16;

/// Refused datagrams within a [`WINDOW_NANOS`] that make a flood: some milliseconds of one that
/// would hurt.
const FLOOD: u32 = 1_000;
const WINDOW_NANOS: u64 = 1_000_000_000;

/// Who counts as one: an IPv4 address, or a /64 of IPv6, whose owner has all of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source([u8; 8]);

impl Source {
    fn of(ip: IpAddr) -> Source {
        let mut bytes = [0; 8];
        match ip.to_canonical() {
            // IPv6 reserves what begins with so many zeros.
            IpAddr::V4(ip) => bytes[4..].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.copy_from_slice(&ip.octets()[..8]),
        }
        Source(bytes)
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Within,
    Beyond,
    /// Beyond by so much that it is worth telling.
    Flood,
}

pub(super) struct Limits {
    hasher: SipHasher13,
    /// Nanoseconds that a datagram costs its source, and all sources together; 0: no limit.
    source_cost: u64,
    total_cost: u64,
    /// Until when the allowances are used up; empty until a source has used some.
    sources: Box<[u64]>,
    total: u64,
    refused: Refused,
}

impl Limits {
    pub(super) fn new(config: &Config, secrets: &mut ChaCha8Rng) -> Limits {
        let cost = |rate| 1_000_000_000_u64.checked_div(rate).unwrap_or(0);
        Limits {
            hasher: SipHasher13::new_with_keys(secrets.random(), secrets.random()),
            source_cost: cost(config.source_rate),
            total_cost: cost(config.total_rate),
            sources: Box::default(),
            total: 0,
            refused: Refused::default(),
        }
    }

    /// Takes the cost of a datagram from the allowance of its source. Loopback has no limit: a
    /// hundred nodes of a lab share one address there, and nobody outside can send from it.
    pub(super) fn charge_source(&mut self, now: Instant, source: SocketAddr) -> Verdict {
        if self.source_cost == 0 || is_loopback(&source) {
            return Verdict::Within;
        }
        if self.sources.is_empty() {
            self.sources = vec![0; BUCKETS].into();
        }
        let source = Source::of(source.ip());
        let bucket = self.hasher.hash(&source.0) as usize % BUCKETS;
        let now = nanos(now);
        if take(&mut self.sources[bucket], now, self.source_cost, BURST_NANOS) {
            Verdict::Within
        } else if self.refused.count(now, source) {
            Verdict::Flood
        } else {
            Verdict::Beyond
        }
    }

    /// Takes the cost of a request from the allowance of all sources together, if some is left, for
    /// those with a proved address what is reserved too.
    pub(super) fn charge_all(&mut self, now: Instant, source: SocketAddr, is_proved: bool) -> bool {
        if self.total_cost == 0 || is_loopback(&source) {
            return true;
        }
        let reserved = if is_proved { 0 } else { RESERVED_NANOS };
        take(&mut self.total, nanos(now), self.total_cost, BURST_NANOS - reserved)
    }
}

fn nanos(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1_000)
}

/// Uses up some of an allowance, if so much may be used ahead of time.
fn take(used_until: &mut u64, now: u64, cost: u64, ahead: u64) -> bool {
    let start = now.max(*used_until);
    if start - now > ahead {
        return false;
    }
    *used_until = start.saturating_add(cost);
    true
}

/// The sources that are refused the most, as Misra and Gries (1982) find what is frequent: of any
/// that make up more than a seventeenth of what is refused none is missed, however many others
/// there are.
#[derive(Default)]
struct Refused {
    since: u64,
    worst: Vec<(Source, u32)>,
}

impl Refused {
    /// Counts one more; tells whether that makes a flood, from which the count starts anew.
    fn count(&mut self, now: u64, source: Source) -> bool {
        if now - self.since >= WINDOW_NANOS {
            self.since = now;
            self.worst.clear();
        }
        if let Some(place) = self.worst.iter().position(|&(other, _)| other == source) {
            self.worst[place].1 += 1;
            let is_flood = self.worst[place].1 >= FLOOD;
            if is_flood {
                self.worst.swap_remove(place);
            }
            return is_flood;
        }
        if self.worst.len() < WORST {
            self.worst.push((source, 1));
        } else {
            self.worst.retain_mut(|(_, count)| {
                *count -= 1;
                *count > 0
            });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;
    use crate::time::Duration;

    fn limits(source_rate: u64, total_rate: u64) -> Limits {
        let config = Config { source_rate, total_rate, ..Config::default() };
        Limits::new(&config, &mut ChaCha8Rng::from_seed([7; 32]))
    }

    fn source(number: u32) -> SocketAddr {
        (IpAddr::V4((0x0a00_0000 + number).into()), 8_001).into()
    }

    /// How many of so many datagrams, one each span, are within the limit.
    fn within(
        limits: &mut Limits,
        every: Duration,
        count: u32,
        from: impl Fn(u32) -> SocketAddr,
    ) -> u32 {
        let mut now = Instant::ZERO;
        let mut within = 0;
        for number in 0..count {
            within += u32::from(limits.charge_source(now, from(number)) == Verdict::Within);
            now += every;
        }
        within
    }

    #[test]
    fn a_source_gets_its_rate_and_a_burst() {
        // Ten times the rate of 2,000 a second, for five seconds.
        let mut limits = limits(2_000, 0);
        let let_in = within(&mut limits, Duration::from_micros(50), 100_000, |_| source(1));
        assert!((10_500..=10_502).contains(&let_in), "{let_in}");
    }

    #[test]
    fn a_source_that_keeps_to_its_rate_is_never_refused() {
        let mut limits = limits(2_000, 0);
        let every = Duration::from_micros(500);
        assert_eq!(within(&mut limits, every, 100_000, |_| source(1)), 100_000);
    }

    #[test]
    fn without_limits_and_on_loopback_all_is_within() {
        let every = Duration::from_micros(1);
        assert_eq!(within(&mut limits(0, 0), every, 50_000, |_| source(1)), 50_000);
        let mut limits = limits(1, 1);
        for loopback in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let loopback: SocketAddr = loopback.parse().unwrap();
            assert_eq!(within(&mut limits, every, 50_000, |_| loopback), 50_000);
            assert!((0..1_000).all(|_| limits.charge_all(Instant::ZERO, loopback, false)));
        }
        assert!(limits.sources.is_empty());
    }

    #[test]
    fn an_owner_of_a_64_is_one_source_and_neighbours_are_others() {
        let address = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert_eq!(address("10.0.0.1"), address("::ffff:10.0.0.1"));
    }

    #[test]
    fn few_of_many_sources_share_a_bucket_with_a_flood() {
        let mut limits = limits(2_000, 0);
        let flood = |limits: &mut Limits, now| {
            (0..1_000).for_each(|_| _ = limits.charge_source(now, source(0)));
        };
        flood(&mut limits, Instant::ZERO);
        let refused = (1..=10_000)
            .filter(|&number| {
                limits.charge_source(Instant::ZERO, source(number)) != Verdict::Within
            })
            .count();
        // One in 1,024: three standard deviations.
        assert!(refused <= 10 + 10, "{refused}");
    }

    #[test]
    fn which_sources_share_a_bucket_is_up_to_the_key() {
        let buckets = |seed| {
            let mut secrets = ChaCha8Rng::from_seed([seed; 32]);
            let limits = Limits::new(&Config::default(), &mut secrets);
            let bucket = |number| limits.hasher.hash(&Source::of(source(number).ip()).0) % 1_024;
            (0..100).map(bucket).collect::<Vec<_>>()
        };
        assert_eq!(buckets(1), buckets(1));
        assert_ne!(buckets(1), buckets(2));
    }

    #[test]
    fn the_reserve_is_for_those_who_proved_their_address() {
        let mut limits = limits(0, 1_000);
        let ask_proved = |limits: &mut Limits, now| {
            limits.charge_all(now, source(2), false) || limits.charge_all(now, source(2), true)
        };
        let (mut strangers, mut proved) = (0, 0);
        // Strangers ask a hundred times what there is, others a tenth of it.
        for micros in (0..10_000_000).step_by(10) {
            let now = Instant::from_micros(micros);
            strangers += u32::from(limits.charge_all(now, source(1), false));
            if micros % 10_000 == 0 {
                proved += u32::from(ask_proved(&mut limits, now));
            }
        }
        assert_eq!(proved, 1_000);
        assert!((9_000..=9_300).contains(&strangers), "{strangers}");
    }

    /// How many datagrams of a flood are refused until it is told of, if so many others come with
    /// each, all of them from somewhere else.
    fn told_after(others: u32) -> Option<u32> {
        let mut refused = Refused::default();
        let count =
            |refused: &mut Refused, number| refused.count(0, Source::of(source(number).ip()));
        (1..10_000).find(|round| {
            (0..others).for_each(|other| assert!(!count(&mut refused, round * 100 + other)));
            count(&mut refused, 0)
        })
    }

    #[test]
    fn a_flood_is_told_of_alone_and_among_others() {
        assert_eq!(told_after(0), Some(FLOOD));
        assert!(told_after(9).is_some_and(|rounds| (FLOOD..3 * FLOOD).contains(&rounds)));
    }

    #[test]
    fn what_is_refused_over_a_long_time_is_no_flood() {
        let mut refused = Refused::default();
        let source = Source::of(source(1).ip());
        // A little less than a flood, every window.
        let every = WINDOW_NANOS / u64::from(FLOOD - 1) + 1;
        assert!((0..100_000).all(|number| !refused.count(number * every, source)));
    }

    proptest! {
        /// Memory stays what it is, whoever sends.
        #[test]
        fn no_number_of_sources_takes_more_memory(
            numbers in prop::collection::vec(0_u32..100_000, 1..3_000),
            step in 0_u64..100,
        ) {
            let mut limits = limits(1, 1_000);
            for (index, &number) in numbers.iter().enumerate() {
                let now = Instant::from_micros(index as u64 * step);
                limits.charge_source(now, source(number));
                limits.charge_source(now, source(number));
            }
            prop_assert_eq!(limits.sources.len(), BUCKETS);
            prop_assert!(limits.refused.worst.len() <= WORST);
        }

        /// Never more than the rate and a burst, whenever it comes.
        #[test]
        fn no_pattern_in_time_gets_more_than_rate_and_burst(
            gaps in prop::collection::vec(0_u64..5_000, 1..5_000),
            rate in 1_u64..100_000,
        ) {
            let mut limits = limits(rate, 0);
            let (mut now, mut let_in) = (0, 0_u64);
            for gap in gaps {
                now += gap;
                let verdict = limits.charge_source(Instant::from_micros(now), source(1));
                let_in += u64::from(verdict == Verdict::Within);
            }
            let cost = 1_000_000_000 / rate;
            prop_assert!(let_in <= (now * 1_000 + BURST_NANOS) / cost + 1);
        }
    }
}
