//! Produce: appended in the order of arrival, answered when every partition has answered.

use super::connection::{Answer, Close, Later};
use super::dispatch::NO_TRANSACTIONS;
use super::{Door, errors, metadata, text};
use crate::handle::ReplySink;
use crate::intake;
use crate::limits;
use crate::payload::{OutReply, Payload};
use crate::stamp::stamp;
use bytes::Bytes;
use raftline_kafka::batch::{check_codec, error_code};
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_kafka::leader::Leader;
use raftline_kafka::produce::{
    Acks, ProduceAnswer, ProducePartition, ProducePartitionAnswer, ProduceRequest, ProduceTopicAnswer,
    RecordError,
};
use raftline_kafka::request::Header;
use raftline_proto::batch::{BatchError, BatchHeader};
use raftline_proto::ids::TopicId;
use raftline_proto::metadata::PartitionRecord;
use raftline_proto::time::Monotonic;
use raftline_shard::coordinator::configs::{TimestampType, durability, timestamp_type};
use raftline_shard::coordinator::internal::is_internal;
use raftline_shard::image::TopicImage;
use raftline_shard::types::{Durability, Event, ProduceError, Produced, Reply};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Hands every batch to its shard, in order; what is returned waits for the answers.
pub(super) async fn submit(door: &Arc<Door>, header: &Header, request: ProduceRequest) -> Later {
    let (version, correlation_id, acks) = (header.version, header.correlation_id, request.acks);
    let millis = u64::try_from(request.timeout_ms).unwrap_or(0);
    let wait =
        Duration::from_millis(millis).clamp(limits::KAFKA_PRODUCE_TIMEOUT_MIN, limits::PRODUCE_TIMEOUT_MAX);
    let order = Order {
        acks,
        transactional: request.transactional_id.is_some(),
        version,
        deadline: door.broker.clock.after(wait),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let image = find(door, version, &topic.name, TopicId(topic.id.as_u128()));
        let mut waiting = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            waiting.push(begin(door, &order, image.as_deref(), partition).await);
        }
        topics.push((topic.name, topic.id, waiting));
    }
    let door = Arc::clone(door);
    Box::pin(async move {
        let mut answer = ProduceAnswer::default();
        for (name, id, waiting) in topics {
            let mut partitions = Vec::with_capacity(waiting.len());
            for partition in waiting {
                partitions.push(partition.finish(&door).await);
            }
            answer.topics.push(ProduceTopicAnswer { name, id, partitions });
        }
        finish(&door, acks, version, correlation_id, answer)
    })
}

/// What holds for all batches of a request.
struct Order {
    acks: Acks,
    transactional: bool,
    version: i16,
    deadline: Monotonic,
}

/// A batch on its way, or its refusal.
enum Waiting {
    Decided(Box<ProducePartitionAnswer>),
    Asked { index: i32, record: PartitionRecord, times: TimestampType, reply: oneshot::Receiver<OutReply> },
}

