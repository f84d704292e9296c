//! The operator: registers the brokers, as each node's driver does, and creates the topics. Asks until it is done.

use std::collections::VecDeque;
use std::time::Duration;

use raftline_broker::payload::OutReply;
use raftline_proto::ids::NodeId;
use raftline_proto::time::Monotonic;
use raftline_shard::types::{CoordinatorCommand, CoordinatorError, Reply};

use super::{Around, Ask, Call, Wishes};

/// Works a list of commands off, in order.
#[derive(Debug)]
pub struct Admin {
    commands: VecDeque<CoordinatorCommand>,
    leader: Option<NodeId>,
    under_way: Option<(u64, Monotonic)>,
    next_tag: u64,
}

impl Admin {
    /// An operator with these things to do.
    #[must_use]
    pub fn new(commands: impl IntoIterator<Item = CoordinatorCommand>) -> Self {
        Self { commands: commands.into_iter().collect(), leader: None, under_way: None, next_tag: 0 }
    }

    /// One more thing to do.
    pub fn add(&mut self, command: CoordinatorCommand) {
        self.commands.push_back(command);
    }

    /// Whether everything is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        let overdue = self.under_way.is_none_or(|(_, since)| since + around.patience <= around.now);
        let Some(command) = self.commands.front() else { return };
        if overdue {
            let to = around.node_or_any(self.leader.take());
            self.next_tag += 1;
            self.under_way = Some((self.next_tag, around.now));
            wishes.calls.push(Call { tag: self.next_tag, to, ask: Ask::Coordinate(command.clone()) });
        }
        wishes.wake_at(around.now + around.patience);
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
        let again = around.now + around.chance.span(Duration::from_millis(10), Duration::from_millis(60));
        wishes.wake_at(again);
        match reply {
            Some(OutReply::Shard(Reply::Coordinated(Ok(_)))) => self.done(),
            Some(OutReply::Shard(Reply::Coordinated(Err(error)))) => match error {
                // A retry of a command whose answer was lost.
                CoordinatorError::TopicExists { .. } => self.done(),
                CoordinatorError::NotLeader { leader } => self.leader = leader,
                // Not enough brokers are registered yet: let the others have their turn.
                CoordinatorError::InvalidReplication { .. } => self.commands.rotate_left(1),
                CoordinatorError::OutcomeUnknown | CoordinatorError::Busy => {}
                CoordinatorError::UnknownTopic { .. }
                | CoordinatorError::InvalidTopicName { .. }
                | CoordinatorError::InternalTopic { .. }
                | CoordinatorError::InvalidPartitions { .. }
                | CoordinatorError::InvalidAssignment { .. }
                | CoordinatorError::InvalidConfig { .. }
                | CoordinatorError::BrokerFull { .. }
                | CoordinatorError::IncarnationMismatch { .. }
                | CoordinatorError::LimitExceeded { .. } => {
                    wishes.outrage = Some(format!("the operator is told {error:?}"));
                }
            },
            _ => {}
        }
    }

    fn done(&mut self) {
        self.commands.pop_front();
    }
}
