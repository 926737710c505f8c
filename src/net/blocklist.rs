//! Sources that flood the node, kept out for a while.
//!
//! A refused request costs the node little, but it has taken a place in the socket's queue, and a
//! flood takes them all. So the system is asked to drop datagrams from such a source before they are
//! queued. Anybody can flood in another node's name, so replies that only that node itself can have
//! sent are still let in: it can answer what it is asked, and keeps its place in the routing table,
//! while its own requests are lost with the flood. A source that floods with such replies is kept out
//! altogether.

use std::io;
use std::net::UdpSocket;

use tracing::{debug, warn};

use super::socket::{self, KeptOut};
use crate::address::Subnet;
use crate::time::{Duration, Instant};

/// How long a source is kept out. If it is let in again and floods on, the node notices within some
/// milliseconds: a thousandth of the time.
const KEPT_OUT: Duration = Duration::from_secs(10);

/// Sources that are kept out at once: the filter must cost less than it saves.
const SOURCES_MAX: usize = 16;

/// The sources that are kept out, and until when.
#[derive(Default)]
pub(super) struct Blocklist {
    out: Vec<(KeptOut, Instant)>,
    /// Whether the system has not been told yet.
    is_changed: bool,
}

impl Blocklist {
    /// Keeps a source out from now on, for some time.
    pub(super) fn keep_out(&mut self, now: Instant, source: KeptOut) {
        let until = now + KEPT_OUT;
        let is_it = |(other, _): &&mut (KeptOut, Instant)| subnet(other) == subnet(&source);
        if let Some((known, known_until)) = self.out.iter_mut().find(is_it) {
            *known_until = until;
            // Not the reverse: others that forge its name must not let its own flood in.
            if known.reply_prefix.is_some() && source.reply_prefix.is_none() {
                known.reply_prefix = None;
                self.is_changed = true;
            }
            return;
        }
        if self.out.is_empty() {
            let ip = source.ip;
            warn!(source = %ip, "a flood; for ten seconds only replies are received from there");
        } else {
            // Somebody who forges sources must not fill the log.
            debug!(?source, "a flood from there too");
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

    /// Lets the sources in whose time is over, and tells the system what has changed.
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
        let kept_out: Vec<KeptOut> = self.out.iter().map(|&(source, _)| source).collect();
        for socket in sockets {
            match socket::set_filter(socket, &kept_out) {
                Ok(()) => debug!(?kept_out, "the filter is changed"),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => warn!(%error, "the system keeps nobody out"),
            }
        }
    }
}

/// All addresses that count as one source.
fn subnet(source: &KeptOut) -> Option<Subnet> {
    Subnet::all_of(source.ip).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> KeptOut {
        KeptOut { ip: [10, 0, 0, number].into(), reply_prefix: Some([number; 4]) }
    }

    fn after(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_source_is_let_in_again_when_its_time_is_over() {
        let socket = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut blocklist = Blocklist::default();
        assert_eq!(blocklist.next_time(), Instant::NEVER);
        blocklist.keep_out(after(0), source(1));
        blocklist.keep_out(after(5), source(2));
        assert_eq!(blocklist.next_time(), after(10));
        blocklist.tend(after(9), [&socket]);
        assert_eq!(blocklist.out.len(), 2);
        blocklist.tend(after(10), [&socket]);
        assert_eq!(blocklist.out, [(source(2), after(15))]);
        // It went on while it was out.
        blocklist.keep_out(after(14), source(2));
        assert_eq!(blocklist.next_time(), after(24));
        blocklist.tend(after(24), [&socket]);
        assert_eq!(blocklist.next_time(), Instant::NEVER);
    }

    #[test]
    fn no_more_than_a_few_are_out_at_once_the_latest() {
        let mut blocklist = Blocklist::default();
        (0..100).for_each(|number| blocklist.keep_out(after(0), source(number)));
        let out: Vec<_> = blocklist.out.iter().map(|&(source, _)| source).collect();
        assert_eq!(out, (84..100).map(source).collect::<Vec<_>>());
    }

    #[test]
    fn who_floods_with_replies_of_its_own_is_kept_out_whatever_others_forge() {
        let mut blocklist = Blocklist::default();
        let forged = source(1);
        let own = KeptOut { reply_prefix: None, ..forged };
        for (flood, expected) in [(forged, forged), (forged, forged), (own, own), (forged, own)] {
            blocklist.keep_out(after(0), flood);
            assert_eq!(blocklist.out, [(expected, after(10))]);
        }
    }

    #[test]
    fn a_64_takes_one_place() {
        let mut blocklist = Blocklist::default();
        for last in 0..100_u16 {
            let ip = std::net::Ipv6Addr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, last]).into();
            blocklist.keep_out(after(0), KeptOut { ip, reply_prefix: None });
        }
        assert_eq!(blocklist.out.len(), 1);
    }
}
