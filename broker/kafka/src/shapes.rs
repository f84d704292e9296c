//! The shapes of the requests that the `kafka-protocol` crate decodes, one constant a structure, in the order of the
//! APIs' keys. Names are those of Kafka's schemas; that the shapes are the crate's own is proved in
//! `tests/shapes.rs`, byte by byte.

use crate::screen::{Field, Shape};
use kafka_protocol::messages as m;

pub(crate) const LIST_OFFSETS: Shape = Shape::of::<m::ListOffsetsRequest>(
    "ListOffsets",
    &[
        Field::i32("replica_id"),
        Field::i8("isolation_level").since(2),
        Field::array("topics", &LIST_OFFSETS_TOPIC),
        Field::i32("timeout_ms").since(10),
    ],
);
const LIST_OFFSETS_TOPIC: Shape = Shape::of::<m::list_offsets_request::ListOffsetsTopic>(
    "ListOffsetsTopic",
    &[Field::text("name"), Field::array("partitions", &LIST_OFFSETS_PARTITION)],
);
const LIST_OFFSETS_PARTITION: Shape = Shape::of::<m::list_offsets_request::ListOffsetsPartition>(
    "ListOffsetsPartition",
    &[Field::i32("partition_index"), Field::i32("current_leader_epoch").since(4), Field::i64("timestamp")],
);

pub(crate) const METADATA: Shape = Shape::of::<m::MetadataRequest>(
    "Metadata",
    &[
        Field::array("topics", &METADATA_TOPIC).or_null(),
        Field::i8("allow_auto_topic_creation").since(4),
        Field::i8("include_cluster_authorized_operations").since(8).through(10),
        Field::i8("include_topic_authorized_operations").since(8),
    ],
);
const METADATA_TOPIC: Shape = Shape::of::<m::metadata_request::MetadataRequestTopic>(
    "MetadataTopic",
    &[Field::uuid("topic_id").since(10), Field::text("name").or_null()],
);

pub(crate) const OFFSET_COMMIT: Shape = Shape::of::<m::OffsetCommitRequest>(
    "OffsetCommit",
    &[
        Field::text("group_id"),
        Field::i32("generation_id_or_member_epoch"),
        Field::text("member_id"),
        Field::text("group_instance_id").since(7).or_null(),
        Field::i64("retention_time_ms").through(4),
        Field::array("topics", &OFFSET_COMMIT_TOPIC),
    ],
);
const OFFSET_COMMIT_TOPIC: Shape = Shape::of::<m::offset_commit_request::OffsetCommitRequestTopic>(
    "OffsetCommitTopic",
    &[Field::text("name"), Field::array("partitions", &OFFSET_COMMIT_PARTITION)],
);
const OFFSET_COMMIT_PARTITION: Shape = Shape::of::<m::offset_commit_request::OffsetCommitRequestPartition>(
    "OffsetCommitPartition",
    &[
        Field::i32("partition_index"),
        Field::i64("committed_offset"),
        Field::i32("committed_leader_epoch").since(6),
        Field::text("committed_metadata").or_null(),
    ],
);

pub(crate) const OFFSET_FETCH: Shape = Shape::of::<m::OffsetFetchRequest>(
    "OffsetFetch",
    &[
        Field::text("group_id").through(7),
        Field::array("topics", &OFFSET_FETCH_TOPIC).through(7).or_null(),
        Field::array("groups", &OFFSET_FETCH_GROUP).since(8),
        Field::i8("require_stable").since(7),
    ],
);
const OFFSET_FETCH_TOPIC: Shape = Shape::of::<m::offset_fetch_request::OffsetFetchRequestTopic>(
    "OffsetFetchTopic",
    &[Field::text("name").through(7), Field::i32s("partition_indexes").through(7)],
);
const OFFSET_FETCH_GROUP: Shape = Shape::of::<m::offset_fetch_request::OffsetFetchRequestGroup>(
    "OffsetFetchGroup",
    &[
        Field::text("group_id").since(8),
        Field::text("member_id").since(9).or_null(),
        Field::i32("member_epoch").since(9),
        Field::array("topics", &OFFSET_FETCH_TOPICS).since(8).or_null(),
    ],
);
const OFFSET_FETCH_TOPICS: Shape = Shape::of::<m::offset_fetch_request::OffsetFetchRequestTopics>(
    "OffsetFetchTopics",
    &[Field::text("name").since(8), Field::i32s("partition_indexes").since(8)],
);

