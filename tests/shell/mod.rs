//! What the tests of the shell share: the program, and small networks for it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use kademlua::id::Id;
use kademlua::net::{Handle, Settings, spawn};
use kademlua::wire::Dialect;

/// The program.
pub(crate) fn kademlua() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kademlua"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    // Drawings depend on these.
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The program as a node that knows nobody but itself, so that it begins at once.
pub(crate) fn alone() -> Command {
    let port = free_port().to_string();
    let mut command = kademlua();
    command.args(["--bootstrap", &port, &port]);
    command
}

/// Runs a chunk in a node that is alone.
pub(crate) fn run(chunk: &str) -> Output {
    alone().args(["-e", chunk]).output().unwrap()
}

/// The output of a chunk; it must succeed.
pub(crate) fn shown(chunk: &str) -> String {
    let output = run(chunk);
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{chunk}: {err}");
    out
}

/// The complaint of a chunk; it must fail.
pub(crate) fn complaint(chunk: &str) -> String {
    let output = run(chunk);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{chunk}: {out}{err}");
    err
}

/// Standard output and standard error.
pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The output of `kademlua sim`; it must succeed.
pub(crate) fn sim(arguments: &[&str]) -> String {
    let output = kademlua().arg("sim").args(arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert!(output.status.success() && err.is_empty(), "{arguments:?}: {out}{err}");
    out
}

/// Compares with a file that `UPDATE_GOLDEN=1` records anew.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(file).unwrap(), "{name}");
}

/// Nodes in this process that all know each other; their ids are those of the names `node 0`, ….
pub(crate) fn network(count: usize) -> Vec<Handle> {
    let mut nodes: Vec<Handle> = Vec::new();
    for number in 0..count {
        let bootstrap = nodes.first().map(Handle::local_addr).into_iter().collect();
        nodes.push(node(Id::of_name(format!("node {number}")), bootstrap));
    }
    let all = nodes.clone();
    // On a thread of its own, because a test may have a runtime of its own.
    std::thread::spawn(move || wait_until_acquainted(&all)).join().unwrap();
    nodes
}

fn wait_until_acquainted(nodes: &[Handle]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for node in nodes {
            while node.snapshot().await.unwrap().v1().contacts < nodes.len() - 1 {
                node.find_node(node.id()).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    });
}

fn node(id: Id, bootstrap: Vec<SocketAddr>) -> Handle {
    let bind = "127.0.0.1:0".parse().unwrap();
    let bootstrap = bootstrap.into_iter().map(Into::into).collect();
    spawn(Settings { bind, ids: [(Dialect::V1, id)].into(), bootstrap, ..Settings::default() })
        .unwrap()
}
