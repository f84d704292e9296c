//! Compaction: when it is ordered, what every replica makes of it, and what holds up the removal of tombstones.
//!
//! A batch that says `k=v` is one record with key `k`; `k=` deletes the key.

use crate::node::Node;
use crate::world::{End, N1, N2, N3, World};
use raftline_proto::command::Command;
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_shard::types::CompactionRule;
use std::time::Duration;

/// Large enough that twenty of them make a log worth compacting.
fn large(key: &str, nth: usize) -> String {
    format!("{key}={nth}{}", "x".repeat(300))
}

const DIRTY: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.bytes", "4096"), ("delete.retention.ms", "60000")];

fn compacted_topic(configs: &[(&str, &str)]) -> (World, GroupId) {
    let mut world = World::registered();
    let command = world.topic("state", Some(1), &[&DIRTY, configs].concat());
    world.command(command).expect("created");
    let group = world.group("state", 0);
    world.leader(group);
    (world, group)
}

/// Twenty updates of two keys.
fn update(world: &mut World, group: GroupId) {
    for nth in 0..20 {
        world.produce(group, &large(["a", "b"][nth % 2], nth)).expect("acknowledged");
    }
}

/// What is left of every record, by its first letters.
fn left(world: &mut World, group: GroupId) -> Vec<(u64, String)> {
    let short = |text: String| text.chars().take_while(|char| *char != 'x').collect();
    world.converged(group).into_iter().map(|(offset, text)| (offset.get(), short(text))).collect()
}

fn commands(node: &Node, group: GroupId) -> Vec<Command> {
    let command = |body: &EntryBody| match body {
        EntryBody::Command(command) => Some(command.clone()),
        _ => None,
    };
    node.disk.live[&group].log.entries.iter().filter_map(|stored| command(&stored.info.body)).collect()
}

fn orders(world: &World, node: NodeId, group: GroupId) -> Vec<CompactionRule> {
    let mine = world.nodes[&node].compactions.iter().filter(|(of, _)| *of == group);
    mine.map(|(_, rule)| *rule).collect()
}

/// Longer than the slow timer, and less than what tombstones are kept.
const A_LOOK: Duration = Duration::from_secs(31);

#[test]
fn every_replica_keeps_each_keys_last_record() {
    let (mut world, group) = compacted_topic(&[]);
    update(&mut world, group);
    world.produce(group, "b=").expect("acknowledged");
    world.run_for(A_LOOK);
    world.run_for(A_LOOK);
    assert_eq!(left(&mut world, group), [(18, "a=18".to_owned()), (20, "b=".to_owned())]);
    for node in [N1, N2, N3] {
        assert_eq!(orders(&world, node, group).len(), 1, "one command, one job");
    }
    world.produce(group, "c=1").expect("offsets go on");
    assert_eq!(left(&mut world, group).last(), Some(&(21, "c=1".to_owned())));
    world.assert_no_alarms();
}

#[test]
fn what_is_small_or_not_compacted_by_policy_is_left_alone() {
    let (mut world, group) = compacted_topic(&[]);
    for nth in 0..5 {
        world.produce(group, &large("a", nth)).expect("acknowledged");
    }
    world.run_for(Duration::from_secs(600));
    assert_eq!(left(&mut world, group).len(), 5, "less than a segment");
    let (mut world, group) = compacted_topic(&[("cleanup.policy", "delete")]);
    update(&mut world, group);
    world.run_for(Duration::from_secs(600));
    assert_eq!(left(&mut world, group).len(), 20);
    assert_eq!(orders(&world, N1, group), []);
}

#[test]
fn the_ratio_decides() {
    let (mut world, group) =
        compacted_topic(&[("min.cleanable.dirty.ratio", "0.8"), ("delete.retention.ms", "86400000")]);
    for nth in 0..60 {
        world.produce(group, &large(&format!("key-{nth}"), nth)).expect("acknowledged");
    }
    world.run_for(A_LOOK);
    assert_eq!(orders(&world, N1, group).len(), 1);
    update(&mut world, group);
    world.run_for(Duration::from_secs(300));
    assert_eq!(orders(&world, N1, group).len(), 1, "a quarter of it is uncompacted");
    for _ in 0..12 {
        update(&mut world, group);
    }
    world.run_for(A_LOOK);
    assert_eq!(orders(&world, N1, group).len(), 2);
    assert_eq!(left(&mut world, group).len(), 62);
}

#[test]
fn another_ratio_is_gone_by_without_anything_being_written() {
    let (mut world, group) =
        compacted_topic(&[("min.cleanable.dirty.ratio", "0.8"), ("delete.retention.ms", "86400000")]);
    for nth in 0..60 {
        world.produce(group, &large(&format!("key-{nth}"), nth)).expect("acknowledged");
    }
    world.run_for(A_LOOK);
    update(&mut world, group);
    world.run_for(Duration::from_secs(300));
    assert_eq!(left(&mut world, group).len(), 80);
    world.configure("state", "min.cleanable.dirty.ratio", "0.1");
    world.run_for(A_LOOK);
    assert_eq!(left(&mut world, group).len(), 62);
}

