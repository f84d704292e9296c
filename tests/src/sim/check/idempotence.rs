//! ORDER and IDEMP: in the committed log an idempotent producer's batches follow each other in sequence, none twice
//! and none left out; and no batch of any producer is there twice. No leader forgets where a producer was: unless a
//! newer one has replaced it, it never expects less than what is committed. That is looked at when it is elected, and
//! when it refuses a batch. At the end of a run every replica knows it: the next leader may be any of them.

use std::collections::{BTreeMap, BTreeSet};

use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::{GroupId, ProducerId, Term};
use raftline_proto::producers::SEQUENCE_MAX;

use super::{Check, Ledger};
use crate::sim::facts::{Digest, Fact, Life, first_sequence};

#[derive(Debug, Default)]
pub(super) struct OncePerProducer {
    next: BTreeMap<(GroupId, ProducerId), (u16, u32)>,
    contents: BTreeSet<(GroupId, u64)>,
    /// The newest leader of each group.
    newest: BTreeMap<GroupId, Term>,
}

impl Check for OncePerProducer {
    fn name(&self) -> &'static str {
        "each producer's batches once and in order"
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Ledger) -> Result<(), String> {
        match fact {
            Fact::FirstCommitted { group, entries, .. } => {
                entries.iter().filter(|entry| entry.is_data()).try_for_each(|entry| self.once(*group, entry))
            }
            Fact::Elected { group, term, .. } => {
                let newest = self.newest.entry(*group).or_default();
                *newest = (*newest).max(*term);
                Ok(())
            }
            Fact::SequenceRefused { life, group, term, producer, expected } => {
                let next = self.next.get(&(*group, producer.id)).copied();
                match next {
                    Some((epoch, next))
                        if !self.is_replaced(*group, *term)
                            && producer.epoch == epoch
                            && is_behind(*expected, next) =>
                    {
                        Err(format!(
                            "{life} leads group {group} in term {term} and expects sequence {expected} of producer {}; \
                         committed is up to {next}",
                            producer.id
                        ))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Producers { life, group, term, next } if !self.is_replaced(*group, *term) => {
                self.known(*life, *group, next)
            }
            _ => Ok(()),
        }
    }
}

impl OncePerProducer {
    /// Whether a leader of this term may not know all that is committed.
    fn is_replaced(&self, group: GroupId, term: Term) -> bool {
        self.newest.get(&group).is_some_and(|newest| *newest > term)
    }

    fn known(&self, life: Life, group: GroupId, known: &[ProducerBatch]) -> Result<(), String> {
        let of_group = self.next.iter().filter(|((of, _), _)| *of == group);
        for ((_, id), (epoch, next)) in of_group {
            let forgot = match known.iter().find(|stamp| stamp.id == *id) {
                Some(stamp) if stamp.epoch < *epoch => Some(format!("epoch {}", stamp.epoch)),
                Some(stamp) if stamp.epoch == *epoch && is_behind(stamp.base_sequence, *next) => {
                    Some(format!("sequence {}", stamp.base_sequence))
                }
                Some(_) => None,
                None => Some("nothing".to_owned()),
            };
            if let Some(forgot) = forgot {
                return Err(format!(
                    "{life} knows {forgot} of producer {id} of group {group}; committed is up to {next} (epoch {epoch})"
                ));
            }
        }
        Ok(())
    }

    fn once(&mut self, group: GroupId, entry: &Digest) -> Result<(), String> {
        if !self.contents.insert((group, entry.content)) {
            return Err(format!(
                "entry {} of group {group} repeats a batch that is there already",
                entry.id()
            ));
        }
        entry.producer.map_or(Ok(()), |producer| self.in_sequence(group, entry, producer))
    }

    fn in_sequence(&mut self, group: GroupId, entry: &Digest, producer: ProducerBatch) -> Result<(), String> {
        let next = (producer.base_sequence + entry.header.record_count) & SEQUENCE_MAX;
        let known = self.next.insert((group, producer.id), (producer.epoch, next));
        let (epoch, expected) = known.unwrap_or((producer.epoch, first_sequence(producer.id)));
        let expected = if producer.epoch > epoch { 0 } else { expected };
        if producer.epoch < epoch || producer.base_sequence != expected {
            return Err(format!(
                "entry {} of group {group} has sequence {} (epoch {}) of producer {}, where {expected} (epoch {epoch}) \
                 comes next",
                entry.id(),
                producer.base_sequence,
                producer.epoch,
                producer.id
            ));
        }
        Ok(())
    }
}

/// Whether a sequence comes before another one, which is not half of all sequences away; or is none.
fn is_behind(sequence: u32, next: u32) -> bool {
    sequence > SEQUENCE_MAX || (sequence.wrapping_sub(next) & SEQUENCE_MAX) > SEQUENCE_MAX / 2
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;

    #[test]
    fn a_batch_twice_trips() {
        let log = [data(1, 1, 0, 1), Digest { content: data(1, 1, 0, 1).content, ..data(1, 2, 1, 1) }];
        must_trip(OncePerProducer::default(), &[first_committed(1, &log)], "repeats a batch");
        let log = [stamped(1, 1, 0, 2, 0), stamped(1, 2, 2, 2, 0)];
        must_trip(OncePerProducer::default(), &[first_committed(1, &log)], "where 2 (epoch 0) comes next");
    }

    #[test]
    fn a_gap_a_swap_and_a_late_start_trip() {
        let gap = [stamped(1, 1, 0, 2, 0), stamped(1, 2, 2, 1, 3)];
        must_trip(OncePerProducer::default(), &[first_committed(1, &gap)], "where 2 (epoch 0) comes next");
        let late = [stamped(1, 1, 0, 2, 5)];
        must_trip(OncePerProducer::default(), &[first_committed(1, &late)], "where 0 (epoch 0) comes next");
    }

    #[test]
    fn a_leader_that_forgot_a_producer_trips() {
        let log = [stamped(1, 1, 0, 4, 0)];
        let refused = |expected| Fact::SequenceRefused {
            life: life(1),
            group: GROUP,
            term: Term(1),
            producer: ProducerBatch { id: ProducerId(1), epoch: 0, base_sequence: 4 },
            expected,
        };
        let before = [elected(1, 1, &[]), first_committed(1, &log)];
        let [leads, commits] = &before;
        must_trip(
            OncePerProducer::default(),
            &[leads.clone(), commits.clone(), refused(2)],
            "committed is up to 4",
        );
        must_pass(OncePerProducer::default(), &[leads.clone(), commits.clone(), refused(6)]);
        let replaced = elected(2, 2, &log);
        must_pass(OncePerProducer::default(), &[leads.clone(), commits.clone(), replaced, refused(2)]);
    }

    #[test]
    fn a_replica_that_forgot_a_producer_trips() {
        let log = [stamped(1, 1, 0, 4, 0)];
        let [leads, commits] = [elected(1, 1, &[]), first_committed(1, &log)];
        let stamp = |epoch, base_sequence| [ProducerBatch { id: ProducerId(1), epoch, base_sequence }];
        for (known, words) in [
            (&stamp(0, 2)[..], "knows sequence 2 of producer 1"),
            (&stamp(0, SEQUENCE_MAX), "committed is up to 4"),
            (&stamp(0, SEQUENCE_MAX + 1 + 4), "knows sequence 2147483652"),
            (&[], "knows nothing of producer 1"),
        ] {
            let forgot = Fact::Producers { life: life(2), group: GROUP, term: Term(1), next: known };
            must_trip(OncePerProducer::default(), &[leads.clone(), commits.clone(), forgot.clone()], words);
            let replaced = elected(3, 2, &log);
            must_pass(OncePerProducer::default(), &[leads.clone(), commits.clone(), replaced, forgot]);
        }
        for known in [&stamp(0, 4)[..], &stamp(0, 6), &stamp(1, 0)] {
            let knows = Fact::Producers { life: life(2), group: GROUP, term: Term(1), next: known };
            must_pass(OncePerProducer::default(), &[leads.clone(), commits.clone(), knows]);
        }
        let mut check = OncePerProducer::default();
        check.next.insert((GROUP, ProducerId(1)), (1, 0));
        let older = Fact::Producers { life: life(2), group: GROUP, term: Term(1), next: &stamp(0, 4) };
        must_trip(check, &[older], "knows epoch 0");
    }

    #[test]
    fn before_and_behind_go_round() {
        assert!(is_behind(SEQUENCE_MAX, 0) && is_behind(3, 4) && is_behind(SEQUENCE_MAX - 1, 5));
        assert!(!is_behind(0, SEQUENCE_MAX) && !is_behind(4, 4) && !is_behind(5, SEQUENCE_MAX - 1));
    }

    #[test]
    fn every_other_producer_begins_shortly_before_the_wrap() {
        let of = |base_sequence| {
            let producer = ProducerBatch { id: ProducerId(2), epoch: 0, base_sequence };
            [Digest { producer: Some(producer), ..data(1, 1, 0, 2) }]
        };
        must_pass(OncePerProducer::default(), &[first_committed(1, &of(SEQUENCE_MAX - 20))]);
        must_trip(OncePerProducer::default(), &[first_committed(1, &of(0))], "where 2147483627 (epoch 0)");
    }

    #[test]
    fn sequences_wrap() {
        let mut log = [stamped(1, 1, 0, 2, 0), stamped(1, 2, 2, 2, 2)];
        must_pass(OncePerProducer::default(), &[first_committed(1, &log)]);
        log[1].producer =
            log[1].producer.map(|producer| ProducerBatch { epoch: 1, base_sequence: 0, ..producer });
        must_pass(OncePerProducer::default(), &[first_committed(1, &log)]);
        let mut check = OncePerProducer::default();
        check.next.insert((GROUP, ProducerId(1)), (0, SEQUENCE_MAX));
        must_pass(check, &[first_committed(1, &[stamped(1, 1, 0, 2, SEQUENCE_MAX), stamped(1, 2, 2, 1, 1)])]);
    }
}
