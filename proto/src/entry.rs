//! The log entry: one byte layout for disk and peers (`storage/FORMAT.md`).
//!
//! An entry is a 48-byte header and a payload. All integers are little-endian:
//!
//! ```text
//!  0  u32  crc            CRC-32 of bytes 4..48 and of the payload
//!  4  u16  magic          0x4c52 ("RL")
//!  6  u8   version        1
//!  7  u8   kind           EntryKind, never 0
//!  8  u64  term
//! 16  u64  index
//! 24  u64  base_offset    of the first record; where record_count is 0, the next record's
//! 32  u32  record_count   the offsets that it takes
//! 36  u32  payload_bytes
//! 40  u64  group          so that a misdirected write is recognised
//! ```
//!
//! The header's first eight bytes are never all zero, so zero-filled space is told from an entry.

use crate::batch::BatchError;
use crate::command::Command;
use crate::ids::{EntryId, GroupId, Index, Membership, Offset, ProducerId, Term};
use crate::metadata::MetadataRecord;
use crate::payload::PayloadError;
use crate::time::Timestamp;
use alloc::vec::Vec;

pub mod gap;
mod info;

pub use info::{begins_whole, decode_run};

/// What an entry is, as the log and the wire see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The group whose log this entry belongs to.
    pub group: GroupId,
    /// Its name for ever.
    pub id: EntryId,
    /// What it carries.
    pub kind: EntryKind,
    /// The offset of its first record; for an entry without records, of the next record.
    pub base_offset: Offset,
    /// How many offsets it takes; after compaction fewer records may be left. Invariant: 0 unless `kind` is
    /// [`EntryKind::Data`] or [`EntryKind::Gap`].
    pub record_count: u32,
    /// The payload's size. Bound: [`crate::limits::ENTRY_PAYLOAD_BYTES_MAX`].
    pub payload_bytes: u32,
}

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: a leader's first entry (Raft §5.4.2).
    NoOp = 1,
    /// Exactly one Kafka record batch (v2), its base offset and leader epoch stamped.
    Data = 2,
    /// A [`Membership`].
    Membership = 3,
    /// A list of [`MetadataRecord`]s: group 0 only.
    Metadata = 4,
    /// A [`Command`]: partitions only.
    Command = 5,
    /// In place of entries that compaction dropped: it takes their indexes and offsets and says nothing. Readers see one
    /// for each index, without a payload; on the disk one may stand for a run of them (see [`gap`]).
    Gap = 6,
}

/// An entry as the thinking parts see it: the header, and of the payload only what decisions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// The header as it stands in the log.
    pub header: EntryHeader,
    /// What decisions need of the payload.
    pub body: EntryBody,
}

/// The part of a payload that decisions need. Record bytes are never in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    /// Kind [`EntryKind::NoOp`].
    NoOp,
    /// Kind [`EntryKind::Data`]: the batch header's facts.
    Data(BatchInfo),
    /// Kind [`EntryKind::Membership`].
    Membership(Membership),
    /// Kind [`EntryKind::Metadata`].
    Metadata(Vec<MetadataRecord>),
    /// Kind [`EntryKind::Command`].
    Command(Command),
    /// Kind [`EntryKind::Gap`].
    Gap {
        /// How many offsets the dropped entry took.
        offsets: u32,
    },
}

/// The facts of a validated record batch (v2) that partitions decide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// The whole batch's size, from its base offset field to its last record.
    pub batch_bytes: u32,
    /// How many offsets it takes, at least 1: the records that its producer sent. After compaction fewer may be left.
    pub record_count: u32,
    /// The first record's timestamp.
    pub base_timestamp: Timestamp,
    /// The greatest timestamp in it.
    pub max_timestamp: Timestamp,
    /// Who sent it, if that producer is idempotent.
    pub producer: Option<ProducerBatch>,
}

