//! The promise: a flood from one address, ten times what a node can serve, leaves others at least 80 %
//! of what they get without it. Real sockets between two network namespaces; what is compared comes
//! from one run, and counts answers, not their time.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Request, RpcId};
use kademlua::wire::v1::{self, Body, Frame, Header};
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
    v1::put_request(&mut out, &Header { from, rpc_id: RpcId(rpc_id) }, &Request::Ping);
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
                let frame = Frame::parse(&buffer[..len]).expect("a message");
                match frame.body {
                    Body::Request(_) => {
                        let mut pong = Vec::new();
                        let header = Header { from: id, rpc_id: frame.header.rpc_id };
                        v1::put_pong(&mut pong, &header);
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

#[test]
fn a_flood_from_one_address_leaves_others_what_they_get_without_it() {
    let Some(mut lab) = Lab::new("flood") else { return };
    lab.within(CLIENT, || {
        let add = |ip: Ipv4Addr| {
            let ip = format!("{ip}/24");
            let arguments = ["address", "add", &ip, "dev", "veth-c"];
            assert!(Command::new("ip").args(arguments).status().unwrap().success());
        };
        add(FLOODER_IP);
        (0..OTHERS).for_each(|number| add(Ipv4Addr::new(10, 77, 0, 100 + number)));
    });
    let others: Vec<UdpSocket> = lab.within(CLIENT, || {
        let bind = |number| UdpSocket::bind((Ipv4Addr::new(10, 77, 0, 100 + number), 0)).unwrap();
        (0..OTHERS).map(bind).collect()
    });
    others.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
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
