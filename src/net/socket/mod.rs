//! Datagrams in batches: [`ReceiveBatch`] receives and [`SendBatch`] sends many with one system call where
//! the system has one for that (Linux), one at a time elsewhere.
//!
//! No protocol and no event loop here. Both take any std socket, and wait if that socket blocks.
//! `bind_all` makes the nonblocking ones that a node uses: each hears one address family, so that no
//! IPv4 address comes dressed up as IPv6, and tells where a datagram came in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;

use socket2::{Domain, Protocol, Type};
use tracing::{debug, warn};

use crate::address::LocalEnd;
use crate::wire::MAX_DATAGRAM;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use system::ReceiveBatch;

/// Datagrams in a batch at the most: enough to spread the fixed cost of a system call, few enough
/// that the datagrams that arrive meanwhile never wait long.
pub const BATCH: usize = 32;

/// Bytes of a receive slot: a datagram that fills it is longer than any message, and is dropped for
/// that. Only the pages that datagrams really fill take up memory.
const SLOT: usize = MAX_DATAGRAM + 1;

/// An outbox counts as full from this many bytes on, so that a few large datagrams do not make it
/// grow.
const OUTBOX_BYTES: usize = 64 << 10;

/// The system is asked for this much in each direction; it may grant less. Linux counts some 800
/// bytes for a small datagram, so its default holds back only some 250 of them while the node is
/// busy.
const SOCKET_BUFFER: usize = 1 << 20;

/// Times that a datagram is tried again because the system had to report the failure of another first.
const SEND_TRIES: u32 = 4;

/// Ports that are tried to find one that is free for both families.
const PORTS_TRIED: u32 = 16;

/// What Linux, Windows and the others say where an address family is missing.
const NO_FAMILY: i32 = match (cfg!(target_os = "linux"), cfg!(windows)) {
    (true, _) => 97,
    (_, true) => 10_047,
    _ => 47,
};

/// A socket of a node.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: UdpSocket,
    /// Whether the system keeps forged loopback sources away. If it does not, the interface that it
    /// tells has to do, which also makes strangers of neighbours on this machine.
    is_guarded: bool,
}

impl Bound {
    /// Where a datagram came in, for judging its source.
    pub(super) fn local_end(&self, told: LocalEnd) -> LocalEnd {
        LocalEnd { is_outside: told.is_outside && !self.is_guarded, ..told }
    }
}

/// Binds a nonblocking UDP socket that hears one address family: `[::]` is all addresses of IPv6.
///
/// # Errors
/// Those of the system, most often that the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_after(address, |_| Ok(())).map(|bound| bound.socket)
}

/// Binds the sockets of a node, which tell where datagrams come in: one, and for `[::]` another one
/// of IPv4 on the same port. If the machine has only one of the families, there is only that one.
///
/// # Errors
/// Those of the system, with the address that they are about.
pub(super) fn bind_all(address: SocketAddr) -> Result<Vec<Bound>, (SocketAddr, io::Error)> {
    bind_all_with(address, |address| {
        bind_after(address, |socket| {
            system::tell_ends(socket, address.is_ipv4())?;
            system::tell_failures(socket, address.is_ipv4())
        })
    })
}

