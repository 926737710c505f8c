//! How many nodes there are: an estimate from how densely they lie.
//!
//! Ids are spread evenly, so where a known share of the id space holds a known number of nodes, the
//! whole holds proportionally more. Every lookup that ended with the k nodes nearest to some point
//! gives such a pair. One pair is off by some 22 % (1/√20); pooled over a few lookups the error
//! shrinks to a few percent. The number of contacts plays no part. Until there is a lookup to count
//! by, the neighbourhood of the own id as the routing table knows it has to do.

use std::collections::VecDeque;

use crate::id::{Distance, Id};
use crate::message::Contact;
use crate::node::routing::Table;

/// Lookups remembered; sixteen bring the error below 6 %.
const MAX_SAMPLES: usize = 16;

/// A sample counts while the routing table's size is within this factor of what it was: beyond
/// that the network has become another one.
const DRIFT: f64 = 1.25;

/// Nodes counted in a share of the id space.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    nodes: f64,
    share: f64,
    contacts: usize,
}

/// Samples of the density of nodes.
#[derive(Default)]
pub(super) struct Estimator {
    samples: VecDeque<Sample>,
}

impl Estimator {
    /// Takes in the nodes nearest to a target: all nodes of the network if fewer than `k`
    /// answered. `contacts` are those of the routing table that are taken to be alive.
    pub(super) fn on_lookup(
        &mut self,
        own: &Id,
        target: &Id,
        closest: &[Contact],
        k: usize,
        contacts: usize,
    ) {
        // Those that did not answer just now are a disturbance, not a smaller network.
        if closest.len() < k.min(contacts) {
            return;
        }
        let others = closest.iter().map(|contact| target.distance(&contact.id));
        let mut distances: Vec<Distance> = others.chain([target.distance(own)]).collect();
        distances.sort_unstable();
        let sample = match distances.get(k - 1) {
            // The k-th nearest node is the edge of the share and not counted inside it.
            Some(edge) if closest.len() >= k => {
                Sample { nodes: (k - 1) as f64, share: edge.fraction(), contacts }
            }
            _ => Sample { nodes: distances.len() as f64, share: 1.0, contacts },
        };
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Estimated number of nodes in the network, the own one included.
    pub(super) fn nodes(&self, table: &Table) -> f64 {
        let (mut nodes, mut shares) = (0.0, 0.0);
        let contacts = table.len();
        for sample in self.samples.iter().filter(|sample| sample.is_current(contacts)) {
            nodes += sample.nodes;
            shares += sample.share;
        }
        if shares == 0.0 {
            let (known, share) = table.known_neighbourhood();
            // The own node is certain to lie in its own neighbourhood, beside what chance put there.
            (nodes, shares) = (known as f64 + share, share);
        }
        nodes / shares
    }

    /// Whether enough samples of the network as it is now are at hand.
    pub(super) fn is_settled(&self, contacts: usize) -> bool {
        let current = self.samples.iter().filter(|sample| sample.is_current(contacts)).count();
        current >= MAX_SAMPLES * 3 / 4
    }
}

impl Sample {
    fn is_current(&self, contacts: usize) -> bool {
        let (then, now) = (self.contacts as f64, contacts as f64);
        then <= now * DRIFT && now <= then * DRIFT
    }
}
