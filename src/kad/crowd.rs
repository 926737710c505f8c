//! Crowds: contacts whose addresses lie in one network, and may have one owner.
//!
//! A contact is counted with its /24 of IPv4, and with its /64, /56 and /48 of IPv6. The caller
//! decides which contacts are exempt because the node itself lives in their network.

use std::net::IpAddr;

use crate::address::Subnet;

/// How many contacts may share a network of each width, the narrowest first, as a multiple of what one
/// subnet is allowed: the owner of a /64 usually has a /56, while a /48 may be a house or a company.
const TIMES: [usize; Subnet::LEVELS_MAX] = [1, 1, 2];

/// The networks around an address, and how many times the allowance each has.
fn networks(ip: IpAddr) -> impl Iterator<Item = (Subnet, usize)> {
    // An IPv4 address is allowed as many as its /24, so it need not be counted itself.
    Subnet::all_of(ip).zip(TIMES).skip(usize::from(ip.is_ipv4()))
}

/// Whether an address would be one too many among others, if `max` of a subnet may be together.
pub(crate) fn is_crowded(
    others: impl Iterator<Item = IpAddr> + Clone,
    ip: IpAddr,
    max: usize,
) -> bool {
    networks(ip).any(|(subnet, times)| {
        others.clone().filter(|&other| subnet.contains(other)).nth(times * max - 1).is_some()
    })
}

/// Counts addresses that are taken in one by one.
pub(crate) struct Crowd {
    max: usize,
    counts: Vec<(Subnet, usize)>,
}

impl Crowd {
    /// Nobody yet, and of one subnet at most `max` to come.
    pub(crate) fn new(max: usize) -> Crowd {
        Crowd { max, counts: Vec::new() }
    }

    /// Whether there is room for an address, which it then takes.
    pub(crate) fn admits(&mut self, ip: IpAddr) -> bool {
        let count = |subnet| self.counts.iter().find(|(other, _)| *other == subnet);
        let is_full =
            |(subnet, times)| count(subnet).is_some_and(|&(_, count)| count >= times * self.max);
        if networks(ip).any(is_full) {
            return false;
        }
        for (subnet, _) in networks(ip) {
            match self.counts.iter_mut().find(|(other, _)| *other == subnet) {
                Some((_, count)) => *count += 1,
                None => self.counts.push((subnet, 1)),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these addresses are taken in one after the other, if three of a subnet may be.
    fn admitted(ips: impl Iterator<Item = String>) -> usize {
        let (mut crowd, mut inside) = (Crowd::new(3), Vec::new());
        for ip in ips {
            let ip: IpAddr = ip.parse().unwrap();
            let is_admitted = crowd.admits(ip);
            assert_eq!(is_admitted, !is_crowded(inside.iter().copied(), ip, 3), "{ip}");
            inside.extend(is_admitted.then_some(ip));
        }
        inside.len()
    }

    #[test]
    fn an_owner_of_many_addresses_has_few_in_a_crowd() {
        assert_eq!(admitted((0..99).map(|_| "192.0.2.1".to_owned())), 3);
        assert_eq!(admitted((0..99).map(|i| format!("192.0.2.{i}"))), 3);
        assert_eq!(admitted((0..7).map(|i| format!("192.0.{i}.1"))), 7);
        assert_eq!(admitted((0..99).map(|i| format!("2001:db8::{i:x}"))), 3);
        assert_eq!(admitted((0..99).map(|i| format!("2001:db8:0:{i:x}::1"))), 3, "a /56");
        assert_eq!(admitted((0..99).map(|i| format!("2001:db8:0:{i:x}00::1"))), 6, "a /48");
        assert_eq!(admitted((0..7).map(|i| format!("2001:db8:{i:x}::1"))), 7);
    }
}
