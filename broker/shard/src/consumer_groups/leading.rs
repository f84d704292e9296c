//! What only a leader has: its live groups with their timers, and which request goes where.

use super::classic::ClassicGroup;
use super::consumer::{ConsumerGroup, Topics, TopicsChange};
use super::expressions::{Catalog, Expressions};
use super::limits::{GROUPS_MAX, GroupsConfig, MEMBERS_MAX};
use super::log::{Log, Turn};
use super::store::Store;
use super::types::{
    ConsumerHeartbeat, GroupError, GroupRequest, GroupResponse, Heartbeat, JoinGroup, LeaveGroup, LeftMember,
    SyncGroup,
};
use crate::types::RequestId;
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::time::{Monotonic, Now};

/// What a leader has besides the store.
#[derive(Debug)]
pub(super) struct Lead {
    pub groups: LiveGroups,
    pub log: Log,
    pub expressions: Expressions,
    /// When old offsets are looked for.
    pub cleanup_at: Monotonic,
}

/// Groups with members, or a record of their own. A group that only has offsets is not here.
///
/// Invariant: `timers` has one item for each group with `armed`; a group's first deadline is never before it.
#[derive(Debug, Default)]
pub(super) struct LiveGroups {
    groups: BTreeMap<String, Live>,
    timers: BTreeSet<(Monotonic, String)>,
}

/// One live group.
#[derive(Debug)]
pub(super) struct Live {
    armed: Option<Monotonic>,
    pub body: Body,
}

/// Which protocol the group speaks.
#[derive(Debug)]
pub(super) enum Body {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

/// A leader during one call.
pub(super) struct Leading<'a> {
    pub store: &'a Store,
    /// `None` until the driver has told.
    pub topics: Option<&'a Topics>,
    pub groups: &'a mut LiveGroups,
    pub expressions: &'a mut Expressions,
    pub turn: Turn<'a>,
}

impl Lead {
    /// A leader with what the log says.
    pub fn load(store: &Store, config: &GroupsConfig, now: Now) -> Self {
        let mut groups = LiveGroups::default();
        for id in store.consumer.keys().chain(store.classic.keys()) {
            if let Some(body) = Body::load(id, store, config, now.monotonic) {
                groups.insert(id.clone(), body);
            }
        }
        let cleanup_at = now.monotonic + config.offsets_check_interval;
        Self { groups, log: Log::default(), expressions: Expressions::default(), cleanup_at }
    }
}

impl LiveGroups {
    /// A group from the log.
    pub fn insert(&mut self, id: String, body: Body) {
        self.insert_new(id.clone(), body);
        self.rearm(&id);
    }

    /// A group that somebody is about to join; one that nobody joins goes with the next `rearm`.
    pub fn insert_new(&mut self, id: String, body: Body) {
        self.remove(&id);
        self.groups.insert(id, Live { armed: None, body });
    }

    /// Forgets a group. Requests in it were answered before.
    pub fn remove(&mut self, id: &str) {
        let _ = self.take(id);
    }

    /// Takes a group out.
    pub fn take(&mut self, id: &str) -> Option<Body> {
        let Live { armed, body } = self.groups.remove(id)?;
        if let Some(deadline) = armed {
            self.timers.remove(&(deadline, id.to_owned()));
        }
        Some(body)
    }

