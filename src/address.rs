//! What an address is: how far it reaches, in which networks it lies, whether a datagram can be sent
//! to it.
//!
//! No sockets here, and no judgement about a sender. An IPv4 address written as an IPv6 one
//! (`::ffff:a.b.c.d`) is the IPv4 address where somebody names it in a text; as the source of a datagram
//! it is a lie, because each family has a socket of its own.

use std::net::{IpAddr, SocketAddr};

/// Whether a datagram can be sent there, or come from there: a unicast address and a port, and no IPv4
/// address in the clothes of an IPv6 one.
pub fn is_sendable(address: &SocketAddr) -> bool {
    let unicast = match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && !is_ipv4_in_ipv6(ip.octets())
        }
    };
    unicast && address.port() != 0
}

/// Whether an address is the machine's own. Nobody outside can send from it, so it needs no
/// validation.
pub fn is_loopback(address: &SocketAddr) -> bool {
    Scope::of(address.ip()) == Scope::Loopback
}

/// `::ffff:0:0/96` (RFC 4291 §2.5.5.2) and `::/96` (§2.5.5.1), less the loopback address.
fn is_ipv4_in_ipv6(octets: [u8; 16]) -> bool {
    let (head, tail) = octets.split_at(12);
    let is_mapped = head[..10] == [0; 10] && head[10..] == [0xff; 2];
    let is_compatible = head == [0; 12] && tail != [0, 0, 0, 1];
    is_mapped || is_compatible
}

/// The end of this machine that a datagram came in at, and that its answer leaves from.
///
/// The default is the end that the system chooses: for datagrams that answer nothing, and where
/// there is no system at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalEnd {
    /// The address that was asked.
    pub ip: Option<IpAddr>,
    /// The number of the interface if the address belongs to that one alone (link-local), else 0.
    pub scope: u32,
    /// Whether the interface is one that other machines reach.
    pub is_outside: bool,
}

impl LocalEnd {
    /// The end that something leaves from because of what came in here, if it can be the same: a loopback
    /// address reaches others alone, and one that belongs to an interface nothing behind another.
    #[must_use]
    pub fn toward(&self, destination: &SocketAddr) -> LocalEnd {
        let is_same = |ip: IpAddr| {
            let is_loopback = |ip| Scope::of(ip) == Scope::Loopback;
            self.scope == 0
                && ip.is_ipv4() == destination.is_ipv4()
                && is_loopback(ip) == is_loopback(destination.ip())
        };
        if self.ip.is_some_and(is_same) { *self } else { LocalEnd::default() }
    }

    /// Whether a datagram that came in here can be from `source`: an answer must be sendable there,
    /// and a loopback address must come in at a loopback interface.
    pub fn believes(&self, source: &SocketAddr) -> bool {
        is_sendable(source) && !(self.is_outside && Scope::of(source.ip()) == Scope::Loopback)
    }
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

impl Families {
    /// Both.
    pub const ALL: Families = Families { ipv4: true, ipv6: true };

    /// That of an address alone.
    pub fn of(address: &SocketAddr) -> Families {
        Families { ipv4: address.is_ipv4(), ipv6: address.is_ipv6() }
    }

    /// Whether an address belongs to one of them.
    pub fn contain(self, address: &SocketAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

/// How far an address can be reached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// From its own machine.
    Loopback,
    /// From networks that agree on it: RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291 §2.5.6.
    Private,
    /// From everywhere.
    Global,
}

impl Scope {
    /// The scope of an address.
    pub fn of(ip: IpAddr) -> Scope {
        let (loopback, private) = match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                let shared = a == 100 && b & 0xc0 == 64;
                (ip.is_loopback(), ip.is_private() || ip.is_link_local() || shared)
            }
            IpAddr::V6(ip) => {
                (ip.is_loopback(), ip.is_unique_local() || ip.is_unicast_link_local())
            }
        };
        match (loopback, private) {
            (true, _) => Scope::Loopback,
            (false, true) => Scope::Private,
            (false, false) => Scope::Global,
        }
    }
}

/// Addresses that one owner may hold together, as a prefix of them all.
///
/// An owner holds one address of IPv4, or at little cost a /24; of IPv6 at least a /64, and often a
/// /56 or a /48 (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// Bits of the prefix, IPv4 counted from 96 on.
    bits: u8,
    /// The prefix of the IPv6 address (IPv4: mapped), zeros behind it.
    prefix: u128,
}

/// Lengths of the prefixes that are looked at, the narrowest first.
const IPV4_BITS: [u8; 2] = [96 + 32, 96 + 24];
const IPV6_BITS: [u8; 3] = [64, 56, 48];

impl Subnet {
    /// The most networks that [`Subnet::all_of`] yields.
    pub const LEVELS_MAX: usize = 3;

