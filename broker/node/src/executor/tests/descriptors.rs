//! A process without a descriptor left: what would need one is refused and tried again. Only a sync of what was open can fail.

use super::*;
use crate::payload::OutReply;

const OTHER: GroupId = GroupId(9);

/// Until every group has let go of its files.
fn rest(machine: &mut Machine) {
    while machine.executor.deadline().is_some() {
        machine.wait_for_deadline();
        machine.turn();
        if !machine.world.rounds.is_empty() {
            machine.finish_sync();
        }
    }
}

#[test]
fn reads_are_refused_and_close_nothing() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1; 20]);
    machine.turn();
    machine.finish_sync();
    rest(&mut machine);
    let mut fetch = |fail| {
        machine.disk.fail_opens(fail);
        machine.effects.push(world::read_effect(0, 20, 1, u64::MAX));
        machine.turn();
        machine.world.replies.pop().expect("an answer").1
    };
    assert!(matches!(fetch(true), OutReply::Shard(Reply::Fetched(Err(FetchError::Storage(_))))));
    assert!(matches!(fetch(false), OutReply::Fetched(_)));
    assert!(machine.world.failed.is_empty());
}

#[test]
fn appends_to_new_groups_are_refused_and_what_was_open_goes_on() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.open(OTHER);
    machine.append(1, &[1]);
    machine.turn();
    // The round has its descriptors already: that of the new directory, too.
    machine.disk.fail_opens(true);
    let answers = machine.finish_sync();
    assert!(matches!(answers[..], [Event::LogDurable { group: GROUP, .. }]), "{answers:?}");
    machine.append_to(OTHER, 1, &[1]);
    machine.append(1, &[1]);
    let answers = machine.turn();
    assert!(matches!(answers[..], [Event::AppendFailed { group: OTHER, .. }]), "{answers:?}");
    machine.finish_sync();
    assert_eq!(machine.executor.log(GROUP).unwrap().durable().index, Index(2));
    machine.disk.fail_opens(false);
    machine.append_to(OTHER, 1, &[1]);
    machine.turn();
    machine.finish_sync();
    assert_eq!(machine.executor.log(OTHER).unwrap().durable().index, Index(1));
    assert_eq!((machine.world.syncs_failed, machine.world.failed.len()), (0, 0));
}

#[test]
fn votes_wait_for_a_descriptor() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    let vote = |term| HardState { term: Term(term), voted_for: Some(NodeId(2)) };
    machine.disk.fail_opens(true);
    // More than the state file takes before it is written anew.
    for term in 1..2000 {
        machine.effects.push(Effect::SaveHardState { group: GROUP, hard_state: vote(term) });
        machine.turn();
        if !machine.world.rounds.is_empty() {
            machine.finish_sync();
        }
    }
    assert_eq!(machine.world.syncs_failed, 0);
    machine.disk.fail_opens(false);
    machine.wait_for_deadline();
    machine.turn();
    let answers = machine.finish_sync();
    assert!(
        matches!(answers[..], [Event::HardStateDurable { hard_state, .. }] if hard_state == vote(1999)),
        "{answers:?}"
    );
}

#[test]
fn a_log_that_could_not_be_opened_is_opened_later() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1; 3]);
    machine.turn();
    machine.finish_sync();
    let mut after = machine.after_kill();
    after.disk.fail_opens(true);
    after.effects.push(world::open_effect(GROUP));
    assert!(after.turn().is_empty());
    after.disk.fail_opens(false);
    after.wait_for_deadline();
    let answers = after.turn();
    assert!(answers.iter().any(|answer| matches!(answer, Event::Opened { .. })), "{answers:?}");
    assert!(after.world.failed.is_empty());
}

#[test]
fn a_deleted_group_waits_for_a_descriptor() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.finish_sync();
    machine.disk.fail_opens(true);
    machine.effects.push(Effect::Delete { group: GROUP });
    machine.turn();
    assert!(machine.world.deleted.is_empty() && machine.world.syncs_failed == 0);
    machine.disk.fail_opens(false);
    machine.turn();
    assert_eq!(machine.world.deleted, [GROUP]);
}

/// The kernel tells a write-back error once for each descriptor, and the allocator's sync may be the one that hears it.
#[test]
fn a_failed_sync_of_the_allocator_stops_the_process() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1; 40]);
    machine.turn();
    let (group, allocation) = machine.world.allocations.pop().expect("room is wanted");
    machine.disk.fail_next_sync();
    let result = allocation.run();
    assert!(result.is_err());
    machine.executor.allocated(group, allocation, result, &mut machine.world);
    assert_eq!(machine.world.syncs_failed, 1);
}
