//! Every bound, one past it.

use crate::world::*;
use raftline_shard::consumer_groups::limits::{
    GROUP_OFFSETS_MAX, GROUPS_MAX, LEAVING_MAX, MEMBER_BYTES_MAX, PENDING_MEMBERS_MAX, PROTOCOLS_MAX,
    REQUEST_PARTITIONS_MAX, WITHHELD_MAX,
};
use raftline_shard::consumer_groups::types::{
    CommitOffset, GroupProtocol, GroupRequest, GroupResponse, JoinGroup, LeaveGroup, LeavingMember,
    MemberIdRule, OffsetCommit,
};

/// A commit of `count` partitions from number `first` on.
fn many(first: usize, count: usize) -> OffsetCommit {
    let offset = |number: usize| CommitOffset {
        topic_partition: at("t", i32::try_from(number).expect("a partition")),
        offset: 1,
        leader_epoch: -1,
        metadata: String::new(),
    };
    OffsetCommit { offsets: (first..first + count).map(offset).collect(), ..commit("", -1, 0, 0) }
}

fn sized(bytes: usize) -> Vec<GroupProtocol> {
    vec![GroupProtocol { name: "range".into(), metadata: vec![0; bytes] }]
}

#[test]
fn a_member_may_say_so_much() {
    let mut world = World::prompt();
    let protocols = (0..=PROTOCOLS_MAX).map(|number| protocol(&number.to_string(), &[])).collect();
    assert_eq!(code(&world.call(GroupRequest::Join(JoinGroup { protocols, ..join("") }))), 42);
    let protocols = sized(MEMBER_BYTES_MAX);
    assert_eq!(code(&world.call(GroupRequest::Join(JoinGroup { protocols, ..join("") }))), 42);
    assert_eq!(world.groups.next_deadline(), None, "nothing was made");
}

#[test]
fn a_group_may_say_so_much() {
    let mut world = World::prompt();
    let big = |fresh_id: u128| JoinGroup {
        protocols: sized(MEMBER_BYTES_MAX - 5),
        member_id_rule: MemberIdRule::NotRequired,
        fresh_id,
        ..join("")
    };
    for fresh_id in 0..3 {
        world.ask(GroupRequest::Join(big(fresh_id)));
    }
    assert_eq!(code(&world.call(GroupRequest::Join(big(3)))), 81);
}

#[test]
fn an_assignment_may_be_so_large() {
    let mut world = World::prompt();
    let id = world.id();
    let request = world.ask(GroupRequest::Join(join(&id)));
    let generation = joined(world.take(request)).generation;
    let mut sync = sync(&id, generation, &[]);
    sync.assignments = vec![(id.clone(), vec![0; (4 << 20) + 1])];
    assert_eq!(code(&world.call(GroupRequest::Sync(sync))), -1);
    assert_eq!(code(&world.call(heartbeat(&id, generation))), 27, "it is to try again");
}

#[test]
fn ids_are_given_out_to_so_many() {
    let mut world = World::prompt();
    for _ in 0..PENDING_MEMBERS_MAX {
        world.id();
    }
    assert_eq!(code(&world.call(GroupRequest::Join(join("")))), 81);
    world.pass(std::time::Duration::from_secs(10));
    assert_eq!(world.groups.next_deadline(), None, "a group that nobody joined is forgotten");
}

#[test]
fn there_are_so_many_groups() {
    let mut world = World::prompt();
    let to = |number: usize| JoinGroup { group: format!("g{number}"), ..join("") };
    for number in 0..GROUPS_MAX {
        assert_eq!(code(&world.call(GroupRequest::Join(to(number)))), 79);
    }
    assert_eq!(code(&world.call(GroupRequest::Join(to(GROUPS_MAX)))), 81);
    assert_eq!(code(&world.call(GroupRequest::Join(to(0)))), 79, "those that are there go on");
    // Groups that only have offsets have a bound of their own.
    let to = |number: usize| OffsetCommit { group: format!("o{number}"), ..commit("", -1, 0, 1) };
    for number in 0..GROUPS_MAX {
        world.call(GroupRequest::OffsetCommit(to(number))).expect("committed");
    }
    let answer = world.call(GroupRequest::OffsetCommit(to(GROUPS_MAX)));
    let Ok(GroupResponse::Partitions(outcomes)) = answer else { panic!("outcomes") };
    assert_eq!(outcomes[0].error.as_ref().map(|error| error.code()), Some(28));
}

#[test]
fn a_group_has_so_many_offsets() {
    let mut world = World::prompt();
    let too_many = many(0, REQUEST_PARTITIONS_MAX + 1);
    assert_eq!(code(&world.call(GroupRequest::OffsetCommit(too_many))), 42);
    for first in (0..GROUP_OFFSETS_MAX).step_by(REQUEST_PARTITIONS_MAX) {
        world.call(GroupRequest::OffsetCommit(many(first, REQUEST_PARTITIONS_MAX))).expect("committed");
    }
    let answer = world.call(GroupRequest::OffsetCommit(many(GROUP_OFFSETS_MAX - 1, 2)));
    let Ok(GroupResponse::Partitions(outcomes)) = answer else { panic!("outcomes") };
    let codes: Vec<_> =
        outcomes.iter().map(|outcome| outcome.error.as_ref().map(|error| error.code())).collect();
    assert_eq!(codes, [None, Some(28)], "one that is there may move on");
}

#[test]
fn so_many_leave_at_once() {
    let mut world = World::prompt();
    let leaving = LeavingMember { member_id: "x".into(), instance_id: None };
    let members = vec![leaving; LEAVING_MAX + 1];
    assert_eq!(code(&world.call(GroupRequest::Leave(LeaveGroup { group: G.into(), members }))), 42);
}

#[test]
fn so_many_answers_wait() {
    let mut world = World::prompt();
    world.commits = false;
    let one = || GroupRequest::OffsetCommit(commit("", -1, 0, 1));
    let first = world.ask(one());
    for _ in 1..WITHHELD_MAX {
        world.ask(one());
    }
    assert_eq!(code(&world.call(one())), 14);
    world.commit_one();
    assert_eq!(world.take(first).map(|answer| code(&answer)), Some(0));
    let next = world.ask(one());
    assert!(world.take(next).is_none(), "there is room again");
    world.commit_all();
    assert_eq!(world.unanswered, 0);
}
