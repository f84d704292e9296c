//! Property tests of every decoder: round trips, dumb twins, and hostile bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{
    batch, build, codec, command, config, crc32c_dumb, membership, metadata, producer, record, varint_dumb,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use raftline_proto::batch::compact::{Left, emptied, rewritten};
use raftline_proto::batch::{self, BatchHeader, BatchView, HEADER_BYTES};
use raftline_proto::command::Command;
use raftline_proto::cursor::{Reader, Writer};
use raftline_proto::entry::gap::Gap;
use raftline_proto::entry::{self, EntryBody, EntryHeader, EntryInfo, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Term};
use raftline_proto::limits::{BATCH_RECORDS_MAX, TERM_MAX};
use raftline_proto::payload;

/// What the entry's layout comment says, field by field.
fn entry_header_dumb(header: &EntryHeader) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"RL");
    bytes.push(1);
    bytes.push(match header.kind {
        EntryKind::NoOp => 1,
        EntryKind::Data => 2,
        EntryKind::Membership => 3,
        EntryKind::Metadata => 4,
        EntryKind::Command => 5,
        EntryKind::Gap => 6,
    });
    for field in [header.id.term.0, header.id.index.0, header.base_offset.0] {
        bytes.extend((0..8).map(|byte| u8::try_from(field >> (8 * byte) & 0xff).unwrap()));
    }
    for field in [header.record_count, header.payload_bytes] {
        bytes.extend((0..4).map(|byte| u8::try_from(field >> (8 * byte) & 0xff).unwrap()));
    }
    bytes.extend((0..8).map(|byte| u8::try_from(header.group.0 >> (8 * byte) & 0xff).unwrap()));
    bytes
}

