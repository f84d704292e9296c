//! Three nodes, the wire between them, and one clock: everything that a shard needs to believe that it is real.

use crate::log::{Payload, Stored, Text};
use crate::node::{Answer, Node, Outgoing};
use crate::weather::Weather;
use raftline_proto::entry::{BatchInfo, ProducerBatch};
use raftline_proto::ids::{BootId, GroupId, Incarnation, NodeId, Offset, ProducerId, TopicId};
use raftline_proto::metadata::BrokerRecord;
use raftline_proto::time::{Monotonic, Now, Timestamp};
use raftline_raft::types::{Message, Role};
use raftline_shard::ShardConfig;
use raftline_shard::config::{Timings, TopicDefaults};
use raftline_shard::pulse::Sign;
use raftline_shard::types::{
    CoordinatorCommand, CoordinatorError, CoordinatorReply, Durability, Event, FetchError, GroupDescription,
    ProduceError, Produced, Reply, RequestId, ShardAlarm,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Shards of every node: more than one, so that the ways between them are walked too.
pub const SHARDS: u32 = 2;

/// What travels between nodes.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    Alive { boot: BootId, sign: Sign },
    Raft { group: GroupId, message: Message, entries: Vec<Stored> },
}

pub struct World {
    pub nodes: BTreeMap<NodeId, Node>,
    pub now: Monotonic,
    /// In flight, by time and number.
    wire: BTreeMap<(Monotonic, u64), (NodeId, NodeId, PeerMessage)>,
    sent: u64,
    /// Directions in which nothing passes.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    /// Groups whose messages are all lost.
    pub muted: BTreeSet<GroupId>,
    /// A wire that loses, doubles and reorders.
    pub weather: Option<Weather>,
    pub answers: BTreeMap<RequestId, Answer>,
    pub alarms: Vec<(GroupId, ShardAlarm)>,
    pub drained: usize,
    requests: u64,
    boots: u64,
    topics: u128,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process dies; its disk has all that was written. Peers are told by the host.
    Killed,
    /// The machine dies: what was not synced is gone. Nobody is told.
    PowerCut,
}

pub const N1: NodeId = NodeId(1);
pub const N2: NodeId = NodeId(2);
pub const N3: NodeId = NodeId(3);

impl World {
    /// Three running nodes.
    pub fn new() -> Self {
        let mut world = Self {
            nodes: [N1, N2, N3].map(|id| (id, Node::new(id))).into_iter().collect(),
            now: Monotonic(1_000_000),
            wire: BTreeMap::new(),
            sent: 0,
            cut: BTreeSet::new(),
            muted: BTreeSet::new(),
            weather: None,
            answers: BTreeMap::new(),
            alarms: Vec::new(),
            drained: 0,
            requests: 0,
            boots: 0,
            topics: 0,
        };
        for id in [N1, N2, N3] {
            world.start(id);
        }
        world
    }

    /// Three running, registered nodes.
    pub fn registered() -> Self {
        let mut world = Self::new();
        for node in [N1, N2, N3] {
            world.register(node, Incarnation(u64::from(node.get()))).expect("registers");
        }
        world
    }

    /// The same with a topic of one partition; its group.
    pub fn with_topic() -> (Self, GroupId) {
        let mut world = Self::registered();
        let group = world.create_topic("orders", 1);
        world.leader(group);
        (world, group)
    }

    fn clock(&self) -> Now {
        Now {
            monotonic: self.now,
            wall: Timestamp(1_700_000_000_000 + i64::try_from(self.now.0 / 1000).expect("not that long")),
        }
    }

    pub fn start(&mut self, id: NodeId) {
        self.boots += 1;
        let boot = BootId(self.boots);
        let now = self.clock();
        let config = |shard| ShardConfig {
            shard,
            shards: SHARDS,
            node: id,
            incarnation: Incarnation(u64::from(id.get())),
            boot,
            peers: vec![N1, N2, N3],
            cluster_name: "test".to_owned(),
            cluster_id_seed: 0xc1,
            seed: u64::from(id.get()) * 1_000_003,
            timings: Timings::default(),
            in_flight_bytes_max: raftline_shard::limits::IN_FLIGHT_BYTES_MAX,
            defaults: TopicDefaults::default(),
        };
        self.node(id).start(config, now);
        self.connect(id);
    }

