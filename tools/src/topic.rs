//! `raftline topic`: make, list, describe, change and delete topics.

use crate::cli::Common;
use crate::output::{self, Output, print, print_json, table};
use anyhow::bail;
use clap::{Args, Subcommand};
use raftline_client::proto::api::{ConfigEntry, PartitionInfo, TopicInfo};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{Admin, ErrorCode, NewTopic, StartAt};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Make a topic.
    Create(CreateArgs),
    /// Name all topics.
    List,
    /// Show a topic's partitions and configs.
    Describe {
        /// The topic.
        name: String,
    },
    /// Change configs, or add partitions.
    Alter(AlterArgs),
    /// Delete a topic and all its records.
    Delete {
        /// The topic.
        name: String,
    },
}

/// A new topic.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Letters, digits, `.`, `_` and `-`; at most 249.
    name: String,
    /// How many partitions [default: the cluster's].
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value = None)]
    partitions: Option<u32>,
    /// How many replicas of each partition [default: the cluster's].
    #[arg(long, short, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    replication: Option<u32>,
    /// A config entry; `raftline topic describe` lists those there are. May be repeated.
    #[arg(long = "config", short, value_name = "NAME=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Succeed if the topic is there already.
    #[arg(long)]
    if_not_exists: bool,
}

/// Changes to a topic.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// The topic.
    name: String,
    /// Sets a config entry. May be repeated.
    #[arg(long = "config", short, value_name = "NAME=VALUE", value_parser = parse_config)]
    configs: Vec<(String, String)>,
    /// Sets a config entry back to its default. May be repeated.
    #[arg(long, value_name = "NAME")]
    reset: Vec<String>,
    /// Adds partitions until there are this many. Keys map to other partitions from then on.
    #[arg(long, short, value_name = "N")]
    partitions: Option<u32>,
}

/// `NAME=VALUE`.
pub fn parse_config(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, for example retention.ms=86400000".into()),
    }
}

/// Runs the command.
///
/// # Errors
/// What the cluster says.
pub async fn run(common: &Common, command: TopicCommand) -> anyhow::Result<()> {
    let admin = common.client().await?.admin();
    match command {
        TopicCommand::Create(args) => create(common, &admin, args).await,
        TopicCommand::List => list(common, &admin).await,
        TopicCommand::Describe { name } => describe(common, &admin, &name).await,
        TopicCommand::Alter(args) => alter(common, &admin, args).await,
        TopicCommand::Delete { name } => {
            admin.delete_topic(&name).await?;
            done(common, json!({ "topic": name, "deleted": true }), &format!("topic {name} is deleted"))
        }
    }
}

async fn create(common: &Common, admin: &Admin, args: CreateArgs) -> anyhow::Result<()> {
    let CreateArgs { name, partitions, replication, configs, if_not_exists } = args;
    let topic = NewTopic {
        name: name.clone(),
        partitions: partitions.unwrap_or(0),
        replication: replication.unwrap_or(0),
        configs: configs.into_iter().collect(),
    };
    match admin.create_topic(&topic).await {
        Ok(partitions) => {
            let document = json!({ "topic": name, "partitions": partitions, "created": true });
            done(common, document, &format!("topic {name} is made, partitions: {partitions}"))
        }
        Err(error) if if_not_exists && error.code() == Some(ErrorCode::TopicExists) => done(
            common,
            json!({ "topic": name, "created": false }),
            &format!("topic {name} was there already"),
        ),
        Err(error) => Err(error.into()),
    }
}

async fn list(common: &Common, admin: &Admin) -> anyhow::Result<()> {
    let metadata = admin.cluster(Vec::new()).await?;
    if common.output == Output::Json {
        let topics: Vec<_> = metadata.topics.iter().map(topic_json).collect();
        return Ok(print_json(&topics)?);
    }
    let rows: Vec<Vec<String>> = metadata
        .topics
        .iter()
        .map(|topic| {
            let replication =
                topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0);
            let leaderless =
                topic.partitions.iter().filter(|partition| partition.leader_node.is_none()).count();
            let under_replicated = topic.partitions.iter().filter(|of| is_under_replicated(of)).count();
            let mut ills = Vec::new();
            if leaderless > 0 {
                ills.push(format!("{leaderless} without a leader"));
            }
            if under_replicated > 0 {
                ills.push(format!("{under_replicated} under-replicated"));
            }
            vec![
                topic.name.clone(),
                topic.partitions.len().to_string(),
                replication.to_string(),
                if ills.is_empty() { "ok".into() } else { ills.join(", ") },
            ]
        })
        .collect();
    Ok(print(&table(&["TOPIC", ">PARTITIONS", ">REPLICAS", "STATE"], &rows))?)
}

async fn describe(common: &Common, admin: &Admin, name: &str) -> anyhow::Result<()> {
    let reply = admin.describe_topic(name).await?;
    let Some(topic) = reply.topic else {
        bail!("the broker described no topic: it may be of another version")
    };
    let ranges = ranges(common, admin, &topic).await;
    match common.output {
        Output::Json => {
            let mut document = topic_json(&topic);
            for (partition, range) in ranges.iter().enumerate() {
                document["partitions"][partition]["start_offset"] = json!(range.map(|range| range.0));
                document["partitions"][partition]["high_watermark"] = json!(range.map(|range| range.1));
            }
            document["configs"] = reply.configs.iter().map(config_json).collect();
            Ok(print_json(&document)?)
        }
        Output::Text => Ok(print(&describe_text(&topic, &ranges, &reply.configs))?),
    }
}

