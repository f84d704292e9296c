//! Consumer groups: who is in them, how far they are, and changes from outside.

use super::{Admin, Whom};
use crate::consumer::StartAt;
use crate::error::AdminError;
use crate::limits::{GROUP_PATIENCE, OFFSET_PATIENCE, OFFSETS_ASKED_AT_ONCE};
use crate::record::TopicPartition;
use raftline_proto::api;
use raftline_proto::ids::{Offset, PartitionIndex};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// A group at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupDescription {
    /// Its name, state and coordinator.
    pub group: api::ConsumerGroupInfo,
    /// Who assigns partitions.
    pub assignor: String,
    /// Moves with every change of members or subscriptions; 0 of a classic group.
    pub group_epoch: i32,
    /// By member id.
    pub members: Vec<api::ConsumerGroupMember>,
    /// Every partition that somebody reads or that has a committed offset, by topic and number.
    pub partitions: Vec<GroupPartition>,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    /// Which.
    pub partition: TopicPartition,
    /// The next offset to read, if one was committed.
    pub committed: Option<Offset>,
    /// What the group noted with it.
    pub metadata: String,
    /// The first offset that is there; `None` if nobody could say.
    pub start: Option<Offset>,
    /// The offset after the last one; `None` if nobody could say.
    pub end: Option<Offset>,
    /// Who reads it.
    pub member_id: Option<String>,
}

impl GroupPartition {
    /// Records that are committed to the log and not yet read by the group, as its committed offset says. Records
    /// that retention took before the group read them are not counted.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let from = self.committed?.get().max(self.start?.get());
        Some(self.end?.get().saturating_sub(from))
    }
}

impl Admin {
    /// All groups of the cluster, by name; of these states and types only (Kafka's words, empty: all).
    ///
    /// # Errors
    /// Not all coordinators answered in time.
    pub async fn groups(
        &self,
        states: Vec<String>,
        types: Vec<String>,
    ) -> Result<Vec<api::ConsumerGroupInfo>, AdminError> {
        let request = api::ListConsumerGroupsRequest { states, types };
        let reply = self
            .ask("list the consumer groups", Whom::Anyone, |mut stub| {
                let request = request.clone();
                async move { stub.list_consumer_groups(request).await }
            })
            .await?;
        Ok(reply.groups)
    }

    /// A group's state and members.
    ///
    /// # Errors
    /// [`crate::ErrorCode::GroupNotFound`] if there is none.
    pub async fn group_members(&self, group: &str) -> Result<api::DescribeConsumerGroupReply, AdminError> {
        let question = format!("describe group `{group}`");
        self.ask(&question, Whom::Anyone, |mut stub| {
            let request = api::DescribeConsumerGroupRequest { group: group.to_owned() };
            async move { stub.describe_consumer_group(request).await }
        })
        .await
    }

