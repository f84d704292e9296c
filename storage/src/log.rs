//! One group's log: a directory of segments, written at the end, read anywhere.
//!
//! Entries are staged by [`Log::append`] and written together by [`Log::write`]. Reads see what was written. Positions
//! of bytes only grow, and a byte once written never changes: truncation seals the segment and opens a new one.

use crate::allocate::Progress;
use crate::compact::{self, TempFiles};
use crate::cut::Owed;
use crate::disk::{DirHold, Disk, DiskFile};
use crate::error::{AppendError, OpenError};
use crate::files::OpenFiles;
use crate::recover::{self, Recovery};
use crate::room::{NEW_LOG_DIRS, grow};
use crate::segment::{Segment, SegmentStart};
use crate::staged::Staged;
use crate::trim::{Beginning, LetGo};
use bytes::Bytes;
use raftline_proto::entry::EntryHeader;
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// How a log is stored. May change while the log is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is sealed once the next entry would take it past this; a single larger entry gets a segment of its
    /// own.
    pub segment_bytes: u64,
    /// A segment is sealed before a batch whose time is more than this many milliseconds after that of the segment's
    /// first one, by the records' own times. So retention by age finds segments to delete in a log that grows slowly.
    pub segment_ms: i64,
}

/// One group's log. Owned by one thread; tickets, allocations and slices may go to others.
pub struct Log<D: Disk> {
    pub(crate) group: GroupId,
    pub(crate) options: LogOptions,
    pub(crate) files: OpenFiles<D>,
    /// The log as it is now, ascending. Empty until the first write.
    pub(crate) segments: Vec<Segment>,
    /// Whether the last segment takes no more: what follows its last entry is not all zeros.
    pub(crate) sealed: bool,
    pub(crate) next_sequence: u64,
    /// The entry before the first, and the first record's offset.
    pub(crate) start: (EntryId, Offset),
    /// The first entry of each term. Invariant: strictly ascending in term and index.
    pub(crate) terms: Vec<EntryId>,
    pub(crate) staged: Staged,
    pub(crate) durability: Durability<D>,
    /// It was cut, or thrown away, and there was no room for the segment that goes on from there.
    pub(crate) owed: Option<Owed>,
    /// The log is about to begin later.
    pub(crate) beginning: Option<Beginning<D>>,
    /// What it let go of last, until that is asked for.
    pub(crate) let_go: Option<LetGo>,
    /// The filler at work on the last segment.
    pub(crate) filling: Option<Arc<Progress>>,
    recovery: Recovery,
    pub(crate) read_only: bool,
    /// The files of the compaction under way.
    pub(crate) compacting: Weak<TempFiles<D>>,
}

/// What is durable, and what has to be synced for more to be.
pub(crate) struct Durability<D: Disk> {
    /// The last entry of the present view that is on stable storage.
    pub(crate) last: EntryId,
    /// The highest position for which a sync was confirmed.
    pub(crate) through: Position,
    /// Entries not known durable yet, each with the position after it. Invariant: ascending, all after `last`.
    pub(crate) marks: VecDeque<(Position, EntryId)>,
    /// Files written since their last confirmed sync, with the position up to which.
    pub(crate) files: Vec<(Arc<D::File>, Position)>,
    /// Directories with new names, until a sync through the position is confirmed.
    pub(crate) dirs: Vec<(PathBuf, Position, DirHold)>,
    /// How far the last ticket went, and how much a ticket covers as a rule: a mean over about the last eight.
    pub(crate) ticketed: Position,
    pub(crate) sync_bytes_mean: u64,
    /// Segments that are not part of the log any more, to be removed once the position is durable: that of the header
    /// of the segment that took their place.
    pub(crate) dead: Vec<(u64, Position)>,
    /// How many tickets went out.
    pub(crate) tickets: u64,
}

