//! Room for entries: new segments, and growing the last one.

use crate::allocate::{Allocation, Progress, next_length, whole_pages};
use crate::disk::{Disk, DiskFile};
use crate::files::OpenFiles;
use crate::index::SparseIndex;
use crate::log::{Log, LogOptions};
use crate::segment::{Dirty, SEGMENT_HEADER_BYTES, Segment, SegmentHeader, SegmentStart};
use crate::staged::Placement;
use raftline_proto::ids::{EntryId, Offset};
use raftline_proto::time::Timestamp;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

impl<D: Disk> Log<D> {
    /// Opens a new segment if the last one cannot take an entry of this size, time and placement.
    pub(crate) fn make_room(
        &mut self,
        bytes: u64,
        time_max: Option<Timestamp>,
        place: Placement,
    ) -> io::Result<()> {
        let LogOptions { segment_bytes, segment_ms } = self.options;
        let fits = self.segments.last().is_some_and(|active| {
            let too_late = is_too_late(active.index.time_first(), time_max, segment_ms);
            let placed = place.allows(active.header.base_offset, active.next_offset);
            !self.sealed && (active.is_empty() || active.end + bytes <= segment_bytes && !too_late && placed)
        });
        if fits {
            return Ok(());
        }
        // An empty segment that takes no more is of no use: the new one takes its place.
        let used = self.segments.last().is_some_and(|active| !active.is_empty());
        let keep = if used { self.segments.len() } else { self.segments.len().saturating_sub(1) };
        self.open_segment(keep, self.last(), self.next_offset())
    }

    /// Creates a segment file that holds what comes after `previous`, and puts it behind the first `keep` segments.
    /// The others are not part of the log any more; their files go once the new one is durable.
    pub(crate) fn open_segment(
        &mut self,
        keep: usize,
        previous: EntryId,
        base_offset: Offset,
    ) -> io::Result<()> {
        assert!(!self.read_only, "the log of group {} was opened for reading only", self.group);
        let first_ever = self.segments.is_empty();
        if first_ever {
            self.files.disk.create_dir_all(&self.files.dir)?;
        }
        let depth = if first_ever { NEW_LOG_DIRS } else { 1 };
        let hold = |dir: &Path| Ok((dir.to_path_buf(), self.files.disk.hold_dir(dir)?));
        let dirs = self.files.dir.ancestors().take(depth).map(hold).collect::<io::Result<Vec<_>>>()?;
        let sequence = self.next_sequence;
        // Even if this fails: the name may be left behind.
        self.next_sequence += 1;
        // If nothing stays, the new segment needs no other, and nothing that a power cut may leave of others counts.
        let start = if keep == 0 { SegmentStart::Begins } else { SegmentStart::Continues };
        let base_position = self.written_position();
        let header = SegmentHeader {
            group: self.group,
            sequence,
            start,
            previous,
            base_offset,
            base_position,
            compacted: None,
        };
        let file = self.files.create(sequence)?;
        let allocated = next_length(0, SEGMENT_HEADER_BYTES, self.options.segment_bytes);
        if let Err(error) = file.allocate(0, allocated) {
            // Best effort: a segment without a header is passed over and removed at the next start.
            let _ = self.files.remove(sequence);
            return Err(error);
        }
        if let Err(error) = file.write_at(&[IoSlice::new(&header.encode())], 0) {
            let _ = self.files.remove(sequence);
            // The header may be whole, and the removal undone by a power cut: then this segment would cut whatever is
            // appended to the one before. So nothing is: the next segment stands behind, and takes its place.
            match (&mut self.owed, self.segments.last_mut()) {
                (Some(owed), _) => owed.written += SEGMENT_HEADER_BYTES,
                (None, Some(active)) => {
                    self.sealed = true;
                    active.written += SEGMENT_HEADER_BYTES;
                }
                (None, None) => {}
            }
            return Err(error);
        }
        self.stop_filling();
        let position = header.base_position + SEGMENT_HEADER_BYTES;
        let dead = self.segments.drain(keep..).map(|segment| (segment.header.sequence, position));
        self.durability.dead.extend(dead);
        if let Some(owed) = self.owed.take() {
            self.durability.dead.extend(owed.dead.into_iter().map(|sequence| (sequence, position)));
            if owed.anew {
                self.durability.marks.push_back((position, previous));
            }
        }
        self.segments.push(Segment {
            header,
            up_to: header.base_index(),
            end: SEGMENT_HEADER_BYTES,
            next_offset: base_offset,
            written: SEGMENT_HEADER_BYTES,
            allocated,
            index: SparseIndex::default(),
            dirty: Dirty::default(),
        });
        self.sealed = false;
        self.durability.note_written(&file, position);
        self.durability.note_names(dirs, position);
        Ok(())
    }

