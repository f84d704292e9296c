//! Compaction against its dumb twin, and what readers see of its result.

use crate::common::{chance, disk, fresh, open, options, segment_files, sync};
use crate::keyed::{Raw, Seen, batches_from, compact, is_empty, see, seen};
use bytes::Bytes;
use raftline_proto::entry::{EntryHeader, EntryKind, decode_run};
use raftline_proto::ids::{Index, Offset, Position};
use raftline_proto::time::Timestamp;
use raftline_storage::{CompactionError, CompactionRule, Log, RealDisk, SimDisk};
use rand::Rng;

const ROUNDS: u64 = 120;

pub fn rule(raw: &Raw, chance: &mut crate::common::Chance, from: &CompactionRule) -> CompactionRule {
    let through = Index(chance.random_range(from.through.0..raw.last().0 + 1));
    let before = chance.random_range(from.tombstones_before.0..raw.offset_after(raw.last()).0 + 1);
    let memory_bytes_max = if chance.random() { 0 } else { 1 << 20 };
    CompactionRule { through, tombstones_before: Offset(before), memory_bytes_max }
}

pub const NONE: CompactionRule =
    CompactionRule { through: Index(0), tombstones_before: Offset(0), memory_bytes_max: 0 };

#[test]
fn compaction_does_what_its_dumb_twin_does() {
    for seed in 0..ROUNDS {
        let passed = std::panic::catch_unwind(|| one_log(seed));
        assert!(passed.is_ok(), "seed {seed}");
    }
}

fn one_log(seed: u64) {
    let mut chance = chance(seed);
    let segment_bytes = chance.random_range(300..20_000);
    let (disk, mut log) = fresh(segment_bytes);
    let mut raw = Raw::new();
    let mut rule_now = NONE;
    for _ in 0..chance.random_range(1..5) {
        let count = chance.random_range(1..60);
        raw.grow(&mut chance, count);
        raw.append_to(&mut log, &mut chance);
        sync(&mut log);
        let wanted = rule(&raw, &mut chance, &rule_now);
        let concerned = (wanted.through, wanted.tombstones_before)
            > (rule_now.through, rule_now.tombstones_before)
            && wanted.through > Index::ZERO;
        compact(&mut log, wanted);
        if concerned {
            rule_now = wanted;
        }
        assert!(log.compaction(rule_now).unwrap().is_none(), "there is nothing left to do");
        let expected = raw.compacted(&rule_now);
        check(&log, &raw, &expected, &rule_now, &mut chance);
        for disk in [disk.durable(), disk.kill(), disk.crash(seed)] {
            let floor = if chance.random() { log.durable_position() } else { Position::ZERO };
            let again = open(&disk, segment_bytes, floor).unwrap();
            check(&again, &raw, &expected, &rule_now, &mut chance);
            assert_eq!(again.compaction_facts(), log.compaction_facts());
            let inspected =
                Log::inspect(disk.clone(), &crate::common::dir(), crate::common::GROUP, floor).unwrap();
            assert_eq!(seen(&inspected), expected);
        }
        if chance.random() {
            log = open(&disk, segment_bytes, log.durable_position()).unwrap();
        }
    }
}

fn check(
    log: &Log<SimDisk>,
    raw: &Raw,
    expected: &[Seen],
    rule: &CompactionRule,
    chance: &mut crate::common::Chance,
) {
    assert_eq!(seen(log), expected);
    assert_eq!((log.last().index, log.next_offset()), (raw.last(), raw.offset_after(raw.last())));
    for (header, _) in &raw.entries {
        assert!(log.holds(header.id));
    }
    let index = Index(chance.random_range(1..raw.last().0 + 1));
    check_entries(log, expected, index, chance.random_range(1..3000));
    let from = Offset(chance.random_range(0..log.next_offset().0 + 1));
    check_batches(log, expected, from, chance.random_range(1..3000));
    check_times(log, expected, chance);
    let facts = log.compaction_facts();
    assert_eq!((facts.clean_through, facts.tombstones_before), (rule.through, rule.tombstones_before));
    let headers = log.segment_count() as u64 * 64;
    assert!(facts.clean_bytes + facts.dirty_bytes <= log.bytes() - headers);
    let above = raw.entries.iter().filter(|(header, _)| header.id.index > rule.through);
    assert_eq!(facts.dirty_bytes, above.clone().map(|(header, _)| header.entry_bytes()).sum::<u64>());
    let batches = above.filter(|(header, _)| header.kind == EntryKind::Data);
    let first =
        batches.map(|(_, batch)| Timestamp(i64::from_be_bytes(batch[35..43].try_into().unwrap()))).next();
    assert_eq!(facts.dirty_since, first);
}

