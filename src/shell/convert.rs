//! Lua values as bencoded ones, and as JSON.
//!
//! Numbers without a fraction are integers, strings are byte strings, a table with the keys
//! 1 to n is a list, any other table with whole numbers and strings as keys a dictionary, the
//! empty table the empty list. Everything else is refused before anything is sent.

use std::collections::BTreeMap;
use std::ffi::c_void;

use mlua::{Lua, Table, Value as LuaValue};
use serde_json::Value as Json;

use crate::bencode::{self, MAX_DEPTH, MAX_VALUE_DEPTH};
use crate::control::{Bytes, INTEGER_MAX};
use crate::serial::{from_hex, hex};

use super::escape::{escape, escape_json};

/// No datagram carries more, so encoding stops here, whatever the table holds.
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
        // Each item takes at least two bytes, so a longer table is too large whatever is in it.
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
                LuaValue::String(string) => format!(".{}", escape(&string.as_bytes(), false)),
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

/// The longest JSON of one result. More would serve nobody, and take memory beyond that of Lua.
pub(crate) const JSON_BYTES_MAX: usize = 16 << 20;

/// Why a result has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoJson {
    /// It nests too deep, or contains itself.
    #[error("a result that nests deeper than {MAX_DEPTH} levels cannot be written as JSON")]
    TooDeep,
    /// There is too much of it, or many ways lead to the same tables.
    #[error("a result of more than {} MB cannot be written as JSON", JSON_BYTES_MAX >> 20)]
    TooLarge,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// A result as JSON. Tables with the keys 1 to n are arrays, all others objects; functions and coroutines become
/// their description, and numbers that JSON does not have become null. Values that stand for other things, such as
/// networks, become what `data` makes of them. Ends early if `interrupted` says so.
pub(crate) fn json(
    value: &LuaValue,
    data: impl Fn(&Table) -> Option<LuaValue>,
    interrupted: impl Fn() -> bool,
) -> Result<String, NoJson> {
    let mut writer = JsonWriter { out: String::new(), data, interrupted };
    writer.put(value, MAX_DEPTH)?;
    Ok(writer.out)
}

struct JsonWriter<Data, Look> {
    out: String,
    data: Data,
    interrupted: Look,
}

impl<Data: Fn(&Table) -> Option<LuaValue>, Look: Fn() -> bool> JsonWriter<Data, Look> {
    fn put(&mut self, value: &LuaValue, levels: usize) -> Result<(), NoJson> {
        match value {
            LuaValue::Nil => self.put_scalar(&serde_json::Value::Null),
            LuaValue::Boolean(boolean) => self.put_scalar(&(*boolean).into()),
            LuaValue::Integer(integer) => self.put_scalar(&(*integer).into()),
            LuaValue::Number(number) => self.put_scalar(&(*number).into()),
            LuaValue::String(string) => {
                if string.as_bytes().len() > JSON_BYTES_MAX {
                    return Err(NoJson::TooLarge);
                }
                self.put_scalar(&serde_json::json!(Bytes::from(&string.as_bytes()[..])));
            }
            LuaValue::Table(_) if levels == 0 => return Err(NoJson::TooDeep),
            LuaValue::Table(table) => match (self.data)(table) {
                Some(data) => self.put(&data, levels - 1)?,
                None => self.put_table(table, levels - 1)?,
            },
            other => self.put_scalar(&describe(other).into()),
        }
        self.look()
    }

    fn look(&self) -> Result<(), NoJson> {
        if self.out.len() > JSON_BYTES_MAX {
            return Err(NoJson::TooLarge);
        }
        if (self.interrupted)() { Err(NoJson::Interrupted) } else { Ok(()) }
    }

    fn put_scalar(&mut self, value: &serde_json::Value) {
        self.out.push_str(&escape_json(value));
    }

