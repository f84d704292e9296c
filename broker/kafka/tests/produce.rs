//! Produce by hand and by the `kafka-protocol` crate, in both directions and all versions.

mod support;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_response as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::leader::{Leader, NodeEndpoint};
use raftline_kafka::limits::REQUEST_ELEMENTS_MAX;
use raftline_kafka::produce::{
    Acks, ProduceAnswer, ProducePartitionAnswer, ProduceRequest, ProduceTopicAnswer, RecordError,
};
use raftline_kafka::wire::WireError;
use raftline_proto::ids::Offset;
use raftline_proto::time::Timestamp;
use support::{Chance, messages, mutate};
use uuid::Uuid;

const VERSIONS: core::ops::RangeInclusive<i16> = 3..=13;

fn encode(message: &impl Encodable, version: i16) -> Bytes {
    let mut output = BytesMut::new();
    message.encode(&mut output, version).expect("a message of its version");
    output.freeze()
}

/// The number that clients send for it.
fn acks(acks: Acks) -> i16 {
    match acks {
        Acks::All => -1,
        Acks::None => 0,
        Acks::Leader => 1,
        Acks::Invalid(other) => other,
    }
}

fn assert_same(ours: &ProduceRequest, theirs: &m::ProduceRequest) {
    assert_eq!(ours.transactional_id.as_deref(), theirs.transactional_id.as_ref().map(|id| &*id.0));
    assert_eq!((acks(ours.acks), ours.timeout_ms), (theirs.acks, theirs.timeout_ms));
    assert_eq!(ours.topics.len(), theirs.topic_data.len());
    for (ours, theirs) in ours.topics.iter().zip(&theirs.topic_data) {
        assert_eq!((&ours.name, ours.id), (&theirs.name.0, theirs.topic_id));
        let ours: Vec<_> =
            ours.partitions.iter().map(|partition| (partition.index, &partition.records)).collect();
        let theirs: Vec<_> =
            theirs.partition_data.iter().map(|partition| (partition.index, &partition.records)).collect();
        assert_eq!(ours, theirs);
    }
}

/// An answer with all that the version can tell.
fn answer(chance: &mut Chance, version: i16) -> ProduceAnswer {
    let topics = chance.many(|chance| ProduceTopicAnswer {
        name: if version < 13 { chance.str_bytes() } else { StrBytes::new() },
        id: if version < 13 { Uuid::nil() } else { Uuid::from_bytes(chance.bytes()) },
        partitions: chance.many(|chance| partition(chance, version)),
    });
    let node_endpoints = if version < 10 {
        Vec::new()
    } else {
        chance.many(|chance| NodeEndpoint {
            id: chance.i32(),
            host: chance.str_bytes(),
            port: chance.i32(),
            rack: chance.optional_str_bytes(),
        })
    };
    ProduceAnswer { topics, throttle_ms: chance.i32(), node_endpoints }
}

fn partition(chance: &mut Chance, version: i16) -> ProducePartitionAnswer {
    let error = ErrorCode::ALL[chance.below(ErrorCode::ALL.len())];
    let mut answer = ProducePartitionAnswer::of_error(chance.i32(), error);
    let offset = |chance: &mut Chance| (!chance.one_in(3)).then(|| Offset(chance.next() >> 1));
    answer.base_offset = offset(chance);
    answer.log_append_time = (!chance.one_in(2)).then(|| Timestamp(chance.i64()));
    if version >= 5 {
        answer.log_start_offset = offset(chance);
    }
    if version >= 8 {
        answer.record_errors =
            chance.many(|chance| RecordError { at: chance.i32(), message: chance.optional_str_bytes() });
        answer.message = chance.optional_str_bytes();
    }
    if version >= 10 && chance.one_in(2) {
        answer.current_leader = Some(Leader { id: chance.i32() >> 1 & 0xffff, epoch: chance.i32() });
    }
    answer
}

/// The same answer as the crate has it.
fn as_theirs(answer: &ProduceAnswer) -> m::ProduceResponse {
    let offset =
        |offset: Option<Offset>| offset.map_or(-1, |offset| i64::try_from(offset.get()).expect("63 bits"));
    let partition = |partition: &ProducePartitionAnswer| {
        let errors = partition.record_errors.iter().map(|error| {
            theirs::BatchIndexAndErrorMessage::default()
                .with_batch_index(error.at)
                .with_batch_index_error_message(error.message.clone())
        });
        let leader = partition.current_leader.map_or_else(theirs::LeaderIdAndEpoch::default, |leader| {
            theirs::LeaderIdAndEpoch::default()
                .with_leader_id(m::BrokerId(leader.id))
                .with_leader_epoch(leader.epoch)
        });
        theirs::PartitionProduceResponse::default()
            .with_index(partition.index)
            .with_error_code(partition.error.code())
            .with_base_offset(offset(partition.base_offset))
            .with_log_append_time_ms(partition.log_append_time.map_or(-1, Timestamp::get))
            .with_log_start_offset(offset(partition.log_start_offset))
            .with_record_errors(errors.collect())
            .with_error_message(partition.message.clone())
            .with_current_leader(leader)
    };
    let topics = answer.topics.iter().map(|topic| {
        theirs::TopicProduceResponse::default()
            .with_name(m::TopicName(topic.name.clone()))
            .with_topic_id(topic.id)
            .with_partition_responses(topic.partitions.iter().map(partition).collect())
    });
    let endpoints = answer.node_endpoints.iter().map(|endpoint| {
        theirs::NodeEndpoint::default()
            .with_node_id(m::BrokerId(endpoint.id))
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    });
    m::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(answer.throttle_ms)
        .with_node_endpoints(endpoints.collect())
}

