//! Tickets and what they vouch for.

use crate::common::{
    Entry, GROUP, Writer, contents, dir, disk, fill, fresh, id, open, options, retain, segment_files, sync,
};
use raftline_proto::batch::Codec;
use raftline_proto::command::TrimReason;
use raftline_proto::ids::{GroupId, Index, Offset, Position};
use raftline_proto::time::Timestamp;
use raftline_storage::{Lazy, Log, LogOptions, Outlived, SimDisk, StateFile, SyncSet};
use std::path::{Path, PathBuf};

/// The last entry that a power cut cannot take.
fn surely_there(disk: &SimDisk, floor: Position) -> Log<SimDisk> {
    open(&disk.durable(), 1 << 20, floor).unwrap()
}

#[test]
fn a_late_completion_never_vouches_for_entries_that_took_the_place() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 5, 100);
    let late = log.begin_sync().unwrap();
    log.truncate(Index(4)).unwrap();
    fill(&mut log, 2, 10, 100);
    late.run().unwrap();
    assert_eq!(log.durable_through(late.through()), id(1, 3));
    assert_eq!(log.durable(), id(1, 3));
    assert_eq!(
        surely_there(&disk, Position::ZERO).last(),
        id(1, 5),
        "the truncation itself is not durable yet"
    );
    let ticket = log.begin_sync().unwrap();
    assert!(ticket.through() > late.through());
    ticket.run().unwrap();
    assert_eq!(log.durable_through(ticket.through()), id(2, 13));
    assert!(surely_there(&disk, log.durable_position()).holds(id(2, 13)));
}

#[test]
fn a_late_completion_after_a_new_start_vouches_for_nothing() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 5, 100);
    let late = log.begin_sync().unwrap();
    log.reset(id(3, 100), Offset(50)).unwrap();
    late.run().unwrap();
    assert_eq!(log.durable_through(late.through()), id(0, 0), "the new start itself is not durable yet");
    assert_eq!(surely_there(&disk, Position::ZERO).last(), id(1, 5));
    let ticket = log.begin_sync().unwrap();
    ticket.run().unwrap();
    assert_eq!(log.durable_through(ticket.through()), id(3, 100));
    assert_eq!(surely_there(&disk, log.durable_position()).last(), id(3, 100));
    fill(&mut log, 3, 5, 100);
    assert_eq!(sync(&mut log), id(3, 105));
}

#[test]
fn durable_entries_stay_durable_through_a_truncation_above_them() {
    let (_, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 5, 100);
    sync(&mut log);
    fill(&mut log, 1, 5, 100);
    log.truncate(Index(8)).unwrap();
    assert_eq!(log.durable(), id(1, 5));
    log.truncate(Index(3)).unwrap();
    assert_eq!(log.durable(), id(1, 2));
}

#[test]
fn a_ticket_that_was_never_run_is_made_up_for() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 5, 100);
    drop(log.begin_sync());
    log.truncate(Index(5)).unwrap();
    fill(&mut log, 2, 5, 100);
    let ticket = log.begin_sync().unwrap();
    assert_eq!(ticket.files().len(), 2, "the first segment was never synced");
    ticket.run().unwrap();
    assert_eq!(log.durable_through(ticket.through()), id(2, 9));
    assert!(surely_there(&disk, log.durable_position()).holds(id(2, 9)));
}

#[test]
fn several_tickets_may_be_under_way() {
    let (_, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 5, 100);
    let first = log.begin_sync().unwrap();
    fill(&mut log, 1, 5, 100);
    let second = log.begin_sync().unwrap();
    fill(&mut log, 1, 5, 100);
    for ticket in [&first, &second] {
        ticket.run().unwrap();
    }
    assert_eq!(log.durable_through(second.through()), id(1, 10));
    assert_eq!(log.durable_through(first.through()), id(1, 10), "an older one takes nothing back");
    assert_eq!(sync(&mut log), id(1, 15));
    assert!(log.begin_sync().is_none());
}

#[test]
fn directories_are_synced_when_names_change_and_not_else() {
    let (_, mut log) = fresh(4096);
    fill(&mut log, 1, 1, 100);
    let ticket = log.begin_sync().unwrap();
    let dirs: Vec<&Path> = ticket.dirs().iter().map(PathBuf::as_path).collect();
    assert_eq!(dirs, [Path::new("/data/groups/7"), Path::new("/data/groups"), Path::new("/data")]);
    ticket.run().unwrap();
    log.durable_through(ticket.through());
    fill(&mut log, 1, 1, 100);
    assert!(log.begin_sync().unwrap().dirs().is_empty());
    fill(&mut log, 1, 40, 100);
    assert_eq!(log.segment_count(), 2);
    let ticket = log.begin_sync().unwrap();
    assert_eq!((ticket.files().len(), ticket.dirs()), (2, &[PathBuf::from("/data/groups/7")][..]));
}

