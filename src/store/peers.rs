//! Peers of torrents: who shares what, for those who look for it (BEP 5, BEP 33, BEP 51).
//!
//! A peer is an address and a port under a torrent, and is forgotten unless it announces itself again. Nobody
//! can announce another address than its own, so the networks that announce are the accounts here:
//!
//! | bound | of all peers | why |
//! |---|---|---|
//! | all | [`Limits::peers`] | memory, some 300 bytes a peer |
//! | one torrent | [`MAX_PER_TORRENT`] | an answer holds a fifth of them |
//! | one address in a torrent | [`MAX_PORTS`] | several clients behind one router |
//! | one network in a torrent | an eighth of the torrent's | nobody pushes all others out of a torrent |
//! | one network | a tenth of all | nobody fills the store |
//!
//! What is full in a torrent, or in all, makes room by forgetting who announced itself the longest ago; what
//! is full for a network refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::address::{Scope, Subnet};
use crate::bloom::Filter;
use crate::id::Id;
use crate::message::mainline::Filters;
use crate::time::{Duration, Instant};

/// Peers of one torrent: five times what an answer can carry.
pub const MAX_PER_TORRENT: usize = 512;

/// Peers at one address in one torrent.
pub const MAX_PORTS: usize = 4;

/// Torrents in a sample: what other nodes give.
pub const MAX_SAMPLE: usize = 20;

/// How long a sample stays the same. Shorter, and whoever asks often learns all torrents in an hour; longer,
/// and whoever measures the network learns little.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(300);

/// How many peers are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers of all torrents.
    pub peers: usize,
    /// From one announcement to the end, without another.
    pub lifetime: Duration,
}

/// The peers of all torrents.
#[derive(Debug)]
pub struct Peers {
    limits: Limits,
    torrents: BTreeMap<Id, Vec<Peer>>,
    /// When each is forgotten.
    ends: BTreeSet<(Instant, Id, SocketAddr)>,
    /// How many each network has.
    held: BTreeMap<Subnet, usize>,
    sample: Vec<Id>,
    sampled_until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    address: SocketAddr,
    is_seed: bool,
    until: Instant,
}

/// Why a peer is not kept: its network has its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("your network has its share of places")]
pub struct NoShare;

impl Peers {
    /// None yet.
    pub fn new(limits: Limits) -> Peers {
        Peers {
            limits,
            torrents: BTreeMap::new(),
            ends: BTreeSet::new(),
            held: BTreeMap::new(),
            sample: Vec::new(),
            sampled_until: Instant::ZERO,
        }
    }

    /// Keeps a peer that announces itself, or notes that it is still there.
    ///
    /// # Errors
    /// If its network has its share.
    pub fn announce(
        &mut self,
        now: Instant,
        info_hash: Id,
        address: SocketAddr,
        is_seed: bool,
    ) -> Result<(), NoShare> {
        self.expire(now);
        self.forget(&info_hash, &address);
        let network = network(address.ip());
        if let Some(network) = network
            && self.held.get(&network).is_some_and(|&held| held >= self.limits.peers.div_ceil(10))
        {
            return Err(NoShare);
        }
        let peers = self.torrents.get(&info_hash).map_or(&[][..], Vec::as_slice);
        let oldest = |is_it: &dyn Fn(&Peer) -> bool, max: usize| {
            let alike = peers.iter().filter(|peer| is_it(peer));
            (alike.clone().count() >= max)
                .then(|| alike.min_by_key(|peer| peer.until).expect("there are many").address)
        };
        let in_way = oldest(&|peer| peer.address.ip() == address.ip(), MAX_PORTS)
            .or_else(|| {
                let network = network?;
                oldest(&|peer| network.contains(peer.address.ip()), MAX_PER_TORRENT / 8)
            })
            .or_else(|| oldest(&|_| true, MAX_PER_TORRENT));
        if let Some(oldest) = in_way {
            self.forget(&info_hash, &oldest);
        }
        if self.ends.len() >= self.limits.peers {
            let &(_, torrent, oldest) = self.ends.first().expect("there are many");
            self.forget(&torrent, &oldest);
        }
        let until = now + self.limits.lifetime;
        self.torrents.entry(info_hash).or_default().push(Peer { address, is_seed, until });
        self.ends.insert((until, info_hash, address));
        if let Some(network) = network {
            *self.held.entry(network).or_default() += 1;
        }
        Ok(())
    }

