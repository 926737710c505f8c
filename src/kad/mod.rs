//! Kademlia as in the paper: the routing table, lookups, the estimate of the network's size, round
//! trips. These are told what happened, and say which node to ask next; they read no bytes and send
//! none.

pub(crate) mod credit;
pub(crate) mod crowd;
pub mod estimate;
pub mod lookup;
mod path;
pub mod routing;
pub(crate) mod rtt;
pub(crate) mod silent;

/// Number of something that a node was asked to do, unique within the node.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct OperationId(pub u64);
