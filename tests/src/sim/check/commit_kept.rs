//! COMMIT-MONO and COMMIT-TRUNC: what a replica knows as committed only grows, follows on what it knew, and is never
//! cut; and what one replica commits is what the first one committed (SM-SAFETY).

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Index};

use super::{Check, Ledger};
use crate::sim::facts::{Fact, Life};

#[derive(Debug, Default)]
pub(super) struct CommitKept {
    commits: BTreeMap<(Life, GroupId), Index>,
}

impl Check for CommitKept {
    fn name(&self) -> &'static str {
        "committed stays committed"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Truncated { life, group, from, commit } if from <= commit => {
                Err(format!("{life} cut group {group} at {from}, at or below its commit index {commit}"))
            }
            Fact::Reset { life, group, start } => {
                if ledger.get(*group, start.index).is_none_or(|entry| entry.digest.id() != *start) {
                    return Err(format!(
                        "{life} began group {group} anew after {start}, which nobody has committed"
                    ));
                }
                let known = self.commits.entry((*life, *group)).or_default();
                if *known > start.index {
                    return Err(format!(
                        "{life} began group {group} anew after {start}; it had committed {known}"
                    ));
                }
                *known = start.index;
                Ok(())
            }
            Fact::Committed { life, group, entries, .. } => self.committed(*life, *group, entries, ledger),
            Fact::FirstCommitted { group, entries, .. } => {
                let expected = ledger.last(*group).next();
                match entries.first() {
                    Some(first) if first.id().index != expected => Err(format!(
                        "group {group} first committed {} where {expected} was to come next",
                        first.id()
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl CommitKept {
    fn committed(
        &mut self,
        life: Life,
        group: GroupId,
        entries: &[crate::sim::facts::Digest],
        ledger: &Ledger,
    ) -> Result<(), String> {
        for entry in entries {
            let index = entry.id().index;
            if let Some(known) = self.commits.insert((life, group), index)
                && known.next() != index
            {
                return Err(format!("{life} committed index {index} of group {group} right after {known}"));
            }
            match ledger.get(group, index) {
                None => {
                    return Err(format!(
                        "{life} takes {} of group {group} for committed, which no leader has committed",
                        entry.id()
                    ));
                }
                Some(first) if first.digest.id() != entry.id() => {
                    return Err(format!(
                        "{life} committed {} of group {group} where {} was committed first",
                        entry.id(),
                        first.digest.id()
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn cutting_a_committed_entry_trips() {
        let cut = |from| Fact::Truncated { life: life(1), group: GROUP, from: Index(from), commit: Index(4) };
        must_trip(CommitKept::default(), &[cut(5), cut(4)], "at or below its commit index 4");
    }

    #[test]
    fn committing_something_else_or_too_early_trips() {
        let (one, other) = ([no_op(1, 1, 0)], [no_op(2, 1, 0)]);
        must_trip(
            CommitKept::default(),
            &[first_committed(1, &one), committed(2, 2, &other)],
            "was committed first",
        );
        must_trip(CommitKept::default(), &[committed(2, 2, &one)], "no leader has committed");
    }

    #[test]
    fn a_commit_index_that_falls_or_skips_trips() {
        let log = [no_op(1, 1, 0), no_op(1, 2, 0), no_op(1, 3, 0)];
        let history = |next| [first_committed(1, &log), committed(2, 1, &log[..2]), committed(2, 1, next)];
        must_trip(CommitKept::default(), &history(&log[1..2]), "right after 2");
        must_trip(
            CommitKept::default(),
            &[first_committed(1, &log), committed(2, 1, &log[..1]), committed(2, 1, &log[2..])],
            "right after 1",
        );
        must_pass(CommitKept::default(), &history(&log[2..]));
    }

    #[test]
    fn a_new_beginning_is_at_a_committed_entry() {
        let log = [no_op(1, 1, 0), no_op(1, 2, 0), no_op(1, 3, 0)];
        let reset = |start| Fact::Reset { life: life(2), group: GROUP, start };
        let before = first_committed(1, &log);
        must_trip(CommitKept::default(), &[before.clone(), reset(id(2, 2))], "nobody has committed");
        let went_back = [before.clone(), committed(2, 1, &log), reset(id(1, 2))];
        must_trip(CommitKept::default(), &went_back, "it had committed 3");
        must_pass(CommitKept::default(), &[before, reset(id(1, 2)), committed(2, 1, &log[2..])]);
    }

    #[test]
    fn first_commits_without_a_gap() {
        let log = [no_op(1, 1, 0), no_op(1, 2, 0)];
        must_trip(CommitKept::default(), &[first_committed(1, &log[1..])], "was to come next");
    }
}
