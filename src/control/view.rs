//! Views of a node at one moment, and of what it did: with spans of time instead of its clock, and
//! with numbers that are counted from the rest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::bencode::Value;
use crate::config::{Config, Range, SETTINGS, Setting};
use crate::id::Id;
use crate::kad::estimate::Sample;
use crate::kad::lookup::{Found, Goal, LookupRecord};
use crate::kad::routing::{Entry, Table};
use crate::message::Contact;
use crate::node::{Counters, Node, Overlay, RouteReport, StoreReport};
use crate::serial::seconds;
use crate::time::{Duration, Instant};
use crate::wire::Dialect;

/// What can be seen of a node at one moment.
pub trait View: sealed::Sealed + Sized + Send + 'static {
    /// The node as it is now.
    #[doc(hidden)]
    fn of(node: &Node, now: Instant) -> Self;
}

mod sealed {
    /// Nobody else gets to see a node: further things to see become views here.
    pub trait Sealed {}
    impl Sealed for super::Snapshot {}
    impl Sealed for super::TableView {}
    impl Sealed for super::Lookups {}
    impl Sealed for super::EstimateView {}
}

/// A node at one moment. Serialised, the fields of its v1 overlay lie beside the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "SnapshotForm", into = "SnapshotForm")]
pub struct Snapshot {
    /// Time since it began.
    pub uptime: Duration,
    /// What it is in each of its networks, by their dialect; v1's is always there.
    pub overlays: BTreeMap<Dialect, OverlaySnapshot>,
    /// Counters since the node began.
    pub counters: Counters,
}

/// What a node is in one network, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlaySnapshot {
    /// Its id.
    pub id: Id,
    /// Live contacts in the routing table.
    pub contacts: usize,
    /// Estimated number of nodes in the network, this one included.
    pub estimate: f64,
    /// What is kept here.
    pub stored: StoredCounts,
    /// Operations under way.
    pub operations: usize,
}

impl Snapshot {
    /// What the node is in the network of v1.
    pub fn v1(&self) -> &OverlaySnapshot {
        &self.overlays[&Dialect::V1]
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Snapshot")]
struct SnapshotForm {
    id: Id,
    #[serde(with = "seconds")]
    uptime: Duration,
    contacts: usize,
    estimate: f64,
    stored: StoredCounts,
    #[serde(rename = "lookups")]
    operations: usize,
    counters: Counters,
}

impl From<Snapshot> for SnapshotForm {
    fn from(snapshot: Snapshot) -> SnapshotForm {
        let OverlaySnapshot { id, contacts, estimate, stored, operations } = *snapshot.v1();
        let Snapshot { uptime, counters, .. } = snapshot;
        SnapshotForm { id, uptime, contacts, estimate, stored, operations, counters }
    }
}

impl From<SnapshotForm> for Snapshot {
    fn from(form: SnapshotForm) -> Snapshot {
        let SnapshotForm { id, uptime, contacts, estimate, stored, operations, counters } = form;
        let v1 = OverlaySnapshot { id, contacts, estimate, stored, operations };
        Snapshot { uptime, overlays: BTreeMap::from([(Dialect::V1, v1)]), counters }
    }
}

/// What a node keeps for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCounts {
    /// Keys under which values are kept.
    pub keys: usize,
    /// Values, copies counted one by one.
    pub values: usize,
    /// Memory for these values, in bytes.
    pub bytes: usize,
}

/// A node as it tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Where it receives datagrams.
    #[serde(with = "crate::serial::text")]
    pub address: IpAddr,
    /// The same, its UDP port.
    pub port: u16,
    /// The rest.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Its state on disk, if it keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateView>,
}

impl NodeView {
    /// A view of the node that others know as `own`.
    pub fn of(own: Contact, snapshot: Snapshot, state: Option<StateView>) -> NodeView {
        NodeView { address: own.address.ip(), port: own.address.port(), snapshot, state }
    }
}

/// How a node's state on disk fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateView {
    /// The folder.
    pub folder: String,
    /// Time since something was written last.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_seconds")]
    pub written: Option<Duration>,
    /// Why nothing is written at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

mod maybe_seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Duration, seconds};

    #[derive(Serialize, Deserialize)]
    struct Form(#[serde(with = "seconds")] Duration);

    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        span.map(Form).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Form>::deserialize(deserializer)?.map(|Form(span)| span))
    }
}

