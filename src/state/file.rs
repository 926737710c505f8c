//! The log and its mark in a folder.
//!
//! New entries go to the end of the youngest segment. When the segments take several times what still
//! counts of them, the oldest is given up: what counts of it is written once more, at the end. A byte
//! is therefore written a fifth again at the most, however its neighbours change.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, iter, mem};

use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend as _};
use tracing::{info, warn};

use super::log::{self, Eras, Frame, FrameBody, LogEntry, Watermark};
use super::{
    Access, Batch, FolderError, KeptRow, PrivateFolder, SavedState, SavedValue, Stamp, StateError,
    old,
};
use crate::id::Id;

/// What must be there, and its lock keeps other nodes away.
const MARK: &str = "state.mark";

/// What segments are called, around their number.
const SEGMENT: (&str, &str) = ("state.", ".log");

/// Segments may take this many times what counts of them, and [`SLACK`]: the more, the less is
/// written again, and the more room is taken. With five a value of 16 kB costs 3.2 kB more at worst.
const GARBAGE: u64 = 5;

/// Bytes that segments may take beside; writing a small state again and again costs more than that.
const SLACK: u64 = 1 << 20;

/// Bytes after which a segment ends: a quarter of what counts, within these bounds. A large one is
/// given up at once, which must not take long.
const SEGMENT_BYTES: (u64, u64) = (256 << 10, 4 << 20);

/// Bytes after which a frame ends: it is read as a whole.
const FRAME_BYTES: usize = 256 << 10;

/// Bytes of an entry beside its value, about.
const ENTRY_BYTES: usize = 64;

/// Segments given up after one batch at the most, so that the next need not wait long.
const GIVEN_UP_MAX: usize = 4;

/// After this time what was written is brought to the disk. It outlives this process before that, and
/// the machine after; each time costs a page or two.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// What cannot be.
const MISSING: &str = "a file is missing";
const LAST_MISSING: &str = "the last that was written is missing";

/// Why something was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The folder is not to be used.
    #[error(transparent)]
    Refused(#[from] StateError),
    /// The system does not let us.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the writer fails")]
    Panic,
    #[error("the state was removed or replaced; what comes is kept again after a new start")]
    Gone,
}

/// The state of a node in its folder.
pub(super) struct File {
    path: PathBuf,
    id: Id,
    /// The lock.
    mark: Option<FileBackend>,
    open: Option<Log>,
    /// Which file the mark is, from when it was opened first.
    inode: Option<Inode>,
    /// What there was has been read.
    is_read: bool,
    /// Bytes written in all.
    written: u64,
}

/// Device and number of a file.
type Inode = (u64, u64);

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Location {
    segment: u64,
    /// Of its frame, in which a row is named once.
    offset: u32,
    /// Bytes of the entry, about.
    bytes: u32,
}

/// A log that is open for writing.
struct Log {
    folder: PrivateFolder,
    id: Id,
    mark: Watermark,
    /// The last frame.
    number: u64,
    /// Segments that count, and how long they are.
    segments: BTreeMap<u64, u64>,
    /// The last of them.
    youngest: Option<fs::File>,
    rows: HashMap<u64, Location>,
    contacts: Option<Location>,
    /// Bytes that count.
    live: u64,
    eras: Eras,
    /// The oldest segment could not be given up.
    has_trouble: bool,
    /// What was written since all was last brought to the disk: no more than a segment and a frame.
    unsynced: Vec<FrameBody>,
    /// The disk failed to take that. The system may take it for written all the same, so neither a further
    /// attempt nor what a file shows says anything.
    is_in_doubt: bool,
    synced_at: Instant,
    /// Bytes written since they were asked for last.
    written: u64,
}

/// What a log says.
struct Loaded {
    id: Id,
    number: u64,
    last: Stamp,
    is_same_boot: bool,
    segments: BTreeMap<u64, u64>,
    rows: HashMap<u64, (Location, Id, u32, SavedValue)>,
    contacts: Option<(Location, Vec<SocketAddr>)>,
    eras: Eras,
    /// The frame from which on the disk may not have them, and what is in those.
    synced: u64,
    unsynced: Vec<FrameBody>,
    /// What was read last ends before its file does.
    is_cut: bool,
}