#[test]
fn dead_segments_go_only_when_their_successor_is_durable() {
    let (disk, mut log) = fresh(1000);
    fill(&mut log, 1, 20, 100);
    sync(&mut log);
    let before = segment_files(&disk).len();
    log.truncate(Index(3)).unwrap();
    assert_eq!(segment_files(&disk).len(), before + 1);
    let ticket = log.begin_sync().unwrap();
    ticket.run().unwrap();
    log.durable_through(ticket.through());
    assert_eq!((segment_files(&disk).len(), log.segment_count()), (2, 2));
}

#[test]
fn a_log_begins_later_once_that_is_durable_and_never_past_what_is_committed() {
    let (disk, mut log) = fresh(1000);
    let entries = fill(&mut log, 1, 60, 100);
    sync(&mut log);
    let early = log.begin_sync();
    assert!(early.is_none());
    assert_eq!(log.first_left(log.next_offset(), Index(15)), Some(Index(13)));
    assert!(log.trim(log.next_offset(), Index(15)).unwrap());
    assert_eq!((log.start().0, contents(&log), log.take_let_go()), (id(0, 0), entries.clone(), None));
    // Until then a power cut may undo it, but never by half.
    for seed in 0..50 {
        let again = open(&disk.crash(seed), 1000, log.durable_position()).unwrap();
        let first = usize::try_from(again.start().0.index.0).unwrap();
        assert!(first == 0 || first == 12, "seed {seed}: {first}");
        assert_eq!(contents(&again), entries[first..], "seed {seed}");
    }
    let files = segment_files(&disk).len();
    let before = log.start();
    sync(&mut log);
    let start = log.start();
    assert_eq!(start.0, id(1, 12));
    let let_go = log.take_let_go().unwrap();
    assert_eq!((let_go.before, let_go.start, log.take_let_go()), (before, start, None));
    assert!(let_go.bytes > 1200 && segment_files(&disk).len() < files);
    assert_eq!(contents(&log), entries[12..]);
    assert_eq!(log.term_starts(), [id(1, 13)]);
    assert!(log.holds(start.0) && !log.holds(id(1, 11)));
    for seed in 0..50 {
        let again = open(&disk.crash(seed), 1000, log.durable_position()).unwrap();
        assert_eq!((again.start(), contents(&again)), (start, entries[12..].to_vec()), "seed {seed}");
    }
    retain(&mut log, None, Some(0), Index(61)).unwrap();
    assert_eq!(log.segment_count(), 1, "the last segment stays");
    assert!(!log.trim(log.next_offset(), Index(61)).unwrap());
}

#[test]
fn a_ticket_that_went_out_before_does_not_begin_a_log() {
    let (_, mut log) = fresh(1000);
    fill(&mut log, 1, 60, 100);
    let early = log.begin_sync().unwrap();
    early.run().unwrap();
    assert!(log.trim(log.next_offset(), Index(15)).unwrap());
    log.durable_through(early.through());
    assert_eq!(log.start().0, id(0, 0), "the header was written after that sync");
    // Nor is one that was never run.
    drop(log.begin_sync().unwrap());
    let late = log.begin_sync().unwrap();
    assert_eq!(late.files().len(), 1, "that of the segment which is to be the first");
    late.run().unwrap();
    log.durable_through(late.through());
    assert_eq!((log.start().0, log.begin_sync().is_none()), (id(1, 12), true));
}

#[test]
fn a_log_that_is_thrown_away_begins_where_it_was_told_to() {
    let (disk, mut log) = fresh(1000);
    fill(&mut log, 1, 60, 100);
    sync(&mut log);
    log.trim(log.next_offset(), Index(15)).unwrap();
    log.reset(id(3, 100), Offset(500)).unwrap();
    sync(&mut log);
    assert_eq!((log.start(), log.take_let_go()), ((id(3, 100), Offset(500)), None));
    let again = open(&disk.durable(), 1000, log.durable_position()).unwrap();
    assert_eq!(again.start(), (id(3, 100), Offset(500)));
}

#[test]
fn retention_by_time_and_size() {
    use crate::common::time_of;
    let (_, mut log) = fresh(1000);
    fill(&mut log, 1, 60, 100);
    sync(&mut log);
    // The newest record of the third segment is just old enough.
    let limit = Timestamp(time_of(18) + 1);
    let start = retain(&mut log, Some(limit), None, Index(61)).unwrap();
    assert_eq!(start.0, id(1, 18));
    assert_eq!(retain(&mut log, Some(limit), None, Index(61)), None);
    let half = log.bytes() / 2;
    retain(&mut log, None, Some(half), Index(61)).unwrap();
    assert!(log.bytes() >= half && log.bytes() < half + 1000);
}