async fn begin(
    door: &Door,
    order: &Order,
    topic: Option<&TopicImage>,
    partition: ProducePartition,
) -> Waiting {
    let index = partition.index;
    let refused = |error, why: String| {
        let message = (!why.is_empty()).then(|| text(why));
        Waiting::Decided(Box::new(ProducePartitionAnswer {
            message,
            ..ProducePartitionAnswer::of_error(index, error)
        }))
    };
    let Some(topic) = topic else { return refused(unknown(order.version), String::new()) };
    if is_internal(&topic.name) {
        let why = format!("{} is written by brokers alone", topic.name);
        return refused(ErrorCode::InvalidTopicException, why);
    }
    let record = usize::try_from(index).ok().and_then(|at| topic.partitions.get(at));
    let Some(record) = record else { return refused(ErrorCode::UnknownTopicOrPartition, String::new()) };
    if order.transactional {
        return refused(ErrorCode::InvalidRequest, NO_TRANSACTIONS.into());
    }
    let durability = match awaited(order.acks, &topic.configs) {
        Ok(durability) => durability,
        Err(why) => return refused(ErrorCode::InvalidRequiredAcks, why),
    };
    let bytes = partition.records.unwrap_or_default();
    let checked = match intake::validate(&topic.configs, door.broker.clock.now().wall, &bytes) {
        Ok(checked) => checked,
        Err(found) => {
            return Waiting::Decided(Box::new(ProducePartitionAnswer {
                message: Some(text(found.to_string())),
                record_errors: record_errors(&bytes, &found),
                ..ProducePartitionAnswer::of_error(index, error_code(&found))
            }));
        }
    };
    let codec = BatchHeader::decode(&bytes).and_then(|header| header.attributes.codec());
    match codec.map_or_else(|found| error_code(&found), |codec| check_codec(order.version, codec)) {
        ErrorCode::None => {}
        error => return refused(error, format!("Produce version {} has no such codec", order.version)),
    }
    if !record.replicas.contains(&door.broker.identity.node()) {
        return Waiting::Decided(Box::new(not_leader(door, index, record)));
    }
    let (sender, reply) = oneshot::channel();
    let (group, deadline) = (record.group, order.deadline);
    let (bytes, batch) = stamp(&topic.configs, &door.broker.clock, detached(bytes), checked);
    let payload = Payload::Batch(bytes);
    let event =
        |request| Event::Produce { request, group, in_term: None, batch, payload, durability, deadline };
    match door.broker.shards.request_when_room(ReplySink::One(sender), event).await {
        Ok(()) => {
            let times = timestamp_type(&topic.configs);
            Waiting::Asked { index, record: record.clone(), times, reply }
        }
        Err(_) => refused(ErrorCode::NotLeaderOrFollower, "the broker is stopping".into()),
    }
}

/// Which records are to blame.
fn record_errors(bytes: &Bytes, found: &BatchError) -> Vec<RecordError> {
    let BatchError::Record { reason, .. } = found else { return Vec::new() };
    let why = text(reason.to_string());
    let blamed = intake::blamed(bytes, found).into_iter();
    blamed.map(|at| RecordError { at: at.cast_signed(), message: Some(why.clone()) }).collect()
}

/// What a producer of a topic with these configs waits for.
fn awaited(acks: Acks, configs: &BTreeMap<String, String>) -> Result<Durability, String> {
    match acks {
        Acks::All => Ok(durability(configs)),
        Acks::Leader => Ok(Durability::Leader),
        Acks::None => Ok(Durability::None),
        Acks::Invalid(acks) => Err(format!("acks is {acks}: -1, 0 and 1 are taken")),
    }
}

/// A batch that is a small part of a large frame is copied, so that it does not keep all of it in memory.
fn detached(bytes: Bytes) -> Bytes {
    if bytes.len() <= limits::KAFKA_COPIED_BATCH_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes }
}

impl Waiting {
    async fn finish(self, door: &Door) -> ProducePartitionAnswer {
        let (index, record, times, reply) = match self {
            Self::Decided(answer) => return *answer,
            Self::Asked { index, record, times, reply } => (index, record, times, reply),
        };
        match reply.await {
            Ok(OutReply::Shard(Reply::Produced(Ok(produced)))) => appended(index, times, &produced),
            Ok(OutReply::Shard(Reply::Produced(Err(found)))) => {
                let answer = match found {
                    ProduceError::NotLeader { .. } | ProduceError::LeadershipLost { .. } => {
                        not_leader(door, index, &record)
                    }
                    _ => ProducePartitionAnswer::of_error(index, errors::produce(&found)),
                };
                ProducePartitionAnswer { message: Some(text(explained(&found))), ..answer }
            }
            // Only a broker that stops gives no answer; another will lead.
            Ok(_) | Err(_) => ProducePartitionAnswer::of_error(index, ErrorCode::NotLeaderOrFollower),
        }
    }
}

fn appended(index: i32, times: TimestampType, produced: &Produced) -> ProducePartitionAnswer {
    ProducePartitionAnswer {
        base_offset: Some(produced.base_offset),
        log_start_offset: Some(produced.start_offset),
        log_append_time: match times {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(produced.max_timestamp),
        },
        ..ProducePartitionAnswer::of_error(index, ErrorCode::None)
    }
}

