//! Log compaction (docs/decisions/0007): the leader decides when and up to where, by a command in the log; every
//! replica carries out the last command that is committed, as soon as its own log is durable that far.
//!
//! The leader looks by the shard's slow timer, and only after growth or when something becomes old enough. An idle
//! partition costs nothing.

use crate::group::{Body, Group, Stage, Standing, Turn};
use crate::marks::{Mark, Marks};
use crate::partition::Partition;
use crate::producers::Place;
use crate::snapshot::is_of_the_past;
use crate::tail::TailBody;
use crate::types::{CompactionFacts, CompactionRule, Effect, ShardAlarm};
use core::time::Duration;
use raftline_proto::command::Command;
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::{Index, Offset};
use raftline_proto::time::{Monotonic, Now};

/// What a partition knows of its compaction.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// The last command committed here.
    ordered: Option<Ordered>,
    /// What this replica's log is compacted by; `None` if that is not known.
    done: Option<CompactionRule>,
    work: Work,
    /// How long was waited after the last failure in a row; none since a success.
    waited: Option<Duration>,
    /// Compaction points, with the time when each was committed here: what is older than `delete.retention.ms` may
    /// lose its tombstones. A restart finds them with the time of the restart, which delays that and nothing else.
    points: Marks,
    /// Commit indexes with the time when each was seen, while leading: for `min.compaction.lag.ms`.
    ages: Marks,
    /// The partition's `committed_bytes` when the leader looked last.
    bytes_seen: Option<u64>,
    /// When the leader may look again after growth,
    due: Monotonic,
    /// and when it will without.
    again: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ordered {
    rule: CompactionRule,
    end_offset: Offset,
}

/// What this replica is doing about its orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Work {
    #[default]
    Idle,
    Running,
    /// The last job came to nothing. Tried again then.
    Waiting {
        again: Monotonic,
    },
}

impl Compaction {
    /// A command was committed.
    fn ordered(&mut self, ordered: Ordered, now: Monotonic, tombstones_age: Duration) {
        let Ordered { mut rule, end_offset } = ordered;
        if let Some(before) = self.ordered {
            rule.through = rule.through.max(before.rule.through);
            rule.tombstones_before = rule.tombstones_before.max(before.rule.tombstones_before);
        }
        self.ordered = Some(Ordered { rule, end_offset });
        self.points.note(Mark { index: rule.through, end_offset, at: now }, tombstones_age);
        self.points.forget(|point| point.end_offset <= rule.tombstones_before);
    }

    /// What is to be done now, by a replica whose log is durable through `durable`.
    fn next_job(&mut self, now: Monotonic, durable: Index) -> Option<CompactionRule> {
        let rule = self.outstanding().filter(|rule| rule.through <= durable)?;
        match self.work {
            Work::Running => None,
            Work::Waiting { again } if again > now => None,
            Work::Waiting { .. } | Work::Idle => Some(rule),
        }
    }

    fn outstanding(&self) -> Option<CompactionRule> {
        self.ordered.map(|ordered| ordered.rule).filter(|rule| self.done != Some(*rule))
    }

    /// When a failed job is tried again. Not if it has to wait for the disk then: a sync that is done is an event.
    pub fn deadline(&self, durable: Index) -> Option<Monotonic> {
        match self.work {
            Work::Waiting { again } => {
                self.outstanding().filter(|rule| rule.through <= durable).map(|_| again)
            }
            Work::Idle | Work::Running => None,
        }
    }

    /// The log was thrown away: what it was compacted by went with it.
    pub fn reset(&mut self) {
        self.done = None;
    }

    /// Leadership begins, or the topic's configs are others: look soon.
    pub fn look_anew(&mut self) {
        (self.bytes_seen, self.due) = (None, Monotonic::ZERO);
    }
}

impl Group {
    /// Carries out a committed command.
    pub fn obey<P>(
        &mut self,
        (index, base_offset): (Index, Offset),
        command: &Command,
        turn: &mut Turn<'_, P>,
    ) {
        let Body::Partition(partition) = &mut self.body else { return };
        match *command {
            Command::Compact { through, end_offset, tombstones_before, start_offset } => {
                if through >= index || end_offset > base_offset || tombstones_before > end_offset {
                    self.ignored_command(turn);
                    return;
                }
                let rule = CompactionRule { through, tombstones_before };
                let age = millis(partition.settings.delete_retention_ms);
                partition.compaction.ordered(Ordered { rule, end_offset }, turn.now.monotonic, age);
                self.tail.trim_to(start_offset.min(base_offset));
            }
            Command::TrimTo { offset, reason } if offset <= base_offset => {
                self.trim((offset, reason), index, turn);
            }
            Command::TrimTo { .. } => self.ignored_command(turn),
            Command::Producers { ref producers } if is_of_the_past(producers, index) => {
                self.snapshot_committed(Place { index, offset: base_offset }, producers, turn);
            }
            Command::Producers { .. } => self.ignored_command(turn),
        }
    }

