//! Codecs, one a dialect, between [`message`](crate::message)s and datagrams.
//!
//! A codec holds no state and makes no decisions: whether a well-formed request is answered is the
//! node's affair. The first byte of a datagram tells its dialect; Kademlua v1 ([`v1`]) starts with
//! `0x01`.

pub mod v1;
