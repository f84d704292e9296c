//! `raftline group`: consumer groups, how far they are, and where they go on.

use crate::cli::Common;
use crate::clock;
use crate::output::{self, Output, print, print_json, table};
use crate::time;
use anyhow::bail;
use clap::{Args, Subcommand};
use raftline_client::proto::api::{ConsumerGroupInfo, ConsumerGroupMember, TopicPartitions};
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::proto::time::Timestamp;
use raftline_client::{Admin, GroupDescription, GroupPartition, OffsetReset, StartAt, TopicPartition};
use serde_json::{Value, json};

/// What to do with consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Name all groups of the cluster.
    List(ListArgs),
    /// Show a group's members, and how far it is in every partition.
    Describe {
        /// The group.
        group: String,
    },
    /// Set where a group without members goes on in a topic.
    Reset(ResetArgs),
    /// Delete a group without members and its offsets, or its offsets in one topic only.
    Delete(DeleteArgs),
}

/// Which groups.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only groups in this state. May be repeated.
    #[arg(long, value_name = "STATE", ignore_case = true, value_parser = STATES)]
    state: Vec<String>,
}

/// The states that a group can be in.
const STATES: [&str; 7] =
    ["Stable", "Empty", "Assigning", "Reconciling", "PreparingRebalance", "CompletingRebalance", "Dead"];

/// Where a group goes on.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The group.
    group: String,
    /// The topic.
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// Only this partition. May be repeated [default: all].
    #[arg(long, short, value_name = "P")]
    partition: Vec<u32>,
    #[command(flatten)]
    to: To,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Make the group, if there is none of this name yet.
    #[arg(long)]
    new: bool,
}

/// One of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct To {
    /// With the first record that is there.
    #[arg(long)]
    to_earliest: bool,
    /// With what comes next.
    #[arg(long)]
    to_latest: bool,
    /// With this offset.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
    /// With the first record of this time or later: 2026-11-22T08:30:00Z, -15m (s, m, h, d ago), or seconds or
    /// milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    to_time: Option<i64>,
}

/// What to delete.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The group.
    group: String,
    /// Only the offsets in this topic; the group stays.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

/// A time, with or without the `@` that `consume --from` has before it.
fn parse_time(text: &str) -> Result<i64, String> {
    time::parse(text.strip_prefix('@').unwrap_or(text), clock::wall_ms())
}

