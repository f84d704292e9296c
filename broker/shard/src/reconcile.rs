//! The metadata image and what follows from it: shard 0 publishes it, every shard opens, configures and deletes its
//! groups by it.

use crate::coordinator::configs::Settings;
use crate::group::{Body, Group, Stage};
use crate::image::{MetadataImage, TopicImage};
use crate::partition::Partition;
use crate::shard::Shard;
use crate::types::Effect;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, PartitionIndex};
use raftline_proto::time::Now;

impl Shard {
    /// Publishes the coordinator's image if it changed, and follows it.
    pub(crate) fn publish_image<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let Some(group) = self.groups.get(&GroupId::COORDINATOR) else { return };
        let (Body::Coordinator(coordinator), Stage::Open(_) | Stage::Closed(_)) = (&group.body, &group.stage)
        else {
            // While it is replayed, the image runs through the past: topics that are long gone would be opened.
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
                self.follow_topic(now, topic, effects);
            }
        }
        self.delete_leftovers(&image, effects);
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

    /// Deletes what was found on the disk at the start and belongs to a topic that was deleted before the process
    /// stopped. Only a committed deletion counts: a group that the image does not know is kept.
    fn delete_leftovers<P>(&mut self, image: &MetadataImage, effects: &mut Vec<Effect<P>>) {
        let deleted = &image.deleted_groups;
        self.found.retain(|group| {
            if deleted.contains(*group) {
                effects.push(Effect::Delete { group: *group });
            }
            !deleted.contains(*group)
        });
    }

    fn follow_topic<P>(&mut self, now: Now, topic: &TopicImage, effects: &mut Vec<Effect<P>>) {
        let settings = Settings::of(&topic.configs);
        let config = settings.log_config();
        for (index, partition) in (0..).map(PartitionIndex).zip(&topic.partitions) {
            let id = partition.group;
            let here = id.get() % u64::from(self.config.shards) == u64::from(self.config.shard);
            if !here || !partition.replicas.contains(&self.config.node) {
                continue;
            }
            let Some(group) = self.groups.get_mut(&id) else {
                self.found.remove(&id);
                let body = Body::Partition(Box::new(Partition::new(topic.id, index, settings)));
                let group = Group::new(id, self.config.node, partition.replicas.clone(), config, body);
                self.groups.insert(id, Box::new(group));
                effects.push(Effect::Open { group: id, config });
                continue;
            };
            if let Body::Partition(partition) = &mut group.body
                && partition.settings != settings
            {
                partition.settings = settings;
                // What was to stay may go now, without anything being written.
                partition.retention.look_anew();
                partition.compaction.look_anew();
                self.timers.want_retention(now.monotonic + self.config.timings.retention_interval);
            }
            if group.log_config != config {
                group.log_config = config;
                effects.push(Effect::Configure { group: id, config });
            }
        }
    }
}
