//! Idempotent producers (KIP-98, KIP-360): what each sent last, so that a retry is recognised and a gap refused.
//!
//! The state is a function of the log: committed batches are *folded* in log order on every replica, batches that
//! are appended and not yet committed are kept aside and vanish with a truncation. A restart folds the log again.
//!
//! Retention, deletion and compaction take batches out of the log. So that nobody forgets by that, the leader writes a
//! *snapshot* into the log first, an entry that says what all of the log below it says of the producers
//! ([`raftline_proto::command::Command::Producers`], docs/decisions/0008). A committed snapshot *replaces* the state:
//! for a replica that has folded all of the log below, nothing changes; one whose log has lost some of it, and was
//! restarted since, becomes right. Until it is committed here, batches are judged by it nevertheless, with what is
//! appended after it: so a new leader judges rightly before it knows what is committed.
//!
//! 1. the log is compacted through entry 90, by a command at 101; the snapshot stands at 100, and the last batch of a
//!    producer, with sequence 215, at 80: it is gone, the one with sequence 213 is not;
//! 2. a replica restarts, knows entries through 95 as committed, and folds: the producer's next sequence is 214;
//! 3. it is elected, and a batch with sequence 216 comes before its first entry is committed. By the snapshot it is the
//!    next one.
//!
//! The bound: a retry is recognised if it is one of its producer's last five batches, as long as fewer than
//! [`PRODUCERS_MAX`] other producers have written since, and the producer has written within [`EXPIRATION`]: who has
//! not is left out of the next snapshot, and so forgotten by every replica at the same entry. A producer that is not
//! known may begin anywhere (KIP-360).

use crate::limits::{BATCHES_REMEMBERED, PRODUCERS_MAX};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::entry::{BatchInfo, ProducerBatch};
use raftline_proto::ids::{EntryId, Index, Offset, ProducerId};
use raftline_proto::producers::{ProducerState, RememberedBatch, SEQUENCE_MAX};
use raftline_proto::time::Timestamp;

/// All idempotent producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    /// What committed entries say.
    committed: Folded,
    /// What appended, uncommitted batches say, oldest first. Invariant: no empty queues.
    pending: BTreeMap<ProducerId, VecDeque<Batch>>,
    /// The last committed snapshot.
    snapshot: Option<Place>,
    /// Appended, uncommitted snapshots, oldest first.
    pending_snapshots: VecDeque<Snapshot>,
}

/// What a run of entries says of the producers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Folded {
    /// Invariant: at most [`PRODUCERS_MAX`]; each has 1 to [`BATCHES_REMEMBERED`] batches, all of the same, latest epoch.
    producers: BTreeMap<ProducerId, VecDeque<Batch>>,
    /// The producers by the index of their last batch. Invariant: one item for each of `producers`.
    by_age: BTreeMap<Index, ProducerId>,
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

/// Where a snapshot is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub index: Index,
    /// The offset of the first record after it.
    pub offset: Offset,
}

