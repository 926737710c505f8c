//! Where the history of typed lines is kept, and the results of lessons.

use std::path::PathBuf;

use tracing::warn;

use crate::state::{Access, FolderError, PrivateFolder};

use super::folders;

/// The lines typed at the prompt.
const HISTORY: &str = "history";

/// The results of lessons.
pub(crate) const RESULTS: &str = "lessons.jsonl";

/// The history file, its folder made if need be; `None` if there is no place for it, or others
/// could have put files there.
pub(crate) fn file() -> Option<PathBuf> {
    let opened = folder().and_then(|folder| {
        match folder.open(HISTORY, Access::Write) {
            Err(FolderError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            opened => drop(opened?),
        }
        Ok(folder.path().join(HISTORY))
    });
    if let Err(refused @ FolderError::Unsafe { .. }) = &opened {
        warn!("there is no history: {refused}");
    }
    opened.ok()
}

/// The folder for such files, made if need be.
///
/// # Errors
/// If there is no place for it, or others could have put files there.
pub(crate) fn folder() -> Result<PrivateFolder, FolderError> {
    let place = folders::base("XDG_STATE_HOME", ".local/state");
    let place = place.or_else(|| folders::set("LOCALAPPDATA")).ok_or_else(|| {
        let message = "neither XDG_STATE_HOME nor HOME names a folder";
        std::io::Error::new(std::io::ErrorKind::Unsupported, message)
    })?;
    PrivateFolder::make(&place.join("kademlua"), &[HISTORY, RESULTS])
}
