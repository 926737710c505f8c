//! Where packets to an address leave this machine: by which interface, and to which station there.
//!
//! The kernel's own tables say so. They are looked at now and then, so an answer may be some seconds old;
//! without a station's address the program leaves it to the kernel to find one.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::Netlink;
use crate::xdp::layout::Way;

/// The address of a station, of Ethernet.
type Station = [u8; 6];

/// What the kernel said last.
pub(super) struct Ways {
    netlink: Netlink,
    /// The interface, and who is there the next to get a packet: the address itself, or a gateway.
    routes: HashMap<IpAddr, (u32, IpAddr)>,
    neighbours: HashMap<(u32, IpAddr), Station>,
    own: HashMap<u32, Station>,
}

impl Ways {
    pub(super) fn open() -> io::Result<Ways> {
        let netlink = Netlink::open()?;
        let (routes, neighbours, own) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Ways { netlink, routes, neighbours, own })
    }

    /// Asks anew for stations, and from now on for routes too.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        self.routes.clear();
        let links = self.netlink.all(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        self.own = links.into_iter().filter_map(own_station).collect();
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.neighbours = self.netlink.all(request)?.into_iter().filter_map(neighbour).collect();
        Ok(())
    }

    /// Where packets to an address leave; all zeros if that cannot be told.
    pub(super) fn to(&mut self, ip: IpAddr) -> Way {
        let known = self.routes.get(&ip).copied();
        let Some((ifindex, next)) = known.or_else(|| self.ask(ip)) else { return Way::default() };
        let stations =
            self.neighbours.get(&(ifindex, next)).copied().zip(self.own.get(&ifindex).copied());
        let (to, from) = stations.unwrap_or_default();
        Way { ifindex, to, from }
    }

    fn ask(&mut self, ip: IpAddr) -> Option<(u32, IpAddr)> {
        let mut request = RouteMessage::default();
        let (family, bits) = match ip {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        request.header.address_family = family;
        request.header.destination_prefix_length = bits;
        request.attributes.push(RouteAttribute::Destination(ip.into()));
        let answer = self.netlink.one(RouteNetlinkMessage::GetRoute(request)).ok()?;
        let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
        let is_way = matches!(route.header.kind, RouteType::Unicast | RouteType::Local);
        let (mut ifindex, mut next) = (None, ip);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => ifindex = Some(index),
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => next = ip.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => next = ip.into(),
                // A gateway of the other family, and more than one way.
                RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => return None,
                _ => {}
            }
        }
        let found = (ifindex.filter(|_| is_way)?, next);
        self.routes.insert(ip, found);
        Some(found)
    }
}

fn own_station(message: RouteNetlinkMessage) -> Option<(u32, Station)> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let address = link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.try_into().ok(),
        _ => None,
    })?;
    Some((link.header.index, address))
}

/// A neighbour that the kernel would send to.
fn neighbour(message: RouteNetlinkMessage) -> Option<((u32, IpAddr), Station)> {
    let RouteNetlinkMessage::NewNeighbour(neighbour) = message else { return None };
    let is_known = matches!(
        neighbour.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let (mut ip, mut station) = (None, None);
    for attribute in neighbour.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(four)) => ip = Some(four.into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(six)) => ip = Some(six.into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => station = bytes.try_into().ok(),
            _ => {}
        }
    }
    is_known.then_some(((neighbour.header.ifindex, ip?), station?))
}
