//! Taking entries away at the end (truncation), or all of them (a new start). `trim` takes them away at the front.

use crate::disk::Disk;
use crate::error::AppendError;
use crate::log::Log;
use crate::recover;
use raftline_proto::ids::{EntryId, Index, Offset};
use std::io;

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
        let begins_at = self.beginning.as_ref().map(|beginning| beginning.first);
        assert!(
            begins_at.is_none_or(|first| from > first),
            "truncation from {from}, but the log is to begin with entry {begins_at:?}"
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
        self.beginning = None;
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

    /// The run of a term that began in what is gone begins with the first entry now.
    pub(crate) fn move_first_term(&mut self) {
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
