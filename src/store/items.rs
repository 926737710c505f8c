//! Items of Mainline (BEP 44): values that nobody can change, and values that only the holder of a key can.
//!
//! Who brings an item need not be who wrote it, so the networks that bring items are the accounts here: one
//! may have a tenth of all places. An item is forgotten unless somebody brings it again; where all
//! places are taken, the one that would be forgotten next makes room.
//!
//! Whether a signature holds is checked here too, as the last and dearest thing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::address::Subnet;
use crate::id::Id;
use crate::message::mainline::{PutItem, code};
use crate::signed::{MAX_SALT, MAX_VALUE, PublicKey, Signature};
use crate::store::peers::network;
use crate::time::{Duration, Instant};

/// How many items are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All items; each takes some 500 bytes and its value.
    pub items: usize,
    /// From one put to the end, without another.
    pub lifetime: Duration,
}

/// What is kept, by place.
#[derive(Debug)]
pub struct Items {
    limits: Limits,
    items: BTreeMap<Id, StoredItem>,
    ends: BTreeSet<(Instant, Id)>,
    /// How many each network has brought.
    held: BTreeMap<Subnet, usize>,
}

/// An item that is kept.
#[derive(Clone, Debug)]
pub struct StoredItem {
    /// The value as it was brought, bencoded.
    pub value: Box<[u8]>,
    /// Whose it is; `None` if nobody can change it.
    pub proof: Option<StoredProof>,
    until: Instant,
    brought_by: Option<Subnet>,
}

/// Who wrote an item, and which version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredProof {
    /// The author's key.
    pub key: PublicKey,
    /// The higher, the newer.
    pub seq: i64,
    /// For this version.
    pub signature: Signature,
}

/// Why an item is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its value has too many bytes.
    #[error("the value is larger than {MAX_VALUE} bytes")]
    TooLarge,
    /// Keys out of order, or numbers with leading zeros: others would read it otherwise.
    #[error("the value is not strictly bencoded")]
    NotStrict,
    /// Its salt has too many bytes.
    #[error("the salt is larger than {MAX_SALT} bytes")]
    SaltTooLarge,
    /// Another version is kept than the sender wants to replace.
    #[error("another version is stored")]
    CasMismatch,
    /// A newer version is kept, or another one of the same number.
    #[error("a newer version is stored")]
    SeqTooLow,
    /// It is not from the holder of the key.
    #[error("the signature does not fit")]
    BadSignature,
    /// The network that brings it has its share.
    #[error("your network has its share of places")]
    NoShare,
}

impl Refusal {
    /// As Mainline numbers it.
    pub fn code(self) -> i64 {
        match self {
            Refusal::TooLarge => code::VALUE_TOO_LARGE,
            Refusal::NotStrict => code::PROTOCOL,
            Refusal::SaltTooLarge => code::SALT_TOO_LARGE,
            Refusal::CasMismatch => code::CAS_MISMATCH,
            Refusal::SeqTooLow => code::SEQ_TOO_LOW,
            Refusal::BadSignature => code::BAD_SIGNATURE,
            Refusal::NoShare => code::SERVER,
        }
    }
}

impl Items {
    /// None yet.
    pub fn new(limits: Limits) -> Items {
        Items { limits, items: BTreeMap::new(), ends: BTreeSet::new(), held: BTreeMap::new() }
    }

