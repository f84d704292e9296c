//! The executor over the simulated disk: what it writes, what it says, and what is left after a crash.

use super::*;
use raftline_proto::batch::{self, Builder, Codec};
use raftline_proto::entry::{EntryBody, EntryHeader, EntryInfo, decode_run};
use raftline_proto::ids::{EntryId, HardState, NodeId, Offset, Term};
use raftline_proto::time::Timestamp;
use raftline_raft::types::{AckWanted, AppendResult, LogStart, Message, ReplicateOutcome};
use raftline_shard::types::{FetchError, FindBy, Reply, RequestId};
use raftline_storage::SimDisk;
use std::time::Duration;

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

#[test]
fn idle_groups_let_go_of_their_files() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[1]);
    machine.turn();
    machine.finish_sync();
    machine.turn();
    let mut waits = 0;
    while machine.executor.deadline().is_some() {
        machine.wait_for_deadline();
        machine.turn();
        if !machine.world.rounds.is_empty() {
            machine.finish_sync();
        }
        waits += 1;
        assert!(waits < 10, "an idle executor has no timer");
    }
    let opens = machine.disk.counters().opens;
    machine.append(1, &[1]);
    machine.turn();
    assert!(machine.disk.counters().opens > opens, "the file had been closed");
}

#[test]
fn a_large_log_is_replayed_in_bounded_bits() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    let count = limits::REPLAY_ENTRIES_MAX + 10;
    for _ in 0..count {
        machine.append(1, &[1]);
    }
    machine.turn();
    machine.finish_sync();
    let mut after = machine.after_power_cut(0);
    after.effects.push(world::open_effect(GROUP));
    let first = after.turn();
    assert!(
        matches!(&first[..], [Event::Replay { entries, .. }] if entries.len() == limits::REPLAY_ENTRIES_MAX)
    );
    let second = after.turn();
    assert!(matches!(&second[..], [Event::Replay { entries, .. }, Event::Opened { recovered, .. }]
            if entries.len() == 10 && recovered.last.index.0 == count as u64));
}

#[test]
fn a_fetch_from_the_middle_of_a_batch_gets_the_whole_batch() {
    let mut machine = Machine::new();
    machine.open(GROUP);
    machine.append(1, &[3, 3, 3]);
    machine.turn();
    let (batches, short) = machine.read(4, 9, 1, u64::MAX);
    assert!(!short);
    let offsets: Vec<_> =
        batches.iter().map(|batch| batch::check_crc(batch).unwrap().base_offset.0).collect();
    assert_eq!(offsets, [3, 6]);
    // Nothing at or above the high watermark.
    let (batches, _) = machine.read(0, 3, 1, u64::MAX);
    assert_eq!(batches.len(), 1);
    // Too little, and more may come.
    let (batches, short) = machine.read(6, 9, 1 << 20, u64::MAX);
    assert_eq!((batches.len(), short), (0, true));
    // Too little, but the next batch would be too much.
    let most = world::batch_of(3).len() as u64 + 10;
    let (batches, short) = machine.read(0, 9, most, most);
    assert_eq!((batches.len(), short), (1, false));
}

#[test]
fn a_group_that_is_not_open_is_answered_in_words() {
    let mut machine = Machine::new();
    machine.effects.push(world::read_effect(0, 9, 1, 1));
    machine.turn();
    let (_, reply) = machine.world.replies.pop().unwrap();
    assert!(format!("{reply:?}").contains("the replica of group 7 is not open"), "{reply:?}");
    machine.effects.push(Effect::FindOffset {
        request: RequestId(1),
        group: GROUP,
        by: FindBy::AtOrAfter(Timestamp(0)),
        up_to: Offset(9),
    });
    machine.turn();
    assert_eq!(machine.world.replies.len(), 1);
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
    machine.effects.push(Effect::SendAlive { to: PEER });
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
    after.effects.push(Effect::Configure { group: GROUP, config: LogConfig { segment_bytes: 4096 } });
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
fn retention_tells_the_new_start() {
    let mut machine = Machine::new();
    machine.effects.push(Effect::Open { group: GROUP, config: LogConfig { segment_bytes: 4096 } });
    machine.turn();
    for _ in 0..60 {
        machine.append(1, &[10]);
    }
    machine.turn();
    machine.finish_sync();
    machine.effects.push(Effect::Retain {
        group: GROUP,
        older_than: None,
        bytes_max: Some(8192),
        up_to: Index(61),
    });
    let answers = machine.turn();
    let Some(Event::Trimmed { group: GROUP, start: LogStart { previous, offset } }) = answers.last() else {
        panic!("{answers:?}");
    };
    assert_eq!(offset.0, previous.index.0 * 10);
    let (outcome, up_to, _) = machine.replicate(1, 61, u64::MAX, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Trimmed, 1));
}

#[test]
fn a_fetch_that_retention_overtakes_is_out_of_range_and_told_the_start() {
    let mut machine = Machine::new();
    machine.effects.push(Effect::Open { group: GROUP, config: LogConfig { segment_bytes: 4096 } });
    machine.turn();
    for _ in 0..60 {
        machine.append(1, &[10]);
    }
    machine.turn();
    machine.finish_sync();
    // One turn: the shard knows nothing of the new start when it lets the fetch pass.
    let up_to = Index(61);
    machine.effects.push(Effect::Retain { group: GROUP, older_than: None, bytes_max: Some(8192), up_to });
    machine.effects.push(world::read_effect(0, 600, 1, u64::MAX));
    let answers = machine.turn();
    let Some(Event::Trimmed { start, .. }) = answers.last() else { panic!("{answers:?}") };
    assert!(start.offset > Offset(0));
    let (_, reply) = machine.world.replies.pop().unwrap();
    let OutReply::Shard(Reply::Fetched(Err(error))) = reply else { panic!("{reply:?}") };
    let (asked, high_watermark) = (Offset(0), Offset(600));
    assert_eq!(error, FetchError::OffsetOutOfRange { asked, start_offset: start.offset, high_watermark });
    // A query by time looks at what is left.
    let by = FindBy::AtOrAfter(Timestamp(0));
    let request = RequestId(2);
    machine.effects.push(Effect::FindOffset { request, group: GROUP, by, up_to: high_watermark });
    machine.turn();
    let (_, reply) = machine.world.replies.pop().unwrap();
    assert!(
        matches!(reply, OutReply::FoundOffset { found: Some((offset, _)), .. } if offset == start.offset),
        "{reply:?}"
    );
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
