//! What the fast path counts.

#[cfg(doc)]
use super::{CONTACTS_MAX, HEARTBEAT_MAX};

/// What becomes of packets, in the order of `enum counter` in `bpf/fastpath.h`.
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
    /// Passed up: the full answer is more than an unvalidated address may get.
    PassedUnproved,
    /// Passed up: the packet cannot grow to the length of the reply here.
    PassedNoRoom,
    /// Passed up: the source asks for more than its share.
    PassedLimitSource,
    /// Passed up: all sources together ask too much.
    PassedLimitTotal,
    /// Dropped: the source asks for more than its share.
    DroppedLimitSource,
    /// Dropped: all sources together ask too much.
    DroppedLimitTotal,
    /// Dropped: the reply could not be written, and the packet was already changed.
    DroppedFailed,
    /// Strangers that the node was told about.
    StrangersTold,
    /// Strangers that it was not told about, because too many came at once.
    StrangersUntold,
}

impl Counter {
    /// All, in the order of the map.
    pub const ALL: [Counter; 21] = [
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
        Counter::DroppedFailed,
        Counter::StrangersTold,
        Counter::StrangersUntold,
    ];

    /// Whether the packets that it counts are surely requests to the node.
    pub(super) fn is_request(self) -> bool {
        match self {
            Counter::AnsweredPing
            | Counter::AnsweredFindNode
            | Counter::PassedRequest
            | Counter::PassedNoHeartbeat
            | Counter::PassedEmpty
            | Counter::PassedIncomplete
            | Counter::PassedAmbiguous
            | Counter::PassedUnproved
            | Counter::PassedNoRoom
            | Counter::PassedLimitSource
            | Counter::PassedLimitTotal
            | Counter::DroppedLimitSource
            | Counter::DroppedLimitTotal
            | Counter::DroppedFailed => true,
            Counter::PassedReply
            | Counter::PassedVersion
            | Counter::PassedHeaders
            | Counter::PassedLength
            | Counter::PassedAddress
            | Counter::StrangersTold
            | Counter::StrangersUntold => false,
        }
    }

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
            Counter::DroppedFailed => ("dropped", "failed"),
            Counter::StrangersTold => ("strangers", "told"),
            Counter::StrangersUntold => ("strangers", "untold"),
        }
    }
}
