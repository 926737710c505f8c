//! The door of a running node: a Unix socket of its user's, at which other processes of that user ask what
//! is asked of a node ([`control`](crate::control)), as lines of JSON.
//!
//! `place` says where the sockets lie and what they are called, `lines` what goes over them; `server` is
//! the node's end, [`AttachedNode`] the other, and [`Which`] finds the node that is meant. What the lines mean is told in `docs/control.md`, exactly enough
//! to write a client from it.
//!
//! Nobody but the user gets in: the socket lies in a folder that is the user's alone, and both ends look at
//! whose process the other is. Whoever is in is bounded all the same, so that a client with a fault costs
//! the node little.

mod client;
mod find;
mod lines;
mod place;
mod server;

pub use self::client::{AttachError, AttachedNode, Offered};
pub use self::find::{FindError, Met, Which, all};
pub use self::lines::{Greeting, PROTOCOL, Role};
pub use self::place::PlaceError;

pub(super) use self::client::Watch;
pub(super) use self::server::Door;
