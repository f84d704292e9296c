//! What compaction leaves of a batch: the same header over fewer records.
//!
//! Base offset, last offset delta, leader epoch, producer, base sequence, base timestamp, codec and kind of timestamp
//! stay. Records that stay keep their bytes: their offset and time are deltas to what stays. The greatest timestamp is
//! that of the records left, as Kafka has it, but for the broker's time of append, which is one for all of them.
//!
//! So what is left of a batch follows from the batch and the records kept, and dropping records twice gives the same
//! bytes as dropping them all at once.

use super::{BatchError, BatchHeader, BatchView, CRC_FROM, Codec, HEADER_BYTES, Record, compression};
use crate::limits::BATCH_BYTES_MAX;
use crate::time::Timestamp;
use bytes::Bytes;

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of its records.
    Everything,
    /// Some of its records, in this batch.
    Some(Bytes),
    /// None of its records: see [`emptied`].
    Nothing,
}

/// Rewrites a batch with those of its records that `keep` holds on to.
///
/// A batch that would be larger than [`BATCH_BYTES_MAX`] when packed anew, though records are gone, is left as it is. That
/// takes a client that packs far better than we do, and a batch close to the bound.
///
/// # Errors
/// [`BatchError::Record`] if a record cannot be read. Then none of them should be dropped.
pub fn rewritten(view: &BatchView, mut keep: impl FnMut(&Record<'_>) -> bool) -> Result<Left, BatchError> {
    let header = *view.header();
    let unpacked = view.unpacked();
    let mut kept = vec![0; HEADER_BYTES];
    let mut record_count = 0;
    let mut max_timestamp: Option<Timestamp> = None;
    let mut records = view.records();
    let mut from = 0;
    while let Some(record) = records.next() {
        let record = record?;
        let up_to = unpacked.len() - records.remaining();
        if keep(&record) {
            kept.extend_from_slice(&unpacked[from..up_to]);
            record_count += 1;
            max_timestamp = max_timestamp.max(Some(record.timestamp));
        }
        from = up_to;
    }
    let Some(max_timestamp) = max_timestamp else { return Ok(Left::Nothing) };
    if record_count == header.record_count {
        return Ok(Left::Everything);
    }
    let codec = header.attributes.codec()?;
    if codec != Codec::None {
        let packed = compression::pack(codec, &kept[HEADER_BYTES..]);
        kept.truncate(HEADER_BYTES);
        kept.extend_from_slice(&packed);
    }
    match u32::try_from(kept.len()) {
        Ok(batch_bytes) if batch_bytes <= BATCH_BYTES_MAX => {
            let header = BatchHeader { batch_bytes, record_count, max_timestamp, ..header };
            Ok(Left::Some(summed(header, kept)))
        }
        Ok(_) | Err(_) => Ok(Left::Everything),
    }
}

/// A batch without its records: it takes the same offsets, and says which sequences its producer has used. It has no
/// codec, as Kafka's empty batches, since no codec has to be able to unpack nothing.
#[must_use]
pub fn emptied(header: &BatchHeader) -> Bytes {
    let attributes = header.attributes.without_codec();
    // Of a batch of which some records were dropped before, the greatest timestamp is another than of the whole one.
    let is_log_append_time = attributes.is_log_append_time();
    let max_timestamp = if is_log_append_time { header.max_timestamp } else { header.base_timestamp };
    let batch_bytes = u32::try_from(HEADER_BYTES).expect("a header is small");
    let header = BatchHeader { batch_bytes, attributes, record_count: 0, max_timestamp, ..*header };
    summed(header, vec![0; HEADER_BYTES])
}

/// The batch whose records stand in `batch` after the room for its header, with its checksum.
fn summed(mut header: BatchHeader, mut batch: Vec<u8>) -> Bytes {
    batch[..HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[..HEADER_BYTES].copy_from_slice(&header.encode());
    batch.into()
}
