//! Routes between real nodes, real interfaces and real sockets, handed on in the kernel.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::Duration;

use kademlua::id::Id;
use kademlua::message::{Contact, Route, RouteAnswer, RouteFlags, RouteKind, TransactionId};
use kademlua::wire::{Body, Dialect, Header, Message, emit, parse, read_route_answer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::xdp_helpers::{CLIENT, Lab, SERVER};

const PORT: u16 = 8_001;
const OTHER: u16 = 8_101;

fn key() -> Id {
    Id::of_name("key")
}

/// An id that shares so many bits with the key.
fn sharing(bits: u32) -> Id {
    key().random_at(bits, &mut ChaCha8Rng::seed_from_u64(bits.into()))
}

/// The node that has the fast path, and the one that is nearest to the key.
fn ids() -> [Id; 2] {
    [sharing(2), sharing(100)]
}

struct Asker {
    /// The answer to a node on the way comes from elsewhere.
    socket: UdpSocket,
    node: SocketAddr,
    next: u64,
    /// Zeros for a client; a node on the way else.
    from: Id,
}

impl Asker {
    fn new(lab: &Lab, host: &str, bind: &str, node: SocketAddr) -> Asker {
        let socket = lab.within(host, || UdpSocket::bind(bind).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Asker { socket, node, next: 0, from: Id::ZERO }
    }

    /// Who is nearest to the key, and who says so.
    fn locate(&mut self) -> Option<(Id, Contact)> {
        self.next += 1;
        let transaction = TransactionId::new(self.next.to_be_bytes());
        let padding = vec![0; 300 + self.next as usize];
        let route = Route {
            flags: RouteFlags::default(),
            hops_left: 9,
            skip: 0,
            kind: RouteKind::Locate,
            key: key(),
            answer_to: Route::NOWHERE,
            budget: 1_000,
            client: Route::NOWHERE,
            stamp: 0,
            seal: [0; 8],
            payload: &[],
            rest: &padding,
        };
        let mut out = Vec::new();
        let header = Header { dialect: Dialect::V1, from: self.from, transaction, asker: None };
        emit(&mut out, &header, Message::Route(&route));
        self.socket.send_to(&out, self.node).unwrap();
        let mut buffer = [0; 2_048];
        loop {
            let len = self.socket.recv(&mut buffer).ok()?;
            let frame = parse(&buffer[..len]).unwrap();
            let Body::Routed(answer) = frame.body else { continue };
            if frame.transaction != transaction {
                continue;
            }
            let answer = answer.read().unwrap();
            let found = read_route_answer(Dialect::V1, route.kind, answer.payload).unwrap();
            let RouteAnswer::Located(contact) = found else { panic!("{found:?}") };
            return Some((frame.sender.unwrap(), contact));
        }
    }
}

fn forwarded(lab: &Lab) -> [u64; 3] {
    let status = lab.status(PORT);
    ["entered", "passed", "relayed"].map(|which| status["forwarded"][which].as_u64().unwrap())
}

/// A node on a host without a fast path.
fn serve(lab: &Lab, host: &str, address: SocketAddr, id: Id, bootstrap: SocketAddr) -> Child {
    let (ip, port) = (address.ip(), address.port());
    let arguments =
        format!("serve {port} --bind {ip} --id {id} --log error --bootstrap {bootstrap}");
    lab.kademlua(host, &arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until the kernel has handed on and relayed; each answer is right from the first on.
fn goes_through_the_kernel(lab: &Lab, asker: &mut Asker, near: Contact) {
    // The other family's count may be of the node that was here before.
    let family = if near.address.is_ipv4() { "ipv4" } else { "ipv6" };
    lab.wait_for("contact", || lab.status(PORT)["contacts"][family] == 1);
    // The ways are looked at now and then, and neighbours found.
    lab.wait_for("route in the kernel", || {
        let before = forwarded(lab);
        let answer = asker.locate();
        assert_eq!(answer, Some((near.id, near)));
        forwarded(lab)[0] + forwarded(lab)[1] > before[0] + before[1]
    });
    let before = forwarded(lab);
    for _ in 0..20 {
        assert_eq!(asker.locate(), Some((near.id, near)));
    }
    let is_client = asker.from == Id::ZERO;
    let expected = if is_client { [20, 0, 20] } else { [0, 20, 0] };
    let after = forwarded(lab);
    let done = [0, 1, 2].map(|number| after[number] - before[number]);
    assert_eq!(done, expected, "{}", lab.status(PORT));
}

#[test]
fn on_lo() {
    let Some(mut lab) = Lab::new("hop") else { return };
    lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    for bind in ["127.0.0.1", "::1"] {
        let node = SocketAddr::new(bind.parse().unwrap(), PORT);
        let near = Contact { id: ids()[1], address: SocketAddr::new(node.ip(), OTHER) };
        lab.serve_fast(PORT, &format!("--bind {bind} --id {} --bootstrap 127.0.0.1:9", ids()[0]));
        lab.wait_for_heart(PORT);
        let _other = Ends(serve(&lab, SERVER, near.address, near.id, node));
        let bind = SocketAddr::new(node.ip(), 0).to_string();
        let mut client = Asker::new(&lab, SERVER, &bind, node);
        goes_through_the_kernel(&lab, &mut client, near);
        client.from = sharing(0);
        goes_through_the_kernel(&lab, &mut client, near);
        lab.end_all();
    }
}

/// The kernel hands routes to a contact that was killed until its node finds out, by the error that comes
/// back or by asking.
#[test]
fn a_hop_that_is_killed_is_passed_over() {
    let Some(mut lab) = Lab::new("killedhop") else { return };
    lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    let node = SocketAddr::from(([127, 0, 0, 1], PORT));
    let contact = |number: u16, bits| Contact {
        id: sharing(bits),
        address: ([127, 0, 0, 1], OTHER + number).into(),
    };
    let (dies, stays) = (contact(0, 100), contact(1, 60));
    lab.serve_fast(PORT, &format!("--bind 127.0.0.1 --id {} --bootstrap 127.0.0.1:9", ids()[0]));
    lab.wait_for_heart(PORT);
    let mut near = serve(&lab, SERVER, dies.address, dies.id, node);
    let _second = Ends(serve(&lab, SERVER, stays.address, stays.id, node));
    lab.wait_for("contacts", || lab.status(PORT)["contacts"]["ipv4"] == 2);
    let mut client = Asker::new(&lab, SERVER, "127.0.0.1:0", node);
    lab.wait_for("route in the kernel", || {
        assert_eq!(client.locate(), Some((dies.id, dies)));
        forwarded(&lab)[0] > 0
    });
    near.kill().unwrap();
    near.wait().unwrap();
    client.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    lab.wait_for("another way", || client.locate() == Some((stays.id, stays)));
    // And the kernel knows it, too.
    lab.wait_for("another way in the kernel", || {
        let before = forwarded(&lab);
        client.locate() == Some((stays.id, stays)) && forwarded(&lab)[0] > before[0]
    });
}

fn over_veth(mode: &str) {
    let Some(mut lab) = Lab::new(&format!("hop{mode}")) else { return };
    if mode == "native" {
        // A program at the other end makes it take what native XDP sends.
        lab.xdp(CLIENT, "attach --iface veth-c --port 9 --mode native");
    }
    lab.xdp(SERVER, &format!("attach --iface veth-s --port {PORT} --mode {mode}"));
    for (server, client) in [("10.77.0.1", "10.77.0.2"), ("fd77::1", "fd77::2")] {
        let node = SocketAddr::new(server.parse().unwrap(), PORT);
        let near =
            Contact { id: ids()[1], address: SocketAddr::new(client.parse().unwrap(), OTHER) };
        lab.serve_fast(PORT, &format!("--bind {server} --id {} --bootstrap 127.0.0.1:9", ids()[0]));
        lab.wait_for_heart(PORT);
        let _other = Ends(serve(&lab, CLIENT, near.address, near.id, node));
        let bind = SocketAddr::new(near.address.ip(), 0).to_string();
        let mut asker = Asker::new(&lab, CLIENT, &bind, node);
        // What this machine sends by the driver is unfinished, and over IPv6 the driver's program
        // cannot finish it.
        if mode == "native" && node.is_ipv6() {
            lab.wait_for("contact", || lab.status(PORT)["contacts"]["ipv6"] == 1);
            assert_eq!(asker.locate(), Some((near.id, near)));
        } else {
            goes_through_the_kernel(&lab, &mut asker, near);
            asker.from = sharing(0);
            goes_through_the_kernel(&lab, &mut asker, near);
        }
        lab.end_all();
    }
}

#[test]
fn over_veth_by_tcx() {
    over_veth("tcx");
}

#[test]
fn over_veth_by_native_xdp() {
    over_veth("native");
}
