//! A bare echo: what the system itself takes to receive and send datagrams of a size.
//!
//! It reads nothing and copies nothing: a reply is the receive buffer as it stands.

use std::io;
use std::net::UdpSocket;

use crate::net::socket;
use crate::shell::say;

/// Longest reply, and room for each request.
const SLOT: usize = 2_048;

/// Prints the address, then echoes until the process ends.
pub(super) fn run(size: usize) -> anyhow::Result<()> {
    anyhow::ensure!(size <= SLOT, "the echo answers at most {SLOT} bytes");
    let socket = socket::bind("127.0.0.1:0".parse()?)?;
    socket.set_nonblocking(false)?;
    say(format_args!("{}", socket.local_addr()?))?;
    echo(&socket, size)?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn echo(socket: &UdpSocket, size: usize) -> io::Result<()> {
    use std::array;
    use std::io::{IoSlice, IoSliceMut};
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

    const BATCH: usize = 64;
    let fd = socket.as_raw_fd();
    let mut slots = vec![[0; SLOT]; BATCH];
    let mut received = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut sent = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut sources = Vec::with_capacity(BATCH);
    loop {
        let mut room = slots.iter_mut();
        let mut buffers: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(room.next().expect("a slot for each"))]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let requests = recvmmsg(fd, &mut received, buffers.iter_mut(), flags, None)?;
        sources.clear();
        sources.extend(requests.map(|request| request.address));
        let replies: [[IoSlice<'_>; 1]; BATCH] =
            array::from_fn(|index| [IoSlice::new(&slots[index][..size])]);
        let replies = &replies[..sources.len()];
        sendmmsg(fd, &mut sent, replies, &sources, [], MsgFlags::empty())?;
    }
}

#[cfg(not(target_os = "linux"))]
fn echo(socket: &UdpSocket, size: usize) -> io::Result<()> {
    let mut slot = [0; SLOT];
    loop {
        let (_, source) = socket.recv_from(&mut slot)?;
        socket.send_to(&slot[..size], source)?;
    }
}
