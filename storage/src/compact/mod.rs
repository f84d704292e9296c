//! Compaction: of the records at or below a point of the log, each key's last one is kept (docs/decisions/0007).
//!
//! [`Log::compaction`] makes a job of the sealed segments up to that point; [`Compaction::run`] does the slow work on any
//! thread, with files of its own; [`Log::adopt`] puts them in the place of the segments that they replace.
//!
//! In reading order: this file, `adopt`, `job` (what is read and written), `survey` (what there is to know of the log
//! beforehand), `keys`, `filter` (what becomes of an entry), `output` (the files made).

mod adopt;
mod filter;
mod job;
mod keys;
mod output;
mod survey;

use crate::disk::Disk;
use crate::error::{AppendError, CompactionError, Damage};
use crate::files::OpenFiles;
use crate::index::SparseIndex;
use crate::log::{Log, LogOptions};
use crate::segment::{Dirty, Segment, SegmentHeader};
use parking_lot::Mutex;
use raftline_proto::ids::{Index, Offset, Position};
use raftline_proto::time::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What to compact, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionRule {
    /// The compaction point: of the records of entries up to and with this one, each key's last one is kept.
    pub through: Index,
    /// Of those, tombstones below go, too. Must never be lower than for an earlier point.
    pub tombstones_before: Offset,
    /// What the table of keys may take, in bytes. Where it is too little the log is read several times.
    pub memory_bytes_max: u64,
}

/// How much of a log is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionFacts {
    /// The last compaction point; 0 if there was none, or nothing of that part is left.
    pub clean_through: Index,
    /// The offset below which tombstones went with it.
    pub tombstones_before: Offset,
    /// The size of the entries at or below that point.
    pub clean_bytes: u64,
    /// The size of those above.
    pub dirty_bytes: u64,
    /// The time of the first batch above: the greatest in it. Not always known; `None` if there is no batch.
    pub dirty_since: Option<Timestamp>,
}

/// A job: segments to be rewritten. Run it on any thread, then give the result to [`Log::adopt`]. Dropping it, or its
/// result, removes the files that it made.
pub struct Compaction<D: Disk> {
    files: Arc<TempFiles<D>>,
    options: LogOptions,
    rule: CompactionRule,
    /// What the log was compacted by before.
    before: (Index, Offset),
    /// What is to be rewritten, in log order.
    pieces: Vec<Piece>,
    cancelled: Arc<AtomicBool>,
}

/// The result of a job: files that are whole and synced, and have other names than segments.
pub struct Compacted<D: Disk> {
    files: Arc<TempFiles<D>>,
    /// In log order.
    pieces: Vec<(Made, PathBuf)>,
}

/// A file to be rewritten: a segment of the log, or one that an earlier round has made.
struct Piece {
    header: SegmentHeader,
    file: PathBuf,
    up_to: Index,
    end: u64,
    next_offset: Offset,
    end_position: Position,
    time_first: Option<Timestamp>,
    time_max: Option<Timestamp>,
    /// The segments of the log that it stands for.
    replaced: Vec<Replaced>,
    /// Of a file that was made: what the log will want to know of it.
    made: Option<(SparseIndex, Dirty)>,
}

/// A segment as it was when the job began. It must be the same when its successor takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Replaced {
    sequence: u64,
    up_to: Index,
    end: u64,
}

/// A segment that was made.
struct Made {
    segment: Segment,
    replaced: Vec<Replaced>,
}

/// The files of a job. Removed when nobody wants them any more.
pub(crate) struct TempFiles<D: Disk> {
    pub(crate) disk: D,
    dir: PathBuf,
    paths: Mutex<Vec<PathBuf>>,
}

impl<D: Disk> Log<D> {
    /// A job that compacts the log by `rule`. Seals the last segment if entries of it are concerned. `None`, without any
    /// work, if the log is compacted as far already.
    ///
    /// # Errors
    /// [`CompactionError::NotDurable`], [`CompactionError::Running`], or [`CompactionError::Io`] if the last segment
    /// could not be sealed.
    pub fn compaction(&mut self, rule: CompactionRule) -> Result<Option<Compaction<D>>, CompactionError> {
        let before = self.clean();
        let is_clean = (rule.through, rule.tombstones_before) <= before;
        if is_clean || rule.through <= self.start.0.index {
            return Ok(None);
        }
        if rule.through > self.durability.last.index {
            return Err(CompactionError::NotDurable { through: rule.through, durable: self.durability.last });
        }
        if self.compacting.strong_count() > 0 {
            return Err(CompactionError::Running);
        }
        self.seal(rule.through)
            .map_err(|error| CompactionError::Io { file: self.files.dir.clone(), source: error.source })?;
        let Some(last) = self.segment_of(rule.through) else { return Ok(None) };
        let files = Arc::new(TempFiles {
            disk: self.files.disk.clone(),
            dir: self.files.dir.clone(),
            paths: Mutex::new(Vec::new()),
        });
        self.compacting = Arc::downgrade(&files);
        let piece = |segment: &Segment| Piece::of(segment, self.files.path(segment.header.sequence));
        Ok(Some(Compaction {
            files,
            options: self.options,
            rule,
            before,
            pieces: self.segments[..=last].iter().map(piece).collect(),
            cancelled: Arc::new(AtomicBool::new(false)),
        }))
    }

