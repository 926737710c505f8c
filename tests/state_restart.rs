//! A node with a state folder that is killed has, when it starts again, every value that it
//! acknowledged more than a second before, and finds its way back into the network through its old
//! contacts.

#![cfg(all(unix, feature = "shell"))]

mod net_helpers;
mod network_helpers;
mod state_helpers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Request, Response};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use net_helpers::Stranger;
use network_helpers::{Guard, PROGRAM, await_that, free_ports, run, serve, text};
use state_helpers::{Folder, ask, has, store};

const KILLS: usize = 50;

/// The promise: this long after a node has acknowledged a value, the value is on disk.
const PROMISED: Duration = Duration::from_secs(1);

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A node without a shell that keeps its state, and is told of no other node than this.
fn command(port: u16, state: &Path, bootstrap: u16) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", &port.to_string(), "--bootstrap", &bootstrap.to_string()]);
    command.arg("--state").arg(state).args(["--log", "warn"]).stdin(Stdio::null());
    command
}

fn start(port: u16, state: &Path, bootstrap: u16) -> Guard {
    use std::os::unix::process::CommandExt as _;
    let child = command(port, state, bootstrap).process_group(0).spawn().unwrap();
    Guard(child)
}

/// A stranger that does not wait long, because the node may be dead.
fn hasty() -> Stranger {
    let stranger = Stranger::new();
    stranger.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stranger
}

fn await_answer(node: &mut Guard, port: u16) {
    let mut stranger = hasty();
    await_that("the node answers", || {
        assert_eq!(node.0.try_wait().unwrap(), None, "the node has ended");
        stranger.ping(address(port))
    });
}

fn contacts(port: u16) -> usize {
    let request = Request::FindNode { target: Id::of_name("anything") };
    match ask(&mut hasty(), address(port), &request) {
        Some(Response::Nodes(contacts)) => contacts.len(),
        _ => 0,
    }
}

/// A node that keeps no values, so that none comes back from it.
fn serve_without_values(port: u16, folder: &Folder) -> Guard {
    use std::os::unix::process::CommandExt as _;
    let config = folder.0.join("companion.lua");
    std::fs::write(&config, "max_value_bytes = 1").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", &port.to_string(), "--bootstrap", &port.to_string()]);
    command.arg("--config").arg(config).args(["--log", "off"]).stdin(Stdio::null());
    let mut node = Guard(command.process_group(0).spawn().unwrap());
    await_answer(&mut node, port);
    node
}

#[test]
fn values_acknowledged_a_second_ago_survive_fifty_kills_and_the_node_rejoins_by_itself() {
    let seed = match std::env::var("KADEMLUA_SEED") {
        Ok(seed) => seed.parse().expect("KADEMLUA_SEED is a number"),
        Err(_) => getrandom::u64().unwrap(),
    };
    eprintln!("replay: KADEMLUA_SEED={seed} cargo test --test state_restart survive_fifty_kills");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let port = free_ports(2);
    let folder = Folder::new("kills");
    let state = folder.0.join("state");
    let companion = serve_without_values(port + 1, &folder);
    // Values that must be there, and those of the last life by when they were acknowledged.
    let mut kept = Vec::new();
    let mut last: BTreeMap<usize, Instant> = BTreeMap::new();
    let mut stored = 0;
    let (mut early, mut proven) = (0, 0);
    for life in 0..=KILLS {
        // After the first life it is told of nobody but itself.
        let mut node = start(port, &state, if life == 0 { port + 1 } else { port });
        if life > 0 && life < KILLS && rng.random_bool(0.2) {
            early += 1;
            sleep(Duration::from_millis(rng.random_range(0..100)));
            continue;
        }
        await_answer(&mut node, port);
        let mut stranger = Stranger::new();
        // A value that came later than promised may be lost, but a value that is back must stay.
        for (number, _) in std::mem::take(&mut last) {
            if has(&mut stranger, address(port), number) {
                kept.push(number);
            }
        }
        let lost: Vec<_> =
            kept.iter().filter(|&&n| !has(&mut stranger, address(port), n)).collect();
        assert!(lost.is_empty(), "seed {seed}, life {life}: lost {lost:?} of {}", kept.len());
        await_that("the node has joined", || contacts(port) > 0);
        let span = if life == 0 { 1_500 } else { rng.random_range(0..1_500) };
        let end = Instant::now() + Duration::from_millis(span);
        while Instant::now() < end {
            store(&mut stranger, address(port), stored);
            last.insert(stored, Instant::now());
            stored += 1;
            sleep(Duration::from_millis(rng.random_range(0..20)));
        }
        let killed = Instant::now();
        drop(node);
        let due: Vec<_> = last.iter().filter(|&(_, at)| killed - *at > PROMISED).collect();
        proven += due.len();
        kept.extend(due.into_iter().map(|(number, _)| *number));
        last.retain(|_, at| killed - *at <= PROMISED);
    }
    eprintln!("{stored} values, {} kept, {proven} when killed; {early} early deaths", kept.len());
    assert!(proven > 100 && kept.len() > proven, "too few values were at stake");
    drop(companion);
}

