//! Payloads and entries against bytes written by hand, and every reason to refuse one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use raftline_proto::command::{self, Command, TrimReason};
use raftline_proto::cursor::{CursorError, Reader};
use raftline_proto::entry::{self, EntryBody, EntryError, EntryHeader, EntryInfo, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{EntryId, GroupId, Index, Membership, NodeId, Offset, ProducerId, Term, TopicId};
use raftline_proto::limits;
use raftline_proto::metadata::{MetadataRecord, PartitionRecord};
use raftline_proto::payload::{self, PayloadError};
use raftline_proto::producers::{ProducerState, RememberedBatch};
use raftline_proto::time::Timestamp;

fn membership(voters: &[u32], learners: &[u32]) -> Membership {
    let nodes = |nodes: &[u32]| nodes.iter().copied().map(NodeId).collect();
    Membership { voters: nodes(voters), learners: nodes(learners) }
}

fn noop(term: u64, index: u64) -> Vec<u8> {
    let id = EntryId::new(Term(term), Index(index));
    EntryInfo::new(GroupId(5), id, Offset(7), EntryBody::NoOp).header.encode(&[]).to_vec()
}

/// Gives altered bytes the right checksum, so that only the alteration can be at fault.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn integers_that_do_not_fit_are_refused() {
    let varint = |bytes: &[u8]| Reader::new(bytes).varint();
    assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MIN));
    assert_eq!(varint(&[0xfe, 0xff, 0xff, 0xff, 0x0f]), Ok(i32::MAX));
    assert_eq!(varint(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(CursorError::Varint));
    assert_eq!(varint(&[0x80, 0x80]), Err(CursorError::Truncated { needed: 3, available: 2 }));
    // Needless digits are read, as Kafka does.
    assert_eq!(varint(&[0x82, 0x00]), Ok(1));
    let varlong = |last: &[u8]| Reader::new(&[&[0xff; 9], last].concat()).varlong();
    assert_eq!(varlong(&[0x01]), Ok(i64::MIN));
    assert_eq!(varlong(&[0x03]), Err(CursorError::Varint));
    assert_eq!(varlong(&[0x81, 0x00]), Err(CursorError::Varint));
}

