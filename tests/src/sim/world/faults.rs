//! Faults: what goes wrong, and how it ends.

use std::time::Duration;

use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::Monotonic;

use super::{Step, World};
use crate::sim::facts::{Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::node::Death;
use crate::sim::plan::{Family, Fault};
use crate::sim::trace::Place;

impl World {
    /// A fault comes, and comes again later.
    pub(super) fn fault(&mut self, number: usize) {
        if self.calm {
            return;
        }
        let (fault, mean) = self.plan.faults[number];
        let again = self.heap.now() + self.chance.around(mean);
        self.heap.push(again, Step::Fault(number));
        self.counts.faults += 1;
        let Some(victim) = self.victim() else { return };
        self.trace(Place::on(victim), "fault", fault as u64, || format!("{fault:?}"));
        match fault {
            Fault::Kill => self.die(victim, Death::Kill),
            Fault::PowerLoss => self.die(victim, Death::PowerLoss),
            Fault::PowerLossOfAll => {
                self.mark(Mark::PowerLossOfAll);
                for id in self.ids() {
                    self.die(id, Death::PowerLoss);
                }
            }
            Fault::CrashInTurn => {
                let effects = self.chance.index_through(30);
                let death = if self.chance.coin() { Death::Kill } else { Death::PowerLoss };
                self.with_node(victim, |node| node.dies_after = Some((effects, death)));
            }
            Fault::Partition => self.partition(victim),
            Fault::OneWay => self.one_way(victim),
            Fault::Reset => self.reset(victim),
            Fault::Pause => {
                let until = self.heap.now() + self.spell();
                self.mark(Mark::Paused);
                self.with_node(victim, |node| node.paused_until = until);
            }
            Fault::PauseShard => self.pause_shard(victim),
            Fault::HangDisk => {
                let until = self.heap.now() + self.spell() * 4;
                self.with_node(victim, |node| node.hangs_until = until);
            }
            Fault::ClockJump if self.plan.upkeep.retention_ms_max().is_some() => self.clock_jumps_far(victim),
            Fault::ClockJump => {
                let jump = i64::try_from(self.chance.between(0, 7_200_000)).expect("two hours") - 3_600_000;
                self.with_node(victim, |node| node.wall_skew += jump);
            }
            Fault::SlowDisk => {
                let until = self.heap.now() + self.spell() * 3;
                self.with_node(victim, |node| node.slow_until = until);
            }
            Fault::DiskFull => self.fill_disk(victim),
            Fault::SyncFails => self.fail_next_sync(victim),
            Fault::Transfer => self.ask_for_transfer(),
            Fault::Rot => self.rot(victim),
        }
    }

    /// A new leader may have to fall soon, in the middle of its first replication.
    pub(super) fn shorten_reign(&mut self, life: Life, group: GroupId) {
        let settled = self.heap.now() > Monotonic::ZERO + self.plan.grace;
        if settled && !self.calm && self.chance.hit(self.plan.short_reigns) {
            let at = self.heap.now() + self.chance.span(Duration::ZERO, REIGN_MAX);
            self.heap.push(at, Step::Fall(life, group));
        }
    }

    /// Cuts a leader off, or ends its process, if it still leads.
    pub(super) fn fall(&mut self, life: Life, group: GroupId) {
        let leads = self.views.get(&(life.node, group)).is_some_and(|view| view.life == life && view.leads);
        if self.calm || !leads {
            return;
        }
        self.counts.faults += 1;
        self.mark(Mark::ReignCutShort);
        self.trace(Place::at(life.node, group), "falls", 0, String::new);
        match self.chance.between(0, 3) {
            0 => self.die(life.node, Death::Kill),
            1 => self.die(life.node, Death::PowerLoss),
            _ => {
                let mut pairs = self.network.pairs();
                pairs.retain(|(from, to)| *from == life.node || *to == life.node);
                self.cut(pairs);
            }
        }
    }

    /// Ends a process, one way or the other; another is started later.
    pub(super) fn die(&mut self, id: NodeId, death: Death) {
        let now = self.heap.now();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(process) = node.process.take() else { return };
        let life = process.life;
        node.dies_after = None;
        node.paused_until = now;
        if self.plan.upkeep.retention_ms_max().is_some() {
            // A clock that is off from the start, with fewer than two others in reach, cannot be told from a right one.
            node.wall_skew = 0;
        }
        drop(process);
        let told = death == Death::Kill;
        self.trace(Place::on(id), "dies", u64::from(told), || format!("{death:?}"));
        match death {
            Death::Kill => self.orphan_disk(id),
            Death::PowerLoss => self.lose_power(id),
        }
        self.views.retain(|(node, _), _| *node != id);
        self.durable.forget(id);
        self.drop_requests(life, told);
        self.disconnect_after_death(id, told);
        let down = self.spell();
        self.heap.push(now + down, Step::Start(id));
    }

    /// Whether the process dies before its next effect; if so, it is dead now.
    pub(super) fn dies_now(&mut self, life: Life) -> bool {
        let Some(node) = self.nodes.get_mut(&life.node).filter(|node| node.life() == Some(life)) else {
            return true;
        };
        match &mut node.dies_after {
            None => false,
            Some((0, death)) => {
                let death = *death;
                self.mark(Mark::CrashInTurn);
                self.die(life.node, death);
                true
            }
            Some((left, _)) => {
                *left -= 1;
                false
            }
        }
    }

    /// Records go by age: one node's clock is days off, or is set right. Never two at a time: two that are off by the same
    /// would be right.
    fn clock_jumps_far(&mut self, victim: NodeId) {
        let is_off = |node: &crate::sim::node::Node| node.wall_skew != 0;
        if self.nodes.values().any(is_off) {
            self.nodes.values_mut().for_each(|node| node.wall_skew = 0);
            return;
        }
        if self.nodes.get(&victim).is_none_or(|node| node.process.is_none()) {
            return;
        }
        let far = i64::try_from(self.chance.between(400, 9 * 24 * 3_600_000)).expect("nine days");
        let skew = if self.chance.coin() { far } else { -far };
        self.mark(Mark::ClockOff);
        self.with_node(victim, |node| node.wall_skew = skew);
    }

    /// The nodes fall into two parts; more often than not the victim is alone.
    fn partition(&mut self, victim: NodeId) {
        let mut ids = self.ids();
        self.chance.shuffle(&mut ids);
        let alone = self.chance.coin();
        let cut_at = self.chance.index_through(ids.len().saturating_sub(1));
        let inside: Vec<NodeId> =
            if alone { vec![victim] } else { ids.into_iter().take(cut_at.max(1)).collect() };
        let crosses = |(from, to): &(NodeId, NodeId)| inside.contains(from) != inside.contains(to);
        let pairs: Vec<_> = self.network.pairs().into_iter().filter(crosses).collect();
        self.mark(Mark::Partitioned);
        self.cut(pairs);
    }

    /// Messages of the victim do not arrive, or it does not get any, or a few pairs are cut one way.
    fn one_way(&mut self, victim: NodeId) {
        let kind = self.chance.between(0, 2);
        let mut pairs = self.network.pairs();
        match kind {
            0 => pairs.retain(|(from, _)| *from == victim),
            1 => pairs.retain(|(_, to)| *to == victim),
            _ => {
                self.chance.shuffle(&mut pairs);
                pairs.truncate(2);
            }
        }
        self.mark(Mark::OneWayPartition);
        self.cut(pairs);
    }

    fn cut(&mut self, pairs: Vec<(NodeId, NodeId)>) {
        self.network.cut(&pairs);
        let end = self.heap.now() + self.spell() * 2;
        self.heap.push(end, Step::Mend(pairs));
    }

    /// A partition ends. Some connections broke in it, as their ends notice only now.
    pub(super) fn mend(&mut self, pairs: &[(NodeId, NodeId)]) {
        self.trace(Place::WORLD, "mend", pairs.len() as u64, || format!("{pairs:?}"));
        self.network.mend(pairs);
        for (from, to) in pairs {
            if self.chance.coin() {
                self.break_connection(*from, *to);
            }
        }
    }

    /// One shard's thread hangs; the node's other shards and its pulse go on.
    fn pause_shard(&mut self, victim: NodeId) {
        let now = self.heap.now();
        let until = now + self.spell() * 2;
        let shard = self.chance.index_through(self.shards() - 1);
        let Some(life) = self.nodes.get(&victim).and_then(|node| node.life()) else { return };
        if let Some(unit) = self.nodes.get_mut(&victim).and_then(|node| node.unit(life, shard)) {
            if unit.paused_until <= now {
                unit.paused_since = now;
            }
            unit.paused_until = unit.paused_until.max(until);
            self.mark(Mark::Paused);
        }
    }

    fn reset(&mut self, victim: NodeId) {
        let mut pairs = self.network.pairs();
        pairs.retain(|(from, to)| *from == victim || *to == victim);
        if let Some((from, to)) = self.chance.pick(&pairs).copied() {
            self.break_connection(from, to);
        }
    }

    pub(super) fn break_connection(&mut self, from: NodeId, to: NodeId) {
        if let Some(generation) = self.network.connection(from, to) {
            self.network.hang_up(from, to);
            let at = self.heap.now() + self.chance.span(Duration::ZERO, Duration::from_millis(4));
            self.heap.push(at, Step::Broken { from, to, generation });
        }
    }

    /// A group's storage gave up. Only rot of this very log excuses that, or a failing sync, which ends the process.
    pub(super) fn group_failed(&mut self, life: Life, group: GroupId, reason: &str) {
        self.trace(Place::at(life.node, group), "closed", 0, || reason.to_owned());
        if self.closed_by_rot(life, group) {
            return;
        }
        let excused = |node: &crate::sim::node::Node| node.sync_fails && reason.contains("sync");
        if self.nodes.get(&life.node).is_some_and(excused) {
            self.counts.closed_by_disk += 1;
            self.with_node(life.node, |node| node.dies_after = Some((0, Death::Kill)));
        } else {
            self.judge.fact(&Fact::Failed { life, group, reason });
        }
    }

    /// How long something lasts.
    pub(super) fn spell(&mut self) -> Duration {
        let (least, most) = match self.plan.family {
            Family::Plain => (20, 2500),
            Family::Adversarial => (2, 500),
        };
        self.chance.span(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// Whom a fault hits: a leader as often as anybody.
    fn victim(&mut self) -> Option<NodeId> {
        let leaders: Vec<NodeId> =
            self.views.iter().filter(|(_, view)| view.leads).map(|((node, _), _)| *node).collect();
        let ids = self.ids();
        if self.chance.coin()
            && let Some(leader) = self.chance.pick(&leaders)
        {
            return Some(*leader);
        }
        self.chance.pick(&ids).copied()
    }

    pub(super) fn with_node(&mut self, id: NodeId, act: impl FnOnce(&mut crate::sim::node::Node)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            act(node);
        }
    }
}

/// A few round trips and syncs of the adversarial family.
const REIGN_MAX: Duration = Duration::from_millis(60);
