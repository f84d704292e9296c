//! One shard hangs, or one disk is full: what that shard or node leads goes to others, and nothing else does.

use crate::node::Node;
use crate::world::{N1, N2, N3, SHARDS, World};
use raftline_proto::ids::{GroupId, NodeId};
use raftline_raft::types::Role;
use raftline_shard::types::{DiskSpace, Event};
use std::time::Duration;

const FULL: DiskSpace = DiskSpace::Low { free_bytes: 1, reserve_bytes: 2 };

/// A topic whose groups are on all shards, with one node that leads all of them.
fn led_by_one() -> (World, NodeId, Vec<GroupId>) {
    let mut world = World::registered();
    let command = world.topic("wide", Some(6), &[]);
    world.command(command).expect("created");
    let groups: Vec<GroupId> = (0..6).map(|partition| world.group("wide", partition)).collect();
    for group in &groups {
        let leader = world.leader(*group);
        if leader != N1 {
            world.ask(leader, |request| Event::Transfer { request, group: Some(*group), to: Some(N1) });
        }
    }
    for group in &groups {
        world.until("node 1 leads", |world| (world.leader(*group) == N1).then_some(()));
    }
    world.run_for(Duration::from_secs(1));
    (world, N1, groups)
}

fn shard(group: GroupId) -> usize {
    usize::try_from(group.get() % u64::from(SHARDS)).expect("few")
}

/// Who says that it leads the group; `not` is not asked.
fn leader_but(world: &World, group: GroupId, not: NodeId) -> Option<NodeId> {
    let leads = |node: &&Node| {
        let process = node.process.as_ref();
        process
            .is_some_and(|process| process.leaders.get(&group).is_some_and(|(role, _)| *role == Role::Leader))
    };
    world.nodes.values().filter(|node| node.id != not).find(leads).map(|node| node.id)
}

#[test]
fn the_groups_of_a_shard_that_hangs_move_and_no_others() {
    for hung in 0..SHARDS as usize {
        let (mut world, victim, groups) = led_by_one();
        let began = world.now;
        world.node(victim).hung.insert(hung, began);
        for group in groups.iter().filter(|group| shard(**group) == hung) {
            let next = world.until("another leader", |world| leader_but(world, *group, victim));
            let request = world.send(next, *group, "a");
            world.produced(request).expect("acknowledged");
        }
        assert!(world.now.since(began) < Duration::from_secs(4), "took {:?}", world.now.since(began));
        world.run_for(Duration::from_secs(5));
        for group in groups.iter().filter(|group| shard(**group) != hung) {
            assert_eq!(leader_but(&world, *group, victim), None, "group {group} is on a shard that goes on");
            let request = world.send(victim, *group, "b");
            world.produced(request).expect("acknowledged");
        }
        // It goes on, and finds out.
        world.node(victim).hung.clear();
        for group in &groups {
            world.produce(*group, "c").expect("acknowledged");
            world.converged(*group);
        }
        world.assert_no_alarms();
    }
}

#[test]
fn a_disk_that_hangs_counts_as_a_shard_that_does() {
    let (mut world, victim, groups) = led_by_one();
    world.node(victim).sync_us = 60_000_000;
    let request = world.send(victim, groups[0], "a");
    world.produced(request).expect("the others have it on their disks");
    let began = world.now;
    for group in &groups {
        world.until("another leader", |world| leader_but(world, *group, victim));
    }
    assert!(world.now.since(began) < Duration::from_secs(4), "took {:?}", world.now.since(began));
}

#[test]
fn a_full_disk_hands_over_what_it_leads() {
    let (mut world, victim, groups) = led_by_one();
    world.node(victim).full = true;
    world.node(N2).full = true;
    // The others hear of it with the next sign of life.
    world.run_for(Duration::from_millis(200));
    world.node(victim).submit(Event::DiskSpace(FULL));
    world.node(N2).submit(Event::DiskSpace(FULL));
    let began = world.now;
    for group in groups.iter().copied().chain([GroupId::COORDINATOR]) {
        world.until("who has room", |world| (world.leader(group) == N3).then_some(()));
    }
    assert!(world.now.since(began) < Duration::from_secs(2), "took {:?}", world.now.since(began));
    world.produce(groups[0], "a").expect_err("the others cannot write it");
    for node in [victim, N2] {
        world.node(node).full = false;
        world.node(node).submit(Event::DiskSpace(DiskSpace::Enough));
    }
    world.produce(groups[0], "b").expect("acknowledged");
    world.assert_no_alarms();
}

#[test]
fn nobody_hands_over_where_nobody_has_room() {
    let (mut world, victim, groups) = led_by_one();
    for node in [N1, N2, N3] {
        world.node(node).full = true;
    }
    world.run_for(Duration::from_millis(200));
    for node in [N1, N2, N3] {
        world.node(node).submit(Event::DiskSpace(FULL));
    }
    world.run_for(Duration::from_secs(5));
    for group in &groups {
        assert_eq!(leader_but(&world, *group, victim), None);
    }
    // One gets room: it leads.
    world.node(N3).full = false;
    world.node(N3).submit(Event::DiskSpace(DiskSpace::Enough));
    world.until("who has room", |world| (world.leader(groups[0]) == N3).then_some(()));
}
