//! Members that speak the classic protocol in a group of the new one (KIP-848, "online migration"): the coordinator assigns
//! for them too, and they hear of it through JoinGroup, SyncGroup and Heartbeat. Their generation is their member epoch.
//!
//! A member whose next step is due is told `REBALANCE_IN_PROGRESS` by its heartbeat, and joins again: with what it owns, if
//! it is cooperative. Nobody leads: each is told to be a follower and gets its part with SyncGroup.

use super::{ConsumerGroup, Session};
use crate::consumer_groups::expressions::Catalog;
use crate::consumer_groups::limits::{MEMBERS_MAX, SUBSCRIBED_TOPICS_MAX};
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::names::member_id;
use crate::consumer_groups::record::{
    ClassicSupport, ConsumerMemberValue, CurrentValue, GroupRecord, MemberState,
};
use crate::consumer_groups::subscription::Subscription;
use crate::consumer_groups::types::{
    GroupError, GroupResponse, Heartbeat, JoinGroup, Joined, LeaveGroup, LeavingMember, LeftMember,
    MemberIdRule, SyncGroup, Synced,
};
use crate::types::RequestId;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::time::Monotonic;

impl ConsumerGroup {
    /// A member joins, or joins again for its next step. The answer waits for what is planned.
    pub fn join_classic(
        &mut self,
        join: JoinGroup,
        request: RequestId,
        catalog: &mut Catalog<'_>,
        turn: &mut Turn<'_>,
    ) {
        let (subscription, id) = match self.admit_classic(&join, turn) {
            Ok(admitted) => admitted,
            Err(error) => return turn.refuse(request, error),
        };
        let mut plan = Vec::new();
        if let Some(old_id) =
            join.instance_id.as_ref().and_then(|instance_id| self.holder(instance_id)).cloned()
            && old_id != id
        {
            self.replace(&old_id, &id, &mut plan);
        }
        let before = self.state.members.get(&id).cloned();
        let protocol = join.protocols.first().map(|protocol| protocol.name.clone()).unwrap_or_default();
        let rebalance_timeout_ms = u32::try_from(join.rebalance_timeout_ms).unwrap_or_default();
        let after = ConsumerMemberValue {
            instance_id: join.instance_id,
            rack_id: None,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms,
            subscribed_topics: subscription.topics,
            subscribed_regex: None,
            server_assignor: None,
            classic: Some(ClassicSupport {
                session_timeout_ms: u32::try_from(join.session_timeout_ms).unwrap_or_default(),
                protocols: join.protocols,
            }),
        };
        let resolves = self.resolve_expressions();
        let matters = before.as_ref().is_none_or(|before| {
            before.subscribed_topics != after.subscribed_topics || before.subscribed_regex.is_some()
        });
        if before.as_ref() != Some(&after) {
            let (group, member_id) = (self.id.clone(), id.clone());
            self.plan(GroupRecord::ConsumerMember { group, member_id, value: Some(after) }, &mut plan);
        }
        if matters || resolves {
            self.move_epoch(catalog, turn.now.wall, &mut plan);
        }
        if self.group_value().epoch > self.target_epoch() {
            self.make_target(catalog, &mut plan);
        }
        let (before, after) = self.step(&id, Some(&subscription.owned), &mut plan);
        self.begin_session(&id, &before, &after, turn);
        // It has to ask for its part.
        let sync_by = turn.now.monotonic + Duration::from_millis(u64::from(rebalance_timeout_ms));
        if let Some(session) = self.sessions.get_mut(&id) {
            session.rejoin_by = Some(sync_by);
        }
        turn.append_each(plan);
        let joined = Joined {
            generation: after.member_epoch,
            protocol_type: CONSUMER.to_owned(),
            protocol,
            leader: String::new(),
            member_id: id,
            skip_assignment: false,
            members: Vec::new(),
        };
        turn.respond_committed(request, &self.id, GroupResponse::Joined(joined));
    }

