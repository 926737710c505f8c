//! Simulated networks inside the shell: `net`, and the methods of the networks that it returns.
//!
//! The same nodes on virtual time (see [`crate::sim`]). Long work is done in slices, between which
//! other coroutines and Ctrl-C have their turn. Nodes are numbered from 1 here, as Lua counts.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use mlua::{AnyUserData, Lua, Table, UserData, Value as LuaValue};

use crate::config::{self, Config, Setting};
use crate::control::{
    Answer, Ask, Code, Command, FastPathView, Look, Lookups, NodeView, Problem, Reply, SettingView,
    Snapshot, TableView, View, kept,
};
use crate::message::{Contact, Request, TransactionId};
use crate::node::Node;
use crate::sim::{Addresses, Finished, Lie, Network, NetworkSettings, NodeIndex, Prefix, Settling};
use crate::time::{Duration, Instant};
use crate::wire::{Dialect, Header, emit};

use super::arguments::{Arguments, Complaint};
use super::functions::{Context, Functions, Trouble};
use super::host::not_simulated;
use super::progress::Progress;
use super::suggest::did_you_mean;

/// Simulated nodes at once, in all networks that a program holds: some 300 MB while they sleep.
const NODES_MAX: usize = 1_000_000;

/// Nodes of these that something has touched, each with a table and what it has learnt: some 7 GB.
const AWAKE_MAX: usize = 100_000;

/// Steps in a row before other coroutines have their turn: a few milliseconds.
const SLICE: usize = 2_000;

/// Virtual time between nodes that join together.
const JOIN_EVERY: Duration = Duration::from_millis(50);

/// The longest delay of a datagram, in ms: a minute is longer than any node waits.
const LATENCY_MS_MAX: f64 = 60_000.0;

/// A network, as Lua holds it.
#[derive(Clone)]
struct Simulated(Rc<Held>);

struct Held {
    network: RefCell<Network>,
    /// All networks together, this one among them.
    total: Rc<Census>,
    own: Census,
}

/// How many nodes there are.
#[derive(Default)]
struct Census {
    nodes: Cell<usize>,
    /// Those that something has touched.
    awake: Cell<usize>,
}

impl UserData for Simulated {}

impl Drop for Held {
    fn drop(&mut self) {
        let Census { nodes, awake } = &*self.total;
        nodes.set(nodes.get() - self.own.nodes.get());
        awake.set(awake.get() - self.own.awake.get());
    }
}

/// Adds `net`, which makes a network.
pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    let total = Rc::new(Census::default());
    functions.add_async("net", "{nodes = 100}", move |_, lua, arguments| {
        make(lua, arguments, total.clone())
    })
}

/// Adds the methods of a network. The first argument of each is the network.
pub(crate) fn add_methods_to(methods: &Functions) -> mlua::Result<()> {
    methods.add_async("n:run", "60", run)?;
    methods.add_async("n:join", "1", join)?;
    methods.add("n:kill", "0.3", kill)?;
    methods.add("n:partition", "{0.5}", partition)?;
    methods.add("n:heal", "", |_, _, mut arguments| {
        Simulated::of(&mut arguments)?.0.network.borrow_mut().heal();
        Ok(())
    })?;
    methods.add("n:loss", "0.2", loss)?;
    methods.add("n:lie", "0.2", lie)?;
    methods.add("n:spoof", "1, sha1(\"key\")", spoof)?;
    methods.add("n:alive", "", |_, lua, mut arguments| {
        let simulated = Simulated::of(&mut arguments)?;
        let alive = simulated.0.network.borrow().alive().map(number).collect::<Vec<_>>();
        Ok(lua.create_sequence_from(alive)?)
    })?;
    methods.add("n:random", "", |_, _, mut arguments| {
        let random = Simulated::of(&mut arguments)?.0.network.borrow_mut().random_alive();
        random.map(number).ok_or_else(|| arguments.complaint("no node is alive").into())
    })?;
    methods.add("n:holders", "sha1(\"key\")", holders)?;
    methods.add("n:stats", "", stats)
}