    /// Forgets those whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(until, info_hash, address)) = self.ends.first()
            && until <= now
        {
            self.forget(&info_hash, &address);
        }
    }

    /// When the next is forgotten.
    pub fn next_due(&self) -> Instant {
        self.ends.first().map_or(Instant::NEVER, |(until, ..)| *until)
    }

    /// How many peers a torrent has.
    pub fn count(&self, info_hash: &Id) -> usize {
        self.torrents.get(info_hash).map_or(0, Vec::len)
    }

    /// How many peers all torrents have.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Puts at most `max` of a torrent's peers into `picked`: any of them, or without those that have all of
    /// it. They follow each other in the order of their announcements, from one by chance on.
    pub fn pick(
        &self,
        info_hash: &Id,
        max: usize,
        no_seeds: bool,
        rng: &mut ChaCha8Rng,
        picked: &mut Vec<SocketAddr>,
    ) {
        picked.clear();
        let peers = self.torrents.get(info_hash).map_or(&[][..], Vec::as_slice);
        if !peers.is_empty() {
            let (behind, before) = peers.split_at(rng.random_range(0..peers.len()));
            let wanted = before.iter().chain(behind).filter(|peer| !(no_seeds && peer.is_seed));
            picked.extend(wanted.take(max).map(|peer| peer.address));
        }
    }

    /// All peers of a torrent as filters, if it has any.
    pub fn filters(&self, info_hash: &Id) -> Option<Filters> {
        let peers = self.torrents.get(info_hash)?;
        let filter = |is_seed: bool| {
            let alike = peers.iter().filter(|peer| peer.is_seed == is_seed);
            alike.map(|peer| peer.address.ip()).collect::<Filter>()
        };
        Some(Filters { seeds: filter(true), peers: filter(false) })
    }

    /// Takes another sample of the torrents, if it is time for that.
    pub fn renew_sample(&mut self, now: Instant, rng: &mut ChaCha8Rng) {
        if self.sampled_until <= now {
            self.sampled_until = now + SAMPLE_INTERVAL;
            self.sample.clear();
            // Each torrent is as likely as another: ids are spread evenly.
            let start = Id::random(rng);
            let all = self.torrents.range(start..).chain(self.torrents.range(..start));
            self.sample.extend(all.map(|(info_hash, _)| *info_hash).take(MAX_SAMPLE));
        }
    }

    /// How many torrents there are, some of them, and how long it will be these.
    pub fn sample(&self, now: Instant) -> (usize, &[Id], Duration) {
        (self.torrents.len(), &self.sample, self.sampled_until.since(now))
    }

    fn forget(&mut self, info_hash: &Id, address: &SocketAddr) {
        let Some(peers) = self.torrents.get_mut(info_hash) else { return };
        let Some(at) = peers.iter().position(|peer| peer.address == *address) else { return };
        let Peer { until, .. } = peers.remove(at);
        if peers.is_empty() {
            self.torrents.remove(info_hash);
        }
        self.ends.remove(&(until, *info_hash, *address));
        if let Some(network) = network(address.ip())
            && let Some(held) = self.held.get_mut(&network)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&network);
            }
        }
    }
}

