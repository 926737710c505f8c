//! Floods between two hosts: the questions of others meanwhile, and how many of them are answered.
#![allow(dead_code, reason = "no test needs all of it")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Request, Response, TransactionId};
use kademlua::wire::{Body, Dialect, Header, MAX_DATAGRAM, emit, parse};

use crate::xdp_helpers::{CLIENT, Lab, SERVER};

pub(crate) const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The others: the questions of twenty busy nodes.
pub(crate) const OTHERS: u8 = 20;
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(10);
pub(crate) const ASK_AT_ONCE: usize = 10;

pub(crate) fn ping(from: Id, rpc_id: [u8; 8]) -> Vec<u8> {
    let mut out = Vec::new();
    emit(
        &mut out,
        &Header {
            dialect: Dialect::V1,
            from,
            transaction: TransactionId::new(rpc_id),
            asker: None,
        },
        &Request::Ping,
    );
    out
}

/// How much others asked of a node, and how much of it was answered.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) asked: usize,
    pub(crate) answered: usize,
}

impl Served {
    pub(crate) fn share(&self) -> f64 {
        self.answered as f64 / self.asked as f64
    }
}

/// Nodes that ask at their own pace, whatever becomes of it, and answer what they are asked.
pub(crate) fn ask_for(sockets: &[UdpSocket], node: SocketAddr, span: Duration) -> Served {
    // A late answer counts nowhere.
    static SPANS: AtomicU32 = AtomicU32::new(0);
    let span_id = SPANS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let ids: Vec<Id> = (0..sockets.len()).map(|number| Id::of_name(number.to_string())).collect();
    let mut served = Served::default();
    let mut buffer = [0; MAX_DATAGRAM];
    let (mut next, began) = (Instant::now(), Instant::now());
    while began.elapsed() < span + Duration::from_millis(500) {
        if next <= Instant::now() && began.elapsed() < span {
            next += ASK_EVERY;
            for _ in 0..ASK_AT_ONCE {
                let asker = served.asked % sockets.len();
                let mut rpc_id = (served.asked as u64).to_be_bytes();
                rpc_id[..4].copy_from_slice(&span_id);
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
                    _ if !frame.transaction.as_bytes().starts_with(&span_id) => {}
                    _ => served.answered += 1,
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    served
}

/// A lab whose client has these addresses too, and twenty others that ask from addresses of theirs.
pub(crate) fn lab(name: &str, more: &[Ipv4Addr]) -> Option<(Lab, Vec<UdpSocket>)> {
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
    let sockets = sockets(&lab, &others);
    Some((lab, sockets))
}

/// A socket of the client's host at each of these addresses.
pub(crate) fn sockets(lab: &Lab, ips: &[Ipv4Addr]) -> Vec<UdpSocket> {
    let bind = |ip: &Ipv4Addr| {
        let socket = UdpSocket::bind((*ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    lab.within(CLIENT, || ips.iter().map(bind).collect())
}

/// Answers each ping that came to these sockets.
pub(crate) fn answer_pings(sockets: &[UdpSocket], ids: &[Id]) {
    let mut buffer = [0; MAX_DATAGRAM];
    for (socket, &id) in sockets.iter().zip(ids) {
        while let Ok((len, source)) = socket.recv_from(&mut buffer) {
            let frame = parse(&buffer[..len]).expect("a message");
            if matches!(frame.body, Body::Query(_)) {
                let mut pong = Vec::new();
                emit(&mut pong, &frame.reply_from(id), &Response::Pong);
                socket.send_to(&pong, source).unwrap();
            }
        }
    }
}

/// The answers that others get while `flood` goes on, until it is told that it is over.
pub(crate) fn beside(
    others: &[UdpSocket],
    node: SocketAddr,
    span: Duration,
    flood: impl FnOnce(&AtomicBool) + Send,
) -> Served {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&over));
        std::thread::sleep(Duration::from_millis(200));
        let served = ask_for(others, node, span);
        over.store(true, Ordering::Relaxed);
        served
    })
}
