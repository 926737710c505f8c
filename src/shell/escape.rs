//! Text from others, in a form that a terminal shows and never obeys.
//!
//! Peers choose values, reasons, names and errors; all of these come through here before they are shown, in
//! whatever form: text, drawings, JSON, messages, the log. Escaped are control characters (C0, DEL, C1), bytes
//! that are not UTF-8, and every character that is invisible or changes how others look: format characters
//! (Unicode's Cf, with all that turn the writing direction, and tags), line and paragraph separators, and the
//! ignorable characters of Unicode, fillers and variation selectors, in which text can be hidden.
//!
//! As text an escape is written as Lua reads it (`\x9b`, `\u{202e}`), in JSON as JSON does (`\u202e`).

/// The characters besides controls that are escaped: Cf, Zl, Zp and Default_Ignorable_Code_Point of Unicode 16,
/// in order.
const HIDDEN: [(char, char); 27] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{16fe4}', '\u{16fe4}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d159}', '\u{1d159}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a terminal must not get the character as it is.
fn is_unsafe(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    let at = HIDDEN.partition_point(|&(_, last)| last < char);
    char.is_control() || HIDDEN.get(at).is_some_and(|&(first, _)| first <= char)
}

/// Text of any bytes, in one line, or in several if `lines` is set: then line ends and tabs stay.
pub(crate) fn escape(bytes: &[u8], lines: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            put(&mut out, char, lines);
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Text that may hold several lines.
pub(crate) fn escape_lines(text: &str) -> String {
    escape(text.as_bytes(), true)
}

fn put(out: &mut String, char: char, lines: bool) {
    match char {
        '\n' | '\t' if lines => out.push(char),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        _ if !is_unsafe(char) => out.push(char),
        _ if char.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(char))),
        _ => out.extend(char.escape_unicode()),
    }
}

/// JSON in which no such character stands raw. It means the same: they occur only in its strings, and JSON has
/// escapes for them.
pub(crate) fn escape_json(json: &serde_json::Value) -> String {
    escape_json_text(&json.to_string())
}

