//! What a node keeps on disk: its id, its contacts and its values.
//!
//! Opening reads what is there and hands over a writer, which has a thread of its own: giving it
//! something never waits for the disk. If a state is damaged, if another node has it open or others
//! may have put it there, it is left as it is, and the node does not start. If nothing can be written,
//! the node starts with what can be read, and keeps new things in memory.
//!
//! It is a log: each change of a row of the store is one entry at its end, so that the bytes written
//! depend on what changes, and not on what lies beside it. (In a database of pages they do: redb 2.6,
//! measured, writes 16 kB for a commit that changes one row of 82 bytes.) When the log is much longer
//! than the entries that still count, its beginning is given up. All of it has checksums, which are
//! checked before anything is believed.
//!
//! Beside it lies a mark with the numbers of the last entries. It exposes a log that was cut off, which
//! would look whole by itself, and its lock keeps other nodes away. Written entries outlive the process
//! at once, and the machine seconds later.
//!
//! Times in the log count how long nodes of the folder have run, since a wall clock may be wrong. The
//! wall clock's offset is noted besides, once for each life of a node, and may be corrected later. A
//! node that starts while the machine runs on continues the life before it: the clock that counts from
//! the start of the machine tells the time between.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::wire::Dialect;

use self::file::File;

mod appender;
mod boot;
mod budget;
mod file;
mod folder;
mod log;
mod old;
mod replay;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use budget::{BURST, Budget, RATE};
pub(crate) use folder::{Access, FolderError, PrivateFolder, open_plain};
pub(crate) use writer::{StateWriter, StatusWatch, Unwritten};

/// Values that an earlier version kept may live this long by the time that nodes run, in
/// milliseconds: thirty days, longer than they were meant to.
const OLD_LIFE: u64 = 30 * 24 * 3_600_000;

/// A contact as it is written.
type Who = ([u8; Id::LEN], SocketAddr);

/// What lies in a row of the store, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedValue {
    /// Who published it; `None`: this node.
    pub(crate) publisher: Option<Who>,
    /// Who brought it.
    pub(crate) depositor: Option<Who>,
    /// Its standing: 0 hearsay, 1 claimed, 2 published.
    pub(crate) standing: u8,
    /// When it is forgotten, in milliseconds that nodes of the folder have run.
    pub(crate) expires: u64,
    /// Encoded.
    pub(crate) value: Vec<u8>,
}

/// A row that was there.
#[derive(Clone, Debug)]
pub(crate) struct KeptRow {
    /// Its number in the store.
    pub(crate) row: u64,
    pub(crate) key: Id,
    pub(crate) record: SavedValue,
    /// The life in which it was written.
    pub(crate) era: u32,
    /// When it is forgotten by the wall clock, in milliseconds since 1970.
    pub(crate) expires_wall: i64,
}

/// What a node is in one network.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: Id,
    /// The addresses of contacts that answered.
    pub(crate) contacts: Vec<SocketAddr>,
}

/// The state that was there.
#[derive(Debug)]
pub(crate) struct SavedState {
    /// The node's identity in each of its networks. The log has only that of v1, and the rows belong
    /// to v1's store.
    pub(crate) identities: BTreeMap<Dialect, Identity>,
    /// In the order of their numbers.
    pub(crate) rows: Vec<KeptRow>,
    /// When something was written last.
    pub(crate) last: Stamp,
    /// Whether the machine has run on since then.
    pub(crate) is_same_boot: bool,
    /// The number of the next life.
    pub(crate) next_era: u32,
}

impl SavedState {
    /// The state of a node that kept nothing.
    pub(crate) fn new(id: Id) -> SavedState {
        SavedState::with(id, Vec::new())
    }

    /// A state without rows.
    fn with(id: Id, contacts: Vec<SocketAddr>) -> SavedState {
        SavedState {
            identities: BTreeMap::from([(Dialect::V1, Identity { id, contacts })]),
            rows: Vec::new(),
            last: Stamp::default(),
            is_same_boot: false,
            next_era: 0,
        }
    }