impl File {
    /// Opens what is in a folder, or makes it for a node of this id. Also tells why nothing can be
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
        self.written += self.open.as_mut().map_or(0, |log| mem::take(&mut log.written));
        self.written
    }

    /// Writes a batch; this process may be killed then.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        // What is written to a file without a name is lost.
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
            // Rows of that would be taken for rows of this.
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
        log.mark.written = log.number;
        let marked = log.set_mark(self.mark.as_ref().expect("taken before the log"));
        result.and(marked)
    }

    /// Brings to the disk what was written, if that is due or `now` asks for it.
    pub(super) fn sync(&mut self, now: bool) -> Result<(), Failure> {
        let Some(log) = &mut self.open else { return Ok(()) };
        if log.mark.synced == log.number || !(now || log.synced_at.elapsed() >= SYNC_EVERY) {
            return Ok(());
        }
        log.sync()?;
        log.set_mark(self.mark.as_ref().expect("taken before the log"))?;
        Ok(())
    }

    /// Whether all that was written is on the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.open.as_ref().is_none_or(|log| log.mark.synced == log.number)
    }

    /// Takes the lock and opens the log; what it keeps.
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
                let loaded = self.load(&folder, Some(self.parse_mark(mark)?), Access::Write)?;
                self.go_on(folder, self.parse_mark(mark)?, loaded)?
            }
        };
        self.inode = Some(inode_of(&self.path.join(MARK))?);
        self.open = Some(log);
        Ok(kept)
    }

    /// Reads what a folder keeps in which nothing can be written.
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
            // To write takes one that was opened for it.
            self.mark = None;
        }
        Ok(kept)
    }

    /// Where no mark is there must be nothing else.
    fn check_unmarked(&self, folder: &PrivateFolder) -> Result<(), StateError> {
        match self.has_old(folder)? || !self.segments(folder)?.is_empty() {
            true => Err(self.damaged(MISSING)),
            false => Ok(()),
        }
    }

    /// Whether there is a database of an earlier version. One that a log has replaced is gone.
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
        // None is longer.
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

    /// The numbers of all segments in the folder.
    fn segments(&self, folder: &PrivateFolder) -> Result<Vec<u64>, StateError> {
        let unreadable = |error: io::Error| self.damaged(&error.to_string());
        let entries = fs::read_dir(folder.path()).map_err(unreadable)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| segment_of(name.to_str()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Begins a log where there is none.
    fn begin(&self, folder: PrivateFolder) -> Result<(SavedState, Log), Failure> {
        // Of one that was begun and never written to there may be the first frame.
        let segments = self.segments(&folder)?.len();
        if segments > 1 || (segments == 1 && self.load(&folder, None, Access::Read)?.number > 1) {
            return Err(self.damaged("the mark is empty").into());
        }
        let mut log = self.new_log(folder)?;
        log.append(Stamp::default(), Vec::new())?;
        log.mark.written = log.number;
        log.set_mark(self.mark.as_ref().expect("taken before the log"))?;
        Ok((SavedState { next_era: log.eras.next(), ..SavedState::new(self.id) }, log))
    }

    /// A log without a segment; what there is of others is removed.
    fn new_log(&self, folder: PrivateFolder) -> Result<Log, Failure> {
        for number in self.segments(&folder)? {
            fs::remove_file(folder.path().join(segment_name(number)))?;
        }
        Ok(Log {
            folder,
            id: self.id,
            mark: Watermark { oldest: 1, written: 0, synced: 0, boot: boot() },
            number: 0,
            segments: BTreeMap::new(),
            youngest: None,
            rows: HashMap::new(),
            contacts: None,
            live: 0,
            eras: Eras::default(),
            has_trouble: false,
            unsynced: Vec::new(),
            is_in_doubt: false,
            synced_at: Instant::now(),
            written: 0,
        })
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
        let locations = loaded.rows.iter().map(|(&row, (location, ..))| (row, *location));
        let rows: HashMap<u64, Location> = locations.collect();
        let contacts = loaded.contacts.as_ref().map(|(location, _)| *location);
        let bytes = |location: &Location| u64::from(location.bytes);
        let mut log = Log {
            folder,
            id: loaded.id,
            mark: Watermark { boot: boot(), ..mark },
            number: loaded.number,
            segments: loaded.segments.clone(),
            youngest: Some(youngest),
            live: rows.values().map(bytes).sum::<u64>() + contacts.as_ref().map_or(0, bytes),
            rows,
            contacts,
            eras: loaded.eras.clone(),
            has_trouble: false,
            unsynced: mem::take(&mut loaded.unsynced),
            is_in_doubt: false,
            synced_at: Instant::now(),
            written: 0,
        };
        if mark.boot != log.mark.boot {
            // The machine was down: what is there now is what must be there from now on.
            log.sync()?;
        } else {
            // The disk may have failed to take the rest, and have told only the process before.
            log.is_in_doubt = log.mark.synced != log.number;
        }
        log.mark.written = log.number;
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
        let needed = mark.map_or(0, |mark| match mark.boot == boot() {
            true => mark.written,
            // What was not on the disk when the machine stopped may be missing.
            false => mark.synced,
        });
        let oldest = mark.map_or(1, |mark| mark.oldest);
        let numbers = self.segments(folder)?;
        let numbers: Vec<u64> = numbers.into_iter().filter(|&number| number >= oldest).collect();
        if numbers.iter().zip(oldest..).any(|(&number, expected)| number != expected) {
            return Err(self.damaged(MISSING));
        }
        let mut loaded = Loaded {
            id: self.id,
            number: 0,
            last: Stamp::default(),
            is_same_boot: mark.is_some_and(|mark| mark.boot == boot() && mark.boot != NO_BOOT),
            segments: BTreeMap::new(),
            rows: HashMap::new(),
            contacts: None,
            eras: Eras::default(),
            synced: mark.map_or(0, |mark| mark.synced),
            unsynced: Vec::new(),
            is_cut: false,
        };
        for &number in &numbers {
            let mut file = folder.open(&segment_name(number), access);
            let file = file.as_mut().map_err(|refused| match refused {
                FolderError::Io(error) => self.damaged(&error.to_string()),
                refused => self.not_safe(refused),
            })?;
            let mut bytes = Vec::new();
            io::Read::read_to_end(file, &mut bytes)
                .map_err(|error| self.damaged(&error.to_string()))?;
            loaded.take(number, &bytes);
        }
        match loaded.number < needed || (mark.is_some() && loaded.segments.is_empty()) {
            true if loaded.is_cut => return Err(self.damaged("checksums are wrong")),
            true => return Err(self.damaged(LAST_MISSING)),
            false => {}
        }
        Ok(loaded)
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
        let mut log = self.new_log(folder)?;
        log.id = kept.v1().id;
        // The times of their clock, which is the only one there is.
        let offset =
            kept.rows.first().map_or(0, |row| row.expires_wall - row.record.expires as i64);
        let stamp = Stamp { wall: offset.max(0) as u64, ..Stamp::default() };
        let rows = kept.rows.iter().map(|row| (row.row, row.key, Some(row.record.clone())));
        let contacts = Some(kept.v1().contacts.clone());
        log.write(&Batch { stamp, rows: rows.collect(), contacts })?;
        log.mark.written = log.number;
        log.sync()?;
        let mark = self.mark.as_ref().expect("taken before the log");
        log.set_mark(mark)?;
        mark.sync_data(false)?;
        for name in [old::FILE, old::NEW_FILE] {
            match fs::remove_file(log.folder.path().join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        info!(folder = %self.path.display(), "the state of an earlier version was written anew");
        kept.next_era = log.eras.next();
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

    /// The same, where nothing else is to be tried.
    fn stated(&self, refused: FolderError) -> StateError {
        match refused {
            FolderError::Io(error) => self.damaged(&error.to_string()),
            refused => self.not_safe(&refused),
        }
    }
}

impl Loaded {
    /// Takes in what of a segment is whole and belongs to the log.
    fn take(&mut self, segment: u64, bytes: &[u8]) {
        let magic = bytes.strip_prefix(log::MAGIC);
        let (mut rest, mut whole) = (magic.unwrap_or_default(), 0);
        while let Some(frame) = Frame::parse(rest) {
            let is_first = whole == 0;
            let heads = matches!(&frame.body.entries[..], [LogEntry::Head { segment: own, .. }, ..] if *own == segment);
            if heads != is_first || !self.is_followed_by(is_first, &frame) {
                break;
            }
            let offset = bytes.len() - rest.len();
            self.is_cut = false;
            self.number = frame.number;
            if self.number > self.synced {
                self.unsynced.push(frame.body.clone());
            }
            self.take_body(segment, offset, frame.body);
            rest = &rest[frame.len..];
            whole = offset + frame.len;
        }
        self.is_cut |= whole < bytes.len();
        // Of the last, nothing may have been written yet.
        if whole > 0 {
            self.segments.insert(segment, whole as u64);
        }
    }

    fn is_followed_by(&self, is_first: bool, frame: &Frame) -> bool {
        // Only a segment that begins the log may begin with any number.
        let begins = is_first && self.segments.is_empty() && !self.is_cut;
        let is_next = frame.number == self.number + 1 && !self.is_cut;
        let says_again = match frame.body.entries[..] {
            [LogEntry::Head { .. }, LogEntry::Again { after }, ..] => {
                (after..frame.number).contains(&self.number)
            }
            _ => false,
        };
        begins || is_next || says_again
    }

    fn take_body(&mut self, segment: u64, offset: usize, body: FrameBody) {
        let FrameBody { time, wall, boottime, era, .. } = body;
        self.last = Stamp { time: time.max(self.last.time), wall, boottime, era };
        for entry in body.entries {
            let location = Location::of(segment, offset as u64, &entry);
            match entry {
                LogEntry::Head { node, eras, .. } => {
                    self.id = Id::new(node);
                    if self.segments.is_empty() {
                        self.eras = eras;
                    }
                }
                LogEntry::Row { row, key, era, record } => {
                    self.rows.insert(row, (location, Id::new(key), era, record));
                }
                LogEntry::Gone { row } => _ = self.rows.remove(&row),
                LogEntry::Contacts(contacts) => self.contacts = Some((location, contacts)),
                LogEntry::Again { .. } => {}
            }
        }
        self.eras.note(body.era, (body.wall as i64).saturating_sub(body.time as i64));
    }

    fn kept(self) -> SavedState {
        let Loaded { id, last, is_same_boot, rows, contacts, eras, .. } = self;
        let row = |(row, (_, key, era, record)): (u64, (Location, Id, u32, SavedValue))| {
            let expires_wall = (record.expires as i64).saturating_add(eras.offset(era));
            KeptRow { row, key, record, era, expires_wall }
        };
        let mut rows: Vec<KeptRow> = rows.into_iter().map(row).collect();
        // As they came.
        rows.sort_by_key(|row| row.row);
        let contacts = contacts.map(|(_, contacts)| contacts).unwrap_or_default();
        SavedState {
            rows,
            last,
            is_same_boot,
            next_era: eras.next(),
            ..SavedState::with(id, contacts)
        }
    }
}

impl Location {
    fn of(segment: u64, offset: u64, entry: &LogEntry) -> Location {
        let bytes = match entry {
            LogEntry::Row { record, .. } => ENTRY_BYTES + record.value.len(),
            LogEntry::Contacts(contacts) => contacts.len() * ENTRY_BYTES / 4,
            LogEntry::Head { .. } | LogEntry::Gone { .. } | LogEntry::Again { .. } => 0,
        };
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Location { segment, offset: u32::try_from(offset).unwrap_or(u32::MAX), bytes: small(bytes) }
    }
}

impl Log {
    fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        let era = batch.stamp.era;
        let row = |(row, key, record): &(u64, Id, Option<SavedValue>)| match record {
            Some(record) => {
                LogEntry::Row { row: *row, key: *key.as_bytes(), era, record: record.clone() }
            }
            None => LogEntry::Gone { row: *row },
        };
        // What never was here need not be taken back.
        let matters = |(row, _, record): &&(u64, Id, Option<SavedValue>)| {
            record.is_some() || self.rows.contains_key(row)
        };
        let rows: Vec<LogEntry> = batch.rows.iter().filter(matters).map(row).collect();
        let contacts = batch.contacts.clone().map(LogEntry::Contacts);
        self.append_all(batch.stamp, rows.into_iter().chain(contacts))
    }

    /// Appends entries in as many frames as they take, in one that is empty if there are none: the
    /// clocks may have changed.
    fn append_all(
        &mut self,
        stamp: Stamp,
        entries: impl Iterator<Item = LogEntry>,
    ) -> Result<(), Failure> {
        let (mut frame, mut bytes, mut is_begun) = (Vec::new(), 0, false);
        for entry in entries {
            bytes += Location::of(0, 0, &entry).bytes as usize + ENTRY_BYTES / 4;
            frame.push(entry);
            if bytes >= FRAME_BYTES {
                self.append(stamp, mem::take(&mut frame))?;
                (bytes, is_begun) = (0, true);
            }
        }
        if is_begun && frame.is_empty() { Ok(()) } else { self.append(stamp, frame) }
    }

    /// Appends one frame; if that fails nothing has changed.
    fn append(&mut self, stamp: Stamp, entries: Vec<LogEntry>) -> Result<(), Failure> {
        if self.is_in_doubt {
            self.say_again()?;
        }
        let full = (self.live / 4).clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1);
        let Some((&segment, &end)) = self.segments.last_key_value().filter(|&(_, &len)| len < full)
        else {
            // Of what lies before the youngest segment all is on the disk.
            self.sync()?;
            self.append_segment(stamp, entries)?;
            return Ok(());
        };
        let body = body(stamp, entries);
        let bytes = log::emit(self.number + 1, &body);
        let mut file = self.youngest.as_ref().expect("there are segments");
        let done = file.seek(io::SeekFrom::Start(end)).and_then(|_| file.write_all(&bytes));
        if let Err(error) = done {
            // What is written next must not lie behind a part of this.
            file.set_len(end)?;
            return Err(error.into());
        }
        self.note(segment, end, bytes.len(), body);
        Ok(())
    }

    /// Appends one frame as the first of a segment, and brings both to the disk. Returns the segment before.
    fn append_segment(
        &mut self,
        stamp: Stamp,
        mut entries: Vec<LogEntry>,
    ) -> Result<Option<fs::File>, Failure> {
        let segment = self.segments.last_key_value().map_or(1, |(number, _)| number + 1);
        let node = *self.id.as_bytes();
        entries.insert(0, LogEntry::Head { node, segment, eras: self.eras.clone() });
        let body = body(stamp, entries);
        let bytes = [&log::MAGIC[..], &log::emit(self.number + 1, &body)].concat();
        let mut file = self.folder.create(&segment_name(segment))?;
        let done = file.write_all(&bytes).and_then(|()| file.sync_data());
        if let Err(error) = done.and_then(|()| sync_folder(self.folder.path())) {
            fs::remove_file(self.folder.path().join(segment_name(segment)))?;
            return Err(error.into());
        }
        self.note(segment, 0, bytes.len(), body);
        self.on_synced();
        Ok(self.youngest.replace(file))
    }

    /// Writes once more what the disk failed to take, to a segment of its own.
    fn say_again(&mut self) -> Result<(), Failure> {
        let last = self.unsynced.last().expect("else there is no doubt");
        let FrameBody { time, wall, boottime, era, .. } = *last;
        let (mut rows, mut contacts) = (BTreeMap::new(), None);
        for entry in self.unsynced.iter().flat_map(|body| &body.entries) {
            match entry {
                LogEntry::Row { row, .. } | LogEntry::Gone { row } => {
                    rows.insert(*row, entry.clone());
                }
                LogEntry::Contacts(_) => contacts = Some(entry.clone()),
                LogEntry::Head { .. } | LogEntry::Again { .. } => {}
            }
        }
        let again = LogEntry::Again { after: self.mark.synced };
        let entries = iter::once(again).chain(rows.into_values()).chain(contacts).collect();
        let in_doubt: usize = self.unsynced.iter().map(|body| log::emit(0, body).len()).sum();
        let before = self.append_segment(Stamp { time, wall, boottime, era }, entries)?;
        // What is left there matters no more; it only takes room.
        if let (Some(len), Some(before)) = (self.segments.values_mut().nth_back(1), before) {
            *len = len.saturating_sub(in_doubt as u64);
            let _ = before.set_len(*len);
        }
        Ok(())
    }

    /// Notes a frame that was written at the end of a segment, with what lies before it there.
    fn note(&mut self, segment: u64, end: u64, len: usize, body: FrameBody) {
        let magic = if end == 0 { log::MAGIC.len() as u64 } else { 0 };
        self.number += 1;
        self.written += len as u64;
        self.segments.insert(segment, end + len as u64);
        self.eras.note(body.era, (body.wall as i64).saturating_sub(body.time as i64));
        self.point_to(segment, end + magic, &body.entries);
        self.unsynced.push(body);
    }

    /// Notes where entries are now.
    fn point_to(&mut self, segment: u64, offset: u64, entries: &[LogEntry]) {
        for entry in entries {
            let location = Location::of(segment, offset, entry);
            let before = match entry {
                LogEntry::Row { row, .. } => self.rows.insert(*row, location),
                LogEntry::Gone { row } => self.rows.remove(row),
                LogEntry::Contacts(_) => self.contacts.replace(location),
                LogEntry::Head { .. } | LogEntry::Again { .. } => None,
            };
            self.live += u64::from(location.bytes);
            self.live -= before.map_or(0, |before| u64::from(before.bytes));
        }
    }

    /// Gives up the oldest segments while all take too much. Where that fails they take more yet,
    /// and what was written is written all the same.
    fn give_up_old(&mut self, stamp: Stamp) {
        for _ in 0..GIVEN_UP_MAX {
            let total: u64 = self.segments.values().sum();
            if self.segments.len() < 2 || total <= (1 + GARBAGE) * self.live + SLACK {
                return;
            }
            let given_up = self.give_up_oldest(stamp);
            let had_trouble = mem::replace(&mut self.has_trouble, given_up.is_err());
            if let Err(error) = given_up {
                if !had_trouble {
                    let folder = self.folder.path().display();
                    warn!(%folder, %error, "the state cannot be made smaller");
                }
                return;
            }
        }
    }

    fn give_up_oldest(&mut self, stamp: Stamp) -> Result<(), Failure> {
        let (&oldest, &len) = self.segments.first_key_value().expect("two at least");
        let name = segment_name(oldest);
        let file = self.folder.open(&name, Access::Read).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, len), &mut bytes)?;
        let mut rest = bytes.strip_prefix(log::MAGIC).unwrap_or_default();
        let mut counting = Vec::new();
        while let Some(frame) = Frame::parse(rest) {
            let offset = (bytes.len() - rest.len()) as u64;
            rest = &rest[frame.len..];
            counting.extend(frame.body.entries.into_iter().filter(|entry| {
                let location = Some(Location::of(oldest, offset, entry));
                match entry {
                    LogEntry::Row { row, .. } => self.rows.get(row).copied() == location,
                    LogEntry::Contacts(_) => self.contacts == location,
                    // Nothing older is left that it could take back.
                    LogEntry::Gone { .. } | LogEntry::Head { .. } | LogEntry::Again { .. } => false,
                }
            }));
        }
        if !rest.is_empty() {
            return Err(io::Error::other("an old part of the state has been damaged").into());
        }
        if !counting.is_empty() {
            self.append_all(stamp, counting.into_iter())?;
        }
        self.sync()?;
        self.segments.remove(&oldest);
        self.mark.oldest = oldest + 1;
        Ok(())
    }

    /// Brings all frames to the disk.
    fn sync(&mut self) -> Result<(), Failure> {
        if self.is_in_doubt {
            return self.say_again();
        }
        if let Some(youngest) = self.youngest.as_ref().filter(|_| !self.unsynced.is_empty()) {
            self.is_in_doubt = true;
            youngest.sync_data()?;
        }
        self.on_synced();
        Ok(())
    }

    fn on_synced(&mut self) {
        self.is_in_doubt = false;
        self.unsynced.clear();
        self.mark.synced = self.number;
        self.synced_at = Instant::now();
    }

    /// Writes the mark, and removes what it does not count any more.
    fn set_mark(&mut self, mark: &FileBackend) -> Result<(), Failure> {
        let bytes = self.mark.emit();
        mark.write(0, &bytes)?;
        self.written += bytes.len() as u64;
        let first = self.segments.first_key_value().map_or(1, |(&first, _)| first);
        let mut given_up =
            (1..first).rev().map(|number| self.folder.path().join(segment_name(number)));
        let mut there = given_up.by_ref().take_while(|path| path.exists()).peekable();
        if there.peek().is_some() {
            // After the machine has stopped the mark must not count what is gone.
            mark.sync_data(false)?;
        }
        for path in there {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn body(stamp: Stamp, entries: Vec<LogEntry>) -> FrameBody {
    let Stamp { time, wall, boottime, era } = stamp;
    FrameBody { time, wall, boottime, era, entries }
}

/// Whether a mark may be that of an earlier version, which may have been empty.
fn is_old_mark(mark: &[u8]) -> bool {
    mark.is_empty() || mark.len() == old::MARK_BYTES
}

fn segment_name(number: u64) -> String {
    format!("{}{number}{}", SEGMENT.0, SEGMENT.1)
}

fn segment_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SEGMENT.0)?.strip_suffix(SEGMENT.1)?;
    number.parse().ok().filter(|&number| segment_name(number) == name)
}

/// Where the system does not tell which start of the machine this is. All goes to the disk at once
/// there, since nobody can tell a machine that has stopped from one that ran on.
const NO_BOOT: [u8; 16] = [0; 16];

/// Which start of the machine this is.
fn boot() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.trim().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).unwrap_or_default();
    number.to_be_bytes()
}