impl Simulated {
    /// The network of a method.
    fn of(arguments: &mut Arguments) -> Result<Simulated, Complaint> {
        let value = arguments.any();
        let network = value.as_userdata().and_then(|data| data.borrow::<Simulated>().ok());
        network.map(|network| network.clone()).ok_or_else(|| {
            let advice = format!(". Try {}(…) with n = net{{nodes = 100}}", arguments.usage());
            arguments.wrong("network", "what net returned", &value, &advice)
        })
    }

    /// The network and one of its nodes, alive.
    fn with_node(arguments: &mut Arguments) -> Result<(Simulated, NodeIndex), Complaint> {
        let simulated = Simulated::of(arguments)?;
        let count = simulated.0.network.borrow().len();
        let value = arguments.any();
        let index = index_of(&value, count).ok_or_else(|| {
            arguments.wrong("node", &format!("a whole number from 1 to {count}"), &value, "")
        })?;
        if !simulated.0.network.borrow().is_alive(index) {
            let dead = format_args!("node {} is dead; n:alive() lists the others", number(index));
            return Err(arguments.complaint(dead));
        }
        Ok((simulated, index))
    }

    /// Makes room for more nodes.
    fn grow(&self, nodes: usize) -> Result<(), String> {
        let Held { total, own, network } = &*self.0;
        let count = total.nodes.get() + nodes;
        if count > NODES_MAX {
            return Err(format!(
                "at most {NODES_MAX} simulated nodes fit, all networks together, got {count}"
            ));
        }
        // Those begin awake, each with timers of its own.
        let begin_awake = if network.borrow().settings().has_vigil { nodes } else { 0 };
        if total.awake.get() + begin_awake > AWAKE_MAX {
            return Err(format!(
                "at most {AWAKE_MAX} simulated nodes fit that check their contacts, all networks \
                 together, got {nodes} more"
            ));
        }
        total.nodes.set(count);
        own.nodes.set(own.nodes.get() + nodes);
        Ok(())
    }

    /// Makes sure that the nodes fit which something has touched.
    fn check_awake(&self) -> Result<(), Problem> {
        let Held { total, own, network } = &*self.0;
        let awake = network.borrow().awake();
        total.awake.set(total.awake.get() - own.awake.replace(awake) + awake);
        if total.awake.get() <= AWAKE_MAX {
            return Ok(());
        }
        Err(Problem::new(
            Code::Busy,
            format_args!(
                "something has reached more than {AWAKE_MAX} simulated nodes, all networks together, \
                 and no more fit. Within an hour of virtual time each node is reached: take smaller \
                 networks for that"
            ),
        ))
    }

    /// Lets virtual time pass, and tells how much of it has.
    async fn pass(&self, span: Duration, told: impl Fn(Duration)) -> Result<(), Problem> {
        let began = self.0.network.borrow().now();
        let until = began + span;
        loop {
            self.check_awake()?;
            if self.0.network.borrow_mut().advance(until, SLICE) {
                return Ok(());
            }
            told(self.0.network.borrow().now().since(began));
            tokio::task::yield_now().await;
        }
    }
}

/// One of the nodes of a simulated network.
#[derive(Clone)]
pub(crate) struct SimulatedNode {
    network: Simulated,
    index: NodeIndex,
}

impl SimulatedNode {
    /// The node that a number means to a method of a network.
    pub(crate) fn of(arguments: &mut Arguments) -> Result<SimulatedNode, Complaint> {
        let (network, index) = Simulated::with_node(arguments)?;
        Ok(SimulatedNode { network, index })
    }

