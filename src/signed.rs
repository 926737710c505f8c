//! Signed items (BEP 44): values that only the holder of a key can change.
//!
//! An item lies under the SHA-1 of its public key and its salt, so whoever knows where to look knows who
//! may write there. The signature covers salt, sequence number and value, each as it is bencoded in a
//! message:
//!
//! ```text
//! 4:salt6:foobar 3:seqi1e 1:v12:Hello World!        without salt its part is left out
//! ```
//! The value is bytes here and is never read: what was signed is what stood in the message, whether or not
//! it is in canonical form.
//!
//! Where keys are kept is not decided here. Signatures hold against small changes of a key that make any
//! signature fit it: such keys are refused.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::{Digest, Sha1};

use crate::bencode::{put_bytes, put_integer};
use crate::id::Id;
use crate::serial::{from_hex, hex, text};

/// Bytes of the longest value, as it is bencoded.
pub const MAX_VALUE: usize = 1_000;

/// Bytes of the longest salt.
pub const MAX_SALT: usize = 64;

/// Who may write an item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; PublicKey::LEN]);

impl PublicKey {
    /// Its bytes, counted.
    pub const LEN: usize = 32;

    /// Where the item of this key lies that has this salt.
    pub fn target(&self, salt: &[u8]) -> Id {
        let hash = Sha1::new().chain_update(self.0).chain_update(salt).finalize();
        Id::new(hash.into())
    }
}

/// That an item is from the holder of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; Signature::LEN]);

impl Signature {
    /// Its bytes, counted.
    pub const LEN: usize = 64;
}

/// Both are text as hex digits, for people and where they are serialised.
macro_rules! as_hex {
    ($type:ident, $expected:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<$type, &'static str> {
                let bytes = from_hex(text.as_bytes()).and_then(|bytes| bytes.try_into().ok());
                bytes.map($type).ok_or($expected)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                text::serialize(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                text::deserialize(deserializer)
            }
        }
    };
}

as_hex!(PublicKey, "a public key is 64 hex digits");
as_hex!(Signature, "a signature is 128 hex digits");

/// Where an item lies that nobody can change.
pub fn immutable_target(value: &[u8]) -> Id {
    Id::of_name(value)
}

/// What a signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// Tells several items of one key apart; empty for none.
    pub salt: &'a [u8],
    /// The higher, the newer.
    pub seq: i64,
    /// The bencoded value.
    pub value: &'a [u8],
}

impl Content<'_> {
    /// Whether the holder of the key has signed it.
    pub fn is_signed_by(&self, key: &PublicKey, signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&key.0)
            .is_ok_and(|key| key.verify_strict(&self.to_bytes(), &signature).is_ok())
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.salt.len() + self.value.len() + 48);
        if !self.salt.is_empty() {
            out.extend_from_slice(b"4:salt");
            put_bytes(&mut out, self.salt);
        }
        out.extend_from_slice(b"3:seq");
        put_integer(&mut out, self.seq);
        out.extend_from_slice(b"1:v");
        out.extend_from_slice(self.value);
        out
    }
}

/// A public key with its secret. The secret is wiped when it is dropped, and shown nowhere.
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// Bytes of a secret, counted.
    pub const SECRET_LEN: usize = 32;

    /// The pair of a secret, which is 32 random bytes.
    pub fn of_secret(secret: &[u8; KeyPair::SECRET_LEN]) -> KeyPair {
        KeyPair(SigningKey::from_bytes(secret))
    }

    /// Who others see.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a value.
    pub fn sign(&self, content: &Content<'_>) -> Signature {
        Signature(self.0.sign(&content.to_bytes()).to_bytes())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: [u8; 32] = [7; 32];

    #[test]
    fn a_signature_covers_salt_number_and_value() {
        let pair = KeyPair::of_secret(&PAIR);
        let content = Content { salt: b"salt", seq: 4, value: b"5:value" };
        let signature = pair.sign(&content);
        assert!(content.is_signed_by(&pair.public(), &signature));
        for other in [
            Content { salt: b"", ..content },
            Content { salt: b"salu", ..content },
            Content { seq: 5, ..content },
            Content { seq: -4, ..content },
            Content { value: b"5:valuf", ..content },
        ] {
            assert!(!other.is_signed_by(&pair.public(), &signature), "{other:?}");
        }
        let mut other = signature;
        other.0[40] ^= 1;
        assert!(!content.is_signed_by(&pair.public(), &other));
        let stranger = KeyPair::of_secret(&[8; 32]).public();
        assert!(!content.is_signed_by(&stranger, &signature));
        assert_ne!(stranger.target(b""), pair.public().target(b""));
        assert_ne!(pair.public().target(b"salt"), pair.public().target(b""));
    }

    #[test]
    fn a_key_that_any_signature_fits_signs_nothing() {
        // The neutral element: with R neutral and s zero the equation holds for every message.
        let mut key = [0; PublicKey::LEN];
        key[0] = 1;
        let mut signature = [0; Signature::LEN];
        signature[0] = 1;
        let content = Content { salt: b"", seq: 1, value: b"1:x" };
        assert!(!content.is_signed_by(&PublicKey(key), &Signature(signature)));
    }

    #[test]
    fn a_pair_does_not_show_its_secret() {
        let shown = format!("{:?}", KeyPair::of_secret(&PAIR));
        assert!(!shown.contains("0707") && !shown.contains("7, 7"), "{shown}");
    }
}
