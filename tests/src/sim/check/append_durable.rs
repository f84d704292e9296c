//! PERSIST: when a follower says "durable through n in term T", its disk holds an entry n and a term of at least T.
//! And what was said to be durable is found again after any crash, unless a leader has replaced it since.

use std::collections::BTreeMap;

use raftline_proto::ids::{EntryId, GroupId, HardState, Index, NodeId, Term};
use raftline_raft::types::{AppendResult, Message};

use super::{Check, Ledger};
use crate::sim::facts::{Fact, Life, OnDisk};

#[derive(Debug, Default)]
pub(super) struct AppendDurable {
    claims: BTreeMap<(NodeId, GroupId), Claim>,
}

/// What a node has said of its disk.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    term: Term,
    durable: Index,
}

impl Check for AppendDurable {
    fn name(&self) -> &'static str {
        "acknowledged append is on disk"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Spoke { life, group, message: Message::AppendReply { term, result, .. }, disk, .. } => {
                match result {
                    AppendResult::Matched { durable, .. } => self.spoke(*life, *group, *term, *durable, disk),
                    AppendResult::Rejected { .. } => Ok(()),
                }
            }
            Fact::Truncated { life, group, from, .. } => {
                if let Some(claim) = self.claims.get_mut(&(life.node, *group)) {
                    claim.durable = claim.durable.min(from.previous().unwrap_or_default());
                }
                Ok(())
            }
            Fact::Reopened { life, group, last, hard_state } => {
                self.reopened(*life, *group, *last, *hard_state)
            }
            _ => Ok(()),
        }
    }
}

impl AppendDurable {
    fn spoke(
        &mut self,
        life: Life,
        group: GroupId,
        term: Term,
        durable: Index,
        disk: &OnDisk,
    ) -> Result<(), String> {
        if disk.last.index < durable || disk.hard_state.term < term {
            return Err(format!(
                "{life} acknowledged group {group} through {durable} in term {term}; its disk ends at {} and knows \
                 term {}",
                disk.last, disk.hard_state.term
            ));
        }
        let claim = self.claims.entry((life.node, group)).or_default();
        *claim = Claim { term: claim.term.max(term), durable: claim.durable.max(durable) };
        Ok(())
    }

    fn reopened(&self, life: Life, group: GroupId, last: EntryId, found: HardState) -> Result<(), String> {
        let claim = self.claims.get(&(life.node, group)).copied().unwrap_or_default();
        if last.index < claim.durable || found.term < claim.term {
            return Err(format!(
                "{life} came back with group {group} through {last} in term {}, having acknowledged {} in term {}",
                found.term, claim.durable, claim.term
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use raftline_raft::types::Round;

    fn reply(term: u64, durable: u64) -> Message {
        let result =
            AppendResult::Matched { durable: Index(durable), received: Index(durable), commit: Index(0) };
        Message::AppendReply { term: Term(term), result, round: Round(0) }
    }

    fn spoke<'a>(message: &'a Message, disk: &'a OnDisk) -> Fact<'a> {
        Fact::Spoke { life: life(1), group: GROUP, to: NodeId(2), message, disk }
    }

    fn disk(term: u64, last: EntryId) -> OnDisk {
        OnDisk { hard_state: HardState { term: Term(term), voted_for: None }, last }
    }

    fn reopened(term: u64, last: EntryId) -> Fact<'static> {
        let hard_state = HardState { term: Term(term), voted_for: None };
        Fact::Reopened { life: Life { start: 1, ..life(1) }, group: GROUP, last, hard_state }
    }

    #[test]
    fn an_ack_ahead_of_the_disk_trips() {
        must_trip(
            AppendDurable::default(),
            &[spoke(&reply(2, 5), &disk(2, id(2, 4)))],
            "its disk ends at 2.4",
        );
        must_trip(AppendDurable::default(), &[spoke(&reply(3, 4), &disk(2, id(2, 4)))], "knows term 2");
        must_pass(AppendDurable::default(), &[spoke(&reply(2, 4), &disk(2, id(2, 4)))]);
    }

    #[test]
    fn a_crash_that_loses_what_was_acknowledged_trips() {
        let (ack, good) = (reply(2, 5), disk(2, id(2, 5)));
        let history = |after| [spoke(&ack, &good), after];
        must_trip(AppendDurable::default(), &history(reopened(2, id(2, 4))), "having acknowledged 5");
        must_trip(AppendDurable::default(), &history(reopened(1, id(2, 5))), "in term 2");
        must_pass(AppendDurable::default(), &history(reopened(2, id(2, 6))));
    }

    #[test]
    fn what_a_leader_replaced_is_not_missed() {
        let (ack, good) = (reply(2, 5), disk(2, id(2, 5)));
        let cut = Fact::Truncated { life: life(1), group: GROUP, from: Index(3), commit: Index(2) };
        must_pass(AppendDurable::default(), &[spoke(&ack, &good), cut, reopened(2, id(1, 2))]);
    }
}
