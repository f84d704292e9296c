//! ELECT: at most one leader per group and term (Raft figure 3, Election Safety). A restarted node is not the
//! leader it was: to lead again it needs a new term.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Term};

use super::{Check, Ledger};
use crate::sim::facts::{Fact, Life};

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<(GroupId, Term), Life>,
}

impl Check for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        let Fact::Elected { life, group, term, .. } = fact else {
            return Ok(());
        };
        let known = *self.leaders.entry((*group, *term)).or_insert(*life);
        if known == *life {
            return Ok(());
        }
        Err(format!("group {group} has two leaders in term {term}: {known} and {life}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn two_leaders_in_one_term_trip() {
        must_trip(
            ElectionSafety::default(),
            &[elected(1, 3, &[]), elected(2, 3, &[])],
            "two leaders in term 3",
        );
    }

    #[test]
    fn a_restarted_node_that_leads_on_trips() {
        let again = Fact::Elected {
            life: Life { start: 1, ..life(1) },
            group: GROUP,
            term: Term(3),
            log: &[],
            log_start: id(0, 0),
            voters: &VOTERS,
        };
        must_trip(ElectionSafety::default(), &[elected(1, 3, &[]), again], "two leaders");
    }

    #[test]
    fn one_leader_a_term_passes() {
        must_pass(ElectionSafety::default(), &[elected(1, 3, &[]), elected(2, 4, &[]), elected(1, 5, &[])]);
    }
}
