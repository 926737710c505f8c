//! What the log tells about a node's life at `info`: contacts that it met and lost, by name while they
//! are few, and a summary of every minute in which anything happened.
//!
//! Pure bookkeeping: the driver tells the time.

use tracing::{debug, info};

use crate::message::Contact;
use crate::node::Counters;
use crate::time::{Duration, Instant};

/// What one line sums up.
const SPAN: Duration = Duration::from_secs(60);

/// Contacts that are named in one span, of those that come and of those that go: a screenful. A node
/// that joins a large network meets hundreds.
const NAMED_MAX: u64 = 20;

/// What has happened since the last summary.
#[derive(Debug, Default)]
pub(super) struct News {
    joined: u64,
    lost: u64,
    /// The counters at the last summary.
    before: Counters,
    /// When the next summary is due; `None` if nothing has happened.
    due: Option<Instant>,
}

/// What one line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    joined: u64,
    lost: u64,
    stored: u64,
    handed_over: u64,
}

impl News {
    /// A contact came into the routing table.
    pub(super) fn on_contact_added(&mut self, contact: &Contact) {
        self.joined += 1;
        match self.joined <= NAMED_MAX {
            true => info!(?contact, "contact joined"),
            false => debug!(?contact, "contact joined"),
        }
    }

    /// A contact stopped answering.
    pub(super) fn on_contact_lost(&mut self, contact: &Contact) {
        self.lost += 1;
        match self.lost <= NAMED_MAX {
            true => info!(?contact, "contact lost"),
            false => debug!(?contact, "contact lost"),
        }
    }

    /// When the next summary is due.
    pub(super) fn next_time(&self) -> Instant {
        self.due.unwrap_or(Instant::NEVER)
    }

    /// Logs the summary if it is due, given the node's counters and number of contacts.
    pub(super) fn tend(&mut self, now: Instant, counters: &Counters, contacts: usize) {
        if let Some(Sum { joined, lost, stored, handed_over }) = self.sum(now, counters) {
            info!(joined, lost, stored, handed_over, contacts, "the last minute");
        }
    }

    fn sum(&mut self, now: Instant, counters: &Counters) -> Option<Sum> {
        let sum = Sum {
            joined: self.joined,
            lost: self.lost,
            stored: counters.stored - self.before.stored,
            handed_over: counters.handed_over - self.before.handed_over,
        };
        if sum == (Sum { joined: 0, lost: 0, stored: 0, handed_over: 0 }) {
            return None;
        }
        if now < *self.due.get_or_insert(now + SPAN) {
            return None;
        }
        *self = News { before: *counters, ..News::default() };
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_minute_in_which_something_happened_is_one_sum() {
        let mut news = News::default();
        let mut counters = Counters::default();
        let contact = Contact { id: Id::of_name("8003"), address: ([127, 0, 0, 1], 8003).into() };
        assert_eq!((news.sum(at(0), &counters), news.next_time()), (None, Instant::NEVER));
        counters.stored = 3;
        assert_eq!((news.sum(at(5), &counters), news.next_time()), (None, at(65)));
        counters.stored = 7;
        counters.handed_over = 2;
        (0..100).for_each(|_| news.on_contact_added(&contact));
        news.on_contact_lost(&contact);
        assert_eq!(news.sum(at(64), &counters), None);
        let sum = Sum { joined: 100, lost: 1, stored: 7, handed_over: 2 };
        assert_eq!(news.sum(at(65), &counters), Some(sum));
        assert_eq!((news.sum(at(600), &counters), news.next_time()), (None, Instant::NEVER));
        counters.stored = 8;
        news.sum(at(601), &counters);
        let sum = Sum { joined: 0, lost: 0, stored: 1, handed_over: 0 };
        assert_eq!(news.sum(at(661), &counters), Some(sum));
    }
}
