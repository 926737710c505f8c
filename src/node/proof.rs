//! Who is known to receive what is sent to it.
//!
//! Anybody can write another's address on a datagram. A node that answers a short question at
//! length is an amplifier for those who do: what they send comes to the other multiplied. So an
//! address that has not proved itself gets at most [`AMPLIFICATION_MAX`] times the bytes that it
//! sent in answer to a findnode, fewer contacts in place of all, as RFC 9000 §8.1 has it for
//! handshakes. In answer to a findvalue the contacts keep to that; values do not, and come as whole
//! as they are stored.
//!
//! What this does not prevent: an address that has proved itself is another node's, and whoever
//! forges that one makes us answer it at full length.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::address::Scope;
use crate::message::Contact;
use crate::node::Node;
use crate::wire::v1::{AMPLIFICATION_MAX, MAX_REPLY};

/// Addresses that are remembered for having proved themselves. Those for whom the routing table has
/// no place are to be found here: in a network of millions some three hundred nodes have one, about
/// as many have us in theirs, and each lookup meets some thirty. Takes at most some 70 kB.
const MAX_ANSWERED: usize = 1_024;

impl Node {
    /// How long the answer to a request of so many bytes may get for the contacts in it.
    pub(super) fn max_reply(&self, asker: &Contact, request_len: usize) -> usize {
        if self.is_proved(asker) { MAX_REPLY } else { AMPLIFICATION_MAX * request_len }
    }

    /// Whether the asker receives what is sent to the address that it seems to ask from. Nobody
    /// outside can send from a loopback address; others must have answered something, or have sent a
    /// token back.
    pub(super) fn is_proved(&self, asker: &Contact) -> bool {
        is_loopback(&asker.address)
            || self.table.entry(&asker.id).is_some_and(|entry| {
                entry.contact.address == asker.address && entry.is_worth_naming()
            })
            || self.answered.contains(&asker.address)
    }
}

pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    Scope::of(address.ip()) == Scope::Loopback
}

/// Addresses that proved themselves lately, in two halves: when the later one is full, the earlier
/// one is forgotten. (Where the sets put an address is up to the hash keys that they draw for
/// themselves; nothing that the node does shows it.)
#[derive(Default)]
pub(super) struct Answered {
    later: HashSet<SocketAddr>,
    earlier: HashSet<SocketAddr>,
}

impl Answered {
    pub(super) fn insert(&mut self, address: SocketAddr) {
        if is_loopback(&address) {
            return;
        }
        let is_full = self.later.len() >= MAX_ANSWERED / 2;
        if is_full && !self.later.contains(&address) {
            std::mem::swap(&mut self.later, &mut self.earlier);
            self.later.clear();
        }
        self.later.insert(address);
    }

    fn contains(&self, address: &SocketAddr) -> bool {
        self.later.contains(address) || self.earlier.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> SocketAddr {
        ([10, 0, 0, 1], 1_024 + number as u16).into()
    }

    fn remembered(answered: &Answered, numbers: impl Iterator<Item = usize>) -> usize {
        numbers.filter(|&number| answered.contains(&address(number))).count()
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_latest_half_never() {
        let mut answered = Answered::default();
        for number in 0..10_000 {
            answered.insert(address(number));
            let latest = (number + 1).saturating_sub(MAX_ANSWERED / 2)..=number;
            assert_eq!(remembered(&answered, latest.clone()), latest.count());
            assert!(answered.later.len() + answered.earlier.len() <= MAX_ANSWERED);
        }
        assert_eq!(remembered(&answered, 0..10_000 - MAX_ANSWERED), 0);
    }

    #[test]
    fn who_answers_again_is_remembered_for_longer() {
        let mut answered = Answered::default();
        for number in 1..10_000 {
            answered.insert(address(number));
            if number % 100 == 0 {
                answered.insert(address(0));
            }
        }
        assert!(answered.contains(&address(0)) && !answered.contains(&address(1)));
    }

    #[test]
    fn loopback_takes_no_place_under_any_of_its_names() {
        let mut answered = Answered::default();
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let loopback = loopback.parse().unwrap();
            assert!(is_loopback(&loopback));
            answered.insert(loopback);
        }
        assert!(answered.later.is_empty());
        assert!(!is_loopback(&"[::ffff:10.0.0.1]:1".parse().unwrap()));
    }
}
