//! QUORUM-DUR: the moment an entry is committed, a majority of the voters has it on stable storage. Judged by what
//! a power cut at that moment would leave on the simulated disks, not by what anybody says.

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug)]
pub(super) struct QuorumDurable;

impl Check for QuorumDurable {
    fn name(&self) -> &'static str {
        "committed means durable on a majority"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        let Fact::FirstCommitted { group, term, entries, voters, holders, .. } = fact else {
            return Ok(());
        };
        let majority = voters.len() / 2 + 1;
        for (entry, held_by) in entries.iter().zip(holders.iter()) {
            let count = held_by.iter().filter(|node| voters.contains(node)).count();
            if count < majority {
                return Err(format!(
                    "entry {} of group {group} was committed in term {term} while durable on {held_by:?} only, of \
                     voters {voters:?}",
                    entry.id()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use crate::sim::facts::Digest;
    use raftline_proto::ids::{NodeId, Term};

    const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn with_holders<'a>(entries: &'a [Digest], holders: &'a [Vec<NodeId>]) -> Fact<'a> {
        let (term, is_commit_index) = (Term(1), true);
        Fact::FirstCommitted { group: GROUP, term, is_commit_index, entries, voters: &VOTERS, holders }
    }

    #[test]
    fn a_commit_on_a_minority_of_disks_trips() {
        let entries = [no_op(1, 1, 0), no_op(1, 2, 0)];
        let holders = [vec![NodeId(1), NodeId(2)], vec![NodeId(1)]];
        must_trip(QuorumDurable, &[with_holders(&entries, &holders)], "entry 1.2");
    }

    #[test]
    fn a_learner_does_not_count() {
        let entries = [no_op(1, 1, 0)];
        let holders = [vec![NodeId(1), NodeId(9)]];
        must_trip(QuorumDurable, &[with_holders(&entries, &holders)], "entry 1.1");
    }

    #[test]
    fn a_majority_passes_without_the_leader() {
        let entries = [no_op(1, 1, 0)];
        let holders = [vec![NodeId(2), NodeId(3)]];
        must_pass(QuorumDurable, &[with_holders(&entries, &holders)]);
    }
}
