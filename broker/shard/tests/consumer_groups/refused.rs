//! Appends that are not made, as on a full disk: who waits for them is told to try again, and the groups go on.

use crate::consumer::{beat, describe, entering, owning, say, world};
use crate::world::*;
use raftline_shard::consumer_groups::types::{
    GroupProtocol, GroupRequest, GroupResponse, JoinGroup, Joined, MemberIdRule, OffsetCommit,
};
use std::time::Duration;

const COORDINATOR_NOT_AVAILABLE: i16 = 15;

/// A classic consumer of `t` that can take part in a group of the new protocol.
fn classic() -> JoinGroup {
    let metadata = [&[0, 3, 0, 0, 0, 1, 0, 1, b't'][..], &[255; 4], &[0; 4]].concat();
    let protocols = vec![GroupProtocol { name: "range".into(), metadata }];
    JoinGroup { protocols, member_id_rule: MemberIdRule::NotRequired, ..join("") }
}

fn describe_classic(world: &mut World) -> (&'static str, usize) {
    match world.call(GroupRequest::Describe { group: G.into() }) {
        Ok(GroupResponse::Described(described)) => (described.state, described.members.len()),
        other => panic!("not a description: {other:?}"),
    }
}

#[test]
fn a_member_whose_commits_are_refused_keeps_its_place() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    assert!(world.call(GroupRequest::OffsetCommit(commit(&first, generation, 0, 5))).is_ok());
    world.refuses = true;
    for round in 0..20 {
        let refused = world.call(GroupRequest::OffsetCommit(commit(&first, generation, 0, 6 + round)));
        assert_eq!(code(&refused), COORDINATOR_NOT_AVAILABLE);
        for member in [&first, &second] {
            assert_eq!(code(&world.call(heartbeat(member, generation))), 0);
        }
        assert_eq!(offsets(&mut world), ["t-0=5"], "what is committed is told");
        world.pass(Duration::from_secs(3));
    }
    world.refuses = false;
    assert!(world.call(GroupRequest::OffsetCommit(commit(&first, generation, 0, 9))).is_ok());
    assert_eq!(offsets(&mut world), ["t-0=9"]);
    world.fail_over();
    assert_eq!(offsets(&mut world), ["t-0=9"], "and nothing else is in the log");
}

#[test]
fn several_appends_are_refused_together_and_others_are_not_touched() {
    let mut world = World::prompt();
    let (first, _, generation) = world.pair();
    world.commits = false;
    let commits: Vec<_> = (0..3)
        .map(|number| world.ask(GroupRequest::OffsetCommit(commit(&first, generation, number, 5))))
        .collect();
    let elsewhere = OffsetCommit { group: "other".into(), ..commit("", -1, 0, 7) };
    let elsewhere = world.ask(GroupRequest::OffsetCommit(elsewhere));
    world.refuse();
    for request in commits.into_iter().chain([elsewhere]) {
        assert_eq!(code(&world.take(request).expect("answered")), COORDINATOR_NOT_AVAILABLE);
    }
    assert_eq!(world.unanswered, 0);
    let gone = world.call(GroupRequest::DeleteGroup { group: "other".into() });
    assert_eq!(code(&gone), 69, "nothing is left of a group that was never written");
}

/// The answer waits for what was appended before it: it must not be lost with others' records.
#[test]
fn who_waits_for_others_records_is_answered() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    world.commits = false;
    let refused =
        world.ask(GroupRequest::OffsetCommit(OffsetCommit { group: "other".into(), ..commit("", -1, 0, 7) }));
    let beating = world.ask(GroupRequest::ConsumerHeartbeat(beat("a", 1)));
    assert!(world.take(beating).is_none(), "it waits");
    world.refuse();
    assert_eq!(code(&world.take(beating).expect("answered")), 0);
    assert_eq!(code(&world.take(refused).expect("answered")), COORDINATOR_NOT_AVAILABLE);
}

#[test]
fn an_assignment_that_is_refused_is_asked_for_again() {
    let mut world = World::prompt();
    let member = world.id();
    world.refuses = true;
    let mut before = 0;
    for _ in 0..3 {
        let request = world.ask(GroupRequest::Join(join(&member)));
        let generation = joined(world.take(request)).generation;
        assert!(generation > before, "a generation of its own each time");
        before = generation;
        let request = GroupRequest::Sync(sync(&member, generation, &[(&member, "all")]));
        assert_eq!(code(&world.call(request)), COORDINATOR_NOT_AVAILABLE);
        assert_eq!(describe_classic(&mut world), ("PreparingRebalance", 1));
    }
    world.refuses = false;
    let request = world.ask(GroupRequest::Join(join(&member)));
    let generation = joined(world.take(request)).generation;
    let request = world.ask(GroupRequest::Sync(sync(&member, generation, &[(&member, "all")])));
    assert_eq!(synced(world.take(request)).assignment, b"all");
}

