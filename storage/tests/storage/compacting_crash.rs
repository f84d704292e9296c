//! Power cuts at every point of a compaction, and logs that change under one.

use crate::common::{GROUP, chance, dir, disk, fresh, id, open, options, retain, segment_files, sync};
use crate::compacting::{NONE, leftovers, rule};
use crate::keyed::{Raw, Record, Seen, compact, seen};
use crate::power::PowerDisk;
use raftline_proto::entry::EntryKind;
use raftline_proto::ids::{Index, Offset, Position};
use raftline_storage::{AdoptError, CompactionRule, Log, SimDisk};
use rand::Rng;
use std::collections::BTreeMap;

/// Whether what was found is `after` up to some entry and `before` from there on: a crash may leave the log compacted in
/// part.
fn is_between(found: &[Seen], before: &[Seen], after: &[Seen]) -> bool {
    let same = found.iter().zip(after).take_while(|(found, after)| found == after).count();
    found.len() == before.len() && found[same..] == before[same..]
}

/// What a reader makes of a log: each key's last value, `None` where the last record is a tombstone.
fn last_values(entries: &[Seen]) -> BTreeMap<&[u8], Option<&Record>> {
    let mut values = BTreeMap::new();
    for record in entries.iter().filter_map(|entry| entry.records.as_ref()).flatten() {
        if let Some(key) = &record.key {
            values.insert(&key[..], record.value.is_some().then_some(record));
        }
    }
    values
}

/// The same, where a key that was deleted is as one that never was.
fn living(entries: &[Seen]) -> BTreeMap<&[u8], &Record> {
    last_values(entries).into_iter().filter_map(|(key, record)| record.map(|record| (key, record))).collect()
}

#[test]
fn a_power_cut_at_any_point_leaves_a_log_that_means_the_same() {
    let mut cuts = 0;
    for seed in 0..3 {
        for operations in 0.. {
            let passed = std::panic::catch_unwind(|| cut(seed, operations));
            match passed {
                Ok(Cut::InTime) => cuts += 1,
                Ok(Cut::TooLate) => break,
                Err(_) => panic!("seed {seed}, after {operations} operations"),
            }
        }
    }
    assert!(cuts > 100, "{cuts} points");
}

enum Cut {
    InTime,
    TooLate,
}

/// Two compactions, the second of which loses its power after so many operations.
fn cut(seed: u64, operations: u64) -> Cut {
    let mut chance = chance(seed);
    let segment_bytes = chance.random_range(300..4000);
    let power = PowerDisk::new(disk());
    let mut log = Log::open(power.clone(), &dir(), GROUP, options(segment_bytes), Position::ZERO).unwrap();
    let mut raw = Raw::new();
    raw.grow(&mut chance, 40);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let first = rule(&raw, &mut chance, &NONE);
    compact(&mut log, first);
    raw.grow(&mut chance, 40);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    // One of them takes several rounds.
    let memory_bytes_max = if seed == 0 { 600 } else { 1 << 20 };
    let second = CompactionRule { through: Index(70), tombstones_before: Offset(200), memory_bytes_max };
    let (before, after) = (seen(&log), raw.compacted(&second));
    assert!(second.through > first.through || second.tombstones_before > first.tombstones_before);
    let mut floor = log.durable_position();
    power.cut_after(operations);
    let done = log.compaction(second).ok().and_then(|job| job.unwrap().run().ok());
    // Meanwhile the segment that was opened behind has become durable.
    if let Some(ticket) = log.begin_sync()
        && ticket.run().is_ok()
    {
        log.durable_through(ticket.through());
        floor = log.durable_position();
    }
    let adopted = done.map(|done| log.adopt(done));
    let killed = power.disk.kill();
    let outcome = if power.left() > 0 { Cut::TooLate } else { Cut::InTime };
    if let Cut::TooLate = outcome {
        assert!(adopted.is_some_and(|adopted| adopted.is_ok()));
    }
    drop(log);
    for (nth, disk) in
        [power.disk.kill(), power.disk.durable(), power.disk.crash(seed), power.disk.crash(!seed)]
            .into_iter()
            .enumerate()
    {
        let floor = if nth % 2 == 0 { floor } else { Position::ZERO };
        let log = open(&disk, segment_bytes, floor).unwrap();
        found(&log, &before, &after);
        // Another one before anything else was synced, as if the first start had been killed at once.
        let disk = disk.crash(seed ^ 7);
        let mut log = open(&disk, segment_bytes, floor).unwrap();
        found(&log, &before, &after);
        assert_eq!((leftovers(&disk), segment_files(&disk).len()), (0, log.segment_count()));
        compact(&mut log, second);
        assert_eq!(seen(&log), after, "the rest is made up for");
        raw.append_to(&mut log, &mut chance);
        assert_eq!(log.last().index, raw.last());
    }
    // The next start loses its power, too.
    let restarted = PowerDisk::new(killed);
    restarted.cut_after(chance.random_range(0..6));
    let _ = Log::open(restarted.clone(), &dir(), GROUP, options(segment_bytes), floor);
    found(&open(&restarted.disk.crash(seed ^ operations), segment_bytes, floor).unwrap(), &before, &after);
    outcome
}

