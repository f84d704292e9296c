//! One heartbeat: who is it, what changed, what is the target now, and what is the member's next step.

use super::convert::session_ends;
use super::reconcile::reconcile;
use super::{ConsumerGroup, Session};
use crate::consumer_groups::assignor::{assign, preferred};
use crate::consumer_groups::expressions::Catalog;
use crate::consumer_groups::limits::MEMBERS_MAX;
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::names::uuid;
use crate::consumer_groups::record::{
    Assignment, ConsumerMemberValue, CurrentValue, GroupRecord, MemberState,
};
use crate::consumer_groups::types::{ConsumerHeartbeat, ConsumerHeartbeatAnswer, GroupError, GroupResponse};
use crate::types::RequestId;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Who a heartbeat is from.
enum Who {
    /// Somebody who is not in the group.
    New,
    /// A member.
    Known,
    /// A static member under a new id; the old one left for a while.
    InPlaceOf(String),
}

impl ConsumerGroup {
    /// A member joins, lives or reports. The answer waits for what is planned.
    pub fn heartbeat(
        &mut self,
        mut beat: ConsumerHeartbeat,
        request: RequestId,
        catalog: &mut Catalog<'_>,
        turn: &mut Turn<'_>,
    ) {
        if beat.member_id.is_empty() {
            beat.member_id = uuid(beat.fresh_id);
        }
        let who = match self.identify(&beat, turn) {
            Ok(who) => who,
            Err(error) => return turn.refuse(request, error),
        };
        let mut plan = Vec::new();
        if let Who::InPlaceOf(old_id) = &who {
            self.replace(old_id, &beat.member_id, &mut plan);
        }
        let resolves = self.resolve_expressions();
        if self.update_member(&beat, &mut plan) || resolves || matches!(who, Who::New) {
            self.move_epoch(catalog, turn.now.wall, &mut plan);
        }
        if self.group_value().epoch > self.target_epoch() {
            self.make_target(catalog, &mut plan);
        }
        let (before, after) = self.step(&beat.member_id, beat.owned.as_ref(), &mut plan);
        self.begin_session(&beat.member_id, &before, &after, turn);
        turn.append_each(plan);
        let subscribes = beat.subscribed_topics.is_some() || beat.subscribed_regex.is_some();
        let full = beat.rebalance_timeout_ms >= 0 && subscribes && beat.owned.is_some();
        // An epoch of the past says that the answer which told the new one was lost.
        let told = beat.member_epoch == before.member_epoch && before.assigned == after.assigned;
        let answer = ConsumerHeartbeatAnswer {
            member_id: beat.member_id,
            member_epoch: after.member_epoch,
            heartbeat_interval_ms: millis(turn.config.consumer_heartbeat_interval),
            assignment: (beat.member_epoch == 0 || full || !told).then_some(after.assigned),
        };
        turn.respond_committed(request, &self.id, GroupResponse::ConsumerHeartbeat(answer));
    }

    /// Whether the member of this id may speak, in this epoch. Changes nothing.
    fn identify(&self, beat: &ConsumerHeartbeat, turn: &Turn<'_>) -> Result<Who, GroupError> {
        let joins = beat.member_epoch == 0;
        if let Some(instance_id) = &beat.instance_id
            && let Some(holder) = self.holder(instance_id)
            && *holder != beat.member_id
        {
            return match self.state.currents.get(holder) {
                // One that spoke the classic protocol is restarted with the new one.
                Some(current)
                    if joins && (current.member_epoch == LEFT_FOR_A_WHILE || self.is_classic(holder)) =>
                {
                    Ok(Who::InPlaceOf(holder.clone()))
                }
                Some(_) | None if joins => Err(GroupError::UnreleasedInstanceId),
                Some(_) | None => Err(GroupError::FencedInstanceId),
            };
        }
        if self.state.members.contains_key(&beat.member_id) {
            if !joins {
                self.check_epoch(beat)?;
            }
            return Ok(Who::Known);
        }
        if !joins {
            return Err(GroupError::UnknownMemberId);
        }
        if self.state.members.len() >= turn.config.members_max.min(MEMBERS_MAX) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(Who::New)
    }

    /// The member's epoch is the current one; or the one before, if the answer with the current one was lost and the
    /// member owns nothing that it should not.
    fn check_epoch(&self, beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
        let current = self.state.currents.get(&beat.member_id).ok_or(GroupError::FencedMemberEpoch)?;
        let lost = beat.member_epoch < current.member_epoch
            && beat.member_epoch == current.previous_epoch
            && beat.owned.as_ref().is_some_and(|owned| is_subset(owned, &current.assigned));
        if beat.member_epoch == current.member_epoch || lost {
            return Ok(());
        }
        Err(GroupError::FencedMemberEpoch)
    }

    /// A static member comes back: it has what its predecessor had.
    pub(super) fn replace(&mut self, old_id: &str, id: &str, plan: &mut Vec<GroupRecord>) {
        let member = self.state.members.get(old_id).cloned();
        let target = self.state.targets.get(old_id).cloned();
        let assigned = self.state.currents.get(old_id).map(|current| current.assigned.clone());
        for tombstone in self.member_tombstones(old_id) {
            self.plan(tombstone, plan);
        }
        self.sessions.remove(old_id);
        let (group, member_id) = (self.id.clone(), String::from(id));
        let current = CurrentValue { assigned: assigned.unwrap_or_default(), ..CurrentValue::default() };
        let records = [
            GroupRecord::ConsumerMember { group: group.clone(), member_id: member_id.clone(), value: member },
            GroupRecord::ConsumerTarget { group: group.clone(), member_id: member_id.clone(), value: target },
            GroupRecord::ConsumerCurrent { group, member_id, value: Some(current) },
        ];
        for record in records {
            self.plan(record, plan);
        }
    }

