//! A directory that lost a part, and an old copy of a directory, are refused by name: they would vote as their former self.

use std::path::{Path, PathBuf};
use std::process::Command;

use raftline_client::proto::ids::NodeId;
use raftline_client::{Client, NewTopic, ProducerConfig, Record};
use raftline_tests::cluster::{Cluster, wait_for};

use crate::PROGRAM;

const TOPIC: &str = "kept";

async fn begin(name: &str) -> (Cluster, Client) {
    let cluster = Cluster::start(PROGRAM, name, 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topic = NewTopic { name: TOPIC.into(), partitions: 1, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("a topic is created");
    cluster.wait_until_ready(&client, &[TOPIC]).await;
    produce(&client, 100).await;
    (cluster, client)
}

async fn produce(client: &Client, count: usize) {
    let producer = client.producer(ProducerConfig::default());
    for number in 0..count {
        let ticket = producer.send(Record::to(TOPIC).value(number.to_string())).await.expect("it is taken");
        ticket.await.expect("acknowledged");
    }
    producer.close().await.expect("nothing is left");
}

/// The broker does not start, and says this.
async fn refused(cluster: &mut Cluster, node: NodeId, words: &[&str]) {
    cluster.start_broker(node);
    let status = wait_for("the broker's end", async || cluster.exit_status(node)).await;
    assert!(!status.success());
    let log = cluster.log(node);
    assert!(words.iter().all(|word| log.contains(word)), "{words:?} in\n{log}");
}

/// As `cp -a` does.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_lost_its_groups_and_votes_is_refused() {
    let (mut cluster, client) = begin("half-emptied").await;
    let node = NodeId(3);
    cluster.kill(node);
    let dir = cluster.data_dir(node).to_path_buf();
    std::fs::remove_dir_all(dir.join("groups")).expect("it is there");
    std::fs::remove_dir_all(dir.join("shard-0")).expect("it is there");
    refused(&mut cluster, node, &["shard-0/state is missing"]).await;
    produce(&client, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_directory_is_refused() {
    let (mut cluster, client) = begin("old-copy").await;
    let node = NodeId(3);
    cluster.kill(node);
    let dir = cluster.data_dir(node).to_path_buf();
    let backup = PathBuf::from(format!("{}.backup", dir.display()));
    copy(&dir, &backup);
    cluster.start_broker(node);
    cluster.wait_until_ready(&client, &[TOPIC]).await;
    produce(&client, 100).await;
    cluster.kill(node);
    // What was there goes, what was there before takes its place.
    std::fs::remove_dir_all(&dir).expect("it is there");
    copy(&backup, &dir);
    refused(&mut cluster, node, &["is a copy", "--adopt-copy"]).await;
    // Told to take it all the same, the node is refused by those who have met it since.
    cluster.start_with(node, &["--adopt-copy"]);
    let status = wait_for("the broker's end", async || cluster.exit_status(node)).await;
    let log = cluster.log(node);
    assert!(!status.success() && log.contains("old copy"), "{log}");
    refused(&mut cluster, node, &["was refused by a peer, and is not started again"]).await;
    produce(&client, 50).await;
}
