//! Bencoding as Kademlua speaks it: a reader that never recurses on a stranger's bytes, a writer,
//! and [`Value`], one value that has been checked.
//!
//! It departs from BitTorrent's (BEP 3) where the original Kademlua does: dictionary keys come in
//! any order and may be integers, and an empty dictionary is written as the empty list, because
//! Lua cannot tell the two apart.
//!
//! Bytes from the network enter through [`Item::parse`], which checks structure, lengths and
//! depth in one pass; all that is read from an [`Item`] afterwards cannot fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Lists and dictionaries may nest this deep. Data that people store is a few levels deep; the
/// checker keeps one bit a level in a machine word.
pub const MAX_DEPTH: usize = 64;

/// A [`Value`] may nest this deep: messages put up to four levels around it.
pub const MAX_VALUE_DEPTH: usize = MAX_DEPTH - 4;

/// Why bytes are no bencoded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside the value.
    #[error("the value is cut short")]
    Truncated,
    /// Bytes follow the value.
    #[error("bytes follow the value")]
    Trailing,
    /// A byte that cannot stand where it stands.
    #[error("unexpected byte")]
    UnexpectedByte,
    /// A string length with leading zeros or beyond what is there.
    #[error("bad string length")]
    BadLength,
    /// An integer that is not `-?[0-9]+`: a fraction, an exponent, nothing at all.
    #[error("bad integer")]
    BadInteger,
    /// A dictionary key that is a list or a dictionary, or a key without a value.
    #[error("bad dictionary key")]
    BadKey,
    /// More than [`MAX_DEPTH`] levels, or in a [`Value`] more than [`MAX_VALUE_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
}

/// One bencoded value in place: its bytes, known to be well formed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Item<'a>(&'a [u8]);

