//! Snapshots of the producers in the log (docs/decisions/0008): when the leader writes one, and what of the log stays for
//! it. What a snapshot says, and how it is read, stands in `producers.rs`.
//!
//! The leader writes one in front of each command that takes entries away. No replica lets go of what is at or above its
//! last committed snapshot; the executor says when a segment was kept for that alone, and the leader writes another one.

use crate::group::{Body, Group, Stage, Turn};
use crate::marks::Mark;
use crate::partition::Partition;
use crate::producers::{EXPIRATION, Place};
use crate::retention::Held;
use crate::tail::TailEntry;
use alloc::sync::Arc;
use raftline_proto::command::Command;
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::{Index, Offset};
use raftline_proto::producers::ProducerState;
use raftline_proto::time::Monotonic;
use raftline_raft::types::ProposeError;

impl Group {
    /// Makes sure that a snapshot will stand above an entry before a compaction through there is proposed.
    ///
    /// It is written even if no producer is known any more, when one was: else a restart would find those that have
    /// expired, by what is left of their batches, where they were then.
    pub fn snapshot_above<P>(&mut self, through: Index, turn: &mut Turn<'_, P>) -> Result<(), ProposeError> {
        let Body::Partition(partition) = &self.body else { return Ok(()) };
        let producers = &partition.producers;
        let wanted = match producers.last_snapshot() {
            Some(place) => place.index <= through,
            None => !producers.is_empty(),
        };
        if wanted { self.propose_snapshot(turn) } else { Ok(()) }
    }

    /// Makes sure that a snapshot will stand above the records below `offset` before their deletion is proposed. They
    /// would be kept otherwise, until one does.
    pub fn snapshot_above_offset<P>(
        &mut self,
        offset: Offset,
        turn: &mut Turn<'_, P>,
    ) -> Result<(), ProposeError> {
        let Body::Partition(partition) = &self.body else { return Ok(()) };
        let producers = &partition.producers;
        let stands = producers.last_snapshot().is_some_and(|place| place.offset >= offset);
        if producers.is_empty() || stands { Ok(()) } else { self.propose_snapshot(turn) }
    }

    /// The entries below `up_to` would have gone, but for the last committed snapshot.
    pub fn trim_held<P>(&mut self, up_to: Index, turn: &mut Turn<'_, P>) {
        let (Stage::Open(_), Body::Partition(partition)) = (&self.stage, &mut self.body) else { return };
        let producers = &partition.producers;
        if producers.committed_snapshot().is_some_and(|place| place.index >= up_to) {
            // One was committed while this was on its way.
            self.retain_at_last(turn);
            return;
        }
        partition.retention.held = Held::ForSnapshot;
        let under_way = producers.last_snapshot().is_some_and(|place| place.index >= up_to);
        if self.leading.is_some() && !turn.intake.draining && !under_way {
            // Refused as busy, or in the middle of a hand-over: the next look will see to it.
            let _ = self.propose_snapshot(turn);
        }
    }

    /// A snapshot is committed.
    pub fn snapshot_committed<P>(
        &mut self,
        place: Place,
        producers: &[ProducerState],
        turn: &mut Turn<'_, P>,
    ) {
        let Body::Partition(partition) = &mut self.body else { return };
        partition.producers.snapshot_committed(place, producers);
        if partition.retention.held == Held::ForSnapshot {
            self.retain_at_last(turn);
        }
    }

    /// From where on the log has to stay for the producers' sake, if anything has to.
    pub fn kept_from(&self) -> Option<Index> {
        let Body::Partition(partition) = &self.body else { return None };
        let producers = &partition.producers;
        let first = self.tail.start().previous.index.next();
        producers.has_committed().then(|| producers.committed_snapshot().map_or(first, |place| place.index))
    }

    /// Remembers when the last applied entry was: its producer expires by that.
    pub fn note_producer_age(&mut self, now: Monotonic) {
        let Body::Partition(partition) = &mut self.body else { return };
        let (index, end_offset) = (self.tail.applied(), self.tail.high_watermark());
        partition.producer_ages.note(Mark { index, end_offset, at: now }, EXPIRATION);
        partition.expired_through(now);
    }

    fn propose_snapshot<P>(&mut self, turn: &mut Turn<'_, P>) -> Result<(), ProposeError> {
        let Body::Partition(partition) = &mut self.body else { return Ok(()) };
        let expired = partition.expired_through(turn.now.monotonic);
        let producers = partition.producers.to_snapshot(expired);
        self.propose(EntryBody::Command(Command::Producers { producers }), None, turn).map(|_| ())
    }
}

impl Partition {
    /// A command was appended: it may be a snapshot.
    pub fn snapshot_appended(&mut self, entry: &TailEntry, command: &Command) {
        let place = Place { index: entry.id.index, offset: entry.base_offset };
        match command {
            Command::Producers { producers } if is_of_the_past(producers, place.index) => {
                self.producers.snapshot_appended(place, producers);
            }
            Command::Producers { .. } | Command::Compact { .. } | Command::TrimTo { .. } => {}
        }
    }

    /// The last entry known to be so old that a producer expires that has written nothing since.
    fn expired_through(&mut self, now: Monotonic) -> Option<Index> {
        let expired = self.producer_ages.older(EXPIRATION, now, Index(u64::MAX))?;
        // The last that is old enough is better than all before it.
        self.producer_ages.forget(|mark| mark.index < expired.index);
        Some(expired.index)
    }
}

/// Whether a snapshot at `index` speaks of nothing that comes after it.
pub(crate) fn is_of_the_past(producers: &Arc<[ProducerState]>, index: Index) -> bool {
    producers.iter().all(|producer| producer.batches.last().is_some_and(|last| last.entry.index < index))
}
