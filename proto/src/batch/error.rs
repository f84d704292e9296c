//! Why bytes are not a record batch that can be taken or read.

use super::Codec;
use crate::cursor::CursorError;
use crate::limits::BATCH_RECORDS_MAX;
use crate::time::Timestamp;
use core::fmt;

/// What is wrong with a batch. [`BatchError::is_corrupt`] tells damage from a well-formed batch that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end within the batch.
    Truncated {
        /// Bytes that the batch takes, as far as known.
        needed: u64,
        /// Bytes that were there.
        available: u64,
    },
    /// Bytes follow where one batch was expected.
    Trailing {
        /// The batch's own size.
        batch_bytes: u32,
        /// Bytes that were there.
        available: u64,
    },
    /// A length field too small for the header.
    Length {
        /// The field.
        found: i32,
    },
    /// Over the bound on batches.
    TooLarge {
        /// The size.
        found: u64,
        /// The bound.
        max: u32,
    },
    /// Another record format than v2.
    Magic {
        /// Its number.
        found: u8,
    },
    /// The bytes are not those that were summed.
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A negative base offset, or another than 0 from a client.
    BaseOffset {
        /// The field.
        found: i64,
    },
    /// A codec that does not exist.
    Codec {
        /// Its number.
        found: u16,
    },
    /// More records than the bound, fewer than none, or none from a client.
    RecordCount {
        /// The field.
        found: i32,
    },
    /// The last offset delta is less than the record count less one, or over the bound; or, from a client, not just
    /// that.
    LastOffsetDelta {
        /// The record count.
        record_count: i32,
        /// What does not fit it.
        last_offset_delta: i32,
    },
    /// Producer id, epoch and sequence do not go together.
    Producer {
        /// The producer id, not -1.
        id: i64,
        /// The epoch.
        epoch: i16,
        /// The base sequence.
        base_sequence: i32,
    },
    /// A transaction marker: clients may not write them.
    Control,
    /// Part of a transaction, which are not supported.
    Transactional,
    /// Attribute bits that a client may not set.
    Attributes {
        /// The field.
        found: u16,
    },
    /// One of the records is malformed.
    Record {
        /// Which, from 0.
        at: u32,
        /// What is wrong with it.
        reason: RecordError,
    },
    /// The packed records cannot be unpacked.
    Unpack {
        /// Packed how.
        codec: Codec,
    },
    /// The packed records unpack to more than the bound.
    UnpackedTooLarge {
        /// Packed how.
        codec: Codec,
        /// The bound.
        max: u64,
    },
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Cut short, or an integer that does not fit.
    Malformed(CursorError),
    /// A length below -1, or below 0 where nothing may be absent.
    Length {
        /// The field.
        found: i32,
    },
    /// Its fields do not fill the size that it states.
    Trailing {
        /// Bytes left over.
        bytes: u64,
    },
    /// Its offset delta is not its place in the batch, or in a compacted one, one that it may have there.
    OffsetDelta {
        /// The field.
        found: i32,
    },
    /// Its timestamp does not fit 64 bits.
    Timestamp,
    /// Its time is not one that the topic takes.
    TimestampRefused {
        /// The time.
        found: Timestamp,
        /// The first that is taken.
        first: Timestamp,
        /// The last that is taken.
        last: Timestamp,
    },
    /// It has no key, and is meant for a compacted topic.
    NoKey,
    /// More headers than [`crate::limits::RECORD_HEADERS_MAX`], or fewer than none.
    HeaderCount {
        /// The field.
        found: i32,
    },
    /// Bytes follow the last record.
    AfterLast {
        /// How many.
        bytes: u64,
    },
}

impl BatchError {
    /// Whether the bytes were damaged on their way (sending them again may help), and not refused for what they say.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. } | Self::Trailing { .. } | Self::Length { .. } | Self::Crc { .. }
        )
    }
}

impl From<CursorError> for BatchError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Truncated { needed, available } => Self::Truncated { needed, available },
            // The fixed header has no counts, texts or variable-length integers; records map their own errors.
            CursorError::Count { .. }
            | CursorError::Varint
            | CursorError::Text
            | CursorError::Trailing { .. } => Self::Record { at: 0, reason: RecordError::Malformed(error) },
        }
    }
}

impl From<CursorError> for RecordError {
    fn from(error: CursorError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, available } => {
                write!(formatter, "record batch cut short: {needed} bytes needed, {available} there")
            }
            Self::Trailing { batch_bytes, available } => {
                write!(formatter, "one record batch of {batch_bytes} bytes expected, {available} bytes there")
            }
            Self::Length { found } => {
                write!(formatter, "batch length {found} is too small for a batch header")
            }
            Self::TooLarge { found, max } => {
                write!(formatter, "record batch of {found} bytes is over the bound of {max}")
            }
            Self::Magic { found } => {
                write!(
                    formatter,
                    "record format {found} (magic) is not taken: send format 2, as of Kafka 0.11"
                )
            }
            Self::Crc { stored, computed } => {
                write!(formatter, "batch checksum mismatch: {stored:08x} stored, {computed:08x} computed")
            }
            Self::BaseOffset { found } => write!(
                formatter,
                "base offset {found}: a client sends 0, and the leader gives the offsets out"
            ),
            Self::Codec { found } => {
                write!(
                    formatter,
                    "codec {found} is not known: send 0 none, 1 gzip, 2 snappy, 3 lz4 or 4 zstd"
                )
            }
            Self::RecordCount { found } => {
                write!(formatter, "a batch has 1 to {BATCH_RECORDS_MAX} records, not {found}")
            }
            Self::LastOffsetDelta { record_count, last_offset_delta } => write!(
                formatter,
                "last offset delta {last_offset_delta} does not fit {record_count} records with dense offsets"
            ),
            Self::Producer { id, epoch, base_sequence } => write!(
                formatter,
                "producer id {id}, epoch {epoch} and base sequence {base_sequence} do not go together: none may be \
                 negative unless the id is -1"
            ),
            Self::Control => {
                write!(formatter, "a client may not write transaction markers (control batches)")
            }
            Self::Transactional => write!(formatter, "transactions are not supported: send plain batches"),
            Self::Attributes { found } => {
                write!(formatter, "a client may set no attributes but the codec, found {found:#06x}")
            }
            Self::Record { at, reason } => {
                write!(formatter, "record {at} of the batch is malformed: {reason}")
            }
            Self::Unpack { codec } => write!(formatter, "the records are not valid {codec}"),
            Self::UnpackedTooLarge { codec, max } => {
                write!(formatter, "the {codec} records unpack to more than the bound of {max} bytes")
            }
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(formatter, "{error}"),
            Self::Length { found } => write!(formatter, "length {found}"),
            Self::Trailing { bytes } => write!(formatter, "{bytes} bytes after its last field"),
            Self::OffsetDelta { found } => write!(formatter, "offset delta {found} is not its place"),
            Self::Timestamp => write!(formatter, "its timestamp does not fit 64 bits"),
            Self::TimestampRefused { found, first, last } => write!(
                formatter,
                "its timestamp {} is not within message.timestamp.before.max.ms and message.timestamp.after.max.ms: the \
                 topic takes {} to {} now",
                found.get(),
                first.get(),
                last.get()
            ),
            Self::NoKey => write!(formatter, "it has no key, and the topic is compacted by keys"),
            Self::HeaderCount { found } => write!(formatter, "{found} headers"),
            Self::AfterLast { bytes } => write!(formatter, "{bytes} bytes follow the last record"),
        }
    }
}

impl core::error::Error for BatchError {}
impl core::error::Error for RecordError {}

impl fmt::Display for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
