//! ACK and ACKED: what was acknowledged with quorum durability is committed at that moment, at that offset, with
//! those bytes; and at the end, after every crash and power cut, every replica still has it there. What compaction may
//! have taken of it is judged by `compaction`.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Offset};
use raftline_shard::types::Durability;

use super::{Check, Ledger};
use crate::sim::facts::{Digest, Fact};

#[derive(Debug, Default)]
pub(super) struct AckedKept {
    acked: BTreeMap<GroupId, BTreeMap<Offset, u64>>,
}

impl Check for AckedKept {
    fn name(&self) -> &'static str {
        "acknowledged means kept"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Acked { group, base_offset, content, record_count, durability: Durability::Quorum } => {
                self.ack(*group, *base_offset, (*content, *record_count), ledger)
            }
            Fact::Final { life, group, log, .. } => {
                let start = log.first().map_or(Offset::ZERO, |entry| entry.header.base_offset);
                let held: BTreeMap<Offset, &Digest> = log
                    .iter()
                    .filter(|entry| entry.header.record_count > 0)
                    .map(|entry| (entry.header.base_offset, entry))
                    .collect();
                let acked = self.acked.get(group).into_iter().flat_map(|acked| acked.range(start..));
                for (offset, content) in acked {
                    match held.get(offset) {
                        Some(entry) if entry.content == *content || !entry.is_whole() => {}
                        found => {
                            return Err(format!(
                                "{life} ends without what was acknowledged at offset {offset} of group {group}; it \
                                 has {found:?}"
                            ));
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl AckedKept {
    fn ack(
        &mut self,
        group: GroupId,
        base_offset: Offset,
        (content, record_count): (u64, u32),
        ledger: &Ledger,
    ) -> Result<(), String> {
        let truth = ledger.at_offset(group, base_offset).map(|entry| &entry.digest);
        let same = |truth: &Digest| (truth.content, truth.header.record_count) == (content, record_count);
        if !truth.is_some_and(same) {
            return Err(format!(
                "a batch of {record_count} records was acknowledged at offset {base_offset} of group {group} where \
                 the committed log has {truth:?}"
            ));
        }
        self.acked.entry(group).or_default().insert(base_offset, content);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use raftline_proto::ids::{EntryId, Index, Term};

    fn acked(entry: &Digest, durability: Durability) -> Fact<'static> {
        let header = entry.header;
        Fact::Acked {
            group: GROUP,
            base_offset: header.base_offset,
            content: entry.content,
            record_count: header.record_count,
            durability,
        }
    }

    fn last(log: &[Digest]) -> Fact<'_> {
        Fact::Final {
            life: life(1),
            group: GROUP,
            leader: None,
            term: Term(9),
            commit: Index(0),
            log,
            log_start: EntryId::ZERO,
        }
    }

    #[test]
    fn an_ack_before_the_commit_trips() {
        let (log, next) = ([data(1, 1, 0, 2)], data(1, 2, 2, 1));
        must_trip(
            AckedKept::default(),
            &[first_committed(1, &log), acked(&next, Durability::Quorum)],
            "acknowledged at offset 2",
        );
    }

    #[test]
    fn an_ack_for_somebody_elses_batch_trips() {
        let log = [data(1, 1, 0, 2)];
        let other = Digest { content: 8, ..log[0] };
        must_trip(
            AckedKept::default(),
            &[first_committed(1, &log), acked(&other, Durability::Quorum)],
            "acknowledged at offset 0",
        );
    }

    #[test]
    fn a_lost_ack_trips_at_the_end() {
        let log = [data(1, 1, 0, 2), data(1, 2, 2, 1)];
        let history = |log_end| [first_committed(1, &log), acked(&log[1], Durability::Quorum), last(log_end)];
        must_trip(
            AckedKept::default(),
            &history(&log[..1]),
            "ends without what was acknowledged at offset 2",
        );
        must_pass(AckedKept::default(), &history(&log));
    }

    #[test]
    fn weaker_acks_promise_less() {
        must_pass(AckedKept::default(), &[acked(&data(1, 1, 0, 2), Durability::Leader), last(&[])]);
    }
}
