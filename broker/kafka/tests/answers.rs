//! Answers of the `kafka-protocol` crate's own types: the frame around them, in every version.

use bytes::{Buf, Bytes};
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use raftline_kafka::api::Api;
use raftline_kafka::messages::{Answer, EncodeError, encode};

/// What a client that asked in that version makes of a frame for its request number 7.
fn read<A: Answer + Decodable>(mut frame: Bytes, version: i16) -> A {
    let size = usize::try_from(frame.get_i32()).expect("a size");
    assert_eq!(size, frame.len());
    let api = m::ApiKey::try_from(A::API.key()).expect("a key of Kafka's");
    let header =
        m::ResponseHeader::decode(&mut frame, api.response_header_version(version)).expect("a header");
    assert_eq!((header.correlation_id, header.unknown_tagged_fields.len()), (7, 0));
    let answer = A::decode(&mut frame, version).expect("a body");
    assert!(frame.is_empty(), "{} {version}", A::API);
    answer
}

/// Writes an answer in every version, and reads it. Some have no default in some versions.
fn check<A: Answer + Decodable + Default + PartialEq + core::fmt::Debug>() -> usize {
    let mut written = 0;
    for version in A::API.first_version()..=A::API.last_version() {
        let Ok(frame) = encode(version, 7, &A::default()) else { continue };
        let read: A = read(frame.clone(), version);
        assert_eq!(encode(version, 7, &read), Ok(frame), "{} {version}", A::API);
        written += 1;
    }
    written
}

#[test]
fn clients_of_every_version_read_the_answers() {
    let mut written = 0;
    macro_rules! check {
        ($($answer:ident)+) => {
            $({
                let count = check::<m::$answer>();
                assert!(count > 0, stringify!($answer));
                written += count;
            })+
        };
    }
    check!(
        ListOffsetsResponse MetadataResponse OffsetCommitResponse OffsetFetchResponse FindCoordinatorResponse
        JoinGroupResponse HeartbeatResponse LeaveGroupResponse SyncGroupResponse DescribeGroupsResponse
        ListGroupsResponse ApiVersionsResponse CreateTopicsResponse DeleteTopicsResponse DeleteRecordsResponse
        InitProducerIdResponse OffsetForLeaderEpochResponse DescribeAclsResponse
        CreateAclsResponse DeleteAclsResponse DescribeConfigsResponse AlterConfigsResponse
        DescribeLogDirsResponse CreatePartitionsResponse DeleteGroupsResponse IncrementalAlterConfigsResponse
        OffsetDeleteResponse DescribeClusterResponse ConsumerGroupHeartbeatResponse ConsumerGroupDescribeResponse
    );
    let by_hand = |api: &Api| !matches!(api, Api::Produce | Api::Fetch);
    let versions = |api: Api| usize::try_from(api.last_version() - api.first_version() + 1).expect("some");
    assert_eq!(
        written,
        Api::all().filter(by_hand).map(versions).sum::<usize>(),
        "in every version of every API"
    );
}

#[test]
fn an_answer_that_its_version_has_no_place_for_is_a_typed_error() {
    let answer = m::HeartbeatResponse::default().with_throttle_time_ms(5);
    assert!(encode(0, 7, &answer).is_ok(), "a throttle time may be left out");
    let too_long = "x".repeat(usize::from(u16::MAX));
    let answer = m::FindCoordinatorResponse::default().with_host(StrBytes::from_string(too_long));
    let refused = encode(0, 7, &answer).expect_err("a host of 64 KiB has no place before version 3");
    assert!(matches!(refused, EncodeError { api: Api::FindCoordinator, version: 0, .. }), "{refused}");
}

/// Nothing but the frame is ours: the crate writes the body.
#[test]
fn the_body_is_as_the_crate_writes_it() {
    let answer = m::HeartbeatResponse::default().with_error_code(27);
    for (version, header_bytes) in [(3, 4), (4, 5)] {
        let frame = encode(version, 7, &answer).expect("an answer");
        let mut body = Vec::new();
        answer.encode(&mut body, version).expect("an answer");
        assert_eq!(frame[4 + header_bytes..], body);
    }
}
