//! The producer against the mock: once, in order, bounded, and honest about what is not known.

mod mock;

use mock::{Fault, Mock};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{
    DeliveryError, ErrorCode, Idempotence, MissingTopic, Outcome, Producer, ProducerConfig, Record,
    SendError, Ticket,
};
use std::time::Duration;

fn record(value: usize) -> Record {
    Record::to("t").partition(PartitionIndex(0)).value(value.to_string())
}

/// Small batches, so that several are under way.
fn small() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 256,
        delivery_timeout: Duration::from_secs(20),
        ..ProducerConfig::default()
    }
}

async fn send(producer: &Producer, values: std::ops::Range<usize>) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for value in values {
        tickets.push(producer.send(record(value)).await.expect("taken"));
    }
    tickets
}

/// Everything is acknowledged at its own place: stored once, in the order of sending.
async fn check_all_stored_once(mock: &Mock, tickets: Vec<Ticket>) {
    let mut offset = 0;
    for ticket in tickets {
        assert_eq!(ticket.await.expect("acknowledged").offset.get(), offset);
        offset += 1;
    }
    let expected: Vec<String> = (0..offset).map(|value| value.to_string()).collect();
    assert_eq!(mock.values(0), expected);
}

/// Sends 400 records while the requests after the first meet `faults`.
async fn check_faults(faults: impl IntoIterator<Item = Fault>) -> Mock {
    let mock = Mock::start(2, 1).await;
    let producer = mock.client().await.producer(small());
    let mut tickets = send(&producer, 0..1).await;
    producer.flush().await.expect("stored");
    mock.order(faults);
    tickets.extend(send(&producer, 1..400).await);
    check_all_stored_once(&mock, tickets).await;
    mock
}

#[tokio::test]
async fn records_are_batched_by_what_is_waiting() {
    let mock = check_faults([]).await;
    assert!(mock.batch_count(0) < 100, "{} batches for 400 records", mock.batch_count(0));
}

#[tokio::test]
async fn a_connection_lost_after_the_append_stores_nothing_twice() {
    check_faults([Fault::None, Fault::BreakAfter]).await;
    check_faults([Fault::BreakAfter, Fault::BreakAfter, Fault::None, Fault::BreakAfter]).await;
}

#[tokio::test]
async fn a_connection_lost_before_the_append_loses_nothing() {
    check_faults([Fault::BreakBefore, Fault::None, Fault::BreakBefore]).await;
}

