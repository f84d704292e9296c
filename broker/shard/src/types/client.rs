//! What clients ask of a partition, and what they are told.

use super::{CoordinatorError, CoordinatorReply};
#[cfg(doc)]
use super::{Effect, Event};
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::ids::{
    EntryId, GroupId, Index, Membership, NodeId, Offset, PartitionIndex, Term, TopicId,
};
use raftline_proto::time::Timestamp;
use raftline_raft::types::Role;

/// Names a client's request until its [`Effect::Reply`]. The driver makes them, never twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// When a produce is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When a majority has it on stable storage: the default. Survives any minority and a power cut of all.
    Quorum,
    /// When a majority has it in memory. A power cut of a majority may lose what was acknowledged last.
    Memory,
    /// When the leader has it on stable storage. May be lost when the leader is.
    Leader,
    /// As soon as it has an offset. May be lost with the leader's process.
    None,
}

/// Up to where records are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// The records below this offset go.
    Offset(Offset),
    /// All that is committed when the leader hears of it goes.
    HighWatermark,
}

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first offset still there.
    Earliest,
    /// The high watermark: the offset the next committed record will have.
    Latest,
    /// The first offset whose timestamp is this or later.
    AtOrAfter(Timestamp),
    /// The first offset with the greatest timestamp there is.
    MaxTimestamp,
    /// The offset after the last record of a term, or of the last one before it that wrote anything.
    EndOfTerm(Term),
}

/// Which offset is looked for in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindBy {
    /// The first one of this time or later.
    AtOrAfter(Timestamp),
    /// The first one of the latest time.
    MaxTimestamp,
    /// The one after the last of a term, or of the last term before it that wrote anything.
    EndOfTerm(Term),
}

/// Answers to requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Event::Produce`].
    Produced(Result<Produced, ProduceError>),
    /// To [`Event::Fetch`], where nothing has to be read; data replies are made by the executor from [`Effect::Read`].
    Fetched(Result<EmptyFetch, FetchError>),
    /// To [`Event::ListOffset`] for the ends.
    Offset(Result<Offset, FetchError>),
    /// To [`Event::Coordinate`].
    Coordinated(Result<CoordinatorReply, CoordinatorError>),
    /// To [`Event::DeleteRecords`]: the first offset that is left.
    RecordsDeleted(Result<Offset, DeleteError>),
    /// To [`Event::Describe`].
    Described(Option<GroupDescription>),
    /// To [`Event::Transfer`]: how many hand-overs have begun.
    Transferring(usize),
}

/// A produce that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The first record's offset.
    pub base_offset: Offset,
    /// The partition's first offset when it was appended, or found.
    pub start_offset: Offset,
    /// The greatest timestamp of the batch, as it is in the log: for a duplicate, of the one that was there.
    pub max_timestamp: Timestamp,
    /// The entry's term; for a duplicate, the term in which it was found.
    pub term: Term,
    /// The replicas known to have it on stable storage now.
    pub durable_on: Vec<NodeId>,
    /// Whether it was there already: a retry of an idempotent producer.
    pub duplicate: bool,
}

/// Why a produce was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProduceError {
    /// The group is not on this shard.
    UnknownGroup,
    /// Another node leads, or none. Not appended here.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
        /// This replica's term.
        term: Term,
    },
    /// Leadership was lost before the quorum answered: the outcome is unknown; an idempotent retry is safe.
    LeadershipLost {
        /// Who leads now, if known.
        leader: Option<NodeId>,
    },
    /// The quorum did not answer in time: the outcome is unknown; an idempotent retry is safe.
    TimedOut,
    /// Too much is waiting already. Not appended; try again later.
    Busy,
    /// The disk is full. Not appended; try again when space is back.
    DiskFull {
        /// What is free.
        free_bytes: u64,
        /// What has to be kept free.
        reserve_bytes: u64,
    },
    /// The batch is larger than the topic takes.
    TooLarge {
        /// The batch.
        batch_bytes: u32,
        /// The topic's `max.message.bytes`.
        bytes_max: u32,
    },
    /// The producer's sequence numbers have a gap, or go back further than the last five batches.
    OutOfOrderSequence {
        /// The next one expected.
        expected: u32,
        /// The one sent.
        found: u32,
    },
    /// A later instance of the producer has taken over.
    ProducerFenced {
        /// The latest epoch.
        current: u16,
        /// The one sent.
        found: u16,
    },
    /// The process is stopping. Not appended.
    Stopping,
}

/// A fetch answered without records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyFetch {
    /// The first offset still there.
    pub start_offset: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
}

/// Why records or an offset were not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The group is not on this shard.
    UnknownGroup,
    /// Another node leads, or none.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
        /// This replica's term.
        term: Term,
    },
    /// The offset is below the first, or beyond the log's end while a majority follows this leader.
    OffsetOutOfRange {
        /// What was asked for.
        asked: Offset,
        /// The first there.
        start_offset: Offset,
        /// One past the last committed.
        high_watermark: Offset,
    },
    /// This replica leads, and does not know yet how much is committed: nothing it could say now is sure.
    NotYet,
    /// The end of a term was asked for that has not begun.
    UnknownTerm {
        /// What was asked for.
        asked: Term,
        /// The leader's.
        term: Term,
    },
    /// Too many fetches wait already.
    Busy,
    /// The group's log failed; the text says why.
    Storage(String),
}

/// Why records were not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteError {
    /// The group is not on this shard.
    UnknownGroup,
    /// Another node leads, or none. Nothing was deleted.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
        /// This replica's term.
        term: Term,
    },
    /// The offset is above the high watermark. Nothing was deleted.
    OffsetOutOfRange {
        /// What was asked for.
        asked: Offset,
        /// One past the last committed.
        high_watermark: Offset,
    },
    /// The topic's `cleanup.policy` is `compact` alone: its records go when a later one has their key.
    CompactedOnly,
    /// Leadership was lost before the quorum answered: the outcome is unknown; asking again is safe.
    LeadershipLost {
        /// Who leads now, if known.
        leader: Option<NodeId>,
    },
    /// The quorum did not answer in time: the outcome is unknown; asking again is safe.
    TimedOut,
    /// Too much is waiting already. Nothing was deleted; try again later.
    Busy,
    /// The process is stopping. Nothing was deleted.
    Stopping,
}

/// A group's state on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupId,
    /// Topic and partition; `None` for the coordinator.
    pub partition: Option<(TopicId, PartitionIndex)>,
    /// This replica's role.
    pub role: Role,
    /// The current term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// The membership in force.
    pub membership: Membership,
    /// The last entry here.
    pub last: EntryId,
    /// Committed through here.
    pub commit: Index,
    /// On stable storage here through this entry.
    pub durable: Index,
    /// The first offset in the log.
    pub start_offset: Offset,
    /// One past the last committed record.
    pub high_watermark: Offset,
    /// One past the last appended record.
    pub end_offset: Offset,
    /// What the leader knows of its followers; empty elsewhere.
    pub followers: Vec<FollowerDescription>,
    /// Why the group is closed here, if it failed.
    pub failure: Option<String>,
}

/// A leader's view of one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerDescription {
    /// Which node.
    pub node: NodeId,
    /// Known durable there through this entry.
    pub matched: Index,
    /// Whether its node answers.
    pub alive: bool,
}
