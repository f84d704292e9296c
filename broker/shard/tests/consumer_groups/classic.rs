//! The classic protocol, rule by rule.

use crate::world::*;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::types::{
    GroupRequest, GroupResponse, JoinGroup, LeaveGroup, LeavingMember, MemberIdRule, SyncGroup,
};
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn static_join(instance: &str, member_id: &str, fresh_id: u128) -> JoinGroup {
    JoinGroup { instance_id: Some(instance.into()), fresh_id, ..join(member_id) }
}

#[test]
fn a_new_member_gets_an_id_and_then_a_generation() {
    let mut world = World::prompt();
    let id = world.id();
    assert!(id.starts_with("client-0000"), "{id}");
    let request = world.ask(GroupRequest::Join(join(&id)));
    let joined = joined(world.take(request));
    assert_eq!((joined.generation, joined.leader, joined.members.len()), (1, id.clone(), 1));
    assert_eq!(joined.protocol, "range");
    assert_eq!(code(&world.call(GroupRequest::Join(join("nobody")))), 25);
}

#[test]
fn an_old_client_needs_no_id() {
    let mut world = World::prompt();
    let old = JoinGroup { member_id_rule: MemberIdRule::NotRequired, ..join("") };
    let request = world.ask(GroupRequest::Join(old));
    assert_eq!(joined(world.take(request)).generation, 1);
}

#[test]
fn a_new_group_waits_for_company() {
    let mut world = World::new(GroupsConfig::default());
    let first = world.id();
    let request_first = world.ask(GroupRequest::Join(join(&first)));
    world.pass(seconds(2));
    assert!(world.take(request_first).is_none(), "the delay is 3 s");
    let second = world.id();
    let request_second = world.ask(GroupRequest::Join(join(&second)));
    world.pass(seconds(2));
    assert!(world.take(request_first).is_none(), "company came: another 3 s");
    world.pass(seconds(2));
    assert_eq!(joined(world.take(request_first)).members.len(), 2);
    assert_eq!(joined(world.take(request_second)).members.len(), 0, "only the leader is told");
}

#[test]
fn bad_joins_are_refused() {
    let mut world = World::prompt();
    let short = JoinGroup { session_timeout_ms: 5_999, ..join("") };
    let long = JoinGroup { session_timeout_ms: 30 * 60_000 + 1, ..join("") };
    let negative = JoinGroup { session_timeout_ms: -1, ..join("") };
    for bad in [short, long, negative] {
        assert_eq!(code(&world.call(GroupRequest::Join(bad))), 26);
    }
    assert_eq!(code(&world.call(GroupRequest::Join(JoinGroup { group: String::new(), ..join("") }))), 24);
    assert_eq!(code(&world.call(GroupRequest::Join(JoinGroup { protocols: vec![], ..join("") }))), 23);
    let untyped = JoinGroup { protocol_type: String::new(), ..join("") };
    assert_eq!(code(&world.call(GroupRequest::Join(untyped))), 23);
    let huge = JoinGroup { client_id: "x".repeat(1025), ..join("") };
    assert_eq!(code(&world.call(GroupRequest::Join(huge))), 42);
    world.pair();
    let other_type = JoinGroup { protocol_type: "connect".into(), ..join("") };
    assert_eq!(code(&world.call(GroupRequest::Join(other_type))), 23);
    let other_protocol = JoinGroup { protocols: vec![protocol("sticky", &["t"])], ..join("") };
    assert_eq!(code(&world.call(GroupRequest::Join(other_protocol))), 23);
}

#[test]
fn a_full_group_takes_nobody() {
    let mut world = World::prompt();
    world.config.members_max = 2;
    world.fail_over();
    world.pair();
    assert_eq!(code(&world.call(GroupRequest::Join(join("")))), 81);
}

#[test]
fn the_protocol_most_want_is_chosen() {
    let mut world = World::new(GroupsConfig::default());
    let offers: [&[&str]; 3] = [&["range", "sticky"], &["sticky", "range"], &["other", "sticky", "range"]];
    let mut requests = Vec::new();
    for names in offers {
        let id = world.id();
        let protocols = names.iter().map(|name| protocol(name, &["t"])).collect();
        requests.push(world.ask(GroupRequest::Join(JoinGroup { protocols, ..join(&id) })));
    }
    world.pass(seconds(9));
    for request in requests {
        assert_eq!(joined(world.take(request)).protocol, "sticky");
    }
}

