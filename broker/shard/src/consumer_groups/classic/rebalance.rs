//! From "members are joining" to the next generation, and all that time does to a group.

use super::{Assigning, ClassicGroup, InitialDelay, Joining, Member, State};
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::types::{GroupError, GroupResponse, JoinedMember};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::time::Monotonic;

impl ClassicGroup {
    /// What is due by now.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let pending = self.pending.len();
        self.pending.retain(|_, deadline| *deadline > now);
        if self.pending.len() < pending {
            self.maybe_complete_join(turn);
        }
        let silent = |member: &Member| member.session.is_some_and(|session| session <= now);
        self.remove_where(silent, turn);
        if let State::PreparingRebalance(joining) = self.state
            && joining.deadline <= now
        {
            self.join_deadline(joining, turn);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_deadline = None;
            self.remove_where(|member| member.owes_sync, turn);
        }
    }

    /// Members changed: all have to join again.
    pub fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::PreparingRebalance(_) => self.maybe_complete_join(turn),
            State::Empty => self.prepare_first(turn),
            State::CompletingRebalance(_) | State::Stable => {
                self.refuse_syncs(&GroupError::RebalanceInProgress, turn);
                let deadline = turn.now.monotonic + self.rebalance_timeout();
                self.state = State::PreparingRebalance(Joining { deadline, initial: None });
                self.maybe_complete_join(turn);
            }
        }
    }

    /// Removes members; the others have to join again if any went.
    pub(super) fn remove_where(&mut self, remove: impl Fn(&Member) -> bool, turn: &mut Turn<'_>) {
        let gone = self.members.iter().filter(|(_, member)| remove(member)).map(|(id, _)| id.clone());
        let gone: Vec<String> = gone.collect();
        for id in &gone {
            self.remove(id, turn);
        }
        if !gone.is_empty() {
            self.rebalance(turn);
        }
    }

    /// Takes a member out, and nothing more.
    pub(super) fn remove(&mut self, id: &str, turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(id) else { return };
        for waiting in [member.joining.take(), member.syncing.take()].into_iter().flatten() {
            turn.refuse(waiting, GroupError::UnknownMemberId);
        }
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// The generation begins as soon as everybody has joined.
    pub(super) fn maybe_complete_join(&mut self, turn: &mut Turn<'_>) {
        let State::PreparingRebalance(Joining { initial: None, .. }) = self.state else { return };
        if self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some()) {
            self.complete_join(turn);
        }
    }

    /// Refuses the SyncGroups that wait; their members' sessions begin anew.
    pub(super) fn refuse_syncs(&mut self, error: &GroupError, turn: &mut Turn<'_>) {
        self.sync_deadline = None;
        for member in self.members.values_mut() {
            member.owes_sync = false;
            if let Some(request) = member.syncing.take() {
                turn.refuse(request, error.clone());
                member.alive(turn.now.monotonic);
            }
        }
    }

    /// The protocol that most members put first, of those that all can do; of equals the first by name. `None`
    /// without members.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let offers =
            |member: &Member, name: &str| member.protocols.iter().any(|offered| offered.name == name);
        let shared = |name: &str| self.members.values().all(|member| offers(member, name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(vote) = member.protocols.iter().find(|protocol| shared(&protocol.name)) {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.iter().find(|(_, count)| **count == most).map(|(name, _)| (*name).to_owned())
    }

    /// All members, as the leader is told.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = |(member_id, member): (&String, &Member)| JoinedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.subscription(protocol).to_owned(),
        };
        self.members.iter().map(joined).collect()
    }

    /// The first member of an empty group: others may follow soon.
    fn prepare_first(&mut self, turn: &mut Turn<'_>) {
        let delay = turn.config.initial_rebalance_delay;
        if delay.is_zero() {
            let deadline = turn.now.monotonic;
            self.state = State::PreparingRebalance(Joining { deadline, initial: None });
            self.complete_join(turn);
            return;
        }
        let remaining = self.rebalance_timeout().saturating_sub(delay);
        let initial = Some(InitialDelay { remaining, member_added: false });
        let deadline = turn.now.monotonic + delay;
        self.state = State::PreparingRebalance(Joining { deadline, initial });
    }

    /// Nobody is waited for any longer, unless the group is new and still growing.
    fn join_deadline(&mut self, joining: Joining, turn: &mut Turn<'_>) {
        match joining.initial {
            Some(InitialDelay { remaining, member_added: true }) if !remaining.is_zero() => {
                let delay = turn.config.initial_rebalance_delay.min(remaining);
                let remaining = remaining.saturating_sub(delay);
                let initial = Some(InitialDelay { remaining, member_added: false });
                let deadline = turn.now.monotonic + delay;
                self.state = State::PreparingRebalance(Joining { deadline, initial });
            }
            Some(_) | None => self.complete_join(turn),
        }
    }

    /// The next generation: of those that joined, and of static members that may still come back.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let gone = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| gone(member)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.remove(id, turn);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none has joined: their sessions decide.
            let deadline = turn.now.monotonic + self.rebalance_timeout().max(SILENT_WAIT_MIN);
            self.state = State::PreparingRebalance(Joining { deadline, initial: None });
            return;
        }
        // Past the last number comes the first again: a member of so long ago is gone.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.select_protocol();
        self.state_timestamp = turn.now.wall;
        self.sync_deadline = None;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.leader = None;
            self.recorded = true;
            turn.append(vec![self.record()]);
            return;
        }
        self.state = State::CompletingRebalance(Assigning::Awaited);
        self.sync_deadline = Some(turn.now.monotonic + self.rebalance_timeout());
        self.answer_joins(turn.now.monotonic, turn);
    }

    fn answer_joins(&mut self, now: Monotonic, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            member.owes_sync = true;
            // What the last generation gave it is no part of this one.
            member.assignment = Vec::new();
            if let Some(request) = member.joining.take() {
                member.alive(now);
                turn.respond(request, Ok(GroupResponse::Joined(joined)));
            }
        }
    }

    /// A leader that has joined: the old one if it has. False if nobody has.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(joined) {
            let Some(id) = self.members.keys().find(|id| joined(id)) else { return false };
            self.leader = Some(id.clone());
        }
        true
    }

    /// The longest that any member asks for.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }
}

/// Between two looks at a group of silent static members, whatever they ask for.
const SILENT_WAIT_MIN: Duration = Duration::from_secs(1);
