//! Zero-filling a segment ahead of the writes, off the shard's thread.
//!
//! The filler and the log share a mark under a lock: the filler moves it on chunk by chunk, and the log may stop the
//! filler where it stands. So the filler can never put zeros over bytes that the log has written: it only ever
//! writes above the mark, the log only below.

use crate::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Room to be made at the end of a segment file. Run it on any thread, then give it back with
/// [`crate::Log::allocated`].
pub struct Allocation<D: Disk> {
    pub(crate) file: Arc<D::File>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) sync_failed: AtomicBool,
}

/// Shared by the filler and the log.
pub(crate) struct Progress {
    pub(crate) sequence: u64,
    mark: Mutex<Mark>,
}

struct Mark {
    /// Everything below is filled.
    filled: u64,
    /// Where the filler will stop.
    up_to: u64,
}

/// What one fill and sync covers. A sync of the same file by others waits for this much at most.
const CHUNK_BYTES: u64 = 512 << 10;

/// The first step of a log: an idle partition takes no more than this.
pub(crate) const STEP_BYTES_MIN: u64 = 16 << 10;
/// The largest step.
pub(crate) const STEP_BYTES_MAX: u64 = 4 << 20;

impl<D: Disk> Allocation<D> {
    /// Fills, and syncs what it filled so that the next sync of entries does not have to.
    ///
    /// # Errors
    /// `StorageFull` among others. What was filled so far stays useful.
    pub fn run(&self) -> io::Result<()> {
        while self.progress.fill_chunk(|from, up_to| self.file.allocate(from, up_to))? {
            self.file.sync_data().inspect_err(|_| self.sync_failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    }

    /// Whether it was a sync that failed: of entries, too, perhaps. Stop the process.
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Relaxed)
    }
}

impl Progress {
    pub(crate) fn new(sequence: u64, from: u64, up_to: u64) -> Arc<Self> {
        Arc::new(Self { sequence, mark: Mutex::new(Mark { filled: from, up_to }) })
    }

    /// How far the file is filled.
    pub(crate) fn filled(&self) -> u64 {
        self.mark.lock().filled
    }

    /// Makes the filler stop where it is, waiting for the chunk under way; says how far it came.
    pub(crate) fn stop(&self) -> u64 {
        let mut mark = self.mark.lock();
        mark.up_to = mark.filled;
        mark.filled
    }

    /// Fills the next chunk while holding the lock; `false` when there is nothing left to fill.
    fn fill_chunk(&self, fill: impl FnOnce(u64, u64) -> io::Result<()>) -> io::Result<bool> {
        let mut mark = self.mark.lock();
        if mark.filled >= mark.up_to {
            return Ok(false);
        }
        let chunk_end = mark.up_to.min(mark.filled + CHUNK_BYTES);
        fill(mark.filled, chunk_end)?;
        mark.filled = chunk_end;
        Ok(true)
    }
}

/// How long a file of `allocated` bytes should become next, so that at least `needed` fit: doubled, in steps of at
/// most [`STEP_BYTES_MAX`], not past `cap` unless an entry needs it, in whole pages.
pub(crate) fn next_length(allocated: u64, needed: u64, cap: u64) -> u64 {
    let step = allocated.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
    let wanted = if allocated == 0 { STEP_BYTES_MIN } else { allocated + step };
    whole_pages(wanted.min(cap).max(needed))
}

/// Rounds up to 4 KiB.
pub(crate) fn whole_pages(bytes: u64) -> u64 {
    bytes.div_ceil(4096) * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_in_doubling_steps_up_to_the_segment_size() {
        let mut lengths = vec![next_length(0, 64, 16 << 20)];
        while *lengths.last().unwrap() < 16 << 20 {
            lengths.push(next_length(*lengths.last().unwrap(), 0, 16 << 20));
        }
        let kib: Vec<u64> = lengths.iter().map(|length| length >> 10).collect();
        assert_eq!(kib, [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 12288, 16384]);
        assert_eq!(next_length(0, 64, 4096), 4096);
        assert_eq!(next_length(4096, 70_001, 4096), 73_728);
    }

    #[test]
    fn a_stopped_filler_writes_no_more() {
        let progress = Progress::new(1, 0, 3 * CHUNK_BYTES);
        assert!(progress.fill_chunk(|_, _| Ok(())).unwrap());
        assert_eq!(progress.stop(), CHUNK_BYTES);
        assert!(!progress.fill_chunk(|_, _| panic!("filled after the stop")).unwrap());
        assert_eq!(progress.filled(), CHUNK_BYTES);
    }
}
