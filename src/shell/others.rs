//! Other nodes of this user, for functions of the shell that ask them: `on(8017, tree)`,
//! `node(8017).tree()`.
//!
//! The shell attaches to a node to ask it, and stays attached for the next time; a node that was restarted is
//! found again.

use std::cell::RefCell;
use std::path::Path;

use mlua::Value as LuaValue;

use crate::control::{Code, Problem};
use crate::net::door::{AttachedNode, FindError, Which};

use super::arguments::peer_of;

/// Nodes that the shell stays attached to: each is a connection and a thread, and a place at the other end.
const ATTACHED_MAX: usize = 16;

/// The nodes that were asked, the last at the end.
#[derive(Default)]
pub(crate) struct Others(RefCell<Vec<(Which, AttachedNode)>>);

impl Others {
    /// The node that is meant.
    ///
    /// # Errors
    /// If there is none, or more than one, or it lets nobody in.
    pub(crate) async fn attach(&self, which: &Which) -> Result<AttachedNode, Problem> {
        if let Some(known) = self.known(which) {
            return Ok(known);
        }
        let wanted = which.clone();
        // It blocks if a node hangs, and Ctrl-C does not wait for it.
        let attached = tokio::task::spawn_blocking(move || wanted.attach()).await;
        let attached = attached.map_err(|error| Problem::new(Code::System, error))?;
        let attached = attached.map_err(|error: FindError| Problem::new(Code::Gone, error))?;
        let mut all = self.0.borrow_mut();
        all.push((which.clone(), attached.clone()));
        if all.len() > ATTACHED_MAX {
            all.remove(0);
        }
        Ok(attached)
    }

    fn known(&self, which: &Which) -> Option<AttachedNode> {
        let mut all = self.0.borrow_mut();
        all.retain(|(_, attached)| !attached.is_closed());
        let known = all.iter().find(|(its, _)| its == which);
        known.map(|(_, attached)| attached.clone())
    }
}

/// The node that a port, an address, a contact or the path of a control socket means.
pub(crate) fn which_of(value: &LuaValue) -> Option<Which> {
    match value {
        LuaValue::Integer(port) => u16::try_from(*port).ok().map(Which::Port),
        LuaValue::String(text) => Which::of(Path::new(&*text.to_str().ok()?)),
        contact => peer_of(contact).map(|peer| Which::Address(peer.address)),
    }
}
