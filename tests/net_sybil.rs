//! Real nodes at addresses of many networks, and attackers at addresses of few networks, with chosen
//! ids: how many of the values that they surround are found. The simulated counterpart is
//! `lua/examples/sybil.lua`.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Contact, Request, Response, Rest, TransactionId};
use kademlua::wire::{Body, Dialect, Header, emit, parse};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::xdp_helpers::{Lab, SERVER, text};

const PORT: u16 = 8001;
/// Honest nodes: four in each of ten networks.
const NODES: usize = 40;
/// Attackers around a key.
const CHOSEN: [usize; 4] = [5, 10, 20, 40];
/// Keys for each number of attackers that are searched for on one path; as many others are searched
/// for on eight.
const KEYS: usize = 2;
const PATHS: [usize; 2] = [1, 8];
/// Leading bits that the id of an attacker shares with the key.
const BITS: u32 = 40;

/// How an address is made of the number of its network and its own number there.
type Address = fn(usize, usize) -> String;

/// How many values are found next to the numbers of attackers in [`CHOSEN`], on one path and on eight.
type Table = [[usize; 2]; 4];

/// All of them.
const ALL: Table = [[KEYS; 2]; 4];

const HONEST: Address = |network, host| format!("203.{network}.113.{host}");

#[test]
fn chosen_ids_in_one_24_hide_no_value() {
    let Some(mut lab) = Lab::new("one24") else { return };
    // More than it has addresses, so that some have two ports.
    let attacker = |number| format!("192.0.2.{}:{}", 1 + number % 250, 8_001 + number / 250);
    assert_eq!(attack(&mut lab, "one /24", HONEST, attacker), ALL);
}

#[test]
fn chosen_ids_in_64s_of_one_56_hide_no_value() {
    let Some(mut lab) = Lab::new("one56") else { return };
    let honest: Address = |network, host| format!("2001:db8:{network}::{host}");
    let attacker =
        |number| format!("[2001:db8:ff:1{:02x}::{}]:8001", number % 256, 1 + number / 256);
    assert_eq!(attack(&mut lab, "/64s of one /56", honest, attacker), ALL);
}

/// Seven networks are too many for the limits: `SECURITY.md` promises nothing. But with few chosen ids
/// most values are found all the same.
#[test]
fn a_few_chosen_ids_in_seven_24_hide_no_more_than_half() {
    let Some(mut lab) = Lab::new("seven24") else { return };
    let attacker = |number| format!("192.0.{}.{}:8001", number % 7, 1 + number / 7);
    let found = attack(&mut lab, "seven /24", HONEST, attacker);
    let with_five: usize = found[0].iter().sum();
    assert!(with_five >= KEYS, "{found:?}");
}

/// The keys next to which there are as many attackers as [`CHOSEN`] says there, on one path or on eight.
fn keys(chosen: usize, paths: usize) -> std::ops::RangeInclusive<usize> {
    let first = 1 + (chosen * PATHS.len() + paths) * KEYS;
    first..=first + KEYS - 1
}

fn attack(lab: &mut Lab, name: &str, honest: Address, attacker: fn(usize) -> String) -> Table {
    // Whole ranges are addresses of this host, and of no other.
    let route = |range| {
        let namespace = lab.namespace(SERVER);
        xdp_helpers::sh(&format!("ip -n {namespace} route add local {range} dev lo"));
    };
    ["192.0.0.0/8", "203.0.0.0/8", "2001:db8::/32"].into_iter().for_each(route);
    lab.within(SERVER, || fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap());
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), PORT);
    let nodes: Vec<_> = (0..NODES).map(|n| honest(n % 10, 1 + n / 10)).collect();
    for node in &nodes {
        lab.serve(PORT, &format!("--bind {node} --bootstrap {}", at(&nodes[0])));
    }
    let first = at(&nodes[0]);
    lab.wait_for("network", || {
        let probe = run(lab, &honest(11, 1), first, 1, "findnode(node().id) print(#contacts())");
        probe.is_some_and(|contacts| contacts >= NODES * 3 / 4)
    });
    let everybody: Vec<_> = nodes.iter().map(|node| at(node)).collect();
    let attackers = Attackers::start(lab, attacker, everybody);
    // Until they are known everywhere that they may be.
    sleep(Duration::from_secs(5));
    let last = keys(CHOSEN.len() - 1, PATHS.len() - 1).last().expect("some keys");
    let store = format!("for i = 1, {last} do add(sha1('key ' .. i), i) end print(1)");
    run(lab, &honest(12, 1), first, 1, &store).expect("a store");
    let mut found = Table::default();
    for (chosen, row) in found.iter_mut().enumerate() {
        for (number, paths) in PATHS.into_iter().enumerate() {
            let keys = keys(chosen, number);
            let search = format!(
                "local found = 0
                for i = {}, {} do
                  for _, hit in ipairs(findvalue(sha1('key ' .. i)).values) do
                    if hit.value == i then found = found + 1 break end
                  end
                end
                print(found)",
                keys.start(),
                keys.end()
            );
            let from = honest(12 + 2 * chosen + number, 2);
            row[number] = run(lab, &from, first, paths, &search).expect("a search");
        }
    }
    attackers.end();
    println!("attackers in {name}: of {KEYS} values found on {PATHS:?} paths");
    for (chosen, row) in CHOSEN.iter().zip(&found) {
        println!("{chosen:>4} chosen ids  {row:?}");
    }
    found
}

