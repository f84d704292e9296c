//! Produce: acknowledgement, durability, idempotence, across failures.

use crate::world::{End, N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId, Offset, Term};
use raftline_shard::types::{DiskSpace, Durability, Event, ProduceError, Produced};
use std::time::Duration;

fn others(leader: NodeId) -> [NodeId; 2] {
    let others: Vec<NodeId> = [N1, N2, N3].into_iter().filter(|node| *node != leader).collect();
    [others[0], others[1]]
}

fn base_offset(outcome: Result<Produced, ProduceError>) -> Offset {
    outcome.expect("acknowledged").base_offset
}

#[test]
fn a_cluster_forms_and_takes_records() {
    let (mut world, group) = World::with_topic();
    assert_eq!(base_offset(world.produce(group, "a b c")), Offset(0));
    assert_eq!(base_offset(world.produce(group, "d")), Offset(3));
    assert_eq!(base_offset(world.produce(group, "e f")), Offset(4));
    assert_eq!(world.read_all(group), ["a b c", "d", "e f"]);
    let log = world.converged(group);
    assert_eq!(log.len(), 3);
    world.assert_no_alarms();
}

#[test]
fn the_preferred_leader_leads_a_new_topic_at_once() {
    let mut world = World::registered();
    let command = world.topic("wide", Some(6), &[]);
    world.command(command).expect("created");
    let before = world.now;
    let mut led = std::collections::BTreeMap::new();
    for partition in 0..6 {
        let group = world.group("wide", partition);
        *led.entry(world.leader(group)).or_insert(0) += 1;
    }
    assert_eq!(led.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    assert!(world.now.since(before) < Duration::from_millis(300), "no election timeout was waited for");
}

#[test]
fn acknowledgement_names_the_replicas_that_have_it() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let [slow, quick] = others(leader);
    world.node(slow).sync_us = 400_000;
    let produced = world.produce(group, "a").expect("two are a majority");
    let mut expected = vec![leader, quick];
    expected.sort();
    assert_eq!(produced.durable_on, expected);
    assert!(!produced.duplicate);
}

#[test]
fn quorum_waits_for_disks_and_the_weaker_levels_do_not() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let [first, second] = others(leader);
    world.node(first).sync_us = 300_000;
    world.node(second).sync_us = 300_000;
    let mut asked = Vec::new();
    for durability in [Durability::None, Durability::Leader, Durability::Memory, Durability::Quorum] {
        let make = world.produce_event(group, "x", None, durability, Duration::from_secs(5));
        asked.push(world.ask(leader, make));
    }
    let began = world.now;
    let mut took = Vec::new();
    for (offset, request) in asked.into_iter().enumerate() {
        assert_eq!(base_offset(world.produced(request)), Offset(offset as u64));
        took.push(world.now.since(began));
    }
    assert_eq!(took[0], Duration::ZERO, "without waiting");
    assert!(took[1] < Duration::from_millis(1), "the leader's own disk: {took:?}");
    assert!(took[2] < Duration::from_millis(250), "a majority's memory: {took:?}");
    assert!(took[3] >= Duration::from_millis(300), "a majority's disks: {took:?}");
}

#[test]
fn the_leader_dies_with_parked_produces() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "before").expect("acknowledged");
    let leader = world.leader(group);
    world.isolate(leader);
    let parked = world.send(leader, group, "parked");
    // Cut off, it notices that it lost its majority and says so, rather than leaving the client to wait.
    let outcome = world.produced(parked);
    assert!(matches!(outcome, Err(ProduceError::LeadershipLost { .. })), "{outcome:?}");
    let next =
        world.until("another leader", |world| Some(world.leader(group)).filter(|next| *next != leader));
    let request = world.send(next, group, "after");
    assert_eq!(base_offset(world.produced(request)), Offset(1));
    world.heal();
    let texts: Vec<String> = world.converged(group).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["before", "after"], "what was never committed is cut off");
    world.assert_no_alarms();
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    let (mut world, group) = World::with_topic();
    for text in ["a", "b", "c"] {
        world.produce(group, text).expect("acknowledged");
    }
    let leader = world.leader(group);
    world.end(leader, End::Killed);
    let began = world.now;
    assert_eq!(base_offset(world.produce(group, "d")), Offset(3));
    assert!(world.now.since(began) < Duration::from_secs(3), "took {:?}", world.now.since(began));
    world.start(leader);
    assert_eq!(world.read_all(group), ["a", "b", "c", "d"]);
    world.converged(group);
    world.assert_no_alarms();
}