    /// Keeps an item that somebody brings, or keeps it for longer.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn put(&mut self, now: Instant, by: IpAddr, put: &PutItem<'_>) -> Result<(), Refusal> {
        self.expire(now);
        let value = put.value.as_bytes();
        if value.len() > MAX_VALUE {
            return Err(Refusal::TooLarge);
        }
        if put.proof.is_some_and(|proof| proof.salt.len() > MAX_SALT) {
            return Err(Refusal::SaltTooLarge);
        }
        if !put.value.is_strict() {
            return Err(Refusal::NotStrict);
        }
        let place = put.place();
        let known = self.items.get(&place);
        if let (Some(proof), Some(known)) = (&put.proof, known)
            && let Some(known_proof) = &known.proof
        {
            if put.cas.is_some_and(|cas| cas != known_proof.seq) {
                return Err(Refusal::CasMismatch);
            }
            let is_same = proof.seq == known_proof.seq && *known.value == *value;
            if proof.seq <= known_proof.seq && !is_same {
                return Err(Refusal::SeqTooLow);
            }
        }
        let brought_by = network(by);
        let is_known_of_network = known.is_some_and(|known| known.brought_by == brought_by);
        if !is_known_of_network
            && let Some(network) = brought_by
            && self.held.get(&network).is_some_and(|&held| held >= self.limits.items.div_ceil(10))
        {
            return Err(Refusal::NoShare);
        }
        if put.proof.is_some_and(|proof| !proof.holds(value)) {
            return Err(Refusal::BadSignature);
        }
        self.forget(&place);
        if self.items.len() >= self.limits.items {
            let &(_, next) = self.ends.first().expect("there are many");
            self.forget(&next);
        }
        let proof = put.proof.map(|proof| StoredProof {
            key: proof.key,
            seq: proof.seq,
            signature: proof.signature,
        });
        let until = now + self.limits.lifetime;
        self.items.insert(place, StoredItem { value: value.into(), proof, until, brought_by });
        self.ends.insert((until, place));
        if let Some(network) = brought_by {
            *self.held.entry(network).or_default() += 1;
        }
        Ok(())
    }

    /// What lies at a place.
    pub fn get(&self, place: &Id) -> Option<&StoredItem> {
        self.items.get(place)
    }

    /// Forgets those whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(&(until, place)) = self.ends.first()
            && until <= now
        {
            self.forget(&place);
        }
    }

    /// When the next is forgotten.
    pub fn next_due(&self) -> Instant {
        self.ends.first().map_or(Instant::NEVER, |(until, _)| *until)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn forget(&mut self, place: &Id) {
        let Some(item) = self.items.remove(place) else { return };
        self.ends.remove(&(item.until, *place));
        if let Some(network) = item.brought_by
            && let Some(held) = self.held.get_mut(&network)
        {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Item;
    use crate::message::mainline::Proof;
    use crate::signed::{Content, KeyPair};

    const LIMITS: Limits = Limits { items: 100, lifetime: Duration::from_secs(7_200) };
    const NOW: Instant = Instant::ZERO;

    fn ip(number: u8) -> IpAddr {
        [11, number, 1, 1].into()
    }

    fn immutable(value: &[u8]) -> PutItem<'_> {
        let value = Item::parse(value).unwrap();
        PutItem { target: None, token: b"", value, proof: None, cas: None }
    }

    fn signed<'a>(value: &'a [u8], seq: i64, salt: &'a [u8]) -> PutItem<'a> {
        let pair = KeyPair::of_secret(&[7; 32]);
        let signature = pair.sign(&Content { salt, seq, value });
        let proof = Some(Proof { key: pair.public(), salt, seq, signature });
        PutItem { proof, ..immutable(value) }
    }

    #[test]
    fn only_a_newer_version_replaces_one_and_only_its_writer_makes_it() {
        let mut items = Items::new(LIMITS);
        let first = signed(b"3:one", 5, b"");
        let place = first.place();
        let value = |items: &Items| items.get(&place).map(|item| item.value.to_vec());
        let mut put = |put: &PutItem<'_>| items.put(NOW, ip(1), put);
        assert_eq!(put(&PutItem { cas: Some(9), ..first }), Ok(()), "nothing is there to compare");
        assert_eq!(put(&first), Ok(()), "the same again");
        assert_eq!(put(&signed(b"3:two", 5, b"")), Err(Refusal::SeqTooLow));
        assert_eq!(put(&signed(b"3:two", 4, b"")), Err(Refusal::SeqTooLow));
        let second = signed(b"3:two", 6, b"");
        assert_eq!(put(&PutItem { cas: Some(4), ..second }), Err(Refusal::CasMismatch));
        let forged = Proof { seq: 7, ..second.proof.unwrap() };
        assert_eq!(put(&PutItem { proof: Some(forged), ..second }), Err(Refusal::BadSignature));
        assert_eq!(put(&PutItem { cas: Some(5), ..second }), Ok(()));
        assert_eq!(put(&signed(b"3:two", 6, b"salt")), Ok(()), "another place");
        assert_eq!(value(&items), Some(b"3:two".to_vec()));
        assert_eq!(items.len(), 2);
    }

    #[test]
    fn what_others_would_read_otherwise_or_not_at_all_is_refused() {
        let mut items = Items::new(LIMITS);
        let (large, salt) = (format!("997:{}", "x".repeat(997)), [b's'; 65]);
        for (value, refusal) in [
            (large.as_bytes(), Refusal::TooLarge),
            (b"d1:bi1e1:ai2ee", Refusal::NotStrict),
            (b"d1:ai1e1:ai2ee", Refusal::NotStrict),
            (b"di1e1:xe", Refusal::NotStrict),
            (b"li03ee", Refusal::NotStrict),
            (b"ld0:le1:ade1:bd1:ai-0eeee", Refusal::NotStrict),
        ] {
            assert_eq!(items.put(NOW, ip(1), &immutable(value)), Err(refusal));
        }
        let salted = signed(b"1:x", 1, &salt);
        assert_eq!(items.put(NOW, ip(1), &salted), Err(Refusal::SaltTooLarge));
        assert!(items.is_empty());
        for value in [&large.as_bytes()[..0], b"i-1e", b"de", b"ld0:le1:ade1:bd1:ai0eeee"] {
            let value = if value.is_empty() { &b"0:"[..] } else { value };
            assert_eq!(items.put(NOW, ip(1), &immutable(value)), Ok(()));
        }
    }

    #[test]
    fn items_end_and_no_network_takes_all_places() {
        let mut items = Items::new(LIMITS);
        let named = |number: usize| format!("i{number}e");
        let taken = (0..50)
            .filter(|&number| items.put(NOW, ip(1), &immutable(named(number).as_bytes())).is_ok());
        assert_eq!(taken.count(), LIMITS.items / 10);
        // What it has brought it may bring again.
        assert_eq!(items.put(NOW, ip(1), &immutable(b"i3e")), Ok(()));
        for number in 100..300 {
            let now = Instant::from_micros(number as u64);
            items.put(now, ip(number as u8), &immutable(named(number).as_bytes())).unwrap();
        }
        assert_eq!(items.len(), LIMITS.items);
        assert!(items.get(&immutable(b"i199e").place()).is_none());
        assert!(items.get(&immutable(b"i200e").place()).is_some());
        items.expire(items.next_due());
        assert_eq!(items.len(), LIMITS.items - 1);
        items.expire(Instant::NEVER);
        assert!(items.is_empty() && items.held.is_empty() && items.ends.is_empty());
    }
}
