//! Requests that wait for the application, which answers when it likes.

use std::collections::BTreeMap;

use crate::address::{Families, LocalEnd};
use crate::message::Contact;
use crate::node::overlay::OverlayId;
use crate::node::repeats::{CallKey, Repeats};
use crate::time::{Duration, Instant};
use crate::wire::Header;

/// Requests that wait for the application's answer at once: 16 MB if all are as large as can be.
const MAX_PENDING: usize = 256;

/// An original caller waits for 1.5 s; before that it should hear that the RPC failed.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_400);

/// Somebody who asked something, and what the answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Of which overlay.
    pub(super) overlay: OverlayId,
    pub(super) by: Contact,
    /// Where the request came in and the answer goes out.
    pub(super) local: LocalEnd,
    /// The head of the answer.
    pub(super) header: Header,
    /// How long the answer may get as long as the address is not validated.
    pub(super) reply_max: usize,
    /// The families of contacts that are wanted.
    pub(super) want: Families,
    /// Whether the asker answers nothing itself.
    pub(super) is_read_only: bool,
}

/// Ties an application's answer to the request; see [`Event::Request`](super::Event::Request).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct RequestToken(u64);

/// Requests that wait for the application's answer, and those that came a moment ago.
#[derive(Default)]
pub(super) struct Pending {
    requests: BTreeMap<RequestToken, Waiting>,
    last: u64,
    pub(super) repeats: Repeats,
}

/// A request that waits.
pub(super) struct Waiting {
    pub(super) asked: Asked,
    pub(super) call: CallKey,
    pub(super) at: Instant,
}

impl Waiting {
    fn deadline(&self) -> Instant {
        self.at + ANSWER_WITHIN
    }
}

impl Pending {
    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.requests.len() < MAX_PENDING
    }

    /// A request that did not come before is handed to the application.
    pub(super) fn insert(&mut self, now: Instant, asked: &Asked, call: CallKey) -> RequestToken {
        self.repeats.remember(now, call);
        self.last += 1;
        let token = RequestToken(self.last);
        self.requests.insert(token, Waiting { asked: *asked, call, at: now });
        token
    }

    /// Takes out a request, if it still waits.
    pub(super) fn take(&mut self, token: &RequestToken) -> Option<Waiting> {
        self.requests.remove(token)
    }

    /// Takes out a request whose caller will not wait any longer.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<Waiting> {
        let oldest = self.requests.first_entry()?;
        (oldest.get().deadline() <= now).then(|| oldest.remove())
    }

    pub(super) fn next_timeout(&self) -> Instant {
        // All wait equally long, so the oldest comes first.
        self.requests.first_key_value().map_or(Instant::NEVER, |(_, waiting)| waiting.deadline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use crate::message::TransactionId;
    use crate::wire::Dialect;

    #[test]
    fn requests_wait_for_a_while_and_are_answered_once() {
        let by = Contact { id: Id::of_name("asker"), address: ([192, 0, 2, 1], 1).into() };
        let transaction = TransactionId::new([1; 8]);
        let header =
            Header { dialect: Dialect::V1, from: Id::of_name("own"), transaction, asker: None };
        let (overlay, local) = (OverlayId::FIRST, LocalEnd::default());
        let want = Families::ALL;
        let asked = Asked { overlay, by, local, header, reply_max: 100, want, is_read_only: false };
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let mut pending = Pending::default();
        let mut insert = |millis: u64| {
            let call = CallKey::new(by.address, transaction, &millis.to_be_bytes());
            pending.insert(at(millis), &asked, call)
        };
        let [first, _, third] = [0, 100, 200].map(&mut insert);
        assert!(pending.take(&first).is_some_and(|waiting| waiting.asked == asked));
        assert!(pending.take(&first).is_none());
        assert_eq!(pending.next_timeout(), at(100) + ANSWER_WITHIN);
        assert!(pending.take_overdue(at(1_499)).is_none());
        assert_eq!(pending.take_overdue(at(1_500)).unwrap().at, at(100));
        assert!(pending.take_overdue(at(1_500)).is_none());
        assert!(pending.take(&third).is_some());
        assert_eq!(pending.next_timeout(), Instant::NEVER);
        for number in 0..MAX_PENDING as u64 {
            assert!(pending.has_room());
            pending.insert(
                at(0),
                &asked,
                CallKey::new(by.address, transaction, &number.to_be_bytes()),
            );
        }
        assert!(!pending.has_room());
    }
}