pub(crate) const FIND_COORDINATOR: Shape = Shape::of::<m::FindCoordinatorRequest>(
    "FindCoordinator",
    &[
        Field::text("key").through(3),
        Field::i8("key_type").since(1),
        Field::texts("coordinator_keys").since(4),
    ],
);

pub(crate) const JOIN_GROUP: Shape = Shape::of::<m::JoinGroupRequest>(
    "JoinGroup",
    &[
        Field::text("group_id"),
        Field::i32("session_timeout_ms"),
        Field::i32("rebalance_timeout_ms").since(1),
        Field::text("member_id"),
        Field::text("group_instance_id").since(5).or_null(),
        Field::text("protocol_type"),
        Field::array("protocols", &JOIN_GROUP_PROTOCOL),
        Field::text("reason").since(8).or_null(),
    ],
);
const JOIN_GROUP_PROTOCOL: Shape = Shape::of::<m::join_group_request::JoinGroupRequestProtocol>(
    "JoinGroupProtocol",
    &[Field::text("name"), Field::bytes("metadata")],
);

pub(crate) const HEARTBEAT: Shape = Shape::of::<m::HeartbeatRequest>(
    "Heartbeat",
    &[
        Field::text("group_id"),
        Field::i32("generation_id"),
        Field::text("member_id"),
        Field::text("group_instance_id").since(3).or_null(),
    ],
);

pub(crate) const LEAVE_GROUP: Shape = Shape::of::<m::LeaveGroupRequest>(
    "LeaveGroup",
    &[
        Field::text("group_id"),
        Field::text("member_id").through(2),
        Field::array("members", &MEMBER_IDENTITY).since(3),
    ],
);
const MEMBER_IDENTITY: Shape = Shape::of::<m::leave_group_request::MemberIdentity>(
    "MemberIdentity",
    &[
        Field::text("member_id").since(3),
        Field::text("group_instance_id").since(3).or_null(),
        Field::text("reason").since(5).or_null(),
    ],
);

pub(crate) const SYNC_GROUP: Shape = Shape::of::<m::SyncGroupRequest>(
    "SyncGroup",
    &[
        Field::text("group_id"),
        Field::i32("generation_id"),
        Field::text("member_id"),
        Field::text("group_instance_id").since(3).or_null(),
        Field::text("protocol_type").since(5).or_null(),
        Field::text("protocol_name").since(5).or_null(),
        Field::array("assignments", &SYNC_GROUP_ASSIGNMENT),
    ],
);
const SYNC_GROUP_ASSIGNMENT: Shape = Shape::of::<m::sync_group_request::SyncGroupRequestAssignment>(
    "SyncGroupAssignment",
    &[Field::text("member_id"), Field::bytes("assignment")],
);

pub(crate) const DESCRIBE_GROUPS: Shape = Shape::of::<m::DescribeGroupsRequest>(
    "DescribeGroups",
    &[Field::texts("groups"), Field::i8("include_authorized_operations").since(3)],
);

pub(crate) const LIST_GROUPS: Shape = Shape::of::<m::ListGroupsRequest>(
    "ListGroups",
    &[Field::texts("states_filter").since(4), Field::texts("types_filter").since(5)],
);

pub(crate) const API_VERSIONS: Shape = Shape::of::<m::ApiVersionsRequest>(
    "ApiVersions",
    &[Field::text("client_software_name").since(3), Field::text("client_software_version").since(3)],
);

