//! What a broker sent in one message, verified and unpacked; records are made of it batch by batch.

use crate::record::{ConsumedRecord, Header};
use bytes::Bytes;
use raftline_proto::batch::{self, BatchView};
use raftline_proto::ids::{Offset, PartitionIndex};
use std::sync::Arc;

/// The batches of one message from `next` on.
///
/// # Errors
/// What is wrong with them. Nothing of the message is used then.
pub(crate) fn open(bytes: &Bytes, next: Offset) -> Result<Vec<BatchView>, String> {
    let mut rest = bytes.clone();
    let mut views = Vec::new();
    let mut expected = next;
    while let Some(found) = batch::next(&rest) {
        let found = found.map_err(|error| error.to_string())?;
        rest = rest.slice(found.len()..);
        let view = BatchView::open(&found).map_err(|error| error.to_string())?;
        let header = view.header();
        if header.next_offset() <= expected {
            continue;
        }
        // Offsets between two batches may be missing: the log may be compacted. But none comes twice.
        if header.base_offset < expected && !views.is_empty() {
            return Err(format!("offset {} comes again", header.base_offset));
        }
        expected = header.next_offset();
        views.push(view);
    }
    Ok(views)
}

/// The records of a batch from `next` on.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn records(
    view: &BatchView,
    next: Offset,
    topic: &Arc<str>,
    partition: PartitionIndex,
) -> Result<Vec<ConsumedRecord>, String> {
    let mut records = Vec::with_capacity(view.header().record_count as usize);
    for record in view.records() {
        let record = record.map_err(|error| error.to_string())?;
        if record.offset < next {
            continue;
        }
        let headers = record.headers.map(|header| Header {
            name: String::from_utf8_lossy(header.name).into_owned(),
            value: header.value.map(|value| view.share(value)),
        });
        records.push(ConsumedRecord {
            topic: topic.clone(),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|key| view.share(key)),
            value: record.value.map(|value| view.share(value)),
            headers: headers.collect(),
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::batch::compact::{Left, emptied, rewritten};
    use raftline_proto::batch::{Builder, Codec, stamped};
    use raftline_proto::ids::Term;
    use raftline_proto::time::Timestamp;

    /// A batch of `count` records at `base`, as a broker stores it.
    fn stored(base: u64, count: u8) -> Vec<u8> {
        let mut builder = Builder::new(Codec::None);
        for number in 0..count {
            builder.push(Timestamp(0), None, Some(&[number]), &[]).expect("fits");
        }
        stamped(&builder.build(), Offset(base), Term(1)).concat()
    }

    fn offsets(bytes: &Bytes, next: u64) -> Result<Vec<u64>, String> {
        let mut offsets = Vec::new();
        for view in open(bytes, Offset(next))? {
            let records = records(&view, Offset(next), &Arc::from("t"), PartitionIndex(0))?;
            offsets.extend(records.iter().map(|record| record.offset.get()));
        }
        Ok(offsets)
    }

    #[test]
    fn records_below_the_wanted_offset_are_skipped() {
        let bytes = Bytes::from([stored(10, 5), stored(15, 3)].concat());
        assert_eq!(offsets(&bytes, 12).expect("readable"), [12, 13, 14, 15, 16, 17]);
        assert_eq!(offsets(&bytes, 16).expect("readable"), [16, 17]);
    }

    #[test]
    fn offsets_may_be_missing_but_none_comes_twice() {
        let bytes = Bytes::from([stored(10, 5), stored(16, 3)].concat());
        assert_eq!(offsets(&bytes, 9).expect("readable"), [10, 11, 12, 13, 14, 16, 17, 18]);
        let bytes = Bytes::from([stored(10, 5), stored(14, 3)].concat());
        let error = offsets(&bytes, 10).expect_err("14 comes twice");
        assert!(error.contains("14"), "{error}");
    }

    #[test]
    fn what_compaction_left_is_read() {
        let whole = Bytes::from(stored(10, 5));
        let view = BatchView::open(&whole).expect("a batch");
        let some = match rewritten(&view, |record| record.offset.get() == 13) {
            Ok(Left::Some(batch)) => batch,
            other => panic!("{other:?}"),
        };
        let bytes = Bytes::from(
            [
                &some[..],
                &emptied(BatchView::open(&stored(15, 3).into()).expect("a batch").header()),
                &stored(20, 1),
            ]
            .concat(),
        );
        assert_eq!(offsets(&bytes, 10).expect("readable"), [13, 20]);
        let end = open(&bytes.slice(..some.len()), Offset(14)).expect("readable");
        assert_eq!(
            end.last().map(|last| last.header().next_offset()),
            Some(Offset(15)),
            "reading goes on behind it"
        );
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut bytes = stored(0, 5);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(offsets(&Bytes::from(bytes), 0).is_err());
    }
}
