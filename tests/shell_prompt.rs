//! What the prompt does for a person who types at it: it completes, hints, indents, explains, edits and
//! pages.

#![cfg(feature = "shell")]

mod shell;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rexpect::error::Error;
use rexpect::session::{PtySession, spawn_command};
use shell::{free_port, kademlua, network};

/// Far longer than any answer takes, in ms.
const PATIENCE_MS: u64 = 20_000;

/// More keys than it takes to look like a paste.
const PAUSE: Duration = Duration::from_millis(20);

/// A person at the prompt, with a folder of their own.
struct Person {
    session: PtySession,
    folder: PathBuf,
}

impl Person {
    /// At the prompt of simulated networks.
    fn new(name: &str) -> Person {
        Person::with(name, &["sim"], &[])
    }

    fn with(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Person {
        let folder = std::env::temp_dir().join(format!("kademlua-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = kademlua();
        command.args(arguments).current_dir(&folder).stdin(Stdio::inherit());
        command.env("TERM", "xterm").env("XDG_STATE_HOME", &folder).envs(variables.iter().copied());
        let mut session = spawn_command(command, Some(PATIENCE_MS)).unwrap();
        session.exp_string("Ctrl-D leaves").unwrap();
        session.exp_string(" > ").unwrap();
        Person { session, folder }
    }

    /// Types a line and waits for a text that it shows.
    fn line(&mut self, line: &str, shown: &str) -> Result<String, Error> {
        self.session.send_line(line)?;
        let before = self.session.exp_string(shown)?;
        self.session.exp_string(" > ")?;
        Ok(before)
    }

    fn type_(&mut self, text: &str) -> Result<(), Error> {
        self.session.send(text)?;
        self.session.flush()
    }

    /// Types as people do: one key after the other, and each is seen before the next.
    fn type_slowly(&mut self, text: &str) -> Result<(), Error> {
        for key in text.chars() {
            self.type_(key.encode_utf8(&mut [0; 4]))?;
            self.session.exp_regex("(?s).+")?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Types a line with tabs in it, which is to show this.
    fn completes(&mut self, typed: &str, shown: &str) -> Result<(), Error> {
        self.type_slowly(typed)?;
        self.type_("\r")?;
        self.session.exp_string(shown)?;
        self.session.exp_string(" > ")?;
        Ok(())
    }

    /// The list that two tabs show behind `line`; the line is dropped.
    fn listed(&mut self, typed: &str) -> Result<String, Error> {
        self.type_slowly(typed)?;
        self.type_("\t")?;
        std::thread::sleep(PAUSE);
        self.type_("\t\x03")?;
        // The editor gives the terminal back, and takes it again.
        let shown = self.session.exp_string("\x1b[?2004l")?;
        self.session.exp_string(" > ")?;
        Ok(shown)
    }

    fn lists(&mut self, typed: &str, names: &[&str]) -> Result<(), Error> {
        let listed = self.listed(typed)?;
        for name in names {
            assert!(listed.contains(name), "{typed}: {name}: {listed}");
        }
        Ok(())
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn what_follows_a_call_is_completed_without_calling_it() -> Result<(), Error> {
    let mut person = Person::new("after-call");
    person.line("n = net{nodes = 30, seed = 2}", "\n")?;
    person.lists("n:node(3).", &["contacts", "findvalue", "lookups", "routing"])?;
    person.lists("n:node(3):findvalue(sha1('a')).values[1].", &["hops", "ms", "value", "who"])?;
    person.lists("n:sta", &["stats"])?;
    person.lists("x = cluster(3):st", &["start", "status", "stop"])?;
    person.completes("print(n:node(3).routi\t().i\t == n:node(3).id)", "\ntrue")?;
    person.completes("print(n:stats().ali\t)", "\n30")?;
    Ok(())
}

#[test]
fn settings_choices_and_files_are_completed_where_they_are_wanted() -> Result<(), Error> {
    let mut person = Person::new("settings");
    std::fs::write(person.folder.join("a name.pcap"), "").unwrap();
    person.lists("net{", &["addresses =", "latency =", "max_store_bytes =", "seed ="])?;
    person.completes("n = net{no\t7, se\t3} print(#n:alive())", "\n7")?;
    person.lists("net{nodes = 3, addresses = \"", &["private", "private6", "public", "public6"])?;
    person.completes("print((\"x\"):re\tp(2))", "\nxx")?;
    person.lists("n:lie(0.2, \"", &["collude", "drop", "garbage"])?;
    person.lists("packets{di", &["direction ="])?;
    person.lists("capture(\"a na", &["a name.pcap"])
}

#[test]
fn contacts_and_keys_are_offered_as_arguments() -> Result<(), Error> {
    let nodes = network(2);
    let peer = nodes[0].local_addr();
    let port = free_port().to_string();
    let bootstrap = peer.to_string();
    let arguments = ["--bootstrap", &bootstrap, &port];
    let mut person = Person::with("contacts", &arguments, &[]);
    person.line("findnode(sha1('a'))", "hop")?;
    let ports = [peer.port().to_string(), nodes[1].local_addr().port().to_string()];
    person.lists("ping(", &[&ports[0], &ports[1]])?;
    let ids = [nodes[0].id().to_string(), nodes[1].id().to_string()];
    person.lists("findnode(\"", &[&ids[0], &ids[1]])?;
    person.line("put(sha1('some name'), 'found ' .. 'it')", "stored at")?;
    person.completes("findvalue(\t)", "found it")?;
    Ok(())
}

#[test]
fn hints_follow_the_argument_at_the_cursor() -> Result<(), Error> {
    let mut person = Person::new("hints");
    person.line("n = net{nodes = 3}", "\n")?;
    for (typed, hinted) in [
        ("findvalue(", "key\x1b[24;2m, maxnodes=3, maxentries=6)"),
        ("findvalue(k, ", "maxnodes=3\x1b[24;2m, maxentries=6)"),
        ("findvalue(k, 1, ", "maxentries=6\x1b[24;2m)"),
        ("n:findvalue(1, ", "key\x1b[24;2m, maxnodes=3, maxentries=6)"),
        ("n:node(1).findvalue(", "key\x1b[24;2m, maxnodes=3"),
        ("net{seed = 1, ", "nodes\x1b[24;2m, latency"),
    ] {
        let (last, rest) = typed.chars().next_back().zip(typed.get(..typed.len() - 1)).unwrap();
        person.type_slowly(rest)?;
        person.type_(&last.to_string())?;
        person.session.exp_string(hinted)?;
        // It is only to be read: the key at the end of the line takes nothing of it.
        person.type_("\x1b[C\x03")?;
        person.session.exp_string(" > ")?;
    }
    Ok(())
}

#[test]
fn lines_that_go_on_are_indented_and_what_closes_goes_back() -> Result<(), Error> {
    let mut person = Person::with("indent", &["sim"], &[("NO_COLOR", "1")]);
    person.type_slowly("function f(x)\rif x then\rreturn 'a'\relse\rreturn 'b'\rend\rend\r")?;
    person.line("f(true), f(false)", "\"a\"\r\n\"b\"")?;
    // The history has it as it stood there, with the marks before lines that continue others.
    person.type_("\x1b[A\x1b[A")?;
    for line in [
        "function f(x)",
        "..   if x then",
        "..     return 'a'",
        "..   else",
        "..     return 'b'",
        "..   end",
        ".. end",
    ] {
        person.session.exp_string(line)?;
    }
    Ok(())
}

#[test]
fn the_prompt_tells_the_number_of_the_last_result() -> Result<(), Error> {
    let mut person = Person::new("number");
    person.line("6 * 7", "\n42")?;
    person.session.exp_string("_1")?;
    person.line("_1 + 1", "\n43")?;
    person.session.exp_string("_2")?;
    Ok(())
}

#[test]
fn a_question_mark_and_bare_words_explain() -> Result<(), Error> {
    let mut person = Person::new("words");
    person.line("n = net{nodes = 3}", "\n")?;
    for line in ["?n:kill", "n.kill?", "?n.kill", "?n:kill()", "help(n.kill)"] {
        person.line(line, "n:kill(share): nodes die")?;
    }
    person.line("?n", "n:heal()")?;
    person.line("help", "pprint(...)")?;
    person.line("?", "pprint(...)")?;
    person.line(
        "findvalue",
        "findvalue(key, maxnodes=3, maxentries=6): find the values under a key",
    )?;
    // A name of one's own is one's own.
    person.line("help = 5", "\n")?;
    person.line("help", "\n5")?;
    Ok(())
}

/// A program that does something with its argument, as an editor or a pager.
fn program(folder: &str, body: &str) -> PathBuf {
    let name = format!("kademlua-{folder}-{}.sh", std::process::id());
    let file = std::env::temp_dir().join(name);
    let mut out = std::fs::File::create(&file).unwrap();
    out.write_all(format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
    out.set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
    file
}

#[test]
fn what_is_typed_goes_to_an_editor_and_is_run() -> Result<(), Error> {
    let editor =
        program("editor", "case $(cat \"$1\") in *stop*) exit 3;; esac\nsed -i s/one/two/ \"$1\"");
    let variables = [("EDITOR", editor.to_str().unwrap()), ("VISUAL", "")];
    let mut person = Person::with("edit", &["sim"], &variables);
    person.type_("print('#' .. 'one')\x18\x05")?;
    person.session.exp_string("print('#' .. 'two')\r\n")?;
    person.session.exp_string("#two")?;
    person.session.exp_string(" > ")?;
    person.line("'one' .. 1", "\n\"one1\"")?;
    person.line("edit()", "'two' .. 1\r\n\"two1\"")?;
    // The editor's text counts as the line typed last; it is in the history too.
    person.line("edit()", "'two' .. 1\r\n\"two1\"")?;
    person.line("edit('return #\"one?\"')", "\n4")?;
    person.line("edit('local it = \"one\" it .. #it')", "\n\"two3\"")?;
    person.line("edit('stop')", "nothing is run")?;
    person.type_("stop\x18\x05")?;
    person.session.exp_string("nothing is run")?;
    person.session.exp_string(" > ")?;
    person.line("print(1 + 1)", "\n2")?;
    std::fs::remove_file(editor).unwrap();
    Ok(())
}

#[test]
fn the_pager_shows_all_and_ctrl_c_is_for_it_alone() -> Result<(), Error> {
    let pager = program(
        "pager",
        "trap 'echo caught' INT\nwc -l\nread line < /dev/tty\necho \"read $line\"",
    );
    let variables = [("PAGER", pager.to_str().unwrap())];
    let mut person = Person::with("pager", &["sim"], &variables);
    person.line("t = {} for i = 1, 3000 do t[i] = ('x'):rep(30) end", "\n")?;
    person.session.send_line("pager(t)")?;
    person.session.exp_string("3002")?;
    person.session.send_control('c')?;
    person.session.exp_string("caught")?;
    person.session.send_line("on")?;
    let after = person.session.exp_string(" > ")?;
    assert!(!after.contains("interrupted"), "{after}");
    // A result goes there by itself if that is wanted.
    person.line("pager('auto')", "\n")?;
    person.line("1 + 1", "\n2")?;
    std::fs::remove_file(pager).unwrap();
    Ok(())
}
