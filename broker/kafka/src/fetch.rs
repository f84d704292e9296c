//! Fetch, by hand: its records are never copied.
//!
//! Versions 4 to 18: 5 adds the log start offset, 7 sessions (KIP-227), 9 the leader epoch, 11 the rack, 12 is
//! flexible and tells of divergence, 13 names topics by id, 15 moves the replica's id, which consumers do not send,
//! 16 tells where leaders are (KIP-951), 17 and 18 are between replicas.

use crate::api::Api;
use crate::limits::REQUEST_ELEMENTS_MAX;
use crate::wire::{Encoding, Input, WireError};
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use raftline_proto::ids::Offset;
use uuid::Uuid;

mod answer;

pub use answer::{AbortedTransaction, EpochEnd, FetchAnswer, FetchPartitionAnswer, FetchTopicAnswer};

/// A request for records. Fields that say something about a replica are read over: brokers fetch otherwise here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// How long to wait for [`FetchRequest::bytes_min`], in milliseconds, as sent.
    pub wait_ms_max: i32,
    /// How many bytes make an answer before that time, as sent.
    pub bytes_min: i32,
    /// How many bytes to answer at most, but for the first batch; as sent.
    pub bytes_max: i32,
    /// Which records to answer.
    pub isolation: Isolation,
    /// The session; 0 for none.
    pub session_id: i32,
    /// The session's epoch: 0 begins a session, -1 is none or ends one.
    pub session_epoch: i32,
    /// What to fetch; within a session, what changes. At most [`REQUEST_ELEMENTS_MAX`] topics, partitions and
    /// forgotten partitions in all.
    pub topics: Vec<FetchTopic>,
    /// What to fetch no more in this session.
    pub forgotten: Vec<ForgottenTopic>,
    /// Where the client is; empty if it does not say.
    pub rack_id: StrBytes,
}

/// Which records a consumer wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All below the high watermark.
    ReadUncommitted,
    /// Those below the last stable offset.
    ReadCommitted,
}

/// What to fetch of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// Its name; empty from version 13 on.
    pub name: StrBytes,
    /// Its id; nil before version 13.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// What to fetch of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which, as sent.
    pub index: i32,
    /// The leader epoch that the client knows, if it says so.
    pub current_leader_epoch: Option<i32>,
    /// The first record wanted. `None` for a negative one, which is out of range.
    pub fetch_offset: Option<Offset>,
    /// The leader epoch of the last record that the client has, if it says so.
    pub last_fetched_epoch: Option<i32>,
    /// How many bytes to answer at most, but for the first batch; as sent.
    pub bytes_max: i32,
}

/// What to fetch no more of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// Its name; empty from version 13 on.
    pub name: StrBytes,
    /// Its id; nil before version 13.
    pub id: Uuid,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// Decodes the body of a request of a served version.
    ///
    /// # Errors
    /// [`WireError`]: close the connection.
    pub fn decode(version: i16, body: &Bytes) -> Result<Self, WireError> {
        let encoding = Api::Fetch.encoding(version);
        let mut input = Input::new(body, encoding, REQUEST_ELEMENTS_MAX);
        if version < REPLICA_STATE_FROM {
            input.i32()?;
        }
        let wait_ms_max = input.i32()?;
        let bytes_min = input.i32()?;
        let bytes_max = input.i32()?;
        let isolation = Isolation::from_wire(input.i8()?)?;
        let (session_id, session_epoch) =
            if version >= SESSIONS_FROM { (input.i32()?, input.i32()?) } else { (0, -1) };
        let topics = decode_all(&mut input, topic_bytes_min(encoding), |input| decode_topic(input, version))?;
        let forgotten = if version >= SESSIONS_FROM {
            decode_all(&mut input, topic_bytes_min(encoding), |input| decode_forgotten(input, version))?
        } else {
            Vec::new()
        };
        let rack_id = if version >= RACK_FROM { input.text()? } else { StrBytes::new() };
        input.skip_tags()?;
        input.finish()?;
        Ok(Self {
            wait_ms_max,
            bytes_min,
            bytes_max,
            isolation,
            session_id,
            session_epoch,
            topics,
            forgotten,
            rack_id,
        })
    }
}

impl Isolation {
    const fn from_wire(isolation: i8) -> Result<Self, WireError> {
        match isolation {
            0 => Ok(Self::ReadUncommitted),
            1 => Ok(Self::ReadCommitted),
            found => Err(WireError::Value { found: found as i64 }),
        }
    }
}

fn decode_topic(input: &mut Input<'_>, version: i16) -> Result<FetchTopic, WireError> {
    let (name, id) = input.topic(version, TOPIC_IDS_FROM)?;
    let partitions = decode_all(input, PARTITION_BYTES_MIN, |input| decode_partition(input, version))?;
    input.skip_tags()?;
    Ok(FetchTopic { name, id, partitions })
}

fn decode_partition(input: &mut Input<'_>, version: i16) -> Result<FetchPartition, WireError> {
    let index = input.i32()?;
    let current_leader_epoch = if version >= LEADER_EPOCH_FROM { input.epoch()? } else { None };
    let fetch_offset = u64::try_from(input.i64()?).ok().map(Offset);
    let last_fetched_epoch = if version >= DIVERGENCE_FROM { input.epoch()? } else { None };
    if version >= LOG_START_FROM {
        // A replica's own log start; consumers have none.
        input.i64()?;
    }
    let bytes_max = input.i32()?;
    input.skip_tags()?;
    Ok(FetchPartition { index, current_leader_epoch, fetch_offset, last_fetched_epoch, bytes_max })
}

fn decode_forgotten(input: &mut Input<'_>, version: i16) -> Result<ForgottenTopic, WireError> {
    let (name, id) = input.topic(version, TOPIC_IDS_FROM)?;
    let partitions = decode_all(input, size_of::<i32>(), Input::i32)?;
    input.skip_tags()?;
    Ok(ForgottenTopic { name, id, partitions })
}

fn decode_all<'a, T>(
    input: &mut Input<'a>,
    element_bytes_min: usize,
    mut decode: impl FnMut(&mut Input<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = input.count(element_bytes_min)?;
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        elements.push(decode(input)?);
    }
    Ok(elements)
}

/// The least that a topic takes: no name, no partitions.
const fn topic_bytes_min(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Fixed => size_of::<i16>() + size_of::<i32>(),
        Encoding::Flexible => 3,
    }
}

/// The least that a partition takes in any version: index, offset and bound.
const PARTITION_BYTES_MIN: usize = size_of::<i32>() + size_of::<i64>() + size_of::<i32>();

const LOG_START_FROM: i16 = 5;
const SESSIONS_FROM: i16 = 7;
const LEADER_EPOCH_FROM: i16 = 9;
const RACK_FROM: i16 = 11;
const DIVERGENCE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;
const REPLICA_STATE_FROM: i16 = 15;
const NODE_ENDPOINTS_FROM: i16 = 16;
