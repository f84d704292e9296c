//! KIP-207 and KIP-320: no answer names an end, a leader's end or a beginning below what was acknowledged or told before
//! the question came, nor an end above what is committed; nor does the high watermark that comes with records.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Offset, Term};

use super::{Check, Ledger};
use crate::sim::facts::{Answered, Fact, Life, Queried};

#[derive(Debug, Default)]
pub(super) struct Told {
    /// What each question that is under way has to be answered with at least.
    asked: BTreeMap<u64, Offset>,
    /// The latest beginning that anybody was told.
    starts: BTreeMap<GroupId, Offset>,
    /// What was committed when a leader was elected.
    elected: BTreeMap<(Life, GroupId), Offset>,
}

impl Check for Told {
    fn name(&self) -> &'static str {
        "no answer goes back"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Asked { question, group, query } => {
                let least = match query {
                    Queried::Start => self.starts.get(group).copied().unwrap_or_default(),
                    Queried::End => ledger.next_offset(*group),
                    Queried::EndOfTerm(term) => end_of(*group, *term, ledger),
                };
                self.asked.insert(*question, least);
                Ok(())
            }
            Fact::Told { question, life, group, answer } => {
                let Some(least) = self.asked.remove(question) else {
                    return Err(format!("{life} answers a question of group {group} that was not asked"));
                };
                self.told(*life, *group, *answer, least, ledger)
            }
            Fact::Deleted { group, start_offset } => {
                let start = self.starts.entry(*group).or_default();
                *start = (*start).max(*start_offset);
                Ok(())
            }
            Fact::Elected { life, group, .. } => {
                self.elected.insert((*life, *group), ledger.next_offset(*group));
                Ok(())
            }
            Fact::Served { life, group, high_watermark, .. } => {
                let least = self.elected.get(&(*life, *group)).copied().unwrap_or_default();
                if *high_watermark < least {
                    return Err(format!(
                        "{life} tells a reader of group {group} that the high watermark is {high_watermark}; \
                         {least} was committed before it was elected"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Told {
    fn told(
        &mut self,
        life: Life,
        group: GroupId,
        answer: Answered,
        least: Offset,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let (what, found) = match answer {
            Answered::Start(start) => {
                let known = self.starts.entry(group).or_default();
                *known = (*known).max(start);
                (format!("group {group} begins"), start)
            }
            Answered::End(end) => (format!("group {group} ends"), end),
            Answered::EndOfTerm(term, end) => (format!("term {term} of group {group} ends"), end),
        };
        if found < least {
            return Err(format!("{life} says that {what} at {found}; before the question it was {least}"));
        }
        let committed = ledger.next_offset(group);
        if found > committed {
            return Err(format!("{life} says that {what} at {found}; committed is only up to {committed}"));
        }
        Ok(())
    }
}

/// Where the committed entries of a term and those before it end.
fn end_of(group: GroupId, term: Term, ledger: &Ledger) -> Offset {
    let entries = ledger.entries(group);
    let count = entries.partition_point(|entry| entry.digest.id().term <= term);
    entries[..count].last().map_or(Offset::ZERO, |entry| entry.digest.header.next_offset())
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    fn asked(question: u64, query: Queried) -> Fact<'static> {
        Fact::Asked { question, group: GROUP, query }
    }

    fn told(question: u64, answer: Answered) -> Fact<'static> {
        Fact::Told { question, life: life(2), group: GROUP, answer }
    }

    fn served(high_watermark: u64) -> Fact<'static> {
        let high_watermark = Offset(high_watermark);
        Fact::Served { life: life(2), group: GROUP, from: Offset(0), high_watermark, batches: &[] }
    }

    fn deleted(start: u64) -> Fact<'static> {
        Fact::Deleted { group: GROUP, start_offset: Offset(start) }
    }

    #[test]
    fn an_end_below_what_was_committed_before_the_question_trips() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 2)];
        let more = [data(1, 3, 2, 3)];
        let end = |offset| told(1, Answered::End(Offset(offset)));
        let history = [first_committed(1, &log), asked(1, Queried::End), first_committed(1, &more), end(2)];
        must_pass(Told::default(), &history);
        let history = [first_committed(1, &log), first_committed(1, &more), asked(1, Queried::End), end(2)];
        must_trip(Told::default(), &history, "before the question it was 5");
    }

    #[test]
    fn an_end_above_what_is_committed_trips() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 2)];
        let history = [first_committed(1, &log), asked(1, Queried::End), told(1, Answered::End(Offset(3)))];
        must_trip(Told::default(), &history, "only up to 2");
    }

    #[test]
    fn a_terms_end_that_is_too_low_trips() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 2), no_op(2, 3, 2), data(2, 4, 2, 1)];
        for (asked_term, end, words) in
            [(1, 1, Some("was 2")), (1, 2, None), (2, 2, Some("was 3")), (5, 3, None)]
        {
            let history = [
                first_committed(2, &log),
                asked(1, Queried::EndOfTerm(Term(asked_term))),
                told(1, Answered::EndOfTerm(Term(1), Offset(end))),
            ];
            match words {
                Some(words) => must_trip(Told::default(), &history, words),
                None => must_pass(Told::default(), &history),
            }
        }
    }

    #[test]
    fn a_beginning_that_goes_back_trips() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 9)];
        let start = |question, offset| told(question, Answered::Start(Offset(offset)));
        let history = [
            first_committed(1, &log),
            deleted(4),
            asked(1, Queried::Start),
            asked(2, Queried::Start),
            start(1, 5),
            start(2, 4),
            asked(3, Queried::Start),
            start(3, 4),
        ];
        must_trip(Told::default(), &history, "before the question it was 5");
    }

    #[test]
    fn a_new_leaders_watermark_below_what_was_committed_trips() {
        let log = [no_op(1, 1, 0), data(1, 2, 0, 9)];
        let history = [first_committed(1, &log), elected(2, 2, &log), served(0)];
        must_trip(Told::default(), &history, "9 was committed before");
        must_pass(Told::default(), &[elected(2, 2, &log), first_committed(1, &log), served(0)]);
    }

    #[test]
    fn an_answer_without_a_question_trips() {
        must_trip(Told::default(), &[told(1, Answered::End(Offset(0)))], "not asked");
    }
}
