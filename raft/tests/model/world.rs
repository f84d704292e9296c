//! A group of replicas with their disks, a network and a clock, all drawn from one seed.

use crate::checker::Checker;
use crate::faults::{Faults, Random};
use crate::support::disk::Disk;
use crate::support::replica::{Done, Event, Replica, Wire};
use raftline_proto::ids::{Index, Membership, NodeId};
use raftline_proto::time::Monotonic;
use raftline_raft::Config;
use raftline_raft::config::{FirstCampaign, PreVote};
use raftline_raft::types::{AckWanted, Output, ReplicateOutcome, Role};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A node's sign of life goes out this often, and lapses after this long.
const ALIVE_US: u64 = 100_000;
const LAPSE_US: u64 = 1_000_000;

#[derive(Debug)]
pub enum Happening {
    Deliver(Wire),
    SendAlive { node: usize, boot: u64 },
    Alive { from: usize, to: usize, boot: u64 },
    Synced { node: usize, boot: u64, count: usize },
    Saved { node: usize, boot: u64 },
    Wake { node: usize, boot: u64 },
    Restart { node: usize, boot: u64 },
    Propose,
    CrashOne { node: usize, boot: u64 },
    Refused { by: usize, boot: u64, to: usize },
    Crash,
    Partition,
    Full,
    Trim,
    Transfer,
}

pub struct Node {
    pub replica: Replica,
    pub running: bool,
    pub boot: u64,
    syncing: bool,
    /// Per peer: when it was last heard, its boot, whether it counts as up.
    pub heard: BTreeMap<usize, (u64, u64, bool)>,
    /// The deadline that a wake-up is scheduled for.
    wake_at: Option<u64>,
}

pub struct World {
    seed: u64,
    pub now: u64,
    pub random: Random,
    pub faults: Faults,
    pub nodes: Vec<Node>,
    heap: BinaryHeap<Reverse<(u64, u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    /// Directed pairs that nothing passes.
    pub cut: BTreeSet<(usize, usize)>,
    /// When the last message of a link arrives, where they keep their order.
    arrivals: BTreeMap<(usize, usize), u64>,
    calm: bool,
    value: u64,
    verbose: bool,
    pub checker: Checker,
}

impl World {
    pub fn new(seed: u64, faults: Faults, verbose: bool) -> Self {
        let voters = (1..=faults.voters).map(NodeId).collect();
        let learners = (faults.voters + 1..=faults.voters + faults.learners).map(NodeId).collect();
        let membership = Membership { voters, learners };
        if verbose {
            eprintln!("{faults:#?}");
        }
        let mut random = Random::new(seed);
        let nodes = membership
            .all()
            .map(|node| {
                let mut config = Config::new(node, membership.clone(), random.next());
                let pace = u32::try_from(faults.pace).unwrap();
                config.election_timeout_min /= pace;
                config.election_timeout_max /= pace;
                config.resend /= pace;
                if !faults.pre_vote {
                    config.pre_vote = PreVote::Off;
                }
                if faults.eager && node == NodeId(1) {
                    config.first_campaign = FirstCampaign::AtOnce;
                }
                if faults.small_windows {
                    config.in_flight_bytes_max = 2_000;
                    config.in_flight_messages_max = 2;
                    config.uncommitted_bytes_max = 20_000;
                    config.uncommitted_entries_max = 20;
                }
                let mut replica = Replica::new(config, Disk::default(), Monotonic::ZERO);
                if faults.small_batches {
                    replica.batch_max = 1;
                }
                Node {
                    replica,
                    running: false,
                    boot: 0,
                    syncing: false,
                    heard: BTreeMap::new(),
                    wake_at: None,
                }
            })
            .collect();
        let mut world = Self {
            seed,
            now: 0,
            random,
            faults,
            nodes,
            heap: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            calm: false,
            value: 0,
            verbose,
            checker: Checker::default(),
        };
        for node in 0..world.nodes.len() {
            let late = world.random.below(50_000);
            world.after(late, Happening::Restart { node, boot: 0 });
        }
        world.after(world.faults.propose_every_us, Happening::Propose);
        world.again(world.faults.crash_every_us, Happening::Crash);
        world.again(world.faults.partition_every_us, Happening::Partition);
        world.again(world.faults.full_every_us, Happening::Full);
        world.again(world.faults.trim_every_us, Happening::Trim);
        world.again(world.faults.transfer_every_us, Happening::Transfer);
        world
    }

