//! Fetch and offsets: what is served when.

use crate::node::Answer;
use crate::world::{N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_proto::time::Timestamp;
use raftline_shard::types::{Event, FetchError, OffsetQuery, Reply};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);

fn list(world: &mut World, node: NodeId, group: GroupId, query: OffsetQuery) -> Answer {
    let request = world.ask(node, |request| Event::ListOffset { request, group, query });
    world.answer(request)
}

#[test]
fn a_parked_fetch_wakes_on_commit() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let fetch = world.fetch_from(leader, group, 0, 1, LONG);
    world.run_for(Duration::from_millis(100));
    assert!(!world.answers.contains_key(&fetch), "it waits");
    world.produce(group, "a").expect("acknowledged");
    assert_eq!(world.fetched(fetch), Ok((vec!["a".to_owned()], Offset(1))));
}

#[test]
fn nothing_uncommitted_is_served() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    // Its first entry is committed.
    world.run_for(Duration::from_millis(100));
    world.isolate(leader);
    let produce = world.send(leader, group, "never");
    let fetch = world.fetch_from(leader, group, 0, 1, Duration::from_millis(50));
    assert_eq!(world.fetched(fetch), Ok((Vec::new(), Offset(0))));
    assert!(world.produced(produce).is_err());
}

#[test]
fn the_deadline_answers_with_what_there_is() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    let began = world.now;
    let fetch = world.fetch_from(leader, group, 0, 10_000, Duration::from_millis(70));
    assert_eq!(
        world.fetched(fetch),
        Ok((vec!["a".to_owned()], Offset(1))),
        "too little is better than nothing"
    );
    assert_eq!(world.now.since(began), Duration::from_millis(70));
    let fetch = world.fetch_from(leader, group, 1, 1, Duration::from_millis(30));
    assert_eq!(world.fetched(fetch), Ok((Vec::new(), Offset(1))));
    assert_eq!(world.now.since(began), Duration::from_millis(100));
}

#[test]
fn a_fetch_waits_for_as_much_as_it_wants() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    // Each batch has 62 bytes; two are not enough.
    let fetch = world.fetch_from(leader, group, 0, 150, LONG);
    world.run_for(Duration::from_millis(20));
    world.produce(group, "b").expect("acknowledged");
    world.run_for(Duration::from_millis(20));
    assert!(!world.answers.contains_key(&fetch), "it waits for a third");
    world.produce(group, "c").expect("acknowledged");
    assert_eq!(world.fetched(fetch).expect("served").0, ["a", "b", "c"]);
}

#[test]
fn a_fetch_may_begin_within_a_batch() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a b c").expect("acknowledged");
    world.produce(group, "d").expect("acknowledged");
    let fetch = world.fetch_from(leader, group, 1, 1, LONG);
    assert_eq!(world.fetched(fetch).expect("served").0, ["a b c", "d"]);
}

#[test]
fn offsets_out_of_range_and_followers_refuse() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    let fetch = world.fetch_from(leader, group, 2, 1, LONG);
    assert_eq!(
        world.fetched(fetch),
        Err(FetchError::OffsetOutOfRange {
            asked: Offset(2),
            start_offset: Offset(0),
            high_watermark: Offset(1)
        })
    );
    let follower = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    let fetch = world.fetch_from(follower, group, 0, 1, LONG);
    let outcome = world.fetched(fetch);
    assert!(
        matches!(outcome, Err(FetchError::NotLeader { leader: Some(known), .. }) if known == leader),
        "{outcome:?}"
    );
    let fetch = world.fetch_from(leader, GroupId(99), 0, 1, LONG);
    assert_eq!(world.fetched(fetch), Err(FetchError::UnknownGroup));
}

#[test]
fn a_leader_that_may_be_none_any_more_calls_no_offset_out_of_range() {
    let (mut world, group) = World::with_topic();
    let old = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    world.isolate(old);
    // Its followers elect another, which takes more: a consumer goes on from there, and comes back to the old one.
    let fetch = world.fetch_from(old, group, 3, 1, Duration::ZERO);
    let outcome = world.fetched(fetch);
    assert!(matches!(outcome, Err(FetchError::NotLeader { .. })), "{outcome:?}");
}

#[test]
fn an_offset_beyond_the_end_costs_no_offset() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    for _ in 0..3 {
        let fetch = world.fetch_from(leader, group, 7, 1, Duration::ZERO);
        let outcome = world.fetched(fetch);
        assert!(matches!(outcome, Err(FetchError::OffsetOutOfRange { asked: Offset(7), .. })), "{outcome:?}");
    }
    world.produce(group, "b").expect("acknowledged");
    let fetch = world.fetch_from(leader, group, 0, 1, LONG);
    assert_eq!(world.fetched(fetch), Ok((vec!["a".to_owned(), "b".to_owned()], Offset(2))));
}