/// CRC-32 as its polynomial says, bit by bit.
fn crc32_dumb(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn id() -> impl Strategy<Value = EntryId> {
    (1..=TERM_MAX, 1..u64::MAX).prop_map(|(term, index)| EntryId::new(Term(term), Index(index)))
}

/// An entry of any kind, encoded.
fn encoded_entry() -> impl Strategy<Value = (EntryInfo, Vec<u8>)> {
    let body = prop_oneof![
        Just(None),
        membership().prop_map(|membership| Some((EntryBody::Membership(membership), Bytes::new()))),
        metadata().prop_map(|records| Some((EntryBody::Metadata(records), Bytes::new()))),
        command().prop_map(|command| Some((EntryBody::Command(command), Bytes::new()))),
        batch().prop_map(|batch| Some((EntryBody::Data(batch::validate(&batch).unwrap()), batch))),
        (0..=BATCH_RECORDS_MAX).prop_map(|offsets| Some((EntryBody::Gap { offsets }, Bytes::new()))),
    ];
    (any::<u64>(), id(), 0..1_u64 << 60, body).prop_map(|(group, id, base_offset, body)| {
        let (body, batch) = body.unwrap_or((EntryBody::NoOp, Bytes::new()));
        let entry = EntryInfo::new(GroupId(group), id, Offset(base_offset), body);
        let parts = match entry.body.encode_payload() {
            Some(payload) => [payload.into(), Bytes::new()],
            None => batch::stamped(&batch, Offset(base_offset), id.term),
        };
        let header = entry.header.encode(&[&parts[0], &parts[1]]);
        let bytes = [&header[..], &parts[0], &parts[1]].concat();
        (entry, bytes)
    })
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn varints_are_as_their_definition_says(value in any::<i32>(), wide in any::<i64>(), shift in 0..64_u32) {
        for (value, wide) in [(value, wide), (value >> (shift % 32), wide >> shift)] {
            let mut writer = Writer::new();
            writer.varint(value);
            writer.varlong(wide);
            let bytes = writer.into_bytes();
            prop_assert_eq!(&bytes, &[varint_dumb(value.into()), varint_dumb(wide.into())].concat());
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.varlong(), Ok(wide));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_varint_is_read_within_its_bytes_or_refused(bytes in vec(prop_oneof![any::<u8>(), 0x80..=0xff_u8], 0..12)) {
        let mut reader = Reader::new(&bytes);
        match reader.varint() {
            Ok(_) => prop_assert!(bytes.len() - reader.remaining() <= 5),
            Err(_) => prop_assert_eq!(reader.remaining(), bytes.len()),
        }
        let mut reader = Reader::new(&bytes);
        match reader.varlong() {
            Ok(_) => prop_assert!(bytes.len() - reader.remaining() <= 10),
            Err(_) => prop_assert_eq!(reader.remaining(), bytes.len()),
        }
    }

    #[test]
    fn entry_headers_are_as_the_layout_says(
        (group, id, base_offset) in (any::<u64>(), id(), 0..1_u64 << 62),
        payload in vec(any::<u8>(), 0..200),
        count in 0..3_u32,
        cut in any::<prop::sample::Index>(),
    ) {
        let kind = if count == 0 { EntryKind::NoOp } else { EntryKind::Data };
        let header = EntryHeader {
            group: GroupId(group),
            id,
            kind,
            base_offset: Offset(base_offset),
            record_count: count,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
        };
        // The payload may come in any two parts.
        let (first, second) = payload.split_at(cut.index(payload.len() + 1));
        let bytes = [&header.encode(&[first, second])[..], &payload].concat();
        let dumb = [entry_header_dumb(&header), payload.clone()].concat();
        prop_assert_eq!(&bytes[4..], &dumb[..]);
        prop_assert_eq!(bytes[..4].to_vec(), crc32_dumb(&dumb).to_le_bytes().to_vec());
        prop_assert_eq!(EntryHeader::decode(&bytes), Ok(header));
        prop_assert_eq!(EntryHeader::verify(&bytes), Ok(header));
    }

    #[test]
    fn batches_come_back_as_they_were_built(
        codec in codec(),
        producer in option::of(producer()),
        records in vec(record(), 1..20),
        base_offset in 0..1_u64 << 60,
    ) {
        let bytes = build(codec, producer, &records);
        let info = batch::validate(&bytes).unwrap();
        prop_assert_eq!(info.record_count as usize, records.len());
        prop_assert_eq!(info.producer, producer);
        prop_assert_eq!(Some(info.max_timestamp.0), records.iter().map(|record| record.timestamp).max());
        prop_assert_eq!(info.base_timestamp.0, records[0].timestamp);
        prop_assert_eq!(batch::check_crc(&bytes).unwrap().crc, crc32c_dumb(&bytes[21..]));

        let stored: Bytes = batch::stamped(&bytes, Offset(base_offset), Term(3)).concat().into();
        let view = BatchView::open(&stored).unwrap();
        prop_assert_eq!(view.records().count(), records.len());
        for (at, (read, written)) in view.records().zip(&records).enumerate() {
            let read = read.unwrap();
            prop_assert_eq!(read.offset, Offset(base_offset + at as u64));
            prop_assert_eq!(read.timestamp.0, written.timestamp);
            prop_assert_eq!(read.key, written.key.as_deref());
            prop_assert_eq!(read.value, written.value.as_deref());
            let headers: Vec<_> =
                read.headers.map(|header| (header.name.to_vec(), header.value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(&headers, &written.headers);
        }
    }

    #[test]
    fn batch_headers_come_back(bytes in batch(), base_offset in 0..1_u64 << 62, leader_epoch in any::<i32>()) {
        let header = BatchHeader { base_offset: Offset(base_offset), leader_epoch, ..batch::check_crc(&bytes).unwrap() };
        prop_assert_eq!(BatchHeader::decode(&header.encode()), Ok(header));
        prop_assert_eq!(&header.encode()[16..], &bytes[16..HEADER_BYTES]);
    }

    #[test]
    fn payloads_come_back(membership in membership(), records in metadata()) {
        let bytes = payload::encode_membership(&membership).unwrap();
        prop_assert_eq!(payload::decode_membership(&bytes), Ok(membership));
        let bytes = payload::encode_metadata(&records).unwrap();
        prop_assert_eq!(payload::decode_metadata(&bytes), Ok(records));
    }

    #[test]
    fn cut_payloads_are_refused(membership in membership(), records in metadata(), at in any::<prop::sample::Index>()) {
        let bytes = payload::encode_membership(&membership).unwrap();
        prop_assert!(payload::decode_membership(&bytes[..at.index(bytes.len())]).is_err());
        let bytes = payload::encode_metadata(&records).unwrap();
        prop_assert!(payload::decode_metadata(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn runs_of_entries_come_back(entries in vec(encoded_entry(), 0..6)) {
        let run: Bytes = entries.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>().into();
        let infos: Vec<_> = entries.into_iter().map(|(info, _)| info).collect();
        prop_assert_eq!(entry::decode_run(&run), Ok(infos));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_passes_in_a_run(
        entries in vec(encoded_entry(), 1..4),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let run: Vec<u8> = entries.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let mut flipped = run.clone();
        flipped[at.index(run.len())] ^= 1 << bit;
        prop_assert!(entry::decode_run(&flipped.into()).is_err());
        let cut = at.index(run.len());
        let boundary = entries.iter().scan(0, |sum, (_, bytes)| {
            *sum += bytes.len();
            Some(*sum)
        });
        let whole = cut == 0 || boundary.into_iter().any(|end| end == cut);
        prop_assert_eq!(entry::decode_run(&run[..cut].to_vec().into()).is_ok(), whole);
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_passes_in_a_batch(
        bytes in batch(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        // The stamp is outside the batch's checksum, except that its length must be right.
        let place = 8 + at.index(bytes.len() - 8);
        if !(12..16).contains(&place) {
            let mut flipped = bytes.to_vec();
            flipped[place] ^= 1 << bit;
            prop_assert!(batch::validate(&flipped).is_err());
        }
        prop_assert!(batch::validate(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn altered_bytes_are_read_or_refused(
        entry in encoded_entry(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = entry.1;
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        exercise(&bytes);
        exercise(&bytes[entry::HEADER_BYTES..]);
        // With the checksums made right again, so that what lies behind them is reached.
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        exercise(&bytes);
        let mut batch = bytes.split_off(entry::HEADER_BYTES);
        if batch.len() >= HEADER_BYTES {
            let crc = crc32c::crc32c(&batch[21..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            exercise(&batch);
        }
    }
}

/// Every decoder over the same bytes: none may panic, and what is read is read again after encoding.
fn exercise(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    let _ = EntryHeader::decode(bytes);
    let _ = entry::decode_run(&shared);
    let _ = batch::validate(bytes);
    let _ = batch::next(&shared);
    if let Ok(header) = BatchHeader::decode(bytes) {
        let records = batch::Records::new(&header, &bytes[HEADER_BYTES..]);
        assert!(records.count() <= header.record_count as usize + 1);
    }
    if let Ok(view) = BatchView::open(&shared) {
        let _ = view.records().filter_map(Result::ok).map(|record| record.headers.count()).sum::<usize>();
        if let Ok(Left::Some(batch)) = rewritten(&view, |record| record.offset.0 % 2 == 0) {
            let left = BatchView::open(&batch).unwrap();
            assert!(left.records().all(|record| record.is_ok()));
            assert_eq!(left.header().next_offset(), view.header().next_offset());
        }
        assert!(BatchView::open(&emptied(view.header())).is_ok());
    }
    if let Ok(header) = EntryHeader::decode(bytes)
        && header.kind == EntryKind::Gap
        && let Ok(gap) = Gap::decode(&header, &bytes[entry::HEADER_BYTES..])
    {
        assert_eq!((gap.first(), gap.next_offset()), (header.id, header.next_offset()));
        assert!(gap.up_to() > header.id.index);
    }
    if let Ok(membership) = payload::decode_membership(bytes) {
        assert_eq!(payload::encode_membership(&membership).as_deref(), Ok(bytes));
    }
    if let Ok(records) = payload::decode_metadata(bytes) {
        assert_eq!(payload::encode_metadata(&records).as_deref(), Ok(bytes));
    }
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(command.encode(), bytes);
    }
}
