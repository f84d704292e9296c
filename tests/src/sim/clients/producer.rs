//! Producers: idempotent ones that retry until they are acknowledged, and plain ones that never retry what may have
//! been done.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raftline_broker::payload::OutReply;
use raftline_proto::batch::{BatchHeader, Builder, Codec, Header};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::{GroupId, NodeId, ProducerId};
use raftline_proto::producers::SEQUENCE_MAX;
use raftline_proto::time::{Monotonic, Timestamp};
use raftline_shard::types::{
    CoordinatorCommand, CoordinatorError, CoordinatorReply, Durability, ProduceError, Reply,
};

use super::{Around, Ask, Call, Wishes};
use crate::sim::chance::Odds;
use crate::sim::facts::first_sequence;
use crate::sim::node::WALL_START;

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Makes its records unlike all others'.
    pub name: u64,
    /// Where it writes.
    pub group: GroupId,
    /// Whether it numbers its batches and retries them until they are acknowledged.
    pub idempotent: bool,
    /// What it asks for.
    pub durability: Durability,
    /// Batches in flight.
    pub window: u64,
    /// Its records have one of so many keys, and some of them no value. `None`: no keys.
    pub keys: Option<u64>,
    /// Most records in a batch.
    pub records_max: u32,
    /// Longest value.
    pub value_bytes_max: usize,
    /// Mean pause between batches.
    pub pause: Duration,
}

/// A producer of one partition.
#[derive(Debug)]
pub struct Producer {
    habits: Habits,
    id: Option<ProducerId>,
    /// The call that asks for an id, if one is under way.
    asking: Option<(u64, Monotonic)>,
    leader: Option<NodeId>,
    /// Not acknowledged yet, in send order.
    batches: VecDeque<Batch>,
    /// Calls under way or given up, by tag: which batch they carry.
    calls: BTreeMap<u64, u64>,
    next_tag: u64,
    next_number: u64,
    next_sequence: u32,
    next_batch_at: Monotonic,
    retry_at: Monotonic,
    acked: u64,
    /// The first batch made after the faults.
    first_when_calm: Option<u64>,
    /// One of those was acknowledged.
    acked_when_calm: bool,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    bytes: Bytes,
    sent: Option<Monotonic>,
}

impl Producer {
    /// A producer that starts at `now`.
    #[must_use]
    pub fn new(habits: Habits, now: Monotonic) -> Self {
        Self {
            habits,
            id: None,
            asking: None,
            leader: None,
            batches: VecDeque::new(),
            calls: BTreeMap::new(),
            next_tag: 0,
            next_number: 0,
            next_sequence: 0,
            next_batch_at: now,
            retry_at: now,
            acked: 0,
            first_when_calm: None,
            acked_when_calm: false,
        }
    }

