//! Promises about a node that keeps its state on disk: what it acknowledged outlives it, and what is
//! damaged is never taken for what was kept.
#![cfg(all(unix, feature = "shell"))]

use std::cell::Cell;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{Kind, Request, Response, RpcId, Store, StoreMode};
use kademlua::wire::v1::{self, Body, Frame, Header};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SECOND: Duration = Duration::from_secs(1);

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("kademlua-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn database(&self) -> PathBuf {
        self.0.join("state.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn kademlua(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kademlua"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A node of its own process, killed at the end if not before.
struct Node {
    child: Child,
    address: SocketAddr,
}

impl Node {
    /// Starts one that answers when this returns.
    fn start(port: u16, folder: &Path, options: &[&str]) -> Node {
        let mut command = kademlua(&["serve", &port.to_string(), "--log", "error"]);
        command.args(["--bootstrap", "127.0.0.1:9"]).arg("--state").arg(folder).args(options);
        let child = command.spawn().unwrap();
        let node = Node { child, address: ([127, 0, 0, 1], port).into() };
        let client = Client::new(node.address);
        let end = Instant::now() + 20 * SECOND;
        while client.ask(&Request::Ping, SECOND / 10).is_none() {
            assert!(Instant::now() < end, "the node does not start");
        }
        node
    }

    /// As kill -9 does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Speaks to a node as another would.
struct Client {
    socket: UdpSocket,
    asked: Cell<u64>,
}

impl Client {
    fn new(node: SocketAddr) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(node).unwrap();
        Client { socket, asked: Cell::new(0) }
    }

    fn ask(&self, request: &Request<'_>, within: Duration) -> Option<Response> {
        let mut datagram = Vec::new();
        self.asked.set(self.asked.get() + 1);
        let rpc_id = RpcId(self.asked.get().to_be_bytes());
        let header = Header { from: Id::of_name("client"), rpc_id };
        v1::put_request(&mut datagram, &header, request);
        // Nobody may be there yet.
        let _ = self.socket.send(&datagram);
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 20_000];
        loop {
            let len = self.socket.recv(&mut buffer).ok()?;
            let frame = Frame::parse(&buffer[..len]).unwrap();
            if let Body::Response(payload) = frame.body
                && frame.header.rpc_id == header.rpc_id
            {
                return Some(v1::response(request.kind(), payload).unwrap());
            }
        }
    }

    /// Whether the node says that it keeps a value.
    fn store(&self, key: Id, value: &Value) -> bool {
        let mode = StoreMode::Replace;
        let store = Store { key, value: value.item(), mode, copy: None };
        self.ask(&Request::Store(store), 2 * SECOND) == Some(Response::Stored)
    }

    fn values(&self, key: Id) -> Vec<Value> {
        let request = Request::FindValue { key, limit: 100 };
        assert_eq!(request.kind(), Kind::FindValue);
        match self.ask(&request, 2 * SECOND) {
            Some(Response::Values { values, .. }) => values,
            other => panic!("{other:?} in answer to a findvalue"),
        }
    }
}

fn key(number: u32) -> Id {
    Id::of_name(format!("key {number}"))
}

fn value(number: u32) -> Value {
    Value::bytes(format!("value {number}"))
}

/// What a node without a shell complains of that must not start.
fn complaint(folder: &Path, options: &[&str]) -> String {
    let port = free_port().to_string();
    let mut command = kademlua(&["serve", &port, "--bootstrap", "127.0.0.1:9"]);
    let output: Output = command.arg("--state").arg(folder).args(options).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The promise about `kill -9`: whatever was acknowledged more than a second before is there.
#[test]
fn what_was_acknowledged_a_second_ago_outlives_fifty_kills() {
    const KILLS: u32 = 50;
    const SEED: u64 = 5;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let (folder, port) = (Folder::new("kills"), free_port());
    let mut kept: Vec<u32> = Vec::new();
    let mut next = 0;
    for kill in 0..KILLS {
        let node = Node::start(port, &folder.0, &[]);
        let client = Client::new(node.address);
        for &number in &kept {
            assert_eq!(client.values(key(number)), [value(number)], "seed {SEED}, kill {kill}");
        }
        // Up to now and then, storing all the time.
        let until = Instant::now() + SECOND + Duration::from_millis(rng.random_range(0..400));
        let mut acknowledged = Vec::new();
        while Instant::now() < until {
            assert!(client.store(key(next), &value(next)));
            acknowledged.push((Instant::now(), next));
            next += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        let killed = Instant::now();
        node.kill();
        let old = |&&(at, _): &&(Instant, u32)| killed - at > SECOND;
        kept.extend(acknowledged.iter().filter(old).map(|&(_, number)| number));
        // To look at all of them each time would take long.
        let some = kept.len().saturating_sub(200);
        kept.drain(..some);
    }
    println!("{next} values stored");
    assert!(next > 20 * KILLS);
}

/// Nobody but its own contacts shows it the way back.
#[test]
fn a_node_that_was_killed_joins_again_without_a_bootstrap_node() {
    let folders = [0, 1, 2].map(|number| Folder::new(&format!("rejoin-{number}")));
    let ports = [(); 3].map(|()| free_port());
    let first = Node::start(ports[0], &folders[0].0, &[]);
    let bootstrap = format!("127.0.0.1:{}", ports[0]);
    let _others: Vec<Node> = [1, 2]
        .map(|number: usize| {
            Node::start(ports[number], &folders[number].0, &["--bootstrap", &bootstrap])
        })
        .into();
    assert!(Client::new(first.address).store(key(1), &value(1)));
    let named = |node: &Node| match Client::new(node.address)
        .ask(&Request::FindNode { target: key(0) }, 2 * SECOND)
    {
        Some(Response::Nodes(contacts)) => contacts,
        other => panic!("{other:?}"),
    };
    let wait_for_two = |node: &Node| {
        let end = Instant::now() + 30 * SECOND;
        let others =
            |node: &Node| named(node).iter().filter(|c| ports.contains(&c.address.port())).count();
        while others(node) < 2 {
            assert!(Instant::now() < end, "{:?}", named(node));
            std::thread::sleep(SECOND / 10);
        }
    };
    wait_for_two(&first);
    // Contacts are written every ten seconds at the latest, and at the first chance.
    std::thread::sleep(11 * SECOND);
    first.kill();
    // At another port, so that the others cannot find it first.
    let again = Node::start(free_port(), &folders[0].0, &[]);
    wait_for_two(&again);
    assert_eq!(Client::new(again.address).values(key(1)), [value(1)]);
}

#[test]
fn a_folder_has_one_node() {
    let folder = Folder::new("shared");
    let node = Node::start(free_port(), &folder.0, &[]);
    let told = complaint(&folder.0, &[]);
    assert!(told.contains("belongs to another node that runs"), "{told}");
    assert!(Client::new(node.address).store(key(1), &value(1)));
    let id = "0123456789012345678901234567890123456789";
    drop(node);
    let told = complaint(&folder.0, &["--id", id]);
    assert!(told.contains("is that of node") && told.contains(id), "{told}");
}

#[test]
fn values_age_while_their_node_is_away() {
    let (folder, config) = (Folder::new("expiry"), Folder::new("expiry-config"));
    let file = config.0.join("node.lua");
    fs::write(&file, "expire = 4").unwrap();
    let options = ["--config", file.to_str().unwrap()];
    let port = free_port();
    let node = Node::start(port, &folder.0, &options);
    let stored = Instant::now();
    assert!(Client::new(node.address).store(key(1), &value(1)));
    std::thread::sleep(SECOND + SECOND / 2);
    node.kill();
    let node = Node::start(port, &folder.0, &options);
    let values = Client::new(node.address).values(key(1));
    if stored.elapsed() < 4 * SECOND {
        assert_eq!(values, [value(1)]);
    }
    node.kill();
    std::thread::sleep((4 * SECOND).saturating_sub(stored.elapsed()));
    let node = Node::start(port, &folder.0, &options);
    // Not four more seconds from the start.
    match Client::new(node.address).ask(&Request::FindValue { key: key(1), limit: 1 }, SECOND) {
        Some(Response::Values { values, .. }) => assert_eq!(values, []),
        Some(Response::Nodes(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// What is damaged is refused or harmless; never does the node start with less than it had.
#[test]
fn corruption_is_never_reported_as_success() {
    const SEED: u64 = 6;
    const VALUES: u32 = 40;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let (original, port) = (Folder::new("whole"), free_port());
    let node = Node::start(port, &original.0, &[]);
    let client = Client::new(node.address);
    (0..VALUES).for_each(|number| assert!(client.store(key(number), &value(number))));
    std::thread::sleep(SECOND + SECOND / 2);
    node.kill();
    let bytes = fs::read(original.database()).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    let (mut refused, mut harmless) = (0, 0);
    for turn in 0..30 {
        let folder = Folder::new("damaged");
        for entry in fs::read_dir(&original.0).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.0.join(entry.file_name())).unwrap();
        }
        let mut damaged = bytes.clone();
        if turn % 3 == 0 {
            damaged.truncate(rng.random_range(0..bytes.len()));
        } else {
            for _ in 0..1 << (turn % 8) {
                damaged[used[rng.random_range(0..used.len())]] ^= 1 << rng.random_range(0..8);
            }
        }
        fs::write(folder.database(), &damaged).unwrap();
        let chunk = "print(node().stored.values, node().id)";
        let port = port.to_string();
        let run = || {
            let mut command = kademlua(&["--bootstrap", &port, &port, "--log", "off", "--state"]);
            command.arg(&folder.0).args(["-e", chunk]).output().unwrap()
        };
        let output = run();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => {
                harmless += 1;
                let shown = String::from_utf8(output.stdout).unwrap();
                assert!(shown.starts_with(&format!("{VALUES}\t")), "seed {SEED}, {turn}: {shown}");
            }
            Some(1) => {
                refused += 1;
                let expected = told.contains("is damaged") || told.contains("another version");
                assert!(expected, "seed {SEED}, {turn}: {told}");
                // It is not better the next time.
                assert_eq!(run().status.code(), Some(1), "seed {SEED}, {turn}");
            }
            other => panic!("seed {SEED}, {turn}: {other:?}: {told}"),
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 5, "{refused}");
}

/// Runs a script with mounts of its own, where the machine lets us.
fn with_mounts(script: &str) -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        other => {
            let reason = format!("mounts of one's own take root and unshare: {other:?}");
            assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "{reason}");
            println!("skipped: {reason}");
            None
        }
    }
}

#[test]
fn on_a_full_disk_the_node_serves_from_memory_and_says_so() {
    let folder = Folder::new("full");
    let (program, port) = (env!("CARGO_BIN_EXE_kademlua"), free_port());
    let told = with_mounts(&format!(
        "mount -t tmpfs -o size=3m tmpfs {folder}
         {program} {port} --bootstrap 127.0.0.1:{port} --log warn --state {folder}/state -e '
           for i = 1, 300 do add(sha1(\"key \" .. i), (\"v\"):rep(15000)) end
           sleep(1.5)
           print(node().stored.values, node().state.problem)
           print(#findvalue(sha1(\"key 300\")).values)' 2>&1",
        folder = folder.0.display(),
    ));
    let Some(told) = told else { return };
    assert!(told.contains("the state cannot be written; values are in memory alone"), "{told}");
    assert!(told.contains("No space left"), "{told}");
    assert!(told.lines().any(|line| line.starts_with("300\t")), "{told}");
    assert!(told.ends_with("\n1\n"), "{told}");
}

#[test]
fn in_a_read_only_folder_the_node_serves_from_memory_and_says_so() {
    let folder = Folder::new("read-only");
    let (program, port) = (env!("CARGO_BIN_EXE_kademlua"), free_port());
    let told = with_mounts(&format!(
        "mount -t tmpfs -o ro tmpfs {folder}
         {program} {port} --bootstrap 127.0.0.1:{port} --log warn --state {folder}/state -e '
           add(sha1(\"key\"), \"value\")
           print(#findvalue(sha1(\"key\")).values, node())' 2>&1",
        folder = folder.0.display(),
    ));
    let Some(told) = told else { return };
    assert!(told.contains("no state can be kept; values are in memory alone"), "{told}");
    assert!(told.contains("1\tid"), "{told}");
    assert!(told.contains("nothing is written to") && told.contains("Read-only"), "{told}");
}
