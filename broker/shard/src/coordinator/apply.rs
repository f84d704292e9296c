//! What a committed metadata record does to the image. The same on every replica; never panics.
//!
//! A record that cannot apply (`plan` would never have made it) changes nothing, on every replica alike, and is
//! reported: a poison entry stops nobody.

use crate::image::{MetadataImage, TopicImage};
use crate::limits::FEATURE_LEVEL_MAX;
use alloc::sync::Arc;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::limits::VOTERS_MAX;
use raftline_proto::metadata::{MetadataRecord, PartitionRecord};

/// Applies one record.
///
/// # Errors
/// Says why the record changes nothing.
pub fn apply(image: &mut MetadataImage, record: &MetadataRecord) -> Result<(), &'static str> {
    match record {
        MetadataRecord::Cluster { id, name, feature_level } => {
            if image.cluster.is_some() {
                return Err("the cluster has an id already");
            }
            if *feature_level > FEATURE_LEVEL_MAX {
                return Err("the cluster's feature level is newer than this version: run a newer Raftline");
            }
            image.cluster = Some((*id, name.clone()));
            image.feature_level = *feature_level;
            image.next_group = image.next_group.max(GroupId(1));
        }
        MetadataRecord::Broker(broker) => {
            let known = image.brokers.get(&broker.node);
            if known.is_some_and(|known| known.incarnation != broker.incarnation) {
                return Err("the broker is registered with another disk");
            }
            image.brokers.insert(broker.node, broker.clone());
        }
        MetadataRecord::TopicCreated { id, name, partitions, configs } => {
            if image.topics.contains_key(id) || image.topic_ids.contains_key(name) {
                return Err("the topic exists already");
            }
            take_groups(image, partitions)?;
            let topic = TopicImage {
                id: *id,
                name: name.clone(),
                partitions: partitions.clone(),
                configs: configs.clone(),
            };
            image.topics.insert(*id, Arc::new(topic));
            image.topic_ids.insert(name.clone(), *id);
        }
        MetadataRecord::TopicDeleted { id } => {
            let topic = image.topics.remove(id).ok_or("the topic to delete does not exist")?;
            image.topic_ids.remove(&topic.name);
            let deleted = Arc::make_mut(&mut image.deleted_groups);
            for partition in &topic.partitions {
                deleted.insert(partition.group);
            }
        }
        MetadataRecord::TopicConfigured { id, configs } => {
            let topic = image.topics.get_mut(id).ok_or("the topic to configure does not exist")?;
            Arc::make_mut(topic).configs = configs.clone();
        }
        MetadataRecord::PartitionsAdded { id, partitions } => {
            if !image.topics.contains_key(id) {
                return Err("the topic to add partitions to does not exist");
            }
            take_groups(image, partitions)?;
            if let Some(topic) = image.topics.get_mut(id) {
                Arc::make_mut(topic).partitions.extend(partitions.iter().cloned());
            }
        }
        MetadataRecord::ProducerIds { next } => {
            if *next < image.next_producer {
                return Err("producer ids would be given out twice");
            }
            image.next_producer = *next;
        }
    }
    Ok(())
}

