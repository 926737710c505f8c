//! The fuzz targets over the inputs that are kept for them in `fuzz/corpus`.

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod targets;

#[path = "../fuzz/src/node.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod node;

// The shell's conversions are no part of the library; they are compiled in here.
#[cfg(feature = "shell")]
use kademlua::{bencode, control, serial};

#[cfg(feature = "shell")]
#[allow(dead_code, reason = "the shell needs more of it")]
#[path = "../src/shell/convert.rs"]
mod convert;

#[cfg(feature = "shell")]
#[allow(dead_code, reason = "the shell needs more of it")]
#[path = "../src/shell/escape.rs"]
mod escape;

#[cfg(feature = "shell")]
#[path = "../src/shell/tables.rs"]
mod tables;

#[cfg(feature = "shell")]
#[path = "../fuzz/src/lua.rs"]
#[expect(unreachable_pub, reason = "public in the crate of the fuzz targets")]
mod lua;

#[test]
fn frame() {
    replay("frame", targets::frame);
}

#[test]
fn node() {
    replay("node", node::node);
}

#[test]
fn bencode() {
    replay("bencode", targets::bencode);
}

#[cfg(feature = "shell")]
#[test]
fn lua() {
    replay("lua", lua::lua);
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(folder).expect("a corpus").map(Result::unwrap).collect();
    assert!(files.len() >= 20, "{target}: only {} inputs", files.len());
    for file in files {
        // Seen only if the test fails: which input it was.
        println!("{}", file.path().display());
        run(&fs::read(file.path()).expect("an input"));
    }
}
