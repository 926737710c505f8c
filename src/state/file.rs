//! The database and its mark in a folder.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{fs, io};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableTable as _, StorageBackend as _};
use redb::{TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use super::shadow::Shadow;
use super::{Batch, Kept, StateError};
use crate::id::Id;

/// The database.
const FILE: &str = "state.redb";

/// It, before it has anything in it.
const NEW_FILE: &str = "state.redb.new";

/// The number of the last transaction, and a checksum of that.
const MARK: &str = "state.mark";

/// Bytes of a mark.
const MARK_BYTES: usize = 16;

/// Memory for pages of the file: they are read once, and written once in a while.
const CACHE_BYTES: usize = 1 << 20;

/// The version of what is written here.
const VERSION: u32 = 1;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");

const META_VERSION: &str = "version";
const META_ID: &str = "id";
const META_CONTACTS: &str = "contacts";
const META_TRANSACTION: &str = "transaction";

/// What cannot be.
const MISSING: &str = "a file is missing";

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The folder is not to be used.
    #[error(transparent)]
    Refused(#[from] StateError),
    /// The system does not let us.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] Trouble),
    #[error("the database fails")]
    Panic,
    #[error("the database was removed or replaced; what comes is kept again after a new start")]
    Gone,
}

/// What the database says, which is large.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Trouble(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble(Box::new(error.into()))
    }
}

/// The state of a node in its folder.
pub(super) struct File {
    folder: PathBuf,
    id: Id,
    /// The lock, and the last transaction.
    mark: Option<FileBackend>,
    /// Closed after a failure: it takes no more then.
    open: Option<Open>,
    /// Which file the database is, from when it was opened first.
    place: Option<Place>,
}

/// Device and number of a file.
type Place = (u64, u64);

/// An open database.
struct Open {
    database: Database,
    transaction: u64,
}

impl File {
    /// Opens what is in a folder, or makes it for a node of this id. Also tells why nothing can be
    /// written there, if so; that is tried again with each batch.
    pub(super) fn open(folder: &Path, id: Id) -> Result<(Kept, File, Option<String>), StateError> {
        let mut file = File { folder: folder.to_owned(), id, mark: None, open: None, place: None };
        let (kept, failure) = match file.attach() {
            Ok(kept) => (kept, None),
            Err(Failure::Refused(refused)) => return Err(refused),
            Err(failure) => (file.look()?, Some(failure.to_string())),
        };
        let kept = kept.unwrap_or(Kept { id, contacts: Vec::new(), values: Vec::new() });
        file.id = kept.id;
        Ok((kept, file, failure))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a batch as one transaction.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        // What is written to a file without a name is lost.
        if self.place.is_some_and(|place| place_of(&self.folder.join(FILE)).ok() != Some(place)) {
            return Err(Failure::Gone);
        }
        if self.open.is_none() {
            let kept = self.attach()?;
            let (folder, wanted) = (self.folder.clone(), self.id);
            if let Some(kept) = kept.map(|kept| kept.id).filter(|kept| *kept != wanted) {
                self.open = None;
                return Err(StateError::Id { folder, kept, wanted }.into());
            }
        }
        // Not put back after a failure.
        let mut open = self.open.take().expect("attached just above");
        open.write(batch)?;
        self.set_mark(open.transaction)?;
        self.open = Some(open);
        Ok(())
    }

    /// Takes the lock and opens the database; what it keeps, `None` if it is new.
    fn attach(&mut self) -> Result<Option<Kept>, Failure> {
        let kept = self.attach_to_file()?;
        self.place = Some(place_of(&self.folder.join(FILE))?);
        Ok(kept)
    }

    fn attach_to_file(&mut self) -> Result<Option<Kept>, Failure> {
        if self.mark.is_none() {
            fs::create_dir_all(&self.folder)?;
            if self.existing(MARK)?.is_none() && self.existing(FILE)?.is_some() {
                return Err(self.damaged(MISSING).into());
            }
            let mark = writable().create(true).truncate(false).open(self.folder.join(MARK))?;
            self.mark = Some(self.locked(mark)?);
        }
        let marked = self.marked()?;
        match writable().open(self.folder.join(FILE)) {
            Ok(file) => {
                let (kept, shadow, open) = self.read(file, marked)?;
                shadow.release()?;
                if marked.is_none() {
                    self.set_mark(0)?;
                }
                self.open = Some(open);
                Ok(Some(kept))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Err(_) if marked.is_some() => Err(self.damaged(MISSING).into()),
            Err(_) => {
                let open = self.make()?;
                self.set_mark(0)?;
                self.open = Some(open);
                Ok(None)
            }
        }
    }

    /// Reads what a folder keeps in which nothing can be written.
    fn look(&mut self) -> Result<Option<Kept>, StateError> {
        // A folder that may not be read keeps nothing that could be lost here.
        if fs::read_dir(&self.folder).is_err() {
            return Ok(None);
        }
        let is_locked = self.mark.is_some();
        if !is_locked {
            let Some(mark) = self.existing(MARK)? else {
                return match self.existing(FILE)? {
                    Some(_) => Err(self.damaged(MISSING)),
                    None => Ok(None),
                };
            };
            self.mark = Some(self.locked(mark)?);
        }
        let marked = self.marked()?;
        let kept = match self.existing(FILE)? {
            Some(file) => Some(self.read(file, marked)?.0),
            None if marked.is_some() => return Err(self.damaged(MISSING)),
            None => None,
        };
        if !is_locked {
            // To write takes one that was opened for it.
            self.mark = None;
        }
        Ok(kept)
    }

    fn existing(&self, name: &str) -> Result<Option<fs::File>, StateError> {
        match fs::File::open(self.folder.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.damaged(&error.to_string())),
        }
    }

