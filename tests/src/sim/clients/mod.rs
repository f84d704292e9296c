//! The cluster's users: virtual clients that follow the rules of a real client library. They know only what answers
//! tell them.

pub mod admin;
pub mod consumer;
pub mod eraser;
pub mod inquirer;
pub mod meddler;
pub mod producer;

use std::time::Duration;

use bytes::Bytes;
use raftline_broker::payload::OutReply;
use raftline_proto::entry::BatchInfo;
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_proto::time::Monotonic;
use raftline_shard::types::{CoordinatorCommand, DeleteUpTo, Durability, OffsetQuery};

use super::chance::Chance;

/// What a client asks of a node.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To append a batch.
    Produce {
        /// The partition's group.
        group: GroupId,
        /// The batch.
        batch: Bytes,
        /// Its facts.
        info: BatchInfo,
        /// When to answer.
        durability: Durability,
    },
    /// To read.
    Fetch {
        /// The partition's group.
        group: GroupId,
        /// The first offset wanted.
        from: Offset,
        /// Answer once this much is there.
        bytes_min: u64,
        /// At most this much.
        bytes_max: u64,
        /// How long to wait for it.
        wait: Duration,
    },
    /// An offset.
    Offset {
        /// The partition's group.
        group: GroupId,
        /// Which.
        query: OffsetQuery,
    },
    /// Something of the coordinator.
    Coordinate(CoordinatorCommand),
    /// To delete the oldest records.
    Delete {
        /// The partition's group.
        group: GroupId,
        /// Which.
        up_to: DeleteUpTo,
    },
    /// To hand leadership of a group over.
    Transfer(GroupId),
}

/// A request on its way: to whom, and the client's own name for it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Comes back with the answer.
    pub tag: u64,
    /// Which node.
    pub to: NodeId,
    /// What.
    pub ask: Ask,
}

/// What a client wants after it was woken or answered.
#[derive(Debug, Default)]
pub struct Wishes {
    /// Requests to send now, in this order.
    pub calls: Vec<Call>,
    /// When to wake it.
    pub wake: Option<Monotonic>,
    /// The client was refused something that must not be refused: in words.
    pub outrage: Option<String>,
}

impl Wishes {
    /// Asks to be woken at `at`, or sooner.
    pub fn wake_at(&mut self, at: Monotonic) {
        self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
    }
}

/// What clients share: the time, their chance, and who there is to ask.
#[derive(Debug)]
pub struct Around<'a> {
    /// The virtual time.
    pub now: Monotonic,
    /// The clients' stream of chance.
    pub chance: &'a mut Chance,
    /// Every node.
    pub nodes: &'a [NodeId],
    /// How long to wait for an answer.
    pub patience: Duration,
    /// Whether faults are over: go easy, and finish.
    pub calm: bool,
}

impl Around<'_> {
    /// Another node to try.
    pub fn any_node(&mut self) -> NodeId {
        *self.chance.pick(self.nodes).expect("a cluster has nodes")
    }

    /// The one that was named, or any.
    pub fn node_or_any(&mut self, named: Option<NodeId>) -> NodeId {
        named.unwrap_or_else(|| self.any_node())
    }

    /// A short pause before the next try.
    pub fn backoff(&mut self) -> Monotonic {
        self.now + self.chance.span(Duration::from_millis(5), Duration::from_millis(40))
    }
}

/// One client.
#[derive(Debug)]
pub enum Client {
    /// Writes.
    Producer(producer::Producer),
    /// Reads.
    Consumer(consumer::Consumer),
    /// Creates topics and registers brokers.
    Admin(admin::Admin),
    /// Deletes.
    Eraser(eraser::Eraser),
    /// Asks for offsets.
    Inquirer(inquirer::Inquirer),
    /// Makes topics and deletes them.
    Meddler(meddler::Meddler),
}

impl Client {
    /// Its time has come.
    pub fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        match self {
            Self::Producer(producer) => producer.wake(around, wishes),
            Self::Consumer(consumer) => consumer.wake(around, wishes),
            Self::Admin(admin) => admin.wake(around, wishes),
            Self::Eraser(eraser) => eraser.wake(around, wishes),
            Self::Inquirer(inquirer) => inquirer.wake(around, wishes),
            Self::Meddler(meddler) => meddler.wake(around, wishes),
        }
    }

    /// An answer came; `None`: its connection broke.
    pub fn answered(
        &mut self,
        tag: u64,
        reply: Option<OutReply>,
        around: &mut Around<'_>,
        wishes: &mut Wishes,
    ) {
        match self {
            Self::Producer(producer) => producer.answered(tag, reply, around, wishes),
            Self::Consumer(consumer) => consumer.answered(tag, reply, around, wishes),
            Self::Admin(admin) => admin.answered(tag, reply, around, wishes),
            Self::Eraser(eraser) => eraser.answered(reply),
            Self::Inquirer(inquirer) => inquirer.answered(reply),
            Self::Meddler(meddler) => meddler.answered(tag, reply, around, wishes),
        }
    }
}
