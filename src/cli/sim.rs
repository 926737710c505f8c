//! `kademlua sim`: the shell without a node, for simulated networks and lessons.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::shell::{Shell, ShellOutput, did_you_mean, say_wrapped};

use super::grade;
use super::program::ProgramArguments;

/// The examples that are built in.
const EXAMPLES: [(&str, &str); 8] = [
    ("hops.lua", include_str!("../../lua/examples/hops.lua")),
    ("route.lua", include_str!("../../lua/examples/route.lua")),
    ("churn.lua", include_str!("../../lua/examples/churn.lua")),
    ("alpha.lua", include_str!("../../lua/examples/alpha.lua")),
    ("k.lua", include_str!("../../lua/examples/k.lua")),
    ("partition.lua", include_str!("../../lua/examples/partition.lua")),
    ("liars.lua", include_str!("../../lua/examples/liars.lua")),
    ("sybil.lua", include_str!("../../lua/examples/sybil.lua")),
];

/// What `sim` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Built in are hops.lua, route.lua, churn.lua, alpha.lua, k.lua, partition.lua, liars.lua and sybil.lua; each \
takes the argument 'quick'. Without a script there is a prompt, n = net{nodes = 100} or lesson(), or a program is \
read from standard input if that is no terminal.")]
pub(super) struct Arguments {
    /// Script, or one of the examples, and its arguments
    #[arg(value_name = "SCRIPT.lua ARG", trailing_var_arg = true)]
    words: Vec<OsString>,
    #[command(flatten)]
    program: ProgramArguments,
    /// Replay the results of lessons that a class has handed in, and show what holds
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true, conflicts_with_all = ["words", "chunk"])]
    grade: Option<PathBuf>,
    /// Replay one result, from standard input, for --grade
    #[arg(long, hide = true, conflicts_with_all = ["words", "chunk", "grade"])]
    replay: bool,
}

/// Runs the script, or prompts.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let program = arguments.program;
    if let Some(folder) = &arguments.grade {
        return grade::run(folder, program.lessons.as_deref(), program.json);
    }
    if arguments.replay {
        return grade::replay(program.lessons);
    }
    let (options, chunk) = program.read(&arguments.words, source, "; see kademlua sim --help")?;
    let mut shell = Shell::start(None, ShellOutput::new(), options)?;
    match chunk {
        Some(chunk) => program.prompt.run(&mut shell, chunk)?,
        None => {
            say_wrapped(concat!("kademlua ", env!("CARGO_PKG_VERSION"), ", simulated networks"))?;
            say_wrapped("net{nodes = 100} makes one, lesson() lists lessons, Ctrl-D leaves")?;
            program.prompt.prompt(&mut shell)?;
        }
    }
    Ok(())
}

/// A file, or else an example of that name.
fn source(name: &OsStr) -> anyhow::Result<Vec<u8>> {
    let example = EXAMPLES.iter().find(|(example, _)| *example == name);
    match (std::fs::read(name), example) {
        (Err(_), Some((_, source))) => Ok(source.as_bytes().to_vec()),
        (read, _) => read.with_context(|| {
            let text = name.to_string_lossy();
            let near = did_you_mean(&text, EXAMPLES.map(|(example, _)| example));
            format!("{text}{near}")
        }),
    }
}
