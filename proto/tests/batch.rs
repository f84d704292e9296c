//! Record batches against bytes written by hand from Kafka's published format, and every reason to refuse one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{CODECS, OwnedRecord, build, crc32c_dumb};
use raftline_proto::batch::{
    self, BatchError, BatchHeader, BatchView, Builder, Codec, HEADER_BYTES, Header, RecordError, STAMP_BYTES,
};
use raftline_proto::cursor::Writer;
use raftline_proto::entry::{BatchInfo, EntryBody, EntryError, EntryHeader, EntryInfo, ProducerBatch};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, ProducerId, Term};
use raftline_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_HEADERS_MAX};
use raftline_proto::time::Timestamp;

/// Two records as a Kafka client sends them: ("k1", "v1") with a header h=1 at 1700000000000, and (null, "") 5 ms
/// later. The checksum is left to the caller.
const BY_HAND: &[&[u8]] = &[
    &[0, 0, 0, 0, 0, 0, 0, 0],                         // base offset 0
    &[0, 0, 0, 75],                                    // batch length: 87 - 12
    &[0xff, 0xff, 0xff, 0xff],                         // partition leader epoch -1
    &[2],                                              // magic
    &[0, 0, 0, 0],                                     // crc: see `by_hand`
    &[0, 0],                                           // attributes: nothing
    &[0, 0, 0, 1],                                     // last offset delta
    &[0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00], // base timestamp
    &[0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x05], // max timestamp
    &[0, 0, 0, 0, 0, 0, 0x10, 0x01],                   // producer id 4097
    &[0, 3],                                           // producer epoch
    &[0, 0, 0, 7],                                     // base sequence
    &[0, 0, 0, 2],                                     // record count
    // Sizes are zigzag: 2 is written 4, -1 is written 1.
    &[14 * 2, 0, 0, 0, 4, b'k', b'1', 4, b'v', b'1', 2, 2, b'h', 2, b'1'],
    &[6 * 2, 0, 10, 2, 1, 0, 0],
    &[],
];

fn by_hand() -> Bytes {
    let mut bytes = BY_HAND.concat();
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    seal(bytes)
}