/// Brings the names in a folder to the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn inode_of(path: &Path) -> io::Result<Inode> {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Here no more is known than that there is one.
#[cfg(not(unix))]
fn inode_of(path: &Path) -> io::Result<Inode> {
    fs::metadata(path).map(|_| (0, 0))
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    struct TestFolder(PathBuf);

    impl TestFolder {
        fn new(name: &str) -> TestFolder {
            let place = [Path::new("/dev/shm"), &std::env::temp_dir()].map(Path::to_owned);
            let place = place.into_iter().find(|place| place.is_dir()).expect("some place");
            let folder = place.join(format!("kademlua-state-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            TestFolder(folder)
        }

        fn open(&self) -> (SavedState, File) {
            let (kept, file, problem) = File::open(&self.0, id()).unwrap();
            assert_eq!(problem, None);
            (kept, file)
        }

        fn bytes(&self) -> u64 {
            let files = fs::read_dir(&self.0).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
        }
    }

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn id() -> Id {
        Id::of_name("id")
    }

    fn record(value: &[u8]) -> SavedValue {
        let publisher = Some(([7; Id::LEN], "192.0.2.1:8001".parse().unwrap()));
        SavedValue {
            publisher,
            depositor: publisher,
            standing: 2,
            expires: 86_400_000,
            value: value.to_vec(),
        }
    }

    /// A batch at a second of a life.
    fn batch(second: u64, rows: &[(u64, Option<&[u8]>)]) -> Batch {
        let time = second * 1_000;
        let stamp = Stamp { time, wall: 1_000_000 + time, boottime: 9_000_000 + time, era: 1 };
        let row = |&(row, value): &(u64, Option<&[u8]>)| {
            (row, Id::of_name(row.to_string()), value.map(record))
        };
        Batch { stamp, rows: rows.iter().map(row).collect(), contacts: None }
    }

    fn values(kept: &SavedState) -> BTreeMap<u64, Vec<u8>> {
        kept.rows.iter().map(|row| (row.row, row.record.value.clone())).collect()
    }

    /// Bytes written for each store beside its own, in the long run: `stores` of them after `before`.
    fn overhead(name: &str, before: &[(u64, usize)], stores: &[(u64, usize)]) -> u64 {
        let folder = TestFolder::new(name);
        let (_, mut file) = folder.open();
        for &(row, len) in before {
            file.write(&batch(0, &[(row, Some(&vec![0; len]))])).unwrap();
        }
        let begun = file.written();
        for (second, &(row, len)) in (0..).zip(stores) {
            file.write(&batch(second, &[(row, Some(&vec![second as u8; len]))])).unwrap();
        }
        let own: usize = stores.iter().map(|(_, len)| len).sum();
        let (written, live) = (file.written() - begun, file.open.as_ref().unwrap().live);
        let most = (1 + GARBAGE) * live + SLACK + 2 * SEGMENT_BYTES.1;
        assert!(folder.bytes() <= most, "{} bytes for {live} that count", folder.bytes());
        drop(file);
        let expected: BTreeMap<u64, usize> = before.iter().chain(stores).copied().collect();
        let kept: BTreeMap<u64, usize> =
            values(&folder.open().0).into_iter().map(|(row, value)| (row, value.len())).collect();
        assert_eq!(kept, expected);
        (written - own as u64) / stores.len() as u64
    }

    #[test]
    fn a_store_costs_its_bytes_and_4_kb_whatever_lies_beside_it() {
        const MAX: u64 = 4_096;
        let again: Vec<_> = (0..20_000).map(|_| (1, 82)).collect();
        let beside: Vec<_> = (1..=512).map(|row| (row, 15_700)).collect();
        let tiny: Vec<_> = (1..40_000).map(|row| (row, 5)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let large: Vec<_> = (0..6_000).map(|_| (rng.random_range(1..=512), 15_700)).collect();
        let half: Vec<_> = (0..6_000).map(|n| (1 + n % 256, 15_700)).collect();
        for (name, before, stores) in [
            ("again", &[][..], &again),
            ("beside", &beside, &again),
            ("tiny", &[], &tiny),
            ("large", &beside, &large),
            ("half", &beside, &half),
        ] {
            let overhead = overhead(name, before, stores);
            eprintln!("{name}: {overhead} bytes beside its own for each store");
            assert!(overhead <= MAX, "{name}: {overhead}");
        }
    }

    #[test]
    fn what_was_written_is_there_after_each_end_and_segments_are_given_up() {
        let folder = TestFolder::new("model");
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (_, mut file) = folder.open();
        let mut oldest = 1;
        for second in 0..4_000 {
            let mut rows = BTreeMap::new();
            for _ in 0..rng.random_range(0..4) {
                let mut value = vec![0; rng.random_range(0..4_000)];
                rng.fill_bytes(&mut value);
                rows.insert(rng.random_range(1..200), rng.random_bool(0.7).then_some(value));
            }
            let written: Vec<_> =
                rows.iter().map(|(&row, value)| (row, value.as_deref())).collect();
            file.write(&batch(second, &written)).unwrap();
            for (row, value) in rows {
                match value {
                    Some(value) => _ = model.insert(row, value),
                    None => _ = model.remove(&row),
                }
            }
            if rng.random_bool(0.02) {
                // As a process ends that is killed.
                drop(file);
                let (kept, next) = folder.open();
                assert_eq!(
                    (values(&kept), kept.v1().id, kept.last.time),
                    (model.clone(), id(), second * 1_000)
                );
                file = next;
            }
            oldest = file.open.as_ref().unwrap().mark.oldest;
        }
        assert!(oldest > 10, "{oldest}");
    }

    /// Has the next attempt to bring the log to the disk fail.
    #[cfg(target_os = "linux")]
    fn break_disk(file: &mut File) {
        file.open.as_mut().unwrap().youngest = Some(fs::File::open("/dev/null").unwrap());
    }

    #[cfg(target_os = "linux")]
    fn segment(folder: &TestFolder, number: u64) -> PathBuf {
        folder.0.join(segment_name(number))
    }

    /// A disk that failed once is not believed when it fails no more: what it had dropped is not there.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_disk_failed_to_take_is_written_again_elsewhere_before_it_counts_as_kept() {
        let folder = TestFolder::new("failed");
        let (_, mut file) = folder.open();
        file.write(&batch(1, &[(1, Some(b"one")), (2, Some(b"two")), (3, Some(b"three"))]))
            .unwrap();
        file.sync(true).unwrap();
        let taken = fs::read(segment(&folder, 1)).unwrap();
        let contacts = Some(vec!["192.0.2.1:8001".parse().unwrap()]);
        file.write(&Batch { contacts, ..batch(2, &[(1, Some(b"first")), (2, None)]) }).unwrap();
        file.write(&batch(3, &[(1, Some(b"again"))])).unwrap();
        let all = fs::read(segment(&folder, 1)).unwrap();
        break_disk(&mut file);
        file.sync(true).unwrap_err();
        // While there is no other place nothing is taken for kept.
        fs::create_dir(segment(&folder, 2)).unwrap();
        file.sync(true).unwrap_err();
        file.write(&batch(4, &[(4, Some(b"four"))])).unwrap_err();
        assert!(!file.is_synced());
        fs::remove_dir(segment(&folder, 2)).unwrap();
        let mark = fs::read(folder.0.join(MARK)).unwrap();
        file.write(&batch(5, &[(4, Some(b"four"))])).unwrap();
        file.sync(true).unwrap();
        drop(file);

        let marks =
            [mark, fs::read(folder.0.join(MARK)).unwrap()].map(|bytes| Watermark::parse(&bytes));
        let [before, after] = marks.map(Option::unwrap);
        let again = fs::read(segment(&folder, 2)).unwrap();
        let expected = [(1, b"again".to_vec()), (3, b"three".to_vec()), (4, b"four".to_vec())];
        let try_with = |mark: Watermark, first: &[u8], second: &[u8]| {
            fs::write(folder.0.join(MARK), mark.emit()).unwrap();
            fs::write(segment(&folder, 1), first).unwrap();
            fs::write(segment(&folder, 2), second).unwrap();
            File::open(&folder.0, id()).map(|(kept, ..)| (values(&kept), kept.v1().contacts.len()))
        };
        let garbage = [&taken[..], &[9; 90]].concat();
        let torn = &all[..all.len() - 9];
        for boot in [after.boot, [9; 16]] {
            let mark = Watermark { boot, ..after };
            for first in [&all[..], torn, &garbage, &taken] {
                let (values, contacts) = try_with(mark, first, &again).unwrap();
                assert_eq!((values, contacts), (expected.clone().into(), 1));
            }
            let lost = &taken[..taken.len() - 1];
            assert!(matches!(try_with(mark, lost, &again), Err(StateError::Damaged { .. })));
        }
        // Killed, or stopped with the machine, while it wrote that.
        for len in 0..again.len() {
            let (values, contacts) = try_with(before, &all, &again[..len]).unwrap();
            assert_eq!((&values[&1][..], contacts), (&b"again"[..], 1), "{len}");
            let stopped = Watermark { boot: [9; 16], ..before };
            let (values, _) = try_with(stopped, &garbage, &again[..len]).unwrap();
            assert!([&b"one"[..], b"again"].contains(&&values[&1][..]), "{len}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_fails_again_and_again_loses_nothing_and_takes_no_room() {
        let folder = TestFolder::new("fails");
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (_, mut file) = folder.open();
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for second in 0..2_000 {
            let (row, value) =
                (rng.random_range(1..200), vec![second as u8; rng.random_range(0..9_000)]);
            file.write(&batch(second, &[(row, Some(&value))])).unwrap();
            model.insert(row, value);
            if file.is_synced() || !rng.random_bool(0.05) {
                continue;
            }
            let log = file.open.as_ref().unwrap();
            let (&youngest, &end) = log.segments.last_key_value().unwrap();
            break_disk(&mut file);
            file.sync(true).unwrap_err();
            if rng.random_bool(0.5) {
                // The last frame is gone.
                let doubted = fs::File::options().write(true).open(segment(&folder, youngest));
                doubted.unwrap().set_len(end - 1).unwrap();
            }
            if rng.random_bool(0.5) {
                file.sync(true).unwrap();
            } else {
                file.write(&batch(second, &[])).unwrap();
            }
            drop(file);
            let (kept, next) = folder.open();
            assert_eq!(values(&kept), model);
            file = next;
        }
        let log = file.open.as_ref().unwrap();
        assert!(log.mark.oldest > 10);
        let most = (1 + GARBAGE) * log.live + SLACK + 2 * SEGMENT_BYTES.1;
        assert!(folder.bytes() <= most, "{} of {most}", folder.bytes());
    }

    #[test]
    fn a_process_that_is_killed_at_any_byte_loses_no_more_than_it_was_writing() {
        let folder = TestFolder::new("killed");
        let (_, mut file) = folder.open();
        file.write(&batch(1, &[(1, Some(b"one"))])).unwrap();
        let (before, mark) = (
            fs::read(folder.0.join("state.1.log")).unwrap(),
            fs::read(folder.0.join(MARK)).unwrap(),
        );
        file.write(&batch(2, &[(1, Some(b"two")), (2, Some(b"more"))])).unwrap();
        let after = fs::read(folder.0.join("state.1.log")).unwrap();
        drop(file);
        for len in before.len()..=after.len() {
            // What was in doubt is said again there.
            let _ = fs::remove_file(folder.0.join("state.2.log"));
            fs::write(folder.0.join(MARK), &mark).unwrap();
            fs::write(folder.0.join("state.1.log"), &after[..len]).unwrap();
            let (kept, mut file) = folder.open();
            let expected = if len == after.len() { 2 } else { 1 };
            assert_eq!(kept.rows.len(), expected, "{len} of {}", after.len());
            file.write(&batch(3, &[(3, Some(b"three"))])).unwrap();
            drop(file);
            assert_eq!(folder.open().0.rows.len(), expected + 1, "{len} of {}", after.len());
        }
    }

    /// After the machine has stopped, what was not brought to the disk may be missing; what was may
    /// not, and the mark may say more than there is.
    #[test]
    fn a_machine_that_stops_takes_the_last_seconds_and_no_more() {
        let folder = TestFolder::new("stopped");
        let (_, mut file) = folder.open();
        file.write(&batch(1, &[(1, Some(b"one"))])).unwrap();
        file.sync(true).unwrap();
        let on_disk = fs::read(folder.0.join("state.1.log")).unwrap();
        file.write(&batch(2, &[(1, Some(b"two"))])).unwrap();
        drop(file);
        let mark = Watermark::parse(&fs::read(folder.0.join(MARK)).unwrap()).unwrap();
        assert_eq!((mark.written, mark.synced), (3, 2));
        let all = fs::read(folder.0.join("state.1.log")).unwrap();
        let elsewhere = Watermark { boot: [9; 16], ..mark };
        let try_with = |mark: Watermark, bytes: &[u8]| {
            fs::write(folder.0.join(MARK), mark.emit()).unwrap();
            fs::write(folder.0.join("state.1.log"), bytes).unwrap();
            let opened = File::open(&folder.0, id());
            opened.map(|(kept, ..)| values(&kept)[&1].clone())
        };
        let torn = [&all[..all.len() - 9], &[0; 9]].concat();
        for bytes in [&on_disk[..], &all[..all.len() - 1], &torn] {
            assert!(matches!(try_with(mark, bytes), Err(StateError::Damaged { .. })));
            assert_eq!(try_with(elsewhere, bytes).unwrap(), b"one");
        }
        assert_eq!(try_with(elsewhere, &all).unwrap(), b"two");
        let cut = &on_disk[..on_disk.len() - 1];
        assert!(matches!(try_with(elsewhere, cut), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn clocks_of_every_life_are_kept_and_the_last_word_of_each_counts() {
        let folder = TestFolder::new("clocks");
        let (_, mut file) = folder.open();
        let stamp = |time, wall, era| Stamp { time, wall, boottime: 0, era };
        let row = |row, stamp| Batch { stamp, ..batch(0, &[(row, Some(b"v"))]) };
        file.write(&row(1, stamp(10, 1_010, 1))).unwrap();
        file.write(&Batch { stamp: stamp(20, 5_020, 1), ..Batch::default() }).unwrap();
        file.write(&row(2, stamp(30, 30, 2))).unwrap();
        // Long enough that nothing is left of the first segment.
        (0..20_000).for_each(|_| file.write(&row(3, stamp(40, 9_040, 3))).unwrap());
        assert!(file.open.as_ref().unwrap().mark.oldest > 1);
        drop(file);
        let kept = folder.open().0;
        let by_wall: Vec<i64> = kept.rows.iter().map(|row| row.expires_wall - 86_400_000).collect();
        assert_eq!((by_wall, kept.last.time, kept.next_era), (vec![5_000, 0, 9_000], 40, 4));
    }

    #[test]
    fn a_file_that_is_missing_or_of_another_log_is_damage() {
        let folder = TestFolder::new("missing");
        let (_, mut file) = folder.open();
        let value = vec![0; 9_000];
        (0..200).for_each(|row| file.write(&batch(1, &[(row, Some(&value))])).unwrap());
        drop(file);
        let names: Vec<_> =
            fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(names.len() > 4, "{names:?}");
        for name in &names {
            let bytes = fs::read(name).unwrap();
            for other in names.iter().filter(|other| *other != name) {
                fs::copy(other, name).unwrap();
                let opened = File::open(&folder.0, id());
                assert!(matches!(opened, Err(StateError::Damaged { .. })), "{other:?} as {name:?}");
            }
            fs::remove_file(name).unwrap();
            let opened = File::open(&folder.0, id());
            assert!(matches!(opened, Err(StateError::Damaged { .. })), "no {name:?}");
            fs::write(name, bytes).unwrap();
        }
        assert_eq!(folder.open().0.rows.len(), 200);
    }

    #[test]
    fn a_state_of_an_earlier_version_is_taken_over_once() {
        let folder = TestFolder::new("old");
        fs::create_dir(&folder.0).unwrap();
        const EXPIRES: u64 = 1_790_000_000_000;
        old::write_for_test(&folder.0, id(), 3, EXPIRES);
        let (kept, file) = folder.open();
        drop(file);
        let again = folder.open().0;
        for kept in [kept, again] {
            let own = kept.v1();
            assert_eq!((own.id, own.contacts.len(), kept.rows.len()), (id(), 1, 6));
            let by_wall: Vec<i64> = kept.rows.iter().map(|row| row.expires_wall).collect();
            assert_eq!(by_wall.iter().min(), Some(&(EXPIRES as i64)));
            assert_eq!(by_wall.iter().max(), Some(&(EXPIRES as i64 + 2)));
            // Only the clock on the wall tells how long they live.
            assert!(kept.rows.iter().all(|row| row.record.expires > kept.last.time + 86_400_000));
        }
        let mut names: Vec<_> =
            fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["state.1.log", "state.mark"]);
    }
}
