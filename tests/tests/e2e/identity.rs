//! Strangers at the door: another cluster, an emptied disk, a swapped disk. Each is refused by name, and changes nothing.

use crate::cluster::{Cluster, create_topic};
use raftline_client::{Client, ProducerConfig, Record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_by_name() {
    let (mut cluster, client) = Cluster::start(3).await;
    create_topic(&client, "kept", 3).await;
    deliver(&client, "before").await;

    cluster.kill(3);
    let home = cluster.data_dir(3);

    let folder = tempfile::tempdir().expect("a temporary folder");
    cluster.set_data_dir(3, folder.path().join("stranger"));
    let (status, said) = cluster.run_as_member_of(3, "another-cluster");
    assert!(!status.success(), "a node of another cluster went on:\n{said}");
    assert!(said.contains("another-cluster"), "its own cluster is not named:\n{said}");
    let known =
        cluster.data_dir(1).parent().and_then(|path| path.file_name()).expect("it has a name").to_owned();
    assert!(said.contains(&*known.to_string_lossy()), "the cluster that refused is not named:\n{said}");

    cluster.set_data_dir(3, folder.path().join("emptied"));
    let (status, said) = cluster.run_as_member_of(3, &known.to_string_lossy());
    assert!(!status.success(), "a node with an emptied disk went on:\n{said}");
    assert!(said.contains("incarnation"), "the refusal does not say what differs:\n{said}");
    let (ours, theirs) = (incarnation_of(&cluster, &client, 3).await, hex_words(&said));
    assert!(theirs.contains(&ours), "the disk that is known ({ours}) is not named:\n{said}");
    assert!(theirs.len() >= 2, "both disks are to be named:\n{said}");

    cluster.kill(2);
    let swapped = cluster.data_dir(2);
    cluster.set_data_dir(3, swapped);
    let (status, said) = cluster.run_as_member_of(3, &known.to_string_lossy());
    assert!(!status.success(), "a node on another node's disk went on:\n{said}");
    assert!(said.contains("node 2") && said.contains("node 3"), "both nodes are to be named:\n{said}");

    cluster.set_data_dir(3, home);
    cluster.start_all();
    let client = cluster.client().await;
    deliver(&client, "after").await;
    cluster.wait_equal(&client).await;
    cluster.stop_all();
}

async fn deliver(client: &Client, value: &str) {
    let producer = client.producer(ProducerConfig::default());
    for _ in 0..100 {
        let ticket = producer.send(Record::to("kept").value(value.to_owned())).await.expect("it is taken");
        ticket.await.expect("it is acknowledged");
    }
    producer.close().await.expect("nothing is left");
}

async fn incarnation_of(cluster: &Cluster, client: &Client, node: u32) -> String {
    assert!(cluster.nodes().contains(&node));
    let metadata = client.admin().cluster(vec!["!".into()]).await.expect("two brokers answer");
    metadata.brokers.iter().find(|broker| broker.node == node).expect("it is registered").incarnation.clone()
}

/// The 16-digit hexadecimal words in a text, each once.
fn hex_words(text: &str) -> std::collections::BTreeSet<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| word.len() == 16 && word.chars().all(|digit| digit.is_ascii_hexdigit()))
        .map(str::to_owned)
        .collect()
}
