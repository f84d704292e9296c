//! What is not as it should be, by what each broker says of itself and of its replicas.
//!
//! Problems make a cluster unhealthy: something is lost, stands still, or will when one more thing goes wrong. Warnings do
//! not: all is served, but not as well as it could be.

use super::{Sight, place};
use crate::output;
use raftline_client::AdminError;
use raftline_client::proto::api::{NodeStatusReply, PartitionInfo, ReplicaStatus};
use std::collections::{BTreeMap, BTreeSet};

/// How a cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Everything that is wrong.
    pub problems: Vec<String>,
    /// Everything that could be better.
    pub warnings: Vec<String>,
}

/// Entries that a replica may be behind without being called so: under load a few are always on the way. Of one that is
/// behind by fewer its leader says after ten seconds that it is not in sync.
const LAG_ENTRIES: u64 = 1000;

/// More problems than this are counted instead of listed.
const PROBLEMS_LISTED: usize = 50;

/// So many partitions are named of many that have the same problem.
const PLACES_NAMED: usize = 3;

impl Health {
    /// Of a cluster as seen at one moment.
    #[must_use]
    pub fn of(sight: &Sight) -> Self {
        let mut problems = Vec::new();
        if sight.metadata.cluster_id.is_empty() {
            problems
                .push("the cluster has not formed yet: a majority of the brokers has to be up once".into());
        }
        if sight.metadata.coordinator_node.is_none() {
            problems.push("the coordinator has no leader: a majority of its voters has to be up".into());
        }
        for (node, status) in &sight.nodes {
            match status {
                Err(error @ AdminError::NodeSilent { .. }) => problems.push(error.to_string()),
                Err(error) => problems.push(format!("node {node} could not be asked: {error}")),
                Ok(status) => {
                    problems.extend(of_node(status));
                    problems.extend(of_peers(sight, status));
                    problems.extend(closed(status));
                }
            }
        }
        problems.extend(leaderless(sight));
        problems.extend(out_of_sync(sight));
        problems.extend(behind(sight));
        if problems.len() > PROBLEMS_LISTED {
            let more = problems.len() - PROBLEMS_LISTED;
            problems.truncate(PROBLEMS_LISTED);
            problems.push(format!("and {more} more"));
        }
        Self { problems, warnings: uneven(sight).into_iter().collect() }
    }
}

fn of_node(status: &NodeStatusReply) -> Vec<String> {
    let node = status.node;
    let mut problems = Vec::new();
    let (free, reserve) = (status.disk_free_bytes, status.disk_reserve_bytes);
    let left = || format!("node {node} has {} of disk left", output::bytes(free));
    if free < reserve {
        let reserve = output::bytes(reserve);
        problems.push(format!("{}, less than its reserve of {reserve}: it takes no records", left()));
    } else if free < reserve + reserve / 2 {
        let reserve = output::bytes(reserve);
        problems.push(format!("{}: below {reserve} it takes no records any more", left()));
    }
    let condition = status.condition.clone().unwrap_or_default();
    if !condition.stuck_shards.is_empty() {
        let shards = output::nodes(&condition.stuck_shards);
        problems.push(format!("node {node}: shards {shards} do not go on, their thread or their disk hangs"));
    }
    if condition.clock_off {
        problems.push(format!(
            "node {node}: its wall clock jumped or is off the others', so no record goes by age there: set it right"
        ));
    }
    if status.slow_sync_ms > 0 {
        let seconds = status.slow_sync_ms / 1000;
        problems.push(format!("node {node}: its disk is slow, a sync of the last minute took {seconds} s"));
    }
    if status.descriptors_open * 10 > status.descriptors_max * 9 {
        let (open, max) = (status.descriptors_open, status.descriptors_max);
        problems.push(format!(
            "node {node} has {open} of {max} descriptors open: raise its limit (ulimit -n) and start it again"
        ));
    }
    if status.alarm_count > 0 {
        let last = status.alarms.last().map_or(String::new(), |alarm| {
            let place = match (alarm.group, alarm.topic.as_str()) {
                (0, _) => "the coordinator's log".to_owned(),
                (group, "") => format!("group {group}"),
                (_, topic) => format!("{topic}/{}", alarm.partition),
            };
            format!(", the last one in {place}: {}", alarm.text)
        });
        problems.push(format!(
            "node {node} has raised {} alarms since its start{last}. That is a bug, or a peer or a disk lies: keep its log",
            status.alarm_count
        ));
    }
    problems
}

/// What it says of others; of one that does not answer here either, that alone is told.
fn of_peers(sight: &Sight, status: &NodeStatusReply) -> Vec<String> {
    let node = status.node;
    let answers = |peer: u32| !matches!(sight.nodes.get(&peer), Some(Err(_)));
    let unheard = status.peers.iter().filter(|peer| !peer.alive && peer.node != node && answers(peer.node));
    unheard
        .map(|peer| {
            let why =
                if peer.last_error.is_empty() { String::new() } else { format!(" ({})", peer.last_error) };
            format!("node {node} does not hear node {} at {}{why}", peer.node, peer.address)
        })
        .collect()
}

