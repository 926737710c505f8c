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
mod living;
mod settled;
mod statistics;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::UNIX_EPOCH;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::address::{Families, LocalEnd, is_loopback};
use crate::config::Config;
use crate::control::{self, Command, CommandError, Direction, Packet, PacketRing, Reply, View};
use crate::id::Id;
use crate::message::Contact;
use crate::node::{Event, Input, Node, OperationId, Output, Policy};
use crate::time::{Duration, Instant};
use crate::wire::Dialect;

use self::addresses::AddressAllocator;
use self::living::{IdSet, Numbers};
use self::settled::{Settlement, Sleeper};

pub use self::addresses::{Addresses, NoPrefix, Prefix};
pub use self::liars::Lie;
pub use self::settled::Settling;
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
    by_address: HashMap<SocketAddr, NodeIndex>,
    /// Nodes that were not killed, by number and by id.
    alive: Numbers,
    alive_by_id: IdSet,
    liars: IdSet,
    /// The nodes that were there from the beginning, if the network was settled.
    settlement: Settlement,
    awake: usize,
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
    id: Id,
    state: State,
    /// The timer that counts; others in the agenda are outdated.
    timer: Instant,
    /// Which part of a divided network it is in.
    side: usize,
    /// How it lies to those that look something up.
    lie: Option<Lie>,
    /// Its last packets, kept from the first time that somebody asks for them.
    ring: Option<Box<PacketRing>>,
}

enum State {
    /// Nothing has touched it since the network was settled.
    Asleep(Sleeper),
    Awake(Box<Node>),
    Killed,
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
            by_address: HashMap::new(),
            alive: Numbers::default(),
            alive_by_id: IdSet::default(),
            liars: IdSet::default(),
            settlement: Settlement::default(),
            awake: 0,
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
    /// networks of up to a million: a node takes little memory before something touches it.
    pub fn settled(settings: NetworkSettings, nodes: usize) -> Network {
        let mut network = Network::new(settings);
        network.settle(nodes);
        network
    }

    /// Adds `nodes` nodes to a network without any, as [`Network::settled`] has them.
    ///
    /// # Panics
    /// If there are nodes already.
    pub fn settle(&mut self, nodes: usize) {
        let mut settling = Settling::new(nodes);
        while !self.settle_some(&mut settling, usize::MAX) {}
    }

    /// Goes on with [`Network::settle`], but takes no more than `steps` steps. Returns whether that was
    /// all; call it again if not.
    ///
    /// # Panics
    /// If there are nodes already when it begins.
    pub fn settle_some(&mut self, settling: &mut Settling, steps: usize) -> bool {
        assert!(self.len() == settling.done.min(settling.nodes), "it was without nodes at first");
        for _ in 0..steps {
            if settling.done == settling.total() {
                return true;
            }
            self.settle_step(settling);
            settling.done += 1;
        }
        false
    }

    fn settle_step(&mut self, settling: &Settling) {
        let Settling { nodes, done } = *settling;
        let Some(drawn) = done.checked_sub(nodes) else {
            let id = Id::random(&mut self.rng);
            let sleeper = Sleeper::of_seed(&mut self.rng);
            self.add_member(id, None, State::Asleep(sleeper));
            return;
        };
        if drawn == 0 {
            let contacts = (0..nodes).filter_map(|index| self.contact(NodeIndex(index))).collect();
            let config = &self.settings.config;
            let room = Policy::of(Dialect::V1, Families::ALL, config).k << (config.split_bits - 1);
            self.settlement = Settlement::new(self.now, contacts, room);
            if !self.settings.has_vigil && nodes > 1 {
                let due = self.now + config.refresh;
                self.settlement.refresh_at(due, self.sequence);
                self.sequence += nodes as u64;
                self.places.iter_mut().for_each(|place| place.timer = due);
            }
        }
        let place = &mut self.places[drawn];
        if let State::Asleep(sleeper) = &mut place.state {
            self.settlement.draw(&place.id, sleeper, &mut self.rng);
        }
        if self.settings.has_vigil {
            // It has timers of its own, which only it knows.
            self.wake(NodeIndex(drawn));
            self.drain(NodeIndex(drawn));
        }
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
        let seed = self.rng.random();
        let index = self.add_member(id, range, State::Killed);
        let node = self.new_node(self.now, index, seed);
        self.places[index.0].state = State::Awake(Box::new(node));
        self.awake += 1;
        index
    }

    fn add_member(&mut self, id: Id, range: Option<&Prefix>, state: State) -> NodeIndex {
        let index = NodeIndex(self.places.len());
        let is_taken = |address: &_| self.by_address.contains_key(address);
        let address = match range {
            Some(range) => self.allocator.allocate_in(range, is_taken),
            None => self.allocator.allocate(index.0, is_taken),
        };
        self.by_address.insert(address, index);
        self.alive.push();
        self.alive_by_id.insert(id, index);
        let timer = Instant::NEVER;
        self.places.push(SimulatedMember {
            address,
            id,
            state,
            timer,
            side: 0,
            lie: None,
            ring: None,
        });
        index
    }

    /// The state machine of a member that knows nobody yet.
    fn new_node(&self, now: Instant, index: NodeIndex, seed: [u8; 32]) -> Node {
        let SimulatedMember { address, id, .. } = self.places[index.0];
        let mut node = Node::new(now, id, self.settings.config.clone(), seed);
        node.add_own_address(address);
        if self.settings.has_vigil {
            node.keep_vigil(now, is_loopback(&address));
        }
        node
    }

