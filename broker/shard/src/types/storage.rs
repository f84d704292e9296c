//! What passes between a shard and its executor beside events and effects.

#[cfg(doc)]
use super::Effect;
use crate::pulse::Condition;
use alloc::vec::Vec;
use raftline_proto::command::TrimReason;
use raftline_proto::ids::{EntryId, HardState, Index, Offset};
use raftline_proto::time::Timestamp;
use raftline_raft::types::{Alarm, LogStart};

/// How a group's log is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is sealed once it has this many bytes,
    pub segment_bytes: u64,
    /// or before a batch that is more than this many milliseconds younger than its first one.
    pub segment_ms: i64,
}

/// What [`Effect::Open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedGroup {
    /// As saved.
    pub hard_state: HardState,
    /// An index known to be committed; zero if unknown.
    pub commit_hint: Index,
    /// Where the log starts.
    pub start: LogStart,
    /// The last entry; equal to `start.previous` if there is none.
    pub last: EntryId,
    /// The first entry of each term in the log.
    pub term_starts: Vec<EntryId>,
}

/// What a replica keeps of its log (docs/decisions/0007): all above `through`; of what is at or below, each key's last
/// record, unless that is a tombstone below `tombstones_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionRule {
    /// The compaction point.
    pub through: Index,
    /// Tombstones below go, too.
    pub tombstones_before: Offset,
}

/// What retention no longer covers of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// Records below this.
    pub below: Offset,
    /// Why.
    pub reason: TrimReason,
}

/// How much of a log is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionFacts {
    /// The size of what is.
    pub clean_bytes: u64,
    /// The size of what is not.
    pub dirty_bytes: u64,
    /// The time of the first batch that is not.
    pub dirty_since: Option<Timestamp>,
}

/// Whether there is room for writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSpace {
    /// Above the reserve.
    Enough,
    /// Below the reserve: produces are refused, everything else goes on.
    Low {
        /// What is free.
        free_bytes: u64,
        /// What has to be kept free.
        reserve_bytes: u64,
    },
}

/// What a node's pulse found out about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivenessChange {
    /// It answers.
    Up,
    /// It is silent, or its process is gone.
    Down,
    /// It restarted, or the connection was made anew.
    Reset,
    /// It is in another condition than before.
    Condition(Condition),
}

/// Events that cannot happen without a bug or a lying peer or disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardAlarm {
    /// From the engine.
    Raft(Alarm),
    /// An entry's base offset does not follow the one before.
    OffsetGap {
        /// The entry.
        entry: EntryId,
        /// What was expected.
        expected: Offset,
        /// What it carries.
        found: Offset,
    },
    /// A committed metadata record that cannot apply. Every replica skips it alike.
    RecordIgnored {
        /// The entry that carries it.
        entry: EntryId,
        /// Why.
        reason: &'static str,
    },
    /// An answer for a group, request or term that nothing asked for.
    Unexpected(&'static str),
}
