//! Consumer groups: who coordinates them, and their members in the classic protocol.

use super::connection::Peer;
use super::{
    Door,
    dispatch::{NO_TRANSACTIONS, OK},
    metadata, text,
};
use crate::api::make_groups_topic;
use bytes::Bytes;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::describe_groups_response::{
    DescribedGroup, DescribedGroupMember,
};
use raftline_kafka::kafka_protocol::messages::find_coordinator_response::Coordinator;
use raftline_kafka::kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use raftline_kafka::kafka_protocol::messages::leave_group_response::MemberResponse;
use raftline_kafka::kafka_protocol::messages::list_groups_response::ListedGroup;
use raftline_kafka::kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, SyncGroupRequest, SyncGroupResponse, delete_groups_response::DeletableGroupResult,
};
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_kafka::leader::NodeEndpoint;
use raftline_kafka::request::Header;
use raftline_shard::consumer_groups::types::{
    ClassicDescription, ClassicMemberDescription, GroupError, GroupProtocol, GroupRequest, GroupResponse,
    GroupType, Heartbeat, JoinGroup, Joined, LeaveGroup, LeavingMember, ListGroups, MemberIdRule, SyncGroup,
};

/// Tells the operator which client wants what there is not: the client itself may say no more than a number.
pub(super) fn warn_of_transactions(door: &Door, peer: &Peer, header: &Header) {
    if let Some(left_out) = door.closes.admit(door.broker.clock.monotonic()) {
        let client = header.client_id.as_deref().unwrap_or_default();
        tracing::warn!(peer = ?peer.address, client, left_out, "{NO_TRANSACTIONS}");
    }
}

/// Answers FindCoordinator. The internal topic is made when the first one asks.
pub(super) async fn find(
    door: &Door,
    peer: &Peer,
    header: &Header,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let version = header.version;
    let keys = if version >= BATCHED_FROM { request.coordinator_keys } else { vec![request.key] };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = match request.key_type {
            GROUPS => coordinator(door, &key).await,
            // Not served yet. The code is final for every client, as that of InitProducerId, and says nothing of rights.
            TRANSACTIONS => {
                warn_of_transactions(door, peer, header);
                Err((ErrorCode::InvalidRequest, NO_TRANSACTIONS.to_owned()))
            }
            _ => Err((ErrorCode::InvalidRequest, "only groups have coordinators here".to_owned())),
        };
        coordinators.push((key, found));
    }
    if version >= BATCHED_FROM {
        let all = coordinators.into_iter().map(|(key, found)| match found {
            Ok(endpoint) => Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(endpoint.id))
                .with_host(endpoint.host)
                .with_port(endpoint.port),
            Err((error, why)) => Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(error.code())
                .with_error_message(Some(text(why))),
        });
        return FindCoordinatorResponse::default().with_coordinators(all.collect());
    }
    match coordinators.pop().map(|(_, found)| found) {
        Some(Ok(endpoint)) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(endpoint.id))
            .with_host(endpoint.host)
            .with_port(endpoint.port),
        Some(Err((error, why))) => FindCoordinatorResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(why)))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
        None => FindCoordinatorResponse::default().with_error_code(ErrorCode::InvalidRequest.code()),
    }
}

async fn coordinator(door: &Door, group: &str) -> Result<NodeEndpoint, (ErrorCode, String)> {
    if group.is_empty() {
        return Err((ErrorCode::InvalidGroupId, "the group id is empty".into()));
    }
    if door.groups.partition_of(group).is_none() {
        make_groups_topic(&door.broker).await;
    }
    let unavailable = || (ErrorCode::CoordinatorNotAvailable, "no coordinator at the moment".to_owned());
    let partition = door.groups.partition_of(group).ok_or_else(unavailable)?;
    let leader = metadata::leader(door, &partition).id;
    metadata::endpoints(door).find(|endpoint| endpoint.id == leader).ok_or_else(unavailable)
}