impl To {
    fn place(&self) -> StartAt {
        match (self.to_offset, self.to_time) {
            (Some(offset), _) => StartAt::Offset(Offset(offset)),
            (None, Some(ms)) => StartAt::Timestamp(Timestamp(ms)),
            (None, None) if self.to_earliest => StartAt::Start,
            (None, None) => StartAt::End,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What the cluster says.
pub async fn run(common: &Common, command: GroupCommand) -> anyhow::Result<()> {
    let admin = common.client().await?.admin();
    match command {
        GroupCommand::List(args) => list(common, &admin, args).await,
        GroupCommand::Describe { group } => describe(common, &admin, &group).await,
        GroupCommand::Reset(args) => reset(common, &admin, args).await,
        GroupCommand::Delete(args) => delete(common, &admin, args).await,
    }
}

async fn list(common: &Common, admin: &Admin, args: ListArgs) -> anyhow::Result<()> {
    let groups = admin.groups(args.state, Vec::new()).await?;
    if common.output == Output::Json {
        let documents: Vec<Value> = groups.iter().map(group_json).collect();
        return Ok(print_json(&documents)?);
    }
    let row = |group: &ConsumerGroupInfo| {
        vec![
            group.group.clone(),
            group.state.clone(),
            group.r#type.clone(),
            group.coordinator_node.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    Ok(print(&table(&["GROUP", "STATE", "TYPE", ">COORDINATOR"], &rows))?)
}

async fn describe(common: &Common, admin: &Admin, group: &str) -> anyhow::Result<()> {
    let described = admin.describe_group(group).await?;
    match common.output {
        Output::Json => Ok(print_json(&describe_json(&described))?),
        Output::Text => Ok(print(&describe_text(&described))?),
    }
}

async fn reset(common: &Common, admin: &Admin, args: ResetArgs) -> anyhow::Result<()> {
    let ResetArgs { group, topic, partition, to, dry_run, new } = args;
    if !new {
        // A group springs into being with its first offset: a name that is mistyped here would do nothing else.
        admin.group_members(&group).await.map_err(|error| match error.code() {
            Some(raftline_client::ErrorCode::GroupNotFound) => {
                anyhow::anyhow!("{error}; to prepare a group that is yet to come, add --new")
            }
            _ => error.into(),
        })?;
    }
    let partitions: Vec<PartitionIndex> = partition.into_iter().map(PartitionIndex).collect();
    let resets = admin.plan_reset(&group, &topic, &partitions, to.place()).await?;
    if !dry_run {
        let offsets = resets.iter().map(|reset| (reset.partition.clone(), reset.to)).collect();
        admin.commit_offsets(&group, &offsets).await?;
    }
    match common.output {
        Output::Json => {
            let partitions: Vec<Value> = resets.iter().map(reset_json).collect();
            let document =
                json!({ "group": group, "topic": topic, "reset": !dry_run, "partitions": partitions });
            Ok(print_json(&document)?)
        }
        Output::Text => Ok(print(&reset_text(&group, &resets, dry_run))?),
    }
}

async fn delete(common: &Common, admin: &Admin, args: DeleteArgs) -> anyhow::Result<()> {
    let DeleteArgs { group, topic } = args;
    let Some(topic) = topic else {
        admin.delete_group(&group).await?;
        return match common.output {
            Output::Json => Ok(print_json(&json!({ "group": group, "deleted": true }))?),
            Output::Text => Ok(print(&format!("group {group} is deleted\n"))?),
        };
    };
    admin.group_members(&group).await?;
    let committed = admin.committed_offsets(&group, &[]).await?;
    let of_topic: Vec<TopicPartition> = committed
        .into_iter()
        .filter(|offset| offset.topic == topic)
        .map(|offset| TopicPartition::new(offset.topic, PartitionIndex(offset.partition)))
        .collect();
    if of_topic.is_empty() {
        bail!(
            "group `{group}` has no offsets in topic `{topic}`: `raftline group describe {group}` shows those it has"
        );
    }
    admin.delete_offsets(&group, &of_topic).await?;
    let count = of_topic.len();
    match common.output {
        Output::Json => {
            let document = json!({ "group": group, "topic": topic, "deleted": true, "partitions": count });
            Ok(print_json(&document)?)
        }
        Output::Text => Ok(print(&format!(
            "group {group} has no offsets in topic {topic} any more, partitions: {count}\n"
        ))?),
    }
}

/// The sum over all partitions; `None` if nothing is known of any.
fn total_lag(described: &GroupDescription) -> Option<u64> {
    described.partitions.iter().filter_map(GroupPartition::lag).reduce(u64::saturating_add)
}

fn describe_text(described: &GroupDescription) -> String {
    let GroupDescription { group, assignor, members, partitions, .. } = described;
    let lag = total_lag(described).map_or_else(|| "unknown".to_owned(), output::count);
    let assignor = if assignor.is_empty() { String::new() } else { format!(", assignor {assignor}") };
    let mut text = format!(
        "group {} ({}): {}, members: {}, lag: {lag}, coordinator: node {}{assignor}\n",
        group.group,
        group.r#type,
        group.state,
        members.len(),
        group.coordinator_node
    );
    if partitions.is_empty() {
        text.push_str("\nIt has read nothing yet: it has no committed offsets.\n");
    } else {
        let offset = |offset: Option<Offset>, none: &str| {
            offset.map_or_else(|| none.to_owned(), |offset| offset.to_string())
        };
        let row = |found: &GroupPartition| {
            let lag = match (found.lag(), found.committed) {
                (Some(lag), _) => lag.to_string(),
                (None, Some(_)) => "?".to_owned(),
                (None, None) => "-".to_owned(),
            };
            let member = found.member_id.as_deref();
            let host = members.iter().find(|one| Some(one.member_id.as_str()) == member).map(host);
            vec![
                found.partition.topic.to_string(),
                found.partition.partition.to_string(),
                offset(found.committed, "-"),
                offset(found.end, "?"),
                lag,
                member.unwrap_or("-").to_owned(),
                host.unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = partitions.iter().map(row).collect();
        let headings = ["TOPIC", ">PARTITION", ">COMMITTED", ">LOG END", ">LAG", "MEMBER", "HOST"];
        text.push('\n');
        text.push_str(&table(&headings, &rows));
    }
    let idle: Vec<String> = members
        .iter()
        .filter(|member| member.assignment.iter().all(|topic| topic.partitions.is_empty()))
        .map(|member| format!("  {} {}\n", member.member_id, host(member)))
        .collect();
    if !idle.is_empty() {
        text.push_str("\nmembers without partitions:\n");
        text.extend(idle);
    }
    text
}

/// Kafka puts a slash before it.
fn host(member: &ConsumerGroupMember) -> String {
    member.client_host.trim_start_matches('/').to_owned()
}

fn group_json(group: &ConsumerGroupInfo) -> Value {
    json!({
        "group": group.group,
        "state": group.state,
        "type": group.r#type,
        "protocol_type": group.protocol_type,
        "coordinator": group.coordinator_node,
    })
}

fn describe_json(described: &GroupDescription) -> Value {
    let mut document = group_json(&described.group);
    document["assignor"] = json!(described.assignor);
    document["group_epoch"] = json!(described.group_epoch);
    document["lag"] = json!(total_lag(described));
    document["members"] = described.members.iter().map(member_json).collect();
    document["partitions"] = described
        .partitions
        .iter()
        .map(|found| {
            json!({
                "topic": &*found.partition.topic,
                "partition": found.partition.partition.0,
                "committed_offset": found.committed.map(Offset::get),
                "metadata": found.metadata,
                "start_offset": found.start.map(Offset::get),
                "log_end_offset": found.end.map(Offset::get),
                "lag": found.lag(),
                "member_id": found.member_id,
            })
        })
        .collect();
    document
}

fn member_json(member: &ConsumerGroupMember) -> Value {
    let topics = |topics: &[TopicPartitions]| -> Value {
        let topics = topics.iter().map(|of| json!({ "topic": of.topic, "partitions": of.partitions }));
        topics.collect()
    };
    json!({
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "host": host(member),
        "member_epoch": member.member_epoch,
        "subscribed_topics": member.subscribed_topics,
        "subscribed_regex": member.subscribed_regex,
        "assignment": topics(&member.assignment),
        "target": topics(&member.target),
    })
}

fn reset_json(reset: &OffsetReset) -> Value {
    json!({
        "partition": reset.partition.partition.0,
        "from_offset": reset.from.map(Offset::get),
        "to_offset": reset.to.get(),
    })
}

fn reset_text(group: &str, resets: &[OffsetReset], dry_run: bool) -> String {
    let row = |reset: &OffsetReset| {
        vec![
            reset.partition.topic.to_string(),
            reset.partition.partition.to_string(),
            reset.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            reset.to.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = resets.iter().map(row).collect();
    let table = table(&["TOPIC", ">PARTITION", ">FROM", ">TO"], &rows);
    if dry_run {
        format!("group {group} would go on here; nothing was changed, as --dry-run says:\n\n{table}")
    } else {
        format!("group {group} goes on here:\n\n{table}")
    }
}
