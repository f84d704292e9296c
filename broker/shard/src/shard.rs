//! The shard itself: who gets which event, the turn, and the deadlines.

use crate::config::ShardConfig;
use crate::coordinator::configs::Settings;
use crate::drain::Drain;
use crate::fetch::Want;
use crate::group::{Body, Group, Stage, Turn};
use crate::image::MetadataImage;
use crate::peers::Peers;
use crate::produce::{Intake, refuse};
use crate::requests::{Order, refuse_fetch};
use crate::retention::Look;
use crate::timers::Timers;
use crate::types::{
    CoordinatorError, DeleteError, DiskSpace, Effect, Event, FetchError, ProduceError, Reply, RequestId,
};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_proto::time::{Monotonic, Now};
use raftline_raft::types::{Input, Message, Output};

/// Many groups as one function of what happens to them.
#[derive(Debug)]
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) groups: BTreeMap<GroupId, Box<Group>>,
    /// Groups that something happened to since the last [`Shard::end_turn`].
    pub(crate) dirty: BTreeSet<GroupId>,
    pub(crate) timers: Timers,
    pub(crate) peers: Peers,
    /// Groups whose files were found at the start and that no image has accounted for yet.
    pub(crate) found: BTreeSet<GroupId>,
    /// The image that this shard's groups follow.
    pub(crate) image: Arc<MetadataImage>,
    pub(crate) disk: DiskSpace,
    /// When to look again for others to lead what is led here without room.
    pub(crate) room_wanted: Option<Monotonic>,
    pub(crate) drain: Option<Drain>,
    counters: Counters,
    outputs: Vec<Output>,
}

/// What is dropped without an answer, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages for groups that this shard does not have (yet, or any more).
    pub messages_to_unknown_groups: u64,
    /// Messages for groups that are not open.
    pub messages_to_closed_groups: u64,
    /// Answers of the executor for groups that are gone.
    pub late_answers: u64,
}

