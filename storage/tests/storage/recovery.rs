//! What a restart makes of damage, by where it is: above the durable floor it is cut, at or below it is reported.

use crate::common::{
    Entry, GROUP, Writer, contents, dir, disk, fill, fresh, id, open, options, segment_files, sync,
};
use bytes::Bytes;
use raftline_proto::entry::{EntryError, HEADER_BYTES};
use raftline_proto::ids::{GroupId, Index, Offset, Position};
use raftline_storage::{Damage, Disk, DiskFile, Log, OpenError, SimDisk};
use std::io::IoSlice;

const SEGMENT_HEADER: u64 = 64;
const ENTRY: u64 = 148;

/// 10 durable entries and 10 more, of 148 bytes each, in one segment; and the floor between them.
fn half_durable() -> (SimDisk, Vec<Entry>, Position) {
    let (disk, mut log) = fresh(1 << 20);
    let mut entries = fill(&mut log, 1, 10, 100);
    sync(&mut log);
    let floor = log.durable_position();
    assert_eq!(floor, Position(SEGMENT_HEADER + 10 * ENTRY));
    entries.extend(fill(&mut log, 1, 10, 100));
    (disk.kill(), entries, floor)
}

/// The same log, in segments of 5 entries, all durable.
fn all_durable() -> (SimDisk, Vec<Entry>, Position) {
    let (disk, mut log) = fresh(SEGMENT_HEADER + 5 * ENTRY);
    let entries = fill(&mut log, 1, 20, 100);
    sync(&mut log);
    assert_eq!(log.segment_count(), 4);
    (disk.kill(), entries, log.durable_position())
}

fn at_of(index: u64) -> u64 {
    SEGMENT_HEADER + (index - 1) * ENTRY
}

/// All files with their content.
fn everything(disk: &SimDisk) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    segment_files(disk).into_iter().map(|file| (file.clone(), disk.read(&file).unwrap())).collect()
}

fn open_error(disk: &SimDisk, floor: Position) -> OpenError {
    let before = everything(disk);
    let Err(error) = open(disk, 1 << 20, floor) else { panic!("opened") };
    assert_eq!(everything(disk), before, "a log that was not opened must not change");
    error
}

fn flip(disk: &SimDisk, file: usize, at: u64) {
    let file = segment_files(disk).remove(file);
    let byte = disk.read(&file).unwrap()[usize::try_from(at).unwrap()];
    disk.damage(&file, at, &[byte ^ 0x40]).unwrap();
}

#[test]
fn a_bad_record_above_the_floor_is_cut_and_never_comes_back() {
    let torn = [0; 60];
    let garbage = [0xa5; 60];
    let length = u32::MAX.to_le_bytes();
    // Entry 13 is damaged in its header, its payload, its magic, its size; then all after it is zeros.
    for (at, bytes) in [(0, &torn[..]), (70, &garbage), (4, &garbage[..2]), (36, &length), (0, &[0; 8 * 148])]
    {
        let (disk, mut entries, floor) = half_durable();
        disk.damage(&segment_files(&disk)[0], at_of(13) + at, bytes).unwrap();
        let mut log = open(&disk, 1 << 20, floor).unwrap();
        entries.truncate(12);
        assert_eq!(contents(&log), entries);
        assert_eq!(log.durable(), id(1, 12));
        let zeros_only = bytes.len() > 1000;
        assert_eq!(log.recovery().bytes_cut > 0, !zeros_only);
        // Entry 13 is written again, with the same size but by another leader. What stood behind the old one must
        // not follow it, though it stands at the right distance.
        entries.extend(fill(&mut log, 2, 1, 100));
        sync(&mut log);
        for floor in [log.durable_position(), Position::ZERO] {
            assert_eq!(contents(&open(&disk.kill(), 1 << 20, floor).unwrap()), entries);
        }
    }
}

#[test]
fn garbage_after_the_last_entry_is_cut() {
    let (disk, mut entries, floor) = half_durable();
    disk.damage(&segment_files(&disk)[0], at_of(21), b"left over from something else").unwrap();
    let mut log = open(&disk, 1 << 20, floor).unwrap();
    assert_eq!(contents(&log), entries);
    assert_eq!(log.recovery().bytes_cut, 29);
    entries.extend(fill(&mut log, 1, 1, 10));
    assert_eq!(log.segment_count(), 2);
    assert_eq!(contents(&open(&disk, 1 << 20, floor).unwrap()), entries);
}

