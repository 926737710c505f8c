//! Who may ask what: which addresses are validated, what a datagram costs, how much each source may
//! spend, the tokens that prove that somebody receives at an address. Each mechanism owns its state
//! and knows no node.

pub(crate) mod challenge;
pub(crate) mod cost;
pub(crate) mod limits;
pub(crate) mod rations;
pub(crate) mod tickets;
pub(crate) mod tokens;
pub(crate) mod validated;