    /// Batches acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// After the faults: whether everything is acknowledged, with something new among it.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        self.batches.is_empty() && self.acked_when_calm
    }

    /// For the report of a run that does not come to rest.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "producer {} of group {}: {} unacknowledged, {}, something new acknowledged since the faults ended: {}",
            self.habits.name,
            self.habits.group,
            self.batches.len(),
            if self.habits.idempotent { format!("id {:?}", self.id) } else { "not idempotent".to_owned() },
            self.acked_when_calm
        )
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if self.habits.idempotent && self.id.is_none() {
            self.ask_for_id(around, wishes);
            return;
        }
        self.give_up_overdue(around);
        self.make_batches(around);
        self.send(around, wishes);
        if !self.is_done(around) {
            let next =
                self.batches.iter().filter_map(|batch| batch.sent).map(|sent| sent + around.patience).min();
            wishes.wake_at(next.unwrap_or(self.next_batch_at).min(self.next_batch_at).max(around.now + STEP));
        }
    }

    pub(super) fn answered(
        &mut self,
        tag: u64,
        reply: Option<OutReply>,
        around: &mut Around<'_>,
        wishes: &mut Wishes,
    ) {
        if self.asking.is_some_and(|(asked, _)| asked == tag) {
            self.asking = None;
            match reply {
                Some(OutReply::Shard(Reply::Coordinated(Ok(CoordinatorReply::ProducerId(id))))) => {
                    self.id = Some(id);
                    self.next_sequence = first_sequence(id);
                }
                Some(OutReply::Shard(Reply::Coordinated(Err(CoordinatorError::NotLeader { leader })))) => {
                    self.leader = leader;
                }
                _ => self.leader = None,
            }
            wishes.wake_at(around.backoff());
            return;
        }
        let Some(number) = self.calls.remove(&tag) else { return };
        match reply {
            Some(OutReply::Shard(Reply::Produced(Ok(_)))) => {
                self.acknowledged(number);
                wishes.wake_at(around.now + STEP);
            }
            Some(OutReply::Shard(Reply::Produced(Err(error)))) => {
                self.refused(number, &error, around, wishes)
            }
            _ => self.resend(number, None, Outcome::Unknown, around, wishes),
        }
    }

    fn is_done(&self, around: &Around<'_>) -> bool {
        around.calm && self.is_satisfied()
    }

    fn ask_for_id(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if self.asking.is_none_or(|(_, since)| since + around.patience <= around.now) {
            let to = around.node_or_any(self.leader.take());
            let tag = self.tag();
            self.asking = Some((tag, around.now));
            wishes.calls.push(Call { tag, to, ask: Ask::Coordinate(CoordinatorCommand::AllocateProducerId) });
        }
        wishes.wake_at(around.now + around.patience);
    }

    /// Batches whose answer is overdue are sent again; what may have been done is not, without idempotence.
    fn give_up_overdue(&mut self, around: &mut Around<'_>) {
        let overdue = |batch: &Batch| batch.sent.is_some_and(|sent| sent + around.patience <= around.now);
        if self.batches.iter().any(overdue) {
            self.leader = None;
            self.forget_or_retry(around);
        }
    }

    fn forget_or_retry(&mut self, around: &mut Around<'_>) {
        if self.habits.idempotent {
            self.batches.iter_mut().for_each(|batch| batch.sent = None);
            self.retry_at = around.backoff();
        } else {
            self.batches.retain(|batch| batch.sent.is_none());
        }
    }

    fn make_batches(&mut self, around: &mut Around<'_>) {
        // The first batch goes alone: a broker that has never heard of a producer takes any sequence for its first.
        let window = if self.acked == 0 { 1 } else { self.habits.window };
        let enough = around.calm && self.acked_when_calm;
        // Counted from the oldest, holes included: brokers remember a producer's last five batches, and no more.
        let span = self.batches.front().map_or(0, |oldest| self.next_number - oldest.number);
        if span < window && self.next_batch_at <= around.now && !enough {
            let bytes = self.build(around);
            self.batches.push_back(Batch { number: self.next_number, bytes, sent: None });
            if around.calm {
                self.first_when_calm.get_or_insert(self.next_number);
            }
            self.next_number += 1;
            self.next_batch_at = around.now + around.chance.around(self.habits.pause);
        } else if self.next_batch_at <= around.now {
            self.next_batch_at = around.now + around.chance.around(self.habits.pause);
        }
    }

    fn build(&mut self, around: &mut Around<'_>) -> Bytes {
        let mut builder = Builder::new(Codec::None);
        let count =
            u32::try_from(around.chance.between(1, u64::from(self.habits.records_max))).expect("small");
        if let Some(id) = self.id {
            builder.set_producer(ProducerBatch { id, epoch: 0, base_sequence: self.next_sequence });
            self.next_sequence = (self.next_sequence + count) & SEQUENCE_MAX;
        }
        let millis = i64::try_from(around.now.0 / 1000).expect("virtual time is short");
        let timestamp = Timestamp(WALL_START + millis);
        for record in 0..count {
            let mut value = format!("{}/{}/{record} ", self.habits.name, self.next_number).into_bytes();
            let filler = around.chance.index_through(self.habits.value_bytes_max);
            value.resize(value.len() + filler, b'.');
            let key = self.habits.keys.map(|keys| format!("key-{}", around.chance.between(1, keys)));
            let key = key.as_ref().map(String::as_bytes);
            if key.is_some() && around.chance.hit(Odds::percent(20)) {
                // No two batches are to be alike.
                let header = Header { name: b"n", value: Some(&value) };
                builder.push(timestamp, key, None, &[header]).expect("a small record fits");
            } else {
                builder.push(timestamp, key, Some(&value), &[]).expect("a small record fits");
            }
        }
        builder.build()
    }

    fn send(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if self.retry_at > around.now {
            if self.batches.iter().any(|batch| batch.sent.is_none()) {
                wishes.wake_at(self.retry_at);
            }
            return;
        }
        for position in 0..self.batches.len() {
            if self.batches[position].sent.is_some() {
                continue;
            }
            let to = around.node_or_any(self.leader);
            self.leader = Some(to);
            let tag = self.tag();
            let batch = &mut self.batches[position];
            batch.sent = Some(around.now);
            self.calls.insert(tag, batch.number);
            let info = BatchHeader::decode(&batch.bytes).expect("a batch just built").info();
            let (group, durability) = (self.habits.group, self.habits.durability);
            let ask = Ask::Produce { group, batch: batch.bytes.clone(), info, durability };
            wishes.calls.push(Call { tag, to, ask });
        }
    }

    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    fn acknowledged(&mut self, number: u64) {
        let before = self.batches.len();
        self.batches.retain(|batch| batch.number != number);
        if self.batches.len() < before {
            self.acked += 1;
            self.acked_when_calm |= self.first_when_calm.is_some_and(|first| number >= first);
        }
    }

    fn refused(&mut self, number: u64, error: &ProduceError, around: &mut Around<'_>, wishes: &mut Wishes) {
        match error {
            ProduceError::NotLeader { leader, .. } => {
                self.resend(number, *leader, Outcome::NotDone, around, wishes);
            }
            ProduceError::LeadershipLost { leader } => {
                self.resend(number, *leader, Outcome::Unknown, around, wishes);
            }
            ProduceError::TimedOut => self.resend(number, self.leader, Outcome::Unknown, around, wishes),
            ProduceError::Busy | ProduceError::DiskFull { .. } | ProduceError::Stopping => {
                self.resend(number, self.leader, Outcome::NotDone, around, wishes);
            }
            ProduceError::UnknownGroup => self.resend(number, None, Outcome::NotDone, around, wishes),
            // One before it was refused or lost, or this attempt is an old one that comes late, or the leader was
            // replaced and does not know it yet. The checkers judge whether the leader may say so.
            ProduceError::OutOfOrderSequence { .. } => {
                self.resend(number, None, Outcome::NotDone, around, wishes);
            }
            ProduceError::ProducerFenced { .. } | ProduceError::TooLarge { .. } => {
                wishes.outrage = Some(format!("{} is told {error:?}", self.describe()));
            }
        }
    }

    fn resend(
        &mut self,
        number: u64,
        leader: Option<NodeId>,
        outcome: Outcome,
        around: &mut Around<'_>,
        wishes: &mut Wishes,
    ) {
        if !self.batches.iter().any(|batch| batch.number == number) {
            return;
        }
        self.leader = leader;
        match (self.habits.idempotent, outcome) {
            (true, _) | (false, Outcome::Unknown) => self.forget_or_retry(around),
            (false, Outcome::NotDone) => {
                self.batches.iter_mut().for_each(|batch| batch.sent = None);
                self.retry_at = around.backoff();
            }
        }
        wishes.wake_at(self.retry_at.max(around.now + STEP));
    }
}

/// What a failed attempt may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// A client does not act twice in the same moment.
const STEP: Duration = Duration::from_micros(100);
