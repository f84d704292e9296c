//! Bytes that go bad under a running process. Whoever finds them closes that one replica; nobody is ever given them, and
//! no other group notices.
//!
//! What is durable stays good, so that the checkers may go on to ask it what each node has. One replica of a group goes
//! bad at a time: with more, acknowledged records may be gone, and no code can help.

use raftline_proto::ids::{GroupId, Index, NodeId};
use raftline_storage::segment::sequence_of;
use raftline_storage::sim::Rot;
use raftline_storage::{Disk, Scrub, SimDisk};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Step, World};
use crate::sim::facts::{Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::node::Node;
use crate::sim::trace::Place;

impl World {
    /// Bytes of one of the victim's logs go bad.
    pub(super) fn rot(&mut self, victim: NodeId) {
        let of_victim = |((node, group), _): (&(NodeId, GroupId), _)| (*node == victim).then_some(*group);
        let mut groups: Vec<GroupId> = self.views.iter().filter_map(of_victim).collect();
        groups.retain(|group| *group != GroupId::COORDINATOR && !self.rotten.contains_key(group));
        let Some(group) = self.chance.pick(&groups).copied() else { return };
        let Some(node) = self.nodes.get(&victim) else { return };
        let (disk, life) = (node.disk.clone(), node.life());
        // What the checkers know of the log is read before.
        if let Some(life) = life {
            self.refresh(life, self.shard_of(group), group);
        }
        let dir = Node::data_dir().join("groups").join(group.to_string());
        let files = segments(&disk, &dir);
        let Some(file) = self.chance.pick(&files).cloned() else { return };
        let Ok(bytes) = disk.read(&file) else { return };
        // The last sector may be written on, and the first one when the log lets go of what is before.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 / SECTOR * SECTOR;
        if used <= SECTOR {
            return;
        }
        let at = self.chance.between(SECTOR, used - 1);
        let is_last = files.last() == Some(&file);
        let rot = match self.chance.between(0, 2) {
            0 if !is_last => Rot::Shortened { len: at },
            1 => Rot::Lost { at },
            _ => Rot::Flip { at, bit: u32::try_from(self.chance.between(0, 7)).expect("a bit") },
        };
        if disk.rot(&file, rot).is_ok_and(|done| done) {
            self.trace(Place::at(victim, group), "rots", at, || format!("{rot:?} of {}", file.display()));
            self.rotten.insert(group, victim);
        }
    }

    /// The scrub of a running node has come by everything once more.
    pub(super) fn scrub(&mut self, id: NodeId) {
        let again = self.heap.now() + self.chance.around(SCRUB_MEAN);
        self.heap.push(again, Step::Scrub(id));
        self.scrub_all(id);
    }

    fn scrub_all(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let Some(life) = node.life() else { return };
        let mut scrub = Scrub::new(node.disk.clone(), Node::data_dir().join("groups"));
        let bytes_max = self.chance.between(1, 4096);
        while let Ok(seen) = scrub.step(bytes_max)
            && !seen.is_end
        {
            if let Some(suspect) = seen.suspect {
                let shard = self.shard_of(suspect.group);
                self.with_port(life, shard, |unit, port, answers| {
                    unit.executor.examine(suspect, port, answers);
                });
                self.plan_turn(life, shard);
            }
        }
    }

    /// Rot that nobody has found yet: by the end of a run there must be none. What is not part of the log may be rotten.
    pub(super) fn hidden_rot(&mut self) -> Option<String> {
        for (group, id) in self.rotten.clone() {
            let shard = self.shard_of(group);
            let node = self.nodes.get_mut(&id)?;
            let unit = node.life().and_then(|life| node.unit(life, shard));
            let Some(log) = unit.and_then(|unit| unit.executor.log(group)) else { continue };
            if log.replay(Index::ZERO).any(|entry| entry.is_err()) {
                return Some(format!("node {id} has not found the rot in its log of group {group}"));
            }
        }
        None
    }

    /// A log cannot be read by the world. If it is rotten, its scrub comes by now: the checkers do not go on judging a
    /// replica that they cannot see.
    pub(super) fn unreadable(&mut self, life: Life, group: GroupId, reason: &str) {
        if self.rotten.get(&group) == Some(&life.node) {
            self.scrub_all(life.node);
        } else {
            self.judge.fact(&Fact::Failed { life, group, reason });
        }
    }

    /// Whether a replica's failure is what rot must lead to. Others take over: it stays closed.
    pub(super) fn closed_by_rot(&mut self, life: Life, group: GroupId) -> bool {
        if self.rotten.get(&group) != Some(&life.node) {
            return false;
        }
        self.views.remove(&(life.node, group));
        self.mark(Mark::RotFound);
        true
    }

    /// A power cut brings back what is on the disk.
    pub(super) fn heal_rot(&mut self, node: NodeId) {
        self.rotten.retain(|_, rotten| *rotten != node);
    }
}

fn segments(disk: &SimDisk, dir: &Path) -> Vec<PathBuf> {
    let names = disk.list(dir).unwrap_or_default();
    names.into_iter().filter(|name| sequence_of(name).is_some()).map(|name| dir.join(name)).collect()
}

const SECTOR: u64 = 512;

/// Between two passes of a node's scrub.
const SCRUB_MEAN: Duration = Duration::from_millis(1500);
