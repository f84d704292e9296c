//! Consumer groups against a broker process: by commands, as a person types them, and by the client.

mod common;

use common::Broker;
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{
    AutoCommit, Client, ClientConfig, CommitError, ConsumedRecord, GroupConsumeError, GroupConsumer,
    GroupConsumerConfig, ProducerConfig, Record,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::time::Duration;

/// Nothing here takes long; a test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn numbers(range: std::ops::Range<u32>) -> Vec<u8> {
    range.map(|number| format!("{number}\n")).collect::<String>().into_bytes()
}

/// The numbers printed, in order of size.
fn printed(stdout: &[u8]) -> Vec<u32> {
    let text = String::from_utf8(stdout.to_vec()).expect("text");
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

fn committed(broker: &Broker, group: &str) -> Vec<(Value, Value)> {
    let described = broker.json(&["group", "describe", group], b"");
    let partitions = described["partitions"].as_array().expect("partitions");
    partitions.iter().map(|found| (found["committed_offset"].clone(), found["lag"].clone())).collect()
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let mut broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "3"], b"");
    broker.ok(&["produce", "t"], &numbers(0..100));
    let consume = ["consume", "t", "--group", "billing"];
    let until_end = [&consume[..], &["--until-end"]].concat();
    let mut all = broker.ok(&[&consume[..], &["-n", "40"]].concat(), b"");
    assert_eq!(printed(&all).len(), 40);
    let described = broker.json(&["group", "describe", "billing"], b"");
    assert_eq!((&described["lag"], &described["state"]), (&60.into(), &"Empty".into()), "{described}");
    all.extend(broker.ok(&until_end, b""));
    assert_eq!(printed(&all), (0..100).collect::<Vec<_>>(), "each once");
    assert_eq!(broker.json(&["group", "describe", "billing"], b"")["lag"], 0);

    broker.kill_and_restart();
    broker.ok(&["produce", "t"], &numbers(100..110));
    let text = String::from_utf8(broker.ok(&["group", "describe", "billing"], b"")).expect("text");
    assert!(text.contains("lag: 10") && text.contains("LOG END"), "{text}");
    assert_eq!(printed(&broker.ok(&until_end, b"")), (100..110).collect::<Vec<_>>());
    assert_eq!(printed(&broker.ok(&until_end, b"")), Vec::<u32>::new());
    // Another group begins where it is told to, once: what comes while it is away is not passed over.
    let other = ["consume", "t", "--group", "audit", "--from", "end", "--until-end"];
    assert_eq!(printed(&broker.ok(&other, b"")), Vec::<u32>::new());
    broker.ok(&["produce", "t"], &numbers(110..120));
    assert_eq!(printed(&broker.ok(&other, b"")), (110..120).collect::<Vec<_>>());
    let json = [&consume[..2], &["-g", "shipping", "-n", "1", "-o", "json"]].concat();
    let record: Value = serde_json::from_slice(&broker.ok(&json, b"")).expect("one document");
    assert_eq!(record["offset"], 0);
    let groups = broker.json(&["group", "list"], b"");
    let names = groups.as_array().expect("groups").iter().map(|group| group["group"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), [Some("audit"), Some("billing"), Some("shipping")]);
}

