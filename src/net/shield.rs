//! Sources that flood the node, kept out for a while.
//!
//! A refused request costs the node little, but it has taken a place in the socket's queue, and a
//! flood takes them all. So the system is asked to drop what comes from there before it is queued.
//! Whoever forges the address of a peer, and sends enough in its name, cuts it off from this node
//! for as long: that is the price, and no more than filling the queue would do to everybody.

use std::io;
use std::net::{IpAddr, UdpSocket};

use tracing::{debug, warn};

use super::socket::{self, KeptOut};
use crate::time::{Duration, Instant};

/// How long a source is kept out. When it is let in again it takes some milliseconds to notice
/// that it floods on: a thousandth of the time.
const KEPT_OUT: Duration = Duration::from_secs(10);

/// Sources that are kept out at once: the filter must stay cheaper than what it saves.
const SOURCES_MAX: usize = 16;

/// Who is kept out, and until when.
#[derive(Default)]
pub(super) struct Shield {
    out: Vec<(IpAddr, Instant)>,
    /// Whether the system has not been told yet.
    is_changed: bool,
}

impl Shield {
    /// Keeps a source out from now on, for some time.
    pub(super) fn keep_out(&mut self, now: Instant, source: IpAddr) {
        let until = now + KEPT_OUT;
        if let Some(place) = self.out.iter_mut().find(|(other, _)| *other == source) {
            place.1 = until;
            return;
        }
        if self.out.is_empty() {
            warn!(%source, "a flood; for ten seconds nothing is received from there");
        } else {
            // Whoever forges sources must not fill the log.
            debug!(%source, "a flood from there too");
        }
        if self.out.len() >= SOURCES_MAX {
            // The first of them has been out for the longest.
            self.out.remove(0);
        }
        self.out.push((source, until));
        self.is_changed = true;
    }

    /// When the next one is let in again.
    pub(super) fn next_time(&self) -> Instant {
        self.out.iter().map(|&(_, until)| until).min().unwrap_or(Instant::NEVER)
    }

    /// Lets in whose time is over, and tells the system what has changed.
    pub(super) fn tend<'a>(
        &mut self,
        now: Instant,
        sockets: impl IntoIterator<Item = &'a UdpSocket>,
    ) {
        if self.next_time() <= now {
            self.out.retain(|&(_, until)| until > now);
            self.is_changed = true;
        }
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let kept_out = |&(ip, _): &(IpAddr, Instant)| KeptOut { ip, reply_prefix: None };
        let kept_out: Vec<KeptOut> = self.out.iter().map(kept_out).collect();
        for socket in sockets {
            match socket::set_filter(socket, &kept_out) {
                Ok(()) => debug!(?kept_out, "the filter is changed"),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => warn!(%error, "the system keeps nobody out"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn after(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_source_is_let_in_again_when_its_time_is_over() {
        let socket = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut shield = Shield::default();
        assert_eq!(shield.next_time(), Instant::NEVER);
        shield.keep_out(after(0), source(1));
        shield.keep_out(after(5), source(2));
        assert_eq!(shield.next_time(), after(10));
        shield.tend(after(9), [&socket]);
        assert_eq!(shield.out.len(), 2);
        shield.tend(after(10), [&socket]);
        assert_eq!(shield.out, [(source(2), after(15))]);
        // It went on while it was out.
        shield.keep_out(after(14), source(2));
        assert_eq!(shield.next_time(), after(24));
        shield.tend(after(24), [&socket]);
        assert_eq!(shield.next_time(), Instant::NEVER);
    }

    #[test]
    fn no_more_than_a_few_are_out_at_once_the_latest() {
        let mut shield = Shield::default();
        (0..100).for_each(|number| shield.keep_out(after(0), source(number)));
        let out: Vec<_> = shield.out.iter().map(|&(source, _)| source).collect();
        assert_eq!(out, (84..100).map(source).collect::<Vec<_>>());
    }
}
