//! The user's folders, by the XDG base directory specification.

use std::path::PathBuf;

/// The folder that a variable names, or else one below the home folder.
pub(crate) fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    set(variable).or_else(|| Some(set("HOME")?.join(below_home)))
}

/// The folder with what a user sets up: `init.lua`, and `lua/` with modules.
pub(crate) fn configuration() -> Option<PathBuf> {
    Some(base("XDG_CONFIG_HOME", ".config")?.join("kademlua"))
}

/// An absolute path; others are to be ignored.
pub(crate) fn set(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
