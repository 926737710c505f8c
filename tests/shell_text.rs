//! Whatever the shell shows: the text obeys nobody, runs nothing, ends, and names the user's own lines.

#![cfg(feature = "shell")]

mod shell;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use shell::{alone, complaint, kademlua, run, shown, texts};

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("kademlua-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, bytes).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A string of Lua with orders that terminals obey, characters that turn or hide text, and bytes
/// that are no text.
const HOSTILE: &str =
    r#"'a\27[2J\7\127\r\u{9b}31m\u{202e}\u{2066}\u{200b}\u{61c}\u{2028}\u{e0041}\u{feff}z'"#;
const HOSTILE_BYTES: &str = r#"'b\x9b31m\xff\27]0;title\7z'"#;

fn is_fit(text: &str) -> bool {
    let hidden = |char: char| {
        matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{61c}'
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    !text.replace(['\n', '\t'], "").contains(|char: char| char.is_control() || hidden(char))
}

#[test]
fn nothing_of_others_is_obeyed_by_a_terminal_in_any_format() {
    let folder = Folder::new("terminal");
    for value in [HOSTILE, HOSTILE_BYTES] {
        let store =
            format!("local v = {value} local k = sha1('k') add(k, v) add(k, {{v, [v] = v}})");
        for look in [
            "return findvalue(k)",
            "return trace(findvalue, k)",
            "print(findvalue(k)) print(v) pprint(v, {v}) for _, f in ipairs(findvalue(k).values) do print(f.value) end",
            "return v, {v}, {[v] = v}, bars{[v] = 1}, setmetatable({v}, {__tostring = function() return v end})",
            "error(v)",
            "error({v})",
            "error(setmetatable({}, {__tostring = function() return v end}))",
            "return v.x.y",
            "findvalue(v)",
            "help(v)",
            "net{[v] = v}",
            "packets{[v] = v}",
            "rpc(v, function() error(v) end)",
            "capture(v)",
            "require(v)",
            "spawn(function() error(v) end) sleep(0.05)",
            "add(k, {[v] = print})",
        ] {
            for json in [&[][..], &["--json"]] {
                let chunk = format!("{store} {look}");
                let mut command = alone();
                command.args(json).args(["-e", &chunk]).current_dir(&folder.0);
                let output = command.output().unwrap();
                for bytes in [output.stdout, output.stderr] {
                    let text = String::from_utf8(bytes);
                    assert!(text.as_ref().is_ok_and(|text| is_fit(text)), "{look}: {text:?}");
                }
            }
        }
    }
}

#[test]
fn json_is_valid_and_comes_back_as_it_was() {
    let chunk = format!("return {{{HOSTILE}, x = {HOSTILE}}}");
    let output = alone().args(["--json", "-e", &chunk]).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let text =
        "a\u{1b}[2J\u{7}\u{7f}\r\u{9b}31m\u{202e}\u{2066}\u{200b}\u{61c}\u{2028}\u{e0041}\u{feff}z";
    assert_eq!(json, serde_json::json!({ "1": text, "x": text }));
}

#[test]
fn showing_runs_nothing_of_the_users() {
    let all =
        "{__index = bad, __len = bad, __pairs = bad, __tostring = bad, __name = 'bad', __eq = bad,
        __lt = bad, __concat = bad, __call = bad, __close = bad, __metatable = 'bad'}";
    let make = format!(
        "local function bad() print('RUN') return 0 end local m = {all}
        local t = setmetatable({{1, x = 2}}, m)"
    );
    for (look, expected) in [
        ("return t", "{1, x = 2}\n"),
        ("pprint(t, {t})", "{1, x = 2}\n{{1, x = 2}}\n"),
        ("return {[t] = t}", "{[{1, x = 2}] = {1, x = 2}}\n"),
        ("return setmetatable({}, {__index = function() return 0 end})", "{}\n"),
        ("local f = findnode(sha1('k')) f.nodes, f.hops = t, t return f", "<a changed findnode>\n"),
        ("string.rep, string.gsub = bad, bad return {'x'}", "{\"x\"}\n"),
    ] {
        assert_eq!(shown(&format!("{make} {look}")), expected, "{look}");
    }
    // A result that a program has changed is shown as it is now, and still runs nothing.
    let changed = "local c = node() c.address, c.counters, c.stored.values = t, t, t return c";
    assert!(!shown(&format!("{make} {changed}")).contains("RUN"));
    // print is told to.
    assert_eq!(
        shown("print(setmetatable({}, {__tostring = function() return 'own' end}))"),
        "own\n"
    );
}

#[test]
fn a_value_without_end_has_a_text_with_one() {
    let shared = "local a = {} for i = 1, 40 do a = {a, x = a} end";
    let small = "too large to show";
    for (look, expected) in [
        ("pprint(a, {all = true})", small),
        ("pprint({[a] = 1}, {all = true})", small),
        ("pager(a)", small),
    ] {
        let said = complaint(&format!("{shared} {look}"));
        assert!(said.contains(expected), "{look}: {said}");
    }
    let output = alone().args(["--json", "-e", &format!("{shared} return a")]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    assert!(err.contains("more than 16 MB"), "{err}");
}

#[test]
fn a_long_value_is_cut_and_shown_whole_when_asked() {
    let million = "local t = {} for i = 1, 1e6 do t[i] = i end";
    let cut = shown(&format!("{million} return t"));
    assert!(cut.ends_with(", 1000,\n  and 999,000 more\n}\n") && cut.len() < 10_000, "{cut}");
    assert_eq!(shown(&format!("{million} pprint(t)")), cut);
    let nested = shown(&format!("{million} return {{t, t, x = t}}"));
    assert!(nested.contains("and 999,000 more") && nested.contains("and 2 more"), "{nested}");
    let whole =
        shown("local t = {} for i = 1, 3000 do t[i] = i end pprint(t, {all = true}) pager(t)");
    assert_eq!(whole.matches(" 3000\n").count(), 2, "{whole}");
    assert_eq!(shown("pprint({all = true})"), "{all = true}\n", "that is a value");
    let names = shown("local t = {} for i = 1, 1e5 do t['k' .. i] = i end return t");
    assert!(names.contains("and 99,000 more") && names.len() < 100_000, "{names}");
    // Between its levels nothing is without end either.
    let shared = "local a = {} for i = 1, 40 do a = {a, x = a} end return a";
    assert!(shown(shared).len() < 200_000);
    let long = shown("('é'):rep(50000)");
    assert!(long.ends_with("é\"… and 90,000 more bytes\n") && long.len() < 11_000, "{long}");
}

#[test]
fn short_items_share_lines_and_copies_are_told() {
    let texts = "local t = {} for i = 1, 40 do t[i] = 'v' .. i end t.name = 'x' return t";
    let lines = shown(texts);
    assert!(lines.lines().count() < 10 && lines.lines().all(|line| line.len() <= 80), "{lines}");
    assert!(lines.contains("\"v1\",  \"v2\",") && lines.contains("\n  name = \"x\"\n}"), "{lines}");
    let numbers = shown("local t = {} for i = 1, 100 do t[i] = i end return t");
    assert!(numbers.starts_with("{\n    1,   2,   3,"), "{numbers}");
    let wide = shown("{('a'):rep(30), ('b'):rep(30), ('c'):rep(30)}");
    assert_eq!(wide.lines().count(), 5, "{wide}");
    let value = "('x'):rep(5000)";
    let find = format!(
        "local n = net{{nodes = 30, seed = 2}} n:add(1, sha1('k'), {value}) local f = n:findvalue(9, sha1('k'))"
    );
    for (look, most) in
        [("return f", 1), ("return f.values", 1), ("return n:trace(findvalue, 9, sha1('k'))", 1)]
    {
        let text = shown(&format!("{find} {look}"));
        assert_eq!(text.matches(&"x".repeat(5000)).count(), most, "{look}: {text}");
        assert!(text.contains("the same 5,000 bytes"), "{look}: {text}");
    }
}

/// Every way to write a chunk wrong that a function can notice, on the third line of a file.
#[test]
fn errors_name_the_users_line_and_never_one_of_ours() {
    let folder = Folder::new("lines");
    let file = folder.file("all.lua", br#"
local said = {}
local function try(name, f, ...)
  local arguments = table.pack(...)
  local ok, problem = pcall(function()
    local result = f(table.unpack(arguments, 1, arguments.n))
    return result
  end)
  if not ok then said[#said + 1] = {name, tostring(problem)} end
end
local n = net{nodes = 3}
local function all(t, name, ...)
  for key, f in pairs(t) do
    local skip = key == "sleep" or key == "error" or key == "print" or key == "pprint" or key == "untap"
      or key == "exit" or key == "quit"
    if type(f) == "function" and not skip then
      for _, wrong in ipairs{-1, 1e300, "no", true, {}, function() end, coroutine.create(print)} do
        try(name .. key, f, wrong)
        try(name .. key, f, wrong, wrong)
        try(name .. key, f, ...)
        try(name .. key, f, (...), wrong, wrong)
      end
      try(name .. key, f)
    end
  end
end
all(_G, "")
all(string, "string.") all(table, "table.") all(coroutine, "coroutine.") all(math, "math.") all(utf8, "utf8.")
all(getmetatable(n).__index, "n:", n)
all(n:node(1), "node.")
all(lesson, "lesson.")
for _, pair in ipairs(said) do print(pair[1] .. "\t" .. pair[2]) end
print(#said)
"#);
    for command in [&["sim"][..], &[]] {
        let mut run = if command.is_empty() { alone() } else { kademlua() };
        let output = run.args(command).arg(&file).current_dir(&folder.0).output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{err}");
        assert!(out.lines().last().unwrap().parse::<usize>().unwrap() > 300, "{out}");
        for built_in in
            ["(kademlua", "prelude", "pretty", "lesson.lua", "charts", "stack traceback", "'raw_"]
        {
            let named: Vec<_> = out.lines().filter(|line| line.contains(built_in)).collect();
            assert!(named.is_empty(), "{built_in}: {named:#?}");
        }
        let place = format!("{}:", file.display());
        let without: Vec<_> = out
            .lines()
            .filter(|line| {
                line.contains(": expected ") && !line.contains(&place) && !line.contains("...")
            })
            .collect();
        assert!(without.is_empty(), "no place: {without:#?}");
    }
    for (source, line) in [
        ("local a = 1\nlocal b = 2\nlocal n = net{nodes = -1}\n", 3),
        ("\n\nlocal c = cluster(0)\n", 3),
        ("local n = net{nodes = 3}\n\n\nlocal x = n:node(99)\n", 4),
        ("\nlocal x = table.sort({1, 'a'})\n", 2),
        ("\nlocal x = table.concat({{}})\n", 2),
        ("\nlocal x = ('x'):rep({})\n", 2),
        ("\nlocal x = ('x'):gsub()\n", 2),
        ("\nlocal x = hist{'a'}\n", 2),
        ("\nlocal x = trace(print)\n", 2),
        ("\nlocal x = setmetatable(1, {})\n", 2),
        ("\nlocal x = setmetatable({}, {__gc = 1})\n", 2),
        ("\nlocal x = coroutine.resume(1)\n", 2),
        ("\nlocal x = coroutine.wrap(1)\n", 2),
        ("local f = coroutine.wrap(print)\nf()\nlocal x = f()\n", 3),
        ("\nlocal x = help('nonsense')\n", 2),
        ("\nlocal x = hint()\n", 2),
        ("\nlocal x = lesson(99)\n", 2),
        ("\nlocal x = lesson.again()\n", 2),
        ("\nlocal x = require('missing')\n", 2),
        ("\nprint(setmetatable({}, {__tostring = function() return {} end}))\n", 2),
        ("\nlocal x = ('x'):rep(2e7) pprint(x, {all = true})\n", 2),
        (
            "local co = coroutine.create(function()\n  local x = net{nodes = -1}\nend)\nerror((select(2, coroutine.resume(co))), 0)",
            2,
        ),
    ] {
        let file = folder.file("pos.lua", source.as_bytes());
        let output = alone().arg(&file).output().unwrap();
        let (_, err) = texts(&output);
        let place = format!("kademlua: {}:{line}: ", file.display());
        assert!(err.starts_with(&place) && !err.contains("(kademlua"), "{source}: {err}");
    }
}

#[test]
fn a_program_is_bytes() {
    let folder = Folder::new("program");
    for (name, source) in [
        ("mark.lua", &b"\xef\xbb\xbfprint(#arg[1], #'\xe9')\n"[..]),
        ("both.lua", b"\xef\xbb\xbf#!/usr/bin/env kademlua\nprint(#arg[1], #'\xe9')\n"),
        ("latin.lua", b"-- \xe9\nprint(#arg[1], #'\xe9') require 'module'\n"),
    ] {
        folder.file("module.lua", b"\xef\xbb\xbf-- \xe9\nreturn 1");
        let file = folder.file(name, source);
        let argument = bytes_of(b"\xe9\xff");
        for mut command in [alone(), {
            let mut sim = kademlua();
            sim.arg("sim");
            sim
        }] {
            let output = command.arg(&file).arg(&argument).output().unwrap();
            let (out, err) = texts(&output);
            assert_eq!((out.as_str(), err.as_str()), ("2\t1\n", ""), "{name}");
        }
    }
    let output = alone().arg("-e").arg(bytes_of(b"#'\xe9'")).output().unwrap();
    assert_eq!(texts(&output), ("1\n".to_owned(), String::new()));
}

fn bytes_of(bytes: &[u8]) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes.to_vec())
}

#[test]
fn values_of_options_may_begin_with_a_minus() {
    for chunk in ["-1 + 2", "-- a comment\n1", "--[[ a ]] 1", "-(-1)"] {
        assert_eq!(shown(chunk), "1\n", "{chunk}");
        let output = kademlua().args(["sim", "-e", chunk]).output().unwrap();
        assert_eq!(texts(&output).0, "1\n", "{chunk}");
        let output = kademlua().args(["sim", &format!("-e{chunk}")]).output().unwrap();
        assert_eq!(texts(&output).0, "1\n", "{chunk}");
    }
    let folder = Folder::new("minus");
    folder.file("-c.lua", b"k = 8");
    let output = alone()
        .args(["--config", "-c.lua", "--state", "-s", "--lessons", "-l", "-e", "routing().k"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    assert_eq!(texts(&output), ("8\n".to_owned(), String::new()));
    assert!(folder.0.join("-s").is_dir());
}

#[test]
fn a_filter_for_another_program_stops_nothing_but_one_that_was_typed_does() {
    for filter in ["hyper", "info,hyper", "kademlua=loud", "\u{1b}[2J"] {
        let output = alone().env("RUST_LOG", filter).args(["-e", "1"]).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(0), "1\n"), "{filter}: {err}");
        assert!(err.contains("WARN RUST_LOG is not heeded") && is_fit(&err), "{filter}: {err}");
        let output = alone().args(["--log", filter, "-e", "1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{filter}");
    }
    let output = alone().env("RUST_LOG", "hyper").args(["--log", "error", "-e", "1"]).output();
    assert_eq!(texts(&output.unwrap()), ("1\n".to_owned(), String::new()));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let endless =
        "local t = {} for i = 1, 1e4 do t[i] = i end while true do print(table.concat(t, ' ')) end";
    let caught = "while true do pcall(print, ('x'):rep(1e5)) end";
    let result = "local t = {} for i = 1, 1e5 do t[i] = 'some text' end pprint(t, {all = true})";
    let json = "local t = {} for i = 1, 1e5 do t[i] = 'some text' end return t";
    let log = format!("sleep(0.1) {result}");
    for (arguments, rounds) in [
        (vec!["-e", endless], 1),
        (vec!["-e", caught], 1),
        (vec!["-e", result], 1),
        (vec!["--json", "-e", json], 1),
        (vec!["--log", "trace", "-e", &log], 1),
    ] {
        for _ in 0..rounds {
            let mut child = alone()
                .args(&arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
            let mut byte = [0];
            out.read_exact(&mut byte).unwrap();
            drop(out);
            let output = child.wait_with_output().unwrap();
            let (_, err) = texts(&output);
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {err}");
            assert!(
                !err.contains("panicked") && !err.contains("roken pipe"),
                "{arguments:?}: {err}"
            );
        }
    }
    for arguments in [&["--help"][..], &["bench", "--seconds", "0.1", "--rounds", "1"]] {
        let mut child = kademlua()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let (_, err) = texts(&output);
        assert!(!err.contains("panicked") && !err.contains("roken pipe"), "{arguments:?}: {err}");
        assert_ne!(output.status.code(), Some(101), "{arguments:?}");
    }
}

#[test]
fn a_log_whose_reader_left_ends_nothing() {
    let port = shell::free_port().to_string();
    let mut node = kademlua()
        .args(["serve", &port, "--bootstrap", &port, "--log", "trace"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(node.stderr.take().unwrap());
    log.read_line(&mut String::new()).unwrap();
    drop(log);
    for _ in 0..3 {
        let output = kademlua().args(["ping", &port]).output().unwrap();
        assert!(output.status.success(), "{:?}", texts(&output));
    }
    let stopped = Command::new("kill").arg(node.id().to_string()).status().unwrap();
    assert!(stopped.success() && node.wait().unwrap().success());
}

#[test]
fn a_configuration_without_effect_is_refused() {
    let folder = Folder::new("configuration");
    for source in ["return {port = 23045, bootstrap = {}}", "", "local port = 1"] {
        let file = folder.file("c.lua", source.as_bytes());
        let output = alone().arg("--config").arg(&file).args(["-e", "1"]).output().unwrap();
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{source}");
        assert!(err.contains("write\nport = 8001"), "{source}: {err}");
    }
}

#[test]
fn a_probe_asks_as_a_node_would() {
    let port = shell::free_port().to_string();
    let mut node = alone();
    node.args(["-e", "print(node().port) io = nil sleep(1e6)"]).stdout(Stdio::piped());
    let mut node = node.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let own = line.trim();
    for address in [own.to_owned(), format!("127.0.0.1:{own}")] {
        let output = kademlua().args(["ping", &address]).output().unwrap();
        let (out, err) = texts(&output);
        assert!(out.starts_with(&format!("127.0.0.1:{own} ")) && err.is_empty(), "{out}{err}");
    }
    node.kill().unwrap();
    node.wait().unwrap();
    for (address, status) in [("", 2), ("nonsense", 2), (&*port, 1)] {
        let output = kademlua().args(["ping", address]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{address}: {:?}", texts(&output));
    }
}

#[test]
fn what_is_typed_as_a_line_is_a_line() {
    let mut child = alone().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xef\xbb\xbfprint(#'\xe9')").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.wait().unwrap();
    assert_eq!(out, "1\n");
    assert!(run("1 +").status.code() == Some(1));
}
