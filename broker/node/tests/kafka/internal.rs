//! The brokers' own topic, `__consumer_offsets`: clients see what it is, may read it, and break nothing in it.

use crate::client::{Connection, Lone, name, produce, produce_by_id, text};
use crate::common::{PATIENCE, Producing, batch};
use crate::every_version::served;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::*;
use raftline_broker::limits::GROUP_PARTITIONS;
use raftline_kafka::uuid::Uuid;
use raftline_proto::api::{self, ErrorCode};
use tokio::time::timeout;

const INTERNAL: &str = "__consumer_offsets";
const TOPIC: i8 = 2;

/// What Metadata says of the topic, which it may make.
async fn named(connection: &mut Connection) -> MetadataResponseTopic {
    let wanted = MetadataRequestTopic::default().with_name(Some(name(INTERNAL)));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    connection.ask(9, &request.with_allow_auto_topic_creation(true)).await.topics.remove(0)
}

/// Commits, or says the error.
async fn commit(connection: &mut Connection, group: &str, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    connection.ask(8, &request).await.topics[0].partitions[0].error_code
}

/// The committed offset, or the group's error.
async fn committed(connection: &mut Connection, group: &str) -> Result<i64, i16> {
    let topic = OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(vec![0]);
    let group =
        OffsetFetchRequestGroup::default().with_group_id(text(group).into()).with_topics(Some(vec![topic]));
    let answer = connection.ask(8, &OffsetFetchRequest::default().with_groups(vec![group])).await;
    match answer.groups[0].error_code {
        0 => Ok(answer.groups[0].topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

/// Groups of each partition of the topic, more or less.
fn groups() -> impl Iterator<Item = String> {
    (0..100).map(|number| format!("group-{number}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_names_the_internal_topic_first_has_it_made_as_it_should_be() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    for version in served(&mut connection, ApiKey::CreateTopics).await {
        let topic = CreatableTopic::default()
            .with_name(name(INTERNAL))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        for request in [request.clone().with_validate_only(true), request] {
            let refused = connection.ask(version, &request).await.topics.remove(0);
            assert_eq!(refused.error_code, 17, "version {version}");
        }
    }
    assert_eq!(connection.described(INTERNAL).await.error_code, 3, "nothing was made");
    let found = named(&mut connection).await;
    let count = u32::try_from(found.partitions.len()).unwrap();
    assert_eq!((found.error_code, count, found.is_internal), (0, GROUP_PARTITIONS, true));
    assert!(!connection.described("t").await.is_internal);
    let topic = api::DescribeTopicRequest { name: INTERNAL.to_owned() };
    let described = lone.broker.client.clone().describe_topic(topic).await.unwrap().into_inner();
    let policy = described.configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
    assert_eq!(policy.value, "compact");
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_write_to_the_internal_topic_is_refused_and_its_coordinators_begin_again() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let partitions = i32::try_from(named(&mut connection).await.partitions.len()).unwrap();
    let coordinated = async {
        for group in groups() {
            while commit(&mut connection, &group, 7).await != 0 {}
        }
    };
    timeout(PATIENCE, coordinated).await.expect("every group has a coordinator");
    let id = connection.topic_id(INTERNAL).await;
    for version in 3..=13 {
        for partition in [0, partitions - 1] {
            let request = produce(-1, INTERNAL, partition, batch(0, &["no record of a coordinator"]));
            let answer = connection.ask(version, &produce_by_id(request, id)).await;
            let refused = &answer.responses[0].partition_responses[0];
            assert_eq!((refused.error_code, refused.base_offset), (17, -1), "version {version}");
        }
    }
    let mut producing = Producing::open(&mut lone.broker.client.clone()).await;
    let (topic, batch) = (INTERNAL.to_owned(), batch(0, &["nor is this"]));
    let refused = producing.refusal(api::ProduceRequest { topic, batch, ..api::ProduceRequest::default() });
    assert_eq!(refused.await.code(), ErrorCode::InternalTopic);
    drop(producing);

    let lone = lone.restart("t").await;
    let mut connection = lone.connect().await;
    let everywhere = async {
        for group in groups() {
            // 14 to 16: it is being read, or has no leader yet.
            while let Err(error) = committed(&mut connection, &group).await {
                assert!(matches!(error, 14..=16), "{group}: {error}");
            }
            assert_eq!(committed(&mut connection, &group).await, Ok(7), "{group}");
        }
    };
    timeout(PATIENCE, everywhere).await.expect("every coordinator has read its log");
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_internal_topic_stays_and_keeps_its_partitions_and_policy() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let before = named(&mut connection).await;
    let by_name = DeleteTopicState::default().with_name(Some(name(INTERNAL)));
    let by_id = DeleteTopicState::default().with_topic_id(before.topic_id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_name, by_id]).with_timeout_ms(10_000);
    let answer = connection.ask(6, &request).await;
    let codes: Vec<_> = answer.responses.iter().map(|topic| topic.error_code).collect();
    // From version 10 of Metadata on it has an id.
    assert_eq!((codes, before.topic_id), (vec![17, 100], Uuid::nil()));
    let id = connection.topic_id(INTERNAL).await;
    let by_id = DeleteTopicState::default().with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id]).with_timeout_ms(10_000);
    assert_eq!(connection.ask(6, &request).await.responses[0].error_code, 17);

    let more =
        CreatePartitionsTopic::default().with_name(name(INTERNAL)).with_count(51).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(10_000);
    for request in [request.clone().with_validate_only(true), request] {
        assert_eq!(connection.ask(3, &request).await.results[0].error_code, 17);
    }
    for (key, value, expected) in [
        ("cleanup.policy", "delete", 40),
        ("cleanup.policy", "compact,delete", 40),
        ("max.message.bytes", "1000", 40),
        ("segment.bytes", "1048576", 0),
    ] {
        let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(INTERNAL))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = connection.ask(1, &request).await.responses.remove(0);
        assert_eq!(answer.error_code, expected, "{key}={value}: {:?}", answer.error_message);
    }
    assert_eq!(named(&mut connection).await.partitions.len(), before.partitions.len());
    lone.stop().await;
}
