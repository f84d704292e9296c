//! The API of a lone broker, over a real socket: what works, and what is refused with a clear error while the broker
//! goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use bytes::Bytes;
use common::{Client, PATIENCE, Producing, batch, configured, create, lone, values};
use raftline_broker::server::ServeError;
use raftline_proto::api::fetch_request::From;
use raftline_proto::api::list_offset_request::At;
use raftline_proto::api::produce_reply::Result as ReplyResult;
use raftline_proto::api::{
    AddPartitionsRequest, AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, DescribeTopicRequest,
    Durability, ErrorCode, FetchReply, FetchRequest, InitProducerRequest, ListOffsetRequest, MetadataRequest,
    NodeStatusRequest, ProduceRequest, TransferRequest,
};
use raftline_proto::batch::{Builder, Codec};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::ProducerId;
use raftline_proto::time::Timestamp;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn fetch_from(topic: &str, from: From) -> FetchRequest {
    FetchRequest { topic: topic.to_owned(), from: Some(from), ..FetchRequest::default() }
}

async fn fetch(client: &mut Client, topic: &str, from: From) -> FetchReply {
    client.fetch(fetch_from(topic, from)).await.unwrap().into_inner()
}

async fn list_offset(client: &mut Client, topic: &str, at: At) -> u64 {
    let request = ListOffsetRequest { topic: topic.to_owned(), partition: 0, at: Some(at) };
    let reply = client.list_offset(request).await.unwrap().into_inner();
    assert_eq!(reply.error, None);
    reply.offset
}

