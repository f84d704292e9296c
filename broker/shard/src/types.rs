//! What goes into and comes out of a shard.
//!
//! `P` is the payload: the bytes of a record batch or of a run of entries. It moves through untouched; having no
//! bounds, it cannot even be looked at here.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::entry::{BatchInfo, EntryHeader, EntryInfo};
use raftline_proto::ids::{
    BootId, EntryId, GroupId, HardState, Incarnation, Index, Membership, NodeId, Offset, PartitionIndex,
    ProducerId, Term, TopicId,
};
use raftline_proto::time::{Monotonic, Timestamp};
use raftline_raft::types::{Alarm, LogStart, Message, ReplicateOutcome, Role};

use crate::image::MetadataImage;

/// Names a client's request until its [`Effect::Reply`]. The driver makes them, never twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

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
    /// A peer's node-level sign of life.
    Alive {
        /// Whose.
        from: NodeId,
        /// Its process start; a new one means that it restarted.
        boot: BootId,
    },
    /// What shard 0 of this node found out about a peer ([`Effect::Liveness`]); fed to every other shard.
    Liveness {
        /// The peer.
        peer: NodeId,
        /// What was found.
        change: LivenessChange,
    },
    /// The outgoing connection to a peer is up (again): in-flight messages of the old one may be lost.
    Connected {
        /// To whom.
        peer: NodeId,
    },
    /// The outgoing connection to a peer broke or was refused.
    Disconnected {
        /// To whom.
        peer: NodeId,
        /// Whether its host answered that nothing listens there: its process is gone.
        refused: bool,
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
    /// Answer to [`Effect::Retain`]: the log begins later now.
    Trimmed {
        /// The group.
        group: GroupId,
        /// Where it begins.
        start: LogStart,
    },
    /// Free space on the data directory's disk crossed the reserve.
    DiskSpace(DiskSpace),
    /// Shard 0 published a new image (sent to the other shards).
    Image(Arc<MetadataImage>),
    /// The process is to stop: hand leaderships over, refuse new writes.
    Drain,
}

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
    /// Send a message to a peer's replica of the group. Votes and their like go ahead of bulk.
    Send {
        /// The group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Send a node-level sign of life.
    SendAlive {
        /// To whom.
        to: NodeId,
    },
    /// Tell the other shards of this node: the peer's node was found up, down or reset.
    /// (Shard 0 keeps the liveness of node pairs for all of them.)
    Liveness {
        /// The peer.
        peer: NodeId,
        /// What was found.
        change: LivenessChange,
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
    /// Answer an offset query by timestamp from the log's time index, looking below `up_to` only.
    FindOffset {
        /// The request to answer.
        request: RequestId,
        /// The group.
        group: GroupId,
        /// The first offset with this timestamp or a later one.
        timestamp: Timestamp,
        /// The high watermark.
        up_to: Offset,
    },
    /// Drop whole segments that retention no longer covers, up to the commit index. Answer [`Event::Trimmed`] if any went.
    Retain {
        /// The group.
        group: GroupId,
        /// Segments whose newest record is older than this may go.
        older_than: Option<Timestamp>,
        /// The oldest segments may go while more than this would be left.
        bytes_max: Option<u64>,
        /// No entry at or above this index goes.
        up_to: Index,
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

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first offset still there.
    Earliest,
    /// The high watermark: the offset the next committed record will have.
    Latest,
    /// The first offset whose timestamp is this or later.
    AtOrAfter(Timestamp),
}

/// How a group's log is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is sealed once it has this many bytes.
    pub segment_bytes: u64,
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

/// What node-pair liveness found out about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessChange {
    /// It answers.
    Up,
    /// It is silent, or its process is gone.
    Down,
    /// It restarted, or the connection was made anew.
    Reset,
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
    /// The offset is below the first or above the high watermark.
    OffsetOutOfRange {
        /// What was asked for.
        asked: Offset,
        /// The first there.
        start_offset: Offset,
        /// One past the last committed.
        high_watermark: Offset,
    },
    /// Too many fetches wait already.
    Busy,
    /// The group's log failed; the text says why.
    Storage(String),
}

/// What the coordinator is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorCommand {
    /// A broker tells where it is. Refused if its incarnation is not the one known.
    RegisterBroker {
        /// Which node.
        node: NodeId,
        /// Its disk.
        incarnation: Incarnation,
        /// Where clients reach it.
        grpc_address: String,
    },
    /// A new topic.
    CreateTopic {
        /// Its name for ever, drawn at the edge (the shard has no chance).
        id: TopicId,
        /// What people call it.
        name: String,
        /// How many partitions; `None`: the default.
        partitions: Option<u32>,
        /// How many replicas; `None`: the default.
        replication: Option<u32>,
        /// Kafka's names.
        configs: BTreeMap<String, String>,
    },
    /// A topic and its data go.
    DeleteTopic {
        /// Which.
        name: String,
    },
    /// Set (`Some`) or reset to default (`None`) config entries.
    AlterTopic {
        /// Which.
        name: String,
        /// The entries to change.
        configs: BTreeMap<String, Option<String>>,
    },
    /// More partitions.
    AddPartitions {
        /// Which topic.
        name: String,
        /// How many there shall be.
        total: u32,
    },
    /// A cluster-unique producer id.
    AllocateProducerId,
}

/// What the coordinator did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorReply {
    /// Committed.
    Done,
    /// A topic was made.
    TopicCreated {
        /// Its id.
        id: TopicId,
        /// How many partitions it has.
        partitions: u32,
    },
    /// A producer id.
    ProducerId(ProducerId),
}

/// Why the coordinator did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorError {
    /// Another node leads the coordinator group, or none.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Leadership was lost or time ran out before the commit: the outcome is unknown.
    OutcomeUnknown,
    /// Too much is waiting.
    Busy,
    /// There is one of that name.
    TopicExists {
        /// The name.
        name: String,
    },
    /// There is none of that name.
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// Not a legal topic name; says why.
    InvalidTopicName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Out of range.
    InvalidPartitions {
        /// What was asked.
        asked: u32,
        /// The least that is possible.
        min: u32,
        /// The most that is possible.
        max: u32,
    },
    /// More replicas than brokers, or zero.
    InvalidReplication {
        /// What was asked.
        asked: u32,
        /// How many brokers are registered.
        brokers: u32,
    },
    /// Not a known config, or its value is out of range.
    InvalidConfig {
        /// The config's name.
        name: String,
        /// The value.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The node is registered with another disk: it was emptied or swapped.
    IncarnationMismatch {
        /// The node.
        node: NodeId,
        /// The disk known.
        known: Incarnation,
        /// The disk that asked.
        found: Incarnation,
    },
    /// A text is too long or the cluster has too many of something.
    LimitExceeded {
        /// What.
        what: &'static str,
        /// How much was asked.
        asked: u64,
        /// The bound.
        max: u64,
    },
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
