//! Metadata tells what the cluster knows: from a broker without a replica, from one whose replica is closed, from one that has
//! just been started, and on both sides of a cut.

use crate::client::{Connection, kafka_address, name, only_produced, produce, text};
use crate::common::{PATIENCE, Running, batch, configured};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, ProduceRequest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// A way from one broker to another that can be cut: what goes over it then is neither passed on nor refused.
struct Way {
    from: usize,
    to: usize,
    address: SocketAddr,
    is_cut: Arc<watch::Sender<bool>>,
}

impl Way {
    async fn new(from: usize, to: usize, target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(watch::Sender::new(false));
        let cut = is_cut.subscribe();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let (target, mut cut) = (target.clone(), cut.clone());
                tokio::spawn(async move {
                    let pass_on = async {
                        if let Ok(mut target) = TcpStream::connect(&target).await {
                            drop(copy_bidirectional(&mut stream, &mut target).await);
                        }
                    };
                    let ended = async { cut.wait_for(|cut| *cut).await.map(drop) };
                    tokio::select! {
                        biased;
                        _ = ended => {}
                        () = pass_on => return,
                    }
                    // Mute, and still there.
                    std::future::pending::<()>().await;
                    drop(stream);
                });
            }
        });
        Self { from, to, address, is_cut }
    }
}

/// How the brokers reach each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Direct,
    CanBeCut,
}

/// Brokers 1, 2 …
struct Cluster {
    directories: Vec<PathBuf>,
    grpc: Vec<String>,
    /// Over which they reach each other; if there are none, they do so directly.
    ways: Vec<Way>,
    more: &'static [&'static str],
    brokers: Vec<Option<Running>>,
}

impl Cluster {
    async fn start(directory: &Path, size: usize, more: &'static [&'static str]) -> Self {
        Self::start_over(directory, size, more, Links::Direct).await
    }

    async fn start_over(directory: &Path, size: usize, more: &'static [&'static str], links: Links) -> Self {
        // Addresses that were free a moment ago.
        let free: Vec<_> = (0..size).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let grpc: Vec<String> = free.iter().map(|free| free.local_addr().unwrap().to_string()).collect();
        drop(free);
        let mut ways = Vec::new();
        for from in (1..=size).filter(|_| links == Links::CanBeCut) {
            for to in (1..=size).filter(|to| *to != from) {
                ways.push(Way::new(from, to, grpc[to - 1].clone()).await);
            }
        }
        let directories = (1..=size).map(|node| directory.join(format!("n{node}"))).collect();
        let mut cluster = Self { directories, grpc, ways, more, brokers: Vec::new() };
        for node in 1..=size {
            cluster.brokers.push(None);
            cluster.start_one(node).await;
        }
        cluster
    }

    async fn start_one(&mut self, node: usize) {
        let id = node.to_string();
        let address = |to: usize| match self.ways.iter().find(|way| (way.from, way.to) == (node, to)) {
            Some(way) => way.address.to_string(),
            None => self.grpc[to - 1].clone(),
        };
        let size = self.grpc.len();
        let peers: Vec<String> = (1..=size).map(|to| format!("--peer={to}={}", address(to))).collect();
        let mut args = vec!["--cluster", "test", "--node-id", &id, "--workers", "1"];
        args.extend(["--kafka", "127.0.0.1:0", "--data-dir", self.directories[node - 1].to_str().unwrap()]);
        args.extend(self.more);
        args.extend(peers.iter().map(String::as_str));
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

    /// Nothing passes any more between `side` and the others.
    fn cut(&self, side: &BTreeSet<usize>) {
        for way in self.ways.iter().filter(|way| side.contains(&way.from) != side.contains(&way.to)) {
            way.is_cut.send_replace(true);
        }
    }

    async fn connect(&self, node: usize) -> Connection {
        Connection::open(&kafka_address(&self.directories[node - 1])).await
    }

    /// Makes a topic, and returns its partitions once every broker says the same of each: who leads, and that all replicas
    /// are in sync.
    async fn create(&self, topic: &str, partitions: i32, replicas: i16) -> Vec<MetadataResponsePartition> {
        let wanted = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
        let made = self.connect(1).await.ask(7, &request).await.topics.remove(0);
        assert_eq!(made.error_code, 0, "{made:?}");
        self.agreed(topic, |partition| {
            partition.leader_id.0 > 0 && partition.isr_nodes.len() == partition.replica_nodes.len()
        })
        .await
    }

    /// What every running broker says of the topic's partitions, once all say the same and `holds` for each partition.
    async fn agreed(
        &self,
        topic: &str,
        holds: impl Fn(&MetadataResponsePartition) -> bool,
    ) -> Vec<MetadataResponsePartition> {
        let mut last = Vec::new();
        let agreed = async {
            loop {
                let mut seen = Vec::new();
                for node in (1..=self.brokers.len()).filter(|node| self.brokers[*node - 1].is_some()) {
                    seen.push(self.connect(node).await.described(topic).await.partitions);
                }
                let first = &seen[0];
                if !first.is_empty() && seen.iter().all(|other| other == first) && first.iter().all(&holds) {
                    return first.clone();
                }
                last = seen;
            }
        };
        let found = timeout(PATIENCE, agreed).await;
        found.unwrap_or_else(|_| panic!("the brokers never agree: {last:#?}"))
    }
}

