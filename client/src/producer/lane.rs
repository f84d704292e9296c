//! One partition's batches on their way: what may be sent next, and what an answer means. No I/O and no clock, so
//! that every rule can be tested alone.
//!
//! How records stay once and in order although batches are pipelined and retried:
//!
//! 1. A batch gets the partition's next sequence number when it is sent for the first time and keeps it over
//!    retries; brokers refuse gaps and recognise the last five batches (KIP-98).
//! 2. A broker that has never seen the producer takes any sequence number (KIP-360), so the first batch travels
//!    alone: only after its acknowledgement are up to five under way.
//! 3. After any failure nothing is sent until every batch under way is answered or its stream is lost; then all that
//!    are not acknowledged go again, in order.
//! 4. When a batch is given up, its successors' numbers have a gap before them. Those that certainly are not in the
//!    log get numbers of a new producer id. One that may be in the log (an attempt ended without an answer) keeps
//!    its number and fails as "unknown" if the broker refuses it: it is never sent under a second name.

use super::batch::{Identity, Sealed};
use super::ticket::{BatchDelivery, Settler};
use crate::error::{DeliveryError, ErrorCode, Outcome, Refusal};
use raftline_proto::api::Durability;
use raftline_proto::ids::PartitionIndex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A batch between its closing and its settlement.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Counts the lane's batches.
    number: u64,
    sealed: Sealed,
    settler: Settler,
    durability: Durability,
    /// Given up after this.
    deadline: Instant,
    flight: Flight,
    /// An attempt ended without an answer: the batch may be in the log.
    tainted: bool,
    last_failure: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Waiting,
    UnderWay { stream: StreamId, since: Instant },
}

/// One produce stream to one broker; a new one after every break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

/// What to put into a request.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) number: u64,
    pub(crate) bytes: bytes::Bytes,
    pub(crate) durability: Durability,
    pub(crate) deadline: Instant,
}

/// What the lane wants of its sender after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Nothing: go on.
    GoOn,
    /// Learn who leads, then go on after a pause.
    Refresh,
    /// Go on after a pause.
    Pause,
}