#[test]
fn payloads_are_as_the_layout_says() {
    let bytes = payload::encode_membership(&membership(&[1, 2, 0x0102_0304], &[9])).unwrap();
    assert_eq!(bytes, [1, 0, 3, 1, 0, 0, 0, 2, 0, 0, 0, 4, 3, 2, 1, 1, 9, 0, 0, 0]);
    let records = [
        MetadataRecord::TopicCreated {
            id: TopicId(3),
            name: "t".into(),
            partitions: vec![PartitionRecord { group: GroupId(6), replicas: vec![NodeId(2), NodeId(1)] }],
            configs: [("a".into(), "bc".into())].into(),
        },
        MetadataRecord::ProducerIds { next: ProducerId(8) },
    ];
    let by_hand: [&[u8]; 13] = [
        &[1, 0],       // version
        &[2, 0, 0, 0], // records
        &[3],          // topic created
        &3_u128.to_le_bytes(),
        &[1, 0, b't'],
        &[1, 0, 0, 0], // partitions
        &[6, 0, 0, 0, 0, 0, 0, 0],
        &[2, 2, 0, 0, 0, 1, 0, 0, 0],
        &[1, 0, 0, 0], // configs
        &[1, 0, b'a'],
        &[2, 0, b'b', b'c'],
        &[7], // producer ids
        &[8, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(payload::encode_metadata(&records).unwrap(), by_hand.concat());
    assert_eq!(payload::decode_metadata(&by_hand.concat()).unwrap(), records);
}

#[test]
fn a_membership_out_of_order_or_bounds_has_no_encoding() {
    let refused = |voters: &[u32], learners: &[u32]| {
        payload::encode_membership(&membership(voters, learners)).unwrap_err()
    };
    assert_eq!(refused(&[], &[1]), PayloadError::NoVoters);
    assert_eq!(refused(&[2, 1], &[]), PayloadError::Order { what: "replicas" });
    assert_eq!(refused(&[1, 1], &[]), PayloadError::Order { what: "replicas" });
    assert_eq!(refused(&[1], &[3, 2]), PayloadError::Order { what: "replicas" });
    assert_eq!(refused(&[1, 2], &[2]), PayloadError::Order { what: "voters and learners together" });
    let ten: Vec<u32> = (1..=10).collect();
    assert_eq!(refused(&ten, &[]), PayloadError::Limit { what: "voters", found: 10, max: 9 });
    let learners: Vec<u32> = (20..36).collect();
    assert_eq!(refused(&[1], &learners), PayloadError::Limit { what: "replicas", found: 17, max: 16 });
}

#[test]
fn a_malformed_membership_is_refused() {
    let refused = |bytes: &[u8]| payload::decode_membership(bytes).unwrap_err();
    assert_eq!(refused(&[2, 0, 1, 1, 0, 0, 0, 0]), PayloadError::Version { found: 2 });
    assert_eq!(refused(&[1, 0, 0, 0]), PayloadError::NoVoters);
    assert_eq!(refused(&[1, 0, 200]), PayloadError::Limit { what: "replicas", found: 200, max: 16 });
    assert_eq!(
        refused(&[1, 0, 1, 1, 0, 0, 0, 0, 77]),
        PayloadError::Malformed(CursorError::Trailing { bytes: 1 })
    );
    assert_eq!(refused(&[1, 0, 2, 2, 0, 0, 0, 1, 0, 0, 0, 0]), PayloadError::Order { what: "replicas" });
}

#[test]
fn commands_are_as_the_layout_says() {
    let compact = Command::Compact {
        through: Index(0x0102),
        end_offset: Offset(9),
        tombstones_before: Offset(3),
        start_offset: Offset(4),
    };
    let by_hand: [&[u8]; 6] = [
        &[1, 0],
        &[1],
        &[2, 1, 0, 0, 0, 0, 0, 0],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(compact.encode(), by_hand.concat());
    let trim = |reason| Command::TrimTo { offset: Offset(5), reason };
    assert_eq!(trim(TrimReason::Asked).encode(), [1, 0, 2, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(trim(TrimReason::Age).encode(), [1, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(trim(TrimReason::Size).encode(), [1, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0, 2]);
    let unknown = Command::decode(&[1, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(unknown, Err(PayloadError::TrimReason { found: 3 }));
    let batch = RememberedBatch {
        entry: EntryId::new(Term(2), Index(3)),
        base_offset: Offset(4),
        max_timestamp: Timestamp(-1),
        base_sequence: 5,
        last_sequence: 6,
    };
    let known = ProducerState { id: ProducerId(7), epoch: 8, batches: vec![batch] };
    let producers = Command::Producers { producers: [known.clone()].into() };
    let by_hand: [&[u8]; 9] = [
        &[1, 0, 3],
        &[1, 0, 0, 0],
        &[7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0],
        &[255; 8],
        &[5, 0, 0, 0],
        &[6, 0, 0, 0],
    ];
    assert_eq!(producers.encode(), by_hand.concat());
    let stands_before = |command: &Command, next_offset| {
        Command::stands_before_records(&command.encode()[..command::PREFIX_BYTES], Offset(next_offset))
    };
    assert!(stands_before(&producers, 0) && stands_before(&producers, 5));
    assert!(!stands_before(&compact, 9) && !Command::stands_before_records(&[], Offset(0)));
    let trims = [TrimReason::Asked, TrimReason::Age, TrimReason::Size].map(trim);
    for trim in &trims {
        assert!(stands_before(trim, 5) && !stands_before(trim, 6), "what is left stays where it is");
    }
    for command in [compact, producers].into_iter().chain(trims) {
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        let encoded = command.encode();
        for cut in 0..encoded.len() {
            assert!(matches!(Command::decode(&encoded[..cut]), Err(PayloadError::Malformed(_))));
        }
        let longer = [&encoded[..], &[0]].concat();
        let trailing = PayloadError::Malformed(CursorError::Trailing { bytes: 1 });
        assert_eq!(Command::decode(&longer), Err(trailing));
    }
    assert_eq!(Command::decode(&[2, 0, 2, 5, 0, 0, 0, 0, 0, 0, 0]), Err(PayloadError::Version { found: 2 }));
    let unknown = Command::decode(&[1, 0, 5]).unwrap_err();
    assert_eq!(unknown.to_string(), "command 5 is not known here: run a newer Raftline");
}

#[test]
fn producers_have_one_encoding_and_bounds() {
    let batch = |index| RememberedBatch {
        entry: EntryId::new(Term(1), Index(index)),
        base_offset: Offset(index),
        max_timestamp: Timestamp(0),
        base_sequence: 0,
        last_sequence: 0,
    };
    let producer =
        |id, batches: Vec<RememberedBatch>| ProducerState { id: ProducerId(id), epoch: 0, batches };
    let decoded = |producers: Vec<ProducerState>| {
        Command::decode(&Command::Producers { producers: producers.into() }.encode())
    };
    let full: Vec<ProducerState> =
        (0..limits::PRODUCERS_MAX as u64).map(|id| producer(id, (1..=5).map(batch).collect())).collect();
    let command = Command::Producers { producers: full.clone().into() };
    assert_eq!(decoded(full), Ok(command.clone()));
    assert!(command.encode().len() < limits::ENTRY_PAYLOAD_BYTES_MAX as usize);
    let order = |what| Err(PayloadError::Order { what });
    for ids in [[2, 1], [1, 1]] {
        let twisted = ids.map(|id| producer(id, vec![batch(1)])).to_vec();
        assert_eq!(decoded(twisted), order("producers"));
    }
    for indexes in [[2, 1], [1, 1]] {
        let twisted = indexes.map(batch).to_vec();
        assert_eq!(decoded(vec![producer(1, twisted)]), order("batches of a producer"));
    }
    assert!(matches!(decoded(vec![producer(1, vec![])]), Err(PayloadError::Malformed(_))), "too short");
    let two = vec![producer(1, vec![]), producer(2, (1..=5).map(batch).collect())];
    assert_eq!(decoded(two), Err(PayloadError::NoBatches { producer: ProducerId(1) }));
    let absurd = RememberedBatch { last_sequence: 1 << 31, ..batch(1) };
    let limit = PayloadError::Limit { what: "as a sequence", found: 1 << 31, max: (1 << 31) - 1 };
    assert_eq!(decoded(vec![producer(1, vec![absurd])]), Err(limit));
    // Four billion producers; as many as the bound allows, in no bytes; six batches.
    for absurd in [&[1, 0, 3, 255, 255, 255, 255][..], &[1, 0, 3, 0, 8, 0, 0]] {
        assert!(matches!(Command::decode(absurd), Err(PayloadError::Malformed(_))));
    }
    let mut six = Command::Producers { producers: [producer(1, vec![batch(1)])].into() }.encode();
    six[17] = 6;
    let limit = PayloadError::Limit { what: "batches of a producer", found: 6, max: 5 };
    assert_eq!(Command::decode(&six), Err(limit));
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated_by_them() {
    let refused = |bytes: &[u8]| payload::decode_metadata(bytes).unwrap_err();
    let malformed = PayloadError::Malformed;
    // Four billion records; as many as the bound allows, in no bytes.
    assert_eq!(
        refused(&[1, 0, 0xff, 0xff, 0xff, 0xff]),
        malformed(CursorError::Count { found: u32::MAX.into(), max: limits::METADATA_RECORDS_MAX as u64 })
    );
    let count = u32::try_from(limits::METADATA_RECORDS_MAX).unwrap().to_le_bytes();
    assert_eq!(
        refused(&[&[1, 0], &count[..]].concat()),
        malformed(CursorError::Truncated { needed: 180_000, available: 0 })
    );
    // Partitions, configs and texts likewise.
    let record = |tag: u8, rest: &[u8]| [&[1, 0, 1, 0, 0, 0, tag], &[0; 16][..], rest].concat();
    assert_eq!(
        refused(&record(6, &[0x11, 0x27, 0, 0])),
        malformed(CursorError::Count { found: 10_001, max: 10_000 })
    );
    assert_eq!(
        refused(&record(6, &[0x10, 0x27, 0, 0])),
        malformed(CursorError::Truncated { needed: 90_000, available: 0 })
    );
    assert_eq!(refused(&record(5, &[65, 0, 0, 0])), malformed(CursorError::Count { found: 65, max: 64 }));
    assert_eq!(
        refused(&record(1, &[0xff, 0xff])),
        malformed(CursorError::Count { found: 65_535, max: limits::TEXT_BYTES_MAX as u64 })
    );
    assert_eq!(refused(&record(1, &[2, 0, 0xc3, 0x28, 0, 0, 0, 0])), malformed(CursorError::Text));
}

#[test]
fn malformed_metadata_is_refused() {
    let refused = |bytes: &[u8]| payload::decode_metadata(bytes).unwrap_err();
    assert_eq!(refused(&[9, 0, 0, 0, 0, 0]), PayloadError::Version { found: 9 });
    assert_eq!(refused(&[1, 0, 1, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0]), PayloadError::Tag { found: 99 });
    let configs = |names: &[u8]| {
        let entries: Vec<u8> = names.iter().flat_map(|name| [1, 0, *name, 0, 0]).collect();
        [&[1, 0, 1, 0, 0, 0, 5], &[0; 16][..], &[2, 0, 0, 0], &entries].concat()
    };
    assert!(payload::decode_metadata(&configs(b"ab")).is_ok());
    assert_eq!(refused(&configs(b"ba")), PayloadError::Order { what: "config names" });
    assert_eq!(refused(&configs(b"aa")), PayloadError::Order { what: "config names" });
}

#[test]
fn metadata_over_its_bounds_has_no_encoding() {
    let partition = PartitionRecord { group: GroupId(1), replicas: vec![NodeId(1)] };
    let added = |partitions| [MetadataRecord::PartitionsAdded { id: TopicId(1), partitions }];
    let refused = |records: &[MetadataRecord]| payload::encode_metadata(records).unwrap_err();
    assert_eq!(
        refused(&added(vec![partition; 10_001])),
        PayloadError::Limit { what: "partitions", found: 10_001, max: 10_000 }
    );
    let replicas = vec![NodeId(1); 17];
    assert_eq!(
        refused(&added(vec![PartitionRecord { group: GroupId(1), replicas }])),
        PayloadError::Limit { what: "replicas", found: 17, max: 16 }
    );
    let name = "n".repeat(250);
    let topic =
        MetadataRecord::TopicCreated { id: TopicId(1), name, partitions: Vec::new(), configs: [].into() };
    assert_eq!(refused(&[topic]), PayloadError::Limit { what: "topic name", found: 250, max: 249 });
    let whole = added(vec![PartitionRecord { group: GroupId(1), replicas: vec![NodeId(1); 16] }; 10_000]);
    let bytes = whole.iter().cycle().take(30).cloned().collect::<Vec<_>>();
    assert!(matches!(refused(&bytes), PayloadError::Limit { what: "bytes of metadata", .. }));
}

#[test]
fn entry_headers_out_of_range_are_refused_by_name() {
    let altered = |at: usize, with: &[u8]| {
        let mut bytes = noop(3, 4);
        bytes[at..at + with.len()].copy_from_slice(with);
        EntryHeader::verify(&seal(bytes)).unwrap_err()
    };
    assert_eq!(EntryHeader::decode(&[0; HEADER_BYTES]), Err(EntryError::Empty));
    assert_eq!(EntryHeader::decode(&[1; 47]), Err(EntryError::Truncated { needed: 48, available: 47 }));
    assert_eq!(altered(4, &[0x53]), EntryError::Magic { found: 0x4c53 });
    assert_eq!(altered(6, &[2]), EntryError::Version { found: 2 });
    assert_eq!(altered(7, &[0]), EntryError::Kind { found: 0 });
    assert_eq!(altered(7, &[9]), EntryError::Kind { found: 9 });
    assert_eq!(altered(8, &[0]), EntryError::Id { found: EntryId::new(Term(0), Index(4)) });
    let late = EntryId::new(Term(limits::TERM_MAX + 1), Index(4));
    assert_eq!(altered(8, &late.term.0.to_le_bytes()), EntryError::Id { found: late });
    assert_eq!(altered(16, &[0]), EntryError::Id { found: EntryId::new(Term(3), Index(0)) });
    assert_eq!(altered(32, &[1]), EntryError::RecordCount { kind: EntryKind::NoOp, found: 1 });
    assert_eq!(altered(36, &[1]), EntryError::Truncated { needed: 49, available: 48 });
    assert_eq!(altered(36, &[0xff; 4]), EntryError::PayloadTooLarge { found: u32::MAX });
    let mut data = noop(3, 4);
    data[7] = 2;
    let kind = EntryKind::Data;
    assert_eq!(EntryHeader::verify(&seal(data)), Err(EntryError::RecordCount { kind, found: 0 }));
}

#[test]
fn a_run_is_refused_as_a_whole() {
    let good = [noop(1, 1), noop(1, 2)].concat();
    assert_eq!(entry::decode_run(&good.clone().into()).unwrap().len(), 2);
    assert_eq!(entry::decode_run(&Bytes::new()), Ok(Vec::new()));
    let mut zeros = good.clone();
    zeros.extend([0; 48]);
    assert_eq!(entry::decode_run(&zeros.into()), Err(EntryError::Empty));
    let mut cut = good;
    cut.truncate(60);
    assert_eq!(entry::decode_run(&cut.into()), Err(EntryError::Truncated { needed: 48, available: 12 }));
}

#[test]
fn a_payload_that_does_not_fit_its_header_is_refused() {
    let header = |kind, record_count, payload: &[u8]| EntryHeader {
        group: GroupId(1),
        id: EntryId::new(Term(2), Index(3)),
        kind,
        base_offset: Offset(0),
        record_count,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
    };
    let refused = |header: EntryHeader, payload: &[u8]| {
        let run = [&header.encode(&[payload])[..], payload].concat();
        entry::decode_run(&run.into()).unwrap_err()
    };
    let kind = EntryKind::NoOp;
    let reason = PayloadError::Malformed(CursorError::Trailing { bytes: 2 });
    assert_eq!(refused(header(kind, 0, b"hi"), b"hi"), EntryError::Payload { kind, reason });
    let kind = EntryKind::Membership;
    let reason = PayloadError::Version { found: 0x6968 };
    assert_eq!(refused(header(kind, 0, b"hi"), b"hi"), EntryError::Payload { kind, reason });
    assert!(matches!(refused(header(EntryKind::Data, 1, b"hi"), b"hi"), EntryError::Batch(_)));
}
