//! What the shards' payload parameter is here, and what leaves for peers and clients.

use bytes::Bytes;
use raftline_proto::ids::{GroupId, Index, NodeId, Offset, Term};
use raftline_proto::time::Timestamp;
use raftline_raft::types::Message;
use raftline_shard::pulse::Sign;
use raftline_shard::types::{GroupDescription, Reply};

/// Record bytes on their way through a shard, which never looks at them.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A client's record batch, not yet stamped with its offset and leader epoch.
    Batch(Bytes),
    /// A leader's encoded entries, back to back, checksums verified.
    Entries(Bytes),
}

impl Payload {
    /// The bytes, whichever they are.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        match self {
            Self::Batch(bytes) | Self::Entries(bytes) => bytes,
        }
    }
}

/// A message to another node.
#[derive(Clone, Debug)]
pub struct PeerMessage {
    /// The group it is about; [`GroupId::COORDINATOR`] for node-level messages.
    pub group: GroupId,
    /// What it says.
    pub body: PeerBody,
}

/// What a node knows of who leads a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderNews {
    /// The term.
    pub term: Term,
    /// The leader; `None` for nobody that is known.
    pub leader: Option<NodeId>,
    /// The replicas in sync, as the last known leader saw them; empty if that is not known.
    pub in_sync: Vec<NodeId>,
}

/// What a [`PeerMessage`] says.
#[derive(Clone, Debug)]
pub enum PeerBody {
    /// The node-level sign of life. The transport adds this process's boot id.
    Alive(Sign),
    /// What the sender knows of who leads the group.
    Leads(LeaderNews),
    /// Every replica of the sender that is closed.
    Closed {
        /// Their groups.
        groups: Vec<GroupId>,
    },
    /// The sender's doors know the metadata through this entry of the coordinator group.
    Applied(Index),
    /// A Raft message.
    Raft {
        /// What.
        message: Message,
        /// The entries of an append: whole ones, back to back over the parts.
        entries: Vec<Bytes>,
    },
}

impl PeerMessage {
    /// The entries' size: what a queue that is bounded by bytes should count, beside its own overhead.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        match &self.body {
            PeerBody::Alive(_) | PeerBody::Leads(_) | PeerBody::Applied(_) => 0,
            PeerBody::Closed { groups } => 8 * groups.len() as u64,
            PeerBody::Raft { entries, .. } => entries.iter().map(|part| part.len() as u64).sum(),
        }
    }
}

/// What became of a message handed to the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is in the peer's queue.
    Sent,
    /// The queue is full, or there is no connection: dropped.
    Busy,
}

/// The way out to the peers, as a shard thread sees it. Implemented by the peer transport.
pub trait PeerSender: Send + 'static {
    /// Queues a message. Never blocks.
    fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome;
    /// The turn is over: wake each socket that got something.
    fn flush(&mut self);
}

/// An answer to a client's request.
#[derive(Clone, Debug)]
pub enum OutReply {
    /// As the shard gave it.
    Shard(Reply),
    /// Records, to a fetch.
    Fetched(FetchedBatches),
    /// A group's state on this node, if it is open here.
    Described {
        /// As the shard sees it.
        description: Box<GroupDescription>,
        /// What its log takes on the disk: whole segments, without the room that is kept ready behind them.
        log_bytes: u64,
    },
    /// To a query for the end of a term.
    EndOfTerm {
        /// The term, or the last one before it, and the offset after its last record; `None` if the log begins later.
        found: Option<(Term, Offset)>,
        /// Where the log begins.
        start: Offset,
    },
    /// To a query for the offset at a timestamp.
    FoundOffset {
        /// The first record with that timestamp or a later one, its offset and its timestamp; `None` if every record
        /// is older.
        found: Option<(Offset, Timestamp)>,
        /// The high watermark, below which was looked.
        high_watermark: Offset,
    },
}

/// The records of a fetch.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    /// Whole record batches. The first may begin before the offset asked for.
    pub batches: Vec<Bytes>,
    /// The first offset still there.
    pub start_offset: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
}
