//! Bloom filters of addresses (BEP 33): how many peers others know of, counted without their addresses
//! being told.
//!
//! A filter is 2,048 bits, of which each address sets two. Filters of several nodes are put together with
//! [`Filter::merge`], and an address that two of them know counts once.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sha1::{Digest, Sha1};

use crate::serial::{from_hex, hex};

/// A set of addresses that tells about how many they are, and not which.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter([u8; Filter::LEN]);

impl Filter {
    /// Its bytes, counted.
    pub const LEN: usize = 256;

    /// Its bits, counted.
    const BITS: u16 = 2_048;

    /// The filter of nobody.
    pub const EMPTY: Filter = Filter([0; Filter::LEN]);

    /// The filter in these bytes, if they are [`Filter::LEN`].
    pub fn from_slice(bytes: &[u8]) -> Option<Filter> {
        bytes.try_into().ok().map(Filter)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Filter::LEN] {
        &self.0
    }

    /// Puts an address in.
    pub fn insert(&mut self, ip: IpAddr) {
        for bit in bits(ip) {
            self.0[usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }

    /// Whether an address may be in it: certainly not, or perhaps.
    pub fn may_contain(&self, ip: IpAddr) -> bool {
        bits(ip).into_iter().all(|bit| self.0[usize::from(bit / 8)] >> (bit % 8) & 1 == 1)
    }

    /// Puts in all that is in another.
    pub fn merge(&mut self, other: &Filter) {
        self.0.iter_mut().zip(other.0).for_each(|(byte, other)| *byte |= other);
    }

    /// About how many addresses are in it. A filter without a bit left, or without a bit set, tells of
    /// one bit less, as the BEP has it.
    pub fn count(&self) -> f64 {
        let all = f64::from(Filter::BITS);
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        let zeros = f64::from(zeros).clamp(1.0, all - 1.0);
        (zeros / all).ln() / (2.0 * (1.0 - 1.0 / all).ln())
    }
}

impl FromIterator<IpAddr> for Filter {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Filter {
        let mut filter = Filter::EMPTY;
        addresses.into_iter().for_each(|ip| filter.insert(ip));
        filter
    }
}

/// Hex digits.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter(about {:.1})", self.count())
    }
}

impl FromStr for Filter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Filter, &'static str> {
        let bytes = from_hex(text.as_bytes());
        bytes.and_then(|bytes| Filter::from_slice(&bytes)).ok_or("a filter is 512 hex digits")
    }
}

/// The bits that an address sets.
fn bits(ip: IpAddr) -> [u16; 2] {
    let hash = match ip.to_canonical() {
        IpAddr::V4(ip) => Sha1::digest(ip.octets()),
        IpAddr::V6(ip) => Sha1::digest(ip.octets()),
    };
    let number = |at: usize| u16::from_le_bytes([hash[at], hash[at + 1]]) % Filter::BITS;
    [number(0), number(2)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_filter_survives_as_text() {
        let filter = Filter::from_iter(["192.0.2.1".parse().unwrap()]);
        assert_eq!(filter.to_string().parse(), Ok(filter.clone()));
        let text = filter.to_string();
        for wrong in [&text[1..], &text[2..], "", "é", &text.replace('0', "x")] {
            assert!(wrong.parse::<Filter>().is_err());
        }
    }

    #[test]
    fn a_full_filter_tells_a_number_too() {
        let full = Filter([0xff; Filter::LEN]);
        assert!((7_000.0..8_000.0).contains(&full.count()), "{}", full.count());
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_in_and_merging_is_putting_in_both(
            a in prop::collection::vec(any::<[u8; 4]>(), 0..50),
            b in prop::collection::vec(any::<[u8; 16]>(), 0..50),
        ) {
            let a: Vec<IpAddr> = a.into_iter().map(IpAddr::from).collect();
            let b: Vec<IpAddr> = b.into_iter().map(IpAddr::from).collect();
            let mut merged: Filter = a.iter().copied().collect();
            merged.merge(&b.iter().copied().collect());
            let together: Filter = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(&merged, &together);
            prop_assert!(a.iter().chain(&b).all(|ip| merged.may_contain(*ip)));
        }
    }
}
