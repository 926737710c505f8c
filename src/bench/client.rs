//! The client: keeps a window of requests outstanding, checks every reply, takes the time.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

use super::host;
use super::questions::{NUMBER, Questions, gift, thanks};
use crate::message::Response;
use crate::net::socket::{self, ReceiveBatch, SendBatch};
use crate::wire::{Body, parse};

/// A request without a reply is lost after this: many times the slowest scheduler's pause.
const LOST_AFTER: Duration = Duration::from_millis(500);

/// How often to look for lost requests.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often to try to give a node a value: with a pause after each, as long as it may take to come up.
const GIFTS_MAX: u32 = 100;

/// How long to wait for a node to come up.
const STARTUP: Duration = Duration::from_secs(10);

/// The result of one round, or of several.
pub(super) struct Round {
    pub(super) answered: u64,
    pub(super) lost: u64,
    pub(super) wrong: u64,
    took: Duration,
    /// Nanoseconds from each request to its reply.
    latencies: Histogram<u64>,
    cpu: Option<Duration>,
}

impl Round {
    fn new() -> anyhow::Result<Round> {
        // Three digits are as exact as such measurements get.
        let latencies = Histogram::new(3)?;
        let (took, cpu) = (Duration::ZERO, None);
        Ok(Round { answered: 0, lost: 0, wrong: 0, took, latencies, cpu })
    }

    /// The sum of some rounds, at least one.
    pub(super) fn sum(rounds: Vec<Round>) -> Round {
        let sum = |mut sum: Round, round: Round| {
            sum.answered += round.answered;
            sum.lost += round.lost;
            sum.wrong += round.wrong;
            sum.took += round.took;
            sum.latencies += round.latencies;
            sum.cpu = sum.cpu.zip(round.cpu).map(|(a, b)| a + b);
            sum
        };
        rounds.into_iter().reduce(sum).expect("at least one round")
    }

    /// Replies a second.
    pub(super) fn rate(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }

    /// The latency that this share of the requests, 0 to 1, does not exceed.
    pub(super) fn latency_micros(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    /// CPU time of the server for each request, the system's work on its behalf included.
    pub(super) fn cpu_micros_each(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e6 / self.answered as f64)
    }

    /// Share of the time that the server was running, 0 to 1.
    pub(super) fn server_busy(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() / self.took.as_secs_f64())
    }
}

/// A place in the window.
#[derive(Clone, Copy)]
struct WindowSlot {
    /// Counts the requests of this slot, to tell a late reply from the awaited one.
    turn: u32,
    question: usize,
    sent: Instant,
    waits: bool,
}

pub(super) struct LoadClient {
    socket: UdpSocket,
    inbox: ReceiveBatch,
    outbox: SendBatch,
    window: Vec<WindowSlot>,
    buffer: Vec<u8>,
}