/// What an [`Item`] is.
#[derive(Clone, Copy, Debug)]
pub enum ItemView<'a> {
    /// An integer of any size.
    Integer(Integer<'a>),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// A dictionary.
    Dict(Dict<'a>),
}

impl<'a> Item<'a> {
    /// Reads bytes that are one value and nothing else.
    ///
    /// # Errors
    /// If they are not, or nest deeper than [`MAX_DEPTH`].
    pub fn parse(bytes: &'a [u8]) -> Result<Item<'a>, Malformed> {
        Item::parse_counting(bytes).map(|(item, _)| item)
    }

    /// The same, and the number of tokens in the value: strings, integers, beginnings and ends of lists
    /// and dictionaries. The time to read a value depends on them far more than on its bytes.
    ///
    /// # Errors
    /// Those of [`Item::parse`].
    pub fn parse_counting(bytes: &'a [u8]) -> Result<(Item<'a>, usize), Malformed> {
        match checked(bytes, MAX_DEPTH)? {
            (len, tokens) if len == bytes.len() => Ok((Item(bytes), tokens)),
            _ => Err(Malformed::Trailing),
        }
    }

    /// Reads one value at the front of bytes, whatever follows.
    ///
    /// # Errors
    /// If there is none, or it nests deeper than [`MAX_DEPTH`].
    pub fn parse_prefix(bytes: &'a [u8]) -> Result<Item<'a>, Malformed> {
        checked_len(bytes, MAX_DEPTH).map(|len| Item(&bytes[..len]))
    }

    /// The encoded bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it is written as BEP 3 lays down: the keys of dictionaries are byte strings, sorted, none of
    /// them twice, and integers have no leading zeros.
    pub fn is_strict(self) -> bool {
        /// A dictionary that is open: its last key, and whether a value is to follow.
        #[derive(Clone, Copy, Default)]
        struct Open<'a> {
            last: Option<&'a [u8]>,
            is_value_next: bool,
        }
        // `None` for a list.
        let mut open: Vec<Option<Open<'_>>> = Vec::new();
        let mut rest = self.0;
        while !rest.is_empty() {
            let (token, len) = token(rest).expect("checked before");
            let (bytes, tail) = rest.split_at(len);
            rest = tail;
            let is_end = matches!(token, Token::End);
            if let Some(Some(dict)) = open.last_mut().filter(|_| !is_end) {
                if !dict.is_value_next {
                    let Some(key) = Item(bytes).bytes() else { return false };
                    if dict.last.is_some_and(|last| key <= last) {
                        return false;
                    }
                    dict.last = Some(key);
                }
                dict.is_value_next = !dict.is_value_next;
            }
            match token {
                Token::Bytes => {}
                Token::Integer => {
                    let integer = Integer(&bytes[1..len - 1]);
                    let (sign, digits) = integer.canonical();
                    if sign.len() + digits.len() != integer.0.len() {
                        return false;
                    }
                }
                Token::List => open.push(None),
                Token::Dict => open.push(Some(Open::default())),
                Token::End => _ = open.pop(),
            }
        }
        true
    }

    /// What the item is.
    pub fn view(self) -> ItemView<'a> {
        match self.0[0] {
            b'i' => ItemView::Integer(Integer(&self.0[1..self.0.len() - 1])),
            b'l' => ItemView::List(List(&self.0[1..])),
            b'd' => ItemView::Dict(Dict(&self.0[1..])),
            _ => {
                let colon = self.0.iter().position(|&byte| byte == b':').expect("checked string");
                ItemView::Bytes(&self.0[colon + 1..])
            }
        }
    }

    /// The byte string, if the item is one.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self.view() {
            ItemView::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The integer, if the item is one that fits.
    pub fn integer(self) -> Option<i64> {
        match self.view() {
            ItemView::Integer(integer) => integer.to_i64(),
            _ => None,
        }
    }

    /// The list, if the item is one.
    pub fn list(self) -> Option<List<'a>> {
        match self.view() {
            ItemView::List(list) => Some(list),
            _ => None,
        }
    }

    /// The dictionary, if the item is one. The empty list counts as the empty dictionary, as it
    /// does for the original.
    pub fn dict(self) -> Option<Dict<'a>> {
        match self.view() {
            ItemView::Dict(dict) => Some(dict),
            ItemView::List(_) if self.0 == b"le" => Some(Dict(b"e")),
            _ => None,
        }
    }
}

/// As a person would write it: strings quoted and escaped, `[…]`, `{…}`.
impl fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view() {
            ItemView::Integer(integer) => f.write_str(integer.digits()),
            ItemView::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            ItemView::List(list) => f.debug_list().entries(list).finish(),
            ItemView::Dict(dict) => f.debug_map().entries(dict).finish(),
        }
    }
}

/// The digits of an integer, of any size, perhaps with a sign and leading zeros.
#[derive(Clone, Copy, Debug)]
pub struct Integer<'a>(&'a [u8]);

impl<'a> Integer<'a> {
    /// Sign and digits.
    pub fn digits(self) -> &'a str {
        std::str::from_utf8(self.0).expect("checked digits are ASCII")
    }

    /// The number, if it fits.
    pub fn to_i64(self) -> Option<i64> {
        self.digits().parse().ok()
    }

    /// The number, or the nearest that fits.
    pub fn to_i64_saturating(self) -> i64 {
        let limit = if self.0[0] == b'-' { i64::MIN } else { i64::MAX };
        self.to_i64().unwrap_or(limit)
    }

    /// Sign and digits without leading zeros, and zero without a sign.
    fn canonical(self) -> (&'a [u8], &'a [u8]) {
        let (sign, digits) = self.0.split_at(usize::from(self.0[0] == b'-'));
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        match &digits[zeros..] {
            b"" => (b"", b"0"),
            rest => (sign, rest),
        }
    }
}

/// The items of a list, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a>(&'a [u8]);

