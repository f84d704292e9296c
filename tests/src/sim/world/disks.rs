//! The disks: what happens to them, and what a power cut would leave of them right now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftline_proto::entry::{EntryHeader, HEADER_BYTES};
use raftline_proto::ids::{EntryId, GroupId, Incarnation, Index, NodeId};
use raftline_storage::segment::{COMPACTED_HEADER_BYTES, SegmentHeader, SegmentStart, sequence_of};
use raftline_storage::{Disk, DiskFile, GroupState, SimDisk, StateFile};

use super::watch::hash;
use super::{Step, World};
use crate::sim::chance::Chance;
use crate::sim::facts::{Digest, OnDisk};
use crate::sim::marks::Mark;
use crate::sim::node::Node;
use crate::sim::trace::Place;

/// A machine with a fresh disk.
pub(super) fn new_node(id: NodeId, chance: &mut Chance) -> Node {
    Node::new(id, SimDisk::new(), Incarnation(chance.any()))
}

/// What every node's disk would hold after a power cut, read with an eye of our own: no code of the log under test
/// decides here what counts, but the layout of its files.
#[derive(Default)]
pub struct DurableLogs {
    nodes: BTreeMap<NodeId, DurableNode>,
    /// New segments seen that go on from others.
    rolls: u64,
}

#[derive(Default)]
struct DurableNode {
    /// Crashes of the disk so far.
    crashes: u64,
    /// What is durable, taken once for each version.
    image: Option<(Version, SimDisk)>,
    /// Each with the version of the disk that it was read from.
    logs: BTreeMap<GroupId, (Version, DurableLog)>,
    states: BTreeMap<u64, (Version, States)>,
}

/// A state file's content.
type States = BTreeMap<GroupId, GroupState>;

/// What is durable changes only by syncs and crashes: their counts.
type Version = (u64, u64);

/// One group's log on stable storage.
#[derive(Default)]
pub struct DurableLog {
    segments: BTreeMap<u64, Segment>,
    start: EntryId,
    entries: Vec<(EntryId, u64)>,
}

#[derive(Clone)]
struct Segment {
    header: SegmentHeader,
    entries: Vec<(EntryId, u64)>,
    end: u64,
}

impl DurableLogs {
    /// The node's disk is another one now.
    pub fn forget(&mut self, node: NodeId) {
        let known = self.nodes.entry(node).or_default();
        known.crashes += 1;
        known.image = None;
        known.logs.clear();
        known.states.clear();
    }

    /// How often a log was seen to go on in a new segment.
    #[must_use]
    pub fn rolls(&self) -> u64 {
        self.rolls
    }

    /// A group's log on a node's stable storage.
    pub fn log(&mut self, node: &Node, group: GroupId) -> &DurableLog {
        let known = self.nodes.entry(node.id).or_default();
        let version = known.version(node);
        let image = known.image(node, version);
        let (seen, log) = known.logs.entry(group).or_insert_with(|| (NEVER, DurableLog::default()));
        if *seen != version {
            *seen = version;
            self.rolls += log.refresh(&image, &group_dir(group));
        }
        log
    }

    /// What a node's stable storage holds of a group.
    ///
    /// # Errors
    /// If a process started after a power cut now could not read its state: in words.
    pub fn on_disk(&mut self, node: &Node, group: GroupId, shards: u32) -> Result<OnDisk, String> {
        let last = self.log(node, group).last();
        let known = self.nodes.entry(node.id).or_default();
        let version = known.version(node);
        let image = known.image(node, version);
        let (seen, states) =
            known.states.entry(group.0 % u64::from(shards)).or_insert_with(|| (NEVER, States::new()));
        if *seen != version {
            *seen = version;
            *states = read_states(&image, group, shards)?;
        }
        let hard_state = states.get(&group).copied().unwrap_or_default().hard_state;
        Ok(OnDisk { hard_state, last })
    }
}

