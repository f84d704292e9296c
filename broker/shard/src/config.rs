//! How one shard is set up. Fixed for the life of the process.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::ids::{BootId, Incarnation, NodeId};

/// What a shard is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// This shard's number, from 0. Shard 0 carries the coordinator group.
    pub shard: u32,
    /// How many shards this node runs. A group lives on shard `group % shards`.
    pub shards: u32,
    /// This node.
    pub node: NodeId,
    /// This node's disk.
    pub incarnation: Incarnation,
    /// This process start.
    pub boot: BootId,
    /// The coordinator group's voters, this node among them, the same on every node.
    pub peers: Vec<NodeId>,
    /// The cluster's configured name, for its first record.
    pub cluster_name: String,
    /// Drawn at the edge; becomes the cluster's id if this node is the coordinator's first leader.
    pub cluster_id_seed: u128,
    /// For the spread of election timeouts. Different on every node.
    pub seed: u64,
    /// How long everything takes.
    pub timings: Timings,
    /// Entries sent to one follower of a group and not yet acknowledged, in bytes. One entry may always go.
    pub in_flight_bytes_max: u64,
    /// What a new topic gets where its creator does not say.
    pub defaults: TopicDefaults,
}

impl ShardConfig {
    /// The defaults as they apply to a cluster of this size. Brokers that have not registered yet count: a topic made
    /// while they start is refused for the moment, rather than left with too few replicas for good.
    #[must_use]
    pub fn topic_defaults(&self) -> TopicDefaults {
        let nodes = u32::try_from(self.peers.len()).unwrap_or(u32::MAX).max(1);
        TopicDefaults { replication: self.defaults.replication.min(nodes), ..self.defaults }
    }
}

/// Every span of time that a shard decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two signs of life to each peer.
    pub alive_interval: Duration,
    /// A peer silent for this long is down.
    pub alive_lapse: Duration,
    /// A shard that has been at one turn, or at one sync, for this long counts as stuck.
    pub stuck: Duration,
    /// A wall clock that jumps by more than this, or is off the median of the brokers' clocks by more, is doubted.
    pub clock_off_max: Duration,
    /// One that is doubted is trusted again when it has been within that bound for so long.
    pub clock_settle: Duration,
    /// A peer whose connection broke is down after this, unless it is heard of before.
    pub disconnect_grace: Duration,
    /// The least time without a leader before an election.
    pub election_min: Duration,
    /// The greatest; the spread keeps two replicas from campaigning at once.
    pub election_max: Duration,
    /// A leader that sees no progress of a peer for this long probes it again.
    pub resend: Duration,
    /// Between two looks at what retention lets go.
    pub retention_interval: Duration,
    /// Between two notes of the commit index.
    pub note_interval: Duration,
    /// A drain that has not handed everything over by then gives up.
    pub drain_limit: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            alive_interval: Duration::from_millis(100),
            alive_lapse: Duration::from_secs(1),
            stuck: Duration::from_secs(2),
            clock_off_max: Duration::from_secs(60),
            clock_settle: Duration::from_secs(60),
            disconnect_grace: Duration::from_millis(200),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(900),
            resend: Duration::from_millis(200),
            retention_interval: Duration::from_secs(30),
            note_interval: Duration::from_secs(1),
            drain_limit: Duration::from_secs(3),
        }
    }
}

/// What a new topic gets where its creator does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Partitions.
    pub partitions: u32,
    /// Replicas; in a cluster of fewer nodes, as many as there are.
    pub replication: u32,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self { partitions: 3, replication: 3 }
    }
}
