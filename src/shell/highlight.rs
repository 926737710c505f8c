//! How what is typed looks: keywords, strings, numbers and comments in colours, and the mark over the margin of lines
//! that continue others.

use std::borrow::Cow;

use super::indent::{MARGIN, has_margin};
use super::lexemes::{Kind, lexemes};

const KEYWORD: &str = "\x1b[1m";
const STRING: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[35m";
const COMMENT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Drawn over the margin.
const MARK: &str = ".. ";

/// The line with marks, and if they are wanted with colours; its width stays the same.
pub(crate) fn highlight(line: &str, colours: bool) -> String {
    let mark = if colours { format!("\n{COMMENT}{MARK}{PLAIN}") } else { format!("\n{MARK}") };
    let is_marked = has_margin(line);
    let mut out = String::with_capacity(2 * line.len());
    for token in lexemes(line) {
        let text = match token.kind {
            Kind::Space if is_marked => token.text.replace(&format!("\n{MARGIN}"), &mark).into(),
            _ => Cow::from(token.text),
        };
        match colour(token.kind).filter(|_| colours) {
            Some(colour) => out.extend([colour, &*text, PLAIN]),
            None => out.push_str(&text),
        }
    }
    out
}

fn colour(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Keyword => Some(KEYWORD),
        Kind::Text => Some(STRING),
        Kind::Number => Some(NUMBER),
        Kind::Comment => Some(COMMENT),
        Kind::Name | Kind::Space | Kind::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        [KEYWORD, STRING, NUMBER, COMMENT, PLAIN]
            .iter()
            .fold(text.to_owned(), |text, colour| text.replace(colour, ""))
    }

    #[test]
    fn colours_change_no_character() {
        for line in [
            "for i = 1, 0x1F do print('a\\'b', \"é\") end -- c",
            "[[long\n]] .. [==[ ]] ]==] x[1]",
            "--[[ a ]] b 'open",
            "[=",
            "[",
            "--",
            "\\",
            "日本 = 1",
        ] {
            assert_eq!(plain(&highlight(line, true)), line);
            assert_eq!(highlight(line, false), line);
        }
    }

    #[test]
    fn lines_that_continue_others_are_marked() {
        let text = "f(\n   1,\n   [[\n   a]])";
        assert_eq!(highlight(text, false), "f(\n.. 1,\n.. [[\n   a]])");
        assert_eq!(plain(&highlight(text, true)), highlight(text, false));
        assert_eq!(highlight("f(\n    1)", false), "f(\n..  1)");
        assert_eq!(highlight("f(\n    1\n)", false), "f(\n    1\n)", "it was pasted");
        assert_eq!(MARK.len(), MARGIN.len());
    }

    #[test]
    fn words_strings_numbers_and_comments_stand_out() {
        assert_eq!(
            highlight("local x = 'a' -- b", true),
            format!("{KEYWORD}local{PLAIN} x = {STRING}'a'{PLAIN} {COMMENT}-- b{PLAIN}")
        );
        assert_eq!(highlight("ending(10)", true), format!("ending({NUMBER}10{PLAIN})"));
    }
}
