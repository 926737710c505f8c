//! The bytes that a node writes to the disk follow the bytes that it is told to keep: a store of n
//! bytes costs at most n and 4 kB by the system's count, whatever lies beside it.

#![cfg(all(target_os = "linux", feature = "shell"))]

mod net_helpers;
mod network_helpers;
mod state_helpers;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use kademlua::bencode::Value;
use kademlua::id::Id;
use kademlua::message::{Request, Response, StoreMode, StoreRequest, TransactionId};
use kademlua::wire::{Body, Dialect, Header, emit, parse};

use net_helpers::Stranger;
use network_helpers::{Guard, PROGRAM, await_that, free_ports};
use state_helpers::Folder;

const MAX: u64 = 4_096;

struct Node {
    guard: Guard,
    /// Each has an address, and by that a share of the store.
    strangers: BTreeMap<u64, Stranger>,
    to: std::net::SocketAddr,
    sent: u64,
}

impl Node {
    fn start(folder: &Folder) -> Node {
        let port = free_ports(1);
        let own = port.to_string();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", &own, "--bootstrap", &own, "--log", "warn", "--state"]);
        command.arg(&folder.0).stdin(Stdio::null()).process_group(0);
        let guard = Guard(command.spawn().unwrap());
        let to = ([127, 0, 0, 1], port).into();
        let mut node = Node { guard, strangers: BTreeMap::new(), to, sent: 0 };
        let mut hasty = Stranger::new();
        hasty.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        await_that("the node answers", || hasty.ping(to));
        node.store(0, 0, 1);
        node
    }

    /// Somebody stores a value of `len` bytes under a key.
    fn store(&mut self, who: u64, key: u64, len: usize) {
        self.sent += 1;
        let mut bytes = self.sent.to_be_bytes().to_vec();
        bytes.resize(len, 7);
        let value = Value::bytes(bytes);
        let store = StoreRequest {
            key: Id::of_name(key.to_string()),
            value: value.item(),
            mode: StoreMode::Add,
            copy: None,
            token: None,
        };
        let header = Header {
            dialect: Dialect::V1,
            from: Id::of_name(format!("who {who}")),
            transaction: TransactionId::new(self.sent.to_be_bytes()),
            asker: None,
        };
        let mut datagram = Vec::new();
        let request = Request::Store(store);
        emit(&mut datagram, &header, &request);
        let socket = &self.strangers.entry(who).or_insert_with(Stranger::new).socket;
        socket.send_to(&datagram, self.to).unwrap();
        let mut buffer = [0; 65_535];
        loop {
            let (len, _) = socket.recv_from(&mut buffer).unwrap();
            let frame = parse(&buffer[..len]).unwrap();
            let Body::Answer(answer) = frame.body else { continue };
            if frame.transaction == header.transaction {
                assert_eq!(answer.read(request.kind()).unwrap(), Response::Stored);
                return;
            }
        }
    }

    /// Bytes that the process gave to the system, and pages that it made the system write.
    fn written(&self) -> [u64; 2] {
        let text = fs::read_to_string(format!("/proc/{}/io", self.guard.0.id())).unwrap();
        ["wchar: ", "write_bytes: "].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().parse().unwrap()
        })
    }

    /// Makes one store after the other, and returns what each costs beside its own bytes.
    fn costs(&mut self, pause: u64, stores: impl Iterator<Item = (u64, u64, usize)>) -> [u64; 2] {
        sleep(Duration::from_secs(1));
        let before = self.written();
        let (mut count, mut own) = (0, 0);
        for (who, key, len) in stores {
            self.store(who, key, len);
            sleep(Duration::from_millis(pause));
            count += 1;
            own += len as u64;
        }
        sleep(Duration::from_secs(1));
        let after = self.written();
        [0, 1].map(|kind| (after[kind] - before[kind]).saturating_sub(own) / count)
    }
}

#[test]
fn a_store_costs_what_it_brings_and_4_kb_at_most() {
    let folder = Folder::new("bytes");
    let mut node = Node::start(&folder);
    let again = node.costs(250, (0..40).map(|_| (1, 1, 82)));
    let tiny = node.costs(0, (0..3_000).map(|number| (number % 7, number, 9)));
    // As an attacker might to make each store dear: neighbours under the same key.
    for who in 0..100 {
        node.store(who, 9, 15_700);
    }
    let beside = node.costs(250, (0..40).map(|_| (1_000, 9, 82)));
    let large = node.costs(2, (0..600).map(|number| (number % 100, 9, 15_700)));
    for (name, costs) in [("again", again), ("tiny", tiny), ("beside", beside), ("large", large)] {
        eprintln!("{name}: {} bytes beside its own, {} in pages", costs[0], costs[1]);
        assert!(costs.iter().all(|&cost| cost <= MAX), "{name}: {costs:?}");
    }
}
