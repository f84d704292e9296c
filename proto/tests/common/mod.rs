//! What the property tests share: dumb twins of the clever functions, and strategies for values.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::Config;
use raftline_proto::batch::{Builder, Codec, Header};
use raftline_proto::command::{Command, TrimReason};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::{
    ClusterId, EntryId, GroupId, Incarnation, Index, Membership, NodeId, Offset, ProducerId, Term, TopicId,
};
use raftline_proto::metadata::{BrokerRecord, MetadataRecord, PLAINTEXT, PartitionRecord};
use raftline_proto::producers::{ProducerState, RememberedBatch, SEQUENCE_MAX};
use raftline_proto::time::Timestamp;
use std::collections::BTreeMap;

pub const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// `cases` cases. A failure prints the least input that fails, which stands for the seed; nothing is written to disk.
pub fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// CRC-32C as its polynomial says, bit by bit.
pub fn crc32c_dumb(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// Zigzag by its definition: 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...; then base 128, the lowest digit first.
pub fn varint_dumb(value: i128) -> Vec<u8> {
    let mut rest = if value < 0 { -value * 2 - 1 } else { value * 2 };
    let mut digits = Vec::new();
    loop {
        let digit = u8::try_from(rest % 128).unwrap();
        rest /= 128;
        if rest == 0 {
            digits.push(digit);
            return digits;
        }
        digits.push(digit + 128);
    }
}

/// A record with everything owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

pub fn record() -> impl Strategy<Value = OwnedRecord> {
    let part = || option::of(vec(any::<u8>(), 0..40));
    let name = prop_oneof![Just(b"trace".to_vec()), vec(any::<u8>(), 0..5)];
    (-1_i64..1 << 45, part(), part(), vec((name, part()), 0..4))
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}

pub fn producer() -> impl Strategy<Value = ProducerBatch> {
    (0..i64::MAX as u64, 0..=i16::MAX.unsigned_abs(), 0..=i32::MAX.unsigned_abs())
        .prop_map(|(id, epoch, base_sequence)| ProducerBatch { id: ProducerId(id), epoch, base_sequence })
}

pub fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(CODECS.to_vec())
}

pub fn build(codec: Codec, producer: Option<ProducerBatch>, records: &[OwnedRecord]) -> bytes::Bytes {
    let mut builder = Builder::new(codec);
    if let Some(producer) = producer {
        builder.set_producer(producer);
    }
    for record in records {
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
        builder
            .push(Timestamp(record.timestamp), record.key.as_deref(), record.value.as_deref(), &headers)
            .unwrap();
    }
    builder.build()
}

/// One to some records, each packing.
pub fn batch() -> impl Strategy<Value = bytes::Bytes> {
    (codec(), option::of(producer()), vec(record(), 1..12))
        .prop_map(|(codec, producer, records)| build(codec, producer, &records))
}

pub fn membership() -> impl Strategy<Value = Membership> {
    (btree_set(any::<u32>(), 1..10), btree_set(any::<u32>(), 0..7)).prop_map(|(voters, learners)| {
        Membership {
            learners: learners.difference(&voters).map(|node| NodeId(*node)).collect(),
            voters: voters.into_iter().map(NodeId).collect(),
        }
    })
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(through, end, before, start)| {
            Command::Compact {
                through: Index(through),
                end_offset: Offset(end),
                tombstones_before: Offset(before),
                start_offset: Offset(start),
            }
        }),
        (any::<u64>(), 0..3_usize).prop_map(|(offset, nth)| {
            let reason = [TrimReason::Asked, TrimReason::Age, TrimReason::Size][nth];
            Command::TrimTo { offset: Offset(offset), reason }
        }),
        btree_map(any::<u64>(), producer_state(), 0..6).prop_map(|producers| Command::Producers {
            producers: producers
                .into_iter()
                .map(|(id, state)| ProducerState { id: ProducerId(id), ..state })
                .collect()
        }),
    ]
}

fn producer_state() -> impl Strategy<Value = ProducerState> {
    let batch = (any::<(u64, u64, i64)>(), 0..=SEQUENCE_MAX, 0..=SEQUENCE_MAX);
    (any::<u16>(), btree_map(any::<u64>(), batch, 1..=5)).prop_map(|(epoch, batches)| ProducerState {
        id: ProducerId(0),
        epoch,
        batches: batches
            .into_iter()
            .map(|(index, ((term, offset, time), base_sequence, last_sequence))| RememberedBatch {
                entry: EntryId::new(Term(term), Index(index)),
                base_offset: Offset(offset),
                max_timestamp: Timestamp(time),
                base_sequence,
                last_sequence,
            })
            .collect(),
    })
}

fn partitions() -> impl Strategy<Value = Vec<PartitionRecord>> {
    let partition = (any::<u64>(), vec(any::<u32>().prop_map(NodeId), 0..16))
        .prop_map(|(group, replicas)| PartitionRecord { group: GroupId(group), replicas });
    vec(partition, 0..6)
}

/// None, one without a name of its own, or some with names.
fn listeners() -> impl Strategy<Value = BTreeMap<String, String>> {
    let plain = vec("[a-z]{0,9}:[0-9]{1,5}", 0..2)
        .prop_map(|address| address.into_iter().map(|address| (PLAINTEXT.to_owned(), address)).collect());
    let address = "[a-z]{0,9}:[0-9]{1,5}";
    prop_oneof![plain, btree_map("PLAINTEXT|[A-Z]{1,9}", address, 0..4)]
}

pub fn metadata() -> impl Strategy<Value = Vec<MetadataRecord>> {
    let configs = || btree_map("[a-z.]{1,8}", "\\PC{0,12}", 0..4);
    let id = || any::<u128>().prop_map(TopicId);
    let record = prop_oneof![
        (any::<u128>(), "\\PC{0,20}", any::<u32>()).prop_map(|(id, name, feature_level)| {
            MetadataRecord::Cluster { id: ClusterId(id), name, feature_level }
        }),
        (any::<u32>(), any::<u64>(), "[a-z]{1,9}:[0-9]{1,5}", listeners()).prop_map(
            |(node, incarnation, grpc_address, kafka)| {
                let (node, incarnation) = (NodeId(node), Incarnation(incarnation));
                MetadataRecord::Broker(BrokerRecord { node, incarnation, grpc_address, kafka })
            }
        ),
        (id(), "[a-zA-Z0-9._-]{1,249}", partitions(), configs()).prop_map(
            |(id, name, partitions, configs)| {
                MetadataRecord::TopicCreated { id, name, partitions, configs }
            }
        ),
        id().prop_map(|id| MetadataRecord::TopicDeleted { id }),
        (id(), configs()).prop_map(|(id, configs)| MetadataRecord::TopicConfigured { id, configs }),
        (id(), partitions()).prop_map(|(id, partitions)| MetadataRecord::PartitionsAdded { id, partitions }),
        any::<u64>().prop_map(|next| MetadataRecord::ProducerIds { next: ProducerId(next) }),
    ];
    vec(record, 0..6)
}
