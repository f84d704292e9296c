//! `raftline partition`: look at partitions and move their leadership.

use crate::cli::Common;
use crate::clock;
use crate::cluster::{Sight, look, place};
use crate::output::{self, Output, print, print_json, table};
use crate::topic::is_under_replicated;
use anyhow::bail;
use clap::{Args, Subcommand};
use raftline_client::Admin;
use raftline_client::proto::api::{PartitionInfo, ReplicaStatus};
use raftline_client::proto::ids::{NodeId, PartitionIndex};
use serde_json::{Value, json};
use std::str::FromStr;
use std::time::Duration;

/// What to do with partitions.
#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// All partitions, with their leaders and replicas.
    List {
        /// Only those of this topic.
        #[arg(long)]
        topic: Option<String>,
    },
    /// A partition as each of its replicas sees it.
    Describe {
        /// TOPIC/PARTITION.
        partition: Place,
    },
    /// Hand a partition's leadership over.
    Transfer(TransferArgs),
}

/// To whom.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// TOPIC/PARTITION.
    partition: Place,
    /// The replica that is to lead [default: the best placed].
    #[arg(long, value_name = "NODE")]
    to: Option<u32>,
}

/// TOPIC/PARTITION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    topic: String,
    partition: PartitionIndex,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || "expected TOPIC/PARTITION, for example orders/0".to_owned();
        let (topic, partition) = text.rsplit_once('/').ok_or_else(error)?;
        let partition = partition.parse().map(PartitionIndex).map_err(|_| error())?;
        if topic.is_empty() { Err(error()) } else { Ok(Self { topic: topic.to_owned(), partition }) }
    }
}

/// Runs the command.
///
/// # Errors
/// What the cluster says.
pub async fn run(common: &Common, command: PartitionCommand) -> anyhow::Result<()> {
    let admin = common.client().await?.admin();
    match command {
        PartitionCommand::List { topic } => list(common, &admin, topic).await,
        PartitionCommand::Describe { partition } => describe(common, &admin, &partition).await,
        PartitionCommand::Transfer(args) => transfer(common, &admin, &args).await,
    }
}

async fn list(common: &Common, admin: &Admin, topic: Option<String>) -> anyhow::Result<()> {
    let metadata = admin.cluster(topic.into_iter().collect()).await?;
    if let Some(error) = metadata.topics.iter().find_map(|topic| topic.error.as_ref()) {
        bail!("{}", error.message);
    }
    let topics = metadata.topics.iter();
    let all = topics.flat_map(|topic| topic.partitions.iter().map(move |partition| (&topic.name, partition)));
    match common.output {
        Output::Json => {
            let documents: Vec<Value> = all.map(|(topic, partition)| json!({
                "topic": topic, "partition": partition.partition, "group": partition.group,
                "leader": partition.leader_node, "term": partition.term, "replicas": partition.replicas,
                "in_sync": partition.in_sync, "under_replicated": is_under_replicated(partition),
            })).collect();
            Ok(print_json(&documents)?)
        }
        Output::Text => {
            let rows: Vec<Vec<String>> = all
                .map(|(topic, partition)| {
                    vec![
                        format!("{topic}/{}", partition.partition),
                        output::node(partition.leader_node),
                        partition.term.to_string(),
                        output::nodes(&partition.replicas),
                        output::nodes(&partition.in_sync),
                        if is_under_replicated(partition) { "under-replicated".into() } else { "ok".into() },
                        partition.group.to_string(),
                    ]
                })
                .collect();
            Ok(print(&table(
                &["PARTITION", ">LEADER", ">TERM", "REPLICAS", "IN SYNC", "STATE", ">GROUP"],
                &rows,
            ))?)
        }
    }
}

fn find(sight: &Sight, wanted: &Place) -> anyhow::Result<PartitionInfo> {
    let topic = sight.metadata.topics.iter().find(|topic| topic.name == wanted.topic);
    let Some(topic) = topic else {
        bail!("topic `{}` does not exist: `raftline topic list` names those that do", wanted.topic);
    };
    match topic.partitions.iter().find(|partition| partition.partition == wanted.partition.get()) {
        Some(partition) => Ok(partition.clone()),
        None => bail!(
            "topic `{}` has no partition {}: it has {}, numbered from 0",
            wanted.topic,
            wanted.partition,
            topic.partitions.len()
        ),
    }
}

