//! Deleted records: the segments that hold nothing else go, and what is left of them in others is not looked at.

use crate::disk::Disk;
use crate::error::{ReadError, RetainError};
use crate::log::Log;
use bytes::Bytes;
use raftline_proto::batch::{BatchHeader, BatchView};
use raftline_proto::ids::{EntryId, Index, Offset};
use raftline_proto::time::Timestamp;
use std::ops::ControlFlow;
use std::vec;

impl<D: Disk> Log<D> {
    /// Drops the oldest segments that hold no record at or above `below`. Whole segments only, none with an entry at or
    /// above `up_to`, not the last one, and none whose successor is not durable yet. Returns the log's new start if it
    /// moved.
    ///
    /// Syncs on this thread if anything goes.
    ///
    /// # Errors
    /// As [`Log::retain`].
    pub fn trim(&mut self, below: Offset, up_to: Index) -> Result<Option<(EntryId, Offset)>, RetainError> {
        let deleted = self.deleted(below);
        match self.segments.get(deleted) {
            Some(first_left) if deleted > 0 => {
                let up_to = first_left.base_index().min(up_to);
                self.retain(None, Some(0), up_to)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// How many of the oldest segments hold no record at or above `below`. Never the last one.
    pub(crate) fn deleted(&self, below: Offset) -> usize {
        self.segments.windows(2).take_while(|pair| pair[0].next_offset <= below).count()
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
