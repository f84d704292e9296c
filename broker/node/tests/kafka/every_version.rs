//! Every API that ApiVersions tells of, in every version that it tells of: a sensible request gets an answer that a
//! client can read to its last byte, and that says what was asked for.

use crate::client::{
    Connection, Lone, batches, fetch, fetch_by_id, name, only_fetched, only_produced, produce, produce_by_id,
    text,
};
use crate::common::batch;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::messages::{incremental_alter_configs_request as incremental, metadata_response};
use raftline_kafka::uuid::Uuid;
use std::ops::RangeInclusive;

/// The versions that the broker says it serves, none if it does not; Produce's first three are shown and refused.
pub async fn served(connection: &mut Connection, key: ApiKey) -> RangeInclusive<i16> {
    let answer = connection.ask(0, &ApiVersionsRequest::default()).await;
    let key = key as i16;
    let Some(line) = answer.api_keys.iter().find(|line| line.api_key == key) else {
        return RangeInclusive::new(1, 0);
    };
    let first = if key == ApiKey::Produce as i16 { 3 } else { line.min_version };
    first..=line.max_version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_advertised_that_is_not_tried_here() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let answer = connection.ask(0, &ApiVersionsRequest::default()).await;
    let tried = [0, 1, 2, 3, 18, 19, 20, 21, 22, 23, 29, 30, 31, 32, 33, 35, 37, 44, 60];
    // Those of consumer groups have a file of their own.
    let of_groups = [8, 9, 10, 11, 12, 13, 14, 15, 16, 42, 47, 68, 69];
    for line in answer.api_keys {
        let key = line.api_key;
        assert!(tried.contains(&key) || of_groups.contains(&key), "nobody tries API {key}");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_versions() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for version in served(&mut connection, ApiKey::ApiVersions).await {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request =
                request.with_client_software_name(text("a-client")).with_client_software_version(text("1.0"));
        }
        let answer = connection.ask(version, &request).await;
        assert_eq!(answer.error_code, 0, "version {version}");
        assert!(answer.api_keys.iter().any(|line| line.api_key == 18 && line.max_version == 4));
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    for version in served(&mut connection, ApiKey::Metadata).await {
        let check = |answer: &MetadataResponse| {
            assert_eq!(answer.brokers.len(), 1, "version {version}");
            let broker = &answer.brokers[0];
            assert_eq!(format!("{}:{}", &*broker.host, broker.port), lone.kafka);
            assert!(version < 1 || answer.controller_id == broker.node_id);
            assert!(version < 2 || answer.cluster_id.as_ref().is_some_and(|id| !id.is_empty()));
        };
        let named = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![named("t")]));
        let answer = connection.ask(version, &request).await;
        check(&answer);
        let topic = &answer.topics[0];
        assert_eq!((topic.error_code, topic.name.clone(), topic.partitions.len()), (0, Some(name("t")), 2));
        assert_eq!(topic.topic_id.is_nil(), version < 10, "version {version}");
        let led = |partition: &metadata_response::MetadataResponsePartition| {
            partition.error_code == 0
                && partition.leader_id.0 == 1
                && partition.replica_nodes == [BrokerId(1)]
        };
        assert!(topic.partitions.iter().all(led), "version {version}: {topic:?}");

        let all = if version == 0 { Some(Vec::new()) } else { None };
        let answer = connection.ask(version, &MetadataRequest::default().with_topics(all)).await;
        check(&answer);
        assert_eq!(answer.topics.len(), 1, "version {version}");
        if version >= 1 {
            let none = MetadataRequest::default().with_topics(Some(Vec::new()));
            assert_eq!(connection.ask(version, &none).await.topics, []);
        }

        // What a client may do is told to those who ask for it: everything.
        if version >= 8 {
            let mut request = request.with_include_topic_authorized_operations(true);
            request.include_cluster_authorized_operations = version <= 10;
            let answer = connection.ask(version, &request).await;
            assert_eq!(answer.topics[0].topic_authorized_operations, 0xdf8);
            let of_cluster = if version <= 10 { 0x1fa0 } else { i32::MIN };
            assert_eq!(answer.cluster_authorized_operations, of_cluster, "version {version}");
        }

        let mut request = MetadataRequest::default().with_topics(Some(vec![named("a/b")]));
        if version >= 4 {
            let unknown = request.clone().with_topics(Some(vec![named("unknown")]));
            let answer = connection.ask(version, &unknown.with_allow_auto_topic_creation(false)).await;
            assert_eq!(answer.topics[0].error_code, 3, "version {version}");
            request = request.with_allow_auto_topic_creation(true);
        }
        let answer = connection.ask(version, &request).await;
        assert_eq!(answer.topics[0].error_code, 17, "version {version}");
        if version >= 10 {
            let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(topic.topic_id);
            let request = MetadataRequest::default().with_topics(Some(vec![by_id]));
            // Before version 12 a name has to be given.
            if version >= 12 {
                let answer = connection.ask(version, &request).await;
                assert_eq!((answer.topics[0].error_code, &answer.topics[0].name), (0, &Some(name("t"))));
            }
        }
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_and_fetch() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let (id, unknown_id) = (connection.topic_id("t").await, Uuid::from_u128(7));
    let mut end = 0;
    for version in served(&mut connection, ApiKey::Produce).await {
        let produce = |topic, id, partition, batch| produce_by_id(produce(-1, topic, partition, batch), id);
        let answer = connection.ask(version, &produce("t", id, 0, batch(1_000, &["a", "b"]))).await;
        let named = (&answer.responses[0].name, answer.responses[0].topic_id);
        let (by_name, by_id) = ((&name("t"), Uuid::nil()), (&name(""), id));
        assert_eq!(named, if version < 13 { by_name } else { by_id }, "version {version}");
        let produced = only_produced(answer);
        assert_eq!(
            (produced.error_code, produced.index, produced.base_offset),
            (0, 0, end),
            "version {version}"
        );
        let start = if version < 5 { -1 } else { 0 };
        assert_eq!((produced.log_append_time_ms, produced.log_start_offset), (-1, start));
        let request = produce("unknown", unknown_id, 0, batch(0, &["a"]));
        let refused = only_produced(connection.ask(version, &request).await);
        assert_eq!(refused.error_code, if version < 13 { 3 } else { 100 }, "version {version}");
        let request = produce("t", id, 1, batch(0, &["a"]));
        let refused = only_produced(connection.ask(version, &request).await);
        assert_eq!((refused.error_code, refused.base_offset), (3, -1), "version {version}");
        end += 2;
    }
    for version in served(&mut connection, ApiKey::Fetch).await {
        let fetch = |topic, id, from| fetch_by_id(fetch(topic, &[(0, from, i32::MAX)]), id);
        for isolation in [0, 1] {
            let request = fetch("t", id, 0).with_isolation_level(isolation);
            let answer = connection.ask(version, &request).await;
            let named = (&answer.responses[0].topic, answer.responses[0].topic_id);
            let (by_name, by_id) = ((&name("t"), Uuid::nil()), (&name(""), id));
            assert_eq!(named, if version < 13 { by_name } else { by_id }, "version {version}");
            let found = only_fetched(answer);
            assert_eq!((found.error_code, found.high_watermark), (0, end), "version {version}");
            assert_eq!(found.last_stable_offset, end, "version {version}");
            assert_eq!(found.log_start_offset, if version < 5 { -1 } else { 0 });
            assert_eq!(found.aborted_transactions.is_some(), isolation == 1, "version {version}");
            assert_eq!(found.preferred_read_replica.0, -1, "version {version}");
            assert_eq!(batches(&found).len() as i64 * 2, end);
        }
        let refused = only_fetched(connection.ask(version, &fetch("unknown", unknown_id, 0)).await);
        let unknown = if version < 13 { 3 } else { 100 };
        assert_eq!((refused.error_code, refused.high_watermark), (unknown, -1), "version {version}");
        let refused = only_fetched(connection.ask(version, &fetch("t", id, end + 1)).await);
        assert_eq!(refused.error_code, 1, "version {version}");
        let nothing = FetchRequest::default().with_max_wait_ms(0).with_min_bytes(1).with_max_bytes(1);
        assert_eq!(connection.ask(version, &nothing).await.responses, []);
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_offsets() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    connection.produce(9, "t", 0, batch(1_000, &["a", "b", "c"])).await;
    // By what is asked: the offset and the timestamp.
    let queries = [
        (1, -1, (3, -1)),
        (1, -2, (0, -1)),
        (1, 0, (0, 1_000)),
        (1, 1_001, (1, 1_001)),
        (1, 9_999, (-1, -1)),
        (7, -3, (2, 1_002)),
        (8, -4, (0, -1)),
        (9, -5, (-1, -1)),
    ];
    for version in served(&mut connection, ApiKey::ListOffsets).await {
        for (from_version, timestamp, expected) in queries {
            let partition =
                |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition(0), partition(7)]);
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let answer = connection.ask(version, &request).await;
            let found = &answer.topics[0].partitions[0];
            if version < from_version {
                assert_eq!(found.error_code, 35, "version {version} knows no {timestamp}");
                continue;
            }
            assert_eq!(found.error_code, 0, "version {version}, {timestamp}");
            assert_eq!((found.offset, found.timestamp), expected, "version {version}, {timestamp}");
            assert_eq!(answer.topics[0].partitions[1].error_code, 3, "version {version}");
        }
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offset_for_leader_epoch() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    connection.produce(9, "t", 0, batch(1_000, &["a", "b", "c"])).await;
    let metadata = connection.ask(9, &MetadataRequest::default().with_topics(None)).await;
    let epoch = metadata.topics[0].partitions[0].leader_epoch;
    for version in served(&mut connection, ApiKey::OffsetForLeaderEpoch).await {
        let partition = |index, epoch| {
            OffsetForLeaderPartition::default()
                .with_partition(index)
                .with_leader_epoch(epoch)
                .with_current_leader_epoch(-1)
        };
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![
            partition(0, epoch),
            partition(0, epoch + 1),
            partition(7, epoch),
        ]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = connection.ask(version, &request).await;
        let ends: Vec<_> = answer.topics[0]
            .partitions
            .iter()
            .map(|end| (end.error_code, end.partition, end.leader_epoch, end.end_offset))
            .collect();
        assert_eq!(ends, [(0, 0, epoch, 3), (0, 0, -1, -1), (3, 7, -1, -1)], "version {version}");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_producer_id() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let mut ids = Vec::new();
    for version in served(&mut connection, ApiKey::InitProducerId).await {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let answer = connection.ask(version, &request).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0), "version {version}");
        assert!(!ids.contains(&answer.producer_id), "version {version}");
        ids.push(answer.producer_id);
        let transactional = request.with_transactional_id(Some(TransactionalId(text("x"))));
        let answer = connection.ask(version, &transactional).await;
        assert_eq!((answer.error_code, answer.producer_id.0), (42, -1), "transactions are not served");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_and_delete_topics() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let deletes = served(&mut connection, ApiKey::DeleteTopics).await;
    let creates = served(&mut connection, ApiKey::CreateTopics).await;
    let config =
        |key, value| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)));
    for version in creates {
        let topic = |topic: &str| {
            CreatableTopic::default().with_name(name(topic)).with_num_partitions(3).with_replication_factor(1)
        };
        let made = format!("made-{version}");
        let topics = vec![
            topic(&made).with_configs(vec![config("retention.ms", "1000")]),
            topic("a/b"),
            topic("none").with_num_partitions(0),
            topic("many").with_replication_factor(2),
            topic("odd").with_configs(vec![config("retention.ms", "x")]),
        ];
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
        let tried = connection.ask(version, &request.clone().with_validate_only(true)).await;
        let answer = connection.ask(version, &request).await;
        for answer in [tried, answer] {
            let names: Vec<_> = answer.topics.iter().map(|topic| topic.name.to_string()).collect();
            assert_eq!(names, [&made, "a/b", "none", "many", "odd"], "version {version}");
            let codes: Vec<_> = answer.topics.iter().map(|topic| topic.error_code).collect();
            assert_eq!(codes, [0, 17, 37, 38, 40], "version {version}: {:?}", answer.topics);
            let topic = &answer.topics[0];
            if version >= 5 {
                assert_eq!((topic.num_partitions, topic.replication_factor), (3, 1));
                let configs = topic.configs.as_ref().unwrap();
                let retention = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
                assert_eq!(retention.value, Some(text("1000")));
            }
        }
        let again = connection.ask(version, &request).await;
        assert_eq!(again.topics[0].error_code, 36, "version {version}");
        if version >= 4 {
            let defaults = topic("defaults").with_num_partitions(-1).with_replication_factor(-1);
            let request = CreateTopicsRequest::default().with_topics(vec![defaults]).with_validate_only(true);
            assert_eq!(connection.ask(version, &request).await.topics[0].error_code, 0);
        }
    }
    for version in deletes {
        let made = format!("made-{}", version.clamp(2, 7));
        let topic = CreatableTopic::default().with_name(name("by-name")).with_num_partitions(1);
        let topic = topic.with_replication_factor(1);
        let create = CreateTopicsRequest::default().with_topics(vec![topic]);
        let id = connection.ask(7, &create).await.topics[0].topic_id;
        let mut request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
        if version < 6 {
            request = request.with_topic_names(vec![name("by-name"), name("unknown")]);
        } else {
            let by_name = |topic| DeleteTopicState::default().with_name(Some(name(topic)));
            let by_id = DeleteTopicState::default().with_topic_id(id);
            request = request.with_topics(vec![by_id, by_name("unknown"), by_name(&made)]);
        }
        let answer = connection.ask(version, &request).await;
        let codes: Vec<_> = answer.responses.iter().map(|topic| topic.error_code).collect();
        let expected: &[i16] = if version < 6 { &[0, 3] } else { &[0, 3, 0] };
        assert_eq!(codes, expected, "version {version}");
        assert_eq!(answer.responses[0].name, Some(name("by-name")), "version {version}");
        let request = MetadataRequest::default().with_topics(None);
        let left = connection.ask(9, &request).await.topics;
        assert!(left.iter().all(|topic| topic.name != Some(name("by-name"))), "version {version}");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_partitions() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let mut count = 1;
    for version in served(&mut connection, ApiKey::CreatePartitions).await {
        count += 2;
        let topic = |topic, count| {
            CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None)
        };
        let topics = vec![topic("t", count), topic("unknown", 3)];
        let request = CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(10_000);
        for request in [request.clone().with_validate_only(true), request.clone()] {
            let answer = connection.ask(version, &request).await;
            let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
            assert_eq!(codes, [0, 3], "version {version}");
        }
        let again = connection.ask(version, &request).await;
        assert_eq!(again.results[0].error_code, 37, "version {version}");
        let answer = connection.ask(9, &MetadataRequest::default().with_topics(None)).await;
        assert_eq!(answer.topics[0].partitions.len(), usize::try_from(count).unwrap());
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configs_described_and_altered() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    for version in served(&mut connection, ApiKey::AlterConfigs).await {
        let value = format!("{}", 5_000 + version);
        let config =
            AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text(&value)));
        let resource = |kind, name: &str, configs| {
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(configs)
        };
        let resources = vec![resource(2, "t", vec![config.clone()]), resource(2, "unknown", vec![config])];
        let request = AlterConfigsRequest::default().with_resources(resources);
        let answer = connection.ask(version, &request).await;
        let codes: Vec<_> = answer.responses.iter().map(|response| response.error_code).collect();
        assert_eq!(codes, [0, 3], "version {version}");
        assert_eq!(described(&mut connection, "retention.ms").await, value, "version {version}");
    }
    for version in served(&mut connection, ApiKey::IncrementalAlterConfigs).await {
        let value = format!("{}", 7_000 + version);
        let config = incremental::AlterableConfig::default()
            .with_name(text("retention.bytes"))
            .with_config_operation(0)
            .with_value(Some(text(&value)));
        let resource = |name: &str| {
            incremental::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name))
                .with_configs(vec![config.clone()])
        };
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource("t"), resource("unknown")]);
        let answer = connection.ask(version, &request).await;
        let codes: Vec<_> = answer.responses.iter().map(|response| response.error_code).collect();
        assert_eq!(codes, [0, 3], "version {version}");
        assert_eq!(described(&mut connection, "retention.bytes").await, value, "version {version}");
        assert_eq!(described(&mut connection, "retention.ms").await, "5002", "the others stay");
    }
    for version in served(&mut connection, ApiKey::DescribeConfigs).await {
        for (synonyms, documentation) in [(false, false), (true, version >= 3)] {
            let resource = |kind, name: &str| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            let resources = vec![resource(2, "t"), resource(4, "1"), resource(4, ""), resource(2, "unknown")];
            let request = DescribeConfigsRequest::default()
                .with_resources(resources)
                .with_include_synonyms(synonyms)
                .with_include_documentation(documentation);
            let answer = connection.ask(version, &request).await;
            let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
            assert_eq!(codes, [0, 0, 0, 3], "version {version}");
            let configs = &answer.results[0].configs;
            let retention = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
            assert_eq!((retention.value.clone(), retention.config_source), (Some(text("5002")), 1));
            assert_eq!(retention.synonyms.len(), if synonyms { 2 } else { 0 }, "version {version}");
            let documented = retention.documentation.as_ref().is_some_and(|said| !said.is_empty());
            assert_eq!(documented, documentation, "version {version}");
        }
    }
    lone.stop().await;
}

