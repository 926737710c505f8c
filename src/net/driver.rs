//! The event loop of one node: waits for datagrams, orders and timers, tells the state machine,
//! and carries out what it wants.
//!
//! The only reader of the node's clock. No rule of the protocol lives here. [`Core`] is the node with
//! everything that its outputs go to; [`Driver`] adds the sockets and the waiting.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration as StdDuration;
use std::{io, thread};

use tokio::io::Interest;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::blocklist::Blocklist;
use super::bootstrap::{self, BootstrapNodes, Resolved};
use super::clock::Clock;
use super::door::Door;
use super::endpoint::Endpoint;
use super::handle::{
    AnswerSender, Handle, IncomingCall, JoinProgress, Offer, OperationError, Order, Returned,
    Watched, WayBack,
};
use super::news::News;
use super::observer::Observed;
use super::persister::Persister;
use super::socket::{self, Bound, KeptOut, ReceiveBatch, Received, SendBatch};
use crate::address::is_loopback;
use crate::config::Config;
use crate::control::{self, Command, CommandError, Direction, Reply, Sight};
use crate::id::Id;
use crate::message::Contact;
use crate::node::{Event, Input, Node, OperationId, Output};
use crate::state::{SavedState, StateWriter};
use crate::time::{Duration, Instant};
use crate::wire::{Dialect, MAX_DATAGRAM};
use crate::xdp::{self, Heard, Mirror};

/// At most this many orders wait; giving one more waits for a place.
const ORDERS: usize = 64;

/// At most this many calls of one registered RPC wait for the application; more of them fail.
const CALLS_WAITING: usize = 64;

/// Batches received in a row before orders get their turn: a millisecond or two under a flood.
const BATCHES_PER_TURN: usize = 8;

/// Datagrams that reached nobody which are looked at before something else gets its turn.
const FAILURES_PER_TURN: usize = 64;

/// How long a full send buffer may hold up the node. A network card empties it in less; what is
/// not sent by then is lost, as UDP has it.
const SEND_PATIENCE: StdDuration = StdDuration::from_millis(20);

/// How often the fast path hears that the node is alive: thrice before it would give the node up.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Receive errors in a row after which the socket counts as broken. Single ones are news about the
/// network (a host that is gone), and a read consumes them.
const RECEIVE_FAILURES_MAX: u32 = 100;

/// All that a node starts with.
pub(super) struct Plan {
    /// One, or one of each address family.
    pub(super) sockets: Vec<Bound>,
    /// The address of the first.
    pub(super) local: SocketAddr,
    /// The node's id in each of its networks; v1 is one of them.
    pub(super) ids: BTreeMap<Dialect, Id>,
    pub(super) seed: [u8; 32],
    pub(super) bootstrap: Vec<Endpoint>,
    pub(super) config: Config,
    pub(super) mirror: Option<Mirror>,
    /// The state of the node's last run, and the place for its state from now on.
    pub(super) state: Option<(SavedState, StateWriter)>,
    pub(super) keeps_packets: bool,
    pub(super) door: Option<Door>,
}

/// Starts the thread of a node.
///
/// # Errors
/// If the system grants no event loop or no thread.
pub(super) fn start(mut plan: Plan, watched: Watched) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let watched_sockets = plan.sockets.iter().map(|bound| watch(&runtime, &bound.socket));
    let watched_sockets = watched_sockets.collect::<io::Result<Vec<_>>>()?;
    let (orders, mut received) = mpsc::channel(ORDERS);
    let (id, local) = (plan.ids[&Dialect::V1], plan.local);
    let (told, joining) = watch::channel(JoinProgress::Trying);
    let handle = Handle::new(id, local, watched, joining, orders);
    let door = plan.door.take().map(|door| door.serve(handle.downgrade()));
    let run = move || {
        if let Some(serving) = door {
            runtime.spawn(serving);
        }
        runtime
            .block_on(async { Driver::new(plan, watched_sockets, told).run(&mut received).await });
        // A resolver may take its time; nobody waits for it.
        runtime.shutdown_background();
        // Last of all: once this channel is closed, node and socket are gone.
        drop(received);
    };
    handle.set_thread(thread::Builder::new().name("kademlua-node".into()).spawn(run)?);
    Ok(handle)
}

/// A second handle to a socket, by which the runtime learns when it is ready.
fn watch(runtime: &Runtime, socket: &UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    let _inside = runtime.enter();
    tokio::net::UdpSocket::from_std(socket.try_clone()?)
}