#[derive(Debug)]
struct Snapshot {
    place: Place,
    producers: Arc<[ProducerState]>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one, or the producer's first.
    Append,
    /// It is there already, or was; committed or not yet.
    Known(Batch),
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
        // KIP-360: a producer not known (any more) may begin anywhere.
        let Some(latest) = self.latest(stamp.id) else { return Verdict::Append };
        if stamp.epoch < latest.epoch {
            return Verdict::Fenced { current: latest.epoch, found: stamp.epoch };
        }
        let expected = if stamp.epoch == latest.epoch { sequence_after(latest.last_sequence, 1) } else { 0 };
        if stamp.base_sequence == expected {
            return Verdict::Append;
        }
        let asked = Batch::new(EntryId::ZERO, Offset::ZERO, &stamp, info);
        let mut known = pending.into_iter().flatten().copied().chain(self.settled(stamp.id));
        match known.find(|batch| batch.same_records(&asked)) {
            Some(batch) => Verdict::Known(batch),
            None => Verdict::OutOfOrder { expected, found: stamp.base_sequence },
        }
    }

    /// A batch was appended, here or by the leader.
    pub fn appended(&mut self, entry: EntryId, base_offset: Offset, info: &BatchInfo) {
        let Some(stamp) = info.producer else { return };
        let batch = Batch::new(entry, base_offset, &stamp, info);
        self.pending.entry(stamp.id).or_default().push_back(batch);
    }

    /// A snapshot was appended.
    pub fn snapshot_appended(&mut self, place: Place, producers: &Arc<[ProducerState]>) {
        self.pending_snapshots.push_back(Snapshot { place, producers: Arc::clone(producers) });
    }

    /// The last appended batch was cut off again.
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

    /// A snapshot was cut off again.
    pub fn snapshot_dropped(&mut self, index: Index) {
        while self.pending_snapshots.back().is_some_and(|snapshot| snapshot.place.index >= index) {
            self.pending_snapshots.pop_back();
        }
    }

    /// An appended batch was committed. Entries are folded in log order, each once.
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
        self.committed.fold(stamp.id, Batch::new(entry, base_offset, &stamp, info));
    }

    /// An appended snapshot was committed: what it says is what all before it says.
    pub fn snapshot_committed(&mut self, place: Place, producers: &[ProducerState]) {
        while self.pending_snapshots.front().is_some_and(|snapshot| snapshot.place.index <= place.index) {
            self.pending_snapshots.pop_front();
        }
        self.committed = Folded::of(producers);
        self.snapshot = Some(place);
    }

    /// The log was thrown away, and begins anew after entries that were never folded here. What they say, a snapshot
    /// says that comes with the rest.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What all of the log says, without those whose last batch is at or below `expired`: a snapshot to be appended now.
    pub fn to_snapshot(&self, expired: Option<Index>) -> Arc<[ProducerState]> {
        let mut folded = match self.pending_snapshots.back() {
            Some(snapshot) => Folded::of(&snapshot.producers),
            None => self.committed.clone(),
        };
        let after = self.settled_through();
        let pending = self.pending.iter().flat_map(|(id, batches)| batches.iter().map(|batch| (*id, *batch)));
        let mut pending: Vec<(ProducerId, Batch)> =
            pending.filter(|(_, batch)| batch.entry.index > after).collect();
        pending.sort_unstable_by_key(|(_, batch)| batch.entry.index);
        for (id, batch) in pending {
            folded.fold(id, batch);
        }
        let is_expired = |batches: &VecDeque<Batch>| batches.back().map(|last| last.entry.index) <= expired;
        folded
            .producers
            .iter()
            .filter(|(_, batches)| !is_expired(batches))
            .filter_map(|(id, batches)| state_of(*id, batches))
            .collect()
    }

    /// Whether the log says nothing of any producer.
    pub fn is_empty(&self) -> bool {
        self.committed.producers.is_empty()
            && self.pending.is_empty()
            && self.pending_snapshots.iter().all(|snapshot| snapshot.producers.is_empty())
    }

    /// The last snapshot in the log, committed or not.
    pub fn last_snapshot(&self) -> Option<Place> {
        self.pending_snapshots.back().map(|snapshot| snapshot.place).or(self.snapshot)
    }

    /// The last committed snapshot.
    pub fn committed_snapshot(&self) -> Option<Place> {
        self.snapshot
    }

    /// Whether committed entries say something of a producer: then the last committed snapshot has to stay in the log.
    pub fn has_committed(&self) -> bool {
        !self.committed.producers.is_empty()
    }

    /// Of each producer, the stamp that its next batch is to have.
    pub fn next_stamps(&self) -> Vec<ProducerBatch> {
        let of_snapshots = self.pending_snapshots.iter().flat_map(|snapshot| snapshot.producers.iter());
        let mut ids: BTreeSet<ProducerId> = of_snapshots.map(|producer| producer.id).collect();
        ids.extend(self.committed.producers.keys().chain(self.pending.keys()));
        let next = |id| {
            let Batch { epoch, last_sequence, .. } = self.latest(id)?;
            Some(ProducerBatch { id, epoch, base_sequence: sequence_after(last_sequence, 1) })
        };
        ids.into_iter().filter_map(next).collect()
    }

    /// The last batch of a producer, committed or not.
    fn latest(&self, id: ProducerId) -> Option<Batch> {
        let pending = self.pending.get(&id).and_then(VecDeque::back).copied();
        let latest = pending.filter(|batch| batch.entry.index > self.settled_through());
        latest.or_else(|| self.settled(id).last())
    }

    /// The last batches of a producer, before those that are pending: by the last snapshot that is not committed yet, or
    /// else by what is.
    fn settled(&self, id: ProducerId) -> impl Iterator<Item = Batch> + '_ {
        let snapshot = self.pending_snapshots.back();
        let committed = match snapshot {
            Some(_) => None,
            None => self.committed.producers.get(&id),
        };
        let of_snapshot = snapshot.into_iter().flat_map(move |snapshot| snapshot.batches_of(id));
        of_snapshot.chain(committed.into_iter().flatten().copied())
    }

    /// Through where `settled` speaks of pending entries, too.
    fn settled_through(&self) -> Index {
        self.pending_snapshots.back().map_or(Index::ZERO, |snapshot| snapshot.place.index)
    }
}

