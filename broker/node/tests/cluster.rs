//! Three brokers in one process, over real sockets: they find each other, any of them answers for the coordinator,
//! and one may go and come back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Producing, Running, batch, configured, connect, create, leaders, values};
use raftline_proto::api::fetch_request::From;
use raftline_proto::api::{
    AlterTopicRequest, CommitOffsetsRequest, CommittedOffset, CreateTopicRequest,
    DescribeConsumerGroupRequest, ErrorCode, FetchOffsetsRequest, FetchRequest, InitProducerRequest,
    ListConsumerGroupsRequest, MetadataRequest, NodeStatusRequest, TransferRequest,
};
use raftline_proto::batch::{BatchHeader, BatchView, Builder, Codec};
use raftline_proto::time::Timestamp;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Three addresses that were free a moment ago.
fn addresses() -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

struct Cluster {
    addresses: Vec<String>,
    directories: Vec<PathBuf>,
    nodes: Vec<Option<Running>>,
    /// More of the command line of each.
    more: &'static [&'static str],
}

impl Cluster {
    async fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[]).await
    }

    async fn start_with(directory: &Path, more: &'static [&'static str]) -> Self {
        let directories = (1..=3).map(|node| directory.join(format!("n{node}"))).collect();
        let mut cluster = Self { addresses: addresses(), directories, nodes: vec![None, None, None], more };
        for node in 1..=3 {
            cluster.start_node(node).await;
        }
        cluster
    }

    async fn start_node(&mut self, node: usize) {
        let peers: Vec<String> = self
            .addresses
            .iter()
            .zip(1..)
            .map(|(address, node)| format!("--peer={node}={address}"))
            .collect();
        let id = node.to_string();
        let mut args = vec!["--cluster", "test", "--node-id", &id, "--workers", "1"];
        args.extend(self.more);
        args.extend(["--data-dir", self.directories[node - 1].to_str().unwrap()]);
        args.extend(peers.iter().map(String::as_str));
        self.nodes[node - 1] = Some(Running::start(configured(&args)).await);
    }

    fn client(&self, node: usize) -> common::Client {
        self.nodes[node - 1].as_ref().unwrap().client.clone()
    }

    async fn stop_node(&mut self, node: usize) {
        self.nodes[node - 1].take().unwrap().stop().await.unwrap();
    }

    async fn stop(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.stop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_form_a_cluster_that_any_of_them_speaks_for() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(directory.path()).await;
    let mut clients = [cluster.client(1), cluster.client(2), cluster.client(3)];
    let mut ids = BTreeSet::new();
    for (client, number) in clients.iter_mut().zip(1..) {
        create(client, &format!("topic-{number}"), 3, &[]).await;
        ids.insert(client.init_producer(InitProducerRequest {}).await.unwrap().into_inner().producer_id);
        let again = CreateTopicRequest { name: "topic-1".to_owned(), ..CreateTopicRequest::default() };
        let error = client.create_topic(again).await.unwrap().into_inner().error.unwrap();
        assert_eq!(error.code(), ErrorCode::TopicExists, "through node {number}");
    }
    assert_eq!(ids.len(), 3);

    let mut cluster_ids = BTreeSet::new();
    for client in &mut clients {
        let led = leaders(client, "topic-3").await;
        assert_eq!(led.iter().collect::<BTreeSet<_>>().len(), 3, "leaders are spread: {led:?}");
        let metadata = client.metadata(MetadataRequest::default()).await.unwrap().into_inner();
        assert_eq!((metadata.brokers.len(), metadata.topics.len()), (3, 3));
        assert!(metadata.topics.iter().flat_map(|topic| &topic.partitions).all(|p| p.replicas.len() == 3));
        cluster_ids.insert(metadata.cluster_id);
    }
    assert_eq!(cluster_ids.len(), 1);

    let led = leaders(&mut clients[0], "topic-1").await;
    let (leader, other) = (led[0] as usize, led[1] as usize);
    let mut producing = Producing::open(&mut clients[leader - 1]).await;
    assert_eq!(producing.produce("topic-1", 0, batch(0, &["a", "b"])).await, 0);
    let mut refused = Producing::open(&mut clients[other - 1]).await;
    let request = raftline_proto::api::ProduceRequest {
        topic: "topic-1".to_owned(),
        batch: batch(0, &["c"]),
        ..raftline_proto::api::ProduceRequest::default()
    };
    let error = refused.refusal(request).await;
    assert_eq!((error.code(), error.leader_node), (ErrorCode::NotLeader, Some(led[0])));

    let transfer = TransferRequest { topic: "topic-1".to_owned(), partition: 0, to_node: Some(led[1]) };
    let reply = clients[other - 1].transfer(transfer).await.unwrap().into_inner();
    assert_eq!(reply.error, None, "any broker passes it on");
    while leaders(&mut clients[other - 1], "topic-1").await[0] != led[1] {}
    let mut producing = Producing::open(&mut clients[other - 1]).await;
    assert_eq!(producing.produce("topic-1", 0, batch(0, &["c"])).await, 2);
    drop((producing, refused));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_may_go_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path()).await;
    let mut first = cluster.client(1);
    create(&mut first, "t", 1, &[]).await;
    let leader = leaders(&mut first, "t").await[0] as usize;
    let mut producing = Producing::open(&mut cluster.client(leader)).await;
    producing.produce("t", 0, batch(0, &["before"])).await;
    drop((producing, first));
    cluster.stop_node(leader).await;

    let survivor = leader % 3 + 1;
    let mut client = cluster.client(survivor);
    let mut led = leaders(&mut client, "t").await[0] as usize;
    while led == leader {
        led = leaders(&mut client, "t").await[0] as usize;
    }
    let mut producing = Producing::open(&mut cluster.client(led)).await;
    assert_eq!(producing.produce("t", 0, batch(0, &["meanwhile"])).await, 1);
    cluster.start_node(leader).await;
    assert_eq!(producing.produce("t", 0, batch(0, &["after"])).await, 2);

    // The one that came back gets what it missed.
    let mut back = connect(&cluster.addresses[leader - 1]).await;
    let group =
        client.metadata(MetadataRequest::default()).await.unwrap().into_inner().topics[0].partitions[0].group;
    let caught_up = async {
        loop {
            let request = NodeStatusRequest { groups: vec![group] };
            let status = back.node_status(request).await.unwrap().into_inner();
            if status.replicas.first().is_some_and(|replica| replica.high_watermark == 3) {
                return;
            }
        }
    };
    tokio::time::timeout(common::PATIENCE, caught_up).await.expect("it catches up");
    let request =
        FetchRequest { topic: "t".to_owned(), from: Some(From::Start(true)), ..FetchRequest::default() };
    let led = leaders(&mut back, "t").await[0] as usize;
    let reply = cluster.client(led).fetch(request).await.unwrap().into_inner();
    assert_eq!(values(&reply), ["before", "meanwhile", "after"]);
    drop(producing);
    cluster.stop().await;
}

