//! A node's own datagrams in a pcap file, as Wireshark and tcpdump read it.
//!
//! The node sees UDP payloads and no packets: IP and UDP headers are made up around them, with
//! checksums (link type 101: packets that begin with their IP header). If the node is bound to no
//! particular address, the file shows the address from which the system would send to the peer. The
//! file is written on a thread of its own, which waits for the disk; packets wait for it in a bounded
//! queue, and packets that find no room there are counted as lost.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::UNIX_EPOCH;

use etherparse::PacketBuilder;
use tokio::sync::oneshot;
use tracing::error;

use super::observer::{Losses, Source, Tap, tap};
use crate::control::{CaptureView, Captured, Direction, Packet, Sight};
use crate::state::{Access, FolderError, open_plain};

/// Times in nanoseconds, numbers in the order of this machine's bytes: readers tell by the magic.
const MAGIC: u32 = 0xa1b2_3c4d;

/// The magics of all pcap files, whatever the byte order and the unit of time.
const MAGICS: [[u8; 4]; 4] = [
    0xa1b2_3c4d_u32.to_le_bytes(),
    0xa1b2_3c4d_u32.to_be_bytes(),
    0xa1b2_c3d4_u32.to_le_bytes(),
    0xa1b2_c3d4_u32.to_be_bytes(),
];

/// Longest packet: an IPv6 header and all that its length field can count.
const SNAP_LEN: u32 = 40 + 65_535;

/// LINKTYPE_RAW: the packet begins with its IP header, of either version.
const LINK_TYPE: u32 = 101;

/// What most systems send with. The real one is not known here.
const HOP_LIMIT: u8 = 64;

/// Bytes written at once: under load one system call serves some hundred packets.
const BUFFER: usize = 64 << 10;

/// Addresses of peers for which the own address is remembered.
const OWN_ADDRESSES: usize = 1_024;

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone; the capture does not begin.
    Keep,
    /// Write over it if it is a pcap file.
    Replace,
}

/// Why a capture could not begin, or how it failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] super::Stopped),
    /// One is being written.
    #[error("{} is still being written", .0.display())]
    Running(PathBuf),
    /// The file is there, and was to be kept.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The file was to be replaced, but is no capture.
    #[error("{} is no pcap file; it was left alone", .0.display())]
    NoCapture(PathBuf),
    /// Writing has failed.
    #[error("{}: {reason}; it holds the {packets} packets before", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Packets in it, all whole.
        packets: u64,
        /// What the system said.
        reason: io::Error,
    },
    /// The system cannot open the file.
    #[error("{}: {reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// What the writing thread tells about its progress.
#[derive(Debug, Default)]
struct Progress {
    packets: AtomicU64,
    bytes: AtomicU64,
    unfit: AtomicU64,
}

/// A capture as the node holds it.
#[derive(Debug)]
pub(super) struct RunningCapture {
    pub(super) source: Source,
    written: Written,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// What there is to tell about a capture.
#[derive(Clone, Debug)]
struct Written {
    file: PathBuf,
    progress: Arc<Progress>,
    losses: Losses,
}

impl Written {
    fn captured(&self) -> Captured {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Captured {
            file: self.file.clone(),
            packets: read(&self.progress.packets),
            bytes: read(&self.progress.bytes),
            lost: self.losses.count() + read(&self.progress.unfit),
        }
    }
}

/// The other end of a [`RunningCapture`]: what the writing thread will need, once there is a file.
pub(super) struct BegunCapture {
    packets: Tap,
    written: Written,
    ended: oneshot::Sender<io::Result<()>>,
}

/// A capture that is not written yet: its packets wait.
pub(super) fn begin(file: &Path) -> (RunningCapture, BegunCapture) {
    let (source, packets) = tap();
    let (sender, ended) = oneshot::channel();
    let progress = Arc::default();
    let written = Written { file: file.to_owned(), progress, losses: packets.losses() };
    (
        RunningCapture { source, written: written.clone(), ended },
        BegunCapture { packets, written, ended: sender },
    )
}

impl RunningCapture {
    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.written.file
    }

    /// Whether more is written; it is not after an error.
    pub(super) fn goes_on(&self) -> bool {
        self.source.is_open()
    }

    pub(super) fn view(&self) -> CaptureView {
        CaptureView { running: self.goes_on(), captured: Some(self.written.captured()) }
    }

    /// Waits until all packets so far are in the file.
    ///
    /// # Errors
    /// If writing failed; the packets written before that are a whole capture.
    pub(super) async fn end(self) -> Result<Captured, CaptureError> {
        let RunningCapture { source, written, ended } = self;
        drop(source);
        // A thread that never began has written nothing.
        match ended.await.unwrap_or(Ok(())) {
            Ok(()) => Ok(written.captured()),
            Err(reason) => {
                let Captured { packets, .. } = written.captured();
                Err(CaptureError::Write { file: written.file, packets, reason })
            }
        }
    }
}

