//! The table that the kernel answers from, made from contacts.
//!
//! It is built whole for each change and handed over whole; `bpf/fastpath.h` says how it is read.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::layout::{
    HELD_BITS, HELD_WORDS, HOT_SETS, Hot, INDEX_BUCKETS, INDEX_DEPTH, Index, KernelContact,
    KernelEndpoint, KernelTable, LAYOUT_VERSION, Mark, STARTS, Split, Start, Stranger,
};
use super::{CONTACTS_MAX, DIALECT, Error, LOCALS_MAX};
use crate::id::Id;
use crate::message::Contact;
use crate::time::Duration;

/// Seeds to try before a table counts as one that does not fit; one table in a thousand needs a
/// second seed.
const SEEDS_MAX: u64 = 64;

/// Everything that the answers of one address family depend on.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) own_id: Id,
    pub(super) k: usize,
    /// The addresses of the node.
    pub(super) locals: Vec<IpAddr>,
    /// The contacts that it may name, each with its slot in the memory of when contacts were seen.
    pub(super) contacts: Vec<(Contact, u16)>,
    /// Odd and random, so that nobody can choose ids that fall into one bucket.
    pub(super) seed: u64,
}

/// An odd random number, for hashes that strangers must not foresee.
pub(super) fn draw_seed() -> Result<u64, Error> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Error::failed("drawing a seed", error))?;
    Ok(u64::from_le_bytes(seed) | 1)
}

impl Content {
    /// The table for those contacts and addresses that are of the family.
    pub(super) fn image(&self, ipv4: bool) -> Box<KernelTable> {
        let mut table: Box<KernelTable> = bytemuck::zeroed_box();
        table.version = LAYOUT_VERSION;
        table.k = self.k as u32;
        table.own_id = *self.own_id.as_bytes();
        table.head_sum = sum(0, &[&[DIALECT.first_byte()], &self.own_id.as_bytes()[..]].concat());
        let locals = self.locals.iter().filter(|address| address.is_ipv4() == ipv4);
        for (slot, address) in table.locals.iter_mut().zip(locals.take(LOCALS_MAX)) {
            *slot = on_the_wire(*address);
            table.locals_count += 1;
        }
        let of_family = |(contact, _): &&(Contact, u16)| contact.address.is_ipv4() == ipv4;
        let mut contacts: Vec<_> = self.contacts.iter().filter(of_family).copied().collect();
        contacts.sort_unstable_by_key(|(contact, _)| contact.id);
        if contacts.len() > CONTACTS_MAX || !self.fill(&mut table, &contacts) {
            // Even pings need one contact: with an empty table all requests are passed up.
            contacts.truncate(1);
            self.fill(&mut table, &contacts);
            table.incomplete = 1;
        }
        table
    }

    /// Puts in contacts that are sorted. Returns whether the indices have room for them.
    fn fill(&self, table: &mut KernelTable, contacts: &[(Contact, u16)]) -> bool {
        table.count = contacts.len() as u32;
        put_contacts(table, contacts);
        put_bytes(table, contacts);
        let ids: Vec<&Id> = contacts.iter().map(|(contact, _)| &contact.id).collect();
        table.root = put_splits(&mut table.splits, &ids, 0);
        put_starts(&mut table.starts, &ids, &self.own_id);
        self.put_indices(table, contacts.len())
    }

    fn put_indices(&self, table: &mut KernelTable, count: usize) -> bool {
        let seeds =
            || (0..SEEDS_MAX).map(|turn| (self.seed ^ (turn << 1)).rotate_left(turn as u32) | 1);
        let contacts = &table.contacts[..count];
        let by_id = seeds().find_map(|seed| {
            let hashes = contacts.iter().map(|contact| hash_id(&contact.id, seed));
            Some((seed, index(hashes)?))
        });
        let by_endpoint = seeds().find_map(|seed| {
            // If several share an endpoint, the first stands for all, marked as ambiguous.
            let mut met = std::collections::HashSet::new();
            let hashes = contacts.iter().map(|contact| {
                met.insert(contact.endpoint).then(|| hash_endpoint(&contact.endpoint, seed))
            });
            Some((seed, sparse_index(hashes)?))
        });
        let (Some(by_id), Some(by_endpoint)) = (by_id, by_endpoint) else { return false };
        (table.id_seed, table.by_id) = by_id;
        (table.endpoint_seed, table.by_endpoint) = by_endpoint;
        true
    }
}

