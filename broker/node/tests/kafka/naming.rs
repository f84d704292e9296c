//! Names: which topics Metadata makes, which it refuses, and what has no coordinator.

use crate::client::{Connection, Lone, name, text};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest};
use raftline_kafka::uuid::Uuid;

/// What Metadata says of one topic, which it may make.
async fn ask(connection: &mut Connection, version: i16, topic: &str) -> MetadataResponseTopic {
    let wanted = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    connection.ask(version, &request.with_allow_auto_topic_creation(true)).await.topics.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_no_topic_may_have_are_refused_in_every_version() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let long = "x".repeat(250);
    for version in 0..=13 {
        for illegal in ["", ".", "..", "a/b", "a b", "\u{e4}", &long] {
            let found = ask(&mut connection, version, illegal).await;
            assert_eq!((found.error_code, found.name), (17, Some(name(illegal))), "version {version}");
        }
    }
    let longest = "x".repeat(249);
    assert_eq!(ask(&mut connection, 13, &longest).await.error_code, 0);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_name_is_asked_for_from_version_12_on() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let id = connection.topic_id("t").await;
    for (version, id, expected) in
        [(10, id, 42), (11, id, 42), (12, id, 0), (13, id, 0), (13, Uuid::nil(), 100)]
    {
        let wanted = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
        let found = connection.ask(version, &request).await.topics.remove(0);
        assert_eq!(found.error_code, expected, "version {version}");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_is_made_when_it_is_named() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for version in 0..=13 {
        let topic = format!("made-{version}");
        let mut tries = 0;
        let found = loop {
            let found = ask(&mut connection, version, &topic).await;
            // Once made it may have no leader yet.
            if found.error_code == 0 && found.partitions.iter().all(|partition| partition.error_code == 0) {
                break found;
            }
            assert!(matches!(found.error_code, 0 | 3 | 5) && tries < 100, "version {version}: {found:?}");
            tries += 1;
        };
        assert!(!found.partitions.is_empty(), "version {version}");
        assert_eq!(connection.described(&format!("unmade-{version}")).await.error_code, 3);
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_have_no_coordinator() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for version in 1..=6 {
        for (kind, expected) in [(1, 42), (9, 42)] {
            let mut request = FindCoordinatorRequest::default().with_key_type(kind);
            if version < 4 {
                request = request.with_key(text("x"));
            } else {
                request = request.with_coordinator_keys(vec![text("x")]);
            }
            let answer = connection.ask(version, &request).await;
            let error = answer.coordinators.first().map_or(answer.error_code, |found| found.error_code);
            assert_eq!(error, expected, "version {version}");
        }
    }
    lone.stop().await;
}
