//! The routing table: the contacts a node knows, dense near its own id and sparse far away.
//!
//! Buckets form a prefix trie around the own id, of which only the path to the own id is ever
//! split. So the trie is a list: bucket `i` holds the contacts that share exactly `i` leading bits
//! with the own id, and the last bucket also all that share more.
//!
//! ```text
//! own id 0110…         bucket 0: 1…        far: half of the network
//!     ○                bucket 1: 00…
//!    ╱ ╲               bucket 2: 010…
//!   ○   [0]            bucket 3: 011…      last: holds the own id, splits when it is full
//!  ╱ ╲
//! [1] ○ …
//! ```
//!
//! Where [`Config::split_bits`] is more than 1 the other buckets are cut too, into parts of equal
//! length with room for k contacts each, so that one step of a lookup leads farther (paper §4.2).
//!
//! The table is told what happened and decides who stays; it sends nothing. It hands the contacts
//! to ping back to the node. Contacts enter only after they have answered the node.
//!
//! Addresses of one subnet are cheap for one owner to hold, so a bucket takes few of them, and the
//! whole table a few times as many; see [`Config::max_per_subnet`].
//!
//! Departures from the paper: a bucket that is not full keeps contacts that stopped answering, as
//! §4.1 has it, but marks them stale, and stale contacts are neither handed out nor asked in a
//! lookup. Order within a bucket is by the time of the last sighting, kept as a field and not as a
//! list that is shuffled with every datagram.

use std::cell::OnceCell;
use std::collections::VecDeque;

use crate::address::Scope;
use crate::config::{Config, MAX_K};
use crate::id::{Distance, Id};
use crate::kad::crowd;
use crate::message::{Contact, EncodedContact};
use crate::time::{Duration, Instant};

/// A contact seen within this time is taken to be alive without asking: a flood of new ids from
/// strangers must not turn into a flood of pings to the contacts we know.
const FRESH: Duration = Duration::from_secs(15);

/// The whole table may have this many times as many contacts of a subnet as one bucket: however many
/// ids an owner chooses, they are a few of the hundred or more contacts of a node in a large network.
const TABLE_TIMES: usize = 3;

/// Writes a contact as answers carry it.
pub type Encode = fn(&Contact) -> EncodedContact;

/// The contacts of a node.
pub struct Table {
    own: Id,
    k: usize,
    split_bits: u32,
    max_replacements: usize,
    max_per_subnet: usize,
    encode: Encode,
    buckets: Vec<Bucket>,
    version: u64,
}

/// The contacts of one range of the id space.
pub struct Bucket {
    entries: Vec<Entry>,
    replacements: VecDeque<Contact>,
    /// When something was last looked up in the bucket's range.
    touched: Instant,
}

/// What is known of one contact.
pub struct Entry {
    /// Who.
    pub contact: Contact,
    /// The contact as answers carry it, from the first one on: most contacts of a large network are
    /// never named.
    encoded: OnceCell<Box<EncodedContact>>,
    /// When it last answered or asked something.
    pub last_seen: Instant,
    /// Smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// Requests in a row that it did not answer, as far as they can be counted.
    pub failures: u16,
    /// It failed its liveness check; kept only until the place is needed.
    pub stale: bool,
}

/// What the table knows of a node that asked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A contact that answers.
    Live,
    /// A contact that left something unanswered.
    Suspect,
    /// The id is in the table at another address. That contact is named if it should be asked
    /// whether it still lives there.
    Elsewhere {
        /// The contact in the table.
        check: Option<Contact>,
    },
    /// Not in the table, or free to take the place of a dead contact with the same id.
    Stranger,
    /// The node's own id.
    Own,
}

/// What became of a contact that was offered to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is new in the table.
    Added,
    /// It was there already.
    Known,
    /// Its bucket is full; it waits. The contact named should be asked whether it is still alive,
    /// if one is due for that.
    Waiting {
        /// The least recently seen contact of the bucket, unless it was seen just now.
        check: Option<Contact>,
    },
    /// Its id is in the table at another address. That contact is named if it should be asked
    /// whether it still lives there.
    Conflict {
        /// The contact in the table, unless it was seen just now.
        check: Option<Contact>,
    },
    /// Its bucket, or the whole table, has as many contacts of its subnet as it may.
    Crowded,
    /// It is this node itself.
    Own,
}

impl Table {
    /// An empty table around `own` with room for `k` contacts in a bucket. Answers carry contacts as
    /// `encode` writes them.
    ///
    /// # Panics
    /// If `k` is 0 or above [`MAX_K`].
    pub fn new(now: Instant, own: Id, k: usize, config: &Config, encode: Encode) -> Table {
        let Config { split_bits, replacements: max_replacements, max_per_subnet, .. } = *config;
        assert!((1..=MAX_K).contains(&k), "k is 1 to {MAX_K}");
        let buckets = vec![Bucket::new(now)];
        Table { own, k, split_bits, max_replacements, max_per_subnet, encode, buckets, version: 0 }
    }

    /// How many contacts a bucket has room for.
    pub fn room(&self, bucket: usize) -> usize {
        self.k << self.part_bits(bucket)
    }

    /// How many live contacts there are.
    pub fn len(&self) -> usize {
        self.entries().filter(|entry| !entry.stale).count()
    }

    /// Whether no live contact is known.
    pub fn is_empty(&self) -> bool {
        self.entries().all(|entry| entry.stale)
    }

