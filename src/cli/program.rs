//! The program that a shell runs, as the command line says: a chunk, a script, standard input, or none, and
//! then there is a prompt.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal as _, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::shell::{Chunk, Format, Options, Script};

use super::BadUsage;
use super::prompt::PromptArguments;

/// What all commands with a shell take besides the script.
#[derive(Debug, Args)]
pub(super) struct ProgramArguments {
    /// Run one chunk and exit
    #[arg(short = 'e', value_name = "CHUNK", allow_hyphen_values = true)]
    chunk: Option<OsString>,
    /// Show each result as a line of JSON, and what is printed on standard error
    #[arg(long)]
    pub(super) json: bool,
    /// Show rows as CSV, and what is printed on standard error
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Folder with lessons of one's own [default: what KADEMLUA_LESSONS names]
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true)]
    pub(super) lessons: Option<PathBuf>,
    #[command(flatten)]
    pub(super) prompt: PromptArguments,
}

impl ProgramArguments {
    /// Reads the program, before there is a node to run it on: a missing file should cause a message, not a node.
    /// `words` are the script and its arguments; `source` reads a script; `instead` is what the user may have meant by
    /// giving no program at all.
    ///
    /// # Errors
    /// If there are two programs, or it cannot be read.
    pub(super) fn read(
        &self,
        words: &[OsString],
        source: impl FnOnce(&OsStr) -> anyhow::Result<Vec<u8>>,
        instead: &str,
    ) -> anyhow::Result<(Options, Option<Chunk>)> {
        let format = Format::of(self.json, self.csv);
        let plain = Options { format, lessons: self.lessons.clone(), script: None };
        Ok(match (&self.chunk, words) {
            (Some(_), [_, ..]) => {
                return Err(BadUsage("expected a script or -e, got both".to_owned()).into());
            }
            (Some(text), []) => (plain, Some(Chunk::argument(text.as_bytes()))),
            (None, [name, arguments @ ..]) => {
                let (script, chunk) = script(name, arguments, &source(name)?);
                (Options { script: Some(script), ..plain }, Some(chunk))
            }
            (None, []) if std::io::stdin().is_terminal() => (plain, None),
            (None, []) => (plain, Some(standard_input(instead)?)),
        })
    }
}

/// The source of a script in a file.
pub(super) fn file(name: &OsStr) -> anyhow::Result<Vec<u8>> {
    std::fs::read(name).with_context(|| name.display().to_string())
}

fn standard_input(instead: &str) -> anyhow::Result<Chunk> {
    let mut source = Vec::new();
    std::io::stdin().read_to_end(&mut source).context("standard input")?;
    if source.trim_ascii().is_empty() {
        let nothing =
            "expected a program, but standard input is empty, and no terminal to prompt at";
        return Err(BadUsage(format!("{nothing}{instead}")).into());
    }
    Ok(Chunk::program(&source, "=stdin".to_owned()))
}

/// A script and its program.
fn script(name: &OsStr, arguments: &[OsString], source: &[u8]) -> (Script, Chunk) {
    let folder = Path::new(name).parent().unwrap_or(Path::new("")).join(".");
    let script = Script { name: name.to_owned(), folder, arguments: arguments.to_vec() };
    (script, Chunk::program(source, format!("@{}", name.display())))
}
