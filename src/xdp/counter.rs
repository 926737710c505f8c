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
    /// A findvalue was answered in the kernel.
    AnsweredFindValue,
    /// A client's route was let into the network, and handed to a contact.
    ForwardedEntered,
    /// A route of another node was handed to a contact.
    ForwardedPassed,
    /// An answer to a route was handed to its client.
    ForwardedRelayed,
    /// Passed up: another request, or one in an unusual form.
    PassedRequest,
    /// Passed up: a findvalue for a key whose values are not cached, or for fewer values than lie there.
    PassedNotCached,
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
    /// Passed up: a route that asks for something that only the node does, or an answer of the node's own.
    PassedRoute,
    /// Passed up: a route to a key under which the node may hold something.
    PassedHeld,
    /// Passed up: a route that ends here, since no other contact is nearer to the key.
    PassedNearest,
    /// Passed up: a route whose way out is not known here.
    PassedWay,
    /// Dropped: the source asks for more than its share.
    DroppedLimitSource,
    /// Dropped: all sources together ask too much.
    DroppedLimitTotal,
    /// Dropped: the reply could not be written, and the packet was already changed.
    DroppedFailed,
    /// Dropped: a route that comes from a node that is nearer to the key.
    DroppedNearer,
    /// Dropped: an answer to a route whose ticket is unknown, too old, or used up.
    DroppedTicket,
    /// Strangers that the node was told about.
    StrangersTold,
    /// Strangers that it was not told about, because too many came at once.
    StrangersUntold,
}

impl Counter {
    /// All, in the order of the map.
    pub const ALL: [Counter; 32] = [
        Counter::AnsweredPing,
        Counter::AnsweredFindNode,
        Counter::AnsweredFindValue,
        Counter::ForwardedEntered,
        Counter::ForwardedPassed,
        Counter::ForwardedRelayed,
        Counter::PassedRequest,
        Counter::PassedNotCached,
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
        Counter::PassedRoute,
        Counter::PassedHeld,
        Counter::PassedNearest,
        Counter::PassedWay,
        Counter::DroppedLimitSource,
        Counter::DroppedLimitTotal,
        Counter::DroppedFailed,
        Counter::DroppedNearer,
        Counter::DroppedTicket,
        Counter::StrangersTold,
        Counter::StrangersUntold,
    ];

    /// Whether the packets that it counts are surely requests to the node.
    pub(super) fn is_request(self) -> bool {
        match self {
            Counter::AnsweredPing
            | Counter::AnsweredFindNode
            | Counter::AnsweredFindValue
            | Counter::PassedRequest
            | Counter::PassedNotCached
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
            | Counter::ForwardedEntered
            | Counter::ForwardedPassed
            | Counter::ForwardedRelayed
            | Counter::PassedRoute
            | Counter::PassedHeld
            | Counter::PassedNearest
            | Counter::PassedWay
            | Counter::DroppedNearer
            | Counter::DroppedTicket
            | Counter::StrangersTold
            | Counter::StrangersUntold => false,
        }
    }

    /// What is done with the packets counted, and which they are, in short.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Counter::AnsweredPing => ("answered", "ping"),
            Counter::AnsweredFindNode => ("answered", "findnode"),
            Counter::AnsweredFindValue => ("answered", "findvalue"),
            Counter::ForwardedEntered => ("forwarded", "entered"),
            Counter::ForwardedPassed => ("forwarded", "passed"),
            Counter::ForwardedRelayed => ("forwarded", "relayed"),
            Counter::PassedRequest => ("passed", "other_request"),
            Counter::PassedNotCached => ("passed", "not_cached"),
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
            Counter::PassedRoute => ("passed", "other_route"),
            Counter::PassedHeld => ("passed", "route_held"),
            Counter::PassedNearest => ("passed", "route_nearest"),
            Counter::PassedWay => ("passed", "route_way"),
            Counter::DroppedLimitSource => ("dropped", "source_limit"),
            Counter::DroppedLimitTotal => ("dropped", "total_limit"),
            Counter::DroppedFailed => ("dropped", "failed"),
            Counter::DroppedNearer => ("dropped", "route_nearer"),
            Counter::DroppedTicket => ("dropped", "ticket"),
            Counter::StrangersTold => ("strangers", "told"),
            Counter::StrangersUntold => ("strangers", "untold"),
        }
    }
}
