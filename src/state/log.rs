//! The bytes of a log: what is written down about a node, one entry after the other.
//!
//! A log lies in segments. Each begins with a magic, then come frames, numbered without a gap across
//! all segments:
//!
//! ```text
//! 0       4               12              20
//! ┌───────┬───────────────┬───────────────┬───────────────
//! │ bytes │ check         │ number        │ body: bytes …
//! └───────┴───────────────┴───────────────┴───────────────
//! ```
//! The check covers length, number and body. A body says when it was written, by the time that nodes of
//! this folder have run and by the wall clock, and holds entries encoded by postcard. The first frame of
//! a segment begins with a [`LogEntry::Head`]. Of two entries about one row the later counts.
//!
//! Numbers of this machine's size are little-endian.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::SavedValue;
use crate::id::Id;

/// What segments begin with; the digit is the version.
pub(super) const MAGIC: &[u8; 8] = b"KADLOG 2";

/// What segments are called, around their number.
const SEGMENT: (&str, &str) = ("state.", ".log");

/// Bytes before a body.
pub(super) const FRAME_HEAD: usize = 20;

/// How many lives of a node have their clocks remembered. Beyond that the oldest two are merged, with
/// the clock by which values live longer.
const MAX_ERAS: usize = 1_024;

/// The offset from the time that nodes of a folder have run to the wall clock, in milliseconds.
/// There is one for each life of a node, by its number, since the time between lives is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Eras(BTreeMap<u32, i64>);

impl Eras {
    /// Notes the latest offset of a life.
    pub(super) fn note(&mut self, era: u32, offset: i64) {
        self.0.insert(era, offset);
        while self.0.len() > MAX_ERAS {
            let (_, older) = self.0.pop_first().expect("more than one");
            let mut oldest = self.0.first_entry().expect("more than one");
            let offset = oldest.get_mut();
            *offset = older.max(*offset);
        }
    }

    /// The offset of a life; for a forgotten life, the oldest that is remembered.
    pub(super) fn offset(&self, era: u32) -> i64 {
        let known = self.0.get(&era).or_else(|| self.0.values().next());
        known.copied().unwrap_or_default()
    }

    /// The life that follows all of these.
    pub(super) fn next(&self) -> u32 {
        self.0.last_key_value().map_or(0, |(era, _)| era.saturating_add(1))
    }
}

/// One thing that is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LogEntry {
    /// The beginning of a segment: its node, its number, and the clocks of earlier lives.
    Head { node: [u8; Id::LEN], segment: u64, eras: Eras },
    /// What lies in a row now. The times in its record are those of the life `era`.
    Row { row: u64, key: [u8; Id::LEN], era: u32, record: SavedValue },
    /// Nothing lies in a row any more.
    Gone { row: u64 },
    /// Where contacts are now.
    Contacts(Vec<SocketAddr>),
    /// Behind the head of a segment: the disk failed to take the frames after frame `after`.
    /// Everything in them that counts is said again in this frame, so it does not matter what is
    /// left of them.
    Again { after: u64 },
}

/// A frame's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrameBody {
    /// Milliseconds that nodes of this folder have run.
    pub(super) time: u64,
    /// Milliseconds since 1970.
    pub(super) wall: u64,
    /// Milliseconds since the machine started.
    pub(super) boottime: u64,
    /// Which life this is.
    pub(super) era: u32,
    pub(super) entries: Vec<LogEntry>,
}

/// A frame that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) body: FrameBody,
    /// Bytes that it takes.
    pub(super) len: usize,
}

impl Frame {
    /// Reads the frame at the beginning of some bytes; `None` if there is no whole one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Frame> {
        let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
        let len = u32::from_le_bytes(head[..4].try_into().ok()?);
        let told = u64::from_le_bytes(head[4..12].try_into().ok()?);
        let number = u64::from_le_bytes(head[12..].try_into().ok()?);
        let body = rest.get(..usize::try_from(len).ok()?)?;
        if check(number, body) != told {
            return None;
        }
        let len = FRAME_HEAD + body.len();
        Some(Frame { number, body: postcard::from_bytes(body).ok()?, len })
    }
}

/// A frame as it is written.
pub(super) fn emit(number: u64, body: &FrameBody) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEAD];
    frame = postcard::to_extend(body, frame).expect("memory takes all");
    let (head, body) = frame.split_at_mut(FRAME_HEAD);
    let len = u32::try_from(body.len()).expect("batches are cut long before");
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4..12].copy_from_slice(&check(number, body).to_le_bytes());
    head[12..].copy_from_slice(&number.to_le_bytes());
    frame
}