    pub fn pace(&self) -> u64 {
        self.faults.pace
    }

    pub fn after(&mut self, delay_us: u64, happening: Happening) {
        self.sequence += 1;
        let tie = self.random.next();
        self.heap.push(Reverse((self.now + delay_us, tie, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    pub fn again(&mut self, every_us: Option<u64>, happening: Happening) {
        if let (Some(every_us), false) = (every_us, self.calm) {
            let delay = every_us / 2 + self.random.below(every_us);
            self.after(delay, happening);
        }
    }

    pub fn run_until(&mut self, until: u64) {
        while let Some(Reverse((at, _, sequence))) = self.heap.peek().copied() {
            if at > until {
                break;
            }
            self.heap.pop();
            self.now = at;
            let happening = self.happenings.remove(&sequence).expect("queued with the heap");
            self.happen(happening);
        }
        self.now = until;
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>12} {}", self.now, text());
        }
    }

    fn is_current(&self, node: usize, boot: u64) -> bool {
        self.nodes[node].running && self.nodes[node].boot == boot
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver(wire) => {
                let (from, to) = (place(wire.from), place(wire.to));
                if self.nodes[to].running && !self.cut.contains(&(from, to)) {
                    let taken = wire.entries.len();
                    self.handle(to, &Event::Wire(wire), taken);
                }
            }
            Happening::SendAlive { node, boot } => {
                if self.is_current(node, boot) {
                    self.send_alive(node, boot);
                    self.look_for_lapses(node);
                    self.after(ALIVE_US / self.faults.pace, Happening::SendAlive { node, boot });
                }
            }
            Happening::Alive { from, to, boot } => {
                if self.nodes[to].running && !self.cut.contains(&(from, to)) {
                    self.hear_alive(from, to, boot);
                }
            }
            Happening::Synced { node, boot, count } => {
                if self.is_current(node, boot) {
                    self.nodes[node].syncing = false;
                    self.handle(node, &Event::Synced(count), 0);
                }
            }
            Happening::Saved { node, boot } => {
                if self.is_current(node, boot) {
                    self.handle(node, &Event::Saved, 0);
                }
            }
            Happening::Wake { node, boot } => {
                if self.is_current(node, boot) {
                    self.nodes[node].wake_at = None;
                    self.handle(node, &Event::Tick, 0);
                }
            }
            Happening::Restart { node, boot } => {
                if !self.nodes[node].running && self.nodes[node].boot == boot {
                    self.restart(node);
                }
            }
            // Whatever was scheduled before the calm.
            Happening::Propose
            | Happening::Crash
            | Happening::CrashOne { .. }
            | Happening::Partition
            | Happening::Full
            | Happening::Trim
            | Happening::Transfer
                if self.calm => {}
            Happening::Propose => self.propose_somewhere(),
            Happening::CrashOne { node, boot } => {
                if self.is_current(node, boot) {
                    self.crash(node);
                }
            }
            Happening::Refused { by, boot, to } => self.see_crash(by, boot, to),
            Happening::Crash => self.crash_one(),
            Happening::Partition => self.partition(),
            Happening::Full => self.fill_or_empty_a_disk(),
            Happening::Trim => self.trim_one(),
            Happening::Transfer => self.transfer_one(),
        }
    }

    /// One event at one node, and all that follows at once.
    pub fn handle(&mut self, node: usize, event: &Event, taken: usize) {
        self.say(|| format!("node {}: {event:?}", node + 1));
        let now = Monotonic(self.now);
        let done = self.nodes[node].replica.handle(now, event);
        self.carry_on(node, done, taken);
    }

    fn carry_on(&mut self, node: usize, done: Done, taken: usize) {
        for output in &done.outputs {
            self.say(|| format!("        {}> {output:?}", node + 1));
        }
        let all: Vec<&Replica> = self.nodes.iter().map(|node| &node.replica).collect();
        self.checker.after(&self.nodes[node].replica, &done, taken, &all);
        for wire in done.wires {
            self.send(wire);
        }
        let is_leader = |output: &Output| matches!(output, Output::RoleChanged { role: Role::Leader, .. });
        if done.outputs.iter().any(is_leader)
            && !self.calm
            && self.random.chance(self.faults.crash_new_leader)
        {
            // Mostly very soon, sometimes not.
            let longest = 1 + self.random.below(30_000);
            let moment = self.random.below(longest) / self.faults.pace;
            let boot = self.nodes[node].boot;
            self.after(moment, Happening::CrashOne { node, boot });
        }
        self.attend(node);
    }

    /// Starts what the disk and the clock owe a node.
    fn attend(&mut self, node: usize) {
        let boot = self.nodes[node].boot;
        let unsynced = self.nodes[node].replica.disk.unsynced();
        if unsynced > 0 && !self.nodes[node].syncing {
            self.nodes[node].syncing = true;
            let slowest = if self.calm { 1_000 } else { self.faults.sync_us_max };
            let delay = 20 + self.random.below(slowest);
            self.after(delay, Happening::Synced { node, boot, count: unsynced });
        }
        // Each hard state is announced by a completion of its own, in order.
        let saving = self.nodes[node].replica.disk.saving.len();
        for _ in self.queued_saves(node, boot)..saving {
            let slowest = if self.calm { 1_000 } else { self.faults.save_us_max };
            let delay = 20 + self.random.below(slowest);
            self.after(delay, Happening::Saved { node, boot });
        }
        if let Some(deadline) = self.nodes[node].replica.raft.deadline() {
            let at = deadline.0.max(self.now + 1);
            if self.nodes[node].wake_at.is_none_or(|scheduled| at < scheduled) {
                self.nodes[node].wake_at = Some(at);
                self.after(at - self.now, Happening::Wake { node, boot });
            }
        }
    }

    fn queued_saves(&self, node: usize, boot: u64) -> usize {
        let is_save = |happening: &&Happening| matches!(happening, Happening::Saved { node: n, boot: b } if *n == node && *b == boot);
        self.happenings.values().filter(is_save).count()
    }

    fn delay(&mut self) -> u64 {
        if !self.calm && self.random.chance(self.faults.late) {
            return self.random.below(self.faults.late_us);
        }
        (500 + self.random.below(2_000)) / self.faults.pace
    }

    fn send(&mut self, wire: Wire) {
        let link = (place(wire.from), place(wire.to));
        if self.cut.contains(&link) {
            return;
        }
        if !self.calm && self.random.chance(self.faults.drop) {
            self.say(|| format!("        lost: {:?} to {}", wire.message, wire.to));
            return;
        }
        if !self.calm && self.random.chance(self.faults.duplicate) {
            let delay = self.delay();
            self.after(delay, Happening::Deliver(wire.clone()));
        }
        let mut delay = self.delay();
        if self.calm || !self.faults.reorder {
            let latest = self.arrivals.entry(link).or_default();
            *latest = (*latest + 1).max(self.now + delay);
            delay = *latest - self.now;
        }
        self.after(delay, Happening::Deliver(wire));
    }

    fn send_alive(&mut self, from: usize, boot: u64) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if !self.calm && self.random.chance(self.faults.drop) {
                continue;
            }
            let delay = (500 + self.random.below(2_000)) / self.faults.pace;
            self.after(delay, Happening::Alive { from, to, boot });
        }
    }

