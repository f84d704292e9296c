//! Writes well-formed inputs into `proto/fuzz/corpus`, from where the fuzzer takes its first steps:
//! `cargo run -p raftline-proto --features grpc --example fuzz_seeds`

use bytes::Bytes;
use prost::Message;
use raftline_proto::api::ProduceRequest;
use raftline_proto::batch::{self, Builder, Codec, Header};
use raftline_proto::command::{Command, TrimReason};
use raftline_proto::entry::{EntryBody, EntryInfo, ProducerBatch};
use raftline_proto::ids::{
    ClusterId, EntryId, GroupId, Incarnation, Index, Membership, NodeId, Offset, ProducerId, Term, TopicId,
};
use raftline_proto::metadata::{BrokerRecord, MetadataRecord, PartitionRecord};
use raftline_proto::peer::{self, group_message, peer_frame};
use raftline_proto::producers::{ProducerState, RememberedBatch};
use raftline_proto::time::Timestamp;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let batches = batches();
    let bodies = bodies();
    let run = run(&batches, &bodies);
    for (at, batch) in batches.iter().enumerate() {
        write("batch", at, batch)?;
        let request = ProduceRequest {
            correlation_id: 1,
            topic: "t".into(),
            batch: batch.clone(),
            ..ProduceRequest::default()
        };
        write("frame", at, &request.encode_to_vec())?;
    }
    for (at, body) in bodies.iter().enumerate() {
        write("payload", at, &body.encode_payload().unwrap_or_default())?;
    }
    write("entry_run", 0, &run)?;
    write("frame", batches.len(), &frame(run).encode_to_vec())
}

fn write(target: &str, at: usize, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(format!("seed-{at}")), bytes)
}

/// One batch of each codec, the first of an idempotent producer; every kind of key, value and header.
fn batches() -> Vec<Bytes> {
    let value = b"the same again and again ".repeat(8);
    [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]
        .map(|codec| {
            let mut builder = Builder::new(codec);
            if codec == Codec::None {
                builder.set_producer(ProducerBatch { id: ProducerId(7), epoch: 1, base_sequence: 2 });
            }
            let headers = [Header { name: b"h", value: Some(b"1") }, Header { name: b"h", value: None }];
            for (key, value, headers) in [
                (Some(&b"k"[..]), Some(&value[..]), &headers[..]),
                (None, Some(b""), &[]),
                (Some(b""), None, &[]),
            ] {
                builder.push(Timestamp(1_700_000_000_000), key, value, headers).expect("small");
            }
            builder.build()
        })
        .to_vec()
}

fn bodies() -> Vec<EntryBody> {
    let partitions = vec![PartitionRecord { group: GroupId(1), replicas: vec![NodeId(1), NodeId(2)] }];
    let configs = [("retention.ms".to_owned(), "1000".to_owned())].into();
    let id = TopicId(5);
    let broker = BrokerRecord {
        node: NodeId(1),
        incarnation: Incarnation(2),
        grpc_address: "h:1".into(),
        kafka: [("IN".into(), "h:2".into()), ("OUT".into(), "o:2".into())].into(),
    };
    let records = vec![
        MetadataRecord::Cluster { id: ClusterId(9), name: "c".into(), feature_level: 1 },
        MetadataRecord::Broker(broker),
        MetadataRecord::TopicCreated { id, name: "t".into(), partitions: partitions.clone(), configs },
        MetadataRecord::TopicConfigured { id, configs: [].into() },
        MetadataRecord::PartitionsAdded { id, partitions },
        MetadataRecord::TopicDeleted { id },
        MetadataRecord::ProducerIds { next: ProducerId(1000) },
    ];
    let membership = Membership { voters: vec![NodeId(1), NodeId(2), NodeId(3)], learners: vec![NodeId(4)] };
    let compact = Command::Compact {
        through: Index(3),
        end_offset: Offset(2),
        tombstones_before: Offset(2),
        start_offset: Offset(1),
    };
    let trim = Command::TrimTo { offset: Offset(1), reason: TrimReason::Size };
    let remembered = RememberedBatch {
        entry: EntryId::new(Term(1), Index(2)),
        base_offset: Offset(3),
        max_timestamp: Timestamp(4),
        base_sequence: 0,
        last_sequence: 5,
    };
    let later = RememberedBatch { entry: EntryId::new(Term(1), Index(3)), ..remembered };
    let producers = Command::Producers {
        producers: [
            ProducerState { id: ProducerId(6), epoch: 7, batches: vec![remembered, later] },
            ProducerState { id: ProducerId(8), epoch: 0, batches: vec![later] },
        ]
        .into(),
    };
    vec![
        EntryBody::NoOp,
        EntryBody::Membership(membership),
        EntryBody::Metadata(records),
        EntryBody::Command(compact),
        EntryBody::Command(trim),
        EntryBody::Command(producers),
    ]
}

/// Every kind of entry, back to back.
fn run(batches: &[Bytes], bodies: &[EntryBody]) -> Vec<u8> {
    let mut run = Vec::new();
    let data = batches.iter().map(|batch| {
        let info = batch::validate(batch).expect("a built batch is valid");
        (EntryBody::Data(info), Some(batch))
    });
    let bodies = bodies.iter().map(|body| (body.clone(), None)).chain(data);
    let mut offset = Offset(0);
    for ((body, batch), index) in bodies.zip(1..) {
        let id = EntryId::new(Term(1), Index(index));
        let entry = EntryInfo::new(GroupId(1), id, offset, body);
        let parts = match batch {
            Some(batch) => batch::stamped(batch, offset, id.term),
            None => [entry.body.encode_payload().unwrap_or_default().into(), Bytes::new()],
        };
        run.extend(entry.header.encode(&[&parts[0], &parts[1]]));
        run.extend(parts.concat());
        offset = entry.header.next_offset();
    }
    run
}

fn frame(entries: Vec<u8>) -> peer::PeerFrame {
    let previous = Some(peer::EntryId { term: 1, index: 0 });
    let append =
        peer::Append { term: 1, previous, commit: 0, ack_memory: false, entries: entries.into(), round: 0 };
    let message = Some(group_message::Message::Append(append));
    let messages = vec![peer::GroupMessage { group: 1, message }];
    let batch = peer::Batch { from_incarnation: 1, to_incarnation: 2, messages };
    peer::PeerFrame { frame: Some(peer_frame::Frame::Batch(batch)) }
}
