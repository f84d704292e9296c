//! SyncGroup, Heartbeat and LeaveGroup.

use super::{Assigning, ClassicGroup, State};
use crate::consumer_groups::limits::GROUP_BYTES_MAX;
use crate::consumer_groups::log::{After, Turn};
use crate::consumer_groups::types::{
    GroupError, GroupResponse, Heartbeat, LeaveGroup, LeavingMember, LeftMember, SyncGroup, Synced,
};
use crate::types::RequestId;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

impl ClassicGroup {
    /// A member asks for its part; the leader brings everybody's.
    pub fn sync(&mut self, sync: SyncGroup, request: RequestId, turn: &mut Turn<'_>) {
        if let Err(error) = self.check_sync(&sync) {
            turn.refuse(request, error);
            return;
        }
        let Some(member) = self.members.get_mut(&sync.member_id) else {
            turn.refuse(request, GroupError::UnknownMemberId);
            return;
        };
        match self.state {
            State::Empty => turn.refuse(request, GroupError::UnknownMemberId),
            State::PreparingRebalance(_) => turn.refuse(request, GroupError::RebalanceInProgress),
            State::CompletingRebalance(assigning) => {
                member.owes_sync = false;
                member.session = None;
                if let Some(earlier) = member.syncing.replace(request) {
                    turn.refuse(earlier, GroupError::RebalanceInProgress);
                }
                if assigning == Assigning::Awaited && self.leader.as_ref() == Some(&sync.member_id) {
                    self.assign(sync.assignments, turn);
                }
            }
            State::Stable => {
                member.owes_sync = false;
                member.alive(turn.now.monotonic);
                let assignment = member.assignment.clone();
                let synced = self.synced_with(assignment);
                turn.respond(request, Ok(synced));
            }
        }
        self.maybe_all_synced();
    }

    /// The leader's assignment is committed: everybody who waits for it gets it.
    pub fn synced(&mut self, generation: i32, turn: &mut Turn<'_>) {
        if generation != self.generation || self.state != State::CompletingRebalance(Assigning::Storing) {
            return;
        }
        self.state = State::Stable;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(request) = member.syncing.take() else { continue };
            member.alive(turn.now.monotonic);
            let assignment = member.assignment.clone();
            let synced = self.synced_with(assignment);
            turn.respond(request, Ok(synced));
        }
        self.maybe_all_synced();
    }

    /// The leader's assignment was not committed in time. It may still be: the group goes on to another generation.
    pub fn sync_failed(&mut self, generation: i32, turn: &mut Turn<'_>) {
        if generation == self.generation && self.state == State::CompletingRebalance(Assigning::Storing) {
            self.refuse_syncs(&GroupError::CoordinatorNotAvailable, turn);
            self.rebalance(turn);
        }
    }

    /// A member lives.
    ///
    /// # Errors
    /// What it has to do instead.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, turn: &Turn<'_>) -> Result<(), GroupError> {
        self.check_member(&heartbeat.member_id, heartbeat.instance_id.as_ref())?;
        if heartbeat.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&heartbeat.member_id) {
            member.alive(turn.now.monotonic);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance(_) => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance(_) | State::Stable => Ok(()),
        }
    }

    /// Members go; the answer waits for the record if the group is empty then.
    pub fn leave(&mut self, leave: LeaveGroup, request: RequestId, turn: &mut Turn<'_>) {
        let mut left = Vec::with_capacity(leave.members.len());
        let members = self.members.len();
        for leaving in leave.members {
            let error = self.leave_one(&leaving, turn).err();
            let LeavingMember { member_id, instance_id } = leaving;
            left.push(LeftMember { member_id, instance_id, error });
        }
        if self.members.len() < members {
            self.rebalance(turn);
        } else {
            // Perhaps an id that was given out and never used goes: others need not wait for it.
            self.maybe_complete_join(turn);
        }
        if self.state == State::Empty {
            turn.respond_committed(request, &self.id, GroupResponse::Left(left));
        } else {
            turn.respond(request, Ok(GroupResponse::Left(left)));
        }
    }

    fn leave_one(&mut self, leaving: &LeavingMember, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        if leaving.instance_id.is_none() && self.pending.remove(&leaving.member_id).is_some() {
            return Ok(());
        }
        let id = match &leaving.instance_id {
            Some(instance_id) if leaving.member_id.is_empty() => {
                self.instances.get(instance_id).cloned().ok_or(GroupError::UnknownMemberId)?
            }
            Some(_) | None => {
                self.check_member(&leaving.member_id, leaving.instance_id.as_ref())?;
                leaving.member_id.clone()
            }
        };
        self.remove(&id, turn);
        Ok(())
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<(), GroupError> {
        self.check_member(&sync.member_id, sync.instance_id.as_ref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |asked: &Option<String>, ours: &Option<String>| asked.is_some() && asked != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// Makes the leader's assignment the group's; members that it does not name get nothing.
    fn assign(&mut self, assignments: Vec<(String, Vec<u8>)>, turn: &mut Turn<'_>) {
        let mut assignments: BTreeMap<String, Vec<u8>> = assignments.into_iter().collect();
        let bytes: usize = assignments.values().map(Vec::len).sum();
        if bytes > GROUP_BYTES_MAX {
            self.refuse_syncs(&GroupError::UnknownServerError, turn);
            self.rebalance(turn);
            return;
        }
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.state = State::CompletingRebalance(Assigning::Storing);
        self.state_timestamp = turn.now.wall;
        self.recorded = true;
        turn.append(vec![self.record()]);
        turn.after_commit(After::Synced { group: self.id.clone(), generation: self.generation });
    }

    fn synced_with(&self, assignment: Vec<u8>) -> GroupResponse {
        GroupResponse::Synced(Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment,
        })
    }

    fn maybe_all_synced(&mut self) {
        if !self.members.values().any(|member| member.owes_sync) {
            self.sync_deadline = None;
        }
    }
}
