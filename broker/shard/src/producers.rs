//! Idempotent producers (KIP-98, KIP-360): what each sent last, so that a retry is recognised and a gap refused.
//!
//! The state is a function of the log: committed batches are *folded* in log order on every replica, batches that
//! are appended and not yet committed are kept aside and vanish with a truncation. A restart folds the log again.
//!
//! What retention lets go of the log, or a reset, goes from here too, batch by batch. So the state is a function of the
//! log *as it is*: a replica that has run for a year and one that was restarted just now, or was filled from its
//! leader's start, agree as soon as their logs begin at the same entry. (Kafka keeps snapshots beside its segments and
//! lets a producer expire by time instead; here there is no second truth that could contradict the log.)
//!
//! The bound: a retry is recognised as long as one of the producer's last five batches is in the leader's log, which
//! is at least as long as the topic's retention keeps them, and as fewer than [`PRODUCERS_MAX`] other producers have
//! written since. After that the producer is unknown, and may begin anywhere (KIP-360): a retry of a batch that is
//! deleted already is appended again, and a gap is not noticed. Replicas let segments go at their own times, so
//! for batches *at* the edge of retention the answer depends on who leads.

use crate::limits::{BATCHES_REMEMBERED, PRODUCERS_MAX};
use alloc::collections::{BTreeMap, VecDeque};
use raftline_proto::entry::{BatchInfo, ProducerBatch};
use raftline_proto::ids::{EntryId, Index, Offset, ProducerId};
use raftline_proto::time::Timestamp;

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
    pub max_timestamp: Timestamp,
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
        let asked = Batch::new(EntryId::ZERO, Offset::ZERO, &stamp, info);
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
        let batch = Batch::new(entry, base_offset, &stamp, info);
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
        self.fold(stamp.id, Batch::new(entry, base_offset, &stamp, info));
    }

    /// The log begins after `through` now: what it said before is forgotten, as a restart would.
    pub fn trimmed(&mut self, through: Index) {
        let by_age = &mut self.by_age;
        self.committed.retain(|_, producer| {
            let last = producer.batches.back().map(|batch| batch.entry.index);
            producer.batches.retain(|batch| batch.entry.index > through);
            if let (true, Some(last)) = (producer.batches.is_empty(), last) {
                by_age.remove(&last);
            }
            !producer.batches.is_empty()
        });
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
    fn new(entry: EntryId, base_offset: Offset, stamp: &ProducerBatch, info: &BatchInfo) -> Self {
        Self {
            entry,
            base_offset,
            max_timestamp: info.max_timestamp,
            epoch: stamp.epoch,
            base_sequence: stamp.base_sequence,
            last_sequence: sequence_after(stamp.base_sequence, info.record_count.saturating_sub(1)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use raftline_proto::ids::Term;
    use raftline_proto::time::Timestamp;

    const ID: ProducerId = ProducerId(7);

    fn batch_of(id: ProducerId, epoch: u16, base_sequence: u32, record_count: u32) -> BatchInfo {
        BatchInfo {
            batch_bytes: 100,
            record_count,
            base_timestamp: Timestamp(0),
            max_timestamp: Timestamp(0),
            producer: Some(ProducerBatch { id, epoch, base_sequence }),
        }
    }

    fn batch(epoch: u16, base_sequence: u32, record_count: u32) -> BatchInfo {
        batch_of(ID, epoch, base_sequence, record_count)
    }

    fn entry(index: u64) -> EntryId {
        EntryId::new(Term(1), Index(index))
    }

    /// A log in which each entry takes ten offsets.
    fn append(producers: &mut Producers, index: u64, info: &BatchInfo) {
        assert_eq!(producers.judge(info), Verdict::Append, "entry {index}");
        producers.appended(entry(index), Offset(index * 10), info);
    }

    fn commit(producers: &mut Producers, index: u64, info: &BatchInfo) {
        producers.committed(entry(index), Offset(index * 10), info);
    }

    #[test]
    fn five_batches_are_remembered() {
        let mut producers = Producers::default();
        for index in 0..7 {
            let info = batch(0, u32::try_from(index).expect("small") * 3, 3);
            append(&mut producers, index, &info);
            commit(&mut producers, index, &info);
        }
        for index in 2..7_u32 {
            let verdict = producers.judge(&batch(0, index * 3, 3));
            assert!(
                matches!(verdict, Verdict::Committed(batch) if batch.base_offset.get() == u64::from(index) * 10),
                "{verdict:?}"
            );
        }
        assert_eq!(
            producers.judge(&batch(0, 3, 3)),
            Verdict::OutOfOrder { expected: 21, found: 3 },
            "the sixth last is forgotten"
        );
        assert_eq!(
            producers.judge(&batch(0, 18, 2)),
            Verdict::OutOfOrder { expected: 21, found: 18 },
            "the same start with another count is not the same batch"
        );
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        let last = batch(0, 0x7fff_fffe, 2);
        append(&mut producers, 1, &last);
        append(&mut producers, 2, &batch(0, 0, 1));
        let mut producers = Producers::default();
        let across = batch(0, 0x7fff_ffff, 3);
        append(&mut producers, 1, &across);
        commit(&mut producers, 1, &across);
        assert!(matches!(producers.judge(&across), Verdict::Committed(_)));
        assert_eq!(producers.judge(&batch(0, 3, 1)), Verdict::OutOfOrder { expected: 2, found: 3 });
        append(&mut producers, 2, &batch(0, 2, 1));
    }

    #[test]
    fn what_is_cut_off_is_forgotten() {
        let mut producers = Producers::default();
        append(&mut producers, 1, &batch(0, 0, 1));
        commit(&mut producers, 1, &batch(0, 0, 1));
        append(&mut producers, 2, &batch(0, 1, 1));
        append(&mut producers, 3, &batch(0, 2, 1));
        assert!(matches!(producers.judge(&batch(0, 1, 1)), Verdict::Pending(_)));
        producers.dropped(entry(3), &batch(0, 2, 1));
        assert_eq!(producers.judge(&batch(0, 2, 1)), Verdict::Append);
        producers.dropped(entry(2), &batch(0, 1, 1));
        assert_eq!(producers.judge(&batch(0, 1, 1)), Verdict::Append);
        assert!(producers.pending.is_empty(), "nothing stays behind");
    }

    #[test]
    fn a_pending_epoch_fences_at_once() {
        let mut producers = Producers::default();
        append(&mut producers, 1, &batch(3, 0, 1));
        assert_eq!(producers.judge(&batch(2, 1, 1)), Verdict::Fenced { current: 3, found: 2 });
        append(&mut producers, 2, &batch(4, 0, 1));
        assert_eq!(producers.judge(&batch(3, 1, 1)), Verdict::Fenced { current: 4, found: 3 });
        commit(&mut producers, 1, &batch(3, 0, 1));
        commit(&mut producers, 2, &batch(4, 0, 1));
        assert!(
            matches!(producers.judge(&batch(4, 0, 1)), Verdict::Committed(batch) if batch.entry == entry(2))
        );
        assert_eq!(producers.judge(&batch(3, 0, 1)), Verdict::Fenced { current: 4, found: 3 });
    }

    #[test]
    fn the_oldest_in_the_log_makes_room() {
        let mut producers = Producers::default();
        let count = PRODUCERS_MAX as u64;
        for id in 0..count {
            commit(&mut producers, 1 + id, &batch_of(ProducerId(id), 0, 0, 1));
        }
        // Producer 0 writes again, so 1 is the oldest now.
        commit(&mut producers, count + 1, &batch_of(ProducerId(0), 0, 1, 1));
        commit(&mut producers, count + 2, &batch_of(ProducerId(count), 0, 0, 1));
        assert_eq!(producers.committed.len(), PRODUCERS_MAX);
        assert_eq!(producers.by_age.len(), PRODUCERS_MAX);
        assert!(!producers.committed.contains_key(&ProducerId(1)));
        assert!(producers.committed.contains_key(&ProducerId(0)));
        assert_eq!(
            producers.judge(&batch_of(ProducerId(1), 0, 44, 1)),
            Verdict::Append,
            "unknown begins anywhere"
        );
    }

    /// What a restart makes of the log's entries from `first` on.
    fn folded(log: &[BatchInfo], first: usize) -> Producers {
        let mut producers = Producers::default();
        for (index, info) in (1..).zip(log).skip(first) {
            producers.appended(entry(index), Offset(index * 10), info);
            commit(&mut producers, index, info);
        }
        producers
    }

    #[test]
    fn a_trim_leaves_what_a_restart_would_find() {
        // Few that write often, and enough that write once to push others out.
        let log: Vec<BatchInfo> = (0..6000_u64)
            .map(|nth| match nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
                busy @ 0..4 => batch_of(ProducerId(busy), u16::try_from(nth / 700).expect("small"), 0, 1),
                _ => batch_of(ProducerId(100 + nth % 2500), 0, 0, 1),
            })
            .collect();
        for through in [0, 1, 2, 50, 1000, 3500, 3501, 5990, 5999, 6000] {
            let mut trimmed = folded(&log, 0);
            trimmed.trimmed(Index(through as u64));
            let restarted = folded(&log, through);
            assert_eq!(trimmed.by_age, restarted.by_age, "trimmed through {through}");
            let batches = |producers: &Producers| -> Vec<(ProducerId, VecDeque<Batch>)> {
                producers.committed.iter().map(|(id, producer)| (*id, producer.batches.clone())).collect()
            };
            assert_eq!(batches(&trimmed), batches(&restarted), "trimmed through {through}");
            assert_eq!(trimmed.by_age.len(), trimmed.committed.len());
        }
    }

    #[test]
    fn a_trim_leaves_what_is_not_committed() {
        let mut producers = Producers::default();
        append(&mut producers, 1, &batch(0, 0, 1));
        commit(&mut producers, 1, &batch(0, 0, 1));
        append(&mut producers, 2, &batch(0, 1, 1));
        producers.trimmed(Index(1));
        assert!(matches!(producers.judge(&batch(0, 1, 1)), Verdict::Pending(_)));
        assert_eq!(producers.judge(&batch(0, 2, 1)), Verdict::Append);
        assert_eq!(producers.judge(&batch(0, 0, 1)), Verdict::OutOfOrder { expected: 2, found: 0 });
    }

    #[test]
    fn batches_without_a_stamp_always_pass() {
        let producers = Producers::default();
        assert_eq!(producers.judge(&BatchInfo { producer: None, ..batch(0, 0, 1) }), Verdict::Append);
    }
}