/// The broker still does its work.
async fn assert_alive(client: &mut Client) {
    let mut producing = Producing::open(client).await;
    let offset = producing.produce("t", 0, batch(0, &["alive"])).await;
    let reply = fetch(client, "t", From::Offset(offset)).await;
    assert_eq!((reply.error.as_ref(), values(&reply)), (None, vec!["alive".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_in_order_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    create(&mut broker.client, "t", 1, &[]).await;
    let mut producing = Producing::open(&mut broker.client).await;
    for number in 0..200_u64 {
        let (first, second) = (format!("{number}a"), format!("{number}b"));
        producing.send(number, "t", 0, batch(1_000 + 10 * number.cast_signed(), &[&first, &second])).await;
    }
    for number in 0..200_u64 {
        let reply = producing.reply().await;
        let Some(ReplyResult::Produced(produced)) = reply.result else { panic!("{reply:?}") };
        assert_eq!((reply.correlation_id, produced.base_offset), (number, number * 2));
        assert_eq!((produced.durable_on, produced.duplicate), (vec![1], false));
    }
    let client = &mut broker.client;
    assert_eq!(list_offset(client, "t", At::Start(true)).await, 0);
    assert_eq!(list_offset(client, "t", At::End(true)).await, 400);
    assert_eq!(list_offset(client, "t", At::TimestampMs(1_015)).await, 4);
    assert_eq!(list_offset(client, "t", At::TimestampMs(i64::MAX)).await, 400);

    let reply = fetch(client, "t", From::Offset(397)).await;
    assert_eq!((reply.from_offset, reply.high_watermark), (397, 400));
    assert_eq!(values(&reply), ["198b", "199a", "199b"]);
    let reply = fetch(client, "t", From::TimestampMs(1_020)).await;
    assert_eq!(values(&reply)[0], "2a");
    drop(producing);
    broker.stop().await.unwrap();

    let mut broker = lone(directory.path(), &[]).await;
    common::leaders(&mut broker.client, "t").await;
    let all = FetchRequest { max_bytes: 8 << 20, ..fetch_from("t", From::Start(true)) };
    let reply = broker.client.fetch(all).await.unwrap().into_inner();
    assert_eq!(values(&reply).len(), 400);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_waits_for_records_and_a_subscription_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    create(&mut broker.client, "t", 1, &[]).await;
    let client = &mut broker.client;

    let waiting = FetchRequest { max_wait_ms: 60_000, ..fetch_from("t", From::End(true)) };
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.fetch(waiting).await.unwrap().into_inner() });
    let mut subscription = client.subscribe(fetch_from("t", From::End(true))).await.unwrap().into_inner();
    let first = subscription.message().await.unwrap().unwrap();
    assert_eq!(
        (first.error.as_ref(), first.from_offset, values(&first).len()),
        (None, 0, 0),
        "the offset that it resolved to comes at once"
    );

    let mut producing = Producing::open(client).await;
    producing.produce("t", 0, batch(0, &["one", "two"])).await;
    let reply = subscription.message().await.unwrap().unwrap();
    assert_eq!(values(&reply), ["one", "two"]);
    producing.produce("t", 0, batch(0, &["three"])).await;
    // The poll may have begun after the first produce: then it resolved to a later end, and waited for what came next.
    let reply = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    let got = values(&reply);
    assert!(got == ["one", "two"] || got == ["three"], "{got:?}");
    let reply = subscription.message().await.unwrap().unwrap();
    assert_eq!((reply.from_offset, values(&reply)), (2, vec!["three".to_owned()]));

    let short = FetchRequest { max_wait_ms: 1, ..fetch_from("t", From::Offset(3)) };
    let reply = client.fetch(short).await.unwrap().into_inner();
    assert_eq!((reply.error, reply.high_watermark, reply.batches.len()), (None, 3, 0));
    broker.stop().await.unwrap();
    let last = subscription.message().await;
    let stopping =
        matches!(&last, Ok(Some(reply)) if reply.error.as_ref().unwrap().code() == ErrorCode::Stopping);
    assert!(stopping || matches!(last, Ok(None) | Err(_)), "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_changed_described_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    let client = &mut broker.client;
    create(client, "orders", 2, &[("retention.ms", "60000")]).await;
    let describe = || DescribeTopicRequest { name: "orders".to_owned() };
    let described = client.describe_topic(describe()).await.unwrap().into_inner();
    let retention = described.configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_str(), retention.is_default), ("60000", false));
    assert!(!retention.documentation.is_empty() && retention.default_value == "604800000");

    let set = BTreeMap::from([("max.message.bytes".to_owned(), "5000".to_owned())]);
    let alter = AlterTopicRequest { name: "orders".to_owned(), set, reset: vec!["retention.ms".to_owned()] };
    assert_eq!(client.alter_topic(alter).await.unwrap().into_inner().error, None);
    let more = AddPartitionsRequest { name: "orders".to_owned(), total: 4, assignment: Vec::new() };
    assert_eq!(client.add_partitions(more).await.unwrap().into_inner().error, None);
    assert_eq!(common::leaders(client, "orders").await, [1, 1, 1, 1]);
    let described = client.describe_topic(describe()).await.unwrap().into_inner();
    let value = |name: &str| &described.configs.iter().find(|config| config.name == name).unwrap().value;
    assert_eq!((value("max.message.bytes").as_str(), value("retention.ms").as_str()), ("5000", "604800000"));

    let status = client.node_status(NodeStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.node, status.replicas.len()), (1, 5));
    assert!(status.replicas.iter().all(|replica| replica.role == "leader" && replica.failure.is_empty()));
    assert!(status.disk_free_bytes > 0);

    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.init_producer(InitProducerRequest {}).await.unwrap().into_inner().producer_id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "ids are unique");

    let delete = || DeleteTopicRequest { name: "orders".to_owned(), id: String::new() };
    assert_eq!(client.delete_topic(delete()).await.unwrap().into_inner().error, None);
    let again = client.delete_topic(delete()).await.unwrap().into_inner().error.unwrap();
    assert_eq!(again.code(), ErrorCode::UnknownTopicOrPartition);

    let wanted = MetadataRequest { topics: vec!["made.on.use".to_owned()], auto_create: true };
    let metadata = client.metadata(wanted).await.unwrap().into_inner();
    assert_eq!(metadata.topics[0].error, None);
    assert!(metadata.topics[0].partitions.iter().all(|partition| partition.leader_node == Some(1)));
    assert_eq!(metadata.brokers[0].grpc_address, broker.address);
    assert_eq!((metadata.coordinator_node, metadata.cluster_id.len()), (Some(1), 32));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_batches_are_refused_by_what_is_wrong_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    create(&mut broker.client, "t", 1, &[("max.message.bytes", "4000")]).await;
    let mut producing = Producing::open(&mut broker.client).await;
    let good = || batch(0, &["value"]).to_vec();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good();
        bytes[at] = byte;
        Bytes::from(bytes)
    };
    let cases: Vec<(&str, Bytes, ErrorCode)> = vec![
        ("flipped record byte", changed(good().len() - 2, 0xff), ErrorCode::CorruptBatch),
        ("wrong stored checksum", changed(17, 0), ErrorCode::CorruptBatch),
        ("another magic", changed(16, 1), ErrorCode::InvalidBatch),
        ("absurd length", changed(8, 0x7f), ErrorCode::BatchTooLarge),
        ("negative length", changed(8, 0xff), ErrorCode::InvalidBatch),
        ("absurd count", changed(57, 0x7f), ErrorCode::InvalidBatch),
        ("empty", Bytes::new(), ErrorCode::InvalidBatch),
        ("cut short", Bytes::from(good()[..70].to_vec()), ErrorCode::InvalidBatch),
        ("two batches", Bytes::from([good(), good()].concat()), ErrorCode::InvalidBatch),
        ("garbage", Bytes::from(vec![0xaa; 200]), ErrorCode::InvalidBatch),
        ("over the topic's bound", batch(0, &[&"x".repeat(5000)]), ErrorCode::BatchTooLarge),
    ];
    for (what, bytes, code) in cases {
        let topic = "t".to_owned();
        let refusal = producing
            .refusal(ProduceRequest { correlation_id: 7, topic, batch: bytes, ..ProduceRequest::default() })
            .await;
        let range = [ErrorCode::InvalidBatch, ErrorCode::BatchTooLarge];
        let alike = refusal.code() == code || (range.contains(&code) && range.contains(&refusal.code()));
        assert!(alike, "{what}: {refusal:?}");
        assert!(refusal.message.contains("t/0"), "{what}: {}", refusal.message);
    }
    assert_alive(&mut broker.client).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_what_is_wrong_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    let client = &mut broker.client;
    create(client, "t", 1, &[]).await;
    let mut producing = Producing::open(client).await;
    let request = |topic: &str, partition, durability| ProduceRequest {
        topic: topic.to_owned(),
        partition,
        durability,
        batch: batch(0, &["v"]),
        ..ProduceRequest::default()
    };
    let refusal = producing.refusal(request("nowhere", 0, 0)).await;
    assert_eq!(refusal.code(), ErrorCode::UnknownTopicOrPartition);
    assert!(refusal.message.contains("`nowhere`"), "{}", refusal.message);
    let refusal = producing.refusal(request("t", 9, 0)).await;
    assert_eq!(refusal.code(), ErrorCode::UnknownTopicOrPartition);
    assert!(refusal.message.contains("partition 9"), "{}", refusal.message);
    let refusal = producing.refusal(request("t", 0, 17)).await;
    assert_eq!(refusal.code(), ErrorCode::InvalidRequest);
    assert!(refusal.message.contains("durability 17"), "{}", refusal.message);

    for name in ["", ".", "..", "a/b", "../etc/passwd", "a b", "ä", &"x".repeat(300), "new\nline", "nul\0"] {
        let create = CreateTopicRequest { name: name.to_owned(), ..CreateTopicRequest::default() };
        let error = client.create_topic(create).await.unwrap().into_inner().error.unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidTopicName, "{name:?}: {}", error.message);
        let wanted = MetadataRequest { topics: vec![name.to_owned()], auto_create: true };
        let topic = client.metadata(wanted).await.unwrap().into_inner().topics.pop().unwrap();
        assert_eq!(topic.error.unwrap().code(), ErrorCode::InvalidTopicName, "{name:?}");
    }
    let config = |name: &str, value: &str| CreateTopicRequest {
        name: "c".to_owned(),
        configs: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..CreateTopicRequest::default()
    };
    for (name, value) in [("retention.ms", "-5"), ("segment.bytes", "many"), ("no.such.thing", "1"), ("", "")]
    {
        let error = client.create_topic(config(name, value)).await.unwrap().into_inner().error.unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidConfig, "{name}={value}");
        assert!(error.message.contains(&format!(" {name}")), "{}", error.message);
    }
    let sized = |partitions, replication| CreateTopicRequest {
        name: "c".to_owned(),
        partitions,
        replication,
        configs: BTreeMap::new(),
        assignment: Vec::new(),
    };
    let error = client.create_topic(sized(1_000_000, 1)).await.unwrap().into_inner().error.unwrap();
    assert_eq!(error.code(), ErrorCode::InvalidPartitions);
    let error = client.create_topic(sized(1, 3)).await.unwrap().into_inner().error.unwrap();
    assert_eq!(error.code(), ErrorCode::InvalidReplication);
    let error = client.create_topic(CreateTopicRequest { name: "t".into(), ..sized(1, 1) }).await;
    assert_eq!(error.unwrap().into_inner().error.unwrap().code(), ErrorCode::TopicExists);

    let reply = fetch(client, "t", From::Offset(5)).await;
    let error = reply.error.unwrap();
    assert_eq!((error.code(), error.high_watermark), (ErrorCode::OffsetOutOfRange, Some(0)));
    let reply = fetch(client, "t", From::Offset(u64::MAX)).await;
    assert_eq!(reply.error.unwrap().code(), ErrorCode::OffsetOutOfRange);
    let no_from = FetchRequest { topic: "t".to_owned(), ..FetchRequest::default() };
    let error = client.fetch(no_from).await.unwrap().into_inner().error.unwrap();
    assert!(error.code() == ErrorCode::InvalidRequest && error.message.contains("`from`"));
    let transfer = TransferRequest { topic: "t".to_owned(), partition: 0, to_node: Some(9) };
    let error = client.transfer(transfer).await.unwrap().into_inner().error.unwrap();
    assert!(error.message.contains("node 9 has no replica"), "{}", error.message);

    let huge = ProduceRequest { batch: Bytes::from(vec![0; 33 << 20]), ..request("t", 0, 0) };
    producing.requests.send(huge).await.unwrap();
    let status = producing.replies.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    assert_alive(&mut broker.client).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_socket_ends_that_socket_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    create(&mut broker.client, "t", 1, &[]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge_frame = [preface.as_slice(), &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let garbage = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 4096], huge_frame];
    for bytes in garbage {
        let mut socket = tokio::net::TcpStream::connect(&broker.address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Whatever it says; what counts is that it ends and that the broker goes on.
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
        drop(ended.expect("the broker ends the connection"));
    }
    assert_alive(&mut broker.client).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weaker_durability_is_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    create(&mut broker.client, "t", 1, &[]).await;
    let mut producing = Producing::open(&mut broker.client).await;
    let levels = [Durability::Quorum, Durability::Memory, Durability::Leader, Durability::None];
    for (durability, offset) in levels.into_iter().zip(0..) {
        let request = ProduceRequest {
            correlation_id: offset,
            topic: "t".to_owned(),
            batch: batch(0, &["v"]),
            durability: durability.into(),
            ..ProduceRequest::default()
        };
        producing.requests.send(request).await.unwrap();
        let reply = producing.reply().await;
        let Some(ReplyResult::Produced(produced)) = reply.result else { panic!("{reply:?}") };
        assert_eq!((reply.correlation_id, produced.base_offset), (offset, offset));
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_may_be_relative() {
    // Of one part: it has no parent to be seen in its name.
    let directory = tempfile::Builder::new().prefix(".test-data-").tempdir_in(".").unwrap();
    let relative = std::path::Path::new(directory.path().file_name().unwrap());
    assert!(relative.is_relative() && relative.is_dir());
    for run in 0..2 {
        let mut broker = lone(relative, &[]).await;
        match run {
            0 => create(&mut broker.client, "t", 1, &[]).await,
            _ => drop(common::leaders(&mut broker.client, "t").await),
        }
        let mut producing = Producing::open(&mut broker.client).await;
        assert_eq!(producing.produce("t", 0, batch(0, &["a"])).await, run);
        drop(producing);
        broker.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let broker = lone(directory.path(), &[]).await;
    let data_dir = directory.path().to_str().unwrap();
    let serve = |args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        raftline_broker::server::serve(configured(&args), raftline_broker::shutdown::Stop::default())
    };
    let args = |data_dir: &str, grpc: &str| {
        ["--dev", "--data-dir", data_dir, "--grpc", grpc, "--kafka", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec()
    };
    let error = serve(args(data_dir, "127.0.0.1:0")).await.unwrap_err();
    assert!(error.to_string().contains("is in use by process"), "{error}");

    let elsewhere = tempfile::tempdir().unwrap();
    // The second time shows that the first left nothing behind that holds the directory.
    for _ in 0..2 {
        let error = serve(args(elsewhere.path().to_str().unwrap(), &broker.address)).await.unwrap_err();
        assert!(matches!(error, ServeError::Listen { .. }), "{error}");
        assert!(error.to_string().contains(&broker.address), "{error}");
    }
    broker.stop().await.unwrap();

    let mut other = args(data_dir, "127.0.0.1:0");
    other.extend(["--cluster".to_owned(), "other".to_owned()]);
    let error = serve(other).await.unwrap_err();
    assert!(error.to_string().contains("belongs to cluster `dev`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_an_idempotent_producer_is_recognised() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = lone(directory.path(), &[]).await;
    create(&mut broker.client, "t", 1, &[]).await;
    let id = broker.client.init_producer(InitProducerRequest {}).await.unwrap().into_inner();
    let stamped = |epoch: u32, base_sequence| {
        let mut builder = Builder::new(Codec::None);
        let epoch = u16::try_from(epoch).unwrap();
        builder.set_producer(ProducerBatch { id: ProducerId(id.producer_id), epoch, base_sequence });
        builder.push(Timestamp(0), None, Some(b"v"), &[]).unwrap();
        ProduceRequest { topic: "t".to_owned(), batch: builder.build(), ..ProduceRequest::default() }
    };
    let mut producing = Producing::open(&mut broker.client).await;
    for (sequence, duplicate, offset) in
        [(0, false, 0), (1, false, 1), (1, true, 1), (0, true, 0), (2, false, 2)]
    {
        producing.requests.send(stamped(1, sequence)).await.unwrap();
        let reply = producing.reply().await;
        let Some(ReplyResult::Produced(produced)) = reply.result else { panic!("{reply:?}") };
        assert_eq!((produced.base_offset, produced.duplicate), (offset, duplicate), "sequence {sequence}");
    }
    let refusal = producing.refusal(stamped(1, 9)).await;
    assert_eq!(refusal.code(), ErrorCode::OutOfOrderSequence);
    assert!(
        refusal.message.contains("sequence 3") && refusal.message.contains("got 9"),
        "{}",
        refusal.message
    );
    let refusal = producing.refusal(stamped(0, 3)).await;
    assert_eq!(refusal.code(), ErrorCode::ProducerFenced);
    broker.stop().await.unwrap();
}
