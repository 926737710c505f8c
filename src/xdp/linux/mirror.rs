//! The node's side: writes the table and the heartbeat, and hears which contacts asked.
//!
//! The node's thread stamps the heartbeat itself, so that a node that hangs is silent. A thread of
//! its own writes the tables, because the kernel makes a change of tables wait until the last
//! packet has left the old one, some milliseconds; changes that come meanwhile become one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use aya::maps::{ArrayOfMaps, Map, MapData, RingBuf};
use nix::ifaddrs::getifaddrs;
use tokio::io::unix::AsyncFd;
use tracing::{debug, info, warn};

use super::hot::{HotValues, hot_of};
use super::pins;
use super::shared::Shared;
use super::status::now;
use super::ways::Ways;
use crate::message::Contact;
use crate::node::Node;
use crate::time::Instant;
use crate::xdp::image::{Content, draw_seed, held_bit, held_bits};
use crate::xdp::layout::{BUFFERS, Heartbeat, SEEN_MAX, Stranger, Way};
use crate::xdp::{Error, Heard, Pinning};

/// Strangers taken in at once, so that a flood of them does not hold up the node.
const STRANGERS_PER_TURN: usize = 64;

/// How often the ways to contacts are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keys are told again after a hundred times as long as that took.
const KEYS_SHARE: u32 = 100;

/// A node's way to the fast path of its port, whether one is attached at the moment or not.
pub(crate) struct Mirror {
    place: Pinning,
    attached: Option<Link>,
    /// The complaint that was logged last, so that it is logged once.
    complaint: Option<String>,
}

impl Mirror {
    /// Attaches nothing itself; [`Mirror::beat`] finds a fast path that is there or comes later.
    pub(crate) fn new(place: Pinning) -> Result<Mirror, Error> {
        Ok(Mirror { place, attached: None, complaint: None })
    }

    /// Looks whether a fast path has come or gone, tells it that the node is alive, and returns what
    /// it has done since. To be called every second.
    pub(crate) fn beat(&mut self) -> Heard {
        if self.attached.as_ref().is_some_and(|link| !link.is_there()) {
            info!(port = self.place.port, "the fast path is gone");
            self.attached = None;
        }
        if self.attached.is_none() {
            self.look();
        }
        let Some(link) = &mut self.attached else { return Heard::default() };
        link.beat().unwrap_or_else(|error| {
            warn!(%error, "the fast path cannot be reached");
            self.attached = None;
            Heard::default()
        })
    }

    /// The contacts that were handed routes since this was last asked.
    pub(crate) fn used(&mut self) -> Vec<Contact> {
        self.attached.as_mut().map(Link::used).unwrap_or_default()
    }

    /// Hands over the contacts that the node may name from now on, if they have changed, and values that
    /// were asked for; `local` is the address that it is bound to. Costs next to nothing if there is nothing
    /// new, and does not wait for the write if there is.
    pub(crate) fn update(&mut self, now: Instant, node: &mut Node, local: SocketAddr) {
        match &mut self.attached {
            Some(link) => link.update(now, node, local),
            None => node.copies().end(),
        }
    }

    /// Takes back the values that have changed. To be called before anything that the node says about
    /// them gets out. Costs next to nothing if none has.
    pub(crate) fn take_back(&mut self, node: &mut Node) {
        if let Some(link) = &mut self.attached {
            link.take_back(node);
        }
    }

    /// Waits for strangers whose requests were answered in the kernel.
    pub(crate) async fn strangers(&mut self) -> Vec<Contact> {
        match &mut self.attached {
            Some(link) => link.strangers().await,
            None => pending().await,
        }
    }

    fn look(&mut self) {
        let port = self.place.port;
        let opened = self.place.folder().and_then(|folder| {
            let is_there = folder.join(pins::ABOUT).exists();
            is_there.then(|| Link::open(folder, port)).transpose()
        });
        match opened {
            Ok(None) => {}
            Ok(Some(link)) => {
                info!(port, "the kernel answers for this node from now on");
                self.attached = Some(link);
                self.complaint = None;
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    warn!("there is a fast path, but: {complaint}");
                    self.complaint = Some(complaint);
                }
            }
        }
    }
}

