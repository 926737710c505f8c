//! Validated addresses: the nodes that are known to receive what is sent to their address.
//!
//! Anybody can write another's address on a datagram. A node that answers a short question at length
//! is an amplifier for those who do: the victim gets a multiple of what they send. So one datagram
//! from an address that is not validated causes at most [`AMPLIFICATION_MAX`] times its bytes, as RFC
//! 9000 §8.1 has it for handshakes: the answer, whatever it holds, and the ping that validates the
//! address. [`unvalidated_answer_max`] shares that out.
//!
//! What this does not prevent: somebody who forges an address that another node has validated makes
//! us answer that node at full length.
//!
//! [`AMPLIFICATION_MAX`]: crate::wire::AMPLIFICATION_MAX
//! [`unvalidated_answer_max`]: crate::wire::Sizes::unvalidated_answer_max

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::address::{Scope, Subnet, is_loopback};

/// How many validated addresses are remembered. These are nodes for which the routing table has no
/// place: in a network of millions it has a place for some three hundred, about as many have us in
/// theirs, and each lookup meets some thirty. Takes at most some 300 kB.
const MAX_VALIDATED: usize = 1_024;

/// How many of them may be at one address of IPv4, or in one /64: its owner has every port of it, and
/// could push all others out. Several nodes behind one router have a place each.
const MAX_ON_ADDRESS: usize = 4;

/// How many may be in one /24, or in one /48. In private networks each address has another owner, so
/// they have no such limit.
const MAX_IN_NETWORK: usize = 64;

/// Addresses that were validated lately, because an answer came from there or a token came back.
/// The oldest give way: first those at the same address if it has its share, then those in the same
/// network, then any.
#[derive(Default)]
pub(crate) struct Validated {
    /// Each with its number, which is the greater the later it was validated.
    numbers: BTreeMap<SocketAddr, u64>,
    addresses: BTreeMap<u64, SocketAddr>,
    /// The numbers of the addresses in each network that is limited to a share.
    shares: BTreeSet<(Subnet, u64)>,
    last: u64,
}

impl Validated {
    pub(crate) fn insert(&mut self, address: SocketAddr) {
        if is_loopback(&address) {
            return;
        }
        if let Some(&number) = self.numbers.get(&address) {
            // Among addresses that were validated just now the order does not matter, and most were:
            // answers of the same few peers cost one look.
            if self.last - number < MAX_VALIDATED as u64 / 2 {
                return;
            }
            self.remove(number);
        }
        for (network, max) in shares(&address) {
            let numbers = self.shares.range((network, 0)..=(network, u64::MAX));
            if numbers.clone().count() >= max {
                let oldest = numbers.map(|(_, number)| *number).next();
                oldest.into_iter().for_each(|oldest| self.remove(oldest));
            }
        }
        if self.numbers.len() >= MAX_VALIDATED
            && let Some(&oldest) = self.addresses.keys().next()
        {
            self.remove(oldest);
        }
        self.last += 1;
        self.numbers.insert(address, self.last);
        self.addresses.insert(self.last, address);
        self.shares.extend(shares(&address).map(|(network, _)| (network, self.last)));
    }

    pub(crate) fn contains(&self, address: &SocketAddr) -> bool {
        is_loopback(address) || self.numbers.contains_key(address)
    }

    fn remove(&mut self, number: u64) {
        let Some(address) = self.addresses.remove(&number) else { return };
        self.numbers.remove(&address);
        shares(&address).for_each(|(network, _)| _ = self.shares.remove(&(network, number)));
    }
}

