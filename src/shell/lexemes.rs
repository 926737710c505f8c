//! Lua in lexemes. A reader of words, not a parser, for text that may end anywhere.

/// The words of the language.
pub(crate) const KEYWORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// What a lexeme is.
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
        let (kind, len) = first_of(rest, rest.chars().next()?);
        let (text, tail) = rest.split_at(len.unwrap_or(rest.len()));
        rest = tail;
        Some(Lexeme { kind, text, is_open: len.is_none() })
    })
}

/// What the first lexeme is, and its length, unless its end is missing.
fn first_of(rest: &str, first: char) -> (Kind, Option<usize>) {
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