#[test]
fn a_parked_fetch_hears_that_leadership_is_lost() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let fetch = world.fetch_from(leader, group, 0, 1, LONG);
    world.run_for(Duration::from_millis(10));
    world.isolate(leader);
    let outcome = world.fetched(fetch);
    assert!(matches!(outcome, Err(FetchError::NotLeader { .. })), "{outcome:?}");
}

#[test]
fn offsets_are_listed() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a b").expect("acknowledged");
    world.run_for(Duration::from_secs(1));
    world.produce(group, "c").expect("acknowledged");
    let shard = |offset| Answer::Shard(Box::new(Reply::Offset(Ok(Offset(offset)))));
    assert_eq!(list(&mut world, leader, group, OffsetQuery::Earliest), shard(0));
    assert_eq!(list(&mut world, leader, group, OffsetQuery::Latest), shard(3));
    let early = OffsetQuery::AtOrAfter(Timestamp(0));
    assert_eq!(list(&mut world, leader, group, early), Answer::Offset(Some(Offset(0))));
    assert_eq!(list(&mut world, leader, group, OffsetQuery::MaxTimestamp), Answer::Offset(Some(Offset(2))));
    let late = OffsetQuery::AtOrAfter(Timestamp(i64::MAX));
    assert_eq!(list(&mut world, leader, group, late), Answer::Offset(None));
}

#[test]
fn retention_moves_the_start() {
    let mut world = World::registered();
    let command = world.topic("short", Some(1), &[("retention.ms", "1000")]);
    world.command(command).expect("created");
    let group = world.group("short", 0);
    for text in ["a", "b", "c"] {
        world.produce(group, text).expect("acknowledged");
    }
    world.run_for(Duration::from_secs(31));
    let leader = world.leader(group);
    let description = world.describe(leader, group).expect("is here");
    // The last committed entry goes too.
    assert_eq!((description.start_offset, description.high_watermark), (Offset(3), Offset(3)));
    let fetch = world.fetch_from(leader, group, 0, 1, LONG);
    assert!(matches!(world.fetched(fetch), Err(FetchError::OffsetOutOfRange { .. })));
    world.assert_no_alarms();
}

#[test]
fn a_stricter_retention_is_looked_at_without_anything_being_written() {
    for (before, config, value) in [
        (&[][..], "retention.ms", "1000"),
        (&[("retention.ms", "-1"), ("retention.bytes", "1000000")], "retention.bytes", "1"),
    ] {
        let mut world = World::registered();
        let command = world.topic("short", Some(1), before);
        world.command(command).expect("created");
        let group = world.group("short", 0);
        for text in ["a", "b", "c"] {
            world.produce(group, text).expect("acknowledged");
        }
        world.run_for(Duration::from_secs(100));
        let leader = world.leader(group);
        assert_eq!(world.describe(leader, group).expect("is here").start_offset, Offset(0));
        world.configure("short", config, value);
        world.run_for(Duration::from_secs(31));
        let description = world.describe(leader, group).expect("is here");
        assert!(description.start_offset >= Offset(2), "{config}: {description:?}");
        world.assert_no_alarms();
    }
}

/// A topic that keeps records for an hour, with three in it, and its leader.
fn an_hour() -> (World, GroupId, NodeId) {
    let mut world = World::registered();
    let command = world.topic("short", Some(1), &[("retention.ms", "3600000")]);
    world.command(command).expect("created");
    let group = world.group("short", 0);
    for text in ["a", "b", "c"] {
        world.produce(group, text).expect("acknowledged");
    }
    let leader = world.leader(group);
    world.run_for(Duration::from_secs(5));
    (world, group, leader)
}

fn start_on(world: &mut World, node: NodeId, group: GroupId) -> Offset {
    world.describe(node, group).expect("is here").start_offset
}

#[test]
fn a_clock_that_jumps_lets_nothing_go() {
    let (mut world, group, leader) = an_hour();
    world.node(leader).skew_ms = 8 * 24 * 3_600_000;
    world.run_for(Duration::from_secs(600));
    for node in [N1, N2, N3] {
        assert_eq!(start_on(&mut world, node, group), Offset(0), "{node}");
    }
    // Set right: a minute later it is trusted again, and what is too old goes in time.
    world.node(leader).skew_ms = 0;
    world.run_for(Duration::from_secs(2 * 3600));
    for node in [N1, N2, N3] {
        assert_eq!(start_on(&mut world, node, group), Offset(3), "{node}");
    }
    world.assert_no_alarms();
}

#[test]
fn a_follower_that_starts_with_its_clock_off_lets_nothing_go() {
    let (mut world, group, leader) = an_hour();
    let follower = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    world.end(follower, crate::world::End::Killed);
    world.node(follower).skew_ms = 2 * 3_600_000;
    world.start(follower);
    world.run_for(Duration::from_secs(600));
    assert_eq!(start_on(&mut world, follower, group), Offset(0));
    world.run_for(Duration::from_secs(2 * 3600));
    assert_eq!(start_on(&mut world, leader, group), Offset(3), "in its time");
    world.assert_no_alarms();
}
