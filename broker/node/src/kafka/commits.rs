//! Offsets that groups commit: OffsetCommit, OffsetFetch, OffsetDelete.

use super::groups::{owned, unexpected};
use super::{Door, dispatch::OK, text};
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use raftline_kafka::kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use raftline_kafka::kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use raftline_kafka::kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use raftline_shard::consumer_groups::types::{
    CommitOffset, FetchedOffset, GroupError, GroupRequest, GroupResponse, OffsetCommit, OffsetDelete,
    OffsetFetch, TopicPartition,
};
use raftline_shard::image::MetadataImage;
use std::collections::VecDeque;
use std::sync::Arc;

/// Answers OffsetCommit, once the offsets are committed as any record.
pub(super) async fn commit(door: &Door, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let group = request.group_id.to_string();
    let known = Known::new(door);
    let offsets = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.filter(|partition| known.has(&topic.name, partition.partition_index));
        partitions.map(|partition| CommitOffset {
            topic_partition: place(&topic.name, partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: owned(partition.committed_metadata.as_ref()).unwrap_or_default(),
        })
    });
    let asked = OffsetCommit {
        group: group.clone(),
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        offsets: offsets.collect(),
    };
    let mut codes = codes(door.groups.ask(&group, GroupRequest::OffsetCommit(asked)).await);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let is_known = known.has(&topic.name, partition.partition_index);
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(if is_known { codes.next() } else { UNKNOWN })
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetCommitResponse::default().with_topics(topics)
}

/// Answers OffsetDelete.
pub(super) async fn delete(door: &Door, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = request.group_id.to_string();
    let known = Known::new(door);
    let partitions = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        partitions.filter(|index| known.has(&topic.name, *index)).map(|index| place(&topic.name, index))
    });
    let asked = OffsetDelete { group: group.clone(), partitions: partitions.collect() };
    let answer = door.groups.ask(&group, GroupRequest::OffsetDelete(asked)).await;
    if let Err(error) = &answer {
        return OffsetDeleteResponse::default().with_error_code(error.code());
    }
    let mut codes = codes(answer);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let is_known = known.has(&topic.name, partition.partition_index);
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(if is_known { codes.next() } else { UNKNOWN })
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}

/// The partitions that there are, as one request sees them.
struct Known {
    image: Arc<MetadataImage>,
}

impl Known {
    fn new(door: &Door) -> Self {
        Self { image: door.broker.view.image() }
    }

    fn has(&self, topic: &TopicName, partition: i32) -> bool {
        let topic = self.image.topic_ids.get(&***topic).and_then(|id| self.image.topics.get(id));
        let count = topic.map_or(0, |topic| topic.partitions.len());
        usize::try_from(partition).is_ok_and(|at| at < count)
    }
}

fn place(topic: &TopicName, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_string(), partition }
}

/// A code for each partition of a request, in its order.
struct Codes {
    each: VecDeque<i16>,
    /// Where the request was refused as a whole.
    all: i16,
}

impl Codes {
    fn next(&mut self) -> i16 {
        self.each.pop_front().unwrap_or(self.all)
    }
}

fn codes(answer: Result<GroupResponse, GroupError>) -> Codes {
    match answer {
        Ok(GroupResponse::Partitions(outcomes)) => {
            let each = outcomes.into_iter().map(|outcome| outcome.error.map_or(OK, |error| error.code()));
            Codes { each: each.collect(), all: OK }
        }
        Ok(other) => Codes { each: VecDeque::new(), all: unexpected(&other) },
        Err(error) => Codes { each: VecDeque::new(), all: error.code() },
    }
}

/// Answers OffsetFetch: of one group, or from version 8 on of several.
pub(super) async fn fetch(door: &Door, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if version >= GROUPS_FROM {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let partitions = group.topics.map(|topics| {
                let topics = topics.into_iter().map(|topic| (topic.name, topic.partition_indexes));
                topics.collect::<Vec<_>>()
            });
            let asked = OffsetFetch {
                group: group.group_id.to_string(),
                member_id: owned(group.member_id.as_ref()),
                member_epoch: group.member_epoch,
                partitions: partitions.map(|topics| places(&topics)),
            };
            let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            groups.push(match found(door, asked).await {
                Ok(offsets) => response.with_topics(by_topic(offsets, |name, partitions| {
                    let partitions = partitions.into_iter().map(|found| {
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(found.topic_partition.partition)
                            .with_committed_offset(found.offset)
                            .with_committed_leader_epoch(found.leader_epoch)
                            .with_metadata(Some(text(found.metadata)))
                    });
                    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
                })),
                Err(error) => response.with_error_code(error),
            });
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let topics = request.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect::<Vec<_>>()
    });
    let asked = OffsetFetch {
        group: request.group_id.to_string(),
        member_id: None,
        member_epoch: -1,
        partitions: topics.as_ref().map(|topics| places(topics)),
    };
    let response = OffsetFetchResponse::default();
    match found(door, asked).await {
        Ok(offsets) => response.with_topics(by_topic(offsets, |name, partitions| {
            let partitions = partitions.into_iter().map(|found| {
                let epoch = if version >= EPOCHS_FROM { found.leader_epoch } else { -1 };
                OffsetFetchResponsePartition::default()
                    .with_partition_index(found.topic_partition.partition)
                    .with_committed_offset(found.offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(Some(text(found.metadata)))
            });
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        })),
        Err(error) if version >= ERROR_FROM => response.with_error_code(error),
        // Version 1 has a place for errors with each partition only.
        Err(error) => {
            let refused = topics.unwrap_or_default().into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|partition| {
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(partition)
                        .with_committed_offset(-1)
                        .with_metadata(Some(text("")))
                        .with_error_code(error)
                });
                OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
            });
            response.with_topics(refused.collect())
        }
    }
}

fn places(topics: &[(TopicName, Vec<i32>)]) -> Vec<TopicPartition> {
    let all = topics
        .iter()
        .flat_map(|(name, partitions)| partitions.iter().map(|partition| place(name, *partition)));
    all.collect()
}

async fn found(door: &Door, asked: OffsetFetch) -> Result<Vec<FetchedOffset>, i16> {
    let group = asked.group.clone();
    match door.groups.ask(&group, GroupRequest::OffsetFetch(asked)).await {
        Ok(GroupResponse::Offsets(offsets)) => Ok(offsets),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(error.code()),
    }
}

/// Puts the partitions of a topic, which stand side by side, together.
fn by_topic<T>(offsets: Vec<FetchedOffset>, make: impl Fn(TopicName, Vec<FetchedOffset>) -> T) -> Vec<T> {
    let mut topics: Vec<(String, Vec<FetchedOffset>)> = Vec::new();
    for offset in offsets {
        match topics.last_mut() {
            Some((topic, partitions)) if *topic == offset.topic_partition.topic => partitions.push(offset),
            _ => topics.push((offset.topic_partition.topic.clone(), vec![offset])),
        }
    }
    topics.into_iter().map(|(topic, partitions)| make(TopicName(text(topic)), partitions)).collect()
}

/// The code of a partition that there is not.
const UNKNOWN: i16 = ErrorCode::UnknownTopicOrPartition.code();
const ERROR_FROM: i16 = 2;
const EPOCHS_FROM: i16 = 5;
const GROUPS_FROM: i16 = 8;
