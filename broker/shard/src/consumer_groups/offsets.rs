//! Committed offsets. A commit is checked against the group as it is now, written, and told once it is committed;
//! a fetch sees what is committed and nothing else.

use super::consumer::Topics;
use super::expressions::{Catalog, TopicNames};
use super::leading::{Body, Leading};
use super::limits::{GROUP_OFFSETS_MAX, GROUPS_MAX, OFFSET_METADATA_BYTES_MAX};
use super::record::{GroupRecord, OffsetValue};
use super::store::OffsetKey;
use super::types::{
    FetchedOffset, GroupError, GroupResponse, OffsetCommit, OffsetDelete, OffsetFetch, PartitionOutcome,
    TopicPartition,
};
use crate::types::RequestId;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

impl Leading<'_> {
    pub(super) fn commit_offsets(&mut self, commit: OffsetCommit, request: RequestId) {
        if let Err(error) = self.check_commit(&commit) {
            self.turn.refuse(request, error);
            return;
        }
        let metadata_bytes_max = self.turn.config.offset_metadata_bytes_max.min(OFFSET_METADATA_BYTES_MAX);
        let mut room = self.offsets_room(&commit.group);
        let mut records = Vec::with_capacity(commit.offsets.len());
        let mut outcomes = Vec::with_capacity(commit.offsets.len());
        for asked in commit.offsets {
            let key = (asked.topic_partition.topic.clone(), asked.topic_partition.partition);
            let known = self.turn.log.has_planned_offset(self.store, &commit.group, &key);
            let error = if asked.metadata.len() > metadata_bytes_max {
                Some(GroupError::OffsetMetadataTooLarge)
            } else if !known && room == 0 {
                Some(GroupError::InvalidCommitOffsetSize)
            } else {
                None
            };
            if error.is_none() {
                room = room.saturating_sub(usize::from(!known));
                let value = OffsetValue {
                    offset: asked.offset,
                    leader_epoch: asked.leader_epoch,
                    metadata: asked.metadata,
                    commit_timestamp: self.turn.now.wall,
                };
                records.push(offset_record(&commit.group, key, Some(value)));
            }
            outcomes.push(PartitionOutcome { topic_partition: asked.topic_partition, error });
        }
        let nothing = records.is_empty();
        self.turn.append_each(records);
        self.answer_partitions(request, &commit.group, nothing, outcomes);
    }

    pub(super) fn fetch_offsets(&mut self, fetch: OffsetFetch, request: RequestId) {
        if let Err(error) = self.check_fetch(&fetch) {
            self.turn.refuse(request, error);
            return;
        }
        let fetched = match fetch.partitions {
            Some(partitions) => {
                partitions.into_iter().map(|asked| self.fetched(&fetch.group, asked)).collect()
            }
            None => {
                let all = self.store.offsets.get(&fetch.group).into_iter().flatten();
                let named = all.map(|((topic, partition), value)| {
                    let topic_partition = TopicPartition { topic: topic.clone(), partition: *partition };
                    fetched_offset(topic_partition, Some(value))
                });
                named.collect()
            }
        };
        self.turn.respond(request, Ok(GroupResponse::Offsets(fetched)));
    }

    pub(super) fn delete_offsets(&mut self, delete: OffsetDelete, request: RequestId) {
        if !self.exists(&delete.group) {
            self.turn.refuse(request, GroupError::GroupIdNotFound);
            return;
        }
        let none = Topics::new();
        let catalog = &mut Catalog { topics: self.topics.unwrap_or(&none), expressions: self.expressions };
        let subscribed = match self.groups.get(&delete.group) {
            Some(Body::Consumer(group)) => group.subscribed_topics(catalog),
            Some(Body::Classic(_)) | None => TopicNames::new(),
        };
        let mut records = Vec::new();
        let mut outcomes = Vec::with_capacity(delete.partitions.len());
        for asked in delete.partitions {
            let checked = match self.groups.get(&delete.group) {
                Some(Body::Classic(group)) => group.check_offset_delete(&asked.topic),
                Some(Body::Consumer(_)) if subscribed.contains(&asked.topic) => {
                    Err(GroupError::GroupSubscribedToTopic)
                }
                Some(Body::Consumer(_)) => Ok(()),
                None => Ok(()),
            };
            if checked == Err(GroupError::NonEmptyGroup) {
                self.turn.refuse(request, GroupError::NonEmptyGroup);
                return;
            }
            let key = (asked.topic.clone(), asked.partition);
            if checked.is_ok() && self.turn.log.has_planned_offset(self.store, &delete.group, &key) {
                records.push(offset_record(&delete.group, key, None));
            }
            outcomes.push(PartitionOutcome { topic_partition: asked, error: checked.err() });
        }
        let nothing = records.is_empty();
        self.turn.append_each(records);
        self.answer_partitions(request, &delete.group, nothing, outcomes);
    }

    /// Tombstones for all offsets that the group has or is about to have.
    pub(super) fn offset_tombstones(&self, group: &str) -> Vec<GroupRecord> {
        let keys = self.turn.log.planned_offsets(self.store, group);
        keys.into_iter().map(|key| offset_record(group, key, None)).collect()
    }

    /// Tombstones for the offsets of topics that are gone, in all groups.
    pub(super) fn forget_topics(&mut self, gone: &BTreeSet<String>) {
        let affected = self
            .store
            .offsets
            .iter()
            .filter(|(_, offsets)| offsets.keys().any(|(topic, _)| gone.contains(topic)));
        let mut groups: BTreeSet<String> = affected.map(|(group, _)| group.clone()).collect();
        groups.extend(self.turn.log.groups().cloned());
        for group in groups {
            let keys = self.turn.log.planned_offsets(self.store, &group);
            let keys = keys.into_iter().filter(|(topic, _)| gone.contains(topic));
            let tombstones = keys.map(|key| offset_record(&group, key, None)).collect();
            self.turn.append_each(tombstones);
        }
    }

    /// Whether there is such a group, of any kind.
    pub(super) fn exists(&self, group: &str) -> bool {
        self.groups.get(group).is_some() || self.turn.log.has_planned_offsets(self.store, group)
    }

    fn check_commit(&mut self, commit: &OffsetCommit) -> Result<(), GroupError> {
        match self.groups.get_mut(&commit.group) {
            Some(Body::Classic(group)) => group.check_commit(commit, &self.turn),
            Some(Body::Consumer(group)) => group.check_commit(commit),
            // A group that only has offsets, or is to have its first ones.
            None if commit.generation < 0 => Ok(()),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    fn check_fetch(&self, fetch: &OffsetFetch) -> Result<(), GroupError> {
        match self.groups.get(&fetch.group) {
            Some(Body::Consumer(group)) => group.check_fetch(fetch),
            Some(Body::Classic(_)) | None => Ok(()),
        }
    }

    /// How many more offsets the group may have.
    fn offsets_room(&self, group: &str) -> usize {
        let offsets = self.turn.log.planned_offsets_max(self.store, group);
        let groups = self.store.offsets.len() + self.turn.log.groups_len();
        if offsets == 0 && groups >= GROUPS_MAX {
            return 0;
        }
        GROUP_OFFSETS_MAX.saturating_sub(offsets)
    }

    fn answer_partitions(
        &mut self,
        request: RequestId,
        group: &str,
        nothing: bool,
        outcomes: Vec<PartitionOutcome>,
    ) {
        let response = GroupResponse::Partitions(outcomes);
        if nothing {
            self.turn.respond(request, Ok(response));
        } else {
            self.turn.respond_committed(request, group, response);
        }
    }

    fn fetched(&self, group: &str, asked: TopicPartition) -> FetchedOffset {
        let key = (asked.topic.clone(), asked.partition);
        fetched_offset(asked, self.store.offset(group, &key))
    }
}

/// The record of one offset; `None` forgets it.
pub(super) fn offset_record(
    group: &str,
    (topic, partition): OffsetKey,
    value: Option<OffsetValue>,
) -> GroupRecord {
    GroupRecord::Offset { group: String::from(group), topic, partition, value }
}

fn fetched_offset(topic_partition: TopicPartition, value: Option<&OffsetValue>) -> FetchedOffset {
    match value {
        Some(value) => FetchedOffset {
            topic_partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
        },
        None => FetchedOffset { topic_partition, offset: -1, leader_epoch: -1, metadata: String::new() },
    }
}
