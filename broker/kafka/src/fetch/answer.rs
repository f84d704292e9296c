//! The answer to a Fetch request, as pieces: what is encoded here, and between it the records as they were given.

use super::{DIVERGENCE_FROM, LOG_START_FROM, NODE_ENDPOINTS_FROM, RACK_FROM, SESSIONS_FROM, TOPIC_IDS_FROM};
use crate::api::Api;
use crate::error::ErrorCode;
use crate::leader::{Leader, NodeEndpoint};
use crate::wire::Output;
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use raftline_proto::ids::Offset;
use uuid::Uuid;

/// The answer to a Fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchAnswer {
    /// How long the client should wait before the next request, in milliseconds; 0 is always fine.
    pub throttle_ms: i32,
    /// How the request as a whole went: 0, or what is wrong with its session. Told from version 7 on.
    pub error: ErrorCode,
    /// The session that the next request may go on with; 0 for none, which is always fine. Told from version 7 on.
    pub session_id: i32,
    /// In the order of the request.
    pub topics: Vec<FetchTopicAnswer>,
    /// Where the leaders named below are to be found. Told from version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The answer about one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchTopicAnswer {
    /// As in the request: told before version 13.
    pub name: StrBytes,
    /// As in the request: told from version 13 on.
    pub id: Uuid,
    /// In the order of the request.
    pub partitions: Vec<FetchPartitionAnswer>,
}

/// The answer about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionAnswer {
    /// As in the request.
    pub index: i32,
    /// How it went. Invariant: [`ErrorCode::fetch_allowed`].
    pub error: ErrorCode,
    /// The offset after the last committed record, if known.
    pub high_watermark: Option<Offset>,
    /// The offset below which no transaction is open, if known; the high watermark where there are none.
    pub last_stable_offset: Option<Offset>,
    /// The partition's first offset, if known. Told from version 5 on.
    pub log_start_offset: Option<Offset>,
    /// The aborted transactions that overlap the records, for a consumer that reads committed records only; `None`
    /// for one that reads all.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to fetch from instead, if there is a better one. Told from version 11 on.
    pub preferred_read_replica: Option<i32>,
    /// Whole record batches, in the slices that they were read in; may be empty, and is never null.
    pub records: Vec<Bytes>,
    /// Where the client's log and ours part, if they do. Told from version 12 on.
    pub diverging_epoch: Option<EpochEnd>,
    /// Who leads the partition, when we do not. Told from version 12 on.
    pub current_leader: Option<Leader>,
}

/// A transaction whose records are to be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// From which record on.
    pub first_offset: Offset,
}

/// The end of a leader's term in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The leader epoch.
    pub epoch: i32,
    /// The offset after its last record.
    pub end_offset: Offset,
}

impl FetchPartitionAnswer {
    /// Nothing but how it went.
    #[must_use]
    pub const fn of_error(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            high_watermark: None,
            last_stable_offset: None,
            log_start_offset: None,
            aborted_transactions: None,
            preferred_read_replica: None,
            records: Vec::new(),
            diverging_epoch: None,
            current_leader: None,
        }
    }
}

impl FetchAnswer {
    /// The whole answer, to be sent piece after piece. Pieces that hold records are those of the answer; none is
    /// empty.
    ///
    /// # Panics
    /// If the records exceed 2 GiB, which a frame's size cannot state: a client may ask for so much, and the
    /// dispatcher is to answer less.
    #[must_use]
    pub fn encode(self, version: i16, correlation_id: i32) -> Vec<Bytes> {
        let mut encoder = Encoder {
            output: Output::frame(Api::Fetch.encoding(version), BYTES_HINT),
            version,
            records: Vec::new(),
            records_bytes: 0,
        };
        encoder.output.i32(correlation_id);
        encoder.output.no_tags();
        encoder.answer(self);
        encoder.finish()
    }
}

struct Encoder {
    output: Output,
    version: i16,
    /// The records, and before which byte of the output they go.
    records: Vec<(usize, Vec<Bytes>)>,
    records_bytes: usize,
}

impl Encoder {
    fn answer(&mut self, answer: FetchAnswer) {
        self.output.i32(answer.throttle_ms);
        if self.version >= SESSIONS_FROM {
            self.output.i16(answer.error.code());
            self.output.i32(answer.session_id);
        }
        self.output.size(Some(answer.topics.len()));
        for topic in answer.topics {
            self.output.topic(self.version, TOPIC_IDS_FROM, &topic.name, topic.id);
            self.output.size(Some(topic.partitions.len()));
            for partition in topic.partitions {
                self.partition(partition);
            }
            self.output.no_tags();
        }
        if self.version >= NODE_ENDPOINTS_FROM && !answer.node_endpoints.is_empty() {
            let endpoints = NodeEndpoint::encode_all(&answer.node_endpoints);
            self.output.tags(&[Some((NODE_ENDPOINTS_TAG, endpoints))]);
        } else {
            self.output.no_tags();
        }
    }

    fn partition(&mut self, partition: FetchPartitionAnswer) {
        debug_assert!(partition.error.fetch_allowed(), "{} ends a Java consumer", partition.error);
        let output = &mut self.output;
        output.i32(partition.index);
        output.i16(partition.error.code());
        output.offset(partition.high_watermark);
        output.offset(partition.last_stable_offset);
        if self.version >= LOG_START_FROM {
            output.offset(partition.log_start_offset);
        }
        output.size(partition.aborted_transactions.as_ref().map(Vec::len));
        for transaction in partition.aborted_transactions.iter().flatten() {
            output.i64(transaction.producer_id);
            output.offset(Some(transaction.first_offset));
            output.no_tags();
        }
        if self.version >= RACK_FROM {
            output.i32(partition.preferred_read_replica.unwrap_or(-1));
        }
        let records_bytes = partition.records.iter().map(Bytes::len).sum();
        output.size(Some(records_bytes));
        self.records_bytes += records_bytes;
        self.records.push((output.len(), partition.records));
        if self.version >= DIVERGENCE_FROM {
            output.tags(&[
                partition.diverging_epoch.map(|end| (DIVERGING_EPOCH_TAG, end.encode())),
                partition.current_leader.map(|leader| (CURRENT_LEADER_TAG, leader.encode())),
            ]);
        }
    }

    fn finish(self) -> Vec<Bytes> {
        let mut rest = self.output.finish(self.records_bytes);
        let mut pieces = Vec::with_capacity(2 * self.records.len() + 1);
        let mut written = 0;
        for (before, records) in self.records.into_iter().filter(|(_, records)| !records.is_empty()) {
            pieces.push(rest.split_to(before - written));
            written = before;
            pieces.extend(records);
        }
        pieces.push(rest);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

impl EpochEnd {
    /// As the value of a tagged field.
    fn encode(self) -> Output {
        Output::tag(|output| {
            output.i32(self.epoch);
            output.offset(Some(self.end_offset));
            output.no_tags();
        })
    }
}

const NODE_ENDPOINTS_TAG: u32 = 0;
const DIVERGING_EPOCH_TAG: u32 = 0;
const CURRENT_LEADER_TAG: u32 = 1;
/// A few partitions.
const BYTES_HINT: usize = 512;
