//! Messages in lines that fit the terminal. They are broken between words; a terminal would break them anywhere.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use super::terminal;

/// Columns by which further lines of a message are indented, to set it apart from what follows.
const HANGING: usize = 4;

/// A message for a stream: broken to the width of its terminal, unchanged if it is no terminal.
pub(crate) fn for_terminal(stream: impl AsFd + IsTerminal, text: &str) -> Cow<'_, str> {
    match terminal::width_of(stream) {
        Some(width) => wrapped(text, width).into(),
        None => text.into(),
    }
}

/// The text in lines of at most `width` columns. A longer word gets a line of its own.
fn wrapped(text: &str, width: usize) -> String {
    let lines = text.split('\n').map(|line| match columns(line) > width {
        true => broken(line, width),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn broken(line: &str, width: usize) -> String {
    let words = line.trim_start_matches(' ');
    let own = line.len() - words.len();
    let indent = " ".repeat(own + HANGING);
    let mut out = " ".repeat(own);
    let mut at = own;
    let mut is_first = true;
    for word in words.split(' ') {
        let length = columns(word);
        if is_first {
            is_first = false;
        } else if at + 1 + length > width {
            out.extend(["\n", &indent]);
            at = indent.len();
        } else {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
    }
    out
}

/// How many columns a text takes; colours take none.
fn columns(text: &str) -> usize {
    let mut in_colour = false;
    let shows = |char: &char| {
        let was_in_colour = in_colour;
        in_colour = if in_colour { *char != 'm' } else { *char == '\x1b' };
        !was_in_colour && !in_colour
    };
    text.chars().filter(shows).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        for (text, expected) in [
            ("", ""),
            ("short\nlines", "short\nlines"),
            ("exactly20 columns ok", "exactly20 columns ok"),
            ("one word more than that", "one word more than\n    that"),
            ("  in: a line that goes on and on", "  in: a line that\n      goes on and on"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n    b"),
            ("two  blanks  stay  where they were", "two  blanks  stay \n    where they were"),
            ("\x1b[31merror\x1b[0m: 20 wide now", "\x1b[31merror\x1b[0m: 20 wide now"),
            ("äöüäöüäöü äöüäöüäöü x", "äöüäöüäöü äöüäöüäöü\n    x"),
        ] {
            assert_eq!(wrapped(text, 20), expected);
        }
    }
}
