//! For systems without a fast path: everything says so, and a mirror has nothing to do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use super::{Attached, Attachment, Error, Heard, Orphan, Pinning, Status};
use crate::message::Contact;
use crate::node::Node;
use crate::time::Instant;

/// Attaches nothing.
///
/// # Errors
/// Always.
pub fn attach(_attachment: &Attachment) -> Result<Attached, Error> {
    Err(Error::Unsupported)
}

/// Detaches nothing.
///
/// # Errors
/// Always.
pub fn detach(_place: &Pinning) -> Result<(), Error> {
    Err(Error::Unsupported)
}

/// Detaches nothing.
///
/// # Errors
/// Always.
pub fn detach_all(_bpffs: &Path) -> Result<usize, Error> {
    Err(Error::Unsupported)
}

/// Has nothing to tell.
///
/// # Errors
/// Always.
pub fn status(_place: &Pinning) -> Result<Status, Error> {
    Err(Error::Unsupported)
}

/// Finds nothing.
///
/// # Errors
/// Always.
pub fn found(_bpffs: &Path) -> Result<Vec<Pinning>, Error> {
    Err(Error::Unsupported)
}

/// Finds nothing.
///
/// # Errors
/// Always.
pub fn orphans(_bpffs: &Path) -> Result<Vec<Orphan>, Error> {
    Err(Error::Unsupported)
}

/// A mirror that nobody can make.
pub(crate) struct Mirror(Infallible);

impl Mirror {
    pub(crate) fn new(_place: Pinning) -> Result<Mirror, Error> {
        Err(Error::Unsupported)
    }

    pub(crate) fn beat(&mut self) -> Heard {
        match self.0 {}
    }

    pub(crate) fn used(&mut self) -> Vec<Contact> {
        match self.0 {}
    }

    pub(crate) fn update(&mut self, _now: Instant, _node: &mut Node, _local: SocketAddr) {
        match self.0 {}
    }

    pub(crate) fn take_back(&mut self, _node: &mut Node) {
        match self.0 {}
    }

    pub(crate) async fn strangers(&mut self) -> Vec<Contact> {
        match self.0 {}
    }
}
