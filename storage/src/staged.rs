//! Entries on their way into the log: encoded, in order, not written yet.

use crate::index::batch_time_max;
use crate::room::is_too_late;
use bytes::Bytes;
use raftline_proto::command::Command;
use raftline_proto::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{EntryId, Index, Offset};
use raftline_proto::time::Timestamp;
use std::collections::VecDeque;
use std::io::IoSlice;

/// The entries staged since the last write.
#[derive(Default)]
pub(crate) struct Staged {
    entries: VecDeque<StagedEntry>,
}

struct StagedEntry {
    header: EntryHeader,
    time_max: Option<Timestamp>,
    place: Placement,
    /// The header's encoding, where it does not stand in front of the payload already.
    encoded_header: Option<[u8; HEADER_BYTES]>,
    parts: [Bytes; 2],
}

/// Where in a segment an entry may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Anywhere.
    Anywhere,
    /// Before the segment's records: all that are below it may go because of it.
    BeforeRecords,
}

/// The first staged entries, to be written in one call.
pub(crate) struct Run {
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

impl Placement {
    /// `payload` is the entry's, or the first part of it.
    fn of(header: &EntryHeader, payload: &[u8]) -> Self {
        match header.kind {
            EntryKind::Command if Command::stands_before_records(payload, header.base_offset) => {
                Self::BeforeRecords
            }
            _ => Self::Anywhere,
        }
    }

    /// Whether the entry may stand where offsets are at `offset`, in a segment whose first record has `base_offset`.
    pub(crate) fn allows(self, base_offset: Offset, offset: Offset) -> bool {
        match self {
            Self::Anywhere => true,
            Self::BeforeRecords => offset == base_offset,
        }
    }
}

impl Staged {
    pub(crate) fn push(&mut self, header: EntryHeader, payload: [Bytes; 2]) {
        let encoded_header = Some(header.encode(&[&payload[0], &payload[1]]));
        let time_max = batch_time_max(header.kind, [&payload[0], &payload[1]]);
        let place = Placement::of(&header, &payload[0]);
        self.entries.push_back(StagedEntry { header, time_max, place, encoded_header, parts: payload });
    }

    /// `frame` is header and payload.
    pub(crate) fn push_encoded(&mut self, header: EntryHeader, frame: Bytes) {
        let time_max = batch_time_max(header.kind, [&frame[HEADER_BYTES..], &[]]);
        let place = Placement::of(&header, &frame[HEADER_BYTES..]);
        let parts = [frame, Bytes::new()];
        self.entries.push_back(StagedEntry { header, time_max, place, encoded_header: None, parts });
    }

    /// The last staged entry, and the offset after it.
    pub(crate) fn end(&self) -> Option<(EntryId, Offset)> {
        self.entries.back().map(|entry| (entry.header.id, entry.header.next_offset()))
    }

    /// The size of the first staged entry, its greatest timestamp, and where it may stand.
    pub(crate) fn first(&self) -> Option<(u64, Option<Timestamp>, Placement)> {
        self.entries.front().map(|entry| (entry.header.entry_bytes(), entry.time_max, entry.place))
    }

    /// As many of the first entries as fit into `bytes_max`, are not too late in a segment whose first time is
    /// `time_first`, and may stand in one whose records begin at `base_offset`; at least one.
    pub(crate) fn run(
        &self,
        bytes_max: u64,
        time_first: Option<Timestamp>,
        segment_ms: i64,
        base_offset: Offset,
    ) -> Run {
        let mut run = Run { count: 0, bytes: 0 };
        let mut time_first = time_first;
        for entry in &self.entries {
            let bytes = run.bytes + entry.header.entry_bytes();
            let fits = bytes <= bytes_max
                && !is_too_late(time_first, entry.time_max, segment_ms)
                && entry.place.allows(base_offset, entry.header.base_offset);
            if run.count > 0 && !fits {
                break;
            }
            time_first = time_first.or(entry.time_max);
            run = Run { count: run.count + 1, bytes };
        }
        run
    }

    /// The bytes of a run.
    pub(crate) fn slices(&self, run: &Run) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(run.count * 3);
        for entry in self.entries.iter().take(run.count) {
            let head = entry.encoded_header.as_ref().map_or(&[][..], |head| &head[..]);
            for part in [head, &entry.parts[0], &entry.parts[1]] {
                if !part.is_empty() {
                    slices.push(IoSlice::new(part));
                }
            }
        }
        slices
    }

    /// Takes a run out.
    pub(crate) fn take(&mut self, run: &Run) -> impl Iterator<Item = (EntryHeader, Option<Timestamp>)> + '_ {
        self.entries.drain(..run.count).map(|entry| (entry.header, entry.time_max))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops the entries from `from` on.
    pub(crate) fn cut(&mut self, from: Index) {
        while self.entries.back().is_some_and(|entry| entry.header.id.index >= from) {
            self.entries.pop_back();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}