/// What DescribeConfigs says of one config of topic `t`.
async fn described(connection: &mut Connection, config: &str) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(Some(vec![text(config)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let mut answer = connection.ask(4, &request).await;
    assert_eq!(answer.results[0].configs.len(), 1);
    answer.results[0].configs.remove(0).value.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_log_dirs() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    let sizes = |answer: &DescribeLogDirsResponse| -> Vec<(i32, i64)> {
        let topics = answer.results[0].topics.iter().filter(|topic| topic.name == name("t"));
        let partitions = topics.flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| {
                assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
                (partition.partition_index, partition.partition_size)
            })
            .collect()
    };
    let all = DescribeLogDirsRequest::default().with_topics(None);
    let mut before = sizes(&connection.ask(1, &all).await);
    let values = "x".repeat(50_000);
    for version in served(&mut connection, ApiKey::DescribeLogDirs).await {
        connection.produce(9, "t", 1, batch(0, &[&values])).await;
        let answer = connection.ask(version, &all).await;
        assert_eq!((answer.error_code, answer.results.len()), (0, 1), "version {version}");
        let directory = &answer.results[0];
        assert_eq!(directory.error_code, 0, "version {version}");
        assert!(std::path::Path::new(&*directory.log_dir).join("groups").is_dir(), "version {version}");
        if version >= 4 {
            assert!(0 < directory.usable_bytes && directory.usable_bytes < directory.total_bytes);
        } else {
            assert_eq!((directory.usable_bytes, directory.total_bytes), (-1, -1), "version {version}");
        }
        let after = sizes(&answer);
        let grown: Vec<_> = before.iter().zip(&after).map(|(before, after)| after.1 - before.1).collect();
        assert!(grown[0] == 0 && (50_000..51_000).contains(&grown[1]), "version {version}: {after:?}");
        before = after;

        let topic = |topic, partitions| {
            DescribableLogDirTopic::default().with_topic(name(topic)).with_partitions(partitions)
        };
        let some = vec![topic("t", vec![1, 7, 1]), topic("unknown", vec![0]), topic("t", vec![1])];
        let answer =
            connection.ask(version, &DescribeLogDirsRequest::default().with_topics(Some(some))).await;
        assert_eq!(
            (sizes(&answer), answer.results[0].topics.len()),
            (vec![before[1]], 1),
            "version {version}"
        );
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_cluster() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for version in served(&mut connection, ApiKey::DescribeCluster).await {
        let request = DescribeClusterRequest::default();
        let answer = connection.ask(version, &request).await;
        assert_eq!((answer.error_code, answer.brokers.len()), (0, 1), "version {version}");
        assert_eq!(answer.controller_id, answer.brokers[0].broker_id);
        assert_eq!(answer.cluster_authorized_operations, i32::MIN, "not asked for");
        let asked = request.clone().with_include_cluster_authorized_operations(true);
        assert_eq!(connection.ask(version, &asked).await.cluster_authorized_operations, 0x1fa0);
        assert!(!answer.cluster_id.is_empty());
        if version >= 1 {
            let answer = connection.ask(version, &request.with_endpoint_type(2)).await;
            assert_eq!(answer.error_code, 115, "version {version}");
        }
    }
    lone.stop().await;
}
