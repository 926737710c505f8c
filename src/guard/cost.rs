//! What a datagram costs the node, in nanoseconds of one core.
//!
//! A model and no clock: the same datagrams cost the same everywhere, so that a node in a simulator
//! repeats itself, and what one source may ask does not depend on what else the machine runs. Measured
//! with `cargo bench --bench node` (rows "of the cost model") on a virtual machine of 2026, 2.1 GHz,
//! and rounded up; another machine is faster or slower at all of it, by about as much.
//!
//! | what | measured | here |
//! |---|---|---|
//! | system and event loop, in and out | 920 ns in full batches on loopback | [`RECEIVED`], [`SENT`] |
//! | a byte, in or out | 0.03 ns on loopback, some 0.5 ns in packets of 1,500 bytes | [`BYTE_PICOS`] |
//! | reading a token (part of lists, numbers) | 8 to 12 ns | [`TOKEN_READ`] |
//! | keeping a token (small dictionaries) | 50 to 80 ns | [`TOKEN_KEPT`] |
//! | keeping a byte (SHA-1, copies) | 1.1 ns, nested 4 ns | [`BYTE_KEPT_PICOS`] |
//! | the 20 nearest of 100 contacts | 750 to 950 ns | [`NEAREST`] |
//! | checking a signature of 1,000 bytes | 40 to 60 µs | [`VERIFIED`] |
//! | putting an address in a filter | 100 to 150 ns | [`HASHED`] |
//! | looking at a row under a key | 3.5 ns to answer with all, 10 ns to refuse another | [`EXAMINED`] |
//! | choosing among rows under a key | some 20 ns a row | [`ORDERED`] |
//!
//! No limits here, see [`limits`](super::limits).

/// Taking in a datagram: the system's share, the event loop's, and a look at its head.
const RECEIVED: u64 = 1_500;

/// Sending one.
const SENT: u64 = 800;

/// A byte of either.
const BYTE_PICOS: u64 = 500;

/// A token of a payload: until a request is understood it is read some three times.
const TOKEN_READ: u64 = 12;

/// A token of a value that is put in canonical form.
const TOKEN_KEPT: u64 = 60;

/// A byte of a value that is kept.
const BYTE_KEPT_PICOS: u64 = 4_000;

/// A value that is kept, or handed to an application, whatever its length.
const KEPT: u64 = 500;

/// The contacts nearest to an id.
const NEAREST: u64 = 900;

/// A row under a key that was looked at, for an answer or to see whether there is room beside it.
const EXAMINED: u64 = 10;

/// A row that was put in some order, to choose what an answer holds.
const ORDERED: u64 = 40;

/// Checking a signature of Ed25519.
const VERIFIED: u64 = 60_000;

/// SHA-1 of an address.
const HASHED: u64 = 200;

/// The cheapest request, a ping of 54 bytes and six tokens with its answer of 37 bytes. No unasked
/// datagram counts for less.
pub(crate) const CHEAPEST: u64 = RECEIVED + SENT + (54 + 37) * BYTE_PICOS / 1_000 + 6 * TOKEN_READ;

/// What a datagram has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bill {
    nanos: u64,
    tokens: u64,
}

impl Bill {
    /// A datagram of `bytes` bytes came in.
    pub(crate) fn of_datagram(bytes: usize) -> Bill {
        Bill { nanos: RECEIVED + bytes_in_nanos(bytes), tokens: 0 }
    }

    /// Its payload was read.
    pub(crate) fn read(&mut self, tokens: usize) {
        self.tokens = tokens as u64;
        self.nanos += self.tokens * TOKEN_READ;
    }

    /// Values of `bytes` bytes in it were kept, or handed on.
    pub(crate) fn kept(&mut self, bytes: usize) {
        self.nanos += KEPT + self.tokens * TOKEN_KEPT + bytes as u64 * BYTE_KEPT_PICOS / 1_000;
    }

    /// A signature was checked.
    pub(crate) fn verified(&mut self) {
        self.nanos += VERIFIED;
    }

    /// `count` addresses were hashed, for a filter.
    pub(crate) fn hashed(&mut self, count: usize) {
        self.nanos += count as u64 * HASHED;
    }

    /// The nearest contacts were named.
    pub(crate) fn named(&mut self) {
        self.nanos += NEAREST;
    }

    /// `rows` rows under a key were looked at.
    pub(crate) fn examined(&mut self, rows: usize) {
        self.nanos += rows as u64 * EXAMINED;
    }

    /// `rows` rows under a key were looked at and put in some order.
    pub(crate) fn ordered(&mut self, rows: usize) {
        self.nanos += rows as u64 * ORDERED;
    }

    /// Datagrams of `bytes` bytes in all were sent because of it.
    pub(crate) fn sent(&mut self, datagrams: u64, bytes: u64) {
        self.nanos += datagrams * SENT + bytes * BYTE_PICOS / 1_000;
    }

    pub(crate) fn nanos(&self) -> u64 {
        self.nanos
    }
}

fn bytes_in_nanos(bytes: usize) -> u64 {
    bytes as u64 * BYTE_PICOS / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::wire::MAX_DATAGRAM;

    #[test]
    fn a_ping_is_the_cheapest_request() {
        let mut ping = Bill::of_datagram(54);
        ping.read(6);
        ping.sent(1, 37);
        assert!(ping.nanos().abs_diff(CHEAPEST) <= 2);
    }

    /// A limit lets in one datagram too many: that may not cost much.
    #[test]
    fn no_datagram_costs_more_than_two_milliseconds() {
        let mut dearest = Bill::of_datagram(MAX_DATAGRAM);
        dearest.read(MAX_DATAGRAM);
        dearest.kept(MAX_DATAGRAM);
        dearest.named();
        (0..2).for_each(|_| dearest.ordered(Config::default().max_values_per_key));
        dearest.sent(4, 2 * MAX_DATAGRAM as u64);
        assert!(dearest.nanos() < 2_000_000, "{}", dearest.nanos());
    }
}
