//! Letting go of the log's beginning, and what of deleted records is left in it is not looked at.
//!
//! A log begins later in two steps, so that nobody waits for a disk: the segment that is to be the first says so in its
//! header, and goes into the next sync; once that is confirmed, those before it go. Until then the log is as it was.

use crate::disk::{Disk, DiskFile};
use crate::error::ReadError;
use crate::log::Log;
use crate::segment::SegmentStart;
use bytes::Bytes;
use raftline_proto::batch::{BatchHeader, BatchView};
use raftline_proto::command::TrimReason;
use raftline_proto::ids::{EntryId, Index, Offset, Position};
use raftline_proto::time::Timestamp;
use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::vec;

/// A segment that is to be the log's first one, once its header is durable.
pub(crate) struct Beginning<D: Disk> {
    pub(crate) sequence: u64,
    /// Its first entry.
    pub(crate) first: Index,
    pub(crate) file: Arc<D::File>,
    /// The number of the last ticket that went out before its header was written.
    pub(crate) after: u64,
}

/// What a log let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetGo {
    /// Where it began before: the entry before the first, and the first offset.
    pub before: (EntryId, Offset),
    /// Where it begins now.
    pub start: (EntryId, Offset),
    /// How much smaller it is.
    pub bytes: u64,
}

/// What retention no longer covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// Records below this.
    pub below: Offset,
    /// Why the last of them does not stay.
    pub reason: TrimReason,
}

impl<D: Disk> Log<D> {
    /// Which records retention no longer covers: those of the oldest segments, whole ones, whose newest record is older
    /// than `older_than`, or without which `bytes_max` would still be left. None in a segment with an entry at or above
    /// `up_to`. Those of the last segment go by age alone, when all of it is too old. `None` if all stay. Changes nothing.
    #[must_use]
    pub fn outlived(
        &self,
        older_than: Option<Timestamp>,
        bytes_max: Option<u64>,
        up_to: Index,
    ) -> Option<Outlived> {
        let too_old = |time: Option<Timestamp>| older_than.is_some_and(|limit| time < Some(limit));
        let mut left = self.bytes();
        let mut outlived = None;
        for segment in self.segments.iter().take_while(|segment| segment.up_to <= up_to) {
            left -= segment.end;
            let time = segment.index.time_max();
            let is_last = segment.header.sequence == self.segments.last()?.header.sequence;
            let too_much = !is_last && bytes_max.is_some_and(|bytes_max| left >= bytes_max);
            let expired = too_old(time) && (!is_last || time.is_some() && self.staged.is_empty());
            if !(expired || too_much) {
                break;
            }
            // Where compaction left no batch that tells a time, the offsets go with those of a batch after them: a reader
            // that has come there is not sent away before its time.
            let timeless = time.is_none() && segment.next_offset > segment.header.base_offset;
            if too_much || !timeless {
                let reason = if expired { TrimReason::Age } else { TrimReason::Size };
                outlived = Some(Outlived { below: segment.next_offset, reason });
            }
        }
        outlived.filter(|outlived| outlived.below > self.start.1)
    }

    /// Lets go of the oldest segments that hold no record at or above `below`, once the next sync is confirmed: tickets
    /// from now on make the new beginning durable, and [`Log::durable_through`] carries it out. Whole segments only, none
    /// with an entry at or above `up_to`, and not the last one. Says whether that is under way.
    ///
    /// # Errors
    /// The segment that is to be the first could not be told so. The log is as it was.
    pub fn trim(&mut self, below: Offset, up_to: Index) -> io::Result<bool> {
        if self.beginning.is_some() {
            return Ok(true);
        }
        let nth = self.deleted(below, up_to);
        if nth == 0 {
            return Ok(false);
        }
        let mut header = self.segments[nth].header;
        header.start = SegmentStart::Begins;
        let file = self.files.get(header.sequence)?;
        file.write_at(&[IoSlice::new(&header.encode())], 0)?;
        self.segments[nth].header = header;
        let (sequence, first, after) = (header.sequence, header.base_index(), self.durability.tickets);
        self.beginning = Some(Beginning { sequence, first, file, after });
        Ok(true)
    }

    /// The first entry that [`Log::trim`] would leave; `None` if no record would go.
    #[must_use]
    pub fn first_left(&self, below: Offset, up_to: Index) -> Option<Index> {
        let header = &self.segments.get(self.deleted(below, up_to))?.header;
        (header.base_offset > self.start.1).then(|| header.base_index())
    }

