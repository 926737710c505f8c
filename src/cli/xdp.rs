//! `kademlua xdp`: the fast path in the kernel, attached, looked at and taken away.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::shell::{escape_json, escape_lines, say};
use crate::xdp::{
    self, Attachment, BPFFS, CONTACTS_MAX, Mode, Orphan, OverLimit, Owner, Pinning, Status,
};

use super::node::DEFAULT_PORT;

/// Requests a second that one source may ask by default: a thousand times what a lookup of an
/// ordinary node needs.
const SOURCE_RATE: u64 = 20_000;

/// What `xdp` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: XdpCommand,
}

#[derive(Debug, Subcommand)]
enum XdpCommand {
    /// Load the program and attach it to an interface, or join the one that is there, for a node
    Attach(Attach),
    /// Take a node out of the program, and the program away with the last one, even if its interface or network
    /// namespace is gone
    Detach(DetachArguments),
    /// Tell what is attached and what it has done
    Status(StatusArguments),
}

#[derive(Debug, Args)]
struct Attach {
    /// Interface that the node's packets come in by; lo for a network on this machine
    #[arg(long, value_name = "INTERFACE", allow_hyphen_values = true)]
    iface: String,
    #[command(flatten)]
    place: Where,
    /// How to meet packets
    #[arg(long, value_enum, default_value = "auto")]
    mode: ModeChoice,
    /// User that the node runs as [default: the user who called sudo, else the caller]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    user: Option<String>,
    /// Requests a second that one source may ask in the kernel, 0 for any; loopback is exempt
    #[arg(long, value_name = "RATE", default_value_t = SOURCE_RATE)]
    source_rate: u64,
    /// Requests a second from all sources together, 0 for any; loopback is exempt
    #[arg(long, value_name = "RATE", default_value_t = 0)]
    total_rate: u64,
    /// What becomes of requests beyond these rates
    #[arg(long, value_enum, default_value = "drop")]
    over_limit: OverLimitChoice,
}

#[derive(Debug, Args)]
struct DetachArguments {
    #[command(flatten)]
    place: Where,
    /// All nodes of this network namespace, and everything that namespaces that are gone have left
    #[arg(long, conflicts_with = "port")]
    all: bool,
}

#[derive(Debug, Args)]
struct Where {
    /// UDP port of the node
    #[arg(long, default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Mount point of the bpf file system
    #[arg(long, value_name = "FOLDER", default_value = BPFFS, allow_hyphen_values = true)]
    bpffs: PathBuf,
}

#[derive(Debug, Args)]
struct StatusArguments {
    /// UDP port of the node [default: all that are attached]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Mount point of the bpf file system
    #[arg(long, value_name = "FOLDER", default_value = BPFFS, allow_hyphen_values = true)]
    bpffs: PathBuf,
    /// A line of JSON for each
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeChoice {
    /// Native where the driver can, else tcx; tcx on lo and veth
    Auto,
    /// XDP in the driver
    Native,
    /// XDP behind the driver
    Generic,
    /// tcx ingress, where packets can also grow
    Tcx,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverLimitChoice {
    /// Dropped where they arrive
    Drop,
    /// Left to the node
    Pass,
}

impl Where {
    fn place(self) -> Pinning {
        Pinning { bpffs: self.bpffs, port: self.port }
    }
}

/// Does what the arguments ask for.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        XdpCommand::Attach(arguments) => attach(arguments),
        XdpCommand::Detach(DetachArguments { place, all: true }) => detach_all(&place.bpffs),
        XdpCommand::Detach(DetachArguments { place, all: false }) => detach(&place.place()),
        XdpCommand::Status(arguments) => status(arguments),
    }
}