/// An idempotent producer's stamp on a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch; a lower one than the latest seen is fenced.
    pub epoch: u16,
    /// The first record's sequence number, 0 to `i32::MAX`, after which it wraps to 0.
    pub base_sequence: u32,
}

/// The size of an encoded [`EntryHeader`].
pub const HEADER_BYTES: usize = 48;

/// "RL" as a little-endian integer.
pub const MAGIC: u16 = 0x4c52;

/// The layout described above.
pub const VERSION: u8 = 1;

impl EntryHeader {
    /// The size of the whole entry: header and payload.
    #[must_use]
    pub const fn entry_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.payload_bytes as u64
    }

    /// The offset after this entry's last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset + u64::from(self.record_count)
    }

    /// Encodes the header for a payload given as consecutive `parts`, with the checksum over both.
    ///
    /// # Panics
    /// If the parts do not add up to `payload_bytes`: a bug of the caller.
    #[must_use]
    pub fn encode(&self, parts: &[&[u8]]) -> [u8; HEADER_BYTES] {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert_eq!(
            total, self.payload_bytes as usize,
            "payload parts must add up to the header's payload size"
        );
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[6] = VERSION;
        bytes[7] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.id.term.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.index.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.group.0.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[4..]);
        for part in parts {
            hasher.update(part);
        }
        bytes[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
        bytes
    }

    /// Decodes and range-checks the header at the start of `bytes`. The checksum is not looked at: see
    /// [`EntryHeader::verify`].
    ///
    /// # Errors
    /// Says which field is wrong, and both values where two disagree.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let bytes: &[u8; HEADER_BYTES] = bytes
            .get(..HEADER_BYTES)
            .and_then(|head| head.try_into().ok())
            .ok_or(EntryError::Truncated { needed: HEADER_BYTES as u64, available: bytes.len() as u64 })?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] == [0; 8] {
            return Err(EntryError::Empty);
        }
        let magic = u16::from_le_bytes([bytes[4], bytes[5]]);
        if magic != MAGIC {
            return Err(EntryError::Magic { found: magic });
        }
        if bytes[6] != VERSION {
            return Err(EntryError::Version { found: bytes[6] });
        }
        let kind = match bytes[7] {
            1 => EntryKind::NoOp,
            2 => EntryKind::Data,
            3 => EntryKind::Membership,
            4 => EntryKind::Metadata,
            5 => EntryKind::Command,
            6 => EntryKind::Gap,
            found => return Err(EntryError::Kind { found }),
        };
        let header = Self {
            group: GroupId(u64_at(40)),
            id: EntryId::new(Term(u64_at(8)), Index(u64_at(16))),
            kind,
            base_offset: Offset(u64_at(24)),
            record_count: u32_at(32),
            payload_bytes: u32_at(36),
        };
        header.check_ranges()?;
        Ok(header)
    }

    /// Checks the checksum of a whole encoded entry, `bytes` being header and payload and no more.
    ///
    /// # Errors
    /// [`EntryError::Crc`] with both values, or what [`EntryHeader::decode`] says.
    pub fn verify(bytes: &[u8]) -> Result<Self, EntryError> {
        let header = Self::decode(bytes)?;
        if bytes.len() as u64 != header.entry_bytes() {
            return Err(EntryError::Truncated {
                needed: header.entry_bytes(),
                available: bytes.len() as u64,
            });
        }
        let stored = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let computed = crc32fast::hash(&bytes[4..]);
        if stored != computed {
            return Err(EntryError::Crc { stored, computed });
        }
        Ok(header)
    }

    fn check_ranges(&self) -> Result<(), EntryError> {
        if self.id.term.0 == 0 || self.id.term.0 > crate::limits::TERM_MAX || self.id.index.0 == 0 {
            return Err(EntryError::Id { found: self.id });
        }
        if self.payload_bytes > crate::limits::ENTRY_PAYLOAD_BYTES_MAX {
            return Err(EntryError::PayloadTooLarge { found: self.payload_bytes });
        }
        let counts_fit = match self.kind {
            EntryKind::Data => (1..=crate::limits::BATCH_RECORDS_MAX).contains(&self.record_count),
            EntryKind::NoOp | EntryKind::Membership | EntryKind::Metadata | EntryKind::Command => {
                self.record_count == 0
            }
            EntryKind::Gap => self.payload_bytes > 0 || self.record_count <= crate::limits::BATCH_RECORDS_MAX,
        };
        if !counts_fit || self.base_offset.0 > i64::MAX as u64 - u64::from(u32::MAX) {
            return Err(EntryError::RecordCount { kind: self.kind, found: self.record_count });
        }
        Ok(())
    }
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Zero-filled space: the end of what was written.
    Empty,
    /// The bytes end within the entry.
    Truncated {
        /// Bytes that the entry takes, as far as known.
        needed: u64,
        /// Bytes that were there.
        available: u64,
    },
    /// Not an entry at all.
    Magic {
        /// What stands in its place.
        found: u16,
    },
    /// Written by a newer Raftline.
    Version {
        /// Its version; ours is [`VERSION`].
        found: u8,
    },
    /// A kind that this version does not know.
    Kind {
        /// Its number.
        found: u8,
    },
    /// Term 0, a term past [`crate::limits::TERM_MAX`], or index 0.
    Id {
        /// What stands there.
        found: EntryId,
    },
    /// Past [`crate::limits::ENTRY_PAYLOAD_BYTES_MAX`].
    PayloadTooLarge {
        /// The claimed size.
        found: u32,
    },
    /// A data entry that takes no offsets, or another kind with some.
    RecordCount {
        /// The entry's kind.
        kind: EntryKind,
        /// The claimed count.
        found: u32,
    },
    /// The bytes are not those that were written.
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The payload is not what the kind says.
    Payload {
        /// The entry's kind.
        kind: EntryKind,
        /// What is wrong with it.
        reason: PayloadError,
    },
    /// The payload is not a record batch.
    Batch(BatchError),
    /// The batch was stamped for another entry, or not at all.
    Stamp {
        /// The entry.
        id: EntryId,
        /// Which of the batch's fields does not fit the entry's header.
        what: &'static str,
        /// The header's value.
        header: u64,
        /// The batch's.
        batch: u64,
    },
}

