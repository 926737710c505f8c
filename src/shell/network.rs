//! The functions that ask the network or look at the node.

use std::net::SocketAddr;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value as LuaValue};

use crate::control::{BucketSnapshot, ContactSnapshot, Snapshot};
use crate::id::Id;
use crate::kad::estimate::Sample;
use crate::kad::lookup::{Cause, End, Found, Goal, LookupRecord, Outcome, Query};
use crate::kad::routing::Entry;
use crate::message::{Contact, StoreMode};
use crate::node::{Counters, Delivery, Node, Peer, StoreReport};
use crate::time::{Duration, Instant};
use crate::xdp;

use super::arguments::{Arguments, Complaint};
use super::convert;
use super::functions::{Context, Functions, Shapes, Trouble};

/// Nodes with values after which a search may be told to end: all holders of a value, were each
/// of k = 20 to keep copies in five places.
pub(crate) const MAX_NODES_MAX: usize = 100;

/// Values asked of one node: more than any node keeps under a key by default.
pub(crate) const MAX_ENTRIES_MAX: usize = 1_000;

type Shared = Rc<Context>;

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add_async("add", |context, lua, arguments| {
        store(context, lua, arguments, StoreMode::Add)
    })?;
    functions.add_async("put", |context, lua, arguments| {
        store(context, lua, arguments, StoreMode::Replace)
    })?;
    functions.add_async("findvalue", find_value)?;
    functions.add_async("findnode", find_node)?;
    functions.add_async("ping", ping)?;
    functions.add_async("getsocket", get_socket)?;
    functions.add_async("bootstrap", bootstrap)?;
    functions.add_async("call", call)?;
    functions.add_async("contacts", contacts)?;
    functions.add_async("routing", routing)?;
    functions.add_async("node", node)?;
    functions.add_async("lookups", lookups)?;
    functions.add_async("estimate", estimate)?;
    functions.add("xdp", fast_path)
}

async fn store(
    context: Shared,
    lua: Lua,
    mut arguments: Arguments,
    mode: StoreMode,
) -> Result<Table, Trouble> {
    let (key, value) = (arguments.id("key")?, arguments.encodable("value")?);
    let report = context.handle().store(key, value, mode).await;
    let report = report.map_err(|error| arguments.complaint(error))?;
    Ok(context.tables(&lua).store_report(&report)?)
}

async fn find_value(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let key = arguments.id("key")?;
    let max_nodes = arguments.count("maxnodes", 3, MAX_NODES_MAX)?;
    let max_entries = arguments.count_or_all("maxentries", 6, MAX_ENTRIES_MAX)?;
    let record = context.handle().find_value(key, max_nodes, max_entries).await;
    let record = record.map_err(|error| arguments.complaint(error))?;
    Ok(context.tables(&lua).values(&record)?)
}

async fn find_node(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let record = context.handle().find_node(arguments.id("id")?).await;
    let record = record.map_err(|error| arguments.complaint(error))?;
    Ok(context.tables(&lua).record(&record)?)
}

async fn ping(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let peer = other(&context, &mut arguments)?;
    let rtt = context.handle().ping(peer).await;
    let rtt = rtt.map_err(|error| of_peer(&arguments, peer, error))?;
    Ok(context.tables(&lua).ping(peer, rtt)?)
}

async fn get_socket(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let peer = other(&context, &mut arguments)?;
    let asked = std::time::Instant::now();
    let seen = context.handle().get_socket(peer).await;
    let seen = seen.map_err(|error| of_peer(&arguments, peer, error))?;
    let tables = context.tables(&lua);
    let table = tables.address(seen)?;
    table.raw_set("who", tables.peer(peer)?)?;
    table.raw_set("ms", asked.elapsed().as_secs_f64() * 1e3)?;
    Ok(table)
}

