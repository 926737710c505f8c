//! States as they were before the log: one redb database, beside a mark with the number of its last
//! transaction. They are read, and then written anew.

use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable as _, StorageBackend as _, TableDefinition, TableError};
use serde::Deserialize;

use super::Who;
use crate::id::Id;

/// The database.
pub(super) const FILE: &str = "state.redb";

/// The database before it had anything in it.
pub(super) const NEW_FILE: &str = "state.redb.new";

/// Bytes of a mark.
pub(super) const MARK_BYTES: usize = 16;

/// The only version that there was.
const VERSION: u32 = 1;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");

/// A value as it was written.
#[derive(Debug, Deserialize)]
pub(super) struct OldRecord {
    pub(super) publisher: Option<Who>,
    pub(super) depositor: Option<Who>,
    /// In milliseconds since 1970.
    pub(super) expires: u64,
    pub(super) value: Vec<u8>,
}

/// What was there.
#[derive(Debug)]
pub(super) struct OldState {
    pub(super) id: Id,
    pub(super) contacts: Vec<SocketAddr>,
    pub(super) values: Vec<(Id, Vec<OldRecord>)>,
}

/// Why a database is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
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

/// Reads a database from the bytes of its file and those of its mark, which are empty if it was never
/// written.
pub(super) fn read(file: &[u8], mark: &[u8]) -> Result<OldState, Unread> {
    let damaged = |reason: &str| Unread::Damaged(reason.to_owned());
    let marked = match mark {
        [] => None,
        mark => Some(decode_mark(mark).ok_or_else(|| damaged("the mark makes no sense"))?),
    };
    if file.is_empty() {
        return Err(damaged("the database is empty"));
    }
    let read = quietly(|| read_database(file));
    let (kept, number) = read.unwrap_or_else(|| Err(damaged("it makes no sense")))?;
    // The mark was set after the transaction, and may have missed the last one.
    if number < marked.unwrap_or(0) {
        return Err(damaged("the last that was written is missing"));
    }
    if marked.is_none() && number > 0 {
        return Err(damaged("the mark is empty"));
    }
    Ok(kept)
}

fn read_database(file: &[u8]) -> Result<(OldState, u64), Unread> {
    let damaged = |reason: &str| Unread::Damaged(reason.to_owned());
    // In memory, because redb mends a file as it opens it.
    let memory = InMemoryBackend::new();
    let io = |error: std::io::Error| Unread::Damaged(error.to_string());
    memory.set_len(file.len() as u64).map_err(io)?;
    memory.write(0, file).map_err(io)?;
    let mut database = Database::builder().create_with_backend(memory)?;
    // Work that a killed process left half done is undone by then, and not counted.
    if !database.check_integrity()? {
        return Err(damaged("checksums are wrong"));
    }
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(damaged("its table of metadata is missing"));
        }
        meta => meta?,
    };
    let get = |name| -> Result<Option<Vec<u8>>, Unread> {
        Ok(meta.get(name)?.map(|value| value.value().to_vec()))
    };
    if get("version")?.as_deref() != Some(&VERSION.to_le_bytes()) {
        return Err(Unread::Version);
    }
    let id = get("id")?.as_deref().and_then(Id::from_slice);
    let id = id.ok_or_else(|| damaged("it names no node"))?;
    let number = get("transaction")?.and_then(|bytes| bytes.try_into().ok());
    let number = number.map(u64::from_le_bytes).ok_or_else(|| damaged("it has no number"))?;
    let mut kept = OldState { id, contacts: Vec::new(), values: Vec::new() };
    if let Some(contacts) = get("contacts")? {
        kept.contacts = decode(&contacts).ok_or_else(|| damaged("the contacts make no sense"))?;
    }
    for entry in transaction.open_table(VALUES)?.iter()? {
        let (key, records) = entry?;
        let key = Id::from_slice(key.value()).ok_or_else(|| damaged("a key makes no sense"))?;
        let records =
            decode(records.value()).ok_or_else(|| damaged("the values of a key make no sense"))?;
        kept.values.push((key, records));
    }
    Ok((kept, number))
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something with a library that trusts files it wrote, and panics over others: `None` then,
/// and nothing is printed.
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

fn decode_mark(mark: &[u8]) -> Option<u64> {
    let (number, check) = mark.split_at_checked(8)?;
    let is_right = *check == Id::of_name(number).as_bytes()[..8];
    is_right.then(|| number.try_into().map(u64::from_le_bytes).ok()).flatten()
}

fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// Writes a state as earlier versions did: two values under each of some keys, which expire some
/// milliseconds after a moment, and one contact.
#[cfg(test)]
pub(super) fn write_for_test(folder: &std::path::Path, id: Id, keys: u64, expires: u64) {
    let mut builder = Database::builder();
    builder.create_with_file_format_v3(true);
    let database = builder.create(folder.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("version", &VERSION.to_le_bytes()[..]).unwrap();
        meta.insert("id", &id.as_bytes()[..]).unwrap();
        meta.insert("transaction", &1_u64.to_le_bytes()[..]).unwrap();
        let contacts: Vec<SocketAddr> = vec!["127.0.0.1:8001".parse().unwrap()];
        meta.insert("contacts", &postcard::to_stdvec(&contacts).unwrap()[..]).unwrap();
        let mut values = transaction.open_table(VALUES).unwrap();
        for number in 0..keys {
            let who: Option<Who> = Some(([9; Id::LEN], "127.0.0.1:8002".parse().unwrap()));
            let record = |depositor| (who, depositor, expires + number, b"1:v".to_vec());
            let records = postcard::to_stdvec(&vec![record(who), record(None)]).unwrap();
            let key = Id::of_name(number.to_string());
            values.insert(&key.as_bytes()[..], &records[..]).unwrap();
        }
    }
    transaction.commit().unwrap();
    let number = 1_u64.to_le_bytes();
    let mark = [&number[..], &Id::of_name(number).as_bytes()[..8]].concat();
    std::fs::write(folder.join("state.mark"), mark).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_was_changed_or_is_older_than_its_mark_is_damaged() {
        let folder = std::env::temp_dir().join(format!("kademlua-old-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        write_for_test(&folder, Id::of_name("id"), 3, 9);
        let file = std::fs::read(folder.join(FILE)).unwrap();
        let mark = std::fs::read(folder.join("state.mark")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read(&file, &mark).unwrap().values.len(), 3);
        let number = 2_u64.to_le_bytes();
        let later = [&number[..], &Id::of_name(number).as_bytes()[..8]].concat();
        assert!(matches!(read(&file, &later), Err(Unread::Damaged(_))));
        assert!(matches!(read(&file, &[]), Err(Unread::Damaged(_))));
        assert!(matches!(read(&file, &mark[..15]), Err(Unread::Damaged(_))));
        assert!(matches!(read(&[], &mark), Err(Unread::Damaged(_))));
        assert!(matches!(read(b"no database", &mark), Err(Unread::Damaged(_))));
        // Only in the pages that are in use.
        let refused = (0..file.len()).step_by(97).filter(|&at| file[at] != 0).take(30);
        let refused = refused.filter(|&at| {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            match read(&damaged, &mark) {
                Ok(kept) => assert_eq!(kept.values.len(), 3),
                Err(_) => return true,
            }
            false
        });
        assert!(refused.count() > 0);
    }
}