#[test]
fn a_group_is_reset_and_deleted_once_it_has_no_members() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    for partition in ["0", "1"] {
        broker.ok(&["produce", "t", "-p", partition], &numbers(0..10));
    }
    let mut member = broker.spawn(&["consume", "t", "-g", "g"]);
    let mut lines = BufReader::new(member.stdout.take().expect("piped")).lines();
    for _ in 0..20 {
        lines.next().expect("a line").expect("readable");
    }
    let described = broker.json(&["group", "describe", "g"], b"");
    assert_eq!(described["state"], "Stable", "{described}");
    assert_eq!(described["members"][0]["assignment"][0]["partitions"], serde_json::json!([0, 1]));
    assert_eq!(described["members"][0]["host"], "127.0.0.1");
    assert_eq!(described["partitions"][1]["member_id"], described["members"][0]["member_id"]);
    let to_earliest = ["group", "reset", "g", "--topic", "t", "--to-earliest"];
    let refused = broker.refused(&to_earliest, b"");
    assert!(refused.contains("has members") && refused.contains("stop its consumers"), "{refused}");
    assert!(broker.refused(&["group", "delete", "g"], b"").contains("has members"));
    let of_topic = ["group", "delete", "g", "--topic", "t"];
    assert_eq!(broker.run(&of_topic, b"").status.code(), Some(1), "nothing to delete, or a member reads it");

    // SIGTERM: it commits and leaves.
    let pid = rustix::process::Pid::from_child(&member);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(member.wait().expect("ended").success());
    let (ten, zero) = (Value::from(10), Value::from(0));
    assert_eq!(committed(&broker, "g"), [(ten.clone(), zero.clone()), (ten.clone(), zero.clone())]);

    let dry = broker.json(&[&to_earliest[..], &["--dry-run"]].concat(), b"");
    assert_eq!((&dry["reset"], &dry["partitions"][0]["to_offset"]), (&false.into(), &zero));
    assert_eq!(committed(&broker, "g")[0].0, 10, "nothing was changed");
    broker.ok(&["group", "reset", "g", "--topic", "t", "-p", "1", "--to-offset", "4"], b"");
    assert_eq!(committed(&broker, "g"), [(ten.clone(), zero), (4.into(), 6.into())]);
    let until_end = ["consume", "t", "-g", "g", "--until-end"];
    assert_eq!(printed(&broker.ok(&until_end, b"")), (4..10).collect::<Vec<_>>());
    broker.ok(&["group", "reset", "g", "--topic", "t", "--to-time", "-1h"], b"");
    assert_eq!(printed(&broker.ok(&until_end, b"")).len(), 20);
    broker.ok(&["group", "reset", "g", "--topic", "t", "--to-latest"], b"");
    assert_eq!(printed(&broker.ok(&until_end, b"")).len(), 0);
    let beyond = broker.refused(&["group", "reset", "g", "--topic", "t", "--to-offset", "11"], b"");
    assert!(beyond.contains("from 0 through 10"), "{beyond}");
    let nowhere = broker.refused(&["group", "reset", "g", "--topic", "u", "--to-latest"], b"");
    assert!(nowhere.contains("no topic `u`"), "{nowhere}");

    assert_eq!(broker.json(&of_topic, b"")["partitions"], 2);
    assert!(broker.refused(&of_topic, b"").contains("no offsets in topic `t`"));
    broker.ok(&["group", "delete", "g"], b"");
    for command in [&["group", "describe", "g"][..], &["group", "delete", "g"], &of_topic, &to_earliest] {
        let unknown = broker.refused(command, b"");
        assert!(unknown.contains("no consumer group `g`") && unknown.contains("group list"), "{unknown}");
    }
    assert!(broker.refused(&to_earliest, b"").contains("--new"));
    broker.ok(&[&to_earliest[..], &["--new"]].concat(), b"");
    assert_eq!(committed(&broker, "g")[0].0, 0);
}

async fn client(broker: &Broker) -> Client {
    Client::connect([broker.address.clone()], ClientConfig::default()).await.expect("it answers")
}

fn member(client: &Client, auto_commit: AutoCommit) -> GroupConsumer {
    let config = GroupConsumerConfig {
        auto_commit,
        heartbeat_interval_max: Duration::from_millis(50),
        ..GroupConsumerConfig::default()
    };
    client.group_consumer("g", ["t"], config)
}

async fn produce(client: &Client, partitions: u32, values: std::ops::Range<u32>) {
    let producer = client.producer(ProducerConfig::default());
    for value in values {
        let record = Record::to("t").partition(PartitionIndex(value % partitions)).value(value.to_string());
        drop(producer.send(record).await.expect("taken"));
    }
    producer.close().await.expect("stored");
}

async fn read(consumer: &mut GroupConsumer) -> u32 {
    let record = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a record comes");
    value(&record.expect("readable"))
}

fn value(record: &ConsumedRecord) -> u32 {
    let value = record.value.as_deref().expect("a value");
    std::str::from_utf8(value).expect("text").parse().expect("a number")
}

