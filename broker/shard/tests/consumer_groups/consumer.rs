//! The new protocol (KIP-848), rule by rule.

use crate::world::*;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::record::Assignment;
use raftline_shard::consumer_groups::types::{
    Answer, ConsumerDescription, ConsumerHeartbeat, GroupRequest, GroupResponse, OffsetDelete, OffsetFetch,
};
use std::time::Duration;

/// A world with topic `t` of `partitions`.
pub fn world(partitions: i32) -> World {
    let mut world = World::prompt();
    world.topics(&[("t", partitions, 1)]);
    world
}

pub fn owns(partitions: &[i32]) -> Option<Assignment> {
    let set: std::collections::BTreeSet<i32> = partitions.iter().copied().collect();
    Some(if set.is_empty() { Assignment::new() } else { [("t".to_owned(), set)].into() })
}

pub fn beat(member_id: &str, member_epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: G.into(),
        member_id: member_id.into(),
        member_epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: -1,
        subscribed_topics: None,
        subscribed_regex: None,
        server_assignor: None,
        owned: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        fresh_id: 5,
    }
}

pub fn entering(member_id: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        rebalance_timeout_ms: 60_000,
        subscribed_topics: Some(vec!["t".into()]),
        owned: owns(&[]),
        ..beat(member_id, 0)
    }
}

pub fn owning(member_id: &str, epoch: i32, partitions: &[i32]) -> ConsumerHeartbeat {
    ConsumerHeartbeat { owned: owns(partitions), ..beat(member_id, epoch) }
}

pub fn instance(instance: &str, beat: ConsumerHeartbeat) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance_id: Some(instance.into()), ..beat }
}

/// An answer in short: the epoch and, if told, the partitions; or the error.
fn short(answer: Answer) -> String {
    match answer {
        Ok(GroupResponse::ConsumerHeartbeat(answer)) => match answer.assignment {
            Some(assignment) => {
                let partitions: Vec<i32> = assignment.into_values().flatten().collect();
                format!("{} {partitions:?}", answer.member_epoch)
            }
            None => format!("{}", answer.member_epoch),
        },
        Ok(other) => panic!("not a heartbeat's answer: {other:?}"),
        Err(error) => format!("error {}", error.code()),
    }
}

pub fn say(world: &mut World, beat: ConsumerHeartbeat) -> String {
    short(world.call(GroupRequest::ConsumerHeartbeat(beat)))
}

pub fn describe(world: &mut World) -> ConsumerDescription {
    match world.call(GroupRequest::ConsumerDescribe { group: G.into() }) {
        Ok(GroupResponse::ConsumerDescribed(description)) => description,
        other => panic!("not a description: {other:?}"),
    }
}

/// `a` and `b` with two partitions each.
pub fn pair(world: &mut World) {
    assert_eq!(say(world, entering("a")), "1 [0, 1, 2, 3]");
    assert_eq!(say(world, entering("b")), "2 []", "a has everything yet");
    assert_eq!(say(world, beat("a", 1)), "1 [0, 1]", "a is to give two up");
    assert_eq!(say(world, beat("b", 2)), "2");
    assert_eq!(say(world, owning("a", 1, &[0, 1])), "2", "it did");
    assert_eq!(say(world, beat("b", 2)), "2 [2, 3]");
    assert_eq!(describe(world).state, "Stable");
}

#[test]
fn partitions_move_only_after_they_were_given_up() {
    let mut world = world(4);
    pair(&mut world);
    assert_eq!(say(&mut world, beat("a", 2)), "2", "nothing new is not told again");
    world.fail_over();
    assert_eq!(say(&mut world, beat("a", 2)), "2");
    assert_eq!(say(&mut world, entering("b")), "2 [2, 3]", "who joins again is told all");
}

#[test]
fn who_still_owns_is_waited_for() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    assert_eq!(say(&mut world, entering("b")), "2 []");
    assert_eq!(say(&mut world, beat("a", 1)), "1 [0, 1]");
    assert_eq!(say(&mut world, owning("a", 1, &[0, 1, 2, 3])), "1", "not yet");
    assert_eq!(describe(&mut world).state, "Reconciling");
    assert_eq!(say(&mut world, owning("a", 1, &[0, 1, 2])), "1", "not all");
    assert_eq!(say(&mut world, beat("b", 2)), "2");
    // It never does: out it goes, and its partitions are free.
    for _ in 0..2 {
        world.pass(Duration::from_secs(29));
        assert_eq!(say(&mut world, beat("a", 1)), "1");
        assert_eq!(say(&mut world, beat("b", 2)), "2");
    }
    world.pass(Duration::from_secs(3));
    assert_eq!(say(&mut world, beat("a", 1)), "error 25");
    assert_eq!(say(&mut world, beat("b", 2)), "3 [0, 1, 2, 3]");
}

