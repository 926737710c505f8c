//! Many nodes over a virtual network and a virtual clock, from one seed.
//!
//! The nodes are the same state machines that serve real packets; only sockets and time are made
//! up. A run is a function of its seed: the same calls give the same network, packet by packet.
//!
//! Read [`Network`]: [`Network::run_for`] and [`Network::run`] drive it, or [`Network::advance`] in
//! slices; [`Network::start`] asks its nodes for something, and [`Network::statistics`] says how
//! that went. Left out on purpose: bandwidth, reordering beyond what latency brings, and any
//! judgement about what a run should show.

mod addresses;
mod liars;
mod statistics;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::UNIX_EPOCH;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::address::{LocalEnd, is_loopback};
use crate::config::Config;
use crate::control::{self, Command, CommandError, Direction, Packet, PacketRing, Reply, View};
use crate::id::Id;
use crate::message::Contact;
use crate::node::{Event, Input, Node, OperationId, Output};
use crate::time::{Duration, Instant};

use self::addresses::AddressAllocator;

pub use self::addresses::{Addresses, NoPrefix, Prefix};
pub use self::liars::Lie;
pub use self::statistics::{Finished, Statistics};

/// How a virtual network behaves.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// What all randomness comes from.
    pub seed: u64,
    /// One-way delay of a datagram, drawn evenly from this range.
    pub latency: RangeInclusive<Duration>,
    /// Share of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// Which addresses the nodes have.
    pub addresses: Addresses,
    /// Settings of every node.
    pub config: Config,
    /// Whether nodes check quiet contacts and ask where they are seen, as [`Config::check`] and
    /// [`Config::keepalive`] say. Real nodes do; here it costs most of the time of a quiet network.
    pub has_vigil: bool,
}

impl Default for NetworkSettings {
    fn default() -> NetworkSettings {
        NetworkSettings {
            seed: 1,
            latency: Duration::from_millis(10)..=Duration::from_millis(50),
            loss: 0.0,
            addresses: Addresses::Private,
            config: Config::default(),
            has_vigil: false,
        }
    }
}

/// Position of a node in its network, in the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// A virtual network.
pub struct Network {
    settings: NetworkSettings,
    rng: ChaCha8Rng,
    now: Instant,
    allocator: AddressAllocator,
    places: Vec<SimulatedMember>,
    by_address: BTreeMap<SocketAddr, NodeIndex>,
    /// What is going to happen, the earliest on top; events of the same time in the order of
    /// queueing.
    agenda: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    sequence: u64,
    replies: BTreeMap<(NodeIndex, OperationId), Reply>,
    datagrams: u64,
    bytes: u64,
    statistics: Statistics,
}

/// Where a node is, or was.
struct SimulatedMember {
    address: SocketAddr,
    node: Option<Node>,
    /// The timer that counts; others in the agenda are outdated.
    timer: Instant,
    /// Which part of a divided network it is in.
    side: usize,
    /// How it lies to those that look something up.
    lie: Option<Lie>,
    /// Its last packets, kept from the first time that somebody asks for them.
    ring: Option<PacketRing>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Datagram { source: SocketAddr, destination: NodeIndex, bytes: Vec<u8> },
    Timer { node: NodeIndex },
}

impl Network {
    /// A network without nodes.
    pub fn new(settings: NetworkSettings) -> Network {
        Network {
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            allocator: AddressAllocator::new(settings.addresses, settings.seed),
            settings,
            now: Instant::ZERO,
            places: Vec::new(),
            by_address: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            replies: BTreeMap::new(),
            datagrams: 0,
            bytes: 0,
            statistics: Statistics::default(),
        }
    }

    /// A network of `nodes` nodes, each joined through a random earlier one, at rest.
    pub fn joined(settings: NetworkSettings, nodes: usize) -> Network {
        let mut network = Network::new(settings);
        for _ in 0..nodes {
            network.join();
            network.run_for(Duration::from_millis(50));
        }
        network.run_for(Duration::from_secs(60));
        network
    }

    /// A network of `nodes` nodes whose routing tables are full already, without the traffic of
    /// joining: each bucket holds random nodes of its range, all of them if they fit. Made for
    /// networks of many thousands.
    pub fn settled(settings: NetworkSettings, nodes: usize) -> Network {
        let mut network = Network::new(settings);
        network.settle(nodes);
        network
    }