#[test]
fn a_start_makes_names_durable_before_it_removes_what_they_replaced() {
    let mut chance = chance(12);
    let power = PowerDisk::new(disk());
    let mut log = Log::open(power.clone(), &dir(), GROUP, options(1000), Position::ZERO).unwrap();
    let mut raw = Raw::new();
    raw.grow(&mut chance, 60);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let rule = CompactionRule { through: raw.last(), tombstones_before: Offset(50), memory_bytes_max: 0 };
    // All segments become one.
    log.configure(options(1 << 20));
    let done = log.compaction(rule).unwrap().unwrap().run().unwrap();
    sync(&mut log);
    power.cut_after(1);
    assert!(
        matches!(log.adopt(done), Err(AdoptError::SyncFailed { .. })),
        "it has its name, but not for good"
    );
    let floor = log.durable_position();
    for operations in 0..12 {
        for seed in 0..12 {
            let restarted = PowerDisk::new(power.disk.kill());
            restarted.cut_after(operations);
            let _ = Log::open(restarted.clone(), &dir(), GROUP, options(1000), floor);
            let log = open(&restarted.disk.crash(seed), 1000, floor);
            let log =
                log.unwrap_or_else(|error| panic!("after {operations} operations, seed {seed}: {error}"));
            found(&log, &raw.seen(), &raw.compacted(&rule));
        }
    }
}

#[test]
fn sequences_of_what_was_replaced_are_not_given_out_again() {
    let mut chance = chance(11);
    let (disk, mut log) = fresh(1000);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 60);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let rule = CompactionRule { through: raw.last(), tombstones_before: Offset(1000), memory_bytes_max: 0 };
    // The second time small segments are merged, the last ones among them.
    log.configure(options(1 << 20));
    compact(&mut log, rule);
    assert_eq!(log.segment_count(), 2);
    let floor = log.durable_position();
    // The segment that was opened behind was never synced. One start removes it, the next one finds nothing behind.
    let disk = disk.durable();
    drop(open(&disk, 1000, floor).unwrap());
    assert_eq!(segment_files(&disk).len(), 1);
    // There would be room in the compacted one, which is never written on.
    let mut log = open(&disk, 1 << 20, floor).unwrap();
    raw.grow(&mut chance, 5);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    assert_eq!(log.segment_count(), 2);
    assert_eq!(seen(&open(&disk, 1000, log.durable_position()).unwrap()), raw.compacted(&rule));
}

fn found(log: &Log<SimDisk>, before: &[Seen], after: &[Seen]) {
    let found = seen(log);
    assert!(is_between(&found, before, after));
    assert_eq!(living(&found), living(before));
    assert_eq!(living(&found), living(after));
}

#[test]
fn a_failed_sync_or_rename_takes_nothing_back() {
    let mut chance = chance(9);
    let power = PowerDisk::new(disk());
    let mut log = Log::open(power.clone(), &dir(), GROUP, options(2000), Position::ZERO).unwrap();
    let mut raw = Raw::new();
    raw.grow(&mut chance, 80);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    let rule = CompactionRule { through: Index(70), ..NONE };
    let done = log.compaction(rule).unwrap().unwrap().run().unwrap();
    power.cut_after(2);
    // A rename and its sync work, the next rename does not.
    assert!(matches!(log.adopt(done), Err(AdoptError::Io { .. })));
    power.cut_after(u64::MAX);
    assert_eq!(log.last().index, raw.last());
    assert!(is_between(&seen(&log), &raw.seen(), &raw.compacted(&rule)));
    assert_eq!(log.compaction_facts().clean_through, Index::ZERO, "not all of it is");
    let done = log.compaction(rule).unwrap().unwrap().run().unwrap();
    power.cut_after(1);
    assert!(matches!(log.adopt(done), Err(AdoptError::SyncFailed { .. })));
}

/// A log of some hundred entries with a job that was run, and what it held.
fn prepared(seed: u64) -> (SimDisk, Log<SimDisk>, Raw, CompactionRule) {
    let mut chance = chance(seed);
    let (disk, mut log) = fresh(1500);
    let mut raw = Raw::new();
    raw.grow(&mut chance, 120);
    raw.append_to(&mut log, &mut chance);
    sync(&mut log);
    (
        disk,
        log,
        raw,
        CompactionRule { through: Index(80), tombstones_before: Offset(30), memory_bytes_max: 1 << 20 },
    )
}

