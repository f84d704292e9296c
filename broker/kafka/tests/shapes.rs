//! The shapes are those of the decoders that they stand guard for, in every version.

mod support;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;
use proptest::prelude::*;
use raftline_kafka::api::Api;
use raftline_kafka::limits::{BODY_BYTES_MAX, DECODED_BYTES_MAX, REQUEST_TAGS_MAX};
use raftline_kafka::messages::{Body, DecodeError, cost};
use raftline_kafka::request::{self, Request};
use raftline_kafka::screen::ScreenError;
use raftline_kafka::wire::WireError;
use support::{Chance, EVERYTHING, Sampler, frame, mutate, sample, shaped};

fn open(api: Api, version: i16, body: &[u8]) -> Request {
    request::open(&frame(api, version, body), EVERYTHING).expect("a header that is right")
}

fn decode(api: Api, version: i16, body: &[u8]) -> Result<Body, DecodeError> {
    Body::decode(&open(api, version, body))
}

/// What the crate's own encoder makes of it.
fn encode(body: &Body, version: i16) -> Bytes {
    let mut output = BytesMut::new();
    macro_rules! encode {
        ($($api:ident)+) => {
            match body {
                Body::Produce(_) | Body::Fetch(_) => panic!("written by hand, and without a shape"),
                $(Body::$api(message) => message.encode(&mut output, version),)+
            }
        };
    }
    let encoded = encode!(
        ListOffsets Metadata OffsetCommit OffsetFetch FindCoordinator JoinGroup Heartbeat LeaveGroup SyncGroup
        DescribeGroups ListGroups ApiVersions CreateTopics DeleteTopics DeleteRecords InitProducerId
        OffsetForLeaderEpoch DescribeAcls CreateAcls DeleteAcls DescribeConfigs AlterConfigs DescribeLogDirs CreatePartitions DeleteGroups
        IncrementalAlterConfigs OffsetDelete DescribeCluster ConsumerGroupHeartbeat ConsumerGroupDescribe
    );
    encoded.expect("what was decoded can be encoded");
    output.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// A field more or less, or of another kind, would shift what follows it.
    #[test]
    fn what_a_shape_writes_the_decoder_reads_to_the_same_bytes(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for (api, version, shape) in shaped() {
            let body = sample(shape, api, version, &mut chance);
            let decoded = decode(api, version, &body);
            let decoded = decoded.map_err(|error| TestCaseError::fail(format!("{api} {version}: {error}")))?;
            prop_assert_eq!(encode(&decoded, version), body, "{} {}", api, version);
        }
    }

    #[test]
    fn every_truncation_is_refused_and_what_follows_is_not_looked_at(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for (api, version, shape) in shaped() {
            let body = sample(shape, api, version, &mut chance);
            for bytes in 0..body.len() {
                prop_assert!(cost(api, version, &body.slice(..bytes)).is_err(), "{} {}: {}", api, version, bytes);
            }
            let longer = [&body[..], &[0]].concat();
            prop_assert_eq!(decode(api, version, &longer), decode(api, version, &body), "{} {}", api, version);
        }
    }

    /// A shape that refuses a null which the decoder takes would shut out clients.
    #[test]
    fn a_null_that_is_refused_is_refused_by_the_decoder_too(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for (api, version, shape) in shaped() {
            let at = chance.below(8);
            let mut sampler = Sampler::new(&mut chance, api, version);
            sampler.null_at = Some(at);
            sampler.structure(shape);
            let (body, was_written) = (sampler.output.freeze(), sampler.null_at.is_none());
            let screened = cost(api, version, &body);
            prop_assert_eq!(screened.is_err(), was_written, "{} {}: {:?}", api, version, screened);
            if was_written {
                prop_assert!(undecodable(api, version, &body), "{} {} takes null", api, version);
            }
        }
    }

    /// The other half of the guard: what passes is decoded.
    #[test]
    fn what_passes_the_screen_is_decoded(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        for (api, version, shape) in shaped() {
            let body = mutate(&sample(shape, api, version, &mut chance), &mut chance);
            match decode(api, version, &body) {
                // Encoded again it may be shorter: truth as 1, the shortest varints, one field a tag.
                Ok(decoded) => prop_assert!(encode(&decoded, version).len() <= body.len()),
                Err(DecodeError::Screen(_)) => {}
                Err(error) => prop_assert!(false, "{} {}: {}", api, version, error),
            }
        }
    }
}

/// Whether the crate's decoder, without the screen, refuses the body or leaves a rest. Only for bodies whose counts
/// are right.
fn undecodable(api: Api, version: i16, body: &Bytes) -> bool {
    use kafka_protocol::messages as m;
    use kafka_protocol::protocol::Decodable;
    let mut body = body.clone();
    macro_rules! decode {
        ($($api:ident: $request:ident)+) => {
            match api {
                Api::Produce | Api::Fetch => panic!("written by hand, and without a shape"),
                $(Api::$api => m::$request::decode(&mut body, version).is_err(),)+
            }
        };
    }
    decode! {
        ListOffsets: ListOffsetsRequest Metadata: MetadataRequest OffsetCommit: OffsetCommitRequest
        OffsetFetch: OffsetFetchRequest FindCoordinator: FindCoordinatorRequest JoinGroup: JoinGroupRequest
        Heartbeat: HeartbeatRequest LeaveGroup: LeaveGroupRequest SyncGroup: SyncGroupRequest
        DescribeGroups: DescribeGroupsRequest ListGroups: ListGroupsRequest ApiVersions: ApiVersionsRequest
        CreateTopics: CreateTopicsRequest DeleteTopics: DeleteTopicsRequest DeleteRecords: DeleteRecordsRequest
        InitProducerId: InitProducerIdRequest OffsetForLeaderEpoch: OffsetForLeaderEpochRequest
        DescribeAcls: DescribeAclsRequest CreateAcls: CreateAclsRequest DeleteAcls: DeleteAclsRequest
        DescribeConfigs: DescribeConfigsRequest AlterConfigs: AlterConfigsRequest
        DescribeLogDirs: DescribeLogDirsRequest CreatePartitions: CreatePartitionsRequest
        DeleteGroups: DeleteGroupsRequest IncrementalAlterConfigs: IncrementalAlterConfigsRequest
        OffsetDelete: OffsetDeleteRequest DescribeCluster: DescribeClusterRequest
        ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest ConsumerGroupDescribe: ConsumerGroupDescribeRequest
    }
}

