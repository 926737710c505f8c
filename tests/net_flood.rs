//! The promise: a flood from one address, ten times what a node can serve, leaves others at least 80 %
//! of what they get without it; so do sources that send few datagrams, however dear; and a peer in
//! whose name a flood is forged can still be asked. Real sockets between two network namespaces; the
//! numbers compared come from one run, and count answers, not their time.
#![cfg(target_os = "linux")]

mod flood_helpers;
mod xdp_helpers;

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kademlua::bencode::Item;
use kademlua::id::Id;
use kademlua::message::{Request, StoreMode, StoreRequest, TransactionId};
use kademlua::net::{Settings, spawn};
use kademlua::node::Peer;
use kademlua::wire::{Dialect, Header, MAX_DATAGRAM, emit};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use crate::flood_helpers::{SERVER_IP, Served, answer_pings, ask_for, beside, lab, ping, sockets};
use crate::xdp_helpers::{CLIENT, Lab, SERVER};

const FLOODER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// Ports of the node with the default limits, and of one without any.
const PORT: u16 = 8001;
const UNLIMITED_PORT: u16 = 8002;

/// Threads that flood: with fewer, a fast node could keep up with a tenth of their rate.
const FLOODERS: usize = 2;
const FLOOD_FOR: Duration = Duration::from_secs(4);

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

/// Datagrams that a host has sent so far.
fn sent_by(lab: &Lab, host: &str) -> u64 {
    let path = "/proc/thread-self/net/snmp";
    let text = lab.within(host, || std::fs::read_to_string(path).unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "OutDatagrams").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// The answers that others get while a node is flooded; the flood's datagrams a second, and how many
/// datagrams a second the node's host sends in all.
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

/// A store whose value has about `bytes` bytes and takes long to read.
fn dear_store(bytes: usize) -> Vec<u8> {
    let value = format!("l{}e", "d1:b0:1:a0:e".repeat(bytes / 12));
    let value = Item::parse(value.as_bytes()).unwrap();
    let (key, mode) = (Id::of_name("key"), StoreMode::Add);
    let header = Header {
        dialect: Dialect::V1,
        from: Id::of_name("dear"),
        transaction: TransactionId::new(*b"dearness"),
        asker: None,
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
    // Their number is far below the limit of a source, their cost far above it.
    for (what, datagram, a_millisecond) in [
        ("long", dear_store(60_000), 4),
        ("dear", dear_store(15_900), 4),
        ("padded", vec![1; MAX_DATAGRAM], 10),
    ] {
        let sockets = sockets(&lab, &SOURCES);
        let served = beside(&others, node, SPAN, |over| {
            while !over.load(Ordering::Relaxed) {
                for socket in &sockets {
                    (0..a_millisecond).for_each(|_| _ = socket.send_to(&datagram, node));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        println!(
            "{what}: others get {:.1} %, {:.1} % without",
            100.0 * served.share(),
            100.0 * calm.share()
        );
        assert!(served.share() >= 0.8 * calm.share(), "{what}: {served:?}, {calm:?} without");
    }
}

#[test]
fn whoever_a_flood_is_forged_to_come_from_can_be_asked_and_keeps_its_place() {
    const PEERS: u8 = 8;
    const FORGE_FOR: Duration = Duration::from_secs(1);
    /// Questions that came before the flood was noticed, or were lost in the crowd, are asked once
    /// more.
    const ATTEMPTS: usize = 2;
    let ips: Vec<Ipv4Addr> =
        (0..PEERS).map(|number| Ipv4Addr::new(10, 77, 20 + number, 1)).collect();
    let Some((lab, others)) = lab("forged", &ips) else { return };
    let [peers, forgers] = [(); 2].map(|()| sockets(&lab, &ips));
    let ids: Vec<Id> = (0..ips.len()).map(|number| Id::of_name(format!("peer {number}"))).collect();
    let node = lab.within(SERVER, || {
        let bind = SocketAddr::from((SERVER_IP, PORT));
        spawn(Settings { bind, bootstrap: Vec::new(), ..Settings::default() }).unwrap()
    });
    let at: Vec<SocketAddr> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = |peer: SocketAddr| {
        (0..ATTEMPTS).any(|_| runtime.block_on(node.ping(Peer::from(peer))).is_ok())
    };
    let calm = ask_for(&others, (SERVER_IP, PORT).into(), FORGE_FOR);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                answer_pings(&peers, &ids);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(at.iter().all(|&peer| answers(peer)));
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for forger in &forgers {
                    (0..7_000).for_each(|_| _ = forger.send_to(b"x", (SERVER_IP, PORT)));
                }
            }
        });
        let served = ask_for(&others, (SERVER_IP, PORT).into(), FORGE_FOR);
        assert!(served.share() >= 0.8 * calm.share(), "{served:?}, {calm:?} without");
        let answered = at.iter().filter(|&&peer| answers(peer)).count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(answered, at.len());
    });
    let counters = runtime.block_on(node.snapshot()).unwrap().counters;
    assert!(counters.limited + counters.dropped > 10_000, "a flood was it: {counters:?}");
    let contacts = runtime.block_on(node.routing()).unwrap().into_contacts();
    assert!(at.iter().all(|peer| contacts.iter().any(|known| known.contact.address == *peer)));
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