impl Shard {
    /// A shard before its start.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        Self {
            timers: Timers::default(),
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            peers: Peers::new(config.node),
            found: BTreeSet::new(),
            image: Arc::new(MetadataImage::default()),
            disk: DiskSpace::Enough,
            room_wanted: None,
            drain: None,
            counters: Counters::default(),
            outputs: Vec::new(),
            config,
        }
    }

    /// The groups of this shard whose files are on the disk, before [`Shard::start`]. Those that turn out to belong to
    /// a deleted topic are deleted: the process stopped before it came to that.
    pub fn found(&mut self, groups: impl IntoIterator<Item = GroupId>) {
        self.found.extend(groups.into_iter().filter(|group| *group != GroupId::COORDINATOR));
    }

    /// What is to be done first: shard 0 opens the coordinator's log.
    pub fn start<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        if self.config.shard != 0 {
            return;
        }
        let log_config = Settings::of(&BTreeMap::new()).log_config();
        let group = GroupId::COORDINATOR;
        let body = Body::Coordinator(Box::default());
        let peers = self.config.peers.clone();
        self.groups.insert(group, Box::new(Group::new(group, self.config.node, peers, log_config, body)));
        effects.push(Effect::Open { group, config: log_config });
    }

    /// Takes in what happened.
    pub fn handle<P>(&mut self, now: Now, event: Event<P>, effects: &mut Vec<Effect<P>>) {
        self.peers.note_clock(now);
        match event {
            Event::Tick => self.tick(now, effects),
            Event::Produce { request, group, in_term, batch, payload, durability, deadline } => {
                let order = Order { request, in_term, batch, durability, deadline };
                if !self.touch(now, group, effects, |group, turn| group.produce(order, payload, turn)) {
                    effects.push(refuse(request, ProduceError::UnknownGroup));
                }
            }
            Event::Fetch { request, group, from, bytes_min, bytes_max, deadline } => {
                let want = Want { request, group, from, bytes_min, bytes_max, deadline };
                if !self.touch(now, group, effects, |group, turn| group.fetch(want, turn)) {
                    effects.push(refuse_fetch(request, FetchError::UnknownGroup));
                }
            }
            Event::ListOffset { request, group, query } => {
                if !self.touch(now, group, effects, |group, turn| group.list_offset(request, query, turn)) {
                    let reply = Reply::Offset(Err(FetchError::UnknownGroup));
                    effects.push(Effect::Reply { request, reply });
                }
            }
            Event::DeleteRecords { request, group, up_to, deadline } => {
                let delete = |group: &mut Group, turn: &mut Turn<'_, P>| {
                    group.delete_records(request, up_to, deadline, turn);
                };
                if !self.touch(now, group, effects, delete) {
                    effects.push(crate::deletion::answer(request, Err(DeleteError::UnknownGroup)));
                }
            }
            Event::Coordinate { request, command, deadline } => {
                let group = GroupId::COORDINATOR;
                let coordinate = |group: &mut Group, turn: &mut Turn<'_, P>| {
                    group.coordinate(request, &command, deadline, turn);
                };
                if !self.touch(now, group, effects, coordinate) {
                    let error = CoordinatorError::NotLeader { leader: None };
                    effects.push(crate::coordinator::answer(request, Err(error)));
                }
            }
            Event::Describe { request, group } => {
                let described = self.groups.get(&group).map(|group| group.describe());
                effects.push(Effect::Reply { request, reply: Reply::Described(described) });
            }
            Event::Transfer { request, group, to } => self.transfer(now, request, group, to, effects),
            Event::Peer { from, group, message, entries, payload } => {
                self.count_dropped(group, message_term(&message));
                self.touch(now, group, effects, |group, turn| {
                    group.message(from, message, (entries, payload), turn);
                });
            }
            Event::Liveness { peer, change } => self.follow_liveness(now, peer, change, effects),
            Event::Replay { group, commit_hint, entries } => {
                self.answered(now, group, effects, |group, turn| group.replay(&entries, commit_hint, turn));
            }
            Event::Opened { group, recovered } => {
                self.answered(now, group, effects, |group, turn| group.opened(recovered, turn));
            }
            Event::Failed { group, reason } => {
                self.answered(now, group, effects, |group, turn| group.quarantine(&reason, turn));
            }
            Event::LogDurable { group, last } => {
                self.answered(now, group, effects, |group, turn| {
                    group.step(Input::LogDurable { last }, turn)
                });
            }
            Event::HardStateDurable { group, hard_state } => {
                let input = Input::HardStateDurable { hard_state };
                self.answered(now, group, effects, |group, turn| group.step(input, turn));
            }
            Event::Replicated { group, to, term, from, up_to, bytes, outcome } => {
                let input = Input::Replicated { to, term, from, up_to, bytes, outcome };
                self.answered(now, group, effects, |group, turn| group.step(input, turn));
            }
            Event::AppendFailed { group, last, next_offset } => {
                self.answered(now, group, effects, |group, turn| {
                    group.append_failed(last, next_offset, turn)
                });
            }
            Event::Hurry { group, request } => {
                // A group that is not here has no fetch that waits.
                let _ = self.touch(now, group, effects, |group, turn| group.hurry(request, turn));
            }
            Event::ReadShort { request, group, from, up_to, bytes_min, bytes_max, deadline, bytes } => {
                let want = Want { request, group, from, bytes_min, bytes_max, deadline };
                if !self
                    .touch(now, group, effects, |group, turn| group.read_short(want, (up_to, bytes), turn))
                {
                    effects.push(refuse_fetch(request, FetchError::UnknownGroup));
                }
            }
            Event::Trimmed { group, start } => {
                self.answered(now, group, effects, |group, turn| group.trimmed(start, turn));
            }
            Event::Appraised { group, outlived } => {
                self.answered(now, group, effects, |group, turn| group.appraised(outlived, turn));
            }
            Event::TrimHeld { group, up_to } => {
                self.answered(now, group, effects, |group, turn| group.trim_held(up_to, turn));
            }
            Event::Surveyed { group, facts } => {
                self.answered(now, group, effects, |group, turn| group.surveyed(&facts, turn));
            }
            Event::Compacted { group, rule } => {
                self.answered(now, group, effects, |group, _| group.compacted(rule));
            }
            Event::CompactionFailed { group } => {
                self.answered(now, group, effects, |group, turn| group.compaction_failed(turn));
            }
            Event::DiskSpace(disk) => self.disk_space(now, disk, effects),
            Event::Image(image) => self.follow_image(now, image, effects),
            Event::Drain => self.begin_drain(now, effects),
        }
    }

    /// Ends a batch of events: what the batch brought leaves now, and deadlines are set.
    pub fn end_turn<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        while let Some(id) = self.dirty.pop_first() {
            self.visit(now, id, effects, |group, turn| {
                group.flush(turn);
                group.compact_if_ready(turn);
            });
            self.rearm(now, id);
            self.look_in_sync(now, id, effects);
            if id == GroupId::COORDINATOR {
                self.publish_image(now, effects);
            }
        }
        self.end_drain(effects);
    }

    /// When to call [`Shard::handle`] with [`Event::Tick`], at the latest. Right after [`Shard::end_turn`].
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let drain = self.drain.as_ref().and_then(Drain::deadline);
        self.timers.first().into_iter().chain(drain).chain(self.room_wanted).min()
    }

    /// What was dropped without an answer so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The committed cluster as this shard knows it.
    #[must_use]
    pub const fn image(&self) -> &Arc<MetadataImage> {
        &self.image
    }

    /// The groups on this shard.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// What this replica knows of a partition's idempotent producers: of each, the stamp that its next batch is to have.
    /// For those who watch a replica from outside.
    #[must_use]
    pub fn producers(&self, group: GroupId) -> Vec<ProducerBatch> {
        match self.groups.get(&group).map(|group| &group.body) {
            Some(Body::Partition(partition)) => partition.producers.next_stamps(),
            Some(Body::Coordinator(_)) | None => Vec::new(),
        }
    }

    fn tick<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        while let Some(id) = self.timers.pop_group(now.monotonic) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.armed = None;
            }
            self.touch(now, id, effects, |group, turn| group.tick(turn));
        }
        if self.timers.pop_note(now.monotonic) {
            self.note_commits(effects);
        }
        if self.timers.pop_look(now.monotonic) {
            self.look_in_sync_again(now, effects);
        }
        if self.timers.pop_retention(now.monotonic) {
            self.retain(now, Look::Due, effects);
        }
        self.tick_room(now, effects);
        self.tick_drain(now, effects);
    }

    /// Sets the group's deadline, and remembers that its commit index is to be noted.
    fn rearm(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let deadline = group.deadline();
        if group.armed != deadline {
            self.timers.rearm(id, group.armed, deadline);
            group.armed = deadline;
        }
        if group.notable_commit() > group.noted {
            self.timers.want_note(id, now.monotonic + self.config.timings.note_interval);
        }
        if let Some(due) = group.slow_due() {
            let soonest = now.monotonic + self.config.timings.retention_interval;
            self.timers.want_retention(due.max(soonest));
        }
    }

    /// Notes the commit index of every group where it moved.
    pub(crate) fn note_all_commits<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        self.note(ids, effects);
    }

    fn note_commits<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        let ids = self.timers.take_notes();
        self.note(ids, effects);
    }

    fn note<P>(&mut self, ids: impl IntoIterator<Item = GroupId>, effects: &mut Vec<Effect<P>>) {
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                let commit = group.notable_commit();
                if commit > group.noted {
                    group.noted = commit;
                    effects.push(Effect::NoteCommit { group: id, commit });
                }
            }
        }
    }

    /// Lets the group handle something and marks it for the end of the turn; says whether there is such a group.
    pub(crate) fn touch<P>(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect<P>>,
        act: impl FnOnce(&mut Group, &mut Turn<'_, P>),
    ) -> bool {
        let found = self.visit(now, id, effects, act);
        if found {
            self.dirty.insert(id);
        }
        found
    }

    pub(crate) fn visit<P>(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect<P>>,
        act: impl FnOnce(&mut Group, &mut Turn<'_, P>),
    ) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let mut turn = Turn {
            now,
            config: &self.config,
            intake: Intake { disk: self.disk, draining: self.drain.is_some() },
            peers: &self.peers,
            outputs: &mut self.outputs,
            effects,
        };
        act(group, &mut turn);
        true
    }

    /// As [`Shard::touch`], for answers of the executor: one for a group that is gone is counted.
    fn answered<P>(
        &mut self,
        now: Now,
        id: GroupId,
        effects: &mut Vec<Effect<P>>,
        act: impl FnOnce(&mut Group, &mut Turn<'_, P>),
    ) {
        if !self.touch(now, id, effects, act) {
            self.counters.late_answers += 1;
        }
    }

    fn count_dropped(&mut self, group: GroupId, term: Term) {
        match self.groups.get_mut(&group).map(|group| &mut group.stage) {
            Some(Stage::Open(_)) => {}
            Some(Stage::Opening(_)) => self.counters.messages_to_closed_groups += 1,
            Some(Stage::Closed(closed)) => {
                self.counters.messages_to_closed_groups += 1;
                // Somebody else campaigns or leads: nobody waits for this replica any more.
                closed.led = closed.led.filter(|led| *led >= term);
            }
            None => self.counters.messages_to_unknown_groups += 1,
        }
    }

    fn disk_space<P>(&mut self, now: Now, disk: DiskSpace, effects: &mut Vec<Effect<P>>) {
        let was_enough = self.disk == DiskSpace::Enough;
        self.disk = disk;
        if was_enough && disk != DiskSpace::Enough {
            // What retention lets go is let go now.
            self.retain(now, Look::All, effects);
        }
        self.look_for_room(now, effects);
    }

    fn transfer<P>(
        &mut self,
        now: Now,
        request: RequestId,
        group: Option<GroupId>,
        to: Option<NodeId>,
        effects: &mut Vec<Effect<P>>,
    ) {
        let ids: Vec<GroupId> = match group {
            Some(group) => [group].into_iter().collect(),
            None => self.groups.keys().copied().collect(),
        };
        let mut begun = 0;
        for id in ids {
            self.touch(now, id, effects, |group, turn| begun += usize::from(group.hand_over(to, turn)));
        }
        effects.push(Effect::Reply { request, reply: Reply::Transferring(begun) });
    }
}

/// The term that a message speaks of.
fn message_term(message: &Message) -> Term {
    match message {
        Message::PreVote { term, .. }
        | Message::PreVoteReply { term, .. }
        | Message::Vote { term, .. }
        | Message::VoteReply { term, .. }
        | Message::Append { term, .. }
        | Message::AppendReply { term, .. }
        | Message::TimeoutNow { term }
        | Message::SteppedDown { term }
        | Message::Vouched { term, .. }
        | Message::Reset { term, .. } => *term,
    }
}
