//! Subscriptions by regular expression, in the new protocol.

use crate::consumer::{beat, describe, entering, owning};
use crate::world::*;
use raftline_shard::consumer_groups::limits::{EXPRESSION_BYTES_MAX, MATCHED_TOPICS_MAX};
use raftline_shard::consumer_groups::types::{
    Answer, ConsumerHeartbeat, GroupError, GroupRequest, GroupResponse, OffsetDelete,
};
use std::time::Duration;

const TOPICS: [(&str, i32, u128); 3] = [("orders", 2, 1), ("orders-v2", 1, 2), ("reorders", 1, 3)];

fn world() -> World {
    let mut world = World::prompt();
    world.topics(&TOPICS);
    world
}

/// `member_id` joins with names and an expression.
fn joining(member_id: &str, names: &[&str], regex: &str) -> ConsumerHeartbeat {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    ConsumerHeartbeat {
        subscribed_topics: Some(names),
        subscribed_regex: Some(regex.into()),
        ..entering(member_id)
    }
}

fn changing(member_id: &str, epoch: i32, regex: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat { subscribed_regex: Some(regex.into()), ..beat(member_id, epoch) }
}

/// An answer in short: the epoch and, if told, the partitions of each topic; or the error.
fn short(answer: Answer) -> String {
    match answer {
        Ok(GroupResponse::ConsumerHeartbeat(answer)) => {
            let mut text = answer.member_epoch.to_string();
            if let Some(assignment) = answer.assignment {
                text += ":";
                for (topic, partitions) in assignment {
                    text += &format!(" {topic}{partitions:?}");
                }
            }
            text
        }
        Ok(other) => panic!("not a heartbeat's answer: {other:?}"),
        Err(error) => format!("error {}", error.code()),
    }
}

fn say(world: &mut World, beat: ConsumerHeartbeat) -> String {
    short(world.call(GroupRequest::ConsumerHeartbeat(beat)))
}

/// The member says that it owns what it was told.
fn owning_all(world: &mut World, member_id: &str, epoch: i32) -> ConsumerHeartbeat {
    let found = describe(world).members.into_iter().find(|member| member.member_id == member_id);
    ConsumerHeartbeat { owned: found.map(|member| member.assignment), ..beat(member_id, epoch) }
}

#[test]
fn the_topics_that_an_expression_matches_are_assigned() {
    let mut world = world();
    assert_eq!(say(&mut world, joining("a", &[], "orders.*")), "1: orders{0, 1} orders-v2{0}");
    let described = describe(&mut world);
    assert_eq!(described.members[0].subscribed_regex.as_deref(), Some("orders.*"));
    assert!(described.members[0].subscribed_topics.is_empty(), "only what it named");
    assert_eq!(say(&mut world, beat("a", 1)), "1", "nothing said is nothing changed");
    world.fail_over();
    assert_eq!(say(&mut world, beat("a", 1)), "1", "nor is it with another leader");
    assert_eq!(describe(&mut world).members[0].subscribed_regex.as_deref(), Some("orders.*"));
    assert_eq!(say(&mut world, joining("b", &[], "orders.*")), "2:", "a owns everything yet");
    assert_eq!(say(&mut world, beat("a", 1)), "1: orders{0, 1}");
    let released = owning_all(&mut world, "a", 1);
    assert_eq!(say(&mut world, released), "2");
    assert_eq!(say(&mut world, beat("b", 2)), "2: orders-v2{0}");
}

#[test]
fn an_expression_is_changed_and_dropped() {
    let mut world = world();
    assert_eq!(say(&mut world, joining("a", &[], "reorders")), "1: reorders{0}");
    assert_eq!(say(&mut world, changing("a", 1, "(?:re)?orders")), "2: orders{0, 1} reorders{0}");
    assert_eq!(say(&mut world, changing("a", 2, "(?:re)?orders")), "2", "the same again");
    let named = ConsumerHeartbeat { subscribed_topics: Some(vec!["orders-v2".into()]), ..beat("a", 2) };
    assert_eq!(say(&mut world, named), "3: orders{0, 1} orders-v2{0} reorders{0}", "both count");
    assert_eq!(say(&mut world, changing("a", 3, "")), "3: orders-v2{0}", "an empty one is none");
    assert_eq!(describe(&mut world).members[0].subscribed_regex, None);
    let released = owning_all(&mut world, "a", 3);
    assert_eq!(say(&mut world, released), "4");
}

