//! The file under [`super::StateFile`]: slots written one after the other, now and then all anew.

use super::record::{self, Body, Header, Record, SLOT_BYTES, SlotError, VERSION};
use super::{GroupState, StateError, StateRecovery, StateWriteError, floors};
use crate::allocate::whole_pages;
use crate::disk::{DirHold, Disk, DiskFile};
use raftline_proto::ids::GroupId;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the next record goes, and what is known synced.
pub(super) struct Journal<D: Disk> {
    disk: D,
    dir: PathBuf,
    shard: u32,
    /// Counts the processes that wrote here. Every record names it.
    generation: u64,
    file: Option<Arc<D::File>>,
    /// Slots in use, the header among them.
    slots: u64,
    /// Slots below this may hold what a failed write left. Whatever is written next has to reach that far.
    soiled: u64,
    allocated: u64,
    next_sequence: u64,
    /// Records through here are synced.
    synced_through: u64,
    /// Records through here are synced, and the file says so.
    vouched_through: u64,
    /// Records after this need the directory synced: the file was renamed just before.
    renamed_at: Option<u64>,
    /// The directory's descriptor, until that sync.
    dir_hold: Option<DirHold>,
}

/// The file is written anew when it would have more slots than this, and four times as many as there are groups.
const REWRITE_SLOTS_MIN: u64 = 1024;
const REWRITE_RATIO: u64 = 4;
/// The file grows by this much.
const STEP_BYTES: u64 = 64 << 10;

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("state")
}

impl<D: Disk> Journal<D> {
    /// Call [`Journal::rewrite`] before anything else.
    pub(super) fn new(disk: D, dir: PathBuf, shard: u32, generation: u64) -> Self {
        Self {
            disk,
            dir,
            shard,
            generation,
            file: None,
            slots: 0,
            soiled: 0,
            allocated: 0,
            next_sequence: 1,
            synced_through: 0,
            vouched_through: 0,
            renamed_at: None,
            dir_hold: None,
        }
    }

    pub(super) fn disk(&self) -> &D {
        &self.disk
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Which file this is, and how far it is known synced.
    pub(super) fn known_synced(&self) -> floors::Synced {
        (self.generation, self.synced_through)
    }

    pub(super) fn is_synced(&self, sequence: u64) -> bool {
        sequence <= self.synced_through
    }

    pub(super) fn is_vouched_for(&self, sequence: u64) -> bool {
        sequence <= self.vouched_through
    }

    pub(super) fn wants_rewrite(&self, more: usize, groups: usize) -> bool {
        let slots = self.slots + more as u64;
        slots > REWRITE_SLOTS_MIN && slots > REWRITE_RATIO * groups as u64
    }

    /// Writes records after the last one. On an error they count as not written.
    pub(super) fn append(&mut self, bodies: &[Body]) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::Error::other("the state file is not open")) };
        let at = self.slots * SLOT_BYTES as u64;
        // A failed write may have left whole records behind, which follow on in sequence and hold what was true then.
        // Behind fewer new ones a crash would bring them back: an older vote in place of a newer one.
        let mut bodies = bodies.to_vec();
        let reach = usize::try_from(self.soiled.saturating_sub(self.slots)).unwrap_or(usize::MAX);
        bodies.resize(bodies.len().max(reach), Body::Mark);
        let slots = encode(&bodies, self.generation, self.next_sequence, self.synced_through);
        let needed = at + slots.len() as u64;
        if needed > self.allocated {
            let up_to = whole_pages(needed.max(self.allocated + STEP_BYTES));
            file.allocate(self.allocated, up_to)?;
            self.allocated = up_to;
        }
        let slots_then = self.slots + bodies.len() as u64;
        self.soiled = slots_then;
        file.write_at(&[IoSlice::new(&slots)], at)?;
        self.slots = slots_then;
        self.next_sequence += bodies.len() as u64;
        self.vouched_through = self.synced_through;
        Ok(())
    }

    /// Writes a new file with these records alone, syncs it, and puts it in place of the old one. The directory is
    /// still to be synced.
    pub(super) fn rewrite(&mut self, bodies: &[Body]) -> Result<(), StateWriteError> {
        let dir_hold = self.disk.hold_dir(&self.dir)?;
        let aside = self.dir.join("state.new");
        match self.disk.remove(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let first = self.next_sequence;
        let last = first + bodies.len() as u64 - 1;
        let header = Header { shard: self.shard, first, synced_through: last, generation: self.generation };
        let slots = encode(bodies, self.generation, first, last);
        let used = (SLOT_BYTES + slots.len()) as u64;
        let allocated = whole_pages(used + STEP_BYTES);
        let file = self.disk.create(&aside)?;
        file.allocate(0, allocated)?;
        file.write_at(&[IoSlice::new(&header.encode()), IoSlice::new(&slots)], 0)?;
        file.sync_data().map_err(StateWriteError::SyncFailed)?;
        self.disk.rename(&aside, &path(&self.dir))?;
        self.file = Some(file);
        self.slots = used / SLOT_BYTES as u64;
        self.soiled = 0;
        self.allocated = allocated;
        self.next_sequence = last + 1;
        self.renamed_at = Some(last);
        self.dir_hold = Some(dir_hold);
        Ok(())
    }

    /// What has to be synced for all records to be durable.
    pub(super) fn to_sync(&self) -> (Vec<Arc<D::File>>, Vec<PathBuf>) {
        let dirs = if self.renamed_at.is_some() { vec![self.dir.clone()] } else { Vec::new() };
        (self.file.iter().map(Arc::clone).collect(), dirs)
    }

    /// What [`Journal::to_sync`] gave, when the last record was `through`, is synced.
    pub(super) fn synced(&mut self, through: u64) {
        self.synced_through = self.synced_through.max(through);
        if let Some(renamed_at) = self.renamed_at
            && renamed_at <= through
        {
            self.renamed_at = None;
            self.dir_hold = None;
            // The new file's header has said so all along; now the file has its name for good.
            self.vouched_through = self.vouched_through.max(renamed_at);
        }
    }

    /// File and directory were just synced.
    pub(super) fn all_synced(&mut self) {
        self.synced(self.last_sequence());
    }
}

