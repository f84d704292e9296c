//! What a group's leader tells all replicas to do with the log itself: the payload of an entry of kind *command*.
//!
//! ```text
//! u16 version (1), u8 tag and
//!   1 Compact  u64 through, u64 end offset, u64 tombstones before, u64 start offset
//!   2 TrimTo   u64 offset: asked for
//!   3 Producers  see `producers`
//!   4 TrimTo   u64 offset, u8 reason: 1 age, 2 size
//! ```
//!
//! Integers are little-endian, and there is one encoding of each command. A new tag or field needs a new version and a
//! feature level that allows it (DESIGN D12).

use crate::cursor::{Reader, Writer};
use crate::ids::{Index, Offset};
use crate::payload::PayloadError;
use crate::producers::{self, ProducerState};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One order to all replicas of a group, carried out by each once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep of the records at or below `through` each key's last one (docs/decisions/0007).
    Compact {
        /// The compaction point. It is committed before this is proposed, so it is below this entry.
        through: Index,
        /// The offset after the last record at or below `through`.
        end_offset: Offset,
        /// Tombstones below go, too. Invariant: never less than in an earlier command of the same log.
        tombstones_before: Offset,
        /// The first offset that readers are given, as the leader knew it: so that no `TrimTo` at or below `through`
        /// has to be kept.
        start_offset: Offset,
    },
    /// Records below `offset` are deleted: readers do not see them from here on, and their segments may go.
    TrimTo {
        /// The first offset that stays. At most the high watermark when this is proposed.
        offset: Offset,
        /// Why.
        reason: TrimReason,
    },
    /// What the log below says of idempotent producers, all of it: what goes from the log below is not forgotten with it
    /// (docs/decisions/0008). Where the log below is whole it changes nothing.
    Producers {
        /// Every producer that is known. Invariant: ascending by id, at most
        /// [`PRODUCERS_MAX`](crate::limits::PRODUCERS_MAX).
        producers: Arc<[ProducerState]>,
    },
}

/// Why records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimReason {
    /// A client wanted it (Kafka's DeleteRecords).
    Asked,
    /// They are older than `retention.ms`.
    Age,
    /// `retention.bytes` are left without them.
    Size,
}

impl core::fmt::Display for TrimReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Asked => "deleted by request",
            Self::Age => "retention.ms",
            Self::Size => "retention.bytes",
        })
    }
}

/// The layout described above.
pub const VERSION: u16 = 1;

impl Command {
    /// Encodes the command.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u16(VERSION);
        match self {
            Self::Compact { through, end_offset, tombstones_before, start_offset } => {
                writer.u8(TAG_COMPACT);
                writer.u64(through.0);
                writer.u64(end_offset.0);
                writer.u64(tombstones_before.0);
                writer.u64(start_offset.0);
            }
            Self::TrimTo { offset, reason } => {
                let reason = match reason {
                    TrimReason::Asked => None,
                    TrimReason::Age => Some(REASON_AGE),
                    TrimReason::Size => Some(REASON_SIZE),
                };
                writer.u8(reason.map_or(TAG_TRIM_TO, |_| TAG_OUTLIVED));
                writer.u64(offset.0);
                if let Some(reason) = reason {
                    writer.u8(reason);
                }
            }
            Self::Producers { producers } => {
                writer.u8(TAG_PRODUCERS);
                producers::encode(&mut writer, producers);
            }
        }
        writer.into_bytes()
    }

    /// Whether no record of the log below may stand in one segment with this command, where the offset is `next_offset`:
    /// all of them may go because of it. `payload` is a start of its encoding, of [`PREFIX_BYTES`] at least; the rest is
    /// not looked at.
    #[must_use]
    pub fn stands_before_records(payload: &[u8], next_offset: Offset) -> bool {
        let mut reader = Reader::new(payload);
        if reader.u16() != Ok(VERSION) {
            return false;
        }
        match reader.u8() {
            Ok(TAG_PRODUCERS) => true,
            Ok(TAG_TRIM_TO | TAG_OUTLIVED) => reader.u64() == Ok(next_offset.0),
            Ok(_) | Err(_) => false,
        }
    }

    /// Decodes a command; `bytes` holds it and no more.
    ///
    /// # Errors
    /// Says what is malformed or not known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(bytes);
        match reader.u16()? {
            VERSION => {}
            found => return Err(PayloadError::Version { found }),
        }
        let command = match reader.u8()? {
            TAG_COMPACT => Self::Compact {
                through: Index(reader.u64()?),
                end_offset: Offset(reader.u64()?),
                tombstones_before: Offset(reader.u64()?),
                start_offset: Offset(reader.u64()?),
            },
            TAG_TRIM_TO => Self::TrimTo { offset: Offset(reader.u64()?), reason: TrimReason::Asked },
            TAG_OUTLIVED => {
                let offset = Offset(reader.u64()?);
                let reason = match reader.u8()? {
                    REASON_AGE => TrimReason::Age,
                    REASON_SIZE => TrimReason::Size,
                    found => return Err(PayloadError::TrimReason { found }),
                };
                Self::TrimTo { offset, reason }
            }
            TAG_PRODUCERS => Self::Producers { producers: producers::decode(&mut reader)?.into() },
            found => return Err(PayloadError::Command { found }),
        };
        reader.finish()?;
        Ok(command)
    }
}

/// What of an encoding [`Command::stands_before_records`] looks at, at most.
pub const PREFIX_BYTES: usize = 11;

const TAG_COMPACT: u8 = 1;
const TAG_TRIM_TO: u8 = 2;
const TAG_PRODUCERS: u8 = 3;
const TAG_OUTLIVED: u8 = 4;

const REASON_AGE: u8 = 1;
const REASON_SIZE: u8 = 2;
