//! The promise: the map in `src/lib.rs` is what the imports say. A module uses what stands left of it, or
//! beside it, and nothing on its right.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How far right each module stands on the map.
fn ranks() -> BTreeMap<String, usize> {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    let line = lib.lines().find(|line| line.starts_with("//! id, time")).expect("the map");
    let groups: Vec<_> = line.trim_start_matches("//! ").split("─▶").collect();
    let mut ranks = BTreeMap::new();
    for (rank, group) in groups.iter().enumerate() {
        ranks.extend(group.split(',').map(|name| (name.trim().to_owned(), rank)));
    }
    // The two on lines of their own, by the arrows that lead to them.
    ranks.insert("xdp".into(), ranks["control"]);
    ranks.insert("state".into(), ranks["message"]);
    ranks
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source names as `crate::…`, its comments and its unit tests left out.
fn named(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let name = |text: &str| {
        let is_part = |letter: &char| letter.is_alphanumeric() || *letter == '_';
        text.chars().take_while(is_part).collect::<String>()
    };
    lines.flat_map(|line| line.split("crate::").skip(1).map(name)).collect()
}

#[test]
fn nothing_on_the_left_knows_of_anything_on_its_right() {
    let (ranks, mut files) = (ranks(), Vec::new());
    sources(Path::new("src"), &mut files);
    let mut seen = 0;
    for file in files {
        let own = file.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main"].contains(&own) || file.ends_with("tests.rs") {
            continue;
        }
        let rank = ranks.get(own).unwrap_or_else(|| panic!("{own} is not on the map"));
        let source = fs::read_to_string(&file).unwrap();
        assert!(!source.contains("use crate::{"), "{}: a line for each module", file.display());
        for other in named(&source).iter().filter(|other| *other != own) {
            seen += 1;
            // What is exported by name belongs to the library as a whole.
            let Some(others) = ranks.get(other) else { panic!("{}: {other}", file.display()) };
            assert!(others <= rank, "{}: {own} knows of {other}", file.display());
        }
    }
    assert!(seen > 300, "{seen} imports");
}
