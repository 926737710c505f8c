//! Where a fast path is pinned in the bpf file system, and how its maps are opened from there.
//!
//! ```text
//! /sys/fs/bpf/kademlua/4026531840-8001/    network namespace and port; belongs to the node's user
//!     program link                         what holds it in the kernel: gone with these files
//!     about heartbeat counters seen events
//!     tables ipv4_a ipv4_b ipv6_a ipv6_b
//! ```

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use aya::maps::{Array, MapData};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use crate::xdp::layout::{About, LAYOUT_VERSION};
use crate::xdp::{Error, Pinning};

pub(super) const PROGRAM: &str = "program";
pub(super) const LINK: &str = "link";

/// The maps that are pinned beside the program, those of the tables among them.
pub(super) const MAPS: [&str; 10] = [
    "about",
    "heartbeat",
    "counters",
    "seen",
    "events",
    "tables",
    "ipv4_a",
    "ipv4_b",
    "ipv6_a",
    "ipv6_b",
];

const FOLDER: &str = "kademlua";

/// The value of a map with one entry.
pub(super) type Single<const SIZE: usize> = Array<MapData, [u8; SIZE]>;

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
    /// The folder of this fast path, which nobody else can have made.
    pub(super) fn folder(&self) -> Result<PathBuf, Error> {
        check(&self.bpffs)?;
        let namespace = fs::metadata("/proc/thread-self/ns/net");
        let namespace =
            namespace.map_err(|error| Error::failed("finding the network namespace", error))?.ino();
        Ok(all(&self.bpffs).join(format!("{namespace}-{}", self.port)))
    }
}

/// The folders of all fast paths, with the number of the network namespace and the port of each.
///
/// # Errors
/// If the bpf file system cannot be read.
pub(super) fn folders(bpffs: &Path) -> Result<Vec<(u64, u16, PathBuf)>, Error> {
    if !is_bpffs(bpffs) {
        return Err(Error::NoBpffs(bpffs.to_owned()));
    }
    check(bpffs)?;
    let entries = match fs::read_dir(all(bpffs)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(_) => return Err(Error::Permission("reading the bpf file system")),
    };
    let read = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let (namespace, port) = path.file_name()?.to_str()?.split_once('-')?;
        Some((namespace.parse().ok()?, port.parse().ok()?, path.clone()))
    };
    Ok(entries.filter_map(read).collect())
}

pub(super) fn is_bpffs(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|statfs| statfs.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn map(folder: &Path, name: &str) -> Result<MapData, Error> {
    MapData::from_pin(folder.join(name)).map_err(|error| Error::failed("opening a map", error))
}

pub(super) fn single<const SIZE: usize>(folder: &Path, name: &str) -> Result<Single<SIZE>, Error> {
    let map = aya::maps::Map::Array(map(folder, name)?);
    Array::try_from(map).map_err(|error| Error::failed("opening a map", error))
}

/// What the loader wrote down.
pub(super) fn about(folder: &Path, port: u16) -> Result<About, Error> {
    let map = single::<{ size_of::<About>() }>(folder, "about")?;
    let bytes = map.get(&0, 0).map_err(|error| Error::failed("reading a map", error))?;
    let about: About = bytemuck::must_cast(bytes);
    if about.version == LAYOUT_VERSION { Ok(about) } else { Err(Error::Version(port)) }
}

pub(super) fn interface_of(about: &About) -> String {
    let bytes = about.interface.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
