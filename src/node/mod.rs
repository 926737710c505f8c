//! The node: a state machine without sockets, tasks, clocks or global randomness.

pub mod config;
