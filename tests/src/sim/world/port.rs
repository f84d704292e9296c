//! What an executor sees of the world: messages go into the network at once, all else is noted for the world.

use std::io;
use std::sync::Arc;

use raftline_broker::executor::{CompactionJob, Outside, Removal, SyncRound};
use raftline_broker::payload::{OutReply, PeerBody, PeerMessage, SendOutcome};
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::types::{Message, Role};
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{RequestId, ShardAlarm};
use raftline_storage::{Allocation, SimDisk};

use crate::sim::network::{Class, Fate, Network};

/// One executor's way out, for as long as one of its methods runs.
pub struct Port<'a> {
    /// Whose.
    pub from: NodeId,
    /// The virtual time.
    pub now: Monotonic,
    /// Where messages go.
    pub network: &'a mut Network,
    /// All that came out, in order.
    pub out: Vec<Out>,
}

/// Something that came out of an executor.
pub enum Out {
    /// A message to a peer, and what the network makes of it.
    Message(NodeId, PeerMessage, Fate),
    /// An answer to a client.
    Reply(RequestId, OutReply),
    /// A sync round to run.
    Round(SyncRound<SimDisk>),
    /// An allocation to run.
    Allocate(GroupId, Allocation<SimDisk>),
    /// A compaction to run.
    Compact(CompactionJob<SimDisk>),
    Remove(Removal<SimDisk>),
    /// A new image.
    Image(Arc<MetadataImage>),
    /// A change of leader or role.
    Leader {
        /// Where.
        group: GroupId,
        /// The term.
        term: Term,
        /// Who leads.
        leader: Option<NodeId>,
        /// This replica's role.
        role: Role,
    },
    /// Something impossible.
    Alarm(GroupId, ShardAlarm),
    /// A group is closed.
    Failed(GroupId, String),
    /// The process must die.
    SyncFailed(String),
    /// A group is gone.
    Deleted,
    /// The shard is drained.
    Drained,
}

impl Outside<SimDisk> for Port<'_> {
    fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome {
        let (class, bytes) = weigh(&message);
        let fate = self.network.send(self.now, self.from, to, class, bytes);
        let outcome = if fate == Fate::Busy { SendOutcome::Busy } else { SendOutcome::Sent };
        self.out.push(Out::Message(to, message, fate));
        outcome
    }

    fn reply(&mut self, request: RequestId, reply: OutReply) {
        self.out.push(Out::Reply(request, reply));
    }

    fn start_sync(&mut self, round: SyncRound<SimDisk>) {
        self.out.push(Out::Round(round));
    }

    fn sync_failed(&mut self, error: &io::Error) {
        self.out.push(Out::SyncFailed(error.to_string()));
    }

    fn allocate(&mut self, group: GroupId, allocation: Allocation<SimDisk>) {
        self.out.push(Out::Allocate(group, allocation));
    }

    fn remove(&mut self, removal: Removal<SimDisk>) -> Option<Removal<SimDisk>> {
        self.out.push(Out::Remove(removal));
        None
    }

    fn compact(&mut self, job: CompactionJob<SimDisk>) {
        self.out.push(Out::Compact(job));
    }

    fn publish_image(&mut self, image: Arc<MetadataImage>) {
        self.out.push(Out::Image(image));
    }

    fn leader_changed(&mut self, group: GroupId, term: Term, leader: Option<NodeId>, role: Role) {
        self.out.push(Out::Leader { group, term, leader, role });
    }

    fn alarm(&mut self, group: GroupId, alarm: ShardAlarm) {
        self.out.push(Out::Alarm(group, alarm));
    }

    fn group_failed(&mut self, group: GroupId, reason: &str) {
        self.out.push(Out::Failed(group, reason.to_owned()));
    }

    fn group_deleted(&mut self, _: GroupId) {
        self.out.push(Out::Deleted);
    }

    fn drained(&mut self) {
        self.out.push(Out::Drained);
    }
}

/// A message's stream and size, as in the transport.
fn weigh(message: &PeerMessage) -> (Class, u64) {
    const ENVELOPE_BYTES: u64 = 40;
    let class = match &message.body {
        PeerBody::Raft { message: Message::Append { .. } | Message::Reset { .. }, .. } => Class::Bulk,
        PeerBody::Raft { .. }
        | PeerBody::Alive(_)
        | PeerBody::Leads(_)
        | PeerBody::Closed { .. }
        | PeerBody::Applied(_) => Class::Control,
    };
    (class, message.entry_bytes() + ENVELOPE_BYTES)
}
