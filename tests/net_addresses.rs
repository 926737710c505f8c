//! What an address is worth on real interfaces: a datagram that only looks as if it came from this
//! machine gets nothing, and a question is answered from the address at which it was asked.
#![cfg(fast_path)]

mod xdp_helpers;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use kademlua::bencode::{List, Value};
use kademlua::id::Id;
use kademlua::message::{FindValue, Request, Response, StoreMode, StoreRequest, TransactionId};
use kademlua::wire::{Dialect, Header, emit};

use crate::xdp_helpers::{CLIENT, Client, Frames, Lab, SERVER, sh, text};

const PORT: u16 = 8001;

/// The port that forged datagrams name: services listen there.
const SERVICE: u16 = 7_777;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The datagrams of a ping, a findnode, a store and a call, all of which are answered where the source
/// is believed.
fn datagrams(value: &Value) -> Vec<Vec<u8>> {
    let (key, target) = (Id::of_name("forged"), Id::of_name("target"));
    let store =
        StoreRequest { key, value: value.item(), mode: StoreMode::Add, token: None, copy: None };
    let requests = [
        Request::Ping,
        Request::FindNode { target },
        Request::Store(store),
        Request::GetSocket,
        Request::Custom { name: b"none", args: List::EMPTY },
    ];
    let datagram = |(number, request): (usize, &Request<'_>)| {
        let mut out = Vec::new();
        let rpc_id = TransactionId::new((number as u64).to_be_bytes());
        emit(
            &mut out,
            &Header {
                dialect: Dialect::V1,
                from: Id::of_name("forger"),
                transaction: rpc_id,
                asker: None,
            },
            request,
        );
        out
    };
    requests.iter().enumerate().map(datagram).collect()
}

/// Listeners at the forged sources, on the victim's machine and on others.
struct Services(Vec<UdpSocket>);

impl Services {
    fn listen(lab: &Lab) -> Services {
        let at = |host, ip: &str| {
            let address = SocketAddr::new(ip.parse().unwrap(), SERVICE);
            lab.within(host, || UdpSocket::bind(address).unwrap())
        };
        let server = ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| at(SERVER, ip));
        let client = ["10.77.0.2", "fd77::2", "127.0.0.1", "::1"].map(|ip| at(CLIENT, ip));
        let all: Vec<UdpSocket> = server.into_iter().chain(client).collect();
        all.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        Services(all)
    }

    /// The listeners that have heard something by now.
    fn heard(&self) -> Vec<SocketAddr> {
        let mut buffer = [0; 2_048];
        let mut heard =
            |socket: &&UdpSocket| std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count() > 0;
        self.0
            .iter()
            .filter(|socket| heard(socket))
            .map(|socket| socket.local_addr().unwrap())
            .collect()
    }
}

/// Believes whatever comes in by its interface, as hosts with containers are made to.
fn let_loopback_in(lab: &Lab) {
    lab.within(SERVER, || {
        for (name, value) in [("route_localnet", "1"), ("accept_local", "1"), ("rp_filter", "0")] {
            for interface in ["all", "veth-s"] {
                let path = format!("/proc/sys/net/ipv4/conf/{interface}/{name}");
                std::fs::write(path, value).unwrap();
            }
        }
    });
}

/// Sources that nobody can be at, as seen from a wire, and a destination for each family.
const FORGED: [&str; 8] = [
    "::ffff:127.0.0.1",
    "::ffff:127.0.0.2",
    "::ffff:10.77.0.2",
    "::127.0.0.1",
    "::10.77.0.2",
    "::1",
    "127.0.0.1",
    "127.0.0.2",
];

fn ask(client: &mut Client, request: &Request<'_>) -> Option<Response> {
    client.ask(request, Duration::from_secs(2))
}

/// Sends all kinds of requests under all forged sources, and looks which listeners hear of it.
fn forge(lab: &Lab, services: &Services, destinations: &[&str]) {
    let frames = Frames::new(lab);
    let value = Value::bytes("from outside");
    for source in FORGED.map(ip) {
        for destination in destinations.iter().map(|text| ip(text)) {
            if source.is_ipv4() != destination.is_ipv4() {
                continue;
            }
            let destination = SocketAddr::new(destination, PORT);
            for datagram in datagrams(&value) {
                frames.send(SocketAddr::new(source, SERVICE), destination, &datagram);
            }
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(services.heard(), [], "{source} to {destination}");
        }
    }
    // A ping comes soon, and twice.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(services.heard(), []);
}

