//! What a request must be like whatever the group is: names, sizes, counts. Past these checks everything is bounded.

use super::assignor::Assignor;
use super::limits::{
    ASSIGNED_PARTITIONS_MAX, ASSIGNED_TOPICS_MAX, GroupsConfig, LEAVING_MAX, MEMBER_BYTES_MAX, MEMBERS_MAX,
    PROTOCOLS_MAX, REQUEST_PARTITIONS_MAX, SUBSCRIBED_TOPICS_MAX,
};
use super::names::{check_group, check_member_id, check_name, check_optional_name};
use super::types::{
    ConsumerHeartbeat, GroupError, GroupRequest, Heartbeat, JoinGroup, LeaveGroup, OffsetCommit, SyncGroup,
    TopicPartition,
};
use alloc::collections::BTreeSet;
use core::time::Duration;
use raftline_proto::limits::TOPIC_NAME_BYTES_MAX;

/// Checks a request by itself.
///
/// # Errors
/// The refusal.
pub(super) fn check(request: &GroupRequest, config: &GroupsConfig) -> Result<(), GroupError> {
    match request {
        GroupRequest::Join(join) => check_join(join, config),
        GroupRequest::Sync(sync) => check_sync(sync),
        GroupRequest::Heartbeat(heartbeat) => check_heartbeat(heartbeat),
        GroupRequest::Leave(leave) => check_leave(leave),
        GroupRequest::OffsetCommit(commit) => check_commit(commit),
        GroupRequest::OffsetFetch(fetch) => check_partitions(fetch.partitions.iter().flatten()),
        GroupRequest::OffsetDelete(delete) => check_partitions(delete.partitions.iter()),
        GroupRequest::DeleteGroup { .. }
        | GroupRequest::Describe { .. }
        | GroupRequest::List(_)
        | GroupRequest::ConsumerDescribe { .. } => Ok(()),
        GroupRequest::ConsumerHeartbeat(beat) => check_consumer(beat),
    }
}

fn check_join(join: &JoinGroup, config: &GroupsConfig) -> Result<(), GroupError> {
    check_group(&join.group)?;
    check_member_id(&join.member_id)?;
    check_optional_name(join.instance_id.as_ref())?;
    for name in [&join.client_id, &join.client_host, &join.protocol_type] {
        check_name(name)?;
    }
    let session = u64::try_from(join.session_timeout_ms).map(Duration::from_millis);
    let bounds = config.session_timeout_min..=config.session_timeout_max;
    if !session.is_ok_and(|session| bounds.contains(&session)) {
        return Err(GroupError::InvalidSessionTimeout);
    }
    if join.protocols.len() > PROTOCOLS_MAX {
        return Err(GroupError::InvalidRequest("a member offers more than 32 protocols"));
    }
    let mut bytes = 0;
    for protocol in &join.protocols {
        check_name(&protocol.name)?;
        bytes += protocol.name.len() + protocol.metadata.len();
    }
    if bytes > MEMBER_BYTES_MAX {
        return Err(GroupError::InvalidRequest("a member's subscription is longer than 1 MiB"));
    }
    Ok(())
}

fn check_sync(sync: &SyncGroup) -> Result<(), GroupError> {
    check_group(&sync.group)?;
    if sync.assignments.len() > MEMBERS_MAX {
        return Err(GroupError::InvalidRequest("an assignment names more members than a group may have"));
    }
    Ok(())
}

fn check_heartbeat(heartbeat: &Heartbeat) -> Result<(), GroupError> {
    check_group(&heartbeat.group)
}

fn check_leave(leave: &LeaveGroup) -> Result<(), GroupError> {
    check_group(&leave.group)?;
    if leave.members.len() > LEAVING_MAX {
        return Err(GroupError::InvalidRequest("more members leave than a group may have"));
    }
    Ok(())
}

fn check_commit(commit: &OffsetCommit) -> Result<(), GroupError> {
    // An empty group id is Kafka's oldest kind of group, for offsets alone.
    check_name(&commit.group).map_err(|_| GroupError::InvalidGroupId)?;
    check_partitions(commit.offsets.iter().map(|offset| &offset.topic_partition))
}

fn check_consumer(beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
    check_group(&beat.group).map_err(|_| GroupError::InvalidRequest("the group id is empty or too long"))?;
    check_member_id(&beat.member_id)?;
    for name in [&beat.instance_id, &beat.rack_id] {
        check_optional_name(name.as_ref())?;
    }
    for name in [&beat.client_id, &beat.client_host] {
        check_name(name)?;
    }
    check_subscription(beat)?;
    if beat.server_assignor.as_ref().is_some_and(|name| Assignor::find(name).is_none()) {
        return Err(GroupError::UnsupportedAssignor);
    }
    match beat.member_epoch {
        0 => check_consumer_join(beat),
        _ if beat.member_id.is_empty() => Err(GroupError::InvalidRequest("the member id is empty")),
        -2 if beat.instance_id.is_none() => {
            Err(GroupError::InvalidRequest("epoch -2 is for members with an instance id"))
        }
        epoch if epoch < -2 => Err(GroupError::InvalidRequest("the member epoch is less than -2")),
        _ => Ok(()),
    }
}

fn check_consumer_join(beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
    if beat.rebalance_timeout_ms < 0 {
        return Err(GroupError::InvalidRequest("who joins must say its rebalance timeout"));
    }
    if !beat.owned.as_ref().is_some_and(|owned| owned.values().all(BTreeSet::is_empty)) {
        return Err(GroupError::InvalidRequest("who joins must say that it owns nothing"));
    }
    if beat.subscribed_topics.is_none() && beat.subscribed_regex.is_none() {
        return Err(GroupError::InvalidRequest("who joins must say its topics, by names or an expression"));
    }
    Ok(())
}

fn check_subscription(beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
    let subscribed = beat.subscribed_topics.iter().flatten();
    let owned = beat.owned.iter().flatten();
    if subscribed.clone().count() > SUBSCRIBED_TOPICS_MAX {
        return Err(GroupError::InvalidRequest("a member names more than 2000 topics"));
    }
    if owned.clone().count() > ASSIGNED_TOPICS_MAX {
        return Err(GroupError::InvalidRequest("a member owns partitions of more than 12000 topics"));
    }
    if owned.clone().any(|(_, partitions)| partitions.len() > ASSIGNED_PARTITIONS_MAX) {
        return Err(GroupError::InvalidRequest("a member owns more partitions than a topic may have"));
    }
    let mut names = subscribed.chain(owned.map(|(name, _)| name));
    if names.any(|name| name.len() > TOPIC_NAME_BYTES_MAX) {
        return Err(GroupError::InvalidRequest("a topic's name is longer than 249 bytes"));
    }
    Ok(())
}

fn check_partitions<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> Result<(), GroupError> {
    let mut count = 0;
    for topic_partition in partitions {
        count += 1;
        if count > REQUEST_PARTITIONS_MAX {
            return Err(GroupError::InvalidRequest("more than 10000 partitions in one request"));
        }
        if topic_partition.topic.len() > TOPIC_NAME_BYTES_MAX {
            return Err(GroupError::InvalidRequest("a topic's name is longer than 249 bytes"));
        }
    }
    Ok(())
}