#[test]
fn records_stay_as_they_are_for_the_least_lag() {
    let (mut world, group) = compacted_topic(&[("min.compaction.lag.ms", "200000")]);
    update(&mut world, group);
    world.run_for(Duration::from_secs(150));
    assert_eq!(orders(&world, N1, group), []);
    world.produce(group, "late=1").expect("acknowledged");
    world.run_for(Duration::from_secs(120));
    assert_eq!(orders(&world, N1, group).len(), 1);
    let last: Vec<u64> = left(&mut world, group).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(last, [18, 19, 20]);
}

#[test]
fn the_greatest_lag_compacts_however_little_there_is() {
    let (mut world, group) = compacted_topic(&[("max.compaction.lag.ms", "200000")]);
    for nth in 0..3 {
        world.produce(group, &format!("a={nth}")).expect("acknowledged");
    }
    world.run_for(Duration::from_secs(150));
    assert_eq!(left(&mut world, group).len(), 3);
    world.run_for(Duration::from_secs(120));
    assert_eq!(left(&mut world, group), [(2, "a=2".to_owned())]);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(
        orders(&world, N1, group).len(),
        2,
        "once more for tombstones that are old by now; then it rests"
    );
}

#[test]
fn tombstones_go_when_they_are_old_and_everybody_has_them() {
    let (mut world, group) = compacted_topic(&[]);
    update(&mut world, group);
    world.produce(group, "b=").expect("acknowledged");
    let away = [N1, N2, N3].into_iter().find(|node| *node != world.leader(group)).expect("one of two");
    world.run_for(A_LOOK);
    assert_eq!(left(&mut world, group).len(), 2, "compacted, the tombstone stays");
    world.run_for(Duration::from_secs(120));
    assert_eq!(left(&mut world, group), [(18, "a=18".to_owned())], "a quiet log gets rid of it");
    world.end(away, End::PowerCut);
    update(&mut world, group);
    world.produce(group, "a=").expect("acknowledged");
    world.run_for(Duration::from_secs(1800));
    let tombstone = (41, "a=".to_owned());
    assert!(left(&mut world, group).contains(&tombstone), "a replica may hold what it deletes");
    world.start(away);
    world.run_for(Duration::from_secs(900));
    assert_eq!(left(&mut world, group), [(40, "b=19".to_owned())]);
    world.assert_no_alarms();
}

#[test]
fn a_replica_that_was_away_ends_with_the_same_log() {
    let (mut world, group) = compacted_topic(&[("delete.retention.ms", "0")]);
    update(&mut world, group);
    let away = [N1, N2, N3].into_iter().find(|node| *node != world.leader(group)).expect("one of two");
    world.end(away, End::Killed);
    update(&mut world, group);
    world.produce(group, "a=").expect("acknowledged");
    world.run_for(A_LOOK);
    update(&mut world, group);
    world.produce(group, "b=").expect("acknowledged");
    world.run_for(A_LOOK);
    world.start(away);
    world.run_for(Duration::from_secs(300));
    let left: Vec<u64> = left(&mut world, group).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(left, [59], "the tombstones waited for it");
    world.assert_no_alarms();
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    let (mut world, group) = compacted_topic(&[]);
    for round in 1..4 {
        update(&mut world, group);
        world.run_for(A_LOOK);
        let leader = world.leader(group);
        assert_eq!(left(&mut world, group).len(), 2, "round {round}");
        world.end(leader, End::PowerCut);
        world.start(leader);
        world.run_for(Duration::from_secs(5));
    }
    let leader = world.leader(group);
    let points: Vec<Offset> = commands(&world.nodes[&leader], group)
        .iter()
        .map(|command| match command {
            Command::Compact { end_offset, .. } => *end_offset,
            Command::TrimTo { .. } | Command::Producers { .. } => panic!("{command:?}"),
        })
        .collect();
    assert_eq!(points, [Offset(60)], "the last command is there, earlier ones are compacted");
    world.assert_no_alarms();
}

#[test]
fn a_job_that_fails_is_tried_again_less_and_less_often() {
    let (mut world, group) = compacted_topic(&[]);
    let other = [N1, N2, N3].into_iter().find(|node| *node != world.leader(group)).expect("one of two");
    world.node(other).cannot_compact = true;
    update(&mut world, group);
    world.run_for(Duration::from_secs(1800));
    let tried = orders(&world, other, group).len();
    assert!((4..10).contains(&tried), "tried {tried} times");
    world.node(other).cannot_compact = false;
    world.run_for(Duration::from_secs(600));
    assert_eq!(left(&mut world, group).len(), 2);
    assert_eq!(orders(&world, other, group).len(), tried + 1);
}

#[test]
fn a_replica_compacts_what_is_durable_only() {
    let (mut world, group) = compacted_topic(&[]);
    let other = [N1, N2, N3].into_iter().find(|node| *node != world.leader(group)).expect("one of two");
    world.node(other).sync_us = 40_000_000;
    update(&mut world, group);
    // The node's executor asserts that it is.
    world.run_for(Duration::from_secs(35));
    assert_eq!(orders(&world, other, group), []);
    world.run_for(Duration::from_secs(120));
    assert_eq!(left(&mut world, group).len(), 2);
}

#[test]
fn a_retry_is_recognised_after_its_batch_was_compacted() {
    let (mut world, group) = compacted_topic(&[]);
    world.produce_with(group, "a=1", (7, 0, 0)).expect("acknowledged");
    update(&mut world, group);
    world.run_for(A_LOOK);
    let again = world.produce_with(group, "a=1", (7, 0, 0)).expect("recognised");
    assert!(again.duplicate);
}
