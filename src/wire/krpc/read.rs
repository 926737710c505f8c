//! Reading: datagrams become envelopes, arguments and responses [`message`](crate::message)s.

use std::net::{IpAddr, SocketAddr};

use super::{MAX_CONTACTS, MAX_PEERS, MAX_SAMPLES, MAX_TOKEN, rpc_named};
use crate::address::{Families, is_sendable};
use crate::bencode::{Entries, Item, Malformed};
use crate::bloom::Filter;
use crate::id::Id;
use crate::message::mainline::{
    AnnouncePeer, Filters, GetItem, GetPeers, Kind, Proof, PutItem, Query, Reply,
};
use crate::message::{CodedError, Contact, Request, Response, Rpc, TransactionId};
use crate::serial::Bytes;
use crate::signed::{PublicKey, Signature};
use crate::wire::{Body, Dialect, Envelope, ParseError, PayloadError, UnreadAnswer, UnreadQuery};

/// Tokens around the arguments of a query.
const AROUND_QUERY: usize = 12;

/// Bytes of a compact address without its port, and of an id and an address.
const IPV4_LEN: usize = 4;
const IPV6_LEN: usize = 16;
const PORT_LEN: usize = 2;

/// Takes apart a datagram that begins with [`FIRST`](super::FIRST).
#[inline]
pub(in crate::wire) fn parse(datagram: &[u8]) -> Result<Envelope<'_>, ParseError> {
    if datagram.len() > super::SIZES.datagram_max {
        return Err(ParseError::TooLong);
    }
    let mut entries = Entries::of(datagram).ok_or(ParseError::Shape("no dictionary"))?;
    let (mut transaction, mut kind, mut name, mut body, mut error) = (None, None, None, None, None);
    let (mut is_read_only, mut seen_at) = (false, None);
    while let Some((key, value)) = entries.next_entry().map_err(no_message)? {
        match key {
            b"t" => transaction = value.bytes(),
            b"y" => kind = value.bytes(),
            b"q" => name = value.bytes(),
            b"a" | b"r" => body = Some(value),
            b"e" => error = value.list(),
            b"ro" => is_read_only = is_set(value),
            b"ip" => seen_at = value.bytes().and_then(address),
            _ => {}
        }
    }
    let transaction = transaction.and_then(TransactionId::from_slice);
    let transaction = transaction.ok_or(ParseError::Shape("no transaction id, or a long one"))?;
    let dialect = Dialect::Mainline;
    let empty = Envelope {
        dialect,
        sender: None,
        transaction,
        is_read_only,
        want: None,
        seen_at,
        body: Body::CodedError(CodedError { code: 0, text: b"" }),
    };
    let body = body.map_or(&b"de"[..], Item::as_bytes);
    match kind {
        Some(b"q") => {
            let name = name.ok_or(ParseError::Shape("a query without a name"))?;
            let (sender, want) = head(body);
            let body = Body::Query(UnreadQuery { dialect, name, bytes: body });
            Ok(Envelope { sender, want, body, ..empty })
        }
        Some(b"r") => {
            let (sender, _) = head(body);
            let body = Body::Answer(UnreadAnswer { dialect, bytes: body });
            Ok(Envelope { sender, body, ..empty })
        }
        Some(b"e") => {
            let mut error = error.ok_or(ParseError::Shape("an error without a list"))?;
            let code = error.next().and_then(Item::integer);
            let code = code.ok_or(ParseError::Shape("an error without a code"))?;
            let text = error.next().and_then(Item::bytes).unwrap_or_default();
            Ok(Envelope { body: Body::CodedError(CodedError { code, text }), ..empty })
        }
        _ => Err(ParseError::Shape("neither query nor response nor error")),
    }
}

fn no_message(error: Malformed) -> ParseError {
    match error {
        Malformed::Truncated => ParseError::Truncated,
        _ => ParseError::Shape("not bencoded"),
    }
}

/// What arguments and responses have in common: who sent them, and contacts of which families it wants.
fn head(body: &[u8]) -> (Option<Id>, Option<Families>) {
    let (mut sender, mut want) = (None, None);
    let Some(mut entries) = Entries::of(body) else { return (None, None) };
    while let Ok(Some((key, value))) = entries.next_entry() {
        match key {
            b"id" => sender = value.bytes().and_then(Id::from_slice),
            b"want" => want = families(value),
            _ => {}
        }
    }
    (sender, want)
}

