//! The promise: a flood from one address, ten times what a node can serve, leaves others at least 80 %
//! of what they get without it; so do sources that send few datagrams, however dear;
//! and whoever a flood is forged to come from can still be asked. Real sockets between two network
//! namespaces; what is compared comes from one run, and counts answers, not their time.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kademlua::bencode::Item;
use kademlua::id::Id;
use kademlua::message::{Request, Response, StoreMode, StoreRequest, TransactionId};
use kademlua::net::{Settings, spawn};
use kademlua::node::Peer;
use kademlua::wire::{Body, Dialect, Header, MAX_DATAGRAM, emit, parse};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use crate::xdp_helpers::{CLIENT, Lab, SERVER};

const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FLOODER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// Of the node with the default limits, and of one without any.
const PORT: u16 = 8001;
const UNLIMITED_PORT: u16 = 8002;

/// The others: what twenty busy nodes ask.
const OTHERS: u8 = 20;
const ASK_EVERY: Duration = Duration::from_millis(10);
const ASK_AT_ONCE: usize = 10;

/// Threads that flood: with fewer a fast node would be up to a tenth of it.
const FLOODERS: usize = 2;
const FLOOD_FOR: Duration = Duration::from_secs(4);

fn ping(from: Id, rpc_id: [u8; 8]) -> Vec<u8> {
    let mut out = Vec::new();
    emit(
        &mut out,
        &Header { dialect: Dialect::V1, from, transaction: TransactionId::new(rpc_id) },
        &Request::Ping,
    );
    out
}

/// Sends pings as fast as it can until it is over, and counts them. The system cuts each message that
/// it is handed into many datagrams.
fn flood(socket: &UdpSocket, over: &AtomicBool, sent: &AtomicU64) {
    const MESSAGES: usize = 16;
    const DATAGRAMS: usize = 64;
    let datagram = ping(Id::of_name("flood"), *b"flooding");
    let size = datagram.len() as u16;
    let message = datagram.repeat(DATAGRAMS);
    let buffers = [[IoSlice::new(&message)]; MESSAGES];
    let addresses = [None::<SockaddrStorage>; MESSAGES];
    let cut = ControlMessage::UdpGsoSegments(&size);
    let mut headers = MultiHeaders::preallocate(MESSAGES, Some(nix::cmsg_space!(u16)));
    while !over.load(Ordering::Relaxed) {
        let fd = socket.as_raw_fd();
        let done = sendmmsg(fd, &mut headers, &buffers, addresses, [cut], MsgFlags::empty());
        // The node may be gone, or the queue full.
        let messages = done.map_or(0, Iterator::count);
        sent.fetch_add((messages * DATAGRAMS) as u64, Ordering::Relaxed);
    }
}

/// What others asked of a node and how much of it was answered.
#[derive(Debug, Default)]
struct Served {
    asked: usize,
    answered: usize,
}

impl Served {
    fn share(&self) -> f64 {
        self.answered as f64 / self.asked as f64
    }
}

