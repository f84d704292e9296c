//! Topics whose maker says where the replicas are to be.

use crate::client::{Lone, name};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreateTopicsRequest};

/// Partitions, each with its brokers.
type Placed<'a> = &'a [(i32, &'a [i32])];

fn topic(called: &str, counts: (i32, i16), partitions: Placed<'_>) -> CreateTopicsRequest {
    let assignment = partitions.iter().map(|(index, brokers)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
    });
    let topic = CreatableTopic::default()
        .with_name(name(called))
        .with_num_partitions(counts.0)
        .with_replication_factor(counts.1)
        .with_assignments(assignment.collect());
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_where_they_are_wanted() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let none = (-1, -1);
    let wrong: [((i32, i16), Placed<'_>, i16); 6] = [
        (none, &[(0, &[2])], 39),
        (none, &[(0, &[1, 1])], 39),
        (none, &[(0, &[])], 39),
        (none, &[(0, &[1]), (2, &[1])], 39),
        ((2, -1), &[(0, &[1])], 42),
        ((-1, 1), &[(0, &[1])], 42),
    ];
    for (counts, partitions, expected) in wrong {
        for validate_only in [true, false] {
            let request = topic("t", counts, partitions).with_validate_only(validate_only);
            let answer = connection.ask(7, &request).await.topics.remove(0);
            assert_eq!(answer.error_code, expected, "{partitions:?}: {answer:?}");
            assert!(answer.error_message.is_some_and(|why| !why.is_empty()));
        }
    }
    let wanted = topic("t", none, &[(1, &[1]), (0, &[1])]);
    let rehearsed = connection.ask(7, &wanted.clone().with_validate_only(true)).await.topics.remove(0);
    assert_eq!((rehearsed.error_code, rehearsed.num_partitions, rehearsed.replication_factor), (0, 2, 1));
    let made = connection.ask(7, &wanted).await.topics.remove(0);
    assert_eq!((made.error_code, made.num_partitions, made.replication_factor), (0, 2, 1), "{made:?}");
    assert_eq!(connection.described("t").await.partitions.len(), 2);

    let more = |brokers: &[&[i32]]| {
        let assignment = brokers.iter().map(|brokers| {
            let brokers = brokers.iter().copied().map(BrokerId).collect();
            CreatePartitionsAssignment::default().with_broker_ids(brokers)
        });
        let topic = CreatePartitionsTopic::default()
            .with_name(name("t"))
            .with_count(4)
            .with_assignments(Some(assignment.collect()));
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    for wrong in [&[&[1][..]][..], &[&[1], &[2]], &[&[1], &[1], &[1]], &[&[1, 1], &[1, 1]]] {
        let answer = connection.ask(3, &more(wrong)).await.results.remove(0);
        assert_eq!(answer.error_code, 39, "{wrong:?}: {answer:?}");
    }
    assert_eq!(connection.ask(3, &more(&[&[1], &[1]])).await.results[0].error_code, 0);
    assert_eq!(connection.described("t").await.partitions.len(), 4);
    lone.stop().await;
}
