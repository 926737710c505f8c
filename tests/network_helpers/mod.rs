//! What the tests of networks of processes share: the script that starts one, a control node in a
//! pseudo-terminal, and guards that end what a failing test leaves behind.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rexpect::reader::Options;
use rexpect::session::PtySession;

/// The longest wait here: far more than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kademlua");

/// A range of UDP ports that were all free a moment ago: the first of them.
///
/// They lie below the ports that systems hand out by themselves.
pub fn free_ports(count: u16) -> u16 {
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut first = 10_000 + ((clock ^ std::process::id().wrapping_mul(7_919)) % 20_000) as u16;
    loop {
        let bind = |port| UdpSocket::bind(("127.0.0.1", port));
        if (first..first + count).map(bind).collect::<Result<Vec<_>, _>>().is_ok() {
            return first;
        }
        first = 10_000 + (first - 10_000 + count) % 20_000;
    }
}

/// A folder of the test's own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// Makes it; the name is the port's, because no two tests share one.
    pub fn of(port: u16) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("network-{port}"));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `scripts/start.sh`, set up to run the program under test.
pub fn script(arguments: &[&str], control_port: u16, logs: &Folder) -> Command {
    let mut command = Command::new("bash");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/start.sh")).args(arguments);
    command
        .env("KADEMLUA", PROGRAM)
        .env("KADEMLUA_BOOTSTRAP", format!("127.0.0.1:{control_port}"))
        .env("KADEMLUA_LOG_DIR", &logs.0)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Whether the script can run here at all. Where skipping is forbidden, it must.
pub fn has_bash() -> bool {
    let version = Command::new("bash").args(["-c", "echo $BASH_VERSINFO"]).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().parse());
    if matches!(version, Ok(Ok(5u32..))) {
        return true;
    }
    assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "bash 5 is missing");
    eprintln!("skipped: bash 5 is missing");
    false
}

/// A node that the script started, by what the script says of it.
#[derive(Debug, Clone)]
pub struct Started {
    pub port: u16,
    pub id: String,
    pub process: i32,
}

impl Started {
    /// Reads `8003 : d0e1… : process 4711`.
    fn parse(line: &str) -> Option<Started> {
        let [port, id, process] = line.split(" : ").collect::<Vec<_>>().try_into().ok()?;
        Some(Started {
            port: port.parse().ok()?,
            id: id.to_owned(),
            process: process.strip_prefix("process ")?.parse().ok()?,
        })
    }

    /// Ends it as a crash would, without a farewell.
    pub fn kill(&self) {
        kill(Pid::from_raw(self.process), Signal::SIGKILL).unwrap();
    }
}

/// The script at work. It leads a process group, so that whatever it starts can be found, and
/// ended if a test fails.
pub struct Network {
    script: Child,
    group: Pid,
    lines: Receiver<String>,
    pub nodes: Vec<Started>,
}

impl Network {
    /// Starts the script and looks on.
    pub fn start(mut script: Command) -> Network {
        let mut script = script.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(script.stdout.take().unwrap());
        thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let group = Pid::from_raw(script.id() as i32);
        Network { script, group, lines, nodes: Vec::new() }
    }

    /// Reads what the script says until a line holds the text; that line.
    pub fn await_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|end| panic!("no line with '{text}': {end}"));
            self.nodes.extend(Started::parse(&line));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends the script, and it alone, a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.group, signal).unwrap();
    }

    /// Waits for the script to end.
    pub fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        await_that("the script ends", || {
            ended = self.script.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Whether the script still runs, or a process that it started.
    pub fn is_alive(&self) -> bool {
        killpg(self.group, None) != Err(Errno::ESRCH)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = killpg(self.group, Signal::SIGKILL);
        let _ = self.script.wait();
    }
}

/// Polls until something is so.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end, in a process group that is killed when it takes too long.
pub fn run(mut command: Command) -> Output {
    let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard(command.spawn().unwrap());
    let out = read_aside(child.0.stdout.take().unwrap());
    let err = read_aside(child.0.stderr.take().unwrap());
    let mut status = None;
    await_that("the command ends", || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    Output { status: status.unwrap(), stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn read_aside(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A leader of a process group that does not outlive the test, nor does its group.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// What a command wrote, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A node without a shell, on a port, that knows only itself.
pub fn serve(port: u16) -> Guard {
    let port = port.to_string();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", &port, "--bootstrap", &port, "--log", "off"]).process_group(0);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = Guard(command.spawn().unwrap());
    await_that("the control node binds its port", || {
        UdpSocket::bind(format!("127.0.0.1:{port}")).is_err()
    });
    child
}

/// A node with its shell in a pseudo-terminal. It ends with this value.
pub struct Terminal(PtySession);

impl Terminal {
    /// Starts a node that knows only itself, and waits for its prompt.
    pub fn start(port: u16, home: &Folder) -> Terminal {
        let port = port.to_string();
        let mut command = Command::new(PROGRAM);
        command.args([&port, "--bootstrap", &port]);
        command.env("XDG_STATE_HOME", &home.0).env("TERM", "xterm").env_remove("RUST_LOG");
        let patience = Some(PATIENCE.as_millis() as u64);
        let options = Options::new().timeout_ms(patience).strip_ansi_escape_codes(true);
        let mut session = rexpect::session::spawn_with_options(command, options).unwrap();
        session.process_mut().set_kill_timeout(Some(1_000));
        let mut terminal = Terminal(session);
        terminal.await_prompt();
        terminal
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.0.send_line(line).unwrap();
    }

    /// Reads until a text appears.
    pub fn await_text(&mut self, text: &str) {
        self.0.exp_string(text).unwrap();
    }

    /// Reads until the prompt stands there; the contacts and the estimate in it.
    pub fn await_prompt(&mut self) -> (usize, usize) {
        let (_, prompt) = self.0.exp_regex(r"\d+~\d+ \| *\d+ > ").unwrap();
        let (contacts, rest) = prompt.split_once('~').unwrap();
        let (estimate, _) = rest.split_once(' ').unwrap();
        (contacts.parse().unwrap(), estimate.parse().unwrap())
    }

    /// Types Ctrl-D, and waits until the program has left.
    pub fn leave(mut self) {
        self.0.send_control('d').unwrap();
        self.0.exp_eof().unwrap();
    }
}
