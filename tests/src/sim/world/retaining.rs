//! Retention: where a log begins, before and after it lets go of something, and what is left of it then.

use raftline_broker::payload::Payload;
use raftline_proto::ids::{EntryId, GroupId, Index, Offset};
use raftline_shard::types::{Effect, Event};
use raftline_storage::segment::SEGMENT_HEADER_BYTES;
use raftline_storage::{Log, SimDisk};

use super::World;
use super::watch::digests;
use crate::sim::facts::{Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::trace::Place;

/// Where a log begins.
type Start = (EntryId, Offset);

impl World {
    /// A log that an effect lets go of something of, and where it begins.
    pub(super) fn start_before(
        &mut self,
        life: Life,
        shard: usize,
        effect: &Effect<Payload>,
    ) -> Option<(GroupId, Start)> {
        let Effect::Retain { group, .. } = effect else { return None };
        let node = self.nodes.get_mut(&life.node)?;
        let sync_fails = node.sync_fails;
        let log = node.unit(life, shard)?.executor.log(*group)?;
        let start = log.start();
        if sync_fails {
            self.unsure.insert((life.node, *group), sizes(log));
        }
        Some((*group, start))
    }

    /// Shows the checkers what has gone since the log began at `before`.
    pub(super) fn show_let_go(&mut self, life: Life, shard: usize, (group, before): (GroupId, Start)) {
        let rots = self.rotten.get(&group) == Some(&life.node);
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        self.unsure.remove(&(life.node, group));
        let (start, start_offset) = log.start();
        if start.index <= before.0.index {
            return;
        }
        let left_bytes = if rots { log.bytes() } else { bytes(log) };
        self.trace(Place::at(life.node, group), "lets go", start.index.0, || {
            format!("up to offset {start_offset}, entry {start}; {left_bytes} bytes are left")
        });
        self.judge.fact(&Fact::LetGo { life, group, start, start_offset, left_bytes });
        if self.plan.upkeep.erasures.is_none() && start_offset > before.1 {
            self.mark(Mark::Retained);
        }
    }

    /// Shows the checkers where a log begins that is opened again. That may be later than ever before: its process died
    /// when it had let go of something and the sync failed that was to make it last.
    pub(super) fn show_begins(&mut self, life: Life, shard: usize, group: GroupId) {
        let unsure = self.unsure.remove(&(life.node, group)).unwrap_or_default();
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let (start, start_offset) = log.start();
        // What was there when it let go may be lost by now.
        let there: u64 =
            unsure.iter().filter(|(index, _)| *index > start.index).map(|(_, bytes)| bytes).sum();
        let left_bytes = bytes(log).max(there + header_bytes(log));
        self.judge.fact(&Fact::Begins { life, group, start, start_offset, left_bytes });
    }

    /// Segments had to stay for a snapshot of the producers.
    pub(super) fn mark_held(&mut self, events: &[Event<Payload>]) {
        let deletes = self.plan.upkeep.erasures.is_some();
        if !deletes && events.iter().any(|event| matches!(event, Event::RetentionHeld { .. })) {
            self.mark(Mark::RetentionHeld);
        }
    }

    /// The end of a run: shows the checkers how large a log is.
    pub(super) fn show_bytes(&mut self, life: Life, shard: usize, group: GroupId) {
        // The oldest segment goes as soon as what the topic keeps is left without it.
        let unsettled_bytes_max = self.plan.segment_bytes * 2;
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(bytes) = unit.executor.log(group).map(bytes) else { return };
        self.judge.fact(&Fact::FinalBytes { life, group, bytes, unsettled_bytes_max });
    }
}

/// The size of a log: of its entries as they are read, and its segments' headers.
fn bytes(log: &Log<SimDisk>) -> u64 {
    header_bytes(log) + sizes(log).into_iter().map(|(_, bytes)| bytes).sum::<u64>()
}

fn header_bytes(log: &Log<SimDisk>) -> u64 {
    log.segment_count() as u64 * SEGMENT_HEADER_BYTES
}

/// Each entry's size.
fn sizes(log: &Log<SimDisk>) -> Vec<(Index, u64)> {
    let (mut from, up_to) = (log.start().0.index.next(), log.last().index.next());
    let mut sizes = Vec::new();
    while from < up_to {
        // What cannot be read is reported where the world reads it.
        let Ok(read) = log.read_entries(from, up_to, u64::MAX) else { return sizes };
        let entries = read.parts.iter().flat_map(|part| digests(part)).flatten();
        sizes.extend(entries.map(|entry| (entry.id().index, entry.header.entry_bytes())));
        from = read.up_to;
    }
    sizes
}
