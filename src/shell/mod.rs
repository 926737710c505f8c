//! The Lua shell: a prompt, and programs that run in its environment.
//!
//! Three threads: the caller's edits lines and waits for programs, one runs Lua
//! (`engine`), and the node has its own behind [`Handle`], so that no program can stop
//! it. Nothing here knows the protocol; what the functions do is the node's business, how they
//! look and what they say is Lua's (`lua/` at the top of the repository).

mod arguments;
mod background;
mod bytes;
mod chunk;
mod cluster;
mod convert;
mod cursor;
mod editor;
mod end;
mod engine;
mod escape;
mod failure;
mod functions;
mod highlight;
mod history;
mod host;
mod indent;
mod interrupt;
mod kept;
mod last;
mod lessons;
mod modules;
mod network;
mod output;
mod outside;
mod pace;
mod packets;
mod results;
mod simulation;
mod tables;
mod tasks;
mod terminal;
mod words;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::net::Handle;
use crate::xdp;

pub use self::chunk::Chunk;
pub use self::engine::{Options, Script};
pub use self::failure::ChunkError;
pub use self::output::{LogWriter, Output};

// What the command line and configurations read as the shell does.
pub(crate) use self::arguments::{endpoint_of, endpoint_of_value, id_of};
pub(crate) use self::chunk::source_of;
pub(crate) use self::convert::describe;
pub(crate) use self::end::{End, INTERRUPTED, Requests};
pub(crate) use self::escape::{escape, escape_json, escape_json_text, escape_lines};
pub(crate) use self::failure::message_of as error_message;
pub(crate) use self::output::say;
pub(crate) use self::results::{BYTES_MAX as RESULTS_BYTES_MAX, Record, parse as parse_results};
pub(crate) use self::terminal::takes_colours;

use self::engine::Engine;

/// After Ctrl-C a program ends within milliseconds, unless it is inside of a library function that
/// takes long; then the user is told how to leave.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// A shell over a node.
pub struct Shell {
    runtime: tokio::runtime::Runtime,
    /// The node, unless programs run without one.
    node: Option<Handle>,
    engine: Engine,
    output: Arc<Output>,
    ctrl_c: Signal,
    /// Last, so that what else there is has ended.
    end: End,
}

impl Shell {
    /// Starts the Lua thread; without a node what needs one is not there. From now on Ctrl-C ends
    /// programs and not the process, and the node ends with the shell, however that ends.
    ///
    /// # Errors
    /// If the system has no thread or signal to give.
    pub fn start(node: Option<Handle>, output: Arc<Output>, options: Options) -> io::Result<Shell> {
        Shell::with_end(End::of(node.clone())?, node, output, options)
    }

    /// The same for a node whose end is seen to already.
    pub(crate) fn with_end(
        end: End,
        node: Option<Handle>,
        output: Arc<Output>,
        options: Options,
    ) -> io::Result<Shell> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ctrl_c = {
            let _entered = runtime.enter();
            signal(SignalKind::interrupt())?
        };
        let engine = Engine::start(node.clone(), output.clone(), options)?;
        Ok(Shell { runtime, node, engine, output, ctrl_c, end })
    }

    /// Runs a program to its end and shows the values that it returns.
    ///
    /// # Errors
    /// If it fails or the user ends it.
    pub fn run(&mut self, chunk: Chunk) -> Result<(), ChunkError> {
        let Shell { runtime, engine, ctrl_c, output, end, .. } = self;
        runtime.block_on(async {
            let running = engine.run(chunk);
            tokio::pin!(running);
            loop {
                tokio::select! {
                    biased;
                    result = &mut running => return result,
                    // It is for the program that has the terminal.
                    _ = ctrl_c.recv() => if !output.is_lent() { break },
                }
            }
            engine.interrupt();
            if let Ok(result) = tokio::time::timeout(STUCK_AFTER, &mut running).await {
                return result;
            }
            output.note(
                "the program is inside of a library function; Ctrl-C again leaves kademlua\n",
            );
            tokio::select! {
                result = &mut running => result,
                _ = ctrl_c.recv() => end.way().now(INTERRUPTED),
            }
        })
    }

    /// Waits for something, but no longer than that.
    ///
    /// # Errors
    /// If the user does not want to wait.
    pub fn wait(
        &mut self,
        longest: Duration,
        something: impl Future<Output = ()>,
    ) -> Result<(), ChunkError> {
        let Shell { runtime, ctrl_c, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                () = something => Ok(()),
                () = tokio::time::sleep(longest) => Ok(()),
                _ = ctrl_c.recv() => Err(ChunkError::Interrupted),
            }
        })
    }

    /// Prompts for chunks and runs them until the user leaves.
    ///
    /// # Errors
    /// If the terminal fails.
    pub fn interact(&mut self) -> anyhow::Result<()> {
        editor::interact(self)
    }

    /// The prompt: `contacts~estimate | kilobytes > `, with `xdp` behind where a fast path is
    /// attached, or `sim | kilobytes > ` without a node.
    fn prompt(&self) -> String {
        let Some(node) = &self.node else {
            return format!("sim | {:4.0} > ", process_kilobytes());
        };
        let snapshot = self.runtime.block_on(node.snapshot());
        let (contacts, estimate) = match snapshot {
            Ok(snapshot) => (snapshot.v1().contacts, snapshot.v1().estimate),
            Err(_) => (0, 0.0),
        };
        let attached = node
            .fast_path()
            .is_some_and(|place| xdp::status(place).is_ok_and(|status| !status.is_gone));
        let mark = if attached { " xdp" } else { "" };
        format!("{contacts}~{estimate:.0} | {:4.0}{mark} > ", process_kilobytes())
    }

    /// Forgets signals that came while no program ran, lest they end the next.
    fn settle_interrupts(&mut self) {
        let ctrl_c = &mut self.ctrl_c;
        self.runtime.block_on(async {
            tokio::task::yield_now().await;
            while let Ok(Some(())) = tokio::time::timeout(Duration::ZERO, ctrl_c.recv()).await {}
        });
    }
}

/// Resident memory of this process.
fn process_kilobytes() -> f64 {
    kilobytes_of(std::process::id())
}

fn kilobytes_of(process: u32) -> f64 {
    let pid = Pid::from_u32(process);
    let mut system = System::new();
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
    system.process(pid).map_or(0.0, |process| process.memory() as f64 / 1024.0)
}
