//! `raftline cluster`: status, health, nodes.

use crate::NOT_HEALTHY;
use crate::cli::Common;
use crate::output::{self, Output, print, print_json, table};
use crate::patience;
use clap::Subcommand;
use raftline_client::proto::api::{MetadataReply, NodeStatusReply, ReplicaStatus};
use raftline_client::proto::ids::NodeId;
use raftline_client::{Admin, AdminError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What to look at.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ClusterCommand {
    /// The cluster at a glance.
    Status,
    /// Whether all is well: exit code 0 if so, 10 if not, and why.
    Health,
    /// Every broker: address, version, disk, what it leads.
    Nodes,
}

/// A cluster as seen at one moment.
#[derive(Debug)]
pub struct Sight {
    /// What the broker that was asked knows.
    pub metadata: MetadataReply,
    /// What each broker says of itself, or why it says nothing.
    pub nodes: BTreeMap<u32, Result<NodeStatusReply, AdminError>>,
}

/// Asks every broker.
///
/// # Errors
/// No broker answered.
pub async fn look(admin: &Admin) -> anyhow::Result<Sight> {
    let metadata = admin.cluster(Vec::new()).await?;
    let mut asked = Vec::new();
    for broker in &metadata.brokers {
        let (admin, node) = (admin.clone(), broker.node);
        asked.push((node, tokio::spawn(async move { admin.node_status(NodeId(node)).await })));
    }
    let mut nodes = BTreeMap::new();
    for (node, status) in asked {
        nodes.insert(node, status.await?);
    }
    Ok(Sight { metadata, nodes })
}

/// Runs the command.
///
/// # Errors
/// No broker answered.
pub async fn run(common: &Common, command: ClusterCommand) -> anyhow::Result<ExitCode> {
    if let ClusterCommand::Health = command {
        return health(common).await;
    }
    let sight = patience::bounded(common, async { look(&common.client().await?.admin()).await }).await?;
    match (command, common.output) {
        (ClusterCommand::Nodes, Output::Json) => print_json(&nodes_json(&sight))?,
        (ClusterCommand::Nodes, Output::Text) => print(&nodes_text(&sight))?,
        (_, Output::Json) => print_json(&status_json(&sight))?,
        (_, Output::Text) => print(&status_text(&sight))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A cluster that cannot be reached, or does not answer in time, is not healthy either.
async fn health(common: &Common) -> anyhow::Result<ExitCode> {
    let looked = patience::bounded(common, async { look(&common.client().await?.admin()).await }).await;
    let problems = looked.map_or_else(|error| vec![format!("{error:#}")], |sight| problems(&sight));
    let healthy = problems.is_empty();
    match common.output {
        Output::Json => print_json(&json!({ "healthy": healthy, "problems": problems }))?,
        Output::Text if healthy => print("healthy\n")?,
        Output::Text => print(&format!("not healthy:\n  {}\n", problems.join("\n  ")))?,
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(NOT_HEALTHY) })
}

/// Entries that a follower may be behind without being called so: under load a few are always on the way.
const LAG_ENTRIES: u64 = 1000;

/// More problems than this are counted instead of listed.
const PROBLEMS_LISTED: usize = 50;

/// Everything that is not as it should be.
pub fn problems(sight: &Sight) -> Vec<String> {
    let mut problems = Vec::new();
    if sight.metadata.cluster_id.is_empty() {
        problems.push("the cluster has not formed yet: a majority of the brokers has to be up once".into());
    }
    if sight.metadata.coordinator_node.is_none() {
        problems.push("the coordinator has no leader: a majority of its voters has to be up".into());
    }
    for (node, status) in &sight.nodes {
        match status {
            Err(error @ AdminError::NodeSilent { .. }) => problems.push(error.to_string()),
            Err(error) => problems.push(format!("node {node} could not be asked: {error}")),
            Ok(status) => problems.extend(node_problems(status)),
        }
    }
    for topic in &sight.metadata.topics {
        for partition in topic.partitions.iter().filter(|partition| partition.leader_node.is_none()) {
            let place = format!("{}/{}", topic.name, partition.partition);
            let replicas = output::nodes(&partition.replicas);
            problems
                .push(format!("{place} has no leader: a majority of its replicas ({replicas}) has to be up"));
        }
    }
    if problems.len() > PROBLEMS_LISTED {
        let more = problems.len() - PROBLEMS_LISTED;
        problems.truncate(PROBLEMS_LISTED);
        problems.push(format!("and {more} more"));
    }
    problems
}

fn node_problems(status: &NodeStatusReply) -> Vec<String> {
    let node = status.node;
    let mut problems = Vec::new();
    if status.disk_free_bytes < status.disk_reserve_bytes {
        let (free, reserve) =
            (output::bytes(status.disk_free_bytes), output::bytes(status.disk_reserve_bytes));
        problems.push(format!(
            "node {node} has {free} of disk left, less than its reserve of {reserve}: it takes no records"
        ));
    }
    for peer in status.peers.iter().filter(|peer| !peer.alive && peer.node != node) {
        let why = if peer.last_error.is_empty() { String::new() } else { format!(" ({})", peer.last_error) };
        problems.push(format!("node {node} does not hear node {} at {}{why}", peer.node, peer.address));
    }
    for replica in &status.replicas {
        let place = place(replica);
        if !replica.failure.is_empty() {
            problems.push(format!("node {node} has closed {place}: {}", replica.failure));
        }
        for follower in &replica.followers {
            let behind = replica.commit_index.saturating_sub(follower.matched_index);
            if follower.alive && behind > LAG_ENTRIES {
                problems.push(format!("node {} is {behind} entries behind in {place}", follower.node));
            }
        }
    }
    problems
}

/// `topic/partition`, or what group 0 is.
pub fn place(replica: &ReplicaStatus) -> String {
    match (replica.group, replica.topic.as_str()) {
        (0, _) => "the coordinator's log".into(),
        (group, "") => format!("group {group}"),
        (_, topic) => format!("{topic}/{}", replica.partition),
    }
}

fn leads(status: &NodeStatusReply) -> usize {
    status.replicas.iter().filter(|replica| replica.group != 0 && replica.role == "leader").count()
}

fn holds(status: &NodeStatusReply) -> usize {
    status.replicas.iter().filter(|replica| replica.group != 0).count()
}

fn nodes_json(sight: &Sight) -> Value {
    let nodes = sight.metadata.brokers.iter().map(|broker| {
        let status = &sight.nodes[&broker.node];
        let answer = status.as_ref().ok();
        json!({
            "node": broker.node,
            "grpc_address": broker.grpc_address,
            "kafka_address": broker.kafka_address,
            "incarnation": broker.incarnation,
            "alive": answer.is_some(),
            "error": status.as_ref().err().map(ToString::to_string),
            "version": answer.map(|status| &status.version),
            "uptime_ms": answer.map(|status| status.uptime_ms),
            "disk_free_bytes": answer.map(|status| status.disk_free_bytes),
            "disk_reserve_bytes": answer.map(|status| status.disk_reserve_bytes),
            "partitions_led": answer.map(leads),
            "partitions_held": answer.map(holds),
            "coordinator": sight.metadata.coordinator_node == Some(broker.node),
        })
    });
    nodes.collect()
}

fn nodes_text(sight: &Sight) -> String {
    let rows: Vec<Vec<String>> = sight
        .metadata
        .brokers
        .iter()
        .map(|broker| {
            let coordinator =
                if sight.metadata.coordinator_node == Some(broker.node) { "coordinator" } else { "" };
            let mut row = vec![broker.node.to_string(), broker.grpc_address.clone()];
            row.extend(match &sight.nodes[&broker.node] {
                Ok(status) => [
                    "up".into(),
                    uptime(status.uptime_ms),
                    leads(status).to_string(),
                    holds(status).to_string(),
                    output::bytes(status.disk_free_bytes),
                    status.version.clone(),
                ],
                Err(_) => ["DOWN".into(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into()],
            });
            row.push(coordinator.into());
            row
        })
        .collect();
    let headings = [">NODE", "GRPC", "STATE", ">UP FOR", ">LEADS", ">HOLDS", ">DISK FREE", "VERSION", ""];
    table(&headings, &rows)
}

fn uptime(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Topics, partitions, and how many of these lack a leader.
fn totals(metadata: &MetadataReply) -> (usize, usize, usize) {
    let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let leaderless = partitions.clone().filter(|partition| partition.leader_node.is_none()).count();
    (metadata.topics.len(), partitions.count(), leaderless)
}

fn status_json(sight: &Sight) -> Value {
    let problems = problems(sight);
    let (topics, partitions, leaderless) = totals(&sight.metadata);
    json!({
        "cluster": sight.metadata.cluster_name,
        "cluster_id": sight.metadata.cluster_id,
        "coordinator": sight.metadata.coordinator_node,
        "topics": topics,
        "partitions": partitions,
        "partitions_without_leader": leaderless,
        "nodes": nodes_json(sight),
        "healthy": problems.is_empty(),
        "problems": problems,
    })
}

fn status_text(sight: &Sight) -> String {
    let metadata = &sight.metadata;
    let (topics, partitions, leaderless) = totals(metadata);
    let problems = problems(sight);
    let health = match problems.len() {
        0 => "healthy".to_owned(),
        1 => format!("not healthy: {}", problems[0]),
        count => format!("not healthy: {count} problems, see `raftline cluster health`"),
    };
    let leaderless =
        if leaderless == 0 { String::new() } else { format!(", {leaderless} of them without a leader") };
    let id = if metadata.cluster_id.is_empty() { "not formed yet" } else { &metadata.cluster_id };
    format!(
        "cluster {} ({id}), {health}\n{topics} topics with {partitions} partitions{leaderless}\n\n{}",
        metadata.cluster_name,
        nodes_text(sight)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_client::proto::api::{FollowerStatus, PartitionInfo, PeerStatus, TopicInfo};

    fn healthy() -> Sight {
        let partition = PartitionInfo { leader_node: Some(1), replicas: vec![1], ..PartitionInfo::default() };
        let topic = TopicInfo { name: "t".into(), partitions: vec![partition], ..TopicInfo::default() };
        let metadata = MetadataReply {
            cluster_id: "1".into(),
            coordinator_node: Some(1),
            topics: vec![topic],
            ..MetadataReply::default()
        };
        let replica =
            ReplicaStatus { group: 1, topic: "t".into(), commit_index: 5000, ..ReplicaStatus::default() };
        let status = NodeStatusReply {
            node: 1,
            disk_free_bytes: 2,
            disk_reserve_bytes: 1,
            replicas: vec![replica],
            ..NodeStatusReply::default()
        };
        Sight { metadata, nodes: BTreeMap::from([(1, Ok(status))]) }
    }

    fn check(change: impl FnOnce(&mut Sight, &mut NodeStatusReply), named: &str) {
        let mut sight = healthy();
        let mut status = sight.nodes[&1].clone().expect("up");
        change(&mut sight, &mut status);
        if sight.nodes[&1].is_ok() {
            sight.nodes.insert(1, Ok(status));
        }
        let problems = problems(&sight);
        assert!(problems.len() == 1 && problems[0].contains(named), "{problems:?} should name `{named}`");
    }

    #[test]
    fn every_ill_is_named() {
        assert_eq!(problems(&healthy()), Vec::<String>::new());
        check(|sight, _| sight.metadata.cluster_id.clear(), "not formed");
        check(|sight, _| sight.metadata.coordinator_node = None, "coordinator");
        check(|sight, _| sight.metadata.topics[0].partitions[0].leader_node = None, "t/0 has no leader");
        check(|_, status| status.disk_free_bytes = 0, "disk");
        check(|_, status| status.replicas[0].failure = "bad sector".into(), "bad sector");
        let follower = FollowerStatus { node: 7, matched_index: 1, alive: true };
        check(|_, status| status.replicas[0].followers = vec![follower], "node 7 is 4999 entries behind");
        let peer = PeerStatus { node: 9, address: "b:9".into(), ..PeerStatus::default() };
        check(|_, status| status.peers = vec![peer], "node 9 at b:9");
        let down = AdminError::NodeSilent { node: 1, reason: "refused".into() };
        check(|sight, _| drop(sight.nodes.insert(1, Err(down))), "node 1 does not answer");
    }
}
