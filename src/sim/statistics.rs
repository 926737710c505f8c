//! How the commands that were given to a virtual network went.
//!
//! Only commands that a caller started count, not the upkeep of the nodes. The network knows all of
//! its nodes, so it can say what no node can: whether a lookup found what was there to find.

use std::collections::VecDeque;

use crate::control::Reply;
use crate::kad::lookup::{Goal, LookupRecord};
use crate::time::Duration;

use super::{Network, NodeIndex};

/// Commands remembered, the latest: enough for any distribution, and a few megabytes.
const MAX_FINISHED: usize = 100_000;

/// How one lookup or store went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How many introductions away from the own routing table it got.
    pub hops: u32,
    /// Datagrams sent and received.
    pub messages: usize,
    /// How long it took.
    pub took: Duration,
    /// A lookup for values found one, a lookup for nodes found the nearest that could be reached,
    /// a store reached a node.
    pub succeeded: bool,
}

/// The latest lookups and stores that a caller started and that have ended.
#[derive(Clone, Debug, Default)]
pub struct Statistics(VecDeque<Finished>);

impl Statistics {
    /// The commands that have ended, in the order of ending.
    pub fn finished(&self) -> impl ExactSizeIterator<Item = &Finished> {
        self.0.iter()
    }

    /// The share that succeeded, if anything has ended.
    pub fn success(&self) -> Option<f64> {
        let succeeded = self.0.iter().filter(|finished| finished.succeeded).count();
        (!self.0.is_empty()).then(|| succeeded as f64 / self.0.len() as f64)
    }

    pub(super) fn note(&mut self, finished: Finished) {
        if self.0.len() == MAX_FINISHED {
            self.0.pop_front();
        }
        self.0.push_back(finished);
    }
}

impl Finished {
    /// What a reply says about it, if it is the reply to a lookup, a store or a route.
    pub(super) fn of(network: &Network, from: NodeIndex, reply: &Reply) -> Option<Finished> {
        match reply {
            Reply::Lookup(record) => {
                let succeeded = has_found(network, from, record);
                let (hops, messages, took) = (record.hops(), record.messages(), record.duration());
                Some(Finished { hops, messages, took, succeeded })
            }
            Reply::Stored(report) => {
                let took = report.ended.since(report.started);
                let succeeded = report.kept_here || !report.stored.is_empty();
                let (hops, messages) = (report.lookup.hops(), report.messages());
                Some(Finished { hops, messages, took, succeeded })
            }
            Reply::Routed(report) => Some(Finished {
                hops: report.hops(),
                messages: report.messages(),
                took: report.duration(),
                succeeded: report.has_found(),
            }),
            Reply::Bootstrapped { .. } | Reply::Called(_) => None,
        }
    }
}

fn has_found(network: &Network, from: NodeIndex, record: &LookupRecord) -> bool {
    match record.goal {
        Goal::Value { .. } => !record.values.is_empty(),
        Goal::Node { target } => {
            record.closest.first() == network.nearest(from, &target, 1).first()
        }
    }
}
