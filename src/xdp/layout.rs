//! The shapes of the maps, as in `bpf/fastpath.h`, which explains each field.
//!
//! Addresses and ports are as on the wire, all else is little-endian.

use bytemuck::{Pod, Zeroable};

use super::{CONTACTS_MAX, DIALECT, LOCALS_MAX};
use crate::id::Id;
use crate::message::EncodedContact;

pub(super) const LAYOUT_VERSION: u32 = 5;

const CONTACT_BYTES_MAX: usize = EncodedContact::MAX;
const REPLY_MAX: usize = DIALECT.sizes().answer_max;
pub(super) const INDEX_BUCKETS: usize = 512;
pub(super) const INDEX_DEPTH: usize = 8;
pub(super) const SEEN_MAX: usize = 2_048;
pub(super) const STARTS: usize = 8 * Id::LEN + 1;
pub(super) const BUFFERS: usize = 2;
pub(super) const HELD_BITS: u32 = 20;
pub(super) const HOT_SETS: usize = 128;
pub(super) const HOT_WAYS: usize = 4;
pub(super) const HOT_MAX: usize = HOT_SETS * HOT_WAYS;
pub(super) const HOT_BYTES: usize = 1_024;
pub(super) const HELD_WORDS: usize = 1 << (HELD_BITS - u64::BITS.ilog2());

