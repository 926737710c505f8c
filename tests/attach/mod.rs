//! What the tests of attaching share: a runtime folder of the test's own, nodes that have their control
//! sockets in it, and a client that writes its lines by hand.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

/// Far longer than anything takes here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime folder, removed at the end.
pub(crate) struct Lab(pub(crate) PathBuf);

impl Lab {
    pub(crate) fn new() -> Lab {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        // Not below the target folder: the path of a socket has at most 107 bytes.
        let name = format!("kad-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Lab(folder)
    }

    /// The program, in this lab.
    pub(crate) fn kademlua(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kademlua"));
        command.args(arguments).env("XDG_RUNTIME_DIR", &self.0).env("LC_ALL", "C.UTF-8");
        command.env("XDG_STATE_HOME", self.0.join("state"));
        for name in ["RUST_LOG", "COLUMNS", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.kademlua(arguments).output().unwrap()
    }

    /// Its output; it must succeed.
    pub(crate) fn shown(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out
    }

    /// A node that is its whole network, and so ready at once.
    pub(crate) fn node(&self) -> Node {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        drop(socket);
        self.node_with(&[&port, "--bootstrap", &port])
    }

    /// A node that joins through another.
    pub(crate) fn node_via(&self, other: &Node) -> Node {
        self.node_with(&["0", "--bootstrap", &other.port.to_string()])
    }

    pub(crate) fn node_with(&self, arguments: &[&str]) -> Node {
        let mut command = self.kademlua(&["serve"]);
        Node::of(command.args(arguments))
    }

    /// The socket of the first node on a port.
    pub(crate) fn socket(&self, port: u16) -> PathBuf {
        self.sockets().join(format!("{port}.sock"))
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.0.join("kademlua")
    }

    /// The names of all sockets.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.sockets()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `kademlua serve`, ended with the test.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) id: String,
}

impl Node {
    fn of(command: &mut Command) -> Node {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let field = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("no {name} in '{line}'")).to_owned()
        };
        Node { child, port: field("port=").parse().unwrap(), id: field("id=") }
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Resident memory, in kilobytes.
    pub(crate) fn kilobytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that writes its lines by hand.
pub(crate) struct Client {
    pub(crate) greeting: Json,
    input: BufReader<UnixStream>,
    pub(crate) output: UnixStream,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Client {
        let output = UnixStream::connect(socket).unwrap();
        output.set_read_timeout(Some(PATIENCE)).unwrap();
        output.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut input = BufReader::new(output.try_clone().unwrap());
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        Client { greeting: serde_json::from_str(&line).unwrap(), input, output }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.output.write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, line: &Json) {
        self.send(format!("{line}\n").as_bytes());
    }

    /// The next line; `None` once the node has closed.
    pub(crate) fn hear(&mut self) -> Option<Json> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))),
            // Closed with something unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Asks and waits.
    pub(crate) fn answer(&mut self, ask: &Json) -> Json {
        self.ask(&json!({"id": 1_000_000, "ask": ask}));
        loop {
            let line = self.hear().expect("an answer");
            if line["id"] == 1_000_000 {
                return line;
            }
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Polls until something is so.
pub(crate) fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
