//! Produce and Fetch requests as the `kafka-protocol` crate has them.

use super::Chance;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use raftline_kafka::uuid::Uuid;
use std::collections::BTreeMap;

impl Chance {
    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.bytes())
    }

    pub fn str_bytes(&mut self) -> StrBytes {
        StrBytes::from_string(self.text())
    }

    pub fn optional_str_bytes(&mut self) -> Option<StrBytes> {
        if self.one_in(3) { None } else { Some(self.str_bytes()) }
    }

    pub fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| one(self)).collect()
    }

    /// Tagged fields that nobody knows, if the version has any.
    pub fn tags(&mut self, is_flexible: bool) -> BTreeMap<i32, Bytes> {
        if is_flexible && self.one_in(4) {
            BTreeMap::from([(99, self.blob().into())])
        } else {
            BTreeMap::new()
        }
    }
}

fn topic(chance: &mut Chance, has_id: bool) -> (TopicName, Uuid) {
    if has_id {
        (TopicName::default(), Uuid::from_bytes(chance.bytes()))
    } else {
        (TopicName(chance.str_bytes()), Uuid::nil())
    }
}

pub fn produce(chance: &mut Chance, version: i16) -> ProduceRequest {
    let flexible = version >= 9;
    let partition = |chance: &mut Chance| {
        let records = if chance.one_in(5) { None } else { Some(chance.blob().into()) };
        PartitionProduceData::default()
            .with_index(chance.i32())
            .with_records(records)
            .with_unknown_tagged_fields(chance.tags(flexible))
    };
    let topics = chance.many(|chance| {
        let (name, id) = topic(chance, version >= 13);
        TopicProduceData::default()
            .with_name(name)
            .with_topic_id(id)
            .with_partition_data(chance.many(partition))
            .with_unknown_tagged_fields(chance.tags(flexible))
    });
    ProduceRequest::default()
        .with_transactional_id(chance.optional_str_bytes().map(TransactionalId))
        .with_acks([-1, 0, 1, 7][chance.below(4)])
        .with_timeout_ms(chance.i32())
        .with_topic_data(topics)
        .with_unknown_tagged_fields(chance.tags(flexible))
}

pub fn fetch(chance: &mut Chance, version: i16) -> FetchRequest {
    let flexible = version >= 12;
    let topics = chance.many(|chance| {
        let (name, id) = topic(chance, version >= 13);
        FetchTopic::default()
            .with_topic(name)
            .with_topic_id(id)
            .with_partitions(chance.many(|chance| fetch_partition(chance, version)))
            .with_unknown_tagged_fields(chance.tags(flexible))
    });
    let mut request = FetchRequest::default()
        .with_max_wait_ms(chance.i32())
        .with_min_bytes(chance.i32())
        .with_max_bytes(chance.i32())
        .with_isolation_level([0, 1][chance.below(2)])
        .with_topics(topics)
        .with_unknown_tagged_fields(chance.tags(flexible));
    if version >= 7 {
        request.session_id = chance.i32();
        request.session_epoch = chance.i32();
        request.forgotten_topics_data = chance.many(|chance| {
            let (name, id) = topic(chance, version >= 13);
            ForgottenTopic::default()
                .with_topic(name)
                .with_topic_id(id)
                .with_partitions(chance.many(Chance::i32))
                .with_unknown_tagged_fields(chance.tags(flexible))
        });
    }
    if version >= 11 {
        request.rack_id = chance.str_bytes();
    }
    if version >= 12 {
        request.cluster_id = chance.optional_str_bytes();
    }
    if version >= 15 && chance.one_in(2) {
        request.replica_state = ReplicaState::default().with_replica_epoch(chance.i64());
    }
    request
}

fn fetch_partition(chance: &mut Chance, version: i16) -> FetchPartition {
    let mut partition = FetchPartition::default()
        .with_partition(chance.i32())
        .with_fetch_offset(chance.i64())
        .with_log_start_offset(if version >= 5 { chance.i64() } else { -1 })
        .with_partition_max_bytes(chance.i32())
        .with_unknown_tagged_fields(chance.tags(version >= 12));
    if version >= 9 {
        partition.current_leader_epoch = chance.i32();
    }
    if version >= 12 {
        partition.last_fetched_epoch = chance.i32();
    }
    if version >= 17 {
        partition.replica_directory_id = Uuid::from_bytes(chance.bytes());
    }
    if version >= 18 {
        partition.high_watermark = chance.i64();
    }
    partition
}
