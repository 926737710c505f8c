//! `recvmmsg` and `sendmmsg`, with the local ends that datagrams come in at and leave from, and a
//! filter for what is received.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_LEN,
    BPF_RET, BPF_W, SKF_AD_IFINDEX, SKF_AD_OFF, SKF_NET_OFF, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6,
    in_addr, in_pktinfo, in6_addr, in6_pktinfo, sock_extended_err, sockaddr_in6,
};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, recvmsg, sendmmsg, setsockopt, sockopt,
};
use socket2::{SockFilter, SockRef};

use super::{BATCH, KeptOut, Parcel, Received, SLOT};
use crate::address::LocalEnd;
use crate::wire::{Dialect, MAX_DATAGRAM, Offsets};

/// Every network namespace has its loopback interface under this number.
const LOOPBACK_INTERFACE: u32 = 1;

/// Datagrams as they were received, in buffers that are used again and again.
///
/// An inbox serves one socket, or several alike: the system is told that there is as much room for the sender's
/// address and the local end as the last datagram took.
pub struct ReceiveBatch {
    slots: Vec<u8>,
    /// Sender, end, length.
    filled: Vec<(SocketAddr, LocalEnd, usize)>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Default for ReceiveBatch {
    fn default() -> ReceiveBatch {
        ReceiveBatch::new()
    }
}

impl ReceiveBatch {
    /// An empty inbox.
    pub fn new() -> ReceiveBatch {
        ReceiveBatch {
            slots: vec![0; BATCH * SLOT],
            filled: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(in6_pktinfo))),
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
            let source = source.expect("an IP socket receives from IP addresses");
            (source, local_end(&message), message.bytes)
        }));
        Ok(())
    }

    /// The datagrams in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        let slots = self.slots.chunks_exact(SLOT);
        self.filled.iter().zip(slots).map(|(&(source, local, len), slot)| Received {
            source,
            local,
            bytes: &slot[..len],
        })
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
    address.as_sockaddr_in6().map(|v6| (*v6).into())
}

/// Makes the system tell where each datagram came in.
pub(super) fn tell_ends(socket: &UdpSocket, is_ipv4: bool) -> io::Result<()> {
    let done = match is_ipv4 {
        true => setsockopt(socket, sockopt::Ipv4PacketInfo, &true),
        false => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true),
    };
    done.map_err(Into::into)
}

/// Makes the system keep what came back from datagrams that reached nobody, for [`receive_failure`].
pub(super) fn tell_failures(socket: &UdpSocket, is_ipv4: bool) -> io::Result<()> {
    let done = match is_ipv4 {
        true => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        false => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    };
    done.map_err(Into::into)
}

/// Takes the next datagram that a machine on its way says it could not deliver: where it was to go, and as
/// much of it as came back, written to `bytes`. `None` if the next failure is another.
pub(super) fn receive_failure(
    socket: &UdpSocket,
    bytes: &mut [u8],
) -> io::Result<Option<(SocketAddr, usize)>> {
    let mut space = cmsg_space!(sock_extended_err, sockaddr_in6);
    let mut buffers = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    let Some(destination) = message.address.as_ref().and_then(socket_address) else {
        return Ok(None);
    };
    let is_undelivered = |cause: ControlMessageOwned| match cause {
        ControlMessageOwned::Ipv4RecvErr(error, _) => error.ee_origin == SO_EE_ORIGIN_ICMP,
        ControlMessageOwned::Ipv6RecvErr(error, _) => error.ee_origin == SO_EE_ORIGIN_ICMP6,
        _ => false,
    };
    let mut causes = message.cmsgs()?;
    Ok(causes.any(is_undelivered).then_some((destination, message.bytes)))
}

/// Where a datagram came in, if the socket [tells that](tell_ends).
fn local_end(message: &RecvMsg<'_, '_, SockaddrStorage>) -> LocalEnd {
    // A message that is cut short could be anything.
    let unknown = LocalEnd { is_outside: true, ..LocalEnd::default() };
    let Ok(mut told) = message.cmsgs() else { return unknown };
    let (ip, interface) = match told.next() {
        None => return LocalEnd::default(),
        Some(ControlMessageOwned::Ipv4PacketInfo(info)) => {
            // For a broadcast, the address of the interface instead of the one that was asked.
            let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
            (IpAddr::V4(ip), info.ipi_ifindex as u32)
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
            (Ipv6Addr::from(info.ipi6_addr.s6_addr).into(), info.ipi6_ifindex)
        }
        Some(_) => return unknown,
    };
    let is_scoped = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    LocalEnd {
        // Nothing can leave from a multicast group.
        ip: (!ip.is_multicast()).then_some(ip),
        scope: if is_scoped { interface } else { 0 },
        is_outside: interface != LOOPBACK_INTERFACE,
    }
}

