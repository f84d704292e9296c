//! What the shards and the coordinator refuse, in Kafka's codes.

use raftline_kafka::error::ErrorCode;
use raftline_proto::api as pb;
use raftline_shard::types::{FetchError, ProduceError};

/// The code for a refused produce. Each may be tried again by the client but for those about the batch itself.
pub(super) fn produce(found: &ProduceError) -> ErrorCode {
    match found {
        // With an idempotent producer both are safe to repeat; that of an unknown outcome has no code of its own.
        ProduceError::UnknownGroup
        | ProduceError::NotLeader { .. }
        | ProduceError::LeadershipLost { .. }
        | ProduceError::Stopping => ErrorCode::NotLeaderOrFollower,
        ProduceError::TimedOut => ErrorCode::RequestTimedOut,
        ProduceError::Busy => ErrorCode::NotEnoughReplicas,
        ProduceError::DiskFull { .. } => ErrorCode::KafkaStorageError,
        ProduceError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        ProduceError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        ProduceError::ProducerFenced { .. } => ErrorCode::InvalidProducerEpoch,
    }
}

/// The code for a refused fetch: of the closed set that its clients know.
pub(super) fn fetch(found: &FetchError) -> ErrorCode {
    match found {
        FetchError::UnknownGroup | FetchError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        FetchError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        FetchError::Busy => ErrorCode::ReplicaNotAvailable,
        FetchError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// The code for what the native API's own functions refused.
pub(super) fn native(found: &pb::Error) -> ErrorCode {
    match found.code() {
        pb::ErrorCode::NotLeader | pb::ErrorCode::LeadershipLost => ErrorCode::NotLeaderOrFollower,
        pb::ErrorCode::NotCoordinator | pb::ErrorCode::Busy | pb::ErrorCode::Stopping => {
            ErrorCode::NotController
        }
        pb::ErrorCode::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        pb::ErrorCode::DiskFull | pb::ErrorCode::StorageError => ErrorCode::KafkaStorageError,
        pb::ErrorCode::TimedOut => ErrorCode::RequestTimedOut,
        pb::ErrorCode::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        pb::ErrorCode::CorruptBatch => ErrorCode::CorruptMessage,
        pb::ErrorCode::InvalidBatch => ErrorCode::InvalidRecord,
        pb::ErrorCode::BatchTooLarge => ErrorCode::MessageTooLarge,
        pb::ErrorCode::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        pb::ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        pb::ErrorCode::TopicExists => ErrorCode::TopicAlreadyExists,
        pb::ErrorCode::InvalidTopicName => ErrorCode::InvalidTopicException,
        pb::ErrorCode::InvalidPartitions => ErrorCode::InvalidPartitions,
        pb::ErrorCode::InvalidReplication => ErrorCode::InvalidReplicationFactor,
        pb::ErrorCode::InvalidConfig => ErrorCode::InvalidConfig,
        pb::ErrorCode::InvalidRequest => ErrorCode::InvalidRequest,
        pb::ErrorCode::LimitExceeded => ErrorCode::PolicyViolation,
        pb::ErrorCode::GroupNotFound => ErrorCode::GroupIdNotFound,
        pb::ErrorCode::GroupNotEmpty => ErrorCode::NonEmptyGroup,
        pb::ErrorCode::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        pb::ErrorCode::GroupTypeMismatch => ErrorCode::InconsistentGroupProtocol,
        pb::ErrorCode::UnknownMember => ErrorCode::UnknownMemberId,
        pb::ErrorCode::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        pb::ErrorCode::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
        pb::ErrorCode::Unspecified => ErrorCode::UnknownServerError,
    }
}
