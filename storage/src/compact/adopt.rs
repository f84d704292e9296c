//! Taking a job's segments into the log.
//!
//! They are taken in log order, and each has its name for good before the next one gets its own. Else a power cut could
//! bring back what a tombstone has deleted:
//! 1. segment 1 holds a key's value, segment 2 its tombstone, which is old enough to go;
//! 2. both are replaced, and of the two names only the second survives the power cut;
//! 3. the value is there, nothing says that it was deleted, and it is the key's last record for ever.

use super::{Compacted, CompactionFacts, Made, Replaced};
use crate::disk::{Disk, DiskFile};
use crate::error::AdoptError;
use crate::log::Log;
use raftline_proto::ids::Position;
use std::io::IoSlice;
use std::path::Path;

/// What to do with a segment that was made.
enum Fit {
    /// It stands for segments of the log from the `nth` on.
    Here { nth: usize },
    /// What it stands for was trimmed away.
    Trimmed,
    /// The log has changed: neither this one nor any later one can be taken.
    No,
}

impl<D: Disk> Log<D> {
    /// Takes a finished job's segments in place of those that they replace: renames them and syncs the directory, once
    /// for each. If the log was trimmed, truncated or begun anew meanwhile, it takes those that still fit, up to the
    /// first that does not; the facts say how far it is compacted now.
    ///
    /// # Errors
    /// [`AdoptError::Io`]: a leading part may have been taken. After [`AdoptError::SyncFailed`], stop the process.
    pub fn adopt(&mut self, done: Compacted<D>) -> Result<CompactionFacts, AdoptError> {
        let mut gone: Vec<u64> = Vec::new();
        let mut outcome = Ok(());
        for (mut made, path) in done.pieces {
            match self.fit(&made) {
                Fit::Trimmed => {}
                Fit::No => break,
                Fit::Here { nth } => {
                    outcome = self.put_in_place(nth, &mut made, &path);
                    if outcome.is_err() {
                        break;
                    }
                    done.files.forget(&path);
                    let kept = made.segment.header.sequence;
                    let others = made.replaced.iter().map(|replaced| replaced.sequence);
                    gone.extend(others.filter(|sequence| *sequence != kept));
                    self.segments.splice(nth..nth + made.replaced.len(), [made.segment]);
                }
            }
        }
        for sequence in gone {
            // One that cannot be removed now is void all the same, and tried again after the next sync.
            if self.files.remove(sequence).is_err() {
                self.durability.dead.push((sequence, Position::ZERO));
            }
        }
        outcome.map(|()| self.compaction_facts())
    }

    fn fit(&self, made: &Made) -> Fit {
        let sequence = made.segment.header.sequence;
        let Some(nth) = self.segments.iter().position(|segment| segment.header.sequence == sequence) else {
            let trimmed = made.segment.up_to <= self.start.0.index.next();
            return if trimmed { Fit::Trimmed } else { Fit::No };
        };
        let count = made.replaced.len();
        let now = self.segments[nth..].iter().take(count).map(Replaced::of);
        // The segment that the log is about to begin with says so on the disk: it stays, or another takes its very place.
        let begins_within = self.beginning.as_ref().is_some_and(|beginning| {
            beginning.sequence != sequence
                && made.replaced.iter().any(|replaced| replaced.sequence == beginning.sequence)
        });
        if begins_within {
            return Fit::No;
        }
        // Something must follow: what stands in their place is never written on.
        if now.eq(made.replaced.iter().copied()) && nth + count < self.segments.len() {
            Fit::Here { nth }
        } else {
            Fit::No
        }
    }

    /// Gives the file the name of the first segment that it replaces, durably.
    fn put_in_place(&self, nth: usize, made: &mut Made, path: &Path) -> Result<(), AdoptError> {
        let header = &mut made.segment.header;
        let name = self.files.path(header.sequence);
        let failed = |source| AdoptError::Io { file: path.to_path_buf(), source };
        let not_synced = |file: &Path| {
            let file = file.to_path_buf();
            move |source| AdoptError::SyncFailed { file, source }
        };
        // The log may have been trimmed up to here since the job began.
        let start = self.segments[nth].header.start;
        if header.start != start {
            let disk = &self.files.disk;
            let file = disk.open(path).map_err(failed)?;
            header.start = start;
            file.write_at(&[IoSlice::new(&header.encode())], 0).map_err(failed)?;
            file.sync_data().map_err(not_synced(path))?;
        }
        let _held = self.files.disk.hold_dir(&self.files.dir).map_err(failed)?;
        self.files.disk.rename(path, &name).map_err(failed)?;
        self.files.forget(header.sequence);
        self.files.disk.sync_dir(&self.files.dir).map_err(not_synced(&self.files.dir))
    }
}
