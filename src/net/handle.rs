//! What applications get from a node: its handle, the calls that come in, the errors.
//!
//! Orders go to the driver through a bounded channel; each carries the sender of its answer.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot, watch};

use super::capture::{self, CaptureError, Existing, RunningCapture};
use super::observer::{Observer, Tap};
use crate::bencode::Value;
use crate::config::Config;
use crate::control::{
    self, Bootstrapped, CaptureView, Captured, Command, CommandError, Lookups, Packet, Reply,
    Snapshot, TableView, View,
};
use crate::id::Id;
use crate::kad::lookup::LookupRecord;
use crate::message::{Contact, Response, StoreMode};
use crate::node::{CallError, Node, Peer, RegisterError, RequestToken, RpcFailed, StoreReport};
use crate::state;
use crate::store::Refusal;
use crate::time::{Duration, Instant};
use crate::xdp::Pinning;

/// The node has stopped, by [`Handle::stop`] or because its socket failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OperationError {
    /// The node is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The value cannot be stored.
    #[error(transparent)]
    Store(#[from] Refusal),
    /// The peer did not answer as it should.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The RPC cannot be offered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Another client offers it here.
    #[error("this node offers a function of that name already")]
    Taken,
}

impl From<CommandError> for OperationError {
    fn from(error: CommandError) -> OperationError {
        match error {
            CommandError::Store(error) => error.into(),
            CommandError::Call(error) => error.into(),
        }
    }
}

/// An order to the driver, with the sender of its answer.
pub(super) enum Order {
    Run { command: Command, answer: AnswerSender<Reply> },
    Look(NodeLook),
    Register { name: Vec<u8>, offer: Offer, answer: AnswerSender<mpsc::Receiver<IncomingCall>> },
    Observe(Observe),
    Stop,
}

/// What becomes of an earlier offer of the same RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It ends.
    Replace,
    /// It stays, and the new one is refused.
    Keep,
}

/// Begins or ends watching what the node sends and receives.
pub(super) type Observe = Box<dyn FnOnce(&mut Observer) + Send>;

/// Looks at the node, and sends what it sees to the caller.
pub(super) type NodeLook = Box<dyn FnOnce(&Node, Instant) + Send>;

/// Takes the outcome of an operation that can fail.
pub(super) type AnswerSender<T> = oneshot::Sender<Result<T, OperationError>>;

/// A running node, as applications hold it. Clones are handles to the same node.
///
/// Dropping a future only abandons the answer: the operation still ends by itself, within a bounded
/// time.
#[derive(Clone)]
pub struct Handle {
    id: Id,
    local: SocketAddr,
    watched: Watched,
    joining: watch::Receiver<JoinProgress>,
    orders: mpsc::Sender<Order>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// How far a node has come with joining the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinProgress {
    /// The first attempt has not ended.
    Trying,
    /// Nobody has answered yet.
    Alone,
    /// It has, or there was nobody to join through.
    Joined,
}

/// What a handle can look at besides the node.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) config: Arc<Config>,
    pub(super) fast_path: Option<Pinning>,
    pub(super) state: Option<state::StatusWatch>,
}

impl Handle {
    /// The handle of a node whose [thread](Handle::set_thread) is about to begin.
    pub(super) fn new(
        id: Id,
        local: SocketAddr,
        watched: Watched,
        joining: watch::Receiver<JoinProgress>,
        orders: mpsc::Sender<Order>,
    ) -> Handle {
        Handle { id, local, watched, joining, orders, thread: Arc::default() }
    }

