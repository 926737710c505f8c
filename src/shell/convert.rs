//! Between Lua values and bencoded ones.
//!
//! Numbers without a fraction are integers, strings are byte strings, a table with the keys
//! 1 to n is a list, any other table with whole numbers and strings as keys a dictionary, the
//! empty table the empty list. Everything else is refused before anything is sent.

use std::ffi::c_void;
use std::fmt;

use mlua::{Lua, Table, Value as LuaValue};

use crate::bencode::{self, Item, MAX_DEPTH, MAX_VALUE_DEPTH, View};

/// Integers beyond are refused: an original node that read one could not write it again, and
/// would hang at it.
pub(crate) const INTEGER_MAX: i64 = 99_999_999_999_999;

/// No datagram carries more, so encoding stops here whatever the table holds.
const ENCODED_BYTES_MAX: usize = 1 << 16;

/// Why a Lua value cannot be sent, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct CannotEncode {
    path: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("expected a string, an integer or a table, got {0}")]
    Type(String),
    #[error("expected a whole number, got {0}")]
    Fraction(String),
    #[error("expected an integer of at most 14 digits, got {0}")]
    Range(String),
    #[error("expected strings and whole numbers as keys of a table, got {0}")]
    Key(String),
    #[error("the table contains itself")]
    Cycle,
    #[error("tables nest deeper than {MAX_VALUE_DEPTH} levels")]
    TooDeep,
    #[error("more than {ENCODED_BYTES_MAX} bytes")]
    TooLarge,
}

/// Encodes a Lua value; `name` is what the message calls it.
pub(crate) fn encode(name: &str, value: &LuaValue) -> Result<bencode::Value, CannotEncode> {
    let mut encoder = Encoder { out: Vec::new(), path: vec![name.to_owned()], open: Vec::new() };
    match encoder.put(value) {
        Ok(()) => Ok(bencode::Value::parse(&encoder.out).expect("the encoder wrote it")),
        Err(reason) => Err(CannotEncode { path: encoder.path.concat(), reason }),
    }
}

struct Encoder {
    out: Vec<u8>,
    /// The way to the value being written, for the message.
    path: Vec<String>,
    /// The tables around it.
    open: Vec<*const c_void>,
}

impl Encoder {
    fn put(&mut self, value: &LuaValue) -> Result<(), Reason> {
        match value {
            LuaValue::String(string) => bencode::put_bytes(&mut self.out, &string.as_bytes()),
            LuaValue::Integer(_) | LuaValue::Number(_) => {
                bencode::put_integer(&mut self.out, integer(value)?);
            }
            LuaValue::Table(table) => self.put_table(table)?,
            other => return Err(Reason::Type(describe(other))),
        }
        if self.out.len() > ENCODED_BYTES_MAX { Err(Reason::TooLarge) } else { Ok(()) }
    }

    fn put_table(&mut self, table: &Table) -> Result<(), Reason> {
        let pointer = table.to_pointer();
        if self.open.contains(&pointer) {
            return Err(Reason::Cycle);
        }
        if self.open.len() == MAX_VALUE_DEPTH {
            return Err(Reason::TooDeep);
        }
        // Two bytes an item at the least: so many need not even be counted.
        if table.raw_len() > ENCODED_BYTES_MAX / 2 {
            return Err(Reason::TooLarge);
        }
        self.open.push(pointer);
        match sequence_len(table) {
            Some(len) => self.put_list(table, len)?,
            None => self.put_dict(table)?,
        }
        self.open.pop();
        Ok(())
    }

    fn put_list(&mut self, table: &Table, len: usize) -> Result<(), Reason> {
        self.out.push(b'l');
        for index in 1..=len {
            let value = table.raw_get(index).unwrap_or(LuaValue::Nil);
            self.put_at(format!("[{index}]"), &value)?;
        }
        self.out.push(b'e');
        Ok(())
    }

    fn put_dict(&mut self, table: &Table) -> Result<(), Reason> {
        self.out.push(b'd');
        for pair in table.pairs::<LuaValue, LuaValue>() {
            let Ok((key, value)) = pair else { continue };
            let step = match &key {
                LuaValue::String(string) => format!(".{}", string.display()),
                LuaValue::Integer(_) | LuaValue::Number(_) => format!("[{}]", describe(&key)),
                other => return Err(Reason::Key(describe(other))),
            };
            self.put(&key)?;
            self.put_at(step, &value)?;
        }
        self.out.push(b'e');
        Ok(())
    }

