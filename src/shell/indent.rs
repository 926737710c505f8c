//! How far to indent a line of Lua that continues others, and the margin before it.
//!
//! The editor draws nothing before a line but what is edited. So a line that continues others begins with blanks, the
//! margin, over which a mark is drawn; Lua never sees them.

use super::lexemes::{Kind, Lexeme, lexemes};

/// One level.
const LEVEL: usize = 2;

/// Before each line that continues others, unless it begins inside of a string or comment.
pub(crate) const MARGIN: &str = "   ";

/// The indentation of the line that follows this text; `None` where it would become part of a string.
pub(crate) fn after(text: &str) -> Option<usize> {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    let line = &text[start..];
    let blank = line.len() - line.trim_start_matches(' ').len();
    let own = if start == 0 { MARGIN.len() + blank } else { blank.max(MARGIN.len()) };
    let mut at = 0;
    let mut opened = 0_i32;
    let mut is_first = true;
    for Lexeme { kind, text: token, is_open } in lexemes(text) {
        if is_open && matches!(kind, Kind::Text | Kind::Comment) && !is_line_comment(token) {
            return None;
        }
        // Of earlier lines only strings matter: they may reach into this one.
        if at >= start && kind != Kind::Space {
            // A line that begins with a closing token is in its place already.
            opened += if is_first && opens(token) < 0 { 0 } else { opens(token) };
            is_first = false;
        }
        at += token.len();
    }
    let first = first_word(line);
    if opened > 0 || ["else", "elseif"].contains(&first) {
        return Some(own + LEVEL);
    }
    let is_back = opened < 0 && !closes(first);
    Some(if is_back { MARGIN.len().max(own - LEVEL) } else { own })
}

/// How many characters too far to the right the last line stands, if this character makes it one that closes what
/// earlier lines opened.
pub(crate) fn too_far(text: &str, typed: char) -> usize {
    let Some(start) = text.rfind('\n').map(|at| at + 1) else { return 0 };
    let line = &text[start..];
    let blank = line.len() - line.trim_start_matches(' ').len();
    let word = format!("{}{typed}", &line[blank..]);
    let is_closer = closes(&word) || word == "else";
    if is_closer && after(&text[..start - 1]) == Some(blank) {
        LEVEL.min(blank.saturating_sub(MARGIN.len()))
    } else {
        0
    }
}

/// Whether there are lines that continue the first, and all of them have the margin: what was pasted has not, and no
/// mark is drawn over its own blanks.
pub(crate) fn has_margin(text: &str) -> bool {
    let breaks =
        lexemes(text).filter(|token| token.kind == Kind::Space && token.text.contains('\n'));
    let mut beginnings = breaks.flat_map(|token| token.text.split('\n').skip(1)).peekable();
    beginnings.peek().is_some() && beginnings.all(|blank| blank.starts_with(MARGIN))
}

/// The chunk as it is meant.
pub(crate) fn without_margin(text: &str) -> String {
    if !has_margin(text) {
        return text.to_owned();
    }
    let margin = format!("\n{MARGIN}");
    let meant = |token: Lexeme<'_>| match token.kind {
        Kind::Space => token.text.replace(&margin, "\n"),
        _ => token.text.to_owned(),
    };
    lexemes(text).map(meant).collect()
}

/// Whether a comment ends with its line.
fn is_line_comment(token: &str) -> bool {
    token.starts_with("--") && !token.starts_with("--[[") && !token.starts_with("--[=")
}

fn first_word(line: &str) -> &str {
    let line = line.trim_start();
    let len = line.find(|char: char| !char.is_alphanumeric()).unwrap_or(line.len());
    if len == 0 { line.get(..1).unwrap_or_default() } else { &line[..len] }
}

fn closes(word: &str) -> bool {
    ["end", "until", "}", ")"].contains(&word)
}

/// Levels that a token opens, or closes if below 0.
fn opens(token: &str) -> i32 {
    match token {
        "function" | "do" | "then" | "repeat" | "{" | "(" | "[" => 1,
        // It has a `then` too.
        "elseif" => -1,
        "end" | "until" | "}" | ")" | "]" => -1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_opens_something_indents_the_next() {
        for (text, expected) in [
            ("for i = 1, 3 do", Some(5)),
            ("for i = 1, 3 do\n     print(i)", Some(5)),
            ("for i = 1, 3 do\n     if x then", Some(7)),
            ("if x then\n     y()\n   else", Some(5)),
            ("if x then\n     y()\n   elseif z then", Some(5)),
            ("if x then\n     for i = 1, 2 do\n       y()\n     end", Some(5)),
            ("x = {", Some(5)),
            ("x = {\n     a = {1, 2},", Some(5)),
            ("f(function(a)", Some(5)),
            ("f(function(a)\n     b()\n   end,", Some(3)),
            ("f(", Some(5)),
            ("1 +", Some(3)),
            ("if x then -- do", Some(5)),
            // What was pasted.
            ("f(\n1,", Some(3)),
            ("f(\n    1,", Some(4)),
            ("s = [[a", None),
            ("s = [[ do\n do", None),
            ("--[[ a", None),
            ("'a\\", None),
        ] {
            assert_eq!(after(text), expected, "{text}");
        }
    }

    #[test]
    fn a_word_that_closes_goes_back_a_level() {
        assert_eq!(too_far("for i = 1, 3 do\n     en", 'd'), 2);
        assert_eq!(too_far("if x then\n     y()\n     els", 'e'), 2);
        assert_eq!(too_far("x = {\n     1\n     ", '}'), 2);
        assert_eq!(too_far("for i = 1, 3 do\n   en", 'd'), 0);
        assert_eq!(too_far("for i = 1, 3 do\n       en", 'd'), 0, "it was typed so");
        assert_eq!(too_far("1 +\n   ", ')'), 0, "into the margin");
        assert_eq!(too_far("  en", 'd'), 0);
        assert_eq!(too_far("for i = 1, 3 do\n     sen", 'd'), 0);
    }

    #[test]
    fn the_margin_is_nothing_of_the_chunk() {
        for (text, expected) in [
            ("for i = 1, 3 do\n     f(i)\n\n   end", None),
            ("for i = 1, 3 do\n     f(i)\n   \n   end", Some("for i = 1, 3 do\n  f(i)\n\nend")),
            ("f(\n   [[a\n   b]])", Some("f(\n[[a\n   b]])")),
            ("f( -- a\n   1) --[[\nb]]", Some("f( -- a\n1) --[[\nb]]")),
            ("f(\n    1,\n  2)", None),
            ("   f()", None),
            ("s = [[\n   a]]", None),
        ] {
            assert_eq!(has_margin(text), expected.is_some(), "{text}");
            assert_eq!(without_margin(text), expected.unwrap_or(text));
        }
    }
}
