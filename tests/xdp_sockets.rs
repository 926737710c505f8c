//! The fast path while its table changes, when it is full, and when datagrams make no sense: a real
//! node and real sockets.
#![cfg(target_os = "linux")]

mod xdp_helpers;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kademlua::id::Id;
use kademlua::message::{Contact, FindValue, Request, Response, Rpc, TransactionId};
use kademlua::wire::{Body, Dialect, Header, UnreadAnswer, emit, parse};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::UdpSocket;

use crate::xdp_helpers::{Client, Lab, SERVER};

const PORT: u16 = 8001;

/// The port of a node without a fast path.
const OTHER_PORT: u16 = 8002;

/// Contacts in an answer, and in a bucket.
const K: usize = 20;

/// Most contacts that the kernel is told of.
const MIRRORED: usize = 512;

/// As fast as the table is to change.
const EVERY: Duration = Duration::from_millis(10);

fn own() -> Id {
    Id::of_name(PORT.to_string())
}

fn node_at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Peers each of which is nearer to the node than all before it, so that the answer to a findnode of
/// the node's own id tells how many of them are in the table: it is the last of those, and nobody
/// else. A bucket has room for all of its peers.
struct Peers {
    /// The ports of the nodes that they come to.
    nodes: &'static [u16],
    sockets: Vec<std::net::UdpSocket>,
    contacts: Vec<Contact>,
    /// How many have answered the nodes.
    joined: AtomicUsize,
}

impl Peers {
    fn new(lab: &Lab, nodes: &'static [u16], count: usize) -> Peers {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut ids: Vec<Id> =
            (0..count).map(|number| own().random_at((number / K) as u32, &mut rng)).collect();
        ids.sort_by_key(|id| std::cmp::Reverse(own().distance(id)));
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets: Vec<_> = lab.within(SERVER, || ids.iter().map(|_| bind()).collect());
        let contact = |(id, socket): (Id, &std::net::UdpSocket)| Contact {
            id,
            address: socket.local_addr().unwrap(),
        };
        let contacts = ids.into_iter().zip(&sockets).map(contact).collect();
        Peers { nodes, sockets, contacts, joined: AtomicUsize::new(0) }
    }

    /// They come one after the other, and stay until it is over.
    fn come(&self, over: &AtomicBool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let mut clock = tokio::time::interval(EVERY);
            for (contact, socket) in self.contacts.iter().zip(&self.sockets) {
                clock.tick().await;
                let socket = socket.try_clone().unwrap();
                socket.set_nonblocking(true).unwrap();
                let socket = UdpSocket::from_std(socket).unwrap();
                let (id, (known, is_known)) = (contact.id, tokio::sync::oneshot::channel());
                tokio::task::spawn_local(answer_always(id, socket, self.nodes, known));
                // The order must be theirs.
                let patience = Duration::from_secs(10);
                let asked_back = tokio::time::timeout(patience, is_known).await;
                asked_back.expect("the node asks who asked").unwrap();
                self.joined.fetch_add(1, Ordering::Release);
            }
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(EVERY).await;
            }
        });
    }

    /// How many peers a table has that gives this answer; `None` if there is no such table.
    fn table_of(&self, named: &[Contact]) -> Option<usize> {
        let nearest = named.iter().min_by_key(|contact| own().distance(&contact.id));
        let count = nearest.map_or(Some(0), |nearest| {
            self.contacts.iter().position(|contact| contact == nearest).map(|at| at + 1)
        })?;
        let mut expected = self.contacts[count.saturating_sub(K)..count].to_vec();
        let mut named = named.to_vec();
        expected.sort_by_key(|contact| contact.id);
        named.sort_by_key(|contact| contact.id);
        (named == expected).then_some(count)
    }
}

