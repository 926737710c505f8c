//! `kademlua bench`, called as a user calls it.
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

#[cfg(fast_path)]
#[test]
fn the_fast_path_is_measured_beside_a_node_and_nothing_is_left() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "this takes root");
        println!("skipped: network namespaces take root");
        return;
    }
    let before = surroundings();
    let text = bench(&["--xdp", "--rounds", "1", "--seconds", "0.1"]);
    for expected in ["findnode, native / node", "findnode, tcx", "addresses swapped", "/s"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(surroundings(), before);
}

/// Things that a measurement could leave behind: mounts, interfaces, names of namespaces, pinned
/// maps.
#[cfg(fast_path)]
fn surroundings() -> Vec<String> {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().path().display().to_string()).collect();
        names.sort();
        names
    };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut all = vec![mounts];
    for folder in ["/sys/class/net", "/run/netns", "/sys/fs/bpf/kademlua"] {
        all.extend(names(folder));
    }
    all
}

#[cfg(fast_path)]
#[test]
fn without_root_the_fast_path_cannot_be_measured_and_it_says_why() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kademlua"));
    command.args(["bench", "--xdp"]);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    }
    let Ok(output) = command.output() else {
        // The binary may lie where nobody else may read.
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("use sudo") || errors.contains("two cores"), "{errors}");
}
