//! What goes from the log is not forgotten: snapshots of the producers, by deletion, compaction and retention.

use crate::world::{End, N1, N2, N3, World};
use raftline_proto::command::Command;
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::{GroupId, Index, NodeId, Offset};
use raftline_shard::types::{DeleteUpTo, Event, ProduceError, Reply};
use std::time::Duration;

/// Longer than the slow timer.
const A_LOOK: Duration = Duration::from_secs(31);

fn topic(configs: &[(&str, &str)]) -> (World, GroupId) {
    let mut world = World::registered();
    let command = world.topic("t", Some(1), configs);
    world.command(command).expect("created");
    let group = world.group("t", 0);
    world.leader(group);
    (world, group)
}

fn delete(world: &mut World, group: GroupId, up_to: DeleteUpTo) {
    let (leader, deadline) = (world.leader(group), world.deadline(Duration::from_secs(2)));
    let request = world.ask(leader, |request| Event::DeleteRecords { request, group, up_to, deadline });
    match world.shard_answer(request) {
        Reply::RecordsDeleted(outcome) => outcome.expect("deleted"),
        other => panic!("not a deletion's answer: {other:?}"),
    };
}

/// Where the snapshots are that a node's log holds, each with how many producers it knows.
fn snapshots(world: &World, node: NodeId, group: GroupId) -> Vec<(Index, usize)> {
    let place = |body: &EntryBody, index| match body {
        EntryBody::Command(Command::Producers { producers }) => Some((index, producers.len())),
        _ => None,
    };
    let entries = &world.nodes[&node].disk.live[&group].log.entries;
    entries.iter().filter_map(|stored| place(&stored.info.body, stored.info.header.id.index)).collect()
}

fn duplicate(world: &mut World, group: GroupId, text: &str, sequence: (u64, u16, u32)) -> bool {
    world.produce_with(group, text, sequence).expect("acknowledged").duplicate
}

fn restart_all(world: &mut World) {
    for node in [N1, N2, N3] {
        world.end(node, End::PowerCut);
    }
    for node in [N1, N2, N3] {
        world.start(node);
    }
}

#[test]
fn a_retry_is_recognised_after_its_batch_was_deleted_and_all_were_restarted() {
    let (mut world, group) = topic(&[]);
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    world.produce_with(group, "b", (7, 0, 1)).expect("acknowledged");
    delete(&mut world, group, DeleteUpTo::HighWatermark);
    world.run_for(Duration::from_secs(1));
    for node in [N1, N2, N3] {
        let log = &world.nodes[&node].disk.live[&group].log;
        assert_eq!((log.start.offset, log.texts()), (Offset(2), vec![]), "the records are gone");
    }
    restart_all(&mut world);
    assert!(duplicate(&mut world, group, "b", (7, 0, 1)));
    assert!(duplicate(&mut world, group, "a", (7, 0, 0)));
    let gap = world.produce_with(group, "d", (7, 0, 3));
    assert_eq!(gap, Err(ProduceError::OutOfOrderSequence { expected: 2, found: 3 }));
    assert!(!duplicate(&mut world, group, "c", (7, 0, 2)));
    world.assert_no_alarms();
}

#[test]
fn a_deletion_below_the_last_snapshot_needs_no_other() {
    let (mut world, group) = topic(&[]);
    delete(&mut world, group, DeleteUpTo::HighWatermark);
    world.produce(group, "plain").expect("acknowledged");
    delete(&mut world, group, DeleteUpTo::HighWatermark);
    assert_eq!(snapshots(&world, N1, group), [], "nobody is known");
    for nth in 0..4 {
        world.produce_with(group, "x", (7, 0, nth)).expect("acknowledged");
    }
    for node in [N1, N2, N3] {
        world.node(node).keeps_files = true;
    }
    for offset in [2, 3, 5] {
        delete(&mut world, group, DeleteUpTo::Offset(Offset(offset)));
    }
    world.converged(group);
    assert_eq!(snapshots(&world, N1, group).len(), 1);
    world.produce_with(group, "x", (7, 0, 4)).expect("acknowledged");
    delete(&mut world, group, DeleteUpTo::HighWatermark);
    world.converged(group);
    assert_eq!(snapshots(&world, N1, group).len(), 2);
}

