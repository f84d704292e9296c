//! COMMIT-TERM: a leader counts replicas for entries of its own term only; older ones are committed with those (Raft §5.4.2,
//! figure 8). So what is newly committed always ends with an entry of its leader's term.
//!
//! The consequence, that a committed entry is replaced, takes three elections in the right order to show
//! (`leader_complete`); the rule shows at once.

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug)]
pub(super) struct CurrentTerm;

impl Check for CurrentTerm {
    fn name(&self) -> &'static str {
        "a leader commits by entries of its own term"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        let Fact::FirstCommitted { group, term, is_commit_index: true, entries, .. } = fact else {
            return Ok(());
        };
        match entries.last().map(|entry| entry.id()) {
            Some(last) if last.term != *term => Err(format!(
                "the leader of group {group} in term {term} committed {last} by counting its replicas"
            )),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn an_older_entry_is_committed_with_a_newer_one_and_not_alone() {
        must_pass(CurrentTerm, &[first_committed(4, &[no_op(2, 1, 0), no_op(2, 2, 0), no_op(4, 3, 0)])]);
        must_trip(
            CurrentTerm,
            &[first_committed(4, &[no_op(2, 1, 0), no_op(2, 2, 0)])],
            "committed 2.2 by counting",
        );
    }
}
