//! Questions to the kernel about interfaces, routes and neighbours.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A socket for them; it asks in the network namespace where it was opened.
pub(super) struct Netlink(Socket);

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink(socket))
    }

    /// All that there is of a kind.
    pub(super) fn all(
        &mut self,
        request: RouteNetlinkMessage,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(request, NLM_F_DUMP | NLM_F_REQUEST)?;
        let mut all = Vec::new();
        while self.receive(&mut all)? {}
        Ok(all)
    }

    /// The one that is asked for.
    pub(super) fn one(&mut self, request: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.send(request, NLM_F_REQUEST)?;
        let mut answer = Vec::new();
        self.receive(&mut answer)?;
        answer.pop().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let payload = NetlinkPayload::from(request);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), payload);
        request.header.flags = flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0).map(|_| ())
    }

    /// Takes in one datagram. Returns whether more follow.
    fn receive(&mut self, into: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let (datagram, _) = self.0.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => into.push(message),
                NetlinkPayload::Done(_) => return Ok(false),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            // Messages begin at multiples of four.
            let len = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(len.max(4)..).unwrap_or_default();
        }
        Ok(true)
    }
}
