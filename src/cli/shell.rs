//! The command without a name: a node and its shell, or a program that runs in it.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::net::Handle;
use crate::shell::{Chunk, LogWriter, Options, Output, Script, Shell, say};

use super::{BadUsage, NodeArguments};

/// A program begins when the node has joined, or after this time without.
const JOIN_WITHIN: Duration = Duration::from_secs(2);

/// The first prompt comes when the node has joined, or after this time: who types is not kept
/// waiting for a network that is not there.
const PROMPT_WITHIN: Duration = Duration::from_millis(300);

/// A service, a container or `nohup` start the program so.
const NOTHING_TO_DO: &str = "expected a program, but standard input is empty, and no terminal to \
    prompt at; for a node without a shell: kademlua serve";

/// What the shell takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// UDP port of the node [default: 8001; 0 takes any free one and says which], or the script
    #[arg(value_name = "PORT | SCRIPT.lua")]
    first: Option<OsString>,
    /// Script and its arguments
    #[arg(value_name = "SCRIPT.lua ARG", trailing_var_arg = true)]
    rest: Vec<OsString>,
    /// Run one chunk and exit
    #[arg(short = 'e', value_name = "CHUNK", allow_hyphen_values = true)]
    chunk: Option<OsString>,
    /// Show results as JSON lines
    #[arg(long)]
    json: bool,
    /// Folder with lessons of one's own [default: what KADEMLUA_LESSONS names]
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true)]
    lessons: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArguments,
}

impl Arguments {
    /// The port, and the script with its arguments.
    pub(super) fn program(&self) -> Result<(Option<u16>, Vec<OsString>), BadUsage> {
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
    let (port, words) = arguments.program()?;
    if arguments.chunk.is_some() && !words.is_empty() {
        return Err(BadUsage("expected a script or -e, got both".to_owned()).into());
    }
    let program = Program::of(&arguments, &words)?;
    let (options, chunk) = program.read(Options {
        json: arguments.json,
        lessons: arguments.lessons.clone(),
        script: None,
    })?;

    let output = Output::new();
    let log = LogWriter(output.clone());
    arguments.node.start_log("warn", move || log.clone())?;
    let handle = arguments.node.start(port, true)?;
    let mut shell = Shell::start(Some(handle.clone()), output, options)?;
    match chunk {
        None => {
            greet(&handle)?;
            shell.wait(PROMPT_WITHIN, joined(&handle))?;
            shell.interact()?;
        }
        Some(chunk) => {
            shell.wait(JOIN_WITHIN, joined(&handle))?;
            shell.run(chunk)?;
        }
    }
    Ok(())
}

/// Where the program comes from.
enum Program<'a> {
    Prompt,
    StandardInput,
    Text(&'a OsStr),
    File { name: &'a OsStr, arguments: &'a [OsString] },
}

impl<'a> Program<'a> {
    fn of(arguments: &'a Arguments, words: &'a [OsString]) -> anyhow::Result<Program<'a>> {
        Ok(match (&arguments.chunk, words) {
            (Some(text), _) => Program::Text(text),
            (None, [name, arguments @ ..]) => Program::File { name, arguments },
            (None, []) if std::io::stdin().is_terminal() => Program::Prompt,
            (None, []) => Program::StandardInput,
        })
    }

    /// Reads it before the node starts: a missing file is a message, not a node.
    fn read(&self, plain: Options) -> anyhow::Result<(Options, Option<Chunk>)> {
        Ok(match *self {
            Program::Prompt => (plain, None),
            Program::Text(text) => (plain, Some(Chunk::argument(text.as_bytes()))),
            Program::StandardInput => {
                let mut source = Vec::new();
                std::io::stdin().read_to_end(&mut source).context("standard input")?;
                if source.trim_ascii().is_empty() {
                    return Err(BadUsage(NOTHING_TO_DO.to_owned()).into());
                }
                (plain, Some(Chunk::program(&source, "=stdin".to_owned())))
            }
            Program::File { name, arguments } => {
                let source = std::fs::read(name).with_context(|| name.display().to_string())?;
                let (script, chunk) = script(name, arguments, &source);
                (Options { script: Some(script), ..plain }, Some(chunk))
            }
        })
    }
}

/// A script and its program.
pub(super) fn script(name: &OsStr, arguments: &[OsString], source: &[u8]) -> (Script, Chunk) {
    let folder = Path::new(name).parent().unwrap_or(Path::new("")).join(".");
    let script = Script { name: name.to_owned(), folder, arguments: arguments.to_vec() };
    (script, Chunk::program(source, format!("@{}", name.display())))
}

fn greet(handle: &Handle) -> std::io::Result<()> {
    let (version, address, id) = (env!("CARGO_PKG_VERSION"), handle.local_addr(), handle.id());
    say(format_args!("kademlua {version}, node {address} {id}"))?;
    say("help() lists what there is, Ctrl-C ends a program, Ctrl-D leaves")
}

/// Waits until the node has asked the network in, unless it is the network. Where nobody is there, the
/// program runs all the same, in a network of one.
async fn joined(handle: &Handle) {
    handle.tried_to_join().await;
}
