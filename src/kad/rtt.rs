//! How long a reply may take: round trips measured, timeouts derived (RFC 6298).

use crate::time::Duration;

/// Before anything was measured, a query holds up its lookup for this long: an ordinary round trip
/// between continents.
const PATIENCE_UNMEASURED: Duration = Duration::from_millis(300);

/// A query never stops holding up its lookup earlier than this: a process that was not scheduled
/// for a moment is not slow.
const PATIENCE_MIN: Duration = Duration::from_millis(4);

/// After this number of calls in a row without an answer, what was measured is forgotten: answers that come
/// after the timeout are not measured, so the timeout would never grow with a network that has slowed down.
const MAX_SILENCES: u32 = 16;

/// Round trips of a node's recent calls, smoothed.
pub(crate) struct RoundTrips {
    smoothed: Option<(Duration, Duration)>,
    /// Calls without an answer since the last that had one.
    silences: u32,
    min: Duration,
    max: Duration,
}

impl RoundTrips {
    /// Nothing measured yet; timeouts will lie between `min` and `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> RoundTrips {
        RoundTrips { smoothed: None, silences: 0, min: min.min(max), max }
    }

    /// Takes in a measured round trip.
    pub(crate) fn on_measured(&mut self, rtt: Duration) {
        self.silences = 0;
        self.smoothed = Some(match self.smoothed {
            None => (rtt, rtt.divided_by(2)),
            Some((mean, deviation)) => {
                let apart = mean.minus(rtt).max(rtt.minus(mean));
                let deviation = (deviation.times(3) + apart).divided_by(4);
                ((mean.times(7) + rtt).divided_by(8), deviation)
            }
        });
    }

    /// Notes that a call had no answer.
    pub(crate) fn on_silence(&mut self) {
        self.silences += 1;
        if self.silences == MAX_SILENCES {
            self.smoothed = None;
            self.silences = 0;
        }
    }

    /// How long to wait for a reply before giving it up.
    pub(crate) fn timeout(&self) -> Duration {
        self.usual().map_or(self.max, |usual| usual.max(self.min).min(self.max))
    }

    /// How long a query of a lookup may hold up the next one: longer than nearly all replies take,
    /// much shorter than the timeout.
    pub(crate) fn patience(&self) -> Duration {
        let usual = self.usual().map_or(PATIENCE_UNMEASURED, |usual| usual.max(PATIENCE_MIN));
        usual.min(self.timeout())
    }

    /// The mean and four deviations, within which nearly all replies arrive (RFC 6298 §2.3).
    fn usual(&self) -> Option<Duration> {
        self.smoothed.map(|(mean, deviation)| mean + deviation.times(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(250);
    const MAX: Duration = Duration::from_millis(1_500);

    fn after(millis: &[u64]) -> RoundTrips {
        let mut trips = RoundTrips::new(MIN, MAX);
        millis.iter().for_each(|&ms| trips.on_measured(Duration::from_millis(ms)));
        trips
    }

    #[test]
    fn timeout_stays_between_its_bounds() {
        assert_eq!(after(&[]).timeout(), MAX);
        assert_eq!(after(&[1; 20]).timeout(), MIN);
        assert_eq!(after(&[1_400; 20]).timeout().max(MAX), MAX);
        let middling = after(&[400; 40]).timeout();
        assert!(MIN < middling && middling < MAX, "{middling:?}");
    }

    #[test]
    fn a_network_that_has_slowed_down_is_measured_anew() {
        let mut trips = after(&[1; 20]);
        (1..MAX_SILENCES).for_each(|_| trips.on_silence());
        assert_eq!(trips.timeout(), MIN);
        trips.on_measured(Duration::from_millis(1));
        (1..MAX_SILENCES).for_each(|_| trips.on_silence());
        assert_eq!(trips.timeout(), MIN, "not in a row");
        trips.on_silence();
        assert_eq!(trips.timeout(), MAX);
    }

    #[test]
    fn patience_is_short_where_replies_are_quick() {
        assert_eq!(after(&[1; 20]).patience(), PATIENCE_MIN);
        assert!(after(&[100; 40]).patience() < after(&[100; 40]).timeout());
        assert!(after(&[1_500; 20]).patience() <= MAX);
    }
}
