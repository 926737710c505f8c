//! Where lines typed in earlier runs are kept.

use std::path::PathBuf;

/// The history file, its folder made if need be; `None` where there is no place for it.
pub(crate) fn file() -> Option<PathBuf> {
    let folder = state_folder()?.join("kademlua");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// The user's folder for such things, as the XDG base directory specification has it.
fn state_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_STATE_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/state")))
        .or_else(|| set("LOCALAPPDATA"))
}
