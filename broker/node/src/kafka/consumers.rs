//! Consumer groups of the new protocol (KIP-848): the coordinator assigns. On the wire topics go by id, in the
//! coordinator by name.

use super::connection::Peer;
use super::groups::{client_id, owned, unexpected};
use super::{Door, metadata, text};
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, TopicName, consumer_group_describe_response as described,
    consumer_group_heartbeat_request as asked, consumer_group_heartbeat_response as told,
};
use raftline_kafka::request::Header;
use raftline_proto::ids::TopicId;
use raftline_shard::consumer_groups::record::Assignment;
use raftline_shard::consumer_groups::types::{
    ConsumerDescription, ConsumerHeartbeat, ConsumerHeartbeatAnswer, GroupError, GroupRequest, GroupResponse,
};

/// Answers ConsumerGroupHeartbeat, once what it says about the group is committed.
pub(super) async fn heartbeat(
    door: &Door,
    peer: &Peer,
    header: &Header,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let group = request.group_id.to_string();
    let names = |names: Vec<TopicName>| names.iter().map(|name| name.to_string()).collect();
    let asked = ConsumerHeartbeat {
        group: group.clone(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: owned(request.instance_id.as_ref()),
        rack_id: owned(request.rack_id.as_ref()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topics: request.subscribed_topic_names.map(names),
        subscribed_regex: owned(request.subscribed_topic_regex.as_ref()),
        server_assignor: owned(request.server_assignor.as_ref()),
        owned: request.topic_partitions.map(|topics| by_name(door, topics)),
        client_id: client_id(header),
        client_host: peer.host(),
        fresh_id: rand::random(),
    };
    let response = ConsumerGroupHeartbeatResponse::default();
    match door.groups.ask(&group, GroupRequest::ConsumerHeartbeat(asked)).await {
        Ok(GroupResponse::ConsumerHeartbeat(answer)) => accepted(door, response, answer),
        Ok(other) => response.with_error_code(unexpected(&other)),
        Err(error) => response.with_error_code(error.code()).with_error_message(Some(text(error.message()))),
    }
}

fn accepted(
    door: &Door,
    response: ConsumerGroupHeartbeatResponse,
    answer: ConsumerHeartbeatAnswer,
) -> ConsumerGroupHeartbeatResponse {
    let assignment = answer.assignment.map(|assignment| {
        let topics = by_id(door, &assignment).map(|(_, id, partitions)| {
            told::TopicPartitions::default().with_topic_id(metadata::uuid(id)).with_partitions(partitions)
        });
        told::Assignment::default().with_topic_partitions(topics.collect())
    });
    response
        .with_member_id(Some(text(answer.member_id)))
        .with_member_epoch(answer.member_epoch)
        .with_heartbeat_interval_ms(answer.heartbeat_interval_ms)
        .with_assignment(assignment)
}

/// What a member says that it owns. A topic that is gone is owned by nobody.
fn by_name(door: &Door, topics: Vec<asked::TopicPartitions>) -> Assignment {
    let image = door.broker.view.image();
    let mut assignment = Assignment::new();
    for topic in topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
        if let Some(known) = image.topics.get(&TopicId(topic.topic_id.as_u128())) {
            assignment.entry(known.name.clone()).or_default().extend(topic.partitions);
        }
    }
    assignment
}

/// An assignment as clients read it. A topic that this broker does not know (any more) is left out.
fn by_id(door: &Door, assignment: &Assignment) -> impl Iterator<Item = (String, TopicId, Vec<i32>)> {
    let image = door.broker.view.image();
    assignment.iter().filter_map(move |(name, partitions)| {
        let id = image.topic_ids.get(name.as_str()).copied()?;
        Some((name.clone(), id, partitions.iter().copied().collect()))
    })
}

/// Answers ConsumerGroupDescribe.
pub(super) async fn describe(
    door: &Door,
    version: i16,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let asked = GroupRequest::ConsumerDescribe { group: group.to_string() };
        let mut response = described::DescribedGroup::default().with_group_id(group.clone());
        if request.include_authorized_operations {
            response.authorized_operations = metadata::GROUP_OPERATIONS;
        }
        groups.push(match door.groups.ask(&group, asked).await {
            Ok(GroupResponse::ConsumerDescribed(found)) => described_group(door, version, response, found),
            Ok(other) => response.with_error_code(unexpected(&other)),
            Err(error) => {
                let code = match error {
                    GroupError::NotCoordinator => ErrorCode::NotCoordinator.code(),
                    ref other => other.code(),
                };
                response.with_error_code(code).with_error_message(Some(text(error.message())))
            }
        });
    }
    ConsumerGroupDescribeResponse::default().with_groups(groups)
}

fn described_group(
    door: &Door,
    version: i16,
    response: described::DescribedGroup,
    found: ConsumerDescription,
) -> described::DescribedGroup {
    let assignment = |assignment: &Assignment| {
        let topics = by_id(door, assignment).map(|(name, id, partitions)| {
            described::TopicPartitions::default()
                .with_topic_id(metadata::uuid(id))
                .with_topic_name(TopicName(text(name)))
                .with_partitions(partitions)
        });
        described::Assignment::default().with_topic_partitions(topics.collect())
    };
    let members = found.members.into_iter().map(|member| {
        let topics = member.subscribed_topics.into_iter().map(|name| TopicName(text(name)));
        let described = described::Member::default()
            .with_instance_id(member.instance_id.map(text))
            .with_rack_id(member.rack_id.map(text))
            .with_member_epoch(member.member_epoch)
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_subscribed_topic_names(topics.collect())
            .with_subscribed_topic_regex(member.subscribed_regex.map(text))
            .with_assignment(assignment(&member.assignment))
            .with_target_assignment(assignment(&member.target))
            .with_member_id(text(member.member_id));
        // Version 1 tells members of either protocol apart.
        let member_type = if member.is_classic { CLASSIC_MEMBER } else { MEMBER_OF_THIS_PROTOCOL };
        if version >= 1 { described.with_member_type(member_type) } else { described }
    });
    response
        .with_group_state(text(found.state))
        .with_group_epoch(found.group_epoch)
        .with_assignment_epoch(found.assignment_epoch)
        .with_assignor_name(text(found.assignor))
        .with_members(members.collect())
}

const MEMBER_OF_THIS_PROTOCOL: i8 = 1;
const CLASSIC_MEMBER: i8 = 0;