/// Asks the nodes to be known by them, and answers what they ask. Tells when it has answered all.
async fn answer_always(
    id: Id,
    socket: UdpSocket,
    nodes: &[u16],
    known: tokio::sync::oneshot::Sender<()>,
) {
    let mut known = Some(known);
    let mut strangers: BTreeSet<u16> = nodes.iter().copied().collect();
    let mut out = Vec::new();
    let ping = Header {
        dialect: Dialect::V1,
        from: id,
        transaction: TransactionId::new(*b"hereiam!"),
        asker: None,
    };
    emit(&mut out, &ping, &Request::Ping);
    for &node in nodes {
        socket.send_to(&out, node_at(node)).await.unwrap();
    }
    let mut buffer = [0; 2_048];
    loop {
        let (len, source) = socket.recv_from(&mut buffer).await.unwrap();
        let frame = parse(&buffer[..len]).expect("a message");
        let Body::Query(query) = frame.body else { continue };
        let header =
            Header { dialect: Dialect::V1, from: id, transaction: frame.transaction, asker: None };
        out.clear();
        match query.read().unwrap().kind() {
            Rpc::Ping => emit(&mut out, &header, &Response::Pong),
            Rpc::FindNode => emit(&mut out, &header, &Response::Nodes(Vec::new())),
            other => panic!("{other:?} of a node that stores nothing"),
        }
        socket.send_to(&out, source).await.unwrap();
        strangers.remove(&source.port());
        if strangers.is_empty()
            && let Some(known) = known.take()
        {
            known.send(()).unwrap();
        }
    }
}

/// A reply that is torn would name contacts that are in no table at once. In the end there are more
/// than the kernel can have.
#[test]
fn a_table_that_changes_a_hundred_times_a_second_is_never_torn_and_may_outgrow_the_kernel() {
    let Some(mut lab) = Lab::new("grow") else { return };
    lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    lab.serve_fast(PORT, "--bind 127.0.0.1 --bootstrap 127.0.0.1:9");
    lab.wait_for_heart(PORT);
    let peers = Peers::new(&lab, &[PORT], MIRRORED + K);
    let mut client = lab.client(SERVER, "127.0.0.1:0", node_at(PORT));
    client.is_node = false;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| peers.come(&over));
        // However this ends, the peers must.
        let _guard = Ends(&over);
        let began = Instant::now();
        let (mut asked, mut torn, mut tables) = (0, 0, BTreeSet::new());
        // Until the kernel, or the node in its place, names the last of all.
        while tables.last() < Some(&peers.contacts.len()) && !coming.is_finished() {
            assert!(began.elapsed() < Duration::from_secs(60), "{tables:?}");
            let named = find_own(&mut client);
            asked += 1;
            // The one that has just answered may be in it before it is counted.
            let joined = peers.joined.load(Ordering::Acquire) + 1;
            match peers.table_of(&named).filter(|&count| count <= joined) {
                Some(count) => drop(tables.insert(count)),
                None => {
                    torn += 1;
                    println!("with {joined} peers: {named:?}");
                }
            }
        }
        println!("{asked} replies of {} tables in {:?}", tables.len(), began.elapsed());
        assert_eq!(torn, 0, "of {asked}");
        assert!(asked > 10 * peers.contacts.len(), "{asked} questions are no load");
        assert!(tables.len() > peers.contacts.len() / 10, "it hardly changed: {tables:?}");
        let in_kernel = answered(&lab.status(PORT), "findnode");
        assert!(in_kernel > asked as u64 / 2, "{in_kernel} of {asked} in the kernel");

        // The mirror is full: the kernel cannot name contacts that it does not know.
        lab.wait_for("full mirror", || lab.status(PORT)["table_too_large"] == true);
        let before = lab.status(PORT);
        assert_eq!(peers.table_of(&find_own(&mut client)), Some(peers.contacts.len()));
        assert!(client.pings());
        let after = lab.status(PORT);
        assert_eq!(answered(&after, "findnode"), answered(&before, "findnode"));
        assert_eq!(answered(&after, "ping"), answered(&before, "ping") + 1);
    });
}

