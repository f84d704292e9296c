//! One group on this shard: its Raft engine, the tail of its log, and what it is for.
//!
//! The stages: *opening* (the executor replays the log), *open*, *closed* (its log failed or something impossible
//! happened: it is quarantined, and the node goes on). Messages that come while a group is not open are dropped: its
//! peers send again.

use crate::config::ShardConfig;
use crate::coordinator::Coordinator;
use crate::partition::Partition;
use crate::peers::Peers;
use crate::produce::Intake;
use crate::tail::{Tail, TailEntry};
use crate::types::{
    DeleteError, Effect, FetchError, FollowerDescription, GroupDescription, LogConfig, OpenedGroup,
    ProduceError, ShardAlarm,
};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::entry::{EntryBody, EntryInfo};
use raftline_proto::ids::{EntryId, GroupId, Index, Membership, NodeId, Term};
use raftline_proto::time::{Monotonic, Now};
use raftline_raft::Raft;
use raftline_raft::config::{Config, FirstCampaign};
use raftline_raft::types::{Input, LogStart, Output, Recovered, Role};

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub id: GroupId,
    /// This node.
    pub node: NodeId,
    pub log_config: LogConfig,
    pub stage: Stage,
    pub tail: Tail,
    pub body: Body,
    /// The term this replica leads, as last reported. Invariant: requests are parked only while it is `Some`.
    pub leading: Option<Term>,
    /// The deadline that the shard's timers hold for this group.
    pub armed: Option<Monotonic>,
    /// The commit index last noted for the next start.
    pub noted: Index,
    /// The replicas as placed; the preferred leader first.
    replicas: Vec<NodeId>,
}

/// How far the group is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The executor replays its log. Holds the membership entries seen.
    Opening(Replayed),
    /// It takes part.
    Open(Box<Raft>),
    /// It is quarantined.
    Closed(Closed),
}

/// What a replay has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    memberships: Vec<(Index, Membership)>,
    last: Option<EntryId>,
}

/// What is left of a quarantined group.
#[derive(Debug)]
pub(crate) struct Closed {
    pub reason: String,
    pub term: Term,
    pub membership: Membership,
    /// The term that this replica led when it was closed: its followers are to be told.
    pub led: Option<Term>,
    /// When they are told again, and how long was waited the last time: it doubles.
    pub again: (Monotonic, Duration),
}

/// What the group is for.
#[derive(Debug)]
pub(crate) enum Body {
    Coordinator(Box<Coordinator>),
    Partition(Box<Partition>),
}

/// What a group needs of its shard while it handles an event.
pub(crate) struct Turn<'a, P> {
    pub now: Now,
    pub config: &'a ShardConfig,
    pub intake: Intake,
    /// The other nodes.
    pub peers: &'a Peers,
    /// Scratch space.
    pub outputs: &'a mut Vec<Output>,
    pub effects: &'a mut Vec<Effect<P>>,
}

/// A look at an open group for those who decide about requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    raft: &'a Raft,
    node: NodeId,
    leading: Option<Term>,
    pub commit: Index,
    pub durable: Index,
}

impl Group {
    pub fn new(id: GroupId, node: NodeId, replicas: Vec<NodeId>, log_config: LogConfig, body: Body) -> Self {
        Self {
            id,
            node,
            log_config,
            stage: Stage::Opening(Replayed::default()),
            tail: Tail::default(),
            body,
            leading: None,
            armed: None,
            noted: Index::ZERO,
            replicas,
        }
    }

    /// Entries of the log, in order, while the group opens. Those up to `commit_hint` are applied at once.
    pub fn replay<P>(&mut self, entries: &[EntryInfo], commit_hint: Index, turn: &mut Turn<'_, P>) {
        for entry in entries {
            let Stage::Opening(replayed) = &mut self.stage else { return };
            if replayed.last.is_none() {
                // The log may begin anywhere; what is before its first entry is known only when it is open.
                let index = entry.header.id.index.previous().unwrap_or_default();
                let previous = EntryId::new(Term::ZERO, index);
                self.tail.begin(LogStart { previous, offset: entry.header.base_offset });
            }
            replayed.last = Some(entry.header.id);
            if let EntryBody::Membership(membership) = &entry.body {
                replayed.memberships.push((entry.header.id.index, membership.clone()));
            }
            if !self.push(entry, turn) {
                return;
            }
            self.fold_committed(commit_hint, turn);
        }
    }