/// A routing table at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableView {
    /// The node's id.
    pub id: Id,
    /// Contacts that a bucket has room for.
    pub k: usize,
    /// Its buckets, the farthest first.
    pub buckets: Vec<BucketSnapshot>,
}

impl TableView {
    /// All contacts, the farthest bucket first.
    pub fn into_contacts(self) -> Vec<ContactSnapshot> {
        self.buckets.into_iter().flat_map(|bucket| bucket.contacts).collect()
    }
}

/// A bucket of the routing table at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BucketSnapshot {
    /// Leading bits that its contacts share with the own id; in the last bucket they may share more.
    pub prefix_bits: usize,
    /// Whether it holds the range of the own id.
    pub is_last: bool,
    /// Its contacts, the least recently seen first.
    pub contacts: Vec<ContactSnapshot>,
    /// Contacts that it has room for.
    pub room: usize,
    /// Contacts that wait for a place, the most recently seen last.
    pub replacements: Vec<Contact>,
    /// Time since something was last looked up in its range.
    #[serde(with = "seconds")]
    pub idle: Duration,
}

/// A contact of the routing table at one moment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ContactSnapshot {
    /// The contact.
    #[serde(flatten)]
    pub contact: Contact,
    /// Smoothed round trip.
    #[serde(default)]
    pub rtt: Option<Duration>,
    /// Time since it last sent something.
    #[serde(rename = "seen", with = "seconds")]
    pub last_seen: Duration,
    /// Requests in a row that it left unanswered.
    pub failures: u32,
    /// Whether it is taken for dead.
    pub stale: bool,
}

/// If this were derived, flattening the contact would lose the name by which the shell recognises
/// it.
impl Serialize for ContactSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Seconds(#[serde(with = "seconds")] Duration);

        let ContactSnapshot { contact, rtt, last_seen, failures, stale } = self;
        let mut known = serializer.serialize_struct("known", 7)?;
        known.serialize_field("address", &Text(contact.address.ip()))?;
        known.serialize_field("port", &contact.address.port())?;
        known.serialize_field("id", &contact.id)?;
        match rtt {
            Some(rtt) => known.serialize_field("rtt", rtt)?,
            None => known.skip_field("rtt")?,
        }
        known.serialize_field("seen", &Seconds(*last_seen))?;
        known.serialize_field("failures", failures)?;
        known.serialize_field("stale", stale)?;
        known.end()
    }
}

struct Text(IpAddr);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl View for Snapshot {
    fn of(node: &Node, now: Instant) -> Snapshot {
        let overlay = |overlay: &Overlay| (overlay.dialect(), OverlaySnapshot::of(overlay));
        Snapshot {
            uptime: now.since(node.started()),
            overlays: node.overlays().iter().map(overlay).collect(),
            counters: node.counters(),
        }
    }
}

impl OverlaySnapshot {
    fn of(overlay: &Overlay) -> OverlaySnapshot {
        let store = overlay.store();
        OverlaySnapshot {
            id: overlay.id(),
            contacts: overlay.table().len(),
            estimate: overlay.estimate().nodes,
            stored: StoredCounts {
                keys: store.key_count(),
                values: store.value_count(),
                bytes: store.bytes(),
            },
            operations: overlay.operation_count(),
        }
    }
}

impl View for TableView {
    fn of(node: &Node, now: Instant) -> TableView {
        let buckets = node.table().buckets().iter().enumerate();
        let bucket = |(prefix_bits, _)| BucketSnapshot::of(node.table(), prefix_bits, now);
        TableView { id: node.id(), k: node.policy().k, buckets: buckets.map(bucket).collect() }
    }
}

impl BucketSnapshot {
    fn of(table: &Table, prefix_bits: usize, now: Instant) -> BucketSnapshot {
        let bucket = &table.buckets()[prefix_bits];
        let contact = |entry: &Entry| ContactSnapshot {
            contact: entry.contact,
            rtt: entry.rtt,
            last_seen: now.since(entry.last_seen),
            failures: entry.failures.into(),
            stale: entry.stale,
        };
        BucketSnapshot {
            prefix_bits,
            is_last: prefix_bits + 1 == table.buckets().len(),
            room: table.room(prefix_bits),
            contacts: bucket.by_age().into_iter().map(contact).collect(),
            replacements: bucket.replacements().iter().copied().collect(),
            idle: now.since(bucket.touched()),
        }
    }
}

