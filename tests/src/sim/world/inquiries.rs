//! Questions about offsets, and what the checkers are shown of them.

use std::time::Duration;

use raftline_broker::payload::OutReply;
use raftline_proto::ids::GroupId;
use raftline_proto::time::Monotonic;
use raftline_shard::types::{OffsetQuery, Reply, RequestId};

use super::World;
use crate::sim::facts::{Answered, Fact, Life, Queried};
use crate::sim::marks::Mark;
use crate::sim::trace::{Place, mix};

impl World {
    /// A question arrives at a node: from now on its answer may not go back.
    pub(super) fn ask_offset(&mut self, request: RequestId, group: GroupId, query: OffsetQuery) {
        if let Some(query) = queried(query) {
            self.judge.fact(&Fact::Asked { question: request.0, group, query });
        }
    }

    /// An answer leaves a node.
    pub(super) fn judge_offset(
        &mut self,
        life: Life,
        (request, since): (RequestId, Monotonic),
        group: GroupId,
        query: OffsetQuery,
        reply: &OutReply,
    ) {
        let answer = match (query, reply) {
            (OffsetQuery::Earliest, OutReply::Shard(Reply::Offset(Ok(start)))) => Answered::Start(*start),
            (OffsetQuery::Latest, OutReply::Shard(Reply::Offset(Ok(end)))) => Answered::End(*end),
            (OffsetQuery::EndOfTerm(_), OutReply::EndOfTerm { found: Some((term, end)), .. }) => {
                Answered::EndOfTerm(*term, *end)
            }
            // Its readers begin where the log does.
            (OffsetQuery::EndOfTerm(term), OutReply::EndOfTerm { found: None, start }) => {
                Answered::EndOfTerm(term, *start)
            }
            _ => return,
        };
        if self.heap.now().since(since) > Duration::from_micros(500) {
            self.mark(Mark::QuestionParked);
        }
        if matches!((answer, reply), (Answered::EndOfTerm(..), OutReply::EndOfTerm { found: Some(_), .. })) {
            self.mark(Mark::EpochValidated);
        }
        let (kind, offset) = match answer {
            Answered::Start(offset) => (1, offset),
            Answered::End(offset) => (2, offset),
            Answered::EndOfTerm(term, offset) => (mix(term.0), offset),
        };
        self.trace(Place::at(life.node, group), "told", kind ^ offset.0, || format!("{answer:?}"));
        self.judge.fact(&Fact::Told { question: request.0, life, group, answer });
    }
}

fn queried(query: OffsetQuery) -> Option<Queried> {
    match query {
        OffsetQuery::Earliest => Some(Queried::Start),
        OffsetQuery::Latest => Some(Queried::End),
        OffsetQuery::EndOfTerm(term) => Some(Queried::EndOfTerm(term)),
        OffsetQuery::AtOrAfter(_) | OffsetQuery::MaxTimestamp => None,
    }
}
