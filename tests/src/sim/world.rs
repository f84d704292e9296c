//! The world: the cluster, the network and the clients of one run, and the loop that lets things happen.
//!
//! In reading order: this file (what there is, what can happen), `turn` (a shard's turn and what comes out of it),
//! `watch` and `report` (what the checkers are shown), `compacting`, `retaining`, `disks`, `rotting`,
//! `inquiries`, `pulse`, `links`, `faults`, `users`, `ending`.

mod compacting;
mod disks;
mod ending;
mod faults;
mod inquiries;
mod links;
mod port;
mod pulse;
mod report;
mod retaining;
mod rotting;
mod turn;
mod users;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raftline_broker::executor::{CompactionDone, CompactionJob, Removal};
use raftline_broker::payload::{OutReply, PeerMessage};
use raftline_proto::ids::{BootId, GroupId, NodeId};
use raftline_proto::time::Monotonic;
use raftline_storage::{Allocation, SimDisk};

use super::chance::Chance;
use super::check::{Checks, Violation};
use super::clients::{Call, Client};
use super::facts::{Fact, Life};
use super::heap::EventHeap;
use super::marks::{Mark, Marks};
use super::network::{Flight, Network};
use super::node::Node;
use super::plan::{Fault, Plan};
use super::trace::{Place, Trace};
use disks::DurableLogs;
pub use pulse::{News, new_pulse};
use users::Users;
use watch::Views;

/// One run.
pub struct World {
    pub(super) plan: Plan,
    pub(super) heap: EventHeap<Step>,
    pub(super) network: Network,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) users: Users,
    pub(super) judge: Judge,
    pub(super) counts: Counts,
    pub(super) views: Views,
    durable: DurableLogs,
    /// The node on which bytes of a group's log have gone bad. One for each group: its other replicas are sound.
    rotten: BTreeMap<GroupId, NodeId>,
    /// Pairs that are trying to connect.
    dialling: BTreeSet<(NodeId, NodeId)>,
    /// Faults are over.
    calm: bool,
    chance: Chance,
}

/// The checkers, the trace and the marks: where everything that happens is shown.
pub struct Judge {
    /// The checkers.
    pub checks: Checks,
    /// The story.
    pub trace: Trace,
    /// The situations reached.
    pub marks: Marks,
    /// The first property found broken: the run ends.
    pub violation: Option<Violation>,
}

impl Judge {
    /// Shows the checkers a fact.
    pub fn fact(&mut self, fact: &Fact<'_>) {
        if self.violation.is_none()
            && let Err(violation) = self.checks.observe(fact)
        {
            self.violation = Some(violation);
        }
    }
}

/// How much happened: a run with too little of it proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches acknowledged with quorum durability.
    pub acks: u64,
    /// Elections won.
    pub elections: u64,
    /// Faults injected.
    pub faults: u64,
    /// Processes started.
    pub starts: u64,
    /// Records served to consumers.
    pub served: u64,
    /// Messages between nodes, signs of life left out.
    pub messages: u64,
    /// Logs closed by a full disk or a failed sync.
    pub closed_by_disk: u64,
}

/// Something that is going to happen.
pub(super) enum Step {
    /// A shard takes a turn.
    Turn(Life, usize),
    /// A shard's deadline, planned for this moment.
    Wake(Life, usize, Monotonic),
    /// A part of the sync round in flight is done.
    SyncPart { life: Life, shard: usize, round: u64, part: usize, early: bool },
    /// A file was extended ahead.
    Allocate { life: Life, shard: usize, group: GroupId, allocation: Box<Allocation<SimDisk>> },
    /// Files that are no part of a log any more are removed.
    Remove { life: Life, shard: usize, removal: Box<Removal<SimDisk>> },
    /// A log's compaction is run, or what was done is taken over.
    Compact { life: Life, shard: usize, work: Box<CompactionWork> },
    /// A node's pulse, planned for this moment.
    Beat(Life, Monotonic),
    /// A node's pulse hears something.
    News(Life, Box<News>),
    /// A message arrives.
    Arrive { flight: Flight, boot: BootId, message: Box<PeerMessage>, nth: usize },
    /// A node tries to connect to another.
    Dial(NodeId, NodeId),
    /// A node notices that its connection broke.
    Broken { from: NodeId, to: NodeId, generation: u64 },
    /// A client's request arrives.
    Request { client: usize, call: Box<Call>, straggles: bool },
    /// A client is answered.
    Response { client: usize, tag: u64, reply: Option<Box<OutReply>> },
    /// A client wakes.
    Client { client: usize, at: Monotonic },
    /// A fault comes.
    Fault(usize),
    /// A new leader's reign is cut short.
    Fall(Life, GroupId),
    /// A partition ends.
    Mend(Vec<(NodeId, NodeId)>),
    /// A node's scrub comes by.
    Scrub(NodeId),
    /// A disk has room again.
    Roomy(NodeId),
    /// A process starts.
    Start(NodeId),
}

/// How far a compaction is.
pub(super) enum CompactionWork {
    Begun(CompactionJob<SimDisk>),
    Done(CompactionDone<SimDisk>),
}

