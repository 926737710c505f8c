//! `kademlua get`, `put` and `locate`: a client without a node, by way of any node.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::bencode::Value;
use crate::id::Id;
use crate::message::{Contact, RouteAnswer, RouteHop};
use crate::net::{Attempt, Endpoint, Found, ThinClient, ThinError};
use crate::shell::{escape, say};

use super::node::parse_endpoint;

/// The entry, and how results are shown.
#[derive(Debug, Args)]
pub(super) struct Way {
    /// Any node of the network, by address or host name; a port alone is one of 127.0.0.1
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_endpoint)]
    via: Endpoint,
    /// Show each attempt and the nodes on its way on standard error
    #[arg(short, long)]
    verbose: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What `get` and `locate` take.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 found, 1 not found, 2 bad usage, 3 nobody answered.")]
pub(super) struct Lookup {
    /// 40 hex digits, or a name whose SHA-1 is the key
    #[arg(value_name = "KEY", value_parser = parse_key)]
    key: Id,
    #[command(flatten)]
    way: Way,
}

/// What `put` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
The value is text. The node that --via names publishes it, beside what others have stored under the \
key, and keeps it alive.

Exit status: 0 stored, 1 not stored, 2 bad usage, 3 nobody answered.")]
pub(super) struct Store {
    /// 40 hex digits, or a name whose SHA-1 is the key
    #[arg(value_name = "KEY", value_parser = parse_key)]
    key: Id,
    /// What to store
    #[arg(value_name = "VALUE")]
    value: String,
    #[command(flatten)]
    way: Way,
}

fn parse_key(text: &str) -> Result<Id, std::convert::Infallible> {
    Ok(text.parse().unwrap_or_else(|_| Id::of_name(text)))
}

/// Nothing was found, or the value was not stored.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotFound(String);

/// Finds values.
pub(super) fn get(arguments: &Lookup) -> anyhow::Result<()> {
    run(&arguments.way, arguments.key, |client| client.get(arguments.key))
}

/// Finds the node nearest to a key.
pub(super) fn locate(arguments: &Lookup) -> anyhow::Result<()> {
    run(&arguments.way, arguments.key, |client| client.locate(arguments.key))
}

/// Stores a value.
pub(super) fn put(arguments: &Store) -> anyhow::Result<()> {
    let value = Value::bytes(arguments.value.as_str());
    run(&arguments.way, arguments.key, |client| client.put(arguments.key, &value))
}