/// What the program finds a key by: its hash, which is never zero, and the set of places where it may be.
pub(super) fn hot_tag(key: &Id, seed: u64) -> (u64, usize) {
    let hash = hash_id(key.as_bytes(), seed);
    (hash | 1, (hash >> 32) as usize % HOT_SETS)
}

/// Values as the program answers with them; `None` if they are too long for that. `head` is an answer's
/// payload before its contacts, `expires` on the clock of stamps.
pub(super) fn hot(key: &Id, count: usize, head: &[u8], expires: Duration) -> Option<Box<Hot>> {
    let mut hot: Box<Hot> = bytemuck::zeroed_box();
    hot.bytes.get_mut(..head.len())?.copy_from_slice(head);
    hot.expires = expires.as_micros() * 1_000;
    hot.key = *key.as_bytes();
    hot.count = u16::try_from(count).ok()?;
    hot.len = head.len() as u16;
    hot.sum = sum(0, head);
    Some(hot)
}

/// The bit that says whether a key is held.
pub(super) fn held_bit(key: &Id, seed: u64) -> usize {
    hash_id(key.as_bytes(), seed) as usize % (1 << HELD_BITS)
}

/// The bits that say which keys are held; the program makes them in the same way.
pub(super) fn held_bits<'a>(
    keys: impl Iterator<Item = &'a Id>,
    seed: u64,
) -> Box<[u64; HELD_WORDS]> {
    let mut bits: Box<[u64; HELD_WORDS]> = bytemuck::zeroed_box();
    for key in keys {
        let bit = held_bit(key, seed);
        bits[bit / u64::BITS as usize] |= 1 << (bit % u64::BITS as usize);
    }
    bits
}

fn put_contacts(table: &mut KernelTable, contacts: &[(Contact, u16)]) {
    let mut at: HashMap<SocketAddr, usize> = HashMap::new();
    contacts.iter().for_each(|(contact, _)| *at.entry(contact.address).or_default() += 1);
    for (slot, (contact, seen_slot)) in table.contacts.iter_mut().zip(contacts) {
        *slot = KernelContact {
            id: *contact.id.as_bytes(),
            endpoint: KernelEndpoint::of(contact.address),
            slot: *seen_slot,
            ambiguous: u16::from(at[&contact.address] > 1),
        };
    }
}

fn put_bytes(table: &mut KernelTable, contacts: &[(Contact, u16)]) {
    let mut mark = Mark { offset: 0, sum: 0 };
    table.shortest = u32::MAX;
    for (number, (contact, _)) in contacts.iter().enumerate() {
        table.marks[number] = mark;
        let encoded = DIALECT.encode_contact(contact);
        let bytes = encoded.as_bytes();
        let start = mark.offset as usize;
        table.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        mark.sum += sum(start, bytes);
        let len = bytes.len() as u32;
        mark.offset += len;
        table.shortest = table.shortest.min(len);
        table.longest = table.longest.max(len);
    }
    table.marks[contacts.len()] = mark;
}

/// Builds the tree over sorted ids, the first of which has the number `first`. Returns its root,
/// which stands between the two neighbours that differ in the earliest bit.
fn put_splits(splits: &mut [Split; CONTACTS_MAX], ids: &[&Id], first: usize) -> u32 {
    let Some((at, bit)) = root(ids) else {
        // A single contact: nothing to split, and nobody looks.
        return 0;
    };
    let left = put_splits(splits, &ids[..=at], first);
    let right = put_splits(splits, &ids[at + 1..], first + at + 1);
    let (left, right) = (left as u16, right as u16);
    splits[first + at] = Split { bit: bit as u16, left, right, pad: 0 };
    (first + at) as u32
}

