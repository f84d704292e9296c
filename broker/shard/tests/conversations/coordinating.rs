//! The coordinator: brokers, topics, configs.

use crate::log::Stored;
use crate::world::{End, N1, N2, N3, World};
use raftline_proto::entry::{EntryBody, EntryInfo};
use raftline_proto::ids::{EntryId, GroupId, Incarnation, NodeId, ProducerId, TopicId};
use raftline_proto::metadata::{BrokerRecord, MetadataRecord, PartitionRecord};
use raftline_shard::coordinator::internal::{GROUPS_TOPIC, groups_topic_configs};
use raftline_shard::limits::PRODUCER_IDS_BLOCK;
use raftline_shard::types::{
    ConfigFault, CoordinatorCommand, CoordinatorError, CoordinatorReply, Event, FetchError, LogConfig,
    ProduceError, Reply, ShardAlarm,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn image_everywhere(world: &mut World, look: impl Fn(&raftline_shard::image::MetadataImage) -> bool) {
    world.until("the image on every shard", |world| {
        let processes = world.nodes.values().filter_map(|node| node.process.as_ref());
        processes.flat_map(|process| &process.shards).all(|shard| look(shard.image())).then_some(())
    });
}

#[test]
fn the_first_leader_names_the_cluster() {
    let mut world = World::new();
    image_everywhere(&mut world, |image| image.cluster.is_some());
    let clusters: BTreeSet<_> = world
        .nodes
        .values()
        .filter_map(|node| node.process.as_ref())
        .map(|process| process.shards[1].image().cluster.clone())
        .collect();
    assert_eq!(clusters.len(), 1, "{clusters:?}");
}

#[test]
fn brokers_register_once_and_again() {
    let mut world = World::new();
    assert_eq!(world.register(N1, Incarnation(1)), Ok(CoordinatorReply::Done));
    assert_eq!(world.register(N1, Incarnation(1)), Ok(CoordinatorReply::Done), "nothing changes");
    let before = world.nodes[&N1].last(GroupId::COORDINATOR);
    assert_eq!(world.register(N1, Incarnation(1)), Ok(CoordinatorReply::Done));
    assert_eq!(world.nodes[&N1].last(GroupId::COORDINATOR), before, "and nothing is written");
    let moved = BrokerRecord {
        node: N1,
        incarnation: Incarnation(1),
        grpc_address: "elsewhere:1".to_owned(),
        kafka: [("INSIDE".to_owned(), "elsewhere:2".to_owned())].into(),
    };
    let command = CoordinatorCommand::RegisterBroker(moved.clone());
    assert_eq!(world.command(command), Ok(CoordinatorReply::Done));
    image_everywhere(&mut world, |image| image.brokers.get(&N1) == Some(&moved));
}

#[test]
fn a_wiped_node_is_refused_by_name() {
    let mut world = World::registered();
    assert_eq!(
        world.register(N2, Incarnation(99)),
        Err(CoordinatorError::IncarnationMismatch {
            node: N2,
            known: Incarnation(2),
            found: Incarnation(99)
        })
    );
}

#[test]
fn followers_say_who_leads() {
    let mut world = World::registered();
    let leader = world.leader(GroupId::COORDINATOR);
    let follower = [N1, N2, N3].into_iter().find(|node| *node != leader).expect("two of them");
    let outcome = world.coordinate(follower, CoordinatorCommand::AllocateProducerId);
    assert_eq!(outcome, Err(CoordinatorError::NotLeader { leader: Some(leader) }));
}

#[test]
fn producer_ids_are_unique_across_leaders() {
    let mut world = World::registered();
    let mut ids = BTreeSet::new();
    for round in 0..3 {
        for _ in 0..3 {
            match world.command(CoordinatorCommand::AllocateProducerId) {
                Ok(CoordinatorReply::ProducerId(ProducerId(id))) => assert!(ids.insert(id), "{id} twice"),
                other => panic!("round {round}: {other:?}"),
            }
        }
        let leader = world.leader(GroupId::COORDINATOR);
        world.end(leader, End::Killed);
        world.leader(GroupId::COORDINATOR);
        world.start(leader);
    }
}

#[test]
fn a_thousand_producer_ids_cost_one_entry() {
    let mut world = World::registered();
    let leader = world.leader(GroupId::COORDINATOR);
    let last = |world: &mut World| world.node(leader).disk.live[&GroupId::COORDINATOR].log.last().index;
    let before = last(&mut world);
    let deadline = world.deadline(Duration::from_secs(5));
    let command = CoordinatorCommand::AllocateProducerId;
    // Many at once, of which all but the first come before the block is committed; and then one by one.
    let mut asked = Vec::new();
    for _ in 0..700 {
        let command = command.clone();
        asked.push(world.ask(leader, |request| Event::Coordinate { request, command, deadline }));
    }
    let mut ids: BTreeSet<u64> = BTreeSet::new();
    for request in asked {
        match world.shard_answer(request) {
            Reply::Coordinated(Ok(CoordinatorReply::ProducerId(id))) => {
                assert!(ids.insert(id.get()), "{id} twice")
            }
            other => panic!("{other:?}"),
        }
    }
    for _ in 700..PRODUCER_IDS_BLOCK {
        match world.coordinate(leader, command.clone()) {
            Ok(CoordinatorReply::ProducerId(id)) => assert!(ids.insert(id.get()), "{id} twice"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last(&mut world).since(before), 1);
    world.coordinate(leader, command).expect("the next block");
    assert_eq!(last(&mut world).since(before), 2);
}

#[test]
fn topic_names_partitions_and_configs_are_checked() {
    let mut world = World::registered();
    for name in ["", ".", "..", "a/b", "../x", "a b", "ü", &"x".repeat(250)] {
        let command = world.topic(name, None, &[]);
        let outcome = world.command(command);
        assert!(matches!(outcome, Err(CoordinatorError::InvalidTopicName { .. })), "{name:?}: {outcome:?}");
    }
    for count in [0, 10_001] {
        let command = world.topic("t", Some(count), &[]);
        let expected = CoordinatorError::InvalidPartitions { asked: count, min: 1, max: 10_000 };
        assert_eq!(world.command(command), Err(expected));
    }
    let command = world.topic("t", None, &[("segment.bytes", "1")]);
    assert_eq!(
        world.command(command),
        Err(CoordinatorError::InvalidConfig {
            name: "segment.bytes".to_owned(),
            value: "1".to_owned(),
            fault: ConfigFault::Value("out of range; it must be from 4096 to 1073741824".to_owned()),
        })
    );
    let mut command = world.topic("t", None, &[]);
    if let CoordinatorCommand::CreateTopic { replication, .. } = &mut command {
        *replication = Some(4);
    }
    assert_eq!(world.command(command), Err(CoordinatorError::InvalidReplication { asked: 4, brokers: 3 }));
    for command in [
        CoordinatorCommand::DeleteTopic { name: "none".to_owned(), id: None },
        CoordinatorCommand::AddPartitions { name: "none".to_owned(), total: 3, assignment: Vec::new() },
        CoordinatorCommand::AlterTopic { name: "none".to_owned(), configs: BTreeMap::new() },
    ] {
        assert_eq!(world.command(command), Err(CoordinatorError::UnknownTopic { name: "none".to_owned() }));
    }
}

#[test]
fn the_internal_topic_is_as_the_coordinators_of_groups_need_it() {
    let mut world = World::registered();
    let internal = |outcome: &Result<CoordinatorReply, CoordinatorError>| {
        matches!(outcome, Err(CoordinatorError::InternalTopic { .. }))
    };
    let right = groups_topic_configs();
    let right: Vec<(&str, &str)> =
        right.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for configs in [&[][..], &right[..1], &right[1..], &[("cleanup.policy", "compact,delete"), right[1]]] {
        let command = world.topic(GROUPS_TOPIC, Some(3), configs);
        let outcome = world.command(command);
        assert!(internal(&outcome), "{configs:?}: {outcome:?}");
    }
    let command = world.topic(GROUPS_TOPIC, Some(3), &right);
    world.command(command).expect("as brokers make it");
    let again = world.topic(GROUPS_TOPIC, Some(3), &right);
    let exists = CoordinatorError::TopicExists { name: GROUPS_TOPIC.to_owned() };
    assert_eq!(world.command(again), Err(exists), "another broker made it meanwhile");

    let name = || GROUPS_TOPIC.to_owned();
    let outcome = world.command(CoordinatorCommand::DeleteTopic { name: name(), id: None });
    assert!(internal(&outcome), "{outcome:?}");
    let outcome =
        world.command(CoordinatorCommand::AddPartitions { name: name(), total: 4, assignment: Vec::new() });
    assert!(internal(&outcome), "{outcome:?}");
    let mut alter = |config: &str, value: Option<&str>| {
        let configs = [(config.to_owned(), value.map(str::to_owned))].into();
        world.command(CoordinatorCommand::AlterTopic { name: name(), configs })
    };
    for (config, value) in
        [("cleanup.policy", Some("delete")), ("cleanup.policy", None), ("max.message.bytes", Some("1000"))]
    {
        let outcome = alter(config, value);
        let refused = |found: &CoordinatorError| match found {
            CoordinatorError::InvalidConfig { name, fault: ConfigFault::Value(why), .. } => {
                name == config && why.contains(GROUPS_TOPIC)
            }
            _ => false,
        };
        assert!(outcome.as_ref().is_err_and(refused), "{config} {value:?}: {outcome:?}");
    }
    assert_eq!(alter("segment.bytes", Some("1048576")), Ok(CoordinatorReply::Done));
    world.assert_no_alarms();
}

#[test]
fn more_replicas_than_may_vote_are_refused() {
    let mut world = World::registered();
    for node in (4..=16).map(NodeId) {
        world.register(node, Incarnation(u64::from(node.get()))).expect("registers");
    }
    let leader = world.leader(GroupId::COORDINATOR);
    let before = world.nodes[&leader].last(GroupId::COORDINATOR);
    for asked in [10, 16, u32::MAX] {
        let mut command = world.topic("wide", Some(1), &[]);
        if let CoordinatorCommand::CreateTopic { replication, .. } = &mut command {
            *replication = Some(asked);
        }
        let (what, max) = ("replicas of a partition", 9);
        let expected = CoordinatorError::LimitExceeded { what, asked: u64::from(asked), max };
        assert_eq!(world.command(command), Err(expected));
    }
    assert_eq!(world.nodes[&leader].last(GroupId::COORDINATOR), before, "nothing is appended");
    let mut command = world.topic("nine", Some(1), &[]);
    if let CoordinatorCommand::CreateTopic { replication, .. } = &mut command {
        *replication = Some(9);
    }
    world.command(command).expect("as many as may vote");
    world.group("nine", 0);
    world.assert_no_alarms();
}

#[test]
fn a_poison_record_in_the_log_is_skipped_by_all_alike() {
    let mut world = World::registered();
    let kept = world.create_topic("kept", 1);
    world.produce(kept, "a").expect("acknowledged");
    world.converged(GroupId::COORDINATOR);
    for node in [N1, N2, N3] {
        world.end(node, End::Killed);
    }
    // As if an older version had let it pass: ten replicas, where the engine takes nine voters.
    let partitions = vec![PartitionRecord { group: GroupId(100), replicas: (1..=10).map(NodeId).collect() }];
    let (id, name) = (TopicId(77), "poison".to_owned());
    let record = MetadataRecord::TopicCreated { id, name, partitions, configs: BTreeMap::new() };
    for node in [N1, N2, N3] {
        let log = &mut world.node(node).disk.live.get_mut(&GroupId::COORDINATOR).expect("is here").log;
        let last = log.last();
        let entry = EntryId::new(last.term, last.index.next());
        let body = EntryBody::Metadata(vec![record.clone()]);
        let info = EntryInfo::new(GroupId::COORDINATOR, entry, log.next_offset(), body);
        log.push(Stored { info, text: None });
    }
    for node in [N1, N2, N3] {
        world.start(node);
    }
    let after = world.create_topic("after", 1);
    world.produce(after, "b").expect("acknowledged");
    world.produce(kept, "b").expect("acknowledged");
    image_everywhere(&mut world, |image| {
        image.topic_ids.keys().map(String::as_str).eq(["after", "kept"]) && image.next_group < GroupId(100)
    });
    let ignored = |(_, alarm): &(GroupId, ShardAlarm)| matches!(alarm, ShardAlarm::RecordIgnored { .. });
    assert!(world.alarms.len() == 3 && world.alarms.iter().all(ignored), "{:?}", world.alarms);
}

#[test]
fn a_topic_is_made_once() {
    let mut world = World::registered();
    let command = world.topic("orders", Some(2), &[]);
    let made = world.command(command.clone()).expect("created");
    assert_eq!(world.command(command), Ok(made), "the same request again: its answer was lost");
    let command = world.topic("orders", Some(2), &[]);
    assert_eq!(world.command(command), Err(CoordinatorError::TopicExists { name: "orders".to_owned() }));
}

#[test]
fn two_commands_in_flight_do_not_contradict_each_other() {
    let mut world = World::registered();
    let leader = world.leader(GroupId::COORDINATOR);
    let deadline = world.deadline(Duration::from_secs(5));
    let mut asked = Vec::new();
    for _ in 0..2 {
        let command = world.topic("orders", Some(1), &[]);
        asked.push(world.ask(leader, |request| Event::Coordinate { request, command, deadline }));
    }
    let outcomes: Vec<Reply> = asked.into_iter().map(|request| world.shard_answer(request)).collect();
    assert!(matches!(&outcomes[0], Reply::Coordinated(Ok(_))), "{outcomes:?}");
    let exists = CoordinatorError::TopicExists { name: "orders".to_owned() };
    assert_eq!(outcomes[1], Reply::Coordinated(Err(exists)));
    world.assert_no_alarms();
}

#[test]
fn a_command_without_a_majority_has_an_unknown_outcome() {
    let mut world = World::registered();
    let leader = world.leader(GroupId::COORDINATOR);
    world.isolate(leader);
    let command = world.topic("orders", Some(1), &[]);
    assert_eq!(world.coordinate(leader, command), Err(CoordinatorError::OutcomeUnknown));
}

#[test]
fn configs_change_and_partitions_are_added() {
    let mut world = World::registered();
    world.create_topic("orders", 1);
    let configs =
        [("max.message.bytes".to_owned(), Some("70".to_owned())), ("retention.ms".to_owned(), None)];
    let alter =
        CoordinatorCommand::AlterTopic { name: "orders".to_owned(), configs: configs.into_iter().collect() };
    assert_eq!(world.command(alter), Ok(CoordinatorReply::Done));
    let add =
        CoordinatorCommand::AddPartitions { name: "orders".to_owned(), total: 3, assignment: Vec::new() };
    assert_eq!(world.command(add), Ok(CoordinatorReply::Done));
    let fewer =
        CoordinatorCommand::AddPartitions { name: "orders".to_owned(), total: 2, assignment: Vec::new() };
    assert_eq!(
        world.command(fewer),
        Err(CoordinatorError::InvalidPartitions { asked: 2, min: 3, max: 10_000 })
    );
    for partition in 0..3 {
        let group = world.group("orders", partition);
        world.produce(group, "fits").expect("acknowledged");
        let outcome = world.produce(group, "does-not-fit");
        assert!(matches!(outcome, Err(ProduceError::TooLarge { .. })), "{outcome:?}");
    }
}

#[test]
fn configs_that_do_not_go_together_are_refused_and_change_nothing() {
    let mut world = World::registered();
    let wanted = |value: &str| CoordinatorError::InvalidConfig {
        name: "min.insync.replicas".to_owned(),
        value: value.to_owned(),
        fault: ConfigFault::Value(String::new()),
    };
    // The reasons are tried beside the table.
    let plain = |outcome: Result<CoordinatorReply, CoordinatorError>| {
        outcome.map_err(|error| match error {
            CoordinatorError::InvalidConfig { name, value, .. } => {
                CoordinatorError::InvalidConfig { name, value, fault: ConfigFault::Value(String::new()) }
            }
            other => other,
        })
    };
    let command = world.topic("t", Some(1), &[("min.insync.replicas", "3")]);
    assert_eq!(plain(world.command(command)), Err(wanted("3")));
    // A lone replica is its own majority.
    let mut command = world.topic("lone", Some(1), &[("min.insync.replicas", "2")]);
    if let CoordinatorCommand::CreateTopic { replication, .. } = &mut command {
        *replication = Some(1);
    }
    assert_eq!(plain(world.command(command)), Err(wanted("2")));
    let command = world.topic("t", Some(1), &[("min.insync.replicas", "2")]);
    world.command(command).expect("two of three are a majority");
    let set = |name: &str, value: Option<&str>| CoordinatorCommand::AlterTopic {
        name: "t".to_owned(),
        configs: [(name.to_owned(), value.map(str::to_owned))].into_iter().collect(),
    };
    let unsure = set("raftline.durability", Some("leader"));
    assert_eq!(plain(world.command(unsure.clone())), Err(wanted("2")), "it is set and would not be kept");
    assert_eq!(world.command(set("min.insync.replicas", None)), Ok(CoordinatorReply::Done));
    assert_eq!(world.command(unsure), Ok(CoordinatorReply::Done));
    image_everywhere(&mut world, |image| {
        let configs = &image.topics[&image.topic_ids["t"]].configs;
        image.topics.len() == 1 && configs.len() == 1 && configs["raftline.durability"] == "leader"
    });
}

#[test]
fn logs_are_stored_as_the_configs_say_on_every_replica() {
    let mut world = World::registered();
    let command = world.topic("t", Some(1), &[("segment.ms", "60000"), ("segment.bytes", "4096")]);
    world.command(command).expect("created");
    let group = world.group("t", 0);
    let stored = |world: &mut World, segment_bytes: u64, segment_ms: i64| {
        let config = LogConfig { segment_bytes, segment_ms };
        world.until("the config on every node", |world| {
            let mut processes = world.nodes.values().filter_map(|node| node.process.as_ref());
            processes.all(|process| process.log_configs.get(&group) == Some(&config)).then_some(())
        });
    };
    stored(&mut world, 4096, 60_000);
    let configs = [("segment.ms".to_owned(), None), ("segment.bytes".to_owned(), Some("8192".to_owned()))];
    let alter =
        CoordinatorCommand::AlterTopic { name: "t".to_owned(), configs: configs.into_iter().collect() };
    assert_eq!(world.command(alter), Ok(CoordinatorReply::Done));
    stored(&mut world, 8192, 604_800_000);
    world.end(N2, End::Killed);
    world.start(N2);
    stored(&mut world, 8192, 604_800_000);
}

#[test]
fn a_deleted_topic_answers_who_waits_and_leaves_nothing() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    let leader = world.leader(group);
    let fetch = world.fetch_from(leader, group, 1, 1, Duration::from_secs(60));
    world.muted.insert(group);
    let produce = world.send(leader, group, "b");
    let other = CoordinatorCommand::DeleteTopic { name: "orders".to_owned(), id: Some(TopicId(u128::MAX)) };
    let unknown = CoordinatorError::UnknownTopic { name: "orders".to_owned() };
    assert_eq!(world.command(other), Err(unknown), "that is another topic of this name");
    let delete = CoordinatorCommand::DeleteTopic { name: "orders".to_owned(), id: None };
    assert_eq!(world.command(delete), Ok(CoordinatorReply::Done));
    assert_eq!(world.fetched(fetch), Err(FetchError::UnknownGroup));
    assert_eq!(world.produced(produce), Err(ProduceError::UnknownGroup));
    image_everywhere(&mut world, |image| image.topics.is_empty());
    world.run_for(Duration::from_secs(1));
    for node in world.nodes.values() {
        assert!(!node.disk.live.contains_key(&group), "its files are gone on node {}", node.id);
    }
    let again = world.create_topic("orders", 1);
    assert_ne!(again, group, "a group's number is never used again");
    assert!(world.read_all(again).is_empty());
    world.assert_no_alarms();
}

#[test]
fn topics_open_from_the_noted_commit_without_an_election() {
    let (mut world, group) = World::with_topic();
    world.produce(group, "a").expect("acknowledged");
    world.run_for(Duration::from_secs(3));
    world.produce(group, "b").expect("acknowledged");
    world.run_for(Duration::from_secs(3));
    for node in [N1, N2, N3] {
        world.end(node, End::Killed);
    }
    world.start(N1);
    world.run_for(Duration::from_millis(1));
    let description = world.describe(N1, group).expect("the group is open on a lonely node");
    assert_eq!(description.high_watermark.get(), 2);
}

#[test]
fn what_a_crash_left_of_a_deleted_topic_goes_and_nothing_else() {
    let (mut world, group) = World::with_topic();
    let kept = world.create_topic("kept", 1);
    for group in [group, kept] {
        world.produce(group, "a").expect("acknowledged");
        world.converged(group);
    }
    let files = world.node(N3).disk.live[&group].clone();
    let delete = CoordinatorCommand::DeleteTopic { name: "orders".to_owned(), id: None };
    assert_eq!(world.command(delete), Ok(CoordinatorReply::Done));
    world.until("the files are gone", |world| {
        (!world.nodes[&N3].disk.live.contains_key(&group)).then_some(())
    });
    world.run_for(Duration::from_secs(2));
    world.end(N3, End::Killed);
    // As if it had been killed between the commit and the deletion; and there is a directory of unknown origin.
    let stranger = GroupId(4711);
    world.node(N3).disk.live.insert(group, files.clone());
    world.node(N3).disk.live.insert(stranger, files);
    world.start(N3);
    world.run_for(Duration::from_secs(1));
    let live = &world.nodes[&N3].disk.live;
    assert!(!live.contains_key(&group), "a committed decision let it go");
    assert!(live.contains_key(&stranger) && live.contains_key(&kept), "nobody decided to delete these");
}
