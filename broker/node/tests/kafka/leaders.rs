//! Who leads, told with the error that says "not I" (KIP-951): three brokers, of which one leads.

use crate::client::{Connection, fetch, fetch_by_id, kafka_address, only_produced, produce, produce_by_id};
use crate::common::{PATIENCE, Running, batch, configured, create};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest};
use raftline_kafka::uuid::Uuid;
use raftline_proto::api::TransferRequest;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tokio::time::timeout;

/// Three brokers with both listeners.
struct Three {
    brokers: Vec<Running>,
    /// Where Kafka clients find each.
    kafka: Vec<String>,
}

impl Three {
    async fn start(directory: &Path) -> Self {
        // Addresses that were free a moment ago.
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap());
        let peers: Vec<String> =
            addresses.zip(1..).map(|(address, node)| format!("--peer={node}={address}")).collect();
        drop(listeners);
        let directories: Vec<PathBuf> = (1..=3).map(|node| directory.join(format!("n{node}"))).collect();
        let (mut brokers, mut kafka) = (Vec::new(), Vec::new());
        for (data_dir, node) in directories.iter().zip(1..) {
            let id = i32::to_string(&node);
            let mut args = vec!["--cluster", "test", "--node-id", &id, "--workers", "1"];
            args.extend(["--kafka", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()]);
            args.extend(peers.iter().map(String::as_str));
            brokers.push(Running::start(configured(&args)).await);
            kafka.push(kafka_address(data_dir));
        }
        Self { brokers, kafka }
    }

    /// The leader of partition 0 of `t`, its epoch and the topic's id, once every broker says the same.
    async fn leader(&self) -> (i32, i32, Uuid) {
        let agreed = async {
            loop {
                let mut seen = Vec::new();
                for address in &self.kafka {
                    let topic = Connection::open(address).await.described("t").await;
                    let partition = topic.partitions.first();
                    seen.push(partition.map(|led| (led.leader_id.0, led.leader_epoch, topic.topic_id)));
                }
                if let Some(leader) = seen[0]
                    && leader.0 > 0
                    && seen.iter().all(|other| *other == Some(leader))
                {
                    return leader;
                }
            }
        };
        timeout(PATIENCE, agreed).await.expect("all agree on a leader")
    }

    /// A connection to a broker.
    async fn connect(&self, node: i32) -> Connection {
        Connection::open(&self.kafka[usize::try_from(node).unwrap() - 1]).await
    }

    async fn stop(self) {
        for broker in self.brokers {
            broker.stop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_lead_says_who_does_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let three = Three::start(directory.path()).await;
    let mut client = three.brokers[0].client.clone();
    create(&mut client, "t", 1, &[]).await;
    let (leader, epoch, id) = three.leader().await;
    let led = (BrokerId(leader), epoch);
    for node in (1..=3).filter(|node| *node != leader) {
        let mut connection = three.connect(node).await;
        for version in [9, 10, 12, 13] {
            let request = produce_by_id(produce(-1, "t", 0, batch(0, &["a"])), id);
            let answer = connection.ask::<ProduceRequest>(version, &request).await;
            let told: Vec<String> = answer
                .node_endpoints
                .iter()
                .map(|node| format!("{}={}:{}", node.node_id.0, &*node.host, node.port))
                .collect();
            let refused = only_produced(answer);
            assert_eq!(refused.error_code, 6, "version {version}");
            let said = (refused.current_leader.leader_id, refused.current_leader.leader_epoch);
            let is_told = version >= 10;
            assert_eq!(said, if is_told { led } else { (BrokerId(-1), -1) }, "version {version}");
            assert_eq!(told, expected(&three, leader, is_told), "version {version}");
        }
        for version in [11, 12, 13, 15, 16, 18] {
            let request = fetch_by_id(fetch("t", &[(0, 0, i32::MAX)]), id);
            let answer = connection.ask::<FetchRequest>(version, &request).await;
            assert_refused(&three, version, &answer, 6, led);
        }
    }

    // A client that knows an older leader is told so by the new one, with its epoch.
    let to = leader % 3 + 1;
    let transfer =
        TransferRequest { topic: "t".to_owned(), partition: 0, to_node: Some(u32::try_from(to).unwrap()) };
    assert_eq!(client.transfer(transfer).await.unwrap().into_inner().error, None);
    let moved = async {
        loop {
            let (leader, later, _) = three.leader().await;
            if leader == to {
                return later;
            }
        }
    };
    let later = timeout(PATIENCE, moved).await.expect("it is handed over");
    assert!(later > epoch);
    let mut connection = three.connect(to).await;
    for version in [12, 16, 18] {
        let mut request = fetch_by_id(fetch("t", &[(0, 0, i32::MAX)]), id);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = connection.ask::<FetchRequest>(version, &request).await;
        assert_refused(&three, version, &answer, 74, (BrokerId(to), later));
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nobody_leads() {
    let directory = tempfile::tempdir().unwrap();
    let mut three = Three::start(directory.path()).await;
    create(&mut three.brokers[0].client.clone(), "t", 1, &[]).await;
    let (_, epoch, id) = three.leader().await;
    for _ in 0..2 {
        three.brokers.pop().unwrap().stop().await.unwrap();
    }
    let mut connection = three.connect(1).await;
    let unled = async {
        loop {
            let partition = connection.described("t").await.partitions.remove(0);
            // It may lead for a while yet, and its epoch never goes back.
            assert!(partition.leader_epoch >= epoch);
            if partition.leader_id.0 == -1 {
                return partition;
            }
        }
    };
    let partition = timeout(PATIENCE, unled).await.expect("it notices");
    assert_eq!((partition.error_code, partition.replica_nodes.len()), (5, 3));
    for version in [9, 13] {
        let request = produce_by_id(produce(-1, "t", 0, batch(0, &["a"])), id);
        let refused = only_produced(connection.ask::<ProduceRequest>(version, &request).await);
        assert_eq!((refused.error_code, refused.current_leader.leader_id.0), (6, -1), "version {version}");
    }
    for version in [11, 18] {
        let request = fetch_by_id(fetch("t", &[(0, 0, i32::MAX)]), id);
        let answer = connection.ask::<FetchRequest>(version, &request).await;
        let refused = &answer.responses[0].partitions[0];
        assert_eq!((refused.error_code, refused.current_leader.leader_id.0), (6, -1), "version {version}");
    }
    three.stop().await;
}

fn expected(three: &Three, leader: i32, is_told: bool) -> Vec<String> {
    let address = &three.kafka[usize::try_from(leader).unwrap() - 1];
    if is_told { vec![format!("{leader}={address}")] } else { Vec::new() }
}

fn assert_refused(
    three: &Three,
    version: i16,
    answer: &kafka_protocol::messages::FetchResponse,
    error: i16,
    led: (BrokerId, i32),
) {
    let told: Vec<String> = answer
        .node_endpoints
        .iter()
        .map(|node| format!("{}={}:{}", node.node_id.0, &*node.host, node.port))
        .collect();
    assert_eq!(told, expected(three, led.0.0, version >= 16), "version {version}");
    let refused = &answer.responses[0].partitions[0];
    assert_eq!(refused.error_code, error, "version {version}");
    let said = (refused.current_leader.leader_id, refused.current_leader.leader_epoch);
    assert_eq!(said, if version >= 12 { led } else { (BrokerId(-1), -1) }, "version {version}");
}
