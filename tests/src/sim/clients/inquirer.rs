//! Somebody who asks where a partition begins and ends, and where the part of each leader ends: of the leader, as far as
//! known, and of others that may believe that they lead. What he is told is judged by the checkers.

use std::time::Duration;

use raftline_broker::payload::OutReply;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_shard::types::{FetchError, OffsetQuery, Reply};

use super::{Around, Ask, Call, Wishes};
use crate::sim::chance::Odds;

/// Asks about one partition.
#[derive(Debug)]
pub struct Inquirer {
    group: GroupId,
    pause: Duration,
    leader: Option<NodeId>,
    /// The latest term told of.
    term: Term,
    next_tag: u64,
}

impl Inquirer {
    /// One that asks every `pause` or so.
    #[must_use]
    pub fn new(group: GroupId, pause: Duration) -> Self {
        Self { group, pause, leader: None, term: Term(1), next_tag: 0 }
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if around.calm {
            return;
        }
        let query = match around.chance.between(0, 3) {
            0 => OffsetQuery::Earliest,
            1 => OffsetQuery::EndOfTerm(Term(around.chance.between(1, self.term.0 + 1))),
            _ => OffsetQuery::Latest,
        };
        self.next_tag += 1;
        let known = self.leader.filter(|_| around.chance.hit(Odds::percent(70)));
        let to = around.node_or_any(known);
        let ask = Ask::Offset { group: self.group, query };
        wishes.calls.push(Call { tag: self.next_tag, to, ask });
        wishes.wake_at(around.now + around.chance.around(self.pause));
    }

    pub(super) fn answered(&mut self, reply: Option<OutReply>) {
        match reply {
            Some(OutReply::Shard(Reply::Offset(Err(FetchError::NotLeader { leader, term })))) => {
                self.leader = leader;
                self.term = self.term.max(term);
            }
            Some(OutReply::EndOfTerm { found: Some((term, _)), .. }) => self.term = self.term.max(term),
            Some(OutReply::Shard(Reply::Offset(Ok(_))) | OutReply::EndOfTerm { .. }) => {}
            _ => self.leader = None,
        }
    }
}