    fn ignored_command<P>(&mut self, turn: &mut Turn<'_, P>) {
        let alarm = ShardAlarm::Unexpected("a committed command that speaks of what comes after it");
        self.alarm(alarm, turn);
    }

    /// Orders the compaction that the log asks for, if this replica can do it now.
    pub fn compact_if_ready<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Self { id, stage: Stage::Open(raft), body: Body::Partition(partition), .. } = self else {
            return;
        };
        let compaction = &mut partition.compaction;
        if turn.intake.draining {
            if let Work::Waiting { .. } = compaction.work {
                compaction.work = Work::Idle;
            }
            return;
        }
        if let Some(rule) = compaction.next_job(turn.now.monotonic, raft.durable()) {
            compaction.work = Work::Running;
            turn.effects.push(Effect::Compact { group: *id, rule });
        }
    }

    /// A job is done.
    pub fn compacted(&mut self, rule: CompactionRule) {
        if let Body::Partition(partition) = &mut self.body {
            let compaction = &mut partition.compaction;
            (compaction.work, compaction.waited, compaction.done) = (Work::Idle, None, Some(rule));
        }
    }

    /// A job came to nothing. The log is as it was.
    pub fn compaction_failed<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Body::Partition(partition) = &mut self.body else { return };
        let shortest = turn.config.timings.retention_interval;
        let compaction = &mut partition.compaction;
        let wait = compaction.waited.map_or(shortest, |waited| (waited * 2).min(shortest * FAILED_WAITS_MAX));
        compaction.waited = Some(wait);
        compaction.work = Work::Waiting { again: turn.now.monotonic + wait };
    }

    /// When the leader wants to look whether to compact; `None` if nothing can come of it.
    pub fn compaction_due(&self) -> Option<Monotonic> {
        let (Stage::Open(_), Body::Partition(partition)) = (&self.stage, &self.body) else { return None };
        if self.leading.is_none() || !partition.settings.cleanup.compacts() {
            return None;
        }
        let compaction = &partition.compaction;
        let grown = compaction.bytes_seen != Some(partition.committed_bytes);
        grown.then_some(compaction.due).into_iter().chain(compaction.again).min()
    }

    /// Asks how much of the log is compacted: the answer comes to [`Group::surveyed`].
    pub fn survey<P>(&mut self, turn: &mut Turn<'_, P>) {
        let due = turn.now.monotonic + turn.config.timings.retention_interval;
        if let Body::Partition(partition) = &mut self.body {
            let compaction = &mut partition.compaction;
            compaction.bytes_seen = Some(partition.committed_bytes);
            (compaction.due, compaction.again) = (due, None);
            turn.effects.push(Effect::Survey { group: self.id });
        }
    }

    /// Decides whether to compact, and up to where.
    pub fn surveyed<P>(&mut self, facts: &CompactionFacts, turn: &mut Turn<'_, P>) {
        let Self { stage: Stage::Open(raft), body: Body::Partition(partition), tail, leading, node, .. } =
            self
        else {
            return;
        };
        if leading.is_none() || turn.intake.draining || !partition.settings.cleanup.compacts() {
            return;
        }
        let now = turn.now;
        let soon = now.monotonic + turn.config.timings.retention_interval;
        let under_way =
            tail.pending().any(|entry| matches!(entry.body, TailBody::Command(Command::Compact { .. })))
                || partition.compaction.outstanding().is_some();
        if under_way {
            partition.compaction.again = Some(soon);
            return;
        }
        let here = Mark { index: tail.applied(), end_offset: tail.high_watermark(), at: now.monotonic };
        let held = Standing::of(raft, *leading, *node).held_by_all();
        let Some((through, command)) = decide(partition, facts, (here, held), tail.start_offset(), now)
        else {
            partition.compaction.again = next_look(partition, facts, here.index, now).map(|at| at.max(soon));
            return;
        };
        partition.compaction.again = Some(soon);
        // Refused as busy, or in the middle of a hand-over: the next look will see to it.
        let Ok(()) = self.snapshot_above(through, turn) else { return };
        let _ = self.propose(EntryBody::Command(command), None, turn);
    }
}