fn attach(arguments: Attach) -> anyhow::Result<()> {
    let owner = owner(arguments.user)?;
    let attachment = Attachment {
        place: arguments.place.place(),
        interface: arguments.iface,
        mode: match arguments.mode {
            ModeChoice::Auto => None,
            ModeChoice::Native => Some(Mode::Native),
            ModeChoice::Generic => Some(Mode::Generic),
            ModeChoice::Tcx => Some(Mode::Tcx),
        },
        owner,
        source_rate: arguments.source_rate,
        total_rate: arguments.total_rate,
        over_limit: match arguments.over_limit {
            OverLimitChoice::Drop => OverLimit::Drop,
            OverLimitChoice::Pass => OverLimit::Pass,
        },
    };
    let attached = xdp::attach(&attachment)?;
    let Attachment { interface, place, .. } = attachment;
    let done = if attached.joined { "joined the fast path at" } else { "attached to" };
    say(format_args!("{done} {interface} by {}: {}", attached.mode.name(), attached.reason))?;
    say(attached.ways)?;
    if let Some(warning) = attached.warning {
        say(format_args!("note: {warning}"))?;
    }
    say(format_args!("left in {}", attached.folder.display()))?;
    say(format_args!("it answers as soon as the node runs: kademlua {} --xdp", place.port))?;
    Ok(())
}

fn detach(place: &Pinning) -> anyhow::Result<()> {
    xdp::detach(place)?;
    say(format_args!("detached; the node on port {} answers everything itself", place.port))?;
    Ok(())
}

fn detach_all(bpffs: &Path) -> anyhow::Result<()> {
    match xdp::detach_all(bpffs)? {
        0 => bail!("no fast path is attached; attach one: sudo kademlua xdp attach --iface lo"),
        1 => Ok(say("detached 1 node")?),
        count => Ok(say(format_args!("detached {count} nodes"))?),
    }
}

fn status(arguments: StatusArguments) -> anyhow::Result<()> {
    let StatusArguments { port, bpffs, json } = arguments;
    let is_asked = |of: u16| port.is_none_or(|port| port == of);
    let mut places = xdp::found(&bpffs)?;
    places.retain(|place| is_asked(place.port));
    let mut orphans = xdp::orphans(&bpffs)?;
    orphans.retain(|orphan| is_asked(orphan.port));
    match port {
        Some(port) if places.is_empty() && orphans.is_empty() => {
            return Err(xdp::Error::NotAttached(port).into());
        }
        None if places.is_empty() && orphans.is_empty() && !json => {
            bail!("no fast path is attached; attach one: sudo kademlua xdp attach --iface lo");
        }
        _ => {}
    }
    let mut dead: Vec<u16> = orphans.iter().map(|orphan| orphan.port).collect();
    for place in places {
        let status = xdp::status(&place)?;
        dead.extend(status.is_gone.then_some(status.port));
        match json {
            true => say(escape_json(&as_json(&status)))?,
            false => say(escape_lines(as_text(&status).trim_end()))?,
        }
    }
    for orphan in orphans {
        match json {
            true => say(escape_json(&orphan_as_json(&orphan)))?,
            false => say(escape_lines(&orphan_as_text(&orphan)))?,
        }
    }
    match dead.first() {
        Some(port) => bail!(
            "nothing is attached any more where an interface or its network namespace is gone; take \
             away what is left: sudo kademlua xdp detach --port {port}"
        ),
        None => Ok(()),
    }
}

fn orphan_as_json(orphan: &Orphan) -> Value {
    json!({
        "port": orphan.port,
        "interface": orphan.interface,
        "gone": "namespace",
        "namespace": orphan.namespace,
        "answering": false,
    })
}

fn orphan_as_text(orphan: &Orphan) -> String {
    let Orphan { port, interface, namespace, .. } = orphan;
    let interface = interface.as_deref().unwrap_or("an interface");
    format!("port {port} on {interface} of network namespace {namespace}, which is gone")
}

