//! One file of a log: its header, and what is known of it in memory.
//!
//! ```text
//!  0  u32  crc            CRC-32 of bytes 4..64
//!  4  u32  magic          0x4745_5352 ("RSEG")
//!  8  u16  version        1; 2 for a compacted segment
//! 10  u8   start          1: a log begins here, whatever came before; 0: goes on after `previous`
//! 11  u8   zero
//! 12  u32  zero
//! 16  u64  group
//! 24  u64  sequence       counts the segments of a log; also the file's name
//! 32  u64  base_index     the first entry's index; the entry before it is `previous`
//! 40  u64  base_offset    the first record's offset
//! 48  u64  previous_term  the term of entry base_index - 1
//! 56  u64  base_position  where byte 0 of this file lies in the log
//! 64       entries, back to back; then zeros
//! ```
//!
//! A compacted segment has 64 bytes more before its entries, and nothing after them:
//!
//! ```text
//!  64  u32  crc                CRC-32 of bytes 68..128
//!  68  u32  zero
//!  72  u64  last_sequence      the last segment in whose place it stands; the first one's is its own
//!  80  u64  up_to_index        one past its last entry
//!  88  u64  next_offset        the offset after its last record
//!  96  u64  end_position       where its end lies in the log
//! 104  u64  end                where its entries end in this file
//! 112  u64  clean_through      the log was compacted through this entry once this segment was in place
//! 120  u64  tombstones_before  and lost the tombstones below this offset
//! ```
//!
//! All integers are little-endian. The first 64 bytes keep this layout and checksum in every later version.

use crate::error::HeaderError;
use crate::index::SparseIndex;
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use raftline_proto::time::Timestamp;

/// The first 64 bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log this is.
    pub group: GroupId,
    /// Counts the segments of the log, from 1.
    pub sequence: u64,
    /// Whether it goes on where another ends.
    pub start: SegmentStart,
    /// The entry before its first. An earlier segment is valid up to this one.
    pub previous: EntryId,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Where byte 0 of the file lies in the log. Invariant: at or above every position of earlier segments.
    pub base_position: Position,
    /// What it covers, if it stands in the place of others that were compacted.
    pub compacted: Option<CompactedRange>,
}

/// What a compacted segment says of itself. Raw segments are valid as far as their bytes go; this one is whole, or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactedRange {
    /// The last segment in whose place it stands. The first one's sequence is its own.
    pub last_sequence: u64,
    /// One past its last entry.
    pub up_to: Index,
    /// The offset after its last record.
    pub next_offset: Offset,
    /// Where its end lies in the log. Its bytes are fewer than the positions that it covers.
    pub end_position: Position,
    /// Where its entries end in the file.
    pub end: u64,
    /// The log was compacted through this entry once this segment was in place; 0 if through none.
    pub clean_through: Index,
    /// And had lost the tombstones below this offset.
    pub tombstones_before: Offset,
}

/// How a segment relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentStart {
    /// It goes on after `previous`, which an earlier segment holds.
    Continues,
    /// The log begins here: it is the first one ever, or those before were trimmed away, or the log began anew.
    /// Earlier segments are void. The only byte of a header that ever changes (to this), when a log is trimmed.
    Begins,
}

/// The size of an encoded [`SegmentHeader`]: where entries start.
pub const SEGMENT_HEADER_BYTES: u64 = 64;

/// The same for a compacted segment.
pub const COMPACTED_HEADER_BYTES: u64 = 128;

const HEADER_BYTES: usize = 64;
const COMPACTED_BYTES: usize = 128;
const MAGIC: u32 = 0x4745_5352;

/// The newest segment format that is written and read here: that of compacted segments.
pub const SEGMENT_VERSION: u16 = 2;

/// The format of all others.
const RAW_VERSION: u16 = 1;

impl SegmentHeader {
    /// The index of the first entry.
    #[must_use]
    pub fn base_index(&self) -> Index {
        self.previous.index.next()
    }

    /// The file's name within the log's directory.
    #[must_use]
    pub fn file_name(&self) -> String {
        file_name(self.sequence)
    }

    /// Where its entries start in the file.
    #[must_use]
    pub const fn entries_at(&self) -> u64 {
        if self.compacted.is_some() { COMPACTED_HEADER_BYTES } else { SEGMENT_HEADER_BYTES }
    }

    /// The log position of a byte of the file. In a compacted segment that is so from its first entry on that was
    /// copied as it was, counted from the end; a byte before has some position of those that the segment covers.
    #[must_use]
    pub fn position(&self, at: u64) -> Position {
        match self.compacted {
            None => self.base_position + at,
            Some(range) => {
                let before_end = range.end_position.0.saturating_sub(range.end.saturating_sub(at));
                Position(before_end.max(self.base_position.0))
            }
        }
    }

