//! A shard's thread: the turn loop, and the world as its executor sees it.
//!
//! A turn: read the clock once → answers of the last turn → notices → a bounded batch from the inbox → due deadlines
//! → effects in order → one write a group, one sync round, one wake a socket → park until the inbox rings or the next
//! deadline. If a turn gave answers, the next one follows without parking.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use raftline_proto::command::TrimReason;
use raftline_proto::ids::{GroupId, NodeId, Offset, Term};
use raftline_proto::time::{Monotonic, Now};
use raftline_raft::types::Role;
use raftline_shard::Shard;
use raftline_shard::config::ShardConfig;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{Effect, Event, RequestId, ShardAlarm};
use raftline_storage::{Allocation, RealDisk, Suspect};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::engine::AbortOnPanic;
use crate::executor::{
    CompactionDone, CompactionJob, Executor, OpenJob, OpenedLog, Outside, Removal, Removed, SyncRound,
};
use crate::handle::{Parcel, ReplySink, Shards};
use crate::inbox::Receiver;
use crate::lanes::Lanes;
use crate::limits;
use crate::payload::{OutReply, Payload, PeerMessage, PeerSender, SendOutcome};
use crate::preallocator::Allocations;
use crate::pulse::{At, Busy};
use crate::sync_pool::SyncPool;
use crate::view::{GroupLeader, NodeView};

/// What is never refused at a shard's inbox.
pub(crate) enum Notice {
    /// Something happened that must not be lost.
    Event(Box<Event<Payload>>),
    /// A sync round came to its end.
    Synced { round: SyncRound<RealDisk>, result: io::Result<()> },
    /// An allocation was run.
    Allocated { group: GroupId, allocation: Allocation<RealDisk>, result: io::Result<()> },
    /// A log was opened, or not.
    Opened(Box<OpenedLog<RealDisk>>),
    /// A compaction came to its end.
    Compacted(Box<CompactionDone<RealDisk>>),
    /// Files were removed.
    Removed(Box<Removed>),
    /// A place that a log of this shard has to examine.
    Suspect(Suspect),
    /// Sync, flush and end.
    Stop,
}

/// What connects a shard with the rest of the node.
pub(crate) struct Links {
    pub(crate) shard: usize,
    pub(crate) shards: Shards,
    pub(crate) view: Arc<NodeView>,
    pub(crate) pool: Arc<SyncPool<RealDisk>>,
    pub(crate) openers: Arc<Lanes<(usize, OpenJob<RealDisk>)>>,
    pub(crate) remover: Arc<Lanes<(usize, Removal<RealDisk>)>>,
    pub(crate) compactor: Arc<Lanes<(usize, CompactionJob<RealDisk>)>>,
    pub(crate) allocations: Allocations<RealDisk>,
    pub(crate) drained: mpsc::UnboundedSender<usize>,
    pub(crate) busy: Arc<Busy>,
}

/// One shard, its executor and its inbox.
pub(crate) struct ShardThread<S: PeerSender> {
    shard: Shard,
    executor: Executor<RealDisk>,
    inbox: Receiver<Parcel, Notice>,
    clock: Clock,
    world: World<S>,
    parcels: Vec<Parcel>,
    notices: Vec<Notice>,
    effects: Vec<Effect<Payload>>,
    answers: Vec<Event<Payload>>,
    stopping: bool,
}