pub(crate) const CREATE_TOPICS: Shape = Shape::of::<m::CreateTopicsRequest>(
    "CreateTopics",
    &[Field::array("topics", &CREATABLE_TOPIC), Field::i32("timeout_ms"), Field::i8("validate_only")],
);
const CREATABLE_TOPIC: Shape = Shape::of::<m::create_topics_request::CreatableTopic>(
    "CreatableTopic",
    &[
        Field::text("name"),
        Field::i32("num_partitions"),
        Field::i16("replication_factor"),
        Field::array("assignments", &CREATABLE_REPLICA_ASSIGNMENT),
        Field::array("configs", &CREATABLE_TOPIC_CONFIG),
    ],
);
const CREATABLE_REPLICA_ASSIGNMENT: Shape = Shape::of::<m::create_topics_request::CreatableReplicaAssignment>(
    "CreatableReplicaAssignment",
    &[Field::i32("partition_index"), Field::i32s("broker_ids")],
);
const CREATABLE_TOPIC_CONFIG: Shape = Shape::of::<m::create_topics_request::CreatableTopicConfig>(
    "CreatableTopicConfig",
    &[Field::text("name"), Field::text("value").or_null()],
);

pub(crate) const DELETE_TOPICS: Shape = Shape::of::<m::DeleteTopicsRequest>(
    "DeleteTopics",
    &[
        Field::array("topics", &DELETE_TOPIC_STATE).since(6),
        Field::texts("topic_names").through(5),
        Field::i32("timeout_ms"),
    ],
);
const DELETE_TOPIC_STATE: Shape = Shape::of::<m::delete_topics_request::DeleteTopicState>(
    "DeleteTopicState",
    &[Field::text("name").since(6).or_null(), Field::uuid("topic_id").since(6)],
);

pub(crate) const DELETE_RECORDS: Shape = Shape::of::<m::DeleteRecordsRequest>(
    "DeleteRecords",
    &[Field::array("topics", &DELETE_RECORDS_TOPIC), Field::i32("timeout_ms")],
);
const DELETE_RECORDS_TOPIC: Shape = Shape::of::<m::delete_records_request::DeleteRecordsTopic>(
    "DeleteRecordsTopic",
    &[Field::text("name"), Field::array("partitions", &DELETE_RECORDS_PARTITION)],
);
const DELETE_RECORDS_PARTITION: Shape = Shape::of::<m::delete_records_request::DeleteRecordsPartition>(
    "DeleteRecordsPartition",
    &[Field::i32("partition_index"), Field::i64("offset")],
);

pub(crate) const INIT_PRODUCER_ID: Shape = Shape::of::<m::InitProducerIdRequest>(
    "InitProducerId",
    &[
        Field::text("transactional_id").or_null(),
        Field::i32("transaction_timeout_ms"),
        Field::i64("producer_id").since(3),
        Field::i16("producer_epoch").since(3),
    ],
);

pub(crate) const OFFSET_FOR_LEADER_EPOCH: Shape = Shape::of::<m::OffsetForLeaderEpochRequest>(
    "OffsetForLeaderEpoch",
    &[Field::i32("replica_id").since(3), Field::array("topics", &OFFSET_FOR_LEADER_TOPIC)],
);
const OFFSET_FOR_LEADER_TOPIC: Shape = Shape::of::<m::offset_for_leader_epoch_request::OffsetForLeaderTopic>(
    "OffsetForLeaderTopic",
    &[Field::text("topic"), Field::array("partitions", &OFFSET_FOR_LEADER_PARTITION)],
);
const OFFSET_FOR_LEADER_PARTITION: Shape =
    Shape::of::<m::offset_for_leader_epoch_request::OffsetForLeaderPartition>(
        "OffsetForLeaderPartition",
        &[Field::i32("partition"), Field::i32("current_leader_epoch"), Field::i32("leader_epoch")],
    );

