//! Idempotent producers (KIP-98, KIP-360): what each sent last, so that a retry is recognised and a gap refused.
//!
//! The state is a function of the log: committed batches are *folded* in log order on every replica, batches that
//! are appended and not yet committed are kept aside and vanish with a truncation. A restart folds the log again.

use crate::limits::{BATCHES_REMEMBERED, PRODUCERS_MAX};
use alloc::collections::{BTreeMap, VecDeque};
use raftline_proto::entry::{BatchInfo, ProducerBatch};
use raftline_proto::ids::{EntryId, Index, Offset, ProducerId};

/// All idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    /// What committed batches say.
    committed: BTreeMap<ProducerId, Producer>,
    /// The producers by the index of their last committed batch. Invariant: one item for each of `committed`.
    by_age: BTreeMap<Index, ProducerId>,
    /// What appended, uncommitted batches say, oldest first. Invariant: no empty queues.
    pending: BTreeMap<ProducerId, VecDeque<Batch>>,
}

/// One producer's committed past.
#[derive(Clone, Debug)]
struct Producer {
    /// Invariant: 1 to [`BATCHES_REMEMBERED`] batches, all of the same, latest epoch.
    batches: VecDeque<Batch>,
}

/// One batch of an idempotent producer, where it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub entry: EntryId,
    pub base_offset: Offset,
    epoch: u16,
    base_sequence: u32,
    last_sequence: u32,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one, or the producer's first.
    Append,
    /// It is there already, committed.
    Committed(Batch),
    /// It is there already, not yet committed.
    Pending(Batch),
    /// There is a gap, or it is older than what is remembered.
    OutOfOrder { expected: u32, found: u32 },
    /// A later instance of the producer has written.
    Fenced { current: u16, found: u16 },
}

impl Producers {
    /// Judges a batch that a client wants appended. Does not change anything.
    pub fn judge(&self, info: &BatchInfo) -> Verdict {
        let Some(stamp) = info.producer else { return Verdict::Append };
        let pending = self.pending.get(&stamp.id);
        let committed = self.committed.get(&stamp.id).map(|producer| &producer.batches);
        let latest = pending.and_then(VecDeque::back).or_else(|| committed.and_then(VecDeque::back));
        // KIP-360: a producer not known (any more) may begin anywhere.
        let Some(latest) = latest else { return Verdict::Append };
        if stamp.epoch < latest.epoch {
            return Verdict::Fenced { current: latest.epoch, found: stamp.epoch };
        }
        let expected = if stamp.epoch == latest.epoch { sequence_after(latest.last_sequence, 1) } else { 0 };
        if stamp.base_sequence == expected {
            return Verdict::Append;
        }
        let asked = Batch::new(EntryId::ZERO, Offset::ZERO, &stamp, info.record_count);
        let same = |batch: &&Batch| batch.same_records(&asked);
        if let Some(batch) = pending.and_then(|batches| batches.iter().find(same)) {
            return Verdict::Pending(*batch);
        }
        if let Some(batch) = committed.and_then(|batches| batches.iter().find(same)) {
            return Verdict::Committed(*batch);
        }
        Verdict::OutOfOrder { expected, found: stamp.base_sequence }
    }

    /// An entry was appended, here or by the leader.
    pub fn appended(&mut self, entry: EntryId, base_offset: Offset, info: &BatchInfo) {
        let Some(stamp) = info.producer else { return };
        let batch = Batch::new(entry, base_offset, &stamp, info.record_count);
        self.pending.entry(stamp.id).or_default().push_back(batch);
    }

    /// The last appended entry was cut off again.
    pub fn dropped(&mut self, entry: EntryId, info: &BatchInfo) {
        let Some(stamp) = info.producer else { return };
        let Some(batches) = self.pending.get_mut(&stamp.id) else { return };
        while batches.back().is_some_and(|batch| batch.entry.index >= entry.index) {
            batches.pop_back();
        }
        if batches.is_empty() {
            self.pending.remove(&stamp.id);
        }
    }

    /// An appended entry was committed. Entries are folded in log order, each once.
    pub fn committed(&mut self, entry: EntryId, base_offset: Offset, info: &BatchInfo) {
        let Some(stamp) = info.producer else { return };
        if let Some(batches) = self.pending.get_mut(&stamp.id) {
            while batches.front().is_some_and(|batch| batch.entry.index <= entry.index) {
                batches.pop_front();
            }
            if batches.is_empty() {
                self.pending.remove(&stamp.id);
            }
        }
        self.fold(stamp.id, Batch::new(entry, base_offset, &stamp, info.record_count));
    }

    fn fold(&mut self, id: ProducerId, batch: Batch) {
        let batches = match self.committed.get_mut(&id) {
            Some(producer) => {
                if let Some(latest) = producer.batches.back() {
                    self.by_age.remove(&latest.entry.index);
                }
                &mut producer.batches
            }
            None => {
                self.make_room();
                &mut self.committed.entry(id).or_insert(Producer { batches: VecDeque::new() }).batches
            }
        };
        if batches.back().is_some_and(|latest| latest.epoch != batch.epoch) {
            batches.clear();
        }
        if batches.len() == BATCHES_REMEMBERED {
            batches.pop_front();
        }
        batches.push_back(batch);
        self.by_age.insert(batch.entry.index, id);
    }

    fn make_room(&mut self) {
        while self.committed.len() >= PRODUCERS_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.committed.remove(&oldest);
        }
    }
}

impl Batch {
    fn new(entry: EntryId, base_offset: Offset, stamp: &ProducerBatch, record_count: u32) -> Self {
        Self {
            entry,
            base_offset,
            epoch: stamp.epoch,
            base_sequence: stamp.base_sequence,
            last_sequence: sequence_after(stamp.base_sequence, record_count.saturating_sub(1)),
        }
    }

    fn same_records(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.base_sequence == other.base_sequence
            && self.last_sequence == other.last_sequence
    }
}

/// `sequence + count`, wrapping to 0 after `i32::MAX` as Kafka's clients do.
fn sequence_after(sequence: u32, count: u32) -> u32 {
    sequence.wrapping_add(count) & 0x7fff_ffff
}
