//! Fast paths of network namespaces that are gone: their files stay in the bpf file system, where nobody
//! looks for them any more.
//!
//! No call of the kernel tells that a namespace is gone. It counts as gone if no process lives in
//! it, no name is mounted for it, and its node has given no sign of life.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::pins::{self, Folder, Of};
use super::status::heartbeat_of;
use crate::xdp::{Error, HEARTBEAT_MAX, Orphan};

/// The fast paths of namespaces that are gone, by port.
///
/// # Errors
/// If the bpf file system cannot be read.
pub fn orphans(bpffs: &Path) -> Result<Vec<Orphan>, Error> {
    let living = living();
    let mut orphans: Vec<Orphan> = pins::folders(bpffs)?
        .into_iter()
        .filter(|folder| !living.contains(&folder.namespace))
        .filter_map(orphan)
        .collect();
    orphans.sort_unstable_by_key(|orphan| (orphan.port, orphan.namespace));
    Ok(orphans)
}

fn orphan(folder: Folder) -> Option<Orphan> {
    let Of::Node(port) = folder.of else { return None };
    let beats = heartbeat_of(&folder.path).is_some_and(|age| age < HEARTBEAT_MAX);
    let interface = pins::about(&folder.path, port).map(|about| about.interface()).ok();
    let Folder { namespace, path, .. } = folder;
    (!beats).then_some(Orphan { port, interface, namespace, folder: path })
}

/// The numbers of the namespaces that processes live in or that have a name.
fn living() -> BTreeSet<u64> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_processes = processes.filter_map(|entry| number_of(&entry.path().join("ns/net")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The root of such a mount is the namespace itself: net:[4026531840].
    let named = mounts.split_whitespace().filter_map(|word| {
        word.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'))?.parse().ok()
    });
    of_processes.chain(named).chain(number_of(&PathBuf::from("/proc/thread-self/ns/net"))).collect()
}

fn number_of(namespace: &Path) -> Option<u64> {
    Some(fs::metadata(namespace).ok()?.ino())
}
