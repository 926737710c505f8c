//! `kademlua serve`: a node without a shell.
//!
//! A node can be told to end together with the process that started it, however that ends: its standard
//! input is then the reading end of a pipe, which the system closes. `scripts/start.sh` and the shell's
//! `cluster` start their nodes like this.

use std::io::stdin;
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use crate::net::door::Role;
use crate::net::{Handle, Settings};
use crate::shell::{Requests, say};
use crate::wire::Dialect;

use super::NodeArguments;
use super::resident::give_back_code;

/// How often to look whether the node has stopped by itself, which it does when its socket fails.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A node that has not joined after this time says that it is ready all the same: it answers, and goes
/// on trying.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What `serve` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
When the node answers and has joined the network, or has tried to for five seconds, it says so in one \
line on standard output, for programs to wait for; all else goes to the log, on standard error:
  ready port=8003 address=127.0.0.1:8003 id=b5ac90fbdd1355438a65edd2fabe14e9fcca10ea contacts=20")]
pub(super) struct Arguments {
    /// UDP port [default: 8001; 0 takes any free one and says which]
    port: Option<u16>,
    /// Stop when standard input closes, which must be a pipe: when the process that started the node ends,
    /// however it ends
    #[arg(long)]
    until_eof: bool,
    /// Check arguments and configuration, print the resulting settings, and start nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    node: NodeArguments,
}

/// Runs until SIGINT, SIGTERM or SIGHUP.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    arguments.node.start_log("info", std::io::stderr)?;
    if arguments.check {
        return check(&arguments.node.settings(arguments.port, Role::Serve)?);
    }
    // No Lua and no further thread unless asked for: a hundred of these share a machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut requests = Requests::new()?;
        let input = arguments.until_eof.then(input).transpose()?;
        let handle = arguments.node.start(arguments.port, Role::Serve)?;
        let serving = async {
            say_ready(&handle).await;
            stopped_by_itself(&handle).await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = requests.next() => {}
            () = closed(input) => {}
            () = serving => bail!("the node has stopped by itself"),
        }
        handle.stop().await;
        Ok(())
    })
}

/// Prints what a node would run with. The id only if one is set: otherwise each node has its own.
fn check(settings: &Settings) -> anyhow::Result<()> {
    let id = settings.ids.get(&Dialect::V1).map(|id| format!(" id={id}")).unwrap_or_default();
    say(format_args!("fine port={} address={}{id}", settings.bind.port(), settings.bind))?;
    Ok(())
}

/// Tells a waiting process that the node is ready.
async fn say_ready(handle: &Handle) {
    // A node serves even while nobody else is there.
    let _ = tokio::time::timeout(READY_WITHIN, handle.joined()).await;
    let Ok(snapshot) = handle.snapshot().await else { return };
    let (address, id, contacts) = (handle.local_addr(), handle.id(), snapshot.v1().contacts);
    let port = address.port();
    give_back_code();
    // And even if nobody reads this line.
    let _ = say(format_args!("ready port={port} address={address} id={id} contacts={contacts}"));
}

/// Standard input, to wait for its end.
fn input() -> anyhow::Result<pipe::Receiver> {
    let input = stdin().as_fd().try_clone_to_owned()?;
    pipe::Receiver::from_owned_fd(input).context("--until-eof: standard input must be a pipe")
}

/// Waits until the process that holds the other end is gone; for ever without an input. Whatever comes is read and
/// means nothing.
async fn closed(input: Option<pipe::Receiver>) {
    let Some(input) = input else { return std::future::pending().await };
    let mut ignored = [0; 512];
    loop {
        if input.readable().await.is_err() {
            return;
        }
        match input.try_read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn stopped_by_itself(handle: &Handle) {
    while !handle.stopped() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
