//! The Kafka record batch (v2, magic 2): the payload of every data entry, and what clients send and get.
//!
//! A batch is a 61-byte header and its records. All fixed integers are big-endian:
//!
//! ```text
//!  0  i64  base offset            stamped by the leader; 0 from a client
//!  8  i32  batch length           bytes after this field
//! 12  i32  partition leader epoch stamped by the leader
//! 16  i8   magic                  2
//! 17  u32  crc                    CRC-32C of bytes 21 to the end
//! 21  i16  attributes             bits 0-2 codec, 3 log append time, 4 transactional, 5 control
//! 23  i32  last offset delta      record count - 1, as it was sent
//! 27  i64  base timestamp         milliseconds since the epoch
//! 35  i64  max timestamp
//! 43  i64  producer id            -1: none
//! 51  i16  producer epoch
//! 53  i32  base sequence
//! 57  i32  record count           may be less in a compacted log, even 0
//! 61       records                as one compressed run if a codec is named
//! ```
//!
//! The fields that the leader stamps are not under the checksum, so a batch goes from the client's socket to the
//! disks of all replicas and on to consumers without being copied or summed again ([`stamped`]). Only a topic that takes
//! the broker's time of append pays for a new checksum, once, on the leader.
//!
//! In reading order: this file ([`BatchHeader`], stamping, splitting), [`error`], [`record`] (the records of an
//! unpacked batch), and with feature `std` `validate` (what a broker accepts), `append_time`, `view`, `builder`,
//! [`compact`] (what compaction leaves of a batch), `compression`.

use crate::cursor::Reader;
use crate::entry::{BatchInfo, ProducerBatch};
use crate::ids::{Offset, ProducerId, Term};
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::time::Timestamp;
use bytes::Bytes;

pub mod error;
pub mod record;

#[cfg(feature = "std")]
mod append_time;
#[cfg(feature = "std")]
mod builder;
#[cfg(feature = "std")]
pub mod compact;
#[cfg(feature = "std")]
mod compression;
#[cfg(feature = "std")]
mod validate;
#[cfg(feature = "std")]
mod view;

#[cfg(feature = "std")]
pub use append_time::append_time_stamped;
#[cfg(feature = "std")]
pub use builder::Builder;
pub use error::{BatchError, RecordError};
pub use record::{Header, Headers, Record, Records};
#[cfg(feature = "std")]
pub use validate::{check_crc, validate};
#[cfg(feature = "std")]
pub use view::BatchView;

/// The size of a batch header, and so of the smallest thing that may be a batch.
pub const HEADER_BYTES: usize = 61;

/// The leading bytes that the leader rewrites: base offset, batch length (kept), leader epoch.
pub const STAMP_BYTES: usize = 16;

/// Where the bytes under the checksum begin.
pub const CRC_FROM: usize = 21;

/// The only record format that is taken.
pub const MAGIC: u8 = 2;

/// The base offset and the batch length come before the bytes that the length counts.
const LENGTH_COUNTS_FROM: u32 = 12;

/// A batch's header, decoded and range-checked; the checksum was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first record's offset; 0 before the leader has stamped it.
    pub base_offset: Offset,
    /// The whole batch's size, from its first byte to its last.
    pub batch_bytes: u32,
    /// The term of the leader that appended it; -1 from most clients.
    pub leader_epoch: i32,
    /// CRC-32C of everything from [`CRC_FROM`] on, as stored.
    pub crc: u32,
    /// Flags and codec.
    pub attributes: Attributes,
    /// How many offsets it takes: the records that it was sent with. Invariant: 1 to [`BATCH_RECORDS_MAX`].
    pub offset_count: u32,
    /// Records in it. Invariant: at most `offset_count`; less only if compaction dropped some.
    pub record_count: u32,
    /// The first record's timestamp.
    pub base_timestamp: Timestamp,
    /// The greatest timestamp in it, by its producer's word.
    pub max_timestamp: Timestamp,
    /// Who sent it, if that producer is idempotent.
    pub producer: Option<ProducerBatch>,
}