    /// The log is open and replayed: the group takes part from here on.
    pub fn opened<P>(&mut self, found: OpenedGroup, turn: &mut Turn<'_, P>) {
        let replayed = match &mut self.stage {
            Stage::Opening(replayed) => replayed,
            // Quarantined by what the replay showed.
            Stage::Closed(_) => return,
            Stage::Open(_) => {
                self.alarm(ShardAlarm::Unexpected("a group was opened twice"), turn);
                return;
            }
        };
        let memberships = core::mem::take(&mut replayed.memberships);
        let expected = replayed.last.unwrap_or(found.start.previous);
        if expected != found.last {
            self.quarantine("the replay does not end where the log does", turn);
            return;
        }
        if replayed.last.is_none() {
            self.tail.begin(found.start);
        } else if (self.tail.start().previous.index, self.tail.start().offset)
            != (found.start.previous.index, found.start.offset)
        {
            self.quarantine("the replay does not begin where the log does", turn);
            return;
        }
        self.tail.trimmed(found.start);
        // The hint may be ahead of a log whose end was lost; never behind what is applied already.
        let commit_hint = found.commit_hint.min(found.last.index);
        self.fold_committed(commit_hint, turn);
        self.noted = commit_hint;
        let recovered = Recovered {
            hard_state: found.hard_state,
            start: found.start,
            term_starts: found.term_starts,
            last: found.last,
            commit_hint: self.tail.applied().min(found.last.index),
            memberships,
        };
        let raft = Raft::new(self.raft_config(turn.config), recovered, turn.now.monotonic);
        // Opening is news by itself: the node's view has the group from now on, with or without a leader.
        let (group, term, role) = (self.id, raft.term(), raft.role());
        self.stage = Stage::Open(Box::new(raft));
        turn.effects.push(Effect::LeaderChanged { group, term, leader: None, role });
        self.trim_files(self.tail.applied().next(), turn);
        let own = self.node;
        let peers = turn.peers;
        let reached = |node: &NodeId| *node != own && peers.reaches(*node, group);
        for node in peers.alive().iter().copied().filter(reached) {
            self.step(Input::PeerUp { node }, turn);
        }
    }

    fn raft_config(&self, config: &ShardConfig) -> Config {
        let timings = &config.timings;
        let bootstrap = Membership::of_voters(self.replicas.clone());
        // Spreads the groups of a node, and the replicas of a group, over the election timeout.
        let seed =
            config.seed ^ self.id.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(config.node.get());
        let first_campaign = match self.replicas.first() == Some(&config.node) {
            true => FirstCampaign::AtOnce,
            false => FirstCampaign::AfterTimeout,
        };
        Config {
            election_timeout_min: timings.election_min,
            election_timeout_max: timings.election_max,
            resend: timings.resend,
            in_flight_bytes_max: config.in_flight_bytes_max,
            first_campaign,
            ..Config::new(config.node, bootstrap, seed)
        }
    }

    /// Whether the group has a replica on `node`.
    pub fn has_member(&self, node: NodeId) -> bool {
        match &self.stage {
            Stage::Open(raft) => raft.membership().contains(node),
            Stage::Opening(_) | Stage::Closed(_) => false,
        }
    }

