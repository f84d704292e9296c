//! The executor over the simulated disk: what it writes, what it says, and what is left after a crash.

use super::*;
use crate::payload::{PeerBody, PeerMessage};
use raftline_proto::batch::{self, Builder, Codec};
use raftline_proto::entry::{EntryBody, EntryHeader, EntryInfo, decode_run};
use raftline_proto::ids::{EntryId, HardState, NodeId, Offset, Term};
use raftline_proto::time::Timestamp;
use raftline_raft::types::{AckWanted, AppendResult, LogStart, Message, ReplicateOutcome, Round};
use raftline_shard::types::{FetchError, FindBy, Reply, RequestId};
use raftline_storage::SimDisk;
use std::time::Duration;

mod descriptors;
mod reading;
mod rotting;
mod states;
pub(super) mod world;

use world::{GROUP, Machine, PEER};

#[test]
fn appended_entries_are_durable_after_the_sync_and_there_after_a_crash() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[3, 1]);
    let answers = machine.turn();
    assert!(answers.is_empty(), "nothing is durable before the sync: {answers:?}");
    let answers = machine.finish_sync();
    assert!(
        matches!(answers[..], [Event::LogDurable { group: GROUP, last }] if last == id(1, 2)),
        "{answers:?}"
    );
    machine.append(1, &[5]);
    machine.turn();
    // The third entry was never synced: it may or may not be there, the others must.
    for seed in 0..20 {
        let mut after = machine.after_power_cut(seed);
        let (entries, recovered) = after.open(GROUP);
        assert!(entries.len() == 2 || entries.len() == 3, "seed {seed}: {} entries", entries.len());
        assert_eq!(recovered.last, id(1, entries.len() as u64), "seed {seed}");
        assert_eq!(recovered.term_starts, [id(1, 1)], "seed {seed}");
        let offsets: Vec<_> = entries.iter().map(|entry| entry.header.base_offset.0).collect();
        assert_eq!(offsets, [0, 3, 4][..entries.len()], "seed {seed}");
    }
}

#[test]
fn one_round_is_in_flight_and_the_next_gathers_what_came_meanwhile() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.open(GroupId(9));
    machine.append(1, &[1]);
    machine.turn();
    assert!(machine.executor.is_syncing());
    machine.append(1, &[1]);
    machine.append_to(GroupId(9), 1, &[1]);
    machine.turn();
    machine.append(1, &[1]);
    machine.turn();
    assert_eq!(machine.world.rounds.len(), 1);
    let answers = machine.finish_sync();
    assert!(
        matches!(answers[..], [Event::LogDurable { group: GROUP, last }] if last == id(1, 1)),
        "{answers:?}"
    );
    machine.turn();
    let groups: Vec<_> = machine.world.rounds[0].groups().collect();
    assert_eq!(groups, [GROUP, GroupId(9)]);
    let answers = machine.finish_sync();
    assert!(
        matches!(answers[..], [Event::LogDurable { last: first, .. }, Event::LogDurable { last: second, .. }]
            if first == id(1, 3) && second == id(1, 1)),
        "{answers:?}"
    );
}

#[test]
fn a_client_batch_is_stamped_and_otherwise_untouched() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(7, &[2, 3]);
    machine.turn();
    let (_, entries, bytes) = machine.replicate(1, 3, u64::MAX, 7);
    let run = decode_run(&bytes).unwrap();
    assert_eq!(run.len(), 2);
    assert_eq!(entries, 3);
    let second = bytes.slice(usize::try_from(run[0].header.entry_bytes()).unwrap() + 48..);
    let header = batch::check_crc(&second).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(2), 7));
    let sent = world::batch_of(3);
    assert_eq!(second.slice(batch::STAMP_BYTES..), sent.slice(batch::STAMP_BYTES..));
}

