//! How much of the node's time one source may take, the networks around it, and all sources
//! together.
//!
//! Token buckets, as the fast path in the kernel has them (the generic cell rate algorithm: a bucket
//! is just the instant until which its allowance is used up). A datagram takes what it
//! [costs](super::cost): a long one, or one that is dear to answer, counts for many. The owner of an
//! address may own its neighbours too, so an IPv4 address is charged together with its /24, and a /64
//! of IPv6 with its /56 and /48. A datagram is let in while each of them has something left, and is
//! charged once its cost is known.
//!
//! A keyed hash assigns sources to buckets, so that the table never grows and nobody is pushed out
//! of it: sources that meet in one bucket share its allowance, and strangers cannot know which do. A
//! part of the common allowance is kept for sources with a validated address.
//!
//! A refused request costs little, but the socket's queue is full before a flood has been refused
//! one by one. So the sources that are refused most are reported, and the driver can have them
//! dropped before the queue.

use std::net::{IpAddr, SocketAddr};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use siphasher::sip::SipHasher13;

use crate::address::Subnet;
use crate::address::is_loopback;
use crate::config::Config;
use crate::guard::cost;
use crate::time::Instant;

/// Buckets for the networks of each width, 24 kB in all: a peaceful source shares one with a given
/// flooder only now and then.
const BUCKETS: usize = 1_024;

/// Allowances of the networks of each width, the narrowest first, in halves of what a source has. An
/// owner of many addresses, however many, gets no more than two owners of one.
const HALVES: [u64; Subnet::LEVELS_MAX] = [2, 3, 4];

/// How much of a second's allowance may be used at once: looking up a hundred values at the same
/// moment does no harm.
const BURST_NANOS: u64 = 250_000_000;

/// The part of it that is left to sources with a validated address when others use up the
/// allowance.
const RESERVED_NANOS: u64 = BURST_NANOS / 2;

/// Sources whose refusals are counted.
const WORST: usize = 16;

/// Refused datagrams within a [`WINDOW_NANOS`] that make a flood: some milliseconds of one that
/// would hurt.
const FLOOD: u32 = 1_000;
const WINDOW_NANOS: u64 = 1_000_000_000;

/// Prices are nanoseconds of allowance for a nanosecond of cost, with this many fractional bits.
const POINT: u32 = 16;

/// The token buckets that a source takes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceBuckets {
    indices: [u16; Subnet::LEVELS_MAX],
    levels: usize,
}

/// What becomes of a datagram that is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Beyond,
    /// So far beyond that it is worth telling.
    Flood,
}

pub(crate) struct Limits {
    hasher: SipHasher13,
    /// What a nanosecond of cost takes from the allowances of the networks of each width, and of all; 0:
    /// no limit.
    source_prices: [u64; Subnet::LEVELS_MAX],
    total_price: u64,
    /// The instants until which the allowances are used up, by width; empty until a source has used
    /// some.
    sources: Box<[[u64; BUCKETS]]>,
    total: u64,
    /// The sources that are refused: for datagrams that anybody could have sent, and for those that
    /// only the source itself could.
    forgeable: Worst,
    genuine: Worst,
}

impl Limits {
    pub(crate) fn new(config: &Config, secrets: &mut ChaCha8Rng) -> Limits {
        let price = |rate: u64, halves: u64| {
            (2_000_000_000_u64 << POINT).checked_div(rate * cost::CHEAPEST * halves).unwrap_or(0)
        };
        Limits {
            hasher: SipHasher13::new_with_keys(secrets.random(), secrets.random()),
            source_prices: HALVES.map(|halves| price(config.source_rate, halves)),
            total_price: price(config.total_rate, 2),
            sources: Box::default(),
            total: 0,
            forgeable: Worst::default(),
            genuine: Worst::default(),
        }
    }

    /// The buckets of a source. Loopback has none, and no limit: a hundred nodes of a lab share one
    /// address there, and nobody outside can send from it.
    #[inline]
    pub(crate) fn buckets_of(&self, source: &SocketAddr) -> Option<SourceBuckets> {
        let is_limited = self.source_prices[0] != 0 || self.total_price != 0;
        (is_limited && !is_loopback(source)).then(|| self.buckets_at(source.ip()))
    }