impl<S: PeerSender> ShardThread<S> {
    pub(crate) fn spawn(
        config: ShardConfig,
        clock: Clock,
        executor: Executor<RealDisk>,
        inbox: Receiver<Parcel, Notice>,
        links: Links,
        peers: S,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        let name = format!("shard-{}", config.shard);
        Builder::new().name(name).spawn(move || {
            let _guard = AbortOnPanic;
            let (number, shards) = (u64::from(config.shard), u64::from(config.shards));
            let found = executor.groups_found()?;
            let mut shard = Shard::new(config);
            shard.found(found.into_iter().filter(|group| group.0 % shards == number));
            let thread = Self {
                shard,
                executor,
                inbox,
                clock,
                world: World { links, peers, clock, replies: Vec::new(), sync_began: Monotonic::ZERO },
                parcels: Vec::new(),
                notices: Vec::new(),
                effects: Vec::new(),
                answers: Vec::new(),
                stopping: false,
            };
            thread.run()
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.shard.start(&mut self.effects);
        loop {
            self.timed_turn();
            if self.stopping && !self.executor.is_syncing() {
                break;
            }
            if self.answers.is_empty() {
                self.park();
            }
        }
        let result = self.executor.shutdown(&mut self.world);
        self.world.flush();
        result
    }

    /// A turn, with its beginning and end shown to the pulse.
    fn timed_turn(&mut self) {
        let now = self.clock.now();
        let (shard, busy) = (self.world.links.shard, Arc::clone(&self.world.links.busy));
        busy.begin(shard, At::Turn, now.monotonic);
        self.turn(now);
        busy.end(shard, At::Turn);
        let took = self.clock.monotonic().since(now.monotonic);
        if took >= limits::SLOW_TURN {
            tracing::warn!(
                shard,
                ?took,
                "a turn of a shard took long: its thread had no core, or its disk is slow"
            );
        }
    }

    fn turn(&mut self, now: Now) {
        self.inbox.take(limits::TURN_EVENTS_MAX, &mut self.parcels, &mut self.notices);
        let mut events = Vec::new();
        for notice in self.notices.drain(..) {
            match notice {
                Notice::Event(event) => events.push(*event),
                Notice::Synced { round, result } => {
                    self.world.synced();
                    self.executor.sync_done(round, &result, &mut self.world, &mut self.answers);
                }
                Notice::Allocated { group, allocation, result } => {
                    self.executor.allocated(group, allocation, result, &mut self.world);
                }
                Notice::Opened(opened) => {
                    self.executor.log_opened(*opened, &mut self.world, &mut self.answers);
                }
                Notice::Compacted(done) => {
                    self.executor.compaction_done(*done, &mut self.world, &mut self.answers);
                }
                Notice::Removed(done) => {
                    self.executor.removed(*done, &mut self.world, &mut self.answers);
                }
                Notice::Suspect(suspect) => {
                    self.executor.examine(suspect, &mut self.world, &mut self.answers);
                }
                Notice::Stop => self.stopping = true,
            }
        }
        // Answers first: the shard has to know what became of its last orders before it gives new ones.
        for event in self.answers.drain(..).chain(events) {
            self.shard.handle(now, event, &mut self.effects);
        }
        for Parcel { event } in self.parcels.drain(..) {
            self.shard.handle(now, event, &mut self.effects);
        }
        if self.shard.deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            self.shard.handle(now, Event::Tick, &mut self.effects);
        }
        self.shard.end_turn(now, &mut self.effects);
        self.executor.perform(&mut self.effects, &mut self.world, &mut self.answers);
        self.executor.end_turn(now, &mut self.world, &mut self.answers);
        self.world.links.allocations.spent(self.executor.take_bytes_appended());
        self.world.flush();
    }

    fn park(&self) {
        let deadline = earlier(self.shard.deadline(), self.executor.deadline());
        let at_most = deadline.map_or(limits::PARK_MAX, |deadline| deadline.since(self.clock.monotonic()));
        if !at_most.is_zero() {
            self.inbox.park(at_most.min(limits::PARK_MAX));
        }
    }
}

/// The earlier of two deadlines.
fn earlier(first: Option<Monotonic>, second: Option<Monotonic>) -> Option<Monotonic> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (first, second) => first.or(second),
    }
}

/// The node around a shard.
struct World<S: PeerSender> {
    links: Links,
    peers: S,
    clock: Clock,
    /// This turn's replies. They go out once the turn's sync is under way: waking a client first would let it take
    /// the core from the disk's work.
    replies: Vec<(ReplySink, OutReply)>,
    /// When the last sync began.
    sync_began: Monotonic,
}

impl<S: PeerSender> World<S> {
    /// The sync in flight is done.
    fn synced(&mut self) {
        self.links.busy.end(self.links.shard, At::Sync);
        let took = self.clock.monotonic().since(self.sync_began);
        if took >= limits::SLOW_SYNC {
            tracing::warn!(shard = self.links.shard, ?took, "a sync took long: look at the disk");
            self.links.view.note_slow_sync(took, self.clock.monotonic());
        }
    }

    fn flush(&mut self) {
        self.peers.flush();
        for (sink, reply) in self.replies.drain(..) {
            sink.send(reply);
        }
    }
}

impl<S: PeerSender> Outside<RealDisk> for World<S> {
    fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome {
        self.peers.send(to, message)
    }