fn closed(status: &NodeStatusReply) -> Vec<String> {
    let failed = status.replicas.iter().filter(|replica| !replica.failure.is_empty());
    failed
        .map(|replica| format!("node {} has closed {}: {}", status.node, place(replica), replica.failure))
        .collect()
}

fn partitions(sight: &Sight) -> impl Iterator<Item = (String, &PartitionInfo)> {
    sight.metadata.topics.iter().flat_map(|topic| {
        let name = |partition: &PartitionInfo| format!("{}/{}", topic.name, partition.partition);
        topic.partitions.iter().map(move |partition| (name(partition), partition))
    })
}

fn leaderless(sight: &Sight) -> Vec<String> {
    partitions(sight)
        .filter(|(_, partition)| partition.leader_node.is_none())
        .map(|(place, partition)| {
            let replicas = output::nodes(&partition.replicas);
            format!("{place} has no leader: a majority of its replicas ({replicas}) has to be up")
        })
        .collect()
}

/// A line for each node that lacks what the leaders of its partitions hold.
fn out_of_sync(sight: &Sight) -> Vec<String> {
    let mut lacking: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (place, partition) in partitions(sight) {
        let lacks =
            |node: &&u32| !partition.in_sync.contains(node) && !is_closed(sight, **node, partition.group);
        for node in partition.replicas.iter().filter(lacks) {
            lacking.entry(*node).or_default().push(place.clone());
        }
    }
    let line =
        |(node, places): (u32, Vec<String>)| format!("node {node} is not in sync in {}", named(&places));
    lacking.into_iter().map(line).collect()
}

fn is_closed(sight: &Sight, node: u32, group: u64) -> bool {
    replica(sight, node, group).is_some_and(|replica| !replica.failure.is_empty())
}

fn replica(sight: &Sight, node: u32, group: u64) -> Option<&ReplicaStatus> {
    let status = sight.nodes.get(&node)?.as_ref().ok()?;
    status.replicas.iter().find(|replica| replica.group == group)
}

/// `t/0, t/1, t/2 and 9 more`.
fn named(places: &[String]) -> String {
    match places.len().checked_sub(PLACES_NAMED) {
        None | Some(0) => places.join(", "),
        Some(more) => format!("{} and {more} more", places[..PLACES_NAMED].join(", ")),
    }
}

/// Replicas that say themselves that they lack much of what their leaders have committed. What a leader believes of them is
/// not asked: it may be wrong.
fn behind(sight: &Sight) -> Vec<String> {
    let all = || sight.nodes.iter().filter_map(|(node, status)| Some((*node, status.as_ref().ok()?)));
    let mut committed: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, status) in all() {
        for leader in status.replicas.iter().filter(|replica| replica.role == "leader") {
            let known = committed.entry(leader.group).or_default();
            *known = leader.commit_index.max(*known);
        }
    }
    let mut problems = Vec::new();
    for (node, status) in all() {
        for replica in status.replicas.iter().filter(|replica| replica.failure.is_empty()) {
            let committed = committed.get(&replica.group).copied().unwrap_or(0);
            let lag = committed.saturating_sub(replica.last_index);
            if lag > LAG_ENTRIES {
                problems.push(format!("node {node} is {lag} entries behind in {}", place(replica)));
            }
        }
    }
    problems
}

