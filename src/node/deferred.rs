//! Questions that wait until the address of the asker is validated.
//!
//! Originals and nodes of Mainline know of no tokens for what they read, and their short questions leave no
//! room for a long answer to a stranger.
//! So such a question is kept for a moment while its asker is pinged, and is answered at length if the
//! pong comes. Only the question is kept: a flood of forged ones takes little memory, and does not take
//! everybody's places.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::address::Subnet;
use crate::message::FindValue;
use crate::message::mainline::{GetItem, GetPeers};
use crate::node::overlay::OverlayId;
use crate::node::pending::Asked;
use crate::time::{Duration, Instant};

/// How long a question is kept: an original waits 1.5 s for its answer.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// Questions kept at once: some 150 kB, and as many strangers a second as a node can ping.
const MAX_DEFERRED: usize = 1_024;

/// Questions of one network at once, for each width, the narrowest first: an address and a /24 of
/// IPv4; a /64, a /56 and a /48 of IPv6.
const MAX_OF_SUBNET: [usize; Subnet::LEVELS_MAX] = [8, 32, 64];

/// What may be worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Values of v1.
    Values(FindValue<'static>),
    /// Peers of a torrent, and filters of all of them.
    Peers(GetPeers),
    /// An item.
    Item(GetItem),
}

/// A question that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeferredQuestion {
    pub(super) asked: Asked,
    pub(super) question: Question,
}

/// All questions that wait, the oldest in front.
#[derive(Default)]
pub(super) struct Deferred {
    questions: VecDeque<(Instant, DeferredQuestion)>,
}

impl Deferred {
    pub(super) fn next_timeout(&self) -> Instant {
        self.questions.front().map_or(Instant::NEVER, |(until, _)| *until)
    }

    /// Keeps a question. Returns whether there was room for it.
    pub(super) fn insert(&mut self, now: Instant, question: DeferredQuestion) -> bool {
        let ip = question.asked.by.address.ip();
        let is_crowded = |(subnet, max): (Subnet, usize)| {
            let asker = |(_, other): &&(Instant, DeferredQuestion)| {
                subnet.contains(other.asked.by.address.ip())
            };
            self.questions.iter().filter(asker).count() >= max
        };
        if self.questions.len() >= MAX_DEFERRED
            || Subnet::all_of(ip).zip(MAX_OF_SUBNET).any(is_crowded)
        {
            return false;
        }
        self.questions.push_back((now + KEPT_FOR, question));
        true
    }

    /// Takes out a question that an overlay got from an address.
    pub(super) fn take_from(
        &mut self,
        overlay: OverlayId,
        address: &SocketAddr,
    ) -> Option<DeferredQuestion> {
        let is_it = |asked: &Asked| asked.by.address == *address && asked.overlay == overlay;
        let at = self.questions.iter().position(|(_, other)| is_it(&other.asked))?;
        self.questions.remove(at).map(|(_, question)| question)
    }

    /// Takes out a question that has waited long enough.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<DeferredQuestion> {
        if self.next_timeout() > now {
            return None;
        }
        self.questions.pop_front().map(|(_, question)| question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Families, LocalEnd};
    use crate::id::Id;
    use crate::message::{Contact, TransactionId};
    use crate::wire::{Dialect, Header};

    fn question(address: &str) -> DeferredQuestion {
        let by = Contact { id: Id::of_name("asker"), address: address.parse().unwrap() };
        let (from, transaction) = (Id::of_name("own"), TransactionId::new([1; 8]));
        let header = Header { dialect: Dialect::V1, from, transaction, asker: None };
        let overlay = OverlayId::FIRST;
        let (local, want) = (LocalEnd::default(), Families::ALL);
        let asked = Asked { overlay, by, local, header, reply_max: 192, want, is_read_only: false };
        let question = Question::Values(FindValue::new(Id::of_name("key"), 6));
        DeferredQuestion { asked, question }
    }

    fn kept(deferred: &mut Deferred, addresses: impl Iterator<Item = String>) -> usize {
        addresses.filter(|address| deferred.insert(Instant::ZERO, question(address))).count()
    }

    #[test]
    fn each_network_has_its_share_and_all_have_an_end() {
        let mut deferred = Deferred::default();
        assert_eq!(kept(&mut deferred, (1..100).map(|port| format!("192.0.2.1:{port}"))), 8);
        assert_eq!(kept(&mut deferred, (2..100).map(|host| format!("192.0.2.{host}:1"))), 24);
        let sites = |bits| (0..100).map(move |n| format!("[2001:db8:0:{:x}::1]:1", n << bits));
        assert_eq!(kept(&mut deferred, (1..100).map(|n| format!("[2001:db8::{n}]:1"))), 8);
        assert_eq!(kept(&mut deferred, sites(0).skip(1)), 24, "of one /56");
        assert_eq!(kept(&mut deferred, sites(8).skip(1)), 32, "of one /48");
        assert_eq!(
            kept(&mut deferred, (0..2_000).map(|n| format!("10.{}.{}.1:1", n >> 8, n & 255))),
            928
        );
        assert_eq!(deferred.questions.len(), MAX_DEFERRED);
    }

    #[test]
    fn a_question_is_taken_out_once_by_address_or_by_time() {
        let mut deferred = Deferred::default();
        for port in 1..4 {
            assert!(deferred.insert(Instant::ZERO, question(&format!("192.0.2.{port}:1"))));
        }
        assert_eq!(deferred.next_timeout(), Instant::ZERO + KEPT_FOR);
        let second = question("192.0.2.2:1");
        assert_eq!(
            deferred.take_from(OverlayId::FIRST, &second.asked.by.address),
            Some(second.clone())
        );
        assert_eq!(deferred.take_from(OverlayId::FIRST, &second.asked.by.address), None);
        assert_eq!(
            deferred.take_from(OverlayId::FIRST, &"192.0.2.1:2".parse().unwrap()),
            None,
            "another port"
        );
        let before = Instant::ZERO + KEPT_FOR.minus(Duration::from_micros(1));
        assert_eq!(deferred.take_overdue(before), None);
        let at = Instant::ZERO + KEPT_FOR;
        let overdue: Vec<_> = std::iter::from_fn(|| deferred.take_overdue(at)).collect();
        assert_eq!(overdue, [question("192.0.2.1:1"), question("192.0.2.3:1")]);
        assert_eq!(deferred.next_timeout(), Instant::NEVER);
    }
}