    /// The buckets, the farthest first; the last one holds the range of the own id.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// All contacts, stale ones too, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    /// The contacts that answers may name, in no particular order.
    pub fn good(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| entry.is_good())
    }

    /// A number that grows whenever a contact becomes [good](Table::good), ceases to be, or moves
    /// to another address, and at no other time. When it has grown, copies of these contacts are
    /// out of date.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The contact of that id.
    pub fn entry(&self, id: &Id) -> Option<&Entry> {
        self.bucket(id).entries.iter().find(|entry| entry.contact.id == *id)
    }

    /// All contacts from the nearest to the target to the farthest, stale ones included.
    ///
    /// Exact and lazy: only the buckets that are reached are sorted, and nothing is allocated.
    pub fn closest(&self, target: &Id) -> Closest<'_> {
        Closest::new(self, *target)
    }

    /// The good contacts of an address family that are nearer to a key than this node is, the nearest
    /// first.
    pub fn nearer(&self, key: &Id, is_ipv4: bool) -> impl Iterator<Item = Contact> {
        let (own, key) = (key.distance(&self.own), *key);
        self.closest(&key)
            .map_while(move |entry| (key.distance(&entry.contact.id) < own).then_some(entry))
            .filter(move |entry| entry.is_good() && entry.contact.address.is_ipv4() == is_ipv4)
            .map(|entry| entry.contact)
    }

    /// One of the contacts as answers carry it.
    #[inline]
    pub fn encoded<'t>(&self, entry: &'t Entry) -> &'t EncodedContact {
        entry.encoded.get_or_init(|| Box::new((self.encode)(&entry.contact)))
    }

    /// Notes that a contact asked something, which proves nothing about its address.
    pub fn on_seen(&mut self, now: Instant, contact: &Contact) -> Sighting {
        if contact.id == self.own {
            return Sighting::Own;
        }
        match self.entry_mut(&contact.id) {
            None => Sighting::Stranger,
            Some(entry) if entry.stale && entry.contact != *contact => Sighting::Stranger,
            Some(entry) if entry.contact.address != contact.address => {
                Sighting::Elsewhere { check: entry.due_for_check(now) }
            }
            Some(entry) if !entry.is_good() => Sighting::Suspect,
            Some(entry) => {
                entry.last_seen = now;
                Sighting::Live
            }
        }
    }

    /// The leading bits that all keys share for which at most `rank` contacts are nearer than this
    /// node, and for which a new contact may be one of the `k` nearest.
    pub(crate) fn may_be_nearest(&self, new: &Id, rank: usize, k: usize) -> Vec<(Id, u32)> {
        let last = self.buckets.len() - 1;
        let shared = self.own.common_prefix(new) as usize;
        let others: Vec<usize> = self
            .buckets
            .iter()
            .map(|bucket| bucket.live_entries().filter(|entry| entry.contact.id != *new).count())
            .collect();
        // Contacts that share more bits with the own id than the new one does are nearer than it to all
        // keys that do too, and so is this node.
        let deeper: usize = others.iter().skip(shared + 1).sum();
        let nearest = (0..=last).rev().filter(|&bucket| {
            let is_taken = bucket < last && others[bucket] > rank;
            let is_beyond = bucket > shared && deeper + 1 >= k;
            !is_taken && !is_beyond
        });
        let prefix = |bucket| match bucket as u32 {
            bits if bucket < last => (self.own.flipped(bits), bits + 1),
            bits => (self.own, bits),
        };
        nearest.map(prefix).collect()
    }

    /// Whether a contact could enter without waiting for another to leave.
    pub fn has_room(&self, contact: &Contact) -> bool {
        let index = self.index(&contact.id);
        let bucket = &self.buckets[index];
        let part = self.part(index, &contact.id);
        let is_in_part = |entry: &&Entry| self.part(index, &entry.contact.id) == part;
        let live = bucket.entries.iter().filter(is_in_part).filter(|entry| !entry.stale);
        let has_place = live.count() < self.k || self.can_split(index);
        has_place && !self.would_crowd(contact)
    }

    /// Notes that a contact answered, with its round trip if that was measured, and takes it in if it
    /// is new and there is room.
    pub fn on_answer(
        &mut self,
        now: Instant,
        contact: Contact,
        rtt: impl Into<Option<Duration>>,
    ) -> Insertion {
        let rtt = rtt.into();
        if contact.id == self.own {
            return Insertion::Own;
        }
        if self.is_crowded(&contact) {
            return Insertion::Crowded;
        }
        let known = self.change(&contact.id, |entry| entry.on_answer(now, contact, rtt));
        if let Some(insertion) = known {
            return insertion;
        }
        while self.is_full(&contact.id) && self.split(&contact.id) {}
        if self.is_full(&contact.id) && !self.evict_stale(&contact.id) {
            return Insertion::Waiting { check: self.on_stranger(now, contact) };
        }
        let room = self.room(self.index(&contact.id));
        let bucket = self.bucket_mut(&contact.id);
        bucket.replacements.retain(|waiting| waiting.id != contact.id);
        bucket.push(Entry::new(now, contact, rtt), room);
        // A contact that had to leave for it was stale, and not named anyway.
        self.version += 1;
        Insertion::Added
    }

    /// Notes a node with a validated address whose bucket has no room for it. Returns the contact
    /// to ask whether it is still alive, if one is due for that.
    pub fn on_stranger(&mut self, now: Instant, contact: Contact) -> Option<Contact> {
        self.wait(contact);
        self.due_for_check(now, &contact.id)
    }

    /// The least recently seen of the contacts that an id could replace, if it is due to be asked
    /// whether it is still alive.
    pub fn due_for_check(&self, now: Instant, id: &Id) -> Option<Contact> {
        self.alike(id).min_by_key(|entry| entry.last_seen)?.due_for_check(now)
    }

    /// Whether a contact that answered would be one too many of its subnet.
    fn is_crowded(&self, contact: &Contact) -> bool {
        let is_there = |entry: &Entry| entry.contact == *contact && !entry.stale;
        !self.bucket(&contact.id).entries.iter().any(is_there) && self.would_crowd(contact)
    }

    /// Whether the subnet of a contact already has as many others as it may have, in its bucket or in
    /// the whole table. Contacts that answer from a loopback or private address can do so because this
    /// node lives there too, and are exempt.
    fn would_crowd(&self, contact: &Contact) -> bool {
        let (ip, max) = (contact.address.ip(), self.max_per_subnet);
        if Scope::of(ip) != Scope::Global || max >= self.k {
            return false;
        }
        let is_other = |entry: &&Entry| !entry.stale && entry.contact.id != contact.id;
        let ip_of = |entry: &Entry| entry.contact.address.ip();
        let in_bucket = self.bucket(&contact.id).entries.iter().filter(is_other).map(ip_of);
        let in_table = self.entries().filter(is_other).map(ip_of);
        crowd::is_crowded(in_bucket, ip, max) || crowd::is_crowded(in_table, ip, TABLE_TIMES * max)
    }

    fn wait(&mut self, contact: Contact) {
        let (max, max_per_subnet) = (self.max_replacements, self.max_per_subnet);
        self.bucket_mut(&contact.id).wait(contact, max, max_per_subnet);
    }

    /// Notes that a contact left a request unanswered. Returns whether it is in the table and not
    /// stale yet, so that asking again makes sense.
    pub fn on_silence(&mut self, contact: &Contact) -> bool {
        self.change(&contact.id, |entry| entry.on_silence(contact)).unwrap_or(false)
    }

    /// Notes that a contact failed its liveness check. It stays, marked stale, until its place is
    /// needed. Returns `None` if it is not in the table or is stale already, else the contact to ping:
    /// the one that began to wait for a place last, if any waits.
    pub fn on_dead(&mut self, contact: &Contact) -> Option<Option<Contact>> {
        let marked = self.change(&contact.id, |entry| entry.on_dead(contact))?;
        marked.then(|| self.pop_replacement(&contact.id))
    }

    /// Forgets stale contacts of a bucket that left `hopeless` requests unanswered, and returns the
    /// other stale ones, to be asked once more.
    pub fn stale_after(&mut self, bucket: usize, hopeless: u16) -> Vec<Contact> {
        let entries = &mut self.buckets[bucket].entries;
        entries.retain(|entry| !entry.stale || entry.failures < hopeless);
        entries.iter().filter(|entry| entry.stale).map(|entry| entry.contact).collect()
    }

    /// Notes a lookup in the range of an id's bucket.
    pub fn touch(&mut self, now: Instant, target: &Id) {
        self.bucket_mut(target).touched = now;
    }

    /// The bucket that was not looked into for the longest, and when it last was.
    pub fn least_touched(&self) -> (usize, Instant) {
        let touched = self.buckets.iter().map(|bucket| bucket.touched).enumerate();
        touched.min_by_key(|&(_, touched)| touched).expect("a table has at least one bucket")
    }

    /// Live contacts in those ranges nearest to the own id in which all nodes are known, and the
    /// size of these ranges together as a share of the id space.
    pub fn known_neighbourhood(&self) -> (impl Iterator<Item = &Entry>, f64) {
        // Where buckets have parts, one of them may be full; then less is taken as known than
        // really is.
        let full = |bucket: &Bucket| bucket.live() >= self.k || !bucket.replacements.is_empty();
        // The last bucket would have split if more contacts of its range were known.
        let last = self.buckets.len() - 1;
        let first = self.buckets[..last].iter().rposition(full).map_or(0, |index| index + 1);
        let known = self.buckets[first..].iter().flat_map(Bucket::live_entries);
        (known, 0.5_f64.powi(first as i32))
    }

    fn index(&self, id: &Id) -> usize {
        (self.own.common_prefix(id) as usize).min(self.buckets.len() - 1)
    }

    /// How many bits tell the parts of a bucket from each other.
    fn part_bits(&self, bucket: usize) -> u32 {
        let is_last = bucket + 1 == self.buckets.len();
        // Behind the last bit of an id there is nothing to cut.
        if is_last { 0 } else { (self.split_bits - 1).min(Id::BITS - 1 - bucket as u32) }
    }

    /// The part of a bucket in which an id lies: the bits behind the one that no id of the bucket
    /// shares with the own id, as a number.
    fn part(&self, bucket: usize, id: &Id) -> u32 {
        let first = bucket as u32 + 1;
        let bits = first..first + self.part_bits(bucket);
        bits.fold(0, |part, bit| part << 1 | u32::from(id.bit(bit)))
    }

    /// The contacts with which an id shares bucket and part.
    fn alike(&self, id: &Id) -> impl Iterator<Item = &Entry> {
        let index = self.index(id);
        let part = self.part(index, id);
        let entries = self.buckets[index].entries.iter();
        entries.filter(move |entry| self.part(index, &entry.contact.id) == part)
    }

    fn is_full(&self, id: &Id) -> bool {
        self.alike(id).count() >= self.k
    }

    /// Drops a stale contact that an id could replace, if there is one.
    fn evict_stale(&mut self, id: &Id) -> bool {
        let Some(stale) = self.alike(id).find(|entry| entry.stale).map(|entry| entry.contact.id)
        else {
            return false;
        };
        self.bucket_mut(id).entries.retain(|entry| entry.contact.id != stale);
        true
    }

    /// Takes out the contact that began last to wait for a place where an id belongs.
    fn pop_replacement(&mut self, id: &Id) -> Option<Contact> {
        let index = self.index(id);
        let part = self.part(index, id);
        let waiting = &self.buckets[index].replacements;
        let at = waiting.iter().rposition(|waiting| self.part(index, &waiting.id) == part)?;
        self.buckets[index].replacements.remove(at)
    }

    fn bucket(&self, id: &Id) -> &Bucket {
        &self.buckets[self.index(id)]
    }

    fn bucket_mut(&mut self, id: &Id) -> &mut Bucket {
        let index = self.index(id);
        &mut self.buckets[index]
    }

    fn entry_mut(&mut self, id: &Id) -> Option<&mut Entry> {
        self.bucket_mut(id).entries.iter_mut().find(|entry| entry.contact.id == *id)
    }

    /// Changes the contact of an id, if there is one, and notes whether it became good or ceased to
    /// be.
    fn change<R>(&mut self, id: &Id, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.entry_mut(id)?;
        let before = entry.named();
        let result = change(entry);
        let is_same = entry.named() == before;
        self.version += u64::from(!is_same);
        Some(result)
    }

    fn can_split(&self, index: usize) -> bool {
        index + 1 == self.buckets.len() && self.buckets.len() < Id::BITS as usize
    }

    /// Splits the bucket of an id if it holds the own id. Returns whether it did.
    fn split(&mut self, id: &Id) -> bool {
        let index = self.index(id);
        if !self.can_split(index) {
            return false;
        }
        let own = self.own;
        let farther = |id: &Id| own.common_prefix(id) as usize == index;
        let bucket = &mut self.buckets[index];
        let mut nearer = Bucket::new(bucket.touched);
        nearer.entries = bucket.entries.extract_if(.., |e| !farther(&e.contact.id)).collect();
        let (stay, go) = bucket.replacements.drain(..).partition(|waiting| farther(&waiting.id));
        (bucket.replacements, nearer.replacements) = (stay, go);
        self.buckets.push(nearer);
        true
    }
}

