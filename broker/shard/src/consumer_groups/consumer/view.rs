//! What a group shows of itself, and what others have to ask it before they act.

use super::ConsumerGroup;
use crate::consumer_groups::assignor::preferred;
use crate::consumer_groups::expressions::{Catalog, TopicNames};
use crate::consumer_groups::record::{ConsumerMemberValue, CurrentValue, MemberState};
use crate::consumer_groups::types::{
    ConsumerDescription, ConsumerMemberDescription, GroupError, OffsetCommit, OffsetFetch, TopicPartition,
};
use alloc::string::String;

impl ConsumerGroup {
    /// Kafka's word for the state.
    pub fn state_name(&self) -> &'static str {
        let group = self.group_value();
        let settled = self.state.currents.values().all(|current| {
            current.state == MemberState::Stable && current.member_epoch == self.target_epoch()
        });
        if self.is_empty() {
            "Empty"
        } else if group.epoch > self.target_epoch() {
            "Assigning"
        } else if settled {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The group as it will be once all that is appended is committed.
    pub fn describe(&self) -> ConsumerDescription {
        let group = self.group_value();
        let member = |(member_id, member): (&String, &ConsumerMemberValue)| {
            let current = self.state.currents.get(member_id).cloned().unwrap_or_default();
            ConsumerMemberDescription {
                member_id: member_id.clone(),
                instance_id: member.instance_id.clone(),
                rack_id: member.rack_id.clone(),
                member_epoch: current.member_epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                subscribed_topics: member.subscribed_topics.iter().cloned().collect(),
                subscribed_regex: member.subscribed_regex.clone(),
                assignment: current.assigned,
                target: self.state.targets.get(member_id).cloned().unwrap_or_default(),
                is_classic: member.classic.is_some(),
            }
        };
        ConsumerDescription {
            state: self.state_name(),
            group_epoch: group.epoch,
            assignment_epoch: self.target_epoch(),
            assignor: preferred(&self.state.members).name(),
            members: self.state.members.iter().map(member).collect(),
        }
    }

    /// Whether this member may commit these offsets in this epoch: in its own, or in an older one if it has had all of
    /// these partitions ever since (KIP-1251). A commit may be on its way while a heartbeat's answer moves the epoch;
    /// what others have had in between may not be set back by it.
    ///
    /// # Errors
    /// What it has to do instead.
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), GroupError> {
        if commit.generation < 0 && self.is_empty() {
            return Ok(());
        }
        let checked = self.check_member(&commit.member_id, commit.generation);
        match self.state.currents.get(&commit.member_id) {
            Some(current)
                if checked.is_err() && !self.is_classic(&commit.member_id) && current.has_had(commit) =>
            {
                Ok(())
            }
            Some(_) | None => checked,
        }
    }

    /// Whether this member may fetch offsets in this epoch; without a member, anybody may.
    ///
    /// # Errors
    /// What it has to do instead.
    pub fn check_fetch(&self, fetch: &OffsetFetch) -> Result<(), GroupError> {
        match &fetch.member_id {
            None if fetch.member_epoch < 0 => Ok(()),
            Some(id) if id.is_empty() && fetch.member_epoch < 0 => Ok(()),
            Some(id) => self.check_member(id, fetch.member_epoch),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// The topics that any member is subscribed to, by name or by an expression.
    pub fn subscribed_topics(&self, catalog: &mut Catalog<'_>) -> TopicNames {
        let mut names: TopicNames =
            self.matches(catalog).values().flat_map(|names| names.iter().cloned()).collect();
        names.extend(self.state.members.values().flat_map(|member| member.subscribed_topics.iter().cloned()));
        names
    }

    /// The member with this instance id.
    pub(super) fn holder(&self, instance_id: &str) -> Option<&String> {
        let holds = |member: &ConsumerMemberValue| member.instance_id.as_deref() == Some(instance_id);
        self.state.members.iter().find(|(_, member)| holds(member)).map(|(id, _)| id)
    }

    /// Whether the member speaks the classic protocol.
    pub(super) fn is_classic(&self, id: &str) -> bool {
        self.state.members.get(id).is_some_and(|member| member.classic.is_some())
    }

    fn check_member(&self, id: &str, epoch: i32) -> Result<(), GroupError> {
        if !self.state.members.contains_key(id) {
            return Err(GroupError::UnknownMemberId);
        }
        match self.state.currents.get(id) {
            Some(current) if current.member_epoch == epoch => Ok(()),
            Some(_) | None if self.is_classic(id) => Err(GroupError::IllegalGeneration),
            Some(_) | None => Err(GroupError::StaleMemberEpoch),
        }
    }
}

impl CurrentValue {
    /// Whether the commit is from an older epoch, and the member has had all its partitions since then or before.
    fn has_had(&self, commit: &OffsetCommit) -> bool {
        let mut partitions = commit.offsets.iter().map(|offset| &offset.topic_partition);
        commit.generation < self.member_epoch
            && partitions.all(|TopicPartition { topic, partition }| {
                self.owned_since(topic, *partition).is_some_and(|epoch| epoch <= commit.generation)
            })
    }
}