/// An answer's body, behind its size, the correlation id 7 and the tagged fields of its header.
fn body(mut frame: Bytes, version: i16) -> Bytes {
    let size = usize::try_from(frame.get_i32()).expect("a size");
    assert_eq!(size, frame.len());
    let header_version = if version >= 9 { 1 } else { 0 };
    let header = m::ResponseHeader::decode(&mut frame, header_version).expect("a header");
    assert_eq!((header.correlation_id, header.unknown_tagged_fields.len()), (7, 0));
    frame
}

proptest! {
    #[test]
    fn requests_are_read_as_the_crate_writes_them(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for version in VERSIONS {
            let request = messages::produce(&mut chance, version);
            let body = encode(&request, version);
            let decoded = ProduceRequest::decode(version, &body).expect("a request");
            assert_same(&decoded, &request);
            for bytes in 0..body.len() {
                prop_assert!(ProduceRequest::decode(version, &body.slice(..bytes)).is_err(), "{}", bytes);
            }
            let longer = Bytes::from([&body[..], &[0]].concat());
            prop_assert!(ProduceRequest::decode(version, &longer).is_err());
        }
    }

    #[test]
    fn what_is_read_of_damaged_requests_is_what_the_crate_reads(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for version in VERSIONS {
            let body = mutate(&encode(&messages::produce(&mut chance, version), version), &mut chance);
            if let Ok(decoded) = ProduceRequest::decode(version, &body) {
                let theirs = m::ProduceRequest::decode(&mut body.clone(), version).expect("ours is no laxer");
                assert_same(&decoded, &theirs);
            }
        }
    }

    #[test]
    fn answers_are_byte_for_byte_those_of_the_crate(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for version in VERSIONS {
            let answer = answer(&mut chance, version);
            let body = body(answer.encode(version, 7), version);
            let theirs = as_theirs(&answer);
            prop_assert_eq!(&body, &encode(&theirs, version), "version {}", version);
            prop_assert_eq!(m::ProduceResponse::decode(&mut body.clone(), version).ok(), Some(theirs));
        }
    }

    /// A dispatcher need not know what a version cannot tell.
    #[test]
    fn what_a_version_cannot_tell_is_left_out(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let answer = answer(&mut chance, 12);
        for version in 3..=12 {
            let body = body(answer.encode(version, 7), version);
            let read = m::ProduceResponse::decode(&mut body.clone(), version).expect("an answer");
            prop_assert_eq!(read.responses.len(), answer.topics.len());
            prop_assert!(version >= 10 || read.node_endpoints.is_empty());
        }
    }
}

#[test]
fn more_topics_and_partitions_than_the_bound_are_refused() {
    let request = |topics: usize| {
        let before =
            [&[0xff, 0xff, 0, 1, 0, 0, 0, 0][..], &i32::try_from(topics).expect("few").to_be_bytes()];
        // A topic without a name and with one partition, whose records are null.
        let topic = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        ProduceRequest::decode(3, &[before.concat(), topic.repeat(topics)].concat().into())
    };
    assert!(request(REQUEST_ELEMENTS_MAX / 2).is_ok());
    let max = REQUEST_ELEMENTS_MAX as u64;
    assert_eq!(request(REQUEST_ELEMENTS_MAX / 2 + 1), Err(WireError::TooMany { found: max + 1, max }));
}

#[test]
fn records_are_shared_with_the_frame() {
    let mut chance = Chance(3);
    let mut request = messages::produce(&mut chance, 9);
    request.topic_data = vec![m::produce_request::TopicProduceData::default().with_partition_data(vec![
        m::produce_request::PartitionProduceData::default().with_records(Some(Bytes::from_static(b"batch"))),
    ])];
    let body = encode(&request, 9);
    let decoded = ProduceRequest::decode(9, &body).expect("a request");
    let records = decoded.topics[0].partitions[0].records.as_ref().expect("a batch");
    assert!(body.as_ptr_range().contains(&records.as_ptr()), "not copied");
}