impl BegunCapture {
    /// Opens the file and starts the thread that writes it.
    ///
    /// # Errors
    /// If there can be no such file.
    pub(super) fn write(self, existing: Existing, local: SocketAddr) -> Result<(), CaptureError> {
        let BegunCapture { packets, written, ended } = self;
        let name = written.file.clone();
        let failed = |reason| CaptureError::File { file: name.clone(), reason };
        let mut writer = CaptureWriter::new(open(&name, existing)?, local, written.progress);
        writer.put_header();
        writer.flush().map_err(failed)?;
        let run = move || {
            let outcome = writer.write_all(packets);
            if let Err(error) = &outcome {
                error!(file = %written.file.display(), %error, "the capture ends");
            }
            // Nobody may wait for it.
            let _ = ended.send(outcome);
        };
        let thread = thread::Builder::new().name("kademlua-pcap".into()).spawn(run);
        thread.map(drop).map_err(failed)
    }
}

fn open(file: &Path, existing: Existing) -> Result<File, CaptureError> {
    let failed = |reason| CaptureError::File { file: file.to_owned(), reason };
    match OpenOptions::new().write(true).create_new(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        opened => return opened.map_err(failed),
    }
    if existing == Existing::Keep {
        return Err(CaptureError::Exists(file.to_owned()));
    }
    // In a folder that others share it may be anything, and opening a pipe would wait.
    let mut there = match open_plain(file, Access::Write) {
        Err(FolderError::Unsafe { .. }) => return Err(CaptureError::NoCapture(file.to_owned())),
        Err(FolderError::Io(error)) => return Err(failed(error)),
        Ok(there) => there,
    };
    if !is_capture(&mut there).map_err(failed)? {
        return Err(CaptureError::NoCapture(file.to_owned()));
    }
    there.set_len(0).and_then(|()| there.rewind()).map_err(failed)?;
    Ok(there)
}

fn is_capture(file: &mut File) -> io::Result<bool> {
    let mut magic = [0; 4];
    match file.read_exact(&mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| MAGICS.contains(&magic)),
    }
}

/// Puts packets into a file.
struct CaptureWriter<F> {
    file: F,
    own: OwnAddress,
    progress: Arc<Progress>,
    buffer: Vec<u8>,
    /// Where packets end in the buffer.
    ends: Vec<usize>,
    /// How much of the file is whole packets.
    whole: u64,
}

/// What packets are written to.
trait Sink: Write {
    /// Cuts off the packet that is not whole.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Sink for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

impl<F: Sink> CaptureWriter<F> {
    fn new(file: F, local: SocketAddr, progress: Arc<Progress>) -> CaptureWriter<F> {
        let own = OwnAddress { local, seen: HashMap::new() };
        CaptureWriter { file, own, progress, buffer: Vec::new(), ends: Vec::new(), whole: 0 }
    }

    /// Writes until the node or the capture ends. Whenever no packet waits, all that came are in the
    /// file.
    fn write_all(&mut self, mut packets: Tap) -> io::Result<()> {
        while let Some(sight) = packets.blocking_next() {
            self.put(sight);
            while let Some(sight) = packets.try_next() {
                self.put(sight);
                if self.buffer.len() >= BUFFER {
                    self.flush()?;
                }
            }
            self.flush()?;
        }
        Ok(())
    }

