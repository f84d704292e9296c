//! The new protocol (KIP-848): the coordinator assigns, members follow one by one.
//!
//! Every change of members or subscriptions moves the *group epoch*. A *target assignment* is made for it. Each member
//! goes from where it is to its target on its own heartbeats: it first gives up what is not its any more and says so,
//! then its *member epoch* moves, then it gets what others have given up. No partition is with two members on the way.
//!
//! Invariant: `state` is what the store will be for this group once all that is appended is committed. Plans are made
//! from it, and no answer goes out before everything appended until then is committed.
//!
//! In reading order: this file (what a group is), `heartbeat` (a member's heartbeat, step by step), `reconcile`
//! (one member's next step), `classic` (members that speak the classic protocol), `convert` (from and to a classic group),
//! `following` (topics and expressions), `leave` (who goes), `view` (what is shown and checked).

mod classic;
mod convert;
mod following;
mod heartbeat;
mod leave;
mod reconcile;
mod view;

pub(super) use following::TopicsChange;

use super::expressions::Catalog;
use super::limits::GroupsConfig;
use super::record::{ConsumerValue, GroupRecord, MemberState};
use super::store::ConsumerState;
use super::types::TopicImage;
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use following::Following;
use raftline_proto::time::{Monotonic, Timestamp};

/// All topics, by name.
pub(super) type Topics = BTreeMap<String, TopicImage>;

/// One group of the new protocol.
#[derive(Debug)]
pub(super) struct ConsumerGroup {
    id: String,
    state: ConsumerState,
    /// Invariant: one for each member of `state`.
    sessions: BTreeMap<String, Session>,
    following: Following,
}

/// When a member is given up.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// It was silent for too long.
    ends: Monotonic,
    /// It kept for too long what it has to give up.
    revoke_by: Option<Monotonic>,
    /// It speaks the classic protocol, and neither joined again nor asked for its part.
    rejoin_by: Option<Monotonic>,
}

impl ConsumerGroup {
    /// A group that nobody is in.
    pub fn new(id: String) -> Self {
        let (state, sessions, following) = (ConsumerState::default(), BTreeMap::new(), Following::default());
        Self { id, state, sessions, following }
    }

    /// A group as its records say; sessions begin now.
    pub fn load(id: &str, state: &ConsumerState, config: &GroupsConfig, now: Monotonic) -> Self {
        let session = |(member_id, member): (&String, &super::record::ConsumerMemberValue)| {
            let current = state.currents.get(member_id);
            let revoking = current.is_some_and(|current| current.state == MemberState::UnrevokedPartitions);
            let span = Duration::from_millis(u64::from(member.rebalance_timeout_ms));
            let ends = convert::session_ends(Some(member), config.consumer_session_timeout, now);
            let revoke_by = revoking.then(|| now + span);
            (member_id.clone(), Session { ends, revoke_by, rejoin_by: None })
        };
        let sessions = state.members.iter().map(session).collect();
        Self { id: id.to_owned(), state: state.clone(), sessions, following: Following::default() }
    }

    /// What was planned and refused is forgotten: the group is as `committed` says. Members that it still has live on; what
    /// is due is tried again at `again` at the earliest.
    #[must_use]
    pub fn taken_back(self, mut committed: Self, again: Monotonic) -> Self {
        for (id, session) in &mut committed.sessions {
            let Some(earlier) = self.sessions.get(id) else {
                // It was about to go.
                session.ends = again;
                continue;
            };
            session.ends = earlier.ends.max(again);
            // Only whoever has to give up something according to what is committed.
            session.revoke_by = session.revoke_by.map(|by| earlier.revoke_by.map_or(by, |by| by.max(again)));
            session.rejoin_by = earlier.rejoin_by.map(|by| by.max(again));
        }
        committed.following = self.following;
        if !committed.is_empty() {
            committed.following.look_again(again);
        }
        committed
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.state.members.is_empty()
    }

    /// Whether the log has, and will have, nothing of it.
    pub fn is_forgettable(&self) -> bool {
        self.state == ConsumerState::default()
    }

    /// When the group has to be looked at next.
    pub fn deadline(&self) -> Option<Monotonic> {
        let sessions = self.sessions.values();
        let ends = sessions.flat_map(|session| {
            let calls = session.revoke_by.into_iter().chain(session.rejoin_by);
            calls.chain([session.ends])
        });
        ends.chain(self.following.deadline()).min()
    }

    /// When the group's epoch was made, for retention.
    pub fn epoch_timestamp(&self) -> Option<Timestamp> {
        self.state.group.as_ref().map(|group| group.epoch_timestamp)
    }

    /// Tombstones for all that the log has of it.
    pub fn tombstones(&self) -> Vec<GroupRecord> {
        let mut ids: BTreeSet<&String> = self.state.members.keys().collect();
        ids.extend(self.state.targets.keys());
        ids.extend(self.state.currents.keys());
        let mut tombstones: Vec<GroupRecord> =
            ids.into_iter().flat_map(|member_id| self.member_tombstones(member_id)).collect();
        if self.state.group.is_some() {
            tombstones.push(GroupRecord::Consumer { group: self.id.clone(), value: None });
        }
        if self.state.target_epoch.is_some() {
            tombstones.push(GroupRecord::ConsumerTargetEpoch { group: self.id.clone(), value: None });
        }
        tombstones
    }

    /// Plans a record: the state is as if it were committed.
    fn plan(&mut self, record: GroupRecord, plan: &mut Vec<GroupRecord>) {
        self.state.apply(&record);
        plan.push(record);
    }

    fn group_value(&self) -> ConsumerValue {
        let none = ConsumerValue { epoch: 0, topics_digest: 0, epoch_timestamp: Timestamp::default() };
        self.state.group.clone().unwrap_or(none)
    }

    /// The epoch that the targets were made for; 0 before the first.
    fn target_epoch(&self) -> i32 {
        self.state.target_epoch.unwrap_or_default()
    }

    /// The next group epoch: the target is out of date.
    fn move_epoch(&mut self, catalog: &mut Catalog<'_>, now: Timestamp, plan: &mut Vec<GroupRecord>) {
        let value = ConsumerValue {
            epoch: self.group_value().epoch.saturating_add(1),
            topics_digest: self.topics_digest(catalog),
            epoch_timestamp: now,
        };
        self.plan(GroupRecord::Consumer { group: self.id.clone(), value: Some(value) }, plan);
    }

    fn member_tombstones(&self, member_id: &str) -> [GroupRecord; 3] {
        let (group, member_id) = (self.id.clone(), member_id.to_owned());
        [
            GroupRecord::ConsumerCurrent { group: group.clone(), member_id: member_id.clone(), value: None },
            GroupRecord::ConsumerTarget { group: group.clone(), member_id: member_id.clone(), value: None },
            GroupRecord::ConsumerMember { group, member_id, value: None },
        ]
    }
}
