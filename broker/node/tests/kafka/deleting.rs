//! DeleteRecords: which records go, what readers and producers see of it, and what is refused.

use crate::client::{Connection, Lone, name, text};
use crate::common::{PATIENCE, batch, create};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, FindCoordinatorRequest, ListOffsetsRequest};
use tokio::time::timeout;

/// Deletes the records of these partitions of a topic below an offset each; returns errors and low watermarks.
async fn delete(
    connection: &mut Connection,
    version: i16,
    topic: &str,
    partitions: &[(i32, i64)],
) -> Vec<(i16, i64)> {
    let partitions = partitions.iter().map(|&(index, offset)| {
        DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset)
    });
    let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(partitions.collect());
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer = connection.ask(version, &request).await;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.error_code, partition.low_watermark)).collect()
}

/// The earliest offset of partition 0 of topic `t`.
async fn earliest(connection: &mut Connection) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-2);
    let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    connection.ask(5, &request).await.topics[0].partitions[0].offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_records_go_in_every_version() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    let mut low = 0;
    for version in 0..=2 {
        connection.produce(9, "t", 0, batch(0, &["a", "b", "c", "d"])).await;
        let end = low + 4;
        // Up to within the batch, then no further back, then all there is.
        for (up_to, left) in [(low + 1, low + 1), (low, low + 1), (-1, end), (end, end)] {
            let deleted = delete(&mut connection, version, "t", &[(0, up_to)]).await;
            assert_eq!(deleted, [(0, left)], "version {version}, below {up_to}");
            assert_eq!(earliest(&mut connection).await, left, "version {version}");
            let fetched = connection.fetch(12, "t", 0, left).await;
            let told = (fetched.error_code, fetched.log_start_offset, fetched.high_watermark);
            assert_eq!(told, (0, left, end), "version {version}");
            assert_eq!(connection.fetch(12, "t", 0, left - 1).await.error_code, 1, "version {version}");
        }
        low = end;
    }
    assert_eq!(delete(&mut connection, 2, "t", &[(1, -1), (0, low)]).await, [(0, 0), (0, low)]);
    // Offsets go on where they were, and a producer is told where the log begins; a restart forgets nothing of it.
    let produced = connection.produce(9, "t", 0, batch(0, &["e"])).await;
    assert_eq!((produced.base_offset, produced.log_start_offset), (low, low));
    let lone = lone.restart("t").await;
    let mut connection = lone.connect().await;
    assert_eq!(earliest(&mut connection).await, low);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_deleted_is_refused() {
    let lone = Lone::with_topic("t", 1).await;
    create(&mut lone.broker.client.clone(), "keyed", 1, &[("cleanup.policy", "compact")]).await;
    let mut connection = lone.connect().await;
    connection.produce(9, "t", 0, batch(0, &["a", "b"])).await;
    for version in 0..=2 {
        let wanted = [(0, 3), (0, -2), (0, i64::MIN), (1, 0), (-1, 0)];
        let refused = delete(&mut connection, version, "t", &wanted).await;
        assert_eq!(refused, [(1, -1), (1, -1), (1, -1), (3, -1), (3, -1)], "version {version}");
        assert_eq!(delete(&mut connection, version, "unknown", &[(0, 0)]).await, [(3, -1)]);
        assert_eq!(delete(&mut connection, version, "keyed", &[(0, -1)]).await, [(44, -1)]);
    }
    let internal = async {
        let request = FindCoordinatorRequest::default().with_key(text("group"));
        while connection.ask(1, &request).await.error_code != 0 {}
        delete(&mut connection, 2, "__consumer_offsets", &[(0, -1)]).await
    };
    let refused = timeout(PATIENCE, internal).await.expect("the internal topic is made");
    assert_eq!(refused, [(17, -1)]);
    assert_eq!(earliest(&mut connection).await, 0, "nothing went");
    lone.stop().await;
}
