//! A file that is looked at before it is touched.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// A file, and until it is released a copy of it in memory that takes all changes.
#[derive(Clone, Debug)]
pub(super) struct Shadow(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: FileBackend,
    copy: Mutex<Option<Copy>>,
}

#[derive(Debug)]
struct Copy {
    bytes: Vec<u8>,
    /// What changed it, in order: a file that is changed half must be one that its database can
    /// recover, and that hangs on the order.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Length(u64),
    Bytes(u64, Vec<u8>),
    Synced,
}

impl Shadow {
    /// Reads the file.
    pub(super) fn new(file: FileBackend) -> io::Result<Shadow> {
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let copy = Copy { bytes: file.read(0, len)?, changes: Vec::new() };
        Ok(Shadow(Arc::new(Inner { file, copy: Mutex::new(Some(copy)) })))
    }

    /// Makes the changes in the file too; from now on it takes them itself.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut guard = self.copy();
        let Some(copy) = guard.as_ref() else { return Ok(()) };
        for change in &copy.changes {
            match change {
                Change::Length(len) => self.0.file.set_len(*len)?,
                Change::Bytes(at, bytes) => self.0.file.write(*at, bytes)?,
                Change::Synced => self.0.file.sync_data(false)?,
            }
        }
        *guard = None;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn change_count(&self) -> usize {
        self.copy().as_ref().map_or(0, |copy| copy.changes.len())
    }

    /// What the file would be had it been released, and the process killed after so many changes.
    #[cfg(test)]
    pub(super) fn after(&self, file: &[u8], count: usize) -> Vec<u8> {
        let mut bytes = file.to_vec();
        for change in &self.copy().as_ref().expect("not released").changes[..count] {
            match change {
                Change::Length(len) => bytes.resize(*len as usize, 0),
                Change::Bytes(at, new) => bytes[*at as usize..][..new.len()].copy_from_slice(new),
                Change::Synced => {}
            }
        }
        bytes
    }

    fn copy(&self) -> MutexGuard<'_, Option<Copy>> {
        self.0.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Shadow {
    fn len(&self) -> io::Result<u64> {
        match self.copy().as_ref() {
            Some(copy) => Ok(copy.bytes.len() as u64),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match self.copy().as_ref() {
            Some(copy) => {
                let bytes = range(offset, len).and_then(|range| copy.bytes.get(range));
                Ok(bytes.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
            }
            None => self.0.file.read(offset, len),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.copy().as_mut() {
            Some(copy) => {
                let wanted = usize::try_from(len).map_err(io::Error::other)?;
                let more = wanted.saturating_sub(copy.bytes.len());
                // What a damaged file asks for may be more than there is.
                copy.bytes.try_reserve_exact(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
                copy.bytes.resize(wanted, 0);
                copy.changes.push(Change::Length(len));
                Ok(())
            }
            None => self.0.file.set_len(len),
        }
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        match self.copy().as_mut() {
            Some(copy) => {
                copy.changes.push(Change::Synced);
                Ok(())
            }
            None => self.0.file.sync_data(eventual),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.copy().as_mut() {
            Some(copy) => {
                let place = range(offset, data.len()).and_then(|range| copy.bytes.get_mut(range));
                place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
                copy.changes.push(Change::Bytes(offset, data.to_vec()));
                Ok(())
            }
            None => self.0.file.write(offset, data),
        }
    }
}

fn range(offset: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(len)?)
}
