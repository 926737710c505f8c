//! Validated addresses: who is known to receive what is sent to its address.
//!
//! Anybody can write another's address on a datagram. A node that answers a short question at
//! length is an amplifier for those who do: what they send comes to the other multiplied. So because
//! of one datagram from an address that is not validated no more than [`AMPLIFICATION_MAX`] times its
//! bytes are sent, as RFC 9000 §8.1 has it for handshakes: the answer, whatever it holds, and the ping
//! that validates the address. [`unvalidated_reply_max`] is how that is shared out.
//!
//! What this does not prevent: a validated address is another node's, and whoever forges that one
//! makes us answer it at full length.
//!
//! [`AMPLIFICATION_MAX`]: crate::wire::v1::AMPLIFICATION_MAX
//! [`unvalidated_reply_max`]: crate::wire::v1::unvalidated_reply_max

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::address::Scope;

/// Addresses that are remembered for having been validated. Those for whom the routing table has
/// no place are to be found here: in a network of millions some three hundred nodes have one, about
/// as many have us in theirs, and each lookup meets some thirty. Takes at most some 70 kB.
const MAX_VALIDATED: usize = 1_024;

/// Whether an address is of the machine itself. Nobody outside can send from there, so it needs no
/// validation.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    Scope::of(address.ip()) == Scope::Loopback
}

/// Addresses that were validated lately, because something was answered from there or a token came
/// back, in two halves: when the later one is full, the earlier one is forgotten. (Where the sets put
/// an address is up to the hash keys that they draw for themselves; nothing that the node does shows
/// it.)
#[derive(Default)]
pub(super) struct Validated {
    later: HashSet<SocketAddr>,
    earlier: HashSet<SocketAddr>,
}

impl Validated {
    pub(super) fn insert(&mut self, address: SocketAddr) {
        if is_loopback(&address) {
            return;
        }
        let is_full = self.later.len() >= MAX_VALIDATED / 2;
        if is_full && !self.later.contains(&address) {
            std::mem::swap(&mut self.later, &mut self.earlier);
            self.later.clear();
        }
        self.later.insert(address);
    }

    pub(super) fn contains(&self, address: &SocketAddr) -> bool {
        is_loopback(address) || self.later.contains(address) || self.earlier.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> SocketAddr {
        ([10, 0, 0, 1], 1_024 + number as u16).into()
    }

    fn remembered(validated: &Validated, numbers: impl Iterator<Item = usize>) -> usize {
        numbers.filter(|&number| validated.contains(&address(number))).count()
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_latest_half_never() {
        let mut validated = Validated::default();
        for number in 0..10_000 {
            validated.insert(address(number));
            let latest = (number + 1).saturating_sub(MAX_VALIDATED / 2)..=number;
            assert_eq!(remembered(&validated, latest.clone()), latest.count());
            assert!(validated.later.len() + validated.earlier.len() <= MAX_VALIDATED);
        }
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
        assert!(validated.later.is_empty());
        assert!(!is_loopback(&"[::ffff:10.0.0.1]:1".parse().unwrap()));
    }
}
