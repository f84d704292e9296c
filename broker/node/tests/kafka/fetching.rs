//! Fetch: when it waits and for what, how much it brings, and from where on.

use crate::client::{Connection, Lone, batches, fetch, name, only_fetched};
use crate::common::batch;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, MetadataRequest};
use std::time::Duration;

/// What each partition has: its number, and the base offsets of its batches.
fn found(answer: &FetchResponse) -> Vec<(i32, Vec<u64>)> {
    let offsets = |found| batches(found).into_iter().map(|(base_offset, _)| base_offset).collect();
    let topics = answer.responses.iter();
    topics.flat_map(|topic| &topic.partitions).map(|found| (found.partition_index, offsets(found))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_woken_by_a_produce() {
    let lone = Lone::with_topic("t", 3).await;
    let (mut consumer, mut producer) = (lone.connect().await, lone.connect().await);
    let partitions = [(0, 0, i32::MAX), (1, 0, i32::MAX), (2, 0, i32::MAX)];
    let number = consumer.send(11, &fetch("t", &partitions).with_max_wait_ms(60_000)).await;
    assert!(consumer.is_silent_for(Duration::from_millis(50)).await, "the offset is the end: it waits");
    producer.produce(9, "t", 1, batch(0, &["a", "b"])).await;
    let answer = consumer.answer::<FetchRequest>(11, number).await;
    assert_eq!(found(&answer), [(0, vec![]), (1, vec![0]), (2, vec![])]);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_its_least_bytes_over_all_partitions() {
    let lone = Lone::with_topic("t", 2).await;
    let (mut consumer, mut producer) = (lone.connect().await, lone.connect().await);
    let bytes = i32::try_from(batch(0, &["a"]).len()).unwrap();
    producer.produce(9, "t", 0, batch(0, &["a"])).await;
    let request = fetch("t", &[(0, 0, i32::MAX), (1, 0, i32::MAX)]).with_max_wait_ms(60_000);
    let number = consumer.send(11, &request.clone().with_min_bytes(bytes * 3)).await;
    assert!(consumer.is_silent_for(Duration::from_millis(50)).await);
    producer.produce(9, "t", 1, batch(0, &["b"])).await;
    assert!(consumer.is_silent_for(Duration::from_millis(50)).await);
    producer.produce(9, "t", 1, batch(0, &["c"])).await;
    let answer = consumer.answer::<FetchRequest>(11, number).await;
    assert_eq!(found(&answer), [(0, vec![0]), (1, vec![0, 1])]);

    // In vain: it answers what there is when its time is over, and not before.
    let number = consumer.send(11, &request.with_min_bytes(1 << 20).with_max_wait_ms(300)).await;
    assert!(consumer.is_silent_for(Duration::from_millis(200)).await);
    let answer = consumer.answer::<FetchRequest>(11, number).await;
    assert_eq!(found(&answer), [(0, vec![0]), (1, vec![0, 1])]);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_keeps_to_its_most_bytes_in_the_order_of_its_partitions() {
    let lone = Lone::with_topic("t", 3).await;
    let mut connection = lone.connect().await;
    let bytes = i32::try_from(batch(0, &["a"]).len()).unwrap();
    for partition in [0, 1, 2].repeat(4) {
        connection.produce(9, "t", partition, batch(0, &["a"])).await;
    }
    let all = |order: [i32; 3], each| fetch("t", &order.map(|partition| (partition, 0, each)));
    let answer = connection.ask(11, &all([2, 0, 1], i32::MAX).with_max_bytes(bytes * 6)).await;
    assert_eq!(found(&answer), [(2, vec![0, 1, 2, 3]), (0, vec![0, 1]), (1, vec![])]);
    let answer = connection.ask(11, &all([0, 1, 2], bytes * 2)).await;
    assert_eq!(found(&answer), [(0, vec![0, 1]), (1, vec![0, 1]), (2, vec![0, 1])]);
    // The first batch comes however large it is, or a consumer would never get on.
    let answer = connection.ask(11, &all([1, 0, 2], i32::MAX).with_max_bytes(1)).await;
    assert_eq!(found(&answer), [(1, vec![0]), (0, vec![]), (2, vec![])]);
    let answer = connection.ask(11, &fetch("t", &[(0, 4, 1), (1, 3, 1)]).with_max_bytes(0)).await;
    assert_eq!(found(&answer), [(0, vec![]), (1, vec![3])], "the first that there is");
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_within_a_batch_at_the_end_and_beyond_it() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    for _ in 0..3 {
        connection.produce(9, "t", 0, batch(0, &["a", "b", "c"])).await;
    }
    for (from, expected) in
        [(0, vec![0, 3, 6]), (3, vec![3, 6]), (4, vec![3, 6]), (5, vec![3, 6]), (8, vec![6])]
    {
        let fetched = connection.fetch(11, "t", 0, from).await;
        let offsets: Vec<_> = batches(&fetched).into_iter().map(|(base_offset, _)| base_offset).collect();
        assert_eq!(offsets, expected, "the batch that holds offset {from} comes whole");
    }
    let at_the_end = fetch("t", &[(0, 9, i32::MAX)]).with_max_wait_ms(300);
    let number = connection.send(11, &at_the_end).await;
    assert!(connection.is_silent_for(Duration::from_millis(200)).await, "the end is an offset to wait at");
    let fetched = only_fetched(connection.answer::<FetchRequest>(11, number).await);
    assert_eq!((fetched.error_code, fetched.high_watermark, batches(&fetched).len()), (0, 9, 0));
    for from in [10, i64::MAX, -1, i64::MIN] {
        let fetched = only_fetched(connection.ask(11, &fetch("t", &[(0, from, i32::MAX)])).await);
        assert_eq!(fetched.error_code, 1, "{from}: at once, however long it would wait");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_partition_keeps_nobody_waiting() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let request = fetch("t", &[(0, 0, i32::MAX), (9, 0, i32::MAX)]).with_max_wait_ms(600_000);
    let answer = connection.ask(11, &request).await;
    let codes: Vec<_> = answer.responses[0].partitions.iter().map(|found| found.error_code).collect();
    assert_eq!(codes, [0, 3]);
    lone.stop().await;
}

async fn leader_epoch(connection: &mut Connection) -> i32 {
    let answer = connection.ask(9, &MetadataRequest::default().with_topics(None)).await;
    answer.topics[0].partitions[0].leader_epoch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_another_leader_epoch_is_told_so() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    connection.produce(9, "t", 0, batch(0, &["a"])).await;
    let epoch = leader_epoch(&mut connection).await;
    assert!(epoch > 0);
    for (known, expected) in [(epoch, 0), (-1, 0), (epoch - 1, 74), (epoch + 1, 75)] {
        for version in [9, 11, 12] {
            let mut request = fetch("t", &[(0, 0, i32::MAX)]);
            request.topics[0].partitions[0].current_leader_epoch = known;
            let fetched = only_fetched(connection.ask(version, &request).await);
            assert_eq!(fetched.error_code, expected, "fetch version {version}, epoch {known}");
        }
        for version in [4, 6] {
            let partition =
                ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(known);
            let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
            let request =
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
            let answer = connection.ask(version, &request).await;
            let partition = &answer.topics[0].partitions[0];
            assert_eq!(partition.error_code, expected, "offsets version {version}, epoch {known}");
            assert_eq!(partition.leader_epoch, if expected == 0 { epoch } else { -1 });
        }
    }
    let lone = lone.restart("t").await;
    let mut connection = lone.connect().await;
    assert!(leader_epoch(&mut connection).await > epoch, "a restart begins an epoch");
    let mut request = fetch("t", &[(0, 0, i32::MAX)]);
    request.topics[0].partitions[0].current_leader_epoch = epoch;
    assert_eq!(only_fetched(connection.ask(12, &request).await).error_code, 74);
    lone.stop().await;
}