impl List<'_> {
    /// The list without items.
    pub const EMPTY: List<'static> = List(b"e");

    /// At most this many bytes follow from here.
    pub fn len_max(&self) -> usize {
        self.0.len()
    }

    /// The items as values of their own.
    ///
    /// # Errors
    /// If one nests too deep for a value.
    pub fn values(self) -> Result<Vec<Value>, Malformed> {
        self.map(Value::of).collect()
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        next_item(&mut self.0)
    }
}

/// The entries of a dictionary, in the order in which they were written; a key may come twice, and
/// is then an integer or a byte string each time. If a key repeats, the last one counts.
#[derive(Clone, Copy, Debug)]
pub struct Dict<'a>(&'a [u8]);

impl<'a> Iterator for Dict<'a> {
    type Item = (Item<'a>, Item<'a>);

    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        let key = next_item(&mut self.0)?;
        let value = next_item(&mut self.0).expect("checked dictionary");
        Some((key, value))
    }
}

impl<'a> Dict<'a> {
    /// The value under a byte-string key.
    pub fn get(self, name: &[u8]) -> Option<Item<'a>> {
        self.filter(|(key, _)| key.bytes() == Some(name)).last().map(|(_, value)| value)
    }
}

/// The entries of a dictionary in bytes that nobody has checked yet: one pass checks and reads them. Keys are
/// byte strings here, in any order.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    tokens: usize,
}

impl<'a> Entries<'a> {
    /// Those of the dictionary at the front of bytes; `None` where there is none.
    pub fn of(bytes: &'a [u8]) -> Option<Entries<'a>> {
        bytes.strip_prefix(b"d").map(|rest| Entries { rest, tokens: 1 })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// If what comes is none.
    #[inline]
    pub fn next_entry(&mut self) -> Result<Option<(&'a [u8], Item<'a>)>, Malformed> {
        match self.rest.first() {
            None => Err(Malformed::Truncated),
            Some(b'e') => Ok(None),
            Some(b'0'..=b'9') => {
                let key = self.take(string_len(self.rest)?, 1);
                if self.rest.first() == Some(&b'e') {
                    return Err(Malformed::BadKey);
                }
                // Most are short strings.
                let (len, tokens) = match self.rest.first() {
                    Some(b'0'..=b'9') => (string_len(self.rest)?, 1),
                    _ => checked(self.rest, MAX_DEPTH - 1)?,
                };
                let value = self.take(len, tokens);
                Ok(Some((key.bytes().expect("a key is a byte string"), value)))
            }
            Some(_) => Err(Malformed::BadKey),
        }
    }

    /// Tokens that were read so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    fn take(&mut self, len: usize, tokens: usize) -> Item<'a> {
        let (item, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.tokens += tokens;
        Item(item)
    }
}

/// The next item before the closing `e` of checked bytes.
fn next_item<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    if rest[0] == b'e' {
        return None;
    }
    let len = checked_len(rest, MAX_DEPTH).expect("checked before");
    let (item, tail) = rest.split_at(len);
    *rest = tail;
    Some(Item(item))
}

/// One step of the reader.
enum Token {
    Integer,
    Bytes,
    List,
    Dict,
    End,
}

/// The length of the value at the front of `bytes`, every part of it checked.
fn checked_len(bytes: &[u8], max_depth: usize) -> Result<usize, Malformed> {
    checked(bytes, max_depth).map(|(len, _)| len)
}

/// The same, and the number of its tokens.
fn checked(bytes: &[u8], max_depth: usize) -> Result<(usize, usize), Malformed> {
    let mut at = 0;
    let mut tokens = 0;
    let mut depth = 0_usize;
    // One bit for each level, the innermost lowest: is it a dictionary, does it wait for a value?
    let (mut dicts, mut waiting) = (0_u64, 0_u64);
    loop {
        let (token, len) = token(&bytes[at..])?;
        at += len;
        tokens += 1;
        let key_expected = dicts & 1 == 1 && waiting & 1 == 0;
        match token {
            Token::Integer | Token::Bytes => {}
            Token::List | Token::Dict if key_expected => return Err(Malformed::BadKey),
            Token::List | Token::Dict if depth == max_depth => return Err(Malformed::TooDeep),
            Token::List | Token::Dict => {
                depth += 1;
                dicts = dicts << 1 | u64::from(matches!(token, Token::Dict));
                waiting <<= 1;
                continue;
            }
            Token::End if depth == 0 => return Err(Malformed::UnexpectedByte),
            Token::End if waiting & 1 == 1 => return Err(Malformed::BadKey),
            Token::End => {
                depth -= 1;
                dicts >>= 1;
                waiting >>= 1;
            }
        }
        if depth == 0 {
            return Ok((at, tokens));
        }
        // A value or a key is complete: in a dictionary they take turns.
        waiting ^= dicts & 1;
    }
}

/// The token at the front of `bytes` and its length.
fn token(bytes: &[u8]) -> Result<(Token, usize), Malformed> {
    match bytes.first() {
        None => Err(Malformed::Truncated),
        Some(b'l') => Ok((Token::List, 1)),
        Some(b'd') => Ok((Token::Dict, 1)),
        Some(b'e') => Ok((Token::End, 1)),
        Some(b'i') => Ok((Token::Integer, integer_len(bytes)?)),
        Some(b'0'..=b'9') => Ok((Token::Bytes, string_len(bytes)?)),
        Some(_) => Err(Malformed::UnexpectedByte),
    }
}

/// The length of `i…e`.
fn integer_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let sign = usize::from(bytes.get(1) == Some(&b'-'));
    let digits = bytes[1 + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(1 + sign + digits) {
        None => Err(Malformed::Truncated),
        Some(b'e') if digits > 0 => Ok(1 + sign + digits + 1),
        Some(_) => Err(Malformed::BadInteger),
    }
}

/// The length of `N:…`, prefix and text.
fn string_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut len = 0_usize;
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b':' => {
                let whole = index + 1 + len;
                return if whole <= bytes.len() { Ok(whole) } else { Err(Malformed::Truncated) };
            }
            b'0'..=b'9' if index > 0 && bytes[0] == b'0' => return Err(Malformed::BadLength),
            b'0'..=b'9' => len = len * 10 + usize::from(byte - b'0'),
            _ => return Err(Malformed::BadLength),
        }
        // Stops an announced length long before it could overflow.
        if len > bytes.len() {
            return Err(Malformed::Truncated);
        }
    }
    Err(Malformed::Truncated)
}

