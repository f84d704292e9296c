//! Committed offsets, rule by rule.

use crate::world::*;
use raftline_shard::consumer_groups::types::{
    Answer, GroupRequest, GroupResponse, OffsetDelete, OffsetFetch, TopicPartition,
};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn standalone(partition: i32, offset: i64) -> GroupRequest {
    GroupRequest::OffsetCommit(commit("", -1, partition, offset))
}

fn delete(partitions: &[TopicPartition]) -> GroupRequest {
    GroupRequest::OffsetDelete(OffsetDelete { group: G.into(), partitions: partitions.to_vec() })
}

fn delete_group() -> GroupRequest {
    GroupRequest::DeleteGroup { group: G.into() }
}

/// The errors of a request's partitions.
fn codes(answer: &Answer) -> Vec<i16> {
    match answer {
        Ok(GroupResponse::Partitions(outcomes)) => {
            outcomes.iter().map(|outcome| outcome.error.as_ref().map_or(0, |error| error.code())).collect()
        }
        other => panic!("not partitions: {other:?}"),
    }
}

#[test]
fn an_offset_is_seen_and_told_once_it_is_committed() {
    let mut world = World::prompt();
    world.commits = false;
    let request = world.ask(standalone(0, 5));
    assert!(world.take(request).is_none());
    assert!(offsets(&mut world).is_empty());
    world.commit_all();
    assert_eq!(codes(&world.take(request).expect("answered")), [0]);
    assert_eq!(offsets(&mut world), ["t-0=5"]);
    world.fail_over();
    assert_eq!(offsets(&mut world), ["t-0=5"]);
}

#[test]
fn what_is_not_committed_is_fetched_as_minus_one() {
    let mut world = World::prompt();
    world.call(standalone(0, 5)).expect("committed");
    let partitions = Some(vec![at("t", 1), at("t", 0), at("u", 0)]);
    let fetch = OffsetFetch { group: G.into(), member_id: None, member_epoch: -1, partitions };
    let Ok(GroupResponse::Offsets(fetched)) = world.call(GroupRequest::OffsetFetch(fetch)) else {
        panic!("offsets")
    };
    let shown: Vec<_> = fetched
        .iter()
        .map(|fetched| (fetched.offset, fetched.leader_epoch, fetched.metadata.as_str()))
        .collect();
    assert_eq!(shown, [(-1, -1, ""), (5, 3, "note"), (-1, -1, "")]);
}

#[test]
fn members_commit_in_their_generation_only() {
    let mut world = World::prompt();
    let from =
        |member_id: &str, generation: i32| GroupRequest::OffsetCommit(commit(member_id, generation, 0, 1));
    assert_eq!(code(&world.call(from("nobody", 3))), 22, "no such group");
    let (first, second, generation) = world.pair();
    assert_eq!(code(&world.call(from(&first, generation))), 0);
    assert_eq!(code(&world.call(from(&first, generation - 1))), 22);
    assert_eq!(code(&world.call(from("nobody", generation))), 25);
    assert_eq!(code(&world.call(from("", -1))), 25, "the group is not empty");
    let mut fenced = commit(&first, generation, 0, 1);
    fenced.instance_id = Some("i".into());
    assert_eq!(code(&world.call(GroupRequest::OffsetCommit(fenced))), 25);
    // While members join, the old generation may still commit; until the next one has its assignment, none may.
    let one = world.ask(GroupRequest::Join(join(&first)));
    assert_eq!(code(&world.call(from(&second, generation))), 0);
    world.ask(GroupRequest::Join(join(&second)));
    let next = joined(world.take(one)).generation;
    assert_eq!(code(&world.call(from(&first, next))), 27);
    assert_eq!(code(&world.call(from(&first, generation))), 22);
}

#[test]
fn a_commit_keeps_the_session() {
    let mut world = World::prompt();
    let (first, _, generation) = world.pair();
    for offset in 0..4 {
        world.pass(Duration::from_secs(6));
        assert_eq!(code(&world.call(GroupRequest::OffsetCommit(commit(&first, generation, 0, offset)))), 0);
    }
}