    /// One hash serves all widths, each of which takes other bits of it. The bits that tell the
    /// networks within the widest apart are added, so that no two neighbours ever share a bucket.
    #[inline]
    fn buckets_at(&self, ip: IpAddr) -> SourceBuckets {
        let (hash, within, levels) = match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                (self.hasher.hash(&[a, b, c]), [u64::from(d), 0, 0], 2)
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                let within_56 = u64::from(g);
                let within_64 = within_56 << 8 | u64::from(h);
                (self.hasher.hash(&[a, b, c, d, e, f]), [within_64, within_56, 0], 3)
            }
        };
        let bucket = |level: usize| {
            let part = hash >> (20 * level);
            (part.wrapping_add(within[level]) % BUCKETS as u64) as u16
        };
        SourceBuckets { indices: [bucket(0), bucket(1), bucket(2)], levels }
    }

    /// Whether a source and the networks around it have something left.
    #[inline]
    pub(crate) fn has_left(&self, now: Instant, buckets: &SourceBuckets) -> bool {
        let now = nanos(now);
        self.sources.is_empty()
            || (0..buckets.levels).all(|level| {
                let used_until = self.sources[level][usize::from(buckets.indices[level])];
                used_until.saturating_sub(now) <= BURST_NANOS
            })
    }

    /// Whether the common allowance has something left; for sources with a validated address the
    /// reserve counts too.
    #[inline]
    pub(crate) fn has_left_for_all(&self, now: Instant, is_proved: bool) -> bool {
        let reserved = if is_proved { 0 } else { RESERVED_NANOS };
        self.total.saturating_sub(nanos(now)) <= BURST_NANOS - reserved
    }

    /// Takes what a datagram has cost from the allowances of its source.
    #[inline]
    pub(crate) fn charge(&mut self, now: Instant, buckets: &SourceBuckets, cost: u64) {
        if self.source_prices[0] == 0 {
            return;
        }
        if self.sources.is_empty() {
            self.sources = vec![[0; BUCKETS]; Subnet::LEVELS_MAX].into();
        }
        let now = nanos(now);
        for level in 0..buckets.levels {
            let used_until = &mut self.sources[level][usize::from(buckets.indices[level])];
            take(used_until, now, cost, self.source_prices[level]);
        }
    }

    /// Takes what a request has cost from the common allowance.
    #[inline]
    pub(crate) fn charge_all(&mut self, now: Instant, cost: u64) {
        take(&mut self.total, nanos(now), cost, self.total_price);
    }

    /// Counts a datagram that was not let in. It is `genuine` if nobody but the source can have sent it.
    pub(crate) fn refuse(&mut self, now: Instant, source: IpAddr, genuine: bool) -> Refused {
        let source = Subnet::all_of(source).next().expect("an address lies in some network");
        let worst = if genuine { &mut self.genuine } else { &mut self.forgeable };
        if worst.count(nanos(now), source) { Refused::Flood } else { Refused::Beyond }
    }
}

fn nanos(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1_000)
}

/// Uses up some of an allowance.
fn take(used_until: &mut u64, now: u64, cost: u64, price: u64) {
    let taken = (cost.max(cost::CHEAPEST) * price) >> POINT;
    *used_until = now.max(*used_until).saturating_add(taken);
}

/// The sources that are refused the most, by the algorithm of Misra and Gries (1982): no source
/// that makes up more than a seventeenth of all refusals is missed, however many others there are.
#[derive(Default)]
struct Worst {
    since: u64,
    counts: Vec<(Subnet, u32)>,
}

