//! What is asked of the coordinator, and what it answers.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::ids::{Incarnation, NodeId, ProducerId, TopicId};
use raftline_proto::metadata::BrokerRecord;

/// What the coordinator is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorCommand {
    /// A broker tells where it is. Refused if its incarnation is not the one known.
    RegisterBroker(BrokerRecord),
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
        /// Where each partition's replicas are, instead of both numbers; empty: the coordinator places them.
        assignment: Vec<Vec<NodeId>>,
    },
    /// A topic and its data go.
    DeleteTopic {
        /// Which.
        name: String,
        /// Only the topic of this id, not another one that has its name by now; `None`: whichever there is.
        id: Option<TopicId>,
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
        /// Where the replicas of each new one are; empty: the coordinator places them.
        assignment: Vec<Vec<NodeId>>,
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
    /// The brokers keep it for themselves.
    InternalTopic {
        /// The name.
        name: String,
        /// Why it is not to be touched.
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
    /// The replicas cannot be where they are wanted.
    InvalidAssignment {
        /// What is wrong.
        why: &'static str,
    },
    /// Not a config that can be set so.
    InvalidConfig {
        /// The config's name.
        name: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        fault: ConfigFault,
    },
    /// A broker would have more replicas than it can hold.
    BrokerFull {
        /// Which one.
        node: NodeId,
        /// How many it has.
        held: u64,
        /// How many it would get.
        asked: u64,
        /// How many it can hold.
        max: u64,
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

/// What is wrong with a config entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFault {
    /// There is no config of that name.
    Unknown,
    /// There is, but not with this value: says why, and what would be right.
    Value(String),
}