/// Answers JoinGroup, once the generation has all of its members.
pub(super) async fn join(
    door: &Door,
    peer: &Peer,
    header: &Header,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let version = header.version;
    let group = request.group_id.to_string();
    let member_id = request.member_id.clone();
    let protocols = request.protocols.iter().map(|protocol| GroupProtocol {
        name: protocol.name.to_string(),
        metadata: protocol.metadata.to_vec(),
    });
    let rebalance_timeout_ms = match version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    let asked = JoinGroup {
        group: group.clone(),
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        client_id: client_id(header),
        client_host: peer.host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        member_id_rule: if version >= 4 { MemberIdRule::Required } else { MemberIdRule::NotRequired },
        can_skip_assignment: version >= 9,
        fresh_id: rand::random(),
    };
    let answer = door.groups.ask(&group, GroupRequest::Join(asked)).await;
    let no_protocol = if version >= 7 { None } else { Some(StrBytes::new()) };
    let response = JoinGroupResponse::default().with_generation_id(-1).with_protocol_name(no_protocol);
    match answer {
        Ok(GroupResponse::Joined(joined)) => has_joined(response, version, joined),
        Ok(other) => response.with_error_code(unexpected(&other)).with_member_id(member_id),
        Err(GroupError::MemberIdRequired { member_id }) => {
            response.with_error_code(ErrorCode::MemberIdRequired.code()).with_member_id(text(member_id))
        }
        Err(error) => response.with_error_code(error.code()).with_member_id(member_id),
    }
}

fn has_joined(response: JoinGroupResponse, version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.filter(|_| version >= 5).map(text))
            .with_metadata(Bytes::from(member.metadata))
    });
    response
        .with_error_code(OK)
        .with_generation_id(joined.generation)
        .with_protocol_type((version >= 7).then(|| text(joined.protocol_type)))
        .with_protocol_name(Some(text(joined.protocol)))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(joined.member_id))
        .with_members(members.collect())
}

/// Answers SyncGroup, once the leader's assignment is committed.
pub(super) async fn sync(door: &Door, version: i16, request: SyncGroupRequest) -> SyncGroupResponse {
    let group = request.group_id.to_string();
    let assignments = request.assignments.into_iter();
    let asked = SyncGroup {
        group: group.clone(),
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol: owned(request.protocol_name.as_ref()),
        assignments: assignments.map(|one| (one.member_id.to_string(), one.assignment.to_vec())).collect(),
    };
    let response = SyncGroupResponse::default();
    match door.groups.ask(&group, GroupRequest::Sync(asked)).await {
        Ok(GroupResponse::Synced(synced)) => response
            .with_protocol_type((version >= 5).then(|| text(synced.protocol_type)))
            .with_protocol_name((version >= 5).then(|| text(synced.protocol)))
            .with_assignment(Bytes::from(synced.assignment)),
        Ok(other) => response.with_error_code(unexpected(&other)),
        Err(error) => response.with_error_code(error.code()),
    }
}

