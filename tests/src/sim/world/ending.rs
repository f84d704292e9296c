//! The end of a run: faults stop, everything comes back, and the cluster has to become whole again and then quiet.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use raftline_proto::ids::{GroupId, Index, NodeId};
use raftline_proto::time::Monotonic;
use raftline_raft::types::Role;
use raftline_storage::Disk;

use super::watch::View;
use super::{Step, World};
use crate::sim::clients::Client;
use crate::sim::facts::{Fact, Life};
use crate::sim::trace::Place;

/// A sync that takes so long once faults are over began before.
const HUNG_SYNC: Duration = Duration::from_millis(500);

/// Where a node keeps its logs.
const GROUPS: &str = "/data/groups";

/// Between two looks at whether everything is well again.
const LOOK: Duration = Duration::from_millis(50);

impl World {
    /// Faults stop. Partitions end, dead nodes start soon, disks have room.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.trace(Place::WORLD, "calm", 0, || "no more faults".to_owned());
        self.network.set_rules(self.plan.network.quiet());
        self.network.mend_all();
        let now = self.heap.now();
        let ages = self.plan.upkeep.retention_ms_max().is_some();
        for id in self.ids() {
            self.make_room(id);
            self.with_node(id, |node| {
                node.paused_until = now;
                node.slow_until = now;
                node.hangs_until = now;
                let units = node.process.iter_mut().flat_map(|process| &mut process.shards);
                units.for_each(|unit| unit.paused_until = now);
                node.dies_after = None;
                if ages {
                    node.wall_skew = 0;
                }
            });
            if self.nodes.get(&id).is_some_and(|node| node.process.is_none()) {
                let at = now + self.chance.span(Duration::ZERO, Duration::from_millis(100));
                self.heap.push(at, Step::Start(id));
            }
        }
        // What partitions swallowed without breaking a connection would never be repaired by a real transport either.
        for (from, to) in self.network.pairs() {
            self.break_connection(from, to);
        }
    }

    /// Runs until everything is well, at most for `limit`; then until it is quiet. Reports what is not.
    pub fn settle(&mut self, limit: Duration) -> Duration {
        let begun = self.heap.now();
        let end = begun + limit;
        let mut complaint = self.complaint();
        while let Some(what) = complaint.take() {
            if self.judge.violation.is_some() {
                return self.heap.now().since(begun);
            }
            if self.heap.now() >= end {
                let what = format!("{limit:?} after the last fault: {what}");
                self.judge.fact(&Fact::NotLive { what: &what });
                return limit;
            }
            self.pass(LOOK);
            complaint = self.complaint();
        }
        let took = self.heap.now().since(begun);
        self.rest();
        self.final_facts();
        took
    }

    fn pass(&mut self, span: Duration) {
        let until = self.heap.now() + span;
        // The clock has to get there even if nothing happens until then.
        self.heap.push(until, Step::Client { client: usize::MAX, at: until });
        self.run(until);
    }

    /// Why the cluster is not well yet.
    fn complaint(&mut self) -> Option<String> {
        if let Some(node) = self.nodes.values().find(|node| node.process.is_none()) {
            return Some(format!("node {} is down", node.id));
        }
        let now = self.heap.now();
        let hangs = |unit: &crate::sim::node::Unit| {
            unit.round.as_ref().is_some_and(|round| round.since + HUNG_SYNC <= now)
        };
        let units = self.nodes.values().filter_map(|node| node.process.as_ref());
        if units.flat_map(|process| &process.shards).any(hangs) {
            // It began before the faults ended.
            return Some("a sync hangs still".to_owned());
        }
        let partitions = self.plan.topics.iter().sum::<u32>() as usize;
        if !self.users.is_complete(partitions) {
            return Some("not all topics were created".to_owned());
        }
        for client in self.clients() {
            match client {
                Client::Producer(producer) if !producer.is_satisfied() => return Some(producer.describe()),
                Client::Consumer(consumer) => {
                    let committed = self.judge.checks.ledger().next_offset(consumer.group());
                    if consumer.next() < committed {
                        return Some(format!(
                            "a consumer of group {} has come to offset {} of {committed}",
                            consumer.group(),
                            consumer.next()
                        ));
                    }
                }
                Client::Admin(admin) if !admin.is_done() => {
                    return Some("the operator is not done".to_owned());
                }
                Client::Producer(_)
                | Client::Admin(_)
                | Client::Eraser(_)
                | Client::Inquirer(_)
                | Client::Meddler(_) => {}
            }
        }
        let complaint = self.replica_complaint().or_else(|| self.leftovers());
        complaint.or_else(|| self.hidden_rot()).or_else(|| self.uncompacted())
    }

    fn replica_complaint(&mut self) -> Option<String> {
        let groups = self.judge.checks.ledger().groups();
        for group in groups.filter(|group| !self.users.is_gone(*group)).collect::<Vec<_>>() {
            let committed = self.judge.checks.ledger().last(group);
            for (life, view) in self.replicas(group) {
                if view.last().index != committed || view.commit != committed {
                    return Some(format!(
                        "{life}'s replica of group {group} ends at {} with commit {}, committed is {committed}",
                        view.last(),
                        view.commit
                    ));
                }
            }
            if !self.replicas(group).iter().any(|(_, view)| view.leads) {
                return Some(format!("group {group} has no leader"));
            }
        }
        None
    }

    /// Every node holds the logs of the topics that there are, and nothing of those that were deleted.
    fn leftovers(&mut self) -> Option<String> {
        let image = self.users.image().clone();
        let partitions: Vec<_> = image.topics.values().flat_map(|topic| &topic.partitions).collect();
        for id in self.ids() {
            let wanted = partitions.iter().filter(|partition| partition.replicas.contains(&id));
            let wanted: BTreeSet<GroupId> =
                wanted.map(|partition| partition.group).chain([GroupId::COORDINATOR]).collect();
            let shards = self.shards();
            let node = self.nodes.get_mut(&id)?;
            let names = node.disk.list(Path::new(GROUPS)).unwrap_or_default();
            let is_wanted = |name: &&String| name.parse().is_ok_and(|group| wanted.contains(&GroupId(group)));
            if let Some(name) = names.iter().find(|name| !is_wanted(name)) {
                return Some(format!("node {id} still has {GROUPS}/{name}, of a topic that was deleted"));
            }
            let life = node.life()?;
            for group in wanted {
                let shard = usize::try_from(group.0).expect("few groups") % shards;
                let open = node.unit(life, shard).is_some_and(|unit| unit.executor.log(group).is_some());
                if !open && self.rotten.get(&group) != Some(&id) {
                    return Some(format!("node {id} has not opened its log of group {group}"));
                }
            }
        }
        None
    }

    fn replicas(&self, group: GroupId) -> Vec<(Life, &View)> {
        let of = |((_, other), view): (&(NodeId, GroupId), _)| (*other == group).then_some(view);
        self.views.iter().filter_map(of).map(|view: &View| (view.life, view)).collect()
    }

    /// After a while in which lazy notes are written, only signs of life may be exchanged. Two lazy flushes may follow
    /// each other: one with the last notes, which may bring a vote along, and one that says that vote was synced.
    fn rest(&mut self) {
        self.pass(self.plan.timings.note_interval * 2 + Duration::from_millis(2500));
        if self.plan.upkeep.is_any() {
            // Tombstones that have just become old enough, and segments that have just been sealed.
            self.pass(self.plan.timings.retention_interval * 4 + Duration::from_secs(2));
        }
        if let Some(ms) = self.plan.upkeep.retention_ms_max() {
            self.pass(Duration::from_millis(ms) + self.plan.timings.clock_settle);
        }
        let before = self.counts;
        let rounds = self.sync_rounds();
        self.pass(Duration::from_secs(2));
        let (messages, rounds) = (self.counts.messages - before.messages, self.sync_rounds() - rounds);
        // A replica that stays closed is asked for ever, now and then.
        let messages = if self.rotten.is_empty() { messages } else { 0 };
        if self.counts.elections > before.elections || messages > 0 || rounds > 0 {
            let what = format!(
                "idle for 2 s, the cluster sent {messages} messages beside signs of life, ran {rounds} sync rounds and \
                 held {} elections",
                self.counts.elections - before.elections
            );
            self.judge.fact(&Fact::NotLive { what: &what });
        }
        let fullest = self.network.fullest();
        let life = Life { node: NodeId(0), start: 0 };
        self.judge.fact(&Fact::Filled { life, what: "a connection at rest", level: fullest, bound: 1 << 10 });
    }

    fn sync_rounds(&self) -> u64 {
        self.nodes
            .values()
            .filter_map(|node| node.process.as_ref())
            .flat_map(|process| process.shards.iter().map(|unit| unit.rounds))
            .sum()
    }

    /// Every replica's log, read again from its first byte.
    fn final_facts(&mut self) {
        for ((node, group), view) in self.views.clone() {
            let shard = self.shard_of(group);
            let Some(described) = self.describe(view.life, shard, group) else { continue };
            let mut again = View::new(view.life, view.start);
            let read = match self.nodes.get_mut(&node).and_then(|node| node.unit(view.life, shard)) {
                Some(unit) => unit.executor.log(group).map_or(Ok(0), |log| again.refresh(log)),
                None => Ok(0),
            };
            if let Err(reason) = read {
                self.unreadable(view.life, group, &reason);
            }
            let start_offset = described.start_offset;
            self.judge.fact(&Fact::FinalStart { life: view.life, group, start_offset });
            self.show_bytes(view.life, shard, group);
            self.show_held(view.life, shard, group);
            self.show_producers(view.life, shard, group, described.term);
            let leader = if described.role == Role::Leader { Some(node) } else { described.leader };
            self.judge.fact(&Fact::Final {
                life: view.life,
                group,
                leader,
                term: described.term,
                commit: described.commit.max(Index::ZERO),
                log: &again.entries,
                log_start: again.start,
            });
        }
    }

    /// How far the run has come, for a failing seed's report.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.heap.now().since(Monotonic::ZERO)
    }
}
