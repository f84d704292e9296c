//! COMPACTED: compaction takes away what the group agreed on, and nothing else. Judged record by record, against what was
//! committed:
//!
//! - a replica is compacted by no more than a committed command says;
//! - what its log lacks is superseded by a later record of its key at or below the last command's point, or a tombstone
//!   that the command lets go;
//! - of what the replica says that it has compacted, nothing is left that its rule lets go. So replicas that are
//!   compacted by the last rule are equal record by record. One that is behind may have been sent what others had
//!   compacted by a later rule. If a record is missing there that took the place of an older one, the older one is the
//!   last of its key here and stays until the later rule is obeyed. Never so if the missing one is the last of its key by the
//!   later rule, too: then that rule lets a tombstone go, which every replica held before the rule was agreed on.

use std::collections::BTreeMap;

use raftline_proto::ids::{Index, Offset};

use super::{Check, Ledger};
use crate::sim::facts::{Fact, LedgerEntry, Record, Rule};

#[derive(Debug)]
pub(super) struct KeyedKept;

impl Check for KeyedKept {
    fn name(&self) -> &'static str {
        "compaction keeps each key's last record"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        let Fact::Held { life, group, start, clean, committed, records } = fact else { return Ok(()) };
        let agreed = ledger.rule(*group);
        if clean.through > agreed.through || clean.tombstones_before > agreed.tombstones_before {
            return Err(format!(
                "{life} compacted group {group} by {clean:?}; the group agreed on {agreed:?}"
            ));
        }
        let through = (*committed).max(clean.through);
        let (by_clean, by_agreed) = (
            Survivors::new(ledger.entries(*group), ledger, *clean),
            Survivors::new(ledger.entries(*group), ledger, agreed),
        );
        let last_held: BTreeMap<u64, Offset> = truth(ledger.entries(*group), ledger)
            .filter(|(index, offset, _)| *index <= clean.through && records.contains_key(offset))
            .filter_map(|(_, offset, record)| Some((record.key?, offset)))
            .collect();
        let stands_in = |offset, record: Record| {
            record.key.is_some_and(|key| {
                last_held.get(&key) == Some(&offset) && by_clean.last.get(&key) != by_agreed.last.get(&key)
            })
        };
        for (index, offset, record) in truth(ledger.entries(*group), ledger) {
            if offset < *start || index > through {
                continue;
            }
            match records.get(&offset) {
                Some(held) if *held != record => {
                    return Err(format!(
                        "{life} holds {held:?} at offset {offset} of group {group}; committed is {record:?}"
                    ));
                }
                Some(_)
                    if index <= clean.through
                        && !by_clean.has(index, offset, record)
                        && !stands_in(offset, record) =>
                {
                    return Err(format!(
                        "{life} holds offset {offset} of group {group} still, though compacted by {clean:?}: {record:?}"
                    ));
                }
                None if by_agreed.has(index, offset, record) => {
                    return Err(format!(
                        "{life} lost offset {offset} of group {group}, entry {index}: {record:?}; the group agreed on \
                         {agreed:?}"
                    ));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// All records that were committed, with their entries' indexes.
fn truth<'a>(
    entries: &'a [LedgerEntry],
    ledger: &'a Ledger,
) -> impl Iterator<Item = (Index, Offset, Record)> + 'a {
    entries.iter().filter(|entry| entry.digest.is_data()).flat_map(|entry| {
        let header = entry.digest.header;
        let records = ledger.batch(entry.digest.content).iter();
        records.zip(0..).map(move |(record, delta)| (header.id.index, header.base_offset + delta, *record))
    })
}

/// What a rule keeps.
struct Survivors {
    rule: Rule,
    /// By key, the offset of the last record at or below the point.
    last: BTreeMap<u64, Offset>,
}

impl Survivors {
    fn new(entries: &[LedgerEntry], ledger: &Ledger, rule: Rule) -> Self {
        let covered = truth(entries, ledger).take_while(|(index, _, _)| *index <= rule.through);
        let last = covered.filter_map(|(_, offset, record)| Some((record.key?, offset))).collect();
        Self { rule, last }
    }

    fn has(&self, index: Index, offset: Offset, record: Record) -> bool {
        if index > self.rule.through {
            return true;
        }
        let buried = record.value.is_none() && offset < self.rule.tombstones_before;
        !buried && record.key.is_none_or(|key| self.last.get(&key) == Some(&offset))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use crate::sim::facts::Digest;

    const A1: Record = Record { key: Some(1), value: Some(10) };
    const A2: Record = Record { key: Some(1), value: Some(20) };
    const A_GONE: Record = Record { key: Some(1), value: None };
    const B1: Record = Record { key: Some(2), value: Some(30) };

    fn compact(index: u64, offset: u64, through: u64, before: u64) -> Digest {
        let rule = Rule { through: Index(through), tombstones_before: Offset(before) };
        Digest { rule: Some(rule), ..no_op(1, index, offset) }
    }

    /// Shows `sent`, one record a batch, and a command; then what a replica holds.
    fn judge(
        sent: &[Record],
        command: (u64, u64),
        clean: (u64, u64),
        held: &[(u64, Record)],
    ) -> Result<(), String> {
        let mut ledger = Ledger::default();
        let mut log: Vec<Digest> = Vec::new();
        for (record, index) in sent.iter().zip(1..) {
            let entry = data(1, index, index - 1, 1);
            ledger.observe(&Fact::Batch { content: entry.content, records: &[*record] });
            log.push(entry);
        }
        let end = sent.len() as u64;
        log.push(compact(end + 1, end, command.0, command.1));
        ledger.observe(&first_committed(1, &log));
        let records = held.iter().map(|(offset, record)| (Offset(*offset), *record)).collect();
        let clean = Rule { through: Index(clean.0), tombstones_before: Offset(clean.1) };
        let fact = Fact::Held {
            life: life(2),
            group: GROUP,
            start: Offset(0),
            clean,
            committed: Index(end + 1),
            records: &records,
        };
        KeyedKept.observe(&fact, &ledger)
    }

    #[test]
    fn the_last_record_of_each_key_and_all_above_the_point_stay() {
        let sent = [A1, B1, A2, A1];
        let (raw, compacted) = (vec![(0, A1), (1, B1), (2, A2), (3, A1)], vec![(1, B1), (2, A2), (3, A1)]);
        judge(&sent, (3, 0), (0, 0), &raw).expect("not compacted yet");
        judge(&sent, (3, 0), (3, 0), &compacted).expect("compacted");
        judge(&sent, (3, 0), (0, 0), &compacted).expect("received from a leader that has compacted");
        let error = judge(&sent, (3, 0), (3, 0), &raw).expect_err("nothing was compacted");
        assert!(error.contains("holds offset 0"), "{error}");
        let error = judge(&sent, (3, 0), (3, 0), &compacted[..2]).expect_err("one above the point is lost");
        assert!(error.contains("lost offset 3"), "{error}");
        let error = judge(&sent, (3, 0), (3, 0), &compacted[1..]).expect_err("a key's last record is lost");
        assert!(error.contains("lost offset 1"), "{error}");
        let error = judge(&sent, (2, 0), (3, 0), &compacted).expect_err("more than agreed on");
        assert!(error.contains("the group agreed on"), "{error}");
        let error = judge(&sent, (3, 0), (3, 0), &[(1, B1), (2, A1), (3, A1)]).expect_err("another value");
        assert!(error.contains("committed is"), "{error}");
    }

    #[test]
    fn a_record_stands_in_for_a_missing_one_until_the_later_rule_is_obeyed() {
        let sent = [A1, A1, A2, A1, B1];
        let sent_the_rest = [(1, A1), (3, A1), (4, B1)];
        judge(&sent, (4, 0), (3, 0), &sent_the_rest)
            .expect("what took its place was missing when it was sent");
        judge(&sent, (4, 0), (4, 0), &sent_the_rest).expect_err("the later rule is obeyed");
        judge(&sent, (3, 0), (3, 0), &sent_the_rest).expect_err("no later rule let the missing one go");
        judge(&[A1, A_GONE, B1], (3, 2), (2, 0), &[(0, A1), (2, B1)]).expect_err("a tombstone that was here");
        let error =
            judge(&sent, (4, 0), (3, 0), &[(0, A1), (1, A1), (3, A1), (4, B1)]).expect_err("two of a key");
        assert!(error.contains("holds offset 0"), "{error}");
        let error = judge(&sent, (4, 0), (3, 0), &[(1, A1), (2, A2), (3, A1), (4, B1)])
            .expect_err("it is not missing");
        assert!(error.contains("holds offset 1"), "{error}");
    }

    #[test]
    fn tombstones_stay_until_they_may_go() {
        let sent = [A1, A_GONE, B1];
        let (kept, gone) = (vec![(1, A_GONE), (2, B1)], vec![(2, B1)]);
        judge(&sent, (3, 0), (3, 0), &kept).expect("it stays");
        judge(&sent, (3, 0), (3, 0), &gone).expect_err("it went too early");
        judge(&sent, (3, 2), (3, 2), &gone).expect("it may go");
        judge(&sent, (3, 2), (3, 2), &kept).expect_err("and so it has to");
        let error = judge(&sent, (3, 2), (3, 2), &[(0, A1), (2, B1)]).expect_err("what it deleted is back");
        assert!(error.contains("holds offset 0"), "{error}");
    }
}