impl Bucket {
    fn new(touched: Instant) -> Bucket {
        Bucket { entries: Vec::new(), replacements: VecDeque::new(), touched }
    }

    /// Adds a contact, and takes no memory for more than `room`: networks of many nodes have many
    /// buckets.
    fn push(&mut self, entry: Entry, room: usize) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            let more = len.max(4).min(room.saturating_sub(len)).max(1);
            self.entries.reserve_exact(more);
        }
        self.entries.push(entry);
    }

    /// The contacts, stale ones too, the least recently seen first.
    pub fn by_age(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.last_seen);
        entries
    }

    /// Contacts that wait for a place, the most recent last.
    pub fn replacements(&self) -> &VecDeque<Contact> {
        &self.replacements
    }

    /// When something was last looked up in the bucket's range.
    pub fn touched(&self) -> Instant {
        self.touched
    }

    /// How many contacts are not stale.
    pub fn live(&self) -> usize {
        self.live_entries().count()
    }

    fn live_entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.stale)
    }

    fn wait(&mut self, contact: Contact, max: usize, max_per_subnet: usize) {
        self.replacements.retain(|waiting| waiting.id != contact.id);
        let ip = contact.address.ip();
        let others = self.replacements.iter().map(|waiting| waiting.address.ip());
        if Scope::of(ip) == Scope::Global && crowd::is_crowded(others.clone(), ip, max_per_subnet) {
            // When there are too many, the oldest goes.
            let oldest = (0..others.len()).find(|&at| {
                let less = others.clone().enumerate().filter(|&(other, _)| other != at);
                !crowd::is_crowded(less.map(|(_, ip)| ip), ip, max_per_subnet)
            });
            self.replacements.remove(oldest.expect("one less is not too many"));
        }
        self.replacements.push_back(contact);
        if self.replacements.len() > max {
            self.replacements.pop_front();
        }
    }
}

