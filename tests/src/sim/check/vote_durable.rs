//! VOTE-DUR: term and vote are on stable storage before a vote request or a grant leaves (Raft figure 2, "updated on
//! stable storage before responding"). Judged by the disk's durable image when the message is sent.

use raftline_proto::ids::{HardState, NodeId, Term};
use raftline_raft::types::Message;

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug)]
pub(super) struct VoteDurable;

impl Check for VoteDurable {
    fn name(&self) -> &'static str {
        "vote durable before it leaves"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        let Fact::Spoke { life, group, to, message, disk } = fact else {
            return Ok(());
        };
        let vote = match message {
            Message::Vote { term, .. } => Some((*term, life.node)),
            Message::VoteReply { term, granted: true } => Some((*term, *to)),
            _ => None,
        };
        match vote {
            Some((term, candidate)) if !holds(disk.hard_state, term, candidate) => Err(format!(
                "{life} spoke for node {candidate} in term {term} of group {group} while its disk says {:?}",
                disk.hard_state
            )),
            _ => Ok(()),
        }
    }
}

fn holds(on_disk: HardState, term: Term, candidate: NodeId) -> bool {
    on_disk == HardState { term, voted_for: Some(candidate) } || on_disk.term > term
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use crate::sim::facts::OnDisk;

    fn spoke<'a>(message: &'a Message, disk: &'a OnDisk) -> Fact<'a> {
        Fact::Spoke { life: life(1), group: GROUP, to: NodeId(2), message, disk }
    }

    fn disk(term: u64, voted_for: Option<u32>) -> OnDisk {
        let hard_state = HardState { term: Term(term), voted_for: voted_for.map(NodeId) };
        OnDisk { hard_state, last: id(0, 0) }
    }

    #[test]
    fn a_grant_that_is_not_on_disk_trips() {
        let grant = Message::VoteReply { term: Term(5), granted: true };
        for bad in [disk(4, Some(2)), disk(5, None), disk(5, Some(3))] {
            must_trip(VoteDurable, &[spoke(&grant, &bad)], "spoke for node 2 in term 5");
        }
        must_pass(VoteDurable, &[spoke(&grant, &disk(5, Some(2)))]);
    }

    #[test]
    fn a_request_before_the_own_vote_is_on_disk_trips() {
        let request = Message::Vote { term: Term(5), last: id(1, 1), transfer: false };
        must_trip(VoteDurable, &[spoke(&request, &disk(5, None))], "spoke for node 1 in term 5");
        must_pass(VoteDurable, &[spoke(&request, &disk(5, Some(1)))]);
    }

    #[test]
    fn a_refusal_needs_nothing() {
        let refusal = Message::VoteReply { term: Term(5), granted: false };
        must_pass(VoteDurable, &[spoke(&refusal, &disk(0, None))]);
    }
}
