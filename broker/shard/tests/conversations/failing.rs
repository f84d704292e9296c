//! Drain, quarantine, isolation, idleness.

use crate::world::{End, N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId};
use raftline_raft::types::{Alarm, Role};
use raftline_shard::types::{Event, FetchError, ProduceError, ShardAlarm};
use std::time::Duration;

fn led_by(world: &World, node: NodeId) -> usize {
    let process = world.nodes[&node].process.as_ref().expect("runs");
    process.leaders.values().filter(|(role, _)| *role == Role::Leader).count()
}

#[test]
fn a_drain_hands_everything_over() {
    let mut world = World::registered();
    let command = world.topic("wide", Some(6), &[]);
    world.command(command).expect("created");
    let groups: Vec<GroupId> = (0..6).map(|partition| world.group("wide", partition)).collect();
    for group in &groups {
        world.produce(*group, "a").expect("acknowledged");
    }
    let leader = world.leader(groups[0]);
    assert!(led_by(&world, leader) > 0);
    world.node(leader).submit(Event::Drain);
    let began = world.now;
    world.until("both shards drained", |world| (world.drained == 2).then_some(()));
    assert!(world.now.since(began) < Duration::from_millis(300), "took {:?}", world.now.since(began));
    assert_eq!(led_by(&world, leader), 0);
    let request = world.send(leader, groups[0], "x");
    let outcome = world.produced(request);
    assert!(matches!(outcome, Err(ProduceError::NotLeader { .. })), "{outcome:?}");
    world.end(leader, End::Killed);
    for group in groups {
        world.produce(group, "b").expect("acknowledged");
    }
    world.assert_no_alarms();
}

#[test]
fn a_drain_without_heirs_ends_at_once() {
    let mut world = World::registered();
    world.end(N2, End::Killed);
    world.end(N3, End::Killed);
    world.run_for(Duration::from_secs(2));
    world.node(N1).submit(Event::Drain);
    world.run_for(Duration::from_millis(1));
    assert_eq!(world.drained, 2);
}

#[test]
fn a_log_that_fails_is_quarantined_and_another_leads() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    let leader = world.leader(group);
    world.node(leader).submit(Event::Failed { group, reason: "segment 3 is unreadable".to_owned() });
    let next =
        world.until("another leader", |world| Some(world.leader(group)).filter(|next| *next != leader));
    let request = world.send(next, group, "b");
    world.produced(request).expect("acknowledged");
    let fetch = world.fetch_from(leader, group, 0, 1, Duration::ZERO);
    assert_eq!(world.fetched(fetch), Err(FetchError::Storage("segment 3 is unreadable".to_owned())));
    let description = world.describe(leader, group).expect("is here");
    assert_eq!(description.failure.as_deref(), Some("segment 3 is unreadable"));
}

#[test]
fn a_quarantined_leader_says_so_until_it_is_heard() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    world.run_for(Duration::from_secs(1));
    let leader = world.leader(group);
    // Its node lives on, so nobody waits for another leader; what it says of this group is lost for a second.
    world.muted.insert(group);
    world.node(leader).submit(Event::Failed { group, reason: "segment 3 is unreadable".to_owned() });
    world.run_for(Duration::from_secs(1));
    world.muted.clear();
    let began = world.now;
    let next =
        world.until("another leader", |world| Some(world.leader(group)).filter(|next| *next != leader));
    assert!(world.now.since(began) < Duration::from_secs(4), "took {:?}", world.now.since(began));
    let request = world.send(next, group, "b");
    world.produced(request).expect("acknowledged");
    // Once heard, it is silent.
    world.run_for(Duration::from_secs(40));
    let before = world.nodes[&leader].effects_done;
    world.run_for(Duration::from_secs(10));
    let effects = world.nodes[&leader].effects_done - before;
    assert!(effects <= 2 * 101, "{effects} effects in ten seconds: more than signs of life");
}

