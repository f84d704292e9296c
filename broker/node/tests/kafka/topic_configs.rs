//! Topic configs: described with type, source and default, sent back as they came, refused by name, and what the
//! broker makes of them where clients see it.

use crate::client::{Connection, Lone, text};
use crate::common::{Producing, batch, create};
use bytes::Bytes;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreateTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    incremental_alter_configs_request as incremental,
};
use raftline_proto::batch::{BatchHeader, BatchView, Builder, Codec};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::ProducerId;
use raftline_proto::time::Timestamp;

const TOPIC: i8 = 2;

async fn described(connection: &mut Connection) -> Vec<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("t"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    connection.ask(4, &request).await.results.remove(0).configs
}

/// Value, source and type of one config of topic `t`.
async fn value(connection: &mut Connection, name: &str) -> (String, i8, i8) {
    let configs = described(connection).await;
    let config = configs.into_iter().find(|config| &*config.name == name).unwrap();
    (config.value.unwrap().to_string(), config.config_source, config.config_type)
}

/// Sets all configs of topic `t` to these; says what was wrong with them, if anything.
async fn alter(connection: &mut Connection, configs: &[(String, String)]) -> Option<String> {
    let configs = configs
        .iter()
        .map(|(name, value)| AlterableConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("t"))
        .with_configs(configs.collect());
    let mut said = Vec::new();
    for validate_only in [true, false] {
        let request = AlterConfigsRequest::default()
            .with_resources(vec![resource.clone()])
            .with_validate_only(validate_only);
        let answer = connection.ask(1, &request).await.responses.remove(0);
        assert!(matches!(answer.error_code, 0 | 40), "{answer:?}");
        assert_eq!(answer.error_code == 0, answer.error_message.is_none());
        said.push(answer.error_message.map(|why| why.to_string()));
    }
    assert_eq!(said[0], said[1], "asking first says the same");
    said.pop().unwrap()
}

async fn set(connection: &mut Connection, operation: i8, name: &str, value: &str) -> Option<String> {
    let config = incremental::AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(operation)
        .with_value(Some(text(value)));
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = connection.ask(1, &request).await.responses.remove(0);
    assert_eq!(answer.error_code == 0, answer.error_message.is_none());
    answer.error_message.map(|why| why.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_described_can_be_sent_back() {
    let mut lone = Lone::start().await;
    create(&mut lone.broker.client, "t", 1, &[("retention.ms", "5000"), ("raftline.durability", "leader")])
        .await;
    let mut connection = lone.connect().await;
    let before = described(&mut connection).await;
    for config in &before {
        let default = config.synonyms.last().unwrap();
        assert_eq!(default.source, 5, "{config:?}");
        assert_eq!(config.synonyms.len(), if config.config_source == 1 { 2 } else { 1 });
        assert_eq!(config.config_source == 5, config.value == default.value, "{config:?}");
        assert!(config.documentation.as_ref().is_some_and(|said| !said.is_empty()));
        assert!(!config.read_only && !config.is_sensitive);
    }
    for (name, expected) in [
        ("retention.ms", ("5000", 1, 5)),
        ("retention.bytes", ("-1", 5, 5)),
        ("segment.bytes", ("67108864", 5, 3)),
        ("cleanup.policy", ("delete", 5, 7)),
        ("compression.type", ("producer", 5, 2)),
        ("min.cleanable.dirty.ratio", ("0.5", 5, 6)),
        ("min.insync.replicas", ("1", 5, 3)),
        ("unclean.leader.election.enable", ("false", 5, 1)),
        ("raftline.durability", ("leader", 1, 2)),
    ] {
        let (value, source, kind) = value(&mut connection, name).await;
        assert_eq!((value.as_str(), source, kind), expected, "{name}");
    }
    // Read, change one, write all: as clients did before KIP-339.
    let mut all: Vec<(String, String)> = before
        .iter()
        .map(|config| (config.name.to_string(), config.value.as_ref().unwrap().to_string()))
        .collect();
    for (name, value) in &mut all {
        if name == "retention.ms" {
            *value = "6000".to_owned();
        }
    }
    assert_eq!(alter(&mut connection, &all).await, None);
    let after = described(&mut connection).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&after.name, after.config_source), (&before.name, 1));
        assert_eq!(after.value == before.value, &*after.name != "retention.ms", "{after:?}");
    }
    assert_eq!(alter(&mut connection, &[]).await, None);
    assert!(described(&mut connection).await.iter().all(|config| config.config_source == 5));
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_a_lie_is_refused_by_name() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let cases = [
        ("no.such.thing", "1", "Unknown topic config name: no.such.thing"),
        (
            "cleanup.policy",
            "shrink",
            "Invalid value shrink for configuration cleanup.policy: unknown here; it must be one or more of compact, \
             delete",
        ),
        (
            "min.insync.replicas",
            "2",
            "Invalid value 2 for configuration min.insync.replicas: acks=all is answered once a majority has the \
             records, which is 1 of the topic's 1 replicas: more cannot be promised",
        ),
        (
            "compression.zstd.level",
            "3",
            "Invalid value 3 for configuration compression.zstd.level: batches are stored as their producers packed \
             them; leave it out",
        ),
        (
            "retention.ms",
            "soon",
            "Invalid value soon for configuration retention.ms: not a whole number; it must be -1 (no limit) or more",
        ),
    ];
    for (name, value, why) in cases {
        let configs = [(name.to_owned(), value.to_owned())];
        assert_eq!(alter(&mut connection, &configs).await.as_deref(), Some(why));
        assert_eq!(set(&mut connection, 0, name, value).await.as_deref(), Some(why));
        for validate_only in [true, false] {
            let config = CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)));
            let topic = CreatableTopic::default()
                .with_name(kafka_protocol::messages::TopicName(text("new")))
                .with_num_partitions(1)
                .with_replication_factor(1)
                .with_configs(vec![config]);
            let request =
                CreateTopicsRequest::default().with_topics(vec![topic]).with_validate_only(validate_only);
            let answer = connection.ask(5, &request).await.topics.remove(0);
            assert_eq!((answer.error_code, answer.error_message.as_deref()), (40, Some(why)));
        }
    }
    // Lists are changed word by word.
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    assert_eq!(set(&mut connection, APPEND, "cleanup.policy", "delete").await, None);
    assert_eq!(set(&mut connection, APPEND, "cleanup.policy", "compact").await, None);
    assert_eq!(value(&mut connection, "cleanup.policy").await, ("delete,compact".to_owned(), 1, 7));
    let shrink = set(&mut connection, APPEND, "cleanup.policy", "shrink").await.unwrap();
    assert!(shrink.contains("delete,compact,shrink"), "{shrink}");
    assert_eq!(set(&mut connection, SUBTRACT, "cleanup.policy", "compact").await, None);
    assert!(set(&mut connection, SUBTRACT, "cleanup.policy", "delete").await.is_some(), "one has to be left");
    assert_eq!(
        set(&mut connection, APPEND, "retention.ms", "1").await.as_deref(),
        Some("Can't APPEND to key retention.ms because its type is not LIST.")
    );
    assert_eq!(
        set(&mut connection, APPEND, "no.such.thing", "1").await.as_deref(),
        Some("Unknown topic config name: no.such.thing")
    );
    // Kafka's brokers take it that what does not exist is as it is by default.
    const DELETE: i8 = 1;
    assert_eq!(set(&mut connection, DELETE, "no.such.thing", "").await, None);
    assert_eq!(value(&mut connection, "cleanup.policy").await, ("delete".to_owned(), 1, 7));
    lone.stop().await;
}