/// The length of what looks like one value at the front of `bytes`, where [`Item::parse_prefix`] finds
/// none: it may nest as deep as it likes, hold anything at odd places, and have numbers as Lua writes
/// large ones (`i1e+14e`, `i-infe`). `None` where even that cannot be told.
pub fn outline_len(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let rest = &bytes[at..];
        at += match rest.first()? {
            b'l' | b'd' => 1,
            b'e' if depth > 0 => 1,
            b'i' => number_outline_len(rest)?,
            b'0'..=b'9' => {
                let zeros = rest.iter().take_while(|&&byte| byte == b'0').count();
                let zeros = zeros - usize::from(rest.get(zeros) == Some(&b':'));
                zeros + string_len(&rest[zeros..]).ok()?
            }
            _ => return None,
        };
        match rest[0] {
            b'l' | b'd' => depth += 1,
            b'e' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The length of `i…e`, where an `e` in front of a sign is none that ends it.
fn number_outline_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'e', Some(b'+' | b'-')) => 2,
            (b'e', _) => return Some(at + 1),
            (b'0'..=b'9' | b'+' | b'-' | b'.' | b'i' | b'n' | b'f' | b'a', _) => 1,
            _ => return None,
        };
    }
}

/// Appends a byte string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_decimal(out, bytes.len() as u64);
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// Appends an integer.
pub fn put_integer(out: &mut Vec<u8>, integer: i64) {
    out.push(b'i');
    if integer < 0 {
        out.push(b'-');
    }
    put_decimal(out, integer.unsigned_abs());
    out.push(b'e');
}

