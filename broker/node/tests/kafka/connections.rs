//! What a connection may send: in which order it is answered, and what ends it, with no harm to the others.

use crate::client::{Connection, Lone, fetch, frame, produce, sized};
use crate::common::batch;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use raftline_kafka::limits::{FRAME_BYTES_MAX, REQUEST_ELEMENTS_MAX};
use std::time::Duration;

/// A connection on which everything works.
struct Other(Connection);

impl Other {
    async fn open(lone: &Lone) -> Self {
        Self(lone.connect().await)
    }

    async fn assert_unharmed(&mut self) {
        let produced = self.0.produce(9, "t", 0, batch(0, &["unharmed"])).await;
        assert_eq!(produced.error_code, 0);
        let found = self.0.fetch(11, "t", 0, produced.base_offset).await;
        assert_eq!((found.error_code, found.high_watermark), (0, produced.base_offset + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_in_their_order() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    let metadata = MetadataRequest::default().with_topics(None);
    let mut numbers = Vec::new();
    for round in 0..20 {
        let produce = |acks, partition| produce(acks, "t", partition, batch(0, &["a", "b", "c"]));
        let fetch = fetch("t", &[(0, 0, i32::MAX), (1, 0, i32::MAX)]).with_max_wait_ms(round);
        let first = connection.send(9, &produce(-1, 0)).await;
        // Has a number, and no answer.
        connection.send(9, &produce(0, 1)).await;
        let second = connection.send(3, &produce(1, 1)).await;
        let third = connection.send(12, &fetch).await;
        let fourth = connection.send(9, &metadata).await;
        numbers.push([first, second, third, fourth]);
    }
    for ([first, second, third, fourth], round) in numbers.into_iter().zip(0..) {
        let produced = connection.answer::<ProduceRequest>(9, first).await;
        let produced = &produced.responses[0].partition_responses[0];
        assert_eq!((produced.error_code, produced.base_offset), (0, round * 3));
        let produced = connection.answer::<ProduceRequest>(3, second).await;
        let produced = &produced.responses[0].partition_responses[0];
        assert_eq!(
            (produced.error_code, produced.base_offset),
            (0, round * 6 + 3),
            "appended in their order"
        );
        let fetched = connection.answer::<FetchRequest>(12, third).await;
        let ends: Vec<_> = fetched.responses[0].partitions.iter().map(|found| found.high_watermark).collect();
        assert_eq!(ends, [round * 3 + 3, round * 6 + 6], "a fetch sees what was acknowledged before it");
        assert_eq!(connection.answer::<MetadataRequest>(9, fourth).await.topics.len(), 1);
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_produces_may_be_under_way() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let mut numbers = Vec::new();
    for _ in 0..200 {
        numbers.push(connection.send(9, &produce(-1, "t", 0, batch(0, &["a"]))).await);
    }
    for (number, offset) in numbers.into_iter().zip(0..) {
        let produced = connection.answer::<ProduceRequest>(9, number).await;
        assert_eq!(produced.responses[0].partition_responses[0].base_offset, offset);
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_may_come_byte_by_byte() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    for byte in frame(0, 7, &ApiVersionsRequest::default()) {
        connection.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(connection.answer::<ApiVersionsRequest>(0, 7).await.error_code, 0);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_served_ends_the_connection() {
    let lone = Lone::with_topic("t", 1).await;
    let mut other = Other::open(&lone).await;
    // Unknown; between brokers; served, but neither in so new a version nor in so old a one.
    for (key, version) in [(999, 0), (-1, 0), (4, 0), (3, 14), (3, -1), (0, 2), (0, 14), (1, 3), (1, 19)] {
        let mut connection = lone.connect().await;
        let number = connection.send(0, &ApiVersionsRequest::default()).await;
        let mut request = BytesMut::new();
        request.put_i16(key);
        request.put_i16(version);
        request.put_slice(&[0, 0, 0, 8, 0xff, 0xff, 0, 0, 0, 0]);
        connection.send_bytes(&sized(&request)).await;
        assert_eq!(connection.answer::<ApiVersionsRequest>(0, number).await.error_code, 0);
        connection.assert_closed().await;
        other.assert_unharmed().await;
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_that_no_frame_has_end_the_connection() {
    let lone = Lone::with_topic("t", 1).await;
    let mut other = Other::open(&lone).await;
    let too_large = i32::try_from(FRAME_BYTES_MAX).unwrap() + 1;
    for size in [-1, i32::MIN, too_large, i32::MAX, i32::from_be_bytes(*b"GET ")] {
        let mut connection = lone.connect().await;
        connection.send_bytes(&size.to_be_bytes()).await;
        connection.send_bytes(b"and something after it").await;
        connection.assert_closed().await;
        other.assert_unharmed().await;
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_hold_no_request_end_the_connection() {
    let lone = Lone::with_topic("t", 1).await;
    let mut other = Other::open(&lone).await;
    let metadata = frame(9, 7, &MetadataRequest::default().with_topics(None));
    let list = frame(1, 7, &ListOffsetsRequest::default());
    let shorter = sized(&metadata[4..metadata.len() - 1]);
    for request in [sized(&[]), sized(&[0]), shorter, sized(&list[4..list.len() - 2])] {
        let mut connection = lone.connect().await;
        connection.send_bytes(&request).await;
        connection.assert_closed().await;
        other.assert_unharmed().await;
    }
    lone.stop().await;
}

/// librdkafka 2.16 asks so for all topics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_request_in_its_frame_is_not_looked_at() {
    let lone = Lone::with_topic("t", 1).await;
    let mut connection = lone.connect().await;
    let metadata = frame(13, 7, &MetadataRequest::default().with_topics(None));
    connection.send_bytes(&sized(&[&metadata[4..], &[1, 0, 0]].concat())).await;
    assert_eq!(connection.answer::<MetadataRequest>(13, 7).await.topics.len(), 1);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_counts_and_lengths_end_the_connection() {
    let lone = Lone::with_topic("t", 1).await;
    let mut other = Other::open(&lone).await;
    let header = |key: i16, version: i16| {
        let mut request = BytesMut::new();
        request.put_i16(key);
        request.put_i16(version);
        request.put_slice(&[0, 0, 0, 8, 0xff, 0xff]);
        request
    };
    let mut requests = Vec::new();
    for count in [i32::MAX, i32::MIN, -2, i32::try_from(REQUEST_ELEMENTS_MAX).unwrap() + 1, 1000] {
        // Metadata: this many topics.
        let mut request = header(3, 1);
        request.put_i32(count);
        requests.push(request);
        // Produce: this many topics; one topic with this many partitions; a batch of this many bytes.
        let mut request = header(0, 3);
        request.put_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
        let mut deeper = request.clone();
        request.put_i32(count);
        requests.push(request);
        deeper.put_slice(&[0, 0, 0, 1, 0, 1, b't']);
        let mut deepest = deeper.clone();
        deeper.put_i32(count);
        requests.push(deeper);
        deepest.put_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
        deepest.put_i32(count);
        requests.push(deepest);
        // Fetch: this many topics.
        let mut request = header(1, 4);
        request.put_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        request.put_i32(count);
        requests.push(request);
    }
    // Flexible: a compact count and a varint that do not end, a tag that is longer than the frame.
    for rest in [&[0xff; 12][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[1, 0, 0, 0, 1, 9, 0xff, 0xff, 0x03]] {
        let mut request = header(3, 9);
        request.put_u8(0);
        request.put_slice(rest);
        requests.push(request);
    }
    for request in requests {
        let mut connection = lone.connect().await;
        connection.send_bytes(&sized(&request)).await;
        connection.assert_closed().await;
    }
    other.assert_unharmed().await;
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_frame_and_silence_harm_nobody() {
    let lone = Lone::with_topic("t", 1).await;
    let mut other = Other::open(&lone).await;
    let request = frame(9, 1, &produce(-1, "t", 0, batch(0, &["never"])));
    let mut silent = Vec::new();
    for bytes in [1, 4, 5, request.len() / 2, request.len() - 1] {
        let mut connection = lone.connect().await;
        connection.send_bytes(&request[..bytes]).await;
        silent.push(connection);
    }
    // As large as a frame may be, more of them than fit in memory, and little of each ever comes.
    for _ in 0..8 {
        let mut connection = lone.connect().await;
        connection.send_bytes(&FRAME_BYTES_MAX.to_be_bytes()).await;
        connection.send_bytes(&[0; 10_000]).await;
        silent.push(connection);
    }
    other.assert_unharmed().await;
    let large = "x".repeat(500_000);
    let produced = other.0.produce(9, "t", 0, batch(0, &[&large])).await;
    assert_eq!((produced.error_code, produced.base_offset), (0, 1), "a large request waits for none of them");
    for connection in &mut silent {
        assert!(connection.is_silent_for(Duration::from_millis(1)).await, "they may still go on");
    }
    drop(silent);
    other.assert_unharmed().await;
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let lone = Lone::with_topic("t", 1).await;
    let mut other = Other::open(&lone).await;
    for _ in 0..50 {
        let mut connection = lone.connect().await;
        connection.send(11, &fetch("t", &[(0, 0, i32::MAX)]).with_max_wait_ms(600_000)).await;
        drop(connection);
    }
    other.assert_unharmed().await;
    lone.stop().await;
}