/// The times of all records of partition 0 of topic `t`, batch by batch.
async fn times(connection: &mut Connection) -> Vec<Vec<i64>> {
    let mut rest = connection.fetch(11, "t", 0, 0).await.records.unwrap();
    let mut times = Vec::new();
    while !rest.is_empty() {
        let whole = rest.split_to(BatchHeader::decode(&rest).unwrap().batch_bytes as usize);
        let view = BatchView::open(&whole).unwrap();
        times.push(view.records().map(|record| record.unwrap().timestamp.get()).collect());
    }
    times
}

fn idempotent(sequence: u32) -> Bytes {
    let mut builder = Builder::new(Codec::Lz4);
    builder.set_producer(ProducerBatch { id: ProducerId(7), epoch: 0, base_sequence: sequence });
    for time in [3, 2] {
        builder.push(Timestamp(time), None, Some(&[7; 300]), &[]).unwrap();
    }
    builder.build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_have_the_time_of_append_where_the_topic_says_so() {
    let mut lone = Lone::start().await;
    create(&mut lone.broker.client, "t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut connection = lone.connect().await;
    let plain = connection.produce(9, "t", 0, batch(5, &["a", "b"])).await;
    assert_eq!(plain.error_code, 0, "{plain:?}");
    let packed = connection.produce(9, "t", 0, idempotent(0)).await;
    // The native API stamps alike.
    Producing::open(&mut lone.broker.client).await.produce("t", 0, batch(9, &["c"])).await;
    // A retry is told the time that is in the log, however much later it comes.
    let again = connection.produce(9, "t", 0, idempotent(0)).await;
    assert_eq!((again.base_offset, again.log_append_time_ms), (2, packed.log_append_time_ms));
    let stamped = times(&mut connection).await;
    let (first, second) = (plain.log_append_time_ms, packed.log_append_time_ms);
    let native = stamped[2][0];
    assert!(1_600_000_000_000 < first && first <= second && second <= native, "{stamped:?}");
    assert_eq!(stamped, [vec![first; 2], vec![second; 2], vec![native]]);
    // From now on the producer's word counts; what is stamped stays so.
    assert_eq!(set(&mut connection, 0, "message.timestamp.type", "CreateTime").await, None);
    let own = connection.produce(9, "t", 0, batch(5, &["d", "e"])).await;
    assert_eq!((own.error_code, own.log_append_time_ms), (0, -1));
    let after = times(&mut connection).await;
    assert_eq!((&after[..3], &after[3][..]), (&stamped[..], &[5, 6][..]));
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_durability_is_answered() {
    for durability in ["quorum", "memory", "leader", "none"] {
        let mut lone = Lone::start().await;
        create(&mut lone.broker.client, "t", 1, &[("raftline.durability", durability)]).await;
        let mut connection = lone.connect().await;
        let produced = connection.produce(9, "t", 0, batch(5, &["a"])).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, 0), "{durability}");
        lone.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brokers_configs_are_documented() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for with_documentation in [true, false] {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text("1"))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_documentation(with_documentation);
        let configs = connection.ask(4, &request).await.results.remove(0).configs;
        assert!(configs.windows(2).all(|pair| pair[0].name < pair[1].name), "each once");
        for wanted in
            ["advertised.listeners", "group.consumer.migration.policy", "log.segment.bytes", "node.id"]
        {
            assert!(configs.iter().any(|config| &*config.name == wanted), "{wanted}");
        }
        for config in configs {
            let is_documented = config.documentation.as_ref().is_some_and(|said| !said.is_empty());
            assert_eq!(is_documented, with_documentation, "{config:?}");
            assert!(config.read_only && config.value.is_some(), "{config:?}");
        }
    }
    lone.stop().await;
}