impl Folded {
    fn of(producers: &[ProducerState]) -> Self {
        let mut folded = Self::default();
        for producer in producers {
            for batch in &producer.batches {
                folded.fold(producer.id, Batch::remembered(producer.epoch, batch));
            }
        }
        folded
    }

    fn fold(&mut self, id: ProducerId, batch: Batch) {
        if !self.producers.contains_key(&id) {
            self.make_room();
        }
        let batches = self.producers.entry(id).or_default();
        if let Some(latest) = batches.back() {
            self.by_age.remove(&latest.entry.index);
        }
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
        while self.producers.len() >= PRODUCERS_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.producers.remove(&oldest);
        }
    }
}

impl Snapshot {
    fn batches_of(&self, id: ProducerId) -> impl Iterator<Item = Batch> + '_ {
        let found = self.producers.binary_search_by_key(&id, |producer| producer.id).ok();
        let producer = found.and_then(|nth| self.producers.get(nth));
        producer.into_iter().flat_map(|producer| {
            producer.batches.iter().map(|batch| Batch::remembered(producer.epoch, batch))
        })
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

    fn remembered(epoch: u16, batch: &RememberedBatch) -> Self {
        let RememberedBatch { entry, base_offset, max_timestamp, base_sequence, last_sequence } = *batch;
        Self { entry, base_offset, max_timestamp, epoch, base_sequence, last_sequence }
    }

    fn same_records(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.base_sequence == other.base_sequence
            && self.last_sequence == other.last_sequence
    }
}

fn state_of(id: ProducerId, batches: &VecDeque<Batch>) -> Option<ProducerState> {
    let remembered = |batch: &Batch| {
        let Batch { entry, base_offset, max_timestamp, base_sequence, last_sequence, epoch: _ } = *batch;
        RememberedBatch { entry, base_offset, max_timestamp, base_sequence, last_sequence }
    };
    let epoch = batches.back()?.epoch;
    Some(ProducerState { id, epoch, batches: batches.iter().map(remembered).collect() })
}

/// `sequence + count`, wrapping to 0 after `i32::MAX` as Kafka's clients do.
fn sequence_after(sequence: u32, count: u32) -> u32 {
    sequence.wrapping_add(count) & SEQUENCE_MAX
}

