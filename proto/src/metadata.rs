//! The coordinator's vocabulary: one [`MetadataRecord`] is one committed change of the cluster.

use crate::ids::{ClusterId, GroupId, Incarnation, NodeId, ProducerId, TopicId};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// One committed change. Records of one entry are applied in order, all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// The cluster's first record: its id for ever, its configured name, and the feature level it may write.
    Cluster {
        /// Made by the first leader.
        id: ClusterId,
        /// As configured; at most [`crate::limits::TEXT_BYTES_MAX`].
        name: String,
        /// What may be written (DESIGN D12).
        feature_level: u32,
    },
    /// A broker, as it registered after its start. A later record of the same node replaces its addresses.
    Broker(BrokerRecord),
    /// A new topic with all its partitions.
    TopicCreated {
        /// Its name for ever.
        id: TopicId,
        /// What people call it.
        name: String,
        /// In the order of their [`crate::ids::PartitionIndex`].
        partitions: Vec<PartitionRecord>,
        /// Only what differs from the defaults.
        configs: BTreeMap<String, String>,
    },
    /// A topic and its data are gone.
    TopicDeleted {
        /// Which.
        id: TopicId,
    },
    /// The topic's config entries from now on, replacing the earlier map.
    TopicConfigured {
        /// Which topic.
        id: TopicId,
        /// Only what differs from the defaults.
        configs: BTreeMap<String, String>,
    },
    /// More partitions at the end of the topic's list.
    PartitionsAdded {
        /// Which topic.
        id: TopicId,
        /// The new ones.
        partitions: Vec<PartitionRecord>,
    },
    /// Producer ids below this one have been given out.
    ProducerIds {
        /// The next id to give out.
        next: ProducerId,
    },
}

/// The name of a Kafka listener that was given none, as in Kafka.
pub const PLAINTEXT: &str = "PLAINTEXT";

/// A broker's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRecord {
    /// Its number.
    pub node: NodeId,
    /// Its disk.
    pub incarnation: Incarnation,
    /// `host:port` of its gRPC listener, as clients should dial it.
    pub grpc_address: String,
    /// Its Kafka listeners by their names: `host:port` of each, as clients should dial it. Clients that came in by one are
    /// told of the brokers' addresses of the same name.
    pub kafka: BTreeMap<String, String>,
}

/// A partition's group and first replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    /// Its Raft group, never used before.
    pub group: GroupId,
    /// Its voters, the preferred leader first.
    pub replicas: Vec<NodeId>,
}