    /// Asks anything that a simulated node can answer.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, Problem> {
        ask.check()?;
        let own = self.own()?;
        Ok(match ask {
            Ask::Run(command) => {
                let reply = self.run(command.clone()).await;
                return command.answer(own, reply.map_err(|problem| command.of_peer(problem))?);
            }
            Ask::Look(Look::Node) => {
                Answer::Node(Box::new(NodeView::of(own, self.view::<Snapshot>()?, None)))
            }
            Ask::Look(Look::Contacts) => {
                Answer::Contacts(self.view::<TableView>()?.into_contacts())
            }
            Ask::Look(Look::Routing) => Answer::Routing(self.view()?),
            Ask::Look(Look::Lookups) => Answer::Lookups(self.view::<Lookups>()?.into_views(own)),
            Ask::Look(Look::Estimate) => Answer::Estimate(self.view()?),
            Ask::Look(Look::Kept { key }) => {
                let network = self.network.0.network.borrow();
                Answer::Kept(network.touched(self.index).map_or_else(Vec::new, |n| kept(n, &key)))
            }
            Ask::Look(Look::Settings) => {
                let network = self.network.0.network.borrow();
                Answer::Settings(SettingView::all(&network.settings().config))
            }
            Ask::Look(Look::Xdp) => {
                let reason = Some("a simulated node has no kernel".to_owned());
                Answer::Xdp(FastPathView { reason, ..FastPathView::default() })
            }
            Ask::Look(Look::Packets(filter)) => {
                let mut network = self.network.0.network.borrow_mut();
                Answer::Packets(filter.of(network.packets(self.index)))
            }
            Ask::ForgetPackets {} => {
                self.network.0.network.borrow_mut().forget_packets(self.index);
                Answer::Done(())
            }
            Ask::Capture(_) => return Err(not_simulated("it writes no captures")),
        })
    }

    /// The node as others know it.
    fn own(&self) -> Result<Contact, Problem> {
        let own = self.network.0.network.borrow().contact(self.index);
        own.ok_or_else(|| Problem::new(Code::Gone, "the node was killed meanwhile"))
    }

    fn view<V: View>(&self) -> Result<V, Problem> {
        let view = self.network.0.network.borrow_mut().view(self.index);
        view.ok_or_else(|| Problem::new(Code::Gone, "the node was killed meanwhile"))
    }

    /// Runs a command to its end.
    async fn run(&self, command: Command) -> Result<Reply, Problem> {
        let network = &self.network.0.network;
        let id = network.borrow_mut().start(self.index, command)?;
        loop {
            self.network.check_awake()?;
            if let Some(reply) = network.borrow_mut().advance_to_reply(self.index, id, SLICE) {
                return Ok(reply);
            }
            self.own()?;
            tokio::task::yield_now().await;
        }
    }
}

/// `net`: a network at rest.
async fn make(
    lua: Lua,
    mut arguments: Arguments,
    total: Rc<Census>,
) -> Result<AnyUserData, Trouble> {
    let (settings, nodes) = settings(&mut arguments)?;
    // Lua does not know how large the networks are that nobody holds any more.
    lua.gc_collect()?;
    let network = RefCell::new(Network::new(settings));
    let simulated = Simulated(Rc::new(Held { network, total, own: Census::default() }));
    simulated.grow(nodes).map_err(|full| arguments.complaint(full))?;
    let mut settling = Settling::new(nodes);
    let progress = Progress::begin(format!("a network of {nodes} nodes"), settling.total() as u64);
    while !simulated.0.network.borrow_mut().settle_some(&mut settling, SLICE) {
        progress.set(settling.done() as u64);
        tokio::task::yield_now().await;
    }
    Ok(lua.create_userdata(simulated)?)
}

