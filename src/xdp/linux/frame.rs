//! Frames as they come over a wire, to try the programs on.

use std::net::{IpAddr, SocketAddr};

/// An Ethernet frame, <linux/if_ether.h>, to and from made-up stations.
const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

const PROTOCOL_UDP: u8 = 17;
const TTL: u8 = 64;

/// The frame that carries a datagram, with all checksums as they must be.
///
/// # Panics
/// If the addresses are of two families, or the payload does not fit into a datagram.
pub fn udp_frame(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(8 + payload.len()).expect("a datagram").to_be_bytes();
    let (from, to) = (octets(source.ip()), octets(destination.ip()));
    assert_eq!(from.len(), to.len(), "addresses of one family");
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let addresses = [from, to].concat();
    let covered = [&addresses, &udp_len[..], &[0, PROTOCOL_UDP], &ports, &udp_len, payload];
    // Zero would mean that there is no checksum.
    let check = match checksum(&covered.concat()) {
        0 => 0xffff_u16,
        check => check,
    };
    let udp = [&ports, &udp_len[..], &check.to_be_bytes(), payload].concat();
    [&ETHERNET[..], &ip_header(source.is_ipv4(), &addresses, udp.len()), &udp].concat()
}

/// The type of the frame, and the header of IP.
fn ip_header(is_ipv4: bool, addresses: &[u8], payload_len: usize) -> Vec<u8> {
    if !is_ipv4 {
        let len = (payload_len as u16).to_be_bytes();
        let fixed = [0x86, 0xdd, 0x60, 0, 0, 0, len[0], len[1], PROTOCOL_UDP, TTL];
        return [&fixed, addresses].concat();
    }
    let len = (20 + payload_len as u16).to_be_bytes();
    let fixed = [0x45, 0, len[0], len[1], 0, 0, 0x40, 0, TTL, PROTOCOL_UDP];
    let check = checksum(&[&fixed, addresses].concat()).to_be_bytes();
    [&[0x08, 0x00], &fixed[..], &check, addresses].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The Internet checksum, RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
