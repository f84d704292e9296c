//! Full and failing disks: the log says so, stays as it was, and goes on when it can.

use crate::common::{Writer, contents, dir, fill, fresh, id, open, segment_files, sync};
use raftline_proto::ids::{Index, Offset};
use raftline_storage::{Disk, DiskFile};
use std::io::{ErrorKind, IoSlice};

#[test]
fn a_full_disk_refuses_the_write_and_nothing_else() {
    let (disk, mut log) = fresh(1 << 20);
    let mut entries = fill(&mut log, 1, 100, 100);
    sync(&mut log);
    disk.set_capacity(Some(disk.used_bytes()));
    let mut writer = Writer::of(&log);
    for _ in 0..100 {
        writer.data(&mut log, 1, 100);
    }
    let error = log.write().unwrap_err();
    assert_eq!((error.last, error.source.kind()), (id(1, 100), ErrorKind::StorageFull));
    assert!(error.to_string().contains("ends at entry 1.100"), "{error}");
    assert_eq!((log.last(), contents(&log)), (id(1, 100), entries.clone()));
    assert!(log.begin_sync().is_none(), "nothing changed");

    // Room that was made before is still there for small writes.
    entries.extend(fill(&mut log, 1, 1, 100));
    disk.set_capacity(None);
    entries.extend(fill(&mut log, 1, 200, 100));
    sync(&mut log);
    assert_eq!(contents(&log), entries);
    assert_eq!(contents(&open(&disk.durable(), 1 << 20, log.durable_position()).unwrap()), entries);
}

#[test]
fn a_nearly_full_disk_is_used_to_the_last_page() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 1, 100);
    disk.set_capacity(Some(disk.used_bytes() + 8192));
    let before = log.bytes();
    fill(&mut log, 1, 1, 20_000);
    assert!(log.bytes() > before + 20_000, "a whole step does not fit any more, but the entry does");
}

#[test]
fn no_segment_is_left_half_made() {
    let (disk, mut log) = fresh(8192);
    let entries = fill(&mut log, 1, 50, 100);
    sync(&mut log);
    assert_eq!(segment_files(&disk).len(), 1);
    disk.set_capacity(Some(disk.used_bytes() + 1000));
    let mut writer = Writer::of(&log);
    for _ in 0..20 {
        writer.data(&mut log, 1, 100);
    }
    // The first part still fits the old segment, and is kept.
    let error = log.write().unwrap_err();
    assert!(error.last > id(1, 50) && error.last < id(1, 70));
    assert_eq!(segment_files(&disk).len(), 1);
    assert_eq!(contents(&log)[..50], entries);

    disk.set_capacity(None);
    log.truncate(Index(30)).unwrap();
    let mut kept = entries[..29].to_vec();
    kept.extend(fill(&mut log, 2, 5, 100));
    sync(&mut log);
    assert_eq!(contents(&open(&disk.durable(), 8192, log.durable_position()).unwrap()), kept);
}

#[test]
fn a_cut_needs_no_room() {
    let (disk, mut log) = fresh(8192);
    let entries = fill(&mut log, 1, 120, 100);
    sync(&mut log);
    let late = fill(&mut log, 1, 1, 100);
    let under_way = log.begin_sync().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    log.truncate(Index(100)).unwrap();
    log.truncate(Index(30)).unwrap();
    assert!(log.owes_segment());
    assert_eq!((log.last(), log.durable(), contents(&log)), (id(1, 29), id(1, 29), entries[..29].to_vec()));
    // A sync that began before confirms nothing of what has gone.
    under_way.run().unwrap();
    assert_eq!(log.durable_through(under_way.through()), id(1, 29));
    // It takes no entry meanwhile, and a restart finds it as if it had not been told.
    let mut writer = Writer::of(&log);
    writer.data(&mut log, 2, 100);
    assert_eq!(log.write().unwrap_err().last, id(1, 29));
    assert!(log.pay().is_err());
    let again = open(&disk.kill(), 8192, log.durable_position()).unwrap();
    assert_eq!(contents(&again), [&entries[..], &late].concat());

    disk.set_capacity(None);
    let mut kept = entries[..29].to_vec();
    kept.extend(fill(&mut log, 2, 5, 100));
    assert!(!log.owes_segment());
    sync(&mut log);
    assert_eq!(contents(&open(&disk.durable(), 8192, log.durable_position()).unwrap()), kept);
    assert_eq!(segment_files(&disk).len(), log.segment_count(), "those in whose place it stands are gone");
}

