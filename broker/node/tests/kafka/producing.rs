//! Produce: what is acknowledged and how, and what is refused with which code while the broker goes on.

use crate::client::{Connection, Lone, batches, produce};
use crate::common::{batch, create};
use bytes::Bytes;
use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, TransactionalId};
use raftline_proto::batch::{Builder, CRC_FROM, Codec};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::ProducerId;
use raftline_proto::time::Timestamp;
use std::time::Duration;

/// A batch whose bytes at these places are others, under a checksum that is right again.
fn changed(batch: &Bytes, changes: &[(usize, &[u8])]) -> Bytes {
    let mut batch = batch.to_vec();
    for (at, bytes) in changes {
        batch[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// What a batch for partition 0 of topic `t` is answered; a refusal says why, where the version lets it.
async fn answer(connection: &mut Connection, batch: Bytes) -> i16 {
    let produced = connection.produce(9, "t", 0, batch).await;
    let is_refused = produced.error_code != 0;
    assert_eq!(produced.base_offset == -1, is_refused);
    assert_eq!(produced.error_message.is_some(), is_refused, "{produced:?}");
    produced.error_code
}

async fn end(connection: &mut Connection) -> i64 {
    connection.fetch(11, "t", 0, 0).await.high_watermark
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_acknowledgement_there_is_no_answer_and_a_failure_closes() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    for _ in 0..3 {
        connection.send(9, &produce(0, "t", 0, batch(0, &["a"]))).await;
    }
    assert!(connection.is_silent_for(Duration::from_millis(50)).await);
    let produced = connection.produce(9, "t", 0, batch(0, &["b"])).await;
    assert_eq!((produced.error_code, produced.base_offset), (0, 3));

    let mut damaged = batch(0, &["a"]).to_vec();
    damaged[62] ^= 1;
    for failing in [
        produce(0, "unknown", 0, batch(0, &["a"])),
        produce(0, "t", 7, batch(0, &["a"])),
        produce(0, "t", 0, damaged.into()),
    ] {
        let mut failed = lone.connect().await;
        failed.send(9, &failing).await;
        failed.assert_closed().await;
    }
    assert_eq!(end(&mut connection).await, 4);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_acknowledgements_than_these_three_are_refused() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    for acks in [2, -2, i16::MAX] {
        let answer = connection.ask(9, &produce(acks, "t", 0, batch(0, &["a"]))).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 21, "acks {acks}");
    }
    assert_eq!(end(&mut connection).await, 0);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_batch_is_refused_and_the_broker_goes_on() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let good = batch(1_000, &["one", "two", "three"]);
    let mut damaged = good.to_vec();
    damaged[70] ^= 0x10;
    let number = |number: i32| number.to_be_bytes();
    let cases: Vec<(&str, Bytes, i16)> = vec![
        ("a byte of a record", damaged.into(), 2),
        ("nothing", Bytes::new(), 2),
        ("half of it", good.slice(..good.len() / 2), 2),
        ("a length of 2 GiB", changed(&good, &[(8, &number(i32::MAX))]), 10),
        ("a length of -1", changed(&good, &[(8, &number(-1))]), 2),
        ("a count of 4", changed(&good, &[(57, &number(4))]), 87),
        ("a count of 2, but the last delta", changed(&good, &[(57, &number(2))]), 87),
        ("one record fewer", changed(&good, &[(57, &number(2)), (23, &number(1))]), 87),
        ("one record more", changed(&good, &[(57, &number(4)), (23, &number(3))]), 87),
        ("no record", changed(&good, &[(57, &number(0)), (23, &number(-1))]), 87),
        ("2 billion records", changed(&good, &[(57, &number(i32::MAX)), (23, &number(i32::MAX - 1))]), 87),
        ("a count of -1", changed(&good, &[(57, &number(-1))]), 87),
        ("a base offset", changed(&good, &[(0, &5_i64.to_be_bytes())]), 87),
        ("magic 1", changed(&good, &[(16, &[1])]), 87),
        ("magic 0", changed(&good, &[(16, &[0])]), 87),
        ("a control batch", changed(&good, &[(21, &[0, 0x20])]), 87),
        ("codec 5", changed(&good, &[(21, &[0, 5])]), 76),
        ("two batches", [&good[..], &good[..]].concat().into(), 87),
        (
            "a sequence of -1 with a producer",
            changed(&good, &[(43, &7_i64.to_be_bytes()), (51, &[0, 0])]),
            87,
        ),
    ];
    for (what, bad, expected) in cases {
        assert_eq!(answer(&mut connection, bad).await, expected, "{what}");
        assert_eq!(end(&mut connection).await, 0, "{what}: nothing was appended");
    }
    assert_eq!(answer(&mut connection, good).await, 0);
    assert_eq!(end(&mut connection).await, 3);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_the_topics_bound_is_too_large() {
    let mut lone = Lone::start().await;
    create(&mut lone.broker.client, "t", 1, &[("max.message.bytes", "1000")]).await;
    let mut connection = lone.connect().await;
    let value = "x".repeat(1000);
    assert_eq!(answer(&mut connection, batch(0, &[&value])).await, 10);
    assert_eq!(answer(&mut connection, batch(0, &[&value[..900]])).await, 0);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zstd_is_for_clients_that_know_it() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = Builder::new(codec);
        let value = "pack me ".repeat(100);
        builder.push(Timestamp(0), None, Some(value.as_bytes()), &[]).unwrap();
        let batch = builder.build();
        for version in [6, 7] {
            let produced = connection.produce(version, "t", 0, batch.clone()).await;
            let expected = if codec == Codec::Zstd && version == 6 { 76 } else { 0 };
            assert_eq!(produced.error_code, expected, "{codec:?}, version {version}");
        }
    }
    // Kafka's brokers refuse old Fetch only where the topic's config says zstd, which none does here. There are consumers
    // that know zstd and ask by version 4 (aiokafka, rskafka).
    for version in [4, 9, 10] {
        let found = connection.fetch(version, "t", 0, 7).await;
        assert_eq!((found.error_code, batches(&found)), (0, vec![(7, 1), (8, 1)]), "version {version}");
    }
    lone.stop().await;
}

/// A batch of an idempotent producer.
fn idempotent(producer_id: i64, epoch: u16, base_sequence: u32, values: &[&str]) -> Bytes {
    let mut builder = Builder::new(Codec::None);
    let id = ProducerId(u64::try_from(producer_id).unwrap());
    builder.set_producer(ProducerBatch { id, epoch, base_sequence });
    for value in values {
        builder.push(Timestamp(0), None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_is_answered_the_same_again() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let request = InitProducerIdRequest::default().with_transactional_id(None::<TransactionalId>);
    let id = connection.ask(4, &request).await.producer_id.0;
    let mut offsets = Vec::new();
    for sequence in 0..8 {
        let produced = connection.produce(9, "t", 0, idempotent(id, 0, sequence * 2, &["a", "b"])).await;
        offsets.push((produced.error_code, produced.base_offset));
    }
    assert_eq!(offsets, (0..8).map(|nth| (0, nth * 2)).collect::<Vec<_>>());
    let lone = lone.restart("t").await;
    let mut connection = lone.connect().await;
    for sequence in 3..8 {
        let again = connection.produce(9, "t", 0, idempotent(id, 0, sequence * 2, &["a", "b"])).await;
        let expected = (0, i64::from(sequence) * 2);
        assert_eq!((again.error_code, again.base_offset), expected, "one of the last five");
    }
    assert_eq!(answer(&mut connection, idempotent(id, 0, 18, &["gap"])).await, 45);
    assert_eq!(answer(&mut connection, idempotent(id, 1, 0, &["next epoch"])).await, 0);
    assert_eq!(answer(&mut connection, idempotent(id, 0, 16, &["old epoch"])).await, 47);
    assert_eq!(end(&mut connection).await, 17);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_one_request_are_answered_each_for_itself() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    let mut request = produce(-1, "t", 0, batch(0, &["a"]));
    let partitions = &mut request.topic_data[0].partition_data;
    for (index, records) in [(1, Some(batch(0, &["b"]))), (5, Some(batch(0, &["c"]))), (0, None)] {
        partitions.push(partitions[0].clone().with_index(index).with_records(records));
    }
    let answer = connection.ask::<ProduceRequest>(9, &request).await;
    let answers: Vec<_> = answer.responses[0]
        .partition_responses
        .iter()
        .map(|produced| (produced.index, produced.error_code))
        .collect();
    assert_eq!(answers, [(0, 0), (1, 0), (5, 3), (0, 2)]);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_that_is_to_blame_is_named() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let good = batch(1_000, &["one", "two", "three"]);
    // The second record's offset delta: behind the header, a record of 10 bytes and its size, then attributes and time.
    let at = 61 + 10 + 3;
    assert_eq!(good[at], 2, "the delta 1, as a varint");
    let bad = changed(&good, &[(at, &[8])]);
    for version in [7, 8, 9, 12] {
        let refused = connection.produce(version, "t", 0, bad.clone()).await;
        assert_eq!((refused.error_code, refused.base_offset), (87, -1), "version {version}");
        let named: Vec<i32> = refused.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!(named, if version >= 8 { vec![1] } else { vec![] }, "version {version}");
        assert_eq!(refused.error_message.is_some(), version >= 8);
        let explained = |record: &BatchIndexAndErrorMessage| record.batch_index_error_message.is_some();
        assert!(refused.record_errors.iter().all(explained));
    }
    assert_eq!(end(&mut connection).await, 0);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_compacted_topic_have_keys() {
    let mut lone = Lone::start().await;
    create(&mut lone.broker.client, "t", 1, &[("cleanup.policy", "compact")]).await;
    let mut connection = lone.connect().await;
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = |keys: &[Option<&[u8]>]| {
            let mut builder = Builder::new(codec);
            for key in keys {
                builder.push(Timestamp(0), *key, Some(b"value"), &[]).unwrap();
            }
            builder.build()
        };
        for (keys, blamed) in [
            (&[Some(&b"a"[..]), None][..], &[1][..]),
            (&[None, Some(b"a"), Some(b""), None, None], &[0, 3, 4]),
        ] {
            let refused = connection.produce(9, "t", 0, batch(keys)).await;
            let named: Vec<i32> = refused.record_errors.iter().map(|record| record.batch_index).collect();
            assert_eq!((refused.error_code, &*named), (87, blamed), "{codec:?}");
        }
        let many = connection.produce(9, "t", 0, batch(&[None; 1500])).await;
        assert_eq!((many.error_code, many.record_errors.len()), (87, 1000), "{codec:?}");
        assert_eq!(answer(&mut connection, batch(&[Some(b"a"), Some(b"b")])).await, 0, "{codec:?}");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_last_sequence_comes_zero() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let last = u32::try_from(i32::MAX).unwrap();
    // A producer that is not known (any more) may begin anywhere (KIP-360); this one is about to come round.
    for (sequence, values, offset) in
        [(last - 1, &["a"][..], 0), (last, &["b", "c", "d"], 1), (2, &["e"], 4), (last, &["b", "c", "d"], 1)]
    {
        let produced = connection.produce(9, "t", 0, idempotent(7, 0, sequence, values)).await;
        assert_eq!((produced.error_code, produced.base_offset), (0, offset), "sequence {sequence}");
    }
    assert_eq!(answer(&mut connection, idempotent(7, 0, 4, &["gap"])).await, 45);
    assert_eq!(end(&mut connection).await, 5);
    lone.stop().await;
}
