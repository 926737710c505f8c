//! Who holds how much of the store: accounts by address, and who has most of them.
//!
//! A deposit is charged to the address that brought it and to each network that one publisher may hold
//! with it, which makes the accounts a tree: under a /48 its /56, under these their /64; under a /24
//! its addresses. Making room goes down from the widest account, at each level into the account that
//! holds most, so that the neighbour of a flooder keeps its values. Loopback, where a lab shares an
//! address, has an account for each port.
//!
//! Nothing here knows of values; a row is a number under a key, and what it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{Scope, Subnet};
use crate::id::Id;

/// Memory that an account takes: its places in two trees.
pub(super) const ACCOUNT: usize = 155;

/// An address, or a network that one publisher may hold whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Bits of the prefix, IPv4 counted from 96 on.
    bits: u8,
    prefix: [u8; 16],
    /// On loopback alone.
    port: [u8; 2],
}

impl Holder {
    /// What all others lie in.
    const ALL: Holder = Holder { bits: 0, prefix: [0; 16], port: [0; 2] };
    const LAST: Holder = Holder { bits: u8::MAX, prefix: [u8::MAX; 16], port: [u8::MAX; 2] };

    /// The narrowest that an address is in.
    pub(super) fn of(address: &SocketAddr) -> Holder {
        *AccountPath::of(address).leaf()
    }

    /// An address alone, with its port on loopback.
    fn of_address(address: &SocketAddr, scope: Scope) -> Holder {
        let prefix = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let port = if scope == Scope::Loopback { address.port() } else { 0 };
        Holder { bits: 128, prefix, port: port.to_be_bytes() }
    }

    fn of_subnet(subnet: Subnet) -> Holder {
        let (bits, prefix) = (subnet.to_bytes()[0], &subnet.to_bytes()[1..]);
        Holder { bits, prefix: prefix.try_into().expect("16 of 17"), port: [0; 2] }
    }

    /// A number for the widest network that it is in. No two of IPv4 have the same. Two of IPv6 meet
    /// with a chance of one in 2^31, and then share a share under the keys where both have values.
    pub(super) fn tag(&self) -> u32 {
        let [.., a, b, c, d] = self.prefix;
        match (
            self.port,
            self.prefix.starts_with(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets()[..12]),
        ) {
            ([0, 0], true) => u32::from_be_bytes([0, a, b, c]),
            ([0, 0], false) => hashed(&self.prefix[..6]),
            ([high, low], _) => hashed(&[self.prefix[0], a, b, c, d, high, low]),
        }
    }
}

/// 31 bits of bytes, 8 at most, above what an IPv4 network has.
fn hashed(bytes: &[u8]) -> u32 {
    let number = bytes.iter().fold(0, |number: u64, &byte| number << 8 | u64::from(byte));
    // Knuth's multiplicative hashing: the golden ratio of 2^64.
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u32 | 1 << 31
}

/// As people write it: `10.0.0.0/24`, `127.0.0.1:8001`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from(self.prefix);
        let (ip, bits) = match ip.to_ipv4_mapped() {
            Some(ip) => (IpAddr::V4(ip), self.bits - 96),
            None => (IpAddr::V6(ip), self.bits),
        };
        match u16::from_be_bytes(self.port) {
            0 if ip.is_ipv4() && bits == 32 => write!(f, "{ip}"),
            0 => write!(f, "{ip}/{bits}"),
            port => write!(f, "{}", SocketAddr::new(ip, port)),
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address and the networks that it is in, the widest first.
#[derive(Clone, Copy)]
pub(super) struct AccountPath {
    holders: [Holder; Subnet::LEVELS_MAX],
    len: usize,
    /// The widest level that is limited to a share: elsewhere that is the network that one publisher may
    /// hold; a private network is a house full of publishers, or a lab, where each address has a share of
    /// its own.
    pub(super) limited: usize,
}

impl AccountPath {
    pub(super) fn of(address: &SocketAddr) -> AccountPath {
        let scope = Scope::of(address.ip());
        let own = Holder::of_address(address, scope);
        let mut path = AccountPath { holders: [own; Subnet::LEVELS_MAX], len: 0, limited: 0 };
        let mut networks = Subnet::all_of(address.ip()).map(Holder::of_subnet);
        match (scope, address.is_ipv6()) {
            (Scope::Loopback, _) => path.fill([own]),
            // In a private /64 each address has another owner.
            (Scope::Private, true) => path.fill([own].into_iter().chain(networks.step_by(2))),
            (Scope::Private | Scope::Global, _) => path.fill(&mut networks),
        }
        if scope == Scope::Private {
            path.limited = path.len - 1;
        }
        path
    }

    /// Takes these for its levels, the narrowest first.
    fn fill(&mut self, narrowest_first: impl IntoIterator<Item = Holder>) {
        for holder in narrowest_first {
            self.holders[self.len] = holder;
            self.len += 1;
        }
        self.holders[..self.len].reverse();
    }

    pub(super) fn levels(&self) -> &[Holder] {
        &self.holders[..self.len]
    }

    pub(super) fn leaf(&self) -> &Holder {
        &self.holders[self.len - 1]
    }
}

/// A row's place in the order in which the rows of one account leave: the farthest key first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// The narrowest account.
    pub(super) leaf: Holder,
    /// The key's distance, every bit turned.
    pub(super) nearness: [u8; Id::LEN],
    pub(super) row: u64,
}