/// Who shares how many bits with the own id, of sorted ids.
fn put_starts(starts: &mut [Start; STARTS], ids: &[&Id], own: &Id) {
    let mut range = 0..ids.len();
    let mut start_before = Start { from: 0, to: 0, node: 0, pad: 0 };
    for (bits, start) in starts.iter_mut().enumerate() {
        let shares = |id: &&&Id| id.common_prefix(own) >= bits as u32;
        let before = range.len();
        let from = range.start + ids[range.clone()].iter().take_while(|id| !shares(id)).count();
        let sharing = ids[from..range.end].iter().take_while(shares).count();
        range = from..from + sharing;
        // Most numbers of bits have the same contacts as the one before.
        let node = match before == range.len() && bits > 0 {
            true => start_before.node,
            false => root(&ids[range.clone()]).map_or(0, |(at, _)| (range.start + at) as u16),
        };
        *start = Start { from: range.start as u16, to: range.end as u16, node, pad: 0 };
        start_before = *start;
    }
}

/// Between which two neighbours of sorted ids they are split first, and at which bit.
fn root(ids: &[&Id]) -> Option<(usize, u32)> {
    let prefix = |pair: &[&Id]| pair[0].common_prefix(pair[1]);
    ids.windows(2).map(prefix).enumerate().min_by_key(|&(_, bit)| bit)
}

fn index(hashes: impl Iterator<Item = u64>) -> Option<Index> {
    sparse_index(hashes.map(Some))
}

/// Numbers, from one on, in the buckets of their hashes; `None` if a bucket overflows.
fn sparse_index(hashes: impl Iterator<Item = Option<u64>>) -> Option<Index> {
    let mut index = [[0; INDEX_DEPTH]; INDEX_BUCKETS];
    for (number, hash) in hashes.enumerate() {
        let Some(hash) = hash else { continue };
        let bucket = &mut index[hash as usize % INDEX_BUCKETS];
        *bucket.iter_mut().find(|place| **place == 0)? = number as u16 + 1;
    }
    Some(index)
}

