//! What is asked of the group coordinator and what it answers, in plain types: mapping to the wire, and one message
//! that names several groups, are the listener's.

mod classic;
mod consumer;
mod error;
mod offsets;

pub use classic::{
    ClassicDescription, ClassicMemberDescription, GroupProtocol, Heartbeat, JoinGroup, Joined, JoinedMember,
    LeaveGroup, LeavingMember, LeftMember, MemberIdRule, SyncGroup, Synced,
};
pub use consumer::{
    ConsumerDescription, ConsumerHeartbeat, ConsumerHeartbeatAnswer, ConsumerMemberDescription, TopicImage,
};
pub use error::GroupError;
pub use offsets::{
    CommitOffset, FetchedOffset, GroupListing, GroupType, ListGroups, OffsetCommit, OffsetDelete,
    OffsetFetch, PartitionOutcome, TopicPartition,
};

use super::record::GroupRecord;
use crate::types::RequestId;
use alloc::string::String;
use alloc::vec::Vec;

/// One request to the coordinator of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// API 11.
    Join(JoinGroup),
    /// API 14.
    Sync(SyncGroup),
    /// API 12.
    Heartbeat(Heartbeat),
    /// API 13.
    Leave(LeaveGroup),
    /// API 8.
    OffsetCommit(OffsetCommit),
    /// API 9, one group.
    OffsetFetch(OffsetFetch),
    /// API 47.
    OffsetDelete(OffsetDelete),
    /// API 42, one group.
    DeleteGroup {
        /// Its id.
        group: String,
    },
    /// API 15, one group.
    Describe {
        /// Its id.
        group: String,
    },
    /// API 16.
    List(ListGroups),
    /// API 68.
    ConsumerHeartbeat(ConsumerHeartbeat),
    /// API 69, one group.
    ConsumerDescribe {
        /// Its id.
        group: String,
    },
}

/// What is answered where nothing is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupResponse {
    /// To [`GroupRequest::Join`].
    Joined(Joined),
    /// To [`GroupRequest::Sync`].
    Synced(Synced),
    /// To [`GroupRequest::Heartbeat`] and [`GroupRequest::DeleteGroup`].
    Done,
    /// To [`GroupRequest::Leave`], in the order of the request.
    Left(Vec<LeftMember>),
    /// To [`GroupRequest::OffsetCommit`] and [`GroupRequest::OffsetDelete`], in the order of the request.
    Partitions(Vec<PartitionOutcome>),
    /// To [`GroupRequest::OffsetFetch`], in the order of the request; of "all", in the order of their names.
    Offsets(Vec<FetchedOffset>),
    /// To [`GroupRequest::Describe`].
    Described(ClassicDescription),
    /// To [`GroupRequest::List`], by group id.
    Listed(Vec<GroupListing>),
    /// To [`GroupRequest::ConsumerHeartbeat`].
    ConsumerHeartbeat(ConsumerHeartbeatAnswer),
    /// To [`GroupRequest::ConsumerDescribe`].
    ConsumerDescribed(ConsumerDescription),
}

/// What the driver is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Answer a request, now. Every request gets exactly one.
    Respond {
        /// Which request.
        request: RequestId,
        /// The answer; an error goes to all that the request names.
        answer: Answer,
    },
    /// Append these records as one batch (all or none), after those of earlier outputs. What has to wait for their
    /// commit waits inside [`super::Groups`].
    Append {
        /// Never empty.
        records: Vec<GroupRecord>,
    },
}

/// An answer to a request as a whole.
pub type Answer = Result<GroupResponse, GroupError>;