/// Accounts of deposits that have the same standing.
#[derive(Default, PartialEq)]
pub(super) struct Pool {
    accounts: BTreeMap<Holder, Account>,
    /// Each account below the one that it lies in, by what it holds.
    ranking: BTreeSet<(Holder, usize, Holder)>,
    places: BTreeSet<Rank>,
    bytes: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Account {
    /// What its rows take, the account itself and the accounts below it included.
    bytes: usize,
    rows: usize,
}

impl Pool {
    /// What all its rows and accounts take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn account_count(&self) -> usize {
        self.accounts.len()
    }

    pub(super) fn bytes_of(&self, holder: &Holder) -> usize {
        self.accounts.get(holder).map_or(0, |account| account.bytes)
    }

    pub(super) fn rows_of(&self, holder: &Holder) -> usize {
        self.accounts.get(holder).map_or(0, |account| account.rows)
    }

    /// Levels of a path that have no account yet.
    pub(super) fn missing(&self, path: &AccountPath) -> usize {
        path.levels().iter().filter(|holder| !self.accounts.contains_key(holder)).count()
    }

    pub(super) fn add(&mut self, path: &AccountPath, place: Rank, bytes: usize) {
        self.places.insert(place);
        let mut bytes = bytes;
        for (level, holder) in path.levels().iter().enumerate().rev() {
            let old = self.accounts.get(holder).copied();
            bytes += if old.is_none() { ACCOUNT } else { 0 };
            let old = old.unwrap_or_default();
            let new = Account { bytes: old.bytes + bytes, rows: old.rows + 1 };
            self.set(parent(path, level), *holder, old, new);
        }
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, path: &AccountPath, place: &Rank, bytes: usize) {
        self.places.remove(place);
        let mut bytes = bytes;
        for (level, holder) in path.levels().iter().enumerate().rev() {
            let old = *self.accounts.get(holder).expect("it was charged when the row came");
            bytes += if old.rows == 1 { ACCOUNT } else { 0 };
            let new = Account { bytes: old.bytes - bytes, rows: old.rows - 1 };
            self.set(parent(path, level), *holder, old, new);
        }
        self.bytes -= bytes;
    }

    fn set(&mut self, parent: Holder, holder: Holder, old: Account, new: Account) {
        if old.rows > 0 {
            self.ranking.remove(&(parent, old.bytes, holder));
        }
        if new.rows > 0 {
            self.ranking.insert((parent, new.bytes, holder));
            self.accounts.insert(holder, new);
        } else {
            self.accounts.remove(&holder);
        }
    }

    /// A row of the account that holds most, if it holds more than the account beside it would with a
    /// deposit of `bytes`. Accounts are compared from `level` of the path on.
    pub(super) fn heavier(&self, path: &AccountPath, level: usize, bytes: usize) -> Option<Rank> {
        (level..path.levels().len()).find_map(|level| {
            let own = &path.levels()[level];
            let mut others = self.below(&parent(path, level)).filter(|(_, holder)| holder != own);
            let (most, holder) = others.next()?;
            (most > self.bytes_of(own) + bytes).then(|| self.farthest(holder))
        })
    }

    /// A row of the account that holds most.
    pub(super) fn heaviest(&self) -> Option<Rank> {
        self.below(&Holder::ALL).next().map(|(_, holder)| self.farthest(holder))
    }

    /// A row in an account, of the account below it that holds most.
    pub(super) fn heaviest_in(&self, holder: &Holder) -> Option<Rank> {
        self.accounts.contains_key(holder).then(|| self.farthest(*holder))
    }