/// Settings of a network, and how many nodes it has.
fn settings(arguments: &mut Arguments) -> Result<(NetworkSettings, usize), Complaint> {
    let value = arguments.any();
    let (mut settings, mut nodes) = (NetworkSettings::default(), 100);
    let table = match &value {
        LuaValue::Nil => return Ok((settings, nodes)),
        LuaValue::Table(table) => table,
        other => return Err(arguments.wrong("settings", "a table", other, NET_ADVICE)),
    };
    for (key, value) in table.pairs::<LuaValue, LuaValue>().flatten() {
        let name = match &key {
            LuaValue::String(name) => name.to_string_lossy(),
            other => return Err(arguments.wrong("settings", "names", other, NET_ADVICE)),
        };
        match name.as_str() {
            "nodes" => nodes = whole(arguments, &name, &value, NODES_MAX)?,
            "seed" => settings.seed = whole(arguments, &name, &value, 1 << 53)? as u64,
            "loss" => settings.loss = share(arguments, &name, &value)?,
            "latency" => settings.latency = latency(arguments, &value)?,
            "addresses" => settings.addresses = addresses(arguments, &value)?,
            _ => {
                set_constant(arguments, &mut settings.config, &name, &value)?;
                // Somebody who sets the interval wants it done.
                settings.has_vigil |= ["check", "keepalive"].contains(&&*name);
            }
        }
    }
    settings.config.check().map_err(|error| arguments.complaint(error))?;
    Ok((settings, nodes))
}

const NET_ADVICE: &str = ". Try net{nodes = 100, seed = 7}";

fn set_constant(
    arguments: &Arguments,
    config: &mut Config,
    name: &str,
    value: &LuaValue,
) -> Result<(), Complaint> {
    if Setting::named(name).is_none() {
        let known = format!("nodes, seed, latency, loss, addresses, {}", config::names());
        let near = did_you_mean(name, known.split(", "));
        return Err(arguments
            .complaint(format_args!("no setting is called '{name}'; there are {known}{near}")));
    }
    let number = number_of(value).ok_or_else(|| arguments.wrong(name, "a number", value, ""))?;
    config.set(name, number).map_err(|error| arguments.complaint(error))
}

/// `latency = 30` or `latency = {20, 80}`, in ms.
fn latency(
    arguments: &Arguments,
    value: &LuaValue,
) -> Result<std::ops::RangeInclusive<Duration>, Complaint> {
    let bounds = match value {
        LuaValue::Table(table) => (table.raw_get(1).ok(), table.raw_get(2).ok()),
        value => (number_of(value), number_of(value)),
    };
    let micros = |ms: f64| Duration::from_micros((ms * 1e3) as u64);
    match bounds {
        (Some(low), Some(high)) if 0.0 <= low && low <= high && high <= LATENCY_MS_MAX => {
            Ok(micros(low)..=micros(high))
        }
        _ => {
            let expected = "milliseconds, one number or two as in {20, 80}, from 0 to 60000";
            Err(arguments.wrong("latency", expected, value, ""))
        }
    }
}

fn addresses(arguments: &Arguments, value: &LuaValue) -> Result<Addresses, Complaint> {
    let is_it = |name: &str| matches!(value, LuaValue::String(string) if *string == name);
    let kind = Addresses::NAMES.into_iter().find(|(name, _)| is_it(name));
    kind.map(|(_, kind)| kind).ok_or_else(|| {
        let expected = "\"private\", \"private6\", \"public\" or \"public6\"";
        arguments.wrong("addresses", expected, value, "")
    })
}

async fn run(_: Rc<Context>, _: Lua, mut arguments: Arguments) -> Result<f64, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let span = arguments.seconds("seconds")?;
    let span = Duration::from_micros(span.as_micros() as u64);
    let progress = Progress::begin("virtual time passes", span.as_micros());
    let passed = simulated.pass(span, |passed| progress.set(passed.as_micros())).await;
    passed.map_err(|problem| arguments.complaint(problem))?;
    let now = simulated.0.network.borrow().now();
    Ok(now.since(Instant::ZERO).as_millis_f64() / 1e3)
}

