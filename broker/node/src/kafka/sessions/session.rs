//! One session: the partitions that its consumer fetches, in the order in which they get their share of an answer.

use super::{ConnectionId, Found, Naming, TopicKey, Wanted};
use crate::limits::KAFKA_SESSION_BYTES_MAX;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::fetch::FetchPartition;
use raftline_proto::ids::Offset;
use raftline_proto::time::Monotonic;
use std::collections::{BTreeMap, HashMap};

/// One session.
pub(super) struct Session {
    connection: ConnectionId,
    naming: Naming,
    pub(super) created: Monotonic,
    /// The epoch that its next request has to have.
    epoch: i32,
    /// Invariant: `places` leads to each of them, and to nothing else.
    partitions: BTreeMap<u64, Remembered>,
    places: HashMap<(TopicKey, i32), u64>,
    next_place: u64,
    bytes: usize,
}

struct Remembered {
    topic: TopicKey,
    partition: FetchPartition,
    /// What its consumer was told last; `None` before the first answer, and after an error.
    told: Option<Offsets>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Offsets {
    high_watermark: Option<Offset>,
    log_start: Option<Offset>,
}

impl Session {
    pub(super) fn new(connection: ConnectionId, naming: Naming, now: Monotonic) -> Self {
        Self {
            connection,
            naming,
            created: now,
            epoch: AFTER_FIRST,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
            bytes: SESSION_BYTES,
        }
    }

    /// One that has gone far.
    #[cfg(test)]
    pub(super) fn at_epoch(epoch: i32) -> Self {
        Self { epoch, ..Self::new(ConnectionId(1), Naming::Names, Monotonic::ZERO) }
    }

    pub(super) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    pub(super) const fn naming(&self) -> Naming {
        self.naming
    }

    /// The epoch that its next request has to have.
    pub(super) const fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Whether no request has come since that one.
    pub(super) const fn is_at_turn(&self, epoch: i32) -> bool {
        self.epoch == after(epoch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// What it takes in memory, about.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it takes more than one may.
    pub(super) const fn is_too_large(&self) -> bool {
        self.bytes > KAFKA_SESSION_BYTES_MAX
    }

    /// Takes a request in: the next one has the next epoch.
    pub(super) const fn advance(&mut self) {
        self.epoch = after(self.epoch);
    }

    /// Fetches a partition from now on, or from elsewhere on.
    pub(super) fn want(&mut self, topic: &TopicKey, partition: FetchPartition) {
        let key = (topic.clone(), partition.index);
        if let Some(known) = self.places.get(&key).and_then(|place| self.partitions.get_mut(place)) {
            known.partition = partition;
            return;
        }
        self.bytes += PARTITION_BYTES + topic.bytes();
        let remembered = Remembered { topic: topic.clone(), partition, told: None };
        self.partitions.insert(self.next_place, remembered);
        self.places.insert(key, self.next_place);
        self.next_place += 1;
    }

    /// Fetches a partition no more.
    pub(super) fn forget(&mut self, topic: &TopicKey, partition: i32) {
        if let Some(place) = self.places.remove(&(topic.clone(), partition)) {
            self.partitions.remove(&place);
            self.bytes -= PARTITION_BYTES + topic.bytes();
        }
    }

    /// Everything that it fetches, in order.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let each = self.partitions.values();
        each.map(|known| Wanted { topic: known.topic.clone(), partition: known.partition }).collect()
    }

    /// Whether its consumer is to be told, who then knows. A partition that had records goes to the end, so that the
    /// others have their turn where an answer cannot hold all.
    pub(super) fn tell(&mut self, found: &Found) -> bool {
        let key = (found.topic.clone(), found.answer.index);
        let Some(place) = self.places.get_mut(&key) else { return true };
        let Some(known) = self.partitions.get_mut(place) else { return true };
        let answer = &found.answer;
        let offsets = Offsets { high_watermark: answer.high_watermark, log_start: answer.log_start_offset };
        let is_error = answer.error != ErrorCode::None;
        let has_records = answer.records.iter().any(|records| !records.is_empty());
        let must_tell = is_error || has_records || known.told != Some(offsets);
        // Once the error is over, that is news.
        known.told = (!is_error).then_some(offsets);
        if has_records && let Some(known) = self.partitions.remove(place) {
            *place = self.next_place;
            self.partitions.insert(self.next_place, known);
            self.next_place += 1;
        }
        must_tell
    }
}

/// The epoch after another one; after the last comes the first again, which begins no session.
const fn after(epoch: i32) -> i32 {
    if epoch == i32::MAX { AFTER_FIRST } else { epoch + 1 }
}

/// The epoch of the second request.
const AFTER_FIRST: i32 = 1;
/// About what a session takes without partitions, and what the cache keeps of it.
const SESSION_BYTES: usize = 512;
/// About what a partition takes, its topic's name aside: in both maps, with the room that they keep.
const PARTITION_BYTES: usize =
    2 * (size_of::<Remembered>() + size_of::<(TopicKey, i32)>() + 3 * size_of::<u64>());
