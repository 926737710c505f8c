//! The promise: the map in `src/lib.rs` is what the imports say. A module uses what stands left of it, or
//! beside it, and nothing on its right. And the files that the pages name are there.

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
    ranks.insert("state".into(), ranks["wire"]);
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

/// The sources under a folder of `src`, and what they say in code, their comments left out.
fn code_in(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    sources(&Path::new("src").join(folder), &mut files);
    let code = |file: &PathBuf| {
        let source = fs::read_to_string(file).unwrap();
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    files.into_iter().map(|file| (file.clone(), code(&file))).collect()
}

/// Whether code names a thing that is used as a type of that name, and is no variant of an enum.
fn names_type(code: &str, name: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_word = !before.ends_with(is_part) && !after.starts_with(is_part);
        // A variant stands behind its enum, or at the beginning of its line.
        let is_variant = before.ends_with("::") && !before.ends_with("node::")
            || before.lines().last().is_some_and(|line| line.trim().is_empty());
        is_word && !is_variant
    })
}

#[test]
fn mechanisms_know_no_node() {
    assert!(names_type("fn f(node: &Node)", "Node"));
    assert!(names_type("use crate::node::Node;", "Node"));
    assert!(!names_type("Party::Node(contact)", "Node"));
    assert!(!names_type("enum Party {\n    Node(Contact),", "Node"));
    for folder in ["kad", "guard", "store"] {
        let files = code_in(folder);
        assert!(!files.is_empty());
        for (file, code) in files {
            assert!(!names_type(&code, "Node"), "{}", file.display());
            assert!(!code.contains("crate::node"), "{}", file.display());
        }
    }
    // Nor do those of the node itself, their unit tests too.
    const MECHANISMS: [&str; 11] = [
        "calls",
        "deferred",
        "fair",
        "joining",
        "lost",
        "maintenance",
        "pending",
        "repeats",
        "replication",
        "spread",
        "vigil",
    ];
    let files = code_in("node").into_iter();
    let mechanisms =
        files.filter(|(file, _)| MECHANISMS.contains(&file.file_stem().unwrap().to_str().unwrap()));
    let mechanisms: Vec<_> = mechanisms.collect();
    assert_eq!(mechanisms.len(), MECHANISMS.len());
    for (file, code) in mechanisms {
        for name in ["Node", "Overlay", "Active", "Shared"] {
            assert!(!names_type(&code, name), "{}: {name}", file.display());
        }
    }
}

#[test]
fn only_the_codecs_name_a_dialects_own() {
    for (file, code) in code_in("") {
        let is_codec = file.starts_with("src/wire");
        assert!(is_codec || !code.contains("wire::v1"), "{}", file.display());
    }
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
            // Things exported by name belong to the library as a whole.
            let Some(others) = ranks.get(other) else { panic!("{}: {other}", file.display()) };
            assert!(others <= rank, "{}: {own} knows of {other}", file.display());
        }
    }
    assert!(seen > 300, "{seen} imports");
}

/// Whether a name stands for some file or folder: a path from the top, or one from `src/` on; in
/// SECURITY.md also a test by its name alone.
fn is_there(name: &str) -> bool {
    let places = [
        name.to_owned(),
        format!("src/{name}"),
        format!("src/{name}.rs"),
        format!("tests/{name}.rs"),
    ];
    places.iter().any(|place| Path::new(place).exists())
}

/// The names in a page's backticks and links that look like files of ours.
fn files_named(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let linked = page.split("](").skip(1).filter_map(|text| text.split([')', '#']).next());
    let is_path = |name: &&str| {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        // A path that begins with a slash lies on the reader's machine.
        !first.is_empty() && !rest.is_empty() && name.chars().all(is_part) && is_there(first)
            || ["node_", "net_", "xdp_", "shell_", "state_", "wire_"].iter().any(|part| {
                name.starts_with(part)
                    && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
            })
    };
    quoted.chain(linked).filter(is_path).map(|name| name.trim_start_matches("../")).collect()
}

#[test]
fn the_files_that_the_pages_name_are_there() {
    // Made by tests and tools, or examples of files that a user may have.
    const MADE: [&str; 4] = ["target/", "log/", "class/", "tests/golden/"];
    let mut pages: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(PathBuf::from).into();
    pages.extend(fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path()));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for name in files_named(&text) {
            let is_made = MADE.iter().any(|made| name.starts_with(made));
            assert!(is_made || is_there(name), "{}: there is no {name}", page.display());
        }
    }
}
