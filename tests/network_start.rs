//! `scripts/start.sh` refuses what it cannot do before it starts anything, and ends every process
//! that it started.

#![cfg(all(unix, feature = "shell"))]

mod network_helpers;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use network_helpers::{
    Folder, Network, PROGRAM, await_that, free_ports, has_bash, run, script, serve, text,
};

/// An id, which no two nodes can share.
const ID: &str = "abababababababababababababababababababab";

/// Runs a script that is to refuse: its exit status and complaint, once nothing was started.
fn refused(command: Command) -> (Option<i32>, String) {
    let output = run(command);
    assert_eq!(text(&output.stdout), "", "nothing is started");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn bad_arguments_are_refused() {
    if !has_bash() {
        return;
    }
    let control = free_ports(1);
    let folder = Folder::of(control);
    for (arguments, complaint) in [
        (&["many"][..], "COUNT is a whole number from 1, not 'many'"),
        (&["0"], "COUNT is a whole number from 1, not '0'"),
        (&["-5"], "COUNT is a whole number from 1, not '-5'"),
        (&["5", "http"], "FIRST_PORT is a port, or 0 for any that are free, not 'http'"),
        (&["5", "65534"], "invalid value '65538'"),
        (&["5", "8003", "--", "--nonsense"], "unexpected argument '--nonsense'"),
        (&["5", "8003", "--", "--log", "loud"], "log filter 'loud'"),
        (&["5", "8003", "--", "--config", "/none.lua"], "configuration /none.lua"),
        (&["5", "8003", "--", "--state"], "--state takes a folder"),
        (&["5", "8003", "--", "--id", ID], "each node needs an id of its own"),
        (&["restart", "many"], "restart takes the port of one node"),
        (&["stop", "now"], "stop takes no argument"),
        (&["5", "8003", "x"], "at most two arguments"),
    ] {
        let (status, said) = refused(script(arguments, control, &folder));
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(complaint) && said.contains("usage: "), "{arguments:?}: {said}");
    }
}

#[test]
fn help_names_all_that_it_does() {
    if !has_bash() {
        return;
    }
    let control = free_ports(1);
    let output = run(script(&["--help"], control, &Folder::of(control)));
    assert!(output.status.success());
    let said = text(&output.stdout);
    for word in ["[-- OPTION…]", " status ", " restart PORT ", " stop ", "KADEMLUA_LOG_DIR"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_missing_control_node_is_named() {
    if !has_bash() {
        return;
    }
    let control = free_ports(4);
    let folder = Folder::of(control);
    let (status, said) = refused(script(&["3", &(control + 1).to_string()], control, &folder));
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("no control node answers at 127.0.0.1:{control}")), "{said}");
}

#[test]
fn a_control_node_is_named_by_its_host_as_nodes_take_it() {
    if !has_bash() {
        return;
    }
    let control = free_ports(4);
    let folder = Folder::of(control);
    let _control = serve(control);
    let mut command = script(&["3", &(control + 1).to_string()], control, &folder);
    command.env("KADEMLUA_BOOTSTRAP", format!("localhost:{control}"));
    let mut network = Network::start(command);
    network.await_line("3 nodes answer after ");
    let mut command = script(&["3", &(control + 1).to_string()], control, &folder);
    command.env("KADEMLUA_BOOTSTRAP", "localhost:http");
    let (status, said) = refused(command);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("localhost:http"), "{said}");
}

#[test]
fn all_ports_in_use_are_named() {
    if !has_bash() {
        return;
    }
    let control = free_ports(6);
    let folder = Folder::of(control);
    let _narrow = UdpSocket::bind(("127.0.0.1", control + 2)).unwrap();
    let _wide = UdpSocket::bind(("0.0.0.0", control + 4)).unwrap();
    let (status, said) = refused(script(&["5", &(control + 1).to_string()], control, &folder));
    assert_eq!(status, Some(1));
    assert!(said.contains(&format!("UDP port {} {};", control + 2, control + 4)), "{said}");
}