/// The last line that a program prints, run at a node of its own that has joined.
fn run(lab: &Lab, bind: &str, via: SocketAddr, paths: usize, chunk: &str) -> Option<usize> {
    let name = format!("{}-{paths}.lua", lab.namespace(SERVER));
    let config = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&config, format!("paths = {paths}")).unwrap();
    let arguments = format!("{PORT} --bind {bind} --bootstrap {via} --config {}", config.display());
    let mut command = lab.kademlua(SERVER, &arguments);
    // Joined nodes have met more than their bootstrap node.
    let chunk =
        format!("for _ = 1, 50 do if #contacts() > 10 then break end sleep(0.1) end {chunk}");
    let output = command.args(["-e", &chunk]).stdin(Stdio::null()).output().unwrap();
    println!("{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().last()?.parse().ok()
}

/// Liars that work together: they take what is stored, tell nobody, and name one another.
struct Attackers {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Attackers {
    fn start(lab: &Lab, address: fn(usize) -> String, everybody: Vec<SocketAddr>) -> Attackers {
        let mut rng = ChaCha8Rng::seed_from_u64(13);
        let liars: Vec<(Contact, UdpSocket)> = lab.within(SERVER, || {
            let mut number = 0;
            let mut liar = |key: Id| {
                let address = address(number).parse().unwrap();
                number += 1;
                let socket = UdpSocket::bind(address).unwrap();
                socket.set_nonblocking(true).unwrap();
                (Contact { id: key.random_at(BITS, &mut rng), address }, socket)
            };
            let mut liars = Vec::new();
            for (row, count) in CHOSEN.into_iter().enumerate() {
                for key in (0..PATHS.len()).flat_map(|number| keys(row, number)) {
                    let key = Id::of_name(format!("key {key}"));
                    liars.extend((0..count).map(|_| liar(key)));
                }
            }
            liars
        });
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::spawn(move || {
            let mut joins = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if joins <= Instant::now() {
                    liars.iter().for_each(|liar| join(liar, &everybody));
                    joins = Instant::now() + Duration::from_secs(2);
                }
                if !liars.iter().any(|liar| answer(liar, &liars)) {
                    sleep(Duration::from_millis(1));
                }
            }
        });
        Attackers { over, thread }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Asks everybody for its own id, as a joining node does: they ask back, and keep those that they
/// have room for.
fn join((own, socket): &(Contact, UdpSocket), everybody: &[SocketAddr]) {
    let mut out = Vec::new();
    let header = Header {
        dialect: Dialect::V1,
        from: own.id,
        transaction: TransactionId::new(*b"sybil..."),
        asker: None,
    };
    emit(&mut out, &header, &Request::FindNode { target: own.id });
    for node in everybody {
        let _ = socket.send_to(&out, node);
    }
}

/// Answers one datagram, if one waits.
fn answer((own, socket): &(Contact, UdpSocket), liars: &[(Contact, UdpSocket)]) -> bool {
    let mut bytes = [0; 65_536];
    let Ok((len, source)) = socket.recv_from(&mut bytes) else { return false };
    let Ok(asked) = parse(&bytes[..len]) else { return true };
    let Body::Query(query) = asked.body else { return true };
    let header = asked.reply_from(own.id);
    let mut out = Vec::new();
    match query.read() {
        Ok(Request::Ping) => emit(&mut out, &header, &Response::Pong),
        Ok(Request::Store(_)) => emit(&mut out, &header, &Response::Stored),
        Ok(Request::FindNode { target }) => {
            emit(&mut out, &header, &Response::Nodes(nearest(liars, &target)));
        }
        Ok(Request::FindValue(search)) => {
            let (values, closest) = (Vec::new(), nearest(liars, &search.key));
            let rest = Rest::default();
            emit(&mut out, &header, &Response::Values { values, closest, rest });
        }
        _ => return true,
    }
    let _ = socket.send_to(&out, source);
    true
}

fn nearest(liars: &[(Contact, UdpSocket)], target: &Id) -> Vec<Contact> {
    let mut liars: Vec<_> = liars.iter().map(|(liar, _)| *liar).collect();
    liars.sort_by_key(|liar| target.distance(&liar.id));
    liars.truncate(20);
    liars
}