impl Worst {
    /// Counts one more. Returns whether that makes a flood, after which the count starts anew.
    fn count(&mut self, now: u64, source: Subnet) -> bool {
        if now - self.since >= WINDOW_NANOS {
            self.since = now;
            self.counts.clear();
        }
        if let Some(place) = self.counts.iter().position(|&(other, _)| other == source) {
            self.counts[place].1 += 1;
            let is_flood = self.counts[place].1 >= FLOOD;
            if is_flood {
                self.counts.swap_remove(place);
            }
            return is_flood;
        }
        if self.counts.len() < WORST {
            self.counts.push((source, 1));
        } else {
            self.counts.retain_mut(|(_, count)| {
                *count -= 1;
                *count > 0
            });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;
    use crate::time::Duration;

    fn limits(source_rate: u64, total_rate: u64) -> Limits {
        let config = Config { source_rate, total_rate, ..Config::default() };
        Limits::new(&config, &mut ChaCha8Rng::from_seed([7; 32]))
    }

    /// One of many addresses, each in a /24 of its own.
    fn source(number: u32) -> SocketAddr {
        (IpAddr::V4((0x0a00_0000 + (number << 8)).into()), 8_001).into()
    }

    /// Asks something that costs `cost`. Returns whether it was let in.
    fn asks(limits: &mut Limits, now: Instant, source: &SocketAddr, cost: u64) -> bool {
        let Some(buckets) = limits.buckets_of(source) else { return true };
        let is_let_in = limits.has_left(now, &buckets);
        if is_let_in {
            limits.charge(now, &buckets, cost);
        }
        is_let_in
    }

    /// How many of `count` pings, one every `every`, are let in.
    fn let_in(
        limits: &mut Limits,
        every: Duration,
        count: u32,
        from: impl Fn(u32) -> SocketAddr,
    ) -> u32 {
        let mut now = Instant::ZERO;
        let mut let_in = 0;
        for number in 0..count {
            let_in += u32::from(asks(limits, now, &from(number), 0));
            now += every;
        }
        let_in
    }

    #[test]
    fn a_source_gets_its_rate_and_a_burst() {
        // Ten times the rate of 2,000 a second, for five seconds.
        let mut limits = limits(2_000, 0);
        let let_in = let_in(&mut limits, Duration::from_micros(50), 100_000, |_| source(1));
        assert!((10_500..=10_502).contains(&let_in), "{let_in}");
    }

    #[test]
    fn a_source_that_keeps_to_its_rate_is_never_refused() {
        let mut limits = limits(2_000, 0);
        let every = Duration::from_micros(500);
        assert_eq!(let_in(&mut limits, every, 100_000, |_| source(1)), 100_000);
    }

    #[test]
    fn what_costs_more_counts_for_more() {
        for (times, expected) in [(1, 20_500), (10, 2_050), (1_000, 21)] {
            let mut limits = limits(2_000, 0);
            let let_in = (0..1_000_000)
                .filter(|&micros| {
                    let now = Instant::from_micros(micros * 10);
                    asks(&mut limits, now, &source(1), times * cost::CHEAPEST)
                })
                .count();
            assert!((expected..=expected + 2).contains(&let_in), "{times}: {let_in}");
        }
    }

    /// How much the sources of a network get together, as a multiple of what one source gets.
    fn gain(addresses: &[&str]) -> f64 {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        let mut limits = limits(2_000, 0);
        let count = 400_000;
        let from = |number: u32| addresses[number as usize % addresses.len()];
        let together = let_in(&mut limits, Duration::from_micros(25), count, from);
        f64::from(together) / 20_500.0
    }

    #[test]
    fn an_owner_of_many_addresses_gets_no_more_than_two_who_have_one() {
        assert!((0.99..1.01).contains(&gain(&["192.0.2.1:1", "192.0.2.1:2"])));
        let three = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
        assert!((1.49..1.51).contains(&gain(&three)));
        let in_24: Vec<String> = (0..256).map(|last| format!("192.0.2.{last}:1")).collect();
        let many = |texts: &[String]| gain(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert!((1.49..1.51).contains(&many(&in_24)));
        assert!((0.99..1.01).contains(&gain(&["[2001:db8::1]:1", "[2001:db8::ffff:0:0:1]:1"])));
        let in_56: Vec<_> = (0..256).map(|net| format!("[2001:db8:0:{net:x}::1]:1")).collect();
        assert!((1.49..1.51).contains(&many(&in_56)));
        let in_48: Vec<_> =
            (0..4_000).map(|net| format!("[2001:db8:0:{:x}::1]:1", net * 16)).collect();
        assert!((1.99..2.01).contains(&many(&in_48)));
        assert!(gain(&["192.0.2.1:1", "192.0.3.1:1", "192.0.4.1:1"]) > 2.9);
        assert!(gain(&["[2001:db8:1::1]:1", "[2001:db8:2::1]:1", "[2001:db8:3::1]:1"]) > 2.9);
    }

    /// The part of a core that these sources take together, with the limits that a node has unless it
    /// is told otherwise. They begin with a burst, and ask for many times what is left to them.
    fn part_of_a_core(sources: &[SocketAddr], cost: u64) -> f64 {
        let mut limits = Limits::new(&Config::default(), &mut ChaCha8Rng::from_seed([7; 32]));
        let take_all = |limits: &mut Limits, now| {
            let let_in = |source: &&SocketAddr| asks(limits, now, source, cost);
            sources.iter().filter(let_in).count() as u64
        };
        while take_all(&mut limits, Instant::ZERO) > 0 {}
        let (step_micros, seconds) = (sources.len() as u64 * 100, 4);
        let instants = (0..seconds * 1_000_000).step_by(step_micros as usize);
        let count: u64 = instants
            .map(|micros| {
                let now = Instant::from_micros(micros);
                (0..10).map(|_| take_all(&mut limits, now)).sum::<u64>()
            })
            .sum();
        (count * cost) as f64 / (seconds * 1_000_000_000) as f64
    }

    #[test]
    fn no_owner_of_a_network_takes_more_than_a_tenth_of_a_core() {
        let in_48 = |network: u16, host: u16| {
            SocketAddr::from(([0x2001, 0xdb8, 0, network, 0, 0, 0, host], 8_001))
        };
        let in_24 = |last: u8| SocketAddr::from(([192, 0, 2, last], 8_001));
        let networks: [(&str, Vec<SocketAddr>); 5] = [
            ("address", vec![in_24(1)]),
            ("/24", (0..=255).map(in_24).collect()),
            ("/64", (0..100).map(|host| in_48(0, host)).collect()),
            ("/56", (0..256).map(|network| in_48(network, 1)).collect()),
            ("/48", (0..256).map(|number| in_48(number << 8, number)).collect()),
        ];
        for (name, sources) in networks {
            for cost in [cost::CHEAPEST, 100 * cost::CHEAPEST] {
                let part = part_of_a_core(&sources, cost);
                assert!((0.04..=0.1).contains(&part), "{name}, {cost} ns each: {part}");
            }
        }
    }

    #[test]
    fn who_shares_a_network_shares_its_bucket() {
        let limits = limits(1, 0);
        let ips = [
            "192.0.2.1",
            "192.0.2.2",
            "192.0.3.1",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:0:1::1",
            "2001:db8:0:101::1",
            "2001:db8:1::1",
            "2001:db8:1:101::1",
        ]
        .map(|text| text.parse::<IpAddr>().unwrap());
        for a in ips {
            for b in ips.into_iter().filter(|b| b.is_ipv4() == a.is_ipv4()) {
                let subnets = Subnet::all_of(a).zip(Subnet::all_of(b));
                let buckets = [a, b].map(|ip| limits.buckets_at(ip));
                assert_eq!(buckets[0].levels, Subnet::all_of(a).count());
                for (level, (of_a, of_b)) in subnets.enumerate() {
                    let is_shared = buckets[0].indices[level] == buckets[1].indices[level];
                    assert_eq!(is_shared, of_a == of_b, "{a} {b} {level}");
                }
            }
        }
    }

    #[test]
    fn without_limits_and_on_loopback_all_is_let_in() {
        let every = Duration::from_micros(1);
        assert_eq!(let_in(&mut limits(0, 0), every, 50_000, |_| source(1)), 50_000);
        let limits = limits(1, 1);
        for loopback in ["127.0.0.1:1", "[::1]:1"] {
            assert_eq!(limits.buckets_of(&loopback.parse().unwrap()), None);
        }
    }

    #[test]
    fn few_of_many_sources_share_a_bucket_with_a_flood() {
        let mut limits = limits(2_000, 0);
        while asks(&mut limits, Instant::ZERO, &source(0), 0) {}
        let is_refused = |&number: &u32| !asks(&mut limits, Instant::ZERO, &source(number), 0);
        let refused = (1..=10_000).filter(is_refused).count();
        // One in 1,024 for the address, and none for the /24, of which half is left: three standard
        // deviations.
        assert!(refused <= 10 + 10, "{refused}");
    }

    #[test]
    fn which_sources_share_a_bucket_is_up_to_the_key() {
        let buckets = |seed| {
            let mut secrets = ChaCha8Rng::from_seed([seed; 32]);
            let limits = Limits::new(&Config::default(), &mut secrets);
            let of = |number| limits.buckets_at(source(number).ip()).indices;
            (0..100).map(of).collect::<Vec<_>>()
        };
        assert_eq!(buckets(1), buckets(1));
        assert_ne!(buckets(1), buckets(2));
        let all: BTreeSet<u16> = buckets(1).into_iter().map(|[narrow, ..]| narrow).collect();
        assert!(all.len() > 85, "{} of 100", all.len());
    }

    #[test]
    fn the_reserve_is_for_those_who_proved_their_address() {
        let mut limits = limits(0, 1_000);
        let ask = |limits: &mut Limits, now, is_proved| {
            let is_let_in = limits.has_left_for_all(now, is_proved);
            if is_let_in {
                limits.charge_all(now, 0);
            }
            is_let_in
        };
        let (mut strangers, mut proved) = (0, 0);
        // Strangers ask a hundred times what there is, others nine tenths of it.
        for micros in (0..10_000_000).step_by(10) {
            let now = Instant::from_micros(micros);
            strangers += u32::from(ask(&mut limits, now, false));
            if micros % 10_000 < 9_000 && micros % 1_000 == 0 {
                proved += u32::from(ask(&mut limits, now, true));
            }
        }
        assert_eq!(proved, 9_000);
        assert!((1_000..=1_200).contains(&strangers), "{strangers}");
    }

    fn subnet(number: u32) -> Subnet {
        Subnet::all_of(source(number).ip()).next().unwrap()
    }

    /// How many datagrams of a flood are refused until it is reported, if `others` come with each,
    /// all of them from somewhere else.
    fn told_after(others: u32) -> Option<u32> {
        let mut worst = Worst::default();
        let count = |worst: &mut Worst, number| worst.count(0, subnet(number));
        (1..10_000).find(|round| {
            (0..others).for_each(|other| assert!(!count(&mut worst, round * 100 + other)));
            count(&mut worst, 0)
        })
    }

    #[test]
    fn a_flood_is_told_of_alone_and_among_others() {
        assert_eq!(told_after(0), Some(FLOOD));
        assert!(told_after(9).is_some_and(|rounds| (FLOOD..3 * FLOOD).contains(&rounds)));
    }

    #[test]
    fn what_is_refused_over_a_long_time_is_no_flood() {
        let mut worst = Worst::default();
        // A little less than a flood, every window.
        let every = WINDOW_NANOS / u64::from(FLOOD - 1) + 1;
        assert!((0..100_000).all(|number| !worst.count(number * every, subnet(1))));
    }

    #[test]
    fn what_is_forged_in_a_name_makes_no_flood_of_what_the_source_sends() {
        let mut limits = limits(1, 1);
        let ip = source(1).ip();
        let mut refuse = |genuine| limits.refuse(Instant::ZERO, ip, genuine) == Refused::Flood;
        assert!((1..FLOOD).all(|_| !refuse(true)));
        assert_eq!((0..10 * FLOOD).filter(|_| refuse(false)).count(), 10);
        assert!(refuse(true));
    }

    proptest! {
        /// Memory stays what it is, whoever sends.
        #[test]
        fn no_number_of_sources_takes_more_memory(
            numbers in prop::collection::vec(0_u32..60_000, 1..3_000),
            step in 0_u64..100,
        ) {
            let mut limits = limits(1, 1_000);
            for (index, &number) in numbers.iter().enumerate() {
                let now = Instant::from_micros(index as u64 * step);
                for genuine in [false, true] {
                    if !asks(&mut limits, now, &source(number), 0) {
                        limits.refuse(now, source(number).ip(), genuine);
                    }
                }
            }
            prop_assert_eq!(size_of_val(&*limits.sources), 24 << 10);
            prop_assert!(limits.forgeable.counts.len() <= WORST);
            prop_assert!(limits.genuine.counts.len() <= WORST);
        }

        /// Never more cost than the rate and a burst, and one datagram, whenever it comes.
        #[test]
        fn no_pattern_in_time_gets_more_than_rate_and_burst(
            asked in prop::collection::vec((0_u64..5_000, 0_u64..1_000_000), 1..5_000),
            rate in 1_u64..100_000,
        ) {
            let mut limits = limits(rate, 0);
            let (mut now, mut taken, mut last) = (0, 0, 0);
            for (gap, cost) in asked {
                now += gap;
                if asks(&mut limits, Instant::from_micros(now), &source(1), cost) {
                    last = cost.max(cost::CHEAPEST);
                    taken += last;
                }
            }
            let allowance = (now * 1_000 + BURST_NANOS) as f64 * (rate * cost::CHEAPEST) as f64 / 1e9;
            prop_assert!((taken - last) as f64 <= allowance * 1.001 + 1e4, "{taken} {allowance}");
        }
    }
}
