//! `recvmmsg` and `sendmmsg`.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::{BATCH, Parcel, SLOT, canonical};

/// Datagrams as they were received, in buffers that are used again and again.
///
/// Each inbox serves sockets of one address family: what the system is told of the room for a
/// sender's address is the length of the last one.
pub struct Inbox {
    slots: Vec<u8>,
    filled: Vec<(SocketAddr, usize)>,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> Inbox {
        Inbox {
            slots: vec![0; BATCH * SLOT],
            filled: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Replaces what the inbox holds by what has arrived, at most [`BATCH`] datagrams. A blocking
    /// socket waits for the first one only.
    ///
    /// # Errors
    /// Those of the system; `WouldBlock` if nothing has arrived.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.filled.clear();
        let mut slots = self.slots.chunks_exact_mut(SLOT);
        let mut buffers: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(slots.next().expect("a slot for each"))]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let received =
            recvmmsg(socket.as_raw_fd(), &mut self.headers, buffers.iter_mut(), flags, None)?;
        self.filled.extend(received.map(|message| {
            let source = message.address.as_ref().and_then(socket_address);
            (source.expect("an IP socket receives from IP addresses"), message.bytes)
        }));
        Ok(())
    }

    /// The datagrams with their senders, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.slots.chunks_exact(SLOT);
        self.filled.iter().zip(slots).map(|(&(source, len), slot)| (source, &slot[..len]))
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        self.filled.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some((*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| canonical((*v6).into()))
}

/// What `sendmmsg` needs besides the datagrams.
pub(super) struct Sender {
    headers: MultiHeaders<SockaddrStorage>,
    destinations: Vec<Option<SockaddrStorage>>,
}

impl Sender {
    pub(super) fn new() -> Sender {
        Sender {
            headers: MultiHeaders::preallocate(BATCH, None),
            destinations: Vec::with_capacity(BATCH),
        }
    }

    /// Sends from the front and tells how many went; an error is about the first of them.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &[Parcel],
        bytes: &[u8],
    ) -> io::Result<usize> {
        self.destinations.clear();
        self.destinations.extend(batch.iter().map(|parcel| parcel.destination.map(Into::into)));
        let buffers: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|index| {
            let range = batch.get(index).map_or(0..0, |parcel| parcel.bytes.clone());
            [IoSlice::new(&bytes[range])]
        });
        let buffers = &buffers[..batch.len()];
        let flags = MsgFlags::empty();
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            buffers,
            &self.destinations,
            [],
            flags,
        )?;
        Ok(sent.count())
    }
}
