//! Retention: the leader looks which whole segments of its log are too old or too much, and has the group delete their
//! records, by a command in the log as it does for a client (`deletion.rs`). So all replicas begin at the same offset,
//! whatever their clocks say. Each lets go of its own segments that hold nothing but deleted records.
//! The same slow timer has leaders look whether to compact. A leader whose wall clock is doubted lets nothing go by age.
//!
//! There is one timer a shard, and only while some partition could have something to let go. Age is looked at rarely
//! where records live long; size only after growth.

use crate::group::{Body, Group, Stage, Turn};
use crate::limits::PENDING_ENTRIES_MAX;
use crate::shard::Shard;
use crate::tail::{TailBody, TailEntry};
use crate::types::{Effect, Outlived};
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::command::{Command, TrimReason};
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::GroupId;
use raftline_proto::time::{Monotonic, Now, Timestamp};

/// When retention last looked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetentionState {
    /// The partition's `committed_bytes` when size was looked at: without growth that rule lets nothing go. `None` if its
    /// bound is another since.
    bytes_seen: Option<u64>,
    /// When age, or size after growth, is looked at next.
    due: Monotonic,
    /// Whether segments that were to go are still there.
    pub held: Held,
    /// Why records went last.
    pub reason: TrimReason,
}

impl Default for RetentionState {
    fn default() -> Self {
        let (bytes_seen, due, held) = (None, Monotonic::ZERO, Held::No);
        Self { bytes_seen, due, held, reason: TrimReason::Asked }
    }
}

impl RetentionState {
    /// The topic's configs are others: look soon.
    pub fn look_anew(&mut self) {
        (self.bytes_seen, self.due) = (None, Monotonic::ZERO);
    }
}

/// What becomes of segments that were to go and are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// There are none, as far as is known.
    No,
    /// They wait for another snapshot of the producers. Only the leader looks again meanwhile: it is to write one.
    ForSnapshot,
    /// They should go about now. It is looked once more later whether they did: a file may not have been written.
    LookAgain,
}

/// Which groups look at their retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Those for which it is time.
    Due,
    /// All: space is short.
    All,
}

impl Shard {
    /// Lets partitions look.
    pub(crate) fn retain<P>(&mut self, now: Now, look: Look, effects: &mut Vec<Effect<P>>) {
        self.peers.watch_clock(now, &self.config.timings);
        let mut due: Vec<GroupId> = Vec::new();
        for (id, group) in &self.groups {
            match group.slow_due() {
                Some(at) if at <= now.monotonic || look == Look::All => due.push(*id),
                Some(at) => self.timers.want_retention(at),
                None => {}
            }
        }
        for id in due {
            self.touch(now, id, effects, |group, turn| group.look(look, turn));
        }
    }
}

impl Group {
    /// When the group wants the shard's slow timer.
    pub fn slow_due(&self) -> Option<Monotonic> {
        self.retention_due().into_iter().chain(self.compaction_due()).min()
    }

    fn look<P>(&mut self, look: Look, turn: &mut Turn<'_, P>) {
        let now = turn.now.monotonic;
        let is_due = |at: Option<Monotonic>| at.is_some_and(|at| at <= now || look == Look::All);
        let (retain, survey) = (is_due(self.retention_due()), is_due(self.compaction_due()));
        if retain {
            self.retain(turn);
        }
        if survey {
            self.survey(turn);
        }
    }

    /// When retention is to look; `None` if it has nothing to let go.
    fn retention_due(&self) -> Option<Monotonic> {
        match (&self.stage, &self.body) {
            (Stage::Opening(_) | Stage::Closed(_), _) | (Stage::Open(_), Body::Coordinator(_)) => None,
            (Stage::Open(_), Body::Partition(partition)) => {
                let settings = &partition.settings;
                let leads = self.leading.is_some();
                let empty = self.tail.start().offset == self.tail.high_watermark();
                let grown = partition.retention.bytes_seen != Some(partition.committed_bytes);
                let by_age = leads && settings.retention_ms.is_some();
                // What is deleted goes when its segment is sealed.
                let by_growth = leads && settings.retention_bytes.is_some() || self.deleted_below().is_some();
                let again = match partition.retention.held {
                    Held::No => false,
                    Held::ForSnapshot => leads,
                    Held::LookAgain => true,
                };
                (!empty && (by_age || (by_growth && grown) || again)).then_some(partition.retention.due)
            }
        }
    }

