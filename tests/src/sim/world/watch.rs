//! What the world knows of every replica, from the logs' own bytes: turned into facts for the checkers.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftline_broker::payload::FetchedBatches;
use raftline_proto::batch::{self, BatchHeader, BatchView, STAMP_BYTES};
use raftline_proto::command::Command;
use raftline_proto::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{EntryId, GroupId, Index, NodeId, Offset, Term};
use raftline_storage::{Log, SimDisk};

use crate::sim::facts::{Digest, Life, Record, Rule, ServedBatch, Told};
use crate::sim::trace::mix;

/// A replica's log as last read, and what of it was reported.
#[derive(Clone, Debug)]
pub struct View {
    /// Whose.
    pub life: Life,
    /// The entry before the first.
    pub start: EntryId,
    /// All entries.
    pub entries: Vec<Digest>,
    /// Reported as committed.
    pub commit: Index,
    /// The highest term whose election was reported.
    pub elected: Term,
    /// Whether it leads, as last seen.
    pub leads: bool,
    /// Its voters, as last seen.
    pub voters: Vec<NodeId>,
}

impl View {
    /// Nothing read yet.
    #[must_use]
    pub fn new(life: Life, start: EntryId) -> Self {
        Self {
            life,
            start,
            entries: Vec::new(),
            commit: start.index,
            elected: Term::ZERO,
            leads: false,
            voters: Vec::new(),
        }
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start, Digest::id)
    }

    /// The entry at an index, if it is in the log.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Digest> {
        self.entries.get(self.place(index)?)
    }

    /// The entries `from..up_to`, as far as they are there.
    #[must_use]
    pub fn range(&self, from: Index, up_to: Index) -> &[Digest] {
        let place = |index: Index| {
            usize::try_from(index.since(self.start.index.next()))
                .expect("few entries")
                .min(self.entries.len())
        };
        self.entries.get(place(from)..place(up_to)).unwrap_or(&[])
    }

    /// Cuts from `from` on.
    pub fn truncate(&mut self, from: Index) {
        if let Some(place) = self.place(from) {
            self.entries.truncate(place);
        }
    }

    /// Reads what the log holds beyond what is known; returns how many entries are new.
    pub fn refresh(&mut self, log: &Log<SimDisk>) -> Result<usize, String> {
        // Retention, or a new start.
        let (start, _) = log.start();
        if start.index > self.last().index {
            *self = Self { life: self.life, elected: self.elected, ..Self::new(self.life, start) };
        } else if start.index > self.start.index {
            let dropped = usize::try_from(start.index.since(self.start.index)).expect("few entries");
            self.entries.drain(..dropped);
            self.start = start;
        }
        let last = log.last();
        while self.last().index > last.index {
            self.entries.pop();
        }
        let before = self.entries.len();
        let mut from = self.last().index.next();
        while from <= last.index {
            let read =
                log.read_entries(from, last.index.next(), u64::MAX).map_err(|error| error.to_string())?;
            for part in read.parts {
                self.entries.extend(digests(&part)?);
            }
            from = read.up_to;
        }
        if self.last() != last {
            return Err(format!("the log says that it ends at {last}, its entries end at {}", self.last()));
        }
        Ok(self.entries.len() - before)
    }

    fn place(&self, index: Index) -> Option<usize> {
        let place = usize::try_from(index.0.checked_sub(self.start.index.0 + 1)?).ok()?;
        (place < self.entries.len()).then_some(place)
    }
}

/// All replicas' views.
pub type Views = BTreeMap<(NodeId, GroupId), View>;

/// Boils whole entries, back to back, down.
pub fn digests(bytes: &[u8]) -> Result<Vec<Digest>, String> {
    let mut rest = bytes;
    let mut digests = Vec::new();
    while !rest.is_empty() {
        let header = EntryHeader::decode(rest).map_err(|error| error.to_string())?;
        let size = usize::try_from(header.entry_bytes()).expect("entries are small");
        let (entry, after) = rest.split_at_checked(size).ok_or("an entry is cut short")?;
        digests.push(digest(header, entry)?);
        rest = after;
    }
    Ok(digests)
}

/// Boils one entry down.
pub fn digest(header: EntryHeader, entry: &[u8]) -> Result<Digest, String> {
    EntryHeader::verify(entry).map_err(|error| error.to_string())?;
    let payload = &entry[HEADER_BYTES..];
    let (content, producer, records) = match header.kind {
        EntryKind::Data => {
            let batch = BatchHeader::decode(payload).map_err(|error| error.to_string())?;
            (content_of(payload), batch.producer, batch.record_count)
        }
        EntryKind::NoOp
        | EntryKind::Membership
        | EntryKind::Metadata
        | EntryKind::Command
        | EntryKind::Gap => (0, None, 0),
    };
    let (rule, told) = match header.kind {
        EntryKind::Command => match Command::decode(payload).map_err(|error| error.to_string())? {
            Command::Compact { through, tombstones_before, .. } => {
                (Some(Rule { through, tombstones_before }), None)
            }
            Command::TrimTo { offset, .. } => (None, Some(Told::DeleteBelow(offset))),
            Command::Producers { .. } => (None, Some(Told::Producers)),
        },
        _ => (None, None),
    };
    Ok(Digest { header, bytes: hash(entry), content, producer, records, rule, told })
}

/// Stands for what a producer sent: the batch without what the leader stamps.
#[must_use]
pub fn content_of(batch: &[u8]) -> u64 {
    hash(batch.get(STAMP_BYTES..).unwrap_or(&[]))
}

/// The batches that a consumer gets.
pub fn served(fetched: &FetchedBatches) -> Result<Vec<ServedBatch>, String> {
    let mut served = Vec::new();
    for part in &fetched.batches {
        let mut rest: Bytes = part.clone();
        while let Some(next) = batch::next(&rest) {
            let one = next.map_err(|error| error.to_string())?;
            batch::check_crc(&one).map_err(|error| error.to_string())?;
            let header = BatchHeader::decode(&one).map_err(|error| error.to_string())?;
            served.push(ServedBatch {
                base_offset: header.base_offset,
                offset_count: header.offset_count,
                record_count: header.record_count,
                content: content_of(&one),
            });
            rest = rest.slice(one.len()..);
        }
    }
    Ok(served)
}

/// The records of a batch, with their offsets.
pub fn records(batch: &Bytes) -> Result<Vec<(Offset, Record)>, String> {
    let view = BatchView::open(batch).map_err(|error| error.to_string())?;
    let boiled = |record: Result<batch::Record<'_>, _>| {
        let record = record.map_err(|error: batch::BatchError| error.to_string())?;
        Ok((record.offset, Record { key: record.key.map(hash), value: record.value.map(hash) }))
    };
    view.records().map(boiled).collect()
}

/// Every record that a log holds.
pub fn held(log: &Log<SimDisk>) -> Result<BTreeMap<Offset, Record>, String> {
    let mut held = BTreeMap::new();
    for entry in log.replay(Index::ZERO) {
        let (header, payload) = entry.map_err(|error| error.to_string())?;
        if header.kind == EntryKind::Data {
            held.extend(records(&payload)?);
        }
    }
    Ok(held)
}

/// A quick hash of bytes: eight at a time.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = mix(bytes.len() as u64 ^ 0x9e37_79b9_7f4a_7c15);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash
}