#[derive(Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub(super) struct KernelEndpoint {
    pub(super) address: [u8; 16],
    pub(super) port: [u8; 2],
    pub(super) pad: u16,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct KernelContact {
    pub(super) id: [u8; Id::LEN],
    pub(super) endpoint: KernelEndpoint,
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
pub(super) struct Start {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) node: u16,
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
pub(super) struct KernelTable {
    pub(super) version: u32,
    pub(super) count: u32,
    pub(super) k: u32,
    pub(super) incomplete: u32,
    pub(super) own_id: [u8; Id::LEN],
    pub(super) head_sum: u32,
    pub(super) root: u32,
    pub(super) locals_count: u32,
    pub(super) shortest: u32,
    pub(super) longest: u32,
    pub(super) id_seed: u64,
    pub(super) endpoint_seed: u64,
    pub(super) locals: [[u8; 16]; LOCALS_MAX],
    pub(super) splits: [Split; CONTACTS_MAX],
    pub(super) starts: [Start; STARTS],
    pub(super) marks: [Mark; CONTACTS_MAX + 1],
    pub(super) by_id: Index,
    pub(super) by_endpoint: Index,
    pub(super) contacts: [KernelContact; CONTACTS_MAX],
    pub(super) bytes: [u8; CONTACTS_MAX * CONTACT_BYTES_MAX + REPLY_MAX],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Stranger {
    pub(super) id: [u8; Id::LEN],
    pub(super) endpoint: KernelEndpoint,
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
    pub(super) program: u32,
    pub(super) source_rate: u64,
    pub(super) total_rate: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Heartbeat {
    pub(super) at: u64,
    pub(super) contacts: [u32; 2],
    pub(super) incomplete: u32,
    pub(super) hot: u32,
    pub(super) hot_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Way {
    pub(super) ifindex: u32,
    pub(super) to: [u8; 6],
    pub(super) from: [u8; 6],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Hot {
    pub(super) expires: u64,
    pub(super) key: [u8; Id::LEN],
    pub(super) count: u16,
    pub(super) len: u16,
    pub(super) sum: u32,
    pub(super) pad: u32,
    pub(super) bytes: [u8; HOT_BYTES],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct KernelNode {
    pub(super) heartbeat: Heartbeat,
    pub(super) current: [u32; 2],
    pub(super) ticket_keys: [u64; 2],
    pub(super) token_keys: [u64; 2],
    pub(super) clock: i64,
    pub(super) own_port: u32,
    pub(super) pad: u32,
    pub(super) held_seed: u64,
    pub(super) held: [u64; HELD_WORDS],
    pub(super) ways: [Way; SEEN_MAX],
    pub(super) hot_tags: [u64; HOT_MAX],
    pub(super) hot: [Hot; HOT_MAX],
    pub(super) hot_asked: [u64; HOT_MAX],
    pub(super) used: [u64; SEEN_MAX],
    pub(super) seen: [u64; SEEN_MAX],
    pub(super) tables: [[KernelTable; BUFFERS]; 2],
}

const _: () = {
    assert!(size_of::<KernelEndpoint>() == 20);
    assert!(size_of::<KernelContact>() == 44);
    assert!(size_of::<Split>() == 8);
    assert!(size_of::<Start>() == 8);
    assert!(size_of::<Mark>() == 8);
    assert!(size_of::<Stranger>() == 40);
    assert!(size_of::<About>() == 48);
    assert!(size_of::<Heartbeat>() == 32);
    assert!(size_of::<Hot>() == 1_064);
    assert!(size_of::<KernelTable>() == 88_016);
    assert!(size_of::<Way>() == 16);
    assert!(size_of::<KernelNode>() == 1_101_728);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::tickets;
    use crate::message::FindValue;
    use crate::node::HOPS_MAX;
    use crate::wire::AMPLIFICATION_MAX;
    use crate::xdp::{CONTACTS_MAX, HEARTBEAT_MAX, LOCALS_MAX};

    /// A number of the header.
    fn defined(name: &str) -> usize {
        let header = include_str!("../../bpf/fastpath.h");
        let mut lines = header.lines().filter_map(|line| line.strip_prefix("#define "));
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("the header defines {name}"));
        value.trim_end_matches("ULL").parse().expect("a number")
    }

    /// Bytes that an answer has room for, beside its values, if the asker is no original.
    fn rest_max() -> usize {
        let plain = FindValue::new(Id::ZERO, 1);
        let extended = FindValue { token: Some(b""), ..plain };
        let max = |search| DIALECT.values_max(&search, REPLY_MAX);
        max(plain) - max(extended)
    }

    #[test]
    fn both_sides_have_the_same_numbers() {
        for (name, here) in [
            ("LAYOUT_VERSION", LAYOUT_VERSION as usize),
            ("ID_LEN", Id::LEN),
            ("CONTACTS_MAX", CONTACTS_MAX),
            ("CONTACT_BYTES_MAX", CONTACT_BYTES_MAX),
            ("REPLY_MAX", REPLY_MAX),
            ("AMPLIFICATION_MAX", AMPLIFICATION_MAX),
            ("PING_BYTES", DIALECT.sizes().ping),
            ("INDEX_BUCKETS", INDEX_BUCKETS),
            ("INDEX_DEPTH", INDEX_DEPTH),
            ("SEEN_MAX", SEEN_MAX),
            ("BUFFERS", BUFFERS),
            ("HELD_BITS", HELD_BITS as usize),
            ("REST_MAX", rest_max()),
            ("HOT_SETS", HOT_SETS),
            ("HOT_WAYS", HOT_WAYS),
            ("HOT_BYTES", HOT_BYTES),
            ("STAMP_BITS", tickets::STAMP_BITS as usize),
            ("TICKET_STAMPS", tickets::TICKET_STAMPS.into()),
            ("TOKEN_STAMPS", tickets::TOKEN_STAMPS.into()),
            ("STAMPS_AHEAD", tickets::STAMPS_AHEAD.into()),
            ("RELAYS_MAX", tickets::RELAYS_MAX.into()),
            ("HOPS_MAX", HOPS_MAX.into()),
            ("PORTS", usize::from(u16::MAX) + 1),
            ("LOCALS_MAX", LOCALS_MAX),
            ("HEARTBEAT_MAX_NS", HEARTBEAT_MAX.as_nanos() as usize),
        ] {
            assert_eq!(defined(name), here, "{name}");
        }
    }
}
