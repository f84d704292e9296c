//! What a group shows of itself, and what others have to ask it before they act.

use super::{ClassicGroup, Member, State};
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::subscription::topics_of;
use crate::consumer_groups::types::{ClassicDescription, ClassicMemberDescription, GroupError, OffsetCommit};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

impl ClassicGroup {
    /// Kafka's word for the state.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance(_) => "PreparingRebalance",
            State::CompletingRebalance(_) => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// The type of its members; empty if it never had any.
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// The group as it is now.
    pub fn describe(&self) -> ClassicDescription {
        let stable = self.state == State::Stable;
        let protocol = if stable { self.protocol.clone().unwrap_or_default() } else { String::new() };
        let member = |(member_id, member): (&String, &Member)| ClassicMemberDescription {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.subscription(&protocol).to_owned() } else { Vec::new() },
            assignment: if stable { member.assignment.clone() } else { Vec::new() },
        };
        let members = self.members.iter().map(member).collect();
        let protocol_type = self.protocol_type().to_owned();
        ClassicDescription { state: self.state_name(), protocol_type, protocol, members }
    }

    /// Whether this member may commit offsets now; a member that does, lives.
    ///
    /// # Errors
    /// What it has to do instead.
    pub fn check_commit(&mut self, commit: &OffsetCommit, turn: &Turn<'_>) -> Result<(), GroupError> {
        if commit.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&commit.member_id, commit.instance_id.as_ref())?;
        if commit.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance(_) => return Err(GroupError::RebalanceInProgress),
            State::Empty | State::PreparingRebalance(_) | State::Stable => {}
        }
        if let Some(member) = self.members.get_mut(&commit.member_id) {
            member.alive(turn.now.monotonic);
        }
        Ok(())
    }

    /// Whether offsets of `topic` may be deleted.
    ///
    /// # Errors
    /// A group of consumers protects the topics that they are subscribed to; another one all.
    pub fn check_offset_delete(&self, topic: &str) -> Result<(), GroupError> {
        if self.state == State::Empty {
            return Ok(());
        }
        if self.protocol_type() != CONSUMER {
            return Err(GroupError::NonEmptyGroup);
        }
        // Whoever cannot be understood may be subscribed to anything.
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let uses = |member: &Member| {
            topics_of(member.subscription(protocol)).is_none_or(|topics| topics.contains(topic))
        };
        if self.members.values().any(uses) { Err(GroupError::GroupSubscribedToTopic) } else { Ok(()) }
    }

    /// Whether this is a member, and still the one with its instance id.
    pub(super) fn check_member(&self, id: &str, instance_id: Option<&String>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if current != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }
}

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";