async fn call(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<MultiValue, Trouble> {
    let (peer, name) = (other(&context, &mut arguments)?, arguments.string("name")?);
    let values = arguments.encodable_rest()?;
    let returned = context.handle().call(peer, &name, values).await;
    let returned = returned.map_err(|error| of_peer(&arguments, peer, error))?;
    let decode = |value: &crate::bencode::Value| convert::decode(&lua, value.item());
    Ok(returned.iter().map(decode).collect::<mlua::Result<_>>()?)
}

async fn bootstrap(context: Shared, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let mut addresses = Vec::new();
    for endpoint in arguments.endpoints("contact")? {
        let resolved = endpoint.resolve().await;
        let unknown = |error| format!("the host name of '{endpoint}' does not resolve: {error}");
        addresses.extend(resolved.map_err(|error| arguments.complaint(unknown(error)))?);
    }
    let joined = context.handle().bootstrap(addresses).await;
    let joined = joined.map_err(|error| arguments.complaint(error))?;
    let tables = context.tables(&lua);
    let table = lua.create_table()?;
    table.raw_set("answered", joined.answered)?;
    table.raw_set(
        "silent",
        tables.list(&joined.silent, |tables, &address| tables.address(address))?,
    )?;
    Ok(table)
}

async fn contacts(context: Shared, lua: Lua, arguments: Arguments) -> Result<Table, Trouble> {
    let snapshot = snapshot(&context, &arguments).await?;
    Ok(context.tables(&lua).contacts(&snapshot)?)
}

async fn routing(context: Shared, lua: Lua, arguments: Arguments) -> Result<Table, Trouble> {
    let snapshot = snapshot(&context, &arguments).await?;
    Ok(context.tables(&lua).routing(&snapshot)?)
}

async fn node(context: Shared, lua: Lua, arguments: Arguments) -> Result<Table, Trouble> {
    let snapshot = snapshot(&context, &arguments).await?;
    let table = context.tables(&lua).node(&snapshot)?;
    if let Some(status) = context.handle().state() {
        let state = lua.create_table()?;
        state.raw_set("folder", status.folder.display().to_string())?;
        state.raw_set("written", status.written.map(|at| at.elapsed().as_secs_f64()))?;
        state.raw_set("problem", status.problem)?;
        table.raw_set("state", state)?;
    }
    Ok(table)
}

async fn lookups(context: Shared, lua: Lua, arguments: Arguments) -> Result<Table, Trouble> {
    let lookups = context.handle().look(Lookups::of).await;
    let lookups = lookups.map_err(|error| arguments.complaint(error))?;
    Ok(context.tables(&lua).lookups(&lookups)?)
}

/// The last lookups of a node, and when they were asked for.
pub(crate) struct Lookups {
    records: Vec<LookupRecord>,
    now: Instant,
}

impl Lookups {
    pub(crate) fn of(node: &Node, now: Instant) -> Lookups {
        Lookups { records: node.records().cloned().collect(), now }
    }
}

async fn estimate(context: Shared, lua: Lua, arguments: Arguments) -> Result<Table, Trouble> {
    let seen = context.handle().look(|node, _| Seen::of(node)).await;
    let seen = seen.map_err(|error| arguments.complaint(error))?;
    Ok(context.tables(&lua).estimate(&seen)?)
}

/// A node's [`Estimate`](crate::kad::estimate::Estimate), taken along.
pub(crate) struct Seen {
    nodes: f64,
    error: f64,
    counted: f64,
    contacts: usize,
    /// Of lookups, or else of the routing table.
    samples: Vec<Counted>,
    from: &'static str,
}

/// The nodes nearest to one point, and how many there are by these alone.
struct Counted {
    target: Id,
    nodes: f64,
    distances: Vec<f64>,
}

impl Seen {
    pub(crate) fn of(node: &Node) -> Seen {
        let estimate = node.estimate();
        let samples: Vec<Counted> = estimate.samples().map(Counted::by_lookup).collect();
        let (samples, from) = match samples.is_empty() {
            true => (vec![Counted::by_table(node)], "routing table"),
            false => (samples, "lookups"),
        };
        Seen {
            nodes: estimate.nodes,
            error: estimate.error(),
            counted: estimate.counted,
            contacts: node.table().len(),
            samples,
            from,
        }
    }
}

impl Counted {
    fn by_lookup(sample: &Sample) -> Counted {
        let distances = sample.distances.clone();
        Counted { target: sample.target, nodes: sample.nodes(), distances }
    }

    fn by_table(node: &Node) -> Counted {
        let target = node.id();
        let (known, _) = node.table().known_neighbourhood();
        let distance = |entry: &Entry| target.distance(&entry.contact.id).fraction();
        let mut distances: Vec<f64> = known.map(distance).collect();
        distances.sort_unstable_by(f64::total_cmp);
        Counted { target, nodes: node.estimate().nodes, distances }
    }
}

fn fast_path(context: &Context, lua: &Lua, arguments: Arguments) -> Result<Table, Trouble> {
    let table = lua.create_table()?;
    let status = match context.handle().fast_path() {
        None => Err("no fast path is looked for: this node was started without --xdp".to_owned()),
        Some(place) => match xdp::status(place) {
            Ok(status) if status.is_gone => Err(format!(
                "{}, to which it was attached, is gone; attach it anew",
                status.interface
            )),
            Ok(status) => Ok(status),
            Err(error @ xdp::Error::NotAttached(_)) => Err(error.to_string()),
            Err(error) => return Err(arguments.complaint(error).into()),
        },
    };
    table.raw_set("attached", status.is_ok())?;
    match status {
        Ok(status) => put_status(lua, &table, &status)?,
        Err(reason) => table.raw_set("reason", reason)?,
    }
    Ok(table)
}

fn put_status(lua: &Lua, table: &Table, status: &xdp::Status) -> mlua::Result<()> {
    table.raw_set("interface", status.interface.as_str())?;
    table.raw_set("mode", status.mode.name())?;
    table.raw_set("answering", status.is_answering())?;
    table.raw_set("heartbeat", status.heartbeat.map(|age| age.as_secs_f64()))?;
    table.raw_set("contacts", status.contacts.iter().sum::<usize>())?;
    table.raw_set("share", status.share())?;
    table.raw_set("ns", status.run.map(|run| run.as_nanos() as u64))?;
    for (what, which, count) in status.tallies() {
        if !table.contains_key(what)? {
            table.raw_set(what, lua.create_table()?)?;
        }
        table.raw_get::<Table>(what)?.raw_set(which, count)?;
    }
    Ok(())
}

async fn snapshot(context: &Context, arguments: &Arguments) -> Result<Snapshot, Complaint> {
    context.handle().snapshot().await.map_err(|error| arguments.complaint(error))
}

/// A node to ask that is not this one.
fn other(context: &Context, arguments: &mut Arguments) -> Result<Peer, Complaint> {
    let peer = arguments.peer("contact")?;
    if peer.address == context.handle().local_addr() {
        return Err(of_peer(arguments, peer, "that is this node itself, which asks only others"));
    }
    Ok(peer)
}

fn of_peer(arguments: &Arguments, peer: Peer, error: impl std::fmt::Display) -> Complaint {
    arguments.complaint(format_args!("{}: {error}", peer.address))
}

/// A span in seconds, with its fraction.
fn seconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e6
}

