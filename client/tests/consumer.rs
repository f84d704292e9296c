//! The consumer and the admin against the mock.

mod mock;

use mock::Mock;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{
    AdminError, Client, ClientConfig, ConnectError, ConsumeError, Consumer, ConsumerConfig, ErrorCode,
    NewTopic, OutOfRange, ProducerConfig, Record, StartAt,
};
use std::time::Duration;

const ZERO: PartitionIndex = PartitionIndex(0);

/// A mock whose partition 0 holds values 0 to 99, in batches of ten.
async fn filled(nodes: u32) -> (Mock, Client) {
    let mock = Mock::start(nodes, 1).await;
    let client = mock.client().await;
    fill(&client, 0..100).await;
    (mock, client)
}

async fn fill(client: &Client, values: std::ops::Range<usize>) {
    let producer =
        client.producer(ProducerConfig { linger: Duration::from_secs(3600), ..Default::default() });
    for value in values {
        let record = Record::to("t").partition(ZERO).value(value.to_string()).header("h", "v");
        drop(producer.send(record).await.expect("taken"));
        if value % 10 == 9 {
            producer.flush().await.expect("stored");
        }
    }
    producer.close().await.expect("stored");
}

async fn check_next(consumer: &mut Consumer, values: std::ops::Range<usize>) {
    for value in values {
        let record = consumer.next().await.expect("readable");
        assert_eq!(record.value.as_deref(), Some(value.to_string().as_bytes()));
        assert_eq!(record.offset, Offset(value as u64));
        assert_eq!(record.headers[0].name, "h");
        assert_eq!(consumer.position("t", ZERO), Some(record.offset.next()));
    }
}

#[tokio::test]
async fn reading_starts_within_a_batch_and_seeks() {
    let (_mock, client) = filled(1).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign("t", ZERO, StartAt::Offset(Offset(37)));
    check_next(&mut consumer, 37..60).await;
    consumer.seek("t", ZERO, StartAt::Offset(Offset(5))).expect("assigned");
    check_next(&mut consumer, 5..100).await;
    assert_eq!(consumer.high_watermark("t", ZERO), Some(Offset(100)));
    assert!(consumer.seek("t", PartitionIndex(1), StartAt::Start).is_err());
}

#[tokio::test]
async fn the_end_is_what_comes_later() {
    let (_mock, client) = filled(1).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign("t", ZERO, StartAt::Start);
    check_next(&mut consumer, 0..100).await;
    fill(&client, 100..110).await;
    check_next(&mut consumer, 100..110).await;
}

#[tokio::test]
async fn leader_changes_lose_and_repeat_nothing() {
    let (mock, client) = filled(3).await;
    let mut consumer = client.consumer(ConsumerConfig { prefetch_bytes: 300, ..ConsumerConfig::default() });
    assert_eq!(consumer.assign_topic("t", StartAt::Start).await, Ok(1));
    check_next(&mut consumer, 0..25).await;
    mock.lead(0, 2);
    fill(&client, 100..150).await;
    check_next(&mut consumer, 25..120).await;
    mock.stop(2);
    mock.lead(0, 3);
    fill(&client, 150..160).await;
    check_next(&mut consumer, 120..160).await;
}

#[tokio::test]
async fn an_offset_that_is_not_there_is_named_or_replaced() {
    let (mock, client) = filled(1).await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign("t", ZERO, StartAt::Offset(Offset(101)));
    let error = consumer.next().await.expect_err("past the end");
    assert!(
        matches!(
            error,
            ConsumeError::OffsetOutOfRange { asked: Offset(101), high_watermark: Offset(100), .. }
        ),
        "{error}"
    );
    let config = ConsumerConfig { out_of_range: OutOfRange::Start, ..ConsumerConfig::default() };
    let mut consumer = client.consumer(config);
    consumer.assign("t", ZERO, StartAt::Offset(Offset(1000)));
    check_next(&mut consumer, 0..10).await;
    drop(mock);
}

#[tokio::test]
async fn damage_is_named_and_nothing_of_it_handed_out() {
    let (mock, client) = filled(1).await;
    {
        let mut state = mock.shared.state.lock();
        let batch = &mut state.topics.get_mut("t").expect("there")[0].batches[3];
        let mut damaged = batch.to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        *batch = damaged.into();
    }
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign("t", ZERO, StartAt::Offset(Offset(35)));
    let error = consumer.next().await.expect_err("damaged");
    assert!(matches!(error, ConsumeError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_named() {
    let (_mock, client) = filled(1).await;
    let config = ConsumerConfig { unknown_timeout: Duration::from_millis(100), ..ConsumerConfig::default() };
    let mut consumer = client.consumer(config);
    assert!(consumer.assign_topic("nowhere", StartAt::Start).await.is_err());
    consumer.assign("t", PartitionIndex(7), StartAt::Start);
    let error = consumer.next().await.expect_err("no such partition");
    assert!(matches!(error, ConsumeError::UnknownPartition { partition: PartitionIndex(7), .. }), "{error}");
}

#[tokio::test]
async fn admin_questions_find_the_coordinator() {
    let (_mock, client) = filled(3).await;
    let admin = client.admin();
    let topic = NewTopic { name: "new".into(), partitions: 4, ..NewTopic::default() };
    assert_eq!(admin.create_topic(&topic).await, Ok(4));
    let error = admin.create_topic(&topic).await.expect_err("there already");
    assert_eq!(error.code(), Some(ErrorCode::TopicExists));
    assert_eq!(admin.offset("t", ZERO, StartAt::End).await, Ok(Offset(100)));
    let error = admin.offset("t", PartitionIndex(9), StartAt::End).await.expect_err("no such partition");
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition), "{error}");
    let error = admin.delete_topic("new").await.expect_err("malformed calls are not repeated");
    assert!(matches!(error, AdminError::Refused(_)), "{error}");
}

#[tokio::test]
async fn connecting_names_every_broker_that_was_tried() {
    let config = ClientConfig { connect_timeout: Duration::from_millis(200), ..ClientConfig::default() };
    // A port that was free a moment ago: nothing listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let error = Client::connect([address.clone()], config.clone()).await.expect_err("nobody there");
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    assert!(error.to_string().contains(&address), "{error}");
    assert_eq!(
        Client::connect(Vec::<String>::new(), config).await.expect_err("none"),
        ConnectError::NoBrokers
    );
}
