//! How a node joins its network, and keeps in touch with those it joined through; see
//! [`joining`](super::joining).

use std::net::SocketAddr;

use crate::kad::OperationId;
use crate::kad::lookup::Goal;
use crate::message::{Contact, Request, Response};
use crate::node::calls::Purpose;
use crate::node::joining::{Joining, MAX_BOOTSTRAP};
use crate::node::operations::{Operation, Then};
use crate::node::overlay::{Active, Overlay};
use crate::node::{CallError, Event, joining};
use crate::time::Instant;

/// The contacts that somebody named, in an answer of `bytes` bytes.
pub(super) struct Named {
    pub(super) by: SocketAddr,
    pub(super) bytes: usize,
    pub(super) contacts: Vec<Contact>,
}

/// First questions to nodes whose id is not known yet.
pub(super) struct Bootstrap {
    waiting: usize,
    answered: usize,
    silent: Vec<SocketAddr>,
    /// Whether the lookup for the own id runs, which the first answer starts.
    joining: bool,
}

impl Active<'_> {
    /// Joins the network through the nodes at these addresses, and keeps in touch with them.
    pub(super) fn join_through(&mut self, now: Instant, addresses: &[SocketAddr]) {
        if self.keep_in_touch(now, addresses) {
            self.overlay.joining.on_news(now);
        }
    }

    /// Keeps in touch with the nodes at these addresses. Returns whether there are new ones.
    pub(super) fn keep_in_touch(&mut self, now: Instant, addresses: &[SocketAddr]) -> bool {
        let has_new = self.overlay.joining.set_bootstrap_nodes(addresses);
        if self.overlay.joining.wants_plan() {
            self.plan_asking(now);
        }
        has_new
    }

    /// Joins, and asks bootstrap nodes, if it is time.
    pub(super) fn tend_joining(&mut self, now: Instant) {
        let Overlay { joining, table, .. } = &mut *self.overlay;
        if joining.take_attempt(now, table.is_empty()) {
            // It may end before its number is noted here.
            let operation = self.shared.next_operation();
            let addresses = joining.begin(now, operation, table.is_empty());
            self.start_bootstrap(now, &addresses);
        }
        if self.overlay.joining.is_asking_due(now) {
            self.plan_asking(now);
            // A node that is alone asks them anyway.
            if !self.overlay.table.is_empty() {
                self.ask_bootstrap_nodes(now);
            }
        }
    }

    fn plan_asking(&mut self, now: Instant) {
        let every = Joining::ask_every(self.overlay.estimate().nodes);
        self.overlay.joining.ask_at(now + every.jittered(&mut self.shared.rng));
    }

    /// Asks the bootstrap nodes that were not heard of lately.
    fn ask_bootstrap_nodes(&mut self, now: Instant) {
        let is_fresh = |address: &SocketAddr| {
            let mut known =
                self.overlay.table.good().filter(|entry| entry.contact.address == *address);
            known.any(|entry| now.since(entry.last_seen) < joining::ASK_EVERY)
        };
        let all = self.overlay.joining.bootstrap_nodes();
        let quiet: Vec<SocketAddr> = all.filter(|address| !is_fresh(address)).collect();
        for address in quiet {
            // Without room for a call it is asked the next time.
            let _ = self.send(now, address.into(), &Request::Ping, Purpose::BootstrapNode);
        }
    }

    /// A bootstrap node was asked whether it is there.
    pub(super) fn on_bootstrap_node_asked(
        &mut self,
        now: Instant,
        address: SocketAddr,
        contact: Option<Contact>,
    ) {
        if self.overlay.joining.on_asked(&address, contact.map(|contact| contact.id)) {
            self.overlay.joining.on_news(now);
        }
        if contact.is_none() {
            self.shared.out.events.push_back(Event::BootstrapNodeSilent(address));
        }
    }

    /// Asks nodes whose id is not known yet for the contacts nearest to the own id, and joins
    /// through those that answer.
    pub(super) fn start_bootstrap(
        &mut self,
        now: Instant,
        addresses: &[SocketAddr],
    ) -> OperationId {
        let operation = self.shared.new_operation();
        let mut bootstrap =
            Bootstrap { waiting: 0, answered: 0, silent: Vec::new(), joining: false };
        let request = Request::FindNode { target: self.overlay.id };
        for &address in addresses.iter().take(MAX_BOOTSTRAP) {
            let purpose = Purpose::Bootstrap { operation };
            match self.send(now, address.into(), &request, purpose) {
                Ok(_) => bootstrap.waiting += 1,
                Err(_) => bootstrap.silent.push(address),
            }
        }
        self.overlay.operations.insert(operation, Operation::Bootstrap(bootstrap));
        self.try_end_bootstrap(now, operation);
        operation
    }

    pub(super) fn on_bootstrap_answer(
        &mut self,
        now: Instant,
        operation: OperationId,
        address: SocketAddr,
        contact: Option<Contact>,
        outcome: Result<Response, CallError>,
        bytes: usize,
    ) {
        let Some(Operation::Bootstrap(bootstrap)) = self.overlay.operations.get_mut(&operation)
        else {
            return;
        };
        bootstrap.waiting -= 1;
        match (contact, outcome) {
            (Some(Contact { address: by, id }), Ok(Response::Nodes(contacts))) => {
                self.overlay.joining.on_asked(&address, Some(id));
                bootstrap.answered += 1;
                if !std::mem::replace(&mut bootstrap.joining, true) {
                    let goal = Goal::Node { target: self.overlay.id };
                    // The routing table may have no room for the contacts that they name.
                    let named = Named { by, bytes, contacts };
                    let then = Then::Joined { bootstrap: operation, named };
                    self.begin_lookup(now, goal, then);
                }
            }
            _ => {
                self.overlay.joining.on_asked(&address, None);
                bootstrap.silent.push(address);
            }
        }
        self.try_end_bootstrap(now, operation);
    }

    /// The lookup for the own id has ended: the neighbourhood is known, the rest is refreshed.
    pub(super) fn on_joined(&mut self, now: Instant, operation: OperationId) {
        if let Some(Operation::Bootstrap(bootstrap)) = self.overlay.operations.get_mut(&operation) {
            bootstrap.joining = false;
        }
        self.refresh_all(now);
        self.try_end_bootstrap(now, operation);
    }

    fn try_end_bootstrap(&mut self, now: Instant, id: OperationId) {
        let Some(Operation::Bootstrap(Bootstrap { waiting: 0, joining: false, .. })) =
            self.overlay.operations.get(&id)
        else {
            return;
        };
        let Some(Operation::Bootstrap(Bootstrap { answered, silent, .. })) =
            self.overlay.operations.remove(&id)
        else {
            unreachable!("looked at just above");
        };
        self.overlay.joining.on_ended(now, id, self.overlay.table.is_empty());
        self.shared.out.events.push_back(Event::Bootstrapped { id, answered, silent });
    }
}