    /// Takes over what the heartbeat says of the member. Whether that matters to the target.
    fn update_member(&mut self, beat: &ConsumerHeartbeat, plan: &mut Vec<GroupRecord>) -> bool {
        let known = self.state.members.get(&beat.member_id).cloned();
        let before = known.clone().unwrap_or_default();
        let mut after = ConsumerMemberValue {
            client_id: beat.client_id.clone(),
            client_host: beat.client_host.clone(),
            ..before.clone()
        };
        if beat.instance_id.is_some() {
            after.instance_id.clone_from(&beat.instance_id);
        }
        if beat.rack_id.is_some() {
            after.rack_id.clone_from(&beat.rack_id);
        }
        if let Ok(ms) = u32::try_from(beat.rebalance_timeout_ms) {
            after.rebalance_timeout_ms = ms;
        }
        if let Some(topics) = &beat.subscribed_topics {
            after.subscribed_topics = topics.iter().cloned().collect::<BTreeSet<String>>();
        }
        if let Some(text) = &beat.subscribed_regex {
            after.subscribed_regex = Some(text.clone()).filter(|text| !text.is_empty());
            self.note_unresolved(&after);
        }
        after.classic = None;
        if beat.server_assignor.is_some() {
            after.server_assignor.clone_from(&beat.server_assignor);
        }
        let matters = before.subscribed_topics != after.subscribed_topics
            || before.subscribed_regex != after.subscribed_regex
            || before.server_assignor != after.server_assignor;
        if known.as_ref() != Some(&after) {
            let (group, member_id) = (self.id.clone(), beat.member_id.clone());
            self.plan(GroupRecord::ConsumerMember { group, member_id, value: Some(after) }, plan);
        }
        matters
    }

    /// The target for the group epoch. The record that says so comes last: a leader that finds only some of the
    /// targets makes them anew.
    pub(super) fn make_target(&mut self, catalog: &mut Catalog<'_>, plan: &mut Vec<GroupRecord>) {
        let assignor = preferred(&self.state.members);
        let matches = self.matches(catalog);
        let targets = assign(assignor, &self.state.members, &matches, &self.state.targets, catalog.topics);
        for (member_id, target) in targets {
            if self.state.targets.get(&member_id) != Some(&target) {
                let group = self.id.clone();
                self.plan(GroupRecord::ConsumerTarget { group, member_id, value: Some(target) }, plan);
            }
        }
        let (group, epoch) = (self.id.clone(), self.group_value().epoch);
        self.plan(GroupRecord::ConsumerTargetEpoch { group, value: Some(epoch) }, plan);
    }

    /// The member's next step towards its target: where it was and where it is.
    pub(super) fn step(
        &mut self,
        id: &str,
        owned: Option<&Assignment>,
        plan: &mut Vec<GroupRecord>,
    ) -> (CurrentValue, CurrentValue) {
        let known = self.state.currents.get(id);
        let before = known.cloned().unwrap_or_default();
        let nothing = Assignment::new();
        let target = self.state.targets.get(id).unwrap_or(&nothing);
        let others = self.state.currents.iter().filter(|(other, _)| **other != id);
        let others: Vec<&CurrentValue> = others.map(|(_, current)| current).collect();
        let after = reconcile(&before, self.target_epoch(), target, owned, &others);
        if known != Some(&after) {
            let (group, member_id) = (self.id.clone(), String::from(id));
            self.plan(GroupRecord::ConsumerCurrent { group, member_id, value: Some(after.clone()) }, plan);
        }
        (before, after)
    }

    pub(super) fn begin_session(
        &mut self,
        member_id: &str,
        before: &CurrentValue,
        after: &CurrentValue,
        turn: &Turn<'_>,
    ) {
        let now = turn.now.monotonic;
        let member = self.state.members.get(member_id);
        let span = Duration::from_millis(u64::from(member.map_or(0, |member| member.rebalance_timeout_ms)));
        let earlier = self.sessions.get(member_id).and_then(|session| session.revoke_by);
        let revoke_by = match after.state {
            MemberState::UnrevokedPartitions if before.revoking == after.revoking => {
                earlier.or(Some(now + span))
            }
            MemberState::UnrevokedPartitions => Some(now + span),
            MemberState::Stable | MemberState::UnreleasedPartitions => None,
        };
        let ends = session_ends(member, turn.config.consumer_session_timeout, now);
        self.sessions.insert(String::from(member_id), Session { ends, revoke_by, rejoin_by: None });
    }
}

/// The epoch of a static member that left for a while.
pub(super) const LEFT_FOR_A_WHILE: i32 = -2;

fn is_subset(owned: &Assignment, assigned: &Assignment) -> bool {
    owned.iter().all(|(topic, partitions)| {
        partitions.is_empty() || assigned.get(topic).is_some_and(|assigned| partitions.is_subset(assigned))
    })
}

fn millis(span: Duration) -> i32 {
    i32::try_from(span.as_millis()).unwrap_or(i32::MAX)
}
