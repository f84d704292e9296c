//! Brokers with few descriptors: what they cannot hold is refused with the number, and what they can works.

use std::os::unix::fs::PermissionsExt;

use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{NewTopic, ProducerConfig, Record};
use raftline_tests::cluster::{Cluster, PATIENCE};
use tempfile::TempDir;

use crate::PROGRAM;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_brokers_cannot_hold_is_refused_and_a_smaller_one_works() {
    let dir = TempDir::with_prefix("raftline-descriptors-").expect("a temporary directory");
    let program = dir.path().join("with-few-descriptors");
    std::fs::write(&program, format!("#!/bin/sh\nulimit -n 256\nexec '{PROGRAM}' \"$@\"\n"))
        .expect("a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
    let program = program.to_str().expect("a plain path");
    let mut cluster = Cluster::prepare(program, "descriptors", 3, dir.path(), &[]);
    cluster.start_all();
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;

    let topic = |name: &str, partitions| NewTopic {
        name: name.into(),
        partitions,
        replication: 3,
        ..NewTopic::default()
    };
    let refusal = client.admin().create_topic(&topic("many", 400)).await.expect_err("too many").to_string();
    assert!(refusal.contains("can hold 128 replicas") && refusal.contains("would get 400"), "{refusal}");

    client.admin().create_topic(&topic("some", 100)).await.expect("that fits");
    cluster.wait_until_ready(&client, &["some"]).await;
    let more = client.admin().create_topic(&topic("more", 29)).await.expect_err("one too many").to_string();
    assert!(more.contains("has 100, and would get 29"), "{more}");
    let producer =
        client.producer(ProducerConfig { delivery_timeout: PATIENCE, ..ProducerConfig::default() });
    for _ in 0..3 {
        let mut tickets = Vec::new();
        for partition in (0..100).map(PartitionIndex) {
            let record = Record::to("some").partition(partition).value("x");
            tickets.push(producer.send(record).await.expect("it is taken"));
        }
        for ticket in tickets {
            ticket.await.expect("it is on a majority's disks");
        }
    }
    for node in cluster.nodes() {
        assert_eq!(cluster.exit_status(node), None, "broker {node} goes on");
        assert!(!cluster.log(node).contains("Too many open files"), "{}", cluster.log(node));
    }
}
