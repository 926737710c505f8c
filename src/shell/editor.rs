//! The prompt: lines are read, completed and coloured here, and handed to the shell when they
//! make a whole chunk.

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::chunk::{Chunk, Completeness};
use super::engine::Engine;
use super::failure::ChunkError;
use super::highlight::{KEYWORDS, highlight};
use super::{Shell, escape_lines, history};

/// Reads and runs chunks until Ctrl-D.
pub(crate) fn interact(shell: &mut Shell) -> anyhow::Result<()> {
    let mut prompt = Prompt::new(shell)?;
    loop {
        match prompt.read(shell) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => show(shell, &line),
            Err(ReadlineError::Interrupted) => shell.engine.interrupt(),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn show(shell: &mut Shell, line: &str) {
    match shell.run(Chunk::typed(line)) {
        Ok(()) => {}
        Err(error @ (ChunkError::Interrupted | ChunkError::Failed(_) | ChunkError::Stopped)) => {
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
        editor.set_helper(Some(LuaHelper { engine: shell.engine.clone(), complete }));
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
        let line = self.editor.readline(&prompt);
        shell.output.set_editing(false);
        let line = line?;
        self.remember(&line);
        Ok(line)
    }

    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let Some(file) = self.history.as_ref().filter(|_| added) {
            // A read-only home is no reason to stop.
            let _ = self.editor.append_history(file);
        }
    }
}

/// What the editor asks about Lua.
struct LuaHelper {
    engine: Engine,
    complete: Completeness,
}

impl Helper for LuaHelper {}

impl Validator for LuaHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match self.complete.wants_more(context.input()) {
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
        kind != CmdKind::MoveCursor
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
