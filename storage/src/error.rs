//! What can be wrong, one type for each question that a caller can ask.

use raftline_proto::entry::EntryError;
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use std::io;
use std::path::PathBuf;

/// Why a log was not opened. Nothing on the disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Bytes that were known to be durable are not there as they were written. They are not cut, because they may
    /// have been acknowledged: the file has to be put back.
    #[error(
        "{}: damaged at byte {at} (log position {position}, durable floor {floor}): {reason}. Nothing was cut. \
         Stop the broker, put the file back as it was, and start it; nothing builds a replica anew yet, and the others go \
         on as long as they are a majority",
        file.display()
    )]
    Corrupt {
        /// The segment file, or the directory where one is missing.
        file: PathBuf,
        /// The byte within the file.
        at: u64,
        /// The same place as a log position.
        position: Position,
        /// Everything below was known to be durable.
        floor: Position,
        /// What is wrong.
        reason: Damage,
    },
    /// Written by a newer Raftline.
    #[error("{}: {what} version {found} is newer than version {known} known here: run a newer Raftline", file.display())]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// What has the version: "segment format", "entry".
        what: &'static str,
        /// Its version.
        found: u16,
        /// The newest known here.
        known: u16,
    },
    /// The directory belongs to another group: it was moved or copied.
    #[error("{}: this segment belongs to group {found}, not to group {expected}: the directory was moved or mixed up", file.display())]
    WrongGroup {
        /// The file.
        file: PathBuf,
        /// The group that was asked for.
        expected: GroupId,
        /// The group that it names.
        found: GroupId,
    },
}

/// What is wrong with bytes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Not a valid entry.
    #[error("{0}")]
    Entry(EntryError),
    /// A valid entry in a newer layout.
    #[error("entry version {found} is newer than known here: run a newer Raftline")]
    NewerEntry {
        /// Its version.
        found: u8,
    },
    /// A valid entry of another group.
    #[error("an entry of group {found} where one of group {expected} belongs")]
    Group {
        /// Whose log this is.
        expected: GroupId,
        /// Whose entry it is.
        found: GroupId,
    },
    /// A valid entry from another place.
    #[error("entry {found} where entry {expected} belongs")]
    Index {
        /// The next index.
        expected: Index,
        /// The one found.
        found: Index,
    },
    /// Offsets that do not follow on.
    #[error("base offset {found} where {expected} follows")]
    Offset {
        /// The next offset.
        expected: Offset,
        /// The one found.
        found: Offset,
    },
    /// A term lower than the one before: left over from an older history.
    #[error("term {found} after term {previous}")]
    Term {
        /// The term of the entry before.
        previous: Term,
        /// The one found.
        found: Term,
    },
    /// Not a segment header.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// A segment that follows an entry which the log does not hold: one before it is missing or damaged.
    #[error("this segment follows entry {previous}, which the log does not hold")]
    Detached {
        /// The entry that it follows.
        previous: EntryId,
    },
    /// The log ends before the floor, and no file says why.
    #[error(
        "the log ends here, though more was durable: the rest was zeroed, or the next segment is missing"
    )]
    Missing,
}

impl From<EntryError> for Damage {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

/// Why bytes are not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file is too short, or its header was never written.
    #[error("the segment header was never written")]
    Absent,
    /// Not a segment.
    #[error("not a segment: magic {found:#010x}")]
    Magic {
        /// What stands in its place.
        found: u32,
    },
    /// The header is not as it was written.
    #[error("segment header checksum mismatch: {stored:08x} stored, {computed:08x} computed")]
    Crc {
        /// What it says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Written by a newer Raftline.
    #[error("segment format version {found} is newer than known here: run a newer Raftline")]
    Version {
        /// Its version.
        found: u16,
    },
    /// A field out of range.
    #[error("segment header field {0} is out of range")]
    Range(&'static str),
    /// A header that was written for another file.
    #[error("the header of segment {found} in the file of segment {expected}")]
    Sequence {
        /// What the file's name says.
        expected: u64,
        /// What the header says.
        found: u64,
    },
}

/// The log could not take what it was given, most often because the disk is full. It goes on as it was.
///
/// If a write failed half-way, refused entries may stand whole in the file. They are void as soon as another entry is
/// written; but a restart before that finds them, as it may find any entry that was never acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the log ends at entry {last}: {source}")]
pub struct AppendError {
    /// The last entry that the log really holds.
    pub last: EntryId,
    /// What the disk said.
    pub source: io::Error,
}

/// Why a log was not compacted. It is as it was, and the job's files are gone.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// Only what is durable is compacted.
    #[error(
        "compaction through entry {through} was asked for, but the log is durable through {durable} only"
    )]
    NotDurable {
        /// How far was asked for.
        through: Index,
        /// How far it is durable.
        durable: EntryId,
    },
    /// A job of this log is under way, or was finished and neither adopted nor dropped.
    #[error("a compaction of this log is under way")]
    Running,
    /// The job was told to stop.
    #[error("the compaction was cancelled")]
    Cancelled,
    /// The log was trimmed or began anew while the job was at it.
    #[error("{}: the log changed under its compaction", file.display())]
    Changed {
        /// The segment file that is gone, or another one now.
        file: PathBuf,
    },
    /// The disk failed, or is full.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("{}: damaged at byte {at} (log position {position}): {reason}", file.display())]
    Corrupt {
        /// The segment file.
        file: PathBuf,
        /// The byte within it.
        at: u64,
        /// The same place as a log position.
        position: Position,
        /// What is wrong.
        reason: Damage,
    },
}

/// Why the result of a compaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The disk would not. A leading part may have been taken; the log is whole. Compact again later.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A sync failed: stop the process.
    #[error("{}: {source}", file.display())]
    SyncFailed {
        /// The file or directory.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why entries were not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log starts later.
    #[error("the log starts after entry {previous} at offset {offset}: what was asked for was trimmed away")]
    Trimmed {
        /// The entry before the log's first.
        previous: EntryId,
        /// The offset of its first record.
        offset: Offset,
    },
    /// The file could not be opened: there are too few descriptors, most often. What it holds may be sound.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Bytes that were written cannot be read: the file is gone or was shortened, or a sector is bad.
    #[error("{}: bytes from {at} on (log position {position}) cannot be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The byte within the file.
        at: u64,
        /// The same place as a log position.
        position: Position,
        /// What the disk said.
        source: io::Error,
    },
    /// The bytes are not those that were written. They are not served.
    #[error("{}: damaged at byte {at} (log position {position}): {reason}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The byte within it.
        at: u64,
        /// The same place as a log position.
        position: Position,
        /// What is wrong.
        reason: Damage,
    },
}

impl ReadError {
    /// Whether the log has lost bytes that it held: no later read finds them either.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Trimmed { .. } | Self::Io { .. } => false,
            Self::Unreadable { .. } | Self::Corrupt { .. } => true,
        }
    }
}
