//! The metadata image and what follows from it: shard 0 publishes it, every shard opens, configures and deletes its
//! groups by it.

use crate::coordinator::configs::Settings;
use crate::group::{Body, Group};
use crate::image::{MetadataImage, TopicImage};
use crate::partition::Partition;
use crate::shard::Shard;
use crate::types::{Effect, LogConfig};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, PartitionIndex};
use raftline_proto::time::Now;

impl Shard {
    /// Publishes the coordinator's image if it changed, and follows it.
    pub(crate) fn publish_image<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let Some(Body::Coordinator(coordinator)) =
            self.groups.get(&GroupId::COORDINATOR).map(|group| &group.body)
        else {
            return;
        };
        if coordinator.image.applied == self.image.applied {
            return;
        }
        let image = coordinator.image.clone();
        effects.push(Effect::PublishImage(image.clone()));
        self.follow_image(now, image, effects);
    }

    /// Opens, configures and deletes groups so that they are those of `image`.
    pub(crate) fn follow_image<P>(
        &mut self,
        now: Now,
        image: Arc<MetadataImage>,
        effects: &mut Vec<Effect<P>>,
    ) {
        if image.applied <= self.image.applied {
            return;
        }
        let before = core::mem::replace(&mut self.image, image.clone());
        for (id, topic) in &before.topics {
            if !image.topics.contains_key(id) {
                self.delete_topic(now, topic, effects);
            }
        }
        for (id, topic) in &image.topics {
            if !before.topics.get(id).is_some_and(|known| Arc::ptr_eq(known, topic)) {
                self.follow_topic(topic, effects);
            }
        }
        if let Some(liveness) = &mut self.liveness {
            let own = self.config.node;
            liveness.learn(image.brokers.keys().copied().filter(|node| *node != own));
        }
    }

    fn delete_topic<P>(&mut self, now: Now, topic: &TopicImage, effects: &mut Vec<Effect<P>>) {
        for partition in &topic.partitions {
            let group = partition.group;
            let known = self.touch(now, group, effects, |group, turn| group.refuse_all(turn));
            if !known {
                continue;
            }
            self.dirty.remove(&group);
            if let Some(removed) = self.groups.remove(&group) {
                self.timers.rearm(group, removed.armed, None);
            }
            effects.push(Effect::Delete { group });
        }
    }

    fn follow_topic<P>(&mut self, topic: &TopicImage, effects: &mut Vec<Effect<P>>) {
        let settings = Settings::of(&topic.configs);
        let config = LogConfig { segment_bytes: settings.segment_bytes };
        for (index, partition) in (0..).map(PartitionIndex).zip(&topic.partitions) {
            let id = partition.group;
            let here = id.get() % u64::from(self.config.shards) == u64::from(self.config.shard);
            if !here || !partition.replicas.contains(&self.config.node) {
                continue;
            }
            let Some(group) = self.groups.get_mut(&id) else {
                let body = Body::Partition(Box::new(Partition::new(topic.id, index, settings)));
                let group = Group::new(id, self.config.node, partition.replicas.clone(), config, body);
                self.groups.insert(id, Box::new(group));
                effects.push(Effect::Open { group: id, config });
                continue;
            };
            if let Body::Partition(partition) = &mut group.body {
                partition.settings = settings;
            }
            if group.log_config != config {
                group.log_config = config;
                effects.push(Effect::Configure { group: id, config });
            }
        }
    }
}
