//! How programs fail: with the user's own lines, with a better name where one was mistyped, and
//! with a status.

#![cfg(feature = "shell")]

mod shell;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use shell::{alone, complaint, kademlua, run, texts};

fn file(name: &str, source: &str) -> PathBuf {
    let name = format!("failures-{}-{name}", std::process::id());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, source).unwrap();
    file
}

#[test]
fn a_traceback_has_the_users_own_lines_and_no_others() {
    let script = file(
        "trace.lua",
        "local function inner(x)
  local y = x.a.b
  return y
end
function outer(x)
  local t = {}
  table.sort({3, 2, 1}, function(a, b) t[1] = inner(x) return a < b end)
  return t
end
local r = outer({})
return r
",
    );
    let output = alone().arg(&script).output().unwrap();
    let (_, err) = texts(&output);
    std::fs::remove_file(&script).unwrap();
    let path = script.display().to_string();
    let mut lines = err.lines();
    let first = lines.next().unwrap();
    assert!(first.contains(":2: attempt to index a nil value (field 'a')"), "{err}");
    let rest: Vec<&str> = lines.collect();
    assert_eq!(rest.len(), 4, "{path}: {err}");
    for (line, part) in rest.iter().zip([
        ":2: in function 'inner'",
        ":7: in function <",
        ":7: in function 'outer'",
        ":10: in main chunk",
    ]) {
        assert!(line.starts_with("  ") && line.contains(part), "{part}: {err}");
    }
    // One line of one's own needs no traceback.
    assert_eq!(complaint("error('boo')"), "kademlua: -e:1: boo\n");
    let (_, err) =
        texts(&run("local function f()\n findvalue('x') end\nlocal function g() f() end\ng()"));
    assert!(
        err.contains("  -e:2: in function 'f'\n  -e:3: in function 'g'\n  -e:4: in main chunk\n"),
        "{err}"
    );
    assert!(!err.contains("kademlua prelude") && !err.contains("[C]"), "{err}");
    let deep = complaint(
        "local function f(n) if n == 0 then error('deep') end f(n - 1) return 1 end f(50)",
    );
    assert!(deep.lines().count() < 16 && deep.ends_with("  …\n"), "{deep}");
    let task =
        complaint("local function f() error('late') end spawn(function() f() end) sleep(0.1)");
    assert!(
        task.contains(
            "task 1 (spawn): -e:1: late\n  -e:1: in function 'f'\n  -e:1: in function <-e:1>\n"
        ),
        "{task}"
    );
}

#[test]
fn whatever_is_thrown_is_shown() {
    for (chunk, expected) in [
        ("error({code = 5, 'x'})", "kademlua: {\"x\", code = 5}\n"),
        (
            "error(setmetatable({}, {__tostring = function() return 'own text' end}))",
            "kademlua: own text\n",
        ),
        (
            "error(setmetatable({1}, {__tostring = function() error('no') end}))",
            "kademlua: an error value that cannot be shown\n",
        ),
        ("error(5)", "kademlua: 5\n"),
        ("error(nil)", "kademlua: nil\n"),
        ("error(true)", "kademlua: true\n"),
        ("local t = {} t.t = t error(t)", "kademlua: {t = <a table around this one>}\n"),
        ("coroutine.wrap(function() error({1}) end)()", "kademlua: {1}\n"),
    ] {
        assert_eq!(complaint(chunk), expected, "{chunk}");
    }
}

#[test]
fn what_was_meant_is_asked() {
    for (chunk, meant) in [
        ("finvalue('x')", "(global 'finvalue'); did you mean 'findvalue'?"),
        ("mine_is_long = print mine_is_lang(1)", "did you mean 'mine_is_long'?"),
        ("strin.rep('x')", "(global 'strin'); did you mean 'string'?"),
        ("string.fromat('x')", "(field 'fromat'); did you mean 'format'?"),
        (
            "local r = findnode(sha1('k')) return #r.quereis",
            "(field 'quereis'); did you mean 'queries'?",
        ),
        (
            "local r = findvalue(sha1('k')) return r.vaules[1]",
            "(field 'vaules'); did you mean 'values'?",
        ),
        (
            "local n = net{nodes = 3} n:finvalue(1, sha1('k'))",
            "(method 'finvalue'); did you mean 'findvalue'?",
        ),
        ("net{nods = 3}", "; did you mean 'nodes'?"),
        ("net{alhpa = 3}", "; did you mean 'alpha'?"),
        ("help('finvalue')", "; did you mean 'findvalue'?"),
    ] {
        let said = complaint(chunk);
        assert!(said.contains(meant), "{chunk}: {said}");
    }
    for chunk in ["qqqqqq()", "local findvalu findvalu()", "local t = {} t.zzzzzz()"] {
        let said = complaint(chunk);
        assert!(!said.contains("did you mean"), "{chunk}: {said}");
    }
    let output = kademlua().args(["sim", "hop.lua"]).output().unwrap();
    let (_, err) = texts(&output);
    assert!(err.contains("hop.lua; did you mean 'hops.lua'?"), "{err}");
    let configuration = file("conf.lua", "alhpa = 3");
    let output = kademlua().arg("--config").arg(&configuration).args(["-e", "1"]).output().unwrap();
    std::fs::remove_file(configuration).unwrap();
    assert!(texts(&output).1.contains("; did you mean 'alpha'?"), "{}", texts(&output).1);
}

