//! Results for programs: JSON and CSV on standard output, files of values, and programs in other files.

#![cfg(feature = "shell")]

mod shell;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use shell::{kademlua, texts};

/// A folder of one test, in which the program runs.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("values-{name}-{}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn sim(&self, arguments: &[&str]) -> Output {
        let mut command = kademlua();
        command.arg("sim").args(arguments).current_dir(&self.0);
        command.env("XDG_CONFIG_HOME", self.0.join("config"));
        command.output().unwrap()
    }

    /// The output of a chunk; it must succeed.
    fn shown(&self, chunk: &str) -> String {
        let output = self.sim(&["-e", chunk]);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{chunk}: {err}");
        out
    }

    fn complaint(&self, chunk: &str) -> String {
        let output = self.sim(&["-e", chunk]);
        assert_eq!(output.status.code(), Some(1), "{chunk}: {:?}", texts(&output));
        texts(&output).1
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn with_json_standard_output_is_json_line_by_line() {
    let folder = Folder::new("json");
    let all = "print('one') pprint({2}) row{a = 1, b = 'x'} local n = net{nodes = 3}
        spawn(print, 'beside') sleep(0.05)
        return n, n:node(1), {[1] = 'a', ['1'] = 'b'}, 0/0, 1/0, nil, help(), {n}";
    for arguments in [&["--json", "-e", all][..], &["--json", "hops.lua", "quick"]] {
        let output = folder.sim(arguments);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{err}");
        assert!(!err.is_empty(), "what is printed");
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.len() >= 3, "{out}");
        if arguments[1] == "-e" {
            assert_eq!(lines[0], serde_json::json!({"a": 1, "b": "x"}));
            assert_eq!((&lines[1]["nodes"], &lines[1]["alive"]), (&3.into(), &3.into()));
            assert_eq!(lines[2]["number"], 1);
            assert_eq!(lines[3], serde_json::json!({"1": "b", "[1]": "a"}));
            assert!(lines[4].is_null() && lines[5].is_null() && lines[6].is_null());
            assert_eq!(lines[8][0]["nodes"], 3);
            assert!(err.contains("one\n{2}\n") && err.contains("beside"), "{err}");
        }
    }
}

#[test]
fn every_example_gives_rows() {
    let folder = Folder::new("examples");
    for example in ["hops", "route", "churn", "alpha", "k", "partition", "liars", "sybil"] {
        let output = folder.sim(&["--csv", &format!("{example}.lua"), "quick"]);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{example}: {err}");
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.len() >= 3, "{example}: {out}");
        let columns = |line: &&str| line.split(',').count();
        assert!(columns(&lines[0]) >= 2, "{out}");
        assert!(lines.iter().all(|line| columns(line) == columns(&lines[0])), "{out}");
    }
}

#[test]
fn rows_are_csv() {
    let folder = Folder::new("csv");
    let csv = |chunk: &str| folder.sim(&["--csv", "-e", chunk]);
    for (chunk, expected) in [
        ("{{a = 1, b = 'x,y'}, {a = 2.5, c = true}}", "a,b,c\n1,\"x,y\",\n2.5,,true\n"),
        ("{{1, 2}, {3, 4}}", "1,2\n1,2\n3,4\n"),
        ("{a = {1, 2}}", "a\n\"[1,2]\"\n"),
        ("print('no') return {{t = '\\27[2J'}}", "t\n\\x1b[2J\n"),
        ("row{x = 1} row{x = 2}", "x\n1\n2\n"),
        ("{}", ""),
        ("nil", ""),
    ] {
        let output = csv(chunk);
        let (out, err) = texts(&output);
        assert_eq!((out.as_str(), output.status.code()), (expected, Some(0)), "{chunk}: {err}");
    }
    for (chunk, problem) in [
        ("5", "expected rows, a list of tables, got 5"),
        ("{1, 2}", "expected rows"),
        ("{{[print] = 1}}", "columns"),
        ("row{x = 1} row{y = 2}", "no column 'y'"),
        ("row(1)", "row: row: expected a table, got 1"),
        ("local t = {} for i = 1, 2000 do t['c' .. i] = i end return t", "more than 1000 columns"),
    ] {
        let (_, err) = texts(&csv(chunk));
        assert!(err.contains(problem), "{chunk}: {err}");
    }
}