/// The maps of an attached fast path.
struct Link {
    folder: PathBuf,
    /// Tells the maps from those of a later attachment.
    inode: u64,
    shared: Arc<Shared>,
    events: AsyncFd<RingBuf<MapData>>,
    slots: Slots,
    hot: HotValues,
    /// Whether the node notes what becomes of copies.
    is_noted: bool,
    last_seen: Vec<u64>,
    last_used: Vec<u64>,
    writer: MapWriter,
    seed: u64,
    /// The addresses of the node that were handed over, and the version of its routing table.
    told: Option<(Vec<IpAddr>, u64)>,
    /// Whether the addresses may have changed since.
    look_again: bool,
    /// The keys that were handed over, by the version of their set, and when they may be again.
    told_keys: Option<u64>,
    keys_again: Duration,
}

impl Link {
    fn open(folder: PathBuf, port: u16) -> Result<Link, Error> {
        let opening = |error| Error::failed("opening a map", error);
        pins::about(&folder, port)?;
        let inode = inode(&folder).map_err(|error| Error::failed("opening a map", error))?;
        // Until there is a table of this node's, nothing is answered.
        let shared = Arc::new(Shared::open(&folder)?);
        shared.beat(Duration::ZERO);
        let seed = draw_seed()?;
        let hot = HotValues::new(shared.clone(), seed);
        let events = Map::RingBuf(pins::map(&folder, "events")?);
        let events = RingBuf::try_from(events).map_err(opening)?;
        #[expect(unsafe_code, reason = "the runtime asks that the descriptor lives as long")]
        // SAFETY: the descriptor is the ring's own, which keeps it open for as long as it lives.
        let events = unsafe { AsyncFd::register(events) };
        let events = events.map_err(|error| Error::failed("watching a map", error))?;
        Ok(Link {
            inode,
            events,
            slots: Slots::new(),
            hot,
            is_noted: false,
            // Not of this node, but of one that was here before.
            last_seen: (0..SEEN_MAX).map(|slot| shared.seen(slot)).collect(),
            last_used: (0..SEEN_MAX).map(|slot| shared.used(slot)).collect(),
            writer: MapWriter::start(Tables::open(&folder, shared.clone())?, shared.clone())?,
            shared,
            seed,
            told: None,
            look_again: false,
            told_keys: None,
            keys_again: Duration::ZERO,
            folder,
        })
    }

    fn is_there(&self) -> bool {
        inode(&self.folder).is_ok_and(|inode| inode == self.inode)
    }

    fn beat(&mut self) -> Result<Heard, Error> {
        self.look_again = true;
        if !self.writer.has_written()? {
            return Ok(Heard::default());
        }
        self.shared.tell_hot(self.hot.size());
        self.shared.beat(now());
        let asked = self.slots.changed(&mut self.last_seen, |slot| self.shared.seen(slot));
        Ok(Heard { asked, used: self.used() })
    }

    fn used(&mut self) -> Vec<Contact> {
        self.slots.changed(&mut self.last_used, |slot| self.shared.used(slot))
    }

    fn update(&mut self, now: Instant, node: &mut Node, local: SocketAddr) {
        if !std::mem::replace(&mut self.is_noted, true) {
            node.copies().begin();
        }
        self.update_keys(node);
        self.update_values(node);
        let version = node.table().version();
        let is_told = self.told.as_ref().is_some_and(|(_, told)| *told == version);
        if is_told && !std::mem::take(&mut self.look_again) {
            return;
        }
        let secrets = node.route_secrets();
        self.shared.set_clock(now + secrets.origin);
        self.shared.set_routes(&secrets, node.own_address());
        let news = (locals(local), version);
        if self.told.as_ref() == Some(&news) {
            return;
        }
        let contacts: Vec<Contact> = node.table().good().map(|entry| entry.contact).collect();
        let contacts = self.slots.assign(&contacts);
        let (own_id, k, locals) = (node.id(), node.policy().k, news.0.clone());
        self.writer.write(Content { own_id, k, locals, contacts, seed: self.seed });
        self.told = Some(news);
    }

    /// Hands over the keys that the node holds something under, if they have changed, and not so often
    /// that many keys cost much.
    fn update_keys(&mut self, node: &Node) {
        let version = node.store().keys_version();
        if self.told_keys == Some(version) {
            return;
        }
        let began = now();
        if began < self.keys_again {
            return;
        }
        self.shared.set_held(self.seed, &held_bits(node.store().keys(), self.seed));
        self.told_keys = Some(version);
        self.keys_again = began + KEYS_SHARE * now().saturating_sub(began);
    }