fn bind_all_with(
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<Bound>,
) -> Result<Vec<Bound>, (SocketAddr, io::Error)> {
    let bind = |address| bind(address).map_err(|error| (address, error));
    if address.is_ipv4() || !address.ip().is_unspecified() {
        return Ok(vec![bind(address)?]);
    }
    let ipv4 = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let mut tries = if address.port() == 0 { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        let six = match bind(address) {
            Err((_, error)) if is_without_family(&error) => {
                warn!("this machine has no IPv6; the node uses IPv4 alone");
                return Ok(vec![bind(ipv4(address.port()))?]);
            }
            bound => bound?,
        };
        let port = six.socket.local_addr().map_err(|error| (address, error))?.port();
        match bind(ipv4(port)) {
            Ok(four) => return Ok(vec![six, four]),
            Err((_, error)) if is_without_family(&error) => {
                warn!("this machine has no IPv4; the node uses IPv6 alone");
                return Ok(vec![six]);
            }
            Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_without_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_FAMILY)
}

/// Whether an error is about a datagram that was sent earlier and reached nobody. The system reports it
/// at the next call, whatever that is for, which then does nothing else.
pub(super) fn is_of_another(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

/// The next datagram that reached nobody: where it was to go, and as much of it as came back, written to
/// `bytes`. `None` if the next failure is another.
///
/// # Errors
/// Those of the system; `WouldBlock` if there is no more.
pub(super) fn receive_failure(
    socket: &UdpSocket,
    bytes: &mut [u8],
) -> io::Result<Option<(SocketAddr, usize)>> {
    system::receive_failure(socket, bytes)
}

/// Binds a socket after `set` has prepared it: datagrams that arrive in between would come without
/// that.
fn bind_after(
    address: SocketAddr,
    set: impl FnOnce(&UdpSocket) -> io::Result<()>,
) -> io::Result<Bound> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Smaller buffers only mean that more is lost under load.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    let socket = socket.into();
    // Without it, the queue has less room in a flood.
    let filtered = set_filter(&socket, &[]);
    if let Err(error) = &filtered {
        debug!(%error, "no filter before the socket's queue");
    }
    set(&socket)?;
    socket2::SockRef::from(&socket).bind(&address.into())?;
    Ok(Bound { socket, is_guarded: filtered.is_ok() })
}

/// A source whose datagrams the system should mostly drop before they take a place in the socket's
/// queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeptOut {
    /// Its address; for IPv6 the whole /64 is meant.
    pub(super) ip: IpAddr,
    /// Replies whose transaction id begins with these bytes are let in: somebody who merely forges
    /// the address does not know them. `None`: nothing is let in.
    pub(super) reply_prefix: Option<[u8; 4]>,
}

/// Makes the system drop datagrams that are longer than any message, and most of those from these
/// sources, before they take a place in the socket's queue. Replaces the filter before; [`bind`] sets
/// one that keeps nobody out.
///
/// # Errors
/// Those of the system; `Unsupported` where it has no such filter.
pub(super) fn set_filter(socket: &UdpSocket, kept_out: &[KeptOut]) -> io::Result<()> {
    system::set_filter(socket, kept_out)
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Who sent it, by its own account.
    pub source: SocketAddr,
    /// Where it came in; the default for sockets that do not tell.
    pub local: LocalEnd,
    /// All of it.
    pub bytes: &'a [u8],
}

/// Datagrams that wait to be sent, in one buffer that is used again and again.
///
/// [`push`](SendBatch::push) until [`is_full`](SendBatch::is_full), then [`send`](SendBatch::send).
pub struct SendBatch {
    local: SocketAddr,
    bytes: Vec<u8>,
    waiting: Vec<Parcel>,
    /// How many of `waiting` are on their way already.
    sent: usize,
    lost: u64,
    sender: system::Sender,
}

/// One datagram: its destination (`None`: the peer that the socket is connected to), the local end,
/// and its bytes.
struct Parcel {
    destination: Option<SocketAddr>,
    from: LocalEnd,
    bytes: Range<usize>,
}

/// The send buffer of the socket is full; the rest of the outbox is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked;

impl SendBatch {
    /// An empty outbox for a socket bound to that address.
    pub fn new(local: SocketAddr) -> SendBatch {
        SendBatch {
            local,
            bytes: Vec::new(),
            waiting: Vec::with_capacity(BATCH),
            sent: 0,
            lost: 0,
            sender: system::Sender::new(),
        }
    }

    /// Whether the socket can send there: only to its own address family.
    pub fn reaches(&self, destination: SocketAddr) -> bool {
        self.local.is_ipv4() == destination.is_ipv4()
    }

    /// Adds a datagram that is to leave from `from`. If that names nothing the system chooses; if
    /// the socket has only one address it is that one. A datagram that the socket [cannot
    /// send](SendBatch::reaches) is lost.
    pub fn push(&mut self, from: LocalEnd, destination: SocketAddr, bytes: &[u8]) {
        if !self.reaches(destination) {
            self.lost += 1;
            return;
        }
        let from = match from {
            LocalEnd { ip: Some(ip), scope, .. }
                if self.local.ip().is_unspecified() && ip.is_ipv4() == self.local.is_ipv4() =>
            {
                LocalEnd { ip: Some(ip), scope, is_outside: false }
            }
            _ => LocalEnd::default(),
        };
        self.add(from, Some(destination), bytes);
    }