#[test]
fn a_log_that_was_trimmed_under_its_compaction_takes_what_fits() {
    for seed in 0..40 {
        let mut chance = chance(seed);
        let (disk, mut log, raw, rule) = prepared(seed);
        // Some segments were merged before: what is trimmed then is a part of what the next job makes.
        let earlier = CompactionRule { through: Index(chance.random_range(1..70)), ..NONE };
        compact(&mut log, earlier);
        let before = seen(&log);
        let after = raw.compacted(&rule);
        let job = log.compaction(rule).unwrap().unwrap();
        let trims_early = chance.random();
        let bytes_max = chance.random_range(0..log.bytes());
        let trim = |log: &mut Log<SimDisk>| {
            retain(log, None, Some(bytes_max), Index(121));
        };
        if trims_early {
            trim(&mut log);
        }
        match job.run() {
            Ok(done) => {
                trim(&mut log);
                let facts = log.adopt(done).unwrap();
                let done = facts.clean_through == rule.through;
                assert!(done || facts.clean_through <= earlier.through);
            }
            Err(error) => assert!(trims_early, "{error}"),
        }
        let start = usize::try_from(log.start().0.index.0).unwrap();
        assert!(is_between(&seen(&log), &before[start..], &after[start..]), "seed {seed}");
        assert_eq!(leftovers(&disk), 0);
        let again = open(&disk.crash(seed), 1500, log.durable_position()).unwrap();
        assert_eq!((again.start(), seen(&again)), (log.start(), seen(&log)));
        if log.start().0.index < rule.through {
            compact(&mut log, rule);
        }
        let batches = |entries: &[Seen]| entries.iter().filter(|entry| entry.kind == EntryKind::Data).count();
        assert!(batches(&seen(&log)) <= batches(&before[start..]));
    }
}

#[test]
fn what_was_truncated_above_the_point_is_not_brought_back() {
    for seed in 0..30 {
        let mut chance = chance(seed);
        let (disk, mut log, mut raw, rule) = prepared(seed);
        let job = log.compaction(rule).unwrap().unwrap();
        let done = job.run().unwrap();
        // Some truncations fall into the segment that holds the point, others behind it.
        let from = Index(chance.random_range(81..110));
        let under_way = chance.random();
        if under_way {
            log.truncate(from).unwrap();
        }
        let facts = log.adopt(done).unwrap();
        assert!(under_way || facts.clean_through == rule.through);
        log.truncate(from).unwrap();
        raw.truncate(from);
        assert_eq!((log.last().index.next(), log.next_offset()), (from, raw.offset_after(raw.last())));
        raw.grow(&mut chance, 30);
        raw.append_to(&mut log, &mut chance);
        assert_eq!(seen(&log)[80..], raw.seen()[80..]);
        sync(&mut log);
        let again = open(&disk.crash(seed), 1500, log.durable_position()).unwrap();
        assert_eq!((seen(&again), again.compaction_facts()), (seen(&log), log.compaction_facts()));
        compact(&mut log, rule);
        assert_eq!(seen(&log), raw.compacted(&rule));
        let next = CompactionRule { through: raw.last(), ..rule };
        compact(&mut log, next);
        assert_eq!(seen(&log), raw.compacted(&next), "seed {seed}");
    }
}

#[test]
fn a_new_start_takes_nothing_of_an_old_compaction() {
    let (disk, mut log, raw, rule) = prepared(3);
    let done = log.compaction(rule).unwrap().unwrap().run().unwrap();
    log.reset(id(raw.entries.last().unwrap().0.id.term.0 + 1, 500), Offset(5000)).unwrap();
    let facts = log.adopt(done).unwrap();
    assert_eq!((facts.clean_through, facts.clean_bytes, facts.dirty_bytes), (Index::ZERO, 0, 0));
    assert_eq!((seen(&log), leftovers(&disk)), (Vec::new(), 0));
    let compacting = log.compaction(rule).unwrap();
    assert!(compacting.is_none(), "all of that is gone");
}

#[test]
#[should_panic(expected = "the log is compacted through 80")]
fn what_is_compacted_is_never_truncated() {
    let (_, mut log, _, rule) = prepared(4);
    compact(&mut log, rule);
    let _ = log.truncate(Index(80));
}

#[test]
fn leftovers_of_a_killed_job_go_at_the_next_start() {
    let (disk, mut log, raw, rule) = prepared(5);
    let done = log.compaction(rule).unwrap().unwrap().run().unwrap();
    let killed = disk.kill();
    assert!(leftovers(&killed) > 0);
    let inspected = Log::inspect(killed.clone(), &dir(), GROUP, log.durable_position()).unwrap();
    assert_eq!(seen(&inspected), raw.seen());
    assert!(leftovers(&killed) > 0, "looking changes nothing");
    let log = open(&killed, 1500, log.durable_position()).unwrap();
    assert_eq!((leftovers(&killed), seen(&log)), (0, raw.seen()));
    drop(done);
}
