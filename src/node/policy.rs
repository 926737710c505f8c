//! What a network lays down for the nodes in it.

use std::net::SocketAddr;

use crate::config::Config;
use crate::message::Contact;
use crate::wire::Dialect;

/// The rules in which networks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Contacts in a bucket of the routing table and in an answer, and nodes that a lookup looks for.
    pub k: usize,
    /// Nodes that hold a value, the nearest to its key: `k` at most, since lookups find no more.
    pub replicas: usize,
    /// The addresses that its nodes have.
    pub families: Families,
    /// The ids that they may have.
    pub id_rule: IdRule,
    /// Bytes of the largest answer to a validated address.
    pub answer_max: usize,
    /// Whether holders pass values on to others near the keys. Where they do not, the publisher of
    /// a value has to publish it again.
    pub holders_replicate: bool,
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// Which id a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRule {
    /// Any, whatever its address.
    Any,
}

impl Policy {
    /// The policy of the network that speaks a dialect, for a node with these settings.
    pub fn of(dialect: Dialect, config: &Config) -> Policy {
        match dialect {
            Dialect::V1 => Policy {
                k: config.k,
                replicas: config.k,
                families: Families { ipv4: true, ipv6: true },
                id_rule: IdRule::Any,
                answer_max: dialect.sizes().datagram_max,
                holders_replicate: true,
            },
        }
    }

    /// Whether a contact may be a node of the network.
    pub(super) fn allows(&self, contact: &Contact) -> bool {
        let is_id_allowed = match self.id_rule {
            IdRule::Any => true,
        };
        is_id_allowed && self.families.contain(&contact.address)
    }
}

impl Families {
    /// Whether an address belongs to one of them.
    pub fn contain(self, address: &SocketAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}
