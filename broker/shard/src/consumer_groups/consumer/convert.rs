//! From a classic group to one of the new protocol and back, while its members live (KIP-848, "online migration"): a rolling
//! restart of consumers changes their protocol in either direction.
//!
//! Either way each member keeps what it has, and the epoch goes on from the generation, or the reverse: so that no member
//! mistakes one for the other. All of it is one batch of records.

use super::{ConsumerGroup, Session};
use crate::consumer_groups::classic::{ClassicGroup, Migrating};
use crate::consumer_groups::expressions::Catalog;
use crate::consumer_groups::limits::GROUP_BYTES_MAX;
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::record::{
    Assignment, ClassicMemberValue, ClassicSupport, ClassicValue, ConsumerMemberValue, ConsumerValue,
    CurrentValue, GroupRecord, MemberState,
};
use crate::consumer_groups::subscription::Subscription;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::time::Monotonic;

impl ConsumerGroup {
    /// A classic group's members as members of a group of the new protocol, and the records that make it one.
    pub fn from_classic(
        id: &str,
        migrating: Vec<Migrating>,
        generation: i32,
        catalog: &mut Catalog<'_>,
        turn: &Turn<'_>,
    ) -> (Self, Vec<GroupRecord>) {
        let (mut group, mut plan) = (Self::new(id.to_owned()), Vec::new());
        let epoch = generation.max(1);
        let mut taken: BTreeSet<(String, i32)> = BTreeSet::new();
        for Migrating { member_id, value, assigned } in migrating {
            let assigned = claim(&assigned, catalog, &mut taken);
            let current = CurrentValue {
                member_epoch: epoch,
                previous_epoch: epoch,
                state: MemberState::Stable,
                assigned: assigned.clone(),
                ..CurrentValue::default()
            };
            let session_timeout_ms = value.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms);
            let session = Duration::from_millis(u64::from(session_timeout_ms));
            let ends = turn.now.monotonic + session;
            group.sessions.insert(member_id.clone(), Session { ends, revoke_by: None, rejoin_by: None });
            let (of, name) = (|| id.to_owned(), || member_id.clone());
            let records = [
                GroupRecord::ConsumerMember { group: of(), member_id: name(), value: Some(value) },
                GroupRecord::ConsumerTarget { group: of(), member_id: name(), value: Some(assigned) },
                GroupRecord::ConsumerCurrent { group: of(), member_id: name(), value: Some(current) },
            ];
            for record in records {
                group.plan(record, &mut plan);
            }
        }
        let value = ConsumerValue {
            epoch,
            topics_digest: group.topics_digest(catalog),
            epoch_timestamp: turn.now.wall,
        };
        group.plan(GroupRecord::Consumer { group: id.to_owned(), value: Some(value) }, &mut plan);
        let target_epoch = GroupRecord::ConsumerTargetEpoch { group: id.to_owned(), value: Some(epoch) };
        group.plan(target_epoch, &mut plan);
        (group, plan)
    }

    /// The group as a classic one, if all its members speak the classic protocol, and it has any.
    pub fn to_classic(&self, turn: &Turn<'_>) -> Option<ClassicGroup> {
        let members: Option<Vec<(&String, &ConsumerMemberValue, &ClassicSupport)>> = self
            .state
            .members
            .iter()
            .map(|(id, member)| member.classic.as_ref().map(|classic| (id, member, classic)))
            .collect();
        let members = members.filter(|members| !members.is_empty())?;
        let said: usize = members
            .iter()
            .flat_map(|(_, _, classic)| &classic.protocols)
            .map(|protocol| protocol.name.len() + protocol.metadata.len())
            .sum();
        // More than the record of a classic group holds.
        if said > GROUP_BYTES_MAX {
            return None;
        }
        let all_offer = |name: &str| {
            members.iter().all(|(_, _, classic)| classic.protocols.iter().any(|other| other.name == name))
        };
        let offered = members.iter().flat_map(|(_, _, classic)| &classic.protocols);
        let protocol = offered.map(|protocol| &protocol.name).find(|name| all_offer(name))?.clone();
        let value = |(id, member, classic): &(&String, &ConsumerMemberValue, &ClassicSupport)| {
            let said = classic.protocols.iter().find(|offered| offered.name == protocol);
            let subscription = said.map(|offered| offered.metadata.clone()).unwrap_or_default();
            let none = Assignment::new();
            let target = self.state.targets.get(*id).unwrap_or(&none);
            ClassicMemberValue {
                member_id: (*id).clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                session_timeout_ms: classic.session_timeout_ms,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                assignment: Subscription::read(&subscription)
                    .map(|read| read.assignment(target))
                    .unwrap_or_default(),
                subscription,
            }
        };
        let value = ClassicValue {
            generation: self.generation(),
            protocol_type: super::classic::CONSUMER.to_owned(),
            leader: members.first().map(|(id, _, _)| (*id).clone()),
            state_timestamp: turn.now.wall,
            members: members.iter().map(value).collect(),
            protocol: Some(protocol.clone()),
        };
        let offers = members.iter().map(|(id, _, classic)| ((*id).clone(), classic.protocols.clone()));
        Some(ClassicGroup::from_consumer(&self.id, &value, offers.collect(), turn.now.monotonic))
    }

    /// The generation of the group as a classic one: the latest epoch that a member knows, so that these members hear
    /// `REBALANCE_IN_PROGRESS` and keep what they have until they have joined again. The group's own epoch has moved with
    /// whoever went, and no member was told: with that one all would be put out (`ILLEGAL_GENERATION`).
    fn generation(&self) -> i32 {
        let known = self.state.currents.values().map(|current| current.member_epoch).max();
        known.filter(|epoch| *epoch > 0).unwrap_or_else(|| self.group_value().epoch)
    }

    /// Whether every member speaks the classic protocol, and there is one.
    pub fn is_all_classic(&self) -> bool {
        !self.is_empty() && self.state.members.values().all(|member| member.classic.is_some())
    }
}

/// What a member has of topics that exist, and that no other member has.
fn claim(assigned: &Assignment, catalog: &Catalog<'_>, taken: &mut BTreeSet<(String, i32)>) -> Assignment {
    let mut claimed = Assignment::new();
    for (topic, partitions) in assigned {
        let count = catalog.topics.get(topic).map_or(0, |topic| topic.partitions);
        for partition in partitions.iter().filter(|partition| (0..count).contains(*partition)) {
            if taken.insert((topic.clone(), *partition)) {
                claimed.entry(topic.clone()).or_default().insert(*partition);
            }
        }
    }
    claimed
}

/// When a member's session ends that begins now.
pub(super) fn session_ends(
    member: Option<&ConsumerMemberValue>,
    default: Duration,
    now: Monotonic,
) -> Monotonic {
    let classic = member.and_then(|member| member.classic.as_ref());
    now + classic.map_or(default, |classic| Duration::from_millis(u64::from(classic.session_timeout_ms)))
}
