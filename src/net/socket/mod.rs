//! Datagrams in batches: [`Inbox`] receives and [`Outbox`] sends many with one system call where
//! the system has one for that (Linux), one at a time elsewhere.
//!
//! No protocol and no event loop here. Both take any std socket, and wait where that socket
//! blocks. [`bind`] makes the nonblocking one that a node uses.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::Range;

use socket2::{Domain, Protocol, Type};
use tracing::debug;

use crate::wire::v1::MAX_DATAGRAM;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use system::Inbox;

/// Datagrams in a batch at the most: a system call's fixed cost is spread thin enough, and what
/// has arrived meanwhile never waits long.
pub const BATCH: usize = 32;

/// Bytes of a receive slot: what fills it is longer than any message, and dropped for that. Only the
/// pages that datagrams really fill take up memory.
const SLOT: usize = MAX_DATAGRAM + 1;

/// An outbox counts as full from here on, so that few large datagrams do not make it grow.
const OUTBOX_BYTES: usize = 64 << 10;

/// Asked of the system for each direction; it may grant less. Linux counts some 800 bytes for a
/// small datagram, so its default holds back only some 250 of them while the node is busy.
const SOCKET_BUFFER: usize = 1 << 20;

/// Binds a nonblocking UDP socket. One bound to `[::]` serves IPv4 too.
///
/// # Errors
/// Those of the system, most often that the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // Smaller buffers only mean that more is lost under load.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    let socket = socket.into();
    // Where it is not to be had, the queue has less room in a flood.
    if let Err(error) = set_filter(&socket, &[]) {
        debug!(%error, "no filter before the socket's queue");
    }
    socket2::SockRef::from(&socket).bind(&address.into())?;
    Ok(socket)
}

/// A source of which the system is to drop most before it takes a place in the socket's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeptOut {
    /// Its address; of IPv6 the whole /64 is meant.
    pub(super) ip: IpAddr,
    /// Replies whose rpc id begins so are let in: who only writes this address on its datagrams does
    /// not know how. `None`: nothing is.
    pub(super) reply_prefix: Option<[u8; 4]>,
}

/// Has the system drop what is longer than any message, and most of what comes from these sources,
/// before it takes a place in the socket's queue. Replaces what was asked for before; [`bind`] asks for
/// a filter that keeps nobody out.
///
/// # Errors
/// Those of the system; `Unsupported` where it has no such filter.
pub(super) fn set_filter(socket: &UdpSocket, kept_out: &[KeptOut]) -> io::Result<()> {
    system::set_filter(socket, kept_out)
}

/// An address as an IPv4-only node would write it, if it is one in IPv6's clothes.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), v6.port())
        }
        _ => address,
    }
}

/// Datagrams that wait to be sent, in one buffer that is used again and again.
///
/// [`push`](Outbox::push) until [`is_full`](Outbox::is_full), then [`send`](Outbox::send).
pub struct Outbox {
    local: SocketAddr,
    bytes: Vec<u8>,
    waiting: Vec<Parcel>,
    /// How many of `waiting` are on their way already.
    sent: usize,
    lost: u64,
    sender: system::Sender,
}

/// One datagram: where to (`None`: the peer that the socket is connected to), and which bytes.
struct Parcel {
    destination: Option<SocketAddr>,
    bytes: Range<usize>,
}

/// The send buffer of the socket is full; the rest of the outbox is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked;

impl Outbox {
    /// An empty outbox for a socket bound to that address.
    pub fn new(local: SocketAddr) -> Outbox {
        Outbox {
            local,
            bytes: Vec::new(),
            waiting: Vec::with_capacity(BATCH),
            sent: 0,
            lost: 0,
            sender: system::Sender::new(),
        }
    }

    /// Adds a datagram; one that this socket cannot send there (IPv6 from IPv4) is lost. Returns
    /// whether it was added.
    pub fn push(&mut self, destination: SocketAddr, bytes: &[u8]) -> bool {
        let reachable = reachable(&self.local, destination);
        match reachable {
            Some(destination) => self.add(Some(destination), bytes),
            None => self.lost += 1,
        }
        reachable.is_some()
    }

    /// Adds a datagram for the peer that the socket is connected to.
    pub fn push_to_peer(&mut self, bytes: &[u8]) {
        self.add(None, bytes);
    }

