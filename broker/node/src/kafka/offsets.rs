//! Where a partition begins and ends, what it held when, and where each leader's part of it ends: ListOffsets and
//! OffsetForLeaderEpoch.

use super::fetch::check_epoch;
use super::{Door, dispatch::OK, errors, metadata};
use crate::payload::OutReply;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use raftline_kafka::kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use raftline_kafka::kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use raftline_kafka::kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use raftline_kafka::kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use raftline_proto::ids::{Offset, Term};
use raftline_proto::metadata::PartitionRecord;
use raftline_proto::time::Timestamp;
use raftline_shard::types::{Event, FetchError, OffsetQuery, Reply};

/// Answers ListOffsets.
pub(super) async fn list(door: &Door, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let image = metadata::topic(door, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let record = image.as_ref().and_then(|image| {
                usize::try_from(wanted.partition_index).ok().and_then(|at| image.partitions.get(at))
            });
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            partitions.push(match one(door, version, record, &wanted).await {
                Ok(found) => answer
                    .with_error_code(OK)
                    .with_offset(found.offset.map_or(-1, wire))
                    .with_timestamp(found.timestamp.map_or(-1, Timestamp::get))
                    .with_leader_epoch(if version >= LEADER_EPOCH_FROM { found.epoch } else { -1 }),
                Err(error) => {
                    answer.with_error_code(known(version, error).code()).with_offset(-1).with_timestamp(-1)
                }
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Answers OffsetForLeaderEpoch: where the log of an earlier leader ends, so that a consumer that was served by it
/// notices records that are gone (KIP-320).
pub(super) async fn of_leader_epochs(
    door: &Door,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let image = metadata::topic(door, &topic.topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let record = image.as_ref().and_then(|image| {
                usize::try_from(wanted.partition).ok().and_then(|at| image.partitions.get(at))
            });
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            partitions.push(match end_of_epoch(door, record, &wanted).await {
                Ok(Some((epoch, offset))) => answer.with_leader_epoch(epoch).with_end_offset(wire(offset)),
                Ok(None) => answer.with_leader_epoch(-1).with_end_offset(-1),
                Err(error) => answer.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
            });
        }
        topics
            .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn end_of_epoch(
    door: &Door,
    record: Option<&PartitionRecord>,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(i32, Offset)>, ErrorCode> {
    let record = record.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !record.replicas.contains(&door.broker.identity.node()) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    check_epoch(door, record, Some(wanted.current_leader_epoch).filter(|epoch| *epoch >= 0))?;
    let Ok(term) = u64::try_from(wanted.leader_epoch) else { return Ok(None) };
    let (group, query) = (record.group, OffsetQuery::EndOfTerm(Term(term)));
    let reply = door.broker.shards.ask(|request| Event::ListOffset { request, group, query }).await;
    match reply.map_err(|_| ErrorCode::NotLeaderOrFollower)? {
        OutReply::EndOfTerm { found: Some((term, end)), .. } => Ok(Some((metadata::epoch(term), end))),
        // Older than anything here: the reader has to begin where the log does.
        OutReply::EndOfTerm { found: None, start } => Ok(Some((wanted.leader_epoch, start))),
        // Nobody can have been told of it: this leader is sure that it is the latest.
        OutReply::Shard(Reply::Offset(Err(FetchError::UnknownTerm { .. }))) => Ok(None),
        OutReply::Shard(Reply::Offset(Err(found)) | Reply::Fetched(Err(found))) => Err(errors::fetch(&found)),
        other => {
            tracing::error!(?other, "a query for the end of a term got an answer that was not expected");
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

fn wire(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// An error as clients of this version know it (KIP-207): one asks again after either.
fn known(version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::OffsetNotAvailable if version < NOT_AVAILABLE_FROM => ErrorCode::LeaderNotAvailable,
        error => error,
    }
}

/// An offset, where there is one.
struct Found {
    offset: Option<Offset>,
    timestamp: Option<Timestamp>,
    epoch: i32,
}

async fn one(
    door: &Door,
    version: i16,
    record: Option<&PartitionRecord>,
    wanted: &ListOffsetsPartition,
) -> Result<Found, ErrorCode> {
    if version < known_from(wanted.timestamp) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let record = record.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !record.replicas.contains(&door.broker.identity.node()) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    check_epoch(door, record, Some(wanted.current_leader_epoch).filter(|epoch| *epoch >= 0))?;
    let query = match wanted.timestamp {
        LATEST => OffsetQuery::Latest,
        // Everything there is lies on the brokers' own disks.
        EARLIEST | EARLIEST_LOCAL => OffsetQuery::Earliest,
        MAX_TIMESTAMP => OffsetQuery::MaxTimestamp,
        // Nothing lies elsewhere.
        LATEST_TIERED => return Ok(Found { offset: None, timestamp: None, epoch: -1 }),
        time if time >= 0 => OffsetQuery::AtOrAfter(Timestamp(time)),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    let group = record.group;
    let reply = door.broker.shards.ask(|request| Event::ListOffset { request, group, query }).await;
    let epoch = metadata::leader(door, record).epoch;
    match reply.map_err(|_| ErrorCode::NotLeaderOrFollower)? {
        OutReply::Shard(Reply::Offset(Ok(offset))) => {
            Ok(Found { offset: Some(offset), timestamp: None, epoch })
        }
        OutReply::FoundOffset { found: Some((offset, timestamp)), .. } => {
            Ok(Found { offset: Some(offset), timestamp: Some(timestamp), epoch })
        }
        OutReply::FoundOffset { found: None, .. } => Ok(Found { offset: None, timestamp: None, epoch: -1 }),
        OutReply::Shard(Reply::Offset(Err(found)) | Reply::Fetched(Err(found))) => Err(errors::fetch(&found)),
        other => {
            tracing::error!(?other, "a query for an offset got an answer that was not expected");
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

/// The first version that has that special time.
const fn known_from(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => 1,
    }
}

const LEADER_EPOCH_FROM: i16 = 4;

/// The first version of ListOffsets whose clients know OFFSET_NOT_AVAILABLE.
const NOT_AVAILABLE_FROM: i16 = 5;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