#[test]
fn a_power_cut_of_all_loses_nothing_acknowledged() {
    let (mut world, group) = World::with_topic();
    for node in [N1, N2, N3] {
        world.node(node).sync_us = 5_000;
    }
    for text in ["a", "b", "c"] {
        world.produce(group, text).expect("acknowledged");
    }
    for node in [N1, N2, N3] {
        world.end(node, End::PowerCut);
    }
    for node in [N1, N2, N3] {
        world.start(node);
    }
    assert_eq!(base_offset(world.produce(group, "d")), Offset(3));
    assert_eq!(world.read_all(group), ["a", "b", "c", "d"]);
    world.assert_no_alarms();
}

#[test]
fn a_retry_is_given_its_first_offset() {
    let (mut world, group) = World::with_topic();
    let first = world.produce_with(group, "a b", (7, 0, 0)).expect("acknowledged");
    assert_eq!(base_offset(world.produce_with(group, "c", (7, 0, 2))), Offset(2));
    let again = world.produce_with(group, "a b", (7, 0, 0)).expect("acknowledged");
    assert!(again.duplicate);
    assert_eq!((again.base_offset, again.term), (first.base_offset, first.term));
    assert_eq!(again.max_timestamp, first.max_timestamp, "its own time is not what the log says");
    assert_eq!(world.read_all(group), ["a b", "c"]);
}

#[test]
fn a_retry_of_a_waiting_batch_waits_with_it() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    for node in others(leader) {
        world.node(node).sync_us = 100_000;
    }
    let first = world.send_with(leader, group, "a", (7, 0, 0));
    let again = world.send_with(leader, group, "a", (7, 0, 0));
    world.run_for(Duration::from_millis(50));
    assert!(!world.answers.contains_key(&first) && !world.answers.contains_key(&again));
    assert!(!world.produced(first).expect("acknowledged").duplicate);
    assert!(world.produced(again).expect("acknowledged").duplicate);
    assert_eq!(world.read_all(group), ["a"]);
}

#[test]
fn a_retry_after_a_leader_change_and_a_restart_is_recognised() {
    let (mut world, group) = World::with_topic();
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    let second = world.produce_with(group, "b", (7, 0, 1)).expect("acknowledged");
    let leader = world.leader(group);
    world.end(leader, End::Killed);
    let again = world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    assert_eq!((again.base_offset, again.duplicate), (Offset(0), true), "by the next leader");
    world.start(leader);
    world.converged(group);
    for node in [N1, N2, N3] {
        world.end(node, End::PowerCut);
    }
    for node in [N1, N2, N3] {
        world.start(node);
    }
    let again = world.produce_with(group, "b", (7, 0, 1)).expect("acknowledged");
    assert_eq!((again.base_offset, again.duplicate), (Offset(1), true), "after a restart of all");
    assert_eq!(again.max_timestamp, second.max_timestamp, "the log knows when");
    assert_eq!(base_offset(world.produce_with(group, "c", (7, 0, 2))), Offset(2));
    assert_eq!(world.read_all(group), ["a", "b", "c"]);
}

#[test]
fn a_retry_of_a_batch_that_was_cut_off_is_appended_again() {
    let (mut world, group) = World::with_topic();
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    let leader = world.leader(group);
    world.isolate(leader);
    let lost = world.send_with(leader, group, "b", (7, 0, 1));
    assert!(world.produced(lost).is_err());
    let next =
        world.until("another leader", |world| Some(world.leader(group)).filter(|next| *next != leader));
    let request = world.send_with(next, group, "b", (7, 0, 1));
    let again = world.produced(request).expect("acknowledged");
    assert_eq!((again.base_offset, again.duplicate), (Offset(1), false));
    world.heal();
    world.converged(group);
    // The old leader dropped its own copy, and knows the new one.
    world.end(next, End::Killed);
    let again = world.produce_with(group, "b", (7, 0, 1)).expect("acknowledged");
    assert_eq!((again.base_offset, again.duplicate), (Offset(1), true));
    assert_eq!(world.read_all(group), ["a", "b"]);
}

