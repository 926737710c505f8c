//! `kademlua ping`: asks whether a node answers, in such a way that it remembers nobody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::id::Id;
use crate::message::{Request, TransactionId};
use crate::net::{Endpoint, loopback_id};
use crate::shell::say;
use crate::wire::{Body, Dialect, Header, emit, parse};

use super::node::parse_endpoint;

/// How long each try waits for its answer. Datagrams get lost on a loaded machine even on loopback.
const TRIES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// What `ping` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node, by address or host name; a port alone is one of 127.0.0.1
    #[arg(value_name = "HOST:PORT", value_parser = parse_endpoint)]
    node: Endpoint,
}

/// Asks at one address after the other until the node answers or the tries are used up.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let resolved = runtime.block_on(arguments.node.resolve());
    runtime.shutdown_background();
    let addresses = resolved.with_context(|| arguments.node.to_string())?;
    let mut failure = None;
    for address in addresses {
        match ping(address) {
            Ok(answer) => return tell(address, &answer),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.expect("a name has an address"))
}

fn tell(node: SocketAddr, Pong { id, took }: &Pong) -> anyhow::Result<()> {
    say(format_args!("{node} {id}: {:.2} ms", took.as_secs_f64() * 1e3))?;
    Ok(())
}

fn ping(node: SocketAddr) -> anyhow::Result<Pong> {
    let any: IpAddr = match node {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asked = || -> std::io::Result<Option<Pong>> {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(node)?;
        for within in TRIES {
            if let Some(answer) = ask(&socket, node, within)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    };
    match asked().with_context(|| node.to_string())? {
        Some(answer) => Ok(answer),
        None => bail!("{node}: no answer in time"),
    }
}

struct Pong {
    id: Id,
    took: Duration,
}

/// Sends one ping. On loopback it leaves no trace, see [`loopback_id`]; elsewhere the sender is gone when the node
/// asks back.
fn ask(socket: &UdpSocket, node: SocketAddr, within: Duration) -> std::io::Result<Option<Pong>> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(std::io::Error::other)?;
    let header = Header {
        dialect: Dialect::V1,
        from: loopback_id(node.port()),
        transaction: TransactionId::new(number),
        asker: None,
    };
    let mut request = Vec::new();
    emit(&mut request, &header, &Request::Ping);
    let sent = Instant::now();
    socket.send(&request)?;
    let mut buffer = [0; 2048];
    loop {
        let left = within.saturating_sub(sent.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if is_silence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Ok(answer) = parse(&buffer[..len])
            && answer.transaction == header.transaction
            && matches!(answer.body, Body::Answer(_))
            && let Some(id) = answer.sender
        {
            return Ok(Some(Pong { id, took: sent.elapsed() }));
        }
    }
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
