//! Several listeners: who came in by one is told of the brokers' addresses of its name, everywhere where addresses are told.

use crate::client::{Connection, only_produced, produce, text};
use crate::common::{PATIENCE, Running, batch, configured, create};
use kafka_protocol::messages::{
    DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, MetadataResponse, ProduceRequest,
};
use raftline_proto::api::TransferRequest;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tokio::time::timeout;

/// Three brokers that can be reached from inside; only the first two can from outside, by a name that is not theirs inside.
struct Three {
    brokers: Vec<Running>,
    directories: Vec<PathBuf>,
}

const OUTSIDE_ALSO: [usize; 2] = [1, 2];

impl Three {
    async fn start(directory: &Path) -> Self {
        // Addresses that were free a moment ago.
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap());
        let peers: Vec<String> =
            addresses.zip(1..).map(|(address, node)| format!("--peer={node}={address}")).collect();
        drop(listeners);
        let directories: Vec<PathBuf> = (1..=3).map(|node| directory.join(format!("n{node}"))).collect();
        let mut brokers = Vec::new();
        for (data_dir, node) in directories.iter().zip(1_usize..) {
            let (id, told) = (node.to_string(), format!("outside=node{node}.example:1{node}092"));
            let mut args = vec!["--cluster", "test", "--node-id", &id, "--workers", "1"];
            args.extend(["--data-dir", data_dir.to_str().unwrap()]);
            if OUTSIDE_ALSO.contains(&node) {
                let both = "inside=127.0.0.1:0,OUTSIDE=PLAINTEXT://127.0.0.1:0";
                args.extend(["--kafka", both, "--advertise-kafka", &told]);
            } else {
                args.extend(["--kafka", "INSIDE=127.0.0.1:0"]);
            }
            args.extend(peers.iter().map(String::as_str));
            brokers.push(Running::start(configured(&args)).await);
        }
        Self { brokers, directories }
    }

    /// Where a broker's listener is bound.
    fn bound(&self, node: usize, listener: &str) -> String {
        let file =
            if OUTSIDE_ALSO.contains(&node) { format!("kafka-{listener}.addr") } else { "kafka.addr".into() };
        std::fs::read_to_string(self.directories[node - 1].join(file)).unwrap().trim().to_owned()
    }

    async fn connect(&self, node: usize, listener: &str) -> Connection {
        Connection::open(&self.bound(node, listener)).await
    }

    /// All brokers that are told inside, or outside.
    fn all(&self, listener: &str) -> BTreeSet<String> {
        match listener {
            "inside" => (1..=3).map(|node| format!("{node}={}", self.bound(node, "inside"))).collect(),
            _ => OUTSIDE_ALSO.iter().map(|node| format!("{node}=node{node}.example:1{node}092")).collect(),
        }
    }
}

async fn metadata(connection: &mut Connection, version: i16) -> MetadataResponse {
    connection.ask(version, &MetadataRequest::default().with_topics(None)).await
}

fn told(answer: &MetadataResponse) -> BTreeSet<String> {
    let brokers = answer.brokers.iter();
    brokers.map(|broker| format!("{}={}:{}", broker.node_id.0, &*broker.host, broker.port)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_told_of_addresses_of_the_listener_that_it_came_in_by() {
    let directory = tempfile::tempdir().unwrap();
    let three = Three::start(directory.path()).await;
    let mut client = three.brokers[0].client.clone();
    create(&mut client, "t", 1, &[]).await;
    for (node, listener) in [(1, "inside"), (2, "inside"), (3, "inside"), (1, "outside"), (2, "outside")] {
        let all = three.all(listener);
        let mut connection = three.connect(node, listener).await;
        let complete = async {
            loop {
                let answer = metadata(&mut connection, 12).await;
                if told(&answer) == all {
                    return;
                }
            }
        };
        timeout(PATIENCE, complete).await.unwrap_or_else(|_| panic!("{node} {listener}: never {all:?}"));
        let described = connection.ask(1, &DescribeClusterRequest::default().with_endpoint_type(1)).await;
        let described: BTreeSet<String> = described
            .brokers
            .iter()
            .map(|broker| format!("{}={}:{}", broker.broker_id.0, &*broker.host, broker.port))
            .collect();
        assert_eq!(described, all, "{node} {listener}");
        let found = async {
            loop {
                let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
                let found = connection.ask(4, &request).await.coordinators.remove(0);
                if found.error_code == 0 {
                    let found = format!("{}={}:{}", found.node_id.0, &*found.host, found.port);
                    assert!(all.contains(&found), "{node} {listener}: {found}");
                    return;
                }
                // Not before the internal topic has leaders; outside never, if the third broker leads it.
                assert_eq!(found.error_code, 15);
                if listener == "outside" {
                    return;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("a coordinator is found");
    }
    only_what_is_reached_leads_outside(&three).await;
    for broker in three.brokers {
        broker.stop().await.unwrap();
    }
}

/// A partition's leadership goes to the broker that outside nobody reaches, and to one that everybody does.
async fn only_what_is_reached_leads_outside(three: &Three) {
    for to in [3_usize, 1] {
        lead(three, to).await;
        for (node, listener) in [(2, "inside"), (2, "outside")] {
            let mut connection = three.connect(node, listener).await;
            let is_reached = listener == "inside" || OUTSIDE_ALSO.contains(&to);
            for version in [5, 6, 12] {
                let answer = metadata(&mut connection, version).await;
                let topic =
                    answer.topics.iter().find(|topic| &*topic.name.as_ref().unwrap().0 == "t").unwrap();
                let partition = &topic.partitions[0];
                let expected = match (is_reached, version) {
                    (true, _) => (0, i32::try_from(to).unwrap()),
                    (false, 5) => (5, -1),
                    (false, _) => (72, -1),
                };
                assert_eq!((partition.error_code, partition.leader_id.0), expected, "{listener} {version}");
            }
            let request = produce(-1, "t", 0, batch(0, &["a"]));
            let answer = connection.ask::<ProduceRequest>(10, &request).await;
            let told: Vec<String> = answer
                .node_endpoints
                .iter()
                .map(|node| format!("{}={}:{}", node.node_id.0, &*node.host, node.port))
                .collect();
            assert_eq!(only_produced(answer).error_code, 6, "it is not the leader");
            let expected = three.all(listener).into_iter().filter(|one| one.starts_with(&format!("{to}=")));
            assert_eq!(told, expected.collect::<Vec<_>>(), "{listener}");
        }
    }
}

/// Has that broker lead partition 0 of `t`, and waits until the second one knows.
async fn lead(three: &Three, to: usize) {
    let to_node = Some(u32::try_from(to).unwrap());
    let mut inside = three.connect(2, "inside").await;
    let moved = async {
        loop {
            for broker in &three.brokers {
                let request = TransferRequest { topic: "t".to_owned(), partition: 0, to_node };
                drop(broker.client.clone().transfer(request).await.unwrap());
            }
            if inside.described("t").await.partitions[0].leader_id.0 == i32::try_from(to).unwrap() {
                return;
            }
        }
    };
    timeout(PATIENCE, moved).await.expect("the leadership moves");
}