/// Entries by index, as a peer is sent them.
fn check_entries(log: &Log<SimDisk>, expected: &[Seen], from: Index, bytes_max: u64) {
    let mut from = from;
    let mut found = Vec::new();
    let first = usize::try_from(from.0 - 1).unwrap();
    while from <= log.last().index {
        let read = log.read_entries(from, log.last().index.next(), bytes_max).unwrap();
        let bytes = Bytes::from(read.parts.concat());
        assert_eq!(bytes.len() as u64, read.bytes);
        let mut rest = bytes.clone();
        let mut count = 0;
        while !rest.is_empty() {
            let header = EntryHeader::decode(&rest).unwrap();
            let entry = rest.split_to(usize::try_from(header.entry_bytes()).unwrap());
            EntryHeader::verify(&entry).unwrap();
            found.push(see(&header, &entry.slice(48..)));
            count += 1;
        }
        assert!(count == 1 || read.bytes <= bytes_max);
        assert_eq!(read.up_to, from + count);
        from = read.up_to;
    }
    assert_eq!(found, expected[first..]);
}

/// Batches by offset, as a consumer reads them: from inside a gap on, the next one.
fn check_batches(log: &Log<SimDisk>, expected: &[Seen], from: Offset, bytes_max: u64) {
    let found = batches_from(log, from, bytes_max);
    let is_read = |entry: &&Seen| {
        entry.kind == EntryKind::Data && entry.base_offset + u64::from(entry.record_count) > from
    };
    let expected: Vec<&Seen> = expected.iter().filter(is_read).collect();
    assert_eq!(found.len(), expected.len());
    for (batch, entry) in found.iter().zip(expected) {
        let header = EntryHeader {
            group: crate::common::GROUP,
            id: entry.id,
            kind: EntryKind::Data,
            base_offset: entry.base_offset,
            record_count: entry.record_count,
            payload_bytes: u32::try_from(batch.len()).unwrap(),
        };
        assert_eq!(&see(&header, batch), entry);
        assert_eq!(is_empty(batch), entry.records.as_ref().is_some_and(Vec::is_empty));
    }
}

fn check_times(log: &Log<SimDisk>, expected: &[Seen], chance: &mut crate::common::Chance) {
    let batches = || expected.iter().filter(|entry| entry.kind == EntryKind::Data);
    // Unreadable batches all say 3.
    let records = || {
        batches().flat_map(|entry| match &entry.records {
            Some(records) => records.iter().map(|record| (record.offset, record.time)).collect(),
            None => vec![(entry.base_offset, Timestamp(3))],
        })
    };
    let time = Timestamp(chance.random_range(4..10_500));
    let found = log.offset_at(time, log.next_offset()).unwrap();
    assert_eq!(found, records().find(|(_, found)| *found >= time), "time {time:?}");
    let newest = records().map(|(_, time)| time).max();
    let first = records().find(|(_, time)| Some(*time) == newest);
    assert_eq!(log.newest(log.next_offset()).unwrap(), first);
    // The same of what is not deleted. Here records count that can be read.
    let from = Offset(chance.random_range(0..log.next_offset().0 + 1));
    let left: Vec<(Offset, Timestamp)> =
        records().filter(|(offset, time)| *offset >= from && time.0 > 3).collect();
    let found = log.offset_at_from(time, from, log.next_offset()).unwrap();
    assert_eq!(found, left.iter().copied().find(|(_, found)| *found >= time), "time {time:?} from {from}");
    if newest > Some(Timestamp(3)) && !left.is_empty() {
        let newest = left.iter().map(|(_, time)| *time).max();
        let found = log.newest_from(from, log.next_offset()).unwrap();
        assert_eq!(found, left.iter().copied().find(|(_, time)| Some(*time) == newest), "newest from {from}");
    }
}

#[test]
fn the_way_to_a_point_does_not_matter() {
    for seed in 0..60 {
        let mut chance = chance(seed);
        let mut raw = Raw::new();
        let count = chance.random_range(20..150);
        raw.grow(&mut chance, count);
        let mut rules = vec![NONE];
        for _ in 0..3 {
            rules.push(rule(&raw, &mut chance, rules.last().unwrap()));
        }
        let last = rules[3];
        let mut outcomes: Vec<Vec<(EntryHeader, Bytes)>> = Vec::new();
        for stops in [&rules[1..], &rules[2..], &rules[3..]] {
            for memory_bytes_max in [0, 5000, u64::MAX] {
                let (_, mut log) = fresh(chance.random_range(300..30_000));
                raw.append_to(&mut log, &mut chance);
                sync(&mut log);
                for stop in stops {
                    let rule = CompactionRule { memory_bytes_max, ..*stop };
                    if let Some(job) = log.compaction(rule).unwrap() {
                        log.adopt(job.run().unwrap()).unwrap();
                    }
                }
                outcomes.push(log.replay(Index::ZERO).map(Result::unwrap).collect());
            }
        }
        for outcome in &outcomes {
            // Byte for byte, though records alone are promised.
            assert!(outcome == &outcomes[0], "seed {seed}, {last:?}");
        }
    }
}