/// What the segment with a number is called.
pub(super) fn segment_name(number: u64) -> String {
    format!("{}{number}{}", SEGMENT.0, SEGMENT.1)
}

/// The number of the segment with a name.
pub(super) fn segment_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SEGMENT.0)?.strip_suffix(SEGMENT.1)?;
    number.parse().ok().filter(|&number| segment_name(number) == name)
}

/// Against damage, not against people: somebody who can write here can do anything.
fn check(number: u64, body: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(number, body.len() as u64);
    hasher.write(body);
    hasher.finish()
}

/// How far the log has been written, and what of it must be there: the content of the mark.
///
/// ```text
/// 0         8         16        24        32             48        56
/// ┌─────────┬─────────┬─────────┬─────────┬──────────────┬─────────┐
/// │ magic   │ oldest  │ written │ synced  │ boot         │ check   │
/// └─────────┴─────────┴─────────┴─────────┴──────────────┴─────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watermark {
    /// The first segment that counts.
    pub(super) oldest: u64,
    /// The last frame that was given to the system, and outlives this process.
    pub(super) written: u64,
    /// The last frame that is on the disk, and outlives the machine.
    pub(super) synced: u64,
    /// Which start of the machine this is; zeros where the system does not tell.
    pub(super) boot: [u8; 16],
}

impl Watermark {
    /// Bytes of one.
    pub(super) const LEN: usize = 56;

    const MAGIC: &[u8; 8] = b"KADMARK2";

    pub(super) fn parse(bytes: &[u8]) -> Option<Watermark> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mark = Watermark {
            oldest: number(8)?,
            written: number(16)?,
            synced: number(24)?,
            boot: bytes.get(32..48)?.try_into().ok()?,
        };
        (mark.emit() == bytes).then_some(mark)
    }

    pub(super) fn emit(&self) -> [u8; Watermark::LEN] {
        let mut bytes = [0; Watermark::LEN];
        bytes[..8].copy_from_slice(Watermark::MAGIC);
        for (at, number) in [(8, self.oldest), (16, self.written), (24, self.synced)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[32..48].copy_from_slice(&self.boot);
        let check = check(0, &bytes[..48]).to_le_bytes();
        bytes[48..].copy_from_slice(&check);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> FrameBody {
        let record = SavedValue {
            publisher: Some(([1; 20], "1.2.3.4:5".parse().unwrap())),
            depositor: None,
            standing: 2,
            expires: 77,
            value: b"5:value".to_vec(),
        };
        let mut eras = Eras::default();
        eras.note(3, -4);
        let entries = vec![
            LogEntry::Head { node: [2; 20], segment: 1, eras },
            LogEntry::Row { row: 9, key: [3; 20], era: 4, record },
            LogEntry::Gone { row: 8 },
            LogEntry::Contacts(vec!["[::1]:8001".parse().unwrap()]),
            LogEntry::Again { after: 6 },
        ];
        FrameBody { time: 10, wall: 20, boottime: 30, era: 4, entries }
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = emit(7, &body());
        let frame = Frame::parse(&[&bytes[..], b"more"].concat()).unwrap();
        assert_eq!(frame, Frame { number: 7, body: body(), len: bytes.len() });
        let mark = Watermark { oldest: 1, written: 9, synced: 5, boot: [6; 16] };
        assert_eq!(Watermark::parse(&mark.emit()), Some(mark));
    }

    #[test]
    fn no_bit_can_be_flipped_and_nothing_cut_off() {
        let whole = emit(7, &body());
        for at in 0..whole.len() {
            assert_eq!(Frame::parse(&whole[..at]), None, "{at} bytes");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert_eq!(Frame::parse(&bytes), None, "bit {bit} of byte {at}");
            }
        }
        let whole = Watermark { oldest: 1, written: 9, synced: 5, boot: [6; 16] }.emit();
        for at in 0..whole.len() {
            assert_eq!(Watermark::parse(&whole[..at]), None, "{at} bytes of the mark");
            for bit in 0..8 {
                let mut bytes = whole;
                bytes[at] ^= 1 << bit;
                assert_eq!(Watermark::parse(&bytes), None, "bit {bit} of byte {at} of the mark");
            }
        }
    }

    #[test]
    fn eras_are_bounded_and_a_forgotten_one_makes_nothing_die_early() {
        let mut eras = Eras::default();
        (0..5_000).for_each(|era| eras.note(era, i64::from(era % 1_000)));
        assert_eq!((eras.0.len(), eras.next()), (MAX_ERAS, 5_000));
        assert_eq!((eras.offset(17), eras.offset(4_999)), (999, 999));
        assert_eq!(eras.offset(4_500), 500);
    }
}