/// How the records are packed, by Kafka's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// Records stand as they are.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of xerial's snappy-java.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

impl Codec {
    /// The name that people and configs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// The attributes field of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u16);

impl Attributes {
    /// A plain batch packed by `codec`.
    #[must_use]
    pub const fn of_codec(codec: Codec) -> Self {
        Self(codec as u16)
    }

    /// The field as it stands in the header.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// How the records are packed.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for the numbers 5 to 7. A decoded [`BatchHeader`] never has them.
    pub const fn codec(self) -> Result<Codec, BatchError> {
        match self.0 & 0x7 {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            found => Err(BatchError::Codec { found }),
        }
    }

    /// Whether every record's timestamp is the batch's greatest: the broker's time of append, not the client's.
    #[must_use]
    pub const fn is_log_append_time(self) -> bool {
        self.0 & 0x8 != 0
    }

    /// The same, but with the broker's time of append for every record.
    #[must_use]
    pub const fn with_log_append_time(self) -> Self {
        Self(self.0 | 0x8)
    }

    /// The same, but for records that stand as they are.
    #[cfg(feature = "std")]
    const fn without_codec(self) -> Self {
        Self(self.0 & !0x7)
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// Whether it is a transaction's end marker and no data.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & 0x20 != 0
    }
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// Says which field is wrong, with the value found and what would be right.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let mut reader =
            Reader::new(bytes.get(..HEADER_BYTES).ok_or(BatchError::Truncated {
                needed: HEADER_BYTES as u64,
                available: bytes.len() as u64,
            })?);
        let base_offset = i64::from_be_bytes(reader.array()?);
        let batch_bytes = batch_bytes(bytes)?;
        reader.bytes(size_of::<i32>())?;
        let leader_epoch = i32::from_be_bytes(reader.array()?);
        let magic = reader.u8()?;
        if magic != MAGIC {
            return Err(BatchError::Magic { found: magic });
        }
        let crc = u32::from_be_bytes(reader.array()?);
        let attributes = Attributes(u16::from_be_bytes(reader.array()?));
        attributes.codec()?;
        let last_offset_delta = i32::from_be_bytes(reader.array()?);
        let base_timestamp = Timestamp(i64::from_be_bytes(reader.array()?));
        let max_timestamp = Timestamp(i64::from_be_bytes(reader.array()?));
        let producer_id = i64::from_be_bytes(reader.array()?);
        let producer_epoch = i16::from_be_bytes(reader.array()?);
        let base_sequence = i32::from_be_bytes(reader.array()?);
        let record_count = i32::from_be_bytes(reader.array()?);
        let (record_count, offset_count) = check_counts(record_count, last_offset_delta)?;
        Ok(Self {
            base_offset: u64::try_from(base_offset)
                .map(Offset)
                .map_err(|_| BatchError::BaseOffset { found: base_offset })?,
            batch_bytes,
            leader_epoch,
            crc,
            attributes,
            offset_count,
            record_count,
            base_timestamp,
            max_timestamp,
            producer: check_producer(producer_id, producer_epoch, base_sequence)?,
        })
    }

    /// Encodes the header; the mirror image of [`BatchHeader::decode`].
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let last_offset_delta = self.offset_count.saturating_sub(1);
        let (producer_id, producer_epoch, base_sequence) = match self.producer {
            Some(producer) => (producer.id.0, producer.epoch, producer.base_sequence),
            // Kafka's -1, field by field.
            None => (u64::MAX, u16::MAX, u32::MAX),
        };
        let mut bytes = [0; HEADER_BYTES];
        bytes[..STAMP_BYTES].copy_from_slice(&stamp(self.base_offset, self.leader_epoch, self.batch_bytes));
        bytes[16] = MAGIC;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// What partitions decide by.
    #[must_use]
    pub const fn info(&self) -> BatchInfo {
        BatchInfo {
            batch_bytes: self.batch_bytes,
            record_count: self.offset_count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
        }
    }

    /// The offset after the last one that the batch takes.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset + u64::from(self.offset_count)
    }
}