#[test]
fn a_segment_covers_no_more_time_than_it_may() {
    let hour = 3_600_000;
    let options = LogOptions { segment_bytes: 1 << 20, segment_ms: hour };
    // Jumps back seal nothing, nor does an hour itself; entries without a time are not looked at.
    let times = [0, hour, 5, hour + 1, hour, 0, 2 * hour + 1, 2 * hour + 2, 2 * hour, 9 * hour, i64::MAX];
    let sealed_before = [3, 7, 9, 10];
    for staged in 1..=times.len() {
        let (disk, mut log) = fresh(1 << 20);
        log.configure(options);
        let mut writer = Writer::of(&log);
        let mut entries = vec![writer.no_op(&mut log, 1)];
        // Written one by one, or many in one call, as a follower takes them that was away.
        for group in times.chunks(staged) {
            for time in group {
                entries.push(writer.batch(&mut log, 1, Codec::None, &[*time]));
            }
            log.write().unwrap();
        }
        assert_eq!(log.segment_count(), 1 + sealed_before.len(), "{staged} at once");
        sync(&mut log);
        // What is told of times is in the log: a restart goes on alike.
        log = Log::open(disk.clone(), &dir(), GROUP, options, log.durable_position()).unwrap();
        assert_eq!(log.segment_count(), 1 + sealed_before.len());
        let last = u64::try_from(times.len()).unwrap() + 1;
        let (start, _) = retain(&mut log, Some(Timestamp(2 * hour)), None, Index(last + 1)).unwrap();
        assert_eq!(start, id(1, 4), "{staged} at once: no-op and three batches");
        assert_eq!(contents(&log), entries[4..]);
    }
}

#[test]
fn a_cut_takes_the_first_time_with_it() {
    let (_, mut log) = fresh(1 << 20);
    log.configure(LogOptions { segment_bytes: 1 << 20, segment_ms: 10 });
    let mut writer = Writer::of(&log);
    writer.no_op(&mut log, 1);
    writer.batch(&mut log, 1, Codec::None, &[100]);
    log.write().unwrap();
    // The cut itself opens a segment, whose first time is not known yet.
    log.truncate(Index(2)).unwrap();
    let segments = log.segment_count();
    let mut writer = Writer::of(&log);
    for time in [500, 510, 511] {
        writer.batch(&mut log, 2, Codec::None, &[time]);
        log.write().unwrap();
    }
    assert_eq!(log.segment_count(), segments + 1, "only the last is too late");
}

#[test]
fn a_quiet_log_ends_up_empty() {
    use crate::common::time_of;
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 20, 100);
    sync(&mut log);
    let later = Timestamp(time_of(20) + 1000);
    assert_eq!(log.outlived(Some(later), None, Index(20)), None, "not all committed yet");
    assert_eq!(log.outlived(Some(Timestamp(time_of(19))), None, Index(21)), None, "not all too old");
    assert_eq!(log.outlived(None, Some(0), Index(21)), None, "the last one goes by age alone");
    let end = (id(1, 20), log.next_offset());
    let outlived = log.outlived(Some(later), None, Index(21));
    assert_eq!(outlived, Some(Outlived { below: end.1, reason: TrimReason::Age }));
    assert!(!log.trim(end.1, Index(21)).unwrap(), "nothing takes its place yet");
    // The command that says so does, and begins a segment.
    let command = Writer::of(&log).trim_all(&mut log, 1);
    log.write().unwrap();
    assert_eq!(log.segment_count(), 2);
    assert!(log.trim(end.1, Index(21)).unwrap());
    sync(&mut log);
    assert_eq!((log.start(), log.last(), segment_files(&disk).len()), (end, id(1, 21), 1));
    assert_eq!(log.outlived(Some(later), None, Index(22)), None, "no record is left");
    for seed in 0..20 {
        let again = open(&disk.crash(seed), 1 << 20, log.durable_position()).unwrap();
        assert_eq!((again.start(), again.last()), (end, id(1, 21)));
    }
    let entries = [vec![command], fill(&mut log, 2, 3, 100)].concat();
    sync(&mut log);
    assert_eq!(contents(&open(&disk.durable(), 1 << 20, log.durable_position()).unwrap()), entries);
}