    /// The step stays on the path if the value fails.
    fn put_at(&mut self, step: String, value: &LuaValue) -> Result<(), Reason> {
        self.path.push(step);
        self.put(value)?;
        self.path.pop();
        Ok(())
    }
}

fn integer(value: &LuaValue) -> Result<i64, Reason> {
    let integer = match *value {
        LuaValue::Integer(integer) => integer,
        LuaValue::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => number as i64,
        LuaValue::Number(number) if number.fract() == 0.0 => {
            return Err(Reason::Range(describe_number(number)));
        }
        _ => return Err(Reason::Fraction(describe(value))),
    };
    if integer.unsigned_abs() <= INTEGER_MAX.unsigned_abs() {
        Ok(integer)
    } else {
        Err(Reason::Range(integer.to_string()))
    }
}

/// The length of a table whose keys are exactly 1 to n, as a list's are.
pub(crate) fn sequence_len(table: &Table) -> Option<usize> {
    let len = table.raw_len();
    let mut keys = 0;
    for pair in table.pairs::<LuaValue, LuaValue>() {
        match pair {
            Ok((LuaValue::Integer(index), _)) if index >= 1 && index as u64 <= len as u64 => {}
            _ => return None,
        }
        keys += 1;
    }
    (keys == len).then_some(len)
}

/// A Lua value in a few words, for messages.
pub(crate) fn describe(value: &LuaValue) -> String {
    match value {
        LuaValue::Nil => "nothing".into(),
        LuaValue::Boolean(boolean) => boolean.to_string(),
        LuaValue::Integer(integer) => integer.to_string(),
        LuaValue::Number(number) => describe_number(*number),
        LuaValue::String(string) if string.as_bytes().len() == 1 => "a string of 1 byte".into(),
        LuaValue::String(string) => format!("a string of {} bytes", string.as_bytes().len()),
        LuaValue::Table(_) => "a table".into(),
        LuaValue::Function(_) => "a function".into(),
        LuaValue::Thread(_) => "a coroutine".into(),
        other => format!("a {}", other.type_name()),
    }
}

/// Written out, the largest would have hundreds of digits.
fn describe_number(number: f64) -> String {
    if number.is_finite() && number.abs() >= 1e16 {
        return format!("{number:e}");
    }
    number.to_string()
}

/// The Lua value of a bencoded one. Integers that Lua cannot hold become floats.
pub(crate) fn decode(lua: &Lua, item: Item<'_>) -> mlua::Result<LuaValue> {
    match item.view() {
        View::Bytes(bytes) => Ok(LuaValue::String(lua.create_string(bytes)?)),
        View::Integer(integer) => Ok(match integer.to_i64() {
            Some(fits) => LuaValue::Integer(fits),
            None => LuaValue::Number(integer.digits().parse().unwrap_or(f64::NAN)),
        }),
        View::List(list) => {
            let table = lua.create_table()?;
            for (index, item) in list.enumerate() {
                table.raw_set(index + 1, decode(lua, item)?)?;
            }
            Ok(LuaValue::Table(table))
        }
        View::Dict(dict) => {
            let table = lua.create_table()?;
            for (key, value) in dict {
                table.raw_set(decode(lua, key)?, decode(lua, value)?)?;
            }
            Ok(LuaValue::Table(table))
        }
    }
}

/// Bytes as JSON: text as it is, other bytes as `{"hex": "…"}`.
fn json_bytes(bytes: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "hex": hex(bytes) }),
    }
}

/// Why a result has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoJson {
    /// It nests too deep, or contains itself.
    #[error("a result that nests deeper than {MAX_DEPTH} levels cannot be written as JSON")]
    TooDeep,
}

/// A result as JSON. Tables with the keys 1 to n are arrays, all others objects; functions and
/// coroutines become their description.
pub(crate) fn json(value: &LuaValue) -> Result<serde_json::Value, NoJson> {
    json_at(value, MAX_DEPTH)
}

