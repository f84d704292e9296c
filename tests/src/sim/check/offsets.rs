//! OFFSETS: offsets are dense from 0. Every replica's entries follow each other without a gap in what offsets they
//! take, from the log's start; entries without records take none.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Index, Offset};

use super::{Check, Ledger};
use crate::sim::facts::{Digest, Fact};

#[derive(Debug, Default)]
pub(super) struct OffsetsDense {
    next: BTreeMap<GroupId, (Index, Offset)>,
}

impl Check for OffsetsDense {
    fn name(&self) -> &'static str {
        "offsets dense from 0"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::FirstCommitted { group, entries, .. } => {
                let (_, next) = self.next.entry(*group).or_default();
                let mut expected = *next;
                for entry in *entries {
                    expected = follow(*group, entry, expected)?;
                }
                *next = expected;
                Ok(())
            }
            Fact::Final { group, log, .. } => {
                let mut expected = log.first().map_or(Offset::ZERO, |entry| entry.header.base_offset);
                for entry in *log {
                    expected = follow(*group, entry, expected)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn follow(group: GroupId, entry: &Digest, expected: Offset) -> Result<Offset, String> {
    if entry.header.base_offset != expected {
        return Err(format!(
            "entry {} of group {group} begins at offset {} where {expected} comes next",
            entry.id(),
            entry.header.base_offset
        ));
    }
    Ok(entry.header.next_offset())
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn a_log_that_does_not_start_at_zero_trips() {
        must_trip(OffsetsDense::default(), &[first_committed(1, &[data(1, 1, 1, 1)])], "where 0 comes next");
    }

    #[test]
    fn a_gap_and_an_overlap_trip() {
        let first = [no_op(1, 1, 0), data(1, 2, 0, 3)];
        for bad in [data(1, 3, 4, 1), data(1, 3, 2, 1), no_op(2, 3, 2)] {
            let entries = [bad];
            let history = [first_committed(1, &first), first_committed(1, &entries)];
            must_trip(OffsetsDense::default(), &history, "where 3 comes next");
        }
    }

    #[test]
    fn entries_without_records_take_no_offset() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 3), no_op(2, 3, 3), data(2, 4, 3, 1)];
        must_pass(OffsetsDense::default(), &[first_committed(1, &log[..2]), first_committed(2, &log[2..])]);
    }
}
