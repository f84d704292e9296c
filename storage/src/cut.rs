//! Taking entries away: at the end (truncation), at the front (retention), or all of them (a new start).

use crate::disk::{Disk, DiskFile};
use crate::error::{AppendError, RetainError};
use crate::log::Log;
use crate::recover;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentStart};
use raftline_proto::ids::{EntryId, Index, Offset, Position};
use raftline_proto::time::Timestamp;
use std::io::{self, IoSlice};

impl<D: Disk> Log<D> {
    /// Cuts the log so that `from` and all after it are gone: seals the last segment and opens a new one. Appended
    /// bytes stay as they are; where the new segment begins, the old ones end.
    ///
    /// # Errors
    /// The new segment could not be made. The log is as it was, without what was staged.
    ///
    /// # Panics
    /// If `from` was trimmed away or compacted: a bug of the caller, since only committed entries are.
    pub fn truncate(&mut self, from: Index) -> Result<(), AppendError> {
        assert!(
            from > self.start.0.index,
            "truncation from {from}, but the log starts after {}",
            self.start.0
        );
        let clean_through = self.clean().0;
        assert!(
            from > clean_through,
            "truncation from {from}, but the log is compacted through {clean_through}"
        );
        self.staged.cut(from);
        self.write()?;
        if from > self.last().index {
            return Ok(());
        }
        self.truncate_written(from).map_err(|source| AppendError { last: self.last(), source })
    }

    fn truncate_written(&mut self, from: Index) -> io::Result<()> {
        let Some(nth) = self.segment_of(from) else { return Ok(()) };
        let previous_index = Index(from.0 - 1);
        let term = self.term_at(previous_index).unwrap_or_default();
        let previous = EntryId::new(term, previous_index);
        // Where the view of this segment will end; the log itself is changed only once the new segment is there.
        let mut cut = self.segments[nth].clone();
        let file = self.files.get(cut.header.sequence)?;
        recover::cut(&mut cut, &*file, from)?;
        // A segment that the new one begins with loses all of its entries.
        let keep = if cut.is_empty() { nth } else { nth + 1 };
        self.open_segment(keep, previous, cut.next_offset)?;
        let end = cut.end_position();
        if keep > nth {
            self.segments[nth] = cut;
        }
        self.terms.retain(|start| start.index < from);
        self.durability.cut(previous, end);
        Ok(())
    }

    /// Throws everything away and begins anew after `previous`, with `offset` for the next record.
    ///
    /// # Errors
    /// The new segment could not be made. The log is as it was, without what was staged.
    pub fn reset(&mut self, previous: EntryId, offset: Offset) -> Result<(), AppendError> {
        self.staged.clear();
        self.open_segment(0, previous, offset).map_err(|source| AppendError { last: self.last(), source })?;
        self.start = (previous, offset);
        self.terms.clear();
        // Until the new segment is durable, a power cut brings the old log back: nothing is vouched for, not even
        // `previous`.
        let begins_at = self.end_position();
        self.durability.last = EntryId::ZERO;
        self.durability.marks.clear();
        self.durability.marks.push_back((begins_at, previous));
        Ok(())
    }

    /// Drops the oldest segments that retention no longer covers: those whose newest record is older than
    /// `older_than`, and those without which `bytes_max` would still be left. Whole segments only, none with an entry
    /// at or above `up_to`, and none whose successor is not durable yet. The last segment goes by age alone, when all
    /// of it is too old: an empty one takes its place. Returns the log's new start if it moved.
    ///
    /// Syncs on this thread if anything goes.
    ///
    /// # Errors
    /// The log is as it was. After [`RetainError::SyncFailed`], stop the process.
    pub fn retain(
        &mut self,
        older_than: Option<Timestamp>,
        bytes_max: Option<u64>,
        up_to: Index,
    ) -> Result<Option<(EntryId, Offset)>, RetainError> {
        if let Some(limit) = older_than {
            self.seal_expired(limit, up_to)?;
        }
        let count = self.expired(older_than, bytes_max, up_to);
        if count == 0 {
            return Ok(None);
        }
        self.begin_with(count)?;
        for segment in self.segments.drain(..count) {
            let sequence = segment.header.sequence;
            // One that cannot be removed now is tried again after the next sync, or at the next start.
            if self.files.remove(sequence).is_err() {
                self.durability.dead.push((sequence, Position::ZERO));
            }
        }
        Ok(Some(self.start))
    }

