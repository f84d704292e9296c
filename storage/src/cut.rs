//! Taking entries away at the end (truncation), or all of them (a new start). `trim` takes them away at the front.

use crate::disk::{Disk, is_shortage};
use crate::error::AppendError;
use crate::log::Log;
use crate::recover;
use raftline_proto::ids::{EntryId, Index, Offset, Position};
use std::io;

/// A segment that there was no room for.
pub(crate) struct Owed {
    /// The segments in whose place it will stand.
    pub(crate) dead: Vec<u64>,
    /// Nothing of them reaches this position.
    pub(crate) written: Position,
    /// Where the last entry of them ends.
    pub(crate) end: Position,
    /// Whether it begins a log.
    pub(crate) anew: bool,
}

/// Whether it may be tried again later.
fn is_for_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull || is_shortage(error)
}

impl<D: Disk> Log<D> {
    /// Cuts the log so that `from` and all after it are gone: seals the last segment and opens a new one. Appended
    /// bytes stay as they are; where the new segment begins, the old ones end. Without room for a new segment that is owed:
    /// until there is some, a restart finds the log as it was.
    ///
    /// # Errors
    /// The new segment could not be made, and not for want of room. The log is as it was, without what was staged.
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
        let end = cut.end_position();
        match self.open_segment(keep, previous, cut.next_offset) {
            Ok(()) => {}
            Err(error) if is_for_room(&error) => self.owe(keep, false),
            Err(error) => return Err(error),
        }
        if keep > nth {
            self.segments[nth] = cut;
        }
        self.terms.retain(|start| start.index < from);
        self.durability.cut(previous, end);
        Ok(())
    }

    /// Throws everything away and begins anew after `previous`, with `offset` for the next record. Without room for a new
    /// segment that is owed: until there is some, a restart finds the old log.
    ///
    /// # Errors
    /// The new segment could not be made, and not for want of room. The log is as it was, without what was staged.
    pub fn reset(&mut self, previous: EntryId, offset: Offset) -> Result<(), AppendError> {
        self.staged.clear();
        let owes = match self.open_segment(0, previous, offset) {
            Ok(()) => false,
            Err(error) if is_for_room(&error) => {
                self.owe(0, true);
                true
            }
            Err(source) => return Err(AppendError { last: self.last(), source }),
        };
        self.beginning = None;
        self.start = (previous, offset);
        self.terms.clear();
        // Until the new segment is durable, a power cut brings the old log back: nothing is vouched for, not even
        // `previous`.
        self.durability.last = EntryId::ZERO;
        self.durability.marks.clear();
        if !owes {
            self.durability.marks.push_back((self.end_position(), previous));
        }
        Ok(())
    }

    /// Only the first `keep` segments are left, and the one that goes on from there is to be made once there is room. The
    /// others' files stay until then, so a restart finds them again: as if it had never been told to cut, which is right,
    /// since nothing was vouched for since.
    fn owe(&mut self, keep: usize, anew: bool) {
        self.stop_filling();
        let (written, end) = (self.written_position(), self.end_position());
        let owed = self.owed.get_or_insert(Owed { dead: Vec::new(), written, end, anew });
        (owed.written, owed.end) = (written, end);
        owed.anew |= anew;
        owed.dead.extend(self.segments.drain(keep..).map(|segment| segment.header.sequence));
        self.sealed = true;
    }

    /// Whether the log was cut or thrown away without room for the segment that goes on from there.
    #[must_use]
    pub fn owes_segment(&self) -> bool {
        self.owed.is_some()
    }

    /// Makes the segment that is owed, if there is room now. The next write would, too.
    ///
    /// # Errors
    /// It could not be made.
    pub fn pay(&mut self) -> io::Result<()> {
        match self.owed {
            Some(_) => self.open_segment(self.segments.len(), self.last(), self.next_offset()),
            None => Ok(()),
        }
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