/// Whatever comes, a node with a fast path answers as one without, or is as silent.
#[test]
fn mutated_packets_are_answered_as_without_a_fast_path() {
    const PACKETS: u64 = 10_000;
    const SEED: u64 = 13;
    let Some(mut lab) = Lab::new("mutated") else { return };
    lab.xdp(SERVER, &format!("attach --iface lo --port {PORT}"));
    let common = format!("--bind 127.0.0.1 --bootstrap 127.0.0.1:9 --id {}", own());
    lab.serve_fast(PORT, &common);
    lab.serve(OTHER_PORT, &common);
    lab.wait_for_heart(PORT);
    let peers = Peers::new(&lab, &[PORT, OTHER_PORT], 5 * K);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| peers.come(&over));
        let _guard = Ends(&over);
        let all = peers.contacts.len() as u64;
        lab.wait_for("peers", || lab.status(PORT)["contacts"]["ipv4"] == all);
        let sockets = [PORT, OTHER_PORT].map(|port| {
            let socket = lab.within(SERVER, || std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
            socket.connect(node_at(port)).unwrap();
            socket
        });
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let (mut replied, mut silent) = (0, 0);
        for turn in 0..PACKETS {
            let packet = mutated(&mut rng);
            let [with, without] = sockets.each_ref().map(|socket| replies(socket, &packet, turn));
            assert_eq!(with, without, "seed {SEED}, turn {turn}: {}", packet.escape_ascii());
            if with.is_empty() { silent += 1 } else { replied += 1 }
        }
        let status = lab.status(PORT);
        let in_kernel = answered(&status, "findnode") + answered(&status, "ping");
        println!("{replied} of {PACKETS} replied to, {in_kernel} in the kernel, {silent} not");
        assert!(in_kernel > PACKETS / 10 && in_kernel < replied, "{status}");
        assert!(silent > PACKETS / 10, "{silent}");
    });
}

/// A ping or a findnode with some bytes changed, perhaps cut short, or nothing but chance.
fn mutated(rng: &mut ChaCha8Rng) -> Vec<u8> {
    if rng.random_ratio(1, 16) {
        let len = rng.random_range(0..600);
        return (0..len).map(|_| rng.random()).collect();
    }
    let request = match rng.random() {
        true => Request::Ping,
        false => Request::FindNode { target: Id::random(rng) },
    };
    let mut packet = Vec::new();
    let header = Header {
        dialect: Dialect::V1,
        from: Id::random(rng),
        transaction: TransactionId::new(rng.random::<[u8; 8]>()),
        asker: None,
    };
    emit(&mut packet, &header, &request);
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..packet.len().min(90));
        packet[at] = rng.random();
    }
    if rng.random_ratio(1, 8) {
        packet.truncate(rng.random_range(0..packet.len()));
    }
    packet
}

/// The replies to a packet: all that come before the reply to the findvalue sent after it, which
/// the node itself answers, in turn.
fn replies(socket: &std::net::UdpSocket, packet: &[u8], turn: u64) -> Vec<Vec<u8>> {
    let mut last = Vec::new();
    let header = Header {
        dialect: Dialect::V1,
        from: Id::of_name("last"),
        transaction: TransactionId::new(turn.to_be_bytes()),
        asker: None,
    };
    let request = Request::FindValue(FindValue::new(Id::of_name("nothing"), 1));
    emit(&mut last, &header, &request);
    socket.send(packet).unwrap();
    socket.send(&last).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut replies = Vec::new();
    let mut buffer = [0; 2_048];
    loop {
        let len = socket.recv(&mut buffer).expect("the node answers a findvalue");
        let reply = &buffer[..len];
        let frame = parse(reply).expect("a message");
        match frame.body {
            // The node asks who asked.
            Body::Query(_) => {}
            _ if frame.transaction == header.transaction => return replies,
            Body::Answer(answer) => replies.push(in_order(reply, answer)),
            _ => replies.push(reply.to_vec()),
        }
    }
}

/// A reply with its contacts in order, since theirs means nothing.
fn in_order(reply: &[u8], answer: UnreadAnswer<'_>) -> Vec<u8> {
    let Ok(Response::Nodes(mut contacts)) = answer.read(Rpc::FindNode) else {
        return reply.to_vec();
    };
    contacts.sort_by_key(|contact| contact.id);
    let head = &reply[..reply.len() - answer.as_bytes().len()];
    [head, format!("{} bytes: {contacts:?}", answer.as_bytes().len()).as_bytes()].concat()
}

fn answered(status: &serde_json::Value, rpc: &str) -> u64 {
    status["answered"][rpc].as_u64().unwrap()
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn find_own(client: &mut Client) -> Vec<Contact> {
    match client.ask(&Request::FindNode { target: own() }, Duration::from_secs(2)) {
        Some(Response::Nodes(named)) => named,
        other => panic!("{other:?}"),
    }
}
