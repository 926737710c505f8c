//! An overlay: one identity in one network, and what belongs to it there.
//!
//! A node may be in several networks, and has another identity in each. What an overlay knows and keeps
//! is its own; it shares the calls in flight, the limits and all else that guards the node with the other
//! overlays ([`Shared`]). [`Active`] is an overlay together with these: it does all that a node does in a
//! network.

use std::collections::{BTreeMap, VecDeque};

use crate::address::Families;
use crate::config::Config;
use crate::guard::tokens::TokenCache;
use crate::guard::validated::Validated;
use crate::id::Id;
use crate::kad::OperationId;
use crate::kad::estimate::{Estimate, Estimator};
use crate::kad::lookup::LookupRecord;
use crate::kad::routing::Table;
use crate::kad::silent::Silent;
use crate::message::Contact;
use crate::node::forwarding::Forwarding;
use crate::node::joining::Joining;
use crate::node::lost::Lost;
use crate::node::maintenance::Maintenance;
use crate::node::operations::Operation;
use crate::node::policy::Policy;
use crate::node::replication::Replication;
use crate::node::shared::Shared;
use crate::node::vigil::Vigil;
use crate::store::Store;
use crate::store::items::{self, Items};
use crate::store::peers::{self, Peers};
use crate::time::Instant;
use crate::wire::Dialect;

/// Which of a node's overlays; the place in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverlayId(u8);

impl OverlayId {
    pub(super) const FIRST: OverlayId = OverlayId(0);

    pub(super) fn nth(index: u8) -> OverlayId {
        OverlayId(index)
    }

    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

/// One identity in one network.
pub struct Overlay {
    /// Which of its node's overlays this is.
    pub(super) number: OverlayId,
    pub(super) dialect: Dialect,
    pub(super) id: Id,
    pub(super) policy: Policy,
    pub(super) table: Table,
    /// The values that it keeps, in a network that has values.
    pub(super) store: Store,
    /// The peers of torrents that it keeps, in a network that has torrents.
    pub(super) peers: Peers,
    /// The items that it keeps, in a network that has items.
    pub(super) items: Items,
    pub(super) estimator: Estimator,
    pub(super) maintenance: Maintenance,
    pub(super) replication: Replication,
    pub(super) lost: Lost,
    pub(super) joining: Joining,
    pub(super) vigil: Vigil,
    pub(super) forwarding: Forwarding,
    pub(super) silent: Silent,
    pub(super) token_cache: TokenCache,
    pub(super) operations: BTreeMap<OperationId, Operation>,
    pub(super) records: VecDeque<LookupRecord>,
    pub(super) has_told_crowded: bool,
    pub(super) has_told_twin: bool,
}

impl Overlay {
    /// An overlay that knows nobody.
    pub(super) fn new(
        now: Instant,
        number: OverlayId,
        (dialect, families): (Dialect, Families),
        id: Id,
        config: &Config,
    ) -> Overlay {
        let policy = Policy::of(dialect, families, config);
        Overlay {
            number,
            dialect,
            id,
            policy,
            table: Table::new(now, id, policy.k, config, dialect.contact_encoder()),
            store: Store::new(id, config),
            peers: Peers::new(peers::Limits {
                peers: config.max_peers,
                lifetime: config.peer_expire,
            }),
            items: Items::new(items::Limits {
                items: config.max_items,
                lifetime: config.item_expire,
            }),
            estimator: Estimator::default(),
            maintenance: Maintenance::default(),
            replication: Replication::default(),
            lost: Lost::default(),
            joining: Joining::default(),
            vigil: Vigil::default(),
            forwarding: Forwarding::default(),
            silent: Silent::default(),
            token_cache: TokenCache::default(),
            operations: BTreeMap::new(),
            records: VecDeque::new(),
            has_told_crowded: false,
            has_told_twin: false,
        }
    }

    /// What its network speaks.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The node's id in its network.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The rules of its network.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The contacts that it knows.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The values that it keeps.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The peers of torrents that it keeps; none in v1.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The items that it keeps; none in v1.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// The last lookups that ended, the oldest first, those of maintenance too.
    pub fn records(&self) -> impl Iterator<Item = &LookupRecord> {
        self.records.iter()
    }

    /// How many operations run.
    pub fn operation_count(&self) -> usize {
        self.operations.len() + self.forwarding.own_count()
    }

    /// How many nodes there are in the network, as far as this one can tell.
    pub fn estimate(&self) -> Estimate<'_> {
        self.estimator.estimate(&self.table)
    }

    /// Whether a contact is known to receive datagrams at its address: it is in the routing table and
    /// answers, or it has lately answered something or sent a token back.
    pub(super) fn is_validated(&self, validated: &Validated, contact: &Contact) -> bool {
        is_validated(validated, &self.table, contact)
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.store
            .next_due()
            .min(self.peers.next_due())
            .min(self.items.next_due())
            .min(self.maintenance.next_timeout())
            .min(self.lost.next_timeout())
            .min(self.joining.next_timeout())
            .min(self.vigil.next_timeout())
            .min(self.forwarding.next_timeout())
    }
}

/// See [`Overlay::is_validated`].
pub(super) fn is_validated(validated: &Validated, table: &Table, contact: &Contact) -> bool {
    validated.contains(&contact.address)
        || table
            .entry(&contact.id)
            .is_some_and(|entry| entry.contact.address == contact.address && entry.is_good())
}

/// An overlay at work, with what it shares with the others.
pub(super) struct Active<'n> {
    pub(super) overlay: &'n mut Overlay,
    /// The other overlays of the node, those in front of it and those behind.
    pub(super) others: [&'n [Overlay]; 2],
    pub(super) shared: &'n mut Shared,
}

impl<'n> Active<'n> {
    /// The overlay of that number, at work.
    #[inline]
    pub(super) fn new(
        overlays: &'n mut [Overlay],
        number: OverlayId,
        shared: &'n mut Shared,
    ) -> Active<'n> {
        let (before, rest) = overlays.split_at_mut(number.index());
        let (overlay, behind) = rest.split_first_mut().expect("an overlay of that number");
        Active { overlay, others: [before, behind], shared }
    }

    /// The overlay that speaks the same with addresses of the other family, if there is one.
    pub(super) fn kin(&self) -> Option<&'n Overlay> {
        let mut others = self.others.into_iter().flatten();
        others.find(|other| other.dialect == self.overlay.dialect)
    }

    /// Whether the asker receives datagrams at the address that it seems to ask from.
    pub(super) fn is_validated(&self, asker: &Contact) -> bool {
        self.overlay.is_validated(&self.shared.validated, asker)
    }
}