#[test]
fn assignments_are_told_once_they_are_committed() {
    let mut world = World::prompt();
    let id = world.id();
    let request = world.ask(GroupRequest::Join(join(&id)));
    let generation = joined(world.take(request)).generation;
    world.commits = false;
    let request = world.ask(GroupRequest::Sync(sync(&id, generation, &[(&id, "all")])));
    assert!(world.take(request).is_none());
    assert_eq!(code(&world.call(heartbeat(&id, generation))), 0, "it is not rebalancing");
    world.commit_all();
    assert_eq!(synced(world.take(request)).assignment, b"all");
    let again = world.call(GroupRequest::Sync(sync(&id, generation, &[])));
    assert_eq!(synced(Some(again)).assignment, b"all", "a stable group tells again");
}

#[test]
fn a_commit_that_never_comes_is_answered() {
    let mut world = World::prompt();
    let id = world.id();
    let request = world.ask(GroupRequest::Join(join(&id)));
    let generation = joined(world.take(request)).generation;
    world.commits = false;
    let request = world.ask(GroupRequest::Sync(sync(&id, generation, &[(&id, "all")])));
    world.pass(seconds(5));
    assert_eq!(world.take(request).map(|answer| code(&answer)), Some(15));
    assert_eq!(code(&world.call(heartbeat(&id, generation))), 27, "and it has to join again");
    world.commit_all();
    assert_eq!(code(&world.call(heartbeat(&id, generation))), 27, "also if it is committed after all");
}

#[test]
fn bad_syncs_and_heartbeats_are_refused() {
    let mut world = World::prompt();
    assert_eq!(code(&world.call(GroupRequest::Sync(sync("nobody", 1, &[])))), 25);
    assert_eq!(code(&world.call(heartbeat("nobody", 1))), 25);
    let (first, _, generation) = world.pair();
    assert_eq!(code(&world.call(GroupRequest::Sync(sync("nobody", generation, &[])))), 25);
    assert_eq!(code(&world.call(GroupRequest::Sync(sync(&first, generation - 1, &[])))), 22);
    let other = SyncGroup { protocol: Some("sticky".into()), ..sync(&first, generation, &[]) };
    assert_eq!(code(&world.call(GroupRequest::Sync(other))), 23);
    let other = SyncGroup { protocol_type: Some("connect".into()), ..sync(&first, generation, &[]) };
    assert_eq!(code(&world.call(GroupRequest::Sync(other))), 23);
    assert_eq!(code(&world.call(heartbeat("nobody", generation))), 25);
    assert_eq!(code(&world.call(heartbeat(&first, generation + 1))), 22);
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 0);
}

#[test]
fn a_followers_same_join_changes_nothing_and_a_leaders_does() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    let again = world.call(GroupRequest::Join(join(&second)));
    let again = joined(Some(again));
    assert_eq!((again.generation, again.leader, again.members.len()), (generation, first.clone(), 0));
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 0);
    let changed = JoinGroup { protocols: vec![protocol("range", &["u"])], ..join(&second) };
    let request = world.ask(GroupRequest::Join(changed));
    assert!(world.take(request).is_none(), "it says something new");
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 27);
    let request_first = world.ask(GroupRequest::Join(join(&first)));
    assert_eq!(joined(world.take(request)).generation, generation + 1);
    let next = joined(world.take(request_first));
    assert_eq!(next.generation, generation + 1);
    let lost = joined(Some(world.call(GroupRequest::Join(join(&first)))));
    assert_eq!(lost, next, "a lost answer is told again");
}

#[test]
fn a_leaders_join_asks_for_a_new_assignment() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    let request = world.ask(GroupRequest::Join(join(&first)));
    assert!(world.take(request).is_none());
    assert_eq!(code(&world.call(heartbeat(&second, generation))), 27);
    assert_eq!(code(&world.call(GroupRequest::Sync(sync(&second, generation, &[])))), 27);
}

#[test]
fn a_silent_member_goes() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    for _ in 0..3 {
        world.pass(seconds(5));
        assert_ne!(code(&world.call(heartbeat(&first, generation))), 25);
    }
    assert_eq!(code(&world.call(heartbeat(&second, generation))), 25);
    let request = world.ask(GroupRequest::Join(join(&first)));
    assert_eq!(joined(world.take(request)).members.len(), 1);
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    let request = world.ask(GroupRequest::Join(join(&first)));
    for _ in 0..11 {
        assert_eq!(code(&world.call(heartbeat(&second, generation))), 27, "alive, and not joining");
        world.pass(Duration::from_millis(5_900));
    }
    assert_eq!(joined(world.take(request)).members.len(), 1);
    assert_eq!(code(&world.call(heartbeat(&second, generation))), 25);
}