#[test]
fn long_metadata_is_refused_by_partition() {
    let mut world = World::prompt();
    let mut request = commit("", -1, 0, 1);
    let mut long = request.offsets[0].clone();
    long.topic_partition.partition = 1;
    long.metadata = "x".repeat(4_097);
    request.offsets.push(long);
    assert_eq!(codes(&world.call(GroupRequest::OffsetCommit(request))), [0, 12]);
    assert_eq!(offsets(&mut world), ["t-0=1"]);
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut world = World::prompt();
    assert_eq!(code(&world.call(delete(&[at("t", 0)]))), 69);
    let (first, second, generation) = world.pair();
    world.call(GroupRequest::OffsetCommit(commit(&first, generation, 0, 1))).expect("committed");
    let mut other = commit(&first, generation, 0, 1);
    other.offsets[0].topic_partition.topic = "u".into();
    world.call(GroupRequest::OffsetCommit(other)).expect("committed");
    assert_eq!(codes(&world.call(delete(&[at("t", 0), at("u", 0), at("u", 9)]))), [86, 0, 0]);
    assert_eq!(offsets(&mut world), ["t-0=1"]);
    assert_eq!(code(&world.call(delete_group())), 68);
    for member in [&first, &second] {
        world.call(leave(member)).expect("left");
    }
    assert_eq!(codes(&world.call(delete(&[at("t", 0)]))), [0]);
    assert!(offsets(&mut world).is_empty());
}

#[test]
fn a_deleted_group_takes_along_what_is_under_way() {
    let mut world = World::prompt();
    assert_eq!(code(&world.call(delete_group())), 69);
    world.call(standalone(0, 5)).expect("committed");
    world.commits = false;
    let commit = world.ask(standalone(1, 6));
    let deleted = world.ask(delete_group());
    let again = world.call(delete_group());
    assert_eq!(code(&again), 69, "it is about to be gone");
    world.commit_all();
    assert_eq!(codes(&world.take(commit).expect("answered")), [0]);
    assert_eq!(world.take(deleted).map(|answer| code(&answer)), Some(0));
    assert!(offsets(&mut world).is_empty());
    assert_eq!(code(&world.call(GroupRequest::Describe { group: G.into() })), 69);
}

#[test]
fn offsets_of_an_empty_group_expire() {
    let mut world = World::prompt();
    world.call(standalone(0, 5)).expect("committed");
    world.pass(4 * DAY);
    world.call(standalone(1, 6)).expect("committed");
    world.pass(4 * DAY);
    assert_eq!(offsets(&mut world), ["t-1=6"], "each by its own age");
    world.pass(4 * DAY);
    assert!(offsets(&mut world).is_empty());
    assert_eq!(world.groups.next_deadline(), None, "nothing is left to wait for");
}

#[test]
fn offsets_live_with_their_group() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    world.call(GroupRequest::OffsetCommit(commit(&first, generation, 0, 1))).expect("committed");
    world.call(leave(&second)).expect("left");
    let request = world.ask(GroupRequest::Join(join(&first)));
    let generation = joined(world.take(request)).generation;
    world.call(GroupRequest::Sync(sync(&first, generation, &[]))).expect("synced");
    for _ in 0..(9 * 24 * 60 * 10) {
        world.pass(Duration::from_secs(6));
        assert_eq!(code(&world.call(heartbeat(&first, generation))), 0);
    }
    assert_eq!(offsets(&mut world), ["t-0=1"], "somebody is there");
    world.call(leave(&first)).expect("left");
    world.pass(6 * DAY);
    assert_eq!(offsets(&mut world), ["t-0=1"], "the week begins when the last one left");
    world.pass(2 * DAY);
    assert!(offsets(&mut world).is_empty());
    assert_eq!(code(&world.call(GroupRequest::Describe { group: G.into() })), 69);
    world.fail_over();
    assert_eq!(code(&world.call(GroupRequest::Describe { group: G.into() })), 69);
}

#[test]
fn many_offsets_expire_step_by_step() {
    let mut world = World::prompt();
    let mut request = commit("", -1, 0, 1);
    request.offsets = (0..2_500)
        .map(|partition| {
            let mut offset = request.offsets[0].clone();
            offset.topic_partition.partition = partition;
            offset
        })
        .collect();
    world.call(GroupRequest::OffsetCommit(request)).expect("committed");
    world.pass(8 * DAY);
    assert!(offsets(&mut world).is_empty());
}
