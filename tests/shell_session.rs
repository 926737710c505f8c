//! A person at the prompt: the shell in a pseudo-terminal.

#![cfg(feature = "shell")]

mod shell;

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use kademlua::id::Id;
use rexpect::error::Error;
use rexpect::session::{PtySession, spawn_command};
use shell::{free_port, kademlua, network};

/// Far longer than any answer takes, in ms.
const PATIENCE_MS: u64 = 20_000;

/// A folder for one test's history.
fn state(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kademlua-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The shell alone in its network, at a terminal that can do all.
fn shell_at_a_terminal(state: &PathBuf) -> PtySession {
    let port = free_port().to_string();
    let mut command = kademlua();
    command.env("TERM", "xterm").env("XDG_STATE_HOME", state).stdin(Stdio::inherit());
    command.args(["--bootstrap", &port, &port]);
    let mut session = spawn_command(command, Some(PATIENCE_MS)).unwrap();
    session.exp_string("Ctrl-D leaves").unwrap();
    session.exp_string(" > ").unwrap();
    session
}

/// Types something without an end of line.
fn write(session: &mut PtySession, text: &str) -> Result<(), Error> {
    session.send(text)?;
    session.flush()
}

/// Leaves the shell and checks that it ended well.
fn leave(mut session: PtySession) -> Result<(), Error> {
    // Ctrl-D means this only at the prompt, so that must be there.
    session.send_line("print('le' .. 'aves')")?;
    session.exp_string("\nleaves")?;
    session.exp_string(" > ")?;
    session.send_control('d')?;
    session.exp_eof()?;
    let status = session.process().wait()?;
    assert!(
        format!("{status:?}").contains("Exited") && format!("{status:?}").contains(", 0)"),
        "{status:?}"
    );
    Ok(())
}

#[test]
fn lines_of_earlier_runs_come_back() -> Result<(), Error> {
    let state = state("history");
    let mut session = shell_at_a_terminal(&state);
    session.send_line("print('first' .. 'run')")?;
    session.exp_string("\nfirstrun")?;
    leave(session)?;

    let mut session = shell_at_a_terminal(&state);
    // Once for the line that leaving typed, once for the line before.
    write(&mut session, "\x1b[A\x1b[A")?;
    session.exp_string("first")?;
    write(&mut session, "\r")?;
    session.exp_string("\nfirstrun")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn a_byte_that_is_no_utf8_ends_neither_the_session_nor_what_it_holds() -> Result<(), Error> {
    let state = state("bytes");
    for terminal in ["xterm", "dumb"] {
        let mut command = kademlua();
        command.arg("sim").env("TERM", terminal).env("XDG_STATE_HOME", &state);
        command.stdin(Stdio::inherit());
        let mut session = spawn_command(command, Some(PATIENCE_MS))?;
        session.exp_string(" > ")?;
        session.send_line("x = 'ke' .. 'pt'")?;
        session.exp_string(" > ")?;
        for _ in 0..3 {
            send_bytes(&session, b"y = \"caf\xe9\"\r");
            session.exp_string("the line is dropped")?;
            session.exp_string(" > ")?;
        }
        session.send_line("print(x)")?;
        session.exp_string("kept")?;
        if terminal == "xterm" {
            leave(session)?;
        }
    }
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

/// A function of this many lines, as editors and serial consoles send it: no brackets, tabs, all at once.
fn pasted(lines: usize, end: &str) -> String {
    // A tab that completed something would make another name of this one.
    let line = |n| format!("\tfin\t= {n} * 2 -- a comment of some length{end}");
    let body: String = (0..lines).map(line).collect();
    format!("function f(){end}{body}\treturn fin\t end{end}print('MA' .. 'RK' .. f())\r")
}

#[test]
fn what_a_key_draws_in_a_paste_does_not_grow_with_the_lines_before_it() -> Result<(), Error> {
    let state = state("paste");
    for (lines, end) in [(40, "\n"), (120, "\n"), (120, "\r\n"), (1000, "\r")] {
        let mut command = kademlua();
        command.arg("sim").env("TERM", "xterm").env("XDG_STATE_HOME", &state);
        command.stdin(Stdio::inherit());
        let mut session = spawn_command(command, Some(PATIENCE_MS))?;
        session.exp_string(" > ")?;
        let text = pasted(lines, end);
        send_bytes(&session, text.as_bytes());
        let drawn = session.exp_string(&format!("MARK{}", 2 * (lines - 1)))?;
        // Each line is drawn as it comes, the first in colours, with its prompt.
        let most = 2 * text.len() + 220 * lines + 4_000;
        assert!(drawn.len() < most, "{lines} lines: {} bytes", drawn.len());
        session.exp_string(" > ")?;
        leave(session)?;
    }
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

/// Types bytes that need not be text.
fn send_bytes(session: &PtySession, bytes: &[u8]) {
    session.process().get_file_handle().unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_shell_without_a_place_for_its_history_is_a_shell() -> Result<(), Error> {
    let mut session = shell_at_a_terminal(&PathBuf::from("/dev/null"));
    session.send_line("print('still' .. 'here')")?;
    session.exp_string("\nstillhere")?;
    leave(session)
}

#[test]
fn an_incomplete_chunk_goes_on_on_the_next_line() -> Result<(), Error> {
    let state = state("incomplete");
    let mut session = shell_at_a_terminal(&state);
    session.send_line("for i = 1, 2 do")?;
    session.send_line("  print('turn ' .. i * 10)")?;
    session.send_line("end")?;
    session.exp_string("\nturn 10\r\nturn 20\r\n")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn ctrl_c_ends_a_program_and_the_prompt_comes_back() -> Result<(), Error> {
    let state = state("ctrl-c");
    let mut session = shell_at_a_terminal(&state);
    for program in [
        "print('go' .. 1) while true do end",
        "print('go' .. 1) while true do pcall(error) end",
        "print('go' .. 1) sleep(1e6)",
    ] {
        session.send_line(program)?;
        session.exp_string("\ngo1")?;
        session.send_control('c')?;
        session.exp_string("interrupted\r\n")?;
        session.exp_string(" > ")?;
    }
    session.send_line("print('goes' .. 'on')")?;
    session.exp_string("\ngoeson")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn ctrl_c_at_the_prompt_drops_the_line_and_ends_what_blocks_the_rest() -> Result<(), Error> {
    let state = state("ctrl-c-prompt");
    let mut session = shell_at_a_terminal(&state);
    write(&mut session, "error('never run')")?;
    session.exp_string("run")?;
    session.send_control('c')?;
    session.exp_string("\r\n")?;
    session.exp_string(" > ")?;
    session.send_line("spawn(function() while true do pcall(error) end end)")?;
    session.exp_string("task 1 (spawn)")?;
    session.exp_string(" > ")?;
    session.send_control('c')?;
    session.exp_string("task 1 (spawn): interrupted")?;
    session.send_line("print('goes' .. 'on')")?;
    session.exp_string("\ngoeson")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn what_is_typed_while_a_program_runs_is_kept() -> Result<(), Error> {
    let state = state("ahead");
    let mut session = shell_at_a_terminal(&state);
    session.send_line("print('go' .. 1) sleep(0.5) print('do' .. 'ne')")?;
    session.exp_string("\ngo1")?;
    write(&mut session, "print('ah' .. 'ead')\nprint('par")?;
    session.exp_string("done\r\n")?;
    session.exp_string("\nahead")?;
    session.send_line("t' .. 'ial')")?;
    session.exp_string("\npartial")?;
    // All in one piece, like pasted text.
    write(&mut session, "sleep(0.1)\rprint('pas' .. 'ted')\rprint('tw' .. 'ice')\r")?;
    session.exp_string("\npasted")?;
    session.exp_string("\ntwice")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn late_output_does_not_break_the_line_being_typed() -> Result<(), Error> {
    let state = state("late");
    let mut session = shell_at_a_terminal(&state);
    session.send_line("after(0.3, print, 'late')")?;
    session.exp_string("task 1 (after)")?;
    session.exp_string(" > ")?;
    write(&mut session, "print('un' ..")?;
    session.exp_string("late")?;
    session.send_line(" 'broken')")?;
    session.exp_string("\nunbroken")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn names_and_fields_are_completed() -> Result<(), Error> {
    let state = state("complete");
    let mut session = shell_at_a_terminal(&state);
    session.send_line("mine = {fieldname = 'value' .. 5}")?;
    session.exp_string(" > ")?;
    write(&mut session, "print(mi\t.fi\t)\r")?;
    session.exp_string("\nvalue5")?;
    write(&mut session, "print(string.re\tp('ab', 3))\r")?;
    session.exp_string("\nababab")?;
    write(&mut session, "print(('x'):rep(3), findn\t ~= nil)\r")?;
    session.exp_string("\nxxx\ttrue")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

#[test]
fn earlier_results_are_kept_by_number_and_their_memory_is_freed() -> Result<(), Error> {
    let state = state("kept");
    let mut session = shell_at_a_terminal(&state);
    for (line, expected) in [
        ("x = 5; 'r' .. x", "\"r5\""),
        ("for i = 1, 3 do end x + 1", "6"),
        ("_1 .. _2 .. _", "\"r566\""),
        ("nil", "nil"),
        ("_3 .. '!'", "\"r566!\""),
        ("_, _5 = 'mine', 'my own'", ""),
        ("'not ' .. _", "\"not mine\""),
        ("_ .. ', ' .. _5", "\"mine, my own\""),
        ("for i = 1, 10 do end (function() return ('x'):rep(2e7) end)() and nil", "nil"),
        ("big = setmetatable({}, {__mode = 'v'})", ""),
        ("big[1] = {('x'):rep(150 * 2^20)} #big[1][1], big[1]", ""),
    ] {
        session.send_line(line)?;
        if !expected.is_empty() {
            session.exp_string(&format!("\n{expected}\r\n"))?;
        }
        session.exp_string(" > ")?;
    }
    // Results pass, and with the hundredth the first is gone.
    let mut lines = "{1}\r".repeat(120);
    lines.push_str(
        "gc('collect') print('kept ' .. type(big[1]) .. tostring(_1) .. type(_120) .. type(_20))\r",
    );
    write(&mut session, &lines)?;
    session.exp_string("kept nilniltablenil")?;
    leave(session)?;
    std::fs::remove_dir_all(state).unwrap();
    Ok(())
}

/// The lines that are typed in the recorded session.
const TYPED: [&str; 22] = [
    "node().id",
    "add(sha1(\"key\"), \"value\")",
    "findvalue(sha1(\"key\"))",
    "findvalue(sha1(\"nothing\"))",
    "findnode(sha1(\"key\"))",
    "_.ended, _.nodes[1]",
    "put(sha1(\"table\"), {name = \"x\", list = {1, 2, {}}})",
    "findvalue(sha1(\"table\")).values[1].value",
    "for i = 1, 2 do",
    "  print(i, i * i)",
    "end",
    "= tohex(sha1(\"8001\"))",
    "sha1(\"key\"), getbucketno(sha1(\"a\"), sha1(\"b\"))",
    "\"\\27[31mred\\n\"",
    "routing()",
    "contacts()[1].id",
    "ping(contacts()[1])",
    "findvalue(\"key\")",
    "add(sha1(\"key\"), 1.5)",
    "x.y = 1",
    "help(findnode)",
    "help()",
];

/// The recorded session: run with `UPDATE_GOLDEN=1` to record it anew, and read what changed.
#[test]
fn a_session_goes_as_recorded() {
    let nodes = network(1);
    let port = free_port().to_string();
    let mut command = kademlua();
    // A terminal that can do nothing gets a transcript without escape sequences, all of it ASCII.
    command.env("TERM", "dumb").env("LC_ALL", "C").stdin(Stdio::inherit());
    command.args(["--id", &Id::of_name("shell").to_string(), &port]);
    command.args(["--bootstrap", &nodes[0].local_addr().to_string()]);
    command.env("XDG_STATE_HOME", "/dev/null");
    let mut session = spawn_command(command, Some(PATIENCE_MS)).unwrap();
    let mut transcript = prompt(&mut session);
    for line in TYPED {
        session.send_line(line).unwrap();
        // The terminal does not echo.
        transcript.extend([line, "\n"]);
        // The middle of a loop gets no prompt.
        if !["for", "  p"].iter().any(|start| line.starts_with(start)) {
            transcript.push_str(&prompt(&mut session));
        }
    }
    session.send_control('d').unwrap();
    transcript.push_str(&session.exp_eof().unwrap());

    let transcript = normalised(&transcript, nodes[0].local_addr().port(), &port);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/session.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &transcript).unwrap();
    }
    assert_eq!(transcript, std::fs::read_to_string(file).unwrap());
}

/// All that is shown up to the next prompt, which is part of it.
fn prompt(session: &mut PtySession) -> String {
    let (before, prompt) = session.exp_regex(r"\d+~\d+ \| +\d+ > ").unwrap();
    before + &prompt
}

/// The transcript with the same ports each time, and without what no two runs share.
fn normalised(transcript: &str, peer: u16, own: &str) -> String {
    let text = transcript.replace("\r\n", "\n").replace('\x04', "");
    let text = text.replace(own, "8001").replace(&peer.to_string(), "8003");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let units = [" ms", " s ago", " s\n", " s,", " > ", " | ", "~"];
    let mut text = units.iter().fold(text, |text, unit| blank(&text, unit));
    // Columns are filled up in front of numbers.
    while text.contains("  N ms") {
        text = text.replace("  N ms", " N ms");
    }
    text
}

/// Puts `N` in place of each number before a unit.
fn blank(text: &str, unit: &str) -> String {
    let mut parts: Vec<&str> = text.split(unit).collect();
    let last = parts.pop().unwrap_or_default();
    let number = |char: char| char.is_ascii_digit() || char == '.';
    let mut out = String::new();
    for part in parts {
        let bare = part.trim_end_matches(number);
        out.extend([bare, if bare.len() < part.len() { "N" } else { "" }, unit]);
    }
    out + last
}
