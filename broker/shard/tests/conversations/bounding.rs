//! Every queue has an end, every group its price.

use crate::world::{End, N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId};
use raftline_raft::types::Role;
use raftline_shard::Shard;
use raftline_shard::limits::{PARKED_COMMANDS_MAX, PARKED_FETCHES_MAX, PENDING_ENTRIES_MAX};
use raftline_shard::types::{
    CoordinatorCommand, CoordinatorError, DiskSpace, Event, FetchError, ProduceError, Reply, RequestId,
};
use std::time::Duration;

/// Sends one more than fits, lets a moment pass, and gives the one answer that has come.
fn overflow(
    world: &mut World,
    fits: usize,
    mut send: impl FnMut(&mut World) -> RequestId,
) -> (RequestId, Vec<RequestId>) {
    let mut requests: Vec<RequestId> = (0..=fits).map(|_| send(world)).collect();
    world.run_for(Duration::from_millis(1));
    let last = requests.pop().expect("one more");
    assert!(requests.iter().all(|request| !world.answers.contains_key(request)), "those that fit wait");
    assert!(world.answers.contains_key(&last), "the one too many is told at once");
    (last, requests)
}

#[test]
fn too_many_pending_produces_are_refused_as_busy() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "the leader's own first entry is committed with it").expect("acknowledged");
    world.muted.insert(group);
    let (last, waiting) = overflow(&mut world, PENDING_ENTRIES_MAX, |world| world.send(leader, group, "x"));
    assert_eq!(world.produced(last), Err(ProduceError::Busy));
    world.muted.clear();
    for request in waiting {
        world.produced(request).expect("acknowledged once there is a majority again");
    }
    world.produce(group, "y").expect("and there is room again");
}

#[test]
fn too_many_parked_fetches_are_refused_as_busy() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let wait = Duration::from_secs(2);
    let (last, waiting) =
        overflow(&mut world, PARKED_FETCHES_MAX, |world| world.fetch_from(leader, group, 0, 1, wait));
    assert_eq!(world.fetched(last), Err(FetchError::Busy));
    for request in waiting {
        world.fetched(request).expect("answered by its deadline");
    }
    let again = world.fetch_from(leader, group, 0, 1, Duration::from_millis(1));
    world.fetched(again).expect("there is room again");
}

#[test]
fn too_many_waiting_commands_are_refused_as_busy() {
    let mut world = World::registered();
    let leader = world.leader(GroupId::COORDINATOR);
    world.muted.insert(GroupId::COORDINATOR);
    let deadline = world.deadline(Duration::from_secs(5));
    let command = CoordinatorCommand::AllocateProducerId;
    let (last, _) = overflow(&mut world, PARKED_COMMANDS_MAX, |world| {
        let command = command.clone();
        world.ask(leader, |request| Event::Coordinate { request, command, deadline })
    });
    assert_eq!(world.shard_answer(last), Reply::Coordinated(Err(CoordinatorError::Busy)));
}

#[test]
fn messages_for_unknown_groups_are_dropped_and_counted() {
    let mut world = World::registered();
    let group = GroupId(4712);
    let message = raftline_raft::types::Message::TimeoutNow { term: raftline_proto::ids::Term(9) };
    world.node(N1).submit(Event::Peer { from: N2, group, message, entries: Vec::new(), payload: None });
    world.run_for(Duration::from_millis(1));
    let process = world.nodes[&N1].process.as_ref().expect("runs");
    assert_eq!(process.shards[0].counters().messages_to_unknown_groups, 1);
    world.assert_no_alarms();
}

#[test]
fn an_idle_group_has_no_timer() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    world.run_for(Duration::from_secs(60));
    assert_eq!(group.get() % 2, 1, "it is on shard 1, which keeps no liveness");
    for node in world.nodes.values() {
        let shard: &Shard = &node.process.as_ref().expect("runs").shards[1];
        let wait = shard.deadline().map(|at| at.since(world.now));
        assert!(wait.is_none_or(|wait| wait > Duration::from_secs(500)), "only retention is ahead: {wait:?}");
    }
}

/// A partition that has more than its topic keeps, and who leads it.
fn over_its_bound() -> (World, GroupId, NodeId) {
    let mut world = World::registered();
    let command = world.topic("short", Some(1), &[("retention.bytes", "200")]);
    world.command(command).expect("created");
    let group = world.group("short", 0);
    for text in ["a", "b", "c", "d"] {
        world.produce(group, text).expect("acknowledged");
    }
    let leader = world.leader(group);
    (world, group, leader)
}

#[test]
fn a_low_disk_has_retention_looked_at_by_whoever_leads_then() {
    let (mut world, group, leader) = over_its_bound();
    world.node(leader).submit(Event::DiskSpace(DiskSpace::Low { free_bytes: 1, reserve_bytes: 2 }));
    // It hands over to one that has room, which looks at its next round.
    world.run_for(Duration::from_secs(31));
    let description = world.describe(leader, group).expect("is here");
    assert!(description.start_offset > raftline_proto::ids::Offset(0), "{description:?}");
}

#[test]
fn a_low_disk_looks_at_retention_at_once_where_nobody_has_room() {
    let (mut world, group, leader) = over_its_bound();
    for node in [N1, N2, N3] {
        world.node(node).full = true;
    }
    world.run_for(Duration::from_secs(1));
    // All say that they are below their reserves; the reserve takes what is no record.
    for node in [N1, N2, N3] {
        world.node(node).full = false;
    }
    world.node(leader).submit(Event::DiskSpace(DiskSpace::Low { free_bytes: 1, reserve_bytes: 2 }));
    world.run_for(Duration::from_millis(100));
    for node in [N1, N2, N3] {
        let description = world.describe(node, group).expect("is here");
        assert!(description.start_offset > raftline_proto::ids::Offset(0), "{description:?}");
    }
}

#[test]
fn a_thousand_groups_find_new_leaders() {
    const TOPICS: usize = 10;
    const PARTITIONS: u32 = 100;
    let mut world = World::registered();
    let mut groups: Vec<GroupId> = Vec::new();
    for topic in 0..TOPICS {
        let name = format!("t{topic}");
        let command = world.topic(&name, Some(PARTITIONS), &[]);
        world.command(command).expect("created");
        for partition in 0..PARTITIONS {
            groups.push(world.group(&name, usize::try_from(partition).expect("small")));
        }
    }
    for group in &groups {
        world.leader(*group);
    }
    let terms = |world: &mut World, nodes: &[NodeId]| -> u64 {
        groups
            .iter()
            .map(|group| {
                let term = |node: &NodeId| {
                    world.nodes[node].disk.live.get(group).map_or(0, |files| files.hard_state.term.get())
                };
                nodes.iter().map(term).max().unwrap_or(0)
            })
            .sum()
    };
    let before = terms(&mut world, &[N1, N2, N3]);
    world.end(N1, End::PowerCut);
    let began = world.now;
    world.until("a leader for every group among the two", |world| {
        let led = |group: &GroupId| {
            [N2, N3].iter().any(|node| {
                let process = world.nodes[node].process.as_ref().expect("runs");
                process.leaders.get(group).is_some_and(|(role, _)| *role == Role::Leader)
            })
        };
        groups.iter().all(led).then_some(())
    });
    let took = world.now.since(began);
    assert!(took < Duration::from_secs(5), "took {took:?}");
    let moved = groups.len() / 3;
    let elections = terms(&mut world, &[N2, N3]) - before;
    assert!(elections < 3 * u64::try_from(moved).expect("small"), "{elections} elections for {moved} groups");
    println!("{moved} groups have new leaders {took:?} after the power cut, after {elections} elections");
}