    pub fn get(&self, id: &str) -> Option<&Body> {
        self.groups.get(id).map(|live| &live.body)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Body> {
        self.groups.get_mut(id).map(|live| &mut live.body)
    }

    /// The classic group of this id.
    pub fn classic(&mut self, id: &str) -> Option<&mut ClassicGroup> {
        match self.get_mut(id)? {
            Body::Classic(group) => Some(group),
            Body::Consumer(_) => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Body)> {
        self.groups.iter().map(|(id, live)| (id, &live.body))
    }

    /// The regular expressions that members have.
    pub fn expressions(&self) -> BTreeSet<String> {
        let expressions = self.groups.values().flat_map(|live| match &live.body {
            Body::Consumer(group) => Some(group.expressions()),
            Body::Classic(_) => None,
        });
        expressions.flatten().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The earliest of all.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// Moves a group's timer to its first deadline, or forgets the group if nothing is lost with it.
    pub fn rearm(&mut self, id: &str) {
        let Some(live) = self.groups.get_mut(id) else { return };
        if live.body.is_forgettable() {
            self.remove(id);
            return;
        }
        let deadline = live.body.deadline();
        if deadline != live.armed {
            if let Some(armed) = live.armed {
                self.timers.remove(&(armed, id.to_owned()));
            }
            if let Some(deadline) = deadline {
                self.timers.insert((deadline, id.to_owned()));
            }
            live.armed = deadline;
        }
    }

    /// Requests that wait in any group.
    pub fn take_waiting(&mut self) -> Vec<RequestId> {
        self.groups.values_mut().flat_map(|live| live.body.take_waiting()).collect()
    }

    fn due(&self, now: Monotonic) -> Vec<String> {
        self.timers.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| id.clone()).collect()
    }
}

impl Body {
    /// A group as its records say; sessions begin now.
    pub fn load(id: &str, store: &Store, config: &GroupsConfig, now: Monotonic) -> Option<Self> {
        let consumer = store.consumer.get(id).map(|state| ConsumerGroup::load(id, state, config, now));
        match (consumer, store.classic.get(id)) {
            // A group changes its type with one batch; should both be there, then members decide.
            (Some(group), Some(_)) if !group.is_empty() => Some(Self::Consumer(group)),
            (_, Some(value)) => Some(Self::Classic(ClassicGroup::load(id, value, now))),
            (Some(group), None) => Some(Self::Consumer(group)),
            (None, None) => None,
        }
    }

    fn is_forgettable(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_forgettable(),
            Self::Consumer(group) => group.is_forgettable(),
        }
    }

    fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Classic(group) => group.deadline(),
            Self::Consumer(group) => group.deadline(),
        }
    }

    pub fn take_waiting(&mut self) -> Vec<RequestId> {
        match self {
            Self::Classic(group) => group.take_waiting(),
            Self::Consumer(_) => Vec::new(),
        }
    }
}

