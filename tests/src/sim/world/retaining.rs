//! Retention: what a leader decides to let go of, and where logs begin, before and after they let go of something.

use raftline_broker::payload::Payload;
use raftline_proto::batch::BatchHeader;
use raftline_proto::command::{Command, TrimReason};
use raftline_proto::entry::{EntryBody, EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{EntryId, GroupId, Offset};
use raftline_proto::time::Timestamp;
use raftline_shard::types::Effect;
use raftline_storage::segment::SEGMENT_HEADER_BYTES;
use raftline_storage::{Log, SimDisk};

use super::World;
use crate::sim::facts::{Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::node::WALL_START;
use crate::sim::trace::Place;

/// Where a log begins.
type Start = (EntryId, Offset);

/// What a leader has its group let go of.
pub(super) struct Decision {
    group: GroupId,
    below: Offset,
    reason: TrimReason,
}

impl Decision {
    /// Whether an effect appends one.
    pub(super) fn of(effect: &Effect<Payload>) -> Option<Self> {
        match effect {
            Effect::Append { entry, .. } => match entry.body {
                EntryBody::Command(Command::TrimTo { offset, reason }) if reason != TrimReason::Asked => {
                    Some(Self { group: entry.header.group, below: offset, reason })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl World {
    /// Shows the checkers what a leader decides.
    pub(super) fn show_decision(&mut self, life: Life, shard: usize, decision: &Decision) {
        let Decision { group, below, reason } = *decision;
        let millis = i64::try_from(self.heap.now().0 / 1000).expect("virtual time is short");
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let Some(held) = held(log) else { return };
        let left = held.iter().filter(|entry| entry.header.base_offset >= below);
        let left_bytes = header_bytes(log) + left.map(|entry| entry.header.entry_bytes()).sum::<u64>();
        let gone = held.iter().filter(|entry| entry.header.base_offset < below);
        let newest = gone.filter_map(|entry| entry.newest).max();
        let newest_age_ms = newest.map(|newest| WALL_START + millis - newest.get());
        self.trace(Place::at(life.node, group), "decides", below.0, || {
            format!("to let go of what is below {below}, by {reason}; {left_bytes} bytes are left")
        });
        self.judge.fact(&Fact::Decided { life, group, below, reason, left_bytes, newest_age_ms });
        self.mark(if reason == TrimReason::Age { Mark::Outlived } else { Mark::Retained });
    }

    /// Where logs begin.
    pub(super) fn starts(&mut self, life: Life, shard: usize, groups: &[GroupId]) -> Vec<(GroupId, Start)> {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return Vec::new();
        };
        let start = |group: &GroupId| Some((*group, unit.executor.log(*group)?.start()));
        groups.iter().filter_map(start).collect()
    }

    /// Shows the checkers what has gone since the log began at `before`.
    pub(super) fn show_let_go(&mut self, life: Life, shard: usize, (group, before): (GroupId, Start)) {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let (start, start_offset) = log.start();
        if start.index <= before.0.index || self.users.is_gone(group) {
            return;
        }
        self.trace(Place::at(life.node, group), "lets go", start.index.0, || {
            format!("up to offset {start_offset}, entry {start}")
        });
        self.judge.fact(&Fact::LetGo { life, group, start, start_offset });
    }

    /// Shows the checkers where a log begins that is opened again. That may be later than ever before: its process died
    /// when that was not known yet to be durable.
    pub(super) fn show_begins(&mut self, life: Life, shard: usize, group: GroupId) {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let (start, start_offset) = log.start();
        self.judge.fact(&Fact::Begins { life, group, start, start_offset });
    }

    /// The end of a run: shows the checkers how large a log is, and whether it holds what should have gone.
    pub(super) fn show_bytes(&mut self, life: Life, shard: usize, group: GroupId) {
        // The oldest segment goes as soon as what the topic keeps is left without it. A follower's segments begin elsewhere.
        let unsettled_bytes_max = self.plan.segment_bytes * 3;
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let bytes = header_bytes(log)
            + held(log).unwrap_or_default().iter().map(|held| held.header.entry_bytes()).sum::<u64>();
        let left = log.next_offset().since(log.start().1);
        self.judge.fact(&Fact::FinalBytes { life, group, bytes, unsettled_bytes_max });
        // A broker alone never trusts a clock again that jumped.
        if self.plan.nodes > 1 {
            self.judge.fact(&Fact::FinalAge { life, group, left });
        }
    }
}

fn header_bytes(log: &Log<SimDisk>) -> u64 {
    log.segment_count() as u64 * SEGMENT_HEADER_BYTES
}

/// An entry of a log, and the time of its newest record.
struct HeldEntry {
    header: EntryHeader,
    newest: Option<Timestamp>,
}

/// Every entry of a log; `None` if one cannot be read, which is reported where the world reads it.
fn held(log: &Log<SimDisk>) -> Option<Vec<HeldEntry>> {
    let (mut from, up_to) = (log.start().0.index.next(), log.last().index.next());
    let mut held = Vec::new();
    while from < up_to {
        let read = log.read_entries(from, up_to, u64::MAX).ok()?;
        for part in &read.parts {
            let mut rest = &part[..];
            while let Ok(header) = EntryHeader::decode(rest) {
                let size = usize::try_from(header.entry_bytes()).expect("entries are small");
                let (entry, after) = rest.split_at_checked(size)?;
                let batch =
                    (header.kind == EntryKind::Data).then(|| BatchHeader::decode(&entry[HEADER_BYTES..]));
                let newest = batch.and_then(Result::ok).map(|batch| batch.max_timestamp);
                held.push(HeldEntry { header, newest });
                rest = after;
            }
        }
        from = read.up_to;
    }
    Some(held)
}