#[test]
fn a_log_is_thrown_away_without_room_and_vouches_for_nothing_until_there_is_some() {
    let (disk, mut log) = fresh(8192);
    let entries = fill(&mut log, 1, 120, 100);
    sync(&mut log);
    disk.set_capacity(Some(disk.used_bytes()));
    log.truncate(Index(50)).unwrap();
    log.reset(id(2, 500), Offset(900)).unwrap();
    assert_eq!((log.last(), log.start()), (id(2, 500), (id(2, 500), Offset(900))));
    assert_eq!((log.durable(), contents(&log).len(), log.begin_sync().is_none()), (id(0, 0), 0, true));
    let again = open(&disk.kill(), 8192, log.durable_position()).unwrap();
    assert_eq!(contents(&again), entries);

    disk.set_capacity(None);
    log.pay().unwrap();
    assert_eq!(sync(&mut log), id(2, 500));
    let more = fill(&mut log, 2, 5, 100);
    sync(&mut log);
    let again = open(&disk.durable(), 8192, log.durable_position()).unwrap();
    assert_eq!((again.start(), contents(&again)), ((id(2, 500), Offset(900)), more));
    assert_eq!(segment_files(&disk).len(), 1);
}

#[test]
fn a_log_that_loses_all_of_its_entries_without_room_begins_where_it_began() {
    let (disk, mut log) = fresh(8192);
    fill(&mut log, 1, 120, 100);
    sync(&mut log);
    disk.set_capacity(Some(disk.used_bytes()));
    log.truncate(Index(1)).unwrap();
    assert_eq!((log.last(), log.next_offset(), contents(&log).len()), (id(0, 0), Offset(0), 0));
    disk.set_capacity(None);
    let entries = fill(&mut log, 2, 5, 100);
    sync(&mut log);
    assert_eq!(contents(&open(&disk.durable(), 8192, log.durable_position()).unwrap()), entries);
}

#[test]
fn a_write_that_fails_half_way_is_void_after_the_next() {
    // Two whole entries get through and a part of a third.
    let (disk, mut log) = fresh(1 << 20);
    let mut entries = fill(&mut log, 1, 5, 100);
    sync(&mut log);
    disk.fail_next_write(2 * 148 + 50);
    let mut writer = Writer::of(&log);
    for _ in 0..4 {
        writer.data(&mut log, 1, 100);
    }
    assert_eq!(log.write().unwrap_err().last, id(1, 5));
    // Another leader's entry of the same size takes the place of the first; what stood behind must not follow it.
    entries.extend(fill(&mut log, 2, 1, 100));
    assert_eq!(log.segment_count(), 2);
    sync(&mut log);
    assert_eq!(contents(&log), entries);
    for floor in [log.durable_position(), raftline_proto::ids::Position::ZERO] {
        assert_eq!(contents(&open(&disk.kill(), 1 << 20, floor).unwrap()), entries);
    }
}

#[test]
fn making_room_ahead_on_a_full_disk_is_no_harm() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 100, 100);
    disk.set_capacity(Some(disk.used_bytes() + 100));
    let allocation = log.allocation_wanted().unwrap();
    assert!(log.allocation_wanted().is_none(), "one at a time");
    let result = allocation.run();
    assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::StorageFull);
    log.allocated(allocation, result);
    fill(&mut log, 1, 1, 100);
    disk.set_capacity(None);
    let allocation = log.allocation_wanted().unwrap();
    let result = allocation.run();
    assert!(result.is_ok());
    let used = disk.used_bytes();
    log.allocated(allocation, result);
    fill(&mut log, 1, 80, 100);
    assert_eq!(disk.used_bytes(), used, "the room was made before it was needed");
}

#[test]
fn a_filler_that_comes_late_destroys_nothing() {
    let (disk, mut log) = fresh(1 << 20);
    let mut entries = fill(&mut log, 1, 100, 100);
    let allocation = log.allocation_wanted().unwrap();
    // The writes cannot wait for it.
    entries.extend(fill(&mut log, 1, 300, 100));
    let result = allocation.run();
    log.allocated(allocation, result);
    assert_eq!(contents(&log), entries);
    sync(&mut log);
    assert_eq!(contents(&open(&disk.durable(), 1 << 20, log.durable_position()).unwrap()), entries);
}

#[test]
fn a_segment_whose_header_failed_cuts_nothing_when_it_comes_back() {
    let (disk, mut log) = fresh(1000);
    let mut entries = fill(&mut log, 1, 5, 100);
    sync(&mut log);
    // A large entry needs a segment, whose header gets through though the write fails. A small one would still fit
    // the segment before.
    disk.fail_next_write(64);
    let mut writer = Writer::of(&log);
    writer.data(&mut log, 1, 700);
    assert_eq!(log.write().unwrap_err().last, id(1, 5));
    let failed = segment_files(&disk).len();
    entries.extend(fill(&mut log, 1, 1, 10));
    assert_eq!((failed, log.segment_count()), (1, 2));
    sync(&mut log);
    // The failed segment's header, where a power cut may bring it back.
    let mut header = disk.read(&segment_files(&disk)[1]).unwrap()[..64].to_vec();
    header[24] -= 1;
    let position = u64::from_le_bytes(header[56..64].try_into().unwrap()) - 64;
    header[56..64].copy_from_slice(&position.to_le_bytes());
    let crc = crc32fast::hash(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    let file = disk.create(&dir().join("0000000000000002.segment")).unwrap();
    file.write_at(&[IoSlice::new(&header)], 0).unwrap();
    assert_eq!(contents(&open(&disk, 1000, log.durable_position()).unwrap()), entries);
}