#[test]
fn gaps_and_old_epochs_are_refused() {
    let (mut world, group) = World::with_topic();
    world.produce_with(group, "a", (7, 1, 0)).expect("acknowledged");
    assert_eq!(
        world.produce_with(group, "c", (7, 1, 2)),
        Err(ProduceError::OutOfOrderSequence { expected: 1, found: 2 })
    );
    assert_eq!(
        world.produce_with(group, "z", (7, 0, 1)),
        Err(ProduceError::ProducerFenced { current: 1, found: 0 })
    );
    assert_eq!(
        world.produce_with(group, "z", (7, 2, 5)),
        Err(ProduceError::OutOfOrderSequence { expected: 0, found: 5 }),
        "a new epoch begins at zero"
    );
    world.produce_with(group, "b", (7, 2, 0)).expect("acknowledged");
    assert_eq!(world.read_all(group), ["a", "b"]);
}

#[test]
fn a_low_disk_refuses_writes_and_resumes() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    // Nobody has room: else another would lead.
    for node in [N1, N2, N3] {
        world.node(node).full = true;
    }
    world.run_for(Duration::from_millis(200));
    for node in [N1, N2, N3] {
        let low = DiskSpace::Low { free_bytes: 10, reserve_bytes: 20 };
        world.node(node).submit(Event::DiskSpace(low));
    }
    assert_eq!(world.produce(group, "b"), Err(ProduceError::DiskFull { free_bytes: 10, reserve_bytes: 20 }));
    assert_eq!(world.read_all(group), ["a"], "reads go on");
    for node in [N1, N2, N3] {
        world.node(node).full = false;
        world.node(node).submit(Event::DiskSpace(DiskSpace::Enough));
    }
    assert_eq!(base_offset(world.produce(group, "b")), Offset(1));
}

#[test]
fn an_append_that_the_disk_refuses_is_forgotten() {
    let (mut world, group) = World::with_topic();
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    let leader = world.leader(group);
    world.node(leader).full = true;
    let refused = world.send_with(leader, group, "b", (7, 0, 1));
    assert_eq!(world.produced(refused), Err(ProduceError::Busy), "not appended, and said so");
    // Another replica has room, and takes over.
    let next =
        world.until("another leader", |world| Some(world.leader(group)).filter(|next| *next != leader));
    let request = world.send_with(next, group, "b", (7, 0, 1));
    let produced = world.produced(request).expect("acknowledged");
    assert_eq!((produced.base_offset, produced.duplicate), (Offset(1), false));
    world.node(leader).full = false;
    world.converged(group);
    world.assert_no_alarms();
}

#[test]
fn a_follower_whose_disk_refuses_catches_up_later() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let [full, _] = others(leader);
    world.node(full).full = true;
    for text in ["a", "b", "c"] {
        world.produce(group, text).expect("a majority has room");
    }
    world.run_for(Duration::from_secs(1));
    world.node(full).full = false;
    assert_eq!(world.converged(group).len(), 3);
    world.assert_no_alarms();
}

#[test]
fn memory_is_not_acknowledged_by_a_majority_that_refused_to_write() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    let leader = world.leader(group);
    let [full, gone] = others(leader);
    world.end(gone, End::PowerCut);
    world.node(full).full = true;
    let wait = Duration::from_millis(700);
    let make = world.produce_event(group, "b", None, Durability::Memory, wait);
    let request = world.ask(leader, make);
    assert_eq!(world.produced(request), Err(ProduceError::TimedOut), "only the leader holds it");
    world.node(full).full = false;
    let make = world.produce_event(group, "c", None, Durability::Memory, Duration::from_secs(5));
    let request = world.ask(leader, make);
    assert_eq!(base_offset(world.produced(request)), Offset(2));
    assert_eq!(world.nodes[&full].last(group), world.nodes[&leader].last(group));
    world.assert_no_alarms();
}