    /// The last segment in whose place it stands; itself, as a rule.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.compacted.map_or(self.sequence, |range| range.last_sequence)
    }

    /// Encodes the header, with its checksums.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_first().to_vec();
        if let Some(range) = &self.compacted {
            let mut rest = [0; HEADER_BYTES];
            let fields = [
                range.last_sequence,
                range.up_to.0,
                range.next_offset.0,
                range.end_position.0,
                range.end,
                range.clean_through.0,
                range.tombstones_before.0,
            ];
            for (into, field) in rest[8..].chunks_exact_mut(8).zip(fields) {
                into.copy_from_slice(&field.to_le_bytes());
            }
            let crc = crc32(&rest[4..]);
            rest[..4].copy_from_slice(&crc.to_le_bytes());
            bytes.extend_from_slice(&rest);
        }
        bytes
    }

    fn encode_first(&self) -> [u8; HEADER_BYTES] {
        let version = if self.compacted.is_some() { SEGMENT_VERSION } else { RAW_VERSION };
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        bytes[10] = match self.start {
            SegmentStart::Continues => 0,
            SegmentStart::Begins => 1,
        };
        bytes[16..24].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base_index().0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous.term.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.base_position.0.to_le_bytes());
        let crc = crc32(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes and checks the header at the start of a file; of a compacted one, [`COMPACTED_HEADER_BYTES`] are needed.
    ///
    /// # Errors
    /// Says what is wrong, and both values where two disagree.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let whole = bytes;
        let bytes: &[u8; HEADER_BYTES] = bytes
            .get(..HEADER_BYTES)
            .and_then(|head| head.try_into().ok())
            .filter(|head| *head != &[0; HEADER_BYTES])
            .ok_or(HeaderError::Absent)?;
        let magic = u32_at(bytes, 4);
        if magic != MAGIC {
            return Err(HeaderError::Magic { found: magic });
        }
        let (stored, computed) = (u32_at(bytes, 0), crc32(&bytes[4..]));
        if stored != computed {
            return Err(HeaderError::Crc { stored, computed });
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let compacted = match version {
            RAW_VERSION => None,
            SEGMENT_VERSION => Some(CompactedRange::decode(whole)?),
            found => return Err(HeaderError::Version { found }),
        };
        let start = match bytes[10] {
            0 => SegmentStart::Continues,
            1 => SegmentStart::Begins,
            _ => return Err(HeaderError::Range("start")),
        };
        let base_index = Index(u64_at(bytes, 32));
        let previous_index = base_index.previous().ok_or(HeaderError::Range("base_index"))?;
        let base_offset = Offset(u64_at(bytes, 40));
        if base_offset.0 > i64::MAX as u64 {
            return Err(HeaderError::Range("base_offset"));
        }
        let base_position = Position(u64_at(bytes, 56));
        if base_position.0 > POSITION_MAX {
            return Err(HeaderError::Range("base_position"));
        }
        let header = Self {
            group: GroupId(u64_at(bytes, 16)),
            sequence: u64_at(bytes, 24),
            start,
            previous: EntryId::new(Term(u64_at(bytes, 48)), previous_index),
            base_offset,
            base_position,
            compacted,
        };
        match compacted {
            Some(range) if !range.fits(&header) => Err(HeaderError::Range("compacted range")),
            Some(_) | None => Ok(header),
        }
    }
}

impl CompactedRange {
    fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.get(HEADER_BYTES..COMPACTED_BYTES).ok_or(HeaderError::Absent)?;
        let (stored, computed) = (u32_at(bytes, 0), crc32(&bytes[4..]));
        if stored != computed {
            return Err(HeaderError::Crc { stored, computed });
        }
        Ok(Self {
            last_sequence: u64_at(bytes, 8),
            up_to: Index(u64_at(bytes, 16)),
            next_offset: Offset(u64_at(bytes, 24)),
            end_position: Position(u64_at(bytes, 32)),
            end: u64_at(bytes, 40),
            clean_through: Index(u64_at(bytes, 48)),
            tombstones_before: Offset(u64_at(bytes, 56)),
        })
    }

    /// Whether it goes on from where its header says that it begins.
    fn fits(&self, header: &SegmentHeader) -> bool {
        self.last_sequence >= header.sequence
            && self.up_to > header.previous.index
            && self.next_offset >= header.base_offset
            && self.end_position >= header.base_position
            && self.end_position.0 <= POSITION_MAX
            && self.end >= COMPACTED_HEADER_BYTES
    }
}

/// Positions stay far enough from the end of `u64` for sums of a file's bytes to be safe.
pub const POSITION_MAX: u64 = u64::MAX / 2;

/// The name of the file of segment `sequence`.
#[must_use]
pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The sequence in a segment file's name; `None` for other files.
#[must_use]
pub fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

