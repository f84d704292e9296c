//! Makes record batches, as producers send them.

use super::record::Header;
use super::{Attributes, BatchError, BatchHeader, CRC_FROM, Codec, HEADER_BYTES, compression};
use crate::cursor::Writer;
use crate::entry::ProducerBatch;
use crate::ids::Offset;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_HEADERS_MAX};
use crate::time::Timestamp;
use bytes::Bytes;

/// Collects records into one batch with base offset 0.
///
/// The bounds hold for the records before they are packed, so that a batch that was built is never refused for what
/// it unpacks to.
#[derive(Clone, Debug)]
pub struct Builder {
    codec: Codec,
    producer: Option<ProducerBatch>,
    record_count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    /// Room for the header, then the records.
    writer: Writer,
}

impl Builder {
    /// An empty batch whose records will be packed by `codec`.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            producer: None,
            record_count: 0,
            base_timestamp: Timestamp::default(),
            max_timestamp: Timestamp::default(),
            writer: Writer::after(vec![0; HEADER_BYTES]),
        }
    }

    /// Marks the batch as an idempotent producer's (KIP-98).
    pub const fn set_producer(&mut self, producer: ProducerBatch) {
        self.producer = Some(producer);
    }

    /// Adds a record at the end.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] or [`BatchError::RecordCount`] if the batch is full, [`BatchError::Record`] if the
    /// record can be in no batch. The batch is as it was then.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BatchError> {
        let at = self.record_count;
        let offset_delta = i32::try_from(at).expect("the bound on record counts fits 31 bits");
        if at == BATCH_RECORDS_MAX {
            return Err(BatchError::RecordCount { found: offset_delta + 1 });
        }
        let base_timestamp = if at == 0 { timestamp } else { self.base_timestamp };
        let refuse = |reason| BatchError::Record { at, reason };
        let timestamp_delta = timestamp.0.checked_sub(base_timestamp.0);
        let timestamp_delta = timestamp_delta.ok_or_else(|| refuse(super::RecordError::Timestamp))?;
        if headers.len() > RECORD_HEADERS_MAX as usize {
            let found = i32::try_from(headers.len()).unwrap_or(i32::MAX);
            return Err(refuse(super::RecordError::HeaderCount { found }));
        }
        let body_bytes = body_bytes(timestamp_delta, offset_delta, key, value, headers);
        let total = self.writer.len().saturating_add(varint_bytes(body_bytes)).saturating_add(body_bytes);
        if total > BATCH_BYTES_MAX as usize {
            return Err(BatchError::TooLarge { found: total as u64, max: BATCH_BYTES_MAX });
        }
        self.write(body_bytes, timestamp_delta, offset_delta, key, value, headers);
        debug_assert_eq!(self.writer.len(), total, "a record takes the size that was computed for it");
        self.record_count += 1;
        self.max_timestamp = if at == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.base_timestamp = base_timestamp;
        Ok(())
    }

    /// Records so far.
    #[must_use]
    pub const fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether there are no records yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The batch's size if it were built now without packing; packing only makes it smaller.
    #[must_use]
    pub const fn batch_bytes(&self) -> usize {
        self.writer.len()
    }

    /// The most that a record adds to a batch: for deciding beforehand whether it still fits.
    #[must_use]
    pub fn record_bytes_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
        let body_bytes = body_bytes(i64::MIN, i32::MIN, key, value, headers);
        body_bytes.saturating_add(varint_bytes(body_bytes))
    }

    /// The finished batch.
    ///
    /// # Panics
    /// If there are no records: there is no empty batch.
    #[must_use]
    pub fn build(self) -> Bytes {
        assert!(self.record_count > 0, "a batch has at least one record");
        let mut batch = self.writer.into_bytes();
        let mut codec = self.codec;
        if codec != Codec::None {
            let packed = compression::pack(codec, &batch[HEADER_BYTES..]);
            if packed.len() < batch.len() - HEADER_BYTES {
                batch.truncate(HEADER_BYTES);
                batch.extend_from_slice(&packed);
            } else {
                codec = Codec::None;
            }
        }
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_bytes: u32::try_from(batch.len()).expect("pushing keeps to the bound"),
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::of_codec(codec),
            offset_count: self.record_count,
            record_count: self.record_count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
        };
        batch[..HEADER_BYTES].copy_from_slice(&header.encode());
        header.crc = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[..HEADER_BYTES].copy_from_slice(&header.encode());
        batch.into()
    }

    fn write(
        &mut self,
        body_bytes: usize,
        timestamp_delta: i64,
        offset_delta: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        let writer = &mut self.writer;
        put_size(writer, body_bytes);
        // The record's attributes: none are defined.
        writer.u8(0);
        writer.varlong(timestamp_delta);
        writer.varint(offset_delta);
        put_optional(writer, key);
        put_optional(writer, value);
        put_size(writer, headers.len());
        for header in headers {
            put_optional(writer, Some(header.name));
            put_optional(writer, header.value);
        }
    }
}

/// The size of a record after its own size field.
fn body_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let fixed = 1 + zigzag_bytes(timestamp_delta) + zigzag_bytes(i64::from(offset_delta));
    let headers_bytes = headers.iter().fold(varint_bytes(headers.len()), |sum, header| {
        sum.saturating_add(optional_bytes(Some(header.name))).saturating_add(optional_bytes(header.value))
    });
    fixed
        .saturating_add(optional_bytes(key))
        .saturating_add(optional_bytes(value))
        .saturating_add(headers_bytes)
}

fn optional_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| bytes.len().saturating_add(varint_bytes(bytes.len())))
}

/// What a size takes as a varint.
fn varint_bytes(size: usize) -> usize {
    zigzag_bytes(i64::try_from(size).unwrap_or(i64::MAX))
}

/// What a varint or varlong takes: seven bits a byte of the zigzag form.
fn zigzag_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = u64::BITS - (zigzag | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn put_size(writer: &mut Writer, size: usize) {
    writer.varint(i32::try_from(size).expect("sizes within a batch fit 31 bits"));
}

fn put_optional(writer: &mut Writer, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_size(writer, bytes.len());
            writer.bytes(bytes);
        }
        None => writer.varint(-1),
    }
}