/// Appends digits.
pub(crate) fn put_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// One bencoded value of its own, checked and in canonical form.
///
/// Canonical: integers without leading zeros, dictionary keys sorted (integers first, then
/// strings) and unique, the empty dictionary as the empty list. So two values are equal exactly
/// if their bytes are. A clone shares the bytes.
///
/// ```
/// use kademlua::bencode::Value;
///
/// let value = Value::parse(b"d4:sizei042e4:name5:helloe")?;
/// assert_eq!(value.as_bytes(), b"d4:name5:hello4:sizei42ee");
/// assert_eq!(Value::encode(&["a", "b"])?, Value::parse(b"l1:a1:be")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Arc<[u8]>);

/// Why a Rust value cannot be stored, or a stored one not be read as a Rust type.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// Serde or the bencode library could not convert it.
    #[error("{0}")]
    Serde(#[from] bt_bencode::Error),
    /// What serde wrote is beyond what this network accepts.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl Value {
    /// The value in these bytes.
    ///
    /// # Errors
    /// If they are not exactly one well-formed value, or nest deeper than [`MAX_VALUE_DEPTH`].
    pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
        if checked_len(bytes, MAX_VALUE_DEPTH)? < bytes.len() {
            return Err(Malformed::Trailing);
        }
        Value::of(Item(bytes))
    }

    /// The value that an item holds, which is not checked once more.
    ///
    /// # Errors
    /// If it nests deeper than [`MAX_VALUE_DEPTH`].
    pub fn of(item: Item<'_>) -> Result<Value, Malformed> {
        let mut canon = Canon { out: Vec::with_capacity(item.0.len()), ..Canon::default() };
        canon.put(&mut item.as_bytes(), 0)?;
        Ok(Value(canon.out.into()))
    }

    /// A byte string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Value {
        let mut out = Vec::with_capacity(bytes.as_ref().len() + 8);
        put_bytes(&mut out, bytes.as_ref());
        Value(out.into())
    }

    /// An integer.
    pub fn integer(integer: i64) -> Value {
        let mut out = Vec::with_capacity(24);
        put_integer(&mut out, integer);
        Value(out.into())
    }

    /// Any Rust value that serde can turn into bencoding.
    ///
    /// # Errors
    /// For what bencoding lacks: fractions, booleans, null.
    pub fn encode<T: Serialize>(value: &T) -> Result<Value, ConvertError> {
        Ok(Value::parse(&bt_bencode::to_vec(value)?)?)
    }

    /// The value as a Rust type.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ConvertError> {
        Ok(bt_bencode::from_slice(&self.0)?)
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A look inside.
    pub fn item(&self) -> Item<'_> {
        Item(&self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.item().fmt(f)
    }
}

/// Writes the canonical form of checked values.
///
/// One pass: views would read nested items once for each level. Recurses at most [`MAX_VALUE_DEPTH`]
/// deep, and shares its buffers between the levels.
#[derive(Default)]
struct Canon {
    out: Vec<u8>,
    /// Where keys and values lie in `out`, of all dictionaries that are being written.
    entries: Vec<(Range<usize>, Range<usize>)>,
    /// The entries of a dictionary that is being put in order.
    unordered: Vec<u8>,
}

impl Canon {
    /// Appends the value at the front of `rest` and moves past it.
    fn put(&mut self, rest: &mut &[u8], depth: usize) -> Result<(), Malformed> {
        let (token, len) = token(rest).expect("checked before");
        let (bytes, tail) = rest.split_at(len);
        *rest = tail;
        match token {
            Token::Bytes => self.out.extend_from_slice(bytes),
            Token::Integer => {
                let (sign, digits) = Integer(&bytes[1..len - 1]).canonical();
                self.out.push(b'i');
                self.out.extend_from_slice(sign);
                self.out.extend_from_slice(digits);
                self.out.push(b'e');
            }
            Token::List | Token::Dict if depth == MAX_VALUE_DEPTH => {
                return Err(Malformed::TooDeep);
            }
            Token::List => {
                self.out.push(b'l');
                while !skip_end(rest) {
                    self.put(rest, depth + 1)?;
                }
                self.out.push(b'e');
            }
            Token::Dict => self.put_dict(rest, depth + 1)?,
            Token::End => unreachable!("a checked value does not start with its end"),
        }
        Ok(())
    }