    /// ```text
    /// 0       4       6       8               16      20      24
    /// ┌───────┬───────┬───────┬───────────────┬───────┬───────┐
    /// │ magic │ 2     │ 4     │ 0             │ snap  │ link  │
    /// └───────┴───────┴───────┴───────────────┴───────┴───────┘
    /// ```
    fn put_header(&mut self) {
        self.buffer.extend(MAGIC.to_ne_bytes());
        self.buffer.extend([2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat());
        self.buffer.extend([0; 8]);
        self.buffer.extend([SNAP_LEN.to_ne_bytes(), LINK_TYPE.to_ne_bytes()].concat());
    }

    fn put(&mut self, sight: Sight) {
        let Sight::Packet(packet) = sight else { return };
        let start = self.buffer.len();
        if self.put_packet(&packet).is_none() {
            self.buffer.truncate(start);
            self.progress.unfit.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.ends.push(self.buffer.len());
    }

    /// Seconds, nanoseconds, length here and length as it was, then the packet. `None` if no header
    /// fits around it.
    fn put_packet(&mut self, packet: &Packet) -> Option<()> {
        let start = self.buffer.len();
        let since = packet.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Until 2106, as the format has it.
        self.buffer.extend((since.as_secs() as u32).to_ne_bytes());
        self.buffer.extend(since.subsec_nanos().to_ne_bytes());
        self.buffer.extend([0; 8]);
        let own = SocketAddr::new(self.own.towards(packet.peer), self.own.local.port());
        let (source, destination) = match packet.direction {
            Direction::In => (packet.peer, own),
            Direction::Out => (own, packet.peer),
        };
        put_datagram(&mut self.buffer, source, destination, &packet.bytes)?;
        let len = (self.buffer.len() - start - 16) as u32;
        self.buffer[start + 8..start + 12].copy_from_slice(&len.to_ne_bytes());
        self.buffer[start + 12..start + 16].copy_from_slice(&len.to_ne_bytes());
        Some(())
    }

    /// Writes the buffer to the file. After an error the file ends with its last whole packet.
    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let mut outcome = Ok(());
        while written < self.buffer.len() && outcome.is_ok() {
            match self.file.write(&self.buffer[written..]) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => outcome = Err(error),
            }
        }
        let packets = self.ends.iter().filter(|&&end| end <= written).count();
        let whole = match outcome {
            Ok(()) => written,
            Err(_) => packets.checked_sub(1).map_or(0, |last| self.ends[last]),
        };
        self.whole += whole as u64;
        self.progress.packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.progress.bytes.store(self.whole, Ordering::Relaxed);
        self.buffer.clear();
        self.ends.clear();
        if outcome.is_err() && whole < written {
            self.file.cut(self.whole)?;
        }
        outcome
    }
}

/// IP and UDP headers with their checksums, and the payload; `None` if it is too long for them, or
/// the addresses are of two families.
fn put_datagram(
    out: &mut Vec<u8>,
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
) -> Option<()> {
    let builder = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            PacketBuilder::ipv4(from.octets(), to.octets(), HOP_LIMIT)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            PacketBuilder::ipv6(from.octets(), to.octets(), HOP_LIMIT)
        }
        _ => return None,
    };
    builder.udp(source.port(), destination.port()).write(out, payload).ok()
}

/// The node's own address, as its peers see it as far as this machine knows.
struct OwnAddress {
    local: SocketAddr,
    seen: HashMap<IpAddr, IpAddr>,
}

impl OwnAddress {
    fn towards(&mut self, peer: SocketAddr) -> IpAddr {
        if !self.local.ip().is_unspecified() {
            return self.local.ip();
        }
        if self.seen.len() >= OWN_ADDRESSES {
            self.seen.clear();
        }
        *self.seen.entry(peer.ip()).or_insert_with(|| route(peer).unwrap_or(unspecified(peer)))
    }
}

