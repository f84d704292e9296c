//! This broker's replicas in detail, and handing a leadership over.

use super::admin::PASSED_ON;
use super::errors::{self, Place};
use super::{Broker, forward::Seat};
use crate::limits;
use crate::payload::OutReply;
use crate::view::SLOW_SYNC_KEPT;
use raftline_proto::api::broker_client::BrokerClient;
use raftline_proto::api::{
    AdminReply, AlarmStatus, Condition, Error, ErrorCode, FollowerStatus, NodeStatusReply, NodeStatusRequest,
    PeerStatus, ReplicaStatus, TransferRequest,
};
use raftline_proto::ids::{GroupId, NodeId};
use raftline_raft::types::Role;
use raftline_shard::image::MetadataImage;
use raftline_shard::pulse;
use raftline_shard::types::{Event, GroupDescription, Reply};
use std::collections::BTreeMap;
use tonic::Request;
use tonic::metadata::MetadataValue;

/// Describes this broker and its replicas: of the groups asked for, or of all.
pub(super) async fn node_status(broker: &Broker, request: NodeStatusRequest) -> NodeStatusReply {
    let image = broker.view.image();
    let own = broker.identity.node();
    let names = names(&image, own);
    let groups: Vec<GroupId> = if request.groups.is_empty() {
        names.keys().copied().collect()
    } else {
        request.groups.into_iter().map(GroupId).filter(|group| names.contains_key(group)).collect()
    };
    let mut replicas = Vec::new();
    for group in groups.into_iter().take(limits::STATUS_GROUPS_MAX) {
        let Some(name) = names.get(&group) else { continue };
        replicas.push(replica(broker, group, name).await);
    }
    let alive = broker.view.alive();
    let peers = broker.peers.states().into_iter().map(|(node, (address, state))| PeerStatus {
        node: node.0,
        address,
        connected: state.connected,
        alive: alive.contains(&node),
        last_error: state.last_error,
        condition: Some(condition(&broker.view.condition(node))),
    });
    let now = broker.clock.monotonic();
    let alarms = broker.view.alarms();
    let (descriptors_open, descriptors_max) = descriptors();
    let slow_sync = broker.view.slow_sync(now, SLOW_SYNC_KEPT).unwrap_or_default();
    let free = rustix::fs::statvfs(broker.identity.directory());
    NodeStatusReply {
        node: own.0,
        incarnation: broker.identity.incarnation().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: now.0 / 1000,
        disk_free_bytes: free.map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize)),
        disk_reserve_bytes: broker.reserve_bytes,
        replicas,
        peers: peers.collect(),
        condition: Some(condition(&broker.view.condition(own))),
        alarm_count: alarms.count,
        alarms: alarms.last.into_iter().map(|(group, text)| alarm(&names, group, text)).collect(),
        descriptors_open,
        descriptors_max,
        slow_sync_ms: u64::try_from(slow_sync.as_millis()).unwrap_or(u64::MAX),
    }
}

fn condition(condition: &pulse::Condition) -> Condition {
    let pulse::Condition { stuck, full, clock_off, .. } = condition;
    Condition { stuck_shards: stuck.clone(), disk_full: *full, clock_off: *clock_off }
}

fn alarm(names: &BTreeMap<GroupId, (String, u32)>, group: GroupId, text: String) -> AlarmStatus {
    let (topic, partition) = names.get(&group).cloned().unwrap_or_default();
    AlarmStatus { group: group.0, topic, partition, text }
}

/// How many descriptors this process has open, and how many it may have; zeros where the system does not say.
fn descriptors() -> (u64, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    (open, max.unwrap_or(0))
}

/// Topic and partition of every group with a replica on `own`; the coordinator's are empty.
fn names(image: &MetadataImage, own: NodeId) -> BTreeMap<GroupId, (String, u32)> {
    let mut names = BTreeMap::from([(GroupId::COORDINATOR, (String::new(), 0))]);
    for topic in image.topics.values() {
        for (partition, index) in topic.partitions.iter().zip(0..) {
            if partition.replicas.contains(&own) {
                names.insert(partition.group, (topic.name.clone(), index));
            }
        }
    }
    names
}

