//! Which brokers hold a new partition's replicas: round robin, so that leaders and copies spread evenly.

use crate::image::MetadataImage;
use crate::types::CoordinatorError;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::limits::VOTERS_MAX;
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

/// Places new partitions where somebody wants their replicas.
///
/// # Errors
/// What [`check_assignment`] says.
pub(crate) fn assign(
    image: &MetadataImage,
    assignment: &[Vec<NodeId>],
) -> Result<Vec<PartitionRecord>, CoordinatorError> {
    let why = |why| CoordinatorError::InvalidAssignment { why };
    check_assignment(assignment, |node| image.brokers.contains_key(&node)).map_err(why)?;
    let next = image.next_group.get().max(1);
    let record = |(replicas, ordinal): (&Vec<NodeId>, u64)| PartitionRecord {
        group: GroupId(next + ordinal),
        replicas: replicas.clone(),
    };
    Ok(assignment.iter().zip(0..).map(record).collect())
}

/// Whether the replicas of each partition can be where they are wanted: on different brokers, all of which there are, and
/// as many of each.
///
/// # Errors
/// What is wrong.
pub fn check_assignment(
    assignment: &[Vec<NodeId>],
    is_there: impl Fn(NodeId) -> bool,
) -> Result<(), &'static str> {
    let replication = assignment.first().map_or(0, Vec::len);
    for replicas in assignment {
        let distinct: BTreeSet<NodeId> = replicas.iter().copied().collect();
        if replicas.is_empty() || replicas.len() > VOTERS_MAX {
            return Err("a partition has no replicas, or too many");
        }
        if distinct.len() < replicas.len() {
            return Err("a partition has two replicas on one broker");
        }
        if replicas.len() != replication {
            return Err("all partitions must have as many replicas");
        }
        if !replicas.iter().all(|node| is_there(*node)) {
            return Err("a replica is to be on a broker that is not there");
        }
    }
    Ok(())
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
            kafka: BTreeMap::new(),
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
    fn replicas_are_where_they_are_wanted_if_they_can_be() {
        let wanted = |partitions: &[&[u32]]| -> Vec<Vec<NodeId>> {
            partitions.iter().map(|nodes| nodes.iter().copied().map(NodeId).collect()).collect()
        };
        let image = image(3);
        let placed = assign(&image, &wanted(&[&[3, 1], &[2, 3]])).expect("it can be so");
        let groups: Vec<u64> = placed.iter().map(|partition| partition.group.get()).collect();
        assert_eq!((groups, &placed[0].replicas), (alloc::vec![1, 2], &wanted(&[&[3, 1]])[0]));
        for wrong in [&[&[1, 1][..]][..], &[&[1, 4]], &[&[]], &[&[1, 2], &[3]]] {
            assert!(assign(&image, &wanted(wrong)).is_err(), "{wrong:?}");
        }
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
