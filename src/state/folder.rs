//! A folder that belongs to one user alone, and files in it that are opened without trust: no link
//! is followed, only plain files are opened, and files that belong to somebody else are refused.
//!
//! A folder in a place where others may write may have been made by them, with anything in it. If
//! nobody else can write to a folder, its owner put everything there.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

/// Why a folder or a file is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It is not what it should be, or not whose it should be.
    #[error("{} {reason}", .path.display())]
    Unsafe {
        /// Folder or file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// The system does not let us.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is only read, even where nothing can be written.
    Read,
    /// It is read and written.
    Write,
    /// It is read, and only written at its end, whoever else writes there.
    Append,
}

/// A folder that others cannot write to.
#[derive(Clone, Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Checks a folder that is there. If others may enter it, it is closed to them if it is empty
    /// or contains one of the files in `known`. If it holds other things it is left as it is, and
    /// refused if others may write to it.
    ///
    /// # Errors
    /// Of kind `NotFound` if it is not there; [`FolderError::Unsafe`] if it cannot be trusted.
    pub(crate) fn existing(path: &Path, known: &[&str]) -> Result<PrivateFolder, FolderError> {
        // Without a slash at its end, which would follow a link.
        let path: PathBuf = path.components().collect();
        let path = resolved(&path)?;
        let metadata = fs::symlink_metadata(&path)?;
        let refused = |reason| FolderError::Unsafe { path: path.clone(), reason };
        if !metadata.is_dir() {
            return Err(refused("is no folder"));
        }
        if !is_own(&metadata) {
            return Err(refused("belongs to another user; take a folder of your own"));
        }
        if is_open(&metadata) {
            let is_known = known.iter().any(|name| path.join(name).symlink_metadata().is_ok());
            if is_known || fs::read_dir(&path)?.next().is_none() {
                close(&path, &open(&path, Access::Read)?, 0o700);
            } else if others_write(&metadata) {
                return Err(refused(
                    "is open to others and holds other things; take a folder of its own",
                ));
            }
        }
        Ok(PrivateFolder(path))
    }

    /// The same, but makes the folder if it is not there, for its owner alone.
    ///
    /// # Errors
    /// [`FolderError`], and errors of making it.
    pub(crate) fn make(path: &Path, known: &[&str]) -> Result<PrivateFolder, FolderError> {
        match PrivateFolder::existing(path, known) {
            Err(FolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)?;
        PrivateFolder::existing(path, known)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens a file that is there. If it is to be written, it is closed to others.
    ///
    /// # Errors
    /// Of kind `NotFound` if it is not there; [`FolderError::Unsafe`] if it is no plain file, or not of
    /// this user, or if what is to be written could be read under another name.
    pub(crate) fn open(&self, name: &str, access: Access) -> Result<File, FolderError> {
        let path = self.0.join(name);
        let file = open_plain(&path, access)?;
        if access == Access::Read {
            return Ok(file);
        }
        let metadata = file.metadata()?;
        if has_other_names(&metadata) {
            let reason = "has another name (a hard link); put a copy in its place";
            return Err(FolderError::Unsafe { path, reason });
        }
        if is_open(&metadata) {
            close(&path, &file, 0o600);
        }
        Ok(file)
    }

    /// Makes a file for its owner alone, in the place of one that is there.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path)
    }
}

/// Opens a plain file of this user that is there.
///
/// # Errors
/// As [`PrivateFolder::open`].
pub(crate) fn open_plain(path: &Path, access: Access) -> Result<File, FolderError> {
    // Looked at first: opening a device may have effects.
    check_file(path, &fs::symlink_metadata(path)?)?;
    let file = open(path, access)?;
    check_file(path, &file.metadata()?)?;
    Ok(file)
}

/// Where a folder is, if its name is a link. A link that others could have put there is not
/// followed.
fn resolved(path: &Path) -> Result<PathBuf, FolderError> {
    let link = fs::symlink_metadata(path)?;
    if !link.is_symlink() {
        return Ok(path.to_owned());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = fs::metadata(parent.unwrap_or(Path::new(".")))?;
    if !is_own(&link) || others_write(&parent) {
        let reason = "is a link in a place where others may write; name the folder itself";
        return Err(FolderError::Unsafe { path: path.to_owned(), reason });
    }
    Ok(fs::canonicalize(path)?)
}

fn check_file(path: &Path, metadata: &Metadata) -> Result<(), FolderError> {
    let refused = |reason| Err(FolderError::Unsafe { path: path.to_owned(), reason });
    if metadata.is_symlink() {
        return refused("is a link, which is not followed");
    }
    if !metadata.is_file() {
        return refused("is no plain file");
    }
    if !is_own(metadata) {
        return refused("belongs to another user");
    }
    Ok(())
}

/// Opens the file, unless it has become a link by now; does not wait for a pipe.
fn open(path: &Path, access: Access) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(access == Access::Write).append(access == Access::Append);
    #[cfg(unix)]
    {
        use nix::fcntl::OFlag;
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits());
    }
    options.open(path)
}

