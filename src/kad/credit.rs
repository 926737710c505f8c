//! What a lookup may send to addresses that it knows from others alone.
//!
//! A node that answers a lookup names the next nodes to ask, and it may name anybody: a liar could
//! direct the lookup's questions at a victim. So until somebody there has answered, a lookup asks an
//! address, or a network that one owner may hold, at most twice. And the unknown contacts that one node
//! named are sent no more bytes together than that node's answers had. Bytes that bring an answer were
//! well spent, and may be spent again.
//!
//! This module only counts; [`lookup`](super::lookup) decides who is asked when.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::address::Subnet;
use crate::address::is_loopback;
use crate::message::Contact;

/// Unanswered queries to one address, or to one network about which nothing is known.
const MAX_UNANSWERED: u32 = 2;

/// Bytes of what a lookup sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySizes {
    /// A query with all its padding.
    pub full: usize,
    /// The longest query without padding.
    pub bare: usize,
    /// A ping.
    pub ping: usize,
}

/// What may be sent to a contact first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// The query, padded to this length: half of what is left is kept for others.
    Query(usize),
    /// A ping, to see whether anybody is there: there is no more left.
    Ping,
}

/// A contact that somebody named, as far as it matters here.
#[derive(Clone, Copy)]
pub(crate) struct Debtor<'a> {
    pub(crate) contact: Contact,
    /// Who named it; nobody if the node knew it before.
    pub(crate) named_by: &'a [SocketAddr],
    /// Whether its address is validated.
    pub(crate) is_validated: bool,
}

/// What a lookup has spent, and what it may.
pub(crate) struct Credit {
    sizes: QuerySizes,
    /// Bytes that each node that answered may still cause.
    left: BTreeMap<SocketAddr, usize>,
    /// Queries without an answer to each address and port.
    at_address: BTreeMap<SocketAddr, u32>,
    /// The same to networks of which nothing was known; `None` once somebody there has answered.
    in_subnet: BTreeMap<Subnet, Option<u32>>,
    /// Who pays for a query, and how much, by its number.
    charged: BTreeMap<usize, (SocketAddr, usize)>,
}

impl Credit {
    pub(crate) fn new(sizes: QuerySizes) -> Credit {
        let (left, at_address) = (BTreeMap::new(), BTreeMap::new());
        let (in_subnet, charged) = (BTreeMap::new(), BTreeMap::new());
        Credit { sizes, left, at_address, in_subnet, charged }
    }

    /// What may be sent to a contact now.
    pub(crate) fn first(&self, debtor: &Debtor<'_>) -> Option<First> {
        let QuerySizes { full, bare, ping } = self.sizes;
        match self.left_for(debtor) {
            left if left >= bare => Some(First::Query((left / 2).clamp(bare, full))),
            left if left >= ping => Some(First::Ping),
            _ => None,
        }
    }

    /// How many bytes may go to a contact.
    fn left_for(&self, debtor: &Debtor<'_>) -> usize {
        let Debtor { contact, named_by, is_validated } = *debtor;
        if is_loopback(&contact.address) {
            return usize::MAX;
        }
        if self.at_address.get(&contact.address).is_some_and(|&asked| asked >= MAX_UNANSWERED) {
            return 0;
        }
        if is_validated || named_by.is_empty() {
            return usize::MAX;
        }
        let is_crowded = |subnet: Subnet| {
            self.in_subnet.get(&subnet).is_some_and(|asked| *asked >= Some(MAX_UNANSWERED))
        };
        if Subnet::all_of(contact.address.ip()).any(is_crowded) {
            return 0;
        }
        self.payer(named_by).map_or(0, |(_, left)| left)
    }

    /// A query is sent for the first time.
    pub(crate) fn on_sent(&mut self, query: usize, debtor: &Debtor<'_>, first: First) {
        let bytes = match first {
            First::Query(len) => len,
            First::Ping => self.sizes.ping,
        };
        let Debtor { contact, named_by, is_validated } = *debtor;
        *self.at_address.entry(contact.address).or_default() += 1;
        if is_validated || named_by.is_empty() || is_loopback(&contact.address) {
            return;
        }
        for subnet in Subnet::all_of(contact.address.ip()) {
            if let Some(asked) = self.in_subnet.entry(subnet).or_insert(Some(0)) {
                *asked += 1;
            }
        }
        if let Some((payer, _)) = self.payer(named_by) {
            let left = self.left.get_mut(&payer).expect("who pays has answered");
            *left = left.saturating_sub(bytes);
            self.charged.insert(query, (payer, bytes));
        }
    }

    /// A query was answered, in a datagram of `bytes` bytes.
    pub(crate) fn on_answer(&mut self, query: usize, source: &SocketAddr, bytes: usize) {
        if let Some(asked) = self.at_address.get_mut(source) {
            *asked = asked.saturating_sub(1);
        }
        for subnet in Subnet::all_of(source.ip()) {
            self.in_subnet.insert(subnet, None);
        }
        if let Some((payer, spent)) = self.charged.remove(&query) {
            *self.left.entry(payer).or_default() += spent;
        }
        self.add(*source, bytes);
    }

