//! NO-DELETE: a log lets go of its beginning only as far as its group has agreed that all is deleted: by request, or since
//! the topic says that it keeps no more. A leader that proposes the latter leaves as much as is kept, and nothing younger
//! than is kept goes, by a clock that is right. What goes is committed, and what it said of idempotent producers stands in a
//! snapshot that is committed above it (docs/decisions/0008). Wherever else a log begins, another one did so before: that
//! of a replica that begins anew, and each at the end. No reader is sent past what has gone, and no log outgrows its bound.

use std::collections::{BTreeMap, BTreeSet};

use raftline_proto::command::TrimReason;
use raftline_proto::ids::{EntryId, GroupId, Index, Offset};

use super::{Check, Ledger};
use crate::sim::facts::{Digest, Fact, Told};

#[derive(Debug, Default)]
pub(super) struct KeptLongEnough {
    groups: BTreeMap<GroupId, Known>,
}

/// What is known of a group.
#[derive(Debug, Default)]
struct Known {
    /// How much stays, if not all does.
    bytes: Option<u64>,
    /// How old records become that go, in milliseconds.
    age_ms: Option<i64>,
    /// All below is deleted.
    deleted: Offset,
    /// Where logs have begun.
    starts: BTreeSet<EntryId>,
    /// The first entry that says anything of an idempotent producer.
    first_stamped: Option<Index>,
    /// The last snapshot of the producers.
    snapshot: Option<Index>,
}