#[test]
fn what_is_saved_is_read_back() {
    let folder = Folder::new("save");
    for (value, files) in [
        ("{1, 'two', {x = true, ['a b'] = 2.5}}", "f.json f.lua"),
        ("'text \\27 \\255'", "f.json f.lua f.txt"),
        ("{{a = 1, b = 'x,\"y\"\\n'}, {a = 2.5, b = 'true?', c = true}}", "f.json f.csv f.lua"),
        ("{{1, '007'}, {3, -1e300}}", "f.csv f.json f.lua"),
        ("{[1.5] = 1/0, [-3] = {}, [true] = false, n = math.mininteger}", "f.lua"),
    ] {
        for file in files.split(' ') {
            let chunk = format!(
                "local function same(a, b)
                   if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
                   for k, v in pairs(a) do if not same(v, b[k]) then return false end end
                   for k in pairs(b) do if a[k] == nil then return false end end
                   return true
                 end
                 local v = {value}
                 save(v, '{file}', 'replace')
                 return same(v, read('{file}'))"
            );
            assert_eq!(folder.shown(&chunk), "true\n", "{value} in {file}");
        }
    }
    assert_eq!(folder.shown("save({1}, 't.txt') return read('t.txt')"), "\"{1}\\n\"\n");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 5, "nothing is left beside");
}

#[test]
fn no_file_is_lost_and_no_other_reached() {
    let folder = Folder::new("refused");
    folder.write("there.json", "1");
    fs::create_dir(folder.0.join("folder.json")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("there.json", folder.0.join("link.json")).unwrap();
    for (chunk, problem) in [
        ("save(2, 'there.json')", "save: there.json: it is there already"),
        ("save(2, 'there.json', true)", "expected nothing or \"replace\", got true"),
        ("save(2, 'folder.json', 'replace')", "no regular file"),
        ("save(2, 'link.json', 'replace')", "no regular file"),
        ("save(2, 'none/f.json')", "No such file"),
        ("save(2, 'f')", "expected a name that ends with .json, .csv, .lua or .txt"),
        ("save(2, 'f.exe')", "expected a name that ends with"),
        ("save(2, {})", "got a table"),
        ("save(print, 'f.lua')", "true or false, got a function"),
        ("local t = {} t[1] = t save(t, 'f.lua')", "nest deeper"),
        ("local t = {} t[1] = t save(t, 'f.json')", "nests deeper"),
        ("save(('x'):rep(2e7), 'f.txt')", "more than 16 MB"),
        ("save(5, 'f.csv')", "expected rows"),
        ("read('/etc/passwd')", "expected a name that ends with"),
        ("read('missing.json')", "No such file"),
        ("read('folder.json')", "no regular file"),
        ("dofile('there.json')", "expected a name that ends with .lua"),
        ("dofile('missing.lua')", "No such file"),
    ] {
        let err = folder.complaint(chunk);
        assert!(err.starts_with("kademlua: -e:1: ") && err.contains(problem), "{chunk}: {err}");
        assert!(!err.contains("(kademlua"), "{err}");
    }
    assert_eq!(fs::read_to_string(folder.0.join("there.json")).unwrap(), "1");
    folder.write("bad.json", "{\"a\": ");
    folder.write("bad.csv", "a,b\n1\n");
    folder.write("bad.lua", "return os.time(");
    folder.write("reach.lua", "return print or os or load");
    assert!(folder.complaint("read('bad.json')").contains("EOF while parsing"));
    assert!(folder.complaint("read('bad.csv')").contains("fields"));
    assert!(folder.complaint("read('bad.lua')").contains("bad.lua:1:"));
    assert_eq!(folder.shown("read('reach.lua')"), "nil\n", "it has nothing to call");
    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(folder.0.join("pipe.json")).status();
        assert!(made.unwrap().success());
        assert!(folder.complaint("read('pipe.json')").contains("no regular file"));
    }
}

