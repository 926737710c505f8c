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

/// Starts a node and waits for its line: the node, what else it says, and the fields of the line.
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
