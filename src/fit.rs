//! Ids that fit addresses (BEP 42): whoever has few addresses has few ids to choose from, and cannot put
//! nodes wherever in a network it likes.
//!
//! ```text
//! id   ┌ 21 bits of a checksum ┬ random           ┬ r ┐    r: one byte, its low 3 bits are in the checksum
//! ```
//! The checksum is CRC-32C of the address, a part of which is masked away: all of a /8 counts for as many
//! as a single /16 further on. IPv6 is looked at as far as its /64.
//!
//! What follows from an id that does not fit is not decided here. Addresses of one's own machine or
//! network are exempt, since others see a node there under another one.

use std::net::IpAddr;

use rand::Rng;

use crate::address::Scope;
use crate::id::Id;

/// What is left of the four bytes of an IPv4 address.
const IPV4_MASK: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];

/// What is left of the first eight bytes of an IPv6 address.
const IPV6_MASK: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];

/// Bits at the front of an id that its address and its last byte decide.
pub const BITS: u32 = 21;

/// An id that fits an address, otherwise random.
pub fn id_for(ip: IpAddr, rng: &mut impl Rng) -> Id {
    let mut bytes = *Id::random(rng).as_bytes();
    let [first, second, third, _] = checksum(ip, bytes[Id::LEN - 1]).to_be_bytes();
    bytes[0] = first;
    bytes[1] = second;
    bytes[2] = third & 0xf8 | bytes[2] & 0x07;
    Id::new(bytes)
}

/// Whether an id fits an address, or the address is exempt.
pub fn is_fit(id: &Id, ip: IpAddr) -> bool {
    Scope::of(ip) != Scope::Global || has_prefix(id, ip)
}

/// Whether an id begins as the address lays down.
fn has_prefix(id: &Id, ip: IpAddr) -> bool {
    let bytes = id.as_bytes();
    let begins = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (begins ^ checksum(ip, bytes[Id::LEN - 1])) >> (u32::BITS - BITS) == 0
}

/// The checksum whose first bits an id begins with. `r` is its last byte.
fn checksum(ip: IpAddr, r: u8) -> u32 {
    let seed = r << 5;
    let masked = |byte: u8, mask: u8| byte & mask;
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 4];
            for (at, (byte, mask)) in ip.octets().into_iter().zip(IPV4_MASK).enumerate() {
                bytes[at] = masked(byte, mask);
            }
            bytes[0] |= seed;
            crc32c(&bytes)
        }
        IpAddr::V6(ip) => {
            let mut bytes = [0; 8];
            for (at, (byte, mask)) in ip.octets().into_iter().zip(IPV6_MASK).enumerate() {
                bytes[at] = masked(byte, mask);
            }
            bytes[0] |= seed;
            crc32c(&bytes)
        }
    }
}

/// CRC-32C (RFC 3720 §12.1), bit by bit: it is taken of eight bytes at most.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // RFC 3720 §B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|at| at as u8)), 0x46dd_794e);
    }

    #[test]
    fn at_home_any_id_fits() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.7.8",
            "169.254.1.1",
            "::1",
            "fe80::1",
            "fd00::1",
        ] {
            assert!(is_fit(&Id::ZERO, ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_fit(&Id::ZERO, ip.parse().unwrap()), "{ip}");
        }
    }

    proptest! {
        #[test]
        fn an_id_for_an_address_fits_it_until_a_bit_of_its_part_changes(
            ipv4: [u8; 4], ipv6: [u8; 16], is_ipv4: bool, seed: u64,
        ) {
            let ip = if is_ipv4 { IpAddr::from(ipv4) } else { IpAddr::from(ipv6) };
            let id = id_for(ip, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(has_prefix(&id, ip));
            let mapped = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
                ip => ip,
            };
            prop_assert!(has_prefix(&id, mapped), "the same address");
            for bit in 0..Id::BITS {
                let counts = !(BITS..Id::BITS - 3).contains(&bit);
                prop_assert_eq!(has_prefix(&id.flipped(bit), ip), !counts, "bit {}", bit);
            }
        }
    }
}
