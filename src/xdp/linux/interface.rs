//! The kind of an interface, and the interface at its other end.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};

use super::netlink::Netlink;
use crate::xdp::Error;

/// An interface of this network namespace.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) kind: InterfaceKind,
    /// Whether an XDP program is there.
    pub(super) has_xdp: bool,
    /// The number of the other end, if that is in this namespace too.
    peer: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum InterfaceKind {
    Loopback,
    /// One end of a pair.
    Veth,
    /// Anything else with Ethernet frames: cards, bridges, taps.
    Ethernet,
    /// No Ethernet frames.
    Other,
}

impl Interface {
    /// The interface of that name among all that there are.
    pub(super) fn named<'a>(all: &'a [Interface], name: &str) -> Result<&'a Interface, Error> {
        all.iter().find(|interface| interface.name == name).ok_or_else(|| {
            let there: Vec<&str> = all.iter().map(|interface| interface.name.as_str()).collect();
            Error::NoInterface { name: name.to_owned(), there: there.join(", ") }
        })
    }

    /// The interface of that number, whatever its name is now.
    pub(super) fn numbered(all: &[Interface], index: u32) -> Option<&Interface> {
        all.iter().find(|interface| interface.index == index)
    }

    /// The other end, if it is known and runs no XDP: it would lose the packets that native XDP
    /// sends.
    pub(super) fn deaf_peer<'a>(&self, all: &'a [Interface]) -> Option<&'a Interface> {
        let peer = all.iter().find(|other| Some(other.index) == self.peer)?;
        (!peer.has_xdp).then_some(peer)
    }

    fn of(message: LinkMessage) -> Interface {
        let mut interface = Interface {
            name: String::new(),
            index: message.header.index,
            kind: match message.header.link_layer_type {
                LinkLayerType::Loopback => InterfaceKind::Loopback,
                LinkLayerType::Ether => InterfaceKind::Ethernet,
                _ => InterfaceKind::Other,
            },
            has_xdp: false,
            peer: None,
        };
        let mut elsewhere = false;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Link(index) => interface.peer = Some(index),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(infos)
                    if infos.contains(&LinkInfo::Kind(InfoKind::Veth)) =>
                {
                    interface.kind = InterfaceKind::Veth;
                }
                LinkAttribute::Xdp(xdp) => {
                    let is_there = |xdp: &LinkXdp| matches!(xdp, LinkXdp::Attached(attached) if *attached != XdpAttached::None);
                    interface.has_xdp = xdp.iter().any(is_there);
                }
                _ => {}
            }
        }
        // In that case the number counts in another namespace.
        interface.peer = interface.peer.filter(|_| !elsewhere);
        interface
    }
}

/// All interfaces of this network namespace.
pub(super) fn all() -> Result<Vec<Interface>, Error> {
    ask().map_err(|error| Error::failed("asking for interfaces", error))
}

fn ask() -> io::Result<Vec<Interface>> {
    let links = Netlink::open()?.all(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let of = |message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(Interface::of(link)),
        _ => None,
    };
    Ok(links.into_iter().filter_map(of).collect())
}