#[test]
fn an_active_producer_goes_on_after_a_compaction_and_a_restart() {
    let (mut world, group) = topic(&[
        ("cleanup.policy", "compact"),
        ("segment.bytes", "4096"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
    ]);
    let large = |key: &str| format!("{key}={}", "x".repeat(300));
    // Its last batch is overwritten by somebody else, an earlier one is not.
    world.produce_with(group, &large("mine"), (7, 0, 0)).expect("acknowledged");
    world.produce_with(group, &large("a"), (7, 0, 1)).expect("acknowledged");
    for round in 0..3 {
        for _ in 0..20 {
            world.produce(group, &large("a")).expect("acknowledged");
        }
        world.run_for(A_LOOK * 2);
        world.converged(group);
        for node in [N1, N2, N3] {
            let batches = world.nodes[&node].disk.live[&group].log.texts();
            assert_eq!(batches.len(), 2, "round {round}: compacted");
            assert_eq!(snapshots(&world, node, group).len(), 1, "earlier ones are compacted");
        }
        restart_all(&mut world);
        assert!(duplicate(&mut world, group, &large("a"), (7, 0, 1)), "round {round}");
    }
    let gap = world.produce_with(group, "a=1", (7, 0, 3));
    assert_eq!(gap, Err(ProduceError::OutOfOrderSequence { expected: 2, found: 3 }));
    assert!(!duplicate(&mut world, group, "a=1", (7, 0, 2)));
    world.assert_no_alarms();
}

#[test]
fn retention_waits_for_a_snapshot_and_then_all_is_quiet() {
    for limit in [("retention.ms", "1000"), ("retention.bytes", "150")] {
        let (mut world, group) = topic(&[limit]);
        for nth in 0..3 {
            world.produce_with(group, "x", (7, 0, nth)).expect("acknowledged");
        }
        world.run_for(A_LOOK);
        assert_eq!(snapshots(&world, N1, group).len(), 1, "{limit:?}: the leader writes one");
        world.run_for(A_LOOK * 2);
        let logs: Vec<(Offset, Index)> = [N1, N2, N3]
            .map(|node| {
                let log = &world.nodes[&node].disk.live[&group].log;
                (log.start.offset, log.last().index)
            })
            .to_vec();
        assert!(logs.iter().all(|(start, _)| *start >= Offset(2)), "{limit:?}: {logs:?}");
        world.run_for(Duration::from_secs(7200));
        for (node, (_, last)) in [N1, N2, N3].into_iter().zip(logs) {
            assert_eq!(world.nodes[&node].last(group).index, last, "{limit:?}: nothing more is written");
        }
        restart_all(&mut world);
        assert!(duplicate(&mut world, group, "x", (7, 0, 0)));
        world.assert_no_alarms();
    }
}

#[test]
fn a_partition_with_nothing_to_let_go_writes_no_snapshot() {
    let (mut world, group) = topic(&[("retention.ms", "86400000"), ("retention.bytes", "1000000")]);
    world.produce_with(group, "x", (7, 0, 0)).expect("acknowledged");
    world.run_for(Duration::from_secs(3600));
    assert_eq!(snapshots(&world, N1, group), []);
}

#[test]
fn a_snapshot_that_is_cut_off_says_nothing() {
    let (mut world, group) = topic(&[]);
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    world.converged(group);
    let old = world.leader(group);
    world.isolate(old);
    // It appends a batch, a snapshot that knows it, and a deletion. None is ever committed.
    let lost = world.send_with(old, group, "lost", (7, 0, 1));
    let deadline = world.deadline(Duration::from_secs(1));
    let up_to = DeleteUpTo::HighWatermark;
    world.ask(old, |request| Event::DeleteRecords { request, group, up_to, deadline });
    world.run_for(Duration::from_millis(5));
    assert_eq!(snapshots(&world, old, group).len(), 1);
    assert!(world.produced(lost).is_err());
    world.until("another leader", |world| Some(world.leader(group)).filter(|new| *new != old));
    assert!(!duplicate(&mut world, group, "b", (7, 0, 1)));
    world.heal();
    world.converged(group);
    assert_eq!(snapshots(&world, old, group), []);
    let from = world.leader(group);
    let request = world.ask(from, |request| Event::Transfer { request, group: Some(group), to: Some(old) });
    world.shard_answer(request);
    world.until("the hand-over", |world| (world.leader(group) == old).then_some(()));
    assert!(duplicate(&mut world, group, "b", (7, 0, 1)), "of the log that is");
    assert!(duplicate(&mut world, group, "a", (7, 0, 0)));
    world.assert_no_alarms();
}

#[test]
fn a_producer_that_has_written_nothing_for_a_day_is_forgotten_with_the_next_snapshot() {
    let (mut world, group) = topic(&[]);
    world.produce_with(group, "a", (7, 0, 0)).expect("acknowledged");
    world.run_for(Duration::from_secs(25 * 3600));
    world.produce_with(group, "b", (8, 0, 0)).expect("acknowledged");
    assert!(duplicate(&mut world, group, "a", (7, 0, 0)), "nothing was deleted");
    delete(&mut world, group, DeleteUpTo::HighWatermark);
    world.run_for(Duration::from_secs(1));
    for node in [N1, N2, N3] {
        let known: Vec<usize> = snapshots(&world, node, group).iter().map(|(_, known)| *known).collect();
        assert_eq!(known, [1]);
    }
    assert!(duplicate(&mut world, group, "b", (8, 0, 0)));
    assert!(!duplicate(&mut world, group, "a", (7, 0, 0)), "it may begin anywhere (KIP-360)");
    world.assert_no_alarms();
}
