//! DELETED: what was deleted by request stays deleted. At the end every replica begins at or after what was acknowledged.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Offset};

use super::{Check, Ledger};
use crate::sim::facts::Fact;

#[derive(Debug, Default)]
pub(super) struct DeletedGone {
    deleted: BTreeMap<GroupId, Offset>,
}

impl Check for DeletedGone {
    fn name(&self) -> &'static str {
        "deleted stays deleted"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Deleted { group, start_offset } => {
                let committed = ledger.next_offset(*group);
                if *start_offset > committed {
                    return Err(format!(
                        "group {group} is said to begin at {start_offset}; committed is only up to {committed}"
                    ));
                }
                let known = self.deleted.entry(*group).or_default();
                *known = (*known).max(*start_offset);
                Ok(())
            }
            Fact::FinalStart { life, group, start_offset } => {
                let deleted = self.deleted.get(group).copied().unwrap_or_default();
                if *start_offset < deleted {
                    return Err(format!(
                        "{life} ends with group {group} from offset {start_offset} on; all below {deleted} was deleted"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    fn deleted(offset: u64) -> Fact<'static> {
        Fact::Deleted { group: GROUP, start_offset: Offset(offset) }
    }

    fn last(offset: u64) -> Fact<'static> {
        Fact::FinalStart { life: life(1), group: GROUP, start_offset: Offset(offset) }
    }

    #[test]
    fn what_comes_back_trips() {
        let log = [data(1, 1, 0, 9)];
        let committed = first_committed(1, &log);
        let history = [committed.clone(), deleted(3), deleted(2), last(2)];
        must_trip(DeletedGone::default(), &history, "all below 3 was deleted");
        must_pass(DeletedGone::default(), &[committed, deleted(3), last(3)]);
    }

    #[test]
    fn a_deletion_of_what_is_not_there_trips() {
        must_trip(DeletedGone::default(), &[deleted(1)], "committed is only up to 0");
    }
}
