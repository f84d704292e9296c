//! Random operations on a log beside a plain list that says what it should hold.

use crate::common::{Chance, Entry, Writer, chance, contents, fresh, id, open, sync};
use bytes::Bytes;
use raftline_proto::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{EntryId, Index, Offset, Position};
use raftline_proto::time::Timestamp;
use raftline_storage::{CompactionRule, Log, SimDisk};
use rand::Rng;

const ROUNDS: u64 = 100;
const STEPS: u32 = 60;

/// What the log should hold.
struct Model {
    start: (EntryId, Offset),
    entries: Vec<Entry>,
    term: u64,
    /// The first entry that stays once a trim is durable.
    to_begin_with: Index,
}

impl Model {
    /// A trim became durable, or the log was opened after it.
    fn note_start(&mut self, log: &Log<SimDisk>) {
        if log.start().0.index > self.start.0.index {
            assert_eq!(log.start().0.index.next(), self.to_begin_with);
            self.start = log.start();
            self.entries.retain(|(header, _)| header.id.index > self.start.0.index);
        }
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.0, |(header, _)| header.id)
    }

    fn next_offset(&self) -> Offset {
        self.entries.last().map_or(self.start.1, |(header, _)| header.next_offset())
    }

    fn term_starts(&self) -> Vec<EntryId> {
        let mut starts: Vec<EntryId> = Vec::new();
        for (header, _) in &self.entries {
            if starts.last().is_none_or(|last| last.term != header.id.term) {
                starts.push(header.id);
            }
        }
        starts
    }

    /// A random index in the log; the one after the last, if it is empty.
    fn index(&self, chance: &mut Chance) -> Index {
        self.start.0.index + 1 + chance.random_range(0..self.entries.len().max(1) as u64)
    }
}

#[test]
fn random_operations_match_a_model() {
    for seed in 0..ROUNDS {
        let passed = std::panic::catch_unwind(|| round(seed));
        assert!(passed.is_ok(), "seed {seed}");
    }
}

fn round(seed: u64) {
    let mut chance = chance(seed);
    let segment_bytes = chance.random_range(300..6000);
    let (disk, mut log) = fresh(segment_bytes);
    let mut model = Model {
        start: (EntryId::ZERO, Offset::ZERO),
        entries: Vec::new(),
        term: 1,
        to_begin_with: Index::ZERO,
    };
    for _ in 0..STEPS {
        match chance.random_range(0..22) {
            20..22 => compact(&mut chance, &mut log, &mut model),
            0..9 => append(&mut chance, &mut log, &mut model),
            9 => model.term += 1,
            10..12 => truncate(&mut chance, &mut log, &mut model),
            12..14 => drop(sync(&mut log)),
            14 => {
                sync(&mut log);
                let floor = log.durable_position();
                log = open(&disk, segment_bytes, floor).unwrap();
            }
            // The process is killed: what it wrote stays, whatever the floor says.
            15 => log = open(&disk, segment_bytes, Position::ZERO).unwrap(),
            16 => retain(&mut chance, &mut log, &mut model),
            17 => {
                if chance.random_range(0..10) == 0 {
                    reset(&mut chance, &mut log, &mut model);
                }
            }
            18 => log.rest(),
            _ => {
                if let Some(allocation) = log.allocation_wanted()
                    && chance.random()
                {
                    let result = allocation.run();
                    log.allocated(allocation, result);
                }
            }
        }
        model.note_start(&log);
        check(&mut chance, &log, &model);
    }
}

fn append(chance: &mut Chance, log: &mut Log<SimDisk>, model: &mut Model) {
    let mut writer = Writer::of(log);
    for _ in 0..chance.random_range(1..12) {
        let entry = match chance.random_range(0..12) {
            0 => writer.no_op(log, model.term),
            1 => writer.snapshot(log, model.term),
            2..4 => writer.data(log, model.term, chance.random_range(0..4000)),
            _ => writer.data(log, model.term, chance.random_range(61..200)),
        };
        model.entries.push(entry);
    }
    log.write().unwrap();
}

fn truncate(chance: &mut Chance, log: &mut Log<SimDisk>, model: &mut Model) {
    // What is compacted is committed.
    let committed = log.compaction_facts().clean_through.max(model.to_begin_with);
    let from = model.index(chance).max(committed.next());
    log.truncate(from).unwrap();
    model.entries.retain(|(header, _)| header.id.index < from);
    model.term += 1;
}

fn retain(chance: &mut Chance, log: &mut Log<SimDisk>, model: &mut Model) {
    let up_to = model.index(chance);
    let bytes_max = chance.random_range(0..log.bytes() + 1);
    let before = log.start();
    let Some(outlived) = log.outlived(None, Some(bytes_max), up_to) else { return };
    let stays = |header: &EntryHeader| header.base_offset >= outlived.below;
    let left_bytes: u64 =
        model.entries.iter().filter(|entry| stays(&entry.0)).map(|entry| entry.0.entry_bytes()).sum();
    assert!(left_bytes + log.segment_count() as u64 * 128 >= bytes_max, "too much is to go");
    let first_left = log.first_left(outlived.below, up_to);
    assert!(first_left.is_none_or(|first| first <= up_to), "an entry at or above {up_to} is to go");
    if log.trim(outlived.below, up_to).unwrap() {
        assert_eq!(log.start(), before, "not before it is durable");
        // One is carried out after the other.
        if model.to_begin_with <= model.start.0.index.next() {
            model.to_begin_with = first_left.unwrap();
        }
    }
    if chance.random() {
        sync(log);
    }
}