/// A datagram from a source that exists, by the same way.
fn assert_frames_arrive(lab: &Lab, services: &Services, destination: &str) {
    let frames = Frames::new(lab);
    let destination = SocketAddr::new(ip(destination), PORT);
    let source =
        SocketAddr::new(ip(if destination.is_ipv4() { "10.77.0.2" } else { "fd77::2" }), SERVICE);
    frames.send(source, destination, &datagrams(&Value::bytes("x"))[0]);
    lab.wait_for("answer", || services.heard() == [source]);
    std::thread::sleep(Duration::from_secs(2));
    services.heard();
}

#[test]
fn what_is_forged_from_a_wire_gets_no_answer_no_ping_and_no_place() {
    let Some(mut lab) = Lab::new("forged") else { return };
    let_loopback_in(&lab);
    let services = Services::listen(&lab);
    for (bind, destinations) in [
        ("::", &["fd77::1", "10.77.0.1", "127.0.0.1"][..]),
        ("fd77::1", &["fd77::1"]),
        ("0.0.0.0", &["10.77.0.1", "127.0.0.1"]),
        ("127.0.0.1", &["127.0.0.1"]),
    ] {
        lab.serve(PORT, &format!("--bind {bind} --bootstrap 127.0.0.1:9"));
        // The node can reach it from where it is.
        let inside = SocketAddr::new(ip(destinations[destinations.len() - 1]), PORT);
        let any = if inside.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut client = lab.client(SERVER, any, inside);
        lab.wait_for("node", || client.pings());
        if !inside.ip().is_loopback() || destinations.len() > 1 {
            assert_frames_arrive(&lab, &services, destinations[0]);
        }
        forge(&lab, &services, destinations);
        let find = Request::FindValue(FindValue::new(Id::of_name("forged"), 6));
        match ask(&mut client, &find) {
            Some(Response::Values { values, .. }) => {
                assert!(values.is_empty(), "{bind}: {values:?}");
            }
            other => panic!("{bind}: {other:?}"),
        }
        lab.end_all();
    }
}

#[test]
fn the_kernel_answers_nothing_that_is_forged_and_tells_of_nobody() {
    let Some(mut lab) = Lab::new("forgefast") else { return };
    let_loopback_in(&lab);
    let services = Services::listen(&lab);
    lab.xdp(SERVER, &format!("attach --iface veth-s --port {PORT}"));
    lab.serve_fast(PORT, "--bind :: --bootstrap 127.0.0.1:9");
    lab.wait_for_heart(PORT);
    for (number, via) in [(1, "10.77.0.1"), (2, "fd77::1")] {
        let via = SocketAddr::new(ip(via), PORT);
        lab.serve(PORT + number, &format!("--bind {} --bootstrap {via}", via.ip()));
    }
    lab.wait_for("contacts", || {
        let contacts = &lab.status(PORT)["contacts"];
        contacts["ipv4"] == 1 && contacts["ipv6"] == 1
    });
    assert_frames_arrive(&lab, &services, "10.77.0.1");
    let told = |lab: &Lab| {
        let status = lab.status(PORT);
        let of = |what: &str, which: &str| status[what][which].as_u64().unwrap();
        [of("answered", "ping"), of("answered", "findnode"), of("strangers", "told")]
    };
    let before = told(&lab);
    assert_eq!(before[0], 1, "the kernel answers what is not forged");
    forge(&lab, &services, &["fd77::1", "10.77.0.1", "127.0.0.1"]);
    assert_eq!(told(&lab), before);
    let contacts = &lab.status(PORT)["contacts"];
    assert_eq!((contacts["ipv4"].as_u64(), contacts["ipv6"].as_u64()), (Some(1), Some(1)));
}

/// A host with two addresses of each kind at one interface.
fn add_second_addresses(lab: &Lab) {
    let server = lab.namespace(SERVER);
    sh(&format!(
        "ip -n {server} addr add 10.77.0.3/24 dev veth-s
         ip -n {server} addr add fd77::3/64 dev veth-s nodad
         ip -n {server} addr add fe80::77/64 dev veth-s nodad
         ip -n {} addr add fe80::78/64 dev veth-c nodad",
        lab.namespace(CLIENT)
    ));
}

