//! What a node keeps on disk: its id, its contacts and its values, in one database.
//!
//! [`open`] reads what is there and hands over a [`Writer`], which has a thread of its own: whoever
//! gives it something never waits for the disk. A database that is damaged, or that another node
//! has open, is left as it is, and the node does not start; where nothing can be written it starts
//! with what can be read, and keeps what comes in memory.
//!
//! The database is redb's: copy-on-write, so that a process that is killed leaves the last complete
//! transaction, and with checksums, all of which are checked here before anything is believed. Until
//! then it runs on a [`Shadow`] of its file, because it would mend the file as it opens it.
//!
//! Beside it lies a mark, the number of the last transaction. It tells a database that was turned
//! back to an older transaction, which is whole in itself, and its lock keeps other nodes away.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{fs, io, thread};

use redb::{Builder, Database, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::id::Id;

/// The file in the folder.
const FILE: &str = "state.redb";

/// Memory for pages of the file: they are read once, and written once in a while.
const CACHE_BYTES: usize = 1 << 20;

/// The version of what is written here.
const VERSION: u32 = 1;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");

const META_VERSION: &str = "version";
const META_ID: &str = "id";
const META_CONTACTS: &str = "contacts";

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
        "the state in {folder} is damaged ({reason}); nothing was taken from it. Put a copy of the \
         folder back, or move it away to begin anew"
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
        "the state in {folder} is that of node {kept}, not of {wanted}; leave the id out, or take another folder"
    )]
    Id {
        /// The folder.
        folder: PathBuf,
        /// The id in it.
        kept: Id,
        /// The id that was asked for.
        wanted: Id,
    },
    /// Nothing can be written there.
    #[error("cannot write to {folder}: {reason}")]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// How it goes with the state on disk.
#[derive(Clone, Debug)]
pub struct Status {
    /// The folder.
    pub folder: PathBuf,
    /// When something was written last.
    pub written: Option<Instant>,
    /// Why nothing is written at present; what the node has is in memory alone then.
    pub problem: Option<String>,
}

/// What writer and node share.
struct Shared {
    status: Status,
    /// Keys of a batch that was not written.
    failed: Vec<Id>,
}

/// Writes batches on a thread of its own.
pub(crate) struct Writer {
    batches: Option<SyncSender<Batch>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: Arc<Mutex<Shared>>,
}

/// Looks at a [`Status`] from elsewhere.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<Shared>>);

impl Watch {
    pub(crate) fn status(&self) -> Status {
        lock(&self.0).status.clone()
    }
}

/// Opens the state in a folder, or makes one for a node of this id.
///
/// # Errors
/// See [`StateError`].
pub(crate) fn open(
    folder: &Path,
    wanted: Option<Id>,
    default: Id,
) -> Result<(Kept, Writer), StateError> {
    let unwritable = |reason| StateError::Unwritable { folder: folder.to_owned(), reason };
    fs::create_dir_all(folder).map_err(unwritable)?;
    let path = folder.join(FILE);
    // A library that trusts what it wrote may stumble over what somebody else did.
    let read = AssertUnwindSafe(|| read(folder, &path, wanted.unwrap_or(default)));
    let (kept, database) = catch_unwind(read).unwrap_or_else(|_| {
        Err(StateError::Damaged { folder: folder.to_owned(), reason: "it makes no sense".into() })
    })?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != kept.id) {
        return Err(StateError::Id { folder: folder.to_owned(), kept: kept.id, wanted });
    }
    let writer = Writer::start(folder, path, database).map_err(unwritable)?;
    Ok((kept, writer))
}

fn read(folder: &Path, path: &Path, id: Id) -> Result<(Kept, Database), StateError> {
    let failed = |error: redb::Error| of_database(folder, error);
    let mut database = builder().create(path).map_err(|error| failed(error.into()))?;
    // What a process that was killed left half done is undone by then, and not counted.
    if !database.check_integrity().map_err(|error| failed(error.into()))? {
        let reason = "checksums were wrong".into();
        return Err(StateError::Damaged { folder: folder.to_owned(), reason });
    }
    let kept = match read_all(folder, &database)? {
        Some(kept) => kept,
        None => {
            begin(&database, id).map_err(failed)?;
            Kept { id, contacts: Vec::new(), values: Vec::new() }
        }
    };
    Ok((kept, database))
}