fn encode(bodies: &[Body], generation: u64, first: u64, synced_through: u64) -> Vec<u8> {
    let records = (first..).zip(bodies).map(|(sequence, body)| Record {
        generation: record::short(generation),
        sequence,
        synced_through,
        body: *body,
    });
    records.flat_map(|record| record.encode()).collect()
}

/// A state file's content.
#[derive(Default)]
pub(super) struct Content {
    pub(super) groups: BTreeMap<GroupId, GroupState>,
    pub(super) recovery: StateRecovery,
    /// 0 if there is no file.
    pub(super) generation: u64,
}

/// Reads and checks a whole state file, and takes the later floors that were left beside it.
pub(super) fn read<D: Disk>(disk: &D, dir: &Path, shard: u32) -> Result<Content, StateError> {
    let file = path(dir);
    let found = floors::read(disk, dir).map_err(|source| StateError::Io { file: file.clone(), source })?;
    let bytes = match read_all(disk, &file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let recovery = StateRecovery { created: true, ..StateRecovery::default() };
            return Ok(Content { recovery, ..Content::default() });
        }
        Err(source) => return Err(StateError::Io { file, source }),
    };
    let (slots, _) = bytes.as_chunks::<SLOT_BYTES>();
    let header = slots.first().map_or(Err(SlotError::Empty), Header::decode);
    let header = match header {
        Ok(header) => header,
        Err(SlotError::Version { found }) => {
            return Err(StateError::NewerVersion { file, found, known: VERSION });
        }
        Err(reason) => return Err(StateError::Damaged { file, at: 0, reason }),
    };
    if header.shard != shard {
        return Err(StateError::WrongShard { file, expected: shard, found: header.shard });
    }
    let bytes = bytes.len() as u64;
    // It grows by whole pages.
    if bytes != whole_pages(bytes) {
        return Err(StateError::Shortened { file, bytes });
    }
    let left = found.journal.filter(|(generation, _)| *generation == header.generation);
    let synced_through = left.map_or(0, |(_, synced_through)| synced_through).max(header.synced_through);
    let Records { mut groups, removed, recovery } = read_records(&slots[1..], &header, synced_through)
        .map_err(|(slot, reason)| StateError::Damaged { file, at: (slot + 1) * SLOT_BYTES as u64, reason })?;
    // One whose removal is not noted here any more is gone for good all the same: nobody opens it again.
    for (group, floor) in found.floors.into_iter().filter(|(group, _)| !removed.contains(group)) {
        let state = groups.entry(group).or_default();
        state.floor = state.floor.max(floor);
    }
    Ok(Content { groups, recovery, generation: header.generation })
}

/// What a file's records say.
#[derive(Default)]
struct Records {
    groups: BTreeMap<GroupId, GroupState>,
    removed: BTreeSet<GroupId>,
    recovery: StateRecovery,
}

/// Takes the records up to the first bad one. That one, or its slot's number, is the error if it was vouched for: by the
/// file elsewhere, or by `vouched_through`.
fn read_records(
    slots: &[[u8; SLOT_BYTES]],
    header: &Header,
    mut vouched_through: u64,
) -> Result<Records, (u64, SlotError)> {
    let Records { mut groups, mut removed, mut recovery } = Records::default();
    let mut first_bad = None;
    for (slot, bytes) in (0..).zip(slots) {
        match Record::decode(bytes, record::short(header.generation), header.first + slot) {
            Ok(record) => {
                vouched_through = vouched_through.max(record.synced_through);
                if first_bad.is_some() {
                    recovery.records_cut += 1;
                    continue;
                }
                recovery.records += 1;
                match record.body {
                    Body::State(group, state) => {
                        groups.insert(group, state);
                        removed.remove(&group);
                    }
                    Body::Removed(group) => {
                        groups.remove(&group);
                        removed.insert(group);
                    }
                    Body::Mark => {}
                }
            }
            Err(reason) => {
                recovery.records_cut += u64::from(reason != SlotError::Empty);
                first_bad = first_bad.or(Some((slot, reason)));
            }
        }
    }
    let (slot, reason) = first_bad.unwrap_or((slots.len() as u64, SlotError::Empty));
    if header.first + slot <= vouched_through {
        return Err((slot, reason));
    }
    Ok(Records { groups, removed, recovery })
}

fn read_all<D: Disk>(disk: &D, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