/// Answers Heartbeat.
pub(super) async fn heartbeat(door: &Door, request: HeartbeatRequest) -> HeartbeatResponse {
    let group = request.group_id.to_string();
    let asked = Heartbeat {
        group: group.clone(),
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let answer = door.groups.ask(&group, GroupRequest::Heartbeat(asked)).await;
    HeartbeatResponse::default().with_error_code(done(answer))
}

/// Answers LeaveGroup.
pub(super) async fn leave(door: &Door, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let group = request.group_id.to_string();
    let members = if version >= LEAVING_MANY_FROM {
        let members = request.members.into_iter().map(|member| LeavingMember {
            member_id: member.member_id.to_string(),
            instance_id: owned(member.group_instance_id.as_ref()),
        });
        members.collect()
    } else {
        vec![LeavingMember { member_id: request.member_id.to_string(), instance_id: None }]
    };
    let asked = LeaveGroup { group: group.clone(), members };
    let response = LeaveGroupResponse::default();
    match door.groups.ask(&group, GroupRequest::Leave(asked)).await {
        Ok(GroupResponse::Left(left)) if version >= LEAVING_MANY_FROM => {
            let members = left.into_iter().map(|member| {
                MemberResponse::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_error_code(member.error.map_or(OK, |error| error.code()))
            });
            response.with_members(members.collect())
        }
        Ok(GroupResponse::Left(left)) => {
            let error = left.first().and_then(|member| member.error.as_ref());
            response.with_error_code(error.map_or(OK, GroupError::code))
        }
        Ok(other) => response.with_error_code(unexpected(&other)),
        Err(error) => response.with_error_code(error.code()),
    }
}

/// Answers DescribeGroups.
pub(super) async fn describe(
    door: &Door,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let asked = GroupRequest::Describe { group: group.to_string() };
        let mut described = DescribedGroup::default().with_group_id(group.clone());
        if request.include_authorized_operations {
            described.authorized_operations = metadata::GROUP_OPERATIONS;
        }
        groups.push(match door.groups.ask(&group, asked).await {
            Ok(GroupResponse::Described(found)) => described_group(described, found),
            Ok(other) => described.with_error_code(unexpected(&other)),
            // Before version 6 a group that is not there is a dead one.
            Err(GroupError::GroupIdNotFound) if version < 6 => described.with_group_state(text("Dead")),
            Err(error) => {
                let described = described.with_error_code(error.code()).with_group_state(text("Dead"));
                if version >= 6 {
                    described.with_error_message(Some(text(error.message())))
                } else {
                    described
                }
            }
        });
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn described_group(described: DescribedGroup, found: ClassicDescription) -> DescribedGroup {
    let members = found.members.into_iter().map(|member: ClassicMemberDescription| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(Bytes::from(member.metadata))
            .with_member_assignment(Bytes::from(member.assignment))
    });
    described
        .with_group_state(text(found.state))
        .with_protocol_type(text(found.protocol_type))
        .with_protocol_data(text(found.protocol))
        .with_members(members.collect())
}

/// Answers ListGroups: those that this broker coordinates.
pub(super) async fn list(door: &Door, version: i16, request: ListGroupsRequest) -> ListGroupsResponse {
    let words = |words: Vec<StrBytes>| words.iter().map(ToString::to_string).collect();
    let asked = ListGroups { states: words(request.states_filter), types: words(request.types_filter) };
    let mut groups = Vec::new();
    for answer in door.groups.ask_all(&GroupRequest::List(asked)).await {
        match answer {
            Ok(GroupResponse::Listed(found)) => groups.extend(found),
            Ok(other) => return ListGroupsResponse::default().with_error_code(unexpected(&other)),
            // One that is not here any more is listed by its new coordinator.
            Err(GroupError::NotCoordinator) => {}
            Err(error) => return ListGroupsResponse::default().with_error_code(error.code()),
        }
    }
    groups.sort_by(|left, right| left.group.cmp(&right.group));
    let groups = groups.into_iter().map(|found| {
        let listed = ListedGroup::default()
            .with_group_id(GroupId(text(found.group)))
            .with_protocol_type(text(found.protocol_type));
        let listed = if version >= 4 { listed.with_group_state(text(found.state)) } else { listed };
        if version < 5 {
            return listed;
        }
        listed.with_group_type(text(match found.group_type {
            GroupType::Classic => "classic",
            GroupType::Consumer => "consumer",
        }))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

/// Answers DeleteGroups.
pub(super) async fn delete(door: &Door, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let asked = GroupRequest::DeleteGroup { group: group.to_string() };
        let error = done(door.groups.ask(&group, asked).await);
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(error));
    }
    DeleteGroupsResponse::default().with_results(results)
}

/// The code of an answer that says nothing more.
fn done(answer: Result<GroupResponse, GroupError>) -> i16 {
    match answer {
        Ok(GroupResponse::Done) => OK,
        Ok(other) => unexpected(&other),
        Err(error) => error.code(),
    }
}

/// An answer to another question: a bug of the coordinator, which the client can only try again.
pub(super) fn unexpected(found: &GroupResponse) -> i16 {
    tracing::error!(?found, "a group's coordinator gave an answer that was not expected");
    ErrorCode::CoordinatorNotAvailable.code()
}

pub(super) fn owned(text: Option<&StrBytes>) -> Option<String> {
    text.map(ToString::to_string)
}

pub(super) fn client_id(header: &Header) -> String {
    header.client_id.as_deref().unwrap_or_default().to_owned()
}

/// The kind of coordinator that groups have.
const GROUPS: i8 = 0;
/// The kind that transactions would have.
const TRANSACTIONS: i8 = 1;
const BATCHED_FROM: i16 = 4;
const LEAVING_MANY_FROM: i16 = 3;
