//! Fetch sessions (KIP-227), byte by byte: what a consumer need not say again, and what it is not told again.

use crate::client::{Connection, Lone, batches, fetch, fetch_by_id, name};
use crate::common::batch;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse};
use std::time::Duration;

/// What is told: of each partition its number, its error and the base offsets of its batches.
fn found(answer: &FetchResponse) -> Vec<(i32, i16, Vec<u64>)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let mut found: Vec<_> = partitions
        .map(|found| {
            let offsets = batches(found).into_iter().map(|(base_offset, _)| base_offset).collect();
            (found.partition_index, found.error_code, offsets)
        })
        .collect();
    found.sort();
    found
}

/// A request that goes on with a session, and says that nothing changed.
fn same(session_id: i32, session_epoch: i32) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_session_id(session_id)
        .with_session_epoch(session_epoch)
}

/// Partitions of topic `t`, from the beginning.
fn all(partitions: &[i32]) -> FetchRequest {
    let partitions: Vec<_> = partitions.iter().map(|index| (*index, 0, i32::MAX)).collect();
    fetch("t", &partitions).with_max_wait_ms(0)
}

/// Begins a session; returns its id.
async fn begin(connection: &mut Connection, partitions: &[i32]) -> i32 {
    let answer = connection.ask(12, &all(partitions).with_session_epoch(0)).await;
    assert_eq!((answer.error_code, found(&answer).len()), (0, partitions.len()));
    assert!(answer.session_id > 0);
    answer.session_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_told_only_what_changed_in_every_version() {
    let lone = Lone::with_topic("t", 3).await;
    let mut connection = lone.connect().await;
    let id = connection.topic_id("t").await;
    for (end, version) in (0_u64..).zip(7..=18) {
        let first = fetch_by_id(all(&[0, 1, 2]), id).with_session_epoch(0);
        let answer = connection.ask(version, &first).await;
        let before: Vec<u64> = (0..end).collect();
        let expected = [(0, 0, vec![]), (1, 0, before), (2, 0, vec![])];
        assert_eq!(found(&answer), expected, "version {version}: all of it at first");
        let session = answer.session_id;
        assert!(session > 0, "version {version}");

        // From the end on there is nothing, and nothing is told.
        let partition = FetchPartition::default()
            .with_partition(1)
            .with_fetch_offset(i64::try_from(end).unwrap())
            .with_partition_max_bytes(i32::MAX);
        let moved =
            FetchTopic::default().with_topic(name("t")).with_topic_id(id).with_partitions(vec![partition]);
        let answer = connection.ask(version, &same(session, 1).with_topics(vec![moved])).await;
        assert_eq!((answer.error_code, answer.session_id), (0, session), "version {version}");
        assert_eq!(answer.responses, [], "version {version}");

        // It waits for all of its partitions, though it names none.
        let number = connection.send(version, &same(session, 2).with_max_wait_ms(60_000)).await;
        assert!(connection.is_silent_for(Duration::from_millis(20)).await, "version {version}");
        lone.connect().await.produce(9, "t", 1, batch(0, &["a"])).await;
        let answer = connection.answer::<FetchRequest>(version, number).await;
        assert_eq!(found(&answer), [(1, 0, vec![end])], "version {version}: what is new");

        // What is forgotten is told of no more.
        let gone =
            ForgottenTopic::default().with_topic(name("t")).with_topic_id(id).with_partitions(vec![1, 2]);
        let request = same(session, 3).with_forgotten_topics_data(vec![gone]);
        assert_eq!(connection.ask(version, &request).await.responses, [], "version {version}");
        let closing = same(session, -1);
        let answer = connection.ask(version, &closing).await;
        assert_eq!((answer.error_code, answer.session_id), (0, 0), "version {version}");
        let answer = connection.ask(version, &same(session, 4)).await;
        assert_eq!((answer.error_code, answer.session_id), (70, 0), "version {version}: it was closed");
        assert_eq!(answer.responses, []);
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_out_of_its_session_is_told_why() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    let topic_id = connection.topic_id("t").await;
    let session = begin(&mut connection, &[0, 1]).await;
    let refusals = [
        (12, same(session ^ 1, 1), 70),
        (12, same(0, 1), 70),
        (12, same(session, 2), 71),
        (12, same(session, i32::MAX), 71),
        (13, same(session, 1), 106),
    ];
    for (version, request, expected) in refusals {
        let answer = connection.ask(version, &request).await;
        assert_eq!((answer.error_code, answer.responses.len()), (expected, 0), "{request:?}");
    }
    // None of them did it any harm; and a session belongs to no connection, as in Kafka.
    let mut other = lone.connect().await;
    assert_eq!(other.ask(12, &same(session, 1)).await.session_id, session);
    assert_eq!(connection.ask(12, &same(session, 1)).await.error_code, 71, "that one was answered");
    let by_id = fetch_by_id(all(&[0]), topic_id).with_session_id(session).with_session_epoch(0);
    let next = connection.ask(13, &by_id).await;
    assert!(next.error_code == 0 && next.session_id > 0 && next.session_id != session);
    assert_eq!(connection.ask(12, &same(session, 2)).await.error_code, 70, "another one took its place");
    assert_eq!(connection.ask(12, &same(next.session_id, 1)).await.error_code, 106);
    assert_eq!(connection.ask(13, &same(next.session_id, 1)).await.error_code, 0);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_tells_of_errors_until_they_are_over() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    let session = begin(&mut connection, &[0, 1, 7]).await;
    for epoch in 1..4 {
        // However long it would wait for records.
        let answer = connection.ask(12, &same(session, epoch).with_max_wait_ms(60_000)).await;
        assert_eq!(found(&answer), [(7, 3, vec![])]);
    }
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]).with_timeout_ms(10_000);
    assert_eq!(connection.ask(5, &delete).await.responses[0].error_code, 0);
    let answer = connection.ask(12, &same(session, 4)).await;
    let codes: Vec<_> = found(&answer).into_iter().map(|(index, code, _)| (index, code)).collect();
    assert_eq!(codes, [(0, 3), (1, 3), (7, 3)]);
    let mut client = lone.broker.client.clone();
    crate::common::create(&mut client, "t", 8, &[]).await;
    let answer = connection.ask(12, &same(session, 5)).await;
    assert_eq!(found(&answer), [(0, 0, vec![]), (1, 0, vec![]), (7, 0, vec![])], "that it is over is news");
    assert_eq!(connection.ask(12, &same(session, 6)).await.responses, []);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_a_session_take_turns_where_an_answer_cannot_hold_all() {
    let lone = Lone::with_topic("t", 3).await;
    let mut connection = lone.connect().await;
    for partition in 0..3 {
        connection.produce(9, "t", partition, batch(0, &["a"])).await;
    }
    // Each answer holds one batch; the consumer asks for the same again.
    let first = connection.ask(12, &all(&[0, 1, 2]).with_max_bytes(1).with_session_epoch(0)).await;
    assert_eq!(found(&first), [(0, 0, vec![0]), (1, 0, vec![]), (2, 0, vec![])]);
    for (epoch, turn) in (1..).zip([1, 2, 0, 1, 2, 0]) {
        let answer = connection.ask(12, &same(first.session_id, epoch).with_max_bytes(1)).await;
        assert_eq!(found(&answer), [(turn, 0, vec![0])]);
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_no_session_or_too_large_a_one_is_answered_without() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    connection.produce(9, "t", 0, batch(0, &["a"])).await;
    let answer = connection.ask(12, &all(&[0]).with_session_epoch(-1)).await;
    assert_eq!((answer.session_id, found(&answer)), (0, vec![(0, 0, vec![0])]));
    let many: Vec<i32> = (0..50_000).collect();
    let answer = connection.ask(12, &all(&many).with_session_epoch(0)).await;
    assert_eq!((answer.error_code, answer.session_id, found(&answer).len()), (0, 0, many.len()));

    // Sessions without end from one connection: it keeps the last few, and others are not disturbed.
    let mut other = lone.connect().await;
    let kept = begin(&mut other, &[0]).await;
    let mut sessions = Vec::new();
    for _ in 0..1_100 {
        sessions.push(begin(&mut connection, &[0]).await);
    }
    assert_eq!(connection.ask(12, &same(sessions[0], 1)).await.error_code, 70);
    assert_eq!(connection.ask(12, &same(sessions[1_099], 1)).await.error_code, 0);
    assert_eq!(other.ask(12, &same(kept, 1)).await.error_code, 0);
    lone.stop().await;
}
