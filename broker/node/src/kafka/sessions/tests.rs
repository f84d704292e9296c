use super::session::Session;
use super::{ConnectionId, Found, Naming, Sessions, Told, TopicKey, Turn};
use crate::limits::{
    KAFKA_SESSION_BYTES_MAX, KAFKA_SESSION_REST, KAFKA_SESSIONS_BYTES_MAX, KAFKA_SESSIONS_MAX,
    KAFKA_SESSIONS_PER_CONNECTION_MAX,
};
use bytes::Bytes;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::fetch::{
    FetchPartition, FetchPartitionAnswer, FetchRequest, FetchTopic, ForgottenTopic, Isolation,
};
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_kafka::uuid::Uuid;
use raftline_proto::ids::Offset;
use raftline_proto::time::Monotonic;
use std::time::Duration;

const NOW: Monotonic = Monotonic(1_000);

fn partition(index: i32) -> FetchPartition {
    FetchPartition {
        index,
        current_leader_epoch: None,
        fetch_offset: Some(Offset(0)),
        last_fetched_epoch: None,
        bytes_max: 1,
    }
}

/// A request for partitions of topic `t`.
fn request((session_id, session_epoch): (i32, i32), partitions: &[i32], forgotten: &[i32]) -> FetchRequest {
    let (name, id) = (StrBytes::from_static_str("t"), Uuid::nil());
    let partitions: Vec<_> = partitions.iter().copied().map(partition).collect();
    let forgotten = ForgottenTopic { name: name.clone(), id, partitions: forgotten.to_vec() };
    FetchRequest {
        wait_ms_max: 0,
        bytes_min: 0,
        bytes_max: 1,
        isolation: Isolation::ReadUncommitted,
        session_id,
        session_epoch,
        topics: vec![FetchTopic { name, id, partitions }],
        forgotten: vec![forgotten],
        rack_id: StrBytes::new(),
    }
}

/// What is there: a high watermark for each partition, and whether there are records; none is an error.
type World<'a> = &'a [(i32, Option<(u64, bool)>)];

fn found(index: i32, world: World<'_>) -> FetchPartitionAnswer {
    let there = world.iter().find(|(other, _)| *other == index).and_then(|(_, there)| *there);
    let Some((high_watermark, has_records)) = there else {
        return FetchPartitionAnswer::of_error(index, ErrorCode::NotLeaderOrFollower);
    };
    FetchPartitionAnswer {
        high_watermark: Some(Offset(high_watermark)),
        log_start_offset: Some(Offset(0)),
        records: if has_records { vec![Bytes::from_static(b"batch")] } else { Vec::new() },
        ..FetchPartitionAnswer::of_error(index, ErrorCode::None)
    }
}

/// The partitions that are read, and what is answered.
fn fetch(sessions: &Sessions, request: &FetchRequest, world: World<'_>) -> (Vec<i32>, Told) {
    fetch_at(sessions, NOW, 1, request, world)
}

fn fetch_at(
    sessions: &Sessions,
    now: Monotonic,
    connection: u64,
    request: &FetchRequest,
    world: World<'_>,
) -> (Vec<i32>, Told) {
    let begun = sessions.begin(now, ConnectionId(connection), 12, request);
    let (turn, wanted) = match begun {
        Ok(begun) => begun,
        Err(error) => return (Vec::new(), Told { error, session_id: 0, partitions: Vec::new() }),
    };
    let read = wanted.iter().map(|wanted| wanted.partition.index).collect();
    let found = wanted.into_iter().map(|wanted| Found {
        answer: found(wanted.partition.index, world),
        topic: wanted.topic,
        asked: wanted.partition,
    });
    (read, sessions.finish(now, turn, found.collect()))
}

fn told(told: &Told) -> Vec<i32> {
    told.partitions.iter().map(|found| found.answer.index).collect()
}

/// Begins a session with these partitions.
fn begin(sessions: &Sessions, now: Monotonic, connection: u64, partitions: i32) -> i32 {
    let indexes: Vec<i32> = (0..partitions).collect();
    fetch_at(sessions, now, connection, &request((0, 0), &indexes, &[]), &[]).1.session_id
}

