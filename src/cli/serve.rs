//! `kademlua serve`: a node without a shell.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::net::Handle;
use crate::shell::{Chunk, Options, Output, Requests, Shell, escape_json, say};

use super::NodeArguments;

/// How often to look whether the node has stopped by itself, which it does when its socket fails.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What `serve` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// UDP port [default: 8001]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Run each line of standard input as a chunk, answer with a line of JSON, and end with it
    #[arg(long, hide = true)]
    lines: bool,
    #[command(flatten)]
    node: NodeArguments,
}

/// Runs until SIGINT, SIGTERM or SIGHUP.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    arguments.node.start_log("info", std::io::stderr)?;
    if arguments.lines {
        return run_lines(&arguments);
    }
    // No Lua and no further thread unless asked for: a hundred of these share a machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut requests = Requests::new()?;
        let (handle, _) = arguments.node.start(arguments.port, false)?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = requests.next() => {}
            () = stopped_by_itself(&handle) => bail!("the node has stopped by itself"),
        }
        handle.stop().await;
        Ok(())
    })
}

/// Serves another process, the `cluster` of a shell: until standard input closes, as it does when
/// that process is gone, whatever runs here then.
fn run_lines(arguments: &Arguments) -> anyhow::Result<()> {
    let (handle, _) = arguments.node.start(arguments.port, false)?;
    let options = Options { json: true, ..Options::default() };
    let mut shell = Shell::start(Some(handle), Output::new(), options)?;
    let way_out = shell.way_out();
    let (lines, chunks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
        way_out.now(0)
    });
    for line in chunks {
        if let Err(error) = shell.run(Chunk::program(&line, "=line".to_owned())) {
            say(escape_json(&serde_json::json!([false, error.to_string()])))?;
        }
    }
    Ok(())
}

async fn stopped_by_itself(handle: &Handle) {
    while !handle.stopped() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
