//! Where simulated nodes live: the addresses that a network allocates.
//!
//! Subnet limits only matter between public addresses, so a network can have those. Allocation follows
//! from the seed, with a random stream of its own: nothing else in a network depends on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The port of a simulated node, unless another has it at the same address.
const PORT: u16 = 8001;

/// Networks of providers that public addresses come from: /16 of IPv4, /32 of IPv6.
const PROVIDERS: usize = 256;

/// First octets that hold documentation, private or shared ranges, and loopback. They are left out
/// whole, so that addresses which a program makes up there belong to nobody.
const RESERVED: [u8; 8] = [10, 100, 127, 169, 172, 192, 198, 203];

/// Which addresses the nodes of a network have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// `10.0.0.1` and on, one after the other: one house, where subnets do not count.
    #[default]
    Private,
    /// The same of IPv6, in `fd00::/96`.
    PrivateIpv6,
    /// Each in a random /24 of one of 256 random /16.
    Public,
    /// Each in a random /48, /56 and /64 of one of 256 random /32.
    PublicIpv6,
}

impl Addresses {
    /// All of them, by their names in the shell.
    pub const NAMES: [(&'static str, Addresses); 4] = [
        ("private", Addresses::Private),
        ("private6", Addresses::PrivateIpv6),
        ("public", Addresses::Public),
        ("public6", Addresses::PublicIpv6),
    ];
}

/// A range of addresses, as `203.0.113.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    ip: IpAddr,
    bits: u32,
}

impl Prefix {
    /// A random address of the range.
    fn draw(&self, rng: &mut ChaCha8Rng) -> IpAddr {
        match self.ip {
            IpAddr::V4(ip) => {
                let host = u32::MAX.checked_shr(self.bits).unwrap_or(0);
                Ipv4Addr::from_bits(ip.to_bits() & !host | rng.random::<u32>() & host).into()
            }
            IpAddr::V6(ip) => {
                let host = u128::MAX.checked_shr(self.bits).unwrap_or(0);
                Ipv6Addr::from_bits(ip.to_bits() & !host | rng.random::<u128>() & host).into()
            }
        }
    }
}

/// The text is no range of addresses; such a range is written as `203.0.113.0/24` or
/// `2001:db8:0:100::/56`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPrefix;

impl FromStr for Prefix {
    type Err = NoPrefix;

    fn from_str(text: &str) -> Result<Prefix, NoPrefix> {
        let (ip, bits) = text.split_once('/').ok_or(NoPrefix)?;
        let ip: IpAddr = ip.parse().map_err(|_| NoPrefix)?;
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| (8..=max).contains(bits)).ok_or(NoPrefix)?;
        Ok(Prefix { ip, bits })
    }
}

/// Allocates the addresses of one network.
pub(super) struct AddressAllocator {
    kind: Addresses,
    rng: ChaCha8Rng,
    /// The networks of providers; none unless addresses are public.
    providers: Vec<Prefix>,
}

impl AddressAllocator {
    pub(super) fn new(kind: Addresses, seed: u64) -> AddressAllocator {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        let provider: fn(&mut ChaCha8Rng) -> Prefix = match kind {
            Addresses::Private | Addresses::PrivateIpv6 => {
                return AddressAllocator { kind, rng, providers: Vec::new() };
            }
            Addresses::Public => ipv4_provider,
            Addresses::PublicIpv6 => ipv6_provider,
        };
        let providers = (0..PROVIDERS).map(|_| provider(&mut rng)).collect();
        AddressAllocator { kind, rng, providers }
    }