/// The families in a list of names; `None` if it names none that is known, which then counts as absent.
fn families(want: Item<'_>) -> Option<Families> {
    let mut families = Families { ipv4: false, ipv6: false };
    for name in want.list()?.take(8) {
        match name.bytes() {
            Some(b"n4") => families.ipv4 = true,
            Some(b"n6") => families.ipv6 = true,
            _ => {}
        }
    }
    (families.ipv4 || families.ipv6).then_some(families)
}

/// The arguments that some RPC knows.
#[derive(Default)]
struct Arguments<'a> {
    target: Option<Item<'a>>,
    info_hash: Option<Item<'a>>,
    port: Option<Item<'a>>,
    implied_port: Option<Item<'a>>,
    seed: Option<Item<'a>>,
    noseed: Option<Item<'a>>,
    scrape: Option<Item<'a>>,
    token: Option<Item<'a>>,
    v: Option<Item<'a>>,
    k: Option<Item<'a>>,
    sig: Option<Item<'a>>,
    seq: Option<Item<'a>>,
    salt: Option<Item<'a>>,
    cas: Option<Item<'a>>,
}

impl<'a> Arguments<'a> {
    /// Reads them, and tells how many tokens they are.
    fn read(args: &'a [u8]) -> (Arguments<'a>, usize) {
        let mut read = Arguments::default();
        let Some(mut entries) = Entries::of(args) else { return (read, 1) };
        // The envelope was read, so these are well formed.
        while let Ok(Some((key, value))) = entries.next_entry() {
            let place = match key {
                b"target" => &mut read.target,
                b"info_hash" => &mut read.info_hash,
                b"port" => &mut read.port,
                b"implied_port" => &mut read.implied_port,
                b"seed" => &mut read.seed,
                b"noseed" => &mut read.noseed,
                b"scrape" => &mut read.scrape,
                b"token" => &mut read.token,
                b"v" => &mut read.v,
                b"k" => &mut read.k,
                b"sig" => &mut read.sig,
                b"seq" => &mut read.seq,
                b"salt" => &mut read.salt,
                b"cas" => &mut read.cas,
                _ => continue,
            };
            *place = Some(value);
        }
        (read, entries.tokens())
    }

    fn announce(&self) -> Result<AnnouncePeer<'a>, PayloadError> {
        let info_hash = id(self.info_hash, "info_hash")?;
        let token = bytes(self.token, "token")?;
        let is_port_implied = self.implied_port.is_some_and(is_set);
        let port = self.port.and_then(Item::integer).and_then(|port| u16::try_from(port).ok());
        let port = match port {
            Some(port) if port > 0 || is_port_implied => port,
            None if is_port_implied && self.port.is_none() => 0,
            _ => return Err(PayloadError::Argument("port")),
        };
        let is_seed = self.seed.is_some_and(is_set);
        Ok(AnnouncePeer { info_hash, port, is_port_implied, is_seed, token })
    }

    fn put(&self) -> Result<PutItem<'a>, PayloadError> {
        let token = bytes(self.token, "token")?;
        let value = self.v.ok_or(PayloadError::Argument("v"))?;
        let target = self.target.and_then(Item::bytes).and_then(Id::from_slice);
        let cas = self.cas.map(|cas| cas.integer().ok_or(PayloadError::Argument("cas")));
        let proof = match (self.k, self.sig) {
            (None, None) => None,
            _ => Some(self.proof()?),
        };
        Ok(PutItem { target, token, value, proof, cas: cas.transpose()? })
    }

    fn proof(&self) -> Result<Proof<'a>, PayloadError> {
        let key = bytes(self.k, "k")?.try_into().map_err(|_| PayloadError::Argument("k"))?;
        let signature = bytes(self.sig, "sig")?.try_into();
        let signature = signature.map_err(|_| PayloadError::Argument("sig"))?;
        let seq = self.seq.and_then(Item::integer).ok_or(PayloadError::Argument("seq"))?;
        let salt = self.salt.map_or(Ok(&b""[..]), |salt| bytes(Some(salt), "salt"))?;
        Ok(Proof { key: PublicKey(key), salt, seq, signature: Signature(signature) })
    }
}

