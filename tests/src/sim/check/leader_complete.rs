//! LEADER-COMP: a leader of term T has every entry that was committed in terms before T (Raft figure 3, Leader
//! Completeness). Looked at from both sides: when a leader is elected, and when an old leader's commit becomes known
//! only after a newer leader was elected.

use std::collections::BTreeMap;

use raftline_proto::ids::{EntryId, GroupId, Index, Term};

use super::{Check, Ledger};
use crate::sim::facts::{Digest, Fact, Life};

#[derive(Debug, Default)]
pub(super) struct LeaderComplete {
    elected: BTreeMap<GroupId, BTreeMap<Term, Election>>,
}

/// A leader's log at its election, as a run-length list of terms: by Log Matching that names every entry.
#[derive(Debug)]
struct Election {
    life: Life,
    start: Index,
    term_starts: Vec<EntryId>,
    last: Index,
}

impl Election {
    fn new(life: Life, log: &[Digest], start: EntryId) -> Self {
        let mut term_starts: Vec<EntryId> = Vec::new();
        for entry in log {
            if term_starts.last().is_none_or(|known| known.term != entry.id().term) {
                term_starts.push(entry.id());
            }
        }
        let last = log.last().map_or(start.index, |entry| entry.id().index);
        Self { life, start: start.index, term_starts, last }
    }

    /// Whether the log held this entry; what retention has dropped was committed and held once.
    fn holds(&self, id: EntryId) -> bool {
        if id.index <= self.start {
            return true;
        }
        let run = self.term_starts.partition_point(|first| first.index <= id.index);
        let term = run.checked_sub(1).and_then(|run| self.term_starts.get(run)).map(|first| first.term);
        id.index <= self.last && term == Some(id.term)
    }
}

impl Check for LeaderComplete {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Elected { life, group, term, log, log_start, voters: _ } => {
                let election = Election::new(*life, log, *log_start);
                let missing = ledger
                    .entries(*group)
                    .iter()
                    .find(|entry| entry.committed_in < *term && !election.holds(entry.digest.id()));
                if let Some(entry) = missing {
                    return Err(lacks(*group, *term, &election, entry.digest.id(), entry.committed_in));
                }
                self.elected.entry(*group).or_default().insert(*term, election);
                Ok(())
            }
            Fact::FirstCommitted { group, term, entries, .. } => {
                let later =
                    self.elected.get(group).into_iter().flat_map(|elected| elected.range(term.next()..));
                for (leader_term, election) in later {
                    if let Some(entry) = entries.iter().find(|entry| !election.holds(entry.id())) {
                        return Err(lacks(*group, *leader_term, election, entry.id(), *term));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn lacks(group: GroupId, term: Term, election: &Election, entry: EntryId, committed_in: Term) -> String {
    format!(
        "{} leads group {group} in term {term} without entry {entry}, committed in term {committed_in}; its log \
         was {:?} through {}",
        election.life, election.term_starts, election.last
    )
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn a_leader_without_a_committed_entry_trips() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 1)];
        must_trip(
            LeaderComplete::default(),
            &[elected(1, 1, &[]), first_committed(1, &log), elected(2, 2, &log[..1])],
            "without entry 1.2",
        );
    }

    #[test]
    fn a_leader_with_another_entry_in_its_place_trips() {
        let log = [no_op(1, 1, 0), no_op(2, 2, 0)];
        let other = [no_op(1, 1, 0), no_op(3, 2, 0)];
        must_trip(
            LeaderComplete::default(),
            &[first_committed(2, &log), elected(2, 4, &other)],
            "without entry 2.2",
        );
    }

    #[test]
    fn an_old_leaders_late_commit_trips() {
        let log = [no_op(1, 1, 0)];
        must_trip(
            LeaderComplete::default(),
            &[elected(2, 2, &[]), first_committed(1, &log)],
            "without entry 1.1",
        );
    }

    #[test]
    fn complete_leaders_pass() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 1), no_op(2, 3, 1)];
        must_pass(
            LeaderComplete::default(),
            &[
                first_committed(1, &log[..1]),
                elected(2, 2, &log[..2]),
                first_committed(2, &log[1..]),
                elected(3, 3, &log),
            ],
        );
    }
}