    /// What the node is in the network of v1.
    pub(crate) fn v1(&self) -> &Identity {
        &self.identities[&Dialect::V1]
    }

    /// The state that an earlier version kept, with rows numbered anew. It only knew wall clock time,
    /// by which its rows are still judged.
    fn of_old(old: old::OldState) -> SavedState {
        let expiries = old.values.iter().flat_map(|(_, records)| records);
        let first = expiries.map(|record| record.expires).min().unwrap_or_default();
        let records = old
            .values
            .into_iter()
            .flat_map(|(key, records)| records.into_iter().map(move |record| (key, record)));
        let rows = records.zip(1..).map(|((key, record), row)| KeptRow {
            row,
            key,
            era: 0,
            expires_wall: i64::try_from(record.expires).unwrap_or(i64::MAX),
            record: SavedValue {
                standing: if record.publisher == record.depositor { 2 } else { 0 },
                publisher: record.publisher,
                depositor: record.depositor,
                expires: record.expires - first + OLD_LIFE,
                value: record.value,
            },
        });
        SavedState { rows: rows.collect(), ..SavedState::with(old.id, old.contacts) }
    }
}

/// When something is written, by the clocks of a life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Milliseconds that nodes of the folder have run.
    pub(crate) time: u64,
    /// Milliseconds since 1970.
    pub(crate) wall: u64,
    /// Milliseconds since the machine started, asleep or not; 0 where that is not known.
    pub(crate) boottime: u64,
    /// The number of the life.
    pub(crate) era: u32,
}

/// What is to be written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) stamp: Stamp,
    /// What lies in rows now: their numbers, their keys, and nothing if they are gone.
    pub(crate) rows: Vec<(u64, Id, Option<SavedValue>)>,
    pub(crate) contacts: Option<Vec<SocketAddr>>,
}

/// Why a node cannot use a folder.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it open.
    #[error(
        "the state in {0} belongs to another node that runs; give each node a folder of its own"
    )]
    InUse(PathBuf),
    /// The content cannot be believed.
    #[error(
        "the state in {folder} is damaged ({reason}); nothing was taken from it or changed in it. Put \
         a copy of the folder back, or move it away to begin anew"
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Others may have put the content there.
    #[error("the state in {folder} is not used: {reason}")]
    Unsafe {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was written by another version.
    #[error("the state in {0} was written by another version of kademlua, which alone can read it")]
    Version(PathBuf),
    /// It belongs to another id.
    #[error(
        "the state in {folder} is that of node {kept}, not of {wanted}; leave the id out, or take \
         another folder"
    )]
    Id {
        /// The folder.
        folder: PathBuf,
        /// The id in it.
        kept: Id,
        /// The id that was asked for.
        wanted: Id,
    },
    /// The system grants no thread to write it.
    #[error("cannot start the thread that writes the state: {0}")]
    Thread(io::Error),
}

/// How the state on disk fares.
#[derive(Clone, Debug)]
pub struct StateStatus {
    /// The folder.
    pub folder: PathBuf,
    /// When something was written last.
    pub written: Option<Instant>,
    /// Bytes written since the node started.
    pub bytes: u64,
    /// Why nothing is written at present; newer things are only in memory.
    pub problem: Option<String>,
}

/// Opens the state in a folder, or makes one for the node `wanted`, or `default`. If nothing can be
/// written the [`StateStatus`] says so, and what can be read is read.
///
/// # Errors
/// See [`StateError`].
pub(crate) fn open(
    folder: &Path,
    wanted: Option<Id>,
    default: Id,
) -> Result<(SavedState, StateWriter), StateError> {
    let (kept, file, problem) = File::open(folder, wanted.unwrap_or(default))?;
    let id = kept.v1().id;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != id) {
        return Err(StateError::Id { folder: folder.to_owned(), kept: id, wanted });
    }
    let writer = StateWriter::start(file, problem).map_err(StateError::Thread)?;
    Ok((kept, writer))
}