#[test]
fn a_follower_goes_on_from_the_middle_of_its_leaders_gap() {
    let mut chance = chance(1);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 150);
    let (_, mut leader) = fresh(4000);
    raw.append_to(&mut leader, &mut chance);
    sync(&mut leader);
    let rule =
        CompactionRule { through: Index(120), tombstones_before: Offset::ZERO, memory_bytes_max: 1 << 20 };
    compact(&mut leader, rule);
    for held in 0..150 {
        let (_, mut follower) = fresh(3000);
        let mut some = raw.clone();
        some.entries.truncate(held);
        some.append_to(&mut follower, &mut chance);
        while follower.last() != leader.last() {
            let from = follower.last().index.next();
            let read = leader.read_entries(from, leader.last().index.next(), 1000).unwrap();
            let bytes = Bytes::from(read.parts.concat());
            let mut headers = Vec::new();
            let mut rest = bytes.clone();
            while !rest.is_empty() {
                let header = EntryHeader::decode(&rest).unwrap();
                if header.kind == EntryKind::Gap {
                    let entry = rest.slice(..usize::try_from(header.entry_bytes()).unwrap());
                    assert_eq!(decode_run(&entry).unwrap()[0].header, header);
                }
                rest = rest.split_off(usize::try_from(header.entry_bytes()).unwrap());
                headers.push(header);
            }
            follower.append_encoded(&headers, bytes);
            follower.write().unwrap();
        }
        sync(&mut follower);
        compact(&mut follower, rule);
        assert!(seen(&follower) == seen(&leader), "{held} entries held");
    }
}

#[test]
fn only_what_is_durable_is_compacted_and_one_job_at_a_time() {
    let mut chance = chance(2);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 50);
    let (disk, mut log) = fresh(2000);
    raw.append_to(&mut log, &mut chance);
    let rule = CompactionRule { through: Index(40), ..NONE };
    let refused = log.compaction(rule).map(drop);
    assert!(matches!(refused, Err(CompactionError::NotDurable { through: Index(40), .. })));
    sync(&mut log);
    assert!(log.compaction(NONE).unwrap().is_none());
    let beyond = CompactionRule { through: Index(51), ..NONE };
    assert!(matches!(log.compaction(beyond).map(drop), Err(CompactionError::NotDurable { .. })));
    let job = log.compaction(rule).unwrap().unwrap();
    assert!(matches!(log.compaction(rule).map(drop), Err(CompactionError::Running)));
    let done = job.run().unwrap();
    assert!(matches!(log.compaction(rule).map(drop), Err(CompactionError::Running)));
    assert!(leftovers(&disk) > 0);
    drop(done);
    assert_eq!(leftovers(&disk), 0, "a result that is not wanted takes its files with it");
    let job = log.compaction(rule).unwrap().unwrap();
    job.canceller().store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(job.run().map(drop), Err(CompactionError::Cancelled)));
    assert_eq!((leftovers(&disk), seen(&log)), (0, raw.seen()));
    compact(&mut log, rule);
    assert_eq!(seen(&log), raw.compacted(&rule));
}

pub fn leftovers(disk: &SimDisk) -> usize {
    use raftline_storage::Disk;
    disk.list(&crate::common::dir()).unwrap().iter().filter(|name| name.ends_with(".compacting")).count()
}

#[test]
fn damage_is_reported_and_nothing_is_taken() {
    let mut chance = chance(3);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 60);
    let (disk, mut log) = fresh(2000);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let rule = CompactionRule { through: Index(50), ..NONE };
    let job = log.compaction(rule).unwrap().unwrap();
    let file = segment_files(&disk)[1].clone();
    let was = disk.read(&file).unwrap()[200];
    disk.damage(&file, 200, &[was ^ 1]).unwrap();
    match job.run().map(drop) {
        Err(CompactionError::Corrupt { file: found, .. }) => assert_eq!(found, file),
        other => panic!("{other:?}"),
    }
    disk.damage(&file, 200, &[was]).unwrap();
    assert_eq!(leftovers(&disk), 0);
    compact(&mut log, rule);
    assert_eq!(seen(&log), raw.compacted(&rule));
    // Damage in a compacted segment is refused whatever the floor: all of it was durable.
    let file = segment_files(&disk)[0].clone();
    let bytes = disk.read(&file).unwrap();
    for at in [70, 100, 130, 180, bytes.len() as u64 - 1] {
        let byte = bytes[usize::try_from(at).unwrap()];
        disk.damage(&file, at, &[byte ^ 1]).unwrap();
        let floor = if at < 128 { log.durable_position() } else { Position::ZERO };
        let error = open(&disk, 2000, floor).map(drop).unwrap_err();
        assert!(error.to_string().contains("Nothing was cut"), "{error}");
        disk.damage(&file, at, &[byte]).unwrap();
    }
    assert_eq!(seen(&open(&disk, 2000, Position::ZERO).unwrap()), raw.compacted(&rule));
}

