//! Writing a log: new entries go to the end of the youngest segment.
//!
//! When the segments take several times the bytes that still count, the oldest is given up: the entries in it
//! that count are written once more, at the end. So each byte costs at most a fifth more in writing, however
//! its neighbours change.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::time::Instant;
use std::{fs, iter, mem};

use redb::StorageBackend as _;
use redb::backends::FileBackend;
use tracing::warn;

use super::boot::boot;
use super::log::{self, Eras, Frame, FrameBody, LogEntry, Watermark, segment_name};
use super::replay::{ENTRY_BYTES, Loaded, Location};
use super::{Access, Batch, PrivateFolder, SavedValue, Stamp, StateError};
use crate::id::Id;

/// Segments may hold this many times as much garbage as bytes that count, and [`SLACK`]: the more,
/// the less is written again, and the more room is taken. With five a value of 16 kB costs 3.2 kB
/// more at worst.
pub(super) const GARBAGE: u64 = 5;

/// Bytes that segments may take besides; less would mean writing a small state again and again.
pub(super) const SLACK: u64 = 1 << 20;

/// Bytes after which a segment ends: a quarter of the bytes that count, within these bounds. A
/// segment is given up in one go, which must not take long.
pub(super) const SEGMENT_BYTES: (u64, u64) = (256 << 10, 4 << 20);

/// Bytes after which a frame ends: it is read as a whole.
const FRAME_BYTES: usize = 256 << 10;

/// Segments given up after one batch at the most, so that the next batch need not wait long.
const GIVEN_UP_MAX: usize = 4;

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

/// A log that is open for writing.
pub(super) struct Log {
    folder: PrivateFolder,
    id: Id,
    pub(super) mark: Watermark,
    /// The last frame.
    number: u64,
    /// Segments that count, and how long they are.
    pub(super) segments: BTreeMap<u64, u64>,
    /// The last of them.
    pub(super) youngest: Option<fs::File>,
    rows: HashMap<u64, Location>,
    contacts: Option<Location>,
    /// Bytes that count.
    pub(super) live: u64,
    eras: Eras,
    /// Whether the oldest segment could not be given up.
    has_trouble: bool,
    /// The frames written since all was last brought to the disk: no more than a segment and a
    /// frame.
    unsynced: Vec<FrameBody>,
    /// Whether the disk failed to take those. The system may take them for written all the same, so
    /// neither another attempt nor the file's content proves anything.
    is_in_doubt: bool,
    synced_at: Instant,
    /// Bytes written since they were asked for last.
    written: u64,
}

impl Log {
    /// A log without a segment.
    pub(super) fn new(folder: PrivateFolder, id: Id) -> Log {
        Log {
            folder,
            id,
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
        }
    }

    /// Goes on with a log that was read, whose youngest segment is opened for writing.
    ///
    /// # Errors
    /// If the machine was down since then, and the disk does not take what is there.
    pub(super) fn go_on(
        folder: PrivateFolder,
        mark: Watermark,
        loaded: &mut Loaded,
        youngest: fs::File,
    ) -> Result<Log, Failure> {
        let locations = loaded.rows.iter().map(|(&row, (location, ..))| (row, *location));
        let rows: HashMap<u64, Location> = locations.collect();
        let contacts = loaded.contacts.as_ref().map(|(location, _)| *location);
        let bytes = |location: &Location| u64::from(location.bytes);
        let mut log = Log {
            mark: Watermark { boot: boot(), ..mark },
            number: loaded.number,
            segments: loaded.segments.clone(),
            youngest: Some(youngest),
            live: rows.values().map(bytes).sum::<u64>() + contacts.as_ref().map_or(0, bytes),
            rows,
            contacts,
            eras: loaded.eras.clone(),
            unsynced: mem::take(&mut loaded.unsynced),
            ..Log::new(folder, loaded.id)
        };
        if mark.boot != log.mark.boot {
            // The machine was down: what is there now is what must be there from now on.
            log.sync()?;
        } else {
            // The disk may have failed to take the rest, and have told only the process before.
            log.is_in_doubt = log.mark.synced != log.number;
        }
        Ok(log)
    }

    /// Where its segments are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The number of the life that follows.
    pub(super) fn next_era(&self) -> u32 {
        self.eras.next()
    }

    /// Bytes written since this was asked last.
    pub(super) fn take_written(&mut self) -> u64 {
        mem::take(&mut self.written)
    }

    /// Whether all that was written is on the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.mark.synced == self.number
    }

    /// When everything was last on the disk.
    pub(super) fn synced_at(&self) -> Instant {
        self.synced_at
    }

    /// Writes a batch.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        let era = batch.stamp.era;
        let row = |(row, key, record): &(u64, Id, Option<SavedValue>)| match record {
            Some(record) => {
                LogEntry::Row { row: *row, key: *key.as_bytes(), era, record: record.clone() }
            }
            None => LogEntry::Gone { row: *row },
        };
        // A row that was never here need not be taken back.
        let matters = |(row, _, record): &&(u64, Id, Option<SavedValue>)| {
            record.is_some() || self.rows.contains_key(row)
        };
        let rows: Vec<LogEntry> = batch.rows.iter().filter(matters).map(row).collect();
        let contacts = batch.contacts.clone().map(LogEntry::Contacts);
        self.append_all(batch.stamp, rows.into_iter().chain(contacts))
    }

    /// Appends entries in as many frames as they take; without entries, one empty frame: the clocks
    /// may have changed.
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
    pub(super) fn append(&mut self, stamp: Stamp, entries: Vec<LogEntry>) -> Result<(), Failure> {
        if self.is_in_doubt {
            self.say_again()?;
        }
        let full = (self.live / 4).clamp(SEGMENT_BYTES.0, SEGMENT_BYTES.1);
        let Some((&segment, &end)) = self.segments.last_key_value().filter(|&(_, &len)| len < full)
        else {
            // Everything before the youngest segment is on the disk.
            self.sync()?;
            self.append_segment(stamp, entries)?;
            return Ok(());
        };
        let body = body(stamp, entries);
        let bytes = log::emit(self.number + 1, &body);
        let mut file = self.youngest.as_ref().expect("there are segments");
        let done = file.seek(io::SeekFrom::Start(end)).and_then(|_| file.write_all(&bytes));
        if let Err(error) = done {
            // The next frame must not lie behind a part of this one.
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
        // Those frames do not matter any more; they only take room.
        if let (Some(len), Some(before)) = (self.segments.values_mut().nth_back(1), before) {
            *len = len.saturating_sub(in_doubt as u64);
            let _ = before.set_len(*len);
        }
        Ok(())
    }

    /// Notes a frame that was written at the end of a segment, with a new segment's magic before
    /// it.
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

    /// Gives up the oldest segments while all take too much. If that fails they take more room yet,
    /// but what was written stays written.
    pub(super) fn give_up_old(&mut self, stamp: Stamp) {
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
                    // No older entry is left that it could take back.
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
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
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

    /// Writes the mark, and removes segments that no longer count.
    pub(super) fn set_mark(&mut self, mark: &FileBackend) -> Result<(), Failure> {
        self.mark.written = self.number;
        let bytes = self.mark.emit();
        mark.write(0, &bytes)?;
        self.written += bytes.len() as u64;
        let first = self.segments.first_key_value().map_or(1, |(&first, _)| first);
        let mut given_up =
            (1..first).rev().map(|number| self.folder.path().join(segment_name(number)));
        let mut there = given_up.by_ref().take_while(|path| path.exists()).peekable();
        if there.peek().is_some() {
            // Should the machine stop, the mark must not count a segment that is gone.
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

/// Brings the names in a folder to the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