impl World {
    /// The world of a plan, before anything has happened.
    #[must_use]
    pub fn new(plan: Plan, trace: Trace) -> Self {
        let mut chance = Chance::from_seed(plan.seed ^ 0x5eed);
        let ids: Vec<NodeId> = (1..=plan.nodes).map(NodeId).collect();
        let network = Network::new(&ids, plan.network, chance.fork());
        let heap = EventHeap::new(chance.fork());
        let nodes = ids.iter().map(|id| (*id, disks::new_node(*id, &mut chance))).collect();
        let users = Users::new(&plan, chance.fork());
        let mut world = Self {
            heap,
            network,
            nodes,
            users,
            judge: Judge { checks: Checks::default(), trace, marks: Marks::default(), violation: None },
            counts: Counts::default(),
            views: Views::new(),
            durable: DurableLogs::default(),
            rotten: BTreeMap::new(),
            dialling: BTreeSet::new(),
            calm: false,
            chance,
            plan,
        };
        for id in ids {
            let at = Monotonic::ZERO + world.chance.span(Duration::ZERO, Duration::from_millis(50));
            world.heap.push(at, Step::Start(id));
        }
        if world.plan.faults.iter().any(|(fault, _)| *fault == Fault::Rot) {
            for id in world.ids() {
                let at = Monotonic::ZERO + world.chance.span(Duration::ZERO, Duration::from_secs(1));
                world.heap.push(at, Step::Scrub(id));
            }
        }
        for fault in 0..world.plan.faults.len() {
            let at = Monotonic::ZERO + world.plan.grace + world.chance.around(world.plan.faults[fault].1);
            world.heap.push(at, Step::Fault(fault));
        }
        world.start_users();
        world
    }

    /// Lets things happen up to this moment, or until a property is broken.
    pub fn run(&mut self, through: Monotonic) {
        while self.judge.violation.is_none()
            && let Some(step) = self.heap.pop(through)
        {
            self.step(step);
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        self.heap.now()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Turn(life, shard) => self.turn(life, shard),
            Step::Wake(life, shard, at) => self.woken(life, shard, at),
            Step::SyncPart { life, shard, round, part, early } => {
                self.sync_part(life, shard, round, part, early)
            }
            Step::Allocate { life, shard, group, allocation } => {
                self.allocate(life, shard, group, *allocation)
            }
            Step::Remove { life, shard, removal } => self.remove(life, shard, *removal),
            Step::Compact { life, shard, work } => self.compact(life, shard, *work),
            Step::Beat(life, at) => self.beat(life, at),
            Step::News(life, news) => self.hear(life, *news),
            Step::Arrive { flight, boot, message, nth } => self.arrive(flight, boot, *message, nth),
            Step::Dial(from, to) => self.dial(from, to),
            Step::Broken { from, to, generation } => self.broken(from, to, generation),
            // What was on its way for seconds is lost in the end: a quiet cluster is to be seen.
            Step::Request { straggles: true, .. } if self.calm => {}
            Step::Request { client, call, .. } => self.request(client, *call),
            Step::Response { client, tag, reply } => self.response(client, tag, reply.map(|reply| *reply)),
            Step::Client { client, at } => self.wake_client(client, at),
            Step::Fault(fault) => self.fault(fault),
            Step::Fall(life, group) => self.fall(life, group),
            Step::Mend(_) if self.calm => {}
            Step::Mend(pairs) => self.mend(&pairs),
            Step::Scrub(node) => self.scrub(node),
            Step::Roomy(node) => self.roomy(node),
            Step::Start(node) => self.start(node),
        }
    }

    /// All nodes.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    fn trace(&mut self, place: Place, what: &'static str, digest: u64, detail: impl FnOnce() -> String) {
        self.judge.trace.event(self.heap.now(), place, what, digest, detail);
    }

    fn mark(&mut self, mark: Mark) {
        self.judge.marks.hit(mark);
    }

    /// Starts a process where none runs.
    fn start(&mut self, id: NodeId) {
        let now = self.heap.now();
        let (boot, seed) = (BootId(self.chance.any()), self.chance.any());
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.process.is_none()) else { return };
        let started = node.start(now, boot, &self.plan, seed);
        let start = node.starts;
        self.counts.starts += 1;
        self.trace(Place::on(id), "start", u64::from(start), || format!("start {start}, boot {boot}"));
        self.durable.forget(id);
        match started {
            Ok(effects) => {
                let life = Life { node: id, start: start - 1 };
                for (shard, effects) in effects.into_iter().enumerate() {
                    self.perform(life, shard, effects);
                }
                self.plan_beat(life);
            }
            // It says so and stops, as it has to; somebody starts it again.
            Err(reason) if self.nodes.get(&id).is_some_and(|node| node.is_full || node.sync_fails) => {
                self.trace(Place::on(id), "no start", u64::from(start), || reason);
                self.with_node(id, |node| {
                    node.sync_fails = false;
                    node.disk = node.disk.kill();
                });
                let at = now + self.spell();
                self.heap.push(at, Step::Start(id));
            }
            Err(reason) => {
                let life = Life { node: id, start: start - 1 };
                self.judge.fact(&Fact::Failed { life, group: GroupId::COORDINATOR, reason: &reason });
            }
        }
        self.connect_after_start(id);
    }

    /// The clients, for the report at the end.
    pub(super) fn clients(&self) -> &[Client] {
        self.users.clients()
    }

    /// The fault kinds of this run.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.plan.faults.iter().map(|(fault, _)| *fault).collect()
    }
}