#[test]
fn a_member_may_join_with_an_expression_and_no_names_at_all() {
    let mut world = world();
    let only =
        ConsumerHeartbeat { subscribed_topics: None, subscribed_regex: Some("re.*".into()), ..entering("a") };
    assert_eq!(say(&mut world, only), "1: reorders{0}");
    let neither = ConsumerHeartbeat { subscribed_topics: None, ..entering("b") };
    assert_eq!(say(&mut world, neither), "error 42");
    let nothing =
        ConsumerHeartbeat { subscribed_topics: None, subscribed_regex: Some("".into()), ..entering("b") };
    assert_eq!(say(&mut world, nothing), "2:", "it is a member and reads nothing");
}

/// As Kafka's, whose clients may count on it.
#[test]
fn what_is_named_beside_a_new_expression_comes_first() {
    let mut world = world();
    assert_eq!(say(&mut world, joining("a", &["reorders"], "orders.*")), "1: reorders{0}");
    assert_eq!(say(&mut world, beat("a", 1)), "2: orders{0, 1} orders-v2{0} reorders{0}");
    assert_eq!(say(&mut world, beat("a", 2)), "2");
    // Of an expression that the group has already, nothing has to be waited for.
    assert_eq!(say(&mut world, joining("b", &["reorders"], "orders.*")), "3:", "a owns everything yet");
    assert_eq!(say(&mut world, beat("a", 2)), "2: orders{0, 1}");
}

/// What was announced by a leader that died before it counted.
#[test]
fn an_expression_counts_with_the_next_leader() {
    let mut world = World::prompt();
    world.topics(&[("t", 1, 1), ("u", 3, 2)]);
    let named = |member_id: &str, name: &str| joining(member_id, &[name], "");
    assert_eq!(say(&mut world, named("a", "t")), "1: t{0}");
    assert_eq!(say(&mut world, named("b", "u")), "2: u{0, 1, 2}");
    assert_eq!(say(&mut world, beat("a", 1)), "2");
    // No topic is read that was not read before, and yet a is to get a part.
    assert_eq!(say(&mut world, changing("a", 2, "t|u")), "3");
    world.fail_over();
    assert_eq!(say(&mut world, beat("b", 2)), "2: u{0, 1}");
    let released = owning_all(&mut world, "b", 2);
    assert_eq!(say(&mut world, released), "4");
    assert_eq!(say(&mut world, beat("a", 3)), "4: t{0} u{2}");
}

#[test]
fn topics_that_come_and_go_are_matched_anew() {
    let mut world = world();
    assert_eq!(say(&mut world, joining("a", &[], "orders.*")), "1: orders{0, 1} orders-v2{0}");
    world.topics(&[TOPICS[0], TOPICS[1], TOPICS[2], ("other", 1, 4)]);
    assert_eq!(say(&mut world, beat("a", 1)), "1", "what it does not match is nothing to it");
    world.topics(&[TOPICS[0], TOPICS[1], TOPICS[2], ("orders-v3", 1, 5)]);
    assert_eq!(say(&mut world, beat("a", 1)), "2: orders{0, 1} orders-v2{0} orders-v3{0}");
    world.topics(&[TOPICS[0], ("orders-v3", 1, 5)]);
    assert_eq!(say(&mut world, beat("a", 2)), "2: orders{0, 1} orders-v3{0}");
    let released = owning_all(&mut world, "a", 2);
    assert_eq!(say(&mut world, released), "3");
    // A topic comes while nobody leads: the next leader sees it.
    let grown = [("orders", 1), ("orders-v4", 6)];
    let image = |id| raftline_shard::consumer_groups::types::TopicImage { partitions: 1, id };
    world.topics = Some(grown.into_iter().map(|(name, id)| (name.into(), image(id))).collect());
    world.fail_over();
    assert_eq!(say(&mut world, beat("a", 3)), "3: orders{0}");
    let released = owning_all(&mut world, "a", 3);
    assert_eq!(say(&mut world, released), "4: orders{0} orders-v4{0}");
}