/// `n:join(count, near, bits, ranges)`: new nodes join one after the other. Returns their numbers.
async fn join(_: Rc<Context>, lua: Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let count = arguments.count("count", 1, NODES_MAX)?;
    let near = arguments.optional_id("near")?;
    let bits = arguments.count("bits", 20, 159)? as u32;
    let ranges = ranges(&mut arguments)?;
    simulated.grow(count).map_err(|full| arguments.complaint(full))?;
    let progress = Progress::begin("nodes join", count as u64);
    let mut numbers = Vec::new();
    let mut in_turn = ranges.iter().cycle();
    for _ in 0..count {
        let near = near.as_ref().map(|id| (id, bits));
        let index = simulated.0.network.borrow_mut().join_chosen(near, in_turn.next());
        numbers.push(number(index));
        let passed = simulated.pass(JOIN_EVERY, |_| ()).await;
        passed.map_err(|problem| arguments.complaint(problem))?;
        progress.set(numbers.len() as u64);
    }
    // The last ones too have joined then, or given up.
    let passed = simulated.pass(Duration::from_secs(5), |_| ()).await;
    passed.map_err(|problem| arguments.complaint(problem))?;
    Ok(lua.create_sequence_from(numbers)?)
}

/// Ranges of addresses; none is anywhere.
fn ranges(arguments: &mut Arguments) -> Result<Vec<Prefix>, Complaint> {
    let value = arguments.any();
    let range = |text: mlua::Result<String>| text.ok()?.parse().ok();
    let ranges = match &value {
        LuaValue::Nil => Some(Vec::new()),
        LuaValue::Table(list) => list.sequence_values().map(range).collect(),
        _ => None,
    };
    ranges.ok_or_else(|| {
        let expected = "a list of ranges of addresses, as in {\"203.0.113.0/24\"}";
        arguments.wrong("ranges", expected, &value, "")
    })
}

/// `n:kill(0.3)` kills a share, `n:kill{3, 5}` these. Returns the numbers of those that died.
fn kill(_: &Context, lua: &Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let mut network = simulated.0.network.borrow_mut();
    let doomed = named(&mut network, &mut arguments)?;
    doomed.iter().for_each(|&index| network.kill(index));
    Ok(lua.create_sequence_from(doomed.into_iter().map(number))?)
}

/// `n:partition{0.5}` and the like: the sides into which the network falls.
fn partition(_: &Context, lua: &Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let value = arguments.any();
    let mut network = simulated.0.network.borrow_mut();
    let expected = "a list of shares or lists of nodes, as in n:partition{0.5} or \
                    n:partition{{1, 2, 3}, 0.2}; the rest is the last side";
    let wrong = || arguments.wrong("sides", expected, &value, "");
    let parts: Vec<LuaValue> = match &value {
        LuaValue::Table(table) => table.sequence_values().collect::<mlua::Result<_>>()?,
        _ => return Err(wrong().into()),
    };
    let mut sides = Vec::new();
    for part in &parts {
        sides.push(chosen(&mut network, part).ok_or_else(wrong)?);
    }
    network.heal();
    // Where shares overlap, the first that took a node keeps it: sides are written backwards.
    for (side, nodes) in sides.iter().enumerate().rev() {
        nodes.iter().for_each(|&index| network.set_side(index, side + 1));
    }
    let table = lua.create_table()?;
    for side in (1..=sides.len()).chain([0]) {
        let members = network.alive().filter(|&index| network.side(index) == side);
        table.raw_push(lua.create_sequence_from(members.map(number))?)?;
    }
    Ok(table)
}

/// The living nodes that an argument names.
fn named(network: &mut Network, arguments: &mut Arguments) -> Result<Vec<NodeIndex>, Complaint> {
    let (value, method) = (arguments.any(), arguments.usage());
    chosen(network, &value).ok_or_else(|| {
        let expected =
            format!("a share as in {method}(0.3), or a list of nodes as in {method}{{3, 5}}");
        arguments.wrong("nodes", &expected, &value, "")
    })
}

