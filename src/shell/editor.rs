//! The prompt: lines are read, completed and coloured here, and handed to the shell when they
//! make a whole chunk.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint as Shown, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    ColorMode, CompletionType, Config, Context, Editor, Event, EventHandler, Helper, KeyEvent,
};

use super::chunk::{self, Chunk};
use super::cursor::{Cursor, OpenBrackets, Step};
use super::engine::{Engine, Hint};
use super::highlight::highlight;
use super::lexemes::KEYWORDS;
use super::pace::{EditorKeys, Pace};
use super::{Shell, escape_lines, history, indent, outside, terminal, words};

/// After this many lines in a row that cannot be read, the terminal is taken to be gone.
const FAILURES_MAX: u32 = 10;

/// Reads and runs chunks until Ctrl-D. A line that cannot be read does not end this; only a terminal that is
/// gone does.
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
                shell.output.complain(unreadable(&error));
            }
        }
    }
}

/// What to say about a line that could not be read.
fn unreadable(error: &ReadlineError) -> String {
    match error {
        ReadlineError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            "the line is dropped, it has a byte that is no UTF-8; write \\xe9 for it in a string"
                .to_owned()
        }
        error => format!("the line cannot be read: {error}"),
    }
}

fn show(shell: &mut Shell, line: &str) {
    if let Err(error) = shell.run(Chunk::typed(&*words::as_lua(line))) {
        shell.tell(&error);
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
            // Marks are drawn without colours too; whether there are any is looked at here.
            .color_mode(ColorMode::Forced)
            .build();
        let mut editor = Editor::with_config(config)?;
        let (engine, pace) = (shell.engine.clone(), Pace::default());
        let handler = EventHandler::Conditional(Box::new(pace.clone()));
        editor.bind_sequence(Event::Any, handler);
        let keys = Event::KeySeq(vec![KeyEvent::ctrl('X'), KeyEvent::ctrl('E')]);
        let handler = EventHandler::Conditional(Box::new(EditorKeys(pace.clone())));
        editor.bind_sequence(keys, handler);
        let colours = terminal::takes_colours(&io::stdout());
        editor.set_helper(Some(LuaHelper { engine, pace, colours, hints: RefCell::default() }));
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
        let is_for_editor = self.helper().pace.takes_editor();
        let meant = indent::without_margin(&chunk);
        if is_for_editor {
            let edited = self.edited(shell, &meant);
            self.remember(&edited);
            return Ok(edited);
        }
        // As it was typed, so that it has its marks when it comes again.
        self.remember(&chunk);
        Ok(meant)
    }

    /// Reads lines until they are a whole chunk. Typed lines come together, since the editor asks the validator;
    /// lines that are pasted without brackets come one by one.
    fn read_chunk(&mut self, prompt: &str) -> rustyline::Result<String> {
        let mut chunk = String::new();
        let mut quiet = None;
        loop {
            let helper = self.helper();
            helper.pace.set_before(&chunk);
            helper.hints.borrow_mut().clear();
            let continuation;
            let shown = if chunk.is_empty() {
                prompt
            } else {
                continuation = format!("{:>1$}", CONTINUED, prompt.len());
                &continuation
            };
            match self.editor.readline(shown) {
                Ok(line) => chunk.push_str(&line),
                // On a first line it leaves the shell, here only the chunk that was begun.
                Err(ReadlineError::Eof) if !chunk.is_empty() => {
                    return Err(ReadlineError::Interrupted);
                }
                Err(error) => return Err(error),
            }
            if self.helper().pace.wants_editor() || !chunk::wants_more(&chunk) {
                drop(quiet);
                return Ok(chunk);
            }
            chunk.push('\n');
            // Between two lines the terminal itself would echo the keys.
            quiet = quiet.or_else(terminal::Quiet::begin);
        }
    }

    /// What the user's editor makes of a chunk, shown as if it had been typed; empty if the editor
    /// fails.
    fn edited(&mut self, shell: &Shell, chunk: &str) -> String {
        match outside::edit(&shell.output, chunk) {
            Ok(edited) if edited.is_empty() => edited,
            Ok(edited) => {
                shell.output.note(&escape_lines(&format!("{edited}\n")));
                edited
            }
            Err(error) => {
                self.remember(chunk);
                shell.output.complain(error);
                String::new()
            }
        }
    }

    fn helper(&self) -> &LuaHelper {
        self.editor.helper().expect("it was set")
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(file) = self.history.as_ref().filter(|_| added) {
            // A read-only home is no reason to fail.
            let _ = self.editor.append_history(file);
        }
    }
}

/// The prompt of a line that continues others.
const CONTINUED: &str = ".. > ";

/// Names of settings in a hint; there may be dozens.
const SETTINGS_HINTED: usize = 6;

/// What the editor asks about Lua.
struct LuaHelper {
    engine: Engine,
    pace: Pace,
    colours: bool,
    /// The hints for calls in the line being edited: they are asked for at each key.
    hints: RefCell<HashMap<Vec<Step>, Option<Hint>>>,
}

impl Helper for LuaHelper {}