    fn farthest(&self, mut holder: Holder) -> Rank {
        while let Some((_, most)) = self.below(&holder).next() {
            holder = most;
        }
        let first = Rank { leaf: holder, nearness: [0; Id::LEN], row: 0 };
        *self.places.range(first..).next().expect("an account holds something")
    }

    /// The accounts right below another, the largest first.
    fn below(&self, holder: &Holder) -> impl Iterator<Item = (usize, Holder)> + use<'_> {
        let range = (*holder, 0, Holder::ALL)..=(*holder, usize::MAX, Holder::LAST);
        self.ranking.range(range).rev().map(|(_, bytes, holder)| (*bytes, *holder))
    }
}

fn parent(path: &AccountPath, level: usize) -> Holder {
    level.checked_sub(1).map_or(Holder::ALL, |wider| path.levels()[wider])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(address: &str) -> AccountPath {
        AccountPath::of(&address.parse().unwrap())
    }

    fn place(path: &AccountPath, distance: u8, row: u64) -> Rank {
        Rank { leaf: *path.leaf(), nearness: [!distance; Id::LEN], row }
    }

    #[test]
    fn an_address_is_charged_to_all_that_its_owner_may_hold() {
        let shown = |address| {
            let path = path(address);
            path.levels().iter().map(Holder::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown("192.0.2.7:9"), ["192.0.2.0/24", "192.0.2.7"]);
        assert_eq!(
            shown("[2001:db8:1:2203::1]:9"),
            ["2001:db8:1::/48", "2001:db8:1:2200::/56", "2001:db8:1:2203::/64"]
        );
        assert_eq!(shown("10.1.2.3:9"), ["10.1.2.0/24", "10.1.2.3"]);
        assert_eq!(shown("[fd00:1::2]:9"), ["fd00:1::/48", "fd00:1::/64", "fd00:1::2/128"]);
        assert_eq!(shown("127.0.0.1:9001"), ["127.0.0.1:9001"]);
        assert_eq!(shown("[::1]:9001"), ["[::1]:9001"]);
    }

    #[test]
    fn a_tag_is_that_of_the_widest_network() {
        let tags = |address| {
            let path = path(address);
            path.levels().iter().map(Holder::tag).collect::<BTreeSet<_>>()
        };
        for (one, other) in
            [("192.0.2.7:9", "192.0.2.8:10"), ("[2001:db8:1:2203::1]:9", "[2001:db8:1:ff00::2]:10")]
        {
            assert_eq!(tags(one).len(), 1, "the same on every level");
            assert_eq!(tags(one), tags(other));
        }
        for (one, other) in [
            ("192.0.2.7:9", "192.0.3.7:9"),
            ("[2001:db8:1::1]:9", "[2001:db8:2::1]:9"),
            ("127.0.0.1:1", "127.0.0.1:2"),
        ] {
            assert_ne!(tags(one), tags(other));
        }
    }

    #[test]
    fn what_leaves_is_the_farthest_of_whoever_holds_most_at_each_level() {
        let mut pool = Pool::default();
        let (flooder, neighbour, other) =
            (path("192.0.2.7:9"), path("192.0.2.8:9"), path("198.51.100.1:9"));
        pool.add(&neighbour, place(&neighbour, 200, 1), 100);
        pool.add(&other, place(&other, 250, 2), 150);
        for (row, distance) in [(3, 9), (4, 90), (5, 50)] {
            pool.add(&flooder, place(&flooder, distance, row), 100);
        }
        assert_eq!(pool.heaviest().unwrap().row, 4);
        assert_eq!(pool.heavier(&other, 0, 0).unwrap().row, 4);
        assert_eq!(pool.heavier(&neighbour, 0, 0).unwrap().row, 4, "within the network");
        assert!(pool.heavier(&flooder, 0, 0).is_none(), "nobody holds more");
        assert_eq!(pool.heavier(&path("203.0.113.1:1"), 0, 100).unwrap().row, 4);
        assert!(pool.heavier(&path("203.0.113.1:1"), 0, 10_000).is_none());
        for (row, distance) in [(3, 9), (4, 90), (5, 50)] {
            pool.remove(&flooder, &place(&flooder, distance, row), 100);
        }
        pool.remove(&neighbour, &place(&neighbour, 200, 1), 100);
        pool.remove(&other, &place(&other, 250, 2), 150);
        assert_eq!((pool.bytes(), pool.account_count()), (0, 0));
        assert!(pool.heaviest().is_none() && pool.ranking.is_empty() && pool.places.is_empty());
    }
}
