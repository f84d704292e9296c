//! What goes wrong, when it is its turn.

use crate::support::replica::Event;
use crate::world::{Happening, World, pairs};
use raftline_proto::ids::NodeId;
use raftline_proto::time::Monotonic;

impl World {
    pub fn crash_one(&mut self) {
        let all = self.random.chance(100);
        let one = self.pick();
        for node in 0..self.nodes.len() {
            if (all || node == one) && self.nodes[node].running {
                self.crash(node);
            }
        }
        self.again(self.faults.crash_every_us, Happening::Crash);
    }

    pub fn crash(&mut self, node: usize) {
        self.checker.marks.crashes += 1;
        let unsynced = self.nodes[node].replica.disk.unsynced() as u64;
        let saving = self.nodes[node].replica.disk.saving.len() as u64;
        let writes = usize::try_from(self.random.below(unsynced + 1)).unwrap();
        let saves = usize::try_from(self.random.below(saving + 1)).unwrap();
        let hint = self.random.chance(500);
        self.say(|| format!("node {} crashes, {writes} of {unsynced} writes made it", node + 1));
        let crashed = &mut self.nodes[node];
        crashed.running = false;
        let commit = crashed.replica.raft.commit();
        crashed.replica.disk.crash(writes, saves);
        if hint {
            crashed.replica.disk.commit_hint = crashed.replica.disk.commit_hint.max(commit);
        }
        let boot = crashed.boot;
        // What it was stays visible to the checker until it starts again; it must not look like a leader.
        crashed.replica.restart(Monotonic(self.now));
        let pause = self.random.below(2_500_000) / self.faults.pace;
        self.after(pause, Happening::Restart { node, boot });
        if self.faults.crash_is_seen {
            for to in (0..self.nodes.len()).filter(|to| *to != node) {
                let delay = self.random.below(20_000) / self.faults.pace;
                self.after(delay, Happening::Refused { by: node, boot, to });
            }
        }
    }

    /// `to` finds that nothing listens at a node any more.
    pub fn see_crash(&mut self, by: usize, boot: u64, to: usize) {
        let gone = !self.nodes[by].running && self.nodes[by].boot == boot && self.nodes[to].running;
        let Some((_, _, up)) = self.nodes[to].heard.get_mut(&by) else { return };
        if gone && *up {
            *up = false;
            let peer = NodeId(u32::try_from(by + 1).unwrap());
            self.handle(to, &Event::PeerDown(peer), 0);
        }
    }

    pub fn partition(&mut self) {
        self.cut.clear();
        let count = self.nodes.len();
        match self.random.below(4) {
            0 => {}
            // One node alone, both ways.
            1 => {
                let one = self.pick();
                self.cut = pairs(count).filter(|(a, b)| (*a == one) != (*b == one)).collect();
            }
            // Two sides.
            2 => {
                let sides: Vec<bool> = (0..count).map(|_| self.random.chance(500)).collect();
                self.cut = pairs(count).filter(|(a, b)| sides[*a] != sides[*b]).collect();
            }
            // Some directions.
            _ => {
                let cut: Vec<(usize, usize)> = pairs(count).collect();
                self.cut = cut.into_iter().filter(|_| self.random.chance(250)).collect();
            }
        }
        self.say(|| format!("cut: {:?}", self.cut));
        self.again(self.faults.partition_every_us, Happening::Partition);
    }

    pub fn fill_or_empty_a_disk(&mut self) {
        let node = self.pick();
        let full = self.random.chance(400);
        self.nodes[node].replica.disk.full = full;
        self.checker.marks.failed_appends += u64::from(full);
        self.again(self.faults.full_every_us, Happening::Full);
    }

    pub fn trim_one(&mut self) {
        let node = self.pick();
        let raft = &self.nodes[node].replica.raft;
        let start = raft.start().previous.index;
        let room = raft.commit().since(start);
        if self.nodes[node].running && room > 0 {
            let through = start + self.random.below(room + 1);
            self.handle(node, &Event::Trim(through), 0);
        }
        self.again(self.faults.trim_every_us, Happening::Trim);
    }

    pub fn transfer_one(&mut self) {
        if let Some(leader) = self.leader() {
            let to = self.random.chance(500).then(|| NodeId(1 + u32::try_from(self.pick()).unwrap()));
            self.handle(leader, &Event::Transfer(to), 0);
            self.checker.marks.transfers +=
                u64::from(self.nodes[leader].replica.raft.transferring().is_some());
        }
        self.again(self.faults.transfer_every_us, Happening::Transfer);
    }
}
