//! A set of groups that is small where their numbers lie side by side, as those of a topic do.

use alloc::collections::BTreeMap;
use raftline_proto::ids::GroupId;

/// The set, as half-open ranges.
///
/// Invariant: no range is empty, none touches or overlaps another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRanges {
    /// From the first of a range to one past its last.
    ranges: BTreeMap<u64, u64>,
}

impl GroupRanges {
    /// Adds one group; without effect if it is there.
    pub fn insert(&mut self, group: GroupId) {
        let (mut from, mut up_to) = (group.get(), group.get().saturating_add(1));
        if self.contains(group) || from == up_to {
            return;
        }
        if let Some((before, _)) = self.ranges.range(..from).next_back().filter(|(_, end)| **end == from) {
            from = *before;
        }
        if let Some(after) = self.ranges.remove(&up_to) {
            up_to = after;
        }
        self.ranges.insert(from, up_to);
    }

    /// Whether the group is in the set.
    #[must_use]
    pub fn contains(&self, group: GroupId) -> bool {
        self.ranges.range(..=group.get()).next_back().is_some_and(|(_, end)| group.get() < *end)
    }

    /// How many ranges the set takes.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn behaves_as_a_plain_set() {
        let mut ranges = GroupRanges::default();
        let mut twin: BTreeSet<u64> = BTreeSet::new();
        // A permutation of 0..64, then all again.
        for step in 0..128_u64 {
            let group = step * 37 % 64;
            ranges.insert(GroupId(group));
            twin.insert(group);
            for other in 0..70 {
                assert_eq!(ranges.contains(GroupId(other)), twin.contains(&other), "{other} after {step}");
            }
        }
        assert_eq!(ranges.range_count(), 1, "side by side they are one range");
    }

    #[test]
    fn gaps_stay_gaps() {
        let mut ranges = GroupRanges::default();
        for group in [1, 3, 5] {
            ranges.insert(GroupId(group));
        }
        assert_eq!(ranges.range_count(), 3);
        ranges.insert(GroupId(4));
        assert_eq!(ranges.range_count(), 2);
        assert!(!ranges.contains(GroupId(2)) && ranges.contains(GroupId(4)));
    }
}