    /// Puts values into the cache that were asked for.
    fn update_values(&mut self, node: &mut Node) {
        self.hot.on_rested(&self.writer.take_rested());
        for key in node.copies().take_asked() {
            let Some(hot) = hot_of(node, &key) else { continue };
            let (is_in, evicted) = self.hot.put(&key, &hot);
            if is_in {
                node.copies().add(key);
            }
            evicted.iter().for_each(|key| node.copies().remove(key));
        }
        self.writer.rest(self.hot.take_emptied());
    }

    fn take_back(&mut self, node: &mut Node) {
        // From now on routes to these keys are the node's, before anybody hears that it holds them.
        for key in node.copies().take_came() {
            self.shared.hold(held_bit(&key, self.seed));
        }
        for key in node.copies().take_stale() {
            self.hot.forget(&key);
        }
    }

    async fn strangers(&mut self) -> Vec<Contact> {
        let Ok(mut ready) = self.events.readable_mut().await else { return pending().await };
        let events = ready.get_inner_mut();
        let mut strangers = Vec::new();
        while strangers.len() < STRANGERS_PER_TURN {
            let Some(event) = events.next() else {
                ready.clear_ready();
                break;
            };
            if let Ok(stranger) = bytemuck::try_pod_read_unaligned::<Stranger>(&event) {
                strangers.push(stranger.contact());
            }
        }
        strangers
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writer.stop();
        // The kernel need not find out by itself that nobody is there.
        self.shared.beat(Duration::ZERO);
    }
}

fn inode(folder: &Path) -> io::Result<u64> {
    Ok(fs::metadata(folder.join(pins::ABOUT))?.ino())
}

/// The addresses at which a node bound to `bound` is reached.
fn locals(bound: SocketAddr) -> Vec<IpAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound.ip()];
    }
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let four = storage.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| storage.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    };
    let all = interfaces.filter_map(|interface| address(interface.address?));
    // `[::]` takes IPv4 too.
    all.filter(|ip| bound.is_ipv6() || ip.is_ipv4()).collect()
}

/// Which contact has which slot in the memory of when contacts were seen.
///
/// A slot rests as long as possible before another contact gets it: packets that are on their way
/// through the old table may still write to it.
struct Slots {
    of: HashMap<Contact, u16>,
    contacts: Vec<Option<Contact>>,
    free: VecDeque<u16>,
}

impl Slots {
    fn new() -> Slots {
        let free = (0..SEEN_MAX as u16).collect();
        Slots { of: HashMap::new(), contacts: vec![None; SEEN_MAX], free }
    }

    fn contact(&self, slot: u16) -> Option<Contact> {
        self.contacts[usize::from(slot)]
    }

    /// The contacts of the slots whose time has come on.
    fn changed(&self, last: &mut [u64], time: impl Fn(usize) -> u64) -> Vec<Contact> {
        let mut changed = Vec::new();
        for (slot, last) in last.iter_mut().enumerate() {
            let at = time(slot);
            if at > *last {
                *last = at;
                changed.extend(self.contact(slot as u16));
            }
        }
        changed
    }

    /// Gives each contact a slot, its old one if it had one. If there are more contacts than slots,
    /// the table does not fit anyway.
    fn assign(&mut self, contacts: &[Contact]) -> Vec<(Contact, u16)> {
        let mut gone = std::mem::take(&mut self.of);
        let kept: Vec<_> = contacts.iter().map(|contact| gone.remove(contact)).collect();
        for (_, slot) in gone {
            self.contacts[usize::from(slot)] = None;
            self.free.push_back(slot);
        }
        let mut assigned = Vec::with_capacity(contacts.len());
        for (contact, slot) in contacts.iter().zip(kept) {
            let Some(slot) = slot.or_else(|| self.free.pop_front()) else { break };
            self.of.insert(*contact, slot);
            self.contacts[usize::from(slot)] = Some(*contact);
            assigned.push((*contact, slot));
        }
        assigned
    }
}

/// Writes tables on a thread of its own, the latest only.
struct MapWriter {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What passes between the node's thread and the writer's.
#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    news: Condvar,
}