#[test]
fn replication_reads_what_this_turn_wrote_within_the_window() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1, 1, 1, 1]);
    // Not written yet: the Replicate of the same turn has to do that first.
    let one = u64::from(u32::try_from(world::batch_of(1).len()).unwrap()) + 48;
    let (outcome, up_to, bytes) = machine.replicate(1, 5, 2 * one + 1, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Sent, 3));
    assert_eq!(bytes.len() as u64, 2 * one);
    // At least one, however small the window.
    let (outcome, up_to, _) = machine.replicate(3, 5, 1, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Sent, 4));
    // A bare append carries nothing.
    let (outcome, up_to, bytes) = machine.replicate(5, 5, 1, 1);
    assert_eq!((outcome, up_to, bytes.len()), (ReplicateOutcome::Sent, 5, 0));
    machine.world.peers_are_busy = true;
    let (outcome, up_to, _) = machine.replicate(1, 5, u64::MAX, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Busy, 1));
}

#[test]
fn a_follower_keeps_the_leaders_bytes() {
    let mut leader = Machine::new();
    leader.open(GROUP);
    leader.append(2, &[1, 2, 3]);
    leader.turn();
    let (_, _, bytes) = leader.replicate(1, 4, u64::MAX, 2);
    let run = decode_run(&bytes).unwrap();
    let mut follower = Machine::new();
    follower.open(GROUP);
    follower.accept(&run, 0, &bytes);
    follower.turn();
    follower.accept_again(&run, 3, &bytes);
    let (_, _, copy) = follower.replicate(1, 4, u64::MAX, 2);
    assert_eq!(copy, bytes);
    // A new leader replaces the last two.
    leader.effects.push(Effect::Truncate { group: GROUP, from: Index(2) });
    leader.append_from(2, Offset(1), 5, &[4]);
    leader.turn();
    let (_, _, newer) = leader.replicate(2, 3, u64::MAX, 5);
    let run = decode_run(&newer).unwrap();
    follower.effects.push(Effect::Truncate { group: GROUP, from: Index(2) });
    follower.accept(&run, 0, &newer);
    follower.turn();
    follower.finish_sync();
    follower.turn();
    follower.finish_sync();
    let mut follower = follower.after_power_cut(1);
    let (entries, recovered) = follower.open(GROUP);
    assert_eq!(entries.iter().map(|entry| entry.header.id).collect::<Vec<_>>(), [id(2, 1), id(5, 2)]);
    assert_eq!(recovered.term_starts, [id(2, 1), id(5, 2)]);
}

#[test]
fn a_follower_vouches_for_nothing_that_its_disk_refused() {
    let mut leader = Machine::new();
    leader.open(GROUP);
    leader.append(2, &[100, 100]);
    leader.turn();
    let (_, _, bytes) = leader.replicate(1, 3, u64::MAX, 2);
    let run = decode_run(&bytes).unwrap();
    let matched = |received: u64| Effect::Send {
        group: GROUP,
        to: PEER,
        message: Message::AppendReply {
            term: Term(2),
            result: AppendResult::Matched { durable: Index(0), received: Index(received), commit: Index(0) },
            round: Round(0),
        },
    };
    let mut follower = Machine::new();
    follower.open(GROUP);
    follower.disk.set_capacity(Some(follower.disk.used_bytes()));
    follower.accept(&run, 0, &bytes);
    follower.effects.push(matched(2));
    let vote = Message::VoteReply { term: Term(2), granted: true };
    follower.effects.push(Effect::Send { group: GROUP, to: PEER, message: vote.clone() });
    let answers = follower.turn();
    assert!(matches!(answers[..], [Event::AppendFailed { last: EntryId::ZERO, .. }]), "{answers:?}");
    let sent: Vec<_> = std::mem::take(&mut follower.world.sent);
    assert!(
        matches!(&sent[..], [PeerMessage { body: PeerBody::Raft { message, .. }, .. }] if *message == vote),
        "votes do not depend on the log: {sent:?}"
    );
    // With room it says so in the very turn, without waiting for the sync.
    follower.disk.set_capacity(None);
    follower.accept(&run, 0, &bytes);
    follower.effects.push(matched(2));
    assert!(follower.turn().is_empty());
    assert_eq!((follower.world.sent.len(), follower.executor.log(GROUP).unwrap().last()), (1, id(2, 2)));
}

