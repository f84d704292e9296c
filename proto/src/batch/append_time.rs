//! The time of append (`message.timestamp.type=LogAppendTime`): one time for all records of a batch.

use super::{Attributes, CRC_FROM, HEADER_BYTES};
use crate::time::Timestamp;
use bytes::{Bytes, BytesMut};

/// A validated batch whose records all have the time `at`, whatever their producer said: the attribute bit and the
/// greatest timestamp say so, as Kafka does it, and nothing else changes. [`super::Records`] reads that time.
///
/// Both stand under the batch's checksum, which is made anew: this costs a pass over the batch, and a copy of it where
/// somebody else holds the same bytes.
///
/// # Panics
/// If `batch` is shorter than a header: the caller has validated it.
#[must_use]
pub fn append_time_stamped(batch: Bytes, at: Timestamp) -> Bytes {
    assert!(batch.len() >= HEADER_BYTES, "a validated batch has a header");
    let mut batch = batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let attributes = Attributes(u16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]));
    let attributes = attributes.with_log_append_time().get();
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&at.0.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

// Where the fields stand: see the module above.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
