//! What an executor needs of the world: sockets, threads and the node around it.

use std::io;
use std::sync::Arc;

use raftline_proto::command::TrimReason;
use raftline_proto::ids::{GroupId, NodeId, Offset, Term};
use raftline_raft::types::Role;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{RequestId, ShardAlarm};
use raftline_storage::{Allocation, Disk};

use super::compacting::CompactionJob;
use super::opening::OpenJob;
use super::removing::Removal;
use super::round::SyncRound;
use crate::payload::{OutReply, PeerMessage, SendOutcome};

/// The world around an executor: threads and sockets in production, one event heap in the simulator. Nothing here
/// blocks.
pub trait Outside<D: Disk> {
    /// Hands a message to the transport.
    fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome;

    /// Answers a client.
    fn reply(&mut self, request: RequestId, reply: OutReply);

    /// Runs the round on other threads ([`SyncRound::run`], or its parts side by side). At most one is in flight;
    /// it comes back through [`super::Executor::sync_done`].
    fn start_sync(&mut self, round: SyncRound<D>);

    /// Opens a log on another thread ([`OpenJob::run`]); it comes back through [`super::Executor::log_opened`]. Giving
    /// the job back, as a world without threads does, has it run at once.
    fn open_log(&mut self, job: OpenJob<D>) -> Option<OpenJob<D>> {
        Some(job)
    }

    /// Runs a compaction on another thread ([`CompactionJob::run`]); it comes back through
    /// [`super::Executor::compaction_done`]. At most one of this shard's is under way; worlds with several shards run one
    /// at a time all the same, for the sake of disk and memory.
    fn compact(&mut self, job: CompactionJob<D>);

    /// Removes files on another thread ([`Removal::run`]); it comes back through [`super::Executor::removed`]. Giving the job
    /// back, as a world without threads does, has it run at once.
    fn remove(&mut self, removal: Removal<D>) -> Option<Removal<D>> {
        Some(removal)
    }

    /// A sync failed: what it covered may be gone from the page cache without ever having reached the disk, so
    /// nothing that this process says about it can be trusted any more (FAULTS P5). Production aborts the process
    /// here. If this returns, the executor performs nothing ever after.
    fn sync_failed(&mut self, error: &io::Error);

    /// Runs the allocation on another thread; it comes back through [`super::Executor::allocated`].
    fn allocate(&mut self, group: GroupId, allocation: Allocation<D>);

    /// The metadata changed: for the node's readers and its other shards.
    fn publish_image(&mut self, image: Arc<MetadataImage>);

    /// What this node knows of a group's leader changed.
    fn leader_changed(&mut self, group: GroupId, term: Term, leader: Option<NodeId>, role: Role);

    /// Something that cannot happen did: for the operator.
    fn alarm(&mut self, group: GroupId, alarm: ShardAlarm);

    /// A group's storage failed; its replica stays closed. For the operator.
    fn group_failed(&mut self, group: GroupId, reason: &str);

    /// The shard has closed its replica of the group: after [`Outside::group_failed`], or for what it found itself. For
    /// those who tell clients and peers about the group.
    fn replica_closed(&mut self, _group: GroupId, _reason: &str) {}

    /// This node leads the group in this term, and these replicas are in sync now. For those who tell clients.
    fn in_sync(&mut self, _group: GroupId, _term: Term, _nodes: Vec<NodeId>) {}

    /// A log let go of its oldest records: these offsets, the second of them the first that is left, and so many bytes.
    fn let_go(&mut self, _group: GroupId, _offsets: (Offset, Offset), _bytes: u64, _reason: TrimReason) {}

    /// A group was deleted here.
    fn group_deleted(&mut self, group: GroupId);

    /// The shard is drained.
    fn drained(&mut self);
}
