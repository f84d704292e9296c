//! The floors as they are this moment, written and never synced.
//!
//! The journal notes a floor about once a second. What was acknowledged since would look like a torn tail if it went bad,
//! and be cut. So each sync that is confirmed leaves its floors here, before anything is acknowledged for it: one write
//! into the page cache. A process that dies leaves that whole. A machine that dies may lose it: then the journal's floor
//! counts, or an older one from here. Whatever survives is true: a floor is written only after the sync that it tells of.
//!
//! The same goes for the journal: slot 0 says through which record it is synced, and of which file that is.

use crate::disk::{Disk, DiskFile};
use crate::segment::{crc32, u32_at, u64_at};
use raftline_proto::ids::{GroupId, Position};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A state file's generation and its last record that is known synced.
pub(super) type Synced = (u64, u64);

/// What the file said.
#[derive(Default)]
pub(super) struct Found {
    pub(super) floors: BTreeMap<GroupId, Position>,
    pub(super) journal: Option<Synced>,
}

/// A slot for each group, written in place.
pub(super) struct Floors<D: Disk> {
    disk: D,
    dir: PathBuf,
    /// `None` where the disk had no room for it at the start.
    file: Option<Arc<D::File>>,
    /// Slot 0, and one for each group; `None` for those that are gone.
    slots: Vec<Option<Slot>>,
    places: BTreeMap<GroupId, usize>,
    /// The first and the last slot that changed since they were written.
    changed: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Journal(Synced),
    Floor(GroupId, Position),
}

const SLOT_BYTES: usize = 32;
const MAGIC: u16 = 0x4c46;
const KIND_JOURNAL: u8 = 1;
const KIND_FLOOR: u8 = 2;

fn path(dir: &Path) -> PathBuf {
    dir.join("floors")
}

/// Reads the file; a slot that is not as it was written says nothing.
pub(super) fn read<D: Disk>(disk: &D, dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let file = match disk.open(&path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        file => file?,
    };
    let bytes = file.read(0, file.len()?)?;
    let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
    for slot in slots.iter().filter_map(Slot::decode) {
        match slot {
            Slot::Journal(synced) => found.journal = Some(synced),
            Slot::Floor(group, floor) => {
                let known = found.floors.entry(group).or_default();
                *known = floor.max(*known);
            }
        }
    }
    Ok(found)
}

impl<D: Disk> Floors<D> {
    /// Begins a file with these floors, in place of the one that is there.
    pub(super) fn begin(
        disk: D,
        dir: &Path,
        journal: Synced,
        floors: impl Iterator<Item = (GroupId, Position)>,
    ) -> io::Result<Self> {
        let mut begun = Self {
            disk,
            dir: dir.to_path_buf(),
            file: None,
            slots: vec![Some(Slot::Journal(journal))],
            places: BTreeMap::new(),
            changed: None,
        };
        for (group, floor) in floors {
            begun.note(group, floor);
        }
        begun.file = match begun.rewrite() {
            Ok(file) => Some(file),
            // The journal's floors have to do.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => None,
            Err(error) => return Err(error),
        };
        begun.changed = None;
        Ok(begun)
    }

    fn rewrite(&self) -> io::Result<Arc<D::File>> {
        let aside = self.dir.join("floors.new");
        match self.disk.remove(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = self.disk.create(&aside)?;
        file.write_at(&[IoSlice::new(&self.encode(0, self.slots.len()))], 0)?;
        self.disk.rename(&aside, &path(&self.dir))?;
        Ok(file)
    }

    /// Takes note of a group's floor.
    pub(super) fn note(&mut self, group: GroupId, floor: Position) {
        let place = *self.places.entry(group).or_insert_with(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.put(place, Some(Slot::Floor(group, floor)));
    }

    /// Forgets a group.
    pub(super) fn forget(&mut self, group: GroupId) {
        if let Some(place) = self.places.remove(&group) {
            self.put(place, None);
        }
    }

    /// Takes note of how far the journal is synced.
    pub(super) fn note_journal(&mut self, journal: Synced) {
        self.put(0, Some(Slot::Journal(journal)));
    }

    fn put(&mut self, place: usize, slot: Option<Slot>) {
        if self.slots[place] != slot {
            self.slots[place] = slot;
            let (first, last) = self.changed.unwrap_or((place, place));
            self.changed = Some((first.min(place), last.max(place)));
        }
    }

    /// Writes what has changed, in one call.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if let Some((first, last)) = self.changed
            && let Some(file) = &self.file
        {
            file.write_at(&[IoSlice::new(&self.encode(first, last + 1))], (first * SLOT_BYTES) as u64)?;
            self.changed = None;
        }
        Ok(())
    }

    fn encode(&self, from: usize, up_to: usize) -> Vec<u8> {
        let encoded = |slot: &Option<Slot>| slot.map_or([0; SLOT_BYTES], Slot::encode);
        self.slots[from..up_to].iter().flat_map(encoded).collect()
    }
}

impl Slot {
    fn encode(self) -> [u8; SLOT_BYTES] {
        let (kind, first, second) = match self {
            Self::Journal((generation, synced_through)) => (KIND_JOURNAL, generation, synced_through),
            Self::Floor(group, floor) => (KIND_FLOOR, group.0, floor.0),
        };
        let mut slot = [0; SLOT_BYTES];
        slot[4..6].copy_from_slice(&MAGIC.to_le_bytes());
        slot[6] = kind;
        slot[8..16].copy_from_slice(&first.to_le_bytes());
        slot[16..24].copy_from_slice(&second.to_le_bytes());
        let crc = crc32(&slot[4..]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Self> {
        let magic = u16::from_le_bytes([slot[4], slot[5]]);
        if magic != MAGIC || u32_at(slot, 0) != crc32(&slot[4..]) {
            return None;
        }
        let (first, second) = (u64_at(slot, 8), u64_at(slot, 16));
        match slot[6] {
            KIND_JOURNAL => Some(Self::Journal((first, second))),
            KIND_FLOOR => Some(Self::Floor(GroupId(first), Position(second))),
            _ => None,
        }
    }
}