#[test]
fn other_programs_run_and_modules_are_the_users_or_the_scripts() {
    let folder = Folder::new("modules");
    folder.write("config/kademlua/lua/mine.lua", "return {name = 'the user\\'s'}");
    folder.write("config/kademlua/lua/both.lua", "return 'the user\\'s'");
    folder.write("config/kademlua/lua/broken.lua", "\nlocal x = = 1");
    folder.write("project/both.lua", "return 'beside'");
    folder.write("project/main.lua", "print(require('both'), require('mine').name)");
    folder.write("other.lua", "shared = (shared or 0) + 1 return shared, 'second'");
    assert_eq!(folder.shown("require('mine').name"), "\"the user's\"\n");
    let output = folder.sim(&["project/main.lua"]);
    assert_eq!(texts(&output).0, "beside\tthe user's\n", "{}", texts(&output).1);
    assert_eq!(folder.shown("dofile('other.lua') return dofile('other.lua')"), "2\n\"second\"\n");
    assert!(folder.complaint("require('broken')").contains("lua/broken.lua:2: unexpected"));
    assert!(folder.complaint("require('none')").contains("'none': No such file"));
    assert!(folder.complaint("require('../x')").contains("expected letters, digits"));
    folder.write("mark.lua", "\u{feff}#!/usr/bin/env kademlua\nreturn 'mark'");
    assert_eq!(folder.shown("dofile('mark.lua')"), "\"mark\"\n");
    folder.write("bytecode.lua", "\u{1b}Lua");
    assert!(folder.complaint("dofile('bytecode.lua')").contains("binary chunk"));
}

/// A chunk on a terminal that knows that much.
#[cfg(unix)]
fn on_a_terminal(term: &str, chunk: &str) -> rexpect::session::PtySession {
    let mut command = kademlua();
    command.args(["sim", "-e", chunk]).stdin(std::process::Stdio::inherit());
    command.env("TERM", term).env("COLUMNS", "80");
    let options = rexpect::reader::Options::new().timeout_ms(Some(60_000));
    rexpect::session::spawn_with_options(command, options).unwrap()
}

/// What stays on each line of a terminal when it was cleared for the last time.
#[cfg(unix)]
fn left(shown: &str) -> Vec<&str> {
    shown.split('\n').map(|line| line.rsplit("\u{1b}[2K").next().unwrap()).collect()
}

#[test]
#[cfg(unix)]
fn what_takes_long_shows_how_far_it_is_where_that_can_be_seen() {
    let own = "for i = 1, 20 do progress(i - 1, 20) sleep(0.1) if i == 15 then print('between') end end print('end')";
    let shown = on_a_terminal("xterm", own).exp_eof().unwrap();
    assert!(shown.contains("the program runs") && shown.contains(" %"), "{shown:?}");
    assert_eq!(left(&shown), ["between\r", "end\r", ""], "{shown:?}");
    let mut session = on_a_terminal("xterm", "local n = net{nodes = 20} n:run(1e9)");
    session.exp_string("virtual time passes").unwrap();
    session.send_control('c').unwrap();
    let shown = session.exp_eof().unwrap();
    assert_eq!(left(&shown), ["kademlua: interrupted\r", ""], "{shown:?}");
    for (term, chunk) in [("dumb", own), ("xterm", "progress(1, 2) print('between') print('end')")]
    {
        assert_eq!(on_a_terminal(term, chunk).exp_eof().unwrap(), "between\r\nend\r\n");
    }
    let output = kademlua().args(["sim", "-e", own]).output().unwrap();
    assert_eq!(texts(&output), ("between\nend\n".into(), String::new()), "in pipes");
}