    fn reply(&mut self, request: RequestId, reply: OutReply) {
        match self.links.shards.sinks().take(self.links.shard, request) {
            Some(sink) => self.replies.push((sink, reply)),
            // This shard did not go on for a while: whoever asked has been told so.
            None => tracing::debug!(request = request.0, ?reply, "a reply that comes too late"),
        }
    }

    fn start_sync(&mut self, round: SyncRound<RealDisk>) {
        let now = self.clock.monotonic();
        self.sync_began = now;
        self.links.busy.begin(self.links.shard, At::Sync, now);
        self.links.pool.submit(self.links.shard, round);
    }

    fn open_log(&mut self, job: OpenJob<RealDisk>) -> Option<OpenJob<RealDisk>> {
        self.links.openers.submit([(self.links.shard, job)]);
        None
    }

    fn remove(&mut self, removal: Removal<RealDisk>) -> Option<Removal<RealDisk>> {
        self.links.remover.submit([(self.links.shard, removal)]);
        None
    }

    fn compact(&mut self, job: CompactionJob<RealDisk>) {
        self.links.compactor.submit([(self.links.shard, job)]);
    }

    fn sync_failed(&mut self, error: &io::Error) {
        tracing::error!(
            %error,
            "a sync failed: what the disk holds is unknown now, so the broker stops at once. Check the disk; after a \
             restart the log is read back from it and what is missing comes from the peers"
        );
        std::process::abort();
    }

    fn allocate(&mut self, group: GroupId, allocation: Allocation<RealDisk>) {
        self.links.allocations.submit(self.links.shard, group, allocation);
    }

    fn publish_image(&mut self, image: Arc<MetadataImage>) {
        let before = self.links.view.image();
        // Otherwise there is nothing to look for, however many topics there are.
        if image.topics.len() < before.topics.len() {
            for gone in before.topics.values().filter(|topic| !image.topics.contains_key(&topic.id)) {
                tracing::info!(topic = gone.name, partitions = gone.partitions.len(), "topic deleted");
            }
        }
        self.links.view.set_image(Arc::clone(&image));
        self.links.shards.tell_others(self.links.shard, || Event::Image(Arc::clone(&image)));
    }

    fn leader_changed(&mut self, group: GroupId, term: Term, leader: Option<NodeId>, role: Role) {
        let known = self.links.view.leader(group).and_then(|known| known.leader);
        match leader {
            Some(leader) if known != Some(leader) => {
                let partition = || self.links.view.place_of(group);
                tracing::debug!(partition = partition(), %term, %leader, "leader changed");
                self.links.view.note_new_leader(group, leader, self.clock.monotonic());
            }
            Some(_) | None => {
                let partition = || self.links.view.place_of(group);
                tracing::debug!(partition = partition(), %term, ?leader, ?role, "role or term changed");
            }
        }
        self.links.view.set_leader(group, GroupLeader { term, leader, role });
    }

    fn alarm(&mut self, group: GroupId, alarm: ShardAlarm) {
        let partition = self.links.view.place_of(group);
        tracing::error!(
            partition,
            ?alarm,
            "alarm: this cannot happen unless there is a bug, or a peer or disk lies"
        );
        self.links.view.note_alarm(group, format!("{alarm:?}"));
    }

    fn group_failed(&mut self, group: GroupId, reason: &str) {
        let partition = self.links.view.place_of(group);
        tracing::error!(partition, reason, "replica closed: its storage failed");
        self.links.view.set_failed(group, reason.to_owned());
    }

    fn replica_closed(&mut self, group: GroupId, reason: &str) {
        self.links.view.set_closed(group, reason.to_owned());
    }

    fn in_sync(&mut self, group: GroupId, term: Term, nodes: Vec<NodeId>) {
        tracing::debug!(partition = self.links.view.place_of(group), %term, ?nodes, "replicas in sync");
        self.links.view.set_in_sync(group, term, nodes);
    }

    fn let_go(&mut self, group: GroupId, (from, up_to): (Offset, Offset), bytes: u64, reason: TrimReason) {
        let partition = self.links.view.place_of(group);
        tracing::info!(partition, %from, %up_to, bytes, %reason, "old records have gone");
    }

    fn group_deleted(&mut self, group: GroupId) {
        // By now its topic has no name: that was told when the topic went.
        tracing::debug!(%group, "replica deleted with its topic");
        self.links.view.remove_group(group);
    }

    fn drained(&mut self) {
        // Nobody may be waiting any more.
        let _ = self.links.drained.send(self.links.shard);
    }
}