    /// The thread must drop the receiver of the orders as its last act.
    pub(super) fn set_thread(&self, thread: JoinHandle<()>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// A handle that does not keep the node alive.
    pub(super) fn downgrade(&self) -> WeakHandle {
        let Handle { id, local, watched, joining, orders, thread } = self.clone();
        WeakHandle { id, local, watched, joining, orders: orders.downgrade(), thread }
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The node as others know it, if they see the address that it is bound to.
    pub fn contact(&self) -> Contact {
        Contact { id: self.id, address: self.local }
    }

    /// The address that the node receives on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits until the first attempt to join the network has ended, and tells whether it was found. At
    /// once for a node that was told nobody to join through.
    pub async fn tried_to_join(&self) -> bool {
        self.await_joining(|joining| *joining != JoinProgress::Trying).await
    }

    /// Waits until the node has joined the network. At once for one that was told nobody to join
    /// through: it is the network. False if it has stopped before.
    pub async fn joined(&self) -> bool {
        self.await_joining(|joining| *joining == JoinProgress::Joined).await
    }

    async fn await_joining(&self, is_so: impl FnMut(&JoinProgress) -> bool) -> bool {
        let mut joining = self.joining.clone();
        let joining = joining.wait_for(is_so).await;
        joining.is_ok_and(|joining| *joining == JoinProgress::Joined)
    }

    /// Where the node looks for a fast path, if it does; [`status`](crate::xdp::status) tells more.
    pub fn fast_path(&self) -> Option<&Pinning> {
        self.watched.fast_path.as_ref()
    }

    /// The settings that the node runs with.
    pub fn config(&self) -> &Config {
        &self.watched.config
    }

    /// How the node's state on disk fares, if it keeps one.
    pub fn state(&self) -> Option<state::StateStatus> {
        self.watched.state.as_ref().map(state::StatusWatch::status)
    }

    /// Looks for the nodes nearest to an id.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn find_node(&self, target: Id) -> Result<LookupRecord, Stopped> {
        self.lookup(Command::FindNode { target }).await
    }

    /// Looks for the values under a key, until `max_nodes` nodes have answered with some; each is
    /// asked for `max_entries` values.
    ///
    /// # Errors
    /// If the node has stopped. To find nothing is no error.
    pub async fn find_value(
        &self,
        key: Id,
        max_nodes: usize,
        max_entries: usize,
    ) -> Result<LookupRecord, Stopped> {
        self.lookup(Command::FindValue { key, max_nodes, max_entries }).await
    }

    /// Stores a value on the nodes nearest to its key.
    ///
    /// # Errors
    /// If the value is too large to be stored anywhere, or the node has stopped. Nodes that refused
    /// or were silent are in the report.
    pub async fn store(
        &self,
        key: Id,
        value: Value,
        mode: StoreMode,
    ) -> Result<StoreReport, OperationError> {
        match self.run(Command::Store { key, value, mode }).await? {
            Reply::Stored(report) => Ok(report),
            other => unreachable!("{other:?} in reply to a store"),
        }
    }

    /// Asks a peer whether it is there, and tells how long the answer took.
    ///
    /// # Errors
    /// If it does not answer, or the node has stopped.
    pub async fn ping(&self, peer: Peer) -> Result<Duration, OperationError> {
        let (_, rtt) = self.call_peer(Command::Ping { peer }).await?;
        Ok(rtt)
    }

    /// Asks a peer from which address this node's datagrams reach it.
    ///
    /// # Errors
    /// If it does not answer, or the node has stopped.
    pub async fn get_socket(&self, peer: Peer) -> Result<SocketAddr, OperationError> {
        match self.call_peer(Command::GetSocket { peer }).await? {
            (Response::Socket(address), _) => Ok(address),
            _ => Err(CallError::BadReply.into()),
        }
    }

    /// Calls an RPC that an application has registered at a peer, and gives the values it returns.
    ///
    /// # Errors
    /// If the peer has no such RPC, its RPC fails, it does not answer, the arguments are too
    /// large, or the node has stopped.
    pub async fn call(
        &self,
        peer: Peer,
        name: &[u8],
        args: Vec<Value>,
    ) -> Result<Vec<Value>, OperationError> {
        match self.call_peer(Command::Call { peer, name: name.into(), args }).await? {
            (Response::Returned(values), _) => Ok(values),
            _ => Err(CallError::BadReply.into()),
        }
    }

    /// Joins the network through these nodes; the node's own address among them is left out.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn bootstrap(&self, addresses: Vec<SocketAddr>) -> Result<Bootstrapped, Stopped> {
        match self.run(Command::Bootstrap { addresses }).await {
            Ok(Reply::Bootstrapped { answered, silent }) => {
                let silent = silent.into_iter().map(Peer::from).collect();
                Ok(Bootstrapped { answered, silent })
            }
            Err(OperationError::Stopped(stopped)) => Err(stopped),
            other => unreachable!("{other:?} in reply to a bootstrap"),
        }
    }

