//! Where the control sockets of a user's nodes lie, and what they are called.
//!
//! They lie in the runtime folder, in a folder that only the user can enter: `8001.sock` belongs to the node on
//! port 8001. Two nodes can have the same port, on different addresses or in different network namespaces: the
//! second is `8001-127.0.0.2.sock`, and further ones are counted. If a killed node left its socket behind, the
//! next process that finds it removes it. The folder is locked meanwhile, so that only one process does.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::state::{FolderError, PrivateFolder};

const SUFFIX: &str = ".sock";

/// Nodes of one port and address, in different network namespaces.
const TWINS_MAX: usize = 100;

/// Clients that wait to be let in: as many as are served.
const BACKLOG: i32 = 16;

/// How often, and how far apart, the folder's lock is tried. It is held for less than a
/// millisecond.
const LOCK_TRIES: u32 = 1_000;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// How long an end of the socket may take to let the other in, or to take what the other sends.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no place for sockets.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The folder cannot be trusted.
    #[error("the folder for control sockets cannot be used: {0}")]
    Folder(String),
    /// The system does not let us.
    #[error("{}: {reason}", .path.display())]
    System {
        /// Folder or socket.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// All names are taken.
    #[error("{TWINS_MAX} nodes of this port and address have a control socket")]
    TooMany,
}

impl From<FolderError> for PlaceError {
    fn from(refused: FolderError) -> PlaceError {
        PlaceError::Folder(refused.to_string())
    }
}

/// The name of a control socket in use. When it is dropped, the socket is removed.
#[derive(Debug)]
pub(super) struct BoundName {
    pub(super) path: PathBuf,
    inode: u64,
}

impl Drop for BoundName {
    fn drop(&mut self) {
        // Without the lock it stays, and if another node owns the name by now.
        let Some(_lock) = self.path.parent().and_then(|folder| lock(folder).ok()) else { return };
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket of the node at an address.
pub(super) fn listen(local: SocketAddr) -> Result<(UnixListener, BoundName), PlaceError> {
    let place = place();
    let known: Vec<String> = names(&place).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let folder = PrivateFolder::make(&place, &known)?;
    let failed = |path: &Path, reason| PlaceError::System { path: path.to_owned(), reason };
    let _lock = lock(folder.path()).map_err(|reason| failed(folder.path(), reason))?;
    for name in names_of(local) {
        let path = folder.path().join(name + SUFFIX);
        if !is_free(&path) {
            continue;
        }
        let bound = bind(&path).map_err(|reason| failed(&path, reason));
        let inode = fs::symlink_metadata(&path).map_or(0, |made| made.ino());
        return bound.map(|listener| (listener, BoundName { path, inode }));
    }
    Err(PlaceError::TooMany)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody else gets into the folder, nor to the socket, should the folder be opened.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// Connects to a socket, for no longer than [`PATIENCE`].
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // This bounds connecting too: a node that takes nobody in has a full backlog some day.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// The sockets of this user's nodes, by their ports; those of dead nodes may be among them.
///
/// # Errors
/// If the folder cannot be read or trusted.
pub(super) fn sockets() -> Result<Vec<PathBuf>, PlaceError> {
    let place = place();
    match fs::symlink_metadata(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        _ => {}
    }
    let folder = PrivateFolder::existing(&place, &[])?;
    let failed = |reason| PlaceError::System { path: place, reason };
    let mut names = names(folder.path()).map_err(failed)?;
    names.sort_by_cached_key(|name| (port_of(name), name.clone()));
    Ok(names.into_iter().map(|name| folder.path().join(name)).collect())
}

/// Removes the socket that a dead node left, if that is what lies there.
pub(super) fn clean(path: &Path) {
    let is_ours = path.parent().is_some_and(|folder| folder == place());
    if let Some(folder) = path.parent().filter(|_| is_ours)
        && let Ok(_lock) = lock(folder)
    {
        is_free(path);
    }
}

/// Whether nothing lies there, once the socket of a dead node was removed. The folder is locked.
fn is_free(path: &Path) -> bool {
    let Ok(found) = fs::symlink_metadata(path) else { return true };
    let is_dead =
        || connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    found.file_type().is_socket() && is_dead() && fs::remove_file(path).is_ok()
}

/// Locks a folder until the lock is dropped.
fn lock(folder: &Path) -> io::Result<Flock<File>> {
    let mut file = File::open(folder)?;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, error)) => return Err(error.into()),
        }
        sleep(LOCK_PAUSE);
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The folder. A runtime folder that belongs to another user, as `su` leaves it in the environment,
/// does not count.
fn place() -> PathBuf {
    let user = geteuid();
    let is_own = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user.as_raw())
    };
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let named = named.filter(|path| path.is_absolute());
    let runtime = named
        .filter(is_own)
        .or_else(|| Some(PathBuf::from(format!("/run/user/{user}"))).filter(is_own));
    match runtime {
        Some(runtime) => runtime.join("kademlua"),
        None => std::env::temp_dir().join(format!("kademlua-{user}")),
    }
}

/// The files in the folder with names like ours.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let names = fs::read_dir(folder)?.filter_map(name);
    Ok(names.filter(|name| port_of(name).is_some()).collect())
}

/// The names that the socket of a node at an address may have; the first free one is taken.
fn names_of(local: SocketAddr) -> impl Iterator<Item = String> {
    let (ip, port) = (local.ip(), local.port());
    let twins = (2..=TWINS_MAX).map(move |number| format!("{port}-{ip}-{number}"));
    [port.to_string(), format!("{port}-{ip}")].into_iter().chain(twins)
}

/// The port of the node whose socket has this name.
pub(super) fn port_of(name: &str) -> Option<u16> {
    let name = name.strip_suffix(SUFFIX)?;
    name.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_port() {
        for (name, port) in [
            ("8001.sock", Some(8001)),
            ("8001-127.0.0.2.sock", Some(8001)),
            ("8001-::1-2.sock", Some(8001)),
            ("8001", None),
            ("x.sock", None),
            ("99999.sock", None),
        ] {
            assert_eq!(port_of(name), port, "{name}");
        }
        for name in names_of(([127, 0, 0, 2], 8001).into()) {
            assert_eq!(port_of(&(name + SUFFIX)), Some(8001));
        }
    }
}