    fn hear_alive(&mut self, from: usize, to: usize, boot: u64) {
        let known = self.nodes[to].heard.insert(from, (self.now, boot, true));
        let peer = NodeId(u32::try_from(from + 1).unwrap());
        match known {
            Some((_, old, _)) if old < boot => self.handle(to, &Event::PeerReset(peer), 0),
            Some((_, _, true)) => {}
            Some((_, _, false)) | None => self.handle(to, &Event::PeerUp(peer), 0),
        }
    }

    fn look_for_lapses(&mut self, node: usize) {
        let (now, lapse) = (self.now, LAPSE_US / self.faults.pace);
        let mut lapsed = Vec::new();
        for (peer, (at, _, up)) in &mut self.nodes[node].heard {
            if *up && now - *at > lapse {
                *up = false;
                lapsed.push(NodeId(u32::try_from(*peer + 1).unwrap()));
            }
        }
        for peer in lapsed {
            self.handle(node, &Event::PeerDown(peer), 0);
        }
    }

    fn restart(&mut self, place: usize) {
        self.say(|| format!("node {} starts", place + 1));
        let node = &mut self.nodes[place];
        node.running = true;
        node.boot += 1;
        node.syncing = false;
        node.wake_at = None;
        node.heard.clear();
        node.replica.restart(Monotonic(self.now));
        if self.faults.memory_acks {
            node.replica.raft.set_ack_wanted(AckWanted::Memory);
        }
        let boot = node.boot;
        self.happen(Happening::SendAlive { node: place, boot });
        self.attend(place);
    }