    fn put_table(&mut self, table: &Table, levels: usize) -> Result<(), NoJson> {
        // Each item takes at least two bytes, so a longer table is too large whatever is in it.
        if table.raw_len() > JSON_BYTES_MAX / 2 {
            return Err(NoJson::TooLarge);
        }
        let Some(len) = sequence_len(table) else { return self.put_object(table, levels) };
        self.out.push('[');
        for index in 1..=len {
            if index > 1 {
                self.out.push(',');
            }
            self.put(&table.raw_get(index).unwrap_or(LuaValue::Nil), levels)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// Lua orders a table by its hashes; lines are compared and searched, so here the order is that of the
    /// keys.
    fn put_object(&mut self, table: &Table, levels: usize) -> Result<(), NoJson> {
        let start = self.out.len();
        let mut entries = BTreeMap::new();
        // Texts first, since they keep their names: no other key may take the name of a text.
        for is_text in [true, false] {
            for (key, value) in table.pairs::<LuaValue, LuaValue>().flatten() {
                let text = text_of(&key)?;
                if text.is_some() != is_text {
                    continue;
                }
                let mut name = text.unwrap_or_else(|| json_key(&key));
                while entries.contains_key(&name) {
                    name = format!("[{name}]");
                }
                let at = self.out.len();
                self.put_scalar(&name.as_str().into());
                self.out.push(':');
                self.put(&value, levels)?;
                entries.insert(name, at..self.out.len());
            }
        }
        let sorted: Vec<&str> = entries.values().map(|at| &self.out[at.clone()]).collect();
        let sorted = sorted.join(",");
        self.out.truncate(start);
        self.out.extend(["{", &sorted, "}"]);
        Ok(())
    }
}

/// The value from which [`json`] made this.
pub(crate) fn from_json(lua: &Lua, json: &Json) -> mlua::Result<LuaValue> {
    Ok(match json {
        Json::Null => LuaValue::Nil,
        Json::Bool(boolean) => LuaValue::Boolean(*boolean),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => LuaValue::Integer(integer),
            None => LuaValue::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => LuaValue::String(lua.create_string(text)?),
        Json::Array(items) => {
            let table = lua.create_table()?;
            for (index, item) in items.iter().enumerate() {
                table.raw_set(index + 1, from_json(lua, item)?)?;
            }
            LuaValue::Table(table)
        }
        Json::Object(fields) => {
            if let (1, Some(Json::String(hex))) = (fields.len(), fields.get("hex"))
                && let Some(bytes) = from_hex(hex.as_bytes())
            {
                return Ok(LuaValue::String(lua.create_string(bytes)?));
            }
            let table = lua.create_table()?;
            for (name, value) in fields {
                table.raw_set(name.as_str(), from_json(lua, value)?)?;
            }
            LuaValue::Table(table)
        }
    })
}

/// A key that is text.
fn text_of(key: &LuaValue) -> Result<Option<String>, NoJson> {
    let LuaValue::String(string) = key else { return Ok(None) };
    if string.as_bytes().len() > JSON_BYTES_MAX {
        return Err(NoJson::TooLarge);
    }
    Ok(std::str::from_utf8(&string.as_bytes()).ok().map(str::to_owned))
}

/// What stands for any other key.
fn json_key(key: &LuaValue) -> String {
    match key {
        LuaValue::String(string) => hex(&string.as_bytes()),
        other => describe(other),
    }
}

#[cfg(test)]
mod tests {
    use mlua::Lua;

    use super::*;

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

    fn json_of(lua: &Lua, source: &str) -> Result<String, NoJson> {
        json(&eval(lua, source), |_| None, || false)
    }

    #[test]
    fn results_become_json() {
        let lua = Lua::new();
        assert_eq!(
            json_of(&lua, "{list = {1, 'a'}, bytes = '\\255', none = {}, n = 1.5, t = true}")
                .unwrap(),
            r#"{"bytes":{"hex":"ff"},"list":[1,"a"],"n":1.5,"none":[],"t":true}"#
        );
        assert_eq!(
            json_of(
                &lua,
                "{[1] = 'a', ['1'] = 'b', ['[1]'] = 'c', [1.5] = 1/0, [print] = 1, [type] = 2}"
            )
            .unwrap()
            .len(),
            r#"{"1":"b","1.5":null,"[1]":"c","[[1]]":"a","[a function]":1,"a function":2}"#.len()
        );
        assert_eq!(
            json_of(&lua, "{[1] = 'a', ['1'] = 'b', ['\\255'] = 1, ff = 2}").unwrap(),
            r#"{"1":"b","[1]":"a","[ff]":1,"ff":2}"#
        );
        assert_eq!(json_of(&lua, "'\\u{9b}\\127'").unwrap(), r#""\u009b\u007f""#);
        assert_eq!(json_of(&lua, "{[print] = 1, ['\\u{202e}'] = 0/0}").unwrap().len(), 30);
        let endless = "(function() local t = {} t[1] = t return t end)()";
        assert_eq!(json_of(&lua, endless), Err(NoJson::TooDeep));
    }

    #[test]
    fn json_has_a_size_however_the_value_is_made() {
        let lua = Lua::new();
        for source in [
            "(function() local a = {} for i = 1, 40 do a = {a, a} end return a end)()",
            "(function() local a = {} for i = 1, 40 do a = {x = a, y = a} end return a end)()",
            "(function() local s, a = ('x'):rep(1e6), {} for i = 1, 100 do a[i] = s end return a end)()",
            "('x'):rep(2e7)",
            "('\\1'):rep(1e7)",
        ] {
            assert_eq!(json_of(&lua, source), Err(NoJson::TooLarge), "{source}");
        }
        let large = json_of(
            &lua,
            "(function() local a = {} for i = 1, 12 do a = {a, a} end return a end)()",
        );
        assert_eq!(large.unwrap().len(), 20_477);
    }

    #[test]
    fn writing_json_ends_with_ctrl_c() {
        let lua = Lua::new();
        let value =
            eval(&lua, "(function() local a = {} for i = 1, 40 do a = {a, a} end return a end)()");
        let looks = std::cell::Cell::new(0);
        let interrupted = || {
            looks.set(looks.get() + 1);
            looks.get() > 100
        };
        assert_eq!(json(&value, |_| None, interrupted), Err(NoJson::Interrupted));
        assert_eq!(looks.get(), 101);
    }

    #[test]
    fn descriptions_are_short_and_in_english() {
        let lua = Lua::new();
        assert_eq!(describe(&eval(&lua, "1e300")), "1e300");
        assert_eq!(describe(&eval(&lua, "1e15")), "1000000000000000");
        assert_eq!(describe(&eval(&lua, "'x'")), "a string of 1 byte");
    }
}