async fn replica(broker: &Broker, group: GroupId, (topic, partition): &(String, u32)) -> ReplicaStatus {
    let answer = broker.shards.ask(|request| Event::Describe { request, group }).await;
    let mut status = match answer {
        Ok(OutReply::Described { description, .. }) => describe(*description),
        Ok(OutReply::Shard(Reply::Described(None))) => closed(group, "not open on this node yet"),
        Ok(other) => closed(group, &errors::unexpected(&other).message),
        Err(busy) => closed(group, &busy.to_string()),
    };
    if let Some(failure) = broker.view.failure(group) {
        status.failure = failure;
    }
    status.topic.clone_from(topic);
    status.partition = *partition;
    status
}

fn closed(group: GroupId, why: &str) -> ReplicaStatus {
    ReplicaStatus { group: group.0, failure: why.to_owned(), ..ReplicaStatus::default() }
}

fn describe(description: GroupDescription) -> ReplicaStatus {
    let role = match description.role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    };
    let followers = description.followers.iter().map(|follower| FollowerStatus {
        node: follower.node.0,
        matched_index: follower.matched.0,
        alive: follower.alive,
    });
    ReplicaStatus {
        group: description.group.0,
        topic: String::new(),
        partition: 0,
        role: role.to_owned(),
        term: description.term.0,
        leader_node: description.leader.map(|node| node.0),
        voters: description.membership.voters.iter().map(|node| node.0).collect(),
        learners: description.membership.learners.iter().map(|node| node.0).collect(),
        last_index: description.last.index.0,
        commit_index: description.commit.0,
        durable_index: description.durable.0,
        start_offset: description.start_offset.0,
        high_watermark: description.high_watermark.0,
        end_offset: description.end_offset.0,
        followers: followers.collect(),
        failure: description.failure.unwrap_or_default(),
    }
}

/// Begins to hand the partition's leadership over. Any broker with a replica answers: it passes the request on to
/// the leader.
pub(super) async fn transfer(broker: &Broker, request: Request<TransferRequest>) -> AdminReply {
    let passed_on = request.metadata().contains_key(PASSED_ON);
    let error = try_transfer(broker, request.into_inner(), passed_on).await.err();
    AdminReply { error }
}

async fn try_transfer(broker: &Broker, request: TransferRequest, passed_on: bool) -> Result<(), Error> {
    let place = Place { topic: &request.topic, partition: request.partition };
    let group = broker.group(place)?;
    let to = request.to_node.map(NodeId);
    let image = broker.view.image();
    let record = image
        .topic_ids
        .get(&request.topic)
        .and_then(|id| image.topics.get(id))
        .and_then(|topic| topic.partitions.iter().find(|record| record.group == group));
    if let (Some(to), Some(record)) = (to, record)
        && !record.replicas.contains(&to)
    {
        let replicas: Vec<String> = record.replicas.iter().map(NodeId::to_string).collect();
        let replicas = replicas.join(", ");
        let text = format!("node {to} has no replica of {place}: choose one of {replicas}");
        return Err(errors::error(ErrorCode::InvalidRequest, text));
    }
    match broker.forwarder.leader(group).await.map_err(|_| errors::not_leader(place, None))? {
        Seat::Here => {
            let event = |request| Event::Transfer { request, group: Some(group), to };
            match broker.shards.ask(event).await.map_err(|_| errors::busy())? {
                OutReply::Shard(Reply::Transferring(0)) => Err(errors::error(
                    ErrorCode::InvalidRequest,
                    format!(
                        "{place} was not handed over: no other replica that could lead is up, or it leads already"
                    ),
                )),
                OutReply::Shard(Reply::Transferring(_)) => Ok(()),
                other => Err(errors::unexpected(&other)),
            }
        }
        Seat::There(node, _) if passed_on => Err(errors::not_leader(place, Some(node))),
        Seat::There(node, channel) => {
            let mut passed = Request::new(request.clone());
            passed.metadata_mut().insert(PASSED_ON, MetadataValue::from_static("1"));
            passed.set_timeout(limits::FORWARD_TIMEOUT);
            match BrokerClient::new(channel).transfer(passed).await {
                Ok(reply) => reply.into_inner().error.map_or(Ok(()), Err),
                Err(_) => {
                    broker.forwarder.forget(node);
                    Err(errors::not_leader(place, Some(node)))
                }
            }
        }
    }
}
