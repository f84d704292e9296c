//! Each request as the group coordinator takes it, and its answer.

use super::Grouped;
use super::listing::info;
use super::refusals::{not_empty, not_found, other_protocol, refusal};
use crate::api::{Broker, errors};
use raftline_proto::api::broker_client::BrokerClient;
use raftline_proto::api::{
    AdminReply, CommitOffsetsReply, CommitOffsetsRequest, CommittedOffset, ConsumerGroupHeartbeatReply,
    ConsumerGroupHeartbeatRequest, ConsumerGroupMember, DeleteConsumerGroupRequest, DeleteOffsetsReply,
    DeleteOffsetsRequest, DescribeConsumerGroupReply, DescribeConsumerGroupRequest, Error, ErrorCode,
    FetchOffsetsReply, FetchOffsetsRequest, PartitionFailure, TopicPartitions,
};
use raftline_proto::cursor::Reader;
use raftline_shard::consumer_groups::record::Assignment;
use raftline_shard::consumer_groups::types::{
    ClassicDescription, ClassicMemberDescription, CommitOffset, ConsumerDescription, ConsumerHeartbeat,
    ConsumerMemberDescription, FetchedOffset, GroupError, GroupListing, GroupRequest, GroupResponse,
    GroupType, OffsetCommit, OffsetDelete, OffsetFetch, PartitionOutcome, TopicPartition,
};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// What is the same for all: the reply has an error, and the client has a call.
macro_rules! grouped {
    ($request:ty, $reply:ident, $call:ident, $before_any_group:expr) => {
        impl Grouped for $request {
            type Reply = $reply;

            fn group(&self) -> &str {
                &self.group
            }

            async fn ask(self, broker: &Broker, host: String) -> Result<$reply, Error> {
                $call(broker, self, host).await
            }

            #[allow(clippy::needless_update, reason = "some replies have nothing but an error")]
            fn refused(error: Error) -> $reply {
                $reply { error: Some(error), ..$reply::default() }
            }

            fn error(reply: &$reply) -> Option<&Error> {
                reply.error.as_ref()
            }

            fn before_any_group(&self) -> Option<$reply> {
                let error: Option<fn(&str) -> Error> = $before_any_group;
                error.map(|error| Self::refused(error(&self.group)))
            }

            async fn pass_on(
                mut client: BrokerClient<Channel>,
                request: Request<Self>,
            ) -> Result<Response<$reply>, Status> {
                client.$call(request).await
            }
        }
    };
}

grouped!(DescribeConsumerGroupRequest, DescribeConsumerGroupReply, describe_consumer_group, Some(not_found));
grouped!(ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatReply, consumer_group_heartbeat, None);
grouped!(CommitOffsetsRequest, CommitOffsetsReply, commit_offsets, None);
// "None is committed" has to be certain: a broker that has not heard of the topic yet would say it too soon.
grouped!(FetchOffsetsRequest, FetchOffsetsReply, fetch_offsets, None);
grouped!(DeleteOffsetsRequest, DeleteOffsetsReply, delete_offsets, Some(not_found));
grouped!(DeleteConsumerGroupRequest, AdminReply, delete_consumer_group, Some(not_found));

async fn describe_consumer_group(
    broker: &Broker,
    request: DescribeConsumerGroupRequest,
    _host: String,
) -> Result<DescribeConsumerGroupReply, Error> {
    let group = request.group;
    let asked = GroupRequest::ConsumerDescribe { group: group.clone() };
    match broker.groups.ask(&group, asked).await {
        Ok(GroupResponse::ConsumerDescribed(found)) => Ok(consumer(broker, group, found)),
        Err(GroupError::GroupIdNotFound) => {
            let asked = GroupRequest::Describe { group: group.clone() };
            match broker.groups.ask(&group, asked).await {
                Ok(GroupResponse::Described(found)) => Ok(classic(broker, group, found)),
                other => Err(failed(&group, other)),
            }
        }
        other => Err(failed(&group, other)),
    }
}

fn consumer(broker: &Broker, group: String, found: ConsumerDescription) -> DescribeConsumerGroupReply {
    let listing = GroupListing {
        group,
        protocol_type: "consumer".to_owned(),
        state: found.state,
        group_type: GroupType::Consumer,
    };
    let member = |member: ConsumerMemberDescription| ConsumerGroupMember {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        member_epoch: member.member_epoch,
        subscribed_topics: member.subscribed_topics,
        subscribed_regex: member.subscribed_regex,
        assignment: told(&member.assignment),
        target: told(&member.target),
    };
    DescribeConsumerGroupReply {
        group: Some(info(listing, broker.identity.node())),
        assignor: found.assignor.to_owned(),
        group_epoch: found.group_epoch,
        members: found.members.into_iter().map(member).collect(),
        error: None,
    }
}