/// A batch of one record.
fn keyed(key: &str, value: Option<&str>) -> bytes::Bytes {
    let mut builder = Builder::new(Codec::None);
    builder.push(Timestamp(1), Some(key.as_bytes()), value.map(str::as_bytes), &[]).unwrap();
    builder.build()
}

/// What a topic's only partition holds, record by record: offset, key, and whether there is a value.
async fn records(cluster: &Cluster, topic: &str) -> Vec<(u64, String, bool)> {
    let mut any = cluster.nodes.iter().flatten().next().unwrap().client.clone();
    let leader = leaders(&mut any, topic).await[0] as usize;
    let mut client = cluster.client(leader);
    let (mut found, mut from) = (Vec::new(), From::Start(true));
    loop {
        let request = FetchRequest { topic: topic.to_owned(), from: Some(from), ..FetchRequest::default() };
        let reply = client.fetch(request).await.unwrap().into_inner();
        assert_eq!(reply.error, None);
        let mut rest = reply.batches.clone();
        if rest.is_empty() {
            return found;
        }
        let mut next = 0;
        while !rest.is_empty() {
            let header = BatchHeader::decode(&rest).unwrap();
            let whole = rest.split_to(header.batch_bytes as usize);
            for record in BatchView::open(&whole).unwrap().records() {
                let record = record.unwrap();
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                found.push((record.offset.0, key, record.value.is_some()));
            }
            next = header.next_offset().0;
        }
        from = From::Offset(next);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_keeps_each_keys_last_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_with(directory.path(), &["--cleanup-interval-ms", "200"]).await;
    let mut first = cluster.client(1);
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "4096"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("delete.retention.ms", "0"),
        // Not before all of it is there: what a look in between left would be too little for another one.
        ("min.compaction.lag.ms", "3600000"),
    ];
    create(&mut first, "state", 1, &configs).await;
    let leader = leaders(&mut first, "state").await[0] as usize;
    let mut producing = Producing::open(&mut cluster.client(leader)).await;
    let refused = producing
        .refusal(raftline_proto::api::ProduceRequest {
            topic: "state".to_owned(),
            batch: batch(0, &["without a key"]),
            ..raftline_proto::api::ProduceRequest::default()
        })
        .await;
    assert_eq!(refused.code(), ErrorCode::InvalidBatch);
    assert!(refused.message.contains("it has no key"), "{}", refused.message);
    let value = "x".repeat(300);
    for nth in 0..60 {
        producing.produce("state", 0, keyed(["a", "b", "c"][nth % 3], Some(&value))).await;
    }
    producing.produce("state", 0, keyed("b", None)).await;
    let reset = vec!["min.compaction.lag.ms".to_owned()];
    let at_once = AlterTopicRequest { name: "state".to_owned(), reset, ..AlterTopicRequest::default() };
    assert_eq!(first.alter_topic(at_once).await.unwrap().into_inner().error, None);
    let compacted = |kept: Vec<(u64, &str, bool)>| {
        let kept: Vec<(u64, String, bool)> =
            kept.into_iter().map(|(offset, key, value)| (offset, key.to_owned(), value)).collect();
        let cluster = &cluster;
        async move {
            let read = async { while records(cluster, "state").await != kept {} };
            if tokio::time::timeout(common::PATIENCE, read).await.is_err() {
                panic!("{:?}, not {kept:?}", records(cluster, "state").await);
            }
        }
    };
    // The deletion itself goes with the next compaction.
    compacted(vec![(57, "a", true), (59, "c", true)]).await;
    drop(producing);

    // The leader goes: another one has compacted as well. It comes back, and so does the lead.
    cluster.stop_node(leader).await;
    let mut other = cluster.client(leader % 3 + 1);
    while leaders(&mut other, "state").await[0] as usize == leader {}
    assert_eq!(records(&cluster, "state").await, [(57, "a".to_owned(), true), (59, "c".to_owned(), true)]);
    let led = leaders(&mut other, "state").await[0] as usize;
    let mut producing = Producing::open(&mut cluster.client(led)).await;
    assert_eq!(producing.produce("state", 0, keyed("a", Some("new"))).await, 61, "offsets go on");
    drop(producing);
    cluster.start_node(leader).await;
    let last = [(57, "a".to_owned(), true), (59, "c".to_owned(), true), (61, "a".to_owned(), true)];
    assert_eq!(records(&cluster, "state").await, last);
    let back = async {
        loop {
            let mut client = cluster.client(led);
            let to_node = u32::try_from(leader).ok();
            let transfer = TransferRequest { topic: "state".to_owned(), partition: 0, to_node };
            client.transfer(transfer).await.unwrap();
            if leaders(&mut client, "state").await[0] as usize == leader {
                return;
            }
        }
    };
    tokio::time::timeout(common::PATIENCE, back).await.expect("it takes the lead again");
    assert_eq!(records(&cluster, "state").await, last);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_broker_answers_for_every_consumer_group() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(directory.path()).await;
    let mut clients = [cluster.client(1), cluster.client(2), cluster.client(3)];
    create(&mut clients[0], "t", 1, &[]).await;
    let groups: Vec<String> = (0..12).map(|number| format!("group-{number:02}")).collect();
    for (group, number) in groups.iter().zip(0_u64..) {
        let offset =
            CommittedOffset { topic: "t".to_owned(), offset: Some(number), ..CommittedOffset::default() };
        let request = CommitOffsetsRequest {
            group: group.clone(),
            offsets: vec![offset],
            ..CommitOffsetsRequest::default()
        };
        let client = &mut clients[usize::try_from(number).unwrap() % 3];
        let committed = async {
            loop {
                let reply = client.commit_offsets(request.clone()).await.unwrap().into_inner();
                match reply.error.map(|error| error.code()) {
                    None => return,
                    // Its coordinator only begins.
                    Some(code) => {
                        assert!(matches!(code, ErrorCode::Busy | ErrorCode::NotCoordinator), "{code:?}");
                    }
                }
            }
        };
        tokio::time::timeout(common::PATIENCE, committed).await.expect("it is committed");
    }
    let mut coordinators = BTreeSet::new();
    for client in &mut clients {
        let listed = client.list_consumer_groups(ListConsumerGroupsRequest::default()).await.unwrap();
        let listed = listed.into_inner();
        assert_eq!(listed.error, None);
        assert_eq!(listed.groups.iter().map(|group| group.group.clone()).collect::<Vec<_>>(), groups);
        coordinators.extend(listed.groups.iter().map(|group| group.coordinator_node));
        for (group, number) in groups.iter().zip(0..) {
            let request = FetchOffsetsRequest { group: group.clone(), partitions: vec![] };
            let fetched = client.fetch_offsets(request).await.unwrap().into_inner();
            assert_eq!((fetched.error, fetched.offsets[0].offset), (None, Some(number)));
            let request = DescribeConsumerGroupRequest { group: group.clone() };
            let described = client.describe_consumer_group(request).await.unwrap().into_inner();
            assert_eq!(described.error, None);
        }
    }
    assert_eq!(coordinators.len(), 3, "groups are spread: {coordinators:?}");
    cluster.stop().await;
}