    fn locked(&self, file: fs::File) -> Result<FileBackend, StateError> {
        FileBackend::new(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StateError::InUse(self.folder.clone()),
            error => self.damaged(&error.to_string()),
        })
    }

    fn damaged(&self, reason: &str) -> StateError {
        StateError::Damaged { folder: self.folder.clone(), reason: reason.to_owned() }
    }

    fn set_mark(&self, number: u64) -> io::Result<()> {
        let mark = self.mark.as_ref().expect("taken before the database");
        mark.write(0, &encode_mark(number))
    }

    /// The number of the last transaction, `None` before the database was made.
    fn marked(&self) -> Result<Option<u64>, StateError> {
        let mark = self.mark.as_ref().expect("taken before it is read");
        let read = |len| mark.read(0, len).map_err(|error| self.damaged(&error.to_string()));
        match mark.len().map_err(|error| self.damaged(&error.to_string()))? {
            0 => Ok(None),
            len if len == MARK_BYTES as u64 => {
                let number = decode_mark(&read(MARK_BYTES)?);
                number.map(Some).ok_or_else(|| self.damaged("the mark makes no sense"))
            }
            _ => Err(self.damaged("the mark has a wrong length")),
        }
    }

    /// Reads a database without changing its file.
    fn read(
        &self,
        file: fs::File,
        marked: Option<u64>,
    ) -> Result<(Kept, Shadow, Open), StateError> {
        let unreadable = |error: io::Error| self.damaged(&error.to_string());
        let file = self.locked(file)?;
        if file.len().map_err(unreadable)? == 0 {
            return Err(self.damaged("the database is empty"));
        }
        let shadow = Shadow::new(file).map_err(unreadable)?;
        let read = quietly(|| read(shadow.clone()));
        let read = read.unwrap_or_else(|| Err(Unread::Damaged("it makes no sense".to_owned())));
        let (kept, open) = read.map_err(|unread| match unread {
            Unread::Version => StateError::Version(self.folder.clone()),
            Unread::Damaged(reason) => self.damaged(&reason),
        })?;
        // The mark is set after the transaction, and may have missed the last one.
        if open.transaction < marked.unwrap_or(0) {
            return Err(self.damaged("the last that was written is missing"));
        }
        if marked.is_none() && open.transaction > 0 {
            return Err(self.damaged("the mark is empty"));
        }
        Ok((kept, shadow, open))
    }

    /// Makes a database; it has its name once it is whole.
    fn make(&self) -> Result<Open, Failure> {
        let new = self.folder.join(NEW_FILE);
        let file = writable().create(true).truncate(true).open(&new)?;
        let shadow = Shadow::new(self.locked(file)?)?;
        let database = builder().create_with_backend(shadow.clone()).map_err(Trouble::from)?;
        begin(&database, self.id)?;
        shadow.release()?;
        fs::rename(&new, self.folder.join(FILE))?;
        Ok(Open { database, transaction: 0 })
    }
}

impl Open {
    fn write(&mut self, batch: &Batch) -> Result<(), Trouble> {
        // In two phases: after the first kind of commit a damaged transaction would be taken for one
        // that was never finished, and passed over.
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
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
            meta.insert(META_TRANSACTION, &(self.transaction + 1).to_le_bytes()[..])?;
            if let Some(contacts) = &batch.contacts {
                meta.insert(META_CONTACTS, &encode(contacts)[..])?;
            }
        }
        transaction.commit()?;
        self.transaction += 1;
        Ok(())
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something with a library that trusts what it wrote, and panics over what somebody else did:
/// `None` then, and nothing is printed.
fn quietly<T>(act: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    IS_QUIET.set(false);
    result.ok()
}

#[cfg(unix)]
fn place_of(path: &Path) -> io::Result<Place> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Here no more is known than that there is one.
#[cfg(not(unix))]
fn place_of(path: &Path) -> io::Result<Place> {
    fs::metadata(path).map(|_| (0, 0))
}

fn writable() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true);
    options
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // The format before it changes pages in place as it recovers; if it is killed meanwhile, what is
    // left cannot be opened.
    builder.set_cache_size(CACHE_BYTES).create_with_file_format_v3(true);
    builder
}

