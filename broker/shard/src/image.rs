//! The cluster's state as the committed metadata records make it. Immutable once published.

use crate::group_ranges::GroupRanges;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::ids::{ClusterId, GroupId, Index, NodeId, ProducerId, TopicId};
use raftline_proto::metadata::{BrokerRecord, PartitionRecord};

/// The cluster after applying every metadata record through `applied`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataImage {
    /// The coordinator entry applied last.
    pub applied: Index,
    /// The cluster's id and name, once its first record is committed.
    pub cluster: Option<(ClusterId, String)>,
    /// What may be written.
    pub feature_level: u32,
    /// Every broker that ever registered.
    pub brokers: BTreeMap<NodeId, BrokerRecord>,
    /// Every topic, by id.
    pub topics: BTreeMap<TopicId, Arc<TopicImage>>,
    /// The same by name.
    pub topic_ids: BTreeMap<String, TopicId>,
    /// The next group id to give out. Invariant: above every group ever used.
    pub next_group: GroupId,
    /// The groups of all topics ever deleted: what is found of them on a disk may go. Never trusted to be complete.
    pub deleted_groups: Arc<GroupRanges>,
    /// The next producer id to give out.
    pub next_producer: ProducerId,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name for ever.
    pub id: TopicId,
    /// What people call it.
    pub name: String,
    /// By partition index.
    pub partitions: Vec<PartitionRecord>,
    /// Only what differs from the defaults.
    pub configs: BTreeMap<String, String>,
}

impl TopicImage {
    /// How many replicas its partitions have.
    #[must_use]
    pub fn replication(&self) -> usize {
        self.partitions.first().map_or(1, |partition| partition.replicas.len())
    }
}