/// Partitions whose offsets are asked for at once.
const ASKED_AT_ONCE: usize = 16;

/// The first and the next offset of each partition. One without a leader, or whose leader does not answer soon, has no
/// offsets to tell: the rest is shown all the same.
async fn ranges(common: &Common, admin: &Admin, topic: &TopicInfo) -> Vec<Option<(u64, u64)>> {
    let permits = Arc::new(Semaphore::new(ASKED_AT_ONCE));
    let mut asked = JoinSet::new();
    for (place, partition) in topic.partitions.iter().enumerate() {
        let (admin, name, of) = (admin.clone(), topic.name.clone(), PartitionIndex(partition.partition));
        if partition.leader_node.is_some() {
            let permits = permits.clone();
            asked.spawn(async move {
                let _permit = permits.acquire().await.ok()?;
                let start = admin.offset(&name, of, StartAt::Start).await.ok()?;
                let end = admin.offset(&name, of, StartAt::End).await.ok()?;
                Some((place, (start.get(), end.get())))
            });
        }
    }
    let mut ranges = vec![None; topic.partitions.len()];
    let gather = async {
        while let Some(found) = asked.join_next().await {
            if let Ok(Some((place, range))) = found {
                ranges[place] = Some(range);
            }
        }
    };
    let _ = tokio::time::timeout(common.timeout() / 2, gather).await;
    ranges
}

fn describe_text(topic: &TopicInfo, ranges: &[Option<(u64, u64)>], configs: &[ConfigEntry]) -> String {
    let rows: Vec<Vec<String>> = topic
        .partitions
        .iter()
        .zip(ranges)
        .map(|(partition, range)| {
            let offset = |pick: fn(&(u64, u64)) -> u64| {
                range.as_ref().map_or("?".into(), |range| pick(range).to_string())
            };
            vec![
                partition.partition.to_string(),
                output::node(partition.leader_node),
                partition.term.to_string(),
                output::nodes(&partition.replicas),
                output::nodes(&partition.in_sync),
                offset(|range| range.0),
                offset(|range| range.1),
                partition.group.to_string(),
            ]
        })
        .collect();
    let headings =
        [">PARTITION", ">LEADER", ">TERM", "REPLICAS", "IN SYNC", ">FROM OFFSET", ">UP TO", ">GROUP"];
    let rows_of_configs: Vec<Vec<String>> = configs
        .iter()
        .map(|config| {
            let set = if config.is_default { "" } else { "set" };
            vec![config.name.clone(), config.value.clone(), set.into(), config.documentation.clone()]
        })
        .collect();
    format!(
        "topic {} ({})\n\n{}\n{}",
        topic.name,
        topic.id,
        table(&headings, &rows),
        table(&["CONFIG", "VALUE", "", "MEANING"], &rows_of_configs)
    )
}

async fn alter(common: &Common, admin: &Admin, args: AlterArgs) -> anyhow::Result<()> {
    let AlterArgs { name, configs, reset, partitions } = args;
    if configs.is_empty() && reset.is_empty() && partitions.is_none() {
        bail!("nothing to change: give --config NAME=VALUE, --reset NAME or --partitions N");
    }
    if !configs.is_empty() || !reset.is_empty() {
        let set: BTreeMap<String, String> = configs.into_iter().collect();
        admin.alter_topic(&name, set, reset).await?;
    }
    if let Some(total) = partitions {
        admin.add_partitions(&name, total).await?;
    }
    done(common, json!({ "topic": name, "altered": true }), &format!("topic {name} is changed"))
}

fn done(common: &Common, document: serde_json::Value, text: &str) -> anyhow::Result<()> {
    match common.output {
        Output::Json => Ok(print_json(&document)?),
        Output::Text => Ok(print(&format!("{text}\n"))?),
    }
}

/// Whether a replica is closed, out of reach, or not caught up.
pub fn is_under_replicated(partition: &PartitionInfo) -> bool {
    partition.replicas.iter().any(|node| !partition.in_sync.contains(node))
}

/// A topic as every command prints it.
pub fn topic_json(topic: &TopicInfo) -> serde_json::Value {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({
                "partition": partition.partition,
                "group": partition.group,
                "leader": partition.leader_node,
                "term": partition.term,
                "replicas": partition.replicas,
                "in_sync": partition.in_sync,
                "under_replicated": is_under_replicated(partition),
            })
        })
        .collect();
    json!({ "topic": topic.name, "id": topic.id, "partitions": partitions, "configs": topic.configs })
}

fn config_json(config: &ConfigEntry) -> serde_json::Value {
    json!({
        "name": config.name,
        "value": config.value,
        "default": config.default_value,
        "is_default": config.is_default,
        "documentation": config.documentation,
    })
}
