//! The byte layout of a state file: 64-byte slots, so that none crosses a disk sector.
//!
//! Slot 0 is the header, the others are records in order of their sequence. All integers are little-endian, and every
//! slot begins with the CRC-32 of its bytes 4..64.
//!
//! ```text
//! header                              record
//!  4  u32  magic 0x4154_5352 "RSTA"    4  u16  magic 0x4352 "RC"
//!  8  u16  version 1                   6  u8   kind: 1 state, 2 removed, 3 mark
//! 12  u32  shard                       7  u8   1 if there is a vote
//! 16  u64  sequence of slot 1          8  u64  sequence
//! 24  u64  synced through             16  u64  synced through
//! 32  u64  generation
//!                                     24  u64  group
//!                                     32  u64  term
//!                                     40  u64  commit hint
//!                                     48  u64  floor
//!                                     56  u32  voted for
//!                                     60  u32  generation, its lower half
//! ```

use crate::segment::{crc32, u32_at, u64_at};
use crate::state::GroupState;
use raftline_proto::ids::{GroupId, HardState, Index, NodeId, Position, Term};

pub(super) const SLOT_BYTES: usize = 64;
pub(super) const VERSION: u16 = 1;

const HEADER_MAGIC: u32 = 0x4154_5352;
const RECORD_MAGIC: u16 = 0x4352;

/// Slot 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) shard: u32,
    /// The sequence of the record in slot 1.
    pub(super) first: u64,
    /// Records through here were synced before the file got its name: damage among them is damage.
    pub(super) synced_through: u64,
    /// Counts the processes that wrote a file here; 0 in files of before there were generations.
    pub(super) generation: u64,
}

/// What a record keeps of a generation: enough that one of another file is not taken for it.
pub(super) const fn short(generation: u64) -> u32 {
    let bytes = generation.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// A slot other than the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Of the file that it was written for.
    pub(super) generation: u32,
    pub(super) sequence: u64,
    /// Records through here were known synced when this one was written.
    pub(super) synced_through: u64,
    pub(super) body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A group's whole state.
    State(GroupId, GroupState),
    /// A group is gone.
    Removed(GroupId),
    /// Nothing new: only vouches for the records before.
    Mark,
}

/// Why a slot is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Never written.
    #[error("never written")]
    Empty,
    /// The bytes are not those that were written.
    #[error("checksum mismatch: {stored:08x} stored, {computed:08x} computed")]
    Crc {
        /// What the slot says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Not a slot of this kind of file.
    #[error("magic {found:#x}")]
    Magic {
        /// What stands there.
        found: u32,
    },
    /// Written by a newer Raftline.
    #[error("version {found} is newer than version {VERSION} known here: run a newer Raftline")]
    Version {
        /// Its version.
        found: u16,
    },
    /// A record from another place.
    #[error("record {found} in place of record {expected}")]
    Sequence {
        /// The one that belongs here.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// A record of another file: a write was lost, or went astray.
    #[error("a record of generation {found} in a file of generation {expected}")]
    Generation {
        /// The file's.
        expected: u32,
        /// The record's.
        found: u32,
    },
    /// A kind that this version does not know.
    #[error("record kind {found} is not known here: run a newer Raftline")]
    Kind {
        /// Its number.
        found: u8,
    },
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[4..8].copy_from_slice(&HEADER_MAGIC.to_le_bytes());
        slot[8..10].copy_from_slice(&VERSION.to_le_bytes());
        slot[12..16].copy_from_slice(&self.shard.to_le_bytes());
        slot[16..24].copy_from_slice(&self.first.to_le_bytes());
        slot[24..32].copy_from_slice(&self.synced_through.to_le_bytes());
        slot[32..40].copy_from_slice(&self.generation.to_le_bytes());
        seal(slot)
    }

    pub(super) fn decode(slot: &[u8; SLOT_BYTES]) -> Result<Self, SlotError> {
        check(slot)?;
        if u32_at(slot, 4) != HEADER_MAGIC {
            return Err(SlotError::Magic { found: u32_at(slot, 4) });
        }
        let version = u16::from_le_bytes([slot[8], slot[9]]);
        if version != VERSION {
            return Err(SlotError::Version { found: version });
        }
        Ok(Self {
            shard: u32_at(slot, 12),
            first: u64_at(slot, 16),
            synced_through: u64_at(slot, 24),
            generation: u64_at(slot, 32),
        })
    }
}