/// Attaches the program that decides what the socket queues, in classic BPF, which the kernel runs
/// for any user.
pub(super) fn set_filter(socket: &UdpSocket, kept_out: &[KeptOut]) -> io::Result<()> {
    SockRef::from(socket).attach_filter(&filter(kept_out))
}

/// The program. A datagram from 127.0.0.0/8 that does not come over the loopback interface is emptied (for ::1 the
/// system itself drops it; and the interface that the system tells with a datagram is the one that the address
/// belongs to, even if it came over loopback). A datagram that is longer than any message is dropped. From sources
/// that are kept out only replies with the right first bytes are let in. A source is matched by its IPv4 address, or
/// by the first half of its IPv6 address.
fn filter(kept_out: &[KeptOut]) -> Vec<SockFilter> {
    // Offsets count from the UDP header; these count from the IPv4 or IPv6 header.
    const VERSION: u32 = SKF_NET_OFF as u32;
    const IPV4_SOURCE: u32 = VERSION + 12;
    const IPV6_SOURCE: u32 = VERSION + 8;

    const INTERFACE: u32 = (SKF_AD_OFF + SKF_AD_IFINDEX) as u32;
    let mut ipv4 = vec![
        load(BPF_W, INTERFACE),
        SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 3, 0, LOOPBACK_INTERFACE),
        load(BPF_B, IPV4_SOURCE),
        skip_unless(BPF_JEQ, 127, 1),
        // Emptied, so that the node still counts it.
        op(BPF_RET | BPF_K, UDP_HEADER),
        load(BPF_W, IPV4_SOURCE),
    ];
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
        skip_unless(BPF_JGT, UDP_HEADER + MAX_DATAGRAM as u32, 1),
        drop(),
        load(BPF_B, VERSION),
        op(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        skip_unless(BPF_JEQ, 0x40, ipv4.len() as u8),
    ];
    program.extend(ipv4);
    program.extend(ipv6);
    program
}

/// The part that decides about a datagram from a source that is kept out.
fn let_in(reply_prefix: Option<[u8; 4]>) -> Vec<SockFilter> {
    const OFFSETS: Offsets = Dialect::V1.offsets().expect("they are the same in all of v1");
    let Some(prefix) = reply_prefix else { return vec![drop()] };
    vec![
        // This drops datagrams that are too short to have these bytes.
        load(BPF_W, UDP_HEADER + OFFSETS.transaction as u32),
        skip_unless(BPF_JEQ, u32::from_be_bytes(prefix), 3),
        load(BPF_B, UDP_HEADER + OFFSETS.call as u32),
        skip_unless(BPF_JGE, OFFSETS.first_reply.into(), 1),
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
    /// For datagrams that leave from where the system chooses.
    plain: MultiHeaders<SockaddrStorage>,
    /// For those that leave from a given address.
    from_ipv4: MultiHeaders<SockaddrStorage>,
    from_ipv6: MultiHeaders<SockaddrStorage>,
    destinations: Vec<Option<SockaddrStorage>>,
}

impl Sender {
    pub(super) fn new() -> Sender {
        Sender {
            plain: MultiHeaders::preallocate(BATCH, None),
            from_ipv4: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(in_pktinfo))),
            from_ipv6: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(in6_pktinfo))),
            destinations: Vec::with_capacity(BATCH),
        }
    }

    /// Sends datagrams from the front of the batch, all from the local end of the first. Returns how
    /// many went; an error is about the first of them.
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
        let to = &self.destinations;
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let from = batch.first().map_or_else(LocalEnd::default, |parcel| parcel.from);
        let sent = match from.ip {
            None => sendmmsg(fd, &mut self.plain, buffers, to, [], flags)?.count(),
            Some(IpAddr::V4(ip)) => {
                let address = |ip: Ipv4Addr| in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let from = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: address(ip),
                    ipi_addr: address(Ipv4Addr::UNSPECIFIED),
                };
                let from = [ControlMessage::Ipv4PacketInfo(&from)];
                sendmmsg(fd, &mut self.from_ipv4, buffers, to, from, flags)?.count()
            }
            Some(IpAddr::V6(ip)) => {
                let ipi6_addr = in6_addr { s6_addr: ip.octets() };
                let from = in6_pktinfo { ipi6_addr, ipi6_ifindex: from.scope };
                let from = [ControlMessage::Ipv6PacketInfo(&from)];
                sendmmsg(fd, &mut self.from_ipv6, buffers, to, from, flags)?.count()
            }
        };
        Ok(sent)
    }
}