    /// Adds `nodes` nodes to a network without any, as [`Network::settled`] has them.
    pub fn settle(&mut self, nodes: usize) {
        let mut contacts: Vec<Contact> = (0..nodes)
            .map(|_| {
                let index = self.add();
                self.contact(index).expect("just added")
            })
            .collect();
        contacts.sort_unstable();
        for index in 0..nodes {
            self.fill_table(NodeIndex(index), &contacts);
        }
    }

    /// Introduces a node to some of all contacts, which are sorted by id.
    fn fill_table(&mut self, index: NodeIndex, sorted: &[Contact]) {
        let Network { rng, places, now, .. } = self;
        let node = places[index.0].node.as_mut().expect("just added");
        let own = node.id();
        let room = node.policy().k << (node.config().split_bits - 1);
        // The nodes that share more and more leading bits with the own id, narrowed down step by
        // step.
        let mut near = sorted;
        for bit in 0..Id::BITS {
            let split = near.partition_point(|contact| !contact.id.bit(bit));
            let (zeros, ones) = near.split_at(split);
            let (same, other) = if own.bit(bit) { (ones, zeros) } else { (zeros, ones) };
            for chosen in rand::seq::index::sample(rng, other.len(), room.min(other.len())) {
                node.introduce(*now, other[chosen]);
            }
            if same.len() <= 1 {
                break;
            }
            near = same;
        }
        // Its upkeep begins.
        self.drain(index);
    }

    /// Adds a node with a random id that joins through a random node, if there is one.
    pub fn join(&mut self) -> NodeIndex {
        self.join_chosen(None, None)
    }

    /// Adds a node that chose its id or its address, as attackers do, and joins as others do. With
    /// `near` its id shares exactly that many leading bits with another, with `range` its address
    /// lies in that range; without them id and address are like those of others.
    ///
    /// # Panics
    /// If 160 or more bits are to be shared: no other id shares all.
    pub fn join_chosen(&mut self, near: Option<(&Id, u32)>, range: Option<&Prefix>) -> NodeIndex {
        let via = self.random_alive().map(|index| self.address(index));
        let id = match near {
            Some((id, shared_bits)) => id.random_at(shared_bits, &mut self.rng),
            None => Id::random(&mut self.rng),
        };
        let index = self.add_with(id, range);
        if let Some(via) = via {
            self.start_join(index, via);
        }
        index
    }

    fn start_join(&mut self, index: NodeIndex, via: SocketAddr) {
        self.start(index, Command::Bootstrap { addresses: vec![via] })
            .expect("a bootstrap is always begun");
    }

    /// Adds a node with a random id that knows nobody.
    pub fn add(&mut self) -> NodeIndex {
        let id = Id::random(&mut self.rng);
        self.add_with(id, None)
    }

    fn add_with(&mut self, id: Id, range: Option<&Prefix>) -> NodeIndex {
        let index = NodeIndex(self.places.len());
        let mut node = Node::new(self.now, id, self.settings.config.clone(), self.rng.random());
        let is_taken = |address: &_| self.by_address.contains_key(address);
        let address = match range {
            Some(range) => self.allocator.allocate_in(range, is_taken),
            None => self.allocator.allocate(index.0, is_taken),
        };
        node.add_own_address(address);
        if self.settings.has_vigil {
            node.keep_vigil(self.now, is_loopback(&address));
        }
        self.by_address.insert(address, index);
        self.places.push(SimulatedMember {
            address,
            node: Some(node),
            timer: Instant::NEVER,
            side: 0,
            lie: None,
            ring: None,
        });
        index
    }

    /// Takes a node away without a word to the others.
    pub fn kill(&mut self, index: NodeIndex) {
        self.places[index.0].node = None;
    }

    /// Changes the share of datagrams that are lost.
    pub fn set_loss(&mut self, loss: f64) {
        self.settings.loss = loss;
    }

    /// Divides the network: datagrams reach only nodes on the sender's side. All nodes begin on
    /// side 0, those that join later too.
    pub fn set_side(&mut self, index: NodeIndex, side: usize) {
        self.places[index.0].side = side;
    }

    /// Ends all division.
    pub fn heal(&mut self) {
        self.places.iter_mut().for_each(|place| place.side = 0);
    }

    /// The part of a divided network that a node is in.
    pub fn side(&self, index: NodeIndex) -> usize {
        self.places[index.0].side
    }

