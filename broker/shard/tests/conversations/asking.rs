//! No answer speaks of what the answerer does not know: the log's ends, from leaders that are new, or deposed.

use crate::node::Answer;
use crate::world::{End, N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId, Offset, Term};
use raftline_proto::time::Timestamp;
use raftline_raft::types::Role;
use raftline_shard::types::{
    CoordinatorCommand, CoordinatorError, CoordinatorReply, Event, FetchError, OffsetQuery, Reply, RequestId,
};
use std::collections::BTreeMap;
use std::time::Duration;

const QUERIES: [OffsetQuery; 5] = [
    OffsetQuery::Earliest,
    OffsetQuery::Latest,
    OffsetQuery::AtOrAfter(Timestamp(0)),
    OffsetQuery::MaxTimestamp,
    OffsetQuery::EndOfTerm(Term(1)),
];

fn ask(world: &mut World, node: NodeId, group: GroupId, query: OffsetQuery) -> RequestId {
    world.ask(node, |request| Event::ListOffset { request, group, query })
}

fn refusal(answer: Answer) -> FetchError {
    match answer {
        Answer::Shard(reply) => match *reply {
            Reply::Offset(Err(error)) | Reply::Fetched(Err(error)) => error,
            other => panic!("not refused: {other:?}"),
        },
        other => panic!("not refused: {other:?}"),
    }
}

/// The first moment at which another node than `old` believes that it leads.
fn successor(world: &mut World, group: GroupId, old: NodeId) -> NodeId {
    world.until("another leader", |world| {
        [N1, N2, N3].into_iter().filter(|node| *node != old).find(|id| {
            let process = world.node(*id).process.as_ref();
            process.is_some_and(|process| {
                process.leaders.get(&group).is_some_and(|(role, _)| *role == Role::Leader)
            })
        })
    })
}

#[test]
fn latest_never_goes_back_to_before_what_was_acknowledged() {
    let (mut world, group) = World::with_topic();
    let old = world.leader(group);
    for text in ["a", "b", "c", "d", "e", "f"] {
        world.produce(group, text).expect("acknowledged");
    }
    // That the last one is committed has not reached the followers.
    world.isolate(old);
    let new = successor(&mut world, group, old);
    let latest = ask(&mut world, new, group, OffsetQuery::Latest);
    let newest = ask(&mut world, new, group, OffsetQuery::MaxTimestamp);
    let of_first = ask(&mut world, new, group, OffsetQuery::EndOfTerm(Term(1)));
    let fetch = world.fetch_from(new, group, 0, 0, Duration::ZERO);
    assert_eq!(world.answer(latest), Answer::Shard(Box::new(Reply::Offset(Ok(Offset(6))))));
    assert_eq!(world.answer(newest), Answer::Offset(Some(Offset(5))));
    assert_eq!(world.answer(of_first), Answer::Offset(Some(Offset(6))));
    assert_eq!(world.fetched(fetch).expect("served").1, Offset(6), "the high watermark");
}

#[test]
fn a_deposed_coordinator_that_does_not_know_it_decides_nothing() {
    let (mut world, _) = World::with_topic();
    let old = world.leader(GroupId::COORDINATOR);
    let same = CoordinatorCommand::AlterTopic { name: "orders".into(), configs: BTreeMap::new() };
    assert_eq!(world.coordinate(old, same.clone()), Ok(CoordinatorReply::Done), "nothing changes");
    world.isolate(old);
    let unknown = CoordinatorCommand::DeleteTopic { name: "later".into(), id: None };
    let deadline = world.deadline(Duration::from_secs(5));
    let asked = [unknown.clone(), same]
        .map(|command| world.ask(old, |request| Event::Coordinate { request, command, deadline }));
    let new = successor(&mut world, GroupId::COORDINATOR, old);
    let make = world.topic("later", Some(1), &[]);
    world.coordinate(new, make).expect("a majority agrees");
    for request in asked {
        let reply = world.shard_answer(request);
        let Reply::Coordinated(Err(CoordinatorError::NotLeader { .. })) = reply else {
            panic!("it does not know: {reply:?}");
        };
    }
    world.heal();
    assert_eq!(world.command(unknown), Ok(CoordinatorReply::Done), "the topic is there");
}