    /// A member asks for its part.
    pub fn sync_classic(&mut self, sync: &SyncGroup, request: RequestId, turn: &mut Turn<'_>) {
        let synced = self.synced(sync, turn);
        match synced {
            Ok(synced) => turn.respond_committed(request, &self.id, GroupResponse::Synced(synced)),
            Err(error) => turn.refuse(request, error),
        }
    }

    fn synced(&mut self, sync: &SyncGroup, turn: &Turn<'_>) -> Result<Synced, GroupError> {
        let (classic, current) = self.classic_member(&sync.member_id, sync.instance_id.as_ref())?;
        let offers = |name: &String| classic.protocols.iter().any(|protocol| protocol.name == *name);
        let is_other_type = sync.protocol_type.as_ref().is_some_and(|asked| asked != CONSUMER);
        if is_other_type || !sync.protocol.as_ref().is_none_or(offers) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if sync.generation != current.member_epoch {
            return Err(GroupError::IllegalGeneration);
        }
        // One that has to give partitions up first learns here which it keeps.
        let is_behind = current.member_epoch < self.group_value().epoch;
        if is_behind && current.state != MemberState::UnrevokedPartitions {
            self.call_to_rejoin(&sync.member_id, turn.now.monotonic);
            return Err(GroupError::RebalanceInProgress);
        }
        let first = classic.protocols.first();
        let subscription = first.and_then(|protocol| Subscription::read(&protocol.metadata));
        let synced = Synced {
            protocol_type: CONSUMER.to_owned(),
            protocol: first.map(|protocol| protocol.name.clone()).unwrap_or_default(),
            assignment: subscription.map(|read| read.assignment(&current.assigned)).unwrap_or_default(),
        };
        self.keep_alive(&sync.member_id, turn.now.monotonic);
        if let Some(session) = self.sessions.get_mut(&sync.member_id) {
            session.rejoin_by = None;
        }
        Ok(synced)
    }

