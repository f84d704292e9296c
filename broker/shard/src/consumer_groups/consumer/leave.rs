//! Members that go: by their own word, by silence, or because they kept what they had to give up.

use super::heartbeat::LEFT_FOR_A_WHILE;
use super::{ConsumerGroup, TopicsChange};
use crate::consumer_groups::expressions::Catalog;
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::record::{Assignment, CurrentValue, GroupRecord, MemberState};
use crate::consumer_groups::types::{ConsumerHeartbeat, ConsumerHeartbeatAnswer, GroupError, GroupResponse};
use crate::types::RequestId;
use alloc::string::String;
use alloc::vec::Vec;

impl ConsumerGroup {
    /// A member says that it goes (epoch -1), or that it comes back soon (-2).
    pub fn leave(
        &mut self,
        beat: ConsumerHeartbeat,
        request: RequestId,
        catalog: &mut Catalog<'_>,
        turn: &mut Turn<'_>,
    ) {
        if let Err(error) = self.check_leave(&beat) {
            turn.refuse(request, error);
            return;
        }
        let mut plan = Vec::new();
        if beat.member_epoch == LEFT_FOR_A_WHILE {
            self.leave_for_a_while(&beat.member_id, &mut plan);
        } else {
            self.fence(core::slice::from_ref(&beat.member_id), catalog, turn, &mut plan);
        }
        turn.append_each(plan);
        let answer = ConsumerHeartbeatAnswer {
            member_id: beat.member_id,
            member_epoch: beat.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        turn.respond_committed(request, &self.id, GroupResponse::ConsumerHeartbeat(answer));
    }

    /// What is due by now.
    pub fn tick(&mut self, catalog: &mut Catalog<'_>, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let due = self.sessions.iter().filter(|(_, session)| {
            let is_due = |deadline: Option<_>| deadline.is_some_and(|deadline| deadline <= now);
            session.ends <= now || is_due(session.revoke_by) || is_due(session.rejoin_by)
        });
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        if !due.is_empty() {
            let mut plan = Vec::new();
            self.fence(&due, catalog, turn, &mut plan);
            turn.append_each(plan);
        }
        if self.following.deadline().is_some_and(|deadline| deadline <= now) {
            self.topics_changed(TopicsChange::Came, catalog, turn);
        }
    }

    fn check_leave(&self, beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
        if let Some(instance_id) = &beat.instance_id {
            let holder = self.holder(instance_id).ok_or(GroupError::UnknownMemberId)?;
            if *holder != beat.member_id {
                return Err(GroupError::FencedInstanceId);
            }
        }
        if !self.state.members.contains_key(&beat.member_id) {
            return Err(GroupError::UnknownMemberId);
        }
        Ok(())
    }

    /// Takes members out. The group epoch moves first: whatever part of this a new leader finds, it makes another
    /// target.
    pub(super) fn fence(
        &mut self,
        ids: &[String],
        catalog: &mut Catalog<'_>,
        turn: &Turn<'_>,
        plan: &mut Vec<GroupRecord>,
    ) {
        self.move_epoch(catalog, turn.now.wall, plan);
        for id in ids {
            for tombstone in self.member_tombstones(id) {
                self.plan(tombstone, plan);
            }
            self.sessions.remove(id);
        }
    }

    /// A static member keeps its partitions until its session ends; what it was giving up it has given up.
    fn leave_for_a_while(&mut self, id: &str, plan: &mut Vec<GroupRecord>) {
        let current = self.state.currents.get(id).cloned().unwrap_or_default();
        let value = CurrentValue {
            previous_epoch: current.member_epoch,
            member_epoch: LEFT_FOR_A_WHILE,
            state: MemberState::Stable,
            revoking: Assignment::new(),
            ..current.clone()
        };
        let value = value.after(&current);
        let (group, member_id) = (self.id.clone(), String::from(id));
        self.plan(GroupRecord::ConsumerCurrent { group, member_id, value: Some(value) }, plan);
        if let Some(session) = self.sessions.get_mut(id) {
            session.revoke_by = None;
        }
    }
}
