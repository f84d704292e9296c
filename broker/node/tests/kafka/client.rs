//! A Kafka client that does as it is told: raw frames, and messages that the `kafka-protocol` crate encodes and reads.
#![allow(dead_code, reason = "every test takes what it needs")]

use crate::common::{PATIENCE, Running, configured};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use raftline_broker::server::KAFKA_ADDRESS_FILE;
use raftline_kafka::uuid::Uuid;
use raftline_proto::batch::BatchHeader;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A lone broker with both listeners.
pub struct Lone {
    pub broker: Running,
    /// Where Kafka clients find it.
    pub kafka: String,
    directory: tempfile::TempDir,
}

impl Lone {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = crate::common::lone(directory.path(), &[]).await;
        let kafka = kafka_address(directory.path());
        Self { broker, kafka, directory }
    }

    /// With a topic of `partitions` partitions, which all have leaders.
    pub async fn with_topic(name: &str, partitions: u32) -> Self {
        let mut lone = Self::start().await;
        crate::common::create(&mut lone.broker.client, name, partitions, &[]).await;
        lone
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(&self.kafka).await
    }

    pub async fn stop(self) {
        self.broker.stop().await.unwrap();
    }

    /// Stops it, starts it again on the same data, and waits until every partition of `topic` has a leader.
    pub async fn restart(self, topic: &str) -> Self {
        self.broker.stop().await.unwrap();
        let data_dir = self.directory.path().to_str().unwrap();
        let addresses = ["--grpc", "127.0.0.1:0", "--kafka", "127.0.0.1:0"];
        let args = [&["--dev", "--data-dir", data_dir], &addresses[..]].concat();
        let mut broker = Running::start(configured(&args)).await;
        crate::common::leaders(&mut broker.client, topic).await;
        let kafka = kafka_address(self.directory.path());
        Self { broker, kafka, directory: self.directory }
    }
}

/// Where Kafka clients find the broker of that directory.
pub fn kafka_address(data_dir: &Path) -> String {
    let address = std::fs::read_to_string(data_dir.join(KAFKA_ADDRESS_FILE)).unwrap();
    address.trim().to_owned()
}

/// A connection to a Kafka listener.
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation_id: 0 }
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        // A broker that has closed meanwhile is found by the read that follows.
        drop(self.stream.write_all(bytes).await);
    }

    /// Sends a request without waiting for its answer; returns its number.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame = frame(version, self.correlation_id, request);
        self.send_bytes(&frame).await;
        self.correlation_id
    }

    /// The next frame without its size; `None` once the broker has closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        timeout(PATIENCE, read).await.expect("an answer or the end comes in time")
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        let mut byte = [0];
        timeout(time, self.stream.peek(&mut byte)).await.is_err()
    }

    /// The answer to the request of that number, which has to be the next one and read to its last byte.
    pub async fn answer<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let frame = self.frame().await.expect("the connection is open");
        decode::<R>(version, correlation_id, frame).unwrap()
    }

    /// Sends a request and waits for its answer.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation_id = self.send(version, request).await;
        self.answer::<R>(version, correlation_id).await
    }

    /// Asserts that the broker closes the connection without another answer.
    pub async fn assert_closed(&mut self) {
        assert_eq!(self.frame().await, None);
    }

    /// Produces one batch to one partition.
    pub async fn produce(
        &mut self,
        version: i16,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let answer = self.ask(version, &produce(-1, topic, partition, batch)).await;
        only_produced(answer)
    }

    /// What Metadata says of one topic; it is not made.
    pub async fn described(&mut self, topic: &str) -> MetadataResponseTopic {
        let wanted = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
        self.ask(13, &request).await.topics.remove(0)
    }

    /// The id of a topic.
    pub async fn topic_id(&mut self, topic: &str) -> Uuid {
        let found = self.described(topic).await;
        assert!(found.error_code == 0 && !found.topic_id.is_nil(), "{found:?}");
        found.topic_id
    }

    /// Fetches one partition from an offset on, without waiting.
    pub async fn fetch(&mut self, version: i16, topic: &str, partition: i32, from: i64) -> PartitionData {
        let request = fetch(topic, &[(partition, from, i32::MAX)]).with_max_wait_ms(0);
        only_fetched(self.ask(version, &request).await)
    }
}

/// A request as a frame, its size included.
pub fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("test")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    sized(&body)
}

/// What is behind its size.
pub fn sized(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put_slice(body);
    frame.freeze()
}

/// Reads an answer to its last byte.
pub fn decode<R: Request>(
    version: i16,
    correlation_id: i32,
    mut frame: Bytes,
) -> Result<R::Response, String> {
    use kafka_protocol::protocol::HeaderVersion;
    let said = |error| format!("version {version}: {error}");
    let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).map_err(said)?;
    if header.correlation_id != correlation_id {
        return Err(format!("answer {} instead of {correlation_id}", header.correlation_id));
    }
    let answer = R::Response::decode(&mut frame, version).map_err(said)?;
    if frame.has_remaining() {
        return Err(format!("version {version}: {} bytes are left", frame.remaining()));
    }
    Ok(answer)
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// A request to append one batch, or what is meant to pass for one.
pub fn produce(acks: i16, topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// A request for partitions of one topic: each with its number, the offset and its bound of bytes.
pub fn fetch(topic: &str, partitions: &[(i32, i64, i32)]) -> FetchRequest {
    let partition = |&(partition, from, bytes_max)| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(from)
            .with_partition_max_bytes(bytes_max)
    };
    let partitions = partitions.iter().map(partition).collect();
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(partitions);
    FetchRequest::default()
        .with_max_wait_ms(10_000)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_topics(vec![topic])
}

/// The same request with the topics' id too, which versions from 13 on name them by.
pub fn produce_by_id(mut request: ProduceRequest, id: Uuid) -> ProduceRequest {
    request.topic_data.iter_mut().for_each(|topic| topic.topic_id = id);
    request
}

/// The same request with the topics' id too, which versions from 13 on name them by.
pub fn fetch_by_id(mut request: FetchRequest, id: Uuid) -> FetchRequest {
    request.topics.iter_mut().for_each(|topic| topic.topic_id = id);
    request.forgotten_topics_data.iter_mut().for_each(|topic| topic.topic_id = id);
    request
}

/// The answer for the one partition that was asked for.
pub fn only_produced(mut answer: ProduceResponse) -> PartitionProduceResponse {
    assert_eq!((answer.responses.len(), answer.responses[0].partition_responses.len()), (1, 1));
    answer.responses.remove(0).partition_responses.remove(0)
}

/// The answer for the one partition that was asked for.
pub fn only_fetched(mut answer: FetchResponse) -> PartitionData {
    assert_eq!(answer.error_code, 0);
    assert_eq!((answer.responses.len(), answer.responses[0].partitions.len()), (1, 1));
    answer.responses.remove(0).partitions.remove(0)
}

/// The base offsets and record counts of the batches in a fetched partition.
pub fn batches(fetched: &PartitionData) -> Vec<(u64, u32)> {
    let mut rest = fetched.records.clone().expect("empty, never null");
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::decode(&rest).unwrap();
        let whole = rest.split_to(header.batch_bytes as usize);
        raftline_proto::batch::check_crc(&whole).unwrap();
        batches.push((header.base_offset.0, header.record_count));
    }
    batches
}
