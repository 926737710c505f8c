//! `kademlua serve` as other programs meet it: the line that says that it is ready, and its ends.

#![cfg(all(unix, feature = "shell"))]

mod network_helpers;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio};

use network_helpers::{Guard, PROGRAM, await_that, free_ports, run, serve, text};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("RUST_LOG").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a node and waits for its line: the node, the rest of its output, and the fields of the
/// line.
fn ready(mut command: Command) -> (Guard, BufReader<ChildStdout>, Vec<(String, String)>) {
    let mut node = Guard(command.spawn().unwrap());
    let mut out = BufReader::new(node.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let fields = line.trim_end().strip_prefix("ready ").expect("ready");
    let fields = fields.split(' ').map(|field| {
        let (name, value) = field.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let fields = fields.collect();
    (node, out, fields)
}

fn names(fields: &[(String, String)]) -> Vec<&str> {
    fields.iter().map(|(name, _)| &**name).collect()
}

#[test]
fn one_line_says_that_a_node_is_ready_and_where() {
    let control = free_ports(1);
    let _control = serve(control);
    let (mut node, mut out, fields) =
        ready(program(&["serve", "0", "--bootstrap", &control.to_string()]));
    assert_eq!(names(&fields), ["port", "address", "id", "contacts"]);
    let (port, address, id) = (&fields[0].1, &fields[1].1, &fields[2].1);
    assert_ne!(port, "0");
    assert_eq!(*address, format!("127.0.0.1:{port}"));
    assert_eq!((id.len(), &*fields[3].1), (40, "1"));
    let pinged = run(program(&["ping", port]));
    assert!(text(&pinged.stdout).contains(id.as_str()), "{pinged:?}");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(node.0.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "it is the only line");
    assert!(node.0.wait().unwrap().success());
}

#[test]
fn a_node_that_finds_nobody_is_ready_all_the_same() {
    let (control, alone) = (free_ports(2), "0");
    let (_node, _out, fields) =
        ready(program(&["serve", alone, "--bootstrap", &(control + 1).to_string()]));
    assert_eq!(fields[3], ("contacts".to_owned(), "0".to_owned()));
}

#[test]
fn the_log_names_who_joins_and_a_program_can_read_it() {
    let mut command = program(&["serve", "0", "--bootstrap", "1", "--log-format", "json"]);
    let mut node = Guard(command.args(["--log", "info"]).spawn().unwrap());
    let mut log = BufReader::new(node.0.stderr.take().unwrap()).lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(&line.unwrap()).expect("a line is JSON")
    });
    let mut await_message = |message: &str| log.find(|line| line["message"] == message).unwrap();
    let started = await_message("started");
    let (_other, _out, fields) =
        ready(program(&["serve", "0", "--bootstrap", started["address"].as_str().unwrap()]));
    let joined = await_message("contact joined");
    let contact = format!("{}@{}", fields[2].1, fields[1].1);
    assert_eq!((&joined["level"], &joined["contact"]), (&"INFO".into(), &contact.into()));
}

#[test]
fn a_host_name_that_does_not_resolve_is_named() {
    let arguments = ["serve", "0", "--bootstrap", "nowhere.invalid:8001", "--log", "warn"];
    let mut node = Guard(program(&arguments).spawn().unwrap());
    let mut log = BufReader::new(node.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = log.find(|line| line.contains("does not resolve")).unwrap();
    assert!(said.contains("'nowhere.invalid:8001'") && said.contains("tried again"), "{said}");
    assert_eq!(node.0.try_wait().unwrap(), None, "it goes on");
    let output = run(program(&["ping", "nowhere.invalid:8001"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere.invalid:8001"), "{output:?}");
}

#[test]
fn a_control_node_is_named_by_its_host() {
    let control = free_ports(1);
    let _control = serve(control);
    let host = format!("localhost:{control}");
    let pinged = run(program(&["ping", &host]));
    assert!(text(&pinged.stdout).starts_with(&format!("127.0.0.1:{control} ")), "{pinged:?}");
    let (_node, _out, fields) = ready(program(&["serve", "0", "--bootstrap", &host]));
    assert_eq!(fields[3].1, "1");
    let chunk = format!("return bootstrap{{'{host}', {control}}}.answered");
    let output = run(program(&["0", "--bootstrap", "1", "-e", &chunk]));
    assert!(["1\n", "2\n"].contains(&&*text(&output.stdout)), "{output:?}");
    let chunk = "bootstrap('nowhere.invalid:8001')";
    let output = run(program(&["0", "--bootstrap", "1", "-e", chunk]));
    let said = text(&output.stderr);
    assert!(said.contains("bootstrap: the host name of 'nowhere.invalid:8001'"), "{said}");
}

#[test]
fn a_node_with_the_same_id_is_told_of_with_what_to_do() {
    let port = free_ports(1);
    let (_first, _, _) = ready(program(&["serve", &port.to_string(), "--bootstrap", "1"]));
    let through = format!("127.0.0.1:{port}");
    let port = port.to_string();
    let chunk = format!("print(pcall(ping, '{through}'))");
    let arguments = [&port, "--bind", "127.0.0.2", "--bootstrap", &through, "-e", &chunk];
    let output = run(program(&arguments));
    let (out, log) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(log.matches("another node has this node's id").count(), 1, "{log}");
    assert!(log.contains("--id") && out.contains("this node's own id"), "{log}{out}");
}

#[test]
fn a_node_ends_with_whoever_started_it() {
    let mut command = program(&["serve", "0", "--until-eof", "--bootstrap", "1"]);
    command.stdin(Stdio::piped());
    let mut node = Guard(command.spawn().unwrap());
    let input = node.0.stdin.take().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(node.0.try_wait().unwrap(), None);
    drop(input);
    let mut status = None;
    await_that("the node ends", || {
        status = node.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
}

#[test]
fn who_cannot_see_an_end_says_so() {
    let output = run(program(&["serve", "0", "--until-eof"]));
    let said = text(&output.stderr);
    assert!(said.contains("--until-eof: standard input must be a pipe"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn arguments_are_checked_without_a_node() {
    let port = free_ports(1);
    let _taken = serve(port);
    let output = run(program(&["serve", &port.to_string(), "--check"]));
    assert_eq!(text(&output.stdout), format!("fine port={port} address=127.0.0.1:{port}\n"));
    let id = "ab".repeat(20);
    let output = run(program(&["serve", "--bind", "::1", "--id", &id, "--check"]));
    assert_eq!(text(&output.stdout), format!("fine port=8001 address=[::1]:8001 id={id}\n"));
    let output = run(program(&["serve", "70000", "--check"]));
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]));
}

/// Kilobytes of the program's code that are resident in a process.
#[cfg(target_os = "linux")]
fn resident_code(process: u32) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let mut is_code = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if line.contains("r-xp") {
            is_code = line.ends_with(PROGRAM);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_code) {
            sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            is_code = false;
        }
    }
    sum
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_without_a_shell_gives_back_the_code_that_only_its_start_needed() {
    let (shell_port, port) = (free_ports(2), free_ports(2) + 1);
    let mut command =
        program(&[&shell_port.to_string(), "--bootstrap", "1", "-e", "print('here') sleep(60)"]);
    let mut with_shell = Guard(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(with_shell.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (without, ..) =
        ready(program(&["serve", &port.to_string(), "--bootstrap", &shell_port.to_string()]));
    let (before, after) = (resident_code(with_shell.0.id()), resident_code(without.0.id()));
    assert!(after > 0 && 2 * after < before, "{after} of {before} kB");
}