#[test]
fn a_leader_that_does_not_assign_goes() {
    let mut world = World::prompt();
    let (first, second, _) = world.pair();
    let one = world.ask(GroupRequest::Join(join(&first)));
    let two = world.ask(GroupRequest::Join(join(&second)));
    let generation = joined(world.take(one)).generation;
    assert_eq!(joined(world.take(two)).leader, first);
    let waiting = world.ask(GroupRequest::Sync(sync(&second, generation, &[])));
    for _ in 0..13 {
        if world.answers.contains_key(&waiting) {
            break;
        }
        assert_eq!(code(&world.call(heartbeat(&first, generation))), 0, "alive, and not assigning");
        world.pass(seconds(5));
    }
    assert_eq!(world.take(waiting).map(|answer| code(&answer)), Some(27));
    let request = world.ask(GroupRequest::Join(join(&second)));
    assert_eq!(joined(world.take(request)).leader, second);
}

#[test]
fn leaving_starts_a_rebalance_and_the_last_one_empties_the_group() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    assert_eq!(code(&world.call(leave("nobody"))), 0);
    assert_eq!(code(&world.call(leave(&second))), 0);
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 27);
    world.commits = false;
    let request = world.ask(leave(&first));
    assert!(world.take(request).is_none(), "the empty group is on record first");
    world.commit_all();
    assert!(world.take(request).is_some());
    let described = world.call(GroupRequest::Describe { group: G.into() });
    assert!(matches!(described, Ok(GroupResponse::Described(group)) if group.state == "Empty"));
}

#[test]
fn an_id_that_is_not_used_holds_nobody_up_for_long() {
    let mut world = World::prompt();
    let (first, _, generation) = world.pair();
    let pending = world.id();
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 0, "an id is no member");
    let second = world.ask(GroupRequest::Join(join(&first)));
    assert_eq!(code(&world.call(heartbeat(&pending, generation))), 25);
    world.pass(seconds(10));
    let described = world.call(GroupRequest::Describe { group: G.into() });
    assert!(world.take(second).is_some(), "{described:?}");
}

#[test]
fn a_superseded_request_is_answered() {
    let mut world = World::prompt();
    let (first, _, _) = world.pair();
    let earlier = world.ask(GroupRequest::Join(join(&first)));
    let later = world.ask(GroupRequest::Join(join(&first)));
    assert_eq!(world.take(earlier).map(|answer| code(&answer)), Some(27));
    assert!(world.take(later).is_none());
}

/// Two static members in a stable generation.
fn static_pair(world: &mut World) -> (String, String, i32) {
    let one = world.ask(GroupRequest::Join(static_join("i1", "", 11)));
    let one = joined(world.take(one)).member_id;
    let two = world.ask(GroupRequest::Join(static_join("i2", "", 12)));
    let again = world.ask(GroupRequest::Join(static_join("i1", &one, 13)));
    let generation = joined(world.take(again)).generation;
    let two = joined(world.take(two)).member_id;
    let parts = [(one.as_str(), "one"), (two.as_str(), "two")];
    let request = world.ask(GroupRequest::Sync(sync(&one, generation, &parts)));
    assert_eq!(synced(world.take(request)).assignment, b"one");
    let request = world.ask(GroupRequest::Sync(sync(&two, generation, &[])));
    assert_eq!(synced(world.take(request)).assignment, b"two");
    (one, two, generation)
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut world = World::prompt();
    let (one, two, generation) = static_pair(&mut world);
    assert!(one.starts_with("i1-"), "{one}");
    let request = world.ask(GroupRequest::Join(static_join("i2", "", 21)));
    let back = joined(world.take(request));
    assert_eq!((back.generation, back.leader.as_str()), (generation, one.as_str()));
    assert_ne!(back.member_id, two);
    let request = world.ask(GroupRequest::Sync(sync(&back.member_id, generation, &[])));
    assert_eq!(synced(world.take(request)).assignment, b"two");
    let mut old = sync(&two, generation, &[]);
    old.instance_id = Some("i2".into());
    assert_eq!(code(&world.call(GroupRequest::Sync(old))), 82, "the old one is fenced");
    assert_eq!(code(&world.call(heartbeat(&two, generation))), 25);
    assert_eq!(code(&world.call(GroupRequest::Join(static_join("i9", &two, 22)))), 25);
    // The new id survives a fail-over.
    world.fail_over();
    assert_eq!(code(&world.call(heartbeat(&back.member_id, generation))), 0);
}