#[tokio::test]
async fn a_refused_batch_is_not_overtaken_by_those_behind_it() {
    for code in [ErrorCode::Busy, ErrorCode::NotLeader, ErrorCode::Stopping, ErrorCode::DiskFull] {
        check_faults([Fault::Refuse(code), Fault::None, Fault::Refuse(code)]).await;
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_by_asking_again() {
    for code in [ErrorCode::TimedOut, ErrorCode::LeadershipLost] {
        check_faults([Fault::AppendThen(code), Fault::Refuse(code), Fault::AppendThen(code)]).await;
    }
}

#[tokio::test]
async fn the_first_batch_travels_alone() {
    // A broker that does not know the producer takes any sequence number: were a second batch under way, it would be
    // stored before the first.
    let mock = Mock::start(1, 1).await;
    mock.order([Fault::Refuse(ErrorCode::Busy)]);
    let producer = mock.client().await.producer(small());
    let tickets = send(&producer, 0..400).await;
    check_all_stored_once(&mock, tickets).await;
}

#[tokio::test]
async fn a_silent_broker_is_left_when_another_leads() {
    let mock = Mock::start(2, 1).await;
    let producer = mock.client().await.producer(small());
    let mut tickets = send(&producer, 0..1).await;
    producer.flush().await.expect("stored");
    mock.order([Fault::Silent]);
    tickets.extend(send(&producer, 1..2).await);
    mock.lead(0, 2);
    tickets.extend(send(&producer, 2..100).await);
    check_all_stored_once(&mock, tickets).await;
}

#[tokio::test]
async fn a_killed_leader_is_followed_by_the_next() {
    let mock = Mock::start(3, 1).await;
    let producer = mock.client().await.producer(small());
    let mut tickets = send(&producer, 0..50).await;
    producer.flush().await.expect("stored");
    mock.stop(1);
    tickets.extend(send(&producer, 50..100).await);
    mock.lead(0, 3);
    tickets.extend(send(&producer, 100..150).await);
    check_all_stored_once(&mock, tickets).await;
}

#[tokio::test]
async fn a_batch_refused_for_good_fails_alone() {
    let mock = Mock::start(1, 1).await;
    let producer = mock.client().await.producer(small());
    send(&producer, 0..1).await.pop().expect("one").await.expect("stored");
    mock.order([Fault::Refuse(ErrorCode::BatchTooLarge)]);
    let tickets = send(&producer, 1..200).await;
    let mut refused = Vec::new();
    let mut stored = vec!["0".to_owned()];
    for (ticket, value) in tickets.into_iter().zip(1..) {
        match ticket.await {
            Ok(_) => stored.push(value.to_string()),
            Err(error) => {
                assert!(
                    matches!(&error, DeliveryError::Refused { refusal, .. } if refusal.code == ErrorCode::BatchTooLarge)
                );
                assert_eq!(error.outcome(), Outcome::NotStored);
                refused.push(value.to_string());
            }
        }
    }
    assert!(!refused.is_empty() && refused.len() < 199);
    assert_eq!(mock.values(0), stored, "those behind the refused batch are stored once and in order");
}

#[tokio::test]
async fn sending_waits_while_the_bytes_in_flight_are_used_up() {
    let mock = Mock::start(1, 1).await;
    let config = ProducerConfig { in_flight_bytes: 1000, ..ProducerConfig::default() };
    let producer = mock.client().await.producer(config);
    mock.order([Fault::Hold]);
    let big = || record(0).value(vec![0; 800]);
    let first = producer.send(big()).await.expect("taken");
    let second = producer.send(big());
    tokio::pin!(second);
    tokio::select! {
        biased;
        _ = &mut second => panic!("the second does not fit before the first is settled"),
        () = held(&mock, 1) => {}
    }
    mock.shared.release.notify_one();
    first.await.expect("stored");
    second.await.expect("taken").await.expect("stored");
}

async fn held(mock: &Mock, count: usize) {
    while mock.shared.state.lock().held < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn closing_flushes_what_lingers() {
    let mock = Mock::start(1, 1).await;
    let config = ProducerConfig { linger: Duration::from_secs(3600), ..ProducerConfig::default() };
    let producer = mock.client().await.producer(config);
    let tickets = send(&producer, 0..10).await;
    assert!(tickets.iter().all(|ticket| ticket.outcome_now().is_none()));
    let clone = producer.clone();
    producer.close().await.expect("all stored");
    assert_eq!(mock.batch_count(0), 1, "they lingered for each other");
    check_all_stored_once(&mock, tickets).await;
    assert_eq!(clone.send(record(0)).await.expect_err("closed"), SendError::Closed);
}

#[tokio::test]
async fn dropping_the_producer_delivers_what_it_was_given() {
    let mock = Mock::start(1, 1).await;
    let producer = mock.client().await.producer(small());
    let tickets = send(&producer, 0..100).await;
    drop(producer);
    check_all_stored_once(&mock, tickets).await;
}

#[tokio::test]
async fn a_delivery_that_takes_too_long_says_what_is_known() {
    let mock = Mock::start(1, 1).await;
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(300), ..small() };
    let producer = mock.client().await.producer(config);
    mock.order([Fault::Silent]);
    let unknown = producer.send(record(0)).await.expect("taken").await.expect_err("no answer");
    assert_eq!(unknown.outcome(), Outcome::Unknown);
    mock.lead(0, 0);
    let not_sent = producer.send(record(1)).await.expect("taken").await.expect_err("no leader");
    assert_eq!(not_sent.outcome(), Outcome::NotStored, "{not_sent}");
    mock.lead(0, 1);
    producer.send(record(2)).await.expect("taken").await.expect("a later record is none the worse");
    assert_eq!(mock.values(0), ["0", "2"]);
}

#[tokio::test]
async fn without_idempotence_an_unknown_outcome_is_final() {
    let mock = Mock::start(1, 1).await;
    let producer = mock.client().await.producer(ProducerConfig { idempotence: Idempotence::Off, ..small() });
    mock.order([Fault::BreakAfter]);
    let error = producer.send(record(0)).await.expect("taken").await.expect_err("no answer");
    assert!(matches!(error, DeliveryError::OutcomeUnknown { .. }), "{error}");
    mock.order([Fault::Refuse(ErrorCode::Busy)]);
    producer.send(record(1)).await.expect("taken").await.expect("what was refused is sent again");
    assert_eq!(mock.values(0), ["0", "1"]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let mock = Mock::start(1, 2).await;
    let producer = mock.client().await.producer(small());
    let error = producer.send(Record::to("nowhere").value("x")).await.expect_err("no such topic");
    assert_eq!(error, SendError::UnknownTopic { topic: "nowhere".into() });
    let error = producer.send(record(0).partition(PartitionIndex(2))).await.expect_err("no such partition");
    assert!(matches!(error, SendError::NoSuchPartition { partitions: 2, .. }), "{error}");
    let error = producer.send(record(0).value(vec![0; 2 << 20])).await.expect_err("too large");
    assert!(matches!(error, SendError::RecordTooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_topic_is_made_where_that_is_asked_for() {
    let mock = Mock::start(1, 1).await;
    let config = ProducerConfig { missing_topic: MissingTopic::Create, ..small() };
    let producer = mock.client().await.producer(config);
    producer.send(Record::to("new").value("x")).await.expect("made").await.expect("stored");
}

#[tokio::test]
async fn keyless_records_take_turns_and_keyed_ones_stay() {
    let mock = Mock::start(1, 3).await;
    let producer = mock.client().await.producer(ProducerConfig::default());
    for _ in 0..12 {
        drop(producer.send(Record::to("t").value(vec![b'x'; 16 << 10])).await.expect("taken"));
    }
    producer.flush().await.expect("stored");
    let counts: Vec<usize> = (0..3).map(|partition| mock.values(partition).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 12);
    assert!(counts.iter().all(|count| *count >= 3), "{counts:?}");
    let mut partitions = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let ticket = producer.send(Record::to("t").key("abc").value("x")).await.expect("taken");
        partitions.insert(ticket.await.expect("stored").partition);
    }
    assert_eq!(Vec::from_iter(partitions), [raftline_client::partition_of_key(b"abc", 3)]);
}