/// The Internet checksum's sum of bytes, the first of which stands at `place`; not folded.
fn sum(place: usize, bytes: &[u8]) -> u32 {
    let weigh = |(offset, byte): (usize, &u8)| u32::from(*byte) << (8 * (1 - (place + offset) % 2));
    bytes.iter().enumerate().map(weigh).sum()
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn mix(value: u64, seed: u64) -> u64 {
    let value = value.wrapping_mul(seed);
    value ^ (value >> 32)
}

fn hash_id(id: &[u8; Id::LEN], seed: u64) -> u64 {
    let tail = u32::from_le_bytes(id[16..].try_into().expect("four bytes"));
    mix(word(id) ^ word(&id[8..]) ^ u64::from(tail), seed)
}

fn hash_endpoint(who: &KernelEndpoint, seed: u64) -> u64 {
    let port = u64::from(u16::from_le_bytes(who.port));
    mix(mix(word(&who.address).wrapping_add(port), seed) ^ word(&who.address[8..]), seed)
}

fn on_the_wire(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

impl KernelEndpoint {
    fn of(address: SocketAddr) -> KernelEndpoint {
        let port = address.port().to_be_bytes();
        KernelEndpoint { address: on_the_wire(address.ip()), port, pad: 0 }
    }

    pub(super) fn address(&self) -> SocketAddr {
        let ip = IpAddr::from(self.address).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes(self.port))
    }
}

impl Stranger {
    pub(super) fn contact(&self) -> Contact {
        Contact { id: Id::new(self.id), address: self.endpoint.address() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(ids: impl IntoIterator<Item = Id>) -> Content {
        let contact = |(number, id)| {
            let address = ([10, 0, 0, 1], 9_000 + number as u16).into();
            (Contact { id, address }, number as u16)
        };
        Content {
            own_id: Id::of_name("own"),
            k: 20,
            locals: vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
            contacts: ids.into_iter().enumerate().map(contact).collect(),
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn numbered(count: usize) -> Vec<Id> {
        (0..count).map(|number| Id::of_name(number.to_string())).collect()
    }

    proptest! {
        /// Each number of bits has the contacts that share as many with the own id, and the place where
        /// these part.
        #[test]
        fn starts_hold_the_contacts_that_share_as_many_bits(
            near in proptest::collection::btree_set((any::<[u8; 20]>(), 0..160_usize), 0..40)
        ) {
            let own = Id::of_name("own");
            // The first bits are the own ones.
            let sharing = |(tail, bits): &([u8; 20], usize)| {
                let mut id = *own.as_bytes();
                for number in *bits..160 {
                    let bit = 0x80 >> (number % 8);
                    id[number / 8] = id[number / 8] & !bit | tail[number / 8] & bit;
                }
                Id::new(id)
            };
            let ids: std::collections::BTreeSet<Id> = near.iter().map(sharing).collect();
            let ids: Vec<Id> = ids.into_iter().collect();
            let table = content(ids.clone()).image(true);
            for (bits, start) in table.starts.iter().enumerate() {
                let range = usize::from(start.from)..usize::from(start.to);
                let expected: Vec<_> =
                    ids.iter().filter(|id| id.common_prefix(&own) >= bits as u32).collect();
                prop_assert_eq!(ids[range.clone()].iter().collect::<Vec<_>>(), expected);
                if range.len() > 1 {
                    let node = usize::from(start.node);
                    prop_assert!(range.contains(&node) && node + 1 < range.end);
                    let parts = ids[node].common_prefix(&ids[node + 1]);
                    prop_assert_eq!(parts, ids[range.start].common_prefix(&ids[range.end - 1]));
                }
            }
        }
    }

    proptest! {
        /// Each node splits its range where the bit changes, and its sides hang below it.
        #[test]
        fn the_tree_splits_every_range_at_its_first_difference(
            ids in proptest::collection::btree_set(any::<[u8; 20]>().prop_map(Id::new), 2..60)
        ) {
            let ids: Vec<Id> = ids.into_iter().collect();
            let table = content(ids.clone()).image(true);
            let mut waiting = vec![(table.root as usize, 0, ids.len())];
            while let Some((node, from, to)) = waiting.pop() {
                if to - from < 2 {
                    continue;
                }
                let split = table.splits[node];
                let (left, right) = (&ids[from..=node], &ids[node + 1..to]);
                prop_assert!(!left.is_empty() && !right.is_empty());
                let bit = u32::from(split.bit);
                prop_assert!(left.iter().all(|id| !id.bit(bit)));
                prop_assert!(right.iter().all(|id| id.bit(bit)));
                prop_assert_eq!(ids[from].common_prefix(&ids[to - 1]), bit);
                waiting.push((usize::from(split.left), from, node + 1));
                waiting.push((usize::from(split.right), node + 1, to));
            }
        }
    }

    #[test]
    fn every_contact_is_found_by_id_and_by_endpoint() {
        let table = content(numbered(CONTACTS_MAX)).image(true);
        assert_eq!((table.count as usize, table.incomplete), (CONTACTS_MAX, 0));
        for (number, contact) in table.contacts.iter().enumerate() {
            let wanted = number as u16 + 1;
            let bucket = hash_id(&contact.id, table.id_seed) as usize % INDEX_BUCKETS;
            assert!(table.by_id[bucket].contains(&wanted));
            let hash = hash_endpoint(&contact.endpoint, table.endpoint_seed);
            assert!(table.by_endpoint[hash as usize % INDEX_BUCKETS].contains(&wanted));
        }
    }

    #[test]
    fn more_than_fit_are_not_cut_in_silence() {
        let table = content(numbered(CONTACTS_MAX + 1)).image(true);
        assert_eq!((table.count, table.incomplete), (1, 1));
    }

    #[test]
    fn families_have_tables_of_their_own() {
        let mut content = content(numbered(3));
        content.contacts[1].0.address = "[fd00::1]:9001".parse().unwrap();
        let (four, six) = (content.image(true), content.image(false));
        assert_eq!((four.count, four.locals_count), (2, 1));
        assert_eq!((six.count, six.locals_count), (1, 1));
        assert_eq!(six.contacts[0].endpoint.address(), "[fd00::1]:9001".parse().unwrap());
        assert_eq!(four.locals[0][12..], [10, 0, 0, 9]);
    }

    #[test]
    fn a_shared_endpoint_is_marked() {
        let mut content = content(numbered(3));
        content.contacts[1].0.address = content.contacts[0].0.address;
        let table = content.image(true);
        let marked = table.contacts[..3].iter().filter(|contact| contact.ambiguous == 1).count();
        assert_eq!(marked, 2);
    }

    #[test]
    fn sums_are_those_of_the_bytes_in_front() {
        let table = content(numbered(30)).image(true);
        for mark in &table.marks[..=30] {
            assert_eq!(mark.sum, sum(0, &table.bytes[..mark.offset as usize]));
        }
        assert_eq!(sum(1, b"\x01\x02\x03"), 0x0001 + 0x0203);
    }
}