    /// What held segments back is over.
    pub fn retain_at_last<P>(&mut self, turn: &mut Turn<'_, P>) {
        self.retain(turn);
        if let Body::Partition(partition) = &mut self.body {
            partition.retention.held = Held::No;
        }
        self.look_again(turn);
    }

    /// Something goes: looks once more later, whether all of it has gone.
    pub fn look_again<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Body::Partition(partition) = &mut self.body else { return };
        let retention = &mut partition.retention;
        if retention.held != Held::ForSnapshot {
            retention.held = Held::LookAgain;
            retention.due = turn.now.monotonic + turn.config.timings.retention_interval;
        }
    }

    fn retain<P>(&mut self, turn: &mut Turn<'_, P>) {
        let deleted = self.deleted_below();
        let (Stage::Open(raft), Body::Partition(partition)) = (&self.stage, &mut self.body) else { return };
        let (group, commit, now) = (self.id, raft.commit(), turn.now);
        let settings = &partition.settings;
        let slowest = match (settings.retention_bytes, deleted) {
            (None, None) => settings.retention_ms.map_or(Duration::ZERO, age_interval),
            (Some(_), _) | (_, Some(_)) => Duration::ZERO,
        };
        let retention = &mut partition.retention;
        retention.due = now.monotonic + slowest.max(turn.config.timings.retention_interval);
        retention.bytes_seen = Some(partition.committed_bytes);
        retention.held = Held::No;
        if self.leading.is_some() {
            // A clock that is days ahead would have everything go.
            let by_age = settings.retention_ms.filter(|_| turn.peers.is_clock_right(self.node));
            let older_than = by_age.map(|ms| Timestamp(now.wall.get().saturating_sub(ms)));
            let (bytes_max, up_to) = (settings.retention_bytes, commit.next());
            if older_than.is_some() || bytes_max.is_some() {
                turn.effects.push(Effect::Appraise { group, older_than, bytes_max, up_to });
            }
        }
        self.trim_files(commit, turn);
    }

    /// What of the leader's log is not covered by retention any more. Deleted for all, then: by the group.
    pub fn appraised<P>(&mut self, outlived: Option<Outlived>, turn: &mut Turn<'_, P>) {
        let Some(Outlived { below, reason }) = outlived else { return };
        let trims = |entry: &TailEntry| match entry.body {
            TailBody::Command(Command::TrimTo { offset, .. }) => offset >= below,
            TailBody::Command(_) | TailBody::Plain | TailBody::Data(_) | TailBody::Metadata(_) => false,
        };
        let is_news = below > self.tail.start_offset() && below <= self.tail.high_watermark();
        let may = self.leading.is_some()
            && !turn.intake.draining
            && self.tail.pending().len() < PENDING_ENTRIES_MAX
            && !self.tail.pending().any(trims);
        if is_news && may {
            // Refused as busy, or in the middle of a hand-over: the next look will see to it.
            let trim = EntryBody::Command(Command::TrimTo { offset: below, reason });
            let _ = self.snapshot_above_offset(below, turn).and_then(|()| self.propose(trim, None, turn));
            self.look_again(turn);
        }
    }
}

/// How often age is looked at: often enough that records outlive their time by a sixteenth of it, at most ten minutes.
fn age_interval(retention_ms: i64) -> Duration {
    let ms = u64::try_from(retention_ms).unwrap_or(0) / 16;
    Duration::from_millis(ms).min(AGE_INTERVAL_MAX)
}

const AGE_INTERVAL_MAX: Duration = Duration::from_secs(600);