#[test]
fn nothing_is_told_before_it_is_committed() {
    let mut world = world(4);
    world.commits = false;
    let joins = world.ask(GroupRequest::ConsumerHeartbeat(entering("a")));
    let retries = world.ask(GroupRequest::ConsumerHeartbeat(entering("a")));
    assert!(world.take(joins).is_none() && world.take(retries).is_none());
    world.commit_all();
    assert_eq!(world.take(joins).map(short).as_deref(), Some("1 [0, 1, 2, 3]"));
    assert_eq!(world.take(retries).map(short).as_deref(), Some("1 [0, 1, 2, 3]"));
    let late = world.ask(GroupRequest::ConsumerHeartbeat(entering("b")));
    world.fail_over();
    assert_eq!(world.take(late).map(short).as_deref(), Some("error 16"));
    assert_eq!(describe(&mut world).members.len(), 1);
}

#[test]
fn an_answer_that_was_lost_is_told_again() {
    let mut world = world(4);
    pair(&mut world);
    assert_eq!(say(&mut world, beat("b", -1)), "-1");
    assert_eq!(say(&mut world, beat("a", 2)), "3 [0, 1, 2, 3]");
    assert_eq!(say(&mut world, owning("a", 2, &[0, 1])), "3 [0, 1, 2, 3]", "from the epoch before");
    assert_eq!(say(&mut world, beat("a", 2)), "error 110", "only with what it owns");
    assert_eq!(say(&mut world, owning("a", 2, &[0, 1, 7])), "error 110", "and owns no more than it may");
    assert_eq!(say(&mut world, beat("a", 1)), "error 110");
    assert_eq!(say(&mut world, beat("a", 4)), "error 110");
    assert_eq!(say(&mut world, entering("a")), "3 [0, 1, 2, 3]", "a fenced member joins again");
}

#[test]
fn bad_heartbeats_are_refused() {
    let mut world = World::prompt();
    assert_eq!(say(&mut world, entering("a")), "error 14", "topics are not known yet");
    world.topics(&[("t", 4, 1)]);
    assert_eq!(say(&mut world, beat("a", 1)), "error 69");
    assert_eq!(say(&mut world, beat("a", -1)), "error 69");
    let bad = [
        (ConsumerHeartbeat { group: String::new(), ..entering("a") }, 42),
        (ConsumerHeartbeat { rebalance_timeout_ms: -1, ..entering("a") }, 42),
        (ConsumerHeartbeat { subscribed_topics: None, ..entering("a") }, 42),
        (ConsumerHeartbeat { owned: None, ..entering("a") }, 42),
        (ConsumerHeartbeat { owned: owns(&[1]), ..entering("a") }, 42),
        (ConsumerHeartbeat { server_assignor: Some("none".into()), ..entering("a") }, 112),
        (ConsumerHeartbeat { subscribed_regex: Some("t.*(".into()), ..entering("a") }, 128),
        (beat("a", -2), 42),
        (beat("a", -3), 42),
        (beat("", 1), 42),
    ];
    for (beat, error) in bad {
        assert_eq!(say(&mut world, beat.clone()), format!("error {error}"), "{beat:?}");
    }
    assert_eq!(code(&world.call(GroupRequest::ConsumerDescribe { group: G.into() })), 69, "nothing was made");
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    assert_eq!(say(&mut world, beat("b", 1)), "error 25");
    assert_eq!(say(&mut world, beat("b", -1)), "error 25");
}

#[test]
fn an_old_client_gets_an_id() {
    let mut world = world(1);
    let Ok(GroupResponse::ConsumerHeartbeat(answer)) =
        world.call(GroupRequest::ConsumerHeartbeat(entering("")))
    else {
        panic!("joined")
    };
    assert_eq!(answer.member_id, "00000000-0000-0000-0000-000000000005");
    assert_eq!(say(&mut world, beat(&answer.member_id, 1)), "1");
}

