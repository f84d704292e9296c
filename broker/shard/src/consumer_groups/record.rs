//! What the coordinator writes to its partition of the internal topic: one record for each key, the last one holds.
//!
//! Invariant: replay needs no order but that of records with the same key, so a log whose older records of a key were
//! compacted away leads to the same state.

use super::types::GroupProtocol;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::time::Timestamp;

/// Partitions by topic. Invariant: no empty sets.
pub type Assignment = BTreeMap<String, BTreeSet<i32>>;

/// Epochs by topic and partition. Invariant: no empty inner maps.
pub type PartitionEpochs = BTreeMap<String, BTreeMap<i32, i32>>;

/// One record; a value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// A committed offset.
    Offset {
        /// Which group.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: i32,
        /// What is committed.
        value: Option<OffsetValue>,
    },
    /// A classic group's generation with its assignment.
    Classic {
        /// Which group.
        group: String,
        /// What it is.
        value: Option<ClassicValue>,
    },
    /// A group of the new protocol.
    Consumer {
        /// Which group.
        group: String,
        /// What it is.
        value: Option<ConsumerValue>,
    },
    /// The epoch that the targets of a group of the new protocol were made for.
    ConsumerTargetEpoch {
        /// Which group.
        group: String,
        /// The epoch.
        value: Option<i32>,
    },
    /// A member of a group of the new protocol.
    ConsumerMember {
        /// Which group.
        group: String,
        /// Which member.
        member_id: String,
        /// What it says of itself.
        value: Option<ConsumerMemberValue>,
    },
    /// What a member of the new protocol is to own in the end.
    ConsumerTarget {
        /// Which group.
        group: String,
        /// Which member.
        member_id: String,
        /// What.
        value: Option<Assignment>,
    },
    /// What a member of the new protocol may own now.
    ConsumerCurrent {
        /// Which group.
        group: String,
        /// Which member.
        member_id: String,
        /// What.
        value: Option<CurrentValue>,
    },
}

impl GroupRecord {
    /// The group that it is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            Self::Offset { group, .. }
            | Self::Classic { group, .. }
            | Self::Consumer { group, .. }
            | Self::ConsumerTargetEpoch { group, .. }
            | Self::ConsumerMember { group, .. }
            | Self::ConsumerTarget { group, .. }
            | Self::ConsumerCurrent { group, .. } => group,
        }
    }
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1: unknown.
    pub leader_epoch: i32,
    /// The client's text, at most [`super::limits::OFFSET_METADATA_BYTES_MAX`].
    pub metadata: String,
    /// When it was committed: what retention goes by.
    pub commit_timestamp: Timestamp,
}

/// A classic group, once its leader's assignment is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicValue {
    /// Its generation.
    pub generation: i32,
    /// `consumer`, `connect`, ….
    pub protocol_type: String,
    /// The protocol chosen; `None` of an empty group.
    pub protocol: Option<String>,
    /// Who assigned; `None` of an empty group.
    pub leader: Option<String>,
    /// When it came to this state: retention of an empty group goes by it.
    pub state_timestamp: Timestamp,
    /// By member id.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// Its id.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// As its client says.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Silent this long, it is removed.
    pub session_timeout_ms: u32,
    /// How long others wait for it.
    pub rebalance_timeout_ms: u32,
    /// What it says in the protocol chosen.
    pub subscription: Vec<u8>,
    /// Its part.
    pub assignment: Vec<u8>,
}

/// A group of the new protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerValue {
    /// Moves with every change of members or subscriptions.
    pub epoch: i32,
    /// A digest of the topics subscribed to as they were at `epoch`: another one says that targets are out of date.
    pub topics_digest: u64,
    /// When `epoch` was made: retention of an empty group goes by it.
    pub epoch_timestamp: Timestamp,
}

/// A member of a group of the new protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerMemberValue {
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack_id: Option<String>,
    /// As its client says.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: u32,
    /// By name.
    pub subscribed_topics: BTreeSet<String>,
    /// By a regular expression over whole names, never empty.
    pub subscribed_regex: Option<String>,
    /// The assignor that it asks for.
    pub server_assignor: Option<String>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicSupport>,
}

/// What a member says that speaks the classic protocol in a group of the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicSupport {
    /// Silent this long, it is removed.
    pub session_timeout_ms: u32,
    /// What it can do, the best first: should the group become a classic one.
    pub protocols: Vec<GroupProtocol>,
}

/// Where a member stands on its way to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentValue {
    /// Its epoch; -2 of a static member that left for a while.
    pub member_epoch: i32,
    /// The one before: the answer that told the new one may have been lost.
    pub previous_epoch: i32,
    /// What it is waiting for.
    pub state: MemberState,
    /// What it may own.
    pub assigned: Assignment,
    /// What it is giving up, and may still own.
    pub revoking: Assignment,
    /// Of partitions that it has had since before `member_epoch`: the epoch in which it got them, the
    /// *assignment epoch* (KIP-1251). Invariant: only of partitions of `assigned` and `revoking`.
    pub earlier_epochs: PartitionEpochs,
}

impl CurrentValue {
    /// The epoch in which the member got a partition that it has; it has had it ever since. Records of versions that
    /// did not keep that say no more than that it had it in `member_epoch`.
    #[must_use]
    pub fn owned_since(&self, topic: &str, partition: i32) -> Option<i32> {
        let is_in = |own: &Assignment| own.get(topic).is_some_and(|own| own.contains(&partition));
        let earlier = self.earlier_epochs.get(topic).and_then(|epochs| epochs.get(&partition)).copied();
        (is_in(&self.assigned) || is_in(&self.revoking)).then(|| earlier.unwrap_or(self.member_epoch))
    }

    /// The same after `before`, with the epochs in which the member got what it still has.
    ///
    /// The epochs of members that join (0) and of those that left for a while (-2) are none to own anything in: what is
    /// only known to have been theirs then begins anew.
    #[must_use]
    pub(super) fn after(self, before: &Self) -> Self {
        let mut earlier_epochs = PartitionEpochs::new();
        for (topic, partitions) in self.assigned.iter().chain(&self.revoking) {
            for partition in partitions {
                let since = before.owned_since(topic, *partition);
                if let Some(epoch) = since.filter(|epoch| *epoch > 0 && *epoch != self.member_epoch) {
                    earlier_epochs.entry(topic.clone()).or_default().insert(*partition, epoch);
                }
            }
        }
        Self { earlier_epochs, ..self }
    }
}

/// What a member of the new protocol is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// Nothing: it is at its epoch's target.
    #[default]
    Stable,
    /// It has to give partitions up and say so.
    UnrevokedPartitions,
    /// Others have to give partitions up.
    UnreleasedPartitions,
}
