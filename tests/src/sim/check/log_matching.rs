//! LOG-MATCH and ID-UNIQUE: an entry's name (term, index) stands for one content and one predecessor, for ever and
//! on every node. By induction over the predecessors, equal names mean equal prefixes (Raft figure 3, Log Matching).

use std::collections::BTreeMap;

use raftline_proto::ids::{EntryId, GroupId};

use super::{Check, Ledger};
use crate::sim::facts::{Fact, Life};

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    entries: BTreeMap<(GroupId, EntryId), Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    by: Life,
    previous: EntryId,
    /// `None` as long as nobody was seen with all of it: compaction may have taken something of it.
    bytes: Option<u64>,
}

impl Check for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        let Fact::Appended { life, group, previous, entry } = fact else {
            return Ok(());
        };
        let id = entry.id();
        if previous.index.next() != id.index || previous.term > id.term {
            return Err(format!("{life} appended {id} of group {group} right after {previous}"));
        }
        let bytes = entry.is_whole().then_some(entry.bytes);
        let seen = Seen { by: *life, previous: *previous, bytes };
        let known = self.entries.entry((*group, id)).or_insert(seen);
        known.bytes = known.bytes.or(bytes);
        let known = *known;
        if bytes.is_some() && known.bytes != bytes {
            return Err(format!(
                "entry {id} of group {group} has two contents: one on {}, another on {life}",
                known.by
            ));
        }
        if known.previous != seen.previous {
            return Err(format!(
                "entry {id} of group {group} follows {} on {} but {previous} on {life}",
                known.previous, known.by
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use crate::sim::facts::Digest;

    #[test]
    fn one_name_with_two_contents_trips() {
        let entry = no_op(2, 1, 0);
        let other = Digest { bytes: 99, ..entry };
        must_trip(
            LogMatching::default(),
            &[appended(1, id(0, 0), &entry), appended(2, id(0, 0), &other)],
            "two contents",
        );
    }

    #[test]
    fn one_name_after_two_predecessors_trips() {
        let entry = no_op(3, 2, 0);
        must_trip(
            LogMatching::default(),
            &[appended(1, id(1, 1), &entry), appended(2, id(2, 1), &entry)],
            "follows 1.1 on",
        );
    }

    #[test]
    fn a_gap_and_a_falling_term_trip() {
        let entry = no_op(3, 3, 0);
        must_trip(LogMatching::default(), &[appended(1, id(1, 1), &entry)], "right after 1.1");
        must_trip(LogMatching::default(), &[appended(1, id(4, 2), &entry)], "right after 4.2");
    }

    #[test]
    fn equal_logs_and_a_rewritten_tail_pass() {
        let (first, old, new) = (no_op(1, 1, 0), no_op(1, 2, 0), no_op(2, 2, 0));
        must_pass(
            LogMatching::default(),
            &[
                appended(1, id(0, 0), &first),
                appended(2, id(0, 0), &first),
                appended(1, first.id(), &old),
                appended(2, first.id(), &new),
                appended(1, first.id(), &new),
            ],
        );
    }
}