    /// What the log let go of since this was asked last.
    pub fn take_let_go(&mut self) -> Option<LetGo> {
        self.let_go.take()
    }

    /// The log begins with this segment, durably. The segment says so itself: then it does not matter which of the files
    /// before it a power cut brings back.
    pub(crate) fn begin_with(&mut self, sequence: u64) {
        let Some(nth) = self.segments.iter().position(|segment| segment.header.sequence == sequence) else {
            return;
        };
        let header = self.segments[nth].header;
        let (before, start) = (self.start, (header.previous, header.base_offset));
        let bytes = self.segments[..nth].iter().map(|segment| segment.end).sum();
        self.start = start;
        self.move_first_term();
        for segment in self.segments.drain(..nth) {
            let sequence = segment.header.sequence;
            // One that cannot be removed now is tried again after the next sync, or at the next start.
            if self.files.remove(sequence).is_err() {
                self.durability.dead.push((sequence, Position::ZERO));
            }
        }
        self.let_go = Some(match self.let_go.take() {
            Some(earlier) => LetGo { before: earlier.before, start, bytes: earlier.bytes + bytes },
            None => LetGo { before, start, bytes },
        });
    }

    /// How many of the oldest segments hold no record at or above `below` and no entry at or above `up_to`. Never the
    /// last one.
    fn deleted(&self, below: Offset, up_to: Index) -> usize {
        let goes = |segment: &crate::segment::Segment| segment.next_offset <= below && segment.up_to <= up_to;
        let count = self.segments.iter().take_while(|segment| goes(segment)).count();
        count.min(self.segments.len().saturating_sub(1))
    }

    /// As [`Log::offset_at`], but of the records from `from` on.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn offset_at_from(
        &self,
        timestamp: Timestamp,
        from: Offset,
        up_to: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        match self.offset_at(timestamp, up_to)? {
            // What is deleted would be the answer. So times are not in order there, or just there: look at the rest.
            Some((offset, _)) if offset < from => self.search(from, up_to, |header, records| {
                let found = (header.max_timestamp >= timestamp)
                    .then(|| records().find(|(_, time)| *time >= timestamp))
                    .flatten();
                found.map_or(ControlFlow::Continue(()), ControlFlow::Break)
            }),
            found => Ok(found),
        }
    }

    /// As [`Log::newest`], but of the records from `from` on.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn newest_from(&self, from: Offset, up_to: Offset) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        match self.newest(up_to)? {
            Some((offset, _)) if offset < from => {
                let mut newest: Option<(Offset, Timestamp)> = None;
                let is_newer =
                    |newest: Option<(Offset, Timestamp)>, time| newest.is_none_or(|(_, of)| of < time);
                self.search(from, up_to, |header, records| {
                    if is_newer(newest, header.max_timestamp) {
                        for record in records() {
                            newest = if is_newer(newest, record.1) { Some(record) } else { newest };
                        }
                    }
                    ControlFlow::Continue(())
                })?;
                Ok(newest)
            }
            found => Ok(found),
        }
    }

    /// Shows each batch with records from `from` on to `look`: its header, and a way to these records. Records that
    /// cannot be read are passed over.
    fn search(
        &self,
        from: Offset,
        up_to: Offset,
        mut look: impl FnMut(&BatchHeader, &dyn Fn() -> vec::IntoIter<Found>) -> ControlFlow<Found>,
    ) -> Result<Option<Found>, ReadError> {
        let mut next = from.max(self.start.1);
        loop {
            let read = self.read_batches(next, up_to, SEARCH_BYTES)?;
            if read.batches.is_empty() {
                return Ok(None);
            }
            for batch in &read.batches {
                let Ok(header) = BatchHeader::decode(batch) else { return Ok(None) };
                next = header.next_offset();
                if let ControlFlow::Break(found) = look(&header, &|| records_from(batch, from)) {
                    return Ok(Some(found));
                }
            }
        }
    }
}

/// A record's offset and time.
type Found = (Offset, Timestamp);

fn records_from(batch: &Bytes, from: Offset) -> vec::IntoIter<Found> {
    let Ok(view) = BatchView::open(batch) else { return Vec::new().into_iter() };
    let records = view.records().map_while(Result::ok).map(|record| (record.offset, record.timestamp));
    records.filter(|(offset, _)| *offset >= from).collect::<Vec<_>>().into_iter()
}

/// How much is looked at at once.
const SEARCH_BYTES: u64 = 1 << 20;