impl Check for KeptLongEnough {
    fn name(&self) -> &'static str {
        "no record goes before its time"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Keeps { group, bytes, age_ms } => {
                let known = self.groups.entry(*group).or_default();
                (known.bytes, known.age_ms) = (*bytes, *age_ms);
                Ok(())
            }
            Fact::Decided { life, group, below, reason, left_bytes, newest_age_ms } => {
                let known = self.groups.entry(*group).or_default();
                known.decided(*reason, *left_bytes, *newest_age_ms).map_err(|why| {
                    format!("{life} has group {group} let go of what is below {below}, by {reason}: {why}")
                })
            }
            Fact::FinalAge { life, group, left } => {
                match self.groups.get(group).and_then(|known| known.age_ms) {
                    Some(age_ms) if *left > 0 => Err(format!(
                        "{life} ends with {left} offsets of group {group}, all older than {age_ms} ms"
                    )),
                    Some(_) | None => Ok(()),
                }
            }
            Fact::FirstCommitted { group, entries, .. } => {
                let known = self.groups.entry(*group).or_default();
                entries.iter().for_each(|entry| known.committed(entry));
                Ok(())
            }
            Fact::Begins { group, start, .. } if self.begins(*group, *start).is_ok() => Ok(()),
            // One that nobody has heard of let go just before its process died.
            Fact::LetGo { life, group, start, start_offset }
            | Fact::Begins { life, group, start, start_offset } => {
                let committed = ledger.get(*group, start.index).map(|entry| entry.digest.id());
                let known = self.groups.entry(*group).or_default();
                known.let_go((*start, *start_offset), committed).map_err(|why| {
                    format!(
                        "{life} let go of group {group} up to offset {start_offset}, entry {start}: {why}"
                    )
                })
            }
            Fact::Reset { life, group, start } => {
                self.begins(*group, *start).map_err(|why| format!("{life} began group {group} anew {why}"))
            }
            Fact::Final { life, group, log_start, .. } => {
                self.begins(*group, *log_start).map_err(|why| format!("{life} ends with group {group} {why}"))
            }
            Fact::SentOn { life, group, start_offset } | Fact::FinalStart { life, group, start_offset } => {
                let known = self.groups.entry(*group).or_default();
                let gone = known.deleted;
                if *start_offset > gone {
                    return Err(format!(
                        "{life} shows group {group} from offset {start_offset} on; only what is below {gone} has gone"
                    ));
                }
                Ok(())
            }
            Fact::FinalBytes { life, group, bytes, unsettled_bytes_max } => {
                match self.groups.get(group).and_then(|known| known.bytes) {
                    Some(kept) if *bytes >= kept + unsettled_bytes_max => {
                        Err(format!("{life} ends with {bytes} bytes of group {group}, which keeps {kept}"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl KeptLongEnough {
    fn begins(&self, group: GroupId, start: EntryId) -> Result<(), String> {
        let is_known = self.groups.get(&group).is_some_and(|known| known.starts.contains(&start));
        if start == EntryId::ZERO || is_known {
            Ok(())
        } else {
            Err(format!("after {start}, where no log let go"))
        }
    }
}

impl Known {
    fn committed(&mut self, entry: &Digest) {
        let index = entry.id().index;
        if entry.producer.is_some() {
            self.first_stamped.get_or_insert(index);
        }
        match entry.told {
            Some(Told::DeleteBelow(offset)) => self.deleted = self.deleted.max(offset),
            Some(Told::Producers) => self.snapshot = Some(index),
            None => {}
        }
    }

    /// By what it keeps.
    fn decided(&self, reason: TrimReason, left_bytes: u64, newest_age_ms: Option<i64>) -> Result<(), String> {
        match reason {
            TrimReason::Asked => Ok(()),
            TrimReason::Size if self.bytes.is_some_and(|kept| left_bytes >= kept) => Ok(()),
            TrimReason::Size => Err(format!("{left_bytes} bytes are left, where {:?} are kept", self.bytes)),
            TrimReason::Age => match (self.age_ms, newest_age_ms) {
                (Some(kept), Some(newest)) if newest >= kept - CLOCKS_DIFFER_MS => Ok(()),
                (kept, newest) => Err(format!("the newest is {newest:?} ms old, where {kept:?} ms are kept")),
            },
        }
    }

    fn let_go(
        &mut self,
        (start, start_offset): (EntryId, Offset),
        committed: Option<EntryId>,
    ) -> Result<(), String> {
        if committed != Some(start) {
            return Err(format!("committed there is {committed:?}"));
        }
        if start_offset > self.deleted {
            return Err(format!("deleted is what is below {}", self.deleted));
        }
        let says_something = self.first_stamped.is_some_and(|first| first <= start.index);
        if says_something && self.snapshot.is_none_or(|snapshot| snapshot <= start.index) {
            return Err(format!("the last snapshot of the producers is entry {:?}", self.snapshot));
        }
        self.starts.insert(start);
        Ok(())
    }
}

/// Clocks that differ by less are right.
const CLOCKS_DIFFER_MS: i64 = 300;

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use raftline_proto::ids::Term;

    const KEEPS: Fact<'static> = Fact::Keeps { group: GROUP, bytes: Some(100), age_ms: Some(1000) };

    /// A command that lets all below an offset go, committed.
    fn deleted(index: u64, at: u64, below: u64) -> Digest {
        told(index, at, Told::DeleteBelow(Offset(below)))
    }

    fn decided(reason: TrimReason, left_bytes: u64, newest_age_ms: Option<i64>) -> Fact<'static> {
        let (life, below) = (life(1), Offset(4));
        Fact::Decided { life, group: GROUP, below, reason, left_bytes, newest_age_ms }
    }

    fn told(index: u64, offset: u64, told: Told) -> Digest {
        Digest { told: Some(told), ..no_op(1, index, offset) }
    }

    fn let_go(index: u64, offset: u64) -> Fact<'static> {
        let (start, start_offset) = (id(1, index), Offset(offset));
        Fact::LetGo { life: life(1), group: GROUP, start, start_offset }
    }

    fn final_from(start: EntryId) -> Fact<'static> {
        let (life, group, leader, term, commit) = (life(1), GROUP, None, Term(1), Index(3));
        Fact::Final { life, group, leader, term, commit, log: &[], log_start: start }
    }

    fn shown(offset: u64) -> [Fact<'static>; 2] {
        let (life, group, start_offset) = (life(1), GROUP, Offset(offset));
        [Fact::SentOn { life, group, start_offset }, Fact::FinalStart { life, group, start_offset }]
    }

    #[test]
    fn less_left_than_the_topic_keeps_trips() {
        let by_size = |left_bytes| decided(TrimReason::Size, left_bytes, None);
        must_trip(KeptLongEnough::default(), &[KEEPS, by_size(99)], "99 bytes are left");
        must_trip(KeptLongEnough::default(), &[by_size(9999)], "where None are kept");
        must_pass(KeptLongEnough::default(), &[KEEPS, by_size(100)]);
    }

    #[test]
    fn a_record_that_is_too_young_to_go_trips() {
        let by_age = |newest| decided(TrimReason::Age, 0, newest);
        must_trip(KeptLongEnough::default(), &[KEEPS, by_age(Some(699))], "the newest is Some(699) ms old");
        must_trip(KeptLongEnough::default(), &[KEEPS, by_age(None)], "the newest is None");
        must_trip(KeptLongEnough::default(), &[by_age(Some(9999))], "where None ms are kept");
        must_pass(KeptLongEnough::default(), &[KEEPS, by_age(Some(700))]);
        let ends = |left| Fact::FinalAge { life: life(1), group: GROUP, left };
        must_trip(KeptLongEnough::default(), &[KEEPS, ends(1)], "ends with 1 offsets");
        must_pass(KeptLongEnough::default(), &[KEEPS, ends(0)]);
    }

    #[test]
    fn more_than_was_deleted_trips() {
        let log = [data(1, 1, 0, 2), data(1, 2, 2, 2), deleted(3, 4, 3)];
        let commits = first_committed(1, &log);
        must_trip(KeptLongEnough::default(), &[commits.clone(), let_go(2, 4)], "deleted is what is below 3");
        must_trip(
            KeptLongEnough::default(),
            &[KEEPS, commits.clone(), let_go(2, 4)],
            "deleted is what is below 3",
        );
        must_pass(KeptLongEnough::default(), &[commits, let_go(1, 2)]);
    }

    #[test]
    fn what_is_not_committed_stays() {
        let log = [data(1, 1, 0, 2), data(1, 2, 2, 2)];
        let history = [KEEPS, first_committed(1, &log[..1]), let_go(2, 4)];
        must_trip(KeptLongEnough::default(), &history, "committed there is None");
        let other = [data(2, 1, 0, 2)];
        let history = [KEEPS, first_committed(2, &other), let_go(1, 2)];
        must_trip(KeptLongEnough::default(), &history, "committed there is Some");
    }

    #[test]
    fn what_is_known_of_producers_goes_only_below_a_snapshot() {
        let early = [stamped(1, 1, 0, 2, 0), deleted(2, 2, 2)];
        let history = [KEEPS, first_committed(1, &early), let_go(1, 2)];
        must_trip(KeptLongEnough::default(), &history, "producers is entry None");
        let log =
            [stamped(1, 1, 0, 2, 0), told(2, 2, Told::Producers), stamped(1, 3, 2, 2, 2), deleted(4, 4, 2)];
        let keeps_and = |then: Fact<'static>| [KEEPS, first_committed(1, &log), then];
        must_pass(KeptLongEnough::default(), &keeps_and(let_go(1, 2)));
        must_trip(KeptLongEnough::default(), &keeps_and(let_go(2, 2)), "producers is entry Some");
    }

    #[test]
    fn a_log_that_begins_where_none_let_go_trips() {
        let log = [data(1, 1, 0, 2), data(1, 2, 2, 2), data(1, 3, 4, 1), deleted(4, 5, 2)];
        let before = [KEEPS, first_committed(1, &log), let_go(1, 2)];
        let then = |fact: Fact<'static>| [&before[..], &[fact]].concat();
        let anew = |start| Fact::Reset { life: life(2), group: GROUP, start };
        must_trip(KeptLongEnough::default(), &then(anew(id(1, 2))), "where no log let go");
        must_trip(KeptLongEnough::default(), &then(final_from(id(1, 2))), "where no log let go");
        for start in [EntryId::ZERO, id(1, 1)] {
            must_pass(KeptLongEnough::default(), &then(anew(start)));
            must_pass(KeptLongEnough::default(), &then(final_from(start)));
        }
    }

    #[test]
    fn a_log_that_begins_later_after_a_restart_than_it_may_trips() {
        let log = [data(1, 1, 0, 2), data(1, 2, 2, 2), data(1, 3, 4, 1), deleted(4, 5, 2)];
        let before = [KEEPS, first_committed(1, &log), let_go(1, 2)];
        let opened = |index, offset| {
            let (start, start_offset) = (id(1, index), Offset(offset));
            let begins = Fact::Begins { life: life(2), group: GROUP, start, start_offset };
            [&before[..], &[begins]].concat()
        };
        must_trip(KeptLongEnough::default(), &opened(2, 4), "deleted is what is below 2");
        must_pass(KeptLongEnough::default(), &opened(1, 2));
    }

    #[test]
    fn a_reader_that_is_sent_past_what_is_left_trips() {
        let log = [data(1, 1, 0, 2), data(1, 2, 2, 2), deleted(3, 4, 1)];
        for (past, there) in shown(2).into_iter().zip(shown(1)) {
            must_trip(KeptLongEnough::default(), &[first_committed(1, &log), past], "below 1 has gone");
            must_pass(KeptLongEnough::default(), &[first_committed(1, &log), there]);
        }
    }

    #[test]
    fn a_log_that_outgrows_its_bound_trips() {
        let ends = |bytes| Fact::FinalBytes { life: life(1), group: GROUP, bytes, unsettled_bytes_max: 50 };
        must_trip(KeptLongEnough::default(), &[KEEPS, ends(150)], "which keeps 100");
        must_pass(KeptLongEnough::default(), &[KEEPS, ends(149)]);
        must_pass(KeptLongEnough::default(), &[ends(150)]);
    }
}