#[test]
fn a_full_group_takes_nobody() {
    let mut world = World::new(GroupsConfig { members_max: 1, ..GroupsConfig::default() });
    world.topics(&[("t", 4, 1)]);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    assert_eq!(say(&mut world, entering("b")), "error 81");
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
}

#[test]
fn a_silent_member_goes() {
    let mut world = world(4);
    pair(&mut world);
    world.pass(Duration::from_secs(30));
    assert_eq!(say(&mut world, beat("a", 2)), "2");
    world.pass(Duration::from_secs(16));
    assert_eq!(describe(&mut world).state, "Assigning");
    assert_eq!(say(&mut world, beat("b", 2)), "error 25");
    assert_eq!(say(&mut world, beat("a", 2)), "3 [0, 1, 2, 3]");
    world.pass(Duration::from_secs(50));
    assert_eq!(describe(&mut world).state, "Empty");
}

#[test]
fn a_static_member_that_left_for_a_while_keeps_its_part() {
    let mut world = world(4);
    assert_eq!(say(&mut world, instance("i1", entering("a"))), "1 [0, 1, 2, 3]");
    assert_eq!(say(&mut world, instance("i2", entering("b"))), "2 []");
    assert_eq!(say(&mut world, instance("i1", beat("a", 1))), "1 [0, 1]");
    assert_eq!(say(&mut world, instance("i1", owning("a", 1, &[0, 1]))), "2");
    assert_eq!(say(&mut world, instance("i2", beat("b", 2))), "2 [2, 3]");
    assert_eq!(say(&mut world, instance("i2", entering("c"))), "error 111", "b has not left");
    assert_eq!(say(&mut world, instance("i2", beat("c", 2))), "error 82");
    assert_eq!(say(&mut world, instance("i2", beat("c", -1))), "error 82");
    assert_eq!(say(&mut world, instance("i3", beat("b", -2))), "error 25");
    assert_eq!(say(&mut world, instance("i2", beat("b", -2))), "-2");
    assert_eq!(say(&mut world, instance("i1", beat("a", 2))), "2", "nobody else notices");
    world.fail_over();
    assert_eq!(say(&mut world, instance("i2", entering("c"))), "2 [2, 3]", "it is back under another id");
    assert_eq!(say(&mut world, instance("i2", beat("b", 2))), "error 82");
    assert_eq!(say(&mut world, instance("i2", beat("c", -2))), "-2");
    world.pass(Duration::from_secs(44));
    assert_eq!(say(&mut world, instance("i1", beat("a", 2))), "2");
    world.pass(Duration::from_secs(2));
    assert_eq!(say(&mut world, instance("i1", beat("a", 2))), "3 [0, 1, 2, 3]", "it stayed away too long");
}

#[test]
fn topics_that_change_move_the_epoch() {
    let mut world = world(1);
    assert_eq!(say(&mut world, entering("a")), "1 [0]");
    world.topics(&[("t", 2, 1), ("u", 9, 2)]);
    assert_eq!(say(&mut world, beat("a", 1)), "2 [0, 1]");
    world.topics(&[("t", 2, 1)]);
    assert_eq!(say(&mut world, beat("a", 2)), "2", "it did not read u");
    // A topic grows while nobody leads: the next leader sees it.
    world.topics = Some(
        [("t".into(), raftline_shard::consumer_groups::types::TopicImage { partitions: 3, id: 1 })].into(),
    );
    world.fail_over();
    assert_eq!(say(&mut world, beat("a", 2)), "3 [0, 1, 2]");
    world.topics(&[]);
    assert_eq!(say(&mut world, beat("a", 3)), "3 []");
    assert_eq!(say(&mut world, owning("a", 3, &[])), "4");
}

#[test]
fn a_topic_made_again_begins_anew() {
    let mut world = world(1);
    assert_eq!(say(&mut world, entering("a")), "1 [0]");
    world.call(GroupRequest::OffsetCommit(commit("a", 1, 0, 5))).expect("committed");
    world.topics(&[("t", 1, 2)]);
    assert!(offsets(&mut world).is_empty());
    assert_eq!(describe(&mut world).group_epoch, 2);
}