fn classic(broker: &Broker, group: String, found: ClassicDescription) -> DescribeConsumerGroupReply {
    let member = |member: ClassicMemberDescription| ConsumerGroupMember {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        // Of other kinds of groups (Connect's) it says something else, or nothing.
        assignment: assignment_of(&member.assignment).unwrap_or_default(),
        ..ConsumerGroupMember::default()
    };
    let members = found.members.into_iter().map(member).collect();
    let listing = GroupListing {
        group,
        protocol_type: found.protocol_type,
        state: found.state,
        group_type: GroupType::Classic,
    };
    DescribeConsumerGroupReply {
        group: Some(info(listing, broker.identity.node())),
        assignor: found.protocol,
        group_epoch: 0,
        members,
        error: None,
    }
}

async fn consumer_group_heartbeat(
    broker: &Broker,
    request: ConsumerGroupHeartbeatRequest,
    host: String,
) -> Result<ConsumerGroupHeartbeatReply, Error> {
    let group = request.group;
    if request.member_id.is_empty() || request.rebalance_timeout_ms == 0 {
        let text = "a heartbeat needs the member's id and a rebalance timeout of at least 1 ms: set both";
        return Err(errors::error(ErrorCode::InvalidRequest, text));
    }
    let joins = request.member_epoch == 0;
    let asked = ConsumerHeartbeat {
        group: group.clone(),
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: i32::try_from(request.rebalance_timeout_ms).unwrap_or(i32::MAX),
        subscribed_topics: Some(request.subscribed_topics),
        subscribed_regex: None,
        server_assignor: Some(request.assignor).filter(|assignor| !assignor.is_empty()),
        owned: Some(taken(&request.owned)?),
        client_id: request.client_id,
        client_host: host,
        fresh_id: rand::random(),
    };
    let interval = broker.groups.config().consumer_heartbeat_interval;
    match broker.groups.ask(&group, GroupRequest::ConsumerHeartbeat(asked)).await {
        Ok(GroupResponse::ConsumerHeartbeat(answer)) => Ok(ConsumerGroupHeartbeatReply {
            member_epoch: answer.member_epoch,
            heartbeat_interval_ms: millis(interval),
            session_timeout_ms: millis(broker.groups.config().consumer_session_timeout),
            assignment: told(&answer.assignment.unwrap_or_default()),
            error: None,
        }),
        Err(GroupError::GroupIdNotFound) if joins => Err(other_protocol(&group)),
        Err(GroupError::GroupIdNotFound) => Err(refusal(&group, &GroupError::UnknownMemberId)),
        other => Err(failed(&group, other)),
    }
}

async fn commit_offsets(
    broker: &Broker,
    request: CommitOffsetsRequest,
    _host: String,
) -> Result<CommitOffsetsReply, Error> {
    let group = request.group;
    let from_outside = request.member_id.is_empty();
    let mut offsets = Vec::with_capacity(request.offsets.len());
    for asked in request.offsets {
        let offset = asked.offset.and_then(|offset| i64::try_from(offset).ok()).ok_or_else(|| {
            let text = format!("the offset to commit for topic `{}` is missing", errors::shown(&asked.topic));
            errors::error(ErrorCode::InvalidRequest, text)
        })?;
        offsets.push(CommitOffset {
            topic_partition: place(asked.topic, asked.partition)?,
            offset,
            leader_epoch: UNKNOWN_EPOCH,
            metadata: asked.metadata,
        });
    }
    let commit = OffsetCommit {
        group: group.clone(),
        member_id: request.member_id,
        instance_id: None,
        generation: if from_outside { NOT_A_MEMBER } else { request.member_epoch },
        offsets,
    };
    match broker.groups.ask(&group, GroupRequest::OffsetCommit(commit)).await {
        Ok(GroupResponse::Partitions(outcomes)) => {
            Ok(CommitOffsetsReply { failures: failures(&group, outcomes), error: None })
        }
        Err(GroupError::UnknownMemberId) if from_outside => Err(not_empty(&group)),
        other => Err(failed(&group, other)),
    }
}

async fn fetch_offsets(
    broker: &Broker,
    request: FetchOffsetsRequest,
    _host: String,
) -> Result<FetchOffsetsReply, Error> {
    let group = request.group;
    let partitions = if request.partitions.is_empty() { None } else { Some(each(request.partitions)?) };
    let fetch = OffsetFetch { group: group.clone(), member_id: None, member_epoch: NOT_A_MEMBER, partitions };
    match broker.groups.ask(&group, GroupRequest::OffsetFetch(fetch)).await {
        Ok(GroupResponse::Offsets(offsets)) => {
            let offset = |found: FetchedOffset| CommittedOffset {
                partition: number(found.topic_partition.partition),
                topic: found.topic_partition.topic,
                offset: u64::try_from(found.offset).ok(),
                metadata: found.metadata,
            };
            Ok(FetchOffsetsReply { offsets: offsets.into_iter().map(offset).collect(), error: None })
        }
        other => Err(failed(&group, other)),
    }
}

