//! From the group coordinator's refusals to what a client gets.

use crate::api::errors::{busy, error, shown};
use raftline_proto::api::{Error, ErrorCode};
use raftline_proto::ids::NodeId;
use raftline_shard::consumer_groups::types::GroupError;

/// The coordinator's refusal of a request about this group.
pub(super) fn refusal(group: &str, found: &GroupError) -> Error {
    let group = shown(group);
    match found {
        GroupError::NotCoordinator => not_here(&group, None),
        GroupError::CoordinatorLoadInProgress => busy(),
        GroupError::CoordinatorNotAvailable => error(
            ErrorCode::TimedOut,
            format!(
                "group `{group}`: the change is not known to be written (it took too long, or the brokers have no room \
                 for it): ask again; see `raftline cluster health` if that goes on"
            ),
        ),
        GroupError::GroupIdNotFound => not_found(&group),
        GroupError::NonEmptyGroup => not_empty(&group),
        GroupError::GroupSubscribedToTopic => error(
            ErrorCode::GroupSubscribedToTopic,
            format!("a member of group `{group}` reads this topic: stop the group's consumers first"),
        ),
        GroupError::InconsistentGroupProtocol => other_protocol(&group),
        GroupError::UnknownMemberId | GroupError::IllegalGeneration | GroupError::MemberIdRequired { .. } => {
            error(ErrorCode::UnknownMember, format!("group `{group}` has no such member: join (again) first"))
        }
        GroupError::FencedMemberEpoch | GroupError::FencedInstanceId => error(
            ErrorCode::FencedMemberEpoch,
            format!("group `{group}` has put this member out: give up all partitions, then join again"),
        ),
        GroupError::StaleMemberEpoch | GroupError::RebalanceInProgress => error(
            ErrorCode::StaleMemberEpoch,
            format!(
                "group `{group}` has moved on since this member's last heartbeat: heartbeat, then try again"
            ),
        ),
        GroupError::GroupMaxSizeReached | GroupError::InvalidCommitOffsetSize => {
            error(ErrorCode::LimitExceeded, format!("group `{group}`: {}", found.message()))
        }
        GroupError::UnknownServerError
        | GroupError::OffsetMetadataTooLarge
        | GroupError::InvalidGroupId
        | GroupError::InvalidSessionTimeout
        | GroupError::InvalidRequest(_)
        | GroupError::UnreleasedInstanceId
        | GroupError::UnsupportedAssignor
        | GroupError::InvalidRegularExpression { .. } => {
            error(ErrorCode::InvalidRequest, format!("group `{group}`: {}", found.message()))
        }
    }
}

pub(super) fn not_found(group: &str) -> Error {
    error(
        ErrorCode::GroupNotFound,
        format!("there is no consumer group `{}`: `raftline group list` names those there are", shown(group)),
    )
}

pub(super) fn not_empty(group: &str) -> Error {
    let group = shown(group);
    error(
        ErrorCode::GroupNotEmpty,
        format!(
            "group `{group}` has members: stop its consumers first (`raftline group describe {group}` names them)"
        ),
    )
}

pub(super) fn other_protocol(group: &str) -> Error {
    error(
        ErrorCode::GroupTypeMismatch,
        format!(
            "group `{}` has members that speak Kafka's classic group protocol, or did a moment ago: stop them first, \
             or use another group",
            shown(group)
        ),
    )
}

pub(super) fn not_here(group: &str, coordinator: Option<NodeId>) -> Error {
    let group = shown(group);
    let message = match coordinator {
        Some(node) => format!("group `{group}` is coordinated by node {node}, not by this one: ask there"),
        None => format!(
            "group `{group}` has no coordinator at the moment (an election is under way, or no majority of its \
             replicas is up): try again in a moment"
        ),
    };
    let leader_node = coordinator.map(|node| node.0);
    Error { leader_node, ..error(ErrorCode::NotCoordinator, message) }
}