async fn describe(common: &Common, admin: &Admin, wanted: &Place) -> anyhow::Result<()> {
    let sight = look(admin).await?;
    let partition = find(&sight, wanted)?;
    let replicas: Vec<(u32, Option<&ReplicaStatus>)> = partition
        .replicas
        .iter()
        .map(|node| {
            let status = sight.nodes.get(node).and_then(|status| status.as_ref().ok());
            let of_group = |replica: &&ReplicaStatus| replica.group == partition.group;
            (*node, status.and_then(|status| status.replicas.iter().find(of_group)))
        })
        .collect();
    match common.output {
        Output::Json => {
            let documents: Vec<Value> =
                replicas.iter().map(|(node, replica)| replica_json(*node, *replica)).collect();
            Ok(print_json(&json!({
                "topic": wanted.topic, "partition": wanted.partition.get(), "group": partition.group,
                "leader": partition.leader_node, "term": partition.term, "replicas": documents,
            }))?)
        }
        Output::Text => {
            let rows: Vec<Vec<String>> =
                replicas.iter().map(|(node, replica)| replica_row(*node, *replica)).collect();
            let headings = [
                ">NODE",
                "ROLE",
                ">TERM",
                ">LAST",
                ">COMMITTED",
                ">DURABLE",
                ">FROM OFFSET",
                ">HIGH WATERMARK",
                "FAILURE",
            ];
            let leader = output::node(partition.leader_node);
            let text = table(&headings, &rows);
            Ok(print(&format!(
                "{}/{}, group {}, leader {leader}\n\n{text}",
                wanted.topic, wanted.partition, partition.group
            ))?)
        }
    }
}

fn replica_json(node: u32, replica: Option<&ReplicaStatus>) -> Value {
    let Some(replica) = replica else { return json!({ "node": node, "role": null }) };
    json!({
        "node": node,
        "role": replica.role,
        "term": replica.term,
        "leader": replica.leader_node,
        "last_index": replica.last_index,
        "commit_index": replica.commit_index,
        "durable_index": replica.durable_index,
        "start_offset": replica.start_offset,
        "high_watermark": replica.high_watermark,
        "end_offset": replica.end_offset,
        "failure": if replica.failure.is_empty() { None } else { Some(&replica.failure) },
    })
}

fn replica_row(node: u32, replica: Option<&ReplicaStatus>) -> Vec<String> {
    let Some(replica) = replica else {
        let mut row = vec![node.to_string(), "no answer".into()];
        row.extend((0..7).map(|_| String::new()));
        return row;
    };
    vec![
        node.to_string(),
        replica.role.clone(),
        replica.term.to_string(),
        replica.last_index.to_string(),
        replica.commit_index.to_string(),
        replica.durable_index.to_string(),
        replica.start_offset.to_string(),
        replica.high_watermark.to_string(),
        if replica.failure.is_empty() {
            String::new()
        } else {
            format!("{} closed: {}", place(replica), replica.failure)
        },
    ]
}

async fn transfer(common: &Common, admin: &Admin, args: &TransferArgs) -> anyhow::Result<()> {
    let Place { topic, partition } = &args.partition;
    let before = leader(admin, &args.partition).await?;
    admin.transfer(topic, *partition, args.to.map(NodeId)).await?;
    let deadline = clock::monotonic() + common.timeout();
    loop {
        let now = leader(admin, &args.partition).await?;
        let arrived = match args.to {
            Some(to) => now == Some(to),
            None => now.is_some() && now != before,
        };
        if arrived {
            let to = output::node(now);
            match common.output {
                Output::Json => print_json(&json!({
                    "topic": topic, "partition": partition.get(), "from": before, "to": now,
                }))?,
                Output::Text => print(&format!("{topic}/{partition} is led by node {to} now\n"))?,
            }
            return Ok(());
        }
        if clock::monotonic() >= deadline {
            bail!(
                "the hand-over of {topic}/{partition} began, but after {} s node {} still leads: try again, or look at \
                 `raftline partition describe {topic}/{partition}`",
                common.timeout,
                output::node(now)
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How often the new leader is looked for.
const POLL: Duration = Duration::from_millis(50);

async fn leader(admin: &Admin, wanted: &Place) -> anyhow::Result<Option<u32>> {
    let metadata = admin.cluster(vec![wanted.topic.clone()]).await?;
    let sight = Sight { metadata, nodes: std::collections::BTreeMap::new() };
    if let Some(error) = sight.metadata.topics.iter().find_map(|topic| topic.error.as_ref()) {
        bail!("{}", error.message);
    }
    Ok(find(&sight, wanted)?.leader_node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_topic_and_partition() {
        let place = "or.ders/12".parse::<Place>().expect("a place");
        assert_eq!((place.topic.as_str(), place.partition), ("or.ders", PartitionIndex(12)));
        for text in ["orders", "orders/", "/1", "orders/x", "orders/-1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
