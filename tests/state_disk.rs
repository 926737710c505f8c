//! Where nothing can be written a node says so, and goes on serving from memory.

#![cfg(all(target_os = "linux", feature = "shell"))]

mod net_helpers;
mod network_helpers;
mod state_helpers;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use net_helpers::{Stranger, run as run_future};
use network_helpers::{Guard, PROGRAM, await_that, free_ports, run, text};
use state_helpers::{Folder, has, missing, start, store};

/// Whether this process may mount. Where skipping is forbidden, it must.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    if tried.as_ref().is_ok_and(|output| output.status.success()) {
        return true;
    }
    let why = format!("no mount namespace of one's own: {tried:?}");
    assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "{why}");
    eprintln!("skipped: {why}");
    false
}

/// The program with a state in a folder that `mount` prepared, in a namespace of its own.
fn mounted(mount: &str, folder: &Path, arguments: &[&str]) -> Command {
    let script = format!("{mount} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script, "sh", PROGRAM]).args(arguments);
    command.arg("--state").arg(folder).env("STATE", folder).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).process_group(0);
    command
}

const READ_ONLY: &str = "mount --bind \"$STATE\" \"$STATE\" && mount -o remount,ro,bind \"$STATE\"";

fn tmpfs(size: &str) -> String {
    format!("mount -t tmpfs -o size={size} tmpfs \"$STATE\"")
}

/// A node whose log goes to a file.
struct Logged {
    node: Guard,
    address: SocketAddr,
    log: std::path::PathBuf,
    stranger: Stranger,
}

impl Logged {
    fn start(mount: &str, folder: &Path, log: &Folder) -> Logged {
        let port = free_ports(1);
        let path = log.0.join("log");
        let own = port.to_string();
        let arguments = ["serve", &own, "--bootstrap", &own, "--log", "info"];
        let mut command = mounted(mount, folder, &arguments);
        let node = Guard(command.stderr(fs::File::create(&path).unwrap()).spawn().unwrap());
        let address = ([127, 0, 0, 1], port).into();
        await_that("the node binds its port", || {
            fs::read_to_string(&path).unwrap().contains("started")
        });
        Logged { node, address, log: path, stranger: Stranger::new() }
    }

    fn says(&self, what: &str) -> bool {
        fs::read_to_string(&self.log).unwrap().contains(what)
    }

    fn store(&mut self, number: usize) {
        store(&mut self.stranger, self.address, number);
    }

    fn has(&mut self, number: usize) -> bool {
        has(&mut self.stranger, self.address, number)
    }
}

#[test]
fn in_a_read_only_folder_a_node_has_what_was_kept_and_serves_from_memory() {
    if !may_mount() {
        return;
    }
    let (folder, log) = (Folder::new("read-only"), Folder::new("read-only-log"));
    run_future(async {
        let node = start(&folder.0).unwrap();
        store(&mut Stranger::new(), node.local_addr(), 0);
        node.stop().await;
    });
    let mut node = Logged::start(READ_ONLY, &folder.0, &log);
    assert!(node.says("the state cannot be written; values are in memory alone"));
    assert!(node.says("Read-only file system"));
    assert!(node.has(0));
    node.store(1);
    assert!(node.has(1));
    drop(node);
    let port = free_ports(1).to_string();
    let chunk = ["--bootstrap", &port, "-e", "node()"];
    let shown = run(mounted(READ_ONLY, &folder.0, &[&[port.as_str()][..], &chunk].concat()));
    let shown = text(&shown.stdout);
    assert!(shown.contains("on disk   nothing is written to "), "{shown}");
    assert!(shown.contains("Read-only file system"), "{shown}");
    run_future(async {
        let node = start(&folder.0).unwrap();
        assert_eq!(missing(&node, 2).await, [1]);
        node.stop().await;
    });
}

#[test]
fn on_a_full_disk_a_node_serves_from_memory_and_writes_once_there_is_room() {
    if !may_mount() {
        return;
    }
    for size in ["16k", "160k"] {
        let (folder, log) = (Folder::new("full"), Folder::new("full-log"));
        let mut node = Logged::start(&tmpfs(size), &folder.0, &log);
        let mut stored = 0;
        await_that("the disk is full", || {
            (0..50).for_each(|number| node.store(stored + number));
            stored += 50;
            node.says("the state cannot be written; values are in memory alone")
        });
        assert!(node.says("No space left on device"), "{size}");
        (0..stored).for_each(|number| assert!(node.has(number), "{size}, {number} of {stored}"));
        let process = node.node.0.id().to_string();
        let mut grow = Command::new("nsenter");
        let state = folder.0.to_str().unwrap();
        grow.args(["--mount", "--target", &process, "mount", "-o", "remount,size=64m", state]);
        assert!(run(grow).status.success());
        await_that("there is room", || node.says("the state is written again"));
        // The waiting entries are written a second after that at the latest, and nothing during the
        // copy.
        std::thread::sleep(Duration::from_secs(3));
        let inside = Path::new("/proc").join(&process).join("root").join(&state[1..]);
        let copy = Folder::new("full-copy");
        for entry in fs::read_dir(&inside).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.0.join(entry.file_name())).unwrap();
        }
        run_future(async {
            let node = start(&copy.0).unwrap();
            assert_eq!(missing(&node, stored).await, [0; 0], "{size}, {:?}", node.state());
            node.stop().await;
        });
    }
}