impl<D: Disk> Log<D> {
    /// Opens the log of `group` in `dir`; there need not be one. `floor` is the highest position known durable, from
    /// [`crate::StateFile`]. What is above it and damaged is a torn tail, and cut. When this returns, all of the log
    /// is durable.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if anything below the floor is not as it was written; nothing is changed then.
    pub fn open(
        disk: D,
        dir: &Path,
        group: GroupId,
        options: LogOptions,
        floor: Position,
    ) -> Result<Self, OpenError> {
        let (mut log, dead) = Self::scan(disk, dir, group, options, floor)?;
        log.settle(floor).map_err(|source| OpenError::Io { file: dir.to_path_buf(), source })?;
        compact::remove_leftovers(&log.files)
            .map_err(|source| OpenError::Io { file: dir.to_path_buf(), source })?;
        if !dead.is_empty() {
            log.settle_start().map_err(|source| OpenError::Io { file: dir.to_path_buf(), source })?;
        }
        // Only now: what takes their place is durable.
        for sequence in &dead {
            let file = log.files.path(*sequence);
            log.files.remove(*sequence).map_err(|source| OpenError::Io { file, source })?;
        }
        if !dead.is_empty() {
            // And gone for good before anything is appended. Else a power cut could bring one back that fits again:
            // 1. segment 33 goes on after entry 2.272; that entry is lost in a power cut, so 33 is dead;
            // 2. its name is removed, not durably; a leader sends 2.272 again and 4.273 after it; both are synced;
            // 3. the next power cut undoes the removal: 33 goes on after 2.272, and 4.273 is cut though acknowledged.
            log.files
                .disk
                .sync_dir(dir)
                .map_err(|source| OpenError::Io { file: dir.to_path_buf(), source })?;
        }
        log.files.close();
        Ok(log)
    }

