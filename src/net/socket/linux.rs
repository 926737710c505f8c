//! `recvmmsg` and `sendmmsg`, and a filter of what is received.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LEN,
    BPF_RET, BPF_W, SKF_NET_OFF,
};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use socket2::{SockFilter, SockRef};

use super::{BATCH, KeptOut, Parcel, SLOT, canonical};
use crate::wire::v1;

/// Datagrams as they were received, in buffers that are used again and again.
///
/// Each inbox serves sockets of one address family: what the system is told of the room for a
/// sender's address is the length of the last one.
pub struct Inbox {
    slots: Vec<u8>,
    filled: Vec<(SocketAddr, usize)>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> Inbox {
        Inbox {
            slots: vec![0; BATCH * SLOT],
            filled: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Replaces what the inbox holds by what has arrived, at most [`BATCH`] datagrams. A blocking
    /// socket waits for the first one only.
    ///
    /// # Errors
    /// Those of the system; `WouldBlock` if nothing has arrived.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.filled.clear();
        let mut slots = self.slots.chunks_exact_mut(SLOT);
        let mut buffers: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(slots.next().expect("a slot for each"))]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let received =
            recvmmsg(socket.as_raw_fd(), &mut self.headers, buffers.iter_mut(), flags, None)?;
        self.filled.extend(received.map(|message| {
            let source = message.address.as_ref().and_then(socket_address);
            (source.expect("an IP socket receives from IP addresses"), message.bytes)
        }));
        Ok(())
    }

    /// The datagrams with their senders, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.slots.chunks_exact(SLOT);
        self.filled.iter().zip(slots).map(|(&(source, len), slot)| (source, &slot[..len]))
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.filled.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some((*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| canonical((*v6).into()))
}

/// Attaches the program that decides what the socket queues, in the language of the packet filters
/// that the kernel runs for any user (classic BPF).
pub(super) fn set_filter(socket: &UdpSocket, kept_out: &[KeptOut]) -> io::Result<()> {
    SockRef::from(socket).attach_filter(&filter(kept_out))
}

/// The program: what is longer than any message is dropped, and of sources that are kept out all but
/// replies that begin as they are to. The first half of an IPv6 address decides, all of an IPv4 one.
fn filter(kept_out: &[KeptOut]) -> Vec<SockFilter> {
    // Offsets count from the UDP header, these from that of IPv4 or IPv6.
    const VERSION: u32 = SKF_NET_OFF as u32;
    const IPV4_SOURCE: u32 = VERSION + 12;
    const IPV6_SOURCE: u32 = VERSION + 8;

    let mut ipv4 = vec![load(BPF_W, IPV4_SOURCE)];
    let mut ipv6 = Vec::new();
    for source in kept_out {
        let let_in = let_in(source.reply_prefix);
        let beyond = let_in.len() as u8;
        match source.ip {
            IpAddr::V4(ip) => ipv4.push(skip_unless(BPF_JEQ, ip.to_bits(), beyond)),
            IpAddr::V6(ip) => {
                let network = (ip.to_bits() >> 64) as u64;
                ipv6.extend([
                    load(BPF_W, IPV6_SOURCE),
                    skip_unless(BPF_JEQ, (network >> 32) as u32, beyond + 2),
                    load(BPF_W, IPV6_SOURCE + 4),
                    skip_unless(BPF_JEQ, network as u32, beyond),
                ]);
            }
        }
        if source.ip.is_ipv4() { ipv4.extend(let_in) } else { ipv6.extend(let_in) }
    }
    ipv4.push(keep());
    ipv6.push(keep());
    let mut program = vec![
        op(BPF_LD | BPF_W | BPF_LEN, 0),
        skip_unless(BPF_JGT, UDP_HEADER + v1::MAX_DATAGRAM as u32, 1),
        drop(),
        load(BPF_B, VERSION),
        op(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        skip_unless(BPF_JEQ, 0x40, ipv4.len() as u8),
    ];
    program.extend(ipv4);
    program.extend(ipv6);
    program
}

/// What decides about a datagram of a source that is kept out.
fn let_in(reply_prefix: Option<[u8; 4]>) -> Vec<SockFilter> {
    let Some(prefix) = reply_prefix else { return vec![drop()] };
    vec![
        // What is too short to have these bytes is dropped by that.
        load(BPF_W, UDP_HEADER + v1::RPC_ID_AT as u32),
        skip_unless(BPF_JEQ, u32::from_be_bytes(prefix), 3),
        load(BPF_B, UDP_HEADER + v1::CALL_AT as u32),
        skip_unless(BPF_JGE, v1::FIRST_REPLY.into(), 1),
        keep(),
        drop(),
    ]
}

const UDP_HEADER: u32 = 8;

fn op(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

fn load(size: u32, at: u32) -> SockFilter {
    op(BPF_LD | size | BPF_ABS, at)
}

fn skip_unless(test: u32, k: u32, skip: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | test | BPF_K) as u16, 0, skip, k)
}

fn drop() -> SockFilter {
    op(BPF_RET | BPF_K, 0)
}

fn keep() -> SockFilter {
    op(BPF_RET | BPF_K, u32::MAX)
}

/// What `sendmmsg` needs besides the datagrams.
pub(super) struct Sender {
    headers: MultiHeaders<SockaddrStorage>,
    destinations: Vec<Option<SockaddrStorage>>,
}

impl Sender {
    pub(super) fn new() -> Sender {
        Sender {
            headers: MultiHeaders::preallocate(BATCH, None),
            destinations: Vec::with_capacity(BATCH),
        }
    }

    /// Sends from the front and tells how many went; an error is about the first of them.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &[Parcel],
        bytes: &[u8],
    ) -> io::Result<usize> {
        self.destinations.clear();
        self.destinations.extend(batch.iter().map(|parcel| parcel.destination.map(Into::into)));
        let buffers: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|index| {
            let range = batch.get(index).map_or(0..0, |parcel| parcel.bytes.clone());
            [IoSlice::new(&bytes[range])]
        });
        let buffers = &buffers[..batch.len()];
        let flags = MsgFlags::empty();
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            buffers,
            &self.destinations,
            [],
            flags,
        )?;
        Ok(sent.count())
    }
}
