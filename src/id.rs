//! Identifiers: the 160-bit points at which nodes and values live, and the XOR distance
//! between them.
//!
//! Nothing here knows of addresses or packets. Read [`Id`] first, then [`Distance`].

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::{Digest, Sha1};

/// A point in the id space: 20 bytes, the most significant first.
///
/// Nodes and keys share the space. By convention a key is the SHA-1 of a name
/// ([`Id::of_name`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; Id::LEN]);

impl Id {
    /// Length in bytes.
    pub const LEN: usize = 20;
    /// Length in bits.
    pub const BITS: u32 = 160;

    /// All bits clear: of no node.
    pub const ZERO: Id = Id([0; Id::LEN]);

    /// The id made of these bytes, the most significant first.
    pub const fn new(bytes: [u8; Id::LEN]) -> Id {
        Id(bytes)
    }

    /// The id in a slice of exactly 20 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Id> {
        bytes.try_into().ok().map(Id)
    }

    /// The SHA-1 of a name, by which keys and the ids of loopback nodes are made.
    pub fn of_name(name: impl AsRef<[u8]>) -> Id {
        Id(Sha1::digest(name.as_ref()).into())
    }

    /// A uniformly random id.
    pub fn random(rng: &mut impl Rng) -> Id {
        let mut bytes = [0; Id::LEN];
        rng.fill_bytes(&mut bytes);
        Id(bytes)
    }

    /// A random id that shares exactly `bits` leading bits with `self`: a point in the
    /// bucket of that number.
    ///
    /// # Panics
    /// If `bits` is 160 or more: no other id shares all bits.
    pub fn random_at(&self, bits: u32, rng: &mut impl Rng) -> Id {
        assert!(bits < Id::BITS, "an id shares at most 159 bits with another");
        let mut bytes = Id::random(rng).0;
        let (whole, rest) = ((bits / 8) as usize, bits % 8);
        bytes[..whole].copy_from_slice(&self.0[..whole]);
        let kept = !(0xff_u8 >> rest);
        let flipped = 0x80_u8 >> rest;
        bytes[whole] = (self.0[whole] & kept)
            | (!self.0[whole] & flipped)
            | (bytes[whole] & !(kept | flipped));
        Id(bytes)
    }

    /// All ids that share at least `bits` leading bits with this one, in order.
    pub fn sharing(&self, bits: u32) -> RangeInclusive<Id> {
        let (mut first, mut last) = (*self, *self);
        for (index, (first, last)) in first.0.iter_mut().zip(&mut last.0).enumerate() {
            let shared = bits.saturating_sub(8 * index as u32);
            let free = 0xff_u8.checked_shr(shared).unwrap_or(0);
            (*first, *last) = (*first & !free, *last | free);
        }
        first..=last
    }

    /// The id that differs from this one in that bit alone, counted from the front.
    pub fn flipped(mut self, bit: u32) -> Id {
        self.0[bit as usize / 8] ^= 0x80 >> (bit % 8);
        self
    }

    /// The bytes, the most significant first.
    pub const fn as_bytes(&self) -> &[u8; Id::LEN] {
        &self.0
    }

    /// XOR distance to another id.
    #[inline]
    pub fn distance(&self, other: &Id) -> Distance {
        let (a, b) = (self.words(), other.words());
        Distance(a.0 ^ b.0, a.1 ^ b.1)
    }

    /// How many leading bits the two ids share: 0 to 160, 160 only for equal ids.
    pub fn common_prefix(&self, other: &Id) -> u32 {
        self.distance(other).leading_zeros()
    }

    /// Bit `index`, counted from the most significant.
    pub fn bit(&self, index: u32) -> bool {
        self.0[(index / 8) as usize] & (0x80 >> (index % 8)) != 0
    }

    #[inline]
    fn words(&self) -> (u128, u32) {
        let (head, tail) = self.0.split_at(16);
        (
            u128::from_be_bytes(head.try_into().expect("split at 16")),
            u32::from_be_bytes(tail.try_into().expect("20 - 16 = 4")),
        )
    }
}

/// 40 lower-case hex digits.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As its digits.
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::serial::text::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        crate::serial::text::deserialize(deserializer)
    }
}

/// The first four bytes of an id: enough to tell the nodes of a trace from each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdPrefix(pub [u8; IdPrefix::LEN]);

impl IdPrefix {
    /// Length in bytes.
    pub const LEN: usize = 4;

    /// How an id begins.
    pub fn of(id: &Id) -> IdPrefix {
        IdPrefix(*id.0.first_chunk().expect("an id is longer"))
    }
}

