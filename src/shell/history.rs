//! Where lines typed in earlier runs are kept.

use std::path::PathBuf;

use tracing::warn;

use crate::state::{Access, PrivateFolder, Refused};

const FILE: &str = "history";

/// The history file, its folder made if need be; `None` where there is no place for it, or others
/// could have put there what is there.
pub(crate) fn file() -> Option<PathBuf> {
    let folder = state_folder()?.join("kademlua");
    let opened = PrivateFolder::make(&folder, &[FILE]).and_then(|folder| {
        match folder.open(FILE, Access::Write) {
            Err(Refused::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            opened => drop(opened?),
        }
        Ok(folder.path().join(FILE))
    });
    if let Err(refused @ Refused::Unsafe { .. }) = &opened {
        warn!("there is no history: {refused}");
    }
    opened.ok()
}

/// The user's folder for such things, as the XDG base directory specification has it.
fn state_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_STATE_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/state")))
        .or_else(|| set("LOCALAPPDATA"))
}