#[test]
fn a_deposed_leader_that_does_not_know_it_names_no_offset() {
    let (mut world, group) = World::with_topic();
    let old = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    world.isolate(old);
    let asked = QUERIES.map(|query| ask(&mut world, old, group, query));
    let new = successor(&mut world, group, old);
    world.heal();
    let request = world.send(new, group, "b");
    world.produced(request).expect("acknowledged");
    for request in asked {
        let why = refusal(world.answer(request));
        assert!(matches!(why, FetchError::NotLeader { .. }), "{why:?}");
    }
}

#[test]
fn a_follower_says_first_of_all_that_it_does_not_lead() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let follower = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    for query in QUERIES.into_iter().chain([OffsetQuery::EndOfTerm(Term(9))]) {
        let request = ask(&mut world, follower, group, query);
        let why = refusal(world.answer(request));
        assert!(matches!(why, FetchError::NotLeader { leader: Some(_), .. }), "{query:?}: {why:?}");
    }
}

#[test]
fn a_term_that_has_not_begun_is_told_by_a_leader_that_is_sure_of_itself() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    let request = ask(&mut world, leader, group, OffsetQuery::EndOfTerm(Term(9)));
    assert_eq!(refusal(world.answer(request)), FetchError::UnknownTerm { asked: Term(9), term: Term(1) });
    world.isolate(leader);
    let request = ask(&mut world, leader, group, OffsetQuery::EndOfTerm(Term(9)));
    let why = refusal(world.answer(request));
    assert!(matches!(why, FetchError::NotLeader { .. }), "{why:?}");
}

#[test]
fn a_new_leader_whose_first_entry_takes_long_says_not_yet() {
    let (mut world, group) = World::with_topic();
    let old = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    world.end(old, End::Killed);
    let new = successor(&mut world, group, old);
    let other = [N1, N2, N3].into_iter().find(|node| *node != old && *node != new).expect("the third");
    world.node(other).sync_us = 1_950_000;
    let began = world.now;
    let latest = ask(&mut world, new, group, OffsetQuery::Latest);
    let fetch = world.fetch_from(new, group, 0, 0, Duration::from_millis(100));
    let hurried = world.fetch_from(new, group, 0, 0, Duration::from_secs(60));
    world.run_for(Duration::from_millis(50));
    world.node(new).submit(Event::Hurry { group, request: hurried });
    assert_eq!(world.fetched(hurried), Err(FetchError::NotYet), "whoever waits no longer need not");
    assert_eq!(refusal(world.answer(latest)), FetchError::NotYet);
    assert_eq!(world.fetched(fetch), Err(FetchError::NotYet));
    assert!(world.now.since(began) <= Duration::from_secs(2), "a bounded wait");
    world.run_for(Duration::from_secs(6));
    let latest = ask(&mut world, new, group, OffsetQuery::Latest);
    assert_eq!(world.answer(latest), Answer::Shard(Box::new(Reply::Offset(Ok(Offset(1))))));
}

#[test]
fn questions_cost_no_entry() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.produce(group, "a").expect("acknowledged");
    world.run_for(Duration::from_secs(1));
    let last = world.node(leader).disk.live[&group].log.last();
    for _ in 0..50 {
        let fetches: Vec<RequestId> =
            (0..20).map(|_| world.fetch_from(leader, group, 1_000_000, 1, Duration::ZERO)).collect();
        for fetch in fetches {
            let outcome = world.fetched(fetch);
            assert!(matches!(outcome, Err(FetchError::OffsetOutOfRange { .. })), "{outcome:?}");
        }
        for query in QUERIES {
            let request = ask(&mut world, leader, group, query);
            world.answer(request);
        }
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.node(leader).disk.live[&group].log.last(), last);
}

#[test]
fn too_many_questions_are_refused_and_all_are_answered() {
    let (mut world, group) = World::with_topic();
    let leader = world.leader(group);
    world.isolate(leader);
    let bound = raftline_shard::limits::PARKED_QUESTIONS_MAX;
    let asked: Vec<RequestId> =
        (0..=bound).map(|_| ask(&mut world, leader, group, OffsetQuery::Latest)).collect();
    let (last, rest) = asked.split_last().expect("many");
    assert_eq!(refusal(world.answer(*last)), FetchError::Busy);
    for request in rest {
        let why = refusal(world.answer(*request));
        assert!(matches!(why, FetchError::NotLeader { .. }), "{why:?}");
    }
}
