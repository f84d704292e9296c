//! Compactions: run at some time after they were ordered, taken over at some time after they were run. What the logs
//! hold then is shown to the checkers, record by record.

use std::time::Duration;

use raftline_broker::executor::CompactionJob;
use raftline_proto::ids::{GroupId, Index};
use raftline_storage::SimDisk;

use super::watch::held;
use super::{CompactionWork, Step, World};
use crate::sim::facts::{Fact, Life, Rule};
use crate::sim::marks::Mark;
use crate::sim::trace::Place;

impl World {
    pub(super) fn start_compaction(&mut self, life: Life, shard: usize, job: CompactionJob<SimDisk>) {
        self.plan_compaction(life, shard, CompactionWork::Begun(job));
    }

    /// Whatever happens in between, a crash included, happens to a log with files that are not part of it yet.
    fn plan_compaction(&mut self, life: Life, shard: usize, work: CompactionWork) {
        let longest = if self.chance.coin() { Duration::from_millis(3) } else { Duration::from_millis(150) };
        let at = self.heap.now() + self.chance.span(Duration::from_micros(10), longest);
        self.heap.push(at, Step::Compact { life, shard, work: Box::new(work) });
    }

    pub(super) fn compact(&mut self, life: Life, shard: usize, work: CompactionWork) {
        let now = self.heap.now();
        let Some(node) = self.nodes.get_mut(&life.node).filter(|node| node.life() == Some(life)) else {
            return;
        };
        if node.paused_until > now {
            let resumed = node.paused_until;
            self.heap.push(resumed, Step::Compact { life, shard, work: Box::new(work) });
            return;
        }
        match work {
            CompactionWork::Begun(job) => {
                let group = job.group();
                self.trace(Place::at(life.node, group), "compacts", group.0, String::new);
                self.plan_compaction(life, shard, CompactionWork::Done(job.run()));
            }
            CompactionWork::Done(done) => {
                let group = done.group();
                self.with_port(life, shard, |unit, port, answers| {
                    unit.executor.compaction_done(done, port, answers);
                });
                self.plan_turn(life, shard);
                self.show_held(life, shard, group);
            }
        }
    }

    /// Shows the checkers every record that a replica holds.
    pub(super) fn show_held(&mut self, life: Life, shard: usize, group: GroupId) {
        let committed = self.views.get(&(life.node, group)).map_or(Index::ZERO, |view| view.commit);
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let facts = log.compaction_facts();
        let clean = Rule { through: facts.clean_through, tombstones_before: facts.tombstones_before };
        let start = log.start().1;
        let records = match held(log) {
            Ok(records) => records,
            Err(reason) => {
                self.unreadable(life, group, &reason);
                return;
            }
        };
        if clean.through > Index::ZERO {
            self.mark(Mark::Compacted);
        }
        if clean.tombstones_before.0 > 0 {
            self.mark(Mark::TombstonesDropped);
        }
        let digest = clean.through.0 ^ clean.tombstones_before.0 << 32;
        self.trace(Place::at(life.node, group), "compacted", digest, || {
            format!("{} records from {start} on, compacted by {clean:?}", records.len())
        });
        self.judge.fact(&Fact::Held { life, group, start, clean, committed, records: &records });
    }

    /// A replica that has not done yet what its group agreed on.
    pub(super) fn uncompacted(&mut self) -> Option<String> {
        for group in self.judge.checks.ledger().groups().collect::<Vec<_>>() {
            let rule = self.judge.checks.ledger().rule(group);
            let shard = self.shard_of(group);
            for node in self.nodes.values() {
                let process = node.process.as_ref();
                let log = process.and_then(|process| process.shards.get(shard)?.executor.log(group));
                let Some(facts) = log.map(raftline_storage::Log::compaction_facts) else { continue };
                let done = (facts.clean_through, facts.tombstones_before);
                // What was trimmed away needs no compaction.
                let trimmed = log.is_some_and(|log| log.start().0.index >= rule.through);
                if !trimmed && (done.0 < rule.through || done.1 < rule.tombstones_before) {
                    return Some(format!(
                        "node {} compacted group {group} by {done:?}, not by {rule:?}",
                        node.id
                    ));
                }
            }
        }
        None
    }
}