    /// The group's standing, if it is open.
    pub fn standing(&self) -> Option<Standing<'_>> {
        match &self.stage {
            Stage::Open(raft) => Some(Standing::of(raft, self.leading, self.node)),
            Stage::Opening(_) | Stage::Closed(_) => None,
        }
    }

    /// Closes the group because its log failed or something impossible happened.
    pub fn quarantine<P>(&mut self, reason: &str, turn: &mut Turn<'_, P>) {
        let (term, membership) = match &self.stage {
            Stage::Open(raft) => (raft.term(), raft.membership().clone()),
            Stage::Opening(_) => (Term::ZERO, Membership::of_voters(self.replicas.clone())),
            Stage::Closed(_) => return,
        };
        let led = self.leading;
        self.stop_leading(None, turn);
        self.refuse_all(turn);
        let again = (turn.now.monotonic, turn.config.timings.election_min);
        self.stage = Stage::Closed(Closed { reason: reason.to_owned(), term, membership, led, again });
        self.say_stepped_down(turn);
        let (group, role) = (self.id, Role::Follower);
        turn.effects.push(Effect::LeaderChanged { group, term, leader: None, role });
        turn.effects.push(Effect::Closed { group, reason: reason.to_owned() });
    }

    /// A quarantined leader tells its followers, who hear its node and so would wait for it for ever. Said again because
    /// it may be lost: soon, as nobody serves the group meanwhile, then less and less often.
    pub fn say_stepped_down<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Stage::Closed(Closed { led: Some(term), membership, again, .. }) = &mut self.stage else {
            return;
        };
        let (at, wait) = *again;
        if turn.now.monotonic < at {
            return;
        }
        *again = (turn.now.monotonic + wait, (wait * 2).min(turn.config.timings.retention_interval));
        for to in membership.all().filter(|node| *node != self.node) {
            let message = raftline_raft::types::Message::SteppedDown { term: *term };
            turn.effects.push(Effect::Send { group: self.id, to, message });
        }
    }

    /// The group's topic is gone: everybody who waits hears it.
    pub fn refuse_all<P>(&mut self, turn: &mut Turn<'_, P>) {
        match &mut self.body {
            Body::Partition(partition) => {
                partition.refuse_produces(&ProduceError::UnknownGroup, turn.effects);
                partition.refuse_fetches(&FetchError::UnknownGroup, turn.effects);
                partition.refuse_questions(&FetchError::UnknownGroup, turn.effects);
                partition.refuse_deletions_from(Index::ZERO, &DeleteError::UnknownGroup, turn.effects);
            }
            Body::Coordinator(coordinator) => coordinator.stop_leading(turn.effects),
        }
    }

    pub fn alarm<P>(&self, alarm: ShardAlarm, turn: &mut Turn<'_, P>) {
        turn.effects.push(Effect::Alarm { group: self.id, alarm });
    }

    /// When the group wants to be looked at next.
    pub fn deadline(&self) -> Option<Monotonic> {
        let raft = match &self.stage {
            Stage::Open(raft) => raft.deadline(),
            Stage::Closed(closed) => closed.led.map(|_| closed.again.0),
            Stage::Opening(_) => None,
        };
        let parked = match &self.body {
            Body::Partition(partition) => {
                let compaction = match &self.stage {
                    Stage::Open(raft) => partition.compaction.deadline(raft.durable()),
                    Stage::Opening(_) | Stage::Closed(_) => None,
                };
                partition.first_deadline().into_iter().chain(compaction).min()
            }
            Body::Coordinator(coordinator) => coordinator.first_deadline(),
        };
        raft.into_iter().chain(parked).min()
    }

    /// The commit index that is safe to note: what is committed *and* durable in this log. A hint beyond the durable
    /// end could, after a crash, name entries of an older, divergent tail:
    ///
    /// 1. the log ends with entries 9 and 10 of a lost leader; they are cut, and 9' and 10' arrive and are committed;
    /// 2. "committed through 10" reaches the disk, the cut and 9', 10' do not; power fails;
    /// 3. the log comes back with 9 and 10, and the hint would make them committed.
    pub fn notable_commit(&self) -> Index {
        match &self.stage {
            Stage::Open(raft) => raft.commit().min(raft.durable()),
            Stage::Opening(_) | Stage::Closed(_) => self.noted,
        }
    }

    /// The group as operators see it.
    pub fn describe(&self) -> GroupDescription {
        let (start_offset, high_watermark, end_offset) =
            (self.tail.start_offset(), self.tail.high_watermark(), self.tail.end_offset());
        let partition = match &self.body {
            Body::Partition(partition) => Some((partition.topic, partition.index)),
            Body::Coordinator(_) => None,
        };
        let unopened = |term, membership, failure| GroupDescription {
            group: self.id,
            partition,
            role: Role::Follower,
            term,
            leader: None,
            membership,
            last: EntryId::new(term, self.tail.last_index()),
            commit: self.tail.applied(),
            durable: Index::ZERO,
            start_offset,
            high_watermark,
            end_offset,
            followers: Vec::new(),
            failure,
        };
        match &self.stage {
            Stage::Opening(_) => unopened(Term::ZERO, Membership::of_voters(self.replicas.clone()), None),
            Stage::Closed(closed) => {
                unopened(closed.term, closed.membership.clone(), Some(closed.reason.clone()))
            }
            Stage::Open(raft) => GroupDescription {
                group: self.id,
                partition,
                role: raft.role(),
                term: raft.term(),
                leader: raft.leader(),
                membership: raft.membership().clone(),
                last: raft.last(),
                commit: raft.commit(),
                durable: raft.durable(),
                start_offset,
                high_watermark,
                end_offset,
                followers: Standing::of(raft, self.leading, self.node).followers(),
                failure: None,
            },
        }
    }
}

