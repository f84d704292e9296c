//! Produce, by hand: its records are never copied.
//!
//! Versions 3 to 13: 5 adds the log start offset, 8 the reasons of a refusal, 9 is flexible, 10 tells the leader
//! (KIP-951), 13 names topics by id.

use crate::api::Api;
use crate::error::ErrorCode;
use crate::leader::{Leader, NodeEndpoint};
use crate::limits::REQUEST_ELEMENTS_MAX;
use crate::wire::{Encoding, Input, Output, WireError};
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use raftline_proto::ids::Offset;
use raftline_proto::time::Timestamp;
use uuid::Uuid;

/// A request to append batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transaction's id, if the producer has one.
    pub transactional_id: Option<StrBytes>,
    /// When to answer.
    pub acks: Acks,
    /// How long the answer may take, in milliseconds, as sent.
    pub timeout_ms: i32,
    /// What to append. At most [`REQUEST_ELEMENTS_MAX`] topics and partitions in all.
    pub topics: Vec<ProduceTopic>,
}

/// When a Produce request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// `acks=-1`: once a majority has the records, as durably as the topic says.
    All,
    /// `acks=0`: never. On an error the connection is closed.
    None,
    /// `acks=1`: once the leader has them.
    Leader,
    /// Anything else: answer every partition with `INVALID_REQUIRED_ACKS`.
    Invalid(i16),
}

/// The batches for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// Its name; empty from version 13 on.
    pub name: StrBytes,
    /// Its id; nil before version 13.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<ProducePartition>,
}

/// The batch for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// Which, as sent.
    pub index: i32,
    /// One record batch, to be validated; shared with the frame. `None` for null, which is no batch.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Decodes the body of a request of a served version.
    ///
    /// # Errors
    /// [`WireError`]: close the connection.
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let encoding = Api::Produce.encoding(version);
        let mut input = Input::new(body, encoding, REQUEST_ELEMENTS_MAX);
        let transactional_id = input.optional_text()?;
        let acks = Acks::from_wire(input.i16()?);
        let timeout_ms = input.i32()?;
        let count = input.count(topic_bytes_min(encoding))?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(decode_topic(&mut input, version)?);
        }
        input.skip_tags()?;
        input.finish()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

impl Acks {
    const fn from_wire(acks: i16) -> Self {
        match acks {
            -1 => Self::All,
            0 => Self::None,
            1 => Self::Leader,
            other => Self::Invalid(other),
        }
    }
}

fn decode_topic(input: &mut Input<'_>, version: i16) -> Result<ProduceTopic, WireError> {
    let (name, id) = input.topic(version, TOPIC_IDS_FROM)?;
    let count = input.count(partition_bytes_min(Api::Produce.encoding(version)))?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let index = input.i32()?;
        let records = input.optional_bytes()?;
        input.skip_tags()?;
        partitions.push(ProducePartition { index, records });
    }
    input.skip_tags()?;
    Ok(ProduceTopic { name, id, partitions })
}

/// The answer to a Produce request. There is none to `acks=0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceAnswer {
    /// In the order of the request.
    pub topics: Vec<ProduceTopicAnswer>,
    /// How long the client should wait before the next request, in milliseconds; 0 is always fine.
    pub throttle_ms: i32,
    /// Where the leaders named below are to be found. Told from version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The answer about one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceTopicAnswer {
    /// As in the request: told before version 13.
    pub name: StrBytes,
    /// As in the request: told from version 13 on.
    pub id: Uuid,
    /// In the order of the request.
    pub partitions: Vec<ProducePartitionAnswer>,
}

/// The answer about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionAnswer {
    /// As in the request.
    pub index: i32,
    /// How it went. Never `UNKNOWN_SERVER_ERROR`, at which idempotent Java producers write twice (KAFKA-14034).
    pub error: ErrorCode,
    /// The first record's offset, if appended now or before.
    pub base_offset: Option<Offset>,
    /// The time that all its records have, if the topic takes the time of append.
    pub log_append_time: Option<Timestamp>,
    /// The partition's first offset, if known. Told from version 5 on.
    pub log_start_offset: Option<Offset>,
    /// The records that are to blame for a refusal. Told from version 8 on.
    pub record_errors: Vec<RecordError>,
    /// Why it was refused, for people. Told from version 8 on.
    pub message: Option<StrBytes>,
    /// Who leads the partition, when we do not. Told from version 10 on.
    pub current_leader: Option<Leader>,
}

/// A record that made its batch be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its place in the batch, from 0.
    pub at: i32,
    /// What is wrong with it, for people.
    pub message: Option<StrBytes>,
}

impl ProducePartitionAnswer {
    /// Nothing but how it went.
    #[must_use]
    pub const fn of_error(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            base_offset: None,
            log_append_time: None,
            log_start_offset: None,
            record_errors: Vec::new(),
            message: None,
            current_leader: None,
        }
    }
}

impl ProduceAnswer {
    /// The whole answer, to be sent as it is.
    #[must_use]
    pub fn encode(&self, version: i16, correlation_id: i32) -> Bytes {
        let mut output = Output::frame(Api::Produce.encoding(version), BYTES_HINT);
        output.i32(correlation_id);
        output.no_tags();
        output.size(Some(self.topics.len()));
        for topic in &self.topics {
            output.topic(version, TOPIC_IDS_FROM, &topic.name, topic.id);
            output.size(Some(topic.partitions.len()));
            for partition in &topic.partitions {
                encode_partition(&mut output, version, partition);
            }
            output.no_tags();
        }
        output.i32(self.throttle_ms);
        if version >= LEADER_FROM && !self.node_endpoints.is_empty() {
            output.tags(&[Some((NODE_ENDPOINTS_TAG, NodeEndpoint::encode_all(&self.node_endpoints)))]);
        } else {
            output.no_tags();
        }
        output.finish(0)
    }
}

fn encode_partition(output: &mut Output, version: i16, partition: &ProducePartitionAnswer) {
    output.i32(partition.index);
    output.i16(partition.error.code());
    output.offset(partition.base_offset);
    output.i64(partition.log_append_time.map_or(-1, Timestamp::get));
    if version >= LOG_START_FROM {
        output.offset(partition.log_start_offset);
    }
    if version >= RECORD_ERRORS_FROM {
        output.size(Some(partition.record_errors.len()));
        for record in &partition.record_errors {
            output.i32(record.at);
            output.optional_text(record.message.as_deref());
            output.no_tags();
        }
        output.optional_text(partition.message.as_deref());
    }
    match partition.current_leader {
        Some(leader) if version >= LEADER_FROM => output.tags(&[Some((CURRENT_LEADER_TAG, leader.encode()))]),
        Some(_) | None => output.no_tags(),
    }
}

/// The least that a topic takes: no name, no partitions.
const fn topic_bytes_min(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Fixed => size_of::<i16>() + size_of::<i32>(),
        Encoding::Flexible => 3,
    }
}

/// The least that a partition takes: null records.
const fn partition_bytes_min(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Fixed => size_of::<i32>() * 2,
        Encoding::Flexible => size_of::<i32>() + 2,
    }
}

const LOG_START_FROM: i16 = 5;
const RECORD_ERRORS_FROM: i16 = 8;
const LEADER_FROM: i16 = 10;
const TOPIC_IDS_FROM: i16 = 13;
const NODE_ENDPOINTS_TAG: u32 = 0;
const CURRENT_LEADER_TAG: u32 = 0;
/// One topic with a few partitions.
const BYTES_HINT: usize = 256;
