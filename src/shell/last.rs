//! The last statement of a chunk, if it is an expression: where it begins.
//!
//! Tokens tell where a statement may begin; Lua's own compiler decides whether one does, so that no chunk changes its
//! meaning: `x = f` and `(g)()` on the next line are one statement, and stay one.

use super::lexemes::{Kind, Lexeme, lexemes};

/// Places that are tried, from the end. If an expression ends a chunk there is one; more only where calls follow
/// calls, and then each costs the time to compile the chunk.
const TRIED_MAX: usize = 16;

/// A longer chunk is not a line that somebody waits for.
const BYTES_MAX: usize = 256 << 10;

/// A place where the last statement may begin, as an offset into the source. If the source before it followed by
/// `never_behind` compiles, the statement before goes on here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) at: usize,
    pub(crate) never_behind: Option<&'static str>,
}

/// Where the last statement of a chunk may begin as an expression, from the end.
pub(crate) fn places(source: &str) -> Vec<Beginning> {
    if source.len() > BYTES_MAX {
        return Vec::new();
    }
    let mut at = 0;
    let mut words = Vec::new();
    for token in lexemes(source) {
        if !matches!(token.kind, Kind::Space | Kind::Comment) {
            words.push((at, token));
        }
        at += token.text.len();
    }
    let mut depth = 0_i64;
    let mut found = Vec::new();
    for index in (1..words.len()).rev() {
        let (at, word) = words[index];
        depth += nesting(&word);
        if depth < 0 || found.len() == TRIED_MAX {
            break;
        }
        if depth > 0 || !ends_statement(&words[index - 1].1) {
            continue;
        }
        let Some(never_behind) = beginning(&word) else { continue };
        found.push(Beginning { at, never_behind });
        // A token that cannot continue a statement begins one, and nothing before it begins the
        // last.
        let before = &words[index - 1].1;
        let is_sure = before.kind != Kind::Other || matches!(before.text, ")" | "]" | "}" | ";");
        if never_behind.is_none() && is_sure {
            break;
        }
    }
    found
}

/// How much deeper one is before the token than behind it.
fn nesting(token: &Lexeme<'_>) -> i64 {
    match (token.kind, token.text) {
        (Kind::Other, ")" | "]" | "}") | (Kind::Keyword, "end" | "until") => 1,
        (Kind::Other, "(" | "[" | "{") | (Kind::Keyword, "do" | "function" | "if" | "repeat") => -1,
        _ => 0,
    }
}

fn ends_statement(token: &Lexeme<'_>) -> bool {
    match token.kind {
        Kind::Name | Kind::Text | Kind::Number => true,
        Kind::Keyword => matches!(token.text, "end" | "nil" | "true" | "false" | "break"),
        // `::label::` and `<close>` too, and `...`.
        Kind::Other => matches!(token.text, ")" | "]" | "}" | ";" | ":" | ">" | "."),
        Kind::Comment | Kind::Space => false,
    }
}

/// Whether an expression may begin with this token; and if a statement may go on with it too, what
/// to compile to tell.
fn beginning(token: &Lexeme<'_>) -> Option<Option<&'static str>> {
    match (token.kind, token.text) {
        (Kind::Name | Kind::Number, _)
        | (Kind::Keyword, "nil" | "true" | "false" | "not" | "function")
        | (Kind::Other, "#") => Some(None),
        // Calls. `(nil)` by itself is no statement.
        (Kind::Text, _) | (Kind::Other, "(" | "{") => Some(Some(" (nil)")),
        (Kind::Other, "-" | "~") => Some(Some(" - nil")),
        // Of `...` each dot is a token.
        (Kind::Other, ".") => Some(Some(".. nil")),
        _ => None,
    }
}