/// What does not change over a lane's life.
#[derive(Clone, Debug)]
pub(crate) struct LaneConfig {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionIndex,
    pub(crate) in_flight_max: usize,
    pub(crate) idempotent: bool,
    pub(crate) delivery_timeout: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Lane {
    config: LaneConfig,
    /// In the order of hand-over. Invariant: numbers ascend.
    unsettled: VecDeque<Batch>,
    next_number: u64,
    /// `None` until the sender has brought one, and again once a gap made it useless.
    identity: Option<Identity>,
    next_sequence: u32,
    /// The broker knows the producer under this identity: batches may be pipelined.
    established: bool,
    /// A failure was seen: nothing is sent until all under way is answered.
    recovering: bool,
    /// Nothing is sent before this.
    resume_at: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(config: LaneConfig) -> Self {
        Self {
            config,
            unsettled: VecDeque::new(),
            next_number: 0,
            identity: None,
            next_sequence: 0,
            established: false,
            recovering: false,
            resume_at: None,
        }
    }

    pub(crate) fn accept(
        &mut self,
        sealed: Sealed,
        settler: Settler,
        durability: Durability,
        deadline: Instant,
    ) {
        let number = self.next_number;
        self.next_number += 1;
        self.unsettled.push_back(Batch {
            number,
            sealed,
            settler,
            durability,
            deadline,
            flight: Flight::Waiting,
            tainted: false,
            last_failure: "the partition had no leader that could be reached".into(),
        });
    }

    /// Whether a further batch could be sent soon: if not, records gather for a larger one.
    pub(crate) fn has_room(&self) -> bool {
        self.unsettled.is_empty() || self.unsettled.len() < self.in_flight_allowed() && !self.recovering
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Whether the lane has something to send but no identity to send it under. What is under way is answered
    /// first: only then is it clear what may change its name.
    pub(crate) fn wants_identity(&self) -> bool {
        self.config.idempotent
            && self.identity.is_none()
            && !self.unsettled.is_empty()
            && self.under_way() == 0
    }

    /// Gives the lane its identity, never used by this lane before.
    pub(crate) fn identify(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.established = false;
        for batch in &mut self.unsettled {
            // See rule 4: what may be in the log keeps its name.
            if !batch.tainted {
                batch.sealed.unstamp();
            }
        }
    }

    /// All tickets that are not settled, for flushing.
    pub(crate) fn watch(&self) -> impl Iterator<Item = super::Ticket> + '_ {
        self.unsettled.iter().map(|batch| batch.settler.watch())
    }

    /// The stream that carries what is under way. What follows has to take the same one, or order would be left
    /// to two connections' race.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        self.unsettled.iter().find_map(|batch| match batch.flight {
            Flight::UnderWay { stream, .. } => Some(stream),
            Flight::Waiting => None,
        })
    }

    /// Whether [`Lane::send_next`] would give something.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        let under_way = self.under_way();
        if self.config.idempotent && self.identity.is_none() || self.resume_at.is_some_and(|at| now < at) {
            return false;
        }
        let window_open = if self.recovering { under_way == 0 } else { under_way < self.in_flight_allowed() };
        window_open && under_way < self.unsettled.len()
    }

    /// The next batch for the wire.
    pub(crate) fn send_next(&mut self, stream: StreamId, now: Instant) -> Option<Outgoing> {
        if !self.may_send(now) {
            return None;
        }
        self.recovering = false;
        self.resume_at = None;
        let batch = self.unsettled.iter_mut().find(|batch| batch.flight == Flight::Waiting)?;
        if let Some(identity) = self.identity.filter(|_| !batch.sealed.is_stamped()) {
            batch.sealed.stamp(identity, self.next_sequence);
            self.next_sequence = sequence_after(self.next_sequence, batch.sealed.record_count());
        }
        batch.flight = Flight::UnderWay { stream, since: now };
        batch.settler.note_sent();
        Some(Outgoing {
            number: batch.number,
            bytes: batch.sealed.bytes(),
            durability: batch.durability,
            deadline: batch.deadline,
        })
    }

    /// The broker has it.
    pub(crate) fn acknowledged(&mut self, number: u64, delivery: BatchDelivery) {
        let Some(batch) = self.take(number) else { return };
        if batch.sealed.identity() == self.identity {
            self.established = true;
        }
        batch.settler.settle(Ok(delivery));
    }

    /// The broker answered with an error.
    pub(crate) fn refused(&mut self, number: u64, refusal: Refusal) -> Advice {
        let Some(position) = self.unsettled.iter().position(|batch| batch.number == number) else {
            return Advice::GoOn;
        };
        self.unsettled[position].last_failure = refusal.to_string();
        self.recovering = true;
        match refusal.code {
            ErrorCode::NotLeader | ErrorCode::NotCoordinator | ErrorCode::UnknownTopicOrPartition => {
                self.unsettled[position].flight = Flight::Waiting;
                Advice::Refresh
            }
            ErrorCode::Stopping => {
                self.unsettled[position].flight = Flight::Waiting;
                Advice::Refresh
            }
            ErrorCode::Busy | ErrorCode::DiskFull => {
                self.unsettled[position].flight = Flight::Waiting;
                Advice::Pause
            }
            ErrorCode::LeadershipLost | ErrorCode::TimedOut | ErrorCode::StorageError => {
                self.lose(position);
                Advice::Refresh
            }
            ErrorCode::OutOfOrderSequence | ErrorCode::ProducerFenced => self.out_of_order(position),
            _ => {
                self.give_up(position, |config| DeliveryError::Refused {
                    topic: config.topic.to_string(),
                    partition: config.partition,
                    refusal,
                });
                Advice::GoOn
            }
        }
    }

    /// The stream broke: what was under way on it may or may not be in the log.
    pub(crate) fn stream_lost(&mut self, stream: StreamId, reason: &str) -> Advice {
        let mut advice = Advice::GoOn;
        let mut position = 0;
        while position < self.unsettled.len() {
            let batch = &mut self.unsettled[position];
            if matches!(batch.flight, Flight::UnderWay { stream: used, .. } if used == stream) {
                reason.clone_into(&mut batch.last_failure);
                self.recovering = true;
                advice = Advice::Refresh;
                if self.lose(position) == Lost::Dropped {
                    continue;
                }
            }
            position += 1;
        }
        advice
    }

    /// Why the batches that wait do so, for the message in case they wait too long.
    pub(crate) fn note_failure(&mut self, reason: &str) {
        for batch in &mut self.unsettled {
            if batch.flight == Flight::Waiting {
                reason.clone_into(&mut batch.last_failure);
            }
        }
    }

    /// Nothing is sent before `at`.
    pub(crate) fn pause_until(&mut self, at: Instant) {
        self.resume_at = Some(at);
    }

    /// Gives up what is past its deadline.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(position) = self.unsettled.iter().position(|batch| batch.deadline <= now) {
            let batch = &self.unsettled[position];
            let known = !batch.tainted && batch.flight == Flight::Waiting;
            let outcome = if known { Outcome::NotStored } else { Outcome::Unknown };
            let last_failure = match batch.flight {
                Flight::Waiting => batch.last_failure.clone(),
                Flight::UnderWay { .. } => "the broker did not answer".into(),
            };
            self.give_up(position, |config| DeliveryError::TimedOut {
                topic: config.topic.to_string(),
                partition: config.partition,
                waited: config.delivery_timeout,
                outcome,
                last_failure,
            });
        }
    }

    /// When something is due without any event: a pause's end or the first deadline.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let deadline = self.unsettled.iter().map(|batch| batch.deadline).min();
        [deadline, self.resume_at.filter(|_| !self.unsettled.is_empty())].into_iter().flatten().min()
    }

    /// Since when the longest waiting request has had no answer, and on which stream.
    pub(crate) fn unanswered_since(&self) -> Option<(StreamId, Instant)> {
        self.unsettled.iter().find_map(|batch| match batch.flight {
            Flight::UnderWay { stream, since } => Some((stream, since)),
            Flight::Waiting => None,
        })
    }

    fn in_flight_allowed(&self) -> usize {
        if self.config.idempotent && !self.established { 1 } else { self.config.in_flight_max }
    }

    fn under_way(&self) -> usize {
        self.unsettled.iter().filter(|batch| batch.flight != Flight::Waiting).count()
    }

    fn take(&mut self, number: u64) -> Option<Batch> {
        let position = self.unsettled.iter().position(|batch| batch.number == number)?;
        self.unsettled.remove(position)
    }

    /// An attempt ended without an answer.
    fn lose(&mut self, position: usize) -> Lost {
        let batch = &mut self.unsettled[position];
        if self.config.idempotent {
            batch.flight = Flight::Waiting;
            batch.tainted = true;
            return Lost::Kept;
        }
        self.drop_as_unknown(position);
        Lost::Dropped
    }

    /// The broker sees a gap before the batch.
    fn out_of_order(&mut self, position: usize) -> Advice {
        self.unsettled[position].flight = Flight::Waiting;
        if position > 0 {
            // The consequence of an earlier batch's failure: it will fit once that one is there.
            return Advice::GoOn;
        }
        self.forget_identity_of(position);
        if self.unsettled[position].tainted {
            self.drop_as_unknown(position);
        }
        Advice::Pause
    }

    fn drop_as_unknown(&mut self, position: usize) {
        let last_failure = std::mem::take(&mut self.unsettled[position].last_failure);
        self.give_up(position, |config| DeliveryError::OutcomeUnknown {
            topic: config.topic.to_string(),
            partition: config.partition,
            last_failure,
        });
    }

    /// Settles a batch with an error. If it had a number, those after it have a gap before them.
    fn give_up(&mut self, position: usize, error: impl FnOnce(&LaneConfig) -> DeliveryError) {
        self.forget_identity_of(position);
        let Some(batch) = self.unsettled.remove(position) else { return };
        batch.settler.settle(Err(error(&self.config)));
    }

    /// The batch will not be stored under its present number: the identity has a gap from there on.
    fn forget_identity_of(&mut self, position: usize) {
        if self.unsettled[position].sealed.identity() == self.identity {
            self.identity = None;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Kept,
    Dropped,
}

/// Sequence numbers count records from 0 to `i32::MAX` and start again at 0.
fn sequence_after(sequence: u32, records: u32) -> u32 {
    const MODULUS: u64 = 1 << 31;
    let next = (u64::from(sequence) + u64::from(records)) % MODULUS;
    u32::try_from(next).expect("a remainder of 2^31 fits")
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