/// Reads the arguments of a request. Also returns how many tokens were read for it.
pub(in crate::wire) fn request_counting<'a>(
    name: &'a [u8],
    args: &'a [u8],
) -> (Result<Request<'a>, PayloadError>, usize) {
    let (args, tokens) = Arguments::read(args);
    (request(name, &args), tokens + AROUND_QUERY)
}

fn request<'a>(name: &'a [u8], args: &Arguments<'a>) -> Result<Request<'a>, PayloadError> {
    let query = match rpc_named(name) {
        Rpc::Ping => return Ok(Request::Ping),
        Rpc::FindNode => {
            return Ok(Request::FindNode { target: id(args.target, "target")? });
        }
        Rpc::Mainline(Kind::GetPeers) => Query::GetPeers(GetPeers {
            info_hash: id(args.info_hash, "info_hash")?,
            no_seeds: args.noseed.is_some_and(is_set),
            scrape: args.scrape.is_some_and(is_set),
        }),
        Rpc::Mainline(Kind::AnnouncePeer) => Query::AnnouncePeer(args.announce()?),
        Rpc::Mainline(Kind::Get) => Query::Get(GetItem {
            target: id(args.target, "target")?,
            seq: args.seq.and_then(Item::integer),
        }),
        Rpc::Mainline(Kind::Put) => Query::Put(args.put()?),
        Rpc::Mainline(Kind::SampleInfohashes) => {
            Query::SampleInfohashes { target: id(args.target, "target")? }
        }
        // Whoever asks something new about an id still learns who is near it, as BEP 5's nodes have it.
        Rpc::FindValue | Rpc::Store | Rpc::GetSocket | Rpc::Custom => {
            let target = id(args.target.or(args.info_hash), "target");
            let target = target.map_err(|_| PayloadError::UnknownRpc)?;
            return Ok(Request::FindNode { target });
        }
    };
    Ok(Request::Mainline(query))
}

fn id(item: Option<Item<'_>>, name: &'static str) -> Result<Id, PayloadError> {
    bytes(item, name).and_then(|id| Id::from_slice(id).ok_or(PayloadError::Argument(name)))
}

fn bytes<'a>(item: Option<Item<'a>>, name: &'static str) -> Result<&'a [u8], PayloadError> {
    item.and_then(Item::bytes).ok_or(PayloadError::Argument(name))
}

/// Whether a flag is set: any number but 0.
fn is_set(item: Item<'_>) -> bool {
    item.integer().is_some_and(|number| number != 0)
}

/// Reads the response to a request of that kind.
pub(in crate::wire) fn response(kind: Rpc, fields: &[u8]) -> Result<Response, PayloadError> {
    let fields = Fields::read(fields);
    let sender = fields.id.and_then(Item::bytes).and_then(Id::from_slice);
    let sender = sender.ok_or(PayloadError::Argument("id"))?;
    let closest = || fields.closest(&sender);
    let token = || {
        let token = fields.token.and_then(Item::bytes);
        token.filter(|token| token.len() <= MAX_TOKEN).map(Bytes::from)
    };
    let reply = match kind {
        Rpc::Ping => return Ok(Response::Pong),
        Rpc::FindNode => return Ok(Response::Nodes(closest())),
        Rpc::Mainline(Kind::AnnouncePeer | Kind::Put) => return Ok(Response::Stored),
        Rpc::Mainline(Kind::GetPeers) => Reply::Peers {
            peers: fields.peers(),
            filters: fields.filters().map(Box::new),
            closest: closest(),
            token: token(),
        },
        Rpc::Mainline(Kind::Get) => Reply::Item {
            value: fields.v.map(|value| Bytes::from(value.as_bytes())),
            key: array(fields.k).map(PublicKey),
            seq: fields.seq.and_then(Item::integer),
            signature: array(fields.sig).map(Signature),
            closest: closest(),
            token: token(),
        },
        Rpc::Mainline(Kind::SampleInfohashes) => {
            let number = |item: Option<Item<'_>>| item.and_then(Item::integer);
            // A node that does not know this RPC answers as it answers a find_node, without samples.
            let samples = bytes(fields.samples, "samples")?;
            let (samples, _) = samples.as_chunks::<{ Id::LEN }>();
            Reply::Sample {
                interval: number(fields.interval)
                    .and_then(|secs| secs.try_into().ok())
                    .unwrap_or(0),
                of: number(fields.num).and_then(|count| count.try_into().ok()).unwrap_or(0),
                info_hashes: samples.iter().take(MAX_SAMPLES).copied().map(Id::new).collect(),
                closest: closest(),
            }
        }
        Rpc::FindValue | Rpc::Store | Rpc::GetSocket | Rpc::Custom => {
            return Err(PayloadError::Shape);
        }
    };
    Ok(Response::Mainline(reply))
}

