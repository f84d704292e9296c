//! ELECT, by its cause: who leads a term was given the votes of a majority of its group in that very term (Raft figure 2),
//! its own included. Votes are counted where they are told, so that none from another term can stand in.

use std::collections::{BTreeMap, BTreeSet};

use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_raft::types::Message;

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug, Default)]
pub(super) struct VotedFor {
    /// Who told a candidate that it has their vote.
    votes: BTreeMap<(GroupId, Term, NodeId), BTreeSet<NodeId>>,
}

impl Check for VotedFor {
    fn name(&self) -> &'static str {
        "leaders have a majority's votes"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Spoke { life, group, to, message: Message::VoteReply { term, granted: true }, .. } => {
                self.votes.entry((*group, *term, *to)).or_default().insert(life.node);
                Ok(())
            }
            Fact::Elected { life, group, term, voters, .. } => {
                let told = self.votes.get(&(*group, *term, life.node));
                let votes_for =
                    |voter: &&NodeId| **voter == life.node || told.is_some_and(|told| told.contains(*voter));
                let votes: Vec<NodeId> = voters.iter().filter(votes_for).copied().collect();
                if votes.len() > voters.len() / 2 {
                    return Ok(());
                }
                Err(format!(
                    "{life} leads group {group} in term {term} with the votes of {votes:?} only, of {voters:?}"
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use crate::sim::facts::OnDisk;

    fn told<'a>(node: u32, to: u32, message: &'a Message, disk: &'a OnDisk) -> Fact<'a> {
        Fact::Spoke { life: life(node), group: GROUP, to: NodeId(to), message, disk }
    }

    fn grant(term: u64) -> Message {
        Message::VoteReply { term: Term(term), granted: true }
    }

    #[test]
    fn a_leader_without_a_majority_trips() {
        must_trip(VotedFor::default(), &[elected(1, 3, &[])], "with the votes of [NodeId(1)] only");
        let (disk, refusal) = (OnDisk::default(), Message::VoteReply { term: Term(3), granted: false });
        let refused = [told(2, 1, &refusal, &disk), told(3, 1, &refusal, &disk), elected(1, 3, &[])];
        must_trip(VotedFor::default(), &refused, "in term 3 with the votes");
    }

    #[test]
    fn votes_of_another_term_for_another_or_of_no_voter_trip() {
        let (disk, older, current) = (OnDisk::default(), grant(2), grant(3));
        for vote in [
            told(2, 1, &older, &disk),
            told(2, 3, &current, &disk),
            told(4, 1, &current, &disk),
            told(1, 1, &current, &disk),
        ] {
            must_trip(VotedFor::default(), &[vote, elected(1, 3, &[])], "in term 3 with the votes");
        }
    }

    #[test]
    fn a_leader_with_one_other_vote_of_three_passes() {
        let (disk, current) = (OnDisk::default(), grant(3));
        must_pass(VotedFor::default(), &[told(2, 1, &current, &disk), elected(1, 3, &[])]);
    }
}