    /// How much of the log is compacted. Known after a restart, too.
    #[must_use]
    pub fn compaction_facts(&self) -> CompactionFacts {
        let (clean_through, tombstones_before) = self.clean();
        let mut facts = CompactionFacts { clean_through, tombstones_before, ..CompactionFacts::default() };
        for segment in &self.segments {
            let bytes = segment.end - segment.header.entries_at();
            let clean = if segment.up_to <= clean_through.next() {
                bytes
            } else if segment.base_index() > clean_through {
                0
            } else {
                segment.dirty.at.saturating_sub(segment.header.entries_at()).min(bytes)
            };
            facts.clean_bytes += clean;
            facts.dirty_bytes += bytes - clean;
            if segment.up_to > clean_through.next() && facts.dirty_since.is_none() {
                let time = segment.dirty.time.map(|(_, time)| time);
                let is_compacted = segment.header.compacted.is_some();
                facts.dirty_since = if is_compacted { time } else { segment.index.time_first() };
            }
        }
        facts
    }

    /// The last compaction point that some segment knows of, and the tombstones' bound with it.
    pub(crate) fn clean(&self) -> (Index, Offset) {
        let ranges = self.segments.iter().filter_map(|segment| segment.header.compacted);
        ranges.map(|range| (range.clean_through, range.tombstones_before)).max().unwrap_or_default()
    }

    /// Opens a new segment if the last one holds entries at or below `through`.
    fn seal(&mut self, through: Index) -> Result<(), AppendError> {
        let concerned = self.segments.last().is_some_and(|active| active.base_index() <= through);
        if !concerned {
            return Ok(());
        }
        self.open_segment(self.segments.len(), self.last(), self.next_offset())
            .map_err(|source| AppendError { last: self.last(), source })
    }
}

impl<D: Disk> Compaction<D> {
    /// Set to true, it stops the job soon: at the next batch.
    #[must_use]
    pub fn canceller(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }
}

impl Piece {
    fn of(segment: &Segment, file: PathBuf) -> Self {
        Self {
            header: segment.header,
            file,
            up_to: segment.up_to,
            end: segment.end,
            next_offset: segment.next_offset,
            end_position: segment.end_position(),
            time_first: segment.index.time_first(),
            time_max: segment.index.time_max(),
            replaced: vec![Replaced::of(segment)],
            made: None,
        }
    }

    /// The file and the segment in it, if the job has made it.
    fn into_made(self) -> Option<(Made, PathBuf)> {
        let (index, dirty) = self.made?;
        let segment = Segment {
            header: self.header,
            up_to: self.up_to,
            end: self.end,
            next_offset: self.next_offset,
            written: self.end,
            allocated: self.end,
            index,
            dirty,
        };
        Some((Made { segment, replaced: self.replaced }, self.file))
    }

    fn changed(&self) -> CompactionError {
        CompactionError::Changed { file: self.file.clone() }
    }

    fn corrupt(&self, at: u64, reason: Damage) -> CompactionError {
        let file = self.file.clone();
        CompactionError::Corrupt { file, at, position: self.header.position(at), reason }
    }

    /// Whether it holds an entry.
    fn holds(&self, index: Index) -> bool {
        self.header.base_index() <= index && index < self.up_to
    }
}

impl Replaced {
    fn of(segment: &Segment) -> Self {
        Self { sequence: segment.header.sequence, up_to: segment.up_to, end: segment.end }
    }
}

impl<D: Disk> TempFiles<D> {
    /// A path for the file that a round makes to begin with segment `sequence`.
    fn path(&self, sequence: u64, round: u32) -> PathBuf {
        self.dir.join(format!("{sequence:016x}.{round}{SUFFIX}"))
    }

    /// Creates a file, in place of what an earlier job may have left under that name.
    fn create(&self, path: &Path) -> io::Result<Arc<D::File>> {
        self.paths.lock().push(path.to_path_buf());
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.disk.create(path)
    }

    /// The file is gone, or is another's now.
    fn forget(&self, path: &Path) {
        self.paths.lock().retain(|held| held != path);
    }

    /// Removes a file that is not wanted any more. What cannot be removed goes at the next start.
    fn remove(&self, path: &Path) {
        self.forget(path);
        let _ = self.disk.remove(path);
    }
}

impl<D: Disk> Drop for TempFiles<D> {
    fn drop(&mut self) {
        for path in self.paths.lock().drain(..) {
            let _ = self.disk.remove(&path);
        }
    }
}

/// Removes the files of jobs that a crash cut short.
pub(crate) fn remove_leftovers<D: Disk>(files: &OpenFiles<D>) -> io::Result<()> {
    let names = match files.disk.list(&files.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names.iter().filter(|name| name.ends_with(SUFFIX)) {
        files.disk.remove(&files.dir.join(name))?;
    }
    Ok(())
}

/// What files of a job are named by, so that they are no segments.
const SUFFIX: &str = ".compacting";
