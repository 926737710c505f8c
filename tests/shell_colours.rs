//! Whatever is coloured can be read on a black and on a white background.

#![cfg(feature = "shell")]

mod shell;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shell::{alone, kademlua, texts};

/// What a terminal may be told: plain, bold, faint, underlined and no longer so, and three colours. The others of the
/// eight vanish somewhere: black and blue on black, yellow, cyan and white on white. So may bright ones, and all on a
/// background that the program sets, since the other half is the user's.
const ALLOWED: [&str; 9] = ["", "0", "1", "2", "4", "24", "31", "32", "35"];

fn is_allowed(code: &str) -> bool {
    ALLOWED.contains(&code)
}

/// The codes of styles in a text that the program writes, or in a source of it: `begin` is how one begins there.
fn codes<'t>(text: &'t str, begin: &str) -> BTreeSet<&'t str> {
    let parts = text.split(begin).skip(1);
    let codes = parts.filter_map(|part| {
        let end = part.find(|char: char| !char.is_ascii_digit() && char != ';')?;
        part[end..].starts_with('m').then_some(&part[..end])
    });
    codes.flat_map(|code| code.split(';')).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_source_names_a_colour_that_vanishes_somewhere() {
    let mut all = Vec::new();
    for folder in ["src", "lua"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    }
    let mut met = BTreeSet::new();
    for path in all {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for begin in ["\\x1b[", "\\27[", "\\u{1b}["] {
            let codes = codes(&text, begin);
            assert!(codes.iter().all(|code| is_allowed(code)), "{path:?}: {codes:?}");
            met.extend(codes.into_iter().map(str::to_owned));
        }
    }
    assert!(met.contains("32") && met.contains("35"), "they are found: {met:?}");
}

#[test]
fn no_library_adds_one() {
    let mut bad = kademlua();
    bad.args(["serve", "--nonsense", "--log", "loud"]);
    let mut help = kademlua();
    help.args(["serve", "--help"]);
    let mut value = kademlua();
    value.args(["serve", "many"]);
    let mut drawings = kademlua();
    drawings.args(["sim", "-e", "local n = net{nodes = 60} pprint(n:tree(1)) pprint(n:ring(1))"]);
    let mut trace = alone();
    trace.args(["--log", "trace", "-e", "pprint(trace(findnode, sha1('k')), tree()) error('bad')"]);
    for mut command in [bad, help, value, drawings, trace] {
        let (out, err) = texts(&command.env("CLICOLOR_FORCE", "1").output().unwrap());
        let text = out + &err;
        let codes = codes(&text, "\x1b[");
        assert!(!codes.is_empty(), "{command:?} has colours: {text}");
        assert!(codes.iter().all(|code| is_allowed(code)), "{command:?}: {codes:?}");
    }
}