impl Entry {
    fn new(now: Instant, contact: Contact, rtt: Option<Duration>) -> Entry {
        let encoded = OnceCell::new();
        Entry { contact, encoded, last_seen: now, rtt, failures: 0, stale: false }
    }

    /// Whether answers may name it: it has answered what it was last asked. No stale contact is.
    pub fn is_good(&self) -> bool {
        self.failures == 0
    }

    fn named(&self) -> Option<Contact> {
        self.is_good().then_some(self.contact)
    }

    fn due_for_check(&self, now: Instant) -> Option<Contact> {
        (now.since(self.last_seen) > FRESH).then_some(self.contact)
    }

    fn on_answer(&mut self, now: Instant, contact: Contact, rtt: Option<Duration>) -> Insertion {
        if self.contact.address != contact.address {
            if !self.stale {
                return Insertion::Conflict { check: self.due_for_check(now) };
            }
            *self = Entry::new(now, contact, rtt);
            return Insertion::Added;
        }
        self.last_seen = now;
        self.rtt = match (self.rtt, rtt) {
            // The weight of RFC 6298 §2.3.
            (Some(old), Some(rtt)) => Some((old.times(7) + rtt).divided_by(8)),
            (old, rtt) => rtt.or(old),
        };
        self.failures = 0;
        let was_stale = std::mem::take(&mut self.stale);
        if was_stale { Insertion::Added } else { Insertion::Known }
    }