    fn connect(&mut self, id: NodeId) {
        for peer in self.running().into_iter().filter(|peer| *peer != id) {
            let now = self.now;
            self.node(peer).hear(|pulse, beats| pulse.connected(id, now, beats));
            self.node(id).hear(|pulse, beats| pulse.connected(peer, now, beats));
        }
    }

    pub fn end(&mut self, id: NodeId, how: End) {
        let node = self.node(id);
        assert!(node.process.take().is_some(), "does not run");
        if how == End::PowerCut {
            node.disk.power_cut();
            return;
        }
        for peer in self.running() {
            self.node(peer).hear(|pulse, beats| pulse.refused(id, beats));
        }
    }

    pub fn running(&self) -> Vec<NodeId> {
        self.nodes.values().filter(|node| node.process.is_some()).map(|node| node.id).collect()
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("one of three")
    }

    /// Nothing passes between `id` and the others, either way.
    pub fn isolate(&mut self, id: NodeId) {
        for peer in [N1, N2, N3].into_iter().filter(|peer| *peer != id) {
            self.cut.insert((id, peer));
            self.cut.insert((peer, id));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.advance(end) {}
        self.now = end;
    }

    /// Runs until something is there, at most ten seconds.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = self.now + Duration::from_secs(10);
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if !self.advance(end) {
                let describe = |node: &Node| node.process.as_ref().map(|process| process.leaders.clone());
                let leaders: Vec<_> = self.nodes.values().map(describe).collect();
                panic!("{what}: not within ten seconds; leaders {leaders:?}, alarms {:?}", self.alarms);
            }
        }
    }

    /// Goes to the next thing that happens, unless it is after `end`.
    fn advance(&mut self, end: Monotonic) -> bool {
        let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
        let nodes = self.nodes.values().filter_map(|node| node.deadline(self.now));
        let Some(next) = wire.into_iter().chain(nodes).min().filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, message) = entry.remove();
            self.deliver(from, to, message);
        }
        let now = self.clock();
        for id in [N1, N2, N3] {
            let mut out = Outgoing::default();
            if self.node(id).deadline(now.monotonic).is_some_and(|at| at <= now.monotonic) {
                self.node(id).turn(now, &mut out);
            }
            for (to, message) in out.messages {
                self.post(id, to, message);
            }
            for (request, answer) in out.answers {
                let before = self.answers.insert(request, answer);
                assert!(before.is_none(), "{request:?} was answered twice");
            }
            self.alarms.extend(out.alarms);
            self.drained += out.drained;
        }
        true
    }

    fn post(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let delays = self.weather.as_mut().map_or_else(|| vec![500], Weather::delays);
        for delay_us in delays {
            self.sent += 1;
            let at = self.now + Duration::from_micros(delay_us);
            self.wire.insert((at, self.sent), (from, to, message.clone()));
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let muted = matches!(&message, PeerMessage::Raft { group, .. } if self.muted.contains(group));
        if muted || self.cut.contains(&(from, to)) {
            return;
        }
        let event = match message {
            PeerMessage::Alive { boot, sign } => {
                let now = self.clock();
                let now = self.node(to).clocks(now);
                self.node(to).hear(|pulse, beats| pulse.heard(from, boot, sign, now, beats));
                return;
            }
            PeerMessage::Raft { group, message, entries } => Event::Peer {
                from,
                group,
                message,
                payload: (!entries.is_empty()).then(|| Payload::Entries(entries.clone())),
                entries: entries.into_iter().map(|stored| stored.info).collect(),
            },
        };
        self.node(to).submit(event);
    }

    pub fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    pub fn ask(&mut self, node: NodeId, make: impl FnOnce(RequestId) -> Event<Payload>) -> RequestId {
        let request = self.request();
        self.node(node).submit(make(request));
        request
    }

    pub fn answer(&mut self, request: RequestId) -> Answer {
        self.until("an answer", |world| world.answers.remove(&request))
    }

    pub fn shard_answer(&mut self, request: RequestId) -> Reply {
        match self.answer(request) {
            Answer::Shard(reply) => *reply,
            other => panic!("not the shard's answer: {other:?}"),
        }
    }

    pub fn deadline(&self, span: Duration) -> Monotonic {
        self.now + span
    }

    /// The node that leads and is known as the leader by a majority.
    pub fn leader(&mut self, group: GroupId) -> NodeId {
        self.until("a leader", |world| world.find_leader(group))
    }

    fn find_leader(&self, group: GroupId) -> Option<NodeId> {
        let views = |node: &Node| node.process.as_ref()?.leaders.get(&group).copied();
        let leads = |node: &&Node| views(node).is_some_and(|(role, _)| role == Role::Leader);
        let leader = self.nodes.values().filter(leads).map(|node| node.id).find(|leader| {
            let follows = |node: &&Node| views(node).is_some_and(|(_, known)| known == Some(*leader));
            self.nodes.values().filter(follows).count() >= 2
        })?;
        Some(leader)
    }

    pub fn coordinate(
        &mut self,
        node: NodeId,
        command: CoordinatorCommand,
    ) -> Result<CoordinatorReply, CoordinatorError> {
        let deadline = self.deadline(Duration::from_secs(5));
        let request = self.ask(node, |request| Event::Coordinate { request, command, deadline });
        match self.shard_answer(request) {
            Reply::Coordinated(outcome) => outcome,
            other => panic!("not the coordinator's answer: {other:?}"),
        }
    }

    /// The same, of whoever leads.
    pub fn command(&mut self, command: CoordinatorCommand) -> Result<CoordinatorReply, CoordinatorError> {
        let leader = self.leader(GroupId::COORDINATOR);
        self.coordinate(leader, command)
    }

    pub fn register(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Result<CoordinatorReply, CoordinatorError> {
        let grpc_address = format!("host-{node}:9000");
        let broker = BrokerRecord { node, incarnation, grpc_address, kafka: [].into() };
        self.command(CoordinatorCommand::RegisterBroker(broker))
    }

    /// Makes a topic with three replicas; its first group, once the leader has opened it.
    pub fn create_topic(&mut self, name: &str, partitions: u32) -> GroupId {
        let command = self.topic(name, Some(partitions), &[]);
        self.command(command).expect("creates the topic");
        self.group(name, 0)
    }

    pub fn topic(
        &mut self,
        name: &str,
        partitions: Option<u32>,
        configs: &[(&str, &str)],
    ) -> CoordinatorCommand {
        self.topics += 1;
        CoordinatorCommand::CreateTopic {
            id: TopicId(self.topics),
            name: name.to_owned(),
            partitions,
            replication: None,
            configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            assignment: Vec::new(),
        }
    }

    /// Changes a topic's config.
    pub fn configure(&mut self, topic: &str, config: &str, value: &str) {
        let configs = [(config.to_owned(), Some(value.to_owned()))].into();
        let command = CoordinatorCommand::AlterTopic { name: topic.to_owned(), configs };
        assert_eq!(self.command(command), Ok(CoordinatorReply::Done));
    }

    /// A partition's group, once all running nodes know it.
    pub fn group(&mut self, name: &str, partition: usize) -> GroupId {
        self.until("the topic on every node", |world| {
            let mut found = None;
            for process in world.nodes.values().filter_map(|node| node.process.as_ref()) {
                for shard in &process.shards {
                    let image = shard.image();
                    let topic = image.topics.get(image.topic_ids.get(name)?)?;
                    found = Some(topic.partitions.get(partition)?.group);
                }
            }
            found
        })
    }

    pub fn produce_event(
        &mut self,
        group: GroupId,
        text: &str,
        sequence: Option<(u64, u16, u32)>,
        durability: Durability,
        wait: Duration,
    ) -> impl FnOnce(RequestId) -> Event<Payload> + use<> {
        let deadline = self.deadline(wait);
        let now = self.clock().wall;
        let batch = BatchInfo {
            batch_bytes: 61 + u32::try_from(text.len()).expect("short"),
            record_count: 1 + u32::try_from(text.matches(' ').count()).expect("short"),
            base_timestamp: now,
            max_timestamp: now,
            producer: sequence.map(|(id, epoch, base_sequence)| ProducerBatch {
                id: ProducerId(id),
                epoch,
                base_sequence,
            }),
        };
        let payload = Payload::Batch(text.to_owned());
        move |request| Event::Produce { request, group, in_term: None, batch, payload, durability, deadline }
    }

    /// Sends a batch of as many records as `text` has words to a node; the answer comes later.
    pub fn send(&mut self, node: NodeId, group: GroupId, text: &str) -> RequestId {
        let make = self.produce_event(group, text, None, Durability::Quorum, Duration::from_secs(5));
        self.ask(node, make)
    }

    pub fn send_with(
        &mut self,
        node: NodeId,
        group: GroupId,
        text: &str,
        sequence: (u64, u16, u32),
    ) -> RequestId {
        let make =
            self.produce_event(group, text, Some(sequence), Durability::Quorum, Duration::from_secs(5));
        self.ask(node, make)
    }

    pub fn produced(&mut self, request: RequestId) -> Result<Produced, ProduceError> {
        match self.shard_answer(request) {
            Reply::Produced(outcome) => outcome,
            other => panic!("not a produce's answer: {other:?}"),
        }
    }

    /// Produces to whoever leads.
    pub fn produce(&mut self, group: GroupId, text: &str) -> Result<Produced, ProduceError> {
        let leader = self.leader(group);
        let request = self.send(leader, group, text);
        self.produced(request)
    }

    pub fn produce_with(
        &mut self,
        group: GroupId,
        text: &str,
        sequence: (u64, u16, u32),
    ) -> Result<Produced, ProduceError> {
        let leader = self.leader(group);
        let request = self.send_with(leader, group, text, sequence);
        self.produced(request)
    }

    pub fn fetch_from(
        &mut self,
        node: NodeId,
        group: GroupId,
        from: u64,
        bytes_min: u64,
        wait: Duration,
    ) -> RequestId {
        let deadline = self.deadline(wait);
        self.ask(node, |request| Event::Fetch {
            request,
            group,
            from: Offset(from),
            bytes_min,
            bytes_max: 1 << 20,
            deadline,
        })
    }

    /// What a fetch was given; the executor's or the shard's answer.
    pub fn fetched(&mut self, request: RequestId) -> Result<(Vec<Text>, Offset), FetchError> {
        match self.answer(request) {
            Answer::Records { texts, high_watermark } => {
                Ok((texts.into_iter().map(|(_, text)| text).collect(), high_watermark))
            }
            Answer::Shard(reply) => match *reply {
                Reply::Fetched(Ok(empty)) => Ok((Vec::new(), empty.high_watermark)),
                Reply::Fetched(Err(error)) => Err(error),
                other => panic!("not a fetch's answer: {other:?}"),
            },
            Answer::Offset(offset) => panic!("not a fetch's answer: {offset:?}"),
        }
    }

    /// All that can be read, from whoever leads.
    pub fn read_all(&mut self, group: GroupId) -> Vec<Text> {
        let leader = self.leader(group);
        let request = self.fetch_from(leader, group, 0, 0, Duration::ZERO);
        self.fetched(request).expect("the leader serves").0
    }

    pub fn describe(&mut self, node: NodeId, group: GroupId) -> Option<GroupDescription> {
        let request = self.ask(node, |request| Event::Describe { request, group });
        match self.shard_answer(request) {
            Reply::Described(described) => described,
            other => panic!("not a description: {other:?}"),
        }
    }

    /// Waits until all running replicas hold the same log, and gives it.
    pub fn converged(&mut self, group: GroupId) -> Vec<(Offset, Text)> {
        self.until("equal logs", |world| {
            let logs = world.nodes.values().filter(|node| node.process.is_some());
            let mut logs = logs.map(|node| node.disk.live.get(&group).map(|files| files.log.entries.clone()));
            let first = logs.next()??;
            logs.all(|log| log.as_ref() == Some(&first)).then_some(())
        });
        let node = self.running()[0];
        self.node(node).disk.live[&group].log.texts()
    }

    /// Nothing impossible happened.
    pub fn assert_no_alarms(&self) {
        assert_eq!(self.alarms, []);
    }
}
