//! Retention: every replica lets go of whole segments that are too old, too much or deleted, up to its commit index.
//! The same slow timer has leaders look whether to compact. Nothing goes by age where the node's wall clock is doubted.
//!
//! There is one timer a shard, and only while some partition could have something to let go. Age is looked at rarely
//! where records live long; size only after growth.

use crate::group::{Body, Group, Stage, Turn};
use crate::shard::Shard;
use crate::types::Effect;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::ids::GroupId;
use raftline_proto::time::{Monotonic, Now, Timestamp};

/// When retention last looked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetentionState {
    /// The partition's `committed_bytes` when size was looked at: without growth that rule lets nothing go. `None` if its
    /// bound is another since.
    bytes_seen: Option<u64>,
    /// When age, or size after growth, is looked at next.
    due: Monotonic,
    /// Whether segments are kept for the last snapshot of the producers alone.
    pub held: Held,
}

impl RetentionState {
    /// The topic's configs are others: look soon.
    pub fn look_anew(&mut self) {
        (self.bytes_seen, self.due) = (None, Monotonic::ZERO);
    }
}

/// What becomes of segments that are kept for the last snapshot of the producers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Held {
    /// There are none, as far as is known.
    #[default]
    No,
    /// They wait for another snapshot. Only the leader looks again meanwhile: it is to write one.
    ForSnapshot,
    /// There is one, and retention has looked again. It looks once more later: the segment that the snapshot begins may not
    /// have been durable here yet, and then those before it had to stay.
    NoLonger,
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
                let empty = self.tail.start().offset == self.tail.high_watermark();
                let grown = partition.retention.bytes_seen != Some(partition.committed_bytes);
                // What is deleted goes when its segment is sealed.
                let by_growth = settings.retention_bytes.is_some() || self.deleted_below().is_some();
                let by_age = settings.retention_ms.is_some();
                let again = match partition.retention.held {
                    Held::No => false,
                    Held::ForSnapshot => self.leading.is_some(),
                    Held::NoLonger => true,
                };
                (!empty && (by_age || (by_growth && grown) || again)).then_some(partition.retention.due)
            }
        }
    }

    /// What held segments back is over.
    pub fn retain_at_last<P>(&mut self, turn: &mut Turn<'_, P>) {
        self.retain(turn);
        if let Body::Partition(partition) = &mut self.body {
            let retention = &mut partition.retention;
            retention.held = Held::NoLonger;
            retention.due = turn.now.monotonic + turn.config.timings.retention_interval;
        }
    }

    fn retain<P>(&mut self, turn: &mut Turn<'_, P>) {
        let (below, kept_from) = (self.deleted_below(), self.kept_from());
        let (Stage::Open(raft), Body::Partition(partition)) = (&self.stage, &mut self.body) else { return };
        let now = turn.now;
        let settings = &partition.settings;
        // A clock that is days ahead would have everything go.
        let by_age = settings.retention_ms.filter(|_| !turn.peers.clock_is_off(self.node));
        let older_than = by_age.map(|ms| Timestamp(now.wall.get().saturating_sub(ms)));
        let bytes_max = settings.retention_bytes;
        let slowest = match (settings.retention_bytes, below) {
            (None, None) => settings.retention_ms.map_or(Duration::ZERO, age_interval),
            (Some(_), _) | (_, Some(_)) => Duration::ZERO,
        };
        let retention = &mut partition.retention;
        retention.due = now.monotonic + slowest.max(turn.config.timings.retention_interval);
        retention.bytes_seen = Some(partition.committed_bytes);
        retention.held = Held::No;
        if older_than.is_some() || bytes_max.is_some() || below.is_some() {
            let up_to = raft.commit().next();
            let group = self.id;
            turn.effects.push(Effect::Retain { group, older_than, bytes_max, below, up_to, kept_from });
        }
    }
}

/// How often age is looked at: often enough that records outlive their time by a sixteenth of it, at most ten minutes.
fn age_interval(retention_ms: i64) -> Duration {
    let ms = u64::try_from(retention_ms).unwrap_or(0) / 16;
    Duration::from_millis(ms).min(AGE_INTERVAL_MAX)
}

const AGE_INTERVAL_MAX: Duration = Duration::from_secs(600);