impl Leading<'_> {
    /// One request, checked.
    pub fn handle(mut self, id: RequestId, request: GroupRequest) {
        match request {
            GroupRequest::Join(join) => self.join(join, id),
            GroupRequest::Sync(sync) => self.sync(sync, id),
            GroupRequest::Heartbeat(heartbeat) => self.heartbeat(&heartbeat, id),
            GroupRequest::Leave(leave) => self.leave(leave, id),
            GroupRequest::OffsetCommit(commit) => self.commit_offsets(commit, id),
            GroupRequest::OffsetFetch(fetch) => self.fetch_offsets(fetch, id),
            GroupRequest::OffsetDelete(delete) => self.delete_offsets(delete, id),
            GroupRequest::DeleteGroup { group } => self.delete_group(&group, id),
            GroupRequest::Describe { group } => self.describe(&group, id),
            GroupRequest::List(list) => self.list(&list, id),
            GroupRequest::ConsumerHeartbeat(beat) => self.consumer_heartbeat(beat, id),
            GroupRequest::ConsumerDescribe { group } => self.consumer_describe(&group, id),
        }
    }

    /// Groups that have something due.
    pub fn tick_groups(&mut self) {
        let none = Topics::new();
        let topics = self.topics.unwrap_or(&none);
        for id in self.groups.due(self.turn.now.monotonic) {
            let catalog = &mut Catalog { topics, expressions: self.expressions };
            match self.groups.get_mut(&id) {
                Some(Body::Classic(group)) => group.tick(&mut self.turn),
                Some(Body::Consumer(group)) => group.tick(catalog, &mut self.turn),
                None => {}
            }
            self.settle(&id);
        }
    }

    /// Gives another epoch to groups of the new protocol whose topics changed.
    pub fn follow_topics(mut self, change: TopicsChange) {
        let Some(topics) = self.topics else { return };
        let catalog = &mut Catalog { topics, expressions: self.expressions };
        let mut behind = Vec::new();
        for (id, live) in &mut self.groups.groups {
            match &mut live.body {
                Body::Consumer(group) => {
                    group.topics_changed(change, catalog, &mut self.turn);
                    if group.is_behind() {
                        behind.push(id.clone());
                    }
                }
                Body::Classic(_) => {}
            }
        }
        for id in behind {
            self.groups.rearm(&id);
        }
    }

    fn join(&mut self, join: JoinGroup, request: RequestId) {
        let id = join.group.clone();
        if let Some(Body::Consumer(group)) = self.groups.get_mut(&id)
            && !group.is_empty()
        {
            let Some(topics) = self.topics else {
                self.turn.refuse(request, GroupError::CoordinatorLoadInProgress);
                return;
            };
            let catalog = &mut Catalog { topics, expressions: self.expressions };
            group.join_classic(join, request, catalog, &mut self.turn);
            self.settle(&id);
            return;
        }
        if let Err(error) = self.make_classic(&join) {
            self.turn.refuse(request, error);
            return;
        }
        if let Some(group) = self.groups.classic(&id) {
            group.join(join, request, &mut self.turn);
        }
        self.groups.rearm(&id);
    }

    /// There is a classic group to join: as it is, new, or in place of an empty one of the new protocol.
    fn make_classic(&mut self, join: &JoinGroup) -> Result<(), GroupError> {
        let tombstones = match self.groups.get(&join.group) {
            Some(Body::Classic(_)) => return Ok(()),
            Some(Body::Consumer(_)) | None if !join.member_id.is_empty() => {
                return Err(GroupError::UnknownMemberId);
            }
            Some(Body::Consumer(group)) => group.tombstones(),
            None if self.groups.len() >= GROUPS_MAX => return Err(GroupError::GroupMaxSizeReached),
            None => Vec::new(),
        };
        self.turn.append(tombstones);
        let group = ClassicGroup::new(join.group.clone(), self.turn.now.wall);
        self.groups.insert_new(join.group.clone(), Body::Classic(group));
        Ok(())
    }

    fn sync(&mut self, sync: SyncGroup, request: RequestId) {
        let id = sync.group.clone();
        match self.groups.get_mut(&id) {
            Some(Body::Classic(group)) => group.sync(sync, request, &mut self.turn),
            Some(Body::Consumer(group)) => group.sync_classic(&sync, request, &mut self.turn),
            None => self.turn.refuse(request, GroupError::UnknownMemberId),
        }
        self.groups.rearm(&id);
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat, request: RequestId) {
        let beaten = match self.groups.get_mut(&heartbeat.group) {
            // The timer stays: a heartbeat only moves deadlines further away.
            Some(Body::Classic(group)) => group.heartbeat(heartbeat, &self.turn),
            Some(Body::Consumer(group)) => {
                let beaten = group.heartbeat_classic(heartbeat, &self.turn);
                self.groups.rearm(&heartbeat.group);
                beaten
            }
            None => Err(GroupError::UnknownMemberId),
        };
        self.turn.respond(request, beaten.map(|()| GroupResponse::Done));
    }

    fn leave(&mut self, leave: LeaveGroup, request: RequestId) {
        let id = leave.group.clone();
        let none = Topics::new();
        let catalog = &mut Catalog { topics: self.topics.unwrap_or(&none), expressions: self.expressions };
        if let Some(Body::Consumer(group)) = self.groups.get_mut(&id) {
            group.leave_classic(leave, request, catalog, &mut self.turn);
            self.settle(&id);
            return;
        }
        if let Some(group) = self.groups.classic(&id) {
            group.leave(leave, request, &mut self.turn);
        } else {
            let unknown = leave.members.into_iter().map(|leaving| LeftMember {
                member_id: leaving.member_id,
                instance_id: leaving.instance_id,
                error: Some(GroupError::UnknownMemberId),
            });
            let left = unknown.collect();
            self.turn.respond(request, Ok(GroupResponse::Left(left)));
        }
        self.groups.rearm(&id);
    }

    fn consumer_heartbeat(&mut self, beat: ConsumerHeartbeat, request: RequestId) {
        let id = beat.group.clone();
        let Some(topics) = self.topics else {
            self.turn.refuse(request, GroupError::CoordinatorLoadInProgress);
            return;
        };
        if let Err(error) = self.admit_expression(&beat).and_then(|()| self.make_consumer(&beat)) {
            self.turn.refuse(request, error);
            return;
        }
        let catalog = &mut Catalog { topics, expressions: self.expressions };
        if let Some(Body::Consumer(group)) = self.groups.get_mut(&id) {
            if beat.member_epoch < 0 {
                group.leave(beat, request, catalog, &mut self.turn);
            } else {
                group.heartbeat(beat, request, catalog, &mut self.turn);
            }
        }
        self.settle(&id);
    }

    /// A group of the new protocol that only members of the classic one are left in becomes a classic one; they have to join
    /// again. Then its timer is set.
    fn settle(&mut self, id: &str) {
        let classic = match self.groups.get(id) {
            Some(Body::Consumer(group))
                if group.is_all_classic() && self.turn.config.migration.downgrades() =>
            {
                group.to_classic(&self.turn).map(|classic| (classic, group.tombstones()))
            }
            Some(Body::Consumer(_) | Body::Classic(_)) | None => None,
        };
        if let Some((mut classic, mut records)) = classic {
            records.push(classic.to_record());
            self.turn.append(records);
            classic.rebalance(&mut self.turn);
            self.groups.insert_new(id.to_owned(), Body::Classic(classic));
        }
        self.groups.rearm(id);
    }

    /// The regular expression that the heartbeat brings, if any, is one, and there is room for it.
    fn admit_expression(&mut self, beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
        match beat.subscribed_regex.as_deref() {
            Some(text) if !text.is_empty() && beat.member_epoch >= 0 => {
                self.expressions.admit(text, || self.groups.expressions())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// There is a group of the new protocol: as it is, new, in place of an empty classic one, or made of one with members.
    fn make_consumer(&mut self, beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
        if self.upgrade(beat)? {
            return Ok(());
        }
        let tombstone = match self.groups.get(&beat.group) {
            Some(Body::Consumer(_)) => return Ok(()),
            Some(Body::Classic(group)) if beat.member_epoch == 0 && group.is_deletable() => group.tombstone(),
            None if beat.member_epoch == 0 => {
                if self.groups.len() >= GROUPS_MAX {
                    return Err(GroupError::GroupMaxSizeReached);
                }
                None
            }
            Some(Body::Classic(_)) | None => return Err(GroupError::GroupIdNotFound),
        };
        self.turn.append(tombstone.into_iter().collect());
        let group = ConsumerGroup::new(beat.group.clone());
        self.groups.insert_new(beat.group.clone(), Body::Consumer(group));
        Ok(())
    }

    /// A consumer of the new protocol joins a classic group with members: the group becomes one of the new protocol, and the
    /// members go on in it. Whether that was so.
    fn upgrade(&mut self, beat: &ConsumerHeartbeat) -> Result<bool, GroupError> {
        let (Some(topics), Some(Body::Classic(group))) = (self.topics, self.groups.get_mut(&beat.group))
        else {
            return Ok(false);
        };
        if beat.member_epoch != 0 || group.is_deletable() || !self.turn.config.migration.upgrades() {
            return Ok(false);
        }
        let Some(migrating) = group.migrating() else { return Ok(false) };
        if group.members_len() >= self.turn.config.members_max.min(MEMBERS_MAX) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        for waiting in group.take_waiting() {
            self.turn.refuse(waiting, GroupError::RebalanceInProgress);
        }
        let mut records: Vec<_> = group.tombstone().into_iter().collect();
        let catalog = &mut Catalog { topics, expressions: self.expressions };
        let (group, made) =
            ConsumerGroup::from_classic(&beat.group, migrating, group.generation(), catalog, &self.turn);
        records.extend(made);
        self.turn.append(records);
        self.groups.insert_new(beat.group.clone(), Body::Consumer(group));
        Ok(true)
    }
}