    /// Seals the last segment if all of it is durable, committed and too old. A quiet log would keep it for ever.
    fn seal_expired(&mut self, limit: Timestamp, up_to: Index) -> Result<(), RetainError> {
        if !self.last_has_expired(limit, up_to) {
            return Ok(());
        }
        self.open_segment(self.segments.len(), self.last(), self.next_offset()).map_err(RetainError::Io)?;
        if let Some(ticket) = self.begin_sync() {
            ticket.run().map_err(RetainError::SyncFailed)?;
            self.durable_through(ticket.through());
        }
        Ok(())
    }

    /// Whether all of the last segment is durable, committed and too old.
    fn last_has_expired(&self, limit: Timestamp, up_to: Index) -> bool {
        self.segments.last().is_some_and(|active| {
            let too_old = active.index.time_max().is_some_and(|time| time < limit);
            let settled = self.staged.is_empty() && self.durability.last == self.last();
            too_old && settled && active.up_to <= up_to
        })
    }

    /// The first entry that [`Log::retain`] and [`Log::trim`] would leave; `None` if no record would go.
    #[must_use]
    pub fn first_retained(
        &self,
        older_than: Option<Timestamp>,
        bytes_max: Option<u64>,
        below: Option<Offset>,
        up_to: Index,
    ) -> Option<Index> {
        let (index, offset) = match self.segments.last() {
            // All segments before it go with it.
            Some(last) if older_than.is_some_and(|limit| self.last_has_expired(limit, up_to)) => {
                (last.up_to, last.next_offset)
            }
            Some(_) | None => {
                let expired = self.expired(older_than, bytes_max, up_to);
                let deleted = below.map_or(0, |below| self.deleted(below));
                let first_left = self.segments.get(deleted)?.base_index();
                let deleted = self.expired(None, Some(0), first_left.min(up_to));
                let first = &self.segments.get(expired.max(deleted))?.header;
                (first.base_index(), first.base_offset)
            }
        };
        (offset > self.start.1).then_some(index)
    }

    /// Makes the log begin with segment `nth`, durably. The segment says so itself: then it does not matter which of
    /// the files before it a power cut brings back.
    fn begin_with(&mut self, nth: usize) -> Result<(), RetainError> {
        let mut header = self.segments[nth].header;
        header.start = SegmentStart::Begins;
        let file = self.files.get(header.sequence).map_err(RetainError::Io)?;
        file.write_at(&[IoSlice::new(&header.encode())], 0).map_err(RetainError::Io)?;
        file.sync_data().map_err(RetainError::SyncFailed)?;
        self.segments[nth].header = header;
        self.start = (header.previous, header.base_offset);
        self.move_first_term();
        Ok(())
    }

    /// How many segments retention no longer covers.
    fn expired(&self, older_than: Option<Timestamp>, bytes_max: Option<u64>, up_to: Index) -> usize {
        let mut left = self.bytes();
        let mut count = 0;
        for (pair, nth) in self.segments.windows(2).zip(1..) {
            let [oldest, next] = pair else { break };
            let time = oldest.index.time_max();
            left -= oldest.end;
            let too_much = bytes_max.is_some_and(|bytes_max| left >= bytes_max);
            let too_old = older_than.is_some_and(|limit| time < Some(limit));
            let committed = next.base_index() <= up_to;
            let durable = next.header.base_position + SEGMENT_HEADER_BYTES <= self.durability.through;
            if !(committed && durable && (too_old || too_much)) {
                break;
            }
            // Where compaction left no batch that tells a time, the offsets go with those of a batch after them: a reader
            // that has come there is not sent away before its time.
            let timeless = time.is_none() && oldest.next_offset > oldest.header.base_offset;
            if too_much || !timeless {
                count = nth;
            }
        }
        count
    }

    /// The run of a term that began in what is gone begins with the first entry now.
    fn move_first_term(&mut self) {
        let first_index = self.start.0.index.next();
        let gone = self.terms.partition_point(|start| start.index <= first_index).saturating_sub(1);
        self.terms.drain(..gone);
        if let Some(start) = self.terms.first_mut() {
            start.index = start.index.max(first_index);
        }
    }

    /// Which segment holds an entry; `None` if the log does not.
    pub(crate) fn segment_of(&self, index: Index) -> Option<usize> {
        let nth = self.segments.partition_point(|segment| segment.base_index() <= index).checked_sub(1)?;
        (index < self.segments[nth].up_to).then_some(nth)
    }
}
