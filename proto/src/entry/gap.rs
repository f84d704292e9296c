//! Gaps: what is left of entries that compaction dropped (docs/decisions/0007).
//!
//! On the disk one frame of kind [`EntryKind::Gap`] stands for a run of entries of one term. Its header has the first
//! one's index and base offset, and the offsets of all of them together. The payload says how these are spread, as
//! pairs of varints: so many entries, each of so many offsets. A gap of one entry has no payload; it is what readers see
//! of each entry of a longer one, and what goes to other replicas.
//!
//! Each entry keeps its own offsets. Were those of the whole run given to one entry, a replica that holds the raw
//! entries up to the middle of it could not go on:
//! 1. a follower holds entries 1 to 15 raw, with offsets 0 to 14; the leader has 10 to 20 in a gap;
//! 2. the leader sends 16 and says that it takes offset 9, where the follower's log goes on at 15.

use super::{EntryError, EntryHeader, EntryKind};
use crate::cursor::{Reader, Writer};
use crate::ids::{EntryId, GroupId, Index, Offset};
use crate::limits::BATCH_RECORDS_MAX;
use crate::payload::PayloadError;
use alloc::vec::Vec;

/// A run of dropped entries of one term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    group: GroupId,
    first: EntryId,
    base_offset: Offset,
    /// All offsets together. Invariant: fits a header's 32 bits.
    offsets: u32,
    /// Invariant: not empty, and the last one's index fits 64 bits.
    runs: Vec<Run>,
}

/// Entries in a row that take equally many offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Invariant: 1 to `i32::MAX`.
    entries: u32,
    /// Of each. Invariant: at most [`BATCH_RECORDS_MAX`].
    offsets: u32,
}

/// The most runs of one gap, which bounds its payload to 10 KiB. A longer run of entries takes several gaps.
pub const RUNS_MAX: usize = 1024;

impl Gap {
    /// The gap of one entry, whatever kind it was.
    #[must_use]
    pub fn of(entry: &EntryHeader) -> Self {
        Self {
            group: entry.group,
            first: entry.id,
            base_offset: entry.base_offset,
            offsets: entry.record_count,
            runs: Vec::from([Run { entries: 1, offsets: entry.record_count }]),
        }
    }

    /// Takes the next entry in, if it is of the same term and there is room; says whether it did.
    ///
    /// # Panics
    /// If it is not the next entry: a bug of the caller.
    pub fn take(&mut self, entry: &EntryHeader) -> bool {
        assert_eq!(entry.id.index, self.up_to(), "the next entry");
        assert_eq!(entry.base_offset, self.next_offset(), "the next offset");
        let Some(offsets) = self.offsets.checked_add(entry.record_count) else { return false };
        if entry.id.term != self.first.term {
            return false;
        }
        let full = self.runs.len() == RUNS_MAX;
        match self.runs.last_mut() {
            Some(last) if last.offsets == entry.record_count && last.entries < ENTRIES_MAX => {
                last.entries += 1
            }
            Some(_) | None if full => return false,
            Some(_) | None => self.runs.push(Run { entries: 1, offsets: entry.record_count }),
        }
        self.offsets = offsets;
        true
    }