    /// Adds a datagram for the peer that the socket is connected to.
    pub fn push_to_peer(&mut self, bytes: &[u8]) {
        self.add(LocalEnd::default(), None, bytes);
    }

    fn add(&mut self, from: LocalEnd, destination: Option<SocketAddr>, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.waiting.push(Parcel { destination, from, bytes: start..self.bytes.len() });
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
    /// [`clear`](SendBatch::clear).
    pub fn send(&mut self, socket: &UdpSocket) -> Result<(), Blocked> {
        self.send_through(|sender, batch, bytes| sender.send(socket, batch, bytes))
    }

    fn send_through(
        &mut self,
        mut send: impl FnMut(&mut system::Sender, &[Parcel], &[u8]) -> io::Result<usize>,
    ) -> Result<(), Blocked> {
        // The system takes datagrams together if they leave from the same end.
        let waiting = &mut self.waiting[self.sent..];
        if !waiting.is_sorted_by_key(|parcel| parcel.from) {
            waiting.sort_by_key(|parcel| parcel.from);
        }
        let mut tries = 0;
        while let Some(first) = self.waiting.get(self.sent) {
            let rest = self.waiting[self.sent..].iter().take(BATCH);
            let together = rest.take_while(|parcel| parcel.from == first.from).count();
            let batch = &self.waiting[self.sent..self.sent + together];
            match send(&mut self.sender, batch, &self.bytes) {
                Ok(sent) => {
                    self.sent += sent;
                    tries = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_of_another(&error) && tries < SEND_TRIES => tries += 1,
                Err(error) => {
                    tries = 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_os = "linux")]
    use crate::wire::Dialect;

    /// From where the system chooses.
    const ANY: LocalEnd = LocalEnd { ip: None, scope: 0, is_outside: false };

    fn blocking(address: &str) -> UdpSocket {
        let socket = bind(address.parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        socket
    }

    fn outbox(socket: &UdpSocket) -> SendBatch {
        SendBatch::new(socket.local_addr().unwrap())
    }

    /// Sends everything and takes in as many datagrams as given.
    fn carry(
        outbox: &mut SendBatch,
        from: &UdpSocket,
        to: &UdpSocket,
        count: usize,
    ) -> Vec<Vec<u8>> {
        outbox.send(from).unwrap();
        let mut inbox = ReceiveBatch::new();
        let mut received = Vec::new();
        while received.len() < count {
            inbox.receive(to).unwrap();
            assert!(inbox.iter().all(|got| got.source == from.local_addr().unwrap()));
            received.extend(inbox.iter().map(|got| got.bytes.to_vec()));
        }
        received
    }

    #[test]
    fn more_than_a_batch_arrives_in_order() {
        let (a, b) = (blocking("127.0.0.1:0"), blocking("127.0.0.1:0"));
        let mut outbox = outbox(&a);
        let sent: Vec<_> = (0..2 * BATCH as u8 + 1).map(|number| vec![number; 100]).collect();
        sent.iter().for_each(|bytes| outbox.push(ANY, b.local_addr().unwrap(), bytes));
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
            outbox.push(ANY, b.local_addr().unwrap(), &datagram);
            assert_eq!(carry(&mut outbox, &a, &b, 1), [datagram]);
        }
    }

    #[test]
    fn what_is_longer_than_any_message_takes_no_place_or_is_seen_to_be() {
        let (a, b) = (blocking("127.0.0.1:0"), blocking("127.0.0.1:0"));
        let mut outbox = outbox(&a);
        let to = b.local_addr().unwrap();
        for len in [MAX_DATAGRAM + 1, 65_507, 65_507, 65_507, 65_507, 1] {
            outbox.push(ANY, to, &vec![7; len]);
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
        outbox.push(ANY, to, b"first");
        outbox.push(ANY, to, &[0; 70_000]);
        outbox.push(ANY, "[::1]:9".parse().unwrap(), b"from IPv4 there is no way");
        outbox.push(ANY, to, b"last");
        let received = carry(&mut outbox, &a, &b, 2);
        assert_eq!(received, [b"first".to_vec(), b"last".to_vec()]);
        assert_eq!(outbox.lost(), 2);
    }

    #[test]
    fn what_a_full_send_buffer_keeps_back_is_sent_later_or_given_up() {
        let mut outbox = SendBatch::new("127.0.0.1:1".parse().unwrap());
        (0..5).for_each(|number| outbox.push_to_peer(&[number]));
        let mut seen = Vec::new();
        let mut room = 2;
        let mut send = |outbox: &mut SendBatch, more: usize| {
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
        let mut outbox = SendBatch::new("127.0.0.1:1".parse().unwrap());
        (0..3).for_each(|number| outbox.push_to_peer(&[number]));
        let mut script = [
            Err(io::ErrorKind::PermissionDenied.into()),
            Err(io::ErrorKind::Interrupted.into()),
            // That an earlier datagram reached nobody costs none.
            Err(io::ErrorKind::ConnectionRefused.into()),
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
        let mut inbox = ReceiveBatch::new();
        let error = inbox.receive(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(inbox.is_empty());
    }

    /// Which of `senders` a socket still hears, if each sends these bytes.
    #[cfg(target_os = "linux")]
    fn heard(socket: &UdpSocket, senders: &[&str], bytes: &[u8]) -> Vec<IpAddr> {
        let port = socket.local_addr().unwrap().port();
        for sender in senders {
            let sender = blocking(sender);
            let own = sender.local_addr().unwrap().ip();
            let to = if own.is_ipv4() { "127.0.0.1".parse().unwrap() } else { own };
            sender.send_to(bytes, SocketAddr::new(to, port)).unwrap();
        }
        // On loopback, sent datagrams are there at once.
        let mut heard = Vec::new();
        let mut inbox = ReceiveBatch::new();
        while inbox.receive(socket).is_ok() {
            heard.extend(inbox.iter().map(|got| got.source.ip()));
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
        // As many as there may be, the last among them.
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

    /// The head of a message: a call, and a transaction id that begins with `rpc_id`.
    #[cfg(target_os = "linux")]
    fn head(rpc_id: &[u8; 4], call: u8) -> Vec<u8> {
        let offsets = Dialect::V1.offsets().expect("they are the same in all of v1");
        let mut head = vec![0; offsets.call + 1];
        head[offsets.transaction..][..4].copy_from_slice(rpc_id);
        head[offsets.call] = call;
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
    fn a_wildcard_of_ipv6_is_a_socket_of_each_family_on_one_port() {
        let Ok(sockets) = bind_all("[::]:0".parse().unwrap()) else {
            panic!("every machine has a free port")
        };
        let locals: Vec<_> =
            sockets.iter().map(|bound| bound.socket.local_addr().unwrap()).collect();
        let [six, four] = locals[..] else {
            println!("skipped: this machine has one address family, {locals:?}");
            return;
        };
        assert_eq!((six.ip().to_string(), four.ip().to_string()), ("::".into(), "0.0.0.0".into()));
        assert_eq!(six.port(), four.port());
        for (socket, from, to) in [
            (&sockets[0].socket, "[::1]:0", "::1"),
            (&sockets[1].socket, "127.0.0.1:0", "127.0.0.1"),
        ] {
            let sender = blocking(from);
            let to = SocketAddr::new(to.parse().unwrap(), six.port());
            sender.send_to(b"hello", to).unwrap();
            let mut inbox = ReceiveBatch::new();
            socket.set_nonblocking(false).unwrap();
            inbox.receive(socket).unwrap();
            let got = inbox.iter().next().unwrap();
            assert_eq!((got.source, got.bytes), (sender.local_addr().unwrap(), &b"hello"[..]));
        }
    }

    #[test]
    fn a_port_that_one_family_has_taken_is_said_and_any_other_is_sought() {
        let taken = bind("0.0.0.0:0".parse().unwrap()).unwrap().local_addr().unwrap().port();
        let _four = bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, taken))).unwrap();
        let wanted = SocketAddr::new("::".parse().unwrap(), taken);
        match bind_all(wanted) {
            Err((address, error)) => {
                assert_eq!(address.to_string(), format!("0.0.0.0:{taken}"));
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
            Ok(sockets) => panic!("{sockets:?}"),
        }
        // The first ports turn out to be taken for IPv4.
        let left = std::cell::Cell::new(3);
        let sockets = bind_all_with("[::]:0".parse().unwrap(), |address| {
            if address.is_ipv4() && left.replace(left.get() - 1) > 0 {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            bind_after("127.0.0.1:0".parse().unwrap(), |_| Ok(()))
        });
        assert_eq!(sockets.unwrap().len(), 2);
    }

    #[test]
    fn a_machine_of_one_family_uses_that_one() {
        for error in [NO_FAMILY, 0] {
            for missing_is_ipv4 in [false, true] {
                let sockets = bind_all_with("[::]:7".parse().unwrap(), |address| {
                    if address.is_ipv4() != missing_is_ipv4 {
                        assert_eq!(address.port() == 7, !address.is_ipv4() || !missing_is_ipv4);
                        return bind_after("127.0.0.1:0".parse().unwrap(), |_| Ok(()));
                    }
                    Err(match error {
                        0 => io::ErrorKind::AddrNotAvailable.into(),
                        code => io::Error::from_raw_os_error(code),
                    })
                });
                assert_eq!(sockets.unwrap().len(), 1);
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_asked_at_an_address_is_answered_from_it() {
        for (wildcard, asked) in [
            ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.9.9.9"][..]),
            ("[::]:0", &["::1", "127.0.0.1", "127.0.0.2"]),
        ] {
            let sockets = bind_all(wildcard.parse().unwrap()).unwrap();
            for (socket, ip) in
                sockets.iter().flat_map(|bound| asked.iter().map(move |ip| (&bound.socket, ip)))
            {
                let local = socket.local_addr().unwrap();
                let to = SocketAddr::new(ip.parse().unwrap(), local.port());
                if to.is_ipv4() != local.is_ipv4() {
                    continue;
                }
                let askers = [(); 3]
                    .map(|()| blocking(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }));
                for (number, asker) in askers.iter().enumerate() {
                    asker.connect(to).unwrap();
                    asker.send(&[number as u8]).unwrap();
                }
                let mut inbox = ReceiveBatch::new();
                let mut outbox = outbox(socket);
                while inbox.receive(socket).is_ok() {
                    for got in inbox.iter() {
                        assert_eq!(got.local, LocalEnd { ip: Some(to.ip()), ..ANY });
                        outbox.push(got.local, got.source, got.bytes);
                    }
                }
                outbox.send(socket).unwrap();
                for (number, asker) in askers.iter().enumerate() {
                    let mut buffer = [9];
                    // Connected, it hears nothing from elsewhere.
                    assert_eq!(asker.recv(&mut buffer).unwrap(), 1);
                    assert_eq!(buffer, [number as u8]);
                }
            }
        }
    }

    #[test]
    fn what_leaves_from_one_end_goes_together_and_in_order() {
        let mut outbox = SendBatch::new("0.0.0.0:1".parse().unwrap());
        let to = "10.0.0.9:1".parse().unwrap();
        let ends = [1, 2].map(|host| LocalEnd { ip: Some([10, 0, 0, host].into()), ..ANY });
        for number in 0..6_u8 {
            outbox.push(ends[usize::from(number) % 2], to, &[number]);
        }
        outbox.push(LocalEnd { is_outside: true, ..ends[0] }, to, &[6]);
        let mut batches = Vec::new();
        outbox
            .send_through(|_, batch, bytes| {
                batches.push(batch.iter().map(|p| bytes[p.bytes.start]).collect::<Vec<_>>());
                Ok(batch.len())
            })
            .unwrap();
        assert_eq!(batches, [vec![0, 2, 4, 6], vec![1, 3, 5]]);
    }

    #[test]
    fn a_socket_of_one_address_needs_no_telling() {
        let mut outbox = SendBatch::new("10.0.0.1:1".parse().unwrap());
        let end = LocalEnd { ip: Some([10, 0, 0, 1].into()), ..ANY };
        outbox.push(end, "10.0.0.9:1".parse().unwrap(), b"x");
        assert_eq!(outbox.waiting[0].from, ANY);
    }
}
