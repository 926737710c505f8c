//! Observers of what the node sends and receives: a ring of the last packets, and taps, which get
//! packets and news as they come.
//!
//! Bytes are copied and not read; decoding them is left to the observers. No observer can hold the
//! node up: what finds no room is counted as lost. While nobody observes, a packet costs one branch.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::capture::RunningCapture;
use crate::control::{Direction, Packet, PacketRing, Sight};

/// Events that wait for the owner of a tap.
const TAP_EVENTS: usize = 4_096;

/// Bytes of packets that wait for the owner of a tap: some milliseconds at the rate of a fast disk.
const TAP_BYTES: usize = 8 << 20;

/// How many of a tap's bytes a sight takes.
fn bytes_of(sight: &Sight) -> usize {
    match sight {
        Sight::Packet(packet) => packet.bytes.len(),
        Sight::ContactAdded(..) | Sight::ContactLost(..) => 0,
    }
}

/// Events as they come, from the moment at which the tap was made. Drop it to end it.
#[derive(Debug)]
pub struct Tap {
    events: mpsc::Receiver<Sight>,
    load: Arc<Load>,
}

/// The packets that a tap holds, and how many it lost.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Tells how many events a tap has lost, even after its end.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Load>);

impl Losses {
    /// Events that came while the tap was full, since it was made.
    pub fn count(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Sets the count, for a tap in another process.
    pub(super) fn set(&self, lost: u64) {
        self.0.lost.store(lost, Ordering::Relaxed);
    }
}

impl Tap {
    /// The next event; `None` once the node or the tap has ended and all earlier events were taken.
    pub async fn next(&mut self) -> Option<Sight> {
        let sight = self.events.recv().await?;
        Some(self.taken(sight))
    }

    /// Like [`next`](Tap::next), for a thread that may block.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn blocking_next(&mut self) -> Option<Sight> {
        let sight = self.events.blocking_recv()?;
        Some(self.taken(sight))
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Sight> {
        let sight = self.events.try_recv().ok()?;
        Some(self.taken(sight))
    }

    /// The counter of what this tap has lost.
    pub fn losses(&self) -> Losses {
        Losses(self.load.clone())
    }

    fn taken(&self, sight: Sight) -> Sight {
        self.load.bytes.fetch_sub(bytes_of(&sight), Ordering::Relaxed);
        sight
    }
}

/// The node's end of a tap.
#[derive(Debug)]
pub(super) struct Source {
    events: mpsc::Sender<Sight>,
    load: Arc<Load>,
}

/// Both ends of a new tap.
pub(super) fn tap() -> (Source, Tap) {
    let (sender, receiver) = mpsc::channel(TAP_EVENTS);
    let load = Arc::new(Load::default());
    (Source { events: sender, load: load.clone() }, Tap { events: receiver, load })
}

impl Source {
    /// Whether the other end is still there.
    pub(super) fn is_open(&self) -> bool {
        !self.events.is_closed()
    }

