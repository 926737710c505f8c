//! Calls of the application's RPCs that came before.
//!
//! A datagram may arrive twice, and the application's answer may have effects, so each call is handed to it once. Two
//! calls are the same if they have the same number, come from the same address and call the same RPC with the same
//! arguments.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::id::Id;
use crate::message::TransactionId;
use crate::time::{Duration, Instant};

/// Calls that are remembered at once, the latest.
const MAX_CALLS: usize = 1_024;

/// Bytes of answers that are remembered at once: a thousand of the usual size, a hundred of the largest.
const MAX_ANSWER_BYTES: usize = 3 << 19;

/// How long a call is remembered: several times as long as any caller waits, and far longer than a network keeps a
/// datagram in a queue.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What tells one call from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallKey {
    source: SocketAddr,
    transaction: TransactionId,
    /// The SHA-1 of name and arguments: a caller may use the same number for different calls.
    what: Id,
}

impl CallKey {
    pub(super) fn new(source: SocketAddr, transaction: TransactionId, what: &[u8]) -> CallKey {
        CallKey { source, transaction, what: Id::of_name(what) }
    }
}

/// How far an earlier call has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Earlier<'a> {
    /// The application has it; its answer will serve both.
    Unanswered,
    /// It was answered with this datagram.
    Answered(&'a [u8]),
}

/// The calls of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    answers: BTreeMap<CallKey, Option<Box<[u8]>>>,
    /// Oldest first.
    order: VecDeque<(Instant, CallKey)>,
    /// Of the answers.
    bytes: usize,
}

impl Repeats {
    /// What became of the same call earlier.
    pub(super) fn earlier(&mut self, now: Instant, call: &CallKey) -> Option<Earlier<'_>> {
        while let Some(&(at, _)) = self.order.front()
            && now.since(at) >= REMEMBERED
        {
            self.forget_oldest();
        }
        Some(match self.answers.get(call)? {
            None => Earlier::Unanswered,
            Some(answer) => Earlier::Answered(answer),
        })
    }

    /// The application gets a call that did not come before.
    pub(super) fn remember(&mut self, now: Instant, call: CallKey) {
        if self.order.len() >= MAX_CALLS {
            self.forget_oldest();
        }
        self.order.push_back((now, call));
        self.answers.insert(call, None);
    }

    /// A call is answered with this datagram.
    pub(super) fn answered(&mut self, call: &CallKey, answer: &[u8]) {
        if let Some(known) = self.answers.get_mut(call) {
            self.bytes += answer.len();
            self.bytes -= known.replace(answer.into()).map_or(0, |earlier| earlier.len());
        }
        while self.bytes > MAX_ANSWER_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, oldest)) = self.order.pop_front() else { return };
        let answer = self.answers.remove(&oldest).flatten();
        self.bytes -= answer.map_or(0, |answer| answer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(port: u16, number: u64, what: &[u8]) -> CallKey {
        CallKey::new(([127, 0, 0, 1], port).into(), TransactionId::new(number.to_be_bytes()), what)
    }

    #[test]
    fn a_call_is_known_until_it_is_old() {
        let (mut repeats, start) = (Repeats::default(), Instant::ZERO);
        let first = call(9_001, 1, b"count");
        assert_eq!(repeats.earlier(start, &first), None);
        repeats.remember(start, first);
        assert_eq!(repeats.earlier(start, &first), Some(Earlier::Unanswered));
        repeats.answered(&first, b"reply");
        assert_eq!(repeats.earlier(start, &first), Some(Earlier::Answered(b"reply")));
        for other in [call(9_002, 1, b"count"), call(9_001, 2, b"count"), call(9_001, 1, b"other")]
        {
            assert_eq!(repeats.earlier(start, &other), None);
        }
        assert_eq!(repeats.earlier(start + REMEMBERED, &first), None);
        assert!(repeats.answers.is_empty() && repeats.order.is_empty());
        // An answer that comes later than that is not kept.
        repeats.answered(&first, b"reply");
        assert!(repeats.answers.is_empty());
    }

    #[test]
    fn the_latest_calls_are_remembered_and_no_more() {
        let (mut repeats, now) = (Repeats::default(), Instant::ZERO);
        for number in 0..2 * MAX_CALLS as u64 {
            repeats.remember(now, call(9_001, number, b"count"));
        }
        assert_eq!((repeats.answers.len(), repeats.order.len()), (MAX_CALLS, MAX_CALLS));
        assert_eq!(repeats.earlier(now, &call(9_001, MAX_CALLS as u64 - 1, b"count")), None);
        assert!(repeats.earlier(now, &call(9_001, MAX_CALLS as u64, b"count")).is_some());
    }

    #[test]
    fn large_answers_take_no_more_memory_than_many_small_ones() {
        let (mut repeats, now) = (Repeats::default(), Instant::ZERO);
        for number in 0..MAX_CALLS as u64 {
            let call = call(9_001, number, b"count");
            repeats.remember(now, call);
            repeats.answered(&call, &[7; 16_000]);
            repeats.answered(&call, &[7; 16_000]);
            let held: usize = repeats.answers.values().flatten().map(|answer| answer.len()).sum();
            assert!(held == repeats.bytes && held <= MAX_ANSWER_BYTES, "{held}");
            assert!(repeats.earlier(now, &call).is_some(), "the latest is there");
        }
        assert_eq!(repeats.answers.len(), MAX_ANSWER_BYTES / 16_000);
    }
}