    /// A group's state and members, and how far it is in every partition.
    ///
    /// # Errors
    /// [`crate::ErrorCode::GroupNotFound`] if there is none.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, AdminError> {
        let described = self.group_members(group).await?;
        let mut partitions: BTreeMap<TopicPartition, GroupPartition> = BTreeMap::new();
        let unread = |partition: TopicPartition| GroupPartition {
            partition,
            committed: None,
            metadata: String::new(),
            start: None,
            end: None,
            member_id: None,
        };
        for offset in self.committed_offsets(group, &[]).await? {
            let partition = TopicPartition::new(offset.topic, PartitionIndex(offset.partition));
            let found = partitions.entry(partition.clone()).or_insert_with(|| unread(partition));
            found.committed = offset.offset.map(Offset);
            found.metadata = offset.metadata;
        }
        for member in &described.members {
            for partition in each(&member.assignment) {
                let found = partitions.entry(partition.clone()).or_insert_with(|| unread(partition));
                found.member_id = Some(member.member_id.clone());
            }
        }
        for (partition, (start, end)) in self.ranges(partitions.keys().cloned()).await {
            if let Some(found) = partitions.get_mut(&partition) {
                (found.start, found.end) = (Some(start), Some(end));
            }
        }
        Ok(GroupDescription {
            group: described.group.unwrap_or_default(),
            assignor: described.assignor,
            group_epoch: described.group_epoch,
            members: described.members,
            partitions: partitions.into_values().collect(),
        })
    }

    /// Where these partitions begin and end; those that have no leader to ask are left out.
    async fn ranges(
        &self,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> BTreeMap<TopicPartition, (Offset, Offset)> {
        let mut ranges = BTreeMap::new();
        let mut asked: JoinSet<Option<(TopicPartition, (Offset, Offset))>> = JoinSet::new();
        for partition in partitions {
            if asked.len() >= OFFSETS_ASKED_AT_ONCE {
                ranges.extend(asked.join_next().await.and_then(Result::ok).flatten());
            }
            let admin = self.clone();
            asked.spawn(async move {
                let of = |at| admin.offset_within(OFFSET_PATIENCE, &partition.topic, partition.partition, at);
                let range = (of(StartAt::Start).await.ok()?, of(StartAt::End).await.ok()?);
                Some((partition, range))
            });
        }
        while let Some(answer) = asked.join_next().await {
            ranges.extend(answer.ok().flatten());
        }
        ranges
    }

    /// A member's heartbeat.
    pub(crate) async fn heartbeat(
        &self,
        patience: Duration,
        request: &api::ConsumerGroupHeartbeatRequest,
    ) -> Result<api::ConsumerGroupHeartbeatReply, AdminError> {
        let question = format!("heartbeat in group `{}`", request.group);
        self.ask_within(patience.min(GROUP_PATIENCE), &question, Whom::Anyone, |mut stub| {
            let request = request.clone();
            async move { stub.consumer_group_heartbeat(request).await }
        })
        .await
    }

    /// Deletes a group without members, with all its offsets.
    ///
    /// # Errors
    /// [`crate::ErrorCode::GroupNotFound`]: also if an earlier attempt whose answer was lost deleted it;
    /// [`crate::ErrorCode::GroupNotEmpty`].
    pub async fn delete_group(&self, group: &str) -> Result<(), AdminError> {
        let question = format!("delete group `{group}`");
        self.ask(&question, Whom::Anyone, |mut stub| {
            let request = api::DeleteConsumerGroupRequest { group: group.to_owned() };
            async move { stub.delete_consumer_group(request).await }
        })
        .await?;
        Ok(())
    }
}

/// The partitions one by one.
pub(crate) fn each(topics: &[api::TopicPartitions]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        let name: std::sync::Arc<str> = topic.topic.as_str().into();
        topic.partitions.iter().map(move |partition| TopicPartition {
            topic: name.clone(),
            partition: PartitionIndex(*partition),
        })
    })
}

/// Neighbours of one topic put together; the order stays.
pub(crate) fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> Vec<api::TopicPartitions> {
    let mut topics: Vec<api::TopicPartitions> = Vec::new();
    for partition in partitions {
        match topics.last_mut() {
            Some(last) if *last.topic == *partition.topic => last.partitions.push(partition.partition.0),
            _ => topics.push(api::TopicPartitions {
                topic: partition.topic.to_string(),
                partitions: vec![partition.partition.0],
            }),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(committed: Option<u64>, start: Option<u64>, end: Option<u64>) -> GroupPartition {
        GroupPartition {
            partition: TopicPartition::new("t", PartitionIndex(0)),
            committed: committed.map(Offset),
            metadata: String::new(),
            start: start.map(Offset),
            end: end.map(Offset),
            member_id: None,
        }
    }

    #[test]
    fn lag_counts_what_can_still_be_read() {
        assert_eq!(partition(Some(3), Some(0), Some(10)).lag(), Some(7));
        assert_eq!(partition(Some(3), Some(5), Some(10)).lag(), Some(5), "retention took some");
        assert_eq!(partition(Some(10), Some(0), Some(10)).lag(), Some(0));
        assert_eq!(partition(Some(12), Some(0), Some(10)).lag(), Some(0), "the topic was made anew");
        assert_eq!(partition(None, Some(0), Some(10)).lag(), None);
        assert_eq!(partition(Some(3), None, None).lag(), None);
    }

    #[test]
    fn partitions_keep_their_order() {
        let all = [("a", 2), ("a", 0), ("b", 1), ("a", 1)];
        let all = all.map(|(topic, partition)| TopicPartition::new(topic, PartitionIndex(partition)));
        let topics = by_topic(&all);
        assert_eq!(topics.len(), 3);
        assert_eq!(topics[0].partitions, [2, 0]);
        assert_eq!(each(&topics).collect::<Vec<_>>(), all);
    }
}