#[derive(Default)]
struct Papers {
    /// The content, with the time when the node handed it over, which is a sign of life.
    next: Option<(Content, Duration)>,
    is_over: bool,
    /// A table was written.
    has_written: bool,
    /// Places of the cache that were emptied, and those that no packet reads any more.
    emptied: Vec<u16>,
    rested: Vec<u16>,
    failure: Option<String>,
}

impl MapWriter {
    fn start(mut tables: Tables, shared: Arc<Shared>) -> Result<MapWriter, Error> {
        let desk = Arc::new(Desk::default());
        let theirs = desk.clone();
        let mut ways = PlacedWays::new(shared.clone());
        let work = move || {
            loop {
                let (content, handed_over) = match theirs.next() {
                    Task::Write(content, handed_over) => (content, handed_over),
                    Task::Look => {
                        ways.look_again(&mut tables);
                        continue;
                    }
                    Task::Wait(places) => {
                        if tables.wait_for_packets().is_ok() {
                            theirs.papers().rested.extend(places);
                        }
                        continue;
                    }
                    Task::End => break,
                };
                ways.make_room(&content);
                let written = tables.write(&content);
                ways.place(&content, &mut tables);
                let mut papers = theirs.papers();
                match written {
                    Ok(()) => {
                        // The first one need not wait for the next beat.
                        shared.beat(handed_over);
                        papers.has_written = true;
                    }
                    Err(error) => papers.failure = Some(error.to_string()),
                }
            }
        };
        let thread = thread::Builder::new().name("kademlua-mirror".into()).spawn(work);
        let thread = thread.map_err(|error| Error::failed("starting a thread", error))?;
        Ok(MapWriter { desk, thread: Some(thread) })
    }

    fn write(&self, content: Content) {
        self.desk.papers().next = Some((content, now()));
        self.desk.news.notify_one();
    }

    /// Waits until no packet reads these places of the cache any more.
    fn rest(&self, emptied: Vec<u16>) {
        if !emptied.is_empty() {
            self.desk.papers().emptied.extend(emptied);
            self.desk.news.notify_one();
        }
    }

    /// The places for which that is so.
    fn take_rested(&self) -> Vec<u16> {
        std::mem::take(&mut self.desk.papers().rested)
    }

    fn has_written(&self) -> Result<bool, Error> {
        let papers = self.desk.papers();
        match &papers.failure {
            Some(reason) => {
                Err(Error::Failed { what: "writing the table", reason: reason.clone() })
            }
            None => Ok(papers.has_written),
        }
    }
}