    /// Returns whether asking again makes sense.
    fn on_silence(&mut self, contact: &Contact) -> bool {
        let is_it = self.contact.address == contact.address;
        self.failures = self.failures.saturating_add(is_it.into());
        is_it && !self.stale
    }

    /// Returns whether this is that contact, and was not stale before.
    fn on_dead(&mut self, contact: &Contact) -> bool {
        let is_it = self.contact.address == contact.address && !self.stale;
        if is_it {
            self.stale = true;
            // A liveness check that failed is at least one request unanswered.
            self.failures = self.failures.max(1);
        }
        is_it
    }
}

/// Iterator over the contacts of a table, the nearest to a target first.
pub struct Closest<'t> {
    table: &'t Table,
    target: Id,
    /// Bucket numbers in the order of their distance to the target.
    order: [u8; Id::BITS as usize],
    next_bucket: usize,
    /// Parts of the current bucket that are still to come.
    parts: std::ops::Range<u32>,
    /// The contacts of the current part by distance.
    sorted: [(Distance, u16); MAX_K],
    len: usize,
    at: usize,
}

impl<'t> Closest<'t> {
    fn new(table: &'t Table, target: Id) -> Closest<'t> {
        let mut order = [0; Id::BITS as usize];
        bucket_order(&table.own, &target, table.buckets.len(), &mut order);
        let sorted = [(Distance::ZERO, 0); MAX_K];
        Closest { table, target, order, next_bucket: 0, parts: 0..0, sorted, len: 0, at: 0 }
    }

    /// Sorts the next part in line. Returns false if there is none.
    fn load(&mut self) -> bool {
        if self.parts.is_empty() {
            if self.next_bucket == self.table.buckets.len() {
                return false;
            }
            let bucket = usize::from(self.order[self.next_bucket]);
            self.next_bucket += 1;
            self.parts = 0..1 << self.table.part_bits(bucket);
        }
        let number = usize::from(self.order[self.next_bucket - 1]);
        let bucket = &self.table.buckets[number];
        let step = self.parts.next().expect("made just above");
        // All ids of a bucket are equally far from the target up to the bits that tell its parts
        // apart.
        let part = self.table.part(number, &self.target) ^ step;
        self.len = 0;
        for (index, entry) in bucket.entries.iter().enumerate() {
            let id = &entry.contact.id;
            if self.table.part(number, id) == part {
                self.sorted[self.len] = (self.target.distance(id), index as u16);
                self.len += 1;
            }
        }
        self.at = 0;
        self.sorted[..self.len].sort_unstable();
        true
    }
}

impl<'t> Iterator for Closest<'t> {
    type Item = &'t Entry;

    #[inline]
    fn next(&mut self) -> Option<&'t Entry> {
        while self.at == self.len {
            if !self.load() {
                return None;
            }
        }
        let bucket = &self.table.buckets[usize::from(self.order[self.next_bucket - 1])];
        let index = self.sorted[self.at].1;
        self.at += 1;
        Some(&bucket.entries[usize::from(index)])
    }
}