#[test]
fn a_full_disk_keeps_no_log_from_being_cut_or_thrown_away() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1, 1, 1]);
    machine.turn();
    machine.finish_sync();
    machine.turn();
    machine.disk.set_capacity(Some(machine.disk.used_bytes()));
    machine.effects.push(Effect::Truncate { group: GROUP, from: Index(2) });
    machine.append_from(2, Offset(1), 2, &[1]);
    let answers = machine.turn();
    assert!(matches!(answers[..], [Event::AppendFailed { last, .. }] if last == id(1, 1)), "{answers:?}");
    let start = LogStart { previous: id(2, 50), offset: Offset(60) };
    machine.effects.push(Effect::Reset { group: GROUP, start });
    assert!(machine.turn().is_empty(), "it is not closed");
    assert_eq!(machine.executor.log(GROUP).unwrap().last(), id(2, 50));
    // With room it begins to be durable by itself.
    machine.disk.set_capacity(None);
    let mut waits = 0;
    while machine.world.rounds.is_empty() {
        machine.wait_for_deadline();
        machine.turn();
        waits += 1;
        assert!(waits < 10, "it tries again");
    }
    let answers = machine.finish_sync();
    assert!(matches!(answers[..], [Event::LogDurable { last, .. }] if last == id(2, 50)), "{answers:?}");
}

#[test]
fn a_late_sync_vouches_for_nothing_that_was_replaced() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1, 1, 1]);
    machine.turn();
    machine.effects.push(Effect::Truncate { group: GROUP, from: Index(2) });
    machine.append_from(2, Offset(1), 2, &[1, 1, 1]);
    machine.turn();
    let answers = machine.finish_sync();
    assert!(matches!(answers[..], [Event::LogDurable { last, .. }] if last == id(1, 1)), "{answers:?}");
    machine.turn();
    let answers = machine.finish_sync();
    assert!(matches!(answers[..], [Event::LogDurable { last, .. }] if last == id(2, 4)), "{answers:?}");
}

#[test]
fn a_full_disk_is_told_once_with_the_logs_real_end() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.finish_sync();
    machine.turn();
    let used = machine.disk.used_bytes();
    machine.disk.set_capacity(Some(used));
    machine.append(1, &[200]);
    machine.append(1, &[200]);
    // What depends on the append is not done.
    let (outcome, up_to, _) = machine.replicate(2, 4, u64::MAX, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Busy, 2));
    machine.append(1, &[1]);
    let answers = machine.turn();
    assert!(
        matches!(answers[..], [Event::AppendFailed { group: GROUP, last, next_offset }]
            if last == id(1, 1) && next_offset == Offset(1)),
        "{answers:?}"
    );
    // Reads go on.
    let (batches, short) = machine.read(0, 1, 1, u64::MAX);
    assert_eq!((batches.len(), short), (1, false));
    // So do writes, once there is room.
    machine.disk.set_capacity(None);
    machine.next = (Index(2), Offset(1));
    machine.append(1, &[1]);
    assert!(machine.turn().is_empty());
    let answers = machine.finish_sync();
    assert!(matches!(answers[..], [Event::LogDurable { last, .. }] if last == id(1, 2)), "{answers:?}");
}

#[test]
fn a_truncation_counts_even_in_a_turn_whose_append_failed() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1, 1, 1]);
    machine.turn();
    machine.finish_sync();
    machine.turn();
    machine.disk.fail_next_write(10);
    machine.append(1, &[1]);
    machine.effects.push(Effect::Truncate { group: GROUP, from: Index(2) });
    machine.append_from(2, Offset(1), 2, &[1]);
    let answers = machine.turn();
    assert!(matches!(answers[..], [Event::AppendFailed { last, .. }] if last == id(1, 1)), "{answers:?}");
}

