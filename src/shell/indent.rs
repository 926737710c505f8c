//! How far to indent a line of Lua that continues others.

use super::highlight::{Kind, Lexeme, lexemes};

/// One level.
const LEVEL: usize = 2;

/// The indentation of the line that follows this text; `None` where it would become part of a string.
pub(crate) fn after(text: &str) -> Option<usize> {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    let line = &text[start..];
    let own = line.len() - line.trim_start_matches(' ').len();
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
    Some(if opened < 0 && !closes(first) { own.saturating_sub(LEVEL) } else { own })
}

/// How many characters too far to the right the last line stands, if this character makes it one that closes what
/// earlier lines opened.
pub(crate) fn too_far(text: &str, typed: char) -> usize {
    let Some(start) = text.rfind('\n').map(|at| at + 1) else { return 0 };
    let line = &text[start..];
    let blank = line.len() - line.trim_start_matches(' ').len();
    let word = format!("{}{typed}", &line[blank..]);
    let is_closer = closes(&word) || word == "else";
    if is_closer && blank > 0 && after(&text[..start - 1]) == Some(blank) {
        blank.min(LEVEL)
    } else {
        0
    }
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
            ("for i = 1, 3 do", Some(2)),
            ("for i = 1, 3 do\n  print(i)", Some(2)),
            ("for i = 1, 3 do\n  if x then", Some(4)),
            ("if x then\n  y()\nelse", Some(2)),
            ("if x then\n  y()\nelseif z then", Some(2)),
            ("if x then\n  for i = 1, 2 do\n    y()\n  end", Some(2)),
            ("x = {", Some(2)),
            ("x = {\n  a = {1, 2},", Some(2)),
            ("f(function(a)", Some(2)),
            ("f(function(a)\n  b()\nend,", Some(0)),
            ("f(", Some(2)),
            ("1 +", Some(0)),
            ("if x then -- do", Some(2)),
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
        assert_eq!(too_far("for i = 1, 3 do\n  en", 'd'), 2);
        assert_eq!(too_far("if x then\n  y()\n  els", 'e'), 2);
        assert_eq!(too_far("x = {\n  1\n  ", '}'), 2);
        assert_eq!(too_far("for i = 1, 3 do\nen", 'd'), 0);
        assert_eq!(too_far("for i = 1, 3 do\n    en", 'd'), 0, "it was typed so");
        assert_eq!(too_far("  en", 'd'), 0);
        assert_eq!(too_far("for i = 1, 3 do\n  sen", 'd'), 0);
    }
}