/// Whoever makes many topics costs a group two rebalances, not one for each.
#[test]
fn a_burst_of_topics_is_followed_in_two_steps() {
    let mut world = world();
    let late = [("orders-v3", 1, 5), ("orders-v4", 1, 6), ("orders-v5", 1, 7)];
    let mut topics = TOPICS.to_vec();
    assert_eq!(say(&mut world, joining("a", &[], "orders-v.*")), "1: orders-v2{0}");
    for topic in &late[..2] {
        topics.push(*topic);
        world.topics(&topics);
        assert_eq!(describe(&mut world).group_epoch, 2);
    }
    assert_eq!(
        say(&mut world, beat("a", 1)),
        "2: orders-v2{0} orders-v3{0} orders-v4{0}",
        "all that are there"
    );
    topics.push(late[2]);
    world.topics(&topics);
    world.pass(Duration::from_millis(9_999));
    assert_eq!(say(&mut world, beat("a", 2)), "2");
    world.pass(Duration::from_millis(1));
    let all = "orders-v2{0} orders-v3{0} orders-v4{0} orders-v5{0}";
    assert_eq!(say(&mut world, beat("a", 2)), format!("3: {all}"), "two heartbeat intervals later");
    // What is deleted goes at once, and takes along what came.
    topics.retain(|(name, ..)| *name != "orders-v3");
    topics.push(("orders-v6", 1, 8));
    world.topics(&topics);
    assert_eq!(say(&mut world, beat("a", 3)), "3: orders-v2{0} orders-v4{0} orders-v5{0}");
    let released = owning_all(&mut world, "a", 3);
    assert_eq!(say(&mut world, released), "4: orders-v2{0} orders-v4{0} orders-v5{0} orders-v6{0}");
    // Nobody is left to follow what came.
    topics.push(("orders-v7", 1, 9));
    world.topics(&topics);
    assert_eq!(say(&mut world, beat("a", -1)), "-1");
    let epoch = describe(&mut world).group_epoch;
    world.pass(Duration::from_secs(100));
    assert_eq!(describe(&mut world).group_epoch, epoch);
}

#[test]
fn a_static_member_comes_back_with_its_expression() {
    let mut world = world();
    let fixed = |beat: ConsumerHeartbeat| ConsumerHeartbeat { instance_id: Some("i".into()), ..beat };
    assert_eq!(say(&mut world, fixed(joining("a", &[], "re.*"))), "1: reorders{0}");
    assert_eq!(say(&mut world, fixed(beat("a", -2))), "-2");
    let back = ConsumerHeartbeat { subscribed_topics: Some(Vec::new()), ..entering("b") };
    assert_eq!(say(&mut world, fixed(back)), "1: reorders{0}", "it says nothing of it, and has it");
    assert_eq!(describe(&mut world).members[0].subscribed_regex.as_deref(), Some("re.*"));
}

/// As in Kafka: only who may read it could keep a member from it, and that is not for the coordinator to say.
#[test]
fn internal_topics_are_matched_like_others() {
    let mut world = World::prompt();
    world.topics(&[("__consumer_offsets", 1, 1), ("t", 1, 2)]);
    assert_eq!(say(&mut world, joining("a", &[], ".*")), "1: __consumer_offsets{0} t{0}");
    assert_eq!(say(&mut world, joining("b", &[], "[^_].*")), "2:");
}

