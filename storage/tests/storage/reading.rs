//! Reading by index, by offset and by time.

use crate::common::{Writer, contents, fill, fresh, id, retain, segment_files, sync};
use raftline_proto::batch::Codec;
use raftline_proto::ids::{Index, Offset, Term};
use raftline_proto::time::Timestamp;
use raftline_storage::{Damage, ReadError};

#[test]
fn offsets_by_time_are_exact_to_the_record() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let (_, mut log) = fresh(600);
        let mut writer = Writer::of(&log);
        writer.no_op(&mut log, 1);
        writer.batch(&mut log, 1, codec, &[100, 110, 105]);
        writer.batch(&mut log, 1, codec, &[90, 95]);
        writer.no_op(&mut log, 2);
        for nth in 0..30 {
            writer.batch(&mut log, 2, codec, &[200 + nth * 10, 205 + nth * 10]);
        }
        log.write().unwrap();
        let end = log.next_offset();
        let found = |time| log.offset_at(Timestamp(time), end).unwrap();
        let at = |time| found(time).map(|(offset, _)| offset);
        assert_eq!(at(0), Some(Offset(0)));
        assert_eq!(at(101), Some(Offset(1)));
        assert_eq!(at(110), Some(Offset(1)));
        assert_eq!(at(111), Some(Offset(5)));
        assert_eq!(at(201), Some(Offset(6)));
        assert_eq!(at(395), Some(Offset(44)));
        assert_eq!(at(496), None);
        assert_eq!(found(111), Some((Offset(5), Timestamp(200))), "the time is that of the record");
        assert_eq!(log.offset_at(Timestamp(395), Offset(44)).unwrap(), None, "not committed yet");
        assert_eq!(log.newest(end).unwrap(), Some((Offset(64), Timestamp(495))));
        assert_eq!(log.newest(Offset(5)).unwrap(), Some((Offset(1), Timestamp(110))), "times may jump back");
        assert_eq!(log.newest(Offset(2)).unwrap(), None, "no batch ends there");
        assert_eq!(log.end_of_term(Term(0), end).unwrap(), None, "nothing here is so old");
        assert_eq!(log.end_of_term(Term(1), end).unwrap(), Some((Term(1), Offset(5))));
        assert_eq!(
            log.end_of_term(Term(1), Offset(4)).unwrap(),
            Some((Term(1), Offset(4))),
            "not committed yet"
        );
        assert_eq!(log.end_of_term(Term(2), end).unwrap(), Some((Term(2), end)));
        assert_eq!(log.end_of_term(Term(9), end).unwrap(), Some((Term(2), end)), "terms that wrote nothing");
    }
}

#[test]
fn a_fetch_begins_with_the_batch_that_holds_the_offset() {
    let (_, mut log) = fresh(1 << 20);
    let mut writer = Writer::of(&log);
    let batches: Vec<_> =
        (0..100).map(|nth| writer.batch(&mut log, 1, Codec::None, &[nth, nth, nth]).1).collect();
    log.write().unwrap();
    let size = batches[0].len() as u64;
    let read = log.read_batches(Offset(4), Offset(300), 3 * size).unwrap();
    assert_eq!((read.batches.as_slice(), read.bytes), (&batches[1..4], 3 * size));
    let read = log.read_batches(Offset(4), Offset(8), u64::MAX).unwrap();
    assert_eq!(read.batches, batches[1..2], "a batch that ends above the watermark is not served");
    let read = log.read_batches(Offset(299), Offset(300), 0).unwrap();
    assert_eq!(read.batches, batches[99..]);
    assert!(log.read_batches(Offset(300), Offset(300), u64::MAX).unwrap().batches.is_empty());
    assert!(log.read_batches(Offset(0), Offset(0), u64::MAX).unwrap().batches.is_empty());
}

#[test]
fn entries_come_in_one_part_a_segment() {
    let (_, mut log) = fresh(64 + 10 * 148);
    fill(&mut log, 1, 35, 100);
    let read = log.read_entries(Index(5), Index(100), u64::MAX).unwrap();
    let sizes: Vec<usize> = read.parts.iter().map(|part| part.len() / 148).collect();
    assert_eq!((sizes, read.up_to), (vec![6, 10, 10, 5], Index(36)));
    let read = log.read_entries(Index(36), Index(100), u64::MAX).unwrap();
    assert_eq!((read.parts.len(), read.up_to, read.bytes), (0, Index(36), 0));
}

#[test]
fn what_was_trimmed_is_named() {
    let (_, mut log) = fresh(1000);
    fill(&mut log, 1, 60, 100);
    sync(&mut log);
    let (previous, offset) = retain(&mut log, None, Some(0), Index(30)).unwrap();
    let Err(ReadError::Trimmed { previous: told, offset: told_offset }) =
        log.read_entries(Index(3), Index(9), 1)
    else {
        panic!("read")
    };
    assert_eq!((told, told_offset), (previous, offset));
    assert!(matches!(log.read_batches(Offset(0), Offset(9), 1), Err(ReadError::Trimmed { .. })));
    assert!(log.read_entries(previous.index, Index(60), 1).is_err());
    assert!(log.read_entries(previous.index.next(), Index(60), 1).is_ok());
    assert_eq!(log.replay(Index(1)).next().unwrap().unwrap().0.id, id(1, previous.index.0 + 1));
}

