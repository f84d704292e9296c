//! Which brokers hold a new partition's replicas: round robin, so that leaders and copies spread evenly.

use crate::image::MetadataImage;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::metadata::PartitionRecord;

/// Places `count` new partitions with `replication` replicas each. Brokers in `alive` are preferred; the others are
/// taken only where there are not enough. The group's number decides where the round begins, so successive topics
/// continue where the last one ended.
///
/// The caller has checked that `replication` is at least 1 and at most the number of registered brokers.
pub(crate) fn place(
    image: &MetadataImage,
    alive: &BTreeSet<NodeId>,
    count: u32,
    replication: usize,
) -> Vec<PartitionRecord> {
    let (live, silent): (Vec<NodeId>, Vec<NodeId>) =
        image.brokers.keys().copied().partition(|node| alive.contains(node));
    (0..u64::from(count))
        .map(|ordinal| {
            let group = GroupId(image.next_group.get().max(1) + ordinal);
            let replicas = round(&live, group).chain(round(&silent, group)).take(replication).collect();
            PartitionRecord { group, replicas }
        })
        .collect()
}

/// All of `brokers` once, beginning at a place that `group` decides.
fn round(brokers: &[NodeId], group: GroupId) -> impl Iterator<Item = NodeId> + '_ {
    let begin = match brokers.len() {
        0 => 0,
        len => usize::try_from(group.get() % len as u64).unwrap_or(0),
    };
    brokers.iter().cycle().skip(begin).take(brokers.len()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use raftline_proto::ids::Incarnation;
    use raftline_proto::metadata::BrokerRecord;

    fn image(brokers: u32) -> MetadataImage {
        let record = |node| BrokerRecord {
            node: NodeId(node),
            incarnation: Incarnation(u64::from(node)),
            grpc_address: String::new(),
            kafka_address: None,
        };
        let brokers = (1..=brokers).map(|node| (NodeId(node), record(node))).collect();
        MetadataImage { brokers, next_group: GroupId(1), ..MetadataImage::default() }
    }

    #[test]
    fn leaders_and_copies_spread() {
        let alive = (1..=4).map(NodeId).collect();
        let partitions = place(&image(4), &alive, 8, 3);
        let mut leaders: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut copies: BTreeMap<NodeId, usize> = BTreeMap::new();
        for partition in &partitions {
            let distinct: BTreeSet<_> = partition.replicas.iter().collect();
            assert_eq!(distinct.len(), 3);
            *leaders.entry(partition.replicas[0]).or_default() += 1;
            for replica in &partition.replicas {
                *copies.entry(*replica).or_default() += 1;
            }
        }
        assert!(leaders.values().all(|count| *count == 2), "{leaders:?}");
        assert!(copies.values().all(|count| *count == 6), "{copies:?}");
        let groups: Vec<u64> = partitions.iter().map(|partition| partition.group.get()).collect();
        assert_eq!(groups, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn silent_brokers_come_last() {
        let alive = [NodeId(2), NodeId(3)].into_iter().collect();
        for partition in place(&image(3), &alive, 6, 3) {
            assert_eq!(partition.replicas[2], NodeId(1));
        }
        for partition in place(&image(3), &alive, 6, 2) {
            assert!(!partition.replicas.contains(&NodeId(1)));
        }
    }
}