impl DurableNode {
    fn version(&self, node: &Node) -> Version {
        let counters = node.disk.counters();
        (self.crashes, counters.file_syncs + counters.dir_syncs)
    }

    fn image(&mut self, node: &Node, version: Version) -> SimDisk {
        match &self.image {
            Some((seen, image)) if *seen == version => image.clone(),
            Some(_) | None => {
                let image = node.disk.durable();
                self.image = Some((version, image.clone()));
                image
            }
        }
    }
}

/// No disk's version.
const NEVER: Version = (u64::MAX, u64::MAX);

fn group_dir(group: GroupId) -> PathBuf {
    Node::data_dir().join("groups").join(group.to_string())
}

/// The states that a process started after a power cut would find.
fn read_states(image: &SimDisk, group: GroupId, shards: u32) -> Result<States, String> {
    let shard = u32::try_from(group.0 % u64::from(shards)).expect("few shards");
    let dir = Node::data_dir().join(format!("shard-{shard}"));
    StateFile::inspect(image, &dir, shard).map_err(|error| format!("a power cut now would leave {error}"))
}

impl DurableLog {
    /// Whether just this entry is there, byte for byte, or was before retention dropped it.
    #[must_use]
    pub fn holds(&self, entry: &Digest) -> bool {
        let index = entry.id().index;
        if index <= self.start.index {
            return true;
        }
        let place = usize::try_from(index.since(self.start.index) - 1).ok();
        place.and_then(|place| self.entries.get(place)).is_some_and(|held| *held == (entry.id(), entry.bytes))
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start, |(id, _)| *id)
    }

    /// Reads what is new, and puts the segments together. Returns how many new ones there are beside others.
    fn refresh(&mut self, disk: &SimDisk, dir: &Path) -> u64 {
        let before = self.segments.len();
        let names = disk.list(dir).unwrap_or_default();
        let sequences: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
        self.segments.retain(|sequence, _| sequences.contains(sequence));
        for (sequence, name) in
            sequences.into_iter().zip(names.iter().filter(|name| sequence_of(name).is_some()))
        {
            self.read_segment(disk, &dir.join(name), sequence);
        }
        self.chain();
        if before == 0 { 0 } else { self.segments.len().saturating_sub(before) as u64 }
    }

    fn read_segment(&mut self, disk: &SimDisk, path: &Path, sequence: u64) {
        let Ok(file) = disk.open(path) else { return };
        let Ok(length) = file.len() else { return };
        let mut head = vec![0; usize::try_from(length.min(COMPACTED_HEADER_BYTES)).expect("small")];
        let read = file.read_at(&mut head, 0);
        let Some(header) = read.ok().and_then(|()| SegmentHeader::decode(&head).ok()) else { return };
        let fresh = Segment { header, entries: Vec::new(), end: header.entries_at() };
        let segment = self.segments.entry(sequence).or_insert_with(|| fresh.clone());
        if segment.header.compacted != header.compacted {
            // A compacted one took its name.
            *segment = fresh;
        }
        segment.header = header;
        while let Some((id, bytes, size)) = read_entry(&*file, length, segment) {
            segment.fill_through(id.index.previous().unwrap_or_default());
            segment.entries.push((id, bytes));
            segment.end += size;
        }
        if let Some(range) = header.compacted
            && segment.end == range.end
        {
            segment.fill_through(range.up_to.previous().unwrap_or_default());
        }
    }

    /// Later segments replace what follows the entry that they go on from.
    fn chain(&mut self) {
        self.start = EntryId::ZERO;
        self.entries.clear();
        let mut begun = false;
        let mut replaced = None;
        for (sequence, segment) in &self.segments {
            if replaced.is_some_and(|through| *sequence <= through) {
                continue;
            }
            let previous = segment.header.previous;
            if segment.header.start == SegmentStart::Begins || !begun {
                self.start = previous;
                self.entries.clear();
                begun = true;
            } else if previous == self.start {
                self.entries.clear();
            } else if let Some(place) = self.entries.iter().position(|(id, _)| *id == previous) {
                self.entries.truncate(place + 1);
            } else {
                continue;
            }
            self.entries.extend_from_slice(&segment.entries);
            replaced = segment.header.compacted.map(|range| range.last_sequence);
        }
    }
}

