//! The log in a folder through everything that may happen to it.

use std::fs;

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::appender::{GARBAGE, SEGMENT_BYTES, SLACK};
use super::file::MARK;
use super::log::{Watermark, segment_name};
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
        let written: Vec<_> = rows.iter().map(|(&row, value)| (row, value.as_deref())).collect();
        file.write(&batch(second, &written)).unwrap();
        for (row, value) in rows {
            match value {
                Some(value) => _ = model.insert(row, value),
                None => _ = model.remove(&row),
            }
        }
        if rng.random_bool(0.02) {
            // As if the process were killed.
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

/// Makes the next attempt to bring the log to the disk fail.
#[cfg(target_os = "linux")]
fn break_disk(file: &mut File) {
    file.open.as_mut().unwrap().youngest = Some(fs::File::open("/dev/null").unwrap());
}

#[cfg(target_os = "linux")]
fn segment(folder: &TestFolder, number: u64) -> PathBuf {
    folder.0.join(segment_name(number))
}

/// A disk that failed once is not believed when it no longer fails: what it had dropped is still
/// missing.
#[cfg(target_os = "linux")]
#[test]
fn what_the_disk_failed_to_take_is_written_again_elsewhere_before_it_counts_as_kept() {
    let folder = TestFolder::new("failed");
    let (_, mut file) = folder.open();
    file.write(&batch(1, &[(1, Some(b"one")), (2, Some(b"two")), (3, Some(b"three"))])).unwrap();
    file.sync(true).unwrap();
    let taken = fs::read(segment(&folder, 1)).unwrap();
    let contacts = Some(vec!["192.0.2.1:8001".parse().unwrap()]);
    file.write(&Batch { contacts, ..batch(2, &[(1, Some(b"first")), (2, None)]) }).unwrap();
    file.write(&batch(3, &[(1, Some(b"again"))])).unwrap();
    let all = fs::read(segment(&folder, 1)).unwrap();
    break_disk(&mut file);
    file.sync(true).unwrap_err();
    // While there is no other place, nothing counts as kept.
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
    // Killed, or stopped with the machine, while it wrote the second segment.
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
    let (before, mark) =
        (fs::read(folder.0.join("state.1.log")).unwrap(), fs::read(folder.0.join(MARK)).unwrap());
    file.write(&batch(2, &[(1, Some(b"two")), (2, Some(b"more"))])).unwrap();
    let after = fs::read(folder.0.join("state.1.log")).unwrap();
    drop(file);
    for len in before.len()..=after.len() {
        // The frames that were in doubt are said again there.
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

/// After the machine has stopped, frames that were not brought to the disk may be missing; others
/// may not, and the mark may say more than there is.
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
    let names: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path()).collect();
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
        // Only the wall clock tells how long they live.
        assert!(kept.rows.iter().all(|row| row.record.expires > kept.last.time + 86_400_000));
    }
    let mut names: Vec<_> =
        fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["state.1.log", "state.mark"]);
}