/// The values that a node keeps itself under a key.
pub(crate) fn kept(node: &Node, key: &Id) -> Vec<Value> {
    node.store().values(key).into_iter().flatten().cloned().collect()
}

/// The last lookups of a node, and when they were asked for.
#[derive(Clone, Debug)]
pub struct Lookups {
    records: Vec<LookupRecord>,
    now: Instant,
}

impl View for Lookups {
    fn of(node: &Node, now: Instant) -> Lookups {
        Lookups { records: node.records().cloned().collect(), now }
    }
}

impl Lookups {
    /// Their views, the latest first, at the node that others know as `own`.
    pub fn into_views(self, own: Contact) -> Vec<LookupView> {
        let view = |record: LookupRecord| {
            let ago = Some(self.now.since(record.ended));
            LookupView { ago, ..LookupView::of(record, own) }
        };
        self.records.into_iter().rev().map(view).collect()
    }
}

/// What something cost the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// How long it took.
    pub ms: Duration,
    /// How many introductions away from the own routing table it got.
    pub hops: u32,
    /// How many times it had to wait for answers before it could ask on.
    pub rounds: u32,
    /// Datagrams sent and received.
    pub messages: usize,
    /// Bytes of the datagrams sent.
    pub bytes_sent: usize,
    /// Bytes of the datagrams received.
    pub bytes_received: usize,
}

/// The story of a lookup, for those who do not know the node's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupView {
    /// How it went, its values taken out.
    #[serde(flatten)]
    pub record: LookupRecord,
    /// What it cost.
    #[serde(flatten)]
    pub costs: Costs,
    /// What was found, if values were looked for. Each value has a holder; that is the node itself for
    /// a value of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Found>>,
    /// How many more values there are than were found, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<usize>,
    /// Time since it ended, where it was asked for later.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_seconds")]
    pub ago: Option<Duration>,
}

impl LookupView {
    /// The view of a lookup at the node that others know as `own`.
    pub fn of(mut record: LookupRecord, own: Contact) -> LookupView {
        record.values.iter_mut().for_each(|found| _ = found.holder.get_or_insert(own));
        let costs = Costs {
            ms: record.duration(),
            hops: record.hops(),
            rounds: record.rounds(),
            messages: record.messages(),
            bytes_sent: record.bytes_sent(),
            bytes_received: record.bytes_received(),
        };
        let is_for_values = matches!(record.goal, Goal::Value { .. });
        let more = is_for_values.then(|| record.more());
        let found = std::mem::take(&mut record.values);
        LookupView { costs, values: is_for_values.then_some(found), more, ago: None, record }
    }
}

/// How a store went, for those who do not know the node's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoreView {
    /// How it went.
    #[serde(flatten)]
    pub report: StoreReport,
    /// What it cost, the lookup included.
    #[serde(flatten)]
    pub costs: Costs,
    /// Holders whose addresses anybody can reach.
    pub public: usize,
    /// Subnets in which these lie.
    pub subnets: usize,
    /// Whether few owners may hold them all.
    pub few_subnets: bool,
}

impl StoreView {
    /// Of a store.
    pub fn of(report: StoreReport) -> StoreView {
        let spread = report.spread();
        let costs = Costs {
            ms: report.duration(),
            hops: report.lookup.hops(),
            rounds: report.lookup.rounds(),
            messages: report.messages(),
            bytes_sent: report.bytes_sent(),
            bytes_received: report.bytes_received(),
        };
        let (public, subnets) = (spread.global, spread.subnets);
        StoreView { costs, public, subnets, few_subnets: spread.is_narrow(), report }
    }
}

/// How a route went, for those who do not know the node's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteView {
    /// How it went.
    #[serde(flatten)]
    pub report: RouteReport,
    /// Whether it found what it was sent for.
    pub found: bool,
    /// How long it took.
    pub ms: Duration,
    /// How often the attempt that found it was handed on, as far as it is known.
    pub hops: u32,
    /// Datagrams, as far as they are known, those of a lookup among them.
    pub messages: usize,
}

