//! Logs of keyed records, and the dumb twin of compaction.

use crate::common::{Chance, GROUP};
use bytes::Bytes;
use raftline_proto::batch::compact::emptied;
use raftline_proto::batch::{
    BatchHeader, BatchView, Builder, Codec, HEADER_BYTES, append_time_stamped, stamped,
};
use raftline_proto::entry::{EntryHeader, EntryKind, ProducerBatch};
use raftline_proto::ids::{EntryId, Index, Offset, ProducerId, Term};
use raftline_proto::time::Timestamp;
use raftline_storage::{CompactionRule, Disk, Log};
use rand::Rng;
use std::collections::BTreeMap;

/// A record as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub time: Timestamp,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// An entry as a reader finds it: of a batch only what is in it, so that a batch that was packed anew is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: EntryId,
    pub kind: EntryKind,
    pub base_offset: Offset,
    pub record_count: u32,
    /// `None` for what is no batch or cannot be read; then `payload` says what it is.
    pub records: Option<Vec<Record>>,
    pub producer: Option<ProducerBatch>,
    pub payload: Bytes,
}

/// A log's raw entries, in order.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    pub entries: Vec<(EntryHeader, Bytes)>,
    next_offset: Offset,
    term: u64,
    sequences: BTreeMap<u64, u32>,
}

impl Raw {
    pub fn new() -> Self {
        Self { term: 1, ..Self::default() }
    }

    /// So many entries by chance: batches in all codecs, most of them small, with few keys.
    pub fn grow(&mut self, chance: &mut Chance, count: usize) {
        for _ in 0..count {
            match chance.random_range(0..40) {
                0 => self.term += 1,
                1 => self.push(EntryKind::NoOp, 0, Bytes::new()),
                2 => self.push(EntryKind::Membership, 0, Bytes::from_static(b"a membership")),
                3 => self.push(EntryKind::Command, 0, Bytes::from_static(b"a command")),
                4 => self.push_unreadable(chance.random()),
                5 => {
                    // From a leader that has compacted further.
                    let taken = chance.random_range(0..5);
                    self.push(EntryKind::Gap, taken, Bytes::new());
                }
                _ => self.push_batch(chance),
            }
        }
    }