/// Living nodes: a random share of them, or those in a list.
fn chosen(network: &mut Network, value: &LuaValue) -> Option<Vec<NodeIndex>> {
    let LuaValue::Table(list) = value else {
        let share = number_of(value).filter(|share| (0.0..=1.0).contains(share))?;
        return Some(network.random_share(share));
    };
    let index = |value: mlua::Result<LuaValue>| {
        index_of(&value.ok()?, network.len()).filter(|&index| network.is_alive(index))
    };
    list.sequence_values::<LuaValue>().map(index).collect()
}

/// `n:loss(0.2)` sets the share of datagrams that are lost. Returns the share.
fn loss(_: &Context, _: &Lua, mut arguments: Arguments) -> Result<f64, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let value = arguments.any();
    let mut network = simulated.0.network.borrow_mut();
    if !value.is_nil() {
        network.set_loss(share(&arguments, "loss", &value)?);
    }
    Ok(network.settings().loss)
}

/// `n:lie(0.2)` makes a share lie to nodes that look something up, `n:lie{3, 5}` these, and nobody
/// else. Returns their numbers. They take turns at the ways of lying, or all lie in one way.
fn lie(_: &Context, lua: &Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let mut network = simulated.0.network.borrow_mut();
    let liars = named(&mut network, &mut arguments)?;
    let ways = ways(&mut arguments)?;
    (0..network.len()).for_each(|index| network.set_lie(NodeIndex(index), None));
    let in_turn = ways.iter().cycle();
    liars.iter().zip(in_turn).for_each(|(&index, lie)| network.set_lie(index, Some(*lie)));
    Ok(lua.create_sequence_from(liars.into_iter().map(number))?)
}

fn ways(arguments: &mut Arguments) -> Result<Vec<Lie>, Complaint> {
    let value = arguments.any();
    match &value {
        LuaValue::Nil => Ok(Lie::ALL.to_vec()),
        LuaValue::String(way) if *way == "drop" => Ok(vec![Lie::Drop]),
        LuaValue::String(way) if *way == "collude" => Ok(vec![Lie::Collude]),
        LuaValue::String(way) if *way == "garbage" => Ok(vec![Lie::Garbage]),
        other => {
            let expected = "\"drop\", \"collude\" or \"garbage\"";
            Err(arguments.wrong("way", expected, other, ""))
        }
    }
}

/// `n:spoof(i, id, j)`: node i receives a ping that claims to come from `id` at the address of node
/// j, or, without j, at an address where nobody is.
fn spoof(_: &Context, _: &Lua, mut arguments: Arguments) -> Result<(), Trouble> {
    let (simulated, index) = Simulated::with_node(&mut arguments)?;
    let (from, value) = (arguments.id("id")?, arguments.any());
    let mut network = simulated.0.network.borrow_mut();
    let count = network.len();
    let source = match &value {
        // The documentation range of RFC 5737.
        LuaValue::Nil => SocketAddr::from(([192, 0, 2, 1], 8001)),
        value => {
            let expected = format!("a whole number from 1 to {count}");
            let victim = index_of(value, count);
            network.address(victim.ok_or_else(|| arguments.wrong("node", &expected, value, ""))?)
        }
    };
    let mut bytes = Vec::new();
    let transaction = TransactionId::new([0; 8]);
    emit(
        &mut bytes,
        &Header { dialect: Dialect::V1, from, transaction, asker: None },
        &Request::Ping,
    );
    network.forge(source, index, &bytes);
    Ok(())
}

/// `n:holders(key)`: the living nodes that keep a value under the key.
fn holders(_: &Context, lua: &Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let key = arguments.id("key")?;
    let network = simulated.0.network.borrow();
    let holds = |node: &Node| node.store().values(&key).is_some();
    let holders = network.alive().filter(|&index| network.touched(index).is_some_and(holds));
    Ok(lua.create_sequence_from(holders.map(number))?)
}

