//! Brokers without a replica know who leads all the same: clients may ask any of them.

use raftline_client::proto::ids::NodeId;
use raftline_client::{Client, ClientConfig, NewTopic};
use raftline_tests::cluster::{Cluster, wait_for};

use crate::PROGRAM;

const TOPIC: &str = "elsewhere";

/// Each partition's leader, as this broker tells it; `None` until it knows all.
async fn leaders(cluster: &Cluster, asked: NodeId) -> Option<Vec<u32>> {
    let client = Client::connect([cluster.address(asked)], ClientConfig::default()).await.ok()?;
    let metadata = client.admin().cluster(vec![TOPIC.to_owned()]).await.ok()?;
    if metadata.answering_node != asked.0 {
        return None;
    }
    let topic = metadata.topics.into_iter().find(|topic| topic.name == TOPIC)?;
    topic.partitions.into_iter().map(|partition| partition.leader_node).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_knows_every_leader() {
    let mut cluster = Cluster::start(PROGRAM, "elsewhere", 4);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topic = NewTopic { name: TOPIC.into(), partitions: 4, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("a topic is created");
    cluster.wait_until_ready(&client, &[TOPIC]).await;
    for node in cluster.nodes() {
        wait_for("all leaders", async || leaders(&cluster, node).await).await;
    }
    // Another leader is heard of, by a broker that was away as well.
    let (away, victim) = (NodeId(4), NodeId(1));
    cluster.kill(away);
    cluster.kill(victim);
    cluster.start_broker(away);
    for node in [NodeId(2), NodeId(3), away] {
        wait_for("leaders that live", async || {
            let leaders = leaders(&cluster, node).await?;
            (!leaders.contains(&victim.0)).then_some(())
        })
        .await;
    }
}
