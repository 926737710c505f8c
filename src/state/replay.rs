//! Reading a log: its segments one after the other, each as far as it is whole.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;

use super::boot::{NO_BOOT, boot};
use super::log::{self, Eras, Frame, FrameBody, LogEntry, Watermark, segment_name, segment_of};
use super::{Access, FolderError, KeptRow, PrivateFolder, SavedState, SavedValue, Stamp};
use crate::id::Id;

/// Bytes of an entry beside its value, about.
pub(super) const ENTRY_BYTES: usize = 64;

/// What is wrong with a log if a part of it is not there.
pub(super) const MISSING: &str = "a file is missing";
const LAST_MISSING: &str = "the last that was written is missing";

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u64,
    /// The offset of its frame, which names a row only once.
    pub(super) offset: u32,
    /// Bytes of the entry, about.
    pub(super) bytes: u32,
}

/// What a log says.
pub(super) struct Loaded {
    pub(super) id: Id,
    pub(super) number: u64,
    last: Stamp,
    is_same_boot: bool,
    pub(super) segments: BTreeMap<u64, u64>,
    pub(super) rows: HashMap<u64, (Location, Id, u32, SavedValue)>,
    pub(super) contacts: Option<(Location, Vec<SocketAddr>)>,
    pub(super) eras: Eras,
    /// The last frame that is surely on the disk, and the bodies of the frames behind it.
    synced: u64,
    pub(super) unsynced: Vec<FrameBody>,
    /// Whether the part that was read last ends before its file does.
    is_cut: bool,
}

/// Why a log is not read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// What is wrong with it.
    Damaged(String),
    /// A segment cannot be trusted.
    Unsafe(FolderError),
}

impl From<FolderError> for Unreadable {
    fn from(error: FolderError) -> Unreadable {
        match error {
            FolderError::Io(error) => error.into(),
            error => Unreadable::Unsafe(error),
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        Unreadable::Damaged(error.to_string())
    }
}

impl Loaded {
    /// Reads all segments that count. Without a mark nothing has to be there.
    pub(super) fn read(
        folder: &PrivateFolder,
        id: Id,
        mark: Option<Watermark>,
        access: Access,
    ) -> Result<Loaded, Unreadable> {
        let needed = mark.map_or(0, |mark| match mark.boot == boot() {
            true => mark.written,
            // Frames that were not on the disk when the machine stopped may be missing.
            false => mark.synced,
        });
        let oldest = mark.map_or(1, |mark| mark.oldest);
        let numbers = segments(folder)?;
        let numbers: Vec<u64> = numbers.into_iter().filter(|&number| number >= oldest).collect();
        if numbers.iter().zip(oldest..).any(|(&number, expected)| number != expected) {
            return Err(Unreadable::Damaged(MISSING.to_owned()));
        }
        let mut loaded = Loaded {
            id,
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
            let mut bytes = Vec::new();
            folder.open(&segment_name(number), access)?.read_to_end(&mut bytes)?;
            loaded.take(number, &bytes);
        }
        match loaded.number < needed || (mark.is_some() && loaded.segments.is_empty()) {
            true if loaded.is_cut => {
                return Err(Unreadable::Damaged("checksums are wrong".to_owned()));
            }
            true => return Err(Unreadable::Damaged(LAST_MISSING.to_owned())),
            false => {}
        }
        Ok(loaded)
    }

    /// Takes in the part of a segment that is whole and belongs to the log.
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
        // The last segment may still be empty.
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

    /// The state that it describes.
    pub(super) fn kept(self) -> SavedState {
        let Loaded { id, last, is_same_boot, rows, contacts, eras, .. } = self;
        let row = |(row, (_, key, era, record)): (u64, (Location, Id, u32, SavedValue))| {
            let expires_wall = (record.expires as i64).saturating_add(eras.offset(era));
            KeptRow { row, key, record, era, expires_wall }
        };
        let mut rows: Vec<KeptRow> = rows.into_iter().map(row).collect();
        // In the order in which they came.
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
    pub(super) fn of(segment: u64, offset: u64, entry: &LogEntry) -> Location {
        let bytes = match entry {
            LogEntry::Row { record, .. } => ENTRY_BYTES + record.value.len(),
            LogEntry::Contacts(contacts) => contacts.len() * ENTRY_BYTES / 4,
            LogEntry::Head { .. } | LogEntry::Gone { .. } | LogEntry::Again { .. } => 0,
        };
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Location { segment, offset: u32::try_from(offset).unwrap_or(u32::MAX), bytes: small(bytes) }
    }
}

/// The numbers of all segments in a folder.
pub(super) fn segments(folder: &PrivateFolder) -> io::Result<Vec<u64>> {
    let names = fs::read_dir(folder.path())?.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| segment_of(name.to_str()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