    /// A member lives, and hears whether its next step is due.
    ///
    /// # Errors
    /// What it has to do instead.
    pub fn heartbeat_classic(&mut self, heartbeat: &Heartbeat, turn: &Turn<'_>) -> Result<(), GroupError> {
        let (_, current) = self.classic_member(&heartbeat.member_id, heartbeat.instance_id.as_ref())?;
        if heartbeat.generation != current.member_epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let has_to_rejoin = match current.state {
            _ if current.member_epoch < self.group_value().epoch => true,
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => self.gets_more(&heartbeat.member_id, &current),
            MemberState::Stable => false,
        };
        self.keep_alive(&heartbeat.member_id, turn.now.monotonic);
        if has_to_rejoin {
            self.call_to_rejoin(&heartbeat.member_id, turn.now.monotonic);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Members of the classic protocol go; others may be named by their instance id alone, as administrators do.
    pub fn leave_classic(
        &mut self,
        leave: LeaveGroup,
        request: RequestId,
        catalog: &mut Catalog<'_>,
        turn: &mut Turn<'_>,
    ) {
        let (mut gone, mut left) = (Vec::new(), Vec::with_capacity(leave.members.len()));
        for leaving in leave.members {
            let found = self
                .leaving(&leaving)
                .and_then(|id| if gone.contains(&id) { Err(GroupError::UnknownMemberId) } else { Ok(id) });
            let LeavingMember { member_id, instance_id } = leaving;
            left.push(LeftMember { member_id, instance_id, error: found.as_ref().err().cloned() });
            gone.extend(found);
        }
        let mut plan = Vec::new();
        if !gone.is_empty() {
            self.fence(&gone, catalog, turn, &mut plan);
        }
        turn.append_each(plan);
        turn.respond_committed(request, &self.id, GroupResponse::Left(left));
    }

    fn leaving(&self, leaving: &LeavingMember) -> Result<String, GroupError> {
        match &leaving.instance_id {
            Some(instance_id) if leaving.member_id.is_empty() => {
                self.holder(instance_id).cloned().ok_or(GroupError::UnknownMemberId)
            }
            Some(_) | None => {
                self.classic_member(&leaving.member_id, leaving.instance_id.as_ref())?;
                Ok(leaving.member_id.clone())
            }
        }
    }

    /// What the member says, and the id that it has from now on.
    fn admit_classic(&self, join: &JoinGroup, turn: &Turn<'_>) -> Result<(Subscription, String), GroupError> {
        let subscription = join.protocols.first().and_then(|protocol| Subscription::read(&protocol.metadata));
        let Some(subscription) = subscription.filter(|_| join.protocol_type == CONSUMER) else {
            return Err(GroupError::InconsistentGroupProtocol);
        };
        if subscription.topics.len() > SUBSCRIBED_TOPICS_MAX {
            return Err(GroupError::InvalidRequest("a member names more than 2000 topics"));
        }
        let others = self.state.members.iter().filter(|(id, _)| **id != join.member_id);
        let others: Vec<&ClassicSupport> = others.filter_map(|(_, member)| member.classic.as_ref()).collect();
        let is_shared = |name: &String| {
            others.iter().all(|other| other.protocols.iter().any(|protocol| protocol.name == *name))
        };
        if !join.protocols.iter().any(|protocol| is_shared(&protocol.name)) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let holder = join.instance_id.as_ref().and_then(|instance_id| self.holder(instance_id));
        if !join.member_id.is_empty() && holder.is_some_and(|holder| *holder != join.member_id) {
            return Err(GroupError::FencedInstanceId);
        }
        let is_known = holder.is_some() || self.state.members.contains_key(&join.member_id);
        if !is_known && self.state.members.len() >= turn.config.members_max.min(MEMBERS_MAX) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        if !join.member_id.is_empty() {
            return Ok((subscription, join.member_id.clone()));
        }
        let id = member_id(join.instance_id.as_ref().unwrap_or(&join.client_id), join.fresh_id);
        if join.instance_id.is_none() && join.member_id_rule == MemberIdRule::Required {
            return Err(GroupError::MemberIdRequired { member_id: id });
        }
        Ok((subscription, id))
    }

    /// The member of this id, which has to speak the classic protocol, and where it is.
    fn classic_member(
        &self,
        id: &str,
        instance_id: Option<&String>,
    ) -> Result<(ClassicSupport, CurrentValue), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.holder(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if holder != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        let classic = self.state.members.get(id).and_then(|member| member.classic.clone());
        let classic = classic.ok_or(GroupError::UnknownMemberId)?;
        Ok((classic, self.state.currents.get(id).cloned().unwrap_or_default()))
    }

    /// Whether something that the member waits for was given up by now.
    fn gets_more(&self, id: &str, current: &CurrentValue) -> bool {
        let others = self.state.currents.iter().filter(|(other, _)| **other != id);
        let others: Vec<&CurrentValue> = others.map(|(_, current)| current).collect();
        let has = |assignment: &crate::consumer_groups::record::Assignment, topic: &str, partition: i32| {
            assignment.get(topic).is_some_and(|partitions| partitions.contains(&partition))
        };
        let is_free = |topic: &str, partition: i32| {
            others.iter().all(|other| {
                !has(&other.assigned, topic, partition) && !has(&other.revoking, topic, partition)
            })
        };
        self.state.targets.get(id).into_iter().flatten().any(|(topic, partitions)| {
            partitions
                .iter()
                .any(|partition| !has(&current.assigned, topic, *partition) && is_free(topic, *partition))
        })
    }

    fn keep_alive(&mut self, id: &str, now: Monotonic) {
        let Some(classic) = self.state.members.get(id).and_then(|member| member.classic.as_ref()) else {
            return;
        };
        let ends = now + Duration::from_millis(u64::from(classic.session_timeout_ms));
        if let Some(session) = self.sessions.get_mut(id) {
            session.ends = ends;
        }
    }

    /// The member was told to join again: it has its rebalance timeout for that.
    fn call_to_rejoin(&mut self, id: &str, now: Monotonic) {
        let span = self.state.members.get(id).map_or(0, |member| member.rebalance_timeout_ms);
        let by = now + Duration::from_millis(u64::from(span));
        if let Some(Session { rejoin_by, .. }) = self.sessions.get_mut(id) {
            rejoin_by.get_or_insert(by);
        }
    }
}

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";