fn ids(nodes: &[BrokerId]) -> Vec<usize> {
    let mut ids: Vec<usize> = nodes.iter().map(|node| usize::try_from(node.0).unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// The one log file of a group's replica, by its group's number in the path.
fn damage_newest_segment(directory: &Path) {
    let mut found = Vec::new();
    let mut open = vec![directory.join("groups")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if std::fs::read(&path).unwrap().windows(6).any(|bytes| bytes == b"needle") {
                found.push(path);
            }
        }
    }
    let [path] = &found[..] else { panic!("the record is in one file: {found:?}") };
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"needle").unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_replica_is_closed_tells_who_leads_and_no_broker_counts_it_in_sync() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path(), 3, &[]).await;
    let led = cluster.create("t", 1, 3).await.remove(0);
    let leader = usize::try_from(led.leader_id.0).unwrap();
    let mut connection = cluster.connect(leader).await;
    for value in ["needle", "hay", "hay"] {
        assert_eq!(connection.produce(9, "t", 0, batch(0, &[value])).await.error_code, 0);
    }
    let damaged = leader % 3 + 1;
    cluster.stop_one(damaged).await;
    damage_newest_segment(&cluster.directories[damaged - 1]);
    cluster.start_one(damaged).await;
    let others: Vec<usize> = (1..=3).filter(|node| *node != damaged).collect();
    let told = cluster
        .agreed("t", |partition| {
            ids(&partition.isr_nodes) == others && ids(&partition.offline_replicas) == [damaged]
        })
        .await
        .remove(0);
    assert_eq!((told.error_code, told.leader_id, told.leader_epoch), (0, led.leader_id, led.leader_epoch));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_has_just_been_started_tells_no_guess_and_no_older_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path(), 3, &[]).await;
    let led = cluster.create("alone", 3, 1).await;
    for node in [3, 2, 1] {
        cluster.stop_one(node).await;
    }
    for node in [1, 2] {
        cluster.start_one(node).await;
    }
    let mut connection = cluster.connect(1).await;
    // Asked once, and at once.
    for told in connection.described("alone").await.partitions {
        let before = led.iter().find(|led| led.partition_index == told.partition_index).unwrap();
        if ids(&told.replica_nodes) == [3] {
            // Nobody has heard of it. An epoch of -1 would be one that clients take for news.
            assert_eq!((told.leader_id.0, told.leader_epoch, told.error_code), (-1, 0, 5), "{told:?}");
        } else {
            assert_eq!((told.leader_id, told.error_code), (before.leader_id, 0), "{told:?}");
            assert!(told.leader_epoch > before.leader_epoch, "{told:?} after {before:?}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_are_kept_by_those_that_stay() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path(), 3, &[]).await;
    cluster.create("alone", 3, 1).await;
    cluster.stop_one(3).await;
    cluster.start_one(3).await;
    let led = cluster.agreed("alone", |partition| partition.leader_id.0 > 0).await;
    let on_third = led.iter().find(|led| ids(&led.replica_nodes) == [3]).expect("broker 3 has one");
    cluster.stop_one(3).await;
    cluster.stop_one(1).await;
    cluster.start_one(1).await;
    // Broker 2 was there all the time and tells the first what it knows.
    let told = cluster.agreed("alone", |partition| {
        partition.partition_index != on_third.partition_index
            || partition.leader_epoch == on_third.leader_epoch
    });
    let told = told.await;
    for told in told.iter().filter(|told| told.partition_index == on_third.partition_index) {
        assert_eq!((told.leader_id.0, told.error_code, told.isr_nodes.len()), (-1, 5, 0), "{told:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_led_to_a_majority_that_is_cut_off_from_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let more = &["--broker-session-timeout-ms", "2000"];
    let cluster = Cluster::start_over(directory.path(), 5, more, Links::CanBeCut).await;
    let all = cluster.create("t", 5, 3).await;
    // Two of the replicas are cut off; where one of the others leads it has to give up, so the third one is the leader.
    let led = &all[0];
    let leader = usize::try_from(led.leader_id.0).unwrap();
    let side: BTreeSet<usize> = ids(&led.replica_nodes).into_iter().filter(|node| *node != leader).collect();
    assert_eq!(side.len(), 2, "{led:?}");
    cluster.cut(&side);
    let others: Vec<usize> = (1..=5).filter(|node| !side.contains(node)).collect();
    let mut epochs = BTreeMap::new();
    // A client that asks the larger side alone, and goes where it is sent.
    let led_there = async {
        loop {
            for by in &others {
                let told = cluster.connect(*by).await.described("t").await.partitions.remove(0);
                let before = epochs.insert(*by, told.leader_epoch).unwrap_or(led.leader_epoch);
                assert!(told.leader_epoch >= before, "broker {by} told of epoch {before}, and now {told:?}");
                let Ok(leader) = usize::try_from(told.leader_id.0) else { continue };
                let mut connection = cluster.connect(leader).await;
                let request = produce(-1, "t", led.partition_index, batch(0, &["a"])).with_timeout_ms(500);
                let answer = only_produced(connection.ask::<ProduceRequest>(10, &request).await);
                if answer.error_code == 0 {
                    assert!(side.contains(&leader), "{leader} has a majority");
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, led_there).await.expect("the client is led to the majority");
    // For as long as it lasts: longer than a session.
    let told_of = async {
        loop {
            for by in &others {
                let mut connection = cluster.connect(*by).await;
                let answer = connection.ask(12, &MetadataRequest::default().with_topics(None)).await;
                let told: Vec<BrokerId> = answer.brokers.iter().map(|broker| broker.node_id).collect();
                let told = ids(&told);
                assert!(side.iter().all(|node| told.contains(node)), "broker {by} tells of {told:?}");
            }
        }
    };
    let ended: Result<(), _> = timeout(Duration::from_secs(4), told_of).await;
    assert!(ended.is_err());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_was_answered_is_true_on_the_next_broker() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(directory.path(), 3, &[]).await;
    cluster.create("t", 1, 3).await;
    let mut connections = Vec::new();
    for node in 1..=3 {
        connections.push(cluster.connect(node).await);
    }
    let mut partitions = 1;
    for round in 0..60 {
        let (at, next) = (round % 3, (round + 1 + round / 3 % 2) % 3);
        let retention = (100_000 + round).to_string();
        let change = AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text(&retention)))
            .with_config_operation(0);
        let topic = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![change]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![topic]);
        let altered = connections[at].ask(1, &request).await.responses.remove(0);
        assert_eq!(altered.error_code, 0, "{altered:?}");
        let topic = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configuration_keys(Some(vec![text("retention.ms")]));
        let request = DescribeConfigsRequest::default().with_resources(vec![topic]);
        let told = connections[next].ask(4, &request).await.results.remove(0).configs.remove(0);
        assert_eq!(told.value, Some(text(&retention)), "round {round}");

        let made = CreatableTopic::default()
            .with_name(name("gone"))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![made]).with_timeout_ms(10_000);
        assert_eq!(connections[at].ask(7, &request).await.topics[0].error_code, 0);
        assert_eq!(connections[next].described("gone").await.error_code, 0, "round {round}: made");
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![name("gone")]).with_timeout_ms(10_000);
        assert_eq!(connections[at].ask(5, &request).await.responses[0].error_code, 0);
        assert_eq!(connections[next].described("gone").await.error_code, 3, "round {round}: deleted");

        if round % 10 == 0 {
            partitions += 1;
            let more = CreatePartitionsTopic::default()
                .with_name(name("t"))
                .with_count(partitions)
                .with_assignments(None);
            let request = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(10_000);
            assert_eq!(connections[at].ask(3, &request).await.results[0].error_code, 0);
            let told = connections[next].described("t").await.partitions.len();
            assert_eq!(i32::try_from(told), Ok(partitions), "round {round}: grown");
        }
    }
    cluster.stop().await;
}
