//! What a shard wants done.

#[cfg(doc)]
use super::Event;
use super::{CompactionRule, FindBy, LogConfig, Reply, RequestId, ShardAlarm};
use crate::image::MetadataImage;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::command::TrimReason;
use raftline_proto::entry::{EntryHeader, EntryInfo};
use raftline_proto::ids::{GroupId, HardState, Index, NodeId, Offset, Term};
use raftline_proto::time::{Monotonic, Timestamp};
use raftline_raft::types::{LogStart, Message, Role};

/// What to do, in order.
#[derive(Clone, Debug)]
pub enum Effect<P> {
    /// Open or create the group's log; answer with [`Event::Replay`]s and [`Event::Opened`], or [`Event::Failed`].
    Open {
        /// The group.
        group: GroupId,
        /// How to store it.
        config: LogConfig,
    },
    /// The group's storage settings changed.
    Configure {
        /// The group.
        group: GroupId,
        /// How to store it from now on.
        config: LogConfig,
    },
    /// Close the group's log and delete its directory: its topic was deleted by a committed decision.
    Delete {
        /// The group.
        group: GroupId,
    },
    /// Save the hard state with the next sync; answer [`Event::HardStateDurable`].
    SaveHardState {
        /// The group.
        group: GroupId,
        /// What to save.
        hard_state: HardState,
    },
    /// Save the commit index with some later sync, as a hint for the next start. No answer.
    NoteCommit {
        /// The group.
        group: GroupId,
        /// Committed through here.
        commit: Index,
    },
    /// Append one entry as the leader: stamp base offset and leader epoch into a data payload, encode the others
    /// from their body. Answer [`Event::LogDurable`] after the sync, or [`Event::AppendFailed`].
    Append {
        /// The entry; the header names the group.
        entry: EntryInfo,
        /// The record batch of a data entry.
        payload: Option<P>,
    },
    /// Append a leader's entries, byte for byte. Answers as above.
    Accept {
        /// The group.
        group: GroupId,
        /// The headers of the entries to append.
        entries: Vec<EntryHeader>,
        /// How many bytes of the payload come before them.
        skip_bytes: u64,
        /// The encoded entries.
        payload: P,
    },
    /// Cut the log before this entry.
    Truncate {
        /// The group.
        group: GroupId,
        /// The first entry to go.
        from: Index,
    },
    /// Throw the log away and begin anew.
    Reset {
        /// The group.
        group: GroupId,
        /// Where the new one starts.
        start: LogStart,
    },
    /// Send entries `[from, up_to)` to a peer, as many whole ones as fit `bytes_max` but at least one, with `message`
    /// (an append). Answer [`Event::Replicated`].
    Replicate {
        /// The group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// The first entry to send.
        from: Index,
        /// One past the last; equal to `from` for a bare append.
        up_to: Index,
        /// How much to send.
        bytes_max: u64,
        /// The append that carries them.
        message: Message,
    },
    /// Send a message to a peer's replica of the group. Votes and their like go ahead of bulk. An
    /// [`AppendReply`](Message::AppendReply) that says "matched" vouches for the entries of every earlier effect: they
    /// are in the log, if not on stable storage, before it leaves; if the disk refused them, it does not leave.
    Send {
        /// The group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        request: RequestId,
        /// What.
        reply: Reply,
    },
    /// Answer a fetch with the bytes of whole entries from the one that holds `from` up to the last entry that ends
    /// at or below `up_to`. If `force` is not set and there is less than `bytes_min`, answer [`Event::ReadShort`].
    Read {
        /// The request to answer.
        request: RequestId,
        /// The group.
        group: GroupId,
        /// The first offset wanted.
        from: Offset,
        /// The high watermark: nothing at or above it may be served.
        up_to: Offset,
        /// Not worth answering below this.
        bytes_min: u64,
        /// At most this much, but at least one whole batch.
        bytes_max: u64,
        /// Answer whatever there is.
        force: bool,
        /// The client's deadline; only carried along, for [`Event::ReadShort`].
        deadline: Monotonic,
        /// For the reply.
        start_offset: Offset,
    },
    /// Answer a query for an offset that only the log knows, looking below `up_to` only.
    FindOffset {
        /// The request to answer.
        request: RequestId,
        /// The group.
        group: GroupId,
        /// Which record.
        by: FindBy,
        /// The first offset that readers are given: no record below is meant.
        from: Offset,
        /// The high watermark.
        up_to: Offset,
    },
    /// Say which records retention no longer covers, going by this log: [`Event::Appraised`]. Changes nothing.
    Appraise {
        /// The group.
        group: GroupId,
        /// Segments whose newest record is older than this are not covered,
        older_than: Option<Timestamp>,
        /// nor are the oldest ones while more than this would be left,
        bytes_max: Option<u64>,
        /// unless they hold an entry at or above this index.
        up_to: Index,
    },
    /// Let go of whole segments that hold deleted records only. Answer [`Event::Trimmed`] once that is durable, and
    /// [`Event::TrimHeld`] if more would go but for `kept_from`.
    Trim {
        /// The group.
        group: GroupId,
        /// All records below are deleted,
        below: Offset,
        /// for this reason, as far as is known.
        reason: TrimReason,
        /// No entry at or above this index goes. It is committed.
        up_to: Index,
        /// Nor any at or above this one: the last snapshot of the producers. `None` if nothing is kept for them.
        kept_from: Option<Index>,
    },
    /// Say how much of the log is compacted: [`Event::Surveyed`].
    Survey {
        /// The group.
        group: GroupId,
    },
    /// Compact the log by this rule, whose `through` is committed and durable here. That takes long and belongs on another
    /// thread, one job at a time. Answer [`Event::Compacted`] or [`Event::CompactionFailed`], once.
    Compact {
        /// The group.
        group: GroupId,
        /// What to keep.
        rule: CompactionRule,
    },
    /// The metadata changed: publish this image to the node and its other shards (shard 0 only).
    PublishImage(Arc<MetadataImage>),
    /// What this node knows of a group's leader changed.
    LeaderChanged {
        /// The group.
        group: GroupId,
        /// The term.
        term: Term,
        /// The leader, if known.
        leader: Option<NodeId>,
        /// This replica's role.
        role: Role,
    },
    /// The replica was closed: its log failed, or something impossible happened.
    Closed {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// This replica leads the group, and these replicas are in sync now, itself among them (`in_sync.rs`).
    InSync {
        /// The group.
        group: GroupId,
        /// The term that it leads.
        term: Term,
        /// Who, in the order of their numbers.
        nodes: Vec<NodeId>,
    },
    /// Something that cannot happen did. Show it to the operator.
    Alarm {
        /// Where.
        group: GroupId,
        /// What.
        alarm: ShardAlarm,
    },
    /// Answer to [`Event::Drain`]: nothing here leads any more and no request is parked, or waiting longer is useless.
    Drained,
}