#[test]
fn large_segments_are_searched_not_walked() {
    let (disk, mut log) = fresh(8 << 20);
    let entries = fill(&mut log, 1, 3000, 1000);
    for (header, payload) in entries.iter().step_by(97) {
        let read = log.read_entries(header.id.index, header.id.index.next(), 1).unwrap();
        assert_eq!(read.parts[0], [&header.encode(&[payload])[..], payload].concat());
        let read = log.read_batches(header.base_offset, header.next_offset(), 1).unwrap();
        assert_eq!(read.batches, [payload]);
    }
    // Damage far before the place does not stop a read that a search leads past it.
    disk.damage(&segment_files(&disk)[0], 100_000, &[0xff; 3000]).unwrap();
    assert!(log.read_entries(Index(2500), Index(2501), 1).is_ok());
}

#[test]
fn a_misdirected_block_is_never_served() {
    let (disk, mut log) = fresh(1 << 20);
    fill(&mut log, 1, 20, 100);
    let file = segment_files(&disk).remove(0);
    let bytes = disk.read(&file).unwrap();
    let third = &bytes[64 + 2 * 148..64 + 3 * 148];
    disk.damage(&file, 64 + 9 * 148, third).unwrap();
    let Err(ReadError::Corrupt { at, reason, .. }) = log.read_entries(Index(10), Index(11), u64::MAX) else {
        panic!("served")
    };
    assert_eq!((at, reason), (64 + 9 * 148, Damage::Index { expected: Index(10), found: Index(3) }));
    let offset = log.next_offset();
    let read = log.read_batches(Offset(0), offset, u64::MAX).unwrap();
    assert_eq!(read.batches.len(), 9, "what is sound before it");
    assert!(read.failed.is_some_and(|error| error.is_damage()));
    let replayed: Vec<_> = log.replay(Index(1)).collect();
    assert_eq!(replayed.len(), 10);
    assert!(replayed[9].is_err() && replayed[..9].iter().all(Result::is_ok));
}

#[test]
fn encoded_entries_are_kept_byte_for_byte() {
    let (_, mut leader) = fresh(2000);
    fill(&mut leader, 3, 30, 100);
    let (_, mut follower) = fresh(900);
    let read = leader.read_entries(Index(1), Index(31), u64::MAX).unwrap();
    let headers: Vec<_> = contents(&leader).into_iter().map(|(header, _)| header).collect();
    follower.append_encoded(&headers, read.parts.concat().into());
    follower.write().unwrap();
    let copy = follower.read_entries(Index(1), Index(31), u64::MAX).unwrap();
    assert_eq!(copy.parts.concat(), read.parts.concat());
    assert_ne!(copy.parts.len(), read.parts.len());
    assert_eq!(contents(&follower), contents(&leader));
}

#[test]
fn a_flipped_bit_is_never_given_away_whoever_reads() {
    for bit in [0, 37 * 8, 48 * 8, 100 * 8 + 3, 147 * 8 + 7] {
        let (disk, mut log) = fresh(1 << 20);
        let entries = fill(&mut log, 1, 20, 100);
        // Somebody has read it before: it is the disk that is asked each time.
        assert_eq!(contents(&log), entries);
        let file = segment_files(&disk).remove(0);
        let at = 64 + 9 * 148 + bit / 8;
        let byte = disk.read(&file).unwrap()[usize::try_from(at).unwrap()];
        disk.damage(&file, at, &[byte ^ 1 << (bit % 8)]).unwrap();

        let read = log.read_entries(Index(1), Index(21), u64::MAX).unwrap();
        assert_eq!((read.up_to, read.bytes), (Index(10), 9 * 148), "bit {bit}");
        assert!(read.failed.is_some_and(|error| error.is_damage()), "bit {bit}");
        let read = log.read_batches(Offset(0), log.next_offset(), u64::MAX).unwrap();
        let sound: Vec<_> = entries[..9].iter().map(|(_, payload)| payload.clone()).collect();
        assert_eq!(read.batches, sound, "bit {bit}");
        assert!(read.failed.is_some_and(|error| error.is_damage()), "bit {bit}");
        let error = log.read_entries(Index(10), Index(21), 1).unwrap_err();
        assert!(
            error.is_damage() && error.to_string().contains("damaged at byte 1396"),
            "bit {bit}: {error}"
        );
        let from = entries[9].0.base_offset;
        assert!(log.read_batches(from, log.next_offset(), 1).is_err_and(|error| error.is_damage()), "{bit}");
        assert_eq!(log.replay(Index(1)).filter(Result::is_ok).count(), 9, "bit {bit}");
    }
}

#[test]
fn a_time_is_not_looked_for_in_rotten_bytes() {
    let (disk, mut log) = fresh(1 << 20);
    let entries = fill(&mut log, 1, 20, 100);
    let end = log.next_offset();
    let time = Timestamp(crate::common::time_of(12));
    assert!(log.offset_at(time, end).unwrap().is_some());
    // The greatest timestamp of entry 12 gets a bit of 2^56.
    disk.damage(&segment_files(&disk)[0], 64 + 11 * 148 + 48 + 35, &[0x01]).unwrap();
    assert!(log.offset_at(time, end).is_err_and(|error| error.is_damage()));
    assert!(log.newest(Offset(entries[15].0.base_offset.get())).is_err_and(|error| error.is_damage()));
}
