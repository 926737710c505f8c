//! The shapes of the maps, as `bpf/fastpath.h` has them, where each field is explained.
//!
//! Addresses and ports are as on the wire, all else is little-endian.

use bytemuck::{Pod, Zeroable};

use crate::id::Id;

pub(super) const LAYOUT_VERSION: u32 = 1;

/// Contacts of one address family that fit the kernel's table.
pub const CONTACTS_MAX: usize = 512;

/// `l39:` + the longest IPv6 literal + `i65535e` + `20:` + id + `e`.
const CONTACT_BYTES_MAX: usize = 74;
const REPLY_MAX: usize = crate::wire::v1::MAX_REPLY;
pub(super) const INDEX_BUCKETS: usize = 512;
pub(super) const INDEX_DEPTH: usize = 8;
pub(super) const SEEN_MAX: usize = 2_048;

/// Addresses of one family that a node on a wildcard address is answered for.
pub const LOCALS_MAX: usize = 16;

/// Without a heartbeat for so long the kernel takes the node for dead.
pub const HEARTBEAT_MAX: std::time::Duration = std::time::Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Endpoint {
    pub(super) address: [u8; 16],
    pub(super) port: [u8; 2],
    pub(super) pad: u16,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Contact {
    pub(super) id: [u8; Id::LEN],
    pub(super) endpoint: Endpoint,
    pub(super) slot: u16,
    pub(super) ambiguous: u16,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Split {
    pub(super) bit: u16,
    pub(super) left: u16,
    pub(super) right: u16,
    pub(super) pad: u16,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Mark {
    pub(super) offset: u32,
    pub(super) sum: u32,
}

pub(super) type Index = [[u16; INDEX_DEPTH]; INDEX_BUCKETS];

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Table {
    pub(super) version: u32,
    pub(super) count: u32,
    pub(super) k: u32,
    pub(super) incomplete: u32,
    pub(super) own_id: [u8; Id::LEN],
    pub(super) head_sum: u32,
    pub(super) root: u32,
    pub(super) locals_count: u32,
    pub(super) id_seed: u64,
    pub(super) endpoint_seed: u64,
    pub(super) locals: [[u8; 16]; LOCALS_MAX],
    pub(super) splits: [Split; CONTACTS_MAX],
    pub(super) marks: [Mark; CONTACTS_MAX + 1],
    pub(super) by_id: Index,
    pub(super) by_endpoint: Index,
    pub(super) contacts: [Contact; CONTACTS_MAX],
    pub(super) bytes: [u8; CONTACTS_MAX * CONTACT_BYTES_MAX + REPLY_MAX],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Stranger {
    pub(super) id: [u8; Id::LEN],
    pub(super) endpoint: Endpoint,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct About {
    pub(super) version: u32,
    pub(super) ifindex: u32,
    pub(super) interface: [u8; 16],
    pub(super) port: u16,
    pub(super) mode: u8,
    pub(super) over_limit_drops: u8,
    pub(super) pad: u32,
    pub(super) source_rate: u64,
    pub(super) total_rate: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Heartbeat {
    pub(super) at: u64,
    pub(super) contacts: [u32; 2],
    pub(super) incomplete: u32,
    pub(super) pad: u32,
}

const _: () = {
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<Contact>() == 44);
    assert!(size_of::<Split>() == 8);
    assert!(size_of::<Mark>() == 8);
    assert!(size_of::<Stranger>() == 40);
    assert!(size_of::<About>() == 48);
    assert!(size_of::<Heartbeat>() == 24);
    assert!(size_of::<Table>() == 86_720);
};

/// What the fast path counts, in the order of `enum counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A ping was answered in the kernel.
    AnsweredPing,
    /// A findnode was answered in the kernel.
    AnsweredFindNode,
    /// Passed up: another request, or one in an unusual form.
    PassedRequest,
    /// Passed up: no request; mostly replies to the node's own.
    PassedReply,
    /// Passed up: another version of the protocol, or none.
    PassedVersion,
    /// Passed up: a fragment, IP options or extension headers.
    PassedHeaders,
    /// Passed up: lengths that do not agree.
    PassedLength,
    /// Passed up: to an address that is not the node's, or from one that cannot be answered.
    PassedAddress,
    /// Passed up: the node gave no sign of life for [`HEARTBEAT_MAX`], or none yet.
    PassedNoHeartbeat,
    /// Passed up: no contacts are mirrored.
    PassedEmpty,
    /// Passed up: the routing table has more contacts than [`CONTACTS_MAX`].
    PassedIncomplete,
    /// Passed up: several contacts share the asker's address.
    PassedAmbiguous,
    /// Passed up: the full answer is more than an address gets that has proved nothing.
    PassedUnproved,
    /// Passed up: the packet cannot grow to the length of the reply here.
    PassedNoRoom,
    /// Passed up: the source asks more than its share.
    PassedLimitSource,
    /// Passed up: all together ask too much.
    PassedLimitTotal,
    /// Dropped: the source asks more than its share.
    DroppedLimitSource,
    /// Dropped: all together ask too much.
    DroppedLimitTotal,
    /// Strangers that the node was told of.
    StrangersTold,
    /// Strangers that it was not told of, because too many came at once.
    StrangersUntold,
}

impl Counter {
    /// All, in the order of the map.
    pub const ALL: [Counter; 20] = [
        Counter::AnsweredPing,
        Counter::AnsweredFindNode,
        Counter::PassedRequest,
        Counter::PassedReply,
        Counter::PassedVersion,
        Counter::PassedHeaders,
        Counter::PassedLength,
        Counter::PassedAddress,
        Counter::PassedNoHeartbeat,
        Counter::PassedEmpty,
        Counter::PassedIncomplete,
        Counter::PassedAmbiguous,
        Counter::PassedUnproved,
        Counter::PassedNoRoom,
        Counter::PassedLimitSource,
        Counter::PassedLimitTotal,
        Counter::DroppedLimitSource,
        Counter::DroppedLimitTotal,
        Counter::StrangersTold,
        Counter::StrangersUntold,
    ];

    /// What is done with the packets counted, and which they are, in short.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Counter::AnsweredPing => ("answered", "ping"),
            Counter::AnsweredFindNode => ("answered", "findnode"),
            Counter::PassedRequest => ("passed", "other_request"),
            Counter::PassedReply => ("passed", "reply"),
            Counter::PassedVersion => ("passed", "version"),
            Counter::PassedHeaders => ("passed", "headers"),
            Counter::PassedLength => ("passed", "length"),
            Counter::PassedAddress => ("passed", "address"),
            Counter::PassedNoHeartbeat => ("passed", "no_heartbeat"),
            Counter::PassedEmpty => ("passed", "empty_table"),
            Counter::PassedIncomplete => ("passed", "table_too_large"),
            Counter::PassedAmbiguous => ("passed", "ambiguous"),
            Counter::PassedUnproved => ("passed", "unproved"),
            Counter::PassedNoRoom => ("passed", "no_room"),
            Counter::PassedLimitSource => ("passed", "source_limit"),
            Counter::PassedLimitTotal => ("passed", "total_limit"),
            Counter::DroppedLimitSource => ("dropped", "source_limit"),
            Counter::DroppedLimitTotal => ("dropped", "total_limit"),
            Counter::StrangersTold => ("strangers", "told"),
            Counter::StrangersUntold => ("strangers", "untold"),
        }
    }
}
