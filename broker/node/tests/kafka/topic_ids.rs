//! Topic ids (KIP-516): one for each topic that ever was, the same after a restart, and never another's.

use crate::client::{
    Connection, Lone, batches, fetch, fetch_by_id, name, only_fetched, only_produced, produce, produce_by_id,
};
use crate::common::{batch, create};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataRequest};
use raftline_kafka::uuid::Uuid;

/// Deletes by id; returns the error and the topic's name.
async fn delete(connection: &mut Connection, id: Uuid) -> (i16, Option<String>) {
    let topic = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer = connection.ask(6, &request).await.responses.remove(0);
    assert_eq!(answer.topic_id, id);
    (answer.error_code, answer.name.map(|name| name.to_string()))
}

/// What Metadata finds under an id: the error, the name and the id.
async fn lookup(connection: &mut Connection, version: i16, id: Uuid) -> (i16, Option<String>, Uuid) {
    let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let found = connection.ask(version, &request).await.topics.remove(0);
    (found.error_code, found.name.map(|name| name.to_string()), found.topic_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_outlives_a_restart_and_is_found_again() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let id = connection.topic_id("t").await;
    for _ in 0..3 {
        assert_eq!(connection.topic_id("t").await, id);
    }
    let lone = lone.restart("t").await;
    let mut connection = lone.connect().await;
    assert_eq!(connection.topic_id("t").await, id);
    for version in [12, 13] {
        assert_eq!(lookup(&mut connection, version, id).await, (0, Some("t".to_owned()), id));
        let unknown = Uuid::from_u128(7);
        assert_eq!(lookup(&mut connection, version, unknown).await, (100, None, unknown));
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_never_used_again() {
    let lone = Lone::with_topic("t", 1).await;
    let mut client = lone.broker.client.clone();
    let mut connection = lone.connect().await;
    let mut old = Vec::new();
    for _ in 0..3 {
        let id = connection.topic_id("t").await;
        assert!(!old.contains(&id));
        assert_eq!(delete(&mut connection, id).await, (0, Some("t".to_owned())));
        assert_eq!(connection.described("t").await.error_code, 3);
        create(&mut client, "t", 1, &[]).await;
        old.push(id);
    }
    // Whoever still means one of the former topics does not reach the one of the same name.
    let id = connection.topic_id("t").await;
    for former in old {
        assert_eq!(delete(&mut connection, former).await, (100, None));
        assert_eq!(lookup(&mut connection, 12, former).await.0, 100);
        let request = produce_by_id(produce(-1, "t", 0, batch(0, &["lost"])), former);
        let produced = only_produced(connection.ask(13, &request).await);
        assert_eq!((produced.error_code, produced.base_offset), (100, -1));
        for version in [13, 18] {
            let request = fetch_by_id(fetch("t", &[(0, 0, i32::MAX)]), former);
            assert_eq!(only_fetched(connection.ask(version, &request).await).error_code, 100);
        }
    }
    let request = produce_by_id(produce(-1, "t", 0, batch(0, &["kept"])), id);
    assert_eq!(only_produced(connection.ask(13, &request).await).base_offset, 0);
    let request = fetch_by_id(fetch("t", &[(0, 0, i32::MAX)]), id);
    assert_eq!(batches(&only_fetched(connection.ask(18, &request).await)), [(0, 1)]);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_deleted_by_name_and_by_id_in_one_request() {
    let lone = Lone::with_topic("a", 1).await;
    let mut client = lone.broker.client.clone();
    create(&mut client, "b", 1, &[]).await;
    let mut connection = lone.connect().await;
    let id = connection.topic_id("a").await;
    let topics = vec![
        DeleteTopicState::default().with_topic_id(id),
        DeleteTopicState::default().with_name(Some(name("b"))),
        DeleteTopicState::default().with_topic_id(Uuid::from_u128(7)),
        DeleteTopicState::default().with_name(Some(name("unknown"))),
    ];
    let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
    let answer = connection.ask(6, &request).await;
    let codes: Vec<_> = answer.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 0, 100, 3]);
    lone.stop().await;
}
