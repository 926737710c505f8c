//! What a network lays down for the nodes in it.

use crate::address::Families;
use crate::config::Config;
use crate::message::Contact;
use crate::wire::Dialect;

/// Bytes of the largest answer over IPv6 in Mainline (BEP 32); an item may make it longer.
const IPV6_ANSWER_MAX: usize = 1_024;

/// The families of addresses that have a network each in a dialect: in Mainline the nodes of IPv4 know each
/// other, and so do those of IPv6 (BEP 32).
pub(super) fn networks(dialect: Dialect) -> &'static [Families] {
    const IPV4: Families = Families { ipv4: true, ipv6: false };
    const IPV6: Families = Families { ipv4: false, ipv6: true };
    match dialect {
        Dialect::V1 => &[Families::ALL],
        Dialect::Mainline => &[IPV4, IPV6],
    }
}

/// The rules in which networks differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Contacts in a bucket of the routing table, and nodes that a lookup looks for.
    pub k: usize,
    /// Contacts in an answer.
    pub named: usize,
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

/// Which id a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdRule {
    /// Any, whatever its address.
    Any,
}

impl Policy {
    /// The policy of the network that speaks a dialect with addresses of these families, for a node with
    /// these settings.
    pub fn of(dialect: Dialect, families: Families, config: &Config) -> Policy {
        match dialect {
            Dialect::V1 => Policy {
                k: config.k,
                named: config.k,
                replicas: config.k,
                families,
                id_rule: IdRule::Any,
                answer_max: dialect.sizes().datagram_max,
                holders_replicate: true,
            },
            Dialect::Mainline => Policy {
                k: config.k,
                named: config.mainline_named,
                replicas: config.k,
                families,
                id_rule: IdRule::Any,
                answer_max: if families.ipv4 {
                    dialect.sizes().answer_max
                } else {
                    IPV6_ANSWER_MAX
                },
                holders_replicate: false,
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