    /// An address for the node at an index, one that is not taken.
    pub(super) fn allocate(
        &mut self,
        index: usize,
        is_taken: impl Fn(&SocketAddr) -> bool,
    ) -> SocketAddr {
        let number = u32::try_from(index + 1).expect("fewer than 2^32 nodes");
        let [_, b, c, d] = number.to_be_bytes();
        match self.kind {
            Addresses::Private => ([10, b, c, d], PORT).into(),
            // A prefix of RFC 4193: like the IPv4 one, a range of its own.
            Addresses::PrivateIpv6 => {
                let (high, low) = (u16::from(b), u16::from_be_bytes([c, d]));
                (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, high, low), PORT).into()
            }
            Addresses::Public | Addresses::PublicIpv6 => self.allocate_public(is_taken),
        }
    }

    /// A public address that is not taken, if this network has public ones.
    pub(super) fn allocate_free(
        &mut self,
        is_taken: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        (!self.providers.is_empty()).then(|| self.allocate_public(is_taken))
    }

    fn allocate_public(&mut self, is_taken: impl Fn(&SocketAddr) -> bool) -> SocketAddr {
        let provider = self.providers[self.rng.random_range(0..PROVIDERS)];
        self.allocate_in(&provider, is_taken)
    }

    /// An address of a range that is not taken. If a range has fewer addresses than nodes, they share
    /// addresses on further ports.
    pub(super) fn allocate_in(
        &mut self,
        prefix: &Prefix,
        is_taken: impl Fn(&SocketAddr) -> bool,
    ) -> SocketAddr {
        let ip = prefix.draw(&mut self.rng);
        let address = |port| SocketAddr::new(ip, port);
        let mut free = (PORT..=u16::MAX).map(address).filter(|address| !is_taken(address));
        free.next().expect("fewer nodes at one address than ports")
    }
}

fn ipv4_provider(rng: &mut ChaCha8Rng) -> Prefix {
    loop {
        let (a, b) = (rng.random_range(1..224), rng.random());
        if !RESERVED.contains(&a) {
            return Prefix { ip: Ipv4Addr::new(a, b, 0, 0).into(), bits: 16 };
        }
    }
}

fn ipv6_provider(rng: &mut ChaCha8Rng) -> Prefix {
    let (a, b) = (0x2600 + rng.random_range(0..16), rng.random());
    Prefix { ip: Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0).into(), bits: 32 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::address::{Scope, Subnet};

    use super::*;

    fn allocated(kind: Addresses, seed: u64) -> Vec<SocketAddr> {
        let mut allocator = AddressAllocator::new(kind, seed);
        let mut taken = BTreeSet::new();
        (0..1_000)
            .map(|index| {
                let address = allocator.allocate(index, |address| taken.contains(address));
                assert!(taken.insert(address), "{address} twice");
                address
            })
            .collect()
    }

    #[test]
    fn public_addresses_are_global_and_spread_over_many_subnets() {
        for kind in [Addresses::Public, Addresses::PublicIpv6] {
            let addresses = allocated(kind, 7);
            assert!(addresses.iter().all(|address| Scope::of(address.ip()) == Scope::Global));
            let widest = addresses.iter().map(|address| Subnet::widest_of(address.ip()));
            assert!(widest.collect::<BTreeSet<_>>().len() > 950, "{kind:?}");
            assert_eq!(addresses, allocated(kind, 7));
            assert_ne!(addresses, allocated(kind, 8));
        }
    }

    #[test]
    fn private_addresses_follow_one_another_whatever_the_seed() {
        assert_eq!(allocated(Addresses::Private, 1), allocated(Addresses::Private, 2));
        let last = allocated(Addresses::PrivateIpv6, 1)[999];
        assert_eq!(last, "[fd00::3e8]:8001".parse().unwrap());
    }

    #[test]
    fn a_range_holds_more_nodes_than_addresses() {
        let mut allocator = AddressAllocator::new(Addresses::Private, 1);
        let prefix: Prefix = "203.0.113.6/31".parse().unwrap();
        let mut taken = BTreeSet::new();
        for _ in 0..10 {
            let address = allocator.allocate_in(&prefix, |address| taken.contains(address));
            assert!(taken.insert(address));
        }
        let ips: BTreeSet<_> = taken.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(Vec::from_iter(ips), ["203.0.113.6", "203.0.113.7"]);
        for wrong in ["203.0.113.0", "203.0.113.0/33", "203.0.113.0/0", "x/24", "::1/129"] {
            assert_eq!(wrong.parse::<Prefix>(), Err(NoPrefix), "{wrong}");
        }
    }
}