#[test]
fn a_snapshot_of_the_producers_stands_before_the_records_of_its_segment() {
    let (_, mut log) = fresh(1 << 20);
    let mut writer = Writer::of(&log);
    for _ in 0..2 {
        writer.snapshot(&mut log, 1);
        writer.no_op(&mut log, 1);
    }
    log.write().unwrap();
    assert_eq!(log.segment_count(), 1, "there is no record that could go");
    writer.data(&mut log, 1, 100);
    writer.snapshot(&mut log, 1);
    writer.data(&mut log, 1, 100);
    writer.no_op(&mut log, 1);
    log.write().unwrap();
    assert_eq!(log.segment_count(), 2, "in one write");
    writer.snapshot(&mut log, 1);
    log.write().unwrap();
    assert_eq!(log.segment_count(), 3, "in another");
    // What a leader sends is stored alike.
    let (_, mut copy) = fresh(1 << 20);
    let entries = contents(&log);
    let headers: Vec<_> = entries.iter().map(|(header, _)| *header).collect();
    let frame = |(header, payload): &Entry| [&header.encode(&[payload])[..], payload].concat();
    let frames: Vec<u8> = entries.iter().flat_map(frame).collect();
    copy.append_encoded(&headers, frames.into());
    copy.write().unwrap();
    assert_eq!((contents(&copy), copy.segment_count()), (entries, 3));
}

#[test]
fn what_a_snapshot_holds_back_goes_with_the_next_one_and_then_all_is_quiet() {
    let (_, mut log) = fresh(1 << 20);
    let mut writer = Writer::of(&log);
    writer.snapshot(&mut log, 1);
    for _ in 0..10 {
        writer.data(&mut log, 1, 100);
    }
    log.write().unwrap();
    sync(&mut log);
    let all = log.next_offset();
    // The snapshot is at 1, and its segment is the last.
    assert_eq!(log.first_left(all, Index(12)), None);
    writer.snapshot(&mut log, 1);
    writer.no_op(&mut log, 1);
    log.write().unwrap();
    sync(&mut log);
    assert_eq!(log.first_left(all, Index(14)), Some(Index(12)));
    assert_eq!(log.first_left(all, Index(11)), None, "not all committed yet");
    assert!(!log.trim(all, Index(1)).unwrap(), "kept for the first snapshot");
    assert!(log.trim(all, Index(12)).unwrap());
    sync(&mut log);
    assert_eq!(log.start(), (id(1, 11), all));
    // A log of a snapshot and no record waits for nothing. Nor do segments that hold no record.
    assert_eq!(log.first_left(all, Index(14)), None);
    log.truncate(Index(13)).unwrap();
    Writer::of(&log).no_op(&mut log, 2);
    log.write().unwrap();
    sync(&mut log);
    assert_eq!(log.segment_count(), 2);
    assert_eq!(log.first_left(all, Index(14)), None);
}

#[test]
fn one_round_syncs_many_logs_and_each_directory_once() {
    let disk = disk();
    let mut logs: Vec<Log<SimDisk>> = (1..=20)
        .map(|group| {
            let dir = PathBuf::from(format!("/data/groups/{group}"));
            Log::open(disk.clone(), &dir, GroupId(group), options(1 << 20), Position::ZERO).unwrap()
        })
        .collect();
    let mut state = StateFile::open(disk.clone(), Path::new("/data/shard-0"), 0).unwrap();
    for parts in [1, 4, 100] {
        let mut round = SyncSet::new(disk.clone());
        assert!(round.is_empty());
        let mut tickets = Vec::new();
        for log in &mut logs {
            let header = raftline_proto::entry::EntryHeader {
                group: log.group(),
                id: raftline_proto::ids::EntryId::new(raftline_proto::ids::Term(1), log.last().index.next()),
                kind: raftline_proto::entry::EntryKind::NoOp,
                base_offset: log.next_offset(),
                record_count: 0,
                payload_bytes: 0,
            };
            log.append(header, Default::default());
            log.write().unwrap();
            let ticket = log.begin_sync().unwrap();
            round.add(&ticket);
            tickets.push(ticket);
        }
        state.note_commit(GROUP, Index(parts as u64));
        let ticket = state.begin_sync(Lazy::Flush).unwrap().unwrap();
        round.add_state(&ticket);
        let before = disk.counters();
        let count = round.len();
        let split = round.split(parts);
        assert_eq!(split.len(), parts.min(count));
        split.iter().for_each(|part| part.run().unwrap());
        state.done(ticket);
        let after = disk.counters();
        assert_eq!(after.file_syncs - before.file_syncs, 21);
        // First 20 directories of their own, and the two above, which they share.
        let dirs = if parts == 1 { 22 } else { 0 };
        assert_eq!(after.dir_syncs - before.dir_syncs, dirs);
        for (log, ticket) in logs.iter_mut().zip(&tickets) {
            assert_eq!(log.durable_through(ticket.through()), log.last());
        }
    }
    assert!(SyncSet::new(disk).split(4).is_empty());
}
