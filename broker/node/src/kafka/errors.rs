//! What the shards and the coordinator refuse, in Kafka's codes.

use raftline_kafka::error::ErrorCode;
use raftline_proto::api as pb;
use raftline_shard::types::{DeleteError, FetchError, ProduceError};

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
        FetchError::NotYet => ErrorCode::OffsetNotAvailable,
        FetchError::UnknownTerm { .. } => ErrorCode::UnknownLeaderEpoch,
        FetchError::Busy => ErrorCode::ReplicaNotAvailable,
        FetchError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// The code for records that were not deleted. Each may be asked for again but for those about the request itself.
pub(super) fn deletion(found: &DeleteError) -> ErrorCode {
    match found {
        DeleteError::UnknownGroup
        | DeleteError::NotLeader { .. }
        | DeleteError::LeadershipLost { .. }
        | DeleteError::Stopping => ErrorCode::NotLeaderOrFollower,
        DeleteError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteError::CompactedOnly => ErrorCode::PolicyViolation,
        DeleteError::TimedOut => ErrorCode::RequestTimedOut,
        DeleteError::Busy => ErrorCode::NotEnoughReplicas,
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
        pb::ErrorCode::InvalidTopicName | pb::ErrorCode::InternalTopic => ErrorCode::InvalidTopicException,
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

/// The same with its text.
pub(super) fn refused(found: pb::Error) -> (ErrorCode, String) {
    (native(&found), found.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_kafka::error::Retry;
    use raftline_proto::ids::{Offset, Term};

    #[test]
    fn no_refused_produce_is_an_unknown_error() {
        let refusals = [
            (ProduceError::UnknownGroup, 6),
            (ProduceError::NotLeader { leader: None, term: Term(1) }, 6),
            (ProduceError::LeadershipLost { leader: None }, 6),
            (ProduceError::Stopping, 6),
            (ProduceError::TimedOut, 7),
            (ProduceError::Busy, 19),
            (ProduceError::DiskFull { free_bytes: 0, reserve_bytes: 1 }, 56),
        ];
        for (refusal, code) in refusals {
            let error = produce(&refusal);
            assert_eq!((error.code(), error.retry()), (code, Retry::Allowed), "{refusal:?}");
        }
        let finals = [
            (ProduceError::TooLarge { batch_bytes: 2, bytes_max: 1 }, 10),
            (ProduceError::OutOfOrderSequence { expected: 1, found: 2 }, 45),
            (ProduceError::ProducerFenced { current: 1, found: 0 }, 47),
        ];
        for (refusal, code) in finals {
            assert_eq!(produce(&refusal).code(), code);
        }
    }

    #[test]
    fn a_refused_fetch_has_a_code_that_consumers_know() {
        let out_of_range = FetchError::OffsetOutOfRange {
            asked: Offset(9),
            start_offset: Offset(0),
            high_watermark: Offset(3),
        };
        for refusal in [
            FetchError::UnknownGroup,
            FetchError::NotLeader { leader: None, term: Term(1) },
            out_of_range,
            FetchError::NotYet,
            FetchError::UnknownTerm { asked: Term(2), term: Term(1) },
            FetchError::Busy,
            FetchError::Storage("damaged".into()),
        ] {
            assert!(fetch(&refusal).fetch_allowed(), "{refusal:?}");
        }
    }
}