impl Segment {
    /// A gap's frame stands for entries of its term up to the next frame.
    fn fill_through(&mut self, index: Index) {
        while let Some((last, bytes)) = self.entries.last().copied()
            && last.index < index
        {
            self.entries.push((EntryId::new(last.term, last.index.next()), bytes));
        }
    }
}

/// The entry after those that are known, if it is all there and valid.
fn read_entry<F: DiskFile>(file: &F, length: u64, segment: &Segment) -> Option<(EntryId, u64, u64)> {
    let at = segment.end;
    if at + HEADER_BYTES as u64 > length {
        return None;
    }
    let mut head = [0; HEADER_BYTES];
    file.read_at(&mut head, at).ok()?;
    let header = EntryHeader::decode(&head).ok()?;
    let before = segment.entries.last().map_or(segment.header.previous, |(id, _)| *id);
    // One frame may stand for many entries, where a log was compacted.
    let follows = match segment.header.compacted {
        None => header.id.index == before.index.next(),
        Some(range) => header.id.index > before.index && at < range.end,
    };
    if !follows || header.id.term < before.term || at + header.entry_bytes() > length {
        return None;
    }
    let mut entry = vec![0; usize::try_from(header.entry_bytes()).ok()?];
    file.read_at(&mut entry, at).ok()?;
    EntryHeader::verify(&entry).ok()?;
    Some((header.id, hash(&entry), header.entry_bytes()))
}

impl World {
    /// The process is dead; its writes are in the page cache, and no handle of it works any more.
    pub(super) fn orphan_disk(&mut self, id: NodeId) {
        self.with_node(id, |node| node.disk = node.disk.kill());
    }

    /// The machine lost power: unsynced sectors and names survive as chance has it.
    pub(super) fn lose_power(&mut self, id: NodeId) {
        let seed = self.chance.any();
        let mut lost = false;
        self.heal_rot(id);
        self.with_node(id, |node| {
            let crashed = node.disk.crash(seed);
            lost = crashed.used_bytes() != node.disk.used_bytes()
                || node.disk.durable().used_bytes() != crashed.used_bytes();
            node.disk = crashed;
        });
        if lost {
            self.mark(Mark::PowerLossWithUnsynced);
        }
    }

    /// Leaves a disk with little room or none.
    pub(super) fn fill_disk(&mut self, id: NodeId) {
        let room = self.chance.between(0, 6000);
        self.with_node(id, |node| {
            node.disk.set_capacity(Some(node.disk.used_bytes() + room));
            node.is_full = true;
        });
        self.mark(Mark::DiskWasFull);
        let end = self.heap.now() + self.spell() * 2;
        self.heap.push(end, Step::Roomy(id));
    }

    pub(super) fn roomy(&mut self, id: NodeId) {
        self.trace(Place::on(id), "roomy", 0, || "the disk has room again".to_owned());
        self.make_room(id);
    }

    pub(super) fn make_room(&mut self, id: NodeId) {
        self.with_node(id, |node| {
            node.disk.set_capacity(None);
            node.is_full = false;
        });
    }

    pub(super) fn fail_next_sync(&mut self, id: NodeId) {
        self.with_node(id, |node| {
            node.disk.fail_next_sync();
            node.sync_fails = true;
        });
    }

    /// The index of the last entry on a node's stable storage, for directed scenarios.
    #[must_use]
    pub fn durable_last(&mut self, id: NodeId, group: GroupId) -> Index {
        let Some(node) = self.nodes.get(&id) else { return Index::ZERO };
        self.durable.log(node, group).last().index
    }
}