/// Writes what must be there from the first.
fn begin(database: &Database, id: Id) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_VERSION, &VERSION.to_le_bytes()[..])?;
        meta.insert(META_ID, &id.as_bytes()[..])?;
        transaction.open_table(VALUES)?;
    }
    transaction.commit()?;
    Ok(())
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// `None` if nothing was ever written.
fn read_all(folder: &Path, database: &Database) -> Result<Option<Kept>, StateError> {
    let failed = |error: redb::Error| of_database(folder, error);
    let damaged =
        |reason: &str| StateError::Damaged { folder: folder.to_owned(), reason: reason.to_owned() };
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let get = |name| -> Result<Option<Vec<u8>>, StateError> {
        let value = meta.get(name).map_err(|error| failed(error.into()))?;
        Ok(value.map(|value| value.value().to_vec()))
    };
    if get(META_VERSION)?.as_deref() != Some(&VERSION.to_le_bytes()) {
        return Err(StateError::Version(folder.to_owned()));
    }
    let id = get(META_ID)?.as_deref().and_then(Id::from_slice);
    let id = id.ok_or_else(|| damaged("it names no node"))?;
    let mut kept = Kept { id, contacts: Vec::new(), values: Vec::new() };
    if let Some(contacts) = get(META_CONTACTS)? {
        kept.contacts = decode(&contacts).ok_or_else(|| damaged("the contacts make no sense"))?;
    }
    let values = transaction.open_table(VALUES).map_err(|error| failed(error.into()))?;
    for entry in values.iter().map_err(|error| failed(error.into()))? {
        let (key, records) = entry.map_err(|error| failed(error.into()))?;
        let key = Id::from_slice(key.value()).ok_or_else(|| damaged("a key makes no sense"))?;
        let records =
            decode(records.value()).ok_or_else(|| damaged("the values of a key make no sense"))?;
        kept.values.push((key, records));
    }
    Ok(Some(kept))
}

fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

fn of_database(folder: &Path, error: redb::Error) -> StateError {
    let folder = folder.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => StateError::InUse(folder),
        redb::Error::UpgradeRequired(_) => StateError::Version(folder),
        redb::Error::Io(reason) => match reason.kind() {
            // What is read where nothing is.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                StateError::Damaged { folder, reason: reason.to_string() }
            }
            _ => StateError::Unwritable { folder, reason },
        },
        error => StateError::Damaged { folder, reason: error.to_string() },
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    fn start(folder: &Path, path: PathBuf, database: Database) -> io::Result<Writer> {
        let status = Status { folder: folder.to_owned(), written: None, problem: None };
        let shared = Arc::new(Mutex::new(Shared { status, failed: Vec::new() }));
        // Takes one only while the thread waits for it.
        let (batches, received) = sync_channel::<Batch>(0);
        let told = shared.clone();
        let run = move || {
            let mut file = File { path, database: Some(database) };
            while let Ok(batch) = received.recv() {
                tell(&told, &batch, file.write(&batch));
            }
        };
        let thread = thread::Builder::new().name("kademlua-state".into()).spawn(run)?;
        Ok(Writer { batches: Some(batches), thread: Some(thread), shared })
    }

    /// A writer where nothing can be written: it says why to whoever asks.
    pub(crate) fn of_nothing(folder: &Path, reason: &io::Error) -> Writer {
        let problem = Some(reason.to_string());
        let status = Status { folder: folder.to_owned(), written: None, problem };
        let shared = Arc::new(Mutex::new(Shared { status, failed: Vec::new() }));
        Writer { batches: None, thread: None, shared }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// Whether there is anything to write to.
    pub(crate) fn is_open(&self) -> bool {
        self.batches.is_some()
    }

    /// Keys whose values were not written, to be given again.
    pub(crate) fn take_failed(&self) -> Vec<Id> {
        std::mem::take(&mut lock(&self.shared).failed)
    }

    /// Whether the last attempt to write failed.
    pub(crate) fn is_failing(&self) -> bool {
        lock(&self.shared).status.problem.is_some()
    }

    /// Hands over a batch unless the one before is still being written; then it comes back.
    pub(crate) fn offer(&self, batch: Batch) -> Option<Batch> {
        match self.batches.as_ref()?.try_send(batch) {
            Ok(()) => None,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => Some(batch),
        }
    }

    /// Writes a last batch, and waits until it is written.
    pub(crate) fn finish(mut self, batch: Batch) {
        if let Some(batches) = self.batches.take() {
            let _ = batches.send(batch);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Notes how it went.
fn tell(shared: &Mutex<Shared>, batch: &Batch, result: Result<(), redb::Error>) {
    let mut shared = lock(shared);
    let folder = shared.status.folder.display().to_string();
    match result {
        Ok(()) => {
            if shared.status.problem.take().is_some() {
                info!(folder, "the state is written again");
            }
            shared.status.written = Some(Instant::now());
        }
        Err(error) => {
            let problem = error.to_string();
            if shared.status.problem.is_none() {
                warn!(folder, problem, "the state cannot be written; values are in memory alone");
            }
            shared.status.problem = Some(problem);
            shared.failed.extend(batch.values.iter().map(|(key, _)| *key));
        }
    }
}

struct File {
    path: PathBuf,
    /// Closed after an error: it takes no more then.
    database: Option<Database>,
}

impl File {
    fn write(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => builder().open(&self.path)?,
        };
        write(&database, batch)?;
        self.database = Some(database);
        Ok(())
    }
}

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut values = transaction.open_table(VALUES)?;
        for (key, records) in &batch.values {
            if records.is_empty() {
                values.remove(&key.as_bytes()[..])?;
            } else {
                values.insert(&key.as_bytes()[..], &encode(records)[..])?;
            }
        }
        let mut meta = transaction.open_table(META)?;
        if let Some(contacts) = &batch.contacts {
            meta.insert(META_CONTACTS, &encode(contacts)[..])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn encode(what: &(impl Serialize + ?Sized)) -> Vec<u8> {
    postcard::to_stdvec(what).expect("memory takes all")
}
