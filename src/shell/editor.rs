//! The prompt: lines are read, completed and coloured here, and handed to the shell when they
//! make a whole chunk.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Event, EventHandler, Helper};

use super::chunk::{Chunk, Completeness};
use super::engine::Engine;
use super::failure::ChunkError;
use super::highlight::{KEYWORDS, highlight};
use super::pace::Pace;
use super::{Shell, escape_lines, history, terminal};

/// Lines in a row that cannot be read, after which the terminal is taken for gone.
const FAILURES_MAX: u32 = 10;

/// Reads and runs chunks until Ctrl-D. A line that cannot be read is no end: only a terminal that is gone is.
pub(crate) fn interact(shell: &mut Shell) -> anyhow::Result<()> {
    let mut prompt = Prompt::new(shell)?;
    let mut failures = 0;
    loop {
        let read = prompt.read(shell);
        failures = if read.is_ok() { 0 } else { failures + 1 };
        match read {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => show(shell, &line),
            Err(ReadlineError::Interrupted) => {
                failures = 0;
                shell.engine.interrupt();
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) if failures > FAILURES_MAX => return Err(error.into()),
            Err(error) => {
                terminal::forget_input();
                shell.output.note(&format!("{}\n", unreadable(&error)));
            }
        }
    }
}

/// What to say of a line that could not be read.
fn unreadable(error: &ReadlineError) -> String {
    match error {
        ReadlineError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            "the line is dropped, it has a byte that is no UTF-8; write \\xe9 for it in a string"
                .to_owned()
        }
        error => format!("the line cannot be read: {}", escape_lines(&error.to_string())),
    }
}

fn show(shell: &mut Shell, line: &str) {
    match shell.run(Chunk::typed(line)) {
        Ok(()) => {}
        Err(
            error @ (ChunkError::Interrupted
            | ChunkError::Failed(_)
            | ChunkError::Unread
            | ChunkError::Stopped),
        ) => {
            shell.output.note(&format!("{}\n", escape_lines(&error.to_string())));
        }
    }
}

struct Prompt {
    editor: Editor<LuaHelper, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    fn new(shell: &Shell) -> anyhow::Result<Prompt> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .auto_add_history(false)
            .build();
        let mut editor = Editor::with_config(config)?;
        let complete = Completeness::new().map_err(|error| anyhow::anyhow!("Lua: {error}"))?;
        let (engine, pace) = (shell.engine.clone(), Pace::default());
        let handler = EventHandler::Conditional(Box::new(pace.clone()));
        editor.bind_sequence(Event::Any, handler);
        let before = RefCell::default();
        editor.set_helper(Some(LuaHelper { engine, complete, pace, before }));
        let history = history::file();
        if let Some(file) = &history {
            // Missing at the first run, and a shell without history is still a shell.
            let _ = editor.load_history(file);
        }
        if let Ok(printer) = editor.create_external_printer() {
            shell.output.use_printer(printer);
        }
        Ok(Prompt { editor, history })
    }

    fn read(&mut self, shell: &mut Shell) -> rustyline::Result<String> {
        shell.settle_interrupts();
        let prompt = shell.prompt();
        shell.output.set_editing(true);
        let chunk = self.read_chunk(&prompt);
        shell.output.set_editing(false);
        let chunk = chunk?;
        self.remember(&chunk);
        Ok(chunk)
    }

    /// Reads lines until they are a whole chunk. What is typed comes at once, with all its lines, as the editor asks
    /// the validator; what is pasted without brackets comes line by line.
    fn read_chunk(&mut self, prompt: &str) -> rustyline::Result<String> {
        let mut chunk = String::new();
        let mut quiet = None;
        loop {
            let helper = self.editor.helper().expect("it was set");
            helper.pace.set_continued(!chunk.is_empty());
            helper.before.replace(chunk.clone());
            let continuation;
            let shown = if chunk.is_empty() {
                prompt
            } else {
                continuation = format!("{:>1$}", CONTINUED, prompt.len());
                &continuation
            };
            match self.editor.readline(shown) {
                Ok(line) => chunk.push_str(&line),
                // At the beginning it leaves the shell, here what was begun.
                Err(ReadlineError::Eof) if !chunk.is_empty() => {
                    return Err(ReadlineError::Interrupted);
                }
                Err(error) => return Err(error),
            }
            if !self.editor.helper().expect("it was set").complete.wants_more(&chunk) {
                drop(quiet);
                return Ok(chunk);
            }
            chunk.push('\n');
            // Between two lines the terminal would show what comes by itself.
            quiet = quiet.or_else(terminal::Quiet::begin);
        }
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(file) = self.history.as_ref().filter(|_| added) {
            // A read-only home is no reason to stop.
            let _ = self.editor.append_history(file);
        }
    }
}

/// The prompt of a line that continues others.
const CONTINUED: &str = ".. > ";

/// What the editor asks about Lua.
struct LuaHelper {
    engine: Engine,
    complete: Completeness,
    pace: Pace,
    /// The lines that the one being edited continues.
    before: RefCell<String>,
}

impl Helper for LuaHelper {}

impl Validator for LuaHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let chunk = self.before.borrow().clone() + context.input();
        Ok(match self.complete.wants_more(&chunk) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for LuaHelper {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let (path, prefix) = name_before(&line[..at]);
        let mut names = self.engine.names(path.clone(), prefix);
        if path.is_empty() && !prefix.is_empty() {
            let keywords = KEYWORDS.iter().filter(|keyword| keyword.starts_with(prefix));
            names.extend(keywords.map(|&keyword| keyword.to_owned()));
            names.sort();
        }
        Ok((at - prefix.len(), names))
    }
}

impl Hinter for LuaHelper {
    type Hint = String;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<String> {
        if self.pace.is_paste() {
            return None;
        }
        let (path, name) = name_before(line.get(..at)?.strip_suffix('(')?);
        let arguments = self.engine.hints().get(name).filter(|_| path.is_empty())?;
        (at == line.len()).then(|| format!("{arguments})"))
    }
}

impl Highlighter for LuaHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        highlight(line).into()
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        format!("\x1b[2m{hint}\x1b[0m").into()
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        // A character that is not coloured need not be drawn again, nor anything before it.
        kind != CmdKind::MoveCursor && !self.pace.is_paste()
    }
}

/// The name that ends the text: the tables that lead to it, and how much of it is there.
/// `print(string.re` gives `string` and `re`.
fn name_before(text: &str) -> (Vec<String>, &str) {
    let belongs = |char: char| char.is_ascii_alphanumeric() || "_.:".contains(char);
    let start = text
        .rfind(|char| !belongs(char))
        .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8));
    let mut steps: Vec<&str> = text[start..].split(['.', ':']).collect();
    let prefix = steps.pop().unwrap_or_default();
    (steps.into_iter().map(str::to_owned).collect(), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_with_its_tables() {
        assert_eq!(name_before("print(string.re"), (vec!["string".into()], "re"));
        assert_eq!(name_before("a.b:c"), (vec!["a".into(), "b".into()], "c"));
        assert_eq!(name_before("x = fi"), (vec![], "fi"));
        assert_eq!(name_before("é"), (vec![], ""));
        assert_eq!(name_before(""), (vec![], ""));
    }
}
