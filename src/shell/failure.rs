//! How programs fail, and how that reads.

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
    /// The Lua thread is gone.
    #[error("Lua has stopped")]
    Stopped,
}

/// What an error says, with the place but without the traceback.
pub(crate) fn message_of(error: &mlua::Error) -> String {
    let message = match error {
        mlua::Error::RuntimeError(message) | mlua::Error::SyntaxError { message, .. } => {
            message.clone()
        }
        mlua::Error::MemoryError(_) => {
            format!("not enough memory: programs may use {} MB", MEMORY_MAX >> 20)
        }
        mlua::Error::CallbackError { cause, .. } => message_of(cause),
        other => other.to_string(),
    };
    match message.split_once("\nstack traceback:") {
        Some((message, _)) => message.to_owned(),
        None => message,
    }
}
