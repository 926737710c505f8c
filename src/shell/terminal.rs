//! The terminal: what can be shown there, how wide it is, whether it takes colours and more than ASCII; and what comes
//! from it while nobody reads.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};

/// The width if nobody tells: that of most terminals, and of output that goes to none.
const WIDTH: usize = 80;

/// Widths that drawings are made for.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=400;

/// The columns of standard output.
pub(crate) fn width() -> usize {
    columns_of(io::stdout())
}

/// The columns of a stream, if it is a terminal.
pub(crate) fn width_of(stream: impl AsFd + IsTerminal) -> Option<usize> {
    stream.is_terminal().then(|| columns_of(stream))
}

/// The width that `COLUMNS` says, since the user means it, else that of the stream.
fn columns_of(stream: impl AsFd) -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || Some(usize::from(terminal_size::terminal_size_of(stream)?.0.0));
    let columns = said.filter(|&columns| columns > 0).or_else(terminal);
    columns.unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end())
}

/// The lines of standard output, if it is a terminal that says so.
pub(crate) fn height() -> Option<usize> {
    Some(usize::from(terminal_size::terminal_size_of(io::stdout())?.1.0)).filter(|&lines| lines > 0)
}

/// Whether the terminal can do nothing but show text.
pub(crate) fn is_dumb() -> bool {
    std::env::var("TERM").is_ok_and(|term| term == "dumb")
}

/// Whether a stream takes colours: a terminal does unless `NO_COLOR` or, outside of `CI`, `TERM=dumb`
/// says otherwise, and anything does under `CLICOLOR_FORCE`.
pub(crate) fn takes_colours(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Whether the locale has more characters than ASCII: the first of its variables that is set counts.
pub(crate) fn takes_unicode() -> bool {
    let said = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(said);
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// While this is held the terminal does not echo what is typed.
pub(crate) struct Quiet(Termios);

impl Quiet {
    /// `None` if standard input is no terminal.
    pub(crate) fn begin() -> Option<Quiet> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &quiet).ok()?;
        Some(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // It may be gone by now.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Drops what was typed and not read yet: the rest of a line that could not be read.
pub(crate) fn forget_input() {
    // Standard input may be no terminal.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
}
