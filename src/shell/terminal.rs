//! What can be shown where results go: how wide it is, and whether it takes colours.

use std::io;

use anstream::{AutoStream, ColorChoice};

/// The width where nobody tells: that of most terminals, and of no terminal at all.
const WIDTH: usize = 80;

/// Widths that drawings are made for.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=400;

/// Columns of standard output, or what `COLUMNS` says of it where it is no terminal.
pub(crate) fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = terminal.map(|(width, _)| usize::from(width.0)).or_else(said);
    columns.unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end())
}

/// Whether standard output takes colours: a terminal does unless `NO_COLOR` or `TERM=dumb` says
/// otherwise, and anything does under `CLICOLOR_FORCE`.
pub(crate) fn takes_colours() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}
