//! An operator who makes topics, changes, grows and perhaps deletes them one after the other, and asks for producer ids,
//! while everybody else works.

use raftline_broker::payload::OutReply;
use raftline_proto::ids::{NodeId, TopicId};
use raftline_proto::time::Monotonic;
use raftline_shard::types::{CoordinatorCommand, CoordinatorError, Reply};

use super::{Around, Ask, Call, Wishes};
use crate::sim::plan::Meddling;

/// Topics from this one on are a meddler's: nobody writes to them.
pub const FIRST_TOPIC: TopicId = TopicId(1 << 64);

/// Where topics stay, no more are made than these.
const TOPICS_MAX: u128 = 6;

/// Works on one topic after the other.
#[derive(Debug)]
pub struct Meddler {
    what: Meddling,
    replication: u32,
    number: u128,
    partitions: u32,
    next: Next,
    /// How often the present command was sent.
    tries: u32,
    leader: Option<NodeId>,
    under_way: Option<(u64, Monotonic)>,
    next_tag: u64,
}

/// What is to be done with the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Make,
    Change,
    Grow,
    Delete,
}

impl Meddler {
    /// One that makes topics with so many replicas.
    #[must_use]
    pub fn new(what: Meddling, replication: u32) -> Self {
        Self {
            what,
            replication,
            number: 0,
            partitions: 1,
            next: Next::Make,
            tries: 0,
            leader: None,
            under_way: None,
            next_tag: 0,
        }
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if around.calm || (!self.what.deletes && self.number >= TOPICS_MAX) {
            return;
        }
        if self.under_way.is_none_or(|(_, since)| since + around.patience <= around.now) {
            let to = around.node_or_any(self.leader.take());
            let command = self.command(around);
            self.next_tag += 1;
            self.tries += 1;
            self.under_way = Some((self.next_tag, around.now));
            wishes.calls.push(Call { tag: self.next_tag, to, ask: Ask::Coordinate(command) });
            // A tag of its own, whose answer nobody waits for: the world looks at it.
            self.next_tag += 1;
            let ask = Ask::Coordinate(CoordinatorCommand::AllocateProducerId);
            wishes.calls.push(Call { tag: self.next_tag, to, ask });
        }
        wishes.wake_at(around.now + around.patience);
    }

    fn command(&self, around: &mut Around<'_>) -> CoordinatorCommand {
        let id = TopicId(FIRST_TOPIC.0 + self.number);
        let name = format!("extra-{}", self.number);
        let segment_bytes = (4096 * around.chance.between(1, 8)).to_string();
        match self.next {
            Next::Make => CoordinatorCommand::CreateTopic {
                id,
                name,
                partitions: Some(self.partitions),
                replication: Some(self.replication),
                configs: [("segment.bytes".to_owned(), segment_bytes)].into(),
                assignment: Vec::new(),
            },
            Next::Change => {
                let configs = [("segment.bytes".to_owned(), Some(segment_bytes))].into();
                CoordinatorCommand::AlterTopic { name, configs }
            }
            Next::Grow => {
                let total = self.partitions + 1;
                CoordinatorCommand::AddPartitions { name, total, assignment: Vec::new() }
            }
            Next::Delete => CoordinatorCommand::DeleteTopic { name, id: Some(id) },
        }
    }

    pub(super) fn answered(
        &mut self,
        tag: u64,
        reply: Option<OutReply>,
        around: &mut Around<'_>,
        wishes: &mut Wishes,
    ) {
        if self.under_way.is_none_or(|(asked, _)| asked != tag) {
            return;
        }
        self.under_way = None;
        wishes.wake_at(around.backoff());
        let Some(OutReply::Shard(Reply::Coordinated(result))) = reply else { return };
        match result {
            Ok(_) => self.done(around, wishes),
            Err(CoordinatorError::NotLeader { leader }) => self.leader = leader,
            // Not all brokers are registered yet, or nobody knows.
            Err(
                CoordinatorError::OutcomeUnknown
                | CoordinatorError::Busy
                | CoordinatorError::InvalidReplication { .. },
            ) => {}
            // The answer to an earlier try was lost.
            Err(CoordinatorError::UnknownTopic { .. }) if self.next == Next::Delete && self.tries > 1 => {
                self.done(around, wishes);
            }
            Err(error) => {
                wishes.outrage =
                    Some(format!("who is to {:?} topic {} is told {error:?}", self.next, self.number));
            }
        }
    }

    fn done(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        self.tries = 0;
        self.next = match self.next {
            Next::Make => Next::Change,
            Next::Change => Next::Grow,
            Next::Grow if self.what.deletes => Next::Delete,
            Next::Grow | Next::Delete => {
                self.number += 1;
                self.partitions = if around.chance.coin() { 1 } else { 3 };
                Next::Make
            }
        };
        wishes.wake = None;
        wishes.wake_at(around.now + around.chance.around(self.what.pause));
    }
}