/// The command to propose, with its point, if one is called for. `held` is what every replica is known to have.
fn decide(
    partition: &mut Partition,
    facts: &CompactionFacts,
    (here, held): (Mark, Index),
    start_offset: Offset,
    now: Now,
) -> Option<(Index, Command)> {
    let Partition { settings, compaction, .. } = partition;
    let last = compaction.ordered.unwrap_or_default();
    let lag = millis(settings.compaction_lag_ms_min);
    compaction.ages.note(here, lag);
    let ripe = if lag.is_zero() { Some(here) } else { compaction.ages.older(lag, now.monotonic, here.index) };
    let bytes = u128::from(facts.clean_bytes) + u128::from(facts.dirty_bytes);
    let dirty_share = u128::from(facts.dirty_bytes) * u128::from(RATIO_ONE);
    let dirty = dirty_share >= u128::from(settings.dirty_ratio_millionths) * bytes
        && facts.dirty_bytes >= settings.segment_bytes.min(DIRTY_BYTES_MIN);
    let age_ms = facts.dirty_since.map(|since| now.wall.get().saturating_sub(since.get()));
    let overdue = settings.compaction_lag_ms_max.is_some_and(|max| age_ms >= Some(max));
    // Without a record above the last point there is nothing to compact: what is there are commands and snapshots.
    let grown = |mark: &Mark| mark.index > last.rule.through && mark.end_offset > last.end_offset;
    let forward = ripe.filter(|mark| grown(mark) && (dirty || overdue));
    let age = millis(settings.delete_retention_ms);
    let old = compaction.points.older(age, now.monotonic, held);
    let tombstones_before = old.map_or(Offset::ZERO, |mark| mark.end_offset).max(last.rule.tombstones_before);
    // The last that is old enough is better than all before it.
    compaction.points.forget(|point| old.is_some_and(|old| point.index < old.index));
    compaction.ages.forget(|mark| ripe.is_some_and(|ripe| mark.index < ripe.index));
    if forward.is_none() && tombstones_before == last.rule.tombstones_before {
        return None;
    }
    let (through, end_offset) =
        forward.map_or((last.rule.through, last.end_offset), |mark| (mark.index, mark.end_offset));
    Some((through, Command::Compact { through, end_offset, tombstones_before, start_offset }))
}

/// When something that is not due now will be, without anything being written.
fn next_look(partition: &Partition, facts: &CompactionFacts, here: Index, now: Now) -> Option<Monotonic> {
    let Partition { settings, compaction, .. } = partition;
    let through = compaction.ordered.unwrap_or_default().rule.through;
    let lag = millis(settings.compaction_lag_ms_min);
    let ripens = (!lag.is_zero() && here > through).then(|| compaction.ages.next(lag, through)).flatten();
    let overdue = facts.dirty_since.zip(settings.compaction_lag_ms_max).map(|(since, max)| {
        now.monotonic + millis(since.get().saturating_add(max).saturating_sub(now.wall.get()))
    });
    let age = millis(settings.delete_retention_ms);
    // One that is old enough and could not be used waits for a replica.
    let patience = now.monotonic + LAGGING_REPLICA_WAIT;
    let tombstones = compaction.points.next(age, Index::ZERO);
    let tombstones = tombstones.map(|at| if at <= now.monotonic { patience } else { at });
    // What is ripe already waits for more of it.
    let ripens = ripens.filter(|at| *at > now.monotonic);
    ripens.into_iter().chain(overdue).chain(tombstones).min()
}

impl Default for Ordered {
    fn default() -> Self {
        let rule = CompactionRule { through: Index::ZERO, tombstones_before: Offset::ZERO };
        Self { rule, end_offset: Offset::ZERO }
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// `min.cleanable.dirty.ratio` is kept in millionths.
pub(crate) const RATIO_ONE: u32 = 1_000_000;

/// A log is not compacted for less than this, or than one segment if that is smaller, unless `max.compaction.lag.ms`
/// says so: each time costs a segment of its own.
const DIRTY_BYTES_MIN: u64 = 1 << 20;

/// A job that fails is tried again after this many of the slow timer's intervals at the latest.
const FAILED_WAITS_MAX: u32 = 16;

/// How often the leader looks whether a replica that holds up the removal of tombstones has caught up.
const LAGGING_REPLICA_WAIT: Duration = Duration::from_secs(600);