#[test]
fn a_session_reads_all_and_tells_what_changed() {
    let sessions = Sessions::default();
    let quiet = Some((5, false));
    let world = [(0, quiet), (1, quiet), (2, quiet)];
    let (read, first) = fetch(&sessions, &request((0, 0), &[0, 1, 2], &[]), &world);
    assert_eq!((read, told(&first), first.error), (vec![0, 1, 2], vec![0, 1, 2], ErrorCode::None));
    let id = first.session_id;
    assert!(id > 0);

    let (read, nothing) = fetch(&sessions, &request((id, 1), &[], &[]), &world);
    assert_eq!((read, told(&nothing), nothing.session_id), (vec![0, 1, 2], vec![], id));
    let (_, moved) =
        fetch(&sessions, &request((id, 2), &[], &[]), &[(0, quiet), (1, Some((6, false))), (2, quiet)]);
    assert_eq!(told(&moved), [1], "its high watermark");
    let world = [(0, quiet), (1, Some((6, false)))];
    for epoch in [3, 4] {
        let (_, failed) = fetch(&sessions, &request((id, epoch), &[], &[]), &world);
        assert_eq!(told(&failed), [2], "an error is told each time");
    }
    let world = [(0, quiet), (1, Some((6, false))), (2, quiet)];
    let (_, healed) = fetch(&sessions, &request((id, 5), &[], &[]), &world);
    assert_eq!(told(&healed), [2], "that it is over is news");
    let (read, changed) =
        fetch(&sessions, &request((id, 6), &[3, 0], &[1]), &[(0, quiet), (2, quiet), (3, quiet)]);
    assert_eq!((read, told(&changed)), (vec![0, 2, 3], vec![3]), "one more, one less");
}

#[test]
fn who_had_records_is_last_the_next_time() {
    let sessions = Sessions::default();
    let world = [(0, Some((5, true))), (1, Some((5, true))), (2, Some((5, false)))];
    let (_, first) = fetch(&sessions, &request((0, 0), &[0, 1, 2], &[]), &world);
    let id = first.session_id;
    let world = [(0, Some((5, false))), (1, Some((5, false))), (2, Some((9, true)))];
    let (read, next) = fetch(&sessions, &request((id, 1), &[], &[]), &world);
    assert_eq!((read, told(&next)), (vec![2, 0, 1], vec![2]));
    let (read, _) = fetch(&sessions, &request((id, 2), &[], &[]), &world);
    assert_eq!(read, [0, 1, 2]);
}

