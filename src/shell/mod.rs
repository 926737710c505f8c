//! The Lua shell: a prompt, and programs that run in its environment.
//!
//! Three threads: the caller's edits lines and waits for programs, one runs Lua (`engine`), and the node has its own
//! behind [`Handle`](crate::net::Handle), or is in another process, so that no program can stop it. Nothing here
//! knows the protocol; the node does what the functions ask, and Lua decides how they look and what they say (`lua/`
//! at the top of the repository).

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
mod files;
mod folders;
mod functions;
mod highlight;
mod history;
mod host;
mod indent;
mod interrupt;
mod kept;
mod last;
mod lessons;
mod lexemes;
mod modules;
mod network;
mod others;
mod output;
mod outside;
mod pace;
mod packets;
mod progress;
mod results;
mod rows;
mod simulation;
mod suggest;
mod tables;
mod tasks;
mod terminal;
mod words;
mod wrap;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::control::{Answer, Ask, Look};

pub use self::chunk::Chunk;
pub use self::engine::{Format, Options, Script};
pub use self::failure::ChunkError;
pub use self::host::Subject;
pub use self::output::{LogWriter, ShellOutput};

// What the command line and configurations read in the same way as the shell.
pub(crate) use self::arguments::{endpoint_of, endpoint_of_value, id_of};
pub(crate) use self::chunk::source_of;
pub(crate) use self::convert::describe;
pub(crate) use self::end::{INTERRUPTED, Requests};
pub(crate) use self::escape::{escape, escape_json, escape_json_text, escape_lines};
pub(crate) use self::failure::message_of as error_message;
pub(crate) use self::output::{say, say_wrapped};
pub(crate) use self::progress::Progress;
pub(crate) use self::results::{BYTES_MAX as RESULTS_BYTES_MAX, Record, parse as parse_results};
pub(crate) use self::suggest::did_you_mean;
pub(crate) use self::terminal::takes_colours;
pub(crate) use self::wrap::for_terminal;

use self::end::NodeGuard;
use self::engine::Engine;
use self::host::Host;

/// After Ctrl-C a program ends within milliseconds, unless it is inside a library function that
/// takes long; after this time the user is told how to leave.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How long a node may take to answer for the prompt.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// A shell over a node.
pub struct Shell {
    runtime: tokio::runtime::Runtime,
    /// The node, unless programs run without one.
    node: Option<Subject>,
    engine: Engine,
    output: Arc<ShellOutput>,
    ctrl_c: Signal,
    /// Last, so that everything else has ended before.
    end: NodeGuard,
}

impl Shell {
    /// Starts the Lua thread; without a node, functions that need one are missing. From now on
    /// Ctrl-C ends programs and not the process, and the node ends with the shell, however that
    /// ends.
    ///
    /// # Errors
    /// If the system has no thread or signal to give.
    pub fn start(
        node: Option<Subject>,
        output: Arc<ShellOutput>,
        options: Options,
    ) -> io::Result<Shell> {
        let own = match &node {
            Some(Subject::Own(handle)) => Some(handle.clone()),
            Some(Subject::Attached(_)) | None => None,
        };
        let end = NodeGuard::of(own)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ctrl_c = {
            let _entered = runtime.enter();
            signal(SignalKind::interrupt())?
        };
        let engine = Engine::start(node.clone(), output.clone(), options, end.way().clone())?;
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
                    // Ctrl-C is for the program that has the terminal.
                    _ = ctrl_c.recv() => if !output.is_lent() { break },
                }
            }
            engine.interrupt();
            if let Ok(result) = timeout(STUCK_AFTER, &mut running).await {
                return result;
            }
            output.complain(
                "the program is inside of a library function; Ctrl-C again leaves kademlua",
            );
            tokio::select! {
                result = &mut running => result,
                _ = ctrl_c.recv() => end.way().now(INTERRUPTED),
            }
        })
    }

    /// Waits for something, but no longer than `at_most`.
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

    /// Tells how a chunk failed, and goes on.
    pub fn tell(&self, error: &ChunkError) {
        self.output.complain(error);
    }

    /// Runs the user's start-up file, if there is one, and tells what is wrong with it.
    pub fn start_up(&mut self) {
        let Some(file) = folders::configuration().map(|folder| folder.join("init.lua")) else {
            return;
        };
        match std::fs::read(&file) {
            Ok(source) => {
                let name = format!("@{}", file.display());
                if let Err(error) = self.run(Chunk::program(&source, name)) {
                    self.tell(&error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let problem = format!("{}: {error}", file.display());
                self.tell(&ChunkError::Failed(problem));
            }
        }
    }

    /// Prompts for chunks and runs them until the user leaves.
    ///
    /// # Errors
    /// If the terminal fails.
    pub fn interact(&mut self) -> anyhow::Result<()> {
        editor::interact(self)
    }

    /// The prompt: `contacts~estimate | kilobytes > `, with `xdp` at the end if a fast path is
    /// attached, or `sim | kilobytes > ` without a node.
    fn prompt(&self) -> String {
        let Some(node) = &self.node else {
            return format!("sim | {:4.0} > ", process_kilobytes());
        };
        let host = Host::from(node.clone());
        // A node in another process may hang.
        let look = |look| {
            let asking = async { timeout(LOOK_WITHIN, host.ask(Ask::Look(look))).await };
            self.runtime.block_on(asking).ok()?.ok()
        };
        let (contacts, estimate) = match look(Look::Node) {
            Some(Answer::Node(view)) => (view.snapshot.v1().contacts, view.snapshot.v1().estimate),
            _ => (0, 0.0),
        };
        let attached = matches!(look(Look::Xdp), Some(Answer::Xdp(view)) if view.attached);
        let mark = if attached { " xdp" } else { "" };
        // The memory of the node, not of the shell that is attached to it.
        let memory = match node {
            Subject::Own(_) => process_kilobytes(),
            Subject::Attached(attached) => attached.process().map_or(0.0, kilobytes_of),
        };
        format!("{contacts}~{estimate:.0} | {memory:4.0}{mark} > ")
    }

    /// Forgets signals that came while no program ran, lest they end the next.
    fn settle_interrupts(&mut self) {
        let ctrl_c = &mut self.ctrl_c;
        self.runtime.block_on(async {
            tokio::task::yield_now().await;
            while let Ok(Some(())) = timeout(Duration::ZERO, ctrl_c.recv()).await {}
        });
    }
}

/// Resident memory of this process.
fn process_kilobytes() -> f64 {
    kilobytes_of(std::process::id())
}

/// Resident memory of another process.
pub(crate) fn kilobytes_of(process: u32) -> f64 {
    let pid = Pid::from_u32(process);
    let mut system = System::new();
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
    system.process(pid).map_or(0.0, |process| process.memory() as f64 / 1024.0)
}