    /// Delivers a datagram at once, whatever sender it names.
    pub fn forge(&mut self, source: SocketAddr, destination: NodeIndex, bytes: &[u8]) {
        self.handle(destination, Input::Datagram { source, local: LocalEnd::default(), bytes });
    }

    /// How it behaves now.
    pub fn settings(&self) -> &NetworkSettings {
        &self.settings
    }

    /// How the commands went that were [started](Network::start) and have ended.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Begins the statistics anew.
    pub fn forget_statistics(&mut self) {
        self.statistics = Statistics::default();
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Datagrams sent so far.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Bytes in them, without the headers of the network.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many nodes there ever were; their indices are below this number.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there never was a node.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The node at an index, unless it was killed.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.places[index.0].node.as_ref()
    }

    /// A view of the node at an index, unless it was killed.
    pub fn view<V: View>(&self, index: NodeIndex) -> Option<V> {
        self.node(index).map(|node| V::of(node, self.now))
    }

    /// The last packets of a node, the oldest first, their times counted from 1970 on. It keeps them from the
    /// first call on.
    pub fn packets(&mut self, index: NodeIndex) -> impl Iterator<Item = &Packet> {
        self.places[index.0].ring.get_or_insert_default().packets()
    }

    /// Forgets the last packets of a node, which keeps no more until they are asked for again.
    pub fn forget_packets(&mut self, index: NodeIndex) {
        self.places[index.0].ring = None;
    }

