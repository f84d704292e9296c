//! A record batch, as clients send it: validated at the edge, then unpacked and read to the last header. Length and
//! checksum of the input are made right first, so that what lies behind them is reached.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use raftline_proto::batch::compact::{Left, emptied, rewritten};
use raftline_proto::batch::{self, BatchHeader, BatchView, Builder, Codec, Header};

fuzz_target!(|bytes: &[u8]| {
    let _ = batch::validate(bytes);
    let mut bytes = bytes.to_vec();
    if bytes.len() >= batch::HEADER_BYTES {
        let length = i32::try_from(bytes.len() - 12).expect("fuzz inputs are small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[batch::CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let bytes = Bytes::from(bytes);
    let valid = batch::validate(&bytes);
    let Ok(view) = BatchView::open(&bytes) else { return };
    let records: Result<Vec<_>, _> = view.records().collect();
    let Ok(records) = records else {
        // The edge has read records that are not packed.
        assert!(valid.is_err() || view.header().attributes.codec() != Ok(Codec::None));
        return;
    };
    assert_eq!(records.len(), view.header().record_count as usize);
    shrink(&view);
    if records.is_empty() {
        // Compaction alone makes these.
        return;
    }
    rebuild(view.header(), &view);
});

/// What compaction leaves can be read.
fn shrink(view: &BatchView) {
    let keep = |record: &batch::Record<'_>| record.offset.0 % 2 == 0;
    let kept = view.records().filter(|record| record.as_ref().is_ok_and(keep)).count();
    match rewritten(view, keep).expect("read before") {
        Left::Everything => {}
        Left::Nothing => assert_eq!(kept, 0),
        Left::Some(batch) => {
            let left = BatchView::open(&batch).expect("a batch that was rewritten is valid");
            assert!(left.records().all(|record| record.is_ok()));
            assert_eq!(
                (left.header().record_count as usize, left.header().next_offset()),
                (kept, view.header().next_offset())
            );
        }
    }
    let empty = BatchView::open(&emptied(view.header())).expect("a batch without records is valid");
    assert_eq!(empty.header().next_offset(), view.header().next_offset());
}

/// What was read can be written and read again.
fn rebuild(header: &BatchHeader, view: &BatchView) {
    let mut builder = Builder::new(Codec::None);
    for record in view.records() {
        let record = record.expect("read before");
        let headers: Vec<Header<'_>> = record.headers.collect();
        assert_eq!(headers.len(), record.headers.len());
        if builder.push(record.timestamp, record.key, record.value, &headers).is_err() {
            // Timestamps further apart than 64 bits, or more than a batch takes: no builder makes these.
            return;
        }
    }
    let rebuilt = builder.build();
    assert_eq!(batch::validate(&rebuilt).expect("a built batch is valid").record_count, header.record_count);
    let again = BatchView::open(&rebuilt).expect("a built batch is valid");
    for (one, other) in view.records().zip(again.records()) {
        let (one, other) = (one.expect("read before"), other.expect("a built batch is valid"));
        assert_eq!((one.key, one.value, one.timestamp), (other.key, other.value, other.timestamp));
        assert!(one.headers.eq(other.headers));
    }
}
