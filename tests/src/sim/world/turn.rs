//! A shard's turn, as its thread takes it in production, and what becomes of everything that comes out.

use std::collections::BTreeSet;
use std::time::Duration;

use raftline_broker::executor::Removal;
use raftline_broker::payload::Payload;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::Monotonic;
use raftline_raft::types::Role;
use raftline_shard::types::{Effect, Event};
use raftline_storage::Allocation;
use raftline_storage::SimDisk;

use super::port::{Out, Port};
use super::retaining::Decision;
use super::{Step, World};
use crate::sim::facts::{Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::node::{Round, Unit};
use crate::sim::trace::{Place, mix};

/// Events that one turn takes at most: small, so that many ways to cut the stream into turns are tried.
const TURN_EVENTS_MAX: u64 = 48;

/// What an inbox may hold before something is wrong. Production bounds it at the doors.
const INBOX_BOUND: u64 = 8192;

impl World {
    /// Hands an event to a shard of a running node.
    pub(super) fn deliver(&mut self, to: NodeId, shard: usize, event: Event<Payload>) {
        let Some(life) = self.nodes.get(&to).and_then(|node| node.life()) else { return };
        let Some(unit) = self.nodes.get_mut(&to).and_then(|node| node.unit(life, shard)) else { return };
        unit.inbox.push_back(event);
        let level = unit.inbox.len() as u64;
        self.judge.fact(&Fact::Filled { life, what: "inbox", level, bound: INBOX_BOUND });
        self.plan_turn(life, shard);
    }

    /// The shard that a group lives on.
    pub(super) fn shard_of(&self, group: GroupId) -> usize {
        usize::try_from(group.0 % u64::from(self.plan.shards)).expect("few shards")
    }

    pub(super) fn turn(&mut self, life: Life, shard: usize) {
        let now = self.heap.now();
        let Some(node) = self.nodes.get_mut(&life.node) else { return };
        let hangs = node.unit(life, shard).map_or(now, |unit| unit.paused_until);
        let resumed = node.paused_until.max(hangs);
        if resumed > now {
            self.heap.push(resumed, Step::Turn(life, shard));
            return;
        }
        let clocks = node.clocks(now);
        let Some(unit) = node.unit(life, shard) else { return };
        unit.turn_due = false;
        let mut events = std::mem::take(&mut unit.answers);
        let bound = usize::try_from(self.chance.between(1, TURN_EVENTS_MAX)).expect("small");
        let taken = unit.inbox.len().min(bound);
        events.extend(unit.inbox.drain(..taken));
        let mut touched = BTreeSet::new();
        self.before_events(life, shard, &events, &mut touched);
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let mut effects = Vec::new();
        for event in events {
            unit.shard.handle(clocks, event, &mut effects);
        }
        if unit.shard.deadline().is_some_and(|deadline| deadline <= clocks.monotonic) {
            unit.shard.handle(clocks, Event::Tick, &mut effects);
        }
        unit.shard.end_turn(clocks, &mut effects);
        touched.extend(effects.iter().filter_map(group_of_effect));
        self.report_cuts(life, &effects);
        self.report_commits(life, shard, &touched);
        self.perform_touched(life, shard, effects, &touched);
    }

    /// Performs a start's effects.
    pub(super) fn perform(&mut self, life: Life, shard: usize, effects: Vec<Effect<Payload>>) {
        self.perform_touched(life, shard, effects, &BTreeSet::new());
    }

    fn perform_touched(
        &mut self,
        life: Life,
        shard: usize,
        effects: Vec<Effect<Payload>>,
        touched: &BTreeSet<GroupId>,
    ) {
        for effect in effects {
            if self.dies_now(life) {
                return;
            }
            let decision = Decision::of(&effect);
            self.with_port(life, shard, |unit, port, answers| {
                unit.executor.perform(&mut vec![effect], port, answers);
            });
            if let Some(decision) = decision {
                self.show_decision(life, shard, &decision);
            }
        }
        if self.dies_now(life) {
            return;
        }
        let now = self.heap.now();
        let Some(clocks) = self.nodes.get(&life.node).map(|node| node.clocks(now)) else { return };
        self.with_port(life, shard, |unit, port, answers| unit.executor.end_turn(clocks, port, answers));
        self.report_turn(life, shard, touched);
        self.plan_next(life, shard);
    }

    /// Lets a unit's executor do something, and sees to what comes out.
    pub(super) fn with_port(
        &mut self,
        life: Life,
        shard: usize,
        act: impl FnOnce(&mut Unit, &mut Port<'_>, &mut Vec<Event<Payload>>),
    ) {
        let now = self.heap.now();
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let mut port = Port { from: life.node, now, network: &mut self.network, out: Vec::new() };
        // One list from turn to turn, as a shard's thread has it: some answers go ahead of those that wait.
        let mut answers = std::mem::take(&mut unit.answers);
        act(unit, &mut port, &mut answers);
        let out = port.out;
        unit.answers = answers;
        for one in out {
            self.came_out(life, shard, one);
        }
    }

    fn came_out(&mut self, life: Life, shard: usize, out: Out) {
        let id = life.node;
        match out {
            Out::Message(to, message, fate) => self.sent(life, to, message, fate),
            Out::Reply(request, reply) => self.replied(life, request, reply),
            Out::Round(round) => self.start_round(life, shard, round),
            Out::Allocate(group, allocation) => {
                let at =
                    self.heap.now() + self.chance.span(Duration::from_micros(20), Duration::from_millis(3));
                let allocation = Box::new(allocation);
                self.heap.push(at, Step::Allocate { life, shard, group, allocation });
            }
            Out::Compact(job) => self.start_compaction(life, shard, job),
            Out::Remove(removal) => {
                // Unlinking takes a while, and the process may die before it is done.
                let at =
                    self.heap.now() + self.chance.span(Duration::from_millis(1), Duration::from_millis(20));
                self.heap.push(at, Step::Remove { life, shard, removal: Box::new(removal) });
            }
            Out::Image(image) => {
                self.trace(Place::on(id), "image", image.applied.0, || format!("applied {}", image.applied));
                for group in self.users.learn(&image) {
                    self.views.retain(|(_, other), _| *other != group);
                    self.rotten.remove(&group);
                    self.mark(Mark::TopicDeleted);
                }
                for other in (0..self.shards()).filter(|other| *other != shard) {
                    self.deliver(id, other, Event::Image(image.clone()));
                }
                self.spawn_clients();
            }
            Out::Leader { group, term, leader, role } => {
                let digest = mix(term.0) ^ u64::from(leader.map_or(0, |leader| leader.0));
                self.trace(Place::at(id, group), "role", digest ^ role as u64, || {
                    let leader =
                        leader.map_or_else(|| "nobody".to_owned(), |leader| format!("node {leader}"));
                    format!("{role:?} in term {term}, leader {leader}")
                });
                self.note_role(life, group, role);
            }
            Out::Alarm(group, alarm) => {
                self.judge.fact(&Fact::Alarmed { life, group, alarm: &format!("{alarm:?}") });
            }
            Out::Failed(group, reason) => self.group_failed(life, group, &reason),
            Out::SyncFailed(reason) => {
                self.trace(Place::on(id), "sync failed", 0, || reason);
                self.mark(Mark::SyncFailed);
                self.with_node(id, |node| node.sync_fails = false);
                self.die(id, crate::sim::node::Death::Kill);
            }
            Out::Deleted | Out::Drained => {}
        }
    }

    fn note_role(&mut self, life: Life, group: GroupId, role: Role) {
        let Some(view) = self.views.get_mut(&(life.node, group)) else { return };
        if view.leads && role != Role::Leader {
            view.leads = false;
            self.mark(Mark::SteppedDown);
        }
    }

    /// A round's parts are done at their own times. What a part makes durable is taken either when it begins or when
    /// it ends: a disk may do either, and a claim made too early or for too much only shows in one of the two.
    fn start_round(
        &mut self,
        life: Life,
        shard: usize,
        round: raftline_broker::executor::SyncRound<SimDisk>,
    ) {
        let parts = round.split(self.chance.index_through(4) + 1);
        let left = parts.len();
        let early: Vec<bool> = (0..left).map(|_| self.chance.coin()).collect();
        let now = self.heap.now();
        let slow = self.nodes.get(&life.node).is_some_and(|node| node.slow_until > now);
        let hangs = self.nodes.get(&life.node).map_or(now, |node| node.hangs_until);
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        unit.rounds += 1;
        let number = unit.rounds;
        unit.round = Some(Round { whole: round, parts, left, since: now });
        if left == 0 {
            self.part_done(life, shard, number, Ok(()));
        }
        for (part, early) in early.into_iter().enumerate() {
            let at = hangs.max(now) + self.sync_span(slow);
            self.heap.push(at, Step::SyncPart { life, shard, round: number, part, early });
            if early {
                self.run_part(life, shard, number, part, Last::No);
            }
        }
    }

    fn sync_span(&mut self, slow: bool) -> Duration {
        let disks = self.plan.disks;
        let stalls = !self.calm && (slow || self.chance.hit(disks.stall));
        self.chance.span(disks.sync_min, if stalls { disks.stall_max } else { disks.sync_max })
    }

    pub(super) fn sync_part(&mut self, life: Life, shard: usize, round: u64, part: usize, early: bool) {
        let now = self.heap.now();
        if let Some(node) = self.nodes.get(&life.node)
            && node.paused_until > now
        {
            let resumed = node.paused_until;
            self.heap.push(resumed, Step::SyncPart { life, shard, round, part, early });
            return;
        }
        if early {
            self.part_done(life, shard, round, Ok(()));
        } else {
            self.run_part(life, shard, round, part, Last::Yes);
        }
    }

    fn run_part(&mut self, life: Life, shard: usize, number: u64, part: usize, counts: Last) {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(round) = unit.round.as_ref().filter(|_| unit.rounds == number) else { return };
        let result = round.parts[part].run();
        match (counts, result) {
            (Last::No, Ok(())) => {}
            (Last::No, Err(error)) | (Last::Yes, Err(error)) => {
                self.part_done(life, shard, number, Err(error))
            }
            (Last::Yes, Ok(())) => self.part_done(life, shard, number, Ok(())),
        }
    }

    fn part_done(&mut self, life: Life, shard: usize, number: u64, result: std::io::Result<()>) {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        if unit.rounds != number {
            return;
        }
        let Some(mut round) = unit.round.take() else { return };
        if round.left > 1 && result.is_ok() {
            round.left -= 1;
            unit.round = Some(round);
            return;
        }
        self.trace(Place::on(life.node), "synced", number, || {
            let groups: Vec<String> = round.whole.groups().map(|group| group.to_string()).collect();
            format!("shard {shard}, groups [{}]", groups.join(", "))
        });
        let groups: Vec<GroupId> = round.whole.groups().collect();
        let starts = self.starts(life, shard, &groups);
        self.with_port(life, shard, |unit, port, answers| {
            unit.executor.sync_done(round.whole, &result, port, answers);
        });
        for before in starts {
            self.show_let_go(life, shard, before);
        }
        self.plan_turn(life, shard);
    }

    pub(super) fn allocate(
        &mut self,
        life: Life,
        shard: usize,
        group: GroupId,
        allocation: Allocation<SimDisk>,
    ) {
        let result = allocation.run();
        self.with_port(life, shard, |unit, port, _| {
            unit.executor.allocated(group, allocation, result, port);
        });
        self.plan_turn(life, shard);
    }

    /// Files are removed, and the shard hears of it.
    pub(super) fn remove(&mut self, life: Life, shard: usize, removal: Removal<SimDisk>) {
        if self.nodes.get(&life.node).and_then(|node| node.life()) != Some(life) {
            return;
        }
        let done = removal.run();
        self.with_port(life, shard, |unit, port, answers| unit.executor.removed(done, port, answers));
        self.plan_turn(life, shard);
    }

    pub(super) fn woken(&mut self, life: Life, shard: usize, at: Monotonic) {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        if unit.wake_at == Some(at) {
            unit.wake_at = None;
            self.plan_turn(life, shard);
        }
    }

    /// Plans a turn soon, unless one is planned.
    pub(super) fn plan_turn(&mut self, life: Life, shard: usize) {
        let at = self.heap.now() + self.chance.span(Duration::from_micros(1), Duration::from_micros(80));
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        if !unit.turn_due {
            unit.turn_due = true;
            self.heap.push(at, Step::Turn(life, shard));
        }
    }

    /// After a turn: another one if there is work, and a wake-up at the next deadline.
    fn plan_next(&mut self, life: Life, shard: usize) {
        let Some(node) = self.nodes.get_mut(&life.node) else { return };
        let Some(unit) = node.unit(life, shard) else { return };
        let busy = !unit.answers.is_empty() || !unit.inbox.is_empty();
        let deadline = [unit.shard.deadline(), unit.executor.deadline()].into_iter().flatten().min();
        let wake_at = deadline.map(|deadline| node.virtual_time(deadline));
        let Some(unit) = node.unit(life, shard) else { return };
        if let Some(at) = wake_at
            && unit.wake_at.is_none_or(|planned| at < planned)
        {
            unit.wake_at = Some(at);
            self.heap.push(at, Step::Wake(life, shard, at));
        }
        if busy {
            self.plan_turn(life, shard);
        }
    }

    pub(super) fn shards(&self) -> usize {
        usize::try_from(self.plan.shards).expect("few shards")
    }
}

/// Whether a part that was run also counts as done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

/// The group that an effect may change.
fn group_of_effect(effect: &Effect<Payload>) -> Option<GroupId> {
    match effect {
        Effect::Append { entry, .. } => Some(entry.header.group),
        Effect::Accept { group, .. }
        | Effect::Truncate { group, .. }
        | Effect::Reset { group, .. }
        | Effect::Replicate { group, .. }
        | Effect::Send { group, .. }
        | Effect::Read { group, .. }
        | Effect::Trim { group, .. }
        | Effect::LeaderChanged { group, .. } => Some(*group),
        _ => None,
    }
}
