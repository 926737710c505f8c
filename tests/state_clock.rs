//! A wall clock that is wrong at a start, or is set while a node runs, costs no value that a right clock
//! would keep; and time asleep is time.

#![cfg(all(target_os = "linux", feature = "shell"))]

mod net_helpers;
mod network_helpers;
mod state_helpers;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use net_helpers::Stranger;
use network_helpers::{Guard, PROGRAM, await_that, free_ports, run};
use state_helpers::{Folder, has, store};

const DAY: i64 = 24 * 3_600;

/// Longer than a node takes to notice that the clock was set, and to write that down.
const NOTICED: Duration = Duration::from_millis(2_500);

/// The library that shifts the clocks of a program, compiled once.
fn shim() -> PathBuf {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    let compile = || {
        let name = format!("clock-{}.so", std::process::id());
        let shim = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clock/shim.c");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).args([source, "-ldl"]);
        assert!(run(command).status.success(), "Lua takes a C compiler too");
        shim
    };
    SHIM.get_or_init(compile).clone()
}

/// A folder with a state, and the clock of the nodes on it.
struct Machine {
    folder: Folder,
    port: u16,
    expire: u64,
}

impl Machine {
    fn new(name: &str, expire: u64) -> Machine {
        let machine = Machine { folder: Folder::new(name), port: free_ports(1), expire };
        machine.boot(1);
        machine
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The file that a start of the machine changes beside its clocks.
    fn boot(&self, number: usize) {
        let id = format!("{number:08}-0000-4000-8000-000000000000\n");
        fs::write(self.folder.0.join("boot"), id).unwrap();
    }

    /// Sets the clocks, in seconds beside the right time: of the wall, of the time awake, and of
    /// the time in all.
    fn set_clocks(&self, wall: i64, awake: i64, all: i64) {
        // At once, because they are read all the time.
        let (new, file) = (self.folder.0.join("clock.new"), self.folder.0.join("clock"));
        fs::write(&new, format!("{wall} {awake} {all}\n")).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn start(&self) -> Node<'_> {
        let config = self.folder.0.join("config.lua");
        fs::write(&config, format!("expire = {}", self.expire)).unwrap();
        let port = self.port.to_string();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", &port, "--bootstrap", &port, "--log", "warn", "--config"]);
        command.arg(config).arg("--state").arg(self.folder.0.join("state"));
        command.env("LD_PRELOAD", shim()).env("CLOCK_FILE", self.folder.0.join("clock"));
        command.env("BOOT_FILE", self.folder.0.join("boot"));
        command.stdin(Stdio::null()).process_group(0);
        let node = Node { guard: Guard(command.spawn().unwrap()), machine: self };
        let mut stranger = Stranger::new();
        stranger.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        await_that("the node answers", || stranger.ping(self.address()));
        node
    }
}

struct Node<'m> {
    guard: Guard,
    machine: &'m Machine,
}

impl Node<'_> {
    fn store(&self, number: usize) {
        store(&mut Stranger::new(), self.machine.address(), number);
    }

    fn has(&self, number: usize) -> bool {
        has(&mut Stranger::new(), self.machine.address(), number)
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.guard.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.guard.0.wait().unwrap().success());
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

#[test]
fn a_clock_that_is_wrong_at_a_start_takes_nothing() {
    const WRONG: [i64; 5] = [8 * DAY, 50 * 365 * DAY, 0, -50 * 365 * DAY, -2 * DAY];
    for is_booted in [false, true] {
        let machine = Machine::new("wrong", DAY as u64);
        machine.set_clocks(0, 0, 0);
        let node = machine.start();
        node.store(0);
        node.stop();
        // 0 stands for the beginning of 1970.
        let wrong = WRONG.map(|wall| if wall == 0 { -now() } else { wall });
        // A value that was stored two days ago, as far as anybody can know, has expired.
        let wrong = &wrong[..if is_booted { 4 } else { 5 }];
        for (number, &wall) in (1..).zip(wrong) {
            let what = format!("{wall} s, the machine has started anew: {is_booted}");
            machine.set_clocks(wall, 0, 0);
            machine.boot(if is_booted { 2 * number } else { 1 });
            let node = machine.start();
            assert_eq!(node.has(0), !is_booted || wall < 0, "{what}");
            node.store(number);
            if number % 2 == 0 {
                node.stop();
            } else {
                sleep(NOTICED);
                // Killed, as by a crash.
                drop(node);
            }
            machine.set_clocks(0, 0, 0);
            machine.boot(if is_booted { 2 * number + 1 } else { 1 });
            let node = machine.start();
            let lost: Vec<usize> = (0..=number).filter(|&number| !node.has(number)).collect();
            assert!(lost.is_empty(), "{what}: {lost:?}");
            node.stop();
        }
    }
}

#[test]
fn a_clock_that_is_set_while_a_node_runs_takes_nothing() {
    for (from, to) in [(-1_700_000_000, 0), (9 * DAY, 0), (-2 * DAY, 0), (0, -2 * DAY)] {
        for (is_killed, is_booted) in [(false, false), (true, false), (false, true), (true, true)] {
            let machine = Machine::new("set", DAY as u64);
            machine.set_clocks(from, 0, 0);
            let node = machine.start();
            node.store(0);
            sleep(Duration::from_millis(500));
            machine.set_clocks(to, 0, 0);
            if is_killed {
                sleep(NOTICED);
                drop(node);
            } else {
                node.stop();
            }
            machine.boot(if is_booted { 2 } else { 1 });
            let node = machine.start();
            let what = format!("from {from} to {to}, killed: {is_killed}, booted: {is_booted}");
            assert!(node.has(0), "{what}");
            node.stop();
        }
    }
}

#[test]
fn time_asleep_is_time_and_a_clock_that_is_set_is_none() {
    const EXPIRE: i64 = 1_000;
    let machine = Machine::new("asleep", EXPIRE as u64);
    machine.set_clocks(0, 0, 0);
    let node = machine.start();
    node.store(0);
    machine.set_clocks(2 * EXPIRE, 0, 0);
    sleep(NOTICED);
    assert!(node.has(0), "the clock was set");
    machine.set_clocks(2 * EXPIRE + EXPIRE / 2, 0, EXPIRE / 2);
    sleep(NOTICED);
    node.store(1);
    assert!(node.has(0), "asleep for half of its life");
    sleep(NOTICED);
    drop(node);
    machine.boot(2);
    let node = machine.start();
    assert!(node.has(0) && node.has(1), "started again");
    machine.set_clocks(2 * EXPIRE + EXPIRE * 6 / 5, 0, EXPIRE * 6 / 5);
    sleep(NOTICED);
    assert!(!node.has(0), "asleep for longer than it was to live");
    assert!(node.has(1), "younger");
    node.stop();
    let node = machine.start();
    assert!(!node.has(0) && node.has(1), "started again");
    node.stop();
}