/// Makes tables of the node's plain data.
pub(crate) struct Tables<'a> {
    pub(crate) lua: &'a Lua,
    pub(crate) shapes: &'a Shapes,
    /// The node whose data it is.
    pub(crate) own: Contact,
}

impl Tables<'_> {
    pub(crate) fn contact(&self, contact: &Contact) -> mlua::Result<Table> {
        let table = self.address(contact.address)?;
        table.raw_set("id", contact.id.to_string())?;
        Ok(table)
    }

    /// A search for values.
    pub(crate) fn values(&self, record: &LookupRecord) -> mlua::Result<Table> {
        let table = self.record(record)?;
        table.raw_set("values", self.list(&record.values, Tables::found)?)?;
        table.raw_set("more", record.more())?;
        Ok(table)
    }

    /// A ping that was answered.
    pub(crate) fn ping(&self, peer: Peer, rtt: Duration) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("who", self.peer(peer)?)?;
        table.raw_set("ms", rtt.as_millis_f64())?;
        Ok(table)
    }

    /// All contacts of a node.
    pub(crate) fn contacts(&self, snapshot: &Snapshot) -> mlua::Result<Table> {
        let known: Vec<_> = snapshot.buckets.iter().flat_map(|bucket| &bucket.contacts).collect();
        self.list(&known, |tables, known| tables.known(known))
    }

    /// The routing table of a node.
    pub(crate) fn routing(&self, snapshot: &Snapshot) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("id", snapshot.id.to_string())?;
        table.raw_set("k", snapshot.k)?;
        table.raw_set("buckets", self.list(&snapshot.buckets, Tables::bucket)?)?;
        Ok(table)
    }

    /// How large a node takes its network to be, and why.
    pub(crate) fn estimate(&self, seen: &Seen) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("nodes", seen.nodes)?;
        table.raw_set("error", seen.error)?;
        // A count, though it is computed with.
        table.raw_set("counted", seen.counted as u64)?;
        table.raw_set("contacts", seen.contacts)?;
        table.raw_set("from", seen.from)?;
        let sample = |tables: &Self, sample: &Counted| {
            let table = tables.lua.create_table()?;
            table.raw_set("target", sample.target.to_string())?;
            table.raw_set("nodes", sample.nodes)?;
            let distances = sample.distances.iter().copied();
            table.raw_set("distances", tables.lua.create_sequence_from(distances)?)?;
            Ok(table)
        };
        table.raw_set("samples", self.list(&seen.samples, sample)?)?;
        Ok(table)
    }

    pub(crate) fn address(&self, address: SocketAddr) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("address", address.ip().to_string())?;
        table.raw_set("port", address.port())?;
        table.set_metatable(Some(self.shapes.contact.clone()))?;
        Ok(table)
    }

    fn peer(&self, peer: Peer) -> mlua::Result<Table> {
        let table = self.address(peer.address)?;
        table.raw_set("id", peer.id.map(|id| id.to_string()))?;
        Ok(table)
    }

    pub(crate) fn list<T>(
        &self,
        items: &[T],
        make: impl Fn(&Self, &T) -> mlua::Result<Table>,
    ) -> mlua::Result<Table> {
        let list = self.lua.create_table_with_capacity(items.len(), 0)?;
        for (index, item) in items.iter().enumerate() {
            list.raw_set(index + 1, make(self, item)?)?;
        }
        Ok(list)
    }

    pub(crate) fn record(&self, record: &LookupRecord) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("call", call_name(record.goal))?;
        table.raw_set("target", record.goal.target().to_string())?;
        table.raw_set("cause", cause_name(record.cause))?;
        table.raw_set("ms", record.duration().as_millis_f64())?;
        table.raw_set("hops", record.hops())?;
        table.raw_set("rounds", record.rounds())?;
        table.raw_set("messages", record.messages())?;
        table.raw_set("bytes_sent", record.bytes_sent())?;
        table.raw_set("bytes_received", record.bytes_received())?;
        table.raw_set("ended", end_name(record.end))?;
        table.raw_set("nodes", self.list(&record.closest, Tables::contact)?)?;
        let query = |tables: &Self, query: &Query| tables.query(record, query);
        table.raw_set("queries", self.list(&record.queries, query)?)?;
        Ok(table)
    }

    /// The latest first.
    pub(crate) fn lookups(&self, lookups: &Lookups) -> mlua::Result<Table> {
        let latest_first: Vec<&LookupRecord> = lookups.records.iter().rev().collect();
        self.list(&latest_first, |tables, record| {
            let table = tables.values(record)?;
            table.raw_set("ago", seconds(lookups.now.since(record.ended)))?;
            table.set_metatable(Some(tables.shapes.trace.clone()))?;
            Ok(table)
        })
    }

    fn query(&self, record: &LookupRecord, query: &Query) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("who", self.contact(&query.contact)?)?;
        let by = query.introduced_by.as_ref().map(|by| self.contact(by)).transpose()?;
        table.raw_set("introduced_by", by)?;
        table.raw_set("path", query.path)?;
        table.raw_set("hop", query.hop)?;
        table.raw_set("round", query.round)?;
        table.raw_set("bytes_sent", query.bytes_sent)?;
        table.raw_set("bytes_received", query.bytes_received)?;
        table.raw_set("bits", record.goal.target().common_prefix(&query.contact.id))?;
        table.raw_set("sent", query.sent.since(record.started).as_millis_f64())?;
        let outcome = match query.outcome {
            Outcome::Pending => "pending",
            Outcome::TimedOut => "timed out",
            Outcome::Failed => "failed",
            Outcome::Answered { rtt, bits_before, bits_after, contacts, new, values, more } => {
                table.raw_set("ms", rtt.as_millis_f64())?;
                table.raw_set("bits_before", bits_before)?;
                table.raw_set("bits_after", bits_after)?;
                table.raw_set("contacts", contacts)?;
                table.raw_set("new", new)?;
                table.raw_set("values", values)?;
                table.raw_set("more", more)?;
                "answered"
            }
        };
        table.raw_set("outcome", outcome)?;
        Ok(table)
    }

    fn found(&self, found: &Found) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("value", convert::decode(self.lua, found.value.item())?)?;
        table.raw_set("who", self.contact(&found.holder.unwrap_or(self.own))?)?;
        table.raw_set("hops", found.hop)?;
        table.raw_set("ms", found.after.as_millis_f64())?;
        Ok(table)
    }

    pub(crate) fn store_report(&self, report: &StoreReport) -> mlua::Result<Table> {
        let table = self.record(&report.lookup)?;
        table.raw_set("stored", self.list(&report.stored, Tables::contact)?)?;
        table.raw_set("refused", self.list(&report.refused, Tables::refusal)?)?;
        table.raw_set("silent", self.list(&report.silent, Tables::contact)?)?;
        let delivery = |tables: &Self, delivery: &Delivery| tables.delivery(report, delivery);
        table.raw_set("deliveries", self.list(&report.deliveries, delivery)?)?;
        table.raw_set("messages", report.messages())?;
        table.raw_set("bytes_sent", report.bytes_sent())?;
        table.raw_set("bytes_received", report.bytes_received())?;
        table.raw_set("kept_here", report.kept_here)?;
        let spread = report.spread();
        table.raw_set("public", spread.global)?;
        table.raw_set("subnets", spread.subnets)?;
        table.raw_set("few_subnets", spread.is_narrow())?;
        table.raw_set("ms", report.ended.since(report.started).as_millis_f64())?;
        Ok(table)
    }

    fn delivery(&self, report: &StoreReport, delivery: &Delivery) -> mlua::Result<Table> {
        let Delivery { contact, sent, attempts, bytes_sent, answers, bytes_received, took } =
            delivery;
        let table = self.lua.create_table()?;
        table.raw_set("who", self.contact(contact)?)?;
        table.raw_set("sent", sent.since(report.started).as_millis_f64())?;
        table.raw_set("tries", *attempts)?;
        table.raw_set("answers", *answers)?;
        table.raw_set("ms", took.as_millis_f64())?;
        table.raw_set("bytes_sent", *bytes_sent)?;
        table.raw_set("bytes_received", *bytes_received)?;
        let refused = report.refused.iter().find(|(who, _)| who == contact);
        let outcome = match refused {
            Some(_) => "refused",
            None if report.stored.contains(contact) => "stored",
            None => "timed out",
        };
        table.raw_set("outcome", outcome)?;
        table.raw_set("reason", refused.map(|(_, reason)| reason.as_str()))?;
        Ok(table)
    }

    fn refusal(&self, (who, reason): &(Contact, String)) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("who", self.contact(who)?)?;
        table.raw_set("reason", reason.as_str())?;
        Ok(table)
    }

    fn known(&self, known: &ContactSnapshot) -> mlua::Result<Table> {
        let table = self.contact(&known.contact)?;
        table.raw_set("rtt", known.rtt.map(Duration::as_millis_f64))?;
        table.raw_set("seen", seconds(known.last_seen))?;
        table.raw_set("failures", known.failures)?;
        table.set_metatable(Some(self.shapes.known.clone()))?;
        Ok(table)
    }

    fn bucket(&self, bucket: &BucketSnapshot) -> mlua::Result<Table> {
        let table = self.lua.create_table()?;
        table.raw_set("prefix_bits", bucket.prefix_bits)?;
        table.raw_set("is_last", bucket.is_last)?;
        table.raw_set("room", bucket.room)?;
        table.raw_set("contacts", self.list(&bucket.contacts, Tables::known)?)?;
        table.raw_set("replacements", self.list(&bucket.replacements, Tables::contact)?)?;
        table.raw_set("idle", seconds(bucket.idle))?;
        Ok(table)
    }

    pub(crate) fn node(&self, snapshot: &Snapshot) -> mlua::Result<Table> {
        let table = self.address(self.own.address)?;
        table.raw_set("id", snapshot.id.to_string())?;
        table.raw_set("uptime", seconds(snapshot.uptime))?;
        table.raw_set("estimate", snapshot.estimate)?;
        table.raw_set("contacts", snapshot.contacts)?;
        table.raw_set("lookups", snapshot.operations)?;
        let stored = self.lua.create_table()?;
        stored.raw_set("keys", snapshot.stored_keys)?;
        stored.raw_set("values", snapshot.stored_values)?;
        stored.raw_set("bytes", snapshot.stored_bytes)?;
        table.raw_set("stored", stored)?;
        table.raw_set("counters", self.counters(&snapshot.counters)?)?;
        Ok(table)
    }

    fn counters(&self, counters: &Counters) -> mlua::Result<Table> {
        let Counters {
            datagrams_in,
            datagrams_out,
            bytes_in,
            bytes_out,
            requests,
            refused,
            dropped,
            limited,
            timeouts,
            stored,
            handed_over,
        } = *counters;
        self.lua.create_table_from([
            ("datagrams_in", datagrams_in),
            ("datagrams_out", datagrams_out),
            ("bytes_in", bytes_in),
            ("bytes_out", bytes_out),
            ("requests", requests),
            ("refused", refused),
            ("dropped", dropped),
            ("limited", limited),
            ("timeouts", timeouts),
            ("stored", stored),
            ("handed_over", handed_over),
        ])
    }
}

/// The function that searches for such.
fn call_name(goal: Goal) -> &'static str {
    match goal {
        Goal::Node { .. } => "findnode",
        Goal::Value { .. } => "findvalue",
    }
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Search => "search",
        Cause::Store => "store",
        Cause::Replicate => "pass on",
        Cause::Join => "join",
        Cause::Refresh => "refresh",
    }
}

fn end_name(end: End) -> &'static str {
    match end {
        End::Running => "running",
        End::Converged => "converged",
        End::EnoughValues => "enough values",
        End::NoContacts => "no contacts",
        End::TooManyQueries => "too many queries",
        End::Overloaded => "overloaded",
    }
}

/// What a registered function returned, as values to send; `nil` alone is nothing.
pub(crate) fn returned(values: &MultiValue) -> Result<Vec<crate::bencode::Value>, Complaint> {
    if values.len() == 1 && values[0].is_nil() {
        return Ok(Vec::new());
    }
    let encode = |(index, value): (usize, &LuaValue)| {
        convert::encode(&format!("result {}", index + 1), value)
    };
    let encoded: Result<_, _> = values.iter().enumerate().map(encode).collect();
    encoded.map_err(|error| Complaint::new("rpc", error))
}
