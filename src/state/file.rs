//! The log and its mark in a folder.
//!
//! [`replay`](super::replay) reads a log, [`appender`](super::appender) writes one. This module decides which files
//! may be there and who may open them, and migrates states of earlier versions.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend as _};
use tracing::{info, warn};

use super::appender::{Failure, Log};
use super::boot::NO_BOOT;
use super::log::{Watermark, segment_name};
use super::replay::{Loaded, MISSING, Unreadable, segments};
use super::{Access, Batch, FolderError, PrivateFolder, SavedState, Stamp, StateError, old};
use crate::id::Id;

/// The mark must be there, and its lock keeps other nodes away.
pub(super) const MARK: &str = "state.mark";

/// After this time the written bytes are brought to the disk. They outlive this process before that,
/// and the machine afterwards; each time costs a page or two.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// The state of a node in its folder.
pub(super) struct File {
    path: PathBuf,
    id: Id,
    /// The lock.
    mark: Option<FileBackend>,
    pub(super) open: Option<Log>,
    /// Which file the mark was when it was opened first.
    inode: Option<Inode>,
    /// Whether the earlier state has been read.
    is_read: bool,
    /// Bytes written in all.
    written: u64,
}

/// Device and number of a file.
type Inode = (u64, u64);

impl File {
    /// Opens the state in a folder, or makes one for the node `id`. Also returns why nothing can be
    /// written there, if so; that is tried again with each batch.
    pub(super) fn open(
        folder: &Path,
        id: Id,
    ) -> Result<(SavedState, File, Option<String>), StateError> {
        let path = folder.to_owned();
        let is_read = false;
        let mut file = File { path, id, mark: None, open: None, inode: None, is_read, written: 0 };
        let (kept, failure) = match file.attach() {
            Ok(kept) => (Some(kept), None),
            Err(Failure::Refused(refused)) => return Err(refused),
            Err(failure) => (file.look()?, Some(failure.to_string())),
        };
        file.is_read = kept.is_some();
        let kept = kept.unwrap_or_else(|| SavedState::new(id));
        file.id = kept.v1().id;
        Ok((kept, file, failure))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub(super) fn written(&mut self) -> u64 {
        self.written += self.open.as_mut().map_or(0, Log::take_written);
        self.written
    }

    /// Writes a batch. Once this returns, it survives the end of this process.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        // Anything written to a file without a name is lost.
        if self.inode.is_some_and(|inode| inode_of(&self.path.join(MARK)).ok() != Some(inode)) {
            return Err(Failure::Gone);
        }
        if self.open.is_none() {
            let (folder, wanted) = (self.path.clone(), self.id);
            let there = self.attach()?;
            let kept = there.v1().id;
            if kept != wanted {
                self.open = None;
                return Err(StateError::Id { folder, kept, wanted }.into());
            }
            // Its rows would be taken for rows of this node.
            if !self.is_read && !there.rows.is_empty() {
                self.open = None;
                return Err(Failure::Gone);
            }
            self.is_read = true;
        }
        let log = self.open.as_mut().expect("attached just above");
        let result = log.write(batch);
        if result.is_ok() {
            log.give_up_old(batch.stamp);
        }
        if log.mark.boot == NO_BOOT {
            log.sync()?;
        }
        let marked = log.set_mark(self.mark.as_ref().expect("taken before the log"));
        result.and(marked)
    }

    /// Brings the written bytes to the disk, if that is due or `now` asks for it.
    pub(super) fn sync(&mut self, now: bool) -> Result<(), Failure> {
        let Some(log) = &mut self.open else { return Ok(()) };
        if log.is_synced() || !(now || log.synced_at().elapsed() >= SYNC_EVERY) {
            return Ok(());
        }
        log.sync()?;
        log.set_mark(self.mark.as_ref().expect("taken before the log"))?;
        Ok(())
    }

