//! A Kademlia distributed hash table that you can hold in your hand.
//!
//! A [Kademlia] network stores values under keys without any server: every node knows a few others,
//! most of them near its own [`id`], and finds the rest by asking. This crate is one such node. Its
//! core is a plain state machine without sockets, threads or clocks; around it stand a UDP driver,
//! a simulator and a Lua shell.
//!
//! [Kademlia]: https://pdos.csail.mit.edu/~petar/papers/maymounkov-kademlia-lncs.pdf
//!
//! # The map
//!
//! ```text
//! id, time, bencode, address, serial, config, fit, bloom, signed ─▶ message ─▶ wire ─▶ kad, guard, store ─▶ node ─▶ control ─▶ net, sim ─▶ shell, bench ─▶ cli
//!                                                                                │                            └────▶ xdp ──────┤
//!                                                                                └─────────────────────────────────▶ state ─────┘
//! ```
//! An arrow reads "is used by"; nothing on the left knows of anything on its right, which
//! `tests/architecture.rs` holds.
//!
//! | module | what lives there | what is not there, on purpose |
//! |---|---|---|
//! | [`id`] | 160-bit ids, XOR distance | networking |
//! | [`address`] | what an address is: its reach, its networks | sockets |
//! | [`time`] | instants and durations in µs | any clock |
//! | [`fit`] | ids that fit addresses | what becomes of nodes whose ids do not |
//! | [`bloom`] | sets of addresses that tell only about how many they are | who is in them |
//! | [`signed`] | items that only the holder of a key can change | where keys are kept |
//! | [`bencode`] | a reader for strangers' bytes, checked values | meaning |
//! | [`serial`] | how plain data is serialised | which data that is |
//! | [`message`] | what RPCs ask and answer | bytes |
//! | [`wire`] | one codec for each dialect | state |
//! | [`config`] | the settings of a node | reading files |
//! | [`kad`] | the paper: routing table, lookups and their paths, estimate, round trips | the wire, the node |
//! | `guard` | validated addresses, limits, tokens: who may ask what | the node |
//! | [`store`] | values, with fair shares for those who store them | sockets |
//! | [`node`] | the state machine that ties these together: overlays, each one identity in one network, and the calls, guard and outbox that they share | sockets, tasks, clocks, global randomness |
//! | [`control`] | the door of a node: commands, views, packets, as plain serialisable data | formatting |
//! | [`net`] | the UDP driver, the only reader of a node's clock; the handle for applications; taps and captures of its packets | protocol rules |
//! | [`xdp`] | the fast path in the kernel: its loader, the mirror of the routing table | protocol rules |
//! | [`state`] | what a node keeps on disk | when to write |
//! | [`sim`] | many nodes over a virtual network and clock | tokio |
//! | `shell` | the prompt, the Lua bindings; what a user may change is in `lua/` | protocol rules |
//! | `bench` | the load that `kademlua bench` puts on a node | ways around the network |
//! | `cli` | the command line and configurations | |

pub mod address;
#[cfg(feature = "shell")]
mod bench;
pub mod bencode;
pub mod bloom;
#[cfg(feature = "shell")]
#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod control;
pub mod fit;
mod guard;
pub mod id;
pub mod kad;
pub mod message;
pub mod net;
pub mod node;
pub mod serial;
#[cfg(feature = "shell")]
#[doc(hidden)]
pub mod shell;
pub mod signed;
pub mod sim;
pub mod state;
pub mod store;
pub mod time;
pub mod wire;
pub mod xdp;
