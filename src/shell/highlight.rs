//! Colours for Lua at the prompt: keywords, strings, numbers, comments. A reader of words, not a
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
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (len, colour) = token(rest, first);
        let (token, tail) = rest.split_at(len);
        match colour {
            Some(colour) => out.extend([colour, token, PLAIN]),
            None => out.push_str(token),
        }
        rest = tail;
    }
    out
}

/// The length of the first token and its colour.
fn token(rest: &str, first: char) -> (usize, Option<&'static str>) {
    match first {
        '-' if rest.starts_with("--") => (comment_len(rest), Some(COMMENT)),
        '"' | '\'' => (quoted_len(rest, first), Some(STRING)),
        '[' => match long_len(rest) {
            Some(len) => (len, Some(STRING)),
            None => (1, None),
        },
        '0'..='9' => (word_len(rest, |char| char.is_alphanumeric() || char == '.'), Some(NUMBER)),
        _ if is_name(first) => {
            let len = word_len(rest, is_name);
            (len, KEYWORDS.contains(&&rest[..len]).then_some(KEYWORD))
        }
        _ => (first.len_utf8(), None),
    }
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn word_len(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|char| !belongs(char)).unwrap_or(rest.len())
}

fn comment_len(rest: &str) -> usize {
    match long_len(&rest[2..]) {
        Some(len) => 2 + len,
        None => rest.find('\n').unwrap_or(rest.len()),
    }
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of `[[…]]` or `[==[…]==]`.
fn long_len(rest: &str) -> Option<usize> {
    let level = rest.strip_prefix('[')?.bytes().take_while(|&byte| byte == b'=').count();
    let body = rest[1 + level..].strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    let start = rest.len() - body.len();
    Some(body.find(&close).map_or(rest.len(), |at| start + at + close.len()))
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