/// Lets both do what the group tells until each has so many partitions. There is nothing to read meanwhile.
async fn settle(first: &mut GroupConsumer, second: &mut GroupConsumer, counts: (usize, usize)) {
    let settled = async {
        let count = |consumer: &GroupConsumer| consumer.assignment().map_or(0, BTreeSet::len);
        while (count(first), count(second)) != counts {
            tokio::select! {
                record = first.next() => panic!("{record:?}"),
                record = second.next() => panic!("{record:?}"),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("the partitions move");
}

#[tokio::test]
async fn members_share_and_hand_over_where_they_stopped() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "4"], b"");
    let client = client(&broker).await;
    produce(&client, 4, 0..100).await;
    let mut first = member(&client, AutoCommit::Every(Duration::from_secs(3600)));
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        assert!(seen.insert(read(&mut first).await), "each once");
    }
    // What moves is committed when it moves: nothing comes twice.
    let mut second = member(&client, AutoCommit::Every(Duration::from_secs(3600)));
    settle(&mut first, &mut second, (2, 2)).await;
    assert!(first.assignment().expect("joined").is_disjoint(second.assignment().expect("joined")));
    produce(&client, 4, 100..200).await;
    let mut counts = (0, 0);
    while seen.len() < 200 {
        let value = tokio::select! {
            value = read(&mut first) => { counts.0 += 1; value }
            value = read(&mut second) => { counts.1 += 1; value }
        };
        assert!(seen.insert(value), "{value} came twice");
    }
    assert_eq!(counts, (50, 50));
    first.close().await.expect("committed");
    produce(&client, 4, 200..300).await;
    for _ in 0..100 {
        assert!(seen.insert(read(&mut second).await), "the one that is left has all, each once");
    }
    second.close().await.expect("committed");
    let lag = broker.json(&["group", "describe", "g"], b"")["lag"].clone();
    assert_eq!((seen.len(), lag), (300, 0.into()));
}

#[tokio::test]
async fn only_what_was_committed_is_not_read_again() {
    let mut broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "1"], b"");
    let client = client(&broker).await;
    produce(&client, 1, 0..10).await;
    let mut consumer = member(&client, AutoCommit::Never);
    for expected in 0..5 {
        assert_eq!(read(&mut consumer).await, expected);
    }
    consumer.commit().await.expect("committed");
    for expected in 5..8 {
        assert_eq!(read(&mut consumer).await, expected);
    }
    consumer.close().await.expect("nothing to commit");
    let mut consumer = member(&client, AutoCommit::Every(Duration::from_millis(10)));
    for expected in 5..9 {
        assert_eq!(read(&mut consumer).await, expected);
    }
    // In the background, while it waits for more: all count as read, as the next one is asked for.
    assert_eq!(read(&mut consumer).await, 9);
    while committed(&broker, "g")[0].0 != 10 {
        let nothing = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
    }
    // The member lives through its coordinator's death.
    broker.kill_and_restart();
    produce(&client, 1, 10..12).await;
    assert_eq!((read(&mut consumer).await, read(&mut consumer).await), (10, 11));
    consumer.close_without_last().await.expect("committed");
    assert_eq!(committed(&broker, "g"), [(11.into(), 1.into())]);
}

#[tokio::test]
async fn a_member_that_is_put_out_commits_nothing_and_joins_again() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "2"], b"");
    let client = client(&broker).await;
    produce(&client, 2, 0..4).await;
    let config = GroupConsumerConfig {
        auto_commit: AutoCommit::Never,
        heartbeat_interval_max: Duration::from_millis(50),
        rebalance_timeout: Duration::from_millis(200),
        ..GroupConsumerConfig::default()
    };
    let mut slow = client.group_consumer("g", ["t"], config.clone());
    read(&mut slow).await;
    // It works on that record for so long that its partitions are taken away: the other member gets all of them.
    let mut fast = client.group_consumer("g", ["t"], config);
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        seen.insert(read(&mut fast).await);
    }
    let refused = slow.commit().await;
    assert!(matches!(refused, Err(CommitError::NotAMember { .. })), "{refused:?}");
    fast.commit().await.expect("it is a member");
    settle(&mut slow, &mut fast, (1, 1)).await;
    slow.close().await.expect("nothing to commit");
    fast.close().await.expect("nothing to commit");
    assert_eq!(broker.json(&["group", "describe", "g"], b"")["lag"], 0);
    let refused = client.group_consumer("", ["t"], GroupConsumerConfig::default()).next().await;
    assert!(matches!(refused, Err(GroupConsumeError::Refused { .. })), "{refused:?}");
}
