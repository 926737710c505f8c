//! A bootstrap node is found again where its host name leads by then, while the node runs that was told of it.

#![cfg(all(target_os = "linux", feature = "shell"))]

mod network_helpers;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use network_helpers::{Folder, Guard, PATIENCE, PROGRAM, free_ports, run};

/// What leads the name `moving.test` to where a file says.
fn shim(folder: &Path) -> PathBuf {
    let shim = folder.join("names.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/names/shim.c");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).args([source, "-ldl"]);
    assert!(run(command).status.success(), "Lua takes a C compiler too");
    shim
}

/// Starts a node; what it logs, line by line.
fn start(command: &mut Command) -> (Guard, Receiver<String>) {
    let command = command.args(["--log", "info", "--log-format", "json"]).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut node = Guard(command.spawn().unwrap());
    let log = BufReader::new(node.0.stderr.take().unwrap());
    let (sender, lines) = channel();
    thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (node, lines)
}

fn await_line(lines: &Receiver<String>, message: &str, text: &str) {
    loop {
        let line = lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|end| panic!("no line with '{message}': {end}"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let said = line["message"].as_str().unwrap_or_default();
        if said.starts_with(message) && line.to_string().contains(text) {
            return;
        }
    }
}

/// A node at an address of this machine that knows nobody.
fn node_at(address: &str, port: u16) -> Guard {
    let id = format!("{:0>40}", address.replace('.', ""));
    let mut command = Command::new(PROGRAM);
    command.args(["serve", &port.to_string(), "--bootstrap", "1", "--bind", address, "--id", &id]);
    let (node, lines) = start(&mut command);
    await_line(&lines, "started", address);
    node
}

#[test]
fn a_name_that_leads_elsewhere_is_followed() {
    let port = free_ports(1);
    let folder = Folder::of(port);
    let (names, config) = (folder.0.join("names"), folder.0.join("config.lua"));
    // So that the node notices soon who is gone.
    fs::write(&config, "check = 1").unwrap();
    let name = format!("moving.test:{port}");
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "0", "--bootstrap", &name, "--config"]).arg(&config);
    command.env("LD_PRELOAD", shim(&folder.0)).env("NAMES_FILE", &names);
    let (_node, lines) = start(&mut command);
    await_line(&lines, &format!("the host name of '{name}' does not resolve"), "");

    fs::write(&names, "127.0.0.2").unwrap();
    let first = node_at("127.0.0.2", port);
    await_line(&lines, "contact joined", &format!("127.0.0.2:{port}"));

    drop(first);
    fs::write(&names, "127.0.0.3").unwrap();
    let _second = node_at("127.0.0.3", port);
    await_line(&lines, "contact joined", &format!("127.0.0.3:{port}"));
}
