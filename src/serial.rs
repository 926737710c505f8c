//! How plain data is serialised where a derive does not do: stored values, bytes, addresses, times.
//!
//! There are two readers. JSON is text: bytes that are not UTF-8 stand as `{"hex": "…"}`. Lua takes
//! bytes as they are; its serializer calls itself not human readable, which tells the two apart here.
//! Names and fields are the same for both.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::bencode::{self, Item, ItemView, MAX_VALUE_DEPTH, Value};

/// The key of the object that stands for bytes that are no text.
const HEX: &str = "hex";

/// The key of the object that stands for a dictionary that JSON cannot express, as a list of pairs.
const DICT: &str = "dict";

/// Any bytes; where they are text they read as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes(bytes.to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        put_bytes(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let bytes = value.item().bytes();
        bytes.map(Bytes::from).ok_or_else(|| de::Error::custom("expected a string"))
    }
}

fn put_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() {
        return serializer.serialize_bytes(bytes);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(HEX, &hex(bytes))?;
            map.end()
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Part(self.item()).serialize(serializer)
    }
}

/// A value or a part of one.
struct Part<'a>(Item<'a>);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.view() {
            ItemView::Bytes(bytes) => put_bytes(bytes, serializer),
            ItemView::Integer(integer) => match integer.to_i64() {
                Some(fits) => serializer.serialize_i64(fits),
                None => serializer.serialize_f64(integer.digits().parse().unwrap_or(f64::NAN)),
            },
            ItemView::List(list) => serializer.collect_seq(list.map(Part)),
            ItemView::Dict(dict) if !serializer.is_human_readable() || is_object(dict) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in dict {
                    map.serialize_entry(&Part(key), &Part(value))?;
                }
                map.end()
            }
            ItemView::Dict(dict) => {
                let mut map = serializer.serialize_map(Some(1))?;
                let pairs: Vec<_> = dict.map(|(key, value)| (Part(key), Part(value))).collect();
                map.serialize_entry(DICT, &pairs)?;
                map.end()
            }
        }
    }
}

/// Whether all keys are text, and the whole is not taken for something else.
fn is_object(dict: bencode::Dict<'_>) -> bool {
    let mut keys = Vec::new();
    for (key, _) in dict {
        match key.bytes().map(std::str::from_utf8) {
            Some(Ok(text)) => keys.push(text),
            Some(Err(_)) | None => return false,
        }
    }
    !matches!(keys[..], [HEX | DICT])
}

/// Numbers without a fraction are integers, strings are byte strings; `true`, `false` and `null` cannot be
/// stored.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let Encoded(bytes) = Encoded::deserialize(deserializer)?;
        Value::parse(&bytes).map_err(de::Error::custom)
    }
}

/// A value on its way from its serialised form.
struct Encoded(Vec<u8>);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Encoded, D::Error> {
        deserializer.deserialize_any(EncodedVisitor)
    }
}

struct EncodedVisitor;

impl<'de> Visitor<'de> for EncodedVisitor {
    type Value = Encoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a string, an integer, a list or a dictionary of at most {MAX_VALUE_DEPTH} levels"
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Encoded, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Encoded, E> {
        let mut out = Vec::with_capacity(bytes.len() + 8);
        bencode::put_bytes(&mut out, bytes);
        Ok(Encoded(out))
    }

    fn visit_i64<E: de::Error>(self, integer: i64) -> Result<Encoded, E> {
        Ok(Encoded(format!("i{integer}e").into_bytes()))
    }