impl RouteView {
    /// Of a route.
    pub fn of(report: RouteReport) -> RouteView {
        RouteView {
            found: report.has_found(),
            ms: report.duration(),
            hops: report.hops(),
            messages: report.messages(),
            report,
        }
    }
}

/// How large a node takes its network to be, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EstimateView {
    /// Nodes in the network, the own one included.
    pub nodes: f64,
    /// The standard error of that.
    pub error: f64,
    /// Nodes that were counted for it.
    pub counted: u64,
    /// Live contacts in the routing table.
    pub contacts: usize,
    /// What the samples are of: "lookups" or "routing table".
    pub from: String,
    /// What was counted.
    pub samples: Vec<SampleView>,
}

/// The nodes nearest to one point, and the size of the network estimated from these alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleView {
    /// The point.
    pub target: Id,
    /// Nodes in the network, by this one alone.
    pub nodes: f64,
    /// How far they lie from there, as shares of the id space.
    pub distances: Vec<f64>,
}

impl View for EstimateView {
    fn of(node: &Node, _: Instant) -> EstimateView {
        let estimate = node.estimate();
        let samples: Vec<_> = estimate.samples().map(SampleView::by_lookup).collect();
        let (samples, from) = match samples.is_empty() {
            true => (vec![SampleView::by_table(node)], "routing table"),
            false => (samples, "lookups"),
        };
        EstimateView {
            nodes: estimate.nodes,
            error: estimate.error(),
            counted: estimate.counted as u64,
            contacts: node.table().len(),
            from: from.to_owned(),
            samples,
        }
    }
}

impl SampleView {
    fn by_lookup(sample: &Sample) -> SampleView {
        let distances = sample.distances.clone();
        SampleView { target: sample.target, nodes: sample.nodes(), distances }
    }

    fn by_table(node: &Node) -> SampleView {
        let target = node.id();
        let (known, _) = node.table().known_neighbourhood();
        let distance = |entry: &Entry| target.distance(&entry.contact.id).fraction();
        let mut distances: Vec<f64> = known.map(distance).collect();
        distances.sort_unstable_by(f64::total_cmp);
        SampleView { target, nodes: node.estimate().nodes, distances }
    }
}

/// A setting of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingView {
    /// Its name.
    pub name: String,
    /// The value that the node runs with.
    pub value: NumberView,
    /// Its value if nobody sets it.
    pub default: NumberView,
    /// What it is counted in.
    pub unit: String,
    /// What it may be.
    pub takes: String,
    /// What it means.
    pub meaning: String,
    /// Where the default comes from.
    pub source: String,
}

/// A number; a number of things has no fraction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NumberView {
    /// A number of things.
    Count(i64),
    /// Any other number.
    Measure(f64),
}

impl SettingView {
    /// All settings of a node.
    pub fn all(config: &Config) -> Vec<SettingView> {
        let view = |setting: &Setting| {
            let number = |value| match setting.range {
                Range::Count(..) | Range::Flag => NumberView::Count(value as i64),
                Range::Seconds | Range::SecondsOrNever => NumberView::Measure(value),
            };
            SettingView {
                name: setting.name.to_owned(),
                value: number(setting.value(config)),
                default: number(setting.default_value()),
                unit: setting.range.unit().to_owned(),
                takes: setting.range.to_string(),
                meaning: setting.doc.trim().to_owned(),
                source: setting.source.to_owned(),
            }
        };
        SETTINGS.iter().map(view).collect()
    }
}

/// The values from which the fast path answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheView {
    /// Keys whose values are in it.
    pub keys: usize,
    /// Bytes that these take in answers.
    pub bytes: usize,
    /// Findvalues that were answered from it.
    pub hits: u64,
    /// Findvalues that might have been, had it had their values.
    pub misses: u64,
}

/// The fast path in the kernel. Without one there are `attached` and `reason` alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FastPathView {
    /// Whether there is one.
    pub attached: bool,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How packets are met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether the kernel answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answering: Option<bool>,
    /// Seconds since the node gave a sign of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<f64>,
    /// Contacts mirrored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<usize>,
    /// The cache of values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<CacheView>,
    /// Share of the requests that were answered in the kernel, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Nanoseconds that a run of the program takes, where the kernel measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<u64>,
    /// What is done with packets, and how many of each kind.
    #[serde(flatten)]
    pub tallies: BTreeMap<String, BTreeMap<String, u64>>,
}
