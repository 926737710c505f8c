//! `kademlua bench`, as one would call it.
#![cfg(feature = "shell")]

use std::process::Command;

use kademlua::net::{Settings, spawn};

fn bench(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kademlua"));
    let output = command.arg("bench").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

#[test]
fn a_running_node_is_loaded_with_every_rpc() {
    let bind = "127.0.0.1:0".parse().unwrap();
    let node = spawn(Settings { bind, ..Settings::default() }).unwrap();
    let target = node.local_addr().to_string();
    for rpc in ["ping", "findnode", "findvalue", "store", "getsocket"] {
        let text = bench(&["--target", &target, "--rpc", rpc, "--count", "500", "--rounds", "1"]);
        assert!(text.contains(rpc) && text.contains("0 wrong"), "{text}");
    }
}

#[test]
fn without_a_target_a_node_is_measured_beside_an_echo() {
    let text = bench(&["--count", "500", "--rounds", "1"]);
    for expected in ["ping", "findnode", "echo", "node / echo", "100 contacts known"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

#[test]
fn nobody_there_is_a_clear_error() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kademlua"));
    let output = command.args(["bench", "--target", &free.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("the target does not answer"), "{errors}");
}