    pub fn pick(&mut self) -> usize {
        usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap()
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.running && node.replica.raft.role() == Role::Leader;
        (0..self.nodes.len())
            .filter(|node| leads(&self.nodes[*node]))
            .max_by_key(|node| self.nodes[*node].replica.raft.term())
    }

    fn propose_somewhere(&mut self) {
        let node = self.pick();
        if self.nodes[node].running {
            let burst = 1 + self.random.below(4);
            for _ in 0..burst {
                self.propose(node);
            }
        }
        self.after(self.faults.propose_every_us, Happening::Propose);
    }

    fn propose(&mut self, node: usize) {
        self.value += 1;
        let bytes = if self.random.chance(50) { 100_000 } else { 100 + self.random.below(1_000) };
        for _ in 0..3 {
            let outcome = if !self.calm && self.random.chance(self.faults.busy) {
                ReplicateOutcome::Busy
            } else {
                ReplicateOutcome::Sent
            };
            let outcomes = &mut self.nodes[node].replica.outcomes;
            if outcomes.len() < 8 {
                outcomes.push_back(outcome);
            }
        }
        let (result, done) = self.nodes[node].replica.propose(Monotonic(self.now), self.value, bytes, None);
        self.say(|| format!("node {}: propose {}: {result:?}", node + 1, self.value));
        self.carry_on(node, done, 0);
    }

    pub fn propose_anywhere(&mut self) {
        let leader = self.leader().expect("converged, so somebody leads");
        self.propose(leader);
    }

    /// Ends all faults.
    pub fn calm(&mut self) {
        self.say(|| "calm".to_string());
        self.calm = true;
        self.cut.clear();
        for node in 0..self.nodes.len() {
            self.nodes[node].replica.disk.full = false;
            self.nodes[node].replica.outcomes.clear();
            if !self.nodes[node].running {
                self.restart(node);
            }
        }
    }

    /// LIVE: one leader, known to all; the same log everywhere, committed to its end; nothing under way.
    pub fn assert_converged(&self, when: &str) {
        let seed = self.seed;
        let leader = self.leader().unwrap_or_else(|| panic!("seed {seed}: nobody leads {when}"));
        let first = &self.nodes[leader].replica;
        for node in &self.nodes {
            let raft = &node.replica.raft;
            let who = raft.role();
            let name = node.replica.config.node;
            assert_eq!(raft.term(), first.raft.term(), "seed {seed}: term of {name} ({who:?}) {when}");
            assert_eq!(raft.leader(), first.raft.leader(), "seed {seed}: leader of {name} {when}");
            assert_eq!(raft.last(), first.raft.last(), "seed {seed}: last of {name} {when}");
            assert_eq!(raft.commit(), raft.last().index, "seed {seed}: commit of {name} {when}");
            assert_eq!(raft.durable(), raft.last().index, "seed {seed}: durable of {name} {when}");
            assert_eq!(raft.deadline(), None, "seed {seed}: {name} ({who:?}) still has a timer {when}");
            assert!(raft.idle(), "seed {seed}: {name} is not idle {when}");
            let start = node.replica.disk.live.start.previous.index.max(first.disk.live.start.previous.index);
            let mut index = start.next();
            while index <= raft.last().index {
                assert_eq!(
                    node.replica.disk.durable.get(index),
                    first.disk.durable.get(index),
                    "seed {seed}"
                );
                index = index.next();
            }
        }
        assert_eq!(Index(self.checker.committed.len() as u64), first.raft.commit());
    }
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.get()).unwrap() - 1
}

/// Every directed pair of nodes.
pub fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)))
}