    fn put_dict(&mut self, rest: &mut &[u8], depth: usize) -> Result<(), Malformed> {
        let (start, first) = (self.out.len(), self.entries.len());
        self.out.push(b'd');
        while !skip_end(rest) {
            let key = self.out.len();
            self.put(rest, depth)?;
            let value = self.out.len();
            self.put(rest, depth)?;
            self.entries.push((key..value, value..self.out.len()));
        }
        if self.entries.len() == first {
            self.out[start] = b'l';
        } else {
            self.put_in_order(first, start + 1);
        }
        self.entries.truncate(first);
        self.out.push(b'e');
        Ok(())
    }

    /// Puts a dictionary's entries in order: those from `first` on, which lie in `out` from `start` on.
    fn put_in_order(&mut self, first: usize, start: usize) {
        let Canon { out, entries, unordered } = self;
        let entries = &mut entries[first..];
        let order = |key: &Range<usize>| key_order(&out[key.clone()]);
        if entries.is_sorted_by(|(a, _), (b, _)| order(a) < order(b)) {
            return;
        }
        // The sort is stable, so of equal keys the last written is the last here.
        entries.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
        unordered.clear();
        for (index, (key, value)) in entries.iter().enumerate() {
            if entries.get(index + 1).is_none_or(|(next, _)| order(next) != order(key)) {
                unordered.extend_from_slice(&out[key.start..value.end]);
            }
        }
        out.truncate(start);
        out.extend_from_slice(unordered);
    }
}

/// Moves past the `e` of a list or a dictionary, if it is there.
fn skip_end(rest: &mut &[u8]) -> bool {
    let tail = rest.strip_prefix(b"e");
    *rest = tail.unwrap_or(rest);
    tail.is_some()
}