    fn add(&mut self, destination: Option<SocketAddr>, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.waiting.push(Parcel { destination, bytes: start..self.bytes.len() });
    }

    /// Whether it is time to send. What is added nevertheless is kept.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= BATCH || self.bytes.len() >= OUTBOX_BYTES
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends everything. A datagram that the system refuses (too large, no route, a destination
    /// that answered with an ICMP error) is lost and the rest goes on, as UDP has it.
    ///
    /// # Errors
    /// If the socket's send buffer is full: wait until it is writable and send again, or
    /// [`clear`](Outbox::clear).
    pub fn send(&mut self, socket: &UdpSocket) -> Result<(), Blocked> {
        self.send_through(|sender, batch, bytes| sender.send(socket, batch, bytes))
    }

    fn send_through(
        &mut self,
        mut send: impl FnMut(&mut system::Sender, &[Parcel], &[u8]) -> io::Result<usize>,
    ) -> Result<(), Blocked> {
        while self.sent < self.waiting.len() {
            let end = self.waiting.len().min(self.sent + BATCH);
            let batch = &self.waiting[self.sent..end];
            match send(&mut self.sender, batch, &self.bytes) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // It is about the first of them; the others have not been tried yet.
                    debug!(destination = ?batch[0].destination, %error, "not sent");
                    self.sent += 1;
                    self.lost += 1;
                }
            }
        }
        self.clear();
        Ok(())
    }

    /// Gives up on what still waits.
    pub fn clear(&mut self) {
        self.lost += (self.waiting.len() - self.sent) as u64;
        self.sent = 0;
        self.waiting.clear();
        self.bytes.clear();
    }

    /// How many datagrams were never sent, of all since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// The destination as the socket has to be told it; `None` if it cannot send there.