/// A producer that has written nothing for so long is left out of the next snapshot: Kafka's default of
/// `producer.id.expiration.ms`.
pub(crate) const EXPIRATION: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use raftline_proto::ids::Term;

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
                matches!(verdict, Verdict::Known(batch) if batch.base_offset.get() == u64::from(index) * 10),
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
        assert!(matches!(producers.judge(&across), Verdict::Known(_)));
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
        assert!(matches!(producers.judge(&batch(0, 1, 1)), Verdict::Known(_)));
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
        assert!(matches!(producers.judge(&batch(4, 0, 1)), Verdict::Known(batch) if batch.entry == entry(2)));
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
        let folded = &producers.committed;
        assert_eq!(folded.producers.len(), PRODUCERS_MAX);
        assert_eq!(folded.by_age.len(), PRODUCERS_MAX);
        assert!(!folded.producers.contains_key(&ProducerId(1)));
        assert!(folded.producers.contains_key(&ProducerId(0)));
        assert_eq!(
            producers.judge(&batch_of(ProducerId(1), 0, 44, 1)),
            Verdict::Append,
            "unknown begins anywhere"
        );
    }

    /// What the log's entries from `first` on say.
    fn folded(log: &[BatchInfo], first: usize) -> Producers {
        let mut producers = Producers::default();
        fold_on(&mut producers, log, first);
        producers
    }

    fn fold_on(producers: &mut Producers, log: &[BatchInfo], first: usize) {
        for (index, info) in (1..).zip(log).skip(first) {
            producers.appended(entry(index), Offset(index * 10), info);
            commit(producers, index, info);
        }
    }

    fn place(index: u64) -> Place {
        Place { index: Index(index), offset: Offset(index * 10) }
    }

    /// Few that write often, and enough that write once to push others out.
    fn long_log() -> Vec<BatchInfo> {
        let info = |nth: u64| match nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 {
            busy @ 0..4 => batch_of(ProducerId(busy), u16::try_from(nth / 700).expect("small"), 0, 1),
            _ => batch_of(ProducerId(100 + nth % 2500), 0, 0, 1),
        };
        (0..6000).map(info).collect()
    }

    #[test]
    fn a_snapshot_says_what_the_log_below_says() {
        let log = long_log();
        let all = folded(&log, 0);
        for through in [1, 2, 50, 1000, 3500, 3501, 5999, 6000] {
            // Half of it is committed where the snapshot is made, and none of it where it is taken.
            let mut made = folded(&log[..through / 2], 0);
            for (index, info) in (1..).zip(&log[..through]).skip(through / 2) {
                made.appended(entry(index), Offset(index * 10), info);
            }
            let producers = made.to_snapshot(None);
            assert_eq!(producers, folded(&log[..through], 0).to_snapshot(None), "through {through}");
            let mut taken = folded(&log[..through], through / 3);
            taken.snapshot_committed(place(through as u64), &producers);
            fold_on(&mut taken, &log, through);
            assert_eq!(taken.committed, all.committed, "through {through}");
            assert_eq!(taken.committed.by_age.len(), taken.committed.producers.len());
        }
    }

    #[test]
    fn before_it_is_committed_a_snapshot_counts_for_what_is_below() {
        // The log as a restart finds it: of sequences 0 to 3, only 1 is left.
        let mut producers = folded(&[batch(0, 1, 1)], 0);
        let mut all = folded(&[batch(0, 0, 1), batch(0, 1, 1), batch(0, 2, 1)], 0);
        append(&mut all, 4, &batch(0, 3, 1));
        let snapshot = all.to_snapshot(None);
        producers.appended(entry(4), Offset(40), &batch(0, 3, 1));
        producers.snapshot_appended(place(5), &snapshot);
        let known = |producers: &Producers, sequence| match producers.judge(&batch(0, sequence, 1)) {
            Verdict::Known(batch) => Some(batch.entry.index.get()),
            Verdict::Append | Verdict::OutOfOrder { .. } | Verdict::Fenced { .. } => None,
        };
        for (sequence, index) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
            assert_eq!(known(&producers, sequence), Some(index), "sequence {sequence}");
        }
        append(&mut producers, 6, &batch(0, 4, 1));
        assert_eq!(known(&producers, 4), Some(6));
        assert_eq!(producers.judge(&batch(0, 6, 1)), Verdict::OutOfOrder { expected: 5, found: 6 });
        // What is made now says what is appended after the last one, too.
        let next = producers.to_snapshot(None);
        assert_eq!(next[0].batches.len(), 5);
        assert_eq!(next[0].batches.last().map(|last| last.base_sequence), Some(4));
        // Cut off again, it says nothing.
        producers.dropped(entry(6), &batch(0, 4, 1));
        producers.snapshot_dropped(Index(5));
        assert_eq!(producers.last_snapshot(), None);
        assert_eq!((known(&producers, 3), known(&producers, 2)), (Some(4), None));
    }

    #[test]
    fn a_producer_that_a_snapshot_leaves_out_is_not_known() {
        let mut producers = folded(&[batch(0, 0, 1), batch_of(ProducerId(8), 0, 0, 1)], 0);
        let snapshot = producers.to_snapshot(Some(Index(1)));
        assert_eq!(snapshot.iter().map(|producer| producer.id).collect::<Vec<_>>(), [ProducerId(8)]);
        let anywhere = batch(0, 44, 1);
        assert_eq!(producers.judge(&anywhere), Verdict::OutOfOrder { expected: 1, found: 44 });
        producers.snapshot_appended(place(3), &snapshot);
        assert_eq!(producers.judge(&anywhere), Verdict::Append);
        producers.snapshot_committed(place(3), &snapshot);
        assert_eq!(producers.judge(&anywhere), Verdict::Append);
        assert_eq!(producers.committed_snapshot(), Some(place(3)));
        let none = producers.to_snapshot(Some(Index(2)));
        producers.snapshot_appended(place(4), &none);
        assert!(!producers.is_empty() && producers.has_committed(), "not yet");
        producers.snapshot_committed(place(4), &none);
        assert!(producers.is_empty() && !producers.has_committed());
    }

    #[test]
    fn batches_without_a_stamp_always_pass() {
        let producers = Producers::default();
        assert_eq!(producers.judge(&BatchInfo { producer: None, ..batch(0, 0, 1) }), Verdict::Append);
    }
}
