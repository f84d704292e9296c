//! DeleteRecords: the oldest records of partitions go, on every replica.

use super::{Door, dispatch::OK, errors, metadata};
use crate::limits;
use crate::payload::OutReply;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use raftline_kafka::kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use raftline_proto::ids::Offset;
use raftline_proto::metadata::PartitionRecord;
use raftline_proto::time::Monotonic;
use raftline_shard::coordinator::internal::is_internal;
use raftline_shard::image::TopicImage;
use raftline_shard::types::{DeleteUpTo, Event, Reply};
use std::time::Duration;

/// Answers DeleteRecords, once a majority of each partition's replicas knows.
pub(super) async fn delete(door: &Door, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let millis = u64::try_from(request.timeout_ms).unwrap_or(0);
    let wait =
        Duration::from_millis(millis).clamp(limits::KAFKA_PRODUCE_TIMEOUT_MIN, limits::PRODUCE_TIMEOUT_MAX);
    let deadline = door.broker.clock.after(wait);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let image = metadata::topic(door, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
            let place: (&str, i32) = (&topic.name, wanted.partition_index);
            partitions.push(match one(door, image.as_deref(), place, wanted.offset, deadline).await {
                Ok(low) => {
                    let low = i64::try_from(low.0).unwrap_or(i64::MAX);
                    result.with_error_code(OK).with_low_watermark(low)
                }
                Err(error) => result.with_error_code(error.code()).with_low_watermark(-1),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

/// The first offset that is left.
async fn one(
    door: &Door,
    topic: Option<&TopicImage>,
    (name, index): (&str, i32),
    offset: i64,
    deadline: Monotonic,
) -> Result<Offset, ErrorCode> {
    if is_internal(name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let at = usize::try_from(index).ok();
    let record: Option<&PartitionRecord> = topic.and_then(|topic| topic.partitions.get(at?));
    let record = record.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !record.replicas.contains(&door.broker.identity.node()) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    let up_to = match offset {
        ALL => DeleteUpTo::HighWatermark,
        offset => {
            let offset = u64::try_from(offset).map_err(|_| ErrorCode::OffsetOutOfRange)?;
            DeleteUpTo::Offset(Offset(offset))
        }
    };
    let group = record.group;
    let event = |request| Event::DeleteRecords { request, group, up_to, deadline };
    match door.broker.shards.ask(event).await.map_err(|_| ErrorCode::NotLeaderOrFollower)? {
        OutReply::Shard(Reply::RecordsDeleted(Ok(low))) => Ok(low),
        OutReply::Shard(Reply::RecordsDeleted(Err(found))) => Err(errors::deletion(&found)),
        other => {
            tracing::error!(?other, "a deletion of records got an answer that was not expected");
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

/// All that there is.
const ALL: i64 = -1;
