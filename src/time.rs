//! Points and spans of time, in microseconds.
//!
//! The core is told the time and never asks for it: there is no `now()` here. The UDP driver
//! counts from its start, the simulator from zero; only differences mean anything.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

use rand::{Rng, RngExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: microseconds since a moment that only the caller knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment from which the caller counts.
    pub const ZERO: Instant = Instant(0);
    /// Later than all others: a timer that never fires.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The instant `micros` microseconds after [`Instant::ZERO`].
    pub const fn from_micros(micros: u64) -> Instant {
        Instant(micros)
    }

    /// Microseconds since [`Instant::ZERO`].
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time passed since an earlier instant; zero if that one is not earlier.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

/// Stops at [`Instant::ZERO`].
impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(span.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Instant::NEVER => f.write_str("never"),
            Instant(micros) => write!(f, "@{:?}", Duration(micros)),
        }
    }
}

/// A span of time in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// A span of `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Duration {
        Duration(micros)
    }

    /// A span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Duration {
        Duration(millis.saturating_mul(1_000))
    }

    /// A span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Duration {
        Duration(secs.saturating_mul(1_000_000))
    }

    /// The span in microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span in whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The span in milliseconds, with its fraction.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// The span times `factor`.
    pub const fn times(self, factor: u64) -> Duration {
        Duration(self.0.saturating_mul(factor))
    }

    /// The span, up to a tenth longer or shorter, so that nodes started together do not act together for
    /// ever.
    pub fn jittered(self, rng: &mut impl Rng) -> Duration {
        let tenth = self.0 / 10;
        let offset = rng.random_range(0..=2 * tenth);
        Duration(self.0 - tenth + offset)
    }

    /// A part of the span; the whole for a divisor of zero.
    pub const fn divided_by(self, divisor: u64) -> Duration {
        Duration(self.0 / if divisor == 0 { 1 } else { divisor })
    }

    /// This span less another; zero if that one is longer.
    pub const fn minus(self, other: Duration) -> Duration {
        Duration(self.0.saturating_sub(other.0))
    }
}

impl Add for Duration {
    type Output = Duration;
    fn add(self, other: Duration) -> Duration {
        Duration(self.0.saturating_add(other.0))
    }
}

/// As a person would say it: `740 µs`, `12.5 ms`, `1.50 s`.
impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros @ 0..1_000 => write!(f, "{micros} µs"),
            micros @ 1_000..1_000_000 => write!(f, "{:.1} ms", micros as f64 / 1e3),
            micros => write!(f, "{:.2} s", micros as f64 / 1e6),
        }
    }
}

/// As milliseconds, with their fraction.
impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_millis_f64())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        f64::deserialize(deserializer).map(|millis| Duration((millis * 1e3).round() as u64))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(span: std::time::Duration) -> Duration {
        Duration(span.as_micros().try_into().unwrap_or(u64::MAX))
    }
}

impl From<Duration> for std::time::Duration {
    fn from(span: Duration) -> std::time::Duration {
        std::time::Duration::from_micros(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let late = Instant::from_micros(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(late), Duration::ZERO);
        assert_eq!(Duration::from_secs(u64::MAX).as_micros(), u64::MAX);
    }

    #[test]
    fn spans_read_as_people_say_them() {
        assert_eq!(format!("{:?}", Duration::from_micros(740)), "740 µs");
        assert_eq!(format!("{:?}", Duration::from_micros(12_540)), "12.5 ms");
        assert_eq!(format!("{:?}", Duration::from_millis(1_500)), "1.50 s");
    }
}
