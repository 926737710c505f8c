//! How many nodes there are: an estimate from how densely they lie.
//!
//! Ids are spread evenly, so where a known share of the id space holds a known number of nodes, the
//! whole holds proportionally more. Every lookup that ended with the k nodes nearest to some point
//! gives such a pair. The id space is cut into sixteen equal parts, and the latest lookup into each
//! part counts. The number of contacts sets a lower bound and plays no other part.
//!
//! One pair is off by some 22 % (1/√20), all sixteen pooled by less than 6 %. Once a lookup into each
//! part is known, each is counted no farther than a sixteenth of the id space: these are exactly the
//! ids that share four bits with the target, so that no node is counted twice. In networks of up to
//! some two hundred nodes a lookup sees all nodes of its part, and the estimate is a count.
//!
//! Until there is a lookup to count by, the neighbourhood of the own id in the routing table has to
//! do.

use rand::Rng;

use crate::id::Id;
use crate::kad::routing::Table;
use crate::message::Contact;

/// Parts of the id space, told apart by the first four bits of an id.
const PARTS: usize = 16;

/// The share of the id space that one part is.
const PART: f64 = 1.0 / PARTS as f64;

/// A sample counts while the routing table's size is within this factor of what it was: beyond
/// that the network has become another one.
const DRIFT: f64 = 1.25;

/// How many nodes there are, and what that was counted from.
#[derive(Clone, Debug)]
pub struct Estimate<'a> {
    /// Nodes in the network, the own one included: never fewer than are known.
    pub nodes: f64,
    /// Nodes that were counted for it.
    pub counted: f64,
    /// The lookups that it comes from, by part of the id space.
    samples: [Option<&'a Sample>; PARTS],
}

impl<'a> Estimate<'a> {
    /// The lookups that it comes from, in the order of their targets; none if the routing table
    /// had to do.
    pub fn samples(&self) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().copied().flatten()
    }

    /// The standard error of [`Estimate::nodes`]: counting n nodes that lie at random is off by 1/√n
    /// of them.
    pub fn error(&self) -> f64 {
        self.nodes / self.counted.max(1.0).sqrt()
    }
}

/// What one lookup showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What was looked for.
    pub target: Id,
    /// The distances from there of the nodes that were found, the own node among them, as shares of
    /// the id space, the nearest first; at most k.
    pub distances: Vec<f64>,
    /// All that it found.
    whole: Count,
    /// What of that lies in the target's part.
    inside: Count,
    /// Contacts in the routing table at that time.
    contacts: usize,
}

/// Nodes counted in a share of the id space.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    nodes: f64,
    share: f64,
}

/// Samples of the density of nodes, the latest of each part of the id space.
#[derive(Default)]
pub(crate) struct Estimator {
    samples: [Option<Sample>; PARTS],
}

impl Estimator {
    /// Takes in the nodes nearest to a target: all nodes of the network if fewer than `k`
    /// answered. `contacts` are those of the routing table that are taken to be alive.
    pub(crate) fn on_lookup(
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
        let mut distances: Vec<f64> =
            others.chain([target.distance(own)]).map(|distance| distance.fraction()).collect();
        distances.sort_unstable_by(f64::total_cmp);
        let whole = match distances.get(k - 1) {
            Some(&edge) => Count { nodes: k as f64, share: edge },
            // One more than there are, as above: there the k-th node lies on the edge, and one less
            // inside.
            None => Count { nodes: distances.len() as f64 + 1.0, share: 1.0 },
        };
        let inside = if whole.share < PART {
            whole
        } else {
            let near = distances.iter().take_while(|distance| **distance < PART);
            Count { nodes: near.count() as f64, share: PART }
        };
        // With k = 1 the node itself is all there is around its own id.
        if whole.share > 0.0 {
            distances.truncate(k);
            let sample = Sample { target: *target, distances, whole, inside, contacts };
            self.samples[part(target)] = Some(sample);
        }
    }

    /// The number of nodes in the network.
    pub(crate) fn estimate(&self, table: &Table) -> Estimate<'_> {
        let contacts = table.len();
        let samples = self
            .samples
            .each_ref()
            .map(|sample| sample.as_ref().filter(|sample| sample.is_current(contacts)));
        let current = || samples.iter().flatten();
        let is_whole = current().count() == PARTS;
        let (nodes, counted) = if current().next().is_none() {
            let (known, share) = table.known_neighbourhood();
            let known = known.count() as f64;
            (known / share + 1.0, known)
        } else if is_whole {
            let count = Count::sum(current().map(|sample| sample.inside));
            (count.density(), count.nodes)
        } else {
            // The k-th node lies on the edge of what was counted: one less lies inside.
            let count = Count::sum(current().map(|sample| sample.whole));
            (count.density() - 1.0, count.nodes)
        };
        Estimate { nodes: nodes.max(contacts as f64 + 1.0), counted, samples }
    }

    /// Points to look up, one in each part of the id space where the present network is not known.
    pub(crate) fn targets(&self, contacts: usize, rng: &mut impl Rng) -> Vec<Id> {
        let current = |sample: &Option<Sample>| {
            sample.as_ref().is_some_and(|sample| sample.is_current(contacts))
        };
        let samples = self.samples.iter().enumerate();
        let unknown = samples.filter(|(_, sample)| !current(sample)).map(|(part, _)| part);
        unknown.map(|part| random_in(part, rng)).collect()
    }
}

impl Count {
    fn sum(counts: impl Iterator<Item = Count>) -> Count {
        counts.fold(Count::default(), |sum, count| Count {
            nodes: sum.nodes + count.nodes,
            share: sum.share + count.share,
        })
    }

    fn density(self) -> f64 {
        self.nodes / self.share
    }
}

impl Sample {
    /// How many nodes there are by this one alone.
    pub fn nodes(&self) -> f64 {
        self.whole.density() - 1.0
    }

    fn is_current(&self, contacts: usize) -> bool {
        let (then, now) = (self.contacts as f64, contacts as f64);
        then <= now * DRIFT && now <= then * DRIFT
    }
}

fn part(id: &Id) -> usize {
    usize::from(id.as_bytes()[0] >> 4)
}

fn random_in(part: usize, rng: &mut impl Rng) -> Id {
    let mut bytes = *Id::random(rng).as_bytes();
    bytes[0] = (part as u8) << 4 | bytes[0] & 0x0f;
    Id::new(bytes)
}