    /// The first entry.
    #[must_use]
    pub fn first(&self) -> EntryId {
        self.first
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.entries)).sum()
    }

    /// One past the last entry.
    #[must_use]
    pub fn up_to(&self) -> Index {
        self.first.index + self.entry_count()
    }

    /// The offset after the last one taken.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset + u64::from(self.offsets)
    }

    /// The frame as it goes to the disk: its header, and both encoded.
    #[must_use]
    pub fn frame(&self) -> (EntryHeader, Vec<u8>) {
        let mut writer = Writer::new();
        if self.entry_count() > 1 {
            for run in &self.runs {
                writer.varint(bounded(run.entries));
                writer.varint(bounded(run.offsets));
            }
        }
        let payload = writer.into_bytes();
        let header = EntryHeader {
            payload_bytes: u32::try_from(payload.len()).expect("the bound on runs bounds the payload"),
            ..self.header(self.first.index, self.base_offset, self.offsets)
        };
        let mut bytes = header.encode(&[&payload]).to_vec();
        bytes.extend_from_slice(&payload);
        (header, bytes)
    }

    /// The gap in a frame whose header was decoded.
    ///
    /// # Errors
    /// [`EntryError::Payload`] if the payload does not fit the header.
    ///
    /// # Panics
    /// If the entry is of another kind: a bug of the caller.
    pub fn decode(header: &EntryHeader, payload: &[u8]) -> Result<Self, EntryError> {
        assert_eq!(header.kind, EntryKind::Gap, "entry {}", header.id);
        if payload.is_empty() {
            return Ok(Self::of(header));
        }
        let runs = decode_runs(header, payload)
            .map_err(|reason| EntryError::Payload { kind: EntryKind::Gap, reason })?;
        Ok(Self {
            group: header.group,
            first: header.id,
            base_offset: header.base_offset,
            offsets: header.record_count,
            runs,
        })
    }

    /// Its entries from `from` on, one by one, as readers see them.
    pub fn entries(&self, from: Index) -> impl Iterator<Item = EntryHeader> + '_ {
        let (mut index, mut offset) = (self.first.index, self.base_offset);
        self.runs.iter().flat_map(move |run| {
            let each = u64::from(run.offsets);
            let skipped = from.since(index).min(u64::from(run.entries));
            let (first, base) = (index + skipped, offset + skipped * each);
            index += u64::from(run.entries);
            offset += u64::from(run.entries) * each;
            let count = u64::from(run.entries) - skipped;
            (0..count).map(move |nth| self.header(first + nth, base + nth * each, run.offsets))
        })
    }

    fn header(&self, index: Index, base_offset: Offset, record_count: u32) -> EntryHeader {
        EntryHeader {
            group: self.group,
            id: EntryId::new(self.first.term, index),
            kind: EntryKind::Gap,
            base_offset,
            record_count,
            payload_bytes: 0,
        }
    }
}

fn decode_runs(header: &EntryHeader, payload: &[u8]) -> Result<Vec<Run>, PayloadError> {
    let mut reader = Reader::new(payload);
    let mut runs = Vec::new();
    let (mut entries, mut offsets) = (0_u64, 0_u64);
    while !reader.is_empty() {
        let run = Run {
            entries: bound("entries in a run of a gap", reader.varint()?, ENTRIES_MAX)?,
            offsets: bound("offsets of an entry in a gap", reader.varint()?, BATCH_RECORDS_MAX)?,
        };
        if runs.len() == RUNS_MAX {
            return Err(PayloadError::Limit {
                what: "runs of a gap",
                found: RUNS_MAX as u64 + 1,
                max: RUNS_MAX as u64,
            });
        }
        entries += u64::from(run.entries);
        offsets = offsets.saturating_add(u64::from(run.entries) * u64::from(run.offsets));
        runs.push(run);
    }
    let fits = entries > 0 && header.id.index.checked_add(entries).is_some();
    let expected = u64::from(header.record_count);
    if fits && offsets == expected { Ok(runs) } else { Err(PayloadError::Gap { expected, found: offsets }) }
}

fn bound(what: &'static str, found: i32, max: u32) -> Result<u32, PayloadError> {
    let over = || PayloadError::Limit { what, found: u64::from(found.unsigned_abs()), max: u64::from(max) };
    u32::try_from(found).ok().filter(|found| *found <= max).ok_or_else(over)
}

fn bounded(count: u32) -> i32 {
    i32::try_from(count).expect("runs are bounded by 31 bits")
}