/// One of the node's sockets.
struct NodeSocket {
    bound: Bound,
    watched: tokio::net::UdpSocket,
    inbox: ReceiveBatch,
    receive_failures: u32,
}

impl NodeSocket {
    fn new((bound, watched): (Bound, tokio::net::UdpSocket)) -> NodeSocket {
        NodeSocket { bound, watched, inbox: ReceiveBatch::new(), receive_failures: 0 }
    }

    /// Takes in a batch, if one has arrived.
    ///
    /// # Errors
    /// If the socket is broken.
    fn receive(&mut self) -> io::Result<bool> {
        let receive = || self.inbox.receive(&self.bound.socket);
        match self.watched.try_io(Interest::READABLE, receive) {
            Ok(()) => self.receive_failures = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // What became of it is taken in by itself.
            Err(error) if socket::is_of_another(&error) => return Ok(false),
            Err(error) => {
                debug!(%error, "not received");
                self.receive_failures += 1;
                return if self.receive_failures >= RECEIVE_FAILURES_MAX {
                    Err(error)
                } else {
                    Ok(false)
                };
            }
        }
        Ok(true)
    }
}

/// Waits until one of them has something to tell of a datagram that reached nobody.
async fn failed(sockets: &[NodeSocket]) -> io::Result<()> {
    match sockets {
        [one] => one.watched.ready(Interest::ERROR).await?,
        [one, other] => tokio::select! {
            ready = one.watched.ready(Interest::ERROR) => ready?,
            ready = other.watched.ready(Interest::ERROR) => ready?,
        },
        _ => unreachable!("one socket, or one of each address family"),
    };
    Ok(())
}

