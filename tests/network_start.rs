//! `scripts/start.sh`: what it refuses before it starts anything, and that it ends what it started.

#![cfg(all(unix, feature = "shell"))]

mod network_helpers;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use network_helpers::{Folder, Network, PROGRAM, free_ports, has_bash, run, script, serve, text};

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
        (&["5", "http"], "FIRST_PORT is a port from 1 to 65535, not 'http'"),
        (&["5", "65534"], "would need port 65538"),
        (&["5", "8003", "x"], "at most two arguments"),
    ] {
        let (status, said) = refused(script(arguments, control, &folder));
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(complaint) && said.contains("usage: "), "{arguments:?}: {said}");
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
