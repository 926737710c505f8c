//! One datagram at a time, on any system.
//!
//! The system does not tell where a datagram came in: answers leave from where it chooses, and a
//! loopback source is believed if the system lets it through. (BSD and macOS drop one that comes in
//! elsewhere than at a loopback interface, RFC 1122 §3.2.1.3 and RFC 4291 §2.5.3.)

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::{KeptOut, Parcel, Received, SLOT};
use crate::address::LocalEnd;

/// The datagram that was received last.
pub struct ReceiveBatch {
    slot: Vec<u8>,
    filled: Option<(SocketAddr, usize)>,
}

impl Default for ReceiveBatch {
    fn default() -> ReceiveBatch {
        ReceiveBatch::new()
    }
}

impl ReceiveBatch {
    /// An empty inbox.
    pub fn new() -> ReceiveBatch {
        ReceiveBatch { slot: vec![0; SLOT], filled: None }
    }

    /// Replaces what the inbox holds by one datagram that has arrived. A blocking socket waits
    /// for it.
    ///
    /// # Errors
    /// Those of the system; `WouldBlock` if nothing has arrived.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.filled = None;
        let (len, source) = socket.recv_from(&mut self.slot)?;
        self.filled = Some((source, len));
        Ok(())
    }

    /// The datagram with its sender, if there is one.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        self.filled.iter().map(|&(source, len)| Received {
            source,
            local: LocalEnd::default(),
            bytes: &self.slot[..len],
        })
    }

    /// How many datagrams there are.
    pub fn len(&self) -> usize {
        usize::from(self.filled.is_some())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filled.is_none()
    }
}

/// Each system has its own way to do that, and some have none; nothing is told.
pub(super) fn tell_ends(_: &UdpSocket, _is_ipv4: bool) -> io::Result<()> {
    Ok(())
}

/// Each system has its own way to do that, and some have none; nothing is kept.
pub(super) fn tell_failures(_: &UdpSocket, _is_ipv4: bool) -> io::Result<()> {
    Ok(())
}

/// Nothing is kept.
pub(super) fn receive_failure(
    _: &UdpSocket,
    _: &mut [u8],
) -> io::Result<Option<(SocketAddr, usize)>> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Each system has its own way to do that, and some have none.
pub(super) fn set_filter(_: &UdpSocket, _: &[KeptOut]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing is needed to send one.
pub(super) struct Sender;

impl Sender {
    pub(super) fn new() -> Sender {
        Sender
    }

    /// Sends the first and tells that one went.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &[Parcel],
        bytes: &[u8],
    ) -> io::Result<usize> {
        let [parcel, ..] = batch else { return Ok(0) };
        let datagram = &bytes[parcel.bytes.clone()];
        match parcel.destination {
            Some(destination) => socket.send_to(datagram, destination)?,
            None => socket.send(datagram)?,
        };
        Ok(1)
    }
}
