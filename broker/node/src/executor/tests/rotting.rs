//! Bytes that change or go under a running process: they are never given away, and one replica is closed.

use super::*;
use crate::payload::OutReply;
use raftline_storage::DiskFile;

const OTHER: GroupId = GroupId(9);

/// A machine with two groups of twenty entries.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.open(OTHER);
    machine.append(1, &[1; 20]);
    machine.append_to(OTHER, 1, &[1; 20]);
    machine.turn();
    machine.finish_sync();
    machine
}

fn segment(group: GroupId) -> std::path::PathBuf {
    format!("/data/groups/{group}/0000000000000001.segment").into()
}

/// Flips a bit of the payload of [`GROUP`]'s entry.
fn flip(machine: &Machine, entry: u64) {
    let bytes = machine.disk.read(&segment(GROUP)).unwrap();
    let size = 48 + world::batch_of(1).len();
    let at = 64 + usize::try_from(entry - 1).unwrap() * size + size - 3;
    machine.disk.damage(&segment(GROUP), at as u64, &[bytes[at] ^ 0x10]).unwrap();
}

fn failed(answers: &[Event<Payload>]) -> Vec<GroupId> {
    let group = |answer: &Event<Payload>| match answer {
        Event::Failed { group, .. } => Some(*group),
        _ => None,
    };
    answers.iter().filter_map(group).collect()
}

fn fetch(machine: &mut Machine, from: u64) -> (OutReply, Vec<Event<Payload>>) {
    machine.effects.push(world::read_effect(from, 20, 1, u64::MAX));
    let answers = machine.turn();
    let (_, reply) = machine.world.replies.pop().expect("an answer");
    (reply, answers)
}

/// Entries of another group can still be read and sent.
fn other_goes_on(machine: &mut Machine) {
    assert_eq!(machine.executor.log(OTHER).unwrap().last().index, Index(20));
    machine.append_to_at(OTHER, 21, 1);
    machine.turn();
    machine.finish_sync();
    assert_eq!(machine.executor.log(OTHER).unwrap().durable().index, Index(21));
}

#[test]
fn a_fetch_gets_what_is_sound_and_the_replica_is_closed() {
    let mut machine = machine();
    flip(&machine, 10);
    let (reply, answers) = fetch(&mut machine, 0);
    let OutReply::Fetched(fetched) = reply else { panic!("{reply:?}") };
    assert_eq!(fetched.batches.len(), 9);
    assert_eq!((failed(&answers), &machine.world.failed[..]), (vec![GROUP], &[GROUP][..]));
    assert!(machine.executor.log(GROUP).is_none());
    other_goes_on(&mut machine);
}

#[test]
fn a_fetch_of_the_damage_itself_is_refused_and_the_replica_is_closed() {
    let mut machine = machine();
    flip(&machine, 10);
    let (reply, answers) = fetch(&mut machine, 9);
    let OutReply::Shard(Reply::Fetched(Err(FetchError::Storage(reason)))) = reply else {
        panic!("{reply:?}")
    };
    assert!(reason.contains("damaged at byte"), "{reason}");
    assert_eq!(failed(&answers), [GROUP]);
    let (reply, answers) = fetch(&mut machine, 0);
    assert!(format!("{reply:?}").contains("is not open"), "{reply:?}");
    assert!(failed(&answers).is_empty());
    other_goes_on(&mut machine);
}

#[test]
fn a_follower_gets_what_is_sound_and_the_replica_is_closed() {
    let mut machine = machine();
    flip(&machine, 10);
    let (outcome, up_to, bytes) = machine.replicate(1, 21, u64::MAX, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Sent, 10));
    assert_eq!(raftline_proto::entry::decode_run(&bytes).unwrap().len(), 9);
    assert_eq!(machine.world.failed, [GROUP]);
    other_goes_on(&mut machine);
}

#[test]
fn slow_clients_get_a_batch_at_a_time_once_much_is_held() {
    let mut machine = machine();
    let dir = Path::new("/data/much");
    let file = machine.disk.create(dir).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    let held: Vec<_> =
        (0..limits::READ_BYTES_HELD_MAX >> 20).map(|_| file.read(0, 1 << 20).unwrap()).collect();
    let (reply, _) = fetch(&mut machine, 0);
    let OutReply::Fetched(fetched) = reply else { panic!("{reply:?}") };
    assert_eq!(fetched.batches.len(), 1);
    drop(held);
    drop(fetched);
    let (reply, _) = fetch(&mut machine, 0);
    assert!(matches!(reply, OutReply::Fetched(fetched) if fetched.batches.len() == 20));
}

#[test]
fn a_scrub_finds_what_nobody_reads() {
    let mut machine = machine();
    flip(&machine, 10);
    let mut scrub = raftline_storage::Scrub::new(machine.disk.clone(), "/data/groups".into());
    let mut answers = Vec::new();
    loop {
        let seen = scrub.step(500).unwrap();
        if seen.is_end {
            break;
        }
        if let Some(suspect) = seen.suspect {
            machine.executor.examine(suspect, &mut machine.world, &mut answers);
        }
    }
    assert_eq!((failed(&answers), &machine.world.failed[..]), (vec![GROUP], &[GROUP][..]));
    other_goes_on(&mut machine);
}

/// What was acknowledged a moment before the process was killed is no torn tail.
#[test]
fn the_last_entries_that_were_synced_are_not_cut_after_a_kill() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1; 3]);
    machine.turn();
    machine.finish_sync();
    machine.append(1, &[1]);
    machine.turn();
    for (entry, kept) in [(3, false), (4, true)] {
        let mut after = machine.after_kill();
        flip(&after, entry);
        after.effects.push(world::open_effect(GROUP));
        let answers = after.turn();
        let opened = answers.iter().any(|answer| matches!(answer, Event::Opened { .. }));
        assert_eq!(
            (opened, failed(&answers).len()),
            (kept, usize::from(!kept)),
            "entry {entry}: {answers:?}"
        );
    }
}