#[test]
fn a_flood_of_values_is_kept_a_second_after_the_last() {
    let port = free_ports(1);
    let folder = Folder::new("flood");
    let mut node = start(port, &folder.0, port);
    await_answer(&mut node, port);
    // A node keeps 4096 of one sender.
    const EACH: usize = 3_000;
    let stored = 3 * EACH;
    for sender in 0..3 {
        let mut stranger = Stranger::new();
        (0..EACH).for_each(|n| store(&mut stranger, address(port), sender * EACH + n));
    }
    sleep(PROMISED);
    drop(node);
    let mut node = start(port, &folder.0, port);
    await_answer(&mut node, port);
    let mut stranger = Stranger::new();
    let lost = (0..stored).filter(|&n| !has(&mut stranger, address(port), n)).count();
    assert_eq!(lost, 0, "of {stored}");
}

#[test]
fn a_second_node_is_refused_and_the_first_goes_on() {
    let port = free_ports(2);
    let folder = Folder::new("second");
    let mut first = start(port, &folder.0, port);
    await_answer(&mut first, port);
    let second = run(command(port + 1, &folder.0, port + 1));
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    let expected = format!("the state in {} belongs to another node", folder.0.display());
    assert!(said.contains(&expected), "{said}");
    store(&mut Stranger::new(), address(port), 1);
    sleep(PROMISED);
    drop(first);
    let mut again = start(port + 1, &folder.0, port + 1);
    await_answer(&mut again, port + 1);
    assert!(has(&mut Stranger::new(), address(port + 1), 1));
}

/// Real nodes, and one that is killed among them: others find through it the values that it kept.
#[test]
fn a_restarted_node_serves_its_network_again() {
    let port = free_ports(4);
    let folder = Folder::new("network");
    let others = [serve(port), serve(port + 1)];
    let mut node = start(port + 2, &folder.0, port);
    await_answer(&mut node, port + 2);
    store(&mut Stranger::new(), address(port + 2), 7);
    await_that("the node has joined", || contacts(port + 2) > 0);
    sleep(PROMISED);
    drop(node);
    let mut node = start(port + 2, &folder.0, port + 2);
    await_answer(&mut node, port + 2);
    await_that("the node has joined again", || contacts(port + 2) > 0);
    drop(others);
    let mut asker = Command::new(PROGRAM);
    let (own, bootstrap) = ((port + 3).to_string(), (port + 2).to_string());
    let chunk = "print(findvalue(sha1('key 7')).values[1].value)";
    asker.args([&own, "--bootstrap", &bootstrap, "-e", chunk]).stdin(Stdio::null());
    let found = run(asker);
    assert!(text(&found.stdout).contains("value 7"), "{}", text(&found.stderr));
}
