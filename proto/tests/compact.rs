//! What compaction leaves of batches.
#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy sees only the test functions themselves as tests"
)]

use bytes::Bytes;
use raftline_proto::batch::compact::{Left, emptied, rewritten};
use raftline_proto::batch::{self, BatchError, BatchHeader, BatchView, Builder, Codec, HEADER_BYTES, Header};
use raftline_proto::entry::{EntryBody, EntryInfo, ProducerBatch};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, ProducerId, Term};
use raftline_proto::time::Timestamp;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const RECORDS: u64 = 40;
const BASE: u64 = 1000;

fn time(at: u64) -> Timestamp {
    // Not in order, so that the greatest may go.
    Timestamp(i64::try_from(at * 37 % 100).unwrap() + 500)
}

/// A stored batch of records with offsets from [`BASE`] on, of which each fourth is a tombstone and each seventh has
/// no key.
fn stored(codec: Codec) -> Bytes {
    let mut builder = Builder::new(codec);
    builder.set_producer(ProducerBatch { id: ProducerId(9), epoch: 2, base_sequence: 77 });
    for at in 0..RECORDS {
        let key = format!("key {at}");
        let value = format!("value {at} of some length so that packing is worth its while");
        let key = (at % 7 != 0).then_some(key.as_bytes());
        let value = (at % 4 != 0).then_some(value.as_bytes());
        builder.push(time(at), key, value, &[Header { name: b"h", value: None }]).unwrap();
    }
    let parts = batch::stamped(&builder.build(), Offset(BASE), Term(6));
    [&parts[0][..], &parts[1][..]].concat().into()
}

fn left(batch: &Bytes, keep: impl Fn(u64) -> bool) -> Left {
    rewritten(&BatchView::open(batch).unwrap(), |record| keep(record.offset.0 - BASE)).unwrap()
}

fn some(left: Left) -> Bytes {
    match left {
        Left::Some(batch) => batch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_that_stay_are_as_they_were() {
    for codec in CODECS {
        let batch = stored(codec);
        let before = *BatchView::open(&batch).unwrap().header();
        for keep in [|at| at % 3 == 0, |at| at == 0, |at| at == RECORDS - 1, |at| at != 5] {
            let after = some(left(&batch, keep));
            let (old, new) = (BatchView::open(&batch).unwrap(), BatchView::open(&after).unwrap());
            let all = old.records().map(Result::unwrap);
            let expected: Vec<_> = all.filter(|record| keep(record.offset.0 - BASE)).collect();
            assert_eq!(new.records().map(Result::unwrap).collect::<Vec<_>>(), expected);
            let header = *new.header();
            assert_eq!(header.record_count as usize, expected.len());
            assert_eq!(Some(header.max_timestamp), expected.iter().map(|record| record.timestamp).max());
            let same = BatchHeader {
                batch_bytes: header.batch_bytes,
                crc: header.crc,
                record_count: header.record_count,
                max_timestamp: header.max_timestamp,
                ..before
            };
            assert_eq!(header, same, "nothing else changes");
            assert_eq!(
                (header.next_offset(), header.attributes.codec()),
                (Offset(BASE + RECORDS), Ok(codec))
            );
        }
        assert_eq!(left(&batch, |_| true), Left::Everything);
        assert_eq!(left(&batch, |_| false), Left::Nothing);
    }
}

#[test]
fn dropping_twice_is_dropping_once() {
    for codec in CODECS {
        let batch = stored(codec);
        let twice = some(left(&some(left(&batch, |at| at % 2 == 0)), |at| at % 3 == 0));
        assert_eq!(twice, some(left(&batch, |at| at % 6 == 0)));
        let half = some(left(&batch, |at| at % 2 == 1));
        let headers = [&batch, &half].map(|batch| BatchHeader::decode(batch).unwrap());
        assert_eq!(emptied(&headers[0]), emptied(&headers[1]));
        let empty = emptied(&headers[0]);
        assert_eq!(emptied(&BatchHeader::decode(&empty).unwrap()), empty);
    }
}

#[test]
fn a_batch_without_records_still_says_what_it_took() {
    for codec in CODECS {
        let batch = stored(codec);
        let before = BatchHeader::decode(&batch).unwrap();
        let empty = emptied(&before);
        assert_eq!(empty.len(), HEADER_BYTES);
        let view = BatchView::open(&empty).unwrap();
        assert_eq!((view.records().count(), view.header().record_count), (0, 0));
        assert_eq!(view.header().attributes.codec(), Ok(Codec::None));
        let taken = |header: &BatchHeader| {
            (header.base_offset, header.next_offset(), header.leader_epoch, header.producer)
        };
        assert_eq!(taken(view.header()), taken(&before));
        assert_eq!(before.info().record_count, view.header().info().record_count);
    }
}

#[test]
fn the_time_of_append_stays() {
    let stamped = batch::append_time_stamped(stored(Codec::Lz4), Timestamp(123_456));
    let after = some(left(&stamped, |at| at == 3));
    let view = BatchView::open(&after).unwrap();
    assert!(view.header().attributes.is_log_append_time());
    assert_eq!(view.records().next().unwrap().unwrap().timestamp, Timestamp(123_456));
    let empty = BatchHeader::decode(&emptied(view.header())).unwrap();
    assert!(empty.attributes.is_log_append_time());
    assert_eq!(empty.max_timestamp, Timestamp(123_456));
}

#[test]
fn what_compaction_leaves_is_read_as_an_entry_but_not_taken_from_a_client() {
    let batch = stored(Codec::Zstd);
    let group = GroupId(1);
    let id = EntryId::new(Term(6), Index(50));
    let whole = BatchHeader::decode(&batch).unwrap();
    let header = EntryInfo::new(group, id, Offset(BASE), EntryBody::Data(whole.info())).header;
    for after in [some(left(&batch, |at| at == 7)), emptied(&whole)] {
        let header = raftline_proto::entry::EntryHeader {
            payload_bytes: u32::try_from(after.len()).unwrap(),
            ..header
        };
        let info = EntryInfo::decode(header, &after).unwrap();
        assert_eq!(u64::from(info.header.record_count), RECORDS);
        let parts = batch::stamped(&after, Offset::ZERO, Term(0));
        let sent = [&parts[0][..], &parts[1][..]].concat();
        let refused = batch::validate(&sent).unwrap_err();
        let last = i32::try_from(RECORDS - 1).unwrap();
        let expected = match BatchHeader::decode(&after).unwrap().record_count {
            0 => BatchError::RecordCount { found: 0 },
            _ => BatchError::LastOffsetDelta { record_count: 1, last_offset_delta: last },
        };
        assert_eq!(refused, expected);
    }
}

#[test]
fn records_that_cannot_be_read_are_not_dropped() {
    let mut bytes = stored(Codec::None).to_vec();
    // The first record's offset delta.
    bytes[HEADER_BYTES + 4] = 2;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let view = BatchView::open(&bytes.into()).unwrap();
    assert!(matches!(rewritten(&view, |_| false), Err(BatchError::Record { .. })));
}
