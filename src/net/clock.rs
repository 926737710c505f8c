//! The clocks of a node, and what they mean together.
//!
//! One clock runs evenly and stands still while the machine sleeps, one runs on meanwhile, and the
//! wall clock is set now and then. A node's time is how long it has run, asleep or not. If the wall
//! clock has moved more than that, somebody has set it: a step.

use std::cell::Cell;
use std::time::{Duration as StdDuration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant as TokioInstant;

use crate::time::{Duration, Instant};

/// How far two clocks may drift apart without a step: readings are not taken at the same moment, and
/// the system adjusts even clocks together.
const SAME: StdDuration = StdDuration::from_secs(1);

/// What the clocks show at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClockReading {
    /// Since some moment; stands while the machine sleeps.
    monotonic: StdDuration,
    /// Since some moment; runs on.
    boottime: StdDuration,
    /// Since 1970, by the clock that somebody sets.
    realtime: StdDuration,
}

/// What readings mean, one after the other.
#[derive(Clone, Copy, Debug)]
struct Judge {
    first: ClockReading,
    /// Time asleep so far.
    asleep: StdDuration,
    /// The moment of the first reading, by the wall clock as it stands now.
    epoch: StdDuration,
}

impl Judge {
    fn new(first: ClockReading) -> Judge {
        Judge { first, asleep: StdDuration::ZERO, epoch: first.realtime }
    }

    /// Time since the first reading, asleep or not.
    fn elapsed(&mut self, now: ClockReading) -> StdDuration {
        let awake = now.monotonic.saturating_sub(self.first.monotonic);
        let asleep = now.boottime.saturating_sub(self.first.boottime).saturating_sub(awake);
        // A smaller difference is the time between two readings.
        if asleep > self.asleep + SAME {
            self.asleep = asleep;
        }
        awake + self.asleep
    }

    /// The moment of the first reading, by the wall clock. It changes only if that is set.
    fn epoch(&mut self, now: ClockReading) -> StdDuration {
        let elapsed = self.elapsed(now);
        let epoch = now.realtime.saturating_sub(elapsed);
        if epoch.abs_diff(self.epoch) >= SAME {
            self.epoch = epoch;
        }
        self.epoch
    }
}

/// Counts a node's time from its start.
pub(super) struct Clock {
    start: TokioInstant,
    judge: Cell<Judge>,
}

impl Clock {
    pub(super) fn start() -> Clock {
        let start = TokioInstant::now();
        Clock { start, judge: Cell::new(Judge::new(read(start))) }
    }

    pub(super) fn now(&self) -> Instant {
        let mut judge = self.judge.get();
        // The wall clock is not read: this is done for each batch of datagrams.
        let reading = ClockReading { realtime: StdDuration::ZERO, ..read_even(self.start) };
        let elapsed = judge.elapsed(reading);
        self.judge.set(judge);
        Instant::ZERO + elapsed.into()
    }

    /// When a moment of the node's time comes, unless the machine sleeps meanwhile.
    pub(super) fn at(&self, instant: Instant) -> TokioInstant {
        let elapsed = StdDuration::from_micros(instant.as_micros());
        self.start + elapsed.saturating_sub(self.judge.get().asleep)
    }

    /// When the node started, in milliseconds since the machine did; 0 where that is not known.
    pub(super) fn boottime(&self) -> u64 {
        match boottime() {
            Some(_) => millis(self.judge.get().first.boottime),
            None => 0,
        }
    }

    /// What the machine's clock, which runs on while it sleeps, showed when the node started.
    pub(super) fn origin(&self) -> Duration {
        self.judge.get().first.boottime.into()
    }

    /// When the node started, by the wall clock as it stands now, in milliseconds since 1970.
    pub(super) fn epoch(&self) -> u64 {
        let mut judge = self.judge.get();
        let epoch = judge.epoch(read(self.start));
        self.judge.set(judge);
        millis(epoch)
    }
}