/// The order in which `count` buckets around `own` lie from `target`: no contact of an earlier one
/// is farther than a contact of a later one.
///
/// Say the target falls into bucket `b`, so it differs from the own id first in bit `b`. Then bucket
/// `b` is nearest. All deeper buckets come next, being inside the own id's half of the range at bit
/// `b`, and among them bucket `j` lies before everything deeper than it where the target differs
/// from the own id in bit `j` too, and behind it where not. Buckets above `b` follow, the deepest
/// first.
fn bucket_order(own: &Id, target: &Id, count: usize, order: &mut [u8; Id::BITS as usize]) {
    let last = count - 1;
    let home = (own.common_prefix(target) as usize).min(last);
    let differs = |&bucket: &usize| own.bit(bucket as u32) != target.bit(bucket as u32);
    let inner = (home + 1).min(last)..last;
    let before = inner.clone().filter(differs);
    let innermost = (last > home).then_some(last);
    let behind = inner.rev().filter(|bucket| !differs(bucket));
    let above = (0..home).rev();
    let all = std::iter::once(home).chain(before).chain(innermost).chain(behind).chain(above);
    for (slot, bucket) in order.iter_mut().zip(all) {
        *slot = bucket as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RTT: Duration = Duration::from_millis(1);

    /// An id that shares `prefix` bits with the zero id, told apart from others by `tail`.
    fn near_zero(prefix: u32, tail: u8) -> Id {
        let mut bytes = [0; Id::LEN];
        bytes[(prefix / 8) as usize] |= 0x80 >> (prefix % 8);
        bytes[Id::LEN - 1] |= tail;
        Id::new(bytes)
    }

    fn contact(id: Id, port: u16) -> Contact {
        Contact { id, address: ([127, 0, 0, 1], port).into() }
    }

    fn new(own: Id, config: &Config) -> Table {
        let encode = |contact: &Contact| EncodedContact::new(contact.id.as_bytes());
        Table::new(Instant::ZERO, own, config.k, config, encode)
    }

    fn table() -> Table {
        new(Id::new([0; Id::LEN]), &Config::default())
    }

    /// A table whose bucket 0 is full; contact `i` was seen in second `i`.
    fn full() -> Table {
        let mut table = table();
        for i in 0..21 {
            let now = Instant::ZERO + Duration::from_secs(u64::from(i));
            // The last one lies in another bucket, so that bucket 0 can be split off.
            let prefix = u32::from(i == 20);
            let added = table.on_answer(now, contact(near_zero(prefix, i), 9_000), RTT);
            assert_eq!(added, Insertion::Added);
        }
        table
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn ids(table: &Table) -> Vec<Id> {
        table.entries().map(|entry| entry.contact.id).collect()
    }

    #[test]
    fn only_the_bucket_of_the_own_id_splits() {
        let table = full();
        assert_eq!(table.buckets().len(), 2);
        assert_eq!((table.buckets()[0].live(), table.buckets()[1].live()), (20, 1));
    }

    #[test]
    fn a_full_bucket_names_its_least_recently_seen_contact() {
        let mut table = full();
        let (newcomer, oldest) = (contact(near_zero(0, 99), 9_099), near_zero(0, 0));
        let waiting = table.on_answer(at(60), newcomer, RTT);
        assert_eq!(waiting, Insertion::Waiting { check: Some(contact(oldest, 9_000)) });
        assert!(!ids(&table).contains(&newcomer.id));
        // Once the oldest was heard of again, the next one is due.
        assert_eq!(table.on_seen(at(61), &contact(oldest, 9_000)), Sighting::Live);
        let next = table.on_stranger(at(62), newcomer).unwrap();
        assert_eq!(next.id, near_zero(0, 1));
    }

    #[test]
    fn contacts_seen_just_now_are_not_pinged_for_a_newcomer() {
        let mut table = full();
        let newcomer = contact(near_zero(0, 99), 9_099);
        for i in 0..20 {
            table.on_seen(at(60), &contact(near_zero(0, i), 9_000));
        }
        assert_eq!(table.on_answer(at(61), newcomer, RTT), Insertion::Waiting { check: None });
    }

    #[test]
    fn a_dead_contact_makes_room_for_the_last_that_waited() {
        let mut table = full();
        let dead = contact(near_zero(0, 0), 9_000);
        for tail in [98, 99] {
            table.on_answer(at(60), contact(near_zero(0, tail), 9_099), RTT);
        }
        let replacement = contact(near_zero(0, 99), 9_099);
        assert_eq!(table.on_dead(&dead), Some(Some(replacement)));
        assert_eq!(table.len(), 20, "a stale contact does not count");
        assert_eq!(table.on_answer(at(61), replacement, RTT), Insertion::Added);
        assert!(!ids(&table).contains(&dead.id));
    }

    #[test]
    fn a_stale_contact_that_answers_is_alive_again() {
        let mut table = full();
        let back = contact(near_zero(0, 0), 9_000);
        assert!(table.on_silence(&back));
        table.on_dead(&back);
        assert!(!table.on_silence(&back));
        assert_eq!(table.on_answer(at(61), back, RTT), Insertion::Added);
        assert_eq!(table.entry(&back.id).map(|entry| entry.failures), Some(0));
    }

    #[test]
    fn the_replacement_cache_is_bounded_and_keeps_the_latest() {
        let mut table = full();
        for tail in 100..=255 {
            table.on_stranger(at(60), contact(near_zero(0, tail), 9_099));
        }
        let waiting = table.buckets()[0].replacements();
        assert_eq!(waiting.len(), 20);
        assert_eq!(waiting.back().map(|contact| contact.id), Some(near_zero(0, 255)));
    }

    #[test]
    fn the_same_id_elsewhere_does_not_replace_a_live_contact() {
        let mut table = full();
        let (old, new) = (contact(near_zero(0, 3), 9_000), contact(near_zero(0, 3), 9_999));
        assert_eq!(table.on_answer(at(60), new, RTT), Insertion::Conflict { check: Some(old) });
        assert_eq!(table.on_seen(at(60), &new), Sighting::Elsewhere { check: Some(old) });
        assert_eq!(table.entry(&old.id).map(|entry| entry.contact), Some(old));
        assert!(table.on_dead(&old).is_some());
        assert!(table.on_dead(&old).is_none(), "nobody dies twice");
        assert_eq!(table.on_answer(at(61), new, RTT), Insertion::Added);
        assert_eq!(table.on_answer(at(62), old, RTT), Insertion::Conflict { check: None });
        assert_eq!(table.entry(&old.id).map(|entry| entry.contact), Some(new));
    }

    #[test]
    fn stale_contacts_are_forgotten_after_many_failures() {
        let mut table = full();
        let dead = contact(near_zero(0, 5), 9_000);
        table.on_dead(&dead);
        for _ in 0..3 {
            table.on_silence(&dead);
        }
        assert_eq!(table.stale_after(0, 8), [dead]);
        assert_eq!(table.stale_after(0, 3), []);
        assert!(table.entry(&dead.id).is_none());
    }

    /// A contact of the farther half at the end of a subnet.
    fn of_subnet(subnet: [u8; 3], tail: u8) -> Contact {
        let [a, b, c] = subnet;
        Contact { id: near_zero(0, tail), address: ([a, b, c, tail], 9_000).into() }
    }

    #[test]
    fn a_bucket_takes_few_of_one_subnet() {
        let mut table = table();
        for tail in 0..20 {
            let added = table.on_answer(at(1), of_subnet([198, 51, 100], tail), RTT);
            let expected = if tail < 3 { Insertion::Added } else { Insertion::Crowded };
            assert_eq!(added, expected);
        }
        assert!(!table.has_room(&of_subnet([198, 51, 100], 99)));
        assert!(table.has_room(&of_subnet([198, 51, 101], 99)));
        assert_eq!(table.on_answer(at(1), of_subnet([198, 51, 100], 0), RTT), Insertion::Known);
        // Of another subnet, as many again; where a dead one was, there is room.
        assert_eq!(table.on_answer(at(2), of_subnet([198, 51, 101], 99), RTT), Insertion::Added);
        table.on_dead(&of_subnet([198, 51, 100], 1));
        assert_eq!(table.on_answer(at(3), of_subnet([198, 51, 100], 77), RTT), Insertion::Added);
        assert_eq!(table.on_answer(at(4), of_subnet([198, 51, 100], 1), RTT), Insertion::Crowded);
        assert_eq!(table.len(), 4);
    }

    /// How many contacts with addresses like these a table takes in when it is half full of others,
    /// if their ids lie at all distances.
    fn taken(addresses: impl Fn(u32) -> String) -> usize {
        let mut table = table();
        let mut add = |number: u32, tail: u8, ip: String| {
            let address = format!("{ip}:9000").parse().unwrap();
            table.on_answer(at(1), Contact { id: near_zero(number % 40, tail), address }, RTT)
        };
        for number in 0..400 {
            let ip = format!("203.{}.{}.1", number / 256, number % 256);
            add(number, (number / 40) as u8, ip);
        }
        (0..2_000_u32)
            .filter(|&number| {
                let tail = 100 + (number / 40) as u8;
                add(number, tail, addresses(number)) == Insertion::Added
            })
            .count()
    }

    #[test]
    fn few_owners_have_few_of_all_contacts_however_many_ids_they_choose() {
        assert_eq!(taken(|i| format!("198.51.100.{}", i % 256)), 9, "a /24");
        let in_seven = taken(|i| format!("198.51.{}.{}", i % 7, i / 7 % 256));
        assert_eq!(in_seven, 63, "seven /24");
        assert_eq!(taken(|i| format!("[2001:db8::{i:x}]")), 9, "a /64");
        assert_eq!(taken(|i| format!("[2001:db8:0:{:x}::{i:x}]", i % 256)), 9, "/64s of a /56");
        assert_eq!(taken(|i| format!("[2001:db8:0:{:x}00::1]", i % 256)), 18, "/56s of a /48");
        assert!(taken(|i| format!("198.{}.{}.1", i / 256, i % 256)) > 300, "many owners");
    }

    #[test]
    fn a_bucket_takes_few_of_one_ipv6_subnet() {
        let mut table = table();
        for tail in 0..20 {
            let address = ([0x2001, 0xdb8, 0, 1, 0, 0, 0, u16::from(tail)], 9_000).into();
            table.on_answer(at(1), Contact { id: near_zero(0, tail), address }, RTT);
        }
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn few_of_one_subnet_wait_for_a_place() {
        let mut table = full();
        let honest = of_subnet([203, 0, 113], 30);
        table.on_stranger(at(60), honest);
        for tail in 100..=255 {
            table.on_stranger(at(60), of_subnet([198, 51, 100], tail));
        }
        let waiting = table.buckets()[0].replacements();
        assert_eq!(waiting.len(), 4);
        assert_eq!(waiting.front(), Some(&honest));
    }

    #[test]
    fn where_the_node_itself_lives_subnets_are_not_limited() {
        for [a, b, c] in [[127, 0, 0], [10, 0, 0], [192, 168, 1], [172, 16, 9]] {
            let mut table = table();
            for tail in 0..20 {
                table.on_answer(at(1), of_subnet([a, b, c], tail), RTT);
            }
            assert_eq!(table.len(), 20);
        }
    }

    #[test]
    fn the_own_id_never_enters() {
        let mut table = table();
        let own = contact(Id::new([0; Id::LEN]), 9_000);
        assert_eq!(table.on_answer(at(1), own, RTT), Insertion::Own);
        assert_eq!(table.on_seen(at(1), &own), Sighting::Own);
        assert!(table.is_empty());
    }

    /// Something that a node tells its table about one of some hundred contacts. Most share their
    /// bucket, so that places are wanted; each has two addresses.
    #[derive(Clone, Copy, Debug)]
    struct Step {
        what: u8,
        contact: Contact,
        secs: u64,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let contact = (0_u32..3, 0_u8..40, 9_000_u16..9_002)
            .prop_map(|(prefix, tail, port)| contact(near_zero(prefix, tail), port));
        let step = (0_u8..12, contact, 0_u64..30);
        step.prop_map(|(what, contact, secs)| Step { what, contact, secs })
    }

    fn take(table: &mut Table, now: Instant, step: Step) {
        let contact = step.contact;
        match step.what {
            0..4 => _ = table.on_answer(now, contact, RTT.times(step.secs)),
            4 => _ = table.on_answer(now, contact, None),
            5 => _ = table.on_seen(now, &contact),
            6 => _ = table.on_stranger(now, contact),
            7 | 8 => _ = table.on_silence(&contact),
            9 => _ = table.on_dead(&contact),
            10 => table.touch(now, &contact.id),
            _ => _ = table.stale_after(table.index(&contact.id), (step.secs / 10) as u16),
        }
    }

    /// The contacts that answers may name.
    fn named(table: &Table) -> BTreeSet<Contact> {
        table.good().map(|entry| entry.contact).collect()
    }

    #[test]
    fn a_contact_is_worth_naming_until_it_leaves_something_unanswered() {
        let mut table = full();
        let (silent, dead) = (contact(near_zero(0, 3), 9_000), contact(near_zero(0, 4), 9_000));
        assert_eq!(named(&table).len(), 21);
        table.on_silence(&silent);
        table.on_dead(&dead);
        assert!(!named(&table).contains(&silent) && !named(&table).contains(&dead));
        table.on_answer(at(60), silent, RTT);
        assert_eq!(named(&table).len(), 20);
    }

    /// Ids around the zero id, as dense near it as a real table is.
    fn any_id() -> impl Strategy<Value = Id> {
        (0_u32..160, any::<[u8; 20]>()).prop_map(|(zeros, mut bytes)| {
            for bit in 0..zeros {
                bytes[(bit / 8) as usize] &= !(0x80 >> (bit % 8));
            }
            Id::new(bytes)
        })
    }

    proptest! {
        #[test]
        fn the_version_changes_when_answers_may_name_others_and_only_then(
            steps in prop::collection::vec(any_step(), 0..400),
        ) {
            let (mut table, mut now) = (table(), Instant::ZERO);
            for step in steps {
                let (before, version) = (named(&table), table.version());
                now += Duration::from_secs(step.secs);
                take(&mut table, now, step);
                let is_same = named(&table) == before;
                prop_assert_eq!(table.version() == version, is_same, "{:?}", step);
                prop_assert!(table.version() >= version);
            }
        }

        #[test]
        fn closest_equals_brute_force(
            known in prop::collection::vec(any_id(), 0..400),
            target in any_id(),
            own in any::<[u8; 20]>(),
            n in 0_usize..60,
            (k, split_bits) in (1_usize..=20, 1_u32..=5),
        ) {
            // Everything is seen from a random own id instead of from zero.
            let shift = |id: &Id| {
                Id::new(std::array::from_fn(|i| id.as_bytes()[i] ^ own[i]))
            };
            let target = shift(&target);
            let config = Config { k, split_bits, ..Config::default() };
            let mut table = new(Id::new(own), &config);
            for id in &known {
                table.on_answer(Instant::ZERO, contact(shift(id), 9_000), RTT);
            }
            let found: Vec<Id> = table.closest(&target).take(n).map(|e| e.contact.id).collect();
            let mut all = ids(&table);
            all.sort_by_key(|id| target.distance(id));
            all.truncate(n);
            prop_assert_eq!(found, all);
        }

        #[test]
        fn no_key_is_missed_where_this_node_may_be_nearest(
            known in prop::collection::vec(any_id(), 1..100),
            key in any_id(),
            rank in 0_usize..3,
            k in 1_usize..20,
        ) {
            let mut table = table();
            for id in &known {
                table.on_answer(Instant::ZERO, contact(*id, 9_000), RTT);
            }
            let new = known[0];
            let nearer_than = |id: &Id| {
                let others = table.entries().filter(|entry| entry.contact.id != new);
                let distance = key.distance(id);
                others.filter(|e| key.distance(&e.contact.id) < distance).count()
            };
            let is_own_nearer = key.distance(&table.own) < key.distance(&new);
            if nearer_than(&table.own) <= rank && nearer_than(&new) + usize::from(is_own_nearer) < k {
                let prefixes = table.may_be_nearest(&new, rank, k);
                let has = |(id, bits): &(Id, u32)| id.common_prefix(&key) >= *bits;
                prop_assert!(prefixes.iter().any(has), "{prefixes:?}");
            }
        }

        #[test]
        fn buckets_keep_to_their_ranges_and_sizes(
            known in prop::collection::vec(any_id(), 0..400),
            split_bits in 1_u32..=5,
        ) {
            let config = Config { split_bits, ..Config::default() };
            let mut table = new(Id::new([0; Id::LEN]), &config);
            for id in &known {
                table.on_answer(Instant::ZERO, contact(*id, 9_000), RTT);
            }
            let last = table.buckets().len() - 1;
            for (index, bucket) in table.buckets().iter().enumerate() {
                prop_assert!(bucket.live() <= table.room(index));
                for entry in bucket.by_age() {
                    prop_assert!(table.alike(&entry.contact.id).count() <= 20);
                }
                for entry in bucket.by_age() {
                    let prefix = table.own.common_prefix(&entry.contact.id) as usize;
                    prop_assert!(prefix == index || index == last && prefix > last);
                }
            }
        }
    }
}
