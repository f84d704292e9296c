//! A topic partition: idempotent producers, parked produces and parked fetches. What it decides stands in
//! `produce.rs` and `fetch.rs`.

use crate::asking::Questions;
use crate::compaction::Compaction;
use crate::coordinator::configs::Settings;
use crate::fetch::ParkedFetches;
use crate::in_sync::InSync;
use crate::marks::Marks;
use crate::parking::Parking;
use crate::produce::Receipt;
use crate::producers::Producers;
use crate::retention::RetentionState;
use crate::tail::{TailBody, TailEntry};
use raftline_proto::ids::{Index, PartitionIndex, TopicId};
use raftline_proto::time::Monotonic;

/// One partition's state beside its log and its Raft state.
#[derive(Debug)]
pub(crate) struct Partition {
    pub topic: TopicId,
    pub index: PartitionIndex,
    pub settings: Settings,
    pub producers: Producers,
    /// Commit indexes with the time when each was reached here, by which producers expire.
    pub producer_ages: Marks,
    /// Produces that wait for the commit.
    pub quorum: Parking<Receipt>,
    /// Produces that wait until a majority has them in memory.
    pub memory: Parking<Receipt>,
    /// Produces that wait for the leader's own disk.
    pub leader: Parking<Receipt>,
    /// A majority holds entries through here in memory; only while leading.
    pub received: Index,
    pub fetches: ParkedFetches,
    /// What waits until this leader is sure of itself.
    pub questions: Questions,
    /// Deletions of records that wait for the commit.
    pub deletions: Parking<()>,
    /// Bytes of all batches committed since the group was opened: the clock by which parked fetches wake.
    pub committed_bytes: u64,
    pub retention: RetentionState,
    pub compaction: Compaction,
    pub in_sync: InSync,
}

impl Partition {
    pub fn new(topic: TopicId, index: PartitionIndex, settings: Settings) -> Self {
        Self {
            topic,
            index,
            settings,
            producers: Producers::default(),
            producer_ages: Marks::default(),
            quorum: Parking::default(),
            memory: Parking::default(),
            leader: Parking::default(),
            received: Index::ZERO,
            fetches: ParkedFetches::default(),
            questions: Questions::default(),
            deletions: Parking::default(),
            committed_bytes: 0,
            retention: RetentionState::default(),
            compaction: Compaction::default(),
            in_sync: InSync::default(),
        }
    }

    /// An entry was appended to the log, here or by the leader.
    pub fn appended(&mut self, entry: &TailEntry) {
        match &entry.body {
            TailBody::Data(info) => self.producers.appended(entry.id, entry.base_offset, info),
            TailBody::Command(command) => self.snapshot_appended(entry, command),
            TailBody::Plain | TailBody::Metadata(_) => {}
        }
    }

    /// An entry was cut off again.
    pub fn dropped(&mut self, entry: &TailEntry) {
        match &entry.body {
            TailBody::Data(info) => self.producers.dropped(entry.id, info),
            TailBody::Command(_) => self.producers.snapshot_dropped(entry.id.index),
            TailBody::Plain | TailBody::Metadata(_) => {}
        }
    }

    /// An entry was committed. Each exactly once, in log order.
    pub fn committed(&mut self, entry: &TailEntry) {
        if let TailBody::Data(info) = &entry.body {
            self.producers.committed(entry.id, entry.base_offset, info);
            self.committed_bytes += u64::from(info.batch_bytes);
        }
    }

    /// How many requests that change the log wait here.
    pub fn parked_writes(&self) -> usize {
        self.parked_produces() + self.deletions.len()
    }

    /// How many produces wait here.
    pub fn parked_produces(&self) -> usize {
        self.quorum.len() + self.memory.len() + self.leader.len()
    }

    /// When the first of them gives up.
    pub fn first_deadline(&self) -> Option<Monotonic> {
        [
            self.quorum.first_deadline(),
            self.memory.first_deadline(),
            self.leader.first_deadline(),
            self.fetches.first_deadline(),
            self.questions.first_deadline(),
            self.deletions.first_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
