//! A crawler: asks every node of a network for its neighbours, and is none itself. It uses the codec alone.
//!
//! ```sh
//! cargo run --example crawler --no-default-features -- 127.0.0.1:8001
//! ```
//!
//! Without an address it starts forty nodes and crawls those.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use kademlua::id::Id;
use kademlua::message::{Contact, Request, Response, Rpc, TransactionId};
use kademlua::net::{Handle, Settings, spawn};
use kademlua::wire::{Body, Dialect, Header, MAX_DATAGRAM, emit, parse};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// As long as an original waits.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Parts of the id space that each node is asked about. A node names 20 contacts at a time, so one
/// question shows no more than its neighbourhood; these are the buckets that are furthest from its id.
const PARTS: u32 = 8;

/// The crawl ends there, however large the network is.
const NODES_MAX: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (own, start) = match std::env::args().nth(1) {
        Some(address) => (Vec::new(), address.parse()?),
        None => network(40).await?,
    };
    let crawler = Crawler::new(start).await?;

    let mut neighbours: BTreeMap<Id, BTreeSet<Contact>> = BTreeMap::new();
    let mut silent = BTreeSet::new();
    let first = crawler.whoami(start).await.ok_or("nobody answers at that address")?;
    let (mut known, mut waiting) = (BTreeSet::from([first]), VecDeque::from([first]));
    while let Some(node) = waiting.pop_front() {
        let Some(named) = crawler.neighbours(&node).await else {
            silent.insert(node);
            continue;
        };
        for contact in &named {
            if known.len() < NODES_MAX && known.insert(*contact) {
                waiting.push_back(*contact);
            }
        }
        neighbours.insert(node.id, named);
    }

    let edges: usize = neighbours.values().map(BTreeSet::len).sum();
    println!("{} nodes answer, {} do not", neighbours.len(), silent.len());
    println!("each names {:.1} others", edges as f64 / neighbours.len().max(1) as f64);
    let mut named_by: BTreeMap<Id, usize> = BTreeMap::new();
    for contact in neighbours.values().flatten() {
        *named_by.entry(contact.id).or_default() += 1;
    }
    if let Some((id, count)) = named_by.iter().max_by_key(|(_, count)| **count) {
        println!("best known: {id}, named by {count}");
    }
    for node in own {
        node.stop().await;
    }
    Ok(())
}

/// Asks nodes one after the other.
struct Crawler {
    socket: UdpSocket,
    id: Id,
}

impl Crawler {
    async fn new(start: SocketAddr) -> Result<Crawler, Box<dyn Error>> {
        let any = if start.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        // Nodes that ask this id back get no answer, and so never keep it.
        Ok(Crawler { socket: UdpSocket::bind(any).await?, id: Id::of_name("a crawler") })
    }

    /// The node at an address.
    async fn whoami(&self, address: SocketAddr) -> Option<Contact> {
        let (id, _) = self.ask(address, 0, &Request::Ping, Rpc::Ping).await?;
        Some(Contact { id, address })
    }

    /// The contacts of a node, as far as it names them; `None` if it does not answer.
    async fn neighbours(&self, node: &Contact) -> Option<BTreeSet<Contact>> {
        let mut all = BTreeSet::new();
        for part in 0..PARTS {
            // Ids that differ from the node's in this bit first share a bucket.
            let request = Request::FindNode { target: node.id.flipped(part) };
            match self.ask(node.address, u64::from(part) + 1, &request, Rpc::FindNode).await {
                Some((_, Response::Nodes(named))) => all.extend(named),
                None if part == 0 => return None,
                _ => {}
            }
        }
        Some(all)
    }

    /// Asks one question. Returns the answer and the node that gave it.
    async fn ask(
        &self,
        address: SocketAddr,
        number: u64,
        request: &Request<'_>,
        kind: Rpc,
    ) -> Option<(Id, Response)> {
        let transaction = TransactionId::new(number.to_be_bytes());
        let mut question = Vec::new();
        emit(
            &mut question,
            &Header { dialect: Dialect::V1, from: self.id, transaction, asker: None },
            request,
        );
        self.socket.send_to(&question, address).await.ok()?;
        let answer = async {
            let mut buffer = vec![0; MAX_DATAGRAM];
            loop {
                let (len, source) = self.socket.recv_from(&mut buffer).await.ok()?;
                let Ok(envelope) = parse(&buffer[..len]) else { continue };
                if source == address
                    && envelope.transaction == transaction
                    && let Body::Answer(answer) = envelope.body
                {
                    return Some((envelope.sender?, answer.read(kind).ok()?));
                }
            }
        };
        timeout(PATIENCE, answer).await.ok()?
    }
}

/// `count` nodes on loopback that know each other, and the address of one.
async fn network(count: usize) -> Result<(Vec<Handle>, SocketAddr), Box<dyn Error>> {
    let bind = "127.0.0.1:0".parse()?;
    let first = spawn(Settings { bind, ..Settings::default() })?;
    let address = first.local_addr();
    let mut nodes = vec![first];
    while nodes.len() < count {
        let node = spawn(Settings { bind, ..Settings::default() })?;
        node.bootstrap(vec![address]).await?;
        nodes.push(node);
    }
    Ok((nodes, address))
}