#[test]
fn a_failed_sync_ends_everything() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.disk.fail_next_sync();
    assert!(machine.finish_sync().is_empty());
    assert_eq!(machine.world.syncs_failed, 1);
    machine.append(1, &[1]);
    machine.effects.push(Effect::Send {
        group: GROUP,
        to: PEER,
        message: Message::VoteReply { term: Term(1), granted: true },
    });
    assert!(machine.turn().is_empty());
    assert!(machine.world.sent.is_empty() && machine.world.rounds.is_empty());
    assert_eq!(machine.executor.deadline(), None);
}

#[test]
fn a_deleted_group_is_gone_even_after_a_power_cut() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.effects.push(Effect::Delete { group: GROUP });
    machine.turn();
    // The round that is in flight syncs its directory, and says nothing about it any more.
    assert!(machine.finish_sync().is_empty());
    assert_eq!(machine.world.syncs_failed, 0);
    machine.turn();
    assert_eq!(machine.world.deleted, [GROUP]);
    assert_eq!(machine.disk.list(Path::new("/data/groups")).unwrap(), Vec::<String>::new());
    for seed in 0..10 {
        let after = machine.after_power_cut(seed);
        let left = after.disk.list(Path::new("/data/groups")).unwrap_or_default();
        assert_eq!(left, Vec::<String>::new(), "seed {seed}");
    }
    assert_eq!(machine.executor.groups_found().unwrap(), []);
    // Deleting what is not there is no failure: a crash may come between the removal and the commit's replay.
    machine.effects.push(Effect::Delete { group: GROUP });
    assert!(machine.turn().is_empty());
}

#[test]
fn a_failed_sync_of_the_groups_directory_ends_everything() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.finish_sync();
    // As it fails where the directory itself is gone.
    machine.disk.remove_dir_all(Path::new("/data/groups")).unwrap();
    machine.executor.trash.push("/data/groups/9.deleted".into());
    machine.append(1, &[1]);
    machine.turn();
    assert_eq!(machine.world.syncs_failed, 1);
    assert!(machine.world.rounds.is_empty());
    let message = Message::SteppedDown { term: Term(1) };
    machine.effects.push(Effect::Send { group: GROUP, to: PEER, message });
    assert!(machine.turn().is_empty());
    assert!(machine.world.sent.is_empty(), "nothing is performed any more");
    machine.executor.shutdown(&mut machine.world).unwrap();
}

#[test]
fn a_log_that_is_opened_elsewhere_is_there_once_it_comes_back() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.finish_sync();
    let mut after = machine.after_power_cut(1);
    assert_eq!(after.executor.groups_found().unwrap(), [GROUP]);
    after.world.opens_elsewhere = true;
    after.effects.push(world::open_effect(GROUP));
    assert!(after.turn().is_empty());
    after.effects.push(Effect::Configure {
        group: GROUP,
        config: LogConfig { segment_bytes: 4096, segment_ms: i64::MAX },
    });
    assert!(after.turn().is_empty());
    let job = after.world.opens.pop().unwrap();
    let mut answers = Vec::new();
    after.executor.log_opened(job.run(), &mut after.world, &mut answers);
    assert!(answers.is_empty());
    let answers = after.turn();
    assert!(matches!(&answers[..], [Event::Replay { .. }, Event::Opened { .. }]), "{answers:?}");
    // One that was deleted meanwhile does not come back.
    after.effects.push(world::open_effect(GroupId(9)));
    after.effects.push(Effect::Delete { group: GroupId(9) });
    after.turn();
    let job = after.world.opens.pop().unwrap();
    after.executor.log_opened(job.run(), &mut after.world, &mut Vec::new());
    assert!(after.turn().is_empty());
}

#[test]
fn a_graceful_stop_leaves_nothing_to_repair() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.effects.push(Effect::NoteCommit { group: GROUP, commit: Index(1) });
    machine.turn();
    machine.finish_sync();
    machine.executor.shutdown(&mut machine.world).unwrap();
    let disk = machine.disk.durable();
    let states = StateFile::inspect(&disk, Path::new("/data/shard-0"), 0).unwrap();
    assert_eq!(states[&GROUP].commit_hint, Index(1));
    assert!(states[&GROUP].floor > raftline_proto::ids::Position::ZERO);
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}
