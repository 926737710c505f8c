//! Packets recorded from other nodes: from originals, and in `krpc/` from those of Mainline.
#![allow(dead_code, reason = "each test is about one dialect")]

use serde_json::Value as Json;

/// Requests and replies, `vectors.json`.
pub(crate) fn recorded() -> Vec<Json> {
    serde_json::from_str(include_str!("vectors.json")).expect("vectors.json is JSON")
}

/// Broken datagrams, `malformed.json`.
pub(crate) fn malformed() -> Vec<Json> {
    serde_json::from_str(include_str!("malformed.json")).expect("malformed.json is JSON")
}

/// What is in a file of `krpc/`.
pub(crate) fn mainline(file: &str) -> Vec<Json> {
    let path = format!("{}/tests/vectors/krpc/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a file of recordings");
    serde_json::from_str(&text).expect("recordings are JSON")
}

/// The datagram of an entry: `hex`, or `parts`, each with how often it is repeated.
pub(crate) fn datagram(entry: &Json) -> Vec<u8> {
    match &entry["parts"] {
        Json::Array(parts) => parts.iter().flat_map(part).collect(),
        _ => unhex(text(&entry["hex"])),
    }
}

/// The name of an entry.
pub(crate) fn name(entry: &Json) -> &str {
    text(&entry["name"])
}

fn part(part: &Json) -> Vec<u8> {
    unhex(text(&part[0])).repeat(part[1].as_u64().expect("a count") as usize)
}

fn text(json: &Json) -> &str {
    json.as_str().expect("a text")
}

/// The bytes that hex digits stand for.
pub(crate) fn unhex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "two digits a byte");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
