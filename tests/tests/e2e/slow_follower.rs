//! A follower hangs for a while, comes back, catches up, and ends with the very same log.

use std::path::Path;

use raftline_client::proto::ids::{GroupId, NodeId, PartitionIndex, Position};
use raftline_client::{Client, NewTopic, ProducerConfig, Record, StartAt};
use raftline_storage::{Log, RealDisk};
use raftline_tests::cluster::{Cluster, wait_for};

use crate::PROGRAM;

const TOPIC: &str = "followed";

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_hung_catches_up_and_has_the_same_log() {
    let mut cluster = Cluster::start(PROGRAM, "slow-follower", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topic = NewTopic { name: TOPIC.into(), partitions: 1, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("a topic is created");
    let metadata = cluster.wait_until_ready(&client, &[TOPIC]).await;
    let group = GroupId(metadata.topics[0].partitions[0].group);

    produce(&client, 200).await;
    let leader = cluster.wait_for_leader(&client, TOPIC, 0, |_| true).await;
    let follower = cluster.nodes().into_iter().find(|node| *node != leader).expect("three nodes");
    cluster.pause(follower);
    produce(&client, 2000).await;
    cluster.resume(follower);
    produce(&client, 200).await;
    cluster.wait_until_ready(&client, &[TOPIC]).await;

    let end = client.admin().offset(TOPIC, PartitionIndex(0), StartAt::End).await.expect("a leader");
    assert_eq!(end.0, 2400);
    wait_for("three equal replicas", async || {
        let mut seen = Vec::new();
        for node in cluster.nodes() {
            let status = client.admin().node_status(node).await.ok()?;
            let replica = status.replicas.into_iter().find(|replica| replica.group == group.0)?;
            seen.push((
                replica.last_index,
                replica.commit_index,
                replica.durable_index,
                replica.high_watermark,
            ));
        }
        let (last, commit, durable, high_watermark) = seen[0];
        let settled = commit == last && durable == last && high_watermark == end.0;
        (settled && seen.iter().all(|other| *other == seen[0])).then_some(())
    })
    .await;

    for node in cluster.nodes() {
        assert!(cluster.stop(node).success(), "node {node} stops cleanly:\n{}", cluster.log(node));
    }
    let logs: Vec<Vec<u8>> = cluster.nodes().iter().map(|node| log_bytes(&cluster, *node, group)).collect();
    assert!(logs[0].len() > 100_000, "the logs hold what was written: {} bytes", logs[0].len());
    assert!(logs.iter().all(|log| *log == logs[0]), "the replicas' logs differ");
}

async fn produce(client: &Client, count: usize) {
    let producer = client.producer(ProducerConfig { batch_bytes: 4096, ..ProducerConfig::default() });
    let mut tickets = Vec::new();
    for number in 0..count {
        let value = format!("{number} {}", "-".repeat(100));
        tickets.push(producer.send(Record::to(TOPIC).value(value)).await.expect("the record is taken"));
    }
    for ticket in tickets {
        ticket.await.expect("acknowledged with one follower hanging");
    }
    producer.close().await.expect("nothing is left");
}

/// All entries of a replica, as they stand on its disk.
fn log_bytes(cluster: &Cluster, node: NodeId, group: GroupId) -> Vec<u8> {
    let dir = cluster.data_dir(node).join("groups").join(group.to_string());
    let log = open(&dir, group);
    let mut bytes = Vec::new();
    let (mut next, up_to) = (log.start().0.index.next(), log.last().index.next());
    while next < up_to {
        let read = log.read_entries(next, up_to, u64::MAX).expect("the log can be read");
        read.parts.iter().for_each(|part| bytes.extend_from_slice(part));
        next = read.up_to;
    }
    bytes
}

fn open(dir: &Path, group: GroupId) -> Log<RealDisk> {
    let disk = RealDisk::new(dir).expect("the directory is there");
    Log::inspect(disk, dir, group, Position::ZERO).expect("a stopped broker's log is sound")
}
