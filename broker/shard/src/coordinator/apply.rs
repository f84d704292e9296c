//! What a committed metadata record does to the image. The same on every replica; never panics.
//!
//! A record that cannot apply (`plan` would never have made it) changes nothing, on every replica alike, and is
//! reported: a poison entry stops nobody.

use crate::image::{MetadataImage, TopicImage};
use crate::limits::FEATURE_LEVEL_MAX;
use alloc::sync::Arc;
use raftline_proto::ids::GroupId;
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
        next = GroupId(partition.group.get().saturating_add(1));
    }
    image.next_group = next;
    Ok(())
}
