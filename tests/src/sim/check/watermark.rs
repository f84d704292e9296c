//! HW-READ and VISIBLE: a replica's high watermark never falls, never passes what is committed, and nothing at or
//! above it is served; what was served once is served for ever, byte for byte.

use std::collections::BTreeMap;

use raftline_proto::ids::{GroupId, Offset};

use super::{Check, Ledger};
use crate::sim::facts::{Fact, Life, ServedBatch};

#[derive(Debug, Default)]
pub(super) struct HighWatermark {
    seen: BTreeMap<(Life, GroupId), Offset>,
}

impl Check for HighWatermark {
    fn name(&self) -> &'static str {
        "high watermark"
    }

    fn observe(&mut self, fact: &Fact<'_>, ledger: &Ledger) -> Result<(), String> {
        match fact {
            Fact::Watermark { life, group, high_watermark } => {
                self.moved(*life, *group, *high_watermark, ledger)
            }
            Fact::Served { life, group, from, high_watermark, batches } => {
                self.within(*life, *group, *high_watermark, ledger)?;
                served(*life, *group, *from, *high_watermark, batches, ledger)
            }
            _ => Ok(()),
        }
    }
}

impl HighWatermark {
    fn moved(&mut self, life: Life, group: GroupId, found: Offset, ledger: &Ledger) -> Result<(), String> {
        self.within(life, group, found, ledger)?;
        let known = self.seen.insert((life, group), found).unwrap_or_default();
        if found < known {
            return Err(format!("{life}'s high watermark of group {group} fell from {known} to {found}"));
        }
        Ok(())
    }

    fn within(&self, life: Life, group: GroupId, found: Offset, ledger: &Ledger) -> Result<(), String> {
        let committed = ledger.next_offset(group);
        if found > committed {
            return Err(format!(
                "{life}'s high watermark of group {group} is {found}; committed is only up to {committed}"
            ));
        }
        Ok(())
    }
}

fn served(
    life: Life,
    group: GroupId,
    from: Offset,
    high_watermark: Offset,
    batches: &[ServedBatch],
    ledger: &Ledger,
) -> Result<(), String> {
    let mut expected = None;
    for batch in batches {
        let (base, up_to) = (batch.base_offset, batch.base_offset + u64::from(batch.offset_count));
        if up_to > high_watermark {
            return Err(format!(
                "{life} served offsets {base} to {up_to} of group {group}, past its high watermark {high_watermark}"
            ));
        }
        // Compaction may have dropped what stood between: only what was agreed on, as `compaction` sees to.
        let gap = base > expected.unwrap_or(from) && ledger.is_compacted_before(group, base);
        let follows = expected.map_or(base <= from && from < up_to, |expected: Offset| expected == base);
        if !follows && !gap {
            return Err(format!(
                "{life} was asked for offset {from} of group {group} and served {base} to {up_to} after {expected:?}"
            ));
        }
        let truth = ledger.at_offset(group, base).map(|entry| entry.digest);
        let same = |truth: crate::sim::facts::Digest| {
            let whole = batch.record_count == batch.offset_count;
            let compacted = !whole && ledger.is_compacted_before(group, up_to);
            truth.header.record_count == batch.offset_count && (truth.content == batch.content || compacted)
        };
        if !truth.is_some_and(same) {
            return Err(format!(
                "{life} served another batch at offset {base} of group {group} than was committed: {batch:?}, \
                 committed {truth:?}"
            ));
        }
        expected = Some(up_to);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::hand_made::*;
    use super::*;
    use crate::sim::facts::Digest;

    fn watermark(offset: u64) -> Fact<'static> {
        Fact::Watermark { life: life(1), group: GROUP, high_watermark: Offset(offset) }
    }

    fn batch(entry: &Digest) -> ServedBatch {
        let header = entry.header;
        ServedBatch {
            base_offset: header.base_offset,
            offset_count: header.record_count,
            record_count: header.record_count,
            content: entry.content,
        }
    }

    fn served(from: u64, high_watermark: u64, batches: &[ServedBatch]) -> Fact<'_> {
        let (from, high_watermark) = (Offset(from), Offset(high_watermark));
        Fact::Served { life: life(1), group: GROUP, from, high_watermark, batches }
    }

    fn log() -> [Digest; 4] {
        [no_op(1, 1, 0), data(1, 2, 0, 2), data(1, 3, 2, 3), data(1, 4, 5, 1)]
    }

    #[test]
    fn a_falling_watermark_trips() {
        let log = log();
        must_trip(
            HighWatermark::default(),
            &[first_committed(1, &log), watermark(5), watermark(2)],
            "fell from 5",
        );
    }

    #[test]
    fn a_watermark_past_the_commit_trips() {
        let log = log();
        must_trip(HighWatermark::default(), &[first_committed(1, &log), watermark(7)], "only up to 6");
        must_trip(HighWatermark::default(), &[first_committed(1, &log), served(6, 7, &[])], "only up to 6");
    }

    #[test]
    fn serving_past_the_watermark_trips() {
        let log = log();
        let batches = [batch(&log[2])];
        must_trip(
            HighWatermark::default(),
            &[first_committed(1, &log), served(2, 4, &batches)],
            "past its high watermark 4",
        );
    }

    #[test]
    fn serving_other_bytes_or_the_wrong_place_trips() {
        let log = log();
        let other = [ServedBatch { content: 1, ..batch(&log[1]) }];
        must_trip(
            HighWatermark::default(),
            &[first_committed(1, &log), served(0, 6, &other)],
            "another batch",
        );
        let hole = [batch(&log[1]), batch(&log[3])];
        must_trip(
            HighWatermark::default(),
            &[first_committed(1, &log), served(0, 6, &hole)],
            "served 5 to 6 after",
        );
        let late = [batch(&log[3])];
        must_trip(
            HighWatermark::default(),
            &[first_committed(1, &log), served(2, 6, &late)],
            "was asked for offset 2",
        );
    }

    #[test]
    fn from_within_a_batch_up_to_the_watermark_passes() {
        let log = log();
        let batches = [batch(&log[1]), batch(&log[2])];
        must_pass(
            HighWatermark::default(),
            &[first_committed(1, &log), watermark(5), served(1, 5, &batches)],
        );
    }
}