/// Integers before strings, strings by their bytes as BEP 3 has it.
fn key_order(encoded: &[u8]) -> (bool, &[u8]) {
    match Item(encoded).view() {
        ItemView::Bytes(bytes) => (true, bytes),
        _ => (false, encoded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A bit of everything: unsorted keys, a padded integer, an integer key.
    const WRITTEN: &[u8] = b"d4:name5:hello4:listli007e0:lee3:bigi100000000000000000000ei5e4:fivee";
    const CANONICAL: &[u8] = b"di5e4:five3:bigi100000000000000000000e4:listli7e0:lee4:name5:helloe";

    fn value(bytes: impl AsRef<[u8]>) -> Value {
        Value::parse(bytes.as_ref()).expect("a value")
    }

    fn error(bytes: impl AsRef<[u8]>) -> Malformed {
        Item::parse(bytes.as_ref()).expect_err("no value")
    }

    #[test]
    fn views_show_what_was_written() {
        let dict = Item::parse(WRITTEN).unwrap().dict().unwrap();
        assert_eq!(dict.count(), 4);
        assert_eq!(dict.get(b"name").unwrap().bytes(), Some(&b"hello"[..]));
        assert_eq!(dict.get(b"big").unwrap().integer(), None);
        assert_eq!(dict.get(b"five"), None);
        let list: Vec<_> = dict.get(b"list").unwrap().list().unwrap().collect();
        assert_eq!(list[0].integer(), Some(7));
        assert_eq!(list[1].bytes(), Some(&b""[..]));
        assert_eq!(list[2].as_bytes(), b"le");
    }

    #[test]
    fn views_of_the_wrong_kind_show_nothing() {
        let item = Item::parse(b"li1ee").unwrap();
        assert_eq!((item.bytes(), item.integer()), (None, None));
        assert!(item.dict().is_none());
        assert!(Item::parse(b"1:a").unwrap().list().is_none());
    }

    #[test]
    fn the_canonical_form_is_sorted_and_unpadded() {
        assert_eq!(value(WRITTEN).as_bytes(), CANONICAL);
        assert_eq!(value(CANONICAL).as_bytes(), CANONICAL);
        assert_eq!(value("i-0e"), Value::integer(0));
        assert_eq!(value("i-007e"), Value::integer(-7));
        assert_eq!(value("d2:bbi1e1:ci2ee").as_bytes(), b"d2:bbi1e1:ci2ee", "by text, not length");
    }

    #[test]
    fn the_empty_dictionary_is_the_empty_list() {
        assert_eq!(value("de").as_bytes(), b"le");
        assert_eq!(Item::parse(b"le").unwrap().dict().unwrap().count(), 0);
        assert_eq!(Value::encode(&BTreeMap::<String, i64>::new()).unwrap(), value("le"));
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        const TWICE: &[u8] = b"d1:ai1e1:bi2e1:ai3ee";
        assert_eq!(
            Item::parse(TWICE).unwrap().dict().unwrap().get(b"a").unwrap().integer(),
            Some(3)
        );
        assert_eq!(value(TWICE).as_bytes(), b"d1:ai3e1:bi2ee");
        assert_eq!(value("di0e1:ai-0e1:bi00e1:ce").as_bytes(), b"di0e1:ce");
    }

    #[test]
    fn integers_have_any_size() {
        for (written, number) in [("i0e", 0), ("i-42e", -42), ("i9223372036854775807e", i64::MAX)] {
            assert_eq!(Item::parse(written.as_bytes()).unwrap().integer(), Some(number));
            assert_eq!(Value::integer(number).as_bytes(), written.as_bytes());
        }
        assert_eq!(Value::integer(i64::MIN).as_bytes(), b"i-9223372036854775808e");
        let long = format!("i-{}e", "9".repeat(1_000));
        let item = Item::parse(long.as_bytes()).unwrap();
        let ItemView::Integer(integer) = item.view() else { panic!("an integer") };
        assert_eq!((integer.to_i64(), integer.to_i64_saturating()), (None, i64::MIN));
        assert_eq!(value(item.as_bytes()).as_bytes(), long.as_bytes());
    }

    #[test]
    fn bad_integers_are_refused() {
        for bad in ["ie", "i-e", "i--5e", "i1.5e", "i1e+15e", "i-nane", "i+1e", "i 1e", "i1-e"] {
            // Bytes behind an integer that ends early are another fault.
            let expected =
                if bad == "i1e+15e" { Malformed::Trailing } else { Malformed::BadInteger };
            assert_eq!(error(bad), expected, "{bad}");
        }
        assert_eq!(error("li1e+15ee"), Malformed::UnexpectedByte);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(error("18446744073709551615:abc"), Malformed::Truncated);
        assert_eq!(error("18446744073709551616:abc"), Malformed::Truncated);
        assert_eq!(error("d18446744073709551615:abce"), Malformed::Truncated);
        assert_eq!(error("4000000000:abc"), Malformed::Truncated);
        assert_eq!(error("9".repeat(1_000)), Malformed::Truncated);
        assert_eq!(error("4:abc"), Malformed::Truncated);
        assert_eq!(error("2:abc"), Malformed::Trailing);
    }

    #[test]
    fn padded_and_negative_lengths_are_refused() {
        assert_eq!(error("03:abc"), Malformed::BadLength);
        assert_eq!(error("00:"), Malformed::BadLength);
        assert_eq!(error("-1:a"), Malformed::UnexpectedByte);
        assert_eq!(error("1-:a"), Malformed::BadLength);
        assert_eq!(value("0:"), Value::bytes(""));
    }

    #[test]
    fn dictionaries_pair_plain_keys_with_values() {
        for bad in ["d1:ae", "di1ee", "d1:ai1e1:be", "dlei1ee", "ddei1ee"] {
            assert_eq!(error(bad), Malformed::BadKey, "{bad}");
        }
        assert_eq!(error("e"), Malformed::UnexpectedByte);
        assert_eq!(error("lee"), Malformed::Trailing);
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels| [b"l".repeat(levels), b"e".repeat(levels)].concat();
        assert_eq!(Item::parse(&nested(MAX_DEPTH)).unwrap().as_bytes(), nested(MAX_DEPTH));
        assert_eq!(error(nested(MAX_DEPTH + 1)), Malformed::TooDeep);
        assert_eq!(value(nested(MAX_VALUE_DEPTH)).as_bytes(), nested(MAX_VALUE_DEPTH));
        assert_eq!(Value::parse(&nested(MAX_VALUE_DEPTH + 1)), Err(Malformed::TooDeep));
        for levels in [1_000, 60_000, 1_000_000] {
            assert_eq!(error(nested(levels)), Malformed::TooDeep);
            assert_eq!(error(b"d1:a".repeat(levels)), Malformed::TooDeep);
        }
    }

    #[test]
    fn deep_dictionaries_keep_keys_and_values_apart() {
        const PAIRS: usize = MAX_VALUE_DEPTH / 2;
        let deep = [b"d1:al".repeat(PAIRS), b"ee".repeat(PAIRS)].concat();
        assert_eq!(value(&deep).as_bytes(), deep);
        // The same with a key alone at the bottom.
        let bad = [b"d1:a".repeat(MAX_DEPTH), b"e".repeat(MAX_DEPTH)].concat();
        assert_eq!(error(bad), Malformed::BadKey);
    }

    #[test]
    fn a_value_cut_anywhere_is_refused() {
        for len in 0..WRITTEN.len() {
            assert_eq!(error(&WRITTEN[..len]), Malformed::Truncated, "cut to {len}");
        }
    }

    #[test]
    fn a_prefix_is_read_whatever_follows() {
        assert_eq!(Item::parse_prefix(b"3:abci1").unwrap().as_bytes(), b"3:abc");
        assert_eq!(Item::parse_prefix(b"li1e"), Err(Malformed::Truncated));
    }

    #[test]
    fn rust_values_pass_through_serde() {
        let pairs = BTreeMap::from([("one".to_owned(), 1_i64), ("two".to_owned(), 2)]);
        let encoded = Value::encode(&pairs).unwrap();
        assert_eq!(encoded.as_bytes(), b"d3:onei1e3:twoi2ee");
        assert_eq!(encoded.decode::<BTreeMap<String, i64>>().unwrap(), pairs);
        assert!(Value::encode(&1.5).is_err());
        assert!(encoded.decode::<String>().is_err());
    }

    #[test]
    fn people_read_quoted_strings() {
        assert_eq!(format!("{:?}", value("d1:ali1e2:\x1bbee")), r#"{"a": [1, "\x1bb"]}"#);
    }

    #[test]
    fn what_is_no_value_has_an_outline() {
        let deep = [b"l".repeat(1_000), b"e".repeat(1_000)].concat();
        let outlined: [&[u8]; 9] = [
            &deep,
            b"i1e+14e",
            b"i-1.5e-07e",
            b"i-infe",
            b"inane",
            b"d1:ai1e+14ee",
            b"dlei1e3:xyze",
            b"007:example",
            b"0:",
        ];
        for bytes in outlined {
            let behind = [bytes, b"i7e"].concat();
            assert_eq!(outline_len(&behind), Some(bytes.len()), "{}", bytes.escape_ascii());
        }
        for bytes in [&b""[..], b"e", b"x", b"l", b"lli1ee", b"i", b"i5", b"i5x", b"9:short", b"5"]
        {
            assert_eq!(outline_len(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}
