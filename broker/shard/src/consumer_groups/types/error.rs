//! Why the coordinator refuses, with Kafka's numbers.

use alloc::string::String;
use core::fmt;

/// A refusal. The names are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupError {
    /// -1: a group's assignment is too large to be stored.
    UnknownServerError,
    /// 12: a committed offset's text is too long.
    OffsetMetadataTooLarge,
    /// 14: too much is waiting; try again.
    CoordinatorLoadInProgress,
    /// 15: the commit took too long; the outcome is unknown.
    CoordinatorNotAvailable,
    /// 16: another node leads this group's partition.
    NotCoordinator,
    /// 22: the member's generation is not the group's.
    IllegalGeneration,
    /// 23: no protocol that all members share, or the group is of another type.
    InconsistentGroupProtocol,
    /// 24: an empty or too long group id.
    InvalidGroupId,
    /// 25: no such member.
    UnknownMemberId,
    /// 26: the session timeout is out of the configured bounds.
    InvalidSessionTimeout,
    /// 27: members have to join again.
    RebalanceInProgress,
    /// 28: too many offsets.
    InvalidCommitOffsetSize,
    /// 42: the request contradicts itself or is too large; says how.
    InvalidRequest(&'static str),
    /// 68: the group has members.
    NonEmptyGroup,
    /// 69: no such group of this type.
    GroupIdNotFound,
    /// 79: join again under this id.
    MemberIdRequired {
        /// The id.
        member_id: String,
    },
    /// 81: the group, or the coordinator, has no room.
    GroupMaxSizeReached,
    /// 82: another member has this instance id now.
    FencedInstanceId,
    /// 86: a member is subscribed to the topic.
    GroupSubscribedToTopic,
    /// 110: the member's epoch is not the one known; it has to join again.
    FencedMemberEpoch,
    /// 111: the instance id belongs to a member that has not left.
    UnreleasedInstanceId,
    /// 112: no such server-side assignor.
    UnsupportedAssignor,
    /// 113: the member's epoch is old; heartbeat and try again.
    StaleMemberEpoch,
    /// 128: the regular expression does not compile, or is too large.
    InvalidRegularExpression {
        /// What is wrong with it, for people.
        reason: String,
    },
}

impl GroupError {
    /// Kafka's number.
    #[must_use]
    pub const fn code(&self) -> i16 {
        match self {
            Self::UnknownServerError => -1,
            Self::OffsetMetadataTooLarge => 12,
            Self::CoordinatorLoadInProgress => 14,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::IllegalGeneration => 22,
            Self::InconsistentGroupProtocol => 23,
            Self::InvalidGroupId => 24,
            Self::UnknownMemberId => 25,
            Self::InvalidSessionTimeout => 26,
            Self::RebalanceInProgress => 27,
            Self::InvalidCommitOffsetSize => 28,
            Self::InvalidRequest(_) => 42,
            Self::NonEmptyGroup => 68,
            Self::GroupIdNotFound => 69,
            Self::MemberIdRequired { .. } => 79,
            Self::GroupMaxSizeReached => 81,
            Self::FencedInstanceId => 82,
            Self::GroupSubscribedToTopic => 86,
            Self::FencedMemberEpoch => 110,
            Self::UnreleasedInstanceId => 111,
            Self::UnsupportedAssignor => 112,
            Self::StaleMemberEpoch => 113,
            Self::InvalidRegularExpression { .. } => 128,
        }
    }

    /// What it says, for a response's error message.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::UnknownServerError => "the group's assignment is too large to be stored",
            Self::OffsetMetadataTooLarge => "the offset's metadata is longer than offset.metadata.max.bytes",
            Self::CoordinatorLoadInProgress => "the coordinator has too much waiting; try again",
            Self::CoordinatorNotAvailable => "the commit took too long and may or may not happen; try again",
            Self::NotCoordinator => "another node coordinates this group; find it and try again",
            Self::IllegalGeneration => "the generation is not the group's current one",
            Self::InconsistentGroupProtocol => "the group shares no such protocol, or is of another type",
            Self::InvalidGroupId => "the group id is empty or too long",
            Self::UnknownMemberId => "the group has no such member; join again",
            Self::InvalidSessionTimeout => "the session timeout is out of the configured bounds",
            Self::RebalanceInProgress => "the group is rebalancing; join again",
            Self::InvalidCommitOffsetSize => "the group, or the coordinator, has too many offsets",
            Self::InvalidRequest(reason) => reason,
            Self::NonEmptyGroup => "the group has members",
            Self::GroupIdNotFound => "there is no such group of this type",
            Self::MemberIdRequired { .. } => "join again under the member id given here",
            Self::GroupMaxSizeReached => "the group, or the coordinator, has as many as it may have",
            Self::FencedInstanceId => "another member has taken over this instance id",
            Self::GroupSubscribedToTopic => "a member of the group is subscribed to the topic",
            Self::FencedMemberEpoch => {
                "the member's epoch is not the one known; give up partitions, join again"
            }
            Self::UnreleasedInstanceId => "the instance id is still in use by another member",
            Self::UnsupportedAssignor => "the assignors are 'uniform' and 'range'",
            Self::StaleMemberEpoch => "the member's epoch is not current; heartbeat, then try again",
            Self::InvalidRegularExpression { reason } => reason,
        }
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (error {})", self.message(), self.code())
    }
}

impl core::error::Error for GroupError {}