/// The networks of an address that are limited to a share, the narrowest first, and how large it
/// is.
fn shares(address: &SocketAddr) -> impl Iterator<Item = (Subnet, usize)> + use<> {
    let mut networks = Subnet::all_of(address.ip());
    let narrowest = networks.next().map(|network| (network, MAX_ON_ADDRESS));
    let is_global = Scope::of(address.ip()) == Scope::Global;
    let widest = networks.last().filter(|_| is_global).map(|network| (network, MAX_IN_NETWORK));
    narrowest.into_iter().chain(widest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in a lab, where each address has another owner.
    fn address(number: usize) -> SocketAddr {
        let [.., a, b] = number.to_be_bytes();
        ([10, 0, a, b], 1_024).into()
    }

    fn remembered(validated: &Validated, numbers: impl Iterator<Item = usize>) -> usize {
        numbers.filter(|&number| validated.contains(&address(number))).count()
    }

    fn check(validated: &Validated) {
        assert!(validated.numbers.len() <= MAX_VALIDATED);
        assert_eq!(validated.addresses.len(), validated.numbers.len());
        let shares: BTreeSet<_> = validated
            .numbers
            .iter()
            .flat_map(|(address, &number)| shares(address).map(move |(of, _)| (of, number)))
            .collect();
        assert_eq!(shares, validated.shares);
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_latest_half_never() {
        let mut validated = Validated::default();
        for number in 0..10_000 {
            validated.insert(address(number));
            let latest = (number + 1).saturating_sub(MAX_VALIDATED / 2)..=number;
            assert_eq!(remembered(&validated, latest.clone()), latest.count());
            assert!(validated.numbers.len() <= MAX_VALIDATED);
        }
        check(&validated);
        assert_eq!(remembered(&validated, 0..10_000 - MAX_VALIDATED), 0);
    }

    #[test]
    fn what_is_validated_again_is_remembered_for_longer() {
        let mut validated = Validated::default();
        for number in 1..10_000 {
            validated.insert(address(number));
            if number % 100 == 0 {
                validated.insert(address(0));
            }
        }
        assert!(validated.contains(&address(0)) && !validated.contains(&address(1)));
    }

    #[test]
    fn loopback_takes_no_place_under_any_of_its_names() {
        let mut validated = Validated::default();
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let loopback = loopback.parse().unwrap();
            assert!(is_loopback(&loopback));
            validated.insert(loopback);
        }
        assert!(validated.numbers.is_empty() && validated.shares.is_empty());
        assert!(!is_loopback(&"[::ffff:10.0.0.1]:1".parse().unwrap()));
    }

    /// An address with all its ports, a /64 with all its addresses, a /24, and a /48.
    #[test]
    fn nobody_makes_all_others_forgotten_with_what_is_its_own() {
        type Owned = fn(u16) -> String;
        let owned: [(Owned, usize); 6] = [
            (|number| format!("192.0.2.1:{}", 1_024 + number), MAX_ON_ADDRESS),
            (|number| format!("10.0.0.1:{}", 1_024 + number), MAX_ON_ADDRESS),
            (|number| format!("[2001:db8::{number:x}]:9"), MAX_ON_ADDRESS),
            (|number| format!("[fd00::{number:x}]:9"), MAX_ON_ADDRESS),
            (|number| format!("192.0.2.{}:{}", number % 256, 1_024 + number), MAX_IN_NETWORK),
            (|number| format!("[2001:db8:0:{number:x}::1]:9"), MAX_IN_NETWORK),
        ];
        for (owned, max) in owned {
            let mut validated = Validated::default();
            let others = 0..MAX_VALIDATED - MAX_IN_NETWORK;
            others.clone().for_each(|number| validated.insert(address(0x100 + number)));
            let of = |number| owned(number).parse::<SocketAddr>().unwrap();
            (0..5_000).for_each(|number| validated.insert(of(number)));
            check(&validated);
            let kept: Vec<_> =
                (0..5_000).filter(|&number| validated.contains(&of(number))).collect();
            assert_eq!(kept, (5_000 - max as u16..5_000).collect::<Vec<_>>(), "{}", of(0));
            let left = others.clone().map(|number| 0x100 + number);
            assert_eq!(remembered(&validated, left), others.count(), "{}", of(0));
        }
    }
}
