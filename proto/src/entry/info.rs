//! From entries to bytes and back: [`EntryInfo`], what the thinking parts see of an entry.

use super::{EntryBody, EntryError, EntryHeader, EntryInfo, EntryKind, HEADER_BYTES};
use crate::batch::BatchHeader;
use crate::command::Command;
use crate::cursor::Reader;
use crate::ids::{EntryId, GroupId, Offset};
use crate::payload;
use alloc::vec::Vec;
use bytes::Bytes;

impl EntryInfo {
    /// An entry to be appended; the header follows from the body.
    ///
    /// # Panics
    /// If the body has no encoding (see [`EntryBody::encode_payload`]).
    #[must_use]
    pub fn new(group: GroupId, id: EntryId, base_offset: Offset, body: EntryBody) -> Self {
        let header = EntryHeader {
            group,
            id,
            kind: body.kind(),
            base_offset,
            record_count: body.record_count(),
            payload_bytes: body.payload_bytes(),
        };
        Self { header, body }
    }

    /// Decodes what decisions need of an entry's `payload`, whose checksum was verified with the header. Of a data
    /// entry only the batch's header is read, which has to agree with the entry's: so a prefix of
    /// [`crate::batch::HEADER_BYTES`] is enough there.
    ///
    /// # Errors
    /// Says what in the payload does not fit its kind or its header.
    pub fn decode(header: EntryHeader, payload: &[u8]) -> Result<Self, EntryError> {
        let malformed = |reason| EntryError::Payload { kind: header.kind, reason };
        let body = match header.kind {
            EntryKind::NoOp => {
                Reader::new(payload).finish().map_err(|error| malformed(error.into()))?;
                EntryBody::NoOp
            }
            EntryKind::Data => EntryBody::Data(decode_batch(&header, payload)?.info()),
            EntryKind::Membership => {
                EntryBody::Membership(payload::decode_membership(payload).map_err(malformed)?)
            }
            EntryKind::Metadata => EntryBody::Metadata(payload::decode_metadata(payload).map_err(malformed)?),
            EntryKind::Command => EntryBody::Command(Command::decode(payload).map_err(malformed)?),
            EntryKind::Gap => {
                Reader::new(payload).finish().map_err(|error| malformed(error.into()))?;
                EntryBody::Gap { offsets: header.record_count }
            }
        };
        Ok(Self { header, body })
    }
}

/// The batch header at the start of a data entry's payload, checked against the entry's.
fn decode_batch(header: &EntryHeader, payload: &[u8]) -> Result<BatchHeader, EntryError> {
    let batch = BatchHeader::decode(payload).map_err(EntryError::Batch)?;
    let term = u64::try_from(batch.leader_epoch).unwrap_or(u64::MAX);
    let pairs = [
        ("payload size", u64::from(header.payload_bytes), u64::from(batch.batch_bytes)),
        ("record count", u64::from(header.record_count), u64::from(batch.offset_count)),
        ("base offset", header.base_offset.0, batch.base_offset.0),
        ("term", header.id.term.0, term),
    ];
    for (what, header_value, batch_value) in pairs {
        if header_value != batch_value {
            return Err(EntryError::Stamp { id: header.id, what, header: header_value, batch: batch_value });
        }
    }
    Ok(batch)
}

impl EntryBody {
    /// The kind that goes into the header.
    #[must_use]
    pub const fn kind(&self) -> EntryKind {
        match self {
            Self::NoOp => EntryKind::NoOp,
            Self::Data(_) => EntryKind::Data,
            Self::Membership(_) => EntryKind::Membership,
            Self::Metadata(_) => EntryKind::Metadata,
            Self::Command(_) => EntryKind::Command,
            Self::Gap { .. } => EntryKind::Gap,
        }
    }

    /// How many offsets it takes.
    #[must_use]
    pub const fn record_count(&self) -> u32 {
        match self {
            Self::Data(batch) => batch.record_count,
            Self::Gap { offsets } => *offsets,
            Self::NoOp | Self::Membership(_) | Self::Metadata(_) | Self::Command(_) => 0,
        }
    }

    /// The size of its payload.
    ///
    /// # Panics
    /// As [`EntryBody::encode_payload`].
    #[must_use]
    pub fn payload_bytes(&self) -> u32 {
        match self {
            Self::Data(batch) => batch.batch_bytes,
            Self::NoOp | Self::Gap { .. } => 0,
            Self::Membership(_) | Self::Metadata(_) | Self::Command(_) => {
                let payload = self.encode_payload().map_or(0, |payload| payload.len());
                u32::try_from(payload).expect("an encoded payload is within its bound")
            }
        }
    }

    /// The payload, for the kinds that follow from the body; `None` for a data entry, whose payload is its batch.
    ///
    /// # Panics
    /// If the body is over a bound of [`crate::limits`] or out of order: whoever made it had to refuse it, by asking
    /// [`payload::encode_membership`] or [`payload::encode_metadata`]. Writing it would make an entry that no replica
    /// can ever read.
    #[must_use]
    pub fn encode_payload(&self) -> Option<Vec<u8>> {
        match self {
            Self::NoOp | Self::Gap { .. } => Some(Vec::new()),
            Self::Data(_) => None,
            Self::Membership(membership) => {
                Some(payload::encode_membership(membership).expect("a membership within its bounds"))
            }
            Self::Metadata(records) => {
                Some(payload::encode_metadata(records).expect("metadata records within their bounds"))
            }
            Self::Command(command) => Some(command.encode()),
        }
    }
}

/// Verifies and decodes a run of whole entries that stand back to back, as peers send them.
///
/// # Errors
/// Whatever is wrong with the first entry that is not as it was written; none of the run is to be used then.
pub fn decode_run(bytes: &Bytes) -> Result<Vec<EntryInfo>, EntryError> {
    let mut rest: &[u8] = bytes;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let header = EntryHeader::decode(rest)?;
        let entry_bytes = usize::try_from(header.entry_bytes()).unwrap_or(usize::MAX);
        let Some((entry, after)) = rest.split_at_checked(entry_bytes) else {
            return Err(EntryError::Truncated { needed: header.entry_bytes(), available: rest.len() as u64 });
        };
        EntryHeader::verify(entry)?;
        entries.push(EntryInfo::decode(header, &entry[HEADER_BYTES..])?);
        rest = after;
    }
    Ok(entries)
}

/// Whether the bytes begin with a whole entry as some Raftline wrote it, this one or a newer: what [`decode_run`] says of
/// it is not damage then.
#[must_use]
pub fn begins_whole(bytes: &[u8]) -> bool {
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if bytes.len() < HEADER_BYTES {
        return false;
    }
    // Checksum and size stay where they are in every later version (storage/FORMAT.md).
    let entry_bytes = HEADER_BYTES as u64 + u64::from(u32_at(36));
    let entry = usize::try_from(entry_bytes).ok().and_then(|entry_bytes| bytes.get(..entry_bytes));
    entry.is_some_and(|entry| u32_at(0) == crc32fast::hash(&entry[4..]))
}