fn json_at(value: &LuaValue, levels: usize) -> Result<serde_json::Value, NoJson> {
    Ok(match value {
        LuaValue::Nil => serde_json::Value::Null,
        LuaValue::Boolean(boolean) => (*boolean).into(),
        LuaValue::Integer(integer) => (*integer).into(),
        LuaValue::Number(number) => (*number).into(),
        LuaValue::String(string) => json_bytes(&string.as_bytes()),
        LuaValue::Table(_) if levels == 0 => return Err(NoJson::TooDeep),
        LuaValue::Table(table) => json_table(table, levels - 1)?,
        other => describe(other).into(),
    })
}

fn json_table(table: &Table, levels: usize) -> Result<serde_json::Value, NoJson> {
    if let Some(len) = sequence_len(table) {
        let item = |index| json_at(&table.raw_get(index).unwrap_or(LuaValue::Nil), levels);
        return (1..=len).map(item).collect();
    }
    let mut entries = Vec::new();
    for (key, value) in table.pairs::<LuaValue, LuaValue>().flatten() {
        entries.push((json_key(&key), json_at(&value, levels)?));
    }
    // The order of a Lua table is that of its hashes; lines are compared and searched.
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(serde_json::Value::Object(entries.into_iter().collect()))
}

fn json_key(key: &LuaValue) -> String {
    match key {
        LuaValue::String(string) => match std::str::from_utf8(&string.as_bytes()) {
            Ok(text) => text.to_owned(),
            Err(_) => hex(&string.as_bytes()),
        },
        other => describe(other),
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The bytes that an even number of hex digits stands for.
pub(crate) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |digit: u8| (digit as char).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

/// Text that a terminal shows and never obeys: control characters, bytes that are no UTF-8, and
/// characters that turn the writing direction become `\` sequences as Lua writes them. Line ends
/// and tabs stay if `lines` is set.
pub(crate) fn escape(bytes: &[u8], lines: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            escape_char(&mut out, char, lines);
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// The styles that drawings use, as terminals know them, and the end of all.
pub(crate) const STYLES: [&str; 6] =
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[1;32m", "\x1b[35m"];

/// As [`escape`] with lines, but what begins or ends one of the [`STYLES`] stays.
pub(crate) fn escape_styled(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\x1b') {
        out.push_str(&escape(&rest[..at], true));
        let style = STYLES.iter().find(|style| rest[at..].starts_with(style.as_bytes()));
        match style {
            Some(style) => out.push_str(style),
            None => out.push_str("\\x1b"),
        }
        rest = &rest[at + style.map_or(1, |style| style.len())..];
    }
    out.push_str(&escape(rest, true));
    out
}

fn escape_char(out: &mut String, char: char, lines: bool) {
    match char {
        '\n' | '\t' if lines => out.push(char),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\0'..='\x7f' if char.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(char))),
        // What is invisible or turns the writing direction.
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => {
            out.extend(char.escape_unicode());
        }
        _ if char.is_control() => out.extend(char.escape_unicode()),
        _ => out.push(char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_terminal_s_orders_styles_alone_are_obeyed() {
        let styled = escape_styled(b"\x1b[1mbold\x1b[0m\n\x1b[2Jgone\x1b]0;title\x07\xff\x1b");
        assert_eq!(styled, "\x1b[1mbold\x1b[0m\n\\x1b[2Jgone\\x1b]0;title\\x07\\xff\\x1b");
    }

    fn eval(lua: &Lua, source: &str) -> LuaValue {
        lua.load(source).eval().unwrap()
    }

    #[test]
    fn values_become_bencoding() {
        let lua = Lua::new();
        for (source, bytes) in [
            ("'abc'", &b"3:abc"[..]),
            ("'\\0\\255'", b"2:\0\xff"),
            ("-42", b"i-42e"),
            ("3.0", b"i3e"),
            ("-0.0", b"i0e"),
            ("99999999999999", b"i99999999999999e"),
            ("{}", b"le"),
            ("{1, {'a'}, 'b'}", b"li1el1:ae1:be"),
            ("{b = 1, a = {}}", b"d1:ale1:bi1ee"),
            ("{[3] = 'x', y = 1}", b"di3e1:x1:yi1ee"),
        ] {
            let value = encode("value", &eval(&lua, source)).unwrap();
            assert_eq!(value.as_bytes(), bytes, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_its_place() {
        let lua = Lua::new();
        for (source, message) in [
            ("1.5", "value: expected a whole number, got 1.5"),
            ("0/0", "value: expected a whole number, got NaN"),
            ("1/0", "value: expected a whole number, got inf"),
            ("1e14", "value: expected an integer of at most 14 digits, got 100000000000000"),
            (
                "math.mininteger",
                "value: expected an integer of at most 14 digits, got -9223372036854775808",
            ),
            ("1e300", "value: expected an integer of at most 14 digits, got 1e300"),
            ("true", "value: expected a string, an integer or a table, got true"),
            ("nil", "value: expected a string, an integer or a table, got nothing"),
            (
                "{a = {1, print}}",
                "value.a[2]: expected a string, an integer or a table, got a function",
            ),
            (
                "{[true] = 1}",
                "value: expected strings and whole numbers as keys of a table, got true",
            ),
            ("{[1.5] = 1}", "value: expected a whole number, got 1.5"),
            (
                "(function() local t = {} t.t = {t} return t end)()",
                "value.t[1]: the table contains itself",
            ),
            (
                "(function() local t = {} for _ = 1, 70 do t = {t} end return t end)()",
                "tables nest deeper than 60 levels",
            ),
            (
                "(function() local t = {} for i = 1, 40000 do t[i] = 1 end return t end)()",
                "value: more than 65536 bytes",
            ),
            ("('x'):rep(70000)", "value: more than 65536 bytes"),
        ] {
            let refused = encode("value", &eval(&lua, source)).unwrap_err().to_string();
            assert!(refused.contains(message), "{source}: {refused}");
        }
    }

    #[test]
    fn tables_nest_as_deep_as_values_may() {
        let lua = Lua::new();
        let nested =
            |levels: usize| eval(&lua, &format!("{}{}", "{".repeat(levels), "}".repeat(levels)));
        for levels in 1..=MAX_DEPTH + 1 {
            let is_fine = encode("value", &nested(levels)).is_ok();
            assert_eq!(is_fine, levels <= MAX_VALUE_DEPTH, "{levels} levels");
        }
    }

    #[test]
    fn bencoding_becomes_lua_and_returns_unchanged() {
        let lua = Lua::new();
        for bytes in [&b"li1e3:abcd1:ki-7eee"[..], b"di3e1:xe", b"le", b"0:"] {
            let value = bencode::Value::parse(bytes).unwrap();
            let back = encode("value", &decode(&lua, value.item()).unwrap()).unwrap();
            assert_eq!(back, value);
        }
        let huge = bencode::Value::parse(b"i123456789012345678901234567890e").unwrap();
        assert!(decode(&lua, huge.item()).unwrap().is_number());
    }

    #[test]
    fn results_become_json() {
        let lua = Lua::new();
        let value = eval(&lua, "{list = {1, 'a'}, bytes = '\\255', none = {}, n = 1.5, t = true}");
        assert_eq!(
            json(&value).unwrap().to_string(),
            r#"{"bytes":{"hex":"ff"},"list":[1,"a"],"n":1.5,"none":[],"t":true}"#
        );
        let endless = eval(&lua, "(function() local t = {} t[1] = t return t end)()");
        assert_eq!(json(&endless), Err(NoJson::TooDeep));
    }

    #[test]
    fn a_terminal_is_never_given_orders() {
        assert_eq!(escape(b"a\x1b[2J\x07\x7f\r\n", false), "a\\x1b[2J\\x07\\x7f\\r\\n");
        assert_eq!(escape("é\u{9b}\u{202e}日\n".as_bytes(), true), "é\\u{9b}\\u{202e}日\n");
        assert_eq!(escape("a\u{200b}\u{feff}".as_bytes(), false), "a\\u{200b}\\u{feff}");
        assert_eq!(escape(b"\x9b\xff", false), "\\x9b\\xff");
    }

    #[test]
    fn descriptions_are_short_and_in_english() {
        let lua = Lua::new();
        assert_eq!(describe(&eval(&lua, "1e300")), "1e300");
        assert_eq!(describe(&eval(&lua, "1e15")), "1000000000000000");
        assert_eq!(describe(&eval(&lua, "'x'")), "a string of 1 byte");
    }

    #[test]
    fn hex_digits_come_back_as_bytes() {
        assert_eq!(hex(b"\x00\xff\x10"), "00ff10");
        assert_eq!(from_hex(b"00FF10"), Some(b"\x00\xff\x10".to_vec()));
        assert_eq!(from_hex(b"0"), None);
        assert_eq!(from_hex(b"zz"), None);
    }
}
