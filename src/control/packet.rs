//! What there is to see while a node works: its packets, and contacts that come and go.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::message::Contact;

/// Packets that a ring keeps: the last seconds of a busy node, or a screen or two to look back on.
pub const RING_PACKETS: usize = 1_000;

/// Bytes of packets that a ring keeps; large values push out more than one.
pub const RING_BYTES: usize = 1 << 20;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The node received it.
    In,
    /// The node handed it to the system to send.
    Out,
}

/// One datagram of the node's own. What it says is a [`Reading`](super::Reading), and that is what is
/// serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When the node took it in or gave it out, by the clock on the wall.
    pub time: SystemTime,
    /// Which way it went.
    pub direction: Direction,
    /// Where it came from or went to.
    pub peer: SocketAddr,
    /// All of its bytes.
    pub bytes: Arc<[u8]>,
}

/// What a tap tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A datagram.
    Packet(Packet),
    /// A contact has come into the routing table.
    ContactAdded(SystemTime, Contact),
    /// A contact has left the routing table.
    ContactLost(SystemTime, Contact),
}

/// The last packets of a node, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct PacketRing {
    packets: VecDeque<Packet>,
    bytes: usize,
}

impl PacketRing {
    pub(crate) fn push(&mut self, packet: Packet) {
        self.bytes += packet.bytes.len();
        self.packets.push_back(packet);
        while self.packets.len() > RING_PACKETS || self.bytes > RING_BYTES {
            let oldest = self.packets.pop_front().expect("one was pushed just now");
            self.bytes -= oldest.bytes.len();
        }
    }

    pub(crate) fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter()
    }
}
