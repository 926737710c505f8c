//! Frames with UDP datagrams in them, written and summed by the book, and kernel programs to try
//! them on.
#![allow(dead_code, reason = "no test needs all of it")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kademlua::xdp::{Attachment, Counter, Error, Mode, Pinning, Trial};

/// Both programs.
pub(crate) const MODES: [Mode; 2] = [Mode::Native, Mode::Tcx];

/// Where the message begins in a frame.
pub(crate) const AT_MESSAGE_IPV4: usize = 14 + 20 + 8;
pub(crate) const AT_MESSAGE_IPV6: usize = 14 + 40 + 8;

const UDP: u8 = 17;

/// A datagram and all around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from_mac: [u8; 6],
    pub(crate) to_mac: [u8; 6],
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) class: u8,
    pub(crate) ttl: u8,
    /// IPv4 only.
    pub(crate) ident: u16,
    /// Flags and offset of a fragment, IPv4 only.
    pub(crate) fragment: u16,
    pub(crate) message: Vec<u8>,
}

impl Packet {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr, message: Vec<u8>) -> Packet {
        Packet {
            from_mac: [2, 0, 0, 0, 0, 1],
            to_mac: [2, 0, 0, 0, 0, 9],
            source,
            destination,
            class: 0,
            ttl: 57,
            ident: 0x1234,
            fragment: 0,
            message,
        }
    }

    /// The packet that answers this one.
    pub(crate) fn answered(&self, message: Vec<u8>) -> Packet {
        Packet {
            from_mac: self.to_mac,
            to_mac: self.from_mac,
            source: self.destination,
            destination: self.source,
            class: 0,
            ttl: 64,
            fragment: 0x4000,
            message,
            ..*self
        }
    }

    /// The frame, with all sums.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = 8 + self.message.len() as u16;
        let mut udp = Vec::new();
        udp.extend(self.source.port().to_be_bytes());
        udp.extend(self.destination.port().to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.message);
        let pseudo =
            [octets(self.source.ip()), octets(self.destination.ip()), vec![0, UDP]].concat();
        let sum = checksum(&[&pseudo, &length.to_be_bytes()[..], &udp].concat());
        udp[6..8].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
        [self.ethernet(), self.ip(length), udp].concat()
    }

    fn ethernet(&self) -> Vec<u8> {
        let kind: u16 = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        [&self.to_mac[..], &self.from_mac, &kind.to_be_bytes()].concat()
    }

    fn ip(&self, length: u16) -> Vec<u8> {
        let addresses = [octets(self.source.ip()), octets(self.destination.ip())].concat();
        if self.source.is_ipv6() {
            let first = 6 << 28 | u32::from(self.class) << 20;
            let rest = [UDP, self.ttl];
            return [&first.to_be_bytes()[..], &length.to_be_bytes(), &rest, &addresses].concat();
        }
        let mut header = vec![0x45, self.class];
        for word in [20 + length, self.ident, self.fragment] {
            header.extend(word.to_be_bytes());
        }
        header.extend([self.ttl, UDP, 0, 0]);
        header.extend(addresses);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// Where the message begins in a frame of that family.
pub(crate) fn message_at(is_ipv4: bool) -> usize {
    if is_ipv4 { AT_MESSAGE_IPV4 } else { AT_MESSAGE_IPV6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The Internet checksum, RFC 1071.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !sum as u16
}

/// The programs for a port, without limits.
pub(crate) fn attachment(port: u16) -> Attachment {
    Attachment::new(Pinning { bpffs: "/".into(), port }, "")
}

/// The programs, with a heart that beats; `None`, and why, where they cannot be loaded. Where
/// skipping is forbidden, they must.
pub(crate) fn trial(attachment: &Attachment) -> Option<Trial> {
    match Trial::load(attachment) {
        Ok(mut trial) => {
            trial.beat(Some(Duration::ZERO));
            Some(trial)
        }
        Err(error @ (Error::Permission(_) | Error::Kernel { .. })) => {
            assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "{error}");
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What the counters counted meanwhile, in the order of the map.
pub(crate) fn counted<R>(
    trial: &mut Trial,
    act: impl FnOnce(&mut Trial) -> R,
) -> (R, Vec<Counter>) {
    let before = trial.counters().unwrap();
    let result = act(trial);
    let after = trial.counters().unwrap();
    let counts = Counter::ALL.into_iter().zip(before.into_iter().zip(after));
    let all = counts.flat_map(|(counter, (before, after))| {
        std::iter::repeat_n(counter, (after - before) as usize)
    });
    (result, all.collect())
}