const ENTRIES_MAX: u32 = i32::MAX.cast_unsigned();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;

    fn dropped(index: u64, base_offset: u64, record_count: u32) -> EntryHeader {
        EntryHeader {
            group: GroupId(3),
            id: EntryId::new(Term(2), Index(index)),
            kind: EntryKind::Data,
            base_offset: Offset(base_offset),
            record_count,
            payload_bytes: 100,
        }
    }

    /// The entries that were dropped, as readers see them in a gap.
    fn seen(entries: &[EntryHeader]) -> Vec<EntryHeader> {
        let gap = |entry: &EntryHeader| EntryHeader { kind: EntryKind::Gap, payload_bytes: 0, ..*entry };
        entries.iter().map(gap).collect()
    }

    #[test]
    fn a_gap_comes_back_as_it_went_each_entry_with_its_offsets() {
        let mut entries = Vec::new();
        let mut offset = 70;
        for (nth, count) in [0, 3, 3, 3, 1, BATCH_RECORDS_MAX, 0, 0].into_iter().enumerate() {
            entries.push(dropped(5 + nth as u64, offset, count));
            offset += u64::from(count);
        }
        for some in 1..=entries.len() {
            let mut gap = Gap::of(&entries[0]);
            assert!(entries[1..some].iter().all(|entry| gap.take(entry)));
            let (header, bytes) = gap.frame();
            assert_eq!(EntryHeader::verify(&bytes), Ok(header));
            assert_eq!((header.id, header.next_offset()), (entries[0].id, gap.next_offset()));
            assert_eq!(header.payload_bytes == 0, some == 1);
            let back = Gap::decode(&header, &bytes[super::super::HEADER_BYTES..]).unwrap();
            assert_eq!(back, gap);
            for from in 0..=some {
                let read: Vec<_> = back.entries(Index(5 + from as u64)).collect();
                assert_eq!(read, seen(&entries[from..some]), "{some} entries from {from}");
            }
        }
    }

    #[test]
    fn a_gap_takes_one_term_and_so_many_runs() {
        let mut gap = Gap::of(&dropped(1, 0, 1));
        let other = EntryHeader { id: EntryId::new(Term(3), Index(2)), ..dropped(2, 1, 1) };
        assert!(!gap.take(&other));
        let (mut index, mut offset) = (2, 1);
        let mut push = |gap: &mut Gap, count| {
            let took = gap.take(&dropped(index, offset, count));
            if took {
                index += 1;
                offset += u64::from(count);
            }
            took
        };
        for nth in 1..RUNS_MAX {
            assert!(push(&mut gap, 1 + u32::try_from(nth % 2).unwrap()));
        }
        assert!(!push(&mut gap, 1));
        assert!(push(&mut gap, 2), "the last run goes on");
        let (header, bytes) = gap.frame();
        assert_eq!(Gap::decode(&header, &bytes[super::super::HEADER_BYTES..]), Ok(gap));
        let mut wide = Gap::of(&dropped(1, 0, BATCH_RECORDS_MAX));
        let took = (1..5000).take_while(|nth| {
            let base = nth * u64::from(BATCH_RECORDS_MAX);
            wide.take(&dropped(1 + nth, base, BATCH_RECORDS_MAX))
        });
        assert_eq!(took.count(), 4094, "offsets fit 32 bits");
    }

    #[test]
    fn payloads_that_do_not_fit_are_refused() {
        let header = |record_count| EntryHeader { kind: EntryKind::Gap, ..dropped(1, 0, record_count) };
        let runs = |pairs: &[(i32, i32)]| {
            let mut writer = Writer::new();
            for (entries, offsets) in pairs {
                writer.varint(*entries);
                writer.varint(*offsets);
            }
            writer.into_bytes()
        };
        let refused = |record_count, payload: &[u8]| match Gap::decode(&header(record_count), payload) {
            Err(EntryError::Payload { kind: EntryKind::Gap, reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(7, &runs(&[(2, 3)])), PayloadError::Gap { expected: 7, found: 6 });
        assert_eq!(refused(0, &runs(&[(0, 3)])), PayloadError::Gap { expected: 0, found: 0 });
        assert!(matches!(refused(7, &runs(&[(-1, 3)])), PayloadError::Limit { .. }));
        assert!(matches!(refused(7, &runs(&[(1, i32::MAX)])), PayloadError::Limit { .. }));
        assert!(matches!(refused(7, &runs(&[(7, 1)])[..1]), PayloadError::Malformed(_)));
        assert!(matches!(refused(2000, &runs(&[(1, 1); RUNS_MAX + 1])), PayloadError::Limit { .. }));
        let far = EntryHeader { id: EntryId::new(Term(1), Index(u64::MAX)), ..header(1) };
        assert!(Gap::decode(&far, &runs(&[(1, 1)])).is_err());
    }
}