    fn visit_u64<E: de::Error>(self, integer: u64) -> Result<Encoded, E> {
        Ok(Encoded(format!("i{integer}e").into_bytes()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Encoded, E> {
        // Integers beyond those of the machine come like this.
        if number.fract() == 0.0 {
            return Ok(Encoded(format!("i{}e", number + 0.0).into_bytes()));
        }
        Err(E::invalid_value(de::Unexpected::Float(number), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Encoded, A::Error> {
        let mut out = vec![b'l'];
        while let Some(Encoded(item)) = items.next_element()? {
            out.extend(item);
        }
        out.push(b'e');
        Ok(Encoded(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Encoded, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Encoded(key), Encoded(value))) = entries.next_entry()? {
            pairs.push((key, value));
        }
        if let [(key, inner)] = &pairs[..] {
            let (key, inner) = (&key[..], &inner[..]);
            if key == b"3:hex" {
                let digits = Item::parse(inner).ok().and_then(Item::bytes);
                let bytes = digits.and_then(from_hex);
                let bytes = bytes.ok_or_else(|| de::Error::custom("hex: expected hex digits"))?;
                return self.visit_bytes(&bytes);
            }
            if key == b"4:dict" {
                return dict_of_pairs(inner).map_err(de::Error::custom);
            }
        }
        Ok(dict_of(pairs.iter().map(|(key, value)| (&key[..], &value[..]))))
    }
}

fn dict_of<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Encoded {
    let mut out = vec![b'd'];
    pairs.for_each(|(key, value)| out.extend([key, value].concat()));
    out.push(b'e');
    Encoded(out)
}

fn dict_of_pairs(list: &[u8]) -> Result<Encoded, &'static str> {
    const EXPECTED: &str = "dict: expected a list of pairs, each a string or integer and a value";
    let list = Item::parse(list).ok().and_then(Item::list).ok_or(EXPECTED)?;
    let mut pairs = Vec::new();
    for pair in list {
        let mut parts = pair.list().ok_or(EXPECTED)?;
        match (parts.next(), parts.next(), parts.next()) {
            (Some(key), Some(value), None) if key.bytes().is_some() || key.integer().is_some() => {
                pairs.push((key.as_bytes(), value.as_bytes()));
            }
            _ => return Err(EXPECTED),
        }
    }
    Ok(dict_of(pairs.into_iter()))
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// The bytes that an even number of hex digits stands for.
pub fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |digit: u8| (digit as char).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

/// Things by their display: ids, addresses.
pub(crate) mod text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, de};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        thing: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(thing)
    }

    pub(crate) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| de::Error::custom(format_args!("{text}: {error}")))
    }
}

/// Spans of time in seconds, with their fraction; a plain [`Duration`] is in milliseconds.
pub(crate) mod seconds {
    use super::{Deserialize, Deserializer, Serializer};
    use crate::time::Duration;

    pub(crate) fn serialize<S: Serializer>(
        span: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(span.as_micros() as f64 / 1e6)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        f64::deserialize(deserializer)
            .map(|seconds| Duration::from_micros((seconds * 1e6).round() as u64))
    }
}

/// A count, or "all" for as many as there are.
pub(crate) mod count_or_all {
    use super::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        count: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match *count {
            usize::MAX => serializer.serialize_str("all"),
            count => serializer.serialize_u64(count as u64),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Count(usize),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Count(count) => Ok(count),
            Form::Word(word) if word == "all" => Ok(usize::MAX),
            Form::Word(word) => {
                Err(de::Error::custom(format_args!("expected a number or \"all\", got {word:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_from_json_as_they_were() {
        for (bytes, json) in [
            (&b"3:abc"[..], r#""abc""#),
            (b"2:\xff\0", r#"{"hex":"ff00"}"#),
            (b"i-42e", "-42"),
            (b"li1e1:alee", r#"[1,"a",[]]"#),
            (b"d1:ai1e1:b0:e", r#"{"a":1,"b":""}"#),
            (b"di3e1:xe", r#"{"dict":[[3,"x"]]}"#),
            (b"d3:hex2:ffe", r#"{"dict":[["hex","ff"]]}"#),
            (b"d4:dictlee", r#"{"dict":[["dict",[]]]}"#),
            (b"d1:\xffi1ee", r#"{"dict":[[{"hex":"ff"},1]]}"#),
            (b"de", "[]"),
        ] {
            let value = Value::parse(bytes).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), value, "{json}");
        }
        let long = Value::parse(b"i123456789012345678901234567890e").unwrap();
        let json = serde_json::to_string(&long).unwrap();
        assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let deep = "[".repeat(MAX_VALUE_DEPTH + 5) + &"]".repeat(MAX_VALUE_DEPTH + 5);
        for json in [
            "1.5",
            "true",
            "null",
            r#"{"hex":"f"}"#,
            r#"{"dict":[[[],1]]}"#,
            r#"{"dict":1}"#,
            &deep,
        ] {
            assert!(serde_json::from_str::<Value>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<Bytes>("[1]").is_err());
        assert_eq!(serde_json::from_str::<Bytes>(r#"{"hex":"ff"}"#).unwrap(), Bytes(vec![0xff]));
    }

    #[test]
    fn hex_digits_come_back_as_bytes() {
        assert_eq!(hex(b"\x00\xff\x10"), "00ff10");
        assert_eq!(from_hex(b"00FF10"), Some(b"\x00\xff\x10".to_vec()));
        assert_eq!(from_hex(b"0"), None);
        assert_eq!(from_hex(b"zz"), None);
    }
}
