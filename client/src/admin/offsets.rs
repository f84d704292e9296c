//! Offsets that consumer groups commit, read and changed from outside, and by members.

use super::groups::by_topic;
use super::{Admin, Whom};
use crate::consumer::StartAt;
use crate::error::{AdminError, ErrorCode, Refusal};
use crate::limits::{OFFSETS_ASKED_AT_ONCE, OFFSETS_PER_REQUEST};
use crate::record::TopicPartition;
use raftline_proto::api;
use raftline_proto::ids::{Offset, PartitionIndex};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// A committed offset that is to be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetReset {
    /// Of which partition.
    pub partition: TopicPartition,
    /// What is committed now, if anything is.
    pub from: Option<Offset>,
    /// What is to be.
    pub to: Offset,
}

impl Admin {
    /// A group's committed offsets: of these partitions, in their order, or (if none is named) all that there are. A
    /// group that does not exist has none.
    ///
    /// # Errors
    /// No coordinator answered in time.
    pub async fn committed_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<api::CommittedOffset>, AdminError> {
        let question = format!("committed offsets of group `{group}`");
        let mut offsets = Vec::new();
        // One question for all, if none is named.
        let parts = partitions.chunks(OFFSETS_PER_REQUEST).map(by_topic);
        let parts = if partitions.is_empty() { vec![Vec::new()] } else { parts.collect() };
        for partitions in parts {
            let request = api::FetchOffsetsRequest { group: group.to_owned(), partitions };
            let reply = self
                .ask(&question, Whom::Anyone, |mut stub| {
                    let request = request.clone();
                    async move { stub.fetch_offsets(request).await }
                })
                .await?;
            offsets.extend(reply.offsets);
        }
        Ok(offsets)
    }

    /// Commits offsets for a group without being in it.
    ///
    /// # Errors
    /// [`ErrorCode::GroupNotEmpty`] if the group has members: they say how far they are.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), AdminError> {
        let patience = self.cluster.config.request_timeout;
        self.commit_as(patience, group, None, offsets).await
    }

    /// Commits offsets, as a member in an epoch or from outside.
    pub(crate) async fn commit_as(
        &self,
        patience: Duration,
        group: &str,
        member: Option<(&str, i32)>,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), AdminError> {
        let question = format!("commit offsets of group `{group}`");
        let (member_id, member_epoch) = member.unwrap_or_default();
        let offsets: Vec<_> = offsets
            .iter()
            .map(|(partition, offset)| api::CommittedOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition.0,
                offset: Some(offset.get()),
                metadata: String::new(),
            })
            .collect();
        for offsets in offsets.chunks(OFFSETS_PER_REQUEST) {
            let request = api::CommitOffsetsRequest {
                group: group.to_owned(),
                member_id: member_id.to_owned(),
                member_epoch,
                offsets: offsets.to_vec(),
            };
            let reply = self
                .ask_within(patience, &question, Whom::Anyone, |mut stub| {
                    let request = request.clone();
                    async move { stub.commit_offsets(request).await }
                })
                .await?;
            none_failed(reply.failures)?;
        }
        Ok(())
    }

    /// Forgets committed offsets.
    ///
    /// # Errors
    /// [`ErrorCode::GroupNotFound`]; [`ErrorCode::GroupSubscribedToTopic`] while members read the topic.
    pub async fn delete_offsets(&self, group: &str, partitions: &[TopicPartition]) -> Result<(), AdminError> {
        let question = format!("delete offsets of group `{group}`");
        for partitions in partitions.chunks(OFFSETS_PER_REQUEST) {
            let request =
                api::DeleteOffsetsRequest { group: group.to_owned(), partitions: by_topic(partitions) };
            let reply = self
                .ask(&question, Whom::Anyone, |mut stub| {
                    let request = request.clone();
                    async move { stub.delete_offsets(request).await }
                })
                .await?;
            none_failed(reply.failures)?;
        }
        Ok(())
    }

    /// What a group's offsets in these partitions of a topic (empty: in all) would be at `to`. Changes nothing: hand
    /// it to [`Admin::commit_offsets`].
    ///
    /// # Errors
    /// The topic or a partition does not exist, or an offset is not within one.
    pub async fn plan_reset(
        &self,
        group: &str,
        topic: &str,
        partitions: &[PartitionIndex],
        to: StartAt,
    ) -> Result<Vec<OffsetReset>, AdminError> {
        let partitions = if partitions.is_empty() {
            let described = self.describe_topic(topic).await?.topic.unwrap_or_default();
            described.partitions.iter().map(|found| PartitionIndex(found.partition)).collect()
        } else {
            partitions.to_vec()
        };
        let partitions: Vec<TopicPartition> =
            partitions.into_iter().map(|partition| TopicPartition::new(topic, partition)).collect();
        let committed = self.committed_offsets(group, &partitions).await?;
        let targets = match to {
            StartAt::Offset(offset) => self.within(&partitions, offset).await?,
            StartAt::Start | StartAt::End | StartAt::Timestamp(_) => self.offsets(&partitions, to).await?,
        };
        let resets =
            partitions.into_iter().zip(committed).zip(targets).map(|((partition, committed), to)| {
                OffsetReset { partition, from: committed.offset.map(Offset), to }
            });
        Ok(resets.collect())
    }

    /// The offset for each, if all have it or have it next.
    async fn within(&self, partitions: &[TopicPartition], asked: Offset) -> Result<Vec<Offset>, AdminError> {
        let starts = self.offsets(partitions, StartAt::Start).await?;
        let ends = self.offsets(partitions, StartAt::End).await?;
        for ((partition, start), end) in partitions.iter().zip(starts).zip(ends) {
            if !(start..=end).contains(&asked) {
                let message =
                    format!("{partition} has no offset {asked}: choose one from {start} through {end}");
                return Err(Refusal { code: ErrorCode::OffsetOutOfRange, message }.into());
            }
        }
        Ok(vec![asked; partitions.len()])
    }

    /// The offset at a place of each partition, in their order.
    pub(crate) async fn offsets(
        &self,
        partitions: &[TopicPartition],
        at: StartAt,
    ) -> Result<Vec<Offset>, AdminError> {
        let mut offsets = vec![Offset::ZERO; partitions.len()];
        let mut asked = JoinSet::new();
        for (position, partition) in partitions.iter().cloned().enumerate() {
            if asked.len() >= OFFSETS_ASKED_AT_ONCE {
                answered(&mut asked, &mut offsets).await?;
            }
            let admin = self.clone();
            asked.spawn(async move {
                Ok((position, admin.offset(&partition.topic, partition.partition, at).await?))
            });
        }
        while !asked.is_empty() {
            answered(&mut asked, &mut offsets).await?;
        }
        Ok(offsets)
    }
}

/// Takes one answer.
async fn answered(
    asked: &mut JoinSet<Result<(usize, Offset), AdminError>>,
    offsets: &mut [Offset],
) -> Result<(), AdminError> {
    // A task that was aborted has no answer: its runtime is shutting down, and nobody will read this one.
    if let Some(Ok(answer)) = asked.join_next().await {
        let (position, offset) = answer?;
        offsets[position] = offset;
    }
    Ok(())
}

fn none_failed(failures: Vec<api::PartitionFailure>) -> Result<(), AdminError> {
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => {
            let why = crate::cluster::refusal(first.error.unwrap_or_default());
            let message = format!("{}/{}: {}", first.topic, first.partition, why.message);
            Err(Refusal { message, ..why }.into())
        }
    }
}