/// Waits until something has arrived at one of them.
async fn readable(lines: &[NodeSocket]) -> io::Result<()> {
    poll_fn(|context| {
        let ready = |line: &NodeSocket| match line.watched.poll_recv_ready(context) {
            Poll::Ready(ready) => Some(ready),
            Poll::Pending => None,
        };
        lines.iter().find_map(ready).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Why the loop goes on.
enum Wake {
    Order(Option<Order>),
    Returned(Option<Returned>),
    Readable(io::Result<()>),
    /// Datagrams have reached nobody.
    Failed(io::Result<()>),
    Resolved(Resolved),
    /// The kernel has answered these contacts.
    Strangers(Vec<Contact>),
    Timer,
}

struct Driver {
    clock: Clock,
    /// The outbox of each has the same index in the core.
    lines: Vec<NodeSocket>,
    returned: mpsc::UnboundedReceiver<Returned>,
    resolved: mpsc::UnboundedReceiver<Resolved>,
    persister: Option<Persister>,
    core: Core,
}

/// An address at which at least this machine reaches a socket that is bound to `local`. If that is
/// all interfaces, the node learns its other addresses when it hears itself.
fn reached_at(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip.to_canonical(),
    };
    SocketAddr::new(ip, local.port())
}

impl Driver {
    fn new(
        plan: Plan,
        watched: Vec<tokio::net::UdpSocket>,
        joining: watch::Sender<JoinProgress>,
    ) -> Driver {
        let clock = Clock::start();
        let (answers, returned) = mpsc::unbounded_channel();
        let mut node = Node::in_networks(Instant::ZERO, &plan.ids, plan.config, plan.seed);
        node.set_clock_origin(clock.origin());
        let keep = |(kept, writer)| {
            Persister::new(writer, kept, (clock.epoch(), clock.boottime()), &mut node)
        };
        let former = plan.state.as_ref().map(|(kept, _)| kept.v1().contacts.clone());
        let former = former.unwrap_or_default();
        let persister = plan.state.map(keep);
        let lines: Vec<_> = plan.sockets.into_iter().zip(watched).map(NodeSocket::new).collect();
        // Without an address there is nothing to send from either.
        let locals: Vec<_> =
            lines.iter().filter_map(|line| line.bound.socket.local_addr().ok()).collect();
        locals.iter().for_each(|&local| node.add_own_address(reached_at(local)));
        let former = bootstrap::others(plan.local, &former);
        node.rejoin_through(Instant::ZERO, &former);
        let (outcomes, resolved) = mpsc::unbounded_channel();
        let bootstrap = BootstrapNodes::new(Instant::ZERO, plan.local, plan.bootstrap, outcomes);
        node.keep_vigil(Instant::ZERO, is_loopback(&plan.local));
        if bootstrap.is_empty() && former.is_empty() {
            joining.send_replace(JoinProgress::Joined);
        }
        Driver {
            clock,
            lines,
            returned,
            resolved,
            persister,
            core: Core {
                fast_path: plan.mirror.map(FastPath::new),
                bootstrap,
                joining,
                has_joined: false,
                has_complained: false,
                node,
                local: plan.local,
                outboxes: locals.into_iter().map(SendBatch::new).collect(),
                due: Instant::ZERO,
                running: HashMap::new(),
                offered: HashMap::new(),
                answers,
                news: News::default(),
                observed: Observed::new(plan.keeps_packets),
                blocklist: Blocklist::default(),
            },
        }
    }

    async fn run(mut self, orders: &mut mpsc::Receiver<Order>) {
        self.serve(orders).await;
        self.core.observed.end().await;
    }

    async fn serve(&mut self, orders: &mut mpsc::Receiver<Order>) {
        info!(id = %self.core.node.id(), address = %self.core.local, "started");
        self.core.join(self.clock.now());
        let mut timer = pin!(sleep_until(self.clock.at(Instant::ZERO)));
        loop {
            self.core.on_time(self.clock.now());
            self.core.tell_news(self.clock.now());
            self.tend_fast_path();
            self.tend_state();
            let sockets = self.lines.iter().map(|line| &line.bound.socket);
            self.core.blocklist.tend(self.clock.now(), sockets);
            self.flush().await;
            let wake = self.wait(orders, timer.as_mut()).await;
            match wake {
                Wake::Order(None | Some(Order::Stop)) => break,
                Wake::Order(Some(order)) => self.core.on_order(self.clock.now(), order),
                Wake::Returned(returned) => self.core.on_returned(self.clock.now(), returned),
                Wake::Resolved(resolved) => self.core.on_resolved(self.clock.now(), resolved),
                Wake::Strangers(strangers) => self.core.on_seen(self.clock.now(), &strangers),
                Wake::Timer => {}
                Wake::Failed(ready) => {
                    if let Err(error) = ready {
                        error!(%error, "a socket is broken; the node stops");
                        return;
                    }
                    self.take_failures();
                }
                Wake::Readable(ready) => {
                    let received = match ready {
                        Ok(()) => self.receive().await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = received {
                        error!(%error, "a socket is broken; the node stops");
                        return;
                    }
                }
            }
        }
        if let Some(persister) = self.persister.take() {
            persister.finish(self.clock.now(), self.clock.epoch(), &mut self.core.node);
        }
        info!("stopped");
    }

    async fn wait(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        mut timer: Pin<&mut Sleep>,
    ) -> Wake {
        let beat =
            self.core.fast_path.as_ref().map_or(Instant::NEVER, |fast_path| fast_path.beat_at);
        let keep = self.persister.as_ref().map_or(Instant::NEVER, |k| k.next_time(&self.core.node));
        let due = self.core.next_time().min(beat).min(keep);
        if due != Instant::NEVER && timer.deadline() != self.clock.at(due) {
            timer.as_mut().reset(self.clock.at(due));
        }
        // If several are ready, select takes one at random, so that none starves another.
        tokio::select! {
            order = orders.recv() => Wake::Order(order),
            returned = self.returned.recv() => Wake::Returned(returned),
            Some(resolved) = self.resolved.recv() => Wake::Resolved(resolved),
            ready = readable(&self.lines) => Wake::Readable(ready),
            ready = failed(&self.lines) => Wake::Failed(ready),
            strangers = strangers(&mut self.core.fast_path) => Wake::Strangers(strangers),
            () = timer, if due != Instant::NEVER => Wake::Timer,
        }
    }

    /// Tells the fast path all news of the node.
    fn tend_fast_path(&mut self) {
        let now = self.clock.now();
        let Core { fast_path: Some(fast_path), node, local, .. } = &mut self.core else { return };
        let heard = fast_path.beat(now);
        fast_path.mirror.update(now, node, *local);
        self.core.on_seen(now, &heard.asked);
        self.core.on_handed_on(now, &heard.used);
    }

    fn tend_state(&mut self) {
        if let Some(persister) = &mut self.persister {
            persister.tend(self.clock.now(), self.clock.epoch(), &mut self.core.node);
        }
    }

    /// Takes in what has arrived, for a bounded time.
    ///
    /// # Errors
    /// If a socket is broken.
    async fn receive(&mut self) -> io::Result<()> {
        for number in 0..self.lines.len() {
            for _ in 0..BATCHES_PER_TURN {
                if !self.lines[number].receive()? {
                    break;
                }
                self.handle_batch(number).await;
            }
        }
        Ok(())
    }

    /// Takes in the system's reports of datagrams that reached nobody, for a bounded time.
    fn take_failures(&mut self) {
        let now = self.clock.now();
        // It may be the kernel that handed the route on.
        if let Some(fast_path) = &mut self.core.fast_path {
            let used = fast_path.mirror.used();
            self.core.on_handed_on(now, &used);
        }
        let mut bytes = [0; MAX_DATAGRAM];
        for line in &self.lines {
            for _ in 0..FAILURES_PER_TURN {
                let take = || socket::receive_failure(&line.bound.socket, &mut bytes);
                match line.watched.try_io(Interest::ERROR, take) {
                    Ok(Some((destination, len))) => {
                        let bytes = &bytes[..len];
                        self.core.handle(now, Input::Unreachable { destination, bytes });
                    }
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Handles what has come in on a line. One reading of the clock serves the whole batch.
    async fn handle_batch(&mut self, number: usize) {
        let now = self.clock.now();
        self.core.forget_withdrawn();
        for Received { source, local, bytes } in self.lines[number].inbox.iter() {
            let local = self.lines[number].bound.local_end(local);
            self.core.observed.packet(Direction::In, source, bytes);
            self.core.handle(now, Input::Datagram { source, local, bytes });
            // What it sends goes to the asker's family, but for a ping now and then.
            if self.core.outboxes[number].is_full() {
                flush(&mut self.core.outboxes[number], &self.lines[number]).await;
            }
        }
        self.core.on_time(now);
        self.flush().await;
    }

    async fn flush(&mut self) {
        for (outbox, line) in self.core.outboxes.iter_mut().zip(&self.lines) {
            flush(outbox, line).await;
        }
    }
}

/// The fast path in the kernel, and when it must hear that the node is alive.
struct FastPath {
    mirror: Mirror,
    beat_at: Instant,
}

impl FastPath {
    fn new(mirror: Mirror) -> FastPath {
        FastPath { mirror, beat_at: Instant::ZERO }
    }

    /// If it is time, says that the node is alive, and returns the contacts that were seen.
    fn beat(&mut self, now: Instant) -> Heard {
        if now < self.beat_at {
            return Heard::default();
        }
        self.beat_at = now + BEAT_EVERY;
        self.mirror.beat()
    }
}

/// Waits for strangers, for ever where there is no fast path.
async fn strangers(fast_path: &mut Option<FastPath>) -> Vec<Contact> {
    match fast_path {
        Some(fast_path) => fast_path.mirror.strangers().await,
        None => std::future::pending().await,
    }
}

/// Sends what waits. If the send buffer is full, waits for it, but not for long.
async fn flush(
    outbox: &mut SendBatch,
    NodeSocket { bound: Bound { socket, .. }, watched, .. }: &NodeSocket,
) {
    while !outbox.is_empty() && outbox.send(socket).is_err() {
        // Makes the runtime forget that the socket was writable.
        let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = watched.try_io(Interest::WRITABLE, blocked);
        if timeout(SEND_PATIENCE, watched.writable()).await.is_err() {
            outbox.clear();
            debug!(lost = outbox.lost(), "the send buffer stays full");
        }
    }
}

/// The node, and where its outputs go.
struct Core {
    node: Node,
    fast_path: Option<FastPath>,
    local: SocketAddr,
    /// The outboxes of the sockets, in their order.
    outboxes: Vec<SendBatch>,
    /// When the node wants to be told the time.
    due: Instant,
    bootstrap: BootstrapNodes,
    joining: watch::Sender<JoinProgress>,
    /// Whether a contact was ever known, and whether the log has said that nobody answers.
    has_joined: bool,
    has_complained: bool,
    /// The callers that wait for the end of an operation.
    running: HashMap<OperationId, AnswerSender<Reply>>,
    offered: HashMap<Vec<u8>, mpsc::Sender<IncomingCall>>,
    /// Each incoming call gets a clone. Unbounded, but no more answers wait in it than calls were
    /// let in.
    answers: mpsc::UnboundedSender<Returned>,
    news: News,
    observed: Observed,
    blocklist: Blocklist,
}

impl Core {
    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.node.handle(now, input);
        self.drain(now);
    }

    /// These contacts asked something, and the kernel has answered.
    fn on_seen(&mut self, now: Instant, contacts: &[Contact]) {
        contacts
            .iter()
            .for_each(|&contact| self.handle(now, Input::Seen { dialect: xdp::DIALECT, contact }));
    }

    /// The kernel has handed routes to these contacts.
    fn on_handed_on(&mut self, now: Instant, contacts: &[Contact]) {
        contacts.iter().for_each(|&contact| {
            self.handle(now, Input::HandedOn { dialect: xdp::DIALECT, contact });
        });
    }

    fn drain(&mut self, now: Instant) {
        // Nobody may hear of a store, and then be answered with what was there before.
        if let Some(fast_path) = &mut self.fast_path {
            fast_path.mirror.take_back(&mut self.node);
        }
        loop {
            match self.node.poll_output() {
                Output::Transmit { destination, local, bytes } => {
                    // Without a socket of that family there is no way.
                    let mut outboxes = self.outboxes.iter_mut();
                    if let Some(outbox) = outboxes.find(|outbox| outbox.reaches(destination)) {
                        // Copied, because the node writes its next datagram over this one, while a
                        // batch for the system outlives many inputs to the node.
                        outbox.push(local, destination, bytes);
                        self.observed.packet(Direction::Out, destination, bytes);
                    }
                }
                Output::Event(event) => self.on_event(now, event),
                Output::Timeout(due) => {
                    self.due = due;
                    return;
                }
            }
        }
    }

    fn next_time(&self) -> Instant {
        self.due
            .min(self.news.next_time())
            .min(self.bootstrap.due())
            .min(self.blocklist.next_time())
    }

    fn on_time(&mut self, now: Instant) {
        if now >= self.bootstrap.due() {
            self.bootstrap.resolve();
        }
        if now >= self.due {
            self.handle(now, Input::Timeout);
        }
    }

    fn on_order(&mut self, now: Instant, order: Order) {
        match order {
            Order::Run { command, answer } => match self.start(now, command) {
                Ok(id) => _ = self.running.insert(id, answer),
                Err(error) => give(answer, Err(error.into())),
            },
            Order::Look(look) => look(&self.node, now),
            Order::Register { name, offer, answer } => give(answer, self.offer(name, offer)),
            Order::Observe(observe) => self.observed.change(observe),
            Order::Stop => {}
        }
        self.drain(now);
    }

    fn start(&mut self, now: Instant, command: Command) -> Result<OperationId, CommandError> {
        let command = match command {
            Command::Bootstrap { addresses } => {
                self.bootstrap.add(&addresses);
                let all = self.bootstrap_nodes();
                self.node.keep_in_touch(now, &all);
                let addresses = bootstrap::others(self.local, &addresses);
                Command::Bootstrap { addresses }
            }
            other => other,
        };
        command.start(&mut self.node, now)
    }

    fn offer(
        &mut self,
        name: Vec<u8>,
        offer: Offer,
    ) -> Result<mpsc::Receiver<IncomingCall>, OperationError> {
        self.forget_withdrawn();
        if offer == Offer::Keep && self.offered.contains_key(&name) {
            return Err(OperationError::Taken);
        }
        self.node.register(&name)?;
        let (calls, receiver) = mpsc::channel(CALLS_WAITING);
        self.offered.insert(name, calls);
        Ok(receiver)
    }

    /// Unregisters the RPCs whose receivers were dropped.
    fn forget_withdrawn(&mut self) {
        let withdrawn = |calls: &mpsc::Sender<IncomingCall>| calls.is_closed();
        if !self.offered.values().any(withdrawn) {
            return;
        }
        self.offered.retain(|name, calls| {
            if withdrawn(calls) {
                self.node.unregister(name);
                return false;
            }
            true
        });
    }

    fn on_returned(&mut self, now: Instant, returned: Option<Returned>) {
        let Returned { token, result } = returned.expect("the core holds a sender itself");
        if let Err(error) = self.node.answer(token, result) {
            debug!(%error, "an answer was not sent");
        }
        self.drain(now);
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match control::reply(event) {
            Ok((id, reply)) => self.on_reply(now, id, reply),
            Err(event) => self.on_news(now, event),
        }
    }

    fn on_reply(&mut self, now: Instant, id: OperationId, reply: Reply) {
        if let Reply::Bootstrapped { answered, silent } = &reply {
            debug!(answered, ?silent, "bootstrapped");
            if !self.running.contains_key(&id) {
                self.on_attempt_ended(now, silent);
            }
        }
        if let Some(answer) = self.running.remove(&id) {
            give(answer, Ok(reply));
        }
    }

    fn tell_news(&mut self, now: Instant) {
        self.news.tend(now, &self.node.counters(), self.node.table().len());
    }

    /// Tells the node where to join.
    fn join(&mut self, now: Instant) {
        let all = self.bootstrap_nodes();
        self.node.join_through(now, &all);
        self.drain(now);
    }

    fn bootstrap_nodes(&self) -> Vec<SocketAddr> {
        // Without a socket of that family there is no way.
        let reaches = |address| self.outboxes.iter().any(|outbox| outbox.reaches(address));
        self.bootstrap.addresses(reaches)
    }

    fn on_resolved(&mut self, now: Instant, resolved: Resolved) {
        if self.bootstrap.on_resolved(now, resolved) {
            self.join(now);
        }
        if self.bootstrap.is_settled() && self.bootstrap_nodes().is_empty() {
            self.tell_joining(JoinProgress::Alone);
        }
    }

    /// An attempt to join has ended.
    fn on_attempt_ended(&mut self, now: Instant, silent: &[SocketAddr]) {
        if !self.node.table().is_empty() {
            return self.tell_joining(JoinProgress::Joined);
        }
        self.tell_joining(JoinProgress::Alone);
        if !std::mem::replace(&mut self.has_complained, true) {
            warn!(?silent, "nobody answers yet; joining is tried again");
        }
        self.bootstrap.resolve_again(now);
    }

    /// Whether a node on all addresses of this machine is itself at one.
    fn is_here(&self, address: SocketAddr) -> bool {
        self.local.ip().is_unspecified()
            && self.local.port() == address.port()
            && UdpSocket::bind((address.ip(), 0)).is_ok()
    }

    /// A node that has joined counts as joined from then on, whatever becomes of the network.
    fn tell_joining(&self, joining: JoinProgress) {
        self.joining.send_if_modified(|told| {
            let is_news = *told != JoinProgress::Joined && *told != joining;
            *told = if is_news { joining } else { *told };
            is_news
        });
    }

    /// A node that was alone was found by another.
    fn tell_found(&self) {
        self.joining.send_if_modified(|told| {
            let is_news = *told == JoinProgress::Alone;
            *told = if is_news { JoinProgress::Joined } else { *told };
            is_news
        });
    }

    fn on_news(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { token, from, name, args } => {
                let calls = self.offered.get(&name);
                let answers = self.answers.clone();
                // Nobody waits for it once the node has stopped.
                let way_back =
                    WayBack::new(move |result| drop(answers.send(Returned { token, result })));
                let call = IncomingCall { from, name, args, way_back };
                // A call that cannot be delivered is dropped, and so fails.
                if let Some(calls) = calls {
                    drop(calls.try_send(call));
                }
            }
            Event::ContactAdded(contact) => {
                self.news.on_contact_added(&contact);
                self.observed.news(|time| Sight::ContactAdded(time, contact));
                self.tell_found();
                if !std::mem::replace(&mut self.has_joined, true) {
                    info!(?contact, "joined");
                }
            }
            Event::ContactLost(contact) => {
                self.news.on_contact_lost(&contact);
                self.observed.news(|time| Sight::ContactLost(time, contact));
            }
            Event::Crowded(contact) => info!(
                ?contact,
                max_per_subnet = self.node.config().max_per_subnet,
                "no more contacts of that subnet are taken in (told of once); a lab whose nodes share few \
                 /24 of public addresses sets max_per_subnet to 20"
            ),
            Event::BootstrapNodeSilent(address) => {
                debug!(%address, "a bootstrap node does not answer");
                self.bootstrap.resolve_again(now);
            }
            // The fast path may have answered the question in its place.
            Event::Twin(address) if self.is_here(address) => self.node.add_own_address(address),
            Event::Twin(address) => warn!(
                id = %self.node.id(),
                %address,
                "another node has this node's id, and the two can never meet; ids must differ: start one of \
                 them with --id, or on another port"
            ),
            Event::OwnAddressChanged { before, now } => {
                info!(%before, %now, "own address changed; contacts are told");
            }
            Event::Flood { source, reply_prefix } => {
                self.blocklist.keep_out(now, KeptOut { ip: source, reply_prefix });
            }
            Event::Bootstrapped { .. }
            | Event::LookupDone(_)
            | Event::StoreDone(_)
            | Event::RouteDone(_)
            | Event::CallDone { .. } => unreachable!("a reply, told apart above"),
        }
    }
}

/// Gives an answer to a caller that may have gone away meanwhile.
fn give<T>(answer: oneshot::Sender<T>, value: T) {
    let _ = answer.send(value);
}