/// `n:stats()`: how lookups and stores went; `n:stats("reset")` also begins anew.
fn stats(_: &Context, lua: &Lua, mut arguments: Arguments) -> Result<Table, Trouble> {
    let simulated = Simulated::of(&mut arguments)?;
    let value = arguments.any();
    let reset = match &value {
        LuaValue::Nil => false,
        LuaValue::String(word) if *word == "reset" => true,
        other => return Err(arguments.wrong("what", "nothing or \"reset\"", other, "").into()),
    };
    let mut network = simulated.0.network.borrow_mut();
    let table = lua.create_table()?;
    table.raw_set("seed", network.settings().seed)?;
    table.raw_set("time", network.now().since(Instant::ZERO).as_millis_f64() / 1e3)?;
    table.raw_set("nodes", network.len())?;
    table.raw_set("alive", network.alive_count())?;
    table.raw_set("loss", network.settings().loss)?;
    table.raw_set("datagrams", network.datagrams())?;
    table.raw_set("bytes", network.bytes())?;
    let finished = || network.statistics().finished();
    table.raw_set("count", finished().len())?;
    table.raw_set("success", network.statistics().success())?;
    table.raw_set("hops", lua.create_sequence_from(finished().map(|f| f.hops))?)?;
    table.raw_set("messages", lua.create_sequence_from(finished().map(|f| f.messages))?)?;
    let ms = |finished: &Finished| finished.took.as_millis_f64();
    table.raw_set("ms", lua.create_sequence_from(finished().map(ms))?)?;
    if reset {
        network.forget_statistics();
    }
    Ok(table)
}

/// The number of a node, as Lua counts.
fn number(index: NodeIndex) -> usize {
    index.0 + 1
}

fn index_of(value: &LuaValue, count: usize) -> Option<NodeIndex> {
    let number = number_of(value).filter(|number| number.fract() == 0.0)?;
    (1.0..=count as f64).contains(&number).then_some(NodeIndex(number as usize - 1))
}

fn number_of(value: &LuaValue) -> Option<f64> {
    match *value {
        LuaValue::Integer(integer) => Some(integer as f64),
        LuaValue::Number(number) => Some(number),
        _ => None,
    }
}

fn share(arguments: &Arguments, name: &str, value: &LuaValue) -> Result<f64, Complaint> {
    let share = number_of(value).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| arguments.wrong(name, "a share from 0 to 1", value, ""))
}

fn whole(
    arguments: &Arguments,
    name: &str,
    value: &LuaValue,
    max: usize,
) -> Result<usize, Complaint> {
    let number = number_of(value).filter(|number| number.fract() == 0.0);
    let number = number.filter(|number| (1.0..=max as f64).contains(number));
    number
        .map(|number| number as usize)
        .ok_or_else(|| arguments.wrong(name, &format!("a whole number from 1 to {max}"), value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(total: &Rc<Census>, nodes: usize) -> Simulated {
        let network = RefCell::new(Network::settled(NetworkSettings::default(), nodes));
        let simulated =
            Simulated(Rc::new(Held { network, total: total.clone(), own: Census::default() }));
        simulated.grow(nodes).unwrap();
        simulated
    }

    #[test]
    fn networks_that_nobody_holds_make_room() {
        let total = Rc::new(Census::default());
        total.nodes.set(NODES_MAX - 20);
        let first = network(&total, 10);
        let second = network(&total, 10);
        assert!(first.grow(1).unwrap_err().contains("at most 1000000 simulated nodes fit"));
        drop(second);
        first.grow(10).unwrap();
        drop(first);
        assert_eq!(total.nodes.get(), NODES_MAX - 20);
    }

    #[test]
    fn nodes_that_are_awake_have_an_end() {
        let total = Rc::new(Census::default());
        total.awake.set(AWAKE_MAX - 3);
        let held = network(&total, 10);
        let wake = |index| assert!(held.0.network.borrow_mut().node(NodeIndex(index)).is_some());
        (0..3).for_each(wake);
        held.check_awake().unwrap();
        wake(3);
        assert_eq!(held.check_awake().unwrap_err().code, Code::Busy);
        drop(held);
        assert_eq!(total.awake.get(), AWAKE_MAX - 3);
    }
}
