//! What a node and the program share, in this process' memory: a store here is seen by the next packet.

use std::mem::offset_of;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{pins, status};
use crate::guard::tickets::RouteSecrets;
use crate::time::Instant;
use crate::xdp::Error;
use crate::xdp::layout::{
    BUFFERS, HELD_WORDS, HOT_MAX, Heartbeat, Hot, KernelNode, KernelTable, SEEN_MAX, Way,
};

/// A node's map.
pub(super) struct Shared {
    memory: NonNull<KernelNode>,
    map: MapData,
}

#[expect(unsafe_code, reason = "the memory belongs to the map, and to no thread")]
// SAFETY: single fields are read and written as atomics, and a table by the one thread that has `Tables`.
unsafe impl Send for Shared {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// That of a node that was attached.
    pub(super) fn open(folder: &Path) -> Result<Shared, Error> {
        Shared::new(pins::map(folder, "node")?)
    }

    pub(super) fn new(map: MapData) -> Result<Shared, Error> {
        let failed = |error: nix::Error| Error::failed("sharing memory with the kernel", error);
        let length = NonZeroUsize::new(size_of::<KernelNode>()).expect("a node has a size");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        #[expect(unsafe_code, reason = "the system asks for addresses")]
        // SAFETY: the kernel chooses the address, and refuses a map that is shorter.
        let memory =
            unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) };
        Ok(Shared { memory: memory.map_err(failed)?.cast(), map })
    }

    pub(super) fn map(&self) -> &MapData {
        &self.map
    }

    /// Says that the node was alive at that time; zero: that it has left.
    pub(super) fn beat(&self, at: Duration) {
        let at = at.as_nanos() as u64;
        self.long(offset_of!(KernelNode, heartbeat.at)).store(at, Ordering::Release);
    }

    /// The key that is at this place of the cache, by its hash; 0: none.
    pub(super) fn set_hot_tag(&self, place: u16, tag: u64) {
        self.of_place(offset_of!(KernelNode, hot_tags), place).store(tag, Ordering::Release);
    }

    /// When what is at this place of the cache was last asked for.
    pub(super) fn hot_asked(&self, place: u16) -> Duration {
        let asked = self.of_place(offset_of!(KernelNode, hot_asked), place);
        Duration::from_nanos(asked.load(Ordering::Relaxed))
    }

    /// Writes what is at a place of the cache, which no packet may read meanwhile.
    pub(super) fn write_hot(&self, place: u16, hot: &Hot, now: Duration) {
        let asked = self.of_place(offset_of!(KernelNode, hot_asked), place);
        asked.store(now.as_nanos() as u64, Ordering::Relaxed);
        let at = offset_of!(KernelNode, hot) + usize::from(place) * size_of::<Hot>();
        #[expect(unsafe_code, reason = "the memory is the kernel's too")]
        // SAFETY: the place lies within the memory, which nobody in this process has a reference to.
        unsafe {
            self.memory.byte_add(at).cast::<Hot>().copy_from_nonoverlapping(hot.into(), 1);
        }
    }

    /// Tells the size of the cache.
    pub(super) fn tell_hot(&self, (keys, bytes): (u32, u64)) {
        self.word(offset_of!(KernelNode, heartbeat.hot)).store(keys, Ordering::Relaxed);
        self.long(offset_of!(KernelNode, heartbeat.hot_bytes)).store(bytes, Ordering::Relaxed);
    }

    fn of_place(&self, field: usize, place: u16) -> &AtomicU64 {
        assert!(usize::from(place) < HOT_MAX, "there are no more places");
        self.long(field + usize::from(place) * size_of::<u64>())
    }

    /// Tells the size of the mirror, beside the time.
    pub(super) fn tell(&self, written: &Heartbeat) {
        let store = |at, value| self.word(at).store(value, Ordering::Relaxed);
        for (family, count) in written.contacts.into_iter().enumerate() {
            store(offset_of!(KernelNode, heartbeat.contacts) + family * size_of::<u32>(), count);
        }
        store(offset_of!(KernelNode, heartbeat.incomplete), written.incomplete);
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        let load = |at| self.word(at).load(Ordering::Relaxed);
        let contacts = offset_of!(KernelNode, heartbeat.contacts);
        Heartbeat {
            at: self.long(offset_of!(KernelNode, heartbeat.at)).load(Ordering::Acquire),
            contacts: [load(contacts), load(contacts + size_of::<u32>())],
            incomplete: load(offset_of!(KernelNode, heartbeat.incomplete)),
            hot: load(offset_of!(KernelNode, heartbeat.hot)),
            hot_bytes: self
                .long(offset_of!(KernelNode, heartbeat.hot_bytes))
                .load(Ordering::Relaxed),
        }
    }

    /// What tickets and tokens are known by, and where others reach the node, if it knows.
    pub(super) fn set_routes(&self, secrets: &RouteSecrets, own: Option<SocketAddr>) {
        let keys = secrets.tickets.iter().chain(&secrets.tokens);
        for (number, key) in keys.enumerate() {
            let at = offset_of!(KernelNode, ticket_keys) + number * size_of::<u64>();
            self.long(at).store(*key, Ordering::Relaxed);
        }
        let port = own.map_or(0, |own| u32::from(own.port()));
        self.word(offset_of!(KernelNode, own_port)).store(port, Ordering::Relaxed);
    }

    /// The clock of the node's stamps shows this now.
    pub(super) fn set_clock(&self, now: Instant) {
        let ahead = now.as_micros() as i64 * 1_000 - status::now().as_nanos() as i64;
        self.long(offset_of!(KernelNode, clock)).store(ahead as u64, Ordering::Relaxed);
    }

    /// The keys under which something is held, as the bits of their hashes.
    pub(super) fn set_held(&self, seed: u64, bits: &[u64; HELD_WORDS]) {
        self.long(offset_of!(KernelNode, held_seed)).store(seed, Ordering::Relaxed);
        for (number, bits) in bits.iter().enumerate() {
            let at = offset_of!(KernelNode, held) + number * size_of::<u64>();
            self.long(at).store(*bits, Ordering::Relaxed);
        }
    }

    /// Something is held under a key, the bit of whose hash this is.
    pub(super) fn hold(&self, bit: usize) {
        assert!(bit < HELD_WORDS * u64::BITS as usize, "there are no more bits");
        let word = bit / u64::BITS as usize;
        let word = self.long(offset_of!(KernelNode, held) + word * size_of::<u64>());
        word.fetch_or(1 << (bit % u64::BITS as usize), Ordering::Relaxed);
    }

    /// Where packets to the contact that has this place leave. Before it changes from one way to another
    /// none is to be known for as long as a packet may read it.
    pub(super) fn set_way(&self, slot: u16, way: Way) {
        assert!(usize::from(slot) < SEEN_MAX, "there are no more places");
        let at = offset_of!(KernelNode, ways) + usize::from(slot) * size_of::<Way>();
        let [ifindex, words @ ..]: [u32; 4] = bytemuck::must_cast(way);
        if ifindex != 0 {
            for (number, word) in words.into_iter().enumerate() {
                self.word(at + (1 + number) * size_of::<u32>()).store(word, Ordering::Relaxed);
            }
        }
        self.word(at).store(ifindex, Ordering::Release);
    }

    /// When the contact that has this place was last seen.
    pub(super) fn seen(&self, slot: usize) -> u64 {
        self.of_slot(offset_of!(KernelNode, seen), slot)
    }

    /// When it was last handed a route.
    pub(super) fn used(&self, slot: usize) -> u64 {
        self.of_slot(offset_of!(KernelNode, used), slot)
    }

    fn of_slot(&self, field: usize, slot: usize) -> u64 {
        assert!(slot < SEEN_MAX, "there are no more places");
        self.long(field + slot * size_of::<u64>()).load(Ordering::Relaxed)
    }

    /// The table of a family that packets read.
    pub(super) fn current(&self, family: usize) -> usize {
        self.current_word(family).load(Ordering::Relaxed) as usize % BUFFERS
    }

    /// Packets read this one from now on.
    pub(super) fn set_current(&self, family: usize, buffer: usize) {
        self.current_word(family).store(buffer as u32, Ordering::Release);
    }

    /// Writes a table, which no packet may read meanwhile.
    pub(super) fn write(&self, family: usize, buffer: usize, table: &KernelTable) {
        assert!(family < 2 && buffer < BUFFERS, "there are no more tables");
        let at =
            offset_of!(KernelNode, tables) + (family * BUFFERS + buffer) * size_of::<KernelTable>();
        #[expect(unsafe_code, reason = "the memory is the kernel's too")]
        // SAFETY: the table lies within the memory, which nobody in this process has a reference to.
        unsafe {
            self.memory
                .byte_add(at)
                .cast::<KernelTable>()
                .copy_from_nonoverlapping(table.into(), 1);
        }
    }

    fn current_word(&self, family: usize) -> &AtomicU32 {
        assert!(family < 2, "there are two families");
        self.word(offset_of!(KernelNode, current) + family * size_of::<u32>())
    }

    fn long(&self, at: usize) -> &AtomicU64 {
        assert!(at + size_of::<u64>() <= size_of::<KernelNode>(), "within the node");
        #[expect(unsafe_code, reason = "the memory is the kernel's too")]
        // SAFETY: it lies within the memory, aligned as the fields are, and is zero or was written.
        unsafe {
            AtomicU64::from_ptr(self.memory.byte_add(at).cast().as_ptr())
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at + size_of::<u32>() <= size_of::<KernelNode>(), "within the node");
        #[expect(unsafe_code, reason = "the memory is the kernel's too")]
        // SAFETY: as above.
        unsafe {
            AtomicU32::from_ptr(self.memory.byte_add(at).cast().as_ptr())
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the system asks for addresses")]
        // SAFETY: no reference into it lives longer than this.
        let _ = unsafe { munmap(self.memory.cast(), size_of::<KernelNode>()) };
    }
}
