//! `kademlua attach`: the shell on a node that runs already, in another process.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use crate::control::{Ask, Filter, Look};
use crate::net::door::{AttachedNode, Which};
use crate::shell::{Shell, ShellOutput, Subject, say_wrapped};

use super::program::{ProgramArguments, file};

/// How long the node may take to begin keeping its last packets: a moment. A program runs all the same.
const KEEP_WITHIN: Duration = Duration::from_secs(2);

/// What `attach` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
The program runs in this process and asks the node; the node goes on when it ends. What the program watches, \
captures and offers to peers (rpc) ends with it.

Exit status: as that of kademlua.")]
pub(super) struct Arguments {
    /// The node, by its port, its address or its control socket [default: the only one that runs], or the
    /// script
    #[arg(value_name = "PORT | ADDR:PORT | SOCKET | SCRIPT.lua")]
    first: Option<OsString>,
    /// Script and its arguments
    #[arg(value_name = "SCRIPT.lua ARG", trailing_var_arg = true)]
    rest: Vec<OsString>,
    #[command(flatten)]
    program: ProgramArguments,
}

/// Runs what the arguments ask for.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let named = arguments.first.as_ref().and_then(|word| Which::of(Path::new(word)));
    let words = match (&arguments.first, &named) {
        (Some(first), None) => [std::slice::from_ref(first), &arguments.rest].concat(),
        _ => arguments.rest.clone(),
    };
    let (options, chunk) = arguments.program.read(&words, file, "")?;
    let attached = named.unwrap_or(Which::Only).attach()?;
    let output = ShellOutput::new();
    let mut shell = Shell::start(Some(Subject::Attached(attached.clone())), output, options)?;
    // A node with a shell of its own keeps them from its start.
    let keep = Ask::Look(Look::Packets(Filter { n: Some(0), ..Filter::default() }));
    shell.wait(KEEP_WITHIN, async { drop(attached.ask(keep).await) })?;
    match chunk {
        Some(chunk) => arguments.program.prompt.run(&mut shell, chunk)?,
        None => {
            greet(&attached)?;
            arguments.program.prompt.prompt(&mut shell)?;
        }
    }
    Ok(())
}

fn greet(attached: &AttachedNode) -> std::io::Result<()> {
    let contact = attached.greeting().contact;
    let (version, address, id) = (&attached.greeting().kademlua, contact.address, contact.id);
    say_wrapped(&format!("kademlua {version}, attached to node {address} {id}"))?;
    say_wrapped(
        "help() lists what there is, Ctrl-C ends a program, Ctrl-D leaves; the node goes on",
    )
}
