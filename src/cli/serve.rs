//! `kademlua serve`: a node without a shell.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::net::Handle;

use super::NodeArguments;

/// How often to look whether the node has stopped by itself, which it does when its socket fails.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What `serve` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// UDP port [default: 8001]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    #[command(flatten)]
    node: NodeArguments,
}

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal();
    arguments.node.start_log("info", std::io::stderr, colours)?;
    // No Lua and no further thread unless asked for: a hundred of these share a machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (handle, _) = arguments.node.start(arguments.port)?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stopped_by_itself(&handle) => bail!("the node has stopped by itself"),
        }
        handle.stop().await;
        Ok(())
    })
}

async fn stopped_by_itself(handle: &Handle) {
    while !handle.stopped() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