/// The same of JSON that is written already.
pub(crate) fn escape_json_text(json: &str) -> String {
    let mut out = String::new();
    for char in json.chars() {
        if is_unsafe(char) {
            let mut units = [0; 2];
            out.extend(char.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(char);
        }
    }
    out
}

/// What drawings may look like besides plain: a name, and what a terminal makes of it. None sets a
/// background, and all are readable on dark and on light ones.
const STYLES: [(&str, &str); 6] = [
    ("end", "\x1b[0m"),
    ("own", "\x1b[1m"),
    ("faint", "\x1b[2m"),
    ("bad", "\x1b[31m"),
    ("good", "\x1b[32m"),
    ("mark", "\x1b[35m"),
];

/// Like [`escape`] with lines, but the marks of drawings become styles: a mark is the seal, the name
/// of a style and `;`. Since nobody outside this process knows the seal, text in a drawing cannot
/// forge a mark.
pub(crate) fn escape_styled(text: &[u8], seal: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text[at..].iter().position(|&byte| byte == b'\x1b') {
        at += found;
        match style(&text[at..], seal) {
            Some((style, len)) => {
                out.push_str(&escape(&text[plain..at], true));
                out.push_str(style);
                at += len;
                plain = at;
            }
            None => at += 1,
        }
    }
    out.push_str(&escape(&text[plain..], true));
    out
}

/// The style whose mark stands at the front, and the length of the mark.
fn style(text: &[u8], seal: &str) -> Option<(&'static str, usize)> {
    let name = text.strip_prefix(seal.as_bytes())?;
    STYLES.iter().find_map(|&(known, style)| {
        let rest = name.strip_prefix(known.as_bytes())?.strip_prefix(b";")?;
        Some((style, text.len() - rest.len()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Characters and ranges that no terminal may get, named by what they do.
    const NEVER: [(u32, u32); 15] = [
        (0, 0x1f),          // C0
        (0x7f, 0x9f),       // DEL, C1
        (0xad, 0xad),       // soft hyphen
        (0x61c, 0x61c),     // Arabic letter mark
        (0x180e, 0x180e),   // Mongolian vowel separator
        (0x200b, 0x200f),   // zero width, marks of direction
        (0x2028, 0x2029),   // line and paragraph separators
        (0x202a, 0x202e),   // embeddings and overrides
        (0x2060, 0x2064),   // word joiner, invisible operators
        (0x2066, 0x206f),   // isolates, deprecated format characters
        (0xfe00, 0xfe0f),   // variation selectors
        (0xfeff, 0xfeff),   // byte order mark
        (0xfff9, 0xfffb),   // interlinear annotations
        (0x1d173, 0x1d17a), // musical format characters
        (0xe0000, 0xe0fff), // tags, more variation selectors
    ];

    fn is_never(char: char) -> bool {
        NEVER.iter().any(|&(first, last)| (first..=last).contains(&u32::from(char)))
    }

    fn is_fit(text: &str) -> bool {
        !text.contains(is_never) && !text.contains(is_unsafe)
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(HIDDEN.iter().all(|(first, last)| first <= last));
        assert!(HIDDEN.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn no_scalar_value_reaches_a_terminal_as_an_order() {
        for char in '\0'..=char::MAX {
            let text = format!("a{char}b");
            let json = escape_json(&text.as_str().into());
            assert!(is_fit(&escape(text.as_bytes(), false)), "{char:?}");
            assert!(is_fit(&json), "{char:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            let styled = escape_styled(text.as_bytes(), "\x1b7f");
            assert!(is_fit(&styled.replace(['\n', '\t'], "")), "{char:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_reach_a_terminal_as_an_order(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(is_fit(&escape(&bytes, false)));
            prop_assert!(is_fit(&escape(&bytes, true).replace(['\n', '\t'], "")));
            prop_assert!(is_fit(&escape_styled(&bytes, "\x1b7f").replace(['\n', '\t'], "")));
        }
    }

    #[test]
    fn what_is_readable_stays() {
        for text in ["a é 日本 ß → █", "\"'\\", "👍🏽", "नमस्ते", "שלום"]
        {
            assert_eq!(escape(text.as_bytes(), false), text);
        }
        assert_eq!(escape_json(&serde_json::json!({ "é": [1, "日"] })), r#"{"é":[1,"日"]}"#);
    }

    #[test]
    fn escapes_are_those_of_lua_and_of_json() {
        assert_eq!(escape(b"a\x1b[2J\x07\x7f\r\n", false), "a\\x1b[2J\\x07\\x7f\\r\\n");
        assert_eq!(escape("é\u{9b}\u{202e}日\n".as_bytes(), true), "é\\u{9b}\\u{202e}日\n");
        assert_eq!(escape("a\u{200b}\u{e0001}".as_bytes(), false), "a\\u{200b}\\u{e0001}");
        assert_eq!(escape(b"\x9b\xff", false), "\\x9b\\xff");
        assert_eq!(escape_json(&"\u{9b}\u{7f}\u{e0001}".into()), r#""\u009b\u007f\udb40\udc01""#);
    }

    #[test]
    fn styles_need_the_seal_and_a_name() {
        let seal = "\x1b7f";
        let text = b"\x1b7fown;bold\x1b7fend;\n\x1b[1mforged\x1b7fnone;\x1b7f\x1b[2J\xff\x1b";
        assert_eq!(
            escape_styled(text, seal),
            "\x1b[1mbold\x1b[0m\n\\x1b[1mforged\\x1b7fnone;\\x1b7f\\x1b[2J\\xff\\x1b"
        );
        assert_eq!(escape_styled(b"\x1b7fown;", "\x1b80"), "\\x1b7fown;");
    }
}
