//! JoinGroup: who may join, and what joining changes.

use super::{ClassicGroup, Joining, Member, State, member_bytes};
use crate::consumer_groups::limits::{
    GROUP_BYTES_MAX, MEMBERS_MAX, NEW_MEMBER_JOIN_TIMEOUT, PENDING_MEMBERS_MAX, REBALANCE_TIMEOUT_MAX,
};
use crate::consumer_groups::log::{After, Turn};
use crate::consumer_groups::names::member_id;
use crate::consumer_groups::types::{GroupError, GroupResponse, JoinGroup, Joined, MemberIdRule};
use crate::types::RequestId;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

impl ClassicGroup {
    /// A member joins. The answer comes with the next generation, or at once.
    pub fn join(&mut self, join: JoinGroup, request: RequestId, turn: &mut Turn<'_>) {
        if let Err(error) = self.check_join(&join, turn) {
            turn.refuse(request, error);
            return;
        }
        if join.member_id.is_empty() {
            self.join_new(join, request, turn);
        } else if self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add_member(id, join, request, turn);
        } else {
            self.join_known(join, request, turn);
        }
    }

    fn check_join(&self, join: &JoinGroup, turn: &Turn<'_>) -> Result<(), GroupError> {
        if !self.supports(join) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let is_pending = self.pending.contains_key(&join.member_id);
        if !join.member_id.is_empty() && !is_pending {
            self.check_member(&join.member_id, join.instance_id.as_ref())?;
        }
        let replaced = match &join.instance_id {
            Some(instance_id) => self.instances.get(instance_id),
            None => Some(&join.member_id),
        };
        let replaced = replaced.and_then(|id| self.members.get(id));
        let members_max = turn.config.members_max.min(MEMBERS_MAX);
        let names = [Some(&join.client_id), Some(&join.client_host), join.instance_id.as_ref()];
        let bytes: usize = self.members.values().map(Member::bytes).sum();
        let bytes = bytes - replaced.map_or(0, Member::bytes) + member_bytes(names, &join.protocols);
        if (replaced.is_none() && self.members.len() >= members_max) || bytes > GROUP_BYTES_MAX {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// A member without an id.
    fn join_new(&mut self, join: JoinGroup, request: RequestId, turn: &mut Turn<'_>) {
        let prefix = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let id = member_id(prefix, join.fresh_id);
        match &join.instance_id {
            Some(instance_id) => match self.instances.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(&old_id, id, join, request, turn),
                None => self.add_member(id, join, request, turn),
            },
            None if join.member_id_rule == MemberIdRule::Required => {
                if self.pending.len() >= PENDING_MEMBERS_MAX {
                    turn.refuse(request, GroupError::GroupMaxSizeReached);
                    return;
                }
                self.pending.insert(id.clone(), turn.now.monotonic + span(join.session_timeout_ms));
                turn.refuse(request, GroupError::MemberIdRequired { member_id: id });
            }
            None => self.add_member(id, join, request, turn),
        }
    }

    /// A member that is in the group.
    fn join_known(&mut self, join: JoinGroup, request: RequestId, turn: &mut Turn<'_>) {
        let id = join.member_id.clone();
        let Some(member) = self.members.get_mut(&id) else {
            turn.refuse(request, GroupError::UnknownMemberId);
            return;
        };
        let same = member.protocols == join.protocols;
        let is_leader = self.leader.as_ref() == Some(&id);
        match self.state {
            // It lost the answer and asks again: the generation stands.
            State::CompletingRebalance(_) if same => {
                let joined = self.joined(&id);
                self.alive(&id, turn);
                turn.respond(request, Ok(GroupResponse::Joined(joined)));
            }
            // A follower that says nothing new; a leader's JoinGroup asks for a new assignment.
            State::Stable if same && !is_leader => {
                let joined = Joined { members: Vec::new(), ..self.joined(&id) };
                self.alive(&id, turn);
                turn.respond(request, Ok(GroupResponse::Joined(joined)));
            }
            State::PreparingRebalance(_) | State::CompletingRebalance(_) | State::Stable => {
                member.update(join);
                member.wait_for_join(request, turn);
                self.rebalance(turn);
            }
            State::Empty => turn.refuse(request, GroupError::UnknownMemberId),
        }
    }

    fn add_member(&mut self, id: String, join: JoinGroup, request: RequestId, turn: &mut Turn<'_>) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance_id) = &join.instance_id {
            self.instances.insert(instance_id.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let mut member = Member {
            instance_id: join.instance_id.clone(),
            client_id: String::new(),
            client_host: String::new(),
            session_timeout: Duration::ZERO,
            rebalance_timeout: Duration::ZERO,
            protocols: Vec::new(),
            assignment: Vec::new(),
            session: None,
            joining: None,
            syncing: None,
            is_new: true,
            owes_sync: false,
        };
        member.update(join);
        member.wait_for_join(request, turn);
        self.members.insert(id, member);
        if let State::PreparingRebalance(Joining { initial: Some(initial), .. }) = &mut self.state {
            initial.member_added = true;
        }
        self.rebalance(turn);
    }

    /// A static member came back under a new id (KIP-345): it takes over all that the old one had.
    fn replace_static(
        &mut self,
        old_id: &str,
        id: String,
        join: JoinGroup,
        request: RequestId,
        turn: &mut Turn<'_>,
    ) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        for waiting in [member.joining.take(), member.syncing.take()].into_iter().flatten() {
            turn.refuse(waiting, GroupError::FencedInstanceId);
        }
        let old_leader = self.leader.clone();
        let is_leader = old_leader.as_deref() == Some(old_id);
        if is_leader {
            self.leader = Some(id.clone());
        }
        if let Some(instance_id) = &join.instance_id {
            self.instances.insert(instance_id.clone(), id.clone());
        }
        let can_skip_assignment = join.can_skip_assignment;
        member.update(join);
        member.alive(turn.now.monotonic);
        self.members.insert(id.clone(), member);
        if self.state == State::Stable && self.protocol == self.select_protocol() {
            // Nothing to assign anew: the member gets what its predecessor had.
            turn.append(vec![self.record()]);
            let mut joined = self.joined(&id);
            if can_skip_assignment {
                joined.skip_assignment = is_leader;
            } else {
                // A client that cannot skip the assignment must not think that it leads.
                joined.members = Vec::new();
                joined.leader = old_leader.unwrap_or_default();
            }
            turn.after_commit(After::Respond {
                request,
                group: self.id.clone(),
                response: GroupResponse::Joined(joined),
            });
            return;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.wait_for_join(request, turn);
        }
        self.rebalance(turn);
    }

    /// What a member of the generation is told; the members too, if it leads.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let leads = self.leader.as_deref() == Some(id);
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            skip_assignment: false,
            members: if leads { self.joined_members() } else { Vec::new() },
        }
    }

    /// Whether the group would still share a protocol with who joins.
    fn supports(&self, join: &JoinGroup) -> bool {
        if self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let offers =
            |name: &str, member: &Member| member.protocols.iter().any(|offered| offered.name == name);
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join
                .protocols
                .iter()
                .any(|protocol| self.members.values().all(|member| offers(&protocol.name, member)))
    }

    fn alive(&mut self, id: &str, turn: &Turn<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            member.alive(turn.now.monotonic);
        }
    }
}

impl Member {
    /// Takes over what a JoinGroup says.
    fn update(&mut self, join: JoinGroup) {
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout = span(join.session_timeout_ms);
        self.rebalance_timeout = span(join.rebalance_timeout_ms);
        self.protocols = join.protocols;
    }

    fn wait_for_join(&mut self, request: RequestId, turn: &mut Turn<'_>) {
        let superseded = [self.joining.replace(request), self.syncing.take()];
        for earlier in superseded.into_iter().flatten() {
            turn.refuse(earlier, GroupError::RebalanceInProgress);
        }
        self.session = self.is_new.then(|| turn.now.monotonic + NEW_MEMBER_JOIN_TIMEOUT);
    }
}

fn span(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(REBALANCE_TIMEOUT_MAX)
}