const SUFFIX: &str = ".segment";

/// A segment that belongs to the log as it is now.
#[derive(Clone)]
pub(crate) struct Segment {
    /// As on the disk.
    pub(crate) header: SegmentHeader,
    /// One past the last entry of the present view. For all but the last segment, the next one's base index.
    pub(crate) up_to: Index,
    /// The file offset after the last entry of the present view.
    pub(crate) end: u64,
    /// The offset after the last record of the present view.
    pub(crate) next_offset: Offset,
    /// The file offset that nothing was ever written at or above, bar zeros. Invariant: `end <= written`.
    pub(crate) written: u64,
    /// How much of the file is there and zero-filled. Invariant: `written <= allocated`, unless a write failed.
    pub(crate) allocated: u64,
    /// Finds entries within.
    pub(crate) index: SparseIndex,
    /// What of a compacted segment lies after the compaction point. Of a raw one everything may.
    pub(crate) dirty: Dirty,
}

/// The part of a segment after the entry that it is compacted through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    /// Where it starts in the file; 0 in a raw segment.
    pub(crate) at: u64,
    /// Its first entry that has a time, and that. Not kept in a raw segment, whose index knows it.
    pub(crate) time: Option<(Index, Timestamp)>,
}

impl Dirty {
    /// Takes note of an entry that ends at `end` in the file.
    pub(crate) fn note(&mut self, header: &SegmentHeader, index: Index, end: u64, time: Option<Timestamp>) {
        match header.compacted {
            Some(range) if index <= range.clean_through => self.at = end,
            Some(_) if self.time.is_none() => self.time = time.map(|time| (index, time)),
            Some(_) | None => {}
        }
    }
}

impl Segment {
    /// The log position of a byte of the file.
    pub(crate) fn position(&self, at: u64) -> Position {
        self.header.position(at)
    }

    /// The log position after the last entry.
    pub(crate) fn end_position(&self) -> Position {
        self.position(self.end)
    }

    /// The log position that nothing of this segment reaches, dead bytes included.
    pub(crate) fn written_position(&self) -> Position {
        self.position(self.written)
    }

    /// The index of its first entry.
    pub(crate) fn base_index(&self) -> Index {
        self.header.base_index()
    }

    /// Whether it has no entries in the present view.
    pub(crate) fn is_empty(&self) -> bool {
        self.up_to == self.base_index()
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            group: GroupId(7),
            sequence: 3,
            start: SegmentStart::Continues,
            previous: EntryId::new(Term(2), Index(41)),
            base_offset: Offset(100),
            base_position: Position(5000),
            compacted: None,
        }
    }

    fn compacted() -> SegmentHeader {
        let range = CompactedRange {
            last_sequence: 8,
            up_to: Index(90),
            next_offset: Offset(230),
            end_position: Position(9000),
            end: 1128,
            clean_through: Index(88),
            tombstones_before: Offset(150),
        };
        SegmentHeader { compacted: Some(range), ..header() }
    }

    #[test]
    fn a_header_comes_back_as_it_went() {
        assert_eq!(SegmentHeader::decode(&header().encode()), Ok(header()));
        let begins = SegmentHeader { start: SegmentStart::Begins, previous: EntryId::ZERO, ..header() };
        assert_eq!(SegmentHeader::decode(&begins.encode()), Ok(begins));
        let whole = compacted().encode();
        assert_eq!(SegmentHeader::decode(&whole), Ok(compacted()));
        assert_eq!(SegmentHeader::decode(&whole[..127]), Err(HeaderError::Absent));
    }

    #[test]
    fn a_compacted_segment_counts_positions_from_its_end() {
        let header = compacted();
        assert_eq!(header.position(1128), Position(9000));
        assert_eq!(header.position(1028), Position(8900));
        assert_eq!(header.position(0), Position(7872));
        // Packed anew it may be larger than what it stands for.
        let range = CompactedRange { end: 6000, ..compacted().compacted.unwrap() };
        let larger = SegmentHeader { compacted: Some(range), ..header };
        assert_eq!((larger.position(0), larger.position(6000)), (Position(5000), Position(9000)));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for whole in [header().encode(), compacted().encode()] {
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 3;
        let crc = crc32(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let error = SegmentHeader::decode(&bytes).unwrap_err();
        assert_eq!(error, HeaderError::Version { found: 3 });
        assert!(error.to_string().contains("run a newer Raftline"));
    }

    #[test]
    fn names_carry_the_sequence() {
        assert_eq!(sequence_of(&file_name(0x1234)), Some(0x1234));
        for other in ["state", "1.segment", "zzzzzzzzzzzzzzzz.segment", "0000000000000001.segment.tmp"] {
            assert_eq!(sequence_of(other), None, "{other}");
        }
    }
}
