//! Kafka's error codes, as far as they are answered here.

use core::fmt;

/// Whether a client may send the same request again and hope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may: the error passes by itself or with fresher metadata.
    Allowed,
    /// It may not: the request as it is will never succeed.
    Useless,
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $retry:ident;)+) => {
        /// One code of Kafka's protocol. Each API has a closed set of codes that its clients know how to take.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl ErrorCode {
            /// Every code that is answered, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Kafka's name, as operators know it from clients' logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Whether clients try again by themselves.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$variant => Retry::$retry,)+
                }
            }
        }
    };
}

error_codes! {
    /// Nobody knows. Poison for idempotent Java producers (KAFKA-14034): never answer it to Produce.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", Useless;
    /// Success.
    None = 0, "NONE", Useless;
    /// The offset is above the log's end or below its start.
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", Useless;
    /// The batch's checksum does not match its bytes.
    CorruptMessage = 2, "CORRUPT_MESSAGE", Allowed;
    /// No such topic, or no such partition of it.
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", Allowed;
    /// Nobody leads the partition at present.
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", Allowed;
    /// Another broker leads the partition.
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", Allowed;
    /// Not done within the request's time. Never an answer to Fetch.
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", Allowed;
    /// The replica is not here.
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", Allowed;
    /// The batch is over the topic's `max.message.bytes`: Java splits it and sends the halves.
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", Useless;
    /// The metadata committed with an offset is too long.
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", Useless;
    /// The connection was lost: what clients tell themselves.
    NetworkException = 13, "NETWORK_EXCEPTION", Allowed;
    /// The group's coordinator is still reading its state.
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", Allowed;
    /// The group has no coordinator at present.
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", Allowed;
    /// Another broker coordinates the group.
    NotCoordinator = 16, "NOT_COORDINATOR", Allowed;
    /// No topic may have that name.
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", Useless;
    /// The batch is larger than a segment.
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", Useless;
    /// Too few replicas are in sync to append.
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", Allowed;
    /// Appended, but too few replicas have it.
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Allowed;
    /// `acks` is none of -1, 0 and 1.
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", Useless;
    /// The member's generation is over.
    IllegalGeneration = 22, "ILLEGAL_GENERATION", Useless;
    /// The member has no protocol in common with its group.
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", Useless;
    /// No group may have that id.
    InvalidGroupId = 24, "INVALID_GROUP_ID", Useless;
    /// The group has no such member.
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", Useless;
    /// The session timeout is out of the configured bounds.
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", Useless;
    /// The group rebalances: join again.
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", Useless;
    /// The principal may not use the topic.
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", Useless;
    /// The principal may not use the group.
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", Useless;
    /// The principal may not do this to the cluster.
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", Useless;
    /// A record's timestamp is out of the topic's bounds.
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", Useless;
    /// That way of authenticating is not offered.
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", Useless;
    /// Not now, while authenticating.
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", Useless;
    /// The API is not served in that version.
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", Useless;
    /// The topic exists.
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", Useless;
    /// No topic may have so many partitions.
    InvalidPartitions = 37, "INVALID_PARTITIONS", Useless;
    /// There are not that many brokers.
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", Useless;
    /// Those brokers cannot have those partitions.
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", Useless;
    /// No such config, or not with that value.
    InvalidConfig = 40, "INVALID_CONFIG", Useless;
    /// Another broker is the controller.
    NotController = 41, "NOT_CONTROLLER", Allowed;
    /// Well-formed, but it makes no sense.
    InvalidRequest = 42, "INVALID_REQUEST", Useless;
    /// The batch asks for what its format, or this broker, cannot do.
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Useless;
    /// A policy forbids it.
    PolicyViolation = 44, "POLICY_VIOLATION", Useless;
    /// Batches of an idempotent producer are missing before this one.
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Useless;
    /// The batch was appended before, too long ago to say where.
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", Useless;
    /// A later instance of the producer has begun.
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", Useless;
    /// Not in that state of the transaction.
    InvalidTxnState = 48, "INVALID_TXN_STATE", Useless;
    /// The producer id is another than the transactional id's.
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", Useless;
    /// The transaction timeout is over the configured bound.
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", Useless;
    /// The producer's last transaction is still being ended.
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", Allowed;
    /// The principal may not use the transactional id.
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Useless;
    /// There is no authorizer, and so nothing that could be allowed or denied.
    SecurityDisabled = 54, "SECURITY_DISABLED", Useless;
    /// Not tried, as another part of the request failed.
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", Useless;
    /// The disk failed.
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", Allowed;
    /// No such log directory.
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", Useless;
    /// The credentials were not accepted.
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", Useless;
    /// The partition has forgotten the producer.
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", Useless;
    /// The group has members.
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", Useless;
    /// No such group.
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", Useless;
    /// No such fetch session: begin a new one.
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", Allowed;
    /// The fetch session is at another epoch: begin a new one.
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", Allowed;
    /// The partition's leader has no listener of that name.
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", Allowed;
    /// Deleting topics is switched off.
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", Useless;
    /// The client knows an older leader than we do.
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", Allowed;
    /// The client knows a later leader than we do.
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", Allowed;
    /// No such codec, or not in this version of Produce.
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", Useless;
    /// The new leader has not committed yet what the offset asks for.
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", Allowed;
    /// Join again with the member id that this answer gives.
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", Useless;
    /// The preferred replica cannot lead.
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", Allowed;
    /// The group has as many members as it may.
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", Useless;
    /// Another member has taken over the instance id.
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", Useless;
    /// The preferred replica leads already.
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", Allowed;
    /// The partition's replicas are not being moved.
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", Useless;
    /// The group reads the topic: its offset cannot be deleted.
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", Useless;
    /// A record, or the batch around it, is not as it has to be.
    InvalidRecord = 87, "INVALID_RECORD", Useless;
    /// A transaction that commits the offset has not ended.
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", Allowed;
    /// Over a quota: try again after the throttle time.
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", Allowed;
    /// A later instance of the producer has begun.
    ProducerFenced = 90, "PRODUCER_FENCED", Useless;
    /// No such thing.
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", Useless;
    /// The same thing twice in one request.
    DuplicateResource = 92, "DUPLICATE_RESOURCE", Useless;
    /// The topic id is unknown here.
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", Allowed;
    /// The topic's id is another than the one in the log.
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", Allowed;
    /// No such transactional id.
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", Useless;
    /// The fetch session mixes topic ids and names: begin a new one.
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", Allowed;
    /// The member's epoch is over (KIP-848): join again.
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", Useless;
    /// Another member still holds the instance id.
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", Useless;
    /// The group's assignor is not offered.
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", Useless;
    /// The member's epoch is behind: heartbeat first.
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", Useless;
    /// Brokers were asked for at a controller, or the reverse.
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", Useless;
    /// No such kind of endpoint.
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", Useless;
    /// The transaction has to be aborted, and the producer may go on.
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", Useless;
    /// The subscription's regular expression is none.
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", Useless;
    /// The client knows another cluster's brokers: begin again from the configured ones.
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", Useless;
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The error of that number, if it is one that is answered here.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.binary_search_by_key(&code, |error| error.code()).ok().map(|at| Self::ALL[at])
    }

    /// Whether it may stand at a partition of a Fetch answer. At any other code the Java consumer throws an
    /// `IllegalStateException` and dies.
    #[must_use]
    pub fn fetch_allowed(self) -> bool {
        FETCH_ALLOWED.contains(&self)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.code())
    }
}