/// Whether leaders could be spread better over the brokers that answer.
fn uneven(sight: &Sight) -> Option<String> {
    let mut led: BTreeMap<u32, usize> = BTreeMap::new();
    let mut places = BTreeSet::new();
    for (node, status) in sight.nodes.iter().filter_map(|(node, status)| Some((*node, status.as_ref().ok()?)))
    {
        // Where there is one replica there is nothing to choose.
        let movable = |replica: &&ReplicaStatus| {
            replica.group != 0 && replica.role == "leader" && replica.voters.len() > 1
        };
        let movable = status.replicas.iter().filter(movable);
        *led.entry(node).or_default() += movable.map(|replica| places.insert(replica.group)).count();
    }
    let total: usize = led.values().sum();
    let (most, least) = (led.values().max()?, led.values().min()?);
    let hint = "`raftline partition transfer TOPIC/PARTITION --to NODE` moves one";
    if led.len() > 1 && total >= led.len() && *most == total {
        let node = led.iter().find(|(_, count)| *count == most).map_or(0, |(node, _)| *node);
        return Some(format!(
            "node {node} leads all {total} partitions that others could lead as well: {hint}"
        ));
    }
    let fair = total / led.len();
    if most - least > (fair / 2).max(2) {
        let counts: Vec<String> =
            led.iter().map(|(node, count)| format!("node {node} leads {count}")).collect();
        return Some(format!("leaders are uneven: {}: {hint}", counts.join(", ")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_client::proto::api::{AlarmStatus, Condition, MetadataReply, PeerStatus, TopicInfo};

    /// Three nodes, three partitions of three replicas each, one led by each node.
    fn healthy() -> Sight {
        let partition = |partition: u32| PartitionInfo {
            partition,
            group: u64::from(partition) + 1,
            leader_node: Some(partition + 1),
            replicas: vec![1, 2, 3],
            in_sync: vec![1, 2, 3],
            ..PartitionInfo::default()
        };
        let topic = TopicInfo {
            name: "t".into(),
            partitions: (0..3).map(partition).collect(),
            ..TopicInfo::default()
        };
        let metadata = MetadataReply {
            cluster_id: "1".into(),
            coordinator_node: Some(1),
            topics: vec![topic],
            ..MetadataReply::default()
        };
        let status = |node: u32| NodeStatusReply {
            node,
            disk_free_bytes: 200,
            disk_reserve_bytes: 100,
            descriptors_open: 50,
            descriptors_max: 100,
            replicas: (1..=3)
                .map(|group: u32| ReplicaStatus {
                    group: group.into(),
                    topic: "t".into(),
                    partition: group - 1,
                    role: if group == node { "leader".into() } else { "follower".into() },
                    commit_index: 5000,
                    last_index: 5000,
                    voters: vec![1, 2, 3],
                    ..ReplicaStatus::default()
                })
                .collect(),
            ..NodeStatusReply::default()
        };
        Sight { metadata, nodes: (1..=3).map(|node| (node, Ok(status(node)))).collect() }
    }

    fn of(change: impl FnOnce(&mut Sight, &mut NodeStatusReply)) -> Health {
        let mut sight = healthy();
        let mut status = sight.nodes[&1].clone().expect("up");
        change(&mut sight, &mut status);
        if sight.nodes[&1].is_ok() {
            sight.nodes.insert(1, Ok(status));
        }
        Health::of(&sight)
    }

    fn check(change: impl FnOnce(&mut Sight, &mut NodeStatusReply), named: &str) {
        let problems = of(change).problems;
        assert!(problems.len() == 1 && problems[0].contains(named), "{problems:?} should name `{named}`");
    }

    #[test]
    fn every_ill_is_named() {
        assert_eq!(Health::of(&healthy()), Health::default());
        check(|sight, _| sight.metadata.cluster_id.clear(), "not formed");
        check(|sight, _| sight.metadata.coordinator_node = None, "coordinator");
        check(|sight, _| sight.metadata.topics[0].partitions[0].leader_node = None, "t/0 has no leader");
        check(|_, status| status.disk_free_bytes = 99, "it takes no records");
        check(|_, status| status.disk_free_bytes = 149, "any more");
        check(|_, status| status.replicas[0].failure = "bad sector".into(), "closed t/0: bad sector");
        check(|_, status| status.descriptors_open = 91, "91 of 100 descriptors");
        check(|_, status| status.slow_sync_ms = 3200, "took 3 s");
        let clock = Condition { clock_off: true, ..Condition::default() };
        check(|_, status| status.condition = Some(clock), "wall clock");
        let stuck = Condition { stuck_shards: vec![2], ..Condition::default() };
        check(|_, status| status.condition = Some(stuck), "shards 2 do not go on");
        let alarm = AlarmStatus { group: 2, topic: "t".into(), partition: 1, text: "Odd".into() };
        check(
            |_, status| (status.alarm_count, status.alarms) = (4, vec![alarm]),
            "4 alarms since its start, the last one in t/1: Odd",
        );
        let peer = PeerStatus { node: 2, address: "b:9".into(), ..PeerStatus::default() };
        check(|_, status| status.peers = vec![peer.clone()], "does not hear node 2 at b:9");
        // One that nobody hears is one line, as long as nobody lacks it.
        let down = AdminError::NodeSilent { node: 2, reason: "refused".into() };
        check(
            |sight, status| {
                sight.nodes.insert(2, Err(down));
                status.peers = vec![peer];
            },
            "node 2 does not answer",
        );
    }

    #[test]
    fn replicas_are_judged_by_what_they_say_themselves() {
        check(|_, status| status.replicas[1].last_index = 3999, "node 1 is 1001 entries behind in t/1");
        assert_eq!(of(|_, status| status.replicas[1].last_index = 4000).problems, Vec::<String>::new());
        // Behind by little, and for long: its leader does not count it in sync.
        check(
            |sight, _| {
                for partition in &mut sight.metadata.topics[0].partitions {
                    partition.in_sync = vec![2, 3];
                }
            },
            "node 1 is not in sync in t/0, t/1, t/2",
        );
        let closed = of(|sight, status| {
            sight.metadata.topics[0].partitions[0].in_sync = vec![2, 3];
            status.replicas[0].failure = "bad sector".into();
        });
        assert_eq!(closed.problems, ["node 1 has closed t/0: bad sector"], "said once");
    }

    #[test]
    fn leaders_on_one_node_are_a_warning() {
        let mut sight = healthy();
        for (node, status) in &mut sight.nodes {
            for replica in &mut status.as_mut().expect("up").replicas {
                replica.role = if *node == 1 { "leader".into() } else { "follower".into() };
            }
        }
        let health = Health::of(&sight);
        assert_eq!(health.problems, Vec::<String>::new());
        assert!(
            health.warnings.len() == 1 && health.warnings[0].contains("node 1 leads all 3"),
            "{health:?}"
        );
    }
}
