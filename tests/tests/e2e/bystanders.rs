//! Those who do not belong are refused by name: brokers of another cluster, swapped and emptied directories.

use raftline_client::NewTopic;
use raftline_client::proto::ids::NodeId;
use raftline_tests::cluster::{Cluster, wait_for};

use crate::PROGRAM;

const THIRD: NodeId = NodeId(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_cluster_is_refused_by_name() {
    let mut cluster = Cluster::start(PROGRAM, "ours", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    cluster.kill(THIRD);
    let earlier = cluster.log(THIRD).len();

    // The same directory, started under another cluster's name: it says no before it touches anything.
    cluster.start_as(THIRD, "theirs");
    let status = wait_for("an end", async || cluster.exit_status(THIRD)).await;
    assert!(!status.success());
    let log = cluster.log(THIRD)[earlier..].to_owned();
    assert!(log.contains("ours") && log.contains("theirs"), "both clusters are named:\n{log}");
    cluster.kill(THIRD);

    // A directory of its own under that name: formatted, and then refused by the others.
    let kept = cluster.data_dir(THIRD).with_extension("kept");
    std::fs::rename(cluster.data_dir(THIRD), &kept).expect("a directory is put away");
    let earlier = cluster.log(THIRD).len();
    cluster.start_as(THIRD, "theirs");
    wait_for("a refusal that names both clusters", async || {
        let log = &cluster.log(THIRD)[earlier..];
        (log.contains("ours") && log.contains("theirs")).then_some(())
    })
    .await;
    cluster.kill(THIRD);

    // Nothing has changed for the cluster: its own broker is taken back.
    std::fs::remove_dir_all(cluster.data_dir(THIRD)).expect("the stranger's directory goes");
    std::fs::rename(&kept, cluster.data_dir(THIRD)).expect("the directory comes back");
    cluster.start_broker(THIRD);
    cluster.wait_until_ready(&client, &[]).await;
    let topic = NewTopic { name: "still-works".into(), partitions: 1, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("the cluster goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_directory_does_not_come_back_under_its_old_name() {
    let mut cluster = Cluster::start(PROGRAM, "emptied", 3);
    let client = cluster.client().await;
    let metadata = cluster.wait_until_ready(&client, &[]).await;
    let known = metadata.brokers.iter().find(|broker| broker.node == THIRD.0).expect("a broker");
    cluster.kill(THIRD);
    std::fs::remove_dir_all(cluster.data_dir(THIRD)).expect("the directory goes");
    let earlier = cluster.log(THIRD).len();
    cluster.start_broker(THIRD);
    wait_for("a refusal that names the disk known", async || {
        let log = &cluster.log(THIRD)[earlier..];
        log.contains(&known.incarnation).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_directories_are_noticed_at_the_start() {
    let mut cluster = Cluster::start(PROGRAM, "swapped", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let (second, third) = (NodeId(2), THIRD);
    cluster.kill(second);
    cluster.kill(third);
    let aside = cluster.data_dir(third).with_extension("aside");
    std::fs::rename(cluster.data_dir(second), &aside).expect("a directory is moved");
    std::fs::rename(cluster.data_dir(third), cluster.data_dir(second)).expect("a directory is moved");
    std::fs::rename(&aside, cluster.data_dir(third)).expect("a directory is moved");
    for node in [second, third] {
        let earlier = cluster.log(node).len();
        cluster.start_broker(node);
        let status = wait_for("an end", async || cluster.exit_status(node)).await;
        assert!(!status.success(), "node {node} runs on another node's directory");
        let log = cluster.log(node)[earlier..].to_owned();
        assert!(log.contains('2') && log.contains('3'), "both nodes are named:\n{log}");
    }
}
