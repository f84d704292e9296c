//! Fetches, retention, replay, and letting go of files.

use super::*;
use crate::payload::OutReply;
use raftline_proto::command::TrimReason;
use raftline_shard::types::Outlived;

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
        from: Offset(0),
        up_to: Offset(9),
    });
    machine.turn();
    assert_eq!(machine.world.replies.len(), 1);
}

fn appraise(bytes_max: u64) -> Effect<Payload> {
    Effect::Appraise { group: GROUP, older_than: None, bytes_max: Some(bytes_max), up_to: Index(61) }
}

fn trim(below: Offset, kept_from: Option<Index>) -> Effect<Payload> {
    Effect::Trim { group: GROUP, below, reason: TrimReason::Size, up_to: Index(60), kept_from }
}

#[test]
fn retention_tells_the_new_start() {
    let mut machine = Machine::new();
    machine
        .effects
        .push(Effect::Open { group: GROUP, config: LogConfig { segment_bytes: 4096, segment_ms: i64::MAX } });
    machine.turn();
    for _ in 0..60 {
        machine.append(1, &[10]);
    }
    machine.turn();
    machine.finish_sync();
    machine.effects.push(appraise(8192));
    let answers = machine.turn();
    let &[Event::Appraised { group: GROUP, outlived: Some(Outlived { below, reason }) }] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(reason, TrimReason::Size);
    machine.effects.push(trim(below, Some(Index(1))));
    let answers = machine.turn();
    let &[Event::TrimHeld { group: GROUP, up_to: first_left }] = &answers[..] else {
        panic!("{answers:?}");
    };
    machine.effects.push(trim(below, Some(first_left)));
    assert_eq!(machine.turn().len(), 0, "nothing is held back any more, and nothing has gone yet");
    let answers = machine.finish_sync();
    let Some(&Event::Trimmed { group: GROUP, start: LogStart { previous, offset } }) =
        answers.iter().find(|answer| matches!(answer, Event::Trimmed { .. }))
    else {
        panic!("{answers:?}");
    };
    assert_eq!((offset, offset.0), (below, previous.index.0 * 10));
    assert_eq!(previous.index.next(), first_left);
    let (outcome, up_to, _) = machine.replicate(1, 61, u64::MAX, 1);
    assert_eq!((outcome, up_to), (ReplicateOutcome::Trimmed, 1));
}

#[test]
fn a_fetch_that_retention_overtakes_is_out_of_range_and_told_the_start() {
    let mut machine = Machine::new();
    machine
        .effects
        .push(Effect::Open { group: GROUP, config: LogConfig { segment_bytes: 4096, segment_ms: i64::MAX } });
    machine.turn();
    for _ in 0..60 {
        machine.append(1, &[10]);
    }
    machine.turn();
    machine.finish_sync();
    // The shard knows nothing of the new start when it lets the fetch pass.
    machine.effects.push(trim(Offset(300), None));
    machine.turn();
    let answers = machine.finish_sync();
    machine.effects.push(world::read_effect(0, 600, 1, u64::MAX));
    machine.turn();
    let trimmed = answers.iter().find_map(|answer| match answer {
        Event::Trimmed { start, .. } => Some(*start),
        _ => None,
    });
    let start = trimmed.unwrap();
    assert!(start.offset > Offset(0));
    let (_, reply) = machine.world.replies.pop().unwrap();
    let OutReply::Shard(Reply::Fetched(Err(error))) = reply else { panic!("{reply:?}") };
    let (asked, high_watermark) = (Offset(0), Offset(600));
    assert_eq!(error, FetchError::OffsetOutOfRange { asked, start_offset: start.offset, high_watermark });
    // A query by time looks at what is left.
    let by = FindBy::AtOrAfter(Timestamp(0));
    let request = RequestId(2);
    machine.effects.push(Effect::FindOffset {
        request,
        group: GROUP,
        by,
        from: Offset(0),
        up_to: high_watermark,
    });
    machine.turn();
    let (_, reply) = machine.world.replies.pop().unwrap();
    assert!(
        matches!(reply, OutReply::FoundOffset { found: Some((offset, _)), .. } if offset == start.offset),
        "{reply:?}"
    );
}