/// The address from which the system would send there. Nothing is sent.
fn route(peer: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((unspecified(peer), 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

fn unspecified(peer: SocketAddr) -> IpAddr {
    match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use etherparse::{PacketHeaders, TransportHeader};

    use super::*;

    /// A disk with `room` bytes left.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.bytes.len());
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Disk {
        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.truncate(len as usize);
            Ok(())
        }
    }

    fn writer(local: &str, room: usize) -> CaptureWriter<Disk> {
        let disk = Disk { bytes: Vec::new(), room };
        let mut writer = CaptureWriter::new(disk, local.parse().unwrap(), Arc::default());
        writer.put_header();
        writer.flush().unwrap();
        writer
    }

    fn packet(direction: Direction, peer: &str, bytes: &[u8]) -> Sight {
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        let (peer, bytes) = (peer.parse().unwrap(), bytes.into());
        Sight::Packet(Packet { time, direction, peer, bytes })
    }

    /// The packets of a file, each with its time.
    fn read(file: &[u8]) -> Vec<(u32, u32, &[u8])> {
        assert_eq!(file[..4], MAGIC.to_ne_bytes());
        assert_eq!(file[20..24], 101_u32.to_ne_bytes());
        let mut rest = &file[24..];
        let mut packets = Vec::new();
        while !rest.is_empty() {
            let number = |at: usize| {
                u32::from_ne_bytes(rest[at..at + 4].try_into().expect("a whole record"))
            };
            let len = number(8) as usize;
            assert_eq!(number(12) as usize, len);
            packets.push((number(0), number(4), &rest[16..16 + len]));
            rest = &rest[16 + len..];
        }
        packets
    }

    /// Source and destination of a packet, and its payload; checks lengths and sums.
    fn parts(packet: &[u8]) -> (SocketAddr, SocketAddr, Vec<u8>) {
        let headers = PacketHeaders::from_ip_slice(packet).unwrap();
        let (ip, Some(TransportHeader::Udp(udp))) = (headers.net.unwrap(), headers.transport)
        else {
            panic!("no UDP")
        };
        let payload = headers.payload.slice().to_vec();
        let (source, destination, sum): (IpAddr, IpAddr, _) = match (ip.ipv4_ref(), ip.ipv6_ref()) {
            (Some((v4, _)), _) => {
                assert_eq!(v4.calc_header_checksum(), v4.header_checksum);
                let sum = udp.calc_checksum_ipv4(v4, &payload).unwrap();
                (v4.source.into(), v4.destination.into(), sum)
            }
            (_, Some((v6, _))) => {
                let sum = udp.calc_checksum_ipv6(v6, &payload).unwrap();
                (v6.source.into(), v6.destination.into(), sum)
            }
            _ => panic!("no IP"),
        };
        assert_eq!(sum, udp.checksum);
        ((source, udp.source_port).into(), (destination, udp.destination_port).into(), payload)
    }

    #[test]
    fn datagrams_become_packets() {
        let mut writer = writer("127.0.0.1:8001", usize::MAX);
        writer.put(packet(Direction::In, "127.0.0.1:8003", b"question"));
        writer.put(packet(Direction::Out, "127.0.0.1:8003", b""));
        writer.put(packet(Direction::Out, "127.0.0.1:8003", &[7; 65_507]));
        writer.put(packet(Direction::Out, "127.0.0.1:8003", &[7; 65_508]));
        writer.put(packet(Direction::Out, "[::1]:8003", b"from IPv4 there is no way"));
        writer.flush().unwrap();
        let (own, peer) =
            ("127.0.0.1:8001".parse().unwrap(), "127.0.0.1:8003".parse::<SocketAddr>().unwrap());
        let packets = read(&writer.file.bytes);
        assert_eq!(packets.len(), 3);
        assert_eq!((packets[0].0, packets[0].1), (1_700_000_000, 123_456_789));
        assert_eq!(parts(packets[0].2), (peer, own, b"question".to_vec()));
        assert_eq!(parts(packets[1].2), (own, peer, Vec::new()));
        assert_eq!(parts(packets[2].2), (own, peer, vec![7; 65_507]));
        assert_eq!(writer.progress.packets.load(Ordering::Relaxed), 3);
        assert_eq!(writer.progress.unfit.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_node_of_both_kinds_of_address_captures_both() {
        let mut writer = writer("[::]:8001", usize::MAX);
        writer.put(packet(Direction::In, "127.0.0.9:8003", b"four"));
        writer.put(packet(Direction::Out, "[fe80::1]:8003", b"six"));
        writer.flush().unwrap();
        let packets = read(&writer.file.bytes);
        let (source, destination, payload) = parts(packets[0].2);
        assert_eq!((source, &payload[..]), ("127.0.0.9:8003".parse().unwrap(), &b"four"[..]));
        assert_eq!(destination, "127.0.0.1:8001".parse().unwrap());
        let (source, destination, payload) = parts(packets[1].2);
        assert_eq!((source.port(), &payload[..]), (8001, &b"six"[..]));
        assert_eq!(destination, "[fe80::1]:8003".parse().unwrap());
    }

    #[test]
    fn a_full_disk_leaves_whole_packets() {
        // The header, one packet of 16 + 28 + 10 bytes, and a part of the next.
        let mut writer = writer("127.0.0.1:8001", 24 + 54 + 30);
        (0..3).for_each(|_| writer.put(packet(Direction::In, "127.0.0.1:8003", &[7; 10])));
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(read(&writer.file.bytes).len(), 1);
        assert_eq!(writer.progress.packets.load(Ordering::Relaxed), 1);
        assert_eq!(writer.progress.bytes.load(Ordering::Relaxed), 24 + 54);
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_if_it_is_a_capture_and_so_wanted() {
        let folder = std::env::temp_dir().join(format!("kademlua-capture-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.pcap");
        drop(open(&file, Existing::Keep).unwrap());
        assert!(matches!(open(&file, Existing::Keep), Err(CaptureError::Exists(_))));
        assert!(matches!(open(&file, Existing::Replace), Err(CaptureError::NoCapture(_))));
        fs::write(&file, [&MAGIC.to_be_bytes()[..], b"rest"].concat()).unwrap();
        drop(open(&file, Existing::Replace).unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"");
        fs::write(&file, "-- a program").unwrap();
        assert!(matches!(open(&file, Existing::Replace), Err(CaptureError::NoCapture(_))));
        assert_eq!(fs::read(&file).unwrap(), b"-- a program");
        // As anybody may leave one in a shared folder.
        let target = folder.join("b.pcap");
        fs::write(&target, MAGIC.to_be_bytes()).unwrap();
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        assert!(matches!(open(&file, Existing::Replace), Err(CaptureError::NoCapture(_))));
        assert_eq!(fs::read(&target).unwrap(), MAGIC.to_be_bytes());
        let error = open(&folder.join("no/a.pcap"), Existing::Keep).unwrap_err().to_string();
        assert!(error.contains("no/a.pcap: No such file"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