/// The size of the batch at the start of `bytes`, by its own word, checked against the bounds but not against
/// what is there.
fn batch_bytes(bytes: &[u8]) -> Result<u32, BatchError> {
    let mut reader = Reader::new(bytes);
    reader.bytes(size_of::<i64>())?;
    let length = i32::from_be_bytes(reader.array()?);
    let batch_bytes = i64::from(length) + i64::from(LENGTH_COUNTS_FROM);
    if batch_bytes < HEADER_BYTES as i64 {
        return Err(BatchError::Length { found: length });
    }
    match u32::try_from(batch_bytes) {
        Ok(batch_bytes) if batch_bytes <= BATCH_BYTES_MAX => Ok(batch_bytes),
        Ok(_) | Err(_) => {
            Err(BatchError::TooLarge { found: batch_bytes.unsigned_abs(), max: BATCH_BYTES_MAX })
        }
    }
}

/// The counts of records and of offsets. A batch with fewer records than offsets is one that compaction left;
/// `validate` takes none from a client.
fn check_counts(record_count: i32, last_offset_delta: i32) -> Result<(u32, u32), BatchError> {
    let records = u32::try_from(record_count)
        .ok()
        .filter(|records| *records <= BATCH_RECORDS_MAX)
        .ok_or(BatchError::RecordCount { found: record_count })?;
    let offsets = u32::try_from(last_offset_delta).ok().map(|last| last.saturating_add(1));
    offsets
        .filter(|offsets| (records.max(1)..=BATCH_RECORDS_MAX).contains(offsets))
        .map(|offsets| (records, offsets))
        .ok_or(BatchError::LastOffsetDelta { record_count, last_offset_delta })
}

fn check_producer(id: i64, epoch: i16, base_sequence: i32) -> Result<Option<ProducerBatch>, BatchError> {
    // Without a producer id the other two say nothing: Kafka's own client sends -1, others 0.
    if id == -1 {
        return Ok(None);
    }
    match (u64::try_from(id), u16::try_from(epoch), u32::try_from(base_sequence)) {
        (Ok(id), Ok(epoch), Ok(base_sequence)) => {
            Ok(Some(ProducerBatch { id: ProducerId(id), epoch, base_sequence }))
        }
        _ => Err(BatchError::Producer { id, epoch, base_sequence }),
    }
}

/// The first [`STAMP_BYTES`] of a batch. They are outside the batch's checksum.
fn stamp(base_offset: Offset, leader_epoch: i32, batch_bytes: u32) -> [u8; STAMP_BYTES] {
    let length = batch_bytes - LENGTH_COUNTS_FROM;
    let mut bytes = [0; STAMP_BYTES];
    bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes
}

/// A validated batch as its leader appends it: stamped with its first record's offset and the leader's term, in two
/// parts that belong back to back. Only the first [`STAMP_BYTES`] are new; the second part is the client's bytes.
///
/// # Panics
/// If `batch` is shorter than a header: the caller has validated it.
#[must_use]
pub fn stamped(batch: &Bytes, base_offset: Offset, term: Term) -> [Bytes; 2] {
    assert!(batch.len() >= HEADER_BYTES, "a validated batch has a header");
    let batch_bytes = u32::try_from(batch.len()).expect("a validated batch is within the bound");
    let stamp = stamp(base_offset, term.leader_epoch(), batch_bytes);
    [Bytes::copy_from_slice(&stamp), batch.slice(STAMP_BYTES..)]
}

/// The first of the batches that stand back to back in `bytes`; advance by its length to find the one after it.
/// `None` at the end. Nothing but the length is looked at.
///
/// # Errors
/// In place of the batch if the length is out of bounds or the batch is not all there; what follows cannot be found.
#[must_use]
pub fn next(bytes: &Bytes) -> Option<Result<Bytes, BatchError>> {
    if bytes.is_empty() {
        return None;
    }
    Some(batch_bytes(bytes).and_then(|size| {
        let size = size as usize;
        if size > bytes.len() {
            return Err(BatchError::Truncated { needed: size as u64, available: bytes.len() as u64 });
        }
        Ok(bytes.slice(..size))
    }))
}