fn not_leader(door: &Door, index: i32, record: &PartitionRecord) -> ProducePartitionAnswer {
    let current_leader = Some(metadata::leader(door, record)).filter(|leader| leader.id >= 0);
    ProducePartitionAnswer {
        current_leader,
        ..ProducePartitionAnswer::of_error(index, ErrorCode::NotLeaderOrFollower)
    }
}

fn explained(found: &ProduceError) -> String {
    match found {
        ProduceError::DiskFull { free_bytes, reserve_bytes } => format!(
            "the leader's disk has {free_bytes} bytes free and keeps {reserve_bytes} in reserve: make room"
        ),
        ProduceError::TooLarge { batch_bytes, bytes_max } => {
            format!("a batch of {batch_bytes} bytes is over the topic's max.message.bytes of {bytes_max}")
        }
        ProduceError::OutOfOrderSequence { expected, found } => {
            format!("expected sequence {expected} of this producer, got {found}")
        }
        ProduceError::ProducerFenced { current, found } => {
            format!("epoch {found} of this producer is over, {current} has begun")
        }
        ProduceError::TimedOut => "no majority answered in time".into(),
        ProduceError::Busy => "too much is waiting for this partition: nothing was appended".into(),
        ProduceError::LeadershipLost { .. } => {
            "leadership was lost before a majority answered: whether the batch is there is unknown".into()
        }
        ProduceError::UnknownGroup | ProduceError::NotLeader { .. } | ProduceError::Stopping => {
            "another broker leads this partition".into()
        }
    }
}

/// The frame, or nothing where the client wants none.
fn finish(
    door: &Door,
    acks: Acks,
    version: i16,
    correlation_id: i32,
    mut answer: ProduceAnswer,
) -> Result<Answer, Close> {
    let partitions = || answer.topics.iter().flat_map(|topic| &topic.partitions);
    if acks == Acks::None {
        // Nobody waits for an answer: a closed connection is how the client hears of a failure.
        return match partitions().find(|partition| partition.error != ErrorCode::None) {
            Some(failed) => Err(Close::Unacknowledged(failed.error.name().to_owned())),
            None => Ok(Vec::new()),
        };
    }
    let leaders: Vec<Leader> = partitions().filter_map(|partition| partition.current_leader).collect();
    if !leaders.is_empty() {
        let named = |id| leaders.iter().any(|leader| leader.id == id);
        answer.node_endpoints = metadata::endpoints(door).filter(|endpoint| named(endpoint.id)).collect();
    }
    Ok(vec![answer.encode(version, correlation_id)])
}

/// The topic that a request names, by id where the version has ids.
fn find(door: &Door, version: i16, name: &StrBytes, id: TopicId) -> Option<Arc<TopicImage>> {
    if version >= TOPIC_IDS_FROM {
        door.broker.view.image().topics.get(&id).cloned()
    } else {
        metadata::topic(door, name)
    }
}

const fn unknown(version: i16) -> ErrorCode {
    if version >= TOPIC_IDS_FROM { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition }
}

const TOPIC_IDS_FROM: i16 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_says_what_acks_all_waits_for_and_only_that() {
        for (word, durability) in [
            ("quorum", Durability::Quorum),
            ("memory", Durability::Memory),
            ("leader", Durability::Leader),
            ("none", Durability::None),
        ] {
            let configs = BTreeMap::from([("raftline.durability".to_owned(), word.to_owned())]);
            assert_eq!(awaited(Acks::All, &configs), Ok(durability));
            assert_eq!(awaited(Acks::Leader, &configs), Ok(Durability::Leader), "{word}");
            assert_eq!(awaited(Acks::None, &configs), Ok(Durability::None), "{word}");
            assert!(awaited(Acks::Invalid(2), &configs).is_err());
        }
        assert_eq!(awaited(Acks::All, &BTreeMap::new()), Ok(Durability::Quorum));
    }
}
