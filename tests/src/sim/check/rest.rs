//! LIVE: once the faults are gone every group has one leader that all its replicas know, new writes are
//! acknowledged, and then everything comes to rest.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, NodeId, Term};

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug, Default)]
pub(super) struct Rest {
    leaders: BTreeMap<GroupId, (NodeId, Term)>,
}

impl Check for Rest {
    fn name(&self) -> &'static str {
        "live once faults are gone"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::NotLive { what } => Err((*what).to_owned()),
            Fact::Final { life, group, leader: None, .. } => {
                Err(format!("{life} knows no leader of group {group}"))
            }
            Fact::Final { life, group, leader: Some(leader), term, .. } => {
                let known = *self.leaders.entry(*group).or_insert((*leader, *term));
                if known == (*leader, *term) {
                    return Ok(());
                }
                Err(format!(
                    "{life} follows node {leader} in term {term} of group {group}; others node {} in term {}",
                    known.0, known.1
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
    use raftline_proto::ids::{EntryId, Index};

    fn last(node: u32, leader: Option<u32>, term: u64) -> Fact<'static> {
        Fact::Final {
            life: life(node),
            group: GROUP,
            leader: leader.map(NodeId),
            term: Term(term),
            commit: Index(0),
            log: &[],
            log_start: EntryId::ZERO,
        }
    }

    #[test]
    fn no_leader_or_two_views_of_it_trip() {
        must_trip(Rest::default(), &[last(1, Some(1), 3), last(2, None, 3)], "knows no leader");
        must_trip(Rest::default(), &[last(1, Some(1), 3), last(2, Some(3), 3)], "follows node 3");
        must_trip(Rest::default(), &[last(1, Some(1), 3), last(2, Some(1), 2)], "in term 2");
        must_pass(Rest::default(), &[last(1, Some(1), 3), last(2, Some(1), 3)]);
    }

    #[test]
    fn what_does_not_come_to_rest_trips() {
        must_trip(Rest::default(), &[Fact::NotLive { what: "node 2 keeps sending" }], "keeps sending");
    }
}