/// The user that the node will run as. Somebody who attaches by sudo most likely runs the node
/// without it.
fn owner(user: Option<String>) -> anyhow::Result<Option<Owner>> {
    match user.or_else(|| std::env::var("SUDO_USER").ok()) {
        Some(name) => named(&name).map(Some),
        None => Ok(None),
    }
}

#[cfg(target_os = "linux")]
fn named(name: &str) -> anyhow::Result<Owner> {
    match nix::unistd::User::from_name(name)? {
        Some(user) => Ok(Owner { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        None => bail!("this system has no user '{name}'"),
    }
}

#[cfg(not(target_os = "linux"))]
fn named(_name: &str) -> anyhow::Result<Owner> {
    Err(xdp::Error::Unsupported.into())
}

/// Counters by what is done with the packets: `{answered: {ping: 5, …}, …}`.
fn counters(status: &Status) -> Map<String, Value> {
    let mut all = Map::new();
    for (what, which, count) in status.tallies() {
        all.entry(what).or_insert_with(|| json!({}))[which] = count.into();
    }
    all
}

fn as_json(status: &Status) -> Value {
    let mut all = json!({
        "port": status.port,
        "interface": status.interface,
        "renamed_from": status.renamed_from,
        "gone": status.is_gone.then_some("interface"),
        "mode": status.mode.name(),
        "program": status.program_id,
        "answering": status.is_answering(),
        "heartbeat": status.heartbeat.map(|age| age.as_secs_f64()),
        "contacts": { "ipv4": status.contacts[0], "ipv6": status.contacts[1] },
        "table_too_large": status.incomplete,
        "cached": { "keys": status.cached[0], "bytes": status.cached[1] },
        "source_rate": status.rates[0],
        "total_rate": status.rates[1],
        "share": status.share(),
        "run_ns": status.run.map(|run| run.as_nanos() as u64),
    });
    all.as_object_mut().expect("an object").extend(counters(status));
    all
}

fn as_text(status: &Status) -> String {
    let Status { port, interface, mode, program_id, .. } = status;
    let ([four, six], [keys, bytes]) = (status.contacts, status.cached);
    let (hits, misses) = status.cache_tally();
    let heartbeat = match status.heartbeat {
        None => format!("no node yet; start one: kademlua {port} --xdp"),
        Some(age) if age < xdp::HEARTBEAT_MAX => format!("{:.1} s ago", age.as_secs_f64()),
        Some(age) => {
            format!("{:.0} s ago: the node is gone or hangs, all is passed up", age.as_secs_f64())
        }
    };
    let run = match status.run {
        Some(run) => format!("{} ns a run, measured by the kernel", run.as_nanos()),
        None => "not measured; sudo sysctl kernel.bpf_stats_enabled=1".to_owned(),
    };
    let mut text = format!(
        "port {port} on {interface}{}, {}, program {program_id}\n\
         heartbeat  {heartbeat}\n\
         mirrored   {four} IPv4 and {six} IPv6 contacts{}\n\
         cached     {keys} keys, {bytes} bytes; {hits} hits, {misses} misses\n\
         share      {}\n\
         time       {run}\n",
        if status.is_gone { ", which is gone" } else { "" },
        mode.name(),
        if status.incomplete {
            format!("; more than {CONTACTS_MAX} of one family: lookups are left to the node")
        } else {
            String::new()
        },
        match status.share() {
            Some(share) => format!("{:.1} % of all requests answered in the kernel", 100.0 * share),
            None => "no requests yet".to_owned(),
        },
    );
    if let Some(name) = &status.renamed_from {
        text += &format!("renamed    it was {name} when the program was attached\n");
    }
    for (what, of) in counters(status) {
        let of = of.as_object().into_iter().flatten().filter(|(_, count)| **count != json!(0));
        let of: Vec<String> = of.map(|(which, count)| format!("{which} {count}")).collect();
        let of = if of.is_empty() { "nothing".to_owned() } else { of.join(", ") };
        text += &format!("{what:10} {of}\n");
    }
    text
}
