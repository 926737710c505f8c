//! What a node keeps on disk: its id, its contacts and its values, in one database.
//!
//! Opening reads what is there and hands over a writer, which has a thread of its own: whoever
//! gives it something never waits for the disk. A database that is damaged, or that another node
//! has open, is left as it is, and the node does not start; where nothing can be written it starts
//! with what can be read, and keeps what comes in memory.
//!
//! The database is redb's: copy-on-write, so that a process that is killed leaves the last complete
//! transaction, and with checksums, all of which are checked here before anything is believed. Until
//! then it runs on a copy of its file, because it would mend the file as it opens it.
//!
//! Beside it lies a mark, the number of the last transaction. It tells a database that was turned
//! back to an older transaction, which is whole in itself, and its lock keeps other nodes away.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::id::Id;

use self::file::File;

mod file;
mod shadow;
mod writer;

pub(crate) use writer::{Watch, Writer};

/// A contact as it is written.
type Who = ([u8; Id::LEN], SocketAddr);

/// A value under a key as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Who published it; `None`: this node.
    pub(crate) owner: Option<Who>,
    /// Who brought it.
    pub(crate) depositor: Option<Who>,
    /// When it is forgotten, in milliseconds since 1970: clocks that count from a start begin anew.
    pub(crate) expires: u64,
    /// Encoded.
    pub(crate) value: Vec<u8>,
}

/// What was there.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The node's id.
    pub(crate) id: Id,
    /// Where contacts were that answered.
    pub(crate) contacts: Vec<SocketAddr>,
    pub(crate) values: Vec<(Id, Vec<Record>)>,
}

/// What is to be written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// All that lies under a key now; nothing takes the key away.
    pub(crate) values: Vec<(Id, Vec<Record>)>,
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
    /// What is there cannot be believed.
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

/// How it goes with the state on disk.
#[derive(Clone, Debug)]
pub struct Status {
    /// The folder.
    pub folder: PathBuf,
    /// When something was written last.
    pub written: Option<Instant>,
    /// Why nothing is written at present; what came since then is in memory alone.
    pub problem: Option<String>,
}

/// Opens the state in a folder, or makes one for a node of this id. Where nothing can be written the
/// [`Status`] says so, and what there is to read is read.
///
/// # Errors
/// See [`StateError`].
pub(crate) fn open(
    folder: &Path,
    wanted: Option<Id>,
    default: Id,
) -> Result<(Kept, Writer), StateError> {
    let (kept, file, problem) = File::open(folder, wanted.unwrap_or(default))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != kept.id) {
        return Err(StateError::Id { folder: folder.to_owned(), kept: kept.id, wanted });
    }
    let writer = Writer::start(file, problem).map_err(StateError::Thread)?;
    Ok((kept, writer))
}
