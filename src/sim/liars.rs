//! Nodes that lie to those that look something up, but are otherwise like others.
//!
//! The adversary of S/Kademlia (Baumgart and Mies, ICPADS 2007): a share of the nodes that has joined
//! like others, sits in routing tables, and works together. Their false answers are made here, in
//! place of the node; other RPCs and their own lookups go on, so that nobody finds them dead.

use std::net::SocketAddr;

use rand::RngExt;

use crate::bencode::Value;
use crate::id::Id;
use crate::message::{Contact, Request, Response, Rest};
use crate::wire::{Body, Envelope, Header, emit, parse};

use super::{Network, NodeIndex};

/// Contacts in a lie, as many as an honest answer has.
const NAMED: usize = 20;

/// Leading bits that invented contacts share with the target: nearer than any node.
const INVENTED_BITS: u32 = 40;

/// What a liar does when it is asked for nodes or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It is silent.
    Drop,
    /// It names the liars nearest to the target, and no value.
    Collude,
    /// It names contacts that do not exist, nearer than all others, and a false value.
    Garbage,
}

impl Lie {
    /// Every way to lie.
    pub const ALL: [Lie; 3] = [Lie::Drop, Lie::Collude, Lie::Garbage];
}

impl Network {
    /// Makes a node lie from now on, or no longer.
    pub fn set_lie(&mut self, index: NodeIndex, lie: Option<Lie>) {
        self.places[index.0].lie = lie;
        let id = self.places[index.0].id;
        if lie.is_some() && self.is_alive(index) {
            self.liars.insert(id, index);
        } else {
            self.liars.remove(id, index);
        }
    }

    /// How a node lies, if it does.
    pub fn lie_of(&self, index: NodeIndex) -> Option<Lie> {
        self.places[index.0].lie
    }

    /// Answers a datagram with a lie, if the node lies about it. Returns whether it did.
    pub(super) fn lie(&mut self, source: SocketAddr, liar: NodeIndex, bytes: &[u8]) -> bool {
        let (Some(lie), Some(contact)) = (self.lie_of(liar), self.contact(liar)) else {
            return false;
        };
        let Ok(Envelope { dialect, transaction, body: Body::Query(query), .. }) = parse(bytes)
        else {
            return false;
        };
        let (target, wants_values) = match query.read() {
            Ok(Request::FindNode { target }) => (target, false),
            Ok(Request::FindValue(search)) => (search.key, true),
            _ => return false,
        };
        let named = match lie {
            Lie::Drop => return true,
            Lie::Collude => self.accomplices(&target),
            Lie::Garbage => self.invented(&target),
        };
        let response = if wants_values {
            let garbage = (lie == Lie::Garbage).then(|| Value::bytes("garbage"));
            let values = garbage.into_iter().collect();
            Response::Values { values, closest: named, rest: Rest::default() }
        } else {
            Response::Nodes(named)
        };
        let mut reply = Vec::new();
        emit(
            &mut reply,
            &Header { dialect, from: contact.id, transaction, asker: None },
            &response,
        );
        self.carry(contact.address, source, reply);
        true
    }

    /// The nearest of those that lie.
    fn accomplices(&self, target: &Id) -> Vec<Contact> {
        let liars = self.liars.nearest(target).filter_map(|index| self.contact(index));
        liars.take(NAMED).collect()
    }

    fn invented(&mut self, target: &Id) -> Vec<Contact> {
        let invent = |_| Contact {
            id: target.random_at(INVENTED_BITS, &mut self.rng),
            address: self.nobodys_address(),
        };
        (0..NAMED).map(invent).collect()
    }

    fn nobodys_address(&mut self) -> SocketAddr {
        let is_taken = |address: &_| self.by_address.contains_key(address);
        let public = self.allocator.allocate_free(is_taken);
        // Above all private addresses of nodes.
        public.unwrap_or_else(|| ([10, 255, self.rng.random(), self.rng.random()], 8001).into())
    }
}
