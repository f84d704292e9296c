//! The plain path, on both disks.

use crate::common::{GROUP, Writer, contents, dir, fresh, id, open, options, sync};
use raftline_proto::ids::{Index, Offset, Position};
use raftline_proto::time::Timestamp;
use raftline_storage::{Disk, Log, RealDisk, SimDisk};
use std::path::Path;

fn write_read_reopen<D: Disk>(disk: D, dir: &Path) {
    let mut log = Log::open(disk.clone(), dir, GROUP, options(4096), Position::ZERO).unwrap();
    assert_eq!((log.last(), log.next_offset(), log.begin_sync().is_none()), (id(0, 0), Offset(0), true));
    let mut writer = Writer::of(&log);
    let mut expected = vec![writer.no_op(&mut log, 1)];
    for _ in 0..50 {
        expected.push(writer.data(&mut log, 1, 200));
    }
    log.write().unwrap();
    assert_eq!(log.last(), id(1, 51));
    assert_eq!(log.durable(), id(0, 0));
    assert_eq!(sync(&mut log), id(1, 51));
    assert!(log.segment_count() > 2);
    assert_eq!(contents(&log), expected);

    let read = log.read_entries(Index(3), Index(50), u64::MAX).unwrap();
    assert_eq!(read.up_to, Index(50));
    assert_eq!(read.bytes, 47 * 248);
    let read = log.read_batches(Offset(10), log.next_offset(), 1).unwrap();
    assert_eq!(read.batches.len(), 1);
    let read = log.read_batches(Offset(0), log.next_offset(), u64::MAX).unwrap();
    let batches: Vec<_> = expected[1..].iter().map(|(_, payload)| payload.clone()).collect();
    assert_eq!(read.batches, batches);
    assert_eq!(log.offset_at(Timestamp(20), log.next_offset()).unwrap(), Some((Offset(0), Timestamp(20))));

    let floor = log.durable_position();
    drop(log);
    let log = Log::open(disk, dir, GROUP, options(4096), floor).unwrap();
    assert_eq!(contents(&log), expected);
    assert_eq!((log.recovery().bytes_cut, log.recovery().bytes_settled), (0, 0));
}

#[test]
fn a_log_is_written_read_and_reopened_on_the_simulated_disk() {
    write_read_reopen(SimDisk::new(), &dir());
}

#[test]
fn a_log_is_written_read_and_reopened_on_the_real_disk() {
    let temporary = tempfile::tempdir().unwrap();
    write_read_reopen(RealDisk::new(temporary.path()).unwrap(), &temporary.path().join("groups/7"));
}

#[test]
fn truncated_entries_are_replaced() {
    let (disk, mut log) = fresh(4096);
    let mut writer = Writer::of(&log);
    let mut expected: Vec<_> = (0..20).map(|_| writer.data(&mut log, 1, 100)).collect();
    log.write().unwrap();
    log.truncate(Index(11)).unwrap();
    expected.truncate(10);
    assert_eq!(contents(&log), expected);
    let mut writer = Writer::of(&log);
    expected.extend((0..5).map(|_| writer.data(&mut log, 2, 100)));
    log.write().unwrap();
    assert_eq!(contents(&log), expected);
    assert_eq!(log.term_starts(), [id(1, 1), id(2, 11)]);
    sync(&mut log);
    let log = open(&disk.crash(1), 4096, log.durable_position()).unwrap();
    assert_eq!(contents(&log), expected);
}
