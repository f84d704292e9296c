//! `raftline cluster`: status, health ([`health`]), nodes.

pub mod health;

use crate::NOT_HEALTHY;
use crate::cli::Common;
use crate::output::{self, Output, print, print_json, table};
use crate::patience;
use clap::Subcommand;
use health::Health;
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
    /// Whether all is well: exit code 0 if so, 10 if not, and why. Warnings do not count.
    Health,
    /// Every broker: address, version, disk, what it leads.
    Nodes,
    /// Have a broker trust its wall clock again, after it jumped and you have set it right. Needed only where fewer than
    /// three brokers can compare their clocks: while one doubts its clock, no record of what it leads goes by age.
    TrustClock {
        /// The broker's node id.
        node: u32,
    },
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
    if let ClusterCommand::TrustClock { node } = command {
        return trust_clock(common, NodeId(node)).await;
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

async fn trust_clock(common: &Common, node: NodeId) -> anyhow::Result<ExitCode> {
    let told = async { anyhow::Ok(common.client().await?.admin().trust_clock(node).await?) };
    patience::bounded(common, told).await?;
    match common.output {
        Output::Json => print_json(&json!({ "node": node.get(), "told": true }))?,
        Output::Text => print(&format!(
            "broker {node} was told to trust its clock; if others know better it doubts it again: see cluster health\n"
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A cluster that cannot be reached, or does not answer in time, is not healthy either.
async fn health(common: &Common) -> anyhow::Result<ExitCode> {
    let looked = patience::bounded(common, async { look(&common.client().await?.admin()).await }).await;
    let unreached = |error| Health { problems: vec![format!("{error:#}")], ..Health::default() };
    let Health { problems, warnings } = looked.map_or_else(unreached, |sight| Health::of(&sight));
    let healthy = problems.is_empty();
    match common.output {
        Output::Json => {
            print_json(&json!({ "healthy": healthy, "problems": problems, "warnings": warnings }))?;
        }
        Output::Text => {
            let mut text = if healthy { "healthy\n".to_owned() } else { "not healthy:\n".to_owned() };
            text.extend(problems.iter().map(|problem| format!("  {problem}\n")));
            text.extend(warnings.iter().map(|warning| format!("warning: {warning}\n")));
            print(&text)?;
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(NOT_HEALTHY) })
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
            "kafka_listeners": broker.kafka_listeners,
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
    let Health { problems, warnings } = Health::of(sight);
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
        "warnings": warnings,
    })
}

fn status_text(sight: &Sight) -> String {
    let metadata = &sight.metadata;
    let (topics, partitions, leaderless) = totals(metadata);
    let Health { problems, .. } = Health::of(sight);
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
