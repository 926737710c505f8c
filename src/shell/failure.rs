//! How programs fail, and how that reads: with the line of the user's program, never with one of ours.

use mlua::Lua;

/// Memory for Lua: no sensible program at a prompt needs more, and a runaway one leaves the rest
/// of the machine alone.
pub(crate) const MEMORY_MAX: usize = 256 << 20;

/// Why a chunk did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// An error in the program, with its place.
    #[error("{0}")]
    Failed(String),
    /// Tasks that the program began have failed, each with its own message.
    #[error("{}", tasks_failed(*.0))]
    Tasks(u64),
    /// The reader of standard output has left. That is no failure: `head` ends the programs that it
    /// reads from like that.
    #[error("nobody reads standard output any longer")]
    Unread,
    /// The Lua thread is gone.
    #[error("Lua has stopped")]
    Stopped,
}

fn tasks_failed(count: u64) -> String {
    match count {
        1 => "a task failed".to_owned(),
        _ => format!("{count} tasks failed"),
    }
}

/// What an error says, with the place but without the traceback.
pub(crate) fn message_of(error: &mlua::Error) -> String {
    let message = match error {
        mlua::Error::RuntimeError(message) | mlua::Error::SyntaxError { message, .. } => {
            message.clone()
        }
        mlua::Error::MemoryError(_) => OUT_OF_MEMORY.to_owned(),
        mlua::Error::CallbackError { cause, .. } => message_of(cause),
        other => other.to_string(),
    };
    let message = message.split_once("\nstack traceback:").map_or(&*message, |(text, _)| text);
    match without_place(message) {
        // An error that a program or the prelude has passed on reads like this.
        OUT_OF_MEMORY => format!("{OUT_OF_MEMORY}: programs may use {} MB", MEMORY_MAX >> 20),
        message => message.to_owned(),
    }
}

/// Whether it is Lua's memory that failed.
pub(crate) fn is_out_of_memory(error: &mlua::Error) -> bool {
    message_of(error).starts_with(OUT_OF_MEMORY)
}

const OUT_OF_MEMORY: &str = "not enough memory";

/// How the names of the chunks in `lua/` begin; no file has such a name.
pub(crate) const BUILT_IN: &str = "(kademlua ";

/// The name of a chunk in `lua/`, as Lua has it.
pub(crate) fn built_in(name: &str) -> String {
    format!("={BUILT_IN}{name})")
}

/// A message without leading places in chunks of `lua/`: they mean nothing to a user.
pub(crate) fn without_place(mut message: &str) -> &str {
    while let Some(rest) = strip_place(message) {
        message = rest;
    }
    message
}

fn strip_place(message: &str) -> Option<&str> {
    let (_, rest) = message.strip_prefix(BUILT_IN)?.split_once("):")?;
    let (line, message) = rest.split_once(": ")?;
    line.bytes().all(|byte| byte.is_ascii_digit()).then_some(message)
}

/// Lines of a traceback: the innermost, where one looks first.
const FRAMES_MAX: usize = 12;

/// Levels of the stack that are searched for them; a stack that has overflowed has 200,000.
const LEVELS_MAX: usize = 60;

/// The user's own lines through which Lua came here, the innermost first, each as in Lua's own traceback. Empty if
/// there is only one: it stands in the message.
pub(crate) fn trace(lua: &Lua) -> Vec<String> {
    let mut lines = Vec::new();
    for level in 0..LEVELS_MAX {
        let frame = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let is_ours = source.source.as_ref()?.get(1..)?.starts_with(BUILT_IN);
            let line = frame.current_line().filter(|_| source.what != "C" && !is_ours)?;
            let place = source.short_src?;
            let names = frame.names();
            let function = match (names.name, source.line_defined) {
                _ if source.what == "main" => "main chunk".to_owned(),
                (Some(name), _) => format!("function '{name}'"),
                (None, defined) => {
                    format!("function <{place}:{}>", defined.unwrap_or_default())
                }
            };
            Some(format!("{place}:{line}: in {function}"))
        });
        match frame {
            None => break,
            Some(frame) => lines.extend(frame),
        }
        if lines.len() > FRAMES_MAX {
            lines.truncate(FRAMES_MAX);
            lines.push("…".to_owned());
            break;
        }
    }
    if lines.len() > 1 { lines } else { Vec::new() }
}

/// The prelude's names for functions that call what a program hands them, without a line of the program in
/// between.
const HANDED_TO: [&str; 2] = ["raw_pcall", "raw_xpcall"];

/// The place in the user's own program from which Lua came here, in the form with which errors begin. Empty if
/// there is none: Lua's own `pcall(f)`, too, calls `f` from no line.
pub(crate) fn place(lua: &Lua) -> String {
    let place_at = |level| {
        lua.inspect_stack(level, |frame| {
            let source = frame.source();
            if source.what == "C" {
                let name = frame.names().name?;
                return HANDED_TO.contains(&&*name).then(String::new);
            }
            let is_ours = source.source?.get(1..).is_some_and(|name| name.starts_with(BUILT_IN));
            let line = frame.current_line().filter(|_| !is_ours)?;
            Some(format!("{}:{line}: ", source.short_src?))
        })
    };
    (0..).map_while(place_at).flatten().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_chunks_of_our_own_are_left_out() {
        for (message, rest) in [
            ("(kademlua prelude):12: net: no", "net: no"),
            ("(kademlua a):1: (kademlua draw/b):22: no", "no"),
            ("a.lua:3: (kademlua prelude):12: no", "a.lua:3: (kademlua prelude):12: no"),
            ("(kademlua prelude): no", "(kademlua prelude): no"),
            ("prelude.lua:3: no", "prelude.lua:3: no"),
            ("", ""),
        ] {
            assert_eq!(without_place(message), rest);
        }
    }
}
