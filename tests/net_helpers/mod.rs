//! What the tests of the UDP driver share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kademlua::id::Id;
use kademlua::message::{Request, TransactionId};
use kademlua::net::{Handle, Settings, spawn};
use kademlua::wire::{Body, Dialect, Header, emit, parse};

/// Runs a test's future; one that hangs fails instead.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
    })
}

/// A node on a free port of 127.0.0.1.
pub fn start(bootstrap: &[SocketAddr]) -> Handle {
    start_at("127.0.0.1:0", bootstrap)
}

pub fn start_at(bind: &str, bootstrap: &[SocketAddr]) -> Handle {
    let bind = bind.parse().unwrap();
    spawn(Settings {
        bind,
        bootstrap: bootstrap.iter().map(|&address| address.into()).collect(),
        ..Settings::default()
    })
    .unwrap()
}

/// Two nodes that know each other.
pub async fn pair() -> (Handle, Handle) {
    let first = start(&[]);
    let second = start(&[first.local_addr()]);
    assert_eq!(second.bootstrap(vec![first.local_addr()]).await.unwrap().answered, 1);
    (first, second)
}

/// A stranger that writes its datagrams by hand.
pub struct Stranger {
    pub socket: UdpSocket,
    sent: u64,
}

impl Stranger {
    pub fn new() -> Stranger {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Stranger { socket, sent: 0 }
    }

    /// Sends a request and gives the number of its call.
    pub fn send(&mut self, to: SocketAddr, request: &Request<'_>) -> TransactionId {
        self.sent += 1;
        let header = Header {
            dialect: Dialect::V1,
            from: Id::of_name("stranger"),
            transaction: TransactionId::new(self.sent.to_be_bytes()),
            asker: None,
        };
        let mut datagram = Vec::new();
        emit(&mut datagram, &header, request);
        self.socket.send_to(&datagram, to).unwrap();
        header.transaction
    }

    /// Whether a ping is answered with a pong; other datagrams that come are passed over.
    pub fn ping(&mut self, to: SocketAddr) -> bool {
        let asked = self.send(to, &Request::Ping);
        let mut buffer = [0; 65_535];
        while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
            let frame = parse(&buffer[..len]).expect("nodes send v1 only");
            if from == to && frame.transaction == asked {
                return matches!(frame.body, Body::Answer(pong) if pong.as_bytes() == b"li5ee");
            }
        }
        false
    }
}
