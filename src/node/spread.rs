//! How widely holders of a value are spread, as far as their addresses tell.
//!
//! Ids cost nothing: twenty holders may belong to one owner. Addresses cost a little, and those of
//! one subnet often have one owner. The spread decides nothing; it is told to the publisher.

use std::collections::BTreeSet;

use crate::address::{Scope, Subnet};
use crate::message::Contact;

/// Where the holders of a value lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Holders with addresses that are reached from everywhere. Other addresses say nothing about
    /// owners: a whole lab shares loopback, a house its private range.
    pub global: usize,
    /// Subnets in which these lie, each as wide as one owner may hold: /24 of IPv4, /48 of IPv6.
    pub subnets: usize,
}

impl Spread {
    /// The spread of these holders.
    pub fn of(holders: &[Contact]) -> Spread {
        let ips = holders.iter().map(|holder| holder.address.ip());
        let global: Vec<_> = ips.filter(|&ip| Scope::of(ip) == Scope::Global).collect();
        let widest = global.iter().map(|&ip| Subnet::widest_of(ip));
        let subnets = widest.collect::<BTreeSet<_>>().len();
        Spread { global: global.len(), subnets }
    }

    /// Whether few owners may hold the value: there are more than two holders to a subnet.
    pub fn is_narrow(&self) -> bool {
        self.global > 2 * self.subnets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(addresses: impl Iterator<Item = String>) -> Spread {
        let contact = |(number, address): (usize, String)| Contact {
            id: crate::id::Id::of_name(number.to_string()),
            address: address.parse().unwrap(),
        };
        Spread::of(&addresses.enumerate().map(contact).collect::<Vec<_>>())
    }

    #[test]
    fn holders_in_few_subnets_are_narrow() {
        let seven = spread((0..20).map(|i| format!("203.0.{}.{i}:8001", i % 7)));
        assert_eq!((seven, seven.is_narrow()), (Spread { global: 20, subnets: 7 }, true));
        let ten = spread((0..20).map(|i| format!("203.0.{}.{i}:8001", i % 10)));
        assert_eq!((ten, ten.is_narrow()), (Spread { global: 20, subnets: 10 }, false));
        let one_48 = spread((0..20).map(|i| format!("[2001:db8:1:{i}::1]:8001")));
        assert_eq!((one_48, one_48.is_narrow()), (Spread { global: 20, subnets: 1 }, true));
    }

    #[test]
    fn where_addresses_are_not_global_nothing_is_told() {
        for prefix in ["127.0.0", "10.0.0", "100.64.0"] {
            let spread = spread((1..20).map(|i| format!("{prefix}.{i}:8001")));
            assert_eq!((spread, spread.is_narrow()), (Spread { global: 0, subnets: 0 }, false));
        }
    }
}
