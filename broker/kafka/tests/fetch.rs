//! Fetch by hand and by the `kafka-protocol` crate, in both directions and all versions.

mod support;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_response as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::fetch::{
    AbortedTransaction, EpochEnd, FetchAnswer, FetchPartitionAnswer, FetchRequest, FetchTopicAnswer,
    Isolation,
};
use raftline_kafka::leader::{Leader, NodeEndpoint};
use raftline_kafka::limits::REQUEST_ELEMENTS_MAX;
use raftline_kafka::wire::WireError;
use raftline_proto::ids::Offset;
use support::{Chance, messages, mutate};
use uuid::Uuid;

const VERSIONS: core::ops::RangeInclusive<i16> = 4..=18;

fn encode(message: &impl Encodable, version: i16) -> Bytes {
    let mut output = BytesMut::new();
    message.encode(&mut output, version).expect("a message of its version");
    output.freeze()
}

fn known(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

fn assert_same(ours: &FetchRequest, theirs: &m::FetchRequest) {
    assert_eq!(
        (ours.wait_ms_max, ours.bytes_min, ours.bytes_max),
        (theirs.max_wait_ms, theirs.min_bytes, theirs.max_bytes)
    );
    assert_eq!(ours.isolation == Isolation::ReadCommitted, theirs.isolation_level == 1);
    assert_eq!((ours.session_id, ours.session_epoch), (theirs.session_id, theirs.session_epoch));
    assert_eq!(ours.rack_id, theirs.rack_id);
    assert_eq!(ours.topics.len(), theirs.topics.len());
    for (ours, theirs) in ours.topics.iter().zip(&theirs.topics) {
        assert_eq!((&ours.name, ours.id), (&theirs.topic.0, theirs.topic_id));
        assert_eq!(ours.partitions.len(), theirs.partitions.len());
        for (ours, theirs) in ours.partitions.iter().zip(&theirs.partitions) {
            assert_eq!((ours.index, ours.bytes_max), (theirs.partition, theirs.partition_max_bytes));
            assert_eq!(ours.current_leader_epoch, known(theirs.current_leader_epoch));
            assert_eq!(ours.last_fetched_epoch, known(theirs.last_fetched_epoch));
            assert_eq!(ours.fetch_offset, u64::try_from(theirs.fetch_offset).ok().map(Offset));
        }
    }
    assert_eq!(ours.forgotten.len(), theirs.forgotten_topics_data.len());
    for (ours, theirs) in ours.forgotten.iter().zip(&theirs.forgotten_topics_data) {
        assert_eq!(
            (&ours.name, ours.id, &ours.partitions),
            (&theirs.topic.0, theirs.topic_id, &theirs.partitions)
        );
    }
}

fn offset(chance: &mut Chance) -> Offset {
    Offset(chance.next() >> 1)
}

fn optional<T>(chance: &mut Chance, some: impl FnOnce(&mut Chance) -> T) -> Option<T> {
    (!chance.one_in(3)).then(|| some(chance))
}

/// An answer with all that the version can tell.
fn answer(chance: &mut Chance, version: i16) -> FetchAnswer {
    let topics = chance.many(|chance| FetchTopicAnswer {
        name: if version < 13 { chance.str_bytes() } else { StrBytes::new() },
        id: if version < 13 { Uuid::nil() } else { Uuid::from_bytes(chance.bytes()) },
        partitions: chance.many(|chance| partition(chance, version)),
    });
    let endpoint = |chance: &mut Chance| NodeEndpoint {
        id: chance.i32(),
        host: chance.str_bytes(),
        port: chance.i32(),
        rack: chance.optional_str_bytes(),
    };
    FetchAnswer {
        throttle_ms: chance.i32(),
        error: if version >= 7 { ErrorCode::InvalidFetchSessionEpoch } else { ErrorCode::None },
        session_id: if version >= 7 { chance.i32() } else { 0 },
        topics,
        node_endpoints: if version >= 16 { chance.many(endpoint) } else { Vec::new() },
    }
}

fn partition(chance: &mut Chance, version: i16) -> FetchPartitionAnswer {
    let errors: Vec<ErrorCode> =
        ErrorCode::ALL.iter().copied().filter(|error| error.fetch_allowed()).collect();
    let mut answer = FetchPartitionAnswer::of_error(chance.i32(), errors[chance.below(errors.len())]);
    answer.high_watermark = optional(chance, offset);
    answer.last_stable_offset = optional(chance, offset);
    if version >= 5 {
        answer.log_start_offset = optional(chance, offset);
    }
    answer.aborted_transactions = optional(chance, |chance| {
        chance.many(|chance| AbortedTransaction { producer_id: chance.i64(), first_offset: offset(chance) })
    });
    if version >= 11 {
        answer.preferred_read_replica = optional(chance, |chance| chance.i32() & 0xffff);
    }
    answer.records = chance.many(|chance| Bytes::from(chance.blob()));
    if version >= 12 {
        answer.diverging_epoch =
            optional(chance, |chance| EpochEnd { epoch: chance.i32() & 0xffff, end_offset: offset(chance) });
        answer.current_leader =
            optional(chance, |chance| Leader { id: chance.i32() & 0xffff, epoch: chance.i32() & 0xffff });
    }
    answer
}

fn wire(offset: Option<Offset>) -> i64 {
    offset.map_or(-1, |offset| i64::try_from(offset.get()).expect("63 bits"))
}

/// The same answer as the crate has it.
fn as_theirs(answer: &FetchAnswer) -> m::FetchResponse {
    let topics = answer.topics.iter().map(|topic| {
        theirs::FetchableTopicResponse::default()
            .with_topic(m::TopicName(topic.name.clone()))
            .with_topic_id(topic.id)
            .with_partitions(topic.partitions.iter().map(partition_as_theirs).collect())
    });
    let endpoints = answer.node_endpoints.iter().map(|endpoint| {
        theirs::NodeEndpoint::default()
            .with_node_id(m::BrokerId(endpoint.id))
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    });
    m::FetchResponse::default()
        .with_throttle_time_ms(answer.throttle_ms)
        .with_error_code(answer.error.code())
        .with_session_id(answer.session_id)
        .with_responses(topics.collect())
        .with_node_endpoints(endpoints.collect())
}

fn partition_as_theirs(partition: &FetchPartitionAnswer) -> theirs::PartitionData {
    let aborted = partition.aborted_transactions.as_ref().map(|aborted| {
        let one = |transaction: &AbortedTransaction| {
            theirs::AbortedTransaction::default()
                .with_producer_id(m::ProducerId(transaction.producer_id))
                .with_first_offset(wire(Some(transaction.first_offset)))
        };
        aborted.iter().map(one).collect()
    });
    let mut data = theirs::PartitionData::default()
        .with_partition_index(partition.index)
        .with_error_code(partition.error.code())
        .with_high_watermark(wire(partition.high_watermark))
        .with_last_stable_offset(wire(partition.last_stable_offset))
        .with_log_start_offset(wire(partition.log_start_offset))
        .with_aborted_transactions(aborted)
        .with_preferred_read_replica(m::BrokerId(partition.preferred_read_replica.unwrap_or(-1)))
        .with_records(Some(partition.records.concat().into()));
    if let Some(end) = partition.diverging_epoch {
        data.diverging_epoch = theirs::EpochEndOffset::default()
            .with_epoch(end.epoch)
            .with_end_offset(wire(Some(end.end_offset)));
    }
    if let Some(leader) = partition.current_leader {
        data.current_leader = theirs::LeaderIdAndEpoch::default()
            .with_leader_id(m::BrokerId(leader.id))
            .with_leader_epoch(leader.epoch);
    }
    data
}

/// An answer's body, behind its size, the correlation id 7 and the tagged fields of its header.
fn body(pieces: &[Bytes], version: i16) -> Bytes {
    assert!(pieces.iter().all(|piece| !piece.is_empty()), "sockets are not given empty pieces");
    let mut frame = Bytes::from(pieces.concat());
    let size = usize::try_from(frame.get_i32()).expect("a size");
    assert_eq!(size, frame.len());
    let header_version = if version >= 12 { 1 } else { 0 };
    let header = m::ResponseHeader::decode(&mut frame, header_version).expect("a header");
    assert_eq!((header.correlation_id, header.unknown_tagged_fields.len()), (7, 0));
    frame
}

proptest! {
    #[test]
    fn requests_are_read_as_the_crate_writes_them(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for version in VERSIONS {
            let request = messages::fetch(&mut chance, version);
            let body = encode(&request, version);
            let decoded = FetchRequest::decode(version, &body).expect("a request");
            assert_same(&decoded, &request);
            for bytes in 0..body.len() {
                prop_assert!(FetchRequest::decode(version, &body.slice(..bytes)).is_err(), "{}", bytes);
            }
            let longer = Bytes::from([&body[..], &[0]].concat());
            prop_assert!(FetchRequest::decode(version, &longer).is_err());
        }
    }

    #[test]
    fn what_is_read_of_damaged_requests_is_what_the_crate_reads(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for version in VERSIONS {
            // Replicas' tagged fields are read over here, and the crate looks into them.
            let mut request = messages::fetch(&mut chance, version);
            request.cluster_id = None;
            request.replica_state = Default::default();
            let body = mutate(&encode(&request, version), &mut chance);
            if let Ok(decoded) = FetchRequest::decode(version, &body)
                && let Ok(theirs) = m::FetchRequest::decode(&mut body.clone(), version)
            {
                assert_same(&decoded, &theirs);
            }
        }
    }

    #[test]
    fn answers_are_byte_for_byte_those_of_the_crate(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for version in VERSIONS {
            let answer = answer(&mut chance, version);
            let theirs = as_theirs(&answer);
            let body = body(&answer.encode(version, 7), version);
            prop_assert_eq!(&body, &encode(&theirs, version), "version {}", version);
            prop_assert_eq!(m::FetchResponse::decode(&mut body.clone(), version).ok(), Some(theirs));
        }
    }

    /// A dispatcher need not know what a version cannot tell.
    #[test]
    fn what_a_version_cannot_tell_is_left_out(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let mut answer = answer(&mut chance, 18);
        for version in VERSIONS {
            for topic in &mut answer.topics {
                topic.name = StrBytes::from_static_str("topic");
            }
            let body = body(&answer.clone().encode(version, 7), version);
            let read = m::FetchResponse::decode(&mut body.clone(), version).expect("an answer");
            prop_assert_eq!(read.responses.len(), answer.topics.len());
            prop_assert!(version >= 16 || read.node_endpoints.is_empty());
        }
    }
}

#[test]
fn more_topics_than_the_bound_are_refused() {
    let request = |topics: usize| {
        // Replica -1, three bounds and the isolation level, then topics without a name and without partitions.
        let before = [&[0xff; 4][..], &[0; 13], &i32::try_from(topics).expect("few").to_be_bytes()];
        FetchRequest::decode(4, &[before.concat(), vec![0; 6 * topics]].concat().into())
    };
    assert!(request(REQUEST_ELEMENTS_MAX).is_ok());
    let max = REQUEST_ELEMENTS_MAX as u64;
    assert_eq!(request(REQUEST_ELEMENTS_MAX + 1), Err(WireError::TooMany { found: max + 1, max }));
}

#[test]
fn records_are_sent_from_where_they_lie() {
    let records = [Bytes::from_static(b"first"), Bytes::from_static(b"second")];
    let mut partition = FetchPartitionAnswer::of_error(0, ErrorCode::None);
    partition.records = records.to_vec();
    let empty = FetchPartitionAnswer::of_error(1, ErrorCode::None);
    let topic = FetchTopicAnswer { partitions: vec![partition, empty], ..FetchTopicAnswer::default() };
    let answer = FetchAnswer {
        throttle_ms: 0,
        error: ErrorCode::None,
        session_id: 0,
        topics: vec![topic],
        node_endpoints: Vec::new(),
    };
    let pieces = answer.encode(12, 7);
    assert_eq!(pieces.len(), 4, "what is before, two slices, what is behind");
    for (piece, slice) in pieces[1..3].iter().zip(&records) {
        assert_eq!(piece.as_ptr(), slice.as_ptr(), "not copied");
    }
}
