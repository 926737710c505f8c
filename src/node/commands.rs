//! What a caller can ask of a node, or look at. All of it concerns the first overlay, that of v1.

use std::net::SocketAddr;

use crate::bencode::Value;
use crate::config::Config;
use crate::guard::tickets::RouteSecrets;
use crate::id::Id;
use crate::kad::OperationId;
use crate::kad::estimate::Estimate;
use crate::kad::lookup::{Goal, LookupRecord};
use crate::kad::routing::{Insertion, Table};
use crate::message::{Contact, Request, RouteKind, Rpc, StoreMode};
use crate::node::answers::{MAX_REGISTERED, RegisterError, RpcFailed};
use crate::node::calls::Peer;
use crate::node::operations::Then;
use crate::node::overlay::{Active, Overlay, OverlayId};
use crate::node::pending::RequestToken;
use crate::node::policy::Policy;
use crate::node::{CallError, Counters, Node};
use crate::store::{Change, Copies, Deposit, Refusal, RowId, Store};
use crate::time::{Duration, Instant};

/// What a node can be asked to do.
impl Node {
    /// Joins the network through the nodes at these addresses, 64 at most, and keeps in touch with them
    /// from now on; those of an earlier call that are not among them are forgotten.
    /// [`Event::Bootstrapped`](super::Event::Bootstrapped) tells how an attempt went.
    pub fn join_through(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.first_active().join_through(now, addresses);
    }

    /// Only keeps in touch with them: for a caller that joins through them itself, by
    /// [`Node::start_bootstrap`].
    pub fn keep_in_touch(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.first_active().keep_in_touch(now, addresses);
    }

    /// Joins through contacts of an earlier life, and asks them again whenever nobody else is known.
    pub fn rejoin_through(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.first_active().overlay.joining.set_former(now, addresses);
    }

    /// Begins the vigil: contacts are checked as [`Config::check`](crate::config::Config) says. Unless
    /// the node is on loopback alone, neighbours are also asked for its address, as
    /// [`Config::keepalive`](crate::config::Config) says.
    pub fn keep_vigil(&mut self, now: Instant, is_loopback: bool) {
        self.first_active().keep_vigil(now, is_loopback);
    }

    /// Asks nodes whose id is not known yet for the contacts nearest to the own id, and joins through those
    /// that answer. Ends as [`Event::Bootstrapped`](super::Event::Bootstrapped). At most 64 addresses are
    /// asked.
    pub fn start_bootstrap(&mut self, now: Instant, addresses: &[SocketAddr]) -> OperationId {
        self.first_active().start_bootstrap(now, addresses)
    }

    /// Searches for nodes or values. Ends as [`Event::LookupDone`](super::Event::LookupDone).
    pub fn start_lookup(&mut self, now: Instant, goal: Goal) -> OperationId {
        self.first_active().begin_lookup(now, goal, Then::Report)
    }

    /// Stores a value at the k nodes nearest to the key, this one included if it is one of them.
    /// Ends as [`Event::StoreDone`](super::Event::StoreDone).
    ///
    /// # Errors
    /// If the value is larger than [`Config::max_value_bytes`](crate::config::Config).
    pub fn start_store(
        &mut self,
        now: Instant,
        key: Id,
        value: Value,
        mode: StoreMode,
    ) -> Result<OperationId, Refusal> {
        self.first_active().start_store(now, key, value, mode)
    }

    /// Sends a route to a key, which finds its way by itself, and looks the key up where none of a few
    /// attempts is answered. Ends as [`Event::RouteDone`](super::Event::RouteDone).
    ///
    /// # Panics
    /// If it is to store something: [`Node::start_store`] does that.
    pub fn start_route(
        &mut self,
        now: Instant,
        key: Id,
        kind: RouteKind,
        wants_trace: bool,
    ) -> OperationId {
        assert_ne!(kind, RouteKind::Store, "the entry stores, and this node is its own");
        self.first_active().start_route(now, key, kind, wants_trace)
    }

    /// Asks a peer whether it is there. Ends as [`Event::CallDone`](super::Event::CallDone).
    pub fn start_ping(&mut self, now: Instant, peer: Peer) -> OperationId {
        self.first_active().start_request(now, peer, &Request::Ping)
    }

    /// Asks a peer under which address it sees this node. Ends as
    /// [`Event::CallDone`](super::Event::CallDone).
    pub fn start_get_socket(&mut self, now: Instant, peer: Peer) -> OperationId {
        self.first_active().start_request(now, peer, &Request::GetSocket)
    }

    /// Calls an RPC that an application at a peer has registered. Ends as
    /// [`Event::CallDone`](super::Event::CallDone).
    ///
    /// # Errors
    /// If name and arguments do not fit a datagram.
    pub fn start_call(
        &mut self,
        now: Instant,
        peer: Peer,
        name: &[u8],
        args: &[Value],
    ) -> Result<OperationId, CallError> {
        self.first_active().start_call(now, peer, name, args)
    }

    /// Announces that the application answers an RPC: requests come as
    /// [`Event::Request`](super::Event::Request).
    ///
    /// # Errors
    /// If the name belongs to the protocol, or too many are registered.
    pub fn register(&mut self, name: &[u8]) -> Result<(), RegisterError> {
        if self.first().dialect.rpc_named(name) != Rpc::Custom {
            return Err(RegisterError::Reserved);
        }
        let registered = &mut self.shared.registered;
        if registered.len() >= MAX_REGISTERED && !registered.contains(name) {
            return Err(RegisterError::TooMany);
        }
        registered.insert(name.to_vec());
        Ok(())
    }

