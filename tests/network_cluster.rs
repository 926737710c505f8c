//! A network as a user has it: a control node in a terminal, a hundred nodes from the script. Every
//! node finds the values of every other, and losing a third of the network loses no value.

#![cfg(all(unix, feature = "shell"))]

mod network_helpers;

use std::collections::HashSet;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use network_helpers::{
    Folder, Network, PROGRAM, Terminal, free_ports, has_bash, run, script, text,
};

const NODES: u16 = 100;

/// Stores 200 values. The last line is put together, so that its echo is not taken for it.
const STORE: &str =
    r#"for i = 1, 200 do add(sha1("key " .. i), "value " .. i) end print("stored" .. " all")"#;

/// Prints the numbers of the values that are not found.
const FIND: &str = r#"
local missing = {}
for i = 1, 200 do
  local found = findvalue(sha1("key " .. i)).values[1]
  if not found or found.value ~= "value " .. i then missing[#missing + 1] = i end
end
print("missing: " .. table.concat(missing, " "))
"#;

#[test]
fn values_outlive_thirty_of_a_hundred_nodes() {
    if !has_bash() {
        return;
    }
    // The control node, the one that looks before and the one that looks after, then the hundred.
    let control = free_ports(NODES + 3);
    let folder = Folder::of(control);
    let mut terminal = Terminal::start(control, &folder);
    let (count, first) = (NODES.to_string(), (control + 3).to_string());
    let mut network = Network::start(script(&[&count, &first], control, &folder));
    network.await_line("100 nodes answer after ");
    assert_eq!(network.nodes.len(), NODES.into());
    let ids: HashSet<_> = network.nodes.iter().map(|node| &node.id).collect();
    assert_eq!(ids.len(), NODES.into());

    terminal.type_line(STORE);
    terminal.await_text("stored all");
    let (contacts, _) = terminal.await_prompt();
    assert!(contacts >= 20, "the control node knows {contacts} others");
    assert_eq!(missing(control + 1, control), "missing: \n");

    for node in network.nodes.iter().filter(|node| node.port % 10 < 3) {
        node.kill();
    }
    network.await_line("70 of 100 still run");
    assert_eq!(missing(control + 2, control), "missing: \n");

    network.signal(Signal::SIGTERM);
    assert_eq!(network.end().code(), Some(128 + 15));
    assert!(!network.is_alive(), "a child is left behind");
    terminal.leave();
}

/// The values that a new node of its own does not find.
fn missing(port: u16, control: u16) -> String {
    let mut finder = Command::new(PROGRAM);
    finder.args([&port.to_string(), "--bootstrap", &control.to_string(), "-e", FIND]);
    let output = run_quietly(finder);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn run_quietly(mut command: Command) -> std::process::Output {
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    run(command)
}
