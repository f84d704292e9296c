//! Hard states, floors and what vouches for them.

use super::*;

#[test]
fn hard_states_are_told_durable_after_the_sync_and_survive() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    let hard_state = HardState { term: Term(4), voted_for: Some(NodeId(2)) };
    machine.effects.push(Effect::SaveHardState { group: GROUP, hard_state });
    assert!(machine.turn().is_empty());
    let answers = machine.finish_sync();
    assert!(
        matches!(answers[..], [Event::HardStateDurable { group: GROUP, hard_state: saved }] if saved == hard_state),
        "{answers:?}"
    );
    let mut after = machine.after_power_cut(3);
    let (_, recovered) = after.open(GROUP);
    assert_eq!(recovered.hard_state, hard_state);
}

#[test]
fn a_vote_is_vouched_for_although_nothing_else_is_written() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    let hard_state = HardState { term: Term(4), voted_for: Some(NodeId(2)) };
    machine.effects.push(Effect::SaveHardState { group: GROUP, hard_state });
    machine.turn();
    machine.finish_sync();
    assert!(machine.turn().is_empty());
    machine.wait_for_deadline();
    machine.turn();
    assert!(machine.finish_sync().is_empty(), "a record that tells nobody anything");
    machine.turn();
    assert!(machine.world.rounds.is_empty(), "and no more than one");
    // Slot 0 is the header, 1 the vote: damage to it is no torn tail, which would be cut and forgotten.
    let path = Path::new("/data/shard-0/state");
    machine.disk.damage(path, 64, &[0; 64]).unwrap();
    let opened = StateFile::open(machine.disk.crash(1), Path::new("/data/shard-0"), 0);
    assert!(matches!(opened, Err(StateError::Damaged { at: 64, .. })), "{:?}", opened.err());
}

#[test]
fn a_vote_waits_for_room_on_a_full_disk() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.disk.set_capacity(Some(0));
    let mut hard_state = HardState::default();
    // Some fit into the room that the file has already.
    for term in 1..10_000 {
        hard_state = HardState { term: Term(term), voted_for: Some(NodeId(1)) };
        machine.effects.push(Effect::SaveHardState { group: GROUP, hard_state });
        machine.turn();
        if machine.world.rounds.is_empty() {
            break;
        }
        machine.finish_sync();
    }
    assert!(machine.world.rounds.is_empty(), "the disk never was full");
    assert_eq!(machine.world.syncs_failed, 0);
    machine.disk.set_capacity(None);
    machine.wait_for_deadline();
    machine.turn();
    let answers = machine.finish_sync();
    assert!(
        matches!(answers[..], [Event::HardStateDurable { hard_state: saved, .. }] if saved == hard_state),
        "{answers:?}"
    );
}

#[test]
fn floors_are_flushed_once_things_have_been_quiet_for_a_while() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.finish_sync();
    machine.turn();
    assert!(machine.world.rounds.is_empty(), "not for each sync");
    machine.wait_for_deadline();
    machine.turn();
    assert_eq!(machine.world.rounds.len(), 1);
    assert!(machine.finish_sync().is_empty());
    machine.turn();
    assert!(machine.world.rounds.is_empty());
    // All that is left to do is to let go of files.
    assert!(
        machine
            .executor
            .deadline()
            .is_some_and(|deadline| { deadline.since(machine.now.monotonic) > Duration::from_secs(10) })
    );
    // Damage below the floor is not a torn tail any more.
    let path = Path::new("/data/groups/7/0000000000000001.segment");
    machine.disk.damage(path, 64 + 100, b"xx").unwrap();
    let mut after = machine.after_power_cut(1);
    after.effects.push(world::open_effect(GROUP));
    let answers = after.turn();
    assert!(
        matches!(&answers[..], [Event::Failed { group: GROUP, reason }] if reason.contains("damaged")),
        "{answers:?}"
    );
    assert_eq!(after.world.failed.len(), 1);
    // The others go on.
    after.open(GroupId(9));
}
