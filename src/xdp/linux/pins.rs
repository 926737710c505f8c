//! Where fast paths are left in the bpf file system, and how their maps are opened from there.
//!
//! ```text
//! /sys/fs/bpf/kademlua/
//!     4026531840-if2/     an interface: network namespace and number; belongs to who attached
//!         program link                        what holds it in the kernel: gone with these files
//!         about strays strangers sources clients tickets
//!         node_by_port counters_by_port events_by_port
//!     4026531840-8001/    a node: network namespace and port; belongs to the node's user
//!         about node counters events gate
//!     lock/               locked by who attaches or detaches
//! ```
//!
//! What makes a folder whole comes last, the `link` or a node's `about`: one without it is what a crash left.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::maps::{Array, Map, MapData};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use crate::xdp::layout::{About, LAYOUT_VERSION};
use crate::xdp::{Error, Mode, Pinning};

pub(super) const PROGRAM: &str = "program";
pub(super) const LINK: &str = "link";
pub(super) const ABOUT: &str = "about";

/// The maps of an interface, beside its `about`.
pub(super) const OF_INTERFACE: [&str; 8] = [
    "node_by_port",
    "counters_by_port",
    "events_by_port",
    "strays",
    "strangers",
    "sources",
    "clients",
    "tickets",
];

/// Of a node.
pub(super) const OF_NODE: [&str; 4] = ["node", "counters", "events", "gate"];

const FOLDER: &str = "kademlua";
const LOCK: &str = "lock";
const INTERFACE_PREFIX: &str = "if";

/// The folder of all fast paths.
pub(super) fn all(bpffs: &Path) -> PathBuf {
    bpffs.join(FOLDER)
}

/// Checks that nobody else can put something into the folder of all fast paths: in a bpf file system
/// that everybody may write to, the first to come makes it.
pub(super) fn check(bpffs: &Path) -> Result<(), Error> {
    let folder = all(bpffs);
    let Ok(metadata) = fs::symlink_metadata(&folder) else { return Ok(()) };
    let (uid, mode) = (metadata.uid(), metadata.mode());
    let is_ours = uid == 0 || uid == geteuid().as_raw();
    match metadata.is_dir() && is_ours && mode & 0o022 == 0 {
        true => Ok(()),
        false => Err(Error::Foreign { folder, uid, mode: mode & 0o7777 }),
    }
}

impl Pinning {
    /// The folder of this node, which nobody else can have made.
    pub(super) fn folder(&self) -> Result<PathBuf, Error> {
        check(&self.bpffs)?;
        Ok(all(&self.bpffs).join(format!("{}-{}", namespace()?, self.port)))
    }
}

/// The number of the caller's network namespace.
pub(super) fn namespace() -> Result<u64, Error> {
    let namespace = fs::metadata("/proc/thread-self/ns/net");
    Ok(namespace.map_err(|error| Error::failed("finding the network namespace", error))?.ino())
}

/// The folder of an interface.
pub(super) fn of_interface(bpffs: &Path, namespace: u64, index: u32) -> PathBuf {
    all(bpffs).join(format!("{namespace}-{INTERFACE_PREFIX}{index}"))
}

/// A folder of one of the two kinds.
pub(super) struct Folder {
    pub(super) namespace: u64,
    pub(super) of: Of,
    pub(super) path: PathBuf,
}

/// Whose it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The number of an interface.
    Interface(u32),
    /// The port of a node.
    Node(u16),
}

impl Folder {
    /// `None` if it is something else.
    fn at(path: PathBuf) -> Option<Folder> {
        let (namespace, of) = path.file_name()?.to_str()?.split_once('-')?;
        let of = match of.strip_prefix(INTERFACE_PREFIX) {
            Some(index) => Of::Interface(index.parse().ok()?),
            None => Of::Node(of.parse().ok()?),
        };
        Some(Folder { namespace: namespace.parse().ok()?, of, path })
    }

    /// Whether it was left whole.
    pub(super) fn is_whole(&self) -> bool {
        let is_there = |name: &str| self.path.join(name).exists();
        is_there(ABOUT) && (matches!(self.of, Of::Node(_)) || is_there(LINK))
    }
}