#[test]
fn a_static_leader_that_comes_back_skips_the_assignment() {
    let mut world = World::prompt();
    let (one, _, generation) = static_pair(&mut world);
    let request = world.ask(GroupRequest::Join(static_join("i1", "", 21)));
    let back = joined(world.take(request));
    assert!(back.skip_assignment && back.leader == back.member_id && back.members.len() == 2);
    assert_eq!(back.generation, generation);
    let old = JoinGroup { can_skip_assignment: false, ..static_join("i1", "", 22) };
    let request = world.ask(GroupRequest::Join(old));
    let again = joined(world.take(request));
    assert!(!again.skip_assignment && again.members.is_empty());
    assert_eq!(again.leader, back.member_id, "an old client is told of the old leader");
    assert_ne!(again.member_id, one);
}

#[test]
fn a_static_member_that_waits_is_fenced_by_its_successor() {
    let mut world = World::prompt();
    let (one, _, _) = static_pair(&mut world);
    let earlier = world.ask(GroupRequest::Join(static_join("i1", &one, 30)));
    let later = world.ask(GroupRequest::Join(static_join("i1", "", 31)));
    assert_eq!(world.take(earlier).map(|answer| code(&answer)), Some(82));
    assert!(world.take(later).is_none());
    // Silent, the other one keeps its place until its session ends.
    world.pass(seconds(9));
    assert!(world.take(later).is_none());
    world.pass(seconds(2));
    assert_eq!(joined(world.take(later)).members.len(), 1);
}

#[test]
fn static_members_leave_by_instance_id() {
    let mut world = World::prompt();
    let (_, two, _) = static_pair(&mut world);
    let leaving = |member_id: &str, instance: &str| LeavingMember {
        member_id: member_id.into(),
        instance_id: Some(instance.into()),
    };
    let members = vec![leaving("", "i1"), leaving("other", "i2"), leaving(&two, "i3")];
    let request = world.ask(GroupRequest::Leave(LeaveGroup { group: G.into(), members }));
    let Some(Ok(GroupResponse::Left(left))) = world.take(request) else { panic!("left") };
    let codes: Vec<i16> =
        left.iter().map(|left| left.error.as_ref().map_or(0, |error| error.code())).collect();
    assert_eq!(codes, [0, 82, 25]);
}

#[test]
fn a_new_leader_goes_on_where_the_log_ends() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    let before = world.call(GroupRequest::Describe { group: G.into() });
    world.fail_over();
    assert_eq!(world.call(GroupRequest::Describe { group: G.into() }), before);
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 0);
    world.pass(seconds(9));
    assert_eq!(code(&world.call(heartbeat(&second, generation))), 0, "sessions began anew");
    world.pass(seconds(2));
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 25);
}

#[test]
fn who_waits_is_told_that_the_leader_is_gone() {
    let mut world = World::prompt();
    let (first, second, generation) = world.pair();
    let join_waits = world.ask(GroupRequest::Join(join(&first)));
    world.commits = false;
    let commit_waits = world.ask(GroupRequest::OffsetCommit(commit(&second, generation, 0, 5)));
    let mut outputs = Vec::new();
    world.groups.follow(&mut outputs);
    world.carry_out(outputs);
    for request in [join_waits, commit_waits] {
        assert_eq!(world.take(request).map(|answer| code(&answer)), Some(16));
    }
    assert_eq!(code(&world.call(heartbeat(&first, generation))), 16);
    assert_eq!(world.groups.next_deadline(), None);
}

#[test]
fn a_group_is_listed_by_state_and_type() {
    use raftline_shard::consumer_groups::types::ListGroups;
    let mut world = World::prompt();
    world.pair();
    let list = |world: &mut World, states: &[&str], types: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let list = ListGroups { states: own(states), types: own(types) };
        match world.call(GroupRequest::List(list)) {
            Ok(GroupResponse::Listed(listed)) => listed.len(),
            other => panic!("not a list: {other:?}"),
        }
    };
    assert_eq!(list(&mut world, &[], &[]), 1);
    assert_eq!(list(&mut world, &["stable"], &["Classic"]), 1);
    assert_eq!(list(&mut world, &["Empty"], &[]), 0);
    assert_eq!(list(&mut world, &[], &["consumer"]), 0);
}