pub(crate) const DESCRIBE_ACLS: Shape = Shape::of::<m::DescribeAclsRequest>("DescribeAcls", ACL_FILTER);
const ACL_FILTER: &[Field] = &[
    Field::i8("resource_type_filter"),
    Field::text("resource_name_filter").or_null(),
    Field::i8("pattern_type_filter"),
    Field::text("principal_filter").or_null(),
    Field::text("host_filter").or_null(),
    Field::i8("operation"),
    Field::i8("permission_type"),
];

pub(crate) const CREATE_ACLS: Shape =
    Shape::of::<m::CreateAclsRequest>("CreateAcls", &[Field::array("creations", &ACL_CREATION)]);
const ACL_CREATION: Shape = Shape::of::<m::create_acls_request::AclCreation>(
    "AclCreation",
    &[
        Field::i8("resource_type"),
        Field::text("resource_name"),
        Field::i8("resource_pattern_type"),
        Field::text("principal"),
        Field::text("host"),
        Field::i8("operation"),
        Field::i8("permission_type"),
    ],
);

pub(crate) const DELETE_ACLS: Shape =
    Shape::of::<m::DeleteAclsRequest>("DeleteAcls", &[Field::array("filters", &DELETE_ACLS_FILTER)]);
const DELETE_ACLS_FILTER: Shape =
    Shape::of::<m::delete_acls_request::DeleteAclsFilter>("DeleteAclsFilter", ACL_FILTER);

pub(crate) const DESCRIBE_CONFIGS: Shape = Shape::of::<m::DescribeConfigsRequest>(
    "DescribeConfigs",
    &[
        Field::array("resources", &DESCRIBE_CONFIGS_RESOURCE),
        Field::i8("include_synonyms"),
        Field::i8("include_documentation").since(3),
    ],
);
const DESCRIBE_CONFIGS_RESOURCE: Shape = Shape::of::<m::describe_configs_request::DescribeConfigsResource>(
    "DescribeConfigsResource",
    &[Field::i8("resource_type"), Field::text("resource_name"), Field::texts("configuration_keys").or_null()],
);

pub(crate) const ALTER_CONFIGS: Shape = Shape::of::<m::AlterConfigsRequest>(
    "AlterConfigs",
    &[Field::array("resources", &ALTER_CONFIGS_RESOURCE), Field::i8("validate_only")],
);
const ALTER_CONFIGS_RESOURCE: Shape = Shape::of::<m::alter_configs_request::AlterConfigsResource>(
    "AlterConfigsResource",
    &[Field::i8("resource_type"), Field::text("resource_name"), Field::array("configs", &ALTERABLE_CONFIG)],
);
const ALTERABLE_CONFIG: Shape = Shape::of::<m::alter_configs_request::AlterableConfig>(
    "AlterableConfig",
    &[Field::text("name"), Field::text("value").or_null()],
);

pub(crate) const DESCRIBE_LOG_DIRS: Shape = Shape::of::<m::DescribeLogDirsRequest>(
    "DescribeLogDirs",
    &[Field::array("topics", &DESCRIBABLE_LOG_DIR_TOPIC).or_null()],
);
const DESCRIBABLE_LOG_DIR_TOPIC: Shape = Shape::of::<m::describe_log_dirs_request::DescribableLogDirTopic>(
    "DescribableLogDirTopic",
    &[Field::text("topic"), Field::i32s("partitions")],
);

pub(crate) const CREATE_PARTITIONS: Shape = Shape::of::<m::CreatePartitionsRequest>(
    "CreatePartitions",
    &[Field::array("topics", &CREATE_PARTITIONS_TOPIC), Field::i32("timeout_ms"), Field::i8("validate_only")],
);
const CREATE_PARTITIONS_TOPIC: Shape = Shape::of::<m::create_partitions_request::CreatePartitionsTopic>(
    "CreatePartitionsTopic",
    &[
        Field::text("name"),
        Field::i32("count"),
        Field::array("assignments", &CREATE_PARTITIONS_ASSIGNMENT).or_null(),
    ],
);
const CREATE_PARTITIONS_ASSIGNMENT: Shape = Shape::of::<
    m::create_partitions_request::CreatePartitionsAssignment,