    /// Nodes that were not killed.
    pub fn alive(&self) -> impl Iterator<Item = NodeIndex> {
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| place.node.is_some()).map(|(index, _)| NodeIndex(index))
    }

    /// One of the nodes that were not killed.
    pub fn random_alive(&mut self) -> Option<NodeIndex> {
        let alive: Vec<NodeIndex> = self.alive().collect();
        (!alive.is_empty()).then(|| alive[self.rng.random_range(0..alive.len())])
    }

    /// A share of the nodes that were not killed, drawn at random, in the order of joining.
    pub fn random_share(&mut self, share: f64) -> Vec<NodeIndex> {
        let alive: Vec<NodeIndex> = self.alive().collect();
        let count = (alive.len() as f64 * share).round() as usize;
        let mut drawn = rand::seq::index::sample(&mut self.rng, alive.len(), count).into_vec();
        drawn.sort_unstable();
        drawn.into_iter().map(|place| alive[place]).collect()
    }

    /// The nodes alive and on the same side that a lookup from this node should find: those nearest
    /// to a target but itself, the nearest first.
    pub fn nearest(&self, from: NodeIndex, target: &Id, count: usize) -> Vec<Contact> {
        let side = self.side(from);
        let others = self.alive().filter(|&index| index != from && self.side(index) == side);
        let mut contacts: Vec<_> = others.filter_map(|index| self.contact(index)).collect();
        let count = count.min(contacts.len());
        if count < contacts.len() {
            contacts.select_nth_unstable_by_key(count, |contact| target.distance(&contact.id));
            contacts.truncate(count);
        }
        contacts.sort_by_key(|contact| target.distance(&contact.id));
        contacts
    }

    /// A node as others know it.
    pub fn contact(&self, index: NodeIndex) -> Option<Contact> {
        let address = self.address(index);
        self.node(index).map(|node| Contact { id: node.id(), address })
    }

    /// Where a node receives datagrams.
    pub fn address(&self, index: NodeIndex) -> SocketAddr {
        self.places[index.0].address
    }

    /// Starts a command at a node.
    ///
    /// # Errors
    /// If the node refuses to begin it.
    ///
    /// # Panics
    /// If the node was killed.
    pub fn start(
        &mut self,
        index: NodeIndex,
        command: Command,
    ) -> Result<OperationId, CommandError> {
        let node = self.places[index.0].node.as_mut().expect("a node that was not killed");
        let id = command.start(node, self.now);
        self.drain(index);
        id
    }

    /// Starts a command at a node and runs the network until its reply is there.
    ///
    /// # Errors
    /// If the node refuses to begin it.
    ///
    /// # Panics
    /// If the node was killed, or the network falls silent before there is a reply.
    pub fn run(&mut self, index: NodeIndex, command: Command) -> Result<Reply, CommandError> {
        let id = self.start(index, command)?;
        loop {
            if let Some(reply) = self.replies.remove(&(index, id)) {
                return Ok(reply);
            }
            assert!(self.step(Instant::NEVER), "nothing happens any more and no reply has come");
        }
    }

    /// Runs the network until `until`, but takes no more than `steps` steps. Returns whether it got
    /// there; call it again if not.
    pub fn advance(&mut self, until: Instant, steps: usize) -> bool {
        for _ in 0..steps {
            if !self.step(until) {
                self.now = self.now.max(until);
                return true;
            }
        }
        false
    }

    /// Runs the network until a reply is there and gives it, but takes no more than `steps` steps;
    /// call it again if there is none yet.
    pub fn advance_to_reply(
        &mut self,
        index: NodeIndex,
        id: OperationId,
        steps: usize,
    ) -> Option<Reply> {
        for _ in 0..steps {
            if let Some(reply) = self.replies.remove(&(index, id)) {
                return Some(reply);
            }
            self.step(Instant::NEVER);
        }
        None
    }

    /// Runs the network for a span of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets the next event happen, if it is due by `until`.
    fn step(&mut self, until: Instant) -> bool {
        match self.agenda.peek() {
            Some(Reverse((at, ..))) if *at <= until => {}
            _ => return false,
        }
        let Reverse((at, _, happening)) = self.agenda.pop().expect("peeked just above");
        self.now = at;
        match happening {
            Happening::Datagram { source, destination, bytes }
                if !self.lie(source, destination, &bytes) =>
            {
                self.handle(
                    destination,
                    Input::Datagram { source, local: LocalEnd::default(), bytes: &bytes },
                );
            }
            Happening::Timer { node } if self.places[node.0].timer == at => {
                self.places[node.0].timer = Instant::NEVER;
                self.handle(node, Input::Timeout);
            }
            Happening::Datagram { .. } | Happening::Timer { .. } => {}
        }
        true
    }

    fn handle(&mut self, index: NodeIndex, input: Input<'_>) {
        let place = &mut self.places[index.0];
        let Some(node) = &mut place.node else { return };
        if let (Some(ring), Input::Datagram { source, bytes, .. }) = (&mut place.ring, &input) {
            ring.push(packet(self.now, Direction::In, *source, bytes));
        }
        node.handle(self.now, input);
        self.drain(index);
    }

    /// Does what a node wants done.
    fn drain(&mut self, index: NodeIndex) {
        let Some(mut node) = self.places[index.0].node.take() else { return };
        let source = self.places[index.0].address;
        let timer = loop {
            match node.poll_output() {
                Output::Transmit { destination, bytes, .. } => {
                    if let Some(ring) = &mut self.places[index.0].ring {
                        ring.push(packet(self.now, Direction::Out, destination, bytes));
                    }
                    self.carry(source, destination, bytes.to_vec());
                }
                Output::Event(event) => self.on_event(index, event),
                Output::Timeout(at) => break at,
            }
        };
        let place = &mut self.places[index.0];
        place.node = Some(node);
        if timer != place.timer {
            place.timer = timer;
            if timer != Instant::NEVER {
                self.schedule(timer.max(self.now), Happening::Timer { node: index });
                self.places[index.0].timer = timer.max(self.now);
            }
        }
    }

    fn on_event(&mut self, index: NodeIndex, event: Event) {
        if let Ok((id, reply)) = control::reply(event) {
            if let Some(finished) = Finished::of(self, index, &reply) {
                self.statistics.note(finished);
            }
            self.replies.insert((index, id), reply);
        }
    }

    /// Takes a datagram through the network, or loses it.
    fn carry(&mut self, source: SocketAddr, destination: SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        self.bytes += bytes.len() as u64;
        let latency = self.settings.latency.clone();
        let delay = self.rng.random_range(latency.start().as_micros()..=latency.end().as_micros());
        let lost = self.settings.loss > 0.0 && self.rng.random_bool(self.settings.loss);
        let Some(&destination) = self.by_address.get(&destination) else { return };
        let from = self.by_address[&source];
        if !lost && self.side(from) == self.side(destination) {
            let at = self.now + Duration::from_micros(delay);
            self.schedule(at, Happening::Datagram { source, destination, bytes });
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse((at, self.sequence, happening)));
    }
}

fn packet(now: Instant, direction: Direction, peer: SocketAddr, bytes: &[u8]) -> Packet {
    let time = UNIX_EPOCH + std::time::Duration::from_micros(now.as_micros());
    Packet { time, direction, peer, bytes: bytes.into() }
}
