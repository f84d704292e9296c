//! A follower stands still for a while, catches up, and holds the same bytes.

use crate::cluster::{Cluster, create_topic};
use raftline_client::{ProducerConfig, Record};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_follower_catches_up_to_equal_logs() {
    let (mut cluster, client) = Cluster::start(3).await;
    create_topic(&client, "work", 3).await;
    let leader = cluster.leader(&client, "work", 0).await;
    let follower = cluster.nodes().find(|node| *node != leader).expect("there are others");
    let producer = client.producer(ProducerConfig { batch_bytes: 16 << 10, ..ProducerConfig::default() });
    let value = vec![b'v'; 500];
    let mut tickets: Vec<raftline_client::Ticket> = Vec::new();
    for number in 0..20_000_u32 {
        match number {
            2_000 => cluster.signal(follower, Signal::STOP),
            18_000 => {
                // What was sent while it stood still was acknowledged without it.
                for ticket in tickets.drain(..) {
                    ticket.await.expect("two of three are a majority");
                }
                cluster.signal(follower, Signal::CONT);
            }
            _ => {}
        }
        let record = Record::to("work").key(number.to_string()).value(value.clone());
        tickets.push(producer.send(record).await.expect("the record is taken"));
    }
    for ticket in tickets {
        ticket.await.expect("everything is acknowledged");
    }
    cluster.wait_equal(&client).await;
    cluster.stop_all();
    let reference = cluster.entries(1);
    let count: usize = reference.values().map(Vec::len).sum();
    assert!(count > 100, "there is something to compare: {count} entries");
    for node in [2, 3] {
        let entries = cluster.entries(node);
        assert_eq!(
            entries.keys().collect::<Vec<_>>(),
            reference.keys().collect::<Vec<_>>(),
            "groups of node {node}"
        );
        for (group, expected) in &reference {
            assert!(entries[group] == *expected, "group {group} of node {node} differs from node 1's");
        }
    }
}