/// The network that an address counts to, the widest that one owner may hold. Where each address has another
/// owner there is none.
pub(super) fn network(ip: IpAddr) -> Option<Subnet> {
    (Scope::of(ip) == Scope::Global).then(|| Subnet::all_of(ip).last()).flatten()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const LIMITS: Limits = Limits { peers: 2_000, lifetime: Duration::from_secs(2_700) };
    const TORRENT: Id = Id::new([7; Id::LEN]);

    fn at(number: u32) -> SocketAddr {
        let [_, a, b, c] = number.to_be_bytes();
        ([11 + a, b, c, 1], 6_881).into()
    }

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    fn all(peers: &Peers, no_seeds: bool) -> BTreeSet<SocketAddr> {
        let mut picked = vec![at(9)];
        peers.pick(&TORRENT, usize::MAX, no_seeds, &mut rng(), &mut picked);
        picked.into_iter().collect()
    }

    #[test]
    fn a_peer_is_there_until_its_time_is_over_or_it_announces_itself_again() {
        let mut peers = Peers::new(LIMITS);
        let secs = |secs| Instant::ZERO + Duration::from_secs(secs);
        peers.announce(secs(0), TORRENT, at(1), false).unwrap();
        peers.announce(secs(0), TORRENT, at(2), false).unwrap();
        peers.announce(secs(1_000), TORRENT, at(1), true).unwrap();
        assert_eq!(all(&peers, false), [at(1), at(2)].into());
        assert_eq!(all(&peers, true), [at(2)].into(), "the other has turned a seed");
        assert_eq!(peers.next_due(), secs(2_700));
        peers.expire(secs(2_700));
        assert_eq!(all(&peers, false), [at(1)].into());
        peers.expire(secs(3_700));
        assert_eq!((peers.len(), peers.count(&TORRENT), peers.next_due()), (0, 0, Instant::NEVER));
        assert!(peers.held.is_empty() && peers.torrents.is_empty());
    }

    #[test]
    fn a_torrent_an_address_and_a_network_have_their_bounds() {
        let mut peers = Peers::new(LIMITS);
        let now = |number: u32| Instant::from_micros(number.into());
        for number in 0..600 {
            peers.announce(now(number), TORRENT, at(number), false).unwrap();
        }
        assert_eq!(peers.count(&TORRENT), MAX_PER_TORRENT);
        assert!(!all(&peers, false).contains(&at(87)) && all(&peers, false).contains(&at(88)));
        for port in 1..10 {
            peers.announce(now(1_000), TORRENT, ([9, 9, 9, 9], port).into(), false).unwrap();
        }
        let of = |ip: [u8; 3]| move |peer: &&SocketAddr| matches!(peer.ip(), IpAddr::V4(v4) if v4.octets()[..3] == ip);
        assert_eq!(all(&peers, false).iter().filter(of([9, 9, 9])).count(), MAX_PORTS);
        for last in 0..=255 {
            peers.announce(now(2_000), TORRENT, ([8, 8, 8, last], 1).into(), false).unwrap();
        }
        assert_eq!(all(&peers, false).iter().filter(of([8, 8, 8])).count(), MAX_PER_TORRENT / 8);
        assert_eq!(peers.count(&TORRENT), MAX_PER_TORRENT);
        // In all torrents together a network has a tenth.
        let other = |number: u32| Id::of_name(number.to_string());
        let taken = (0..1_000).filter(|&number| {
            peers.announce(now(3_000), other(number), ([8, 8, 8, 1], 1).into(), false).is_ok()
        });
        assert_eq!(taken.count(), LIMITS.peers / 10 - MAX_PER_TORRENT / 8);
        for number in 0..3_000 {
            peers.announce(now(4_000), other(number), at(number), false).unwrap();
        }
        assert_eq!(peers.len(), LIMITS.peers);
    }

    #[test]
    fn a_sample_stays_for_its_time_and_every_torrent_gets_into_one() {
        let (mut peers, mut rng) = (Peers::new(LIMITS), rng());
        peers.renew_sample(Instant::ZERO, &mut rng);
        assert_eq!(peers.sample(Instant::ZERO).1, []);
        for number in 0..50_u32 {
            let id = Id::of_name(number.to_string());
            peers.announce(Instant::ZERO, id, at(number), false).unwrap();
        }
        let mut seen = BTreeSet::new();
        for round in 1..200 {
            let now = Instant::ZERO + SAMPLE_INTERVAL.times(round);
            peers.renew_sample(now, &mut rng);
            let (of, sample, interval) = peers.sample(now);
            assert_eq!((of, sample.len(), interval), (50, MAX_SAMPLE, SAMPLE_INTERVAL));
            let sample = sample.to_vec();
            let later = now + Duration::from_secs(100);
            peers.renew_sample(later, &mut rng);
            let (_, again, interval) = peers.sample(later);
            assert_eq!((again, interval), (&sample[..], Duration::from_secs(200)));
            seen.extend(sample);
        }
        assert_eq!(seen.len(), 50);
    }
}