async fn delete_offsets(
    broker: &Broker,
    request: DeleteOffsetsRequest,
    _host: String,
) -> Result<DeleteOffsetsReply, Error> {
    let group = request.group;
    let delete = OffsetDelete { group: group.clone(), partitions: each(request.partitions)? };
    match broker.groups.ask(&group, GroupRequest::OffsetDelete(delete)).await {
        Ok(GroupResponse::Partitions(outcomes)) => {
            Ok(DeleteOffsetsReply { failures: failures(&group, outcomes), error: None })
        }
        other => Err(failed(&group, other)),
    }
}

async fn delete_consumer_group(
    broker: &Broker,
    request: DeleteConsumerGroupRequest,
    _host: String,
) -> Result<AdminReply, Error> {
    let group = request.group;
    match broker.groups.ask(&group, GroupRequest::DeleteGroup { group: group.clone() }).await {
        Ok(GroupResponse::Done) => Ok(AdminReply { error: None }),
        other => Err(failed(&group, other)),
    }
}

/// What is left when the answer is not the one that the question has.
fn failed(group: &str, answer: Result<GroupResponse, GroupError>) -> Error {
    match answer {
        Ok(other) => errors::unexpected(&other),
        Err(error) => refusal(group, &error),
    }
}

fn failures(group: &str, outcomes: Vec<PartitionOutcome>) -> Vec<PartitionFailure> {
    let failed = outcomes.into_iter().filter_map(|outcome| {
        let error = outcome.error?;
        Some(PartitionFailure {
            partition: number(outcome.topic_partition.partition),
            topic: outcome.topic_partition.topic,
            error: Some(refusal(group, &error)),
        })
    });
    failed.collect()
}

fn each(topics: Vec<TopicPartitions>) -> Result<Vec<TopicPartition>, Error> {
    let mut each = Vec::new();
    for topic in topics {
        for partition in topic.partitions {
            each.push(place(topic.topic.clone(), partition)?);
        }
    }
    Ok(each)
}

fn place(topic: String, partition: u32) -> Result<TopicPartition, Error> {
    match i32::try_from(partition) {
        Ok(partition) => Ok(TopicPartition { topic, partition }),
        Err(_) => {
            let text = format!("topic `{}` has no partition {partition}", errors::shown(&topic));
            Err(errors::error(ErrorCode::InvalidRequest, text))
        }
    }
}

fn taken(topics: &[TopicPartitions]) -> Result<Assignment, Error> {
    let mut assignment = Assignment::new();
    for topic in topics {
        for partition in &topic.partitions {
            let place = place(topic.topic.clone(), *partition)?;
            assignment.entry(place.topic).or_default().insert(place.partition);
        }
    }
    Ok(assignment)
}

fn told(assignment: &Assignment) -> Vec<TopicPartitions> {
    let topics = assignment.iter().map(|(topic, partitions)| TopicPartitions {
        topic: topic.clone(),
        partitions: partitions.iter().map(|partition| number(*partition)).collect(),
    });
    topics.collect()
}

/// Kafka's `ConsumerProtocolAssignment`, big-endian: version `i16`, then an array of topics with arrays of `i32`.
/// `None` if it is none.
fn assignment_of(bytes: &[u8]) -> Option<Vec<TopicPartitions>> {
    let mut reader = Reader::new(bytes);
    let version = i16::from_be_bytes(reader.array().ok()?);
    let count = i32::from_be_bytes(reader.array().ok()?);
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = Vec::new();
    // Ends at the first item that is not there, whatever the counts claim.
    for _ in 0..count {
        let size = usize::try_from(i16::from_be_bytes(reader.array().ok()?)).ok()?;
        let topic = std::str::from_utf8(reader.bytes(size).ok()?).ok()?.to_owned();
        let mut partitions = Vec::new();
        for _ in 0..i32::from_be_bytes(reader.array().ok()?) {
            partitions.push(u32::try_from(i32::from_be_bytes(reader.array().ok()?)).ok()?);
        }
        topics.push(TopicPartitions { topic, partitions });
    }
    Some(topics)
}

/// A partition's number: Kafka's protocol has it signed, though it never is negative.
fn number(partition: i32) -> u32 {
    u32::try_from(partition).unwrap_or(0)
}

fn millis(span: std::time::Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

const NOT_A_MEMBER: i32 = -1;
const UNKNOWN_EPOCH: i32 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_assignments_are_read_and_anything_else_is_not() {
        let bytes = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 5, 255, 255, 255, 255];
        let expected = vec![TopicPartitions { topic: "t".to_owned(), partitions: vec![3, 5] }];
        assert_eq!(assignment_of(&bytes), Some(expected));
        for cut in 0..21 {
            assert_eq!(assignment_of(&bytes[..cut]), None, "cut {cut}");
        }
        assert_eq!(assignment_of(&[0, 0, 127, 255, 255, 255]), None);
        assert_eq!(assignment_of(&[255, 255, 0, 0, 0, 0]), None);
    }
}
