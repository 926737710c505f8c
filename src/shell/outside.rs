//! Programs of the user's own that get the terminal for a while: the pager, as git and psql have it, and the editor.
//!
//! Meanwhile the shell's own output waits ([`ShellOutput::lend`]). Without a terminal there is neither.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::rc::Rc;

use mlua::{Lua, Value as LuaValue};

use super::arguments::Arguments;
use super::functions::{Context, Functions, Trouble};
use super::output::ShellOutput;
use super::terminal;

/// The pager, if `PAGER` names none; and its options, if `LESS` has none: to end by itself if everything fits the
/// screen, to let colours through, and to leave the text on the screen.
const PAGER: &str = "less";
const LESS: &str = "FRX";

/// The editor, if neither `VISUAL` nor `EDITOR` names one.
const EDITOR: &str = "vi";

/// The statuses with which a shell reports a command that it cannot run.
const NOT_RUN: [i32; 2] = [126, 127];

/// Adds what `pager` and `edit` are made of.
pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add_async("pager", "\"auto\"", pager)?;
    functions.add_async("edit", "\"return 1\"", edited)
}

/// A text to show, or whether results go there by themselves.
async fn pager(context: Rc<Context>, _: Lua, mut arguments: Arguments) -> Result<(), Trouble> {
    let output = context.output.clone();
    match arguments.any() {
        LuaValue::Boolean(is_auto) => output.page_results(is_auto),
        LuaValue::String(text) => {
            let text = text.to_string_lossy();
            lent(&arguments, &context, move || page(&output, &text)).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn edited(context: Rc<Context>, _: Lua, mut arguments: Arguments) -> Result<String, Trouble> {
    let text = match arguments.any() {
        LuaValue::String(text) => text.to_string_lossy(),
        other => return Err(arguments.wrong("text", "a text", &other, "").into()),
    };
    let output = context.output.clone();
    lent(&arguments, &context, move || edit(&output, &text)).await
}

/// Runs a program that takes the terminal, while the node and everything else go on.
async fn lent<T: Send + 'static>(
    arguments: &Arguments,
    context: &Context,
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Trouble> {
    if context.output.is_editing() {
        let busy = "a line is being typed; call it from there";
        return Err(arguments.complaint(busy).into());
    }
    let ended =
        tokio::task::spawn_blocking(what).await.map_err(|error| arguments.complaint(error))?;
    Ok(ended.map_err(|error| arguments.complaint(error))?)
}

/// Shows a text with the user's pager; without one, as it is.
///
/// # Errors
/// If standard output takes no more.
pub(crate) fn page(output: &ShellOutput, text: &str) -> io::Result<()> {
    let program = std::env::var("PAGER").unwrap_or_else(|_| PAGER.to_owned());
    let is_shown = has_terminal()
        && !terminal::is_dumb()
        && !["", "cat"].contains(&&*program)
        && run_pager(output, &program, text)?;
    if is_shown { Ok(()) } else { output.print(text) }
}

/// Whether it could be run.
fn run_pager(output: &ShellOutput, program: &str, text: &str) -> io::Result<bool> {
    let _lent = output.lend();
    let mut command = Command::new("sh");
    command.args(["-c", program]).stdin(Stdio::piped());
    if said("LESS").is_none() {
        command.env("LESS", LESS);
    }
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A reader who has seen enough leaves.
        let _ = input.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    Ok(!status.code().is_some_and(|code| NOT_RUN.contains(&code)))
}

/// What the user's editor makes of a text.
///
/// # Errors
/// If there is no terminal or no editor, or the editor ends with an error.
pub(crate) fn edit(output: &ShellOutput, text: &str) -> io::Result<String> {
    if !has_terminal() {
        return Err(io::Error::other("there is no terminal for an editor"));
    }
    let program = said("VISUAL").or_else(|| said("EDITOR")).unwrap_or_else(|| EDITOR.to_owned());
    let mut file = tempfile::Builder::new().prefix("kademlua-").suffix(".lua").tempfile()?;
    writeln!(file, "{text}")?;
    let status = {
        let _lent = output.lend();
        // The program may come with arguments, as in `code --wait`.
        let line = format!("{program} \"$1\"");
        Command::new("sh").args(["-c", &line, "sh"]).arg(file.path()).status()?
    };
    if !status.success() {
        let ended = format!("{program}: {status}; nothing is run");
        return Err(io::Error::other(ended));
    }
    // Some editors put another file in its place.
    Ok(std::fs::read_to_string(file.path())?.trim_end().to_owned())
}

/// A variable that says something.
fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