#[test]
fn range_is_chosen_by_most() {
    let mut world = World::prompt();
    world.topics(&[("t", 3, 1)]);
    let range = |id: &str| ConsumerHeartbeat { server_assignor: Some("range".into()), ..entering(id) };
    assert_eq!(say(&mut world, range("a")), "1 [0, 1, 2]");
    assert_eq!(say(&mut world, range("b")), "2 []");
    assert_eq!(say(&mut world, beat("a", 1)), "1 [0, 1]");
    assert_eq!(describe(&mut world).assignor, "range");
}

#[test]
fn members_commit_and_fetch_in_their_epoch_only() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    let from = |member_id: &str, epoch: i32| GroupRequest::OffsetCommit(commit(member_id, epoch, 0, 1));
    assert_eq!(code(&world.call(from("a", 1))), 0);
    assert_eq!(code(&world.call(from("a", 0))), 113);
    assert_eq!(code(&world.call(from("a", 2))), 113);
    assert_eq!(code(&world.call(from("b", 1))), 25);
    assert_eq!(code(&world.call(from("", -1))), 25);
    let fetch = |member_id: Option<&str>, member_epoch: i32| {
        let member_id = member_id.map(String::from);
        GroupRequest::OffsetFetch(OffsetFetch { group: G.into(), member_id, member_epoch, partitions: None })
    };
    assert_eq!(code(&world.call(fetch(Some("a"), 1))), 0);
    assert_eq!(code(&world.call(fetch(Some("a"), 2))), 113);
    assert_eq!(code(&world.call(fetch(Some("b"), 1))), 25);
    assert_eq!(code(&world.call(fetch(None, -1))), 0);
    let delete = OffsetDelete { group: G.into(), partitions: vec![at("t", 0), at("u", 0)] };
    let Ok(GroupResponse::Partitions(outcomes)) = world.call(GroupRequest::OffsetDelete(delete)) else {
        panic!("outcomes")
    };
    assert_eq!(outcomes[0].error.as_ref().map(|error| error.code()), Some(86));
    assert_eq!(outcomes[1].error, None);
    assert_eq!(code(&world.call(GroupRequest::DeleteGroup { group: G.into() })), 68);
    assert_eq!(say(&mut world, beat("a", -1)), "-1");
    assert_eq!(code(&world.call(from("", -1))), 0, "nobody is there");
    assert_eq!(code(&world.call(GroupRequest::DeleteGroup { group: G.into() })), 0);
    assert_eq!(code(&world.call(GroupRequest::ConsumerDescribe { group: G.into() })), 69);
    world.fail_over();
    assert!(offsets(&mut world).is_empty());
}

#[test]
fn an_empty_group_may_change_its_type() {
    let mut world = world(4);
    let (first, second, _) = world.pair();
    assert_eq!(say(&mut world, entering("a")), "error 69", "it has classic members");
    for member in [&first, &second] {
        world.call(leave(member)).expect("left");
    }
    world.call(GroupRequest::OffsetCommit(commit("", -1, 0, 5))).expect("committed");
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    assert_eq!(code(&world.call(GroupRequest::Join(join("")))), 23);
    assert_eq!(code(&world.call(GroupRequest::Describe { group: G.into() })), 69);
    world.fail_over();
    assert_eq!(say(&mut world, beat("a", 1)), "1");
    assert_eq!(say(&mut world, beat("a", -1)), "-1");
    world.pair();
    assert_eq!(offsets(&mut world), ["t-0=5"], "offsets belong to the group whatever its type");
    world.fail_over();
    assert_eq!(say(&mut world, entering("a")), "error 69");
}

#[test]
fn an_empty_group_expires() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    world.call(GroupRequest::OffsetCommit(commit("a", 1, 0, 5))).expect("committed");
    let day = Duration::from_secs(24 * 60 * 60);
    for _ in 0..(8 * 24 * 90) {
        world.pass(Duration::from_secs(40));
        assert_eq!(say(&mut world, beat("a", 1)), "1");
    }
    assert_eq!(say(&mut world, beat("a", -1)), "-1");
    world.pass(6 * day);
    assert_eq!(offsets(&mut world), ["t-0=5"], "the week begins when the last one left");
    world.pass(2 * day);
    assert!(offsets(&mut world).is_empty());
    assert_eq!(world.groups.next_deadline(), None);
}