/// Nodes that ask at their own pace, whatever becomes of it, and answer what they are asked.
fn ask_for(sockets: &[UdpSocket], node: SocketAddr, span: Duration) -> Served {
    let ids: Vec<Id> = (0..sockets.len()).map(|number| Id::of_name(number.to_string())).collect();
    let mut served = Served::default();
    let mut buffer = [0; 2_048];
    let (mut next, began) = (Instant::now(), Instant::now());
    while began.elapsed() < span + Duration::from_millis(500) {
        if next <= Instant::now() && began.elapsed() < span {
            next += ASK_EVERY;
            for _ in 0..ASK_AT_ONCE {
                let asker = served.asked % sockets.len();
                let rpc_id = (served.asked as u64).to_be_bytes();
                sockets[asker].send_to(&ping(ids[asker], rpc_id), node).unwrap();
                served.asked += 1;
            }
        }
        for (socket, &id) in sockets.iter().zip(&ids) {
            while let Ok((len, source)) = socket.recv_from(&mut buffer) {
                let frame = parse(&buffer[..len]).expect("a message");
                match frame.body {
                    Body::Query(_) => {
                        let mut pong = Vec::new();
                        emit(&mut pong, &frame.reply_from(id), &Response::Pong);
                        socket.send_to(&pong, source).unwrap();
                    }
                    _ => served.answered += 1,
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    served
}

/// Datagrams that a host has sent so far.
fn sent_by(lab: &Lab, host: &str) -> u64 {
    let path = "/proc/thread-self/net/snmp";
    let text = lab.within(host, || std::fs::read_to_string(path).unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "OutDatagrams").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// What others get while a node is flooded; the flood's datagrams a second, and how many a second the
/// node's host answers to all.
fn flooded(lab: &Lab, others: &[UdpSocket], port: u16) -> (Served, [f64; 2]) {
    let node = SocketAddr::from((SERVER_IP, port));
    let flooders = [(); FLOODERS].map(|()| {
        let socket = lab.within(CLIENT, || UdpSocket::bind((FLOODER_IP, 0)).unwrap());
        socket.connect(node).unwrap();
        socket
    });
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for flooder in &flooders {
            scope.spawn(|| flood(flooder, &over, &sent));
        }
        std::thread::sleep(Duration::from_millis(200));
        let count = || [sent.load(Ordering::Relaxed), sent_by(lab, SERVER)];
        let (began, before) = (Instant::now(), count());
        let served = ask_for(others, node, FLOOD_FOR);
        let (secs, after) = (began.elapsed().as_secs_f64(), count());
        over.store(true, Ordering::Relaxed);
        (served, [0, 1].map(|of| (after[of] - before[of]) as f64 / secs))
    })
}

/// A lab whose client has these addresses too, and twenty others that ask from addresses of theirs.
fn lab(name: &str, more: &[Ipv4Addr]) -> Option<(Lab, Vec<UdpSocket>)> {
    let lab = Lab::new(name)?;
    let others = (0..OTHERS).map(|number| Ipv4Addr::new(10, 77, 0, 100 + number));
    let others: Vec<Ipv4Addr> = others.collect();
    lab.within(CLIENT, || {
        for ip in more.iter().chain(&others) {
            let ip = format!("{ip}/16");
            let arguments = ["address", "add", &ip, "dev", "veth-c"];
            assert!(Command::new("ip").args(arguments).status().unwrap().success());
        }
    });
    lab.within(SERVER, || {
        let arguments = ["route", "add", "10.77.0.0/16", "dev", "veth-s"];
        assert!(Command::new("ip").args(arguments).status().unwrap().success());
    });
    let bind = |ip: &Ipv4Addr| {
        let socket = UdpSocket::bind((*ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let sockets = lab.within(CLIENT, || others.iter().map(bind).collect());
    Some((lab, sockets))
}

/// A store of a value of about `bytes` bytes that takes long to read.
fn dear_store(bytes: usize) -> Vec<u8> {
    let value = format!("l{}e", "d1:b0:1:a0:e".repeat(bytes / 12));
    let value = Item::parse(value.as_bytes()).unwrap();
    let (key, mode) = (Id::of_name("key"), StoreMode::Add);
    let header = Header {
        dialect: Dialect::V1,
        from: Id::of_name("dear"),
        transaction: TransactionId::new(*b"dearness"),
    };
    let mut out = Vec::new();
    let store = StoreRequest { key, value, mode, copy: None, token: None };
    emit(&mut out, &header, &Request::Store(store));
    out
}

#[test]
fn few_dear_datagrams_leave_others_what_they_get_without_them() {
    /// Each in a /24 of its own.
    const SOURCES: [Ipv4Addr; 3] =
        [Ipv4Addr::new(10, 77, 3, 1), Ipv4Addr::new(10, 77, 4, 1), Ipv4Addr::new(10, 77, 5, 1)];
    const SPAN: Duration = Duration::from_secs(2);
    let Some((mut lab, others)) = lab("dear", &SOURCES) else { return };
    lab.serve(PORT, &format!("--bind {SERVER_IP}"));
    let node = SocketAddr::from((SERVER_IP, PORT));
    let mut client = lab.client(CLIENT, "10.77.0.2:0", node);
    lab.wait_for("node", || client.pings());
    let calm = ask_for(&others, node, SPAN);
    // By their number far below what one source may send, by what they cost far above it.
    for (what, datagram, a_millisecond) in [
        ("long", dear_store(60_000), 4),
        ("dear", dear_store(15_900), 4),
        ("padded", vec![1; MAX_DATAGRAM], 10),
    ] {
        let sockets = SOURCES.map(|ip| {
            let socket = lab.within(CLIENT, || UdpSocket::bind((ip, 0)).unwrap());
            socket.connect(node).unwrap();
            socket
        });
        let over = AtomicBool::new(false);
        let served = std::thread::scope(|scope| {
            for socket in &sockets {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        (0..a_millisecond).for_each(|_| _ = socket.send(&datagram));
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            let served = ask_for(&others, node, SPAN);
            over.store(true, Ordering::Relaxed);
            served
        });
        println!(
            "{what}: others get {:.1} %, {:.1} % without",
            100.0 * served.share(),
            100.0 * calm.share()
        );
        assert!(served.share() >= 0.8 * calm.share(), "{what}: {served:?}, {calm:?} without");
    }
}

/// Answers whatever is asked of these sockets, until it is over.
fn answer_all(sockets: &[UdpSocket], over: &AtomicBool) {
    let mut buffer = [0; 2_048];
    while !over.load(Ordering::Relaxed) {
        for (number, socket) in sockets.iter().enumerate() {
            while let Ok((len, source)) = socket.recv_from(&mut buffer) {
                let asked = parse(&buffer[..len]).expect("a message");
                let from = Id::of_name(number.to_string());
                let mut pong = Vec::new();
                emit(&mut pong, &asked.reply_from(from), &Response::Pong);
                socket.send_to(&pong, source).unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn whoever_a_flood_is_forged_to_come_from_can_be_asked_and_keeps_its_place() {
    const PEERS: u8 = 8;
    /// What came before it was noticed, and what is lost in the crowd, is asked once more.
    const ATTEMPTS: usize = 2;
    let ips: Vec<Ipv4Addr> =
        (0..PEERS).map(|number| Ipv4Addr::new(10, 77, 20 + number, 1)).collect();
    let Some((lab, _)) = lab("forged", &ips) else { return };
    let bind = |ip: &Ipv4Addr| {
        let socket = UdpSocket::bind((*ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let [peers, forgers] =
        [(); 2].map(|()| lab.within(CLIENT, || ips.iter().map(bind).collect::<Vec<_>>()));
    let node = lab.within(SERVER, || {
        let bind = SocketAddr::from((SERVER_IP, PORT));
        spawn(Settings { bind, bootstrap: Vec::new(), ..Settings::default() }).unwrap()
    });
    let at: Vec<SocketAddr> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = |peer: SocketAddr| {
        (0..ATTEMPTS).any(|_| runtime.block_on(node.ping(Peer::from(peer))).is_ok())
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| answer_all(&peers, &over));
        assert!(at.iter().all(|&peer| answers(peer)));
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for forger in &forgers {
                    (0..7_000).for_each(|_| _ = forger.send_to(b"x", (SERVER_IP, PORT)));
                }
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        let answered = at.iter().filter(|&&peer| answers(peer)).count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(answered, at.len());
    });
    let counters = runtime.block_on(node.snapshot()).unwrap().counters;
    assert!(counters.limited + counters.dropped > 10_000, "a flood was it: {counters:?}");
    let snapshot = runtime.block_on(node.snapshot()).unwrap();
    assert_eq!(snapshot.v1().contacts, at.len());
    node.stop_and_wait();
}

#[test]
fn a_flood_from_one_address_leaves_others_what_they_get_without_it() {
    let Some((mut lab, others)) = lab("flood", &[FLOODER_IP]) else { return };
    let without_limits = lab.bpffs().with_extension("lua");
    std::fs::write(&without_limits, "source_rate = 0 total_rate = 0").unwrap();
    lab.serve(PORT, &format!("--bind {SERVER_IP}"));
    lab.serve(UNLIMITED_PORT, &format!("--bind {SERVER_IP} --config {}", without_limits.display()));
    for port in [PORT, UNLIMITED_PORT] {
        let mut client = lab.client(CLIENT, "10.77.0.2:0", (SERVER_IP, port).into());
        lab.wait_for("node", || client.pings());
    }
    std::fs::remove_file(&without_limits).unwrap();

    let calm = ask_for(&others, (SERVER_IP, PORT).into(), FLOOD_FOR);
    let (unlimited, [_, capacity]) = flooded(&lab, &others, UNLIMITED_PORT);
    let (limited, [flood, _]) = flooded(&lab, &others, PORT);
    println!(
        "others get {:.1} % without the flood and {:.1} % with it, {:.1} % of a node without limits; \
         {flood:.0} datagrams a second, {:.1} times the {capacity:.0} that the node can answer",
        100.0 * calm.share(),
        100.0 * limited.share(),
        100.0 * unlimited.share(),
        flood / capacity,
    );
    assert!(flood >= 10.0 * capacity, "this machine cannot send so much");
    assert!(limited.share() >= 0.8 * calm.share(), "{limited:?}, {calm:?} without the flood");
}