/// What was planned is forgotten: the group is as its log says, and nobody has a partition that another one has.
#[test]
fn a_group_of_the_new_protocol_is_as_its_log_says() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    let before = describe(&mut world);
    world.refuses = true;
    for _ in 0..3 {
        assert_eq!(say(&mut world, entering("b")), "error 15");
        assert_eq!(describe(&mut world), before);
        assert_eq!(say(&mut world, beat("a", 1)), "1", "a heartbeat that changes nothing is answered");
    }
    assert_eq!(say(&mut world, beat("b", 1)), "error 25", "it has not joined");
    world.refuses = false;
    assert_eq!(say(&mut world, entering("b")), "2 []");
    assert_eq!(say(&mut world, owning("a", 1, &[0, 1, 2, 3])), "1 [0, 1]");
    world.refuses = true;
    assert_eq!(say(&mut world, owning("a", 1, &[0, 1])), "error 15", "its next step is not made");
    assert_eq!(say(&mut world, beat("b", 2)), "2", "so the other one does not get what it has");
    world.refuses = false;
    assert_eq!(say(&mut world, owning("a", 1, &[0, 1])), "2");
    assert_eq!(say(&mut world, beat("b", 2)), "2 [2, 3]");
}

/// A session that ends while nothing can be written ends once it can; until then the coordinator does not spin.
#[test]
fn a_silent_member_is_removed_once_that_can_be_written() {
    let mut world = world(4);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1, 2, 3]");
    world.refuses = true;
    world.pass(Duration::from_secs(300));
    assert_eq!(describe(&mut world).members.len(), 1);
    world.refuses = false;
    world.pass(Duration::from_secs(2));
    assert_eq!(describe(&mut world).members.len(), 0);
}

#[test]
fn topics_that_change_meanwhile_are_followed_once_that_can_be_written() {
    let mut world = world(2);
    assert_eq!(say(&mut world, entering("a")), "1 [0, 1]");
    world.refuses = true;
    world.topics(&[("t", 4, 1)]);
    world.pass(Duration::from_secs(10));
    assert_eq!(say(&mut world, beat("a", 1)), "1");
    world.refuses = false;
    world.pass(Duration::from_secs(2));
    assert_eq!(say(&mut world, beat("a", 1)), "2 [0, 1, 2, 3]");
}

#[test]
fn a_change_of_protocol_that_is_refused_is_none() {
    let mut world = world(4);
    let request = world.ask(GroupRequest::Join(classic()));
    let Joined { member_id, generation, .. } = joined(world.take(request));
    let request = world.ask(GroupRequest::Sync(sync(&member_id, generation, &[])));
    synced(world.take(request));
    world.refuses = true;
    assert_eq!(say(&mut world, entering("new")), "error 15");
    assert_eq!(describe_classic(&mut world), ("Stable", 1));
    assert_eq!(code(&world.call(heartbeat(&member_id, generation))), 0, "the classic member goes on");
    world.refuses = false;
    assert!(!say(&mut world, entering("new")).starts_with("error"));
    assert_eq!(describe(&mut world).members.len(), 2);
}

/// The other way round: the last consumer of the new protocol goes, and that cannot be written.
#[test]
fn a_change_back_that_is_refused_is_none() {
    let mut world = world(4);
    assert!(!say(&mut world, entering("new")).starts_with("error"));
    let request = world.ask(GroupRequest::Join(classic()));
    let id = joined(world.take(request)).member_id;
    world.refuses = true;
    assert_eq!(say(&mut world, beat("new", -1)), "error 15");
    assert_eq!(describe(&mut world).members.len(), 2, "both are still there");
    world.refuses = false;
    assert_eq!(say(&mut world, beat("new", -1)), "-1");
    assert_eq!(describe_classic(&mut world), ("PreparingRebalance", 1));
    assert_eq!(
        code(&world.call(heartbeat(&id, 2))),
        27,
        "it is to join again, and keeps what it has until then"
    );
}

#[test]
fn a_group_that_cannot_be_deleted_stays() {
    let mut world = World::prompt();
    assert!(world.call(GroupRequest::OffsetCommit(commit("", -1, 0, 5))).is_ok());
    let member = world.id();
    let request = world.ask(GroupRequest::Join(join(&member)));
    let generation = joined(world.take(request)).generation;
    let request = world.ask(GroupRequest::Sync(sync(&member, generation, &[])));
    synced(world.take(request));
    assert!(world.call(leave(&member)).is_ok());
    world.refuses = true;
    let gone = world.call(GroupRequest::DeleteGroup { group: G.into() });
    assert_eq!(code(&gone), COORDINATOR_NOT_AVAILABLE);
    assert_eq!(describe_classic(&mut world), ("Empty", 0));
    assert_eq!(offsets(&mut world), ["t-0=5"]);
    world.refuses = false;
    assert!(world.call(GroupRequest::DeleteGroup { group: G.into() }).is_ok());
    assert_eq!(code(&world.call(GroupRequest::Describe { group: G.into() })), 69);
}

/// What is due is tried again and again, at a pace.
#[test]
fn what_expires_is_tried_again() {
    let mut world = World::prompt();
    assert!(world.call(GroupRequest::OffsetCommit(commit("", -1, 0, 5))).is_ok());
    world.refuses = true;
    world.pass(Duration::from_secs(9 * 24 * 3_600));
    assert_eq!(offsets(&mut world), ["t-0=5"]);
    world.refuses = false;
    world.pass(Duration::from_secs(3_600));
    assert_eq!(offsets(&mut world), Vec::<String>::new());
}
