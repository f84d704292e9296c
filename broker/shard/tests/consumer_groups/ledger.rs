//! What was promised about offsets, by anybody who commits: an acknowledged offset is there ever after, and none
//! moves back unasked. Values come from one counter, so that a later commit has a larger one.

use crate::world::{World, fetch_all};
use raftline_shard::consumer_groups::types::{Answer, GroupResponse};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Ledger {
    asked: BTreeSet<(i32, i64)>,
    acknowledged: BTreeMap<i32, i64>,
    seen: BTreeMap<i32, i64>,
}

impl Ledger {
    pub fn ask(&mut self, partition: i32, offset: i64) {
        self.asked.insert((partition, offset));
    }

    /// The answer to a commit of one partition.
    pub fn answer(&mut self, partition: i32, offset: i64, answer: &Answer) {
        if let Ok(GroupResponse::Partitions(outcomes)) = answer {
            assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
            let acknowledged = self.acknowledged.entry(partition).or_insert(offset);
            *acknowledged = offset.max(*acknowledged);
        }
    }

    pub fn check(&mut self, world: &mut World) {
        let Ok(GroupResponse::Offsets(offsets)) = world.call(fetch_all()) else { panic!("offsets") };
        let fetched: BTreeMap<i32, i64> =
            offsets.iter().map(|offset| (offset.topic_partition.partition, offset.offset)).collect();
        for (partition, offset) in &fetched {
            assert!(self.asked.contains(&(*partition, *offset)), "{partition}={offset} was never asked for");
        }
        for (partition, least) in self.acknowledged.iter().chain(&self.seen) {
            let found = fetched.get(partition);
            assert!(
                found.is_some_and(|found| found >= least),
                "{partition}: {least} was there, {found:?} is"
            );
        }
        self.seen = fetched;
    }
}
