//! Brokers that are down: clients are no longer told of them after a while, and at once when they are back.

use crate::client::{Connection, kafka_address, text};
use crate::common::{PATIENCE, Running, configured, create};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, MetadataResponse,
};
use raftline_proto::api;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tokio::time::timeout;

/// Three brokers that may be stopped and started again.
struct Three {
    peers: Vec<String>,
    directories: Vec<PathBuf>,
    session_timeout_ms: &'static str,
    brokers: Vec<Option<Running>>,
}

impl Three {
    async fn start(directory: &Path, session_timeout_ms: &'static str) -> Self {
        // Addresses that were free a moment ago.
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap());
        let peers = addresses.zip(1..).map(|(address, node)| format!("--peer={node}={address}")).collect();
        drop(listeners);
        let directories = (1..=3).map(|node| directory.join(format!("n{node}"))).collect();
        let brokers = vec![None, None, None];
        let mut three = Self { peers, directories, session_timeout_ms, brokers };
        for node in 1..=3 {
            three.start_one(node).await;
        }
        three
    }

    async fn start_one(&mut self, node: usize) {
        let id = node.to_string();
        let mut args = vec!["--cluster", "test", "--node-id", &id, "--workers", "1"];
        args.extend(["--kafka", "127.0.0.1:0", "--data-dir", self.directories[node - 1].to_str().unwrap()]);
        args.extend(["--broker-session-timeout-ms", self.session_timeout_ms]);
        args.extend(self.peers.iter().map(String::as_str));
        self.brokers[node - 1] = Some(Running::start(configured(&args)).await);
    }

    async fn stop_one(&mut self, node: usize) {
        self.brokers[node - 1].take().unwrap().stop().await.unwrap();
    }

    async fn stop(mut self) {
        for broker in self.brokers.iter_mut().filter_map(Option::take) {
            broker.stop().await.unwrap();
        }
    }

    /// Where Kafka clients find a broker.
    fn kafka(&self, node: usize) -> String {
        kafka_address(&self.directories[node - 1])
    }

    async fn connect(&self, node: usize) -> Connection {
        Connection::open(&self.kafka(node)).await
    }

    fn client(&self, node: usize) -> api::broker_client::BrokerClient<tonic::transport::Channel> {
        self.brokers[node - 1].as_ref().unwrap().client.clone()
    }

    /// Metadata of all topics from that broker, once it lists the brokers `wanted`, with their addresses.
    async fn listed(&self, by: usize, wanted: &[usize]) -> MetadataResponse {
        let wanted: BTreeSet<String> =
            wanted.iter().map(|node| format!("{node}={}", self.kafka(*node))).collect();
        let mut connection = self.connect(by).await;
        let listed = async {
            loop {
                let answer = metadata(&mut connection).await;
                if told(&answer) == wanted {
                    return answer;
                }
            }
        };
        timeout(PATIENCE, listed).await.unwrap_or_else(|_| panic!("broker {by} never lists {wanted:?}"))
    }
}

async fn metadata(connection: &mut Connection) -> MetadataResponse {
    connection.ask(12, &MetadataRequest::default().with_topics(None)).await
}

/// The brokers of an answer, each with its address.
fn told(answer: &MetadataResponse) -> BTreeSet<String> {
    let brokers = answer.brokers.iter();
    brokers.map(|broker| format!("{}={}:{}", broker.node_id.0, &*broker.host, broker.port)).collect()
}