/// Eight lower-case hex digits.
impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<IdPrefix> for String {
    fn from(prefix: IdPrefix) -> String {
        prefix.to_string()
    }
}

impl TryFrom<String> for IdPrefix {
    type Error = &'static str;

    fn try_from(text: String) -> Result<IdPrefix, &'static str> {
        const EXPECTED: &str = "the prefix of an id is 8 hex digits";
        let is_hex = text.len() == 2 * IdPrefix::LEN && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_hex.then(|| u32::from_str_radix(&text, 16).ok()).flatten();
        number.map(|number| IdPrefix(number.to_be_bytes())).ok_or(EXPECTED)
    }
}

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 40 hex digits")]
pub struct ParseIdError;

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Id, ParseIdError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Id::LEN {
            return Err(ParseIdError);
        }
        let mut bytes = [0; Id::LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| (digit as char).to_digit(16).ok_or(ParseIdError);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Id(bytes))
    }
}

/// How far apart two ids are: their XOR, read as a number.
///
/// Ordered, so that sorting by distance puts the nearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Distance(u128, u32);

impl Distance {
    /// The distance between an id and itself.
    pub const ZERO: Distance = Distance(0, 0);

    /// How many leading bits are zero, which is how many the two ids share.
    #[inline]
    pub fn leading_zeros(&self) -> u32 {
        match (self.0, self.1) {
            (0, low) => 128 + low.leading_zeros(),
            (high, _) => high.leading_zeros(),
        }
    }

    /// The distance as a share of the whole id space, from 0 up to 1; precise to a double.
    pub fn fraction(&self) -> f64 {
        const TWO_POW_128: f64 = (1_u128 << 127) as f64 * 2.0;
        (self.0 as f64 + f64::from(self.1) / (1_u64 << 32) as f64) / TWO_POW_128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn id_of_a_name_is_its_sha1() {
        let id = Id::of_name("8302");
        assert_eq!(id.to_string(), "6d432c2f4b3a4caeb670788651e014d7ae3aea85");
        assert_eq!("6d432c2f4b3a4caeb670788651e014d7ae3aea85".parse(), Ok(id));
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        assert_eq!("6d43".parse::<Id>(), Err(ParseIdError));
        assert_eq!("zz432c2f4b3a4caeb670788651e014d7ae3aea85".parse::<Id>(), Err(ParseIdError));
        assert_eq!("+d432c2f4b3a4caeb670788651e014d7ae3aea85".parse::<Id>(), Err(ParseIdError));
    }

    proptest! {
        #[test]
        fn distance_is_the_bytewise_xor(a: [u8; 20], b: [u8; 20], c: [u8; 20]) {
            let xor = |x: [u8; 20], y: [u8; 20]| std::array::from_fn::<u8, 20, _>(|i| x[i] ^ y[i]);
            let (near, far) = (Id::new(a).distance(&Id::new(b)), Id::new(a).distance(&Id::new(c)));
            prop_assert_eq!(near.cmp(&far), xor(a, b).cmp(&xor(a, c)));
            prop_assert_eq!(near == Distance::ZERO, a == b);
        }

        #[test]
        fn common_prefix_counts_the_equal_bits(a: [u8; 20], b: [u8; 20]) {
            let (a, b) = (Id::new(a), Id::new(b));
            let counted = (0..160).take_while(|&i| a.bit(i) == b.bit(i)).count() as u32;
            prop_assert_eq!(a.common_prefix(&b), counted);
        }

        #[test]
        fn those_that_share_a_prefix_lie_together(a: [u8; 20], b: [u8; 20], bits in 0_u32..=160) {
            let (a, b) = (Id::new(a), Id::new(b));
            prop_assert_eq!(a.sharing(bits).contains(&b), a.common_prefix(&b) >= bits);
            if bits < Id::BITS {
                prop_assert_eq!(a.common_prefix(&a.flipped(bits)), bits);
                prop_assert_eq!(a.flipped(bits).flipped(bits), a);
            }
        }

        #[test]
        fn random_at_shares_exactly_as_many_bits(a: [u8; 20], bits in 0_u32..160, seed: u64) {
            let a = Id::new(a);
            let other = a.random_at(bits, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(a.common_prefix(&other), bits);
        }

        #[test]
        fn fraction_follows_the_leading_zeros(a: [u8; 20], b: [u8; 20]) {
            let distance = Id::new(a).distance(&Id::new(b));
            let bits = distance.leading_zeros();
            prop_assert!(distance.fraction() <= 0.5_f64.powi(bits as i32));
            prop_assert!(distance.fraction() >= 0.5_f64.powi(bits as i32 + 1));
        }
    }
}
