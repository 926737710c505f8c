//! A hundred nodes for the one under load to know.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::client::ask_once;
use crate::id::Id;
use crate::message::{Contact, Request, Response, Rpc, TransactionId};
use crate::net::{Handle, Settings, spawn};
use crate::wire::{Body, Dialect, Header, emit, parse};

/// Buckets to fill. Each takes k = 20, so that a hundred contacts fill five: with random ids many
/// more nodes would be needed, because half of all fall into the first.
const BUCKETS: u32 = 5;
const BUCKET_SIZE: usize = 20;

/// A node that is not known by then never will be.
const PATIENCE: Duration = Duration::from_secs(15);

/// Nodes that live for as long as this does.
pub(super) struct Company {
    /// How many contacts the node hands out in its answers.
    pub(super) known: usize,
    _nodes: Vec<Handle>,
}

/// Starts nodes that join through the node `id`, and waits until it knows them.
pub(super) fn gather(id: Id, address: SocketAddr) -> anyhow::Result<Company> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let bind = SocketAddr::new(address.ip(), 0);
    let mut nodes = Vec::new();
    for bucket in (0..BUCKETS).flat_map(|bucket| [bucket; BUCKET_SIZE]) {
        let ids = [(Dialect::V1, id.random_at(bucket, &mut rng))].into();
        let bootstrap = vec![address.into()];
        let settings = Settings { bind, ids, bootstrap, ..Settings::default() };
        nodes.push(spawn(settings).context("cannot start a node to be known")?);
    }
    let socket = UdpSocket::bind(bind)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let end = Instant::now() + PATIENCE;
    loop {
        let known = contacts_of(&socket, id, &mut rng).unwrap_or_default().len();
        if known >= nodes.len() || Instant::now() > end {
            return Ok(Company { known, _nodes: nodes });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// All contacts that a node hands out when asked for ids in each of its buckets.
fn contacts_of(
    socket: &UdpSocket,
    id: Id,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<HashSet<Contact>> {
    let mut contacts = HashSet::new();
    for bucket in (0..2 * BUCKETS).flat_map(|bucket| [bucket; 4]) {
        let target = id.random_at(bucket, rng);
        let (from, transaction) = (Id::of_name("kademlua bench"), TransactionId::new([0; 8]));
        let header = Header { dialect: Dialect::V1, from, transaction, asker: None };
        let mut request = Vec::new();
        emit(&mut request, &header, &Request::FindNode { target });
        let reply = ask_once(socket, &request)?;
        if let Body::Answer(answer) = parse(&reply)?.body
            && let Response::Nodes(nodes) = answer.read(Rpc::FindNode)?
        {
            contacts.extend(nodes);
        }
    }
    Ok(contacts)
}