/// Closes a file or a folder to all but its owner. If that cannot be done, as on a read-only disk,
/// it stays as it is.
#[cfg(unix)]
fn close(path: &Path, file: &File, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = path.display();
    match file.set_permissions(fs::Permissions::from_mode(mode)) {
        Ok(()) => warn!(%path, "it was open to other users, and is now its owner's alone"),
        Err(error) => warn!(%path, %error, "it is open to other users, and stays so"),
    }
}

#[cfg(unix)]
fn is_own(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == nix::unistd::geteuid().as_raw()
}

/// Whether others may do anything with it.
#[cfg(unix)]
fn is_open(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o077 != 0
}

/// Whether the file has another name elsewhere.
#[cfg(unix)]
fn has_other_names(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

/// Whether others may put something there, even if only its owner could remove it again.
#[cfg(unix)]
fn others_write(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o022 != 0
}

#[cfg(not(unix))]
fn close(_: &Path, _: &File, _: u32) {}

/// On this system, the system's own rules make a folder its user's.
#[cfg(not(unix))]
fn is_own(_: &Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn is_open(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn has_other_names(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn others_write(_: &Metadata) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let name = format!("kademlua-folder-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Dir(path)
        }

        fn set_mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn mode(&self, name: &str) -> u32 {
            fs::symlink_metadata(self.0.join(name)).unwrap().mode() & 0o7777
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn is_refused<T>(result: Result<T, FolderError>) -> bool {
        matches!(result, Err(FolderError::Unsafe { .. }))
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let place = Dir::new("made");
        let folder = PrivateFolder::make(&place.0.join("a/b"), &[]).unwrap();
        folder.create("file").unwrap();
        assert_eq!((place.mode("a/b"), place.mode("a/b/file")), (0o700, 0o600));
    }

    #[test]
    fn what_was_open_to_others_is_closed() {
        let place = Dir::new("closed");
        PrivateFolder::make(&place.0.join("a"), &[]).unwrap().create("known").unwrap();
        place.set_mode("a", 0o777);
        place.set_mode("a/known", 0o644);
        let folder = PrivateFolder::existing(&place.0.join("a/"), &["known"]).unwrap();
        folder.open("known", Access::Write).unwrap();
        assert_eq!((place.mode("a"), place.mode("a/known")), (0o700, 0o600));
    }

    /// Somebody may name the home or `/tmp` by mistake.
    #[test]
    fn a_folder_with_other_things_in_it_is_not_changed() {
        let place = Dir::new("other");
        fs::create_dir(place.0.join("a")).unwrap();
        fs::write(place.0.join("a/thing"), "").unwrap();
        for (mode, refused) in [(0o755, false), (0o775, true), (0o1777, true)] {
            place.set_mode("a", mode);
            let existing = PrivateFolder::existing(&place.0.join("a"), &["known"]);
            assert_eq!((is_refused(existing), place.mode("a")), (refused, mode), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_plain_file_is_refused_and_not_waited_for() {
        let place = Dir::new("kinds");
        let folder = PrivateFolder::make(&place.0.join("a"), &[]).unwrap();
        let at = |name| folder.path().join(name);
        fs::write(place.0.join("target"), "precious").unwrap();
        symlink(place.0.join("target"), at("link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["link", "dangling", "device", "folder", "pipe", "socket"] {
            for access in [Access::Read, Access::Write, Access::Append] {
                assert!(is_refused(folder.open(name, access)), "{name}");
            }
        }
        // A link is not followed when the folder is made either.
        folder.create("link").unwrap();
        assert_eq!(fs::read(place.0.join("target")).unwrap(), b"precious");
    }

    #[test]
    fn a_link_to_a_folder_is_followed_only_where_nobody_else_writes() {
        let place = Dir::new("links");
        fs::create_dir(place.0.join("a")).unwrap();
        symlink("a", place.0.join("b")).unwrap();
        for (mode, refused) in [(0o755, false), (0o775, true), (0o1777, true)] {
            fs::set_permissions(&place.0, fs::Permissions::from_mode(mode)).unwrap();
            for name in ["b", "b/"] {
                let existing = PrivateFolder::existing(&place.0.join(name), &[]);
                assert_eq!(is_refused(existing), refused, "{name} in {mode:o}");
            }
        }
        fs::write(place.0.join("file"), "").unwrap();
        assert!(is_refused(PrivateFolder::make(&place.0.join("file"), &[])));
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can give something away");
            return;
        }
        let place = Dir::new("owners");
        let folder = PrivateFolder::make(&place.0.join("a"), &[]).unwrap();
        folder.create("file").unwrap();
        chown(folder.path().join("file"), Some(12_345), None).unwrap();
        assert!(is_refused(folder.open("file", Access::Read)));
        chown(folder.path(), Some(12_345), None).unwrap();
        assert!(is_refused(PrivateFolder::existing(folder.path(), &["file"])));
    }
}