#[test]
fn the_status_is_the_programs() {
    for (chunk, status) in [
        ("exit()", 0),
        ("exit(3)", 3),
        ("exit(255.0)", 255),
        ("quit(4)", 4),
        ("pcall(exit, 5) error('never')", 5),
        ("after(0.05, exit, 6) sleep(60)", 6),
        ("spawn(function() error('told') end) sleep(0.1)", 1),
        ("every(0.01, function() error({}) end) sleep(0.1)", 1),
        ("spawn(function() end) sleep(0.1)", 0),
        ("exit(256)", 1),
        ("exit('x')", 1),
    ] {
        let output = run(chunk);
        assert_eq!(output.status.code(), Some(status), "{chunk}: {}", texts(&output).1);
    }
    assert!(
        complaint("exit(256)").contains("status: expected a whole number from 0 to 255, got 256")
    );
    let said =
        complaint("spawn(function() error('a') end) spawn(function() error('b') end) sleep(0.1)");
    assert!(said.ends_with("kademlua: 2 tasks failed\n"), "{said}");
}

#[test]
fn tasks_are_listed_with_what_they_wait_for() {
    let chunk = "
        local a = spawn(sleep, 60)
        local b = every(60, print)
        local c = after(60, print)
        local d = rpc('greet', print)
        local e = tap(function() end)
        local f = spawn(function() call(1, 'x') end)
        sleep(0.05)
        for _, task in ipairs(tasks()) do print(task.task, task.kind, task.waits_for, task.seconds < 60) end
        print(tasks())
        for _, task in ipairs{a, b, c, d, e} do assert(cancel(task)) end
        sleep(0.05)
        print(#tasks())";
    let output = run(chunk);
    let (out, err) = texts(&output);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "1\tspawn\tsleep\ttrue",
            "2\tevery\tits next time\ttrue",
            "3\tafter\tits time\ttrue",
            "4\trpc\tcalls of greet\ttrue",
            "5\ttap\tpackets\ttrue",
            "6\tspawn\tcall\ttrue"
        ],
        "{err}"
    );
    assert!(
        lines[6].contains("1  spawn") && lines[6].ends_with("waits for sleep; cancel(1) ends it"),
        "{out}"
    );
    assert_eq!(lines[12], "6 tasks");
    assert_eq!(lines[13], "1");
}

/// Runs with lines as standard input, as a prompt without a terminal.
fn prompted(mut command: Command, lines: &str) -> (Option<i32>, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("XDG_STATE_HOME", "/dev/null").env("TERM", "dumb");
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = texts(&output);
    (output.status.code(), out, err)
}

#[test]
fn the_start_up_file_is_the_prompts_and_its_errors_are_told() {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("init-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("kademlua")).unwrap();
    let write = |text: &str| std::fs::write(folder.join("kademlua/init.lua"), text).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = kademlua();
        command.arg("sim").args(arguments).env("XDG_CONFIG_HOME", &folder);
        command
    };
    write("mine = 'from init'");
    let (status, out, err) = prompted(command(&["-i", "-e", "mine"]), "mine .. '!'\nexit(7)\n");
    assert_eq!(status, Some(7), "{out}{err}");
    assert!(out.starts_with("nil\n") && out.contains("\"from init!\"\n"), "{out}{err}");
    let (_, out, _) = prompted(command(&["-i", "--no-init", "-e", "1"]), "tostring(mine)\nquit\n");
    assert!(out.contains("\"nil\"\n"), "{out}");
    write("mine = 'half'\n\nerror('broken')");
    let (status, out, err) = prompted(command(&["-i", "-e", "error('first')"]), "mine\nexit\n");
    assert_eq!(status, Some(0));
    assert!(
        err.contains("-e:1: first\n") && err.contains("kademlua/init.lua:3: broken\n"),
        "{err}"
    );
    assert!(out.contains("\"half\"\n"), "{out}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// What a terminal of 60 columns shows, without its colours.
fn on_a_narrow_terminal(arguments: &[&str]) -> String {
    let mut command = kademlua();
    command.args(arguments).env("COLUMNS", "60").env("TERM", "xterm").stdin(Stdio::inherit());
    let options = rexpect::reader::Options::new();
    let options = options.timeout_ms(Some(60_000)).strip_ansi_escape_codes(true);
    rexpect::session::spawn_with_options(command, options).unwrap().exp_eof().unwrap()
}

#[test]
fn messages_are_broken_between_words_where_a_terminal_ends() {
    // The terminal's bytes are read one by one.
    let words = |text: &str| {
        let words = text.split_whitespace().filter(|word| word.is_ascii());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    for arguments in [
        &["sim", "-e", "net{noodes = 1}"][..],
        &["sim", "-e", "lesson(1)"],
        &["sim", "-e", "after(0, error, ('many words '):rep(20), 0) sleep(0.1)"],
        &["sim", "--csv", "--json", "--lessons", "a folder with a long name, which is not there"],
        &["--bootstrap", "this is no address of a node, and no name of one that has a port"],
        &["--help"],
    ] {
        let shown = on_a_narrow_terminal(arguments);
        for line in shown.lines() {
            assert!(line.chars().count() <= 60, "{arguments:?}: {line}");
        }
        let (out, err) = texts(&kademlua().args(arguments).output().unwrap());
        assert!((out.clone() + &err).lines().any(|line| line.len() > 60), "{out}{err}");
        assert_eq!(words(&shown), words(&(out + &err)), "{arguments:?}");
    }
}