#[test]
fn what_goes_from_the_log_is_recognised_still_by_every_replica() {
    let mut world = World::registered();
    let command = world.topic("short", Some(1), &[("retention.ms", "1000")]);
    world.command(command).expect("created");
    let group = world.group("short", 0);
    let leader = world.leader(group);
    let [away, other] = others(leader);
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    world.converged(group);
    world.end(away, End::Killed);
    world.produce_with(group, "b", (7, 0, 1)).expect("acknowledged");
    world.produce_with(group, "x", (8, 0, 0)).expect("acknowledged");
    world.run_for(Duration::from_secs(91));
    // The records are gone. `away` is behind the log's start and is reset.
    world.start(away);
    world.produce_with(group, "y", (8, 0, 1)).expect("acknowledged");
    let texts: Vec<String> = world.converged(group).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["y"]);
    // Whoever leads: the old leader, one that was reset, one that is restarted.
    let known = |world: &mut World, leader: NodeId| {
        assert_eq!(world.leader(group), leader);
        for (text, sequence) in [("a", (7, 0, 0)), ("b", (7, 0, 1)), ("x", (8, 0, 0)), ("y", (8, 0, 1))] {
            let again = world.produce_with(group, text, sequence).expect("acknowledged");
            assert!(again.duplicate, "{text} on {leader}");
        }
        let gap = world.produce_with(group, "z", (7, 0, 3));
        assert_eq!(gap, Err(ProduceError::OutOfOrderSequence { expected: 2, found: 3 }), "on {leader}");
    };
    known(&mut world, leader);
    for next in [away, other, leader] {
        if next == other {
            world.end(other, End::PowerCut);
            world.start(other);
            world.run_for(Duration::from_secs(1));
        }
        let from = world.leader(group);
        let transfer = |request| Event::Transfer { request, group: Some(group), to: Some(next) };
        let request = world.ask(from, transfer);
        world.shard_answer(request);
        world.until("the hand-over", |world| (world.leader(group) == next).then_some(()));
        known(&mut world, next);
    }
    world.assert_no_alarms();
}

#[test]
fn too_large_and_unknown_are_refused() {
    let mut world = World::registered();
    let command = world.topic("small", Some(1), &[("max.message.bytes", "70")]);
    world.command(command).expect("created");
    let group = world.group("small", 0);
    assert_eq!(base_offset(world.produce(group, "fits")), Offset(0));
    assert_eq!(
        world.produce(group, "does-not-fit"),
        Err(ProduceError::TooLarge { batch_bytes: 73, bytes_max: 70 })
    );
    let request = world.send(N1, GroupId(4711), "x");
    assert_eq!(world.produced(request), Err(ProduceError::UnknownGroup));
    let request = world.send(N1, GroupId::COORDINATOR, "x");
    assert_eq!(world.produced(request), Err(ProduceError::UnknownGroup), "nobody writes there");
    let leader = world.leader(group);
    let [follower, _] = others(leader);
    let request = world.send(follower, group, "x");
    let outcome = world.produced(request);
    assert!(
        matches!(outcome, Err(ProduceError::NotLeader { leader: Some(known), .. }) if known == leader),
        "{outcome:?}"
    );
}

#[test]
fn a_produce_that_finds_no_majority_times_out() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    for node in others(leader) {
        world.node(node).sync_us = 2_000_000;
    }
    let make = world.produce_event(group, "a", None, Durability::Quorum, Duration::from_millis(100));
    let request = world.ask(leader, make);
    let began = world.now;
    assert_eq!(world.produced(request), Err(ProduceError::TimedOut));
    assert_eq!(world.now.since(began), Duration::from_millis(100));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.read_all(group), ["a"], "the outcome was unknown, not a failure");
}

#[test]
fn a_batch_for_another_term_is_refused() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let term = world.describe(leader, group).expect("a replica").term;
    let send = |world: &mut World, in_term| {
        let make = world.produce_event(group, "a", None, Durability::Quorum, Duration::from_secs(5));
        let request = world.ask(leader, |request| match make(request) {
            Event::Produce { request, group, batch, payload, durability, deadline, .. } => Event::Produce {
                request,
                group,
                in_term: Some(in_term),
                batch,
                payload,
                durability,
                deadline,
            },
            other => other,
        });
        world.produced(request)
    };
    assert_eq!(base_offset(send(&mut world, term)), Offset(0));
    for other in [Term(term.get() - 1), term.next()] {
        let refused = send(&mut world, other);
        assert!(matches!(refused, Err(ProduceError::NotLeader { leader: Some(_), .. })), "{refused:?}");
    }
    assert_eq!(base_offset(send(&mut world, term)), Offset(1), "nothing was appended in between");
}