impl LoadClient {
    /// The kernel drops datagrams from anywhere but the target.
    pub(super) fn connect(target: SocketAddr, window: u32) -> anyhow::Result<LoadClient> {
        let any = match target {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = socket::bind(any)?;
        socket.connect(target).with_context(|| format!("cannot reach {target}"))?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let slot = WindowSlot { turn: 0, question: 0, sent: Instant::now(), waits: false };
        Ok(LoadClient {
            inbox: ReceiveBatch::new(),
            outbox: SendBatch::new(socket.local_addr()?),
            socket,
            window: vec![slot; window as usize],
            buffer: Vec::new(),
        })
    }

    /// Gives the node the value that is asked for.
    fn give(&mut self) -> anyhow::Result<()> {
        let mut token = Vec::new();
        for _ in 0..GIFTS_MAX {
            self.socket.send(&gift(&token))?;
            let mut buffer = [0; 2_048];
            let Ok(len) = self.socket.recv(&mut buffer) else {
                std::thread::sleep(LOOK_EVERY);
                continue;
            };
            match thanks(&buffer[..len]) {
                Some(Response::Stored) => return Ok(()),
                Some(Response::Refused { token: Some(wanted), .. }) => token = wanted,
                // It asks who asks.
                _ => {}
            }
        }
        bail!("the node does not keep a value")
    }

    /// Waits for the first right reply, and returns its length in bytes.
    pub(super) fn wait_until_answered(
        &mut self,
        questions: &mut Questions,
    ) -> anyhow::Result<usize> {
        if questions.wants_gift() {
            self.give()?;
        }
        let end = Instant::now() + STARTUP;
        while Instant::now() < end {
            self.ask(questions, 0);
            self.flush();
            if self.inbox.receive(&self.socket).is_err() {
                // Not there yet: refused at once, or silent.
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            let replies: Vec<Vec<u8>> = self.inbox.iter().map(|got| got.bytes.to_vec()).collect();
            for reply in replies {
                if let Some((_, true)) = self.accept(questions, &reply) {
                    return Ok(reply.len());
                }
            }
        }
        bail!("no right reply within {STARTUP:?}")
    }

    /// Asks for `time`, or until `count` requests have been answered. `server` is the process whose
    /// CPU time is counted.
    pub(super) fn run(
        &mut self,
        questions: &mut Questions,
        length: Duration,
        count: Option<u64>,
        server: Option<u32>,
    ) -> anyhow::Result<Round> {
        let mut round = Round::new()?;
        let cpu_before = server.and_then(host::cpu_time);
        let start = Instant::now();
        let (mut now, mut look) = (start, start + LOOK_EVERY);
        (0..self.window.len()).for_each(|slot| self.ask(questions, slot));
        self.flush();
        while now < start + length && count.is_none_or(|count| round.answered < count) {
            let received = self.inbox.receive(&self.socket);
            now = Instant::now();
            match received {
                Ok(()) => self.take_in(questions, &mut round, now),
                Err(error) if is_silence(error.kind()) => {}
                Err(error) => return Err(error).context("the target is gone"),
            }
            if now >= look {
                self.ask_lost_again(questions, &mut round, now);
                look = now + LOOK_EVERY;
            }
            self.flush();
        }
        round.took = now - start;
        let cpu_after = server.and_then(host::cpu_time);
        round.cpu = cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
        self.drain();
        Ok(round)
    }

    /// Checks the replies of a batch, and asks anew for each.
    fn take_in(&mut self, questions: &mut Questions, round: &mut Round, now: Instant) {
        let inbox = std::mem::take(&mut self.inbox);
        for got in inbox.iter() {
            let Some((slot, right)) = self.accept(questions, got.bytes) else { continue };
            round.answered += 1;
            round.wrong += u64::from(!right);
            let latency = now.saturating_duration_since(self.window[slot].sent);
            // No latency is beyond the histogram's range: it resizes itself.
            let _ = round.latencies.record(latency.as_nanos() as u64);
            self.ask(questions, slot);
        }
        self.inbox = inbox;
    }

    /// The slot that a datagram replies to, and whether the reply is right. `None`: it is no reply,
    /// or comes too late.
    fn accept(&mut self, questions: &mut Questions, reply: &[u8]) -> Option<(usize, bool)> {
        // An echo may be too short to be a message.
        let (slot, turn) = split(reply.get(NUMBER)?.try_into().expect("8 bytes"));
        let waiting = self.window.get_mut(slot).filter(|slot| slot.waits && slot.turn == turn)?;
        waiting.waits = false;
        Some((slot, questions.is_right(waiting.question, reply)))
    }

    fn ask(&mut self, questions: &mut Questions, number: usize) {
        let slot = &mut self.window[number];
        slot.turn = slot.turn.wrapping_add(1);
        slot.question = questions.ask(join(number, slot.turn), &mut self.buffer);
        slot.sent = Instant::now();
        slot.waits = true;
        self.outbox.push_to_peer(&self.buffer);
        if self.outbox.is_full() {
            self.flush();
        }
    }

    fn ask_lost_again(&mut self, questions: &mut Questions, round: &mut Round, now: Instant) {
        for number in 0..self.window.len() {
            if now.saturating_duration_since(self.window[number].sent) > LOST_AFTER {
                round.lost += 1;
                self.ask(questions, number);
            }
        }
    }

    fn flush(&mut self) {
        // The socket blocks until there is room.
        let _ = self.outbox.send(&self.socket);
    }

    /// Lets the last replies come in, so that the next round begins with silence.
    fn drain(&mut self) {
        let end = Instant::now() + LOST_AFTER;
        self.window.iter_mut().for_each(|slot| slot.waits = false);
        while Instant::now() < end && self.inbox.receive(&self.socket).is_ok() {}
    }
}

fn is_silence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn join(slot: usize, turn: u32) -> [u8; 8] {
    (((slot as u64) << 32) | u64::from(turn)).to_be_bytes()
}

fn split(number: [u8; 8]) -> (usize, u32) {
    let number = u64::from_be_bytes(number);
    ((number >> 32) as usize, number as u32)
}

/// One reply outside of any measurement.
pub(super) fn ask_once(socket: &UdpSocket, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_535];
    socket.send(request)?;
    loop {
        let len = socket.recv(&mut buffer)?;
        let reply = parse(&buffer[..len]);
        // A node may take the asker for a node, and ask back.
        if reply.is_ok_and(|reply| !matches!(reply.body, Body::Query(_))) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::questions::Workload;
    use crate::id::Id;
    use crate::message::{Response, RpcError, TransactionId};
    use crate::wire::{Dialect, Header, Message, emit};

    /// A server that answers pings as told: `None` is silence.
    fn server(
        mut reply: impl FnMut(u32, Header) -> Option<Vec<u8>> + Send + 'static,
    ) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            for number in 0.. {
                let (len, client) = socket.recv_from(&mut buffer).unwrap();
                let transaction = parse(&buffer[..len]).unwrap().transaction;
                let from = Id::of_name("server");
                let header = Header { dialect: Dialect::V1, from, transaction, asker: None };
                if let Some(reply) = reply(number, header) {
                    // The client may have gone.
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        address
    }

    fn written<'a>(header: &Header, message: impl Into<Message<'a>>) -> Vec<u8> {
        let mut out = Vec::new();
        emit(&mut out, header, message);
        out
    }

    fn pong(header: &Header) -> Vec<u8> {
        written(header, &Response::Pong)
    }

    fn round(server: SocketAddr, count: u64) -> Round {
        let mut questions = Questions::new(Workload::Ping);
        let mut client = LoadClient::connect(server, 8).unwrap();
        client.wait_until_answered(&mut questions).unwrap();
        client.run(&mut questions, Duration::from_secs(60), Some(count), None).unwrap()
    }

    #[test]
    fn right_replies_are_counted_with_their_latencies() {
        let round = round(server(|_, header| Some(pong(&header))), 1_000);
        assert!((1_000..1_008).contains(&round.answered));
        assert_eq!((round.lost, round.wrong), (0, 0));
        assert_eq!(round.latencies.len(), round.answered);
        assert!(round.latency_micros(0.5) <= round.latency_micros(0.99));
    }

    #[test]
    fn wrong_replies_are_told() {
        let reply = |number: u32, header: Header| match number % 4 {
            1 => Some(pong(&Header { from: Id::of_name("another"), ..header })),
            2 => Some([&pong(&header)[..30], b"\x00\x02le"].concat()),
            3 => Some(written(&header, RpcError::Failed)),
            _ => Some(pong(&header)),
        };
        let round = round(server(reply), 400);
        assert!((290..310).contains(&round.wrong), "{}", round.wrong);
    }

    #[test]
    fn a_reply_to_nothing_counts_for_nothing_and_a_lost_request_is_asked_again() {
        let reply = |number, header: Header| match number {
            20 => None,
            21 => Some(pong(&Header { transaction: TransactionId::new([0xff; 8]), ..header })),
            _ => Some(pong(&header)),
        };
        // Until the two are missed, the others take turns.
        let mut questions = Questions::new(Workload::Ping);
        let mut client = LoadClient::connect(server(reply), 8).unwrap();
        client.wait_until_answered(&mut questions).unwrap();
        let length = LOST_AFTER + 4 * LOOK_EVERY;
        let round = client.run(&mut questions, length, None, None).unwrap();
        assert_eq!((round.lost, round.wrong), (2, 0));
    }
}