/// Gives altered bytes the right checksum, so that only the alteration can be at fault.
fn seal(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c_dumb(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn altered(at: usize, with: &[u8]) -> Bytes {
    let mut bytes = by_hand().to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    seal(bytes)
}

fn one(codec: Codec, value: &[u8]) -> Bytes {
    let mut builder = Builder::new(codec);
    builder.push(Timestamp(1), None, Some(value), &[]).unwrap();
    builder.build()
}

#[test]
fn the_checksum_is_castagnolis() {
    // The check value of the CRC catalogue.
    assert_eq!(crc32c_dumb(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_batch_by_hand_is_read_and_built_the_same() {
    let bytes = by_hand();
    let producer = ProducerBatch { id: ProducerId(4097), epoch: 3, base_sequence: 7 };
    let expected = BatchInfo {
        batch_bytes: u32::try_from(bytes.len()).unwrap(),
        record_count: 2,
        base_timestamp: Timestamp(1_700_000_000_000),
        max_timestamp: Timestamp(1_700_000_000_005),
        producer: Some(producer),
    };
    assert_eq!(batch::validate(&bytes), Ok(expected));

    let view = BatchView::open(&bytes).unwrap();
    let records: Vec<_> = view.records().map(Result::unwrap).collect();
    assert_eq!(records[0].offset, Offset(0));
    assert_eq!(records[0].timestamp, Timestamp(1_700_000_000_000));
    assert_eq!((records[0].key, records[0].value), (Some(&b"k1"[..]), Some(&b"v1"[..])));
    assert_eq!(records[0].headers.collect::<Vec<_>>(), [Header { name: b"h", value: Some(b"1") }]);
    assert_eq!(records[1].offset, Offset(1));
    assert_eq!(records[1].timestamp, Timestamp(1_700_000_000_005));
    assert_eq!((records[1].key, records[1].value), (None, Some(&b""[..])));
    assert_eq!(records.len(), 2);
    assert_eq!(view.share(records[0].key.unwrap()), "k1");

    let mut builder = Builder::new(Codec::None);
    builder.set_producer(producer);
    let header = [Header { name: b"h", value: Some(b"1") }];
    builder.push(Timestamp(1_700_000_000_000), Some(b"k1"), Some(b"v1"), &header).unwrap();
    builder.push(Timestamp(1_700_000_000_005), None, Some(b""), &[]).unwrap();
    assert_eq!(builder.batch_bytes(), bytes.len());
    assert_eq!(builder.build(), bytes);
}

#[test]
fn stamping_keeps_the_checksum_and_copies_only_the_stamp() {
    let bytes = by_hand();
    let [stamp, rest] = batch::stamped(&bytes, Offset(1 << 40), Term(9));
    assert_eq!(stamp.len(), STAMP_BYTES);
    assert_eq!(rest.as_ptr(), bytes[STAMP_BYTES..].as_ptr());
    let stored: Bytes = [stamp, rest].concat().into();
    let header = batch::check_crc(&stored).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(1 << 40), 9));
    assert_eq!(header.next_offset(), Offset((1 << 40) + 2));
    let view = BatchView::open(&stored).unwrap();
    let offsets: Vec<_> = view.records().map(|record| record.unwrap().offset).collect();
    assert_eq!(offsets, [Offset(1 << 40), Offset((1 << 40) + 1)]);
}

#[test]
fn the_time_of_append_is_every_records_time() {
    let at = Timestamp(1_800_000_000_000);
    let by_hand = by_hand();
    let stamped = batch::append_time_stamped(by_hand.clone(), at);
    assert_ne!(stamped, by_hand, "somebody else holds those bytes: they stay");
    let mut expected = by_hand.to_vec();
    expected[22] |= 8;
    expected[35..43].copy_from_slice(&at.get().to_be_bytes());
    assert_eq!(stamped, seal(expected), "a bit, a time and a checksum: nothing else changes");
    for codec in CODECS {
        let mut builder = Builder::new(codec);
        let values = [b'a', b'b', b'c'].map(|byte| vec![byte; 200]);
        for (time, value) in [5, 3, i64::MAX].into_iter().zip(&values) {
            builder.push(Timestamp(time), Some(b"k"), Some(value), &[]).unwrap();
        }
        let batch = builder.build();
        let before = BatchHeader::decode(&batch).unwrap();
        let stamped = batch::append_time_stamped(batch, at);
        let view = BatchView::open(&stamped).unwrap();
        let header = view.header();
        assert!(header.attributes.is_log_append_time());
        assert_eq!(header.attributes.codec(), Ok(codec));
        assert_eq!(header.info(), BatchInfo { max_timestamp: at, ..before.info() });
        let records = view.records().map(Result::unwrap);
        let read: Vec<_> = records.map(|record| (record.timestamp, record.value.unwrap().to_vec())).collect();
        assert_eq!(read, values.map(|value| (at, value)), "{}", codec.name());
        // The leader's own stamp goes on as ever.
        let stored: Bytes = batch::stamped(&stamped, Offset(7), Term(2)).concat().into();
        assert_eq!(batch::check_crc(&stored).unwrap().max_timestamp, at);
    }
}

#[test]
fn the_time_of_append_is_written_in_place_where_nobody_else_looks() {
    let batch = Bytes::from(by_hand().to_vec());
    let place = batch.as_ptr();
    let stamped = batch::append_time_stamped(batch, Timestamp(1));
    assert_eq!(stamped.as_ptr(), place);
    let again = batch::append_time_stamped(stamped, Timestamp(2));
    assert_eq!(BatchHeader::decode(&again).unwrap().max_timestamp, Timestamp(2));
}

#[test]
fn a_batch_stamped_for_another_entry_is_refused() {
    let bytes = by_hand();
    let body = EntryBody::Data(batch::validate(&bytes).unwrap());
    let id = EntryId::new(Term(9), Index(1));
    let entry = EntryInfo::new(GroupId(1), id, Offset(40), body);
    let refused = |offset: u64, term: u64| {
        let stored = batch::stamped(&bytes, Offset(offset), Term(term)).concat();
        EntryInfo::decode(entry.header, &stored)
    };
    assert_eq!(refused(40, 9), Ok(entry.clone()));
    let stamp = |what, header, batch| Err(EntryError::Stamp { id, what, header, batch });
    assert_eq!(refused(41, 9), stamp("base offset", 40, 41));
    assert_eq!(refused(40, 8), stamp("term", 9, 8));
    let stored = batch::stamped(&bytes, Offset(40), Term(9)).concat();
    let other = EntryHeader { payload_bytes: 99, ..entry.header };
    assert_eq!(EntryInfo::decode(other, &stored), stamp("payload size", 99, stored.len() as u64));
    let other = EntryHeader { record_count: 3, ..entry.header };
    assert_eq!(EntryInfo::decode(other, &stored), stamp("record count", 3, 2));
    // What was never stamped is no entry's payload.
    assert!(EntryInfo::decode(entry.header, &bytes).is_err());
}

#[test]
fn each_field_out_of_range_is_refused_by_name() {
    let bytes = by_hand();
    let whole = bytes.len() as u64;
    let batch_bytes = u32::try_from(bytes.len()).unwrap();
    let refused = |bytes: Bytes| batch::validate(&bytes).unwrap_err();

    assert_eq!(refused(Bytes::new()), BatchError::Truncated { needed: 61, available: 0 });
    assert_eq!(
        refused(bytes.slice(..bytes.len() - 1)),
        BatchError::Truncated { needed: whole, available: whole - 1 }
    );
    let longer = [bytes.clone(), Bytes::from_static(&[0])].concat();
    assert_eq!(refused(longer.into()), BatchError::Trailing { batch_bytes, available: whole + 1 });
    assert_eq!(refused(altered(0, &5_i64.to_be_bytes())), BatchError::BaseOffset { found: 5 });
    assert_eq!(refused(altered(0, &(-1_i64).to_be_bytes())), BatchError::BaseOffset { found: -1 });
    assert_eq!(refused(altered(8, &48_i32.to_be_bytes())), BatchError::Length { found: 48 });
    assert_eq!(refused(altered(8, &(-1_i32).to_be_bytes())), BatchError::Length { found: -1 });
    assert_eq!(
        refused(altered(8, &i32::MAX.to_be_bytes())),
        BatchError::TooLarge { found: 2_147_483_659, max: BATCH_BYTES_MAX }
    );
    assert_eq!(refused(altered(16, &[1])), BatchError::Magic { found: 1 });
    assert_eq!(refused(altered(21, &[0, 5])), BatchError::Codec { found: 5 });
    assert_eq!(refused(altered(21, &[0, 0x20])), BatchError::Control);
    assert_eq!(refused(altered(21, &[0, 0x30])), BatchError::Control);
    assert_eq!(refused(altered(21, &[0, 0x10])), BatchError::Transactional);
    assert_eq!(refused(altered(21, &[0, 0x08])), BatchError::Attributes { found: 8 });
    assert_eq!(refused(altered(21, &[0x80, 0])), BatchError::Attributes { found: 0x8000 });
    assert_eq!(
        refused(altered(23, &2_i32.to_be_bytes())),
        BatchError::LastOffsetDelta { record_count: 2, last_offset_delta: 2 }
    );
    assert_eq!(refused(altered(57, &0_i32.to_be_bytes())), BatchError::RecordCount { found: 0 });
    assert_eq!(refused(altered(57, &(-5_i32).to_be_bytes())), BatchError::RecordCount { found: -5 });
    let too_many = i32::try_from(BATCH_RECORDS_MAX).unwrap() + 1;
    assert_eq!(refused(altered(57, &too_many.to_be_bytes())), BatchError::RecordCount { found: too_many });
    let incoherent = |id, epoch, base_sequence| BatchError::Producer { id, epoch, base_sequence };
    assert_eq!(refused(altered(43, &(-2_i64).to_be_bytes())), incoherent(-2, 3, 7));
    assert_eq!(refused(altered(51, &(-1_i16).to_be_bytes())), incoherent(4097, -1, 7));
    assert_eq!(refused(altered(53, &(-1_i32).to_be_bytes())), incoherent(4097, 3, -1));
    // Without a producer id the other two are not looked at.
    assert_eq!(batch::validate(&altered(43, &(-1_i64).to_be_bytes())).unwrap().producer, None);

    let mut flipped = bytes.to_vec();
    flipped[62] ^= 1;
    let (stored, computed) = (crc32c_dumb(&bytes[21..]), crc32c_dumb(&flipped[21..]));
    assert_eq!(refused(flipped.into()), BatchError::Crc { stored, computed });
}

#[test]
fn malformed_records_are_refused_by_place() {
    let refused = |bytes: Bytes| batch::validate(&bytes).unwrap_err();
    let first = HEADER_BYTES;
    let second = first + 15;
    let reason_at = |bytes: Bytes| match refused(bytes) {
        BatchError::Record { at, reason } => (at, reason),
        other => panic!("not about a record: {other:?}"),
    };
    // Fewer and more records than the header says.
    let fewer = altered(57, &[0, 0, 0, 3]);
    let fewer = {
        let mut bytes = fewer.to_vec();
        bytes[23..27].copy_from_slice(&2_i32.to_be_bytes());
        seal(bytes)
    };
    assert!(matches!(reason_at(fewer), (2, RecordError::Malformed(_))));
    let more = {
        let mut bytes = by_hand().to_vec();
        bytes[23..27].copy_from_slice(&0_i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&1_i32.to_be_bytes());
        seal(bytes)
    };
    assert_eq!(reason_at(more), (1, RecordError::AfterLast { bytes: 7 }));
    // A record's size one too small, one too large, negative; a key of 2 GiB.
    assert!(matches!(reason_at(altered(first, &[13 * 2])), (0, RecordError::Malformed(_))));
    assert_eq!(reason_at(altered(first, &[15 * 2])), (0, RecordError::Trailing { bytes: 1 }));
    assert_eq!(reason_at(altered(first, &[1])), (0, RecordError::Length { found: -1 }));
    assert_eq!(reason_at(altered(first, &[3])), (0, RecordError::Length { found: -2 }));
    assert!(matches!(
        reason_at(altered(first + 4, &[0xfe, 0xff, 0xff, 0xff, 0x0f])),
        (0, RecordError::Malformed(_))
    ));
    // Its place is not its place.
    assert_eq!(reason_at(altered(second + 3, &[4])), (1, RecordError::OffsetDelta { found: 2 }));
    assert_eq!(reason_at(altered(second + 3, &[0])), (1, RecordError::OffsetDelta { found: 0 }));
    // Fewer than no headers, a header without a name.
    assert_eq!(reason_at(altered(second + 6, &[1])), (1, RecordError::HeaderCount { found: -1 }));
    assert_eq!(reason_at(altered(first + 11, &[1])), (0, RecordError::Length { found: -1 }));
    // More headers than the bound, all of them there: no name, no value.
    let crowded = {
        let count = RECORD_HEADERS_MAX + 1;
        let mut body = vec![0, 0, 0, 1, 1, 0x82, 0x40];
        body.extend([0, 1].repeat(count as usize));
        let mut record = Writer::new();
        record.varint(i32::try_from(body.len()).unwrap());
        record.bytes(&body);
        let mut bytes = one(Codec::None, b"")[..HEADER_BYTES].to_vec();
        bytes.extend(record.into_bytes());
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        seal(bytes)
    };
    assert_eq!(reason_at(crowded), (0, RecordError::HeaderCount { found: 4097 }));
    // A delta that leaves the 64 bits.
    assert_eq!(reason_at(altered(27, &i64::MAX.to_be_bytes())), (1, RecordError::Timestamp));
}

#[test]
fn packed_records_are_checked_when_they_are_read() {
    let value = b"the same again and again ".repeat(50);
    for codec in &CODECS[1..] {
        let good = one(*codec, &value);
        assert_eq!(BatchView::open(&good).unwrap().records().count(), 1);
        // Garbage with a right checksum passes the edge, which does not unpack, and no reader.
        let mut bytes = good[..HEADER_BYTES].to_vec();
        bytes.extend_from_slice(&[0xee; 40]);
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let garbage = seal(bytes);
        assert!(batch::validate(&garbage).is_ok());
        let error = BatchView::open(&garbage).err();
        let too_large = matches!(error, Some(BatchError::UnpackedTooLarge { .. }));
        assert!(error == Some(BatchError::Unpack { codec: *codec }) || too_large, "{codec}: {error:?}");
    }
}

#[test]
fn what_packing_does_not_shrink_is_sent_as_it_is() {
    let batch = one(Codec::Gzip, b"x");
    assert_eq!(batch, one(Codec::None, b"x"));
}

#[test]
fn a_full_builder_refuses_and_stays_as_it_was() {
    let mut builder = Builder::new(Codec::None);
    builder.push(Timestamp(1), None, Some(b"small"), &[]).unwrap();
    let before = builder.batch_bytes();
    let large = vec![0; BATCH_BYTES_MAX as usize];
    assert!(matches!(
        builder.push(Timestamp(0), None, Some(&large), &[]),
        Err(BatchError::TooLarge { max: BATCH_BYTES_MAX, .. })
    ));
    let headers = vec![Header { name: b"n", value: None }; RECORD_HEADERS_MAX as usize + 1];
    assert!(matches!(
        builder.push(Timestamp(0), None, None, &headers),
        Err(BatchError::Record { at: 1, reason: RecordError::HeaderCount { found: 4097 } })
    ));
    assert_eq!(
        builder.push(Timestamp(i64::MIN), None, None, &[]),
        Err(BatchError::Record { at: 1, reason: RecordError::Timestamp })
    );
    assert_eq!((builder.batch_bytes(), builder.record_count()), (before, 1));
    assert!(batch::validate(&builder.build()).is_ok());
}

#[test]
fn the_largest_record_that_fits_is_taken() {
    let room = BATCH_BYTES_MAX as usize - HEADER_BYTES;
    let overhead = Builder::record_bytes_max(None, Some(&[]), &[]) + 8;
    let value = vec![7; room - overhead];
    let batch = one(Codec::None, &value);
    assert!(batch::validate(&batch).is_ok());
    let view = BatchView::open(&batch).unwrap();
    assert_eq!(view.records().next().unwrap().unwrap().value, Some(&value[..]));
}

#[test]
fn headers_keep_their_order_and_repeats() {
    let record = OwnedRecord {
        timestamp: 3,
        key: Some(Vec::new()),
        value: None,
        headers: vec![
            (b"b".to_vec(), Some(b"1".to_vec())),
            (b"a".to_vec(), None),
            (b"b".to_vec(), Some(Vec::new())),
            (Vec::new(), Some(b"2".to_vec())),
        ],
    };
    let batch = build(Codec::None, None, &[record]);
    let view = BatchView::open(&batch).unwrap();
    let read = view.records().next().unwrap().unwrap();
    assert_eq!((read.key, read.value), (Some(&b""[..]), None));
    let headers: Vec<_> = read.headers.map(|header| (header.name, header.value)).collect();
    assert_eq!(headers, [(&b"b"[..], Some(&b"1"[..])), (b"a", None), (b"b", Some(b"")), (b"", Some(b"2"))]);
}

#[test]
fn batches_back_to_back_are_told_apart() {
    let (first, second) = (by_hand(), one(Codec::Zstd, &[1; 500]));
    let mut rest: Bytes = [first.clone(), second.clone()].concat().into();
    let mut found = Vec::new();
    while let Some(batch) = batch::next(&rest) {
        let batch = batch.unwrap();
        rest = rest.slice(batch.len()..);
        found.push(batch);
    }
    assert_eq!(found, [first.clone(), second]);
    // A rest that is no whole batch is an error, not an end.
    let cut = first.slice(..first.len() - 1);
    assert!(matches!(batch::next(&cut), Some(Err(BatchError::Truncated { .. }))));
    assert!(matches!(batch::next(&first.slice(..7)), Some(Err(BatchError::Truncated { .. }))));
    assert!(matches!(batch::next(&Bytes::from_static(&[0; 61])), Some(Err(BatchError::Length { found: 0 }))));
}

#[test]
fn a_message_says_what_to_do() {
    let message = BatchError::Magic { found: 1 }.to_string();
    assert_eq!(message, "record format 1 (magic) is not taken: send format 2, as of Kafka 0.11");
    assert!(BatchError::Crc { stored: 1, computed: 2 }.is_corrupt());
    assert!(!BatchError::Control.is_corrupt());
}