fn reachable(local: &SocketAddr, destination: SocketAddr) -> Option<SocketAddr> {
    match (local.ip(), destination) {
        (IpAddr::V4(_), SocketAddr::V4(_)) | (IpAddr::V6(_), SocketAddr::V6(_)) => {
            Some(destination)
        }
        (IpAddr::V6(_), SocketAddr::V4(v4)) => {
            Some(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into())
        }
        (IpAddr::V4(_), SocketAddr::V6(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_os = "linux")]
    use crate::wire::v1;

    fn blocking(address: &str) -> UdpSocket {
        let socket = bind(address.parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket
    }

    fn outbox(socket: &UdpSocket) -> Outbox {
        Outbox::new(socket.local_addr().unwrap())
    }

    /// Sends everything and takes in as many datagrams as given.
    fn carry(outbox: &mut Outbox, from: &UdpSocket, to: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        outbox.send(from).unwrap();
        let mut inbox = Inbox::new();
        let mut received = Vec::new();
        while received.len() < count {
            inbox.receive(to).unwrap();
            assert!(inbox.iter().all(|(source, _)| source == from.local_addr().unwrap()));
            received.extend(inbox.iter().map(|(_, bytes)| bytes.to_vec()));
        }
        received
    }

    #[test]
    fn more_than_a_batch_arrives_in_order() {
        let (a, b) = (blocking("127.0.0.1:0"), blocking("127.0.0.1:0"));
        let mut outbox = outbox(&a);
        let sent: Vec<_> = (0..2 * BATCH as u8 + 1).map(|number| vec![number; 100]).collect();
        sent.iter().for_each(|bytes| _ = outbox.push(b.local_addr().unwrap(), bytes));
        assert!(outbox.is_full());
        assert_eq!(carry(&mut outbox, &a, &b, sent.len()), sent);
        assert!(outbox.is_empty());
        assert_eq!(outbox.lost(), 0);
    }

    #[test]
    fn datagrams_of_all_sizes_arrive_whole() {
        let (a, b) = (blocking("127.0.0.1:0"), blocking("127.0.0.1:0"));
        let mut outbox = outbox(&a);
        for len in [0, 1, 1_400, MAX_DATAGRAM] {
            let datagram = vec![7; len];
            outbox.push(b.local_addr().unwrap(), &datagram);
            assert_eq!(carry(&mut outbox, &a, &b, 1), [datagram]);
        }
    }

    #[test]
    fn what_is_longer_than_any_message_takes_no_place_or_is_seen_to_be() {
        let (a, b) = (blocking("127.0.0.1:0"), blocking("127.0.0.1:0"));
        let mut outbox = outbox(&a);
        let to = b.local_addr().unwrap();
        for len in [MAX_DATAGRAM + 1, 65_507, 65_507, 65_507, 65_507, 1] {
            outbox.push(to, &vec![7; len]);
        }
        let expected = if cfg!(target_os = "linux") { 1 } else { 6 };
        let received = carry(&mut outbox, &a, &b, expected);
        assert!(received[..expected - 1].iter().all(|bytes| bytes.len() == MAX_DATAGRAM + 1));
        assert_eq!(received[expected - 1], [7]);
    }

    #[test]
    fn a_refused_datagram_does_not_hold_up_the_others() {
        let (a, b) = (blocking("127.0.0.1:0"), blocking("127.0.0.1:0"));
        let to = b.local_addr().unwrap();
        let mut outbox = outbox(&a);
        outbox.push(to, b"first");
        outbox.push(to, &[0; 70_000]);
        outbox.push("[::1]:9".parse().unwrap(), b"from IPv4 there is no way");
        outbox.push(to, b"last");
        let received = carry(&mut outbox, &a, &b, 2);
        assert_eq!(received, [b"first".to_vec(), b"last".to_vec()]);
        assert_eq!(outbox.lost(), 2);
    }

    #[test]
    fn what_a_full_send_buffer_keeps_back_is_sent_later_or_given_up() {
        let mut outbox = Outbox::new("127.0.0.1:1".parse().unwrap());
        (0..5).for_each(|number| outbox.push_to_peer(&[number]));
        let mut seen = Vec::new();
        let mut room = 2;
        let mut send = |outbox: &mut Outbox, more: usize| {
            room += more;
            outbox.send_through(|_, batch, bytes| {
                if room == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                room -= 1;
                seen.push(bytes[batch[0].bytes.start]);
                Ok(1)
            })
        };
        assert_eq!(send(&mut outbox, 0), Err(Blocked));
        assert_eq!(send(&mut outbox, 2), Err(Blocked));
        outbox.clear();
        assert_eq!(send(&mut outbox, 2), Ok(()));
        assert_eq!(seen, [0, 1, 2, 3]);
        assert_eq!(outbox.lost(), 1);
    }

    #[test]
    fn an_error_costs_one_datagram_and_an_interruption_none() {
        let mut outbox = Outbox::new("127.0.0.1:1".parse().unwrap());
        (0..3).for_each(|number| outbox.push_to_peer(&[number]));
        let mut script = [
            Err(io::ErrorKind::ConnectionRefused.into()),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(2),
        ]
        .into_iter();
        outbox.send_through(|_, _, _| script.next().unwrap()).unwrap();
        assert_eq!(outbox.lost(), 1);
        assert!(script.next().is_none());
    }

    #[test]
    fn an_idle_nonblocking_socket_would_block() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut inbox = Inbox::new();
        let error = inbox.receive(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(inbox.is_empty());
    }

    /// Which of these senders a socket still hears, if each sends these bytes.
    #[cfg(target_os = "linux")]
    fn heard(socket: &UdpSocket, senders: &[&str], bytes: &[u8]) -> Vec<IpAddr> {
        let port = socket.local_addr().unwrap().port();
        for sender in senders {
            let sender = blocking(sender);
            let own = sender.local_addr().unwrap().ip();
            let to = if own.is_ipv4() { "127.0.0.1".parse().unwrap() } else { own };
            sender.send_to(bytes, SocketAddr::new(to, port)).unwrap();
        }
        // On loopback what was sent is there.
        let mut heard = Vec::new();
        let mut inbox = Inbox::new();
        while inbox.receive(socket).is_ok() {
            heard.extend(inbox.iter().map(|(source, _)| source.ip()));
        }
        heard
    }

    #[cfg(target_os = "linux")]
    fn keep_out(socket: &UdpSocket, kept_out: &[IpAddr]) {
        let all = |&ip: &IpAddr| KeptOut { ip, reply_prefix: None };
        set_filter(socket, &kept_out.iter().map(all).collect::<Vec<_>>()).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_is_kept_out_is_not_heard_and_all_others_are() {
        let all = ["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"];
        let [one, two, three] = all.map(|text| text.parse::<SocketAddr>().unwrap().ip());
        let socket = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let heard = || heard(&socket, &all, b"hello");
        assert_eq!(heard(), [one, two, three]);
        keep_out(&socket, &[two]);
        assert_eq!(heard(), [one, three]);
        // As many as there may be, among them the last.
        let mut many: Vec<IpAddr> = (0..15).map(|number| [10, 0, 0, number].into()).collect();
        many.push(three);
        keep_out(&socket, &many);
        assert_eq!(heard(), [one, two]);
        keep_out(&socket, &[]);
        assert_eq!(heard(), [one, two, three]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn ipv6_is_kept_out_by_its_network() {
        let Ok(socket) = bind("[::1]:0".parse().unwrap()) else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        let hears = || !heard(&socket, &["[::1]:0"], b"hello").is_empty();
        // ::1 is in ::/64, but not in 0:0:0:1::/64.
        for (kept_out, is_heard) in [
            (vec!["fd77::1", "10.0.0.1"], true),
            (vec!["0:0:0:1::1", "0:0:1::"], true),
            (vec!["fd77::1", "::2"], false),
        ] {
            let kept_out: Vec<IpAddr> = kept_out.iter().map(|text| text.parse().unwrap()).collect();
            keep_out(&socket, &kept_out);
            assert_eq!(hears(), is_heard, "{kept_out:?}");
        }
    }

    /// The head of a message: a call, and an rpc id that begins so.
    #[cfg(target_os = "linux")]
    fn head(rpc_id: &[u8; 4], call: u8) -> Vec<u8> {
        let mut head = vec![0; v1::CALL_AT + 1];
        head[v1::RPC_ID_AT..][..4].copy_from_slice(rpc_id);
        head[v1::CALL_AT] = call;
        head
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn of_who_is_kept_out_replies_that_nobody_can_forge_are_heard() {
        for sender in ["127.0.0.2:0", "[::1]:0"] {
            let ip = sender.parse::<SocketAddr>().unwrap().ip();
            let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::1]:0" };
            let Ok(socket) = bind(any.parse().unwrap()) else {
                println!("skipped: this machine has no IPv6");
                continue;
            };
            let other = "127.0.0.9".parse().unwrap();
            let mut kept_out = [KeptOut { ip: other, reply_prefix: Some(*b"none") }; 16];
            kept_out[7] = KeptOut { ip, reply_prefix: Some(*b"good") };
            set_filter(&socket, &kept_out).unwrap();
            let hears = |bytes: &[u8]| !heard(&socket, &[sender], bytes).is_empty();
            for reply in [129, 130, 131] {
                assert!(hears(&head(b"good", reply)), "{ip} {reply}");
                assert!(hears(&[head(b"good", reply), vec![7; 1_000]].concat()), "{ip} {reply}");
                assert!(!hears(&head(b"none", reply)) && !hears(&head(b"goof", reply)));
            }
            assert!(!hears(&head(b"good", 1)), "a request");
            let whole = head(b"good", 129);
            (0..whole.len()).for_each(|len| assert!(!hears(&whole[..len]), "{len} bytes"));
        }
    }

    #[test]
    fn ipv6_carries_ipv4_too() {
        let Ok(both) = bind("[::]:0".parse().unwrap()) else {
            println!("skipped: this machine has no IPv6");
            return;
        };
        both.set_nonblocking(false).unwrap();
        let four = blocking("127.0.0.1:0");
        let to_four = four.local_addr().unwrap();
        let mut there = outbox(&both);
        there.push(to_four, b"to IPv4");
        there.send(&both).unwrap();
        let mut inbox = Inbox::new();
        inbox.receive(&four).unwrap();
        assert_eq!(inbox.iter().next().unwrap().1, b"to IPv4");
        let mut back = outbox(&four);
        let both_port = both.local_addr().unwrap().port();
        back.push(([127, 0, 0, 1], both_port).into(), b"from IPv4");
        back.send(&four).unwrap();
        let mut inbox = Inbox::new();
        inbox.receive(&both).unwrap();
        assert_eq!(inbox.iter().next().unwrap(), (to_four, &b"from IPv4"[..]));
    }
}
