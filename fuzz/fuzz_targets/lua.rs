#![no_main]

// The shell's conversions are no part of the library; they are compiled in here.
use kademlua::{bencode, control, serial};

#[allow(dead_code, reason = "the shell needs more of it")]
#[path = "../../src/shell/convert.rs"]
mod convert;
#[allow(dead_code, reason = "the shell needs more of it")]
#[path = "../../src/shell/escape.rs"]
mod escape;
#[path = "../../src/shell/tables.rs"]
mod tables;
#[path = "../src/lua.rs"]
mod lua;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lua::lua(bytes));
