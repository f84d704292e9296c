//! Retention: every replica lets go of whole segments that are too old or too much, up to its commit index.
//!
//! There is one timer a shard, and only while some partition could have something to let go. Age is looked at rarely
//! where records live long; size only after growth.

use crate::group::{Body, Group, Stage, Turn};
use crate::shard::Shard;
use crate::types::Effect;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::ids::GroupId;
use raftline_proto::time::{Now, Timestamp};

impl Shard {
    /// Lets every partition look, and quarantined leaders say again that they lead no more.
    pub(crate) fn retain<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            self.touch(now, id, effects, |group, turn| {
                group.say_stepped_down(turn);
                group.retain(turn);
            });
        }
    }
}

impl Group {
    /// Whether the group has anything that the shard's slow timer is for.
    pub fn wants_retention(&self) -> bool {
        match (&self.stage, &self.body) {
            (Stage::Opening(_), _) | (Stage::Open(_), Body::Coordinator(_)) => false,
            (Stage::Closed(closed), _) => closed.led.is_some(),
            (Stage::Open(_), Body::Partition(partition)) => {
                let settings = &partition.settings;
                let empty = self.tail.start().offset == self.tail.high_watermark();
                let grown = partition.retention.bytes_seen != Some(partition.committed_bytes);
                !empty && (settings.retention_ms.is_some() || (settings.retention_bytes.is_some() && grown))
            }
        }
    }

    fn retain<P>(&mut self, turn: &mut Turn<'_, P>) {
        if !self.wants_retention() {
            return;
        }
        let (Stage::Open(raft), Body::Partition(partition)) = (&self.stage, &mut self.body) else { return };
        let now = turn.now;
        let retention = &mut partition.retention;
        let grown = retention.bytes_seen != Some(partition.committed_bytes);
        let older_than = partition
            .settings
            .retention_ms
            .filter(|_| retention.next_by_age <= now.monotonic)
            .map(|ms| Timestamp(now.wall.get().saturating_sub(ms)));
        let bytes_max = partition.settings.retention_bytes.filter(|_| grown);
        if let (Some(_), Some(ms)) = (older_than, partition.settings.retention_ms) {
            retention.next_by_age = now.monotonic + age_interval(ms);
        }
        retention.bytes_seen = Some(partition.committed_bytes);
        if older_than.is_some() || bytes_max.is_some() {
            let up_to = raft.commit();
            turn.effects.push(Effect::Retain { group: self.id, older_than, bytes_max, up_to });
        }
    }
}

/// How often age is looked at: often enough that records outlive their time by a sixteenth of it, at most ten minutes.
fn age_interval(retention_ms: i64) -> Duration {
    let ms = u64::try_from(retention_ms).unwrap_or(0) / 16;
    Duration::from_millis(ms).min(AGE_INTERVAL_MAX)
}

const AGE_INTERVAL_MAX: Duration = Duration::from_secs(600);