/// Takes the groups of new partitions out of the image's supply.
fn take_groups(image: &mut MetadataImage, partitions: &[PartitionRecord]) -> Result<(), &'static str> {
    let mut next = image.next_group;
    for partition in partitions {
        if partition.group < next || partition.group == GroupId::COORDINATOR {
            return Err("a group would be used twice");
        }
        if partition.replicas.is_empty() {
            return Err("a partition without replicas");
        }
        // All of them vote; the engine stops the process at more voters than these.
        if partition.replicas.len() > VOTERS_MAX {
            return Err("a partition with more replicas than may vote");
        }
        let repeated = |(nth, node): (usize, &NodeId)| partition.replicas[..nth].contains(node);
        if partition.replicas.iter().enumerate().any(repeated) {
            return Err("a partition with two replicas on one broker");
        }
        next = GroupId(partition.group.get().saturating_add(1));
    }
    image.next_group = next;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use raftline_proto::ids::{ClusterId, Incarnation, ProducerId, TopicId};
    use raftline_proto::metadata::BrokerRecord;

    fn topic(id: u128, name: &str, groups: &[u64]) -> MetadataRecord {
        let partition = |group: &u64| PartitionRecord { group: GroupId(*group), replicas: vec![NodeId(1)] };
        let partitions: Vec<PartitionRecord> = groups.iter().map(partition).collect();
        MetadataRecord::TopicCreated {
            id: TopicId(id),
            name: name.into(),
            partitions,
            configs: BTreeMap::new(),
        }
    }

    fn placed(replicas: Vec<u32>) -> Vec<PartitionRecord> {
        vec![PartitionRecord { group: GroupId(3), replicas: replicas.into_iter().map(NodeId).collect() }]
    }

    fn placed_topic(replicas: Vec<u32>) -> MetadataRecord {
        let (id, partitions) = (TopicId(2), placed(replicas));
        MetadataRecord::TopicCreated { id, name: "b".into(), partitions, configs: BTreeMap::new() }
    }

    fn broker(node: u32, incarnation: u64) -> MetadataRecord {
        let incarnation = Incarnation(incarnation);
        MetadataRecord::Broker(BrokerRecord {
            node: NodeId(node),
            incarnation,
            grpc_address: String::new(),
            kafka: BTreeMap::new(),
        })
    }

    fn cluster(feature_level: u32) -> MetadataRecord {
        MetadataRecord::Cluster { id: ClusterId(1), name: "c".into(), feature_level }
    }

    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        for record in [cluster(1), broker(1, 11), topic(1, "a", &[1, 2])] {
            apply(&mut image, &record).expect("applies");
        }
        image
    }

    #[test]
    fn poison_changes_nothing() {
        let poison = [
            cluster(1),
            broker(1, 12),
            topic(1, "other", &[3]),
            topic(2, "a", &[3]),
            topic(2, "b", &[2]),
            topic(2, "b", &[4, 3]),
            topic(2, "b", &[0]),
            MetadataRecord::TopicDeleted { id: TopicId(9) },
            MetadataRecord::TopicConfigured { id: TopicId(9), configs: BTreeMap::new() },
            MetadataRecord::PartitionsAdded { id: TopicId(9), partitions: Vec::new() },
            placed_topic(Vec::new()),
            placed_topic((1..=10).collect()),
            placed_topic((1..=16).collect()),
            placed_topic(vec![1, 2, 1]),
            MetadataRecord::PartitionsAdded { id: TopicId(1), partitions: placed((1..=10).collect()) },
        ];
        let before = image();
        for record in poison {
            let mut image = before.clone();
            assert!(apply(&mut image, &record).is_err(), "{record:?}");
            assert_eq!(image, before, "{record:?}");
        }
    }

    #[test]
    fn as_many_replicas_as_may_vote_apply() {
        let mut image = image();
        apply(&mut image, &placed_topic((1..=9).collect())).expect("applies");
        assert_eq!(VOTERS_MAX, 9);
    }

    #[test]
    fn a_newer_feature_level_is_refused() {
        let mut image = MetadataImage::default();
        assert!(apply(&mut image, &cluster(FEATURE_LEVEL_MAX + 1)).is_err());
        assert_eq!(image, MetadataImage::default());
    }

    #[test]
    fn producer_ids_never_go_back() {
        let mut image = image();
        apply(&mut image, &MetadataRecord::ProducerIds { next: ProducerId(5) }).expect("applies");
        assert!(apply(&mut image, &MetadataRecord::ProducerIds { next: ProducerId(4) }).is_err());
        assert_eq!(image.next_producer, ProducerId(5));
    }

    #[test]
    fn a_deleted_topic_leaves_its_groups_on_record() {
        let mut image = image();
        apply(&mut image, &MetadataRecord::TopicDeleted { id: TopicId(1) }).expect("applies");
        assert!(image.topics.is_empty() && image.topic_ids.is_empty());
        assert!(image.deleted_groups.contains(GroupId(1)) && image.deleted_groups.contains(GroupId(2)));
        assert!(!image.deleted_groups.contains(GroupId(3)));
        assert_eq!(image.next_group, GroupId(3), "never given out again");
    }
}