fn millis(span: StdDuration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn read(start: TokioInstant) -> ClockReading {
    let realtime = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ClockReading { realtime, ..read_even(start) }
}

fn read_even(start: TokioInstant) -> ClockReading {
    let monotonic = start.elapsed();
    ClockReading {
        monotonic,
        boottime: boottime().unwrap_or(monotonic),
        realtime: StdDuration::ZERO,
    }
}

#[cfg(target_os = "linux")]
fn boottime() -> Option<StdDuration> {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(StdDuration::from)
}

/// Elsewhere time asleep is not known, or counted by the even clock anyway.
#[cfg(not(target_os = "linux"))]
fn boottime() -> Option<StdDuration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// Milliseconds on three clocks that began at different moments.
    fn reading(monotonic: i64, boottime: i64, realtime: i64) -> ClockReading {
        let at = |millis: i64| StdDuration::from_millis(u64::try_from(millis).unwrap());
        ClockReading {
            monotonic: at(5_000 + monotonic),
            boottime: at(7_000 + boottime),
            realtime: at(1_000 * HOUR + realtime),
        }
    }

    /// What readings mean: milliseconds that have passed, and how far the wall clock was set.
    fn judged(readings: &[(i64, i64, i64)]) -> Vec<(u128, i64)> {
        let mut judge = Judge::new(reading(0, 0, 0));
        let epoch = |judge: &mut Judge, now| judge.epoch(now).as_millis() as i64;
        let first = epoch(&mut judge, reading(0, 0, 0));
        let judged = readings.iter().map(|&(monotonic, boottime, realtime)| {
            let now = reading(monotonic, boottime, realtime);
            (judge.elapsed(now).as_millis(), epoch(&mut judge, now) - first)
        });
        judged.collect()
    }

    #[test]
    fn clocks_that_run_together_mean_time() {
        assert_eq!(judged(&[(10, 10, 10), (HOUR, HOUR, HOUR)]), [(10, 0), (HOUR as u128, 0)]);
    }

    #[test]
    fn time_asleep_has_passed_and_is_no_step() {
        let asleep = [(10, 10 + HOUR, 10 + HOUR), (20, 20 + HOUR, 20 + HOUR)];
        assert_eq!(judged(&asleep), [(10 + HOUR as u128, 0), (20 + HOUR as u128, 0)]);
        let twice = [(10, 10 + HOUR, 10 + HOUR), (20, 20 + 3 * HOUR, 20 + 3 * HOUR)];
        assert_eq!(judged(&twice), [(10 + HOUR as u128, 0), (20 + 3 * HOUR as u128, 0)]);
    }

    #[test]
    fn a_clock_that_is_set_is_a_step_and_no_time() {
        let steps = [(10, 10, 10 + HOUR), (20, 20, 20 - HOUR), (30, 30, 30)];
        assert_eq!(judged(&steps), [(10, HOUR), (20, -HOUR), (30, 0)]);
    }

    #[test]
    fn a_clock_that_is_set_during_sleep_is_both() {
        let both = [(10, 10 + 2 * HOUR, 10 + 5 * HOUR)];
        assert_eq!(judged(&both), [(10 + 2 * HOUR as u128, 3 * HOUR)]);
    }

    #[test]
    fn small_differences_mean_nothing_and_do_not_add_up_unseen() {
        assert_eq!(judged(&[(10, 300, 500), (20, 20, -700)]), [(10, 0), (20, 0)]);
        let creeping = [(10, 10, 510), (20, 20, 1_020), (30, 30, 1_530)];
        assert_eq!(judged(&creeping), [(10, 0), (20, 1_000), (30, 1_000)]);
    }

    #[test]
    fn time_never_runs_back() {
        let readings = [(10, 10 + HOUR, 0), (20, 0, 0), (30, 30, 0)];
        let elapsed: Vec<_> = judged(&readings).into_iter().map(|(elapsed, _)| elapsed).collect();
        assert!(elapsed.is_sorted(), "{elapsed:?}");
    }
}
