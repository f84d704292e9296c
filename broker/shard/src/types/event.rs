//! What happens to a shard.

#[cfg(doc)]
use super::Effect;
#[cfg(doc)]
use super::ProduceError;
use super::{
    CompactionFacts, CompactionRule, CoordinatorCommand, DeleteUpTo, DiskSpace, Durability, LivenessChange,
    OffsetQuery, OpenedGroup, Outlived, RequestId,
};
use crate::image::MetadataImage;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::entry::{BatchInfo, EntryInfo};
use raftline_proto::ids::{EntryId, GroupId, HardState, Index, NodeId, Offset, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::types::{LogStart, Message, ReplicateOutcome};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// The shard's deadline may have passed.
    Tick,
    /// A client wants a batch appended. The edge has validated it (checksum, counts, sizes).
    Produce {
        /// For the reply.
        request: RequestId,
        /// The partition's group.
        group: GroupId,
        /// Append only if this replica leads in this very term: for who decided by what was in the log in that term.
        in_term: Option<Term>,
        /// The batch's facts.
        batch: BatchInfo,
        /// The batch itself.
        payload: P,
        /// When to answer.
        durability: Durability,
        /// When to give up waiting for the quorum: answered [`ProduceError::TimedOut`], outcome unknown.
        deadline: Monotonic,
    },
    /// A client wants records.
    Fetch {
        /// For the reply.
        request: RequestId,
        /// The partition's group.
        group: GroupId,
        /// The first offset wanted.
        from: Offset,
        /// Answer once this much is there.
        bytes_min: u64,
        /// Answer with at most this much, but at least one whole batch.
        bytes_max: u64,
        /// Answer with what there is by then, be it nothing.
        deadline: Monotonic,
    },
    /// A client wants to know an offset.
    ListOffset {
        /// For the reply.
        request: RequestId,
        /// The partition's group.
        group: GroupId,
        /// Which.
        query: OffsetQuery,
    },
    /// A client wants the oldest records of a partition gone. Answered [`Reply::RecordsDeleted`] once a majority of the
    /// replicas knows; every replica follows.
    ///
    /// [`Reply::RecordsDeleted`]: super::Reply::RecordsDeleted
    DeleteRecords {
        /// For the reply.
        request: RequestId,
        /// The partition's group.
        group: GroupId,
        /// Which.
        up_to: DeleteUpTo,
        /// When to give up waiting for the commit.
        deadline: Monotonic,
    },
    /// A client, a tool or a broker wants something of the coordinator (group 0).
    Coordinate {
        /// For the reply.
        request: RequestId,
        /// What.
        command: CoordinatorCommand,
        /// When to give up waiting for the commit.
        deadline: Monotonic,
    },
    /// A client or tool wants a partition's state, as this node sees it.
    Describe {
        /// For the reply.
        request: RequestId,
        /// The group.
        group: GroupId,
    },
    /// An operator wants leadership of one group, or of all of this shard's groups (`None`), handed over.
    Transfer {
        /// For the reply, sent when the hand-over has begun.
        request: RequestId,
        /// One group, or all.
        group: Option<GroupId>,
        /// To whom; `None`: to the best placed.
        to: Option<NodeId>,
    },
    /// A peer's message to one group. The transport has checked identity; entries' checksums are verified.
    Peer {
        /// Whose.
        from: NodeId,
        /// To which group.
        group: GroupId,
        /// What.
        message: Message,
        /// The entries beside an append; empty otherwise.
        entries: Vec<EntryInfo>,
        /// Their encoded bytes, back to back.
        payload: Option<P>,
    },
    /// What this node's pulse ([`crate::pulse::Pulse`]) found out about a peer: to every shard.
    Liveness {
        /// The peer.
        peer: NodeId,
        /// What was found.
        change: LivenessChange,
    },
    /// Answer to [`Effect::Open`], after all its [`Event::Replay`]s.
    Opened {
        /// The group.
        group: GroupId,
        /// What was found.
        recovered: OpenedGroup,
    },
    /// Entries found in the log while a group opens, in order; any number of times before [`Event::Opened`].
    Replay {
        /// The group.
        group: GroupId,
        /// As in [`OpenedGroup`]: entries up to it are applied at once and not kept.
        commit_hint: Index,
        /// The next entries.
        entries: Vec<EntryInfo>,
    },
    /// The group could not be opened, or its log failed: it stays closed and says so.
    Failed {
        /// The group.
        group: GroupId,
        /// Why, for people.
        reason: String,
    },
    /// A sync finished: the group's log, as it is now, is durable through this entry.
    LogDurable {
        /// The group.
        group: GroupId,
        /// The last durable entry.
        last: EntryId,
    },
    /// A sync finished: this hard state is durable.
    HardStateDurable {
        /// The group.
        group: GroupId,
        /// What was saved.
        hard_state: HardState,
    },
    /// Answer to [`Effect::Replicate`].
    Replicated {
        /// The group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// The term it was ordered in.
        term: Term,
        /// The first entry asked for.
        from: Index,
        /// One past the last that left.
        up_to: Index,
        /// Size of what left.
        bytes: u64,
        /// What became of it.
        outcome: ReplicateOutcome,
    },
    /// The disk refused an append (full): the log ends at `last`.
    AppendFailed {
        /// The group.
        group: GroupId,
        /// The last entry that the log really holds.
        last: EntryId,
        /// The offset after its last record.
        next_offset: Offset,
    },
    /// A client waits no longer for its fetch: it is answered with what there is, if it was not answered yet.
    Hurry {
        /// The group.
        group: GroupId,
        /// The fetch.
        request: RequestId,
    },
    /// Answer to [`Effect::Read`] where less than `bytes_min` was there and the read was not forced. The order comes
    /// back with it, so that the shard need not remember reads that the executor answers itself.
    ReadShort {
        /// The request.
        request: RequestId,
        /// The group.
        group: GroupId,
        /// As ordered.
        from: Offset,
        /// As ordered.
        up_to: Offset,
        /// As ordered.
        bytes_min: u64,
        /// As ordered.
        bytes_max: u64,
        /// As ordered.
        deadline: Monotonic,
        /// How much there is.
        bytes: u64,
    },
    /// Answer to [`Effect::Survey`].
    Surveyed {
        /// The group.
        group: GroupId,
        /// What was found.
        facts: CompactionFacts,
    },
    /// Answer to [`Effect::Compact`]: the log is compacted by this rule.
    Compacted {
        /// The group.
        group: GroupId,
        /// As ordered.
        rule: CompactionRule,
    },
    /// Answer to [`Effect::Compact`]: it could not be done now. The log is as it was.
    CompactionFailed {
        /// The group.
        group: GroupId,
    },
    /// Answer to [`Effect::Appraise`].
    Appraised {
        /// The group.
        group: GroupId,
        /// What retention no longer covers, if anything.
        outlived: Option<Outlived>,
    },
    /// Answer to [`Effect::Trim`]: the log begins later now.
    Trimmed {
        /// The group.
        group: GroupId,
        /// Where it begins.
        start: LogStart,
    },
    /// Answer to [`Effect::Trim`]: the entries below would have gone but for `kept_from`.
    TrimHeld {
        /// The group.
        group: GroupId,
        /// The first entry that would have been left.
        up_to: Index,
    },
    /// Free space on the data directory's disk crossed the reserve.
    DiskSpace(DiskSpace),
    /// Shard 0 published a new image (sent to the other shards).
    Image(Arc<MetadataImage>),
    /// The process is to stop: hand leaderships over, refuse new writes.
    Drain,
}
