//! How much may be written to a disk.

use crate::time::{Duration, Instant};

/// Bytes a second in the long run: 86 GB a day, which an ordinary SSD bears for years. The stores of
/// a lab or a busy node stay far below; only an attack on the disk gets there.
pub(crate) const RATE: u64 = 1 << 20;

/// Bytes that may be written at once: a whole store of the default size, so that stores which are
/// acknowledged in an ordinary rush are on disk within the second that is promised.
pub(crate) const BURST: u64 = 64 << 20;

/// A bucket of bytes that fills at a rate. A write may exceed what is left; the excess is owed then.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    rate: u64,
    burst: u64,
    left: i64,
    /// When `left` was reckoned.
    at: Instant,
}

impl Budget {
    /// A full bucket.
    pub(crate) fn new(now: Instant, rate: u64, burst: u64) -> Budget {
        Budget { rate, burst, left: clamped(burst), at: now }
    }

    /// Notes that bytes were written.
    pub(crate) fn spend(&mut self, now: Instant, bytes: u64) {
        let since = now.since(self.at).as_micros();
        let earned = u128::from(since) * u128::from(self.rate) / 1_000_000;
        // Time that adds less than a byte is not counted as passed, so no fraction is lost.
        if earned > 0 || since > 1_000_000 {
            self.at = now;
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.left = self.left.saturating_add(earned).min(clamped(self.burst));
        }
        self.left = self.left.saturating_sub(clamped(bytes));
    }

    /// When there is something to be spent again.
    pub(crate) fn free_at(&self) -> Instant {
        let owed = u64::try_from(-self.left).unwrap_or(0);
        self.at + Duration::from_micros(owed.saturating_mul(1_000_000) / self.rate.max(1))
    }
}

fn clamped(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut budget = Budget::new(at(0), 10, 100);
        budget.spend(at(0), 100);
        assert_eq!(budget.free_at(), at(0));
        budget.spend(at(0), 50);
        assert_eq!(budget.free_at(), at(5));
        let (mut now, mut written) = (at(0), 0);
        while now < at(1_000) {
            budget.spend(now, 7);
            written += 7;
            now = budget.free_at().max(now + Duration::from_millis(10));
        }
        assert!((9_900..10_100).contains(&written), "{written}");
    }

    #[test]
    fn idleness_saves_no_more_than_a_burst() {
        let mut budget = Budget::new(at(0), 10, 100);
        budget.spend(at(1_000_000), 200);
        assert_eq!(budget.free_at(), at(1_000_010));
    }
}