/// All folders.
///
/// # Errors
/// If the bpf file system cannot be read.
pub(super) fn folders(bpffs: &Path) -> Result<Vec<Folder>, Error> {
    if !is_bpffs(bpffs) {
        return Err(Error::NoBpffs(bpffs.to_owned()));
    }
    check(bpffs)?;
    let entries = match fs::read_dir(all(bpffs)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(_) => return Err(Error::Permission("reading the bpf file system")),
    };
    Ok(entries.filter_map(|entry| Folder::at(entry.ok()?.path())).collect())
}

pub(super) fn is_bpffs(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|statfs| statfs.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes a folder that others may enter, unless it is there.
pub(super) fn make(folder: &Path) -> Result<(), Error> {
    make_with(folder, 0o755)
}

fn make_with(folder: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::Permission("writing to the bpf file system"))
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::failed("making a folder in the bpf file system", error))
        }
        _ => Ok(()),
    }
}

/// Takes a folder away, with all that is in it. What holds the program goes first.
pub(super) fn remove(folder: &Path) -> Result<(), Error> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in [folder.join(LINK)].into_iter().chain(files) {
        let _ = fs::remove_file(file);
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Permission("removing the folder"))
        }
        _ => Ok(()),
    }
}

/// Held by a process that changes the pins of a bpf file system. The folder of all fast paths is there
/// as long.
pub(super) struct Lock {
    bpffs: PathBuf,
    _folder: Flock<File>,
}

impl Lock {
    /// Waits for others at work there.
    pub(super) fn take(bpffs: &Path) -> Result<Lock, Error> {
        let failed = |error| Error::failed("locking the bpf file system", error);
        let folder = all(bpffs).join(LOCK);
        loop {
            make(&all(bpffs))?;
            // Somebody else may have been first.
            check(bpffs)?;
            // Nobody else may keep it locked.
            match make_with(&folder, 0o700) {
                // The last one has just left, and has taken it along.
                Err(_) if !all(bpffs).exists() => continue,
                made => made?,
            }
            let file = match File::open(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Error::Permission("locking the bpf file system"));
                }
                opened => opened.map_err(failed)?,
            };
            let inode = file.metadata().map_err(failed)?.ino();
            let locked = Flock::lock(file, FlockArg::LockExclusive);
            let locked = locked.map_err(|(_, errno)| failed(errno.into()))?;
            // Or has taken it along meanwhile.
            if fs::metadata(&folder).is_ok_and(|there| there.ino() == inode) {
                return Ok(Lock { bpffs: bpffs.to_owned(), _folder: locked });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let all = all(&self.bpffs);
        // Nothing but the lock: the last one takes it along.
        if fs::read_dir(&all).is_ok_and(|entries| entries.count() == 1) {
            let _ = fs::remove_dir(all.join(LOCK));
            let _ = fs::remove_dir(&all);
        }
    }
}

pub(super) fn map(folder: &Path, name: &str) -> Result<MapData, Error> {
    MapData::from_pin(folder.join(name)).map_err(|error| Error::failed("opening a map", error))
}

/// What the loader wrote down.
pub(super) fn about(folder: &Path, port: u16) -> Result<About, Error> {
    let about = any_about(folder)?;
    if about.version == LAYOUT_VERSION { Ok(about) } else { Err(Error::Version(port)) }
}

/// The same, whatever version of kademlua wrote it.
pub(super) fn any_about(folder: &Path) -> Result<About, Error> {
    let map = Map::Array(map(folder, ABOUT)?);
    let map = Array::<_, [u8; size_of::<About>()]>::try_from(map)
        .map_err(|error| Error::failed("opening a map", error))?;
    let bytes = map.get(&0, 0).map_err(|error| Error::failed("reading a map", error))?;
    Ok(bytemuck::must_cast(bytes))
}

impl About {
    /// The name that the interface had.
    pub(super) fn interface(&self) -> String {
        let bytes = self.interface.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// `None` in what another version wrote.
    pub(super) fn mode(&self) -> Option<Mode> {
        Mode::ALL.get(usize::from(self.mode)).copied()
    }
}