    /// The node's state as plain data.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot, Stopped> {
        self.view().await
    }

    /// The node's routing table as plain data.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn routing(&self) -> Result<TableView, Stopped> {
        self.view().await
    }

    /// The last lookups of the node.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn lookups(&self) -> Result<Lookups, Stopped> {
        self.view().await
    }

    /// A view of the node, taken on its own thread.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn view<V: View>(&self) -> Result<V, Stopped> {
        self.look(V::of).await
    }

    /// The values that the node itself keeps under a key.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn kept(&self, key: Id) -> Result<Vec<Value>, Stopped> {
        self.look(move |node, _| control::kept(node, &key)).await
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node, Instant) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        // If sending fails, nobody waits for it any more.
        let sent = |answer: oneshot::Sender<T>| -> NodeLook {
            Box::new(move |node, now| drop(answer.send(look(node, now))))
        };
        self.order(|answer| Order::Look(sent(answer))).await
    }

    /// Offers an RPC of that name. The calls come out of the receiver; once it is dropped, peers
    /// that call are told that there is no such RPC. Of two receivers for one name the older ends.
    ///
    /// # Errors
    /// If the protocol itself has the name, there are too many, or the node has stopped.
    pub async fn register(
        &self,
        name: &[u8],
    ) -> Result<mpsc::Receiver<IncomingCall>, OperationError> {
        self.offer(name, Offer::Replace).await
    }

    /// The same for an RPC that nobody else offers here.
    pub(super) async fn register_new(
        &self,
        name: &[u8],
    ) -> Result<mpsc::Receiver<IncomingCall>, OperationError> {
        self.offer(name, Offer::Keep).await
    }

    async fn offer(
        &self,
        name: &[u8],
        offer: Offer,
    ) -> Result<mpsc::Receiver<IncomingCall>, OperationError> {
        self.order(|answer| Order::Register { name: name.to_vec(), offer, answer }).await?
    }

    /// The last packets, the oldest first: at most [`RING_PACKETS`](super::RING_PACKETS) and
    /// [`RING_BYTES`](super::RING_BYTES). Where the node was not told to keep them from its start
    /// ([`keeps_packets`](super::Settings::keeps_packets)), it does so from the first call on.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn packets(&self) -> Result<Vec<Packet>, Stopped> {
        self.observe(Observer::packets).await
    }

    /// Forgets the last packets and keeps no more, until they are asked for again.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn forget_packets(&self) -> Result<(), Stopped> {
        self.observe(Observer::forget_packets).await
    }

    /// All packets from now on, both ways, and contacts that come and go. A reader that does not
    /// keep up with the node loses some.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn tap(&self) -> Result<Tap, Stopped> {
        self.observe(Observer::tap).await
    }

    /// Writes all packets from now on to a pcap file, until [`end_capture`](Handle::end_capture) or
    /// the end of the node. After an error, which the log reports, the file holds what was written
    /// so far.
    ///
    /// # Errors
    /// If there can be no such file, one is being written already, or the node has stopped.
    pub async fn capture(&self, file: &Path, existing: Existing) -> Result<(), CaptureError> {
        let (running, begun) = capture::begin(file);
        // Reserved first, so that if two begin at once only one touches its file.
        let reserve = move |observer: &mut Observer| match &observer.capture {
            Some(other) if other.goes_on() => Err(CaptureError::Running(other.file().to_owned())),
            _ => {
                observer.capture = Some(running);
                Ok(())
            }
        };
        self.observe(reserve).await??;
        let written = begun.write(existing, self.local);
        if written.is_err() {
            self.observe(|observer| observer.capture = None).await?;
        }
        written
    }

    /// Whether there is a capture, and how much it has written so far.
    ///
    /// # Errors
    /// If the node has stopped.
    pub async fn capture_view(&self) -> Result<CaptureView, Stopped> {
        self.observe(|observer| {
            observer.capture.as_ref().map_or_else(CaptureView::default, RunningCapture::view)
        })
        .await
    }

    /// Ends the capture; when this returns, all packets until now are in the file. `None` if there
    /// was no capture.
    ///
    /// # Errors
    /// If writing has failed, or the node has stopped.
    pub async fn end_capture(&self) -> Result<Option<Captured>, CaptureError> {
        match self.observe(|observer| observer.capture.take()).await? {
            Some(running) => running.end().await.map(Some),
            None => Ok(None),
        }
    }

    /// Ends the node. When this returns its thread is gone, its port is free and its capture is
    /// written; operations under way and later ones end with [`Stopped`].
    pub async fn stop(&self) {
        // Fails only where the node is stopping already.
        let _ = self.orders.send(Order::Stop).await;
        self.orders.closed().await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The channel closes as the thread's last act, so this does not hold up a runtime. A
            // panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    /// The same for callers outside a runtime, or in any: blocks this thread meanwhile.
    pub fn stop_and_wait(&self) {
        let stop = || {
            let _ = self.orders.blocking_send(Order::Stop);
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            // Somebody else may have begun to stop it.
            while !self.stopped() {
                thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        // A runtime's own threads may not wait.
        thread::scope(|scope| drop(scope.spawn(stop).join()));
    }

    /// Whether the node has stopped.
    pub fn stopped(&self) -> bool {
        self.orders.is_closed()
    }

    async fn lookup(&self, command: Command) -> Result<LookupRecord, Stopped> {
        match self.run(command).await {
            Ok(Reply::Lookup(record)) => Ok(record),
            Err(OperationError::Stopped(stopped)) => Err(stopped),
            other => unreachable!("{other:?} in reply to a lookup"),
        }
    }

    async fn call_peer(&self, command: Command) -> Result<(Response, Duration), OperationError> {
        match self.run(command).await? {
            Reply::Called(outcome) => Ok(outcome?),
            other => unreachable!("{other:?} in reply to a call"),
        }
    }

    pub(super) async fn run(&self, command: Command) -> Result<Reply, OperationError> {
        self.order(|answer| Order::Run { command, answer }).await?
    }

    async fn observe<T: Send + 'static>(
        &self,
        observe: impl FnOnce(&mut Observer) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        // If sending fails, nobody waits for it any more.
        let sent = |answer: oneshot::Sender<T>| -> Observe {
            Box::new(move |observer| drop(answer.send(observe(observer))))
        };
        self.order(|answer| Order::Observe(sent(answer))).await
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }
}

/// A handle that does not keep its node alive.
pub(super) struct WeakHandle {
    id: Id,
    local: SocketAddr,
    watched: Watched,
    joining: watch::Receiver<JoinProgress>,
    orders: mpsc::WeakSender<Order>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl WeakHandle {
    /// The handle, if the node is still there.
    pub(super) fn upgrade(&self) -> Result<Handle, Stopped> {
        Ok(Handle {
            id: self.id,
            local: self.local,
            watched: self.watched.clone(),
            joining: self.joining.clone(),
            orders: self.orders.upgrade().ok_or(Stopped)?,
            thread: self.thread.clone(),
        })
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.local)
    }
}

/// A peer's call of an RPC that was [registered](Handle::register). One that is dropped without
/// an answer fails.
#[derive(Debug)]
pub struct IncomingCall {
    /// Who calls.
    pub from: Contact,
    /// The name of the RPC.
    pub name: Vec<u8>,
    /// The arguments, as many as the caller liked to send.
    pub args: Vec<Value>,
    pub(super) way_back: WayBack,
}

impl IncomingCall {
    /// Answers with the values that the RPC returns.
    pub fn answer(self, values: Vec<Value>) {
        self.way_back.send(Ok(values));
    }

    /// Tells the caller that the RPC failed.
    pub fn fail(self) {
        self.way_back.send(Err(RpcFailed));
    }
}

/// The answer to one incoming call on its way to the driver.
pub(super) struct Returned {
    pub(super) token: RequestToken,
    pub(super) result: Result<Vec<Value>, RpcFailed>,
}

/// Carries one answer back, a failure if none is given.
pub(super) struct WayBack(Option<Carry>);

type Carry = Box<dyn FnOnce(Result<Vec<Value>, RpcFailed>) + Send>;

impl WayBack {
    pub(super) fn new(
        carry: impl FnOnce(Result<Vec<Value>, RpcFailed>) + Send + 'static,
    ) -> WayBack {
        WayBack(Some(Box::new(carry)))
    }

    fn send(mut self, result: Result<Vec<Value>, RpcFailed>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<Vec<Value>, RpcFailed>) {
        if let Some(carry) = self.0.take() {
            carry(result);
        }
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        self.give(Err(RpcFailed));
    }
}

impl fmt::Debug for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayBack").finish_non_exhaustive()
    }
}