/// Writes what must be there from the first.
fn begin(database: &Database, id: Id) -> Result<(), Trouble> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_VERSION, &VERSION.to_le_bytes()[..])?;
        meta.insert(META_ID, &id.as_bytes()[..])?;
        meta.insert(META_TRANSACTION, &0_u64.to_le_bytes()[..])?;
        transaction.open_table(VALUES)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Why a database is not read.
enum Unread {
    Version,
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Unread {
    fn from(error: E) -> Unread {
        match error.into() {
            redb::Error::UpgradeRequired(_) => Unread::Version,
            error => Unread::Damaged(error.to_string()),
        }
    }
}

fn read(shadow: Shadow) -> Result<(Kept, Open), Unread> {
    let damaged = |reason: &str| Unread::Damaged(reason.to_owned());
    let mut database = builder().create_with_backend(shadow)?;
    // What a process that was killed left half done is undone by then, and not counted.
    if !database.check_integrity()? {
        return Err(damaged("checksums are wrong"));
    }
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Err(damaged("it is of no node")),
        meta => meta?,
    };
    let get = |name| -> Result<Option<Vec<u8>>, Unread> {
        Ok(meta.get(name)?.map(|value| value.value().to_vec()))
    };
    if get(META_VERSION)?.as_deref() != Some(&VERSION.to_le_bytes()) {
        return Err(Unread::Version);
    }
    let id = get(META_ID)?.as_deref().and_then(Id::from_slice);
    let id = id.ok_or_else(|| damaged("it names no node"))?;
    let number = get(META_TRANSACTION)?.and_then(|bytes| bytes.try_into().ok());
    let number = number.map(u64::from_le_bytes).ok_or_else(|| damaged("it has no number"))?;
    let mut kept = Kept { id, contacts: Vec::new(), values: Vec::new() };
    if let Some(contacts) = get(META_CONTACTS)? {
        kept.contacts = decode(&contacts).ok_or_else(|| damaged("the contacts make no sense"))?;
    }
    let values = transaction.open_table(VALUES)?;
    for entry in values.iter()? {
        let (key, records) = entry?;
        let key = Id::from_slice(key.value()).ok_or_else(|| damaged("a key makes no sense"))?;
        let records =
            decode(records.value()).ok_or_else(|| damaged("the values of a key make no sense"))?;
        kept.values.push((key, records));
    }
    drop((meta, values));
    drop(transaction);
    Ok((kept, Open { database, transaction: number }))
}

fn encode_mark(number: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    let (bytes, check) = mark.split_at_mut(8);
    bytes.copy_from_slice(&number.to_le_bytes());
    check.copy_from_slice(&Id::of_name(&*bytes).as_bytes()[..8]);
    mark
}

fn decode_mark(mark: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(mark.get(..8)?.try_into().ok()?);
    (encode_mark(number) == mark).then_some(number)
}

fn encode(what: &(impl Serialize + ?Sized)) -> Vec<u8> {
    postcard::to_stdvec(what).expect("memory takes all")
}

fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Record;

    fn batch(from: u32) -> Batch {
        let record = |n: u32| Record {
            owner: None,
            depositor: None,
            expires: u64::MAX,
            value: n.to_string().into_bytes(),
        };
        let value = |n: u32| (Id::of_name(n.to_string()), vec![record(n); 3]);
        Batch { values: (from..from + 300).map(value).collect(), contacts: None }
    }

    #[test]
    fn a_recovery_that_is_killed_at_any_point_can_be_done_again() {
        let folder = std::env::temp_dir().join(format!("kademlua-state-{}", std::process::id()));
        let id = Id::of_name("id");
        let (_, mut file, problem) = File::open(&folder, id).unwrap();
        assert_eq!(problem, None);
        (0..5).for_each(|number| file.write(&batch(number * 200)).unwrap());
        // As a killed node leaves it.
        let left = fs::read(folder.join(FILE)).unwrap();
        drop(file);

        let trials = Cell::new(0);
        let shadow_of = |bytes: &[u8]| {
            trials.set(trials.get() + 1);
            let path = folder.join(trials.get().to_string());
            fs::write(&path, bytes).unwrap();
            Shadow::new(FileBackend::new(writable().open(&path).unwrap()).unwrap()).unwrap()
        };
        let keeps = |shadow: Shadow| {
            let (kept, open) = quietly(|| read(shadow)).expect("no panic").ok().expect("whole");
            assert_eq!((kept.id, kept.values.len(), open.transaction), (id, 1_100, 5));
            open
        };
        let shadow = shadow_of(&left);
        let open = keeps(shadow.clone());
        let changes = shadow.change_count();
        assert!(changes > 2, "{changes}");
        for count in 0..=changes {
            keeps(shadow_of(&shadow.after(&left, count)));
        }
        drop(open);
        fs::remove_dir_all(&folder).unwrap();
    }
}