    fn offer(&self, sight: &Sight) {
        // Only this end adds, so the sum cannot have grown meanwhile.
        let fits = self.load.bytes.load(Ordering::Relaxed) + bytes_of(sight) <= TAP_BYTES;
        if fits && let Ok(place) = self.events.try_reserve() {
            self.load.bytes.fetch_add(bytes_of(sight), Ordering::Relaxed);
            place.send(sight.clone());
        } else if self.is_open() {
            self.load.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All observers.
#[derive(Debug, Default)]
pub(super) struct Observer {
    ring: Option<PacketRing>,
    taps: Vec<Source>,
    /// The file that packets are written to, and how that goes.
    pub(super) capture: Option<RunningCapture>,
}

impl Observer {
    /// What the ring holds; from the first call on it is there.
    pub(super) fn packets(&mut self) -> Vec<Packet> {
        self.ring.get_or_insert_default().packets().cloned().collect()
    }

    /// Gives the ring up.
    pub(super) fn forget_packets(&mut self) {
        self.ring = None;
    }

    /// A new tap.
    pub(super) fn tap(&mut self) -> Tap {
        let (source, tap) = tap();
        self.taps.push(source);
        tap
    }

    fn on_packet(&mut self, direction: Direction, peer: SocketAddr, bytes: &[u8]) {
        let packet = Packet { time: SystemTime::now(), direction, peer, bytes: bytes.into() };
        if let Some(ring) = &mut self.ring {
            ring.push(packet.clone());
        }
        let sight = Sight::Packet(packet);
        if let Some(capture) = &self.capture {
            capture.source.offer(&sight);
        }
        self.tell(&sight);
    }

    fn tell(&mut self, sight: &Sight) {
        self.taps.retain(Source::is_open);
        self.taps.iter().for_each(|tap| tap.offer(sight));
    }

    fn is_idle(&self) -> bool {
        self.ring.is_none() && self.taps.is_empty() && self.capture.is_none()
    }
}

/// The observers, allocated only while somebody looks.
#[derive(Debug, Default)]
pub(super) struct Observed(Option<Box<Observer>>);

impl Observed {
    /// Nobody looks yet, or the ring alone is there.
    pub(super) fn new(keeps_packets: bool) -> Observed {
        let ring =
            || Box::new(Observer { ring: Some(PacketRing::default()), ..Observer::default() });
        Observed(keeps_packets.then(ring))
    }

    /// A packet came or goes.
    #[inline]
    pub(super) fn packet(&mut self, direction: Direction, peer: SocketAddr, bytes: &[u8]) {
        if self.0.is_some() {
            self.change(|observer| observer.on_packet(direction, peer, bytes));
        }
    }

    /// Something else happened.
    pub(super) fn news(&mut self, sight: impl FnOnce(SystemTime) -> Sight) {
        if self.0.is_some() {
            self.change(|observer| observer.tell(&sight(SystemTime::now())));
        }
    }

    /// Lets somebody begin or end to look.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Observer)) {
        let observer = self.0.get_or_insert_default();
        change(observer);
        if observer.is_idle() {
            self.0 = None;
        }
    }

    /// The node ends: no more packets come. Waits until a capture is written.
    pub(super) async fn end(self) {
        if let Some(capture) = self.0.and_then(|observer| observer.capture) {
            // A failure was logged where it happened.
            let _ = capture.end().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{RING_BYTES, RING_PACKETS};
    use crate::message::Contact;

    fn peer() -> SocketAddr {
        ([127, 0, 0, 1], 8003).into()
    }

    /// The packets that are kept, by their first byte.
    fn kept(observed: &mut Observed) -> Vec<(u8, usize)> {
        let mut packets = Vec::new();
        observed.change(|observer| packets = observer.packets());
        packets.iter().map(|packet| (packet.bytes[0], packet.bytes.len())).collect()
    }

    fn receive(observed: &mut Observed, bytes: &[u8]) {
        observed.packet(Direction::In, peer(), bytes);
    }

    #[test]
    fn the_ring_keeps_the_last_packets_and_no_more() {
        let mut observed = Observed::new(true);
        for number in 0..3 * RING_PACKETS {
            receive(&mut observed, &[(number % 251) as u8]);
        }
        let kept = kept(&mut observed);
        let last = (2 * RING_PACKETS..3 * RING_PACKETS).map(|number| ((number % 251) as u8, 1));
        assert_eq!(kept, last.collect::<Vec<_>>());
    }

    #[test]
    fn large_packets_leave_room_for_few() {
        let mut observed = Observed::new(true);
        (0..100).for_each(|number| receive(&mut observed, &[number; 65_507]));
        let kept = kept(&mut observed);
        assert_eq!(kept.len(), RING_BYTES / 65_507);
        assert_eq!(kept.last(), Some(&(99, 65_507)));
    }

    #[test]
    fn nothing_is_kept_while_nobody_looks() {
        let mut observed = Observed::new(false);
        receive(&mut observed, b"unseen");
        assert!(observed.0.is_none());
        assert_eq!(kept(&mut observed), [], "from now on");
        receive(&mut observed, b"seen");
        assert_eq!(kept(&mut observed).len(), 1);
        observed.change(Observer::forget_packets);
        assert!(observed.0.is_none());
    }

    #[test]
    fn a_full_tap_loses_counts_and_goes_on() {
        let mut observed = Observed::new(false);
        let mut tap = None;
        observed.change(|observer| tap = Some(observer.tap()));
        let mut tap = tap.unwrap();
        (0..TAP_EVENTS + 10).for_each(|_| receive(&mut observed, b"p"));
        assert_eq!(tap.losses().count(), 10);
        assert!(tap.try_next().is_some());
        receive(&mut observed, b"q");
        assert_eq!(tap.losses().count(), 10);
        let rest: Vec<_> = std::iter::from_fn(|| tap.try_next()).collect();
        assert_eq!(rest.len(), TAP_EVENTS);
        assert!(matches!(&rest[TAP_EVENTS - 1], Sight::Packet(packet) if *packet.bytes == *b"q"));

        (0..200).for_each(|_| receive(&mut observed, &[0; 65_507]));
        let fit = (TAP_BYTES / 65_507) as u64;
        assert_eq!(tap.losses().count(), 10 + 200 - fit, "bytes are bounded too");
        drop(tap);
        receive(&mut observed, b"r");
        assert!(observed.0.is_none(), "a tap that is gone is forgotten");
    }

    #[test]
    fn taps_hear_of_contacts_and_the_ring_does_not() {
        let mut observed = Observed::new(true);
        let mut tap = None;
        observed.change(|observer| tap = Some(observer.tap()));
        let contact = Contact { id: crate::id::Id::of_name("8003"), address: peer() };
        observed.news(|time| Sight::ContactAdded(time, contact));
        assert!(
            matches!(tap.unwrap().try_next(), Some(Sight::ContactAdded(_, seen)) if seen == contact)
        );
        assert_eq!(kept(&mut observed), []);
    }
}