impl Validator for LuaHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match chunk::wants_more(&self.pace.chunk(context.input())) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for LuaHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let pair = |text: String| Pair { display: text.trim_end().to_owned(), replacement: text };
        if let Some((start, text)) = self.pace.take_replacement() {
            return Ok((start, vec![pair(text)]));
        }
        let cursor = Cursor::at_end_of(&self.pace.chunk(&line[..at]));
        let (prefix, start) = (cursor.prefix.clone(), at.saturating_sub(cursor.prefix.len()));
        let is_name = cursor.path.is_empty() && cursor.quote.is_none();
        let names = self.engine.names(cursor);
        if names.wants_file {
            return complete_file(line, start, at);
        }
        let mut texts = names.texts;
        let is_setting = texts.iter().any(|text| text.ends_with(" = "));
        if is_name && !is_setting && !prefix.is_empty() {
            let keywords = KEYWORDS.iter().filter(|keyword| keyword.starts_with(&prefix));
            texts.extend(keywords.map(|&keyword| keyword.to_owned()));
            texts.sort();
        }
        Ok((start, texts.into_iter().map(pair).collect()))
    }
}

/// The files whose names begin with the quoted text from `start` on.
fn complete_file(line: &str, start: usize, at: usize) -> rustyline::Result<(usize, Vec<Pair>)> {
    // With its quote: in quotes a blank is a part of the name.
    let quoted = start.saturating_sub(1);
    let (from, files) = FilenameCompleter::new().complete_path(&line[quoted..at], at - quoted)?;
    Ok((quoted + from, files))
}

impl Hinter for LuaHelper {
    type Hint = Remaining;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<Remaining> {
        if self.pace.is_paste() || at < line.len() {
            return None;
        }
        if self.pace.chunk(line).is_empty() {
            // Without colours it would look as if it had been typed.
            let last = Some(self.engine.last_result()).filter(|&last| last > 0);
            let last = last.filter(|_| self.colours);
            return last.map(|last| Remaining(format!("_{last}")));
        }
        let cursor = Cursor::at_end_of(&self.pace.chunk(line));
        let frame = cursor.call_around().filter(|_| cursor.quote.is_none())?;
        let mut hints = self.hints.borrow_mut();
        let hint = match hints.get(&frame.callee) {
            Some(known) => known,
            None => {
                let told = self.engine.hint(frame.callee.clone());
                hints.entry(frame.callee.clone()).or_insert(told)
            }
        };
        remaining(hint.as_ref()?, frame).map(Remaining)
    }
}

/// The arguments that a call still takes, or on an empty line the name of the last result. Only shown, never
/// inserted.
struct Remaining(String);

impl Shown for Remaining {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

/// The arguments from the one at the cursor on, with the bracket that closes the call.
fn remaining(hint: &Hint, frame: &OpenBrackets) -> Option<String> {
    if frame.is_table {
        let left = hint.settings.iter().filter(|name| !frame.given.contains(name));
        let mut left: Vec<&str> = left.map(String::as_str).take(SETTINGS_HINTED + 1).collect();
        if left.len() > SETTINGS_HINTED {
            left[SETTINGS_HINTED] = "…";
        }
        let is_at_name = frame.is_blank && frame.key.is_none();
        return (is_at_name && !left.is_empty()).then(|| left.join(", ") + "}");
    }
    let arguments: Vec<&str> = hint.arguments.split(", ").filter(|name| !name.is_empty()).collect();
    let mut at = frame.argument - 1;
    if arguments.last() == Some(&"...") {
        at = at.min(arguments.len() - 1);
    }
    let skipped = at + usize::from(!frame.is_blank);
    let left = arguments.get(skipped..).unwrap_or_default().join(", ");
    Some(match (frame.is_blank, left.is_empty()) {
        (_, true) => ")".to_owned(),
        (true, false) => left + ")",
        (false, false) => format!(", {left})"),
    })
}

impl Highlighter for LuaHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        highlight(line, self.colours).into()
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        if !self.colours {
            return hint.into();
        }
        // The argument at the cursor stands out.
        let at = hint.find([',', ')', '}']).unwrap_or(0);
        let (first, rest) = hint.split_at(at);
        format!("\x1b[4m{first}\x1b[24;2m{rest}\x1b[0m").into()
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        // A character that is not coloured need not be drawn again, nor anything before it.
        kind != CmdKind::MoveCursor && !self.pace.is_paste()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_that_remain_are_told() {
        let hint = |arguments: &str, settings: &[&str]| Hint {
            arguments: arguments.into(),
            settings: settings.iter().map(|&name| name.into()).collect(),
        };
        let told = |text: &str, hint: &Hint| {
            let cursor = Cursor::at_end_of(text);
            remaining(hint, cursor.call_around().unwrap())
        };
        let find = hint("key, maxnodes=3, maxentries=6", &[]);
        for (text, expected) in [
            ("f(", "key, maxnodes=3, maxentries=6)"),
            ("f(k", ", maxnodes=3, maxentries=6)"),
            ("f(k, ", "maxnodes=3, maxentries=6)"),
            ("f(g(1, 2), ", "maxnodes=3, maxentries=6)"),
            ("f(k, 1, 2", ")"),
            ("f(k, 1, 2, ", ")"),
        ] {
            assert_eq!(told(text, &find).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(told("f(", &hint("", &[])).as_deref(), Some(")"));
        let many = hint("function, ...", &[]);
        assert_eq!(told("f(a, b, c, ", &many).as_deref(), Some("...)"));
        let net = hint("settings", &["nodes", "seed"]);
        assert_eq!(told("net{", &net).as_deref(), Some("nodes, seed}"));
        assert_eq!(told("net{seed = 1, ", &net).as_deref(), Some("nodes}"));
        assert_eq!(told("net{seed = ", &net), None);
    }
}
