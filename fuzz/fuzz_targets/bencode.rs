#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kademlua_fuzz::bencode(bytes));