#[test]
fn bad_expressions_are_refused_with_a_reason() {
    let mut world = world();
    let reason = |world: &mut World, regex: &str| match world.call(GroupRequest::ConsumerHeartbeat(joining(
        "a",
        &["orders"],
        regex,
    ))) {
        Err(error @ GroupError::InvalidRegularExpression { .. }) => {
            assert_eq!(error.code(), 128);
            error.message().to_owned()
        }
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(
        reason(&mut world, "^.*[0"),
        "the regular expression `^.*[0` is not valid: unclosed character class"
    );
    assert!(reason(&mut world, "(a{1000}){1000}").contains("its automaton would pass"));
    let long = "x".repeat(EXPRESSION_BYTES_MAX + 1);
    assert!(reason(&mut world, &long).ends_with("it is 2049 bytes long, and may have 2048"));
    assert!(reason(&mut world, &long).len() < 400, "it is not sent back as a whole");
    assert_eq!(code(&world.call(GroupRequest::ConsumerDescribe { group: G.into() })), 69, "nothing was made");
    assert_eq!(say(&mut world, joining("a", &[], "re.*")), "1: reorders{0}");
    assert_eq!(say(&mut world, changing("a", 1, "re(")), "error 128");
    assert_eq!(
        describe(&mut world).members[0].subscribed_regex.as_deref(),
        Some("re.*"),
        "it stays as it was"
    );
    assert_eq!(say(&mut world, owning("a", 1, &[])), "1");
}

#[test]
fn offsets_of_matched_topics_are_not_deleted() {
    let mut world = world();
    assert_eq!(say(&mut world, joining("a", &[], "re.*")), "1: reorders{0}");
    let delete = OffsetDelete { group: G.into(), partitions: vec![at("reorders", 0), at("orders", 0)] };
    let Ok(GroupResponse::Partitions(outcomes)) = world.call(GroupRequest::OffsetDelete(delete)) else {
        panic!("outcomes")
    };
    let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.error.as_ref().map(GroupError::code)).collect();
    assert_eq!(codes, [Some(86), None]);
}

#[test]
fn so_many_topics_are_matched() {
    let mut world = World::prompt();
    let names: Vec<String> = (0..MATCHED_TOPICS_MAX + 2).map(|number| format!("t{number:05}")).collect();
    let topics: Vec<(&str, i32, u128)> = names.iter().map(|name| (name.as_str(), 1, 1)).collect();
    world.topics(&topics);
    let answer = world.call(GroupRequest::ConsumerHeartbeat(joining("a", &[], "t.*")));
    let Ok(GroupResponse::ConsumerHeartbeat(answer)) = answer else { panic!("joined") };
    let assigned = answer.assignment.expect("told");
    assert_eq!(assigned.len(), MATCHED_TOPICS_MAX);
    assert!(assigned.keys().eq(&names[..MATCHED_TOPICS_MAX]), "the first ones by name");
    world.fail_over();
    let owning = ConsumerHeartbeat { owned: Some(assigned), ..beat("a", 1) };
    assert_eq!(say(&mut world, owning), "1", "what was written is read");
}

/// Expressions have a bound on their memory; those that nobody has any more make room.
#[test]
fn so_many_expressions_are_kept() {
    let mut world = world();
    let large = |number: usize| format!("{number}|.*[acegikmoqsuwy].{{9}}");
    let mut members = 0;
    loop {
        match say(&mut world, joining(&format!("m{members}"), &[], &large(members))).as_str() {
            "error 81" => break,
            told => assert!(told.starts_with(&format!("{}:", members + 1)), "{told}"),
        }
        members += 1;
    }
    assert!((10..1_000).contains(&members), "{members}");
    assert_eq!(
        say(&mut world, joining("n", &[], &large(0))),
        format!("{}:", members + 1),
        "one that is there"
    );
    assert_eq!(say(&mut world, beat("m0", -1)), "-1");
    assert_eq!(say(&mut world, joining("o", &[], &large(members))), "error 81", "n has it yet");
    assert_eq!(say(&mut world, beat("n", -1)), "-1");
    let told = say(&mut world, joining("o", &[], &large(members)));
    assert!(told.contains(':'), "{told}: now there is room");
    world.fail_over();
    assert!(describe(&mut world).members.len() > members - 2, "whoever was let in stays");
}
