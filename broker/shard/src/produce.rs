//! Produce: judge the batch, append it, and answer when its durability is reached.
//!
//! An answer is fenced by the entry's name: a parked produce is acknowledged only by the entry with its term *and*
//! index. While this replica leads, nothing of its log is cut; when it stops leading, all that is parked is answered
//! "leadership lost", whatever becomes of the entries.

use crate::group::Standing;
use crate::limits::{PARKED_PRODUCES_MAX, PENDING_ENTRIES_MAX};
use crate::parking::Parked;
use crate::partition::Partition;
use crate::producers::{Batch, Verdict};
use crate::types::{DiskSpace, Durability, Effect, ProduceError, Produced, Reply, RequestId};
use alloc::vec::Vec;
use raftline_proto::entry::BatchInfo;
use raftline_proto::ids::{EntryId, Index, NodeId, Offset};
use raftline_proto::time::{Monotonic, Timestamp};

/// What a parked produce will be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub base_offset: Offset,
    pub start_offset: Offset,
    pub max_timestamp: Timestamp,
    pub duplicate: bool,
}

/// What comes of a produce before anything is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is to be proposed.
    Append,
    /// It waits for, or is answered by, an entry that is there already.
    Known(Batch),
    /// It is refused.
    Refused(ProduceError),
}

/// Whether this node takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intake {
    pub disk: DiskSpace,
    pub draining: bool,
}

impl Partition {
    /// Judges a produce on the leader.
    pub fn admit(&self, batch: &BatchInfo, intake: Intake, pending_entries: usize) -> Admission {
        match self.producers.judge(batch) {
            Verdict::Append => {}
            Verdict::Known(known) => {
                return match self.parked_produces() < PARKED_PRODUCES_MAX {
                    true => Admission::Known(known),
                    false => Admission::Refused(ProduceError::Busy),
                };
            }
            Verdict::OutOfOrder { expected, found } => {
                return Admission::Refused(ProduceError::OutOfOrderSequence { expected, found });
            }
            Verdict::Fenced { current, found } => {
                return Admission::Refused(ProduceError::ProducerFenced { current, found });
            }
        }
        if intake.draining {
            return Admission::Refused(ProduceError::Stopping);
        }
        if batch.batch_bytes > self.settings.message_bytes_max {
            let bytes_max = self.settings.message_bytes_max;
            return Admission::Refused(ProduceError::TooLarge { batch_bytes: batch.batch_bytes, bytes_max });
        }
        if let DiskSpace::Low { free_bytes, reserve_bytes } = intake.disk {
            return Admission::Refused(ProduceError::DiskFull { free_bytes, reserve_bytes });
        }
        if self.parked_produces() >= PARKED_PRODUCES_MAX || pending_entries >= PENDING_ENTRIES_MAX {
            return Admission::Refused(ProduceError::Busy);
        }
        Admission::Append
    }

    /// Answers at once where the durability asked for is reached, and parks otherwise.
    pub fn answer_or_park<P>(
        &mut self,
        parked: Waiting,
        standing: &Standing<'_>,
        effects: &mut Vec<Effect<P>>,
    ) {
        let Waiting { request, entry, receipt, durability, deadline } = parked;
        let reached = match durability {
            Durability::Quorum => entry.index <= standing.commit,
            Durability::Memory => entry.index <= standing.commit.max(self.received),
            Durability::Leader => entry.index <= standing.commit.max(standing.durable),
            Durability::None => true,
        };
        if reached {
            effects.push(acknowledge(request, entry, receipt, standing));
            return;
        }
        match durability {
            Durability::Quorum | Durability::None => self.quorum.park(request, entry, deadline, receipt),
            Durability::Memory => self.memory.park(request, entry, deadline, receipt),
            Durability::Leader => self.leader.park(request, entry, deadline, receipt),
        }
    }

    /// Answers those that wait for `entry`, which is committed.
    pub fn acknowledge<P>(&mut self, entry: EntryId, standing: &Standing<'_>, effects: &mut Vec<Effect<P>>) {
        for parking in [&mut self.quorum, &mut self.memory, &mut self.leader] {
            while let Some(Parked { request, entry: awaited, what, .. }) = parking.take_through(entry.index) {
                effects.push(match awaited == entry {
                    true => acknowledge(request, entry, what, standing),
                    // Another entry took the place of the one that was waited for.
                    false => refuse(request, ProduceError::LeadershipLost { leader: standing.leader() }),
                });
            }
        }
    }

    /// Answers those that wait for less than a commit. Called on the leader, whose log is never cut: the index says all.
    pub fn acknowledge_held<P>(&mut self, standing: &Standing<'_>, effects: &mut Vec<Effect<P>>) {
        for (parking, through) in [(&mut self.memory, self.received), (&mut self.leader, standing.durable)] {
            while let Some(Parked { request, entry, what, .. }) = parking.take_through(through) {
                effects.push(acknowledge(request, entry, what, standing));
            }
        }
    }

    /// Answers all with what `why` says: leadership went, or the group did.
    pub fn refuse_produces<P>(&mut self, why: &ProduceError, effects: &mut Vec<Effect<P>>) {
        self.refuse_produces_from(Index::ZERO, why, effects);
    }

    /// Answers those whose entry is at `from` or later.
    pub fn refuse_produces_from<P>(&mut self, from: Index, why: &ProduceError, effects: &mut Vec<Effect<P>>) {
        for parking in [&mut self.quorum, &mut self.memory, &mut self.leader] {
            for parked in parking.take_from(from) {
                effects.push(refuse(parked.request, why.clone()));
            }
        }
    }

    /// Answers those that waited too long.
    pub fn time_out_produces<P>(&mut self, now: Monotonic, effects: &mut Vec<Effect<P>>) {
        for parking in [&mut self.quorum, &mut self.memory, &mut self.leader] {
            while let Some(parked) = parking.take_overdue(now) {
                effects.push(refuse(parked.request, ProduceError::TimedOut));
            }
        }
    }
}

/// A produce whose entry is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub request: RequestId,
    pub entry: EntryId,
    pub receipt: Receipt,
    pub durability: Durability,
    pub deadline: Monotonic,
}

/// The refusal of a produce.
pub(crate) fn refuse<P>(request: RequestId, why: ProduceError) -> Effect<P> {
    Effect::Reply { request, reply: Reply::Produced(Err(why)) }
}

fn acknowledge<P>(
    request: RequestId,
    entry: EntryId,
    receipt: Receipt,
    standing: &Standing<'_>,
) -> Effect<P> {
    let durable_on: Vec<NodeId> = standing.durable_on(entry.index);
    let produced = Produced {
        base_offset: receipt.base_offset,
        start_offset: receipt.start_offset,
        max_timestamp: receipt.max_timestamp,
        term: entry.term,
        durable_on,
        duplicate: receipt.duplicate,
    };
    Effect::Reply { request, reply: Reply::Produced(Ok(produced)) }
}
