//! What a request must be like whatever the group is: names, sizes, counts. Past these checks everything is bounded.

use super::limits::{
    GroupsConfig, LEAVING_MAX, MEMBER_BYTES_MAX, MEMBERS_MAX, PROTOCOLS_MAX, REQUEST_PARTITIONS_MAX,
};
use super::names::{check_group, check_member_id, check_name, check_optional_name};
use super::types::{
    GroupError, GroupRequest, Heartbeat, JoinGroup, LeaveGroup, OffsetCommit, SyncGroup, TopicPartition,
};
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
        | GroupRequest::ConsumerHeartbeat(_)
        | GroupRequest::ConsumerDescribe { .. } => Ok(()),
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