    /// Whether all that was written is on the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.open.as_ref().is_none_or(Log::is_synced)
    }

    /// Takes the lock and opens the log. Returns what the log keeps.
    fn attach(&mut self) -> Result<SavedState, Failure> {
        let folder = PrivateFolder::make(&self.path, &[MARK, old::FILE]);
        let folder = folder.map_err(|refused| self.refused(refused))?;
        if self.mark.is_none() {
            let mark = match folder.open(MARK, Access::Write) {
                Err(FolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    self.check_unmarked(&folder)?;
                    folder.create(MARK)?
                }
                mark => mark.map_err(|refused| self.refused(refused))?,
            };
            self.mark = Some(self.locked(mark)?);
        }
        let (kept, log) = match self.mark_bytes()?.as_slice() {
            mark if is_old_mark(mark) && self.has_old(&folder)? => self.migrate(folder, mark)?,
            [] => self.begin(folder)?,
            mark => {
                let mark = self.parse_mark(mark)?;
                let loaded = self.load(&folder, Some(mark), Access::Write)?;
                self.go_on(folder, mark, loaded)?
            }
        };
        self.inode = Some(inode_of(&self.path.join(MARK))?);
        self.open = Some(log);
        Ok(kept)
    }

    /// Reads the state in a folder where nothing can be written.
    fn look(&mut self) -> Result<Option<SavedState>, StateError> {
        // A folder that may not be read keeps nothing that could be lost here.
        if fs::read_dir(&self.path).is_err() {
            return Ok(None);
        }
        let folder = PrivateFolder::existing(&self.path, &[MARK, old::FILE]);
        let folder = folder.map_err(|refused| self.stated(refused))?;
        let is_locked = self.mark.is_some();
        if !is_locked {
            match folder.open(MARK, Access::Read) {
                Err(FolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    self.check_unmarked(&folder)?;
                    return Ok(None);
                }
                mark => {
                    let mark = mark.map_err(|refused| self.stated(refused))?;
                    self.mark = Some(self.locked(mark)?);
                }
            }
        }
        let kept = match self.mark_bytes()?.as_slice() {
            mark if is_old_mark(mark) && self.has_old(&folder)? => {
                Some(self.read_old(&folder, mark)?)
            }
            [] => None,
            mark => {
                let mark = self.parse_mark(mark)?;
                Some(self.load(&folder, Some(mark), Access::Read)?.kept())
            }
        };
        if !is_locked {
            // Writing takes a mark that was opened for it.
            self.mark = None;
        }
        Ok(kept)
    }

    /// If there is no mark, there must be nothing else.
    fn check_unmarked(&self, folder: &PrivateFolder) -> Result<(), StateError> {
        match self.has_old(folder)? || !self.segments(folder)?.is_empty() {
            true => Err(self.damaged(MISSING)),
            false => Ok(()),
        }
    }

    /// Whether there is a database of an earlier version. A database is removed once a log has
    /// replaced it.
    fn has_old(&self, folder: &PrivateFolder) -> Result<bool, StateError> {
        match folder.open(old::FILE, Access::Read) {
            Err(FolderError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            opened => opened.map(|_| true).map_err(|refused| self.stated(refused)),
        }
    }

    fn mark_bytes(&self) -> Result<Vec<u8>, StateError> {
        let unreadable = |error: io::Error| self.damaged(&error.to_string());
        let mark = self.mark.as_ref().expect("taken before it is read");
        let len = mark.len().map_err(unreadable)?;
        // No mark is longer.
        let len = len.min(Watermark::LEN as u64 + 1) as usize;
        mark.read(0, len).map_err(unreadable)
    }

    fn parse_mark(&self, bytes: &[u8]) -> Result<Watermark, StateError> {
        match bytes.len() {
            Watermark::LEN => {
                Watermark::parse(bytes).ok_or_else(|| self.damaged("the mark makes no sense"))
            }
            old::MARK_BYTES => Err(self.damaged(MISSING)),
            _ => Err(self.damaged("the mark has a wrong length")),
        }
    }

    /// Begins a log where there is none.
    fn begin(&self, folder: PrivateFolder) -> Result<(SavedState, Log), Failure> {
        // The first frame of a log may be there that was begun and never written to.
        let segments = self.segments(&folder)?.len();
        if segments > 1 || (segments == 1 && self.load(&folder, None, Access::Read)?.number > 1) {
            return Err(self.damaged("the mark is empty").into());
        }
        let mut log = self.new_log(folder, self.id)?;
        log.append(Stamp::default(), Vec::new())?;
        log.set_mark(self.mark.as_ref().expect("taken before the log"))?;
        Ok((SavedState { next_era: log.next_era(), ..SavedState::new(self.id) }, log))
    }

    /// A log without a segment. Segments of others are removed.
    fn new_log(&self, folder: PrivateFolder, id: Id) -> Result<Log, Failure> {
        for number in self.segments(&folder)? {
            fs::remove_file(folder.path().join(segment_name(number)))?;
        }
        Ok(Log::new(folder, id))
    }

    /// Opens a log that was read.
    fn go_on(
        &self,
        folder: PrivateFolder,
        mark: Watermark,
        mut loaded: Loaded,
    ) -> Result<(SavedState, Log), Failure> {
        let (&first, _) = loaded.segments.first_key_value().expect("none is no log");
        let (&last, &len) = loaded.segments.last_key_value().expect("none is no log");
        for number in self.segments(&folder)? {
            if !(first..=last).contains(&number) {
                // Given up by a process that was killed before it could remove it.
                fs::remove_file(folder.path().join(segment_name(number)))?;
            }
        }
        let youngest = folder.open(&segment_name(last), Access::Write);
        let youngest = youngest.map_err(|refused| self.refused(refused))?;
        if youngest.metadata()?.len() > len {
            warn!(folder = %self.path.display(), "the end of the state was never written whole, and is cut off");
            youngest.set_len(len)?;
        }
        let mut log = Log::go_on(folder, mark, &mut loaded, youngest)?;
        log.set_mark(self.mark.as_ref().expect("taken before the log"))?;
        Ok((loaded.kept(), log))
    }

    /// Reads all segments that count. Without a mark nothing has to be there.
    fn load(
        &self,
        folder: &PrivateFolder,
        mark: Option<Watermark>,
        access: Access,
    ) -> Result<Loaded, StateError> {
        Loaded::read(folder, self.id, mark, access).map_err(|unreadable| match unreadable {
            Unreadable::Damaged(reason) => self.damaged(&reason),
            Unreadable::Unsafe(refused) => self.not_safe(&refused),
        })
    }

    fn segments(&self, folder: &PrivateFolder) -> Result<Vec<u64>, StateError> {
        segments(folder).map_err(|error| self.damaged(&error.to_string()))
    }

    fn read_old(&self, folder: &PrivateFolder, mark: &[u8]) -> Result<SavedState, StateError> {
        let file = folder.open(old::FILE, Access::Read);
        let mut file = file.map_err(|refused| self.stated(refused))?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)
            .map_err(|error| self.damaged(&error.to_string()))?;
        let kept = old::read(&bytes, mark).map_err(|unread| match unread {
            old::Unread::Version => StateError::Version(self.path.clone()),
            old::Unread::Damaged(reason) => self.damaged(&reason),
        })?;
        Ok(SavedState::of_old(kept))
    }

    /// Writes a state of an earlier version anew. Until the mark is set the old one counts.
    fn migrate(&self, folder: PrivateFolder, mark: &[u8]) -> Result<(SavedState, Log), Failure> {
        let mut kept = self.read_old(&folder, mark)?;
        let mut log = self.new_log(folder, kept.v1().id)?;
        // Their times are those of the wall clock, the only one there was.
        let offset =
            kept.rows.first().map_or(0, |row| row.expires_wall - row.record.expires as i64);
        let stamp = Stamp { wall: offset.max(0) as u64, ..Stamp::default() };
        let rows = kept.rows.iter().map(|row| (row.row, row.key, Some(row.record.clone())));
        let contacts = Some(kept.v1().contacts.clone());
        log.write(&Batch { stamp, rows: rows.collect(), contacts })?;
        log.sync()?;
        let mark = self.mark.as_ref().expect("taken before the log");
        log.set_mark(mark)?;
        mark.sync_data(false)?;
        for name in [old::FILE, old::NEW_FILE] {
            match fs::remove_file(log.folder().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        info!(folder = %self.path.display(), "the state of an earlier version was written anew");
        kept.next_era = log.next_era();
        Ok((kept, log))
    }

    fn locked(&self, file: fs::File) -> Result<FileBackend, StateError> {
        FileBackend::new(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StateError::InUse(self.path.clone()),
            error => self.damaged(&error.to_string()),
        })
    }

    fn damaged(&self, reason: &str) -> StateError {
        StateError::Damaged { folder: self.path.clone(), reason: reason.to_owned() }
    }

    fn not_safe(&self, refused: &FolderError) -> StateError {
        StateError::Unsafe { folder: self.path.clone(), reason: refused.to_string() }
    }

    fn refused(&self, refused: FolderError) -> Failure {
        match refused {
            FolderError::Io(error) => error.into(),
            refused => self.not_safe(&refused).into(),
        }
    }

    /// The same, if nothing else is to be tried.
    fn stated(&self, refused: FolderError) -> StateError {
        match refused {
            FolderError::Io(error) => self.damaged(&error.to_string()),
            refused => self.not_safe(&refused),
        }
    }
}

/// Whether a mark may belong to an earlier version, whose mark could be empty.
fn is_old_mark(mark: &[u8]) -> bool {
    mark.is_empty() || mark.len() == old::MARK_BYTES
}

#[cfg(unix)]
fn inode_of(path: &Path) -> io::Result<Inode> {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// On this system all that can be told is that there is one.
#[cfg(not(unix))]
fn inode_of(path: &Path) -> io::Result<Inode> {
    fs::metadata(path).map(|_| (0, 0))
}