impl MapWriter {
    /// Ends the thread; nothing is written from then on.
    fn stop(&mut self) {
        self.desk.papers().is_over = true;
        self.desk.news.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do.
    fn next(&self) -> Task {
        let mut papers = self.papers();
        loop {
            if papers.is_over {
                return Task::End;
            }
            if let Some((content, handed_over)) = papers.next.take() {
                return Task::Write(content, handed_over);
            }
            if !papers.emptied.is_empty() {
                return Task::Wait(std::mem::take(&mut papers.emptied));
            }
            let waited = self.news.wait_timeout(papers, LOOK_EVERY);
            let (back, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            papers = back;
            if timeout.timed_out()
                && papers.next.is_none()
                && papers.emptied.is_empty()
                && !papers.is_over
            {
                return Task::Look;
            }
        }
    }
}

enum Task {
    /// Write this, which the node handed over at that time.
    Write(Content, Duration),
    /// Wait until no packet reads these places of the cache any more.
    Wait(Vec<u16>),
    /// Look whether the ways to contacts have changed.
    Look,
    End,
}

/// The ways to contacts, where the program finds them: by their slots.
struct PlacedWays {
    shared: Arc<Shared>,
    /// `None`: the kernel does not tell, and routes are left to the node.
    ways: Option<Ways>,
    /// Whose way is in which slot, and which it is.
    placed: BTreeMap<u16, (IpAddr, Way)>,
}

impl PlacedWays {
    fn new(shared: Arc<Shared>) -> PlacedWays {
        let ways = Ways::open().inspect_err(|error| warn!(%error, "no ways to contacts"));
        PlacedWays { shared, ways: ways.ok(), placed: BTreeMap::new() }
    }

    /// Before a slot gets another contact nobody may find the way to the one before.
    fn make_room(&mut self, content: &Content) {
        let now: HashMap<u16, IpAddr> =
            content.contacts.iter().map(|(contact, slot)| (*slot, contact.address.ip())).collect();
        self.placed.retain(|slot, (ip, _)| {
            let stays = now.get(slot) == Some(ip);
            if !stays {
                self.shared.set_way(*slot, Way::default());
            }
            stays
        });
    }

    fn place(&mut self, content: &Content, tables: &mut Tables) {
        let mut has_new = false;
        for (contact, slot) in &content.contacts {
            let new = (contact.address.ip(), Way::default());
            has_new |= !self.placed.contains_key(slot);
            self.placed.entry(*slot).or_insert(new);
        }
        if has_new {
            self.refresh(tables);
        }
    }

    fn look_again(&mut self, tables: &mut Tables) {
        let looked = self.ways.as_mut().map(Ways::look_again);
        if let Some(Err(error)) = looked {
            debug!(%error, "the ways to contacts cannot be looked at");
        }
        self.refresh(tables);
    }

    /// Writes the ways that have changed.
    fn refresh(&mut self, tables: &mut Tables) {
        let Some(ways) = &mut self.ways else { return };
        let mut changed = Vec::new();
        for (slot, (ip, way)) in &mut self.placed {
            let now = ways.to(*ip);
            if now != *way {
                self.shared.set_way(*slot, Way::default());
                *way = now;
                changed.push((*slot, now));
            }
        }
        // Half of one way and half of another leads nowhere.
        if !changed.is_empty() && tables.wait_for_packets().is_ok() {
            changed.into_iter().for_each(|(slot, way)| self.shared.set_way(slot, way));
        }
    }
}

/// The tables of both families, each with the one that is read and the one that is written next.
pub(super) struct Tables {
    shared: Arc<Shared>,
    /// Writing to it takes until no packet is in the table any more that was replaced.
    gate: ArrayOfMaps<MapData, MapData>,
}

impl Tables {
    fn open(folder: &Path, shared: Arc<Shared>) -> Result<Tables, Error> {
        let mut tables = Tables::new(shared, Map::ArrayOfMaps(pins::map(folder, "gate")?))?;
        // A node that was here before may just have replaced one.
        tables.wait_for_packets()?;
        Ok(tables)
    }

    pub(super) fn new(shared: Arc<Shared>, gate: Map) -> Result<Tables, Error> {
        let gate = gate.try_into().map_err(|error| Error::failed("opening a map", error))?;
        Ok(Tables { shared, gate })
    }

    pub(super) fn write(&mut self, content: &Content) -> Result<(), Error> {
        let mut written =
            Heartbeat { at: 0, contacts: [0; 2], incomplete: 0, hot: 0, hot_bytes: 0 };
        for (family, is_ipv4) in [true, false].into_iter().enumerate() {
            let image = content.image(is_ipv4);
            written.contacts[family] = image.count;
            written.incomplete |= image.incomplete;
            let next = (self.shared.current(family) + 1) % BUFFERS;
            self.shared.write(family, next, &image);
            self.shared.set_current(family, next);
        }
        self.shared.tell(&written);
        debug!(contacts = ?written.contacts, "mirrored");
        self.wait_for_packets()
    }

    pub(super) fn wait_for_packets(&mut self) -> Result<(), Error> {
        let passed = self.gate.set(0, self.shared.map(), 0);
        passed.map_err(|error| Error::failed("waiting for packets", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn contact(number: u16) -> Contact {
        let address = ([10, 0, 0, 1], 1 + number).into();
        Contact { id: Id::of_name(number.to_string()), address }
    }

    #[test]
    fn a_contact_keeps_its_place_and_a_place_that_was_left_rests() {
        let mut slots = Slots::new();
        let first = slots.assign(&[contact(1), contact(2)]);
        let second = slots.assign(&[contact(2), contact(3)]);
        assert_eq!(second[0], first[1]);
        assert_eq!((slots.contact(first[0].1), first[0].1 == second[1].1), (None, false));
        // It comes up again only once all others have been used.
        let crowd: Vec<_> = (10..10 + SEEN_MAX as u16).map(contact).collect();
        let third = slots.assign(&crowd);
        assert_eq!(third.len(), SEEN_MAX);
        assert!(third[SEEN_MAX - 3..].iter().any(|(_, slot)| *slot == first[0].1));
    }
}