impl core::fmt::Display for EntryError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Empty => write!(formatter, "no entry: zero-filled space"),
            Self::Truncated { needed, available } => {
                write!(formatter, "entry cut short: {needed} bytes needed, {available} there")
            }
            Self::Magic { found } => write!(formatter, "no entry: magic {found:#06x}, expected {MAGIC:#06x}"),
            Self::Version { found } => write!(
                formatter,
                "entry version {found} is newer than version {VERSION} known here: run a newer Raftline"
            ),
            Self::Kind { found } => {
                write!(formatter, "entry kind {found} is not known here: run a newer Raftline")
            }
            Self::Id { found } => write!(formatter, "entry id {found} is out of range"),
            Self::PayloadTooLarge { found } => write!(
                formatter,
                "payload of {found} bytes is over the bound of {}",
                crate::limits::ENTRY_PAYLOAD_BYTES_MAX
            ),
            Self::RecordCount { kind, found } => {
                write!(formatter, "an entry of kind {kind:?} cannot have {found} records")
            }
            Self::Crc { stored, computed } => {
                write!(formatter, "checksum mismatch: {stored:08x} stored, {computed:08x} computed")
            }
            Self::Payload { kind, reason } => {
                write!(formatter, "the payload is not a valid {kind:?}: {reason}")
            }
            Self::Batch(reason) => write!(formatter, "the payload is not a valid batch: {reason}"),
            Self::Stamp { id, what, header, batch } => {
                write!(formatter, "entry {id} has {what} {header}, but its batch has {batch}")
            }
        }
    }
}

impl core::error::Error for EntryError {}