    /// Makes a member that is asleep the node that it has been since the network was settled.
    fn wake(&mut self, index: NodeIndex) {
        let State::Asleep(sleeper) = self.places[index.0].state else { return };
        let at = self.settlement.at();
        let mut node = self.new_node(at, index, sleeper.seed(&self.rng));
        let contacts = self.settlement.contacts_of(&self.places[index.0].id, &sleeper, &self.rng);
        node.introduce_all(at, contacts);
        self.places[index.0].state = State::Awake(Box::new(node));
        self.awake += 1;
    }

    /// Takes a node away without a word to the others.
    pub fn kill(&mut self, index: NodeIndex) {
        let place = &mut self.places[index.0];
        match place.state {
            State::Killed => return,
            State::Asleep(_) => {}
            State::Awake(_) => self.awake -= 1,
        }
        place.state = State::Killed;
        self.alive.remove(index);
        self.alive_by_id.remove(place.id, index);
        self.liars.remove(place.id, index);
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

    /// How many nodes something has touched. Only these take the memory of a node.
    pub fn awake(&self) -> usize {
        self.awake
    }

    /// Whether a node was not killed.
    pub fn is_alive(&self, index: NodeIndex) -> bool {
        !matches!(self.places[index.0].state, State::Killed)
    }

    /// The node at an index, unless it was killed.
    pub fn node(&mut self, index: NodeIndex) -> Option<&Node> {
        self.wake(index);
        self.touched(index)
    }

    /// The node at an index, if something has touched it and it was not killed. Others hold no values
    /// and have looked nothing up.
    pub fn touched(&self, index: NodeIndex) -> Option<&Node> {
        match &self.places[index.0].state {
            State::Awake(node) => Some(node),
            State::Asleep(_) | State::Killed => None,
        }
    }

    /// A view of the node at an index, unless it was killed.
    pub fn view<V: View>(&mut self, index: NodeIndex) -> Option<V> {
        let now = self.now;
        self.node(index).map(|node| V::of(node, now))
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
        (0..self.places.len()).map(NodeIndex).filter(|&index| self.is_alive(index))
    }

    /// How many nodes were not killed.
    pub fn alive_count(&self) -> usize {
        self.alive.len()
    }

    /// One of the nodes that were not killed.
    pub fn random_alive(&mut self) -> Option<NodeIndex> {
        let count = self.alive.len();
        (count > 0).then(|| self.alive.nth(self.rng.random_range(0..count)))
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
        let others = self.alive_by_id.nearest(target);
        let reachable = others.filter(|&index| index != from && self.side(index) == side);
        reachable.filter_map(|index| self.contact(index)).take(count).collect()
    }

    /// A node as others know it, unless it was killed.
    pub fn contact(&self, index: NodeIndex) -> Option<Contact> {
        let SimulatedMember { id, address, .. } = self.places[index.0];
        self.is_alive(index).then_some(Contact { id, address })
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
        self.wake(index);
        let State::Awake(node) = &mut self.places[index.0].state else {
            panic!("a node that was not killed");
        };
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
        let queued = self.agenda.peek().map(|Reverse((at, number, _))| (*at, *number));
        // Nodes of a settlement refresh their tables at one time, and take no place in the agenda for it.
        let refresh = self.settlement.next_refresh();
        let is_refresh = match (queued, refresh) {
            (Some(queued), Some(refresh)) => refresh < queued,
            (None, refresh) => refresh.is_some(),
            (Some(_), None) => false,
        };
        let next = if is_refresh { refresh } else { queued };
        let Some((at, _)) = next.filter(|(at, _)| *at <= until) else { return false };
        self.now = at;
        if is_refresh {
            let node = self.settlement.take_refresh();
            self.on_timer(node);
            return true;
        }
        let Reverse((.., happening)) = self.agenda.pop().expect("peeked just above");
        match happening {
            Happening::Datagram { source, destination, bytes } => {
                if !self.lie(source, destination, &bytes) {
                    let local = LocalEnd::default();
                    let input = Input::Datagram { source, local, bytes: &bytes };
                    self.handle(destination, input);
                }
            }
            Happening::Timer { node } => self.on_timer(node),
        }
        true
    }

    fn on_timer(&mut self, node: NodeIndex) {
        if self.places[node.0].timer == self.now {
            self.places[node.0].timer = Instant::NEVER;
            self.handle(node, Input::Timeout);
        }
    }

    fn handle(&mut self, index: NodeIndex, input: Input<'_>) {
        self.wake(index);
        let place = &mut self.places[index.0];
        let State::Awake(node) = &mut place.state else { return };
        if let (Some(ring), Input::Datagram { source, bytes, .. }) = (&mut place.ring, &input) {
            ring.push(packet(self.now, Direction::In, *source, bytes));
        }
        node.handle(self.now, input);
        self.drain(index);
    }

    /// Does what a node wants done.
    fn drain(&mut self, index: NodeIndex) {
        let place = &mut self.places[index.0];
        let source = place.address;
        let State::Awake(mut node) = std::mem::replace(&mut place.state, State::Killed) else {
            unreachable!("only nodes that are awake have outputs");
        };
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
        place.state = State::Awake(node);
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