    /// Somebody may cause more bytes.
    pub(crate) fn add(&mut self, who: SocketAddr, bytes: usize) {
        *self.left.entry(who).or_default() += bytes;
    }

    /// Of the nodes that named a contact, the one with most left to spend, and how much that is.
    fn payer(&self, named_by: &[SocketAddr]) -> Option<(SocketAddr, usize)> {
        let left = named_by.iter().filter_map(|who| Some((*who, *self.left.get(who)?)));
        left.max_by_key(|(_, left)| *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A credit that a liar has filled, and the liar.
    fn filled(bytes: usize) -> (Credit, [SocketAddr; 1]) {
        let (mut credit, liar) = (Credit::new(SIZES), address("198.51.100.1:1"));
        credit.add(liar, bytes);
        (credit, [liar])
    }

    fn debtor<'a>(at: &str, named_by: &'a [SocketAddr], is_validated: bool) -> Debtor<'a> {
        let contact = Contact { id: Id::of_name(at), address: address(at) };
        Debtor { contact, named_by, is_validated }
    }

    /// What these are sent, one after the other, while nobody answers.
    fn sent(credit: &mut Credit, debtors: &[Debtor<'_>]) -> Vec<First> {
        let mut ask = |(query, debtor): (usize, &Debtor<'_>)| {
            let first = credit.first(debtor)?;
            credit.on_sent(query, debtor, first);
            Some(first)
        };
        debtors.iter().enumerate().filter_map(&mut ask).collect()
    }

    const SIZES: QuerySizes = QuerySizes { full: 485, bare: 161, ping: 54 };
    const FULL: First = First::Query(SIZES.full);

    #[test]
    fn an_address_and_what_its_owner_may_hold_is_asked_twice_unless_it_answers() {
        for ips in [
            ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4"],
            ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"],
            ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::4]:1"],
            [
                "[2001:db8:0:1::1]:1",
                "[2001:db8:0:2::]:1",
                "[2001:db8:0:3::]:1",
                "[2001:db8:0:4::]:1",
            ],
            [
                "[2001:db8:0:100::]:1",
                "[2001:db8:0:200::]:1",
                "[2001:db8::]:1",
                "[2001:db8:0:300::]:1",
            ],
        ] {
            let (mut credit, liar) = filled(100_000);
            let victims = ips.map(|at| debtor(at, &liar, false));
            assert_eq!(sent(&mut credit, &victims), [FULL; 2], "{ips:?}");
            credit.on_answer(0, &victims[0].contact.address, 1_000);
            assert_eq!(credit.first(&victims[3]), Some(FULL), "one of them has answered");
        }
    }

    #[test]
    fn one_address_and_port_is_asked_twice_whatever_is_known_of_it() {
        for (named_by, is_validated) in [(true, true), (false, false), (false, true)] {
            let (mut credit, liar) = filled(100_000);
            let named_by = if named_by { &liar[..] } else { &[] };
            let masks = [debtor("192.0.2.1:1", named_by, is_validated); 4];
            assert_eq!(sent(&mut credit, &masks), [FULL; 2]);
        }
    }

    #[test]
    fn those_that_one_named_get_no_more_bytes_than_it_sent() {
        let (mut credit, liar) = filled(1_000);
        let victims: Vec<String> = (1..100).map(|n| format!("10.{n}.0.1:1")).collect();
        let victims: Vec<_> = victims.iter().map(|at| debtor(at, &liar, false)).collect();
        let bytes = |first: &First| match first {
            First::Query(len) => *len,
            First::Ping => SIZES.ping,
        };
        let first = sent(&mut credit, &victims);
        assert_eq!(first.iter().map(bytes).collect::<Vec<_>>(), [485, 257, 161, 54]);
        assert_eq!(credit.left_for(&victims[50]), 1_000 - 485 - 257 - 161 - 54);
        // Bytes that brought an answer may be spent again, and a node that answered may name
        // others.
        credit.on_answer(0, &victims[0].contact.address, 300);
        assert_eq!(credit.left_for(&victims[50]), 1_000 - 257 - 161 - 54);
        let named = [victims[0].contact.address];
        assert_eq!(credit.left_for(&debtor("10.200.0.1:1", &named, false)), 300);
        let both = [liar[0], named[0]];
        assert_eq!(credit.left_for(&debtor("10.201.0.1:1", &both, false)), 528);
        assert_eq!(credit.first(&debtor("10.202.0.1:1", &[address("10.203.0.1:1")], false)), None);
    }

    #[test]
    fn who_has_answered_a_pings_length_pays_for_a_ping() {
        for (bytes, first) in [(SIZES.ping, Some(First::Ping)), (SIZES.ping - 1, None)] {
            let (credit, liar) = filled(bytes);
            assert_eq!(credit.first(&debtor("10.0.0.1:1", &liar, false)), first);
        }
    }

    #[test]
    fn on_loopback_nothing_is_counted() {
        let liar = [address("127.0.0.1:1")];
        let victims = [debtor("127.0.0.1:2", &liar, false); 9];
        assert_eq!(sent(&mut Credit::new(SIZES), &victims), [FULL; 9]);
    }
}
