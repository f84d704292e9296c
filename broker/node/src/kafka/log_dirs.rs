//! DescribeLogDirs: what this broker's replicas take on its disk. There is one directory.

use super::{Door, dispatch::OK, metadata, text};
use crate::payload::OutReply;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use raftline_kafka::kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use raftline_proto::ids::GroupId;
use raftline_shard::image::TopicImage;
use raftline_shard::types::Event;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Answers DescribeLogDirs. A topic or partition without a replica here is left out, as in Kafka.
pub(super) async fn describe(door: &Door, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let mut topics = Vec::new();
    for (topic, indexes) in asked(door, request) {
        let mut partitions = Vec::new();
        for index in indexes {
            let at = usize::try_from(index).ok();
            let Some(record) = at.and_then(|at| topic.partitions.get(at)) else { continue };
            if record.replicas.contains(&door.broker.identity.node())
                && let Some(partition) = describe_partition(door, record.group, index).await
            {
                partitions.push(partition);
            }
        }
        if !partitions.is_empty() {
            let name = TopicName(text(topic.name.as_str()));
            topics.push(DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions));
        }
    }
    let directory = door.broker.identity.directory();
    let result = DescribeLogDirsResult::default()
        .with_error_code(OK)
        .with_log_dir(text(directory.to_string_lossy()))
        .with_topics(topics);
    let result = match rustix::fs::statvfs(directory) {
        Ok(facts) => result
            .with_total_bytes(wire(facts.f_blocks.saturating_mul(facts.f_frsize)))
            .with_usable_bytes(wire(facts.f_bavail.saturating_mul(facts.f_frsize))),
        Err(_) => result.with_error_code(ErrorCode::KafkaStorageError.code()),
    };
    DescribeLogDirsResponse::default().with_error_code(OK).with_results(vec![result])
}

/// The topics and partitions that are asked for, each once; null are all.
fn asked(door: &Door, request: DescribeLogDirsRequest) -> Vec<(Arc<TopicImage>, BTreeSet<i32>)> {
    match request.topics {
        Some(topics) => {
            let mut asked: Vec<(Arc<TopicImage>, BTreeSet<i32>)> = Vec::new();
            for wanted in topics {
                let Some(topic) = metadata::topic(door, &wanted.topic) else { continue };
                match asked.iter_mut().find(|(known, _)| known.id == topic.id) {
                    Some((_, indexes)) => indexes.extend(wanted.partitions),
                    None => asked.push((topic, wanted.partitions.into_iter().collect())),
                }
            }
            asked
        }
        None => {
            let mut all: Vec<_> = door.broker.view.image().topics.values().cloned().collect();
            all.sort_by(|left, right| left.name.cmp(&right.name));
            let indexes = |topic: &TopicImage| (0..).take(topic.partitions.len()).collect();
            all.into_iter().map(|topic| (Arc::clone(&topic), indexes(&topic))).collect()
        }
    }
}

/// `None` for a replica that is not open.
async fn describe_partition(door: &Door, group: GroupId, index: i32) -> Option<DescribeLogDirsPartition> {
    let reply = door.broker.shards.ask(|request| Event::Describe { request, group }).await.ok()?;
    let OutReply::Described { description, log_bytes } = reply else { return None };
    // As in Kafka: how far the replica is behind what it knows to be committed.
    let lag = description.high_watermark.0.saturating_sub(description.end_offset.0);
    let partition = DescribeLogDirsPartition::default()
        .with_partition_index(index)
        .with_partition_size(wire(log_bytes))
        .with_offset_lag(wire(lag));
    Some(partition)
}

fn wire(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
