//! The command without a name: a node and its shell, or a program that runs in it.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use crate::net::Handle;
use crate::net::door::Role;
use crate::shell::{LogWriter, Shell, ShellOutput, Subject, say_wrapped};

use super::program::{ProgramArguments, file};
use super::{BadUsage, NodeArguments};

/// A program begins when the node has joined, or after this time if it has not.
const JOIN_WITHIN: Duration = Duration::from_secs(2);

/// The first prompt comes when the node has joined, or after this time: a person is not kept
/// waiting for a network that is not there.
const PROMPT_WITHIN: Duration = Duration::from_millis(300);

/// A service, a container or `nohup` start the program so.
const WITHOUT_A_SHELL: &str = "; for a node without a shell: kademlua serve";

/// What the shell takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// UDP port of the node [default: 8001; 0 takes any free one and says which], or the script
    #[arg(value_name = "PORT | SCRIPT.lua")]
    first: Option<OsString>,
    /// Script and its arguments
    #[arg(value_name = "SCRIPT.lua ARG", trailing_var_arg = true)]
    rest: Vec<OsString>,
    #[command(flatten)]
    program: ProgramArguments,
    #[command(flatten)]
    node: NodeArguments,
}

impl Arguments {
    /// The port, and the script with its arguments.
    pub(super) fn words(&self) -> Result<(Option<u16>, Vec<OsString>), BadUsage> {
        let Some(first) = &self.first else { return Ok((None, self.rest.clone())) };
        let digits = first.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(digits) = digits else {
            return Ok((None, [std::slice::from_ref(first), &self.rest].concat()));
        };
        match digits.parse() {
            Ok(port) => Ok((Some(port), self.rest.clone())),
            Err(_) => {
                let expected = "ports are 1 to 65535, and 0 for any free one";
                Err(BadUsage(format!("'{digits}' is no port; {expected}")))
            }
        }
    }
}

/// Runs what the arguments ask for.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (port, words) = arguments.words()?;
    let (options, chunk) = arguments.program.read(&words, file, WITHOUT_A_SHELL)?;

    let output = ShellOutput::new();
    let log = LogWriter(output.clone());
    arguments.node.start_log("warn", move || log.clone())?;
    let handle = arguments.node.start(port, Role::Shell)?;
    let mut shell = Shell::start(Some(Subject::Own(handle.clone())), output, options)?;
    match chunk {
        None => {
            greet(&handle)?;
            shell.wait(PROMPT_WITHIN, joined(&handle))?;
            arguments.program.prompt.prompt(&mut shell)?;
        }
        Some(chunk) => {
            shell.wait(JOIN_WITHIN, joined(&handle))?;
            arguments.program.prompt.run(&mut shell, chunk)?;
        }
    }
    Ok(())
}

fn greet(handle: &Handle) -> std::io::Result<()> {
    let (version, address, id) = (env!("CARGO_PKG_VERSION"), handle.local_addr(), handle.id());
    say_wrapped(&format!("kademlua {version}, node {address} {id}"))?;
    say_wrapped("help() lists what there is, Ctrl-C ends a program, Ctrl-D leaves")
}

/// Waits until the node has joined the network, unless it is the network. If nobody is there, the
/// program runs all the same, in a network of one.
async fn joined(handle: &Handle) {
    handle.tried_to_join().await;
}