/// What the Java consumer knows how to take at a partition.
const FETCH_ALLOWED: [ErrorCode; 14] = [
    ErrorCode::None,
    ErrorCode::OffsetOutOfRange,
    ErrorCode::CorruptMessage,
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::ReplicaNotAvailable,
    ErrorCode::TopicAuthorizationFailed,
    ErrorCode::KafkaStorageError,
    ErrorCode::FencedLeaderEpoch,
    ErrorCode::UnknownLeaderEpoch,
    ErrorCode::OffsetNotAvailable,
    ErrorCode::UnknownTopicId,
    ErrorCode::InconsistentTopicId,
    ErrorCode::UnknownServerError,
];

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::ResponseError;

    /// `NotLeaderOrFollower` as `NOT_LEADER_OR_FOLLOWER`.
    fn screaming(name: &str) -> String {
        let mut screaming = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !screaming.is_empty() {
                screaming.push('_');
            }
            screaming.push(letter.to_ascii_uppercase());
        }
        screaming
    }

    #[test]
    fn numbers_names_and_retries_are_kafkas() {
        for error in ErrorCode::ALL.iter().filter(|error| **error != ErrorCode::None) {
            let theirs = ResponseError::try_from_code(error.code()).expect("a code of Kafka's");
            // Every client waits for its last transaction to end, though the crate's table calls the error final.
            let retriable = theirs.is_retriable() || *error == ErrorCode::ConcurrentTransactions;
            assert_eq!(error.retry() == Retry::Allowed, retriable, "{error}");
            assert_eq!(error.name(), screaming(&format!("{error:?}")));
            let known: String = format!("{theirs:?}").to_uppercase();
            assert_eq!(error.name().replace('_', ""), known);
        }
    }

    #[test]
    fn numbers_lead_back_to_their_errors() {
        assert!(ErrorCode::ALL.is_sorted(), "looked up by halves");
        for code in i16::MIN..=i16::MAX {
            let found = ErrorCode::from_code(code);
            assert_eq!(found, ErrorCode::ALL.iter().copied().find(|error| error.code() == code));
        }
    }

    #[test]
    fn a_fetch_never_times_out() {
        assert!(!ErrorCode::RequestTimedOut.fetch_allowed());
        assert!(ErrorCode::None.fetch_allowed());
    }
}
