//! Replicas are byte-identical over what is committed: every replica's committed entry has the very bytes that were
//! committed first, at once and in the logs at the end. Of an entry that compaction took something of, name and offsets
//! are the same; what it says is judged by `compaction`.

use raftline_proto::ids::{GroupId, Index};

use super::{Check, Ledger};
use crate::sim::facts::{Digest, Fact, Life};

#[derive(Debug, Default)]
pub(super) struct Identical;

impl Check for Identical {
    fn name(&self) -> &'static str {
        "replicas byte-identical"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Committed { life, group, entries, .. } => compare(*life, *group, entries, ledger),
            Fact::Final { life, group, commit, log, log_start, .. } => {
                compare(*life, *group, log, ledger)?;
                let last = log.last().map_or(log_start.index, |entry| entry.id().index);
                let truth = ledger.last(*group);
                if last != truth || *commit != truth {
                    return Err(format!(
                        "{life} ends group {group} with last entry {last} and commit {commit}; committed is {truth}"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn compare(life: Life, group: GroupId, entries: &[Digest], ledger: &Ledger) -> Result<(), String> {
    let truth = |index: Index| ledger.get(group, index).map(|entry| &entry.digest);
    let place = |entry: &Digest| (entry.id(), entry.header.base_offset, entry.header.record_count);
    let differs = |entry: &&Digest| {
        truth(entry.id().index).is_some_and(|known| match entry.is_whole() {
            true => known.bytes != entry.bytes,
            false => place(known) != place(entry),
        })
    };
    match entries.iter().find(differs) {
        Some(entry) => Err(format!(
            "{life} holds other bytes than were committed as entry {} of group {group}",
            entry.id()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use raftline_proto::ids::{EntryId, Term};

    fn last(log: &[Digest], commit: u64) -> Fact<'_> {
        Fact::Final {
            life: life(2),
            group: GROUP,
            leader: None,
            term: Term(1),
            commit: Index(commit),
            log,
            log_start: EntryId::ZERO,
        }
    }

    #[test]
    fn other_bytes_under_the_same_name_trip() {
        let good = [data(1, 1, 0, 1)];
        let bad = [Digest { bytes: 5, ..good[0] }];
        must_trip(Identical, &[first_committed(1, &good), committed(2, 1, &bad)], "other bytes");
        must_trip(Identical, &[first_committed(1, &good), last(&bad, 1)], "other bytes");
    }

    #[test]
    fn a_replica_that_did_not_converge_trips() {
        let log = [data(1, 1, 0, 1), data(1, 2, 1, 1)];
        must_trip(Identical, &[first_committed(1, &log), last(&log[..1], 1)], "last entry 1 and commit 1");
        must_trip(Identical, &[first_committed(1, &log), last(&log, 1)], "last entry 2 and commit 1");
        must_pass(Identical, &[first_committed(1, &log), committed(2, 1, &log), last(&log, 2)]);
    }
}