impl<'a> Standing<'a> {
    pub fn of(raft: &'a Raft, leading: Option<Term>, node: NodeId) -> Self {
        Self { raft, node, leading, commit: raft.commit(), durable: raft.durable() }
    }

    pub fn leads(&self) -> bool {
        self.leading.is_some()
    }

    /// Who leads, if known, and not this replica itself (which may lead and not yet have said so, or the reverse).
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    pub fn not_leader_fetch(&self) -> FetchError {
        FetchError::NotLeader { leader: self.leader(), term: self.raft.term() }
    }

    /// This replica's term.
    pub fn term(&self) -> Term {
        self.raft.term()
    }

    pub fn not_leader_produce(&self) -> ProduceError {
        ProduceError::NotLeader { leader: self.leader(), term: self.raft.term() }
    }

    /// The replicas known to have `index` on stable storage. Exact on the leader only.
    pub fn durable_on(&self, index: Index) -> Vec<NodeId> {
        let own = (self.durable >= index).then_some(self.node);
        let peers = self.raft.peers().filter(|peer| peer.matched >= index).map(|peer| peer.node);
        let mut nodes: Vec<NodeId> = peers.chain(own).collect();
        nodes.sort_unstable();
        nodes
    }

    /// The last entry that this replica and each of the others is known to have on stable storage. Exact on the leader
    /// only.
    pub fn held_by_all(&self) -> Index {
        let held = self.raft.peers().map(|peer| peer.matched);
        held.fold(self.durable, Index::min)
    }

    /// What the leader knows of its followers.
    pub fn followers(&self) -> Vec<FollowerDescription> {
        self.raft
            .peers()
            .map(|peer| FollowerDescription { node: peer.node, matched: peer.matched, alive: peer.alive })
            .collect()
    }
}

impl Body {
    /// An entry was cut off the log again.
    pub fn dropped(&mut self, entry: &TailEntry) {
        match self {
            Self::Partition(partition) => partition.dropped(entry),
            // The leader's planned image is made anew when it leads again.
            Self::Coordinator(_) => {}
        }
    }

    /// The log was thrown away and begins anew; `applied` is the last entry that was applied here, of the old one.
    pub fn reset(&mut self, start: LogStart, applied: Index) {
        match self {
            Self::Partition(partition) => {
                partition.compaction.reset();
                if applied < start.previous.index {
                    partition.producers.clear();
                }
            }
            // Its log is never thrown away.
            Self::Coordinator(_) => {}
        }
    }

    /// This replica leads now.
    pub fn begin_leading(&mut self, tail: &Tail) {
        match self {
            Self::Partition(partition) => {
                partition.received = Index::ZERO;
                partition.forget_rounds();
                partition.compaction.look_anew();
                partition.retention.look_anew();
            }
            Self::Coordinator(coordinator) => coordinator.begin_leading(tail),
        }
    }
}