#[test]
fn a_request_that_does_not_go_on_with_its_session_is_told_why() {
    let sessions = Sessions::default();
    let id = begin(&sessions, NOW, 1, 2);
    let error = |session, version| {
        sessions.begin(NOW, ConnectionId(1), version, &request(session, &[], &[])).expect_err("refused")
    };
    assert_eq!(error((id ^ 1, 1), 12), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(error((0, 1), 12), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(error((id, 2), 12), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(error((id, 1), 13), ErrorCode::FetchSessionTopicIdError, "it began with names");
    assert_eq!(fetch(&sessions, &request((id, 1), &[], &[]), &[]).1.session_id, id, "no harm was done");
    assert_eq!(error((id, 1), 12), ErrorCode::InvalidFetchSessionEpoch, "that one was answered");

    // Two requests at once, on two connections: the earlier one is told nothing.
    let turn = sessions.begin(NOW, ConnectionId(1), 12, &request((id, 2), &[], &[])).expect("in turn").0;
    sessions.begin(NOW, ConnectionId(2), 12, &request((id, 3), &[], &[])).expect("in turn");
    let late = sessions.finish(NOW, turn, Vec::new());
    assert_eq!(late.error, ErrorCode::InvalidFetchSessionEpoch);
    // And one whose session goes meanwhile is told all that was found, and of no session.
    let (turn, wanted) =
        sessions.begin(NOW, ConnectionId(1), 12, &request((id, 4), &[], &[])).expect("in turn");
    fetch(&sessions, &request((id, -1), &[], &[]), &[]);
    let all = wanted.into_iter().map(|wanted| Found {
        answer: found(wanted.partition.index, &[(0, Some((0, false)))]),
        topic: wanted.topic,
        asked: wanted.partition,
    });
    let late = sessions.finish(NOW, turn, all.collect());
    assert_eq!((late.error, late.session_id, told(&late)), (ErrorCode::None, 0, vec![0, 1]));
}

#[test]
fn a_session_ends_when_its_consumer_says_so_or_wants_nothing() {
    let sessions = Sessions::default();
    let first = begin(&sessions, NOW, 1, 2);
    let (read, closed) = fetch(&sessions, &request((first, -1), &[0], &[]), &[]);
    assert_eq!((read, closed.session_id), (vec![0], 0), "fetched once more, outside");
    assert_eq!(sessions.cache.lock().len(), 0);

    let second = begin(&sessions, NOW, 1, 2);
    let (_, third) = fetch(&sessions, &request((second, 0), &[0], &[]), &[]);
    assert!(third.session_id > 0 && third.session_id != second, "one takes the place of the other");
    assert_eq!(sessions.cache.lock().len(), 1);
    let (read, last) = fetch(&sessions, &request((third.session_id, 1), &[], &[0]), &[]);
    assert_eq!((read, last.session_id, last.error), (vec![], 0, ErrorCode::None));
    assert_eq!(sessions.cache.lock().len(), 0);
    assert_eq!(fetch(&sessions, &request((0, 0), &[], &[]), &[]).1.session_id, 0, "nothing to remember");
    assert_eq!(fetch(&sessions, &request((0, -1), &[1], &[]), &[]).1.session_id, 0, "not wanted");
}

#[test]
fn epochs_begin_again_and_never_at_zero() {
    let mut session = Session::new(ConnectionId(1), Naming::Names, NOW);
    assert_eq!(session.epoch(), 1);
    session.advance();
    assert!(session.epoch() == 2 && session.is_at_turn(1) && !session.is_at_turn(2));
    let mut session = Session::at_epoch(i32::MAX);
    session.advance();
    assert!(session.epoch() == 1 && session.is_at_turn(i32::MAX));
}

#[test]
fn slots_are_bounded_and_who_rests_or_is_small_makes_room() {
    let sessions = Sessions::default();
    let slots = u64::try_from(KAFKA_SESSIONS_MAX).expect("small");
    let ids: Vec<i32> = (0..slots).map(|connection| begin(&sessions, NOW, connection, 2)).collect();
    assert!(ids.iter().all(|id| *id > 0));
    assert_eq!(begin(&sessions, NOW, slots, 9), 0, "all are new and were used just now");
    assert_eq!(sessions.cache.lock().len(), KAFKA_SESSIONS_MAX);

    // All but the first are used again, later: it rests, and goes first.
    let later = NOW + KAFKA_SESSION_REST + Duration::from_secs(1);
    for id in &ids[1..] {
        assert_eq!(fetch_at(&sessions, later, 0, &request((*id, 1), &[], &[]), &[]).1.error, ErrorCode::None);
    }
    assert!(begin(&sessions, later, slots, 1) > 0);
    let gone = fetch_at(&sessions, later, 0, &request((ids[0], 1), &[], &[]), &[]).1.error;
    assert_eq!(gone, ErrorCode::FetchSessionIdNotFound);
    // The others are no longer new: a larger one displaces one of them, another one of their size does not.
    assert_eq!(begin(&sessions, later, slots, 2), 0);
    assert!(begin(&sessions, later, slots, 3) > 0);
    assert_eq!(sessions.cache.lock().len(), KAFKA_SESSIONS_MAX);
}

#[test]
fn a_connection_that_begins_sessions_without_end_keeps_the_last_few() {
    let sessions = Sessions::default();
    let other = begin(&sessions, NOW, 2, 1);
    let ids: Vec<i32> = (0..KAFKA_SESSIONS_MAX).map(|_| begin(&sessions, NOW, 1, 1)).collect();
    assert_eq!(sessions.cache.lock().len(), KAFKA_SESSIONS_PER_CONNECTION_MAX + 1);
    let (gone, kept) = ids.split_at(ids.len() - KAFKA_SESSIONS_PER_CONNECTION_MAX);
    let error = |id| fetch(&sessions, &request((id, 1), &[], &[]), &[]).1.error;
    assert!(kept.iter().chain([&other]).all(|id| error(*id) == ErrorCode::None));
    assert!(gone.iter().all(|id| error(*id) == ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn memory_is_bounded_for_one_and_for_all() {
    let sessions = Sessions::default();
    let many = i32::try_from(KAFKA_SESSION_BYTES_MAX / 64).expect("small");
    assert_eq!(begin(&sessions, NOW, 1, many), 0, "fetched without a session");
    let id = begin(&sessions, NOW, 1, 10);
    let indexes: Vec<i32> = (0..many).collect();
    let grown = fetch(&sessions, &request((id, 1), &indexes, &[]), &[]).1;
    assert_eq!(grown.error, ErrorCode::FetchSessionIdNotFound, "it has grown too large");
    assert_eq!(sessions.cache.lock().len(), 0);

    // A long name counts: these are as large as one may be.
    let name = TopicKey::Name(StrBytes::from_string("x".repeat(30_000)));
    let mut made = 0;
    for connection in 0.. {
        let mut session = Session::new(ConnectionId(connection), Naming::Names, NOW);
        while session.bytes() + 2 * 30_000 < KAFKA_SESSION_BYTES_MAX {
            session.want(&name, partition(i32::try_from(session.wanted().len()).expect("few")));
        }
        if sessions.cache.lock().insert(NOW, session, rand::random).is_none() {
            break;
        }
        made += 1;
    }
    assert!(made > 1 && made <= KAFKA_SESSIONS_BYTES_MAX / (KAFKA_SESSION_BYTES_MAX - 3 * 30_000));
    assert_eq!(sessions.cache.lock().len(), made);
}

#[test]
fn whatever_comes_the_books_are_kept() {
    let sessions = Sessions::default();
    let mut seed = 1_u32;
    let mut draw = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i32::try_from((seed >> 8) % below).expect("small")
    };
    let mut ids = vec![(7, 1)];
    for step in 0..20_000_u64 {
        let now = NOW + Duration::from_secs(step);
        let at = usize::try_from(draw(64)).expect("small") % ids.len();
        let session = match draw(6) {
            0 => (0, 0),
            1 => (ids[at].0, -1),
            2 => (ids[at].0, draw(3)),
            _ => ids[at],
        };
        let partitions: Vec<i32> = (0..draw(4)).map(|_| draw(8)).collect();
        let forgotten: Vec<i32> = (0..draw(4)).map(|_| draw(8)).collect();
        let request = request(session, &partitions, &forgotten);
        let connection = u64::try_from(draw(20)).expect("small");
        let told = fetch_at(&sessions, now, connection, &request, &[(draw(8), Some((step, true)))]).1;
        if told.session_id != 0 {
            match ids.iter_mut().find(|(id, _)| *id == told.session_id) {
                Some((_, epoch)) => *epoch += 1,
                None => ids.push((told.session_id, 1)),
            }
        }
        assert!(sessions.cache.lock().len() <= 20 * KAFKA_SESSIONS_PER_CONNECTION_MAX);
        if ids.len() > 64 {
            ids.remove(0);
        }
    }
}

#[test]
fn turns_of_older_versions_have_no_session() {
    let sessions = Sessions::default();
    // What versions before 7 are read as.
    let (turn, wanted) =
        sessions.begin(NOW, ConnectionId(1), 6, &request((0, -1), &[0], &[])).expect("nothing to refuse");
    assert_eq!((turn, wanted.len()), (Turn::Alone, 1));
}