/// The brokers that DescribeCluster tells of, and whether they are fenced.
async fn described(connection: &mut Connection, version: i16, include_fenced: bool) -> Vec<(i32, bool)> {
    let request = DescribeClusterRequest::default().with_include_fenced_brokers(include_fenced);
    let answer = connection.ask(version, &request).await;
    let mut brokers: Vec<_> =
        answer.brokers.iter().map(|broker| (broker.broker_id.0, broker.is_fenced)).collect();
    assert!(brokers.contains(&(answer.controller_id.0, false)), "controller {}", answer.controller_id.0);
    brokers.sort_unstable();
    brokers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_is_not_told_of_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut three = Three::start(directory.path(), "2000").await;
    three.listed(1, &[1, 2, 3]).await;
    create(&mut three.client(1), "t", 3, &[]).await;
    let mut connection = three.connect(1).await;
    // One replica each: nobody takes their place.
    let alone = CreatableTopic::default()
        .with_name(crate::client::name("alone"))
        .with_num_partitions(3)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![alone]).with_timeout_ms(10_000);
    assert_eq!(connection.ask(7, &request).await.topics[0].error_code, 0);
    let led = async {
        loop {
            let topic = connection.described("alone").await;
            let leaders: BTreeSet<i32> = topic.partitions.iter().map(|led| led.leader_id.0).collect();
            if leaders == BTreeSet::from([1, 2, 3]) {
                return;
            }
        }
    };
    timeout(PATIENCE, led).await.expect("each broker leads one");
    let groups: Vec<_> = (0..50).map(|group| text(&format!("group-{group}"))).collect();
    let coordinators = FindCoordinatorRequest::default().with_coordinator_keys(groups);
    let found = async {
        while connection.ask(4, &coordinators).await.coordinators.iter().any(|found| found.error_code != 0) {}
    };
    timeout(PATIENCE, found).await.expect("all groups have coordinators");

    three.stop_one(3).await;
    for by in [1, 2] {
        let answer = three.listed(by, &[1, 2]).await;
        assert!([1, 2].contains(&answer.controller_id.0), "controller {}", answer.controller_id.0);
        for topic in &answer.topics {
            let alone = topic.name.as_ref().is_some_and(|name| &***name == "alone");
            for partition in &topic.partitions {
                let ids = |ids: &[kafka_protocol::messages::BrokerId]| {
                    ids.iter().map(|id| id.0).collect::<Vec<_>>()
                };
                let (replicas, in_sync) = (ids(&partition.replica_nodes), ids(&partition.isr_nodes));
                let up: Vec<i32> = replicas.iter().copied().filter(|node| *node != 3).collect();
                assert_eq!(in_sync, up, "{partition:?}");
                assert_eq!(
                    ids(&partition.offline_replicas).contains(&3),
                    replicas.contains(&3),
                    "{partition:?}"
                );
                assert_ne!(partition.leader_id.0, 3, "{partition:?}");
                assert_eq!(replicas.len(), if alone { 1 } else { 3 }, "its replicas are told as before");
                if replicas == [3] {
                    assert_eq!((partition.leader_id.0, partition.error_code), (-1, 5), "{partition:?}");
                }
            }
        }
        let mut connection = three.connect(by).await;
        for version in 0..=2 {
            let brokers = described(&mut connection, version, false).await;
            assert_eq!(brokers, [(1, false), (2, false)], "version {version}");
        }
        assert_eq!(described(&mut connection, 2, true).await, [(1, false), (2, false), (3, true)]);
        for found in connection.ask(4, &coordinators).await.coordinators {
            assert_ne!(found.node_id.0, 3, "{found:?}");
        }
        // The native API goes on telling of it, as one that is down.
        let native = three.client(by).metadata(api::MetadataRequest::default()).await.unwrap().into_inner();
        let alive: Vec<(u32, bool)> = native.brokers.iter().map(|known| (known.node, known.alive)).collect();
        assert_eq!(alive, [(1, true), (2, true), (3, false)]);
    }

    // It comes back, and takes another port.
    three.start_one(3).await;
    for by in 1..=3 {
        three.listed(by, &[1, 2, 3]).await;
        let brokers = described(&mut three.connect(by).await, 2, true).await;
        assert_eq!(brokers, [(1, false), (2, false), (3, false)]);
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_a_majority_tells_of_all_that_it_knows() {
    let directory = tempfile::tempdir().unwrap();
    let mut three = Three::start(directory.path(), "2000").await;
    let all = told(&three.listed(1, &[1, 2, 3]).await);
    three.stop_one(3).await;
    three.listed(1, &[1, 2]).await;
    three.stop_one(2).await;
    // For the length of a session the second one may be back; then the first cannot tell who is gone: they, or it.
    let mut connection = three.connect(1).await;
    let cut_off = async {
        loop {
            let answer = metadata(&mut connection).await;
            if told(&answer) == all {
                return answer;
            }
        }
    };
    let answer = timeout(PATIENCE, cut_off).await.expect("it tells of all again");
    assert_eq!(answer.controller_id.0, 1, "of who decides it knows itself alone");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_just_started_tells_of_those_that_it_has_not_heard_of() {
    let directory = tempfile::tempdir().unwrap();
    // Longer than any test: what was not heard of since the start is not fenced.
    let mut three = Three::start(directory.path(), "600000").await;
    let all = told(&three.listed(1, &[1, 2, 3]).await);
    for node in 1..=3 {
        three.stop_one(node).await;
    }
    for node in 1..=2 {
        three.start_one(node).await;
    }
    let mut connection = three.connect(1).await;
    let answer = metadata(&mut connection).await;
    let of_third = |told: BTreeSet<String>| told.into_iter().find(|broker| broker.starts_with("3="));
    assert_eq!(of_third(told(&answer)), of_third(all), "at its last address");
    assert_eq!(answer.brokers.len(), 3);
    three.stop().await;
}