    /// Room that should be made ahead of the writes, on another thread; `None` if there is enough or some is being
    /// made already.
    ///
    /// Filling with zeros makes syncs of little writes cheaper, and writes everything twice. Where a sync covers much
    /// the second outweighs the first, so there is no filling then, and the write itself takes room (`grow`).
    pub fn allocation_wanted(&mut self) -> Option<Allocation<D>> {
        if self.durability.sync_bytes_mean > SYNC_BYTES_WORTH_FILLING {
            return None;
        }
        let active = self.segments.last_mut()?;
        if self.sealed || self.filling.is_some() || active.allocated >= self.options.segment_bytes {
            return None;
        }
        let up_to = next_length(active.allocated, 0, self.options.segment_bytes);
        // Half a step is left: time enough for the filler at any rate that the disk can take.
        if active.allocated - active.end > (up_to - active.allocated) / 2 {
            return None;
        }
        let sequence = active.header.sequence;
        let file = self.files.get(sequence).ok()?;
        let progress = Progress::new(sequence, active.allocated, up_to);
        self.filling = Some(Arc::clone(&progress));
        Some(Allocation { file, progress, sync_failed: AtomicBool::new(false) })
    }

    /// Takes an allocation back. A failure is no harm yet: the write that needs the room says so if there is none.
    pub fn allocated(&mut self, allocation: Allocation<D>, result: io::Result<()>) {
        drop(result);
        let current = self.filling.as_ref().is_some_and(|filling| Arc::ptr_eq(filling, &allocation.progress));
        if current {
            self.stop_filling();
        }
    }

    /// Stops the filler and takes over what it made.
    pub(crate) fn stop_filling(&mut self) {
        if let Some(progress) = self.filling.take() {
            let filled = progress.stop();
            if let Some(active) = self.segments.last_mut()
                && active.header.sequence == progress.sequence
            {
                active.allocated = active.allocated.max(filled);
            }
        }
    }
}

/// Whether an entry is too much younger than the first one of its segment. Times may jump back, which seals nothing: a
/// segment that was made for this reason has a later first time than the one before, so that odd times do not make a
/// segment each.
pub(crate) fn is_too_late(first: Option<Timestamp>, time: Option<Timestamp>, segment_ms: i64) -> bool {
    match (first, time) {
        (Some(first), Some(time)) => time.get().saturating_sub(first.get()) > segment_ms,
        (None, _) | (_, None) => false,
    }
}

/// Makes sure that `needed` bytes of the segment's file are there, and zeros. Room that the filler has not made in time
/// is only reserved: this is the writing thread, and it should not write everything twice.
pub(crate) fn grow<D: Disk>(
    files: &OpenFiles<D>,
    active: &mut Segment,
    filling: &mut Option<Arc<Progress>>,
    needed: u64,
    cap: u64,
) -> io::Result<()> {
    if needed <= active.allocated {
        return Ok(());
    }
    // Only now: looking at the filler's progress waits for the chunk that it is at.
    if let Some(progress) = filling {
        active.allocated = active.allocated.max(progress.filled());
        if needed <= active.allocated {
            return Ok(());
        }
        active.allocated = active.allocated.max(progress.stop());
        *filling = None;
        if needed <= active.allocated {
            return Ok(());
        }
    }
    let file = files.get(active.header.sequence)?;
    let wanted = next_length(active.allocated, needed, cap);
    let made = match file.reserve(active.allocated, wanted) {
        Ok(()) => wanted,
        // On a disk that is nearly full take just what is needed.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let least = whole_pages(needed);
            file.reserve(active.allocated, least)?;
            least
        }
        Err(error) => return Err(error),
    };
    active.allocated = made;
    Ok(())
}

/// Measured: a sync of 64 KiB into zeros is some 100 µs quicker than into reserved room, one of 1 MiB some 300 µs;
/// filling costs about 900 µs a MiB.
const SYNC_BYTES_WORTH_FILLING: u64 = 128 << 10;

/// A new log is a new name in its directory, which is a new name in `groups`, which may be new itself.
pub(crate) const NEW_LOG_DIRS: usize = 3;