/// What some response has.
#[derive(Default)]
struct Fields<'a> {
    id: Option<Item<'a>>,
    nodes: Option<Item<'a>>,
    nodes6: Option<Item<'a>>,
    token: Option<Item<'a>>,
    values: Option<Item<'a>>,
    seeds: Option<Item<'a>>,
    peers: Option<Item<'a>>,
    v: Option<Item<'a>>,
    k: Option<Item<'a>>,
    sig: Option<Item<'a>>,
    seq: Option<Item<'a>>,
    interval: Option<Item<'a>>,
    num: Option<Item<'a>>,
    samples: Option<Item<'a>>,
}

impl<'a> Fields<'a> {
    fn read(fields: &'a [u8]) -> Fields<'a> {
        let mut read = Fields::default();
        let Some(mut entries) = Entries::of(fields) else { return read };
        while let Ok(Some((key, value))) = entries.next_entry() {
            let place = match key {
                b"id" => &mut read.id,
                b"nodes" => &mut read.nodes,
                b"nodes6" => &mut read.nodes6,
                b"token" => &mut read.token,
                b"values" => &mut read.values,
                // mldht writes the second.
                b"BFsd" | b"BFse" => &mut read.seeds,
                b"BFpe" => &mut read.peers,
                b"v" => &mut read.v,
                b"k" => &mut read.k,
                b"sig" => &mut read.sig,
                b"seq" => &mut read.seq,
                b"interval" => &mut read.interval,
                b"num" => &mut read.num,
                b"samples" => &mut read.samples,
                _ => continue,
            };
            *place = Some(value);
        }
        read
    }

    /// The contacts that are named, none of them twice, and not the one that names them.
    fn closest(&self, sender: &Id) -> Vec<Contact> {
        let nodes = self.nodes.and_then(Item::bytes).unwrap_or_default();
        let nodes6 = self.nodes6.and_then(Item::bytes).unwrap_or_default();
        let ipv4 = nodes.chunks_exact(Id::LEN + IPV4_LEN + PORT_LEN).take(MAX_CONTACTS);
        let ipv6 = nodes6.chunks_exact(Id::LEN + IPV6_LEN + PORT_LEN).take(MAX_CONTACTS);
        let mut named: Vec<Contact> = Vec::new();
        for node in ipv4.chain(ipv6) {
            let (id, at) = node.split_at(Id::LEN);
            let id = Id::from_slice(id).expect("20 bytes");
            let Some(address) = address(at).filter(is_sendable) else { continue };
            // One node may have the same id in the networks of both families.
            let is_it = |contact: &Contact| {
                contact.id == id && contact.address.is_ipv4() == address.is_ipv4()
            };
            if id != *sender && !named.iter().any(is_it) {
                named.push(Contact { id, address });
            }
        }
        named
    }

    fn peers(&self) -> Vec<SocketAddr> {
        let Some(values) = self.values.and_then(Item::list) else { return Vec::new() };
        let peers = values.filter_map(|peer| address(peer.bytes()?));
        peers.filter(is_sendable).take(MAX_PEERS).collect()
    }

    fn filters(&self) -> Option<Filters> {
        let filter = |item: Option<Item<'_>>| Filter::from_slice(item?.bytes()?);
        Some(Filters { seeds: filter(self.seeds)?, peers: filter(self.peers)? })
    }
}

fn array<const N: usize>(item: Option<Item<'_>>) -> Option<[u8; N]> {
    item?.bytes()?.try_into().ok()
}

/// A compact address.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<PORT_LEN>()?;
    let ip = match ip.len() {
        IPV4_LEN => IpAddr::from(<[u8; IPV4_LEN]>::try_from(ip).expect("4 bytes")),
        IPV6_LEN => IpAddr::from(<[u8; IPV6_LEN]>::try_from(ip).expect("16 bytes")),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}
