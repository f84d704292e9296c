//! Taking entries away: at the end (truncation), at the front (retention), or all of them (a new start).

use crate::disk::Disk;
use crate::error::AppendError;
use crate::log::Log;
use crate::recover;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentStart};
use raftline_proto::ids::{EntryId, Index, Offset};
use raftline_proto::time::Timestamp;
use std::io;

impl<D: Disk> Log<D> {
    /// Cuts the log so that `from` and all after it are gone: seals the last segment and opens a new one. Appended
    /// bytes stay as they are; where the new segment begins, the old ones end.
    ///
    /// # Errors
    /// The new segment could not be made. The log is as it was, without what was staged.
    ///
    /// # Panics
    /// If `from` was trimmed away: a bug of the caller, since only committed entries are trimmed.
    pub fn truncate(&mut self, from: Index) -> Result<(), AppendError> {
        assert!(from > self.start.0.index, "truncation from {from}, but the log starts after {}", self.start.0);
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
        self.open_segment(SegmentStart::Continues, previous, cut.next_offset)?;
        let Some(new) = self.segments.pop() else { return Ok(()) };
        let end = cut.end_position();
        // A segment that the new one begins with loses all of its entries.
        let keep = if cut.is_empty() { nth } else { nth + 1 };
        self.segments[nth] = cut;
        self.bury(keep, &new);
        self.segments.push(new);
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
        self.open_segment(SegmentStart::Begins, previous, offset)
            .map_err(|source| AppendError { last: self.last(), source })?;
        if let Some(new) = self.segments.pop() {
            self.bury(0, &new);
            self.segments.push(new);
        }
        self.start = (previous, offset);
        self.terms.clear();
        self.durability.marks.clear();
        self.durability.last = previous;
        Ok(())
    }

    /// Takes the segments from the `keep`-th on out of the log. Their files go once `successor` is durable.
    fn bury(&mut self, keep: usize, successor: &Segment) {
        let durable_at = successor.position(SEGMENT_HEADER_BYTES);
        for segment in self.segments.drain(keep..) {
            self.durability.dead.push((segment.header.sequence, durable_at));
        }
    }

    /// Drops the oldest segments that retention no longer covers: those whose newest record is older than
    /// `older_than`, and those without which `bytes_max` would still be left. Whole segments only, never the last
    /// one, and none with an entry at or above `up_to`. Returns the log's new start if it moved.
    ///
    /// # Errors
    /// A file could not be removed. What was removed before it counts.
    pub fn retain(
        &mut self,
        older_than: Option<Timestamp>,
        bytes_max: Option<u64>,
        up_to: Index,
    ) -> io::Result<Option<(EntryId, Offset)>> {
        let before = self.start;
        while let [oldest, next, ..] = self.segments.as_slice() {
            let too_old = older_than.is_some_and(|limit| oldest.index.time_max() < Some(limit));
            let too_much = bytes_max.is_some_and(|bytes_max| self.bytes() - oldest.end >= bytes_max);
            let committed = next.base_index() <= up_to;
            if !committed || !(too_old || too_much) {
                break;
            }
            let sequence = oldest.header.sequence;
            // Oldest first, each durably gone before the next: a power cut must not leave a hole in the log.
            self.files.remove(sequence)?;
            self.files.disk.sync_dir(&self.files.dir)?;
            self.segments.remove(0);
            self.move_start();
        }
        Ok((self.start != before).then_some(self.start))
    }

    fn move_start(&mut self) {
        let Some(first) = self.segments.first() else { return };
        self.start = (first.header.previous, first.header.base_offset);
        let first_index = first.base_index();
        // The run of a term that began in what is gone begins with the first entry now.
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