    /// Takes an RPC back; callers are told that there is none. Returns whether there was one.
    pub fn unregister(&mut self, name: &[u8]) -> bool {
        self.shared.registered.remove(name)
    }

    /// Answers a request that came as [`Event::Request`](super::Event::Request). An answer that comes too
    /// late goes nowhere.
    ///
    /// # Errors
    /// If the values do not fit a datagram, or, where the caller's address is not validated, what it may
    /// be sent for its request; the caller is then told that the RPC failed.
    pub fn answer(
        &mut self,
        token: RequestToken,
        result: Result<Vec<Value>, RpcFailed>,
    ) -> Result<(), CallError> {
        match self.shared.pending.take(&token) {
            Some(waiting) => self.active(waiting.asked.overlay).answer(waiting, result),
            None => Ok(()),
        }
    }

    /// Takes in a contact that the caller vouches for, as if it had just answered. Returns whether
    /// it is in the routing table now.
    pub fn introduce(&mut self, now: Instant, contact: Contact) -> bool {
        let mut first = self.first_active();
        let insertion = first.overlay.table.on_answer(now, contact, None);
        first.schedule_refresh();
        matches!(insertion, Insertion::Added | Insertion::Known)
    }

    /// Takes in contacts that are known to live, as far as its routing table has room.
    pub fn introduce_all(&mut self, now: Instant, contacts: impl IntoIterator<Item = Contact>) {
        let mut first = self.first_active();
        for contact in contacts {
            first.overlay.table.on_answer(now, contact, None);
        }
        first.schedule_refresh();
    }

    /// Tells the node an address of its own, so that it never asks there. It also learns its
    /// addresses when it hears itself.
    pub fn add_own_address(&mut self, address: SocketAddr) {
        self.shared.add_own_address(address);
    }

    /// Tells the node what the machine's clock showed at [`Instant::ZERO`]. Then the times in the traces of
    /// routes are the same for all nodes of the machine.
    pub fn set_clock_origin(&mut self, origin: Duration) {
        self.shared.tickets.set_origin(origin);
    }

    /// Takes in a value that it kept in an earlier life, in the row of the store that it had then.
    ///
    /// # Errors
    /// If a limit forbids it. Even then no other row gets this number.
    pub fn restore(&mut self, now: Instant, row: RowId, deposit: Deposit) -> Result<(), Refusal> {
        let Active { overlay, shared, .. } = self.first_active();
        overlay.store.restore(now, row, deposit, &mut shared.rng)
    }

    /// From now on [`Node::take_changed`] tells which rows of the store have changed.
    pub fn note_changes(&mut self) {
        self.first_active().overlay.store.note_changes();
    }

    /// Takes up to `max` rows of the store that have changed since they were last taken;
    /// [`Store::row`] tells what is there now.
    pub fn take_changed(&mut self, max: usize) -> Vec<Change> {
        self.first_active().overlay.store.take_changed(max)
    }

    /// Tells a change once more, later.
    pub fn note_changed(&mut self, change: Change) {
        self.first_active().overlay.store.note_changed(change);
    }

    /// Who has copies of the values that it keeps, and what it has to hear.
    #[cfg_attr(not(fast_path), expect(dead_code, reason = "the fast path alone has copies"))]
    pub(crate) fn copies(&mut self) -> &mut Copies {
        self.first_active().overlay.store.copies()
    }

    fn first_active(&mut self) -> Active<'_> {
        self.active(OverlayId::FIRST)
    }
}

/// What can be seen of a node.
impl Node {
    /// The node's own id.
    pub fn id(&self) -> Id {
        self.first().id()
    }

    /// The rules of its network.
    pub fn policy(&self) -> &Policy {
        self.first().policy()
    }

    /// The settings it runs with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.shared.started
    }

    /// The contacts it knows.
    pub fn table(&self) -> &Table {
        self.first().table()
    }

    /// The values it keeps.
    pub fn store(&self) -> &Store {
        self.first().store()
    }

    /// What it knows the tickets and tokens of routes by.
    #[cfg_attr(not(fast_path), expect(dead_code, reason = "the fast path alone asks"))]
    pub(crate) fn route_secrets(&self) -> RouteSecrets {
        self.shared.tickets.secrets()
    }

    /// An address at which others reach it, if it knows one.
    pub fn own_address(&self) -> Option<SocketAddr> {
        self.shared.own_addresses().next()
    }

    /// Whether [`Node::take_changed`] has something to tell.
    pub fn has_changes(&self) -> bool {
        self.first().store().has_changes()
    }

    /// What it has counted, in all its networks.
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// The last lookups that ended, the oldest first, those of maintenance too.
    pub fn records(&self) -> impl Iterator<Item = &LookupRecord> {
        self.first().records()
    }

    /// How many operations run.
    pub fn operation_count(&self) -> usize {
        self.first().operation_count()
    }

    /// How many nodes there are in the network, as far as this node can tell.
    pub fn estimate(&self) -> Estimate<'_> {
        self.first().estimate()
    }

    fn first(&self) -> &Overlay {
        &self.overlays[OverlayId::FIRST.index()]
    }
}