    /// All that an owner of this address may hold with it, the narrowest first: the address itself
    /// and its /24 of IPv4; its /64, /56 and /48 of IPv6.
    pub fn all_of(ip: IpAddr) -> impl Iterator<Item = Subnet> + Clone {
        let ip = ip.to_canonical();
        let bits: &[u8] = if ip.is_ipv4() { &IPV4_BITS } else { &IPV6_BITS };
        bits.iter().map(move |&bits| Subnet::with_bits(ip, bits))
    }

    /// The widest of these: the /24 of an IPv4 address, the /48 of an IPv6 one.
    pub fn widest_of(ip: IpAddr) -> Subnet {
        Subnet::all_of(ip).last().expect("each address lies in some network")
    }

    /// Whether an address lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Subnet::with_bits(ip.to_canonical(), self.bits) == *self
    }

    /// The prefix and its length, for a hash.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[0] = self.bits;
        bytes[1..].copy_from_slice(&self.prefix.to_be_bytes());
        bytes
    }

    fn with_bits(ip: IpAddr, bits: u8) -> Subnet {
        let all = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        Subnet { bits, prefix: all & (u128::MAX << (128 - bits)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_owner_of_ipv6_holds_a_64_a_56_and_a_48() {
        let own: Vec<_> = Subnet::all_of(ip("2001:db8:1:2203::1")).collect();
        let shared = |other| {
            let others: Vec<_> = Subnet::all_of(ip(other)).collect();
            own.iter().zip(others).map(|(a, b)| *a == b).collect::<Vec<_>>()
        };
        assert_eq!(shared("2001:db8:1:2203:ffff::9"), [true, true, true]);
        assert_eq!(shared("2001:db8:1:2204::1"), [false, true, true]);
        assert_eq!(shared("2001:db8:1:2303::1"), [false, false, true]);
        assert_eq!(shared("2001:db8:2:2203::1"), [false, false, false]);
        assert_eq!(own[2], Subnet::widest_of(ip("2001:db8:1:ffff::9")));
        assert!(own.iter().all(|subnet| subnet.contains(ip("2001:db8:1:2203::2"))));
        assert!(own[2].contains(ip("2001:db8:1:ffff::")) && !own[1].contains(ip("2001:db8:1::")));
    }

    #[test]
    fn an_owner_of_ipv4_holds_an_address_and_a_24() {
        let own: Vec<_> = Subnet::all_of(ip("192.0.2.7")).collect();
        assert_eq!(own.len(), 2);
        assert!(own[0].contains(ip("192.0.2.7")) && !own[0].contains(ip("192.0.2.8")));
        assert!(own[1].contains(ip("192.0.2.8")) && !own[1].contains(ip("192.0.3.7")));
        assert_eq!(own[1], Subnet::widest_of(ip("192.0.2.200")));
        assert_eq!(own, Subnet::all_of(ip("::ffff:192.0.2.7")).collect::<Vec<_>>());
        assert_ne!(Subnet::widest_of(ip("0.0.0.0")), Subnet::widest_of(ip("::")));
    }

    #[test]
    fn a_loopback_source_is_believed_on_a_loopback_interface_alone() {
        let inside = LocalEnd::default();
        let outside = LocalEnd { is_outside: true, ..inside };
        for (source, can_come_from_outside) in [
            ("127.0.0.1:1", false),
            ("127.255.0.9:1", false),
            ("[::1]:1", false),
            ("10.0.0.1:1", true),
            ("[fe80::1]:1", true),
            ("[2001:db8::1]:1", true),
        ] {
            let source = source.parse().unwrap();
            assert!(inside.believes(&source), "{source}");
            assert_eq!(outside.believes(&source), can_come_from_outside, "{source}");
        }
        let mapped = "[::ffff:127.0.0.1]:1".parse().unwrap();
        assert!(!inside.believes(&mapped) && !outside.believes(&mapped));
    }

    #[test]
    fn no_ipv4_address_comes_in_the_clothes_of_ipv6() {
        for source in [
            "[::ffff:127.0.0.1]:1",
            "[::ffff:192.0.2.1]:1",
            "[::127.0.0.1]:1",
            "[::192.0.2.1]:1",
            "[::]:1",
            "[ff02::1]:1",
            "[2001:db8::1]:0",
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "192.0.2.1:0",
        ] {
            assert!(!is_sendable(&source.parse().unwrap()), "{source}");
        }
        for source in ["[::1]:1", "127.0.0.1:1", "[2001:db8::1]:1", "192.0.2.1:1", "[fe80::1]:1"] {
            assert!(is_sendable(&source.parse().unwrap()), "{source}");
        }
    }
}
