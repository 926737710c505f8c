//! The door of a running node: a Unix socket of its user, through which other processes of that user can
//! ask anything that can be asked of a node ([`control`](crate::control)), as lines of JSON.
//!
//! `place` says where the sockets lie and what they are called, `lines` what goes over them; `server` is the node's
//! end, [`AttachedNode`] the other, and [`Which`] finds the node that is meant. `docs/control.md` tells what the
//! lines mean, exactly enough to write a client from it.
//!
//! Nobody but the user gets in: the socket lies in a folder that only the user can enter, and each end
//! checks which user the other process belongs to. Clients are bounded all the same, so that a faulty one
//! costs the node little.

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