#[test]
fn an_idle_cluster_sends_signs_of_life_only() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    world.run_for(Duration::from_secs(3));
    let before: usize = world.nodes.values().map(|node| node.effects_done).sum();
    world.run_for(Duration::from_secs(10));
    let after: usize = world.nodes.values().map(|node| node.effects_done).sum();
    // Three nodes, two peers each, ten times a second; and nothing else.
    assert!(after - before <= 3 * 2 * 101, "{} effects in ten idle seconds", after - before);
}

#[test]
fn a_follower_that_was_away_catches_up() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let away = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    world.end(away, End::PowerCut);
    for round in 0..50 {
        world.produce(group, &format!("r{round}")).expect("acknowledged");
    }
    world.start(away);
    assert_eq!(world.converged(group).len(), 50);
    world.assert_no_alarms();
}

#[test]
fn a_follower_behind_the_start_begins_anew() {
    let mut world = World::registered();
    let command = world.topic("short", Some(1), &[("retention.ms", "1000")]);
    world.command(command).expect("created");
    let group = world.group("short", 0);
    world.produce(group, "a").expect("acknowledged");
    let leader = world.leader(group);
    let away = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    world.end(away, End::Killed);
    for text in ["b", "c", "d"] {
        world.produce(group, text).expect("acknowledged");
    }
    world.run_for(Duration::from_secs(31));
    world.start(away);
    world.produce(group, "e").expect("acknowledged");
    world.until("the follower at the end", |world| {
        (world.nodes[&away].last(group) == world.nodes[&leader].last(group)).then_some(())
    });
    world.end(leader, End::Killed);
    world.produce(group, "f").expect("acknowledged");
    world.assert_no_alarms();
}

#[test]
fn two_runs_are_the_same() {
    let trace = || {
        let (mut world, group) = World::with_topic();
        for text in ["a", "b", "c"] {
            world.produce(group, text).expect("acknowledged");
        }
        let leader = world.leader(group);
        world.end(leader, End::PowerCut);
        world.produce(group, "d").expect("acknowledged");
        let effects: Vec<usize> = world.nodes.values().map(|node| node.effects_done).collect();
        (world.now, effects, world.read_all(group))
    };
    assert_eq!(trace(), trace());
}

#[test]
fn a_follower_whose_disk_lost_what_it_vouched_for_is_closed_and_elects_nobody() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let victim = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    world.produce(group, "a").expect("acknowledged");
    world.run_for(Duration::from_secs(1));
    let copy = world.node(victim).disk.live[&group].clone();
    for text in ["b", "c", "d"] {
        world.produce(group, text).expect("acknowledged");
    }
    world.run_for(Duration::from_secs(1));
    world.end(victim, End::Killed);
    // Its hard state stays: the same term goes on, and its log is shorter than it said.
    world.node(victim).disk.live.insert(group, copy.clone());
    world.node(victim).disk.durable.insert(group, copy);
    world.start(victim);
    let failure = world.until("the replica closes", |world| {
        world.describe(victim, group).and_then(|description| description.failure)
    });
    assert!(failure.contains("Lost"), "{failure}");
    let alarms: Vec<_> = std::mem::take(&mut world.alarms);
    let lost = |alarm: &ShardAlarm| matches!(alarm, ShardAlarm::Raft(Alarm::Lost { .. }));
    assert!(alarms.iter().all(|(of, alarm)| *of == group && lost(alarm)), "{alarms:?}");
    // It would have elected the third, or been elected: with the leader gone there is no majority.
    world.end(leader, End::Killed);
    world.run_for(Duration::from_secs(5));
    for node in world.running() {
        let role = world.describe(node, group).map(|description| description.role);
        assert_ne!(role, Some(Role::Leader), "node {node}");
    }
    world.start(leader);
    assert_eq!(world.read_all(group), ["a", "b", "c", "d"]);
}