    fn push_batch(&mut self, chance: &mut Chance) {
        let codecs = [Codec::None, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        let mut builder = Builder::new(codecs[chance.random_range(0..codecs.len())]);
        let count = chance.random_range(1..8);
        for _ in 0..count {
            let key = match chance.random_range(0..60) {
                0 => None,
                1 => Some(vec![b'k'; 3000]),
                2 => Some(Vec::new()),
                _ => Some(format!("key {}", chance.random_range(0..30)).into_bytes()),
            };
            let value = (chance.random_range(0..4) > 0)
                .then(|| vec![b'v'; chance.random_range(0..60)])
                .map(|value| [&value[..], &self.entries.len().to_le_bytes()].concat());
            let time = Timestamp(chance.random_range(0..10_000));
            builder.push(time, key.as_deref(), value.as_deref(), &[]).unwrap();
        }
        if chance.random_range(0..3) > 0 {
            let id = chance.random_range(0..5);
            let sequence = self.sequences.entry(id).or_default();
            builder.set_producer(ProducerBatch { id: ProducerId(id), epoch: 0, base_sequence: *sequence });
            *sequence += count;
        }
        self.push_stamped(&builder.build(), count);
    }

    /// A batch of the right checksum of which nothing can be read, or just the first of two records.
    fn push_unreadable(&mut self, at_all: bool) {
        let mut builder = Builder::new(Codec::None);
        for key in [b"key 1", b"key 2"] {
            builder.push(Timestamp(3), Some(key), Some(b"value"), &[]).unwrap();
        }
        let mut batch = builder.build().to_vec();
        if at_all {
            // The second record's offset delta; both sizes are varints of one byte.
            let second = HEADER_BYTES + 1 + usize::from(batch[HEADER_BYTES] / 2);
            batch[second + 3] = 20;
        } else {
            batch[22] = Codec::Gzip as u8;
        }
        // Which makes the checksum anew.
        self.push_stamped(&append_time_stamped(batch.into(), Timestamp(3)), 2);
    }

    fn push_stamped(&mut self, batch: &Bytes, count: u32) {
        let parts = stamped(batch, self.next_offset, Term(self.term));
        let payload = Bytes::from([&parts[0][..], &parts[1][..]].concat());
        self.push(EntryKind::Data, count, payload);
    }

    fn push(&mut self, kind: EntryKind, record_count: u32, payload: Bytes) {
        let header = EntryHeader {
            group: GROUP,
            id: EntryId::new(Term(self.term), Index(self.entries.len() as u64 + 1)),
            kind,
            base_offset: self.next_offset,
            record_count,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
        };
        self.next_offset = header.next_offset();
        self.entries.push((header, payload));
    }

    /// Forgets the entries from `from` on; those that come in their place are of a later term.
    pub fn truncate(&mut self, from: Index) {
        self.entries.retain(|(header, _)| header.id.index < from);
        self.next_offset = self.offset_after(self.last());
        self.term += 1;
    }

    /// Appends the entries that the log does not hold yet.
    pub fn append_to<D: Disk>(&self, log: &mut Log<D>, chance: &mut Chance) {
        let held = usize::try_from(log.last().index.0).unwrap();
        for (header, payload) in &self.entries[held..] {
            log.append(*header, [payload.clone(), Bytes::new()]);
            if chance.random_range(0..4) == 0 {
                log.write().unwrap();
            }
        }
        log.write().unwrap();
    }

    pub fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// The offset after the last record at or below an entry.
    pub fn offset_after(&self, index: Index) -> Offset {
        let nth = usize::try_from(index.0).unwrap();
        nth.checked_sub(1).map_or(Offset::ZERO, |nth| self.entries[nth].0.next_offset())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.entries.iter().map(|(header, payload)| see(header, payload)).collect()
    }

    /// What compaction should leave, entry by entry.
    pub fn compacted(&self, rule: &CompactionRule) -> Vec<Seen> {
        let raw = self.seen();
        let below = || raw.iter().filter(|entry| entry.id.index <= rule.through);
        let mut last_of_key: BTreeMap<&[u8], Offset> = BTreeMap::new();
        let mut last_batch = None;
        for entry in below() {
            for record in entry.records.iter().flatten() {
                if let Some(key) = &record.key {
                    last_of_key.insert(key, record.offset);
                }
            }
            if entry.kind == EntryKind::Data {
                last_batch = Some(entry.id.index);
            }
        }
        let stays = |record: &&Record| {
            let Some(key) = &record.key else { return true };
            let is_old_tombstone = record.value.is_none() && record.offset < rule.tombstones_before;
            last_of_key[&key[..]] == record.offset && !is_old_tombstone
        };
        let judged = |entry: &Seen| {
            let mut entry = entry.clone();
            let index = entry.id.index;
            let gone = match (&entry.records, entry.kind) {
                _ if index > rule.through => false,
                (Some(records), EntryKind::Data) => {
                    let left: Vec<Record> = records.iter().filter(stays).cloned().collect();
                    let gone = left.is_empty() && last_batch != Some(index);
                    entry.records = Some(left);
                    gone
                }
                (_, EntryKind::NoOp | EntryKind::Command | EntryKind::Gap) => true,
                (_, EntryKind::Data | EntryKind::Membership | EntryKind::Metadata) => false,
            };
            if gone {
                entry = Seen {
                    kind: EntryKind::Gap,
                    records: None,
                    producer: None,
                    payload: Bytes::new(),
                    ..entry
                };
            }
            entry
        };
        raw.iter().map(judged).collect()
    }
}

pub fn see(header: &EntryHeader, payload: &Bytes) -> Seen {
    let view = (header.kind == EntryKind::Data).then(|| BatchView::open(payload).ok()).flatten();
    let records = view.as_ref().and_then(records_in);
    let producer = BatchHeader::decode(payload).ok().and_then(|batch| batch.producer);
    Seen {
        id: header.id,
        kind: header.kind,
        base_offset: header.base_offset,
        record_count: header.record_count,
        producer: producer.filter(|_| header.kind == EntryKind::Data),
        payload: if records.is_some() { Bytes::new() } else { payload.clone() },
        records,
    }
}

fn records_in(view: &BatchView) -> Option<Vec<Record>> {
    let record = |record: raftline_proto::batch::Record<'_>| Record {
        offset: record.offset,
        time: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
    };
    view.records().map(|found| found.ok().map(record)).collect()
}

/// A log's entries as a reader finds them.
pub fn seen<D: Disk>(log: &Log<D>) -> Vec<Seen> {
    let entries = log.replay(Index::ZERO).map(Result::unwrap);
    entries.map(|(header, payload)| see(&header, &payload)).collect()
}

/// All batches below an offset, read with so many bytes at a time: those that hold the offset `from` and later ones.
pub fn batches_from<D: Disk>(log: &Log<D>, from: Offset, bytes_max: u64) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut from = from;
    loop {
        let read = log.read_batches(from, log.next_offset(), bytes_max).unwrap().batches;
        let Some(last) = read.last() else { return batches };
        assert!(last.len() >= HEADER_BYTES);
        from = BatchHeader::decode(last).unwrap().next_offset();
        batches.extend(read);
    }
}

/// Whether an emptied batch is as Kafka's are.
pub fn is_empty(batch: &[u8]) -> bool {
    BatchHeader::decode(batch).is_ok_and(|header| header.record_count == 0 && emptied(&header) == batch)
}

/// Compacts by `rule`.
pub fn compact<D: Disk>(log: &mut Log<D>, rule: CompactionRule) {
    let Some(job) = log.compaction(rule).unwrap() else { return };
    let done = job.run().unwrap();
    let facts = log.adopt(done).unwrap();
    assert_eq!((facts.clean_through, facts.tombstones_before), (rule.through, rule.tombstones_before));
}