#[test]
fn every_flipped_byte_below_the_floor_is_reported_and_nothing_is_cut() {
    let (disk, _, floor) = half_durable();
    for at in 0..floor.0 {
        let disk = disk.kill();
        flip(&disk, 0, at);
        match open_error(&disk, floor) {
            OpenError::Corrupt { file, at: found, position, floor: told, .. } => {
                assert_eq!(file, segment_files(&disk)[0]);
                let entry = if at < SEGMENT_HEADER { 0 } else { at_of(1 + (at - SEGMENT_HEADER) / ENTRY) };
                assert_eq!((found, position, told), (entry, Position(entry), floor), "byte {at}");
            }
            error => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn the_floor_divides_exactly() {
    let (disk, entries, floor) = half_durable();
    flip(&disk, 0, floor.0);
    let log = open(&disk.kill(), 1 << 20, floor).unwrap();
    assert_eq!(contents(&log), entries[..10]);
    assert!(matches!(open_error(&disk, floor + 1), OpenError::Corrupt { at, .. } if at == floor.0));
}

#[test]
fn the_error_names_file_position_and_reason() {
    let (disk, _, floor) = half_durable();
    flip(&disk, 0, at_of(4) + 100);
    let text = open_error(&disk, floor).to_string();
    for part in [
        "/data/groups/7/0000000000000001.segment",
        "byte 508",
        "floor 1544",
        "checksum mismatch",
        "Nothing was cut",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_missing_segment_is_reported() {
    for missing in 0..4 {
        let (disk, _, floor) = all_durable();
        let file = segment_files(&disk).remove(missing);
        disk.remove(&file).unwrap();
        let error = open_error(&disk, floor);
        let OpenError::Corrupt { reason, .. } = &error else { panic!("{error}") };
        if missing == 3 {
            assert_eq!(*reason, Damage::Missing);
        } else {
            let previous = id(1, 5 * (missing as u64 + 1));
            assert_eq!(*reason, Damage::Detached { previous }, "{error}");
        }
    }
    let (disk, _, floor) = all_durable();
    disk.remove_dir_all(&dir()).unwrap();
    assert!(matches!(open_error(&disk, floor), OpenError::Corrupt { reason: Damage::Missing, .. }));
}

#[test]
fn a_damaged_segment_header_is_reported() {
    for (nth, at) in [(0, 0), (0, 4), (1, 20), (2, 33), (3, 60)] {
        let (disk, _, floor) = all_durable();
        flip(&disk, nth, at);
        let error = open_error(&disk, floor);
        let OpenError::Corrupt { file, reason: Damage::Header(_), .. } = &error else { panic!("{error}") };
        assert_eq!(*file, segment_files(&disk)[nth]);
    }
}

#[test]
fn a_segment_that_was_never_synced_may_be_lost_whole() {
    let (disk, mut log) = fresh(SEGMENT_HEADER + 5 * ENTRY);
    let entries = fill(&mut log, 1, 5, 100);
    sync(&mut log);
    let floor = log.durable_position();
    fill(&mut log, 1, 10, 100);
    for nth in [1, 2] {
        let disk = disk.kill();
        disk.damage(&segment_files(&disk)[nth], 0, &[0; 64]).unwrap();
        let log = open(&disk, 1 << 20, floor).unwrap();
        assert_eq!(contents(&log)[..5], entries);
        assert_eq!(log.last(), id(1, 5 * nth as u64));
        assert_eq!(segment_files(&disk).len(), nth, "what is lost is removed");
    }
}

#[test]
fn entries_in_the_wrong_place_are_found_out() {
    let (disk, _, floor) = half_durable();
    let file = segment_files(&disk).remove(0);
    let bytes = disk.read(&file).unwrap();
    let range =
        |index: u64| usize::try_from(at_of(index)).unwrap()..usize::try_from(at_of(index + 1)).unwrap();
    // A valid entry, misdirected to the place of another.
    disk.damage(&file, at_of(5), &bytes[range(3)]).unwrap();
    let OpenError::Corrupt { at, reason, .. } = open_error(&disk, floor) else { panic!("opened") };
    assert_eq!((at, reason), (at_of(5), Damage::Index { expected: Index(5), found: Index(3) }));

    // A valid entry of another group.
    let (disk, _, floor) = half_durable();
    let (mut header, payload) = half_durable().1[4].clone();
    header.group = GroupId(8);
    disk.damage(&file, at_of(5), &[&header.encode(&[&payload])[..], &payload].concat()).unwrap();
    let OpenError::Corrupt { reason, .. } = open_error(&disk, floor) else { panic!("opened") };
    assert_eq!(reason, Damage::Group { expected: GROUP, found: GroupId(8) });
}

#[test]
fn another_groups_directory_is_refused() {
    let (disk, _, floor) = half_durable();
    let Err(error) = Log::open(disk, &dir(), GroupId(8), options(1 << 20), floor) else { panic!("opened") };
    assert!(matches!(error, OpenError::WrongGroup { expected: GroupId(8), found: GROUP, .. }), "{error}");
    assert!(error.to_string().contains("belongs to group 7, not to group 8"));
}

#[test]
fn a_segment_under_anothers_name_is_refused() {
    let (disk, _, floor) = all_durable();
    let files = segment_files(&disk);
    disk.remove(&files[1]).unwrap();
    disk.rename(&files[2], &files[1]).unwrap();
    let error = open_error(&disk, floor);
    assert!(error.to_string().contains("the header of segment 3 in the file of segment 2"), "{error}");
}

#[test]
fn newer_versions_are_refused_wherever_they_are() {
    // A segment in a newer format.
    let (disk, _, floor) = half_durable();
    let file = segment_files(&disk).remove(0);
    let mut head = disk.read(&file).unwrap()[..64].to_vec();
    head[8] = 3;
    let crc = crc32fast::hash(&head[4..]);
    head[..4].copy_from_slice(&crc.to_le_bytes());
    disk.damage(&file, 0, &head).unwrap();
    for floor in [Position::ZERO, floor] {
        let error = open_error(&disk, floor);
        assert!(matches!(error, OpenError::NewerVersion { found: 3, known: 2, .. }), "{error}");
        assert!(error.to_string().contains("run a newer Raftline"), "{error}");
    }
    // An entry in a newer layout, above the floor: it is no torn tail. With a bad checksum it is.
    for good in [true, false] {
        let (disk, entries, floor) = half_durable();
        let at = usize::try_from(at_of(15)).unwrap();
        let mut entry = disk.read(&file).unwrap()[at..at + 148].to_vec();
        entry[6] = 2;
        if good {
            let crc = crc32fast::hash(&entry[4..]);
            entry[..4].copy_from_slice(&crc.to_le_bytes());
        }
        disk.damage(&file, at_of(15), &entry).unwrap();
        if good {
            let error = open_error(&disk, floor);
            assert!(matches!(error, OpenError::NewerVersion { what: "entry", found: 2, .. }), "{error}");
        } else {
            assert_eq!(contents(&open(&disk, 1 << 20, floor).unwrap()), entries[..14]);
        }
    }
}

#[test]
fn a_log_may_begin_anywhere() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 10, 100);
    sync(&mut log);
    log.reset(id(7, 1000), Offset(5000)).unwrap();
    assert_eq!(
        (log.start(), log.last(), log.durable()),
        ((id(7, 1000), Offset(5000)), id(7, 1000), id(0, 0))
    );
    let entries = fill(&mut log, 8, 3, 100);
    assert_eq!(sync(&mut log), id(8, 1003));
    assert_eq!(segment_files(&disk).len(), 1, "the old segment goes once the new one is durable");
    let log = open(&disk.durable(), 1 << 20, log.durable_position()).unwrap();
    assert_eq!((log.start(), contents(&log)), ((id(7, 1000), Offset(5000)), entries));
    assert_eq!(log.term_starts(), [id(8, 1001)]);
}

#[test]
fn truncation_across_segments_leaves_one_log() {
    for from in 1..=20 {
        let (disk, mut entries, floor) = all_durable();
        let mut log = open(&disk, SEGMENT_HEADER + 5 * ENTRY, floor).unwrap();
        log.truncate(Index(from)).unwrap();
        entries.truncate(usize::try_from(from).unwrap() - 1);
        assert_eq!(contents(&log), entries);
        entries.extend(fill(&mut log, 2, 7, 100));
        let before_sync = open(&disk.durable(), 1 << 20, floor).unwrap();
        assert_eq!(before_sync.last(), id(1, 20), "without a sync the old log stands");
        sync(&mut log);
        let log = open(&disk.durable(), 1 << 20, log.durable_position()).unwrap();
        assert_eq!(contents(&log), entries, "from {from}");
        assert!(log.recovery().segments.iter().filter(|segment| segment.live).count() >= 2);
    }
}

#[test]
fn looking_changes_nothing() {
    let (disk, entries, floor) = half_durable();
    disk.damage(&segment_files(&disk)[0], at_of(13), &[0; 60]).unwrap();
    let before = everything(&disk);
    let counters = disk.counters();
    let log = Log::inspect(disk.clone(), &dir(), GROUP, floor).unwrap();
    assert_eq!(contents(&log), entries[..12]);
    assert!(log.holds(id(1, 12)) && !log.holds(id(1, 13)) && !log.holds(id(2, 12)));
    assert_eq!(log.recovery().segments[0].stop, Damage::Entry(EntryError::Empty));
    assert_eq!(everything(&disk), before);
    assert_eq!((disk.counters().writes, disk.counters().file_syncs), (counters.writes, counters.file_syncs));
}

#[test]
fn what_a_killed_process_wrote_is_made_durable_before_it_counts() {
    let (disk, entries, floor) = half_durable();
    let log = open(&disk, 1 << 20, floor).unwrap();
    assert_eq!(log.durable(), id(1, 20));
    assert_eq!(log.recovery().bytes_settled, 10 * ENTRY);
    assert_eq!(contents(&open(&disk.durable(), 1 << 20, log.durable_position()).unwrap()), entries);
}

#[test]
fn what_a_failed_sync_lost_is_written_again_before_it_counts() {
    let (disk, mut log) = fresh(1 << 20);
    let entries = fill(&mut log, 1, 10, 100);
    disk.fail_next_sync();
    assert!(log.begin_sync().unwrap().run().is_err());
    // The process stops; the page cache still shows the bytes, as clean.
    let disk = disk.kill();
    let log = open(&disk, 1 << 20, Position::ZERO).unwrap();
    assert_eq!(contents(&log), entries);
    assert_eq!(contents(&open(&disk.durable(), 1 << 20, log.durable_position()).unwrap()), entries);
}

#[test]
fn a_beginning_that_a_failed_sync_lost_is_written_again_before_what_was_before_goes() {
    let (disk, mut log) = fresh(1000);
    let entries = fill(&mut log, 1, 30, 100);
    sync(&mut log);
    let floor = log.durable_position();
    assert!(log.trim(log.next_offset(), log.last().index).unwrap());
    disk.fail_next_sync();
    assert!(log.begin_sync().unwrap().run().is_err());
    assert_eq!(contents(&log), entries, "nothing goes");
    // The process stops; the page cache still says that the log begins with a later segment.
    let disk = disk.kill();
    let left = contents(&open(&disk, 1000, floor).unwrap());
    assert!((1..entries.len()).contains(&left.len()));
    assert_eq!(contents(&open(&disk.durable(), 1000, floor).unwrap()), left);
}

#[test]
fn opening_an_idle_log_costs_little() {
    let disk = disk();
    let mut log = open(&disk, 1 << 20, Position::ZERO).unwrap();
    assert_eq!(
        (disk.counters().opens, disk.counters().file_syncs),
        (0, 0),
        "a log without entries costs nothing"
    );
    fill(&mut log, 1, 3, 100);
    sync(&mut log);
    let before = disk.counters();
    let floor = log.durable_position();
    open(&disk, 1 << 20, floor).unwrap();
    let after = disk.counters();
    assert_eq!(
        (after.file_syncs, after.dir_syncs, after.writes),
        (before.file_syncs, before.dir_syncs, before.writes)
    );
    assert!(after.opens - before.opens <= 2);
}

#[test]
fn a_strange_file_in_the_directory_does_not_matter() {
    let (disk, entries, floor) = half_durable();
    let file = disk.create(&dir().join("notes.txt")).unwrap();
    file.write_at(&[IoSlice::new(b"mine")], 0).unwrap();
    assert_eq!(contents(&open(&disk, 1 << 20, floor).unwrap()), entries);
    assert!(disk.list(&dir()).unwrap().contains(&"notes.txt".to_owned()));
}

#[test]
fn an_entry_cut_short_by_the_files_end_is_no_entry() {
    let (disk, mut log) = fresh(4096);
    let mut writer = Writer::of(&log);
    let first = writer.data(&mut log, 1, 100);
    log.write().unwrap();
    sync(&mut log);
    let floor = log.durable_position();
    let mut header = first.0;
    header.id = id(1, 2);
    header.base_offset = log.next_offset();
    header.payload_bytes = 5000;
    let payload = Bytes::from(vec![1; 5000]);
    let head = header.encode(&[&payload]);
    let file = segment_files(&disk).remove(0);
    disk.damage(&file, at_of(2), &[&head[..], &payload[..HEADER_BYTES]].concat()).unwrap();
    assert_eq!(contents(&open(&disk, 4096, floor).unwrap()), [first]);
}
