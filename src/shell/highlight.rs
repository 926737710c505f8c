//! Lua at the prompt in tokens, and their colours: keywords, strings, numbers, comments. A reader of words, not a
//! parser; what it does not know stays plain.

const KEYWORD: &str = "\x1b[1;34m";
const STRING: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// The words of the language.
pub(crate) const KEYWORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// The line with colours; its characters stay the same.
pub(crate) fn highlight(line: &str) -> String {
    let mut out = String::with_capacity(2 * line.len());
    for token in lexemes(line) {
        match colour(token.kind) {
            Some(colour) => out.extend([colour, token.text, PLAIN]),
            None => out.push_str(token.text),
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

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Keyword,
    Name,
    Text,
    Number,
    Comment,
    Space,
    /// One character of anything else.
    Other,
}

/// A piece of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lexeme<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Whether it may go on behind the line: a string or comment without its end.
    pub(crate) is_open: bool,
}

/// The line in pieces, all of it.
pub(crate) fn lexemes(line: &str) -> impl Iterator<Item = Lexeme<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (kind, len) = token(rest, rest.chars().next()?);
        let (text, tail) = rest.split_at(len.unwrap_or(rest.len()));
        rest = tail;
        Some(Lexeme { kind, text, is_open: len.is_none() })
    })
}

/// What the first token is, and its length, unless its end is missing.
fn token(rest: &str, first: char) -> (Kind, Option<usize>) {
    match first {
        '-' if rest.starts_with("--") => (Kind::Comment, comment_len(rest)),
        '"' | '\'' => (Kind::Text, quoted_len(rest, first)),
        '[' if long_level(rest).is_some() => (Kind::Text, long_len(rest)),
        '0'..='9' => {
            let len = word_len(rest, |char| char.is_alphanumeric() || char == '.');
            (Kind::Number, Some(len))
        }
        _ if is_name(first) => {
            let len = word_len(rest, is_name);
            let is_keyword = KEYWORDS.contains(&&rest[..len]);
            (if is_keyword { Kind::Keyword } else { Kind::Name }, Some(len))
        }
        _ if first.is_whitespace() => (Kind::Space, Some(word_len(rest, char::is_whitespace))),
        _ => (Kind::Other, Some(first.len_utf8())),
    }
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn word_len(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|char| !belongs(char)).unwrap_or(rest.len())
}

fn comment_len(rest: &str) -> Option<usize> {
    match long_level(&rest[2..]) {
        Some(_) => Some(2 + long_len(&rest[2..])?),
        None => rest.find('\n'),
    }
}

fn quoted_len(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// How many `=` are in the beginning of `[[…]]` or `[==[…]==]`.
fn long_level(rest: &str) -> Option<usize> {
    let level = rest.strip_prefix('[')?.bytes().take_while(|&byte| byte == b'=').count();
    rest[1 + level..].starts_with('[').then_some(level)
}

fn long_len(rest: &str) -> Option<usize> {
    let level = long_level(rest)?;
    let close = format!("]{}]", "=".repeat(level));
    let start = level + 2;
    rest[start..].find(&close).map(|at| start + at + close.len())
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
            assert_eq!(plain(&highlight(line)), line);
        }
    }

    #[test]
    fn words_strings_numbers_and_comments_stand_out() {
        assert_eq!(
            highlight("local x = 'a' -- b"),
            format!("{KEYWORD}local{PLAIN} x = {STRING}'a'{PLAIN} {COMMENT}-- b{PLAIN}")
        );
        assert_eq!(highlight("ending(10)"), format!("ending({NUMBER}10{PLAIN})"));
    }
}
