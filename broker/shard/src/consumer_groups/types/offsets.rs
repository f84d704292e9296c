//! Messages about committed offsets, and about groups as a whole.

use super::GroupError;
use alloc::string::String;
use alloc::vec::Vec;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// Offsets to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Which group.
    pub group: String,
    /// Empty of a commit without membership.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// The member's generation, or its epoch in the new protocol; -1 of a commit without membership.
    pub generation: i32,
    /// What to commit.
    pub offsets: Vec<CommitOffset>,
}

/// One offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// Of which partition.
    pub topic_partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1: unknown.
    pub leader_epoch: i32,
    /// Whatever the client wants to find again.
    pub metadata: String,
}

/// What became of one partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    /// Which.
    pub topic_partition: TopicPartition,
    /// Why nothing was done for it.
    pub error: Option<GroupError>,
}

/// Offsets to read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetch {
    /// Which group.
    pub group: String,
    /// v9 and later, of the new protocol.
    pub member_id: Option<String>,
    /// v9 and later, of the new protocol; -1: not checked.
    pub member_epoch: i32,
    /// Of which partitions; `None`: of all.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// One offset as committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// Of which partition.
    pub topic_partition: TopicPartition,
    /// -1: none is committed.
    pub offset: i64,
    /// -1: unknown.
    pub leader_epoch: i32,
    /// As committed.
    pub metadata: String,
}

/// Offsets to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDelete {
    /// Which group.
    pub group: String,
    /// Of which partitions.
    pub partitions: Vec<TopicPartition>,
}

/// Which groups to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroups {
    /// Kafka's words, in any case; empty: all.
    pub states: Vec<String>,
    /// `classic`, `consumer`, in any case; empty: all.
    pub types: Vec<String>,
}

/// One group of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// `consumer` for all groups of the new protocol; empty of a group that never had members.
    pub protocol_type: String,
    /// Kafka's word.
    pub state: &'static str,
    /// Of which protocol.
    pub group_type: GroupType,
}

/// Which protocol a group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupType {
    /// JoinGroup and SyncGroup; also a group that only has offsets.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
}

impl GroupType {
    /// Kafka's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}