#[test]
fn what_is_asked_at_an_address_is_answered_from_it() {
    let Some(lab) = Lab::new("second") else { return };
    add_second_addresses(&lab);
    let scope = lab.within(CLIENT, || nix::net::if_::if_nametoindex("veth-c").unwrap());
    let link_local = format!("fe80::77%{scope}");
    for (bind, addresses) in [
        ("0.0.0.0", &["10.77.0.1", "10.77.0.3"][..]),
        ("::", &["10.77.0.1", "10.77.0.3", "fd77::1", "fd77::3", &link_local]),
    ] {
        let chunk =
            "rpc('ours', function() sleep(0.2) return 'late' end) print('ready') sleep(600)";
        let mut node =
            lab.kademlua(SERVER, &format!("{PORT} --bind {bind} --bootstrap 127.0.0.1:9 -e"));
        let mut node = node.arg(chunk).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(node.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        for (number, address) in addresses.iter().enumerate() {
            let target: SocketAddr = match address.contains(':') {
                true => format!("[{address}]:{PORT}").parse().unwrap(),
                false => format!("{address}:{PORT}").parse().unwrap(),
            };
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            // It is connected, so that it hears nothing from elsewhere.
            let mut client = lab.client(CLIENT, any, target);
            lab.wait_for("answer", || client.pings());
            let value = Value::bytes("value");
            let key = Id::of_name(number.to_string());
            let store = StoreRequest {
                key,
                value: value.item(),
                mode: StoreMode::Add,
                token: None,
                copy: None,
            };
            let requests = [
                Request::Store(store),
                Request::FindValue(FindValue::new(key, 1)),
                Request::FindNode { target: key },
                Request::GetSocket,
                Request::Custom { name: b"ours", args: List::EMPTY },
            ];
            for request in &requests {
                assert!(ask(&mut client, request).is_some(), "{bind} at {address}: {request:?}");
            }
        }
        node.kill().unwrap();
        node.wait().unwrap();
    }
}

#[test]
fn a_network_is_joined_through_any_address_of_a_host() {
    let Some(mut lab) = Lab::new("join") else { return };
    add_second_addresses(&lab);
    lab.serve(PORT, "--bind :: --bootstrap 127.0.0.1:9");
    let mut neighbour = lab.client(SERVER, "127.0.0.1:0", ([127, 0, 0, 1], PORT).into());
    lab.wait_for("node", || neighbour.pings());
    for (number, (bind, via)) in
        [("10.77.0.2", "10.77.0.3:8001"), ("fd77::2", "[fd77::3]:8001")].into_iter().enumerate()
    {
        let port = PORT + 1 + number as u16;
        let mut joins = lab.kademlua(CLIENT, &format!("{port} --bind {bind} --bootstrap {via} -e"));
        let chunk = format!("print((pcall(ping, '{via}')), #contacts() > 0)");
        let output = joins.arg(chunk).stdin(Stdio::null()).output().unwrap();
        let complaints = text(&output.stderr);
        assert_eq!(text(&output.stdout), "true\ttrue\n", "{via}: {complaints}");
        assert!(!complaints.contains("nobody answers"), "{via}: {complaints}");
    }
}

/// Nodes of one machine, at many of its addresses.
#[test]
fn all_of_loopback_is_one_machine() {
    let Some(mut lab) = Lab::new("loopbacks") else { return };
    lab.serve(PORT, "--bind :: --bootstrap 127.0.0.1:9");
    for (from, to) in [
        ("127.0.0.1:0", "127.0.0.1:8001"),
        ("127.0.0.1:0", "127.0.0.2:8001"),
        ("127.9.9.9:0", "127.0.0.3:8001"),
        ("127.0.0.1:0", "10.77.0.1:8001"),
        ("10.77.0.1:0", "127.0.0.2:8001"),
        ("[::1]:0", "[::1]:8001"),
        ("[::1]:0", "[fd77::1]:8001"),
        ("[fd77::1]:0", "[::1]:8001"),
    ] {
        let mut client = lab.client(SERVER, from, to.parse().unwrap());
        lab.wait_for(to, || client.pings());
        assert!(ask(&mut client, &Request::GetSocket).is_some(), "{from} to {to}");
    }
}

#[test]
fn the_ports_of_both_families_are_one() {
    let Some(mut lab) = Lab::new("ports") else { return };
    let taken = lab.within(SERVER, || UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    let refused = lab.run(SERVER, &format!("serve {PORT} --bind ::"));
    assert!(!refused.status.success());
    let complaint = text(&refused.stderr);
    assert!(complaint.contains("cannot bind 0.0.0.0:8001: address already in use"), "{complaint}");
    drop(taken);
    lab.serve(PORT, "--bind :: --bootstrap 127.0.0.1:9");
    for target in ["127.0.0.1:8001", "[::1]:8001"] {
        let target: SocketAddr = target.parse().unwrap();
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let mut client = lab.client(SERVER, any, target);
        lab.wait_for("answer", || client.pings());
    }
}