/// The data entries here hold no record batches, so that they stay; what holds no data goes.
fn compact(chance: &mut Chance, log: &mut Log<SimDisk>, model: &mut Model) {
    sync(log);
    let through = model.index(chance).min(model.last().index);
    let rule = CompactionRule { through, tombstones_before: Offset(0), memory_bytes_max: 0 };
    let Some(job) = log.compaction(rule).unwrap() else { return };
    let done = job.run().unwrap();
    if chance.random() {
        append(chance, log, model);
    }
    let facts = log.adopt(done).unwrap();
    assert_eq!(facts.clean_through, through);
    for entry in model.entries.iter_mut().filter(|(header, _)| header.id.index <= through) {
        if let EntryKind::NoOp | EntryKind::Command = entry.0.kind {
            *entry = (EntryHeader { kind: EntryKind::Gap, payload_bytes: 0, ..entry.0 }, Bytes::new());
        }
    }
}

fn reset(chance: &mut Chance, log: &mut Log<SimDisk>, model: &mut Model) {
    let previous = id(model.term, model.last().index.0 + chance.random_range(0..100));
    let offset = model.next_offset() + chance.random_range(0..1000);
    log.reset(previous, offset).unwrap();
    *model = Model {
        start: (previous, offset),
        entries: Vec::new(),
        term: model.term + 1,
        to_begin_with: Index::ZERO,
    };
}

fn check(chance: &mut Chance, log: &Log<SimDisk>, model: &Model) {
    assert_eq!(log.start(), model.start);
    assert_eq!(log.last(), model.last());
    assert_eq!(log.next_offset(), model.next_offset());
    assert_eq!(log.term_starts(), model.term_starts());
    if chance.random_range(0..4) == 0 {
        assert_eq!(contents(log), model.entries);
    }
    check_entries(chance, log, model);
    check_batches(chance, log, model);
    check_time(chance, log, model);
    assert!(!log.holds(id(model.term + 1, model.last().index.0)));
}

fn check_entries(chance: &mut Chance, log: &Log<SimDisk>, model: &Model) {
    let (from, up_to) = (model.index(chance), model.index(chance));
    let bytes_max = chance.random_range(0..5000);
    let read = log.read_entries(from, up_to, bytes_max).unwrap();
    let mut expected = Vec::new();
    let mut next = from;
    for (header, payload) in model.entries.iter().filter(|(header, _)| header.id.index >= from) {
        let bytes = header.entry_bytes();
        let fits = expected.is_empty() || expected.len() as u64 + bytes <= bytes_max;
        if header.id.index >= up_to || !fits {
            break;
        }
        expected.extend_from_slice(&header.encode(&[payload]));
        expected.extend_from_slice(payload);
        next = header.id.index.next();
    }
    assert_eq!(read.parts.concat(), expected);
    assert_eq!((read.up_to, read.bytes), (next, expected.len() as u64));
    if let Some((header, _)) = model.entries.iter().find(|(header, _)| header.id.index == from) {
        assert!(log.holds(header.id));
    }
}

fn check_batches(chance: &mut Chance, log: &Log<SimDisk>, model: &Model) {
    let range = model.start.1.0..model.next_offset().0 + 2;
    let (from, up_to) = (chance.random_range(range.clone()), chance.random_range(range));
    let bytes_max = chance.random_range(0..5000);
    let read = log.read_batches(Offset(from), Offset(up_to), bytes_max).unwrap();
    let mut expected = Vec::new();
    let mut bytes = 0;
    for (header, payload) in &model.entries {
        if header.kind != EntryKind::Data || header.next_offset() <= Offset(from) {
            continue;
        }
        if header.next_offset() > Offset(up_to) || (bytes > 0 && bytes + payload.len() as u64 > bytes_max) {
            break;
        }
        bytes += payload.len() as u64;
        expected.push(payload.clone());
    }
    assert_eq!(read.batches, expected, "from {from} up to {up_to}");
}

fn check_time(chance: &mut Chance, log: &Log<SimDisk>, model: &Model) {
    let time = chance.random_range(0..model.last().index.0 * 10 + 50);
    let time = i64::try_from(time).unwrap();
    let up_to = chance.random_range(model.start.1.0..model.next_offset().0 + 1);
    let found = log.offset_at(Timestamp(time), Offset(up_to)).unwrap();
    // Payloads that are no record batches cannot be read record by record: the batch's base offset is the answer.
    let expected = model.entries.iter().find(|(header, payload)| {
        let is_batch = header.kind == EntryKind::Data && payload.len() >= HEADER_BYTES + 13;
        is_batch && i64::from_be_bytes(payload[35..43].try_into().unwrap()) >= time
    });
    let expected = expected.filter(|(header, _)| header.next_offset() <= Offset(up_to));
    let offset = found.map(|(offset, _)| offset);
    assert_eq!(offset, expected.map(|(header, _)| header.base_offset), "time {time} up to {up_to}");
    check_newest(log, model, up_to);
}

fn check_newest(log: &Log<SimDisk>, model: &Model, up_to: u64) {
    let below = model.entries.iter().filter(|(header, _)| header.next_offset() <= Offset(up_to));
    let time = |(header, payload): &(EntryHeader, Bytes)| {
        let is_batch = header.kind == EntryKind::Data && payload.len() >= HEADER_BYTES + 13;
        is_batch.then(|| (i64::from_be_bytes(payload[35..43].try_into().unwrap()), header.base_offset))
    };
    let times: Vec<_> = below.filter_map(time).collect();
    let newest = times.iter().map(|(time, _)| *time).max();
    let first = times.iter().find(|(time, _)| Some(*time) == newest).map(|(_, offset)| *offset);
    let found = log.newest(Offset(up_to)).unwrap().map(|(offset, _)| offset);
    assert_eq!(found, first, "newest up to {up_to}");
}