#[test]
fn compaction_makes_a_log_smaller_and_merges_segments() {
    let mut chance = chance(4);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 1500);
    let (disk, mut log) = fresh(8000);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let (bytes, segments) = (log.bytes(), log.segment_count());
    for _ in 0..3 {
        let rule = CompactionRule {
            through: raw.last(),
            tombstones_before: log.compaction_facts().tombstones_before + 1,
            memory_bytes_max: 1 << 20,
        };
        compact(&mut log, rule);
    }
    assert!(log.bytes() < bytes / 10, "{} of {bytes}", log.bytes());
    assert!(log.segment_count() < segments / 5, "{} of {segments}", log.segment_count());
    assert_eq!(segment_files(&disk).len(), log.segment_count());
    let facts = log.compaction_facts();
    assert_eq!((facts.dirty_bytes, facts.dirty_since), (0, None));
}

#[test]
fn a_log_on_the_real_disk_is_compacted_and_reopened() {
    let temporary = tempfile::tempdir().unwrap();
    let real = RealDisk::new(temporary.path()).unwrap();
    let dir = temporary.path().join("groups/7");
    let mut log = Log::open(real.clone(), &dir, crate::common::GROUP, options(8000), Position::ZERO).unwrap();
    let mut chance = chance(5);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 400);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    // Slices that were handed out stay what they are.
    let before = log.read_batches(Offset(0), log.next_offset(), u64::MAX).unwrap().batches;
    let copies: Vec<Vec<u8>> = before.iter().map(|batch| batch.to_vec()).collect();
    let mut rule = CompactionRule { through: Index(200), ..NONE };
    for through in [200, 390] {
        rule = CompactionRule { through: Index(through), tombstones_before: Offset(through), ..rule };
        let job = log.compaction(rule).unwrap().unwrap();
        let done =
            std::thread::Builder::new().name("compaction".into()).spawn(|| job.run().unwrap()).unwrap();
        log.adopt(done.join().unwrap()).unwrap();
        assert_eq!(seen(&log), raw.compacted(&rule));
        assert_eq!(log.last(), raw.entries.last().unwrap().0.id);
    }
    assert!(before.iter().zip(&copies).all(|(batch, copy)| batch == copy));
    raw.grow(&mut chance, 20);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let floor = log.durable_position();
    drop(log);
    let log = Log::open(real, &dir, crate::common::GROUP, options(8000), floor).unwrap();
    assert_eq!(seen(&log), raw.compacted(&rule));
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let mut chance = chance(6);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 100);
    let disk = disk();
    let mut log = open(&disk, 3000, Position::ZERO).unwrap();
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let rule = CompactionRule { through: Index(90), ..NONE };
    let job = log.compaction(rule).unwrap().unwrap();
    for room in [0, 100, 1000] {
        disk.set_capacity(Some(disk.used_bytes() + room));
    }
    assert!(matches!(job.run().map(drop), Err(CompactionError::Io { .. })));
    disk.set_capacity(None);
    assert_eq!((seen(&log), leftovers(&disk)), (raw.seen(), 0));
    compact(&mut log, rule);
    assert_eq!(seen(&log), raw.compacted(&rule));
}

#[test]
fn deleted_records_take_whole_segments_with_them() {
    let mut chance = chance(8);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 100);
    let (disk, mut log) = fresh(2000);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    compact(&mut log, CompactionRule { through: Index(40), ..NONE });
    assert!(!log.trim(Offset(0), Index(101)).unwrap());
    let before = seen(&log);
    for below in [30, 100, 250, 100_000] {
        let below = Offset(below);
        log.trim(below, Index(95)).unwrap();
        sync(&mut log);
        assert!(log.start().1 <= below && log.start().0.index < Index(95));
        let start = usize::try_from(log.start().0.index.0).unwrap();
        assert_eq!(seen(&log), before[start..]);
        let again = open(&disk.durable(), 2000, log.durable_position()).unwrap();
        assert_eq!((again.start(), seen(&again)), (log.start(), seen(&log)));
    }
    assert!(log.start().1 > Offset(200), "something went");
}