#[test]
fn twelve_bytes_that_ask_for_gigabytes_are_refused_with_both_numbers() {
    let body = [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 8]].concat();
    let refused = decode(Api::Metadata, 0, &body).expect_err("nobody has so many topics");
    let reason = WireError::Truncated { needed: u64::from(u32::MAX >> 1) * 2, available: 8 };
    assert_eq!(
        refused,
        DecodeError::Screen(ScreenError { structure: "Metadata", field: "topics", at: 4, reason })
    );
    assert_eq!(
        refused.to_string(),
        "malformed request: Metadata, topics: cut short: 4294967294 bytes needed, 8 there, at byte 4"
    );
}

/// What the screen says of a body that is over a bound.
fn refusal(api: Api, version: i16, body: Vec<u8>) -> String {
    cost(api, version, &body.into()).expect_err("over a bound").to_string()
}

#[test]
fn each_bound_refuses_with_both_numbers() {
    // A million topics without a name, two bytes each.
    let count: i32 = 1 << 20;
    let refused = refusal(Api::Metadata, 0, [&count.to_be_bytes()[..], &vec![0; 2 << 20]].concat());
    assert!(refused.contains("1048576 is over the bound of 262144"), "{refused}");
    // Fewer members than that, three bytes each, that decode to more than 100 bytes each.
    let refused =
        refusal(Api::LeaveGroup, 4, [&[1, 0x81, 0x80, 0x0f][..], &[1, 0, 0].repeat(0x3c000)].concat());
    assert!(refused.contains(&format!("is over the bound of {DECODED_BYTES_MAX}")), "{refused}");
    let refused = refusal(Api::Metadata, 0, vec![0; BODY_BYTES_MAX + 1]);
    assert!(refused.contains("16777217 is over the bound of 16777216"), "{refused}");
}

/// A text that is read in a flexible version can be repeated in any answer.
#[test]
fn texts_are_no_longer_than_their_fixed_size_can_state() {
    let group = |bytes: usize| {
        let size = bytes + 1;
        let size = [size & 0x7f | 0x80, size >> 7 & 0x7f | 0x80, size >> 14];
        let size = size.map(|byte| u8::try_from(byte).expect("a byte"));
        [&[2][..], &size, &vec![b'g'; bytes], &[0, 0]].concat()
    };
    assert!(cost(Api::ConsumerGroupDescribe, 0, &group(32_767).into()).is_ok());
    let refused = refusal(Api::ConsumerGroupDescribe, 0, group(32_768));
    assert!(refused.contains("32768 is over the bound of 32767"), "{refused}");
}

#[test]
fn tagged_fields_are_bounded_in_one_structure_and_in_all() {
    // One truth value, then tagged fields without a value.
    let tagged = |count: usize| {
        let mut body = vec![0, u8::try_from(count & 0x7f).expect("seven bits") | 0x80];
        body.push(u8::try_from(count >> 7).expect("few"));
        body.extend((0..count).flat_map(|_| [5, 0]));
        body
    };
    let body = tagged(REQUEST_TAGS_MAX).into();
    assert_eq!(cost(Api::DescribeCluster, 0, &body).expect("just fits").tags, REQUEST_TAGS_MAX);
    let refused = refusal(Api::DescribeCluster, 0, tagged(REQUEST_TAGS_MAX + 1));
    assert!(refused.contains("257 is over the bound of 256"), "{refused}");
    // Two members with 200 each.
    let member = [&[1, 0, 0xc8, 1][..], &[5, 0].repeat(200)].concat();
    let refused = refusal(Api::LeaveGroup, 4, [&[1, 3][..], &member, &member, &[0]].concat());
    assert!(refused.contains("400 is over the bound of 256"), "{refused}");
}

#[test]
fn a_varint_that_does_not_fit_32_bits_is_no_size() {
    // The crate's decoder would drop the bits at the top, and read a size of 0.
    let refused = refusal(Api::ConsumerGroupDescribe, 0, vec![0x81, 0x80, 0x80, 0x80, 0x10, 0, 0]);
    assert!(refused.contains("does not fit 32 bits"), "{refused}");
    let longer = refusal(Api::ConsumerGroupDescribe, 0, vec![0x81, 0x80, 0x80, 0x80, 0x80, 0, 0, 0]);
    assert!(longer.contains("does not fit 32 bits"), "{longer}");
    assert!(cost(Api::ConsumerGroupDescribe, 0, &Bytes::from_static(&[0x81, 0x80, 0, 0, 0])).is_ok());
}
