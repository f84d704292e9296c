//! Offsets of groups that nobody is in go after their retention, and then the group itself.

use super::leading::{Body, Leading};
use super::limits::EXPIRED_RECORDS_MAX;
use super::offsets::offset_record;
use super::record::GroupRecord;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::time::Timestamp;

impl Leading<'_> {
    /// Writes tombstones for what is too old, a bounded number at a time. Whether there may be more.
    pub(super) fn expire(&mut self) -> bool {
        let mut tombstones = self.old_offsets();
        let mut gone: Vec<String> = Vec::new();
        for (id, body) in self.groups.iter() {
            if tombstones.len() >= EXPIRED_RECORDS_MAX {
                break;
            }
            // Offsets of it that are expiring go first: the group goes the next time.
            if self.turn.log.has_planned_offsets(self.store, id) || self.store.offsets.contains_key(id) {
                continue;
            }
            match body {
                Body::Classic(group) if group.is_empty() => tombstones.extend(group.tombstone()),
                Body::Consumer(group) if group.is_empty() => tombstones.extend(group.tombstones()),
                Body::Classic(_) | Body::Consumer(_) => continue,
            }
            gone.push(id.clone());
        }
        for id in gone {
            self.groups.remove(&id);
        }
        let more = tombstones.len() >= EXPIRED_RECORDS_MAX;
        self.turn.append_each(tombstones);
        more
    }

    fn old_offsets(&self) -> Vec<GroupRecord> {
        let mut tombstones = Vec::new();
        for (id, offsets) in &self.store.offsets {
            let since = match self.groups.get(id) {
                Some(Body::Classic(group)) if group.is_empty() => group.state_timestamp(),
                Some(Body::Consumer(group)) if group.is_empty() => group.epoch_timestamp(),
                Some(Body::Classic(_) | Body::Consumer(_)) => continue,
                None => None,
            };
            for (key, value) in offsets {
                if tombstones.len() >= EXPIRED_RECORDS_MAX {
                    return tombstones;
                }
                // An offset lives its time from its commit, and from when the group became empty.
                let since = since.map_or(value.commit_timestamp, |since| since.max(value.commit_timestamp));
                if self.is_old(since) && !self.turn.log.is_under_way(id, key) {
                    tombstones.push(offset_record(id, key.clone(), None));
                }
            }
        }
        tombstones
    }

    fn is_old(&self, since: Timestamp) -> bool {
        let age = self.turn.now.wall.get().saturating_sub(since.get());
        let retention = i64::try_from(self.turn.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        age >= retention
    }
}