/// Asks by way of each address of the node in turn, until one answers.
fn run(
    way: &Way,
    key: Id,
    ask: impl Fn(&mut ThinClient) -> Result<Found, ThinError>,
) -> anyhow::Result<()> {
    let mut failure = None;
    for via in addresses(way)? {
        let mut client = ThinClient::new(via).with_context(|| via.to_string())?;
        client.trace(way.verbose);
        match ask(&mut client) {
            Ok(found) => return tell(way, key, via, &found),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.expect("a name has an address").into())
}

/// A literal address needs no resolver, and none is started for it.
fn addresses(way: &Way) -> anyhow::Result<Vec<SocketAddr>> {
    if let Endpoint::Address(address) = way.via {
        return Ok(vec![address]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let resolved = runtime.block_on(way.via.resolve());
    runtime.shutdown_background();
    resolved.with_context(|| way.via.to_string())
}

fn tell(way: &Way, key: Id, via: SocketAddr, found: &Found) -> anyhow::Result<()> {
    if way.verbose {
        for (number, attempt) in (1..).zip(&found.attempts) {
            writeln!(stderr(), "{}", told(number, attempt))?;
        }
        writeln!(stderr(), "{} ms in all, answered by {}", millis(found.took), found.by)?;
    }
    if way.json {
        say(format_args!("{}", serde_json::to_string(&View::of(key, via, found))?))?;
    }
    let not_found = |text: &str| Err(NotFound(text.to_owned()).into());
    match &found.answer {
        RouteAnswer::Nothing => not_found("nothing is stored under this key"),
        RouteAnswer::Cut => not_found("the answer did not fit"),
        RouteAnswer::Refused { reason } => not_found(&format!("not stored: {reason}")),
        _ if way.json => Ok(()),
        RouteAnswer::Located(Contact { id, address }) => Ok(say(format_args!("{address} {id}"))?),
        RouteAnswer::HeldAt(Contact { id, address }) => {
            not_found(&format!("it is held at {address} {id}, which does not answer"))
        }
        RouteAnswer::Values(values) => values.iter().try_for_each(show),
        RouteAnswer::Stored => Ok(()),
    }
}

/// One value: text as it is, anything else as JSON. A terminal gets no control characters.
fn show(value: &Value) -> anyhow::Result<()> {
    let mut out = stdout();
    match value.item().bytes() {
        Some(bytes) if out.is_terminal() => {
            writeln!(out, "{}", escape(bytes, true))?;
        }
        Some(bytes) => {
            out.write_all(bytes)?;
            out.write_all(b"\n")?;
        }
        None => say(format_args!("{}", serde_json::to_string(value)?))?,
    }
    Ok(())
}

fn millis(took: Duration) -> String {
    format!("{:.2}", took.as_secs_f64() * 1e3)
}

/// An attempt in words, and the nodes on its way.
fn told(number: usize, attempt: &Attempt) -> String {
    let Attempt { skip, iterates, answer, hops, took } = attempt;
    let how = match (iterates, skip) {
        (true, _) => "the entry looks it up itself".to_owned(),
        (false, 0) => "straight".to_owned(),
        (false, skip) => format!("skipping {skip}"),
    };
    let what = match answer {
        None => "no answer",
        Some(RouteAnswer::Located(_)) => "located",
        Some(RouteAnswer::Values(_)) => "found",
        Some(RouteAnswer::HeldAt(_)) => "held elsewhere, too large for this",
        Some(RouteAnswer::Nothing) => "nobody nearer, nothing held",
        Some(RouteAnswer::Stored) => "stored",
        Some(RouteAnswer::Refused { .. }) => "refused",
        Some(RouteAnswer::Cut) => "the entry wants its token back first",
    };
    let first = hops.first().map_or(0, |hop| hop.micros);
    let marks = hops.iter().map(|RouteHop { id, micros }| match micros.checked_sub(first) {
        Some(after) if *micros > 0 => format!("\n    {id}  +{after} µs"),
        _ => format!("\n    {id}"),
    });
    format!("try {number}, {how}: {what} after {} ms{}", millis(*took), marks.collect::<String>())
}

/// What `--json` prints.
#[derive(Serialize)]
struct View<'a> {
    key: Id,
    via: String,
    found: bool,
    answer: &'a RouteAnswer,
    by: Id,
    ms: f64,
    attempts: Vec<AttemptView<'a>>,
}

#[derive(Serialize)]
struct AttemptView<'a> {
    skip: u8,
    iterates: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: &'a Option<RouteAnswer>,
    ms: f64,
    #[serde(skip_serializing_if = "<[RouteHop]>::is_empty")]
    hops: &'a [RouteHop],
}

impl<'a> View<'a> {
    fn of(key: Id, via: SocketAddr, found: &'a Found) -> View<'a> {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let attempts = found.attempts.iter().map(|attempt| AttemptView {
            skip: attempt.skip,
            iterates: attempt.iterates,
            answer: &attempt.answer,
            ms: ms(attempt.took),
            hops: &attempt.hops,
        });
        let is_found = matches!(
            found.answer,
            RouteAnswer::Located(_) | RouteAnswer::Values(_) | RouteAnswer::Stored
        );
        View {
            key,
            via: via.to_string(),
            found: is_found,
            answer: &found.answer,
            by: found.by,
            ms: ms(found.took),
            attempts: attempts.collect(),
        }
    }
}
