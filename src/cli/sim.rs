//! `kademlua sim`: the shell without a node, for simulated networks and lessons.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::shell::{Chunk, Format, Options, Shell, ShellOutput, did_you_mean, say};

use super::program::script;
use super::prompt::PromptArguments;
use super::{BadUsage, grade};

/// The examples that are built in.
const EXAMPLES: [(&str, &str); 7] = [
    ("hops.lua", include_str!("../../lua/examples/hops.lua")),
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
Built in are hops.lua, churn.lua, alpha.lua, k.lua, partition.lua, liars.lua and sybil.lua; each \
takes the argument 'quick'. Without a script there is a prompt: n = net{nodes = 100}, or lesson().")]
pub(super) struct Arguments {
    /// Script, or one of the examples, and its arguments
    #[arg(value_name = "SCRIPT.lua ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
    /// Run one chunk and exit
    #[arg(short = 'e', value_name = "CHUNK", conflicts_with = "words", allow_hyphen_values = true)]
    chunk: Option<OsString>,
    /// Show each result as a line of JSON, and what is printed on standard error
    #[arg(long)]
    json: bool,
    /// Show rows as CSV, and what is printed on standard error
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Folder with lessons of one's own
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true)]
    lessons: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArguments,
    /// Replay the results of lessons that a class has handed in, and show what holds
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true, conflicts_with_all = ["words", "chunk"])]
    grade: Option<PathBuf>,
    /// Replay one result, from standard input, for --grade
    #[arg(long, hide = true, conflicts_with_all = ["words", "chunk", "grade"])]
    replay: bool,
}

/// Runs the script, or prompts.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(folder) = &arguments.grade {
        return grade::run(folder, arguments.lessons.as_deref(), arguments.json);
    }
    if arguments.replay {
        return grade::replay(arguments.lessons);
    }
    let mut options = Options {
        format: Format::of(arguments.json, arguments.csv),
        lessons: arguments.lessons,
        ..Options::default()
    };
    let chunk = match (&arguments.chunk, arguments.words.as_slice()) {
        (Some(text), _) => Some(Chunk::argument(text.as_bytes())),
        (None, [name, rest @ ..]) => {
            let (script, chunk) = script(name, rest, &source(name)?);
            options.script = Some(script);
            Some(chunk)
        }
        (None, []) if std::io::stdin().is_terminal() => None,
        (None, []) => {
            return Err(BadUsage("expected a script; see kademlua sim --help".into()).into());
        }
    };
    let mut shell = Shell::start(None, ShellOutput::new(), options)?;
    match chunk {
        Some(chunk) => arguments.prompt.run(&mut shell, chunk)?,
        None => {
            say(format_args!("kademlua {}, simulated networks", env!("CARGO_PKG_VERSION")))?;
            say(format_args!(
                "net{{nodes = 100}} makes one, lesson() lists lessons, Ctrl-D leaves"
            ))?;
            arguments.prompt.prompt(&mut shell)?;
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