#[test]
fn limits_that_are_too_low_are_named() {
    if !has_bash() {
        return;
    }
    let control = free_ports(1);
    let folder = Folder::of(control);
    for (limit, complaint) in [
        ("ulimit -n 20", "too few file descriptors: 'ulimit -n' is 20"),
        ("ulimit -u 100", "too few processes: 'ulimit -u' is 100, 50 nodes need up to 150"),
    ] {
        let inner = script(&["50", "8003"], control, &folder);
        let mut outer = Command::new("bash");
        outer.args(["-c", &format!(r#"{limit}; exec "$@""#), "bash"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (status, said) = refused(outer);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn a_node_that_ends_early_is_named_and_the_others_end() {
    if !has_bash() {
        return;
    }
    let control = free_ports(6);
    let folder = Folder::of(control);
    let _control = serve(control);
    let broken = control + 3;
    let mut script = script(&["5", &(control + 1).to_string()], control, &folder);
    script.env("KADEMLUA", program_that_fails_at(broken, &folder));
    let output = run(script);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("the node on port {broken} ended early")), "{said}");
    assert!(said.contains("the reason why"), "the end of its log: {said}");
    let free = (control + 1..control + 6).all(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok());
    assert!(free, "the others have ended");
}

fn program_that_fails_at(port: u16, folder: &Folder) -> PathBuf {
    let path = folder.0.join("program");
    let text = format!(
        "#!/bin/sh\nif [ \"$2\" = {port} ]; then echo the reason why; exit 1; fi\nexec '{PROGRAM}' \"$@\"\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn each_signal_ends_the_children_and_no_others() {
    if !has_bash() {
        return;
    }
    let control = free_ports(6);
    let folder = Folder::of(control);
    let mut other = serve(control);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let script = script(&["5", &(control + 1).to_string()], control, &folder);
        let mut network = Network::start(script);
        network.await_line("5 nodes answer after ");
        network.signal(signal);
        assert_eq!(network.end().code(), Some(128 + signal as i32));
        assert!(!network.is_alive(), "{signal}: a child is left behind");
    }
    assert_eq!(other.0.try_wait().unwrap(), None, "the control node is none of its children");
}

#[test]
fn a_signal_amid_starting_leaves_no_child() {
    if !has_bash() {
        return;
    }
    let control = free_ports(61);
    let folder = Folder::of(control);
    let _control = serve(control);
    let script = script(&["60", &(control + 1).to_string()], control, &folder);
    let mut network = Network::start(script);
    network.await_line(&format!("{} : ", control + 10));
    network.signal(Signal::SIGTERM);
    assert_eq!(network.end().code(), Some(128 + 15));
    assert!(!network.is_alive(), "a child is left behind");
}

/// What a command of the script says, and its exit status.
fn said(arguments: &[&str], control: u16, folder: &Folder) -> (Option<i32>, String) {
    let output = run(script(arguments, control, folder));
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn another_terminal_looks_restarts_and_ends_it() {
    if !has_bash() {
        return;
    }
    let control = free_ports(5);
    let folder = Folder::of(control);
    let mut other = serve(control);
    assert_eq!(said(&["status"], control, &folder).0, Some(3));
    let first = (control + 1).to_string();
    let states = folder.0.join("states").display().to_string();
    let arguments = ["4", &first, "--", "--state", &states];
    let mut network = Network::start(script(&arguments, control, &folder));
    network.await_line("4 nodes answer after ");
    let states = std::fs::read_dir(states).unwrap();
    assert_eq!(states.count(), 4, "each has a folder of its own");

    let (status, shown) = said(&["status"], control, &folder);
    assert_eq!((status, shown.matches(" : answers").count()), (Some(0), 4), "{shown}");
    let node = network.nodes.iter().find(|node| node.port == control + 3).unwrap().clone();
    node.kill();
    network.await_line("3 of 4 still run");
    let (status, shown) = said(&["status"], control, &folder);
    assert_eq!(status, Some(1), "{shown}");
    assert!(shown.contains(&format!("process {} : has ended", node.process)), "{shown}");
    for port in [control + 3, control + 1] {
        let before: Vec<_> = network.nodes.iter().filter(|node| node.port == port).collect();
        let before = before.last().unwrap().process;
        let (status, said) = said(&["restart", &port.to_string()], control, &folder);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.starts_with(&format!("{port} : ")), "{said}");
        assert!(!said.contains(&format!("process {before}\n")), "{said}");
        network.await_line(&format!("{port} : "));
    }
    assert_eq!(said(&["status"], control, &folder).0, Some(0));
    // A node that cannot come back takes no other with it.
    let node = network.nodes.iter().rfind(|node| node.port == control + 1).unwrap().clone();
    node.kill();
    let mut taken = None;
    await_that("the port is free", || {
        taken = UdpSocket::bind(("127.0.0.1", control + 1)).ok();
        taken.is_some()
    });
    let (status, complaint) = said(&["restart", &first], control, &folder);
    assert_eq!(status, Some(1), "{complaint}");
    assert!(complaint.contains("does not come back"), "{complaint}");
    drop(taken);
    let (status, said_now) = said(&["restart", &first], control, &folder);
    assert_eq!(status, Some(0), "{said_now}");
    assert_eq!(said(&["restart", &control.to_string()], control, &folder).0, Some(3));

    let (status, shown) = said(&["stop"], control, &folder);
    assert_eq!((status, &*shown), (Some(0), &*format!("ended: 4 nodes from port {first}\n")));
    assert_eq!(network.end().code(), Some(128 + 15));
    await_that("all of it is gone", || !network.is_alive());
    assert_eq!(other.0.try_wait().unwrap(), None, "the control node is none of its children");
    assert_eq!(said(&["stop"], control, &folder), (Some(0), "no network runs here\n".into()));
}

#[test]
fn no_node_outlives_a_script_that_is_killed() {
    if !has_bash() {
        return;
    }
    let control = free_ports(6);
    let folder = Folder::of(control);
    let _control = serve(control);
    let script = script(&["5", &(control + 1).to_string()], control, &folder);
    let mut network = Network::start(script);
    network.await_line("5 nodes answer after ");
    network.signal(Signal::SIGKILL);
    network.end();
    await_that("the nodes end", || !network.is_alive());
    assert_eq!(said(&["status"], control, &folder).0, Some(3));
}

#[test]
fn a_number_that_was_given_to_another_process_is_let_alone() {
    if !has_bash() {
        return;
    }
    let control = free_ports(1);
    let folder = Folder::of(control);
    let mut stranger = serve(control);
    let process = stranger.0.id();
    let port = control;
    // As if of a network long gone: its process numbers now belong to a process that began at
    // another time.
    let noted = format!("script {process} 1\n{port} {process} 1 {ID} 127.0.0.1:{port}\n");
    fs::write(folder.0.join(format!("network-{port}.pids")), noted).unwrap();
    assert_eq!(said(&["stop"], control, &folder), (Some(0), "no network runs here\n".into()));
    assert_eq!(stranger.0.try_wait().unwrap(), None);
}

#[test]
fn any_free_ports_are_taken_and_named() {
    if !has_bash() {
        return;
    }
    let control = free_ports(1);
    let folder = Folder::of(control);
    let _control = serve(control);
    let mut network = Network::start(script(&["3", "0"], control, &folder));
    network.await_line("3 nodes answer after ");
    for node in &network.nodes {
        assert!(UdpSocket::bind(("127.0.0.1", node.port)).is_err(), "{node:?}");
    }
    assert_eq!(network.nodes.len(), 3);
}