    /// Opens the log for reading only: changes nothing, cuts nothing, syncs nothing. For offline tools, and for
    /// checkers that look into a disk's durable image.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn inspect(disk: D, dir: &Path, group: GroupId, floor: Position) -> Result<Self, OpenError> {
        let options = LogOptions { segment_bytes: u64::MAX, segment_ms: i64::MAX };
        let (mut log, _) = Self::scan(disk, dir, group, options, floor)?;
        log.read_only = true;
        Ok(log)
    }

    fn scan(
        disk: D,
        dir: &Path,
        group: GroupId,
        options: LogOptions,
        floor: Position,
    ) -> Result<(Self, Vec<u64>), OpenError> {
        let recovered = recover::recover(&disk, dir, group, floor)?;
        let start = recovered
            .segments
            .first()
            .map_or((EntryId::ZERO, Offset::ZERO), |first| (first.header.previous, first.header.base_offset));
        let mut log = Self {
            group,
            options,
            files: OpenFiles::new(disk, dir.to_path_buf()),
            segments: recovered.segments,
            sealed: !recovered.tail_is_zero,
            next_sequence: recovered.next_sequence,
            start,
            terms: recovered.terms,
            staged: Staged::default(),
            durability: Durability {
                last: EntryId::ZERO,
                through: Position::ZERO,
                marks: VecDeque::new(),
                files: Vec::new(),
                dirs: Vec::new(),
                ticketed: Position::ZERO,
                sync_bytes_mean: 0,
                dead: Vec::new(),
                tickets: 0,
            },
            owed: None,
            beginning: None,
            let_go: None,
            filling: None,
            recovery: recovered.facts,
            read_only: false,
            compacting: Weak::new(),
        };
        log.durability.last = log.last();
        log.durability.through = log.end_position();
        log.durability.ticketed = log.durability.through;
        Ok((log, recovered.dead))
    }

    /// Makes durable what was found above the floor. It was read from the page cache, perhaps: the process that wrote
    /// it may have been killed before its sync, or after a sync that failed and left pages marked clean that are not
    /// on the disk. So the bytes are written once more, then synced. Little, as a rule: the floor is noted about
    /// once a second.
    fn settle(&mut self, floor: Position) -> io::Result<()> {
        let is_compacted = |segment: &Segment| segment.header.compacted.is_some();
        if self.end_position() <= floor && !self.segments.iter().any(is_compacted) {
            return Ok(());
        }
        // A compacted segment was synced before it got its name, but its name may not have been. It has to be before the
        // files that it replaces go, and before any later one takes another's place.
        let unsettled =
            |segment: &&Segment| segment.end_position() > floor && segment.header.compacted.is_none();
        for segment in self.segments.iter().filter(unsettled) {
            let file = self.files.get(segment.header.sequence)?;
            let from = floor.since(segment.header.base_position);
            let mut reader = recover::Reader::new(&*file, segment.end);
            let mut at = from;
            while at < segment.end {
                let count = (segment.end - at).min(SETTLE_BYTES);
                let bytes = reader.bytes(at, count)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                file.write_at(&[IoSlice::new(bytes)], at)?;
                at += count;
            }
            self.recovery.bytes_settled += segment.end - from;
            file.sync_data()?;
        }
        let dir = self.files.dir.clone();
        let depth = if floor == Position::ZERO { NEW_LOG_DIRS } else { 1 };
        dir.ancestors().take(depth).try_for_each(|dir| self.files.disk.sync_dir(dir))
    }

    /// Makes durable that the log begins with its first segment. That was read from the page cache, perhaps:
    /// 1. retention says so in the segment's header, and the sync of that fails: the process stops;
    /// 2. the next start believes it, and removes the segments before;
    /// 3. a power cut undoes the header: the segment goes on after entries that are nowhere.
    fn settle_start(&mut self) -> io::Result<()> {
        let Some(header) = self.segments.first().map(|first| first.header) else { return Ok(()) };
        if header.start != SegmentStart::Begins {
            return Ok(());
        }
        let file = self.files.get(header.sequence)?;
        file.write_at(&[IoSlice::new(&header.encode())], 0)?;
        file.sync_data()
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Whose log this is.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The entry before the first one, and the offset of the first record.
    #[must_use]
    pub fn start(&self) -> (EntryId, Offset) {
        self.start
    }

    /// The last entry written; that before the first, if there is none. Staged ones do not count yet.
    #[must_use]
    pub fn last(&self) -> EntryId {
        let index = self.segments.last().map_or(self.start.0.index, |last| Index(last.up_to.0 - 1));
        self.id_of(index).unwrap_or(self.start.0)
    }

    /// The offset after the last record written.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.segments.last().map_or(self.start.1, |last| last.next_offset)
    }

    /// The first entry of each term in the log, ascending.
    #[must_use]
    pub fn term_starts(&self) -> Vec<EntryId> {
        self.terms.clone()
    }

    /// The term of an entry; `None` if the log does not hold it. Answers for the entry before the first, too.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.id_of(index).map(|id| id.term)
    }

    /// Whether the log holds this very entry.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        self.id_of(id.index) == Some(id)
    }

    fn id_of(&self, index: Index) -> Option<EntryId> {
        if index == self.start.0.index {
            return Some(self.start.0);
        }
        let up_to = self.segments.last().map_or(Index::ZERO, |last| last.up_to);
        if index < self.start.0.index || index >= up_to {
            return None;
        }
        let count = self.terms.partition_point(|start| start.index <= index);
        count.checked_sub(1).map(|nth| EntryId::new(self.terms[nth].term, index))
    }

    /// The size of all entries, with the segments' headers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The last entry of the present log that is on stable storage.
    #[must_use]
    pub fn durable(&self) -> EntryId {
        self.durability.last
    }

    /// The highest position known durable, to be noted as the next start's floor.
    #[must_use]
    pub fn durable_position(&self) -> Position {
        self.durability.through
    }

    /// Changes the options for segments still to be opened.
    pub fn configure(&mut self, options: LogOptions) {
        self.options = options;
    }

    /// From now on files that are no part of the log any more are not removed by it, but given out by [`Log::take_removed`]:
    /// unlinking may take long. Left behind, they are void, and removed by the next [`Log::open`].
    pub fn remove_later(&mut self) {
        self.files.remove_later();
    }

    /// Files that are to be removed. Their names are not used again.
    pub fn take_removed(&mut self) -> Vec<PathBuf> {
        self.files.take_removed()
    }

    /// Closes files and maps until they are needed again. For a group that has gone idle.
    pub fn rest(&mut self) {
        self.stop_filling();
        self.files.close();
    }

    /// Stages an entry, its payload in two parts that stand back to back (the second may be empty).
    ///
    /// # Panics
    /// If the entry does not follow on in group, index, offset and term, or the parts do not add up: bugs of the
    /// caller.
    pub fn append(&mut self, header: EntryHeader, payload: [Bytes; 2]) {
        self.assert_follows(&header);
        self.staged.push(header, payload);
    }

    /// Stages entries in a leader's encoding, byte for byte. The caller has verified their checksums.
    ///
    /// # Panics
    /// As [`Log::append`].
    pub fn append_encoded(&mut self, headers: &[EntryHeader], frames: Bytes) {
        let mut rest = frames;
        for header in headers {
            self.assert_follows(header);
            let bytes = usize::try_from(header.entry_bytes()).unwrap_or(usize::MAX);
            assert!(bytes <= rest.len(), "the frames end within entry {}", header.id);
            self.staged.push_encoded(*header, rest.split_to(bytes));
        }
        assert!(rest.is_empty(), "{} bytes after the last entry", rest.len());
    }

    fn assert_follows(&self, header: &EntryHeader) {
        let (last, offset) = self.staged.end().unwrap_or((self.last(), self.next_offset()));
        assert!(!self.read_only, "the log of group {} was opened for reading only", self.group);
        assert_eq!(header.group, self.group, "an entry of another group");
        assert_eq!(header.id.index, last.index.next(), "entry {} after entry {last}", header.id);
        assert_eq!(header.base_offset, offset, "the base offset of entry {} does not follow on", header.id);
        assert!(header.id.term >= last.term, "entry {} after entry {last}: the term falls", header.id);
    }

    /// Writes everything staged. It is readable then, and durable after the next sync.
    ///
    /// # Errors
    /// The disk is full, most often. The error names the last entry that the log holds; nothing is staged any more.
    pub fn write(&mut self) -> Result<(), AppendError> {
        while let Some((bytes, time_max, place)) = self.staged.first() {
            let written = self.make_room(bytes, time_max, place).and_then(|()| self.write_run());
            if let Err(source) = written {
                self.staged.clear();
                return Err(AppendError { last: self.last(), source });
            }
        }
        Ok(())
    }

    /// Writes as many staged entries as the last segment takes, at least one, in one call.
    fn write_run(&mut self) -> io::Result<()> {
        let LogOptions { segment_bytes, segment_ms } = self.options;
        let Some(active) = self.segments.last_mut() else { return Ok(()) };
        let room = segment_bytes.saturating_sub(active.end);
        let base_offset = active.header.base_offset;
        let run = self.staged.run(room, active.index.time_first(), segment_ms, base_offset);
        grow(&self.files, active, &mut self.filling, active.end + run.bytes, segment_bytes)?;
        let file = self.files.get(active.header.sequence)?;
        if let Err(error) = file.write_at(&self.staged.slices(&run), active.end) {
            // Some of the bytes may be there. Were they written over by other entries, what remains of them behind
            // those could be taken for entries by a later scan.
            self.sealed = true;
            active.written = active.end + run.bytes;
            return Err(error);
        }
        for (header, time_max) in self.staged.take(&run) {
            active.index.note(&header, active.end, time_max);
            if self.terms.last().is_none_or(|last| last.term != header.id.term) {
                self.terms.push(header.id);
            }
            active.end += header.entry_bytes();
            active.up_to = header.id.index.next();
            active.next_offset = header.next_offset();
        }
        active.written = active.end;
        let position = active.end_position();
        self.durability.note_written(&file, position);
        let last = self.last();
        self.durability.marks.push_back((position, last));
        Ok(())
    }

    /// The position after the last entry; after the last that there was, while a segment is owed.
    pub(crate) fn end_position(&self) -> Position {
        let owed = self.owed.as_ref().map_or(Position::ZERO, |owed| owed.end);
        self.segments.last().map_or(Position::ZERO, Segment::end_position).max(owed)
    }

    /// The position that nothing of the log reaches, dead bytes included.
    pub(crate) fn written_position(&self) -> Position {
        let owed = self.owed.as_ref().map_or(Position::ZERO, |owed| owed.written);
        self.segments.last().map_or(Position::ZERO, Segment::written_position).max(owed)
    }
}

/// How much is written again at once.
const SETTLE_BYTES: u64 = 256 << 10;