>("CreatePartitionsAssignment", &[Field::i32s("broker_ids")]);

pub(crate) const DELETE_GROUPS: Shape =
    Shape::of::<m::DeleteGroupsRequest>("DeleteGroups", &[Field::texts("groups_names")]);

pub(crate) const INCREMENTAL_ALTER_CONFIGS: Shape = Shape::of::<m::IncrementalAlterConfigsRequest>(
    "IncrementalAlterConfigs",
    &[Field::array("resources", &INCREMENTAL_ALTER_CONFIGS_RESOURCE), Field::i8("validate_only")],
);
const INCREMENTAL_ALTER_CONFIGS_RESOURCE: Shape =
    Shape::of::<m::incremental_alter_configs_request::AlterConfigsResource>(
        "IncrementalAlterConfigsResource",
        &[
            Field::i8("resource_type"),
            Field::text("resource_name"),
            Field::array("configs", &INCREMENTAL_ALTERABLE_CONFIG),
        ],
    );
const INCREMENTAL_ALTERABLE_CONFIG: Shape = Shape::of::<m::incremental_alter_configs_request::AlterableConfig>(
    "IncrementalAlterableConfig",
    &[Field::text("name"), Field::i8("config_operation"), Field::text("value").or_null()],
);

pub(crate) const OFFSET_DELETE: Shape = Shape::of::<m::OffsetDeleteRequest>(
    "OffsetDelete",
    &[Field::text("group_id"), Field::array("topics", &OFFSET_DELETE_TOPIC)],
);
const OFFSET_DELETE_TOPIC: Shape = Shape::of::<m::offset_delete_request::OffsetDeleteRequestTopic>(
    "OffsetDeleteTopic",
    &[Field::text("name"), Field::array("partitions", &OFFSET_DELETE_PARTITION)],
);
const OFFSET_DELETE_PARTITION: Shape = Shape::of::<m::offset_delete_request::OffsetDeleteRequestPartition>(
    "OffsetDeletePartition",
    &[Field::i32("partition_index")],
);

pub(crate) const DESCRIBE_CLUSTER: Shape = Shape::of::<m::DescribeClusterRequest>(
    "DescribeCluster",
    &[
        Field::i8("include_cluster_authorized_operations"),
        Field::i8("endpoint_type").since(1),
        Field::i8("include_fenced_brokers").since(2),
    ],
);

pub(crate) const CONSUMER_GROUP_HEARTBEAT: Shape = Shape::of::<m::ConsumerGroupHeartbeatRequest>(
    "ConsumerGroupHeartbeat",
    &[
        Field::text("group_id"),
        Field::text("member_id"),
        Field::i32("member_epoch"),
        Field::text("instance_id").or_null(),
        Field::text("rack_id").or_null(),
        Field::i32("rebalance_timeout_ms"),
        Field::texts("subscribed_topic_names").or_null(),
        Field::text("subscribed_topic_regex").since(1).or_null(),
        Field::text("server_assignor").or_null(),
        Field::array("topic_partitions", &TOPIC_PARTITIONS).or_null(),
    ],
);
const TOPIC_PARTITIONS: Shape = Shape::of::<m::consumer_group_heartbeat_request::TopicPartitions>(
    "TopicPartitions",
    &[Field::uuid("topic_id"), Field::i32s("partitions")],
);

pub(crate) const CONSUMER_GROUP_DESCRIBE: Shape = Shape::of::<m::ConsumerGroupDescribeRequest>(
    "ConsumerGroupDescribe",
    &[Field::texts("group_ids"), Field::i8("include_authorized_operations")],
);