impl Record {
    pub(super) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[4..6].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        slot[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        slot[16..24].copy_from_slice(&self.synced_through.to_le_bytes());
        slot[60..64].copy_from_slice(&self.generation.to_le_bytes());
        match self.body {
            Body::State(group, state) => {
                slot[6] = KIND_STATE;
                slot[7] = u8::from(state.hard_state.voted_for.is_some());
                slot[24..32].copy_from_slice(&group.0.to_le_bytes());
                slot[32..40].copy_from_slice(&state.hard_state.term.0.to_le_bytes());
                slot[40..48].copy_from_slice(&state.commit_hint.0.to_le_bytes());
                slot[48..56].copy_from_slice(&state.floor.0.to_le_bytes());
                let voted_for = state.hard_state.voted_for.map_or(0, NodeId::get);
                slot[56..60].copy_from_slice(&voted_for.to_le_bytes());
            }
            Body::Removed(group) => {
                slot[6] = KIND_REMOVED;
                slot[24..32].copy_from_slice(&group.0.to_le_bytes());
            }
            Body::Mark => slot[6] = KIND_MARK,
        }
        seal(slot)
    }

    pub(super) fn decode(slot: &[u8; SLOT_BYTES], generation: u32, expected: u64) -> Result<Self, SlotError> {
        check(slot)?;
        let magic = u16::from_le_bytes([slot[4], slot[5]]);
        if magic != RECORD_MAGIC {
            return Err(SlotError::Magic { found: magic.into() });
        }
        let sequence = u64_at(slot, 8);
        if sequence != expected {
            return Err(SlotError::Sequence { expected, found: sequence });
        }
        let found = u32_at(slot, 60);
        if found != generation {
            return Err(SlotError::Generation { expected: generation, found });
        }
        let group = GroupId(u64_at(slot, 24));
        let voted_for = (slot[7] == 1).then_some(NodeId(u32_at(slot, 56)));
        let body = match slot[6] {
            KIND_STATE => Body::State(
                group,
                GroupState {
                    hard_state: HardState { term: Term(u64_at(slot, 32)), voted_for },
                    commit_hint: Index(u64_at(slot, 40)),
                    floor: Position(u64_at(slot, 48)),
                },
            ),
            KIND_REMOVED => Body::Removed(group),
            KIND_MARK => Body::Mark,
            found => return Err(SlotError::Kind { found }),
        };
        Ok(Self { generation, sequence, synced_through: u64_at(slot, 16), body })
    }
}

const KIND_STATE: u8 = 1;
const KIND_REMOVED: u8 = 2;
const KIND_MARK: u8 = 3;

fn seal(mut slot: [u8; SLOT_BYTES]) -> [u8; SLOT_BYTES] {
    let crc = crc32(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn check(slot: &[u8; SLOT_BYTES]) -> Result<(), SlotError> {
    if slot == &[0; SLOT_BYTES] {
        return Err(SlotError::Empty);
    }
    let (stored, computed) = (u32_at(slot, 0), crc32(&slot[4..]));
    if stored != computed {
        return Err(SlotError::Crc { stored, computed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_as_they_went() {
        let state = GroupState {
            hard_state: HardState { term: Term(9), voted_for: Some(NodeId(0)) },
            commit_hint: Index(70),
            floor: Position(4096),
        };
        let unvoted = GroupState { hard_state: HardState { voted_for: None, ..state.hard_state }, ..state };
        let bodies = [
            Body::State(GroupId(5), state),
            Body::State(GroupId(0), unvoted),
            Body::Removed(GroupId(5)),
            Body::Mark,
        ];
        for body in bodies {
            let record = Record { generation: 3, sequence: 17, synced_through: 12, body };
            assert_eq!(Record::decode(&record.encode(), 3, 17), Ok(record));
            assert_eq!(
                Record::decode(&record.encode(), 4, 17),
                Err(SlotError::Generation { expected: 4, found: 3 })
            );
            assert_eq!(
                Record::decode(&record.encode(), 3, 18),
                Err(SlotError::Sequence { expected: 18, found: 17 })
            );
        }
        let header = Header { shard: 3, first: 100, synced_through: 120, generation: 7 };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let record =
            Record { generation: 0, sequence: 1, synced_through: 0, body: Body::Removed(GroupId(1)) };
        for bit in 0..SLOT_BYTES * 8 {
            let mut slot = record.encode();
            slot[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&slot, 0, 1).is_err(), "bit {bit}");
        }
    }
}
